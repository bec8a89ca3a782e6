//! What must hold in every state, and what must occur in some.

use stateright::Property;

use super::{EPOCHS, HUB, Hub, Progress, REPLICAS, Refusal, SUBMISSIONS, State, submissions};

/// The hub publishes at most one commit for an epoch.
pub const ONE_PUBLISHED: &str = "the hub publishes one commit per epoch";
/// No two replicas hold different commits for an epoch.
pub const ONE_COMMIT: &str = "one commit per epoch, everywhere";
/// A commit was made by a client, and its epoch follows one that has its commit.
pub const IN_ORDER: &str = "epochs follow each other, and nobody invents a commit";
/// Confirmed means published, refused means that another was.
pub const TRUTH: &str = "who is told what came of a submission is told the truth";
/// At rest, every client is in the epoch of the hub, and nothing waits.
pub const LEARNED: &str = "who has lost the race learns it, and goes on";
/// A submission that the hub has seen changes nothing when it comes again, and has the same answer.
pub const IDEMPOTENT: &str = "the same submission again is answered the same, and changes nothing";
/// At rest, all replicas hold what the hub has published.
pub const SPREAD: &str = "P5: all replicas end with the same commits";

/// Promises first, then what shows that they were put to the test.
pub(super) fn all() -> Vec<Property<Hub>> {
    vec![
        Property::always(ONE_PUBLISHED, one_published),
        Property::always(ONE_COMMIT, one_commit),
        Property::always(IN_ORDER, in_order),
        Property::always(TRUTH, truth),
        Property::always(LEARNED, learned),
        Property::always(IDEMPOTENT, idempotent),
        Property::always(SPREAD, spread),
        Property::sometimes("all three compete for an epoch", |_, s: &State| {
            (0..REPLICAS).all(|client| s.submissions[client][0].contains(&Progress::Waiting))
        }),
        Property::sometimes("the hub crashes between commit and answer", |_, s: &State| {
            s.commits[HUB][0] == Some(1) && s.submissions[1][0] == [Progress::Waiting, Progress::None]
        }),
        Property::sometimes("a retry tells what the lost answer would have", |_, s: &State| {
            s.submissions[1][0] == [Progress::Waiting, Progress::Confirmed]
        }),
        Property::sometimes("the hub's own client loses, and its answer is lost too", |_, s: &State| {
            s.submissions[HUB][0][0] == Progress::Waiting && s.commits[HUB][0].is_some_and(|c| c != HUB)
        }),
        Property::sometimes("one has won both epochs", |_, s: &State| {
            (0..EPOCHS).all(|epoch| s.submissions[2][epoch].contains(&Progress::Confirmed))
        }),
        Property::sometimes("who lost the first epoch wins the second", |_, s: &State| {
            s.submissions[1][0].contains(&Progress::Refused) && s.commits[HUB][1] == Some(1)
        }),
        Property::sometimes("the commit comes before the answer to its submission", |_, s: &State| {
            s.epochs[1] > 0 && s.commits[HUB][0] == Some(1) && s.submissions[1][0][0] == Progress::Waiting
        }),
        Property::sometimes("a later commit comes before an earlier one", |_, s: &State| {
            s.commits[2][0].is_none() && s.commits[2][1].is_some()
        }),
        Property::sometimes(
            "a submission for an epoch long past reaches the hub",
            |model: &Hub, s: &State| {
                let late = model.order(&mut s.clone(), 1, 0) == Err(Refusal::DuplicateCommit);
                late && s.submissions[1][0][0] == Progress::Waiting && s.epoch() == EPOCHS
            },
        ),
    ]
}

fn one_published(_: &Hub, state: &State) -> bool {
    state.published.iter().all(|by| by.iter().filter(|published| **published).count() <= 1)
}

fn one_commit(_: &Hub, state: &State) -> bool {
    (0..EPOCHS).all(|epoch| {
        let mut held = (0..REPLICAS).filter_map(|at| state.commits[at][epoch]);
        let first = held.next();
        held.all(|commit| Some(commit) == first)
    })
}

fn in_order(_: &Hub, state: &State) -> bool {
    let made = |epoch: usize| (0..REPLICAS).all(|c| !state.published[epoch][c] || state.has_made(c, epoch));
    let follows = |epoch: usize| state.commits[HUB][epoch].is_none() || epoch <= state.epoch();
    let backed = |at: usize, epoch: usize| state.commits[at][epoch].is_none_or(|c| state.published[epoch][c]);
    (0..EPOCHS).all(|epoch| made(epoch) && follows(epoch) && (0..REPLICAS).all(|at| backed(at, epoch)))
}

fn truth(_: &Hub, state: &State) -> bool {
    submissions().all(|(client, epoch, submission)| {
        let winner = state.commits[HUB][epoch];
        match state.submissions[client][epoch][submission] {
            Progress::Confirmed => winner == Some(client),
            Progress::Refused => winner.is_some_and(|winner| winner != client),
            Progress::None | Progress::Waiting => true,
        }
    })
}

fn learned(model: &Hub, state: &State) -> bool {
    let settled = model.settled(state);
    let answered = |(client, epoch, submission): (usize, usize, usize)| {
        client == HUB || settled.submissions[client][epoch][submission] != Progress::Waiting
    };
    // A client knows its own commit when it reads it, and any other for the one that it lost to.
    let knows = |client: usize| {
        settled.epochs[client] == settled.epoch()
            && (0..settled.epoch()).all(|epoch| settled.commits[client][epoch] == settled.commits[HUB][epoch])
    };
    submissions().all(answered) && (0..REPLICAS).all(knows) && truth(model, &settled)
}

fn idempotent(model: &Hub, state: &State) -> bool {
    submissions().filter(|(.., submission)| *submission == SUBMISSIONS - 1).all(|(client, epoch, _)| {
        let Some(winner) = state.commits[HUB][epoch] else { return true };
        let mut again = state.clone();
        let told = model.order(&mut again, client, epoch);
        again == *state && told.is_ok() == (winner == client)
    })
}

fn spread(model: &Hub, state: &State) -> bool {
    let settled = model.settled(state);
    settled.commits.iter().all(|commits| *commits == settled.commits[HUB])
}
