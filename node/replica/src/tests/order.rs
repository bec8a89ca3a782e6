//! Replicas that learn the same records end up with the same, whatever the order and however often (promise P5).

use lanyard_crypto::RecordId;
use lanyard_crypto::limits::RETENTION_SECS_MAX;
use lanyard_crypto::record::{Decoded, Kind, Target};
use lanyard_storage::Tree;
use proptest::prelude::*;

use super::fixtures::{self, DAY, RETENTION, named};
use super::world::{World, assert_digests};

const ALL: [usize; 3] = [0, 1, 2];

/// Messages of all three in RXA's conversation, and orders to delete that may, may not, or may in part.
fn records(world: &mut World) -> Vec<Decoded> {
    let conversation = fixtures::conversation(&world.trusts[0]);
    let messages: Vec<_> = (0..3).map(|i| world.message(i, &conversation, i as u64, &ALL)).collect();
    let up_to = world.now;
    world.now = world.now.plus_secs(5);
    let late = world.message(2, &conversation, 9, &ALL);
    let ids: Vec<_> = messages.iter().map(Decoded::id).collect();
    let order = |by: usize, target, life| {
        let header = world.header(&ALL, life);
        world.trusts[by].sign(header, fixtures::tombstone(&conversation, target))
    };
    let orders = vec![
        order(1, named(&[ids[0], ids[1]]), RETENTION + DAY),
        order(2, named(&[ids[0]]), RETENTION + DAY),
        order(2, named(&[late.id()]), DAY),
        order(1, named(&[late.id()]), RETENTION + DAY),
        order(0, Target::UpTo(up_to), RETENTION_SECS_MAX + DAY),
        world.trusts[0].sign(world.header(&ALL, DAY), fixtures::commit(&conversation, 1, 1)),
    ];
    [messages, vec![late], orders].concat()
}

/// What one replica holds after these arrivals.
fn outcome(world: &World, at: usize) -> Vec<(Tree, Vec<u8>, Vec<u8>)> {
    // Who attests what, and what was refused on the way, is each replica's own story.
    let shared = [Tree::Envelopes, Tree::Conversations, Tree::Epochs];
    let mut rows = world.nodes[at].store.rows();
    rows.retain(|(tree, ..)| shared.contains(tree));
    rows
}

/// The tombstones that one replica holds.
fn tombstones(world: &World, at: usize) -> Vec<RecordId> {
    let rows = world.nodes[at].store.rows().into_iter().filter(|(tree, ..)| *tree == Tree::Records);
    let records = rows.map(|(_, _, bytes)| Decoded::from_bytes(&bytes).unwrap());
    records.filter(|r| r.body().kind() == Kind::Tombstone).map(|r| r.id()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_order_and_duplicate_ends_alike(
        order in Just((0..10usize).collect::<Vec<_>>()).prop_shuffle(),
        again in proptest::collection::vec(0..10usize, 0..6),
    ) {
        let mut world = World::three();
        let records = records(&mut world);
        prop_assert_eq!(records.len(), order.len());
        for record in &records {
            world.bring(0, 1, record);
        }
        for i in order.iter().chain(&again) {
            world.bring(1, 0, &records[*i]);
        }
        prop_assert_eq!(outcome(&world, 0), outcome(&world, 1));
        (0..2).for_each(|at| assert_digests(&world, at));
        let late = records[3].id();
        prop_assert_eq!(world.ids(1, Tree::Envelopes), [late, records[9].id()].into());
    }

    #[test]
    fn anti_entropy_completes_what_each_has_missed(
        has in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 10), 3),
    ) {
        let mut world = World::three();
        world.gossips = false;
        (0..3).for_each(|i| world.isolate(i));
        let records = records(&mut world);
        for (at, has) in has.iter().enumerate() {
            for (record, _) in records.iter().zip(has).filter(|(_, has)| **has) {
                world.bring(at, (at + 1) % 3, record);
            }
        }
        world.connect_all();
        world.settle();
        world.pass(31);
        world.pass(31);
        let all = outcome(&world, 0);
        for at in 1..3 {
            prop_assert_eq!(&outcome(&world, at), &all);
            prop_assert_eq!(tombstones(&world, at), tombstones(&world, 0));
        }
    }
}
