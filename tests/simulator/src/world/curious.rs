//! The liar's part in anti-entropy: it asks for what is not its own, over or withheld, as often as it can, and names what it
//! does not bring. It may ask for any record by its id: who guesses them is no stronger.

use lanyard_crypto::RecordId;
use lanyard_crypto::record::Kind;
use lanyard_replica::frame::{Done, Fetch, Frame, List, Offer, Span, Want};
use lanyard_replica::limits::SHORT_BYTES;
use lanyard_storage::{Tree, View};
use serde_bytes::ByteBuf;

use super::World;
use super::node::{At, Inbound};
use crate::counters::Counter;
use crate::oracle::ledger::Fact;

/// Ids in one of its questions, at most.
const IDS_MAX: usize = 64;
/// The layers of anti-entropy; the last one is of envelopes.
const LAYERS: u64 = 4;
/// The number of its questions: it does not care for the answers.
const NUMBER: u64 = 1;
/// What has expired within so many seconds may not have been dropped yet.
const JUST_EXPIRED_SECS: u64 = 3;

impl World<'_> {
    /// The liar asks a peer something, or is about to bring it something.
    pub(super) fn question(&mut self, peer: At) {
        let clock = self.nodes[peer].clock.read(self.now_ms);
        match self.rng.below(8) {
            0 => self.ask_by_name(peer, |_| true),
            1..=3 => self
                .ask_by_name(peer, |f| f.expires <= clock && f.expires.plus_secs(JUST_EXPIRED_SECS) > clock),
            4 => {
                let deleted: Vec<RecordId> = self.oracle.ledger.all().map(|f| f.id).collect();
                let deleted: Vec<_> =
                    deleted.into_iter().filter(|id| self.oracle.knows_deleted(peer, id)).collect();
                self.ask_by_name(peer, |f| deleted.contains(&f.id));
            }
            5 => {
                self.counters.add(Counter::LiarAsked);
                let fetch = Fetch { number: NUMBER, span: all(self.rng.below(LAYERS) as u8), before: None };
                self.liar_puts(peer, Frame::Fetch(fetch));
            }
            6 => self.promise(peer),
            _ => {
                self.counters.add(Counter::LiarAsked);
                let mut ids: Vec<_> = self.oracle.ledger.all().map(|f| f.id).collect();
                ids.truncate(self.rng.index(IDS_MAX));
                self.liar_puts(peer, Frame::List(List { number: NUMBER, span: all(3), ids }));
            }
        }
    }

    /// The liar is asked for records that it has promised: it says that this was all, or nothing.
    pub(super) fn liar_is_asked(&mut self, by: At, number: u64) {
        if self.rng.chance(500) {
            let Some(at) = self.liar_place() else { return };
            self.send(at, by, false, Frame::Done(Done { number, next: None }).to_bytes());
        }
    }

    fn ask_by_name(&mut self, peer: At, which: impl Fn(&Fact) -> bool) {
        self.counters.add(Counter::LiarAsked);
        let ids: Vec<RecordId> = self.oracle.ledger.all().filter(|f| which(f)).map(|f| f.id).collect();
        let ids = self.some_shorts(&ids);
        self.liar_puts(peer, Frame::Want(Want { number: NUMBER, ids }));
    }

    /// Names messages that the peer lacks, and will not bring them.
    fn promise(&mut self, peer: At) {
        self.counters.add(Counter::LiarPromised);
        let node = &self.nodes[peer];
        let lacking = |f: &&std::sync::Arc<Fact>| {
            let held = node.store.contains(Tree::Envelopes, f.id.as_bytes()).unwrap_or(true);
            f.kind == Kind::Envelope && f.is_for(&node.own.trust) && !held
        };
        let ids: Vec<RecordId> = self.oracle.ledger.all().filter(lacking).map(|f| f.id).collect();
        let ids = self.some_shorts(&ids);
        self.liar_puts(peer, Frame::Offer(Offer { number: 0, span: all(3), ids }));
    }

    fn some_shorts(&mut self, ids: &[RecordId]) -> ByteBuf {
        let first = self.rng.below(ids.len() as u64) as usize;
        let some = ids.iter().cycle().skip(first).take(ids.len().min(IDS_MAX));
        ByteBuf::from(some.flat_map(|id| id.as_bytes()[..SHORT_BYTES].to_vec()).collect::<Vec<_>>())
    }

    /// At this moment, and not when the network pleases: what expires is there for less than a second.
    fn liar_puts(&mut self, peer: At, frame: Frame) {
        let Some(at) = self.liar_place() else { return };
        if self.is_connected(peer, at) {
            self.hear(peer, Inbound::Frame(at, frame.to_bytes()));
        }
    }
}

fn all(layer: u8) -> Span {
    Span { layer, from: 0, until: u64::MAX, low: 0, high: u64::MAX }
}
