//! The audit log: what was decided and refused, with reasons, and without content or names of people. It is a hash chain
//! ([`chain`]), which can be followed by whoever has it ([`check`]), and held against what its node has signed of it
//! ([`heads`]).

pub(crate) mod chain;
pub mod check;
pub(crate) mod heads;
pub(crate) mod repeats;

use lanyard_crypto::{NodeId, RecordId, Timestamp, TrustId};
use lanyard_storage::{StorageError, View};
use serde::{Deserialize, Serialize};

pub use chain::{Place, Row, dropped, last};
pub use heads::{CONTRADICTED, Contradiction, HeldHead, contradictions, held_of, newest_heads};
pub use repeats::{COUNTED, DELETIONS_COUNTED};

use crate::limits::{AUDIT_DETAIL_BYTES_MAX, SCAN_ROWS};
use crate::turn::Turn;

/// One line of the audit log. Field order is its format, on the disk and under the hash.
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
    chain::append(turn, entry)
}

/// Of the entries with one of these events, the newest one's event.
///
/// # Errors
/// The view's.
pub fn newest(view: &dyn View, events: &[&str]) -> Result<Option<String>, StorageError> {
    let mut before = None;
    loop {
        let rows = chain::rows_before(view, before, SCAN_ROWS)?;
        let Some(oldest) = rows.last().map(|row| row.place.number) else { return Ok(None) };
        if let Some(row) = rows.into_iter().find(|row| events.contains(&row.entry.event.as_str())) {
            return Ok(Some(row.entry.event));
        }
        before = Some(oldest);
    }
}

/// Up to `limit` rows behind the number `after`, or without one the newest, oldest first.
///
/// # Errors
/// The view's.
pub fn rows(view: &dyn View, after: Option<u64>, limit: usize) -> Result<Vec<Row>, StorageError> {
    match after {
        Some(after) => chain::rows_after(view, after, limit),
        None => {
            let mut newest = chain::rows_before(view, None, limit)?;
            newest.reverse();
            Ok(newest)
        }
    }
}
