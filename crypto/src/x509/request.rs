//! Certificate requests (PKCS#10, RFC 2986): how a public key reaches the registrar while the private one stays
//! where it was made. The request's own signature proves that the sender holds the private key; whose it is, the
//! registrar has to know by other means. The name in a request is a wish.

use der::asn1::BitString;
use der::{Decode, Encode};
use x509_cert::name::Name;
use x509_cert::request::{CertReq, CertReqInfo};

use super::certificate::{bits, is_ed25519};
use super::{KeyError, SecretKey, Subject, SubjectError, issue, key};

/// A request in DER, in bytes. Ours take about 250.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// Why bytes are not a request, or why one cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// More bytes than any request takes.
    #[error("{0} bytes are too many for a certificate request ({REQUEST_BYTES_MAX} at most)")]
    TooLong(usize),
    /// Not the DER encoding of a request, or bytes after it.
    #[error("not a certificate request (PKCS#10) in DER")]
    Der,
    /// Other keys and signatures than Ed25519.
    #[error("the key and the signature of a request must be Ed25519 (RFC 8410)")]
    Algorithm,
    /// The name cannot be read or written.
    #[error("the subject of the request: {0}")]
    Subject(#[from] SubjectError),
    /// The key is unsound, or did not sign.
    #[error("the request does not prove that its sender holds the private key: {0}")]
    Proof(#[from] KeyError),
}

/// A request whose sender has proven to hold the private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    der: Vec<u8>,
    public_key: [u8; 32],
    subject: Option<Subject>,
}

impl CertificateRequest {
    /// Makes a request for the public half of `key`; `subject` is what the sender would like to be called, or
    /// `None` to leave it to the registrar.
    ///
    /// # Errors
    /// [`RequestError::Subject`] if the subject cannot be written.
    pub fn create(key: &SecretKey, subject: Option<&Subject>) -> Result<Self, RequestError> {
        let name = subject.map_or_else(|| Ok(Name::default()), Subject::to_name)?;
        let info = CertReqInfo {
            version: x509_cert::request::Version::V1,
            subject: name,
            public_key: issue::spki(&key.public()).map_err(|_| RequestError::Der)?,
            attributes: Default::default(),
        };
        let signature = key.sign(&info.to_der().map_err(|_| RequestError::Der)?);
        let signature = BitString::from_bytes(&signature).map_err(|_| RequestError::Der)?;
        let request = CertReq { info, algorithm: issue::ed25519(), signature };
        Self::parse(&request.to_der().map_err(|_| RequestError::Der)?)
    }

    /// Reads a request and checks its signature. Attributes, such as extensions that are asked for, are passed
    /// over: the registrar decides what a certificate says.
    ///
    /// # Errors
    /// [`RequestError`] says what is wrong.
    pub fn parse(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong(der.len()));
        }
        let request = CertReq::from_der(der).map_err(|_| RequestError::Der)?;
        if request.to_der().ok().as_deref() != Some(der) {
            return Err(RequestError::Der);
        }
        let info = &request.info;
        if ![&request.algorithm, &info.public_key.algorithm].into_iter().all(is_ed25519) {
            return Err(RequestError::Algorithm);
        }
        let public_key =
            bits(info.public_key.subject_public_key.as_bytes()).ok_or(RequestError::Algorithm)?;
        let signature = bits(request.signature.as_bytes()).ok_or(RequestError::Algorithm)?;
        key::verify(&public_key, &info.to_der().map_err(|_| RequestError::Der)?, &signature)?;
        let named = !info.subject.is_empty();
        let subject = named.then(|| Subject::from_name(&info.subject)).transpose()?;
        Ok(Self { der: der.to_vec(), public_key, subject })
    }

    /// The DER encoding.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The key to certify.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// What the sender would like to be called. Nobody has checked it.
    pub fn subject(&self) -> Option<&Subject> {
        self.subject.as_ref()
    }
}
