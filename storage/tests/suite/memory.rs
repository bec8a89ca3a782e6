//! What only the memory backend does: crash and fail on demand.

use lanyard_storage::{Batch, MemoryStore, StorageError, Store, Tree, View};

fn put(store: &MemoryStore, key: &str, value: &str) -> Result<(), StorageError> {
    let mut batch = Batch::new();
    batch.put(Tree::Meta, key, value);
    store.commit(batch)
}

fn value(store: &MemoryStore, key: &str) -> Option<Vec<u8>> {
    store.get(Tree::Meta, key.as_bytes()).unwrap()
}

#[test]
fn a_crash_loses_what_was_not_synced() {
    let store = MemoryStore::deferred();
    put(&store, "a", "1").unwrap();
    store.sync();
    let synced = store.rows();
    put(&store, "a", "2").unwrap();
    put(&store, "b", "1").unwrap();
    let mut batch = Batch::new();
    batch.delete(Tree::Meta, "a");
    store.commit(batch).unwrap();
    assert_eq!((store.unsynced(), value(&store, "a")), (3, None));

    let other = store.clone();
    store.crash();
    assert_eq!(other.rows(), synced);
    assert_eq!(store.unsynced(), 0);
}

#[test]
fn a_crash_may_keep_the_first_commits() {
    let store = MemoryStore::deferred();
    for key in ["a", "b", "c"] {
        put(&store, key, "1").unwrap();
    }
    store.crash_keeping(2);
    let kept: Vec<_> = ["a", "b", "c"].iter().filter(|key| value(&store, key).is_some()).collect();
    assert_eq!(kept, [&"a", &"b"]);
    store.crash();
    assert!(value(&store, "a").is_some(), "what survived a crash survives the next");
}

#[test]
fn without_deferral_every_commit_survives() {
    let store = MemoryStore::new();
    put(&store, "a", "1").unwrap();
    store.crash();
    assert_eq!(value(&store, "a"), Some(b"1".to_vec()));
}

#[test]
fn a_fault_stops_the_store_until_it_restarts() {
    let store = MemoryStore::new();
    store.fail_next(StorageError::Full);
    assert!(matches!(put(&store, "a", "1"), Err(StorageError::Full)));
    assert!(matches!(put(&store, "a", "1"), Err(StorageError::Stopped(_))));
    assert_eq!(value(&store, "a"), None);
    store.crash();
    put(&store, "a", "1").unwrap();
}
