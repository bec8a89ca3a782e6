//! Files: read with a bound, written whole or not at all, and secrets only where nobody else can read them.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Mode of files that hold secrets.
pub const SECRET: u32 = 0o600;
/// Mode of files that anybody may read.
pub const PUBLIC: u32 = 0o644;
/// A PEM file, a configuration file, or a key, in bytes.
pub const TEXT_BYTES_MAX: u64 = 256 * 1024;

/// Why a file could not be read or written. The fault is the operator's or the disk's.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system's reason.
    #[error("{}: cannot be read: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: io::Error,
    },
    /// The system's reason.
    #[error("{}: cannot be written: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: io::Error,
    },
    /// More bytes than such a file has.
    #[error("{}: larger than {max} bytes, so it is not the file that is needed here", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is allowed.
        max: u64,
    },
    /// Not UTF-8.
    #[error("{}: not a text file", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read a secret.
    #[error("{0}: mode {mode:03o} lets others read this secret; run: chmod 600 {0}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file is there that must not be overwritten.
    #[error("{}: already exists, and is not overwritten; move it away, or choose another place", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a whole file of at most `bytes_max` bytes.
///
/// # Errors
/// [`FileError::Read`] or [`FileError::TooLarge`].
pub fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let failed = |reason| FileError::Read { path: path.into(), reason };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(FileError::TooLarge { path: path.into(), max: bytes_max });
    }
    Ok(bytes)
}

/// Reads a text file.
///
/// # Errors
/// As [`read`], and [`FileError::NotText`].
pub fn read_text(path: &Path) -> Result<String, FileError> {
    String::from_utf8(read(path, TEXT_BYTES_MAX)?).map_err(|_| FileError::NotText { path: path.into() })
}

/// Reads a text file that nobody but its owner may read.
///
/// # Errors
/// As [`read_text`], and [`FileError::Exposed`].
pub fn read_secret_text(path: &Path) -> Result<Zeroizing<String>, FileError> {
    check_secret(path)?;
    Ok(Zeroizing::new(read_text(path)?))
}

/// Checks that nobody but its owner may read a file.
///
/// # Errors
/// [`FileError::Read`] if it is not there, [`FileError::Exposed`].
pub fn check_secret(path: &Path) -> Result<(), FileError> {
    let metadata = fs::metadata(path).map_err(|reason| FileError::Read { path: path.into(), reason })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(FileError::Exposed { path: path.into(), mode }) }
}

/// Writes a file that must not be there yet, and returns once it is on the disk.
///
/// # Errors
/// [`FileError::Exists`] or [`FileError::Write`].
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |reason: io::Error| match reason.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists { path: path.into() },
        _ => FileError::Write { path: path.into(), reason },
    };
    let temporary = write_beside(path, bytes, mode).map_err(failed)?;
    temporary.persist_noclobber(path).map_err(|e| failed(e.error))?;
    sync_directory(path).map_err(failed)
}

/// Writes or replaces a file in one step, and returns once it is on the disk: after a crash, the old or the
/// new one is there, whole.
///
/// # Errors [`FileError::Write`].
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |reason: io::Error| FileError::Write { path: path.into(), reason };
    let temporary = write_beside(path, bytes, mode).map_err(failed)?;
    temporary.persist(path).map_err(|e| failed(e.error))?;
    sync_directory(path).map_err(failed)
}

/// Removes a file, if it is there, and returns once that is on the disk.
///
/// # Errors
/// [`FileError::Write`].
pub fn remove(path: &Path) -> Result<(), FileError> {
    let failed = |reason: io::Error| FileError::Write { path: path.into(), reason };
    match fs::remove_file(path) {
        Err(reason) if reason.kind() != io::ErrorKind::NotFound => Err(failed(reason)),
        _ => sync_directory(path).map_err(failed),
    }
}

/// Gives a file another name in the same directory, in place of what has it, and returns once that is on the disk.
///
/// # Errors
/// [`FileError::Write`].
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    let renamed = fs::rename(from, to).and_then(|()| sync_directory(to));
    renamed.map_err(|reason| FileError::Write { path: from.into(), reason })
}

/// Copies a directory with all that is in it to one that is not there yet, for its owner alone, and returns once that is on the disk.
///
/// # Errors
/// [`FileError::Read`] or [`FileError::Write`].
pub fn copy_tree(from: &Path, to: &Path) -> Result<(), FileError> {
    create_directory(to)?;
    for name in names_in(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        let failed = |reason| FileError::Read { path: from.clone(), reason };
        if fs::metadata(&from).map_err(failed)?.is_dir() {
            copy_tree(&from, &to)?;
            continue;
        }
        let copy = || {
            fs::copy(&from, &to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(SECRET))?;
            File::open(&to)?.sync_all()
        };
        copy().map_err(|reason| FileError::Write { path: to.clone(), reason })?;
    }
    let synced = File::open(to).and_then(|directory| directory.sync_all());
    synced.map_err(|reason| FileError::Write { path: to.into(), reason })
}

/// Overwrites a file in place, and removes it. One that is not there is no error. What the file system or the disk keeps of it
/// elsewhere is not reached.
///
/// # Errors
/// [`FileError::Write`].
pub fn destroy(path: &Path) -> Result<(), FileError> {
    let overwrite = || {
        let mut file = File::options().write(true).open(path)?;
        io::copy(&mut io::repeat(0).take(file.metadata()?.len()), &mut file)?;
        file.sync_all()
    };
    match overwrite() {
        Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
            Err(FileError::Write { path: path.into(), reason })
        }
        _ => remove(path),
    }
}

/// Makes a directory, and those above it, which only its owner may enter; one that is there stays as it is.
///
/// # Errors
/// [`FileError::Write`].
pub fn create_directory(path: &Path) -> Result<(), FileError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|reason| FileError::Write { path: path.into(), reason })
}

/// The names of the files in a directory, sorted; none if there is no such directory.
///
/// # Errors
/// [`FileError::Read`].
pub fn names_in(path: &Path) -> Result<Vec<String>, FileError> {
    let failed = |reason| FileError::Read { path: path.into(), reason };
    let entries = match fs::read_dir(path) {
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn write_beside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<tempfile::NamedTempFile> {
    let mut temporary = tempfile::Builder::new().prefix(".writing-").tempfile_in(directory_of(path))?;
    temporary.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    Ok(temporary)
}

/// A rename is on the disk only once its directory is.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_written_for_its_owner_alone_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        create(&path, b"one", SECRET).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(create(&path, b"two", SECRET), Err(FileError::Exists { .. })));
        assert_eq!(&**read_secret_text(&path).unwrap(), "one");
        assert_eq!(names_in(directory.path()).unwrap(), ["key"]);
    }

    #[test]
    fn an_exposed_secret_and_a_large_file_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        replace(&path, b"one", PUBLIC).unwrap();
        let error = read_secret_text(&path).unwrap_err().to_string();
        assert!(error.contains("mode 644") && error.contains("chmod 600"), "{error}");
        assert!(matches!(read(&path, 2), Err(FileError::TooLarge { max: 2, .. })));
    }
}
