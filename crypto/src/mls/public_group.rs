//! A conversation as its owner trust's node sees it: the public tree and context, and no secret.
//!
//! The node (the hub of draft-ietf-mimi-arch) accepts exactly one commit per epoch. It uses the library's
//! external client alone, which cannot hold a group's secrets. From the first GroupInfo on, it follows every
//! commit and checks signatures, the tree and the [`Rules`]. What it cannot check are the confirmation and
//! membership tags, for which the group's secrets are needed: a malicious member can have a commit accepted
//! that all members refuse. They report that, and a commit that supersedes it repairs it.
//!
//! Deviations from what the external client accepts: PrivateMessage handshakes, messages of other epochs and
//! groups, external commits, proposals by members (they would keep everyone from sending until somebody
//! commits them), and commits by a device that is revoked or lapsed at that moment are all refused here.

use std::collections::BTreeSet;
use std::sync::Arc;

use mls_rs::MlsMessage;
use mls_rs::error::MlsError;
use mls_rs::external_client::builder::{
    ExternalBaseConfig, WithCryptoProvider, WithIdentityProvider, WithMlsRules,
};
use mls_rs::external_client::{ExternalClient, ExternalGroup, ExternalReceivedMessage, ExternalSnapshot};
use mls_rs::group::proposal::Proposal;
use mls_rs::group::{CommitEffect, ProposalSender};
use mls_rs::identity::SigningIdentity;

use super::identity::{ChainVerifier, CredentialError, DeviceIdentity, X509Identities, chain_of, credential};
use super::mls_time;
use super::peek::{Content, Peek, PeekError, decode};
use super::policy::{POLICY_EXTENSION, Policy};
use super::rules::{MEMBERS_MAX, RuleError, Rules, external_senders};
use super::suite::Suite;
use crate::{ConversationId, Timestamp, TrustId, limits, x509};

type Config<V> = WithMlsRules<
    Rules<V>,
    WithIdentityProvider<X509Identities<V>, WithCryptoProvider<Suite, ExternalBaseConfig>>,
>;

/// Why the ordering node refuses. The fault of who sent the bytes, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum PublicGroupError {
    /// Not a message that could be one.
    #[error(transparent)]
    Message(#[from] PeekError),
    /// Another kind of message than is asked for here.
    #[error("{0} is needed here")]
    Kind(&'static str),
    /// Of another conversation.
    #[error("the message is not of conversation {0}")]
    OtherGroup(ConversationId),
    /// Another commit was accepted for this epoch, or this one is from a future that the node has not seen.
    #[error("the message is for epoch {actual}, and the conversation is in epoch {current}")]
    Epoch {
        /// The epoch that the message names.
        actual: u64,
        /// The conversation's.
        current: u64,
    },
    /// The conversation is in an epoch after which none can be counted: its founder's fault.
    #[error("epoch {0} is the last that can be counted")]
    LastEpoch(u64),
    /// Not made with the one cipher suite.
    #[error("the group has another cipher suite")]
    Suite,
    /// A rule forbids it.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// A member's certificate does not hold.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The library refuses it: a signature, the tree or a rule. Its own words.
    #[error("refused by MLS: {0}")]
    Mls(MlsError),
    /// The disk: what was stored is not a snapshot.
    #[error("the stored state of the conversation is not readable")]
    Snapshot,
}

/// A node's right to propose: its chain and its key, as listed among a group's external senders.
#[derive(Clone, Copy, Debug)]
pub struct NodeSigner<'a> {
    /// The node's certificate and its registrar's, DER.
    pub chain: &'a [Vec<u8>],
    /// The node's key.
    pub key: &'a x509::SecretKey,
}

/// One member, as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicMember {
    /// Its leaf.
    pub index: u32,
    /// Who it is.
    pub device: DeviceIdentity,
}

/// What an accepted commit changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The epoch that it began.
    pub epoch: u64,
    /// Who made it.
    pub committer: DeviceIdentity,
    /// Whom it added.
    pub added: Vec<DeviceIdentity>,
    /// Whom it removed.
    pub removed: Vec<DeviceIdentity>,
}

/// A certificate and those above it, DER, the leaf first.
pub type Chain = Vec<Vec<u8>>;

/// See the module. Made by [`PublicGroup::observe`] or [`PublicGroup::load`]; fed by
/// [`PublicGroup::accept_commit`]; [`PublicGroup::snapshot`] is stored with each accepted commit.
pub struct PublicGroup<V: ChainVerifier> {
    conversation: ConversationId,
    identities: X509Identities<V>,
    rules: Rules<V>,
    group: ExternalGroup<Config<V>>,
    policy: Policy,
}

impl<V: ChainVerifier> PublicGroup<V> {
    /// Begins to observe a conversation from its GroupInfo with the ratchet tree. Every member is verified at
    /// this moment, and the signer of the GroupInfo must administer the conversation. Its founding may count as a review: the signer's.
    ///
    /// # Errors
    /// [`PublicGroupError`], all of them the sender's fault.
    pub fn observe(
        verifier: Arc<V>,
        conversation: &ConversationId,
        group_info: &[u8],
        at: Timestamp,
    ) -> Result<Self, PublicGroupError> {
        let message = decode(group_info, limits::HANDSHAKE_RECORD_BYTES_MAX)?;
        let info = message.as_group_info().ok_or(PublicGroupError::Kind("a GroupInfo"))?;
        if info.group_context().group_id != conversation.to_bytes() {
            return Err(PublicGroupError::OtherGroup(conversation.clone()));
        }
        if info.group_context().cipher_suite != Suite::new().id() {
            return Err(PublicGroupError::Suite);
        }
        let signer = info.sender();
        let client = client(verifier.clone(), None);
        let group = client.observe_group(message, None, Some(mls_time(at))).map_err(PublicGroupError::Mls)?;
        let group = Self::from_group(verifier, conversation.clone(), group)?;
        let members = group.members()?;
        if members.len() > MEMBERS_MAX {
            return Err(RuleError::TooMany { what: "devices", count: members.len(), max: MEMBERS_MAX }.into());
        }
        for member in group.group.roster().members_iter() {
            group.identities.verify(&member.signing_identity, Some(at))?;
        }
        let founder = members.iter().find(|m| m.index == signer && group.policy.is_admin(&m.device.person));
        let founder = founder.ok_or(RuleError::NotAdmin("found a conversation"))?;
        match group.policy.review() {
            Some(review) if *review.by() != founder.device.person => Err(RuleError::WrongReview.into()),
            _ => Ok(group),
        }
    }

    /// Continues from [`PublicGroup::snapshot`]. With a `signer`, the node can propose removals.
    ///
    /// # Errors
    /// [`PublicGroupError::Snapshot`] if the bytes are not one.
    pub fn load(
        verifier: Arc<V>,
        snapshot: &[u8],
        signer: Option<NodeSigner<'_>>,
    ) -> Result<Self, PublicGroupError> {
        let snapshot = ExternalSnapshot::from_bytes(snapshot).map_err(|_| PublicGroupError::Snapshot)?;
        let id = snapshot.context().group_id.as_slice();
        let conversation = ConversationId::try_from(id).map_err(|_| PublicGroupError::Snapshot)?;
        let group =
            client(verifier.clone(), signer).load_group(snapshot).map_err(|_| PublicGroupError::Snapshot)?;
        Self::from_group(verifier, conversation, group)
    }

    fn from_group(
        verifier: Arc<V>,
        conversation: ConversationId,
        group: ExternalGroup<Config<V>>,
    ) -> Result<Self, PublicGroupError> {
        let rules = Rules::new(verifier.clone());
        let policy = rules.check_context(&group.group_context().extensions)?;
        Ok(Self { conversation, identities: X509Identities::new(verifier), rules, group, policy })
    }

    /// What is stored of it: no secret of the group, yet who is in it.
    ///
    /// # Errors
    /// [`PublicGroupError::Mls`], if the library cannot encode its own state.
    pub fn snapshot(&self) -> Result<Vec<u8>, PublicGroupError> {
        self.group.snapshot().to_bytes().map_err(PublicGroupError::Mls)
    }

    /// The conversation.
    pub fn conversation(&self) -> &ConversationId {
        &self.conversation
    }

    /// The epoch that the last accepted commit began.
    pub fn epoch(&self) -> u64 {
        self.group.group_context().epoch
    }

    /// What the conversation is for, and who administers it.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Its members, in the order of their leaves.
    ///
    /// # Errors
    /// [`PublicGroupError::Credential`], if a stored chain is not readable.
    pub fn members(&self) -> Result<Vec<PublicMember>, PublicGroupError> {
        let roster = self.group.roster();
        let member = |m: mls_rs::group::Member| {
            Ok(PublicMember { index: m.index, device: self.identities.read(&m.signing_identity)? })
        };
        roster.members_iter().map(member).collect()
    }

    /// The same, each with its chain (DER, leaf first).
    ///
    /// # Errors
    /// As [`PublicGroup::members`].
    pub fn member_chains(&self) -> Result<Vec<(PublicMember, Chain)>, PublicGroupError> {
        let roster = self.group.roster();
        let member = |m: mls_rs::group::Member| {
            let chain = chain_of(&m.signing_identity)?.into_iter().map(<[u8]>::to_vec).collect();
            Ok((PublicMember { index: m.index, device: self.identities.read(&m.signing_identity)? }, chain))
        };
        roster.members_iter().map(member).collect()
    }

    /// The chain with which this key is listed among those that may propose, if it is.
    pub fn sender_chain(&self, key: &[u8; 32]) -> Option<Vec<Vec<u8>>> {
        let senders = external_senders(&self.group.group_context().extensions).ok()?;
        let listed = senders.iter().find(|sender| *sender.signature_key == key[..])?;
        Some(chain_of(listed).ok()?.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// The trusts of its members, sorted: its custodians.
    ///
    /// # Errors
    /// As [`PublicGroup::members`].
    pub fn trusts(&self) -> Result<BTreeSet<TrustId>, PublicGroupError> {
        Ok(self.members()?.into_iter().map(|m| m.device.trust).collect())
    }

    /// Takes a commit (a PublicMessage for the present epoch) as of this moment. After an error, nothing has
    /// changed.
    ///
    /// # Errors
    /// [`PublicGroupError`], all of them the sender's fault.
    pub fn accept_commit(&mut self, commit: &[u8], at: Timestamp) -> Result<Accepted, PublicGroupError> {
        let message = self.admit(commit, Content::Commit)?;
        let Peek::Public { member: Some(committer), .. } = Peek::of_message(&message) else {
            return Err(RuleError::NotAllowed("an external commit").into());
        };
        // The library adds one without asking. Who founds a conversation states its first epoch, and may state the last.
        if self.epoch() == u64::MAX {
            return Err(PublicGroupError::LastEpoch(u64::MAX));
        }
        let before = self.members()?;
        let committer =
            self.group.roster().member_with_index(committer).map_err(|_| RuleError::UnknownSender)?;
        let committer = self.identities.verify(&committer.signing_identity, Some(at))?;

        // On a copy: the library may change its state before it finds a fault.
        let mut group = self.group.clone();
        let received =
            group.process_incoming_message_with_time(message, mls_time(at)).map_err(PublicGroupError::Mls)?;
        let ExternalReceivedMessage::Commit(description) = received else {
            return Err(PublicGroupError::Kind("a commit"));
        };
        let CommitEffect::NewEpoch(change) = description.effect else {
            return Err(RuleError::NotAllowed("re-initialisation").into());
        };
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for proposal in change.applied_proposals() {
            match &proposal.proposal {
                Proposal::Add(add) => added.push(self.identities.read(add.signing_identity())?),
                Proposal::Remove(remove) => {
                    let gone = before.iter().find(|m| m.index == remove.to_remove());
                    removed.extend(gone.map(|m| m.device.clone()));
                }
                _ => {}
            }
        }
        let policy = self.rules.check_context(&group.group_context().extensions)?;
        (self.group, self.policy) = (group, policy);
        Ok(Accepted { epoch: self.epoch(), committer, added, removed })
    }

    /// Takes a node's proposal to remove a member (a PublicMessage for the present epoch), for the next
    /// commit. Names the member's leaf. After an error, nothing has changed.
    ///
    /// # Errors
    /// [`PublicGroupError`], all of them the sender's fault.
    pub fn accept_proposal(&mut self, proposal: &[u8], at: Timestamp) -> Result<u32, PublicGroupError> {
        let message = self.admit(proposal, Content::Proposal)?;
        let mut group = self.group.clone();
        let received =
            group.process_incoming_message_with_time(message, mls_time(at)).map_err(PublicGroupError::Mls)?;
        let ExternalReceivedMessage::Proposal(description) = received else {
            return Err(PublicGroupError::Kind("a proposal"));
        };
        let ProposalSender::External(sender) = description.sender else {
            return Err(RuleError::NotAllowed("a proposal by a member").into());
        };
        let Proposal::Remove(remove) = description.proposal else {
            return Err(RuleError::NotAllowed("another proposal than Remove by a node").into());
        };
        let senders = external_senders(&self.group.group_context().extensions)?;
        let sender = senders.get(sender as usize).ok_or(RuleError::UnknownSender)?;
        let trust = self.identities.read(sender)?.trust;
        let members = self.members()?;
        let target =
            members.iter().find(|m| m.index == remove.to_remove()).ok_or(RuleError::UnknownSender)?;
        if trust != *self.conversation.owner() && trust != target.device.trust {
            return Err(RuleError::NotItsMember.into());
        }
        self.group = group;
        Ok(target.index)
    }

    /// Proposes to remove the member at this leaf, as the node that [`PublicGroup::load`] was given. Returns
    /// the proposal, which is published to all members; the next commit carries it out.
    ///
    /// # Errors
    /// [`PublicGroupError::Mls`], if the node is not among the external senders or the leaf is empty: the
    /// caller's fault.
    pub fn propose_remove(&mut self, index: u32) -> Result<Vec<u8>, PublicGroupError> {
        let proposal = self.group.propose_remove(index, Vec::new()).map_err(PublicGroupError::Mls)?;
        proposal.to_bytes().map_err(PublicGroupError::Mls)
    }

    /// Decodes a handshake message and holds it against this group's id and epoch.
    fn admit(&self, bytes: &[u8], wanted: Content) -> Result<MlsMessage, PublicGroupError> {
        let message = decode(bytes, limits::HANDSHAKE_RECORD_BYTES_MAX)?;
        let Peek::Public { group, epoch, content, .. } = Peek::of_message(&message) else {
            return Err(PublicGroupError::Kind("a PublicMessage"));
        };
        if content != wanted {
            let needed = if wanted == Content::Commit { "a commit" } else { "a proposal" };
            return Err(PublicGroupError::Kind(needed));
        }
        if group != self.conversation.to_bytes() {
            return Err(PublicGroupError::OtherGroup(self.conversation.clone()));
        }
        if epoch != self.epoch() {
            return Err(PublicGroupError::Epoch { actual: epoch, current: self.epoch() });
        }
        Ok(message)
    }
}

fn client<V: ChainVerifier>(verifier: Arc<V>, signer: Option<NodeSigner<'_>>) -> ExternalClient<Config<V>> {
    let builder = ExternalClient::builder()
        .crypto_provider(Suite::new())
        .identity_provider(X509Identities::new(verifier.clone()))
        .mls_rules(Rules::new(verifier))
        .extension_type(POLICY_EXTENSION);
    match signer {
        Some(NodeSigner { chain, key }) => {
            let identity = SigningIdentity::new(credential(chain), key.public().to_vec().into());
            builder.signer(key.to_seed().to_vec().into(), identity).build()
        }
        None => builder.build(),
    }
}
