//! Replicas, and the wires between them.
//!
//! The world does for each replica what a node's driver does: it verifies signatures, commits a step's batch before it carries
//! out its outputs, sends what waits in an outbox, and relays gossip that was accepted. Nothing happens by itself: frames
//! wait until [`World::settle`], time stands until [`World::pass`].

use std::collections::{BTreeSet, VecDeque};

use lanyard_crypto::record::{Decoded, Header};
use lanyard_crypto::{ConversationId, Fingerprint, NetworkId, NodeId, RecordId, Timestamp};
use lanyard_storage::{Batch, MemoryStore, Store, Tree, View};

use super::fixtures::{self, NOW, Trust};
use crate::audit::{self, AuditEntry};
use crate::frame::Frame;
use crate::turn::inbox_base;
use crate::verdict::Verdict;
use crate::{Input, Output, Replica, Reply, Request, Source, arrival, found, keys, query};

/// One replica with its store, and what it has put out.
pub struct Node {
    pub store: MemoryStore,
    pub replica: Replica,
    pub outputs: Vec<Output>,
    /// Ids of gossiped messages that it has seen.
    heard: BTreeSet<RecordId>,
}

/// What is on its way.
enum Parcel {
    Frame { from: usize, to: usize, bytes: Vec<u8> },
    Gossip { from: usize, to: usize, bytes: Vec<u8> },
}

pub struct World {
    pub now: Timestamp,
    pub trusts: Vec<Trust>,
    pub charter: Decoded,
    pub network: NetworkId,
    pub nodes: Vec<Node>,
    /// Pairs of nodes with a connection, the smaller first.
    links: BTreeSet<(usize, usize)>,
    parcels: VecDeque<Parcel>,
    pub gossips: bool,
}

impl World {
    /// One node for each of these trusts, all of the first charter, none connected.
    pub fn apart(codes: &[&str]) -> Self {
        let trusts: Vec<_> = codes.iter().zip(0u8..).map(|(code, i)| Trust::new(code, 1 + 3 * i)).collect();
        let charter = fixtures::sign_charter(fixtures::charter(&trusts.iter().collect::<Vec<_>>()), None);
        let nodes = trusts.iter().map(|trust| Node::new(trust, &charter)).collect();
        let network = NetworkId::new(*charter.statement().as_bytes());
        let (links, parcels) = (BTreeSet::new(), VecDeque::new());
        Self { now: NOW, trusts, charter, network, nodes, links, parcels, gossips: true }
    }

    /// Three trusts, RXA, RXB and RXC, that know each other's nodes; connected, unless a test parts them.
    pub fn three() -> Self {
        let mut world = Self::apart(&["RXA", "RXB", "RXC"]);
        for i in 0..3 {
            let entry = world.trusts[i].entry(world.network, &world.trusts[i].node, NOW);
            world.submit(i, &entry).unwrap();
        }
        world.connect_all();
        world.settle();
        world.nodes.iter_mut().for_each(|n| n.outputs.clear());
        world
    }

    pub fn connect_all(&mut self) {
        for i in 0..self.nodes.len() {
            (i + 1..self.nodes.len()).for_each(|j| self.connect(i, j));
        }
    }

    pub fn connect(&mut self, i: usize, j: usize) {
        if self.links.insert((i.min(j), i.max(j))) {
            for (at, peer) in [(i, j), (j, i)] {
                let trust = &self.trusts[peer];
                let (node, chain) = (trust.node_id(), trust.chain(&trust.node));
                let input = Input::Connected { node, trust: trust.id.clone(), chain };
                self.step(at, input);
            }
        }
    }

    pub fn part(&mut self, i: usize, j: usize) {
        if self.links.remove(&(i.min(j), i.max(j))) {
            self.parcels.retain(|p| match p {
                Parcel::Frame { from, to, .. } | Parcel::Gossip { from, to, .. } => {
                    (*from.min(to), *from.max(to)) != (i.min(j), i.max(j))
                }
            });
            self.step(i, Input::Disconnected(self.trusts[j].node_id()));
            self.step(j, Input::Disconnected(self.trusts[i].node_id()));
        }
    }

    /// Parts a node from all others.
    pub fn isolate(&mut self, i: usize) {
        (0..self.nodes.len()).for_each(|j| self.part(i, j));
    }

    fn linked(&self, i: usize, j: usize) -> bool {
        self.links.contains(&(i.min(j), i.max(j)))
    }

    pub fn index(&self, node: &NodeId) -> usize {
        self.trusts.iter().position(|t| t.node_id() == *node).unwrap()
    }

    /// Steps one replica as the driver does: commit, then outputs.
    pub fn step(&mut self, at: usize, input: Input) {
        let node = &mut self.nodes[at];
        let step = node.replica.step(input, self.now, &node.store).unwrap();
        node.store.commit(step.batch).unwrap();
        for output in step.outputs {
            self.carry_out(at, &output);
            self.nodes[at].outputs.push(output);
        }
    }

    fn carry_out(&mut self, at: usize, output: &Output) {
        match output {
            Output::Send { to, frame } => {
                let to = self.index(to);
                self.send(at, to, frame.to_bytes());
            }
            Output::Publish(bytes) => {
                self.nodes[at].heard.insert(RecordId::of(bytes));
                self.gossip(at, bytes);
            }
            Output::Wake(trust) => {
                let peers =
                    (0..self.nodes.len()).filter(|j| self.trusts[*j].id == *trust && self.linked(at, *j));
                peers.collect::<Vec<_>>().into_iter().for_each(|to| self.drain(at, to));
            }
            Output::Disconnect { node, .. } => self.part(at, self.index(node)),
            Output::Verdict { .. }
            | Output::Notify { .. }
            | Output::Reply { .. }
            | Output::TrustChanged
            | Output::Audit(_)
            | Output::GoOn => {}
        }
    }

    /// Sends all that waits for a peer; nothing of it leaves the outbox before it is answered for.
    pub fn drain(&mut self, at: usize, to: usize) {
        let mut after = 0;
        loop {
            let trust = self.trusts[to].id.clone();
            let (last, records) = query::outbox(&self.nodes[at].store, &trust, after, self.now).unwrap();
            if last == after {
                return;
            }
            after = last;
            self.send(at, to, Frame::Records(records).to_bytes());
        }
    }

    fn send(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        if self.linked(from, to) {
            self.parcels.push_back(Parcel::Frame { from, to, bytes });
        }
    }

    fn gossip(&mut self, from: usize, bytes: &[u8]) {
        let to: Vec<_> = (0..self.nodes.len()).filter(|to| self.gossips && self.linked(from, *to)).collect();
        self.parcels.extend(to.into_iter().map(|to| Parcel::Gossip { from, to, bytes: bytes.to_vec() }));
    }

    /// Delivers everything that is on its way, and what comes of it. Bounded, so that an endless exchange fails a test.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let Some(parcel) = self.parcels.pop_front() else {
                return;
            };
            self.deliver(parcel);
        }
        panic!("the replicas do not come to rest");
    }

    /// Loses everything that is on its way.
    pub fn lose(&mut self) {
        self.parcels.clear();
    }

    /// As [`World::settle`], but frames of records are lost, as where the queue of a connection is full for them and not for what is
    /// smaller. Returns how many were.
    pub fn settle_without_records(&mut self) -> usize {
        let mut lost = 0;
        for _ in 0..100_000 {
            let Some(parcel) = self.parcels.pop_front() else { return lost };
            match &parcel {
                Parcel::Frame { bytes, .. }
                    if matches!(Frame::from_bytes(bytes).unwrap(), Frame::Records(_)) =>
                {
                    lost += 1;
                }
                _ => self.deliver(parcel),
            }
        }
        panic!("the replicas do not come to rest");
    }

    fn deliver(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Frame { from, to, bytes } => {
                let peer = self.trusts[from].node_id();
                match Frame::from_bytes(&bytes).unwrap() {
                    Frame::Records(records) => {
                        let records: Vec<_> = records.into_iter().map(|r| r.into_vec()).collect();
                        self.arrive(to, Source::Peer(peer), &records);
                    }
                    frame => self.step(to, Input::Frame { from: peer, frame }),
                }
            }
            Parcel::Gossip { from, to, bytes } => {
                let id = RecordId::of(&bytes);
                if !self.nodes[to].heard.insert(id) {
                    return;
                }
                let (node, message) = (self.trusts[from].node_id(), id.as_bytes().to_vec());
                self.arrive(
                    to,
                    Source::Gossip { from: node, message: message.clone() },
                    std::slice::from_ref(&bytes),
                );
                let accepted = |o: &Output| matches!(o, Output::Verdict { message: m, verdict: Verdict::Accept, .. } if *m == message);
                if self.nodes[to].outputs.iter().any(accepted) {
                    self.gossip(to, &bytes);
                }
            }
        }
    }

    /// Records arrive at a replica: decoded and verified as the driver does.
    pub fn arrive(&mut self, at: usize, from: Source, records: &[Vec<u8>]) {
        let looked = records.iter().map(|bytes| arrival::decode(bytes)).collect();
        let arrivals = arrival::verify(looked, &self.nodes[at].replica.network());
        self.step(at, Input::Records { from, arrivals });
    }

    /// A record comes to `at` on the stream of the node `from`. Returns the code of its refusal, if it was refused.
    pub fn bring(&mut self, at: usize, from: usize, record: &Decoded) -> Option<String> {
        let source = Source::Peer(self.trusts[from].node_id());
        let before = self.audit(at).len();
        self.arrive(at, source, &[record.bytes().to_vec()]);
        let refused = |e: &AuditEntry| e.event == "refused" && e.record == Some(record.id());
        self.audit(at).split_off(before).into_iter().find(refused).map(|e| e.code)
    }

    /// A record is handed in by the registrar or operator of this trust.
    pub fn submit(&mut self, at: usize, record: &Decoded) -> Result<Reply, String> {
        self.arrive(at, Source::Local { ticket: 1 }, &[record.bytes().to_vec()]);
        self.last_reply(at)
    }

    pub fn ask(&mut self, at: usize, request: Request) -> Result<Reply, String> {
        self.step(at, Input::Request { ticket: 1, request });
        self.last_reply(at)
    }

    fn last_reply(&self, at: usize) -> Result<Reply, String> {
        let reply = |o: &Output| match o {
            Output::Reply { reply, .. } => Some(reply.clone().map_err(|r| r.code)),
            _ => None,
        };
        self.nodes[at].outputs.iter().rev().find_map(reply).expect("an answer")
    }

    /// Time passes, with one tick at its end, and everything is delivered.
    pub fn pass(&mut self, secs: u64) {
        self.now = self.now.plus_secs(secs);
        for at in 0..self.nodes.len() {
            self.step(at, Input::Tick);
        }
        self.settle();
    }

    /// An application message that the node of trust `from` signs now, for these trusts, with half the longest life.
    pub fn message(
        &self,
        from: usize,
        conversation: &ConversationId,
        n: u64,
        custodians: &[usize],
    ) -> Decoded {
        let header = self.header(custodians, fixtures::RETENTION / 2);
        self.trusts[from].sign(header, fixtures::application(conversation, n))
    }

    /// A header of now.
    pub fn header(&self, custodians: &[usize], life_secs: u64) -> Header {
        let trusts: Vec<_> = custodians.iter().map(|i| &self.trusts[*i]).collect();
        fixtures::header(self.network, &trusts, self.now, life_secs)
    }

    pub fn holds(&self, at: usize, id: &RecordId) -> bool {
        let store = &self.nodes[at].store;
        let held = store.contains(Tree::Holdings, id.as_bytes()).unwrap();
        let bytes = query::record_bytes(store, id).unwrap();
        assert_eq!(held, bytes.is_some_and(|b| RecordId::of(&b) == *id), "the holding and the bytes agree");
        held
    }

    /// Which replicas hold the record.
    pub fn holders(&self, id: &RecordId) -> Vec<usize> {
        (0..self.nodes.len()).filter(|at| self.holds(*at, id)).collect()
    }

    /// The destruction log, as it is listed, at most so many.
    pub fn deletions(&self, at: usize, limit: usize) -> Vec<RecordId> {
        let (node, own) = (&self.nodes[at], &self.trusts[at].id);
        let mut listed = Vec::new();
        query::each_deletion(&node.store, &node.replica.network(), own, self.now, |deletion| {
            listed.push(deletion.tombstone);
            listed.len() < limit
        })
        .unwrap();
        listed
    }

    pub fn audit(&self, at: usize) -> Vec<AuditEntry> {
        let rows = audit::rows(&self.nodes[at].store, Some(0), 100_000).unwrap();
        rows.into_iter().map(|row| row.entry).collect()
    }

    /// The ids of the records of a tree.
    pub fn ids(&self, at: usize, tree: Tree) -> BTreeSet<RecordId> {
        let rows = self.nodes[at].store.rows().into_iter().filter(|(t, ..)| *t == tree);
        rows.map(|(_, key, _)| RecordId::try_from(key.as_slice()).unwrap()).collect()
    }

    /// Rows of a tree.
    pub fn rows(&self, at: usize, tree: Tree) -> usize {
        self.nodes[at].store.rows().iter().filter(|(t, ..)| *t == tree).count()
    }

    /// Serves a device a conversation, as a welcome would.
    pub fn serve(&mut self, at: usize, conversation: &ConversationId, device: &Fingerprint) {
        let mut batch = Batch::new();
        batch.put(Tree::Members, keys::member(conversation, device), []);
        self.nodes[at].store.commit(batch).unwrap();
    }

    /// The records in a device's inbox after a position; none for what was erased.
    pub fn inbox(&self, at: usize, device: &Fingerprint, after: u64) -> Vec<(u64, Option<RecordId>)> {
        let node = &self.nodes[at];
        let page = query::inbox(&node.store, &node.replica.network(), device, after, self.now).unwrap();
        assert!(!page.more);
        page.items.iter().map(|i| (i.seq, i.record.as_ref().map(|r| RecordId::of(&r.bytes)))).collect()
    }

    /// Opens a replica anew from its store, as after a restart. Its connections are gone.
    pub fn restart(&mut self, at: usize) {
        self.isolate(at);
        let node = &mut self.nodes[at];
        node.replica = Replica::open(&node.store, self.trusts[at].own(), &self.charter).unwrap();
    }
}

impl Node {
    pub fn new(trust: &Trust, charter: &Decoded) -> Self {
        let store = MemoryStore::new();
        store.commit(found(&store, charter).unwrap()).unwrap();
        let replica = Replica::open(&store, trust.own(), charter).unwrap();
        Self { store, replica, outputs: Vec::new(), heard: BTreeSet::new() }
    }
}

/// The position of the nth record in an inbox that began when the world did.
pub fn place(n: u64) -> u64 {
    inbox_base(NOW) + n
}

/// The digests are as they would be if they were made from the index now.
pub fn assert_digests(world: &World, at: usize) {
    let store = &world.nodes[at].store;
    // Without what was put into the index alone, by a test, and sums that have come back to nothing.
    let real = store
        .rows()
        .iter()
        .filter(|(t, ..)| *t == Tree::Index)
        .all(|(_, key, _)| store.contains(Tree::Holdings, &key[9..]).unwrap());
    if !real {
        return;
    }
    let rows = store.rows().into_iter().filter(|(tree, _, row)| *tree == Tree::Digests && row[..8] != [0; 8]);
    let rows: Vec<_> = rows.map(|(_, key, row)| (key, row)).collect();
    assert_eq!(rows, super::reconciling::digests_of(store), "the digests of replica {at}");
}
