//! A node's seal on a report of deletions: its signature over the report as a whole, so that no line can be changed, taken out
//! or put elsewhere.
//!
//! COSE_Sign1 (RFC 9052) with EdDSA, the node's certificate by `x5t` as in a record, and a label of its own, over the network, the SHA-256
//! of what it seals, and when.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::cose::{Empty, Protected, Sign1, TAG_SIGN1, sign1_structure, signature_of};
use super::verify::verify_node_signature;
use super::{DecodeError, Signer, VerifyError};
use crate::network::Network;
use crate::x509::SecretKey;
use crate::{Fingerprint, NetworkId, RecordId, Timestamp, cbor, labels};

/// A seal in bytes; it takes about 210.
const SEAL_BYTES_MAX: usize = 512;

/// A seal that holds.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// Whose it is.
    pub signer: Signer,
    /// When it was set.
    pub at: Timestamp,
}

/// What a node signs. Field order is wire format.
#[derive(Serialize, Deserialize)]
struct Statement {
    network: NetworkId,
    digest: RecordId,
    at: Timestamp,
}

/// Why a seal says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Not of the shape.
    #[error(transparent)]
    Shape(#[from] DecodeError),
    /// Of something else.
    #[error("the seal is on something else")]
    OtherContent,
    /// Nobody vouches for it.
    #[error(transparent)]
    Unverified(#[from] VerifyError),
}

/// Seals what has this SHA-256.
pub fn seal(
    network: NetworkId,
    digest: [u8; 32],
    at: Timestamp,
    certificate: Fingerprint,
    key: &SecretKey,
) -> Vec<u8> {
    let protected = cbor::to_vec(&Protected::Certificate(certificate));
    let payload = cbor::to_vec(&Statement { network, digest: RecordId::new(digest), at });
    let signature = key.sign(&sign1_structure(&protected, labels::REPORT, &payload));
    let sign1 =
        Sign1(ByteBuf::from(protected), Empty {}, ByteBuf::from(payload), ByteBuf::from(signature.to_vec()));
    cbor::to_vec_tagged(TAG_SIGN1, &sign1)
}

/// Checks a seal on what has this SHA-256.
///
/// # Errors
/// [`SealError`] tells what does not hold.
pub fn check_seal(seal: &[u8], digest: [u8; 32], network: &Network) -> Result<Sealed, SealError> {
    let Sign1(protected, Empty {}, payload, signature) =
        cbor::from_slice_tagged(TAG_SIGN1, seal, SEAL_BYTES_MAX).map_err(DecodeError::from)?;
    let Statement { network: of, digest: sealed, at } =
        cbor::from_slice(&payload, SEAL_BYTES_MAX).map_err(DecodeError::from)?;
    if sealed != RecordId::new(digest) {
        return Err(SealError::OtherContent);
    }
    let certificate = Protected::certificate_in(&protected)?;
    let signature = signature_of(&signature)?;
    let signed = sign1_structure(&protected, labels::REPORT, &payload);
    let signer = verify_node_signature(network, (Some(of), at), &certificate, &signature, signed)?;
    Ok(Sealed { signer, at })
}
