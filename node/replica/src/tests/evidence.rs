//! What a node that lies can do to the evidence of others' deletions: fill their logs, name what nobody ordered, say what is not so. The
//! scene is that of [`super::destruction`]: RXB orders.

use lanyard_crypto::record::{Body, Decoded, DeviceErased, DeviceLine, Erased, Receipt, ReceiptItem};
use lanyard_crypto::{Fingerprint, RecordId};
use lanyard_storage::{Batch, Store, Tree, View};

use super::destruction::{Scene, scene};
use super::fixtures::{self, DAY, RETENTION, named};
use crate::limits::{EARLY_RECEIPTS_MAX, LOGGED_PER_TRUST_MAX};
use crate::{Own, Replica, keys, query};

const ALL: [usize; 3] = [0, 1, 2];

/// A tombstone of this trust for a message that nobody has, at RXB.
fn junk(s: &mut Scene, by: usize, n: u8) -> RecordId {
    junk_for(s, by, RecordId::new([n; 32]))
}

fn junk_for(s: &mut Scene, by: usize, message: RecordId) -> RecordId {
    let header = s.world.header(&ALL, RETENTION + DAY);
    let order = s.world.trusts[by].sign(header, fixtures::tombstone(&s.conversation, named(&[message])));
    assert_eq!(s.world.bring(1, by, &order), None);
    order.id()
}

/// The log of RXB's node, as it is listed, at most so many.
fn listed(s: &Scene, limit: usize) -> Vec<RecordId> {
    let node = &s.world.nodes[1];
    let own = &s.world.trusts[1].id;
    let listed = query::deletions(&node.store, &node.replica.network(), own, limit, s.world.now).unwrap();
    listed.into_iter().map(|deletion| deletion.tombstone).collect()
}

/// A receipt of RXC's node for RXB.
fn receipt(s: &Scene, items: Vec<ReceiptItem>) -> Decoded {
    let header = s.world.header(&[1, 2], DAY);
    s.world.trusts[2].sign(header, Body::Receipt(Receipt { items: Receipt::sorted(items) }))
}

fn erased(tombstone: RecordId) -> ReceiptItem {
    ReceiptItem::Erased(Erased { tombstone, erased: fixtures::NOW, envelopes: 1, devices: 0 })
}

#[test]
fn what_others_order_does_not_hide_what_this_trust_has_ordered() {
    let mut s = scene();
    let own = s.delete();
    let mut others: Vec<_> = (1..=5)
        .map(|n| {
            s.world.now = s.world.now.plus_secs(1);
            junk(&mut s, 0, n)
        })
        .collect();
    others.reverse();
    assert_eq!(listed(&s, 3), [&[own][..], &others[..2]].concat());
    let node = &s.world.nodes[1];
    let trust = &s.world.trusts[1].id;
    let (mut after, mut all) = (None, Vec::new());
    for _ in 0..10 {
        let mut next = None;
        let each = |place: &[u8], deletion: lanyard_crypto::gateway::DeletionResponse| {
            next = Some(place.to_vec());
            all.push(deletion.tombstone);
            false
        };
        let network = node.replica.network();
        query::each_deletion(&node.store, &network, trust, after.as_deref(), s.world.now, each).unwrap();
        if next.is_none() {
            break;
        }
        after = next;
    }
    assert_eq!(all, [vec![own], others].concat(), "one at a time, each once");
}

#[test]
fn an_order_without_force_leaves_nothing_in_the_log() {
    let mut s = scene();
    let before = s.world.rows(1, Tree::Deletions);
    let message = s.world.message(1, &s.conversation, 2, &ALL);
    let order = junk_for(&mut s, 2, message.id());
    assert_eq!(listed(&s, 10), [order]);
    s.world.submit(1, &message).unwrap();
    assert!(s.world.holds(1, &message.id()), "who ordered may not delete it");
    assert_eq!(listed(&s, 10), []);
    // That a device was to erase is not told any more.
    s.world.pass(30);
    assert_eq!(s.world.rows(1, Tree::Deletions), before);
}

#[test]
fn anothers_order_that_erased_nothing_leaves_the_log_with_its_tombstone() {
    let mut s = scene();
    let own = s.delete();
    s.world.settle();
    let order = junk(&mut s, 0, 7);
    s.world.settle();
    assert_eq!(listed(&s, 10), [own, order]);
    s.world.pass(RETENTION + 2 * DAY);
    s.world.pass(60);
    assert_eq!(listed(&s, 10), [own]);
    let node = &s.world.nodes[2];
    let network = node.replica.network();
    let kept = query::deletion(&node.store, &network, &own, s.world.now).unwrap();
    assert!(kept.is_some(), "it has erased something there");
}

#[test]
fn one_trust_can_fill_only_so_much_of_the_log() {
    let mut s = scene();
    let first = junk(&mut s, 0, 1);
    s.world.now = s.world.now.plus_secs(1);
    // As if there were so many of RXA's.
    let mut full = Batch::new();
    let count = keys::log_count(&s.world.trusts[0].id);
    full.put(Tree::Deletions, count.clone(), LOGGED_PER_TRUST_MAX.to_be_bytes());
    s.world.nodes[1].store.commit(full).unwrap();
    let others = junk(&mut s, 2, 2);
    let last = junk(&mut s, 0, 3);
    let kept = listed(&s, 10);
    assert!(kept.contains(&last) && kept.contains(&others) && !kept.contains(&first));
    let row = s.world.nodes[1].store.get(Tree::Deletions, &count).unwrap().unwrap();
    assert_eq!(row, LOGGED_PER_TRUST_MAX.to_be_bytes());
}

#[test]
fn a_receipt_for_what_is_not_known_here_has_no_place_in_the_tally() {
    let mut s = scene();
    let (tally, before) = (s.world.rows(1, Tree::Tally), s.world.rows(1, Tree::Deletions));
    for part in 0..4u8 {
        let items = (0..400u16).map(|n| {
            let mut id = [part; 32];
            id[..2].copy_from_slice(&n.to_be_bytes());
            erased(RecordId::new(id))
        });
        let receipt = receipt(&s, items.collect());
        assert_eq!(s.world.bring(1, 2, &receipt), None);
    }
    assert_eq!(s.world.rows(1, Tree::Tally), tally);
    assert_eq!(s.world.rows(1, Tree::Deletions) - before, EARLY_RECEIPTS_MAX);
    // After a day there is room for others.
    s.world.now = s.world.now.plus_secs(DAY + 1);
    let receipt = receipt(&s, vec![erased(RecordId::new([200; 32]))]);
    assert_eq!(s.world.bring(1, 2, &receipt), None);
    assert_eq!(s.world.rows(1, Tree::Deletions) - before, 1);
}

#[test]
fn a_receipt_that_comes_before_its_tombstone_counts_when_that_has_come() {
    let mut s = scene();
    let header = s.world.header(&ALL, RETENTION + DAY);
    let order = s.world.trusts[1].sign(header, fixtures::tombstone(&s.conversation, named(&[s.message])));
    let receipt = receipt(&s, vec![erased(order.id())]);
    assert_eq!(s.world.bring(1, 2, &receipt), None);
    s.world.submit(1, &order).unwrap();
    assert_eq!(s.tally(&order.id()).confirmed(), 2, "its own, and that one");
}

#[test]
fn what_could_not_be_signed_when_it_was_due_is_attested_later() {
    let mut s = scene();
    s.world.isolate(2);
    // As if its certificate had lapsed.
    let own = Own { certificate: Fingerprint::new([0; 32]), ..s.world.trusts[2].own() };
    s.world.nodes[2].replica = Replica::open(&s.world.nodes[2].store, own, &s.world.charter).unwrap();
    s.world.connect_all();
    let tombstone = s.delete();
    s.world.settle();
    let line = s.line(0, &tombstone);
    s.hands_in(0, line).unwrap();
    s.world.pass(60);
    s.world.pass(60);
    assert!(!s.world.holds(2, &s.message));
    assert_eq!(
        s.summary(&tombstone),
        "replicas 2 of 3, devices 0 of 1, waiting for: RXB Clinician 73, never seen"
    );
    let events = s.world.audit(2);
    let unsigned = events.iter().filter(|entry| entry.event == "receipt-unsigned").count();
    assert!((1..=3).contains(&unsigned), "{unsigned}: once when it was due, and not with each attempt");

    s.world.restart(2);
    s.world.connect_all();
    s.world.pass(1);
    s.world.pass(1);
    let tally = s.tally(&tombstone);
    assert_eq!(tally.confirmed(), 3);
    assert_eq!(
        tally.devices.iter().map(|d| (d.erased, d.total)).collect::<Vec<_>>(),
        [(0, 0), (0, 1), (1, 2)]
    );
    let left = s.world.nodes[2].store.scan_prefix(Tree::Deletions, &[keys::UNSIGNED], 10).unwrap();
    assert!(left.is_empty());
}

#[test]
fn a_line_that_does_not_verify_is_passed_over_and_the_rest_of_its_receipt_counts() {
    let mut s = scene();
    let tombstone = s.delete();
    let (key, tablet, of_b) = (&s.devices[0].1, &s.devices[1].2, &s.devices[2]);
    let forged = DeviceLine::sign(s.world.network, tombstone, s.world.now, tablet.fingerprint(), key);
    let of_another = DeviceLine::sign(s.world.network, tombstone, s.world.now, of_b.2.fingerprint(), &of_b.1);
    let unknown = DeviceLine::sign(s.world.network, tombstone, s.world.now, Fingerprint::new([8; 32]), key);
    let mut items = vec![erased(tombstone)];
    for line in [forged, of_another, unknown] {
        items.push(ReceiptItem::DeviceErased(DeviceErased { tombstone, line: line.bytes().to_vec() }));
    }
    let receipt = receipt(&s, items);
    assert_eq!(s.world.bring(1, 2, &receipt).as_deref(), Some("bad-line"));
    let tally = s.tally(&tombstone);
    assert_eq!(tally.confirmed(), 2, "its own, and that one");
    assert!(tally.devices.iter().all(|d| d.confirmed.is_empty()));
}
