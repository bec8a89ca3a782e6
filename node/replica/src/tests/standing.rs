//! Standing orders, and the retention from which they follow. The conversation is RXA's; RXB sends; RXC is a custodian and neither.

use lanyard_crypto::charter::{ByClass, TrustRetention};
use lanyard_crypto::limits::{CLOCK_SKEW_SECS_MAX, RETENTION_SECS_MAX};
use lanyard_crypto::record::{Decoded, ReceiptItem, Target};
use lanyard_crypto::{ConversationId, RecordId};
use lanyard_storage::{Store, Tree, View};

use super::fixtures::{self, DAY, RETENTION};
use super::world::{World, assert_digests, place};
use crate::holding::Holding;
use crate::query;

const ALL: [usize; 3] = [0, 1, 2];
const HOUR: u64 = 3600;

fn scene() -> (World, ConversationId) {
    let world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    (world, conversation)
}

/// A standing order for messages up to now, by this trust.
fn order(world: &World, by: usize, conversation: &ConversationId, secs: u64) -> Decoded {
    let header = world.header(&ALL, RETENTION_SECS_MAX + 3 * CLOCK_SKEW_SECS_MAX);
    world.trusts[by].sign(header, fixtures::tombstone(conversation, Target::Standing(world.now, secs)))
}

/// When a replica drops a record; none if it does not hold it.
fn end(world: &World, at: usize, id: &RecordId) -> Option<u64> {
    Holding::get(&world.nodes[at].store, id).unwrap().map(|held| held.expires.as_secs())
}

#[test]
fn messages_end_by_the_shortest_order_in_every_order_of_arrival() {
    let (mut world, conversation) = scene();
    let first = world.message(1, &conversation, 1, &ALL);
    let start = world.now;
    world.now = start.plus_secs(10);
    let (day, hour) = (order(&world, 0, &conversation, DAY), order(&world, 0, &conversation, HOUR));
    world.now = start.plus_secs(20);
    let later = world.message(2, &conversation, 2, &ALL);
    let records = [&first, &day, &hour, &later];

    let mut worlds = Vec::new();
    for order in permutations(4) {
        let mut world = World::three();
        world.now = start.plus_secs(20);
        for place in &order {
            assert_eq!(world.bring(2, 1, records[*place]), None, "{order:?}");
        }
        let ends = (end(&world, 2, &first.id()), end(&world, 2, &later.id()));
        let stated = later.header().expires.as_secs();
        assert_eq!(ends, (Some(start.as_secs() + HOUR), Some(stated)), "{order:?}");
        // All that is there, apart from the audit log, which tells what came first.
        let rows = world.nodes[2].store.rows().into_iter();
        let settled = [Tree::Envelopes, Tree::Holdings, Tree::Expiry, Tree::Index, Tree::Tombstones];
        let rows: Vec<_> = rows.filter(|(tree, ..)| settled.contains(tree)).collect();
        worlds.push((world, rows));
    }
    assert!(worlds.iter().all(|(_, rows)| *rows == worlds[0].1), "the same rows in every order");

    // Until its end a message is served; after it, it is gone and does not come back.
    let (world, _) = &mut worlds[0];
    world.now = start.plus_secs(HOUR - 1);
    world.pass(0);
    assert!(world.holds(2, &first.id()));
    world.pass(1);
    assert!(!world.holds(2, &first.id()) && world.holds(2, &later.id()));
    assert_digests(world, 2);
    assert_eq!(world.bring(2, 1, &first).as_deref(), Some("expired"));
    assert!(first.header().expires > world.now);
}

#[test]
fn what_has_ended_is_not_served_before_it_is_dropped() {
    let (mut world, conversation) = scene();
    let device = world.trusts[2].device(100).1.fingerprint();
    world.serve(2, &conversation, &device);
    let message = world.message(1, &conversation, 1, &ALL);
    assert_eq!(world.bring(2, 1, &message), None);
    world.now = world.now.plus_secs(2 * HOUR);
    let order = order(&world, 0, &conversation, HOUR);
    assert_eq!(world.bring(2, 0, &order), None);
    assert!(world.holds(2, &message.id()), "it waits for the next tick");
    assert_eq!(world.inbox(2, &device, 0), [(place(1), None), (place(2), Some(order.id()))]);
    let (from, before) = (world.trusts[0].node_id(), world.nodes[2].outputs.len());
    let want = crate::frame::Want::of(1, &[message.id()]);
    world.step(2, crate::Input::Frame { from, frame: crate::frame::Frame::Want(want) });
    let sent =
        |o: &crate::Output| matches!(o, crate::Output::Send { frame: crate::frame::Frame::Records(_), .. });
    assert!(!world.nodes[2].outputs[before..].iter().any(sent));
    world.pass(1);
    assert!(!world.holds(2, &message.id()));
}

#[test]
fn only_the_owner_orders_and_only_for_what_was_written() {
    let (mut world, conversation) = scene();
    for by in [1, 2] {
        let order = order(&world, by, &conversation, HOUR);
        assert_eq!(world.bring(0, by, &order).as_deref(), Some("may-not-delete"));
    }
    let life = RETENTION_SECS_MAX + 3 * CLOCK_SKEW_SECS_MAX;
    let ahead = Target::Standing(world.now.plus_secs(1), HOUR);
    for (target, life) in [(ahead, life), (Target::Standing(world.now, HOUR), RETENTION)] {
        let header = world.header(&ALL, life);
        let order = world.trusts[0].sign(header, fixtures::tombstone(&conversation, target));
        assert_eq!(world.bring(1, 0, &order).as_deref(), Some("tombstone-too-short"));
    }
    // Commits are no messages.
    let commit = world.trusts[0].sign(world.header(&ALL, DAY), fixtures::commit(&conversation, 1, 1));
    world.bring(1, 0, &commit);
    let order = order(&world, 0, &conversation, HOUR);
    assert_eq!(world.bring(1, 0, &order), None);
    world.pass(2 * HOUR);
    assert!(world.holds(1, &commit.id()));
}

#[test]
fn a_long_conversation_is_shortened_in_several_steps_and_attested_at_its_end() {
    let (mut world, conversation) = scene();
    let count = 60;
    let messages: Vec<_> = (0..count).map(|n| world.message(1, &conversation, n, &ALL)).collect();
    messages.iter().for_each(|message| drop(world.bring(0, 1, message)));
    world.now = world.now.plus_secs(HOUR + 1);
    world.nodes[0].replica.bound_step(60);
    let order = order(&world, 0, &conversation, HOUR);
    world.bring(0, 0, &order);
    let served = |world: &World| {
        let ended = |m: &&Decoded| end(world, 0, &m.id()).is_some_and(|at| at > world.now.as_secs());
        messages.iter().filter(ended).count()
    };
    assert!((1..count as usize).contains(&served(&world)), "{} are left", served(&world));
    // Those that no step has come to are not served either.
    let (from, before) = (world.trusts[1].node_id(), world.nodes[0].outputs.len());
    let ids: Vec<_> = messages.iter().map(Decoded::id).collect();
    let want = crate::frame::Want::of(1, &ids);
    world.step(0, crate::Input::Frame { from, frame: crate::frame::Frame::Want(want) });
    assert_eq!(world.nodes[0].outputs[before..].len(), 1, "that this is all");

    let receipt = |world: &World| {
        let node = &world.nodes[0];
        let report =
            query::deletion(&node.store, &node.replica.network(), &order.id(), world.now).unwrap().unwrap();
        let own = report.replicas.into_iter().find(|r| r.trust.as_str() == "RXA").unwrap();
        own.erased.map(|attested| attested.item)
    };
    let mut ticks = 0;
    while world.rows(0, Tree::Envelopes) > 0 {
        assert!(receipt(&world).is_none(), "not before all are gone");
        world.pass(1);
        ticks += 1;
        assert!(ticks < 100);
    }
    world.now = world.now.plus_secs(HOUR);
    world.pass(1);
    let Some(ReceiptItem::Erased(item)) = receipt(&world) else { panic!("not attested") };
    assert_eq!((item.tombstone, u64::from(item.envelopes)), (order.id(), count));
    let notes = [crate::keys::ATTESTS, crate::keys::UNFINISHED];
    let left = notes.map(|name| world.nodes[0].store.scan_prefix(Tree::Meta, name, 9).unwrap().len());
    assert_eq!(left, [0, 0]);
    assert_digests(&world, 0);
}

#[test]
fn replicas_that_have_missed_an_order_complete_each_other() {
    let (mut world, conversation) = scene();
    let messages: Vec<_> = (0..5).map(|n| world.message(1, &conversation, n, &ALL)).collect();
    world.isolate(2);
    for message in &messages {
        world.submit(1, message).unwrap();
        world.settle();
    }
    world.nodes[2].store.commit(lanyard_storage::Batch::new()).unwrap();
    let order = order(&world, 0, &conversation, HOUR);
    world.submit(0, &order).unwrap();
    world.settle();
    world.pass(HOUR + 1);
    assert_eq!(world.rows(0, Tree::Envelopes), 0);
    // It has missed the messages and the order: it gets what holds, and no message.
    world.connect_all();
    world.settle();
    world.pass(31);
    assert!(world.holds(2, &order.id()));
    for at in ALL {
        assert_eq!(world.rows(at, Tree::Envelopes), 0, "{at}");
        assert_digests(&world, at);
    }
}

#[test]
fn an_order_goes_with_all_that_it_left() {
    let (mut world, conversation) = scene();
    let order = order(&world, 0, &conversation, HOUR);
    world.bring(2, 0, &order);
    assert_eq!(world.rows(2, Tree::Tombstones), 1);
    world.now = order.header().expires;
    world.pass(0);
    assert!(!world.holds(2, &order.id()));
    assert_eq!(world.rows(2, Tree::Tombstones), 0);
}

#[test]
fn what_lives_longer_than_the_owner_keeps_it_ends_by_one_order() {
    let (mut world, conversation) = scene();
    let elsewhere = ConversationId::new([8; 16], world.trusts[1].id.clone());
    let messages: Vec<_> = (0..3).map(|n| world.message(1, &conversation, n, &ALL)).collect();
    let other = world.message(1, &elsewhere, 9, &ALL);
    for message in messages.iter().chain([&other]) {
        world.submit(1, message).unwrap();
        world.settle();
    }
    world.pass(1);
    assert_eq!(world.rows(0, Tree::Tombstones), 0, "nothing lives longer than the charter allows");

    let day = TrustRetention { secs_max: Some(DAY), by_class: ByClass::default() };
    world.nodes[0].replica.set_retention(day);
    world.pass(1);
    assert_eq!(world.rows(0, Tree::Tombstones), 1, "one order, however many messages");
    let ends: Vec<_> = messages.iter().map(|m| end(&world, 2, &m.id()).unwrap()).collect();
    assert!(ends.iter().zip(&messages).all(|(end, m)| *end == m.header().issued.plus_secs(DAY).as_secs()));
    assert_eq!(end(&world, 2, &other.id()), Some(other.header().expires.as_secs()), "not RXA's to say");
    let ordered = world.audit(0).into_iter().filter(|e| e.event == "retention-ordered").count();
    assert_eq!(ordered, 1);

    // A member's client does not keep to it: found again, but not more than once an hour.
    world.pass(1);
    let late = world.message(1, &conversation, 7, &ALL);
    world.submit(1, &late).unwrap();
    world.settle();
    world.pass(60);
    assert_eq!(world.rows(0, Tree::Tombstones), 1);
    world.pass(HOUR);
    world.pass(1);
    assert_eq!(world.rows(0, Tree::Tombstones), 2);
    assert_eq!(end(&world, 2, &late.id()), Some(late.header().issued.plus_secs(DAY).as_secs()));
    world.pass(2 * HOUR);
    assert_eq!(world.rows(0, Tree::Tombstones), 2, "and no more than is needed");
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for n in 0..count {
        let insert = |p: &Vec<usize>| (0..=p.len()).map(|at| [&p[..at], &[n], &p[at..]].concat()).collect();
        all = all.iter().flat_map(|p| -> Vec<Vec<usize>> { insert(p) }).collect();
    }
    all
}
