//! A certificate: bytes that were parsed strictly, and what they say. Not yet trusted: see
//! [`super::verify_chain`].

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use const_oid::ObjectIdentifier;
use der::{Decode, Encode};
use spki::AlgorithmIdentifierOwned;
use x509_cert::certificate::{TbsCertificate, Version};
use x509_cert::name::Name;
use x509_cert::time::Time;

use super::extensions::{Known, key_in_peer_id};
use super::{CERTIFICATE_BYTES_MAX, KeyError, Purpose, Subject, SubjectError, key, oids};
use crate::ids::{Fingerprint, NodeId, Timestamp};
use crate::residency::{Country, CountryError};

/// Why bytes are not a certificate of our profile. The fault is always in the bytes, thus with who sent them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// More bytes than any certificate of ours takes.
    #[error("{0} bytes are too many for a certificate ({CERTIFICATE_BYTES_MAX} at most)")]
    TooLong(usize),
    /// Not the DER encoding of a certificate, or bytes after it.
    #[error("not an X.509 certificate in DER")]
    Der,
    /// Not version 3, or with the unique identifiers of version 2.
    #[error("not an X.509 certificate of version 3")]
    Version,
    /// Other keys and signatures than Ed25519.
    #[error("the key and the signature must be Ed25519 (RFC 8410)")]
    Algorithm,
    /// A key that proves nothing.
    #[error("the public key: {0}")]
    PublicKey(#[from] KeyError),
    /// The serial number has to be positive, of at most 20 bytes.
    #[error("the serial number must be positive, of at most 20 bytes")]
    SerialNumber,
    /// It ends before it begins.
    #[error("the validity ends before it begins")]
    Validity,
    /// The subject is not one of ours.
    #[error("the subject: {0}")]
    Subject(#[from] SubjectError),
    /// An extension stands twice.
    #[error("the extension {0} stands more than once")]
    RepeatedExtension(ObjectIdentifier),
    /// An extension's value cannot be read.
    #[error("the extension {0} is malformed")]
    Extension(ObjectIdentifier),
    /// An extension that must not be passed over, and that we do not know.
    #[error("the critical extension {0} is not known")]
    UnknownCritical(ObjectIdentifier),
    /// Name constraints that we do not apply.
    #[error("of name constraints, only permitted subtrees of directory names are understood")]
    NameConstraints,
    /// Rights of an authority in a certificate that is none.
    #[error(
        "keyCertSign, a path length or name constraints stand in a certificate that is not of an authority"
    )]
    NotAnAuthority,
    /// No purpose of ours, or several.
    #[error("extendedKeyUsage must name exactly one purpose: node, device or officer")]
    Purpose,
    /// The hosting country is not a country code.
    #[error("the hosting country: {0}")]
    HostingCountry(CountryError),
    /// Not a PeerId of an Ed25519 key.
    #[error("the PeerId must be the identity multihash of an Ed25519 key (38 bytes)")]
    PeerId,
}

/// An X.509 certificate of our profile: well-formed, and not yet trusted. Cloning shares the bytes.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    fingerprint: Fingerprint,
    signed: Range<usize>,
    signature: [u8; 64],
    serial: Vec<u8>,
    issuer_name: Name,
    subject_name: Name,
    subject: Subject,
    not_before: Timestamp,
    not_after: Timestamp,
    spki: Vec<u8>,
    public_key: [u8; 32],
    purpose: Purpose,
    known: Known,
    signer: OnceLock<[u8; 32]>,
}

impl Certificate {
    /// Reads a certificate from its DER encoding. Strict: what does not encode to the same bytes again is
    /// refused, so that a certificate has one fingerprint.
    ///
    /// # Errors
    /// [`CertificateError`] says which rule of the profile the bytes break.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > CERTIFICATE_BYTES_MAX {
            return Err(CertificateError::TooLong(der.len()));
        }
        let parsed = x509_cert::Certificate::from_der(der).map_err(|_| CertificateError::Der)?;
        if parsed.to_der().ok().as_deref() != Some(der) {
            return Err(CertificateError::Der);
        }
        let tbs = parsed.tbs_certificate();
        if tbs.version() != Version::V3
            || tbs.issuer_unique_id().is_some()
            || tbs.subject_unique_id().is_some()
        {
            return Err(CertificateError::Version);
        }
        let algorithms =
            [parsed.signature_algorithm(), tbs.signature(), &tbs.subject_public_key_info().algorithm];
        if !algorithms.into_iter().all(is_ed25519) {
            return Err(CertificateError::Algorithm);
        }
        let known = Known::read(tbs.extensions().unwrap_or(&Vec::new()))?;
        let validity = tbs.validity();
        let (not_before, not_after) = (timestamp(validity.not_before), timestamp(validity.not_after));
        if not_after < not_before {
            return Err(CertificateError::Validity);
        }
        let after_signed = [parsed.signature_algorithm().encoded_len(), parsed.signature().encoded_len()];
        Ok(Self(Arc::new(Inner {
            fingerprint: Fingerprint::of(der),
            signed: signed_part(der, tbs.encoded_len(), after_signed).ok_or(CertificateError::Der)?,
            signature: bits(parsed.signature().as_bytes()).ok_or(CertificateError::Algorithm)?,
            serial: serial(tbs.serial_number().as_bytes()).ok_or(CertificateError::SerialNumber)?,
            issuer_name: tbs.issuer().clone(),
            subject_name: tbs.subject().clone(),
            subject: Subject::from_name(tbs.subject())?,
            not_before,
            not_after,
            spki: tbs.subject_public_key_info().to_der().map_err(|_| CertificateError::Der)?,
            public_key: public_key(tbs)?,
            purpose: purpose(tbs, &known)?,
            known,
            signer: OnceLock::new(),
            der: der.to_vec(),
        })))
    }

    /// The DER encoding.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// SHA-256 of the DER encoding.
    pub fn fingerprint(&self) -> Fingerprint {
        self.0.fingerprint
    }

    /// Whom it is about.
    pub fn subject(&self) -> &Subject {
        &self.0.subject
    }

    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.0.purpose
    }

    /// The Ed25519 key that it certifies.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.0.public_key
    }

    /// The SubjectPublicKeyInfo, in DER: what TLS calls a raw public key.
    pub fn spki(&self) -> &[u8] {
        &self.0.spki
    }

    /// The first moment at which it is valid.
    pub fn not_before(&self) -> Timestamp {
        self.0.not_before
    }

    /// The last moment at which it is valid.
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// The serial number: big-endian, positive, 1 to 20 bytes, as in DER (with a leading zero byte if the first
    /// bit would be set otherwise). What revocation lists name.
    pub fn serial(&self) -> &[u8] {
        &self.0.serial
    }

    /// Where the node stands, as its registrar states. It proves who stated it, not where the machine is.
    pub fn hosting_country(&self) -> Option<Country> {
        self.0.known.hosting_country
    }

    /// The libp2p PeerId of the node, as an identity multihash.
    pub fn peer_id(&self) -> Option<&[u8]> {
        self.0.known.peer_id.as_ref().map(|id| &id[..])
    }

    /// The key within the PeerId.
    pub fn node_id(&self) -> Option<NodeId> {
        self.0.known.peer_id.as_ref().and_then(key_in_peer_id)
    }

    /// The host names in subjectAltName, in lower case, as they stand there.
    pub fn dns_names(&self) -> &[String] {
        &self.0.known.dns_names
    }

    /// The addresses in subjectAltName.
    pub fn ip_addresses(&self) -> &[IpAddr] {
        &self.0.known.ip_addresses
    }

    /// Whether a TLS server with this certificate may speak for `host`, a name or the text of an address
    /// (RFC 9525 section 6, without wildcards).
    pub fn names_host(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.ip_addresses().contains(&address);
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        !host.contains('*') && self.dns_names().iter().any(|name| name.eq_ignore_ascii_case(host))
    }

    /// Whether the key of `issuer` signed this certificate. Says nothing else of either: see
    /// [`super::verify_chain`].
    ///
    /// # Errors
    /// [`KeyError::Signature`] if it did not.
    pub fn verify_signature(&self, issuer: &Certificate) -> Result<(), KeyError> {
        let key = issuer.public_key();
        // A signature that was good once stays good: a chain that is seen with every record costs nothing twice.
        if self.0.signer.get() == Some(key) {
            return Ok(());
        }
        key::verify(key, &self.0.der[self.0.signed.clone()], &self.0.signature)?;
        self.0.signer.get_or_init(|| *key);
        Ok(())
    }

    pub(super) fn issuer_name(&self) -> &Name {
        &self.0.issuer_name
    }

    pub(super) fn subject_name(&self) -> &Name {
        &self.0.subject_name
    }

    pub(super) fn known(&self) -> &Known {
        &self.0.known
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.fingerprint == other.0.fingerprint
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} of {}, {:?})", self.purpose(), self.subject(), self.fingerprint())
    }
}

/// Whether an algorithm is Ed25519, with the parameters absent (RFC 8410 section 3).
pub(super) fn is_ed25519(algorithm: &AlgorithmIdentifierOwned) -> bool {
    algorithm.oid == oids::ED25519 && algorithm.parameters.is_none()
}

/// The array in a bit string whose length is known.
pub(super) fn bits<const N: usize>(bytes: Option<&[u8]>) -> Option<[u8; N]> {
    bytes?.try_into().ok()
}

/// A serial number, if it is positive and of at most 20 bytes (RFC 5280 section 4.1.2.2).
pub(super) fn serial(bytes: &[u8]) -> Option<Vec<u8>> {
    let positive = bytes.first().is_some_and(|first| first & 0x80 == 0) && bytes.iter().any(|b| *b != 0);
    (positive && bytes.len() <= 20).then(|| bytes.to_vec())
}

/// Where the signed part lies in `der`, which is a sequence of it and of what follows it.
pub(super) fn signed_part(
    der: &[u8],
    signed: der::Result<der::Length>,
    after: [der::Result<der::Length>; 2],
) -> Option<Range<usize>> {
    let [algorithm, signature] = after;
    let length = |length: der::Result<der::Length>| usize::try_from(length.ok()?).ok();
    let end = der.len().checked_sub(length(algorithm)?)?.checked_sub(length(signature)?)?;
    Some(end.checked_sub(length(signed)?)?..end)
}

/// X.509 time in whole seconds.
pub(super) fn timestamp(time: Time) -> Timestamp {
    Timestamp::from_secs(time.to_unix_duration().as_secs())
}

fn public_key(tbs: &TbsCertificate) -> Result<[u8; 32], CertificateError> {
    let key = &tbs.subject_public_key_info().subject_public_key;
    let key = bits(key.as_bytes()).ok_or(CertificateError::Algorithm)?;
    key::sound_public_key(&key)?;
    Ok(key)
}

fn purpose(tbs: &TbsCertificate, known: &Known) -> Result<Purpose, CertificateError> {
    if known.authority {
        let self_issued = tbs.subject() == tbs.issuer();
        return Ok(if self_issued { Purpose::Root } else { Purpose::Registrar });
    }
    let listed = known.purposes.as_deref().unwrap_or_default();
    let mut purposes = Purpose::LEAVES.iter().filter(|(_, oid)| listed.contains(oid));
    match (purposes.next(), purposes.next()) {
        (Some((purpose, _)), None) => Ok(*purpose),
        _ => Err(CertificateError::Purpose),
    }
}
