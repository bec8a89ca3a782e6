//! Rows copied to a database of their own, a chunk at a time, while commits go on; or only counted.
//!
//! Trees are copied one after the other, each by ascending key; those of small rows first, since what they leave of no use in the copy's
//! file has its place written again by what comes later. A change of a row that was copied already is made in the copy too, and one
//! that was not is copied later as it then is. So when all trees are done, both hold the same.

use std::ops::Bound;

use crate::limits::{COPY_BYTES, COPY_ROWS, COPY_SYNC_BYTES};
use crate::rows::{BELONGING, PARTS, SHREDDING};
use crate::sled::{Changes, Replaced, Trees, added_bytes};
use crate::space::check_room;
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
                // A copy may take more than was asked for at its beginning; those who commit must not be the first to find out.
                check_room(to.dir(), 0)?;
            }
        }
        self.live_bytes += bytes as u64;
        match chunk.pop() {
            Some((key, _)) => self.last = Some(key),
            None => (self.trees_done, self.last) = (self.trees_done + 1, None),
        }
        Ok(self.trees_done == self.order.len())
    }

    /// Makes changes that were made, of rows which are copied or counted already; with them goes what they have replaced.
    pub(crate) fn mirror(&mut self, changes: &Changes, replaced: &Replaced) -> Result<(), StorageError> {
        let (mut mirrored, mut gone_bytes) = (Changes::new(), 0);
        for (&tree, rows) in replaced {
            for (key, row) in rows.iter().filter(|(key, _)| self.has(tree, key)) {
                gone_bytes += (key.len() + row.len()) as u64;
                mirrored.entry(tree).or_default().insert(key.clone(), None);
            }
        }
        for (&tree, rows) in changes {
            for (key, row) in rows.iter().filter(|(key, _)| self.has(tree, key)) {
                mirrored.entry(tree).or_default().insert(key.clone(), row.clone());
            }
        }
        let added = added_bytes(&mirrored);
        self.live_bytes = (self.live_bytes + added).saturating_sub(gone_bytes);
        self.to.as_ref().map_or(Ok(()), |to| to.apply(&mirrored, BELONGING).map(drop))
    }

    /// The bytes of the keys and values of all rows that were found, as they are now.
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

#[cfg(test)]
mod tests {
    use std::ops::Bound::Unbounded;

    use super::*;
    use crate::files::Files;
    use crate::limits::CACHE_BYTES;
    use crate::row::{Body, RowData};
    use crate::rows::names;

    fn sizes(trees: &Trees) -> (u64, Vec<Vec<Row>>) {
        let tree = |tree: usize| trees.range(tree, (Unbounded, Unbounded)).collect::<Result<Vec<_>, _>>();
        let rows: Vec<Vec<Row>> = (0..names().count()).map(|place| tree(place).unwrap()).collect();
        (rows.iter().flatten().map(|(key, row)| (key.len() + row.len()) as u64).sum(), rows)
    }

    /// Rows are added, replaced and removed on both sides of where the copy is.
    #[test]
    fn a_copy_holds_and_counts_what_there_is_at_its_end() {
        const ROWS: u32 = 2 * COPY_ROWS as u32 + 100;
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let open = |dir: &std::path::Path| {
            Trees::open(Files::default(), dir.to_owned(), *CACHE_BYTES.start(), names()).unwrap()
        };
        let from = open(dir.path());
        let key = |number: u32| number.to_be_bytes().to_vec();
        let changes = |step: u32, value: Option<&[u8]>| {
            let rows = |row: &dyn Fn(&[u8]) -> Vec<u8>| {
                (0..ROWS).step_by(step as usize).map(|n| (key(n), value.map(row))).collect()
            };
            let whole = |value: &[u8]| RowData { key: None, body: Body::Inline(value.to_vec()) }.encode();
            Changes::from([(Tree::Audit as usize, rows(&whole)), (PARTS, rows(&<[u8]>::to_vec))])
        };
        from.apply(&changes(2, Some(b"first")), BELONGING).unwrap();
        for to in [None, Some(open(other.path()))] {
            let mut copy = RowCopy::new(to);
            for step in 0.. {
                if copy.step(&from).unwrap() {
                    break;
                }
                let row = [Some(&b"longer than before"[..]), None, Some(b"short")][step as usize % 3];
                let changes = changes(7 + step, row);
                let replaced = from.apply(&changes, BELONGING).unwrap();
                copy.mirror(&changes, &replaced).unwrap();
            }
            let (bytes, rows) = sizes(&from);
            assert_eq!(copy.live_bytes(), bytes);
            if let Some(copied) = copy.into_trees() {
                assert_eq!(sizes(&copied).1, rows);
            }
        }
    }
}
