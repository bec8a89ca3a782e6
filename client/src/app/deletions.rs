//! Deleting at every replica, and the evidence of it (promise P7).
//!
//! A receipt counts only if this device has verified it: signed by a node of that very trust, over this very
//! tombstone. What a receipt proves is that the node attested erasure, no more; every view says so.

use lanyard_crypto::RecordId;
use lanyard_crypto::gateway::{Attestation, DeleteRequest, DeletionResponse, Replica};
use lanyard_crypto::limits::RETENTION_SECS_MAX;
use lanyard_crypto::record::{self, Body, Decoded, Reason, ReceiptItem};

use super::view::{DeletionView, Moment, ReplicaView};
use super::{App, AppError};

/// What every view of receipts says.
const NOTE: &str = "A receipt proves that a trust's node attested erasure, no more.";

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
        Ok(self.deletion_view(&answer))
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
        let until = answer.issued.plus_secs(RETENTION_SECS_MAX);
        self.session.vault_mut().erase_up_to(&conversation.id, answer.issued, until)?;
        Ok(self.deletion_view(&answer))
    }

    /// Who has confirmed a deletion by now.
    ///
    /// # Errors
    /// What the node says.
    pub fn deletion(&mut self, tombstone: &RecordId) -> Result<DeletionView, AppError> {
        let answer = self.node.deletion(tombstone)?;
        Ok(self.deletion_view(&answer))
    }

    fn deletion_view(&mut self, answer: &DeletionResponse) -> DeletionView {
        let replicas: Vec<_> =
            answer.replicas.iter().map(|r| self.replica_view(&answer.tombstone, r)).collect();
        DeletionView {
            id: answer.tombstone.to_string(),
            reason: answer.reason.name(),
            ordered: Moment(answer.issued),
            confirmed: replicas.iter().filter(|r| r.erased.is_some()).count(),
            replicas_total: replicas.len(),
            replicas,
            note: NOTE,
        }
    }

    fn replica_view(&mut self, tombstone: &RecordId, replica: &Replica) -> ReplicaView {
        let verified =
            replica.receipt.as_ref().map(|receipt| self.verify_receipt(tombstone, replica, receipt));
        let (erased, receipt, problem) = match verified {
            None => (None, None, None),
            Some(Ok((id, erased))) => (Some(erased), Some(id.to_string()), None),
            Some(Err(problem)) => (None, None, Some(problem)),
        };
        ReplicaView { trust: replica.trust.to_string(), erased, receipt, problem }
    }

    fn verify_receipt(
        &mut self,
        tombstone: &RecordId,
        replica: &Replica,
        receipt: &Attestation,
    ) -> Result<(RecordId, Moment), String> {
        let decoded = Decoded::from_bytes(&receipt.bytes).map_err(|e| e.to_string())?;
        let mut network = self.beliefs.write();
        network.learn(&receipt.chain).map_err(|e| e.to_string())?;
        let verified = record::verify(decoded, &network).map_err(|e| e.to_string())?;
        if verified.signer().trust() != Some(&replica.trust) {
            return Err("it is signed by another trust's node".into());
        }
        let Body::Receipt(body) = verified.body() else {
            return Err("it is not a receipt".into());
        };
        let erased = body.items.iter().find_map(|item| match item {
            ReceiptItem::Erased(erased) if erased.tombstone == *tombstone => Some(erased.erased),
            _ => None,
        });
        Ok((verified.id(), Moment(erased.ok_or("it does not name this deletion")?)))
    }
}
