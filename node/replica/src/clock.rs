//! The true time, as far as others vouch for it: a clock that is hours behind must not open what has ended.
//!
//! Whatever a node signs states when. Of each other trust of the charter the engine keeps, in memory, the newest moment that a node of it has
//! signed: its *voice*. The true time has at least reached the moment that **more than half of all other trusts of the charter** have
//! reached; who was not heard has reached nothing. So with two other trusts or more, no one trust moves it, however far into the future it
//! signs, and a trust that is silent holds it back, which is safe: it is a bound from below. With fewer than two others there is none.
//!
//! Clocks may differ, so the *floor* is that moment less [`CLOCK_SKEW_SECS_MAX`], and it alone is kept on the disk. Who is let in is
//! judged at the later of the own clock and the floor ([`Network::time`]). While the own clock is behind the floor, both the voices and the
//! floor go on with the seconds that it counts, and the hub orders nothing: it could only stamp a wrong time. Else what a node stamps, drops
//! and refuses as from the future goes by its own clock: a floor that were wrong would delay what can be made good, and destroys nothing.
//!
//! A floor that was wrong is replaced by what the majority says now. The voices of a run only rise, so that is in the next run. Old
//! records say little of the present, and one peer can bring those of everybody: so a floor goes down only once more than half of the others
//! were connected for [`VOICES_PRESENT_SECS`] on end, in which each of them signs a head of its audit log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
#[cfg(doc)]
use lanyard_crypto::network::Network;
use lanyard_crypto::record::Verified;
use lanyard_crypto::{Timestamp, TrustId, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};

use crate::Replica;
use crate::audit::AuditEntry;
use crate::holding::node_trust;
use crate::limits::{FLOOR_KEPT_SECS, FLOOR_STEP_SECS, VOICES_PRESENT_SECS};
use crate::mutation::{self, Mutation};
use crate::turn::Turn;

/// The name under which [`Tree::Meta`] has the floor.
const FLOOR: &[u8] = b"time-floor";
/// Its row, in bytes.
const ROW_BYTES_MAX: usize = 64;

/// The event of the entry that this node's clock is behind.
pub const CLOCK_BEHIND: &str = "clock-behind";
/// The event of the entry that it is not any more.
pub const CLOCK_AGREES: &str = "clock-agrees";
/// The event of the entry that what was kept of the time cannot be read.
pub const CLOCK_UNREADABLE: &str = "clock-unreadable";

/// What is kept. Field order is its format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    floor: Timestamp,
    /// Whether it stands in the audit log that the clock is behind.
    told: bool,
}

/// What was heard of the time.
#[derive(Debug, Default)]
pub(crate) struct Voices {
    /// The newest moment that each other trust has signed in this run.
    newest: BTreeMap<TrustId, Timestamp>,
    state: Row,
    kept: Row,
    /// Whether what is kept could not be read, until that is said.
    unreadable: bool,
    /// The own clock at the last tick.
    ticked: Option<Timestamp>,
    /// For how many seconds more than half of the others have been connected.
    present_secs: u64,
}

impl Voices {
    /// As it was kept.
    ///
    /// # Errors
    /// The view's.
    pub(crate) fn of(view: &dyn View) -> Result<Self, StorageError> {
        let row = view.get(Tree::Meta, FLOOR)?.map(|row| cbor::from_slice::<Row>(&row, ROW_BYTES_MAX));
        let unreadable = matches!(row, Some(Err(_)));
        let kept = row.and_then(Result::ok).unwrap_or_default();
        Ok(Self { state: kept, kept, unreadable, ..Self::default() })
    }

    /// The true time has at least reached it; 0 if that is not known.
    pub(crate) fn floor(&self) -> Timestamp {
        self.state.floor
    }

    /// The seconds since the last tick by the own clock. One that was set, or a machine that slept, has counted none.
    fn count(&mut self, now: Timestamp) -> u64 {
        let secs = self.ticked.map_or(0, |before| now.as_secs().saturating_sub(before.as_secs()));
        self.ticked = Some(now);
        if secs <= FLOOR_STEP_SECS { secs } else { 0 }
    }

    /// Lets so many seconds pass, by a clock that is behind.
    fn go_on(&mut self, secs: u64) {
        for at in self.newest.values_mut().chain([&mut self.state.floor]) {
            *at = at.plus_secs(secs);
        }
    }

    /// What more than half of so many others have reached, less what clocks may differ by.
    fn bound(&self, others: usize) -> Option<Timestamp> {
        let mut reached: Vec<Timestamp> = self.newest.values().copied().collect();
        reached.sort_unstable_by(|a, b| b.cmp(a));
        let place = if mutation::is(Mutation::BelieveOneClock) {
            0
        } else if mutation::is(Mutation::CountTheHeard) {
            reached.len() / 2
        } else {
            others / 2
        };
        reached.get(place).map(|at| at.minus_secs(CLOCK_SKEW_SECS_MAX))
    }

    /// Takes what is heard now. `present` tells that more than half of so many others are connected, and `secs` since when that was looked
    /// at last.
    fn agree(&mut self, others: usize, present: bool, secs: u64) {
        self.present_secs = if present { self.present_secs.saturating_add(secs) } else { 0 };
        if others < 2 {
            self.state.floor = Timestamp::default();
        } else if let Some(bound) = self.bound(others) {
            let wrong = bound.plus_secs(CLOCK_SKEW_SECS_MAX) < self.state.floor;
            if bound > self.state.floor || wrong && self.present_secs >= VOICES_PRESENT_SECS {
                self.state.floor = bound;
            }
        }
    }

    fn keep(&mut self, turn: &mut Turn<'_>) {
        let (old, new) = (self.kept.floor, self.state.floor);
        if new >= old.plus_secs(FLOOR_KEPT_SECS) || new < old || self.kept.told != self.state.told {
            self.kept = self.state;
            turn.rows.put(Tree::Meta, FLOOR, cbor::to_vec(&self.kept));
        }
    }
}

impl Replica {
    /// Hears when a node of another trust has signed a record, whatever becomes of that. It was verified as of that moment, so
    /// that none says anything of a time at which its certificate has ended.
    pub(crate) fn hear(&mut self, record: &Verified) {
        if record.network_revision() == self.network.revision()
            && let Some(trust) = node_trust(record.signer()).filter(|trust| **trust != self.own.trust)
        {
            let newest = self.voices.newest.entry(trust.clone()).or_default();
            *newest = record.header().issued.max(*newest);
        }
    }

    /// Whether this node's clock is behind for certain, and by how many seconds at least, if it is.
    pub(crate) fn behind(&self, now: Timestamp) -> Option<u64> {
        let floor = self.voices.floor();
        (floor > now).then(|| floor.as_secs() - now.as_secs() + CLOCK_SKEW_SECS_MAX)
    }

    /// Holds the clock against what was heard. Who is let in is judged by that once it matters.
    pub(crate) fn mind_clock(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        if std::mem::take(&mut self.voices.unreadable) {
            let why = "what was kept of the time cannot be read: until others are heard of again, this machine's clock alone counts; \
                       compare it with another clock, and check the disk";
            turn.audit(AuditEntry::new(CLOCK_UNREADABLE, "damaged", why))?;
            turn.rows.put(Tree::Meta, FLOOR, cbor::to_vec(&self.voices.kept));
        }
        let secs = self.voices.count(turn.now);
        if self.behind(turn.now).is_some() {
            self.voices.go_on(secs);
        }
        let (own, charter) = (&self.own.trust, self.network.charter());
        let is_other = |trust: &TrustId| trust != own && charter.member(trust).is_some();
        let others = charter.trusts.iter().filter(|member| is_other(&member.trust)).count();
        let connected: BTreeSet<&TrustId> = self.connected.values().filter(|trust| is_other(trust)).collect();
        let present = connected.len() > others / 2;
        self.voices.newest.retain(|trust, _| is_other(trust));
        self.voices.agree(others, present, secs);

        let floor = self.voices.floor();
        let shown = self.network.floor();
        let rises = floor > turn.now && floor >= shown.plus_secs(FLOOR_STEP_SECS);
        if rises || floor < shown {
            Arc::make_mut(&mut self.network).set_floor(floor);
            turn.time_moved = true;
        }
        match self.behind(turn.now) {
            Some(secs) if !self.voices.state.told => {
                self.voices.state.told = true;
                let why = format!(
                    "this machine's clock is {secs} seconds or more behind what more than half of the other trusts sign: who is let in \
                     is judged by their time, and nothing is ordered or certified until the clocks agree; compare it with another clock \
                     first: if it is wrong, set it (check its time service); if this machine's clock is right, tell the other trusts, and \
                     restart this node once theirs are"
                );
                turn.audit(AuditEntry::new(CLOCK_BEHIND, "behind", why))?;
            }
            // By less than that it may come and go with every record.
            None if self.voices.state.told && floor.plus_secs(CLOCK_SKEW_SECS_MAX / 2) <= turn.now => {
                self.voices.state.told = false;
                let why = "this machine's clock has reached that of the others";
                turn.audit(AuditEntry::new(CLOCK_AGREES, "", why))?;
            }
            _ => {}
        }
        self.voices.keep(turn);
        Ok(())
    }
}
