//! What a node keeps of its devices' PINs: OPAQUE's records, how often each was tried, and the sessions that were opened with them.
//!
//! The exchange itself ([`lanyard_crypto::pin`]) is the driver's. It asks for a record with [`PinRequest::Try`], which counts the attempt
//! in the same batch, so that no answer leaves before the count is on the disk: attempts that break off count, those at the same time come
//! one after the other, and no restart gives one back. The last attempt takes the record out of the store; the driver, which has it then,
//! hands it back only with a proof that the PIN was right. So after ten wrong PINs nothing is left that an eleventh could be checked with,
//! and with it the device's vault is gone (promise P6: the record is a sealed row, its key is destroyed).
//!
//! A device that is revoked loses its record in the step that brings the revocation, and again after a restored backup.

use std::fmt;
use std::ops::Bound;

use lanyard_crypto::{Fingerprint, Timestamp, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use crate::Replica;
use crate::audit::AuditEntry;
use crate::input::Reply;
use crate::limits::SCAN_ROWS;
use crate::turn::Turn;
use crate::verdict::Refusal;

/// The row of [`Tree::PinRecords`] with the secret of all records. A fingerprint is longer.
const SECRET: &[u8] = b"secret";

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

/// A session that was opened with a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinSession {
    /// [`lanyard_crypto::pin::SessionProof`] of what its requests show.
    pub proof: [u8; 32],
    /// When it ends.
    pub until: Timestamp,
}

/// What concerns a device's PIN.
#[derive(Clone, Debug)]
pub enum PinRequest {
    /// The secret of all records, unless there is one.
    Found(Hidden),
    /// A PIN is set, and opens a session.
    Set {
        /// OPAQUE's record.
        record: Hidden,
        /// Of the session.
        proof: [u8; 32],
    },
    /// A PIN is tried: [`Reply::PinRecord`].
    Try,
    /// It was right, and opens a session.
    Passed {
        /// What the attempt was checked with.
        record: Hidden,
        /// Of the session.
        proof: [u8; 32],
    },
    /// The session ends.
    Lock,
}

/// A row of [`Tree::Pins`]. Field order is its format.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct State {
    /// Attempts since the last right one.
    tries: u32,
    /// When the last of them was.
    tried: Timestamp,
    /// Whether the record is out of the store for the last attempt.
    last: bool,
    /// Whether the record was destroyed for good.
    destroyed: bool,
    /// The session's proof; empty if there is none.
    proof: ByteBuf,
    /// When it ends.
    until: Timestamp,
}

impl State {
    fn of(view: &dyn View, device: &Fingerprint) -> Result<Option<Self>, StorageError> {
        let row = view.get(Tree::Pins, device.as_bytes())?;
        Ok(row.and_then(|row| cbor::from_slice(&row, row.len()).ok()))
    }

    fn put(&self, turn: &mut Turn<'_>, device: &Fingerprint) {
        turn.rows.put(Tree::Pins, *device.as_bytes(), cbor::to_vec(self));
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

/// The device's session, if it has one that lasts.
///
/// # Errors
/// The view's alone.
pub fn session(
    view: &dyn View,
    device: &Fingerprint,
    now: Timestamp,
) -> Result<Option<PinSession>, StorageError> {
    let state = State::of(view, device)?.filter(|state| now < state.until);
    Ok(state.and_then(|state| {
        Some(PinSession { proof: state.proof.as_slice().try_into().ok()?, until: state.until })
    }))
}

/// Whether the device has set a PIN, be it destroyed since.
///
/// # Errors
/// The view's alone.
pub fn is_set(view: &dyn View, device: &Fingerprint) -> Result<bool, StorageError> {
    view.contains(Tree::Pins, device.as_bytes())
}

/// Destroys a revoked device's record for good, and ends its session.
fn destroy_revoked(turn: &mut Turn<'_>, device: &Fingerprint) -> Result<(), StorageError> {
    let Some(mut state) = State::of(&turn.rows, device)?.filter(|state| !state.destroyed) else {
        return Ok(());
    };
    turn.rows.delete(Tree::PinRecords, *device.as_bytes());
    state.destroyed = true;
    state.close();
    state.put(turn, device);
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
        let until = turn.now.plus_secs(self.pins.session_secs);
        match request {
            PinRequest::Found(Hidden(secret)) => {
                if !turn.rows.contains(Tree::PinRecords, SECRET)? {
                    turn.rows.put(Tree::PinRecords, SECRET, secret.to_vec());
                }
            }
            PinRequest::Set { record, proof } => {
                if self.network.is_revoked(device) {
                    return Ok(Err(Refusal::PinDestroyed));
                }
                let mut state = State::of(&turn.rows, device)?.unwrap_or_default();
                if state.destroyed || state.last {
                    return Ok(Err(Refusal::PinDestroyed));
                }
                state.open(proof, until);
                state.put(turn, device);
                turn.rows.put(Tree::PinRecords, *device.as_bytes(), record.0.to_vec());
                turn.audit(AuditEntry::new(EVENT, "set", format!("device {device} has set its PIN")))?;
            }
            PinRequest::Try => return self.try_pin(turn, device),
            PinRequest::Passed { record, proof } => {
                let state = State::of(&turn.rows, device)?;
                let Some(mut state) = state.filter(|state| !state.destroyed) else {
                    return Ok(Err(Refusal::PinDestroyed));
                };
                if state.last {
                    turn.rows.put(Tree::PinRecords, *device.as_bytes(), record.0.to_vec());
                }
                state.open(proof, until);
                state.put(turn, device);
            }
            PinRequest::Lock => {
                if let Some(mut state) = State::of(&turn.rows, device)? {
                    state.close();
                    state.put(turn, device);
                }
            }
        }
        Ok(Ok(Reply::Done))
    }

    fn try_pin(
        &mut self,
        turn: &mut Turn<'_>,
        device: &Fingerprint,
    ) -> Result<Result<Reply, Refusal>, StorageError> {
        let Some(mut state) = State::of(&turn.rows, device)? else { return Ok(Err(Refusal::NoPin)) };
        let record = turn.rows.get(Tree::PinRecords, device.as_bytes())?;
        let Some(record) = record else { return Ok(Err(Refusal::PinDestroyed)) };
        let wait_secs = self.pins.wait_secs(state.tries);
        if wait_secs > 0 {
            // A clock that was ahead must not keep a device out for as long.
            if state.tried > turn.now {
                state.tried = turn.now;
                state.put(turn, device);
            }
            let passed = turn.now.as_secs() - state.tried.as_secs();
            if passed < wait_secs {
                return Ok(Err(Refusal::PinWait(wait_secs - passed)));
            }
        }
        state.tries += 1;
        state.tried = turn.now;
        let left = self.pins.tries_max.saturating_sub(state.tries);
        if state.tries >= PinPolicy::DELAYED_FROM {
            let detail =
                format!("device {device} tries its PIN for the {} time; {left} more", nth(state.tries));
            turn.audit(AuditEntry::new(EVENT, "tried", detail))?;
        }
        if left == 0 {
            turn.rows.delete(Tree::PinRecords, *device.as_bytes());
            state.last = true;
            state.close();
            let detail =
                format!("the PIN's record of device {device} is destroyed, unless this attempt was right");
            turn.audit(AuditEntry::new(EVENT, "destroyed", detail))?;
        }
        state.put(turn, device);
        Ok(Ok(Reply::PinRecord { record: Hidden(Zeroizing::new(record)), left }))
    }

    /// Destroys the records of devices that are revoked, if that may have changed since the last time.
    pub(crate) fn destroy_revoked_pins(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        let revision = Some(self.network.revision());
        if self.pins_checked == revision {
            return Ok(());
        }
        let mut from: Option<Vec<u8>> = None;
        loop {
            let begin = from.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let rows = turn.rows.scan(Tree::Pins, (begin, Bound::Unbounded), SCAN_ROWS)?;
            for (key, _) in &rows {
                let device = <[u8; 32]>::try_from(key.as_slice()).map(Fingerprint::new);
                if let Ok(device) = device
                    && self.network.is_revoked(&device)
                {
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
        self.pins_checked = revision;
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
