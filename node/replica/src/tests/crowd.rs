//! Several peers at once, of which one or more take what they can get: nobody else goes short by it.

use lanyard_crypto::{NodeId, RecordId};
use lanyard_storage::Store;

use super::fixtures::{self, NOW};
use super::liars::{claim, frames};
use super::world::World;
use crate::frame::{Done, Fetch, Frame, Offer, Span};
use crate::limits::{FRAME_IDS_MAX, PEER_IDS_MAX, SERVED_BURST_BYTES_MAX, WANT_IDS_MAX};
use crate::turn::Turn;
use crate::{Input, Output};

/// One node for each of four trusts, of which the first holds every tenth of 50 messages, and the last all of them.
fn four() -> (World, Vec<RecordId>) {
    let mut world = World::apart(&["RXA", "RXB", "RXC", "RXD"]);
    for i in 0..4 {
        let entry = world.trusts[i].entry(world.network, &world.trusts[i].node, NOW);
        world.submit(i, &entry).unwrap();
    }
    world.connect_all();
    world.settle();
    world.gossips = false;
    (0..4).for_each(|at| world.isolate(at));
    let conversation = fixtures::conversation(&world.trusts[0]);
    let records: Vec<_> = (0..50).map(|n| world.message(3, &conversation, n, &[0, 3])).collect();
    for (n, record) in records.iter().enumerate() {
        world.bring(3, 0, record);
        if n % 10 == 0 {
            world.bring(0, 3, record);
        }
    }
    world.lose();
    (world, records.iter().map(|r| r.id()).collect())
}

/// RXA has a connection to this trust's node, for which a test speaks.
fn stand_in(world: &mut World, at: usize) {
    let trust = &world.trusts[at];
    let (node, chain) = (trust.node_id(), trust.chain(&trust.node));
    world.step(0, Input::Connected { node, trust: trust.id.clone(), chain });
}

/// It says this. Returns what RXA sends it in return.
fn say(world: &mut World, at: usize, frame: Frame) -> Vec<Frame> {
    let from = world.trusts[at].node_id();
    let before = world.nodes[0].outputs.len();
    world.step(0, Input::Frame { from, frame });
    frames(&world.nodes[0].outputs[before..])
}

/// An offer of `count` messages that nobody has, different ones for each `first`.
fn offer(first: u64, count: usize) -> Frame {
    let ids: Vec<u8> =
        (0..count as u64).flat_map(|n| [first.to_be_bytes(), n.to_be_bytes()].concat()).collect();
    Frame::Offer(Offer { number: 0, span: Span::buckets(3, 0, u64::MAX), ids: ids.into() })
}

#[test]
fn who_names_more_than_all_can_note_does_not_keep_others_from_being_asked() {
    let (mut world, _) = four();
    for liar in [1, 2] {
        stand_in(&mut world, liar);
        for n in 0..PEER_IDS_MAX / FRAME_IDS_MAX {
            say(&mut world, liar, offer(100 * liar as u64 + n as u64, FRAME_IDS_MAX));
        }
        // The first question took some.
        say(&mut world, liar, offer(100 * liar as u64 + 99, WANT_IDS_MAX));
    }
    stand_in(&mut world, 3);
    assert!(matches!(&say(&mut world, 3, claim(5000))[..], [Frame::Ask(_)]));
    assert!(matches!(&say(&mut world, 3, offer(7, 100))[..], [Frame::Want(want)] if want.ids.len() == 1600));
}

#[test]
fn who_offers_something_from_all_time_does_not_keep_others_from_sending_a_span() {
    let (mut world, records) = four();
    // RXA begins anew, and so asks for the span as a whole.
    world.nodes[0] = super::world::Node::new(&world.trusts[0], &world.charter);
    for at in 0..4 {
        let entry = world.trusts[at].entry(world.network, &world.trusts[at].node, NOW);
        world.bring(0, 3, &entry);
    }
    stand_in(&mut world, 1);
    assert!(matches!(&say(&mut world, 1, offer(7, 1))[..], [Frame::Want(_)]));
    world.connect(0, 3);
    world.settle();
    assert!(records.iter().all(|id| world.holds(0, id)), "at once, though RXB has not answered yet");
}

#[test]
fn nodes_of_one_trust_are_served_as_much_as_one_node() {
    let (mut world, _) = four();
    stand_in(&mut world, 1);
    let (trust, first) = (world.trusts[1].id.clone(), world.trusts[1].node_id());
    let second = NodeId::new([77; 32]);
    let chain = world.trusts[1].chain(&world.trusts[1].node);
    world.nodes[0].outputs.clear();
    let fetch = || Frame::Fetch(Fetch { number: 5, span: Span::buckets(3, 0, u64::MAX), before: None });
    let (now, node) = (world.now, &mut world.nodes[0]);
    let mut step = |input| {
        let step = node.replica.step(input, now, &node.store).unwrap();
        node.store.commit(step.batch).unwrap();
        step.outputs
    };
    step(Input::Connected { node: second, trust: trust.clone(), chain });
    let answer = |outputs: Vec<Output>| frames(&outputs).pop().unwrap();
    assert!(matches!(answer(step(Input::Frame { from: second, frame: fetch() })), Frame::Done(_)));
    let mut turn = Turn::new(&node.store, now, usize::MAX);
    node.replica.charge(&mut turn, first, &trust, [0, 0], SERVED_BURST_BYTES_MAX).unwrap();
    drop(turn);
    // Which of them has taken it does not matter; another trust goes on.
    world.nodes[0].outputs.clear();
    let node = &mut world.nodes[0];
    let step = node.replica.step(Input::Frame { from: second, frame: fetch() }, now, &node.store).unwrap();
    assert_eq!(frames(&step.outputs), [Frame::Wait(5)]);
    stand_in(&mut world, 2);
    assert!(matches!(&say(&mut world, 2, fetch())[..], [Frame::Done(_)]));
}

#[test]
fn who_take_turns_at_naming_what_they_do_not_send_keep_nobody_from_sending_it() {
    let (mut world, records) = four();
    let ids: Vec<u8> = records[1..10].iter().flat_map(|id| id.as_bytes()[..16].to_vec()).collect();
    let named =
        || Frame::Offer(Offer { number: 0, span: Span::buckets(3, 0, u64::MAX), ids: ids.clone().into() });
    (1..4).for_each(|at| stand_in(&mut world, at));
    let asked = say(&mut world, 1, named());
    let [Frame::Want(want)] = &asked[..] else { panic!("{asked:?}") };
    assert!(say(&mut world, 2, named()).is_empty(), "it is on its way");
    say(&mut world, 1, Frame::Done(Done { number: want.number, next: None }));
    assert!(matches!(&say(&mut world, 2, named())[..], [Frame::Want(_)]));
    let asked = say(&mut world, 3, named());
    assert!(matches!(&asked[..], [Frame::Want(want)] if want.ids.len() == ids.len()), "{asked:?}");
}
