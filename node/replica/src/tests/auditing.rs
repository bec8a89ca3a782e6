//! The audit log as a chain: that it goes on through steps and restarts, gives way at its old end, and shows what was done to it.

use lanyard_crypto::record::{Body, Head};
use lanyard_crypto::{AuditHash, NodeId, RecordId, Timestamp, cbor};
use lanyard_storage::{Batch, MemoryStore, Store, Tree, View};
use proptest::prelude::*;

use super::fixtures::{self, DAY, NOW, RETENTION};
use super::world::World;
use crate::audit::check::{self, Broken, Holder, Stated, Walk};
use crate::audit::{self, AuditEntry, Place, Row};
use crate::limits::{
    AUDIT_COUNT_SECS, AUDIT_ENTRIES_MAX, AUDIT_LIFE_SECS, AUDIT_TRUST_BURST, AUDIT_TRUST_EVERY_SECS,
};
use crate::turn::Turn;
use crate::{Input, OpenError, Replica, Source, arrival, found, upgrade};

fn note(n: u64) -> AuditEntry {
    AuditEntry::new("noted", "", format!("number {n}"))
}

fn stated(place: Place, dropped: u64, holder: Holder) -> Stated {
    Stated { place, dropped, signed: NOW, holder }
}

/// By tests/tests/python/audit.py, which was made from docs/reference/audit.md alone.
#[test]
fn hashes_are_those_of_the_documents() {
    let plain = AuditEntry { at: NOW, ..AuditEntry::new("started", "first", "version 0.1.0") };
    let full = AuditEntry::new("refused", "bad-signature", "ä").node(lanyard_crypto::NodeId::new([7; 32]));
    let full = full
        .trust("RXA".parse().unwrap())
        .address("192.0.2.1")
        .record(lanyard_crypto::RecordId::new([8; 32]));
    let (first, second) = (Place::START.then(&plain), Place::START.then(&plain).then(&full));
    assert_eq!(first.hash.to_string(), "a60acb816851abff5b282d2df9d38f4e94c6ec4beec11bc5a26e6510eb3db48b");
    assert_eq!(second.hash.to_string(), "3633f1cfb727c56d7b999ef7a4076e2d6ab685e955a53237cd2f6881b4b0ce2e");
}

#[test]
fn the_chain_goes_on_through_steps_and_restarts() {
    let mut world = World::three();
    let before = audit::last(&world.nodes[0].store).unwrap();
    assert!(before.number > 0, "connections are noted");
    for n in 0..5 {
        world.step(0, Input::Note(note(n)));
    }
    world.restart(0);
    world.step(0, Input::Note(note(5)));
    let store = &world.nodes[0].store;
    let sound = check::stored(store, &[stated(before, 0, Holder::Own)]).unwrap().unwrap();
    assert_eq!((sound.last, sound.own_heads), (audit::last(store).unwrap(), 1));
    let rows = audit::rows(store, Some(0), 1000).unwrap();
    assert_eq!(rows.last().unwrap().place, sound.last);
    assert!(rows.iter().map(|row| row.place.number).eq(1..=sound.last.number));
}

#[test]
fn a_step_that_is_not_committed_leaves_no_trace() {
    let mut world = World::three();
    let now = world.now;
    let node = &mut world.nodes[0];
    let last = audit::last(&node.store).unwrap();
    let lost = node.replica.step(Input::Note(note(1)), now, &node.store).unwrap();
    drop(lost);
    assert_eq!(audit::last(&node.store).unwrap(), last);
    world.step(0, Input::Note(note(2)));
    assert_eq!(check::stored(&world.nodes[0].store, &[]).unwrap().unwrap().last.number, last.number + 1);
}

#[test]
fn no_trust_fills_the_log_by_what_its_nodes_send() {
    let mut world = World::three();
    let before = world.audit(0).len() as u64;
    let expired = |n: u64| {
        let header = fixtures::for_all(world.network, NOW.minus_secs(1000 + n), 1);
        let head = Head { number: 1 + n, hash: AuditHash::new([9; 32]), dropped: 0 };
        world.trusts[1].sign(header, Body::Head(head)).bytes().to_vec()
    };
    let sent = AUDIT_TRUST_BURST + 500;
    let records: Vec<_> = (0..sent).map(expired).collect();
    let from = world.trusts[1].node_id();
    records.chunks(100).for_each(|some| world.arrive(0, Source::Peer(from), some));
    let refused = |world: &World| world.audit(0).iter().filter(|e| e.event == "refused").count() as u64;
    assert_eq!(refused(&world), AUDIT_TRUST_BURST);
    // Another node of the trust has no share of its own.
    let sibling = NodeId::new([77; 32]);
    let (trust, chain) = (world.trusts[1].id.clone(), world.trusts[1].chain(&world.trusts[1].node));
    let arrivals = arrival::verify(vec![arrival::decode(&records[0])], &world.nodes[0].replica.network());
    let (now, node) = (world.now, &mut world.nodes[0]);
    for input in [
        Input::Connected { node: sibling, trust: trust.clone(), chain },
        Input::Records { from: Source::Peer(sibling), arrivals },
        Input::Disconnected(sibling),
    ] {
        node.store.commit(node.replica.step(input, now, &node.store).unwrap().batch).unwrap();
    }
    assert_eq!(refused(&world), AUDIT_TRUST_BURST);
    // Another trust, and a while later this one, have.
    world.arrive(0, Source::Peer(world.trusts[2].node_id()), &records[..1]);
    world.now = world.now.plus_secs(AUDIT_TRUST_EVERY_SECS);
    world.arrive(0, Source::Peer(from), &records[..2]);
    assert_eq!(refused(&world), AUDIT_TRUST_BURST + 2);
    world.now = world.now.plus_secs(AUDIT_COUNT_SECS);
    (0..2).for_each(|_| world.step(0, Input::Tick));
    let counted: Vec<_> = world.audit(0).into_iter().filter(|e| e.event == audit::COUNTED).collect();
    assert_eq!((counted.len(), &counted[0].trust), (1, &Some(trust)));
    assert!(counted[0].detail.starts_with("502 more"), "{}", counted[0].detail);
    // With the two that say that the sibling came and went.
    assert!(world.audit(0).len() as u64 <= before + AUDIT_TRUST_BURST + 4 + 2);
}

#[test]
fn no_trust_fills_the_log_by_what_it_orders_and_what_is_ordered_here_is_always_entered() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let orders = |world: &World, by: usize, count: u64| -> Vec<_> {
        let header = || world.header(&[0, 1], RETENTION + DAY);
        let order = |n: u64| {
            let message = RecordId::try_from([n.to_be_bytes(); 4].concat().as_slice()).unwrap();
            world.trusts[by].sign(header(), fixtures::tombstone(&conversation, fixtures::named(&[message])))
        };
        (0..count).map(order).collect()
    };
    let from = world.trusts[1].node_id();
    let foreign = orders(&world, 1, AUDIT_TRUST_BURST + 3);
    let bytes: Vec<_> = foreign.iter().map(|order| order.bytes().to_vec()).collect();
    bytes.chunks(100).for_each(|some| world.arrive(0, Source::Peer(from), some));
    for order in orders(&world, 0, 2) {
        world.submit(0, &order).unwrap();
    }
    let entered = |world: &World, event: &str| -> Vec<_> {
        world.audit(0).into_iter().filter(|entry| entry.event == event).collect()
    };
    let ordered = entered(&world, "deletion-ordered");
    let (own, trust) = (Some(world.trusts[0].id.clone()), Some(world.trusts[1].id.clone()));
    let by = |of| ordered.iter().filter(|entry| entry.trust == of).count() as u64;
    assert_eq!((by(trust.clone()), by(own)), (AUDIT_TRUST_BURST, 2));
    world.now = world.now.plus_secs(AUDIT_COUNT_SECS);
    world.step(0, Input::Tick);
    let counted = entered(&world, audit::DELETIONS_COUNTED);
    assert_eq!((counted.len(), &counted[0].trust), (1, &trust));
    assert!(counted[0].detail.starts_with("3 more"), "{}", counted[0].detail);
    assert_eq!(
        world.deletions(0, usize::MAX).len() as u64,
        AUDIT_TRUST_BURST + 3 + 2,
        "the destruction log has each"
    );
}

#[test]
fn the_old_end_gives_way_by_number() {
    let store = MemoryStore::new();
    let mut turn = Turn::new(&store, NOW, usize::MAX);
    let over = 7;
    for n in 0..AUDIT_ENTRIES_MAX + over {
        audit::append(&mut turn, note(n)).unwrap();
    }
    let batch = turn.finish().unwrap().batch;
    let gone = audit::rows(&lanyard_storage::Overlay::with(&store, batch), Some(0), 1).unwrap();
    assert_eq!(gone[0].place.number, over + 1);
}

#[test]
fn the_old_end_gives_way_by_age_and_the_rest_is_still_followed() {
    let mut world = World::three();
    (0..5).for_each(|n| world.step(0, Input::Note(note(n))));
    let old = audit::last(&world.nodes[0].store).unwrap();
    world.now = world.now.plus_secs(100);
    (0..3).for_each(|n| world.step(0, Input::Note(note(n))));
    world.now = world.now.plus_secs(AUDIT_LIFE_SECS - 50);
    world.step(0, Input::Tick);
    let store = &world.nodes[0].store;
    assert_eq!(audit::dropped(store).unwrap(), old);
    let sound = check::stored(store, &[stated(old, 0, Holder::Other)]).unwrap().unwrap();
    assert_eq!((sound.dropped, sound.other_heads), (old.number, 1));
    assert!(sound.last.number >= old.number + 3);
}

#[test]
fn a_row_that_cannot_be_read_does_not_keep_those_behind_it() {
    let mut world = World::three();
    (0..5).for_each(|n| world.step(0, Input::Note(note(n))));
    let old = audit::last(&world.nodes[0].store).unwrap();
    let mut spoilt = Batch::new();
    spoilt.put(Tree::Audit, (old.number - 2).to_be_bytes(), [1]);
    world.nodes[0].store.commit(spoilt).unwrap();
    world.now = world.now.plus_secs(AUDIT_LIFE_SECS + 1);
    world.step(0, Input::Tick);
    assert_eq!(audit::dropped(&world.nodes[0].store).unwrap(), old);
}

#[test]
fn rows_of_an_earlier_version_become_a_chain() {
    let world = World::three();
    let store = MemoryStore::new();
    store.commit(found(&store, &world.charter).unwrap()).unwrap();
    let (first, count) = (40u64, 9000u64);
    for numbers in (first..first + count).collect::<Vec<_>>().chunks(3000) {
        let mut batch = Batch::new();
        for n in numbers {
            let entry = AuditEntry { at: Timestamp::from_secs(*n), ..note(*n) };
            batch.put(Tree::Audit, n.to_be_bytes(), cbor::to_vec(&entry));
        }
        store.commit(batch).unwrap();
    }
    let mut batch = Batch::new();
    batch.put(Tree::Meta, "next-audit", (first + count).to_be_bytes());
    store.commit(batch).unwrap();
    let own = world.trusts[0].own();
    assert!(matches!(Replica::open(&store, own.clone(), &world.charter), Err(OpenError::Earlier)));
    let mut batches = 0;
    while let Some(batch) = upgrade(&store).unwrap() {
        store.commit(batch).unwrap();
        batches += 1;
    }
    assert!(batches > 1, "an upgrade that is cut off goes on");
    let mut replica = Replica::open(&store, own, &world.charter).unwrap();
    let step = replica.step(Input::Note(note(0)), NOW, &store).unwrap();
    store.commit(step.batch).unwrap();
    let sound = check::stored(&store, &[]).unwrap().unwrap();
    assert_eq!((sound.dropped, sound.last.number), (first - 1, first + count));
    let rows = audit::rows(&store, Some(first), 1).unwrap();
    assert_eq!(rows[0].entry.detail, format!("number {}", first + 1));
}

#[test]
fn a_changed_disk_is_found_and_the_row_is_named() {
    let mut world = World::three();
    (0..9).for_each(|n| world.step(0, Input::Note(note(n))));
    let store = &world.nodes[0].store;
    let last = audit::last(store).unwrap();
    for number in 1..=last.number {
        let key = number.to_be_bytes();
        let row = store.get(Tree::Audit, &key).unwrap().unwrap();
        for at in [0, 31, row.len() - 1] {
            let mut altered = row.clone();
            altered[at] ^= 1;
            put(store, number, Some(altered));
            let broken = check::stored(store, &[]).unwrap().unwrap_err();
            assert!([Broken::Altered(number), Broken::Missing(number)].contains(&broken), "{broken}");
        }
        put(store, number, None);
        assert_eq!(check::stored(store, &[]).unwrap().unwrap_err(), Broken::Missing(number));
        put(store, number, Some(row));
    }
    let later = Place { number: last.number + 1, hash: last.hash };
    let cut = check::stored(store, &[stated(later, 0, Holder::Other)]).unwrap().unwrap_err();
    let expected = Broken::CutShort { last: last.number, signed: last.number + 1, holder: Holder::Other };
    assert_eq!(cut, expected);
    assert!(check::stored(store, &[]).unwrap().is_ok());
}

fn put(store: &MemoryStore, number: u64, row: Option<Vec<u8>>) {
    let mut batch = Batch::new();
    match row {
        Some(row) => batch.put(Tree::Audit, number.to_be_bytes(), row),
        None => batch.delete(Tree::Audit, number.to_be_bytes()),
    }
    store.commit(batch).unwrap();
}

/// What somebody does to rows. Positions are taken modulo the number of rows.
#[derive(Clone, Debug)]
enum Tampering {
    Alter(usize, u8),
    AlterHash(usize, usize),
    Remove(usize),
    Insert(usize),
    Repeat(usize),
    Swap(usize, usize),
    CutEnd(usize),
    CutBeginning(usize),
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let at = any::<prop::sample::Index>().prop_map(|i| i.index(1 << 16));
    let at = move || at.clone();
    prop_oneof![
        (at(), 0..8u8).prop_map(|(i, field)| Tampering::Alter(i, field)),
        (at(), 0..32usize).prop_map(|(i, byte)| Tampering::AlterHash(i, byte)),
        at().prop_map(Tampering::Remove),
        at().prop_map(Tampering::Insert),
        at().prop_map(Tampering::Repeat),
        (at(), at()).prop_map(|(i, j)| Tampering::Swap(i, j)),
        at().prop_map(Tampering::CutEnd),
        at().prop_map(Tampering::CutBeginning),
    ]
}

fn rows(count: usize) -> Vec<Row> {
    let mut at = Place { number: 5, hash: AuditHash::new([3; 32]) };
    let row = |n| {
        let entry = AuditEntry { at: NOW.plus_secs(n), ..note(n) };
        at = at.then(&entry);
        Row { place: at, entry }
    };
    (0..count as u64).map(row).collect()
}

fn alter(entry: &mut AuditEntry, field: u8) {
    match field {
        0 => entry.at = entry.at.plus_secs(1),
        1 => entry.event.push('x'),
        2 => entry.code.push('x'),
        3 => entry.detail.push('x'),
        4 => entry.node = Some(lanyard_crypto::NodeId::new([1; 32])),
        5 => entry.trust = Some("RXA".parse().unwrap()),
        6 => entry.address = Some("192.0.2.1".into()),
        _ => entry.record = Some(lanyard_crypto::RecordId::new([1; 32])),
    }
}

/// Does it, and returns the place after which the rows begin then.
fn tamper(rows: &mut Vec<Row>, start: Place, how: &Tampering) -> Place {
    let index = |i: usize| i % rows.len();
    match *how {
        Tampering::Alter(i, field) => {
            let i = index(i);
            alter(&mut rows[i].entry, field);
        }
        Tampering::AlterHash(i, byte) => {
            let i = index(i);
            let mut hash = *rows[i].place.hash.as_bytes();
            hash[byte] ^= 0x40;
            rows[i].place.hash = AuditHash::new(hash);
        }
        Tampering::Remove(i) => drop(rows.remove(index(i))),
        Tampering::Insert(i) => {
            let i = index(i);
            let mut row = rows[i].clone();
            row.entry.event = "forged".into();
            rows.insert(i, row);
        }
        Tampering::Repeat(i) => {
            let i = index(i);
            rows.insert(i, rows[i].clone());
        }
        Tampering::Swap(i, j) => {
            let (i, j) = (index(i), index(j));
            let j = if i == j { index(j + 1) } else { j };
            rows.swap(i, j);
        }
        Tampering::CutEnd(i) => rows.truncate(index(i)),
        Tampering::CutBeginning(i) => {
            let gone = rows.drain(..=index(i)).next_back();
            return gone.map_or(start, |row| row.place);
        }
    }
    start
}

fn follow(start: Place, rows: &[Row], heads: &[Stated]) -> Result<check::Sound, Broken> {
    let mut walk = Walk::after(start);
    heads.iter().try_for_each(|head| walk.expect(*head))?;
    rows.iter().try_for_each(|row| walk.row(row))?;
    walk.end()
}

proptest! {
    #[test]
    fn whatever_is_done_to_rows_is_found(
        count in 2..24usize,
        how in tampering(),
        anew in any::<bool>(),
        signed in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    ) {
        let start = Place { number: 5, hash: AuditHash::new([3; 32]) };
        let written = rows(count);
        let last = written.last().unwrap().place;
        let head = |place| stated(place, start.number, Holder::Own);
        let mut heads: Vec<_> = signed.iter().map(|i| head(written[i.index(count)].place)).collect();
        heads.push(head(last));
        prop_assert_eq!(follow(start, &written, &heads).unwrap().last, last);

        let mut rows = written.clone();
        let begins = tamper(&mut rows, start, &how);
        // Somebody who counts and hashes all of it anew makes a chain that holds by itself.
        if anew {
            let mut at = begins;
            for row in &mut rows {
                at = at.then(&row.entry);
                row.place = at;
            }
            prop_assume!(rows != written);
        }
        prop_assert!(follow(begins, &rows, &heads).is_err());
    }

    #[test]
    fn a_row_that_is_altered_alone_is_named(count in 2..24usize, at in any::<prop::sample::Index>(), field in 0..8u8) {
        let start = Place { number: 5, hash: AuditHash::new([3; 32]) };
        let mut rows = rows(count);
        let head = stated(rows.last().unwrap().place, start.number, Holder::Own);
        let row = &mut rows[at.index(count)];
        alter(&mut row.entry, field);
        let number = row.place.number;
        prop_assert_eq!(follow(start, &rows, &[head]).unwrap_err(), Broken::Altered(number));
    }
}
