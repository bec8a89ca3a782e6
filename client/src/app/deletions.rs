//! Deleting at every replica, and the evidence of it (promise P7).
//!
//! What the node says counts only as far as this device has verified it: proven by a receipt of a node of that very trust, about
//! this very tombstone, and of a device by the device's own signature; and the tombstone has to be the one that was asked for, signed by
//! this device's own trust. What a receipt proves is that the node attested erasure, no more; every view says so.

use lanyard_crypto::gateway::{DeleteRequest, DeletionResponse};
use lanyard_crypto::limits::{CLOCK_SKEW_SECS_MAX, RETENTION_SECS_MAX};
use lanyard_crypto::record::{Reason, Target, Tombstone};
use lanyard_crypto::tally::{DeviceName, DeviceTally, ReplicaState, ReplicaTally, Tally};
use lanyard_crypto::{RecordId, Timestamp};

use super::view::{DeletionView, DeviceErasureView, Moment, ReplicaView};
use super::{App, AppError};
use crate::clock;

/// What every view of receipts says.
const NOTE: &str = "A receipt proves that a trust's node, or a device, attested erasure, no more.";

/// Why an answer is not believed that may be good evidence of something else.
const ANOTHER: &str = "it is about another deletion than the one that was asked for";

impl App {
    /// Deletes a message that this device sent: orders its erasure at every replica, and erases it here.
    ///
    /// # Errors
    /// [`AppError`]: not found, not this device's, what the node says, or [`AppError::Evidence`]; nothing is erased then.
    pub fn delete(&mut self, typed: &str, reason: Reason) -> Result<DeletionView, AppError> {
        let (id, message) = self.message_named(typed)?;
        if !message.own {
            return Err(AppError::NotOwn(format!("{} ({})", message.name, message.trust)));
        }
        let request = DeleteRequest {
            conversation: message.conversation.clone(),
            envelopes: vec![id],
            reason,
            all: false,
        };
        let answer = self.node.delete(&request)?;
        let tally = self.ordered(&answer, &request)?;
        if tally.tombstone.target != Target::Envelopes(request.envelopes) {
            return Err(another());
        }
        let conversation = &message.conversation;
        self.session.vault_mut().erase(conversation, &[id], &message.trust, message.expires)?;
        Ok(deletion_view(tally))
    }

    /// Deletes every message of a conversation up to now, at every replica and here: for its administrators from the trust that
    /// owns it.
    ///
    /// # Errors
    /// [`AppError`]: not found, another trust's, what the node says, or [`AppError::Evidence`]; nothing is erased then.
    pub fn delete_all(&mut self, typed: &str, reason: Reason) -> Result<DeletionView, AppError> {
        let conversation = self.conversation_named(typed)?;
        let owner = conversation.id.owner();
        if *owner != self.device.trust {
            return Err(AppError::NotOwner { owner: owner.to_string() });
        }
        let (id, envelopes) = (conversation.id.clone(), Vec::new());
        let request = DeleteRequest { conversation: id, envelopes, reason, all: true };
        let asked = clock::now();
        let answer = self.node.delete(&request)?;
        let tally = self.ordered(&answer, &request)?;
        let Target::UpTo(up_to) = tally.tombstone.target else { return Err(another()) };
        // An earlier deletion of the conversation has spared what was written since.
        if up_to.plus_secs(CLOCK_SKEW_SECS_MAX) < asked {
            let (up_to, asked) = (clock::readable(up_to), clock::readable(asked));
            return Err(AppError::Evidence(format!("{ANOTHER}: it is of {up_to}, and it is {asked} here")));
        }
        // It would erase what nobody has written yet.
        if up_to > tally.issued || tally.issued > clock::now().plus_secs(CLOCK_SKEW_SECS_MAX) {
            return Err(AppError::Evidence("it is dated later than it can be".into()));
        }
        // The order itself, with how long it holds, comes through the inbox.
        let until = tally.issued.plus_secs(RETENTION_SECS_MAX);
        self.session.vault_mut().erase_up_to(&conversation.id, up_to, until)?;
        Ok(deletion_view(tally))
    }

    /// Who has confirmed a deletion by now.
    ///
    /// # Errors
    /// What the node says, or [`AppError::Evidence`].
    pub fn deletion(&mut self, tombstone: &RecordId) -> Result<DeletionView, AppError> {
        let answer = self.node.deletion(tombstone)?;
        let tally = self.tally(&answer)?;
        if tally.id == *tombstone { Ok(deletion_view(tally)) } else { Err(another()) }
    }

    /// Who has confirmed what this device has just asked its own node to order, if that is what the answer is about.
    fn ordered(&self, answer: &DeletionResponse, request: &DeleteRequest) -> Result<Tally, AppError> {
        let tally = self.tally(answer)?;
        let Tombstone { conversation, reason, .. } = &tally.tombstone;
        if (conversation, *reason) != (&request.conversation, request.reason) {
            return Err(another());
        }
        let why = match &tally.by {
            Some(by) if *by == self.device.trust => return Ok(tally),
            Some(by) => format!("{by} has ordered it, and not {}", self.device.trust),
            None => tally.problems.join("; "),
        };
        Err(AppError::Evidence(why))
    }

    fn tally(&self, answer: &DeletionResponse) -> Result<Tally, AppError> {
        Tally::of(answer, &mut self.beliefs.write()).map_err(AppError::Evidence)
    }
}

fn another() -> AppError {
    AppError::Evidence(ANOTHER.into())
}

fn deletion_view(tally: Tally) -> DeletionView {
    let now = clock::now();
    DeletionView {
        id: tally.id.to_string(),
        reason: tally.tombstone.reason.name(),
        ordered: Moment(tally.issued),
        by: tally.by.as_ref().map(ToString::to_string),
        summary: tally.summary(now),
        confirmed: tally.confirmed(),
        replicas_total: tally.replicas.len(),
        replicas: tally.replicas.iter().map(|replica| replica_view(replica, now)).collect(),
        devices_erased: tally.devices_erased(),
        devices_total: tally.devices_total(),
        devices: tally.devices.iter().flat_map(device_views).collect(),
        problems: tally.problems,
        note: NOTE,
    }
}

fn replica_view(replica: &ReplicaTally, now: Timestamp) -> ReplicaView {
    let (erased, held_until) = match &replica.state {
        ReplicaState::Missing => (None, None),
        ReplicaState::Held(until, _) => (None, Some(Moment(*until))),
        ReplicaState::Erased(at, _) => (Some(Moment(*at)), None),
    };
    ReplicaView {
        trust: replica.trust.to_string(),
        node: replica.node.map(|node| node.to_string()),
        erased,
        held_until,
        hold_over: held_until.is_some() && !replica.holds(now),
        overdue: replica.overdue.map(Moment),
        receipt: replica.receipt.map(|id| id.to_string()),
        problem: replica.problem.clone(),
    }
}

fn device_views(of: &DeviceTally) -> Vec<DeviceErasureView> {
    let view = |device: &DeviceName| DeviceErasureView {
        trust: of.trust.to_string(),
        device: device.device.to_string(),
        name: device.name.clone(),
        erased: None,
        last_seen: None,
        revoked: false,
    };
    let erased = of
        .confirmed
        .iter()
        .map(|(device, at)| DeviceErasureView { erased: Some(Moment(*at)), ..view(device) });
    let waiting = of.waiting.iter().map(|waited| DeviceErasureView {
        last_seen: waited.last_seen.map(Moment),
        revoked: waited.revoked,
        ..view(&waited.device)
    });
    erased.chain(waiting).collect()
}
