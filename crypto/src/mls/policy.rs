//! The extension of the group context that says what a conversation is for and who administers it.
//!
//! It is part of the MLS group context (RFC 9420, section 8.1), so every member and the ordering node hold
//! the same one.

use mls_rs::extension::{ExtensionType, MlsCodecExtension, MlsExtension};
use mls_rs::{Extension, ExtensionList};
use mls_rs_codec::{MlsDecode, MlsEncode, MlsSize};

use super::identity::PersonKey;
use super::review::{Review, ReviewTerms};
use crate::Timestamp;
use crate::limits::RETENTION_SECS_MAX;

/// The extension's type: private use (RFC 9420, section 17.3). Every member lists it in its capabilities.
pub const POLICY_EXTENSION: ExtensionType = ExtensionType::new(0xF0A0);

/// Administrators of one conversation.
pub const ADMINS_MAX: usize = 64;

/// Without a life of messages, and with one; and with a review of the members, where no life of messages is 0.
const VERSIONS: [u8; 3] = [1, 2, 3];

/// Why an extension is not a policy. The fault of who wrote the group context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// There is none.
    #[error("the group has no policy")]
    Missing,
    /// Not readable, or of another version.
    #[error("the group's policy is not readable")]
    Malformed,
    /// A class that this version does not know.
    #[error("the conversation's class {0} is not known")]
    Class(u8),
    /// A life of messages that no charter allows.
    #[error("the conversation keeps messages for {0} seconds; 1 to {max} are possible", max = RETENTION_SECS_MAX)]
    Retention(u64),
    /// Terms of a review that no trust can have.
    #[error("the time between two reviews of the members, or the grace after it, is not possible")]
    Review,
    /// Nobody, too many, unsorted, or twice the same.
    #[error("a conversation has 1 to {ADMINS_MAX} administrators, sorted, each once")]
    Admins,
}

/// What a conversation is for. Set once: retention and auditing depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// About patients' care.
    Clinical,
    /// Rotas, beds, incidents.
    Operational,
    /// Anything else.
    Social,
}

impl Class {
    /// Every class.
    pub const ALL: [Class; 3] = [Class::Clinical, Class::Operational, Class::Social];

    /// As typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Class::Clinical => "clinical",
            Class::Operational => "operational",
            Class::Social => "social",
        }
    }

    /// The class of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }
}

/// A conversation's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    class: Class,
    admins: Vec<PersonKey>,
    retention_secs: Option<u64>,
    review: Option<Review>,
}

impl Policy {
    /// Of this class, administered by these people, in any order.
    ///
    /// # Errors
    /// [`PolicyError::Admins`] if there is nobody, or more than [`ADMINS_MAX`].
    pub fn new(class: Class, admins: impl IntoIterator<Item = PersonKey>) -> Result<Self, PolicyError> {
        let mut admins: Vec<_> = admins.into_iter().collect();
        admins.sort();
        admins.dedup();
        if !(1..=ADMINS_MAX).contains(&admins.len()) {
            return Err(PolicyError::Admins);
        }
        Ok(Self { class, admins, retention_secs: None, review: None })
    }

    /// The same, with messages that live so many seconds at most.
    ///
    /// # Errors
    /// [`PolicyError::Retention`] if no charter allows that.
    pub fn with_retention(self, secs: u64) -> Result<Self, PolicyError> {
        if (1..=RETENTION_SECS_MAX).contains(&secs) {
            Ok(Self { retention_secs: Some(secs), ..self })
        } else {
            Err(PolicyError::Retention(secs))
        }
    }

    /// The same, with the members reviewed.
    pub fn with_review(self, review: Review) -> Self {
        Self { review: Some(review), ..self }
    }

    /// The same, administered by these people, in any order.
    ///
    /// # Errors
    /// As [`Policy::new`].
    pub fn with_admins(self, admins: impl IntoIterator<Item = PersonKey>) -> Result<Self, PolicyError> {
        Ok(Self { admins: Self::new(self.class, admins)?.admins, ..self })
    }

    /// The last review of the members; none in conversations that earlier versions founded, until there is one. Their founding counts
    /// as one in others.
    pub fn review(&self) -> Option<&Review> {
        self.review.as_ref()
    }

    /// How long messages live at most, in seconds, as the conversation's own setting; none if it has none, as those that earlier
    /// versions founded. The charter, and the owner trust, may be stricter.
    pub fn retention_secs(&self) -> Option<u64> {
        self.retention_secs
    }

    /// What the conversation is for.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Who administers it, sorted.
    pub fn admins(&self) -> &[PersonKey] {
        &self.admins
    }

    /// Whether this person administers it.
    pub fn is_admin(&self, person: &PersonKey) -> bool {
        self.admins.binary_search(person).is_ok()
    }

    /// The policy in a group context's extensions.
    ///
    /// # Errors
    /// [`PolicyError`], if there is none or it does not hold.
    pub fn of(extensions: &ExtensionList) -> Result<Self, PolicyError> {
        let extension = extensions.get(POLICY_EXTENSION).ok_or(PolicyError::Missing)?;
        Self::from_bytes(&extension.extension_data)
    }

    /// As an extension of the group context.
    pub fn to_extension(&self) -> Extension {
        let class = match self.class {
            Class::Clinical => 0,
            Class::Operational => 1,
            Class::Social => 2,
        };
        let encodes = "a policy of at most 64 keys of 32 bytes encodes";
        let ([plain, timed, reviewed], admins) = (VERSIONS, self.admins.clone());
        match (self.retention_secs, &self.review) {
            (None, None) => Wire { version: plain, class, admins }.into_extension().expect(encodes),
            (Some(retention_secs), None) => {
                TimedWire { version: timed, class, admins, retention_secs }.into_extension().expect(encodes)
            }
            (retention_secs, Some(review)) => ReviewedWire {
                version: reviewed,
                class,
                admins,
                retention_secs: retention_secs.unwrap_or(0),
                at: review.at().as_secs(),
                by: *review.by(),
                every_secs: review.terms().every_secs,
                grace_secs: review.terms().grace_secs,
            }
            .into_extension()
            .expect(encodes),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, PolicyError> {
        let mut rest = bytes;
        let [plain, timed, reviewed] = VERSIONS;
        let (class, admins, retention_secs, review) = match bytes.first() {
            Some(version) if *version == plain => {
                let wire = Wire::mls_decode(&mut rest).map_err(|_| PolicyError::Malformed)?;
                (wire.class, wire.admins, None, None)
            }
            Some(version) if *version == timed => {
                let wire = TimedWire::mls_decode(&mut rest).map_err(|_| PolicyError::Malformed)?;
                (wire.class, wire.admins, Some(wire.retention_secs), None)
            }
            Some(version) if *version == reviewed => {
                let wire = ReviewedWire::mls_decode(&mut rest).map_err(|_| PolicyError::Malformed)?;
                let terms = ReviewTerms { every_secs: wire.every_secs, grace_secs: wire.grace_secs };
                let review = Review::new(Timestamp::from_secs(wire.at), wire.by, terms)?;
                let retention_secs = (wire.retention_secs > 0).then_some(wire.retention_secs);
                (wire.class, wire.admins, retention_secs, Some(review))
            }
            _ => return Err(PolicyError::Malformed),
        };
        if !rest.is_empty() {
            return Err(PolicyError::Malformed);
        }
        let class = match class {
            0 => Class::Clinical,
            1 => Class::Operational,
            2 => Class::Social,
            other => return Err(PolicyError::Class(other)),
        };
        let policy = Self { review, ..Self::new(class, admins.iter().copied())? };
        if policy.admins != admins {
            return Err(PolicyError::Admins);
        }
        match retention_secs {
            Some(secs) => policy.with_retention(secs),
            None => Ok(policy),
        }
    }
}

#[derive(MlsSize, MlsEncode, MlsDecode)]
struct Wire {
    version: u8,
    class: u8,
    admins: Vec<PersonKey>,
}

#[derive(MlsSize, MlsEncode, MlsDecode)]
struct TimedWire {
    version: u8,
    class: u8,
    admins: Vec<PersonKey>,
    retention_secs: u64,
}

#[derive(MlsSize, MlsEncode, MlsDecode)]
struct ReviewedWire {
    version: u8,
    class: u8,
    admins: Vec<PersonKey>,
    retention_secs: u64,
    at: u64,
    by: PersonKey,
    every_secs: u64,
    grace_secs: u64,
}

impl MlsCodecExtension for ReviewedWire {
    fn extension_type() -> ExtensionType {
        POLICY_EXTENSION
    }
}

impl MlsCodecExtension for Wire {
    fn extension_type() -> ExtensionType {
        POLICY_EXTENSION
    }
}

impl MlsCodecExtension for TimedWire {
    fn extension_type() -> ExtensionType {
        POLICY_EXTENSION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(n: u8) -> PersonKey {
        PersonKey::of(&"RYJ".parse().unwrap(), Some(&format!("GMC {n}")), &[n; 32])
    }

    #[test]
    fn what_is_written_is_read() {
        for class in Class::ALL {
            let policy = Policy::new(class, [person(2), person(1), person(2)]).unwrap();
            let list = ExtensionList::from(vec![policy.to_extension()]);
            assert_eq!(Policy::of(&list), Ok(policy.clone()));
            assert!(policy.is_admin(&person(1)) && !policy.is_admin(&person(3)));
            assert_eq!(Class::from_name(class.name()), Some(class));
        }
    }

    #[test]
    fn a_life_of_messages_is_a_second_version() {
        let plain = Policy::new(Class::Social, [person(1)]).unwrap();
        let timed = plain.clone().with_retention(7 * 24 * 3600).unwrap();
        let bytes = |policy: &Policy| policy.to_extension().extension_data;
        assert_eq!((bytes(&plain)[0], bytes(&timed)[0]), (1, 2));
        assert_eq!(Policy::from_bytes(&bytes(&plain)), Ok(plain.clone()), "as earlier versions wrote it");
        assert_eq!(Policy::from_bytes(&bytes(&timed)), Ok(timed.clone()));
        assert_eq!((plain.retention_secs(), timed.retention_secs()), (None, Some(7 * 24 * 3600)));

        for secs in [0, RETENTION_SECS_MAX + 1, u64::MAX] {
            assert_eq!(plain.clone().with_retention(secs), Err(PolicyError::Retention(secs)));
            let mut wrong = bytes(&timed);
            let at = wrong.len() - 8;
            wrong[at..].copy_from_slice(&secs.to_be_bytes());
            assert_eq!(Policy::from_bytes(&wrong), Err(PolicyError::Retention(secs)));
        }
        let mut renamed = bytes(&timed);
        renamed[0] = 1;
        assert_eq!(Policy::from_bytes(&renamed), Err(PolicyError::Malformed));
        let cut = bytes(&timed).len() - 1;
        assert_eq!(Policy::from_bytes(&bytes(&timed)[..cut]), Err(PolicyError::Malformed));
    }

    #[test]
    fn a_review_is_a_third_version_with_or_without_a_life_of_messages() {
        let at = Timestamp::from_secs(1_800_000_000);
        let review = Review::new(at, person(1), ReviewTerms::default()).unwrap();
        let plain = Policy::new(Class::Social, [person(1)]).unwrap().with_review(review);
        let timed = plain.clone().with_retention(3600).unwrap();
        let bytes = |policy: &Policy| policy.to_extension().extension_data;
        for policy in [&plain, &timed] {
            assert_eq!(bytes(policy)[0], 3);
            assert_eq!(Policy::from_bytes(&bytes(policy)).as_ref(), Ok(policy));
        }
        assert_eq!((timed.review(), timed.retention_secs()), (Some(&review), Some(3600)));
        let other = timed.clone().with_admins([person(2)]).unwrap();
        assert_eq!((other.review(), other.retention_secs()), (Some(&review), Some(3600)), "they stay");

        for (back, wrong) in [(16, 0), (16, u64::MAX), (8, u64::MAX)] {
            let mut bytes = bytes(&timed);
            let from = bytes.len() - back;
            bytes[from..from + 8].copy_from_slice(&u64::to_be_bytes(wrong));
            assert_eq!(Policy::from_bytes(&bytes), Err(PolicyError::Review));
        }
        for version in [1, 2] {
            let mut renamed = bytes(&timed);
            renamed[0] = version;
            assert_eq!(Policy::from_bytes(&renamed), Err(PolicyError::Malformed));
        }
        for cut in 0..bytes(&timed).len() {
            assert!(Policy::from_bytes(&bytes(&timed)[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let good =
            Policy::new(Class::Clinical, [person(1), person(2)]).unwrap().to_extension().extension_data;
        let mut trailing = good.clone();
        trailing.push(0);
        let mut version = good.clone();
        version[0] = 4;
        let mut class = good.clone();
        class[1] = 9;
        let mut unsorted = good.clone();
        let head = good.len() - 64;
        unsorted[head..].rotate_left(32);
        assert_eq!(Policy::from_bytes(&trailing), Err(PolicyError::Malformed));
        assert_eq!(Policy::from_bytes(&version), Err(PolicyError::Malformed));
        assert_eq!(Policy::from_bytes(&class), Err(PolicyError::Class(9)));
        assert_eq!(Policy::from_bytes(&unsorted), Err(PolicyError::Admins));
        assert_eq!(Policy::from_bytes(&good[..good.len() - 1]), Err(PolicyError::Malformed));
        assert_eq!(Policy::new(Class::Social, []), Err(PolicyError::Admins));
        assert_eq!(Policy::of(&ExtensionList::new()), Err(PolicyError::Missing));
    }
}
