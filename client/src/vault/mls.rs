//! MLS state in the vault, on the vault's own connection: part of whatever transaction is under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lanyard_crypto::Timestamp;
use mls_rs::mls_rs_codec::{MlsDecode, MlsEncode};
use mls_rs::{GroupStateStorage, KeyPackageStorage};
use mls_rs_core::error::IntoAnyError;
use mls_rs_core::group::{EpochRecord, GroupState};
use mls_rs_core::key_package::KeyPackageData;
use rusqlite::{Connection, OptionalExtension, params};
use zeroize::Zeroizing;

use super::{Vault, VaultError, moment, seconds};

/// Epochs whose secrets are kept for messages that arrive after the commit that ended them. More of them
/// weaken forward secrecy, fewer lose messages of a partitioned trust.
pub const PRIOR_EPOCHS_MAX: u64 = 32;

/// How long a group is kept as it was before somebody left, in seconds: for as long, what they wrote before can arrive late. It holds that
/// epoch's secrets, from which those of later ones follow, so that more weakens forward secrecy.
const FORMER_SECS: u64 = 7 * 24 * 3600;
/// When what is kept so from now on goes.
pub(super) fn former_end(now: Timestamp) -> Timestamp {
    now.plus_secs(FORMER_SECS)
}

/// How many such states are kept of a group: one of a thousand members takes about two megabytes.
const FORMER_MAX: u64 = 8;

/// What the MLS library is given to keep its state with.
#[derive(Clone, Debug)]
pub struct MlsStore {
    connection: Arc<Mutex<Connection>>,
    /// The epoch in which groups are looked at, if not the present one: [`Vault::keep_former_group`].
    former: Option<u64>,
}

impl IntoAnyError for VaultError {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

impl Vault {
    /// The MLS library's view of this vault.
    pub fn mls_store(&self) -> MlsStore {
        MlsStore { connection: self.connection.clone(), former: None }
    }

    /// The same, of groups as they were kept in this epoch. Nothing but what was read in them can be written.
    pub(crate) fn former_mls_store(&self, epoch: u64) -> MlsStore {
        MlsStore { connection: self.connection.clone(), former: Some(epoch) }
    }

    /// Keeps a group as it is now, in this epoch, before the state of the next one takes its place: the commit was published when that
    /// `ended`.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn keep_former_group(
        &self,
        group: &[u8],
        epoch: u64,
        ended: Timestamp,
        now: Timestamp,
    ) -> Result<(), VaultError> {
        let connection = self.lock();
        let expires = seconds(former_end(now));
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO former_group (id, epoch, state, ended, expires)
                 SELECT id, ?, state, ?, ? FROM mls_group WHERE id = ?",
            )?
            .execute(params![number(epoch)?, seconds(ended), expires, group])?;
        connection
            .prepare_cached(
                "DELETE FROM former_group WHERE id = ?1 AND epoch NOT IN
                 (SELECT epoch FROM former_group WHERE id = ?1 ORDER BY epoch DESC LIMIT ?2)",
            )?
            .execute(params![group, number(FORMER_MAX)?])?;
        Ok(())
    }

    /// The first epoch from this one on in which a group was kept, and when that ended: nobody has left in between.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn former_epoch(
        &self,
        group: &[u8],
        epoch: u64,
        now: Timestamp,
    ) -> Result<Option<(u64, Timestamp)>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT epoch, ended FROM former_group WHERE id = ? AND epoch >= ? AND expires > ?
             ORDER BY epoch LIMIT 1",
        )?;
        let values = params![group, number(epoch)?, seconds(now)];
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let found: Option<(i64, i64)> = statement.query_row(values, read).optional()?;
        let epoch = |n: i64| u64::try_from(n).map_err(|_| VaultError::Damaged("an epoch below 0"));
        found.map(|(n, ended)| Ok((epoch(n)?, moment(ended)))).transpose()
    }

    /// Forgets a group: its state and every secret of it, and since when its members are counted as reviewed, which begins anew for who
    /// comes back.
    ///
    /// # Errors
    /// The disk's.
    pub fn forget_group(&self, group: &[u8]) -> Result<(), VaultError> {
        let connection = self.lock();
        connection.execute("DELETE FROM mls_epoch WHERE group_id = ?", [group])?;
        connection.execute("DELETE FROM mls_group WHERE id = ?", [group])?;
        connection.execute("DELETE FROM review WHERE conversation = ?", [group])?;
        connection.execute("DELETE FROM former_group WHERE id = ?", [group])?;
        Ok(())
    }

    /// Whether there is state of this group.
    ///
    /// # Errors
    /// The disk's.
    pub fn has_group(&self, group: &[u8]) -> Result<bool, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached("SELECT 1 FROM mls_group WHERE id = ?")?;
        Ok(statement.exists([group])?)
    }

    /// Forgets key packages that nobody may use any more.
    ///
    /// # Errors
    /// The disk's.
    pub fn forget_key_packages_before(&self, now: Timestamp) -> Result<(), VaultError> {
        self.lock().execute("DELETE FROM mls_key_package WHERE expires < ?", [seconds(now)])?;
        Ok(())
    }
}

impl MlsStore {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn blob(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(sql)?;
        Ok(statement.query_row(values, |row| row.get(0).map(Zeroizing::new)).optional()?)
    }
}

impl GroupStateStorage for MlsStore {
    type Error = VaultError;

    fn state(&self, group: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        match self.former {
            None => self.blob("SELECT state FROM mls_group WHERE id = ?", [group]),
            Some(epoch) => {
                let values = params![group, number(epoch)?];
                self.blob("SELECT state FROM former_group WHERE id = ? AND epoch = ?", values)
            }
        }
    }

    fn epoch(&self, group: &[u8], epoch: u64) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        let epoch = number(epoch)?;
        self.blob("SELECT state FROM mls_epoch WHERE group_id = ? AND epoch = ?", params![group, epoch])
    }

    fn write(
        &mut self,
        state: GroupState,
        inserts: Vec<EpochRecord>,
        updates: Vec<EpochRecord>,
    ) -> Result<(), VaultError> {
        let connection = self.lock();
        assert!(!connection.is_autocommit(), "MLS state is written inside a transaction of the vault alone");
        match self.former {
            None => connection
                .prepare_cached("INSERT OR REPLACE INTO mls_group (id, state) VALUES (?, ?)")?
                .execute(params![state.id, *state.data])?,
            Some(_) if !inserts.is_empty() => return Err(VaultError::Damaged("a former group goes on")),
            Some(epoch) => connection
                .prepare_cached("UPDATE former_group SET state = ? WHERE id = ? AND epoch = ?")?
                .execute(params![*state.data, state.id, number(epoch)?])?,
        };
        let mut put = connection
            .prepare_cached("INSERT OR REPLACE INTO mls_epoch (group_id, epoch, state) VALUES (?, ?, ?)")?;
        let mut newest = None;
        for record in &inserts {
            newest = newest.max(Some(record.id));
            put.execute(params![state.id, number(record.id)?, *record.data])?;
        }
        for record in &updates {
            put.execute(params![state.id, number(record.id)?, *record.data])?;
        }
        if let Some(newest) = newest {
            let oldest_kept = number((newest + 1).saturating_sub(PRIOR_EPOCHS_MAX))?;
            connection
                .prepare_cached("DELETE FROM mls_epoch WHERE group_id = ? AND epoch < ?")?
                .execute(params![state.id, oldest_kept])?;
        }
        Ok(())
    }

    fn max_epoch_id(&self, group: &[u8]) -> Result<Option<u64>, VaultError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT max(epoch) FROM mls_epoch WHERE group_id = ?")?;
        let newest: Option<i64> = statement.query_row([group], |row| row.get(0))?;
        newest.map(|n| u64::try_from(n).map_err(|_| VaultError::Damaged("an epoch below 0"))).transpose()
    }
}

impl KeyPackageStorage for MlsStore {
    type Error = VaultError;

    fn delete(&mut self, id: &[u8]) -> Result<(), VaultError> {
        self.lock().execute("DELETE FROM mls_key_package WHERE id = ?", [id])?;
        Ok(())
    }

    fn insert(&mut self, id: Vec<u8>, package: KeyPackageData) -> Result<(), VaultError> {
        let expires = seconds(Timestamp::from_secs(package.expiration));
        let data =
            package.mls_encode_to_vec().map_err(|_| VaultError::Damaged("a key package does not encode"))?;
        let data = Zeroizing::new(data);
        self.lock().execute(
            "INSERT INTO mls_key_package (id, expires, data) VALUES (?, ?, ?)",
            params![id, expires, *data],
        )?;
        Ok(())
    }

    fn get(&self, id: &[u8]) -> Result<Option<KeyPackageData>, VaultError> {
        let data = self.blob("SELECT data FROM mls_key_package WHERE id = ?", [id])?;
        let decode = |data: Zeroizing<Vec<u8>>| {
            KeyPackageData::mls_decode(&mut data.as_slice()).map_err(|_| VaultError::Damaged("a key package"))
        };
        data.map(decode).transpose()
    }
}

fn number(epoch: u64) -> Result<i64, VaultError> {
    i64::try_from(epoch).map_err(|_| VaultError::Damaged("an epoch beyond 2^63"))
}
