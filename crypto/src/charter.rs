//! The charter: who belongs to a regional network, and how the next version comes about.
//!
//! A charter is signed by a threshold of the network's authorities. Version n + 1 must be signed under the rules of
//! version n, and under its own, as TUF rotates its root (TUF specification, section 5.3): whoever could not have signed
//! the old one cannot slip in a new one, and nobody locks themselves out by a threshold that they cannot meet.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::limits::{AUTHORITIES_MAX, CHARTER_TRUSTS_MAX, RETENTION_SECS_MAX};
use crate::mls::Class;
use crate::residency::{self, Country};
use crate::x509::{Certificate, Purpose};
use crate::{RecordId, TrustId};

/// Why a charter is not one, or does not follow the current one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CharterError {
    /// It contradicts itself.
    #[error("charter version {version}: {what}")]
    Invalid {
        /// The version that it states.
        version: u64,
        /// The field, its value and what is allowed.
        what: String,
    },
    /// Too few valid signatures of the authorities that must sign.
    #[error("charter version {version}: {valid} of the {threshold} signatures that version {by} asks for")]
    Threshold {
        /// The version that it states.
        version: u64,
        /// The version whose authorities must sign.
        by: u64,
        /// Valid signatures of different authorities.
        valid: usize,
        /// How many are needed.
        threshold: u64,
    },
    /// Not newer than the current one.
    #[error("charter version {offered} is older than version {current}, which is in force")]
    Rollback {
        /// The version offered.
        offered: u64,
        /// The version in force.
        current: u64,
    },
    /// Another charter of the same version than the one in force, or one that follows another.
    #[error(
        "charter version {version} does not follow the charter in force: the network's authorities have signed two"
    )]
    Fork {
        /// The version offered.
        version: u64,
    },
    /// A version between is missing.
    #[error(
        "charter version {offered} does not follow version {current}: the versions between are needed first"
    )]
    Gap {
        /// The version offered.
        offered: u64,
        /// The version in force.
        current: u64,
    },
    /// Of another network.
    #[error("charter version {version} is of another network")]
    OtherNetwork {
        /// The version offered.
        version: u64,
    },
}

/// The rules and members of a regional network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charter {
    /// The network's name, for people.
    pub name: String,
    /// 1 for the first; each next one is larger by 1.
    pub version: u64,
    /// The [`crate::record::Decoded::statement`] of the charter before; absent in version 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<RecordId>,
    /// Who signs the next version.
    pub authorities: Authorities,
    /// The member trusts, sorted by ODS code.
    pub trusts: Vec<Member>,
    /// Where nodes may stand: ISO 3166-1 alpha-2 codes, sorted; each one of the UK and the EEA.
    pub countries: Vec<Country>,
    /// What all members agreed on.
    pub policy: Policy,
}

/// The keys of a network's authorities, and how many of them must sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorities {
    /// Ed25519 public keys, 32 bytes each, sorted.
    pub keys: Vec<ByteBuf>,
    /// From 1 to the number of keys.
    pub threshold: u64,
}

/// A member trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its ODS code.
    pub trust: TrustId,
    /// Its name, for people.
    pub name: String,
    /// Its root certificate, DER.
    #[serde(with = "serde_bytes")]
    pub root: Vec<u8>,
    /// Where its nodes are reached first: multiaddresses that end in `/p2p/<PeerId>`.
    pub addresses: Vec<String>,
}

/// Limits that the members agreed on; a trust may be stricter for its own replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Longest life of an envelope, in seconds.
    pub retention_secs_max: u64,
    /// Shorter ones for the messages of some conversations. Which class a conversation is of its members know and its owner
    /// trust's node, not the envelope: they hold to these.
    #[serde(skip_serializing_if = "ByClass::is_empty", default)]
    pub retention_by_class: ByClass,
    /// Within how many seconds each replica is to have confirmed a deletion; without it [`CONFIRM_SECS`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub confirm_secs: Option<u64>,
}

/// Within how many seconds each replica is to have confirmed a deletion, if the charter does not say (24 hours).
pub const CONFIRM_SECS: u64 = 24 * 3600;

/// Longest lives of messages in seconds, by what their conversation is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByClass {
    /// About patients' care.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clinical: Option<u64>,
    /// Rotas, beds, incidents.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operational: Option<u64>,
    /// Anything else.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub social: Option<u64>,
}

impl ByClass {
    /// Whether nothing is said of any class.
    pub fn is_empty(&self) -> bool {
        Class::ALL.into_iter().all(|class| self.of(class).is_none())
    }

    /// What is said of a class.
    pub fn of(&self, class: Class) -> Option<u64> {
        match class {
            Class::Clinical => self.clinical,
            Class::Operational => self.operational,
            Class::Social => self.social,
        }
    }

    /// The place of a class.
    pub fn of_mut(&mut self, class: Class) -> &mut Option<u64> {
        match class {
            Class::Clinical => &mut self.clinical,
            Class::Operational => &mut self.operational,
            Class::Social => &mut self.social,
        }
    }
}

impl Policy {
    /// A policy that says no more than how long an envelope lives at most.
    pub const fn of(retention_secs_max: u64) -> Self {
        let retention_by_class = ByClass { clinical: None, operational: None, social: None };
        Self { retention_secs_max, retention_by_class, confirm_secs: None }
    }

    /// Within how many seconds each replica is to have confirmed a deletion; after that it is overdue.
    pub fn confirm_secs(&self) -> u64 {
        self.confirm_secs.unwrap_or(CONFIRM_SECS)
    }

    /// Longest life of a message of a conversation of this class, in seconds.
    pub fn retention_secs(&self, class: Class) -> u64 {
        self.retention_by_class.of(class).unwrap_or(self.retention_secs_max)
    }

    /// How long a message of a conversation lives at most, in seconds: the shortest of what this policy allows for its class, of
    /// what the trust that owns it keeps, and of the conversation's own setting.
    pub fn effective_secs(&self, owner: &TrustRetention, class: Class, setting: Option<u64>) -> u64 {
        let bounds = [owner.of(class), setting].into_iter().flatten();
        bounds.fold(self.retention_secs(class), u64::min)
    }
}

/// How long a trust keeps messages of its own conversations, where that is shorter than the charter: each in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustRetention {
    /// Of all conversations.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub secs_max: Option<u64>,
    /// Of those of some classes.
    #[serde(skip_serializing_if = "ByClass::is_empty", default)]
    pub by_class: ByClass,
}

impl TrustRetention {
    /// Whether the trust says nothing of its own.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// For a class: the shorter of its own and of that for all.
    pub fn of(&self, class: Class) -> Option<u64> {
        [self.secs_max, self.by_class.of(class)].into_iter().flatten().min()
    }
}

impl Charter {
    /// Checks all that can be checked without another charter; returns the members' root certificates, in their order.
    pub fn check(&self) -> Result<Vec<Certificate>, CharterError> {
        let invalid = |what: String| CharterError::Invalid { version: self.version, what };
        if self.version == 0 || (self.version == 1) != self.previous.is_none() {
            return Err(invalid("`previous` is absent in version 1, and there in every later one".into()));
        }
        let keys = &self.authorities.keys;
        if keys.is_empty() || keys.len() > AUTHORITIES_MAX || keys.iter().any(|k| k.len() != 32) {
            return Err(invalid(format!("1 to {AUTHORITIES_MAX} authority keys of 32 bytes are needed")));
        }
        if !strictly_sorted(keys) {
            return Err(invalid("authority keys must be sorted, each once".into()));
        }
        if self.authorities.threshold == 0 || self.authorities.threshold > keys.len() as u64 {
            return Err(invalid(format!("threshold {} of {} keys", self.authorities.threshold, keys.len())));
        }
        if self.trusts.len() > CHARTER_TRUSTS_MAX {
            return Err(invalid(format!("{} trusts; at most {CHARTER_TRUSTS_MAX}", self.trusts.len())));
        }
        let codes: Vec<_> = self.trusts.iter().map(|m| &m.trust).collect();
        if !strictly_sorted(&codes) || !strictly_sorted(&self.countries) {
            return Err(invalid("trusts and countries must be sorted, each once".into()));
        }
        if let Some(country) = self.countries.iter().find(|c| !residency::is_permitted(Some(**c))) {
            return Err(invalid(format!(
                "`countries` holds {country}; only the UK and the EEA's are possible"
            )));
        }
        if self.policy.retention_secs_max == 0 || self.policy.retention_secs_max > RETENTION_SECS_MAX {
            return Err(invalid(format!("`retention_secs_max` must be from 1 to {RETENTION_SECS_MAX}")));
        }
        if self.policy.confirm_secs.is_some_and(|secs| !(1..=RETENTION_SECS_MAX).contains(&secs)) {
            return Err(invalid(format!("`confirm_secs` must be from 1 to {RETENTION_SECS_MAX}")));
        }
        for class in Class::ALL {
            let (secs, max) = (self.policy.retention_by_class.of(class), self.policy.retention_secs_max);
            if secs.is_some_and(|secs| !(1..=max).contains(&secs)) {
                let name = class.name();
                return Err(invalid(format!("`retention_by_class.{name}` must be from 1 to {max}")));
            }
        }
        self.trusts.iter().map(|m| self.root_of(m)).collect()
    }

    fn root_of(&self, member: &Member) -> Result<Certificate, CharterError> {
        let invalid = |what: String| CharterError::Invalid { version: self.version, what };
        let root = Certificate::parse(&member.root)
            .map_err(|e| invalid(format!("root of {}: {e}", member.trust)))?;
        if root.purpose() != Purpose::Root {
            return Err(invalid(format!("root of {} is not a root certificate", member.trust)));
        }
        if root.subject().trust != member.trust {
            return Err(invalid(format!("root of {} names {}", member.trust, root.subject().trust)));
        }
        Ok(root)
    }

    /// The member with this ODS code.
    pub fn member(&self, trust: &TrustId) -> Option<&Member> {
        self.trusts.binary_search_by(|m| m.trust.cmp(trust)).ok().map(|i| &self.trusts[i])
    }

    /// Whether enough of this charter's authorities are among `signers`, whose signatures have been verified over a charter
    /// that states `version`.
    pub fn check_signed(&self, signers: &BTreeSet<[u8; 32]>, version: u64) -> Result<(), CharterError> {
        let valid =
            self.authorities.keys.iter().filter(|k| signers.iter().any(|s| s == k.as_slice())).count();
        let threshold = self.authorities.threshold;
        if (valid as u64) < threshold {
            return Err(CharterError::Threshold { version, by: self.version, valid, threshold });
        }
        Ok(())
    }

    /// Whether `next`, which is not this one, may follow this charter, whose statement is `own`. Signatures apart.
    pub fn check_follows(&self, own: RecordId, next: &Charter) -> Result<(), CharterError> {
        let (offered, current) = (next.version, self.version);
        match offered.checked_sub(current) {
            None => Err(CharterError::Rollback { offered, current }),
            Some(0) => Err(CharterError::Fork { version: offered }),
            Some(1) if next.previous == Some(own) => Ok(()),
            Some(1) => Err(CharterError::Fork { version: offered }),
            Some(_) => Err(CharterError::Gap { offered, current }),
        }
    }
}

fn strictly_sorted<T: Ord>(items: &[T]) -> bool {
    items.windows(2).all(|w| w[0] < w[1])
}
