//! Standing orders: tombstones by which the messages of a conversation end sooner than they state.
//!
//! An order names every message up to a moment, and how long each may live. When a message ends is therefore a function of the
//! message and of the orders alone: the shortest wins, whatever came first, so that all replicas end alike (P5). What is here ends
//! sooner when the order comes; what comes later finds the row. From then on a message expires as any other, by each replica's own
//! clock: it is served no more, leaves the digests, and is refused at the door.
//!
//! A replica attests an order when the last message that it could name has ended here, and not before.

use std::ops::Bound;

use lanyard_crypto::record::{Body, Class, Target, Tombstone};
use lanyard_crypto::{ConversationId, RecordId, Timestamp, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::erase::{self, Unfinished};
use crate::hold::Named;
use crate::holding::Holding;
use crate::keys;
use crate::limits::DEVICES_PER_TICK;
use crate::mutation::{self, Mutation};
use crate::query::for_each;
use crate::turn::Turn;

/// A row of [`Tree::Tombstones`] under a conversation. Field order is its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// Messages up to when.
    pub(crate) up_to: Timestamp,
    /// How long they live.
    pub(crate) secs: u64,
}

impl Standing {
    /// When what was issued at this moment ends by it.
    fn end(&self, issued: Timestamp) -> Option<Timestamp> {
        (issued <= self.up_to).then(|| issued.plus_secs(self.secs))
    }

    /// When nothing that it names is left.
    pub(crate) fn over(&self) -> Timestamp {
        self.up_to.plus_secs(self.secs)
    }
}

/// The standing orders for a conversation.
pub(crate) fn orders(view: &dyn View, conversation: &ConversationId) -> Result<Vec<Standing>, StorageError> {
    let mut orders = Vec::new();
    for_each(view, Tree::Tombstones, &keys::standing_of(conversation), |_, row| {
        orders.extend(cbor::from_slice::<Standing>(row, 64).ok());
        Ok(())
    })?;
    Ok(orders)
}

/// What is known of a record, with the end that standing orders give it.
pub(crate) fn under_orders(view: &dyn View, mut held: Holding) -> Result<Holding, StorageError> {
    if let (Some(Class::Application), Some(conversation)) = (held.class, &held.conversation)
        && !mutation::is(Mutation::ForgetStanding)
    {
        let ends = orders(view, conversation)?.iter().filter_map(|order| order.end(held.issued)).min();
        if let Some(end) = ends {
            held.end_at(end);
        }
    }
    Ok(held)
}

/// Carries out an admitted standing order.
pub(crate) fn carry_out(
    turn: &mut Turn<'_>,
    id: &RecordId,
    conversation: &ConversationId,
    order: Standing,
) -> Result<(), StorageError> {
    turn.rows.put(Tree::Tombstones, keys::standing(conversation, id), cbor::to_vec(&order));
    apply(turn, id, conversation, order, Unfinished::default())
}

/// Lets what is here end sooner, as much as one step takes; the rest is noted.
pub(crate) fn apply(
    turn: &mut Turn<'_>,
    id: &RecordId,
    conversation: &ConversationId,
    order: Standing,
    before: Unfinished,
) -> Result<(), StorageError> {
    let mut count = before.count;
    let begins = before.reached.map_or_else(|| keys::conversation(conversation), ByteBuf::into_vec);
    let mut reached = begins.clone();
    let whole = erase::each_message(turn, conversation, begins, order.up_to, |turn, key, message| {
        count += u32::from(shorten(turn, message, order)?);
        reached = key.to_vec();
        Ok(())
    })?;
    if !whole {
        Unfinished { count, reached: Some(ByteBuf::from(reached)), attested: false }.note(turn, id);
        return Ok(());
    }
    turn.rows.put(Tree::Meta, keys::attest_at(order.over(), id), count.to_be_bytes());
    Ok(())
}

fn shorten(turn: &mut Turn<'_>, id: &RecordId, order: Standing) -> Result<bool, StorageError> {
    let Some(mut held) = Holding::get(&turn.rows, id)? else { return Ok(false) };
    let before = held.expires;
    let Some(end) = order.end(held.issued).filter(|end| *end < before) else { return Ok(false) };
    held.end_at(end);
    turn.rows.delete(Tree::Expiry, keys::expiry(before, id));
    turn.rows.put(Tree::Expiry, keys::expiry(end, id), [held.kind]);
    turn.rows.put(Tree::Holdings, *id.as_bytes(), held.to_row());
    Ok(true)
}

/// Whether a message that no step has come to yet has ended by an order that is not carried out in full.
pub(crate) fn has_ended(view: &dyn View, held: &Holding, now: Timestamp) -> Result<bool, StorageError> {
    Ok(held.expires > now && under_orders(view, held.clone())?.expires <= now)
}

/// Attests the orders by which the last message has ended, and is gone.
pub(crate) fn attest_due(turn: &mut Turn<'_>) -> Result<(), StorageError> {
    let due = keys::attest_at(turn.now.plus_secs(1), &RecordId::new([0; 32]));
    let range = (Bound::Included(keys::ATTESTS), Bound::Excluded(due.as_slice()));
    for (key, row) in turn.rows.scan(Tree::Meta, range, DEVICES_PER_TICK)? {
        let Some((over, id)) = keys::attest_parts(&key) else {
            turn.rows.delete(Tree::Meta, key);
            continue;
        };
        let end = keys::expiry(over.plus_secs(1), &RecordId::new([0; 32]));
        let left = (Bound::Unbounded, Bound::Excluded(end.as_slice()));
        if turn.is_full() || !turn.rows.scan(Tree::Expiry, left, 1)?.is_empty() {
            return Ok(());
        }
        let envelopes = row.try_into().map_or(0, u32::from_be_bytes);
        turn.rows.delete(Tree::Meta, key);
        if let Some((Holding { signer: Some(by), .. }, record)) = crate::admit::stored(&turn.rows, &id)?
            && let Body::Tombstone(Tombstone { conversation, target: Target::Standing(up_to, _), .. }) =
                record.body()
        {
            turn.settle();
            erase::finish(turn, by, conversation, id, Named::UpTo(*up_to), envelopes)?;
        }
    }
    Ok(())
}

/// Removes the rows of an order that is dropped.
pub(crate) fn forget(turn: &mut Turn<'_>, id: &RecordId, conversation: &ConversationId, order: Standing) {
    turn.rows.delete(Tree::Tombstones, keys::standing(conversation, id));
    turn.rows.delete(Tree::Meta, keys::attest_at(order.over(), id));
    turn.rows.delete(Tree::Meta, keys::unfinished(id));
}
