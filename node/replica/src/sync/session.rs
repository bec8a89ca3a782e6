//! What this node is about to ask of each peer, and has asked: bounded, in memory, and gone when the connection is. Who
//! answers remembers nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lanyard_crypto::{NodeId, Timestamp};
use serde_bytes::ByteBuf;

use super::coded::Short;
use crate::digest::Sum;
use crate::frame::Span;
use crate::limits::{
    ALL_IDS_MAX, CLAIM_SECS_MAX, DIVISIONS_MAX, MISSING_SECS, PAGE_BYTES_MIN, PEER_IDS_FREE, PEER_IDS_MAX,
    REFUSED_IDS_MAX, TASKS_MAX,
};
use crate::mutation::{self, Mutation};

/// Something to be asked.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// What differs, by symbols. `theirs` is what the peer said that it holds, if it did.
    Compare { span: Span, theirs: Option<Sum>, least: usize, tries: u8 },
    /// What differs, by lists of ids.
    List(Span),
    /// All of it.
    Fetch { span: Span, theirs: Option<Sum>, before: Option<ByteBuf> },
    /// These, of a span. `known` if they are surely lacking here, though the beginning of an id may say otherwise. `offered` if the peer
    /// has named them unasked: then it has chosen the span as well, which says nothing to others.
    Want { span: Span, ids: Vec<Short>, known: bool, offered: bool },
}

impl Task {
    pub(crate) fn layer(&self) -> u8 {
        self.span().layer
    }

    pub(crate) fn span(&self) -> &Span {
        match self {
            Task::Compare { span, .. }
            | Task::List(span)
            | Task::Fetch { span, .. }
            | Task::Want { span, .. } => span,
        }
    }

    fn ids(&self) -> usize {
        match self {
            Task::Want { ids, .. } => ids.len(),
            Task::Compare { .. } | Task::List(_) | Task::Fetch { .. } => 0,
        }
    }
}

/// A question about what differs that waits for its answer.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) task: Task,
    pub(crate) salt: [u8; 16],
}

/// A question for records that waits for its end.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    pub(crate) number: u64,
    pub(crate) task: Task,
    /// When it was asked.
    pub(crate) begun: Timestamp,
    /// Records that came, of those that were asked for.
    pub(crate) delivered: usize,
    /// Their bytes; of a span, those of all records that came, since a peer cannot know which of them are new here.
    pub(crate) bytes: usize,
    /// A step was full: some of what came was not looked at.
    pub(crate) cut: bool,
}

impl Transfer {
    pub(crate) fn new(number: u64, task: Task, begun: Timestamp) -> Self {
        Self { number, task, begun, delivered: 0, bytes: 0, cut: false }
    }

    /// Whether so little came that an honest peer has nothing more.
    pub(crate) fn is_thin(&self) -> bool {
        self.bytes < PAGE_BYTES_MIN && !self.cut
    }
}

/// All of one peer.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) asked: BTreeMap<u64, Asked>,
    pub(crate) transfer: Option<Transfer>,
    todo: VecDeque<Task>,
    /// Since when the peer owes an answer.
    pub(crate) since: Option<Timestamp>,
    /// The peer has asked for a second's rest.
    pub(crate) resting: bool,
    /// How often in a row it has.
    pub(crate) rests: u32,
    /// Whether there was anything to do since the session was last at rest.
    pub(crate) active: bool,
    /// Whether a record came of it.
    pub(crate) gained: bool,
    /// Rounds that found a difference, and moved no record.
    pub(crate) fruitless: u32,
    /// How often a span was divided in this session.
    divisions: u32,
    /// Whether it has sent nothing of what was asked for in this session.
    pub(crate) let_down: bool,
    /// What the peer has named and did not send, with the time until which it is not asked for it.
    missing: BTreeMap<Short, Timestamp>,
}

impl Session {
    /// Adds something to do, after what is of the same layer or a lower one. What is too much shows again in a later round.
    pub(crate) fn add(&mut self, task: Task) {
        if self.todo.len() >= TASKS_MAX {
            return;
        }
        let at = self.todo.iter().position(|t| t.layer() > task.layer()).unwrap_or(self.todo.len());
        self.todo.insert(at, task);
        self.active = true;
    }

    /// Puts back what was begun: it goes on before everything else of its layer.
    pub(crate) fn put_back(&mut self, task: Task) {
        let at = self.todo.iter().position(|t| t.layer() >= task.layer()).unwrap_or(self.todo.len());
        self.todo.insert(at, task);
        self.active = true;
    }

    /// The next thing to do that `may` be done now, of the lowest layer of which anything is left.
    pub(crate) fn next(&mut self, may: impl Fn(&Task) -> bool) -> Option<Task> {
        let layer = self.layer()?;
        let at = self.todo.iter().position(|task| task.layer() == layer && may(task))?;
        self.todo.remove(at)
    }

    /// Whether something of this layer is under way.
    pub(crate) fn is_about(&self, layer: u8) -> bool {
        self.todo.iter().any(|t| t.layer() == layer) || self.under_way().any(|t| t.layer() == layer)
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.todo.is_empty() && self.owes_nothing()
    }

    /// Whether no answer is waited for.
    pub(crate) fn owes_nothing(&self) -> bool {
        self.asked.is_empty() && self.transfer.is_none()
    }

    /// Notes what the peer has named and did not send. Not for good: its frames may have been lost, and the end of them was not.
    pub(crate) fn miss(&mut self, ids: &[Short], now: Timestamp) {
        self.missing.retain(|_, until| now < *until);
        if self.missing.len() + ids.len() > REFUSED_IDS_MAX {
            self.missing.clear();
        }
        self.missing.extend(ids.iter().map(|id| (*id, now.plus_secs(MISSING_SECS))));
    }

    fn misses(&self, id: &Short, now: Timestamp) -> bool {
        self.missing.get(id).is_some_and(|until| now < *until)
    }

    /// What is to be asked of a layer is forgotten.
    pub(crate) fn leave_layer(&mut self, layer: u8) {
        self.todo.retain(|task| task.layer() != layer);
    }

    /// What the peer has named is not asked for: it shows again in a later round, if it is there.
    pub(crate) fn forget_names(&mut self) {
        self.todo.retain(|task| !matches!(task, Task::Want { .. }));
    }

    /// Whether one more span may be divided. Who says that everything is too much has no more waiting here than who names much.
    pub(crate) fn may_divide(&mut self) -> bool {
        self.divisions += 1;
        self.divisions <= DIVISIONS_MAX && self.todo.len() < TASKS_MAX
    }

    /// There is nothing left to do. True if there was anything since it was last so.
    pub(crate) fn rest(&mut self) -> bool {
        (self.divisions, self.let_down) = (0, false);
        std::mem::take(&mut self.active)
    }

    /// Gives up all that was to be asked.
    pub(crate) fn give_up(&mut self) {
        self.asked.clear();
        self.transfer = None;
        self.todo.clear();
        self.resting = false;
        self.rests = 0;
    }

    /// Ids that are yet to be asked for.
    fn ids(&self) -> usize {
        self.todo.iter().map(Task::ids).sum()
    }

    fn layer(&self) -> Option<u8> {
        // Tasks are in the order of their layers.
        self.under_way().chain(self.todo.front()).map(Task::layer).min()
    }

    fn under_way(&self) -> impl Iterator<Item = &Task> {
        self.asked.values().map(|a| &a.task).chain(self.transfer.as_ref().map(|t| &t.task))
    }
}

/// All peers, and what is known across them.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) by_peer: BTreeMap<NodeId, Session>,
    /// Ids on their way, and from whom, so that no record is sent here twice.
    pub(crate) claims: BTreeMap<Short, NodeId>,
    /// What this node refuses for good, so that it is not asked for in each round.
    refused: BTreeSet<Short>,
    /// Of the last question.
    numbers: u64,
}

impl Sessions {
    pub(crate) fn of(&mut self, peer: NodeId) -> &mut Session {
        self.by_peer.entry(peer).or_default()
    }

    pub(crate) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn refuse(&mut self, id: Short) {
        if self.refused.len() >= REFUSED_IDS_MAX {
            self.refused.clear();
        }
        self.refused.insert(id);
    }

    pub(crate) fn forget_refusals(&mut self) {
        self.refused.clear();
    }

    /// Whether an id is not to be asked of this peer now: another one sends it, or it would be for nothing.
    pub(crate) fn is_vain(&self, id: &Short, peer: &NodeId, now: Timestamp) -> bool {
        let claimer = self.claims.get(id).filter(|by| *by != peer).and_then(|by| self.by_peer.get(by));
        // Who sends slowly does not keep others from it; nor do those who take turns at naming it and not sending it.
        let claimed = claimer
            .filter(|_| !self.by_peer.values().any(|s| s.misses(id, now)))
            .and_then(|session| session.transfer.as_ref());
        let for_ever =
            mutation::is(Mutation::ClaimForEver) && self.claims.get(id).is_some_and(|by| by != peer);
        for_ever
            || self.refused.contains(id)
            || claimed.is_some_and(|transfer| now < transfer.begun.plus_secs(CLAIM_SECS_MAX))
            || self.by_peer.get(peer).is_some_and(|s| s.misses(id, now))
    }

    /// The spans that other peers are sending as a whole, and those that they are otherwise asked about. Who is slow shares them.
    pub(crate) fn elsewhere(&self, peer: &NodeId, now: Timestamp) -> (Vec<Span>, Vec<Span>) {
        let (mut fetched, mut looked_into) = (Vec::new(), Vec::new());
        let fresh = |at: Timestamp| now < at.plus_secs(CLAIM_SECS_MAX);
        for session in self.by_peer.iter().filter(|(other, _)| *other != peer).map(|(_, session)| session) {
            match session.transfer.as_ref().filter(|t| fresh(t.begun)).map(|t| &t.task) {
                Some(task @ Task::Fetch { .. }) => fetched.push(*task.span()),
                Some(Task::Want { offered: true, .. }) | None => {}
                Some(task) => looked_into.push(*task.span()),
            }
            if session.since.is_some_and(fresh) {
                looked_into.extend(session.asked.values().map(|a| *a.task.span()));
            }
        }
        (fetched, looked_into)
    }

    /// What this peer was asked for is not on its way any more.
    pub(crate) fn release(&mut self, peer: &NodeId) {
        if mutation::is(Mutation::ClaimForEver) {
            return;
        }
        self.claims.retain(|_, by| by != peer);
    }

    /// How many more ids may be noted that are yet to be asked of this peer: its own share, which no other peer can take, or
    /// what is left of what all have in common.
    pub(crate) fn room(&self, peer: &NodeId) -> usize {
        let own = self.by_peer.get(peer).map_or(0, Session::ids);
        let all: usize = self.by_peer.values().map(Session::ids).sum();
        let free = PEER_IDS_FREE.saturating_sub(own);
        free.max(ALL_IDS_MAX.saturating_sub(all)).min(PEER_IDS_MAX.saturating_sub(own))
    }

    /// The connection is gone.
    pub(crate) fn end(&mut self, peer: &NodeId) {
        self.release(peer);
        self.by_peer.remove(peer);
    }
}
