//! Ed25519 keys (RFC 8032): signing, strict verification, and PKCS#8 (RFC 5958, RFC 8410) for files.

use std::fmt;

use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use pkcs8::LineEnding;
use zeroize::Zeroizing;

/// Longest PKCS#8 document in PEM that is looked at; an Ed25519 key takes about 120 bytes.
const PEM_BYTES_MAX: usize = 4096;

/// Why a key cannot be made, read or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    Randomness,
    /// Not a PKCS#8 document with an Ed25519 private key.
    #[error("not an Ed25519 private key in PKCS#8 (a PEM file that begins with \"BEGIN PRIVATE KEY\")")]
    Pkcs8,
    /// Not a point of the curve, or one of small order, under which signatures prove nothing.
    #[error("not a sound Ed25519 public key")]
    Public,
    /// The signature is not one by this key over this message.
    #[error("the signature does not match")]
    Signature,
}

/// An Ed25519 private key. Erased from memory when dropped; its `Debug` shows the public half alone.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// [`KeyError::Randomness`] if there is none.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).map_err(|_| KeyError::Randomness)?;
        Ok(Self::from_seed(&seed))
    }

    /// The key with this seed, which is the private key of RFC 8032.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed; for libraries that take the private key itself.
    pub fn to_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The key in a PEM file.
    ///
    /// # Errors
    /// [`KeyError::Pkcs8`] unless it is an Ed25519 key in PKCS#8, not encrypted.
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, KeyError> {
        if pem.len() > PEM_BYTES_MAX {
            return Err(KeyError::Pkcs8);
        }
        SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|_| KeyError::Pkcs8)
    }

    /// As a PEM file. Version 1 of PKCS#8, without the public key, because OpenSSL 3.0 reads no other.
    pub fn to_pkcs8_pem(&self) -> Zeroizing<String> {
        self.keypair().to_pkcs8_pem(LineEnding::LF).expect("32 bytes always have a PKCS#8 encoding")
    }

    /// As DER, for TLS libraries; version 1 of PKCS#8.
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        self.keypair().to_pkcs8_der().expect("32 bytes always have a PKCS#8 encoding").to_bytes()
    }

    /// The signature over `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    pub(super) fn signer(&self) -> &SigningKey {
        &self.0
    }

    fn keypair(&self) -> KeypairBytes {
        KeypairBytes { secret_key: self.0.to_bytes(), public_key: None }
    }
}

impl Clone for SecretKey {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(public {})", crate::ids::to_hex(&self.public()[..6]))
    }
}

/// Checks a signature by the strict rules: canonical encodings, no key or nonce point of small order. So no two
/// implementations disagree about it, and nobody can alter a valid signature into another valid one.
///
/// # Errors
/// [`KeyError::Public`] for an unsound key, otherwise [`KeyError::Signature`].
pub fn verify(public_key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Result<(), KeyError> {
    let key = sound_public_key(public_key)?;
    key.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| KeyError::Signature)
}

/// The public key, if it is a point of the curve, encoded canonically, and not of small order.
pub(super) fn sound_public_key(bytes: &[u8; 32]) -> Result<VerifyingKey, KeyError> {
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Public)?;
    let canonical = key.to_edwards().compress().to_bytes() == *bytes;
    if key.is_weak() || !canonical { Err(KeyError::Public) } else { Ok(key) }
}
