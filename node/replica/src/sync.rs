//! Anti-entropy: two nodes find out what one of them lacks of what both should hold, and it is sent (promise P5).
//!
//! A round has three steps, each a frame of its own and none with state behind it, so that a lost frame costs a round and
//! nothing else: a [`Summary`] of digests by time bucket for each layer; for each bucket that differs, the ids in it
//! ([`Bucket`]); then the records that the other lacks, and a `Want` for those that we lack. Tombstones and revocations come
//! before envelopes, and newer before older. What arrives goes through the same door as everything else.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use lanyard_crypto::{NodeId, RecordId, TrustId, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

use crate::Replica;
use crate::erase;
use crate::frame::{Bucket, BucketDigest, Frame, Summary};
use crate::holding::{Holding, LAYERS};
use crate::input::Output;
use crate::keys;
use crate::limits::{
    CATCH_UP_BYTES_MAX, FRAME_IDS_MAX, FRAME_RECORDS_BYTES_MAX, FRAME_RECORDS_MAX, SCAN_ROWS,
    SERVED_BYTES_MAX, SUMMARY_BUCKETS_MAX, SUMMARY_COST_BYTES,
};
use crate::turn::Turn;

impl Replica {
    /// Begins a round with a connected peer.
    pub(crate) fn begin_round(
        &mut self,
        turn: &mut Turn<'_>,
        to: NodeId,
        trust: &TrustId,
    ) -> Result<(), StorageError> {
        for layer in LAYERS {
            let digests = digests(&turn.rows, layer, 0, u64::MAX, &self.own.trust, trust)?;
            let chunks: Vec<_> = digests.chunks(SUMMARY_BUCKETS_MAX).collect();
            // Newest first; each summary speaks for all up to the next one, so that buckets only the other has show too.
            for (i, chunk) in chunks.iter().enumerate().rev() {
                let from = if i == 0 { 0 } else { chunk[0].bucket };
                let until = chunks.get(i + 1).map_or(u64::MAX, |next| next[0].bucket);
                let frame = Frame::Summary(Summary { layer, from, until, buckets: chunk.to_vec() });
                turn.outputs.push(Output::Send { to, frame });
            }
            if chunks.is_empty() {
                let frame = Frame::Summary(Summary { layer, from: 0, until: u64::MAX, buckets: Vec::new() });
                turn.outputs.push(Output::Send { to, frame });
            }
        }
        Ok(())
    }

    /// Answers a summary with the ids of each bucket that differs, newest first.
    pub(crate) fn compare(
        &mut self,
        turn: &mut Turn<'_>,
        to: NodeId,
        trust: &TrustId,
        theirs: &Summary,
    ) -> Result<(), StorageError> {
        if !LAYERS.contains(&theirs.layer) {
            return Ok(());
        }
        if !self.allow(to, SUMMARY_COST_BYTES) {
            return Ok(());
        }
        let mine = digests(&turn.rows, theirs.layer, theirs.from, theirs.until, &self.own.trust, trust)?;
        let by_bucket = |all: &[BucketDigest]| -> BTreeMap<u64, RecordId> {
            all.iter().map(|d| (d.bucket, d.digest)).collect()
        };
        let (mine, theirs_by) = (by_bucket(&mine), by_bucket(&theirs.buckets));
        let all: BTreeSet<u64> = mine.keys().chain(theirs_by.keys()).copied().collect();
        for bucket in all.into_iter().rev().filter(|b| mine.get(b) != theirs_by.get(b)) {
            let ids = ids_in(&turn.rows, theirs.layer, bucket, &self.own.trust, trust)?;
            let chunks: Vec<_> = ids.chunks(FRAME_IDS_MAX).collect();
            if chunks.is_empty() {
                let all = Bucket { layer: theirs.layer, bucket, after: None, until: None, ids: Vec::new() };
                turn.outputs.push(Output::Send { to, frame: Frame::Bucket(all) });
            }
            for (i, chunk) in chunks.iter().enumerate() {
                let after = i.checked_sub(1).and_then(|before| chunks[before].last()).copied();
                let until = if i + 1 == chunks.len() { None } else { chunk.last().copied() };
                let part = Bucket { layer: theirs.layer, bucket, after, until, ids: chunk.to_vec() };
                turn.outputs.push(Output::Send { to, frame: Frame::Bucket(part) });
            }
        }
        Ok(())
    }

    /// Answers a bucket: sends what the other lacks, asks for what is lacking here.
    pub(crate) fn exchange(
        &mut self,
        turn: &mut Turn<'_>,
        to: NodeId,
        trust: &TrustId,
        theirs: &Bucket,
    ) -> Result<(), StorageError> {
        if !LAYERS.contains(&theirs.layer) {
            return Ok(());
        }
        let spoken_of =
            |id: &RecordId| theirs.after.is_none_or(|a| *id > a) && theirs.until.is_none_or(|u| *id <= u);
        let mine: BTreeSet<RecordId> =
            ids_in(&turn.rows, theirs.layer, theirs.bucket, &self.own.trust, trust)?.into_iter().collect();
        let have: BTreeSet<RecordId> = theirs.ids.iter().copied().collect();
        let lacking: Vec<RecordId> =
            mine.iter().filter(|id| spoken_of(id) && !have.contains(id)).copied().collect();
        self.send_records(turn, to, trust, &lacking)?;
        // Deleted ones among them too: only the message itself tells whether who ordered its deletion may. The peer has been
        // sent the tombstones before.
        let want: Vec<_> = have.difference(&mine).copied().collect();
        if !want.is_empty() {
            turn.outputs.push(Output::Send { to, frame: Frame::Want(want) });
        }
        Ok(())
    }

    /// Whether a peer may still be sent so much within this second: what it asks for costs it a few bytes, and us much more.
    fn allow(&mut self, peer: NodeId, bytes: usize) -> bool {
        let served = self.served.entry(peer).or_default();
        *served += bytes;
        *served <= SERVED_BYTES_MAX
    }

    /// Sends records that the peer's trust should hold, up to a bound; what is left over comes in the next round, soon.
    pub(crate) fn send_records(
        &mut self,
        turn: &mut Turn<'_>,
        to: NodeId,
        trust: &TrustId,
        ids: &[RecordId],
    ) -> Result<(), StorageError> {
        let (mut frame, mut frame_bytes, mut all_bytes) = (Vec::new(), 0, 0);
        let mut sent = BTreeSet::new();
        for id in ids.iter().filter(|id| sent.insert(**id)) {
            let Some(held) = Holding::get(&turn.rows, id)?.filter(|h| h.is_for(trust) && h.layer().is_some())
            else {
                continue;
            };
            // What has expired is not served, even if it has not been dropped yet.
            if held.expires <= turn.now || erase::is_withheld(&turn.rows, id, &held)? {
                continue;
            }
            let Some(bytes) = turn.rows.get(held.tree(), id.as_bytes())? else { continue };
            if all_bytes + bytes.len() > CATCH_UP_BYTES_MAX || !self.allow(to, bytes.len()) {
                self.due.insert(to);
                break;
            }
            if frame_bytes + bytes.len() > FRAME_RECORDS_BYTES_MAX || frame.len() == FRAME_RECORDS_MAX {
                turn.outputs.push(Output::Send { to, frame: Frame::Records(std::mem::take(&mut frame)) });
                frame_bytes = 0;
            }
            frame_bytes += bytes.len();
            all_bytes += bytes.len();
            frame.push(ByteBuf::from(bytes));
        }
        if !frame.is_empty() {
            turn.outputs.push(Output::Send { to, frame: Frame::Records(frame) });
        }
        Ok(())
    }
}

/// The digest of each bucket in `from..until` of what both trusts should hold, by bucket.
fn digests(
    view: &dyn View,
    layer: u8,
    from: u64,
    until: u64,
    own: &TrustId,
    peer: &TrustId,
) -> Result<Vec<BucketDigest>, StorageError> {
    let mut digests: Vec<BucketDigest> = Vec::new();
    let mut open: Option<(u64, Sha256)> = None;
    let close = |open: Option<(u64, Sha256)>| {
        open.map(|(bucket, hash)| BucketDigest { bucket, digest: RecordId::new(hash.finalize().into()) })
    };
    let (low, high) = (keys::bucket(layer, from), keys::bucket(layer, until));
    for_each_shared(view, (low, high), own, peer, |bucket, id| {
        if open.as_ref().is_none_or(|(b, _)| *b != bucket) {
            digests.extend(close(open.replace((bucket, Sha256::new()))));
        }
        if let Some((_, hash)) = &mut open {
            hash.update(id.as_bytes());
        }
    })?;
    digests.extend(close(open));
    Ok(digests)
}

fn ids_in(
    view: &dyn View,
    layer: u8,
    bucket: u64,
    own: &TrustId,
    peer: &TrustId,
) -> Result<Vec<RecordId>, StorageError> {
    let mut ids = Vec::new();
    let range = (keys::bucket(layer, bucket), keys::bucket(layer, bucket.saturating_add(1)));
    for_each_shared(view, range, own, peer, |_, id| ids.push(id))?;
    Ok(ids)
}

/// Index rows from the first key up to and without the second, of records that both trusts should hold, by key.
fn for_each_shared(
    view: &dyn View,
    (low, high): (Vec<u8>, Vec<u8>),
    own: &TrustId,
    peer: &TrustId,
    mut each: impl FnMut(u64, RecordId),
) -> Result<(), StorageError> {
    let mut from = Bound::Included(low);
    loop {
        let rows = view.scan(
            Tree::Index,
            (from.as_ref().map(Vec::as_slice), Bound::Excluded(high.as_slice())),
            SCAN_ROWS,
        )?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        from = Bound::Excluded(last.clone());
        for (key, row) in &rows {
            let held: Option<Holding> = cbor::from_slice(row, 64 * 1024).ok();
            if let (Some(held), Some((bucket, id))) = (held, keys::index_parts(key))
                && held.is_for(own)
                && held.is_for(peer)
            {
                each(bucket, id);
            }
        }
    }
}
