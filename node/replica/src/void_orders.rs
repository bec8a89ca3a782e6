//! Tombstones without force: those that name a message which somebody else may delete, and this signer may not. They are kept until the
//! message is here, since only then can it be told.

use lanyard_crypto::record::{Body, Target, Tombstone};
use lanyard_crypto::{RecordId, TrustId};
use lanyard_storage::{StorageError, Tree, View};

use crate::audit::AuditEntry;
use crate::audit::repeats::Repeated;
use crate::erase::{erase, order, tombstone_for, tombstone_in};
use crate::holding::Holding;
use crate::keys;
use crate::limits::{ORDERS_PER_TARGET_MAX, SCAN_ROWS};
use crate::log;
use crate::query::for_each;
use crate::turn::Turn;
use crate::verdict::Refusal;

/// Whether this trust has as many orders for one of these records as are kept.
pub(crate) fn are_too_many(view: &dyn View, by: &TrustId, ids: &[RecordId]) -> Result<bool, StorageError> {
    for id in ids {
        let mut count = 0;
        for_each(view, Tree::Tombstones, &keys::targets_of(id), |_, row| {
            count += usize::from(order(row).by == *by);
            Ok(())
        })?;
        if count >= ORDERS_PER_TARGET_MAX {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Now that a message is here, and is not deleted, the rows that name it have no force over it. Some of them go; what is left is
/// noted, for [`drop_left_orders`]: such a row changes nothing.
pub(crate) fn drop_void_orders(turn: &mut Turn<'_>, id: &RecordId) -> Result<(), StorageError> {
    let rows = turn.rows.scan_prefix(Tree::Tombstones, &keys::targets_of(id), ORDERS_PER_TARGET_MAX + 1)?;
    for (at, (key, row)) in rows.into_iter().enumerate() {
        if at == ORDERS_PER_TARGET_MAX || turn.is_full() {
            turn.more = true;
            turn.rows.put(Tree::Meta, keys::void_orders(id), []);
            return Ok(());
        }
        if let Some(tombstone) = tombstone_in(&key) {
            drop_void_order(turn, id, &tombstone, order(&row).by)?;
        }
    }
    Ok(())
}

/// Goes on with what [`drop_void_orders`] has left.
pub(crate) fn drop_left_orders(turn: &mut Turn<'_>) -> Result<(), StorageError> {
    for (key, _) in turn.rows.scan_prefix(Tree::Meta, keys::VOID_ORDERS, SCAN_ROWS)? {
        if turn.is_full() {
            return Ok(());
        }
        // Noted again if more is left.
        turn.rows.delete(Tree::Meta, key.clone());
        let Some(id) = tombstone_in(&key) else { continue };
        // An order that has force may have come meanwhile: then the others stay as those that come after it.
        if let Some(held) = Holding::get(&turn.rows, &id)?
            && tombstone_for(&turn.rows, &id, &held)?.is_none()
        {
            drop_void_orders(turn, &id)?;
        }
    }
    Ok(())
}

/// Removes a row, and its tombstone if that was the last one.
fn drop_void_order(
    turn: &mut Turn<'_>,
    id: &RecordId,
    tombstone: &RecordId,
    by: TrustId,
) -> Result<(), StorageError> {
    turn.rows.delete(Tree::Tombstones, keys::target(id, tombstone));
    let Some((held, record)) = crate::admit::stored(&turn.rows, tombstone)? else { return Ok(()) };
    let Body::Tombstone(Tombstone { target: Target::Envelopes(ids), .. }) = record.body() else {
        return Ok(());
    };
    for target in ids {
        if turn.rows.contains(Tree::Tombstones, &keys::target(target, tombstone))? {
            return Ok(());
        }
    }
    let why = Refusal::MayNotDelete(by.to_string());
    let entry = AuditEntry::new("refused", why.ruling().code, why.to_string()).record(*tombstone);
    turn.repeated.push((Some(by.clone()), Repeated::Refusal, entry.trust(by)));
    log::forget(turn, tombstone)?;
    erase(turn, tombstone, &held)
}
