//! Records whose signer cannot be verified yet: the next charter, or a chain, may change that.

use lanyard_crypto::gateway::{InboxRecord, RESPONSE_BYTES_MAX};
use lanyard_crypto::{RecordId, Timestamp, TrustId, cbor};
use rusqlite::{OptionalExtension, params};

use super::{Vault, VaultError, seconds};
use crate::limits::{UNVERIFIED_MAX, UNVERIFIED_PER_TRUST_MAX};

impl Vault {
    /// Keeps a record, with the trust that its chain states. False if too many are kept already.
    pub(crate) fn keep_unverified(
        &self,
        record: &InboxRecord,
        trust: &TrustId,
        expires: Timestamp,
    ) -> Result<bool, VaultError> {
        let connection = self.lock();
        let (of_trust, all): (usize, usize) = connection.query_row(
            "SELECT count(*) FILTER (WHERE trust = ?), count(*) FROM unverified",
            [trust.as_str()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        if of_trust >= UNVERIFIED_PER_TRUST_MAX || all >= UNVERIFIED_MAX {
            return Ok(false);
        }
        connection.execute(
            "INSERT OR IGNORE INTO unverified (id, trust, record, expires) VALUES (?, ?, ?, ?)",
            params![
                RecordId::of(&record.bytes).as_bytes(),
                trust.as_str(),
                cbor::to_vec(record),
                seconds(expires)
            ],
        )?;
        Ok(true)
    }

    /// The numbers of what is kept, in the order of arrival.
    pub(crate) fn unverified(&self) -> Result<Vec<i64>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT number FROM unverified ORDER BY number")?;
        Ok(statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }

    /// One of them.
    pub(crate) fn unverified_at(&self, number: i64) -> Result<Option<InboxRecord>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT record FROM unverified WHERE number = ?")?;
        let record: Option<Vec<u8>> = statement.query_row([number], |row| row.get(0)).optional()?;
        let decode = |bytes: Vec<u8>| {
            cbor::from_slice(&bytes, RESPONSE_BYTES_MAX)
                .map_err(|_| VaultError::Damaged("an unverified record"))
        };
        record.map(decode).transpose()
    }

    /// Drops one that was taken, or that will never verify.
    pub(crate) fn drop_unverified(&self, number: i64) -> Result<(), VaultError> {
        self.lock().execute("DELETE FROM unverified WHERE number = ?", [number])?;
        Ok(())
    }
}
