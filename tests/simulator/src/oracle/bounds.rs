//! What a step may do at most, and how often: the engine's table of limits, seen from outside. Steps are judged as they are
//! decided, in the order in which the engine takes them.

use std::collections::{BTreeMap, BTreeSet};

use lanyard_crypto::record::{Class, Kind};
use lanyard_crypto::{NodeId, RecordId, Timestamp, TrustId};
use lanyard_replica::audit::CONTRADICTED;
use lanyard_replica::frame::Frame;
use lanyard_replica::{Output, Step, limits};
use lanyard_storage::{MemoryStore, Tree};

use super::Oracle;
use super::ledger::Fact;
use crate::cast::{LIAR, Trust};
use crate::counters::{Counter, Counters};

/// Rounds that may come early: each for a record that came, some of them for what came a moment before.
const EARLY_MAX: u32 = 3;
/// A device's fingerprint ends the key of its membership, in bytes.
const DEVICE_BYTES: usize = 32;

/// What one replica has sent its peers by anti-entropy, since it was opened.
#[derive(Debug)]
pub(super) struct Pace {
    /// What a peer may be served in a second, in bytes.
    bytes_max: usize,
    /// What the nodes of each trust may still be served, together.
    allowance: BTreeMap<TrustId, usize>,
    /// To whom an answer is under way.
    amid: BTreeSet<NodeId>,
    begun: BTreeMap<NodeId, Begun>,
    /// Who has asked for a round since the last one.
    asked: BTreeSet<NodeId>,
}

/// The last round that a replica began with a peer.
#[derive(Debug)]
struct Begun {
    at: Timestamp,
    /// The latest that the clock has shown since.
    peak: Timestamp,
    /// How many more may come early.
    early: u32,
}

impl Pace {
    /// Of a replica that was just opened, and serves a peer so much in a second; 0 for the engine's own bound.
    pub(super) fn new(bytes_max: usize) -> Self {
        let bytes_max = if bytes_max == 0 { limits::SERVED_BYTES_MAX } else { bytes_max };
        let (allowance, amid, begun) = Default::default();
        Self { bytes_max, allowance, amid, begun, asked: BTreeSet::new() }
    }

    /// The same replica, opened again.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.bytes_max)
    }

    fn burst(&self) -> usize {
        self.bytes_max * (limits::SERVED_BURST_BYTES_MAX / limits::SERVED_BYTES_MAX)
    }

    fn second(&mut self) {
        let (more, most) = (self.bytes_max, self.burst());
        self.allowance.values_mut().for_each(|left| *left = (*left + more).min(most));
    }

    /// Whether this much may be served now: an answer may be begun as long as anything is left.
    fn serves(&mut self, to: NodeId, trust: TrustId, bytes: usize, ends: bool) -> bool {
        let most = self.burst();
        let left = self.allowance.entry(trust).or_insert(most);
        let may = *left > 0 || self.amid.contains(&to);
        *left = left.saturating_sub(bytes);
        if ends {
            self.amid.remove(&to);
        } else {
            self.amid.insert(to);
        }
        may
    }

    /// Whether a round may begin now.
    fn begins(&mut self, to: NodeId, clock: Timestamp) -> bool {
        let mut early = EARLY_MAX;
        if let Some(last) = self.begun.get(&to) {
            early = last.early;
            // One in so many seconds to who asks for it, whose store may be older than what it has done.
            let asked = self.asked.remove(&to) && last.peak >= last.at.plus_secs(limits::BEGIN_SECS);
            if !asked && last.peak < last.at.plus_secs(limits::SYNC_INTERVAL_SECS) {
                let Some(left) = early.checked_sub(1) else { return false };
                early = left;
            }
        }
        self.begun.insert(to, Begun { at: clock, peak: clock, early });
        true
    }
}

impl Oracle {
    /// A peer is connected: the first round begins at once.
    pub fn connected(&mut self, node: usize, peer: &NodeId) {
        self.nodes[node].pace.begun.remove(peer);
    }

    /// A peer asks a node to begin a round.
    pub fn asked_to_begin(&mut self, node: usize, peer: NodeId) {
        self.nodes[node].pace.asked.insert(peer);
    }

    /// What a step of a node has decided; `tick` if a second has passed with it.
    pub fn decided(
        &mut self,
        node: usize,
        step: &Step,
        tick: bool,
        clock: Timestamp,
        counters: &mut Counters,
    ) {
        let pace = &mut self.nodes[node].pace;
        if tick {
            pace.second();
        }
        let records = |tree| matches!(tree, Tree::Records | Tree::Envelopes);
        let stores = step.batch.changes().any(|(tree, _, value)| records(tree) && value.is_some());
        for begun in pace.begun.values_mut() {
            begun.peak = begun.peak.max(clock);
            begun.early = EARLY_MAX.min(begun.early + u32::from(stores));
        }
        let mut doubted = 0;
        for output in &step.outputs {
            match output {
                Output::Send { to, frame } => self.sends(node, *to, frame, clock, counters),
                Output::Audit(entry) => {
                    doubted += usize::from(entry.event == "dropped");
                    if entry.event == CONTRADICTED && entry.record.is_some_and(|head| self.is_honest(&head)) {
                        self.fail(
                            "P7",
                            format!("node {node} says of an honest log: {} {}", entry.code, entry.detail),
                        );
                    }
                    if entry.detail.len() > limits::AUDIT_DETAIL_BYTES_MAX {
                        self.fail("P8", format!("node {node} notes {} bytes of detail", entry.detail.len()));
                    }
                }
                _ => {}
            }
        }
        let gone = |id: &[u8]| {
            let fact = RecordId::try_from(id).ok().and_then(|id| self.ledger.get(&id).cloned());
            fact.is_some_and(|fact| self.ledger.end(&fact) <= clock)
        };
        let removed = step.batch.changes().filter(|(tree, _, value)| records(*tree) && value.is_none());
        let expired = removed.filter(|(_, key, _)| gone(key)).count();
        for (count, most, what) in [
            (doubted, limits::DOUBTS_MAX, "drops records that a peer doubts"),
            (expired, limits::EXPIRE_PER_STEP_MAX, "drops records that have expired"),
        ] {
            if count > most {
                self.fail("P8", format!("node {node} {what}: {count} in one step"));
            }
        }
    }

    /// Whether the node that has signed a head has never lied, nor lost a log.
    fn is_honest(&self, head: &RecordId) -> bool {
        let signer = self.ledger.get(head).and_then(|fact| fact.signer);
        let nodes = |signer| self.nodes.iter().filter(move |known| known.certificate == signer);
        signer.is_some_and(|(place, _, signer)| place != LIAR && nodes(signer).all(|n| n.disowned.is_empty()))
    }

    fn sends(&mut self, node: usize, to: NodeId, frame: &Frame, clock: Timestamp, counters: &mut Counters) {
        let pace = &mut self.nodes[node].pace;
        let (bytes, ends) = match frame {
            Frame::Records(records) => (records.iter().map(|r| r.len()).sum(), false),
            Frame::Done(_) => (0, true),
            Frame::Symbols(symbols) => (symbols.cells.len(), true),
            Frame::Offer(offer) if offer.number != 0 => (offer.ids.len(), true),
            Frame::Roots(_) => {
                if !pace.begins(to, clock) {
                    self.fail("P8", format!("node {node} begins one round after the other with {to}"));
                }
                return;
            }
            Frame::Wait(_) => return counters.add(Counter::ServedEnough),
            _ => return,
        };
        let of = |trust: &&Trust| trust.nodes.iter().any(|n| n.certificate.node_id() == Some(to));
        let Some(trust) = self.cast.trusts.iter().find(of) else { return };
        if !pace.serves(to, trust.id.clone(), bytes, ends) {
            self.fail("P8", format!("node {node} serves {to} beyond its bound per second"));
        }
    }

    /// A node says how many records it shares with a peer's trust, in each layer; `before` and `after` are what its disk has at the
    /// beginning of that step, and at its end.
    pub fn shares(
        &mut self,
        node: usize,
        peer: &TrustId,
        counts: &[u64],
        before: &BTreeSet<RecordId>,
        after: &BTreeSet<RecordId>,
    ) {
        for (layer, count) in counts.iter().enumerate() {
            let of_layer = |id: &&RecordId| {
                self.ledger.get(id).is_some_and(|f| layer_of(f) == Some(layer) && f.is_for(peer))
            };
            let alive = |id: &&RecordId| {
                self.ledger.get(id).is_some_and(|f| self.ledger.end(f) > self.nodes[node].latest)
            };
            let least = before.intersection(after).filter(of_layer).filter(alive).count() as u64;
            let most = before.union(after).filter(of_layer).count() as u64;
            if !(least..=most).contains(count) {
                let what = format!(
                    "node {node} says that it shares {count} records of layer {layer} with {peer}, and has {least} to {most}"
                );
                return self.fail("P5", what);
            }
        }
    }

    /// What may not grow beyond its bound on a node's disk.
    pub fn tables(&mut self, node: usize, store: &MemoryStore) {
        let (mut entries, mut members) = (0, BTreeMap::<Vec<u8>, usize>::new());
        for (tree, key, _) in store.rows() {
            match tree {
                Tree::Audit => entries += 1,
                Tree::Members => {
                    let conversation = key[..key.len().saturating_sub(DEVICE_BYTES)].to_vec();
                    *members.entry(conversation).or_default() += 1;
                }
                _ => {}
            }
        }
        if entries > limits::AUDIT_ENTRIES_MAX {
            self.fail("P8", format!("node {node} keeps {entries} entries of its audit log"));
        }
        if let Some(count) = members.into_values().find(|count| *count > limits::LOCAL_MEMBERS_MAX) {
            self.fail("P8", format!("node {node} serves a conversation to {count} devices"));
        }
    }
}

/// The layer of anti-entropy in which a record is compared; none for what two trusts settle between them.
fn layer_of(fact: &Fact) -> Option<usize> {
    match (fact.kind, fact.class) {
        (Kind::Charter | Kind::Crl | Kind::Entry, _) => Some(0),
        (Kind::Tombstone, _) => Some(1),
        (Kind::Receipt | Kind::Head, _) => Some(2),
        (Kind::Envelope, Some(Class::Submission)) => None,
        (Kind::Envelope, _) => Some(3),
    }
}
