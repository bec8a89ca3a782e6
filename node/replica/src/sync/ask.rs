//! Asking: what a session does next, in the order of layers, within its bounds.

use lanyard_crypto::{NodeId, TrustId, labels};
use lanyard_storage::{StorageError, Tree, View};
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

use super::coded::{self, Short, Sketch};
use super::session::{Asked, Task, Transfer};
use super::to_shorts;
use crate::Replica;
use crate::digest::Sum;
use crate::erase;
use crate::frame::{Ask, Fetch, Frame, List, Span, Want};
use crate::holding::LAYERS;
use crate::limits::{ASKS_MAX, LIST_IDS_MAX, PEER_IDS_FREE, SMALL_SPAN_RECORDS_MAX, WANT_IDS_MAX};
use crate::turn::Turn;

impl Replica {
    /// Asks what may be asked now; if nothing is left, the session is over.
    pub(super) fn go_on(
        &mut self,
        turn: &mut Turn<'_>,
        peer: NodeId,
        trust: &TrustId,
    ) -> Result<(), StorageError> {
        if self.leaves_alone(LAYERS[3])
            && let Some(session) = self.sessions.by_peer.get_mut(&peer)
        {
            session.leave_layer(LAYERS[3]);
        }
        let at_rest = self.sessions.by_peer.get(&peer).is_none_or(|s| s.is_idle() && !s.active);
        // It may just have lost its connection by what it did.
        if at_rest || !self.connected.contains_key(&peer) {
            return Ok(());
        }
        loop {
            let room = self.sessions.room(&peer) >= PEER_IDS_FREE / 2;
            let spent = !self.has_allowance(trust);
            let (fetched, looked_into) = self.sessions.elsewhere(&peer, turn.now);
            let meets = |spans: &[Span], task: &Task| spans.iter().any(|other| other.meets(task.span()));
            let session = self.sessions.of(peer);
            // What it makes us read counts as what it is served.
            if session.resting || spent {
                return Ok(());
            }
            if session.owes_nothing() {
                session.since = Some(turn.now);
            }
            let (asks, free) = (session.asked.len() < ASKS_MAX && room, session.transfer.is_none());
            // Several peers that have the same share the work, and nothing comes twice.
            let task = session.next(|task| match task {
                Task::Compare { .. } | Task::List(_) => asks && !meets(&fetched, task),
                Task::Want { .. } => free && !meets(&fetched, task),
                Task::Fetch { .. } => free && !meets(&fetched, task) && !meets(&looked_into, task),
            });
            match task {
                Some(Task::Compare { span, theirs, least, tries }) => {
                    self.ask(turn, peer, trust, span, theirs, least, tries)?;
                }
                Some(Task::List(span)) => self.list(turn, peer, trust, span)?,
                Some(task @ Task::Want { .. }) => self.ask_for(turn, peer, task)?,
                Some(Task::Fetch { span, theirs, before }) => {
                    self.fetch(turn, peer, trust, span, theirs, before)?;
                }
                None => break,
            }
        }
        let session = self.sessions.of(peer);
        if session.is_idle() && session.rest() {
            // Whether both agree now, and what was too much for this time, is the next round's to tell.
            if std::mem::take(&mut session.gained) {
                self.due.insert(peer);
            } else {
                session.fruitless = session.fruitless.saturating_add(1);
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one task")]
    fn ask(
        &mut self,
        turn: &mut Turn<'_>,
        peer: NodeId,
        trust: &TrustId,
        span: Span,
        theirs: Option<Sum>,
        least: usize,
        tries: u8,
    ) -> Result<(), StorageError> {
        let number = self.sessions.next_number();
        let salt = self.salt(turn, &peer, number);
        let read = span.keyed(&turn.rows, trust, &salt)?;
        self.charge(turn, peer, trust, [read.rows, 0], 0)?;
        let Some(own) = read.ids else { return self.divide(turn, peer, trust, span, ASKS_MAX, compare) };
        let small =
            own.len().max(theirs.map_or(usize::MAX, |t| usize::try_from(t.count).unwrap_or(usize::MAX)));
        if small <= SMALL_SPAN_RECORDS_MAX {
            return self.list(turn, peer, trust, span);
        }
        let mut sketch = Vec::new();
        Sketch::of(&own).0.into_iter().for_each(|n| coded::write_number(&mut sketch, n));
        let least = u32::try_from(least).unwrap_or(u32::MAX);
        let ask = Ask { number, span, salt, least, sketch: ByteBuf::from(sketch) };
        turn.send(peer, Frame::Ask(ask));
        let task = Task::Compare { span, theirs, least: least as usize, tries };
        self.sessions.of(peer).asked.insert(number, Asked { task, salt });
        Ok(())
    }

    /// Sends the ids of a span, in as many lists as they need.
    fn list(
        &mut self,
        turn: &mut Turn<'_>,
        peer: NodeId,
        trust: &TrustId,
        span: Span,
    ) -> Result<(), StorageError> {
        let read = span.ids(&turn.rows, trust)?;
        self.charge(turn, peer, trust, [read.rows, 0], 0)?;
        match read.ids {
            Some(all) if all.len() <= LIST_IDS_MAX => {
                // Who is named what is over would ask for it in vain.
                let mut ids = Vec::new();
                for id in all {
                    if !erase::is_over(&turn.rows, &id, turn.now)? {
                        ids.push(id);
                    }
                }
                let number = self.sessions.next_number();
                self.sessions.of(peer).asked.insert(number, Asked { task: Task::List(span), salt: [0; 16] });
                turn.send(peer, Frame::List(List { number, span, ids }));
                Ok(())
            }
            other => {
                let parts = other.map_or(ASKS_MAX, |ids| ids.len() / (LIST_IDS_MAX / 2) + 1);
                self.divide(turn, peer, trust, span, parts, Task::List)
            }
        }
    }

    /// Asks for records by name, so many as one question takes. The others wait.
    fn ask_for(&mut self, turn: &mut Turn<'_>, peer: NodeId, task: Task) -> Result<(), StorageError> {
        let Task::Want { span, ids, known, offered } = task else { unreachable!("called with a want") };
        let (mut asked, mut ids) = (Vec::new(), ids.into_iter());
        for id in ids.by_ref() {
            let held = !known && !turn.rows.scan_prefix(Tree::Holdings, &id, 1)?.is_empty();
            if held || self.sessions.is_vain(&id, &peer, turn.now) {
                continue;
            }
            asked.push(id);
            if asked.len() == WANT_IDS_MAX {
                break;
            }
        }
        let rest: Vec<Short> = ids.collect();
        if !rest.is_empty() {
            self.sessions.of(peer).put_back(Task::Want { span, ids: rest, known, offered });
        }
        if asked.is_empty() {
            return Ok(());
        }
        let number = self.sessions.next_number();
        self.sessions.claims.extend(asked.iter().map(|id| (*id, peer)));
        turn.send(peer, Frame::Want(Want { number, ids: to_shorts(&asked) }));
        let task = Task::Want { span, ids: asked, known, offered };
        self.sessions.of(peer).transfer = Some(Transfer::new(number, task, turn.now));
        Ok(())
    }

    fn fetch(
        &mut self,
        turn: &mut Turn<'_>,
        peer: NodeId,
        trust: &TrustId,
        span: Span,
        theirs: Option<Sum>,
        before: Option<ByteBuf>,
    ) -> Result<(), StorageError> {
        if before.is_none() {
            let own = span.sum(&turn.rows, trust)?;
            if theirs == Some(own) {
                return Ok(());
            }
            if own.count > 0 {
                self.sessions.of(peer).put_back(Task::Compare { span, theirs, least: 0, tries: 0 });
                return Ok(());
            }
        }
        let number = self.sessions.next_number();
        turn.send(peer, Frame::Fetch(Fetch { number, span, before: before.clone() }));
        let task = Task::Fetch { span, theirs, before };
        self.sessions.of(peer).transfer = Some(Transfer::new(number, task, turn.now));
        Ok(())
    }

    /// A span is too much for one answer: its parts are asked about, the newest first. They go before everything else of their layer, so
    /// that what waits stays little.
    pub(super) fn divide(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        trust: &TrustId,
        span: Span,
        parts: usize,
        task: fn(Span) -> Task,
    ) -> Result<(), StorageError> {
        if !self.sessions.of(from).may_divide() {
            return Ok(());
        }
        let parts = span.divide(&turn.rows, trust, parts)?;
        // Ids that begin with the same 8 bytes, and so many of them, nobody can make.
        if parts != [span] {
            parts.into_iter().rev().for_each(|part| self.sessions.of(from).put_back(task(part)));
        }
        Ok(())
    }

    /// What nobody else can foretell, without randomness: a signature of this node.
    fn salt(&self, turn: &Turn<'_>, peer: &NodeId, number: u64) -> [u8; 16] {
        let drawn = [
            labels::SALT,
            peer.as_bytes().as_slice(),
            &turn.now.as_secs().to_be_bytes(),
            &number.to_be_bytes(),
        ];
        let hash: [u8; 32] = Sha256::digest(self.own.key.sign(&drawn.concat())).into();
        let mut salt = [0; 16];
        salt.copy_from_slice(&hash[..16]);
        salt
    }
}

/// What differs in a part of a span, of which the peer has said nothing yet.
pub(super) fn compare(span: Span) -> Task {
    Task::Compare { span, theirs: None, least: 0, tries: 0 }
}
