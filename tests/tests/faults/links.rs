//! The links between nodes are cut, go silent one way, are slow, or carry no UDP.

use std::time::Duration;

use lanyard_tests::links::Condition;
use lanyard_tests::{Cluster, Links, Programs, TrustPlan};

use super::ledger::Ledger;
use super::log;
use super::{PLANS, clinicians};

/// What a fault of a link may have refused: handshakes that did not come to their end, and what was deleted meanwhile.
const EXPLAINED: &[&str] = &["deleted", "lost", "handshake", "timed-out", "by-remote"];
/// A poor line.
const SLOW: Condition =
    Condition { delay: Duration::from_millis(250), bytes_per_sec: Some(24 * 1024), ..Condition::GOOD };
/// A firewall that knows TCP alone.
const TCP_ALONE: Condition = Condition { udp: false, ..Condition::GOOD };

fn started(plans: &[TrustPlan]) -> (Cluster, Links, Ledger) {
    let (mut cluster, links) = Links::found(&Programs::find().unwrap(), plans).unwrap();
    cluster.start().unwrap();
    cluster.enrol_all().unwrap();
    let ledger = Ledger::open(&cluster);
    for from in 0..plans.len() {
        let to = (from + 1) % plans.len();
        assert!(links.passed_bytes(from, to) > 0, "nodes have found another way than by their links");
    }
    (cluster, links, ledger)
}

#[test]
fn messages_go_around_a_cut_and_a_cut_off_node_catches_up() {
    let (cluster, links, mut ledger) = started(&PLANS);
    let people = clinicians(&cluster);
    let nodes = [0, 1, 2].map(|place| &cluster.trusts[place].node);
    ledger.send(&people[2], "a mistake that everybody has read");
    ledger.await_read(&people, &["a mistake that everybody has read"]);

    // Between two nodes: the third relays.
    links.set_both(0, 1, Condition::CUT);
    ledger.send(&people[0], "into the cut");
    log::await_more(nodes[0], "disconnected", nodes[1], 0);
    log::await_more(nodes[1], "disconnected", nodes[0], 0);
    ledger.send(&people[0], "around the cut");
    ledger.await_read(&people, &["around the cut"]);

    // One way only, between another two: both must notice, and neither half counts as a connection.
    links.set(1, 2, Condition::CUT);
    log::await_more(nodes[2], "disconnected", nodes[1], 0);
    log::await_more(nodes[1], "disconnected", nodes[2], 0);
    assert!(links.lost(1, 2) > 0);
    // The second node is alone now. Meanwhile messages are sent on both sides, and one is deleted that it holds.
    ledger.send(&people[1], "from the node that is alone");
    ledger.send(&people[0], "while one node is alone");
    ledger.delete(&people[2], "a mistake that everybody has read");
    ledger.await_read([&people[2]], &["while one node is alone"]);
    assert!(!people[0].reads(&ledger.conversation, "from the node that is alone").unwrap());

    links.set_all(Condition::GOOD);
    ledger.check(&cluster);
    log::assert_refused_only(&cluster, EXPLAINED);
    for (one, other) in [(0, 1), (1, 0), (1, 2), (2, 1)] {
        assert!(log::count_of_peer(nodes[one], "connected", nodes[other]) > 1);
    }
}

#[test]
fn slow_links_carry_everything() {
    let (cluster, links, mut ledger) = started(&PLANS);
    let people = clinicians(&cluster);
    links.set_all(SLOW);
    for number in 0..5 {
        for person in &people {
            let text = format!("{} on a slow line, {number}: {}", person.trust(), "x".repeat(3000));
            ledger.send(person, &text);
        }
    }
    ledger.send(&people[0], "a mistake on a slow line");
    ledger.delete(&people[0], "a mistake on a slow line");
    ledger.check(&cluster);
    log::assert_refused_only(&cluster, EXPLAINED);
}

/// With two nodes alone: a dial by TCP leaves from an address that the system chooses, which on loopback tells nobody apart.
#[test]
fn nodes_meet_by_tcp_where_udp_does_not_pass() {
    let (cluster, links, mut ledger) = started(&PLANS[..2]);
    let people = clinicians(&cluster);
    let nodes = [0, 1].map(|place| &cluster.trusts[place].node);
    links.set_all(TCP_ALONE);
    log::await_more(nodes[0], "disconnected", nodes[1], 0);
    ledger.send(&people[0], "sent without UDP");
    ledger.await_read(&people, &["sent without UDP"]);
    assert!(links.lost(0, 1) > 0);

    // A firewall forgets its connections.
    let before = log::count_of_peer(nodes[0], "disconnected", nodes[1]);
    links.reset(0, 1);
    log::await_more(nodes[0], "disconnected", nodes[1], before);
    ledger.send(&people[1], "sent after a reset");
    ledger.check(&cluster);
    log::assert_refused_only(&cluster, EXPLAINED);
}
