//! A clock that is behind: what others have signed tells, and who is let in is judged by that.

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::network::IdentityError;
use lanyard_crypto::x509::{ChainError, Purpose};
use lanyard_crypto::{Fingerprint, Timestamp};
use lanyard_storage::{Batch, Store, Tree};

use super::fixtures::{self, DAY, NOW};
use super::world::World;
use crate::clock::{CLOCK_AGREES, CLOCK_BEHIND, CLOCK_UNREADABLE};
use crate::limits::{FLOOR_STEP_SECS, VOICES_PRESENT_SECS};
use crate::{Input, Output, Reply, Request, Source};

const HOUR: u64 = 3600;
const SKEW: u64 = CLOCK_SKEW_SECS_MAX;

/// A trust's node signs something now, and the first node hears of it by its own, other clock.
fn hear(world: &mut World, from: usize, at: Timestamp, clock: Timestamp) {
    world.now = at;
    let message = world.message(from, &fixtures::conversation(&world.trusts[from]), 1, &[0, 1, 2]);
    world.now = clock;
    world.bring(0, from, &message);
    world.step(0, Input::Tick);
}

/// By which moment the first node judges who is let in.
fn judged(world: &World, clock: Timestamp) -> Timestamp {
    world.nodes[0].replica.network().time(clock)
}

fn entries(world: &World, event: &str) -> usize {
    world.audit(0).iter().filter(|entry| entry.event == event).count()
}

/// Trusts that know each other's nodes, connected.
fn five() -> World {
    let mut world = World::apart(&["RXA", "RXB", "RXC", "RXD", "RXE"]);
    for i in 0..5 {
        let entry = world.trusts[i].entry(world.network, &world.trusts[i].node, NOW);
        world.submit(i, &entry).unwrap();
    }
    world.connect_all();
    world.settle();
    world
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
    assert!(told.detail.contains("compare it with another clock first"), "{}", told.detail);

    // It is known from the first moment of the next run.
    world.restart(0);
    assert!(check(&world).is_err());
    world.now = after.plus_secs(HOUR);
    world.step(0, Input::Tick);
    assert_eq!(entries(&world, CLOCK_AGREES), 1, "it is known that an earlier run said it");
    world.now = clock;
    world.step(0, Input::Tick);
    world.now = after.plus_secs(HOUR);
    world.step(0, Input::Tick);
    assert_eq!((entries(&world, CLOCK_BEHIND), entries(&world, CLOCK_AGREES)), (2, 2));
}

#[test]
fn what_is_certain_outlives_a_restart_and_owes_nothing_to_the_own_clock() {
    let mut world = World::three();
    let later = NOW.plus_secs(DAY);
    // This node's own clock was always behind.
    [1, 2].into_iter().for_each(|from| hear(&mut world, from, later, NOW));
    world.restart(0);
    assert_eq!(judged(&world, NOW), later.minus_secs(SKEW));
    // And a clock that was ahead alone leaves nothing behind.
    world.now = later.plus_secs(300 * DAY);
    world.step(0, Input::Tick);
    world.restart(0);
    assert_eq!(judged(&world, NOW), later.minus_secs(SKEW));
}

#[test]
fn more_than_half_of_all_other_trusts_are_needed_and_not_of_those_heard() {
    let mut world = five();
    world.restart(0);
    let later = NOW.plus_secs(DAY);
    for from in [1, 2] {
        hear(&mut world, from, later, NOW);
        assert_eq!(judged(&world, NOW), NOW, "{from}");
    }
    hear(&mut world, 3, later.minus_secs(HOUR), NOW);
    assert_eq!(judged(&world, NOW), later.minus_secs(HOUR + SKEW));
}

#[test]
fn time_goes_on_while_the_clock_is_behind_and_a_clock_that_is_set_is_not_time_that_passed() {
    let mut world = World::three();
    let later = NOW.plus_secs(DAY);
    [1, 2].into_iter().for_each(|from| hear(&mut world, from, later, NOW));
    world.nodes[0].outputs.clear();
    for _ in 0..600 {
        world.now = world.now.plus_secs(1);
        world.step(0, Input::Tick);
    }
    let (judged_at, now) = (judged(&world, world.now), later.minus_secs(SKEW).plus_secs(600));
    assert!(judged_at <= now && judged_at > now.minus_secs(FLOOR_STEP_SECS), "{judged_at:?}");
    let rechecks = world.nodes[0].outputs.iter().filter(|o| matches!(o, Output::TrustChanged)).count();
    assert_eq!(rechecks as u64, 600 / FLOOR_STEP_SECS);
    // It is set right, and goes back again.
    for clock in [later.plus_secs(600), NOW] {
        world.now = clock;
        world.step(0, Input::Tick);
    }
    let floor = world.nodes[0].replica.network().floor();
    assert!(floor <= now.plus_secs(1) && floor >= judged_at, "{floor:?}");
}

#[test]
fn a_majority_that_was_ahead_and_is_right_again_is_followed() {
    let mut world = World::three();
    let ahead = NOW.plus_secs(30 * DAY);
    let old: Vec<_> = [1, 2]
        .map(|from| world.message(from, &fixtures::conversation(&world.trusts[from]), 7, &[0, 1, 2]))
        .into();
    [1, 2].into_iter().for_each(|from| hear(&mut world, from, ahead, NOW));
    assert!(judged(&world, NOW) > NOW.plus_secs(29 * DAY));
    world.restart(0);
    // One peer can bring what all have signed long ago: that says nothing of the present.
    world.connect(0, 1);
    for (from, record) in [1, 2].into_iter().zip(&old) {
        world.bring(0, from, record);
    }
    for _ in 0..2 * VOICES_PRESENT_SECS / 60 {
        world.pass(60);
    }
    assert!(judged(&world, world.now) > NOW.plus_secs(29 * DAY));
    world.connect(0, 2);
    for _ in 0..VOICES_PRESENT_SECS / 60 + 1 {
        world.pass(60);
    }
    assert_eq!(judged(&world, world.now), world.now);
    assert_eq!((entries(&world, CLOCK_BEHIND), entries(&world, CLOCK_AGREES)), (1, 1));
    world.restart(0);
    assert_eq!(judged(&world, world.now), world.now);
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
}

#[test]
fn registrars_say_nothing_of_the_time_and_nodes_nothing_beyond_their_certificates() {
    let mut world = World::three();
    let later = NOW.plus_secs(DAY);
    for from in [0, 1, 2] {
        let entry = world.trusts[from].entry(world.network, &world.trusts[from].node, later);
        let crl = world.trusts[from].crl(world.network, 1, &[], later);
        for record in [entry, crl] {
            assert_eq!(world.bring(0, from.max(1), &record), Some("future".into()));
        }
    }
    world.step(0, Input::Tick);
    assert_eq!(judged(&world, NOW), NOW);
    for from in [1, 2] {
        let over = world.trusts[from].node.not_after().plus_secs(HOUR);
        hear(&mut world, from, over, NOW);
    }
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
fn with_one_other_trust_nothing_is_certain() {
    let mut world = World::three();
    let later = NOW.plus_secs(DAY);
    [1, 2].into_iter().for_each(|from| hear(&mut world, from, later, NOW));
    assert!(judged(&world, NOW) > NOW);
    let members: Vec<_> = [0, 2].iter().map(|i| &world.trusts[*i]).collect();
    let next = fixtures::next_charter(&world.charter, &members);
    world.submit(0, &next).unwrap();
    hear(&mut world, 2, later.plus_secs(HOUR), NOW);
    assert_eq!(judged(&world, NOW), NOW);
    world.restart(0);
    assert_eq!(judged(&world, NOW), NOW);
}

#[test]
fn a_revocation_by_a_clock_that_is_behind_is_dated_by_what_the_others_say() {
    let mut world = World::three();
    let later = NOW.plus_secs(DAY);
    [1, 2].into_iter().for_each(|from| hear(&mut world, from, later, NOW));
    match world.ask(0, Request::Bar(vec![Fingerprint::new([7; 32])])) {
        Ok(Reply::Barred(at)) => assert_eq!(at, later),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_row_that_cannot_be_read_is_told_once() {
    let mut world = World::three();
    let mut batch = Batch::new();
    batch.put(Tree::Meta, b"time-floor".to_vec(), vec![0xff; 9]);
    world.nodes[0].store.commit(batch).unwrap();
    for _ in 0..2 {
        world.restart(0);
        world.step(0, Input::Tick);
        world.step(0, Input::Tick);
        assert_eq!(entries(&world, CLOCK_UNREADABLE), 1);
    }
}

/// Numbers that follow from a seed (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Four other trusts, of which one lies and the clocks of three differ; the node's own is hours behind, right, or hours ahead by turns, and
/// it restarts. What it believes is never beyond the true time, and reaches what the honest ones were heard to sign.
#[test]
fn whatever_the_own_clock_does_and_one_trust_says_the_bound_is_true_and_tight() {
    const LIAR: usize = 4;
    let offsets: [i64; 4] = [-5 * HOUR as i64, -(HOUR as i64), 0, 3 * HOUR as i64];
    let ahead: [i64; 4] = [0, 140, -140, 60];
    let (mut behind, mut reached) = (0, 0);
    for seed in 0..12 {
        let (mut chance, mut world) = (Chance(seed), five());
        let mut now = NOW.plus_secs(DAY);
        let mut offset = offsets[chance.below(4) as usize];
        let mut heard: [Option<Timestamp>; 5] = [None; 5];
        for n in 0..120 {
            now = now.plus_secs(1 + chance.below(60));
            if chance.below(20) == 0 {
                offset = offsets[chance.below(4) as usize];
            }
            if chance.below(40) == 0 {
                world.restart(0);
                heard = [None; 5];
            }
            let from = 1 + chance.below(4) as usize;
            let shift = |at: Timestamp, by: i64| Timestamp::from_secs(at.as_secs().saturating_add_signed(by));
            let at = match from {
                LIAR => shift(now, chance.below(40 * DAY) as i64 - 10 * DAY as i64),
                honest => shift(now, ahead[honest]),
            };
            world.now = at;
            let said = world.message(from, &fixtures::conversation(&world.trusts[from]), n, &[0, from]);
            world.now = shift(now, offset);
            let source = Source::Peer(world.trusts[from].node_id());
            world.arrive(0, source, &[said.bytes().to_vec()]);
            world.step(0, Input::Tick);
            heard[from] = Some(at);

            let floor = world.nodes[0].replica.voices.floor();
            assert!(floor <= now, "seed {seed}, step {n}: {floor:?} is believed, and it is {now:?}");
            if let [Some(a), Some(b), Some(c)] = heard[1..LIAR] {
                let least = a.min(b).min(c).minus_secs(SKEW);
                assert!(
                    floor >= least,
                    "seed {seed}, step {n}: {floor:?} is believed, and {least:?} was heard"
                );
                reached += 1;
            }
            if floor > world.now {
                let judged = judged(&world, world.now);
                assert!(judged <= now && judged.plus_secs(FLOOR_STEP_SECS) > floor, "seed {seed}, step {n}");
                behind += 1;
            }
        }
    }
    assert!(behind > 100 && reached > 100, "{behind} {reached}");
}
