//! The moment at which a device's access ends, alike for everybody.
//!
//! Whether a message came before or after a revocation is decided by two moments, both signed by the sender's trust: when its node
//! issued the envelope, and the date that its registrar's list gives the revocation. What was issued up to that date stays, whoever
//! hears of either in whatever order; what was issued later is refused. So that both are in order, the engine bars the device first: from
//! that step on it accepts nothing of it, and the moment that it answers is no earlier than any that it has stamped. With that date the
//! registrar then signs the list.
//!
//! A bar lasts until the replica is opened anew: by then the list is in force, or the revocation has failed and was reported so.

use lanyard_crypto::{Fingerprint, Timestamp};
use lanyard_storage::{StorageError, Tree, View};

use crate::Replica;
use crate::input::{Deleter, Reply, Request};
use crate::keys;
use crate::turn::Turn;

/// The name under which [`Tree::Meta`] has the latest moment that this node has stamped ahead of its clock.
const ISSUED_AHEAD: &[u8] = b"issued-ahead";

impl Replica {
    /// Takes nothing more of these devices, and tells when that began.
    pub(crate) fn bar(
        &mut self,
        turn: &mut Turn<'_>,
        devices: Vec<Fingerprint>,
    ) -> Result<Reply, StorageError> {
        self.barred.extend(devices);
        let ahead = turn.rows.get(Tree::Meta, ISSUED_AHEAD)?.map_or(0, |row| keys::last_u64(&row));
        // By a clock that is behind, it would take back what was rightly accepted before that was set back.
        let behind = self.behind(turn.now).map_or(turn.now, |secs| turn.now.plus_secs(secs));
        Ok(Reply::Barred(behind.max(Timestamp::from_secs(ahead))))
    }

    /// Whether the device that asks, if one does, is revoked, or is just being revoked.
    pub(crate) fn is_barred(&self, request: &Request) -> bool {
        asks(request).is_some_and(|device| self.barred.contains(&device) || self.network.is_revoked(&device))
    }
}

/// Notes when an envelope was issued, if it is later than the clock says.
pub(crate) fn issued(turn: &mut Turn<'_>, at: Timestamp) -> Result<(), StorageError> {
    if at > turn.now {
        let before = turn.rows.get(Tree::Meta, ISSUED_AHEAD)?.map_or(0, |row| keys::last_u64(&row));
        turn.rows.put(Tree::Meta, ISSUED_AHEAD, at.as_secs().max(before).to_be_bytes());
    }
    Ok(())
}

/// The device by which something is to be changed; PINs are looked at where they are checked, and lines prove themselves.
fn asks(request: &Request) -> Option<Fingerprint> {
    match request {
        Request::Send { device, .. } | Request::Seen { device, .. } | Request::Leave { device, .. } => {
            Some(*device)
        }
        Request::Delete { by: Deleter::Device(device) | Deleter::Administrator(device), .. } => Some(*device),
        _ => None,
    }
}
