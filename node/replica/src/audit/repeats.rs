//! How much of the audit log may be filled by what one trust's nodes have sent: none may push out of it what an operator looks for, or what another
//! trust wants to be shown.
//!
//! Of each trust, since it certifies as many nodes as it likes, so many refusals and deletions are written down as they come, and after those one in a while. What is left out is counted in memory,
//! and the count becomes an entry of its own in the end; nothing that stands in the log is changed for it. A restart loses what is being
//! counted.

use std::collections::BTreeMap;

use lanyard_crypto::{Timestamp, TrustId};

use super::AuditEntry;
use crate::limits::{AUDIT_COUNT_SECS, AUDIT_TRUST_BURST, AUDIT_TRUST_EVERY_SECS};

/// The event of an entry that only counts refusals.
pub const COUNTED: &str = "refusals-counted";
/// The event of an entry that only counts deletions: the destruction log has each of them.
pub const DELETIONS_COUNTED: &str = "deletions-counted";

/// What a trust's nodes may fill the log with, each by itself: what was refused takes no room from what was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Repeated {
    /// A record, or a part of one, that was refused.
    Refusal,
    /// A deletion that was ordered.
    Deletion,
}

/// Fed by each refusal and each deletion, and drained by the ticks.
#[derive(Debug, Default)]
pub(crate) struct Repeats(BTreeMap<(Option<TrustId>, Repeated), Sender>);

#[derive(Debug)]
struct Sender {
    left: u64,
    earned: Timestamp,
    unseen: u64,
    /// When the first of those was left out.
    since: Timestamp,
}

impl Repeats {
    /// Whether to write down one more of what nodes of this trust have sent; without one, of what came from a node that has gone.
    pub(crate) fn admit(&mut self, trust: Option<TrustId>, what: Repeated, now: Timestamp) -> bool {
        let sender = self.0.entry((trust, what)).or_insert(Sender {
            left: AUDIT_TRUST_BURST,
            earned: now,
            unseen: 0,
            since: now,
        });
        sender.earn(now);
        if sender.left > 0 {
            sender.left -= 1;
            return true;
        }
        if sender.unseen == 0 {
            sender.since = now;
        }
        sender.unseen += 1;
        false
    }

    /// What has been counted for long enough.
    pub(crate) fn counted(&mut self, now: Timestamp) -> Vec<AuditEntry> {
        let mut entries = Vec::new();
        for ((trust, what), sender) in &mut self.0 {
            sender.earn(now);
            if sender.unseen > 0 && sender.since.plus_secs(AUDIT_COUNT_SECS) <= now {
                let count = std::mem::take(&mut sender.unseen);
                let (event, detail) = match what {
                    Repeated::Refusal => (COUNTED, format!("{count} more were refused and not logged")),
                    Repeated::Deletion => (
                        DELETIONS_COUNTED,
                        format!("{count} more deletions were ordered and not logged here"),
                    ),
                };
                let entry = AuditEntry::new(event, "", detail);
                entries.push(match trust {
                    Some(trust) => entry.trust(trust.clone()),
                    None => entry,
                });
            }
        }
        self.0.retain(|_, sender| sender.unseen > 0 || sender.left < AUDIT_TRUST_BURST);
        entries
    }
}

impl Sender {
    fn earn(&mut self, now: Timestamp) {
        // Of a clock that was set back nothing is earned until it has caught up.
        let earned = now.as_secs().saturating_sub(self.earned.as_secs()) / AUDIT_TRUST_EVERY_SECS;
        self.left = self.left.saturating_add(earned).min(AUDIT_TRUST_BURST);
        self.earned = self.earned.plus_secs(earned * AUDIT_TRUST_EVERY_SECS);
    }
}
