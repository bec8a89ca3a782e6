//! Tombstones that came here before the welcome of a device that is to carry them out.
//!
//! A node that has lost its store gets tombstones before welcomes, by the order of layers, and its devices may have what they name. So after a
//! welcome the tombstones since it are gone through once, a few in each step, whoever was welcomed and however many were: each is
//! delivered to those readers of its conversation who do not have to erase by it already.

use std::ops::Bound;

use lanyard_crypto::{RecordId, Timestamp, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::destruction;
use crate::erase;
use crate::holding::{Holding, LAYERS};
use crate::keys;
use crate::limits::LATE_ORDERS_PER_STEP;
use crate::turn::Turn;

/// The layer of anti-entropy that has the tombstones.
const ORDERS: u8 = LAYERS[1];

/// A row of [`Tree::Meta`]. Field order is its format.
#[derive(Serialize, Deserialize)]
struct Pass {
    /// The row of [`Tree::Index`] to go on with.
    from: ByteBuf,
    /// From when another pass begins at the end of this one: it was asked for when this one was beyond.
    again: Option<Timestamp>,
}

const NAME: &[u8] = b"late-orders";

fn begins(since: Timestamp) -> Vec<u8> {
    keys::index(ORDERS, since, &RecordId::new([0; 32]))
}

fn under_way(turn: &Turn<'_>) -> Result<Option<Pass>, StorageError> {
    Ok(turn.rows.get(Tree::Meta, NAME)?.and_then(|row| cbor::from_slice(&row, 1024).ok()))
}

/// Somebody was welcomed who may have what was sent since this moment.
pub(crate) fn since(turn: &mut Turn<'_>, since: Timestamp) -> Result<(), StorageError> {
    let pass = match under_way(turn)? {
        None => Pass { from: ByteBuf::from(begins(since)), again: None },
        Some(pass) if pass.from.as_slice() <= begins(since).as_slice() => pass,
        Some(pass) => Pass { again: Some(pass.again.map_or(since, |again| again.min(since))), ..pass },
    };
    turn.rows.put(Tree::Meta, NAME, cbor::to_vec(&pass));
    turn.more = true;
    Ok(())
}

/// Goes on with the pass that is under way.
pub(crate) fn go_on(turn: &mut Turn<'_>) -> Result<(), StorageError> {
    let Some(Pass { from, again }) = under_way(turn)? else { return Ok(()) };
    let range = (Bound::Included(from.as_slice()), Bound::Excluded(&[ORDERS + 1][..]));
    let rows = turn.rows.scan(Tree::Index, range, LATE_ORDERS_PER_STEP)?;
    let (mut next, mut looked_at) = (None, 0);
    for (key, _) in &rows {
        if turn.is_full() || looked_at >= LATE_ORDERS_PER_STEP {
            next = Some(key.clone());
            break;
        }
        let Some((_, id)) = keys::index_parts(key) else { continue };
        if let Some(Holding { conversation: Some(conversation), .. }) = Holding::get(&turn.rows, &id)? {
            looked_at += erase::deliver_tombstone(turn, &conversation, &id)?;
            destruction::tell_if_due(turn, &id)?;
        }
    }
    let next = match (next, rows.last()) {
        (Some(next), _) => Some((next, again)),
        (None, Some((last, _))) => Some(([last.as_slice(), &[0]].concat(), again)),
        (None, None) => again.map(|since| (begins(since), None)),
    };
    match next {
        Some((from, again)) => {
            turn.rows.put(Tree::Meta, NAME, cbor::to_vec(&Pass { from: ByteBuf::from(from), again }));
            turn.more = true;
        }
        None => turn.rows.delete(Tree::Meta, NAME),
    }
    Ok(())
}
