//! Writing files so that a crash leaves the old one or the new one, and so that a destroyed one is gone.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::StorageError;
use crate::limits::{LOCK_RETRY_MS, LOCK_WAIT_MS_MAX};

/// Creates a directory and its parents, for this user only, unless it is there.
pub(crate) fn create_dir(path: &Path) -> Result<(), StorageError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| StorageError::io(path, error))
}

/// Writes `bytes` to `path`, by way of `draft` in the same directory, for this user only. Once this returns,
/// the file would survive a crash under its name.
pub(crate) fn replace(path: &Path, draft: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    write_synced(draft, bytes).map_err(|error| StorageError::io(draft, error))?;
    fs::rename(draft, path).map_err(|error| StorageError::io(path, error))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// As [`replace`], but what `path` was before is destroyed: it waits as `old` until the new file stands.
/// After a crash, [`restore_exchanged`] puts right what was left.
pub(crate) fn exchange(path: &Path, draft: &Path, old: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    write_synced(draft, bytes).map_err(|error| StorageError::io(draft, error))?;
    match fs::rename(path, old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StorageError::io(path, error)),
        _ => {}
    }
    // Synced between the two, so that there is always one under a name that is known.
    let dir = path.parent().unwrap_or(Path::new("."));
    sync_dir(dir)?;
    fs::rename(draft, path).map_err(|error| StorageError::io(path, error))?;
    sync_dir(dir)?;
    destroy(old)
}

/// Takes back an exchange that a crash has stopped before the new file stood.
pub(crate) fn restore_exchanged(path: &Path, old: &Path) -> Result<(), StorageError> {
    if path.exists() || !old.exists() {
        return Ok(());
    }
    fs::rename(old, path).map_err(|error| StorageError::io(old, error))?;
    path.parent().map_or(Ok(()), sync_dir)
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

/// Copies a file into a directory, under its name, for this user only. Once this returns, its content would survive a crash.
pub(crate) fn copy(path: &Path, dir: &Path) -> Result<(), StorageError> {
    let failed = |error| StorageError::io(path, error);
    let bytes = fs::read(path).map_err(failed)?;
    let to = dir.join(path.file_name().unwrap_or_default());
    write_synced(&to, &bytes).map_err(|error| StorageError::io(&to, error))
}

/// Removes a directory with all that is in it. One that is not there is no error.
pub(crate) fn remove_dir(path: &Path) -> Result<(), StorageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io(path, error)),
        _ => path.parent().map_or(Ok(()), sync_dir),
    }
}

/// As [`remove_dir`], of a copy of a store: what holds its keys is overwritten first.
pub(crate) fn destroy_copy(path: &Path) -> Result<(), StorageError> {
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
    secret.iter().try_for_each(|file| destroy(file))?;
    remove_dir(path)
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

/// Appends `bytes` to `path`. Once this returns, they would survive a crash.
pub(crate) fn append(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let append = || {
        let mut file = OpenOptions::new().append(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_data()
    };
    append().map_err(|error| StorageError::io(path, error))
}

/// Cuts `path` to its first `len` bytes.
pub(crate) fn truncate(path: &Path, len: u64) -> Result<(), StorageError> {
    let truncate = || {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(len)?;
        file.sync_all()
    };
    truncate().map_err(|error| StorageError::io(path, error))
}

/// Overwrites `path` in place, syncs it, and removes it. A file that is not there is no error.
pub(crate) fn destroy(path: &Path) -> Result<(), StorageError> {
    let destroy = || {
        let mut file = OpenOptions::new().write(true).open(path)?;
        io::copy(&mut io::Read::take(io::repeat(0), file.metadata()?.len()), &mut file)?;
        file.sync_data()?;
        fs::remove_file(path)
    };
    match destroy() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StorageError::io(path, error)),
        _ => Ok(()),
    }
}

/// Makes the names in a directory survive a crash.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StorageError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|error| StorageError::io(path, error))
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
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
        destroy_copy(&copy).unwrap();
        assert!(!copy.exists());
        let left = [0, 1, 2, 3].map(|number| fs::read(other.join(number.to_string())).unwrap());
        assert_eq!(left, [&[0; 6][..], &[0; 6], &[0; 6], b"secret"]);
        destroy_copy(&copy).unwrap();
    }
}
