//! The two traits that the engine and its drivers know a store by.

use std::ops::Bound;
use std::sync::Arc;

use crate::{Batch, Committing, StorageError, Tree};

/// A row: key and value.
pub type Row = (Vec<u8>, Vec<u8>);

/// A range of keys. One that contains no key is no error.
pub type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A read of what is stored. Each call sees whole batches only; two calls may see different ones, if another
/// thread commits between them.
///
/// # Errors
/// Each method fails if the disk does, and scans fail for sealed trees ([`StorageError::SealedScan`]).
pub trait View {
    /// The value at `key`.
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// The first `limit` rows of the range, by ascending key.
    fn scan(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError>;

    /// The last `limit` rows of the range, by descending key.
    fn scan_back(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError>;

    /// Whether there is a row at `key`.
    fn contains(&self, tree: Tree, key: &[u8]) -> Result<bool, StorageError> {
        Ok(self.get(tree, key)?.is_some())
    }

    /// The first `limit` rows whose keys begin with `prefix`, by ascending key.
    fn scan_prefix(&self, tree: Tree, prefix: &[u8], limit: usize) -> Result<Vec<Row>, StorageError> {
        let end = prefix_end(prefix);
        self.scan(tree, (Bound::Included(prefix), upper_bound(&end)), limit)
    }

    /// The last `limit` rows whose keys begin with `prefix`, by descending key.
    fn scan_prefix_back(&self, tree: Tree, prefix: &[u8], limit: usize) -> Result<Vec<Row>, StorageError> {
        let end = prefix_end(prefix);
        self.scan_back(tree, (Bound::Included(prefix), upper_bound(&end)), limit)
    }
}

/// A store that can be changed.
pub trait Store: View {
    /// Applies the whole batch or nothing of it, over all trees, and returns once it would survive a crash.
    /// What the batch deletes, replaces or shreds in a sealed tree can't be decrypted once this has returned, unless
    /// the batch [defers](Batch::defer_erasure) that. Of a batch that only puts, a value that it replaces in a sealed tree may be destroyed
    /// later as well: such a batch may be merged with one that defers. Who must know it to be destroyed deletes it, or [settles](Batch::settle).
    /// Another thread's view may show the batch shortly before.
    ///
    /// # Errors
    /// A batch above the limits is refused and leaves the store usable. After a failed write, whether the batch
    /// is there is known only once the store has been opened again, and further commits fail until then.
    fn commit(&self, batch: Batch) -> Result<(), StorageError>;

    /// Begins to [`commit`](Store::commit) the batch, and may return before that is done, so that the caller goes on with something else.
    /// Commits are made in the order in which they were begun. Until this one ends, other reads may show it or not; who must see it reads
    /// through an [`Overlay`](crate::Overlay) of the same batch.
    ///
    /// # Errors
    /// As [`commit`](Store::commit): of what is above the limits now, otherwise at the end.
    fn begin(&self, batch: &Arc<Batch>) -> Result<Committing, StorageError> {
        batch.check_limits()?;
        Ok(Committing::ended(self.commit(Batch::clone(batch))))
    }
}

impl<V: View + ?Sized> View for &V {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        (**self).get(tree, key)
    }

    fn contains(&self, tree: Tree, key: &[u8]) -> Result<bool, StorageError> {
        (**self).contains(tree, key)
    }

    fn scan(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        (**self).scan(tree, range, limit)
    }

    fn scan_back(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        (**self).scan_back(tree, range, limit)
    }
}

/// The first key after all keys that begin with `prefix`; none if there is no such key.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// Refuses a scan of a sealed tree, in every backend alike, so that a test in memory finds it.
pub(crate) fn check_scan(tree: Tree) -> Result<(), StorageError> {
    if tree.sealed() { Err(StorageError::SealedScan(tree)) } else { Ok(()) }
}

/// Whether no key can lie in the range. The standard library's and sled's maps want to know first.
pub(crate) fn is_empty(range: &Range<'_>) -> bool {
    match *range {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high) | Bound::Excluded(high)) => {
            low >= high
        }
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
    }
}

fn upper_bound(end: &Option<Vec<u8>>) -> Bound<&[u8]> {
    end.as_deref().map_or(Bound::Unbounded, Bound::Excluded)
}
