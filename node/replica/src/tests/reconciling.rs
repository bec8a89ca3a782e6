//! Anti-entropy at scale: what it costs does not depend on what is held, and nothing is sent twice.

use std::collections::{BTreeMap, BTreeSet};

use lanyard_crypto::{RecordId, Timestamp, cbor};
use lanyard_storage::{Batch, MemoryStore, Overlay, Store, Tree, View};

use super::fixtures::{self, DAY, NOW};
use super::world::World;
use crate::digest;
use crate::frame::{Frame, List, Ranges, Span};
use crate::holding::Holding;
use crate::turn::Turn;
use crate::{Input, OpenError, Output, Replica, Source, upgrade};

const ALL: [usize; 3] = [0, 1, 2];
const SPREAD: u64 = 20 * DAY;

/// Rows of the index as `count` messages for RXA and RXB would leave them, issued within `within` seconds, in both stores. Nobody asks for
/// what both have, so that there need be no records.
pub fn hold_in_common(world: &World, count: u64, within: u64) {
    let store = MemoryStore::new();
    let mut turn = Turn::new(&store, NOW, usize::MAX);
    let record = super::syncing::message_at(world, 1, 0, NOW);
    let record = lanyard_crypto::record::verify(record, &world.nodes[0].replica.network()).unwrap();
    let mut held = Holding::of(&record);
    for n in 0..count {
        held.issued = moment(n, within);
        digest::enter(&mut turn, &RecordId::of(&n.to_be_bytes()), &held);
    }
    let batch = turn.finish().unwrap().batch;
    world.nodes[0].store.commit(batch.clone()).unwrap();
    world.nodes[1].store.commit(batch).unwrap();
}

/// For each n another moment of the last `within` seconds.
fn moment(n: u64, within: u64) -> Timestamp {
    NOW.minus_secs(60 + (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % within)
}

/// Bytes of all frames that two nodes have sent, without records and what answers them; and the frames' names.
fn reconciliation(world: &World) -> (usize, BTreeMap<&'static str, usize>) {
    let (mut bytes, mut names) = (0, BTreeMap::new());
    for output in world.nodes.iter().flat_map(|n| &n.outputs) {
        let Output::Send { frame, .. } = output else { continue };
        if matches!(frame, Frame::Records(_) | Frame::Answers { .. }) {
            continue;
        }
        bytes += frame.to_bytes().len();
        *names.entry(frame.name()).or_default() += 1;
    }
    (bytes, names)
}

/// Two replicas that hold 20,000 records in common; RXC is away.
fn large() -> World {
    let mut world = World::three();
    world.gossips = false;
    (0..3).for_each(|at| world.isolate(at));
    hold_in_common(&world, 20_000, SPREAD);
    world
}

#[test]
fn a_difference_costs_its_own_size_whatever_is_held() {
    for within in [DAY, SPREAD] {
        let mut world = large();
        let differences = 1000;
        for at in [0, 1] {
            let some = (0..differences / 2).map(|n| at as u64 * differences + n);
            let records: Vec<_> = some
                .map(|n| {
                    super::syncing::message_at(&world, at, 100_000 + n, moment(n, within)).bytes().to_vec()
                })
                .collect();
            let from = Source::Peer(world.trusts[1 - at].node_id());
            world.arrive(at, from, &records);
        }
        world.lose();
        world.nodes.iter_mut().for_each(|n| n.outputs.clear());
        world.connect(0, 1);
        world.settle();
        let (bytes, frames) = reconciliation(&world);
        assert!(bytes as u64 <= 3 * 32 * differences, "{bytes} bytes within {within}: {frames:?}");
        assert_eq!(world.ids(0, Tree::Envelopes), world.ids(1, Tree::Envelopes));
        assert_eq!(world.rows(0, Tree::Envelopes) as u64, differences);
        super::world::assert_digests(&world, 0);

        // They agree: a round costs next to nothing.
        world.pass(1);
        world.nodes.iter_mut().for_each(|n| n.outputs.clear());
        world.pass(31);
        let (bytes, frames) = reconciliation(&world);
        assert!(bytes < 1024 && frames.keys().eq(["roots"].iter()), "{bytes} bytes: {frames:?}");
    }
}

#[test]
fn several_peers_at_once_send_no_record_twice() {
    let mut world = World::three();
    world.gossips = false;
    (0..3).for_each(|at| world.isolate(at));
    let records: Vec<_> = (0..400u64)
        .map(|n| super::syncing::message_at(&world, 1, n, moment(n, 10 * DAY)).bytes().to_vec())
        .collect();
    // RXB and RXC hold everything; RXA holds every tenth, so that there is something to compare, or nothing at all.
    for held in [10, usize::MAX] {
        let mut world = World::three();
        world.gossips = false;
        (0..3).for_each(|at| world.isolate(at));
        for at in [1, 2] {
            let from = Source::Peer(world.trusts[3 - at].node_id());
            world.arrive(at, from, &records);
        }
        let some: Vec<_> =
            records.iter().step_by(held).skip(usize::from(held == usize::MAX)).cloned().collect();
        let from = Source::Peer(world.trusts[1].node_id());
        world.arrive(0, from, &some);
        world.lose();
        world.nodes.iter_mut().for_each(|n| n.outputs.clear());
        world.connect(0, 1);
        world.connect(0, 2);
        world.settle();
        world.pass(1);
        let to_first = world.trusts[0].node_id();
        let sent = world.nodes.iter().flat_map(|n| &n.outputs).filter_map(|o| match o {
            Output::Send { to, frame: Frame::Records(records) } if *to == to_first => Some(records),
            _ => None,
        });
        let sent: Vec<_> = sent.flatten().map(|bytes| RecordId::of(bytes)).collect();
        let distinct: BTreeSet<_> = sent.iter().collect();
        assert_eq!(world.rows(0, Tree::Envelopes), 400);
        assert_eq!((sent.len(), distinct.len()), (400 - some.len(), 400 - some.len()));
    }
}

#[test]
fn a_bucket_is_compared_in_slices_of_ids() {
    let world = large();
    let (count, peer) = (3000, world.trusts[1].id.clone());
    hold_in_common(&world, count, 1);
    let bucket = moment(0, 1).as_secs() / crate::limits::BUCKET_SECS;
    let whole = Span::buckets(3, bucket, bucket + 1);
    let store = &world.nodes[0].store;
    let ids = |span: &Span| span.ids(store, &peer).unwrap().ids.unwrap();
    let parts = whole.divide(store, &peer, 7).unwrap();
    assert!(parts.len() == 7 && parts.iter().all(|part| !ids(part).is_empty()));
    let joined: Vec<_> = parts.iter().flat_map(&ids).collect();
    assert_eq!(joined, ids(&whole));
    assert!(joined.len() >= count as usize);
}

#[test]
fn sums_that_somebody_made_equal_do_not_hide_a_difference() {
    let mut world = World::three();
    world.gossips = false;
    (0..3).for_each(|at| world.isolate(at));
    let record = super::syncing::message_at(&world, 1, 7, NOW.minus_secs(DAY));
    let other = super::syncing::message_at(&world, 1, 8, NOW.minus_secs(DAY));
    for (at, record) in [(0, &other), (1, &record)] {
        let from = Source::Peer(world.trusts[1 - at].node_id());
        world.arrive(at, from, &[record.bytes().to_vec()]);
    }
    // As if the two had the same sum, though not the same point.
    let bucket = |at: usize| {
        let rows = world.nodes[at].store.rows().into_iter();
        rows.filter(|(tree, key, _)| *tree == Tree::Digests && key.len() == 17 && key[0] == 3)
            .collect::<Vec<_>>()
    };
    let mut batch = Batch::new();
    bucket(0).into_iter().for_each(|(tree, key, row)| batch.put(tree, key, row));
    world.nodes[1].store.commit(batch).unwrap();
    assert_eq!(bucket(0), bucket(1));
    world.lose();
    world.connect(0, 1);
    world.settle();
    assert_eq!(world.ids(0, Tree::Envelopes), [record.id(), other.id()].into());
    assert_eq!(world.ids(1, Tree::Envelopes), [record.id(), other.id()].into());
}

#[test]
fn a_store_of_an_earlier_version_is_brought_up() {
    let mut world = World::three();
    let records: Vec<_> = (0..1200u64)
        .map(|n| super::syncing::message_at(&world, 1, n, moment(n, 9 * DAY)).bytes().to_vec())
        .collect();
    world.arrive(0, Source::Peer(world.trusts[1].node_id()), &records);
    let store = &world.nodes[0].store;
    let now = |tree| store.rows().into_iter().filter(move |(t, ..)| *t == tree).collect::<Vec<_>>();
    let (index, digests) = (now(Tree::Index), now(Tree::Digests));
    // Then there were no digests, and the index had holdings.
    let mut batch = Batch::new();
    digests.iter().for_each(|(tree, key, _)| batch.delete(*tree, key.clone()));
    batch.delete(Tree::Meta, "digests");
    for (tree, key, _) in &index {
        let held = store.get(Tree::Holdings, &key[9..]).unwrap().unwrap();
        assert!(cbor::from_slice::<Holding>(&held, 4096).is_ok());
        batch.put(*tree, key.clone(), held);
    }
    store.commit(batch).unwrap();
    let open = || Replica::open(store, world.trusts[0].own(), &world.charter);
    assert!(matches!(open(), Err(OpenError::Earlier)));
    let mut batches = 0;
    while let Some(batch) = upgrade(store).unwrap() {
        // A crash before the commit: the same again.
        assert_eq!(upgrade(store).unwrap(), Some(batch.clone()));
        store.commit(batch).unwrap();
        batches += 1;
    }
    assert!(batches > 3, "{batches} bounded batches");
    assert_eq!(now(Tree::Index), index);
    // A sum that has come back to nothing may have left a row.
    let counted = |rows: Vec<(Tree, Vec<u8>, Vec<u8>)>| {
        rows.into_iter().filter(|(_, _, row)| row[..8] != [0; 8]).collect::<Vec<_>>()
    };
    assert_eq!(counted(now(Tree::Digests)), counted(digests));
    assert!(open().is_ok());
}

#[test]
fn strange_questions_have_bounded_answers() {
    let mut world = World::three();
    let from = world.trusts[1].node_id();
    let span = |layer, from, until, low, high| Span { layer, from, until, low, high };
    let list = |span| Frame::List(List { number: 1, span, ids: Vec::new() });
    let ranges = |layer, until, ranges| Frame::Ranges(Ranges { layer, root: None, until, ranges });
    let fetch = |span, before: Option<usize>| {
        let before = before.map(|len| vec![255; len].into());
        Frame::Fetch(crate::frame::Fetch { number: 1, span, before })
    };
    let whole = Span::buckets(3, 0, u64::MAX);
    for frame in [
        Frame::Roots(Vec::new()),
        list(span(9, 0, 1, 0, 255)),
        list(span(3, 7, 7, 0, 255)),
        list(span(3, 0, u64::MAX, 3, 4)),
        list(span(3, u64::MAX - 1, u64::MAX, 4, 3)),
        ranges(3, 0, Vec::new()),
        ranges(3, 9, vec![crate::frame::Range(9, 1, [0; 16])]),
        ranges(77, 9, vec![crate::frame::Range(0, 1, [0; 16])]),
        fetch(whole, Some(3)),
        fetch(whole, Some(40)),
        fetch(span(0, u64::MAX, 0, 0, 0), None),
        Frame::Want(crate::frame::Want { number: 1, ids: vec![0; 17].into() }),
        Frame::Offer(crate::frame::Offer {
            number: 5,
            span: span(200, 0, 1, 0, 255),
            ids: vec![0; 16].into(),
        }),
        Frame::Wait(77),
        Frame::Begin,
        Frame::Done(crate::frame::Done { number: 3, next: None }),
        Frame::Symbols(crate::frame::Symbols {
            number: 2,
            estimate: u64::MAX,
            sum: None,
            cells: vec![].into(),
        }),
    ] {
        world.connect(0, 1);
        world.settle();
        world.nodes[0].outputs.clear();
        world.step(0, Input::Frame { from, frame: frame.clone() });
        assert!(world.nodes[0].outputs.len() <= 3, "{frame:?}");
    }
    // From a peer that is not connected (any more) there is no answer at all.
    world.isolate(1);
    world.nodes[0].outputs.clear();
    world.step(0, Input::Frame { from, frame: list(whole) });
    assert!(world.nodes[0].outputs.is_empty());
}

#[test]
fn what_leaves_leaves_the_digests() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let record = world.message(1, &conversation, 1, &ALL);
    world.submit(1, &record).unwrap();
    world.settle();
    (0..3).for_each(|at| super::world::assert_digests(&world, at));
    world.now = record.header().expires;
    world.pass(1);
    assert_eq!(world.holders(&record.id()), []);
    (0..3).for_each(|at| super::world::assert_digests(&world, at));
}

/// The digests as they would be made from the index alone.
pub fn digests_of(store: &MemoryStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    let empty = MemoryStore::new();
    let mut old = Overlay::new(&empty);
    for (key, _) in
        store.scan(Tree::Index, (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded), 100_000).unwrap()
    {
        if let Some(held) = store.get(Tree::Holdings, &key[9..]).unwrap() {
            old.put(Tree::Index, key, held);
        }
    }
    empty.commit(old.into_batch()).unwrap();
    while let Some(batch) = upgrade(&empty).unwrap() {
        empty.commit(batch).unwrap();
    }
    let rows = empty.rows().into_iter().filter(|(tree, ..)| *tree == Tree::Digests);
    rows.map(|(_, key, row)| (key, row)).collect()
}
