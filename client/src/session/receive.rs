//! What the node delivers: messages, published commits, welcomes.
//!
//! Strategy: envelopes arrive in any order, more than once, and some never. What belongs to a later epoch is
//! held until the commit or welcome that opens that epoch has come. What cannot be read is told and passed
//! over, with the group as it was before: the library has consumed a message key by then, so its state is
//! loaded again. A failed message never stands in the way of the next one. What fails because a certificate
//! does not hold yet is kept, and tried again ([`Session::retry`]): for that, no state may have moved on.

use std::error::Error;

use lanyard_crypto::mls::peek::{Content as Framed, Peek};
use lanyard_crypto::mls::{ChainVerifier, DeviceIdentity, Policy, mls_time};
use lanyard_crypto::network::IdentityError;
use lanyard_crypto::record::Class;
use lanyard_crypto::{ConversationId, RecordId, Timestamp, TrustId, limits};
use mls_rs::error::MlsError;
use mls_rs::group::proposal::Proposal;
use mls_rs::group::{
    ApplicationMessageDescription, CommitEffect, CommitMessageDescription, NewEpoch, ReceivedMessage,
};
use mls_rs::{Group, MlsMessage};

use super::content::{Content, TITLE_BYTES_MAX};
use super::{Config, Session, SessionError, SessionMember, TITLE_EXTENSION};
use crate::limits::EPOCHS_AHEAD_MAX;
use crate::trust::may_heal;
use crate::vault::content_hash;
use crate::vault::conversations::Conversation;
use crate::vault::messages::Message;
use crate::vault::outbox::Incoming;

/// What came of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message to show.
    Message(Message),
    /// The conversation has another title.
    Titled(ConversationId),
    /// One's own message has come back as this envelope.
    Own(RecordId),
    /// This device is in a conversation from now on.
    Joined(ConversationId),
    /// Who is in the conversation, or who administers it, has changed; or keys were renewed.
    Changed(Changed),
    /// This device was removed; it can read nothing that is written from now on.
    Removed(ConversationId),
    /// A trust has proposed to remove a device: [`Session::carry_out`] does it.
    Proposed(ConversationId),
    /// It belongs to a later epoch, and waits in the vault.
    Held(RecordId),
    /// It is known already, or it is for others.
    Nothing,
    /// It was deleted, or expired, before it could be read.
    Gone(RecordId),
    /// A certificate does not hold, or the envelope is not of the sender's trust, or it is a deletion that nobody may order: nothing
    /// is done. If a later charter or revocation list may change that, the envelope is kept for [`Session::retry`].
    Withheld {
        /// The envelope, or the deletion.
        id: RecordId,
        /// Why.
        why: String,
    },
    /// It cannot be read. For a commit: the owner trust's node has published what this device refuses, and
    /// only a later commit can repair that.
    Unreadable {
        /// The envelope.
        id: RecordId,
        /// What it should have been.
        class: Class,
        /// Why.
        why: String,
    },
}

/// What a commit changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Whose.
    pub conversation: ConversationId,
    /// The epoch that it began.
    pub epoch: u64,
    /// Who made it.
    pub by: DeviceIdentity,
    /// Whom it added.
    pub added: Vec<DeviceIdentity>,
    /// Whom it removed.
    pub removed: Vec<DeviceIdentity>,
    /// Whether this device made it.
    pub own: bool,
    /// Whether a change that this device had made is void, since this one came first.
    pub lost: bool,
}

impl<V: ChainVerifier> Session<V> {
    /// Takes one envelope, in one transaction: what came of it, and then of each held one that it made
    /// readable.
    ///
    /// The record was verified by the caller, and signed by a node that may sign it: a commit or welcome by
    /// the owner trust's.
    ///
    /// # Errors
    /// The disk's alone: what others sent is never an error here.
    pub fn receive(&mut self, incoming: &Incoming, now: Timestamp) -> Result<Vec<Received>, SessionError> {
        self.transaction(|session| session.receive_and_open(incoming, now))
    }

    /// Tries again, in one transaction, what was withheld because a certificate did not hold. What still is
    /// not told again.
    ///
    /// # Errors
    /// The disk's alone.
    pub fn retry(&mut self, now: Timestamp) -> Result<Vec<Received>, SessionError> {
        self.transaction(|session| {
            let mut received = Vec::new();
            for incoming in session.vault.take_withheld()? {
                let told = session.receive_and_open(&incoming, now)?;
                let again = |r: &Received| matches!(r, Received::Withheld { id, .. } if *id == incoming.id);
                received.extend(told.into_iter().filter(|r| !again(r)));
            }
            Ok(received)
        })
    }

    fn receive_and_open(
        &mut self,
        incoming: &Incoming,
        now: Timestamp,
    ) -> Result<Vec<Received>, SessionError> {
        let mut received = vec![self.receive_one(incoming, now)?];
        let conversation = &incoming.envelope.conversation;
        let opens =
            |r: &Received| matches!(r, Received::Joined(_) | Received::Changed(_) | Received::Removed(_));
        if received.iter().any(opens) {
            loop {
                let epoch = match self.group(conversation) {
                    Ok(group) => Some(group.current_epoch()),
                    Err(SessionError::NotIn(_)) => None,
                    Err(error) => return Err(error),
                };
                let Some(held) = self.vault.take_held(conversation, epoch)? else {
                    break;
                };
                received.push(self.receive_one(&held, now)?);
            }
        }
        Ok(received)
    }

    fn receive_one(&mut self, incoming: &Incoming, now: Timestamp) -> Result<Received, SessionError> {
        if incoming.expires <= now {
            return Ok(Received::Gone(incoming.id));
        }
        let read = self.transaction(|session| match incoming.envelope.class {
            Class::Application => session.application(incoming, now),
            Class::Commit => session.commit(incoming, now),
            Class::Welcome => session.welcome(incoming),
            Class::Submission => Ok(Received::Nothing),
        });
        match read {
            Err(SessionError::Vault(error)) => Err(error.into()),
            // The disk behind the library's own words.
            Err(SessionError::Mls(
                error @ (MlsError::GroupStorageError(_) | MlsError::KeyPackageRepoError(_)),
            )) => Err(error.into()),
            Err(error) if heals(&error) => self.withhold(incoming, &error),
            Err(error @ (SessionError::OtherTrust { .. } | SessionError::Credential(_)))
                if incoming.envelope.class == Class::Application =>
            {
                Ok(Received::Withheld { id: incoming.id, why: error.to_string() })
            }
            Err(error) => {
                let class = incoming.envelope.class;
                Ok(Received::Unreadable { id: incoming.id, class, why: error.to_string() })
            }
            Ok(received) => Ok(received),
        }
    }

    fn application(&mut self, incoming: &Incoming, now: Timestamp) -> Result<Received, SessionError> {
        let envelope = &incoming.envelope;
        let conversation = &envelope.conversation;
        let ends = self.vault.end_of(conversation, incoming.issued, incoming.expires)?;
        if ends <= now
            || self.vault.is_erased(&incoming.id, conversation, &incoming.signer, incoming.issued)?
        {
            return Ok(Received::Gone(incoming.id));
        }
        if self.vault.message(&incoming.id)?.is_some() {
            return Ok(Received::Nothing);
        }
        let content_hash = content_hash(&envelope.content);
        match self.vault.message_with(&content_hash)? {
            Some((local, true)) => {
                self.signed_by(&self.device.trust, incoming)?;
                // The node took it, and this program was stopped before it heard so.
                self.vault.drop_outgoing_content(&content_hash)?;
                self.vault.set_envelope(local, &incoming.id, incoming.issued)?;
                return Ok(Received::Own(incoming.id));
            }
            // Sent again in another envelope, because the sender did not hear that the first one was taken.
            Some((_, false)) => return Ok(Received::Nothing),
            None => {}
        }
        let Some(mut group) = self.group_for(incoming)? else {
            return self.hold(incoming);
        };
        let message = framed(incoming, Framed::Application)?;
        let at = mls_time(incoming.issued);
        let mut processed = group.process_incoming_message_with_time(message, at);
        let mut present = None;
        if let Err(MlsError::MemberNotFound) = processed
            && let Some(former) = self.former_group(conversation, envelope.epoch, (incoming.issued, now))?
        {
            present = Some(std::mem::replace(&mut group, former));
            processed = group.process_incoming_message_with_time(framed(incoming, Framed::Application)?, at);
        }
        match processed {
            // A title of one's own, which is not kept as a message.
            Err(MlsError::CantProcessMessageFromSelf) => {
                self.signed_by(&self.device.trust, incoming)?;
                self.vault.drop_outgoing_content(&content_hash)?;
                Ok(Received::Own(incoming.id))
            }
            Ok(ReceivedMessage::ApplicationMessage(read)) => {
                let sender = self.sender(incoming, &group, &read)?;
                // Only now, since it uses up the message's key, which the genuine envelope still needs if this
                // one is a copy. The present group has used it up, too, before it knew that the sender has left.
                if let Some(mut present) = present {
                    present.write_to_storage()?;
                }
                group.write_to_storage()?;
                self.read(incoming, sender, &read, &content_hash, ends)
            }
            other => Err(other.err().unwrap_or(MlsError::UnexpectedMessageType).into()),
        }
    }

    /// Who wrote it, verified at the moment at which the sender's node took the message: a node of the same
    /// trust. That moment decides whether a revocation came before or after the message, alike for all members, however late they hear
    /// of either.
    fn sender(
        &self,
        incoming: &Incoming,
        group: &Group<Config<V>>,
        read: &ApplicationMessageDescription,
    ) -> Result<DeviceIdentity, SessionError> {
        let member = group.roster().member_with_index(read.sender_index)?;
        let sender = self.identities.verify_as_of(&member.signing_identity, incoming.issued)?;
        self.signed_by(&sender.trust, incoming)?;
        Ok(sender)
    }

    fn signed_by(&self, sender: &TrustId, incoming: &Incoming) -> Result<(), SessionError> {
        if incoming.signer == *sender {
            return Ok(());
        }
        Err(SessionError::OtherTrust { sender: sender.clone(), signer: incoming.signer.clone() })
    }

    fn read(
        &mut self,
        incoming: &Incoming,
        sender: DeviceIdentity,
        read: &ApplicationMessageDescription,
        content_hash: &[u8; 32],
        expires: Timestamp,
    ) -> Result<Received, SessionError> {
        let conversation = incoming.envelope.conversation.clone();
        match Content::decode(read.data()) {
            Ok(Content::Text(text)) => {
                let mut message = Message {
                    local: 0,
                    id: Some(incoming.id),
                    conversation,
                    epoch: incoming.envelope.epoch,
                    place: read.unauthenticated_key_generation.unwrap_or_default(),
                    own: false,
                    sender: sender.fingerprint,
                    name: sender.name,
                    role: sender.role,
                    trust: sender.trust,
                    issued: incoming.issued,
                    expires,
                    text,
                };
                message.local = self.vault.put_message(&message, content_hash)?;
                Ok(Received::Message(message))
            }
            Ok(Content::Title(title)) => {
                self.vault.set_title(&conversation, &title)?;
                Ok(Received::Titled(conversation))
            }
            Err(error) => {
                let class = incoming.envelope.class;
                Ok(Received::Unreadable { id: incoming.id, class, why: error.to_string() })
            }
        }
    }

    fn commit(&mut self, incoming: &Incoming, now: Timestamp) -> Result<Received, SessionError> {
        let conversation = &incoming.envelope.conversation;
        let Some(mut group) = self.group_for(incoming)? else {
            return self.hold(incoming);
        };
        if incoming.envelope.epoch < group.current_epoch() {
            return Ok(Received::Nothing);
        }
        let message = match framed(incoming, Framed::Commit) {
            Ok(message) => message,
            Err(_) => return self.proposal(incoming, group),
        };
        let before = self.members(conversation)?;
        let devices: Vec<_> = before.iter().map(|m| m.device.fingerprint).collect();
        self.vault.members_were(conversation, &devices)?;
        let (pending, own_leaf) = (group.has_pending_commit(), group.current_member_index());
        let policy_before = Policy::of(&group.context().extensions)?;
        let received = group.process_incoming_message_with_time(message, mls_time(incoming.issued))?;
        let ReceivedMessage::Commit(CommitMessageDescription { committer, effect, .. }) = received else {
            return Err(MlsError::UnexpectedMessageType.into());
        };
        let change: Box<NewEpoch> = match effect {
            CommitEffect::NewEpoch(change) => change,
            CommitEffect::Removed { new_epoch, .. } => {
                self.leave(conversation, new_epoch.epoch())?;
                return Ok(Received::Removed(conversation.clone()));
            }
            CommitEffect::ReInit(_) => return Err(MlsError::UnexpectedMessageType.into()),
        };
        let policy = Policy::of(&group.context().extensions)?;
        check_review(&policy_before, &policy, incoming)?;
        // The library reads nothing late of who has left, or has another key since: it would not know whose it is.
        let roster = group.roster();
        let stays = |m: &SessionMember| {
            let now = roster.member_with_index(m.index);
            now.is_ok_and(|now| now.signing_identity.signature_key.as_bytes() == m.device.key)
        };
        if !before.iter().all(stays) {
            let ended = incoming.envelope.epoch;
            self.vault.keep_former_group(&conversation.to_bytes(), ended, incoming.issued, now)?;
        }
        // Another's commit has cleared a pending one inside the library already.
        group.write_to_storage()?;
        self.note_retention(conversation, &policy)?;
        self.note_review(conversation, &group, incoming.issued, incoming.envelope.epoch == 0)?;
        self.note_members(conversation, &group, |_| Some(incoming.issued))?;
        self.vault.drop_outgoing_changes(conversation)?;
        let own = committer == own_leaf;
        let device = |leaf: u32| before.iter().find(|m| m.index == leaf).map(|m| m.device.clone());
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for proposal in change.applied_proposals() {
            match &proposal.proposal {
                Proposal::Add(add) => added.push(self.identities.read(add.signing_identity())?),
                Proposal::Remove(remove) => removed.extend(device(remove.to_remove())),
                _ => {}
            }
        }
        Ok(Received::Changed(Changed {
            conversation: conversation.clone(),
            epoch: change.epoch(),
            by: device(committer).ok_or(SessionError::NoSuchMember)?,
            added,
            removed,
            own,
            lost: pending && !own && !self.is_carrying_out(conversation)?,
        }))
    }

    fn proposal(
        &mut self,
        incoming: &Incoming,
        mut group: Group<Config<V>>,
    ) -> Result<Received, SessionError> {
        let message = framed(incoming, Framed::Proposal)?;
        group.process_incoming_message_with_time(message, mls_time(incoming.issued))?;
        group.write_to_storage()?;
        Ok(Received::Proposed(incoming.envelope.conversation.clone()))
    }

    fn welcome(&mut self, incoming: &Incoming) -> Result<Received, SessionError> {
        let conversation = &incoming.envelope.conversation;
        if let Some(group) = self.group_for_joining(conversation)? {
            // Of the epoch that this device is in, or of one that lies behind it; or it was removed, and is
            // to come back.
            let known = incoming.envelope.epoch <= group.current_epoch();
            return if known { Ok(Received::Nothing) } else { self.hold(incoming) };
        }
        let known = self.vault.conversation(conversation)?;
        let left = known.and_then(|c| c.left_epoch);
        if left.is_some_and(|left| incoming.envelope.epoch <= left) {
            return Ok(Received::Nothing);
        }
        let message = decode(incoming)?;
        let (mut group, info) = match self.client.join_group(None, &message, Some(mls_time(incoming.issued)))
        {
            Err(MlsError::WelcomeKeyPackageNotFound) => return Ok(Received::Nothing),
            joined => joined?,
        };
        let names_itself = group.group_id() == conversation.to_bytes();
        if !names_itself || group.current_epoch() != incoming.envelope.epoch {
            return Err(MlsError::GroupIdMismatch.into());
        }
        let policy: Policy = self.rules.check_context(&group.context().extensions)?;
        let title = info.group_info_extensions().get(TITLE_EXTENSION);
        let title = title.and_then(|t| String::from_utf8(t.extension_data).ok());
        // What was left of an earlier time in this conversation does not continue.
        self.vault.forget_group(&conversation.to_bytes())?;
        self.vault.drop_held_before(conversation, group.current_epoch())?;
        group.write_to_storage()?;
        self.note_retention(conversation, &policy)?;
        self.note_review(conversation, &group, incoming.issued, true)?;
        // The others may have been there for long: nobody says since when.
        let own = self.device().fingerprint;
        self.note_members(conversation, &group, |device| (*device == own).then_some(incoming.issued))?;
        self.vault.put_conversation(&Conversation {
            id: conversation.clone(),
            title: title.filter(|t| t.len() <= TITLE_BYTES_MAX).unwrap_or_default(),
            class: policy.class(),
            since: incoming.issued,
            left_epoch: None,
        })?;
        Ok(Received::Joined(conversation.clone()))
    }

    fn leave(&mut self, conversation: &ConversationId, epoch: u64) -> Result<(), SessionError> {
        // An earlier version has not noted it, and the group that still says it is about to go.
        self.note_retention(conversation, &self.policy(conversation)?)?;
        self.vault.forget_group(&conversation.to_bytes())?;
        self.vault.drop_outgoing_changes(conversation)?;
        if let Some(known) = self.vault.conversation(conversation)? {
            self.vault.put_conversation(&Conversation { left_epoch: Some(epoch), ..known })?;
        }
        Ok(())
    }

    /// The group, if this device is in it and has reached the envelope's epoch.
    fn group_for(&self, incoming: &Incoming) -> Result<Option<Group<Config<V>>>, SessionError> {
        let group = self.group_for_joining(&incoming.envelope.conversation)?;
        Ok(group.filter(|g| incoming.envelope.epoch <= g.current_epoch()))
    }

    fn group_for_joining(
        &self,
        conversation: &ConversationId,
    ) -> Result<Option<Group<Config<V>>>, SessionError> {
        match self.group(conversation) {
            Ok(group) => Ok(Some(group)),
            Err(SessionError::NotIn(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn hold(&mut self, incoming: &Incoming) -> Result<Received, SessionError> {
        let envelope = &incoming.envelope;
        let group = self.group_for_joining(&envelope.conversation)?;
        let ahead = group.map_or(0, |g| envelope.epoch.saturating_sub(g.current_epoch()));
        // A welcome leads to its epoch, however far that is.
        let why = if ahead > EPOCHS_AHEAD_MAX && envelope.class != Class::Welcome {
            format!("it is {ahead} changes of members ahead of what has arrived")
        } else if self.vault.hold(incoming, false)? {
            return Ok(Received::Held(incoming.id));
        } else {
            let signer = &incoming.signer;
            format!("too many messages of {signer} wait for a change of members that has not arrived")
        };
        Ok(Received::Unreadable { id: incoming.id, class: envelope.class, why })
    }

    fn withhold(&mut self, incoming: &Incoming, error: &SessionError) -> Result<Received, SessionError> {
        let next = if self.vault.hold(incoming, true)? {
            "it is tried again with every sync"
        } else {
            "too many wait for such a reason, so it is lost"
        };
        let why = format!("{error}; {next}");
        Ok(Received::Withheld { id: incoming.id, why })
    }
}

/// Whether what failed is a certificate that may hold later, whatever wraps the error.
fn heals(error: &SessionError) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(identity) = error.downcast_ref::<IdentityError>() {
            return may_heal(identity);
        }
        next = error.source();
    }
    false
}

/// A new review's moment is held against the one at which the owner trust's node published it, as that node has: so no member's own clock
/// matters, and all of them come to the same result. One that is in the group already stays as it is, so that no clock that once was wrong
/// makes every later change refused.
fn check_review(before: &Policy, after: &Policy, incoming: &Incoming) -> Result<(), SessionError> {
    match after.review().filter(|review| before.review() != Some(*review)) {
        Some(review) if review.is_from_the_future(incoming.issued) => Err(SessionError::FutureReview),
        _ => Ok(()),
    }
}

/// The MLS message in an envelope, if it is what the envelope says.
fn framed(incoming: &Incoming, wanted: Framed) -> Result<MlsMessage, SessionError> {
    let envelope = &incoming.envelope;
    let peek = Peek::of(&envelope.content, limits::HANDSHAKE_RECORD_BYTES_MAX);
    let (group, epoch, content, private) = match peek {
        Ok(Peek::Private { group, epoch, content }) => (group, epoch, content, true),
        Ok(Peek::Public { group, epoch, content, .. }) => (group, epoch, content, false),
        _ => return Err(MlsError::UnexpectedMessageType.into()),
    };
    if group != envelope.conversation.to_bytes() {
        return Err(MlsError::GroupIdMismatch.into());
    }
    if epoch != envelope.epoch {
        return Err(MlsError::InvalidEpoch.into());
    }
    if content != wanted || private != (wanted == Framed::Application) {
        return Err(MlsError::UnexpectedMessageType.into());
    }
    decode(incoming)
}

fn decode(incoming: &Incoming) -> Result<MlsMessage, SessionError> {
    Ok(MlsMessage::from_bytes(&incoming.envelope.content)?)
}
