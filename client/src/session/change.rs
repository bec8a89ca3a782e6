//! Founding a conversation, and changes of who is in it.
//!
//! Strategy: a change is a commit that this device makes and keeps pending. It goes to the owner trust's node
//! as a submission, through the outbox. The node accepts one commit per epoch and publishes it to all
//! members, this device included: only then does the change take effect here ([`super::receive`]). If another
//! commit came first, the pending one is dropped and the caller told, who may make the change again. A crash
//! in between loses nothing: pending commit and outbox are in the vault.

use std::collections::BTreeSet;

use lanyard_crypto::gateway::SendRequest;
use lanyard_crypto::mls::identity::credential;
use lanyard_crypto::mls::{
    ChainVerifier, Class as Purpose, PersonKey, Policy, Review, ReviewTerms, mls_time,
};
use lanyard_crypto::record::{Class, Submission};
use lanyard_crypto::{ConversationId, Fingerprint, Timestamp, TrustId, cbor, limits};
use mls_rs::extension::MlsExtension;
use mls_rs::extension::built_in::ExternalSendersExt;
use mls_rs::group::CommitBuilder;
use mls_rs::identity::SigningIdentity;
use mls_rs::{Extension, ExtensionList, Group, MlsMessage};
use serde_bytes::ByteBuf;

use super::content::TITLE_BYTES_MAX;
use super::{Config, Session, SessionError, TITLE_EXTENSION};
use crate::vault::conversations::Conversation;
use crate::vault::outbox::Outgoing;

/// What a submission's record adds to it, in bytes, generously.
const RECORD_FRAME_BYTES: usize = 16 * 1024;
/// The longest submission: it has to fit into a record.
const SUBMISSION_BYTES_MAX: usize = limits::HANDSHAKE_RECORD_BYTES_MAX - RECORD_FRAME_BYTES;

/// A node that may propose to remove members: see [`lanyard_crypto::mls::rules`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSender {
    /// Its certificate and its registrar's, DER.
    pub chain: Vec<Vec<u8>>,
    /// The key that the first of them certifies.
    pub key: [u8; 32],
}

/// What a conversation begins with.
#[derive(Clone, Debug)]
pub struct Founding {
    /// What it is for.
    pub class: Purpose,
    /// How its members call it.
    pub title: String,
    /// The trust that orders its commits: the founder's own.
    pub owner: TrustId,
    /// The nodes that may propose to remove members, the owner trust's among them. May be empty.
    pub nodes: Vec<NodeSender>,
    /// Who else administers it; the founder always does.
    pub admins: Vec<PersonKey>,
    /// Key packages of the first other devices (MLSMessages).
    pub members: Vec<Vec<u8>>,
    /// How long messages live at most, in seconds; none for as long as the charter and the owner trust allow.
    pub retention_secs: Option<u64>,
    /// How often its members are to be reviewed; its founding counts as the first time. None if no group is to say so.
    pub review: Option<ReviewTerms>,
}

/// A change of a conversation.
#[derive(Clone, Debug, Default)]
struct Change {
    add: Vec<Vec<u8>>,
    remove: Vec<u32>,
    context: Option<ExtensionList>,
}

impl<V: ChainVerifier> Session<V> {
    /// Founds a conversation, and submits the commit that adds its first members. Until the owner trust has
    /// published that, this device is alone in it.
    ///
    /// # Errors
    /// [`SessionError`]: a key package that does not hold, too many members at once, or the disk.
    pub fn found(
        &mut self,
        founding: &Founding,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<(ConversationId, Outgoing), SessionError> {
        title_fits(&founding.title)?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)?;
        let conversation = ConversationId::new(nonce, founding.owner.clone());
        let admins = founding.admins.iter().copied().chain([self.device.person]);
        let policy = Policy::new(founding.class, admins)?;
        let policy = match founding.retention_secs {
            Some(secs) => policy.with_retention(secs)?,
            None => policy,
        };
        let policy = match founding.review {
            Some(terms) => policy.with_review(Review::new(now, self.device.person, terms)?),
            None => policy,
        };
        let mut extensions = vec![policy.to_extension()];
        if !founding.nodes.is_empty() {
            let identity = |n: &NodeSender| SigningIdentity::new(credential(&n.chain), n.key.to_vec().into());
            let senders = ExternalSendersExt::new(founding.nodes.iter().map(identity).collect());
            extensions.push(senders.into_extension().map_err(mls_rs::error::MlsError::from)?);
        }
        let extensions = ExtensionList::from(extensions);
        self.rules.check_context(&extensions)?;
        self.transaction(|session| {
            let at = Some(mls_time(now));
            let id = conversation.to_bytes();
            let mut group = session.client.create_group_with_id(id, extensions, ExtensionList::new(), at)?;
            group.write_to_storage()?;
            session.note_retention(&conversation, &policy)?;
            session.note_review(&conversation, &group, now, true)?;
            session.note_members(&conversation, &group, |_| Some(now))?;
            session.vault.put_conversation(&Conversation {
                id: conversation.clone(),
                title: founding.title.clone(),
                class: founding.class,
                since: now,
                left_epoch: None,
            })?;
            let change = Change { add: founding.members.clone(), ..Change::default() };
            let outgoing = session.submit(&conversation, change, expires, now)?;
            Ok((conversation, outgoing))
        })
    }

    /// Adds devices, by their key packages (MLSMessages).
    ///
    /// # Errors
    /// [`SessionError`]: not an administrator, a key package that does not hold, another change pending, or
    /// the disk.
    pub fn add(
        &mut self,
        conversation: &ConversationId,
        key_packages: &[Vec<u8>],
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Outgoing, SessionError> {
        let change = Change { add: key_packages.to_vec(), ..Change::default() };
        self.submit(conversation, change, expires, now)
    }

    /// Removes devices, by the fingerprints of their certificates.
    ///
    /// # Errors
    /// [`SessionError`]: not an administrator, no such member, another change pending, or the disk.
    pub fn remove(
        &mut self,
        conversation: &ConversationId,
        devices: &[Fingerprint],
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Outgoing, SessionError> {
        let remove = self.leaves(conversation, devices)?;
        self.submit(conversation, Change { remove, ..Change::default() }, expires, now)
    }

    /// Sets who administers the conversation.
    ///
    /// # Errors
    /// [`SessionError`]: not an administrator, nobody left who is, another change pending, or the disk.
    pub fn set_admins(
        &mut self,
        conversation: &ConversationId,
        admins: &[PersonKey],
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Outgoing, SessionError> {
        let policy = self.policy(conversation)?.with_admins(admins.iter().copied())?;
        self.set_policy(conversation, &policy, expires, now)
    }

    /// Sets how long the conversation's messages live at most, in seconds.
    ///
    /// # Errors
    /// [`SessionError`]: not an administrator of the owner trust, longer than any charter allows, another change pending, or the
    /// disk.
    pub fn set_retention(
        &mut self,
        conversation: &ConversationId,
        secs: u64,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Outgoing, SessionError> {
        let policy = self.policy(conversation)?.with_retention(secs)?;
        self.set_policy(conversation, &policy, expires, now)
    }

    /// Records that this device's holder has reviewed the members, and takes these out: one commit. Returns the moment that it states.
    ///
    /// # Errors
    /// [`SessionError`]: not an administrator of the owner trust, no such member, another change pending, or the disk.
    pub fn review(
        &mut self,
        conversation: &ConversationId,
        without: &[Fingerprint],
        terms: ReviewTerms,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Timestamp, SessionError> {
        let policy = self.policy(conversation)?;
        // Clocks differ by minutes; each review is dated after the last one.
        let at = policy.review().map_or(now, |last| now.max(last.at().plus_secs(1)));
        let policy = policy.with_review(Review::new(at, self.device.person, terms)?);
        let context = Some(self.context_with(conversation, &policy)?);
        let change = Change { context, remove: self.leaves(conversation, without)?, ..Change::default() };
        self.submit(conversation, change, expires, now)?;
        Ok(at)
    }

    fn context_with(
        &self,
        conversation: &ConversationId,
        policy: &Policy,
    ) -> Result<ExtensionList, SessionError> {
        let mut context = self.group(conversation)?.context().extensions.clone();
        context.set(policy.to_extension());
        Ok(context)
    }

    fn leaves(
        &self,
        conversation: &ConversationId,
        devices: &[Fingerprint],
    ) -> Result<Vec<u32>, SessionError> {
        let members = self.members(conversation)?;
        let leaf = |device: &Fingerprint| {
            let member = members.iter().find(|m| m.device.fingerprint == *device);
            member.map(|m| m.index).ok_or(SessionError::NoSuchMember)
        };
        devices.iter().map(leaf).collect()
    }

    fn set_policy(
        &mut self,
        conversation: &ConversationId,
        policy: &Policy,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Outgoing, SessionError> {
        let change = Change { context: Some(self.context_with(conversation, policy)?), ..Change::default() };
        self.submit(conversation, change, expires, now)
    }

    /// Commits without a change of its own: renews this device's keys, and carries out what trusts have
    /// proposed.
    ///
    /// # Errors
    /// [`SessionError`]: another change pending, or the disk.
    pub fn carry_out(
        &mut self,
        conversation: &ConversationId,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Outgoing, SessionError> {
        self.transaction(|session| {
            let outgoing = session.submit(conversation, Change::default(), expires, now)?;
            session.vault.set_cursor(&carrying(conversation), 1)?;
            Ok(outgoing)
        })
    }

    /// Whether the pending change is none that anybody asked for: it carries out what a trust has proposed, and another member's does that
    /// as well.
    ///
    /// # Errors
    /// The disk's.
    pub fn is_carrying_out(&self, conversation: &ConversationId) -> Result<bool, SessionError> {
        Ok(self.vault.cursor(&carrying(conversation))? == 1)
    }

    /// Gives up a change that the owner trust has not published. It may still do so: then the change takes
    /// effect as if another member had made it, which cannot be read here; so this is for a change that was
    /// refused, or never sent.
    ///
    /// # Errors
    /// [`SessionError::NotIn`], or the disk's.
    pub fn abandon_change(&mut self, conversation: &ConversationId) -> Result<(), SessionError> {
        self.transaction(|session| {
            let mut group = session.group(conversation)?;
            group.clear_pending_commit();
            group.write_to_storage()?;
            Ok(session.vault.drop_outgoing_changes(conversation)?)
        })
    }

    fn submit(
        &mut self,
        conversation: &ConversationId,
        change: Change,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Outgoing, SessionError> {
        self.transaction(|session| {
            let mut group = session.group(conversation)?;
            if group.has_pending_commit() {
                return Err(SessionError::ChangePending(conversation.clone()));
            }
            let known = session.vault.conversation(conversation)?;
            let title = known.ok_or_else(|| SessionError::NotIn(conversation.clone()))?.title;
            // The owner trust's node does not know the conversation before its first commit.
            let first = group.current_epoch() == 0;
            let group_info = if first { Some(group.group_info_message(true)?.to_bytes()?) } else { None };
            let epoch = group.current_epoch();
            // Everyone who is in now, and after the change: those who leave hear of it too.
            let mut custodians: BTreeSet<TrustId> = session.trusts(&group)?.into_iter().collect();
            for package in &change.add {
                custodians.insert(session.added(package, now)?);
            }

            let builder = prepare(&mut group, change, &title)?.commit_time(mls_time(now));
            let output = builder.build()?;
            group.write_to_storage()?;
            let welcome = output.welcome_messages().first().map(MlsMessage::to_bytes).transpose()?;
            let submission = Submission {
                commit: output.commit_message().to_bytes()?,
                welcome: welcome.map(ByteBuf::from),
                group_info: group_info.map(ByteBuf::from),
            };
            let content = cbor::to_vec(&submission);
            if content.len() > SUBMISSION_BYTES_MAX {
                let (what, actual, max) = ("a change of members", content.len(), SUBMISSION_BYTES_MAX);
                return Err(SessionError::TooLarge { what, actual, max });
            }
            let request = SendRequest {
                conversation: conversation.clone(),
                epoch,
                class: Class::Submission,
                content,
                custodians: custodians.into_iter().collect(),
                expires,
            };
            let id = session.vault.put_outgoing(None, &request)?;
            session.vault.set_cursor(&carrying(conversation), 0)?;
            Ok(Outgoing { id, message: None, request })
        })
    }

    /// The trusts of everyone in a group, sorted.
    pub(super) fn trusts(&self, group: &Group<Config<V>>) -> Result<Vec<TrustId>, SessionError> {
        let mut trusts = BTreeSet::new();
        for member in group.roster().members_iter() {
            trusts.insert(self.identities.read(&member.signing_identity)?.trust);
        }
        Ok(trusts.into_iter().collect())
    }

    /// Whoever adds a device judges its certificate at that moment; other members follow: see
    /// [`lanyard_crypto::mls::X509Identities`].
    fn added(&self, key_package: &[u8], now: Timestamp) -> Result<TrustId, SessionError> {
        let message = MlsMessage::from_bytes(key_package)?;
        let package = message.as_key_package().ok_or(mls_rs::error::MlsError::UnexpectedMessageType)?;
        Ok(self.identities.verify(package.signing_identity(), Some(now))?.trust)
    }
}

fn prepare<'a, V: ChainVerifier>(
    group: &'a mut Group<Config<V>>,
    change: Change,
    title: &str,
) -> Result<CommitBuilder<'a, Config<V>>, SessionError> {
    let mut builder = group.commit_builder();
    if !change.add.is_empty() {
        let title = Extension::new(TITLE_EXTENSION, title.as_bytes().to_vec());
        builder = builder.set_group_info_ext(vec![title].into());
    }
    for package in &change.add {
        builder = builder.add_member(MlsMessage::from_bytes(package)?)?;
    }
    for leaf in change.remove {
        builder = builder.remove_member(leaf)?;
    }
    if let Some(context) = change.context {
        builder = builder.set_group_context_ext(context)?;
    }
    Ok(builder)
}

/// The vault's cursor that is 1 while the pending change only carries out what was proposed.
fn carrying(conversation: &ConversationId) -> String {
    format!("carrying/{conversation}")
}

fn title_fits(title: &str) -> Result<(), SessionError> {
    let (actual, max) = (title.len(), TITLE_BYTES_MAX);
    if actual <= max { Ok(()) } else { Err(SessionError::TooLarge { what: "a title", actual, max }) }
}
