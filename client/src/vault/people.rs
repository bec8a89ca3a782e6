//! To whom this device has written, and whom its holder has told apart.

use lanyard_crypto::mls::PersonKey;
use rusqlite::params;

use super::{Vault, VaultError};

impl Vault {
    /// Notes that this device has written to a person: in the transaction that stores the message.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_written_to(&self, person: &PersonKey) -> Result<(), VaultError> {
        let connection = self.lock();
        let mut put = connection.prepare_cached("INSERT OR IGNORE INTO written_to (person) VALUES (?)")?;
        put.execute([person.as_bytes()])?;
        Ok(())
    }

    /// Whether this device has written to a person, in any conversation.
    ///
    /// # Errors
    /// The disk's.
    pub fn has_written_to(&self, person: &PersonKey) -> Result<bool, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT 1 FROM written_to WHERE person = ?")?;
        Ok(statement.exists([person.as_bytes()])?)
    }

    /// Notes that the holder, asked, meant the one person and not the other. It says nothing for the other way round.
    ///
    /// # Errors
    /// The disk's.
    pub fn tell_apart(&self, meant: &PersonKey, other: &PersonKey) -> Result<(), VaultError> {
        self.lock().execute(
            "INSERT OR IGNORE INTO told_apart (one, other) VALUES (?, ?)",
            params![meant.as_bytes(), other.as_bytes()],
        )?;
        Ok(())
    }

    /// Whether the holder, asked before, meant the one person and not the other.
    ///
    /// # Errors
    /// The disk's.
    pub fn is_told_apart(&self, meant: &PersonKey, other: &PersonKey) -> Result<bool, VaultError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT 1 FROM told_apart WHERE one = ? AND other = ?")?;
        Ok(statement.exists(params![meant.as_bytes(), other.as_bytes()])?)
    }
}
