//! X.509 for trusts: certificates, chains, revocation lists, requests, and the keys under them.
//!
//! Protocol: RFC 5280 (certificates and revocation lists), RFC 8410 (Ed25519 in them), RFC 2986 (requests),
//! RFC 7468 (PEM). The profile, with every field and extension, is `docs/reference/certificates.md`.
//!
//! A trust root, kept offline, certifies one or more registrars; a registrar certifies the trust's nodes, devices
//! and officers, and signs the revocation list. Nothing here reads a clock or a file: the moment is an argument,
//! and bytes come from the caller.
//!
//! In the order of use:
//! - [`issue`]: [`issue::root`] and [`issue::Issuer`] make certificates and lists; [`request`] carries a device's
//!   public key to the registrar, so that the private one never moves.
//! - [`Certificate::parse`] and [`RevocationList::parse`] take bytes from anywhere: bounded, strict DER, never a
//!   panic. What they return is well-formed, and not yet trusted.
//! - [`verify_chain`] decides whether a certificate reaches a root, for a purpose, at a moment.
//!
//! Deliberate deviations from RFC 5280, each of which refuses more than it asks:
//! - Ed25519 alone, verified by strict rules.
//! - Bytes that are not the DER encoding of what they say are refused, as are an unknown critical extension, and
//!   name constraints other than permitted directory names, when parsed rather than when a path is built.
//! - Names are compared exactly, not by the case-insensitive rules of section 7.1.
//! - Every subject in a chain carries the ODS code of its root, even if no name constraint says so.

mod certificate;
mod chain;
mod crl;
mod extensions;
pub mod issue;
mod key;
mod name;
pub mod oids;
mod parsed;
mod pem;
pub mod request;
#[cfg(test)]
mod tests;

pub use certificate::{Certificate, CertificateError};
pub use chain::{ChainError, CrlPolicy, Link, check_current, verify_chain, verify_root};
pub use crl::{CrlError, CrlReason, Revocation, RevocationList};
pub use key::{KeyError, SecretKey, verify};
pub use name::{Subject, SubjectError, TEXT_CHARS_MAX};
pub use parsed::Parsed;
pub use pem::{PemError, chain_from_pem, chain_to_pem};

use std::fmt;

use const_oid::ObjectIdentifier;

/// A certificate in DER, in bytes. Ours take about 600.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;
/// A revocation list in DER, in bytes: about 1,200 entries. It has to fit into a record, with its frame.
pub const CRL_BYTES_MAX: usize = 60 * 1024;
/// Certificates between a leaf and its root. Ours have one, the registrar; a trust's existing PKI may have two.
pub const ISSUERS_MAX: usize = 2;

const _: () = assert!(CRL_BYTES_MAX + 4096 <= crate::limits::RECORD_BYTES_MAX);

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// A trust's root: self-signed, kept offline, certifies registrars.
    Root,
    /// An issuing authority under a root: certifies nodes, devices and officers, signs the revocation list.
    Registrar,
    /// A trust's node: signs records, and serves and opens TLS connections.
    Node,
    /// A person's device: signs in MLS groups, and opens TLS connections to its node.
    Device,
    /// A records officer: may order deletion.
    Officer,
}

impl Purpose {
    /// The purposes of certificates that certify nothing further, each with its key purpose.
    const LEAVES: [(Purpose, ObjectIdentifier); 3] = [
        (Purpose::Node, oids::PURPOSE_NODE),
        (Purpose::Device, oids::PURPOSE_DEVICE),
        (Purpose::Officer, oids::PURPOSE_OFFICER),
    ];

    /// Whether certificates of this purpose sign other certificates.
    pub fn is_authority(self) -> bool {
        self.oid().is_none()
    }

    /// The key purpose that stands for it in extendedKeyUsage; authorities have none.
    fn oid(self) -> Option<ObjectIdentifier> {
        Self::LEAVES.iter().find(|(purpose, _)| *purpose == self).map(|(_, oid)| *oid)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Purpose::Root => "root",
            Purpose::Registrar => "registrar",
            Purpose::Node => "node",
            Purpose::Device => "device",
            Purpose::Officer => "officer",
        })
    }
}
