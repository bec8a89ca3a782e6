//! People found in the directory, with the entry record that vouches for each device.

use lanyard_crypto::{Fingerprint, Timestamp, TrustId};
use rusqlite::{OptionalExtension, Row, params};

use super::{Vault, VaultError, moment, seconds};

/// One device of a person, from a directory entry. The entry is to be verified again before its key package
/// is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Of the device certificate.
    pub fingerprint: Fingerprint,
    /// The trust that certified it.
    pub trust: TrustId,
    /// The display name.
    pub name: String,
    /// The role, if stated.
    pub role: Option<String>,
    /// The entry record's bytes.
    pub entry: Vec<u8>,
    /// When it was learnt.
    pub updated: Timestamp,
}

impl Vault {
    /// Keeps a contact, in place of an earlier one of the same device.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_contact(&self, c: &Contact) -> Result<(), VaultError> {
        self.lock().execute(
            "INSERT OR REPLACE INTO contact (fingerprint, trust, name, role, entry, updated)
             VALUES (?, ?, ?, ?, ?, ?)",
            params![c.fingerprint.as_bytes(), c.trust.as_str(), c.name, c.role, c.entry, seconds(c.updated)],
        )?;
        Ok(())
    }

    /// The contact with this device.
    ///
    /// # Errors
    /// The disk's.
    pub fn contact(&self, fingerprint: &Fingerprint) -> Result<Option<Contact>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE fingerprint = ?"))?;
        let found = statement.query_row([fingerprint.as_bytes()], raw).optional()?;
        found.map(check).transpose()
    }

    /// Every contact, by name.
    ///
    /// # Errors
    /// The disk's.
    pub fn contacts(&self) -> Result<Vec<Contact>, VaultError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached(&format!("{SELECT} ORDER BY name, trust, fingerprint"))?;
        let rows = statement.query_map([], raw)?.collect::<Result<Vec<_>, _>>()?;
        rows.into_iter().map(check).collect()
    }
}

const SELECT: &str = "SELECT fingerprint, trust, name, role, entry, updated FROM contact";

type Raw = (Vec<u8>, String, String, Option<String>, Vec<u8>, i64);

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
}

fn check((fingerprint, trust, name, role, entry, updated): Raw) -> Result<Contact, VaultError> {
    let fingerprint = Fingerprint::try_from(fingerprint.as_slice());
    Ok(Contact {
        fingerprint: fingerprint.map_err(|_| VaultError::Damaged("a contact's fingerprint"))?,
        trust: trust.parse().map_err(|_| VaultError::Damaged("a contact's trust"))?,
        name,
        role,
        entry,
        updated: moment(updated),
    })
}
