//! Key files as each step of a rewrite leaves them when a crash stops it there.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use lanyard_storage::limits::SHARD_KEYS_MAX;
use lanyard_storage::{Batch, StorageError, Store, Tree};
use tempfile::TempDir;

use super::attacker::{count_keys, recover};
use super::{STORE_KEY, delete_envelope, envelopes, open, put_envelope};

/// Directories before and after envelope 2 of 0..5 was deleted.
struct Rewrite {
    dir: TempDir,
    /// The shard before: slot a.
    before: Vec<u8>,
    /// The shard after: slot b.
    after: Vec<u8>,
}

impl Rewrite {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).unwrap();
        (0..5).for_each(|number| put_envelope(&store, number));
        let before = fs::read(dir.path().join("keys/000000.a")).unwrap();
        delete_envelope(&store, 2);
        drop(store);
        let after = fs::read(dir.path().join("keys/000000.b")).unwrap();
        Self { dir, before, after }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("keys").join(name)
    }

    /// Opens twice, with a commit between: 2 is gone for good, the others are there.
    fn check(&self) {
        for number in 10..12 {
            let store = open(self.dir.path()).unwrap();
            put_envelope(&store, number);
            assert_eq!(envelopes(&store, 0..10), [0, 1, 3, 4]);
            let live: BTreeSet<u32> = [0, 1, 3, 4].into_iter().chain(10..=number).collect();
            assert_eq!(recover(self.dir.path(), &STORE_KEY), live);
        }
        assert_eq!(count_keys(self.dir.path(), &STORE_KEY), 6);
    }
}

#[test]
fn stopped_while_the_draft_was_written() {
    let rewrite = Rewrite::new();
    fs::write(rewrite.file("000000.a"), &rewrite.before).unwrap();
    fs::remove_file(rewrite.file("000000.b")).unwrap();
    fs::write(rewrite.file("000000.new"), &rewrite.after[..100]).unwrap();
    rewrite.check();
    assert!(!rewrite.file("000000.new").exists());
}

#[test]
fn stopped_before_the_draft_got_its_name() {
    let rewrite = Rewrite::new();
    fs::write(rewrite.file("000000.a"), &rewrite.before).unwrap();
    fs::rename(rewrite.file("000000.b"), rewrite.file("000000.new")).unwrap();
    rewrite.check();
}

#[test]
fn stopped_before_the_old_slot_was_destroyed() {
    let rewrite = Rewrite::new();
    fs::write(rewrite.file("000000.a"), &rewrite.before).unwrap();
    rewrite.check();
    assert!(!rewrite.file("000000.a").exists());
}

#[test]
fn stopped_while_the_old_slot_was_destroyed() {
    for zeros in [8, 40, 80, 100, usize::MAX] {
        let rewrite = Rewrite::new();
        let mut old = rewrite.before.clone();
        old.iter_mut().take(zeros).for_each(|byte| *byte = 0);
        fs::write(rewrite.file("000000.a"), old).unwrap();
        rewrite.check();
    }
}

#[test]
fn a_torn_new_slot_beside_the_whole_old_one() {
    for len in [0, 20, 79, 80, 90] {
        let rewrite = Rewrite::new();
        fs::write(rewrite.file("000000.a"), &rewrite.before).unwrap();
        fs::write(rewrite.file("000000.b"), &rewrite.after[..len]).unwrap();
        rewrite.check();
    }
}

#[test]
fn a_torn_append() {
    for tail in [&[0][..], &[0; 500], &[0, 0, 0, 56, 1, 2, 3], &[&[0, 0, 0, 56][..], &[7; 68]].concat()] {
        let rewrite = Rewrite::new();
        let mut slot = fs::OpenOptions::new().append(true).open(rewrite.file("000000.b")).unwrap();
        slot.write_all(tail).unwrap();
        rewrite.check();
    }
}

#[test]
fn damage_is_not_taken_for_erasure() {
    let rewrite = Rewrite::new();
    let store = open(rewrite.dir.path()).unwrap();
    (10..12).for_each(|number| put_envelope(&store, number));
    drop(store);
    let whole = fs::read(rewrite.file("000000.b")).unwrap();
    let first_frame_end = rewrite.after.len();
    // In the header, in the first frame, and in the second of three.
    for at in [3, 25, 60, 100, first_frame_end - 1, first_frame_end + 4, first_frame_end + 50] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(rewrite.file("000000.b"), damaged).unwrap();
        let error = open(rewrite.dir.path()).unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{at}: {error}");
    }
    fs::write(rewrite.file("000000.b"), whole).unwrap();
    assert_eq!(envelopes(&open(rewrite.dir.path()).unwrap(), 0..11), [0, 1, 3, 4, 10]);
}

/// A crash between the keys and the rows of a commit leaves keys that no row names, or keys of rows that are
/// gone: both are erased on opening. Here: the shard of before, with the rows of after.
#[test]
fn keys_without_rows_are_erased() {
    let rewrite = Rewrite::new();
    fs::write(rewrite.file("000000.a"), &rewrite.before).unwrap();
    fs::remove_file(rewrite.file("000000.b")).unwrap();
    assert_eq!(count_keys(rewrite.dir.path(), &STORE_KEY), 5);
    let store = open(rewrite.dir.path()).unwrap();
    assert_eq!((store.reconciled().keys_erased, store.reconciled().rows_removed), (1, 0));
    assert_eq!(count_keys(rewrite.dir.path(), &STORE_KEY), 4);
}

#[test]
fn a_full_shard_is_followed_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let count = SHARD_KEYS_MAX as u32 + 10;
    let mut batch = Batch::new();
    (0..count)
        .for_each(|number| batch.put(Tree::Envelopes, number.to_be_bytes(), super::marked(number, 300)));
    store.commit(batch).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("keys")).unwrap().count(), 2);
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(store.reconciled(), Default::default());
    assert_eq!(envelopes(&store, 0..count).len() as u32, count);

    let mut batch = Batch::new();
    (0..count - 1).for_each(|number| batch.delete(Tree::Envelopes, number.to_be_bytes()));
    store.commit(batch).unwrap();
    assert_eq!(count_keys(dir.path(), &STORE_KEY), 1);
    assert_eq!(recover(dir.path(), &STORE_KEY), BTreeSet::from([count - 1]));
}
