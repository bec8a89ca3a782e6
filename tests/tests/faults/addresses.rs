//! Nodes move to other addresses, and the charter still names the old ones.

use std::net::Ipv4Addr;

use lanyard_tests::loopback::PEER_PORT;
use lanyard_tests::{Cluster, Node, Programs};

use super::ledger::Ledger;
use super::log;
use super::{PLANS, clinicians};

#[test]
fn nodes_that_have_moved_find_each_other_by_the_directory() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &PLANS).unwrap();
    cluster.enrol_all().unwrap();
    let mut ledger = Ledger::open(&cluster);
    let people = clinicians(&cluster);
    ledger.send(&people[0], "before the move");
    ledger.send(&people[1], "a mistake before the move");
    ledger.await_read(&people, &["before the move", "a mistake before the move"]);

    // Two move while both are away, so that neither knows where the other is; the third has stayed.
    let addresses = [0, 1].map(|place| cluster.subnet.inside(100 + place));
    for (trust, address) in cluster.trusts.iter_mut().zip(addresses) {
        trust.node.stop().unwrap();
        relocate(&trust.node, address);
    }
    ledger.send(&people[2], "while two are moving");
    for trust in &mut cluster.trusts[..2] {
        let checked = trust.node.json(&["check"]).unwrap();
        assert_eq!(checked["ok"], true, "{checked}");
        trust.node.start().unwrap();
    }
    ledger.delete(&people[1], "a mistake before the move");
    ledger.send(&people[0], "after the move");
    ledger.check(&cluster);

    // The others know the new addresses by themselves now: a node that has not moved dials one that has.
    cluster.trusts[2].node.stop().unwrap();
    cluster.trusts[2].node.start().unwrap();
    ledger.send(&people[2], "after everything");
    ledger.check(&cluster);
    log::assert_refused_only(&cluster, log::RESTARTS);
    let [first, second] = [0, 1].map(|place| &cluster.trusts[place].node);
    assert!(log::count_of_peer(first, "connected", second) > 1);
    for (node, code) in [(first, "first"), (first, "after-stop"), (second, "after-stop")] {
        assert_eq!(log::entries(node, "started", code).len(), 1, "{} {code}", node.name());
    }
}

/// What the operating guide says: the new addresses in `peer.listen`, and a restart. Clients go on by the gateway's name, which
/// stays.
fn relocate(node: &Node, address: Ipv4Addr) {
    let (old, new) = (node.address(), address);
    node.configure(&format!("/ip4/{old}/udp/{PEER_PORT}"), &format!("/ip4/{new}/udp/{PEER_PORT}")).unwrap();
    node.configure(&format!("/ip4/{old}/tcp/{PEER_PORT}"), &format!("/ip4/{new}/tcp/{PEER_PORT}")).unwrap();
}
