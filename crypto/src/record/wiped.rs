//! A device's receipt for its wipe: its own signature that it has destroyed what it kept.
//!
//! COSE_Sign1 (RFC 9052) with EdDSA, the device's certificate by `x5t` as in a record, and a label of its own. It names nobody: the number
//! of the revocation list that the device was shown, and when it had destroyed its vault. It is the last thing that the device's key
//! signs. It proves that the device's program attested it, no more.

use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::cose::{Plain, open_plain, sign_plain};
use crate::limits::DEVICE_LINE_BYTES_MAX;
use crate::x509::{Certificate, KeyError, SecretKey, verify};
use crate::{Fingerprint, Timestamp, cbor, labels};

/// A receipt whose shape is right. Whether the device signed it, [`WipeReceipt::verify`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WipeReceipt {
    bytes: Vec<u8>,
    statement: Statement,
    plain: Plain,
}

/// What the device signs. Field order is wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Statement {
    list: u64,
    wiped: Timestamp,
}

impl WipeReceipt {
    /// Signs that the device with this certificate has destroyed what it kept at this moment, since the revocation list of this number
    /// names it.
    pub fn sign(list: u64, wiped: Timestamp, certificate: Fingerprint, key: &SecretKey) -> Self {
        let statement = Statement { list, wiped };
        let plain = sign_plain(labels::DEVICE_WIPE, cbor::to_vec(&statement), certificate, key);
        Self { bytes: plain.to_bytes(), statement, plain }
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// [`DecodeError`] unless it is a COSE_Sign1 with these headers and contents, encoded deterministically.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let plain = open_plain(labels::DEVICE_WIPE, bytes, DEVICE_LINE_BYTES_MAX)?;
        let statement = cbor::from_slice(&plain.payload, DEVICE_LINE_BYTES_MAX)?;
        Ok(Self { bytes: bytes.to_vec(), statement, plain })
    }

    /// As it travels.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The certificate that it names.
    pub fn device(&self) -> Fingerprint {
        self.plain.signer
    }

    /// The number of the revocation list that the device was shown.
    pub fn list(&self) -> u64 {
        self.statement.list
    }

    /// When the vault was gone, by the device's clock.
    pub fn wiped(&self) -> Timestamp {
        self.statement.wiped
    }

    /// Whether the holder of this certificate signed it.
    ///
    /// # Errors
    /// [`KeyError::Signature`] if it names another certificate, or the signature does not hold.
    pub fn verify(&self, certificate: &Certificate) -> Result<(), KeyError> {
        if certificate.fingerprint() != self.plain.signer {
            return Err(KeyError::Signature);
        }
        verify(certificate.public_key(), &self.plain.signed, &self.plain.signature)
    }
}
