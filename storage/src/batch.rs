//! Changes that are made together or not at all.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::limits::{BATCH_BYTES_MAX, BATCH_CHANGES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::view::is_empty;
use crate::{Range, StorageError, Tree};

/// What becomes of a row: the new value, or none if it is deleted.
pub type Change = Option<Vec<u8>>;

/// Changes to rows of any trees. A later change of the same row replaces the earlier one, so a batch holds at
/// most one per row, and their order does not matter. Deleting a row that is not there is no error.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: BTreeMap<Tree, BTreeMap<Vec<u8>, Change>>,
    len: usize,
    byte_len: usize,
}

impl Batch {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the value at `key`.
    pub fn put(&mut self, tree: Tree, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.set(tree, key.into(), Some(value.into()));
    }

    /// Deletes the row at `key`.
    pub fn delete(&mut self, tree: Tree, key: impl Into<Vec<u8>>) {
        self.set(tree, key.into(), None);
    }

    /// Adds the changes of `later`, which win.
    pub fn append(&mut self, later: Batch) {
        for (tree, changes) in later.changes {
            for (key, change) in changes {
                self.set(tree, key, change);
            }
        }
    }

    /// What the batch does to the row at `key`; none if nothing.
    pub fn change(&self, tree: Tree, key: &[u8]) -> Option<&Change> {
        self.changes.get(&tree)?.get(key)
    }

    /// All changes, by tree and ascending key.
    pub fn changes(&self) -> impl Iterator<Item = (Tree, &[u8], Option<&[u8]>)> {
        self.changes.iter().flat_map(|(&tree, changes)| {
            changes.iter().map(move |(key, change)| (tree, key.as_slice(), change.as_deref()))
        })
    }

    /// The number of changes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The size of all keys and values, in bytes.
    pub fn byte_len(&self) -> usize {
        self.byte_len
    }

    /// Refuses what is above the limits of keys, values and batches.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`], naming the first excess.
    pub fn check_limits(&self) -> Result<(), StorageError> {
        let longest_key = self.changes().map(|(_, key, _)| key.len()).max().unwrap_or(0);
        let longest_value =
            self.changes().filter_map(|(_, _, value)| value).map(<[u8]>::len).max().unwrap_or(0);
        for (what, len, max) in [
            ("a key's length in bytes", longest_key, KEY_BYTES_MAX),
            ("a value's length in bytes", longest_value, VALUE_BYTES_MAX),
            ("a batch's length in bytes", self.byte_len, BATCH_BYTES_MAX),
            ("a batch's number of changes", self.len, BATCH_CHANGES_MAX),
        ] {
            if len > max {
                return Err(StorageError::TooLarge { what, len, max });
            }
        }
        Ok(())
    }

    /// The changes to one tree within a range, by ascending key.
    pub(crate) fn changes_in<'a>(
        &'a self,
        tree: Tree,
        range: Range<'a>,
    ) -> impl DoubleEndedIterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let bounds =
            if is_empty(&range) { (Bound::Included(&[][..]), Bound::Excluded(&[][..])) } else { range };
        let changes = self.changes.get(&tree).map(|changes| changes.range::<[u8], _>(bounds));
        changes.into_iter().flatten().map(|(key, change)| (key.as_slice(), change.as_deref()))
    }

    fn set(&mut self, tree: Tree, key: Vec<u8>, change: Change) {
        let size = |change: &Change| change.as_ref().map_or(0, Vec::len);
        let (key_len, new_len) = (key.len(), size(&change));
        match self.changes.entry(tree).or_default().insert(key, change) {
            Some(old) => self.byte_len -= size(&old),
            None => {
                self.len += 1;
                self.byte_len += key_len;
            }
        }
        self.byte_len += new_len;
    }
}

/// Sizes only: values are content.
impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} changes, {} bytes)", self.len, self.byte_len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_change_wins_and_sizes_follow() {
        let mut batch = Batch::new();
        batch.put(Tree::Meta, "key", "value");
        batch.put(Tree::Meta, "key", "v");
        assert_eq!((batch.len(), batch.byte_len()), (1, 4));
        batch.delete(Tree::Meta, "key");
        assert_eq!((batch.len(), batch.byte_len()), (1, 3));
        assert_eq!(batch.change(Tree::Meta, b"key"), Some(&None));
        assert_eq!(batch.change(Tree::Audit, b"key"), None);

        let mut later = Batch::new();
        later.put(Tree::Meta, "key", "again");
        later.put(Tree::Audit, "other", "row");
        batch.append(later);
        assert_eq!((batch.len(), batch.byte_len()), (2, 16));
        assert_eq!(batch.change(Tree::Meta, b"key"), Some(&Some(b"again".to_vec())));
    }

    #[test]
    fn limits_are_inclusive() {
        let mut batch = Batch::new();
        batch.put(Tree::Meta, vec![0; KEY_BYTES_MAX], vec![0; VALUE_BYTES_MAX]);
        batch.check_limits().unwrap();
        batch.put(Tree::Meta, "key", vec![0; VALUE_BYTES_MAX + 1]);
        assert!(matches!(batch.check_limits(), Err(StorageError::TooLarge { max: VALUE_BYTES_MAX, .. })));
        batch.put(Tree::Meta, "key", "");
        batch.delete(Tree::Meta, vec![0; KEY_BYTES_MAX + 1]);
        assert!(matches!(batch.check_limits(), Err(StorageError::TooLarge { max: KEY_BYTES_MAX, .. })));
    }
}
