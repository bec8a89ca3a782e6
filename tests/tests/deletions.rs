//! The evidence of a deletion with real processes: nodes and devices answer, the operator sees who has not, and shows it to somebody who
//! has no node.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use lanyard_tests::cluster::REGION;
use lanyard_tests::wait;
use lanyard_tests::{Cluster, Node, Programs, python};
use serde_json::Value;

/// Devices are told of every 10 seconds, and those that are waited for are named after 15.
const ANSWERS: Duration = Duration::from_secs(90);

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
    let outcome = lanyard_tests::process::run(&cluster.programs.node(), all, None).unwrap();
    outcome.json().map_err(|e| e.to_string())
}

/// What a program in another language, made from the documents alone, finds proven.
fn verify_elsewhere(report: &str) -> Option<Value> {
    let python = python::find("cryptography")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/deletions.py");
    let mut child =
        Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(report.as_bytes()).unwrap();
    Some(serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap())
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
    assert_eq!(shown["problems"], serde_json::json!([]), "{shown}");
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
    assert_eq!(node.status().unwrap()["overdue"], serde_json::json!([]));

    let file = cluster.path().join("deletions.jsonl").display().to_string();
    node.json(&["deletions", "export", &file]).unwrap();
    let report = verify(&cluster, &file).unwrap();
    assert_eq!((&report["complete"], &report["missing"]), (&1.into(), &0.into()), "{report}");
    assert_eq!((&report["devices_erased"], &report["list"][0]["tombstone"]), (&all.into(), &deletion.into()));

    let text = fs::read_to_string(&file).unwrap();
    if let Some(proven) = verify_elsewhere(&text) {
        assert_eq!(proven, serde_json::json!({ "confirmed": [3], "devices": [all] }));
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
