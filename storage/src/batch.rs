//! Changes that are made together or not at all.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Rows of sealed trees that lose their value before they are deleted.
    shredded: BTreeSet<(Tree, Vec<u8>)>,
    /// Whether anything of a sealed tree is deleted or shredded.
    erases: bool,
    defers: bool,
    defers_sync: bool,
    settles: bool,
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

    /// Makes the value at `key`, in a sealed tree, unreadable, as deleting does, and reads as deleted from then on; the row itself is left
    /// to be deleted by a later batch. To erase many values at once costs little in this way.
    pub fn shred(&mut self, tree: Tree, key: impl Into<Vec<u8>>) {
        let key = key.into();
        if !tree.sealed() || self.change(tree, &key).is_some() {
            return self.delete(tree, key);
        }
        self.erases = true;
        let len = key.len();
        if self.shredded.insert((tree, key)) {
            self.len += 1;
            self.byte_len += len;
        }
    }

    /// Lets the commit return before the keys of what this batch deletes are destroyed: that begins after
    /// [`ERASE_MS_MAX`](crate::limits::ERASE_MS_MAX) at the latest, or when the store is opened again. For what is erased without being attested.
    pub fn defer_erasure(&mut self) {
        self.defers = true;
    }

    /// Lets the commit return before its changes would survive a crash: they do so with the next commit that does not defer it, or after
    /// [`LAZY_MS`](crate::limits::LAZY_MS). A crash takes back this commit and those after it that have deferred it, and no others. For work
    /// that would only be done again, and of which nobody is told. Its erasure must be [deferred](Batch::defer_erasure) too: otherwise a row could come
    /// back without its key.
    pub fn defer_sync(&mut self) {
        self.defers_sync = true;
    }

    /// Whether the commit may return before its changes would survive a crash.
    pub fn is_lazy(&self) -> bool {
        self.defers_sync && !self.is_empty() && self.is_deferred()
    }

    /// Makes the commit return only once everything is destroyed that was deleted, by this batch or by those before it that have deferred it. For
    /// what attests their erasure.
    pub fn settle(&mut self) {
        self.settles = true;
    }

    /// Whether the commit waits for what earlier ones have deferred.
    pub fn settles(&self) -> bool {
        self.settles
    }

    /// Whether the commit may return before the keys of what is deleted are destroyed. What is shredded is never deferred.
    pub(crate) fn is_deferred(&self) -> bool {
        self.defers && !self.settles && self.shredded.is_empty()
    }

    /// What is shredded.
    pub(crate) fn shredded(&self) -> impl Iterator<Item = (Tree, &[u8])> {
        self.shredded.iter().map(|(tree, key)| (*tree, key.as_slice()))
    }

    /// Whether the value at `key` is shredded.
    pub(crate) fn shreds(&self, tree: Tree, key: &[u8]) -> bool {
        !self.shredded.is_empty() && self.shredded.contains(&(tree, key.to_vec()))
    }

    /// Adds the changes of `later`, which win. Erasure is deferred if whoever erases defers it, and syncing if whoever changes anything
    /// does.
    pub fn append(&mut self, later: Batch) {
        if later.is_empty() {
            self.settles |= later.settles;
            return;
        }
        self.defers_sync = (self.defers_sync || self.is_empty()) && later.defers_sync;
        self.defers = match (self.erases, later.erases) {
            (true, true) => self.defers && later.defers,
            (true, false) => self.defers,
            (false, _) => later.defers,
        };
        self.settles |= later.settles;
        for (tree, key) in later.shredded {
            self.shred(tree, key);
        }
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
        let keys = self.changes().map(|(_, key, _)| key).chain(self.shredded().map(|(_, key)| key));
        let longest_key = keys.map(<[u8]>::len).max().unwrap_or(0);
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
        self.erases |= tree.sealed() && change.is_none();
        if self.shreds(tree, &key) {
            let shredded = (tree, key);
            self.shredded.remove(&shredded);
            (self.len, self.byte_len) = (self.len - 1, self.byte_len - shredded.1.len());
            return self.set(tree, shredded.1, change);
        }
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
    fn what_is_shredded_and_changed_is_changed() {
        let mut batch = Batch::new();
        batch.shred(Tree::Envelopes, "key");
        batch.shred(Tree::Envelopes, "key");
        assert_eq!((batch.len(), batch.byte_len(), batch.shreds(Tree::Envelopes, b"key")), (1, 3, true));
        batch.put(Tree::Envelopes, "key", "value");
        assert_eq!((batch.len(), batch.byte_len(), batch.shreds(Tree::Envelopes, b"key")), (1, 8, false));
        batch.shred(Tree::Envelopes, "key");
        assert_eq!(batch.change(Tree::Envelopes, b"key"), Some(&None));
        batch.shred(Tree::Meta, "plain");
        assert_eq!(batch.change(Tree::Meta, b"plain"), Some(&None));
    }

    #[test]
    fn erasure_is_deferred_only_if_all_who_erase_defer_it() {
        let erasing = |defers: bool| {
            let mut batch = Batch::new();
            batch.delete(Tree::Envelopes, "key");
            if defers {
                batch.defer_erasure();
            }
            batch
        };
        let mut storing = Batch::new();
        storing.put(Tree::Envelopes, "other", "value");
        for (first, second, deferred) in [
            (erasing(true), erasing(true), true),
            (erasing(true), erasing(false), false),
            (erasing(false), erasing(true), false),
            (erasing(true), storing.clone(), true),
            (storing.clone(), erasing(true), true),
            (storing.clone(), erasing(false), false),
            (erasing(false), storing.clone(), false),
        ] {
            let mut both = first;
            both.append(second);
            assert_eq!(both.is_deferred(), deferred, "{both:?}");
        }
        let mut shredding = erasing(true);
        shredding.shred(Tree::Envelopes, "shredded");
        assert!(!shredding.is_deferred());
    }

    #[test]
    fn a_sync_is_deferred_only_if_all_who_change_anything_defer_it() {
        let lazy = |key: &str| {
            let mut batch = Batch::new();
            batch.delete(Tree::Envelopes, key);
            batch.defer_erasure();
            batch.defer_sync();
            batch
        };
        let mut plain = Batch::new();
        plain.put(Tree::Meta, "key", "value");
        for (first, second, expected) in [
            (lazy("a"), lazy("b"), true),
            (Batch::new(), lazy("a"), true),
            (lazy("a"), Batch::new(), true),
            (lazy("a"), plain.clone(), false),
            (plain, lazy("a"), false),
            (Batch::new(), Batch::new(), false),
        ] {
            let mut both = first;
            both.append(second);
            assert_eq!(both.is_lazy(), expected, "{both:?}");
        }
        // What must be gone when the commit returns, must be so on the disk.
        let mut erasing = Batch::new();
        erasing.delete(Tree::Envelopes, "key");
        erasing.defer_sync();
        assert!(!erasing.is_lazy());
        let mut settling = lazy("a");
        settling.settle();
        assert!(!settling.is_lazy());
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
