//! A clock that is hours behind opens nothing that has ended, once others have been heard of.

use lanyard_tests::clock::Clock;
use lanyard_tests::cluster::TrustPlan;
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Clocks, Cluster, Node, Programs, Trust};

use super::PLANS;

const HOUR: i64 = 3600;
/// Certificates of nodes and devices live so long, unless a test renews them.
const LIFE: i64 = 90 * 24 * HOUR;
/// So that more than half of the others still sign once the third node's certificate has ended.
const FOURTH: TrustPlan = TrustPlan { ods: "RZ4", name: "Marram Coast Hospital", people: &[] };

fn behind_secs(node: &Node) -> i64 {
    node.status().unwrap()["clock_behind_secs"].as_i64().unwrap()
}

#[test]
fn a_node_whose_clock_is_hours_behind_refuses_a_device_and_a_peer_that_have_expired() {
    let programs = Programs::find().unwrap();
    let plans = [PLANS[0], PLANS[1], PLANS[2], FOURTH];
    let mut cluster = Cluster::found(&programs, &plans).unwrap();
    // The third node's certificate is not renewed.
    [0, 1, 3].into_iter().for_each(|place| renew(&cluster, &cluster.trusts[place]));
    let clocks = Clocks::build(cluster.path()).unwrap();
    let own: Vec<Clock> = plans.iter().map(|plan| clocks.clock(plan.ods).unwrap()).collect();
    for (trust, clock) in cluster.trusts.iter_mut().zip(&own) {
        trust.node.surround(clock.surroundings());
    }
    cluster.start().unwrap();
    cluster.enrol_all().unwrap();
    let device = cluster.trusts[1].people[0].clone();
    let [first, third, fourth] = [0, 2, 3].map(|place| cluster.trusts[place].node.peer_id().to_owned());

    // Five hours before they end, they are admitted.
    let (before, after) = (LIFE - 5 * HOUR, LIFE + HOUR);
    own.iter().for_each(|clock| clock.set(before).unwrap());
    cluster.await_connected().unwrap();
    device.json(&["sync"]).unwrap();
    let node = &mut cluster.trusts[1].node;
    assert_eq!(behind_secs(node), 0);

    // An hour after their end. This node's own clock has never been there.
    [0, 2, 3].into_iter().for_each(|place| own[place].set(after).unwrap());
    let behind = wait::until("the node knows that its clock is behind", SOON * 2, || {
        let status = node.status()?;
        let secs = status["clock_behind_secs"].as_i64().unwrap_or_default();
        Ok(if secs > 5 * HOUR { Ok(status) } else { Err(status) })
    })
    .unwrap();
    let warned = |warning: &serde_json::Value| warning.as_str().unwrap().contains("compare it with another");
    assert!(behind["warnings"].as_array().unwrap().iter().any(warned), "{behind}");
    node.await_audit("its clock is behind", |entry| entry["event"] == "clock-behind").unwrap();
    let metrics = node.command(&["status", "--metrics"]).unwrap().done().unwrap().stdout;
    let metric = metrics.lines().find_map(|line| line.strip_prefix("lanyard_clock_behind_seconds "));
    let secs: i64 = metric.unwrap().parse().unwrap();
    assert!((5 * HOUR..=6 * HOUR).contains(&secs), "{secs}");

    let refused = device.command(&["sync"]).unwrap().refused().unwrap();
    assert!(refused.contains("expired"), "{refused}");
    let invited = node.invite(&PLANS[1].people[0]).unwrap_err().to_string();
    assert!(invited.contains("clock"), "{invited}");

    // Nor is any of it open right after a restart.
    node.stop().unwrap();
    node.start().unwrap();
    assert!(behind_secs(node) >= 5 * HOUR);
    assert!(device.command(&["sync"]).unwrap().refused().unwrap().contains("expired"));
    let refusals = |node: &Node| {
        let log = node.audit().unwrap();
        let started = log.iter().rposition(|entry| entry["event"] == "started").unwrap();
        let of = |e: &&serde_json::Value| e["event"] == "peer-refused" && e["peer_id"] == third.as_str();
        log[started..].iter().filter(of).any(|e| e["detail"].as_str().unwrap().contains("expired"))
    };
    wait::until("the third node is refused, and the others are not", SOON * 2, || {
        let mut connected = node.connected()?;
        connected.sort();
        let mut admitted = [first.as_str(), fourth.as_str()];
        admitted.sort_unstable();
        let right = connected == admitted && refusals(node);
        Ok(if right { Ok(()) } else { Err(connected) })
    })
    .unwrap();

    // Set right, it says so, and nothing is left of it.
    own[1].set(after).unwrap();
    node.await_audit("its clock agrees", |entry| entry["event"] == "clock-agrees").unwrap();
    assert_eq!(behind_secs(node), 0);
    node.invite(&PLANS[1].people[0]).unwrap();
    assert!(device.command(&["sync"]).unwrap().refused().unwrap().contains("expired"));
}

/// Certifies a trust's node for longer, with the same key.
fn renew(cluster: &Cluster, trust: &Trust) {
    let (dir, out) = (trust.dir.display().to_string(), trust.node.config());
    let (out, ip) = (out.parent().unwrap().display().to_string(), trust.node.address().to_string());
    #[rustfmt::skip]
    let renewed = cluster.run(&[
        "trust", "issue-node", "--dir", &dir, "--name", trust.node.name(), "--hosting", "GB", "--address", &ip,
        "--registrar", "--days", "200", "--out", &out, "--json",
    ]);
    assert_eq!(renewed.unwrap()["certificates"][0]["peer_id"], trust.node.peer_id());
}
