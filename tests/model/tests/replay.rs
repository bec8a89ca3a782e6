//! The model of deletion is a statement about the engine: real replicas that do the same hold the same after each action, and
//! refuse the same for the same reason.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod engine;

use std::collections::BTreeSet;

use engine::{Engine, Trusts};
use lanyard_model::deletion::properties::{PRUNED_IN_TIME, STAYS_DELETED, STAYS_EXPIRED};
use lanyard_model::deletion::{Action, Deletion, MARGIN, PAIRS, Prune, RECORDS, REPLICAS, Record, State};
use lanyard_model::shortest;
use stateright::{Checker, Expectation, Model};

const WALKS: usize = 100;
const STEPS: usize = 60;

/// Everything at once: more than the checker searches, and within what one walk can meet.
fn rich() -> Deletion {
    Deletion { messages: 2, clocks_step_back: true, ..Deletion::designed() }
}

/// Does one action on both sides, and compares. Returns where the model is then, and how it was refused.
fn act(
    model: &Deletion,
    engine: &mut Engine<'_>,
    state: &State,
    action: Action,
) -> (State, Option<&'static str>) {
    let expected = match action {
        Action::Arrive(record, at) => {
            let taken = model.arrive(&mut state.clone(), record, at).expect("only what is signed arrives");
            taken.err().map(|why| why.code())
        }
        _ => None,
    };
    let refused = engine.apply(action);
    assert_eq!(refused.as_deref(), expected, "{action:?} in {state:#?}");
    // Two tombstones go in either order, by their ids or against them, as they were asked for.
    let actions = match action {
        Action::Sync(a, b) | Action::SyncVoidFirst(a, b) => {
            vec![Action::Sync(a, b), Action::SyncVoidFirst(a, b)]
        }
        other => vec![other],
    };
    // An action that changes nothing is none to the checker.
    let next = |action| model.next_state(state, action).unwrap_or_else(|| state.clone());
    let alike = |next: &State| {
        let same = |at, record| engine.holds(at, record) == next.replicas[at].holds(record);
        (0..REPLICAS).all(|at| RECORDS.into_iter().all(|record| same(at, record)))
    };
    let next = actions.into_iter().map(next).find(alike);
    let next =
        next.unwrap_or_else(|| panic!("the engine holds something else after {action:?} in {state:#?}"));
    (next, expected)
}

/// Follows actions from a first state, and compares after each.
fn follow(model: &Deletion, trusts: &Trusts, first: &State, actions: &[Action]) {
    let mut engine = Engine::new(trusts, model, first);
    let mut state = first.clone();
    for action in actions {
        (state, _) = act(model, &mut engine, &state, *action);
    }
}

#[test]
fn every_example_of_the_model_is_one_of_the_engine() {
    let (trusts, model) = (Trusts::new(), Deletion::designed());
    // The last of its kind that the checker meets: long, and through much else.
    let checker = model.clone().checker().spawn_bfs().join();
    let examples = model.properties().into_iter().filter(|p| p.expectation == Expectation::Sometimes);
    let mut followed = 0;
    for example in examples {
        let path = checker.discovery(example.name).unwrap();
        let (first, actions) = (path.clone().into_states().swap_remove(0), path.into_actions());
        follow(&model, &trusts, &first, &actions);
        followed += actions.len();
    }
    assert!(followed > 100, "{followed} actions are too few");
}

/// The counterexamples of the deliberate breaches end otherwise: the engine has none of them, and the comparison sees it.
#[test]
fn no_breach_is_one_of_the_engine() {
    let trusts = Trusts::new();
    let two = Deletion { messages: 2, liar: false, ..Deletion::designed() };
    let one = Deletion { messages: 1, ..two.clone() };
    let breaches = [
        (Deletion { prune: Prune::OnAge { age: 2 }, ..one.clone() }, STAYS_DELETED),
        (Deletion { prune: Prune::PastTargets { margin: MARGIN - 1 }, ..one.clone() }, PRUNED_IN_TIME),
        (Deletion { prune: Prune::PastFirst { margin: MARGIN }, ..two }, PRUNED_IN_TIME),
    ];
    for (breach, property) in breaches {
        let path = shortest(&breach, property, 12).unwrap();
        let (last, first) = (path.last_state().clone(), path.clone().into_states().swap_remove(0));
        let mut engine = Engine::new(&trusts, &breach, &first);
        path.into_actions().into_iter().for_each(|action| drop(engine.apply(action)));
        let held = |record| (0..REPLICAS).map(|at| engine.holds(at, record)).collect::<Vec<_>>();
        let expected = |record| last.replicas.iter().map(|r| r.holds(record)).collect::<Vec<_>>();
        assert_ne!(held(Record::Tombstone), expected(Record::Tombstone), "{breach:?}: nobody has pruned");
    }
}

/// Where the model's replica asks the clock alone, the engine does not.
#[test]
fn a_clock_that_is_set_back_does_not_undo_an_expiry() {
    let (trusts, model) = (
        Trusts::new(),
        Deletion { clocks_step_back: true, time_stands_still: false, liar: false, ..Deletion::designed() },
    );
    let path = shortest(&model, STAYS_EXPIRED, 12).unwrap();
    let first = path.clone().into_states().swap_remove(0);
    let mut engine = Engine::new(&trusts, &model, &first);
    let refused: Vec<_> = path.into_actions().into_iter().filter_map(|action| engine.apply(action)).collect();
    assert_eq!(refused, ["expired"]);
}

#[test]
fn all_that_can_happen_first_happens_alike() {
    let (trusts, model) = (Trusts::new(), rich());
    let mut compared = 0;
    for first in model.init_states().into_iter().step_by(7) {
        for action in actions(&model, &first) {
            let Some(second) = model.next_state(&first, action) else { continue };
            for next in actions(&model, &second) {
                follow(&model, &trusts, &first, &[action, next]);
                compared += 1;
            }
        }
    }
    assert!(compared > 500, "{compared} are too few");
}

#[test]
fn long_walks_end_alike() {
    let (trusts, model) = (Trusts::new(), rich());
    let mut draw = Draw(1);
    let (mut refusals, mut met) = (BTreeSet::new(), BTreeSet::new());
    let firsts = model.init_states();
    for _ in 0..WALKS {
        let mut state = firsts[draw.below(firsts.len())].clone();
        let mut engine = Engine::new(&trusts, &model, &state);
        for _ in 0..STEPS {
            if draw.below(8) == 0 {
                engine.restart(draw.below(REPLICAS));
            }
            let mut all = actions(&model, &state);
            // Time goes on more often than back, and disks rarely fail.
            if draw.below(3) == 0 {
                all.retain(|action| matches!(action, Action::Advance(_)));
            }
            if draw.below(10) > 0 {
                all.retain(|action| !matches!(action, Action::Replace(_)));
            }
            if all.is_empty() {
                continue;
            }
            let action = all[draw.below(all.len())];
            let (next, refused) = act(&model, &mut engine, &state, action);
            refusals.extend(refused);
            state = next;
            let examples = model.properties().into_iter().filter(|p| p.expectation == Expectation::Sometimes);
            met.extend(examples.filter(|p| (p.condition)(&model, &state)).map(|p| p.name));
        }
        settle(&model, &mut engine, state);
    }
    assert_eq!(refusals, ["deleted", "expired", "future", "may-not-delete"].into());
    let missed: Vec<_> = model
        .properties()
        .into_iter()
        .filter(|p| p.expectation == Expectation::Sometimes && !met.contains(p.name))
        .map(|p| p.name)
        .collect();
    assert!(missed.is_empty(), "no walk has met {missed:?}");
}

/// Lets clocks agree and rounds complete: the replicas end alike (P5).
fn settle(model: &Deletion, engine: &mut Engine<'_>, mut state: State) {
    let expected = model.settled(&state);
    for at in 0..REPLICAS {
        while state.replicas[at].clock < state.latest {
            (state, _) = act(model, engine, &state, Action::Advance(at));
        }
    }
    let ticks = (0..REPLICAS).map(Action::Tick);
    let rounds = PAIRS.map(|(a, b)| Action::Sync(a, b));
    for action in ticks.chain(rounds).chain(rounds) {
        (state, _) = act(model, engine, &state, action);
    }
    for (at, record) in (0..REPLICAS).flat_map(|at| RECORDS.map(|record| (at, record))) {
        assert_eq!(
            engine.holds(at, record),
            expected.replicas[0].holds(record),
            "{record:?} at {at}: {state:#?}"
        );
    }
}

/// What may happen next, with the arrivals that are refused; an action that is not possible here is left out.
fn actions(model: &Deletion, state: &State) -> Vec<Action> {
    let mut actions = Vec::new();
    model.actions(state, &mut actions);
    let possible = |action: &Action| match action {
        Action::Arrive(..)
        | Action::Tick(_)
        | Action::Sync(..)
        | Action::SyncVoidFirst(..)
        | Action::Replace(_) => true,
        Action::Advance(_) | Action::SetBack(_) | Action::Delete(_) => {
            model.next_state(state, *action).is_some()
        }
    };
    actions.retain(possible);
    actions
}

/// Draws numbers, the same ones in each run (splitmix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % count as u64) as usize
    }
}
