//! Enrolment: from an invitation to a certified device.
//!
//! The invitation names the trust's root by fingerprint, so the node proves who it is before anything is sent
//! to it, and the code, which works once, goes to nobody else. Both the key for TLS and MLS (they are one)
//! and the vault's are made here and never leave the profile; the node sees a certification request (RFC
//! 2986).
//!
//! With the certificate comes the right to set the device's first PIN ([`crate::pin`]), under which the vault is made: the key that opens it
//! lies in no file at any time.
//!
//! Crash order: the key is on the disk before the code is used, `device.json` is written before the PIN is set. An attempt that breaks off
//! is repeated in the same profile with the same line: the node answers alike until it has a PIN of the device. With a later line, it is also
//! how a device gets a PIN whose node has none of it: one of version 0.1.0, or of a node that lost its store. What it keeps stays then, if the
//! trust certifies it as the same person by the same registrar ([`EnrolError::OtherDevice`] otherwise).

use std::path::PathBuf;

use lanyard_crypto::gateway::{EnrolRequest, EnrolResponse, Invitation, NotAnInvitation};
use lanyard_crypto::network::IdentityError;
use lanyard_crypto::pin::SessionToken;
use lanyard_crypto::x509::request::{CertificateRequest, RequestError};
use lanyard_crypto::x509::{Certificate, CertificateError, Purpose, SecretKey};
use lanyard_crypto::{Timestamp, TrustId};

use crate::agent;
use crate::files::FileError;
use crate::node::{Anchor, NodeClient, NodeError};
use crate::profile::{Device, Profile, ProfileError};
use crate::sign_in::{SignIn, SignInError};
use crate::trust::{Beliefs, TrustError};

/// The node's word for that.
const SIGN_IN_NEEDED: &str = "sign-in-needed";

/// Why a device was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The line is not one.
    #[error(transparent)]
    Invitation(#[from] NotAnInvitation),
    /// The profile cannot be used, or is in use.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The node could not be asked, or refused.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The holder has not signed in.
    #[error(transparent)]
    SignIn(#[from] SignInError),
    /// The request could not be made.
    #[error("the certification request cannot be made: {0}")]
    Request(#[from] RequestError),
    /// What the node calls a certificate is none.
    #[error("the node's answer holds no certificate: {0}; tell your trust's IT")]
    Certificate(#[from] CertificateError),
    /// The network that the node belongs to is not to be believed.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The certificate does not reach the trust's root.
    #[error("the certificate that the node issued is not valid: {0}; tell your trust's IT")]
    Identity(#[from] IdentityError),
    /// The certificate is for another key.
    #[error("the certificate that the node issued is not for this device's key; tell your trust's IT")]
    OtherKey,
    /// The certificate is another trust's.
    #[error(
        "the node issued a certificate of {actual}; the invitation is from {wanted}; tell your trust's IT"
    )]
    OtherTrust {
        /// Whose certificate it is.
        actual: TrustId,
        /// Who invited.
        wanted: TrustId,
    },
    /// The profile's vault belongs to another certificate.
    #[error(
        "the trust certified this device anew, and what {0} keeps belongs to the certificate before: ask for another invitation, and \
         enrol with another --profile DIR"
    )]
    OtherDevice(PathBuf),
    /// The right to set the first PIN is none.
    #[error("the node's answer gives no right to set a PIN; tell your trust's IT")]
    NoRight,
}

/// A device that was certified, and has no PIN yet.
pub struct Certified {
    /// The device.
    pub device: Device,
    /// What it believes of the network.
    pub beliefs: Beliefs,
    /// What admits to setting its first PIN.
    pub right: SessionToken,
}

/// Has this device certified by the trust that sent the invitation `line`. If the trust asks for a sign-in with its identity provider, it
/// goes by `sign_in`. The profile's lock is held by the caller.
///
/// # Errors
/// [`EnrolError`]; the profile is then as it was, but for the device's key.
pub fn certify(
    profile: &Profile,
    line: &str,
    sign_in: Option<&SignIn<'_>>,
    now: Timestamp,
) -> Result<Certified, EnrolError> {
    let invitation = Invitation::from_line(line)?;
    let before = check(profile, &invitation)?;
    let key = profile.key()?;
    let response = ask(&invitation, &key, sign_in)?;
    let (trust, root) = (invitation.trust, invitation.root);
    let beliefs = match &before {
        Some(_) => Beliefs::load(profile)?,
        None => Beliefs::found(profile, &response.charter, &trust, &root)?,
    };
    let chain = chain_of(&response, &key, &trust, &beliefs, now)?;
    let is_other = |before: &Device| before.certificate() != &chain[0];
    if before.as_ref().is_some_and(is_other) && profile.vault_path().exists() {
        return Err(EnrolError::OtherDevice(profile.dir().to_path_buf()));
    }
    let right = <[u8; 32]>::try_from(response.first_pin.as_slice()).map_err(|_| EnrolError::NoRight)?;
    let device = Device { trust, root, address: invitation.address, chain, key };
    profile.enrol(&device)?;
    Ok(Certified { device, beliefs, right: SessionToken::from_bytes(&right) })
}

/// Whether this profile can be enrolled with the line, as far as can be said without the node.
///
/// # Errors
/// [`EnrolError`]: not an invitation, or the profile is enrolled with another trust, or has a PIN that nobody has proved.
pub fn check_line(profile: &Profile, line: &str) -> Result<(), EnrolError> {
    check(profile, &Invitation::from_line(line)?).map(drop)
}

/// The device that was certified with this profile before.
fn check(profile: &Profile, invitation: &Invitation) -> Result<Option<Device>, EnrolError> {
    match profile.load() {
        Err(ProfileError::NotEnrolled(_)) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(before)
            if before.trust == invitation.trust
                && before.root == invitation.root
                && (!profile.has_pin()? || matches!(agent::opened(profile, false), Ok(Some(_)))) =>
        {
            Ok(Some(before))
        }
        Ok(before) => Err(ProfileError::Enrolled(profile.dir().to_path_buf(), before.trust).into()),
    }
}

fn ask(
    invitation: &Invitation,
    key: &SecretKey,
    sign_in: Option<&SignIn<'_>>,
) -> Result<EnrolResponse, EnrolError> {
    let connect = || {
        let anchor = Anchor::Invitation { trust: invitation.trust.clone(), root: invitation.root };
        NodeClient::new(&invitation.address, anchor, None)
    };
    // The subject is the registrar's to say: it is the person whom the operator has checked.
    let request = CertificateRequest::create(key, None)?;
    let mut request = EnrolRequest {
        invitation: invitation.id.clone(),
        code: invitation.code.clone(),
        request: request.der().to_vec(),
        sign_in: None,
    };
    match (connect()?.enrol(&request), sign_in) {
        // The invitation does not say whether the trust asks for it; nothing is used up by asking.
        (Err(error), Some(sign_in)) if error.code() == Some(SIGN_IN_NEEDED) => {
            request.sign_in = Some(sign_in.run(&mut connect()?, invitation)?);
            // The node ends a connection without a certificate after a while, and signing in takes some: another one.
            Ok(connect()?.enrol(&request)?)
        }
        (answer, _) => Ok(answer?),
    }
}

fn chain_of(
    response: &EnrolResponse,
    key: &SecretKey,
    wanted: &TrustId,
    beliefs: &Beliefs,
    now: Timestamp,
) -> Result<Vec<Certificate>, EnrolError> {
    let network = beliefs.read();
    let identity = network.verify_chain(&response.chain, Purpose::Device, network.time(now))?;
    if *identity.certificate.public_key() != key.public() {
        return Err(EnrolError::OtherKey);
    }
    if identity.trust != *wanted {
        return Err(EnrolError::OtherTrust { actual: identity.trust, wanted: wanted.clone() });
    }
    Ok(response.chain.iter().map(|der| Certificate::parse(der)).collect::<Result<_, _>>()?)
}
