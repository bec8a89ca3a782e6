//! The side that answers. It keeps nothing of a question; what each peer may make it do is bounded per second, and over
//! time by how much it shares with that peer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use lanyard_crypto::{NodeId, RecordId, TrustId};
use lanyard_storage::{StorageError, Tree, View};
use serde_bytes::ByteBuf;

use super::coded::{self, Sketch};
use super::{numbers, shorts};
use crate::Replica;
use crate::digest;
use crate::erase;
use crate::frame::{Ask, Done, Fetch, Frame, List, Offer, Symbols, Want};
use crate::holding::{Holding, LAYERS};
use crate::keys;
use crate::limits::{
    APPETITE_ROWS_FREE, APPETITE_SECS, APPETITE_TIMES_MAX, FRAME_IDS_MAX, FRAME_RECORDS_BYTES_MAX,
    FRAME_RECORDS_MAX, ROW_COST_BYTES, SCAN_ROWS, SERVED_BURST_BYTES_MAX, SERVED_BYTES_MAX, SPAN_ROWS_MAX,
    SYMBOLS_MAX, TRANSFER_BYTES_MAX, WAITS_MAX,
};
use crate::mutation::{self, Mutation};
use crate::turn::Turn;
use crate::verdict::Misconduct;

/// Records of which the beginning of the id is the same: more than anybody could make.
const SAME_SHORT_MAX: usize = 4;

/// What peers have been served.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// What the nodes of a trust may still be served at once, together, in bytes: a trust certifies as many nodes as it likes. Full where
    /// there is none.
    allowances: BTreeMap<TrustId, usize>,
    /// Who is blamed is the node.
    askers: BTreeMap<NodeId, Asker>,
}

/// What one node has asked for.
#[derive(Debug, Default)]
struct Asker {
    /// Rows that were read for it lately.
    appetite: u64,
    /// How often it was told to wait within this second.
    waits: u32,
}

impl Served {
    /// A second has passed.
    pub(crate) fn recover(&mut self, bytes_max: usize) {
        self.allowances.retain(|_, left| {
            *left += bytes_max;
            *left < burst(bytes_max)
        });
        self.askers.retain(|_, asker| {
            asker.appetite -= asker.appetite.min(APPETITE_ROWS_FREE.max(asker.appetite) / APPETITE_SECS);
            asker.waits = 0;
            asker.appetite > 0
        });
    }
}

/// What may be served at once, where so much is in a second.
fn burst(bytes_max: usize) -> usize {
    bytes_max.saturating_mul(SERVED_BURST_BYTES_MAX / SERVED_BYTES_MAX)
}

impl Replica {
    /// Answers a question for symbols.
    pub(super) fn serve_symbols(
        &mut self,
        turn: &mut Turn<'_>,
        to: NodeId,
        trust: &TrustId,
        ask: &Ask,
    ) -> Result<(), StorageError> {
        let Some(sketch) = numbers(&ask.sketch).filter(|n| n.len() == coded::SIGNS).map(Sketch) else {
            return self.misconduct(turn, to, Misconduct::Malformed);
        };
        if !ask.span.is_sound() {
            return self.misconduct(turn, to, Misconduct::Malformed);
        }
        if !self.may_be_served(turn, to, trust, ask.number)? {
            return Ok(());
        }
        let read = ask.span.keyed(&turn.rows, trust, &ask.salt)?;
        let (mut estimate, mut cells) = (u64::MAX, Vec::new());
        if let Some(own) = read.ids {
            let difference = Sketch::of(&own).difference(&sketch);
            estimate = difference as u64;
            let count = coded::symbols_for(difference).max(ask.least as usize);
            if count <= SYMBOLS_MAX {
                cells = coded::to_bytes(&coded::encode(&own, count));
            }
        }
        let cells = ByteBuf::from(cells);
        let cost = cells.len();
        let sum = if ask.span.is_whole() { Some(ask.span.sum(&turn.rows, trust)?.to_bytes()) } else { None };
        let sum = sum.map(|sum| ByteBuf::from(sum.to_vec()));
        turn.send(to, Frame::Symbols(Symbols { number: ask.number, estimate, sum, cells }));
        self.charge(turn, to, trust, [read.rows, read.shared], cost)
    }

    /// Answers a list with what is not in it, and asks for what is lacking here.
    pub(super) fn serve_list(
        &mut self,
        turn: &mut Turn<'_>,
        to: NodeId,
        trust: &TrustId,
        list: &List,
    ) -> Result<(), StorageError> {
        if !list.span.is_sound() {
            return self.misconduct(turn, to, Misconduct::Malformed);
        }
        if !self.may_be_served(turn, to, trust, list.number)? {
            return Ok(());
        }
        let read = list.span.ids(&turn.rows, trust)?;
        let number = list.number;
        let Some(mine) = read.ids else {
            let (estimate, cells) = (u64::MAX, ByteBuf::new());
            turn.send(to, Frame::Symbols(Symbols { number, estimate, sum: None, cells }));
            return self.charge(turn, to, trust, [read.rows, read.shared], 0);
        };
        let mine: BTreeSet<RecordId> = mine.into_iter().collect();
        let theirs: BTreeSet<RecordId> = list.ids.iter().copied().collect();
        let mut lacking = Vec::new();
        for id in mine.difference(&theirs).take(FRAME_IDS_MAX / 2) {
            if !erase::is_over(&turn.rows, id, turn.now)? {
                lacking.extend(id.as_bytes());
            }
        }
        let cost = lacking.len();
        turn.send(to, Frame::Offer(Offer { number, span: list.span, ids: ByteBuf::from(lacking) }));
        self.charge(turn, to, trust, [read.rows, read.shared], cost)?;
        self.want_whole(turn, to, list.span, theirs.difference(&mine).copied(), true)?;
        self.go_on(turn, to, trust)
    }

    /// Sends records that are asked for by name.
    pub(super) fn serve_records(
        &mut self,
        turn: &mut Turn<'_>,
        to: NodeId,
        trust: &TrustId,
        want: &Want,
    ) -> Result<(), StorageError> {
        let Some(ids) = shorts(&want.ids) else { return self.misconduct(turn, to, Misconduct::Malformed) };
        if !self.may_be_served(turn, to, trust, want.number)? {
            return Ok(());
        }
        let mut parcel = Parcel::new(to);
        let rows = ids.len();
        'all: for id in ids.into_iter().collect::<BTreeSet<_>>() {
            for (key, _) in turn.rows.scan_prefix(Tree::Holdings, &id, SAME_SHORT_MAX)? {
                let Ok(id) = RecordId::try_from(key.as_slice()) else { continue };
                if !parcel.add(turn, trust, &id)? {
                    break 'all;
                }
            }
        }
        let bytes = parcel.send(turn, Done { number: want.number, next: None });
        self.moved(to, bytes);
        self.charge(turn, to, trust, [rows; 2], bytes)
    }

    /// Sends the records of a span, newest first, as many as one answer takes.
    pub(super) fn serve_span(
        &mut self,
        turn: &mut Turn<'_>,
        to: NodeId,
        trust: &TrustId,
        fetch: &Fetch,
    ) -> Result<(), StorageError> {
        let place = fetch.before.as_ref().is_none_or(|place| place.len() == 40);
        if !fetch.span.is_sound() || !place {
            return self.misconduct(turn, to, Misconduct::Malformed);
        }
        if !self.may_be_served(turn, to, trust, fetch.number)? {
            return Ok(());
        }
        let (low, end) = fetch.span.keys();
        let mut high = match &fetch.before {
            Some(place) => end.min([&[fetch.span.layer][..], place].concat()),
            None => end,
        };
        let (peer, mut parcel, mut read, mut shared) = (keys::trust(trust), Parcel::new(to), 0, 0);
        let next = 'all: loop {
            let range = (Bound::Included(low.as_slice()), Bound::Excluded(high.as_slice()));
            // As many as one answer can take, so that little is read in vain.
            let rows = turn.rows.scan_back(Tree::Index, range, SCAN_ROWS / 4)?;
            if rows.is_empty() {
                break None;
            }
            for (key, row) in rows {
                let Some((_, id)) = keys::index_parts(&key) else { continue };
                if digest::is_for(&row, &peer) {
                    if !parcel.add(turn, trust, &id)? {
                        break 'all Some(high);
                    }
                    shared += 1;
                }
                read += 1;
                high = key;
            }
            if read >= SPAN_ROWS_MAX {
                break Some(high);
            }
        };
        let next = next.map(|key| ByteBuf::from(&key[1..]));
        // The key after the last one that was read may be a bound of the span, which is shorter.
        let next = next.map(|mut place| {
            place.resize(40, 0);
            place
        });
        let bytes = parcel.send(turn, Done { number: fetch.number, next });
        self.moved(to, bytes);
        self.charge(turn, to, trust, [read, shared], bytes)
    }

    /// Whether the nodes of a trust may make us read any more in this second.
    pub(super) fn has_allowance(&self, trust: &TrustId) -> bool {
        mutation::is(Mutation::ServeWithoutEnd)
            || self.served.allowances.get(trust).is_none_or(|left| *left > 0)
    }

    /// Whether a peer may be served any more in this second; if not, it is told.
    fn may_be_served(
        &mut self,
        turn: &mut Turn<'_>,
        peer: NodeId,
        trust: &TrustId,
        number: u64,
    ) -> Result<bool, StorageError> {
        if self.has_allowance(trust) {
            return Ok(true);
        }
        let asker = self.served.askers.entry(peer).or_default();
        asker.waits += 1;
        turn.send(peer, Frame::Wait(number));
        if asker.waits > WAITS_MAX {
            self.misconduct(turn, peer, Misconduct::Impatient)?;
        }
        Ok(false)
    }

    /// Notes what a question or an answer has cost: the rows that were read for it, and how many of these are of what both trusts share.
    /// Others' records cost time, and say nothing about how much this peer wants.
    pub(crate) fn charge(
        &mut self,
        turn: &mut Turn<'_>,
        peer: NodeId,
        trust: &TrustId,
        [rows, shared]: [usize; 2],
        bytes: usize,
    ) -> Result<(), StorageError> {
        let full = burst(self.served_bytes_max);
        let left = self.served.allowances.entry(trust.clone()).or_insert(full);
        *left = left.saturating_sub(rows * ROW_COST_BYTES + bytes);
        let asker = self.served.askers.entry(peer).or_default();
        asker.appetite += shared as u64;
        let appetite = asker.appetite;
        if appetite <= APPETITE_ROWS_FREE {
            return Ok(());
        }
        let mut shared = 0;
        for layer in LAYERS {
            shared += digest::root(&turn.rows, layer, trust)?.count;
        }
        if appetite > APPETITE_ROWS_FREE + APPETITE_TIMES_MAX * shared {
            self.served.askers.remove(&peer);
            self.misconduct(turn, peer, Misconduct::Insatiable)?;
        }
        Ok(())
    }

    /// A round that moved a record was of use.
    fn moved(&mut self, peer: NodeId, bytes: usize) {
        if bytes > 0 {
            self.sessions.of(peer).fruitless = 0;
        }
    }
}

/// Records on their way to a peer, in frames.
struct Parcel {
    to: NodeId,
    frame: Vec<ByteBuf>,
    frame_bytes: usize,
    bytes: usize,
}

impl Parcel {
    fn new(to: NodeId) -> Self {
        Self { to, frame: Vec::new(), frame_bytes: 0, bytes: 0 }
    }

    /// Adds a record, if the peer's trust should hold it. False if the answer is full.
    fn add(&mut self, turn: &mut Turn<'_>, trust: &TrustId, id: &RecordId) -> Result<bool, StorageError> {
        let may = |h: &Holding| h.is_for(trust) || mutation::is(Mutation::ServeAnybody);
        let held = Holding::get(&turn.rows, id)?.filter(|h| may(h) && h.layer().is_some());
        let Some(held) = held else { return Ok(true) };
        // What has expired is not served, even if it has not been dropped yet.
        let over = held.expires <= turn.now && !mutation::is(Mutation::ServeExpired);
        let withheld =
            !mutation::is(Mutation::ServeWithheld) && erase::is_withheld(&turn.rows, id, &held, turn.now)?;
        if over || withheld {
            return Ok(true);
        }
        let Some(bytes) = turn.rows.get(held.tree(), id.as_bytes())? else { return Ok(true) };
        if self.bytes + bytes.len() > TRANSFER_BYTES_MAX {
            return Ok(false);
        }
        if self.frame_bytes + bytes.len() > FRAME_RECORDS_BYTES_MAX || self.frame.len() == FRAME_RECORDS_MAX {
            self.flush(turn);
        }
        self.frame_bytes += bytes.len();
        self.bytes += bytes.len();
        self.frame.push(ByteBuf::from(bytes));
        Ok(true)
    }

    fn flush(&mut self, turn: &mut Turn<'_>) {
        if !self.frame.is_empty() {
            turn.send(self.to, Frame::Records(std::mem::take(&mut self.frame)));
            self.frame_bytes = 0;
        }
    }

    /// Sends what is left, and the end. Returns how many bytes of records there were.
    fn send(mut self, turn: &mut Turn<'_>, done: Done) -> usize {
        self.flush(turn);
        turn.send(self.to, Frame::Done(done));
        self.bytes
    }
}
