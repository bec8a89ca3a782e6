//! What the extensions of a certificate say, decoded once and strictly.

use std::net::IpAddr;

use const_oid::{AssociatedOid, ObjectIdentifier};
use der::asn1::{OctetString, PrintableString};
use der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, NameConstraints, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, Extensions};
use x509_cert::name::Name;

use super::{CertificateError, oids};
use crate::ids::NodeId;
use crate::residency::Country;

/// Before the key in a libp2p PeerId: multihash "identity" of 36 bytes, which are a protobuf of key type 1
/// (Ed25519) and 32 bytes of key. libp2p specs, peer-ids, section "Keys".
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// The extensions that we know. A certificate has each at most once; one that is not known is passed over
/// unless it is critical.
#[derive(Default)]
pub(super) struct Known {
    /// Whether the certificate may certify others (RFC 5280 section 4.2.1.9).
    pub authority: bool,
    /// How many authorities may follow it in a path; `None` is no limit of its own.
    pub path_length: Option<u8>,
    /// What its key may do (section 4.2.1.3).
    pub key_usage: Option<KeyUsage>,
    /// Key purposes (section 4.2.1.12); `None` if the extension is not there.
    pub purposes: Option<Vec<ObjectIdentifier>>,
    /// Subtrees in one of which the subjects of all certificates below it must lie (section 4.2.1.10).
    pub permitted: Option<Vec<Name>>,
    /// Name of its own key (section 4.2.1.2).
    pub subject_key: Option<Vec<u8>>,
    /// Name of the key that signed it (section 4.2.1.1).
    pub authority_key: Option<Vec<u8>>,
    /// Hosts that it may speak for as a TLS server (section 4.2.1.6).
    pub dns_names: Vec<String>,
    /// Addresses that it may speak for as a TLS server (section 4.2.1.6).
    pub ip_addresses: Vec<IpAddr>,
    /// Where the node stands.
    pub hosting_country: Option<Country>,
    /// The libp2p identity of the node, as a multihash.
    pub peer_id: Option<[u8; 38]>,
}

impl Known {
    /// Decodes all extensions.
    pub fn read(extensions: &Extensions) -> Result<Self, CertificateError> {
        let mut known = Self::default();
        for (place, extension) in extensions.iter().enumerate() {
            let oid = extension.extn_id;
            if extensions[..place].iter().any(|earlier| earlier.extn_id == oid) {
                return Err(CertificateError::RepeatedExtension(oid));
            }
            known.read_one(extension)?;
        }
        known.check()
    }

    fn read_one(&mut self, extension: &Extension) -> Result<(), CertificateError> {
        match extension.extn_id {
            BasicConstraints::OID => {
                let constraints: BasicConstraints = decode(extension)?;
                self.authority = constraints.ca;
                self.path_length = constraints.path_len_constraint;
            }
            KeyUsage::OID => self.key_usage = Some(decode(extension)?),
            ExtendedKeyUsage::OID => self.purposes = Some(decode::<ExtendedKeyUsage>(extension)?.0),
            NameConstraints::OID => self.permitted = Some(permitted_names(decode(extension)?)?),
            SubjectKeyIdentifier::OID => {
                self.subject_key = Some(decode::<SubjectKeyIdentifier>(extension)?.0.into_bytes().into());
            }
            AuthorityKeyIdentifier::OID => {
                let identifier: AuthorityKeyIdentifier = decode(extension)?;
                self.authority_key = identifier.key_identifier.map(|id| id.into_bytes().into());
            }
            SubjectAltName::OID => self.read_alternative_names(extension)?,
            oids::HOSTING_COUNTRY => {
                let country: PrintableString = decode(extension)?;
                let country = country.as_str().parse().map_err(CertificateError::HostingCountry)?;
                self.hosting_country = Some(country);
            }
            oids::PEER_ID => {
                let peer_id: OctetString = decode(extension)?;
                let bytes = peer_id.as_bytes().try_into().map_err(|_| CertificateError::PeerId)?;
                key_in_peer_id(&bytes).ok_or(CertificateError::PeerId)?;
                self.peer_id = Some(bytes);
            }
            oid if extension.critical => return Err(CertificateError::UnknownCritical(oid)),
            _ => {}
        }
        Ok(())
    }

    fn read_alternative_names(&mut self, extension: &Extension) -> Result<(), CertificateError> {
        for name in decode::<SubjectAltName>(extension)?.0 {
            match name {
                GeneralName::DnsName(name) => self.dns_names.push(name.as_str().to_ascii_lowercase()),
                GeneralName::IpAddress(address) => {
                    let address = ip_address(address.as_bytes()).ok_or(malformed(extension))?;
                    self.ip_addresses.push(address);
                }
                // Other forms give nobody a right here.
                _ => {}
            }
        }
        Ok(())
    }

    /// What has to hold between extensions (RFC 5280 sections 4.2.1.3, 4.2.1.9 and 4.2.1.10).
    fn check(self) -> Result<Self, CertificateError> {
        let signs_certificates = self.key_usage.is_some_and(|usage| usage.key_cert_sign());
        if !self.authority && (signs_certificates || self.path_length.is_some() || self.permitted.is_some()) {
            return Err(CertificateError::NotAnAuthority);
        }
        Ok(self)
    }
}

/// The PeerId of the node with this key.
pub(super) fn peer_id_of(node: &NodeId) -> [u8; 38] {
    let mut bytes = [0; 38];
    bytes[..6].copy_from_slice(&PEER_ID_PREFIX);
    bytes[6..].copy_from_slice(node.as_bytes());
    bytes
}

/// The key in a PeerId of the only form that we use.
pub(super) fn key_in_peer_id(bytes: &[u8; 38]) -> Option<NodeId> {
    let key = bytes.strip_prefix(&PEER_ID_PREFIX)?;
    NodeId::try_from(key).ok()
}

/// The value of an extension, if it is well-formed. Re-encoding catches what a lenient decoder lets through.
pub(super) fn value<'a, T: Decode<'a> + Encode>(extension: &'a Extension) -> Option<T> {
    let bytes = extension.extn_value.as_bytes();
    let value = T::from_der(bytes).ok()?;
    (value.to_der().ok()? == bytes).then_some(value)
}

fn decode<'a, T: Decode<'a> + Encode>(extension: &'a Extension) -> Result<T, CertificateError> {
    value(extension).ok_or_else(|| malformed(extension))
}

fn malformed(extension: &Extension) -> CertificateError {
    CertificateError::Extension(extension.extn_id)
}

/// The subtrees that name constraints permit. Others than of directory names are refused, since a constraint
/// that is not understood must not be passed over (RFC 5280 section 4.2.1.10).
fn permitted_names(constraints: NameConstraints) -> Result<Vec<Name>, CertificateError> {
    let subtrees = match (constraints.permitted_subtrees, constraints.excluded_subtrees) {
        (Some(subtrees), None) => subtrees,
        _ => return Err(CertificateError::NameConstraints),
    };
    let name = |subtree: x509_cert::ext::pkix::constraints::name::GeneralSubtree| match subtree.base {
        GeneralName::DirectoryName(name) if subtree.minimum == 0 && subtree.maximum.is_none() => Ok(name),
        _ => Err(CertificateError::NameConstraints),
    };
    subtrees.into_iter().map(name).collect()
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).ok()
}
