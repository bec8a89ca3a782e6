//! What two admitted nodes say to each other on their streams. Variant and field order are wire format; each frame
//! is deterministic CBOR of at most [`FRAME_BYTES_MAX`] bytes.
//!
//! Anti-entropy, whose frames these mostly are, is told in `docs/internals/anti-entropy.md`. A question carries a number that its answer
//! repeats; nothing else is remembered of a frame by who answers it.

use lanyard_crypto::RecordId;
use lanyard_crypto::cbor::{self, CborError};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

pub use crate::digest::Root;
use crate::holding::LAYERS;
use crate::limits::{
    FRAME_BYTES_MAX, FRAME_IDS_MAX, FRAME_RECORDS_MAX, LIST_IDS_MAX, RANGES_MAX, SHORT_BYTES,
    SKETCH_BYTES_MAX, SYMBOL_BYTES_MAX, SYMBOLS_MAX, WANT_IDS_MAX,
};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// Records, to be acknowledged once they are on the receiver's disk.
    Records(#[serde(deserialize_with = "cbor::at_most::<_, _, FRAME_RECORDS_MAX>")] Vec<ByteBuf>),
    /// What became of records that were received.
    Answers {
        /// On disk here, now or before.
        stored: Vec<RecordId>,
        /// Not accepted, for good.
        refused: Vec<Refused>,
    },
    /// Begins a round: the digest of what the sender holds that both should hold, for each layer.
    Roots(Vec<Root>),
    /// Where a layer may differ. Answers [`Frame::Roots`] for each layer that does.
    Ranges(Ranges),
    /// Asks for coded symbols of a span.
    Ask(Ask),
    /// Answers [`Frame::Ask`], and [`Frame::List`] if the span is to be divided.
    Symbols(Symbols),
    /// All ids that the sender holds in a small span; asks for the others.
    List(List),
    /// Ids that the sender holds and the receiver may lack. Answers [`Frame::List`], or stands alone.
    Offer(Offer),
    /// Asks for records.
    Want(Want),
    /// Asks for all records of a span, newest first.
    Fetch(Fetch),
    /// Ends the records that answer [`Frame::Want`] or [`Frame::Fetch`].
    Done(Done),
    /// Answers a question of this number: not now, ask again in a second.
    Wait(u64),
    /// Asks for [`Frame::Roots`].
    Begin,
}

/// A record that the receiver does not accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    pub id: RecordId,
    /// The stable word of [`crate::verdict::Ruling::code`].
    pub code: String,
}

/// Records of one layer that were issued in some hours; within one hour, perhaps only some of them, by their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Which layer of [`crate::holding::Holding::layer`].
    pub layer: u8,
    /// The first bucket: hours since 1970.
    pub from: u64,
    /// The first bucket that is not meant any more.
    pub until: u64,
    /// The lowest first 8 bytes of an id, as a number; 0 unless there is one bucket.
    pub low: u64,
    /// The highest first 8 bytes of an id; the highest number unless there is one bucket.
    pub high: u64,
}

/// Sums over what the sender holds of a layer that both should hold, newest first, without gaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// Which layer.
    pub layer: u8,
    /// The digest of the whole layer, if that is spoken of.
    pub root: Option<Root>,
    /// The first bucket that is not spoken of any more.
    pub until: u64,
    /// Each from its first bucket up to the one before it.
    pub ranges: Vec<Range>,
}

/// First bucket, number of records, and sum of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range(pub u64, pub u64, #[serde(with = "serde_bytes")] pub [u8; 16]);

/// What the sender knows of a span whose symbols it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Of the question.
    pub number: u64,
    /// Which records.
    pub span: Span,
    /// Under which symbols and sketch are made.
    #[serde(with = "serde_bytes")]
    pub salt: [u8; 16],
    /// At least so many symbols: half as many again as were too few before.
    pub least: u32,
    /// The sender's sketch: numbers as in [`Symbols::cells`].
    pub sketch: ByteBuf,
}

/// Coded symbols of a span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symbols {
    /// Of the question.
    pub number: u64,
    /// How many records differ, by the sketches.
    pub estimate: u64,
    /// The sum of the span as in [`Range`], if it is of whole buckets.
    pub sum: Option<ByteBuf>,
    /// Each 16 bytes of ids, 8 of check values, and a count of 1 to 9 bytes. None at all: the span is to be divided.
    pub cells: ByteBuf,
}

/// See [`Frame::List`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// Of the question.
    pub number: u64,
    /// Which records.
    pub span: Span,
    /// All of the sender's.
    pub ids: Vec<RecordId>,
}

/// See [`Frame::Offer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Of the list that it answers; 0 for none.
    pub number: u64,
    /// Where these records are.
    pub span: Span,
    /// Whole ids if it answers a list, otherwise the first 16 bytes of each.
    pub ids: ByteBuf,
}

/// See [`Frame::Want`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Of the question.
    pub number: u64,
    /// The first 16 bytes of each id.
    pub ids: ByteBuf,
}

/// See [`Frame::Fetch`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// Of the question.
    pub number: u64,
    /// Which records.
    pub span: Span,
    /// What [`Done::next`] said; none to begin.
    pub before: Option<ByteBuf>,
}

/// See [`Frame::Done`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Of the question.
    pub number: u64,
    /// Where a fetch goes on; none at its end.
    pub next: Option<ByteBuf>,
}

impl Want {
    /// Asks for these.
    pub fn of(number: u64, ids: &[RecordId]) -> Self {
        let ids: Vec<u8> = ids.iter().flat_map(|id| &id.as_bytes()[..SHORT_BYTES]).copied().collect();
        Self { number, ids: ByteBuf::from(ids) }
    }
}

impl Frame {
    /// The bytes to send.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Reads a frame; refuses one beyond its bounds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CborError> {
        let frame: Frame = cbor::from_slice(bytes, FRAME_BYTES_MAX)?;
        let shorts = |ids: &ByteBuf| ids.len().div_ceil(SHORT_BYTES);
        let (actual, max) = match &frame {
            Frame::Records(records) => (records.len(), FRAME_RECORDS_MAX),
            Frame::Answers { stored, refused } => (stored.len() + refused.len(), FRAME_IDS_MAX),
            Frame::Roots(roots) => (roots.len(), LAYERS.len()),
            Frame::Ranges(ranges) => (ranges.ranges.len(), RANGES_MAX),
            Frame::Ask(ask) => (ask.sketch.len(), SKETCH_BYTES_MAX),
            Frame::Symbols(symbols) => (symbols.cells.len(), SYMBOLS_MAX * SYMBOL_BYTES_MAX),
            Frame::List(list) => (list.ids.len(), LIST_IDS_MAX),
            Frame::Offer(offer) => (shorts(&offer.ids), FRAME_IDS_MAX),
            Frame::Want(want) => (shorts(&want.ids), WANT_IDS_MAX),
            Frame::Fetch(Fetch { before: place, .. }) | Frame::Done(Done { next: place, .. }) => {
                (place.as_ref().map_or(0, |p| p.len()), 40)
            }
            Frame::Wait(_) | Frame::Begin => (0, 0),
        };
        if actual > max { Err(CborError::TooLong { actual, max }) } else { Ok(frame) }
    }

    /// Which kind of frame it is, in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Frame::Records(_) => "records",
            Frame::Answers { .. } => "answers",
            Frame::Roots(_) => "roots",
            Frame::Ranges(_) => "ranges",
            Frame::Ask(_) => "ask",
            Frame::Symbols(_) => "symbols",
            Frame::List(_) => "list",
            Frame::Offer(_) => "offer",
            Frame::Want(_) => "want",
            Frame::Fetch(_) => "fetch",
            Frame::Done(_) => "done",
            Frame::Wait(_) => "wait",
            Frame::Begin => "begin",
        }
    }

    /// How many bytes it holds, about.
    pub fn weight(&self) -> usize {
        64 + match self {
            Frame::Records(records) => records.iter().map(|r| r.len()).sum(),
            Frame::Answers { stored, refused } => 34 * stored.len() + 64 * refused.len(),
            Frame::Roots(roots) => 48 * roots.len(),
            Frame::Ranges(ranges) => 32 * ranges.ranges.len(),
            Frame::Ask(ask) => ask.sketch.len(),
            Frame::Symbols(symbols) => symbols.cells.len(),
            Frame::List(list) => 34 * list.ids.len(),
            Frame::Offer(Offer { ids, .. }) | Frame::Want(Want { ids, .. }) => ids.len(),
            Frame::Fetch(_) | Frame::Done(_) | Frame::Wait(_) | Frame::Begin => 64,
        }
    }
}
