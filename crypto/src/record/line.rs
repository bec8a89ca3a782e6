//! A device's line: its own signature that it has erased its plaintext for a tombstone.
//!
//! COSE_Sign1 (RFC 9052) with EdDSA, the device's certificate by `x5t` as in a record, and a label of its own. It holds no
//! content: the network, the tombstone, and when. It proves that the device's program attested it, no more.

use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::cose::{Plain, open_plain, sign_plain};
use crate::limits::DEVICE_LINE_BYTES_MAX;
use crate::x509::{Certificate, KeyError, SecretKey, verify};
use crate::{Fingerprint, NetworkId, RecordId, Timestamp, cbor, labels};

/// A line whose shape is right. Whether the device signed it, [`DeviceLine::verify`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceLine {
    bytes: Vec<u8>,
    statement: Statement,
    plain: Plain,
}

/// What the device signs. Field order is wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Statement {
    network: NetworkId,
    tombstone: RecordId,
    erased: Timestamp,
}

impl DeviceLine {
    /// Signs that the device with this certificate has erased what it had for the tombstone, at this moment.
    pub fn sign(
        network: NetworkId,
        tombstone: RecordId,
        erased: Timestamp,
        certificate: Fingerprint,
        key: &SecretKey,
    ) -> Self {
        let statement = Statement { network, tombstone, erased };
        let plain = sign_plain(labels::DEVICE_LINE, cbor::to_vec(&statement), certificate, key);
        Self { bytes: plain.to_bytes(), statement, plain }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// [`DecodeError`] unless it is a COSE_Sign1 with these headers and contents, encoded deterministically.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let plain = open_plain(labels::DEVICE_LINE, bytes, DEVICE_LINE_BYTES_MAX)?;
        let statement = cbor::from_slice(&plain.payload, DEVICE_LINE_BYTES_MAX)?;
        Ok(Self { bytes: bytes.to_vec(), statement, plain })
    }

    /// As it travels.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The certificate that it names.
    pub fn signer(&self) -> Fingerprint {
        self.plain.signer
    }

    /// The network.
    pub fn network(&self) -> NetworkId {
        self.statement.network
    }

    /// The tombstone.
    pub fn tombstone(&self) -> RecordId {
        self.statement.tombstone
    }

    /// When the plaintext was gone, by the device's clock.
    pub fn erased(&self) -> Timestamp {
        self.statement.erased
    }

    /// Whether the holder of this certificate signed it. Whether the certificate means anything is for the caller to know.
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
