//! The writer thread's own: nobody else changes rows, keys or `STORE`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::compact::{Purpose, Task};
use crate::disk::Reconciled;
use crate::files::Files;
use crate::format::{Marker, Secrets};
use crate::group::Writer;
use crate::keys::{KeyRef, KeyShards};
use crate::labels::DERIVE_SHARD_WRAP;
use crate::limits::{ERASE_MS, ERASE_MS_MAX, LAZY_MS, PART_BYTES};
use crate::row::{Body, Parts, RowData};
use crate::rows::{BELONGING, NONCE, PARTS, Rows, SHREDDING, value_aad};
use crate::seal::{Secret, random_bytes};
use crate::sled::{Changes, Replaced, added_bytes, replaced_bytes};
use crate::space::Space;
use crate::{Batch, StorageError, Tree};

/// The writer's rows, keys and marker.
pub(crate) struct StoreWriter {
    pub(crate) files: Files,
    pub(crate) rows: Arc<Rows>,
    pub(crate) keys: KeyShards,
    pub(crate) marker: Marker,
    pub(crate) secrets: Secrets,
    pub(crate) space: Arc<Space>,
    /// For the next database.
    pub(crate) cache_bytes: u64,
    pub(crate) task: Option<Task>,
    /// Since when changes of rows would not survive a crash.
    pub(crate) unsynced: Option<Instant>,
    /// The notes of what was to be shredded, and has been.
    pub(crate) carried_out: std::ops::Range<u64>,
}

/// How long changes may wait to be synced.
const LAZY: Duration = Duration::from_millis(LAZY_MS);

/// Keys that one note of what is shredded names.
const NOTE_KEYS: usize = PART_BYTES / KeyRef::BYTES;

/// What is asked of the writer beside commits.
pub(crate) enum Order {
    /// Rotates the node's key to this one.
    Rotate(Zeroizing<[u8; 32]>, SyncSender<Result<(), StorageError>>),
    /// Copies the rows, or counts them, beside commits.
    Copy(Purpose),
}

impl Writer for StoreWriter {
    type Order = Order;

    fn write(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let sealed_puts = batch.changes().filter(|(tree, _, value)| tree.sealed() && value.is_some()).count();
        let mut new_keys = self.keys.create(sealed_puts)?.into_iter();
        let mut changes = Changes::new();
        for (tree, key, value) in batch.changes() {
            let row_key = self.rows.row_key(tree, key);
            let new_key = if tree.sealed() && value.is_some() { new_keys.next() } else { None };
            let row = value.map(|value| self.encode(&mut changes, &row_key, value, new_key)).transpose()?;
            changes.entry(tree as usize).or_default().insert(row_key, row);
        }
        let shredded = self.shredded(batch)?;
        let notes = self.note(&mut changes, &shredded);
        let replaced = self.apply(&changes)?;
        if !batch.is_lazy() {
            self.sync()?;
        }
        self.mirror(&changes, &replaced);
        self.space.change_live(added_bytes(&changes), replaced_bytes(&replaced));
        let mut erased = BTreeSet::new();
        for tree in Tree::ALL.iter().filter(|tree| tree.sealed()) {
            for row in replaced.get(&(*tree as usize)).into_iter().flat_map(BTreeMap::values) {
                let key = self.rows.read().decode(row)?.key;
                erased.extend(key.filter(|&key| self.rows.keyring.holds(key)));
            }
        }
        if batch.is_deferred() {
            self.keys.forget(&erased);
        } else {
            erased.extend(shredded);
            self.keys.erase(&erased)?;
        }
        if batch.settles() {
            self.finish_tidying()?;
        }
        self.carried_out = notes;
        Ok(())
    }

    fn order(&mut self, order: Order) -> Result<(), StorageError> {
        match order {
            Order::Rotate(store_key, done) => {
                let rotated = self.rotate(&Secret::new(*store_key));
                // Who asked may have gone away.
                let _ = done.send(rotated.clone());
                rotated
            }
            Order::Copy(purpose) => {
                self.begin(purpose);
                Ok(())
            }
        }
    }

    fn refuse(order: Order, reason: StorageError) {
        match order {
            Order::Rotate(_, done) => drop(done.send(Err(reason))),
            Order::Copy(purpose) => purpose.refuse(reason),
        }
    }

    fn working(&self) -> bool {
        self.task.is_some()
    }

    fn work(&mut self) -> Result<(), StorageError> {
        self.go_on()
    }

    fn tidy_in(&self) -> Option<Duration> {
        let sync = self.unsynced.map(|since| LAZY.saturating_sub(since.elapsed()));
        sync.into_iter().chain(self.keys.tidy_in(Duration::from_millis(ERASE_MS))).min()
    }

    fn tidy(&mut self, idle: bool) -> Result<(), StorageError> {
        let wait = Duration::from_millis(if idle { ERASE_MS } else { ERASE_MS_MAX });
        let due = self.keys.tidy_in(wait).is_some_and(|wait| wait.is_zero());
        if due || self.unsynced.is_some_and(|since| since.elapsed() >= LAZY) {
            self.sync()?;
        }
        // Only what was due before the sync: a row must not come back without its key.
        if due { self.keys.tidy(wait).map(drop) } else { Ok(()) }
    }

    fn finish(&mut self) {
        // What fails here is done when the store is opened.
        let _ = self.finish_tidying();
    }

    fn abandon(&mut self, reason: StorageError) {
        self.give_up(reason);
    }
}

impl StoreWriter {
    /// Puts the store under another key of the node, and its shards under a new master, so that neither the earlier key nor an earlier
    /// `STORE` opens anything that is on disk once this returns. A crash leaves a `STORE` under the earlier key with everything as it
    /// was, or one under the new key, from which [`finish_rotation`](StoreWriter::finish_rotation) goes on.
    fn rotate(&mut self, store_key: &Secret) -> Result<(), StorageError> {
        // Every shard is written again without the keys that are forgotten.
        self.sync()?;
        let master = Secret::random()?;
        self.secrets.masters.insert(0, master.clone());
        self.marker = self.marker.clone().sealing(store_key, &self.secrets)?;
        self.marker.write(&self.files)?;
        self.keys.wrap_under(master.derive(DERIVE_SHARD_WRAP));
        self.finish_rotation(store_key)
    }

    /// Moves every shard to the newest master, and forgets the earlier one.
    pub(crate) fn finish_rotation(&mut self, store_key: &Secret) -> Result<(), StorageError> {
        self.keys.move_all()?;
        self.secrets.masters.truncate(1);
        self.marker = self.marker.clone().sealing(store_key, &self.secrets)?;
        self.marker.write(&self.files)
    }

    /// Erases from the disk all that is erased in memory alone.
    pub(crate) fn finish_tidying(&mut self) -> Result<(), StorageError> {
        self.sync()?;
        while self.keys.tidy(Duration::ZERO)? {}
        Ok(())
    }

    /// Erases keys that no row names or that were to be shredded, and removes sealed rows that have no key.
    pub(crate) fn reconcile(&mut self) -> Result<Reconciled, StorageError> {
        let mut live = BTreeSet::new();
        let mut changes = Changes::new();
        let shredded = self.noted(&mut changes)?;
        let mut rows_removed = 0;
        let reading = self.rows.read();
        for tree in Tree::ALL.iter().copied().filter(|tree| tree.sealed()) {
            for row in reading.trees.range(tree as usize, (Bound::Unbounded, Bound::Unbounded)) {
                let (row_key, bytes) = row?;
                let row = reading.decode(&bytes)?;
                let held = |key: &KeyRef| !shredded.contains(key) && self.rows.keyring.holds(*key);
                if let Some(key) = row.key.filter(held) {
                    live.insert(key);
                    continue;
                }
                changes.entry(tree as usize).or_default().insert(row_key, None);
                rows_removed += 1;
            }
        }
        drop(reading);
        self.apply(&changes)?;
        self.sync()?;
        Ok(Reconciled { keys_erased: self.keys.retain(&live)?, rows_removed })
    }

    /// The keys of what was to be shredded, as the notes name them that a crash has left. Adds the notes' removal to the changes.
    fn noted(&self, changes: &mut Changes) -> Result<BTreeSet<KeyRef>, StorageError> {
        let mut noted = BTreeSet::new();
        let reading = self.rows.read();
        let damaged = |what: &str| StorageError::damaged(reading.trees.dir(), what);
        for row in reading.trees.range(SHREDDING, (Bound::Unbounded, Bound::Unbounded)) {
            let (number, bytes) = row?;
            let Body::Inline(note) = reading.decode(&bytes)?.body else {
                return Err(damaged("a note of what is shredded is in parts"));
            };
            let keys: Option<Vec<KeyRef>> = note.chunks(KeyRef::BYTES).map(KeyRef::from_bytes).collect();
            noted.extend(keys.ok_or_else(|| damaged("a note of what is shredded is cut short"))?);
            changes.entry(SHREDDING).or_default().insert(number, None);
        }
        Ok(noted)
    }

    /// The keys of what the batch shreds.
    fn shredded(&self, batch: &Batch) -> Result<Vec<KeyRef>, StorageError> {
        let mut keys = Vec::new();
        for (tree, key) in batch.shredded() {
            let row = self.rows.read().get(tree, &self.rows.row_key(tree, key))?;
            keys.extend(row.and_then(|row| row.key).filter(|&key| self.rows.keyring.holds(key)));
        }
        Ok(keys)
    }

    /// Notes keys that are erased after these changes, though their rows stay, and removes the notes of those that have been. Returns
    /// the new notes' numbers.
    fn note(&self, changes: &mut Changes, keys: &[KeyRef]) -> std::ops::Range<u64> {
        let first = self.carried_out.end;
        let done = self.carried_out.clone().map(|number| (number.to_be_bytes().to_vec(), None));
        let notes = keys.chunks(NOTE_KEYS).zip(first..).map(|(keys, number)| {
            let note = keys.iter().flat_map(|key| key.to_bytes()).collect();
            (number.to_be_bytes().to_vec(), Some(RowData { key: None, body: Body::Inline(note) }.encode()))
        });
        let rows: BTreeMap<_, _> = done.chain(notes).collect();
        if !rows.is_empty() {
            changes.entry(SHREDDING).or_default().extend(rows);
        }
        first..first + keys.len().div_ceil(NOTE_KEYS) as u64
    }

    /// The row for a value, sealed if there is a key for it. Adds its parts to the changes, if it needs any.
    fn encode(
        &self,
        changes: &mut Changes,
        row_key: &[u8],
        value: &[u8],
        key: Option<KeyRef>,
    ) -> Result<Vec<u8>, StorageError> {
        let bytes = match key {
            Some(key) => {
                let secret = self.rows.keyring.get(key).expect("the key was created for this value");
                secret.seal(NONCE, &value_aad(row_key), value)
            }
            None => value.to_vec(),
        };
        if bytes.len() <= PART_BYTES {
            return Ok(RowData { key, body: Body::Inline(bytes) }.encode());
        }
        let len = u32::try_from(bytes.len()).expect("the batch's values are within the limit");
        let parts = Parts { id: random_bytes()?, len };
        let rows = parts.keys().zip(bytes.chunks(PART_BYTES).map(|part| Some(part.to_vec())));
        changes.entry(PARTS).or_default().extend(rows);
        Ok(RowData { key, body: Body::Parts(parts) }.encode())
    }

    /// Makes the changes in one transaction, which is yet to be synced. Returns what they have replaced.
    fn apply(&mut self, changes: &Changes) -> Result<Replaced, StorageError> {
        let replaced = self.rows.write().apply(changes, BELONGING)?;
        self.unsynced.get_or_insert_with(Instant::now);
        Ok(replaced)
    }

    /// Makes all changes so far survive a crash.
    fn sync(&mut self) -> Result<(), StorageError> {
        if self.unsynced.is_some() {
            self.rows.read().trees.sync()?;
            self.unsynced = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{SledOptions, SledStore, Store, View, limits};

    fn open(dir: &Path) -> Result<SledStore, StorageError> {
        let store_key = Zeroizing::new([2; 32]);
        let cache_bytes = *limits::CACHE_BYTES.start();
        SledStore::open(SledOptions { dir: dir.to_owned(), owner: [1; 32], store_key, cache_bytes })
    }

    /// A store with envelopes 0..4, and as a crash leaves it before keys are erased: that of 0 is noted as shredded, the row of 1 is gone.
    fn stopped(dir: &Path, cut: usize) {
        let store = open(dir).unwrap();
        for number in 0..4 {
            let mut batch = Batch::new();
            batch.put(Tree::Envelopes, [number], "value");
            store.commit(batch).unwrap();
        }
        let row_key = |number| store.rows.row_key(Tree::Envelopes, &[number]);
        let key = store.rows.read().get(Tree::Envelopes, &row_key(0)).unwrap().unwrap().key.unwrap();
        let note = RowData { key: None, body: Body::Inline(key.to_bytes()[cut..].to_vec()) }.encode();
        let mut changes = Changes::new();
        changes.entry(SHREDDING).or_default().insert(0u64.to_be_bytes().to_vec(), Some(note));
        changes.entry(Tree::Envelopes as usize).or_default().insert(row_key(1), None);
        let trees = store.rows.write();
        trees.apply(&changes, BELONGING).unwrap();
        trees.sync().unwrap();
    }

    #[test]
    fn what_a_crash_has_left_is_erased_at_once() {
        let dir = tempfile::tempdir().unwrap();
        stopped(dir.path(), 0);
        let store = open(dir.path()).unwrap();
        assert_eq!(store.reconciled(), Reconciled { keys_erased: 2, rows_removed: 1 });
        let there: Vec<u8> =
            (0..4).filter(|&number| store.contains(Tree::Envelopes, &[number]).unwrap()).collect();
        assert_eq!(there, [2, 3]);
        // The first generation is in slot a: the shard was written again once.
        assert!(dir.path().join("keys/000000.b").exists());
        drop(store);
        assert_eq!(open(dir.path()).unwrap().reconciled(), Reconciled::default());
    }

    #[test]
    fn a_note_that_is_cut_short_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        stopped(dir.path(), 1);
        assert!(matches!(open(dir.path()), Err(StorageError::Damaged { .. })));
    }
}
