//! How much of the disk the rows take, and how much of that is of use.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::StorageError;
use crate::files;
use crate::limits::{COPY_FACTOR, COPY_SPARE_BYTES, WASTEFUL_BYTES_MIN, WASTEFUL_FACTOR};

/// Not known yet.
const UNKNOWN: u64 = u64::MAX;

/// What a compaction did. All in bytes, of the rows and the files of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// What the files were.
    pub before_bytes: u64,
    /// What they are.
    pub after_bytes: u64,
    /// What stands in them that is of use: keys and values of rows, and the keys of sealed rows.
    pub live_bytes: u64,
}

/// What a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// Its files, in bytes.
    pub bytes: u64,
    /// Keys and values of its rows, in bytes.
    pub live_bytes: u64,
}

/// What the writer knows of the rows' size, for others to read.
#[derive(Debug)]
pub(crate) struct Space {
    live_bytes: AtomicU64,
    /// What the last compaction left.
    left_bytes: AtomicU64,
}

impl Default for Space {
    fn default() -> Self {
        Self { live_bytes: AtomicU64::new(UNKNOWN), left_bytes: AtomicU64::new(0) }
    }
}

impl Space {
    /// The rows were counted.
    pub(crate) fn set_live(&self, bytes: u64) {
        self.live_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Rows were added and removed. By the writer alone, so that no other change comes between.
    pub(crate) fn change_live(&self, added: u64, removed: u64) {
        if let Some(live) = self.live() {
            self.set_live((live + added).saturating_sub(removed));
        }
    }

    /// A compaction left so much on the disk.
    pub(crate) fn set_left(&self, bytes: u64) {
        self.left_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Keys and values of all rows, in bytes, about; none if they were not counted yet.
    pub(crate) fn live(&self) -> Option<u64> {
        Some(self.live_bytes.load(Ordering::Relaxed)).filter(|&bytes| bytes != UNKNOWN)
    }

    /// Whether so much on the disk is worth a compaction; none if the rows must be counted first.
    pub(crate) fn is_wasteful(&self, file_bytes: u64) -> Option<bool> {
        let grown = file_bytes / 2 >= self.left_bytes.load(Ordering::Relaxed);
        if file_bytes <= WASTEFUL_BYTES_MIN || !grown {
            return Some(false);
        }
        self.live().map(|live| file_bytes / WASTEFUL_FACTOR > live)
    }
}

/// Refuses a copy of so much that lives, keys included, in `dir`, where there may be no room for it.
pub(crate) fn check_room(dir: &Path, live_bytes: u64) -> Result<(), StorageError> {
    let needed_bytes = live_bytes.saturating_mul(COPY_FACTOR).saturating_add(COPY_SPARE_BYTES);
    let free_bytes = files::free_bytes(dir)?;
    if free_bytes < needed_bytes {
        return Err(StorageError::NoRoom { dir: dir.to_owned(), needed_bytes, free_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_wasteful_if_it_is_large_and_mostly_of_no_use_and_has_grown() {
        let space = Space::default();
        assert_eq!(space.is_wasteful(WASTEFUL_BYTES_MIN), Some(false), "too small to ask");
        assert_eq!(space.is_wasteful(WASTEFUL_BYTES_MIN + 1), None, "nothing was counted");
        let mib = 1 << 20;
        space.set_live(30 * mib);
        assert_eq!(space.is_wasteful(90 * mib), Some(false));
        assert_eq!(space.is_wasteful(91 * mib), Some(true));
        space.change_live(2 * mib, mib);
        assert_eq!(space.is_wasteful(91 * mib), Some(false));
        // Small rows take more than three times their size even when they were just written.
        space.set_live(mib);
        space.set_left(70 * mib);
        assert_eq!(space.is_wasteful(139 * mib), Some(false));
        assert_eq!(space.is_wasteful(140 * mib), Some(true));
    }
}
