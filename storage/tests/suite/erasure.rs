//! What was deleted can't be recovered from the data directory and the store key; what is live can (P6).

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use lanyard_storage::{Batch, Store, Tree, View};

use super::attacker::{count_keys, recover};
use super::{STORE_KEY, copy_dir, delete_envelope, envelopes, marked, open, put_envelope};

#[test]
fn deleted_envelopes_are_gone_and_live_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    (0..60).for_each(|number| put_envelope(&store, number));
    assert_eq!(recover(dir.path(), &STORE_KEY), (0..60).collect(), "the attacker knows how");
    assert_eq!(recover(dir.path(), &[9; 32]), BTreeSet::new(), "and needs the store key");

    (0..60).step_by(3).for_each(|number| delete_envelope(&store, number));
    let live: BTreeSet<u32> = (0..60).filter(|number| number % 3 != 0).collect();
    assert_eq!(recover(dir.path(), &STORE_KEY), live);
    assert_eq!(envelopes(&store, 0..60), live.iter().copied().collect::<Vec<_>>());

    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(recover(dir.path(), &STORE_KEY), live);
    live.iter().for_each(|&number| delete_envelope(&store, number));
    assert_eq!(recover(dir.path(), &STORE_KEY), BTreeSet::new());
    assert_eq!(count_keys(dir.path(), &STORE_KEY), 0);
    assert_eq!(fs::read_dir(dir.path().join("keys")).unwrap().count(), 0);
}

#[test]
fn replaced_and_long_values_are_gone_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for number in 0..5 {
        let mut batch = Batch::new();
        batch.put(Tree::Hub, "conversation", marked(number, 50_000));
        store.commit(batch).unwrap();
        assert_eq!(recover(dir.path(), &STORE_KEY), BTreeSet::from([number]));
    }
    assert_eq!(count_keys(dir.path(), &STORE_KEY), 1);
    let mut batch = Batch::new();
    batch.delete(Tree::Hub, "conversation");
    store.commit(batch).unwrap();
    assert_eq!(recover(dir.path(), &STORE_KEY), BTreeSet::new());
}

#[test]
fn what_is_shredded_is_gone_before_its_row_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    (0..9).for_each(|number| put_envelope(&store, number));
    let mut batch = Batch::new();
    (0..9).step_by(3).for_each(|number: u32| batch.shred(Tree::Envelopes, number.to_be_bytes()));
    store.commit(batch).unwrap();
    let live: BTreeSet<u32> = (0..9).filter(|number| number % 3 != 0).collect();
    assert_eq!(recover(dir.path(), &STORE_KEY), live);
    assert_eq!(envelopes(&store, 0..9), live.iter().copied().collect::<Vec<_>>());
    assert!(!store.contains(Tree::Envelopes, &0u32.to_be_bytes()).unwrap());
    assert!(store.contains(Tree::Envelopes, &1u32.to_be_bytes()).unwrap());

    // A row that has lost its value is deleted, or is given another one, as any other.
    delete_envelope(&store, 0);
    put_envelope(&store, 3);
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(
        (store.reconciled().keys_erased, store.reconciled().rows_removed),
        (0, 1),
        "the last of the three"
    );
    let live: BTreeSet<u32> = live.into_iter().chain([3]).collect();
    assert_eq!(recover(dir.path(), &STORE_KEY), live);
    assert_eq!(envelopes(&store, 0..9), live.into_iter().collect::<Vec<_>>());
}

#[test]
fn erasure_that_is_deferred_comes_soon() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    (0..9).for_each(|number| put_envelope(&store, number));
    let defer = |numbers: std::ops::Range<u32>| {
        let mut batch = Batch::new();
        numbers.for_each(|number| batch.delete(Tree::Envelopes, number.to_be_bytes()));
        batch.defer_erasure();
        store.commit(batch).unwrap();
    };
    defer(0..3);
    assert_eq!(envelopes(&store, 0..9), [3, 4, 5, 6, 7, 8], "read by nobody from now on");
    let begun = Instant::now();
    while recover(dir.path(), &STORE_KEY).contains(&0) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not come");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(recover(dir.path(), &STORE_KEY), (3..9).collect());

    defer(3..5);
    delete_envelope(&store, 5);
    assert_eq!(recover(dir.path(), &STORE_KEY), (6..9).collect(), "with what can't wait in the same shard");

    defer(6..7);
    drop(store);
    assert_eq!(recover(dir.path(), &STORE_KEY), (7..9).collect(), "at the latest when the store is closed");
}

/// A second name for the old slot keeps its blocks reachable: they must have been overwritten, not only unlinked.
#[test]
fn the_old_slot_is_overwritten_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    (0..5).for_each(|number| put_envelope(&store, number));
    let (slot, kept) = (dir.path().join("keys/000000.a"), dir.path().join("kept"));
    fs::hard_link(&slot, &kept).unwrap();
    assert!(fs::read(&kept).unwrap().starts_with(b"LANYKEY1"));
    delete_envelope(&store, 2);
    assert!(!slot.exists());
    assert!(fs::read(&kept).unwrap().iter().all(|&byte| byte == 0));
    assert_eq!(recover(dir.path(), &STORE_KEY), BTreeSet::from([0, 1, 3, 4]));
}

/// Row keys stay on disk after deletion, so they must not tell which envelope was here.
#[test]
fn row_keys_of_sealed_trees_are_opaque() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let mut batch = Batch::new();
    batch.put(Tree::Envelopes, "marker-000000007", "content");
    batch.put(Tree::Records, "marker-000000008", "content");
    store.commit(batch).unwrap();
    assert_eq!(recover(dir.path(), &STORE_KEY), BTreeSet::from([8]));
}

/// A backup of the rows alone does not bring back what was erased since.
#[test]
fn restored_rows_without_keys_stay_erased() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    (0..6).for_each(|number| put_envelope(&store, number));
    drop(store);
    let backup = tempfile::tempdir().unwrap();
    copy_dir(&dir.path().join("rows"), backup.path());
    let store = open(dir.path()).unwrap();
    (0..2).for_each(|number| delete_envelope(&store, number));
    drop(store);
    fs::remove_dir_all(dir.path().join("rows")).unwrap();
    copy_dir(backup.path(), &dir.path().join("rows"));

    let store = open(dir.path()).unwrap();
    assert_eq!(store.reconciled().rows_removed, 2);
    assert_eq!(envelopes(&store, 0..6), [2, 3, 4, 5]);
    assert_eq!(recover(dir.path(), &STORE_KEY), BTreeSet::from([2, 3, 4, 5]));
    drop(store);
    assert_eq!(open(dir.path()).unwrap().reconciled(), Default::default());
}

#[test]
fn one_batch_erases_and_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    put_envelope(&store, 1);
    let mut batch = Batch::new();
    batch.delete(Tree::Envelopes, 1u32.to_be_bytes());
    batch.put(Tree::Envelopes, 2u32.to_be_bytes(), marked(2, 300));
    batch.put(Tree::Tombstones, "target", "tombstone");
    store.commit(batch).unwrap();
    assert_eq!(envelopes(&store, 0..3), [2]);
    assert!(store.contains(Tree::Tombstones, b"target").unwrap());
    assert_eq!(recover(dir.path(), &STORE_KEY), BTreeSet::from([2]));
}
