//! Conversations that this device is or was in, and where reading stopped.

use lanyard_crypto::mls::Class;
use lanyard_crypto::{ConversationId, Timestamp};
use rusqlite::{OptionalExtension, Row, params};

use super::{Vault, VaultError, moment, seconds};

/// A conversation, as listed. Its members and administrators are in the MLS state: see
/// [`crate::session::Session::members`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// The title that members gave it; nodes do not learn it.
    pub title: String,
    /// What it is for.
    pub class: Class,
    /// Since when this device is in it.
    pub since: Timestamp,
    /// The epoch that began with this device's removal, once it was removed.
    pub left_epoch: Option<u64>,
}

impl Vault {
    /// Every conversation, the newest first.
    ///
    /// # Errors
    /// The disk's.
    pub fn conversations(&self) -> Result<Vec<Conversation>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY since DESC, id"))?;
        let rows = statement.query_map([], raw)?.collect::<Result<Vec<_>, _>>()?;
        rows.into_iter().map(Raw::check).collect()
    }

    /// One conversation.
    ///
    /// # Errors
    /// The disk's.
    pub fn conversation(&self, id: &ConversationId) -> Result<Option<Conversation>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE id = ?"))?;
        statement.query_row([id.to_bytes()], raw).optional()?.map(Raw::check).transpose()
    }

    /// Enters a conversation, or enters it again after a removal.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_conversation(&self, c: &Conversation) -> Result<(), VaultError> {
        self.lock().execute(
            "INSERT OR REPLACE INTO conversation (id, title, class, since, left_epoch)
             VALUES (?, ?, ?, ?, ?)",
            params![
                c.id.to_bytes(),
                c.title,
                c.class.name(),
                seconds(c.since),
                c.left_epoch.map(|e| i64::try_from(e).unwrap_or(i64::MAX))
            ],
        )?;
        Ok(())
    }

    /// Gives it another title.
    ///
    /// # Errors
    /// The disk's.
    pub fn set_title(&self, id: &ConversationId, title: &str) -> Result<(), VaultError> {
        self.lock()
            .execute("UPDATE conversation SET title = ? WHERE id = ?", params![title, id.to_bytes()])?;
        Ok(())
    }

    /// Where reading stopped, by name: such as the position in the node's inbox.
    ///
    /// # Errors
    /// The disk's.
    pub fn cursor(&self, name: &str) -> Result<u64, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT position FROM cursor WHERE name = ?")?;
        let position: Option<i64> = statement.query_row([name], |row| row.get(0)).optional()?;
        u64::try_from(position.unwrap_or(0)).map_err(|_| VaultError::Damaged("a cursor below 0"))
    }

    /// Notes where reading stopped: in the transaction that stores what was read.
    ///
    /// # Errors
    /// The disk's.
    pub fn set_cursor(&self, name: &str, position: u64) -> Result<(), VaultError> {
        let position = i64::try_from(position).map_err(|_| VaultError::Damaged("a cursor beyond 2^63"))?;
        self.lock().execute(
            "INSERT OR REPLACE INTO cursor (name, position) VALUES (?, ?)",
            params![name, position],
        )?;
        Ok(())
    }
}

const SELECT: &str = "SELECT id, title, class, since, left_epoch FROM conversation";

struct Raw {
    id: Vec<u8>,
    title: String,
    class: String,
    since: i64,
    left_epoch: Option<i64>,
}

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        id: row.get(0)?,
        title: row.get(1)?,
        class: row.get(2)?,
        since: row.get(3)?,
        left_epoch: row.get(4)?,
    })
}

impl Raw {
    fn check(self) -> Result<Conversation, VaultError> {
        let id = ConversationId::try_from(self.id.as_slice());
        Ok(Conversation {
            id: id.map_err(|_| VaultError::Damaged("a conversation id"))?,
            title: self.title,
            class: Class::from_name(&self.class).ok_or(VaultError::Damaged("a conversation's class"))?,
            since: moment(self.since),
            left_epoch: self.left_epoch.map(|e| u64::try_from(e).unwrap_or(0)),
        })
    }
}
