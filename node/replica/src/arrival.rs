//! What is done with records before a step: decoding, looking at signatures, and hashing to the curve, on any thread. Pure, so that whoever drives the
//! engine does it alike.

use lanyard_crypto::RecordId;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{self, Decoded, Kind, Verified};

use crate::digest::Element;
use crate::input::Arrival;
use crate::verdict::Refusal;

/// A record that somebody who may vouches for, with what stands for it in the digests.
#[derive(Clone, Debug)]
pub struct Vouched {
    record: Verified,
    element: Element,
}

impl Vouched {
    /// The record.
    pub fn record(&self) -> &Verified {
        &self.record
    }

    pub(crate) fn into_parts(self) -> (Verified, Element) {
        (self.record, self.element)
    }
}

impl From<Verified> for Vouched {
    fn from(record: Verified) -> Self {
        let element = Element::of(&record.id());
        Self { record, element }
    }
}

impl From<Verified> for Arrival {
    fn from(record: Verified) -> Self {
        Self::Verified(Box::new(record.into()))
    }
}

/// A record that came, or its refusal.
pub type Looked = Result<Decoded, Arrival>;

/// Decodes a record.
///
/// # Errors
/// Its refusal: these bytes are no record.
pub fn decode(bytes: &[u8]) -> Looked {
    let refused =
        |why| Arrival::Refused { id: RecordId::of(bytes), why: Refusal::Malformed(why), len: bytes.len() };
    Decoded::from_bytes(bytes).map_err(refused)
}

/// Decodes records that came together. The first are those that decide whom to believe: once the engine has taken them, the
/// others are verified by what they say.
pub fn sort<B: AsRef<[u8]>>(records: impl IntoIterator<Item = B>) -> [Vec<Looked>; 2] {
    let decides = |kind| matches!(kind, Kind::Charter | Kind::Crl | Kind::Entry);
    let looked = records.into_iter().map(|bytes| decode(bytes.as_ref()));
    let (deciding, others) = looked.partition(|r| r.as_ref().is_ok_and(|r| decides(r.body().kind())));
    [deciding, others]
}

/// As [`verify`], but for those of which `is_held` says that the replica holds them, and which come first: a record is verified once, however
/// many ways it arrives.
pub fn verify_new(
    records: Vec<Looked>,
    network: &Network,
    is_held: impl Fn(&RecordId) -> bool,
) -> Vec<Arrival> {
    let (held, new): (Vec<_>, Vec<_>) =
        records.into_iter().partition(|looked| looked.as_ref().is_ok_and(|record| is_held(&record.id())));
    let mut arrivals: Vec<_> = held.into_iter().flatten().map(|r| Arrival::Held(Box::new(r))).collect();
    arrivals.extend(verify(new, network));
    arrivals
}

/// What the signatures of these say, looked at in batches. What is no record comes first.
pub fn verify(records: Vec<Looked>, network: &Network) -> Vec<Arrival> {
    let (mut arrivals, mut good) = (Vec::with_capacity(records.len()), Vec::with_capacity(records.len()));
    for record in records {
        match record {
            Ok(record) => good.push(record),
            Err(refused) => arrivals.push(refused),
        }
    }
    let ids: Vec<_> = good.iter().map(|record| (record.id(), record.bytes().len())).collect();
    let outcomes = ids.into_iter().zip(record::verify_all(good, network));
    arrivals.extend(outcomes.map(|((id, len), outcome)| match outcome {
        Ok(record) => record.into(),
        Err(why) => Arrival::Refused { id, why: Refusal::Unverified(why), len },
    }));
    arrivals
}
