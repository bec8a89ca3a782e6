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

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use sled::transaction::{ConflictableTransactionError, TransactionError, Transactional, TransactionalTree};

use crate::files::{self, Files};
use crate::limits::{CACHE_BYTES, LOCK_RETRY_MS, LOCK_WAIT_MS_MAX, SMALL_ROW_BYTES};
use crate::{Range, Row, StorageError};

/// Rows to set or remove, by the tree's place in [`Trees`].
pub(crate) type Changes = BTreeMap<usize, BTreeMap<Vec<u8>, Option<Vec<u8>>>>;

/// Rows that were set anew or removed, as they were, by the same places. They share the database's own bytes.
pub(crate) type Replaced = BTreeMap<usize, BTreeMap<Vec<u8>, sled::IVec>>;

/// Keys of rows.
pub(crate) type Keys = Vec<Vec<u8>>;

/// Rows of one tree that belong to rows of others, and go with them.
#[derive(Clone, Copy)]
pub(crate) struct Belonging {
    /// The tree that they are in.
    pub(crate) tree: usize,
    /// The keys of those that belong to this row, or what is wrong with it.
    pub(crate) keys: fn(usize, &[u8]) -> Result<Keys, String>,
}

/// How many bytes of keys and rows the changes set.
pub(crate) fn added_bytes(changes: &Changes) -> u64 {
    let rows = changes.values().flatten().filter_map(|(key, row)| Some(key.len() + row.as_ref()?.len()));
    rows.map(|len| len as u64).sum()
}

/// How many bytes of keys and rows were there before.
pub(crate) fn replaced_bytes(replaced: &Replaced) -> u64 {
    replaced.values().flatten().map(|(key, row)| (key.len() + row.len()) as u64).sum()
}

/// An open database. Trees go by their place in the list of names that it was opened with.
pub(crate) struct Trees {
    db: sled::Db,
    /// sled's file, for `fdatasync`.
    file: File,
    dir: PathBuf,
    trees: Vec<sled::Tree>,
    /// Is told of what the database does.
    files: Files,
}

impl Trees {
    /// Opens the database in `dir`, or makes it. Only one process can.
    pub(crate) fn open(
        files: Files,
        dir: PathBuf,
        cache_bytes: u64,
        names: impl Iterator<Item = &'static str>,
    ) -> Result<Self, StorageError> {
        files.rows(&dir)?;
        let db = open_db(&dir, cache_bytes)?;
        let trees: Result<_, _> = names.map(|name| db.open_tree(name)).collect();
        let trees = trees.map_err(|error| storage_error(&dir, error))?;
        let path = dir.join("db");
        let file = File::options().write(true).open(&path).map_err(|error| StorageError::io(&path, error))?;
        let opened = Self { db, file, dir, trees, files };
        opened.sync()?;
        opened.files.sync_dir(&opened.dir)?;
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

    /// Makes all changes in one transaction, and removes what belongs to the rows that they replace. They survive a crash once
    /// [`sync`](Trees::sync) has returned, and until then together or not at all. Returns what was there before: sled reads it for a
    /// transaction, and to read it first would cost as much again.
    pub(crate) fn apply(&self, changes: &Changes, belonging: Belonging) -> Result<Replaced, StorageError> {
        if changes.is_empty() {
            return Ok(Replaced::new());
        }
        self.files.rows(&self.dir)?;
        let places: BTreeSet<usize> = changes.keys().copied().chain([belonging.tree]).collect();
        let trees: Vec<&sled::Tree> = places.iter().map(|&place| &self.trees[place]).collect();
        let applied = trees[..].transaction(|trees| {
            let trees: BTreeMap<usize, &TransactionalTree> = places.iter().copied().zip(trees).collect();
            let mut replaced = Replaced::new();
            let mut removed = Vec::new();
            for (&place, changes) in changes {
                for (key, row) in changes {
                    let old = match row {
                        Some(row) => trees[&place].insert(key.as_slice(), row.as_slice())?,
                        None => trees[&place].remove(key.as_slice())?,
                    };
                    if let Some(old) = old {
                        let keys = (belonging.keys)(place, &old);
                        removed.extend(keys.map_err(ConflictableTransactionError::Abort)?);
                        replaced.entry(place).or_default().insert(key.clone(), old);
                    }
                }
            }
            for key in removed {
                if let Some(old) = trees[&belonging.tree].remove(key.as_slice())? {
                    replaced.entry(belonging.tree).or_default().insert(key, old);
                }
            }
            Ok(replaced)
        });
        applied.map_err(|error| match error {
            TransactionError::Storage(error) => storage_error(&self.dir, error),
            TransactionError::Abort(what) => StorageError::damaged(&self.dir, what),
        })
    }

    /// Adds rows, sorted by key, to a tree that nobody reads yet: not as one change, and without syncing it.
    ///
    /// sled appends each change to its file, writes a page anew when it is split or has been changed ten times, and cleans a part of
    /// its file only once half of it is of no use. Rows that are added one by one in order leave twice their size and more. So the pages are
    /// made with keys alone, which are small, and each then gets its values: as many changes as a page has rows after a split, which
    /// are fewer than ten, so that each value is written once. Where rows are hardly larger than keys, the pages are made with every second
    /// one, so that the others fill them without a split.
    pub(crate) fn fill(&self, tree: usize, rows: &[Row]) -> Result<(), StorageError> {
        self.files.rows(&self.dir)?;
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

    /// Closes the database and removes it.
    pub(crate) fn remove(self) -> Result<(), StorageError> {
        let (dir, files) = (self.dir.clone(), self.files.clone());
        self.close()?;
        files.remove_dir(&dir)
    }

    /// Closes the database, and returns once its file is released, or does not seem to be.
    pub(crate) fn close(self) -> Result<(), StorageError> {
        let path = self.dir.join("db");
        drop(self);
        files::lock(&path).map(drop)
    }

    /// Makes everything that was applied survive a crash.
    pub(crate) fn sync(&self) -> Result<(), StorageError> {
        self.files.rows(&self.dir)?;
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
