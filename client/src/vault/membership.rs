//! Who was in a conversation in which epochs, as far as this device has seen it: so that it can be told which messages
//! a person could have read.

use std::collections::BTreeSet;

use lanyard_crypto::mls::PersonKey;
use lanyard_crypto::{ConversationId, Fingerprint, Timestamp};
use rusqlite::params;

use super::{Vault, VaultError, moment, seconds};

/// A time during which a device was a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first epoch that it could read.
    pub came: u64,
    /// The epoch that began without it; none while it is a member.
    pub went: Option<u64>,
    /// When it came; none if that was before this was noted, or before this device came.
    pub since: Option<Timestamp>,
}

impl Span {
    /// Whether it could read what was encrypted in this epoch.
    pub fn covers(&self, epoch: u64) -> bool {
        self.came <= epoch && self.went.is_none_or(|went| epoch < went)
    }
}

impl Vault {
    /// Notes that these devices, and no others, are the members from this epoch on; of those that are new, since when it
    /// is known of these. In the transaction that stores the group's state.
    ///
    /// # Errors
    /// The disk's.
    pub fn members_are(
        &self,
        conversation: &ConversationId,
        devices: &[Fingerprint],
        epoch: u64,
        since: impl Fn(&Fingerprint) -> Option<Timestamp>,
    ) -> Result<(), VaultError> {
        let known = self.members_noted(conversation)?;
        let connection = self.lock();
        let (id, epoch) = (conversation.to_bytes(), i64::try_from(epoch).unwrap_or(i64::MAX));
        let mut went = connection.prepare_cached(
            "UPDATE membership SET went = ? WHERE conversation = ? AND device = ? AND went IS NULL",
        )?;
        for device in known.iter().filter(|d| !devices.contains(d)) {
            went.execute(params![epoch, id, device.as_bytes()])?;
        }
        let mut came = connection.prepare_cached(
            "INSERT OR IGNORE INTO membership (conversation, device, came, since) VALUES (?, ?, ?, ?)",
        )?;
        for device in devices.iter().filter(|d| !known.contains(d)) {
            came.execute(params![id, device.as_bytes(), epoch, since(device).map(seconds)])?;
        }
        Ok(())
    }

    /// Notes that these devices are members of whom an earlier version has noted nothing: then they count as members
    /// from the beginning.
    ///
    /// # Errors
    /// The disk's.
    pub fn members_were(
        &self,
        conversation: &ConversationId,
        devices: &[Fingerprint],
    ) -> Result<(), VaultError> {
        let known = self.members_noted(conversation)?;
        let connection = self.lock();
        let mut came = connection.prepare_cached(
            "INSERT OR IGNORE INTO membership (conversation, device, came) VALUES (?, ?, 0)",
        )?;
        for device in devices.iter().filter(|d| !known.contains(d)) {
            came.execute(params![conversation.to_bytes(), device.as_bytes()])?;
        }
        Ok(())
    }

    /// When a device was a member, the earliest time first. Nothing, if an earlier version has noted nothing.
    ///
    /// # Errors
    /// The disk's.
    pub fn spans(
        &self,
        conversation: &ConversationId,
        device: &Fingerprint,
    ) -> Result<Vec<Span>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT came, went, since FROM membership WHERE conversation = ? AND device = ? ORDER BY came",
        )?;
        let epoch = |number: i64| u64::try_from(number).unwrap_or(0);
        let span = |row: &rusqlite::Row<'_>| {
            let (came, went): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
            let since: Option<i64> = row.get(2)?;
            Ok(Span { came: epoch(came), went: went.map(epoch), since: since.map(moment) })
        };
        let rows = statement.query_map(params![conversation.to_bytes(), device.as_bytes()], span)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes whose device this is: in the transaction that stores the group's state.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_device_of(&self, person: &PersonKey, device: &Fingerprint) -> Result<(), VaultError> {
        let connection = self.lock();
        let mut put =
            connection.prepare_cached("INSERT OR IGNORE INTO device_of (person, device) VALUES (?, ?)")?;
        put.execute(params![person.as_bytes(), device.as_bytes()])?;
        Ok(())
    }

    /// The devices of a person that were ever members, as far as that was noted.
    ///
    /// # Errors
    /// The disk's.
    pub fn devices_of(
        &self,
        conversation: &ConversationId,
        person: &PersonKey,
    ) -> Result<BTreeSet<Fingerprint>, VaultError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT DISTINCT m.device FROM membership m JOIN device_of d ON d.device = m.device
             WHERE m.conversation = ? AND d.person = ?",
        )?;
        let values = params![conversation.to_bytes(), person.as_bytes()];
        let rows = statement.query_map(values, |row| row.get::<_, Vec<u8>>(0))?;
        let device = |bytes: Vec<u8>| {
            Fingerprint::try_from(bytes.as_slice()).map_err(|_| VaultError::Damaged("a member's device"))
        };
        rows.collect::<Result<Vec<_>, _>>()?.into_iter().map(device).collect()
    }

    fn members_noted(&self, conversation: &ConversationId) -> Result<BTreeSet<Fingerprint>, VaultError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT device FROM membership WHERE conversation = ? AND went IS NULL")?;
        let rows = statement.query_map([conversation.to_bytes()], |row| row.get::<_, Vec<u8>>(0))?;
        let device = |bytes: Vec<u8>| {
            Fingerprint::try_from(bytes.as_slice()).map_err(|_| VaultError::Damaged("a member's device"))
        };
        rows.collect::<Result<Vec<_>, _>>()?.into_iter().map(device).collect()
    }
}
