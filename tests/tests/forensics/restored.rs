//! A node that is restored from a backup does not bring back what was deleted since: it is served to nobody, and is gone from its disk.

use std::collections::BTreeSet;
use std::fs;

use lanyard_crypto::ids::from_hex;
use lanyard_tests::cluster::REGION;
use lanyard_tests::traces::Trace;
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Cluster, HarnessError, Node, Programs};
use serde_json::Value;

use super::Attacker;

/// What a node says of a message before it knows what was deleted.
const WAITS: &str = "this node was restored from a backup, or lost its store";

/// What came out, or nothing if the node does not know yet what was deleted.
fn unless_it_waits<T>(outcome: Result<T, HarnessError>) -> Result<Option<T>, HarnessError> {
    match outcome {
        Err(HarnessError::Exit { said, .. }) if said.contains(WAITS) => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Whom a node waits for; none if it serves.
fn waits_for(node: &Node) -> Result<Option<Vec<String>>, HarnessError> {
    let restored = node.status()?["restored"].clone();
    if restored["serves"] == true {
        return Ok(None);
    }
    Ok(serde_json::from_value::<Option<Vec<String>>>(restored["waiting_for"].clone()).unwrap())
}

fn await_waiting_for(node: &Node, expected: Option<&[&str]>) {
    let expected = expected.map(|trusts| trusts.iter().map(ToString::to_string).collect::<Vec<_>>());
    wait::until(format!("{} waits for {expected:?}", node.name()), SOON, || {
        let found = waits_for(node)?;
        Ok(if found == expected { Ok(()) } else { Err(found) })
    })
    .unwrap();
}

fn envelopes(node: &Node) -> u64 {
    node.status().unwrap()["stored"]["envelopes"].as_u64().unwrap()
}

/// The codes of what a node has noted about being restored.
fn noted(node: &Node) -> Vec<Value> {
    let entries = node.audit().unwrap().into_iter().filter(|entry| entry["event"] == "restored");
    entries.map(|entry| entry["code"].clone()).collect()
}

fn destroy(node: &mut Node) {
    node.stop().unwrap();
    fs::remove_dir_all(node.data_dir().join("store")).unwrap();
}

#[test]
fn a_restored_node_does_not_bring_back_what_was_deleted_since_its_backup() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION).unwrap();
    cluster.enrol_all().unwrap();
    let sender = cluster.trusts[0].people[0].clone();
    let reader = cluster.trusts[1].people[0].clone();
    let conversation = sender.converse("Handover", "clinical", cluster.others(&sender)).unwrap();
    let members = cluster.people().count();
    cluster.people().for_each(|person| drop(person.await_joined(&conversation, members).unwrap()));
    let (kept, mistake) = ("the ward is closed", "the wrong patient");
    let [kept_id, mistake_id] = [kept, mistake].map(|text| {
        let id = sender.send(&conversation, text).unwrap();
        cluster.people().for_each(|person| drop(person.await_message(&conversation, text).unwrap()));
        id
    });

    let backup = cluster.path().join("backup");
    let backup_text = backup.display().to_string();
    let node = &cluster.trusts[1].node;
    node.json(&["backup", &backup_text]).unwrap();
    let digits = fs::read_to_string(node.data_dir().join("store.key")).unwrap();
    let key = Trace::of_secret("the store's key", &from_hex(&digits).unwrap());
    assert!(key.in_files(&node.data_dir()).unwrap().is_some());
    assert!(fs::read_dir(backup.join("keys")).unwrap().next().is_some());
    assert_eq!(key.in_files(&backup).unwrap(), None);
    let later = "it is open again";
    sender.send(&conversation, later).unwrap();
    cluster.people().for_each(|person| drop(person.await_message(&conversation, later).unwrap()));
    let deletion = sender.delete(&mistake_id, "wrong-recipient").unwrap();
    sender.await_confirmed(&deletion, 3).unwrap();
    assert!(node.held(&mistake_id).unwrap().is_none());

    // Neither beside a store nor with another node's configuration.
    cluster.trusts[1].node.stop().unwrap();
    let refused = |node: &Node| node.command(&["restore", &backup_text]).unwrap().refused().unwrap();
    assert!(refused(&cluster.trusts[1].node).contains("a backup takes no store's place"));
    for at in [0, 2] {
        cluster.trusts[at].node.stop().unwrap();
    }
    for at in [1, 2] {
        fs::rename(
            cluster.trusts[at].node.data_dir().join("store"),
            cluster.path().join(format!("store{at}")),
        )
        .unwrap();
    }
    let said = refused(&cluster.trusts[2].node);
    assert!(said.contains("belongs to another node or network"), "{said}");
    assert!(!cluster.trusts[2].node.data_dir().join("store.restoring").exists());
    fs::rename(cluster.path().join("store2"), cluster.trusts[2].node.data_dir().join("store")).unwrap();

    // Alone, it serves nobody: not its clients, not its operator.
    let restored = cluster.trusts[1].node.json(&["restore", &backup_text]).unwrap();
    assert!(restored["store"].as_str().unwrap().ends_with("/data/store"), "{restored}");
    cluster.trusts[1].node.start().unwrap();
    let node = &cluster.trusts[1].node;
    await_waiting_for(node, Some(&["RZ1", "RZ3"]));
    let nobody = node.command(&["restore", "--finish-without", "RZ9"]).unwrap().refused().unwrap();
    assert!(nobody.contains("does not wait for RZ9, but for: RZ1 RZ3"), "{nobody}");
    for id in [&kept_id, &mistake_id] {
        let said = node.command(&["held", id]).unwrap().refused().unwrap();
        assert!(said.contains(WAITS), "{said}");
    }
    let waiting = "sent while it waits";
    let outcome = reader.command(&["send", &conversation, waiting]).unwrap();
    assert!(outcome.stdout.contains("waits to be sent"), "{outcome:?}");

    // The third trust's node comes, and tells it of the deletion; then that node loses all that it had, and gets no message from the
    // restored one, which does not know yet what the first trust's node knows.
    cluster.trusts[2].node.start().unwrap();
    await_waiting_for(&cluster.trusts[1].node, Some(&["RZ1"]));
    destroy(&mut cluster.trusts[2].node);
    cluster.trusts[2].node.start().unwrap();
    cluster.trusts[1].node.await_peers([&cluster.trusts[2].node]).unwrap();
    wait::until("the empty node has the tombstone", SOON, || {
        let status = cluster.trusts[2].node.status()?;
        Ok(if status["stored"]["tombstones"] == 1 { Ok(()) } else { Err(status["stored"].clone()) })
    })
    .unwrap();
    assert_eq!(envelopes(&cluster.trusts[2].node), 0);
    assert_eq!(noted(&cluster.trusts[1].node), ["waiting"]);

    // With the first trust's node, all is known: it serves what lives, to everybody.
    cluster.trusts[0].node.start().unwrap();
    await_waiting_for(&cluster.trusts[1].node, None);
    assert_eq!(noted(&cluster.trusts[1].node)[..2], ["waiting", "serving"]);
    cluster.await_connected().unwrap();
    sender.send(&conversation, "after it was restored").unwrap();
    // Their program sends what waits, whatever it is asked for.
    reader.read(&conversation).unwrap();
    // Those whose node began empty get what is new, too, once it knows all if it has found out that its store was lost: it does by a head of
    // its audit log, unless the first of its new log took that head's place. Tombstones that came before their welcome are not in their inbox.
    // It has lost what their PINs are checked with: they are invited again while their devices are unlocked, and keep what they have.
    for person in &cluster.trusts[2].people {
        wait::until(format!("{} is invited again", person.name()), SOON, || {
            Ok(unless_it_waits(person.enrol_at(&cluster.trusts[2].node))?.ok_or("it waits"))
        })
        .unwrap();
        wait::until(format!("{} reads what is new", person.name()), SOON, || {
            let reads = unless_it_waits(person.reads(&conversation, "after it was restored"))?;
            Ok(if reads == Some(true) { Ok(()) } else { Err(reads) })
        })
        .unwrap();
    }
    for person in cluster.trusts[..2].iter().flat_map(|trust| &trust.people) {
        person.await_message(&conversation, "after it was restored").unwrap();
        person.await_message(&conversation, waiting).unwrap();
        let texts = person.read(&conversation).unwrap();
        let times = |text: &str| texts.iter().filter(|message| message["text"] == text).count();
        assert_eq!([kept, later, waiting].map(times), [1, 1, 1], "{}: {texts:?}", person.name());
        assert!(person.reads(&conversation, kept).unwrap() && !person.reads(&conversation, mistake).unwrap());
    }
    for trust in &cluster.trusts {
        wait::until("every node holds what lives", SOON, || {
            Ok(unless_it_waits(trust.node.held(&kept_id))?.flatten().map(drop).ok_or("not yet"))
        })
        .unwrap();
        assert!(trust.node.held(&mistake_id).unwrap().is_none(), "{}", trust.plan.ods);
    }

    let Some(attacker) = Attacker::find() else { return };
    for trust in &mut cluster.trusts {
        trust.node.stop().unwrap();
        let found = attacker.recover(&trust.node.data_dir()).records;
        let [kept, mistake] = [&kept_id, &mistake_id].map(|id| BTreeSet::from([id.clone()]));
        assert!(found.is_superset(&kept) && found.is_disjoint(&mistake), "{}", trust.plan.ods);
    }
    // The backup, with the key that is kept elsewhere, still has it: hence few, and not for long.
    fs::copy(cluster.trusts[1].node.data_dir().join("store.key"), backup.join("store.key")).unwrap();
    assert!(attacker.recover(&backup).records.contains(&mistake_id));
}
