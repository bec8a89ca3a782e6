//! Rows copied to a database of their own, a chunk at a time, while commits go on; or only counted.
//!
//! Trees are copied one after the other, each by ascending key; those of small rows first, since what they leave of no use in the copy's
//! file has its place written again by what comes later. A change of a row that was copied already is made in the copy too, and one
//! that was not is copied later as it then is. So when all trees are done, both hold the same.

use std::ops::Bound;

use crate::limits::{COPY_BYTES, COPY_ROWS, COPY_SYNC_BYTES};
use crate::rows::{PARTS, SHREDDING};
use crate::sled::{Changes, Trees};
use crate::{Row, StorageError, Tree};

/// A copy under way. Fed by [`step`](RowCopy::step) and [`mirror`](RowCopy::mirror), until the former says that it is whole.
pub(crate) struct RowCopy {
    to: Option<Trees>,
    /// The order of the trees.
    order: Vec<usize>,
    /// How many of them are copied.
    trees_done: usize,
    /// What was copied and is not synced, in bytes.
    unsynced: usize,
    /// The last row of the next one that was copied.
    last: Option<Vec<u8>>,
    live_bytes: u64,
}

impl RowCopy {
    /// Nothing copied yet; nothing ever, but all counted, if there is no database to copy to.
    pub(crate) fn new(to: Option<Trees>) -> Self {
        let (sealed, plain): (Vec<Tree>, Vec<Tree>) = Tree::ALL.iter().partition(|tree| tree.sealed());
        let order =
            plain.into_iter().chain(sealed).map(|tree| tree as usize).chain([PARTS, SHREDDING]).collect();
        Self { to, order, trees_done: 0, unsynced: 0, last: None, live_bytes: 0 }
    }

    /// Copies some more rows. True if the copy is whole.
    pub(crate) fn step(&mut self, from: &Trees) -> Result<bool, StorageError> {
        let Some(&tree) = self.order.get(self.trees_done) else { return Ok(true) };
        let begin = self.last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut chunk, mut bytes): (Vec<Row>, usize) = (Vec::new(), 0);
        for row in from.range(tree, (begin, Bound::Unbounded)) {
            let row = row?;
            bytes += row.0.len() + row.1.len();
            chunk.push(row);
            if chunk.len() == COPY_ROWS || bytes >= COPY_BYTES {
                break;
            }
        }
        if let Some(to) = &self.to {
            to.fill(tree, &chunk)?;
            self.unsynced += bytes;
            // Bit by bit, so that who commits does not wait for all of it at the end.
            if self.unsynced >= COPY_SYNC_BYTES {
                to.sync()?;
                self.unsynced = 0;
            }
        }
        self.live_bytes += bytes as u64;
        match chunk.pop() {
            Some((key, _)) => self.last = Some(key),
            None => (self.trees_done, self.last) = (self.trees_done + 1, None),
        }
        Ok(self.trees_done == self.order.len())
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
        let place = self.order.iter().position(|&other| other == tree).unwrap_or(usize::MAX);
        place < self.trees_done
            || place == self.trees_done && self.last.as_deref().is_some_and(|last| key <= last)
    }
}
