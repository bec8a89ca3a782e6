//! Nodes are killed in the middle of traffic (promises P4, P5 and P6): after they are back, every message that was acknowledged
//! is at every custodian and shown to every member, once, and what was deleted is at none.
//!
//! Each round kills one trust's node, the owner trust's first and last: while clinicians of all trusts send through their nodes, so
//! that it is both sending and receiving, and right after it has acknowledged a deletion.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use lanyard_tests::cluster::REGION;
use lanyard_tests::traces::copy_dir;
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Cluster, HarnessError, Person, Programs};

/// Messages of each sender in each round.
const MESSAGES: usize = 5;
/// Whose node is killed, and after how many acknowledgements: of 15, early, in the middle, and late.
const ROUNDS: [(usize, usize); 6] = [(0, 1), (1, 5), (2, 9), (1, 2), (2, 4), (0, 8)];
/// How long everything may take to arrive everywhere. It takes seconds.
const SETTLED: Duration = Duration::from_secs(60);

/// What was handed in, by text, with the id of what was acknowledged.
type Sent = BTreeMap<String, Option<String>>;

/// What the test knows of the conversation.
struct Ledger {
    conversation: String,
    sent: Sent,
    /// Deleted messages: text and id.
    deleted: Vec<(String, String)>,
    /// The deletions: who ordered it, and its id.
    deletions: Vec<(Person, String)>,
}

#[test]
fn what_was_acknowledged_survives_kills_and_what_was_deleted_does_not() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION).unwrap();
    cluster.enrol_all().unwrap();
    let mut ledger = Ledger {
        conversation: open(&cluster),
        sent: Sent::new(),
        deleted: Vec::new(),
        deletions: Vec::new(),
    };
    let before = envelopes(&cluster);
    for (round, (victim, acknowledged)) in ROUNDS.into_iter().enumerate() {
        play(&mut cluster, &mut ledger, round, victim, acknowledged);
    }
    send_what_waits(&cluster);

    let messages = ROUNDS.len() * MESSAGES * cluster.trusts.len();
    assert_eq!(ledger.sent.len(), messages);
    let known = ledger.sent.values().filter(|id| id.is_some()).count();
    let least = ROUNDS.iter().map(|(_, acknowledged)| acknowledged).max();
    assert!(Some(&known) >= least, "{known} messages were acknowledged");
    for person in cluster.people() {
        await_each_once(person, &ledger);
    }
    for (person, deletion) in &ledger.deletions {
        let confirmed = cluster.trusts.len() as u64;
        person.await_confirmed(deletion, confirmed).unwrap();
    }
    for trust in &cluster.trusts {
        for (text, id) in &ledger.sent {
            let Some(id) = id else { continue };
            assert!(
                trust.node.held(id).unwrap().is_some(),
                "{} has lost {text:?}, which was acknowledged",
                trust.plan.ods
            );
        }
        for (text, id) in &ledger.deleted {
            assert!(
                trust.node.held(id).unwrap().is_none(),
                "{} holds {text:?}, which was deleted",
                trust.plan.ods
            );
        }
    }
    // One envelope for each message: none was stored twice under two ids, and nothing else has come up.
    let each_once: Vec<u64> = before.iter().map(|count| count + messages as u64).collect();
    wait::until("each message is stored once", SETTLED, || {
        let now = envelopes(&cluster);
        Ok(if now == each_once { Ok(()) } else { Err(format!("{now:?} envelopes, not {each_once:?}")) })
    })
    .unwrap();
}

#[test]
fn a_message_whose_acknowledgement_was_lost_is_stored_once() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..2]).unwrap();
    cluster.enrol_all().unwrap();
    let conversation = open(&cluster);
    let (before, sender) = (envelopes(&cluster), cluster.trusts[0].people[0].clone());
    cluster.trusts[0].node.stop().unwrap();
    let queued = sender.json(&["send", &conversation, "acknowledged in vain"]).unwrap();
    assert_eq!(queued["state"], "queued");
    let kept = cluster.path().join("kept");
    copy_dir(sender.profile(), &kept).unwrap();
    cluster.trusts[0].node.start().unwrap();
    send_what_waits(&cluster);
    cluster.await_connected().unwrap();

    // As if it had crashed before the answer came: the device is as it was, and hands the message in again with its next.
    sender.agent().kill().unwrap();
    fs::remove_dir_all(sender.profile()).unwrap();
    fs::rename(&kept, sender.profile()).unwrap();
    sender.unlock().unwrap();
    sender.send(&conversation, "the next message").unwrap();
    for person in cluster.people() {
        person.await_message(&conversation, "the next message").unwrap();
        let shown = person.read(&conversation).unwrap();
        let first = shown.iter().filter(|message| message["text"] == "acknowledged in vain");
        assert_eq!(first.count(), 1, "{}: {shown:?}", person.name());
    }
    let now = envelopes(&cluster);
    assert_eq!(now, before.iter().map(|count| count + 2).collect::<Vec<_>>());

    // There is one to delete, and then none.
    let shown = sender.await_message(&conversation, "acknowledged in vain").unwrap();
    let deletion = sender.delete(shown["id"].as_str().unwrap(), "sent-in-error").unwrap();
    sender.await_confirmed(&deletion, 2).unwrap();
    assert_eq!(envelopes(&cluster), before.iter().map(|count| count + 1).collect::<Vec<_>>());
    for person in cluster.people() {
        person.await_gone(&conversation, "acknowledged in vain").unwrap();
    }
}

/// One clinician of each trust sends; the victim's other clinician deletes a message once so many have been acknowledged, and
/// with that acknowledgement the victim is killed. It is started again while the others go on.
fn play(cluster: &mut Cluster, ledger: &mut Ledger, round: usize, victim: usize, acknowledged: usize) {
    let senders: Vec<Person> = cluster.trusts.iter().map(|t| t.people[0].clone()).collect();
    let deleter = cluster.trusts[victim].people[1].clone();
    let mistake = format!("a mistake in round {round}");
    let id = deleter.send(&ledger.conversation, &mistake).unwrap();
    for person in cluster.people() {
        person.await_message(&ledger.conversation, &mistake).unwrap();
    }
    let (count, conversation) = (AtomicUsize::new(0), ledger.conversation.clone());
    let sent: Sent = thread::scope(|scope| {
        let sending: Vec<_> = senders
            .iter()
            .map(|sender| {
                let (conversation, count) = (&conversation, &count);
                scope.spawn(move || send_all(sender, conversation, round, count))
            })
            .collect();
        wait::until("messages are sent", SOON, || {
            let count = count.load(Ordering::Relaxed);
            Ok(if count >= acknowledged { Ok(()) } else { Err(count) })
        })
        .unwrap();
        let deletion = deleter.delete(&id, "sent-in-error").unwrap();
        let node = &mut cluster.trusts[victim].node;
        node.kill().unwrap();
        node.start().unwrap();
        ledger.deletions.push((deleter.clone(), deletion));
        ledger.deleted.push((mistake, id));
        let sent = sending.into_iter().map(|thread| thread.join().unwrap());
        sent.flatten().collect()
    });
    ledger.sent.extend(sent);
}

/// Sends every message of a round, whatever becomes of it.
fn send_all(sender: &Person, conversation: &str, round: usize, acknowledged: &AtomicUsize) -> Sent {
    let texts = (0..MESSAGES).map(|number| format!("{} message {round}.{number}", sender.trust()));
    let send = |text: String| {
        let sent = sender.json(&["send", conversation, &text]);
        let id = sent.ok().and_then(|sent| sent["id"].as_str().map(str::to_owned));
        acknowledged.fetch_add(usize::from(id.is_some()), Ordering::Relaxed);
        (text, id)
    };
    texts.map(send).collect()
}

/// What a node could not take while it was away waits on the device, and goes with the next sync.
fn send_what_waits(cluster: &Cluster) {
    for person in cluster.people() {
        wait::until(format!("{} has sent what waited", person.name()), SOON, || {
            let synced = person.json(&["sync"])?;
            Ok(if synced["queued"] == 0 { Ok(()) } else { Err(synced) })
        })
        .unwrap();
    }
}

/// Waits until each message is shown, and checks that none is shown twice, and no deleted one at all.
fn await_each_once(reader: &Person, ledger: &Ledger) {
    wait::until(format!("{} reads every message", reader.name()), SETTLED, || {
        let shown = reader.read(&ledger.conversation)?;
        let count = |text: &str| shown.iter().filter(|message| message["text"] == text).count();
        let mut wrong = Vec::new();
        for text in ledger.sent.keys() {
            match count(text) {
                0 => wrong.push(text),
                1 => {}
                more => return Err(HarnessError::Promise(format!("{text:?} is shown {more} times"))),
            }
        }
        let deleted = ledger.deleted.iter().map(|(text, _)| text);
        wrong.extend(deleted.filter(|text| count(text) > 0));
        Ok(if wrong.is_empty() { Ok(()) } else { Err(wrong) })
    })
    .unwrap();
}

/// How many envelopes each node holds.
fn envelopes(cluster: &Cluster) -> Vec<u64> {
    let count = |status: serde_json::Value| status["stored"]["envelopes"].as_u64().unwrap();
    let nodes = cluster.trusts.iter().map(|trust| &trust.node);
    nodes.map(|node| count(node.status().unwrap())).collect()
}

/// Everybody, in a conversation that the first clinician of the first trust has opened.
fn open(cluster: &Cluster) -> String {
    let owner = &cluster.trusts[0].people[0];
    let id = owner.converse("Handover", "clinical", cluster.others(owner)).unwrap();
    let members = cluster.people().count();
    cluster.people().for_each(|person| drop(person.await_joined(&id, members).unwrap()));
    id
}
