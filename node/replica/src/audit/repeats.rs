//! How much of the audit log one peer's refused records may fill: none may push out of it what an operator looks for, or what another
//! trust wants to be shown.
//!
//! Of each peer so many refusals are written down as they come, and after those one in a while. What is left out is counted in memory,
//! and the count becomes an entry of its own in the end; nothing that stands in the log is changed for it. A restart loses what is being
//! counted.

use std::collections::BTreeMap;

use lanyard_crypto::{NodeId, Timestamp};

use super::AuditEntry;
use crate::limits::{AUDIT_COUNT_SECS, AUDIT_PEER_BURST, AUDIT_PEER_EVERY_SECS};

/// The event of an entry that only counts.
pub const COUNTED: &str = "refusals-counted";

/// Fed by each refusal, and drained by the ticks.
#[derive(Debug, Default)]
pub(crate) struct Repeats(BTreeMap<NodeId, Peer>);

#[derive(Debug)]
struct Peer {
    left: u64,
    earned: Timestamp,
    unseen: u64,
    /// When the first of those was left out.
    since: Timestamp,
}

impl Repeats {
    /// Whether to write down one more refusal of what this peer has sent.
    pub(crate) fn admit(&mut self, node: NodeId, now: Timestamp) -> bool {
        let peer =
            self.0.entry(node).or_insert(Peer { left: AUDIT_PEER_BURST, earned: now, unseen: 0, since: now });
        peer.earn(now);
        if peer.left > 0 {
            peer.left -= 1;
            return true;
        }
        if peer.unseen == 0 {
            peer.since = now;
        }
        peer.unseen += 1;
        false
    }

    /// What has been counted for long enough.
    pub(crate) fn counted(&mut self, now: Timestamp) -> Vec<AuditEntry> {
        let mut entries = Vec::new();
        for (node, peer) in &mut self.0 {
            peer.earn(now);
            if peer.unseen > 0 && peer.since.plus_secs(AUDIT_COUNT_SECS) <= now {
                let detail =
                    format!("{} more records were refused and not logged", std::mem::take(&mut peer.unseen));
                entries.push(AuditEntry::new(COUNTED, "", detail).node(*node));
            }
        }
        self.0.retain(|_, peer| peer.unseen > 0 || peer.left < AUDIT_PEER_BURST);
        entries
    }
}

impl Peer {
    fn earn(&mut self, now: Timestamp) {
        // Of a clock that was set back nothing is earned until it has caught up.
        let earned = now.as_secs().saturating_sub(self.earned.as_secs()) / AUDIT_PEER_EVERY_SECS;
        self.left = self.left.saturating_add(earned).min(AUDIT_PEER_BURST);
        self.earned = self.earned.plus_secs(earned * AUDIT_PEER_EVERY_SECS);
    }
}
