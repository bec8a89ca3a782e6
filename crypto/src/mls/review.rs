//! When the members of a conversation were last reviewed, and until when that holds.
//!
//! It is part of the policy in the group context ([`super::Policy`]), so that every member counts from the same moments. Who
//! commits it states the moment and the terms, which are those of the owner trust at that time; the owner trust's node and every
//! member hold the moment against the one at which the node published the commit, never against a clock of their own.

use serde::{Deserialize, Serialize};

use super::identity::PersonKey;
use super::policy::PolicyError;
use crate::Timestamp;
use crate::limits::{CLOCK_SKEW_SECS_MAX, REVIEW_EVERY_SECS_MAX, REVIEW_GRACE_SECS_MAX};

/// How often a trust asks for reviews of its conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewTerms {
    /// After so many seconds, members are to be reviewed again.
    pub every_secs: u64,
    /// So many seconds later, the conversation can only be read until that is done.
    pub grace_secs: u64,
}

impl Default for ReviewTerms {
    fn default() -> Self {
        Self { every_secs: 30 * 24 * 3600, grace_secs: 7 * 24 * 3600 }
    }
}

impl ReviewTerms {
    /// Whether they are those of a trust that says nothing else.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether they ask for no less than others do.
    pub fn keep_to(&self, others: &Self) -> bool {
        self.every_secs <= others.every_secs && self.grace_secs <= others.grace_secs
    }

    /// When a review that was made at this moment is due again.
    pub fn due(&self, at: Timestamp) -> Timestamp {
        at.plus_secs(self.every_secs)
    }

    /// From when on a conversation can only be read that was not reviewed since.
    pub fn read_only(&self, at: Timestamp) -> Timestamp {
        self.due(at).plus_secs(self.grace_secs)
    }

    /// How a conversation stands that was reviewed at one moment, at another.
    pub fn standing(&self, at: Timestamp, now: Timestamp) -> Standing {
        match now {
            now if now >= self.read_only(at) => Standing::ReadOnly,
            now if now >= self.due(at) => Standing::Overdue,
            _ => Standing::Current,
        }
    }

    /// Whether a trust can have them.
    pub fn are_possible(&self) -> bool {
        (1..=REVIEW_EVERY_SECS_MAX).contains(&self.every_secs) && self.grace_secs <= REVIEW_GRACE_SECS_MAX
    }
}

/// How a conversation stands at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The last review still holds.
    Current,
    /// It does not any more.
    Overdue,
    /// Nor has there been one within the grace: nothing can be sent until there is one.
    ReadOnly,
}

/// A review of a conversation's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Review {
    at: Timestamp,
    by: PersonKey,
    terms: ReviewTerms,
}

impl Review {
    /// Made by this person at this moment, on these terms.
    ///
    /// # Errors
    /// [`PolicyError::Review`] if the terms are not possible.
    pub fn new(at: Timestamp, by: PersonKey, terms: ReviewTerms) -> Result<Self, PolicyError> {
        if terms.are_possible() { Ok(Self { at, by, terms }) } else { Err(PolicyError::Review) }
    }

    /// When it was made.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Who made it.
    pub fn by(&self) -> &PersonKey {
        &self.by
    }

    /// On which terms.
    pub fn terms(&self) -> ReviewTerms {
        self.terms
    }

    /// Whether it states a moment after the one at which the owner trust's node published it, by more than clocks may differ.
    pub fn is_from_the_future(&self, published: Timestamp) -> bool {
        self.at > published.plus_secs(CLOCK_SKEW_SECS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn person() -> PersonKey {
        PersonKey::of(&"RYJ".parse().unwrap(), Some("GMC 1"), &[1; 32])
    }

    #[test]
    fn it_holds_then_is_overdue_then_the_conversation_can_only_be_read() {
        let terms = ReviewTerms { every_secs: 100, grace_secs: 10 };
        let standing = |secs| terms.standing(AT, AT.plus_secs(secs));
        assert_eq!([standing(0), standing(99)], [Standing::Current; 2]);
        assert_eq!([standing(100), standing(109)], [Standing::Overdue; 2]);
        assert_eq!([standing(110), standing(1 << 40)], [Standing::ReadOnly; 2]);
        assert_eq!((terms.due(AT), terms.read_only(AT)), (AT.plus_secs(100), AT.plus_secs(110)));
        // Without a grace, at once.
        let strict = ReviewTerms { every_secs: 100, grace_secs: 0 };
        assert_eq!(strict.standing(AT, AT.plus_secs(100)), Standing::ReadOnly);
    }

    #[test]
    fn terms_are_bounded_and_the_moment_is_held_against_the_nodes() {
        for (every_secs, grace_secs) in
            [(0, 1), (REVIEW_EVERY_SECS_MAX + 1, 1), (1, REVIEW_GRACE_SECS_MAX + 1), (u64::MAX, u64::MAX)]
        {
            let terms = ReviewTerms { every_secs, grace_secs };
            assert_eq!(Review::new(AT, person(), terms), Err(PolicyError::Review));
        }
        let review = Review::new(AT, person(), ReviewTerms::default()).unwrap();
        assert!(!review.is_from_the_future(AT.minus_secs(CLOCK_SKEW_SECS_MAX)));
        assert!(review.is_from_the_future(AT.minus_secs(CLOCK_SKEW_SECS_MAX + 1)));
        let longer = ReviewTerms { every_secs: 31 * 24 * 3600, ..ReviewTerms::default() };
        assert!(ReviewTerms::default().keep_to(&longer) && !longer.keep_to(&ReviewTerms::default()));
    }
}
