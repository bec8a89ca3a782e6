//! Space and backups of a running node by the real program.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;

use std::fs;

use bench::{Bench, Node};
use lanyard_crypto::ids::from_hex;
use serde_json::Value;

const CONFIG: [&str; 2] = ["--config", "node1/node.toml"];

fn ask(bench: &Bench, words: &[&str]) -> Value {
    bench.json(&[words, &CONFIG].concat())
}

fn noted(bench: &Bench, event: &str) -> usize {
    let entries = ask(bench, &["audit"])["entries"].clone();
    entries.as_array().unwrap().iter().filter(|entry| entry["event"] == event).count()
}

#[test]
fn a_running_node_compacts_its_store() {
    let bench = Bench::with_node("127.0.77.4");
    let said = bench.fails(&[&["compact"][..], &CONFIG].concat(), 1);
    assert!(said.contains("no running node answers here"), "{said}");
    let node = Node::start(&bench);
    for round in 1..3 {
        let compacted = ask(&bench, &["compact"]);
        assert!(compacted["after_bytes"].as_u64().unwrap() > 0, "{compacted}");
        assert!(compacted["live_bytes"].as_u64().unwrap() > 0, "{compacted}");
        assert!(bench.path(&format!("node1/data/store/rows.{round}")).exists());
        assert!(!bench.path("node1/data/store/rows").exists());
        assert_eq!(noted(&bench, "compacted"), round);
    }
    node.stop(&bench);
    let node = Node::start(&bench);
    ask(&bench, &["audit", "verify"]);
    node.stop(&bench);
}

#[test]
fn a_running_node_backs_its_store_up_without_the_key() {
    let bench = Bench::with_node("127.0.77.5");
    let node = Node::start(&bench);
    let digits = fs::read_to_string(bench.path("node1/data/store.key")).unwrap();
    let key = from_hex(&digits).unwrap();
    assert_eq!((digits.len(), key.len()), (64, 32));
    let backed_up = ask(&bench, &["backup", "copies"]);
    assert_eq!(backed_up["to"], bench.path("copies").to_str().unwrap());
    let names = |dir: &str| {
        let names =
            fs::read_dir(bench.path(dir)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names("copies"), ["STORE", "keys", "rows"].map(str::to_owned).into());
    let has_key = |bytes: &[u8]| {
        [digits.as_bytes(), &key].iter().any(|key| bytes.windows(key.len()).any(|window| window == *key))
    };
    assert!(has_key(&fs::read(bench.path("node1/data/store.key")).unwrap()));
    for dir in ["copies", "copies/rows", "copies/keys"] {
        let paths: Vec<_> = fs::read_dir(bench.path(dir)).unwrap().map(|e| e.unwrap().path()).collect();
        let files: Vec<_> = paths.iter().filter(|path| path.is_file()).collect();
        // There are keys of messages alone: tests/tests/forensics/restored.rs looks at a backup with some.
        assert_eq!(files.is_empty(), dir == "copies/keys", "{files:?}");
        for file in files {
            assert!(!has_key(&fs::read(file).unwrap()), "{}", file.display());
        }
    }
    assert_eq!(noted(&bench, "backed-up"), 1);
    let said = bench.fails(&[&["backup", "copies"][..], &CONFIG].concat(), 1);
    assert!(said.contains("copies is there already: name another directory"), "{said}");
    node.stop(&bench);
}

/// An interrupted `restore` leaves keys that no erasure in the store reaches.
#[test]
fn what_an_interrupted_restore_has_left_is_destroyed_at_the_next_start() {
    let bench = Bench::with_node("127.0.77.9");
    Node::start(&bench).stop(&bench);
    let left = bench.path("node1/data/store.restoring");
    let leave = || {
        fs::create_dir_all(left.join("keys")).unwrap();
        fs::write(left.join("keys/000000.a"), "keys").unwrap();
        let kept = bench.path("kept");
        let _ = fs::remove_file(&kept);
        fs::hard_link(left.join("keys/000000.a"), &kept).unwrap();
    };
    let check = || {
        assert!(!left.exists());
        assert_eq!(fs::read(bench.path("kept")).unwrap(), [0; 4], "overwritten before it was removed");
    };
    leave();
    let node = Node::start(&bench);
    check();
    node.stop(&bench);
    leave();
    ask(&bench, &["key", "rotate"]);
    check();
}
