//! A replica on a restored copy of its store holds what was deleted since the copy was made. So it serves no envelope to anybody, by any way, and takes
//! none from its own devices, until it has learnt of these deletions: until, since it was opened, a node of every other trust of the charter
//! has shown it the same digests of trust and of tombstones as its own, with every tombstone carried out (promise P6).
//!
//! Who shows a digest is who begins a round of anti-entropy. So it asks its peers to begin one ([`Frame::Begin`]), again and again, and meanwhile
//! takes no part in what concerns envelopes. Tolerated: any loss, peers that come late, restarts (all begins anew). A trust that is gone
//! for good must be left out by the operator; what it alone knew to be deleted is then served again.

use std::collections::{BTreeMap, BTreeSet};

use lanyard_crypto::{NodeId, RecordId, Timestamp, TrustId};
use lanyard_storage::{Batch, StorageError, Tree, View};

use crate::Replica;
use crate::audit::AuditEntry;
use crate::digest::Root;
use crate::erase;
use crate::frame::Frame;
use crate::holding::{Holding, LAYERS};
use crate::input::Reply;
use crate::keys;
use crate::limits::BEGIN_SECS;
use crate::query;
use crate::turn::Turn;
use crate::verdict::Refusal;

/// The event of the audit log.
const EVENT: &str = "restored";
/// The fact that a store is such a copy. Value: since when, u64.
const RESTORED: &[u8] = b"restored";
/// More than a device is sent while any backup is kept.
const INBOX_SKIP: u64 = 1 << 32;
/// The layers that say what is deleted: who is trusted, and tombstones.
const DECIDING: [u8; 2] = [LAYERS[0], LAYERS[1]];

/// How far the comparison has come, since the replica was opened.
#[derive(Debug, Default)]
pub(crate) struct Comparing {
    noted: bool,
    /// Trusts that need not be waited for any more.
    done: BTreeSet<TrustId>,
    /// When each peer was last asked to begin a round.
    asked: BTreeMap<NodeId, Timestamp>,
}

/// What a restored node waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restoration {
    /// When the copy was restored.
    pub since: Timestamp,
    /// Trusts of which no node has shown yet that it knows of the same deletions.
    pub waiting_for: Vec<TrustId>,
}

/// The batch that says of a store that it was restored at this moment. Inboxes go on behind every position that their devices can have
/// seen since the copy was made: what came later would otherwise have positions that they have passed.
///
/// # Errors
/// The view's alone.
pub fn mark(view: &dyn View, now: Timestamp) -> Result<Batch, StorageError> {
    let mut batch = Batch::new();
    batch.put(Tree::Meta, RESTORED, now.as_secs().to_be_bytes());
    query::for_each(view, Tree::Devices, &[], |device, newest| {
        let newest = keys::last_u64(newest).saturating_add(INBOX_SKIP);
        batch.put(Tree::Devices, device, newest.to_be_bytes());
        Ok(())
    })?;
    Ok(batch)
}

/// Whether a store was restored, and its node does not know yet what was deleted since.
///
/// # Errors
/// The view's alone.
pub fn is_marked(view: &dyn View) -> Result<bool, StorageError> {
    view.contains(Tree::Meta, RESTORED)
}

/// Whether the record of this id is an envelope that is not shown for that reason.
///
/// # Errors
/// The view's alone.
pub fn withholds_record(view: &dyn View, id: &RecordId) -> Result<bool, StorageError> {
    Holding::get(view, id)?.map_or(Ok(false), |held| withholds(view, &held))
}

/// Whether a record is an envelope that is not served for that reason.
pub(crate) fn withholds(view: &dyn View, held: &Holding) -> Result<bool, StorageError> {
    Ok(held.class.is_some() && is_marked(view)?)
}

impl Comparing {
    /// Of the replica of this store.
    pub(crate) fn of(view: &dyn View) -> Result<Option<Self>, StorageError> {
        Ok(is_marked(view)?.then(Self::default))
    }
}

impl Replica {
    /// What this replica waits for; none if it was not restored, or knows all.
    pub(crate) fn restoration(&self, turn: &Turn<'_>) -> Result<Reply, StorageError> {
        let since = turn.rows.get(Tree::Meta, RESTORED)?;
        let since = since.map(|row| Timestamp::from_secs(keys::last_u64(&row)));
        let waiting_for = self.awaited().into_iter().collect();
        Ok(Reply::Restoration(since.map(|since| Restoration { since, waiting_for })))
    }

    /// The operator does not wait for a trust any more.
    pub(crate) fn leave_out(
        &mut self,
        turn: &mut Turn<'_>,
        trust: TrustId,
    ) -> Result<Result<Reply, Refusal>, StorageError> {
        if !self.awaited().contains(&trust) {
            return Ok(Err(Refusal::NotFound(format!("a restored store that waits for {trust}"))));
        }
        if let Some(comparing) = &mut self.restored {
            comparing.done.insert(trust.clone());
        }
        let detail = "the operator goes on without what this trust knows to be deleted";
        turn.audit(AuditEntry::new(EVENT, "without", detail).trust(trust))?;
        self.serve_again(turn)?;
        Ok(Ok(Reply::Done))
    }

    /// A peer has shown its digests.
    pub(crate) fn note_compared(
        &mut self,
        turn: &Turn<'_>,
        trust: &TrustId,
        [mine, theirs]: [&[Root]; 2],
    ) -> Result<(), StorageError> {
        let Some(comparing) = &mut self.restored else { return Ok(()) };
        let equal =
            DECIDING.into_iter().all(|layer| mine.get(usize::from(layer)) == theirs.get(usize::from(layer)));
        if equal && !erase::is_behind(&turn.rows, turn.now)? {
            comparing.done.insert(trust.clone());
        }
        Ok(())
    }

    /// A second has passed: peers whose digests are lacking are asked for them, and if none are, everything is served again.
    pub(crate) fn compare_restored(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        let awaited = self.awaited();
        let Some(comparing) = &mut self.restored else { return Ok(()) };
        if !std::mem::replace(&mut comparing.noted, true) {
            let detail = "nothing is served before other trusts have told what was deleted since";
            turn.audit(AuditEntry::new(EVENT, "waiting", detail))?;
        }
        comparing.asked.retain(|node, _| self.connected.contains_key(node));
        for node in self.connected.iter().filter(|(_, trust)| awaited.contains(*trust)).map(|(node, _)| *node)
        {
            let asked = comparing.asked.get(&node);
            if asked.is_none_or(|at| at.plus_secs(BEGIN_SECS) <= turn.now) {
                comparing.asked.insert(node, turn.now);
                turn.send(node, Frame::Begin);
            }
        }
        self.serve_again(turn)
    }

    /// A peer asks for a round, and gets one if none was begun lately.
    pub(crate) fn asked_to_begin(&mut self, turn: &Turn<'_>, from: NodeId) {
        let lately = self.rounds.get(&from).is_some_and(|at| at.plus_secs(BEGIN_SECS) > turn.now);
        if !lately {
            self.due.insert(from);
        }
    }

    fn serve_again(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        if self.restored.is_none() || !self.awaited().is_empty() || erase::is_behind(&turn.rows, turn.now)? {
            return Ok(());
        }
        self.restored = None;
        turn.rows.delete(Tree::Meta, RESTORED);
        turn.audit(AuditEntry::new(
            EVENT,
            "serving",
            "what was deleted since is known; everything is served again",
        ))?;
        for (node, trust) in &self.connected {
            turn.wake(trust);
            self.due.insert(*node);
        }
        Ok(())
    }

    /// Trusts of which no node has shown the same digests yet.
    fn awaited(&self) -> BTreeSet<TrustId> {
        let Some(comparing) = &self.restored else { return BTreeSet::new() };
        let members = self.network.charter().trusts.iter().map(|member| &member.trust);
        members
            .filter(|trust| **trust != self.own.trust && !comparing.done.contains(*trust))
            .cloned()
            .collect()
    }
}
