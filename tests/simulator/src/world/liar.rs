//! The trust that lies. Its node has a real key and a real certificate, and no engine: it signs what it likes, keeps what it is
//! sent, and says what is not so.

use lanyard_crypto::limits::{CLOCK_SKEW_SECS_MAX, RETENTION_SECS_MAX};
use lanyard_crypto::mls::key_package;
use lanyard_crypto::record::{self, Body, Class, Decoded, Envelope, Header, Reason, Target, Tombstone};
use lanyard_crypto::{ConversationId, RecordId, Timestamp};
use lanyard_replica::frame::{Frame, Refused};
use lanyard_replica::limits;
use serde_bytes::ByteBuf;

use super::node::{At, Inbound};
use super::{Event, World};
use crate::cast::{Identity, LIAR, RETENTION_SECS, START};
use crate::conversations::{application, commit, pool, welcome};
use crate::counters::Counter;

/// What it remembers of each kind.
const KEPT: usize = 300;
/// A flood must have cost its link by then, in milliseconds.
const PUNISHED_MS: u64 = 60_000;

/// What it has.
#[derive(Debug)]
pub struct Liar {
    at: At,
    records: Vec<Vec<u8>>,
    frames: Vec<Vec<u8>>,
    own: Vec<(Decoded, Vec<usize>)>,
    epoch: u64,
    number: u64,
}

impl Liar {
    /// At this node.
    pub fn new(at: At) -> Self {
        Self { at, records: Vec::new(), frames: Vec::new(), own: Vec::new(), epoch: 1, number: 0 }
    }

    fn keep(kept: &mut Vec<Vec<u8>>, bytes: Vec<u8>) {
        if kept.len() < KEPT {
            kept.push(bytes);
        }
    }
}

/// The conversation that it owns.
fn own_conversation() -> ConversationId {
    ConversationId::new([0xee; 16], crate::cast::cast().trusts[LIAR].id.clone())
}

impl World<'_> {
    /// Something reaches the liar.
    pub(super) fn liar_hears(&mut self, inbound: Inbound) {
        let withholds = self.rng.chance(500);
        let Some(liar) = &mut self.liar else { return };
        match inbound {
            Inbound::Gossip(from, bytes) => {
                Liar::keep(&mut liar.records, bytes.clone());
                if withholds {
                    return self.counters.add(Counter::LiarWithheld);
                }
                let at = liar.at;
                if self.rng.chance(300) {
                    self.spread(at, &bytes, Some(from));
                }
            }
            Inbound::Frame(from, bytes) => {
                Liar::keep(&mut liar.frames, bytes.clone());
                let records = match Frame::from_bytes(&bytes) {
                    Ok(Frame::Records(records)) => records,
                    Ok(Frame::Want(want)) if self.scenario.questions > 0 => {
                        return self.liar_is_asked(from, want.number);
                    }
                    _ => return,
                };
                let stored = records.iter().map(|r| RecordId::of(r)).collect();
                records.into_iter().for_each(|r| Liar::keep(&mut liar.records, r.into_vec()));
                if withholds {
                    return self.counters.add(Counter::LiarWithheld);
                }
                let at = liar.at;
                self.send(at, from, false, Frame::Answers { stored, refused: Vec::new() }.to_bytes());
            }
            Inbound::Connected(_) | Inbound::Disconnected(_) => {}
        }
    }

    /// The liar does something.
    pub(super) fn liar_acts(&mut self) {
        let Some(at) = self.liar.as_ref().map(|l| l.at).filter(|_| !self.healing) else { return };
        let [soonest, latest] = self.scenario.liar_ms;
        let next = self.rng.between(soonest, latest);
        self.after(next, Event::LiarActs);
        let peers: Vec<At> = (0..self.nodes.len()).filter(|p| *p != at).collect();
        let peers: Vec<At> = peers.into_iter().filter(|p| self.is_connected(at, *p)).collect();
        let Some(peer) = self.rng.pick(&peers).copied() else { return };
        let text = format!("towards {peer}");
        self.trace.event(self.now_ms, at, "liar", || text);
        if self.scenario.questions > 0 && self.rng.chance(self.scenario.questions) {
            return self.question(peer);
        }
        match self.rng.below(20) {
            0..=4 => self.behave(&peers),
            5 | 6 => self.equivocate(&peers),
            7..=9 => self.replay(peer, &peers),
            10..=13 => self.forge(peer),
            14 => self.flood(peer),
            15 | 16 => self.delete_wrongly(peer, &peers),
            17 => self.answer_falsely(peer),
            18 => self.garble(peer),
            _ => self.strain(peer),
        }
    }

    /// Where it is.
    pub(super) fn liar_place(&self) -> Option<At> {
        self.liar.as_ref().map(|l| l.at)
    }

    fn liar_now(&self) -> Timestamp {
        START.plus_secs(self.now_ms / 1000)
    }

    fn liar_number(&mut self) -> u64 {
        let Some(liar) = &mut self.liar else { return 0 };
        liar.number += 1;
        (1 << 32) + liar.number
    }

    fn header_for(&self, places: &[usize], issued: Timestamp, life_secs: u64) -> Header {
        let mut custodians: Vec<_> = places.iter().map(|p| self.cast.trusts[*p].id.clone()).collect();
        custodians.sort();
        custodians.dedup();
        let expires = issued.plus_secs(life_secs);
        Header { network: Some(self.network()), custodians, issued, expires }
    }

    fn liar_signs(&self, header: Header, body: Body) -> Option<Decoded> {
        let Identity { key, certificate } = &self.cast.trusts[LIAR].nodes[0];
        record::sign(header, body, certificate.fingerprint(), key).ok()
    }

    fn bring(&mut self, peer: At, records: &[&Decoded]) {
        let frame = Frame::Records(records.iter().map(|r| ByteBuf::from(r.bytes().to_vec())).collect());
        self.liar_sends(peer, frame.to_bytes());
    }

    fn liar_sends(&mut self, peer: At, bytes: Vec<u8>) {
        let Some(at) = self.liar.as_ref().map(|l| l.at) else { return };
        self.send(at, peer, false, bytes);
    }

    /// A message or a deletion that is within its rights; only some are told of it.
    fn behave(&mut self, peers: &[At]) {
        self.counters.add(Counter::LiarHonest);
        let now = self.liar_now();
        let mine = self.liar.as_ref().map_or(0, |l| l.own.len());
        if mine > 2 && self.rng.chance(250) {
            let number = self.rng.index(mine);
            let Some((message, places)) = self.liar.as_ref().map(|l| l.own[number].clone()) else { return };
            let Body::Envelope(envelope) = message.body() else { return };
            let until = message.header().expires.plus_secs(2 * CLOCK_SKEW_SECS_MAX);
            let life = until.as_secs().saturating_sub(now.as_secs()).max(1);
            let short = self.rng.chance(300);
            let life = if short { life.saturating_sub(self.rng.between(1, 600)).max(1) } else { life };
            let conversation = envelope.conversation.clone();
            let body = tombstone(conversation, Target::Envelopes(vec![message.id()]));
            if let Some(record) = self.liar_signs(self.header_for(&places, now, life), body) {
                self.tell_some(peers, &record);
            }
            return;
        }
        let (conversation, owner) = self.some_conversation();
        let mut places = vec![LIAR, owner];
        places.extend((0..self.people.count()).filter(|_| self.rng.chance(600)));
        let content = application(&conversation, 1, self.liar_number(), 0);
        let life = self.rng.between(10, self.scenario.life_secs);
        let envelope = Envelope { conversation, epoch: 1, class: Class::Application, content };
        let header = self.header_for(&places, now, life);
        if let Some(record) = self.liar_signs(header, Body::Envelope(envelope)) {
            if let Some(liar) = &mut self.liar {
                liar.own.push((record.clone(), places));
            }
            self.tell_some(peers, &record);
        }
    }

    /// A message that reaches a node at this moment.
    pub(super) fn outrun(&mut self, to: At) {
        let Some(at) = self.liar.as_ref().map(|l| l.at) else { return };
        if !self.is_connected(to, at) {
            return;
        }
        let (conversation, owner) = self.some_conversation();
        let content = application(&conversation, 1, self.liar_number(), 0);
        let envelope = Envelope { conversation, epoch: 1, class: Class::Application, content };
        let header = self.header_for(&[LIAR, owner, self.nodes[to].place], self.liar_now(), 100);
        if let Some(record) = self.liar_signs(header, Body::Envelope(envelope)) {
            let frame = Frame::Records(vec![ByteBuf::from(record.bytes().to_vec())]);
            self.hear(to, Inbound::Frame(at, frame.to_bytes()));
        }
    }

    /// Brings a record to some, whether they are its custodians or not, or gossips it.
    fn tell_some(&mut self, peers: &[At], record: &Decoded) {
        if let Some(liar) = &mut self.liar {
            Liar::keep(&mut liar.records, record.bytes().to_vec());
        }
        if self.rng.chance(300) {
            let Some(at) = self.liar.as_ref().map(|l| l.at) else { return };
            return self.spread(at, record.bytes(), None);
        }
        for peer in peers {
            if self.rng.chance(500) {
                self.bring(*peer, &[record]);
            }
        }
    }

    fn some_conversation(&mut self) -> (ConversationId, usize) {
        let all = &pool().conversations;
        match self.rng.index(all.len() + 1) {
            n if n < all.len() => (all[n].id(), all[n].owner as usize),
            _ => (own_conversation(), LIAR),
        }
    }

    /// Two commits for one epoch of its own conversation, each to others; and a welcome, so that there are members.
    fn equivocate(&mut self, peers: &[At]) {
        self.counters.add(Counter::LiarEquivocated);
        let (now, conversation) = (self.liar_now(), own_conversation());
        let honest = self.people.count().min(3);
        let places: Vec<usize> = (0..honest).chain([LIAR]).collect();
        let epoch = self.liar.as_ref().map_or(1, |l| l.epoch);
        let mut made = Vec::new();
        for _ in 0..2 {
            let content = commit(&conversation, epoch, self.liar_number());
            let envelope =
                Envelope { conversation: conversation.clone(), epoch, class: Class::Commit, content };
            made.extend(
                self.liar_signs(self.header_for(&places, now, RETENTION_SECS), Body::Envelope(envelope)),
            );
        }
        if epoch == 1 {
            let content = welcome(&references()[..honest]);
            let class = Class::Welcome;
            let envelope = Envelope { conversation, epoch, class, content };
            made.extend(
                self.liar_signs(self.header_for(&places, now, RETENTION_SECS), Body::Envelope(envelope)),
            );
        }
        for peer in peers {
            let which = self.rng.below(3) as usize;
            let some: Vec<_> = made.iter().enumerate().filter(|(i, _)| *i != which).map(|(_, r)| r).collect();
            self.bring(*peer, &some);
        }
        if let Some(liar) = &mut self.liar {
            made.iter().for_each(|r| Liar::keep(&mut liar.records, r.bytes().to_vec()));
            liar.epoch += 1;
        }
    }

    fn replay(&mut self, peer: At, peers: &[At]) {
        self.counters.add(Counter::LiarReplayed);
        let Some(liar) = &self.liar else { return };
        let Some(bytes) = self.rng.pick(&liar.records).cloned() else { return };
        match self.rng.below(3) {
            0 => {
                let at = liar.at;
                self.spread(at, &bytes, None);
            }
            1 => self.liar_sends(peer, Frame::Records(vec![bytes.into()]).to_bytes()),
            _ => {
                let frame = Frame::Records(vec![bytes.into()]).to_bytes();
                peers.iter().for_each(|peer| self.liar_sends(*peer, frame.clone()));
            }
        }
    }

    /// Records that nobody may believe.
    fn forge(&mut self, peer: At) {
        self.counters.add(Counter::LiarForged);
        let now = self.liar_now();
        let (conversation, owner) = self.some_conversation();
        let everybody: Vec<usize> = (0..self.people.count()).chain([LIAR, owner]).collect();
        let content = application(&conversation, 1, self.liar_number(), 0);
        let class = Class::Application;
        let envelope = Envelope { conversation: conversation.clone(), epoch: 1, class, content };
        let body = Body::Envelope(envelope.clone());
        let (own, victim) = (&self.cast.trusts[LIAR], &self.cast.trusts[0]);
        let sign = |header, body, by: &Identity| {
            record::sign(header, body, by.certificate.fingerprint(), &by.key).ok()
        };
        let header = self.header_for(&everybody, now, 100);
        let (forged, why) = match self.rng.below(12) {
            0 => {
                let claimed = victim.nodes[0].certificate.fingerprint();
                (
                    record::sign(header, body, claimed, &own.nodes[0].key).ok(),
                    "signed in another trust's name",
                )
            }
            1 => (sign(header, body, &own.devices[0]), "signed by a device"),
            2 => (sign(header, body, &own.lapsed), "signed with a certificate that was over"),
            3 => {
                self.counters.add(Counter::LiarSmuggled);
                (sign(header, body, &own.abroad), "signed by a node abroad")
            }
            4 => {
                self.counters.add(Counter::LiarSmuggled);
                (sign(header, body, &self.cast.stranger.nodes[0]), "signed by a stranger")
            }
            5 => {
                let network = Some(lanyard_crypto::NetworkId::new([3; 32]));
                (self.liar_signs(Header { network, ..header }, body), "of another network")
            }
            6 => {
                // Not condemned: once its time has come, it is a message like any other.
                let header = self.header_for(&everybody, now.plus_secs(900), 100);
                let Some(record) = self.liar_signs(header, body) else { return };
                return self.bring(peer, &[&record]);
            }
            7 => {
                let header = self.header_for(&everybody, now, RETENTION_SECS + 1);
                (self.liar_signs(header, body), "that lives longer than the charter lets it")
            }
            8 => {
                let mut alone = self.header_for(&[LIAR, self.nodes[peer].place], now, 100);
                alone.custodians.retain(|t| t != conversation.owner() || t == &own.id);
                let owns = conversation.owner() == &own.id;
                let record = if owns { None } else { self.liar_signs(alone, body) };
                (record, "of which the conversation's owner is no custodian")
            }
            9 => {
                let content = application(&conversation, 2, self.liar_number(), 0);
                let other = Body::Envelope(Envelope { content, ..envelope });
                (self.liar_signs(header, other), "whose message is of another epoch")
            }
            10 => {
                let body = Body::Envelope(Envelope {
                    content: commit(&conversation, 1, self.liar_number()),
                    class: Class::Commit,
                    ..envelope
                });
                let foreign = conversation.owner() != &own.id;
                (self.liar_signs(header, body).filter(|_| foreign), "a commit that the owner did not publish")
            }
            _ => {
                let damaged = self.liar.as_ref().and_then(|l| self.rng.pick(&l.records).cloned());
                let Some(mut bytes) = damaged else { return };
                let place = self.rng.index(bytes.len());
                bytes[place] ^= 1 << self.rng.below(8);
                self.oracle.ledger.condemn(&bytes, "with a bit that was changed on the way");
                return self.liar_sends(peer, Frame::Records(vec![bytes.into()]).to_bytes());
            }
        };
        let Some(record) = forged else { return };
        self.oracle.ledger.condemn(record.bytes(), why);
        if self.rng.chance(400) {
            let Some(at) = self.liar.as_ref().map(|l| l.at) else { return };
            return self.spread(at, record.bytes(), None);
        }
        self.bring(peer, &[&record]);
    }

    /// Rubbish, as much as a frame holds: it must cost the link.
    fn flood(&mut self, peer: At) {
        self.counters.add(Counter::LiarFlooded);
        let Some(at) = self.liar.as_ref().map(|l| l.at) else { return };
        let rubbish: Vec<ByteBuf> =
            (0..20u64).map(|i| ByteBuf::from((self.rng.draw() ^ i).to_be_bytes().to_vec())).collect();
        rubbish.iter().for_each(|r| self.oracle.ledger.condemn(r, "which is rubbish"));
        let (pair, side) = self.net.pair(peer, at);
        let Some(connection) = pair.sides[side] else { return };
        let incarnation = self.nodes[peer].incarnation;
        self.hear(peer, Inbound::Frame(at, Frame::Records(rubbish).to_bytes()));
        let event = Event::Punished { at: peer, peer: at, connection, incarnation };
        self.after(PUNISHED_MS, event);
    }

    /// A peer that has flooded a node has lost the connection on which it did.
    pub(super) fn is_punished(&mut self, at: At, peer: At, connection: u64, incarnation: u64) {
        let (pair, side) = self.net.pair(at, peer);
        if pair.sides[side] == Some(connection)
            && self.nodes[at].incarnation == incarnation
            && self.nodes[at].is_up()
        {
            self.fail("P8", format!("node {at} has let a peer flood it, and kept the connection"));
        }
    }

    /// Orders that it may not give.
    fn delete_wrongly(&mut self, peer: At, peers: &[At]) {
        self.counters.add(Counter::LiarDeleted);
        let now = self.liar_now();
        let theirs: Vec<_> = self
            .oracle
            .ledger
            .all()
            .filter(|f| f.class == Some(Class::Application) && f.expires > now)
            .filter(|f| f.signer.as_ref().is_some_and(|(place, ..)| *place != LIAR))
            .filter_map(|f| Some((f.id, f.conversation.clone()?)))
            .collect();
        let Some((id, conversation)) = self.rng.pick(&theirs).cloned() else { return };
        let target = match self.rng.below(3) {
            0 => Target::UpTo(now),
            1 => Target::Envelopes(vec![id]),
            _ => {
                // With one of its own among them.
                let own = self.liar.as_ref().and_then(|l| l.own.last().map(|(r, _)| r.id()));
                let mut ids: Vec<_> = [id].into_iter().chain(own).collect();
                ids.sort();
                Target::Envelopes(ids)
            }
        };
        let everybody: Vec<usize> = (0..self.people.count()).chain([LIAR]).collect();
        let life_secs =
            if matches!(target, Target::UpTo(_)) { RETENTION_SECS_MAX } else { 2 * RETENTION_SECS };
        let header = self.header_for(&everybody, now, life_secs + 2 * CLOCK_SKEW_SECS_MAX);
        if let Some(record) = self.liar_signs(header, tombstone(conversation, target)) {
            if self.rng.chance(500) { self.bring(peer, &[&record]) } else { self.tell_some(peers, &record) }
        }
    }

    fn answer_falsely(&mut self, peer: At) {
        self.counters.add(Counter::LiarAnswered);
        let known: Vec<RecordId> = self.oracle.ledger.all().map(|f| f.id).collect();
        let mut some = || (0..5).filter_map(|_| self.rng.pick(&known).copied()).collect::<Vec<_>>();
        let (stored, doubted) = (some(), some());
        let code = if self.rng.chance(700) { "bad-signature" } else { "no-such-code" };
        let refused = doubted.into_iter().map(|id| Refused { id, code: code.into() }).collect();
        self.liar_sends(peer, Frame::Answers { stored, refused }.to_bytes());
    }

    /// A frame that it was sent, damaged or not, to somebody.
    fn garble(&mut self, peer: At) {
        self.counters.add(Counter::LiarGarbled);
        let frame = self.liar.as_ref().and_then(|l| self.rng.pick(&l.frames).cloned());
        let Some(mut frame) = frame else { return };
        for _ in 0..self.rng.below(4) {
            let place = self.rng.index(frame.len());
            frame[place] = self.rng.draw() as u8;
        }
        if let Ok(Frame::Records(records)) = Frame::from_bytes(&frame) {
            for record in records {
                let id = RecordId::of(&record);
                if self.oracle.ledger.get(&id).is_none() {
                    self.oracle.ledger.condemn(&record, "with bytes that were changed on the way");
                }
            }
        }
        self.liar_sends(peer, frame);
    }

    /// Frames beyond the limits, and requests for everything.
    fn strain(&mut self, peer: At) {
        self.counters.add(Counter::LiarFlooded);
        let ids: Vec<RecordId> = self.oracle.ledger.all().map(|f| f.id).collect();
        let bytes = match self.rng.below(2) {
            0 => Frame::Records(vec![ByteBuf::from(vec![0]); limits::FRAME_RECORDS_MAX + 1]).to_bytes(),
            _ => {
                let stored = ids.iter().cycle().take(limits::FRAME_IDS_MAX + 1).copied().collect();
                Frame::Answers { stored, refused: Vec::new() }.to_bytes()
            }
        };
        self.liar_sends(peer, bytes);
    }
}

/// The references of the key packages in the pool.
fn references() -> &'static [Vec<u8>] {
    static REFERENCES: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
    REFERENCES.get_or_init(|| {
        let everybody: Vec<usize> = (0..crate::cast::CODES.len()).collect();
        let charter = crate::cast::cast().charter(&everybody, None);
        let network = std::sync::Arc::new(record::open_trusted(&charter).expect("a charter of the cast"));
        let inspect = |package: &ByteBuf| key_package::inspect(network.clone(), package, START);
        let packages = pool().packages.iter().map(inspect);
        packages.map(|p| p.expect("a key package of the cast").reference).collect()
    })
}

fn tombstone(conversation: ConversationId, target: Target) -> Body {
    Body::Tombstone(Tombstone { conversation, target, reason: Reason::SentInError, reference: Vec::new() })
}
