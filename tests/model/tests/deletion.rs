//! Deletion, expiry and pruning in every state, and the deliberate breaches that show that the properties bite.
//!
//! The counts are pinned: a change of the model, or of its bounds, is seen here and thought about.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lanyard_model::deletion::properties::{
    CONVERGED, PRUNED_IN_TIME, STAYS_DELETED, STAYS_EXPIRED, UNSERVED,
};
use lanyard_model::deletion::{Action, Deletion, MARGIN, Prune, Record};
use lanyard_model::shortest;
use stateright::{Checker, HasDiscoveries, Model};

use Action::{Advance, Arrive, Delete, SetBack, Sync, Tick};

/// Enough for every counterexample here.
const STEPS_MAX: usize = 12;

/// Searches all states. Returns how many there are, and the promises that are broken in some.
fn check(model: Deletion) -> (usize, Vec<&'static str>) {
    let checker = model.checker().threads(2).spawn_bfs().join();
    let properties = checker.model().properties();
    let found = |name: &'static str| checker.discovery(name).is_some();
    let (promises, examples): (Vec<_>, Vec<_>) =
        properties.into_iter().partition(|p| p.expectation.discovery_is_failure());
    let missing: Vec<_> = examples.iter().map(|p| p.name).filter(|name| !found(name)).collect();
    assert!(missing.is_empty(), "never occurs, so nothing is shown about it: {missing:?}");
    (checker.unique_state_count(), promises.iter().map(|p| p.name).filter(|name| found(name)).collect())
}

/// One message, and nobody who lies: what the breaches need.
fn small() -> Deletion {
    Deletion { liar: false, ..Deletion::designed() }
}

#[test]
fn the_design_keeps_its_promises() {
    assert_eq!(check(Deletion::designed()), (461_638, vec![]));
}

#[test]
fn a_tombstone_of_two_messages_outlives_both() {
    assert_eq!(check(Deletion { messages: 2, ..small() }), (1_267_516, vec![]));
}

#[test]
fn a_clock_that_is_set_back_undoes_nothing() {
    assert_eq!(check(Deletion { clocks_step_back: true, ..small() }), (1_596_240, vec![]));
}

/// A replica that asks the clock alone takes what has expired again, until it expires once more.
#[test]
fn time_that_goes_back_undoes_an_expiry_and_no_deletion() {
    let model = Deletion { clocks_step_back: true, time_stands_still: false, ..small() };
    assert_eq!(check(model.clone()), (493_128, vec![STAYS_EXPIRED]));
    let path = [Advance(1), Advance(1), Tick(1), SetBack(1), Arrive(Record::Message(0), 1)];
    assert_eq!(shortest(&model, STAYS_EXPIRED, STEPS_MAX).unwrap().into_actions(), path);
}

/// The owner prunes its tombstone when it is two units old. The message, which another still has, is back after the next round.
#[test]
fn pruning_on_age_alone_brings_a_deleted_message_back() {
    let model = Deletion { prune: Prune::OnAge { age: 2 }, copies: false, ..small() };
    let (_, broken) = check(model.clone());
    assert_eq!(broken, [CONVERGED, STAYS_DELETED, UNSERVED, PRUNED_IN_TIME]);
    let path = shortest(&model, STAYS_DELETED, STEPS_MAX).unwrap().into_actions();
    println!("{STAYS_DELETED}: {path:?}");
    assert_eq!(path, [Sync(0, 1), Delete(0), Advance(0), Advance(0), Tick(0), Sync(0, 1)]);

    // A greater age only needs a message that lives longer.
    let later = Deletion { prune: Prune::OnAge { age: 3 }, ..small() };
    assert!(shortest(&later, PRUNED_IN_TIME, STEPS_MAX).is_some());
}

#[test]
fn everything_that_a_tombstone_names_counts() {
    let model = Deletion { prune: Prune::PastFirst { margin: MARGIN }, messages: 2, ..small() };
    let path = shortest(&model, PRUNED_IN_TIME, STEPS_MAX).unwrap().into_actions();
    assert_eq!(path, [Delete(1), Advance(1), Advance(1), Advance(1), Advance(1), Tick(1)]);
    let model = Deletion { prune: Prune::PastFirst { margin: 0 }, messages: 2, ..small() };
    assert!(shortest(&model, STAYS_DELETED, STEPS_MAX).is_some());
}

/// Twice the skew is needed: who prunes may be ahead by one, and who takes the message back behind by one.
#[test]
fn a_smaller_margin_is_too_small() {
    let model = Deletion { prune: Prune::PastTargets { margin: MARGIN - 1 }, ..small() };
    let path = shortest(&model, PRUNED_IN_TIME, STEPS_MAX).unwrap().into_actions();
    assert_eq!(path, [Delete(1), Advance(1), Advance(1), Advance(1), Tick(1)]);
    // And where a clock is set back, it may be the same replica.
    let model = Deletion { clocks_step_back: true, time_stands_still: false, ..model };
    let checker =
        model.checker().finish_when(HasDiscoveries::AnyOf([STAYS_DELETED].into())).spawn_bfs().join();
    assert!(checker.discovery(STAYS_DELETED).is_some());
}

#[test]
fn an_outbox_that_does_not_look_at_the_clock_serves_what_has_expired() {
    let model = Deletion { unchecked_outbox: true, ..small() };
    assert_eq!(check(model.clone()).1, [UNSERVED]);
    assert_eq!(shortest(&model, UNSERVED, STEPS_MAX).unwrap().into_actions(), [Advance(1), Advance(1)]);
}
