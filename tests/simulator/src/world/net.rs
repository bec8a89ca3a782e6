//! The network between nodes: connections that come and go, and what travels on them.

use std::collections::BTreeMap;

use lanyard_crypto::x509::Purpose;

use super::node::{At, Inbound};
use super::{Event, World};
use crate::counters::Counter;

/// Time between two attempts to connect, in milliseconds.
const DIAL_MS: u64 = 2_000;

/// What two nodes have between them; the smaller place first.
#[derive(Debug, Default)]
pub struct Pair {
    /// Whether frames from the first to the second, and back, are lost.
    pub cut: [bool; 2],
    /// The connection that each side believes to have.
    pub sides: [Option<u64>; 2],
    /// When the last frame in each direction arrives, so that streams keep their order.
    last_ms: [u64; 2],
    latency_ms: u64,
    /// Whether a deletion was ordered while it was cut.
    pub deletion: bool,
}

/// All pairs.
#[derive(Debug, Default)]
pub struct Net {
    pairs: BTreeMap<(At, At), Pair>,
    connections: u64,
}

/// What travels.
#[derive(Clone, Debug)]
pub struct Packet {
    pub from: At,
    pub to: At,
    pub connection: u64,
    pub gossip: bool,
    pub bytes: Vec<u8>,
}

impl Net {
    /// The pair of two nodes, and which side the first one named is.
    pub fn pair(&mut self, a: At, b: At) -> (&mut Pair, usize) {
        let side = usize::from(a > b);
        (self.pairs.entry((a.min(b), a.max(b))).or_default(), side)
    }

    /// All pairs.
    pub fn pairs(&mut self) -> impl Iterator<Item = (&(At, At), &mut Pair)> {
        self.pairs.iter_mut()
    }
}

impl World<'_> {
    /// Two nodes try to connect, and will try again.
    pub(super) fn dial(&mut self, a: At, b: At) {
        let again = self.rng.between(DIAL_MS / 2, DIAL_MS * 2);
        self.after(again, Event::Dial(a, b));
        let (pair, _) = self.net.pair(a, b);
        if pair.cut != [false; 2] || (pair.sides[0].is_some() && pair.sides[0] == pair.sides[1]) {
            return;
        }
        let ready = |at: At| {
            let node = &self.nodes[at];
            node.exists && (node.is_up() || self.is_liar(at)) && node.paused_until <= self.now_ms
        };
        if !ready(a) || !ready(b) || (self.healing && (self.is_liar(a) || self.is_liar(b))) {
            return;
        }
        let admitted = [self.admits(a, b), self.admits(b, a)];
        if admitted != [true; 2] {
            self.counters.add(Counter::BorderRefused);
            return;
        }
        self.net.connections += 1;
        let connection = self.net.connections;
        for (at, peer) in [(a, b), (b, a)] {
            // The connection of an earlier incarnation is retired before the new one is there.
            self.hang_up(at, peer);
            let (pair, side) = self.net.pair(at, peer);
            pair.sides[side] = Some(connection);
            self.hear(at, Inbound::Connected(peer));
        }
        let latency = self.rng.between(1, 40);
        let (pair, _) = self.net.pair(a, b);
        (pair.latency_ms, pair.last_ms) = (latency, [0; 2]);
    }

    /// Whether the border of a node lets this peer in, as its driver asks.
    pub(super) fn admits(&mut self, at: At, peer: At) -> bool {
        if self.is_liar(at) {
            return true;
        }
        let Some(network) = self.nodes[at].network.clone() else { return false };
        // No certificate begins or ends within a run, so that the same charter and lists say the same.
        let revision = network.revision();
        if let Some((asked, admits)) = self.nodes[at].admitted.get(&peer)
            && *asked == revision
        {
            return *admits;
        }
        let (node, chain) = (&self.nodes[at], &self.nodes[peer].own.chain);
        let admits = network.verify_chain(chain, Purpose::Node, node.clock.read(self.now_ms)).is_ok();
        self.nodes[at].admitted.insert(peer, (revision, admits));
        admits
    }

    /// Ends the connections of a node to peers whom its border would not let in any more.
    pub(super) fn recheck(&mut self, at: At) {
        for peer in 0..self.nodes.len() {
            let (pair, side) = if peer == at { continue } else { self.net.pair(at, peer) };
            if pair.sides[side].is_some() && !self.admits(at, peer) {
                self.counters.add(Counter::BorderRefused);
                self.disconnect(at, peer);
            }
        }
    }

    /// A node closes its connection; the peer hears of it a moment later.
    pub(super) fn disconnect(&mut self, at: At, peer: At) {
        let (pair, side) = self.net.pair(at, peer);
        let theirs = pair.sides[1 - side];
        self.hang_up(at, peer);
        if let Some(connection) = theirs {
            let after = self.rng.between(1, 100);
            self.after(after, Event::Lost { at: peer, peer: at, connection });
        }
    }

    fn hang_up(&mut self, at: At, peer: At) {
        let (pair, side) = self.net.pair(at, peer);
        if pair.sides[side].take().is_some() {
            self.hear(at, Inbound::Disconnected(peer));
        }
    }

    /// One side notices that a connection is gone, if it is.
    pub(super) fn lost(&mut self, at: At, peer: At, connection: u64) {
        let (pair, side) = self.net.pair(at, peer);
        let gone = pair.sides[1 - side] != Some(connection) || pair.cut != [false; 2];
        if pair.sides[side] == Some(connection) && gone {
            self.hang_up(at, peer);
        }
    }

    /// The connections of a node that is down: its side knows nothing of them, the other will notice.
    pub(super) fn drop_connections(&mut self, at: At) {
        for peer in (0..self.nodes.len()).filter(|peer| *peer != at) {
            let (pair, side) = self.net.pair(at, peer);
            pair.sides[side] = None;
            if let Some(connection) = pair.sides[1 - side] {
                let after = self.rng.between(50, 12_000);
                self.after(after, Event::Lost { at: peer, peer: at, connection });
            }
        }
    }

    /// Whether a node has a connection to a peer, as far as it knows.
    pub(super) fn is_connected(&mut self, at: At, peer: At) -> bool {
        let (pair, side) = self.net.pair(at, peer);
        pair.sides[side].is_some()
    }

    /// Puts a frame or a gossiped message on its way. It may not arrive, arrive twice, late, or before others.
    pub(super) fn send(&mut self, from: At, to: At, gossip: bool, bytes: Vec<u8>) {
        let (pair, side) = self.net.pair(from, to);
        let Some(connection) = pair.sides[side] else { return };
        if pair.cut[side] {
            return self.counters.add(if gossip { Counter::GossipLost } else { Counter::FrameLost });
        }
        let (latency, last) = (pair.latency_ms, pair.last_ms[side]);
        let chances = if self.healing { Default::default() } else { self.scenario.network.clone() };
        if self.rng.chance(chances.lose) {
            return self.counters.add(if gossip { Counter::GossipLost } else { Counter::FrameLost });
        }
        let copies = 1 + u64::from(self.rng.chance(chances.duplicate));
        for copy in 0..copies {
            let mut takes = latency + self.rng.below(10);
            if copy > 0 {
                self.counters.add(Counter::FrameDuplicated);
            }
            if self.rng.chance(chances.delay) {
                takes += self.rng.between(1_000, 8_000);
                self.counters.add(Counter::FrameDelayed);
            }
            let mut at = self.now_ms + takes;
            if self.rng.chance(chances.reorder) {
                at += self.rng.below(400);
                self.counters.add(Counter::FrameReordered);
            } else if !gossip && copy == 0 {
                at = at.max(last);
                self.net.pair(from, to).0.last_ms[side] = at;
            }
            let packet = Packet { from, to, connection, gossip, bytes: bytes.clone() };
            self.at(at, Event::Packet(packet));
        }
    }

    /// Something arrives.
    pub(super) fn arrive(&mut self, packet: Packet) {
        let Packet { from, to, connection, gossip, bytes } = packet;
        let (pair, side) = self.net.pair(to, from);
        // What outlives its connection is lost with it.
        if pair.sides[side] != Some(connection) || pair.cut[1 - side] {
            return;
        }
        self.trace.bytes(&bytes);
        self.note_arrival(to, &bytes, gossip);
        let inbound = if gossip { Inbound::Gossip(from, bytes) } else { Inbound::Frame(from, bytes) };
        self.hear(to, inbound);
    }

    /// Gossips to all neighbours but one.
    pub(super) fn spread(&mut self, at: At, bytes: &[u8], but: Option<At>) {
        for peer in (0..self.nodes.len()).filter(|peer| *peer != at && Some(*peer) != but) {
            if self.is_connected(at, peer) {
                self.send(at, peer, true, bytes.to_vec());
            }
        }
    }
}
