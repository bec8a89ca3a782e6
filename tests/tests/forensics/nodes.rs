//! The same with real nodes and clients. What a message says is encrypted by its sender, so that the attacker recovers no text here:
//! it opens sealed values, and says which records they are.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use lanyard_tests::clock::Clock;
use lanyard_tests::cluster::{ONE_EACH, REGION};
use lanyard_tests::traces::copy_dir;
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Clocks, Cluster, Node, Person, Programs, Trust};

use super::Attacker;

/// Beyond what a row holds, so that the record is in parts.
const LONG: usize = 6_000;
/// How long messages live that are to expire, as it is typed and in seconds.
const LIFE: (&str, i64) = ("2h", 7200);
/// How long those of a conversation may that are to end sooner than they say.
const SHORTER: (&str, i64) = ("1h", 3600);
/// Beyond every difference of clocks that a node allows for.
const SKEW_SECS: i64 = 600;
/// How long erasing what has ended may take, of which nobody is told: many times what it does.
const GONE: Duration = Duration::from_secs(120);

/// Two trusts, everybody enrolled; the first clinician of the first one.
fn started() -> (Cluster, Person) {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..2]).unwrap();
    cluster.enrol_all().unwrap();
    let sender = cluster.trusts[0].people[0].clone();
    (cluster, sender)
}

/// Likewise, all of them by one clock; the first trust has two clinicians, and the second one.
fn started_by_a_clock() -> (Cluster, Person, Clock) {
    let mut cluster = Cluster::found(&Programs::find().unwrap(), &[REGION[0], ONE_EACH[1]]).unwrap();
    let clock = Clocks::build(cluster.path()).unwrap().clock("all").unwrap();
    cluster.surround(&clock.surroundings());
    cluster.start().unwrap();
    cluster.enrol_all().unwrap();
    cluster.surround(&clock.surroundings());
    let sender = cluster.trusts[0].people[0].clone();
    (cluster, sender, clock)
}

/// Everybody, in a conversation that this clinician has opened.
fn conversation(cluster: &Cluster, owner: &Person, title: &str) -> String {
    let id = owner.converse(title, "clinical", cluster.others(owner)).unwrap();
    let members = cluster.people().count();
    cluster.people().for_each(|person| drop(person.await_joined(&id, members).unwrap()));
    id
}

/// Texts that fit into a row, and that are in parts.
fn texts(of: &str) -> [String; 3] {
    [format!("first {of}"), format!("second {of}"), of.repeat(LONG / of.len())]
}

#[test]
fn of_killed_and_stopped_nodes_the_held_messages_are_recovered_and_no_deleted_one() {
    let Some(attacker) = Attacker::find() else { return };
    let (mut cluster, sender) = started();
    let conversation = conversation(&cluster, &sender, "Handover");

    let texts = ["first", "second", "third", "fourth"].map(str::to_owned);
    let long = ["fifth", "sixth"].map(|text| text.repeat(LONG / text.len()));
    let mut sent = Vec::new();
    for text in texts.iter().chain(&long) {
        sent.push(sender.send(&conversation, text).unwrap());
        cluster.people().for_each(|person| drop(person.await_message(&conversation, text).unwrap()));
    }
    let (kept, mistakes): (Vec<_>, Vec<_>) = sent.iter().cloned().enumerate().partition(|(n, _)| n % 2 == 0);
    let [kept, mistakes]: [BTreeSet<String>; 2] =
        [kept, mistakes].map(|ids| ids.into_iter().map(|(_, id)| id).collect());
    for trust in &cluster.trusts {
        let before = attacker.recover(&trust.node.data_dir()).records;
        assert!(before.is_superset(&kept) && before.is_superset(&mistakes), "{}", trust.plan.ods);
        copy_dir(
            &trust.node.data_dir().join("store/rows"),
            &cluster.path().join("before").join(trust.plan.ods),
        )
        .unwrap();
    }

    for id in &mistakes {
        let deletion = sender.delete(id, "sent-in-error").unwrap();
        sender.await_confirmed(&deletion, 2).unwrap();
    }
    cluster.trusts[0].node.kill().unwrap();
    cluster.trusts[1].node.stop().unwrap();
    for trust in &cluster.trusts {
        let data = trust.node.data_dir();
        let after = attacker.recover(&data).records;
        assert!(after.is_superset(&kept), "{}: {after:?} are less than {kept:?}", trust.plan.ods);
        assert!(after.is_disjoint(&mistakes), "{}: of {mistakes:?}, {after:?}", trust.plan.ods);

        copy_dir(&cluster.path().join("before").join(trust.plan.ods), &data.join("rows-before")).unwrap();
        let beside = attacker.recover(&data).records;
        assert!(beside.is_superset(&kept) && beside.is_disjoint(&mistakes), "{}", trust.plan.ods);
    }
}

#[test]
fn of_a_deleted_conversation_and_of_what_has_expired_nothing_is_recovered() {
    let Some(attacker) = Attacker::find() else { return };
    let (mut cluster, sender, clock) = started_by_a_clock();
    let [lasting, doomed, strict] =
        ["Handover", "Beds", "Rounds"].map(|title| conversation(&cluster, &sender, title));
    let send = |conversation: &str, of: &str, options: &[&str]| {
        let sent =
            texts(of).map(|text| sender.json(&[&["send", conversation, &text], options].concat()).unwrap());
        for reader in cluster.others(&sender) {
            texts(of).iter().for_each(|text| drop(reader.await_message(conversation, text).unwrap()));
        }
        BTreeSet::from(sent.map(|sent| sent["id"].as_str().unwrap().to_owned()))
    };
    let kept = send(&lasting, "stays", &[]);
    let deleted = send(&doomed, "goes", &[]);
    let expiring = send(&lasting, "passes", &["--expires", LIFE.0]);
    let shortened = send(&strict, "ends sooner", &[]);
    assert_recovered(&attacker, &cluster, &[&kept, &deleted, &expiring, &shortened], &[]);
    for trust in &cluster.trusts {
        let rows = cluster.path().join("before").join(trust.plan.ods);
        copy_dir(&trust.node.data_dir().join("store/rows"), &rows).unwrap();
    }

    let node = &cluster.trusts[0].node;
    let order = ["--reason", "transcribed", "--reference", "EPR-7"];
    let ordered = node.json(&[&["delete", "conversation", &doomed], &order[..]].concat()).unwrap();
    await_confirmed(node, ordered["tombstone"].as_str().unwrap());
    assert_recovered(&attacker, &cluster, &[&kept, &expiring, &shortened], &[&deleted]);

    // By a standing order, which replicas confirm when all that it names is gone from their disks, and not before.
    sender.json(&["conversation", "retention", &strict, SHORTER.0]).unwrap();
    let ordered =
        node.await_audit("the standing order", |entry| entry["event"] == "retention-ordered").unwrap();
    let order = ordered["record"].as_str().unwrap();
    assert_eq!(node.json(&["deletions", order]).unwrap()["confirmed"], 0);
    clock.set(SHORTER.1 + SKEW_SECS).unwrap();
    await_confirmed(node, order);
    assert_recovered(&attacker, &cluster, &[&kept, &expiring], &[&deleted, &shortened]);

    clock.set(LIFE.1 + SKEW_SECS).unwrap();
    wait::until("nothing that expired is left", GONE, || {
        let found = recovered(&attacker, &cluster);
        let left: Vec<_> = found.iter().flat_map(|(_, ids)| ids.intersection(&expiring).cloned()).collect();
        Ok(if left.is_empty() { Ok(()) } else { Err(left) })
    })
    .unwrap();
    cluster.trusts[0].node.kill().unwrap();
    cluster.trusts[1].node.stop().unwrap();
    let erased = [&deleted, &shortened, &expiring];
    assert_recovered(&attacker, &cluster, &[&kept], &erased);
    for trust in &cluster.trusts {
        let rows = cluster.path().join("before").join(trust.plan.ods);
        copy_dir(&rows, &trust.node.data_dir().join("rows-before")).unwrap();
    }
    assert_recovered(&attacker, &cluster, &[&kept], &erased);
}

/// At each trust the attacker recovers all of these, and none of those.
fn assert_recovered(
    attacker: &Attacker,
    cluster: &Cluster,
    live: &[&BTreeSet<String>],
    erased: &[&BTreeSet<String>],
) {
    for (trust, found) in recovered(attacker, cluster) {
        for ids in live {
            assert!(found.is_superset(ids), "{trust}: {found:?} are less than {ids:?}");
        }
        for ids in erased {
            assert!(found.is_disjoint(ids), "{trust}: of {ids:?}, {found:?}");
        }
    }
}

/// The records that the attacker recovers at each trust, at all of them at the same time.
fn recovered(attacker: &Attacker, cluster: &Cluster) -> Vec<(&'static str, BTreeSet<String>)> {
    let attack = |trust: &Trust| (trust.plan.ods, attacker.recover(&trust.node.data_dir()).records);
    thread::scope(|scope| {
        let attacks: Vec<_> = cluster.trusts.iter().map(|trust| scope.spawn(|| attack(trust))).collect();
        attacks.into_iter().map(|attack| attack.join().unwrap()).collect()
    })
}

/// Waits until both replicas have confirmed a deletion.
fn await_confirmed(node: &Node, deletion: &str) {
    wait::until("both replicas have confirmed the deletion", SOON, || {
        let shown = node.json(&["deletions", deletion])?;
        Ok(if shown["confirmed"] == 2 { Ok(()) } else { Err(shown) })
    })
    .unwrap();
}
