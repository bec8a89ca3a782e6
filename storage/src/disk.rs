//! The store on disk: sealed rows, long values, and the order of a commit. Rows are kept by [`crate::sled`] and read by
//! [`crate::rows`], the keys of sealed ones are kept by [`crate::keys`], and all of it is changed by [`crate::writer`].
//!
//! A value of a sealed tree is sealed (AES-256-GCM) under a key of its own, and its row key is opaque (HMAC), since
//! neither goes from the disk when the row is removed. A long value is cut into parts, which are rows of a tree of
//! their own.
//!
//! The order of a commit, and what a crash leaves: new keys are synced; then the rows, old and new, are changed in
//! one transaction, and synced; then the keys of rows that were deleted or replaced are erased, unless the batch defers that; then it returns. A
//! crash before the second step leaves keys without rows, one before the third keys of rows that are gone: opening
//! erases both. What is shredded keeps its rows for a while: the second step notes its keys, for opening to erase, and its rows are removed by
//! opening, if no batch has done so before. Any other row without a key comes from a restored copy of the rows whose key was erased since:
//! opening removes it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use zeroize::Zeroizing;

use crate::compact::Purpose;
use crate::files::Files;
use crate::format::{Marker, Opened, Secrets};
use crate::group::GroupCommit;
use crate::keys::KeyShards;
use crate::labels::DERIVE_SHARD_WRAP;
use crate::rows::{Rows, names};
use crate::seal::Secret;
use crate::sled::Trees;
use crate::space::{BackedUp, Compacted, Space};
use crate::view::{check_scan, is_empty};
use crate::writer::{Order, StoreWriter};
use crate::{Batch, Committing, Range, Row, StorageError, Store, Tree, View, files, format};

/// What [`SledStore::open`] needs to know.
pub struct SledOptions {
    /// The store's directory, made if it is not there. Nothing else may be in it.
    pub dir: PathBuf,
    /// Whose store it is: a digest of node and network. A store of another owner is refused.
    pub owner: [u8; 32],
    /// The node's key, which seals the store's secrets, and through them the keys of sealed rows: 32 random bytes, kept outside of
    /// `dir`. A store can't be opened with another one; [`SledStore::rotate`] gives it another one.
    pub store_key: Zeroizing<[u8; 32]>,
    /// What is kept of the rows in memory, in bytes; brought within [`limits::CACHE_BYTES`](crate::limits::CACHE_BYTES). Rows that do
    /// not fit are read again from the disk, and most of all when rows are added among them.
    pub cache_bytes: u64,
}

/// What opening a store put right after a crash or a restored backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Keys that no row named, or of rows that were being shredded: erased.
    pub keys_erased: usize,
    /// Sealed rows whose key is erased: removed.
    pub rows_removed: usize,
}

/// The store on disk. Any number of threads may read and commit; `commit` blocks its thread until the disk is done,
/// and dropping the store waits for commits that are under way.
pub struct SledStore {
    pub(crate) rows: Arc<Rows>,
    group: GroupCommit<Order>,
    reconciled: Reconciled,
    pub(crate) space: Arc<Space>,
    dir: PathBuf,
    /// Released last.
    _lock: File,
}

impl SledStore {
    /// Opens the store, or makes it. Waits a few seconds for a process that is just ending. What a crash has left of a
    /// rotation of the key is finished.
    ///
    /// # Errors
    /// Names what the operator can do: [`StorageError::InUse`], [`StorageError::NewerFormat`],
    /// [`StorageError::OtherOwner`], [`StorageError::WrongStoreKey`], [`StorageError::Damaged`]; or what the
    /// disk says.
    pub fn open(options: SledOptions) -> Result<Self, StorageError> {
        Self::open_with(options, Files::default())
    }

    /// As [`open`](SledStore::open), by a handle that a test has made.
    pub(crate) fn open_with(options: SledOptions, files: Files) -> Result<Self, StorageError> {
        let SledOptions { dir, owner, store_key, cache_bytes } = options;
        let store_key = Secret::new(*store_key);
        files::create_dir(&dir)?;
        let lock = files::lock(&dir.join("LOCK"))?.ok_or_else(|| StorageError::InUse(dir.clone()))?;
        let opened = format::read(&files, &dir, &owner, &store_key)?;
        let is_new = opened.is_none();
        let Opened { marker, secrets, found } = match opened {
            Some(opened) => opened,
            None => {
                let secrets = Secrets { row_key: Secret::random()?, masters: vec![Secret::random()?] };
                let marker = Marker::new(&dir, owner, &store_key, &secrets)?;
                marker.write(&files)?;
                Opened { marker, secrets, found: format::FORMAT }
            }
        };
        let (rows_dir, keys_dir) = (marker.rows_dir(), dir.join("keys"));
        // A database that is made anew where one was names no key, and every key would be erased.
        if !is_new && !rows_dir.exists() && keys_dir.exists() {
            return Err(StorageError::damaged(&rows_dir, "it is missing, although there are keys"));
        }
        // A version before the lock above knows the lock of the rows alone, so nothing is changed before that is held too.
        let trees = Trees::open(files.clone(), rows_dir.clone(), cache_bytes, names())?;
        if found < format::FORMAT {
            marker.write(&files)?;
        }
        let wraps = secrets.masters.iter().map(|master| master.derive(DERIVE_SHARD_WRAP));
        let keys = KeyShards::open(files.clone(), keys_dir, wraps.collect())?;
        // Only now, when these rows and their keys are known to be whole.
        for other in format::other_rows(&dir, Some(&rows_dir))? {
            files.remove_dir(&other)?;
        }
        files.sync_dir(&dir)?;
        let rows = Arc::new(Rows::new(trees, secrets.row_key.clone(), keys.ring()));
        let space = Arc::<Space>::default();
        let mut writer = StoreWriter {
            files,
            rows: rows.clone(),
            keys,
            marker,
            secrets,
            space: space.clone(),
            cache_bytes,
            task: None,
            unsynced: None,
            carried_out: 0..0,
        };
        if writer.secrets.masters.len() > 1 {
            writer.finish_rotation(&store_key)?;
        }
        let reconciled = writer.reconcile()?;
        let group = GroupCommit::start(writer).map_err(|error| StorageError::io(&dir, error))?;
        Ok(Self { rows, group, reconciled, space, dir, _lock: lock })
    }

    /// What opening put right.
    pub fn reconciled(&self) -> Reconciled {
        self.reconciled
    }

    /// Puts the store under another key of the node. Once this returns, the earlier one opens nothing of it, whatever copy of `STORE`
    /// is beside it. Every shard of keys is written again; the rows stay.
    ///
    /// # Errors
    /// What the disk says. The store then refuses everything until it is opened again: with the earlier key, if that still opens it,
    /// otherwise with the new one, which finishes what was begun.
    pub fn rotate(&self, store_key: Zeroizing<[u8; 32]>) -> Result<(), StorageError> {
        self.ask(|done| Order::Rotate(store_key, done))
    }

    /// Copies what lives to a fresh database, which takes the place of the one in force, so that the disk gets back the space of what
    /// was deleted or replaced. Others read and commit as before; a commit may wait for a part of the copy. Until it is done, the disk
    /// holds both.
    ///
    /// # Errors
    /// [`StorageError::Busy`], [`StorageError::NoRoom`], or what the disk says. The store goes on with the rows that it has, unless it could not be told which
    /// are in force ([`StorageError::Stopped`] from then on).
    pub fn compact(&self) -> Result<Compacted, StorageError> {
        let (compacted, earlier) = self.ask(|done| Order::Copy(Purpose::Compact(done)))?;
        earlier.remove()?;
        Ok(compacted)
    }

    /// Copies everything as it is at one moment to `to`, a directory that is not there yet. It is a store in its own right, of the same
    /// owner and under the same key of the node, which is not in it. Others read and commit as before; a commit may wait for a part of
    /// the copy, or for the files of keys to be copied, but not until all of it is synced. What ends in the middle leaves
    /// `to.unfinished`, with keys in it, for whoever asked for it to remove ([`destroy_copy`]).
    ///
    /// # Errors
    /// [`StorageError::Busy`], [`StorageError::NoRoom`], [`StorageError::Io`] if `to` or `to.unfinished` exists, or what the disk says. The store goes on,
    /// unless it could not erase from the disk what was to be erased before ([`StorageError::Stopped`] from then on).
    pub fn back_up(&self, to: &Path) -> Result<BackedUp, StorageError> {
        // With a parent, whose list of names is synced.
        let to = std::path::absolute(to).map_err(|error| StorageError::io(to, error))?;
        self.ask(|done| Order::Copy(Purpose::BackUp(to, done)))?.finish()
    }

    /// Whether a compaction is worth its while: the rows take more than 64 MiB of the disk, more than three times of what is of use in
    /// them, and twice of what the last compaction left. The rows are counted first, beside commits, and until that is done they are not
    /// said to be wasteful.
    ///
    /// # Errors
    /// What the disk says.
    pub fn is_wasteful(&self) -> Result<bool, StorageError> {
        let bytes = files::bytes_below(self.rows.read().trees.dir())?;
        let wasteful = self.space.is_wasteful(bytes);
        if wasteful.is_none() {
            self.group.order(Order::Copy(Purpose::Count))?;
        }
        Ok(wasteful.unwrap_or(false))
    }

    fn ask<T>(
        &self,
        order: impl FnOnce(SyncSender<Result<T, StorageError>>) -> Order,
    ) -> Result<T, StorageError> {
        let (done, result) = sync_channel(1);
        self.group.order(order(done))?;
        result.recv().map_err(|_| StorageError::writer_ended())?
    }
}

/// Removes a copy of a store, such as one that was not to be restored after all. What holds its keys is overwritten first. One that is not
/// there is no error.
///
/// # Errors
/// What the disk says.
pub fn destroy_copy(dir: &Path) -> Result<(), StorageError> {
    Files::default().destroy_copy(dir)
}

impl View for SledStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let reading = self.rows.read();
        let row_key = self.rows.row_key(tree, key);
        match reading.get(tree, &row_key)? {
            Some(row) => reading.value(&row_key, row),
            None => Ok(None),
        }
    }

    fn contains(&self, tree: Tree, key: &[u8]) -> Result<bool, StorageError> {
        self.rows.read().contains(tree, &self.rows.row_key(tree, key))
    }

    fn scan(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        check_scan(tree)?;
        if is_empty(&range) {
            return Ok(Vec::new());
        }
        let reading = self.rows.read();
        reading.values(reading.trees.range(tree as usize, range).take(limit))
    }

    fn scan_back(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        check_scan(tree)?;
        if is_empty(&range) {
            return Ok(Vec::new());
        }
        let reading = self.rows.read();
        reading.values(reading.trees.range(tree as usize, range).rev().take(limit))
    }
}

impl Store for SledStore {
    fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        self.begin(&Arc::new(batch))?.wait()
    }

    fn begin(&self, batch: &Arc<Batch>) -> Result<Committing, StorageError> {
        batch.check_limits()?;
        self.group.begin(batch.clone())
    }
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SledStore({})", self.dir.display())
    }
}
