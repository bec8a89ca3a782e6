//! Spans of the index: reading what a trust shares in one, and dividing it.

use std::ops::Bound;

use lanyard_crypto::{RecordId, TrustId};
use lanyard_storage::{StorageError, Tree, View};

use super::coded::{Keyed, Short};
use crate::digest::{self, Sum};
use crate::frame::{Range, Span};
use crate::holding::LAYERS;
use crate::keys;
use crate::limits::{SCAN_ROWS, SPAN_RECORDS_MAX, SPAN_ROWS_MAX};

/// Ids of a span with what a salt makes of them, and how many rows were read for it.
pub(crate) struct Read<T> {
    /// None if there are more records, or rows, than one answer may take.
    pub(crate) ids: Option<Vec<T>>,
    pub(crate) rows: usize,
    /// How many of the rows are of what both trusts share.
    pub(crate) shared: usize,
}

impl Span {
    /// All records of a layer in these buckets.
    pub(crate) fn buckets(layer: u8, from: u64, until: u64) -> Self {
        Self { layer, from, until, low: 0, high: u64::MAX }
    }

    /// Whether it is one that this version could have made.
    pub(crate) fn is_sound(&self) -> bool {
        LAYERS.contains(&self.layer)
            && self.from < self.until
            && self.low <= self.high
            && (self.is_whole() || self.is_one_bucket())
    }

    /// Whether it is of whole buckets.
    pub(crate) fn is_whole(&self) -> bool {
        (self.low, self.high) == (0, u64::MAX)
    }

    fn is_one_bucket(&self) -> bool {
        self.until == self.from.saturating_add(1)
    }

    /// Whether some record could be in both.
    pub(crate) fn meets(&self, other: &Span) -> bool {
        self.layer == other.layer
            && self.from < other.until
            && other.from < self.until
            && self.low <= other.high
            && other.low <= self.high
    }

    /// The keys of its rows, in [`Tree::Index`]: from the first, up to and without the second.
    pub(crate) fn keys(&self) -> (Vec<u8>, Vec<u8>) {
        let place = |first: u64| [&keys::bucket(self.layer, self.from)[..], &first.to_be_bytes()].concat();
        let high = match self.high {
            u64::MAX => keys::bucket(self.layer, self.until),
            high => place(high + 1),
        };
        (place(self.low), high)
    }

    /// What this trust and the peer's should both hold of it.
    pub(crate) fn sum(&self, view: &dyn View, peer: &TrustId) -> Result<Sum, StorageError> {
        let mut sum = Sum::default();
        digest::sums(view, self.layer, peer, self.from, self.until)?.iter().for_each(|(_, s)| sum.add(s));
        Ok(sum)
    }

    /// The ids that this trust and the peer's should both hold.
    pub(crate) fn ids(&self, view: &dyn View, peer: &TrustId) -> Result<Read<RecordId>, StorageError> {
        self.read(view, peer, |id| id)
    }

    /// The same, keyed.
    pub(crate) fn keyed(
        &self,
        view: &dyn View,
        peer: &TrustId,
        salt: &[u8; 16],
    ) -> Result<Read<Keyed>, StorageError> {
        self.read(view, peer, |id| Keyed::new(salt, &short(&id)))
    }

    fn read<T>(
        &self,
        view: &dyn View,
        peer: &TrustId,
        each: impl Fn(RecordId) -> T,
    ) -> Result<Read<T>, StorageError> {
        let (low, high) = self.keys();
        let (peer, mut low) = (keys::trust(peer), Bound::Included(low));
        let (mut ids, mut read) = (Vec::new(), 0);
        loop {
            let range = (low.as_ref().map(Vec::as_slice), Bound::Excluded(high.as_slice()));
            let rows = view.scan(Tree::Index, range, SCAN_ROWS)?;
            let Some((last, _)) = rows.last() else {
                let shared = ids.len();
                return Ok(Read { ids: Some(ids), rows: read, shared });
            };
            low = Bound::Excluded(last.clone());
            read += rows.len();
            let shared = rows.iter().filter(|(_, row)| digest::is_for(row, &peer));
            ids.extend(shared.filter_map(|(key, _)| keys::index_parts(key)).map(|(_, id)| each(id)));
            // Both sides are bounded alike, and one may have twice what the other said it had.
            if ids.len() > 2 * SPAN_RECORDS_MAX || read > SPAN_ROWS_MAX {
                return Ok(Read { ids: None, rows: read, shared: ids.len() });
            }
        }
    }

    /// It in about so many parts of the same size, newest first. What begins with the same 8 bytes is not divided.
    pub(crate) fn divide(
        &self,
        view: &dyn View,
        peer: &TrustId,
        parts: usize,
    ) -> Result<Vec<Span>, StorageError> {
        let parts = parts.clamp(2, 256);
        if self.is_one_bucket() {
            let step = (self.high - self.low) / parts as u64;
            let (mut low, mut divided) = (self.low, Vec::new());
            loop {
                let high = low.saturating_add(step).min(self.high);
                divided.push(Span { low, high, ..*self });
                if high == self.high {
                    return Ok(divided);
                }
                low = high + 1;
            }
        }
        let sums = digest::sums(view, self.layer, peer, self.from, self.until)?;
        let mut until = self.until;
        let mut divided = Vec::new();
        for Range(from, ..) in coarsen(&sums, self.from, parts + 1, 0) {
            divided.push(Span::buckets(self.layer, from, until));
            until = from;
        }
        if divided.len() < 2 {
            // All that is here is in one bucket; what the peer has may be around it.
            let middle = sums
                .get(sums.len() / 2)
                .map_or(self.from + (self.until - self.from) / 2, |(bucket, _)| *bucket);
            let cuts =
                [self.until, middle.saturating_add(1).min(self.until), middle.max(self.from), self.from];
            divided = cuts
                .windows(2)
                .filter(|cut| cut[1] < cut[0])
                .map(|cut| Span::buckets(self.layer, cut[1], cut[0]))
                .collect();
        }
        Ok(divided)
    }
}

/// The beginning of an id.
pub(crate) fn short(id: &RecordId) -> Short {
    let mut short = Short::default();
    short.copy_from_slice(&id.as_bytes()[..16]);
    short
}

/// Adds up the sums of buckets, which come oldest first, into at most so many ranges that reach down to `from`, newest first. The newest
/// `fine` buckets stay alone; the others have about as many records each.
pub(crate) fn coarsen(sums: &[(u64, Sum)], from: u64, ranges_max: usize, fine: usize) -> Vec<Range> {
    let all: u64 = sums.iter().map(|(_, sum)| sum.count).sum();
    // A range is closed once it has its share; so there is one more at most, for what is left.
    let share = all.div_ceil(ranges_max.saturating_sub(fine + 1).max(1) as u64).max(1);
    let (mut ranges, mut open) = (Vec::new(), None::<(u64, Sum)>);
    for (bucket, sum) in sums.iter().rev() {
        let (_, mut total) = open.unwrap_or_default();
        total.add(sum);
        open = Some((*bucket, total));
        if ranges.len() < fine || total.count >= share {
            ranges.push(range(*bucket, total));
            open = None;
        }
    }
    match (open, ranges.last_mut()) {
        (Some((_, total)), _) => ranges.push(range(from, total)),
        (None, Some(last)) => last.0 = from,
        (None, None) => ranges.push(range(from, Sum::default())),
    }
    ranges
}

fn range(from: u64, sum: Sum) -> Range {
    Range(from, sum.count, sum.to_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_cover_everything_once(
            counts in proptest::collection::btree_map(5u64..1000, 1u64..50, 0..400),
            ranges_max in 34usize..256,
        ) {
            let sums: Vec<_> = counts.iter().map(|(b, c)| (*b, Sum { count: *c, lanes: [*b, *c] })).collect();
            let ranges = coarsen(&sums, 2, ranges_max, 32);
            prop_assert!(ranges.len() <= ranges_max);
            prop_assert!(ranges.windows(2).all(|w| w[1].0 < w[0].0));
            prop_assert_eq!(ranges.last().unwrap().0, 2);
            prop_assert_eq!(ranges.iter().map(|r| r.1).sum::<u64>(), counts.values().sum::<u64>());
            let mut until = u64::MAX;
            for Range(from, count, sum) in ranges {
                let mut own = Sum::default();
                sums.iter().filter(|(b, _)| (from..until).contains(b)).for_each(|(_, s)| own.add(s));
                prop_assert_eq!(Sum::from_bytes(count, &sum), own);
                until = from;
            }
        }
    }

    #[test]
    fn hours_are_divided_evenly() {
        let sums: Vec<_> = (100..124u64).map(|b| (b, Sum { count: 10, lanes: [1, 2] })).collect();
        for parts in 2..=12 {
            let counts: Vec<_> = coarsen(&sums, 0, parts + 1, 0).iter().map(|r| r.1).collect();
            assert!(
                *counts.iter().max().unwrap() <= 240u64.div_ceil(parts as u64) + 10,
                "{parts}: {counts:?}"
            );
        }
    }

    #[test]
    fn a_bucket_is_divided_by_ids() {
        let store = lanyard_storage::MemoryStore::new();
        let peer = "RXA".parse().unwrap();
        let span = Span::buckets(3, 7, 8);
        let parts = span.divide(&store, &peer, 5).unwrap();
        assert_eq!((parts.len(), parts[0].low, parts[4].high), (5, 0, u64::MAX));
        assert!(parts.windows(2).all(|w| w[0].high + 1 == w[1].low) && parts.iter().all(Span::is_sound));
        let one = Span { low: 9, high: 9, ..span };
        assert_eq!(one.divide(&store, &peer, 2).unwrap(), [one]);
        let wide = Span::buckets(3, 0, u64::MAX).divide(&store, &peer, 2).unwrap();
        assert!(wide.len() > 1 && wide.iter().all(Span::is_sound));
    }
}
