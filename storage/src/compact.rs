//! Compaction and backups: the rows are copied to a fresh database while commits go on ([`crate::copy`]).
//!
//! sled's file never becomes smaller by itself, and old versions of rows stay in it until their place is written again. A compaction
//! copies what lives to `rows.N` beside the rows in force, syncs that, and brings it into force by replacing `STORE`, which is one step;
//! then readers are given the new rows, and the old directory is removed. A crash before that step leaves a directory that is not in
//! force, and one after it leaves the old one: opening removes either. The keys of sealed rows stay as they are.
//!
//! A backup is the same copy in a directory of its own, with the files of the keys and `STORE` as they are at its end. The node's key is not
//! in it. It has its name only when it is whole; before that it is a draft, which is destroyed if it fails, and which a crash leaves.
//!
//! Neither begins on a disk that may not have room for it: who would be the first to notice is whoever commits next. How much room
//! is needed is known once the rows have been counted, which is done first.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use crate::StorageError;
use crate::copy::RowCopy;
use crate::files::{self, Files};
use crate::format::Marker;
use crate::limits::CACHE_BYTES;
use crate::rows::names;
use crate::sled::{Changes, Replaced, Trees};
use crate::space::{BackedUp, Compacted, check_room};
use crate::writer::StoreWriter;

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
    BackUp(PathBuf, SyncSender<Result<Unfinished, StorageError>>),
}

/// The rows that were in force, to be removed by who asked for the compaction: commits need not wait for that.
pub(crate) struct Earlier(Trees);

impl Earlier {
    /// Closes them, and removes their directory.
    pub(crate) fn remove(self) -> Result<(), StorageError> {
        self.0.remove()
    }
}

/// A backup with all that is to be in it, to be brought to the disk by who asked for it: commits need not wait for that. Dropped before
/// that is done, it is destroyed.
pub(crate) struct Unfinished {
    files: Files,
    trees: Option<Trees>,
    draft: PathBuf,
    to: PathBuf,
    marker: Marker,
    live_bytes: u64,
}

impl Unfinished {
    /// Returns once it would survive a crash under its name.
    pub(crate) fn finish(mut self) -> Result<BackedUp, StorageError> {
        if let Some(trees) = self.trees.take() {
            trees.sync()?;
            trees.close()?;
        }
        self.files.sync_below(&keys_dir(&self.draft))?;
        self.marker.write(&self.files)?;
        self.files.rename(&self.draft, &self.to)?;
        self.to.parent().map_or(Ok(()), |dir| self.files.sync_dir(dir))?;
        Ok(BackedUp { bytes: files::bytes_below(&self.to)?, live_bytes: self.live_bytes })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        drop(self.trees.take());
        // Nothing is there any more once it has its name. What can't be destroyed now is the operator's to remove.
        let _ = self.files.destroy_copy(&self.draft);
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
        if let Some(task) = &mut self.task {
            match (&task.purpose, &purpose) {
                // What is copied is counted as well.
                (_, Purpose::Count) => {}
                // It goes on once the rows are counted.
                (Purpose::Count, _) => task.purpose = purpose,
                _ => purpose.refuse(StorageError::Busy),
            }
            return;
        }
        let live_bytes = self.space.live().map(|bytes| bytes + self.keys.live_bytes());
        let begun = match (&purpose, live_bytes) {
            (Purpose::Count, _) | (_, None) => Ok((RowCopy::new(None), None, 0)),
            (Purpose::Compact(_), Some(live_bytes)) => self.begin_compaction(live_bytes),
            (Purpose::BackUp(to, _), Some(live_bytes)) => begin_backup(&self.files, to, live_bytes),
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

    /// Changes the copy as the rows are about to be changed.
    pub(crate) fn mirror(&mut self, changes: &Changes, replaced: &Replaced) {
        let Some(task) = &mut self.task else { return };
        if let Err(error) = task.copy.mirror(changes, replaced) {
            self.give_up(error);
        }
    }

    /// Ends the task without a result.
    pub(crate) fn give_up(&mut self, reason: StorageError) {
        if let Some(Task { copy, purpose, dir, .. }) = self.task.take() {
            drop(copy);
            // What can't be removed now is removed by opening, and a backup's draft by the operator.
            let _ = dir.map(|dir| self.files.destroy_copy(&dir));
            purpose.refuse(reason);
        }
    }

    fn begin_compaction(&self, live_bytes: u64) -> Result<(RowCopy, Option<PathBuf>, u64), StorageError> {
        let mut next = self.marker.clone();
        next.rows += 1;
        let dir = next.rows_dir();
        self.files.remove_dir(&dir)?;
        check_room(self.keys.dir(), live_bytes)?;
        let before_bytes = self.bytes_on_disk()?;
        let to = Trees::open(self.files.clone(), dir.clone(), self.cache_bytes, names())?;
        Ok((RowCopy::new(Some(to)), Some(dir), before_bytes))
    }

    fn end(&mut self) -> Result<(), StorageError> {
        let Some(Task { copy, purpose, dir, before_bytes }) = self.task.take() else { return Ok(()) };
        let live_bytes = copy.live_bytes();
        self.space.set_live(live_bytes);
        let Some(trees) = copy.into_trees() else {
            if !matches!(purpose, Purpose::Count) {
                self.begin(purpose);
            }
            return Ok(());
        };
        match purpose {
            Purpose::Count => Ok(()),
            Purpose::Compact(done) => {
                if let Err(error) = trees.sync() {
                    drop(trees);
                    // Opening removes what can't be removed now.
                    let _ = dir.map(|dir| self.files.remove_dir(&dir));
                    let _ = done.send(Err(error));
                    return Ok(());
                }
                let ended = self.bring_into_force(trees);
                let outcome = ended.as_ref().map(drop).map_err(Clone::clone);
                let compacted =
                    ended.and_then(|earlier| Ok((self.compacted(before_bytes, live_bytes)?, earlier)));
                let _ = done.send(compacted);
                outcome
            }
            Purpose::BackUp(to, done) => {
                let (draft, marker) = (draft(&to), self.marker.clone().of_copy(&draft(&to)));
                let backup = Unfinished {
                    files: self.files.clone(),
                    trees: Some(trees),
                    marker,
                    draft,
                    to,
                    live_bytes,
                };
                // What is erased in memory alone is not to be in a backup. It is the store's own erasure, so the store stops if it fails.
                let erased = self.finish_tidying();
                let copied = erased.clone().and_then(|()| self.copy_keys(&backup.draft));
                // Dropped where it failed.
                let _ = done.send(copied.map(|()| backup));
                erased
            }
        }
    }

    fn compacted(&self, before_bytes: u64, live_bytes: u64) -> Result<Compacted, StorageError> {
        let after_bytes = self.bytes_on_disk()?;
        self.space.set_left(after_bytes);
        let live_bytes = live_bytes + self.keys.live_bytes();
        Ok(Compacted { before_bytes, after_bytes, live_bytes })
    }

    /// Gives everyone these rows, which are synced, in place of those that are in force.
    fn bring_into_force(&mut self, trees: Trees) -> Result<Earlier, StorageError> {
        self.marker.rows += 1;
        self.marker.write(&self.files)?;
        Ok(Earlier(std::mem::replace(&mut *self.rows.write(), trees)))
    }

    /// Copies the files of the keys to a backup, without syncing them.
    fn copy_keys(&self, to: &Path) -> Result<(), StorageError> {
        let keys = keys_dir(to);
        files::create_dir(&keys)?;
        self.keys.slots().try_for_each(|slot| self.files.copy(&slot, &keys))
    }

    /// The files of the rows and their keys.
    fn bytes_on_disk(&self) -> Result<u64, StorageError> {
        Ok(files::bytes_below(&self.marker.rows_dir())? + files::bytes_below(self.keys.dir())?)
    }
}

fn begin_backup(
    files: &Files,
    to: &Path,
    live_bytes: u64,
) -> Result<(RowCopy, Option<PathBuf>, u64), StorageError> {
    let draft = draft(to);
    for path in [to, &draft] {
        // One without a name, such as `..`, is a directory that is there, or none that can be made.
        if path.exists() || path.file_name().is_none() {
            return Err(StorageError::io(path, io::ErrorKind::AlreadyExists.into()));
        }
    }
    files::create_dir(&draft)?;
    if let Err(error) = check_room(&draft, live_bytes) {
        let _ = files.destroy_copy(&draft);
        return Err(error);
    }
    let opened = Trees::open(files.clone(), draft.join("rows"), *CACHE_BYTES.start(), names());
    match opened {
        Ok(trees) => Ok((RowCopy::new(Some(trees)), Some(draft), 0)),
        Err(error) => {
            let _ = files.destroy_copy(&draft);
            Err(error)
        }
    }
}

/// Where a backup is made before it has its name.
fn draft(to: &Path) -> PathBuf {
    // Of the name alone, since a path may end in a slash.
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    to.with_file_name(name)
}

/// Where a store's keys are.
fn keys_dir(dir: &Path) -> PathBuf {
    dir.join("keys")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use zeroize::Zeroizing;

    use super::*;
    use crate::{Batch, SledOptions, SledStore, Store, Tree};

    fn open(dir: &Path) -> SledStore {
        let (dir, store_key) = (dir.to_owned(), Zeroizing::new([2; 32]));
        let options = SledOptions { dir, owner: [1; 32], store_key, cache_bytes: *CACHE_BYTES.start() };
        SledStore::open(options).unwrap()
    }

    fn commit(store: &SledStore, fill: impl FnOnce(&mut Batch)) {
        let mut batch = Batch::new();
        fill(&mut batch);
        store.commit(batch).unwrap();
    }

    #[test]
    fn nothing_is_begun_where_there_may_be_no_room() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = open(dir.path());
        commit(&store, |batch| batch.put(Tree::Envelopes, "key", "value"));
        let to = other.path().join("backup");
        store.space.set_live(1 << 60);
        for refused in [store.compact().map(drop), store.back_up(&to).map(drop)] {
            let Err(StorageError::NoRoom { needed_bytes, free_bytes, .. }) = refused else {
                panic!("{refused:?}");
            };
            assert!(free_bytes > 0 && needed_bytes > 2 << 60);
        }
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 0);
        assert!(!dir.path().join("rows.1").exists());
        // The store goes on.
        commit(&store, |batch| batch.put(Tree::Envelopes, "other", "value"));
        store.space.set_live(1 << 10);
        store.back_up(&to).unwrap();
        store.compact().unwrap();
    }

    /// What the writer adds up from change to change is what is there.
    #[test]
    fn what_lives_is_known_without_counting_it_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        commit(&store, |batch| batch.put(Tree::Hub, "conversation", vec![7; 20_000]));
        store.compact().unwrap();
        for number in 0..40u8 {
            commit(&store, |batch| {
                batch.put(Tree::Envelopes, [number], vec![number; 300]);
                batch.put(Tree::Expiry, [number], "");
                batch.put(Tree::Hub, "conversation", vec![number; 9_000 + usize::from(number)]);
                match number % 3 {
                    0 => {}
                    1 => batch.shred(Tree::Envelopes, [number - 1]),
                    _ => batch.delete(Tree::Envelopes, [number - 1]),
                }
            });
        }
        let known = store.space.live().unwrap();
        store.compact().unwrap();
        assert_eq!(store.space.live(), Some(known));
    }

    /// Who counts and who is counted for get along: what is asked for meanwhile is done after it.
    #[test]
    fn rows_are_counted_before_they_are_copied() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = open(dir.path());
        commit(&store, |batch| batch.put(Tree::Envelopes, "key", "value"));
        assert_eq!(store.space.live(), None);
        let backed_up = store.back_up(&other.path().join("backup")).unwrap();
        assert_eq!(store.space.live(), Some(backed_up.live_bytes));
        assert_eq!(store.compact().unwrap().live_bytes, backed_up.live_bytes + 40);
    }
}
