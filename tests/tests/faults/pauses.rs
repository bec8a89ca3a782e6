//! A node is stopped for longer than every time-out, as a suspended machine is, and goes on.

use lanyard_tests::{Cluster, Programs};

use super::ledger::Ledger;
use super::log;
use super::{PLANS, clinicians};

#[test]
fn a_node_that_was_suspended_catches_up() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &PLANS).unwrap();
    cluster.enrol_all().unwrap();
    let mut ledger = Ledger::open(&cluster);
    let people = clinicians(&cluster);
    let [first, second, third] = [0, 1, 2].map(|place| &people[place]);
    ledger.send(first, "before the pause");
    ledger.send(first, "a mistake before the pause");
    ledger.await_read(&people, &["before the pause", "a mistake before the pause"]);

    let suspended = &cluster.trusts[1].node;
    let others = [&cluster.trusts[0].node, &cluster.trusts[2].node];
    suspended.pause().unwrap();
    // Sent into connections that still look alive, and after they have been given up.
    ledger.send(first, "sent at once");
    ledger.delete(first, "a mistake before the pause");
    others.iter().for_each(|node| log::await_more(node, "disconnected", suspended, 0));
    ledger.send(third, "sent after the time-outs");
    ledger.send(third, "a mistake in the pause");
    ledger.delete(third, "a mistake in the pause");
    // The suspended node's own clinician gets no answer: what is typed waits on the device.
    let waiting = second.json(&["send", &ledger.conversation, "typed in the pause"]).unwrap();
    assert_eq!((&waiting["state"], &waiting["id"]), (&"queued".into(), &serde_json::Value::Null));
    ledger.sent.insert("typed in the pause".into(), None);

    suspended.resume().unwrap();
    ledger.check(&cluster);
    log::assert_refused_only(&cluster, log::RESTARTS);
    for node in others {
        assert!(log::count_of_peer(node, "connected", suspended) > 1);
        assert!(log::count_of_peer(suspended, "disconnected", node) > 0, "it has noticed as well");
    }
    assert!(log::entries(suspended, "started", "after-crash").is_empty(), "a pause is no crash");
}
