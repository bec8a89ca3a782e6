//! Anti-entropy: two nodes find out what one of them lacks of what both should hold, and it is sent (promise P5). The
//! protocol, with what it costs and what a lying peer can do, is told in `docs/internals/anti-entropy.md`.
//!
//! A round: one side sends the [`Root`](crate::digest::Root) of each layer. For each that differs, the other answers with sums
//! over ranges of time. Where these differ, the first side asks: for everything, if it has nothing there; for coded symbols
//! ([`coded`]), from which it reads what differs, if both have some; for a list of ids where there are few. Then it asks for
//! the records that it lacks, and names those that the other lacks, which asks for them. Lower layers are settled before
//! higher ones, so that tombstones and revocations come before envelopes, and newer spans before older.
//!
//! Who answers keeps nothing ([`serve`]). Who asks keeps what is yet to be asked, bounded, per connection ([`session`]); if a
//! frame is lost, the next round begins anew. What arrives goes through the same door as everything else.

mod ask;
pub(crate) mod coded;
mod hear;
mod plan;
mod serve;
pub(crate) mod session;
pub(crate) mod span;

use lanyard_crypto::{NodeId, RecordId, TrustId};
use lanyard_storage::StorageError;
use serde_bytes::ByteBuf;

use crate::Replica;
use crate::digest::{self, Root, Sum};
use crate::erase;
use crate::frame::{Frame, Range, Ranges, Span};
use crate::holding::LAYERS;
use crate::input::Source;
use crate::limits::{FRUITLESS_MAX, RANGES_FINE, RANGES_MAX, REPLY_SECS_MAX, SHORT_BYTES, SPAN_RECORDS_MAX};
use crate::mutation::{self, Mutation};
use crate::turn::Turn;
use crate::verdict::Misconduct;
use ask::compare;
use coded::Short;
use plan::{Compared, Plan};
pub(crate) use serve::Served;
pub(crate) use session::Sessions;
use session::Task;
use span::{coarsen, short};

/// What became of a record that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// It is new here.
    Kept,
    /// It was here.
    Known,
    /// It may be acceptable later.
    NotNow,
    /// It is refused for good.
    Refused,
}

impl Replica {
    /// Begins a round with a connected peer, unless one is under way.
    pub(crate) fn begin_round(
        &mut self,
        turn: &mut Turn<'_>,
        to: NodeId,
        trust: &TrustId,
    ) -> Result<(), StorageError> {
        if erase::is_behind(&turn.rows, turn.now)? {
            self.due.insert(to);
        } else if self.sessions.of(to).is_idle() {
            let roots = roots(turn, trust)?;
            turn.send(to, Frame::Roots(roots));
        }
        Ok(())
    }

    /// A frame of anti-entropy from a connected peer.
    pub(crate) fn reconcile(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        trust: &TrustId,
        frame: Frame,
    ) -> Result<(), StorageError> {
        digest::settle(turn)?;
        match frame {
            Frame::Roots(roots) => self.compare(turn, from, trust, &roots),
            Frame::Ranges(ranges) => self.look_into(turn, from, trust, &ranges),
            Frame::Ask(ask) => self.serve_symbols(turn, from, trust, &ask),
            Frame::Symbols(symbols) => self.peel(turn, from, trust, &symbols),
            Frame::List(list) => self.serve_list(turn, from, trust, &list),
            Frame::Offer(offer) => self.offered(turn, from, trust, &offer),
            Frame::Want(want) => self.serve_records(turn, from, trust, &want),
            Frame::Fetch(fetch) => self.serve_span(turn, from, trust, &fetch),
            Frame::Done(done) => self.done(turn, from, trust, done),
            Frame::Wait(number) => {
                self.wait(turn, from, number);
                Ok(())
            }
            Frame::Begin => {
                self.asked_to_begin(turn, from);
                Ok(())
            }
            Frame::Records(_) | Frame::Answers { .. } => unreachable!("not a frame of anti-entropy"),
        }
    }

    /// By how much the time between two rounds with this peer is longer: rounds that change nothing become rarer.
    pub(crate) fn patience(&self, peer: &NodeId) -> u64 {
        let fruitless = self.sessions.by_peer.get(peer).map_or(0, |s| s.fruitless);
        1 << fruitless.saturating_sub(1).min(FRUITLESS_MAX)
    }

    /// A record came, of so many bytes.
    pub(crate) fn arrived(
        &mut self,
        turn: &Turn<'_>,
        from: &Source,
        id: &RecordId,
        bytes: usize,
        what: Arrived,
    ) {
        let id = short(id);
        let claimed = self.sessions.claims.remove(&id);
        // What was lacking, and is known when it comes, is a charter that is held with other signatures.
        if what == Arrived::Refused || what == Arrived::Known && claimed.is_some() {
            self.sessions.refuse(id);
        }
        let Source::Peer(from) = from else { return };
        let Some(session) = self.sessions.by_peer.get_mut(from) else { return };
        if let Some(transfer) = &mut session.transfer {
            // What was not asked for is no delivery, nor what was here.
            let by_name = matches!(transfer.task, Task::Want { .. });
            let due = if by_name { claimed == Some(*from) } else { what == Arrived::Kept };
            if due || !by_name {
                transfer.bytes += bytes;
            }
            if due {
                transfer.delivered += 1;
                // A slow line is no silence.
                session.since = Some(turn.now);
            }
        }
        if what == Arrived::Kept {
            session.gained = true;
            session.fruitless = 0;
        }
    }

    /// What came after this does not fit into the step, and was not looked at.
    pub(crate) fn cut_short(&mut self, from: &Source) {
        if let Source::Peer(from) = from
            && let Some(transfer) = self.sessions.by_peer.get_mut(from).and_then(|s| s.transfer.as_mut())
        {
            transfer.cut = true;
        }
    }

    /// A second has passed: peers that rested are asked again, and those that owe an answer for too long lose by it.
    pub(crate) fn press_on(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        self.served.recover(self.served_bytes_max);
        for (peer, trust) in self.connected.clone() {
            let Some(session) = self.sessions.by_peer.get_mut(&peer) else { continue };
            session.resting = false;
            let late = !session.owes_nothing()
                && session.since.is_some_and(|since| since.plus_secs(REPLY_SECS_MAX) <= turn.now);
            if late || u64::from(session.rests) > REPLY_SECS_MAX {
                session.give_up();
                session.fruitless += 1;
                self.sessions.release(&peer);
                self.misconduct(turn, peer, Misconduct::Unfinished)?;
            }
            digest::settle(turn)?;
            self.go_on(turn, peer, &trust)?;
        }
        Ok(())
    }

    /// Answers the roots of a peer: where the layers that differ may differ.
    fn compare(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        trust: &TrustId,
        theirs: &[Root],
    ) -> Result<(), StorageError> {
        if theirs.len() != LAYERS.len() {
            return self.misconduct(turn, from, Misconduct::Malformed);
        }
        let mine = roots(turn, trust)?;
        self.note_compared(turn, (from, trust), [&mine, theirs])?;
        // What is under way would be gone through twice.
        let idle = self.sessions.of(from).is_idle() && self.has_allowance(trust);
        if !idle || erase::is_behind(&turn.rows, turn.now)? {
            return Ok(());
        }
        for (layer, (mine, theirs)) in LAYERS.into_iter().zip(mine.into_iter().zip(theirs)) {
            let skips = layer == LAYERS[1] && mutation::is(Mutation::SkipLayer);
            if mine == *theirs || skips || self.leaves_alone(layer) {
                continue;
            }
            let sums = digest::sums(&turn.rows, layer, trust, 0, u64::MAX)?;
            let ranges = coarsen(&sums, 0, RANGES_MAX, RANGES_FINE);
            let cost = 32 * ranges.len();
            turn.send(from, Frame::Ranges(Ranges { layer, root: Some(mine), until: u64::MAX, ranges }));
            self.charge(turn, from, trust, [sums.len(); 2], cost)?;
        }
        Ok(())
    }

    /// Plans what to ask about the ranges that differ.
    fn look_into(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        trust: &TrustId,
        theirs: &Ranges,
    ) -> Result<(), StorageError> {
        let descends = theirs.ranges.windows(2).all(|w| w[1].0 < w[0].0)
            && theirs.ranges.first().is_some_and(|r| r.0 < theirs.until);
        if !LAYERS.contains(&theirs.layer) || !descends {
            return self.misconduct(turn, from, Misconduct::Malformed);
        }
        let layer = theirs.layer;
        let whole = theirs.root.is_some();
        let equal = match &theirs.root {
            Some(root) => *root == digest::root(&turn.rows, layer, trust)?,
            None => false,
        };
        let known = equal || self.leaves_alone(layer) || (whole && self.sessions.of(from).is_about(layer));
        if known || !self.has_allowance(trust) {
            return Ok(());
        }
        let lowest = theirs.ranges.last().map_or(0, |r| r.0);
        let sums = digest::sums(&turn.rows, layer, trust, lowest, theirs.until)?;
        self.charge(turn, from, trust, [sums.len(); 2], 0)?;
        let mut mine = sums.iter().rev().peekable();
        let (mut until, mut ranges) = (theirs.until, Vec::new());
        for Range(first, count, sum) in &theirs.ranges {
            let mut own = Sum::default();
            while let Some((_, sum)) = mine.next_if(|(bucket, _)| bucket >= first) {
                own.add(sum);
            }
            let span = Span::buckets(layer, *first, until);
            ranges.push(Compared { span, own, theirs: Sum::from_bytes(*count, sum) });
            until = *first;
        }
        // The roots differ and no sum does: somebody has made sums equal.
        let forged = whole && ranges.iter().all(|r| r.own == r.theirs);
        let plan = Plan::of(ranges, forged);
        for task in plan.tasks {
            let Task::Compare { span, theirs: Some(theirs), .. } = &task else {
                self.sessions.of(from).add(task);
                continue;
            };
            // A range that is too large for one answer, whatever is in it.
            let records = span.sum(&turn.rows, trust)?.count.max(theirs.count);
            let parts = records.div_ceil(SPAN_RECORDS_MAX as u64);
            if parts <= 1 {
                self.sessions.of(from).add(task);
                continue;
            }
            for span in span.divide(&turn.rows, trust, usize::try_from(parts).unwrap_or(usize::MAX))? {
                self.sessions.of(from).add(compare(span));
            }
        }
        for mut ranges in plan.to_give {
            ranges.layer = layer;
            turn.send(from, Frame::Ranges(ranges));
        }
        self.go_on(turn, from, trust)
    }

    /// A restored replica neither serves envelopes nor asks for any: they come once it knows what is deleted.
    pub(super) fn leaves_alone(&self, layer: u8) -> bool {
        self.restored.is_some() && layer == LAYERS[3]
    }

    /// Points against a peer, by the one table.
    pub(super) fn misconduct(
        &mut self,
        turn: &mut Turn<'_>,
        peer: NodeId,
        what: Misconduct,
    ) -> Result<(), StorageError> {
        self.punish(turn, peer, what.penalty(), what.code(), what.reason())
    }
}

fn roots(turn: &mut Turn<'_>, trust: &TrustId) -> Result<Vec<Root>, StorageError> {
    digest::settle(turn)?;
    LAYERS.iter().map(|layer| digest::root(&turn.rows, *layer, trust)).collect()
}

/// The beginnings of ids, one after the other.
fn shorts(bytes: &[u8]) -> Option<Vec<Short>> {
    let (ids, rest) = bytes.as_chunks::<SHORT_BYTES>();
    rest.is_empty().then(|| ids.to_vec())
}

fn to_shorts(ids: &[Short]) -> ByteBuf {
    ByteBuf::from(ids.as_flattened())
}

/// The numbers of a sketch.
fn numbers(mut bytes: &[u8]) -> Option<Vec<i64>> {
    let mut numbers = Vec::new();
    while !bytes.is_empty() {
        let (number, rest) = coded::read_number(bytes)?;
        numbers.push(number);
        bytes = rest;
    }
    Some(numbers)
}
