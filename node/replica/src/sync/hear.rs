//! What a peer answers, and what follows from it.

use lanyard_crypto::{NodeId, RecordId, TrustId};
use lanyard_storage::{StorageError, Tree, View};

use super::ask::compare;
use super::coded::{self, Difference, Short};
use super::session::{Asked, Task, Transfer};
use super::span::short;
use super::{shorts, to_shorts};
use crate::Replica;
use crate::erase;
use crate::frame::{Done, Frame, Offer, Span, Symbols};
use crate::limits::{ASKS_MAX, FRAME_IDS_MAX, PAGE_RECORDS_MIN, SHORT_BYTES, SYMBOLS_MAX, TRIES_MAX};
use crate::turn::Turn;
use crate::verdict::Misconduct;

impl Replica {
    /// Reads out of a peer's symbols what differs.
    pub(super) fn peel(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        trust: &TrustId,
        symbols: &Symbols,
    ) -> Result<(), StorageError> {
        // An answer to a question that was given up says nothing any more.
        let Some(asked) = self.answered(turn, from, symbols.number) else { return Ok(()) };
        let Asked { task: Task::Compare { span, theirs, tries, .. }, salt } = asked else {
            return self.cannot_list(turn, from, trust, asked.task, symbols);
        };
        let Some(cells) = coded::from_bytes(&symbols.cells, SYMBOLS_MAX) else {
            return self.misconduct(turn, from, Misconduct::Malformed);
        };
        if cells.is_empty() {
            let parts = 1 + usize::try_from(symbols.estimate).unwrap_or(usize::MAX) / (SYMBOLS_MAX / 3);
            self.divide(turn, from, trust, span, parts.min(ASKS_MAX), compare)?;
            return self.go_on(turn, from, trust);
        }
        let count = cells.len();
        let read = span.keyed(&turn.rows, trust, &salt)?;
        self.charge(turn, from, trust, [read.rows, 0], 0)?;
        let own = read.ids.unwrap_or_default();
        match coded::decode(&salt, cells, &own) {
            Some(Difference { theirs: lacking, ours }) => {
                let nothing = lacking.is_empty() && ours.is_empty();
                let sum = span.sum(&turn.rows, trust)?.to_bytes();
                if nothing && symbols.sum.as_ref().is_some_and(|theirs| theirs[..] != sum) {
                    // The sums differ, and no symbol does: two ids begin alike.
                    self.sessions.of(from).put_back(Task::List(span));
                }
                self.want(turn, from, Task::Want { span, ids: lacking, known: false, offered: false });
                self.charge(turn, from, trust, [ours.len(), 0], 0)?;
                for ids in to_give(turn, ours)?.chunks(FRAME_IDS_MAX) {
                    let offer = Offer { number: 0, span, ids: to_shorts(ids) };
                    turn.send(from, Frame::Offer(offer));
                }
            }
            None if tries + 1 < TRIES_MAX => {
                let least = (count + count / 2).min(SYMBOLS_MAX);
                let task = Task::Compare { span, theirs, least, tries: tries + 1 };
                self.sessions.of(from).put_back(task);
            }
            None => {
                self.misconduct(turn, from, Misconduct::Unreadable)?;
                self.sessions.of(from).put_back(Task::List(span));
            }
        }
        self.go_on(turn, from, trust)
    }

    /// A peer names records that are perhaps lacking here.
    pub(super) fn offered(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        trust: &TrustId,
        offer: &Offer,
    ) -> Result<(), StorageError> {
        if !offer.span.is_sound() {
            return self.misconduct(turn, from, Misconduct::Malformed);
        }
        if offer.number == 0 && !self.has_allowance(trust) {
            return Ok(());
        }
        self.charge(turn, from, trust, [offer.ids.len() / SHORT_BYTES, 0], 0)?;
        if offer.number == 0 {
            let Some(ids) = shorts(&offer.ids) else {
                return self.misconduct(turn, from, Misconduct::Malformed);
            };
            self.want(turn, from, Task::Want { span: offer.span, ids, known: false, offered: true });
        } else {
            let (ids, rest) = offer.ids.as_chunks::<32>();
            if !rest.is_empty() {
                return self.misconduct(turn, from, Misconduct::Malformed);
            }
            if let Some(Asked { task, .. }) = self.answered(turn, from, offer.number) {
                let Task::List(span) = task else {
                    return self.misconduct(turn, from, Misconduct::Malformed);
                };
                let ids = ids.iter().map(|id| RecordId::new(*id));
                self.want_whole(turn, from, span, ids, false)?;
            }
        }
        self.go_on(turn, from, trust)
    }

    /// The end of what a peer sends for one question.
    pub(super) fn done(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        trust: &TrustId,
        done: Done,
    ) -> Result<(), StorageError> {
        let session = self.sessions.of(from);
        let Some(transfer) = session.transfer.take_if(|t| t.number == done.number) else { return Ok(()) };
        session.since = Some(turn.now);
        session.rests = 0;
        let thin = transfer.is_thin();
        let Transfer { task, delivered, bytes, .. } = transfer;
        let slow = matches!(task, Task::Fetch { .. }) && delivered < PAGE_RECORDS_MIN;
        match task {
            Task::Want { span, ids, known, offered } => {
                let left: Vec<Short> =
                    ids.into_iter().filter(|id| self.sessions.claims.get(id) == Some(&from)).collect();
                self.sessions.release(&from);
                if delivered == 0 && !left.is_empty() {
                    self.sessions.of(from).miss(&left, turn.now);
                    self.let_down(turn, from, offered)?;
                } else if thin {
                    self.sessions.of(from).miss(&left, turn.now);
                } else if !left.is_empty() {
                    self.sessions.of(from).put_back(Task::Want { span, ids: left, known, offered });
                }
            }
            Task::Fetch { span, theirs, before } => {
                let goes_on = done.next.is_some();
                if let Some(next) = done.next {
                    if next.len() != 40 || before.is_some_and(|before| next >= before) {
                        return self.misconduct(turn, from, Misconduct::Malformed);
                    }
                    self.sessions.of(from).put_back(Task::Fetch { span, theirs, before: Some(next) });
                }
                if bytes == 0 || thin && goes_on {
                    self.misconduct(turn, from, Misconduct::Empty)?;
                }
            }
            Task::Compare { .. } | Task::List(_) => unreachable!("a transfer is of records"),
        }
        // Others may have waited for the span, and get it if this one is slow.
        if !slow {
            self.go_on(turn, from, trust)?;
        }
        for (peer, trust) in self.connected.clone() {
            if peer != from {
                self.go_on(turn, peer, &trust)?;
            }
        }
        self.go_on(turn, from, trust)
    }

    /// A peer cannot answer now: the question goes back, and nothing is asked of it before the next tick.
    pub(super) fn wait(&mut self, turn: &Turn<'_>, from: NodeId, number: u64) {
        let session = self.sessions.of(from);
        let asked = session.asked.remove(&number).map(|asked| asked.task);
        let transfer = session.transfer.take_if(|t| t.number == number).map(|t| t.task);
        let Some(task) = asked.or(transfer) else { return };
        session.put_back(task);
        session.since = Some(turn.now);
        if !std::mem::replace(&mut session.resting, true) {
            session.rests += 1;
        }
        if session.transfer.is_none() {
            self.sessions.release(&from);
        }
    }

    /// Adds records that are to be asked for, by their whole ids: one that begins as another that is held is lacking all the same.
    pub(super) fn want_whole(
        &mut self,
        turn: &Turn<'_>,
        from: NodeId,
        span: Span,
        ids: impl Iterator<Item = RecordId>,
        offered: bool,
    ) -> Result<(), StorageError> {
        let (mut plain, mut alike) = (Vec::new(), Vec::new());
        for id in ids {
            if turn.rows.contains(Tree::Holdings, id.as_bytes())? {
                continue;
            }
            let begins = turn.rows.scan_prefix(Tree::Holdings, &short(&id), 1)?;
            if begins.is_empty() { plain.push(short(&id)) } else { alike.push(short(&id)) }
        }
        self.want(turn, from, Task::Want { span, ids: plain, known: false, offered });
        self.want(turn, from, Task::Want { span, ids: alike, known: true, offered });
        Ok(())
    }

    /// Adds records that are to be asked for, as many as there is room for.
    fn want(&mut self, turn: &Turn<'_>, from: NodeId, mut task: Task) {
        let Task::Want { ids, .. } = &mut task else { unreachable!("called with a want") };
        ids.retain(|id| !self.sessions.is_vain(id, &from, turn.now));
        // What is too much now shows again in a later round.
        ids.truncate(self.sessions.room(&from));
        if !ids.is_empty() {
            self.sessions.of(from).add(task);
        }
    }

    /// A peer has sent nothing of what it was asked for by name.
    fn let_down(&mut self, turn: &mut Turn<'_>, from: NodeId, offered: bool) -> Result<(), StorageError> {
        let session = self.sessions.of(from);
        // What it has named before may be gone as well, honestly: many records can expire, or be deleted, at once.
        session.forget_names();
        let again = std::mem::replace(&mut session.let_down, true);
        // An honest peer offers nothing that is over; what answers our questions names that, too.
        if again && !offered { Ok(()) } else { self.misconduct(turn, from, Misconduct::Undelivered) }
    }

    /// A peer cannot answer a list, since it has too much in the span.
    fn cannot_list(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        trust: &TrustId,
        asked: Task,
        answer: &Symbols,
    ) -> Result<(), StorageError> {
        if !answer.cells.is_empty() {
            return self.misconduct(turn, from, Misconduct::Malformed);
        }
        self.divide(turn, from, trust, *asked.span(), ASKS_MAX, Task::List)?;
        self.go_on(turn, from, trust)
    }

    /// The question of this number is answered.
    fn answered(&mut self, turn: &Turn<'_>, from: NodeId, number: u64) -> Option<Asked> {
        let session = self.sessions.of(from);
        let asked = session.asked.remove(&number)?;
        session.since = Some(turn.now);
        session.rests = 0;
        Some(asked)
    }
}

/// Without what would not be served now.
fn to_give(turn: &Turn<'_>, ids: Vec<Short>) -> Result<Vec<Short>, StorageError> {
    let mut live = Vec::with_capacity(ids.len());
    for short in ids {
        let begins = turn.rows.scan_prefix(Tree::Holdings, &short, 1)?;
        let id = begins.first().and_then(|(key, _)| RecordId::try_from(key.as_slice()).ok());
        let over = id.map_or(Ok(false), |id| erase::is_over(&turn.rows, &id, turn.now))?;
        if !over {
            live.push(short);
        }
    }
    Ok(live)
}
