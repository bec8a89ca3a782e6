//! Messages in the clear (inside the vault), their deletion and their expiry.

use std::collections::BTreeMap;

use lanyard_crypto::{ConversationId, Fingerprint, RecordId, Timestamp, TrustId};
use rusqlite::{OptionalExtension, Row, params};

use super::mls::former_end;
use super::{Vault, VaultError, moment, seconds};

/// One message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its number in this vault.
    pub local: i64,
    /// The envelope's record id, once the node has it.
    pub id: Option<RecordId>,
    /// Whose message it is.
    pub conversation: ConversationId,
    /// The epoch in which it was encrypted.
    pub epoch: u64,
    /// Its place among those that its sender has encrypted in that epoch (MLS's generation): the node dates by the second, and what waited
    /// for it may be taken in one.
    pub place: u32,
    /// Whether this device sent it.
    pub own: bool,
    /// Of the sender's device certificate, verified when the message was read.
    pub sender: Fingerprint,
    /// The sender's display name, by that certificate.
    pub name: String,
    /// The sender's role, by that certificate.
    pub role: Option<String>,
    /// The sender's trust.
    pub trust: TrustId,
    /// When the sender's node took it; before that, when it was written.
    pub issued: Timestamp,
    /// When every replica drops it, and this vault too.
    pub expires: Timestamp,
    /// What it says.
    pub text: String,
}

// The text never reaches a log.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Message {{ local: {}, id: {:?}, conversation: {:?}, .. }}",
            self.local, self.id, self.conversation
        )
    }
}

impl Vault {
    /// Stores a message; `local` is ignored, and the new number returned. `content_hash` is SHA-256 of the
    /// MLS message.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_message(&self, m: &Message, content_hash: &[u8; 32]) -> Result<i64, VaultError> {
        let connection = self.lock();
        let mut put = connection.prepare_cached(
            "INSERT INTO message (id, content_hash, conversation, epoch, own, sender, name, role, trust,
             issued, expires, text, place) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        let epoch = i64::try_from(m.epoch).unwrap_or(i64::MAX);
        Ok(put.insert(params![
            m.id.map(|id| *id.as_bytes()),
            content_hash,
            m.conversation.to_bytes(),
            epoch,
            m.own,
            m.sender.as_bytes(),
            m.name,
            m.role,
            m.trust.as_str(),
            seconds(m.issued),
            seconds(m.expires),
            m.text,
            m.place,
        ])?)
    }

    /// The newest `limit` messages of a conversation that have not expired, oldest first. Of one second, each sender's stand in the order in
    /// which they were written, and otherwise as they arrived.
    ///
    /// # Errors
    /// The disk's.
    pub fn messages(
        &self,
        conversation: &ConversationId,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Message>, VaultError> {
        let condition = "conversation = ? AND expires > ? ORDER BY issued DESC, local DESC LIMIT ?";
        let values = params![conversation.to_bytes(), seconds(now), limit_of(limit)];
        let mut found = self.select(condition, values)?;
        found.reverse();
        found.chunk_by_mut(|a, b| a.issued == b.issued).for_each(as_written);
        Ok(found)
    }

    /// Messages that contain `words` (upper and lower case alike in ASCII), the newest first.
    ///
    /// # Errors
    /// The disk's.
    pub fn search(&self, words: &str, limit: usize, now: Timestamp) -> Result<Vec<Message>, VaultError> {
        let escaped = words.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let condition = "text LIKE ? ESCAPE '\\' AND expires > ? ORDER BY issued DESC, local DESC LIMIT ?";
        self.select(condition, params![format!("%{escaped}%"), seconds(now), limit_of(limit)])
    }

    /// One message, by its envelope.
    ///
    /// # Errors
    /// The disk's.
    pub fn message(&self, id: &RecordId) -> Result<Option<Message>, VaultError> {
        Ok(self.select("id = ?", params![id.as_bytes()])?.pop())
    }

    /// One message, by its number in this vault.
    ///
    /// # Errors
    /// The disk's.
    pub fn message_at(&self, local: i64) -> Result<Option<Message>, VaultError> {
        Ok(self.select("local = ?", params![local])?.pop())
    }

    /// The message that came from this MLS message: its number, and whether this device sent it.
    pub(crate) fn message_with(&self, content_hash: &[u8; 32]) -> Result<Option<(i64, bool)>, VaultError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT local, own FROM message WHERE content_hash = ?")?;
        Ok(statement.query_row([content_hash], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    }

    /// Notes the envelope of one's own message.
    pub(crate) fn set_envelope(
        &self,
        local: i64,
        id: &RecordId,
        issued: Timestamp,
    ) -> Result<(), VaultError> {
        let values = params![id.as_bytes(), seconds(issued), local];
        self.lock().execute("UPDATE OR REPLACE message SET id = ?, issued = ? WHERE local = ?", values)?;
        Ok(())
    }

    /// Erases the messages of a conversation that a tombstone names, and any of them that arrives before
    /// `expires`, as far as the trust that signed it may: the trust of the sender, or the conversation's
    /// owner. Tells how many were here.
    ///
    /// # Errors
    /// The disk's.
    pub fn erase(
        &mut self,
        conversation: &ConversationId,
        ids: &[RecordId],
        signer: &TrustId,
        expires: Timestamp,
    ) -> Result<usize, VaultError> {
        self.transaction(|vault| {
            let connection = vault.lock();
            let mut note = connection.prepare_cached(
                "INSERT INTO erased (id, conversation, signer, expires) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET expires = max(expires, ?4)",
            )?;
            let mut drop_message = connection.prepare_cached(
                "DELETE FROM message WHERE id = ? AND conversation = ? AND (? OR trust = ?)",
            )?;
            let mut drop_held = connection
                .prepare_cached("DELETE FROM held WHERE id = ? AND conversation = ? AND (? OR signer = ?)")?;
            let (whose, is_owner) = (conversation.to_bytes(), signer == conversation.owner());
            let mut count = 0;
            for id in ids {
                note.execute(params![id.as_bytes(), whose, signer.as_str(), seconds(expires)])?;
                let named = params![id.as_bytes(), whose, is_owner, signer.as_str()];
                count += drop_message.execute(named)?;
                drop_held.execute(named)?;
            }
            Ok(count)
        })
    }

    /// Erases every message of a conversation up to a moment, also those that arrive before `expires`.
    ///
    /// # Errors
    /// The disk's.
    pub fn erase_up_to(
        &mut self,
        conversation: &ConversationId,
        up_to: Timestamp,
        expires: Timestamp,
    ) -> Result<usize, VaultError> {
        self.transaction(|vault| {
            let connection = vault.lock();
            let id = conversation.to_bytes();
            connection.execute(
                "INSERT INTO erased_up_to (conversation, moment, expires) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET moment = max(moment, ?2), expires = max(expires, ?3)",
                params![id, seconds(up_to), seconds(expires)],
            )?;
            let values = params![id, seconds(up_to)];
            // What was written here but not sent has no moment of its own yet.
            let sql = "DELETE FROM message WHERE conversation = ? AND issued <= ? AND id IS NOT NULL";
            Ok(connection.execute(sql, values)?)
        })
    }

    /// Whether a tombstone has been here for an envelope, by the trust that signed the envelope or by the
    /// conversation's owner.
    pub(crate) fn is_erased(
        &self,
        id: &RecordId,
        conversation: &ConversationId,
        signer: &TrustId,
        issued: Timestamp,
    ) -> Result<bool, VaultError> {
        let connection = self.lock();
        let mut by_id = connection
            .prepare_cached("SELECT 1 FROM erased WHERE id = ? AND conversation = ? AND signer IN (?, ?)")?;
        let (whose, owner) = (conversation.to_bytes(), conversation.owner().as_str());
        let named = params![id.as_bytes(), whose, signer.as_str(), owner];
        let mut by_moment =
            connection.prepare_cached("SELECT 1 FROM erased_up_to WHERE conversation = ? AND moment >= ?")?;
        Ok(by_id.exists(named)? || by_moment.exists(params![whose, seconds(issued)])?)
    }

    /// Drops what has expired: messages, held envelopes, unverified records, former states of groups, and notes of deletions that are no longer needed.
    /// Tells how many messages went.
    ///
    /// # Errors
    /// The disk's.
    pub fn expire(&mut self, now: Timestamp) -> Result<usize, VaultError> {
        self.transaction(|vault| {
            let connection = vault.lock();
            for table in ["held", "unverified", "erased", "erased_up_to", "erased_after", "former_group"] {
                connection.execute(&format!("DELETE FROM {table} WHERE expires <= ?"), [seconds(now)])?;
            }
            // By a clock that was ahead, or a group would be kept as it was for as long.
            connection.execute("DELETE FROM former_group WHERE expires > ?", [seconds(former_end(now))])?;
            Ok(connection.execute("DELETE FROM message WHERE expires <= ?", [seconds(now)])?)
        })
    }

    fn select(&self, condition: &str, values: impl rusqlite::Params) -> Result<Vec<Message>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT local, id, conversation, epoch, own, sender, name, role, trust, issued, expires, text, place
             FROM message WHERE {condition}"
        ))?;
        let rows = statement.query_map(values, raw)?.collect::<Result<Vec<_>, _>>()?;
        rows.into_iter().map(|(raw, message)| raw.check(message)).collect()
    }
}

struct Raw {
    id: Option<Vec<u8>>,
    conversation: Vec<u8>,
    sender: Vec<u8>,
    trust: String,
}

/// What needs no check beside what does.
type Rest = (i64, i64, bool, String, Option<String>, i64, i64, String, u32);

fn raw(row: &Row<'_>) -> rusqlite::Result<(Raw, Rest)> {
    let raw = Raw { id: row.get(1)?, conversation: row.get(2)?, sender: row.get(5)?, trust: row.get(8)? };
    let rest = (
        row.get(0)?,
        row.get(3)?,
        row.get(4)?,
        row.get(6)?,
        row.get(7)?,
        row.get(9)?,
        row.get(10)?,
        row.get(11)?,
        row.get(12)?,
    );
    Ok((raw, rest))
}

impl Raw {
    fn check(
        self,
        (local, epoch, own, name, role, issued, expires, text, place): Rest,
    ) -> Result<Message, VaultError> {
        let id = self.id.map(|id| RecordId::try_from(id.as_slice())).transpose();
        let conversation = ConversationId::try_from(self.conversation.as_slice());
        let sender = Fingerprint::try_from(self.sender.as_slice());
        Ok(Message {
            local,
            id: id.map_err(|_| VaultError::Damaged("a message's id"))?,
            conversation: conversation.map_err(|_| VaultError::Damaged("a message's conversation"))?,
            epoch: u64::try_from(epoch).unwrap_or(0),
            place,
            own,
            sender: sender.map_err(|_| VaultError::Damaged("a message's sender"))?,
            name,
            role,
            trust: self.trust.parse().map_err(|_| VaultError::Damaged("a message's trust"))?,
            issued: moment(issued),
            expires: moment(expires),
            text,
        })
    }
}

/// Exchanges each sender's messages of one second among the places that these have.
fn as_written(second: &mut [Message]) {
    let mut places: BTreeMap<Fingerprint, Vec<usize>> = BTreeMap::new();
    for (place, message) in second.iter().enumerate() {
        places.entry(message.sender).or_default().push(place);
    }
    for places in places.into_values().filter(|places| places.len() > 1) {
        let mut written: Vec<Message> = places.iter().map(|place| second[*place].clone()).collect();
        written.sort_by_key(|m| (m.epoch, m.place, m.local));
        for (place, message) in places.into_iter().zip(written) {
            second[place] = message;
        }
    }
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
