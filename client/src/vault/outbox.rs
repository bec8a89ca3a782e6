//! What waits: for the node to take it, or for the epoch in which it can be read.

use lanyard_crypto::cbor;
use lanyard_crypto::gateway::{REQUEST_BYTES_MAX, SendRequest};
use lanyard_crypto::record::{Class, Envelope};
use lanyard_crypto::{ConversationId, RecordId, Timestamp, TrustId, limits};
use rusqlite::{OptionalExtension, params};

use super::{Vault, VaultError, content_hash, moment, seconds};
use crate::limits::{HELD_PER_CONVERSATION_MAX, HELD_PER_TRUST_MAX};

/// A request that the node has not taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its number in this vault; they are sent in this order.
    pub id: i64,
    /// The message that it carries ([`super::messages::Message::local`]); none for a change of members.
    pub message: Option<i64>,
    /// What to ask the node.
    pub request: SendRequest,
}

/// An envelope, as it came from a record that the caller has verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The record.
    pub id: RecordId,
    /// The trust whose node signed it.
    pub signer: TrustId,
    /// What it says.
    pub envelope: Envelope,
    /// When the signing node took it.
    pub issued: Timestamp,
    /// When every replica drops it.
    pub expires: Timestamp,
}

impl Vault {
    /// Notes when this device has erased what it had for a deletion, or will have: its node is to be told then.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_erasure(&self, tombstone: &RecordId, erased: Timestamp) -> Result<(), VaultError> {
        let sql = "INSERT INTO erasure (tombstone, erased) VALUES (?, ?) ON CONFLICT DO NOTHING";
        self.lock().execute(sql, params![tombstone.as_bytes(), seconds(erased)])?;
        Ok(())
    }

    /// Deletions of which the node has yet to be told, and when this device had erased, by this moment; at most `limit`.
    ///
    /// # Errors
    /// The disk's.
    pub fn erasures(&self, by: Timestamp, limit: usize) -> Result<Vec<(RecordId, Timestamp)>, VaultError> {
        let connection = self.lock();
        let mut query =
            connection.prepare_cached("SELECT tombstone, erased FROM erasure WHERE erased <= ? LIMIT ?")?;
        let rows = query.query_map([seconds(by), limit as i64], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?))
        })?;
        let mut erasures = Vec::new();
        for row in rows {
            let (id, at) = row?;
            let id = RecordId::try_from(id.as_slice()).map_err(|_| VaultError::Damaged("a deletion's id"))?;
            erasures.push((id, moment(at)));
        }
        Ok(erasures)
    }

    /// The node has been told.
    ///
    /// # Errors
    /// The disk's.
    pub fn drop_erasures(&mut self, told: &[RecordId]) -> Result<(), VaultError> {
        self.transaction(|vault| {
            let connection = vault.lock();
            let mut drop_one = connection.prepare_cached("DELETE FROM erasure WHERE tombstone = ?")?;
            for id in told {
                drop_one.execute([id.as_bytes()])?;
            }
            Ok(())
        })
    }

    /// What is to be sent, oldest first.
    ///
    /// # Errors
    /// The disk's.
    pub fn outbox(&self) -> Result<Vec<Outgoing>, VaultError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT id, message, request FROM outbox ORDER BY id")?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get::<_, Vec<u8>>(2)?));
        let rows = statement.query_map([], row)?.collect::<Result<Vec<_>, _>>()?;
        let decode = |(id, message, request): (_, _, Vec<u8>)| {
            let request = cbor::from_slice(&request, 2 * REQUEST_BYTES_MAX);
            Ok(Outgoing {
                id,
                message,
                request: request.map_err(|_| VaultError::Damaged("an outgoing request"))?,
            })
        };
        rows.into_iter().map(decode).collect()
    }

    pub(crate) fn put_outgoing(
        &self,
        message: Option<i64>,
        request: &SendRequest,
    ) -> Result<i64, VaultError> {
        let connection = self.lock();
        connection.execute(
            "INSERT INTO outbox (conversation, change, message, content_hash, request)
             VALUES (?, ?, ?, ?, ?)",
            params![
                request.conversation.to_bytes(),
                request.class == Class::Submission,
                message,
                content_hash(&request.content),
                cbor::to_vec(request)
            ],
        )?;
        Ok(connection.last_insert_rowid())
    }

    pub(crate) fn drop_outgoing(&self, id: i64) -> Result<(), VaultError> {
        self.lock().execute("DELETE FROM outbox WHERE id = ?", [id])?;
        Ok(())
    }

    /// Drops what has come back from the node before its answer did, with this MLS message.
    pub(crate) fn drop_outgoing_content(&self, content_hash: &[u8; 32]) -> Result<(), VaultError> {
        self.lock().execute("DELETE FROM outbox WHERE content_hash = ?", [content_hash])?;
        Ok(())
    }

    /// Drops the changes of members that are to be sent, or that were, since another one came first.
    pub(crate) fn drop_outgoing_changes(&self, conversation: &ConversationId) -> Result<(), VaultError> {
        let connection = self.lock();
        let whose = conversation.to_bytes();
        connection.execute("DELETE FROM submission WHERE conversation = ?", [&whose])?;
        connection.execute("DELETE FROM outbox WHERE conversation = ? AND change", [&whose])?;
        Ok(())
    }

    /// Notes under which record the node has taken a change of members.
    pub(crate) fn put_submission(
        &self,
        conversation: &ConversationId,
        id: &RecordId,
    ) -> Result<(), VaultError> {
        self.lock().execute(
            "INSERT OR REPLACE INTO submission (conversation, id) VALUES (?, ?)",
            params![conversation.to_bytes(), id.as_bytes()],
        )?;
        Ok(())
    }

    /// The changes of members that the node has taken and the owner trust has not answered.
    pub(crate) fn submissions(&self) -> Result<Vec<(ConversationId, RecordId)>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT conversation, id FROM submission")?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?));
        let rows = statement.query_map([], row)?.collect::<Result<Vec<_>, _>>()?;
        let check = |(conversation, id): (Vec<u8>, Vec<u8>)| {
            let conversation = ConversationId::try_from(conversation.as_slice());
            let id = RecordId::try_from(id.as_slice());
            conversation.ok().zip(id.ok()).ok_or(VaultError::Damaged("a submission"))
        };
        rows.into_iter().map(check).collect()
    }

    /// Holds an envelope for a later epoch; withheld: until a certificate holds. False if too many of its
    /// signer are held already.
    pub(crate) fn hold(&self, incoming: &Incoming, withheld: bool) -> Result<bool, VaultError> {
        let connection = self.lock();
        let (whose, signer) = (incoming.envelope.conversation.to_bytes(), incoming.signer.as_str());
        let (here, all): (usize, usize) = connection.query_row(
            "SELECT count(*) FILTER (WHERE conversation = ?), count(*) FROM held WHERE signer = ?",
            params![whose, signer],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        if here >= HELD_PER_CONVERSATION_MAX || all >= HELD_PER_TRUST_MAX {
            return Ok(false);
        }
        connection.execute(
            "INSERT OR REPLACE INTO held
             (id, conversation, epoch, welcome, withheld, signer, envelope, issued, expires)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                incoming.id.as_bytes(),
                whose,
                number(incoming.envelope.epoch),
                incoming.envelope.class == Class::Welcome,
                withheld,
                signer,
                cbor::to_vec(&incoming.envelope),
                seconds(incoming.issued),
                seconds(incoming.expires),
            ],
        )?;
        Ok(true)
    }

    /// Takes one held envelope of this conversation, lowest epoch first: of those whose epoch is at most this
    /// one; without an epoch, since this device is not in, of the welcomes.
    pub(crate) fn take_held(
        &self,
        conversation: &ConversationId,
        epoch: Option<u64>,
    ) -> Result<Option<Incoming>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!(
            "DELETE FROM held WHERE id = (SELECT id FROM held WHERE conversation = ?1 AND NOT withheld
             AND iif(?2 IS NULL, welcome, epoch <= ?2) ORDER BY epoch, issued, id LIMIT 1)
             RETURNING {HELD}"
        ))?;
        statement
            .query_row(params![conversation.to_bytes(), epoch.map(number)], raw)
            .optional()?
            .map(check)
            .transpose()
    }

    /// Takes all that wait for a certificate to hold, lowest epoch first.
    pub(crate) fn take_withheld(&self) -> Result<Vec<Incoming>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {HELD} FROM held WHERE withheld ORDER BY conversation, epoch, issued, id"
        ))?;
        let rows = statement.query_map([], raw)?.collect::<Result<Vec<_>, _>>()?;
        connection.execute("DELETE FROM held WHERE withheld", [])?;
        rows.into_iter().map(check).collect()
    }

    /// Drops what is held of epochs before this one: a device that joins in it can read none of that.
    pub(crate) fn drop_held_before(
        &self,
        conversation: &ConversationId,
        epoch: u64,
    ) -> Result<(), VaultError> {
        self.lock().execute(
            "DELETE FROM held WHERE conversation = ? AND epoch < ?",
            params![conversation.to_bytes(), number(epoch)],
        )?;
        Ok(())
    }
}

const HELD: &str = "id, signer, envelope, issued, expires";

type Raw = (Vec<u8>, String, Vec<u8>, i64, i64);

fn raw(row: &rusqlite::Row<'_>) -> rusqlite::Result<Raw> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
}

fn check((id, signer, envelope, issued, expires): Raw) -> Result<Incoming, VaultError> {
    let id = RecordId::try_from(id.as_slice()).map_err(|_| VaultError::Damaged("a held record's id"))?;
    let envelope = cbor::from_slice(&envelope, limits::HANDSHAKE_RECORD_BYTES_MAX);
    Ok(Incoming {
        id,
        signer: signer.parse().map_err(|_| VaultError::Damaged("a held record's signer"))?,
        envelope: envelope.map_err(|_| VaultError::Damaged("a held envelope"))?,
        issued: moment(issued),
        expires: moment(expires),
    })
}

fn number(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}
