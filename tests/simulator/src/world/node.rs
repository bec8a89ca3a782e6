//! One node: what its driver keeps beside the engine.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use lanyard_crypto::network::Network;
use lanyard_crypto::record::Decoded;
use lanyard_crypto::{NodeId, RecordId, Timestamp};
use lanyard_replica::arrival::{Looked, Vouched};
use lanyard_replica::{Input, Output, Own, Replica, Source};
use lanyard_storage::{Batch, MemoryStore, Range, Row, StorageError, Tree, View};

use crate::cast::START;
use crate::rng::Rng;

/// A node, by its place in the world.
pub type At = usize;

/// What a node is told by the network shell, in order.
#[derive(Debug)]
pub enum Inbound {
    /// An admitted peer is connected.
    Connected(At),
    /// It is not any more.
    Disconnected(At),
    /// A frame.
    Frame(At, Vec<u8>),
    /// A gossiped message.
    Gossip(At, Vec<u8>),
}

/// What is done once the outputs of an awaited input have been carried out.
#[derive(Debug)]
pub enum Then {
    /// The records of the frame that do not decide whom to believe are verified.
    Take(Source, Vec<Looked>),
    /// Direct delivery to a peer begins.
    Deliver(At),
}

/// Who waits for an answer of the engine.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A device, for a message or a change of this content.
    Send(usize, usize),
    /// A device or an officer, for a deletion.
    Delete,
    /// The registrar or the operator, for this record.
    Submit(RecordId),
    /// The operator, whose node waits for others before it serves again.
    Restoration,
    /// Nobody listens.
    Nothing,
}

/// Where a crash is to hit a commit that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashAt {
    /// Synced, and nothing was carried out.
    BeforeOutputs,
    /// After so many of its outputs.
    Amid(usize),
    /// Not synced.
    BeforeSync,
}

/// Steps that were committed as one, and whose sync is under way.
#[derive(Debug)]
pub struct Round {
    /// Each with the time that the clock showed when it was decided.
    pub outputs: Vec<(Timestamp, Output)>,
    /// What was committed.
    pub batch: Batch,
    /// Whether somebody waits for it.
    pub awaited: bool,
    /// Whether a crash hits it.
    pub crash: Option<CrashAt>,
}

/// A node.
pub struct Node {
    /// The place of its trust in the cast.
    pub place: usize,
    /// Who it is.
    pub own: Own,
    /// What it trusts at first.
    pub charter: Decoded,
    /// Its disk.
    pub store: MemoryStore,
    /// The engine; none while the node is down, and never for the liar.
    pub replica: Option<Replica>,
    /// What verifies arrivals: the engine's, once it has said so.
    pub network: Option<Arc<Network>>,
    /// Counts its starts.
    pub incarnation: u64,
    /// Its clock.
    pub clock: Clock,
    /// Whether it has been put into the world yet, and has not been taken out again.
    pub exists: bool,
    /// Steps smaller than the engine's own; 0 if not.
    pub step_changes: usize,
    /// What it serves a peer within a second, in bytes; 0 for the engine's own bound.
    pub served_bytes: usize,
    /// It stands still until then, in milliseconds.
    pub paused_until: u64,
    /// Its disk takes nothing until then.
    pub full_until: u64,
    /// Since when it has run without a pause or a jump of its clock.
    pub steady_since: u64,
    pub(super) inbound: VecDeque<Inbound>,
    pub(super) then: Option<Then>,
    pub(super) inputs: VecDeque<(Input, bool)>,
    pub(super) round: Option<Round>,
    pub(super) run_due: bool,
    pub(super) heard: BTreeSet<RecordId>,
    pub(super) gossip: BTreeMap<RecordId, Vec<u8>>,
    /// For each peer to which delivery runs: the outbox position that was sent last.
    pub(super) peers: BTreeMap<At, u64>,
    pub(super) ticket: u64,
    pub(super) asked: BTreeMap<u64, Asked>,
    pub(super) ticks: u64,
    /// What its border has said of each peer, under which revision of the network.
    pub(super) admitted: BTreeMap<At, (u64, bool)>,
    /// What has been verified: under the same revision of the network, the same record is verified again.
    pub(super) verified: BTreeMap<RecordId, Vouched>,
}

impl Node {
    /// A node that does not run yet.
    pub fn new(place: usize, own: Own, charter: Decoded, clock: Clock, step_changes: usize) -> Self {
        Self {
            place,
            own,
            charter,
            store: MemoryStore::deferred(),
            replica: None,
            network: None,
            incarnation: 0,
            clock,
            exists: false,
            step_changes,
            served_bytes: 0,
            paused_until: 0,
            full_until: 0,
            steady_since: 0,
            inbound: VecDeque::new(),
            then: None,
            inputs: VecDeque::new(),
            round: None,
            run_due: false,
            heard: BTreeSet::new(),
            gossip: BTreeMap::new(),
            peers: BTreeMap::new(),
            ticket: 0,
            asked: BTreeMap::new(),
            ticks: 0,
            admitted: BTreeMap::new(),
            verified: BTreeMap::new(),
        }
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.own.node
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.replica.is_some()
    }

    /// Everything in memory is gone.
    pub(super) fn forget(&mut self) {
        self.replica = None;
        self.network = None;
        self.inbound.clear();
        self.then = None;
        self.inputs.clear();
        self.round = None;
        self.run_due = false;
        self.heard.clear();
        self.gossip.clear();
        self.peers.clear();
        self.asked.clear();
        self.admitted.clear();
        self.verified.clear();
    }
}

/// A clock that differs from the true time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// How far ahead it is, in milliseconds.
    pub ahead_ms: i64,
    /// How much it gains, in millionths.
    pub drift_ppm: i64,
}

impl Clock {
    /// Furthest from the true time, in milliseconds: two clocks differ by less than is accepted.
    pub const OFF_MS_MAX: i64 = 140_000;

    /// One that differs and drifts by chance.
    pub fn skewed(rng: &mut Rng) -> Self {
        let ahead_ms = rng.between(0, 200_000) as i64 - 100_000;
        Self { ahead_ms, drift_ppm: rng.between(0, 20_000) as i64 - 10_000 }
    }

    /// What it shows at this true time.
    pub fn read(&self, now_ms: u64) -> Timestamp {
        let off = self.ahead_ms + (now_ms as i64 / 1000) * self.drift_ppm / 1000;
        let off = off.clamp(-Self::OFF_MS_MAX, Self::OFF_MS_MAX);
        let ms = (START.as_secs() * 1000 + now_ms).saturating_add_signed(off);
        Timestamp::from_secs(ms / 1000)
    }
}

/// A view of a disk that fails once after so many reads.
pub struct Failing<'a> {
    view: &'a dyn View,
    left: Cell<Option<u64>>,
}

impl<'a> Failing<'a> {
    /// Fails after so many reads; never if none.
    pub fn new(view: &'a dyn View, after: Option<u64>) -> Self {
        Self { view, left: Cell::new(after) }
    }

    fn read(&self) -> Result<(), StorageError> {
        match self.left.get() {
            Some(0) => Err(StorageError::Randomness("a simulated read error".into())),
            Some(n) => {
                self.left.set(Some(n - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl View for Failing<'_> {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.read()?;
        self.view.get(tree, key)
    }

    fn scan(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.read()?;
        self.view.scan(tree, range, limit)
    }

    fn scan_back(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.read()?;
        self.view.scan_back(tree, range, limit)
    }
}
