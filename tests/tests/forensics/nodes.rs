//! The same with real nodes and clients. What a message says is encrypted by its sender, so that the attacker recovers no text here:
//! it opens sealed values, and says which records they are.

use std::collections::BTreeSet;

use lanyard_tests::cluster::REGION;
use lanyard_tests::traces::copy_dir;
use lanyard_tests::{Cluster, Programs};

use super::Attacker;

/// Beyond what a row holds, so that the record is in parts.
const LONG: usize = 6_000;

#[test]
fn of_killed_and_stopped_nodes_the_held_messages_are_recovered_and_no_deleted_one() {
    let Some(attacker) = Attacker::find() else { return };
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..2]).unwrap();
    cluster.enrol_all().unwrap();
    let sender = cluster.trusts[0].people[0].clone();
    let conversation = sender.converse("Handover", "clinical", cluster.others(&sender)).unwrap();
    let members = cluster.people().count();
    cluster.people().for_each(|person| drop(person.await_joined(&conversation, members).unwrap()));

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
