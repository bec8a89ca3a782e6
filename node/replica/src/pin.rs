//! What a node keeps of its devices' PINs: OPAQUE's records, how often each was tried, and the sessions that were opened with them.
//!
//! The exchange itself ([`lanyard_crypto::pin`]) is the driver's. It asks for a record with [`PinRequest::Try`], which counts the attempt
//! in the same batch, so that no answer leaves before the count is on the disk: attempts that break off count, those at the same time come
//! one after the other, and no restart gives one back. The last attempt takes the record out of the store; the driver, which has it then,
//! hands it back only with a proof that the PIN was right. So after ten wrong PINs nothing is left that an eleventh could be checked with,
//! and with it the device's vault is gone (promise P6: the record is a sealed row, its key is destroyed).
//!
//! The first PIN is set by whoever shows what the device's enrolment gave out ([`PinRequest::Enrolled`]), for an hour and at the node that
//! enrolled it; each other one by who has proved the one before it.
//!
//! A device that is revoked loses its record in the step that brings the revocation, and again after a restored backup.

use std::fmt;
use std::ops::Bound;

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::x509::Certificate;
use lanyard_crypto::{Fingerprint, Timestamp, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use crate::Replica;
use crate::audit::AuditEntry;
use crate::input::Reply;
use crate::keys;
use crate::limits::SCAN_ROWS;
use crate::query::for_each;
use crate::turn::Turn;
use crate::verdict::Refusal;

/// The row of [`Tree::PinRecords`] with the secret of all records. A fingerprint is longer.
const SECRET: &[u8] = b"secret";

/// How long after its enrolment a device may set its first PIN, in seconds. Who takes longer enrols again with the same line.
const FIRST_PIN_SECS: u64 = 3600;
/// How long records stay after the end of the certificate, in seconds (400 days): nobody can try them then, and a clock that is ahead must not
/// destroy what nothing brings back.
const KEPT_SECS: u64 = 400 * 24 * 3600;
/// How long the last attempt may take until it is known to have been wrong, in seconds: longer than the driver holds what proves it right.
pub const LAST_SECS: u64 = 300;
/// How often it is looked for devices whose certificates have ended, in seconds.
const LOOK_EVERY_SECS: u64 = 3600;

/// How a trust bounds what is tried with a device's PIN, and how long a proven one lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinPolicy {
    /// Attempts in a row, of which the last wrong one destroys the record.
    pub tries_max: u32,
    /// From [`PinPolicy::DELAYED_FROM`] on, each attempt waits: so many seconds, and twice as long each time.
    pub delay_secs: u64,
    /// How long a session lasts that was opened with the PIN.
    pub session_secs: u64,
}

impl PinPolicy {
    /// The first attempt that waits.
    pub const DELAYED_FROM: u32 = 5;

    /// How long it takes after `tries` wrong ones until the next is taken.
    const fn wait_secs(&self, tries: u32) -> u64 {
        match (tries + 1).checked_sub(Self::DELAYED_FROM) {
            None => 0,
            Some(doubled) if doubled < 32 => self.delay_secs.saturating_mul(1 << doubled),
            Some(_) => u64::MAX,
        }
    }
}

impl Default for PinPolicy {
    fn default() -> Self {
        Self { tries_max: 10, delay_secs: 30, session_secs: 12 * 3600 }
    }
}

/// Bytes of which nothing is shown, and which are erased from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(..)")
    }
}

/// A session that was opened with a PIN; of a device that has none, the right to set the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinSession {
    /// [`lanyard_crypto::pin::SessionProof`] of what its requests show.
    pub proof: [u8; 32],
    /// When it ends.
    pub until: Timestamp,
}

/// What is known of a device's PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinState {
    /// Whether one was set, be it destroyed since.
    pub is_set: bool,
    /// The session that was opened with it, or the right to set the first one, if it lasts.
    pub session: Option<PinSession>,
}

/// What concerns a device's PIN.
#[derive(Clone, Debug)]
pub enum PinRequest {
    /// The device was enrolled: it may set its first PIN, unless it has one.
    Enrolled {
        /// Of what it shows for that.
        proof: [u8; 32],
    },
    /// A PIN is set, and opens a session.
    Set {
        /// OPAQUE's record.
        record: Hidden,
        /// Of the session.
        proof: [u8; 32],
        /// Of the session that the PIN before it has opened, or of the right to set the first one.
        shown: [u8; 32],
    },
    /// A PIN is tried: [`Reply::PinRecord`].
    Try,
    /// It was right, and opens a session: [`Reply::PinPassed`].
    Passed {
        /// Which attempt: nothing has been tried or set since.
        attempt: u64,
        /// What the attempt was checked with, if it was the last one.
        record: Option<Hidden>,
        /// Of the session.
        proof: [u8; 32],
    },
    /// The session ends.
    Lock,
}

/// A row of [`Tree::Pins`]. Field order is its format.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    /// Counts what was tried and set, for ever; 0 until the first PIN is set.
    attempt: u64,
    /// Attempts since the last right one.
    tries: u32,
    /// When the last of them was.
    tried: Timestamp,
    /// Whether the record is out of the store for the last attempt.
    last: bool,
    /// Whether the record was destroyed for good.
    destroyed: bool,
    /// The session's proof, or that of the right to set the first PIN; empty if there is none.
    proof: ByteBuf,
    /// When it ends.
    until: Timestamp,
    /// When the device's certificate ends, and all of this with it.
    not_after: Timestamp,
}

impl State {
    fn of(view: &dyn View, device: &Fingerprint) -> Result<Option<Self>, StorageError> {
        let row = view.get(Tree::Pins, device.as_bytes())?;
        // What cannot be read is worth no attempt.
        let gone = || Self { destroyed: true, ..Self::default() };
        Ok(row.map(|row| cbor::from_slice(&row, row.len()).unwrap_or_else(|_| gone())))
    }

    /// Keeps it, and in [`Tree::Meta`] that nothing is left to try, if so.
    fn put(&self, turn: &mut Turn<'_>, device: &Fingerprint) -> Result<(), StorageError> {
        turn.rows.put(Tree::Pins, *device.as_bytes(), cbor::to_vec(self));
        let key = keys::pin_last(device);
        if self.last && !self.destroyed {
            turn.rows.put(Tree::Meta, key, Vec::new());
        } else if turn.rows.contains(Tree::Meta, &key)? {
            turn.rows.delete(Tree::Meta, key);
        }
        Ok(())
    }

    /// Whether a PIN was set, or none can be any more.
    fn is_set(&self) -> bool {
        self.attempt > 0 || self.destroyed
    }

    /// Whether a session is open. One that ends later than any that begins now was opened by a clock that was ahead, and has ended.
    fn is_open(&self, policy: &PinPolicy, now: Timestamp) -> bool {
        let latest = now.plus_secs(policy.session_secs).plus_secs(2 * CLOCK_SKEW_SECS_MAX);
        now < self.until && self.until <= latest
    }

    fn shows(&self, shown: [u8; 32], policy: &PinPolicy, now: Timestamp) -> bool {
        self.is_open(policy, now) && self.proof.as_slice() == shown
    }

    fn open(&mut self, proof: [u8; 32], until: Timestamp) {
        (self.tries, self.last) = (0, false);
        (self.proof, self.until) = (ByteBuf::from(proof), until);
    }

    fn close(&mut self) {
        (self.proof, self.until) = (ByteBuf::new(), Timestamp::default());
    }
}

/// The secret of all records, if there is one.
///
/// # Errors
/// The view's alone.
pub fn secret(view: &dyn View) -> Result<Option<Hidden>, StorageError> {
    Ok(view.get(Tree::PinRecords, SECRET)?.map(|row| Hidden(Zeroizing::new(row))))
}

/// Keeps the secret of all records, unless there is one.
pub(crate) fn keep_secret(turn: &mut Turn<'_>, secret: &Hidden) -> Result<(), StorageError> {
    if !turn.rows.contains(Tree::PinRecords, SECRET)? {
        turn.rows.put(Tree::PinRecords, SECRET, secret.0.to_vec());
    }
    Ok(())
}

/// What is known of the device's PIN at this moment.
///
/// # Errors
/// The view's alone.
pub fn state(
    view: &dyn View,
    device: &Fingerprint,
    policy: &PinPolicy,
    now: Timestamp,
) -> Result<PinState, StorageError> {
    let state = State::of(view, device)?;
    let session = state.as_ref().filter(|state| state.is_open(policy, now)).and_then(|state| {
        Some(PinSession { proof: state.proof.as_slice().try_into().ok()?, until: state.until })
    });
    Ok(PinState { is_set: state.is_some_and(|state| state.is_set()), session })
}

/// The devices whose last attempt at the PIN was wrong: nothing is left that it could be checked with, and they are to be wiped. One that
/// was under way when the node ended, before it was `started` again, can be proved no more. A revoked device is none of them.
///
/// # Errors
/// The view's alone.
pub fn spent(view: &dyn View, started: Timestamp, now: Timestamp) -> Result<Vec<Fingerprint>, StorageError> {
    let mut spent = Vec::new();
    for_each(view, Tree::Meta, keys::PIN_LAST, |key, _| {
        let Some(device) = key.last_chunk().copied().map(Fingerprint::new) else { return Ok(()) };
        let state = State::of(view, &device)?;
        let is_over = |state: &State| {
            // In the second of the start, too: nobody proves a PIN before the next look.
            let is_of_before = state.tried <= started;
            // Also if the clock has been set back since: it is as far from now as it would have to be.
            let is_late = state.tried.as_secs().abs_diff(now.as_secs()) >= LAST_SECS;
            state.last && !state.destroyed && (is_of_before || is_late)
        };
        if state.as_ref().is_some_and(is_over) {
            spent.push(device);
        }
        Ok(())
    })?;
    Ok(spent)
}

/// Destroys a revoked device's record for good, and ends its session.
fn destroy_revoked(turn: &mut Turn<'_>, device: &Fingerprint) -> Result<(), StorageError> {
    let Some(mut state) = State::of(&turn.rows, device)?.filter(|state| !state.destroyed) else {
        return Ok(());
    };
    turn.settle();
    turn.rows.delete(Tree::PinRecords, *device.as_bytes());
    state.destroyed = true;
    state.close();
    state.put(turn, device)?;
    let detail = format!("the PIN's record of device {device} was destroyed: the device is revoked");
    turn.audit(AuditEntry::new(EVENT, "revoked", detail))
}

/// The event of the audit log.
const EVENT: &str = "pin";

impl Replica {
    /// Sets how PINs are bounded. To be said whenever the replica is opened; until then, by default.
    pub fn set_pin_policy(&mut self, policy: PinPolicy) {
        self.pins = policy;
    }

    pub(crate) fn pin(
        &mut self,
        turn: &mut Turn<'_>,
        device: &Fingerprint,
        request: PinRequest,
    ) -> Result<Result<Reply, Refusal>, StorageError> {
        let now = self.network.time(turn.now);
        let until = now.plus_secs(self.pins.session_secs);
        match request {
            PinRequest::Enrolled { proof } => {
                let Some(not_after) = self.end_of(device) else {
                    return Ok(Err(Refusal::NotFound(format!("the directory entry of device {device}"))));
                };
                let mut state = State::of(&turn.rows, device)?.unwrap_or_default();
                if self.network.is_revoked(device) || state.destroyed {
                    return Ok(Err(Refusal::PinDestroyed));
                }
                if state.is_set() {
                    return Ok(Err(Refusal::PinSet));
                }
                state.not_after = not_after;
                state.open(proof, now.plus_secs(FIRST_PIN_SECS));
                state.put(turn, device)?;
            }
            PinRequest::Set { record, proof, shown } => {
                let Some(not_after) = self.end_of(device) else {
                    return Ok(Err(Refusal::NotFound(format!("the directory entry of device {device}"))));
                };
                let Some(mut state) = State::of(&turn.rows, device)? else { return Ok(Err(Refusal::NoPin)) };
                if self.network.is_revoked(device) || state.destroyed || state.last {
                    return Ok(Err(Refusal::PinDestroyed));
                }
                if !state.shows(shown, &self.pins, now) {
                    return Ok(Err(if state.is_set() { Refusal::Locked } else { Refusal::NoPin }));
                }
                // The record that it replaces is to be gone when this is answered.
                turn.settle();
                state.attempt += 1;
                state.not_after = not_after;
                state.open(proof, until);
                state.put(turn, device)?;
                turn.rows.put(Tree::PinRecords, *device.as_bytes(), record.0.to_vec());
                turn.audit(AuditEntry::new(EVENT, "set", format!("device {device} has set its PIN")))?;
            }
            PinRequest::Try => return self.try_pin(turn, device),
            PinRequest::Passed { attempt, record, proof } => {
                let state = State::of(&turn.rows, device)?;
                let Some(mut state) =
                    state.filter(|state| !state.destroyed && !self.network.is_revoked(device))
                else {
                    return Ok(Err(Refusal::PinDestroyed));
                };
                if state.attempt != attempt {
                    return Ok(Err(Refusal::PinExchange));
                }
                if let (true, Some(record)) = (state.last, record) {
                    turn.rows.put(Tree::PinRecords, *device.as_bytes(), record.0.to_vec());
                }
                let failed = state.tries.saturating_sub(1);
                if failed > 0 {
                    let detail =
                        format!("device {device} has proved its PIN after {failed} attempts that did not");
                    turn.audit(AuditEntry::new(EVENT, "proved", detail))?;
                }
                state.open(proof, until);
                state.put(turn, device)?;
                return Ok(Ok(Reply::PinPassed { failed }));
            }
            PinRequest::Lock => {
                if let Some(mut state) = State::of(&turn.rows, device)? {
                    state.close();
                    state.put(turn, device)?;
                }
            }
        }
        Ok(Ok(Reply::Done))
    }

    /// When the certificate of a device ends, if the directory has it.
    fn end_of(&self, device: &Fingerprint) -> Option<Timestamp> {
        let [leaf, _] = self.network.chain(device)?;
        Certificate::parse(leaf).ok().map(|certificate| certificate.not_after())
    }

    fn try_pin(
        &mut self,
        turn: &mut Turn<'_>,
        device: &Fingerprint,
    ) -> Result<Result<Reply, Refusal>, StorageError> {
        let Some(mut state) = State::of(&turn.rows, device)?.filter(State::is_set) else {
            return Ok(Err(Refusal::NoPin));
        };
        let record = turn.rows.get(Tree::PinRecords, device.as_bytes())?;
        let Some(record) = record.filter(|_| !self.network.is_revoked(device)) else {
            return Ok(Err(Refusal::PinDestroyed));
        };
        let wait_secs = self.pins.wait_secs(state.tries);
        if wait_secs > 0 {
            // A clock that was ahead must not keep a device out for as long.
            if state.tried > turn.now {
                state.tried = turn.now;
                state.put(turn, device)?;
            }
            let passed = turn.now.as_secs() - state.tried.as_secs();
            if passed < wait_secs {
                return Ok(Err(Refusal::PinWait(wait_secs - passed)));
            }
        }
        state.attempt += 1;
        state.tries += 1;
        state.tried = turn.now;
        let left = self.pins.tries_max.saturating_sub(state.tries);
        if state.tries >= PinPolicy::DELAYED_FROM {
            let detail =
                format!("device {device} tries its PIN for the {} time; {left} more", nth(state.tries));
            turn.audit(AuditEntry::new(EVENT, "tried", detail))?;
        }
        if left == 0 {
            turn.settle();
            turn.rows.delete(Tree::PinRecords, *device.as_bytes());
            state.last = true;
            state.close();
            let detail =
                format!("the PIN's record of device {device} is destroyed, unless this attempt was right");
            turn.audit(AuditEntry::new(EVENT, "destroyed", detail))?;
        }
        state.put(turn, device)?;
        Ok(Ok(Reply::PinRecord { record: Hidden(Zeroizing::new(record)), attempt: state.attempt, left }))
    }

    /// The next [`Replica::clear_pins`] looks at all of them.
    pub(crate) fn look_for_revoked_pins(&mut self) {
        self.pins_cleared = None;
    }

    /// Destroys the records of devices that are revoked, and forgets those whose certificates have long ended, now and then and when it may have
    /// changed who is revoked ([`Replica::look_for_revoked_pins`]).
    pub(crate) fn clear_pins(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        let lately = |at: Timestamp| at <= turn.now && turn.now < at.plus_secs(LOOK_EVERY_SECS);
        if self.pins_cleared.is_some_and(lately) {
            return Ok(());
        }
        let mut from: Option<Vec<u8>> = None;
        loop {
            let begin = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let rows = turn.rows.scan(Tree::Pins, (begin, Bound::Unbounded), SCAN_ROWS)?;
            for (key, row) in &rows {
                let Ok(device) = <[u8; 32]>::try_from(key.as_slice()).map(Fingerprint::new) else { continue };
                let ended = cbor::from_slice::<State>(row, row.len())
                    .is_ok_and(|state| state.not_after.plus_secs(KEPT_SECS) <= turn.now);
                if ended {
                    turn.rows.delete(Tree::PinRecords, *device.as_bytes());
                    turn.rows.delete(Tree::Pins, *device.as_bytes());
                    turn.rows.delete(Tree::Meta, keys::pin_last(&device));
                } else if self.network.is_revoked(&device) {
                    destroy_revoked(turn, &device)?;
                }
                if turn.is_full() {
                    turn.more = true;
                    return Ok(());
                }
            }
            match rows.into_iter().next_back() {
                Some((key, _)) => from = Some(key),
                None => break,
            }
        }
        self.pins_cleared = Some(turn.now);
        Ok(())
    }
}

/// A number in order, in English.
fn nth(number: u32) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}
