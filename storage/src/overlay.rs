//! A view with changes on top that are not committed yet.

use std::borrow::Borrow;
use std::cmp::Ordering;

use crate::view::check_scan;
use crate::{Batch, Range, Row, StorageError, Tree, View};

/// What a step reads and writes: the rows of `base` as they will be once the batch is committed. Make one with
/// [`new`](Overlay::new), read and change, and take the changes with [`into_batch`](Overlay::into_batch). Over a batch that others hold too (an
/// `Arc<Batch>` that is being committed), it can only be read.
#[derive(Debug)]
pub struct Overlay<V, B = Batch> {
    base: V,
    batch: B,
}

impl<V: View, B: Borrow<Batch>> Overlay<V, B> {
    /// `base` with the changes of `batch`.
    pub fn with(base: V, batch: B) -> Self {
        Self { base, batch }
    }
}

impl<V: View> Overlay<V> {
    /// `base` without changes. A reference to a view is a view too.
    pub fn new(base: V) -> Self {
        Self::with(base, Batch::new())
    }

    /// Sets the value at `key`.
    pub fn put(&mut self, tree: Tree, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.batch.put(tree, key, value);
    }

    /// Deletes the row at `key`.
    pub fn delete(&mut self, tree: Tree, key: impl Into<Vec<u8>>) {
        self.batch.delete(tree, key);
    }

    /// Makes the value at `key` unreadable: [`Batch::shred`].
    pub fn shred(&mut self, tree: Tree, key: impl Into<Vec<u8>>) {
        self.batch.shred(tree, key);
    }

    /// Lets what is deleted be erased soon after the commit: [`Batch::defer_erasure`].
    pub fn defer_erasure(&mut self) {
        self.batch.defer_erasure();
    }

    /// Lets a crash take the changes back: [`Batch::defer_sync`].
    pub fn defer_sync(&mut self) {
        self.batch.defer_sync();
    }

    /// Has everything that was deleted erased when the commit returns: [`Batch::settle`].
    pub fn settle(&mut self) {
        self.batch.settle();
    }

    /// The changes so far.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The changes.
    pub fn into_batch(self) -> Batch {
        self.batch
    }
}

impl<V: View, B: Borrow<Batch>> View for Overlay<V, B> {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let batch = self.batch.borrow();
        match batch.change(tree, key) {
            Some(change) => Ok(change.clone()),
            None if batch.shreds(tree, key) => Ok(None),
            None => self.base.get(tree, key),
        }
    }

    fn contains(&self, tree: Tree, key: &[u8]) -> Result<bool, StorageError> {
        let batch = self.batch.borrow();
        match batch.change(tree, key) {
            Some(change) => Ok(change.is_some()),
            None if batch.shreds(tree, key) => Ok(false),
            None => self.base.contains(tree, key),
        }
    }

    fn scan(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        check_scan(tree)?;
        let batch = self.batch.borrow();
        // Each change hides at most one row of the base, so that so many more rows are surely enough.
        let hidden_max = batch.changes_in(tree, range).count();
        let rows = self.base.scan(tree, range, limit.saturating_add(hidden_max))?;
        Ok(merge(rows, batch.changes_in(tree, range), |row, change| row.cmp(change), limit))
    }

    fn scan_back(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        check_scan(tree)?;
        let batch = self.batch.borrow();
        let hidden_max = batch.changes_in(tree, range).count();
        let rows = self.base.scan_back(tree, range, limit.saturating_add(hidden_max))?;
        Ok(merge(rows, batch.changes_in(tree, range).rev(), |row, change| change.cmp(row), limit))
    }
}

/// Rows and changes, both sorted by `order`, as rows. Where a row has a change, the change stands.
fn merge<'a>(
    rows: Vec<Row>,
    changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    order: impl Fn(&[u8], &[u8]) -> Ordering,
    limit: usize,
) -> Vec<Row> {
    let mut rows = rows.into_iter().peekable();
    let mut merged = Vec::new();
    for (key, value) in changes {
        while merged.len() < limit
            && let Some(row) = rows.next_if(|row| order(&row.0, key).is_lt())
        {
            merged.push(row);
        }
        rows.next_if(|row| row.0 == key);
        if merged.len() >= limit {
            return merged;
        }
        merged.extend(value.map(|value| (key.to_vec(), value.to_vec())));
    }
    let room = limit.saturating_sub(merged.len());
    merged.extend(rows.take(room));
    merged
}
