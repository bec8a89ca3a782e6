//! Compaction and backups: the rows are copied to a fresh database while commits go on ([`crate::copy`]).
//!
//! sled's file never becomes smaller by itself, and old versions of rows stay in it until their place is written again. A compaction
//! copies what lives to `rows.N` beside the rows in force, syncs that, and brings it into force by replacing `STORE`, which is one step;
//! then readers are given the new rows, and the old directory is removed. A crash before that step leaves a directory that is not in
//! force, and one after it leaves the old one: opening removes either. The keys of sealed rows stay as they are.
//!
//! A backup is the same copy in a directory of its own, with the files of the keys and `STORE` as they are at its end. The node's key is not
//! in it. It has its name only when it is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use crate::copy::RowCopy;
use crate::limits::CACHE_BYTES;
use crate::rows::names;
use crate::sled::{Changes, Trees};
use crate::space::{BackedUp, Compacted, on_disk};
use crate::writer::StoreWriter;
use crate::{StorageError, files};

/// What one key of a sealed row takes in a file of keys, in bytes.
const KEY_ENTRY_BYTES: u64 = 40;

/// A copy under way, or a count.
pub(crate) struct Task {
    copy: RowCopy,
    purpose: Purpose,
    /// Where it is made; nowhere, if rows are only counted.
    dir: Option<PathBuf>,
    before_bytes: u64,
}

/// What rows are copied for, and who waits for it.
pub(crate) enum Purpose {
    /// To know how much of them is of use.
    Count,
    /// To take the place of those in force.
    Compact(SyncSender<Result<(Compacted, Earlier), StorageError>>),
    /// To keep them in a directory that is not there yet.
    BackUp(PathBuf, SyncSender<Result<BackedUp, StorageError>>),
}

/// The rows that were in force, to be removed by who asked for the compaction: commits need not wait for that.
pub(crate) struct Earlier(Trees);

impl Earlier {
    /// Closes them, and removes their directory.
    pub(crate) fn remove(self) -> Result<(), StorageError> {
        let dir = self.0.dir().to_owned();
        self.0.close()?;
        files::remove_dir(&dir)
    }
}

impl Purpose {
    /// Says to who waits that nothing comes of it.
    pub(crate) fn refuse(self, reason: StorageError) {
        // Who asked may have gone away.
        match self {
            Purpose::Count => {}
            Purpose::Compact(done) => drop(done.send(Err(reason))),
            Purpose::BackUp(_, done) => drop(done.send(Err(reason))),
        }
    }
}

impl StoreWriter {
    /// Begins to copy; what is in the way is told to who asked.
    pub(crate) fn begin(&mut self, purpose: Purpose) {
        match (&self.task, &purpose) {
            (None, _) => {}
            // One is enough.
            (Some(_), Purpose::Count) => return,
            // What is asked for counts them as well.
            (Some(Task { purpose: Purpose::Count, .. }), _) => {}
            (Some(_), _) => return purpose.refuse(StorageError::Busy),
        }
        self.task = None;
        let begun = match &purpose {
            Purpose::Count => Ok((RowCopy::new(None), None, 0)),
            Purpose::Compact(_) => self.begin_compaction(),
            Purpose::BackUp(to, _) => begin_backup(to),
        };
        match begun {
            Ok((copy, dir, before_bytes)) => self.task = Some(Task { copy, purpose, dir, before_bytes }),
            Err(error) => purpose.refuse(error),
        }
    }

    /// Copies some more, and ends the task when everything is copied. What goes wrong is told to who asked, and is an error only if it
    /// is not known any more which rows are in force, or which keys are erased.
    pub(crate) fn go_on(&mut self) -> Result<(), StorageError> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let copied = task.copy.step(&self.rows.read().trees);
        match copied {
            Ok(false) => Ok(()),
            Ok(true) => self.end(),
            Err(error) => {
                self.give_up(error);
                Ok(())
            }
        }
    }

    /// Changes the copy as the rows were changed.
    pub(crate) fn mirror(&mut self, changes: &Changes) {
        if let Some(Err(error)) = self.task.as_ref().map(|task| task.copy.mirror(changes)) {
            self.give_up(error);
        }
    }

    /// Ends the task without a result.
    pub(crate) fn give_up(&mut self, reason: StorageError) {
        if let Some(Task { copy, purpose, dir, .. }) = self.task.take() {
            drop(copy);
            // Opening removes what can't be removed now.
            let _ = dir.map(|dir| files::destroy_copy(&dir));
            purpose.refuse(reason);
        }
    }

    fn begin_compaction(&self) -> Result<(RowCopy, Option<PathBuf>, u64), StorageError> {
        let mut next = self.marker.clone();
        next.rows += 1;
        let dir = next.rows_dir();
        files::remove_dir(&dir)?;
        let before_bytes = self.bytes_on_disk()?;
        let to = Trees::open(dir.clone(), self.cache_bytes, names())?;
        Ok((RowCopy::new(Some(to)), Some(dir), before_bytes))
    }

    fn end(&mut self) -> Result<(), StorageError> {
        let Some(Task { copy, purpose, dir, before_bytes }) = self.task.take() else { return Ok(()) };
        let live_bytes = copy.live_bytes();
        self.space.set_live(live_bytes);
        let outcome = match purpose {
            Purpose::Count => return Ok(()),
            Purpose::Compact(done) => {
                let trees = copy.into_trees().expect("a compaction copies to a database");
                if let Err(error) = trees.sync() {
                    let _ = done.send(Err(error.clone()));
                    Err(error)
                } else {
                    let ended = self.bring_into_force(trees);
                    let outcome = ended.as_ref().map(drop).map_err(Clone::clone);
                    let compacted =
                        ended.and_then(|earlier| Ok((self.compacted(before_bytes, live_bytes)?, earlier)));
                    let _ = done.send(compacted);
                    return outcome;
                }
            }
            Purpose::BackUp(to, done) => {
                // What is erased in memory alone is not to be in a backup. It is the store's own erasure, so the store stops if it fails.
                if let Err(error) = self.finish_tidying() {
                    drop(copy);
                    let _ = dir.map(|dir| files::destroy_copy(&dir));
                    let _ = done.send(Err(error.clone()));
                    return Err(error);
                }
                let backed_up = self.end_backup(copy, &to);
                let outcome = backed_up.clone().map(drop);
                let _ = done.send(backed_up.map(|bytes| BackedUp { bytes, live_bytes }));
                outcome
            }
        };
        if outcome.is_err() {
            // Opening removes what can't be removed now.
            let _ = dir.map(|dir| files::destroy_copy(&dir));
        }
        Ok(())
    }

    fn compacted(&self, before_bytes: u64, live_bytes: u64) -> Result<Compacted, StorageError> {
        let after_bytes = self.bytes_on_disk()?;
        self.space.set_left(after_bytes);
        let live_bytes = live_bytes + KEY_ENTRY_BYTES * self.keys.count() as u64;
        Ok(Compacted { before_bytes, after_bytes, live_bytes })
    }

    /// Gives everyone these rows, which are synced, in place of those that are in force.
    fn bring_into_force(&mut self, trees: Trees) -> Result<Earlier, StorageError> {
        self.marker.rows += 1;
        self.marker.write()?;
        Ok(Earlier(std::mem::replace(&mut *self.rows.write(), trees)))
    }

    fn end_backup(&mut self, copy: RowCopy, to: &Path) -> Result<u64, StorageError> {
        let draft = draft(to);
        if let Some(trees) = copy.into_trees() {
            trees.sync()?;
            trees.close()?;
        }
        let keys = draft.join("keys");
        files::create_dir(&keys)?;
        for slot in self.keys.slots() {
            files::copy(&slot, &keys)?;
        }
        files::sync_dir(&keys)?;
        let mut marker = self.marker.clone().in_dir(&draft);
        marker.rows = 0;
        marker.write()?;
        fs::rename(&draft, to).map_err(|error| StorageError::io(to, error))?;
        to.parent().map_or(Ok(()), files::sync_dir)?;
        on_disk(&[to.to_owned()])
    }

    /// The files of the rows and their keys.
    fn bytes_on_disk(&self) -> Result<u64, StorageError> {
        on_disk(&[self.marker.rows_dir(), self.keys.dir().to_owned()])
    }
}

fn begin_backup(to: &Path) -> Result<(RowCopy, Option<PathBuf>, u64), StorageError> {
    let draft = draft(to);
    for path in [to, &draft] {
        if path.exists() {
            return Err(StorageError::io(path, io::ErrorKind::AlreadyExists.into()));
        }
    }
    files::create_dir(&draft)?;
    let opened = Trees::open(draft.join("rows"), *CACHE_BYTES.start(), names());
    match opened {
        Ok(trees) => Ok((RowCopy::new(Some(trees)), Some(draft), 0)),
        Err(error) => {
            let _ = files::destroy_copy(&draft);
            Err(error)
        }
    }
}

/// Where a backup is made before it has its name.
fn draft(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}
