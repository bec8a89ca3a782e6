//! Reviews of a conversation's members, with real nodes: overdue and read-only by clocks that are moved; and a trust's own patterns.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lanyard_tests::cluster::REGION;
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Clocks, Cluster, Person, Programs};
use serde_json::Value;

const DAY_SECS: i64 = 24 * 3600;

/// How the conversation's review stands for somebody.
fn review(who: &Person, conversation: &str) -> Value {
    who.json(&["conversation", "show", conversation]).unwrap()["review"].clone()
}

/// Waits until somebody has heard of a review that was made after `before`.
fn await_review_after(who: &Person, conversation: &str, before: &Value) -> Value {
    wait::until(format!("{} hears of the review", who.name()), SOON, || {
        who.json(&["sync"])?;
        let now = review(who, conversation);
        Ok(if now["reviewed"] == before["reviewed"] { Err(now) } else { Ok(now) })
    })
    .unwrap()
}

#[test]
fn a_conversation_that_nobody_reviews_is_overdue_then_read_only_at_every_trust() {
    let mut cluster = Cluster::found(&Programs::find().unwrap(), &REGION[..2]).unwrap();
    let clocks = Clocks::build(cluster.path()).unwrap();
    let clock = clocks.clock("all").unwrap();
    let patterns =
        "[[policy.patterns]]\nname = \"a hospital number\"\nregex = '\\bRZ1-[0-9]{6}\\b'\n\n[gateway]";
    cluster.trusts[0].node.configure("[gateway]", patterns).unwrap();
    let terms = "[policy.review]\ndays = 20\ngrace_days = 5\n\n[gateway]";
    cluster.trusts[0].node.configure("[gateway]", terms).unwrap();
    cluster.surround(&clock.surroundings());
    cluster.start().unwrap();
    cluster.enrol_all().unwrap();
    cluster.surround(&clock.surroundings());
    let mut people: Vec<Person> = cluster.people().cloned().collect();
    for person in &people {
        person.json(&["sync"]).unwrap();
    }
    let (admin, other, nurse) = (&people[0], &people[2], &people[3]);
    let id = admin.converse("Handover", "clinical", [other, nurse]).unwrap();
    for person in [admin, other, nurse] {
        person.await_joined(&id, 3).unwrap();
    }
    let founded = review(admin, &id);
    assert_eq!(founded["state"], "current");
    assert_eq!(review(other, &id), founded, "the same dates at another trust");

    // What the admin's trust takes for what identifies a patient.
    let social = admin.converse("Football", "social", [other]).unwrap();
    let refused = admin.command(&["send", &social, "RZ1-123456 is in bed 4"]).unwrap();
    assert_eq!(refused.code(), Some(2));
    assert!(refused.stderr.contains("the text holds a hospital number"), "{}", refused.stderr);

    clock.set(21 * DAY_SECS).unwrap();
    for person in [admin, other] {
        person.unlock().unwrap();
        assert_eq!(review(person, &id)["state"], "overdue");
        for command in [&["conversation", "list"][..], &["conversation", "show", &id], &["read", &id]] {
            let shown = person.command(command).unwrap().done().unwrap().stdout;
            assert!(shown.contains("! REVIEW OVERDUE since "), "{command:?}: {shown}");
        }
    }
    other.send(&id, "while it is overdue").unwrap();
    admin.await_message(&id, "while it is overdue").unwrap();

    clock.set(26 * DAY_SECS).unwrap();
    for person in [admin, other] {
        person.unlock().unwrap();
        let said = person.command(&["send", &id, "too late"]).unwrap().refused().unwrap();
        assert!(said.contains("an administrator must review: lanyard conversation review"), "{said}");
        assert!(said.contains("they are Dr Amara Holt"), "{said}");
    }
    assert!(other.reads(&id, "while it is overdue").unwrap(), "it can be read");
    let refused = other.command(&["conversation", "review", &id, "--confirm"]).unwrap().refused().unwrap();
    assert!(refused.contains("only its administrators from RZ1"), "{refused}");

    // What was shown is what can be confirmed.
    admin.json(&["conversation", "review", &id]).unwrap();
    // The reviewer's own clock: hours ahead, the owner trust's node refuses it; by minutes, it does not matter.
    let wrong = clocks.clock("wrong").unwrap();
    let mut hasty = people[0].clone();
    hasty.surround(wrong.surroundings());
    wrong.set(26 * DAY_SECS + 2 * 3600).unwrap();
    let review_it = ["conversation", "review", &id, "--remove", "NMC 00A0202Z"];
    let refused = hasty.command(&review_it).unwrap().refused().unwrap();
    assert!(refused.contains("the review was not recorded: "), "{refused}");
    assert_eq!(review(&hasty, &id)["reviewed"], founded["reviewed"]);
    wrong.set(26 * DAY_SECS + 120).unwrap();
    let recorded = hasty.json(&review_it).unwrap();
    assert_eq!((&recorded["recorded"], &recorded["members"][2]), (&true.into(), &Value::Null), "{recorded}");
    assert_eq!(recorded["changes"][0]["kind"], "left");
    assert_eq!(recorded["could_read"][0]["count"], 1);

    let heard = await_review_after(&people[2], &id, &founded);
    assert_eq!((&heard["state"], &heard["by"]["name"]), (&"current".into(), &"Dr Amara Holt".into()));
    assert_eq!(heard, recorded["review"], "the same for every member, whatever the reviewer's clock says");
    people[2].send(&id, "after the review").unwrap();
    people[0].await_message(&id, "after the review").unwrap();
    people.clear();
    cluster.stop().unwrap();
}

#[test]
fn a_revoked_device_leaves_without_anybodys_act() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..2]).unwrap();
    cluster.enrol_all().unwrap();
    let people: Vec<Person> = cluster.people().cloned().collect();
    let (admin, member, leaver) = (&people[0], &people[2], &people[3]);
    let id = admin.converse("Handover", "clinical", [member, leaver]).unwrap();
    for person in [admin, member, leaver] {
        person.await_joined(&id, 3).unwrap();
    }
    cluster.trusts[1].node.json(&["staff", "revoke", "--name", leaver.name()]).unwrap();
    let proposed = cluster.trusts[0]
        .node
        .await_audit("the hub proposes the removal", |entry| entry["event"] == "removal-proposed");
    assert!(proposed.unwrap()["detail"].as_str().unwrap().contains(&id));

    // Who administers nothing is the next one online, and writes: first the device leaves.
    member.json(&["sync"]).unwrap();
    member.send(&id, "after the leaver").unwrap();
    let left = member.await_joined(&id, 2).unwrap();
    let names: Vec<_> = left["members"].as_array().unwrap().iter().map(|m| m["name"].clone()).collect();
    assert!(names.iter().all(|name| *name != leaver.name()), "{names:?}");
    admin.await_message(&id, "after the leaver").unwrap();
    let synced = admin.json(&["sync"]).unwrap();
    assert_eq!(
        synced["notices"].to_string(),
        "[]",
        "nobody has asked for anything, so nobody is told of a refusal"
    );
    admin.await_joined(&id, 2).unwrap();
    let changes = admin.json(&["conversation", "review", &id]).unwrap()["changes"].clone();
    assert_eq!(
        (&changes[0]["kind"], &changes[0]["name"]),
        (&"left".into(), &leaver.name().into()),
        "{changes}"
    );
    cluster.stop().unwrap();
}
