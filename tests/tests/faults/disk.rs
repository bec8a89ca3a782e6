//! A node's disk is full: it says so, stops, and goes on once there is space.

use lanyard_tests::{Cluster, Node, Programs, Space};

use super::ledger::Ledger;
use super::log;
use super::{PLANS, clinicians};

/// The disk. A store takes a few hundred KiB in these tests.
const DISK_BYTES: u64 = 24 * 1024 * 1024;
/// What is left when it fills up: nothing, or room for some messages more.
const LEFT_BYTES: [u64; 3] = [0, 96 * 1024, 400 * 1024];
/// Messages after which the disk must have filled up.
const MESSAGES_MAX: usize = 400;

#[test]
fn a_full_disk_stops_the_node_and_loses_nothing() {
    let mut cluster = Cluster::found(&Programs::find().unwrap(), &PLANS).unwrap();
    let node = &mut cluster.trusts[1].node;
    let Some(disk) = Space::mount(&node.data_dir(), DISK_BYTES).unwrap() else { return };
    node.surround(disk.surroundings());
    // Outside, where the operator's commands find it.
    let socket = cluster.path().join("second.sock").display().to_string();
    let node = &mut cluster.trusts[1].node;
    node.configure("[residency]", &format!("[admin]\nsocket = \"{socket}\"\n\n[residency]")).unwrap();
    cluster.start().unwrap();
    cluster.enrol_all().unwrap();
    let said = cluster.trusts[1].node.command(&["compact"]).unwrap().refused().unwrap();
    assert!(said.contains("a copy of the store needs") && said.contains("of free space here"), "{said}");
    let mut ledger = Ledger::open(&cluster);
    let people = clinicians(&cluster);

    for (turn, left) in LEFT_BYTES.into_iter().enumerate() {
        let mistake = format!("a mistake {turn}");
        ledger.send(&people[1], &mistake);
        ledger.await_read(&people, &[&mistake]);
        disk.fill_but(left).unwrap();
        fill(&mut ledger, &cluster, turn);
        let (code, said) = cluster.trusts[1].node.await_end().unwrap();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("the disk is full: free some space, then restart"), "{said}");
        assert!(!said.contains("panicked"), "{said}");

        // What is not possible is said, and no harm is done by trying.
        refuses_to_start(&mut cluster.trusts[1].node, left);
        ledger.send(&people[0], &format!("while the disk is full {turn}"));
        disk.free().unwrap();
        cluster.trusts[1].node.start().unwrap();
        ledger.delete(&people[1], &mistake);
        ledger.check(&cluster);
    }
    let node = &cluster.trusts[1].node;
    assert!(log::entries(node, "started", "after-crash").len() >= LEFT_BYTES.len());
    assert!(log::count_of_peer(&cluster.trusts[0].node, "disconnected", node) >= LEFT_BYTES.len());
    log::assert_refused_only(&cluster, log::RESTARTS);
}

/// Sends by the node with the full disk, until it does not take a message any more.
fn fill(ledger: &mut Ledger, cluster: &Cluster, turn: usize) {
    let sender = cluster.trusts[1].people[0].clone();
    for number in 0..MESSAGES_MAX {
        let text = format!("into a full disk {turn}.{number} {}", "x".repeat(2000));
        let outcome = sender.command(&["--json", "send", &ledger.conversation, &text]).unwrap();
        let sent = outcome.clone().json().ok();
        let id = sent.and_then(|sent| sent["id"].as_str().map(str::to_owned));
        let taken = id.is_some();
        ledger.sent.insert(text, id);
        if !taken {
            // The device keeps it. Its person is told the reason, if it was this message that did not fit and not another record.
            let told = outcome.stderr.contains("cannot write to its disk");
            assert!(told || outcome.stdout.contains("queued"), "{outcome:?}");
            return;
        }
    }
    panic!("{MESSAGES_MAX} messages did not fill the disk");
}

/// A start on a disk without any space ends with the reason, or comes about where little is needed.
fn refuses_to_start(node: &mut Node, left: u64) {
    node.launch().unwrap();
    if left > 0 {
        // There may be just enough to open the store: then it stops with the next write, or is stopped here.
        node.kill().unwrap();
        return;
    }
    let (code, said) = node.await_end().unwrap();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.trim_end().ends_with("the disk is full: free some space, then restart"), "{said}");
}
