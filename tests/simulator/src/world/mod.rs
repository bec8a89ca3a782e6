//! The world of one run: virtual time, a queue of events by time, and everybody who takes part.
//!
//! It begins with faults, for as long as the scenario says; then everything heals, and the replicas have a bounded time to become
//! alike.

mod arrivals;
mod curious;
mod driver;
mod faults;
mod liar;
mod net;
mod node;
mod operators;
mod people;

use std::collections::BTreeMap;

use lanyard_crypto::record::Decoded;
use lanyard_crypto::{NodeId, RecordId};

use crate::Options;
use crate::cast::{Cast, LIAR, cast, network_of};
use crate::counters::{Counter, Counters};
use crate::mutations::Bug;
use crate::oracle::{Oracle, Violation};
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::trace::Trace;
use liar::Liar;
use net::{Net, Packet};
use node::{At, Clock, Node};
use operators::Operators;
use people::People;

/// Events of one run, at most: a world that does not come to an end is a fault of its own.
const EVENTS_MAX: u64 = 3_000_000;

/// Something that is due.
#[derive(Debug)]
enum Event {
    Start(At),
    Run(At, u64),
    Synced(At, u64),
    Tick(At, u64),
    Deliver(At, u64, At),
    Dial(At, At),
    Lost {
        at: At,
        peer: At,
        connection: u64,
    },
    Packet(Packet),
    Act,
    Read(usize),
    LiarActs,
    Faults,
    /// A peer that has flooded must have lost this connection by now.
    Punished {
        at: At,
        peer: At,
        connection: u64,
        incarnation: u64,
    },
    Heal,
    Compare(u32),
}

/// What a run leaves.
pub struct Done {
    /// What did not hold.
    pub violation: Option<Violation>,
    /// Steps of engines.
    pub steps: u64,
    /// What occurred.
    pub counters: Counters,
    /// The hash over all that happened.
    pub trace: String,
}

/// See the module.
pub struct World<'a> {
    cast: &'static Cast,
    scenario: &'a Scenario,
    bug: Option<Bug>,
    rng: Rng,
    now_ms: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    nodes: Vec<Node>,
    net: Net,
    oracle: Oracle,
    counters: Counters,
    trace: Trace,
    people: People,
    operators: Operators,
    liar: Option<Liar>,
    healing: bool,
    done: bool,
    steps: u64,
}

impl<'a> World<'a> {
    /// The world of a seed, before anything has happened.
    pub fn new(seed: u64, scenario: &'a Scenario, options: &Options) -> Self {
        let cast = cast();
        let mut rng = Rng::new(seed);
        let [fewest, most] = scenario.trusts;
        let honest = rng.between(fewest, most) as usize;
        let lies = rng.chance(scenario.liar);
        // A trust that is added late may be unknown to the first charter.
        let late = (honest > 3 && rng.chance(scenario.nodes.late)).then_some(honest - 1);
        let joins = late.filter(|_| rng.chance(500));
        let mut members: Vec<usize> = (0..honest).filter(|place| Some(*place) != joins).collect();
        members.extend(lies.then_some(LIAR));
        let charter = cast.charter(&members, None);
        let mut world = Self {
            cast,
            scenario,
            bug: options.bug,
            now_ms: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            nodes: Vec::new(),
            net: Net::default(),
            oracle: Oracle::new(cast),
            counters: Counters::default(),
            trace: Trace::new(options.prints),
            people: People::new(honest),
            operators: Operators::new(charter.clone(), members, joins),
            liar: None,
            healing: false,
            done: false,
            steps: 0,
            rng,
        };
        world.populate(honest, lies, late);
        world
    }

    fn populate(&mut self, honest: usize, lies: bool, late: Option<usize>) {
        let charter = self.operators.charter().clone();
        let last = self.scenario.duration_secs[0] * 1000;
        let second = self.rng.chance(self.scenario.nodes.second).then(|| self.rng.index(honest.min(3)));
        for place in (0..honest).chain(lies.then_some(LIAR)) {
            self.add(place, 0, &charter);
        }
        if let Some(place) = second {
            self.add(place, 1, &charter);
        }
        for at in 0..self.nodes.len() {
            let place = self.nodes[at].place;
            if place == LIAR {
                self.nodes[at].exists = true;
                self.liar = Some(Liar::new(at));
                self.after(5_000, Event::LiarActs);
                continue;
            }
            let is_late = Some(place) == late || (at >= honest + usize::from(lies));
            let when = if is_late { self.rng.between(last / 8, last / 2) } else { self.rng.below(2_000) };
            self.at(when, Event::Start(at));
            for peer in 0..self.nodes.len() {
                if peer > at || self.nodes[peer].place == LIAR {
                    let first = self.rng.between(100, 4_000);
                    self.at(first, Event::Dial(at.min(peer), at.max(peer)));
                }
            }
        }
        let [shortest, longest] = self.scenario.duration_secs;
        let ends = self.rng.between(shortest, longest) * 1000;
        self.at(3_000, Event::Act);
        self.at(1_000, Event::Faults);
        self.at(ends, Event::Heal);
    }

    fn add(&mut self, place: usize, which: usize, charter: &Decoded) {
        let own = self.cast.trusts[place].own(which);
        let skewed = self.rng.chance(self.scenario.nodes.clock_skew);
        let clock = if skewed { Clock::skewed(&mut self.rng) } else { Clock::default() };
        if skewed && clock.drift_ppm != 0 {
            self.counters.add(Counter::ClockDrift);
        }
        let bounded = self.scenario.step_changes > 0 && self.rng.chance(400);
        let step_changes = if bounded { self.scenario.step_changes + self.rng.below(60) } else { 0 };
        let meagre = self.scenario.served_bytes > 0 && self.rng.chance(500);
        let served_bytes = if meagre { self.scenario.served_bytes as usize } else { 0 };
        self.oracle.add_node(&own, charter.bytes(), bounded, served_bytes);
        let node = Node::new(place, own, charter.clone(), clock, step_changes as usize);
        self.nodes.push(Node { served_bytes, ..node });
    }

    /// Runs until everything has healed and been compared, or something did not hold.
    pub fn run(mut self) -> Done {
        let mut events = 0;
        while !self.done && self.oracle.violation.is_none() {
            let Some(((at, _), event)) = self.queue.pop_first() else { break };
            self.now_ms = at;
            events += 1;
            if events > EVENTS_MAX {
                self.fail("P8", "the world does not come to rest".into());
            }
            self.handle(event);
        }
        if let Some(violation) = &self.oracle.violation {
            let text = violation.to_string();
            self.trace.event(self.now_ms, 0, "violation", || text);
        }
        Done {
            violation: self.oracle.violation,
            steps: self.steps,
            counters: self.counters,
            trace: self.trace.finish(),
        }
    }

    fn handle(&mut self, event: Event) {
        let (now, steps) = (self.now_ms, self.steps);
        match &event {
            Event::Packet(p) => {
                self.trace.event(now, p.to, "packet", || {
                    format!(
                        "from {} {} {} bytes",
                        p.from,
                        if p.gossip { "gossip" } else { "frame" },
                        p.bytes.len()
                    )
                });
            }
            Event::Run(at, _) | Event::Synced(at, _) | Event::Start(at) => {
                self.trace.event(now, *at, "node", || format!("{event:?} steps {steps}"));
            }
            other => self.trace.event(now, usize::MAX, "event", || format!("{other:?}")),
        }
        match event {
            Event::Start(at) => {
                if !self.nodes[at].exists {
                    self.appear(at);
                }
                self.start(at);
                self.open_for_business(at);
            }
            Event::Run(at, incarnation) if self.is_same(at, incarnation) => self.run_round(at),
            Event::Synced(at, incarnation) if self.is_same(at, incarnation) => self.synced(at),
            Event::Tick(at, incarnation) if self.is_same(at, incarnation) => self.tick(at),
            Event::Deliver(at, incarnation, peer) if self.is_same(at, incarnation) => self.deliver(at, peer),
            Event::Run(..) | Event::Synced(..) | Event::Tick(..) | Event::Deliver(..) => {}
            Event::Dial(a, b) => self.dial(a, b),
            Event::Lost { at, peer, connection } => self.lost(at, peer, connection),
            Event::Packet(packet) => self.arrive(packet),
            Event::Act => self.act(),
            Event::Read(place) => self.read_now(place),
            Event::LiarActs => self.liar_acts(),
            Event::Faults => self.faults(),
            Event::Punished { at, peer, connection, incarnation } => {
                self.is_punished(at, peer, connection, incarnation);
            }
            Event::Heal => self.heal(),
            Event::Compare(times) => self.compare(times),
        }
    }

    /// A node comes into the world. It trusts the charter that its operator has been given: the newest, or an early one.
    fn appear(&mut self, at: At) {
        self.nodes[at].exists = true;
        let late = self.now_ms > 5_000;
        if late {
            let second = self.nodes[..at].iter().any(|n| n.place == self.nodes[at].place);
            self.counters.add(if second { Counter::SecondNode } else { Counter::AddedLate });
            let charter = self.operators.some_charter(&mut self.rng, self.nodes[at].place);
            self.oracle.replaced(at, &self.nodes[at].own, charter.bytes());
            self.nodes[at].charter = charter;
        }
    }

    fn is_same(&self, at: At, incarnation: u64) -> bool {
        self.nodes[at].incarnation == incarnation && self.nodes[at].is_up()
    }

    /// Queues an event at a time.
    fn at(&mut self, at_ms: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((at_ms.max(self.now_ms), self.sequence), event);
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now_ms + ms, event);
    }

    fn fail(&mut self, promise: &'static str, what: String) {
        self.oracle.fail(promise, what);
    }

    fn has_bug(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn is_liar(&self, at: At) -> bool {
        self.nodes[at].place == LIAR
    }

    fn index(&self, node: &NodeId) -> Option<At> {
        self.nodes.iter().position(|n| n.id() == *node)
    }

    /// The network's id.
    fn network(&self) -> lanyard_crypto::NetworkId {
        network_of(self.operators.charter())
    }

    /// The first node of a trust, if it runs.
    fn home(&self, place: usize) -> Option<At> {
        let at = self.nodes.iter().position(|n| n.place == place)?;
        (self.nodes[at].is_up() && self.nodes[at].paused_until <= self.now_ms).then_some(at)
    }

    /// Counts what arrives by what it is to the node.
    fn note_arrival(&mut self, to: At, bytes: &[u8], gossip: bool) {
        if self.is_liar(to) {
            return;
        }
        let records: Vec<Vec<u8>> = if gossip {
            vec![bytes.to_vec()]
        } else {
            match lanyard_replica::frame::Frame::from_bytes(bytes) {
                Ok(lanyard_replica::frame::Frame::Records(records)) => {
                    records.into_iter().map(serde_bytes::ByteBuf::into_vec).collect()
                }
                _ => return,
            }
        };
        let clock = self.nodes[to].clock.read(self.now_ms);
        for record in records {
            let id = RecordId::of(&record);
            if self.oracle.ledger.condemned(&id).is_some() {
                continue;
            }
            let Some(fact) = self.oracle.ledger.learn(&record) else { continue };
            let older =
                fact.list.as_ref().is_some_and(|(issuer, n, _)| self.oracle.list_number(to, issuer) > *n);
            for (counter, occurs) in [
                (Counter::DuplicateArrived, self.oracle.has_acknowledged(to, &id)),
                (Counter::DeletedCameBack, self.oracle.knows_deleted(to, &id)),
                (Counter::ExpiredArrived, fact.expires <= clock),
                (Counter::RevocationRaced, self.oracle.knows_revoked(to, &fact)),
                (Counter::CrlOutOfOrder, older),
            ] {
                if occurs {
                    self.counters.add(counter);
                }
            }
        }
    }
}
