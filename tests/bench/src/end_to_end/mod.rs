//! From a client at one trust to a client at another, decrypted; and the same with Prosody, ejabberd and Synapse, each with two
//! servers that federate over TLS.
//!
//! The client loop is the same for all ([`crate::load`]). Lanyard's texts are end-to-end encrypted and are on both nodes' and both
//! clients' disks by then; the others' are neither encrypted for their receivers nor synced to a disk on both sides. What is not
//! installed is reported as not measured.

mod ours;

use std::error::Error;
use std::time::Duration;

use clap::ValueEnum;
use lanyard_tests::loopback::Subnet;
use serde_json::{Value, json};

use crate::Size;
use crate::load::{self, Ends, Failure, TEXT_BYTES, percentile_ms};
use crate::peers::{Authority, Peer, Server};
use crate::report::{at_least, at_most};

/// Texts a second whose latency is measured.
const RATE: u64 = 50;
/// Texts of one sender that may be under way when as many as possible are sent.
const WINDOW: u64 = 256;
/// Beyond the last planned moment, for texts to arrive.
const LATE_MAX: Duration = Duration::from_secs(10);

/// A system that is measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum System {
    Lanyard,
    Prosody,
    Ejabberd,
    Synapse,
}

impl System {
    fn name(self) -> &'static str {
        self.peer().map_or("Lanyard", Peer::name)
    }

    fn peer(self) -> Option<Peer> {
        match self {
            Self::Lanyard => None,
            Self::Prosody => Some(Peer::Prosody),
            Self::Ejabberd => Some(Peer::Ejabberd),
            Self::Synapse => Some(Peer::Synapse),
        }
    }
}

/// How much is measured.
#[derive(Clone, Copy)]
struct Plan {
    /// Texts at the fixed rate.
    texts: u64,
    /// For how long as many as possible are sent.
    flood: Duration,
    /// Senders, each with a receiver, when there are several.
    pairs: usize,
}

/// What was measured of one system.
struct Figures {
    p50_ms: f64,
    p99_ms: f64,
    sending_p50_ms: f64,
    arrived: usize,
    /// Texts a second of one sender, and of several.
    one: f64,
    several: f64,
}

pub fn run(size: &Size, only: &[System]) -> Result<(), Box<dyn Error>> {
    let texts = size.records.map_or(if size.quick { 3 * RATE } else { 20 * RATE }, |records| records as u64);
    let small = size.quick || size.records.is_some();
    let flood = Duration::from_millis(if small { 1_500 } else { 6_000 });
    let plan = Plan { texts, flood, pairs: if small { 2 } else { 8 } };
    let mut all = Vec::new();
    for system in System::value_variants().iter().filter(|system| only.is_empty() || only.contains(system)) {
        let measured = match system.peer() {
            None => Some(ours::measure(plan).map_err(|error| -> Box<dyn Error> { error })?),
            Some(peer) => match measure(peer, plan) {
                Ok(figures) => Some(figures),
                Err(error) => {
                    size.show(&json!({ "system": system.name(), "not measured": error.to_string() }));
                    None
                }
            },
        };
        if let Some(figures) = measured {
            size.show(&shown(*system, plan, &figures));
            all.push((*system, figures));
        }
    }
    if let Some(compared) = compared(&all) {
        size.show(&compared);
    }
    Ok(())
}

/// Measures a peer with two servers.
fn measure(peer: Peer, plan: Plan) -> Result<Figures, Failure> {
    let (authority, subnet) = (Authority::new()?, Subnet::free()?);
    let servers = [peer.start(&authority, subnet.inside(1))?, peer.start(&authority, subnet.inside(2))?];
    let logs = |error: Failure| -> Failure {
        let [a, b] = servers.each_ref().map(Server::log_tail);
        format!("{error}; {a}; {b}").into()
    };
    let mut pairs = peer.join(&authority, &servers, plan.pairs).map_err(logs)?;
    figures(&mut pairs, plan).map_err(logs)
}

/// Measures what goes from the first of each pair to its second.
fn figures(pairs: &mut [Ends], plan: Plan) -> Result<Figures, Failure> {
    let one = pairs.first_mut().ok_or("nobody sends")?;
    // The servers find each other, and what is made once is made.
    load::paced(one, 20, RATE, 3 * LATE_MAX)?;
    let paced = load::paced(one, plan.texts, RATE, LATE_MAX)?;
    let (alone, _) = load::sustained(std::slice::from_mut(one), WINDOW, plan.flood)?;
    let (several, _) = load::sustained(pairs, WINDOW, plan.flood)?;
    Ok(Figures {
        p50_ms: percentile_ms(&paced.latencies, 50),
        p99_ms: percentile_ms(&paced.latencies, 99),
        sending_p50_ms: percentile_ms(&paced.sending, 50),
        arrived: paced.arrived,
        one: alone,
        several,
    })
}

fn shown(system: System, plan: Plan, figures: &Figures) -> Value {
    let ours = system == System::Lanyard;
    json!({
        "system": system.name(),
        "end-to-end encrypted": ours,
        "synced to the disk on both sides": ours,
        "bytes of a text": TEXT_BYTES,
        "offered, messages a second": RATE,
        "messages": plan.texts,
        "arrived in time": figures.arrived,
        "p50, ms": figures.p50_ms,
        "p99, ms": figures.p99_ms,
        "p50 of the sender's call, ms": figures.sending_p50_ms,
        "one sender at most, messages a second": figures.one,
        format!("{} senders at most, messages a second", plan.pairs): figures.several,
    })
}

/// Ours against each of the others, if there is any.
fn compared(all: &[(System, Figures)]) -> Option<Value> {
    let ours = all.iter().find(|(system, _)| *system == System::Lanyard).map(|(_, figures)| figures)?;
    let others = || all.iter().filter(|(system, _)| *system != System::Lanyard);
    others().next()?;
    let mut compared = serde_json::Map::new();
    compared.insert("Lanyard".into(), "against the others' figures".into());
    for (system, figures) in others() {
        let name = system.name();
        compared.insert(format!("p50 against {name}'s"), at_most(ours.p50_ms / figures.p50_ms, 1.0));
        compared.insert(format!("p99 against {name}'s"), at_most(ours.p99_ms / figures.p99_ms, 1.0));
    }
    let best = |rate: fn(&Figures) -> f64| others().map(|(_, figures)| rate(figures)).fold(0.0, f64::max);
    let one: fn(&Figures) -> f64 = |f| f.one;
    let several: fn(&Figures) -> f64 = |f| f.several;
    compared.insert("one sender's rate against the best's".into(), at_least(ours.one / best(one), 2.0));
    let rate = at_least(ours.several / best(several), 2.0);
    compared.insert("several senders' rate against the best's".into(), rate);
    Some(Value::Object(compared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_held_against_each_latency_and_the_best_rate() {
        let figures =
            |p50_ms, one| Figures { p50_ms, p99_ms: 9.0, sending_p50_ms: 1.0, arrived: 1, one, several: one };
        let ours = (System::Lanyard, figures(2.0, 100.0));
        assert!(compared(&[ours]).is_none(), "there is nothing to compare with");
        let all = [
            (System::Lanyard, figures(2.0, 100.0)),
            (System::Prosody, figures(1.0, 40.0)),
            (System::Ejabberd, figures(4.0, 60.0)),
        ];
        let compared = compared(&all).unwrap();
        assert_eq!(
            (&compared["p50 against Prosody's"]["met"], &compared["p50 against ejabberd's"]["met"]),
            (&false.into(), &true.into())
        );
        let rate = &compared["one sender's rate against the best's"];
        assert_eq!(
            (rate["figure"].as_f64().map(|f| (f * 10.0).round()), &rate["met"]),
            (Some(17.0), &false.into())
        );
    }
}
