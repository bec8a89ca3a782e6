//! The writer thread's own: nobody else changes rows, keys or `STORE`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::compact::{Purpose, Task};
use crate::disk::Reconciled;
use crate::format::{Marker, Secrets};
use crate::group::Writer;
use crate::keys::{KeyRef, KeyShards};
use crate::labels::DERIVE_SHARD_WRAP;
use crate::limits::{ERASE_MS, ERASE_MS_MAX, PART_BYTES};
use crate::row::{Body, Parts, RowData};
use crate::rows::{NONCE, PARTS, Rows, SHREDDING, value_aad};
use crate::seal::{Secret, random_bytes};
use crate::sled::Changes;
use crate::space::Space;
use crate::{Batch, StorageError, Tree};

/// The writer's rows, keys and marker.
pub(crate) struct StoreWriter {
    pub(crate) rows: Arc<Rows>,
    pub(crate) keys: KeyShards,
    pub(crate) marker: Marker,
    pub(crate) secrets: Secrets,
    pub(crate) space: Arc<Space>,
    /// For the next database.
    pub(crate) cache_bytes: u64,
    pub(crate) task: Option<Task>,
    /// Numbers of the notes of what was to be shredded, and has been.
    pub(crate) carried_out: std::ops::Range<u64>,
}

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

    fn write(&mut self, batch: Batch) -> Result<(), StorageError> {
        let sealed_puts = batch.changes().filter(|(tree, _, value)| tree.sealed() && value.is_some()).count();
        let mut new_keys = self.keys.create(sealed_puts)?.into_iter();
        let mut erased = BTreeSet::new();
        let mut changes = Changes::new();
        let mut removed_bytes = 0;
        for (tree, key, value) in batch.changes() {
            let row_key = self.rows.row_key(tree, key);
            if let Some(old) = self.rows.read().get(tree, &row_key)? {
                removed_bytes += row_key.len() as u64 + old.byte_len();
                remove_parts(&mut changes, &old);
                erased.extend(old.key.filter(|&key| self.rows.keyring.holds(key)));
            }
            let new_key = if tree.sealed() && value.is_some() { new_keys.next() } else { None };
            let row = value.map(|value| self.encode(&mut changes, &row_key, value, new_key)).transpose()?;
            changes.entry(tree as usize).or_default().insert(row_key, row);
        }
        let shredded = self.shredded(&batch)?;
        let notes = self.note(&mut changes, &shredded);
        self.apply(&changes)?;
        let rows = changes.values().flatten().filter_map(|(key, row)| Some(key.len() + row.as_ref()?.len()));
        self.space.change_live(rows.map(|len| len as u64).sum(), removed_bytes);
        self.mirror(&changes);
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
        self.keys.tidy_in(Duration::from_millis(ERASE_MS))
    }

    fn tidy(&mut self, idle: bool) -> Result<(), StorageError> {
        self.keys.tidy(Duration::from_millis(if idle { ERASE_MS } else { ERASE_MS_MAX })).map(drop)
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
        let master = Secret::random()?;
        self.secrets.masters.insert(0, master.clone());
        self.marker = self.marker.clone().sealing(store_key, &self.secrets)?;
        self.marker.write()?;
        self.keys.wrap_under(master.derive(DERIVE_SHARD_WRAP));
        self.finish_rotation(store_key)
    }

    /// Moves every shard to the newest master, and forgets the earlier one.
    pub(crate) fn finish_rotation(&mut self, store_key: &Secret) -> Result<(), StorageError> {
        self.keys.move_all()?;
        self.secrets.masters.truncate(1);
        self.marker = self.marker.clone().sealing(store_key, &self.secrets)?;
        self.marker.write()
    }

    /// Erases from the disk all that is erased in memory alone.
    pub(crate) fn finish_tidying(&mut self) -> Result<(), StorageError> {
        while self.keys.tidy(Duration::ZERO)? {}
        Ok(())
    }

    /// Erases keys that no row names, and removes sealed rows that have no key.
    pub(crate) fn reconcile(&mut self) -> Result<Reconciled, StorageError> {
        let mut live = BTreeSet::new();
        let mut changes = Changes::new();
        self.shred_noted(&mut changes)?;
        let mut rows_removed = 0;
        let reading = self.rows.read();
        for tree in Tree::ALL.iter().copied().filter(|tree| tree.sealed()) {
            for row in reading.trees.range(tree as usize, (Bound::Unbounded, Bound::Unbounded)) {
                let (row_key, bytes) = row?;
                let row = reading.decode(&bytes)?;
                if let Some(key) = row.key.filter(|&key| self.rows.keyring.get(key).is_some()) {
                    live.insert(key);
                    continue;
                }
                remove_parts(&mut changes, &row);
                changes.entry(tree as usize).or_default().insert(row_key, None);
                rows_removed += 1;
            }
        }
        drop(reading);
        self.apply(&changes)?;
        Ok(Reconciled { keys_erased: self.keys.retain(&live)?, rows_removed })
    }

    /// Erases the keys that a crash has left of what was to be shredded, and removes the notes of them.
    fn shred_noted(&mut self, changes: &mut Changes) -> Result<(), StorageError> {
        let mut noted = BTreeSet::new();
        let reading = self.rows.read();
        for row in reading.trees.range(SHREDDING, (Bound::Unbounded, Bound::Unbounded)) {
            let (number, bytes) = row?;
            let Body::Inline(note) = reading.decode(&bytes)?.body else {
                return Err(StorageError::damaged(
                    reading.trees.dir(),
                    "a note of what is shredded is in parts",
                ));
            };
            noted.extend(note.chunks_exact(KeyRef::BYTES).filter_map(KeyRef::from_bytes));
            changes.entry(SHREDDING).or_default().insert(number, None);
        }
        drop(reading);
        self.keys.erase(&noted)
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

    /// Makes the changes in one transaction, and syncs them.
    fn apply(&mut self, changes: &Changes) -> Result<(), StorageError> {
        self.rows.write().apply(changes)?;
        self.rows.read().trees.sync()
    }
}

fn remove_parts(changes: &mut Changes, old: &RowData) {
    if let Body::Parts(parts) = old.body {
        changes.entry(PARTS).or_default().extend(parts.keys().map(|key| (key, None)));
    }
}
