//! Honest peers that cannot deliver what they have named, or bring what is refused: the rules allow it, and it costs them no link.

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::record::{Body, Decoded};
use lanyard_crypto::{RecordId, Timestamp};
use lanyard_storage::{Store, Tree};

use super::fixtures::{self, DAY, NOW};
use super::liars::{claim, dropped, pair, points, say};
use super::world::World;
use crate::digest;
use crate::frame::{Done, Fetch, Frame, Offer, Span};
use crate::holding::Holding;
use crate::limits::{FRAME_IDS_MAX, SYNC_INTERVAL_SECS, TRANSFER_BYTES_MAX, WANT_IDS_MAX};
use crate::turn::Turn;
use crate::{Input, Output, Source};

/// Messages of 60 KiB of RXB, enough for `bytes`.
fn large(world: &World, bytes: usize, issued: Timestamp, life_secs: u64) -> Vec<Decoded> {
    let conversation = fixtures::conversation(&world.trusts[1]);
    let trusts: Vec<_> = world.trusts.iter().collect();
    let signed = |n: u64| {
        let Body::Envelope(mut envelope) = fixtures::application(&conversation, n) else {
            panic!("no envelope")
        };
        envelope.content = fixtures::padded_message(&conversation, 1, n, 60 * 1024);
        let header = fixtures::header(world.network, &trusts, issued, life_secs);
        world.trusts[1].sign(header, Body::Envelope(envelope))
    };
    (0..(bytes / (60 * 1024)) as u64 + 1).map(signed).collect()
}

/// Nobody has closed a connection.
fn all_keep_their_links(world: &World) -> bool {
    let closed = |o: &Output| matches!(o, Output::Disconnect { .. });
    !world.nodes.iter().any(|node| node.outputs.iter().any(closed))
}

#[test]
fn who_has_lost_at_once_what_it_named_keeps_its_link() {
    let mut world = pair();
    // As when a conversation is deleted after it was named: of all that is left to ask for, nothing comes.
    let mut asked = Vec::new();
    for n in 0..3u64 {
        let ids: Vec<u8> =
            (0..FRAME_IDS_MAX as u64).flat_map(|i| [n.to_be_bytes(), i.to_be_bytes()].concat()).collect();
        let offer = Offer { number: 0, span: Span::buckets(3, 0, u64::MAX), ids: ids.into() };
        asked.extend(say(&mut world, Frame::Offer(offer)));
    }
    let mut questions = 0;
    while let Some(frame) = asked.pop() {
        let Frame::Want(want) = frame else { panic!("{frame:?}") };
        questions += 1;
        asked.extend(say(&mut world, Frame::Done(Done { number: want.number, next: None })));
    }
    assert_eq!((dropped(&world), questions), (None, 1));
}

#[test]
fn who_is_behind_with_dropping_keeps_its_link() {
    // RXB holds what is over, and does not get round to dropping it; the two hold some in common, so that they compare.
    let mut world = World::three();
    world.gossips = false;
    (0..3).for_each(|at| world.isolate(at));
    super::reconciling::hold_in_common(&world, 1000, DAY);
    let record = super::syncing::message_at(&world, 1, 0, NOW);
    let record = lanyard_crypto::record::verify(record, &world.nodes[0].replica.network()).unwrap();
    let (mut held, store) = (Holding::of(&record), &world.nodes[1].store);
    held.expires = NOW;
    let count = 12 * WANT_IDS_MAX as u64;
    for part in 0..12 {
        let mut turn = Turn::new(store, NOW, usize::MAX);
        for n in part * count / 12..(part + 1) * count / 12 {
            held.issued = NOW.minus_secs(60 + n * DAY / count);
            let id = RecordId::of(&(1_000_000 + n).to_be_bytes());
            digest::enter(&mut turn, &id, &held);
            turn.rows.put(Tree::Holdings, *id.as_bytes(), held.to_row());
        }
        store.commit(turn.finish().unwrap().batch).unwrap();
    }
    world.connect(0, 1);
    world.settle();
    for _ in 0..20 * SYNC_INTERVAL_SECS {
        world.pass(1);
    }
    assert!(all_keep_their_links(&world));
    let wants = world.nodes.iter().flat_map(|n| &n.outputs);
    let wants = wants.filter(|o| matches!(o, Output::Send { frame: Frame::Want(_), .. })).count() as u64;
    assert!((1..=20).contains(&wants), "{wants} questions in 20 rounds");
}

#[test]
fn pages_of_what_has_expired_by_our_clock_cost_nothing() {
    let mut world = pair();
    let records = large(&world, TRANSFER_BYTES_MAX / 4, NOW.minus_secs(100), 99);
    let records: Vec<_> = records.iter().map(|r| r.bytes().to_vec()).collect();
    let source = Source::Peer(world.trusts[1].node_id());
    let mut asked = say(&mut world, claim(5000));
    for n in 0..120u8 {
        let Some(Frame::Fetch(Fetch { number, .. })) = asked.pop() else { panic!("{asked:?}") };
        world.arrive(0, source.clone(), &records);
        asked = say(&mut world, Frame::Done(Done { number, next: Some(vec![200 - n; 40].into()) }));
    }
    assert_eq!((dropped(&world), points(&world)), (None, 0));
}

#[test]
fn what_one_answer_does_not_take_is_asked_for_by_name_again() {
    let mut world = World::three();
    world.gossips = false;
    (0..3).for_each(|at| world.isolate(at));
    let records = large(&world, 2 * TRANSFER_BYTES_MAX, NOW, DAY);
    let bytes: Vec<_> = records.iter().map(|r| r.bytes().to_vec()).collect();
    world.arrive(1, Source::Peer(world.trusts[0].node_id()), &bytes);
    // Where RXA had nothing, it would ask for the span.
    world.bring(0, 1, &records[0]);
    world.lose();
    world.connect(0, 1);
    world.settle();
    assert!(records.iter().all(|record| world.holds(0, &record.id())), "without waiting for a round");
    assert!(all_keep_their_links(&world));
}

#[test]
fn clocks_that_differ_revocations_and_charters_cost_nobody_the_link() {
    for ahead in [0, 1] {
        let mut world = World::three();
        world.gossips = false;
        let conversation = fixtures::conversation(&world.trusts[2]);
        // Some that both hold, some that one of them holds, and all expire one after the other.
        (0..3).for_each(|at| world.isolate(at));
        let trusts: Vec<_> = world.trusts.iter().collect();
        let records: Vec<_> = (0..600u64)
            .map(|n| {
                let header = fixtures::header(world.network, &trusts, NOW, 30 + n);
                world.trusts[2].sign(header, fixtures::application(&conversation, n))
            })
            .collect();
        for (n, record) in records.iter().enumerate() {
            if n % 3 != 1 {
                world.bring(0, 2, record);
            }
            if n % 3 != 2 {
                world.bring(1, 2, record);
            }
        }
        world.lose();
        // RXA alone knows that RXC's node is revoked, and RXB alone that RXC has left.
        let list = world.trusts[2].crl(world.network, 1, &[&world.trusts[2].node], world.now);
        assert_eq!(world.bring(0, 2, &list), None);
        let members: Vec<_> = world.trusts[..2].iter().collect();
        let charter = fixtures::next_charter(&world.charter, &members);
        assert_eq!(world.bring(1, 0, &charter), None);
        world.lose();
        world.connect(0, 1);
        for _ in 0..40 * SYNC_INTERVAL_SECS {
            world.now = world.now.plus_secs(1);
            let clock = world.now;
            for at in [0, 1] {
                // What a step is told is the clock of its node; frames take no time here.
                world.now = if at == ahead { clock.plus_secs(CLOCK_SKEW_SECS_MAX) } else { clock };
                world.step(at, Input::Tick);
                world.now = clock;
            }
            world.settle();
        }
        assert!(all_keep_their_links(&world));
    }
}

#[test]
fn a_charter_that_is_held_with_other_signatures_is_not_sent_in_each_round() {
    let mut world = World::three();
    world.gossips = false;
    (0..3).for_each(|at| world.isolate(at));
    let next = fixtures::next_charter(&world.charter, &world.trusts.iter().collect::<Vec<_>>());
    let Body::Charter(charter) = next.body() else { panic!("no charter") };
    let keys = fixtures::authorities();
    for (at, keys) in [(0, [&keys[0], &keys[1]]), (1, [&keys[1], &keys[2]])] {
        let header = fixtures::for_all(world.network, world.now, 100 * DAY);
        let signed = lanyard_crypto::record::sign_charter(header, charter.clone(), &keys, None).unwrap();
        assert_eq!(world.bring(at, 2, &signed), None);
    }
    world.lose();
    world.nodes.iter_mut().for_each(|n| n.outputs.clear());
    world.connect(0, 1);
    world.settle();
    for _ in 0..40 * SYNC_INTERVAL_SECS {
        world.pass(1);
    }
    let sent = world.nodes.iter().flat_map(|n| &n.outputs);
    let sent = sent.filter(|o| matches!(o, Output::Send { frame: Frame::Records(_), .. })).count();
    assert!((1..=2).contains(&sent), "{sent} times");
    assert!(all_keep_their_links(&world));
}
