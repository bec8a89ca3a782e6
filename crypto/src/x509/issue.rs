//! Making certificates and revocation lists.
//!
//! [`root`] begins a trust; an [`Issuer`] is an authority's certificate with its key, and makes everything below
//! it. What comes out has been through [`Certificate::parse`], so that we never make what we would refuse.

use std::net::IpAddr;

use const_oid::ObjectIdentifier;
use der::asn1::{BitString, Ia5String, OctetString, PrintableString};
use der::flagset::FlagSet;
use der::{DateTime, Encode};
use ed25519_dalek::Signature;
use sha2::{Digest, Sha256};
use spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::certificate::{TbsCertificate, Version};
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CrlNumber, ExtendedKeyUsage, KeyUsage, KeyUsages,
    NameConstraints, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};

use super::extensions::peer_id_of;
use super::name::subtree_of;
use super::{
    Certificate, CertificateError, CrlError, CrlReason, KeyError, Purpose, Revocation, RevocationList,
    SecretKey, Subject, SubjectError, oids,
};
use crate::ids::{NodeId, Timestamp};
use crate::limits::CLOCK_SKEW_SECS_MAX;
use crate::residency::Country;

const DAY_SECS: u64 = 24 * 3600;
/// Usual life of a root: 10 years.
pub const ROOT_SECS: u64 = 3650 * DAY_SECS;
/// Usual life of a registrar: 2 years.
pub const REGISTRAR_SECS: u64 = 730 * DAY_SECS;
/// Usual life of a node's certificate: 90 days.
pub const NODE_SECS: u64 = 90 * DAY_SECS;
/// Usual life of a device's certificate: 90 days.
pub const DEVICE_SECS: u64 = 90 * DAY_SECS;
/// Usual life of an officer's certificate: 90 days.
pub const OFFICER_SECS: u64 = 90 * DAY_SECS;
/// Usual time from one revocation list to the promised next: 7 days.
pub const REVOCATION_LIST_SECS: u64 = 7 * DAY_SECS;

const _: () = assert!(ROOT_SECS > REGISTRAR_SECS && REGISTRAR_SECS > NODE_SECS);

/// Why a certificate or a list cannot be made. The fault is the caller's, unless it is [`IssueError::Key`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The key, or the randomness for a serial number.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The subject cannot be written.
    #[error("the subject: {0}")]
    Subject(#[from] SubjectError),
    /// The key is not that of the certificate.
    #[error("the private key does not belong to the certificate of {0}")]
    OtherKey(String),
    /// The issuer may not make this.
    #[error("a {issuer} certificate cannot issue a {purpose} certificate")]
    MayNot {
        /// What the issuer is.
        issuer: Purpose,
        /// What was asked for.
        purpose: Purpose,
    },
    /// The subject is of another trust.
    #[error("the subject is of the trust {asked}, and the issuer certifies {own} alone")]
    OtherTrust {
        /// The trust of the subject.
        asked: String,
        /// The trust of the issuer.
        own: String,
    },
    /// Valid for longer than its issuer.
    #[error(
        "the validity would end after that of the issuer: renew the issuer first, or choose a shorter life"
    )]
    OutlivesIssuer,
    /// No such moment in X.509.
    #[error("the validity must lie before the year 10000, and end after it begins")]
    Validity,
    /// Not a host name that TLS compares.
    #[error("{0:?} is not a host name: labels of letters, digits and hyphens are needed, without wildcards")]
    HostName(String),
    /// A node in a country where none may stand.
    #[error("the hosting country is {0}; a country of the UK or the EEA is needed")]
    HostingCountry(Country),
    /// It would not be accepted.
    #[error("the result is not of the profile: {0}")]
    Certificate(#[from] CertificateError),
    /// It would not be accepted.
    #[error("the result is not of the profile: {0}")]
    Crl(#[from] CrlError),
    /// It does not fit into DER.
    #[error("the result has no DER encoding")]
    Encoding,
}

/// A certificate's serial number and validity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    serial: [u8; 16],
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Term {
    /// A random serial number, and a life of `life_secs` from `now`. It begins earlier, by the clock difference
    /// that we accept, so that a peer whose clock is behind takes the certificate at once.
    ///
    /// # Errors
    /// [`IssueError::Key`] if there is no randomness.
    pub fn starting(now: Timestamp, life_secs: u64) -> Result<Self, IssueError> {
        let mut serial = [0; 16];
        getrandom::fill(&mut serial).map_err(|_| KeyError::Randomness)?;
        Ok(Self::new(serial, now.minus_secs(CLOCK_SKEW_SECS_MAX), now.plus_secs(life_secs)))
    }

    /// From given values. `serial` should be random: its first two bits are set to 01, so that it is positive
    /// and always 16 bytes long.
    pub fn new(mut serial: [u8; 16], not_before: Timestamp, not_after: Timestamp) -> Self {
        serial[0] = serial[0] & 0x3f | 0x40;
        Self { serial, not_before, not_after }
    }
}

/// What a node's certificate says of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeDetails {
    /// The node's libp2p identity. Usually the key that is certified.
    pub node: NodeId,
    /// Where the node stands.
    pub hosting_country: Country,
    /// Host names under which clients reach it.
    pub dns_names: Vec<String>,
    /// Addresses under which clients reach it.
    pub ip_addresses: Vec<IpAddr>,
}

/// Makes a trust's root: self-signed, with one authority below it at most, for names of this trust alone.
///
/// # Errors
/// [`IssueError`] if the subject or the term cannot be written.
pub fn root(subject: &Subject, key: &SecretKey, term: &Term) -> Result<Certificate, IssueError> {
    let name = subject.to_name()?;
    let mut profile = Profile::new(name.clone(), name, &key.public(), &key_identifier(&key.public()))?;
    profile.authority(1, KeyUsages::KeyCertSign | KeyUsages::CRLSign, subject)?;
    profile.sign(&key.public(), key, term)
}

/// An authority's certificate with its private key.
#[derive(Clone, Debug)]
pub struct Issuer<'a> {
    certificate: &'a Certificate,
    key: &'a SecretKey,
}

impl<'a> Issuer<'a> {
    /// Brings a certificate and its key together.
    ///
    /// # Errors
    /// [`IssueError::OtherKey`] if they do not belong together, [`IssueError::MayNot`] if it is no authority.
    pub fn new(certificate: &'a Certificate, key: &'a SecretKey) -> Result<Self, IssueError> {
        if key.public() != *certificate.public_key() {
            return Err(IssueError::OtherKey(certificate.subject().to_string()));
        }
        if !certificate.purpose().is_authority() {
            let issuer = certificate.purpose();
            return Err(IssueError::MayNot { issuer, purpose: Purpose::Registrar });
        }
        Ok(Self { certificate, key })
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &Certificate {
        self.certificate
    }

    /// Makes a registrar, which has no authority below it. The issuer is a root.
    ///
    /// # Errors
    /// [`IssueError`] if the issuer may not, or the subject or term cannot be written.
    pub fn registrar(
        &self,
        subject: &Subject,
        key: &[u8; 32],
        term: &Term,
    ) -> Result<Certificate, IssueError> {
        let mut profile = self.profile(Purpose::Registrar, subject, key, term)?;
        // It signs records as well: revocation lists and directory entries travel in them.
        let usage = KeyUsages::DigitalSignature | KeyUsages::KeyCertSign | KeyUsages::CRLSign;
        profile.authority(0, usage, subject)?;
        profile.sign(key, self.key, term)
    }

    /// Makes a node's certificate. The issuer is a registrar.
    ///
    /// # Errors
    /// [`IssueError`] as for a registrar, or if a host name is none, or no node may stand in the country.
    pub fn node(
        &self,
        subject: &Subject,
        key: &[u8; 32],
        details: &NodeDetails,
        term: &Term,
    ) -> Result<Certificate, IssueError> {
        if !details.hosting_country.is_permitted() {
            return Err(IssueError::HostingCountry(details.hosting_country));
        }
        let mut profile = self.profile(Purpose::Node, subject, key, term)?;
        profile.leaf(&[oids::PURPOSE_NODE, oids::SERVER_AUTH, oids::CLIENT_AUTH])?;
        profile.hosts(details)?;
        let country = PrintableString::new(details.hosting_country.as_str()).map_err(encoding)?;
        profile.push((oids::HOSTING_COUNTRY, false, &country))?;
        let peer_id = OctetString::new(&peer_id_of(&details.node)[..]).map_err(encoding)?;
        profile.push((oids::PEER_ID, false, &peer_id))?;
        profile.sign(key, self.key, term)
    }

    /// Makes a device's certificate. The issuer is a registrar.
    ///
    /// # Errors
    /// [`IssueError`] as for a registrar.
    pub fn device(&self, subject: &Subject, key: &[u8; 32], term: &Term) -> Result<Certificate, IssueError> {
        let mut profile = self.profile(Purpose::Device, subject, key, term)?;
        profile.leaf(&[oids::PURPOSE_DEVICE, oids::CLIENT_AUTH])?;
        profile.sign(key, self.key, term)
    }

    /// Makes a records officer's certificate. The issuer is a registrar.
    ///
    /// # Errors
    /// [`IssueError`] as for a registrar.
    pub fn officer(&self, subject: &Subject, key: &[u8; 32], term: &Term) -> Result<Certificate, IssueError> {
        let mut profile = self.profile(Purpose::Officer, subject, key, term)?;
        profile.leaf(&[oids::PURPOSE_OFFICER, oids::CLIENT_AUTH])?;
        profile.sign(key, self.key, term)
    }

    /// Makes a revocation list with all of `revoked`, which may be in any order.
    ///
    /// `number` has to be higher than in every earlier list of this authority. Entries of certificates that have
    /// expired may be left out once they stood in one list after it (RFC 5280 section 3.3).
    ///
    /// # Errors
    /// [`IssueError::Crl`] if the list would be refused: too long, an entry twice, times in the wrong order.
    pub fn revocation_list(
        &self,
        number: u64,
        this_update: Timestamp,
        next_update: Timestamp,
        revoked: &[Revocation],
    ) -> Result<RevocationList, IssueError> {
        let entries = revoked.iter().map(revoked_entry).collect::<Result<Vec<_>, _>>()?;
        let name = self.certificate.subject_name();
        let number = CrlNumber::try_from(number).map_err(encoding)?;
        let authority_key = authority_key(self.key_identifier()).map_err(encoding)?;
        let tbs = TbsCertList {
            version: Version::V2,
            signature: ed25519(),
            issuer: name.clone(),
            this_update: time(this_update)?,
            next_update: Some(time(next_update)?),
            // RFC 5280 section 5.1.2.6: absent rather than empty.
            revoked_certificates: Some(entries).filter(|entries| !entries.is_empty()),
            crl_extensions: Some(vec![
                authority_key.to_extension(name, &[]).map_err(encoding)?,
                number.to_extension(name, &[]).map_err(encoding)?,
            ]),
        };
        let signature = self.key.sign(&tbs.to_der().map_err(encoding)?);
        let list: CertificateList = CertificateList {
            tbs_cert_list: tbs,
            signature_algorithm: ed25519(),
            signature: BitString::from_bytes(&signature).map_err(encoding)?,
        };
        Ok(RevocationList::parse(&list.to_der().map_err(encoding)?)?)
    }

    /// The beginning of a certificate of `purpose`, once it is clear that this authority may make it.
    fn profile(
        &self,
        purpose: Purpose,
        subject: &Subject,
        key: &[u8; 32],
        term: &Term,
    ) -> Result<Profile, IssueError> {
        let own = self.certificate;
        let fits = match purpose {
            Purpose::Root => false,
            Purpose::Registrar => own.purpose() == Purpose::Root,
            Purpose::Node | Purpose::Device | Purpose::Officer => own.purpose() == Purpose::Registrar,
        };
        if !fits {
            return Err(IssueError::MayNot { issuer: own.purpose(), purpose });
        }
        if subject.trust != own.subject().trust {
            let (asked, own) = (subject.trust.to_string(), own.subject().trust.to_string());
            return Err(IssueError::OtherTrust { asked, own });
        }
        if term.not_after > own.not_after() {
            return Err(IssueError::OutlivesIssuer);
        }
        Profile::new(own.subject_name().clone(), subject.to_name()?, key, self.key_identifier())
    }

    fn key_identifier(&self) -> &[u8] {
        self.certificate.known().subject_key.as_deref().unwrap_or_default()
    }
}

/// A certificate in the making: names and extensions. It signs whatever it is given; [`Issuer`] decides.
pub(super) struct Profile {
    pub issuer: Name,
    pub subject: Name,
    pub extensions: Vec<Extension>,
}

impl Profile {
    pub fn new(issuer: Name, subject: Name, key: &[u8; 32], issuer_key: &[u8]) -> Result<Self, IssueError> {
        let mut profile = Self { issuer, subject, extensions: Vec::new() };
        let own_key = OctetString::new(key_identifier(key)).map_err(encoding)?;
        profile.push(&SubjectKeyIdentifier(own_key))?;
        profile.push(&authority_key(issuer_key).map_err(encoding)?)?;
        Ok(profile)
    }

    pub fn push(&mut self, extension: impl ToExtension<Error = der::Error>) -> Result<(), IssueError> {
        let extension = extension.to_extension(&self.subject, &self.extensions).map_err(encoding)?;
        self.extensions.push(extension);
        Ok(())
    }

    /// What an authority's certificate says; `path_length` authorities may stand below it.
    pub fn authority(
        &mut self,
        path_length: u8,
        usage: FlagSet<KeyUsages>,
        subject: &Subject,
    ) -> Result<(), IssueError> {
        self.push(&BasicConstraints { ca: true, path_len_constraint: Some(path_length) })?;
        self.push(&KeyUsage(usage))?;
        let base = GeneralName::DirectoryName(subtree_of(&subject.trust)?);
        let subtree = GeneralSubtree { base, minimum: 0, maximum: None };
        self.push(&NameConstraints { permitted_subtrees: Some(vec![subtree]), excluded_subtrees: None })
    }

    /// What the certificate of a leaf says.
    pub fn leaf(&mut self, purposes: &[ObjectIdentifier]) -> Result<(), IssueError> {
        self.push(&BasicConstraints { ca: false, path_len_constraint: None })?;
        self.push(&KeyUsage(FlagSet::from(KeyUsages::DigitalSignature)))?;
        self.push(&ExtendedKeyUsage(purposes.to_vec()))
    }

    pub fn hosts(&mut self, details: &NodeDetails) -> Result<(), IssueError> {
        let mut names = Vec::new();
        for name in &details.dns_names {
            let refused = || IssueError::HostName(name.chars().take(64).collect());
            if !is_host_name(name) {
                return Err(refused());
            }
            names.push(GeneralName::DnsName(Ia5String::new(name).map_err(|_| refused())?));
        }
        names.extend(details.ip_addresses.iter().copied().map(GeneralName::from));
        if names.is_empty() { Ok(()) } else { self.push(&SubjectAltName(names)) }
    }

    pub fn sign(self, key: &[u8; 32], signer: &SecretKey, term: &Term) -> Result<Certificate, IssueError> {
        if term.not_after < term.not_before {
            return Err(IssueError::Validity);
        }
        let serial = SerialNumber::new(&term.serial).map_err(encoding)?;
        let validity = Validity::new(time(term.not_before)?, time(term.not_after)?);
        let builder = CertificateBuilder::new(self, serial, validity, spki(key)?).map_err(building)?;
        let certificate = builder.build::<_, Signature>(signer.signer()).map_err(building)?;
        Ok(Certificate::parse(&certificate.to_der().map_err(encoding)?)?)
    }
}

impl BuilderProfile for Profile {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        _key: SubjectPublicKeyInfoRef<'_>,
        _issuer_key: SubjectPublicKeyInfoRef<'_>,
        _tbs: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(self.extensions.clone())
    }
}

/// The SubjectPublicKeyInfo of an Ed25519 key (RFC 8410 section 4).
pub(super) fn spki(key: &[u8; 32]) -> Result<SubjectPublicKeyInfoOwned, IssueError> {
    let subject_public_key = BitString::from_bytes(key).map_err(encoding)?;
    Ok(SubjectPublicKeyInfoOwned { algorithm: ed25519(), subject_public_key })
}

pub(super) fn ed25519() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: oids::ED25519, parameters: None }
}

/// The name of a key: the first 160 bits of the SHA-256 of its bits (RFC 7093 section 2, method 1).
pub(super) fn key_identifier(key: &[u8; 32]) -> Vec<u8> {
    Sha256::digest(key)[..20].to_vec()
}

fn authority_key(identifier: &[u8]) -> der::Result<AuthorityKeyIdentifier> {
    let key_identifier = Some(OctetString::new(identifier)?);
    Ok(AuthorityKeyIdentifier { key_identifier, ..Default::default() })
}

fn revoked_entry(revocation: &Revocation) -> Result<RevokedCert, IssueError> {
    let serial_number = SerialNumber::new(&revocation.serial).map_err(|_| CrlError::Entry)?;
    let stated = revocation.reason.filter(|reason| *reason != CrlReason::Unspecified);
    let extension = |reason: CrlReason| reason.to_extension(&Name::default(), &[]).map_err(encoding);
    let crl_entry_extensions = stated.map(extension).transpose()?.map(|extension| vec![extension]);
    Ok(RevokedCert { serial_number, revocation_date: time(revocation.at)?, crl_entry_extensions })
}

/// X.509 time: UTCTime before 2050, GeneralizedTime from then on (RFC 5280 section 4.1.2.5).
fn time(at: Timestamp) -> Result<Time, IssueError> {
    let since_1970 = std::time::Duration::from_secs(at.as_secs());
    DateTime::from_unix_duration(since_1970).map(Time::from).map_err(|_| IssueError::Validity)
}

/// RFC 1123 section 2.1, in at most 253 bytes.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn encoding(_: der::Error) -> IssueError {
    IssueError::Encoding
}

fn building(_: x509_cert::builder::Error) -> IssueError {
    IssueError::Encoding
}
