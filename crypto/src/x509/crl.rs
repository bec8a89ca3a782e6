//! Revocation lists: what an authority has revoked (RFC 5280 section 5).
//!
//! A list is complete (never a delta), numbered, and limited in time. Of two lists by one authority, the higher
//! number wins. What a list revokes stays revoked: there is no hold that is lifted again.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use const_oid::{AssociatedOid, ObjectIdentifier};
use der::{Decode, Encode};
use x509_cert::certificate::Version;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber};
use x509_cert::name::Name;

use super::certificate::{bits, is_ed25519, serial, signed_part, timestamp};
use super::extensions::value;
use super::{CRL_BYTES_MAX, Certificate, key};
use crate::ids::Timestamp;

pub use x509_cert::ext::pkix::CrlReason;

/// Why bytes are not a revocation list of our profile, or not one of this issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// More bytes than fit into a record.
    #[error("{0} bytes are too many for a revocation list ({CRL_BYTES_MAX} at most)")]
    TooLong(usize),
    /// Not the DER encoding of a list, or bytes after it.
    #[error("not an X.509 revocation list (version 2) in DER")]
    Der,
    /// Another signature than Ed25519.
    #[error("the signature must be Ed25519 (RFC 8410)")]
    Algorithm,
    /// RFC 5280 section 5.2 requires these two.
    #[error("a revocation list needs cRLNumber (of at most 8 bytes) and authorityKeyIdentifier")]
    Extensions,
    /// An extension stands twice, or its value cannot be read.
    #[error("the extension {0} is repeated or malformed")]
    Extension(ObjectIdentifier),
    /// An extension that must not be passed over, such as that of a delta or of a partial list.
    #[error("the critical extension {0} is not known: only complete lists are understood")]
    UnknownCritical(ObjectIdentifier),
    /// No next update, or before this one.
    #[error("a revocation list needs a nextUpdate that is not before its thisUpdate")]
    Update,
    /// An entry whose serial number no certificate can have, or that stands twice.
    #[error("an entry's serial number is repeated, not positive, or longer than 20 bytes")]
    Entry,
    /// Named another issuer, or another key of it.
    #[error("the list is by another authority (its issuer name or key identifier differs)")]
    Issuer,
    /// The authority may not sign lists.
    #[error("the authority's certificate lacks the key usage cRLSign")]
    KeyUsage,
    /// Not signed by this authority.
    #[error("the signature on the list does not match")]
    Signature,
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The serial number of the revoked certificate, as [`Certificate::serial`] gives it.
    pub serial: Vec<u8>,
    /// When it was revoked.
    pub at: Timestamp,
    /// Why, if the list says so.
    pub reason: Option<CrlReason>,
}

/// An X.509 revocation list: well-formed; [`RevocationList::verify`] says whose it is. Cloning shares the bytes.
#[derive(Clone)]
pub struct RevocationList(Arc<Inner>);

struct Inner {
    der: Vec<u8>,
    signed: Range<usize>,
    signature: [u8; 64],
    issuer_name: Name,
    authority_key: Vec<u8>,
    number: u64,
    this_update: Timestamp,
    next_update: Timestamp,
    revoked: BTreeMap<Vec<u8>, Revocation>,
    signer: OnceLock<[u8; 32]>,
}

impl RevocationList {
    /// Reads a list from its DER encoding, as strictly as [`Certificate::parse`].
    ///
    /// # Errors
    /// [`CrlError`] says which rule of the profile the bytes break.
    pub fn parse(der: &[u8]) -> Result<Self, CrlError> {
        if der.len() > CRL_BYTES_MAX {
            return Err(CrlError::TooLong(der.len()));
        }
        let parsed =
            CertificateList::<x509_cert::certificate::Rfc5280>::from_der(der).map_err(|_| CrlError::Der)?;
        if parsed.to_der().ok().as_deref() != Some(der) || parsed.tbs_cert_list.version != Version::V2 {
            return Err(CrlError::Der);
        }
        let tbs = &parsed.tbs_cert_list;
        if ![&parsed.signature_algorithm, &tbs.signature].into_iter().all(is_ed25519) {
            return Err(CrlError::Algorithm);
        }
        let (number, authority_key) = read_extensions(tbs.crl_extensions.as_deref().unwrap_or_default())?;
        let this_update = timestamp(tbs.this_update);
        let next_update = tbs.next_update.map(timestamp).ok_or(CrlError::Update)?;
        if next_update < this_update {
            return Err(CrlError::Update);
        }
        let after_signed = [parsed.signature_algorithm.encoded_len(), parsed.signature.encoded_len()];
        Ok(Self(Arc::new(Inner {
            signed: signed_part(der, tbs.encoded_len(), after_signed).ok_or(CrlError::Der)?,
            signature: bits(parsed.signature.as_bytes()).ok_or(CrlError::Algorithm)?,
            issuer_name: tbs.issuer.clone(),
            authority_key,
            number,
            this_update,
            next_update,
            revoked: read_entries(tbs)?,
            signer: OnceLock::new(),
            der: der.to_vec(),
        })))
    }

    /// The DER encoding.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// The number of the list; of two by one authority, the higher is the newer.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// When the list was made.
    pub fn this_update(&self) -> Timestamp {
        self.0.this_update
    }

    /// By when the next list was promised.
    pub fn next_update(&self) -> Timestamp {
        self.0.next_update
    }

    /// Whether the certificate with this serial number is revoked.
    pub fn is_revoked(&self, serial: &[u8]) -> bool {
        self.revocation(serial).is_some()
    }

    /// The entry for this serial number.
    pub fn revocation(&self, serial: &[u8]) -> Option<&Revocation> {
        self.0.revoked.get(serial)
    }

    /// All entries, by serial number.
    pub fn revocations(&self) -> impl ExactSizeIterator<Item = &Revocation> {
        self.0.revoked.values()
    }

    /// Whether `issuer` made this list: by name, key identifier, right and signature. Not whether `issuer` itself
    /// is to be trusted, nor whether the list is still fresh.
    ///
    /// # Errors
    /// [`CrlError::Issuer`], [`CrlError::KeyUsage`] or [`CrlError::Signature`].
    pub fn verify(&self, issuer: &Certificate) -> Result<(), CrlError> {
        let known = issuer.known();
        let same_key = known.subject_key.as_ref() == Some(&self.0.authority_key);
        if !same_key || *issuer.subject_name() != self.0.issuer_name {
            return Err(CrlError::Issuer);
        }
        if !known.authority || !known.key_usage.is_some_and(|usage| usage.crl_sign()) {
            return Err(CrlError::KeyUsage);
        }
        // Checked once per list, not once per certificate that is looked up in it.
        if self.0.signer.get() == Some(issuer.public_key()) {
            return Ok(());
        }
        let signed = &self.0.der[self.0.signed.clone()];
        key::verify(issuer.public_key(), signed, &self.0.signature).map_err(|_| CrlError::Signature)?;
        self.0.signer.get_or_init(|| *issuer.public_key());
        Ok(())
    }
}

impl PartialEq for RevocationList {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for RevocationList {}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RevocationList(number {}, {} entries)", self.0.number, self.0.revoked.len())
    }
}

/// The number, and the name of the key that signed.
fn read_extensions(extensions: &[Extension]) -> Result<(u64, Vec<u8>), CrlError> {
    let (mut number, mut authority_key) = (None, None);
    for (place, extension) in extensions.iter().enumerate() {
        let oid = extension.extn_id;
        if extensions[..place].iter().any(|earlier| earlier.extn_id == oid) {
            return Err(CrlError::Extension(oid));
        }
        match oid {
            CrlNumber::OID => number = Some(decode::<CrlNumber>(extension)?),
            AuthorityKeyIdentifier::OID => {
                authority_key = decode::<AuthorityKeyIdentifier>(extension)?.key_identifier;
            }
            _ if extension.critical => return Err(CrlError::UnknownCritical(oid)),
            _ => {}
        }
    }
    let number = number.and_then(|CrlNumber(number)| {
        let bytes = number.as_bytes();
        (bytes.len() <= 8).then(|| bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    });
    match (number, authority_key) {
        (Some(number), Some(key)) => Ok((number, key.into_bytes().into())),
        _ => Err(CrlError::Extensions),
    }
}

fn read_entries(tbs: &TbsCertList) -> Result<BTreeMap<Vec<u8>, Revocation>, CrlError> {
    let mut revoked = BTreeMap::new();
    for entry in tbs.revoked_certificates.iter().flatten() {
        let entry = read_entry(entry)?;
        if revoked.insert(entry.serial.clone(), entry).is_some() {
            return Err(CrlError::Entry);
        }
    }
    Ok(revoked)
}

fn read_entry(entry: &RevokedCert) -> Result<Revocation, CrlError> {
    let mut reason = None;
    for extension in entry.crl_entry_extensions.iter().flatten() {
        match extension.extn_id {
            CrlReason::OID if reason.is_some() => return Err(CrlError::Extension(CrlReason::OID)),
            CrlReason::OID => reason = Some(decode::<CrlReason>(extension)?),
            oid if extension.critical => return Err(CrlError::UnknownCritical(oid)),
            _ => {}
        }
    }
    let serial = serial(entry.serial_number.as_bytes()).ok_or(CrlError::Entry)?;
    Ok(Revocation { serial, at: timestamp(entry.revocation_date), reason })
}

fn decode<'a, T: Decode<'a> + Encode>(extension: &'a Extension) -> Result<T, CrlError> {
    value(extension).ok_or(CrlError::Extension(extension.extn_id))
}
