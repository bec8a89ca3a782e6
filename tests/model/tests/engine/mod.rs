//! Real replicas that do what a model's actions say.

mod trusts;

use std::collections::VecDeque;

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::record::{Decoded, Reason, Target};
use lanyard_crypto::{RecordId, Timestamp};
use lanyard_model::deletion::{
    Action, Deletion, EXPIRES, ISSUED, LIAR, MARGIN, REPLICAS, Record, SENDER, State,
};
use lanyard_replica::frame::Frame;
use lanyard_replica::{
    Arrival, Deleter, Input, Output, Replica, Reply, Request, Source, arrival, found, query,
};
use lanyard_storage::{MemoryStore, Store, Tree, View};
pub use trusts::Trusts;

/// The replicas of [`Deletion`], each with its store.
pub struct Engine<'a> {
    trusts: &'a Trusts,
    nodes: Vec<Node>,
    messages: Vec<Decoded>,
    tombstone: Option<Decoded>,
    void: Decoded,
}

struct Node {
    store: MemoryStore,
    replica: Replica,
    clock: u8,
}

impl<'a> Engine<'a> {
    /// Where the model begins: the sender's node has been handed the messages.
    pub fn new(trusts: &'a Trusts, model: &Deletion, state: &State) -> Self {
        let message = |m: usize| trusts.message(SENDER, m, time(ISSUED), time(EXPIRES[m]));
        let messages: Vec<_> = (0..model.messages).map(message).collect();
        let void = trusts.tombstone(LIAR, messages[0].id(), time(ISSUED), time(EXPIRES[0] + MARGIN));
        let clocks = state.replicas.iter().map(|replica| replica.clock);
        let nodes = clocks.zip(0..).map(|(clock, at)| Node::empty(trusts, at, clock)).collect();
        let mut engine = Self { trusts, nodes, messages, tombstone: None, void };
        for message in engine.messages.clone() {
            assert_eq!(engine.bring(SENDER, Source::Local { ticket: 1 }, message.bytes()), None);
        }
        engine
    }

    /// Does what the action says. Returns why a record that arrived was refused, if it was.
    pub fn apply(&mut self, action: Action) -> Option<String> {
        match action {
            Action::Advance(at) => self.nodes[at].clock += 1,
            Action::SetBack(at) => self.nodes[at].clock -= 1,
            Action::Tick(at) => drop(self.step(at, Input::Tick)),
            Action::Delete(by) => self.delete(by),
            Action::Arrive(record, at) => {
                let from = Source::Peer(self.trusts.all[(at + 1) % REPLICAS].node_id());
                let bytes = self.record(record).expect("signed").bytes().to_vec();
                return self.bring(at, from, &bytes);
            }
            Action::Sync(a, b) | Action::SyncVoidFirst(a, b) => self.sync(a, b),
            Action::Replace(at) => self.nodes[at] = Node::empty(self.trusts, at, self.nodes[at].clock),
        }
        None
    }

    /// Opens a replica anew from its store, as after a crash.
    pub fn restart(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.replica = Replica::open(&node.store, self.trusts.all[at].own(), &self.trusts.charter).unwrap();
        node.meet_all(self.trusts, at);
    }

    /// Whether a replica has the record on its disk.
    pub fn holds(&self, at: usize, record: Record) -> bool {
        let held = |id: RecordId| self.nodes[at].store.contains(Tree::Holdings, id.as_bytes()).unwrap();
        self.record(record).is_some_and(|record| held(record.id()))
    }

    fn record(&self, record: Record) -> Option<&Decoded> {
        match record {
            Record::Message(m) => self.messages.get(m),
            Record::Tombstone => self.tombstone.as_ref(),
            Record::Void => Some(&self.void),
        }
    }

    fn delete(&mut self, by: usize) {
        let mut ids: Vec<_> = self.messages.iter().map(Decoded::id).collect();
        ids.sort();
        let request = Request::Delete {
            by: Deleter::Officer,
            conversation: self.trusts.conversation.clone(),
            target: Target::Envelopes(ids),
            reason: Reason::SentInError,
            reference: Vec::new(),
        };
        let outputs = self.step(by, Input::Request { ticket: 1, request });
        let deleted = outputs.iter().find_map(|output| match output {
            Output::Reply { reply: Ok(Reply::Deleted(id)), .. } => Some(*id),
            _ => None,
        });
        let bytes = query::record_bytes(&self.nodes[by].store, &deleted.expect("deleted")).unwrap().unwrap();
        self.tombstone = Some(Decoded::from_bytes(&bytes).unwrap());
    }

    /// Connects two replicas, carries their frames until there are none, and parts them.
    fn sync(&mut self, a: usize, b: usize) {
        let mut frames = VecDeque::new();
        for (at, peer) in [(a, b), (b, a)] {
            frames.extend(sent(at, self.step(at, meet(self.trusts, peer))));
        }
        for _ in 0..1000 {
            let Some((from, bytes)) = frames.pop_front() else {
                self.step(a, Input::Disconnected(self.trusts.all[b].node_id()));
                self.step(b, Input::Disconnected(self.trusts.all[a].node_id()));
                return;
            };
            let (to, peer) = (if from == a { b } else { a }, self.trusts.all[from].node_id());
            let outputs = match Frame::from_bytes(&bytes).unwrap() {
                Frame::Records(records) => {
                    let arrivals = self.look(to, &records);
                    self.step(to, Input::Records { from: Source::Peer(peer), arrivals })
                }
                frame => self.step(to, Input::Frame { from: peer, frame }),
            };
            frames.extend(sent(to, outputs));
        }
        panic!("the replicas do not come to rest");
    }

    fn bring(&mut self, at: usize, from: Source, bytes: &[u8]) -> Option<String> {
        let arrivals = self.look(at, &[bytes]);
        let outputs = self.step(at, Input::Records { from, arrivals });
        outputs.into_iter().find_map(|output| match output {
            Output::Audit(entry) if entry.event == "refused" && entry.record == Some(RecordId::of(bytes)) => {
                Some(entry.code)
            }
            _ => None,
        })
    }

    fn look<B: AsRef<[u8]>>(&self, at: usize, records: &[B]) -> Vec<Arrival> {
        let looked = records.iter().map(|bytes| arrival::decode(bytes.as_ref())).collect();
        arrival::verify(looked, &self.nodes[at].replica.network())
    }

    fn step(&mut self, at: usize, input: Input) -> Vec<Output> {
        self.nodes[at].step(input)
    }
}

impl Node {
    fn empty(trusts: &Trusts, at: usize, clock: u8) -> Self {
        let store = MemoryStore::new();
        store.commit(found(&store, &trusts.charter).unwrap()).unwrap();
        let replica = Replica::open(&store, trusts.all[at].own(), &trusts.charter).unwrap();
        let mut node = Self { store, replica, clock };
        node.meet_all(trusts, at);
        node
    }

    /// Learns the other nodes' certificates, so that what they sign can be verified whoever brings it.
    fn meet_all(&mut self, trusts: &Trusts, at: usize) {
        for peer in (0..REPLICAS).filter(|peer| *peer != at) {
            self.step(meet(trusts, peer));
            self.step(Input::Disconnected(trusts.all[peer].node_id()));
        }
    }

    /// As the driver does: what is put out leaves once the batch is committed.
    fn step(&mut self, input: Input) -> Vec<Output> {
        let step = self.replica.step(input, time(self.clock), &self.store).unwrap();
        self.store.commit(step.batch).unwrap();
        step.outputs
    }
}

fn meet(trusts: &Trusts, peer: usize) -> Input {
    let trust = &trusts.all[peer];
    Input::Connected { node: trust.node_id(), trust: trust.id.clone(), chain: trust.chain(&trust.node) }
}

fn sent(from: usize, outputs: Vec<Output>) -> impl Iterator<Item = (usize, Vec<u8>)> {
    outputs.into_iter().filter_map(move |output| match output {
        Output::Send { frame, .. } => Some((from, frame.to_bytes())),
        _ => None,
    })
}

/// The unit of the model is the accepted skew.
fn time(clock: u8) -> Timestamp {
    trusts::EPOCH.plus_secs(u64::from(clock) * CLOCK_SKEW_SECS_MAX)
}
