//! The order of commits in every state, and the deliberate breaches that show that the properties bite.
//!
//! The counts are pinned: a change of the model, or of its bounds, is seen here and thought about.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lanyard_model::hub::properties::{IDEMPOTENT, LEARNED, ONE_COMMIT, ONE_PUBLISHED, SPREAD, TRUTH};
use lanyard_model::hub::{Action, Answer, Guard, Hub};
use lanyard_model::shortest;
use stateright::{Checker, Model};

use Action::{Arrive, Ask, HandIn, Order};

/// Enough for every counterexample here.
const STEPS_MAX: usize = 8;

fn without(guard: Guard) -> Hub {
    Hub { epochs: 1, without: Some(guard) }
}

/// The shortest way to a breach, checked to be one.
fn breach(model: &Hub, property: &'static str) -> Vec<Action> {
    let path = shortest(model, property, STEPS_MAX).unwrap().into_actions();
    println!("{property}: {path:?}");
    path
}

/// The promises that are broken somewhere, in the order of the model.
fn broken(model: Hub) -> Vec<&'static str> {
    let checker = model.checker().threads(2).spawn_bfs().join();
    let promises = checker.model().properties().into_iter().filter(|p| p.expectation.discovery_is_failure());
    promises.map(|p| p.name).filter(|name| checker.discovery(name).is_some()).collect()
}

fn order(client: usize, answer: Answer) -> Action {
    Order { client, epoch: 0, submission: 0, answer }
}

#[test]
fn the_design_keeps_its_promises() {
    let checker = Hub::designed().checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    assert_eq!(checker.unique_state_count(), 1_674_822);
}

/// Two submissions for one epoch, both published: which commit a replica has depends on which came first.
#[test]
fn a_hub_that_does_not_look_lets_the_conversation_fork() {
    let model = without(Guard::OnePerEpoch);
    assert_eq!(broken(model.clone()), [ONE_PUBLISHED, ONE_COMMIT, TRUTH, LEARNED, IDEMPOTENT, SPREAD]);
    let published = [HandIn(2), order(2, Answer::Lost), Ask(Answer::Lost)];
    assert_eq!(breach(&model, ONE_PUBLISHED), published);
    // The hub itself keeps the first; a custodian, the one that reaches it first.
    let path = breach(&model, ONE_COMMIT);
    assert_eq!(path[..3], published);
    assert_eq!(path[3..], [Arrive { epoch: 0, commit: 0, at: 2 }]);
}

/// The winner hears that it has lost, and makes its change again.
#[test]
fn a_hub_that_does_not_know_a_commit_again_misleads_the_winner() {
    let model = without(Guard::SameAgain);
    assert_eq!(broken(model.clone()), [TRUTH, LEARNED, IDEMPOTENT]);
    assert_eq!(breach(&model, TRUTH), [Ask(Answer::Lost), Ask(Answer::Arrives)]);
}

/// Who was told that it has won finds nothing published.
#[test]
fn an_answer_before_its_commit_is_a_promise_that_a_crash_breaks() {
    let model = without(Guard::CommitFirst);
    assert_eq!(broken(model.clone()), [TRUTH, LEARNED]);
    assert_eq!(breach(&model, TRUTH), [Ask(Answer::Lost)]);
}
