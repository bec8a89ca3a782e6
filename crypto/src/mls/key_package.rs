//! What a node checks of a contact key package (RFC 9420, section 10) before it lists it for others.

use std::sync::Arc;

use mls_rs::CryptoProvider;
use mls_rs::error::MlsError;
use mls_rs::extension::ExtensionType;
use mls_rs::external_client::ExternalClient;
use mls_rs::group::proposal::AddProposal;

use super::identity::{ChainVerifier, CredentialError, DeviceIdentity, X509Identities};
use super::mls_time;
use super::peek::{PeekError, decode};
use super::policy::POLICY_EXTENSION;
use super::rules::Rules;
use super::suite::Suite;
use crate::{Timestamp, limits};

/// Why a key package is refused. The fault of whose it is.
#[derive(Debug, thiserror::Error)]
pub enum KeyPackageError {
    /// Not a message that could be one.
    #[error(transparent)]
    Message(#[from] PeekError),
    /// Another MLS message.
    #[error("a key package is needed here")]
    Kind,
    /// For another cipher suite.
    #[error("the key package is for another cipher suite")]
    Suite,
    /// The holder's client could not take part in a conversation.
    #[error("the key package's capabilities lack the conversation policy")]
    Capabilities,
    /// The holder's certificate does not hold.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The library refuses it: a signature, the lifetime. Its own words.
    #[error("refused by MLS: {0}")]
    Mls(MlsError),
}

/// What a key package says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPackageSummary {
    /// Whose it is.
    pub device: DeviceIdentity,
    /// Its KeyPackageRef (RFC 9420, section 5.2), by which a Welcome names it.
    pub reference: Vec<u8>,
    /// When it ends.
    pub expires: Timestamp,
    /// Whether it may be used more than once.
    pub last_resort: bool,
}

/// Verifies a key package (an MLSMessage) in full, at this moment.
///
/// # Errors
/// [`KeyPackageError`], all of them the fault of whose it is.
pub fn inspect<V: ChainVerifier>(
    verifier: Arc<V>,
    key_package: &[u8],
    at: Timestamp,
) -> Result<KeyPackageSummary, KeyPackageError> {
    let message = decode(key_package, limits::KEY_PACKAGE_BYTES_MAX)?;
    if message.as_key_package().ok_or(KeyPackageError::Kind)?.cipher_suite != Suite::new().id() {
        return Err(KeyPackageError::Suite);
    }
    let primitives = Suite::new().cipher_suite_provider(Suite::new().id()).ok_or(KeyPackageError::Suite)?;
    let reference = message.key_package_reference(&primitives).map_err(KeyPackageError::Mls)?;
    let reference = reference.ok_or(KeyPackageError::Kind)?.to_vec();

    let identities = X509Identities::new(verifier.clone());
    let client = ExternalClient::builder()
        .crypto_provider(Suite::new())
        .identity_provider(identities.clone())
        .mls_rules(Rules::new(verifier))
        .extension_type(POLICY_EXTENSION)
        .build();
    let package = client.validate_key_package(message, Some(mls_time(at))).map_err(KeyPackageError::Mls)?;
    let device = identities.verify(package.signing_identity(), Some(at))?;
    let expires = package.expiration().map_err(KeyPackageError::Mls)?;
    let last_resort = package.extensions.has_extension(ExtensionType::LAST_RESORT_KEY_PACKAGE);
    // The library shows a key package's capabilities only as part of the proposal that would add it.
    if !AddProposal::from(package).capabilities().extensions().contains(&POLICY_EXTENSION) {
        return Err(KeyPackageError::Capabilities);
    }
    Ok(KeyPackageSummary {
        device,
        reference,
        expires: Timestamp::from_secs(expires.seconds_since_epoch()),
        last_resort,
    })
}
