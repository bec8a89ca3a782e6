//! What a node that lies can do to the evidence of others' deletions: fill their logs, name what nobody ordered, say what is not so. The
//! scene is that of [`super::destruction`]: RXB orders.

use lanyard_crypto::record::{Body, Decoded, DeviceErased, DeviceLine, Erased, Receipt, ReceiptItem};
use lanyard_crypto::tally::Tally;
use lanyard_crypto::{Fingerprint, RecordId, cbor};
use lanyard_storage::{Batch, Store, Tree, View};

use super::destruction::{Scene, scene};
use super::fixtures::{self, DAY, RETENTION, named};
use crate::limits::{AUDIT_TRUST_BURST, EARLY_RECEIPTS_MAX, LOGGED_PER_TRUST_MAX};
use crate::tally::deletion_within;
use crate::{Own, Replica, Source, keys, query};

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
            junk(&mut s, if n % 2 == 0 { 2 } else { 0 }, n)
        })
        .collect();
    others.reverse();
    assert_eq!(s.world.deletions(1, 3), [&[own][..], &others[..2]].concat());
    assert_eq!(s.world.deletions(1, 10), [vec![own], others].concat(), "newest first, whoever ordered");
}

#[test]
fn what_is_shown_of_a_deletion_fits_and_what_does_not_is_counted_and_never_confirmed() {
    let mut s = scene();
    let tombstone = s.delete();
    s.world.settle();
    for device in [0, 1] {
        let line = s.line(device, &tombstone);
        s.hands_in(device, line).unwrap();
    }
    s.world.pass(60);
    let node = &s.world.nodes[1];
    let network = node.replica.network();
    let shown = |room: (usize, usize)| {
        let answer = deletion_within(room, &node.store, &network, &tombstone, s.world.now).unwrap().unwrap();
        let tally = Tally::of(&answer, &mut (*network).clone()).unwrap();
        assert!(tally.problems.is_empty(), "{:?}", tally.problems);
        (answer, tally)
    };
    let (whole, all) = shown((usize::MAX / 2, usize::MAX / 2));
    assert_eq!((all.confirmed(), all.devices.iter().map(|d| d.confirmed.len()).sum::<usize>()), (3, 2));
    let most = cbor::to_vec(&whole.replicas).len() + cbor::to_vec(&whole.devices).len();
    let (mut cut, mut left_out) = (0, 0);
    for room in (0..most).step_by(97) {
        let (answer, tally) = shown((room, 0));
        let (replicas, devices) = (cbor::to_vec(&answer.replicas).len(), cbor::to_vec(&answer.devices).len());
        assert!(replicas + devices <= room + 3 * 512, "{replicas} and {devices} bytes in {room}");
        assert_eq!(tally.replicas.len(), 3, "each trust stands in it");
        let complete = answer.replicas.iter().all(|r| r.erased.is_some());
        assert_eq!(tally.confirmed() == 3, complete);
        cut += usize::from(!complete);
        let devices = tally.devices.iter().map(|d| d.erased + d.more).sum::<u32>();
        assert_eq!(devices, 2, "those that are not listed are counted apart");
        left_out += usize::from(answer.devices.iter().any(|d| d.more > 0));
    }
    assert!(cut > 0 && left_out > cut, "{cut}, {left_out}");
    assert_eq!(query::deletion(&node.store, &network, &tombstone, s.world.now).unwrap(), Some(whole));
}

#[test]
fn an_order_without_force_leaves_nothing_in_the_log() {
    let mut s = scene();
    let before = s.world.rows(1, Tree::Deletions);
    let message = s.world.message(1, &s.conversation, 2, &ALL);
    let order = junk_for(&mut s, 2, message.id());
    assert_eq!(s.world.deletions(1, 10), [order]);
    s.world.submit(1, &message).unwrap();
    assert!(s.world.holds(1, &message.id()), "who ordered may not delete it");
    assert_eq!(s.world.deletions(1, 10), []);
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
    assert_eq!(s.world.deletions(1, 10), [own, order]);
    s.world.pass(RETENTION + 2 * DAY);
    s.world.pass(60);
    assert_eq!(s.world.deletions(1, 10), [own]);
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
    let kept = s.world.deletions(1, 10);
    assert!(kept.contains(&last) && kept.contains(&others) && !kept.contains(&first));
    // What says that it is older is entered all the same, and another one gives way.
    s.world.now = s.world.now.minus_secs(60);
    let backdated = junk(&mut s, 0, 4);
    s.world.now = s.world.now.plus_secs(60);
    let kept = s.world.deletions(1, 10);
    assert!(kept.contains(&backdated) && kept.contains(&others) && !kept.contains(&last));
    let row = s.world.nodes[1].store.get(Tree::Deletions, &count).unwrap().unwrap();
    assert_eq!(row, LOGGED_PER_TRUST_MAX.to_be_bytes());
}

#[test]
fn of_what_one_trust_has_ordered_that_stays_which_has_erased_something() {
    let mut s = scene();
    let header = s.world.header(&ALL, RETENTION + DAY);
    let real = s.world.trusts[0].sign(header, fixtures::tombstone(&s.conversation, named(&[s.message])));
    assert_eq!(s.world.bring(1, 0, &real), None);
    assert!(!s.world.holds(1, &s.message));
    s.world.now = s.world.now.plus_secs(1);
    let older = junk(&mut s, 0, 1);
    let mut full = Batch::new();
    full.put(Tree::Deletions, keys::log_count(&s.world.trusts[0].id), LOGGED_PER_TRUST_MAX.to_be_bytes());
    s.world.nodes[1].store.commit(full).unwrap();
    s.world.now = s.world.now.plus_secs(1);
    let newer = junk(&mut s, 0, 2);
    assert_eq!(s.world.deletions(1, 10), [newer, real.id()]);
    // What is left of the other one goes with it.
    s.world.pass(RETENTION + DAY);
    s.world.pass(60);
    assert!(!s.world.holds(1, &older));
    // The row, its place, its end, and the count; and the device that was to erase.
    assert_eq!(s.world.rows(1, Tree::Deletions), 5);
}

#[test]
fn lines_that_are_not_believed_cannot_fill_the_audit_log() {
    let mut s = scene();
    let tombstone = s.delete();
    s.world.settle();
    let key = fixtures::key(9);
    let bad: Vec<_> = (0..AUDIT_TRUST_BURST / 2 + 2)
        .map(|part| {
            let lines = s.devices[..2].iter().map(|(_, _, certificate)| {
                let at = s.world.now.plus_secs(part);
                let line = DeviceLine::sign(s.world.network, tombstone, at, certificate.fingerprint(), &key);
                ReceiptItem::DeviceErased(DeviceErased { tombstone, line: line.bytes().to_vec() })
            });
            receipt(&s, lines.collect())
        })
        .collect();
    for receipt in &bad {
        s.world.arrive(1, Source::Peer(s.world.trusts[2].node_id()), &[receipt.bytes().to_vec()]);
    }
    let refused = s.world.audit(1).into_iter().filter(|entry| entry.code == "bad-line").count() as u64;
    assert_eq!(refused, AUDIT_TRUST_BURST);
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
