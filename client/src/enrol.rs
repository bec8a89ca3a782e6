//! Enrolment: from an invitation to a certified device.
//!
//! The invitation names the trust's root by fingerprint, so the node proves who it is before anything is sent
//! to it, and the code, which works once, goes to nobody else. Both the key for TLS and MLS (they are one)
//! and the vault's are made here and never leave the profile; the node sees a certification request (RFC
//! 2986).
//!
//! Crash order: the key is on the disk before the code is used, `device.json` is written last. An attempt
//! that breaks off in between needs a new invitation if the node has used up the code, and can be repeated in
//! the same profile.

use lanyard_crypto::gateway::{EnrolRequest, EnrolResponse, Invitation, NotAnInvitation};
use lanyard_crypto::network::IdentityError;
use lanyard_crypto::x509::request::{CertificateRequest, RequestError};
use lanyard_crypto::x509::{Certificate, CertificateError, Purpose, SecretKey};
use lanyard_crypto::{Timestamp, TrustId};

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
}

/// Enrols this device with the trust that sent the invitation `line`. The profile's lock is held by the
/// caller. If the trust asks for a sign-in with its identity provider, it goes by `sign_in`.
///
/// # Errors
/// [`EnrolError`]; the profile is then not enrolled.
pub fn enrol(
    profile: &Profile,
    line: &str,
    sign_in: Option<&SignIn<'_>>,
    now: Timestamp,
) -> Result<(Device, Beliefs), EnrolError> {
    let invitation = Invitation::from_line(line)?;
    profile.check_new()?;
    let key = profile.key()?;
    let response = ask(&invitation, &key, sign_in)?;
    let (trust, root) = (invitation.trust, invitation.root);
    let beliefs = Beliefs::found(profile, &response.charter, &trust, &root)?;
    let chain = check(&response, &key, &trust, &beliefs, now)?;
    let device = Device { trust, root, address: invitation.address, chain, key };
    profile.enrol(&device)?;
    Ok((device, beliefs))
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

fn check(
    response: &EnrolResponse,
    key: &SecretKey,
    wanted: &TrustId,
    beliefs: &Beliefs,
    now: Timestamp,
) -> Result<Vec<Certificate>, EnrolError> {
    let identity = beliefs.read().verify_chain(&response.chain, Purpose::Device, now)?;
    if *identity.certificate.public_key() != key.public() {
        return Err(EnrolError::OtherKey);
    }
    if identity.trust != *wanted {
        return Err(EnrolError::OtherTrust { actual: identity.trust, wanted: wanted.clone() });
    }
    Ok(response.chain.iter().map(|der| Certificate::parse(der)).collect::<Result<_, _>>()?)
}
