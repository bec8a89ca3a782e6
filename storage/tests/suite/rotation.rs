//! The node's key is changed: the new one opens the store, the earlier one nothing that is on disk, whatever a crash has left; and stores
//! of earlier formats, which have the node's key for a master.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use lanyard_storage::limits::SHARD_KEYS_MAX;
use lanyard_storage::{Batch, StorageError, Store, Tree};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::attacker::{count_keys, mac, recover};
use super::{OWNER, STORE_KEY, copy, delete_envelope, envelopes, marked, open, open_as, put_envelope};

const NEW_KEY: [u8; 32] = [0x4e; 32];
/// More than one shard.
const COUNT: u32 = SHARD_KEYS_MAX as u32 + 5;
/// That the tests look at: of either shard.
const SAMPLE: std::ops::Range<u32> = COUNT - 10..COUNT;

#[test]
fn the_new_key_opens_everything_and_the_earlier_one_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    (0..9).for_each(|number| put_envelope(&store, number));
    let old = fs::read(dir.path().join("STORE")).unwrap();
    let kept = dir.path().join("kept");
    fs::hard_link(dir.path().join("STORE"), &kept).unwrap();
    store.rotate(Zeroizing::new(NEW_KEY)).unwrap();
    assert!(fs::read(&kept).unwrap().iter().all(|&byte| byte == 0), "the old STORE is overwritten in place");

    // It goes on, and so does erasure.
    put_envelope(&store, 9);
    delete_envelope(&store, 0);
    let live: BTreeSet<u32> = (1..10).collect();
    assert_eq!(recover(dir.path(), &NEW_KEY), live);
    drop(store);
    check_earlier_key(dir.path(), &old);
    let store = open_as(dir.path(), OWNER, NEW_KEY).unwrap();
    assert_eq!(store.reconciled(), Default::default());
    assert_eq!(envelopes(&store, 0..10), (1..10).collect::<Vec<_>>());

    store.rotate(Zeroizing::new(STORE_KEY)).unwrap();
    drop(store);
    assert!(matches!(open_as(dir.path(), OWNER, NEW_KEY), Err(StorageError::WrongStoreKey(_))));
    assert_eq!(envelopes(&open(dir.path()).unwrap(), 0..10), (1..10).collect::<Vec<_>>());
}

/// Each state that a crash can leave between two writes of a rotation, made of what was there before, of what a disk left that failed in
/// the middle, and of what is there after it.
#[test]
fn a_rotation_that_stops_anywhere_is_finished() {
    let before = tempfile::tempdir().unwrap();
    let store = open(before.path()).unwrap();
    let mut batch = Batch::new();
    (0..COUNT).for_each(|number| batch.put(Tree::Envelopes, number.to_be_bytes(), marked(number, 300)));
    store.commit(batch).unwrap();
    drop(store);
    let old = fs::read(before.path().join("STORE")).unwrap();

    // A directory stands where a draft would be written: there, this disk fails.
    let stopped = |obstacle: &str| {
        let dir = copy(before.path());
        let store = open(dir.path()).unwrap();
        fs::create_dir(dir.path().join(obstacle)).unwrap();
        assert!(store.rotate(Zeroizing::new(NEW_KEY)).is_err());
        let mut batch = Batch::new();
        batch.put(Tree::Meta, "key", "value");
        assert!(matches!(store.commit(batch), Err(StorageError::Stopped(_))));
        drop(store);
        fs::remove_dir(dir.path().join(obstacle)).unwrap();
        dir
    };
    let nothing_yet = stopped("STORE.new");
    check(nothing_yet, STORE_KEY, &old);
    let no_shard_yet = stopped("keys/000000.new");
    let both = fs::read(no_shard_yet.path().join("STORE")).unwrap();
    let lines = String::from_utf8(both.clone()).unwrap().lines().filter(|l| l.starts_with("master ")).count();
    assert_eq!(lines, 2);

    // Between the names of the two markers: the earlier one stands again.
    let dir = copy(before.path());
    fs::rename(dir.path().join("STORE"), dir.path().join("STORE.old")).unwrap();
    fs::write(dir.path().join("STORE.new"), &both).unwrap();
    check(dir, STORE_KEY, &old);
    // Before the earlier marker was destroyed, and in the middle of that.
    for zeros in [0, 30, old.len()] {
        let dir = copy(no_shard_yet.path());
        let left = [vec![0; zeros], old[zeros..].to_vec()].concat();
        fs::write(dir.path().join("STORE.old"), left).unwrap();
        check(dir, NEW_KEY, &old);
    }
    // The draft of the marker, whole or torn.
    for len in [40, both.len()] {
        let dir = copy(before.path());
        fs::write(dir.path().join("STORE.new"), &both[..len]).unwrap();
        check(dir, STORE_KEY, &old);
    }
    // Between the shards, and in the middle of one.
    check(stopped("keys/000001.new"), NEW_KEY, &old);
    let dir = stopped("keys/000001.new");
    fs::copy(before.path().join("keys/000000.a"), dir.path().join("keys/000000.a")).unwrap();
    check(dir, NEW_KEY, &old);

    // After the last shard, with both masters; and around the last marker.
    let after = copy(no_shard_yet.path());
    drop(open_as(after.path(), OWNER, NEW_KEY).unwrap());
    let last = fs::read(after.path().join("STORE")).unwrap();
    for (names, key) in [
        (vec![("STORE", &both)], NEW_KEY),
        (vec![("STORE", &both), ("STORE.new", &last)], NEW_KEY),
        (vec![("STORE.old", &both), ("STORE.new", &last)], NEW_KEY),
        (vec![("STORE", &last), ("STORE.old", &both)], NEW_KEY),
    ] {
        let dir = copy(after.path());
        fs::remove_file(dir.path().join("STORE")).unwrap();
        names.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
        check(dir, key, &old);
    }
    check(no_shard_yet, NEW_KEY, &old);
    check(after, NEW_KEY, &old);
}

/// A store as format 2 wrote it: its secrets derive from the node's key, and `STORE` seals none.
#[test]
fn an_earlier_format_becomes_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let owner = hex(&OWNER);
    let key_check = hex(&mac(&STORE_KEY, b"lanyard/storage/derive/key-check/v1"));
    let row_key = mac(&STORE_KEY, b"lanyard/storage/derive/row-key/v1");
    let sealed = [sealed("row-key", &row_key), sealed("master", &STORE_KEY)].join("\n");
    let made = format!("lanyard-store\nformat 3\nowner {owner}\nkey-check {key_check}\nrows 0\n{sealed}\n");
    fs::write(dir.path().join("STORE"), made).unwrap();
    let store = open(dir.path()).unwrap();
    (0..3).for_each(|number| put_envelope(&store, number));
    drop(store);
    for format in [1, 2] {
        let earlier = format!("lanyard-store\nformat {format}\nowner {owner}\nkey-check {key_check}\n");
        fs::write(dir.path().join("STORE"), &earlier).unwrap();
        assert!(matches!(open_as(dir.path(), OWNER, NEW_KEY), Err(StorageError::WrongStoreKey(_))));
        assert_eq!(fs::read_to_string(dir.path().join("STORE")).unwrap(), earlier, "left alone");
        let store = open(dir.path()).unwrap();
        assert_eq!(store.reconciled(), Default::default());
        assert_eq!(envelopes(&store, 0..4), [0, 1, 2]);
        let text = fs::read_to_string(dir.path().join("STORE")).unwrap();
        assert!(text.starts_with("lanyard-store\nformat 3\n") && text.contains("\nmaster "), "{text}");
    }
    // Stopped before the marker of the new format stood.
    let earlier = format!("lanyard-store\nformat 2\nowner {owner}\nkey-check {key_check}\n");
    fs::rename(dir.path().join("STORE"), dir.path().join("STORE.new")).unwrap();
    fs::write(dir.path().join("STORE.old"), &earlier).unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!(envelopes(&store, 0..4), [0, 1, 2]);

    store.rotate(Zeroizing::new(NEW_KEY)).unwrap();
    drop(store);
    check_earlier_key(dir.path(), earlier.as_bytes());
    assert_eq!(envelopes(&open_as(dir.path(), OWNER, NEW_KEY).unwrap(), 0..4), [0, 1, 2]);
}

/// The state opens with this key and no other; once the new key stands, the earlier one opens nothing.
fn check(dir: TempDir, key: [u8; 32], old: &[u8]) {
    let other = if key == STORE_KEY { NEW_KEY } else { STORE_KEY };
    let dir = dir.path();
    assert!(matches!(open_as(dir, OWNER, other), Err(StorageError::WrongStoreKey(_))));
    let store = open_as(dir, OWNER, key).unwrap();
    assert_eq!(store.reconciled(), Default::default());
    assert_eq!(envelopes(&store, SAMPLE), SAMPLE.collect::<Vec<_>>());
    if key == STORE_KEY {
        store.rotate(Zeroizing::new(NEW_KEY)).unwrap();
    }
    drop(store);
    check_earlier_key(dir, old);
    assert_eq!(count_keys(dir, &NEW_KEY), COUNT as usize);
    let store = open_as(dir, OWNER, NEW_KEY).unwrap();
    assert_eq!(envelopes(&store, SAMPLE), SAMPLE.collect::<Vec<_>>());
}

/// With the earlier key, nothing of the store can be opened, also not with a copy of the earlier `STORE` beside it.
fn check_earlier_key(dir: &Path, old: &[u8]) {
    assert!(matches!(open_as(dir, OWNER, STORE_KEY), Err(StorageError::WrongStoreKey(_))));
    for name in ["STORE.old", "STORE.new"] {
        assert!(!dir.join(name).exists(), "{name} is left");
    }
    fs::write(dir.join("carved"), old).unwrap();
    assert_eq!(count_keys(dir, &STORE_KEY), 0);
    assert_eq!(recover(dir, &STORE_KEY), BTreeSet::new());
    fs::remove_file(dir.join("carved")).unwrap();
}

/// A line of `STORE`, made from the description of the file.
fn sealed(name: &str, secret: &[u8; 32]) -> String {
    let seal = mac(&STORE_KEY, b"lanyard/storage/derive/store-seal/v1");
    let aad = [b"lanyard/storage/seal/store-secret/v1", &OWNER[..], name.as_bytes()].concat();
    let nonce = [7; 12];
    let sealed =
        Aes256Gcm::new(&seal.into()).encrypt(&nonce.into(), Payload { msg: secret, aad: &aad }).unwrap();
    format!("{name} {}", hex(&[&nonce[..], &sealed].concat()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
