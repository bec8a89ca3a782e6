//! Receipts (promise P7): what this node attests, and what others have attested to it.

use std::collections::BTreeSet;

use lanyard_crypto::record::{Body, Erased, Header, Receipt, ReceiptItem, Verified};
use lanyard_crypto::{ConversationId, RecordId, TrustId};
use lanyard_storage::{StorageError, Tree, View};

use crate::Replica;
use crate::audit::AuditEntry;
use crate::holding::node_trust;
use crate::keys;
use crate::limits::RECEIPT_LIFE_SECS;
use crate::spread;
use crate::turn::Turn;

/// Notes that a tombstone is carried out, to be attested at the end of the step.
pub(crate) fn carried_out(
    turn: &mut Turn<'_>,
    by: TrustId,
    conversation: &ConversationId,
    tombstone: RecordId,
    envelopes: u32,
) -> Result<(), StorageError> {
    let devices = spread::local_members(&turn.rows, conversation)?.len() as u32;
    let item = ReceiptItem::Erased(Erased { tombstone, erased: turn.now, envelopes, devices });
    turn.erased.entry(by).or_default().push(item);
    Ok(())
}

impl Replica {
    /// Attests what this step has erased: receipts to each trust that ordered it.
    pub(crate) fn attest(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        for (by, items) in std::mem::take(&mut turn.erased) {
            for receipt in Receipt::split(items) {
                let custodians = BTreeSet::from([by.clone(), self.own.trust.clone()]).into_iter().collect();
                let expires = turn.now.plus_secs(RECEIPT_LIFE_SECS);
                let header =
                    Header { network: Some(self.network.id()), custodians, issued: turn.now, expires };
                if let Err(why) = self.originate(turn, header, Body::Receipt(receipt))? {
                    // Our own certificate has lapsed: erased all the same, and attested by nobody until it is renewed.
                    turn.audit(AuditEntry::new("receipt-unsigned", why.ruling().code, why.to_string()))?;
                }
            }
        }
        Ok(())
    }
}

/// Notes what a receipt that is stored attests.
pub(crate) fn follow(turn: &mut Turn<'_>, record: &Verified, receipt: &Receipt) {
    let Some(trust) = node_trust(record.signer()) else { unreachable!("nodes alone sign receipts") };
    for item in &receipt.items {
        if let ReceiptItem::Erased(item) = item {
            turn.rows.put(Tree::Tally, keys::tick(&item.tombstone, trust), *record.id().as_bytes());
        }
    }
}

/// Forgets what a receipt that is dropped has attested.
pub(crate) fn forget(turn: &mut Turn<'_>, id: &RecordId) -> Result<(), StorageError> {
    let Some((held, record)) = crate::admit::stored(&turn.rows, id)? else { return Ok(()) };
    if let (Body::Receipt(receipt), Some(trust)) = (record.body(), &held.signer) {
        for tombstone in receipt.items.iter().filter_map(ReceiptItem::tombstone) {
            let tick = keys::tick(&tombstone, trust);
            // A later receipt for the same tombstone keeps its place.
            if turn.rows.get(Tree::Tally, &tick)?.as_deref() == Some(id.as_bytes()) {
                turn.rows.delete(Tree::Tally, tick);
            }
        }
    }
    Ok(())
}
