//! A device's line: its own signature that it has erased its plaintext for a tombstone.
//!
//! COSE_Sign1 (RFC 9052) with EdDSA, the device's certificate by `x5t` as in a record, and a label of its own. It holds no
//! content: the network, the tombstone, and when. It proves that the device's program attested it, no more.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::DecodeError;
use super::cose::{Empty, Protected, Sign1, TAG_SIGN1, sign1_structure, signature_of};
use crate::limits::DEVICE_LINE_BYTES_MAX;
use crate::x509::{Certificate, KeyError, SecretKey, verify};
use crate::{Fingerprint, NetworkId, RecordId, Timestamp, cbor, labels};

/// A line whose shape is right. Whether the device signed it, [`DeviceLine::verify`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceLine {
    bytes: Vec<u8>,
    signer: Fingerprint,
    statement: Statement,
    payload: Vec<u8>,
    signature: [u8; 64],
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
        let (protected, payload) =
            (cbor::to_vec(&Protected::Certificate(certificate)), cbor::to_vec(&statement));
        let signature = key.sign(&sign1_structure(&protected, labels::DEVICE_LINE, &payload));
        let sign1 = Sign1(
            ByteBuf::from(protected),
            Empty {},
            ByteBuf::from(payload.clone()),
            ByteBuf::from(signature.to_vec()),
        );
        let bytes = cbor::to_vec_tagged(TAG_SIGN1, &sign1);
        Self { bytes, signer: certificate, statement, payload, signature }
    }

    /// Reads a line.
    ///
    /// # Errors
    /// [`DecodeError`] unless it is a COSE_Sign1 with these headers and contents, encoded deterministically.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let Sign1(protected, Empty {}, payload, signature) =
            cbor::from_slice_tagged(TAG_SIGN1, bytes, DEVICE_LINE_BYTES_MAX)?;
        Ok(Self {
            bytes: bytes.to_vec(),
            signer: Protected::certificate_in(&protected)?,
            statement: cbor::from_slice(&payload, DEVICE_LINE_BYTES_MAX)?,
            payload: payload.into_vec(),
            signature: signature_of(&signature)?,
        })
    }

    /// As it travels.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The certificate that it names.
    pub fn signer(&self) -> Fingerprint {
        self.signer
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
        if certificate.fingerprint() != self.signer {
            return Err(KeyError::Signature);
        }
        let protected = cbor::to_vec(&Protected::Certificate(self.signer));
        let signed = sign1_structure(&protected, labels::DEVICE_LINE, &self.payload);
        verify(certificate.public_key(), &signed, &self.signature)
    }
}
