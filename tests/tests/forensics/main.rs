//! What was deleted cannot be recovered from the raw bytes of a data directory with every key in it, and what is live can
//! (promise P6). The attacker is a program of its own, tests/forensics/recover.py, which knows the formats from
//! docs/internals/storage.md and shares no code with Lanyard.
//!
//! It needs Python with the package `cryptography`, which `scripts/test` installs. Without it these tests say so and check nothing;
//! in CI that is a failure.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod nodes;
mod restored;
mod scene;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lanyard_tests::python;
use lanyard_tests::traces::copy_dir;
use scene::{Fate, Scene, erased, live, live_messages};
use serde_json::Value;
use tempfile::TempDir;

/// The name under which this test binary, started again, finds its directory.
const CHILD: &str = "LANYARD_TEST_FORENSICS_CHILD";
/// What it says before the number of a message that it has dropped, and after how many it is killed.
const DROPPED: &str = "dropped ";
const AFTER: usize = 20;

#[test]
fn of_a_stopped_node_the_live_records_are_recovered_and_no_erased_one() {
    let Some(attacker) = Attacker::find() else { return };
    let dir = TempDir::new().unwrap();
    let mut scene = Scene::new(dir.path());
    let all = attacker.recover(dir.path());
    let mut expected: BTreeSet<_> = live().union(&erased()).cloned().collect();
    expected.remove(&scene::marker(501));
    assert_eq!(all.read, expected, "before anything is erased, the attacker reads all of it");

    scene.erase();
    drop(scene);
    attacker.recover(dir.path()).assert_live_alone();

    fs::remove_file(dir.path().join("store.key")).unwrap();
    assert_eq!(attacker.recover(dir.path()).read, BTreeSet::new(), "it needs the store key");
}

#[test]
fn what_is_on_hold_is_there_for_who_has_the_keys_and_gone_after_its_end() {
    let Some(attacker) = Attacker::find() else { return };
    let dir = TempDir::new().unwrap();
    let mut scene = Scene::new(dir.path());
    scene.hold();
    scene.erase();
    let mut kept: BTreeSet<_> = live().union(&erased()).cloned().collect();
    // A group's state that was replaced is no message.
    kept.remove(&scene::marker(500));
    assert_eq!(attacker.recover(dir.path()).read, kept, "sealed under the store's key, and under no other");

    scene.end_holds();
    drop(scene);
    attacker.recover(dir.path()).assert_live_alone();
}

#[test]
fn of_a_copy_of_an_open_store_no_erased_record_is_recovered() {
    let Some(attacker) = Attacker::find() else { return };
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut scene = Scene::new(dir.path());
    scene.erase();
    copy_dir(scene.dir(), copy.path()).unwrap();
    attacker.recover(copy.path()).assert_live_alone();
}

#[test]
fn of_a_killed_process_no_erased_record_is_recovered() {
    let Some(attacker) = Attacker::find() else { return };
    let dir = TempDir::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said = |line: String| line.strip_prefix(DROPPED).map(|number| scene::marker(number.parse().unwrap()));
    let mut dropped: BTreeSet<_> = lines.filter_map(said).take(AFTER).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(dropped.len(), AFTER, "the child has ended by itself");
    dropped.extend(erased());

    let check = |found: Found| {
        assert!(found.read.is_superset(&live()));
        assert_eq!(found.read.intersection(&dropped).next(), None);
    };
    check(attacker.recover(dir.path()));
    // Opening puts right what the crash has left, and brings nothing back.
    drop(scene::open(dir.path()));
    check(attacker.recover(dir.path()));
}

/// Not a test of its own: the process that is killed. It takes messages and drops every second of them.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let mut scene = Scene::new(Path::new(&dir));
    scene.erase();
    // The test runner has begun a line.
    println!();
    for number in (1_000..1_000_000).step_by(2) {
        scene.receive(Fate::Lives, number);
        scene.receive(Fate::Named, number + 1);
        scene.drop_named();
        println!("{DROPPED}{}", number + 1);
    }
}

#[test]
fn rows_from_before_the_erasure_say_nothing_without_their_keys() {
    let Some(attacker) = Attacker::find() else { return };
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut scene = Scene::new(dir.path());
    copy_dir(&scene.dir().join("store/rows"), &copy.path().join("rows-before")).unwrap();
    scene.erase();
    drop(scene);
    copy_dir(dir.path(), copy.path()).unwrap();
    attacker.recover(copy.path()).assert_live_alone();
}

#[test]
fn of_a_compacted_store_no_erased_record_is_recovered() {
    let Some(attacker) = Attacker::find() else { return };
    let (dir, removed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut scene = Scene::new(dir.path());
    scene.erase();
    copy_dir(&scene.dir().join("store/rows"), removed.path()).unwrap();
    scene.compact();
    assert!(!scene.dir().join("store/rows").exists());
    drop(scene);
    attacker.recover(dir.path()).assert_live_alone();
    // Its old directory is removed, and its blocks may still be there.
    copy_dir(removed.path(), &dir.path().join("carved")).unwrap();
    attacker.recover(dir.path()).assert_live_alone();
}

/// Control: where keys are kept among the rows, deleted records are given away.
#[test]
fn keys_that_are_kept_in_the_database_give_erased_records_away() {
    let Some(attacker) = Attacker::find() else { return };
    let dir = TempDir::new().unwrap();
    let mut scene = Scene::new(dir.path());
    let keys = attacker.keys(dir.path());
    assert!(keys.len() >= erased().len(), "{} keys", keys.len());
    scene.keep(&keys);
    scene.erase();
    drop(scene);
    attacker.recover(dir.path()).assert_erased_too();
}

/// Control: where a key file outlives the erasure, as on a file system with snapshots, so do the records.
#[test]
fn key_files_from_before_the_erasure_give_erased_records_away() {
    let Some(attacker) = Attacker::find() else { return };
    let (dir, before) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut scene = Scene::new(dir.path());
    copy_dir(&scene.dir().join("store/keys"), before.path()).unwrap();
    scene.erase();
    drop(scene);
    copy_dir(before.path(), &dir.path().join("carved")).unwrap();
    attacker.recover(dir.path()).assert_erased_too();
}

/// Control: the frames of an old slot are noise once the wrapping key is another one, and not before.
#[test]
fn frames_from_before_the_erasure_are_noise_only_because_the_wrapping_key_was_rotated() {
    const HEADER: usize = 80;
    let Some(attacker) = Attacker::find() else { return };
    let dir = TempDir::new().unwrap();
    let mut scene = Scene::new(dir.path());
    let slots: Vec<_> =
        list(&scene.dir().join("store/keys")).iter().map(|path| fs::read(path).unwrap()).collect();
    scene.erase();
    drop(scene);
    let carved = dir.path().join("carved");
    fs::create_dir(&carved).unwrap();
    for (number, slot) in slots.iter().enumerate() {
        fs::write(carved.join(format!("{number}.frames")), &slot[HEADER..]).unwrap();
    }
    attacker.recover(dir.path()).assert_live_alone();

    for (number, slot) in slots.iter().enumerate() {
        fs::write(carved.join(format!("{number}.header")), &slot[..HEADER]).unwrap();
    }
    attacker.recover(dir.path()).assert_erased_too();
}

struct Attacker {
    python: PathBuf,
}

/// What the attacker has found.
struct Found {
    read: BTreeSet<String>,
    whole: BTreeSet<String>,
    /// Ids of records.
    records: BTreeSet<String>,
}

impl Attacker {
    /// With a Python that can decrypt.
    fn find() -> Option<Self> {
        python::find("cryptography").map(|python| Self { python })
    }

    fn run(&self, dir: &Path, arguments: &[&str]) -> Value {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/forensics/recover.py");
        let mut command = Command::new(&self.python);
        command.arg(script).arg(dir).arg("marker-[0-9]{9}").args(arguments).stderr(Stdio::inherit());
        let output = command.output().unwrap();
        assert!(output.status.success(), "recover.py failed");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn recover(&self, dir: &Path) -> Found {
        let found = self.run(dir, &[]);
        let markers = |name: &str| serde_json::from_value(found[name].clone()).unwrap();
        Found { read: markers("recovered"), whole: markers("whole"), records: markers("records") }
    }

    /// The keys of all values, each behind its id.
    fn keys(&self, dir: &Path) -> Vec<Vec<u8>> {
        let found = self.run(dir, &["--show-keys"]);
        let keys: Vec<String> = serde_json::from_value(found["keys"].clone()).unwrap();
        keys.iter().map(|text| lanyard_crypto::ids::from_hex(text).unwrap()).collect()
    }
}

impl Found {
    fn assert_live_alone(&self) {
        assert_eq!(self.read, live());
        assert!(self.whole.is_superset(&live_messages()), "{:?}", self.whole);
    }

    fn assert_erased_too(&self) {
        let all: BTreeSet<_> = live().union(&erased()).cloned().collect();
        assert_eq!(self.read, all);
        assert!(self.whole.is_superset(&live_messages()), "{:?}", self.whole);
    }
}

fn list(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
