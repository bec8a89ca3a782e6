//! A device's MLS sessions (RFC 9420), with their state in the vault.
//!
//! [`Session`] is one device: its key, its certificate chain, and every conversation that it is in. Each call
//! loads the group that it needs from the vault, and writes it back in the same transaction as what came of
//! it (see [`crate::vault`]); nothing is kept in memory in between. So an error leaves everything as it was,
//! also where the library has consumed a key already, and several processes may work on one vault. What somebody wrote who has left since
//! is read in the group as it was then, which is kept for some days.
//!
//! - [`change`]: founding a conversation, and changes of who is in it. A change is *pending* until the owner
//!   trust's node has published it: another one may come first, and then ours is void.
//! - [`send`]: encrypting, into the outbox.
//! - [`receive`]: what the node delivers. The caller has verified each envelope's record: nobody on the way
//!   can make a session decrypt what no member's node sent.
//! - [`content`]: what a message says, inside the encryption.

pub mod change;
pub mod content;
pub mod receive;
pub mod send;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::mls::identity::{CredentialError, chain_of, credential};
use lanyard_crypto::mls::policy::{POLICY_EXTENSION, PolicyError};
use lanyard_crypto::mls::rules::RuleError;
use lanyard_crypto::mls::{
    ChainVerifier, DeviceIdentity, Policy, Rules, Suite, X509Identities, mls_time, suite,
};
use lanyard_crypto::x509::SecretKey;
use lanyard_crypto::{ConversationId, Fingerprint, Timestamp, TrustId};
use mls_rs::client_builder::{
    BaseConfig, ClientBuilder, WithCryptoProvider, WithGroupStateStorage, WithIdentityProvider,
    WithKeyPackageRepo, WithMlsRules,
};
use mls_rs::error::MlsError;
use mls_rs::extension::recommended::LastResortKeyPackageExt;
use mls_rs::extension::{ExtensionType, MlsExtension};
use mls_rs::identity::SigningIdentity;
use mls_rs::{Client, ExtensionList, Group};

use crate::vault::mls::MlsStore;
use crate::vault::reviews::{Reviewed, Reviewer, Seen};
use crate::vault::{Vault, VaultError};

pub use change::NodeSender;
pub use content::Content;
pub use receive::Received;

/// How long others may use a key package, in seconds: 90 days. It is replaced long before.
pub const KEY_PACKAGE_LIFE_SECS: u64 = 90 * 24 * 3600;

/// The extension of a welcome's GroupInfo that tells new members the title; encrypted to them alone. Private
/// use.
const TITLE_EXTENSION: ExtensionType = ExtensionType::new(0xF0A1);

type Config<V> = WithKeyPackageRepo<
    MlsStore,
    WithGroupStateStorage<
        MlsStore,
        WithMlsRules<
            Rules<V>,
            WithIdentityProvider<X509Identities<V>, WithCryptoProvider<Suite, BaseConfig>>,
        >,
    >,
>;

/// Why a session does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The disk.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The caller: no such conversation, or this device was removed from it.
    #[error("this device is not in conversation {0}")]
    NotIn(ConversationId),
    /// The caller: the owner trust has not answered the last change yet.
    #[error("a change of members of {0} is waiting for its owner trust; try again when it has answered")]
    ChangePending(ConversationId),
    /// A trust has proposed to remove a device; MLS lets nobody write before that is committed.
    #[error("a device is to be removed from {0} first: carry out the proposal")]
    CommitFirst(ConversationId),
    /// The caller: that device is not in the conversation.
    #[error("the device to remove is not in the conversation")]
    NoSuchMember,
    /// The caller: too large.
    #[error("{what} of {actual} bytes is too large: at most {max} are allowed")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// Its size in bytes.
        actual: usize,
        /// What is allowed.
        max: usize,
    },
    /// The caller: the certificate is for another key.
    #[error("the device's certificate is not for the device's key")]
    KeyMismatch,
    /// The caller, or a member's certificate.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The caller: a rule forbids it.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// The caller: not a policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The library refuses it; a rule that is broken inside it shows here too. Its own words, without
    /// content.
    #[error("refused by MLS: {0}")]
    Mls(#[from] MlsError),
    /// Another trust has put a member's message into an envelope of its own, which would outlive the deletion
    /// of the original.
    #[error("a message from {sender}, signed by {signer}")]
    OtherTrust {
        /// The trust of the device that encrypted it.
        sender: TrustId,
        /// The trust whose node signed the envelope.
        signer: TrustId,
    },
    /// The owner trust's node has published a review that is dated after it did so.
    #[error("a review of the members that is dated in the future")]
    FutureReview,
    /// This machine: no randomness.
    #[error("the operating system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// One member's device, as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionMember {
    /// Its leaf.
    pub index: u32,
    /// Who it is, by its certificate.
    pub device: DeviceIdentity,
    /// Whether its person administers the conversation.
    pub admin: bool,
    /// Its certificate and its registrar's, DER. They reached a charter's root when it came: dates and revocation were
    /// not asked for here.
    pub chain: Vec<Vec<u8>>,
}

/// See the module.
pub struct Session<V: ChainVerifier> {
    vault: Vault,
    client: Client<Config<V>>,
    identities: X509Identities<V>,
    rules: Rules<V>,
    device: DeviceIdentity,
}

impl<V: ChainVerifier> Session<V> {
    /// The sessions of the device with this key and this chain (its certificate and its registrar's, DER).
    ///
    /// # Errors
    /// [`SessionError::KeyMismatch`], or [`SessionError::Credential`] if the chain is not readable. Whether
    /// others believe it is not asked here.
    pub fn open(
        vault: Vault,
        verifier: Arc<V>,
        key: &SecretKey,
        chain: &[Vec<u8>],
    ) -> Result<Self, SessionError> {
        let public = key.public().to_vec();
        let signing = SigningIdentity::new(credential(chain), public.clone().into());
        let identities = X509Identities::of_member(verifier.clone());
        let device = identities.read(&signing)?;
        if device.key.as_slice() != public {
            return Err(SessionError::KeyMismatch);
        }
        let rules = Rules::new(verifier);
        let client = client(&identities, &rules, vault.mls_store())
            .signing_identity(signing, key.to_seed().to_vec().into(), suite::LANYARD)
            .build();
        Ok(Self { vault, client, identities, rules, device })
    }

    /// This device.
    pub fn device(&self) -> &DeviceIdentity {
        &self.device
    }

    /// The vault, to read from.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The vault, to erase from.
    pub fn vault_mut(&mut self) -> &mut Vault {
        &mut self.vault
    }

    /// Does `work` in one transaction of the vault: see [`Vault::transaction`]. So a cursor moves together
    /// with what was received.
    ///
    /// # Errors
    /// What `work` returns, or the disk's.
    pub fn transaction<T, E: From<VaultError>>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.vault.begin()?;
        let result = work(self);
        self.vault.end(result)
    }

    /// Makes a key package by which others can add this device, and keeps its secrets. Of last resort: it may
    /// be used more than once, until a newer one has replaced it in the directory.
    ///
    /// # Errors
    /// The disk's.
    pub fn key_package(&mut self, now: Timestamp) -> Result<Vec<u8>, SessionError> {
        self.transaction(|session| {
            session.vault.forget_key_packages_before(now)?;
            let last_resort = LastResortKeyPackageExt.into_extension().map_err(MlsError::from)?;
            let extensions = ExtensionList::from(vec![last_resort]);
            let at = Some(mls_time(now));
            let package =
                session.client.generate_key_package_message(extensions, ExtensionList::new(), at)?;
            Ok(package.to_bytes()?)
        })
    }

    /// Who is in a conversation, in the order of their leaves.
    ///
    /// # Errors
    /// [`SessionError::NotIn`], or the disk's.
    pub fn members(&self, conversation: &ConversationId) -> Result<Vec<SessionMember>, SessionError> {
        let group = self.group(conversation)?;
        let policy = Policy::of(&group.context().extensions)?;
        let member = |m: mls_rs::group::Member| {
            let device = self.identities.read(&m.signing_identity)?;
            let chain = chain_of(&m.signing_identity)?.into_iter().map(<[u8]>::to_vec).collect();
            Ok(SessionMember { index: m.index, admin: policy.is_admin(&device.person), device, chain })
        };
        group.roster().members_iter().map(member).collect()
    }

    /// What a conversation is for, and who administers it.
    ///
    /// # Errors
    /// As [`Session::members`].
    pub fn policy(&self, conversation: &ConversationId) -> Result<Policy, SessionError> {
        Ok(Policy::of(&self.group(conversation)?.context().extensions)?)
    }

    /// How long a conversation's messages live at most by its own setting, in seconds, if it has one. Of a conversation that this
    /// device has left, as it was then. It stands in the vault beside the group, which need not be loaded for it.
    ///
    /// # Errors
    /// The disk's.
    pub fn retention_secs(&self, conversation: &ConversationId) -> Result<Option<u64>, SessionError> {
        match self.vault.cursor(&setting(conversation))? {
            // It has none, or an earlier version has not noted it.
            0 => match self.policy(conversation) {
                Err(SessionError::NotIn(_)) => Ok(None),
                policy => Ok(policy?.retention_secs()),
            },
            secs => Ok(Some(secs)),
        }
    }

    /// Notes a conversation's setting: in the transaction that stores the group's state.
    fn note_retention(&self, conversation: &ConversationId, policy: &Policy) -> Result<(), VaultError> {
        self.vault.set_cursor(&setting(conversation), policy.retention_secs().unwrap_or(0))
    }

    /// Notes a group's last review, with who is in it now, unless it was noted before: in the transaction that stores its state. With
    /// `anew`, in any case: the group was founded, or joined, at this moment.
    fn note_review(
        &self,
        conversation: &ConversationId,
        group: &Group<Config<V>>,
        at: Timestamp,
        anew: bool,
    ) -> Result<(), SessionError> {
        let policy = Policy::of(&group.context().extensions)?;
        let Some(review) = policy.review() else { return Ok(()) };
        let noted = self.vault.reviewed(conversation)?;
        let is_noted = |noted: Reviewed| {
            noted.at == review.at()
                && noted.terms == review.terms()
                && noted.by.is_some_and(|by| by.is(review.by()))
        };
        if noted.is_some_and(is_noted) && !anew {
            return Ok(());
        }
        let (mut certificates, mut known) = (Vec::new(), None);
        for member in group.roster().members_iter() {
            let device = self.identities.read(&member.signing_identity)?;
            certificates.extend(chain_of(&member.signing_identity)?.first().map(|leaf| leaf.to_vec()));
            if device.person == *review.by() {
                known = Some((device.name, device.role, device.trust.to_string()));
            }
        }
        let by = Some(Reviewer { person: *review.by().as_bytes(), known });
        let admins = policy.admins().iter().map(|admin| *admin.as_bytes()).collect();
        let reviewed = Reviewed { at: review.at(), terms: review.terms(), by };
        Ok(self.vault.put_reviewed(conversation, &reviewed, &Seen { at, certificates, admins })?)
    }

    /// Notes who is in a group as it is now: in the transaction that stores its state.
    fn note_members(
        &self,
        conversation: &ConversationId,
        group: &Group<Config<V>>,
        since: impl Fn(&Fingerprint) -> Option<Timestamp>,
    ) -> Result<(), SessionError> {
        let mut devices = Vec::new();
        for member in group.roster().members_iter() {
            let device = self.identities.read(&member.signing_identity)?;
            self.vault.put_device_of(&device.person, &device.fingerprint)?;
            devices.push(device.fingerprint);
        }
        Ok(self.vault.members_are(conversation, &devices, group.current_epoch(), since)?)
    }

    /// The epoch that a conversation is in.
    ///
    /// # Errors
    /// As [`Session::members`].
    pub fn epoch(&self, conversation: &ConversationId) -> Result<u64, SessionError> {
        Ok(self.group(conversation)?.current_epoch())
    }

    /// Whether a change of this device is waiting for the owner trust.
    ///
    /// # Errors
    /// As [`Session::members`].
    pub fn is_change_pending(&self, conversation: &ConversationId) -> Result<bool, SessionError> {
        Ok(self.group(conversation)?.has_pending_commit())
    }

    /// Whether a trust's proposal waits for a commit, so that nobody can write.
    ///
    /// # Errors
    /// As [`Session::members`].
    pub fn must_carry_out(&self, conversation: &ConversationId) -> Result<bool, SessionError> {
        Ok(self.group(conversation)?.commit_required())
    }

    /// A group as it was in this epoch, or in a later one before which nobody has left: if that was kept, and had not ended before the
    /// moment `issued`, at which nobody who has left could write any more.
    fn former_group(
        &self,
        conversation: &ConversationId,
        epoch: u64,
        (issued, now): (Timestamp, Timestamp),
    ) -> Result<Option<Group<Config<V>>>, SessionError> {
        let id = conversation.to_bytes();
        let kept = self.vault.former_epoch(&id, epoch, now)?;
        let had_not_ended = |(_, ended): &(u64, Timestamp)| issued <= ended.plus_secs(CLOCK_SKEW_SECS_MAX);
        let Some((kept, _)) = kept.filter(had_not_ended) else { return Ok(None) };
        // A state brings the key to sign with; nothing is written in this one.
        let client = client(&self.identities, &self.rules, self.vault.former_mls_store(kept)).build();
        Ok(Some(client.load_group(&id)?))
    }

    fn group(&self, conversation: &ConversationId) -> Result<Group<Config<V>>, SessionError> {
        match self.client.load_group(&conversation.to_bytes()) {
            Err(MlsError::GroupNotFound) => Err(SessionError::NotIn(conversation.clone())),
            loaded => Ok(loaded?),
        }
    }
}

/// A client of the MLS library that keeps its state there.
fn client<V: ChainVerifier>(
    identities: &X509Identities<V>,
    rules: &Rules<V>,
    store: MlsStore,
) -> ClientBuilder<Config<V>> {
    Client::builder()
        .crypto_provider(Suite::new())
        .identity_provider(identities.clone())
        .mls_rules(rules.clone())
        .group_state_storage(store.clone())
        .key_package_repo(store)
        .extension_types([POLICY_EXTENSION, TITLE_EXTENSION])
        .key_package_lifetime(Duration::from_secs(KEY_PACKAGE_LIFE_SECS))
}

/// The vault's cursor that holds a conversation's own setting of how long messages live, in seconds; 0 if it has none.
fn setting(conversation: &ConversationId) -> String {
    format!("setting/{conversation}")
}
