//! Rows on disk, as plain bytes. The only file that names sled (0.34), so that it can be replaced.
//!
//! What sled does not do, and what is done about it:
//!
//! - `flush` does not sync the file to the device (it calls `sync_file_range`): after it, a descriptor of our own
//!   is synced by `fdatasync` before anything is acknowledged.
//! - `apply_batch` is atomic per tree: every change here is a transaction over all trees that it touches. There
//!   is one writer, so a transaction never conflicts.
//! - Pages above a quarter of its segment size go to files of their own, which it never syncs: the caller cuts
//!   long values into parts ([`crate::limits::PART_BYTES`]), so that no page grows so large.
//! - A range is not one read to a concurrent transaction: the caller keeps the two apart by a lock.
//! - Dropping the database releases its lock some time later: opening tries again for a while.
//! - Its cache defaults to 1 GiB: the caller says how much.
//! - Deleted rows stay readable in its file: what must be erased is sealed before it comes here.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional};

use crate::limits::{CACHE_BYTES, LOCK_RETRY_MS, LOCK_WAIT_MS_MAX, SMALL_ROW_BYTES};
use crate::{Range, Row, StorageError, files};

/// Rows to set or remove, by the tree's place in [`Trees`].
pub(crate) type Changes = BTreeMap<usize, BTreeMap<Vec<u8>, Option<Vec<u8>>>>;

/// An open database. Trees go by their place in the list of names that it was opened with.
pub(crate) struct Trees {
    db: sled::Db,
    /// sled's file, for `fdatasync`.
    file: File,
    dir: PathBuf,
    trees: Vec<sled::Tree>,
}

impl Trees {
    /// Opens the database in `dir`, or makes it. Only one process can.
    pub(crate) fn open(
        dir: PathBuf,
        cache_bytes: u64,
        names: impl Iterator<Item = &'static str>,
    ) -> Result<Self, StorageError> {
        let db = open_db(&dir, cache_bytes)?;
        let trees: Result<_, _> = names.map(|name| db.open_tree(name)).collect();
        let trees = trees.map_err(|error| storage_error(&dir, error))?;
        let path = dir.join("db");
        let file = File::options().write(true).open(&path).map_err(|error| StorageError::io(&path, error))?;
        let opened = Self { db, file, dir, trees };
        opened.sync()?;
        files::sync_dir(&opened.dir)?;
        Ok(opened)
    }

    /// Where the database is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The row at `key`.
    pub(crate) fn get(&self, tree: usize, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let row = self.trees[tree].get(key).map_err(|error| storage_error(&self.dir, error))?;
        Ok(row.map(|row| row.to_vec()))
    }

    /// The rows of a range that is not empty, by ascending key.
    pub(crate) fn range(
        &self,
        tree: usize,
        range: Range<'_>,
    ) -> impl DoubleEndedIterator<Item = Result<Row, StorageError>> {
        self.trees[tree].range::<&[u8], _>(range).map(|row| match row {
            Ok((key, row)) => Ok((key.to_vec(), row.to_vec())),
            Err(error) => Err(storage_error(&self.dir, error)),
        })
    }

    /// Makes all changes in one transaction. They survive a crash once [`sync`](Trees::sync) has returned, and
    /// until then together or not at all.
    pub(crate) fn apply(&self, changes: &Changes) -> Result<(), StorageError> {
        let trees: Vec<&sled::Tree> = changes.keys().map(|&tree| &self.trees[tree]).collect();
        if trees.is_empty() {
            return Ok(());
        }
        let applied = trees[..].transaction(|trees| {
            for (tree, changes) in trees.iter().zip(changes.values()) {
                for (key, row) in changes {
                    match row {
                        Some(row) => tree.insert(key.as_slice(), row.as_slice())?,
                        None => tree.remove(key.as_slice())?,
                    };
                }
            }
            Ok::<(), ConflictableTransactionError<Infallible>>(())
        });
        match applied {
            Ok(()) => Ok(()),
            Err(TransactionError::Storage(error)) => Err(storage_error(&self.dir, error)),
            Err(TransactionError::Abort(never)) => match never {},
        }
    }

    /// Adds rows, sorted by key, to a tree that nobody reads yet: not as one change, and without syncing it.
    ///
    /// sled appends each change to its file, writes a page anew when it is split or has been changed ten times, and cleans a part of
    /// its file only once half of it is of no use. Rows that are added one by one in order leave twice their size and more. So the pages are
    /// made with keys alone, which are small, and each then gets its values: as many changes as a page has rows after a split, which
    /// are fewer than ten, so that each value is written once. Where rows are hardly larger than keys, the pages are made with every second
    /// one, so that the others fill them without a split.
    pub(crate) fn fill(&self, tree: usize, rows: &[Row]) -> Result<(), StorageError> {
        let tree = &self.trees[tree];
        let insert =
            |key: &[u8], row: &[u8]| tree.insert(key, row).map_err(|error| storage_error(&self.dir, error));
        if rows.iter().any(|(_, row)| row.len() > SMALL_ROW_BYTES) {
            rows.iter().try_for_each(|(key, _)| insert(key, &[]).map(drop))?;
            return rows.iter().try_for_each(|(key, row)| insert(key, row).map(drop));
        }
        let every_second = |first: usize| rows.iter().skip(first).step_by(2);
        every_second(0).chain(every_second(1)).try_for_each(|(key, row)| insert(key, row).map(drop))
    }

    /// Closes the database, and returns once its file is released, or does not seem to be.
    pub(crate) fn close(self) -> Result<(), StorageError> {
        let path = self.dir.join("db");
        drop(self);
        files::lock(&path).map(drop)
    }

    /// Makes everything that was applied survive a crash.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        self.db.flush().map_err(|error| storage_error(&self.dir, error))?;
        self.file.sync_data().map_err(|error| StorageError::io(&self.dir, error))
    }
}

fn open_db(dir: &Path, cache_bytes: u64) -> Result<sled::Db, StorageError> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(cache_bytes.clamp(*CACHE_BYTES.start(), *CACHE_BYTES.end()))
        .flush_every_ms(None);
    let start = Instant::now();
    loop {
        match config.open() {
            Ok(db) => return Ok(db),
            Err(error) if !is_locked(&error) => return Err(storage_error(dir, error)),
            Err(_) if start.elapsed() >= Duration::from_millis(LOCK_WAIT_MS_MAX) => {
                return Err(StorageError::InUse(dir.to_owned()));
            }
            Err(_) => thread::sleep(Duration::from_millis(LOCK_RETRY_MS)),
        }
    }
}

/// sled tells this case by its text alone.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

fn storage_error(dir: &Path, error: sled::Error) -> StorageError {
    match error {
        sled::Error::Io(error) => StorageError::io(dir, error),
        error => StorageError::damaged(dir, error.to_string()),
    }
}
