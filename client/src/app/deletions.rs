//! Deleting at every replica, and the evidence of it (promise P7).
//!
//! What the node says counts only as far as this device has verified it: proven by a receipt of a node of that very trust, about
//! this very tombstone, and of a device by the device's own signature. What a receipt proves is that the node attested erasure, no
//! more; every view says so.

use lanyard_crypto::RecordId;
use lanyard_crypto::gateway::{DeleteRequest, DeletionResponse};
use lanyard_crypto::limits::RETENTION_SECS_MAX;
use lanyard_crypto::record::Reason;
use lanyard_crypto::tally::{DeviceName, DeviceTally, ReplicaState, ReplicaTally, Tally};

use super::view::{DeletionView, DeviceErasureView, Moment, ReplicaView};
use super::{App, AppError};
use crate::clock;

/// What every view of receipts says.
const NOTE: &str = "A receipt proves that a trust's node, or a device, attested erasure, no more.";

impl App {
    /// Deletes a message that this device sent: orders its erasure at every replica, and erases it here.
    ///
    /// # Errors
    /// [`AppError`]: not found, not this device's, or what the node says; nothing is erased then.
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
        let conversation = &message.conversation;
        self.session.vault_mut().erase(conversation, &[id], &message.trust, message.expires)?;
        self.deletion_view(&answer)
    }

    /// Deletes every message of a conversation up to now, at every replica and here: for its administrators from the trust that
    /// owns it.
    ///
    /// # Errors
    /// [`AppError`]: not found, another trust's, or what the node says; nothing is erased then.
    pub fn delete_all(&mut self, typed: &str, reason: Reason) -> Result<DeletionView, AppError> {
        let conversation = self.conversation_named(typed)?;
        let owner = conversation.id.owner();
        if *owner != self.device.trust {
            return Err(AppError::NotOwner { owner: owner.to_string() });
        }
        let (id, envelopes) = (conversation.id.clone(), Vec::new());
        let answer = self.node.delete(&DeleteRequest { conversation: id, envelopes, reason, all: true })?;
        // The order itself, with how long it holds, comes through the inbox.
        let view = self.deletion_view(&answer)?;
        let until = view.ordered.0.plus_secs(RETENTION_SECS_MAX);
        self.session.vault_mut().erase_up_to(&conversation.id, view.ordered.0, until)?;
        Ok(view)
    }

    /// Who has confirmed a deletion by now.
    ///
    /// # Errors
    /// What the node says.
    pub fn deletion(&mut self, tombstone: &RecordId) -> Result<DeletionView, AppError> {
        let answer = self.node.deletion(tombstone)?;
        self.deletion_view(&answer)
    }

    fn deletion_view(&mut self, answer: &DeletionResponse) -> Result<DeletionView, AppError> {
        let tally = Tally::of(answer, &mut self.beliefs.write());
        let tally = tally.map_err(AppError::Evidence)?;
        Ok(DeletionView {
            id: tally.id.to_string(),
            reason: tally.tombstone.reason.name(),
            ordered: Moment(tally.issued),
            by: tally.by.as_ref().map(ToString::to_string),
            summary: tally.summary(clock::now()),
            confirmed: tally.confirmed(),
            replicas_total: tally.replicas.len(),
            replicas: tally.replicas.iter().map(replica_view).collect(),
            devices_erased: tally.devices.iter().map(|d| u64::from(d.erased)).sum(),
            devices_total: tally.devices.iter().map(|d| u64::from(d.total)).sum(),
            devices: tally.devices.iter().flat_map(device_views).collect(),
            problems: tally.problems,
            note: NOTE,
        })
    }
}

fn replica_view(replica: &ReplicaTally) -> ReplicaView {
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
