//! What must hold of deletions, seen from outside: what a hold keeps is nowhere else, the destruction log lists each deletion once,
//! and nobody counts as having erased without a signature that says so.

use std::collections::{BTreeMap, BTreeSet};

use lanyard_crypto::RecordId;
use lanyard_crypto::gateway::DeletionResponse;
use lanyard_crypto::record::{Body, Class, Decoded, DeviceLine, ReceiptItem, Target};
use lanyard_crypto::tally::{DeviceTally, ReplicaState, Tally};
use lanyard_replica::{hold, query};
use lanyard_storage::{MemoryStore, Tree, View};

use super::World;
use super::check::{Stored, id, trust_of};
use crate::fixtures;

/// Records that a hold keeps.
pub(crate) fn kept(store: &MemoryStore) -> BTreeMap<RecordId, Decoded> {
    let rows = store.rows().into_iter().filter(|(tree, ..)| *tree == Tree::Held);
    let decoded = rows.map(|(_, key, bytes)| {
        let record = Decoded::from_bytes(&bytes).expect("what is kept is a record");
        assert_eq!(record.id(), id(&key));
        (record.id(), record)
    });
    decoded.collect()
}

/// What holds keep has left every path, is of a conversation that was put on hold, and is not said to be erased.
pub(crate) fn holds(world: &World, at: usize, stored: &Stored) {
    let (store, kept) = (&world.sites[at].store, kept(&world.sites[at].store));
    let mut of = BTreeMap::new();
    for (id, record) in &kept {
        let Body::Envelope(envelope) = record.body() else { panic!("a hold keeps {id}, no envelope") };
        assert_ne!(envelope.class, Class::Submission, "a hold keeps a submission");
        assert!(world.holds[at].contains_key(&envelope.conversation), "a hold keeps {id}, never on hold");
        assert!(!stored.records.contains_key(id), "a hold keeps {id}, and so does what is served");
        assert_eq!(query::record_bytes(store, id).unwrap(), None, "{id} is kept, and shown to operators");
        assert_eq!(query::ticks(store, id).unwrap(), None, "{id} is kept, and has ticks");
        *of.entry(envelope.conversation.clone()).or_insert(0) += 1;
    }
    for (tree, key, row) in store.rows() {
        let named = match tree {
            Tree::Holdings | Tree::Index | Tree::Conversations | Tree::Expiry => id(&key),
            Tree::Outbox => id(&row),
            _ => continue,
        };
        assert!(!kept.contains_key(&named), "{named} is kept for a hold, and {tree:?} has it");
    }
    for shown in hold::holds(store).unwrap() {
        assert_eq!(shown.envelopes, of.remove(&shown.conversation).unwrap_or(0), "what the officer is shown");
    }
    assert!(of.is_empty(), "envelopes are kept for holds that nobody is shown");
    attested(world, at, stored, &kept);
}

/// What the replica itself attests to have erased it does not keep; and a standing order it attests when all of it has ended.
fn attested(world: &World, at: usize, stored: &Stored, kept: &BTreeMap<RecordId, Decoded>) {
    let own = fixtures::trusts()[at].node.fingerprint();
    for (id, record) in &stored.records {
        let Body::Receipt(receipt) = record.body() else { continue };
        if record.signer() != Some(own) || world.scripted.contains(id) {
            continue;
        }
        for item in &receipt.items {
            let ReceiptItem::Erased(erased) = item else { continue };
            let Some(order) = stored.records.get(&erased.tombstone) else { continue };
            let Some(by) = order.signer().and_then(trust_of) else { continue };
            for record in kept.values() {
                let named = stored.forces(order, &by, record) || stored.end_by(order, record).is_some();
                assert!(!named, "{} is said to be erased, and kept for a hold", record.id());
            }
            if let Body::Tombstone(tombstone) = order.body()
                && let Target::Standing(up_to, secs) = &tombstone.target
            {
                assert!(erased.erased >= up_to.plus_secs(*secs), "an order is attested before its end");
            }
        }
    }
}

/// After a tick nothing is kept for holds that are over.
pub(crate) fn ticked(world: &World, at: usize) {
    for (id, record) in kept(&world.sites[at].store) {
        let Body::Envelope(envelope) = record.body() else { continue };
        let until = world.holds[at].get(&envelope.conversation);
        assert!(until.is_some_and(|until| *until > world.now), "{id} is kept after the end of its hold");
    }
}

/// The log lists each deletion once, those of its own trust first, newest first; with each only what is proven.
pub(crate) fn log(world: &World, at: usize, stored: &Stored) {
    let (site, own) = (&world.sites[at], &fixtures::trusts()[at].id);
    let network = site.replica.network();
    let (mut listed, mut order) = (BTreeSet::new(), Vec::new());
    query::each_deletion(&site.store, &network, own, world.now, |deletion| {
        let record = Decoded::from_bytes(&deletion.record).expect("the log has records");
        let by = record.signer().and_then(trust_of).expect("a node of the three has signed it");
        assert!(listed.insert(deletion.tombstone), "{} is listed twice", deletion.tombstone);
        order.push((by == *own, record.header().issued, record.id()));
        proven(
            world,
            stored,
            &deletion,
            &Tally::of(&deletion, &mut (*network).clone()).expect("a tombstone"),
        );
        true
    })
    .unwrap();
    assert!(order.is_sorted_by(|a, b| a >= b), "own deletions come first, and each newest first");
    for (id, record) in &stored.records {
        if matches!(record.body(), Body::Tombstone(_)) {
            assert!(listed.contains(id), "{id} is in force, and not in the log");
        }
    }
}

/// Each that a tally counts has signed for it, in a record that is here.
fn proven(world: &World, stored: &Stored, deletion: &DeletionResponse, tally: &Tally) {
    assert_eq!(tally.id, deletion.tombstone);
    let mut seen = BTreeSet::new();
    for replica in &tally.replicas {
        assert!(seen.insert((&replica.trust, replica.node)), "a replica is counted twice");
        let says = |item: &ReceiptItem| match (item, &replica.state) {
            (ReceiptItem::Erased(item), ReplicaState::Erased(at, envelopes)) => {
                (item.erased, item.envelopes, item.devices) == (*at, *envelopes, replica.devices)
            }
            (ReceiptItem::Held(item), ReplicaState::Held(until, by)) => {
                (item.until, &item.reference) == (*until, by)
            }
            _ => false,
        };
        match replica.state {
            ReplicaState::Missing => assert_eq!(replica.devices, 0, "devices of who has not confirmed"),
            _ => assert!(stored.attests(&replica.trust, &tally.id, says), "nobody has signed that"),
        }
    }
    for devices in &tally.devices {
        of_devices(world, stored, tally, devices);
    }
    for devices in &tally.devices {
        let of_trust = tally.replicas.iter().filter(|r| r.trust == devices.trust);
        let told = of_trust.map(|r| r.devices).max().unwrap_or(0);
        let least = told.max(devices.erased + devices.waiting.len() as u32);
        // What is waited for counts only while the tally believes its signer, whose trust may have left since.
        let shown = deletion.devices.iter().filter(|shown| shown.trust == devices.trust);
        let most = shown.flat_map(|shown| &shown.waiting).filter_map(|attested| match &attested.item {
            ReceiptItem::Waiting(waiting) => Some((waiting.count, &attested.item)),
            _ => None,
        });
        let most = most.fold(least, |most, (count, item)| {
            let said = stored.attests(&devices.trust, &tally.id, |signed| signed == item);
            assert!(said, "nobody has signed that it waits");
            most.max(count)
        });
        assert!((least..=most).contains(&devices.total), "devices of which nobody has told");
    }
}

fn of_devices(world: &World, stored: &Stored, tally: &Tally, devices: &DeviceTally) {
    assert_eq!(devices.erased as usize, devices.confirmed.len(), "a device counts by its line alone");
    for (device, at) in &devices.confirmed {
        let of = fixtures::trusts().iter().find(|t| t.id == devices.trust).expect("it is one of the three");
        assert_eq!(device.device, of.device.fingerprint(), "another trust's device, or none");
        let says = |item: &ReceiptItem| match item {
            ReceiptItem::DeviceErased(item) => DeviceLine::from_bytes(&item.line).is_ok_and(|line| {
                line.verify(&of.device).is_ok()
                    && (line.network(), line.tombstone(), line.erased()) == (world.network, tally.id, *at)
            }),
            _ => false,
        };
        assert!(stored.attests(&devices.trust, &tally.id, says), "no device has signed that");
    }
}

/// Lines that a replica keeps or attests of its own trust's device are the device's own.
pub(crate) fn lines(world: &World, at: usize, stored: &Stored) {
    let own = &fixtures::trusts()[at];
    for (id, record) in &stored.records {
        let Body::Receipt(receipt) = record.body() else { continue };
        if record.signer() != Some(own.node.fingerprint()) || world.scripted.contains(id) {
            continue;
        }
        for item in &receipt.items {
            if let ReceiptItem::DeviceErased(item) = item {
                let line = DeviceLine::from_bytes(&item.line).expect("what is attested is a line");
                assert!(
                    line.verify(&own.device).is_ok(),
                    "a line that its device has not signed is attested"
                );
                assert_eq!((line.network(), line.tombstone()), (world.network, item.tombstone));
            }
        }
    }
    assert!(query::overdue(&world.sites[at].store as &dyn View, usize::MAX).is_ok());
}
