//! What it costs two replicas to find out how they differ.

use std::error::Error;
use std::time::Instant;

use lanyard_storage::{MemoryStore, Store};
use serde_json::json;

use crate::Size;
use crate::network::{DAY, SPREAD, scattered};
use crate::pair::{Pair, Tally};

/// Bytes of a record here: what it costs to find it does not depend on them.
const RECORD_BYTES: usize = 400;

pub fn run(size: &Size) -> Result<(), Box<dyn Error>> {
    let held = size.records();
    let stores: [Box<dyn Store>; 2] = [Box::new(MemoryStore::new()), Box::new(MemoryStore::new())];
    let mut pair = Pair::new(stores)?;
    let begun = Instant::now();
    let mut n = 0;
    while n < held as u64 {
        let count = (held as u64 - n).min(8192);
        let message = |n| pair.network.message(n, scattered(n, SPREAD), RECORD_BYTES);
        let records: Vec<_> = (n..n + count).map(message).collect();
        pair.store(0, records.clone())?;
        pair.store(1, records)?;
        n += count;
    }
    let each = begun.elapsed().as_secs_f64() / held as f64 / 2.0 * 1e6;
    size.show(&json!({ "held": held, "microseconds to sign, verify and store one": each.round() }));
    for differences in [held / 1000, held / 10] {
        for (pattern, within) in [("recent", DAY), ("scattered", SPREAD)] {
            size.show(&scenario(&mut pair, &mut n, differences, pattern, within)?);
        }
    }
    Ok(())
}

/// Each side lacks half of the differences.
fn scenario(
    pair: &mut Pair,
    n: &mut u64,
    differences: usize,
    pattern: &str,
    within: u64,
) -> Result<serde_json::Value, Box<dyn Error>> {
    for at in [0, 1] {
        let half = *n..*n + differences as u64 / 2;
        let message = |n| pair.network.message(n, scattered(n, within), RECORD_BYTES);
        let records = half.clone().map(message).collect();
        pair.store(at, records)?;
        *n = half.end;
    }
    pair.tally = Tally::default();
    let before: Vec<_> = pair.sites.iter().map(|site| site.busy).collect();
    pair.connect()?;
    pair.settle()?;
    let mut seconds = 0;
    while pair.tally.records < differences {
        pair.pass(1)?;
        pair.settle()?;
        seconds += 1;
        if seconds > 1000 {
            return Err(format!("the replicas do not come together: {:?}", pair.tally).into());
        }
    }
    let busy: f64 = pair.sites.iter().zip(before).map(|(site, b)| (site.busy - b).as_secs_f64()).sum();
    let (bytes, legs) = (pair.tally.reconciliation(), pair.tally.legs);
    let parts = std::mem::take(&mut pair.tally);
    // The round that follows at once sees that they agree; the next one is idle.
    pair.pass(1)?;
    pair.settle()?;
    pair.tally = Tally::default();
    pair.pass(31)?;
    pair.settle()?;
    let idle: usize = pair.tally.bytes.values().sum();
    pair.part()?;
    Ok(json!({
        "differences": differences,
        "pattern": pattern,
        "bytes": bytes,
        "times d x 32": (bytes as f64 / (32 * differences) as f64 * 100.0).round() / 100.0,
        "legs": legs,
        "round trips": legs.div_ceil(2),
        "records sent": parts.records,
        "seconds of waiting": seconds,
        "MiB of a step, beyond what it left": parts.transient >> 20,
        "busy seconds of both": (busy * 100.0).round() / 100.0,
        "idle bytes": idle,
        "parts": parts.bytes,
    }))
}
