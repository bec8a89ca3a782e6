//! Bytes to and from the signed shape: COSE_Sign1 (RFC 9052, section 4.2) and, for charters, COSE_Sign (section 4.1).
//!
//! Protected headers: `alg` (1) is EdDSA (-8); `x5t` (34, RFC 9360) is the SHA-256 fingerprint of the signer's certificate
//! (-16), or for a charter's signatures `kid` (4) is the authority's public key. Unprotected headers are empty, since whatever
//! is not under the signature could be changed on the way, and with it the record's id; but for the items of a receipt, whose
//! Merkle root is signed, and is computed again from them here.

use std::sync::Arc;

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use super::body::{Crl, Entry, Envelope, Head, Tombstone};
use super::receipt::{Batch, Leaves, Receipt, ReceiptItem};
use super::{Body, DecodeError, Header, Kind, Payload, VERSION};
use crate::charter::Charter;
use crate::limits::{AUTHORITIES_MAX, HANDSHAKE_RECORD_BYTES_MAX, RECORD_BYTES_MAX};
use crate::x509::SecretKey;
use crate::{Fingerprint, NetworkId, RecordId, Timestamp, TrustId, cbor, labels};

pub(super) const TAG_SIGN1: u8 = 18;
const TAG_SIGN: u8 = 98;

/// A record whose shape and bounds are right; nobody vouches for it yet.
#[derive(Clone, Debug)]
pub struct Decoded {
    id: RecordId,
    bytes: Arc<[u8]>,
    header: Header,
    body: Body,
    pub(super) signatures: Signatures,
}

/// Who claims to have signed.
#[derive(Clone, Debug)]
pub(super) enum Signatures {
    One { signer: Fingerprint, signature: [u8; 64], payload_len: usize },
    Many { lines: Vec<AuthoritySignature>, statement: RecordId },
}

#[derive(Clone, Debug)]
pub(super) struct AuthoritySignature {
    pub(super) key: [u8; 32],
    pub(super) signature: [u8; 64],
    pub(super) signed: Vec<u8>,
}

impl Decoded {
    /// Decodes a record and checks every bound that does not depend on who signed it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (payload, leaves, signatures) = match cbor::tag_of(bytes) {
            Some(TAG_SIGN1) => open_sign1(bytes)?,
            Some(TAG_SIGN) => {
                let (payload, signatures) = open_sign(bytes)?;
                (payload, None, signatures)
            }
            _ => return Err(DecodeError::Cose("the tag of COSE_Sign1 or COSE_Sign is needed")),
        };
        let payload = cbor::from_slice::<Statement>(&payload, HANDSHAKE_RECORD_BYTES_MAX)?.with(leaves)?;
        payload.check_bounds(bytes.len())?;
        if matches!(signatures, Signatures::Many { .. }) != (payload.body.kind() == Kind::Charter) {
            return Err(DecodeError::Cose("charters are COSE_Sign, and nothing else is"));
        }
        Ok(Self {
            id: RecordId::of(bytes),
            bytes: bytes.into(),
            header: payload.header(),
            body: payload.body,
            signatures,
        })
    }

    /// SHA-256 of the bytes.
    pub fn id(&self) -> RecordId {
        self.id
    }

    /// SHA-256 of what is signed. Of a charter the same whatever signatures it was given, so that collecting one more, or losing
    /// one on the way, does not make another charter of it: the network's id, and the name by which the next version follows.
    pub fn statement(&self) -> RecordId {
        match &self.signatures {
            Signatures::One { payload_len, .. } => RecordId::of(self.payload(*payload_len)),
            Signatures::Many { statement, .. } => *statement,
        }
    }

    /// The record as it travels.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Who keeps it, and for how long.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What it says.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// What the signer of a COSE_Sign1 signed.
    pub(super) fn signed(&self, signer: Fingerprint, payload_len: usize) -> Vec<u8> {
        let protected = cbor::to_vec(&Protected::Certificate(signer));
        sign1_structure(&protected, labels::RECORD, self.payload(payload_len))
    }

    /// The payload of a COSE_Sign1. It stands before the signature, which takes 2 + 64 bytes.
    fn payload(&self, payload_len: usize) -> &[u8] {
        let end = self.bytes.len() - 66;
        &self.bytes[end - payload_len..end]
    }

    /// Protected header, payload and signature of a COSE_Sign1.
    pub(super) fn sign1_parts(&self) -> Option<(ByteBuf, ByteBuf, ByteBuf)> {
        let Signatures::One { signer, signature, payload_len } = &self.signatures else { return None };
        let protected = cbor::to_vec(&Protected::Certificate(*signer));
        let payload = self.payload(*payload_len).to_vec();
        Some((ByteBuf::from(protected), ByteBuf::from(payload), ByteBuf::from(signature.to_vec())))
    }

    /// The certificate that it claims to be signed with; a charter has none.
    pub fn signer(&self) -> Option<Fingerprint> {
        match &self.signatures {
            Signatures::One { signer, .. } => Some(*signer),
            Signatures::Many { .. } => None,
        }
    }
}

/// Makes a record, signed with `key`, whose certificate has the fingerprint `certificate`.
/// Fails on what [`Decoded::from_bytes`] would refuse.
pub fn sign(
    header: Header,
    body: Body,
    certificate: Fingerprint,
    key: &SecretKey,
) -> Result<Decoded, DecodeError> {
    let protected = cbor::to_vec(&Protected::Certificate(certificate));
    let (body, leaves) = SignedBody::of(body);
    let payload = payload_of(header, body);
    let signature = key.sign(&sign1_structure(&protected, labels::RECORD, &payload));
    let sign1 =
        Sign1(protected.into(), Unprotected(leaves), payload.into(), ByteBuf::from(signature.to_vec()));
    Decoded::from_bytes(&cbor::to_vec_tagged(TAG_SIGN1, &sign1))
}

/// Makes a charter record with the signatures of `keys`, or adds them to those of `earlier`, the same charter with other
/// signatures. Fails on what [`Decoded::from_bytes`] would refuse, and if `earlier` is another charter.
pub fn sign_charter(
    header: Header,
    charter: Charter,
    keys: &[&SecretKey],
    earlier: Option<&Decoded>,
) -> Result<Decoded, DecodeError> {
    let payload = payload_of(header, SignedBody::Charter(charter));
    let mut lines: Vec<AuthoritySignature> = match earlier.map(|e| (&e.signatures, open_sign(&e.bytes))) {
        None => Vec::new(),
        Some((Signatures::Many { lines, .. }, Ok((same, _)))) if same == payload => lines.clone(),
        Some(_) => return Err(DecodeError::Cose("the earlier signatures are of another charter")),
    };
    for key in keys {
        let signed = sign_structure(&cbor::to_vec(&Protected::Authority(key.public())), &payload);
        lines.retain(|line| line.key != key.public());
        lines.push(AuthoritySignature { key: key.public(), signature: key.sign(&signed), signed });
    }
    lines.sort_by_key(|line| line.key);
    let line = |l: AuthoritySignature| {
        let protected = cbor::to_vec(&Protected::Authority(l.key));
        SignatureLine(protected.into(), Empty {}, ByteBuf::from(l.signature.to_vec()))
    };
    let lines = lines.into_iter().map(line).collect();
    let sign = Sign(cbor::to_vec(&Protected::Algorithm).into(), Empty {}, payload.into(), lines);
    Decoded::from_bytes(&cbor::to_vec_tagged(TAG_SIGN, &sign))
}

fn payload_of(header: Header, body: SignedBody) -> Vec<u8> {
    let Header { network, custodians, issued, expires } = header;
    cbor::to_vec(&Statement { version: VERSION, network, custodians, issued, expires, body })
}

/// The statement in the payload of a receipt, without its items.
pub(super) fn open_batch(payload: &[u8]) -> Result<(Header, Batch), DecodeError> {
    let Statement { version, network, custodians, issued, expires, body } =
        cbor::from_slice(payload, RECORD_BYTES_MAX)?;
    match body {
        _ if version != VERSION => Err(DecodeError::Version(version)),
        SignedBody::Receipt(batch) => Ok((Header { network, custodians, issued, expires }, batch)),
        _ => Err(DecodeError::Cose("a receipt is needed")),
    }
}

/// What is signed. Field order is wire format.
#[derive(Serialize, Deserialize)]
struct Statement {
    version: u8,
    network: Option<NetworkId>,
    custodians: Vec<TrustId>,
    issued: Timestamp,
    expires: Timestamp,
    body: SignedBody,
}

/// What is signed of a body: all of it, but of a receipt the root over its items. The order of the variants is that of [`Kind`].
#[derive(Serialize, Deserialize)]
enum SignedBody {
    Charter(Charter),
    Crl(Crl),
    Entry(Entry),
    Envelope(Envelope),
    Tombstone(Tombstone),
    Receipt(Batch),
    Head(Head),
}

impl SignedBody {
    /// What is signed, and what travels beside it.
    fn of(body: Body) -> (Self, Option<Leaves>) {
        let signed = match body {
            Body::Charter(charter) => SignedBody::Charter(charter),
            Body::Crl(crl) => SignedBody::Crl(crl),
            Body::Entry(entry) => SignedBody::Entry(entry),
            Body::Envelope(envelope) => SignedBody::Envelope(envelope),
            Body::Tombstone(tombstone) => SignedBody::Tombstone(tombstone),
            Body::Receipt(receipt) => {
                return (SignedBody::Receipt(receipt.batch()), Some(Leaves(receipt.items)));
            }
            Body::Head(head) => SignedBody::Head(head),
        };
        (signed, None)
    }

    fn with(self, leaves: Option<Vec<ReceiptItem>>) -> Result<Body, DecodeError> {
        let body = match (self, leaves) {
            (SignedBody::Receipt(batch), Some(items)) => {
                let receipt = Receipt { items };
                if receipt.batch() != batch {
                    return Err(DecodeError::Cose("the items of a receipt are not those that were signed"));
                }
                return Ok(Body::Receipt(receipt));
            }
            (_, Some(_)) => return Err(DecodeError::Cose("receipts alone have an unprotected header")),
            (SignedBody::Receipt(_), None) => return Err(DecodeError::Cose("a receipt without its items")),
            (SignedBody::Charter(charter), None) => Body::Charter(charter),
            (SignedBody::Crl(crl), None) => Body::Crl(crl),
            (SignedBody::Entry(entry), None) => Body::Entry(entry),
            (SignedBody::Envelope(envelope), None) => Body::Envelope(envelope),
            (SignedBody::Tombstone(tombstone), None) => Body::Tombstone(tombstone),
            (SignedBody::Head(head), None) => Body::Head(head),
        };
        Ok(body)
    }
}

impl Statement {
    fn with(self, leaves: Option<Vec<ReceiptItem>>) -> Result<Payload, DecodeError> {
        let Statement { version, network, custodians, issued, expires, body } = self;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        Ok(Payload { network, custodians, issued, expires, body: body.with(leaves)? })
    }
}

/// COSE_Sign1: protected, unprotected, payload, signature.
#[derive(Serialize, Deserialize)]
pub(super) struct Sign1<U>(pub(super) ByteBuf, pub(super) U, pub(super) ByteBuf, pub(super) ByteBuf);

/// A COSE_Sign1 that is no record: by a certificate's key, under a label of its own, with no unprotected header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    pub(super) signer: Fingerprint,
    pub(super) payload: Vec<u8>,
    pub(super) signature: [u8; 64],
    /// What the signature is over.
    pub(super) signed: Vec<u8>,
}

/// Makes one.
pub(super) fn sign_plain(label: &[u8], payload: Vec<u8>, signer: Fingerprint, key: &SecretKey) -> Plain {
    let signed = sign1_structure(&cbor::to_vec(&Protected::Certificate(signer)), label, &payload);
    Plain { signer, signature: key.sign(&signed), payload, signed }
}

/// Reads one. Whether the signature holds, the caller asks.
pub(super) fn open_plain(label: &[u8], bytes: &[u8], bytes_max: usize) -> Result<Plain, DecodeError> {
    let Sign1(protected, Empty {}, payload, signature) =
        cbor::from_slice_tagged(TAG_SIGN1, bytes, bytes_max)?;
    let (signer, signature) = (Protected::certificate_in(&protected)?, signature_of(&signature)?);
    let signed = sign1_structure(&protected, label, &payload);
    Ok(Plain { signer, payload: payload.into_vec(), signature, signed })
}

impl Plain {
    /// As it travels.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let protected = cbor::to_vec(&Protected::Certificate(self.signer));
        let [protected, payload, signature] =
            [&protected[..], &self.payload, &self.signature].map(ByteBuf::from);
        cbor::to_vec_tagged(TAG_SIGN1, &Sign1(protected, Empty {}, payload, signature))
    }
}

/// The unprotected header of a record: none, or of a receipt its items.
struct Unprotected(Option<Leaves>);

/// The items of a receipt, under a label for private use (RFC 9052, section 11.1: below -65536).
const LEAVES: i64 = -65537;

impl Serialize for Unprotected {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(usize::from(self.0.is_some())))?;
        if let Some(leaves) = &self.0 {
            map.serialize_entry(&LEAVES, leaves)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Unprotected {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneAtMost;
        impl<'de> Visitor<'de> for OneAtMost {
            type Value = Unprotected;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("no header, or the items of a receipt")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unprotected, A::Error> {
                let leaves = match map.next_key::<i64>()? {
                    None => return Ok(Unprotected(None)),
                    Some(LEAVES) => map.next_value()?,
                    Some(_) => return Err(A::Error::custom("an unknown header")),
                };
                match map.next_key::<i64>()? {
                    None => Ok(Unprotected(Some(leaves))),
                    Some(_) => Err(A::Error::custom("a header more")),
                }
            }
        }
        deserializer.deserialize_map(OneAtMost)
    }
}

/// COSE_Sign: protected, unprotected, payload, signatures.
#[derive(Serialize, Deserialize)]
struct Sign(ByteBuf, Empty, ByteBuf, Vec<SignatureLine>);

/// COSE_Signature: protected, unprotected, signature.
#[derive(Serialize, Deserialize)]
struct SignatureLine(ByteBuf, Empty, ByteBuf);

/// An empty map.
#[derive(Serialize, Deserialize)]
struct Empty {}

type OpenSign1 = (Vec<u8>, Option<Vec<ReceiptItem>>, Signatures);

fn open_sign1(bytes: &[u8]) -> Result<OpenSign1, DecodeError> {
    let Sign1(protected, Unprotected(leaves), payload, signature) =
        cbor::from_slice_tagged(TAG_SIGN1, bytes, HANDSHAKE_RECORD_BYTES_MAX)?;
    let signer = Protected::certificate_in(&protected)?;
    let (signature, payload_len) = (signature_of(&signature)?, payload.len());
    let leaves = leaves.map(|Leaves(items)| items);
    Ok((payload.into_vec(), leaves, Signatures::One { signer, signature, payload_len }))
}

fn open_sign(bytes: &[u8]) -> Result<(Vec<u8>, Signatures), DecodeError> {
    let Sign(protected, Empty {}, payload, lines) =
        cbor::from_slice_tagged(TAG_SIGN, bytes, HANDSHAKE_RECORD_BYTES_MAX)?;
    if *protected != cbor::to_vec(&Protected::Algorithm) {
        return Err(DecodeError::Cose("a charter's protected header names EdDSA alone"));
    }
    if lines.len() > 2 * AUTHORITIES_MAX {
        return Err(DecodeError::Cose("a charter has at most 64 signatures"));
    }
    let open = |SignatureLine(protected, Empty {}, signature): SignatureLine| {
        let key = Protected::authority_in(&protected)?;
        let signed = sign_structure(&protected, &payload);
        Ok(AuthoritySignature { key, signature: signature_of(&signature)?, signed })
    };
    let lines = lines.into_iter().map(open).collect::<Result<Vec<_>, DecodeError>>()?;
    if !lines.windows(2).all(|w| w[0].key < w[1].key) {
        return Err(DecodeError::Cose("a charter's signatures must be sorted by key, each once"));
    }
    let statement = RecordId::of(&payload);
    Ok((payload.into_vec(), Signatures::Many { lines, statement }))
}

pub(super) fn signature_of(bytes: &[u8]) -> Result<[u8; 64], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::Cose("an Ed25519 signature has 64 bytes"))
}

/// Sig_structure of COSE_Sign1 (RFC 9052, section 4.4).
pub(super) fn sign1_structure(protected: &[u8], label: &[u8], payload: &[u8]) -> Vec<u8> {
    cbor::to_vec(&("Signature1", Bytes::new(protected), Bytes::new(label), Bytes::new(payload)))
}

/// Sig_structure of COSE_Sign (RFC 9052, section 4.4) for the signer with this protected header.
fn sign_structure(signer: &[u8], payload: &[u8]) -> Vec<u8> {
    let body = cbor::to_vec(&Protected::Algorithm);
    let (body, signer) = (Bytes::new(&body), Bytes::new(signer));
    cbor::to_vec(&("Signature", body, signer, Bytes::new(labels::CHARTER), Bytes::new(payload)))
}

/// The protected headers that records have.
pub(super) enum Protected {
    Algorithm,
    Certificate(Fingerprint),
    Authority([u8; 32]),
}

impl Protected {
    /// The fingerprint in a header of the second form. Its variable part stands last, so whatever encodes back to the same
    /// bytes is of this form.
    pub(super) fn certificate_in(bytes: &[u8]) -> Result<Fingerprint, DecodeError> {
        let wrong =
            DecodeError::Cose("the protected header names EdDSA and the signer's certificate (x5t), no more");
        let fingerprint = Fingerprint::new(*bytes.last_chunk::<32>().ok_or(wrong.clone())?);
        if cbor::to_vec(&Protected::Certificate(fingerprint)) == bytes { Ok(fingerprint) } else { Err(wrong) }
    }

    fn authority_in(bytes: &[u8]) -> Result<[u8; 32], DecodeError> {
        let wrong =
            DecodeError::Cose("a charter's signature names EdDSA and the authority's key (kid), no more");
        let key = *bytes.last_chunk::<32>().ok_or(wrong.clone())?;
        if cbor::to_vec(&Protected::Authority(key)) == bytes { Ok(key) } else { Err(wrong) }
    }
}

impl Serialize for Protected {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const ALG: (i64, i64) = (1, -8);
        const KID: i64 = 4;
        const X5T: i64 = 34;
        const SHA256: i64 = -16;
        let mut map =
            serializer.serialize_map(Some(if matches!(self, Protected::Algorithm) { 1 } else { 2 }))?;
        map.serialize_entry(&ALG.0, &ALG.1)?;
        match self {
            Protected::Algorithm => {}
            Protected::Certificate(fingerprint) => {
                map.serialize_entry(&X5T, &(SHA256, Bytes::new(fingerprint.as_bytes())))?;
            }
            Protected::Authority(key) => map.serialize_entry(&KID, Bytes::new(key))?,
        }
        map.end()
    }
}
