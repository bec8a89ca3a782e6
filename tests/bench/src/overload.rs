//! Overload: what a node does with more messages than it can take.
//!
//! A real node on one core, and on the other one devices that hand in messages over its gateway, at a rate that does not wait for its
//! answers: a message's latency counts from the moment for which it was planned. How much the node takes at most is found first, with
//! fewer messages under way than it ever refuses; then from a tenth to three times of that is offered. If no connection is free at that
//! moment, the message waits for one, and that counts too; how long it took since it was sent is shown besides. At the end the node is killed as by
//! a power cut, and what it has acknowledged is read back. Each message is also for a second trust, whose node comes up only then:
//! the first one sends as fast as it reads, and the second has to hold it up.

mod devices;
mod offer;

use std::collections::BTreeSet;
use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use lanyard_crypto::{RecordId, TrustId};
use lanyard_tests::process::Surroundings;
use lanyard_tests::{Cluster, Node, Programs, TrustPlan};
use serde_json::{Value, json};

use crate::Size;
use crate::ingest::allowed;
use crate::report::at_most;
use devices::Device;
use offer::{Crowd, Offered, Outcome};

/// Of what the node takes at most, offered one after the other.
const OFFERS: [f64; 10] = [0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0];
const OFFERS_QUICK: [f64; 4] = [0.1, 0.5, 1.0, 3.0];
/// Messages under way while it is found: fewer than a node ever refuses.
const SATURATING: usize = 96;
/// Refused messages that are handed in again afterwards.
const AGAIN: usize = 200;
/// How long the second node may take to get everything.
const CAUGHT_UP_MAX: Duration = Duration::from_secs(120);
const TRUSTS: [TrustPlan; 2] = [
    TrustPlan { ods: "RZ1", name: "Fellbridge Royal Infirmary", people: &[] },
    TrustPlan { ods: "RZ2", name: "St Oda's University Hospital", people: &[] },
];

/// Runs this program again with the devices on one core; the node gets the other.
pub fn run(size: &Size) -> Result<(), Box<dyn Error>> {
    let cores = allowed()?;
    let [node, devices, ..] = &cores[..] else { return Err("two cores are needed".into()) };
    let mut command = Command::new("taskset");
    command.args(["-c", &devices.to_string()]).arg(std::env::current_exe()?);
    command.args(["overload", "--node-core", &node.to_string()]);
    command.args(size.quick.then_some("--quick")).args(size.json.then_some("--json"));
    let status = command.status().map_err(|error| format!("taskset (util-linux): {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the devices' process ended: {status}").into()) }
}

/// The benchmark, with the node on this core.
pub fn with_node_on(core: usize, size: &Size) -> Result<(), Box<dyn Error>> {
    let programs = Programs::find()?;
    let mut cluster = Cluster::found(&programs, &TRUSTS)?;
    cluster.surround(&Surroundings::new(["taskset".to_owned(), "-c".to_owned(), core.to_string()]));
    cluster.trusts[0].node.start()?;
    let devices = Device::enrol(&cluster, if size.quick { 40 } else { 56 })?;
    let other: TrustId = TRUSTS[1].ods.parse()?;
    let mut crowd = Crowd::connect(&devices, vec![other])?;
    let acknowledged = curve(size, &mut crowd, &mut cluster.trusts[0].node)?;
    drop(crowd);
    kept(size, &devices, &mut cluster.trusts[0].node, &acknowledged)?;
    peers(size, &mut cluster, acknowledged.len())
}

/// Offers one rate after the other; returns the ids of all that was acknowledged.
fn curve(size: &Size, crowd: &mut Crowd<'_>, node: &mut Node) -> Result<BTreeSet<RecordId>, Box<dyn Error>> {
    let (time, offers) = if size.quick { (1, &OFFERS_QUICK[..]) } else { (4, &OFFERS[..]) };
    let time = Duration::from_secs(time);
    let mut acknowledged = BTreeSet::new();
    // The first time is to warm up.
    crowd.saturate(SATURATING, time / 2)?.note(&mut acknowledged);
    let full = crowd.saturate(SATURATING, time)?;
    let saturation = full.accepted().count() as f64 / full.took.as_secs_f64();
    full.note(&mut acknowledged);
    let (mut points, mut refused) = (Vec::new(), Vec::new());
    for share in offers {
        let offered = crowd.offer(share * saturation, time)?;
        node.check()?;
        let point = Point::of(&offered, share * saturation, resident(node));
        size.show(&point.shown(*share));
        points.push(point);
        refused.extend(offered.refused().map(|(number, device, ..)| (number, device)));
        offered.note(&mut acknowledged);
    }
    let again: Vec<_> = refused.iter().copied().take(AGAIN).collect();
    let taken = crowd.again(&again)?;
    acknowledged.extend(&taken);
    size.show(&json!({
        "scenario": "all rates",
        "connections": crowd.len(),
        "taken at most, messages a second": saturation.round(),
        "refused": refused.len(),
        "of these handed in again": again.len(),
        "of these taken then": taken.len(),
    }));
    let series = |name: &str, value: fn(&Point) -> Option<f64>| {
        let points: Vec<_> = points.iter().map(|point| json!([point.offered, value(point)])).collect();
        json!({ "name": name, "points": points })
    };
    let marks = json!([{ "x": saturation.round(), "name": "as much as it takes" }]);
    size.show(&json!({ "plot": [
        {
            "title": "How long what is accepted takes", "x": "offered, messages a second", "y": "milliseconds", "log_y": true,
            "series": [
                series("p50", |p| p.latency(50)), series("p99", |p| p.latency(99)), series("longest", |p| p.latency(100)),
                series("p99 since it was sent", |p| at(&p.since_sent, 99)),
                series("p99 of refusals", |p| at(&p.refusals, 99)),
            ],
            "marks": marks,
        },
        {
            "title": "What is accepted and what is refused", "x": "offered, messages a second", "y": "messages a second",
            "series": [series("accepted", |p| Some(p.accepted)), series("refused", |p| Some(p.refused))], "marks": marks,
        },
    ] }));
    Ok(acknowledged)
}

/// What one rate has shown; times in milliseconds, sorted.
struct Point {
    offered: f64,
    accepted: f64,
    refused: f64,
    statuses: BTreeSet<u16>,
    latencies: Vec<f64>,
    since_sent: Vec<f64>,
    refusals: Vec<f64>,
    resident_mib: Option<u64>,
}

impl Point {
    fn of(offered: &Offered, rate: f64, resident_mib: Option<u64>) -> Self {
        let secs = offered.took.as_secs_f64();
        let sorted = |mut times: Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times
        };
        Self {
            offered: rate.round(),
            accepted: (offered.accepted().count() as f64 / secs).round(),
            refused: (offered.refused().count() as f64 / secs).round(),
            statuses: offered.refused().map(|(_, _, status, _)| status).collect(),
            latencies: sorted(offered.accepted().map(|(_, latency, _)| ms(latency)).collect()),
            since_sent: sorted(offered.accepted().map(|(.., since)| ms(since)).collect()),
            refusals: sorted(offered.refused().map(|(.., after)| ms(after)).collect()),
            resident_mib,
        }
    }

    fn latency(&self, percent: usize) -> Option<f64> {
        at(&self.latencies, percent)
    }

    fn shown(&self, share: f64) -> Value {
        json!({
            "scenario": format!("{share} of what it takes at most"),
            "offered, a second": self.offered,
            "accepted, a second": self.accepted,
            "refused, a second": self.refused,
            "refused with status": self.statuses,
            "p50, p99 and longest of what is accepted, ms": [self.latency(50), self.latency(99), self.latency(100)],
            "p50 and p99 of it since it was sent, ms": [at(&self.since_sent, 50), at(&self.since_sent, 99)],
            "p50 and p99 of refusals, ms": [at(&self.refusals, 50), at(&self.refusals, 99)],
            "the node's memory, MiB": self.resident_mib,
        })
    }
}

impl Offered {
    /// The id, how long it took since it was planned, and since it was sent.
    fn accepted(&self) -> impl Iterator<Item = (RecordId, Duration, Duration)> {
        self.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Accepted { id, latency, since_sent } => Some((*id, *latency, *since_sent)),
            Outcome::Refused { .. } => None,
        })
    }

    /// The number, the device, the status, and how long the refusal took.
    fn refused(&self) -> impl Iterator<Item = (u64, usize, u16, Duration)> {
        self.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Refused { number, device, status, after } => Some((*number, *device, *status, *after)),
            Outcome::Accepted { .. } => None,
        })
    }

    fn note(&self, acknowledged: &mut BTreeSet<RecordId>) {
        acknowledged.extend(self.accepted().map(|(id, ..)| id));
    }
}

/// Kills the node, starts it again, and looks for everything that it has acknowledged.
fn kept(
    size: &Size,
    devices: &[Device],
    node: &mut Node,
    acknowledged: &BTreeSet<RecordId>,
) -> Result<(), Box<dyn Error>> {
    node.kill()?;
    let begun = Instant::now();
    node.start()?;
    let ready = begun.elapsed();
    let mut found = BTreeSet::new();
    for device in devices {
        found.extend(device.received()?);
    }
    size.show(&json!({
        "scenario": "killed, and started again",
        "acknowledged": acknowledged.len(),
        "of these lost": at_most(acknowledged.difference(&found).count() as f64, 0.0),
        "until it was ready, seconds": (ready.as_secs_f64() * 100.0).round() / 100.0,
    }));
    Ok(())
}

/// Starts the second trust's node, which gets all that waits for it as fast as the first one reads it.
fn peers(size: &Size, cluster: &mut Cluster, count: usize) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let [first, second] = &mut cluster.trusts[..] else { return Err("two trusts".into()) };
    second.node.start()?;
    let mut most = 0;
    while held(&second.node)? < count as u64 {
        if begun.elapsed() > CAUGHT_UP_MAX {
            return Err("the second node does not get everything".into());
        }
        most = most.max(resident(&second.node).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(200));
    }
    let took = begun.elapsed().as_secs_f64();
    let cut = |node: &Node| -> Result<usize, Box<dyn Error>> {
        let log = node.audit()?;
        Ok(log
            .iter()
            .filter(|line| line["event"] == "disconnected" || line["event"] == "peer-dropped")
            .count())
    };
    size.show(&json!({
        "scenario": "a peer that sends as fast as it reads",
        "records": count,
        "taken, records a second": (count as f64 / took).round(),
        "connections cut off": at_most((cut(&first.node)? + cut(&second.node)?) as f64, 0.0),
        "the receiver's memory at most, MiB": most,
        "the sender's memory, MiB": resident(&first.node),
    }));
    Ok(())
}

fn held(node: &Node) -> Result<u64, Box<dyn Error>> {
    let status = node.status()?;
    Ok(status["stored"]["envelopes"].as_u64().unwrap_or_default())
}

/// What the node's process holds in memory, in MiB.
fn resident(node: &Node) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.process_id()?)).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().split(' ').next()?.parse::<u64>().ok()? / 1024)
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

/// What so many percent of the sorted times do not exceed.
fn at(times: &[f64], percent: usize) -> Option<f64> {
    times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied()
}
