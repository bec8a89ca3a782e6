//! Spans that are too much for one answer, however deep they have to be divided.

use lanyard_crypto::{RecordId, Timestamp};
use lanyard_storage::{Batch, Store, Tree};

use super::fixtures::{DAY, NOW};
use super::liars::{claim, pair, points, say};
use super::reconciling::hold_in_common;
use super::world::World;
use crate::frame::{Ask, Frame, List, Offer, Symbols};
use crate::keys;
use crate::limits::SPAN_ROWS_MAX;
use crate::verdict::Misconduct;

const FIRST: u8 = 7;

/// RXB holds more records of one hour, with ids that begin alike, than one answer may read; none of them is for RXA.
fn hold_for_others(world: &World, issued: Timestamp) {
    let others = keys::trust(&world.trusts[2].id);
    let mut rows = (0..SPAN_ROWS_MAX as u64 + 1000).map(|n| {
        let mut id = *RecordId::of(&n.to_be_bytes()).as_bytes();
        id[0] = FIRST;
        keys::index(3, issued, &RecordId::new(id))
    });
    loop {
        let mut batch = Batch::new();
        rows.by_ref().take(8192).for_each(|key| batch.put(Tree::Index, key, others));
        if batch.is_empty() {
            return;
        }
        world.nodes[1].store.commit(batch).unwrap();
    }
}

#[test]
fn an_hour_of_ids_that_begin_alike_is_compared() {
    let issued = NOW.minus_secs(60);
    // So few are compared by a list, and so many by symbols.
    for common in [1, 200] {
        let mut world = World::three();
        world.gossips = false;
        (0..3).for_each(|at| world.isolate(at));
        hold_in_common(&world, common, 1);
        hold_for_others(&world, issued);
        let lacking = (0..10_000)
            .map(|n| super::syncing::message_at(&world, 0, n, issued))
            .find(|record| record.id().as_bytes()[0] == FIRST)
            .unwrap();
        world.bring(1, 0, &lacking);
        world.lose();
        world.connect(0, 1);
        world.settle();
        for _ in 0..90 {
            world.pass(1);
        }
        assert!(world.holds(0, &lacking.id()), "beside {common}");
    }
}

/// An answer that a span is too much.
fn too_much(number: u64) -> Frame {
    Frame::Symbols(Symbols { number, estimate: u64::MAX, sum: None, cells: vec![].into() })
}

#[test]
fn a_deep_division_is_no_failure() {
    let mut world = pair();
    hold_in_common(&world, 500, DAY);
    let mut asked = say(&mut world, claim(5000));
    for _ in 0..6 {
        let Some(Frame::Ask(Ask { number, .. })) = asked.pop() else { panic!("{asked:?}") };
        asked = say(&mut world, too_much(number));
    }
    // Symbols that are too few, once: that is no fault, however deep it was divided before.
    let Some(Frame::Ask(Ask { number, span, .. })) = asked.pop() else { panic!("{asked:?}") };
    let few = Symbols { number, estimate: 3, sum: None, cells: vec![1; 25 * 20].into() };
    let [Frame::Ask(again)] = &say(&mut world, Frame::Symbols(few))[..] else { panic!("asked again") };
    assert_eq!(again.span, span);
    assert_eq!(points(&world), 0);
}

#[test]
fn who_says_that_everything_is_too_much_costs_a_bounded_number_of_questions() {
    let mut world = pair();
    hold_in_common(&world, 500, DAY);
    let mut asked = say(&mut world, claim(5000));
    let mut questions = 0;
    while let Some(frame) = asked.pop() {
        questions += 1;
        assert!(questions < 20_000, "it has no end");
        asked.extend(match frame {
            Frame::Ask(Ask { number, .. }) => say(&mut world, too_much(number)),
            Frame::List(List { number, .. }) => say(&mut world, too_much(number)),
            Frame::Roots(_) => continue,
            frame => panic!("{frame:?}"),
        });
    }
    assert!(questions > 1000, "{questions}");
    // The next round goes on as if nothing had been.
    assert!(!say(&mut world, claim(5000)).is_empty());
}

#[test]
fn a_list_that_is_answered_with_symbols_costs_points() {
    let mut world = pair();
    hold_in_common(&world, 5, DAY);
    let asked = say(&mut world, claim(5));
    let [Frame::List(List { number, .. })] = asked[..] else { panic!("{asked:?}") };
    let symbols = Symbols { number, estimate: 3, sum: None, cells: vec![1; 25].into() };
    assert_eq!(say(&mut world, Frame::Symbols(symbols)), []);
    assert_eq!(points(&world), Misconduct::Malformed.penalty());
    // And an offer in the place of symbols.
    let mut world = pair();
    hold_in_common(&world, 500, DAY);
    let asked = say(&mut world, claim(5000));
    let [Frame::Ask(Ask { number, span, .. })] = asked[..] else { panic!("{asked:?}") };
    say(&mut world, Frame::Offer(Offer { number, span, ids: vec![].into() }));
    assert_eq!(points(&world), Misconduct::Malformed.penalty());
}
