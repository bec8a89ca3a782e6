//! A node's seal on a report of deletions: its signature over the report as a whole, so that no line can be changed, taken out
//! or put elsewhere.
//!
//! COSE_Sign1 (RFC 9052) with EdDSA, the node's certificate by `x5t` as in a record, and a label of its own, over the network, the SHA-256
//! of what it seals, and when.

use serde::{Deserialize, Serialize};

use super::cose::{Plain, open_plain, sign_plain};
use super::verify::verify_node_signature;
use super::{DecodeError, Signer, VerifyError};
use crate::network::Network;
use crate::x509::SecretKey;
use crate::{Fingerprint, NetworkId, RecordId, Timestamp, cbor, labels};

/// A seal in bytes; it takes 191.
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
    let payload = cbor::to_vec(&Statement { network, digest: RecordId::new(digest), at });
    sign_plain(labels::REPORT, payload, certificate, key).to_bytes()
}

/// Checks a seal on what has this SHA-256.
///
/// # Errors
/// [`SealError`] tells what does not hold.
pub fn check_seal(seal: &[u8], digest: [u8; 32], network: &Network) -> Result<Sealed, SealError> {
    let Plain { signer, payload, signature, signed } = open_plain(labels::REPORT, seal, SEAL_BYTES_MAX)?;
    let Statement { network: of, digest: sealed, at } =
        cbor::from_slice(&payload, SEAL_BYTES_MAX).map_err(DecodeError::from)?;
    if sealed != RecordId::new(digest) {
        return Err(SealError::OtherContent);
    }
    let signer = verify_node_signature(network, (Some(of), at), &signer, &signature, signed)?;
    Ok(Sealed { signer, at })
}
