//! Files of the profile: private to their owner, bounded when read, whole when written.

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// What others than the owner may do with a private file or directory: nothing.
const OTHERS: u32 = 0o077;

/// Why a file of the profile cannot be used. The fault of the disk, or of who changed the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system said no.
    #[error("{path}: {what}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried, such as "cannot be read".
        what: &'static str,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
    /// Others could read a secret.
    #[error("{path}: others than its owner may access it (mode {mode:03o}); run: chmod {wanted:03o} {path}")]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The bits that it should have.
        wanted: u32,
    },
    /// Larger than anything that belongs there.
    #[error(
        "{path}: more than the {bytes_max} bytes that belong there; restore the profile \
         from a backup or enrol again"
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        bytes_max: usize,
    },
}

/// Makes a directory that only its owner can enter, or checks that an existing one is so.
///
/// # Errors
/// [`FileError::Open`] if others can enter it, [`FileError::Io`] if it cannot be made.
pub fn private_dir(path: &Path) -> Result<(), FileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| io_error(path, "cannot be made", error))?;
    let metadata = fs::metadata(path).map_err(|error| io_error(path, "cannot be read", error))?;
    check_mode(path, &metadata.permissions(), 0o700)
}

/// Writes a file whole or not at all, readable by its owner alone, and on the disk when this returns.
///
/// # Errors
/// [`FileError::Io`]; the file is then as it was before.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let failed = |error| io_error(path, "cannot be written", error);
    let dir = path.parent().unwrap_or(Path::new("."));
    // The temporary file has mode 0600 from the start.
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    sync_dir_of(path).map_err(failed)
}

/// Reads a file that only its owner may read; its bytes are erased from memory when dropped.
///
/// # Errors
/// [`FileError`] if others may read it, if it is longer than `bytes_max`, or if it cannot be read.
pub fn read_private(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let failed = |error| io_error(path, "cannot be read", error);
    let file = File::open(path).map_err(failed)?;
    check_mode(path, &file.metadata().map_err(failed)?.permissions(), 0o600)?;
    // Reserved at once, so that growing leaves no copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max + 1));
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > bytes_max {
        return Err(FileError::TooLong { path: path.into(), bytes_max });
    }
    Ok(bytes)
}

/// Waits until no other process works on the profile; released when the file is dropped.
///
/// # Errors
/// [`FileError::Io`] if the lock file cannot be made or locked.
pub fn lock(path: &Path) -> Result<File, FileError> {
    let failed = |error| io_error(path, "cannot be locked", error);
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// As [`lock`], but waits for nobody: none if another process has it.
///
/// # Errors
/// As [`lock`].
pub fn try_lock(path: &Path) -> Result<Option<File>, FileError> {
    let failed = |error| io_error(path, "cannot be locked", error);
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Gives a file another name, in place of what has it, and makes that last.
///
/// # Errors
/// [`FileError::Io`].
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    let failed = |error| io_error(from, "cannot be renamed", error);
    fs::rename(from, to).map_err(failed)?;
    sync_dir_of(to).map_err(failed)
}

/// Overwrites a file with zeros and removes it, if it is there. A flash disk may still hold what was in it.
///
/// # Errors
/// [`FileError::Io`].
pub fn destroy(path: &Path) -> Result<(), FileError> {
    let failed = |error| io_error(path, "cannot be destroyed", error);
    let mut file = match File::options().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    };
    let len = file.metadata().map_err(failed)?.len();
    io::copy(&mut io::repeat(0).take(len), &mut file).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::remove_file(path).map_err(failed)?;
    sync_dir_of(path).map_err(failed)
}

fn sync_dir_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all())
}

fn check_mode(path: &Path, permissions: &Permissions, wanted: u32) -> Result<(), FileError> {
    let mode = permissions.mode() & 0o777;
    if mode & OTHERS == 0 { Ok(()) } else { Err(FileError::Open { path: path.into(), mode, wanted }) }
}

fn io_error(path: &Path, what: &'static str, error: io::Error) -> FileError {
    FileError::Io { path: path.into(), what, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_private_and_read_back_within_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("a/b");
        private_dir(&home).unwrap();
        private_dir(&home).unwrap();
        let path = home.join("secret");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"four").unwrap();
        assert_eq!(**read_private(&path, 4).unwrap(), *b"four");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(read_private(&path, 3), Err(FileError::TooLong { bytes_max: 3, .. })));
        assert_eq!(fs::read_dir(&home).unwrap().count(), 1);
    }

    #[test]
    fn what_is_destroyed_is_gone_and_what_is_locked_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_private(&path, b"secret").unwrap();
        // Its bytes, by another name.
        fs::hard_link(&path, dir.path().join("same")).unwrap();
        destroy(&path).unwrap();
        destroy(&path).unwrap();
        assert!(!path.exists());
        assert_eq!(fs::read(dir.path().join("same")).unwrap(), [0; 6]);
        let held = try_lock(&path).unwrap();
        assert!(held.is_some() && try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(try_lock(&path).unwrap().is_some());
    }

    #[test]
    fn what_others_may_read_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        write_private(&path, b"x").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let said = read_private(&path, 8).unwrap_err().to_string();
        assert!(said.contains("mode 640") && said.contains("chmod 600"), "{said}");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(private_dir(dir.path()), Err(FileError::Open { wanted: 0o700, .. })));
    }
}
