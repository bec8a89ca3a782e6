//! Retention, deletions in bulk and holds, with real processes and the commands that people type.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::time::Duration;

use lanyard_tests::cluster::REGION;
use lanyard_tests::process::Outcome;
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Cluster, Node, Programs};

fn started() -> Cluster {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION).unwrap();
    cluster.enrol_all().unwrap();
    cluster
}

/// Everybody, in a conversation that the first clinician of the first trust has opened.
fn conversation(cluster: &Cluster, title: &str) -> String {
    let owner = &cluster.trusts[0].people[0];
    let id = owner.converse(title, "clinical", cluster.others(owner)).unwrap();
    let members = cluster.people().count();
    cluster.people().for_each(|person| drop(person.await_joined(&id, members).unwrap()));
    id
}

/// What a command said that was used wrongly.
fn misused(outcome: Outcome) -> String {
    assert_eq!(outcome.code(), Some(2), "{}", outcome.stderr);
    outcome.stderr
}

/// Waits until a node holds a message no more.
fn await_dropped(node: &Node, message: &str) {
    wait::until(format!("{} has dropped {message}", node.name()), Duration::from_secs(120), || {
        Ok(match node.held(message)? {
            None => Ok(()),
            Some(held) => Err(held["expires"].clone()),
        })
    })
    .unwrap();
}

/// The first of January, two years from now.
fn in_two_years(node: &Node) -> String {
    let status = node.status().unwrap();
    let year: u32 = status["started"].as_str().unwrap()[..4].parse().unwrap();
    format!("{}-01-01", year + 2)
}

#[test]
fn what_a_conversation_says_holds_at_every_replica_and_device() {
    let cluster = started();
    let id = conversation(&cluster, "Handover");
    let (owner, colleague) = (&cluster.trusts[0].people[0], &cluster.trusts[1].people[0]);
    let message = colleague.send(&id, "repeat at noon").unwrap();
    cluster.people().for_each(|person| drop(person.await_message(&id, "repeat at noon").unwrap()));

    let refused = colleague.command(&["conversation", "retention", &id, "7d"]).unwrap().refused().unwrap();
    assert!(refused.contains("RZ1 owns the conversation"), "{refused}");
    let longer = misused(owner.command(&["conversation", "retention", &id, "3000d"]).unwrap());
    assert!(longer.contains("may live for 365 days at most"), "{longer}");
    let view = owner.json(&["conversation", "retention", &id, "15s"]).unwrap();
    assert_eq!(view["retention_secs"], 15, "{view}");
    for person in cluster.people() {
        wait::until(format!("{} sees the setting", person.name()), SOON, || {
            person.json(&["sync"])?;
            let view = person.json(&["conversation", "show", &id])?;
            Ok(if view["retention_secs"] == 15 { Ok(()) } else { Err(view) })
        })
        .unwrap();
        person.await_gone(&id, "repeat at noon").unwrap();
    }
    // The owner's node has ordered it of the others: the message would have lived for 30 days.
    cluster.trusts.iter().for_each(|trust| await_dropped(&trust.node, &message));
    let ordered = |entry: &serde_json::Value| entry["event"] == "retention-ordered";
    cluster.trusts[0].node.await_audit("the standing order", ordered).unwrap();

    let refused = misused(owner.command(&["send", &id, "for long", "--expires", "1d"]).unwrap());
    assert!(refused.contains("15 seconds at most in this conversation"), "{refused}");
    let short = owner.send(&id, "for a moment").unwrap();
    colleague.await_message(&id, "for a moment").unwrap();
    colleague.await_gone(&id, "for a moment").unwrap();
    cluster.trusts.iter().for_each(|trust| await_dropped(&trust.node, &short));
}

#[test]
fn officers_and_administrators_delete_in_bulk() {
    let cluster = started();
    let (first, second) = (conversation(&cluster, "Handover"), conversation(&cluster, "Beds"));
    let [amara, mira, piotr] = [0, 1, 2].map(|trust| &cluster.trusts[trust].people[0]);
    let hers = [(&first, "one"), (&first, "two"), (&second, "three")];
    for (conversation, text) in hers {
        mira.send(conversation, text).unwrap();
        piotr.await_message(conversation, text).unwrap();
    }
    amara.send(&first, "of the owner").unwrap();
    piotr.await_message(&first, "of the owner").unwrap();

    let node = &cluster.trusts[1].node;
    let person = |more: &[&'static str]| {
        let reference = ["--reference", "DSR-41"];
        [&["delete", "person", "--registration", mira.plan().registration], &reference[..], more].concat()
    };
    let refused = misused(node.command(&person(&["--reason", "because"])).unwrap());
    assert!(refused.contains("transcribed, sent-in-error"), "{refused}");
    let own = node.json(&person(&["--reason", "subject-request"])).unwrap();
    assert_eq!(
        (&own["messages"], &own["deletions"]),
        (&0.into(), &serde_json::json!([])),
        "RZ1 owns both: {own}"
    );
    let all = node.json(&person(&["--reason", "subject-request", "--everywhere"])).unwrap();
    assert_eq!((&all["messages"], all["deletions"].as_array().unwrap().len()), (&3.into(), 2), "{all}");
    for (conversation, text) in hers {
        cluster.people().for_each(|person| person.await_gone(conversation, text).unwrap());
    }
    piotr.await_message(&first, "of the owner").unwrap();
    let noted = |entry: &serde_json::Value| {
        let detail = entry["detail"].as_str().unwrap_or_default();
        entry["event"] == "deletion-ordered"
            && entry["code"] == "subject-request"
            && detail.contains("DSR-41")
    };
    node.await_audit("the order, with reason and reference", noted).unwrap();

    // A whole conversation: by the owner's officer, and by who administers it at the owner trust.
    let whole = ["delete", "conversation", &first, "--reason", "incident", "--reference", "INC-7"];
    let refused = node.command(&whole).unwrap().refused().unwrap();
    assert!(refused.contains("RZ1 owns the conversation") && refused.contains("delete person"), "{refused}");
    let deletion = cluster.trusts[0].node.json(&whole).unwrap();
    assert_eq!(deletion["reason"], "incident", "{deletion}");
    piotr.await_gone(&first, "of the owner").unwrap();

    piotr.send(&second, "of another").unwrap();
    amara.await_message(&second, "of another").unwrap();
    let all = ["delete", "--conversation", &second, "--all", "--reason", "transcribed"];
    let refused = piotr.command(&all).unwrap().refused().unwrap();
    assert!(refused.contains("RZ1 owns the conversation"), "{refused}");
    let refused = cluster.trusts[0].people[1].command(&all).unwrap().refused().unwrap();
    assert!(refused.contains("only an administrator of the conversation from RZ1"), "{refused}");
    let deletion = amara.json(&all).unwrap();
    amara.await_confirmed(deletion["id"].as_str().unwrap(), 3).unwrap();
    for person in cluster.people() {
        person.await_gone(&second, "of another").unwrap();
    }
    // What is written after it stays.
    mira.send(&second, "afterwards").unwrap();
    piotr.await_message(&second, "afterwards").unwrap();
}

#[test]
fn what_is_on_hold_is_shown_to_nobody_and_erased_at_its_end() {
    let mut cluster = started();
    let id = conversation(&cluster, "Handover");
    let until = in_two_years(&cluster.trusts[2].node);
    let words = ["--reason", "an inquiry", "--reference", "INQ-7", "--until", &until];
    let hold = cluster.trusts[2].node.json(&[&["hold", "place", &id], &words[..]].concat()).unwrap();
    assert_eq!((&hold["reference"], &hold["envelopes"]), (&"INQ-7".into(), &0.into()), "{hold}");

    let (mira, piotr) = (cluster.trusts[1].people[0].clone(), cluster.trusts[2].people[0].clone());
    let message = mira.send(&id, "potassium 6.8").unwrap();
    piotr.await_message(&id, "potassium 6.8").unwrap();
    let deletion = mira.delete(&message, "sent-in-error").unwrap();
    mira.await_confirmed(&deletion, 2).unwrap();
    piotr.await_gone(&id, "potassium 6.8").unwrap();

    // A restart changes nothing.
    cluster.trusts[2].node.stop().unwrap();
    cluster.trusts[2].node.start().unwrap();
    let node = &cluster.trusts[2].node;
    assert_eq!(node.held(&message).unwrap(), None, "not for the operator either");
    let holds = node.json(&["hold", "list"]).unwrap();
    assert_eq!((&holds[0]["envelopes"], &holds[0]["deletions"]), (&1.into(), &1.into()), "{holds}");
    mira.await_confirmed(&deletion, 2).unwrap();
    assert_eq!(cluster.trusts[0].node.json(&["hold", "list"]).unwrap(), serde_json::json!([]));

    let ended = node.json(&["hold", "end", &id, "--reference", "INQ-7 closed"]).unwrap();
    assert_eq!(ended["ending"], true, "{ended}");
    mira.await_confirmed(&deletion, 3).unwrap();
    assert_eq!(node.json(&["hold", "list"]).unwrap(), serde_json::json!([]));
    for event in ["hold-placed", "hold-ended-early", "hold-ended"] {
        node.await_audit(event, |entry| entry["event"] == event).unwrap();
    }
    let none = node.command(&["hold", "end", &id, "--reference", "x"]).unwrap().refused().unwrap();
    assert!(none.contains("no hold"), "{none}");
}
