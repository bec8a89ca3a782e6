//! Rows copied to a database of their own, a chunk at a time, while commits go on; or only counted.
//!
//! Trees are copied one after the other, each by ascending key. A change of a row that was copied already is made in the copy too, and one
//! that was not is copied later as it then is. So when all trees are done, both hold the same.

use std::ops::Bound;

use crate::limits::{COPY_BYTES, COPY_ROWS};
use crate::rows::TREES;
use crate::sled::{Changes, Trees};
use crate::{Row, StorageError};

/// A copy under way. Fed by [`step`](RowCopy::step) and [`mirror`](RowCopy::mirror), until the former says that it is whole.
pub(crate) struct RowCopy {
    to: Option<Trees>,
    /// The tree that is being copied.
    tree: usize,
    /// Its last row that was.
    last: Option<Vec<u8>>,
    live_bytes: u64,
}

impl RowCopy {
    /// Nothing copied yet; nothing ever, but all counted, if there is no database to copy to.
    pub(crate) fn new(to: Option<Trees>) -> Self {
        Self { to, tree: 0, last: None, live_bytes: 0 }
    }

    /// Copies some more rows. True if the copy is whole.
    pub(crate) fn step(&mut self, from: &Trees) -> Result<bool, StorageError> {
        let begin = self.last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut chunk, mut bytes): (Vec<Row>, usize) = (Vec::new(), 0);
        for row in from.range(self.tree, (begin, Bound::Unbounded)) {
            let row = row?;
            bytes += row.0.len() + row.1.len();
            chunk.push(row);
            if chunk.len() == COPY_ROWS || bytes >= COPY_BYTES {
                break;
            }
        }
        if let Some(to) = &self.to {
            to.fill(self.tree, &chunk)?;
        }
        self.live_bytes += bytes as u64;
        match chunk.pop() {
            Some((key, _)) => self.last = Some(key),
            None => (self.tree, self.last) = (self.tree + 1, None),
        }
        Ok(self.tree >= TREES)
    }

    /// Makes the changes that were made to rows which are copied already.
    pub(crate) fn mirror(&self, changes: &Changes) -> Result<(), StorageError> {
        let Some(to) = &self.to else { return Ok(()) };
        let mut mirrored = Changes::new();
        for (&tree, rows) in changes {
            let copied = rows.iter().filter(|(key, _)| self.has(tree, key));
            let copied: std::collections::BTreeMap<_, _> =
                copied.map(|(key, row)| (key.clone(), row.clone())).collect();
            if !copied.is_empty() {
                mirrored.insert(tree, copied);
            }
        }
        to.apply(&mirrored)
    }

    /// The bytes of the keys and values of all rows that were found.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// The database that was copied to.
    pub(crate) fn into_trees(self) -> Option<Trees> {
        self.to
    }

    fn has(&self, tree: usize, key: &[u8]) -> bool {
        tree < self.tree || tree == self.tree && self.last.as_deref().is_some_and(|last| key <= last)
    }
}
