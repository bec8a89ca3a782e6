//! When messages end sooner than their envelopes say: by the conversation's retention, and by standing orders.
//!
//! A message's row has the moment at which it ends here. It only ever moves forward.

use lanyard_crypto::{ConversationId, Timestamp};
use rusqlite::params;

use super::{Vault, VaultError, moment, seconds};

impl Vault {
    /// Lets every message of a conversation end so many seconds after it was issued, if that is sooner.
    ///
    /// # Errors
    /// The disk's.
    pub fn limit(&self, conversation: &ConversationId, secs: u64) -> Result<(), VaultError> {
        let connection = self.lock();
        let mut limit = connection.prepare_cached(
            "UPDATE message SET expires = issued + ?2 WHERE conversation = ?1 AND expires > issued + ?2",
        )?;
        limit.execute(params![conversation.to_bytes(), span(secs)])?;
        Ok(())
    }

    /// The same for one message.
    ///
    /// # Errors
    /// The disk's.
    pub fn limit_one(&self, local: i64, secs: u64) -> Result<(), VaultError> {
        let connection = self.lock();
        let mut limit = connection.prepare_cached(
            "UPDATE message SET expires = issued + ?2 WHERE local = ?1 AND expires > issued + ?2",
        )?;
        limit.execute(params![local, span(secs)])?;
        Ok(())
    }

    /// Takes a standing order: every message of a conversation up to a moment ends so many seconds after it was issued, also those
    /// that arrive before `expires`.
    ///
    /// # Errors
    /// The disk's.
    pub fn erase_after(
        &mut self,
        conversation: &ConversationId,
        up_to: Timestamp,
        secs: u64,
        expires: Timestamp,
    ) -> Result<(), VaultError> {
        self.transaction(|vault| {
            let connection = vault.lock();
            let (id, span) = (conversation.to_bytes(), span(secs));
            connection.execute(
                "INSERT INTO erased_after (conversation, moment, secs, expires) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET expires = max(expires, ?4)",
                params![id, seconds(up_to), span, seconds(expires)],
            )?;
            connection.execute(
                "UPDATE message SET expires = issued + ?3
                 WHERE conversation = ?1 AND issued <= ?2 AND id IS NOT NULL AND expires > issued + ?3",
                params![id, seconds(up_to), span],
            )?;
            Ok(())
        })
    }

    /// When a message that was issued at this moment ends by standing orders, at the latest at `expires`.
    pub(crate) fn end_of(
        &self,
        conversation: &ConversationId,
        issued: Timestamp,
        expires: Timestamp,
    ) -> Result<Timestamp, VaultError> {
        let connection = self.lock();
        let mut shortest = connection
            .prepare_cached("SELECT min(secs) FROM erased_after WHERE conversation = ? AND moment >= ?")?;
        let values = params![conversation.to_bytes(), seconds(issued)];
        let secs: Option<i64> = shortest.query_row(values, |row| row.get(0))?;
        Ok(match secs {
            Some(secs) => moment(seconds(issued).saturating_add(secs)).min(expires),
            None => expires,
        })
    }
}

/// No longer than the largest number that can be added to a moment.
fn span(secs: u64) -> i64 {
    i64::try_from(secs).unwrap_or(i64::MAX).min(i64::MAX / 4)
}
