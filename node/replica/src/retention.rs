//! How long messages of this trust's conversations live: the shortest of what the charter allows, of this trust's own default for
//! the class, and of the conversation's setting.
//!
//! Who founds or changes a conversation is held to the first two by the hub. What lives longer all the same, since one of them
//! became shorter or a member's client does not keep to them, is found by looking through the conversations bit by bit, and ends by
//! a standing order, at most one an hour for each conversation.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use lanyard_crypto::charter::TrustRetention;
use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::mls::{Class, Policy};
use lanyard_crypto::record::{Class as Message, Reason, Target};
use lanyard_crypto::{ConversationId, RecordId, Timestamp, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};

use crate::Replica;
use crate::audit::AuditEntry;
use crate::holding::Holding;
use crate::input::{Deleter, Reply};
use crate::keys;
use crate::limits::{RETENTION_ROWS_PER_TICK, STANDING_EVERY_SECS};
use crate::standing;
use crate::turn::Turn;
use crate::verdict::Refusal;

/// The reference of the orders that follow from the policy alone.
const REFERENCE: &[u8] = b"retention";

/// How far the conversations have been looked through. Begins anew with the replica, as when the charter changes.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// The row of [`Tree::Conversations`] after which to go on.
    at: Vec<u8>,
    /// Conversations that are looked at before that goes on.
    soon: BTreeSet<ConversationId>,
    /// When an order was refused last, of conversations for which that is less than [`STANDING_EVERY_SECS`] ago.
    refused: BTreeMap<ConversationId, Timestamp>,
}

impl Walk {
    /// Everything is looked at again.
    pub(crate) fn begin(&mut self) {
        self.at.clear();
    }
}

/// A note in [`Tree::Meta`]: what the hub knows of a conversation of this trust. Field order is its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Setting {
    /// Its place among the classes.
    class: u8,
    retention_secs: Option<u64>,
}

impl Setting {
    fn of(policy: &Policy) -> Self {
        let place = Class::ALL.into_iter().position(|class| class == policy.class());
        Self { class: place.map_or(0, |place| place as u8), retention_secs: policy.retention_secs() }
    }
}

impl Replica {
    /// Sets how long this trust keeps messages of its own conversations. To be said whenever the replica is opened; until then,
    /// the charter's word holds alone.
    pub fn set_retention(&mut self, retention: TrustRetention) {
        self.retention = retention;
        self.walk.begin();
    }

    /// Holds a founding, or a change, to what this trust and the charter allow, and notes what the conversation says now.
    pub(crate) fn follow_policy(
        &mut self,
        turn: &mut Turn<'_>,
        conversation: &ConversationId,
        before: Option<&Policy>,
        after: &Policy,
    ) -> Result<(), Refusal> {
        let policy = &self.network.charter().policy;
        let secs = |of: &Policy| policy.effective_secs(&self.retention, of.class(), of.retention_secs());
        let allowed = policy.effective_secs(&self.retention, after.class(), None);
        let changed = before.is_none_or(|before| before.retention_secs() != after.retention_secs());
        if let Some(asked) = after.retention_secs().filter(|asked| changed && *asked > allowed) {
            let class = after.class().name();
            return Err(Refusal::Change(format!(
                "{} keeps messages of {class} conversations for at most {allowed} seconds, and this says {asked}",
                self.own.trust
            )));
        }
        if before.is_some_and(|before| secs(after) < secs(before)) {
            self.walk.soon.insert(conversation.clone());
        }
        turn.rows.put(Tree::Meta, keys::setting(conversation), cbor::to_vec(&Setting::of(after)));
        Ok(())
    }

    /// How long messages of a conversation of this trust live at most, in seconds.
    fn effective_secs(
        &self,
        turn: &mut Turn<'_>,
        conversation: &ConversationId,
    ) -> Result<u64, StorageError> {
        let key = keys::setting(conversation);
        let noted = turn.rows.get(Tree::Meta, &key)?.and_then(|row| cbor::from_slice(&row, 64).ok());
        let setting = match noted {
            Some(setting) => Some(setting),
            // An earlier version has ordered its commits so far.
            None => {
                let setting = self.hub_group(turn, conversation)?.map(|group| Setting::of(group.policy()));
                if let Some(setting) = setting {
                    turn.rows.put(Tree::Meta, key, cbor::to_vec(&setting));
                }
                setting
            }
        };
        let policy = &self.network.charter().policy;
        Ok(match setting {
            Some(Setting { class, retention_secs }) => {
                let class = Class::ALL.get(usize::from(class)).copied().unwrap_or(Class::Clinical);
                policy.effective_secs(&self.retention, class, retention_secs)
            }
            None => policy.retention_secs_max.min(self.retention.secs_max.unwrap_or(u64::MAX)),
        })
    }

    /// Looks through a few messages, and orders the end of what lives too long.
    pub(crate) fn keep_retention(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        let mut left = RETENTION_ROWS_PER_TICK;
        while let Some(conversation) = self.walk.soon.pop_first() {
            if left == 0 {
                self.walk.soon.insert(conversation);
                return Ok(());
            }
            let from = keys::conversation(&conversation);
            let at = self.look_through(turn, from, &mut left, Some(&conversation))?;
            if !at.is_empty() {
                self.walk.at = at;
                return Ok(());
            }
        }
        let from = std::mem::take(&mut self.walk.at);
        self.walk.at = self.look_through(turn, from, &mut left, None)?;
        Ok(())
    }

    /// Looks at up to `left` rows after `from`; with `only`, at those of one conversation. Returns where to go on: nowhere is the
    /// beginning.
    fn look_through(
        &mut self,
        turn: &mut Turn<'_>,
        mut from: Vec<u8>,
        left: &mut usize,
        only: Option<&ConversationId>,
    ) -> Result<Vec<u8>, StorageError> {
        let mut known: Option<(ConversationId, u64)> = None;
        'seek: while *left > 0 && !turn.is_full() {
            let range = (Bound::Excluded(from.as_slice()), Bound::Unbounded);
            let rows = turn.rows.scan(Tree::Conversations, range, *left)?;
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            for (key, class) in rows {
                *left -= 1;
                let Some((conversation, len)) = keys::conversation_in(&key) else {
                    from = key;
                    continue;
                };
                if only.is_some_and(|only| *only != conversation) {
                    return Ok(Vec::new());
                }
                // After all rows of this conversation.
                let next = [&key[..len], &[0xff; 41]].concat();
                if *conversation.owner() != self.own.trust {
                    from = next;
                    continue 'seek;
                }
                let secs = match &known {
                    Some((of, secs)) if *of == conversation => *secs,
                    _ => {
                        let secs = self.effective_secs(turn, &conversation)?;
                        known = Some((conversation.clone(), secs));
                        secs
                    }
                };
                if class == [Message::Application as u8] && outlives(turn, &key, secs)? {
                    self.order_end(turn, conversation, secs)?;
                    from = next;
                    continue 'seek;
                }
                from = key;
            }
        }
        Ok(from)
    }

    /// Orders that messages up to now live no longer than so many seconds, unless this was done, or refused, within the hour.
    fn order_end(
        &mut self,
        turn: &mut Turn<'_>,
        conversation: ConversationId,
        secs: u64,
    ) -> Result<(), StorageError> {
        let orders = standing::orders(&turn.rows, &conversation)?;
        let refused = self.walk.refused.get(&conversation).copied();
        let last = orders.iter().map(|order| order.up_to).chain(refused).max();
        if last.is_some_and(|last| last.plus_secs(STANDING_EVERY_SECS) > turn.now) {
            return Ok(());
        }
        let target = Target::Standing(turn.now, secs);
        let (by, reason, reference) = (Deleter::Officer, Reason::PolicyExpired, REFERENCE.to_vec());
        let detail = format!("messages of {conversation} up to now live for at most {secs} seconds");
        let entry = AuditEntry::new("retention-ordered", reason.name(), detail);
        let entry = match self.delete(turn, by, conversation.clone(), target, reason, reference)? {
            Ok(Reply::Deleted(id)) => entry.record(id),
            Ok(_) => entry,
            Err(why) => {
                self.walk.refused.retain(|_, at| at.plus_secs(STANDING_EVERY_SECS) > turn.now);
                self.walk.refused.insert(conversation, turn.now);
                AuditEntry::new("retention-not-ordered", why.ruling().code, why.to_string())
            }
        };
        turn.audit(entry)
    }
}

/// Whether a message lives longer than that. Clients count from when a message is written, by their own clocks.
fn outlives(turn: &Turn<'_>, key: &[u8], secs: u64) -> Result<bool, StorageError> {
    let Some(id) = key.last_chunk::<32>().map(|id| RecordId::new(*id)) else { return Ok(false) };
    let held = Holding::get(&turn.rows, &id)?;
    Ok(held
        .is_some_and(|held| held.expires > held.issued.plus_secs(secs.saturating_add(CLOCK_SKEW_SECS_MAX))))
}
