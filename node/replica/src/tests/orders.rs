//! To whom orders go, whatever custodians envelopes state. The conversation is RXA's; RXC signs what it likes.

use std::collections::BTreeSet;

use lanyard_crypto::charter::{ByClass, TrustRetention};
use lanyard_crypto::limits::CUSTODIANS_MAX;
use lanyard_crypto::record::{Body, Decoded, Header, Reason, Target};
use lanyard_crypto::{ConversationId, TrustId};
use lanyard_storage::{Tree, View};

use super::fixtures::{self, DAY, RETENTION};
use super::world::{World, assert_digests};
use crate::limits::{ORDERS_PER_TARGET_MAX, STANDING_EVERY_SECS};
use crate::{Deleter, Input, Output, Reply, Request, query};

/// A message that RXC signs, with as many custodians as a record takes: RXA, RXC, and some that there are not.
fn crowded(world: &World, conversation: &ConversationId, n: u64) -> Decoded {
    let made_up = (2..CUSTODIANS_MAX).map(|i| format!("Z{n}{i:02}").parse().unwrap());
    let real = [0, 2].map(|at| world.trusts[at].id.clone());
    let custodians: BTreeSet<TrustId> = made_up.chain(real).collect();
    let header =
        Header { custodians: custodians.into_iter().collect(), ..world.header(&[0, 2], RETENTION / 2) };
    world.trusts[2].sign(header, fixtures::application(conversation, n))
}

/// The custodians of the tombstones that a replica holds, one line each.
fn ordered(world: &World, at: usize) -> Vec<Vec<TrustId>> {
    let records = world.ids(at, Tree::Records).into_iter();
    let records = records.filter_map(|id| query::record_bytes(&world.nodes[at].store, &id).unwrap());
    let records = records.map(|bytes| Decoded::from_bytes(&bytes).unwrap());
    let orders = records.filter(|record| matches!(record.body(), Body::Tombstone(_)));
    orders.map(|record| record.header().custodians.clone()).collect()
}

fn delete_all(world: &mut World, conversation: &ConversationId) -> Result<Reply, String> {
    let (by, target, conversation) = (Deleter::Officer, Target::UpTo(world.now), conversation.clone());
    let (reason, reference) = (Reason::Incident, Vec::new());
    world.ask(0, Request::Delete { by, conversation, target, reason, reference })
}

#[test]
fn custodians_that_somebody_made_up_stand_in_the_way_of_no_order() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    for n in 1..=2 {
        let message = crowded(&world, &conversation, n);
        assert_eq!(world.bring(0, 2, &message), None);
        assert_eq!(world.bring(2, 0, &message), None);
    }
    let real = vec![world.trusts[0].id.clone(), world.trusts[2].id.clone()];

    let day = TrustRetention { secs_max: Some(DAY), by_class: ByClass::default() };
    world.nodes[0].replica.set_retention(day);
    world.pass(1);
    assert_eq!(ordered(&world, 0), vec![real.clone()], "a standing order");

    assert!(matches!(delete_all(&mut world, &conversation), Ok(Reply::Deleted(_))));
    world.settle();
    assert_eq!([0, 2].map(|at| world.rows(at, Tree::Envelopes)), [0, 0]);
    assert_eq!(ordered(&world, 2), vec![real; 2]);
}

#[test]
fn an_order_for_more_trusts_than_one_record_takes_is_several() {
    let codes: Vec<String> = (0..66).map(|n| format!("R{n:02}")).collect();
    let mut world = World::apart(&codes.iter().map(String::as_str).collect::<Vec<_>>());
    let conversation = fixtures::conversation(&world.trusts[0]);
    let half: Vec<usize> = (0..33).collect();
    let rest: Vec<usize> = (33..66).chain([0]).collect();
    for (n, custodians) in [half, rest].iter().enumerate() {
        let message = world.message(0, &conversation, n as u64, custodians);
        world.submit(0, &message).unwrap();
    }
    assert!(matches!(delete_all(&mut world, &conversation), Ok(Reply::Deleted(_))));
    let orders = ordered(&world, 0);
    assert_eq!(orders.len(), 2);
    assert!(orders.iter().all(|to| to.contains(&world.trusts[0].id) && to.len() <= CUSTODIANS_MAX));
    let all: BTreeSet<_> = orders.into_iter().flatten().collect();
    assert!(world.trusts.iter().all(|trust| all.contains(&trust.id)));
    assert_eq!(world.rows(0, Tree::Envelopes), 0);
}

#[test]
fn a_standing_order_that_is_refused_is_tried_again_after_an_hour() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let message = world.message(1, &conversation, 1, &[0, 1]);
    assert_eq!(world.bring(0, 1, &message), None);
    let list = world.trusts[0].crl(world.network, 1, &[&world.trusts[0].node], world.now);
    world.submit(0, &list).unwrap();
    let day = TrustRetention { secs_max: Some(DAY), by_class: ByClass::default() };
    world.nodes[0].replica.set_retention(day);
    let tried = |world: &World| world.audit(0).iter().filter(|e| e.event == "retention-not-ordered").count();
    (0..5).for_each(|_| world.pass(1));
    assert_eq!(tried(&world), 1);
    world.pass(STANDING_EVERY_SECS);
    world.pass(1);
    assert_eq!(tried(&world), 2);
}

/// A tombstone of this trust for a message, another one for each `n`.
fn naming(world: &World, by: usize, conversation: &ConversationId, message: &Decoded, n: u64) -> Decoded {
    let header = world.header(&[0, 1, 2], RETENTION + DAY + n);
    world.trusts[by].sign(header, fixtures::tombstone(conversation, fixtures::named(&[message.id()])))
}

#[test]
fn one_trust_has_so_many_orders_for_a_message_that_is_not_here_and_they_bar_no_other() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let message = world.message(1, &conversation, 1, &[0, 1, 2]);
    let most = ORDERS_PER_TARGET_MAX as u64;
    for n in 0..most {
        let order = naming(&world, 2, &conversation, &message, n);
        assert_eq!(world.bring(0, 1, &order), None);
    }
    for n in most..most + 200 {
        let order = naming(&world, 2, &conversation, &message, n);
        assert_eq!(world.bring(0, 1, &order).as_deref(), Some("too-many-orders"));
    }
    let dropped = |o: &Output| matches!(o, Output::Disconnect { .. });
    assert!(!world.nodes[0].outputs.iter().any(dropped), "RXB has only passed them on");

    let rightful = naming(&world, 1, &conversation, &message, 0);
    assert_eq!(world.bring(0, 1, &rightful), None);
    assert_eq!(world.bring(0, 1, &message).as_deref(), Some("deleted"));
}

#[test]
fn orders_without_force_go_a_step_at_a_time_when_the_message_comes() {
    let mut world = World::three();
    let [conversation, elsewhere] =
        [0, 1].map(|owner| ConversationId::new([9; 16], world.trusts[owner].id.clone()));
    let message = world.message(1, &conversation, 1, &[0, 1, 2]);
    for by in [0, 2] {
        for n in 0..ORDERS_PER_TARGET_MAX as u64 {
            let order = naming(&world, by, &elsewhere, &message, n);
            assert_eq!(world.bring(0, by, &order), None);
        }
    }
    assert_eq!(world.rows(0, Tree::Tombstones), 2 * ORDERS_PER_TARGET_MAX);
    assert_eq!(world.bring(0, 1, &message), None);
    assert!(world.holds(0, &message.id()));
    assert_eq!(world.rows(0, Tree::Tombstones), ORDERS_PER_TARGET_MAX);
    assert!(world.nodes[0].outputs.iter().any(|o| matches!(o, Output::GoOn)));
    // Those that are left have no force, and no place for ever.
    let mut steps = 0;
    while world.rows(0, Tree::Tombstones) > 0 {
        world.step(0, Input::GoOn);
        steps += 1;
        assert!(steps < 20);
    }
    world.step(0, Input::GoOn);
    assert!(world.holds(0, &message.id()) && ordered(&world, 0).is_empty());
    let left = world.nodes[0].store.scan_prefix(Tree::Meta, crate::keys::VOID_ORDERS, 1).unwrap();
    assert!(left.is_empty());
    assert_digests(&world, 0);
}
