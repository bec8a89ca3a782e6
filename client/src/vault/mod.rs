//! The vault: one encrypted database on the device (SQLCipher: AES-256, a MAC on every page) that holds MLS
//! state, messages, what is to be sent and where reading stopped.
//!
//! MLS state and messages share one connection, so that one transaction covers both. A received message is
//! decrypted, its ratchet key is consumed, and its text is stored, all or nothing: after a crash at any point
//! it was either received or comes again and can be read. A message to be sent is stored with the state that
//! encrypted it before anything leaves the device: no key is ever used twice. (`mls-rs-provider-sqlite` opens
//! a connection of its own for each of its stores, so it could not do this; [`mls`] takes its place.)
//!
//! What is deleted is overwritten in the file (`secure_delete`), and the rollback journal is truncated after
//! each transaction. A flash disk may still hold earlier versions of a page, under the vault's key.

pub mod contacts;
pub mod conversations;
pub mod membership;
pub mod messages;
pub mod mls;
pub mod outbox;
pub mod overrides;
mod patterns;
mod people;
mod retention;
pub mod reviews;
mod schema;
#[cfg(test)]
mod tests;
mod unverified;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lanyard_crypto::Timestamp;
use rusqlite::{Connection, ErrorCode};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// How long a process waits for another one's transaction.
const BUSY_MS: u64 = 10_000;

/// Why the vault does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The caller: another key than the vault was made with; or the file is not a vault.
    #[error("{0}: the key does not open this vault (or the file is not a vault)")]
    WrongKey(PathBuf),
    /// A newer version of this program wrote the vault.
    #[error("the vault has format {found}, and this program knows up to {known}: upgrade it")]
    Newer {
        /// What the vault says.
        found: u32,
        /// What is known.
        known: u32,
    },
    /// This program: it was built without SQLCipher, and would write in the clear.
    #[error("this program was built without SQLCipher: the vault stays closed")]
    NotEncrypted,
    /// The disk: the file cannot be made.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The disk, or a bug: SQLite's own words, which hold no values.
    #[error("the vault: {0}")]
    Sql(#[from] rusqlite::Error),
    /// The disk: a row does not hold what belongs there.
    #[error("the vault is damaged: {0}")]
    Damaged(&'static str),
}

/// The vault's key: 32 random bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct VaultKey([u8; 32]);

impl VaultKey {
    /// From its bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As SQLCipher takes a key that it is not to derive.
    fn as_pragma(&self) -> Zeroizing<String> {
        let digits = Zeroizing::new(lanyard_crypto::ids::to_hex(&self.0));
        Zeroizing::new(format!("x'{}'", digits.as_str()))
    }
}

impl std::fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VaultKey(..)")
    }
}

/// See the module.
#[derive(Debug)]
pub struct Vault {
    connection: Arc<Mutex<Connection>>,
    depth: u32,
}

impl Vault {
    /// Opens the vault in this file, or makes it (mode 0600).
    ///
    /// # Errors
    /// [`VaultError`]: wrong key, newer format, or the disk.
    pub fn open(path: &Path, key: &VaultKey) -> Result<Self, VaultError> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        file.map_err(|error| VaultError::File(path.into(), error))?;
        let connection = Connection::open(path)?;
        unlock(&connection, key)?;
        let version: Option<String> =
            connection.query_row("PRAGMA cipher_version", [], |row| row.get(0)).ok();
        if version.is_none_or(|v| v.is_empty()) {
            return Err(VaultError::NotEncrypted);
        }
        let opens =
            connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0));
        match opens {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
                return Err(VaultError::WrongKey(path.into()));
            }
            other => other?,
        };
        connection.busy_timeout(Duration::from_millis(BUSY_MS))?;
        connection.pragma_update(None, "secure_delete", "ON")?;
        connection.pragma_update(None, "synchronous", "EXTRA")?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        connection.pragma_update_and_check(None, "journal_mode", "TRUNCATE", |_| Ok(()))?;
        schema::prepare(&connection)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), depth: 0 })
    }

    /// Gives the vault in this file another key: every page is written anew, all or nothing. SQLCipher does not tell whether it could, so the
    /// vault is opened anew.
    ///
    /// # Errors
    /// [`VaultError`]; [`VaultError::WrongKey`] if it has the key that it had.
    pub fn change_key(self, path: &Path, key: &VaultKey) -> Result<Self, VaultError> {
        self.lock().pragma_update(None, "rekey", key.as_pragma().as_str())?;
        drop(self);
        Self::open(path, key)
    }

    /// Does `work` in one transaction: all of it is on disk when this returns `Ok`, and nothing of it after
    /// an `Err`. Transactions nest; the outermost one decides.
    ///
    /// # Errors
    /// What `work` returns, or the disk's.
    pub fn transaction<T, E: From<VaultError>>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.begin()?;
        let result = work(self);
        self.end(result)
    }

    pub(crate) fn begin(&mut self) -> Result<(), VaultError> {
        // Immediate, so that state is never read that another process is about to change.
        let sql =
            if self.depth == 0 { "BEGIN IMMEDIATE".into() } else { format!("SAVEPOINT s{}", self.depth) };
        self.lock().execute_batch(&sql)?;
        self.depth += 1;
        Ok(())
    }

    pub(crate) fn end<T, E: From<VaultError>>(&mut self, result: Result<T, E>) -> Result<T, E> {
        assert!(self.depth > 0, "a transaction ends only after it has begun");
        self.depth -= 1;
        let depth = self.depth;
        let (commit, rollback) = match depth {
            0 => ("COMMIT".to_owned(), "ROLLBACK".to_owned()),
            _ => (format!("RELEASE s{depth}"), format!("ROLLBACK TO s{depth}; RELEASE s{depth}")),
        };
        let connection = self.lock();
        match result {
            Ok(value) => match connection.execute_batch(&commit) {
                Ok(()) => Ok(value),
                Err(error) => {
                    // The error that is reported is the first one; a failed rollback leaves SQLite to roll
                    // back on closing.
                    let _ = connection.execute_batch(&rollback);
                    Err(VaultError::from(error).into())
                }
            },
            Err(error) => {
                connection.execute_batch(&rollback).map_err(VaultError::from)?;
                Err(error)
            }
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while the lock was held leaves SQLite's own state whole.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unlock(connection: &Connection, key: &VaultKey) -> Result<(), VaultError> {
    // Otherwise it writes about a wrong key to standard error by itself.
    connection.pragma_update(None, "cipher_log_level", "NONE")?;
    Ok(connection.pragma_update(None, "key", key.as_pragma().as_str())?)
}

/// By which an MLS message is recognised: SHA-256 of it.
pub(crate) fn content_hash(content: &[u8]) -> [u8; 32] {
    Sha256::digest(content).into()
}

/// SQLite counts up to 2^63; later moments are as good as never.
fn seconds(at: Timestamp) -> i64 {
    i64::try_from(at.as_secs()).unwrap_or(i64::MAX)
}

fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_secs(u64::try_from(seconds).unwrap_or(0))
}
