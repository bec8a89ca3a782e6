//! The programs of today open what earlier versions left: `tests/vectors/stores`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use lanyard_tests::loopback::Subnet;
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Clocks, Node, Person, Programs, process};
use serde_json::Value;

use super::{PLANS, log};

/// Every archive, by version.
const ARCHIVES: [&str; 1] = ["0.1.0"];

/// A network that was unpacked, and what must be found in it.
struct Unpacked {
    manifest: Value,
    nodes: [Node; 2],
    people: [Person; 2],
    _dir: tempfile::TempDir,
}

#[test]
fn every_archive_is_opened_by_a_test() {
    let files =
        fs::read_dir(archives()).unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let found: BTreeSet<String> =
        files.filter_map(|name| name.strip_suffix(".tar.gz").map(str::to_owned)).collect();
    assert_eq!(found, ARCHIVES.map(str::to_owned).into());
}

#[test]
fn what_an_earlier_version_kept_is_there_and_what_it_deleted_is_not() {
    for version in ARCHIVES {
        let mut unpacked = unpack(version);
        let manifest = unpacked.manifest.clone();
        assert_eq!(manifest["version"], version);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (conversation, stored) = (text(&manifest["conversation"]), &manifest["first_node"]["stored"]);

        // The first node alone: everything is as it was left.
        let [first, second] = &mut unpacked.nodes;
        first.start().unwrap();
        let status = first.status().unwrap();
        for (what, count) in stored.as_object().unwrap() {
            let now = &status["stored"][what];
            let as_left = match what.as_str() {
                // Its directory entry is issued anew at each start, in the place of the one before, and waits for the other trust.
                what if what.starts_with("waiting") => now.as_u64() >= count.as_u64(),
                // Receipts of 0.1.0 say nothing to later versions: what this node has erased it attests anew.
                "receipts" => now.as_u64() > Some(0),
                _ => now == count,
            };
            assert!(as_left, "{version}: {count} {what} were stored, and now {now}");
        }
        let audit = first.audit().unwrap().len() as u64;
        assert!(audit > manifest["first_node"]["audit_entries"].as_u64().unwrap(), "{audit} entries");
        let chain = first.json(&["audit", "verify"]).unwrap();
        assert_eq!(chain["first"], 1, "{chain}");

        // Both: what was waiting goes its way, and every message is where it belongs.
        second.start().unwrap();
        first.await_peers([&*second]).unwrap();
        let kept = manifest["kept"].as_array().unwrap().iter().chain([&manifest["waiting"]]);
        let kept: Vec<&Value> = kept.collect();
        let deleted = manifest["deleted"].as_array().unwrap().iter().chain([&manifest["undone"]]);
        let deleted: Vec<&Value> = deleted.collect();
        let [amara, mira] = &unpacked.people;
        if version == "0.1.0" {
            // Its devices had no PIN: they are invited again, and what they keep stays.
            let said = amara.command(&["read"]).unwrap().refused().unwrap();
            assert!(said.contains("no PIN is set on this device"), "{said}");
            amara.enrol_at(first).unwrap();
            mira.enrol_at(second).unwrap();
        }
        for person in [amara, mira] {
            for message in &kept {
                person.await_message(&conversation, message["text"].as_str().unwrap()).unwrap();
            }
            for message in &deleted {
                person.await_gone(&conversation, message["text"].as_str().unwrap()).unwrap();
            }
            assert_eq!(person.read(&conversation).unwrap().len(), kept.len(), "{}", person.name());
        }
        for (sender, message) in [amara, mira, amara].into_iter().zip(&deleted) {
            sender.await_confirmed(message["deletion"].as_str().unwrap(), 2).unwrap();
        }
        for node in [&*first, &*second] {
            for message in &kept {
                assert!(node.held(message["id"].as_str().unwrap()).unwrap().is_some(), "{message}");
            }
            for message in &deleted {
                assert!(node.held(message["id"].as_str().unwrap()).unwrap().is_none(), "{message}");
            }
        }

        // It goes on: new messages, a deletion of an old one, and catching up after having been away.
        let old = kept[0];
        second.stop().unwrap();
        amara.send(&conversation, "after the upgrade").unwrap();
        let deletion = amara.delete(old["id"].as_str().unwrap(), "sent-in-error").unwrap();
        second.start().unwrap();
        amara.await_confirmed(&deletion, 2).unwrap();
        mira.await_message(&conversation, "after the upgrade").unwrap();
        mira.await_gone(&conversation, old["text"].as_str().unwrap()).unwrap();
        wait::until("both hold as many envelopes", SOON, || {
            let count = |node: &Node| Ok(node.status()?["stored"]["envelopes"].clone());
            let (one, other) = (count(first)?, count(second)?);
            Ok(if one == other { Ok(()) } else { Err((one, other)) })
        })
        .unwrap();
        assert_eq!(log::entries(second, "started", "after-stop").len(), 1);
    }
}

#[test]
fn a_store_of_a_newer_version_is_refused_by_name_and_left_alone() {
    let mut unpacked = unpack(ARCHIVES[0]);
    let node = &mut unpacked.nodes[0];
    let marker = node.data_dir().join("store/STORE");
    let newer = fs::read_to_string(&marker).unwrap().replacen("format 1", "format 4000000000", 1);
    fs::write(&marker, &newer).unwrap();
    node.launch().unwrap();
    let (code, said) = node.await_end().unwrap();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("has format 4000000000"), "{said}");
    assert!(said.contains("start the version that wrote it, or a newer one"), "{said}");
    assert_eq!(fs::read_to_string(&marker).unwrap(), newer);
}

/// Unpacks an archive, and sets the clock of everything that runs in it to the moment at which it was made.
fn unpack(version: &str) -> Unpacked {
    let (programs, dir) = (Programs::find().unwrap(), tempfile::tempdir().unwrap());
    let (archive, into) = (archives().join(format!("{version}.tar.gz")), dir.path().display().to_string());
    process::run(Path::new("tar"), ["-xzpf", &archive.display().to_string(), "-C", &into], None)
        .unwrap()
        .done()
        .unwrap();
    let manifest: Value =
        serde_json::from_slice(&fs::read(dir.path().join("manifest.json")).unwrap()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let clock = Clocks::build(dir.path()).unwrap().clock("then").unwrap();
    clock.set(manifest["made"].as_i64().unwrap() - i64::try_from(now).unwrap()).unwrap();
    let node = |place: u8| {
        let lower = PLANS[usize::from(place)].ods.to_lowercase();
        let node_dir = dir.path().join(format!("{lower}-node1"));
        let mut node = Node::existing(&programs, &node_dir, Subnet::ARCHIVED.inside(place + 1)).unwrap();
        node.surround(clock.surroundings());
        node
    };
    let person = |place: usize| {
        let (ods, plan) = (PLANS[place].ods, PLANS[place].people[0]);
        let profile = dir.path().join(format!("people/{}-1", ods.to_lowercase()));
        let mut person = Person::existing(&programs, plan, ods, &profile);
        person.surround(clock.surroundings());
        person
    };
    Unpacked { manifest, nodes: [node(0), node(1)], people: [person(0), person(1)], _dir: dir }
}

fn archives() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/stores")
}
