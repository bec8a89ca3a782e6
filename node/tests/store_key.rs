//! The key of a node's store by the real program: from a file or a command, and rotated.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bench::{Bench, Node};

const CONFIG: [&str; 2] = ["--config", "node1/node.toml"];

fn key(bench: &Bench, name: &str) -> String {
    fs::read_to_string(bench.path(name)).unwrap()
}

fn rotate(bench: &Bench, rest: &[&str]) -> serde_json::Value {
    bench.json_then(&[&["key", "rotate"][..], &CONFIG].concat(), rest)
}

/// The node starts, answers, and ends in order.
fn runs(bench: &Bench) {
    let node = Node::start(bench);
    bench.json(&[&["audit", "verify"][..], &CONFIG].concat());
    node.stop(bench);
}

#[test]
fn the_key_in_the_file_is_rotated_in_place() {
    let bench = Bench::with_node("127.0.77.1");
    let said = bench.fails(&[&["key", "rotate"][..], &CONFIG].concat(), 2);
    assert!(said.contains("there is no store"), "{said}");
    let node = Node::start(&bench);
    let first = key(&bench, "node1/data/store.key");
    let said = bench.fails(&[&["key", "rotate"][..], &CONFIG].concat(), 1);
    assert!(said.contains("in use by another process: stop it"), "{said}");
    node.stop(&bench);

    let rotated = rotate(&bench, &[]);
    assert!(rotated["key"].as_str().unwrap().ends_with("node1/data/store.key"), "{rotated}");
    let second = key(&bench, "node1/data/store.key");
    assert_ne!(first, second);
    let left = fs::read_dir(bench.path("node1/data")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("store.key")).collect();
    assert_eq!(left, ["store.key"], "neither a draft nor the earlier key");
    runs(&bench);

    fs::write(bench.path("node1/data/store.key"), &first).unwrap();
    let said = bench.fails(&[&["run"][..], &CONFIG].concat(), 1);
    assert!(said.contains("the store key does not open the store"), "{said}");
    fs::write(bench.path("node1/data/store.key"), &second).unwrap();
    runs(&bench);
}

/// As an interrupted run leaves it: the store has the new key already, and its file not yet its name.
#[test]
fn a_rotation_that_was_interrupted_goes_on() {
    let bench = Bench::with_node("127.0.77.2");
    Node::start(&bench).stop(&bench);
    let [at, new, old] =
        ["", ".new", ".old"].map(|ending| bench.path(&format!("node1/data/store.key{ending}")));
    let first = fs::read(&at).unwrap();
    rotate(&bench, &[]);
    let second = fs::read(&at).unwrap();
    fs::rename(&at, &new).unwrap();
    fs::write(&at, &first).unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(0o600)).unwrap();
    rotate(&bench, &[]);
    assert_eq!(fs::read(&at).unwrap(), second, "no further key was made");
    assert!(!new.exists() && !old.exists());

    fs::rename(&at, &new).unwrap();
    fs::write(&old, &first).unwrap();
    let said = bench.fails(&[&["run"][..], &CONFIG].concat(), 1);
    assert!(said.contains("which is not there, while the store is") && said.contains("key rotate"), "{said}");
    rotate(&bench, &[]);
    assert!(at.exists() && !new.exists() && !old.exists());
    runs(&bench);
}

/// A key that is not there is made again by nobody, and one that cannot be read is not taken for one that is not there.
#[test]
fn without_its_key_a_store_is_not_rotated() {
    let bench = Bench::with_node("127.0.77.8");
    Node::start(&bench).stop(&bench);
    let [at, new] = ["", ".new"].map(|ending| bench.path(&format!("node1/data/store.key{ending}")));
    let key = fs::read(&at).unwrap();
    let refused = |reason: &str| {
        let said = bench.fails(&[&["key", "rotate"][..], &CONFIG].concat(), 1);
        assert!(said.contains("`storage.key`") && said.contains(reason), "{said}");
        assert!(!new.exists(), "no key was made");
    };
    fs::write(&at, &key[..40]).unwrap();
    refused("64 hexadecimal digits are needed");
    fs::remove_file(&at).unwrap();
    refused("which is not there, while the store is");
    let said =
        bench.fails(&[&["key", "rotate"][..], &CONFIG, &["--new-key", "node1/data/other.key"]].concat(), 1);
    assert!(said.contains("which is not there, while the store is"), "{said}");
    assert!(!bench.path("node1/data/other.key").exists());
    fs::write(&at, &key).unwrap();
    fs::set_permissions(&at, fs::Permissions::from_mode(0o644)).unwrap();
    refused("gives no key");
    fs::set_permissions(&at, fs::Permissions::from_mode(0o600)).unwrap();
    rotate(&bench, &[]);
    runs(&bench);
}

#[test]
fn the_key_comes_from_a_command_and_from_another_file() {
    let bench = Bench::with_node("127.0.77.3");
    Node::start(&bench).stop(&bench);
    let first = key(&bench, "node1/data/store.key");
    let configure = |line: &str| {
        let path = bench.path("node1/node.toml");
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("\n[storage]").next().unwrap().to_owned();
        fs::write(&path, format!("{text}\n[storage]\n{line}\n")).unwrap();
    };

    // The command of a vault: here, a program that reads another file.
    let sealed = bench.path("sealed");
    fs::write(&sealed, [0x6b; 32]).unwrap();
    let sealed = sealed.to_str().unwrap();
    let rotated = rotate(&bench, &["--", "cat", sealed]);
    assert_eq!(rotated["configure"], format!("key_command = [\"cat\", \"{sealed}\"]"));
    assert!(rotated["earlier"].as_str().unwrap().ends_with("store.key"), "{rotated}");
    let said = bench.fails(&[&["run"][..], &CONFIG].concat(), 1);
    assert!(said.contains("the store key does not open the store"), "{said}");
    configure(rotated["configure"].as_str().unwrap());
    runs(&bench);
    let log = key(&bench, "log");
    assert!(
        !log.contains(&"k".repeat(8)) && !log.contains(&"6b".repeat(8)) && !log.contains(&first),
        "{log}"
    );

    // A command that fails, and one that prints no key, are problems that `check` finds too.
    configure("key_command = [\"cat\", \"/nowhere/sealed\"]");
    for command in ["run", "check"] {
        let said = bench.fails(&[&[command][..], &CONFIG].concat(), 1);
        assert!(
            said.contains("`storage.key_command` gives no key: cat: exit status: 1; it said: "),
            "{said}"
        );
    }
    configure("key_command = [\"echo\", \"sesame\"]");
    let said = bench.fails(&[&["check"][..], &CONFIG].concat(), 1);
    assert!(said.contains("printed something else than a key") && !said.contains("sesame"), "{said}");

    // From the command to a file that is made, and whose place the configuration is told.
    configure(rotated["configure"].as_str().unwrap());
    let said = bench.fails(&[&["key", "rotate"][..], &CONFIG].concat(), 2);
    assert!(said.contains("--new-key FILE"), "{said}");
    let said = bench.fails(&[&["key", "rotate"][..], &CONFIG, &["--", "cat", sealed]].concat(), 2);
    assert!(said.contains("the new key is the key that the store has"), "{said}");
    let rotated = rotate(&bench, &["--new-key", "other.key"]);
    assert!(rotated["earlier"].is_null(), "{rotated}");
    assert_eq!(fs::metadata(bench.path("other.key")).unwrap().permissions().mode() & 0o777, 0o600);
    configure(rotated["configure"].as_str().unwrap());
    runs(&bench);
}
