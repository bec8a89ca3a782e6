//! What must hold in every state, and what must occur in some.

use stateright::{Model, Property};

use super::{Action, Deletion, EXPIRES, Message, PAIRS, RECORDS, Record, Refusal, Replica, State, Tombstone};

/// A message that was stored leaves by its expiry or its deletion alone.
pub const KEPT: &str = "P4: what was stored goes by expiry or deletion alone";
/// A message that any replica holds, and nobody knows to be deleted, can be brought back to all.
pub const RESTORED: &str = "P4: what one still holds, all get back";
/// After complete rounds between all, all hold the same, and further rounds change nothing.
pub const CONVERGED: &str = "P5: replicas that can talk end alike";
/// Who knows of the deletion does not hold the message.
pub const STAYS_DELETED: &str = "P6: a deleted message is not held by who knows";
/// What a replica has dropped at its expiry, it does not take again.
pub const STAYS_EXPIRED: &str = "P6: an expired message does not come back";
/// Nobody gives out what it knows to be deleted, or past its expiry.
pub const UNSERVED: &str = "P6: nothing that is gone is served";
/// Once a tombstone is pruned anywhere, what it named is past its expiry everywhere.
pub const PRUNED_IN_TIME: &str = "P6: nobody takes back what a pruned tombstone named";

/// Promises first, then what shows that they were put to the test.
pub(super) fn all(model: &Deletion) -> Vec<Property<Deletion>> {
    let mut all = vec![
        Property::always(KEPT, kept),
        Property::always(RESTORED, restored),
        Property::always(CONVERGED, converged),
        Property::always(STAYS_DELETED, stays_deleted),
        Property::always(STAYS_EXPIRED, stays_expired),
        Property::always(UNSERVED, unserved),
        Property::always(PRUNED_IN_TIME, pruned_in_time),
        Property::sometimes("the tombstone comes before the message", |_, s: &State| {
            let early = |r: &Replica| r.messages[0] == Message::Unknown && r.is_in_time(0);
            s.replicas.iter().any(|r| r.tombstone == Tombstone::Held && early(r))
        }),
        Property::sometimes("a message is refused, being from the future", |model: &Deletion, s: &State| {
            let arrives = |at| model.arrive(&mut s.clone(), Record::Message(0), at);
            (0..s.replicas.len()).any(|at| arrives(at) == Some(Err(Refusal::Future)))
        }),
        Property::sometimes("a message expires here, while another still serves it", |_, s: &State| {
            s.order.is_none() && any(s, |r| r.messages[0] == Message::Gone) && any(s, |r| holds_in_time(r, 0))
        }),
        Property::sometimes("who has not heard of a deletion still serves the message", |_, s: &State| {
            any(s, |r| r.tombstone == Tombstone::Held) && any(s, |r| holds_in_time(r, 0))
        }),
        Property::sometimes("a message expires where its deletion never came", |_, s: &State| {
            let unheard = |r: &Replica| r.tombstone == Tombstone::Unknown && r.messages[0] == Message::Gone;
            any(s, |r| r.tombstone == Tombstone::Held) && any(s, unheard)
        }),
        Property::sometimes("late sync after pruning, with one who has the message", |_, s: &State| {
            let late = |r: &Replica| r.tombstone == Tombstone::Unknown && r.holds(Record::Message(0));
            any(s, |r| r.tombstone == Tombstone::Pruned) && any(s, late)
        }),
        Property::sometimes("one has pruned, while another still forbids", |_, s: &State| {
            any(s, |r| r.tombstone == Tombstone::Pruned) && any(s, |r| r.tombstone == Tombstone::Held)
        }),
        Property::sometimes("all have pruned, and nothing is left", |_, s: &State| {
            s.replicas
                .iter()
                .all(|r| r.tombstone == Tombstone::Pruned && !RECORDS.iter().any(|x| r.holds(*x)))
        }),
    ];
    if model.liar {
        all.extend([
            Property::sometimes("a tombstone without right comes before the message", |_, s: &State| {
                any(s, |r| r.void && r.messages[0] == Message::Unknown)
            }),
            Property::sometimes("a tombstone without right is refused", |model: &Deletion, s: &State| {
                let arrives = |at| model.arrive(&mut s.clone(), Record::Void, at);
                (0..s.replicas.len()).any(|at| arrives(at) == Some(Err(Refusal::MayNotDelete)))
            }),
        ]);
    }
    if model.messages > 1 {
        all.push(Property::sometimes("one message has expired, the other is served", |_, s: &State| {
            s.order.is_none() && any(s, |r| r.messages[0] == Message::Gone && holds_in_time(r, 1))
        }));
    }
    all
}

fn any(state: &State, which: impl Fn(&Replica) -> bool) -> bool {
    state.replicas.iter().any(which)
}

fn holds_in_time(replica: &Replica, message: usize) -> bool {
    replica.holds(Record::Message(message)) && replica.is_in_time(message)
}

fn kept(model: &Deletion, state: &State) -> bool {
    state.replicas.iter().all(|r| {
        // What a clock has shown is not undone by setting it back.
        let shown = if model.clocks_step_back { state.latest } else { r.clock };
        let may_go = |m: usize| r.tombstone != Tombstone::Unknown || EXPIRES[m] <= shown;
        (0..model.messages).all(|m| r.messages[m] != Message::Gone || may_go(m))
    })
}

fn restored(model: &Deletion, state: &State) -> bool {
    if any(state, |r| r.tombstone != Tombstone::Unknown) {
        return true;
    }
    let settled = model.settled(state);
    (0..model.messages).all(|m| {
        let left = any(state, |r| r.holds(Record::Message(m)));
        let in_time = settled.replicas.iter().all(|r| r.is_in_time(m));
        !left || !in_time || settled.replicas.iter().all(|r| r.holds(Record::Message(m)))
    })
}

fn converged(model: &Deletion, state: &State) -> bool {
    let settled = model.settled(state);
    let [first, ..] = &settled.replicas;
    let alike = |record| settled.replicas.iter().all(|r| r.holds(record) == first.holds(record));
    let rounds = PAIRS.iter().flat_map(|(a, b)| [Action::Sync(*a, *b), Action::SyncVoidFirst(*a, *b)]);
    let at_rest = || rounds.clone().all(|round| model.next_state(&settled, round).is_none());
    RECORDS.into_iter().all(alike) && stays_deleted(model, &settled) && at_rest()
}

fn stays_deleted(model: &Deletion, state: &State) -> bool {
    let knows = |r: &Replica| r.tombstone != Tombstone::Unknown;
    !any(state, |r| knows(r) && (0..model.messages).any(|m| r.holds(Record::Message(m))))
}

fn stays_expired(_: &Deletion, state: &State) -> bool {
    !any(state, |r| r.tombstone == Tombstone::Unknown && r.messages.contains(&Message::Back))
}

fn unserved(model: &Deletion, state: &State) -> bool {
    (0..model.messages).all(|m| {
        let Some(times) = model.times(state, Record::Message(m)) else { return true };
        let gone = |r: &Replica| r.tombstone != Tombstone::Unknown || times.expires <= r.clock;
        !any(state, |r| gone(r) && r.serves(model, Record::Message(m), times))
    })
}

fn pruned_in_time(model: &Deletion, state: &State) -> bool {
    let past = |r: &Replica| EXPIRES[..model.messages].iter().all(|expires| *expires <= r.clock);
    !any(state, |r| r.tombstone == Tombstone::Pruned) || state.replicas.iter().all(past)
}
