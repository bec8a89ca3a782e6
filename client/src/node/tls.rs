//! TLS 1.3 to the device's own node (RFC 8446), which is believed by the charter's rules instead of the
//! web's.
//!
//! No public certification authority can vouch for a node. The server shows its certificate, its registrar's
//! and its trust's root; names in subjectAltName must match the address. Ed25519 is the only signature
//! algorithm, verified by the same strict code as everything else. Sessions are never resumed, since
//! resumption would pass over the certificate, which may have been revoked in between.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use lanyard_crypto::network::{IdentityError, Network};
use lanyard_crypto::x509::{self, Certificate, CertificateError, ChainError, CrlPolicy, Purpose};
use lanyard_crypto::{Fingerprint, Timestamp, TrustId};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme};

use crate::profile::Device;

/// What makes the client believe that a server is its node.
#[derive(Clone, Debug)]
pub enum Anchor {
    /// Before enrolment: the root whose fingerprint the invitation holds.
    Invitation {
        /// The inviting trust.
        trust: TrustId,
        /// Of the trust's root certificate.
        root: Fingerprint,
    },
    /// After it: the charter and the revocation lists that the device holds.
    Network {
        /// The device's own trust.
        trust: TrustId,
        /// Shared, so that a charter that arrives counts from then on.
        network: Arc<RwLock<Network>>,
    },
}

/// Why a server is not believed to be the device's node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// Not the three certificates that a node shows.
    #[error("it showed {0} certificates; a node shows 3: its own, its registrar's and its trust's root")]
    Count(usize),
    /// Not a certificate of our profile.
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    /// Another root than the one that the invitation names.
    #[error(
        "its root certificate is not the one that the invitation names; ask who invited you \
         for a new invitation"
    )]
    OtherRoot,
    /// The chain does not hold.
    #[error("{0}")]
    Chain(#[from] ChainError),
    /// The charter does not carry it.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// A node of another trust.
    #[error("it is a node of {actual}, not of {wanted}")]
    OtherTrust {
        /// The trust that certified it.
        actual: TrustId,
        /// The device's own.
        wanted: TrustId,
    },
    /// Its certificate is for other addresses.
    #[error("its certificate does not name {0}")]
    Name(String),
}

/// TLS as a client that believes `anchor`, and that shows `device`'s certificate if there is one.
///
/// # Errors
/// What rustls says of a key or chain that it cannot use.
pub(super) fn config(anchor: Anchor, device: Option<&Device>) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { anchor }));
    let mut config = match device {
        None => builder.with_no_client_auth(),
        Some(device) => {
            let chain = device.chain_der().into_iter().map(CertificateDer::from).collect();
            let key = PrivatePkcs8KeyDer::from(device.key.to_pkcs8_der().to_vec());
            builder.with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(key))?
        }
    };
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Verifier {
    anchor: Anchor,
}

impl Verifier {
    fn verify(&self, chain: &[&[u8]], host: &str, at: Timestamp) -> Result<(), ServerError> {
        let &[leaf, registrar, root] = chain else {
            return Err(ServerError::Count(chain.len()));
        };
        let (wanted, certificate) = match &self.anchor {
            Anchor::Invitation { trust, root: fingerprint } => {
                let root = Certificate::parse(root)?;
                if root.fingerprint() != *fingerprint {
                    return Err(ServerError::OtherRoot);
                }
                let (leaf, registrar) = (Certificate::parse(leaf)?, Certificate::parse(registrar)?);
                let none = |_: &Fingerprint| None;
                x509::verify_chain(&leaf, &[registrar], &root, none, CrlPolicy::IfHeld, Purpose::Node, at)?;
                (trust, leaf)
            }
            Anchor::Network { trust, network } => {
                let network = network.read().unwrap_or_else(PoisonError::into_inner);
                (
                    trust,
                    network.verify_chain(&[leaf, registrar], Purpose::Node, network.time(at))?.certificate,
                )
            }
        };
        if certificate.subject().trust != *wanted {
            let (actual, wanted) = (certificate.subject().trust.clone(), wanted.clone());
            return Err(ServerError::OtherTrust { actual, wanted });
        }
        if certificate.names_host(host) { Ok(()) } else { Err(ServerError::Name(host.to_owned())) }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain: Vec<&[u8]> = [end_entity].into_iter().chain(intermediates).map(|c| c.as_ref()).collect();
        let host = match server_name {
            ServerName::DnsName(name) => name.as_ref().to_owned(),
            ServerName::IpAddress(address) => IpAddr::from(*address).to_string(),
            other => return Err(refused(ServerError::Name(format!("{other:?}")))),
        };
        self.verify(&chain, &host, Timestamp::from_secs(now.as_secs())).map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let bad = || rustls::Error::from(rustls::CertificateError::BadSignature);
        let bytes = signature.signature().try_into().map_err(|_| bad())?;
        let certificate = Certificate::parse(certificate).map_err(|e| refused(e.into()))?;
        if signature.scheme != SignatureScheme::ED25519 {
            return Err(bad());
        }
        x509::verify(certificate.public_key(), message, bytes).map_err(|_| bad())?;
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Carries our reason through rustls, for [`super::NodeError`] to show.
fn refused(error: ServerError) -> rustls::Error {
    rustls::Error::Other(OtherError(Arc::new(error)))
}
