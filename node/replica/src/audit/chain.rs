//! The audit log as a hash chain: each row's hash covers the hash before it, its number, and its entry with the time in it.
//!
//! Rows are only ever appended, and dropped from the old end; none that stands changes. What was dropped last stays as a
//! [`Place`], so that the rest can be followed from there. A row holds its own hash, so that whoever follows the chain can
//! name the row that is not what was written.

use std::ops::Bound;

use lanyard_crypto::{AuditHash, Timestamp, cbor, labels};
use lanyard_storage::{Batch, Overlay, StorageError, Tree, View};
use sha2::{Digest, Sha256};

use super::AuditEntry;
use crate::keys;
use crate::limits::{AUDIT_DROPS_PER_TICK, AUDIT_ENTRIES_MAX, AUDIT_LIFE_SECS, SCAN_ROWS};
use crate::mutation::{self, Mutation};
use crate::turn::Turn;

/// The name under which [`Tree::Meta`] has the place of the newest row.
const LAST: &[u8] = b"audit-last";
/// The name under which [`Tree::Meta`] has the place of the row that was dropped last.
const DROPPED: &[u8] = b"audit-dropped";
/// The name under which [`Tree::Meta`] had the next number, while rows had no hash.
const UNCHAINED: &[u8] = b"next-audit";
/// An entry, in bytes: what each of its fields may take, and more.
const ENTRY_BYTES_MAX: usize = 8 * 1024;

/// A place in the log: a row, with what covers it and all rows before it. The place before the first row has the number 0 and a hash
/// of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The row's number; the first has 1.
    pub number: u64,
    /// The row's hash.
    pub hash: AuditHash,
}

/// One row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number, and its hash as it is stored.
    pub place: Place,
    /// What it says.
    pub entry: AuditEntry,
}

impl Place {
    /// Before the first row.
    pub const START: Place = Place { number: 0, hash: AuditHash::new([0; 32]) };

    /// The place of an entry that follows: SHA-256 over a label and the deterministic CBOR of `[hash before, number, entry]`.
    pub fn then(&self, entry: &AuditEntry) -> Place {
        let number = self.number + 1;
        let covered = cbor::to_vec(&(&self.hash, number, entry));
        let hash = Sha256::new().chain_update(labels::AUDIT).chain_update(covered).finalize();
        Place { number, hash: AuditHash::new(hash.into()) }
    }

    fn to_row(self) -> Vec<u8> {
        [&self.number.to_be_bytes()[..], self.hash.as_bytes()].concat()
    }

    fn of_row(row: &[u8]) -> Option<Place> {
        let (number, hash) = row.split_first_chunk::<8>()?;
        Some(Place { number: u64::from_be_bytes(*number), hash: AuditHash::try_from(hash).ok()? })
    }
}

impl Row {
    fn to_row(&self) -> Vec<u8> {
        [&self.place.hash.as_bytes()[..], &cbor::to_vec(&self.entry)].concat()
    }

    /// None if the row cannot be read: it is as if it were missing.
    fn of_row(key: &[u8], row: &[u8]) -> Option<Row> {
        let (hash, entry) = row.split_first_chunk::<32>()?;
        let place = Place { number: keys::last_u64(key), hash: AuditHash::new(*hash) };
        Some(Row { place, entry: cbor::from_slice(entry, ENTRY_BYTES_MAX).ok()? })
    }
}

/// The place of the newest row.
///
/// # Errors
/// The view's.
pub fn last(view: &dyn View) -> Result<Place, StorageError> {
    place(view, LAST)
}

/// The place of the row that was dropped last; the rows that are there follow it.
///
/// # Errors
/// The view's.
pub fn dropped(view: &dyn View) -> Result<Place, StorageError> {
    place(view, DROPPED)
}

fn place(view: &dyn View, name: &[u8]) -> Result<Place, StorageError> {
    Ok(view.get(Tree::Meta, name)?.and_then(|row| Place::of_row(&row)).unwrap_or(Place::START))
}

/// Up to `limit` rows behind the number `after`, oldest first.
///
/// # Errors
/// The view's.
pub fn rows_after(view: &dyn View, after: u64, limit: usize) -> Result<Vec<Row>, StorageError> {
    let from = after.to_be_bytes();
    let rows = view.scan(Tree::Audit, (Bound::Excluded(&from[..]), Bound::Unbounded), limit)?;
    Ok(rows.iter().filter_map(|(key, row)| Row::of_row(key, row)).collect())
}

/// Up to `limit` rows before the number `before`, or the newest ones, newest first.
pub(super) fn rows_before(
    view: &dyn View,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<Row>, StorageError> {
    let before = before.map(u64::to_be_bytes);
    let to = before.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(&key[..]));
    let rows = view.scan_back(Tree::Audit, (Bound::Unbounded, to), limit)?;
    Ok(rows.iter().filter_map(|(key, row)| Row::of_row(key, row)).collect())
}

/// The row with this number.
pub(super) fn row(view: &dyn View, number: u64) -> Result<Option<Row>, StorageError> {
    let key = number.to_be_bytes();
    Ok(view.get(Tree::Audit, &key)?.and_then(|row| Row::of_row(&key, &row)))
}

/// Appends an entry; the oldest gives way once the log is full.
pub(super) fn append(turn: &mut Turn<'_>, entry: AuditEntry) -> Result<AuditEntry, StorageError> {
    let mut before = last(&turn.rows)?;
    if mutation::is(Mutation::UnlinkAuditLog) {
        before.hash = Place::START.hash;
    }
    let row = Row { place: before.then(&entry), entry };
    turn.rows.put(Tree::Audit, row.place.number.to_be_bytes(), row.to_row());
    turn.rows.put(Tree::Meta, LAST, row.place.to_row());
    let first = dropped(&turn.rows)?;
    if row.place.number - first.number > AUDIT_ENTRIES_MAX {
        drop_after(turn, first)?;
    }
    Ok(row.entry)
}

/// Drops the rows that are older than the log keeps any, as many as one tick may.
pub(crate) fn drop_old(turn: &mut Turn<'_>) -> Result<(), StorageError> {
    let over = |at: Timestamp, now: Timestamp| at.plus_secs(AUDIT_LIFE_SECS) <= now;
    for _ in 0..AUDIT_DROPS_PER_TICK {
        let before = dropped(&turn.rows)?;
        match row(&turn.rows, before.number + 1)? {
            Some(first) if over(first.entry.at, turn.now) => drop_after(turn, before)?,
            // One that cannot be read must not keep those behind it.
            None if before.number < last(&turn.rows)?.number => drop_after(turn, before)?,
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// Drops the row behind the one that was dropped last.
fn drop_after(turn: &mut Turn<'_>, before: Place) -> Result<(), StorageError> {
    let number = before.number + 1;
    // One that cannot be read leaves no hash to go on from, and the chain shows that.
    let hash = row(&turn.rows, number)?.map_or(before.hash, |row| row.place.hash);
    turn.rows.delete(Tree::Audit, number.to_be_bytes());
    turn.rows.put(Tree::Meta, DROPPED, Place { number, hash }.to_row());
    Ok(())
}

/// Whether every row has its hash; if not, [`upgrade`] gives it to them.
pub(crate) fn is_whole(view: &dyn View) -> Result<bool, StorageError> {
    Ok(!view.contains(Tree::Meta, UNCHAINED)?)
}

/// The next batch that makes a chain of the rows that an earlier version wrote; none if there is nothing to do. To be committed, and asked
/// for again, until there is none; a crash on the way costs one batch.
pub(crate) fn upgrade(view: &dyn View) -> Result<Option<Batch>, StorageError> {
    if is_whole(view)? {
        return Ok(None);
    }
    let mut batch = Overlay::new(view);
    let mut at = last(view)?;
    let from = at.number.to_be_bytes();
    let rows = view.scan(Tree::Audit, (Bound::Excluded(&from[..]), Bound::Unbounded), SCAN_ROWS)?;
    if let (Place::START, Some((first, _))) = (at, rows.first()) {
        at.number = keys::last_u64(first).saturating_sub(1);
        batch.put(Tree::Meta, DROPPED, at.to_row());
    }
    for (key, row) in &rows {
        let unreadable = |_| AuditEntry::new("unreadable", "", "written by an earlier version");
        let entry = cbor::from_slice(row, ENTRY_BYTES_MAX).unwrap_or_else(unreadable);
        let row = Row { place: at.then(&entry), entry };
        at = row.place;
        batch.put(Tree::Audit, key.clone(), row.to_row());
    }
    batch.put(Tree::Meta, LAST, at.to_row());
    if rows.len() < SCAN_ROWS {
        batch.delete(Tree::Meta, UNCHAINED);
    }
    Ok(Some(batch.into_batch()))
}
