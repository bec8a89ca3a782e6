//! Wiping devices: what it ends at once, what the device does once it hears of it, and what is shown of that.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use lanyard_client::agent;
use lanyard_client::profile::Profile;
use lanyard_tests::cluster::REGION;
use lanyard_tests::person::PIN;
use lanyard_tests::process::{self, Outcome, Surroundings};
use lanyard_tests::traces::copy_dir;
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Agent, Cluster, Node, Person, Programs, python};
use serde_json::{Value, json};

fn typing(cluster: &Cluster, profile: &Path, arguments: &[&str], line: &str) -> Outcome {
    let profile = profile.display().to_string();
    let all = ["--profile", &profile, "--json"].into_iter().chain(arguments.iter().copied());
    process::run(&cluster.programs.client(), all, Some(&format!("{line}\n"))).unwrap()
}

/// What a command says that does not come out.
fn said(cluster: &Cluster, profile: &Path, arguments: &[&str]) -> String {
    typing(cluster, profile, arguments, "").refused().unwrap()
}

/// Waits until the process that keeps a device unlocked, and listens for news, has ended by itself; returns what it said.
fn await_end(person: &Person) -> String {
    wait::until("the agent ends", SOON, || {
        Ok(if agent::runs(&Profile::at(person.profile())) { Err("it runs") } else { Ok(()) })
    })
    .unwrap();
    person.agent().kill().unwrap();
    fs::read_to_string(Agent::log(person.profile())).unwrap()
}

fn device_of(person: &Person) -> String {
    person.json(&["whoami"]).unwrap()["device"].as_str().unwrap().to_owned()
}

/// What the report says of a device.
fn report(node: &Node, device: &str) -> Value {
    node.json(&["device", "report", "--device", device]).unwrap()[0].clone()
}

/// The files of a profile by their names, but locks and sockets.
fn names(profile: &Path) -> Vec<String> {
    let entries = fs::read_dir(profile).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !["lock", "agent.lock", "agent.sock"].contains(&name.as_str()));
    names.sort();
    names
}

fn copied(person: &Person, name: &str) -> PathBuf {
    let copy = person.profile().with_extension(name);
    copy_dir(person.profile(), &copy).unwrap();
    copy
}

/// What a program that shares no code with Lanyard makes of a copied profile.
fn tried(python: &Path, profile: &Path, text: &str, key: Option<&[u8]>) -> Value {
    let device: Value = serde_json::from_slice(&fs::read(profile.join("device.json")).unwrap()).unwrap();
    let mut asked = json!({
        "profile": profile.display().to_string(), "address": device["address"], "pin": PIN, "text": text,
    });
    if let Some(key) = key {
        asked["key"] = lanyard_crypto::ids::to_hex(key).into();
    }
    python::answer(python, "vault.py", &asked.to_string())
}

#[test]
fn a_lost_device_is_closed_at_once_and_destroys_itself_when_it_hears_of_it() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..2]).unwrap();
    cluster.enrol_all().unwrap();
    let [ada, colleague, other] =
        [(0, 0), (0, 1), (1, 0)].map(|(trust, person)| cluster.trusts[trust].people[person].clone());
    let conversation = ada.converse("Handover", "clinical", [&colleague, &other]).unwrap();
    for person in [&colleague, &other] {
        person.await_joined(&conversation, 3).unwrap();
    }
    let text = "the potassium is 6.9";
    other.send(&conversation, text).unwrap();
    ada.await_message(&conversation, text).unwrap();
    let device = device_of(&ada);
    let key = agent::opened(&Profile::at(ada.profile()), false).unwrap().unwrap().key;
    // A thief's copy of the disk, and one of a device that stays in a drawer.
    let (stolen, drawer) = (copied(&ada, "stolen"), copied(&ada, "drawer"));
    let python = python::find("cryptography");
    if let Some(python) = &python {
        // So that what fails below could have come out.
        let opened = tried(python, &stolen, text, Some(&key[..]));
        assert!(opened["reads"] == true && opened["node"] != "refused", "{opened}");
        // Nothing in the directory opens it without the node, before the wipe either.
        let unopened = tried(python, &stolen, text, None);
        assert!(unopened["opens"].is_null() && unopened["tried"].as_u64().unwrap() > 1000, "{unopened}");
    }

    let node = &cluster.trusts[0].node;
    let nobody = node.command(&["device", "wipe", "--name", "Nobody", "--reference", "INC-7"]);
    assert!(nobody.unwrap().refused().unwrap().contains("no such device"));
    #[rustfmt::skip]
    let wiped = node.json(&["device", "wipe", "--device", &device, "--reference", "INC-7", "--reason", "lost"]).unwrap();
    assert_eq!(wiped["wiped"], json!([device]));

    // The device hears of it by itself, destroys what it has, and says so.
    let log = await_end(&ada);
    assert!(log.contains("your trust has revoked this device"), "{log}");
    assert_eq!(names(ada.profile()), ["wiped.cbor"]);
    let shown = wait::until("the report has the receipt", SOON, || {
        let shown = report(node, &device);
        Ok(if shown["wiped"].is_string() { Ok(shown) } else { Err(shown) })
    })
    .unwrap();
    assert!(shown["reason"] == "lost" && shown["reference"] == "INC-7", "{shown}");
    assert!(shown["access_ended"].is_string() && shown["last_seen"].is_string(), "{shown}");
    let text_report = node.command(&["device", "report"]).unwrap().done().unwrap().stdout;
    assert!(text_report.contains("access ended ") && text_report.contains("; device confirmed wiped "));
    node.await_audit("the order is kept", |entry| {
        entry["event"] == "wipe-ordered"
            && entry["code"] == "lost"
            && entry["detail"].as_str().is_some_and(|detail| detail.contains("reference INC-7"))
    })
    .unwrap();
    for (event, code) in [("device-wiped", ""), ("pin", "revoked")] {
        node.await_audit(event, |entry| entry["event"] == event && entry["code"] == code).unwrap();
    }
    // The one at it is told what happened and what to do.
    let told = said(&cluster, ada.profile(), &["read", &conversation]);
    assert!(told.contains("your trust has this device's receipt"), "{told}");
    assert!(told.contains("ask your trust for a new invitation"), "{told}");

    // It is gone from the directory, in every trust, and nobody can invite it.
    for person in [&colleague, &other] {
        let found = person.json(&["find", ada.name()]).unwrap();
        assert!(!found.to_string().contains(&device), "{found}");
        let arguments =
            ["conversation", "new", "--title", "Anew", "--class", "clinical", "--with", ada.name()];
        let new = person.command(&arguments).unwrap();
        assert!(new.code() == Some(2) && new.stderr.contains("no person fits"), "{}", new.stderr);
    }
    other.send(&conversation, "after the wipe").unwrap();
    colleague.await_message(&conversation, "after the wipe").unwrap();

    // The thief has the files as they were, and the PIN; nothing that opens anything comes of it.
    if let Some(python) = &python {
        let opened = tried(python, &stolen, text, None);
        assert!(
            opened["node"] == "refused" && opened["opens"].is_null() && opened["reads"] == false,
            "{opened}"
        );
    }
    // Known to the node as it was before: a second receipt changes nothing.
    let told = typing(&cluster, &drawer, &["unlock"], PIN).refused().unwrap();
    assert!(told.contains("your trust has revoked this device"), "{told}");
    assert_eq!(names(&drawer), ["wiped.cbor"]);
    assert_eq!(report(node, &device), shown);

    // It is kept.
    cluster.trusts[0].node.stop().unwrap();
    cluster.trusts[0].node.start().unwrap();
    let node = &cluster.trusts[0].node;
    assert_eq!(report(node, &device), shown);
    // The device can be used again, by whoever is invited.
    let line = node.invite(ada.plan()).unwrap();
    typing(&cluster, ada.profile(), &["enrol", &line], PIN).json().unwrap();
    assert_ne!(device_of(&ada), device);
    assert!(!names(ada.profile()).contains(&"wiped.cbor".to_owned()), "{:?}", names(ada.profile()));
}

#[test]
fn a_pin_that_was_tried_too_often_wipes_the_device() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..1]).unwrap();
    cluster.enrol_all().unwrap();
    let ada = cluster.trusts[0].people[0].clone();
    let device = device_of(&ada);
    ada.json(&["lock"]).unwrap();
    cluster.trusts[0].node.stop().unwrap();
    cluster.trusts[0].node.configure("idle_secs", "tries_max = 3\nidle_secs").unwrap();
    cluster.trusts[0].node.start().unwrap();
    for left in ["2 attempts are left", "one attempt is left", "that was the last attempt"] {
        let said = typing(&cluster, ada.profile(), &["unlock"], "000000").refused().unwrap();
        assert!(said.contains(left), "{said}");
    }
    // A node that has ended does not have any more what would prove the last one right: nobody waits for it longer.
    cluster.trusts[0].node.stop().unwrap();
    cluster.trusts[0].node.start().unwrap();
    let node = &cluster.trusts[0].node;
    node.await_audit("the device is wiped", |entry| {
        entry["event"] == "wipe-ordered" && entry["code"] == "pin-tried-too-often"
    })
    .unwrap();
    let log = await_end(&ada);
    assert!(log.contains("your trust has revoked this device"), "{log}");
    assert_eq!(names(ada.profile()), ["wiped.cbor"]);
    let shown = report(node, &device);
    assert!(shown["reason"] == "pin-tried-too-often" && shown["reference"].is_null(), "{shown}");
}

#[test]
fn a_device_is_handed_over_one_is_replaced_and_who_leaves_leaves_with_all() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..2]).unwrap();
    cluster.enrol_all().unwrap();
    let [ada, ben, other] =
        [(0, 0), (0, 1), (1, 0)].map(|(trust, person)| cluster.trusts[trust].people[person].clone());
    let node = &cluster.trusts[0].node;
    let again = |name: &str| ada.profile().with_extension(name);
    let invitation =
        |arguments: &[&str]| node.json(arguments).unwrap()["invitation"].as_str().unwrap().to_owned();
    let mut agents = Vec::new();
    let mut enrolled = |line: &str, profile: &Path| {
        // A wiped device has none, and starts its own, which ends with the profile.
        if !profile.join("wiped.cbor").exists() {
            let agent = Agent::default();
            agent.start("a device", &cluster.programs, &Surroundings::default(), profile).unwrap();
            agents.push(agent);
        }
        let whoami = typing(&cluster, profile, &["enrol", line], PIN).json().unwrap();
        whoami["device"].as_str().unwrap().to_owned()
    };
    let devices = || -> Vec<String> {
        let staff = node.json(&["staff", "list"]).unwrap();
        let live = staff["devices"].as_array().unwrap().iter().filter(|device| device["revoked"].is_null());
        live.map(|device| device["fingerprint"].as_str().unwrap().to_owned()).collect()
    };

    // A second device of Ada's, and one that replaces it: her PIN is forgotten. The first stays.
    let first = device_of(&ada);
    let plan = ada.plan();
    let who = [
        "--name",
        plan.name,
        "--registration",
        plan.registration,
        "--checked-by",
        "R. Lindqvist (fictional)",
    ];
    let invite = |more: &[&str]| -> Vec<String> {
        ["staff", "invite"].iter().chain(&who).chain(more).map(|word| (*word).to_owned()).collect()
    };
    let words = |all: &[String]| invitation(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let second = enrolled(&words(&invite(&[])), &again("second"));
    let bens = device_of(&ben);
    let wrong = invite(&["--replaces", &bens]);
    let wrong =
        node.command(&wrong.iter().map(String::as_str).collect::<Vec<_>>()).unwrap().refused().unwrap();
    assert!(wrong.contains("is another person's"), "{wrong}");
    let line = words(&invite(&["--replaces", &second]));
    assert!(devices().contains(&second), "until the new one is enrolled");
    let third = enrolled(&line, &again("third"));
    assert!(!devices().contains(&second) && devices().contains(&first) && devices().contains(&third));
    let told = said(&cluster, &again("second"), &["sync"]);
    assert!(told.contains("your trust has revoked this device"), "{told}");
    let shown = report(node, &second);
    assert!(shown["reason"] == "replaced" && shown["wiped"].is_string(), "{shown}");
    ada.json(&["sync"]).unwrap();

    // Ben's device goes to somebody else, who enrols it as it is: what Ben left on it is destroyed first.
    #[rustfmt::skip]
    let redeploy = |role: &str| node.command(&[
        "device", "redeploy", "--device", &bens, "--reference", "MOVE-3", "--name", "Sister Ama Boateng", "--role", role,
        "--checked-by", "R. Lindqvist (fictional)", "--json",
    ]).unwrap();
    redeploy(&"Sister of many wards ".repeat(20)).refused().unwrap();
    assert!(devices().contains(&bens), "nothing is wiped for an invitation that cannot be made");
    let line = redeploy("Sister, ward 4").json_text("/invited/invitation").unwrap();
    assert!(!devices().contains(&bens));
    await_end(&ben);
    let next = enrolled(&line, ben.profile());
    assert!(devices().contains(&next));
    let shown = report(node, &bens);
    assert!(
        shown["reason"] == "handed-over" && shown["reference"] == "MOVE-3" && shown["wiped"].is_string(),
        "{shown}"
    );

    // Ada leaves: all her devices, all conversations, and what she was invited to.
    let conversation = other.converse("Handover", "clinical", [&ada]).unwrap();
    ada.await_joined(&conversation, 3).unwrap();
    let open = words(&invite(&[]));
    let left = node.json(&["staff", "leave", "--name", plan.name, "--reference", "HR-12"]).unwrap();
    assert_eq!(left["wiped"].as_array().unwrap().len(), 2, "{left}");
    assert_eq!(left["invitations"].as_array().unwrap().len(), 1, "{left}");
    assert_eq!(devices(), [next]);
    let refused = typing(&cluster, &again("fourth"), &["enrol", &open], PIN).refused().unwrap();
    assert!(refused.contains("expired"), "{refused}");
}

/// What breaks off goes on from wherever it stopped, and a receipt that cannot be handed in is kept.
#[test]
fn a_wipe_that_breaks_off_goes_on_and_a_receipt_is_handed_in_later() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..1]).unwrap();
    cluster.enrol_all().unwrap();
    let ada = cluster.trusts[0].people[0].clone();
    ada.json(&["sync"]).unwrap();
    let device = device_of(&ada);
    let node = &cluster.trusts[0].node;
    // It is locked, and hears of nothing by itself.
    ada.agent().kill().unwrap();
    node.json(&["staff", "leave", "--registration", ada.plan().registration, "--reference", "HR-1"]).unwrap();
    let shown = report(node, &device);
    assert!(
        shown["reason"] == "left" && shown["wiped"].is_null() && shown["last_seen"].is_string(),
        "{shown}"
    );
    let text_report =
        node.command(&["device", "report", "--device", &device]).unwrap().done().unwrap().stdout;
    assert!(text_report.contains("; not seen since "), "{text_report}");

    // As processes that were killed leave it: after the mark was written, after the vault has gone, and as the key was about to go.
    let copies = ["marked", "emptied", "signed"].map(|name| copied(&ada, name));
    let told = typing(&cluster, ada.profile(), &["unlock"], PIN).refused().unwrap();
    assert!(told.contains("your trust has revoked this device"), "{told}");
    let confirmed = report(node, &device);
    assert!(confirmed["wiped"].is_string() && confirmed["receipt"].is_string(), "{confirmed}");
    let receipt = fs::read(ada.profile().join("wiped.cbor")).unwrap();
    cluster.trusts[0].node.stop().unwrap();
    for copy in &copies {
        // The number of the list, as CBOR.
        fs::write(copy.join("wipe.cbor"), [2]).unwrap();
        set_private(&copy.join("wipe.cbor"));
    }
    for copy in &copies[1..] {
        fs::remove_file(copy.join("vault.db")).unwrap();
        fs::remove_file(copy.join("vault.sealed")).unwrap();
    }
    fs::write(copies[2].join("wiped.cbor"), &receipt).unwrap();
    set_private(&copies[2].join("wiped.cbor"));
    fs::remove_file(copies[2].join("device.json")).unwrap();
    for copy in &copies {
        let told = said(&cluster, copy, &["sync"]);
        assert!(told.contains("your trust has revoked this device"), "{told}");
        assert_eq!(names(copy), ["wiped.cbor"], "{}", copy.display());
        // The third's was handed in before.
        let is_kept = told.contains("its receipt is kept here");
        assert_eq!(is_kept, copy != &copies[2], "{told}");
    }
    assert_eq!(fs::read(copies[2].join("wiped.cbor")).unwrap(), receipt);
    cluster.trusts[0].node.start().unwrap();
    for copy in &copies {
        let told = said(&cluster, copy, &["sync"]);
        assert!(told.contains("your trust has this device's receipt"), "{told}");
    }
    assert_eq!(report(&cluster.trusts[0].node, &device), confirmed, "the first receipt stands");
}

fn set_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
