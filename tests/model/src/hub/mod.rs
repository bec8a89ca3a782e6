//! The order of commits in one conversation: one commit per epoch, for everybody.
//!
//! Replica 0 is the node of the owner trust, the hub; replicas 1 and 2 are those of two other custodians. One client at each makes
//! a commit in each epoch that it comes to, and hands it in. A commit is named by who made it: a client makes one per epoch, and
//! hands in the same again if it hears nothing, each time as a new record.
//!
//! **Messages between nodes.** A submission that was handed in may reach the hub at any time, any number of times, also after it
//! was answered; a published commit may reach a replica at any time, in any order. What never happens is loss. An answer comes
//! with the step that gives it, or is lost. One that comes late is one that is given again: what the hub says of a submission
//! does not change once the epoch has its commit.
//!
//! **Crashes.** The hub may crash between the commit of a step's batch and its outputs ([`Answer::Lost`]). No other state is
//! lost, since all of it is on disks: a custodian's crash is the loss of messages.

pub mod properties;

use stateright::{Model, Property};

/// Replicas, each with one client.
pub const REPLICAS: usize = 3;
/// The owner trust's replica.
pub const HUB: usize = 0;
/// Epochs in which commits are made, at most; the conversation is founded before.
pub const EPOCHS: usize = 2;
/// How often a client hands in the same commit, at most.
pub const SUBMISSIONS: usize = 2;
/// The same by client. Two retry: one through its node's outbox, and the hub's own.
const SUBMISSIONS_OF: [usize; REPLICAS] = [SUBMISSIONS, SUBMISSIONS, 1];

/// A guard that a deliberate breach takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The hub orders one commit per epoch: `hub::Replica::order` looks for the epoch's commit, and at the group's epoch.
    OnePerEpoch,
    /// The same commit again is the same commit: `order` compares what was published.
    SameAgain,
    /// Outputs come after the commit of the batch: the driver's rule.
    CommitFirst,
}

/// The model. [`Hub::designed`] is what should hold.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Epochs in which commits are made.
    pub epochs: usize,
    /// The guard that is missing, if one is.
    pub without: Option<Guard>,
}

/// What became of a submission, as the node knows that has it in its outbox: `spread::Progress`. For the hub's own client, whose
/// request is answered at once or never, what the client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Progress {
    /// Not handed in.
    #[default]
    None,
    /// Handed in, and not answered.
    Waiting,
    /// The hub has published the commit.
    Confirmed,
    /// The epoch has another commit.
    Refused,
}

/// What comes of the hub's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It arrives.
    Arrives,
    /// It is lost on the way, or the hub crashes before it has sent it.
    Lost,
}

/// Why the hub refuses: those of the engine's reasons that can occur here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Another commit has this epoch.
    DuplicateCommit,
    /// The conversation is in another epoch.
    Epoch,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A client of a custodian hands in its commit for the epoch that it is in, for the first time or again.
    HandIn(usize),
    /// The hub's own client does, and the hub orders it in the same step.
    Ask(Answer),
    /// A copy of a submission reaches the hub.
    Order {
        /// Whose.
        client: usize,
        /// For which epoch.
        epoch: usize,
        /// Which of the client's submissions for it.
        submission: usize,
        /// What comes of the answer.
        answer: Answer,
    },
    /// A published commit reaches a replica.
    Arrive {
        /// For which epoch.
        epoch: usize,
        /// By whom.
        commit: usize,
        /// Where.
        at: usize,
    },
    /// A client reads the commit of the epoch that it is in, and enters the next.
    Read(usize),
}

/// Everything there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// Of each epoch, who made the commits that the hub has published. One, if all is well.
    pub published: [[bool; REPLICAS]; EPOCHS],
    /// The commit that each replica holds for each epoch (`Tree::Epochs`), by who made it.
    pub commits: [[Option<usize>; EPOCHS]; REPLICAS],
    /// Which epoch each client is in.
    pub epochs: [usize; REPLICAS],
    /// Each client's submissions for each epoch.
    pub submissions: [[[Progress; SUBMISSIONS]; EPOCHS]; REPLICAS],
}

impl State {
    /// The epoch that the hub's public group is in.
    pub fn epoch(&self) -> usize {
        self.commits[HUB].iter().take_while(|commit| commit.is_some()).count()
    }

    /// Whether a client has made a commit for an epoch.
    pub fn has_made(&self, client: usize, epoch: usize) -> bool {
        self.submissions[client][epoch][0] != Progress::None
    }
}

impl Hub {
    /// The rules of the design.
    pub fn designed() -> Self {
        Self { epochs: EPOCHS, without: None }
    }

    fn guards(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }

    /// `hub::Replica::order`: the hub's step for a commit that was handed in.
    pub fn order(&self, state: &mut State, client: usize, epoch: usize) -> Result<(), Refusal> {
        if self.guards(Guard::OnePerEpoch) {
            if let Some(published) = state.commits[HUB][epoch] {
                let same = published == client && self.guards(Guard::SameAgain);
                return if same { Ok(()) } else { Err(Refusal::DuplicateCommit) };
            }
            if epoch != state.epoch() {
                return Err(Refusal::Epoch);
            }
        }
        state.published[epoch][client] = true;
        state.commits[HUB][epoch].get_or_insert(client);
        Ok(())
    }

    /// One step of the hub, with what its crash, or the network, leaves of it.
    fn step(&self, state: &mut State, client: usize, epoch: usize, submission: usize, answer: Answer) {
        let before = (state.published, state.commits);
        let outcome = self.order(state, client, epoch);
        let mut answered = answer == Answer::Arrives;
        if answer == Answer::Lost && !self.guards(Guard::CommitFirst) {
            // The answer is out, and the crash takes the batch.
            (state.published, state.commits) = before;
            answered = true;
        }
        let progress = &mut state.submissions[client][epoch][submission];
        // `spread::settle`: the first answer counts.
        if answered && *progress == Progress::Waiting {
            *progress = if outcome.is_ok() { Progress::Confirmed } else { Progress::Refused };
        }
    }

    /// A client's next submission for the epoch that it is in: none if it has used them up, or is past the last epoch.
    fn hand_in(&self, state: &mut State, client: usize) -> Option<(usize, usize)> {
        let epoch = state.epochs[client];
        if epoch == self.epochs {
            return None;
        }
        let all = &mut state.submissions[client][epoch][..SUBMISSIONS_OF[client]];
        let submission = all.iter().position(|progress| *progress == Progress::None)?;
        // Who knows what came of it does not ask again.
        if all.iter().any(|progress| matches!(progress, Progress::Confirmed | Progress::Refused)) {
            return None;
        }
        all[submission] = Progress::Waiting;
        Some((epoch, submission))
    }

    /// `admit::check_envelope`: a replica takes the first commit of an epoch.
    fn arrive(&self, state: &mut State, epoch: usize, commit: usize, at: usize) {
        if state.published[epoch][commit] {
            state.commits[at][epoch].get_or_insert(commit);
        }
    }

    fn read(&self, state: &mut State, client: usize) -> Option<()> {
        let epoch = state.epochs[client];
        (*state.commits[client].get(epoch)?)?;
        state.epochs[client] += 1;
        Some(())
    }

    /// Where everything comes to rest from here, if nobody makes another commit: outboxes empty, anti-entropy completes, and
    /// clients read.
    pub fn settled(&self, state: &State) -> State {
        let mut state = state.clone();
        for (client, epoch, submission) in submissions() {
            if client != HUB && state.submissions[client][epoch][submission] == Progress::Waiting {
                self.step(&mut state, client, epoch, submission, Answer::Arrives);
            }
        }
        for (epoch, commit, at) in arrivals() {
            self.arrive(&mut state, epoch, commit, at);
        }
        for client in 0..REPLICAS {
            while self.read(&mut state, client).is_some() {}
        }
        state
    }
}

fn submissions() -> impl Iterator<Item = (usize, usize, usize)> {
    let of = |client| (0..EPOCHS).flat_map(move |e| (0..SUBMISSIONS).map(move |s| (client, e, s)));
    (0..REPLICAS).flat_map(of)
}

fn arrivals() -> impl Iterator<Item = (usize, usize, usize)> {
    let of = |epoch| (0..REPLICAS).flat_map(move |c| (1..REPLICAS).map(move |at| (epoch, c, at)));
    (0..EPOCHS).flat_map(of)
}

impl Model for Hub {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::default()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let answers = [Answer::Arrives, Answer::Lost];
        actions.extend(answers.map(Action::Ask));
        actions.extend((1..REPLICAS).map(Action::HandIn));
        for (client, epoch, submission) in submissions() {
            if client != HUB && state.submissions[client][epoch][submission] != Progress::None {
                actions.extend(answers.map(|answer| Action::Order { client, epoch, submission, answer }));
            }
        }
        actions.extend(arrivals().map(|(epoch, commit, at)| Action::Arrive { epoch, commit, at }));
        actions.extend((0..REPLICAS).map(Action::Read));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::HandIn(client) => {
                self.hand_in(&mut state, client)?;
            }
            Action::Ask(answer) => {
                let (epoch, submission) = self.hand_in(&mut state, HUB)?;
                self.step(&mut state, HUB, epoch, submission, answer);
            }
            Action::Order { client, epoch, submission, answer } => {
                self.step(&mut state, client, epoch, submission, answer);
            }
            Action::Arrive { epoch, commit, at } => self.arrive(&mut state, epoch, commit, at),
            Action::Read(client) => self.read(&mut state, client)?,
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
