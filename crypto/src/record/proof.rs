//! One item of a receipt, shown without the rest: an inclusion proof (RFC 9162, section 2.1.3).
//!
//! It is the receipt's COSE_Sign1 with the items in its unprotected header replaced by the path from one leaf to the signed
//! root, under the header and in the encoding of COSE Receipts (RFC 9942: `vdp`, 396, inclusion proofs, -1). Unlike those, the
//! payload is the receipt's own statement, which holds the root, and no protected header names the tree's algorithm: the format of
//! receipts fixes it.

use std::collections::BTreeMap;

use ct_merkle::{InclusionProof, RootHash};
use serde_bytes::ByteBuf;
use sha2::Sha256;

use super::cose::{self, Sign1, TAG_SIGN1};
use super::receipt::InclusionPath;
use super::verify::verify_node_signature;
use super::{Body, DecodeError, Decoded, Header, ReceiptItem, Signer, VerifyError};
use crate::limits::{PROOF_BYTES_MAX, RECEIPT_ITEMS_MAX};
use crate::network::Network;
use crate::{Fingerprint, cbor};

/// `vdp`, verifiable data structure proofs (RFC 9942, section 7).
const PROOFS: i64 = 396;
/// Inclusion proofs, among them.
const INCLUSION: i64 = -1;

pub(super) type Proofs = BTreeMap<i64, BTreeMap<i64, Vec<ByteBuf>>>;

/// Why a proof shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not of the shape.
    #[error(transparent)]
    Shape(#[from] DecodeError),
    /// Of another item, or of none.
    #[error("the item is not in the receipt that was signed")]
    NotIncluded,
    /// Nobody vouches for the receipt.
    #[error(transparent)]
    Unverified(#[from] VerifyError),
}

/// What a proof showed: who signed the receipt, and when it was issued.
#[derive(Clone, Debug)]
pub struct Proven {
    /// Who vouches for it.
    pub signer: Signer,
    /// By which certificate.
    pub certificate: Fingerprint,
    /// The receipt's header.
    pub header: Header,
}

/// The proof that a receipt attests this item; none if it does not, or is no receipt.
pub fn prove(receipt: &Decoded, item: &ReceiptItem) -> Option<Vec<u8>> {
    let Body::Receipt(body) = receipt.body() else { return None };
    let index = body.items.iter().position(|i| i == item)?;
    let tree = body.tree();
    let path = tree.prove_inclusion(index);
    let hashes = path.as_bytes().chunks(32).map(|hash| ByteBuf::from(hash.to_vec())).collect();
    let path = cbor::to_vec(&InclusionPath(tree.len(), index as u64, hashes));
    let proofs: Proofs = [(PROOFS, [(INCLUSION, vec![ByteBuf::from(path)])].into())].into();
    let (protected, payload, signature) = receipt.sign1_parts()?;
    Some(cbor::to_vec_tagged(TAG_SIGN1, &Sign1(protected, proofs, payload, signature)))
}

/// Checks a proof against what a network holds to be true: the path, the signature, and that a member's node made it.
///
/// # Errors
/// [`ProofError`] tells which of them does not hold.
pub fn check_proof(proof: &[u8], item: &ReceiptItem, network: &Network) -> Result<Proven, ProofError> {
    let Sign1(protected, proofs, payload, signature) =
        cbor::from_slice_tagged::<Sign1<Proofs>>(TAG_SIGN1, proof, PROOF_BYTES_MAX)
            .map_err(DecodeError::from)?;
    let (header, batch) = cose::open_batch(&payload)?;
    let path = proofs.get(&PROOFS).and_then(|p| p.get(&INCLUSION)).map(Vec::as_slice);
    let kinds = proofs.values().map(BTreeMap::len).sum::<usize>();
    let (1, 1, Some([path])) = (proofs.len(), kinds, path) else {
        return Err(DecodeError::Cose("one inclusion proof is needed, and no other header").into());
    };
    let InclusionPath(size, index, hashes) =
        cbor::from_slice(path, PROOF_BYTES_MAX).map_err(DecodeError::from)?;
    if size != batch.size || size > RECEIPT_ITEMS_MAX as u64 || hashes.iter().any(|h| h.len() != 32) {
        return Err(ProofError::NotIncluded);
    }
    let root = RootHash::<Sha256>::new((*batch.root.as_bytes()).into(), size);
    let hashes = InclusionProof::try_from_bytes(hashes.into_iter().flatten().collect())
        .map_err(|_| ProofError::NotIncluded)?;
    root.verify_inclusion(&item.leaf(), index, &hashes).map_err(|_| ProofError::NotIncluded)?;
    let certificate = cose::Protected::certificate_in(&protected)?;
    let signature = cose::signature_of(&signature)?;
    let signed = cose::sign1_structure(&protected, crate::labels::RECORD, &payload);
    let signer =
        verify_node_signature(network, (header.network, header.issued), &certificate, &signature, signed)?;
    Ok(Proven { signer, certificate, header })
}
