//! What a compaction leaves on the disk after nine in ten records have expired, against what lives there; and what commits wait for it.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lanyard_replica::query;
use lanyard_storage::{Batch, MemoryStore, Range, Row, SledStore, StorageError, Store, Tree, View, limits};
use serde_json::json;

use crate::Size;
use crate::custodian::open;
use crate::network::{DAY, NOW};
use crate::pair::Pair;

const RECORD_BYTES: usize = 1024;
/// Of so many records, one lives.
const ONE_IN: u64 = 10;
/// Records of a commit whose time is taken, as a busy node's.
const COMMIT_RECORDS: u64 = 20;
/// Commits whose time is taken while nothing is compacted.
const COMMITS: u64 = 200;

/// A store that is still at hand when the pair has it.
struct Shared(Arc<SledStore>);

pub fn run(size: &Size, dir: &Path) -> Result<(), Box<dyn Error>> {
    let held = size.records.unwrap_or(if size.quick { 4_000 } else { 200_000 }) as u64;
    let dir = tempfile::tempdir_in(dir)?;
    let path = dir.path().join("store");
    let store = Arc::new(open(dir.path(), limits::CACHE_BYTES_DEFAULT)?);
    let mut pair = Pair::new([Box::new(Shared(store.clone())), Box::new(MemoryStore::new())])?;
    for first in (0..held).step_by(8192) {
        let message = |n: u64| {
            // Of 400 days, the others have less than an hour left.
            let before = if n.is_multiple_of(ONE_IN) { DAY } else { 400 * DAY - 3000 };
            pair.network.message(n, NOW.minus_secs(before), RECORD_BYTES)
        };
        let records = (first..(first + 8192).min(held)).map(message).collect();
        pair.store(0, records)?;
    }
    let full = bytes_below(&path)?;
    let begun = Instant::now();
    pair.pass(3600)?;
    if query::counts(&*store)?.envelopes > held.div_ceil(ONE_IN) {
        return Err("not all that has expired was dropped".into());
    }
    let expiring = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let quiet = store.compact()?;
    let compacting = begun.elapsed().as_secs_f64();
    let compacted_bytes = bytes_below(&path)?;
    let (usual, _) = commits(&store, || false, COMMITS)?;

    let done = AtomicBool::new(false);
    let begun = Instant::now();
    let (compacted, took, beside) = thread::scope(|scope| {
        let compaction = scope.spawn(|| {
            let compacted = store.compact();
            done.store(true, Ordering::Relaxed);
            compacted.map(|compacted| (compacted, begun.elapsed()))
        });
        let beside = commits(&store, || done.load(Ordering::Relaxed), u64::MAX)?;
        let (compacted, took) = compaction.join().map_err(|_| "the compaction panicked")??;
        Ok::<_, Box<dyn Error>>((compacted, took, beside))
    })?;
    let after = bytes_below(&path)?;
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    size.show(&json!({
        "records": held,
        "of which live": held.div_ceil(ONE_IN),
        "full, bytes": full,
        "expired, bytes": quiet.before_bytes,
        "compacted, bytes": compacted_bytes,
        "live bytes": quiet.live_bytes,
        "ratio": compacted_bytes as f64 / quiet.live_bytes as f64,
        "expiring, seconds": expiring,
        "compacting, seconds": compacting,
        "compacting beside commits, seconds": took.as_secs_f64(),
        "ratio beside commits": after as f64 / compacted.live_bytes as f64,
        "median commit before, ms": ms(usual[usual.len() / 2]),
        "p99 commit before, ms": ms(usual[usual.len() * 99 / 100]),
        "commits beside the compaction": beside.1,
        "median commit beside it, ms": ms(beside.0[beside.0.len() / 2]),
        "p99 commit beside it, ms": ms(beside.0[beside.0.len() * 99 / 100]),
        "longest commit beside it, ms": ms(beside.0[beside.0.len() - 1]),
    }));
    Ok(())
}

/// Commits until it is done, at most so many: how long each took, sorted, and their number. Each takes back the one before.
fn commits(
    store: &SledStore,
    done: impl Fn() -> bool,
    count: u64,
) -> Result<(Vec<Duration>, usize), Box<dyn Error>> {
    let mut times = Vec::new();
    for commit in 0..count {
        if done() && !times.is_empty() {
            break;
        }
        let mut batch = Batch::new();
        for n in 0..COMMIT_RECORDS {
            let key = |commit: u64| [commit.to_be_bytes(), n.to_be_bytes()].concat();
            batch.put(Tree::Envelopes, key(commit), vec![7; RECORD_BYTES]);
            batch.delete(Tree::Envelopes, key(commit.wrapping_sub(1)));
        }
        let begun = Instant::now();
        store.commit(batch)?;
        times.push(begun.elapsed());
    }
    let mut batch = Batch::new();
    for n in 0..COMMIT_RECORDS {
        batch.delete(Tree::Envelopes, [(times.len() as u64 - 1).to_be_bytes(), n.to_be_bytes()].concat());
    }
    store.commit(batch)?;
    times.sort();
    let count = times.len();
    Ok((times, count))
}

fn bytes_below(dir: &Path) -> Result<u64, Box<dyn Error>> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let (path, metadata) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        sum += if metadata.is_dir() { bytes_below(&path)? } else { metadata.len() };
    }
    Ok(sum)
}

impl View for Shared {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.0.get(tree, key)
    }

    fn contains(&self, tree: Tree, key: &[u8]) -> Result<bool, StorageError> {
        self.0.contains(tree, key)
    }

    fn scan(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.0.scan(tree, range, limit)
    }

    fn scan_back(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.0.scan_back(tree, range, limit)
    }
}

impl Store for Shared {
    fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        self.0.commit(batch)
    }
}
