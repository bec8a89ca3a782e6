//! Members are X.509 chains (RFC 9420, section 5.3) that reach a trust of the charter.
//!
//! A credential is the device's certificate and its registrar's, in this order; the root comes from the
//! charter, never from the peer. What makes a chain good is not decided here but by a [`ChainVerifier`]. The
//! MLS identity, which must differ between the members of a group, is the fingerprint of the device
//! certificate: one person may take part with several devices, and rights belong to the person
//! ([`PersonKey`]).

use std::error::Error;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use mls_rs::identity::{CredentialType, SigningIdentity};
use mls_rs::time::MlsTime;
use mls_rs::{ExtensionList, IdentityProvider};
use mls_rs_codec::{MlsDecode, MlsEncode, MlsSize};
use mls_rs_core::error::IntoAnyError;
use mls_rs_core::identity::{CertificateChain, Credential, MemberValidationContext};
use sha2::{Digest, Sha256};

use crate::x509::Certificate;
use crate::{Fingerprint, Timestamp, TrustId, labels};

/// Decides whether certificate chains are to be believed. The network's charter and revocations stand behind
/// it.
///
/// Chains are DER, leaf first, without the root.
pub trait ChainVerifier: Send + Sync + 'static {
    /// Why a chain is refused.
    type Error: Error + Send + Sync + 'static;

    /// Verifies a person's device.
    ///
    /// With a moment: in full, at that moment. Without one: signatures, names and purpose up to a charter's
    /// root, but neither validity in time nor revocation: see [`X509Identities`] for when that is asked.
    fn verify(&self, chain: &[&[u8]], at: Option<Timestamp>) -> Result<DeviceIdentity, Self::Error>;

    /// Verifies a trust's node, which may propose to remove members, and names the trust. Moments as in
    /// [`ChainVerifier::verify`].
    fn verify_node(&self, chain: &[&[u8]], at: Option<Timestamp>) -> Result<TrustId, Self::Error>;

    /// As [`ChainVerifier::verify`] with a moment, at which somebody who could tell has accepted what the device has signed: what was
    /// revoked since does not undo it.
    fn verify_as_of(&self, chain: &[&[u8]], at: Timestamp) -> Result<DeviceIdentity, Self::Error>;

    /// What a chain's leaf says, unverified: for members who were verified when they came into the group.
    fn read(&self, chain: &[&[u8]]) -> Result<DeviceIdentity, Self::Error>;
}

impl<V: ChainVerifier> ChainVerifier for RwLock<V> {
    type Error = V::Error;

    fn verify(&self, chain: &[&[u8]], at: Option<Timestamp>) -> Result<DeviceIdentity, V::Error> {
        self.read().unwrap_or_else(PoisonError::into_inner).verify(chain, at)
    }

    fn verify_node(&self, chain: &[&[u8]], at: Option<Timestamp>) -> Result<TrustId, V::Error> {
        self.read().unwrap_or_else(PoisonError::into_inner).verify_node(chain, at)
    }

    fn verify_as_of(&self, chain: &[&[u8]], at: Timestamp) -> Result<DeviceIdentity, V::Error> {
        RwLock::read(self).unwrap_or_else(PoisonError::into_inner).verify_as_of(chain, at)
    }

    fn read(&self, chain: &[&[u8]]) -> Result<DeviceIdentity, V::Error> {
        RwLock::read(self).unwrap_or_else(PoisonError::into_inner).read(chain)
    }
}

/// Who a device is, from its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceIdentity {
    /// The trust that certified it.
    pub trust: TrustId,
    /// Of the device certificate: the MLS identity.
    pub fingerprint: Fingerprint,
    /// The person whose device it is.
    pub person: PersonKey,
    /// The display name (CN).
    pub name: String,
    /// The role (title), if stated.
    pub role: Option<String>,
    /// The certified Ed25519 key.
    pub key: [u8; 32],
}

/// One person, whatever the device: SHA-256 over the trust and what identifies the person within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, MlsSize, MlsEncode, MlsDecode)]
pub struct PersonKey([u8; 32]);

impl PersonKey {
    /// By the professional registration; without one, by the device's key, since names alone are not unique:
    /// then each device counts as a person of its own, also over renewals of its certificate.
    pub fn of(trust: &TrustId, registration: Option<&str>, device_key: &[u8; 32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(labels::PERSON);
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(trust.as_str().as_bytes());
        match registration {
            Some(registration) => {
                part(b"registration");
                part(registration.as_bytes());
            }
            None => {
                part(b"device key");
                part(device_key);
            }
        }
        Self(hash.finalize().into())
    }

    /// [`PersonKey::of`] whom it names.
    pub fn of_certificate(certificate: &Certificate) -> Self {
        let subject = certificate.subject();
        Self::of(&subject.trust, subject.registration.as_deref(), certificate.public_key())
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for PersonKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::ids::to_hex(&self.0[..6]))
    }
}

/// Why a credential is refused. Always the fault of who shows it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// Not an X.509 credential.
    #[error("the credential is not an X.509 certificate chain")]
    NotX509,
    /// The MLS leaf is signed with another key than the certified one.
    #[error("the member's signature key is not the key of its certificate")]
    KeyMismatch,
    /// A new certificate in an old place names another person.
    #[error("a member's new certificate must name the same person")]
    OtherPerson,
    /// The chain does not reach a trust of the charter, or not now.
    #[error("the certificate chain is refused: {0}")]
    Chain(#[source] Box<dyn Error + Send + Sync>),
}

impl IntoAnyError for CredentialError {
    fn into_dyn_error(self) -> Result<Box<dyn Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

/// An MLS credential from a chain (DER, leaf first).
pub fn credential<C: AsRef<[u8]>>(chain: &[C]) -> Credential {
    CertificateChain::from(chain.iter().map(|c| c.as_ref().to_vec()).collect::<Vec<_>>()).into_credential()
}

/// The chain (DER, leaf first) in a member's credential.
pub fn chain_of(identity: &SigningIdentity) -> Result<Vec<&[u8]>, CredentialError> {
    match &identity.credential {
        Credential::X509(chain) if !chain.is_empty() => Ok(chain.iter().map(|c| c.as_ref()).collect()),
        _ => Err(CredentialError::NotX509),
    }
}

/// The identities of a group's members, for the MLS library.
///
/// Time and revocation are judged once, by the owner trust's node when it accepts a commit, and by whoever
/// makes one. Members who follow, perhaps days later, must come to the same result whatever was revoked in
/// between, or they would be shut out of the group: for them ([`X509Identities::of_member`]) a chain has to
/// reach a charter's trust, no more. The same holds for everyone who enters a group or begins to observe it:
/// one lapsed member must not keep all others out.
#[derive(Debug)]
pub struct X509Identities<V> {
    verifier: Arc<V>,
    follows: bool,
}

// Derived, it would ask for `V: Clone`.
impl<V> Clone for X509Identities<V> {
    fn clone(&self) -> Self {
        Self { verifier: self.verifier.clone(), follows: self.follows }
    }
}

impl<V: ChainVerifier> X509Identities<V> {
    /// For who judges: the node that orders commits.
    pub fn new(verifier: Arc<V>) -> Self {
        Self { verifier, follows: false }
    }

    /// For a member, who follows what the node has accepted.
    pub fn of_member(verifier: Arc<V>) -> Self {
        Self { verifier, follows: true }
    }

    /// Verifies a member's chain, and that its leaf certifies the key that the member signs with.
    ///
    /// # Errors
    /// [`CredentialError`] with the reason.
    pub fn verify(
        &self,
        member: &SigningIdentity,
        at: Option<Timestamp>,
    ) -> Result<DeviceIdentity, CredentialError> {
        signs_with(member, self.verifier.verify(&chain_of(member)?, at).map_err(refused)?)
    }

    /// The same of who has written what the node of its trust accepted at that moment, whatever was revoked since.
    ///
    /// # Errors
    /// [`CredentialError`] with the reason.
    pub fn verify_as_of(
        &self,
        member: &SigningIdentity,
        at: Timestamp,
    ) -> Result<DeviceIdentity, CredentialError> {
        signs_with(member, self.verifier.verify_as_of(&chain_of(member)?, at).map_err(refused)?)
    }

    /// What a member's chain says, unverified: see [`ChainVerifier::read`].
    ///
    /// # Errors
    /// [`CredentialError`] if there is no readable certificate.
    pub fn read(&self, member: &SigningIdentity) -> Result<DeviceIdentity, CredentialError> {
        self.verifier.read(&chain_of(member)?).map_err(refused)
    }
}

impl<V: ChainVerifier> IdentityProvider for X509Identities<V> {
    type Error = CredentialError;

    fn validate_member(
        &self,
        member: &SigningIdentity,
        at: Option<MlsTime>,
        context: MemberValidationContext<'_>,
    ) -> Result<(), CredentialError> {
        let at = match context {
            MemberValidationContext::ForNewGroup { .. } => None,
            _ if self.follows => None,
            _ => at.map(timestamp),
        };
        self.verify(member, at).map(|_| ())
    }

    fn validate_external_sender(
        &self,
        sender: &SigningIdentity,
        _at: Option<MlsTime>,
        _extensions: Option<&ExtensionList>,
    ) -> Result<(), CredentialError> {
        // Without a moment: the list stays as it is when a node renews its certificate.
        self.verifier.verify_node(&chain_of(sender)?, None).map(|_| ()).map_err(refused)
    }

    fn identity(&self, member: &SigningIdentity, _: &ExtensionList) -> Result<Vec<u8>, CredentialError> {
        let chain = chain_of(member)?;
        Ok(Fingerprint::of(chain[0]).as_bytes().to_vec())
    }

    fn valid_successor(
        &self,
        predecessor: &SigningIdentity,
        successor: &SigningIdentity,
        _: &ExtensionList,
    ) -> Result<bool, CredentialError> {
        let (before, after) = (self.read(predecessor)?, self.read(successor)?);
        if before.person == after.person { Ok(true) } else { Err(CredentialError::OtherPerson) }
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![CredentialType::X509]
    }
}

fn signs_with(member: &SigningIdentity, device: DeviceIdentity) -> Result<DeviceIdentity, CredentialError> {
    if device.key == member.signature_key.as_ref() { Ok(device) } else { Err(CredentialError::KeyMismatch) }
}

fn refused<E: Error + Send + Sync + 'static>(error: E) -> CredentialError {
    CredentialError::Chain(Box::new(error))
}

fn timestamp(at: MlsTime) -> Timestamp {
    Timestamp::from_secs(at.seconds_since_epoch())
}
