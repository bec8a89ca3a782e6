//! What time does to what is held: expiry under clocks that are set back, and deletions that outlive what they name.

use lanyard_crypto::RecordId;
use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::record::{Decoded, Reason, Target};

use super::fixtures::{self, DAY};
use super::world::World;
use crate::verdict::Verdict;
use crate::{Deleter, Output, Request, Source, query};

const ALL: [usize; 3] = [0, 1, 2];

fn message(world: &World) -> Decoded {
    world.message(1, &fixtures::conversation(&world.trusts[0]), 1, &ALL)
}

#[test]
fn the_outbox_gives_out_nothing_that_has_expired() {
    let mut world = World::three();
    let message = message(&world);
    world.isolate(2);
    world.submit(1, &message).unwrap();
    world.settle();
    let (store, to, expires) = (&world.nodes[1].store, &world.trusts[2].id, message.header().expires);
    let waits = |now| query::outbox(store, to, 0, now).unwrap().1.len();
    assert_eq!(waits(expires.minus_secs(1)), 1);
    // No tick has dropped it yet.
    assert_eq!(waits(expires), 0);
}

#[test]
fn gossip_does_not_relay_what_is_held_and_has_expired() {
    let mut world = World::three();
    let message = message(&world);
    assert_eq!(world.bring(2, 1, &message), None);
    let relayed = |world: &mut World, name: &[u8]| {
        let from = Source::Gossip { from: world.trusts[1].node_id(), message: name.to_vec() };
        world.arrive(2, from, &[message.bytes().to_vec()]);
        let of = |o: &Output| match o {
            Output::Verdict { message, verdict, .. } if message == name => Some(*verdict),
            _ => None,
        };
        world.nodes[2].outputs.iter().find_map(of).unwrap()
    };
    assert_eq!(relayed(&mut world, b"in time"), Verdict::Accept);
    // No tick has dropped it yet.
    world.now = message.header().expires;
    assert_eq!(relayed(&mut world, b"too late"), Verdict::Ignore);
}

#[test]
fn what_expired_stays_away_when_the_clock_is_set_back() {
    let mut world = World::three();
    let message = message(&world);
    let (id, expires) = (message.id(), message.header().expires);
    assert_eq!(world.bring(2, 1, &message), None);
    world.now = expires;
    world.pass(0);
    assert!(!world.holds(2, &id));
    world.now = expires.minus_secs(2 * CLOCK_SKEW_SECS_MAX);
    assert_eq!(world.bring(2, 1, &message).as_deref(), Some("expired"));
    // Not even after a restart.
    world.restart(2);
    assert_eq!(world.bring(2, 1, &message).as_deref(), Some("expired"));
    // Who sets it back by more says that it was wrong, and is believed: else one leap ahead would refuse everything.
    world.now = expires.minus_secs(2 * CLOCK_SKEW_SECS_MAX + 1);
    assert_eq!(world.bring(2, 1, &message), None);
}

#[test]
fn a_deleted_conversation_stays_deleted_under_every_charter() {
    let mut world = World::three();
    let message = message(&world);
    let id = message.id();
    world.submit(1, &message).unwrap();
    world.settle();
    assert_eq!(world.holders(&id), ALL);
    world.isolate(2);

    let first = world.charter.clone();
    let second = retention(&world, &first, 2, 5);
    world.submit(0, &second).unwrap();
    let request = Request::Delete {
        by: Deleter::Officer,
        conversation: fixtures::conversation(&world.trusts[0]),
        target: Target::UpTo(world.now),
        reason: Reason::PolicyExpired,
        reference: Vec::new(),
    };
    world.ask(0, request).unwrap();
    world.settle();
    assert_eq!(world.holders(&id), [2]);

    // The charter of the day allows a life of 5 days, and a message of the first one lives on.
    world.pass(6 * DAY);
    let third = retention(&world, &second, 3, 30);
    world.submit(0, &third).unwrap();
    world.connect_all();
    world.settle();
    world.pass(60);
    assert!(world.now < message.header().expires);
    assert_eq!(world.holders(&id), Vec::<usize>::new());
}

fn retention(world: &World, before: &Decoded, version: u64, days: u64) -> Decoded {
    let mut charter = fixtures::charter(&world.trusts.iter().collect::<Vec<_>>());
    charter.version = version;
    charter.previous = Some::<RecordId>(before.statement());
    charter.policy.retention_secs_max = days * DAY;
    fixtures::sign_charter(charter, Some(world.network))
}
