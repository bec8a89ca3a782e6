//! A replica on a restored copy of its store holds what was deleted since the copy was made. So it serves no envelope to anybody, by any way, and takes
//! none from its own devices, until it has learnt of these deletions: until, since it was opened, a node of every other trust of the charter
//! and every other node of its own trust has shown it the same digests of trust and of tombstones as its own, with every tombstone carried out
//! (promise P6). Nodes of its own trust are waited for one by one, since what concerns that trust alone is nowhere else.
//!
//! It has also lost envelopes, and commits among them that it had ordered as the hub. So it orders none, which might be the second of
//! an epoch, until the same nodes have shown it the same envelopes too.
//!
//! An operator who restores a backup says so ([`mark`]). A store that was lost, and begins empty, or that was set back by other means, is found out by
//! the first head of this node's own audit log that comes back and is not of the log that is here ([`Replica::found_old`]). Anti-entropy brings heads
//! before envelopes. A node that had not signed a head yet, or whose certificate is another since, is not found out.
//!
//! Who shows a digest is who begins a round of anti-entropy. So it asks its peers to begin one ([`Frame::Begin`]), again and again, and meanwhile
//! takes no part in what concerns envelopes. Tolerated: any loss, peers that come late, restarts (all begins anew). A trust or a node that is gone
//! for good must be left out by the operator; what it alone knew to be deleted is then served again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::{Fingerprint, NodeId, RecordId, Timestamp, TrustId};
use lanyard_storage::{Batch, StorageError, Tree, View};

use crate::Replica;
use crate::audit::{AuditEntry, heads};
use crate::digest::Root;
use crate::erase;
use crate::frame::Frame;
use crate::holding::{Holding, LAYERS};
use crate::input::Reply;
use crate::keys;
use crate::limits::BEGIN_SECS;
use crate::query;
use crate::turn::{Turn, inbox_base};
use crate::verdict::Refusal;

/// The event of the audit log.
const EVENT: &str = "restored";
/// The fact that a store is such a copy. Value: since when, u64.
const RESTORED: &[u8] = b"restored";
/// The fact that it was, and that envelopes may still be lacking. Value: the same.
const REGAINING: &[u8] = b"restored-regaining";
/// The fact that it was, and that everything was served again at this moment, u64. Heads of before may still come.
const SERVED: &[u8] = b"restored-served";
/// The newest of the heads that have shown that: when it was signed, u64.
const NEWEST_HEAD: &[u8] = b"restored-newest-head";
/// The position in inboxes behind which everything is put from then on, u64.
const INBOX_BASE: &[u8] = b"inbox-base";
/// The row of [`Tree::Inbox`] up to which what stands before that position has been put behind it.
const INBOXES_MOVED: &[u8] = b"inboxes-moved";
/// Rows of inboxes that are looked at to be put behind it, at once.
const MOVED_AT_ONCE: usize = 64;
/// More than a device is sent while any backup is kept, in case the clock is behind.
const INBOX_SKIP: u64 = 1 << 28;
/// The layers that say what is deleted: who is trusted, and tombstones.
const DECIDING: [u8; 2] = [LAYERS[0], LAYERS[1]];

/// How far a comparison has come, since the replica was opened.
#[derive(Debug, Default)]
pub(crate) struct Comparing {
    noted: bool,
    /// Who need not be waited for any more.
    done: BTreeSet<Awaited>,
    /// Whom the operator has left out.
    left_out: BTreeSet<Awaited>,
    /// When each peer was last asked to begin a round.
    asked: BTreeMap<NodeId, Timestamp>,
}

/// Who is to tell a restored node what it lacks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Awaited {
    /// Any node of another trust. Of the own trust, all others of its nodes.
    Trust(TrustId),
    /// Another node of the own trust.
    Node(NodeId),
}

impl std::fmt::Display for Awaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Awaited::Trust(trust) => trust.fmt(f),
            Awaited::Node(node) => node.fmt(f),
        }
    }
}

/// What a restored node waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restoration {
    /// When the copy was restored.
    pub since: Timestamp,
    /// Whether messages are served, and changes of conversations alone still wait.
    pub serves: bool,
    /// Those who have not shown yet that they know of the same deletions, or, if messages are served, that they hold the same envelopes.
    pub waiting_for: Vec<Awaited>,
}

/// What says of a store that it was restored at this moment, before anything is done with it.
/// Inboxes go on behind every position that their devices can have seen since the copy was made: what came later would
/// otherwise have positions that they have passed.
///
/// # Errors
/// The view's alone.
pub fn mark(view: &dyn View, now: Timestamp) -> Result<Batch, StorageError> {
    let mut batch = Batch::new();
    batch.put(Tree::Meta, INBOX_BASE, behind_all(view, now)?.to_be_bytes());
    batch.put(Tree::Meta, RESTORED, now.as_secs().to_be_bytes());
    Ok(batch)
}

/// A position behind all that devices can have seen of any inbox, whatever was given since this store was as it is.
fn behind_all(view: &dyn View, now: Timestamp) -> Result<u64, StorageError> {
    let mut newest = inbox_base_of(view)?;
    query::for_each(view, Tree::Devices, &[], |_, row| {
        newest = newest.max(keys::last_u64(row));
        Ok(())
    })?;
    Ok(newest.saturating_add(INBOX_SKIP).max(inbox_base(now)))
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

/// The position behind which all that is put into inboxes comes.
///
/// # Errors
/// The view's alone.
pub(crate) fn inbox_base_of(view: &dyn View) -> Result<u64, StorageError> {
    Ok(view.get(Tree::Meta, INBOX_BASE)?.map_or(0, |row| keys::last_u64(&row)))
}

/// Devices have seen positions that this store has not given yet. What is in inboxes, and what comes, gets positions behind all of them:
/// it may come twice to a device, but not never.
fn begin_inboxes_anew(turn: &mut Turn<'_>) -> Result<(), StorageError> {
    let base = behind_all(&turn.rows, turn.now)?;
    turn.rows.put(Tree::Meta, INBOX_BASE, base.to_be_bytes());
    turn.rows.put(Tree::Meta, INBOXES_MOVED, []);
    turn.inbox_base = Some(base);
    turn.more = true;
    Ok(())
}

/// Goes on with putting what is in inboxes behind the positions that devices may have seen.
pub(crate) fn go_on(turn: &mut Turn<'_>) -> Result<(), StorageError> {
    let Some(from) = turn.rows.get(Tree::Meta, INBOXES_MOVED)? else { return Ok(()) };
    let base = inbox_base_of(&turn.rows)?;
    let range = (Bound::Excluded(from.as_slice()), Bound::Unbounded);
    let rows = turn.rows.scan(Tree::Inbox, range, MOVED_AT_ONCE)?;
    let whole = rows.len() < MOVED_AT_ONCE;
    for (key, id) in rows {
        if turn.is_full() {
            turn.more = true;
            return Ok(());
        }
        if let (Some(device), Ok(id)) = (key.first_chunk::<32>(), RecordId::try_from(id.as_slice()))
            && keys::last_u64(&key) <= base
        {
            turn.rows.delete(Tree::Inbox, key.clone());
            turn.deliver(&Fingerprint::new(*device), &id)?;
        }
        turn.rows.put(Tree::Meta, INBOXES_MOVED, key);
    }
    if whole {
        turn.rows.delete(Tree::Meta, INBOXES_MOVED);
    }
    turn.more |= !whole;
    Ok(())
}

impl Comparing {
    /// Of the replica of this store: for the deletions, and for the envelopes once these are known. At most one of them is under way.
    pub(crate) fn of(view: &dyn View) -> Result<[Option<Self>; 2], StorageError> {
        let restored = is_marked(view)?;
        let regaining = !restored && view.contains(Tree::Meta, REGAINING)?;
        Ok([restored, regaining].map(|under_way| under_way.then(Self::default)))
    }

    fn knows(&self, awaited: &Awaited) -> bool {
        self.done.contains(awaited) || self.left_out.contains(awaited)
    }
}

impl Replica {
    /// A head that this node has signed is not of the log that is here: the store is older than what the node has done, or is another. It
    /// is treated as one that was restored, unless that is known of the loss that the head is about.
    pub(crate) fn found_old(&mut self, turn: &mut Turn<'_>, signed: Timestamp) -> Result<(), StorageError> {
        // Beyond what clocks may differ by, it says nothing of when the loss was.
        if signed > turn.now.plus_secs(CLOCK_SKEW_SECS_MAX) {
            return Ok(());
        }
        let moment = |row: Option<Vec<u8>>| row.map(|row| Timestamp::from_secs(keys::last_u64(&row)));
        let served = moment(turn.rows.get(Tree::Meta, SERVED)?);
        // Before there was such a row, a loss was noted as a contradiction alone.
        let known = match served {
            Some(at) => Some(at),
            None => heads::rows_lost(&turn.rows, &self.own.node)?,
        };
        let newest = moment(turn.rows.get(Tree::Meta, NEWEST_HEAD)?).unwrap_or_default();
        if known.is_none_or(|at| signed > at) && signed > newest {
            turn.rows.put(Tree::Meta, NEWEST_HEAD, signed.as_secs().to_be_bytes());
        }
        if known.is_some_and(|at| signed <= at) || self.restored.is_some() {
            return Ok(());
        }
        turn.rows.put(Tree::Meta, RESTORED, turn.now.as_secs().to_be_bytes());
        turn.rows.delete(Tree::Meta, REGAINING);
        (self.restored, self.regaining) = (Some(Comparing::default()), None);
        begin_inboxes_anew(turn)?;
        let detail =
            "this node has signed what its store does not have: the store was lost, or is an older copy";
        turn.audit(AuditEntry::new(EVENT, "lost", detail))
    }

    /// What this replica waits for; none if it was not restored, or knows all.
    pub(crate) fn restoration(&self, turn: &Turn<'_>) -> Result<Reply, StorageError> {
        let serves = self.restored.is_none();
        let since = turn.rows.get(Tree::Meta, if serves { REGAINING } else { RESTORED })?;
        let since = since.map(|row| Timestamp::from_secs(keys::last_u64(&row)));
        let waiting_for = self.awaited(turn.now).into_iter().collect();
        Ok(Reply::Restoration(since.map(|since| Restoration { since, serves, waiting_for })))
    }

    /// Whether commits may be lacking that this replica has ordered, so that it orders none.
    pub(crate) fn lacks_commits(&self) -> bool {
        self.restored.is_some() || self.regaining.is_some()
    }

    /// The operator does not wait for somebody any more: a trust, a node of this one, or, by its code, all of them.
    pub(crate) fn leave_out(
        &mut self,
        turn: &mut Turn<'_>,
        gone: Awaited,
    ) -> Result<Result<Reply, Refusal>, StorageError> {
        let awaited = self.awaited(turn.now);
        let left_out: BTreeSet<Awaited> = match &gone {
            Awaited::Trust(trust) if *trust == self.own.trust => {
                awaited.into_iter().filter(|awaited| matches!(awaited, Awaited::Node(_))).collect()
            }
            gone => awaited.into_iter().filter(|awaited| awaited == gone).collect(),
        };
        if left_out.is_empty() {
            return Ok(Err(Refusal::NotFound(format!("a restored store that waits for {gone}"))));
        }
        for awaited in left_out {
            let detail = "the operator goes on without what is known there alone";
            let entry = AuditEntry::new(EVENT, "without", detail);
            turn.audit(match &awaited {
                Awaited::Trust(trust) => entry.trust(trust.clone()),
                Awaited::Node(node) => entry.trust(self.own.trust.clone()).node(*node),
            })?;
            if let Some(comparing) = self.comparing() {
                comparing.left_out.insert(awaited);
            }
        }
        self.go_further(turn)?;
        Ok(Ok(Reply::Done))
    }

    /// A peer has shown its digests.
    pub(crate) fn note_compared(
        &mut self,
        turn: &Turn<'_>,
        (node, trust): (NodeId, &TrustId),
        [mine, theirs]: [&[Root]; 2],
    ) -> Result<(), StorageError> {
        let shown =
            if *trust == self.own.trust { Awaited::Node(node) } else { Awaited::Trust(trust.clone()) };
        let envelopes = self.regaining.is_some().then_some(LAYERS[3]);
        let Some(comparing) = self.comparing() else { return Ok(()) };
        let equal = DECIDING
            .into_iter()
            .chain(envelopes)
            .all(|layer| mine.get(usize::from(layer)) == theirs.get(usize::from(layer)));
        if equal && !erase::is_behind(&turn.rows, turn.now)? {
            comparing.done.insert(shown);
        }
        Ok(())
    }

    /// A second has passed: peers whose digests are lacking are asked for them, and if none are, everything goes on as before.
    pub(crate) fn compare_restored(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        let awaited = self.awaited(turn.now);
        let (own, connected) = (self.own.trust.clone(), self.connected.clone());
        let Some(comparing) = self.comparing() else { return Ok(()) };
        if !std::mem::replace(&mut comparing.noted, true) {
            let detail = "nothing is served before others have told what was deleted since";
            turn.audit(AuditEntry::new(EVENT, "waiting", detail))?;
        }
        comparing.asked.retain(|node, _| connected.contains_key(node));
        for (node, trust) in connected {
            let shows = if trust == own { Awaited::Node(node) } else { Awaited::Trust(trust) };
            let asked = comparing.asked.get(&node);
            if awaited.contains(&shows) && asked.is_none_or(|at| at.plus_secs(BEGIN_SECS) <= turn.now) {
                comparing.asked.insert(node, turn.now);
                turn.send(node, Frame::Begin);
            }
        }
        self.go_further(turn)
    }

    /// A peer asks for a round, and gets one if none was begun lately.
    pub(crate) fn asked_to_begin(&mut self, turn: &Turn<'_>, from: NodeId) {
        let lately = self.rounds.get(&from).is_some_and(|at| at.plus_secs(BEGIN_SECS) > turn.now);
        if !lately {
            self.due.insert(from);
        }
    }

    /// Serves again once what was deleted is known, and orders commits again once what was lost is back.
    fn go_further(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        if !self.lacks_commits()
            || !self.awaited(turn.now).is_empty()
            || erase::is_behind(&turn.rows, turn.now)?
        {
            return Ok(());
        }
        let Some(served) = self.restored.take() else {
            self.regaining = None;
            turn.rows.delete(Tree::Meta, REGAINING);
            let detail = "what was lost is back; changes of conversations are ordered again";
            return turn.audit(AuditEntry::new(EVENT, "ordering", detail));
        };
        // What others showed before is not of the envelopes, which come from now on.
        let left_out = served.left_out;
        self.regaining = Some(Comparing { noted: true, left_out, ..Comparing::default() });
        if let Some(since) = turn.rows.get(Tree::Meta, RESTORED)? {
            turn.rows.put(Tree::Meta, REGAINING, since);
        }
        turn.rows.delete(Tree::Meta, RESTORED);
        // A clock that was ahead before the loss has signed heads that seem to come after it.
        let newest = turn.rows.get(Tree::Meta, NEWEST_HEAD)?.map_or(0, |row| keys::last_u64(&row));
        turn.rows.put(Tree::Meta, SERVED, turn.now.as_secs().max(newest).to_be_bytes());
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

    fn comparing(&mut self) -> Option<&mut Comparing> {
        self.restored.as_mut().or(self.regaining.as_mut())
    }

    /// Who has not shown the same digests yet.
    fn awaited(&self, now: Timestamp) -> BTreeSet<Awaited> {
        let Some(comparing) = self.restored.as_ref().or(self.regaining.as_ref()) else {
            return BTreeSet::new();
        };
        let members = self.network.charter().trusts.iter().map(|member| &member.trust);
        let others = members.filter(|trust| **trust != self.own.trust).cloned().map(Awaited::Trust);
        let nodes = self.network.nodes(now).into_iter();
        let siblings = nodes.filter(|node| node.trust == self.own.trust && node.node() != self.own.node);
        let siblings = siblings.map(|node| Awaited::Node(node.node()));
        others.chain(siblings).filter(|awaited| !comparing.knows(awaited)).collect()
    }
}
