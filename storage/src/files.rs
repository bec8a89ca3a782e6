//! Writing files so that a crash leaves the old one or the new one, and so that a destroyed one is gone.
//!
//! Each step that changes what is on the disk goes through [`Files`], where a test can stop it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
#[cfg(test)]
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::StorageError;
#[cfg(test)]
use crate::faults::Faults;
use crate::limits::{LOCK_RETRY_MS, LOCK_WAIT_MS_MAX, SHARD_BYTES_MAX};

/// How a store changes its files: a handle, which all of its parts share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// Stops it somewhere.
    #[cfg(test)]
    pub(crate) faults: Option<Arc<Faults>>,
}

/// What a crash comes before or after; a [`Write`](Step::Write) also in the middle.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only tests ask which step it is"))]
pub(crate) enum Step<'a> {
    /// A file is made, or an old one of this name is emptied.
    Create(&'a Path),
    /// Bytes are written to a file.
    Write(&'a Path),
    /// A file is cut.
    Cut(&'a Path),
    /// What was written to a file is synced.
    Sync(&'a Path),
    /// The names in a directory are synced.
    SyncDir(&'a Path),
    /// A file or a directory is given another name.
    Rename(&'a Path, &'a Path),
    /// A file is removed.
    Remove(&'a Path),
    /// A directory is removed with all that is in it.
    RemoveDir(&'a Path),
    /// The database changes or syncs files of its own.
    Rows,
}

/// A file that is written, and has neither been synced nor got its name.
pub(crate) struct Draft {
    path: PathBuf,
    file: File,
}

impl Files {
    /// Writes `bytes` to `path`, by way of `draft` in the same directory, for this user only. Once this returns,
    /// the file would survive a crash under its name.
    pub(crate) fn replace(&self, path: &Path, draft: &Path, bytes: &[u8]) -> Result<(), StorageError> {
        let draft = self.draft(draft, bytes)?;
        self.put_in_place(&[(draft, path.to_owned())], path.parent().unwrap_or(Path::new(".")))
    }

    /// Writes a file that has no standing yet.
    pub(crate) fn draft(&self, path: &Path, bytes: &[u8]) -> Result<Draft, StorageError> {
        let file = self.write(path, bytes).map_err(|error| StorageError::io(path, error))?;
        Ok(Draft { path: path.to_owned(), file })
    }

    /// Gives drafts their names in a directory. Once this returns, all of them would survive a crash under these; before, any may. The file
    /// system has less to do than for one after the other.
    pub(crate) fn put_in_place(&self, drafts: &[(Draft, PathBuf)], dir: &Path) -> Result<(), StorageError> {
        for (Draft { path, file }, _) in drafts {
            let synced = self.step(Step::Sync(path), |_| file.sync_all());
            synced.map_err(|error| StorageError::io(path, error))?;
        }
        drafts.iter().try_for_each(|(draft, path)| self.rename(&draft.path, path))?;
        self.sync_dir(dir)
    }

    /// As [`replace`](Files::replace), but what `path` was before is destroyed: it waits as `old` until the new file stands.
    /// After a crash, [`restore_exchanged`](Files::restore_exchanged) puts right what was left.
    pub(crate) fn exchange(
        &self,
        path: &Path,
        draft: &Path,
        old: &Path,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        self.write_synced(draft, bytes).map_err(|error| StorageError::io(draft, error))?;
        if path.exists() {
            self.rename(path, old)?;
        }
        // Synced between the two, so that there is always one under a name that is known.
        let dir = path.parent().unwrap_or(Path::new("."));
        self.sync_dir(dir)?;
        self.rename(draft, path)?;
        self.sync_dir(dir)?;
        self.destroy(old)
    }

    /// Takes back an exchange that a crash has stopped before the new file stood.
    pub(crate) fn restore_exchanged(&self, path: &Path, old: &Path) -> Result<(), StorageError> {
        if path.exists() || !old.exists() {
            return Ok(());
        }
        self.rename(old, path)?;
        path.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }

    /// Copies a file into a directory, under its name, for this user only. It is synced by [`sync_below`](Files::sync_below).
    pub(crate) fn copy(&self, path: &Path, dir: &Path) -> Result<(), StorageError> {
        let bytes = fs::read(path).map_err(|error| StorageError::io(path, error))?;
        let to = dir.join(path.file_name().unwrap_or_default());
        self.write(&to, &bytes).map(drop).map_err(|error| StorageError::io(&to, error))
    }

    /// Makes all files of a directory, which has no others below it, survive a crash.
    pub(crate) fn sync_below(&self, dir: &Path) -> Result<(), StorageError> {
        let failed = |error| StorageError::io(dir, error);
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let synced = File::open(&path).and_then(|file| self.step(Step::Sync(&path), |_| file.sync_all()));
            synced.map_err(|error| StorageError::io(&path, error))?;
        }
        self.sync_dir(dir)
    }

    /// Gives a file or a directory another name, which survives a crash once its directory is synced.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), StorageError> {
        let renamed = self.step(Step::Rename(from, to), |_| fs::rename(from, to));
        renamed.map_err(|error| StorageError::io(from, error))
    }

    /// Removes a directory with all that is in it. One that is not there is no error.
    pub(crate) fn remove_dir(&self, path: &Path) -> Result<(), StorageError> {
        match self.step(Step::RemoveDir(path), |_| fs::remove_dir_all(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io(path, error)),
            _ => path.parent().map_or(Ok(()), |dir| self.sync_dir(dir)),
        }
    }

    /// As [`remove_dir`](Files::remove_dir), of a copy of a store: what holds its keys is overwritten first.
    pub(crate) fn destroy_copy(&self, path: &Path) -> Result<(), StorageError> {
        let mut secret = Vec::new();
        for dir in [path.to_owned(), path.join("keys")] {
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(StorageError::io(&dir, error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| StorageError::io(&dir, error))?.path();
                let name = entry.file_name().unwrap_or_default().to_string_lossy();
                if entry.is_file() && (dir != *path || name.starts_with("STORE")) {
                    secret.push(entry);
                }
            }
        }
        secret.iter().try_for_each(|file| self.destroy(file))?;
        self.remove_dir(path)
    }

    /// Appends `bytes` to `path`. Once this returns, they would survive a crash.
    pub(crate) fn append(&self, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
        let append = || {
            let mut file = OpenOptions::new().append(true).open(path)?;
            self.write_to(&mut file, path, bytes)?;
            self.step(Step::Sync(path), |_| file.sync_data())
        };
        append().map_err(|error| StorageError::io(path, error))
    }

    /// Cuts `path` to its first `len` bytes.
    pub(crate) fn truncate(&self, path: &Path, len: u64) -> Result<(), StorageError> {
        let truncate = || {
            let file = OpenOptions::new().write(true).open(path)?;
            self.step(Step::Cut(path), |_| file.set_len(len))?;
            self.step(Step::Sync(path), |_| file.sync_all())
        };
        truncate().map_err(|error| StorageError::io(path, error))
    }

    /// Overwrites `path` in place, syncs it, and removes it. A file that is not there is no error.
    pub(crate) fn destroy(&self, path: &Path) -> Result<(), StorageError> {
        self.destroy_all(&[path.to_owned()])
    }

    /// The same of several files, of which all are overwritten before the first is synced.
    pub(crate) fn destroy_all(&self, paths: &[PathBuf]) -> Result<(), StorageError> {
        let mut overwritten = Vec::new();
        for path in paths {
            match self.overwrite(path) {
                Ok(file) => overwritten.push((path, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StorageError::io(path, error)),
            }
        }
        for (path, file) in &overwritten {
            let synced = self.step(Step::Sync(path), |_| file.sync_data());
            synced.map_err(|error| StorageError::io(path, error))?;
        }
        overwritten.iter().try_for_each(|(path, _)| self.remove(path))
    }

    fn overwrite(&self, path: &Path) -> io::Result<File> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let mut left = file.metadata()?.len();
        while left > 0 {
            let len = left.min(SHARD_BYTES_MAX);
            self.write_to(&mut file, path, &vec![0; len as usize])?;
            left -= len;
        }
        Ok(file)
    }

    /// Removes `path`, in which nothing is worth overwriting. A file that is not there is no error.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), StorageError> {
        match self.step(Step::Remove(path), |_| fs::remove_file(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io(path, error)),
            _ => Ok(()),
        }
    }

    /// Makes the names in a directory survive a crash.
    pub(crate) fn sync_dir(&self, path: &Path) -> Result<(), StorageError> {
        let synced = File::open(path).and_then(|dir| self.step(Step::SyncDir(path), |_| dir.sync_all()));
        synced.map_err(|error| StorageError::io(path, error))
    }

    /// Tells that the database in `dir` is about to change or sync files of its own.
    pub(crate) fn rows(&self, dir: &Path) -> Result<(), StorageError> {
        self.step(Step::Rows, |_| Ok(())).map_err(|error| StorageError::io(dir, error))
    }

    fn write_synced(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.write(path, bytes)?;
        self.step(Step::Sync(path), |_| file.sync_all())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = self.step(Step::Create(path), |_| options.open(path))?;
        self.write_to(&mut file, path, bytes)?;
        Ok(file)
    }

    fn write_to(&self, file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(Step::Write(path), |whole| {
            file.write_all(if whole { bytes } else { &bytes[..bytes.len() / 2] })
        })
    }

    /// Takes a step, as a whole.
    #[cfg(not(test))]
    fn step<T>(&self, _: Step<'_>, act: impl FnOnce(bool) -> io::Result<T>) -> io::Result<T> {
        act(true)
    }

    /// Takes a step, as a whole, unless it is stopped.
    #[cfg(test)]
    fn step<T>(&self, step: Step<'_>, act: impl FnOnce(bool) -> io::Result<T>) -> io::Result<T> {
        match &self.faults {
            Some(faults) => faults.step(step, act),
            None => act(true),
        }
    }
}

/// Creates a directory and its parents, for this user only, unless it is there.
pub(crate) fn create_dir(path: &Path) -> Result<(), StorageError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| StorageError::io(path, error))
}

/// Takes the lock of `path`, which lasts as long as the file that is returned; waits a while for a process that is just ending. None if
/// another one keeps it.
pub(crate) fn lock(path: &Path) -> Result<Option<File>, StorageError> {
    let failed = |error| StorageError::io(path, error);
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if start.elapsed() >= Duration::from_millis(LOCK_WAIT_MS_MAX) => {
                return Ok(None);
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(LOCK_RETRY_MS)),
        }
    }
}

/// How much may be written to the file system of `path`, in bytes.
pub(crate) fn free_bytes(path: &Path) -> Result<u64, StorageError> {
    let stat = rustix::fs::statvfs(path).map_err(|error| StorageError::io(path, error.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The bytes of all files below `path`.
pub(crate) fn bytes_below(path: &Path) -> Result<u64, StorageError> {
    let failed = |error| StorageError::io(path, error);
    let mut sum = 0;
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => sum += bytes_below(&entry.path())?,
            Ok(metadata) => sum += metadata.len(),
            // The database removes files of its own while it runs.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another name of each file shows what became of its blocks.
    #[test]
    fn a_copy_of_a_store_is_removed_with_its_keys_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (copy, other) = (dir.path().join("copy"), dir.path().join("other"));
        create_dir(&copy.join("keys")).unwrap();
        create_dir(&copy.join("rows")).unwrap();
        create_dir(&other).unwrap();
        for (number, name) in ["STORE", "STORE.new", "keys/000000.a", "rows/db"].into_iter().enumerate() {
            fs::write(copy.join(name), "secret").unwrap();
            fs::hard_link(copy.join(name), other.join(number.to_string())).unwrap();
        }
        Files::default().destroy_copy(&copy).unwrap();
        assert!(!copy.exists());
        let left = [0, 1, 2, 3].map(|number| fs::read(other.join(number.to_string())).unwrap());
        assert_eq!(left, [&[0; 6][..], &[0; 6], &[0; 6], b"secret"]);
        Files::default().destroy_copy(&copy).unwrap();
    }
}
