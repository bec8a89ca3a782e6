//! Leavers: devices that were revoked, and those whose certificates have ended, go from the conversations of this trust without anybody's
//! act.
//!
//! The hub proposes to remove them, as one of the group's external senders (RFC 9420, section 12.1.8.1), and publishes that as an envelope
//! of class commit; the next member that is online commits it, and so carries it out. A proposal is of one epoch: if another commit comes
//! first, it is made again in the next. Conversations are looked through bit by bit: soon after a revocation list has come, and now and
//! then, since certificates end by themselves. Devices of trusts that a charter has dropped stay: who decides that is the charter, and it
//! may let them in again.

use std::collections::BTreeSet;
use std::ops::Bound;

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::mls::PublicGroup;
use lanyard_crypto::mls::public_group::NodeSigner;
use lanyard_crypto::network::{IdentityError, Network};
use lanyard_crypto::record::{Class, Envelope};
use lanyard_crypto::x509::{ChainError, Purpose};
use lanyard_crypto::{ConversationId, Fingerprint, RecordId, Timestamp, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};

use crate::Replica;
use crate::admit;
use crate::audit::AuditEntry;
use crate::keys;
use crate::limits::{LEAVERS_GROUPS_PER_TICK, LEAVERS_LOOK_EVERY_SECS, LEAVERS_PER_GROUP};
use crate::turn::Turn;

/// How far the conversations have been looked through. Begins anew with the replica.
#[derive(Debug, Default)]
pub(crate) struct Leavers {
    /// When that was last done.
    looked: Option<Timestamp>,
    /// The name of the conversation's setting in [`Tree::Meta`] after which to go on: the hub's own rows are sealed, and found by key alone.
    at: Option<Vec<u8>>,
    /// Conversations that are looked at before that goes on: another commit came before a proposal was carried out.
    soon: BTreeSet<ConversationId>,
}

impl Leavers {
    /// Everything is looked through again.
    pub(crate) fn begin(&mut self) {
        (self.looked, self.at) = (None, None);
    }
}

/// A note in [`Tree::Meta`]: whose removal the hub has proposed, and in which epoch. Field order is its format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Proposed {
    epoch: u64,
    devices: Vec<Fingerprint>,
}

/// Proposals of one conversation that a restored hub looks through: more than live in the records of any.
const PROPOSALS_MAX: usize = 64 * LEAVERS_PER_GROUP;
/// A note takes no more, in bytes.
const PROPOSED_BYTES_MAX: usize = 64 + LEAVERS_PER_GROUP * 40;

impl Replica {
    /// Looks through a few conversations, and proposes to remove who has left.
    pub(crate) fn propose_leavers(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        // The commits of a restored store may not be back yet.
        if self.lacks_commits() {
            return Ok(());
        }
        for conversation in std::mem::take(&mut self.leavers.soon) {
            if turn.is_full() {
                self.leavers.soon.insert(conversation);
                continue;
            }
            self.propose_in(turn, &conversation)?;
        }
        let lately = |at: Timestamp| at <= turn.now && turn.now < at.plus_secs(LEAVERS_LOOK_EVERY_SECS);
        if self.leavers.looked.is_some_and(lately) {
            return Ok(());
        }
        let from = self.leavers.at.clone();
        let begin = from.as_deref().map_or(Bound::Included(keys::SETTINGS), Bound::Excluded);
        let rows = turn.rows.scan(Tree::Meta, (begin, Bound::Unbounded), LEAVERS_GROUPS_PER_TICK)?;
        let settings = rows.into_iter().map(|(key, _)| key).take_while(|key| key.starts_with(keys::SETTINGS));
        let settings: Vec<_> = settings.collect();
        if settings.is_empty() {
            (self.leavers.looked, self.leavers.at) = (Some(turn.now), None);
        }
        for key in settings {
            if turn.is_full() {
                break;
            }
            if let Ok(conversation) = ConversationId::try_from(&key[keys::SETTINGS.len()..]) {
                self.propose_in(turn, &conversation)?;
            }
            self.leavers.at = Some(key);
        }
        Ok(())
    }

    /// A commit has begun an epoch: what was proposed in the one before counts no more.
    pub(crate) fn leave_again(
        &mut self,
        turn: &Turn<'_>,
        conversation: &ConversationId,
    ) -> Result<(), StorageError> {
        if turn.rows.contains(Tree::Meta, &keys::leavers(conversation))? {
            self.leavers.soon.insert(conversation.clone());
        }
        Ok(())
    }

    /// Lets a hub's state know of the proposals for its epoch that are held, as a store has them that was restored.
    pub(crate) fn follow_proposals(
        &self,
        turn: &Turn<'_>,
        group: &mut PublicGroup<Network>,
    ) -> Result<(), StorageError> {
        let prefix = keys::proposals(group.conversation());
        for (key, epoch) in turn.rows.scan_prefix(Tree::Meta, &prefix, PROPOSALS_MAX)? {
            if keys::last_u64(&epoch) != group.epoch() {
                continue;
            }
            let Some(id) = key.last_chunk::<32>().map(|id| RecordId::new(*id)) else { continue };
            if let Some((_, record)) = admit::stored(&turn.rows, &id)?
                && let lanyard_crypto::record::Body::Envelope(envelope) = record.body()
            {
                // One that it knows already, or that does not hold, changes nothing; a commit that needs it is refused then.
                let _ = group.accept_proposal(&envelope.content, record.header().issued);
            }
        }
        Ok(())
    }

    fn propose_in(&mut self, turn: &mut Turn<'_>, conversation: &ConversationId) -> Result<(), StorageError> {
        let row = keys::conversation(conversation);
        let Some(state) = turn.rows.get(Tree::Hub, &row)? else { return Ok(()) };
        let Ok(group) = PublicGroup::load(self.network.clone(), &state, None) else { return Ok(()) };
        let (epoch, key) = (group.epoch(), keys::leavers(conversation));
        let Ok(members) = group.member_chains() else { return Ok(()) };
        let has_left = |chain: &[Vec<u8>]| has_left(&self.network, chain, turn.now);
        let leaving: Vec<_> = members.iter().filter(|(_, chain)| has_left(chain)).map(|(m, _)| m).collect();
        // Without anybody left, nobody would carry it out.
        if leaving.is_empty() || leaving.len() == members.len() {
            if turn.rows.contains(Tree::Meta, &key)? {
                turn.rows.delete(Tree::Meta, key);
            }
            return Ok(());
        }
        let noted = turn.rows.get(Tree::Meta, &key)?;
        let noted = noted.and_then(|row| cbor::from_slice::<Proposed>(&row, PROPOSED_BYTES_MAX).ok());
        let mut proposed =
            noted.filter(|noted| noted.epoch == epoch).unwrap_or(Proposed { epoch, ..Proposed::default() });
        let new: Vec<_> = leaving
            .into_iter()
            .filter(|m| !proposed.devices.contains(&m.device.fingerprint))
            .take(LEAVERS_PER_GROUP - proposed.devices.len().min(LEAVERS_PER_GROUP))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        // As the group lists it: the node's certificate may have been renewed since.
        let Some(chain) = group.sender_chain(&self.own.key.public()) else {
            // Noted, so that it is told once in an epoch.
            proposed.devices = new.iter().map(|m| m.device.fingerprint).collect();
            turn.rows.put(Tree::Meta, key, cbor::to_vec(&proposed));
            let detail = format!(
                "{conversation} does not list this node's key: its administrators must remove who has left"
            );
            return turn.audit(AuditEntry::new("removal-not-proposed", "not-listed", detail));
        };
        let signer = NodeSigner { chain: &chain, key: &self.own.key };
        let Ok(mut group) = PublicGroup::load(self.network.clone(), &state, Some(signer)) else {
            return Ok(());
        };
        let mut custodians = group.trusts().unwrap_or_default();
        custodians.insert(self.own.trust.clone());
        let custodians: Vec<_> = custodians.into_iter().collect();
        let place =
            Envelope { conversation: conversation.clone(), epoch, class: Class::Commit, content: Vec::new() };
        for member in new {
            let Ok(proposal) = group.propose_remove(member.index) else { continue };
            match self.publish_handshake(turn, &place, Class::Commit, proposal, &custodians)? {
                Ok(id) => {
                    let detail = format!("device {} is to leave {conversation}", member.device.fingerprint);
                    turn.audit(AuditEntry::new("removal-proposed", "", detail).record(id))?;
                    proposed.devices.push(member.device.fingerprint);
                }
                Err(why) => {
                    return turn.audit(AuditEntry::new(
                        "removal-not-proposed",
                        why.ruling().code,
                        format!("{conversation}: {why}"),
                    ));
                }
            }
        }
        if let Ok(snapshot) = group.snapshot() {
            turn.rows.put(Tree::Hub, row, snapshot);
            turn.rows.put(Tree::Meta, key, cbor::to_vec(&proposed));
        }
        Ok(())
    }
}

/// Whether a device is revoked, or its certificate (or its registrar's) has ended, by more than clocks may differ.
fn has_left(network: &Network, chain: &[Vec<u8>], now: Timestamp) -> bool {
    match network.verify_chain(chain, Purpose::Device, now) {
        Err(IdentityError::Chain(ChainError::Revoked { .. })) => true,
        Err(IdentityError::Chain(ChainError::Expired { at, .. })) => at.plus_secs(CLOCK_SKEW_SECS_MAX) <= now,
        _ => false,
    }
}
