//! From the network to the engine, as `driver/arrivals.rs` does it: frames are decoded and signatures verified before the engine
//! sees them, what decides whom to believe first.

use lanyard_crypto::RecordId;
use lanyard_replica::arrival::{self, Looked};
use lanyard_replica::audit::AuditEntry;
use lanyard_replica::frame::Frame;
use lanyard_replica::{Arrival, Input, Source};
use lanyard_storage::{Tree, View};

use super::World;
use super::node::{At, Inbound, Then};
use crate::counters::Counter;

impl World<'_> {
    /// The shell tells a node something.
    pub(super) fn hear(&mut self, at: At, inbound: Inbound) {
        if self.is_liar(at) {
            return self.liar_hears(inbound);
        }
        if self.nodes[at].is_up() {
            self.nodes[at].inbound.push_back(inbound);
            self.listen(at);
        }
    }

    /// Takes what the shell has told, in order, until the engine has to be waited for.
    pub(super) fn listen(&mut self, at: At) {
        while self.nodes[at].is_up()
            && self.nodes[at].then.is_none()
            && self.nodes[at].paused_until <= self.now_ms
        {
            let Some(inbound) = self.nodes[at].inbound.pop_front() else { return };
            match inbound {
                Inbound::Connected(peer) => {
                    let own = &self.nodes[peer].own;
                    let (node, trust, chain) = (own.node, own.trust.clone(), own.chain.clone());
                    self.await_input(at, Input::Connected { node, trust, chain }, Then::Deliver(peer));
                }
                Inbound::Disconnected(peer) => {
                    self.nodes[at].peers.remove(&peer);
                    let node = self.nodes[peer].id();
                    self.input(at, Input::Disconnected(node));
                }
                Inbound::Frame(peer, bytes) => self.take_frame(at, peer, &bytes),
                Inbound::Gossip(peer, bytes) => {
                    let id = RecordId::of(&bytes);
                    if !self.nodes[at].heard.insert(id) {
                        continue;
                    }
                    self.nodes[at].gossip.insert(id, bytes.clone());
                    let from = self.nodes[peer].id();
                    let source = Source::Gossip { from, message: id.as_bytes().to_vec() };
                    self.take(at, source, vec![bytes]);
                }
            }
        }
    }

    fn take_frame(&mut self, at: At, peer: At, bytes: &[u8]) {
        let from = self.nodes[peer].id();
        match Frame::from_bytes(bytes) {
            Ok(Frame::Records(records)) => {
                let records = records.into_iter().map(serde_bytes::ByteBuf::into_vec).collect();
                self.take(at, Source::Peer(from), records);
            }
            Ok(frame) => self.input(at, Input::Frame { from, frame }),
            Err(error) => {
                let why = format!("sent a malformed frame: {error}");
                self.disconnect(at, peer);
                self.counters.add(Counter::PeerDropped);
                self.input(at, Input::Note(AuditEntry::new("refused", "malformed-frame", why).node(from)));
            }
        }
    }

    /// Verifies records and hands them to the engine. What decides whom to believe goes first, and is waited for.
    fn take(&mut self, at: At, from: Source, records: Vec<Vec<u8>>) {
        let [deciding, others] = arrival::sort(records);
        if deciding.is_empty() {
            return self.take_others(at, from, others);
        }
        let arrivals = self.look_at(at, deciding);
        let input = Input::Records { from: from.clone(), arrivals };
        self.await_input(at, input, Then::Take(from, others));
    }

    fn take_others(&mut self, at: At, from: Source, others: Vec<Looked>) {
        if !others.is_empty() {
            let arrivals = self.look_at(at, others);
            self.input(at, Input::Records { from, arrivals });
        }
    }

    /// What the signatures of each record say. What was verified under the same revision before is not verified again: that
    /// saves most of the time that a run takes, and gives the same.
    fn look_at(&mut self, at: At, records: Vec<Looked>) -> Vec<Arrival> {
        let node = &mut self.nodes[at];
        let network = node.network.clone().expect("a node that runs has a network");
        let (mut seen, mut new) = (Vec::new(), Vec::new());
        for record in records {
            let before = record.as_ref().ok().and_then(|r| node.verified.get(&r.id()));
            match before.filter(|v| v.record().network_revision() == network.revision()) {
                Some(verified) => seen.push(Arrival::Verified(Box::new(verified.clone()))),
                None => new.push(record),
            }
        }
        let is_held = |id: &RecordId| node.store.contains(Tree::Holdings, id.as_bytes()).unwrap_or(false);
        let mut arrivals = arrival::verify_new(new, &network, is_held);
        for arrival in &arrivals {
            if let Arrival::Verified(vouched) = arrival {
                node.verified.insert(vouched.record().id(), (**vouched).clone());
            }
        }
        arrivals.extend(seen);
        arrivals
    }

    /// The outputs of an awaited input have been carried out.
    pub(super) fn go_on(&mut self, at: At) {
        match self.nodes[at].then.take() {
            Some(Then::Take(from, others)) => self.take_others(at, from, others),
            Some(Then::Deliver(peer)) if self.is_connected(at, peer) => {
                self.nodes[at].peers.insert(peer, 0);
                self.deliver(at, peer);
            }
            Some(Then::Deliver(_)) | None => {}
        }
        self.listen(at);
    }
}
