//! Holds: the trust's records officer keeps what a conversation would lose, on this replica alone.
//!
//! While a hold lasts, what a tombstone or its expiry would erase leaves every path all the same: the inbox, the outbox,
//! anti-entropy, the operator's view. Its bytes move to a tree of their own, sealed anew under a fresh key, and the key of before
//! is destroyed; all other rows about it go as in an erasure, so that nothing which serves or delivers could find it. When the hold
//! ends, they are erased, and only then are the tombstones attested that had named them. Until then the replica says that it holds.
//!
//! A hold is no record: no other trust hears of it but by what the tally says, and none can place one here.

use std::collections::BTreeMap;

use lanyard_crypto::limits::{HOLD_REFERENCE_BYTES_MAX, LIFE_SECS_MAX};
use lanyard_crypto::record::{Class, Held, Kind, ReceiptItem};
use lanyard_crypto::{ConversationId, RecordId, Timestamp, TrustId, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};

use crate::audit::AuditEntry;
use crate::erase::tombstone_in;
use crate::holding::Holding;
use crate::input::Reply;
use crate::keys;
use crate::limits::{HOLD_REASON_BYTES_MAX, HOLDS_MAX, SCAN_ROWS};
use crate::mutation::{self, Mutation};
use crate::query::for_each;
use crate::receipts;
use crate::turn::Turn;
use crate::verdict::Refusal;

/// A row of [`Tree::Holds`] about a conversation. Field order is its format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub(crate) reference: String,
    reason: String,
    placed: Timestamp,
    pub(crate) until: Timestamp,
    /// Under which reference it was ended, before its time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    ended: Option<String>,
}

impl Hold {
    fn lasts(&self, now: Timestamp) -> bool {
        self.ended.is_none() && self.until > now
    }
}

/// A row of [`Tree::Holds`] about a tombstone that waits for the end of a hold. Field order is its format.
#[derive(Debug, Serialize, Deserialize)]
struct Waiting {
    by: TrustId,
    envelopes: u32,
}

/// A hold, as the operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    /// On which conversation.
    pub conversation: ConversationId,
    /// Under which reference.
    pub reference: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub placed: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Whether it has ended, and is being carried out.
    pub ending: bool,
    /// Envelopes that it keeps.
    pub envelopes: u64,
    /// Tombstones that wait for its end.
    pub tombstones: u64,
}

/// What a tombstone names, for finding it among what is kept.
#[derive(Clone, Copy)]
pub(crate) enum Named<'a> {
    Envelopes(&'a [RecordId]),
    UpTo(Timestamp),
}

/// The holds that last, by conversation.
pub(crate) fn lasting(
    view: &dyn View,
    now: Timestamp,
) -> Result<BTreeMap<ConversationId, Hold>, StorageError> {
    let rows = view.scan_prefix(Tree::Holds, &[keys::HOLD], HOLDS_MAX)?;
    let holds = rows.iter().filter_map(|(key, row)| Some((keys::conversation_in(&key[1..])?.0, hold(row))));
    Ok(holds.filter(|(_, hold)| hold.lasts(now)).collect())
}

fn hold(row: &[u8]) -> Hold {
    cbor::from_slice(row, 1024)
        .expect("a hold is written by this module alone, and rows are checked by the store")
}

/// Every hold, and what it keeps. Reads all of it: for the operator.
pub fn holds(view: &dyn View) -> Result<Vec<HoldView>, StorageError> {
    let mut holds = Vec::new();
    for (key, row) in view.scan_prefix(Tree::Holds, &[keys::HOLD], HOLDS_MAX)? {
        let Some((conversation, _)) = keys::conversation_in(&key[1..]) else { continue };
        let count = |prefix: Vec<u8>| {
            let mut count = 0;
            for_each(view, Tree::Holds, &prefix, |_, _| {
                count += 1;
                Ok(())
            })?;
            Ok::<u64, StorageError>(count)
        };
        let Hold { reference, reason, placed, until, ended } = hold(&row);
        holds.push(HoldView {
            envelopes: count(keys::held_of(&conversation))?,
            tombstones: count(keys::waiting_of(&conversation))?,
            ending: ended.is_some(),
            conversation,
            reference,
            reason,
            placed,
            until,
        });
    }
    Ok(holds)
}

/// Places a hold, or lets one end later, under another reference and for another reason.
pub(crate) fn place(
    turn: &mut Turn<'_>,
    conversation: ConversationId,
    reference: String,
    reason: String,
    until: Timestamp,
) -> Result<Result<Reply, Refusal>, StorageError> {
    let refuse = |why: &str| Ok(Err(Refusal::Hold(why.into())));
    if reference.is_empty() || reference.len() > HOLD_REFERENCE_BYTES_MAX {
        return refuse("a reference of 1 to 64 bytes is needed");
    }
    if reason.is_empty() || reason.len() > HOLD_REASON_BYTES_MAX {
        return refuse("a reason of 1 to 256 bytes is needed");
    }
    if until <= turn.now || until > turn.now.plus_secs(LIFE_SECS_MAX) {
        return refuse("it has to end in the future, and within ten years");
    }
    if turn.rows.scan_prefix(Tree::Conversations, &keys::conversation(&conversation), 1)?.is_empty()
        && turn.rows.scan_prefix(Tree::Members, &keys::conversation(&conversation), 1)?.is_empty()
    {
        return Ok(Err(Refusal::NotFound(format!("conversation {conversation}"))));
    }
    let key = keys::hold(&conversation);
    let before = turn.rows.get(Tree::Holds, &key)?.map(|row| hold(&row));
    match &before {
        Some(before) if !before.lasts(turn.now) => {
            return refuse("an earlier hold on this conversation is just ending: try again in a few seconds");
        }
        Some(before) if until < before.until => {
            return refuse("a hold on this conversation lasts longer than that: end that one first");
        }
        None if turn.rows.scan_prefix(Tree::Holds, &[keys::HOLD], HOLDS_MAX)?.len() == HOLDS_MAX => {
            return refuse("there are as many holds as this node takes: end one first");
        }
        _ => {}
    }
    let placed = before.as_ref().map_or(turn.now, |before| before.placed);
    let made = Hold { reference: reference.clone(), reason: reason.clone(), placed, until, ended: None };
    turn.rows.put(Tree::Holds, key, cbor::to_vec(&made));
    turn.holds = None;
    // Those who had asked for what is kept hear of the later end.
    for (key, row) in turn.rows.scan_prefix(Tree::Holds, &keys::waiting_of(&conversation), SCAN_ROWS)? {
        if let (Some(tombstone), Some(Waiting { by, .. })) = (tombstone_in(&key), waiting(&row)) {
            turn.on_hold(by, tombstone, &made);
        }
    }
    let detail =
        format!("conversation {conversation} until {}, reference {reference}: {reason}", until.as_secs());
    turn.audit(AuditEntry::new("hold-placed", "", detail))?;
    Ok(Ok(Reply::Done))
}

/// Ends a hold before its time.
pub(crate) fn end(
    turn: &mut Turn<'_>,
    conversation: &ConversationId,
    reference: String,
) -> Result<Result<Reply, Refusal>, StorageError> {
    if reference.is_empty() || reference.len() > HOLD_REFERENCE_BYTES_MAX {
        return Ok(Err(Refusal::Hold("a reference of 1 to 64 bytes is needed".into())));
    }
    let key = keys::hold(conversation);
    let Some(row) = turn.rows.get(Tree::Holds, &key)? else {
        return Ok(Err(Refusal::NotFound(format!("a hold on conversation {conversation}"))));
    };
    let detail = format!("conversation {conversation}, reference {reference}");
    let ended = Hold { ended: Some(reference), ..hold(&row) };
    turn.rows.put(Tree::Holds, key, cbor::to_vec(&ended));
    turn.holds = None;
    turn.audit(AuditEntry::new("hold-ended-early", "", detail))?;
    go_on(turn)?;
    Ok(Ok(Reply::Done))
}

/// Whether a hold lasts on the conversation of an envelope. Submissions are not kept: their commits are.
pub(crate) fn would_keep(turn: &mut Turn<'_>, held: &Holding) -> Result<bool, StorageError> {
    match &held.conversation {
        Some(conversation) if held.kind == Kind::Envelope as u8 && held.class != Some(Class::Submission) => {
            Ok(turn.hold_on(conversation)?.is_some())
        }
        _ => Ok(false),
    }
}

/// If a hold lasts on its conversation, moves an envelope that is about to be erased to where nothing serves it.
pub(crate) fn put_away(turn: &mut Turn<'_>, id: &RecordId, held: &Holding) -> Result<(), StorageError> {
    let (true, Some(conversation)) = (would_keep(turn, held)?, &held.conversation) else { return Ok(()) };
    if let Some(bytes) = turn.rows.get(held.tree(), id.as_bytes())? {
        turn.rows.put(Tree::Held, *id.as_bytes(), bytes);
        turn.rows.put(Tree::Holds, keys::held(conversation, id), held.to_row());
    }
    Ok(())
}

/// Whether a tombstone that has been carried out names anything that a hold keeps. Then it waits for the end of the hold, and
/// who ordered it is told until when.
pub(crate) fn keeps(
    turn: &mut Turn<'_>,
    by: &TrustId,
    conversation: &ConversationId,
    tombstone: &RecordId,
    named: Named<'_>,
    envelopes: u32,
) -> Result<bool, StorageError> {
    // One that has ended may still be at erasing what it kept.
    let Some(row) = turn.rows.get(Tree::Holds, &keys::hold(conversation))? else { return Ok(false) };
    if mutation::is(Mutation::AttestHeld) || !names_any(turn, conversation, named)? {
        return Ok(false);
    }
    let waiting = cbor::to_vec(&Waiting { by: by.clone(), envelopes });
    turn.rows.put(Tree::Holds, keys::waiting(conversation, tombstone), waiting);
    let hold = hold(&row);
    if hold.lasts(turn.now) {
        turn.on_hold(by.clone(), *tombstone, &hold);
    }
    Ok(true)
}

fn names_any(turn: &Turn<'_>, conversation: &ConversationId, named: Named<'_>) -> Result<bool, StorageError> {
    match named {
        Named::Envelopes(ids) => {
            for id in ids {
                if turn.rows.contains(Tree::Holds, &keys::held(conversation, id))? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Named::UpTo(up_to) => {
            let mut any = false;
            for_each(&turn.rows, Tree::Holds, &keys::held_of(conversation), |_, row| {
                any |= Holding::of_row(row)
                    .is_some_and(|held| held.class == Some(Class::Application) && held.issued <= up_to);
                Ok(())
            })?;
            Ok(any)
        }
    }
}

/// Carries out the holds that have ended, as much as one step takes: first what they keep is erased, then the tombstones are attested
/// that have named it. Tells whether there was any.
pub(crate) fn go_on(turn: &mut Turn<'_>) -> Result<bool, StorageError> {
    let mut any = false;
    for (key, row) in turn.rows.scan_prefix(Tree::Holds, &[keys::HOLD], HOLDS_MAX)? {
        let made = hold(&row);
        if made.lasts(turn.now) || mutation::is(Mutation::NeverEndHold) {
            continue;
        }
        any = true;
        let Some((conversation, _)) = keys::conversation_in(&key[1..]) else { continue };
        loop {
            let kept = turn.rows.scan_prefix(Tree::Holds, &keys::held_of(&conversation), SCAN_ROWS)?;
            if kept.is_empty() {
                break;
            }
            for (key, _) in kept {
                if turn.is_full() {
                    turn.more = true;
                    return Ok(true);
                }
                if let Some(id) = tombstone_in(&key) {
                    turn.rows.delete(Tree::Held, *id.as_bytes());
                }
                turn.rows.delete(Tree::Holds, key);
            }
        }
        for (key, row) in turn.rows.scan_prefix(Tree::Holds, &keys::waiting_of(&conversation), SCAN_ROWS)? {
            if turn.is_full() {
                turn.more = true;
                return Ok(true);
            }
            if let (Some(tombstone), Some(Waiting { by, envelopes })) = (tombstone_in(&key), waiting(&row)) {
                turn.settle();
                receipts::carried_out(turn, by, tombstone, envelopes)?;
            }
            turn.rows.delete(Tree::Holds, key);
        }
        if turn.rows.scan_prefix(Tree::Holds, &keys::waiting_of(&conversation), 1)?.is_empty() {
            turn.rows.delete(Tree::Holds, key);
            let detail =
                format!("conversation {conversation}, reference {}: what it kept is erased", made.reference);
            turn.audit(AuditEntry::new("hold-ended", "", detail))?;
        }
    }
    Ok(any)
}

fn waiting(row: &[u8]) -> Option<Waiting> {
    cbor::from_slice(row, 64).ok()
}

impl Turn<'_> {
    /// The hold that lasts on a conversation.
    pub(crate) fn hold_on(&mut self, conversation: &ConversationId) -> Result<Option<Hold>, StorageError> {
        let holds = match self.holds.take() {
            Some(holds) => holds,
            None => lasting(&self.rows, self.now)?,
        };
        let hold = holds.get(conversation).cloned();
        self.holds = Some(holds);
        Ok(hold)
    }

    fn on_hold(&mut self, by: TrustId, tombstone: RecordId, hold: &Hold) {
        let (until, reference) = (hold.until, hold.reference.clone().into_bytes());
        let item = ReceiptItem::Held(Held { tombstone, until, reference });
        self.erased.entry(by).or_default().push(item);
    }
}
