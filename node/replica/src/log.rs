//! The rows of the destruction log: one for each deletion that this node has learnt of, kept for longer than its tombstone is in force.
//!
//! A row stands under the trust that ordered, and when it did. While the tombstone is in force, what is known of that record tells
//! where the row is, and the log has the tombstone itself among the records: a deletion adds one row. When the tombstone goes, the row
//! takes over its bytes, and two more rows say where it stands and when it ends.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use lanyard_crypto::record::{Body, Decoded, Kind, Target, Tombstone};
use lanyard_crypto::{RecordId, Timestamp, TrustId, cbor, limits as signed};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::admit;
use crate::holding::Holding;
use crate::keys;
use crate::limits::{DEVICES_PER_TICK, LOGGED_PER_TRUST_MAX, RECEIPT_LIFE_SECS, SCAN_ROWS};
use crate::turn::Turn;

/// Rows of one trust that are read at once.
const PAGE_ROWS: usize = 32;
/// One row, in bytes.
const ROW_BYTES_MAX: usize = 2 * signed::RECORD_BYTES_MAX;

/// A deletion in the log.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    /// The trust whose node signed the tombstone.
    pub(crate) by: TrustId,
    issued: Timestamp,
    row: LoggedRow,
}

/// Field order is its format.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct LoggedRow {
    /// The tombstone, as it was signed; empty while it stands among the records.
    record: ByteBuf,
    /// When it was last told for which devices it is waited.
    told: Option<Timestamp>,
    /// When it will be told next, if that is due.
    tells: Option<Timestamp>,
    /// Whether it stays when the tombstone goes: it was ordered by this trust, or has erased something here.
    stays: bool,
}

impl Logged {
    pub(crate) fn get(view: &dyn View, id: &RecordId) -> Result<Option<Self>, StorageError> {
        let Some((by, issued)) = place(view, id)? else { return Ok(None) };
        let row = view.get(Tree::Deletions, &keys::logged_by(&by, issued, id))?;
        let row = row.and_then(|row| cbor::from_slice(&row, ROW_BYTES_MAX).ok());
        Ok(row.map(|row| Self { by, issued, row }))
    }

    /// The tombstone.
    pub(crate) fn record(&self, view: &dyn View, id: &RecordId) -> Result<Option<Decoded>, StorageError> {
        if self.row.record.is_empty() {
            return Ok(admit::stored(view, id)?.map(|(_, record)| record));
        }
        Ok(Decoded::from_bytes(&self.row.record).ok())
    }

    /// When the last message that it could name has ended, if it is a standing order.
    pub(crate) fn over(&self, view: &dyn View, id: &RecordId) -> Result<Option<Timestamp>, StorageError> {
        Ok(self.record(view, id)?.and_then(|record| match record.body() {
            Body::Tombstone(Tombstone { target: Target::Standing(up_to, secs), .. }) => {
                Some(up_to.plus_secs(*secs))
            }
            _ => None,
        }))
    }

    /// When it was last told for which devices it is waited.
    pub(crate) fn told(&self) -> Option<Timestamp> {
        self.row.told
    }

    /// When it will be told next for which devices it is waited.
    pub(crate) fn tells(&self) -> Option<Timestamp> {
        self.row.tells
    }

    /// Notes when it was told for which devices it is waited, and when it will be.
    pub(crate) fn note_telling(
        &mut self,
        turn: &mut Turn<'_>,
        id: &RecordId,
        told: Option<Timestamp>,
        tells: Option<Timestamp>,
    ) {
        (self.row.told, self.row.tells) = (told, tells);
        self.put(turn, id);
    }

    fn put(&self, turn: &mut Turn<'_>, id: &RecordId) {
        turn.rows.put(Tree::Deletions, self.key(id), cbor::to_vec(&self.row));
    }

    fn key(&self, id: &RecordId) -> Vec<u8> {
        keys::logged_by(&self.by, self.issued, id)
    }
}

/// Who ordered a deletion, and when.
fn place(view: &dyn View, id: &RecordId) -> Result<Option<(TrustId, Timestamp)>, StorageError> {
    match Holding::get(view, id)? {
        Some(Holding { kind, signer: Some(by), issued, .. }) if kind == Kind::Tombstone as u8 => {
            Ok(Some((by, issued)))
        }
        Some(_) => Ok(None),
        None => Ok(view.get(Tree::Deletions, &keys::logged(id))?.and_then(|row| keys::logged_place(&row))),
    }
}

/// Enters a tombstone that has just been stored. `stays` says that its row does when the tombstone goes; so it does from the beginning if this
/// trust has ordered. Of what another trust has ordered, an older one gives way, and one that has erased nothing here first: no
/// trust can have its own deletions left out by ordering more of them.
pub(crate) fn enter(
    turn: &mut Turn<'_>,
    id: &RecordId,
    by: &TrustId,
    issued: Timestamp,
    stays: bool,
) -> Result<(), StorageError> {
    let row = LoggedRow { stays, ..LoggedRow::default() };
    Logged { by: by.clone(), issued, row }.put(turn, id);
    let key = keys::log_count(by);
    let count = turn.rows.get(Tree::Deletions, &key)?.map_or(0, |row| keys::last_u64(&row)) + 1;
    turn.rows.put(Tree::Deletions, key, count.to_be_bytes());
    if !stays && count > LOGGED_PER_TRUST_MAX {
        let rows = turn.rows.scan_prefix(Tree::Deletions, &keys::logged_by_trust(by), PAGE_ROWS)?;
        let others = rows.into_iter().filter_map(|(key, row)| {
            let other = RecordId::new(*key.last_chunk::<32>()?);
            let stays = cbor::from_slice::<LoggedRow>(&row, ROW_BYTES_MAX).is_ok_and(|row| row.stays);
            (other != *id).then_some((stays, other))
        });
        // Of several the first, which is the oldest.
        if let Some((_, oldest)) = others.min_by_key(|(stays, _)| *stays) {
            forget(turn, &oldest)?;
        }
    }
    Ok(())
}

/// Notes that a tombstone has erased something here, or is to when a hold ends.
pub(crate) fn has_force(turn: &mut Turn<'_>, id: &RecordId) -> Result<(), StorageError> {
    if let Some(mut logged) = Logged::get(&turn.rows, id)?.filter(|logged| !logged.row.stays) {
        logged.row.stays = true;
        logged.put(turn, id);
    }
    Ok(())
}

/// The tombstone is about to go from the records. What another trust has ordered and has erased nothing here goes with it.
pub(crate) fn tombstone_goes(turn: &mut Turn<'_>, id: &RecordId) -> Result<(), StorageError> {
    let Some(mut logged) = Logged::get(&turn.rows, id)? else { return forget(turn, id) };
    let record = logged.record(&turn.rows, id)?;
    let Some(record) = record.filter(|_| logged.row.stays) else { return forget(turn, id) };
    logged.row.record = ByteBuf::from(record.bytes().to_vec());
    logged.put(turn, id);
    turn.rows.put(Tree::Deletions, keys::logged(id), keys::log_place(&logged.by, logged.issued));
    turn.rows.put(Tree::Deletions, keys::log_ends(ends(logged.issued), id), []);
    Ok(())
}

/// When a row leaves the log: no tombstone is in force for so long.
fn ends(issued: Timestamp) -> Timestamp {
    issued.plus_secs(RECEIPT_LIFE_SECS)
}

/// Drops what the log has kept for long enough, as much as one step takes.
pub(crate) fn expire(turn: &mut Turn<'_>) -> Result<(), StorageError> {
    for (key, id) in until(turn, keys::LOG_ENDS, DEVICES_PER_TICK)? {
        if turn.is_full() {
            return Ok(());
        }
        turn.rows.delete(Tree::Deletions, key);
        forget(turn, &id)?;
    }
    Ok(())
}

/// Forgets a deletion: its time is over, or nothing that it names may be deleted by who ordered it. The tombstone, if it is still held, goes after
/// this and not before.
pub(crate) fn forget(turn: &mut Turn<'_>, id: &RecordId) -> Result<(), StorageError> {
    if let Some(logged) = Logged::get(&turn.rows, id)? {
        let rows = &mut turn.rows;
        rows.delete(Tree::Deletions, logged.key(id));
        if !logged.row.record.is_empty() {
            rows.delete(Tree::Deletions, keys::logged(id));
            rows.delete(Tree::Deletions, keys::log_ends(ends(logged.issued), id));
        }
        let key = keys::log_count(&logged.by);
        match rows.get(Tree::Deletions, &key)?.map_or(0, |row| keys::last_u64(&row)) {
            0 | 1 => rows.delete(Tree::Deletions, key),
            count => rows.put(Tree::Deletions, key, (count - 1).to_be_bytes()),
        }
    }
    for prefix in [keys::due_of(id), keys::unattested_of(id), keys::overdue_of(id), keys::unsigned_of(id)] {
        for (key, _) in turn.rows.scan_prefix(Tree::Deletions, &prefix, SCAN_ROWS)? {
            turn.rows.delete(Tree::Deletions, key);
        }
    }
    Ok(())
}

/// Rows of [`Tree::Deletions`] under this prefix whose time has come: keys and tombstones.
pub(crate) fn until(
    turn: &Turn<'_>,
    prefix: u8,
    limit: usize,
) -> Result<Vec<(Vec<u8>, RecordId)>, StorageError> {
    let end = [&[prefix][..], &turn.now.plus_secs(1).as_secs().to_be_bytes()].concat();
    let range = (Bound::Included(&[prefix][..]), Bound::Excluded(end.as_slice()));
    let rows = turn.rows.scan(Tree::Deletions, range, limit)?;
    let id = |key: Vec<u8>| key.last_chunk::<32>().map(|id| RecordId::new(*id)).map(|id| (key, id));
    Ok(rows.into_iter().filter_map(|(key, _)| id(key)).collect())
}

/// The trusts that have ordered what is in the log.
pub(crate) fn trusts(view: &dyn View) -> Result<Vec<TrustId>, StorageError> {
    let rows = view.scan_prefix(Tree::Deletions, &[keys::LOG_COUNTS], SCAN_ROWS)?;
    Ok(rows.iter().filter_map(|(key, _)| keys::trust_in(key.get(1..)?)).collect())
}

/// What some trusts have ordered, newest first.
pub(crate) struct Newest<'a> {
    view: &'a dyn View,
    /// What is left of each, by when its newest row was issued, and which it is.
    left: BTreeMap<Vec<u8>, OfTrust>,
}

struct OfTrust {
    prefix: Vec<u8>,
    page: VecDeque<Vec<u8>>,
    /// The row that was taken last.
    last: Vec<u8>,
}

impl<'a> Newest<'a> {
    pub(crate) fn of(view: &'a dyn View, trusts: &[TrustId]) -> Result<Self, StorageError> {
        let mut newest = Self { view, left: BTreeMap::new() };
        for trust in trusts {
            let prefix = keys::logged_by_trust(trust);
            let last = [&prefix[..], &[u8::MAX; 41]].concat();
            newest.enter(OfTrust { prefix, page: VecDeque::new(), last })?;
        }
        Ok(newest)
    }

    pub(crate) fn next(&mut self) -> Result<Option<RecordId>, StorageError> {
        let Some((_, of_trust)) = self.left.pop_last() else { return Ok(None) };
        let id = of_trust.last.last_chunk::<32>().map(|id| RecordId::new(*id));
        self.enter(of_trust)?;
        Ok(id)
    }

    fn enter(&mut self, mut of_trust: OfTrust) -> Result<(), StorageError> {
        if of_trust.page.is_empty() {
            let range =
                (Bound::Included(of_trust.prefix.as_slice()), Bound::Excluded(of_trust.last.as_slice()));
            let rows = self.view.scan_back(Tree::Deletions, range, PAGE_ROWS)?;
            of_trust.page.extend(rows.into_iter().map(|(key, _)| key));
        }
        if let Some(key) = of_trust.page.pop_front() {
            let when = key[of_trust.prefix.len()..].to_vec();
            self.left.insert(when, OfTrust { last: key, ..of_trust });
        }
        Ok(())
    }
}
