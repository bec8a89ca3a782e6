//! What must hold of a replica, seen from outside: of each batch, of each output, and of everything that is stored.

use std::collections::{BTreeMap, BTreeSet};

use lanyard_crypto::gateway::DeletionResponse;
use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::record::{Body, Class, Decoded, Kind, Target};
use lanyard_crypto::tally::Tally;
use lanyard_crypto::{Fingerprint, RecordId, Timestamp, TrustId};
use lanyard_replica::frame::Frame;
use lanyard_replica::limits::{
    AUDIT_DETAIL_BYTES_MAX, BUCKET_SECS, FRAME_BYTES_MAX, RECORD_CHANGES_MAX, STEP_CHANGES_MAX,
};
use lanyard_replica::{Output, audit, query};
use lanyard_storage::{Batch, MemoryStore, Tree};

use super::World;
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
            assert!(record.header().expires > world.now, "an expired record is gossiped");
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
    let held = Held::of(&world.sites[at].store);
    for bytes in records {
        let record = Decoded::from_bytes(bytes).expect("what is served is a record");
        assert!(record.header().expires > world.now, "an expired record is served");
        may_have(&record, to);
        assert!(held.deleted(&record).is_none(), "a deleted record is served");
    }
}

/// What waits in an outbox, as the driver reads it: the same, but that it may have expired since the last tick.
pub(crate) fn waiting(world: &World, at: usize, to: usize, frame: &Frame) {
    let Frame::Records(records) = frame else { return };
    assert!(frame.to_bytes().len() <= FRAME_BYTES_MAX);
    let held = Held::of(&world.sites[at].store);
    for bytes in records {
        let record = Decoded::from_bytes(bytes).expect("what is sent is a record");
        may_have(&record, to);
        assert!(held.deleted(&record).is_none(), "a deleted record is sent");
        assert!(record.header().expires > world.now, "an expired record is sent");
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
struct Held {
    records: BTreeMap<RecordId, Decoded>,
    /// Tombstones, with the trust that signed each.
    orders: Vec<(RecordId, TrustId)>,
}

impl Held {
    fn of(store: &MemoryStore) -> Self {
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
        Self { records, orders }
    }

    /// The tombstone here that has force over this record.
    fn deleted(&self, record: &Decoded) -> Option<RecordId> {
        let Body::Envelope(envelope) = record.body() else { return None };
        if envelope.class != Class::Application {
            return None;
        }
        let sender = record.signer().and_then(trust_of);
        let forceful = |(id, by): &&(RecordId, TrustId)| {
            let order = &self.records[id];
            let Body::Tombstone(tombstone) = order.body() else { return false };
            let margin = 2 * CLOCK_SKEW_SECS_MAX;
            tombstone.conversation == envelope.conversation
                && (sender.as_ref() == Some(by) || envelope.conversation.owner() == by)
                && match &tombstone.target {
                    Target::UpTo(up_to) => record.header().issued <= *up_to,
                    Target::Standing(..) => false,
                    Target::Envelopes(ids) => {
                        ids.contains(&record.id())
                            && order.header().expires >= record.header().expires.plus_secs(margin)
                    }
                }
        };
        self.orders.iter().find(forceful).map(|(id, _)| *id)
    }
}

/// Whose node has the certificate with this fingerprint.
fn trust_of(signer: Fingerprint) -> Option<TrustId> {
    fixtures::trusts().iter().find(|t| t.node.fingerprint() == signer).map(|t| t.id.clone())
}

/// Rows agree with each other, nothing is here that should not be, and everything can be read.
pub(crate) fn store(world: &World, at: usize) {
    let (site, own) = (&world.sites[at], &fixtures::trusts()[at]);
    let (rows, held) = (site.store.rows(), Held::of(&site.store));
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
    readable(world, at);
}

/// What is alive can be found by its time, and by who compares.
fn indexed(world: &World, at: usize, held: &Held, index: &BTreeSet<RecordId>, expiry: &BTreeSet<RecordId>) {
    for (key, _) in
        world.sites[at].store.rows().iter().filter(|(t, ..)| *t == Tree::Index).map(|r| (&r.1, &r.2))
    {
        let (record, bucket) = (&held.records[&id(key)], key[1..9].try_into().map(u64::from_be_bytes).ok());
        assert_eq!(bucket, Some(record.header().issued.as_secs() / BUCKET_SECS));
    }
    for (id, record) in &held.records {
        // The charter that founded the store is kept whatever happens; so is what is in force past its expiry.
        if *id == world.charter.id() || record.header().expires <= world.now {
            continue;
        }
        assert!(expiry.contains(id), "{id} would never expire");
        let submission = matches!(record.body(), Body::Envelope(e) if e.class == Class::Submission);
        assert_eq!(index.contains(id), !submission, "{id}, as anti-entropy sees it");
    }
}

/// Every question that a device or an operator may ask has an answer.
fn readable(world: &World, at: usize) {
    let (site, own) = (&world.sites[at], &fixtures::trusts()[at]);
    let (view, network) = (&site.store, site.replica.network());
    let device = own.device.fingerprint();
    let (held, mut after) = (Held::of(view), 0);
    loop {
        let page = query::inbox(view, &network, &device, after, world.now).unwrap();
        for record in page.items.iter().filter_map(|item| item.record.as_ref()) {
            let record = Decoded::from_bytes(&record.bytes).unwrap();
            assert!(record.header().expires > world.now, "an expired record is shown");
            assert!(held.deleted(&record).is_none(), "a deleted record is shown");
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
    let deletions = query::deletions(view, &network, &own.id, usize::MAX, world.now).unwrap();
    let own = |d: &DeletionResponse| Tally::of(d, &mut (*network).clone()).is_ok();
    assert!(deletions.iter().all(own), "the log holds tombstones");
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
    let held = Held::of(&world.sites[at].store);
    let over = |record: &&Decoded| record.header().expires <= world.now;
    let in_force = |record: &Decoded| matches!(record.body().kind(), Kind::Charter | Kind::Crl);
    let left: Vec<_> = held.records.values().filter(over).filter(|r| !in_force(r)).collect();
    assert!(left.is_empty(), "{} expired records are left after a tick", left.len());
}

fn unfinished(rows: &[(Tree, Vec<u8>, Vec<u8>)]) -> Vec<&[u8]> {
    let meta = rows.iter().filter(|(tree, ..)| *tree == Tree::Meta);
    meta.map(|(_, key, _)| key.as_slice()).filter(|key| key.starts_with(b"erasing-")).collect()
}

/// The record in the last 32 bytes of a key or row.
fn id(key: &[u8]) -> RecordId {
    RecordId::new(*key.last_chunk::<32>().expect("it ends with a record's id"))
}

/// A moment that is far enough away from both ends of time to add to it.
pub(crate) fn middle(at: Timestamp) -> Timestamp {
    Timestamp::from_secs(at.as_secs().clamp(1, u64::MAX / 2))
}
