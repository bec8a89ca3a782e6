//! The device's PIN: setting it, and unlocking with it (OPAQUE, RFC 9807, with the device's node: [`lanyard_crypto::pin`]).
//!
//! The vault's key is random, and lies in the profile sealed under what the PIN and the node give together. The first PIN is set as a part of
//! enrolment, and the vault is made under its key. Strategy for crashes: the new sealed key is written beside the one in force before the
//! node takes the new PIN, and takes its place afterwards; whichever of the two the next exchange opens is the one in force, and until that
//! is known no further PIN is set, unless the node says that it has none. A vault of version 0.1.0, whose key lay in the open, gets another
//! key, since a disk may still hold what was removed from it; until its file is gone, both are tried.

use lanyard_crypto::cbor;
use lanyard_crypto::gateway::{PinSession, PinUpload};
use lanyard_crypto::pin::{
    self as exchange, ClientProof, ClientSetup, ExportKey, Pin, SealedKey, SessionToken, StretchedPin,
    VAULT_KEY_BYTES,
};
use zeroize::Zeroizing;

use crate::agent::{self, Mark, Offline, Opened, OpenedOffline};
use crate::app;
use crate::files::{self, FileError};
use crate::node::{NodeClient, NodeError};
use crate::profile::{Device, Profile, ProfileError};
use crate::trust::{Beliefs, TrustError};
use crate::vault::{Vault, VaultError, VaultKey};

/// A sealed key, in bytes; it takes about 70.
const SEALED_BYTES_MAX: usize = 256;

/// Why a PIN is not set, or does not unlock.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A file of it.
    #[error(transparent)]
    File(#[from] FileError),
    /// What the device believes of the network.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The node.
    #[error(transparent)]
    Node(NodeError),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The exchange.
    #[error("the PIN cannot be checked: {0}; try again, or ask your trust's IT")]
    Exchange(exchange::PinError),
    /// Another PIN than was set.
    #[error("the PIN is wrong; {}", tries_left(*.left))]
    Wrong {
        /// Attempts that are left.
        left: u32,
    },
    /// The same, found without the node.
    #[error("the PIN is wrong; without the node, {}", left_offline(*.0))]
    WrongOffline(u64),
    /// The device was locked while it was being unlocked.
    #[error("this device was locked meanwhile, and stays so: run lanyard unlock again")]
    LockedSince,
    /// There is none.
    #[error(
        "no PIN is set on this device: run lanyard enrol again with the same line, or ask your trust for a new invitation, and enrol with \
         that in the same profile"
    )]
    NotSet,
    /// There is one, and nobody has proved it.
    #[error("this device is locked: run lanyard unlock with the present PIN first, then set another one")]
    Locked,
    /// Nobody knows whether the node has taken the last one.
    #[error(
        "it is not known whether the PIN that was set last is in force: run lanyard unlock with it, or with the one before it; then set \
         another one"
    )]
    Unfinished,
    /// The agent does not answer.
    #[error("the process that keeps this device unlocked does not answer: {0}; run lanyard unlock again")]
    Agent(std::io::Error),
    /// The key does not come out of what the profile has.
    #[error("the PIN is right, but {0} does not hold this device's key: ask your trust for a new invitation")]
    Damaged(std::path::PathBuf),
}

impl From<NodeError> for PinError {
    fn from(error: NodeError) -> Self {
        match error.code() {
            Some("locked") => Self::Locked,
            _ => Self::Node(error),
        }
    }
}

impl From<exchange::PinError> for PinError {
    fn from(error: exchange::PinError) -> Self {
        Self::Exchange(error)
    }
}

fn tries_left(left: u32) -> String {
    match left {
        0 => "that was the last attempt, and what this device kept is gone: ask your trust for a new invitation".into(),
        1 => "one attempt is left before what this device keeps is gone for good".into(),
        left => format!("{left} attempts are left before what this device keeps is gone for good"),
    }
}

fn left_offline(left: u64) -> String {
    match left {
        0 => "no other is taken any more: try again when it can be reached".into(),
        left => format!("{left} more are taken"),
    }
}

/// Sets another PIN on a device that is unlocked.
///
/// # Errors
/// [`PinError`]; the PIN that was set before holds on, unless the next unlocking finds that the new one was taken.
pub fn set(profile: &Profile, pin: Pin) -> Result<Opened, PinError> {
    profile.load()?;
    let _lock = profile.lock()?;
    let (device, mut node) = device_and_node(profile)?;
    if !profile.may_have_pin()? {
        return Err(PinError::NotSet);
    }
    let Opened { key, token, .. } =
        agent::opened(profile, true).map_err(PinError::Agent)?.ok_or(PinError::Locked)?;
    node.show(Some(token));
    if profile.new_sealed_path().exists() {
        return Err(PinError::Unfinished);
    }
    put(profile, &device, &mut node, key, pin)
}

/// Sets the first PIN of a device that was just certified, by the `right` that its enrolment gave it. The vault is the one of `key`, or will
/// be made. The caller holds the profile's lock.
///
/// # Errors
/// [`PinError`]; nothing is lost, and enrolling again goes on.
pub fn set_first(
    profile: &Profile,
    device: &Device,
    node: &mut NodeClient,
    right: SessionToken,
    key: Option<Box<Zeroizing<[u8; VAULT_KEY_BYTES]>>>,
    pin: Pin,
) -> Result<Opened, PinError> {
    // The node has no PIN of this device, so what was written for one opens nothing.
    files::destroy(&profile.new_sealed_path())?;
    let key = match key {
        Some(key) => key,
        None => random_key()?,
    };
    node.show(Some(right));
    let opened = put(profile, device, node, key, pin)?;
    close_the_open(profile, &opened.key)?;
    Ok(opened)
}

fn put(
    profile: &Profile,
    device: &Device,
    node: &mut NodeClient,
    key: Box<Zeroizing<[u8; VAULT_KEY_BYTES]>>,
    pin: Pin,
) -> Result<Opened, PinError> {
    // Whatever becomes of this, a PIN before does not open the device without the node.
    agent::drop_offline(profile).map_err(PinError::Agent)?;
    let (setup, message) = ClientSetup::begin(pin.clone())?;
    let answer = node.begin_pin(message)?;
    let fingerprint = device.certificate().fingerprint();
    let new = setup.finish(&answer.message, &fingerprint, &device.trust)?;
    let sealed = new.export_key.seal(&key, &fingerprint)?;
    files::write_private(&profile.new_sealed_path(), &cbor::to_vec(&sealed))?;
    let token = SessionToken::random()?;
    let session = token.proof().as_bytes().to_vec();
    let opened = node.set_pin(&PinUpload { setup: answer.setup, upload: new.upload, session });
    if let Err(error) = &opened
        && error.code().is_some()
        && !error.is_passing()
    {
        // It has said itself that it did not take it.
        files::destroy(&profile.new_sealed_path())?;
    }
    let opened = opened?;
    files::rename(&profile.new_sealed_path(), &profile.sealed_path())?;
    node.show(Some(token.clone()));
    let offline = grace(&opened, &pin)?;
    Ok(Opened { key, token, idle_secs: opened.idle_secs, offline })
}

/// How a device was unlocked.
#[derive(Debug)]
pub enum Unlocked {
    /// By the node: what was opened, for the agent, and how many attempts have failed since the last that did not. They may be somebody else's.
    ByNode(Opened, u32),
    /// By the offline grace, since the node cannot be reached: the agent has it, until it was not used for so many seconds.
    Offline(u64),
}

/// Proves the PIN to the node, and opens the vault's key with what comes of it. A node that cannot be reached is done without for a while, if
/// the trust allows it. `begun` is how the device was last locked.
///
/// # Errors
/// [`PinError`]: wrong, not set, or refused by the node, which counts.
pub fn unlock(profile: &Profile, pin: Pin, begun: Mark) -> Result<Unlocked, PinError> {
    profile.load()?;
    let _lock = profile.lock()?;
    let opened = by_node(profile, &pin);
    match &opened {
        // A connection that the node has ended may be its answer to a revoked device.
        Err(PinError::Node(error)) if error.is_offline() && !error.may_be_revocation() => {
            if let Some(opened) = offline(profile, &pin, begun)? {
                return Ok(opened);
            }
        }
        // It has answered, and not with the key: nothing else opens the device any more.
        Err(
            PinError::Wrong { .. }
            | PinError::NotSet
            | PinError::Node(NodeError::Refused { .. } | NodeError::NotAccepted { .. }),
        ) => agent::drop_offline(profile).map_err(PinError::Agent)?,
        _ => {}
    }
    opened.map(|(opened, failed)| Unlocked::ByNode(opened, failed))
}

fn offline(profile: &Profile, pin: &Pin, begun: Mark) -> Result<Option<Unlocked>, PinError> {
    let Some(salt) = agent::offline_salt(profile).map_err(PinError::Agent)? else { return Ok(None) };
    match agent::open_offline(profile, &StretchedPin::of(pin, &salt), begun).map_err(PinError::Agent)? {
        OpenedOffline::Opened(idle_secs) => Ok(Some(Unlocked::Offline(idle_secs))),
        OpenedOffline::Wrong(left) => Err(PinError::WrongOffline(left)),
        OpenedOffline::LockedSince => Err(PinError::LockedSince),
        OpenedOffline::None => Ok(None),
    }
}

/// What the agent begins an offline grace with, if the trust allows one.
fn grace(session: &PinSession, pin: &Pin) -> Result<Option<Offline>, PinError> {
    if session.offline_secs == 0 {
        return Ok(None);
    }
    let salt = StretchedPin::salt()?;
    Ok(Some(Offline { secs: session.offline_secs, salt, pin: StretchedPin::of(pin, &salt) }))
}

fn by_node(profile: &Profile, pin: &Pin) -> Result<(Opened, u32), PinError> {
    let (device, mut node) = device_and_node(profile)?;
    let fingerprint = device.certificate().fingerprint();
    let candidates = [profile.new_sealed_path(), profile.sealed_path()];
    if !profile.may_have_pin()? {
        return Err(PinError::NotSet);
    }
    let (proof, message) = ClientProof::begin(pin.clone())?;
    let answer = node.try_pin(message);
    if answer.as_ref().is_err_and(|error| error.code() == Some("no-pin")) {
        // None was ever taken: what was written for one opens nothing.
        files::destroy(&profile.new_sealed_path())?;
        if !profile.may_have_pin()? {
            return Err(PinError::NotSet);
        }
    }
    let answer = answer?;
    let proven = match proof.finish(&answer.message, &fingerprint, &device.trust) {
        Err(exchange::PinError::Wrong) => return Err(PinError::Wrong { left: answer.left }),
        other => other?,
    };
    let session = node.open_session(proven.proof)?;
    let read = |path: &std::path::Path| sealed_in(path, &proven.export_key, &device);
    let key = match read(&candidates[0])? {
        Some(key) => {
            files::rename(&candidates[0], &candidates[1])?;
            key
        }
        None => {
            let key = read(&candidates[1])?.ok_or_else(|| PinError::Damaged(candidates[1].clone()))?;
            // The node has not taken the PIN for which it was written.
            files::destroy(&candidates[0])?;
            key
        }
    };
    close_the_open(profile, &key)?;
    let offline = grace(&session, pin)?;
    Ok((Opened { key, token: proven.token, idle_secs: session.idle_secs, offline }, session.failed))
}

/// Ends the session at the node, as far as it can be reached: the token opens nothing there any more.
pub fn end_session(profile: &Profile, token: SessionToken) {
    if let Ok((_, mut node)) = device_and_node(profile) {
        node.show(Some(token));
        // It ends by itself later; locking does not wait for the node.
        let _ = node.end_session();
    }
}

fn device_and_node(profile: &Profile) -> Result<(Device, NodeClient), PinError> {
    let device = profile.load()?;
    let beliefs = Beliefs::load(profile)?;
    let node = app::client(&device, &beliefs)?;
    Ok((device, node))
}

fn random_key() -> Result<Box<Zeroizing<[u8; VAULT_KEY_BYTES]>>, PinError> {
    let mut key = Box::new(Zeroizing::new([0; VAULT_KEY_BYTES]));
    getrandom::fill(key.as_mut_slice()).map_err(|_| exchange::PinError::Randomness)?;
    Ok(key)
}

/// The key that a file holds, if it is there and this opens it.
fn sealed_in(
    path: &std::path::Path,
    export_key: &ExportKey,
    device: &Device,
) -> Result<Option<Box<Zeroizing<[u8; VAULT_KEY_BYTES]>>>, PinError> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = files::read_private(path, SEALED_BYTES_MAX)?;
    let sealed: Option<SealedKey> = cbor::from_slice(&bytes, SEALED_BYTES_MAX).ok();
    Ok(sealed.and_then(|sealed| export_key.open(&sealed, &device.certificate().fingerprint()).map(Box::new)))
}

/// Gives a vault of version 0.1.0, whose key lies in the open, this one, and destroys that.
fn close_the_open(profile: &Profile, key: &[u8; VAULT_KEY_BYTES]) -> Result<(), PinError> {
    if !profile.plain_key_path().exists() {
        return Ok(());
    }
    let key = VaultKey::new(*key);
    if profile.vault_path().exists() {
        match Vault::open(&profile.vault_path(), &VaultKey::new(*profile.plain_key()?)) {
            Ok(vault) => drop(vault.change_key(&profile.vault_path(), &key)?),
            // It was changed before an interruption.
            Err(VaultError::WrongKey(_)) => drop(Vault::open(&profile.vault_path(), &key)?),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(files::destroy(&profile.plain_key_path())?)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    const NEW: [u8; VAULT_KEY_BYTES] = [7; VAULT_KEY_BYTES];

    /// A profile of version 0.1.0.
    fn open_profile() -> (tempfile::TempDir, Profile, VaultKey) {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::at(dir.path().join("p"));
        profile.make().unwrap();
        files::write_private(&profile.plain_key_path(), &[3; VAULT_KEY_BYTES]).unwrap();
        let key = VaultKey::new([3; VAULT_KEY_BYTES]);
        Vault::open(&profile.vault_path(), &key).unwrap().set_cursor("kept", 5).unwrap();
        (dir, profile, key)
    }

    fn kept(profile: &Profile, key: &VaultKey) -> Result<u64, VaultError> {
        Vault::open(&profile.vault_path(), key)?.cursor("kept")
    }

    #[test]
    fn a_vault_whose_key_lay_in_the_open_gets_another_and_that_is_destroyed() {
        let (_dir, profile, before) = open_profile();
        close_the_open(&profile, &NEW).unwrap();
        assert!(!profile.plain_key_path().exists());
        assert_eq!(kept(&profile, &VaultKey::new(NEW)).unwrap(), 5);
        assert!(matches!(kept(&profile, &before), Err(VaultError::WrongKey(_))));
        close_the_open(&profile, &NEW).unwrap();
    }

    #[test]
    fn what_broke_off_before_the_open_key_was_destroyed_goes_on() {
        let (_dir, profile, before) = open_profile();
        let vault = Vault::open(&profile.vault_path(), &before).unwrap();
        drop(vault.change_key(&profile.vault_path(), &VaultKey::new(NEW)).unwrap());
        close_the_open(&profile, &NEW).unwrap();
        assert!(!profile.plain_key_path().exists());
        assert_eq!(kept(&profile, &VaultKey::new(NEW)).unwrap(), 5);
    }

    /// SQLCipher's own answer is that it could, whether it could or not.
    #[test]
    fn a_vault_that_cannot_get_another_key_keeps_the_one_that_lies_in_the_open() {
        let (_dir, profile, before) = open_profile();
        let other = Connection::open(profile.vault_path()).unwrap();
        let digits = lanyard_crypto::ids::to_hex(&*profile.plain_key().unwrap());
        other.pragma_update(None, "key", format!("x'{digits}'")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(matches!(close_the_open(&profile, &NEW), Err(PinError::Vault(_))));
        assert!(profile.plain_key_path().exists());
        other.execute_batch("ROLLBACK").unwrap();
        assert_eq!(kept(&profile, &before).unwrap(), 5);
        close_the_open(&profile, &NEW).unwrap();
        assert_eq!(kept(&profile, &VaultKey::new(NEW)).unwrap(), 5);
    }
}
