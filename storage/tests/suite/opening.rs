//! Opening a store again, and the stores that must not be opened.

use std::fs;

use lanyard_storage::{Batch, StorageError, Store, Tree, View};

use super::{OWNER, STORE_KEY, delete_envelope, envelopes, open, open_as, put_envelope};

#[test]
fn what_was_committed_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for number in 0..20 {
        put_envelope(&store, number);
    }
    (5..9).for_each(|number| delete_envelope(&store, number));
    drop(store);
    for _ in 0..3 {
        let store = open(dir.path()).unwrap();
        assert_eq!(store.reconciled(), Default::default());
        assert_eq!(envelopes(&store, 0..20), [0, 1, 2, 3, 4, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
    }
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let path = dir.path().join("STORE");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("format 3\n", "format 4\n")).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, StorageError::NewerFormat { found: 4, supported: 3, .. }));
    assert!(error.to_string().contains("start the version that wrote it"), "{error}");
}

#[test]
fn another_owner_and_another_key_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    assert!(matches!(open_as(dir.path(), [9; 32], STORE_KEY), Err(StorageError::OtherOwner(_))));
    assert!(matches!(open_as(dir.path(), OWNER, [9; 32]), Err(StorageError::WrongStoreKey(_))));
    open(dir.path()).unwrap();
}

#[test]
fn rows_without_their_identity_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let path = dir.path().join("STORE");
    for text in [
        "",
        "something else\n",
        "lanyard-store\n",
        "lanyard-store\nformat one\n",
        "lanyard-store\nformat 2\n",
        "lanyard-store\nformat 3\n",
    ] {
        fs::write(&path, text).unwrap();
        assert!(matches!(open(dir.path()), Err(StorageError::Damaged { .. })), "{text:?}");
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(open(dir.path()), Err(StorageError::Damaged { .. })));
}

/// After a compaction the rows are in another directory. Nothing of it is removed, so that who puts `STORE` back has everything again.
#[test]
fn rows_of_a_compaction_without_their_identity_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    put_envelope(&store, 1);
    store.compact().unwrap();
    drop(store);
    let (path, keys) = (dir.path().join("STORE"), dir.path().join("keys"));
    let away = tempfile::tempdir().unwrap();
    fs::copy(&path, away.path().join("STORE")).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(matches!(open(dir.path()), Err(StorageError::Damaged { .. })));
    assert!(dir.path().join("rows.1").exists());
    // Keys alone say as much.
    fs::rename(dir.path().join("rows.1"), away.path().join("rows.1")).unwrap();
    assert!(matches!(open(dir.path()), Err(StorageError::Damaged { .. })));
    assert!(keys.read_dir().unwrap().next().is_some());
    for name in ["STORE", "rows.1"] {
        fs::rename(away.path().join(name), dir.path().join(name)).unwrap();
    }
    assert_eq!(envelopes(&open(dir.path()).unwrap(), 0..3), [1]);
}

/// A line that is gone or altered, but for those that tell whose store it is and under which key.
#[test]
fn secrets_that_do_not_open_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let path = dir.path().join("STORE");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 7);
    for broken in 4..lines.len() {
        let mut others = lines.clone();
        others.remove(broken);
        let altered: String = lines[broken].chars().rev().collect();
        let mut wrong = lines.clone();
        wrong[broken] = &altered;
        let mut swapped = lines.clone();
        swapped.swap(broken, 4 + (broken - 3) % 3);
        for lines in [others, wrong, swapped] {
            fs::write(&path, lines.join("\n")).unwrap();
            let error = open(dir.path()).unwrap_err();
            assert!(matches!(error, StorageError::Damaged { .. }), "{lines:?}: {error}");
        }
    }
    fs::write(&path, text).unwrap();
    open(dir.path()).unwrap();
}

/// A database that is made anew would name no key, and all keys would go.
#[test]
fn keys_without_the_directory_of_rows_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    put_envelope(&store, 1);
    drop(store);
    fs::rename(dir.path().join("rows"), dir.path().join("elsewhere")).unwrap();
    assert!(matches!(open(dir.path()), Err(StorageError::Damaged { .. })));
    fs::rename(dir.path().join("elsewhere"), dir.path().join("rows")).unwrap();
    assert_eq!(envelopes(&open(dir.path()).unwrap(), 0..2), [1]);
}

#[test]
fn a_store_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _store = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(StorageError::InUse(_))));
}

#[test]
fn no_page_of_sled_leaves_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for round in 0..3u8 {
        let mut batch = Batch::new();
        for key in 0..40u8 {
            batch.put(Tree::Records, [[key; 32].as_slice(), &[0; 224]].concat(), vec![round; 60_000]);
        }
        batch.put(Tree::Hub, "large", vec![round; 2 << 20]);
        store.commit(batch).unwrap();
    }
    assert!(store.get(Tree::Hub, b"large").unwrap() == Some(vec![2; 2 << 20]));
    drop(store);
    open(dir.path()).unwrap();
    // sled writes large pages to files in this directory, and never syncs them.
    assert_eq!(fs::read_dir(dir.path().join("rows/blobs")).unwrap().count(), 0);
}
