//! The last review of each conversation's members, and who they were then, so that it can be told what has changed since.

use lanyard_crypto::mls::rules::MEMBERS_MAX;
use lanyard_crypto::mls::{PersonKey, ReviewTerms};
use lanyard_crypto::{ConversationId, Timestamp, cbor, limits};
use rusqlite::{OptionalExtension, Row, params};
use serde_bytes::ByteBuf;

use super::{Vault, VaultError, moment, seconds};

/// The members' certificates, encoded.
const SEEN_BYTES_MAX: usize = MEMBERS_MAX * limits::CHAIN_BYTES_MAX;

/// A review.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewed {
    /// When it was made; where none was, since when this device counts.
    pub at: Timestamp,
    /// On which terms.
    pub terms: ReviewTerms,
    /// Who made it; none where none was.
    pub by: Option<Reviewer>,
}

/// Who the members were, to compare with. Up to a megabyte, and wanted for that alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Of when they are: the review, or when this device came, if that was later.
    pub at: Timestamp,
    /// The certificates of the members' devices at that moment, DER.
    pub certificates: Vec<Vec<u8>>,
    /// [`PersonKey::as_bytes`] of the administrators at that moment.
    pub admins: Vec<[u8; 32]>,
}

/// Who made a review, as their certificate said then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewer {
    /// [`PersonKey::as_bytes`].
    pub person: [u8; 32],
    /// Name, role and trust; none if they had left when this device came.
    pub known: Option<(String, Option<String>, String)>,
}

impl Reviewer {
    /// Whether it is this person.
    pub fn is(&self, person: &PersonKey) -> bool {
        self.person == *person.as_bytes()
    }
}

impl Vault {
    /// Notes a review: in the transaction that stores the group's state.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_reviewed(
        &self,
        conversation: &ConversationId,
        of: &Reviewed,
        members: &Seen,
    ) -> Result<(), VaultError> {
        let seen: Vec<ByteBuf> = members.certificates.iter().map(|der| ByteBuf::from(der.clone())).collect();
        let known = of.by.as_ref().and_then(|by| by.known.as_ref());
        self.lock().execute(
            "INSERT OR REPLACE INTO review (conversation, at, every, grace, person, name, role, trust, seen_at, seen,
             admins) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                conversation.to_bytes(),
                seconds(of.at),
                span(of.terms.every_secs),
                span(of.terms.grace_secs),
                of.by.as_ref().map(|by| by.person),
                known.map(|(name, ..)| name),
                known.and_then(|(_, role, _)| role.as_ref()),
                known.map(|(.., trust)| trust),
                seconds(members.at),
                cbor::to_vec(&seen),
                members.admins.concat(),
            ],
        )?;
        Ok(())
    }

    /// The last review of a conversation; none if none was noted, nor since when this device counts.
    ///
    /// # Errors
    /// The disk's.
    pub fn reviewed(&self, conversation: &ConversationId) -> Result<Option<Reviewed>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT at, every, grace, person, name, role, trust FROM review WHERE conversation = ?",
        )?;
        statement.query_row([conversation.to_bytes()], raw).optional()?.map(Raw::check).transpose()
    }

    /// Who the members were when [`Vault::reviewed`] was noted.
    ///
    /// # Errors
    /// The disk's.
    pub fn seen(&self, conversation: &ConversationId) -> Result<Option<Seen>, VaultError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT seen_at, seen, admins FROM review WHERE conversation = ?")?;
        let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let found: Option<(i64, Vec<u8>, Vec<u8>)> =
            statement.query_row([conversation.to_bytes()], read).optional()?;
        let Some((at, seen, admins)) = found else { return Ok(None) };
        let damaged = || VaultError::Damaged("a review");
        let seen: Vec<ByteBuf> = cbor::from_slice(&seen, SEEN_BYTES_MAX).map_err(|_| damaged())?;
        let admins = admins.chunks(32).map(|key| key.try_into().map_err(|_| damaged()));
        Ok(Some(Seen {
            at: moment(at),
            certificates: seen.into_iter().map(ByteBuf::into_vec).collect(),
            admins: admins.collect::<Result<_, _>>()?,
        }))
    }
}

struct Raw {
    at: i64,
    every: i64,
    grace: i64,
    person: Option<Vec<u8>>,
    known: Option<(String, Option<String>, String)>,
}

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    let (name, role, trust): (Option<String>, Option<String>, Option<String>) =
        (row.get(4)?, row.get(5)?, row.get(6)?);
    Ok(Raw {
        at: row.get(0)?,
        every: row.get(1)?,
        grace: row.get(2)?,
        person: row.get(3)?,
        known: name.zip(trust).map(|(name, trust)| (name, role, trust)),
    })
}

impl Raw {
    fn check(self) -> Result<Reviewed, VaultError> {
        let damaged = || VaultError::Damaged("a review");
        let secs = |secs: i64| u64::try_from(secs).map_err(|_| damaged());
        let terms = ReviewTerms { every_secs: secs(self.every)?, grace_secs: secs(self.grace)? };
        let person = self.person.map(|bytes| bytes.try_into().map_err(|_| damaged())).transpose()?;
        Ok(Reviewed {
            at: moment(self.at),
            terms,
            by: person.map(|person| Reviewer { person, known: self.known }),
        })
    }
}

fn span(secs: u64) -> i64 {
    i64::try_from(secs).unwrap_or(i64::MAX)
}
