//! The digests of what is held, kept up to date as records come and go, so that two nodes can tell in a few bytes whether
//! they hold the same of what both should.
//!
//! The set that two trusts share in a layer is the records that name the peer's trust, and the records for all. Both are
//! summed up apart, per trust, so that the digest of any pair is the sum of two rows. Two kinds of sum are kept, of the
//! same hash of each record's id:
//!
//! - one [`Root`] per layer and trust: the hashes as points of ristretto255 (RFC 9496), added up. Two different sets have the same sum only
//!   for who can compute discrete logarithms (Maitin-Shepard, Tibouchi, Aranha: "Elliptic Curve Multiset Hash", 2017). Roots
//!   decide whether anything is to be done.
//! - one [`Sum`] per bucket of time: 16 bytes, added up as two numbers. Who grinds ids can make two of them equal (a generalised
//!   birthday), so they only say where a difference lies; if the roots differ and no sum does, everything is looked at.
//!
//! This is the one place that writes [`Tree::Index`]: a record enters and leaves the index and the digests together. Within a
//! step changes are added up in memory and written once ([`settle`]).

use std::collections::BTreeMap;
use std::ops::Bound;

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::traits::Identity;
use lanyard_crypto::{RecordId, TrustId, cbor, labels};
use lanyard_storage::{Batch, Overlay, StorageError, Tree, View};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

use crate::holding::Holding;
use crate::keys;
use crate::limits::{BUCKET_SECS, SCAN_ROWS, UPGRADE_ROWS};
use crate::mutation::{self, Mutation};
use crate::turn::Turn;

/// The name under which [`Tree::Meta`] says that the digests are there: one byte 1, or 0 and the last row that was summed up.
const STATE: &[u8] = b"digests";
const ALL: [u8; 8] = [0; 8];

/// Which of the records of a layer: those of one trust, or those for all.
type Whose = [u8; 8];

/// What stands for a set of records: two are equal if and only if their sets are, for whoever cannot compute discrete
/// logarithms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// How many records.
    pub count: u64,
    /// The sum of their points, compressed (RFC 9496).
    #[serde(with = "serde_bytes")]
    pub sum: [u8; 32],
}

/// The records of some buckets, summed up cheaply: different sums have different sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) count: u64,
    pub(crate) lanes: [u64; 2],
}

impl Sum {
    pub(crate) fn add(&mut self, other: &Sum) {
        self.count = self.count.saturating_add(other.count);
        self.lanes = [0, 1].map(|i| self.lanes[i].wrapping_add(other.lanes[i]));
    }

    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.lanes[0].to_be_bytes());
        bytes[8..].copy_from_slice(&self.lanes[1].to_be_bytes());
        bytes
    }

    pub(crate) fn from_bytes(count: u64, bytes: &[u8; 16]) -> Self {
        let lane = |at: usize| bytes[at..].first_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b));
        Self { count, lanes: [lane(0), lane(8)] }
    }

    fn to_row(self) -> Vec<u8> {
        [&self.count.to_be_bytes()[..], &self.to_bytes()].concat()
    }

    fn from_row(row: &[u8]) -> Self {
        let (count, rest) = row.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        Self::from_bytes(u64::from_be_bytes(*count), rest.first_chunk().unwrap_or(&[0; 16]))
    }
}

/// What stands for one record in the sums. To map it to a point takes as long as a part of a signature, so this is done with that.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    point: RistrettoPoint,
    lanes: [u64; 2],
}

impl Element {
    pub(crate) fn of(id: &RecordId) -> Self {
        let hash: [u8; 64] =
            Sha512::new().chain_update(labels::DIGEST).chain_update(id.as_bytes()).finalize().into();
        let lanes = Sum::from_bytes(1, hash.first_chunk().unwrap_or(&[0; 16])).lanes;
        Self { point: RistrettoPoint::from_uniform_bytes(&hash), lanes }
    }
}

/// What changes in the digests in one step.
#[derive(Default)]
pub(crate) struct Pending {
    buckets: BTreeMap<(u8, Whose, u64), (i64, [u64; 2])>,
    roots: BTreeMap<(u8, Whose), (i64, RistrettoPoint)>,
}

impl Pending {
    /// Rows that it will write.
    pub(crate) fn len(&self) -> usize {
        self.buckets.len() + self.roots.len()
    }

    fn change(&mut self, layer: u8, bucket: u64, element: &Element, custodians: &[TrustId], comes: bool) {
        let Element { point, lanes } = element;
        let whose: Vec<Whose> =
            if custodians.is_empty() { vec![ALL] } else { custodians.iter().map(keys::trust).collect() };
        for whose in whose {
            let sum = self.buckets.entry((layer, whose, bucket)).or_default();
            let root = self.roots.entry((layer, whose)).or_insert((0, RistrettoPoint::identity()));
            if comes {
                (sum.0, root.0) = (sum.0 + 1, root.0 + 1);
                sum.1 = [0, 1].map(|i| sum.1[i].wrapping_add(lanes[i]));
                root.1 += point;
            } else {
                (sum.0, root.0) = (sum.0 - 1, root.0 - 1);
                sum.1 = [0, 1].map(|i| sum.1[i].wrapping_sub(lanes[i]));
                root.1 -= point;
            }
        }
    }
}

/// A record that was stored enters the index, if anti-entropy compares it.
pub(crate) fn enter(turn: &mut Turn<'_>, id: &RecordId, held: &Holding) {
    let Some(layer) = held.layer() else { return };
    turn.rows.put(Tree::Index, keys::index(layer, held.issued, id), row(&held.custodians));
    let element = turn.element.take().filter(|(of, _)| of == id).map(|(_, element)| element);
    let element = element.unwrap_or_else(|| Element::of(id));
    turn.digests.change(layer, held.issued.as_secs() / BUCKET_SECS, &element, &held.custodians, true);
}

/// A record leaves the index, if it is in it.
pub(crate) fn leave(turn: &mut Turn<'_>, id: &RecordId, held: &Holding) -> Result<(), StorageError> {
    let Some(layer) = held.layer() else { return Ok(()) };
    let key = keys::index(layer, held.issued, id);
    if turn.rows.contains(Tree::Index, &key)? {
        turn.rows.delete(Tree::Index, key);
        if mutation::is(Mutation::ForgetDigest) {
            return Ok(());
        }
        let bucket = held.issued.as_secs() / BUCKET_SECS;
        turn.digests.change(layer, bucket, &Element::of(id), &held.custodians, false);
    }
    Ok(())
}

/// A record of layer 0 that founds a store.
pub(crate) fn found(
    view: &dyn View,
    batch: &mut Batch,
    id: &RecordId,
    held: &Holding,
) -> Result<(), StorageError> {
    let mut rows = Overlay::with(view, std::mem::take(batch));
    let mut pending = Pending::default();
    rows.put(Tree::Index, keys::index(0, held.issued, id), row(&held.custodians));
    pending.change(0, held.issued.as_secs() / BUCKET_SECS, &Element::of(id), &held.custodians, true);
    write(&mut rows, pending)?;
    rows.put(Tree::Meta, STATE, [1]);
    *batch = rows.into_batch();
    Ok(())
}

/// Writes what has changed so far. Reading digests within a step comes after this.
pub(crate) fn settle(turn: &mut Turn<'_>) -> Result<(), StorageError> {
    let pending = std::mem::take(&mut turn.digests);
    write(&mut turn.rows, pending)
}

fn write<V: View>(rows: &mut Overlay<V>, pending: Pending) -> Result<(), StorageError> {
    for ((layer, whose, bucket), (count, lanes)) in pending.buckets {
        let key = keys::digest_bucket(layer, &whose, bucket);
        let mut sum = rows.get(Tree::Digests, &key)?.map_or_else(Sum::default, |row| Sum::from_row(&row));
        sum.count = sum.count.saturating_add_signed(count);
        sum.lanes = [0, 1].map(|i| sum.lanes[i].wrapping_add(lanes[i]));
        if sum.count == 0 {
            rows.delete(Tree::Digests, key);
        } else {
            rows.put(Tree::Digests, key, sum.to_row());
        }
    }
    for ((layer, whose), (count, point)) in pending.roots {
        let key = keys::digest_root(layer, &whose);
        let (held, sum) = root_of(&rows.get(Tree::Digests, &key)?.unwrap_or_default());
        let sum = (sum + point).compress();
        rows.put(
            Tree::Digests,
            key,
            [&held.saturating_add_signed(count).to_be_bytes()[..], sum.as_bytes()].concat(),
        );
    }
    Ok(())
}

/// The digest of what this trust and the peer's should both hold in a layer.
pub(crate) fn root(view: &dyn View, layer: u8, peer: &TrustId) -> Result<Root, StorageError> {
    let (mut count, mut sum) = (0u64, RistrettoPoint::identity());
    for whose in [keys::trust(peer), ALL] {
        let row = view.get(Tree::Digests, &keys::digest_root(layer, &whose))?.unwrap_or_default();
        let (some, point) = root_of(&row);
        count = count.saturating_add(some);
        sum += point;
    }
    Ok(Root { count, sum: sum.compress().to_bytes() })
}

/// The sums of the buckets in `from..until` that are not empty, of what this trust and the peer's should both hold, oldest
/// first.
pub(crate) fn sums(
    view: &dyn View,
    layer: u8,
    peer: &TrustId,
    from: u64,
    until: u64,
) -> Result<Vec<(u64, Sum)>, StorageError> {
    let (mut own, all) = (Vec::new(), sums_of(view, layer, &ALL, from, until)?);
    let mut all = all.into_iter().peekable();
    for (bucket, mut sum) in sums_of(view, layer, &keys::trust(peer), from, until)? {
        while let Some(earlier) = all.next_if(|(b, _)| *b < bucket) {
            own.push(earlier);
        }
        if let Some((_, more)) = all.next_if(|(b, _)| *b == bucket) {
            sum.add(&more);
        }
        own.push((bucket, sum));
    }
    own.extend(all);
    Ok(own)
}

fn sums_of(
    view: &dyn View,
    layer: u8,
    whose: &Whose,
    from: u64,
    until: u64,
) -> Result<Vec<(u64, Sum)>, StorageError> {
    let (mut low, high) = (keys::digest_bucket(layer, whose, from), keys::digest_bucket(layer, whose, until));
    let mut sums = Vec::new();
    loop {
        let range = (Bound::Included(low.as_slice()), Bound::Excluded(high.as_slice()));
        let rows = view.scan(Tree::Digests, range, SCAN_ROWS)?;
        let Some((last, _)) = rows.last() else { return Ok(sums) };
        low = [last.as_slice(), &[0]].concat();
        sums.extend(rows.iter().map(|(key, row)| (keys::last_u64(key), Sum::from_row(row))));
    }
}

/// Whether a row of [`Tree::Index`] is of a record that this trust should hold.
pub(crate) fn is_for(row: &[u8], trust: &[u8; 8]) -> bool {
    row.is_empty() || row.chunks(8).any(|custodian| custodian == trust)
}

/// Whether the digests are there; if not, [`upgrade`] makes them.
pub(crate) fn are_there(view: &dyn View) -> Result<bool, StorageError> {
    Ok(view.get(Tree::Meta, STATE)?.as_deref() == Some(&[1]))
}

/// The next batch that makes the digests of a store that an earlier version wrote; none if there is nothing to do. To be committed, and
/// asked for again, until there is none; a crash on the way costs one batch.
pub(crate) fn upgrade(view: &dyn View) -> Result<Option<Batch>, StorageError> {
    let state = view.get(Tree::Meta, STATE)?;
    let low = match state.as_deref() {
        Some([1]) => return Ok(None),
        Some([0, key @ ..]) => Bound::Excluded(key.to_vec()),
        _ => Bound::Unbounded,
    };
    let mut rows = Overlay::new(view);
    let mut pending = Pending::default();
    let found = view.scan(Tree::Index, (low.as_ref().map(Vec::as_slice), Bound::Unbounded), UPGRADE_ROWS)?;
    let next = found.last().map_or(vec![1], |(last, _)| [&[0], last.as_slice()].concat());
    for (key, held) in found {
        // Then a row had the whole holding.
        let held: Option<Holding> = cbor::from_slice(&held, 64 * 1024).ok();
        let (Some(held), Some((bucket, id))) = (held, keys::index_parts(&key)) else {
            rows.delete(Tree::Index, key);
            continue;
        };
        pending.change(key[0], bucket, &Element::of(&id), &held.custodians, true);
        rows.put(Tree::Index, key, row(&held.custodians));
    }
    write(&mut rows, pending)?;
    rows.put(Tree::Meta, STATE, next);
    Ok(Some(rows.into_batch()))
}

fn row(custodians: &[TrustId]) -> Vec<u8> {
    custodians.iter().flat_map(keys::trust).collect()
}

fn root_of(row: &[u8]) -> (u64, RistrettoPoint) {
    let (count, rest) = row.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    let point = rest.first_chunk::<32>().and_then(|sum| CompressedRistretto(*sum).decompress());
    (u64::from_be_bytes(*count), point.unwrap_or_default())
}
