//! Messages that expire, their tombstone, late arrivals, and the pruning of the tombstone.
//!
//! Three replicas are the custodians of one message, or of two with different expiry that one tombstone names. Replica 0 is the
//! conversation's owner trust and replica 1 the sender's, so that both may delete; replica 2 may not, and signs a tombstone
//! for the first message all the same ([`Record::Void`]).
//!
//! **Time** is counted in units of the accepted skew, [`SKEW`]. Each replica has a clock, and clocks advance one by one in any
//! order, as long as no clock shows less than the most advanced one ever did by more than 2 × [`SKEW`]: that is, as long as
//! each may be within [`SKEW`] of a true time that only advances. [`Deletion::clocks_step_back`] lets them also be set
//! back within the same bounds.
//!
//! **Messages between nodes.** Whatever was signed may arrive at any replica at any time, any number of times, or never:
//! that is loss, delay, reordering and duplication, by direct delivery as by gossip. [`Action::Sync`] is a round of
//! anti-entropy that completes; one that does not is some arrivals. A partition is a stretch in which nothing arrives.
//!
//! **Crashes.** A step is one atomic batch, and a replica has no state that matters here but its disk. So a crash loses
//! messages alone, which are lost in any case; [`Action::Replace`] loses the disk too.

pub mod properties;
mod replica;

pub use replica::{Message, Refusal, Replica, Tombstone};

use stateright::{Model, Property};

/// Replicas.
pub const REPLICAS: usize = 3;
/// The largest accepted distance of a clock from the true time: the unit of time, `CLOCK_SKEW_SECS_MAX`.
pub const SKEW: u8 = 1;
/// Messages, at most.
pub const MESSAGES_MAX: usize = 2;
/// When the messages were issued, by their sender's clock.
pub const ISSUED: u8 = 2;
/// When they expire.
pub const EXPIRES: [u8; MESSAGES_MAX] = [ISSUED + 2, ISSUED + 3];
/// The margin of the design: an order outlives what it names by this (`Order::judge`, `request::Replica::delete`).
pub const MARGIN: u8 = 2 * SKEW;
/// The replica of the sender's trust.
pub const SENDER: usize = 1;
/// Replicas whose trusts may delete: the owner's and the sender's.
pub const MAY_DELETE: [usize; 2] = [0, SENDER];
/// The replica whose trust signs a tombstone that it may not.
pub const LIAR: usize = 2;

/// The pairs of replicas that reconcile; the first begins.
pub const PAIRS: [(usize, usize); 3] = [(0, 1), (0, 2), (1, 2)];

/// When a tombstone is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prune {
    /// Once what it names has been past its expiry for so long. The rule of the design, with [`MARGIN`].
    PastTargets {
        /// How long.
        margin: u8,
    },
    /// Once the first of what it names has been past its expiry for so long.
    PastFirst {
        /// How long.
        margin: u8,
    },
    /// So long after it was issued, whatever it names.
    OnAge {
        /// How long.
        age: u8,
    },
}

/// The model. [`Deletion::designed`] is what should hold; the fields are what can be changed to see it fail.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// How many messages there are, all of them named by the tombstone.
    pub messages: usize,
    /// Whether replica 2 orders a deletion that it may not order.
    pub liar: bool,
    /// When a tombstone is dropped.
    pub prune: Prune,
    /// Whether a clock may be set back.
    pub clocks_step_back: bool,
    /// Whether a replica's time then stands still until the clock has caught up, as far as clocks may differ.
    pub time_stands_still: bool,
    /// Whether copies may arrive by themselves. If not, only rounds of anti-entropy move records.
    pub copies: bool,
    /// Whether the outbox gives out a message that has expired and waits for the next tick to drop it.
    pub unchecked_outbox: bool,
}

/// The records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// An application message, of [`SENDER`]'s trust.
    Message(usize),
    /// The tombstone for all of them, by one who may delete.
    Tombstone,
    /// A tombstone for the first of them by [`LIAR`]'s trust, which may not.
    Void,
}

/// In the order in which anti-entropy compares them; the two tombstones may go in the other order as well.
pub const RECORDS: [Record; 4] = [Record::Tombstone, Record::Void, Record::Message(0), Record::Message(1)];

/// The times in a record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Issued {
    /// When it was issued, by its signer's clock.
    pub issued: u8,
    /// When it expires.
    pub expires: u8,
}

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// A clock advances by one.
    Advance(usize),
    /// A clock is set back by one.
    SetBack(usize),
    /// A replica's tick: it drops what has expired, the tombstone among it.
    Tick(usize),
    /// A replica is asked to delete the messages, signs the tombstone and carries it out.
    Delete(usize),
    /// A copy of a record arrives at a replica.
    Arrive(Record, usize),
    /// Two replicas complete a round of anti-entropy.
    Sync(usize, usize),
    /// The same, and the tombstone without right goes before the other: in a frame they go by their ids.
    SyncVoidFirst(usize, usize),
    /// A replica is replaced by an empty one.
    Replace(usize),
}

/// Everything there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The replicas.
    pub replicas: [Replica; REPLICAS],
    /// The rightful tombstone, once there is one, with its signer. There is at most one.
    pub order: Option<(usize, Issued)>,
    /// The most that any clock has ever shown.
    pub latest: u8,
}

impl Deletion {
    /// The rules of the design.
    pub fn designed() -> Self {
        Self {
            messages: 1,
            liar: true,
            prune: Prune::PastTargets { margin: MARGIN },
            clocks_step_back: false,
            time_stands_still: true,
            copies: true,
            unchecked_outbox: false,
        }
    }

    /// A record's times, if it has been signed.
    pub fn times(&self, state: &State, record: Record) -> Option<Issued> {
        match record {
            Record::Message(m) => (m < self.messages).then(|| Issued { issued: ISSUED, expires: EXPIRES[m] }),
            Record::Tombstone => state.order.map(|(_, times)| times),
            Record::Void => self.liar.then(|| self.void()),
        }
    }

    /// The times of the tombstone that is there from the start: right alone is what it lacks.
    fn void(&self) -> Issued {
        Issued { issued: ISSUED, expires: EXPIRES[0] + MARGIN }
    }

    /// What comes of a copy that arrives: `Ok` if it is answered for as stored. None if there is no such record yet.
    pub fn arrive(&self, state: &mut State, record: Record, at: usize) -> Option<Result<(), Refusal>> {
        let times = self.times(state, record)?;
        Some(state.replicas[at].take(record, times))
    }

    /// `request::Replica::delete`: none if what is to be deleted is not held there.
    fn delete(&self, state: &mut State, by: usize) -> Option<()> {
        let replica = &mut state.replicas[by];
        if !(0..self.messages).all(|m| replica.holds(Record::Message(m))) {
            return None;
        }
        let issued = replica.time();
        let expires = match self.prune {
            Prune::PastTargets { margin } => EXPIRES[self.messages - 1].max(issued) + margin,
            Prune::PastFirst { margin } => EXPIRES[0].max(issued) + margin,
            Prune::OnAge { age } => issued + age,
        };
        let times = Issued { issued, expires };
        state.order = Some((by, times));
        replica.take(Record::Tombstone, times).ok()
    }

    /// A round of anti-entropy (`sync`): tombstones before envelopes, in both directions, each record through the door.
    fn sync(&self, state: &mut State, a: usize, b: usize, void_first: bool) {
        // `erase::is_behind`: who has yet to drop what expired long ago compares nothing.
        let overdue = |at: usize, record: Record| {
            let times = self.times(state, record);
            state.replicas[at].holds(record) && times.is_some_and(|t| t.expires < state.replicas[at].time())
        };
        if [a, b].into_iter().any(|at| RECORDS.into_iter().any(|record| overdue(at, record))) {
            return;
        }
        let mut records = RECORDS;
        if void_first {
            records.swap(0, 1);
        }
        for record in records {
            let Some(times) = self.times(state, record) else { continue };
            // What each offers is settled before it hears of the other's.
            let offers = [(a, b), (b, a)].map(|(from, to)| {
                (to, state.replicas[from].serves(self, record, times) && !state.replicas[to].holds(record))
            });
            for (to, _) in offers.into_iter().filter(|(_, offered)| *offered) {
                // A refusal is an answer as well, and changes nothing.
                let _ = state.replicas[to].take(record, times);
            }
        }
    }

    /// Where the replicas come to rest from here, if nothing else happens: clocks agree on the latest time, all tick, and rounds of
    /// anti-entropy complete between all of them.
    pub fn settled(&self, state: &State) -> State {
        let mut state = state.clone();
        let order = state.order.map(|(_, times)| times);
        for replica in &mut state.replicas {
            replica.clock = state.latest;
            replica.expire(self, order);
        }
        for _ in 0..2 {
            PAIRS.iter().for_each(|(a, b)| self.sync(&mut state, *a, *b, true));
        }
        state
    }

    /// No clock goes further: past this nothing is left to happen.
    fn end(&self) -> u8 {
        EXPIRES[self.messages - 1] + MARGIN + 1
    }

    fn advance(&self, state: &mut State, at: usize) -> Option<()> {
        let slowest =
            state.replicas.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, r)| r.clock).min()?;
        let next = state.replicas[at].clock + 1;
        if next > self.end() || next > slowest + 2 * SKEW {
            return None;
        }
        state.replicas[at].clock = next;
        state.latest = state.latest.max(next);
        Some(())
    }

    fn set_back(state: &mut State, at: usize) -> Option<()> {
        let back = state.replicas[at].clock.checked_sub(1)?;
        if back + 2 * SKEW < state.latest {
            return None;
        }
        state.replicas[at].clock = back;
        Some(())
    }
}

impl Model for Deletion {
    type State = State;
    type Action = Action;

    /// The sender's node has just stored the messages; the other clocks may show anything within the bounds.
    fn init_states(&self) -> Vec<State> {
        let mut states = Vec::new();
        for (owner, other) in (0..=2 * ISSUED).flat_map(|a| (0..=2 * ISSUED).map(move |b| (a, b))) {
            let clocks = [owner, ISSUED, other];
            let (Some(least), Some(latest)) = (clocks.into_iter().min(), clocks.into_iter().max()) else {
                continue;
            };
            if latest > least + 2 * SKEW {
                continue;
            }
            let mut replicas = clocks.map(|clock| Replica { clock, ..Replica::default() });
            replicas[SENDER].messages[..self.messages].fill(Message::Held);
            states.push(State { replicas, order: None, latest });
        }
        states
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for at in 0..REPLICAS {
            actions.extend([Action::Advance(at), Action::Tick(at), Action::Replace(at)]);
            if self.clocks_step_back {
                actions.push(Action::SetBack(at));
            }
            if self.copies {
                let signed = RECORDS.into_iter().filter(|record| self.times(state, *record).is_some());
                actions.extend(signed.map(|record| Action::Arrive(record, at)));
            }
        }
        if state.order.is_none() {
            actions.extend(MAY_DELETE.map(Action::Delete));
        }
        actions.extend(PAIRS.map(|(a, b)| Action::Sync(a, b)));
        if self.liar {
            actions.extend(PAIRS.map(|(a, b)| Action::SyncVoidFirst(a, b)));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Advance(at) => self.advance(&mut state, at)?,
            Action::SetBack(at) => Self::set_back(&mut state, at)?,
            Action::Tick(at) => {
                let order = state.order.map(|(_, times)| times);
                state.replicas[at].expire(self, order);
            }
            Action::Delete(by) => self.delete(&mut state, by)?,
            Action::Arrive(record, at) => self.arrive(&mut state, record, at)?.ok()?,
            Action::Sync(a, b) => self.sync(&mut state, a, b, false),
            Action::SyncVoidFirst(a, b) => self.sync(&mut state, a, b, true),
            Action::Replace(at) => {
                let clock = state.replicas[at].clock;
                state.replicas[at] = Replica { clock, ..Replica::default() };
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self)
    }
}
