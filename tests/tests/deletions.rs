//! The evidence of a deletion with real processes: nodes and devices answer, the operator sees who has not, and shows it to somebody who
//! has no node.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use lanyard_tests::cluster::{ONE_EACH, REGION};
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Clocks, Cluster, Node, Programs, process, python};
use serde_json::{Value, json};

/// Devices are told of every 10 seconds, and those that are waited for are named after 15.
const ANSWERS: Duration = Duration::from_secs(90);

/// Within what time replicas are to confirm by a charter that says nothing of it, in seconds.
const CONFIRM_SECS: i64 = 24 * HOUR_SECS;
const HOUR_SECS: i64 = 3600;

fn await_deletion(node: &Node, id: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    wait::until(format!("{} shows {what}", node.name()), ANSWERS, || {
        let deletion = node.json(&["deletions", id])?;
        Ok(if fits(&deletion) { Ok(deletion) } else { Err(deletion) })
    })
    .unwrap()
}

/// `deletions verify` without any node.
fn verify(cluster: &Cluster, file: &str) -> Result<Value, String> {
    let charter = cluster.charter().display().to_string();
    let all = ["deletions", "verify", file, "--charter", &charter, "--json"];
    let outcome = process::run(&cluster.programs.node(), all, None).unwrap();
    outcome.json().map_err(|e| e.to_string())
}

/// What a program in another language, made from the documents alone, finds proven.
fn verify_elsewhere(report: &str) -> Option<Value> {
    python::find("cryptography").map(|python| python::answer(&python, "deletions.py", report))
}

#[test]
fn a_deletion_is_answered_by_nodes_and_devices_and_shown_without_a_node() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION).unwrap();
    cluster.enrol_all().unwrap();
    let people: Vec<_> = cluster.people().collect();
    let (sender, last) = (people[0], people[people.len() - 1]);
    let conversation = sender.converse("Handover", "clinical", cluster.others(sender)).unwrap();
    people.iter().for_each(|person| drop(person.await_joined(&conversation, people.len()).unwrap()));
    let message = sender.send(&conversation, "potassium 6.8").unwrap();
    people.iter().for_each(|person| drop(person.await_message(&conversation, "potassium 6.8").unwrap()));

    let deletion = sender.delete(&message, "transcribed").unwrap();
    for person in people.iter().filter(|person| person.name() != last.name()) {
        person.await_gone(&conversation, "potassium 6.8").unwrap();
    }
    let node = &cluster.trusts[0].node;
    let (all, but_one) = (people.len() as u64, people.len() as u64 - 1);
    // The last device is not there yet, and its node says so.
    let waited = format!("waiting for: {} {}, last seen", last.trust(), last.name());
    let shown = await_deletion(node, &deletion, "all devices but one", |d| {
        d["devices_erased"] == but_one && d["summary"].as_str().is_some_and(|s| s.contains(&waited))
    });
    let summary = format!("replicas 3 of 3, devices {but_one} of {all}, {waited}");
    assert!(shown["summary"].as_str().unwrap().starts_with(&summary), "{shown}");
    assert_eq!(shown["problems"], json!([]), "{shown}");
    let seen_by_sender = sender.json(&["deletion", &deletion]).unwrap();
    assert_eq!(seen_by_sender["devices_erased"], but_one, "{seen_by_sender}");

    last.await_gone(&conversation, "potassium 6.8").unwrap();
    let shown = await_deletion(node, &deletion, "every device", |d| d["devices_erased"] == all);
    assert_eq!(shown["summary"], format!("replicas 3 of 3, devices {all} of {all}"), "{shown}");
    assert_eq!((&shown["reason"], &shown["what"]), (&"transcribed".into(), &"1 message".into()));

    let csv = node.command(&["deletions", "--csv"]).unwrap().done().unwrap().stdout;
    let rows = |kind: &str| csv.lines().filter(|line| line.contains(&format!(",{kind},"))).count();
    assert!(csv.starts_with("deletion,ordered,by,"), "{csv}");
    assert_eq!((rows("replica"), rows("device")), (3, people.len()), "{csv}");
    let figures = node.command(&["status", "--metrics"]).unwrap().done().unwrap().stdout;
    assert!(figures.contains("lanyard_deletions_overdue{trust=") && figures.contains("# EOF"), "{figures}");
    assert_eq!(node.status().unwrap()["overdue"], json!([]));

    let file = cluster.path().join("deletions.jsonl").display().to_string();
    node.json(&["deletions", "export", &file]).unwrap();
    let report = verify(&cluster, &file).unwrap();
    assert_eq!((&report["complete"], &report["missing"]), (&1.into(), &0.into()), "{report}");
    assert_eq!((&report["devices_erased"], &report["list"][0]["tombstone"]), (&all.into(), &deletion.into()));

    let text = fs::read_to_string(&file).unwrap();
    if let Some(proven) = verify_elsewhere(&text) {
        assert_eq!(proven, json!({ "confirmed": [3], "devices": [all] }));
        assert!(verify_elsewhere(&text.replace("transcribed", "incident")).unwrap()["broken"].is_string());
    }
    // Every byte is tried in the program's own tests; here, some of a real report.
    let step = text.len() / 24;
    for at in (0..text.len()).step_by(step) {
        let mut altered = text.clone().into_bytes();
        altered[at] ^= 1;
        fs::write(&file, altered).unwrap();
        assert!(verify(&cluster, &file).is_err(), "byte {at}");
    }
    cluster.stop().unwrap();
}

#[test]
fn a_replica_that_is_away_is_overdue_after_the_charters_time_and_until_it_is_back() {
    let mut cluster = Cluster::found(&Programs::find().unwrap(), &ONE_EACH).unwrap();
    let clock = Clocks::build(cluster.path()).unwrap().clock("all").unwrap();
    cluster.surround(&clock.surroundings());
    cluster.start().unwrap();
    cluster.enrol_all().unwrap();
    cluster.surround(&clock.surroundings());
    let people: Vec<_> = cluster.people().cloned().collect();
    let (sender, last) = (&people[0], &people[2]);
    let conversation = sender.converse("Handover", "clinical", cluster.others(sender)).unwrap();
    people.iter().for_each(|person| drop(person.await_joined(&conversation, people.len()).unwrap()));
    let message = sender.send(&conversation, "potassium 6.8").unwrap();
    people.iter().for_each(|person| drop(person.await_message(&conversation, "potassium 6.8").unwrap()));

    cluster.trusts[2].node.stop().unwrap();
    let deletion = sender.delete(&message, "transcribed").unwrap();
    sender.await_confirmed(&deletion, 2).unwrap();
    let [node, other] = [0, 1].map(|place| &cluster.trusts[place].node);
    let ordered = secs(&node.json(&["deletions", &deletion]).unwrap()["issued"]);

    // It still has an hour.
    clock.set(CONFIRM_SECS - HOUR_SECS).unwrap();
    await_tick(node, ordered + CONFIRM_SECS - 2 * HOUR_SECS);
    assert_overdue(node, &[]);
    assert_eq!(node.json(&["deletions", &deletion]).unwrap()["overdue"], 0);
    assert_eq!(warnings(node, "deletion-overdue"), 0);

    clock.set(CONFIRM_SECS + HOUR_SECS).unwrap();
    // Sessions end after a day.
    people[..2].iter().for_each(|person| drop(person.unlock().unwrap()));
    let shown = await_deletion(node, &deletion, "a replica that is overdue", |d| d["overdue"] == 1);
    assert_eq!((&shown["confirmed"], &shown["replicas"]), (&2.into(), &3.into()), "{shown}");
    assert!(shown["summary"].as_str().unwrap().starts_with("replicas 2 of 3, 1 overdue"), "{shown}");
    let absent = &cluster.trusts[2].node;
    for replica in shown["tally"].as_array().unwrap() {
        let late = replica["trust"] == "RZ3";
        assert_eq!((replica["state"] == "missing", !replica["overdue"].is_null()), (late, late), "{shown}");
        assert!(!late || replica["peer_id"] == absent.peer_id(), "{shown}");
        assert!(!late || secs(&replica["overdue"]) >= ordered + CONFIRM_SECS, "{shown}");
    }
    assert_overdue(node, &[(&deletion, "RZ3", absent.peer_id())]);
    // What one trust has ordered is no affair of another's monitoring.
    assert_overdue(other, &[]);
    node.await_audit("which replica is overdue", |entry| names(entry, "deletion-overdue", &deletion, absent))
        .unwrap();
    await_warning(node, "deletion-overdue");
    assert_eq!(warnings(other, "deletion-overdue"), 0);
    let csv = node.command(&["deletions", "--csv"]).unwrap().done().unwrap().stdout;
    assert_eq!(csv.lines().filter(|line| line.contains(",overdue,")).count(), 1, "{csv}");
    let seen_by_sender = sender.json(&["deletion", &deletion]).unwrap();
    let late = seen_by_sender["replicas"].as_array().unwrap().iter().filter(|r| !r["overdue"].is_null());
    assert_eq!(late.map(|replica| &replica["trust"]).collect::<Vec<_>>(), ["RZ3"], "{seen_by_sender}");

    // It comes back, and nobody does anything.
    cluster.trusts[2].node.start().unwrap();
    let [node, back] = [0, 2].map(|place| &cluster.trusts[place].node);
    let shown = await_deletion(node, &deletion, "three replicas", |d| d["confirmed"] == 3);
    assert_eq!((&shown["overdue"], &shown["problems"]), (&0.into(), &json!([])), "{shown}");
    assert!(shown["tally"].as_array().unwrap().iter().all(|replica| replica["overdue"].is_null()), "{shown}");
    assert_eq!(back.held(&message).unwrap(), None, "it has confirmed");
    assert_overdue(node, &[]);
    node.await_audit("who was late", |entry| names(entry, "deletion-confirmed-late", &deletion, back))
        .unwrap();
    await_warning(node, "deletion-confirmed-late");
    assert_eq!(warnings(node, "deletion-overdue"), 1);
    last.unlock().unwrap();
    last.await_gone(&conversation, "potassium 6.8").unwrap();
    cluster.stop().unwrap();
}

/// A moment as the commands print it, in seconds since 1970.
fn secs(moment: &Value) -> i64 {
    let words = ["--utc", "--date", moment.as_str().unwrap(), "+%s"];
    process::run(Path::new("date"), words, None).unwrap().done().unwrap().stdout.trim().parse().unwrap()
}

/// Waits until a whole tick of the node has gone by after this moment of its clock: a tick ends with a head of the audit log, and one
/// is due when the clock has moved on by more than ten minutes and something was added to the log since the last one, as an export does.
fn await_tick(node: &Node, after: i64) {
    let file = node.data_dir().with_extension("exported").display().to_string();
    node.json(&["deletions", "export", &file]).unwrap();
    wait::until(format!("{} has signed a head of its log", node.name()), SOON, || {
        let heads = node.json(&["audit", "heads"])?;
        let own =
            heads["heads"].as_array().into_iter().flatten().find(|head| head["peer_id"] == node.peer_id());
        Ok(if own.is_some_and(|head| secs(&head["signed"]) > after) { Ok(()) } else { Err(heads) })
    })
    .unwrap();
}

/// Status and figures name these as overdue, each a deletion, a trust and its node, and no others.
fn assert_overdue(node: &Node, expected: &[(&str, &str, &str)]) {
    let status = node.status().unwrap();
    let named = |late: &Value| json!([late["tombstone"], late["trust"], late["peer_id"]]);
    let late: Vec<_> = status["overdue"].as_array().unwrap().iter().map(named).collect();
    assert_eq!(json!(late), json!(expected), "{status}");
    let warns =
        |warning: &Value| warning.as_str().unwrap().contains("confirmations of deletions are overdue");
    assert_eq!(status["warnings"].as_array().unwrap().iter().any(warns), !expected.is_empty(), "{status}");
    let text = node.command(&["status"]).unwrap().done().unwrap().stdout;
    let counted = format!("overdue      {} confirmations of deletions", expected.len());
    assert_eq!(text.contains(&counted), !expected.is_empty(), "{text}");

    let figures = node.command(&["status", "--metrics"]).unwrap().done().unwrap().stdout;
    let others = ONE_EACH.iter().map(|plan| plan.ods).filter(|ods| !node.name().starts_with(ods));
    for ods in others {
        let count = expected.iter().filter(|(_, trust, _)| *trust == ods).count();
        let line = format!("lanyard_deletions_overdue{{trust=\"{ods}\"}} {count}");
        assert!(figures.lines().any(|figure| figure == line), "{line}: {figures}");
    }
}

/// Whether an entry of the audit log is this event of that replica and deletion.
fn names(entry: &Value, event: &str, deletion: &str, replica: &Node) -> bool {
    entry["event"] == event && entry["record"] == deletion && entry["peer_id"] == replica.peer_id()
}

/// Waits until a node's log warns of this event; it does so once.
fn await_warning(node: &Node, event: &str) {
    wait::until(format!("the log of {} warns of {event}", node.name()), SOON, || {
        Ok(if warnings(node, event) > 0 { Ok(()) } else { Err("no such line") })
    })
    .unwrap();
    assert_eq!(warnings(node, event), 1);
}

/// How many warnings of this event are in a node's log.
fn warnings(node: &Node, event: &str) -> usize {
    let log = fs::read_to_string(node.log()).unwrap();
    let event = format!("event=\"{event}\"");
    log.lines().filter(|line| line.contains(" WARN ") && line.contains(&event)).count()
}
