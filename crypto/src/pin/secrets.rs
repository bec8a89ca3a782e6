//! What an exchange leaves: keys of the client's, and what a node knows a session by.

use std::fmt;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::entropy;
use super::exchange::PinError;
use crate::{Fingerprint, ids, labels};

/// The vault's key, in bytes.
pub const VAULT_KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
/// Both of OPAQUE's keys, in bytes: outputs of HKDF-SHA-512.
pub(super) const OPAQUE_KEY_BYTES: usize = 64;

/// OPAQUE's export key: the client alone has it, and only while it knows the PIN and the node has answered.
pub struct ExportKey(pub(super) Zeroizing<[u8; OPAQUE_KEY_BYTES]>);

impl fmt::Debug for ExportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExportKey(..)")
    }
}

/// The vault's key, sealed (AES-256-GCM) under a key from an export key, bound to the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedKey {
    #[serde(with = "serde_bytes")]
    nonce: Vec<u8>,
    #[serde(with = "serde_bytes")]
    sealed: Vec<u8>,
}

impl SealedKey {
    pub(super) fn seal(
        cipher: &Aes256Gcm,
        key: &[u8; VAULT_KEY_BYTES],
        bound_to: &[u8],
    ) -> Result<Self, PinError> {
        let mut nonce = [0; NONCE_BYTES];
        entropy::fill(&mut nonce)?;
        let sealed = cipher.encrypt(&Nonce::from(nonce), Payload { msg: key, aad: bound_to });
        Ok(Self { nonce: nonce.to_vec(), sealed: sealed.expect("32 bytes are less than AES-GCM's limit") })
    }

    pub(super) fn open(
        &self,
        cipher: &Aes256Gcm,
        bound_to: &[u8],
    ) -> Option<Zeroizing<[u8; VAULT_KEY_BYTES]>> {
        let nonce = <[u8; NONCE_BYTES]>::try_from(self.nonce.as_slice()).ok()?;
        let payload = Payload { msg: &self.sealed, aad: bound_to };
        let opened = Zeroizing::new(cipher.decrypt(&Nonce::from(nonce), payload).ok()?);
        let mut key = Zeroizing::new([0; VAULT_KEY_BYTES]);
        (opened.len() == VAULT_KEY_BYTES).then(|| key.copy_from_slice(&opened))?;
        Some(key)
    }
}

impl ExportKey {
    /// Seals the vault's key of this device.
    ///
    /// # Errors
    /// [`PinError::Randomness`].
    pub fn seal(&self, key: &[u8; VAULT_KEY_BYTES], device: &Fingerprint) -> Result<SealedKey, PinError> {
        SealedKey::seal(&self.cipher(), key, device.as_bytes())
    }

    /// Opens what [`ExportKey::seal`] made; none if this is not the export key, or not the device.
    pub fn open(&self, sealed: &SealedKey, device: &Fingerprint) -> Option<Zeroizing<[u8; VAULT_KEY_BYTES]>> {
        sealed.open(&self.cipher(), device.as_bytes())
    }

    fn cipher(&self) -> Aes256Gcm {
        let key = derived(&*self.0, labels::VAULT_KEY);
        Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key))
    }
}

/// What a client shows with each request of a session that was opened with the PIN. Derived on both sides, so it never travels before.
#[derive(Clone)]
pub struct SessionToken(Zeroizing<[u8; 32]>);

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(..)")
    }
}

impl SessionToken {
    pub(super) fn of(session_key: &[u8]) -> Self {
        Self(derived(session_key, labels::PIN_SESSION))
    }

    /// A random one, for a session that begins without an exchange.
    ///
    /// # Errors
    /// [`PinError::Randomness`].
    pub fn random() -> Result<Self, PinError> {
        let mut bytes = Zeroizing::new([0; 32]);
        entropy::fill(&mut *bytes)?;
        Ok(Self(bytes))
    }

    /// From its bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Zeroizing::new(*bytes))
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.0.clone()
    }

    /// As the value of HTTP's `Authorization` (RFC 6750, section 2.1): `Bearer` and 64 hexadecimal digits.
    pub fn to_header(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{BEARER}{}", ids::to_hex(&*self.0)))
    }

    /// Reads such a value; none if it is something else.
    pub fn from_header(value: &str) -> Option<Self> {
        let bytes = Zeroizing::new(ids::from_hex(value.strip_prefix(BEARER)?)?);
        Some(Self(Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?)))
    }

    /// What a node keeps of it.
    pub fn proof(&self) -> SessionProof {
        SessionProof(Sha256::digest(*self.0).into())
    }
}

const BEARER: &str = "Bearer ";

/// SHA-256 of a [`SessionToken`]: recognises it, and cannot stand for it.
#[derive(Clone, Copy, Debug)]
pub struct SessionProof([u8; 32]);

impl SessionProof {
    /// From its bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether this is the token; takes the same time whatever it is.
    pub fn is_of(&self, token: &SessionToken) -> bool {
        token.proof().0.ct_eq(&self.0).into()
    }
}

/// HMAC-SHA-512 of a label, cut to 32 bytes (the extract step is OPAQUE's own: its keys are uniform).
fn derived(key: &[u8], label: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(label);
    let whole = Zeroizing::new(<[u8; 64]>::from(mac.finalize().into_bytes()));
    let mut half = Zeroizing::new([0; 32]);
    half.copy_from_slice(&whole[..32]);
    half
}
