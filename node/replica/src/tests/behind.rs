//! A clock that is behind: what others have signed tells, and certificates are judged by that.

use lanyard_crypto::Timestamp;
use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::network::IdentityError;
use lanyard_crypto::x509::{ChainError, Purpose};

use super::fixtures::{self, DAY, NOW};
use super::world::World;
use crate::clock::{CLOCK_AGREES, CLOCK_BEHIND};
use crate::{Input, Output};

const HOUR: u64 = 3600;

/// A trust's node signs something now, and the first node hears of it by its own, other clock.
fn hear(world: &mut World, from: usize, at: Timestamp, clock: Timestamp) {
    world.now = at;
    let message = world.message(from, &fixtures::conversation(&world.trusts[from]), 1, &[0, 1, 2]);
    world.now = clock;
    world.bring(0, from, &message);
    world.step(0, Input::Tick);
}

fn judged(world: &World, clock: Timestamp) -> Timestamp {
    world.nodes[0].replica.network().time(clock)
}

fn entries(world: &World, event: &str) -> usize {
    world.audit(0).iter().filter(|entry| entry.event == event).count()
}

#[test]
fn an_expired_certificate_stays_shut_at_a_clock_that_is_hours_behind() {
    let mut world = World::three();
    let (_, device) = world.trusts[0].device(40);
    let ended = device.not_after();
    let (after, clock) = (ended.plus_secs(HOUR), ended.minus_secs(5 * HOUR));
    let chain = world.trusts[0].chain(&device);
    let check = |world: &World| {
        let network = world.nodes[0].replica.network();
        network.verify_chain(&chain, Purpose::Device, network.time(clock)).map(drop)
    };
    hear(&mut world, 1, after, clock);
    assert_eq!(check(&world), Ok(()), "one other trust may lie");
    world.nodes[0].outputs.clear();
    hear(&mut world, 2, after, clock);
    assert!(matches!(check(&world), Err(IdentityError::Chain(ChainError::Expired { .. }))));
    // Its connections are looked at again, and its operator is told, once.
    assert!(world.nodes[0].outputs.iter().any(|o| matches!(o, Output::TrustChanged)));
    hear(&mut world, 1, after.plus_secs(HOUR), clock);
    assert_eq!(entries(&world, CLOCK_BEHIND), 1);
    let told = world.audit(0).into_iter().find(|entry| entry.event == CLOCK_BEHIND).unwrap();
    assert!(told.detail.contains("set the machine's clock"), "{}", told.detail);

    // It is known from the first moment of the next run.
    world.restart(0);
    assert!(check(&world).is_err());
    world.now = after.plus_secs(HOUR);
    world.step(0, Input::Tick);
    assert_eq!(entries(&world, CLOCK_AGREES), 0, "that run had not said that it was behind");
    world.now = clock;
    world.step(0, Input::Tick);
    world.now = after.plus_secs(HOUR);
    world.step(0, Input::Tick);
    assert_eq!((entries(&world, CLOCK_BEHIND), entries(&world, CLOCK_AGREES)), (2, 1));
}

#[test]
fn a_clock_that_was_set_back_is_noticed_with_one_other_trust() {
    let mut world = World::three();
    let later = NOW.plus_secs(DAY);
    // Both this node's own clock, and one of the others, had reached it.
    hear(&mut world, 1, later, later);
    world.restart(0);
    assert_eq!(judged(&world, NOW), later.minus_secs(CLOCK_SKEW_SECS_MAX));
    // A clock that was ahead alone is followed when it is set right.
    world.now = later.plus_secs(300 * DAY);
    world.step(0, Input::Tick);
    world.restart(0);
    assert_eq!(judged(&world, NOW), later.minus_secs(CLOCK_SKEW_SECS_MAX));
}

#[test]
fn no_one_trust_moves_the_time_that_certificates_are_judged_by() {
    let mut world = World::three();
    let never = NOW.plus_secs(10 * 365 * DAY);
    let liar = |world: &mut World| {
        // As late as its certificate allows.
        let at = world.trusts[1].node.not_after().min(never);
        hear(world, 1, at, NOW);
    };
    liar(&mut world);
    assert_eq!(judged(&world, NOW), NOW);
    hear(&mut world, 2, NOW.plus_secs(20), NOW);
    assert_eq!(judged(&world, NOW), NOW);
    assert_eq!(entries(&world, CLOCK_BEHIND), 0);
    // Nor does this trust itself, by another node of its own or by its registrar.
    let entry = world.trusts[0].entry(world.network, &world.trusts[0].node, NOW.plus_secs(60 * DAY));
    assert_eq!(world.submit(0, &entry), Err("future".into()));
    world.step(0, Input::Tick);
    assert_eq!(judged(&world, NOW), NOW);
}

#[test]
fn what_a_revoked_node_signs_says_nothing_of_the_time() {
    let mut world = World::three();
    let crl = world.trusts[1].crl(world.network, 1, &[&world.trusts[1].node], NOW);
    world.submit(1, &crl).unwrap();
    world.settle();
    let later = NOW.plus_secs(DAY);
    for from in [1, 2] {
        hear(&mut world, from, later, NOW);
    }
    assert_eq!(judged(&world, NOW), NOW);
}

#[test]
fn a_trust_that_left_has_no_voice() {
    let mut world = World::three();
    let later = NOW.plus_secs(DAY);
    hear(&mut world, 1, later, NOW);
    let members: Vec<_> = [0, 2].iter().map(|i| &world.trusts[*i]).collect();
    let next = fixtures::next_charter(&world.charter, &members);
    world.submit(0, &next).unwrap();
    hear(&mut world, 2, later, NOW);
    // One other trust is left, and this node's own clock has not been there.
    assert_eq!(judged(&world, NOW), NOW);
}
