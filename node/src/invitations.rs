//! Invitations to enrol: for one named person whose identity the operator checked, once, for a limited time
//! and a limited number of tries.
//!
//! Each is a file of its own, which names the person and so is readable by its owner alone. It holds no code
//! but its HMAC. A try is counted on the disk before the code is compared, so that neither a crash nor many
//! connections give more tries than there are. The right code with the same key again gets the same answer:
//! an answer may be lost on its way.

use std::path::PathBuf;
use std::sync::Mutex;

use hmac::{Hmac, KeyInit, Mac};
use lanyard_crypto::ids::{from_hex, to_hex};
use lanyard_crypto::{Timestamp, labels};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::files::{self, FileError};

/// Wrong codes that end an invitation.
pub const TRIES_MAX: u32 = 5;
/// Invitations that are kept at once, used and expired ones included.
pub const INVITATIONS_MAX: usize = 10_000;
/// How long an invitation is listed after it expired, in seconds.
const KEPT_SECS: u64 = 90 * 24 * 3600;
/// Bytes of an invitation's name, and of its code.
const RANDOM_BYTES: usize = 16;
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Why an invitation is not accepted, or cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum InvitationError {
    /// There is none of this name, or the code is wrong, which is nobody's business to tell apart.
    #[error("this invitation is not known here, or its code is wrong; ask who invited you for a new one")]
    Wrong,
    /// Too late.
    #[error("this invitation has expired; ask who invited you for a new one")]
    Expired,
    /// Too many wrong codes.
    #[error("this invitation was tried too often with wrong codes; ask who invited you for a new one")]
    TooManyTries,
    /// It was used, with another key.
    #[error("this invitation has been used; if that was not you, tell who invited you at once")]
    Used,
    /// Too many files.
    #[error("there are {INVITATIONS_MAX} invitations already; some must expire first")]
    TooMany,
    /// No randomness.
    #[error("the operating system gave no randomness")]
    Randomness,
    /// A file is not what was written.
    #[error("{}: not an invitation's file; move it away", .0.display())]
    Damaged(PathBuf),
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Whom an invitation is for, as their certificate will say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitee {
    /// Name.
    pub name: String,
    /// Role.
    pub role: Option<String>,
    /// Department.
    pub department: Option<String>,
    /// Professional registration.
    pub registration: Option<String>,
    /// Staff number: for the identity provider's word to be compared with, and in no certificate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub staff_number: Option<String>,
    /// Who checked that they are who they say they are.
    pub checked_by: String,
    /// Fingerprint of the certificate of a device of theirs, which is wiped when the new one is enrolled.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replaces: Option<String>,
}

/// An invitation as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    version: u32,
    /// Its name, in hexadecimal digits.
    pub id: String,
    code_hmac: String,
    /// Whom it is for.
    pub invitee: Invitee,
    /// When it was made.
    pub made: Timestamp,
    /// When it stops working.
    pub expires: Timestamp,
    /// Wrong codes that it still survives.
    pub tries_left: u32,
    /// The public key that was enrolled with it.
    pub used_by: Option<String>,
}

impl Kept {
    /// Whether somebody can still enrol with it.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.used_by.is_none() && self.tries_left > 0 && now < self.expires
    }
}

/// What is handed to the invitee: shown once, kept nowhere.
pub struct Made {
    /// Which invitation.
    pub id: Vec<u8>,
    /// Its secret code.
    pub code: Zeroizing<Vec<u8>>,
    /// When it stops working.
    pub expires: Timestamp,
}

/// The invitations of a trust, in a directory.
pub struct Invitations {
    directory: PathBuf,
    /// Held over each read, change and write.
    turn: Mutex<()>,
}

impl Invitations {
    /// Those in `directory`, which is made if it is not there.
    ///
    /// # Errors
    /// [`InvitationError::File`].
    pub fn open(directory: PathBuf) -> Result<Self, InvitationError> {
        files::create_directory(&directory)?;
        Ok(Self { directory, turn: Mutex::default() })
    }

    /// Makes one that works for `life_secs`.
    ///
    /// # Errors
    /// [`InvitationError::TooMany`], [`InvitationError::Randomness`] or [`InvitationError::File`].
    pub fn make(&self, invitee: Invitee, life_secs: u64, now: Timestamp) -> Result<Made, InvitationError> {
        let _turn = self.turn();
        self.prune(now)?;
        if files::names_in(&self.directory)?.len() >= INVITATIONS_MAX {
            return Err(InvitationError::TooMany);
        }
        let mut id = vec![0; RANDOM_BYTES];
        let mut code = Zeroizing::new(vec![0; RANDOM_BYTES]);
        getrandom::fill(&mut id).map_err(|_| InvitationError::Randomness)?;
        getrandom::fill(&mut code).map_err(|_| InvitationError::Randomness)?;
        let expires = now.plus_secs(life_secs);
        self.write(&Kept {
            version: 1,
            id: to_hex(&id),
            code_hmac: to_hex(&hmac_of(&id, &code).finalize().into_bytes()),
            invitee,
            made: now,
            expires,
            tries_left: TRIES_MAX,
            used_by: None,
        })?;
        Ok(Made { id, code, expires })
    }

    /// Uses an invitation for a public key; says whom it is for.
    ///
    /// # Errors
    /// [`InvitationError`]; after a wrong code, one try is gone.
    pub fn redeem(
        &self,
        id: &[u8],
        code: &[u8],
        public_key: &[u8; 32],
        now: Timestamp,
    ) -> Result<Invitee, InvitationError> {
        let _turn = self.turn();
        let mut kept = self.proven(id, code, now)?;
        let public_key = to_hex(public_key);
        let used_by_another = kept.used_by.as_ref().is_some_and(|key| *key != public_key);
        kept.used_by.get_or_insert(public_key);
        self.write(&kept)?;
        if used_by_another { Err(InvitationError::Used) } else { Ok(kept.invitee) }
    }

    /// Says whom an invitation is for, without using it.
    ///
    /// # Errors
    /// As [`Invitations::redeem`], but for [`InvitationError::Used`].
    pub fn check(&self, id: &[u8], code: &[u8], now: Timestamp) -> Result<Invitee, InvitationError> {
        let _turn = self.turn();
        Ok(self.proven(id, code, now)?.invitee)
    }

    /// The invitation, if this is its code; after a wrong one, a try is gone.
    fn proven(&self, id: &[u8], code: &[u8], now: Timestamp) -> Result<Kept, InvitationError> {
        if id.len() != RANDOM_BYTES {
            return Err(InvitationError::Wrong);
        }
        let mut kept = self.read(&to_hex(id))?.ok_or(InvitationError::Wrong)?;
        if now >= kept.expires {
            return Err(InvitationError::Expired);
        }
        let tries_left = kept.tries_left.checked_sub(1).ok_or(InvitationError::TooManyTries)?;
        let before = std::mem::replace(&mut kept.tries_left, tries_left);
        self.write(&kept)?;

        let expected = from_hex(&kept.code_hmac).unwrap_or_default();
        if hmac_of(id, code).verify_slice(&expected).is_err() {
            return Err(InvitationError::Wrong);
        }
        kept.tries_left = before;
        self.write(&kept)?;
        Ok(kept)
    }

    /// Ends the open ones of these people; says which.
    ///
    /// # Errors
    /// As [`Invitations::list`]; what was ended before stays ended.
    pub fn end(&self, of: impl Fn(&Invitee) -> bool, now: Timestamp) -> Result<Vec<String>, InvitationError> {
        let _turn = self.turn();
        let mut ended = Vec::new();
        for mut kept in self.all()?.into_iter().filter(|kept| of(&kept.invitee) && now < kept.expires) {
            let was_open = kept.is_open(now);
            // Also one that was used: the same key could have its certificate again.
            kept.expires = now;
            self.write(&kept)?;
            if was_open {
                ended.push(kept.id);
            }
        }
        Ok(ended)
    }

    /// All of them, oldest first.
    ///
    /// # Errors
    /// [`InvitationError::File`] or [`InvitationError::Damaged`].
    pub fn list(&self) -> Result<Vec<Kept>, InvitationError> {
        let _turn = self.turn();
        let mut all = self.all()?;
        all.sort_by(|a, b| (a.made, &a.id).cmp(&(b.made, &b.id)));
        Ok(all)
    }

    fn all(&self) -> Result<Vec<Kept>, InvitationError> {
        let names = files::names_in(&self.directory)?;
        let ids =
            names.iter().filter_map(|name| name.strip_suffix(".json")).filter(|name| !name.starts_with('.'));
        ids.filter_map(|id| self.read(id).transpose()).collect()
    }

    fn prune(&self, now: Timestamp) -> Result<(), InvitationError> {
        for old in self.all()?.iter().filter(|kept| now > kept.expires.plus_secs(KEPT_SECS)) {
            files::remove(&self.path(&old.id))?;
        }
        Ok(())
    }

    fn read(&self, id: &str) -> Result<Option<Kept>, InvitationError> {
        let path = self.path(id);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = files::read(&path, FILE_BYTES_MAX)?;
        let kept: Option<Kept> = serde_json::from_slice(&bytes).ok();
        let kept = kept.filter(|kept| kept.version == 1 && kept.id == id);
        kept.map(Some).ok_or(InvitationError::Damaged(path))
    }

    fn write(&self, kept: &Kept) -> Result<(), InvitationError> {
        let bytes = serde_json::to_vec_pretty(kept).expect("an invitation has no keys but text");
        Ok(files::replace(&self.path(&kept.id), &bytes, files::SECRET)?)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }

    /// What was half done when a thread panicked is whole on the disk: each change is one file, replaced in
    /// one step.
    fn turn(&self) -> std::sync::MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// HMAC-SHA-256 under the code, over the label and the invitation's name. Its verification takes the same
/// time wherever two codes differ.
fn hmac_of(id: &[u8], code: &[u8]) -> Hmac<Sha256> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(code).expect("HMAC takes keys of any length");
    hmac.update(labels::INVITATION);
    hmac.update(id);
    hmac
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);
    const HOUR: u64 = 3600;

    fn invitee() -> Invitee {
        Invitee {
            name: "Dr Ada Okafor".into(),
            role: Some("Consultant".into()),
            department: None,
            registration: Some("GMC 1234567".into()),
            staff_number: None,
            checked_by: "J. Byrne".into(),
            replaces: None,
        }
    }

    fn invitations() -> (tempfile::TempDir, Invitations) {
        let directory = tempfile::tempdir().unwrap();
        let invitations = Invitations::open(directory.path().join("invitations")).unwrap();
        (directory, invitations)
    }

    #[test]
    fn the_right_code_works_once_and_again_for_the_same_key_alone() {
        let (_directory, invitations) = invitations();
        let made = invitations.make(invitee(), HOUR, NOW).unwrap();
        assert_eq!(invitations.redeem(&made.id, &made.code, &[1; 32], NOW).unwrap(), invitee());
        assert_eq!(invitations.redeem(&made.id, &made.code, &[1; 32], NOW).unwrap(), invitee());
        let other = invitations.redeem(&made.id, &made.code, &[2; 32], NOW);
        assert!(matches!(other, Err(InvitationError::Used)));
    }

    #[test]
    fn tries_are_counted_on_the_disk() {
        let (directory, invitations) = invitations();
        let made = invitations.make(invitee(), HOUR, NOW).unwrap();
        for _ in 0..TRIES_MAX {
            // As after a restart: nothing but the files is remembered.
            let again = Invitations::open(directory.path().join("invitations")).unwrap();
            let wrong = again.redeem(&made.id, &[0; 16], &[1; 32], NOW);
            assert!(matches!(wrong, Err(InvitationError::Wrong)));
        }
        let right = invitations.redeem(&made.id, &made.code, &[1; 32], NOW);
        assert!(matches!(right, Err(InvitationError::TooManyTries)));
    }

    #[test]
    fn it_ends_with_its_time_and_is_forgotten_later() {
        let (_directory, invitations) = invitations();
        let made = invitations.make(invitee(), HOUR, NOW).unwrap();
        let late = invitations.redeem(&made.id, &made.code, &[1; 32], NOW.plus_secs(HOUR));
        assert!(matches!(late, Err(InvitationError::Expired)));
        invitations.make(invitee(), HOUR, NOW.plus_secs(HOUR + KEPT_SECS + 1)).unwrap();
        assert_eq!(invitations.list().unwrap().len(), 1);
    }

    #[test]
    fn who_leaves_has_no_invitation_any_more() {
        let (_directory, invitations) = invitations();
        let made = invitations.make(invitee(), HOUR, NOW).unwrap();
        let other = Invitee { registration: Some("GMC 7654321".into()), ..invitee() };
        let others = invitations.make(other.clone(), HOUR, NOW).unwrap();
        let theirs = |invitee: &Invitee| invitee.registration.as_deref() == Some("GMC 1234567");
        assert_eq!(invitations.end(theirs, NOW).unwrap(), [to_hex(&made.id)]);
        assert_eq!(invitations.end(theirs, NOW).unwrap(), [] as [String; 0]);
        let late = invitations.redeem(&made.id, &made.code, &[1; 32], NOW);
        assert!(matches!(late, Err(InvitationError::Expired)));
        assert_eq!(invitations.redeem(&others.id, &others.code, &[1; 32], NOW).unwrap(), other);
    }

    #[test]
    fn an_unknown_name_and_a_wrong_code_look_alike() {
        let (_directory, invitations) = invitations();
        let made = invitations.make(invitee(), HOUR, NOW).unwrap();
        for id in [&[][..], &[7; 16], b"../../etc/passwd"] {
            assert!(matches!(invitations.redeem(id, &made.code, &[1; 32], NOW), Err(InvitationError::Wrong)));
        }
    }

    #[test]
    fn no_file_holds_the_code_and_all_are_private() {
        let (directory, invitations) = invitations();
        let made = invitations.make(invitee(), HOUR, NOW).unwrap();
        let path = directory.path().join("invitations").join(format!("{}.json", to_hex(&made.id)));
        files::check_secret(&path).unwrap();
        assert!(!files::read_text(&path).unwrap().contains(&to_hex(&made.code)));
    }
}
