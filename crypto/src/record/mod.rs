//! The one signed shape: COSE_Sign1 (RFC 9052) with EdDSA over a deterministic CBOR map with small integer keys; a
//! charter, which several authorities sign, is a COSE_Sign. `docs/reference/records.cddl` is the grammar.
//!
//! A record moves through stages of trust, each a type that only its verifier makes:
//! bytes -> [`Decoded`] (shape and bounds) -> [`Verified`] (signatures, chains, the signer's right to the kind). What comes
//! after, `Admitted`, is the engine's: charter, custody, expiry and tombstones at the moment of acceptance.
//!
//! Every kind shares one [`Header`]: who keeps the record, when it was issued, and when every replica drops it without
//! being told.

mod body;
mod cose;
mod line;
mod proof;
mod receipt;
mod seal;
mod verify;
mod wiped;

#[cfg(test)]
pub(crate) mod tests;

pub use body::{Body, Class, Crl, Entry, Envelope, Head, Kind, Reason, Submission, Target, Tombstone};
pub use cose::{Decoded, sign, sign_charter};
pub use line::DeviceLine;
pub use proof::{ProofError, Proven, check_proof, prove};
pub use receipt::{DeviceErased, Erased, Expired, Held, Receipt, ReceiptItem, Waiting, WaitingDevice};
pub use seal::{SealError, Sealed, check_seal, seal};
pub use verify::{Signer, Verified, VerifyError, open_trusted, verify, verify_accepted, verify_all};
pub use wiped::WipeReceipt;

use crate::cbor::CborError;
use crate::limits::{self, CUSTODIANS_MAX, LIFE_SECS_MAX};
use crate::{NetworkId, Timestamp, TrustId};

/// The version of the record format that this code writes and reads.
pub const VERSION: u8 = 1;

/// What every record states, whatever its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The network; absent only in the first charter, whose id it is.
    pub network: Option<NetworkId>,
    /// Who keeps the record, sorted; empty means every member.
    pub custodians: Vec<TrustId>,
    /// When it was made.
    pub issued: Timestamp,
    /// When every replica drops it.
    pub expires: Timestamp,
}

/// What a record states, and its body.
struct Payload {
    network: Option<NetworkId>,
    custodians: Vec<TrustId>,
    issued: Timestamp,
    expires: Timestamp,
    body: Body,
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the encoding, or too long for its kind.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// Neither COSE_Sign1 nor COSE_Sign, or with headers that ours do not have.
    #[error("not a record: {0}")]
    Cose(&'static str),
    /// A version that this program does not know.
    #[error("record format version {0}; this program knows version {VERSION}: upgrade it")]
    Version(u8),
    /// A field outside its bounds.
    #[error("{0}")]
    Bounds(&'static str),
}

impl Payload {
    fn header(&self) -> Header {
        Header {
            network: self.network,
            custodians: self.custodians.clone(),
            issued: self.issued,
            expires: self.expires,
        }
    }

    /// Bounds that hold for a record whoever signed it. `len` is the length of the whole record in bytes.
    fn check_bounds(&self, len: usize) -> Result<(), DecodeError> {
        let max = bytes_max(&self.body);
        if len > max {
            return Err(CborError::TooLong { actual: len, max }.into());
        }
        if self.custodians.len() > CUSTODIANS_MAX || !self.custodians.windows(2).all(|w| w[0] < w[1]) {
            return Err(DecodeError::Bounds("custodians must be at most 64, sorted, each once"));
        }
        if self.expires <= self.issued || self.expires > self.issued.plus_secs(LIFE_SECS_MAX) {
            return Err(DecodeError::Bounds(
                "a record must expire after it was issued, and within ten years",
            ));
        }
        let spread = matches!(self.body.kind(), Kind::Charter | Kind::Crl | Kind::Entry | Kind::Head);
        if spread != self.custodians.is_empty() {
            return Err(DecodeError::Bounds(
                "charters, CRLs, entries and heads are for all; envelopes, tombstones and receipts name custodians",
            ));
        }
        let first_charter = matches!(&self.body, Body::Charter(c) if c.version == 1);
        if first_charter != self.network.is_none() {
            return Err(DecodeError::Bounds("a record names its network, unless it is the first charter"));
        }
        check_body(&self.body)
    }
}

/// The largest record with such a body, in bytes.
fn bytes_max(body: &Body) -> usize {
    match body {
        Body::Charter(_) => limits::CHARTER_BYTES_MAX,
        Body::Envelope(e) if e.class != Class::Application => limits::HANDSHAKE_RECORD_BYTES_MAX,
        Body::Crl(_)
        | Body::Entry(_)
        | Body::Envelope(_)
        | Body::Tombstone(_)
        | Body::Receipt(_)
        | Body::Head(_) => limits::RECORD_BYTES_MAX,
    }
}

fn check_body(body: &Body) -> Result<(), DecodeError> {
    let within = |fits: bool, what| if fits { Ok(()) } else { Err(DecodeError::Bounds(what)) };
    match body {
        Body::Charter(_) | Body::Crl(_) => Ok(()),
        Body::Entry(e) => {
            let chain = e.chain.iter().map(|c| c.len()).sum::<usize>();
            within(e.chain.len() == 2, "an entry holds two certificates: the holder's and the registrar's")?;
            within(chain <= limits::CHAIN_BYTES_MAX, "an entry's chain is at most 8 KiB")?;
            let package = e.key_package.as_ref().map_or(0, |k| k.len());
            within(package <= limits::KEY_PACKAGE_BYTES_MAX, "a key package is at most 16 KiB")?;
            within(e.addresses.len() <= 8, "a node has at most 8 addresses")?;
            within(e.addresses.iter().all(|a| a.len() <= 256), "an address is at most 256 bytes")
        }
        Body::Envelope(e) => within(!e.content.is_empty(), "an envelope holds an MLS message"),
        Body::Tombstone(t) => {
            within(t.reference.len() <= 64, "a tombstone's reference is at most 64 bytes")?;
            match &t.target {
                Target::UpTo(_) => Ok(()),
                Target::Standing(_, secs) => within(
                    (1..=limits::RETENTION_SECS_MAX).contains(secs),
                    "a standing order lets messages live for a second at least, and no longer than any charter",
                ),
                Target::Envelopes(ids) => within(
                    (1..=limits::TOMBSTONE_TARGETS_MAX).contains(&ids.len())
                        && ids.windows(2).all(|w| w[0] < w[1]),
                    "a tombstone names 1 to 1024 envelopes, sorted, each once",
                ),
            }
        }
        Body::Receipt(r) => r.check_bounds(),
        Body::Head(h) => within(
            h.number >= 1 && h.dropped <= h.number,
            "a head is of a row, and no row after it was dropped",
        ),
    }
}
