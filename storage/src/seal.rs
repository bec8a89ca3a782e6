//! The cryptography of the store: AES-256-GCM (NIST SP 800-38D) and HMAC-SHA-256 (RFC 2104), no more.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::StorageError;

/// Bytes of a nonce.
pub(crate) const NONCE_BYTES: usize = 12;

/// Bytes that sealing adds to a plaintext.
pub(crate) const TAG_BYTES: usize = 16;

/// A 256-bit key. Wiped when dropped, and never shown.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    /// From its bytes.
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// From the operating system's randomness.
    pub(crate) fn random() -> Result<Self, StorageError> {
        random_bytes().map(Self::new)
    }

    /// Its bytes.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Another secret, for the purpose that `label` names.
    pub(crate) fn derive(&self, label: &[u8]) -> Self {
        Self::new(self.mac(&[label]))
    }

    /// HMAC-SHA-256 over the concatenation of `parts`.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.as_bytes()).expect("HMAC takes keys of any length");
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }

    /// Seals `plaintext`. A nonce must never come twice with the same key.
    pub(crate) fn seal(&self, nonce: [u8; NONCE_BYTES], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        self.cipher()
            .encrypt(&nonce.into(), Payload { msg: plaintext, aad })
            .expect("AES-GCM seals everything below 64 GiB")
    }

    /// Opens what [`seal`](Secret::seal) made of the same key, nonce and `aad`; none if anything differs.
    pub(crate) fn open(
        &self,
        nonce: [u8; NONCE_BYTES],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        self.cipher().decrypt(&nonce.into(), Payload { msg: ciphertext, aad }).ok().map(Zeroizing::new)
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(self.as_bytes().into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Bytes from the operating system's randomness.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], StorageError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| StorageError::Randomness(error.to_string()))?;
    Ok(bytes)
}
