//! A clock that is hours behind opens nothing that has ended, once others have been heard of.

use lanyard_tests::clock::Clock;
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Clocks, Cluster, Programs, Trust};

use super::PLANS;

const HOUR: i64 = 3600;
/// Certificates of nodes and devices live so long, unless a test renews them.
const LIFE: i64 = 90 * 24 * HOUR;

#[test]
fn a_node_whose_clock_is_hours_behind_refuses_a_device_and_a_peer_that_have_expired() {
    let programs = Programs::find().unwrap();
    let mut cluster = Cluster::found(&programs, &PLANS).unwrap();
    // The third node's certificate is not renewed.
    cluster.trusts[..2].iter().for_each(|trust| renew(&cluster, trust));
    let clocks = Clocks::build(cluster.path()).unwrap();
    let own: Vec<Clock> = PLANS.iter().map(|plan| clocks.clock(plan.ods).unwrap()).collect();
    for (trust, clock) in cluster.trusts.iter_mut().zip(&own) {
        trust.node.surround(clock.surroundings());
    }
    cluster.start().unwrap();
    cluster.enrol_all().unwrap();
    let device = cluster.trusts[1].people[0].clone();
    let [first, third] = [0, 2].map(|place| cluster.trusts[place].node.peer_id().to_owned());

    // Five hours before they end, and by a clock that will be six hours behind, they are admitted.
    let (before, after) = (LIFE - 5 * HOUR, LIFE + HOUR);
    own.iter().for_each(|clock| clock.set(before).unwrap());
    device.json(&["sync"]).unwrap();
    cluster.await_connected().unwrap();

    // An hour after their end.
    own.iter().for_each(|clock| clock.set(after).unwrap());
    let node = &mut cluster.trusts[1].node;
    node.await_audit("the peer is not admitted any more", |entry| {
        entry["event"] == "peer-refused" && entry["peer_id"] == third.as_str()
    })
    .unwrap();
    assert!(device.command(&["sync"]).unwrap().refused().unwrap().contains("expired"));
    node.stop().unwrap();
    own[1].set(before).unwrap();
    node.start().unwrap();
    let behind = wait::until("the node knows that its clock is behind", SOON, || {
        let status = node.status()?;
        let secs = status["clock_behind_secs"].as_i64().unwrap_or_default();
        Ok(if secs > 5 * HOUR { Ok(status) } else { Err(status) })
    })
    .unwrap();
    let warned =
        behind["warnings"].as_array().unwrap().iter().any(|w| w.as_str().unwrap().contains("set the clock"));
    assert!(warned, "{behind}");
    node.await_audit("its clock is behind", |entry| entry["event"] == "clock-behind").unwrap();
    let metrics = node.command(&["status", "--metrics"]).unwrap().done().unwrap().stdout;
    assert!(metrics.lines().any(|line| line.starts_with("lanyard_clock_behind_seconds 2")), "{metrics}");

    let refused = device.command(&["sync"]).unwrap().refused().unwrap();
    assert!(refused.contains("expired"), "{refused}");
    let refusals = |node: &lanyard_tests::Node| {
        let log = node.audit().unwrap();
        let started = log.iter().rposition(|entry| entry["event"] == "started").unwrap();
        let of = |e: &&serde_json::Value| e["event"] == "peer-refused" && e["peer_id"] == third.as_str();
        log[started..].iter().filter(of).any(|e| e["detail"].as_str().unwrap().contains("expired"))
    };
    wait::until("the third node is refused, and the first is not", SOON * 2, || {
        let connected = node.connected()?;
        let right = connected == [first.as_str()] && refusals(node);
        Ok(if right { Ok(()) } else { Err(connected) })
    })
    .unwrap();

    // Set right, it says so, and nothing is left of it.
    own[1].set(after).unwrap();
    node.await_audit("its clock agrees", |entry| entry["event"] == "clock-agrees").unwrap();
    assert_eq!(node.status().unwrap()["clock_behind_secs"], 0);
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
