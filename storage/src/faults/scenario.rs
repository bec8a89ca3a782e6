//! What is done to a store, what must then be there, and what must be gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::files::Files;
use crate::limits::CACHE_BYTES;
use crate::row::Body;
use crate::rows::{NONCE, value_aad};
use crate::seal::Secret;
use crate::{Batch, SledOptions, SledStore, StorageError, Store, Tree, View};

const OWNER: [u8; 32] = [1; 32];

/// The node's keys, between which it is rotated.
pub(super) const STORE_KEYS: [[u8; 32]; 2] = [[2; 32], [3; 32]];

/// A value. Its number without the hundreds names its row, so that 107 replaces 7; rows from 50 on are in another tree, and long.
pub(super) type Id = u32;

/// One thing that is done.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    Commit { puts: Vec<Id>, deletes: Vec<Id>, shreds: Vec<Id>, waits: Waits },
    Rotate,
    Compact,
    BackUp,
    Reopen,
}

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waits {
    /// For nothing: a crash may take it back.
    Nothing,
    /// For its rows, and not for the keys that it erases.
    Rows,
    /// For both.
    Keys,
    /// And for the keys that others have erased.
    All,
}

/// What must be there.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    /// Which of the keys the store has.
    pub(super) store_key: usize,
    /// By row.
    pub(super) live: BTreeMap<u32, Id>,
    /// What may be there instead: as it was before each of the last commits that wait for nothing.
    pub(super) earlier: Vec<BTreeMap<u32, Id>>,
    /// Whether rows may have lost their keys.
    pub(super) shredded: bool,
    /// Deleted, and erased in memory alone, perhaps.
    pub(super) deferred: BTreeSet<Id>,
    /// What nobody may be able to read any more.
    pub(super) gone: BTreeSet<Id>,
    /// What a backup holds, and must not hold.
    pub(super) backup: Option<(BTreeMap<u32, Id>, BTreeSet<Id>)>,
}

/// What stands on the disk of a value.
#[derive(Clone)]
pub(super) struct Sealed {
    pub(super) id: Id,
    row_key: Vec<u8>,
    bytes: Vec<u8>,
}

impl Deed {
    pub(super) fn put(ids: impl IntoIterator<Item = Id>) -> Self {
        Self::change(ids, [], [])
    }

    pub(super) fn delete(ids: impl IntoIterator<Item = Id>) -> Self {
        Self::change([], ids, [])
    }

    pub(super) fn shred(ids: impl IntoIterator<Item = Id>) -> Self {
        Self::change([], [], ids)
    }

    /// Deletes, and lets the keys be destroyed later.
    pub(super) fn defer(ids: impl IntoIterator<Item = Id>) -> Self {
        Self::Commit { puts: vec![], deletes: ids.into_iter().collect(), shreds: vec![], waits: Waits::Rows }
    }

    /// The same, and lets the rows come back with a crash.
    pub(super) fn defer_all(ids: impl IntoIterator<Item = Id>) -> Self {
        Self::Commit {
            puts: vec![],
            deletes: ids.into_iter().collect(),
            shreds: vec![],
            waits: Waits::Nothing,
        }
    }

    /// Waits for what was deferred.
    pub(super) fn settle() -> Self {
        Self::Commit { puts: vec![], deletes: vec![], shreds: vec![], waits: Waits::All }
    }

    pub(super) fn change(
        puts: impl IntoIterator<Item = Id>,
        deletes: impl IntoIterator<Item = Id>,
        shreds: impl IntoIterator<Item = Id>,
    ) -> Self {
        let [puts, deletes, shreds] =
            [puts.into_iter().collect(), deletes.into_iter().collect(), shreds.into_iter().collect()];
        Self::Commit { puts, deletes, shreds, waits: Waits::Keys }
    }

    /// Does it. The store is opened again where that is what is done, and is gone if that fails.
    pub(super) fn run(
        &self,
        store: &mut Option<SledStore>,
        root: &Path,
        expected: &Expected,
        files: &Files,
    ) -> Result<(), StorageError> {
        let open = store.as_ref().expect("who has failed does nothing more");
        match self {
            Deed::Commit { puts, deletes, shreds, waits } => {
                let mut batch = Batch::new();
                puts.iter().for_each(|&id| batch.put(tree(id), row(id), text(id)));
                deletes.iter().for_each(|&id| batch.delete(tree(id), row(id)));
                shreds.iter().for_each(|&id| batch.shred(tree(id), row(id)));
                if *waits == Waits::Nothing {
                    batch.defer_sync();
                }
                match waits {
                    Waits::Nothing | Waits::Rows => batch.defer_erasure(),
                    Waits::Keys => {}
                    Waits::All => batch.settle(),
                }
                open.commit(batch)
            }
            Deed::Rotate => open.rotate(Zeroizing::new(STORE_KEYS[1 - expected.store_key])),
            Deed::Compact => open.compact().map(drop),
            Deed::BackUp => open.back_up(&backup_dir(root)).map(drop),
            Deed::Reopen => {
                drop(store.take());
                *store = Some(self::open(&store_dir(root), expected.store_key, files.clone())?);
                Ok(())
            }
        }
    }
}

impl Expected {
    /// Once it is done.
    pub(super) fn after(&self, deed: &Deed) -> Self {
        let mut next = self.clone();
        match deed {
            Deed::Commit { puts, deletes, shreds, waits } => {
                if *waits == Waits::Nothing {
                    next.earlier.push(self.live.clone());
                } else {
                    next.earlier.clear();
                }
                next.shredded |= !shreds.is_empty();
                let mut erased = BTreeSet::new();
                for &id in deletes.iter().chain(shreds) {
                    assert_eq!(next.live.remove(&(id % 100)), Some(id), "what is deleted lives");
                    erased.insert(id);
                }
                erased.extend(puts.iter().filter_map(|&id| next.live.insert(id % 100, id)));
                match waits {
                    Waits::Nothing | Waits::Rows if shreds.is_empty() => next.deferred.append(&mut erased),
                    _ => next.gone.append(&mut erased),
                }
                if *waits == Waits::All {
                    next.gone.append(&mut next.deferred);
                }
            }
            Deed::Rotate => next.store_key = 1 - self.store_key,
            Deed::Compact => {}
            Deed::BackUp => {
                next.earlier.clear();
                next.gone.append(&mut next.deferred);
                next.backup = Some((next.live.clone(), next.gone.clone()));
            }
            Deed::Reopen => {
                next.earlier.clear();
                next.gone.append(&mut next.deferred);
            }
        }
        next
    }
}

impl Sealed {
    /// What the store has written of a value.
    pub(super) fn of(store: &SledStore, id: Id) -> Self {
        let row_key = store.rows.row_key(tree(id), &row(id));
        let reading = store.rows.read();
        let bytes = match reading.get(tree(id), &row_key).unwrap().unwrap().body {
            Body::Inline(bytes) => bytes,
            Body::Parts(parts) => reading.join(parts).unwrap(),
        };
        Self { id, row_key, bytes }
    }

    /// Whether any of these keys opens it.
    pub(super) fn opens(&self, keys: &[[u8; 32]]) -> bool {
        let aad = value_aad(&self.row_key);
        keys.iter().any(|key| Secret::new(*key).open(NONCE, &aad, &self.bytes).is_some())
    }
}

pub(super) fn open(dir: &Path, store_key: usize, files: Files) -> Result<SledStore, StorageError> {
    let (dir, store_key) = (dir.to_owned(), Zeroizing::new(STORE_KEYS[store_key]));
    let cache_bytes = *CACHE_BYTES.start();
    SledStore::open_with(SledOptions { dir, owner: OWNER, store_key, cache_bytes }, files)
}

/// The values that a store has, by row.
pub(super) fn live(store: &SledStore) -> BTreeMap<u32, Id> {
    let mut found = BTreeMap::new();
    for row_of in 0..100 {
        if let Some(value) = store.get(tree(row_of), &row(row_of)).unwrap() {
            let id = std::str::from_utf8(&value[7..16]).unwrap().parse().unwrap();
            assert!(value == text(id), "value {id} is another");
            found.insert(row_of, id);
        }
    }
    found
}

pub(super) fn store_dir(root: &Path) -> PathBuf {
    root.join("store")
}

pub(super) fn backup_dir(root: &Path) -> PathBuf {
    root.join("backup")
}

fn tree(id: Id) -> Tree {
    if id % 100 < 50 { Tree::Envelopes } else { Tree::Hub }
}

fn row(id: Id) -> Vec<u8> {
    (id % 100).to_be_bytes().to_vec()
}

fn text(id: Id) -> Vec<u8> {
    let mut text = format!("marker-{id:09}").into_bytes();
    text.resize(if id % 100 < 50 { 300 } else { 9_000 }, b'.');
    text
}
