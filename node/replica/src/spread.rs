//! Direct delivery: what waits for each trust, and how far each record has come.
//!
//! A record of this node waits in the outbox of each custodian until one of that trust's nodes says that it is on
//! its disk, or that it never will be. The driver sends what waits in batches, as fast as the peer takes them.

use std::ops::Bound;

use lanyard_crypto::limits::RETENTION_SECS_MAX;
use lanyard_crypto::record::Class;
use lanyard_crypto::{ConversationId, Fingerprint, RecordId, Timestamp, TrustId, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};

use crate::erase;
use crate::frame::Refused;
use crate::holding::Holding;
use crate::keys;
use crate::limits::{DEVICES_PER_TICK, LOCAL_MEMBERS_MAX};
use crate::turn::Turn;

/// A row of [`Tree::Ticks`]. Variant order is its format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Progress {
    /// In the trust's outbox, under this number.
    Waiting(u64),
    /// On a disk of the trust, since.
    Confirmed(Timestamp),
    /// Refused for good, with this code.
    Refused(String),
}

/// What is kept of a peer's word for a refusal, in characters; ours have fewer than 32.
const CODE_CHARS_MAX: usize = 64;
/// A row, in bytes: a character takes up to four.
const PROGRESS_BYTES_MAX: usize = 4 * CODE_CHARS_MAX + 16;

pub(crate) fn progress(row: &[u8]) -> Option<Progress> {
    cbor::from_slice(row, PROGRESS_BYTES_MAX).ok()
}

/// Puts a record into a trust's outbox.
pub(crate) fn enqueue(turn: &mut Turn<'_>, id: &RecordId, to: &TrustId) -> Result<(), StorageError> {
    let seq = turn.next_number("outbox")?;
    turn.rows.put(Tree::Outbox, keys::outbox(to, seq), *id.as_bytes());
    turn.rows.put(Tree::Ticks, keys::tick(id, to), cbor::to_vec(&Progress::Waiting(seq)));
    turn.wake(to);
    Ok(())
}

/// A trust's node has answered for records of ours.
pub(crate) fn answered(
    turn: &mut Turn<'_>,
    by: &TrustId,
    stored: &[RecordId],
    refused: &[Refused],
) -> Result<(), StorageError> {
    let confirmed = Progress::Confirmed(turn.now);
    // What a full step leaves is sent again, and answered again.
    for id in stored {
        if turn.is_full() {
            return Ok(());
        }
        settle(turn, id, by, &confirmed)?;
    }
    for Refused { id, code } in refused {
        if turn.is_full() {
            return Ok(());
        }
        let code: String = code.chars().take(CODE_CHARS_MAX).collect();
        settle(turn, id, by, &Progress::Refused(code))?;
    }
    Ok(())
}

fn settle(turn: &mut Turn<'_>, id: &RecordId, by: &TrustId, outcome: &Progress) -> Result<(), StorageError> {
    let key = keys::tick(id, by);
    let Some(Progress::Waiting(seq)) = turn.rows.get(Tree::Ticks, &key)?.as_deref().and_then(progress) else {
        return Ok(());
    };
    turn.rows.delete(Tree::Outbox, keys::outbox(by, seq));
    turn.rows.put(Tree::Ticks, key, cbor::to_vec(outcome));
    retire_submission(turn, id, by)
}

/// Nothing of a record is to be sent any more.
pub(crate) fn forget(turn: &mut Turn<'_>, id: &RecordId) -> Result<(), StorageError> {
    for (key, row) in
        turn.rows.scan_prefix(Tree::Ticks, id.as_bytes(), lanyard_crypto::limits::CHARTER_TRUSTS_MAX)?
    {
        if let (Some(Progress::Waiting(seq)), Some(trust)) = (progress(&row), keys::trust_in(&key[32..])) {
            turn.rows.delete(Tree::Outbox, keys::outbox(&trust, seq));
        }
        turn.rows.delete(Tree::Ticks, key);
    }
    Ok(())
}

/// The devices of this trust that are served a conversation.
pub(crate) fn local_members(
    view: &dyn View,
    conversation: &ConversationId,
) -> Result<Vec<Fingerprint>, StorageError> {
    let rows = view.scan_prefix(Tree::Members, &keys::conversation(conversation), LOCAL_MEMBERS_MAX)?;
    Ok(rows.iter().filter_map(|(key, _)| key.last_chunk::<32>().map(|f| Fingerprint::new(*f))).collect())
}

/// A device of this trust is served a conversation from now on.
pub(crate) fn serve(
    turn: &mut Turn<'_>,
    conversation: &ConversationId,
    device: &Fingerprint,
) -> Result<(), StorageError> {
    turn.readers = None;
    turn.rows.put(Tree::Members, keys::member(conversation, device), []);
    let former = keys::former(conversation, device);
    if let Some(row) = turn.rows.get(Tree::Members, &former)? {
        let until = Timestamp::from_secs(keys::last_u64(&row));
        turn.rows.delete(Tree::Members, keys::former_ends(until, conversation, device));
        turn.rows.delete(Tree::Members, former);
    }
    Ok(())
}

/// A device is served a conversation no more. It has what it has read: until all of that has expired, deletions reach it.
pub(crate) fn serve_no_more(
    turn: &mut Turn<'_>,
    conversation: &ConversationId,
    device: &Fingerprint,
) -> Result<(), StorageError> {
    let member = keys::member(conversation, device);
    if !turn.rows.contains(Tree::Members, &member)? {
        return Ok(());
    }
    turn.readers = None;
    turn.rows.delete(Tree::Members, member);
    let until = turn.now.plus_secs(RETENTION_SECS_MAX);
    turn.rows.put(Tree::Members, keys::former(conversation, device), until.as_secs().to_be_bytes());
    turn.rows.put(Tree::Members, keys::former_ends(until, conversation, device), []);
    Ok(())
}

/// The devices of this trust that are, or were, served a conversation, and may have something of it. Of many tombstones in one step most are of
/// one conversation.
pub(crate) fn local_readers(
    turn: &mut Turn<'_>,
    conversation: &ConversationId,
) -> Result<Vec<Fingerprint>, StorageError> {
    if let Some((of, readers)) = &turn.readers
        && of == conversation
    {
        return Ok(readers.clone());
    }
    let mut readers = local_members(&turn.rows, conversation)?;
    let left = LOCAL_MEMBERS_MAX - readers.len();
    let rows = turn.rows.scan_prefix(Tree::Members, &keys::former_of(conversation), left)?;
    readers.extend(rows.iter().filter_map(|(key, _)| key.last_chunk::<32>().map(|f| Fingerprint::new(*f))));
    turn.readers = Some((conversation.clone(), readers.clone()));
    Ok(readers)
}

/// Whether this device is, or was, served a conversation.
pub(crate) fn is_reader(
    view: &dyn View,
    conversation: &ConversationId,
    device: &Fingerprint,
) -> Result<bool, StorageError> {
    Ok(view.contains(Tree::Members, &keys::member(conversation, device))?
        || view.contains(Tree::Members, &keys::former(conversation, device))?)
}

/// Forgets who was served a conversation so long ago that nothing of it is left.
pub(crate) fn forget_former(turn: &mut Turn<'_>) -> Result<(), StorageError> {
    let end = [&[keys::FORMER_ENDS][..], &turn.now.plus_secs(1).as_secs().to_be_bytes()].concat();
    let range = (Bound::Included(&[keys::FORMER_ENDS][..]), Bound::Excluded(end.as_slice()));
    for (key, _) in turn.rows.scan(Tree::Members, range, DEVICES_PER_TICK)? {
        let former = keys::former_that_ends(&key);
        turn.readers = None;
        turn.rows.delete(Tree::Members, key);
        turn.rows.delete(Tree::Members, former);
    }
    Ok(())
}

/// A submission that the owner trust has answered has done its work; only its outcome is kept, until it expires.
fn retire_submission(turn: &mut Turn<'_>, id: &RecordId, by: &TrustId) -> Result<(), StorageError> {
    let Some(held) = Holding::get(&turn.rows, id)? else { return Ok(()) };
    if held.class == Some(Class::Submission) && held.conversation.as_ref().is_some_and(|c| c.owner() == by) {
        let outcome = turn.rows.scan_prefix(Tree::Ticks, id.as_bytes(), 2)?;
        erase::erase(turn, id, &held)?;
        turn.rows.put(Tree::Expiry, keys::expiry(held.expires, id), [held.kind]);
        for (key, row) in outcome {
            turn.rows.put(Tree::Ticks, key, row);
        }
    }
    Ok(())
}
