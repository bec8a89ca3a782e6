//! Erasure (promises P6 and P7): tombstones, expiry, and the receipts for what was carried out.
//!
//! Deleting wins in every order of arrival. A tombstone leaves a row for each of its targets, whether or not the target has
//! arrived; admission looks there. The row goes when the tombstone expires, which is after everything that it names has
//! expired by more than clocks may differ, so that no replica would take such an envelope back. Nothing is pruned on any
//! other ground.

use lanyard_crypto::record::{Class, Envelope, Kind, ReceiptItem, Target, Tombstone, Verified};
use lanyard_crypto::{ConversationId, RecordId, Timestamp, TrustId, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};

use crate::holding::{Holding, node_trust};
use crate::keys;
use crate::limits::{ERASE_PER_STEP_MAX, EXPIRE_PER_STEP_MAX, SCAN_ROWS};
use crate::spread;
use crate::turn::Turn;

/// A row of [`Tree::Tombstones`]: who ordered the erasure. Field order is its format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) by: TrustId,
    /// Of a conversation's row: up to when.
    pub(crate) up_to: Option<Timestamp>,
}

impl Order {
    /// The sender's trust and the owner trust may delete, nobody else.
    pub(crate) fn may_erase(&self, sender: Option<&TrustId>, conversation: &ConversationId) -> bool {
        sender == Some(&self.by) || conversation.owner() == &self.by
    }
}

/// The tombstone that forbids this application message, if there is one.
pub(crate) fn tombstone_for(
    view: &dyn View,
    id: &RecordId,
    envelope: &Envelope,
    issued: Timestamp,
    sender: &TrustId,
) -> Result<Option<RecordId>, StorageError> {
    let conversation = &envelope.conversation;
    for (key, row) in view.scan_prefix(Tree::Tombstones, id.as_bytes(), SCAN_ROWS)? {
        if order(&row).may_erase(Some(sender), conversation) {
            return Ok(tombstone_in(&key));
        }
    }
    for (key, row) in view.scan_prefix(Tree::Tombstones, &keys::conversation(conversation), SCAN_ROWS)? {
        if order(&row).up_to.is_some_and(|up_to| issued <= up_to) {
            return Ok(tombstone_in(&key));
        }
    }
    Ok(None)
}

fn order(row: &[u8]) -> Order {
    cbor::from_slice(row, 1024).expect("an order is written by this module alone, and rows are checked by the store")
}

fn tombstone_in(key: &[u8]) -> Option<RecordId> {
    key.last_chunk::<32>().map(|id| RecordId::new(*id))
}

/// Carries out an admitted tombstone, and notes what is to be attested.
pub(crate) fn carry_out(turn: &mut Turn<'_>, record: &Verified, tombstone: &Tombstone) -> Result<(), StorageError> {
    let Some(by) = node_trust(record.signer()) else { unreachable!("nodes alone sign tombstones") };
    let conversation = &tombstone.conversation;
    let mut envelopes = 0;
    match &tombstone.target {
        Target::Envelopes(ids) => {
            let row = cbor::to_vec(&Order { by: by.clone(), up_to: None });
            for id in ids {
                turn.rows.put(Tree::Tombstones, keys::target(id, &record.id()), row.clone());
                if let Some(held) = Holding::get(&turn.rows, id)? {
                    erase(turn, id, &held)?;
                    envelopes += 1;
                }
            }
        }
        Target::UpTo(up_to) => {
            let row = cbor::to_vec(&Order { by: by.clone(), up_to: Some(*up_to) });
            turn.rows.put(Tree::Tombstones, keys::conversation_target(conversation, &record.id()), row);
            envelopes = erase_up_to(turn, conversation, *up_to)?;
        }
    }
    let item = ReceiptItem { tombstone: record.id(), erased: turn.now, envelopes };
    turn.erased.entry(by.clone()).or_default().push(item);
    deliver_tombstone(turn, conversation, &record.id())
}

fn erase_up_to(turn: &mut Turn<'_>, conversation: &ConversationId, up_to: Timestamp) -> Result<u32, StorageError> {
    use std::ops::Bound;
    let mut count = 0;
    let mut from = keys::conversation(conversation);
    let end = keys::conversation_row(conversation, up_to.plus_secs(1), &RecordId::new([0; 32]));
    loop {
        let range = (Bound::Excluded(from.as_slice()), Bound::Excluded(end.as_slice()));
        let rows = turn.rows.scan(Tree::Conversations, range, ERASE_PER_STEP_MAX)?;
        let Some((last, _)) = rows.last() else { return Ok(count) };
        from = last.clone();
        for (key, class) in rows {
            let Some(id) = tombstone_in(&key) else { continue };
            if class == [Class::Application as u8]
                && let Some(held) = Holding::get(&turn.rows, &id)?
            {
                erase(turn, &id, &held)?;
                count += 1;
            }
        }
    }
}

/// Clients erase their plaintext when they see the tombstone.
fn deliver_tombstone(turn: &mut Turn<'_>, conversation: &ConversationId, id: &RecordId) -> Result<(), StorageError> {
    for device in spread::local_members(&turn.rows, conversation)? {
        turn.deliver(&device, id)?;
    }
    Ok(())
}

/// Removes a record and every row about it. The store makes sealed values unreadable with the commit.
pub(crate) fn erase(turn: &mut Turn<'_>, id: &RecordId, held: &Holding) -> Result<(), StorageError> {
    spread::forget(turn, id)?;
    let rows = &mut turn.rows;
    rows.delete(held.tree(), *id.as_bytes());
    rows.delete(Tree::Holdings, *id.as_bytes());
    rows.delete(Tree::Expiry, keys::expiry(held.expires, id));
    rows.delete(Tree::Submitted, *id.as_bytes());
    if let Some(layer) = held.layer() {
        rows.delete(Tree::Index, keys::index(layer, held.issued, id));
    }
    if let (true, Some(conversation)) = (held.kind == Kind::Envelope as u8, &held.conversation) {
        rows.delete(Tree::Conversations, keys::conversation_row(conversation, held.issued, id));
    }
    Ok(())
}

/// Drops what has expired. Tells whether there is more.
pub(crate) fn expire(turn: &mut Turn<'_>) -> Result<bool, StorageError> {
    use std::ops::Bound;
    let end = keys::expiry(turn.now.plus_secs(1), &RecordId::new([0; 32]));
    let range = (Bound::Unbounded, Bound::Excluded(end.as_slice()));
    let due = turn.rows.scan(Tree::Expiry, range, EXPIRE_PER_STEP_MAX)?;
    for (key, _) in &due {
        let Some(id) = tombstone_in(key) else { continue };
        let Some(held) = Holding::get(&turn.rows, &id)? else { continue };
        if held.kind == Kind::Tombstone as u8 {
            forget_tombstone(turn, &id)?;
        }
        if held.kind == Kind::Receipt as u8 {
            forget_receipt(turn, &id)?;
        }
        // The charter in force stays readable after its expiry, so that the reason can be shown.
        if held.kind == Kind::Charter as u8 && turn.rows.get(Tree::Meta, b"charter")?.as_deref() == Some(id.as_bytes()) {
            turn.rows.delete(Tree::Expiry, key.clone());
            continue;
        }
        erase(turn, &id, &held)?;
    }
    Ok(due.len() == EXPIRE_PER_STEP_MAX)
}

fn forget_tombstone(turn: &mut Turn<'_>, id: &RecordId) -> Result<(), StorageError> {
    let Some((_, record)) = crate::admit::stored(&turn.rows, id)? else { return Ok(()) };
    let lanyard_crypto::record::Body::Tombstone(tombstone) = record.body() else { return Ok(()) };
    match &tombstone.target {
        Target::Envelopes(ids) => ids.iter().for_each(|t| turn.rows.delete(Tree::Tombstones, keys::target(t, id))),
        Target::UpTo(_) => {
            turn.rows.delete(Tree::Tombstones, keys::conversation_target(&tombstone.conversation, id));
        }
    }
    Ok(())
}

fn forget_receipt(turn: &mut Turn<'_>, id: &RecordId) -> Result<(), StorageError> {
    let Some((held, record)) = crate::admit::stored(&turn.rows, id)? else { return Ok(()) };
    if let (lanyard_crypto::record::Body::Receipt(receipt), Some(trust)) = (record.body(), &held.signer) {
        receipt.items.iter().for_each(|i| turn.rows.delete(Tree::Tally, keys::tick(&i.tombstone, trust)));
    }
    Ok(())
}
