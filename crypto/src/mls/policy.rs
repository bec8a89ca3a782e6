//! The extension of the group context that says what a conversation is for and who administers it.
//!
//! It is part of the MLS group context (RFC 9420, section 8.1), so every member and the ordering node hold
//! the same one.

use mls_rs::extension::{ExtensionType, MlsCodecExtension, MlsExtension};
use mls_rs::{Extension, ExtensionList};
use mls_rs_codec::{MlsDecode, MlsEncode, MlsSize};

use super::identity::PersonKey;

/// The extension's type: private use (RFC 9420, section 17.3). Every member lists it in its capabilities.
pub const POLICY_EXTENSION: ExtensionType = ExtensionType::new(0xF0A0);

/// Administrators of one conversation.
pub const ADMINS_MAX: usize = 64;

const VERSION: u8 = 1;

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
        Ok(Self { class, admins })
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
        let wire = Wire { version: VERSION, class, admins: self.admins.clone() };
        wire.into_extension().expect("a policy of at most 64 keys of 32 bytes encodes")
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, PolicyError> {
        let mut rest = bytes;
        let wire = Wire::mls_decode(&mut rest).map_err(|_| PolicyError::Malformed)?;
        if !rest.is_empty() || wire.version != VERSION {
            return Err(PolicyError::Malformed);
        }
        let class = match wire.class {
            0 => Class::Clinical,
            1 => Class::Operational,
            2 => Class::Social,
            other => return Err(PolicyError::Class(other)),
        };
        let policy = Self::new(class, wire.admins.iter().copied())?;
        if policy.admins == wire.admins { Ok(policy) } else { Err(PolicyError::Admins) }
    }
}

#[derive(MlsSize, MlsEncode, MlsDecode)]
struct Wire {
    version: u8,
    class: u8,
    admins: Vec<PersonKey>,
}

impl MlsCodecExtension for Wire {
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
    fn other_forms_are_refused() {
        let good =
            Policy::new(Class::Clinical, [person(1), person(2)]).unwrap().to_extension().extension_data;
        let mut trailing = good.clone();
        trailing.push(0);
        let mut version = good.clone();
        version[0] = 2;
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
