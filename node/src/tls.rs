//! TLS of the clients' gateway: version 1.3 alone, the node's certificate, and devices' certificates judged
//! by the network as it is at that moment, not by a store of roots.
//!
//! A client may come without a certificate, since one that enrols has none, and that of a revoked one is not taken; what it may do is the
//! gateway's to say. Sessions are not resumed: each connection proves its key.

use std::fmt;
use std::sync::Arc;

use lanyard_crypto::network::{IdentityError, Network};
use lanyard_crypto::x509::{ChainError, Purpose, SecretKey};
use lanyard_crypto::{Timestamp, TrustId};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme, version,
};

/// Who is trusted at this moment.
pub type Trusted = dyn Fn() -> Arc<Network> + Send + Sync;

/// The server's side of TLS.
///
/// `chain` is the node's certificate, its registrar's and the root's, DER, as a client that knows nothing but
/// the root's fingerprint needs them.
///
/// # Errors The key does not belong to the certificate.
pub fn server_config(
    chain: Vec<Vec<u8>>,
    key: &SecretKey,
    trust: TrustId,
    network: Arc<Trusted>,
) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(DeviceVerifier { trust, network, provider: provider.clone() });
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8_der().to_vec()));
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Why a certificate is not of a device of this trust.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The network does not know it, or not any more.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It is of another trust.
    #[error("the device is of trust {0}: a client connects to its own trust's node, and to nothing else")]
    OtherTrust(TrustId),
    /// A leaf without its registrar.
    #[error("the device's certificate and its registrar's are needed; {0} were shown")]
    Chain(usize),
}

/// Judges the chain that a device shows: its own certificate and its registrar's; a root after them is passed
/// over.
///
/// # Errors [`DeviceError`] says why it is refused.
pub fn verify_device(
    chain: &[impl AsRef<[u8]>],
    trust: &TrustId,
    network: &Network,
    at: Timestamp,
) -> Result<lanyard_crypto::network::Identity, DeviceError> {
    let [leaf, registrar, ..] = chain else {
        return Err(DeviceError::Chain(chain.len()));
    };
    let identity = network.verify_chain(&[leaf.as_ref(), registrar.as_ref()], Purpose::Device, at)?;
    if identity.trust == *trust { Ok(identity) } else { Err(DeviceError::OtherTrust(identity.trust)) }
}

struct DeviceVerifier {
    trust: TrustId,
    network: Arc<Trusted>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for DeviceVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceVerifier({})", self.trust)
    }
}

impl ClientCertVerifier for DeviceVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain: Vec<&[u8]> = [end_entity].into_iter().chain(intermediates).map(|c| c.as_ref()).collect();
        let network = (self.network)();
        let at = network.time(Timestamp::from_secs(now.as_secs()));
        match verify_device(&chain, &self.trust, &network, at) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(error) => Err(Error::InvalidCertificate(alert_for(error))),
        }
    }

    /// Never called: only TLS 1.3 is spoken.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// What the client is told in TLS: the alert tells revoked and expired from the rest. The audit log gets the
/// whole reason.
fn alert_for(error: DeviceError) -> CertificateError {
    match &error {
        DeviceError::Identity(IdentityError::Chain(ChainError::Revoked { .. })) => CertificateError::Revoked,
        DeviceError::Identity(IdentityError::Chain(ChainError::Expired { .. })) => CertificateError::Expired,
        DeviceError::Identity(IdentityError::Chain(ChainError::NotYetValid { .. })) => {
            CertificateError::NotValidYet
        }
        DeviceError::Identity(_) | DeviceError::OtherTrust(_) | DeviceError::Chain(_) => {
            CertificateError::Other(OtherError(Arc::new(error)))
        }
    }
}
