//! The same rules on every backend.

use std::ops::Bound::{Excluded, Included, Unbounded};

use lanyard_storage::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use lanyard_storage::{Batch, MemoryStore, Overlay, Range, StorageError, Store, Tree, View};

use super::open;

#[test]
fn memory() {
    every_rule(MemoryStore::new);
}

#[test]
fn sled() {
    let dir = tempfile::tempdir().unwrap();
    let mut number = 0;
    every_rule(|| {
        number += 1;
        open(&dir.path().join(number.to_string())).unwrap()
    });
}

fn every_rule<S: Store>(mut new: impl FnMut() -> S) {
    rows_are_set_and_removed(&new());
    ranges_have_bounds_and_limits(&new());
    sealed_trees_are_read_by_key(&new());
    what_is_shredded_is_not_there(&new());
    a_refused_batch_changes_nothing(&new());
    long_values_are_whole(&new());
    an_overlay_shows_its_own_writes(&new());
}

fn rows_are_set_and_removed(store: &impl Store) {
    let mut batch = Batch::new();
    batch.put(Tree::Meta, "a", "1");
    batch.put(Tree::Audit, "a", "2");
    batch.put(Tree::Members, "empty", "");
    batch.delete(Tree::Meta, "not there");
    store.commit(batch).unwrap();
    store.commit(Batch::new()).unwrap();
    assert_eq!(store.get(Tree::Meta, b"a").unwrap(), Some(b"1".to_vec()));
    assert_eq!(store.get(Tree::Audit, b"a").unwrap(), Some(b"2".to_vec()));
    assert!(store.contains(Tree::Members, b"empty").unwrap());

    let mut batch = Batch::new();
    batch.delete(Tree::Meta, "a");
    batch.put(Tree::Audit, "a", "3");
    store.commit(batch).unwrap();
    assert_eq!(store.get(Tree::Meta, b"a").unwrap(), None);
    assert_eq!(store.get(Tree::Audit, b"a").unwrap(), Some(b"3".to_vec()));
}

fn ranges_have_bounds_and_limits(store: &impl Store) {
    let keys: [&[u8]; 6] = [b"", b"a", b"ab", b"b", b"\xff", b"\xff\xff\x01"];
    let mut batch = Batch::new();
    keys.iter().for_each(|key| batch.put(Tree::Expiry, *key, *key));
    store.commit(batch).unwrap();

    let forth = |range: Range, limit| names(store.scan(Tree::Expiry, range, limit).unwrap());
    let back = |range: Range, limit| names(store.scan_back(Tree::Expiry, range, limit).unwrap());
    assert_eq!(forth((Unbounded, Unbounded), 9), keys);
    assert_eq!(forth((Unbounded, Unbounded), 2), keys[..2]);
    assert_eq!(forth((Excluded(b"a"), Included(b"b")), 9), keys[2..4]);
    assert_eq!(forth((Included(b"a"), Excluded(b"b")), 9), keys[1..3]);
    assert_eq!(back((Unbounded, Unbounded), 2), [keys[5], keys[4]]);
    assert_eq!(back((Included(b"a"), Excluded(b"b")), 9), [keys[2], keys[1]]);
    assert_eq!(back((Unbounded, Unbounded), 0).len(), 0);

    // Ranges without a key are empty, not wrong.
    for range in [
        (Included(&b"b"[..]), Included(&b"a"[..])),
        (Excluded(b"a"), Excluded(b"a")),
        (Included(b"a"), Excluded(b"a")),
    ] {
        assert_eq!(forth(range, 9).len(), 0);
        assert_eq!(back(range, 9).len(), 0);
    }
    let prefixed = |prefix: &[u8]| names(store.scan_prefix(Tree::Expiry, prefix, 9).unwrap());
    assert_eq!(prefixed(b"a"), keys[1..3]);
    assert_eq!(prefixed(b"\xff"), keys[4..]);
    assert_eq!(prefixed(b""), keys);
    assert_eq!(names(store.scan_prefix_back(Tree::Expiry, b"a", 1).unwrap()), [keys[2]]);
}

fn sealed_trees_are_read_by_key(store: &impl Store) {
    for tree in Tree::ALL.iter().copied().filter(|tree| tree.sealed()) {
        for value in ["1", "22"] {
            let mut batch = Batch::new();
            batch.put(tree, "a", value);
            store.commit(batch).unwrap();
            assert_eq!(store.get(tree, b"a").unwrap(), Some(value.into()));
        }
        let refused = store.scan(tree, (Unbounded, Unbounded), 1);
        assert!(matches!(refused, Err(StorageError::SealedScan(t)) if t == tree));
        assert!(store.scan_back(tree, (Unbounded, Unbounded), 1).is_err());
        let mut batch = Batch::new();
        batch.delete(tree, "a");
        store.commit(batch).unwrap();
        assert_eq!(store.get(tree, b"a").unwrap(), None);
    }
}

fn what_is_shredded_is_not_there(store: &impl Store) {
    let mut batch = Batch::new();
    ["a", "b"].iter().for_each(|key| batch.put(Tree::Envelopes, *key, "value"));
    store.commit(batch).unwrap();
    let mut overlay = Overlay::new(store);
    overlay.shred(Tree::Envelopes, "a");
    overlay.shred(Tree::Envelopes, "missing");
    for (key, there) in [(b"a", false), (b"b", true)] {
        assert_eq!(overlay.contains(Tree::Envelopes, key).unwrap(), there);
        assert_eq!(overlay.get(Tree::Envelopes, key).unwrap().is_some(), there);
    }
    let batch = overlay.into_batch();
    store.commit(batch).unwrap();
    for (key, there) in [(b"a", false), (b"b", true)] {
        assert_eq!(store.contains(Tree::Envelopes, key).unwrap(), there);
        assert_eq!(store.get(Tree::Envelopes, key).unwrap().is_some(), there);
    }
}

fn a_refused_batch_changes_nothing(store: &impl Store) {
    for (key_len, value_len) in [(KEY_BYTES_MAX + 1, 0), (1, VALUE_BYTES_MAX + 1)] {
        let mut batch = Batch::new();
        batch.put(Tree::Meta, "a", "1");
        batch.put(Tree::Audit, vec![7; key_len], vec![7; value_len]);
        assert!(matches!(store.commit(batch), Err(StorageError::TooLarge { .. })));
        assert_eq!(store.get(Tree::Meta, b"a").unwrap(), None);
    }
    let mut batch = Batch::new();
    batch.put(Tree::Meta, vec![7; KEY_BYTES_MAX], "1");
    store.commit(batch).unwrap();
    assert!(store.contains(Tree::Meta, &[7; KEY_BYTES_MAX]).unwrap());
}

fn long_values_are_whole(store: &impl Store) {
    for tree in [Tree::Records, Tree::Envelopes] {
        for len in [0, 1, 4095, 4096, 4097, 8192, 100_000, 1 << 20, 5000, VALUE_BYTES_MAX as u32, 3] {
            let value: Vec<u8> = (0..len).map(|i: u32| (i % 251) as u8).collect();
            let mut batch = Batch::new();
            batch.put(tree, "long", value.clone());
            store.commit(batch).unwrap();
            assert!(store.get(tree, b"long").unwrap() == Some(value), "{len} bytes");
        }
    }
}

fn an_overlay_shows_its_own_writes(store: &impl Store) {
    let mut batch = Batch::new();
    ["b", "d", "f", "h"].iter().for_each(|key| batch.put(Tree::Expiry, *key, "old"));
    store.commit(batch).unwrap();

    let mut overlay = Overlay::new(store);
    overlay.delete(Tree::Expiry, "b");
    overlay.put(Tree::Expiry, "c", "new");
    overlay.put(Tree::Expiry, "d", "new");
    overlay.delete(Tree::Expiry, "x");
    overlay.put(Tree::Envelopes, "e", "new");
    assert_eq!(overlay.get(Tree::Expiry, b"b").unwrap(), None);
    assert_eq!(overlay.get(Tree::Expiry, b"d").unwrap(), Some(b"new".to_vec()));
    assert_eq!(overlay.get(Tree::Expiry, b"f").unwrap(), Some(b"old".to_vec()));
    assert_eq!(overlay.get(Tree::Envelopes, b"e").unwrap(), Some(b"new".to_vec()));
    assert!(overlay.scan(Tree::Envelopes, (Unbounded, Unbounded), 1).is_err());
    let all: Range = (Unbounded, Unbounded);
    for limit in 0..6 {
        let n = limit.min(4);
        assert_eq!(names(overlay.scan(Tree::Expiry, all, limit).unwrap()), &[b"c", b"d", b"f", b"h"][..n]);
        assert_eq!(
            names(overlay.scan_back(Tree::Expiry, all, limit).unwrap()),
            &[b"h", b"f", b"d", b"c"][..n]
        );
    }
    assert_eq!(store.get(Tree::Expiry, b"c").unwrap(), None);
    let batch = overlay.into_batch();
    store.commit(batch).unwrap();
    assert_eq!(names(store.scan(Tree::Expiry, all, 9).unwrap()), [b"c", b"d", b"f", b"h"]);
}

fn names(rows: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<Vec<u8>> {
    rows.into_iter().map(|(key, _)| key).collect()
}
