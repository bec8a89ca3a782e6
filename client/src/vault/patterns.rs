//! What this device's trust takes for what identifies a patient, as its node said last.

use lanyard_crypto::gateway::TextPattern;

use super::{Vault, VaultError};

impl Vault {
    /// Keeps what the trust says, in place of what it said before.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_patterns(&mut self, patterns: &[TextPattern]) -> Result<(), VaultError> {
        self.transaction(|vault| {
            let connection = vault.lock();
            connection.execute("DELETE FROM pattern", [])?;
            let mut put = connection.prepare_cached("INSERT INTO pattern (name, regex) VALUES (?, ?)")?;
            patterns.iter().try_for_each(|p| put.execute([&p.name, &p.regex]).map(drop))?;
            Ok(())
        })
    }

    /// What the trust said last, in its order.
    ///
    /// # Errors
    /// The disk's.
    pub fn patterns(&self) -> Result<Vec<TextPattern>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT name, regex FROM pattern ORDER BY place")?;
        let pattern = |row: &rusqlite::Row<'_>| Ok(TextPattern { name: row.get(0)?, regex: row.get(1)? });
        Ok(statement.query_map([], pattern)?.collect::<Result<_, _>>()?)
    }
}
