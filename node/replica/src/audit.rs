//! The audit log: what was decided and refused, with reasons, and without content or names of people.

use lanyard_crypto::{NodeId, RecordId, Timestamp, TrustId, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};

use crate::limits::{AUDIT_DETAIL_BYTES_MAX, AUDIT_ENTRIES_MAX, SCAN_ROWS};
use crate::turn::Turn;

/// One line of the audit log. Field order is its format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// A stable word, such as `refused`, `admitted`, `deleted`.
    pub event: String,
    /// A stable word for the reason, such as `wrong-country`; empty if there is nothing to explain.
    pub code: String,
    /// For people.
    pub detail: String,
    /// The peer that it is about.
    pub node: Option<NodeId>,
    /// The trust that it is about.
    pub trust: Option<TrustId>,
    /// The network address that it is about.
    pub address: Option<String>,
    /// The record that it is about.
    pub record: Option<RecordId>,
}

impl AuditEntry {
    /// An entry of this event.
    pub fn new(event: &str, code: &str, detail: impl Into<String>) -> Self {
        Self { event: event.into(), code: code.into(), detail: detail.into(), ..Self::default() }
    }

    /// Names the peer.
    pub fn node(self, node: NodeId) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Names the trust.
    pub fn trust(self, trust: TrustId) -> Self {
        Self { trust: Some(trust), ..self }
    }

    /// Names the address.
    pub fn address(self, address: impl Into<String>) -> Self {
        Self { address: Some(address.into()), ..self }
    }

    /// Names the record.
    pub fn record(self, record: RecordId) -> Self {
        Self { record: Some(record), ..self }
    }
}

/// Appends an entry; the oldest gives way once the log is full.
pub(crate) fn append(turn: &mut Turn<'_>, mut entry: AuditEntry) -> Result<AuditEntry, StorageError> {
    entry.at = turn.now;
    if entry.detail.len() > AUDIT_DETAIL_BYTES_MAX {
        let end = (0..=AUDIT_DETAIL_BYTES_MAX).rev().find(|i| entry.detail.is_char_boundary(*i)).unwrap_or(0);
        entry.detail.truncate(end);
    }
    let seq = turn.next_number("audit")?;
    turn.rows.put(Tree::Audit, seq.to_be_bytes(), cbor::to_vec(&entry));
    if let Some(oldest) = seq.checked_sub(AUDIT_ENTRIES_MAX) {
        turn.rows.delete(Tree::Audit, oldest.to_be_bytes());
    }
    Ok(entry)
}

/// Of the entries with one of these events, the newest one's event.
///
/// # Errors
/// The view's.
pub fn newest(view: &dyn View, events: &[&str]) -> Result<Option<String>, StorageError> {
    use std::ops::Bound;
    let mut before: Option<Vec<u8>> = None;
    loop {
        let to = before.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let rows = view.scan_back(Tree::Audit, (Bound::Unbounded, to), SCAN_ROWS)?;
        let entries = rows.iter().filter_map(|(_, row)| cbor::from_slice::<AuditEntry>(row, 8 * 1024).ok());
        if let Some(entry) = entries.into_iter().find(|entry| events.contains(&entry.event.as_str())) {
            return Ok(Some(entry.event));
        }
        match rows.last() {
            Some((oldest, _)) => before = Some(oldest.clone()),
            None => return Ok(None),
        }
    }
}

/// Up to `limit` entries after the position `after`, or without one the newest, each with its position, oldest first.
pub fn read(
    view: &dyn View,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<(u64, AuditEntry)>, StorageError> {
    use std::ops::Bound;
    let rows = match after.map(u64::to_be_bytes) {
        Some(from) => view.scan(Tree::Audit, (Bound::Excluded(&from[..]), Bound::Unbounded), limit)?,
        None => {
            let mut newest = view.scan_back(Tree::Audit, (Bound::Unbounded, Bound::Unbounded), limit)?;
            newest.reverse();
            newest
        }
    };
    let entry = |(key, row): (Vec<u8>, Vec<u8>)| {
        Some((crate::keys::last_u64(&key), cbor::from_slice(&row, 8 * 1024).ok()?))
    };
    Ok(rows.into_iter().filter_map(entry).collect())
}
