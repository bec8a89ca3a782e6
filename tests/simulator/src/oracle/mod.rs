//! The checkers. They know what was sent, what was acknowledged and what lies on a disk as a record's bytes: never the engine's
//! own tables, nor why it did what it did.
//!
//! A replica is answerable for what it has said: a record is *acknowledged* once an answer for it has left, and a deletion is
//! *known* once its tombstone is durable there. Outputs that were decided before are judged by what was known before.

mod bounds;
mod convergence;
pub mod ledger;
mod serving;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::record::{Class, DeviceErased, DeviceLine, Head, Kind, ReceiptItem};
use lanyard_crypto::{ConversationId, Fingerprint, RecordId, Timestamp, TrustId};
use lanyard_replica::Own;
use lanyard_replica::audit::Place;
use lanyard_replica::audit::check::{Holder, Stated};
use lanyard_storage::{Batch, MemoryStore, Tree, View};

use crate::cast::{CODES, Cast, LIAR, RETENTION_SECS, Role};
use crate::counters::{Counter, Counters};
use bounds::Pace;
pub use convergence::Final;
use ledger::{Fact, Ledger};

/// How long a replica that works in small steps may take to finish an erasure, in milliseconds of its own running.
const ERASING_MS_MAX: u64 = 60_000;

/// How long after the end of a hold what it kept may lie on the disk, in seconds.
const HOLD_END_SECS_MAX: u64 = 60;

/// A promise that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise of the design.
    pub promise: &'static str,
    /// What was found.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.what)
    }
}

/// What one replica has said and been told.
#[derive(Debug)]
struct Knowledge {
    trust: TrustId,
    certificate: Fingerprint,
    /// For what it has answered.
    acknowledged: BTreeSet<RecordId>,
    /// The tombstones that were durable here.
    tombstones: BTreeSet<RecordId>,
    /// What is still to be erased, and until when.
    erasing: BTreeMap<RecordId, u64>,
    /// Members by the newest charter that was durable here, and its version.
    charter: (u64, Vec<TrustId>),
    /// By issuer, the revoked serial numbers of every list that was durable here.
    revoked: BTreeMap<Fingerprint, BTreeSet<Vec<u8>>>,
    /// The same of lists that a step has taken whose commit is not durable yet.
    stepped: BTreeMap<Fingerprint, BTreeSet<Vec<u8>>>,
    /// The highest number of each issuer's lists that was durable here.
    lists: BTreeMap<Fingerprint, u64>,
    commits: BTreeMap<(ConversationId, u64), RecordId>,
    /// What it has signed of its audit log, and was durable here.
    heads: Vec<Stated>,
    /// Heads of the log of the node that it has replaced, which others may bring back.
    disowned: BTreeSet<RecordId>,
    /// Receipts of that node: the message that one attests may come back before the tombstone does, which is carried out then.
    outlived: BTreeSet<RecordId>,
    /// Until when it may keep what conversations would lose.
    holds: BTreeMap<ConversationId, Timestamp>,
    /// The latest that its clock has shown.
    latest: Timestamp,
    /// What it has served its peers, and when it has begun rounds with them.
    pace: Pace,
    /// Whether it works in steps that are smaller than the engine's own.
    bounded: bool,
}

/// All checkers together. Told by the world what happens, in order.
pub struct Oracle {
    cast: &'static Cast,
    /// What is known of every record.
    pub ledger: Ledger,
    nodes: Vec<Knowledge>,
    /// Contents of commits that were seen, by conversation and epoch.
    commits: BTreeMap<(ConversationId, u64), BTreeSet<RecordId>>,
    /// The message that was acknowledged for what a device has handed in.
    handed_in: BTreeMap<(usize, RecordId), RecordId>,
    /// The lines that devices have signed and handed in, by their hashes.
    lines: BTreeSet<RecordId>,
    /// The first violation.
    pub violation: Option<Violation>,
}

impl Oracle {
    /// Of nothing yet.
    pub fn new(cast: &'static Cast) -> Self {
        Self {
            cast,
            ledger: Ledger::new(cast),
            nodes: Vec::new(),
            commits: BTreeMap::new(),
            handed_in: BTreeMap::new(),
            lines: BTreeSet::new(),
            violation: None,
        }
    }

    /// One more node, founded on a charter. `bounded` if it works in small steps; `served_bytes` is what it serves a peer within a
    /// second, if less than the engine's own bound.
    pub fn add_node(&mut self, own: &Own, charter: &[u8], bounded: bool, served_bytes: usize) {
        let members = self.ledger.learn(charter).and_then(|f| f.charter.clone()).unwrap_or_default();
        self.nodes.push(Knowledge::new(own, members, bounded, Pace::new(served_bytes)));
    }

    /// A node was replaced by an empty one, founded on a charter: what it has said before, it need not keep.
    pub fn replaced(&mut self, node: usize, own: &Own, charter: &[u8]) {
        let members = self.ledger.learn(charter).and_then(|f| f.charter.clone()).unwrap_or_default();
        let (bounded, pace) = (self.nodes[node].bounded, self.nodes[node].pace.anew());
        self.nodes[node] = Knowledge::new(own, members, bounded, pace);
        let signs =
            |fact: &&Arc<Fact>| fact.signer.as_ref().is_some_and(|(.., signer)| *signer == own.certificate);
        let own: Vec<_> = self.ledger.all().filter(signs).collect();
        let heads = own.iter().filter(|fact| fact.head.is_some()).map(|fact| fact.id);
        let receipts = own.iter().filter(|fact| fact.kind == Kind::Receipt).map(|fact| fact.id);
        let (disowned, outlived) = (heads.collect(), receipts.collect());
        (self.nodes[node].disowned, self.nodes[node].outlived) = (disowned, outlived);
    }

    /// Records a violation; the first one stands.
    pub fn fail(&mut self, promise: &'static str, what: String) {
        self.violation.get_or_insert(Violation { promise, what });
    }

    /// A step at a node is to be committed: what it stores must be acceptable there and then.
    pub fn step(
        &mut self,
        node: usize,
        batch: &Batch,
        clock: Timestamp,
        store: &MemoryStore,
        counters: &mut Counters,
        cut_off: bool,
    ) {
        self.nodes[node].latest = self.nodes[node].latest.max(clock);
        // What takes the place of what goes may stand behind it.
        for (_, _, value) in
            batch.changes().filter(|(tree, ..)| matches!(tree, Tree::Records | Tree::Envelopes))
        {
            value.map(|bytes| self.ledger.learn(bytes));
        }
        for (tree, key, value) in batch.changes() {
            match (tree, value) {
                (Tree::Held, Some(_)) => counters.add(Counter::HeldKept),
                (Tree::Held, None) if store.contains(tree, key).unwrap_or(false) => {
                    counters.add(Counter::HeldErased);
                }
                _ => {}
            }
            if !matches!(tree, Tree::Records | Tree::Envelopes) {
                continue;
            }
            let Ok(id) = RecordId::try_from(key) else {
                self.fail("P5", format!("node {node} stores a record under a key that is no id"));
                continue;
            };
            match value {
                Some(bytes) => self.stores(node, id, bytes, clock, tree, counters),
                None => self.removes(node, &id, clock, store, counters, cut_off),
            }
        }
        for (tree, _, value) in batch.changes() {
            let (Tree::Records, Some(bytes)) = (tree, value) else { continue };
            let fact = self.ledger.learn(bytes);
            if let Some((issuer, _, serials)) = fact.as_ref().and_then(|f| f.list.as_ref()) {
                self.nodes[node].stepped.entry(*issuer).or_default().extend(serials.iter().cloned());
            }
        }
    }

    fn stores(
        &mut self,
        node: usize,
        id: RecordId,
        bytes: &[u8],
        clock: Timestamp,
        tree: Tree,
        counters: &mut Counters,
    ) {
        let name = |what: &str| format!("node {node} stores {id}, {what}");
        if RecordId::of(bytes) != id {
            return self.fail("P5", name("whose bytes are another record's"));
        }
        let Some(fact) = self.ledger.learn(bytes) else { return self.fail("P2", name("which is no record")) };
        if let Some(why) = self.ledger.condemned(&id) {
            return self.fail("P2", name(why));
        }
        let known = &self.nodes[node];
        if (tree == Tree::Envelopes) != (fact.kind == Kind::Envelope) {
            return self.fail("P6", name("in the wrong tree"));
        }
        if !fact.is_for(&known.trust) {
            return self.fail("P3", name("of which its trust is no custodian"));
        }
        let end = self.end_at(node, &fact);
        if end <= clock {
            return self
                .fail("P6", name(&format!("which expired at {} (now {})", end.as_secs(), clock.as_secs())));
        }
        if fact.issued > clock.plus_secs(CLOCK_SKEW_SECS_MAX) {
            return self.fail("P8", name("which is issued in the future"));
        }
        if fact.kind == Kind::Envelope && fact.expires.as_secs() - fact.issued.as_secs() > RETENTION_SECS {
            return self.fail("P8", name("which lives longer than the charter lets it"));
        }
        let forbids = self.ledger.deletions(&id).find(|t| known.tombstones.contains(t)).copied();
        if let Some(tombstone) = forbids {
            return self.fail("P6", name(&format!("which tombstone {tombstone} forbids, as it knew")));
        }
        if let Err(why) = self.vouched(&self.nodes[node], &fact) {
            return self.fail("P2", name(&why));
        }
        if let Err((promise, why)) = self.is_rightful_commit(node, &fact) {
            return self.fail(promise, name(&why));
        }
        if fact.kind == Kind::Tombstone {
            let first = self.ledger.targets(&id).next().is_none();
            if first {
                counters.add(Counter::TombstoneFirst);
            }
        }
    }

    /// Who signed it may, as far as this replica knows.
    fn vouched(&self, known: &Knowledge, fact: &Fact) -> Result<(), String> {
        if fact.kind == Kind::Charter {
            return Ok(());
        }
        let Some((place, role, certificate)) = &fact.signer else {
            return Err("which nobody of the network has signed".into());
        };
        let right = match fact.kind {
            Kind::Crl | Kind::Entry => *role == Role::Registrar,
            _ => *role == Role::Node,
        };
        if !right {
            return Err(format!("signed by a key that may not ({role:?})"));
        }
        let trust = &self.cast.trusts[*place];
        if known.charter.1.binary_search(&trust.id).is_err() {
            return Err(format!("signed by {}, which is not in its charter", trust.id));
        }
        let lists = [&known.revoked, &known.stepped].map(|lists| lists.get(&trust.registrar()));
        let serial = self.cast.serial(certificate);
        let revoked = lists.into_iter().flatten().any(|list| serial.is_some_and(|s| list.contains(s)));
        if revoked {
            return Err(format!("signed with a certificate of {} that it knew to be revoked", trust.id));
        }
        Ok(())
    }

    /// One commit for each epoch, by the owner alone.
    fn is_rightful_commit(&self, node: usize, fact: &Fact) -> Result<(), (&'static str, String)> {
        let (Some(Class::Commit | Class::Welcome), Some(conversation)) = (fact.class, &fact.conversation)
        else {
            return Ok(());
        };
        let owner = self.cast.place(conversation.owner());
        if fact.signer.as_ref().map(|(place, ..)| *place) != owner {
            return Err(("P2", "a handshake that its conversation's owner has not published".into()));
        }
        if fact.class == Some(Class::Welcome) {
            return Ok(());
        }
        let epoch = (conversation.clone(), fact.epoch);
        match self.nodes[node].commits.get(&epoch) {
            Some(other) if *other != fact.id => {
                return Err(("P5", format!("a second commit for epoch {} beside {other}", fact.epoch)));
            }
            _ => {}
        }
        let others = self.commits.get(&epoch).into_iter().flatten();
        let other = others.into_iter().find(|content| **content != fact.content);
        match other {
            Some(_) if owner != Some(LIAR) => {
                Err(("P5", format!("a second commit for epoch {} of an honest owner", fact.epoch)))
            }
            _ => Ok(()),
        }
    }

    fn removes(
        &mut self,
        node: usize,
        id: &RecordId,
        clock: Timestamp,
        store: &MemoryStore,
        counters: &mut Counters,
        cut_off: bool,
    ) {
        let Some(fact) = self.ledger.get(id).cloned() else { return };
        let held = |tree| store.contains(tree, id.as_bytes()).unwrap_or(false);
        if !held(Tree::Records) && !held(Tree::Envelopes) {
            return;
        }
        // Where the clock was set back, time stands still until it has caught up.
        if self.ledger.end(&fact) <= clock.max(self.nodes[node].latest) {
            counters.add(Counter::Expired);
            if cut_off {
                counters.add(Counter::ExpiredInPartition);
            }
            if fact.kind == Kind::Tombstone {
                counters.add(Counter::TombstonePruned);
            }
        } else if self.nodes[node].acknowledged.contains(id) && !self.is_excused(&fact) {
            self.fail(
                "P4",
                format!("node {node} removes {id} ({}), for which it has answered", name_of(&fact)),
            );
        } else if fact.kind == Kind::Tombstone && !self.ledger.is_void(&fact) {
            self.fail("P6", format!("node {node} drops tombstone {id} before its time"));
        }
    }

    /// A node has crashed: what its steps had taken and no commit made durable, it does not know.
    pub fn crashed(&mut self, node: usize) {
        self.nodes[node].stepped.clear();
        self.nodes[node].pace = self.nodes[node].pace.anew();
    }

    /// A commit is durable at a node: what it holds now, it knows.
    pub fn durable(&mut self, node: usize, batch: &Batch, at_ms: u64, store: &MemoryStore) {
        self.nodes[node].stepped.clear();
        for (tree, _, value) in batch.changes() {
            let (Tree::Records | Tree::Envelopes, Some(bytes)) = (tree, value) else { continue };
            let Some(fact) = self.ledger.learn(bytes) else { continue };
            let known = &mut self.nodes[node];
            if let Some((version, members)) = &fact.charter
                && *version > known.charter.0
            {
                known.charter = (*version, members.clone());
            }
            if let Some((issuer, number, serials)) = &fact.list {
                known.revoked.entry(*issuer).or_default().extend(serials.iter().cloned());
                let highest = known.lists.entry(*issuer).or_default();
                *highest = (*highest).max(*number);
            }
            if let (Some(Class::Commit), Some(conversation)) = (fact.class, &fact.conversation) {
                let epoch = (conversation.clone(), fact.epoch);
                known.commits.insert(epoch.clone(), fact.id);
                self.commits.entry(epoch).or_default().insert(fact.content);
            }
            if fact.kind == Kind::Tombstone {
                known.tombstones.insert(fact.id);
                self.is_erased(node, &fact.id, at_ms, store, "knows");
            }
            let own =
                fact.signer.as_ref().is_some_and(|(.., signer)| *signer == self.nodes[node].certificate);
            if let (Some(Head { number, hash, dropped }), true) = (fact.head, own)
                && !self.nodes[node].disowned.contains(&fact.id)
            {
                let (place, signed) = (Place { number, hash }, fact.issued);
                self.nodes[node].heads.push(Stated { place, dropped, signed, holder: Holder::Other });
            }
            let receipt = fact.kind == Kind::Receipt && own && !self.nodes[node].outlived.contains(&fact.id);
            for item in fact.items.iter().filter(|_| receipt) {
                match item {
                    ReceiptItem::DeviceErased(said) => self.was_said(node, said),
                    ReceiptItem::Erased(erased) if !self.nodes[node].bounded => {
                        self.is_erased(node, &erased.tombstone, at_ms, store, "attests");
                        self.is_not_kept(node, &erased.tombstone, store);
                    }
                    _ => {}
                }
            }
        }
    }

    /// A device hands in this line, which it has signed.
    pub fn hands_in(&mut self, line: &DeviceLine) {
        self.lines.insert(RecordId::of(line.bytes()));
    }

    /// A node attests what devices have said, and nothing else.
    fn was_said(&mut self, node: usize, said: &DeviceErased) {
        if !self.lines.contains(&RecordId::of(&said.line)) {
            self.fail("P7", format!("node {node} attests of {} what no device has said", said.tombstone));
        }
    }

    /// What a tombstone forbids must be gone from this replica: at once, unless it works in small steps.
    fn is_erased(&mut self, node: usize, tombstone: &RecordId, at_ms: u64, store: &MemoryStore, what: &str) {
        let targets: Vec<_> = self.ledger.targets(tombstone).copied().collect();
        for target in targets {
            if !store.contains(Tree::Envelopes, target.as_bytes()).unwrap_or(false) {
                continue;
            }
            if self.nodes[node].bounded {
                self.nodes[node].erasing.insert(target, at_ms + ERASING_MS_MAX);
            } else {
                let what = format!("node {node} {what} tombstone {tombstone}, and still has {target}");
                self.fail("P6", what);
            }
        }
    }

    /// What a replica attests to have erased it does not keep for a hold.
    fn is_not_kept(&mut self, node: usize, tombstone: &RecordId, store: &MemoryStore) {
        let kept = |id: &&RecordId| store.contains(Tree::Held, id.as_bytes()).unwrap_or(false);
        let found = self.ledger.targets(tombstone).find(kept).copied();
        if let Some(id) = found {
            self.fail("P7", format!("node {node} attests tombstone {tombstone}, and keeps {id} for a hold"));
        }
    }

    /// A node has answered for a record: it must be there, now and until it may go.
    pub fn acknowledged(&mut self, node: usize, id: RecordId, store: &MemoryStore) {
        self.nodes[node].acknowledged.insert(id);
        self.is_present(node, &id, store);
    }

    /// A node's trust has acknowledged to a device what it had handed in: each content once.
    pub fn sent(&mut self, node: usize, place: usize, content: RecordId, id: RecordId, store: &MemoryStore) {
        let before = self.handed_in.insert((place, content), id);
        if let Some(before) = before.filter(|b| *b != id)
            && self.ledger.get(&before).is_some_and(|f| self.ledger.end(f) > self.nodes[node].latest)
            && !self.ledger.is_deleted(&before)
        {
            self.fail(
                "P4",
                format!("node {node} made {id} of a message that it had acknowledged as {before}"),
            );
        }
        self.acknowledged(node, id, store);
    }

    fn is_present(&mut self, node: usize, id: &RecordId, store: &MemoryStore) {
        let Some(fact) = self.ledger.get(id).cloned() else { return };
        if self.ledger.end(&fact) <= self.nodes[node].latest || self.is_excused(&fact) {
            return;
        }
        let tree = if fact.kind == Kind::Envelope { Tree::Envelopes } else { Tree::Records };
        let bytes = store.get(tree, id.as_bytes()).ok().flatten();
        if bytes.is_none_or(|b| RecordId::of(&b) != *id) {
            self.fail(
                "P4",
                format!("node {node} has lost {id} ({}), for which it has answered", name_of(&fact)),
            );
        }
    }

    /// Why a replica need not hold what it has answered for, expiry apart.
    fn is_excused(&self, fact: &Fact) -> bool {
        fact.class == Some(Class::Submission)
            || self.ledger.is_deleted(&fact.id)
            || self.ledger.is_superseded(fact)
            || (fact.kind == Kind::Tombstone && self.ledger.is_void(fact))
    }

    /// Looks at everything for which a node has answered: after a crash, and now and then.
    pub fn audit(&mut self, node: usize, at_ms: u64, store: &MemoryStore) {
        let acknowledged: Vec<_> = self.nodes[node].acknowledged.iter().copied().collect();
        acknowledged.iter().for_each(|id| self.is_present(node, id, store));
        let left: Vec<_> = self.nodes[node].erasing.iter().map(|(id, until)| (*id, *until)).collect();
        for (id, until) in left {
            if !store.contains(Tree::Envelopes, id.as_bytes()).unwrap_or(false) {
                self.nodes[node].erasing.remove(&id);
            } else if at_ms > until {
                self.fail("P6", format!("node {node} has not finished to erase {id}"));
            }
        }
    }

    /// Nothing that has long expired may lie on the disk of a node that has been running.
    pub fn no_expired(&mut self, node: usize, clock: Timestamp, store: &MemoryStore) {
        for (tree, key, _) in store.rows() {
            if !matches!(tree, Tree::Records | Tree::Envelopes) {
                continue;
            }
            let fact = RecordId::try_from(key.as_slice()).ok().and_then(|id| self.ledger.get(&id).cloned());
            if let Some(fact) = fact
                && !matches!(fact.kind, Kind::Charter | Kind::Crl)
                && fact.expires.plus_secs(15) <= clock
            {
                let what = format!("node {node} keeps {} ({}) after its expiry", fact.id, name_of(&fact));
                self.fail("P6", what);
            }
        }
        self.kept(node, clock, store);
    }

    /// When a record has to be gone from a replica, by the standing orders that it knows.
    fn end_at(&self, node: usize, fact: &Fact) -> Timestamp {
        self.ledger.end_by(fact, |order| self.nodes[node].tombstones.contains(order))
    }

    /// An officer asks for a hold, or for its end. Whether the node has heard is not known: what it keeps until then it may keep.
    pub fn hold(&mut self, node: usize, conversation: &ConversationId, until: Timestamp) {
        let last = self.nodes[node].holds.entry(conversation.clone()).or_insert(until);
        *last = (*last).max(until);
    }

    /// What holds keep is of a conversation that was put on hold, is gone soon after the end of the hold, and is nowhere else.
    fn kept(&mut self, node: usize, clock: Timestamp, store: &MemoryStore) {
        let held = store.rows().into_iter().filter(|(tree, ..)| *tree == Tree::Held);
        for id in held.filter_map(|(_, key, _)| RecordId::try_from(key.as_slice()).ok()).collect::<Vec<_>>() {
            let fact = self.ledger.get(&id).cloned();
            let conversation = fact.as_ref().and_then(|fact| fact.conversation.as_ref());
            match conversation.and_then(|c| self.nodes[node].holds.get(c)) {
                Some(until) if until.plus_secs(HOLD_END_SECS_MAX) > clock => {}
                Some(_) => self.fail("P6", format!("node {node} keeps {id} after the end of a hold")),
                None => self.fail("P6", format!("node {node} keeps {id}, which was never on hold")),
            }
            if store.contains(Tree::Envelopes, id.as_bytes()).unwrap_or(false) {
                self.fail("P6", format!("node {node} keeps {id} for a hold, and among what it serves"));
            }
        }
    }

    /// Whether a node knows that a record is deleted.
    pub fn knows_deleted(&self, node: usize, id: &RecordId) -> bool {
        self.ledger.deletions(id).any(|t| self.nodes[node].tombstones.contains(t))
    }

    /// Whether a node has answered for a record.
    pub fn has_acknowledged(&self, node: usize, id: &RecordId) -> bool {
        self.nodes[node].acknowledged.contains(id)
    }

    /// Whether a node knows that whom a directory entry is about is revoked.
    fn knows_subject_revoked(&self, node: usize, fact: &Fact) -> bool {
        let (Some(subject), Some((place, ..))) = (fact.subject, &fact.signer) else { return false };
        let revoked = self.nodes[node].revoked.get(&self.cast.trusts[*place].registrar());
        revoked.zip(self.cast.serial(&subject)).is_some_and(|(r, s)| r.contains(s))
    }

    /// The version of the newest charter that a node holds.
    pub fn charter_version(&self, node: usize) -> u64 {
        self.nodes[node].charter.0
    }

    /// The highest number of an issuer's revocation lists that a node holds.
    pub fn list_number(&self, node: usize, issuer: &Fingerprint) -> u64 {
        self.nodes[node].lists.get(issuer).copied().unwrap_or(0)
    }

    /// Whether a node knows that the signer of a record is revoked.
    pub fn knows_revoked(&self, node: usize, fact: &Fact) -> bool {
        let Some((place, _, certificate)) = &fact.signer else { return false };
        let revoked = self.nodes[node].revoked.get(&self.cast.trusts[*place].registrar());
        revoked.zip(self.cast.serial(certificate)).is_some_and(|(r, s)| r.contains(s))
    }
}

impl Knowledge {
    fn new(own: &Own, charter: (u64, Vec<TrustId>), bounded: bool, pace: Pace) -> Self {
        Self {
            trust: own.trust.clone(),
            certificate: own.certificate,
            acknowledged: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            erasing: BTreeMap::new(),
            charter,
            revoked: BTreeMap::new(),
            stepped: BTreeMap::new(),
            lists: BTreeMap::new(),
            commits: BTreeMap::new(),
            heads: Vec::new(),
            disowned: BTreeSet::new(),
            outlived: BTreeSet::new(),
            holds: BTreeMap::new(),
            latest: Timestamp::from_secs(0),
            pace,
            bounded,
        }
    }
}

fn name_of(fact: &Fact) -> String {
    let name = fact.class.map_or(fact.kind.name(), Class::name);
    let by = fact
        .signer
        .as_ref()
        .map_or("the authorities", |(place, ..)| CODES.get(*place).unwrap_or(&"a stranger"));
    format!("{name} of {by}, {} to {}", fact.issued.as_secs(), fact.expires.as_secs())
}
