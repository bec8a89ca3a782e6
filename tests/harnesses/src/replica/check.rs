//! What must hold of a replica, seen from outside: of each batch, of each output, and of everything that is stored.

use std::collections::{BTreeMap, BTreeSet};

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::record::{Body, Class, Decoded, Kind, ReceiptItem, Target};
use lanyard_crypto::{Fingerprint, RecordId, Timestamp, TrustId};
use lanyard_replica::frame::Frame;
use lanyard_replica::limits::{
    AUDIT_DETAIL_BYTES_MAX, BUCKET_SECS, FRAME_BYTES_MAX, RECORD_CHANGES_MAX, STEP_CHANGES_MAX,
};
use lanyard_replica::{Output, audit, query};
use lanyard_storage::{Batch, MemoryStore, Tree};

use super::World;
use super::evidence;
use super::world::index;
use crate::fixtures;

/// A batch is within what one step may do.
pub(crate) fn batch(batch: &Batch) {
    assert!(batch.len() <= STEP_CHANGES_MAX + RECORD_CHANGES_MAX, "{} changes in one step", batch.len());
}

/// An output is one that may leave the node.
pub(crate) fn output(world: &World, at: usize, output: &Output) {
    match output {
        Output::Send { to, frame } => {
            let bytes = frame.to_bytes();
            assert!(bytes.len() <= FRAME_BYTES_MAX, "a frame of {} bytes", bytes.len());
            assert_eq!(Frame::from_bytes(&bytes).as_ref(), Ok(frame), "a peer can read what is sent");
            served(world, at, index(to), frame);
        }
        Output::Publish(bytes) => {
            let record = Decoded::from_bytes(bytes).expect("what is gossiped is a record");
            Stored::of(&world.sites[at].store).alive(&record, world.now, "gossiped");
        }
        Output::Audit(entry) => quiet(entry),
        Output::Reply { reply: Err(refusal), .. } => {
            assert!(!refusal.code.is_empty() && refusal.message.len() < 2_048);
        }
        Output::Reply { .. }
        | Output::Verdict { .. }
        | Output::Wake(_)
        | Output::Notify { .. }
        | Output::Disconnect { .. }
        | Output::TrustChanged
        | Output::GoOn => {}
    }
}

/// What anti-entropy sends is alive, for the receiver, and not deleted here.
fn served(world: &World, at: usize, to: usize, frame: &Frame) {
    let Frame::Records(records) = frame else { return };
    let held = Stored::of(&world.sites[at].store);
    for bytes in records {
        let record = Decoded::from_bytes(bytes).expect("what is served is a record");
        may_have(&record, to);
        held.alive(&record, world.now, "served");
    }
}

/// What waits in an outbox, as the driver reads it: the same, but that it may have expired since the last tick.
pub(crate) fn waiting(world: &World, at: usize, to: usize, frame: &Frame) {
    let Frame::Records(records) = frame else { return };
    assert!(frame.to_bytes().len() <= FRAME_BYTES_MAX);
    let held = Stored::of(&world.sites[at].store);
    for bytes in records {
        let record = Decoded::from_bytes(bytes).expect("what is sent is a record");
        may_have(&record, to);
        held.alive(&record, world.now, "sent");
    }
}

fn may_have(record: &Decoded, to: usize) {
    let (custodians, trust) = (&record.header().custodians, &fixtures::trusts()[to].id);
    assert!(custodians.is_empty() || custodians.contains(trust), "sent to who is no custodian");
}

fn quiet(entry: &audit::AuditEntry) {
    assert!(entry.detail.len() <= AUDIT_DETAIL_BYTES_MAX);
    assert!(!entry.detail.contains(fixtures::PERSON), "the log names a person: {}", entry.detail);
}

/// Everything that a replica holds, decoded.
pub(crate) struct Stored {
    pub(crate) records: BTreeMap<RecordId, Decoded>,
    /// Tombstones, with the trust that signed each.
    orders: Vec<(RecordId, TrustId)>,
    /// What holds keep.
    kept: BTreeSet<RecordId>,
}

impl Stored {
    pub(crate) fn of(store: &MemoryStore) -> Self {
        let mut records = BTreeMap::new();
        for (tree, key, bytes) in store.rows() {
            if matches!(tree, Tree::Records | Tree::Envelopes) {
                let record = Decoded::from_bytes(&bytes).expect("what is stored is a record");
                let (id, envelope) = (record.id(), record.body().kind() == Kind::Envelope);
                assert_eq!((id.as_bytes()[..].to_vec(), envelope), (key, tree == Tree::Envelopes));
                records.insert(id, record);
            }
        }
        let by = |record: &Decoded| trust_of(record.signer()?);
        let order = |(id, record): (&RecordId, &Decoded)| {
            matches!(record.body(), Body::Tombstone(_)).then(|| Some((*id, by(record)?))).flatten()
        };
        let orders = records.iter().filter_map(order).collect();
        Self { records, orders, kept: evidence::kept(store).into_keys().collect() }
    }

    /// What leaves the replica is alive: not expired, not ended by an order, not deleted, and not kept for a hold.
    fn alive(&self, record: &Decoded, now: Timestamp, how: &str) {
        assert!(record.header().expires > now, "an expired record is {how}");
        assert!(self.end(record) > now, "a record that an order has ended is {how}");
        assert!(self.deleted(record).is_none(), "a deleted record is {how}");
        assert!(!self.kept.contains(&record.id()), "a record that a hold keeps is {how}");
    }

    /// The tombstone here that has force over this record.
    fn deleted(&self, record: &Decoded) -> Option<RecordId> {
        self.orders.iter().find(|(id, by)| self.forces(&self.records[id], by, record)).map(|(id, _)| *id)
    }

    /// Whether this tombstone of this trust has force over this record.
    pub(crate) fn forces(&self, order: &Decoded, by: &TrustId, record: &Decoded) -> bool {
        let (Body::Tombstone(tombstone), Body::Envelope(envelope)) = (order.body(), record.body()) else {
            return false;
        };
        let sender = record.signer().and_then(trust_of);
        let margin = 2 * CLOCK_SKEW_SECS_MAX;
        envelope.class == Class::Application
            && tombstone.conversation == envelope.conversation
            && (sender.as_ref() == Some(by) || envelope.conversation.owner() == by)
            && match &tombstone.target {
                Target::UpTo(up_to) => record.header().issued <= *up_to,
                Target::Standing(..) => false,
                Target::Envelopes(ids) => {
                    ids.contains(&record.id())
                        && order.header().expires >= record.header().expires.plus_secs(margin)
                }
            }
    }

    /// When a record ends: when it says so, or sooner by the standing orders that are here.
    fn end(&self, record: &Decoded) -> Timestamp {
        let ends = self.orders.iter().filter_map(|(id, _)| self.end_by(&self.records[id], record));
        ends.fold(record.header().expires, Timestamp::min)
    }

    /// When this standing order lets this record end. Owners alone can order so.
    pub(crate) fn end_by(&self, order: &Decoded, record: &Decoded) -> Option<Timestamp> {
        let (Body::Tombstone(tombstone), Body::Envelope(envelope)) = (order.body(), record.body()) else {
            return None;
        };
        let Target::Standing(up_to, secs) = &tombstone.target else { return None };
        let named = envelope.class == Class::Application
            && tombstone.conversation == envelope.conversation
            && record.header().issued <= *up_to;
        named.then(|| record.header().issued.plus_secs(*secs))
    }

    /// Whether a node of this trust says something of a tombstone, in a receipt that is here.
    pub(crate) fn attests(
        &self,
        trust: &TrustId,
        tombstone: &RecordId,
        says: impl Fn(&ReceiptItem) -> bool,
    ) -> bool {
        self.records.values().any(|record| {
            matches!(record.body(), Body::Receipt(receipt)
                if record.signer().and_then(trust_of).as_ref() == Some(trust)
                    && receipt.items.iter().any(|item| item.tombstone() == Some(*tombstone) && says(item)))
        })
    }
}

/// Whose node has the certificate with this fingerprint.
pub(crate) fn trust_of(signer: Fingerprint) -> Option<TrustId> {
    fixtures::trusts().iter().find(|t| t.node.fingerprint() == signer).map(|t| t.id.clone())
}

/// Rows agree with each other, nothing is here that should not be, and everything can be read.
pub(crate) fn store(world: &World, at: usize) {
    let (site, own) = (&world.sites[at], &fixtures::trusts()[at]);
    let (rows, held) = (site.store.rows(), Stored::of(&site.store));
    let of = |tree: Tree| rows.iter().filter(move |(t, ..)| *t == tree).map(|(_, key, row)| (key, row));
    let keys = |tree| of(tree).map(|(key, _)| id(key)).collect::<BTreeSet<_>>();
    let here: BTreeSet<RecordId> = held.records.keys().copied().collect();
    assert_eq!(keys(Tree::Holdings), here, "each record has its holding, and each holding its record");
    for (tree, what) in [
        (Tree::Index, "anti-entropy"),
        (Tree::Conversations, "a conversation"),
        (Tree::Tombstones, "an order to delete"),
    ] {
        assert!(keys(tree).is_subset(&here), "{what} names a record that is not here");
    }
    for (tree, what) in [
        (Tree::Outbox, "an outbox"),
        (Tree::Revocations, "the revocations in force"),
        (Tree::Tally, "a tally"),
    ] {
        assert!(of(tree).all(|(_, row)| here.contains(&id(row))), "{what} names a record that is not here");
    }
    indexed(world, at, &held, &keys(Tree::Index), &keys(Tree::Expiry));
    for (id, record) in &held.records {
        let header = record.header();
        assert!(header.network.is_none_or(|n| n == world.network), "of another network");
        assert!(header.custodians.is_empty() || header.custodians.contains(&own.id), "kept by no custodian");
        if let (Some(tombstone), true) = (held.deleted(record), unfinished(&rows).is_empty()) {
            panic!("{id} is here, and so is {tombstone}, which deletes it");
        }
    }
    readable(world, at, &held);
    evidence::holds(world, at, &held);
    evidence::lines(world, at, &held);
    evidence::log(world, at, &held);
}

/// What is alive can be found by its time, and by who compares.
fn indexed(world: &World, at: usize, held: &Stored, index: &BTreeSet<RecordId>, expiry: &BTreeSet<RecordId>) {
    for (key, _) in
        world.sites[at].store.rows().iter().filter(|(t, ..)| *t == Tree::Index).map(|r| (&r.1, &r.2))
    {
        let (record, bucket) = (&held.records[&id(key)], key[1..9].try_into().map(u64::from_be_bytes).ok());
        assert_eq!(bucket, Some(record.header().issued.as_secs() / BUCKET_SECS));
    }
    for (id, record) in &held.records {
        // The charter that founded the store is kept whatever happens; so is what is in force past its expiry.
        if *id == world.charter.id() || held.end(record) <= world.now {
            continue;
        }
        assert!(expiry.contains(id), "{id} would never expire");
        let submission = matches!(record.body(), Body::Envelope(e) if e.class == Class::Submission);
        assert_eq!(index.contains(id), !submission, "{id}, as anti-entropy sees it");
    }
}

/// Every question that a device or an operator may ask has an answer.
fn readable(world: &World, at: usize, held: &Stored) {
    let (site, own) = (&world.sites[at], &fixtures::trusts()[at]);
    let (view, network) = (&site.store, site.replica.network());
    let device = own.device.fingerprint();
    let mut after = 0;
    loop {
        let page = query::inbox(view, &network, &device, after, world.now).unwrap();
        for record in page.items.iter().filter_map(|item| item.record.as_ref()) {
            let record = Decoded::from_bytes(&record.bytes).unwrap();
            held.alive(&record, world.now, "shown");
        }
        let Some(last) = page.items.last() else { break };
        assert!(last.seq > after, "an inbox goes on");
        after = last.seq;
    }
    let mut ticks = BTreeMap::<RecordId, usize>::new();
    for (_, key, _) in view.rows().into_iter().filter(|(tree, ..)| *tree == Tree::Ticks) {
        *ticks.entry(RecordId::try_from(&key[..32]).unwrap()).or_default() += 1;
    }
    for (id, count) in ticks {
        let shown = query::ticks(view, &id).unwrap().expect("there are rows");
        assert_eq!(shown.custodians.len(), count, "how far a record has come is known of each custodian");
    }
    query::directory(view, &network, "", world.now).unwrap();
    assert!(!query::trust(view, None).unwrap().charter.is_empty());
    query::counts(view).unwrap();
    query::node_addresses(view).unwrap();
    for (_, head) in audit::newest_heads(view).unwrap() {
        assert!(held.records.contains_key(&head.record), "a head that is not here");
    }
    audit::contradictions(view).unwrap();
    let chain = audit::check::stored(view, &[]).unwrap();
    chain.unwrap_or_else(|broken| panic!("the audit log: {broken}"));
    audit::rows(view, Some(0), usize::MAX).unwrap().iter().for_each(|row| quiet(&row.entry));
}

/// After a tick nothing that has expired is left, but for what is in force until something newer comes.
pub(crate) fn ticked(world: &World, at: usize) {
    let held = Stored::of(&world.sites[at].store);
    let over = |record: &&Decoded| held.end(record) <= world.now;
    let in_force = |record: &Decoded| matches!(record.body().kind(), Kind::Charter | Kind::Crl);
    let left: Vec<_> = held.records.values().filter(over).filter(|r| !in_force(r)).collect();
    assert!(left.is_empty(), "{} expired records are left after a tick", left.len());
    evidence::holds(world, at, &held);
    evidence::ticked(world, at);
}

fn unfinished(rows: &[(Tree, Vec<u8>, Vec<u8>)]) -> Vec<&[u8]> {
    let meta = rows.iter().filter(|(tree, ..)| *tree == Tree::Meta);
    meta.map(|(_, key, _)| key.as_slice()).filter(|key| key.starts_with(b"erasing-")).collect()
}

/// The record in the last 32 bytes of a key or row.
pub(crate) fn id(key: &[u8]) -> RecordId {
    RecordId::new(*key.last_chunk::<32>().expect("it ends with a record's id"))
}

/// A moment that is far enough away from both ends of time to add to it.
pub(crate) fn middle(at: Timestamp) -> Timestamp {
    Timestamp::from_secs(at.as_secs().clamp(1, u64::MAX / 2))
}
