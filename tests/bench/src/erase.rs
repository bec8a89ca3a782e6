//! What erasing costs: many single messages, one conversation, and expiry while messages are stored.

use std::collections::VecDeque;
use std::error::Error;
use std::ops::Bound;
use std::path::Path;
use std::time::{Duration, Instant};

use lanyard_crypto::record::{Decoded, Kind, Target};
use lanyard_crypto::{RecordId, Timestamp};
use lanyard_replica::chores::Chores;
use lanyard_replica::fixtures;
use lanyard_replica::{Input, Output, Source, arrival};
use lanyard_storage::Tree;
use serde_json::json;

use crate::Size;
use crate::custodian::Custodian;
use crate::network::{DAY, NOW, SPREAD, scattered};

const RECORD_BYTES: usize = 1024;
/// Messages a second that are stored while others expire, and how many are measured at each time.
const OFFERED: u32 = 100;
const MEASURED: u32 = 3000;

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// 100,000 messages, each by an order of its own.
    Single,
    /// A conversation of 100,000 messages by one order.
    Conversation,
    /// 1,000,000 messages that expire while others are stored.
    Expiry,
}

pub fn run(size: &Size, dir: &Path, only: Option<Scenario>) -> Result<(), Box<dyn Error>> {
    let wanted = |scenario| only.is_none_or(|only| only == scenario);
    let some = size.records.unwrap_or(if size.quick { 2_000 } else { 100_000 });
    if wanted(Scenario::Single) {
        single(size, dir, some)?;
    }
    if wanted(Scenario::Conversation) {
        conversation(size, dir, some)?;
    }
    if wanted(Scenario::Expiry) {
        expiry(size, dir, size.records())?;
    }
    Ok(())
}

impl Custodian {
    /// What is held of a kind: how many records, and their bytes.
    fn held(&self, kind: Kind) -> Result<(usize, usize), Box<dyn Error>> {
        let (mut count, mut bytes) = (0, 0);
        let mut from = Vec::new();
        loop {
            let range = (Bound::Excluded(from.as_slice()), Bound::Unbounded);
            let rows = self.site.store.scan(Tree::Expiry, range, 4096)?;
            let Some((last, _)) = rows.last() else { return Ok((count, bytes)) };
            from = last.clone();
            for (key, _) in rows.iter().filter(|(_, row)| *row == [kind as u8]) {
                let id = key.last_chunk::<32>().ok_or("a key of the tree of expiry is short")?;
                count += 1;
                let record = self.site.store.get(Tree::Records, id)?;
                bytes += record.map_or(0, |record| record.len());
            }
        }
    }

    /// Goes on with what was left to later steps, until nothing is, or `done` says that it is enough; returns the seconds of work.
    fn until(&mut self, done: impl Fn(&Self) -> Result<bool, Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
        let mut seconds = 0.0;
        for _ in 0..100_000 {
            if done(self)? {
                return Ok(seconds);
            }
            let begun = Instant::now();
            let outputs = self.site.step(vec![Input::GoOn], NOW)?;
            seconds += begun.elapsed().as_secs_f64();
            if !outputs.iter().any(|output| matches!(output, Output::GoOn)) {
                return Ok(seconds);
            }
        }
        Err("it does not end".into())
    }
}

fn single(size: &Size, dir: &Path, count: usize) -> Result<(), Box<dyn Error>> {
    let mut custodian = Custodian::new(dir)?;
    let message = |n| custodian.network.message(n, scattered(n, SPREAD), RECORD_BYTES);
    let messages: Vec<_> = (0..count as u64).map(message).collect();
    let storing = custodian.take(&messages, NOW)?;
    let mut ids: Vec<_> = messages.iter().map(Decoded::id).collect();
    drop(messages);
    // In an order that has nothing to do with that of storing.
    ids.sort();
    let order = |id: &RecordId| custodian.network.tombstone(fixtures::named(&[*id]), NOW);
    let orders: Vec<_> = ids.iter().map(order).collect();
    let erasing = custodian.take(&orders, NOW)?;
    let erasing = erasing + custodian.until(|_| Ok(false))?;
    if custodian.held(Kind::Envelope)?.0 > 0 {
        return Err("not all messages were erased".into());
    }
    let (receipts, bytes) = custodian.held(Kind::Receipt)?;
    size.show(&json!({
        "scenario": "single",
        "messages": count,
        "storing, a second": (count as f64 / storing).round(),
        "erasing, a second": (count as f64 / erasing).round(),
        "erasing against storing": storing / erasing,
        "receipts": receipts,
        "bytes of receipts for each": bytes as f64 / count as f64,
    }));
    Ok(())
}

fn conversation(size: &Size, dir: &Path, count: usize) -> Result<(), Box<dyn Error>> {
    let mut custodian = Custodian::new(dir)?;
    let message = |n| custodian.network.message(n, scattered(n, SPREAD), RECORD_BYTES);
    let messages: Vec<_> = (0..count as u64).map(message).collect();
    let storing = custodian.take(&messages, NOW)?;
    drop(messages);
    let order = custodian.network.tombstone(Target::UpTo(NOW), NOW);
    let erasing = custodian.take(&[order], NOW)?;
    let attested = erasing + custodian.until(|c| Ok(c.held(Kind::Receipt)?.0 > 0))?;
    let removed = attested + custodian.until(|_| Ok(false))?;
    if custodian.held(Kind::Envelope)?.0 > 0 {
        return Err("not all rows were removed".into());
    }
    size.show(&json!({
        "scenario": "conversation",
        "messages": count,
        "storing, seconds": storing,
        "until the receipt, seconds": attested,
        "until every row is gone, seconds": removed,
    }));
    Ok(())
}

fn expiry(size: &Size, dir: &Path, count: usize) -> Result<(), Box<dyn Error>> {
    let mut custodian = Custodian::new(dir)?;
    for first in (0..count as u64).step_by(8192) {
        let some = first..(first + 8192).min(count as u64);
        // They expire in another order than they came, all within an hour that is yet to come.
        let life = |n: u64| DAY + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 3600;
        let message = |n| custodian.network.message_for(n, NOW, life(n), RECORD_BYTES);
        let records: Vec<_> = some.map(message).collect();
        custodian.take(&records, NOW)?;
    }
    let quiet = custodian.offered(count as u64, NOW)?;
    let before = custodian.held(Kind::Envelope)?.0;
    let begun = Instant::now();
    let busy = custodian.offered(count as u64 + u64::from(MEASURED), NOW.plus_secs(DAY + 3600))?;
    let taken = begun.elapsed().as_secs_f64();
    let left = custodian.held(Kind::Envelope)?.0.saturating_sub(2 * MEASURED as usize);
    size.show(&json!({
        "scenario": "expiry",
        "messages": count,
        "messages offered a second": OFFERED,
        "p50 and p99 of storing, nothing expires, ms": [quiet.at(50), quiet.at(99)],
        "p50 and p99 of storing, beside expiry, ms": [busy.at(50), busy.at(99)],
        "p99 against p99": busy.at(99) / quiet.at(99),
        "expired meanwhile, a second": (before.saturating_sub(left + MEASURED as usize) as f64 / taken).round(),
        "left to expire": left,
    }));
    Ok(())
}

/// How long each of some messages took, sorted, in milliseconds.
struct Latencies(Vec<f64>);

impl Latencies {
    fn at(&self, percent: usize) -> f64 {
        let index = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        (self.0[index] * 100.0).round() / 100.0
    }
}

fn goes_on(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(output, Output::GoOn))
}

impl Custodian {
    /// Stores messages that come one by one, evenly in time, with a tick each second, as the driver's thread does: what has come
    /// while it worked goes into one commit. How long each took from its coming to its commit.
    fn offered(&mut self, from: u64, now: Timestamp) -> Result<Latencies, Box<dyn Error>> {
        let message = |n| self.network.message(from + u64::from(n), now.minus_secs(60), RECORD_BYTES);
        let mut coming: VecDeque<_> =
            (0..MEASURED).map(|n| (Duration::from_secs(1) / OFFERED * n, message(n))).collect();
        let (begun, mut ticked, mut took) = (Instant::now(), 0, Vec::new());
        let mut chores = Chores::default();
        while let Some((next, _)) = coming.front() {
            let second = begun.elapsed().as_secs();
            let round = Instant::now();
            if second > ticked {
                ticked = second;
                let outputs = self.site.step(vec![Input::Tick], now.plus_secs(second))?;
                chores.after(false, round.elapsed(), goes_on(&outputs));
                continue;
            }
            let idle = *next > begun.elapsed();
            if chores.are_due(idle) {
                let outputs = self.site.step(vec![Input::GoOn], now.plus_secs(second))?;
                chores.after(true, round.elapsed(), goes_on(&outputs));
                continue;
            }
            if idle {
                std::thread::sleep(next.saturating_sub(begun.elapsed()).min(Duration::from_millis(1)));
                continue;
            }
            let mut came = Vec::new();
            let mut looked = Vec::new();
            while let Some((at, record)) = coming.pop_front_if(|(at, _)| *at <= begun.elapsed()) {
                came.push(at);
                looked.push(arrival::decode(record.bytes()));
            }
            let arrivals = arrival::verify(looked, &self.site.replica.network());
            let from = Source::Peer(self.network.trusts[0].node_id());
            let outputs = self.site.step(vec![Input::Records { from, arrivals }], now.plus_secs(second))?;
            chores.after(false, round.elapsed(), goes_on(&outputs));
            took.extend(came.iter().map(|at| (begun.elapsed() - *at).as_secs_f64() * 1000.0));
        }
        took.sort_by(f64::total_cmp);
        Ok(Latencies(took))
    }
}
