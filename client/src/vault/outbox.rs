//! What waits: for the node to take it, or for the epoch in which it can be read.

use lanyard_crypto::cbor;
use lanyard_crypto::gateway::{REQUEST_BYTES_MAX, SendRequest};
use lanyard_crypto::record::{Class, Envelope};
use lanyard_crypto::{ConversationId, RecordId, Timestamp, limits};
use rusqlite::{OptionalExtension, params};

use super::{Vault, VaultError, content_hash, moment, seconds};

/// Envelopes that wait for their epoch, in the whole vault.
pub const HELD_MAX: usize = 10_000;

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
    /// What it says.
    pub envelope: Envelope,
    /// When the signing node took it.
    pub issued: Timestamp,
    /// When every replica drops it.
    pub expires: Timestamp,
}

impl Vault {
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
        self.lock()
            .execute("DELETE FROM outbox WHERE content_hash = ?", [content_hash])?;
        Ok(())
    }

    /// Drops the changes of members that are to be sent, since another one came first.
    pub(crate) fn drop_outgoing_changes(&self, conversation: &ConversationId) -> Result<(), VaultError> {
        let sql = "DELETE FROM outbox WHERE conversation = ? AND change";
        self.lock().execute(sql, [conversation.to_bytes()])?;
        Ok(())
    }

    /// Holds an envelope for a later epoch. False if too many are held already.
    pub(crate) fn hold(&self, incoming: &Incoming) -> Result<bool, VaultError> {
        let connection = self.lock();
        let count: i64 = connection.query_row("SELECT count(*) FROM held", [], |row| row.get(0))?;
        if usize::try_from(count).unwrap_or(usize::MAX) >= HELD_MAX {
            return Ok(false);
        }
        connection.execute(
            "INSERT OR REPLACE INTO held (id, conversation, epoch, welcome, envelope, issued, expires)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
            params![
                incoming.id.as_bytes(),
                incoming.envelope.conversation.to_bytes(),
                i64::try_from(incoming.envelope.epoch).unwrap_or(i64::MAX),
                incoming.envelope.class == Class::Welcome,
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
        let epoch = epoch.map(|e| i64::try_from(e).unwrap_or(i64::MAX));
        let mut statement = connection.prepare_cached(
            "DELETE FROM held WHERE id = (SELECT id FROM held WHERE conversation = ?1
             AND iif(?2 IS NULL, welcome, epoch <= ?2) ORDER BY epoch, issued, id LIMIT 1)
             RETURNING id, envelope, issued, expires",
        )?;
        let row = |row: &rusqlite::Row<'_>| {
            Ok((
                row.get::<_, Vec<u8>>(0)?,
                row.get::<_, Vec<u8>>(1)?,
                row.get(2)?,
                row.get(3)?,
            ))
        };
        let found = statement
            .query_row(params![conversation.to_bytes(), epoch], row)
            .optional()?;
        let Some((id, envelope, issued, expires)) = found else {
            return Ok(None);
        };
        let id = RecordId::try_from(id.as_slice()).map_err(|_| VaultError::Damaged("a held record's id"))?;
        let envelope = cbor::from_slice(&envelope, limits::HANDSHAKE_RECORD_BYTES_MAX);
        let envelope = envelope.map_err(|_| VaultError::Damaged("a held envelope"))?;
        Ok(Some(Incoming {
            id,
            envelope,
            issued: moment(issued),
            expires: moment(expires),
        }))
    }
}
