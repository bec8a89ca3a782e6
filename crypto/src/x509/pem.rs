//! PEM (RFC 7468) for certificates, chains, revocation lists and requests. Text around the armour, such as
//! `openssl` writes, is passed over.

use der::pem::{LineEnding, decode_vec, encode_string};

use super::request::{CertificateRequest, RequestError};
use super::{Certificate, CertificateError, CrlError, ISSUERS_MAX, RevocationList};

/// A PEM file, in bytes: a revocation list of the largest size, with room for text around it.
const PEM_BYTES_MAX: usize = 256 * 1024;
/// A leaf, its issuers, and the root.
const CHAIN_CERTIFICATES_MAX: usize = ISSUERS_MAX + 2;

const CERTIFICATE: &str = "CERTIFICATE";
const REVOCATION_LIST: &str = "X509 CRL";
const REQUEST: &str = "CERTIFICATE REQUEST";

/// Why a text does not hold what was looked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Larger than any file of ours.
    #[error("a PEM text of {0} bytes is too long ({PEM_BYTES_MAX} at most)")]
    TooLong(usize),
    /// Nothing of that kind in it.
    #[error("there is no \"BEGIN {0}\" in the PEM text")]
    None(&'static str),
    /// More than were expected.
    #[error("the PEM text has more than {1} of \"BEGIN {0}\"")]
    TooMany(&'static str, usize),
    /// The armour or its base64 is broken.
    #[error("the PEM text of {0} is damaged")]
    Damaged(&'static str),
    /// What is inside is not a certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// What is inside is not a revocation list.
    #[error(transparent)]
    Crl(#[from] CrlError),
    /// What is inside is not a request.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl Certificate {
    /// The only certificate in a PEM text.
    ///
    /// # Errors
    /// [`PemError`] if there is none, or more than one, or it is not of our profile.
    pub fn from_pem(text: &str) -> Result<Self, PemError> {
        Ok(Self::parse(&only(text, CERTIFICATE)?)?)
    }

    /// As PEM.
    pub fn to_pem(&self) -> String {
        armour(CERTIFICATE, self.der())
    }
}

impl RevocationList {
    /// The only revocation list in a PEM text.
    ///
    /// # Errors
    /// [`PemError`] if there is none, or more than one, or it is not of our profile.
    pub fn from_pem(text: &str) -> Result<Self, PemError> {
        Ok(Self::parse(&only(text, REVOCATION_LIST)?)?)
    }

    /// As PEM.
    pub fn to_pem(&self) -> String {
        armour(REVOCATION_LIST, self.der())
    }
}

impl CertificateRequest {
    /// The only certificate request in a PEM text.
    ///
    /// # Errors
    /// [`PemError`] if there is none, or more than one, or it does not prove possession of its key.
    pub fn from_pem(text: &str) -> Result<Self, PemError> {
        Ok(Self::parse(&only(text, REQUEST)?)?)
    }

    /// As PEM.
    pub fn to_pem(&self) -> String {
        armour(REQUEST, self.der())
    }
}

/// The certificates in a PEM text, in its order: for a chain, the leaf first.
///
/// # Errors
/// [`PemError`] if there is none, or more than a chain has, or one is not of our profile.
pub fn chain_from_pem(text: &str) -> Result<Vec<Certificate>, PemError> {
    let documents = all(text, CERTIFICATE, CHAIN_CERTIFICATES_MAX)?;
    documents.iter().map(|der| Ok(Certificate::parse(der)?)).collect()
}

/// Certificates as one PEM text, in the given order.
pub fn chain_to_pem(certificates: &[Certificate]) -> String {
    certificates.iter().map(Certificate::to_pem).collect()
}

fn only(text: &str, label: &'static str) -> Result<Vec<u8>, PemError> {
    all(text, label, 1)?.pop().ok_or(PemError::None(label))
}

/// The contents of all armours with this label, at least one and at most `max`.
fn all(text: &str, label: &'static str, max: usize) -> Result<Vec<Vec<u8>>, PemError> {
    if text.len() > PEM_BYTES_MAX {
        return Err(PemError::TooLong(text.len()));
    }
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(&begin) {
        if found.len() == max {
            return Err(PemError::TooMany(label, max));
        }
        let from_start = &rest[start..];
        let stop = from_start.find(&end).ok_or(PemError::Damaged(label))? + end.len();
        let (_, der) = decode_vec(&from_start.as_bytes()[..stop]).map_err(|_| PemError::Damaged(label))?;
        found.push(der);
        rest = &from_start[stop..];
    }
    if found.is_empty() { Err(PemError::None(label)) } else { Ok(found) }
}

fn armour(label: &str, der: &[u8]) -> String {
    encode_string(label, LineEnding::LF, der).expect("a bounded document always has a PEM encoding")
}
