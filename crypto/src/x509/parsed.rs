//! Certificates that were parsed lately.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::{Certificate, CertificateError};
use crate::Fingerprint;

/// Certificates kept at most, of about 3 KiB each: those of the largest group and their registrars, twice.
const KEPT_MAX: usize = 4096;

/// Parses certificates, and keeps those that it has parsed: of a group's members the same ones are asked for with each message. To parse
/// one takes about as long as a signature, most of it to see that the certified key is a point. What is kept says nothing of trust.
#[derive(Debug, Default)]
pub struct Parsed(Mutex<BTreeMap<Fingerprint, Certificate>>);

impl Parsed {
    /// [`Certificate::parse`].
    ///
    /// # Errors
    /// Likewise.
    pub fn certificate(&self, der: &[u8]) -> Result<Certificate, CertificateError> {
        let fingerprint = Fingerprint::of(der);
        let kept = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(certificate) = kept().get(&fingerprint) {
            return Ok(certificate.clone());
        }
        let certificate = Certificate::parse(der)?;
        let mut kept = kept();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(fingerprint, certificate.clone());
        Ok(certificate)
    }
}
