//! Why a text was sent although it holds what its conversation's class forbids. Kept with the message, and erased with
//! it.

use rusqlite::{OptionalExtension, params};

use super::{Vault, VaultError};

/// One such reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The names of the patterns that the text holds.
    pub patterns: Vec<String>,
    /// What the sender gave as the reason.
    pub reason: String,
}

impl Vault {
    /// Notes it: in the transaction that stores the message.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_override(&self, local: i64, of: &Override) -> Result<(), VaultError> {
        self.lock().execute(
            "INSERT INTO overridden (message, patterns, reason) VALUES (?, ?, ?)",
            params![local, of.patterns.join(" "), of.reason],
        )?;
        Ok(())
    }

    /// The one of a message, if there is one.
    ///
    /// # Errors
    /// The disk's.
    pub fn override_of(&self, local: i64) -> Result<Option<Override>, VaultError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT patterns, reason FROM overridden WHERE message = ?")?;
        let read = |row: &rusqlite::Row<'_>| {
            let patterns: String = row.get(0)?;
            let patterns = patterns.split(' ').map(str::to_owned).collect();
            Ok(Override { patterns, reason: row.get(1)? })
        };
        Ok(statement.query_row([local], read).optional()?)
    }
}
