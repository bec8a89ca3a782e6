//! A replica on disk, as a node has it: it takes messages with marked content, and drops some of them in each way that the engine
//! knows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lanyard_crypto::ids::to_hex;
use lanyard_crypto::limits::{CLOCK_SKEW_SECS_MAX, RETENTION_SECS_MAX};
use lanyard_crypto::record::{Body, Class, Decoded, Envelope, Target};
use lanyard_crypto::{ConversationId, NetworkId, RecordId, Timestamp};
use lanyard_replica::fixtures::{self, DAY, NOW, RETENTION, Trust};
use lanyard_replica::{Input, Output, Replica, Request, Source, arrival, found, hold, query};
use lanyard_storage::{Batch, SledOptions, SledStore, Store, Tree, limits};
use zeroize::Zeroizing;

const STORE_KEY: [u8; 32] = [0x5c; 32];
/// A row holds up to 4 KiB of a value; longer ones are cut into parts.
const SHORT: u32 = 300;
const LONG: u32 = 10_000;
/// Messages of each kind; every third is long.
const EACH: u32 = 9;

/// What a message's content is full of.
pub fn marker(number: u32) -> String {
    format!("marker-{number:09}")
}

/// What becomes of a message. Each kind has numbers of its own.
#[derive(Clone, Copy)]
pub enum Fate {
    Lives,
    /// A tombstone names it.
    Named,
    /// Its time is over.
    Expires,
    /// A tombstone drops all of its conversation.
    WithAll,
}

impl Fate {
    const ERASED: [Fate; 3] = [Fate::Named, Fate::Expires, Fate::WithAll];

    fn numbers(self) -> std::ops::Range<u32> {
        let first = self as u32 * 100;
        first..first + EACH
    }
}

/// The public state of a group: what it was, and what replaced it.
const STATES: [u32; 2] = [500, 501];

/// Markers that may be found.
pub fn live() -> BTreeSet<String> {
    Fate::Lives.numbers().chain([STATES[1]]).map(marker).collect()
}

/// Markers of messages that live: their row keys follow from ids that are on disk, so that their seals can be checked.
pub fn live_messages() -> BTreeSet<String> {
    Fate::Lives.numbers().map(marker).collect()
}

/// Markers that may not.
pub fn erased() -> BTreeSet<String> {
    Fate::ERASED.into_iter().flat_map(Fate::numbers).chain([STATES[0]]).map(marker).collect()
}

/// The store of a scene in this directory.
pub fn open(dir: &Path) -> SledStore {
    let store_key = Zeroizing::new(STORE_KEY);
    let (dir, cache_bytes) = (dir.join("store"), limits::CACHE_BYTES_DEFAULT);
    SledStore::open(SledOptions { dir, owner: [1; 32], store_key, cache_bytes }).unwrap()
}

/// RXB's node. RXA sends, and owns the conversations.
pub struct Scene {
    dir: PathBuf,
    store: SledStore,
    replica: Replica,
    trusts: [Trust; 2],
    network: NetworkId,
    now: Timestamp,
    named: Vec<RecordId>,
}

impl Scene {
    /// Everything is stored, and nothing dropped. In `dir` are the store and its key, as in a node's data directory.
    pub fn new(dir: &Path) -> Self {
        let trusts = [Trust::new("RXA", 1), Trust::new("RXB", 4)];
        let charter = fixtures::sign_charter(fixtures::charter(&[&trusts[0], &trusts[1]]), None);
        let network = NetworkId::new(*charter.statement().as_bytes());
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("store.key"), to_hex(&STORE_KEY)).unwrap();
        let store = open(dir);
        store.commit(found(&store, &charter).unwrap()).unwrap();
        let replica = Replica::open(&store, trusts[1].own(), &charter).unwrap();
        let mut scene =
            Self { dir: dir.to_owned(), store, replica, trusts, network, now: NOW, named: Vec::new() };
        let own = scene.trusts[0].own();
        scene.step(Input::Connected { node: own.node, trust: own.trust, chain: own.chain });
        for fate in [Fate::Lives, Fate::Named, Fate::Expires, Fate::WithAll] {
            fate.numbers().for_each(|number| scene.receive(fate, number));
        }
        scene.replace_state(STATES[0]);
        scene
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A message comes, as from a peer.
    pub fn receive(&mut self, fate: Fate, number: u32) {
        let life = if matches!(fate, Fate::Expires) { DAY } else { RETENTION / 2 };
        let conversation = self.conversation(matches!(fate, Fate::WithAll));
        let len = if number % 3 == 2 { LONG } else { SHORT };
        let mut content = fixtures::padded_message(&conversation, 1, number.into(), len);
        let text = marker(number).into_bytes();
        let marked = content.len() - len as usize;
        content[marked..].iter_mut().zip(text.iter().cycle()).for_each(|(byte, text)| *byte = *text);
        let record = self.sign(
            life,
            Body::Envelope(Envelope { conversation, epoch: 1, class: Class::Application, content }),
        );
        if matches!(fate, Fate::Named) {
            self.named.push(record.id());
        }
        self.bring(&record);
    }

    /// Copies what lives to a fresh database.
    pub fn compact(&self) {
        self.store.compact().unwrap();
    }

    /// Drops all that is not to live: by a tombstone that names messages, by one for all of a conversation, and by time.
    pub fn erase(&mut self) {
        self.drop_named();
        let all = fixtures::tombstone(&self.conversation(true), Target::UpTo(self.now));
        self.bring(&self.sign(RETENTION_SECS_MAX + 3 * CLOCK_SKEW_SECS_MAX, all));
        self.replace_state(STATES[1]);
        self.now = self.now.plus_secs(DAY + CLOCK_SKEW_SECS_MAX);
        for _ in 0..5 {
            self.now = self.now.plus_secs(1);
            self.step(Input::Tick);
        }
        let held = query::counts(&self.store).unwrap();
        assert_eq!(held.envelopes, u64::from(EACH), "all others were dropped");
        // The keys of what has expired are destroyed within seconds; who does not want to wait for it says so.
        let mut batch = Batch::new();
        batch.settle();
        self.store.commit(batch).unwrap();
    }

    /// Puts all conversations on hold, for a month.
    pub fn hold(&mut self) {
        for dropped in [true, false] {
            let (conversation, until) = (self.conversation(dropped), self.now.plus_secs(30 * DAY));
            let (reference, reason) = ("INQ-7".into(), "an inquiry".into());
            let request = Request::PlaceHold { conversation, reference, reason, until };
            self.step(Input::Request { ticket: 1, request });
        }
    }

    /// Ends the holds.
    pub fn end_holds(&mut self) {
        for dropped in [true, false] {
            let (conversation, reference) = (self.conversation(dropped), "INQ-7".into());
            self.step(Input::Request { ticket: 1, request: Request::EndHold { conversation, reference } });
        }
        assert!(hold::holds(&self.store).unwrap().is_empty());
    }

    /// Drops the messages that are to be named by a tombstone.
    pub fn drop_named(&mut self) {
        let targets = fixtures::named(&std::mem::take(&mut self.named));
        let tombstone = fixtures::tombstone(&self.conversation(false), targets);
        self.bring(&self.sign(RETENTION + DAY, tombstone));
    }

    /// Writes rows of the test's own, in the open.
    pub fn keep(&self, rows: &[Vec<u8>]) {
        let mut batch = Batch::new();
        rows.iter().zip(0u32..).for_each(|(row, n)| batch.put(Tree::Meta, n.to_be_bytes(), row.clone()));
        self.store.commit(batch).unwrap();
    }

    fn replace_state(&self, number: u32) {
        let mut batch = Batch::new();
        let state = marker(number).repeat(2_000);
        batch.put(Tree::Hub, self.conversation(false).to_bytes(), state);
        self.store.commit(batch).unwrap();
    }

    fn conversation(&self, dropped: bool) -> ConversationId {
        match dropped {
            true => ConversationId::new([8; 16], self.trusts[0].id.clone()),
            false => fixtures::conversation(&self.trusts[0]),
        }
    }

    fn sign(&self, life_secs: u64, body: Body) -> Decoded {
        let custodians = [&self.trusts[0], &self.trusts[1]];
        self.trusts[0].sign(fixtures::header(self.network, &custodians, self.now, life_secs), body)
    }

    fn bring(&mut self, record: &Decoded) {
        let arrivals = arrival::verify(vec![arrival::decode(record.bytes())], &self.replica.network());
        self.step(Input::Records { from: Source::Peer(self.trusts[0].node_id()), arrivals });
    }

    fn step(&mut self, input: Input) {
        let step = self.replica.step(input, self.now, &self.store).unwrap();
        self.store.commit(step.batch).unwrap();
        for output in step.outputs {
            if let Output::Audit(entry) = output {
                assert_ne!(entry.event, "refused", "{}: {}", entry.code, entry.detail);
            }
        }
    }
}
