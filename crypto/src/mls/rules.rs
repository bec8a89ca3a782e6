//! Which changes of a group are allowed. Every member enforces this, and the node that orders commits too, so
//! that a change which one of them refuses no other takes.
//!
//! - Only administrators (see [`Policy`]) add and remove members and change the policy; its class never
//!   changes.
//! - Of the policy, only administrators of the owner trust change how long messages live, and record that they have reviewed the
//!   members ([`super::Review`]): each in their own name, and never for an earlier moment than the last one. Beside that, such a commit only
//!   removes members.
//! - Any member may commit: to renew its own keys, or to carry out what is listed next.
//! - A node among the group's external senders (RFC 9420, section 12.1.8.1) may propose to remove members of
//!   its own trust, such as a revoked device; the owner trust's node, any member.
//! - Nobody joins by an external commit, and nothing is re-initialised or joined by pre-shared keys.
//! - An administrator of the owner trust stays in the group, unless the last one is removed by a trust; whoever carries that out takes out no
//!   other one beside it. Then any member of the owner trust may become one, in place of those who are gone.
//!
//! Handshakes travel as PublicMessage, since the ordering node must read them; every commit has a path, so
//! that it renews keys; application messages are padded in steps, so that their length says little.

use std::collections::BTreeSet;
use std::sync::Arc;

use mls_rs::client_builder::PaddingMode;
use mls_rs::error::IntoAnyError;
use mls_rs::extension::ExtensionType;
use mls_rs::extension::built_in::ExternalSendersExt;
use mls_rs::group::proposal::BorrowedProposal;
use mls_rs::group::{GroupContext, Member, Roster, Sender};
use mls_rs::identity::SigningIdentity;
use mls_rs::mls_rules::{
    CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle, ProposalInfo,
};
use mls_rs::{ExtensionList, MlsRules};

use super::identity::{ChainVerifier, CredentialError, DeviceIdentity, X509Identities};
use super::policy::{POLICY_EXTENSION, Policy, PolicyError};
use super::review::Review;
use crate::{ConversationId, TrustId, limits};

/// Devices in one group.
pub const MEMBERS_MAX: usize = 1000;
/// Nodes that may propose to a group: one for each custodian.
pub const EXTERNAL_SENDERS_MAX: usize = limits::CUSTODIANS_MAX;

/// Why a change is refused. The fault of who proposed or committed it, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The proposer does not administer the conversation.
    #[error("only an administrator of the conversation may {0}")]
    NotAdmin(&'static str),
    /// A trust may remove its own people; only the owner trust may remove others.
    #[error("a node may only propose to remove members of its own trust, unless it is the owner trust's")]
    NotItsMember,
    /// A kind of change that nobody makes here.
    #[error("{0} is not allowed in a conversation")]
    NotAllowed(&'static str),
    /// Nobody of the owner trust would be left who can add, remove and review members.
    #[error(
        "at least one administrator from {0}, which owns the conversation, must stay in it: make another member from {0} an \
         administrator first"
    )]
    NoAdminLeft(TrustId),
    /// How long messages live is the owner trust's to say.
    #[error("only an administrator from {0}, which owns the conversation, may change how long messages live")]
    NotOwnersAdmin(TrustId),
    /// Looking through the members is the owner trust's to say.
    #[error(
        "only an administrator from {0}, which owns the conversation, may record a review of its members"
    )]
    NotOwnersReview(TrustId),
    /// Somebody else's name, an earlier moment, or none where there was one.
    #[error(
        "a review is recorded in the reviewer's own name, and none is taken back or dated before the last one"
    )]
    WrongReview,
    /// What was looked through is what is committed to.
    #[error("a review of the members is recorded alone, or with the removal of some of them")]
    ReviewAlone,
    /// The class is set once.
    #[error("the class of a conversation cannot be changed")]
    ClassChanged,
    /// An extension that has no place in the group context.
    #[error("group context extension {0:#06x} is not allowed")]
    Extension(u16),
    /// Too many members, trusts or external senders.
    #[error("a conversation has at most {max} {what}, and this would make {count}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there would be.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// The policy does not hold.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A member's or external sender's credential is not readable.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The sender is not, or no longer, in the group.
    #[error("the sender is not in the group")]
    UnknownSender,
    /// The group's id does not name its owner trust.
    #[error("the group id is not a conversation id")]
    GroupId,
}

impl IntoAnyError for RuleError {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

/// The rules, for the MLS library.
#[derive(Debug)]
pub struct Rules<V> {
    identities: X509Identities<V>,
}

// Derived, it would ask for `V: Clone`.
impl<V> Clone for Rules<V> {
    fn clone(&self) -> Self {
        Self { identities: self.identities.clone() }
    }
}

impl<V: ChainVerifier> Rules<V> {
    /// Rules that read members' certificates by `verifier`.
    pub fn new(verifier: Arc<V>) -> Self {
        Self { identities: X509Identities::new(verifier) }
    }

    /// Checks the extensions of a group context, of a new group or after a change.
    ///
    /// # Errors
    /// [`RuleError`]: another extension than ours, a policy that does not hold, unreadable or too many
    /// external senders.
    pub fn check_context(&self, extensions: &ExtensionList) -> Result<Policy, RuleError> {
        for extension in extensions.iter() {
            match extension.extension_type {
                POLICY_EXTENSION | ExtensionType::EXTERNAL_SENDERS | ExtensionType::REQUIRED_CAPABILITIES => {
                }
                other => return Err(RuleError::Extension(other.raw_value())),
            }
        }
        let senders = external_senders(extensions)?;
        at_most("external senders", senders.len(), EXTERNAL_SENDERS_MAX)?;
        for sender in &senders {
            self.identities.read(sender)?;
        }
        Ok(Policy::of(extensions)?)
    }

    fn check(
        &self,
        proposal: &ProposalInfo<BorrowedProposal<'_>>,
        roster: &Roster<'_>,
        context: &GroupContext,
        policy: &Policy,
    ) -> Result<(), RuleError> {
        let by_admin = |what| match proposal.sender {
            Sender::Member(index) if policy.is_admin(&self.member(roster, index)?.person) => Ok(()),
            _ => Err(RuleError::NotAdmin(what)),
        };
        match &proposal.proposal {
            BorrowedProposal::Add(_) => by_admin("add members"),
            BorrowedProposal::Remove(remove) => match proposal.sender {
                Sender::External(sender) => self.by_trust(sender, remove.to_remove(), roster, context),
                _ => by_admin("remove members"),
            },
            BorrowedProposal::GroupContextExtensions(extensions) => {
                let after = self.check_context(extensions)?;
                if let Err(why) = by_admin("change the policy")
                    && !self.is_succession(proposal.sender, roster, context, extensions)?
                {
                    return Err(why);
                }
                if after.retention_secs() != policy.retention_secs()
                    && self.owners(proposal.sender, roster, context)?.is_none()
                {
                    return Err(RuleError::NotOwnersAdmin(owner(context)?));
                }
                if after.review() != policy.review() {
                    let by = self.owners(proposal.sender, roster, context)?;
                    let by = by.ok_or(RuleError::NotOwnersReview(owner(context)?))?;
                    let review = check_review(&by, policy, &after)?;
                    let mut allowed = context.extensions.clone();
                    allowed.set(policy.clone().with_review(review).to_extension());
                    if allowed != **extensions {
                        return Err(RuleError::ReviewAlone);
                    }
                }
                if after.class() == policy.class() { Ok(()) } else { Err(RuleError::ClassChanged) }
            }
            BorrowedProposal::Update(_) => Err(RuleError::NotAllowed("an Update proposal")),
            BorrowedProposal::ReInit(_) => Err(RuleError::NotAllowed("re-initialisation")),
            BorrowedProposal::ExternalInit(_) => Err(RuleError::NotAllowed("an external commit")),
            #[allow(
                unreachable_patterns,
                reason = "more kinds exist if another crate turns on the library's features"
            )]
            _ => Err(RuleError::NotAllowed("this kind of proposal")),
        }
    }

    /// The sender, if it is a member from the owner trust.
    fn owners(
        &self,
        sender: Sender,
        roster: &Roster<'_>,
        context: &GroupContext,
    ) -> Result<Option<DeviceIdentity>, RuleError> {
        match sender {
            Sender::Member(index) => {
                let member = self.member(roster, index)?;
                Ok((member.trust == owner(context)?).then_some(member))
            }
            _ => Ok(None),
        }
    }

    /// Whether a member from the owner trust becomes an administrator, and changes nothing else, where none from there is left. Those who have
    /// gone keep no place, so that there is one.
    fn is_succession(
        &self,
        sender: Sender,
        roster: &Roster<'_>,
        context: &GroupContext,
        after: &ExtensionList,
    ) -> Result<bool, RuleError> {
        let Some(member) = self.owners(sender, roster, context)? else { return Ok(false) };
        let before = Policy::of(&context.extensions)?;
        let mut admins = vec![member.person];
        for other in roster.members_iter() {
            let other = self.identities.read(&other.signing_identity)?;
            if !before.is_admin(&other.person) {
                continue;
            }
            if other.trust == member.trust {
                return Ok(false);
            }
            admins.push(other.person);
        }
        let mut allowed = context.extensions.clone();
        allowed.set(before.clone().with_admins(admins)?.to_extension());
        Ok(allowed == *after)
    }

    fn by_trust(
        &self,
        sender: u32,
        target: u32,
        roster: &Roster<'_>,
        context: &GroupContext,
    ) -> Result<(), RuleError> {
        let senders = external_senders(&context.extensions)?;
        let sender = senders.get(sender as usize).ok_or(RuleError::UnknownSender)?;
        let trust = self.identities.read(sender)?.trust;
        let fits = trust == owner(context)? || trust == self.member(roster, target)?.trust;
        if fits { Ok(()) } else { Err(RuleError::NotItsMember) }
    }

    /// What must hold of all proposals together.
    fn check_outcome(
        &self,
        proposals: &ProposalBundle,
        roster: &Roster<'_>,
        context: &GroupContext,
        policy: &Policy,
    ) -> Result<(), RuleError> {
        let removes = proposals.remove_proposals();
        let removed: BTreeSet<u32> = removes.iter().map(|r| r.proposal.to_remove()).collect();
        let stay = roster.members_iter().filter(|m| !removed.contains(&m.index));
        let added =
            proposals.add_proposals().iter().map(|a| self.identities.read(a.proposal.signing_identity()));
        let after: Vec<DeviceIdentity> =
            stay.map(|m| self.identities.read(&m.signing_identity)).chain(added).collect::<Result<_, _>>()?;
        at_most("devices", after.len(), MEMBERS_MAX)?;
        let trusts: BTreeSet<&TrustId> = after.iter().map(|m| &m.trust).collect();
        at_most("trusts", trusts.len(), limits::CUSTODIANS_MAX)?;

        let changed = proposals.group_context_ext_proposals().first();
        let policy_after = changed.map(|c| Policy::of(&c.proposal)).transpose()?;
        let policy_after = policy_after.as_ref().unwrap_or(policy);
        if policy_after.review() != policy.review() && !proposals.add_proposals().is_empty() {
            return Err(RuleError::ReviewAlone);
        }
        let owner = owner(context)?;
        let is_theirs =
            |member: &DeviceIdentity, by: &Policy| member.trust == owner && by.is_admin(&member.person);
        // Whom a trust takes out is not the committer's doing, and counts as if they stayed.
        let by_trust: BTreeSet<u32> = removes
            .iter()
            .filter(|r| matches!(r.sender, Sender::External(_)))
            .map(|r| r.proposal.to_remove())
            .collect();
        // Where none was, as after a removal by a trust, none can stay.
        let mut had = false;
        let mut has = after.iter().any(|member| is_theirs(member, policy_after));
        for member in roster.members_iter() {
            let identity = self.identities.read(&member.signing_identity)?;
            had |= is_theirs(&identity, policy);
            has |= by_trust.contains(&member.index) && is_theirs(&identity, policy_after);
        }
        if has || !had { Ok(()) } else { Err(RuleError::NoAdminLeft(owner)) }
    }

    fn member(&self, roster: &Roster<'_>, index: u32) -> Result<DeviceIdentity, RuleError> {
        let member: Member = roster.member_with_index(index).map_err(|_| RuleError::UnknownSender)?;
        Ok(self.identities.read(&member.signing_identity)?)
    }
}

impl<V: ChainVerifier> MlsRules for Rules<V> {
    type Error = RuleError;

    fn filter_proposals(
        &self,
        direction: CommitDirection,
        source: CommitSource,
        roster: &Roster<'_>,
        context: &GroupContext,
        mut proposals: ProposalBundle,
    ) -> Result<ProposalBundle, RuleError> {
        if let CommitSource::NewMember(_) = source {
            return Err(RuleError::NotAllowed("an external commit"));
        }
        let policy = Policy::of(&context.extensions)?;
        if direction == CommitDirection::Send {
            // A bad proposal that somebody sent must not keep us from ever committing: it is left out.
            proposals.retain(|p| {
                Ok::<_, RuleError>(p.is_by_value() || self.check(p, roster, context, &policy).is_ok())
            })?;
        }
        for proposal in proposals.iter_proposals() {
            self.check(&proposal, roster, context, &policy)?;
        }
        self.check_outcome(&proposals, roster, context, &policy)?;
        Ok(proposals)
    }

    fn commit_options(
        &self,
        _: &Roster<'_>,
        _: &GroupContext,
        _: &ProposalBundle,
    ) -> Result<CommitOptions, RuleError> {
        Ok(CommitOptions::new().with_path_required(true).with_ratchet_tree_extension(true))
    }

    fn encryption_options(&self, _: &Roster<'_>, _: &GroupContext) -> Result<EncryptionOptions, RuleError> {
        Ok(EncryptionOptions::new(false, PaddingMode::StepFunction))
    }
}

/// The nodes that may propose to a group with these extensions.
///
/// # Errors
/// [`RuleError::Extension`] if the list is not readable.
pub fn external_senders(extensions: &ExtensionList) -> Result<Vec<SigningIdentity>, RuleError> {
    let unreadable = |_| RuleError::Extension(ExtensionType::EXTERNAL_SENDERS.raw_value());
    let senders = extensions.get_as::<ExternalSendersExt>().map_err(unreadable)?;
    Ok(senders.map(|list| list.allowed_senders).unwrap_or_default())
}

fn owner(context: &GroupContext) -> Result<TrustId, RuleError> {
    let id = ConversationId::try_from(context.group_id.as_slice()).map_err(|_| RuleError::GroupId)?;
    Ok(id.owner().clone())
}

fn check_review(by: &DeviceIdentity, before: &Policy, after: &Policy) -> Result<Review, RuleError> {
    let is_earlier = |review: &Review| before.review().is_some_and(|last| review.at() < last.at());
    match after.review() {
        Some(review) if *review.by() == by.person && !is_earlier(review) => Ok(*review),
        _ => Err(RuleError::WrongReview),
    }
}

fn at_most(what: &'static str, count: usize, max: usize) -> Result<(), RuleError> {
    if count <= max { Ok(()) } else { Err(RuleError::TooMany { what, count, max }) }
}
