//! What two admitted nodes say to each other on their streams. Variant and field order are wire format; each frame
//! is deterministic CBOR of at most [`FRAME_BYTES_MAX`] bytes.

use lanyard_crypto::RecordId;
use lanyard_crypto::cbor::{self, CborError};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::limits::{FRAME_BYTES_MAX, FRAME_IDS_MAX, FRAME_RECORDS_MAX, SUMMARY_BUCKETS_MAX};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// Records, to be acknowledged once they are on the receiver's disk.
    Records(Vec<ByteBuf>),
    /// What became of records that were received.
    Answers {
        /// On disk here, now or before.
        stored: Vec<RecordId>,
        /// Not accepted, for good.
        refused: Vec<Refused>,
    },
    /// Anti-entropy, first step: what the sender holds that both should hold, by time bucket.
    Summary(Summary),
    /// Second step, for a bucket that differs: all ids in it.
    Bucket(Bucket),
    /// Third step: what the sender lacks.
    Want(Vec<RecordId>),
}

/// A record that the receiver does not accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    pub id: RecordId,
    /// The stable word of [`crate::verdict::Ruling::code`].
    pub code: String,
}

/// Digests of the buckets of one layer, from `from` up to and without `until`. A bucket that is not listed is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Which layer of [`crate::holding::Holding::layer`].
    pub layer: u8,
    /// The first bucket that is spoken of.
    pub from: u64,
    /// The first bucket that is not spoken of any more.
    pub until: u64,
    /// Sorted by bucket.
    pub buckets: Vec<BucketDigest>,
}

/// SHA-256 over the sorted ids in a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketDigest {
    /// Hours since 1970 of the records' issue.
    pub bucket: u64,
    /// The digest.
    pub digest: RecordId,
}

/// The ids in one bucket above `after` (if given) and up to `until` (if given), sorted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Which layer.
    pub layer: u8,
    /// Hours since 1970 of the records' issue.
    pub bucket: u64,
    /// Speaks of ids above this one.
    pub after: Option<RecordId>,
    /// Speaks of ids up to this one.
    pub until: Option<RecordId>,
    /// What the sender holds.
    pub ids: Vec<RecordId>,
}

impl Frame {
    /// The bytes to send.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Reads a frame; refuses one beyond its bounds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CborError> {
        let frame: Frame = cbor::from_slice(bytes, FRAME_BYTES_MAX)?;
        let (actual, max) = match &frame {
            Frame::Records(records) => (records.len(), FRAME_RECORDS_MAX),
            Frame::Answers { stored, refused } => (stored.len() + refused.len(), FRAME_IDS_MAX),
            Frame::Summary(summary) => (summary.buckets.len(), SUMMARY_BUCKETS_MAX),
            Frame::Bucket(bucket) => (bucket.ids.len(), FRAME_IDS_MAX),
            Frame::Want(ids) => (ids.len(), FRAME_IDS_MAX),
        };
        if actual > max { Err(CborError::TooLong { actual, max }) } else { Ok(frame) }
    }
}
