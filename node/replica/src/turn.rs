//! One step under way: the rows as they will be, and the outputs so far.

use std::collections::{BTreeMap, BTreeSet};

use lanyard_crypto::gateway;
use lanyard_crypto::record::ReceiptItem;
use lanyard_crypto::{ConversationId, Fingerprint, NodeId, RecordId, Timestamp, TrustId};
use lanyard_storage::{Overlay, StorageError, Tree, View};

use crate::audit::repeats::Repeated;
use crate::audit::{self, AuditEntry};
use crate::digest;
use crate::frame::Frame;
use crate::hold::Hold;
use crate::input::{Output, Reply, Step};
use crate::keys;
use crate::limits::{INBOX_PER_SEC_MAX, STEP_BYTES_MAX};
use crate::restored;

/// Fed by the modules of the engine within one step, and turned into the [`Step`] at its end.
pub(crate) struct Turn<'a> {
    pub(crate) now: Timestamp,
    pub(crate) rows: Overlay<&'a dyn View>,
    pub(crate) outputs: Vec<Output>,
    /// What has been erased and is to be attested, by the trust that ordered it.
    pub(crate) erased: BTreeMap<TrustId, Vec<ReceiptItem>>,
    /// What goes to the audit log unless there is too much of it, by whose nodes have sent it.
    pub(crate) repeated: Vec<(Option<TrustId>, Repeated, AuditEntry)>,
    /// The holds that last, once they were asked for.
    pub(crate) holds: Option<BTreeMap<ConversationId, Hold>>,
    /// Who may have something of the conversation that was asked for last, until that changes.
    pub(crate) readers: Option<(ConversationId, Vec<Fingerprint>)>,
    /// Whether receipts wait for their tombstones, once that was asked.
    pub(crate) any_early: Option<bool>,
    /// The position in inboxes behind which everything comes, once it was asked for.
    pub(crate) inbox_base: Option<u64>,
    /// Whose chains are known to be kept.
    pub(crate) chains: BTreeSet<Fingerprint>,
    /// Set once the network's trust has changed.
    pub(crate) trust_changed: bool,
    /// Set once what is certain of the time has changed, by which it is judged who is let in.
    pub(crate) time_moved: bool,
    /// What stands in the digests for the record that is being taken, if that was worked out before.
    pub(crate) element: Option<(RecordId, digest::Element)>,
    /// What has entered and left the index, and is not in the rows of [`Tree::Digests`] yet.
    pub(crate) digests: digest::Pending,
    /// Set if more is left to do than this step has done.
    pub(crate) more: bool,
    /// Set if a crash may take back what this step does, as long as nobody is told of it.
    pub(crate) lazy: bool,
    changes_max: usize,
    notify: BTreeMap<Fingerprint, u64>,
    wake: BTreeSet<TrustId>,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(view: &'a dyn View, now: Timestamp, changes_max: usize) -> Self {
        Self {
            now,
            rows: Overlay::new(view),
            outputs: Vec::new(),
            erased: BTreeMap::new(),
            repeated: Vec::new(),
            holds: None,
            readers: None,
            any_early: None,
            inbox_base: None,
            chains: BTreeSet::new(),
            trust_changed: false,
            time_moved: false,
            element: None,
            digests: digest::Pending::default(),
            more: false,
            lazy: false,
            changes_max,
            notify: BTreeMap::new(),
            wake: BTreeSet::new(),
        }
    }

    /// Whether the step has done as much as it should: its batch must stay within what the store takes at once.
    pub(crate) fn is_full(&self) -> bool {
        let batch = self.rows.batch();
        batch.len() + self.digests.len() >= self.changes_max || batch.byte_len() >= STEP_BYTES_MAX
    }

    /// Lets `work` make so many changes, beyond which the turn is full to it, and notes that more is left if it became so.
    pub(crate) fn portion(
        &mut self,
        changes: usize,
        work: impl FnOnce(&mut Self) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let made = self.rows.batch().len() + self.digests.len();
        let changes_max = self.changes_max;
        self.changes_max = changes_max.min(made + changes);
        let outcome = work(self);
        self.more |= self.is_full();
        self.changes_max = changes_max;
        outcome
    }

    /// Lets what this step attests be true although some of what it is about may have been dropped just before, by expiry or for a hold:
    /// the keys of that are destroyed a little later, unless it is waited for.
    pub(crate) fn settle(&mut self) {
        self.rows.settle();
    }

    /// Ends the step. Devices and trusts are told once, however much there is for them.
    pub(crate) fn finish(mut self) -> Result<Step, StorageError> {
        digest::settle(&mut self)?;
        if self.lazy && self.outputs.is_empty() && self.wake.is_empty() && self.notify.is_empty() {
            self.rows.defer_sync();
        }
        if self.trust_changed || self.time_moved {
            self.outputs.push(Output::TrustChanged);
        }
        if self.more {
            self.outputs.push(Output::GoOn);
        }
        self.outputs.extend(self.wake.into_iter().map(Output::Wake));
        self.outputs.extend(self.notify.into_iter().map(|(device, seq)| Output::Notify { device, seq }));
        Ok(Step { batch: self.rows.into_batch(), outputs: self.outputs })
    }

    /// The next of the numbers that `name` counts: 1, 2, 3, …
    pub(crate) fn next_number(&mut self, name: &str) -> Result<u64, StorageError> {
        let key = format!("next-{name}");
        let number = self.rows.get(Tree::Meta, key.as_bytes())?.map_or(1, |row| keys::last_u64(&row));
        self.rows.put(Tree::Meta, key, (number + 1).to_be_bytes());
        Ok(number)
    }

    /// Adds a record to a device's inbox. A device of which nothing is known may have had an inbox here all the same, if the store is
    /// new or restored: its positions begin behind all that it can have seen.
    pub(crate) fn deliver(&mut self, device: &Fingerprint, record: &RecordId) -> Result<(), StorageError> {
        let newest = self.rows.get(Tree::Devices, device.as_bytes())?.map(|row| keys::last_u64(&row));
        let base = match self.inbox_base {
            Some(base) => base,
            None => *self.inbox_base.insert(restored::inbox_base_of(&self.rows)?),
        };
        let seq = newest.unwrap_or_else(|| inbox_base(self.now)).max(base).saturating_add(1);
        self.rows.put(Tree::Devices, *device.as_bytes(), seq.to_be_bytes());
        self.rows.put(Tree::Inbox, keys::inbox(device, seq), *record.as_bytes());
        self.notify.insert(*device, seq);
        Ok(())
    }

    pub(crate) fn send(&mut self, to: NodeId, frame: Frame) {
        self.outputs.push(Output::Send { to, frame });
    }

    pub(crate) fn wake(&mut self, trust: &TrustId) {
        self.wake.insert(trust.clone());
    }

    pub(crate) fn audit(&mut self, entry: AuditEntry) -> Result<(), StorageError> {
        let entry = audit::append(self, entry)?;
        self.outputs.push(Output::Audit(entry));
        Ok(())
    }

    pub(crate) fn reply(&mut self, ticket: u64, reply: Result<Reply, gateway::Refusal>) {
        self.outputs.push(Output::Reply { ticket, reply });
    }
}

/// A position in an inbox behind all that a node can have given before this moment, as long as no device gets a million records a second.
pub(crate) fn inbox_base(now: Timestamp) -> u64 {
    now.as_secs().saturating_mul(INBOX_PER_SEC_MAX)
}
