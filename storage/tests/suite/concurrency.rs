//! Many threads at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lanyard_storage::{Batch, MemoryStore, Overlay, StorageError, Store, Tree, View, limits};

use super::{envelopes, open};

const THREADS: u32 = 8;
const COMMITS: u32 = 40;

/// Each commit is seen by its thread as soon as it returns, and by everyone as a whole; all are there again
/// after opening.
#[test]
fn threads_commit_together() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let mut batch = Batch::new();
    batch.put(Tree::Hub, "last", long(0));
    store.commit(batch).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || {
                    for number in (thread * COMMITS)..((thread + 1) * COMMITS) {
                        let mut batch = Batch::new();
                        batch.put(Tree::Envelopes, number.to_be_bytes(), super::marked(number, 300));
                        batch.put(Tree::Expiry, number.to_be_bytes(), "");
                        // One row that every thread writes, in two trees: they must never differ.
                        batch.put(Tree::Meta, "last", number.to_be_bytes());
                        batch.put(Tree::Hub, "last", long(number));
                        batch.put(Tree::Inbox, "low", number.to_be_bytes());
                        batch.put(Tree::Inbox, "\u{7f}high", number.to_be_bytes());
                        store.commit(batch).unwrap();
                        assert_eq!(envelopes(store, number..number + 1), [number]);
                    }
                })
            })
            .collect();
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Ordering::Relaxed) {
                let rows = store.scan_prefix(Tree::Inbox, b"", 9).unwrap();
                assert!(rows.windows(2).all(|rows| rows[0].1 == rows[1].1), "half a batch: {rows:?}");
                // Its row, parts and key change with every commit: it must be there, and whole.
                let value = store.get(Tree::Hub, b"last").unwrap().expect("a row that is never deleted");
                assert!(value == long(u32::from_be_bytes(value[..4].try_into().unwrap())));
                reads += 1;
            }
            reads
        });
        let failed: Vec<_> = writers.into_iter().filter_map(|writer| writer.join().err()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(failed.is_empty());
        assert!(reader.join().unwrap() > 0);
    });
    let last = store.get(Tree::Meta, b"last").unwrap().unwrap();
    let last = long(u32::from_be_bytes(last.try_into().unwrap()));
    assert!(store.get(Tree::Hub, b"last").unwrap() == Some(last));
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(envelopes(&store, 0..THREADS * COMMITS).len() as u32, THREADS * COMMITS);
    assert_eq!(store.scan_prefix(Tree::Expiry, b"", 9999).unwrap().len() as u32, THREADS * COMMITS);
}

/// A value in several parts that tells its number.
fn long(number: u32) -> Vec<u8> {
    number.to_be_bytes().repeat(3_000)
}

/// What was begun is there in the order in which it was begun, and whoever reads through its batch meanwhile sees what will be.
#[test]
fn a_commit_goes_on_while_its_caller_reads_through_its_batch() {
    fn check(store: &impl Store) {
        let mut before = Batch::new();
        before.put(Tree::Inbox, "old", "1");
        before.put(Tree::Envelopes, "old", "1");
        store.commit(before).unwrap();
        for number in 0..20u32 {
            let mut first = Batch::new();
            first.delete(Tree::Inbox, "old");
            first.shred(Tree::Envelopes, "old");
            first.put(Tree::Inbox, "new", number.to_be_bytes());
            first.put(Tree::Envelopes, "new", number.to_be_bytes());
            let first = Arc::new(first);
            let mut committing = store.begin(&first).unwrap();
            let coming = Overlay::with(store, first.clone());
            loop {
                let ended = committing.has_ended();
                let rows = coming.scan_prefix(Tree::Inbox, b"", 2).unwrap();
                assert_eq!(rows, [(b"new".to_vec(), number.to_be_bytes().to_vec())]);
                assert_eq!(coming.get(Tree::Envelopes, b"new").unwrap(), Some(number.to_be_bytes().to_vec()));
                assert!(!coming.contains(Tree::Envelopes, b"old").unwrap());
                if ended {
                    break;
                }
            }
            committing.wait().unwrap();
            assert!(!store.contains(Tree::Inbox, b"old").unwrap());
            // Two that are under way at once.
            let put = |value: u32| {
                let mut batch = Batch::new();
                batch.put(Tree::Meta, "last", value.to_be_bytes());
                store.begin(&Arc::new(batch)).unwrap()
            };
            let both = [put(2 * number), put(2 * number + 1)];
            both.into_iter().for_each(|committing| committing.wait().unwrap());
            let last = store.get(Tree::Meta, b"last").unwrap();
            assert_eq!(last, Some((2 * number + 1).to_be_bytes().to_vec()));
        }
        let mut large = Batch::new();
        large.put(Tree::Meta, "key", vec![0; limits::VALUE_BYTES_MAX + 1]);
        assert!(matches!(store.begin(&Arc::new(large)), Err(StorageError::TooLarge { .. })));
    }
    let dir = tempfile::tempdir().unwrap();
    check(&open(dir.path()).unwrap());
    check(&MemoryStore::new());
}
