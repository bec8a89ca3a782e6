//! Two replicas, the wire between them, and the script's node; with what a driver does for a replica.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::OnceLock;

use lanyard_crypto::gateway::SendRequest;
use lanyard_crypto::record::{self, Body, Class, Decoded, Reason, Target};
use lanyard_crypto::{ConversationId, NetworkId, RecordId, Timestamp};
use lanyard_replica::frame::Frame;
use lanyard_replica::verdict::Verdict;
use lanyard_replica::{Deleter, Input, Output, Replica, Reply, Request, Source, arrival, found, hold, query};
use lanyard_storage::{Batch, MemoryStore, Store, Tree};

use super::check;
use crate::fixtures::{self, NOW, Trust};
use crate::groups::conversation;

/// The node that the script plays: RXC's.
pub(crate) const SCRIPTED: usize = 2;
/// What waits on the wire; more is lost, as on a wire that is cut.
const WIRE_MAX: usize = 256;
/// Deliveries until two replicas must have come to rest.
const REST_MAX: usize = 20_000;
/// What the script remembers to send again; the oldest is forgotten.
const HEARD_MAX: usize = 128;

/// One replica with its store.
pub(crate) struct Site {
    pub(crate) store: MemoryStore,
    pub(crate) replica: Replica,
}

/// What is on its way between the two replicas.
pub(crate) struct Parcel {
    pub(crate) to: usize,
    pub(crate) gossip: bool,
    pub(crate) bytes: Vec<u8>,
}

/// Steps after which what is left must have been done.
const PORTIONS_MAX: usize = 4_096;

/// See the module.
pub struct World {
    pub(crate) now: Timestamp,
    pub(crate) network: NetworkId,
    pub(crate) charter: Decoded,
    pub(crate) sites: Vec<Site>,
    pub(crate) wire: VecDeque<Parcel>,
    /// Records that the script has made or heard.
    pub(crate) records: Vec<Vec<u8>>,
    /// Frames that the script's node has heard, and those that it saw on the wire.
    pub(crate) frames: Vec<Vec<u8>>,
    /// Nodes that are connected to the first replica, and to the second.
    pub(crate) links: [BTreeSet<usize>; 2],
    /// Until when conversations are on hold at each replica, or were.
    pub(crate) holds: [BTreeMap<ConversationId, Timestamp>; 2],
    /// Whether the last tick came when a hold was over.
    pub(crate) ends_hold: [bool; 2],
    /// Whether the last step left something to go on with.
    pub(crate) left: [bool; 2],
    /// Records that the script itself has signed, with whatever key.
    pub(crate) scripted: BTreeSet<RecordId>,
    /// The answer to the last request; none if it was refused.
    replied: Option<Reply>,
}

impl World {
    /// Two replicas that hold the charter and everybody's entries, not connected.
    pub fn new() -> Self {
        let charter = fixtures::charter().clone();
        let sites = (0..2).map(Site::open).collect();
        Self {
            now: NOW.plus_secs(10),
            network: NetworkId::new(*charter.statement().as_bytes()),
            charter,
            sites,
            wire: VecDeque::new(),
            records: Vec::new(),
            frames: Vec::new(),
            links: [BTreeSet::new(), BTreeSet::new()],
            holds: [BTreeMap::new(), BTreeMap::new()],
            ends_hold: [false; 2],
            left: [false; 2],
            scripted: BTreeSet::new(),
            replied: None,
        }
    }

    /// How many records each replica holds.
    pub(crate) fn held(&self) -> Vec<usize> {
        let holdings = |site: &Site| site.store.rows().iter().filter(|(t, ..)| *t == Tree::Holdings).count();
        self.sites.iter().map(holdings).collect()
    }

    /// Connects the first replica with a node, which is the second one or the script's.
    pub fn connect(&mut self, peer: usize) {
        self.link(0, peer, true);
        if peer == 1 {
            self.link(1, 0, true);
        }
    }

    pub(crate) fn link(&mut self, at: usize, peer: usize, up: bool) {
        let changed = if up { self.links[at].insert(peer) } else { self.links[at].remove(&peer) };
        if !changed {
            return;
        }
        let trust = &fixtures::trusts()[peer];
        let (node, chain) = (trust.node_id(), trust.chain(&trust.node));
        self.step(
            at,
            match up {
                true => Input::Connected { node, trust: trust.id.clone(), chain },
                false => Input::Disconnected(node),
            },
        );
    }

    /// Steps a replica as a driver does: commits, then carries the outputs out. Each of them is looked at.
    pub(crate) fn step(&mut self, at: usize, input: Input) {
        let site = &mut self.sites[at];
        let step = site.replica.step(input, self.now, &site.store).expect("memory does not fail");
        check::batch(&step.batch);
        site.store.commit(step.batch).expect("a batch is within the store's limits");
        for output in step.outputs {
            check::output(self, at, &output);
            self.carry_out(at, output);
        }
    }

    /// Goes on with what steps have left, until nothing is.
    pub(crate) fn go_on(&mut self, at: usize) {
        for _ in 0..PORTIONS_MAX {
            if !std::mem::take(&mut self.left[at]) {
                return;
            }
            self.step(at, Input::GoOn);
        }
        panic!("it does not end");
    }

    /// A request, and its answer; none if it is refused.
    pub(crate) fn ask(&mut self, at: usize, request: Request) -> Option<Reply> {
        self.replied = None;
        self.step(at, Input::Request { ticket: 1, request });
        self.replied.take()
    }

    fn carry_out(&mut self, at: usize, output: Output) {
        match output {
            Output::Send { to, frame } => self.send(at, index(&to), frame.to_bytes()),
            Output::Publish(bytes) => {
                self.remember(&bytes);
                self.put(Parcel { to: 1 - at, gossip: true, bytes: bytes.to_vec() });
            }
            Output::Wake(trust) => {
                if let Some(peer) = fixtures::trusts().iter().position(|t| t.id == trust) {
                    self.drain(at, peer);
                }
            }
            Output::Disconnect { node, .. } => {
                let peer = index(&node);
                self.links[at].insert(peer);
                self.link(at, peer, false);
                if peer < 2 {
                    self.link(peer, at, false);
                }
            }
            Output::Reply { reply, .. } => self.replied = reply.ok(),
            Output::GoOn => self.left[at] = true,
            Output::Verdict { .. } | Output::Notify { .. } | Output::TrustChanged | Output::Audit(_) => {}
        }
    }

    fn send(&mut self, at: usize, to: usize, bytes: Vec<u8>) {
        if self.links[at].contains(&to) {
            self.frames.push(bytes.clone());
            let excess = self.frames.len().saturating_sub(HEARD_MAX);
            self.frames.drain(..excess);
            if to != SCRIPTED {
                self.put(Parcel { to, gossip: false, bytes });
            }
        }
    }

    fn put(&mut self, parcel: Parcel) {
        if self.wire.len() < WIRE_MAX {
            self.wire.push_back(parcel);
        }
    }

    /// Sends what waits in an outbox.
    pub(crate) fn drain(&mut self, at: usize, peer: usize) {
        let mut after = 0;
        while self.links[at].contains(&peer) {
            let trust = &fixtures::trusts()[peer].id;
            let (last, records) = query::outbox(&self.sites[at].store, trust, after, self.now).unwrap();
            if last == after {
                return;
            }
            after = last;
            let frame = Frame::Records(records);
            check::waiting(self, at, peer, &frame);
            self.send(at, peer, frame.to_bytes());
        }
    }

    pub(crate) fn remember(&mut self, record: &[u8]) {
        self.records.push(record.to_vec());
        let excess = self.records.len().saturating_sub(HEARD_MAX);
        self.records.drain(..excess);
    }

    /// Delivers the oldest parcel on the wire, if its receiver is connected.
    pub(crate) fn deliver(&mut self) -> bool {
        let Some(Parcel { to, gossip, bytes }) = self.wire.pop_front() else { return false };
        if self.links[to].contains(&(1 - to)) {
            self.bring_parcel(to, 1 - to, gossip, &bytes);
        }
        true
    }

    pub(crate) fn bring_parcel(&mut self, to: usize, from: usize, gossip: bool, bytes: &[u8]) {
        if gossip {
            let message = RecordId::of(bytes).as_bytes().to_vec();
            let from = Source::Gossip { from: fixtures::trusts()[from].node_id(), message };
            self.bring(to, from, &[bytes.to_vec()]);
        } else {
            self.bring_frame(to, from, bytes);
        }
    }

    /// A frame comes from a peer, as bytes. One that is none costs the peer its connection.
    pub(crate) fn bring_frame(&mut self, to: usize, from: usize, bytes: &[u8]) {
        let node = fixtures::trusts()[from].node_id();
        match Frame::from_bytes(bytes) {
            Ok(Frame::Records(records)) => {
                let records: Vec<_> = records.into_iter().map(|r| r.into_vec()).collect();
                self.bring(to, Source::Peer(node), &records);
            }
            Ok(frame) => self.step(to, Input::Frame { from: node, frame }),
            Err(_) => {
                self.link(to, from, false);
                if from < 2 {
                    self.link(from, to, false);
                }
            }
        }
    }

    /// Records come: decoded and verified as the driver does, what decides whom to believe first.
    pub(crate) fn bring(&mut self, to: usize, from: Source, records: &[Vec<u8>]) {
        for records in arrival::sort(records).into_iter().filter(|records| !records.is_empty()) {
            let arrivals = arrival::verify(records, &self.sites[to].replica.network());
            self.step(to, Input::Records { from: from.clone(), arrivals });
        }
    }

    /// Time passes, with a tick at its end at both.
    pub(crate) fn pass(&mut self, secs: u64) {
        self.now = self.now.plus_secs(secs);
        for at in 0..2 {
            let holds = hold::holds(&self.sites[at].store).expect("memory does not fail");
            self.ends_hold[at] = holds.iter().any(|hold| hold.ending || hold.until <= self.now);
            self.step(at, Input::Tick);
        }
    }

    /// Opens a replica anew from its store.
    pub(crate) fn restart(&mut self, at: usize) {
        for peer in std::mem::take(&mut self.links[at]) {
            if peer < 2 {
                self.link(peer, at, false);
            }
        }
        self.wire.clear();
        let own = fixtures::trusts()[at].own();
        let site = &mut self.sites[at];
        site.replica =
            Replica::open(&site.store, own, fixtures::charter()).expect("a store can be opened again");
    }

    /// Delivers everything; two replicas that only talk come to rest.
    pub(crate) fn settle(&mut self) {
        for _ in 0..REST_MAX {
            if !self.deliver() {
                return;
            }
        }
        panic!("the replicas do not come to rest");
    }

    /// Looks at everything that is stored.
    pub(crate) fn look(&self) {
        (0..2).for_each(|at| check::store(self, at));
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Site {
    /// From a store that was founded once.
    fn open(at: usize) -> Self {
        type Rows = Vec<(Tree, Vec<u8>, Vec<u8>)>;
        static FOUNDED: OnceLock<[Rows; 2]> = OnceLock::new();
        let founded =
            FOUNDED.get_or_init(|| [0, 1].map(|at| Self::found(&fixtures::trusts()[at]).store.rows()));
        let (store, mut batch) = (MemoryStore::new(), Batch::new());
        founded[at].iter().for_each(|(tree, key, row)| batch.put(*tree, key.clone(), row.clone()));
        store.commit(batch).unwrap();
        let replica = Replica::open(&store, fixtures::trusts()[at].own(), fixtures::charter()).unwrap();
        Self { store, replica }
    }

    fn found(trust: &Trust) -> Self {
        let (store, charter) = (MemoryStore::new(), fixtures::charter());
        store.commit(found(&store, charter).unwrap()).unwrap();
        let mut batch = Batch::new();
        // Its own device is served the conversation, as by a welcome: the length of the id, the id, the device.
        let id = conversation().to_bytes();
        let member = [&[id.len() as u8][..], &id, trust.device.fingerprint().as_bytes()].concat();
        batch.put(Tree::Members, member, []);
        store.commit(batch).unwrap();
        let replica = Replica::open(&store, trust.own(), charter).unwrap();
        let mut site = Self { store, replica };
        for entry in entries() {
            let verified = record::verify(entry, &site.replica.network()).unwrap();
            let arrivals = vec![verified.into()];
            // As if it had come by gossip, so that it isn't spread from here.
            let from = Source::Gossip { from: fixtures::trusts()[SCRIPTED].node_id(), message: Vec::new() };
            let now = NOW.plus_secs(5);
            let step = site.replica.step(Input::Records { from, arrivals }, now, &site.store).unwrap();
            let accept =
                |o: &Output| !matches!(o, Output::Verdict { verdict, .. } if *verdict != Verdict::Accept);
            assert!(step.outputs.iter().all(accept), "an entry was refused");
            site.store.commit(step.batch).unwrap();
        }
        site
    }
}

/// Entries of all nodes.
fn entries() -> Vec<Decoded> {
    let network = NetworkId::new(*fixtures::charter().statement().as_bytes());
    fixtures::trusts().iter().map(|trust| trust.entry(network, None, NOW)).collect()
}

pub(crate) fn index(node: &lanyard_crypto::NodeId) -> usize {
    fixtures::trusts().iter().position(|t| t.node_id() == *node).expect("there are three nodes")
}

/// What the generator of the corpus does with a world.
impl World {
    /// A registrar or an operator hands a record to the replica of RXA, or of the trust whose record it is.
    pub fn submit(&mut self, record: &Decoded) {
        let own = fixtures::trusts().iter().position(|t| record.signer() == Some(t.registrar.fingerprint()));
        let to = own.filter(|at| *at < 2).unwrap_or(0);
        self.remember(record.bytes());
        self.bring(to, Source::Local { ticket: 1 }, &[record.bytes().to_vec()]);
        self.settle();
    }

    /// RXA's device hands in a message of the conversation.
    pub fn hand_in(&mut self, epoch: u64, class: Class, content: Vec<u8>) {
        let epoch = if class == Class::Submission { 0 } else { epoch };
        let trusts = fixtures::trusts();
        let request = SendRequest {
            conversation: conversation(),
            epoch,
            class,
            content,
            custodians: trusts.iter().map(|t| t.id.clone()).collect(),
            expires: self.now.plus_secs(fixtures::DAY),
        };
        let device = trusts[0].device.fingerprint();
        self.step(0, Input::Request { ticket: 1, request: Request::Send { device, request } });
        self.settle();
    }

    /// Messages that RXA's replica holds.
    pub fn deletable(&self) -> Vec<RecordId> {
        let rows = self.sites[0].store.rows().into_iter().filter(|(tree, ..)| *tree == Tree::Envelopes);
        let records = rows.filter_map(|(_, _, bytes)| Decoded::from_bytes(&bytes).ok());
        let message = |r: &Decoded| matches!(r.body(), Body::Envelope(e) if e.class == Class::Application);
        records.filter(message).map(|r| r.id()).collect()
    }

    /// RXA's device has messages deleted.
    pub fn delete(&mut self, ids: Vec<RecordId>) {
        let request = Request::Delete {
            by: Deleter::Device(fixtures::trusts()[0].device.fingerprint()),
            conversation: conversation(),
            target: Target::Envelopes(ids),
            reason: Reason::Transcribed,
            reference: vec![7; 16],
        };
        self.step(0, Input::Request { ticket: 1, request });
        self.settle();
    }

    /// The replicas part, miss something of each other, and compare.
    pub fn rounds(&mut self) {
        self.link(0, 1, false);
        self.link(1, 0, false);
        for epoch in [2, 3] {
            let content = crate::groups::private_message(&conversation(), epoch, 1);
            self.hand_in(epoch, Class::Application, content);
        }
        self.connect(1);
        self.settle();
        for _ in 0..3 {
            self.pass(31);
            self.settle();
        }
    }

    /// Everything that is held or was said: records, and frames.
    pub fn heard(&self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let held = self.sites.iter().flat_map(|site| site.store.rows());
        let held = held.filter(|(tree, ..)| matches!(tree, Tree::Records | Tree::Envelopes));
        let records = self.records.iter().cloned().chain(held.map(|(_, _, bytes)| bytes)).collect();
        (records, self.frames.clone())
    }
}
