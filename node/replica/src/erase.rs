//! Erasure (promise P6): tombstones and expiry. What is carried out is attested in [`crate::receipts`].
//!
//! Deleting wins in every order of arrival. A tombstone leaves a row for each of its targets, whether or not the target has
//! arrived; admission looks there. The row goes when the tombstone expires, which is after everything that it names has
//! expired by more than clocks may differ, so that no replica would take such an envelope back.
//!
//! Whether a tombstone has force over an envelope depends on these two alone, never on what came first or on what else
//! the tombstone names: so all replicas end alike (P5). Only when the envelope is here can it be told; a row without force
//! goes then, and so does a tombstone of which no row is left.

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::record::{Body, Class, Kind, Target, Tombstone, Verified};
use lanyard_crypto::{ConversationId, RecordId, Timestamp, TrustId, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::audit::heads;
use crate::destruction;
use crate::digest;
use crate::hold::{self, Named};
use crate::holding::{Holding, node_trust};
use crate::keys;
use crate::limits::{BEHIND_SECS, ERASE_AT_ONCE_MAX, ERASE_ROWS, EXPIRE_PER_STEP_MAX, SCAN_ROWS};
use crate::log;
use crate::mutation::{self, Mutation};
use crate::query::for_each;
use crate::receipts;
use crate::restored;
use crate::spread;
use crate::standing::{self, Standing};
use crate::turn::Turn;
use crate::verdict::Refusal;

/// A row of [`Tree::Tombstones`]: what is ordered, and by whom. Field order is its format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) by: TrustId,
    conversation: ConversationId,
    /// Of a conversation's row: up to when.
    up_to: Option<Timestamp>,
    /// When the tombstone is dropped.
    expires: Timestamp,
}

impl Order {
    pub(crate) fn of(record: &Verified, tombstone: &Tombstone) -> Self {
        let Some(by) = node_trust(record.signer()) else { unreachable!("nodes alone sign tombstones") };
        let up_to = match &tombstone.target {
            Target::Envelopes(_) => None,
            Target::UpTo(up_to) | Target::Standing(up_to, _) => Some(*up_to),
        };
        let conversation = tombstone.conversation.clone();
        Self { by: by.clone(), conversation, up_to, expires: record.header().expires }
    }

    /// Whether it has force over this record, which it names: an application message of its conversation, by the sender's trust
    /// or the owner trust (nobody else may delete), for as long as the message could come back.
    pub(crate) fn judge(&self, held: &Holding) -> Result<(), Refusal> {
        let message =
            held.class == Some(Class::Application) && held.conversation.as_ref() == Some(&self.conversation);
        let named = self.up_to.is_none_or(|up_to| held.issued <= up_to);
        let rightful = held.signer.as_ref() == Some(&self.by) || *self.conversation.owner() == self.by;
        if !message || !named || !(rightful || mutation::is(Mutation::AnyoneMayDelete)) {
            return Err(Refusal::MayNotDelete(self.by.to_string()));
        }
        // For a whole conversation admission has asked for more than any message of it could need.
        let needed = held.stated().plus_secs(2 * CLOCK_SKEW_SECS_MAX);
        let short = self.expires < needed && !mutation::is(Mutation::ShortTombstone);
        if self.up_to.is_none() && short { Err(Refusal::TombstoneTooShort) } else { Ok(()) }
    }
}

/// The tombstone that forbids this record, if there is one.
pub(crate) fn tombstone_for(
    view: &dyn View,
    id: &RecordId,
    held: &Holding,
) -> Result<Option<RecordId>, StorageError> {
    let Some(conversation) = &held.conversation else { return Ok(None) };
    let mut found = None;
    for prefix in [keys::targets_of(id), keys::conversation_targets_of(conversation)] {
        for_each(view, Tree::Tombstones, &prefix, |key, row| {
            if found.is_none() && order(row).judge(held).is_ok() {
                found = tombstone_in(key);
            }
            Ok(())
        })?;
    }
    Ok(found)
}

/// When a message that a device hands in at this moment is issued: later than any deletion of the whole conversation reaches that has just
/// been ordered, perhaps by a node whose clock is ahead; what is written after a deletion is not meant by it.
pub(crate) fn issue_after(
    view: &dyn View,
    conversation: &ConversationId,
    now: Timestamp,
) -> Result<Timestamp, StorageError> {
    let mut issued = now;
    for_each(view, Tree::Tombstones, &keys::conversation_targets_of(conversation), |_, row| {
        let reached = order(row).up_to.filter(|up_to| *up_to < now.plus_secs(CLOCK_SKEW_SECS_MAX));
        issued = issued.max(reached.map_or(now, |up_to| up_to.plus_secs(1)));
        Ok(())
    })?;
    Ok(issued)
}

pub(crate) fn order(row: &[u8]) -> Order {
    cbor::from_slice(row, 1024)
        .expect("an order is written by this module alone, and rows are checked by the store")
}

pub(crate) fn tombstone_in(key: &[u8]) -> Option<RecordId> {
    key.last_chunk::<32>().map(|id| RecordId::new(*id))
}

/// Carries out an admitted tombstone, and notes what is to be attested.
pub(crate) fn carry_out(
    turn: &mut Turn<'_>,
    record: &Verified,
    tombstone: &Tombstone,
) -> Result<(), StorageError> {
    let (id, order) = (record.id(), Order::of(record, tombstone));
    let row = cbor::to_vec(&order);
    // Before it is attested for how many devices it is waited.
    deliver_tombstone(turn, &tombstone.conversation, &id)?;
    match &tombstone.target {
        Target::Envelopes(ids) => {
            let mut targets = Vec::with_capacity(ids.len());
            for target in ids {
                let held = Holding::get(&turn.rows, target)?;
                let forgets = mutation::is(Mutation::ForgetAbsentTarget) && held.is_none();
                let void = forgets || held.as_ref().is_some_and(|held| order.judge(held).is_err());
                if !void {
                    turn.rows.put(Tree::Tombstones, keys::target(target, &id), row.clone());
                }
                targets.push(held);
            }
            erase_named(turn, &id, &order, ids, targets, Unfinished::default())
        }
        Target::UpTo(up_to) => {
            turn.rows.put(Tree::Tombstones, keys::conversation_target(&order.conversation, &id), row);
            erase_up_to(turn, &id, &order, *up_to, Unfinished::default())
        }
        Target::Standing(up_to, secs) => {
            let order = Standing { up_to: *up_to, secs: *secs };
            standing::carry_out(turn, &id, &tombstone.conversation, order)
        }
    }
}

/// Notes that a tombstone is carried out, unless a hold keeps what it names.
pub(crate) fn finish(
    turn: &mut Turn<'_>,
    by: TrustId,
    conversation: &ConversationId,
    tombstone: RecordId,
    named: Named<'_>,
    envelopes: u32,
) -> Result<(), StorageError> {
    if envelopes > 0 {
        log::has_force(turn, &tombstone)?;
    }
    if !hold::keeps(turn, &by, conversation, &tombstone, named, envelopes)? {
        receipts::carried_out(turn, by, tombstone, envelopes)?;
    }
    Ok(())
}

/// What is left to do of a tombstone: a row of [`Tree::Meta`]. Field order is its format.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Unfinished {
    /// How many messages have been erased, or end sooner.
    pub(crate) count: u32,
    /// Of a conversation: the row of [`Tree::Conversations`] up to which nothing can be read any more, or ends later than it may.
    pub(crate) reached: Option<ByteBuf>,
    /// Whether that has been attested, and only rows are left to remove.
    pub(crate) attested: bool,
}

impl Unfinished {
    fn from_row(row: &[u8]) -> Self {
        match row.try_into() {
            // As the first versions wrote it.
            Ok(count) => Self { count: u32::from_be_bytes(count), ..Self::default() },
            Err(_) => cbor::from_slice(row, 1024).unwrap_or_default(),
        }
    }

    pub(crate) fn note(self, turn: &mut Turn<'_>, id: &RecordId) {
        turn.more = true;
        turn.rows.put(Tree::Meta, keys::unfinished(id), cbor::to_vec(&self));
    }
}

/// Erases the messages that a tombstone names, as many as one step takes, as [`erase_up_to`]. `targets` is what is held of each.
fn erase_named(
    turn: &mut Turn<'_>,
    id: &RecordId,
    order: &Order,
    ids: &[RecordId],
    targets: Vec<Option<Holding>>,
    before: Unfinished,
) -> Result<(), StorageError> {
    let mut count = before.count;
    for (target, held) in ids.iter().zip(targets) {
        let Some(held) = held else {
            turn.settle();
            continue;
        };
        if order.judge(&held).is_err() {
            continue;
        }
        if turn.is_full() {
            Unfinished { count, ..before }.note(turn, id);
            return Ok(());
        }
        if !mutation::is(Mutation::AttestWithoutErasing) {
            erase(turn, target, &held)?;
        }
        count += 1;
    }
    finish(turn, order.by.clone(), &order.conversation, *id, Named::Envelopes(ids), count)
}

/// Erases the conversation's messages up to a moment, as many as one step takes. What is left is noted, and not served any more
/// ([`is_withheld`]).
///
/// At first they lose their values, which is what erasing means, and takes little; that is attested. Then follow the rows about them.
fn erase_up_to(
    turn: &mut Turn<'_>,
    id: &RecordId,
    order: &Order,
    up_to: Timestamp,
    mut left: Unfinished,
) -> Result<(), StorageError> {
    // What a hold keeps does not lose its value.
    if !left.attested && turn.hold_on(&order.conversation)?.is_none() {
        let begins =
            left.reached.take().map_or_else(|| keys::conversation(&order.conversation), ByteBuf::into_vec);
        let (mut count, mut reached) = (left.count, begins.clone());
        let whole = each_message(turn, &order.conversation, begins, up_to, |turn, key, target| {
            if turn.rows.contains(Tree::Envelopes, target.as_bytes())? {
                if !mutation::is(Mutation::KeepErasedBytes) {
                    turn.rows.shred(Tree::Envelopes, *target.as_bytes());
                }
                count += 1;
            }
            reached = key.to_vec();
            Ok(())
        })?;
        left = Unfinished { count, reached: Some(ByteBuf::from(reached)), attested: whole };
        if !whole {
            left.note(turn, id);
            return Ok(());
        }
        turn.settle();
        finish(turn, order.by.clone(), &order.conversation, *id, Named::UpTo(up_to), count)?;
        if count > ERASE_AT_ONCE_MAX {
            left.note(turn, id);
            return Ok(());
        }
    }
    let Unfinished { mut count, attested, .. } = left;
    let begins = keys::conversation(&order.conversation);
    let whole = each_message(turn, &order.conversation, begins, up_to, |turn, _, target| {
        let Some(held) = Holding::get(&turn.rows, target)? else { return Ok(()) };
        if !attested && turn.rows.contains(Tree::Envelopes, target.as_bytes())? {
            count += 1;
        }
        erase(turn, target, &held)
    })?;
    if !whole {
        Unfinished { count, reached: None, attested }.note(turn, id);
        return Ok(());
    }
    if attested {
        return Ok(());
    }
    turn.settle();
    finish(turn, order.by.clone(), &order.conversation, *id, Named::UpTo(up_to), count)
}

/// Calls `each` with the row and the id of every message of a conversation that was issued up to a moment, after the row `from`, until the
/// turn is full. Tells whether it came to the end.
pub(crate) fn each_message<'a>(
    turn: &mut Turn<'a>,
    conversation: &ConversationId,
    mut from: Vec<u8>,
    up_to: Timestamp,
    mut each: impl FnMut(&mut Turn<'a>, &[u8], &RecordId) -> Result<(), StorageError>,
) -> Result<bool, StorageError> {
    use std::ops::Bound;
    let end = keys::conversation_row(conversation, up_to.plus_secs(1), &RecordId::new([0; 32]));
    loop {
        let range = (Bound::Excluded(from.as_slice()), Bound::Excluded(end.as_slice()));
        let rows = turn.rows.scan(Tree::Conversations, range, ERASE_ROWS)?;
        let Some((last, _)) = rows.last() else { return Ok(true) };
        from = last.clone();
        for (key, class) in rows {
            if turn.is_full() {
                return Ok(false);
            }
            if class == [Class::Application as u8]
                && let Some(target) = tombstone_in(&key)
            {
                each(turn, &key, &target)?;
            }
        }
    }
}

/// Goes on with what earlier steps have left of tombstones: those that are to be attested, or the rows of those that are. Tells whether
/// it found any.
pub(crate) fn go_on(turn: &mut Turn<'_>, attested: bool) -> Result<bool, StorageError> {
    let mut found = false;
    for (key, row) in turn.rows.scan_prefix(Tree::Meta, keys::UNFINISHED, SCAN_ROWS)? {
        let left = Unfinished::from_row(&row);
        let Some(id) = tombstone_in(&key).filter(|_| left.attested == attested) else { continue };
        found = true;
        // Noted again if more is left.
        turn.rows.delete(Tree::Meta, key);
        let Some((Holding { signer: Some(by), .. }, record)) = crate::admit::stored(&turn.rows, &id)? else {
            continue;
        };
        let Body::Tombstone(Tombstone { conversation, target, .. }) = record.body() else { continue };
        let (conversation, expires) = (conversation.clone(), record.header().expires);
        match target {
            Target::UpTo(up_to) => {
                let order = Order { by, conversation, up_to: Some(*up_to), expires };
                erase_up_to(turn, &id, &order, *up_to, left)?;
            }
            Target::Envelopes(ids) => {
                let targets: Result<_, _> = ids.iter().map(|id| Holding::get(&turn.rows, id)).collect();
                let order = Order { by, conversation, up_to: None, expires };
                erase_named(turn, &id, &order, ids, targets?, left)?;
            }
            Target::Standing(up_to, secs) => {
                let order = Standing { up_to: *up_to, secs: *secs };
                standing::apply(turn, &id, &conversation, order, left)?;
            }
        }
    }
    Ok(found)
}

/// Whether a record that is still here waits for its erasure by a later step, and so is not served.
pub(crate) fn is_withheld(
    view: &dyn View,
    id: &RecordId,
    held: &Holding,
    now: Timestamp,
) -> Result<bool, StorageError> {
    if restored::withholds(view, held)? {
        return Ok(true);
    }
    let waits = held.class == Some(Class::Application)
        && !mutation::is(Mutation::ServeUnfinished)
        && !view.scan_prefix(Tree::Meta, keys::UNFINISHED, 1)?.is_empty();
    Ok(waits && (tombstone_for(view, id, held)?.is_some() || standing::has_ended(view, held, now)?))
}

/// Whether a record is still here that is to be dropped or erased, and so is not passed on.
pub(crate) fn is_over(view: &dyn View, id: &RecordId, now: Timestamp) -> Result<bool, StorageError> {
    let Some(held) = Holding::get(view, id)? else { return Ok(false) };
    Ok(held.expires <= now || is_withheld(view, id, &held, now)?)
}

/// Clients erase their plaintext when they see the tombstone: it is delivered to those of this trust to whom it was not. Returns how many
/// devices may have something of the conversation.
pub(crate) fn deliver_tombstone(
    turn: &mut Turn<'_>,
    conversation: &ConversationId,
    id: &RecordId,
) -> Result<usize, StorageError> {
    let readers = spread::local_readers(turn, conversation)?;
    for device in &readers {
        if destruction::is_due(turn, id, device)? {
            turn.deliver(device, id)?;
        }
    }
    Ok(readers.len())
}

/// Removes a record and every row about it, and puts it away if a hold keeps it. The store makes sealed values unreadable with the
/// commit.
pub(crate) fn erase(turn: &mut Turn<'_>, id: &RecordId, held: &Holding) -> Result<(), StorageError> {
    if mutation::is(Mutation::ServeHeld) && hold::would_keep(turn, held)? {
        return Ok(());
    }
    hold::put_away(turn, id, held)?;
    spread::forget(turn, id)?;
    digest::leave(turn, id, held)?;
    let rows = &mut turn.rows;
    if !mutation::is(Mutation::KeepErasedBytes) {
        rows.delete(held.tree(), *id.as_bytes());
    }
    rows.delete(Tree::Holdings, *id.as_bytes());
    rows.delete(Tree::Expiry, keys::expiry(held.expires, id));
    if let Some(handed_in) = rows.get(Tree::Submitted, id.as_bytes())? {
        rows.delete(Tree::Submitted, handed_in);
        rows.delete(Tree::Submitted, *id.as_bytes());
    }
    if let (true, Some(conversation)) = (held.kind == Kind::Envelope as u8, &held.conversation) {
        rows.delete(Tree::Conversations, keys::conversation_row(conversation, held.issued, id));
        let proposal = keys::proposal(conversation, id);
        if held.class == Some(Class::Commit) && rows.contains(Tree::Meta, &proposal)? {
            rows.delete(Tree::Meta, proposal);
        }
    }
    Ok(())
}

/// The name under which [`Tree::Meta`] notes up to when records have been dropped.
const EXPIRED_UNTIL: &str = "expired-until";

/// The time of a step: the clock's, but after the clock was set back it stands still at the moment up to which records have been dropped, so
/// that what has expired stays away. A clock that goes back by more than clocks may differ was wrong before, and is followed.
pub(crate) fn time(view: &dyn View, clock: Timestamp) -> Result<Timestamp, StorageError> {
    let until = expired_until(view)?;
    Ok(if until <= clock.plus_secs(2 * CLOCK_SKEW_SECS_MAX) { until.max(clock) } else { clock })
}

/// The moment up to which records have been dropped: no clock that was believed here was behind it.
pub(crate) fn expired_until(view: &dyn View) -> Result<Timestamp, StorageError> {
    let row = view.get(Tree::Meta, EXPIRED_UNTIL.as_bytes())?;
    Ok(Timestamp::from_secs(row.map_or(0, |row| keys::last_u64(&row))))
}

/// Whether more is left to erase than a tick takes: it stands in the digests, and would be asked for in vain.
pub(crate) fn is_behind(view: &dyn View, now: Timestamp) -> Result<bool, StorageError> {
    use std::ops::Bound;
    let end = keys::expiry(now.minus_secs(BEHIND_SECS), &RecordId::new([0; 32]));
    let range = (Bound::Unbounded, Bound::Excluded(end.as_slice()));
    Ok(!view.scan(Tree::Expiry, range, 1)?.is_empty()
        || !view.scan_prefix(Tree::Meta, keys::UNFINISHED, 1)?.is_empty())
}

/// Drops what has expired, as much as there is room for in the turn.
pub(crate) fn expire(turn: &mut Turn<'_>) -> Result<(), StorageError> {
    use std::ops::Bound;
    if mutation::is(Mutation::NeverExpire) {
        return Ok(());
    }
    if mutation::is(Mutation::PruneTombstoneByAge) {
        prune_by_age(turn)?;
    }
    let end = keys::expiry(turn.now.plus_secs(1), &RecordId::new([0; 32]));
    let range = (Bound::Unbounded, Bound::Excluded(end.as_slice()));
    let expired = turn.rows.scan(Tree::Expiry, range, EXPIRE_PER_STEP_MAX)?;
    if !expired.is_empty() {
        turn.rows.put(Tree::Meta, EXPIRED_UNTIL, turn.now.as_secs().to_be_bytes());
    }
    turn.more |= expired.len() == EXPIRE_PER_STEP_MAX;
    for (key, _) in expired {
        if turn.is_full() {
            return Ok(());
        }
        let held = tombstone_in(&key).map(|id| Ok((id, Holding::get(&turn.rows, &id)?))).transpose()?;
        let Some((id, Some(held))) = held else {
            // Of a submission that was answered the outcome is left.
            if let Some((id, None)) = held {
                spread::forget(turn, &id)?;
            }
            turn.rows.delete(Tree::Expiry, key);
            continue;
        };
        if is_in_force(turn, &id, &held)? {
            turn.rows.delete(Tree::Expiry, key);
            digest::leave(turn, &id, &held)?;
            continue;
        }
        drop_record(turn, &id, &held)?;
    }
    Ok(())
}

/// [`Mutation::PruneTombstoneByAge`].
fn prune_by_age(turn: &mut Turn<'_>) -> Result<(), StorageError> {
    for (key, row) in turn.rows.scan_prefix(Tree::Expiry, &[], SCAN_ROWS)? {
        let held = tombstone_in(&key).map(|id| Ok((id, Holding::get(&turn.rows, &id)?))).transpose()?;
        if row == [Kind::Tombstone as u8]
            && let Some((id, Some(held))) = held
            && held.issued.plus_secs(60) < turn.now
        {
            drop_record(turn, &id, &held)?;
        }
    }
    Ok(())
}

/// Removes a record with what followed from it.
pub(crate) fn drop_record(turn: &mut Turn<'_>, id: &RecordId, held: &Holding) -> Result<(), StorageError> {
    if held.kind == Kind::Tombstone as u8 {
        forget_tombstone(turn, id)?;
    }
    if held.kind == Kind::Receipt as u8 {
        receipts::forget(turn, id)?;
    }
    if held.kind == Kind::Head as u8 {
        heads::forget(turn, id)?;
    }
    erase(turn, id, held)
}

/// What stays in force here until a newer one replaces it, though it is not spread any more: the charter, so that the reason can
/// be shown when it has expired, and the newest revocation list of each issuer, since what was revoked stays revoked.
fn is_in_force(turn: &Turn<'_>, id: &RecordId, held: &Holding) -> Result<bool, StorageError> {
    if held.kind == Kind::Charter as u8 {
        return Ok(turn.rows.get(Tree::Meta, b"charter")?.as_deref() == Some(id.as_bytes()));
    }
    if held.kind != Kind::Crl as u8 {
        return Ok(false);
    }
    let Some((_, record)) = crate::admit::stored(&turn.rows, id)? else { return Ok(false) };
    let Body::Crl(crl) = record.body() else { return Ok(false) };
    let issuer = lanyard_crypto::Fingerprint::of(&crl.issuer);
    Ok(turn.rows.get(Tree::Revocations, issuer.as_bytes())?.as_deref() == Some(id.as_bytes()))
}

fn forget_tombstone(turn: &mut Turn<'_>, id: &RecordId) -> Result<(), StorageError> {
    log::tombstone_goes(turn, id)?;
    let Some((_, record)) = crate::admit::stored(&turn.rows, id)? else { return Ok(()) };
    let Body::Tombstone(tombstone) = record.body() else { return Ok(()) };
    match &tombstone.target {
        Target::Envelopes(ids) => {
            ids.iter().for_each(|t| turn.rows.delete(Tree::Tombstones, keys::target(t, id)))
        }
        Target::UpTo(_) => {
            turn.rows.delete(Tree::Tombstones, keys::conversation_target(&tombstone.conversation, id));
        }
        Target::Standing(up_to, secs) => {
            let order = Standing { up_to: *up_to, secs: *secs };
            standing::forget(turn, id, &tombstone.conversation, order);
        }
    }
    Ok(())
}
