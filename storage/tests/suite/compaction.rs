//! Compaction and backups: what lives is all there, before, meanwhile and after, and what was erased does not come back.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lanyard_storage::{Batch, SledStore, StorageError, Store, Tree, View};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::attacker::{count_keys, recover};
use super::{
    OWNER, STORE_KEY, copy, copy_dir, delete_envelope, envelopes, marked, open, open_as, put_envelope,
};

/// Envelopes of a kibibyte and rows about them, of which nine in ten are deleted again.
const COUNT: u32 = 4_000;
const KIB: usize = 1024;

fn put(store: &SledStore, numbers: impl Iterator<Item = u32>) {
    let mut batch = Batch::new();
    for number in numbers {
        batch.put(Tree::Envelopes, number.to_be_bytes(), marked(number, KIB));
        batch.put(Tree::Holdings, number.to_be_bytes(), [7; 40]);
        batch.put(Tree::Expiry, number.to_be_bytes(), "");
    }
    store.commit(batch).unwrap();
}

fn delete(store: &SledStore, numbers: impl Iterator<Item = u32>) {
    let mut batch = Batch::new();
    for number in numbers {
        for tree in [Tree::Envelopes, Tree::Holdings, Tree::Expiry] {
            batch.delete(tree, number.to_be_bytes());
        }
    }
    store.commit(batch).unwrap();
}

/// Whether a number lives on.
fn lives(number: u32) -> bool {
    number.is_multiple_of(10)
}

/// A store with a tenth of what it once had, and a few long values.
fn filled(dir: &Path) -> SledStore {
    let store = open(dir).unwrap();
    for first in (0..COUNT).step_by(500) {
        put(&store, first..first + 500);
    }
    let mut batch = Batch::new();
    (0..3).for_each(|n: u32| batch.put(Tree::Hub, n.to_be_bytes(), marked(900_000 + n, 50_000)));
    store.commit(batch).unwrap();
    for first in (0..COUNT).step_by(500) {
        delete(&store, (first..first + 500).filter(|&number| !lives(number)));
    }
    store
}

fn check(store: &impl View) {
    let row = |number: u32| store.get(Tree::Envelopes, &number.to_be_bytes()).unwrap();
    for number in 0..COUNT {
        let expected = lives(number).then(|| marked(number, KIB));
        assert!(row(number) == expected, "envelope {number}");
    }
    let numbers = |tree| store.scan_prefix(tree, b"", usize::MAX).unwrap().into_iter().map(|(key, _)| key);
    let expected: Vec<Vec<u8>> = (0..COUNT).filter(|&n| lives(n)).map(|n| n.to_be_bytes().to_vec()).collect();
    assert!(numbers(Tree::Holdings).eq(expected.clone()) && numbers(Tree::Expiry).eq(expected));
    for n in 0..3u32 {
        assert!(store.get(Tree::Hub, &n.to_be_bytes()).unwrap() == Some(marked(900_000 + n, 50_000)));
    }
}

fn live() -> BTreeSet<u32> {
    (0..COUNT).filter(|&number| lives(number)).chain(900_000..900_003).collect()
}

fn rows_dirs(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("rows")).collect();
    names.sort();
    names
}

#[test]
fn space_comes_back_and_nothing_else_does() {
    let (dir, before) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = filled(dir.path());
    copy_dir(&dir.path().join("rows"), before.path());
    let compacted = store.compact().unwrap();
    let files = |name: &str| {
        fs::read_dir(dir.path().join(name)).unwrap().map(|e| e.unwrap().metadata().unwrap().len())
    };
    let on_disk: u64 = files("rows.1").chain(files("keys")).sum();
    assert!(compacted.after_bytes.abs_diff(on_disk) < 8192, "{compacted:?}, and {on_disk} on the disk");
    assert!(compacted.after_bytes <= 2 * compacted.live_bytes, "{compacted:?}");
    assert!(compacted.before_bytes > 4 * compacted.after_bytes, "{compacted:?}");
    let expected = u64::from(COUNT / 10) * (32 + 14 + 1024 + 16 + 4 + 42 + 4 + 2 + 40);
    let expected = expected + 3 * (32 + 34 + 50_016 + 13 * 18 + 40);
    assert_eq!(compacted.live_bytes, expected);
    assert_eq!(rows_dirs(dir.path()), ["rows.1"]);
    check(&store);
    assert_eq!(recover(dir.path(), &STORE_KEY), live());
    // The directory that was removed, with the keys after it.
    copy_dir(before.path(), &dir.path().join("carved"));
    assert_eq!(recover(dir.path(), &STORE_KEY), live());
    fs::remove_dir_all(dir.path().join("carved")).unwrap();

    // It goes on, is opened again, and is compacted again.
    put_envelope(&store, COUNT + 1);
    delete_envelope(&store, COUNT + 1);
    store.compact().unwrap();
    assert_eq!(rows_dirs(dir.path()), ["rows.2"]);
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(store.reconciled(), Default::default());
    check(&store);
    delete(&store, (0..COUNT).filter(|&number| lives(number)));
    assert_eq!(recover(dir.path(), &STORE_KEY), (900_000..900_003).collect());
}

/// Threads that read and commit while the store is compacted again and again miss nothing and get nothing back.
#[test]
fn commits_and_reads_go_on_meanwhile() {
    const ROUNDS: u32 = 60;
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let done = AtomicBool::new(false);
    let mut compactions = 0;
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..ROUNDS {
                // Added, replaced and deleted, on both sides of wherever the copy is.
                let numbers = || (0..8).map(|n| COUNT + round + n * 1_000);
                put(&store, numbers());
                for number in numbers() {
                    put_envelope(&store, number);
                }
                if round % 2 == 0 {
                    delete(&store, numbers());
                }
                let mut batch = Batch::new();
                batch.put(Tree::Hub, 0u32.to_be_bytes(), marked(900_000, 50_000));
                store.commit(batch).unwrap();
            }
        });
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert_eq!(envelopes_of(&store, 10), Some(marked(10, KIB)));
                assert!(store.get(Tree::Hub, &0u32.to_be_bytes()).unwrap() == Some(marked(900_000, 50_000)));
                assert!(store.scan_prefix(Tree::Expiry, b"", 50).unwrap().len() == 50);
            }
        });
        while !writer.is_finished() {
            store.compact().unwrap();
            compactions += 1;
        }
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        reader.join().unwrap();
    });
    assert!(compactions > 1, "{compactions} while all was committed");
    let numbers = || (0..ROUNDS).flat_map(|round| (0..8).map(move |n| (round, COUNT + round + n * 1_000)));
    let expected: Vec<u32> =
        numbers().filter(|(round, _)| round % 2 == 1).map(|(_, number)| number).collect();
    drop(store);
    let store = open(dir.path()).unwrap();
    assert_eq!(store.reconciled(), Default::default());
    let there = |number: &u32| envelopes(&store, *number..number + 1) == [*number];
    let found: Vec<u32> = numbers().map(|(_, number)| number).filter(there).collect();
    assert_eq!(found, expected);
    check_kept(&store);
    let all: BTreeSet<u32> = live().into_iter().chain(expected).collect();
    assert_eq!(recover(dir.path(), &STORE_KEY), all);
}

/// Each state that a crash can leave: made of what was there before and after.
#[test]
fn a_compaction_that_stops_anywhere_leaves_the_one_or_the_other() {
    let before = tempfile::tempdir().unwrap();
    drop(filled(before.path()));
    let after = copy(before.path());
    let store = open(after.path()).unwrap();
    store.compact().unwrap();
    drop(store);
    let (earlier, later) = (before.path().join("rows"), after.path().join("rows.1"));

    let states: [(&str, &dyn Fn() -> TempDir); 6] = [
        ("with nothing but an empty directory", &|| {
            let dir = copy(before.path());
            fs::create_dir(dir.path().join("rows.1")).unwrap();
            dir
        }),
        ("in the middle of the copy", &|| {
            let dir = copy(before.path());
            copy_dir(&later, &dir.path().join("rows.1"));
            let db = fs::OpenOptions::new().write(true).open(dir.path().join("rows.1/db")).unwrap();
            db.set_len(db.metadata().unwrap().len() / 2).unwrap();
            dir
        }),
        ("before the new marker stands", &|| {
            let dir = copy(before.path());
            copy_dir(&later, &dir.path().join("rows.1"));
            fs::copy(after.path().join("STORE"), dir.path().join("STORE.new")).unwrap();
            dir
        }),
        ("between the names of the markers", &|| {
            let dir = copy(before.path());
            copy_dir(&later, &dir.path().join("rows.1"));
            fs::rename(dir.path().join("STORE"), dir.path().join("STORE.old")).unwrap();
            fs::copy(after.path().join("STORE"), dir.path().join("STORE.new")).unwrap();
            dir
        }),
        ("before the earlier marker is destroyed", &|| {
            let dir = copy(after.path());
            copy_dir(&earlier, &dir.path().join("rows"));
            fs::copy(before.path().join("STORE"), dir.path().join("STORE.old")).unwrap();
            dir
        }),
        ("before the earlier rows are removed, or while they are", &|| {
            let dir = copy(after.path());
            copy_dir(&earlier, &dir.path().join("rows"));
            fs::remove_file(dir.path().join("rows/conf")).unwrap();
            dir
        }),
    ];
    for (when, state) in states {
        let dir = state();
        let store = open(dir.path()).unwrap_or_else(|error| panic!("{when}: {error}"));
        assert_eq!(store.reconciled(), Default::default(), "{when}");
        assert_eq!(rows_dirs(dir.path()).len(), 1, "{when}");
        assert!(!dir.path().join("STORE.new").exists() && !dir.path().join("STORE.old").exists(), "{when}");
        check(&store);
        assert_eq!(recover(dir.path(), &STORE_KEY), live(), "{when}");
        store.compact().unwrap();
        drop(store);
        check(&open(dir.path()).unwrap());
    }
}

/// A disk that fails while rows are copied stops the compaction, and not the store; one that fails at the marker stops both.
#[test]
fn a_compaction_that_fails_leaves_the_store_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    fs::write(dir.path().join("rows.1"), "in the way").unwrap();
    assert!(store.compact().is_err());
    put_envelope(&store, COUNT + 1);
    fs::remove_file(dir.path().join("rows.1")).unwrap();

    fs::create_dir(dir.path().join("STORE.new")).unwrap();
    assert!(store.compact().is_err());
    let mut batch = Batch::new();
    batch.put(Tree::Meta, "key", "value");
    assert!(matches!(store.commit(batch), Err(StorageError::Stopped(_))));
    assert!(matches!(store.compact(), Err(StorageError::Stopped(_))));
    drop(store);
    fs::remove_dir(dir.path().join("STORE.new")).unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!(rows_dirs(dir.path()), ["rows"]);
    check(&store);
    store.compact().unwrap();
    assert_eq!(envelopes(&store, COUNT + 1..COUNT + 2), [COUNT + 1]);
}

/// The rows that STORE names are not there: that is no new store.
#[test]
fn rows_that_are_named_and_missing_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.compact().unwrap();
    drop(store);
    fs::rename(dir.path().join("rows.1"), dir.path().join("rows.7")).unwrap();
    assert!(matches!(open(dir.path()), Err(StorageError::Damaged { .. })));
    assert_eq!(rows_dirs(dir.path()), ["rows.7"], "left alone");
}

#[test]
fn a_backup_is_a_store_under_the_same_key() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = filled(dir.path());
    let to = other.path().join("backup");
    let backed_up = store.back_up(&to).unwrap();
    assert!(
        backed_up.bytes > backed_up.live_bytes && backed_up.bytes < 3 * backed_up.live_bytes,
        "{backed_up:?}"
    );
    assert!(!other.path().join("backup.unfinished").exists());
    assert_eq!(count_keys(&to, &STORE_KEY), live().len());
    assert_eq!(count_keys(&to, &[9; 32]), 0, "keys are in it only wrapped");
    let exists = |error: StorageError| match error {
        StorageError::Io { source, .. } => source.kind() == io::ErrorKind::AlreadyExists,
        _ => false,
    };
    assert!(exists(store.back_up(&to).unwrap_err()));

    // What is erased later is so in the store, and not in the backup.
    delete_envelope(&store, 10);
    assert!(!recover(dir.path(), &STORE_KEY).contains(&10));
    assert_eq!(recover(&to, &STORE_KEY), live());
    drop(store);
    assert!(matches!(open_as(&to, [9; 32], STORE_KEY), Err(StorageError::OtherOwner(_))));
    assert!(matches!(open_as(&to, OWNER, [9; 32]), Err(StorageError::WrongStoreKey(_))));
    let restored = open(&to).unwrap();
    assert_eq!(restored.reconciled(), Default::default());
    check(&restored);
}

/// A shell completes the name of a directory with a slash.
#[test]
fn a_backup_may_be_named_with_a_slash_and_must_have_a_name() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path()).unwrap();
    put_envelope(&store, 1);
    store.back_up(&other.path().join("backup/")).unwrap();
    let names: Vec<_> = fs::read_dir(other.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["backup"]);
    assert_eq!(envelopes(&open(&other.path().join("backup")).unwrap(), 0..3), [1]);
    for nameless in ["..", "backup/..", "missing/.."] {
        let error = store.back_up(&other.path().join(nameless)).unwrap_err();
        assert!(matches!(error, StorageError::Io { .. }), "{nameless}: {error}");
    }
    assert!(!other.path().join("missing").exists());
}

/// A backup is of one moment: of commits that go on meanwhile, it has the first ones, each whole.
#[test]
fn a_backup_is_of_one_moment() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = filled(dir.path());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0u32.. {
                if done.load(Ordering::Relaxed) {
                    return round;
                }
                let mut batch = Batch::new();
                let number = 100_000 + round;
                batch.put(Tree::Envelopes, number.to_be_bytes(), marked(number, 300));
                batch.put(Tree::Audit, number.to_be_bytes(), "first");
                batch.put(Tree::Tally, number.to_be_bytes(), "last");
                store.commit(batch).unwrap();
            }
            unreachable!("it is told to end")
        });
        for place in 0..4 {
            store.back_up(&other.path().join(place.to_string())).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(writer.join().unwrap() > 4);
    });
    for place in 0..4 {
        let restored = open(&other.path().join(place.to_string())).unwrap();
        assert_eq!(restored.reconciled(), Default::default());
        let [audit, tally] =
            [Tree::Audit, Tree::Tally].map(|tree| restored.scan_prefix(tree, b"", 100_000).unwrap());
        let numbers: Vec<u32> =
            audit.iter().map(|(key, _)| u32::from_be_bytes(key[..].try_into().unwrap())).collect();
        assert_eq!(numbers, (100_000..100_000 + numbers.len() as u32).collect::<Vec<_>>());
        assert!(audit.iter().map(|(key, _)| key).eq(tally.iter().map(|(key, _)| key)));
        assert_eq!(envelopes(&restored, 100_000..100_000 + numbers.len() as u32 + 5), numbers);
        check(&restored);
    }
}

/// The key is rotated while nothing else is done, and the rows are compacted under either.
#[test]
fn a_compacted_store_is_rotated_and_the_other_way_round() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.compact().unwrap();
    store.rotate(Zeroizing::new([9; 32])).unwrap();
    store.compact().unwrap();
    drop(store);
    let store = open_as(dir.path(), OWNER, [9; 32]).unwrap();
    assert_eq!(store.reconciled(), Default::default());
    check(&store);
    assert_eq!(count_keys(dir.path(), &STORE_KEY), 0);
}

#[test]
fn a_small_store_is_not_wasteful() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    assert!(!store.is_wasteful().unwrap());
}

fn envelopes_of(store: &SledStore, number: u32) -> Option<Vec<u8>> {
    store.get(Tree::Envelopes, &number.to_be_bytes()).unwrap()
}

/// As [`check`], where there are others too.
fn check_kept(store: &SledStore) {
    for number in (0..COUNT).filter(|&number| lives(number)) {
        assert!(envelopes_of(store, number) == Some(marked(number, KIB)), "envelope {number}");
    }
}

/// A backup first erases from the disk what is erased in memory alone. If that fails, nobody knows what is on disk, as after a failed commit.
#[test]
fn a_backup_that_could_not_erase_keys_stops_the_store() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path()).unwrap();
    (0..2).for_each(|number| put_envelope(&store, number));
    // No shard can be written where its draft is a directory.
    let in_the_way = dir.path().join("keys/000000.new");
    fs::create_dir(&in_the_way).unwrap();
    let mut batch = Batch::new();
    batch.delete(Tree::Envelopes, 1u32.to_be_bytes());
    batch.defer_erasure();
    store.commit(batch).unwrap();
    let to = other.path().join("backup");
    store.back_up(&to).unwrap_err();
    fs::remove_dir(&in_the_way).unwrap();
    assert!(!to.exists() && !other.path().join("backup.unfinished").exists());
    let mut later = Batch::new();
    later.put(Tree::Meta, "later", "");
    assert!(matches!(store.commit(later), Err(StorageError::Stopped(_))));
    drop(store);

    assert_eq!(open(dir.path()).unwrap().reconciled().keys_erased, 1);
    assert!(!recover(dir.path(), &STORE_KEY).contains(&1));
}
