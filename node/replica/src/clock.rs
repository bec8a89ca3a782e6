//! The true time, as far as others vouch for it: a clock that is hours behind must not open what has ended.
//!
//! Every record that was verified states when it was issued, so each trust has a newest moment that it has signed, its *voice*.
//! This node's own voice is the newest that its own clock has said, which survives a restart. The true time has at least reached the
//! moment that more than half of the other trusts have reached, or more than half of all with this node's own voice among them,
//! whichever is later: so with two other trusts or more, no one trust moves it, however far into the future it signs; with one
//! other trust it moves no further than this node's own clock once was. A trust that is silent holds it back, which is safe: it is a
//! bound from below.
//!
//! Clocks may differ, so certificates are judged at the later of the own clock and this bound less [`CLOCK_SKEW_SECS_MAX`]
//! ([`Network::time`]). What a node stamps, drops and refuses as from the future goes by its own clock all the same: a bound that were
//! wrong would delay what can be made good, and destroys nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use lanyard_crypto::limits::{CHARTER_TRUSTS_MAX, CLOCK_SKEW_SECS_MAX};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::Verified;
use lanyard_crypto::{Timestamp, TrustId, cbor};
use lanyard_storage::{StorageError, Tree, View};

use crate::Replica;
use crate::audit::AuditEntry;
use crate::limits::VOICE_KEPT_SECS;
use crate::mutation::{self, Mutation};
use crate::turn::Turn;

/// The name under which [`Tree::Meta`] has the voices: a map from trusts to seconds.
const VOICES: &[u8] = b"voices";
/// Its row, in bytes.
const ROW_BYTES_MAX: usize = CHARTER_TRUSTS_MAX * 32;

/// The event of the entry that this node's clock is behind.
pub const CLOCK_BEHIND: &str = "clock-behind";
/// The event of the entry that it is not any more.
pub const CLOCK_AGREES: &str = "clock-agrees";

/// The newest moment that each trust has signed, this one's by its clock.
#[derive(Debug, Default)]
pub(crate) struct Voices {
    newest: BTreeMap<TrustId, u64>,
    /// What of it is stored.
    kept: BTreeMap<TrustId, u64>,
    /// Whether it stands in the audit log that the clock is behind.
    told: bool,
}

impl Voices {
    /// Those that are stored.
    ///
    /// # Errors
    /// The view's.
    pub(crate) fn of(view: &dyn View) -> Result<Self, StorageError> {
        let row = view.get(Tree::Meta, VOICES)?;
        let kept: BTreeMap<TrustId, u64> =
            row.and_then(|row| cbor::from_slice(&row, ROW_BYTES_MAX).ok()).unwrap_or_default();
        Ok(Self { newest: kept.clone(), kept, told: false })
    }

    fn hear(&mut self, trust: &TrustId, at: Timestamp) {
        let newest = self.newest.entry(trust.clone()).or_default();
        *newest = at.as_secs().max(*newest);
    }

    /// The moment that the true time has at least reached, by clocks that may be ahead by as much as clocks may differ.
    fn bound(&self, own: &TrustId, network: &Network) -> u64 {
        let member = |(trust, _): &(&TrustId, &u64)| network.charter().member(trust).is_some();
        let voices = || self.newest.iter().filter(member);
        let mut others: Vec<u64> = voices().filter(|(trust, _)| *trust != own).map(|(_, at)| *at).collect();
        let mut all: Vec<u64> = voices().map(|(_, at)| *at).collect();
        if mutation::is(Mutation::BelieveOneClock) {
            return others.into_iter().max().unwrap_or_default();
        }
        most_reached(&mut others).max(most_reached(&mut all))
    }

    /// The same, less what clocks may differ by.
    pub(crate) fn floor(&self, own: &TrustId, network: &Network) -> Timestamp {
        Timestamp::from_secs(self.bound(own, network)).minus_secs(CLOCK_SKEW_SECS_MAX)
    }

    fn keep(&mut self, turn: &mut Turn<'_>, network: &Network) {
        let old = |(trust, at): (&TrustId, &u64)| {
            self.kept.get(trust).is_none_or(|kept| *at >= kept.saturating_add(VOICE_KEPT_SECS))
        };
        if self.newest.iter().any(old) {
            self.newest.retain(|trust, _| network.charter().member(trust).is_some());
            self.kept = self.newest.clone();
            turn.rows.put(Tree::Meta, VOICES, cbor::to_vec(&self.kept));
        }
    }
}

/// The latest moment that more than half of these have reached; 0 of fewer than two.
fn most_reached(voices: &mut [u64]) -> u64 {
    voices.sort_unstable_by(|a, b| b.cmp(a));
    if voices.len() < 2 { 0 } else { voices[voices.len() / 2] }
}

impl Replica {
    /// Hears when another trust has signed a record, whatever becomes of that.
    pub(crate) fn hear(&mut self, record: &Verified) {
        if record.network_revision() == self.network.revision()
            && let Some(trust) = record.signer().trust().filter(|trust| **trust != self.own.trust)
        {
            self.voices.hear(trust, record.header().issued);
        }
    }

    /// Holds the clock against what was heard. Certificates are judged by that once it matters.
    pub(crate) fn mind_clock(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        self.voices.hear(&self.own.trust, turn.now);
        self.voices.keep(turn, &self.network);
        let floor = self.voices.floor(&self.own.trust, &self.network);
        if floor <= turn.now {
            if self.voices.told && floor.plus_secs(CLOCK_SKEW_SECS_MAX) <= turn.now {
                self.voices.told = false;
                turn.audit(AuditEntry::new(
                    CLOCK_AGREES,
                    "",
                    "this node's clock has reached that of the others",
                ))?;
            }
            return Ok(());
        }
        if floor > self.network.floor() {
            Arc::make_mut(&mut self.network).raise_floor(floor);
            turn.trust_changed = true;
        }
        if !self.voices.told {
            self.voices.told = true;
            let behind = floor.as_secs() - turn.now.as_secs() + CLOCK_SKEW_SECS_MAX;
            let why = format!(
                "this node's clock is {behind} seconds or more behind what it has been and what other trusts sign: certificates \
                 are judged by their time until it is set right; set the machine's clock (check its time service)"
            );
            turn.audit(AuditEntry::new(CLOCK_BEHIND, "behind", why))?;
        }
        Ok(())
    }
}
