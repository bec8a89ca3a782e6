//! The offline grace: what an agent keeps of a device whose PIN was proved, so that the PIN opens it again while the node cannot be reached.
//!
//! The vault's key is sealed under the PIN, stretched as for the exchange, and a key that never leaves the memory of the process that has
//! it. So the grace ends with the process, and a copy of the disk is worth nothing for it; who has the process' memory can try PINs, at the
//! price of Argon2id each.

use std::fmt;

use aes_gcm::aead::KeyInit;
use aes_gcm::{Aes256Gcm, Key};
use hmac::{Hmac, Mac};
use sha2::Sha512;
use zeroize::Zeroizing;

use super::entropy;
use super::exchange::{PinError, stretch};
use super::rules::Pin;
use super::secrets::{SealedKey, VAULT_KEY_BYTES};
use crate::labels;

/// A salt of Argon2id, in bytes.
pub const OFFLINE_SALT_BYTES: usize = 16;
/// A PIN that was stretched, in bytes.
pub const STRETCHED_BYTES: usize = 32;

/// A PIN, stretched by Argon2id. Opens nothing without the process that has sealed something under it.
pub struct StretchedPin(Box<Zeroizing<[u8; STRETCHED_BYTES]>>);

impl fmt::Debug for StretchedPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StretchedPin(..)")
    }
}

impl StretchedPin {
    /// A new salt.
    ///
    /// # Errors
    /// [`PinError::Randomness`].
    pub fn salt() -> Result<[u8; OFFLINE_SALT_BYTES], PinError> {
        let mut salt = [0; OFFLINE_SALT_BYTES];
        entropy::fill(&mut salt)?;
        Ok(salt)
    }

    /// Takes the time and memory of Argon2id.
    pub fn of(pin: &Pin, salt: &[u8; OFFLINE_SALT_BYTES]) -> Self {
        let mut bytes = Box::new(Zeroizing::new([0; STRETCHED_BYTES]));
        let stretched = stretch().hash_password_into(pin.as_bytes(), salt, bytes.as_mut_slice());
        stretched.expect("PIN, salt and output are within Argon2's bounds");
        Self(bytes)
    }

    /// From its bytes, which stay where they are.
    pub fn from_bytes(bytes: Box<Zeroizing<[u8; STRETCHED_BYTES]>>) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; STRETCHED_BYTES] {
        &self.0
    }
}

/// The vault's key, sealed under a PIN and this value itself: it is not to be written anywhere.
pub struct OfflineKey {
    own: Box<Zeroizing<[u8; 32]>>,
    sealed: SealedKey,
}

impl fmt::Debug for OfflineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OfflineKey(..)")
    }
}

impl OfflineKey {
    /// Seals the vault's key.
    ///
    /// # Errors
    /// [`PinError::Randomness`].
    pub fn seal(key: &[u8; VAULT_KEY_BYTES], pin: &StretchedPin) -> Result<Self, PinError> {
        let mut own = Box::new(Zeroizing::new([0; 32]));
        entropy::fill(own.as_mut_slice())?;
        let sealed = SealedKey::seal(&cipher(&own, pin), key, &[])?;
        Ok(Self { own, sealed })
    }

    /// Opens it; none if this is another PIN.
    pub fn open(&self, pin: &StretchedPin) -> Option<Box<Zeroizing<[u8; VAULT_KEY_BYTES]>>> {
        self.sealed.open(&cipher(&self.own, pin), &[]).map(Box::new)
    }
}

/// HMAC-SHA-512 of the label and the PIN under the own key, cut to 32 bytes.
fn cipher(own: &[u8; 32], pin: &StretchedPin) -> Aes256Gcm {
    let mut mac = Hmac::<Sha512>::new_from_slice(own).expect("HMAC takes keys of any length");
    mac.update(labels::OFFLINE);
    mac.update(pin.as_bytes());
    let whole = Zeroizing::new(<[u8; 64]>::from(mac.finalize().into_bytes()));
    let mut half = Zeroizing::new([0; 32]);
    half.copy_from_slice(&whole[..32]);
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(*half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_and_the_process_that_sealed_open_it_together() {
        let salt = StretchedPin::salt().unwrap();
        let stretched = |pin: &str| StretchedPin::of(&Pin::typed(pin).unwrap(), &salt);
        let sealed = OfflineKey::seal(&[7; VAULT_KEY_BYTES], &stretched("482917")).unwrap();
        assert_eq!(sealed.open(&stretched("482917")).map(|key| **key), Some([7; VAULT_KEY_BYTES]));
        assert!(sealed.open(&stretched("482918")).is_none());
        let other_salt = StretchedPin::of(&Pin::typed("482917").unwrap(), &[1; OFFLINE_SALT_BYTES]);
        assert!(sealed.open(&other_salt).is_none());
        let OfflineKey { sealed, .. } = sealed;
        let elsewhere = OfflineKey { own: Box::new(Zeroizing::new([0; 32])), sealed };
        assert!(elsewhere.open(&stretched("482917")).is_none());
    }
}
