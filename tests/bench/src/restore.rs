//! How long an empty replica takes to get everything, against the bare cost of verifying and writing the same.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::ops::Bound;
use std::path::Path;
use std::time::Instant;

use lanyard_crypto::record::{self, Decoded};
use lanyard_storage::{MemoryStore, Store, Tree, View};
use serde_json::json;

use crate::Size;
use crate::custodian::open;
use crate::network::{SPREAD, scattered};
use crate::pair::{Pair, Tally};

const RECORD_BYTES: usize = 1024;
/// What is synced at once when the same bytes are written plainly.
const SYNC_BYTES: usize = 4 << 20;

pub fn run(size: &Size, dir: &Path, cache_bytes: u64) -> Result<(), Box<dyn Error>> {
    let held = size.records();
    let dir = tempfile::tempdir_in(dir)?;
    let store = open(dir.path(), cache_bytes)?;
    // The other side's store is not measured.
    let source = MemoryStore::new();
    let stores: [Box<dyn Store>; 2] = [Box::new(source.clone()), Box::new(store)];
    let mut pair = Pair::new(stores)?;
    let mut bytes = 0;
    for first in (0..held as u64).step_by(8192) {
        let some = first..(first + 8192).min(held as u64);
        let message = |n| pair.network.message(n, scattered(n, SPREAD), RECORD_BYTES);
        let records: Vec<_> = some.map(message).collect();
        bytes += records.iter().map(|r| r.bytes().len()).sum::<usize>();
        pair.store(0, records)?;
    }
    let yardstick = yardstick(&pair, &source, &dir.path().join("plain"))?;

    pair.tally = Tally::default();
    let before = (pair.sites[1].busy, pair.sites[1].committing);
    pair.connect()?;
    pair.settle()?;
    let mut seconds = 0;
    while pair.tally.records < held {
        pair.pass(1)?;
        pair.settle()?;
        seconds += 1;
        if seconds > 10_000 {
            return Err("the replica does not come back".into());
        }
    }
    let busy = (pair.sites[1].busy - before.0).as_secs_f64();
    let committing = (pair.sites[1].committing - before.1).as_secs_f64();
    let (verifying, writing) = yardstick;
    size.show(&json!({
        "records": held,
        "MiB of cache": cache_bytes >> 20,
        "MiB": bytes >> 20,
        "verifying in batches, seconds": verifying,
        "writing with syncs, seconds": writing,
        "bringing back, seconds": busy,
        "of it in commits, seconds": committing,
        "ratio": busy / (verifying + writing),
        "seconds of waiting for the other side's bound": seconds,
        "reconciliation bytes": pair.tally.reconciliation(),
    }));
    Ok(())
}

/// Seconds to verify the records in batches on one core, and to write their bytes to the same disk with syncs.
fn yardstick(pair: &Pair, source: &MemoryStore, file: &Path) -> Result<(f64, f64), Box<dyn Error>> {
    let network = pair.replica_network(0);
    let mut file = File::create(file)?;
    let (mut verifying, mut writing, mut unsynced) = (0.0, 0.0, 0);
    let mut records = Vec::new();
    let mut from = Vec::new();
    let mut page = Vec::new().into_iter();
    loop {
        let Some((id, _)) = page.next() else {
            let rows = source.scan(Tree::Holdings, (Bound::Excluded(&from[..]), Bound::Unbounded), 4096)?;
            let Some((last, _)) = rows.last() else { return Ok((verifying, writing)) };
            from = last.clone();
            page = rows.into_iter();
            continue;
        };
        let Some(bytes) = source.get(Tree::Envelopes, &id)? else { continue };
        let begun = Instant::now();
        file.write_all(&bytes)?;
        unsynced += bytes.len();
        if unsynced >= SYNC_BYTES {
            file.sync_data()?;
            unsynced = 0;
        }
        writing += begun.elapsed().as_secs_f64();
        records.push(Decoded::from_bytes(&bytes)?);
        if records.len() == 1024 {
            let begun = Instant::now();
            let verified = record::verify_all(std::mem::take(&mut records), &network);
            verifying += begun.elapsed().as_secs_f64();
            if verified.iter().any(Result::is_err) {
                return Err("a record does not verify".into());
            }
        }
    }
}
