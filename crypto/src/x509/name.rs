//! Whom a certificate is about: the subject, and its place in an X.501 name.
//!
//! The ODS code is the first component of every name, because a name constraint on directory names permits by
//! prefix (RFC 5280 section 4.2.1.10): a root that permits `organizationIdentifier=RYJ` thereby lets `openssl`
//! and every other verifier refuse names of another trust. Then C, O, OU, CN, title, serialNumber.

use std::fmt;

use const_oid::ObjectIdentifier;
use der::asn1::{Any, PrintableStringRef, Utf8StringRef};
use der::{Decode, Encode, Tag, Tagged};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};

use super::oids;
use crate::ids::TrustId;
use crate::residency::Country;

/// Longest value of an attribute, in characters (RFC 5280 appendix A.1: ub-common-name and its like).
pub const TEXT_CHARS_MAX: usize = 64;

/// Why a name is not one of ours, or cannot be written as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// The ODS code has to come first, for name constraints to work.
    #[error("the first component of the name must be organizationIdentifier (2.5.4.97) with the ODS code")]
    TrustFirst,
    /// A required attribute is not there.
    #[error("{0} is missing from the name")]
    Missing(&'static str),
    /// An attribute that may stand once stands twice.
    #[error("{0} stands more than once in the name")]
    Repeated(&'static str),
    /// A component with several attributes, whose order would be ambiguous.
    #[error("a component of the name has more than one attribute")]
    MultiValued,
    /// Empty, too long, of another string type, or with characters that are not seen as they are.
    #[error(
        "{0} must be 1 to {TEXT_CHARS_MAX} characters of UTF8String or PrintableString, without spaces at its \
         ends, control characters or marks that change the direction of text"
    )]
    Text(&'static str),
    /// The registration is a PrintableString in X.520.
    #[error("serialNumber must be made of letters, digits, spaces and '()+,-./:=? alone")]
    Registration,
    /// Not an ODS code.
    #[error("organizationIdentifier: {0}")]
    Trust(#[from] crate::ids::IdError),
    /// Not a country code.
    #[error("countryName: {0}")]
    Country(#[from] crate::residency::CountryError),
    /// Not a name that DER can carry.
    #[error("the name has no DER encoding")]
    Encoding,
}

/// Whom a certificate is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The trust that vouches, by its ODS code (organizationIdentifier).
    pub trust: TrustId,
    /// Country in which the trust is established (C). Where a node stands is another matter: see
    /// [`super::Certificate::hosting_country`].
    pub country: Country,
    /// The trust's name (O).
    pub organisation: String,
    /// The display name: of a person, a node or an authority (CN).
    pub common_name: String,
    /// Department (OU).
    pub department: Option<String>,
    /// Role, such as "Consultant cardiologist" (title).
    pub title: Option<String>,
    /// Professional registration, such as "GMC 1234567" (serialNumber).
    pub registration: Option<String>,
}

impl Subject {
    /// The subject that an X.501 name stands for. Attributes of other types are passed over, as a trust's
    /// existing PKI may add some.
    pub(super) fn from_name(name: &Name) -> Result<Self, SubjectError> {
        let mut first = None;
        let mut texts: [Option<String>; ATTRIBUTES.len()] = Default::default();
        for (place, component) in name.iter_rdn().enumerate() {
            let mut attributes = component.iter();
            let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
                return Err(SubjectError::MultiValued);
            };
            let Some(known) = ATTRIBUTES.iter().position(|(oid, _)| *oid == attribute.oid) else {
                continue;
            };
            let label = ATTRIBUTES[known].1;
            let value = text(&attribute.value).filter(|t| is_plain(t)).ok_or(SubjectError::Text(label))?;
            if texts[known].replace(value.to_owned()).is_some() {
                return Err(SubjectError::Repeated(label));
            }
            if place == 0 {
                first = Some(known);
            }
        }
        if first != Some(0) {
            return Err(SubjectError::TrustFirst);
        }
        let [trust, country, organisation, department, common_name, title, registration] = texts;
        Ok(Self {
            trust: trust.ok_or(SubjectError::TrustFirst)?.parse()?,
            country: country.ok_or(SubjectError::Missing("C"))?.parse()?,
            organisation: organisation.ok_or(SubjectError::Missing("O"))?,
            common_name: common_name.ok_or(SubjectError::Missing("CN"))?,
            department,
            title,
            registration,
        })
    }

    /// The X.501 name, its components in the order that the module's documentation gives.
    pub(super) fn to_name(&self) -> Result<Name, SubjectError> {
        let texts = [
            Some(self.trust.as_str()),
            Some(self.country.as_str()),
            Some(&self.organisation),
            self.department.as_deref(),
            Some(&self.common_name),
            self.title.as_deref(),
            self.registration.as_deref(),
        ];
        let mut name = RdnSequence::default();
        for ((oid, label), value) in ATTRIBUTES.iter().zip(texts) {
            let Some(value) = value else { continue };
            if !is_plain(value) {
                return Err(SubjectError::Text(label));
            }
            name.push(component(*oid, value)?);
        }
        to_name(&name)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.common_name)?;
        if let Some(title) = &self.title {
            write!(f, ", {title}")?;
        }
        write!(f, ", {} ({})", self.organisation, self.trust)
    }
}

/// The name that consists of the ODS code alone: the base of the subtree in which all names of a trust lie.
pub(super) fn subtree_of(trust: &TrustId) -> Result<Name, SubjectError> {
    let mut name = RdnSequence::default();
    name.push(component(oids::ORGANIZATION_IDENTIFIER, trust.as_str())?);
    to_name(&name)
}

/// Whether `name` lies in the subtree under `base`: whether the components of `base` are the first of `name`.
/// Values are compared exactly, which permits less than the case-insensitive rule of RFC 5280 section 7.1.
pub(super) fn lies_under(name: &Name, base: &Name) -> bool {
    base.len() <= name.len() && base.iter_rdn().zip(name.iter_rdn()).all(|(a, b)| same_component(a, b))
}

/// The attributes that we know, in the order in which they are written, with the names for messages.
const ATTRIBUTES: [(ObjectIdentifier, &str); 7] = [
    (oids::ORGANIZATION_IDENTIFIER, "organizationIdentifier"),
    (oids::COUNTRY, "C"),
    (oids::ORGANIZATION, "O"),
    (oids::DEPARTMENT, "OU"),
    (oids::COMMON_NAME, "CN"),
    (oids::TITLE, "title"),
    (oids::SERIAL_NUMBER, "serialNumber"),
];

fn component(oid: ObjectIdentifier, value: &str) -> Result<RelativeDistinguishedName, SubjectError> {
    let printable = oid == oids::COUNTRY || oid == oids::SERIAL_NUMBER;
    let value = if printable {
        Any::from(PrintableStringRef::new(value).map_err(|_| SubjectError::Registration)?)
    } else {
        Any::from(Utf8StringRef::new(value).map_err(|_| SubjectError::Encoding)?)
    };
    RelativeDistinguishedName::try_from(vec![AttributeTypeAndValue { oid, value }])
        .map_err(|_| SubjectError::Encoding)
}

fn to_name(components: &RdnSequence) -> Result<Name, SubjectError> {
    components.to_der().and_then(|der| Name::from_der(&der)).map_err(|_| SubjectError::Encoding)
}

/// The text of a value of one of the two string types that RFC 5280 section 4.1.2.4 asks for.
fn text(value: &Any) -> Option<&str> {
    match value.tag() {
        Tag::Utf8String => Utf8StringRef::try_from(value).ok().map(|t| t.as_str()),
        Tag::PrintableString => PrintableStringRef::try_from(value).ok().map(|t| t.as_str()),
        _ => None,
    }
}

/// Whether a person who reads the text sees what it is: names are shown to clinicians, who choose by them.
fn is_plain(text: &str) -> bool {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..)
    };
    !text.is_empty()
        && text.chars().count() <= TEXT_CHARS_MAX
        && text.trim() == text
        && !text.chars().any(hidden)
}

fn same_component(a: &RelativeDistinguishedName, b: &RelativeDistinguishedName) -> bool {
    let same_value = |a: &Any, b: &Any| match (text(a), text(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    };
    a.len() == b.len()
        && a.iter().zip(b.iter()).all(|(a, b)| a.oid == b.oid && same_value(&a.value, &b.value))
}
