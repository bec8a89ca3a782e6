//! What can go wrong with a store, and who can put it right.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Tree;

/// Why a store did not do what it was asked. Cloneable, since one failed sync fails every commit that waited
/// for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The caller's mistake: sealed trees have no order on disk.
    #[error("tree {} is sealed: it can be read by key, not scanned", .0.name())]
    SealedScan(Tree),
    /// The caller's mistake: a key, value or batch beyond its limit in [`limits`](crate::limits).
    #[error("{what} of {len} is above the limit of {max}")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// Its size.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The operator's: another process has the store open.
    #[error("the store at {} is in use by another process: stop it, then try again", .0.display())]
    InUse(PathBuf),
    /// The operator's: a compaction or a backup is under way.
    #[error("the store is being compacted or backed up: wait until that is done, then try again")]
    Busy,
    /// The operator's: a compaction or a backup was not begun, since the disk may have no room for it. Nothing was changed.
    #[error(
        "{}: a copy of the store needs {needed_bytes} bytes of free space here, and {free_bytes} are left: free some, then try again",
        dir.display()
    )]
    NoRoom {
        /// A directory on the disk.
        dir: PathBuf,
        /// What the copy may need, with some to spare.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// The operator's: a newer version of the program wrote the store.
    #[error(
        "the store at {} has format {found}, and this program knows formats up to {supported}: \
         start the version that wrote it, or a newer one",
        dir.display()
    )]
    NewerFormat {
        /// Where the store is.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        supported: u32,
    },
    /// The operator's: the store belongs to another node or network.
    #[error(
        "the store at {} belongs to another node or network: give this node a data directory of its own, \
         or start the node that it belongs to",
        .0.display()
    )]
    OtherOwner(PathBuf),
    /// The operator's: the store key is not the one that the store was made with.
    #[error(
        "the store key does not open the store at {}: restore the key that it was made with, or last rotated to",
        .0.display()
    )]
    WrongStoreKey(PathBuf),
    /// The disk's: what was read can't be what was written.
    #[error("{} is damaged ({what}): restore the data directory from a backup, or remove it and let the node \
             fetch its records again", path.display())]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The disk's: no space left.
    #[error("the disk is full: free some space, then restart")]
    Full,
    /// The disk's, or the operating system's.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        source: Arc<io::Error>,
    },
    /// An earlier write failed, and what is on disk is no longer certain; only opening the store again tells.
    #[error("the store stopped after a failed write ({0}): restart")]
    Stopped(String),
    /// The operating system gave no random bytes.
    #[error("no randomness from the operating system: {0}")]
    Randomness(String),
}

impl StorageError {
    /// An error of the operating system about `path`.
    pub fn io(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::StorageFull || source.kind() == io::ErrorKind::QuotaExceeded {
            return Self::Full;
        }
        Self::Io { path: path.to_owned(), source: Arc::new(source) }
    }

    /// The store's writer has ended, so that nothing is written any more.
    pub(crate) fn writer_ended() -> Self {
        Self::Stopped("its writer thread ended".into())
    }

    /// Damage of `path`.
    pub fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}
