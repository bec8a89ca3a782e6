//! Ingest: records from the wire to the disk, against what cannot be left out.
//!
//! Measured is what a node does with frames of a peer: decode, hash, verify, decide, seal, index, write, sync; signatures are looked at in
//! one thread, another one steps what was looked at before, and the store's own commits what was stepped before that, as in the driver. The
//! first yardstick is batches of 256 Ed25519 signatures over as many bytes, and then the same rows written, sealed and synced by the same store,
//! in the very commits of that turn, and nothing else. The second verifies and seals likewise, and appends the records' bytes to a plain file with two syncs for each commit, as
//! the store needs (a key before its row). Each is taken several times, in turn, in a directory of its own; the median counts.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey, verify_batch};
use lanyard_crypto::record::Decoded;
use lanyard_replica::Arrival;
use lanyard_storage::limits::CACHE_BYTES_DEFAULT;
use lanyard_storage::{Batch, Committing, Range, Row, StorageError, Store, Tree, View};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Size;
use crate::custodian::{Custodian, FRAMES, frames, look_at, open};
use crate::network::{NOW, Network};
use crate::other::OtherStore;
use crate::report::{at_least, at_most};

const RECORD_BYTES: usize = 1024;
/// They were issued one after the other, as messages are that come while they are written. (Those of the past, in any order: `restore`.)
const ISSUED_PER_SEC: u64 = 1000;
const BATCH: usize = 256;
/// Times that each is taken.
const TURNS: usize = 3;
/// Frames that are looked at ahead of the engine, as the driver bounds it.
const AHEAD: usize = 4;
/// Of the yardsticks, at most.
const GOAL_STORE: f64 = 1.3;
const GOAL_FILE: f64 = 2.5;
/// Of one core's, at least.
const GOAL_CORES: f64 = 1.7;

pub fn run(size: &Size, dir: &Path) -> Result<(), Box<dyn Error>> {
    let cores = allowed()?;
    let [first, second, ..] = &cores[..] else { return Err("two cores are needed".into()) };
    let one = on_cores(&first.to_string(), size, dir)?;
    let two = on_cores(&format!("{first},{second}"), size, dir)?;
    let number = |of: &Value, name: &str| of[name].as_f64().ok_or(format!("no figure {name:?}"));
    for (cores, figures) in [("one", &one), ("two", &two)] {
        let ours = number(figures, "ours")?;
        let (store, file) = (number(figures, "store")?, number(figures, "file")?);
        size.show(&json!({
            "scenario": format!("{cores} core(s)"),
            "records": figures["records"],
            "commits": figures["commits"],
            "rows of a record": figures["rows"],
            "ours, records a second": rate(figures, ours),
            "verified and written to the same store, records a second": rate(figures, store),
            "of it verifying, seconds": figures["verifying"],
            "verified, sealed and appended to a file, records a second": rate(figures, file),
            "time against the same store's": at_most(rounded(ours / store), GOAL_STORE),
            "time against the file's": at_most(rounded(ours / file), GOAL_FILE),
            "the engine on another store (fjall), records a second": rate(figures, number(figures, "other")?),
            "on another store, time against the file's": at_most(rounded(number(figures, "other")? / file), GOAL_FILE),
            "spread of ours, seconds": figures["spread"],
        }));
    }
    size.show(&json!({
        "scenario": "two cores against one",
        "rate on two against one": at_least(rounded(number(&one, "ours")? / number(&two, "ours")?), GOAL_CORES),
    }));
    Ok(())
}

/// The cores that this process may use.
pub fn allowed() -> Result<Vec<usize>, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let mut cores = Vec::new();
    for part in list.ok_or("/proc/self/status names no cores")?.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<usize>()?..=last.parse()?);
    }
    Ok(cores)
}

fn rate(figures: &Value, seconds: f64) -> f64 {
    (figures["records"].as_f64().unwrap_or_default() / seconds).round()
}

fn rounded(ratio: f64) -> f64 {
    (ratio * 100.0).round() / 100.0
}

/// Runs this program again, on these cores alone; returns its figures.
fn on_cores(cores: &str, size: &Size, dir: &Path) -> Result<Value, Box<dyn Error>> {
    let mut command = Command::new("taskset");
    command.args(["-c", cores]).arg(std::env::current_exe()?).args(["ingest", "--here", "--json"]);
    command.args(["--records", &records(size).to_string(), "--dir"]).arg(dir);
    let output = command.output().map_err(|error| format!("taskset (util-linux): {error}"))?;
    if !output.status.success() {
        return Err(format!("on cores {cores}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn records(size: &Size) -> usize {
    size.records.unwrap_or(if size.quick { 5_000 } else { 100_000 })
}

/// Takes all figures on the cores that this process may use.
pub fn here(size: &Size, dir: &Path) -> Result<(), Box<dyn Error>> {
    let count = records(size);
    let network = Network::new();
    let issued = |n| NOW.minus_secs(60 + (count as u64 - n) / ISSUED_PER_SEC);
    let message = |n| network.message(n, issued(n), RECORD_BYTES);
    let messages: Vec<_> = (0..count as u64).map(message).collect();
    let (frames, bytes) =
        (frames(&messages), messages.iter().map(|m| m.bytes().to_vec()).collect::<Vec<_>>());
    let signed = Signed::new(&messages);
    drop(messages);

    let (mut ours, mut store, mut file, mut verifying) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut ours_other = Vec::new();
    let (mut commits, mut rows) = (0, 0);
    for _ in 0..TURNS {
        let place = tempfile::tempdir_in(dir)?;
        let on_disk = open(place.path(), CACHE_BYTES_DEFAULT)?;
        let (took, before, batches) = recorded(on_disk, place, &frames)?;
        ours.push(took);
        let verified = signed.verify()?;
        verifying.push(verified);
        let place = tempfile::tempdir_in(dir)?;
        let empty = open(place.path(), CACHE_BYTES_DEFAULT)?;
        store.push(verified + rewritten(&empty, &batches, before)?);
        drop(empty);
        let place = tempfile::tempdir_in(dir)?;
        let other = OtherStore::open(place.path(), CACHE_BYTES_DEFAULT)?;
        ours_other.push(recorded(other, place, &frames)?.0);
        file.push(verified + appended(dir, &bytes, batches.len() - before)?);
        commits = batches.len() - before;
        rows = batches[before..].iter().map(|batch| batch.len()).sum();
    }
    let spread = spread(&ours);
    println!(
        "{}",
        json!({
            "records": count, "commits": commits, "rows": rounded(rows as f64 / count as f64),
            "ours": median(ours), "store": median(store), "file": median(file), "other": median(ours_other),
            "verifying": rounded(median(verifying)), "spread": spread,
        })
    );
    Ok(())
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn spread(seconds: &[f64]) -> [f64; 2] {
    let by = |which: fn(f64, f64) -> f64| rounded(seconds.iter().copied().fold(seconds[0], which));
    [by(f64::min), by(f64::max)]
}

/// The seconds, how many batches came before the first frame, and all batches.
type Recorded = (f64, usize, Vec<Arc<Batch>>);

/// Takes the frames into this store, which lies in `place`.
fn recorded(
    store: impl Store + Send + Sync + 'static,
    place: TempDir,
    frames: &[Vec<u8>],
) -> Result<Recorded, Box<dyn Error>> {
    let recorder = Recorder { store: Arc::new(store), begun: Arc::default() };
    let mut custodian = Custodian::with(Box::new(recorder.clone()), Some(place))?;
    let before = recorder.begun().len();
    let took = pipeline(&mut custodian, &recorder, frames)?;
    let batches = std::mem::take(&mut *recorder.begun());
    Ok((took, before, batches))
}

/// Takes the frames, looking at signatures in another thread; returns the seconds.
fn pipeline(custodian: &mut Custodian, store: &Recorder, frames: &[Vec<u8>]) -> Result<f64, Box<dyn Error>> {
    let network = custodian.site.replica.network();
    let begun = Instant::now();
    thread::scope(|scope| {
        let (looked, waiting) = mpsc::sync_channel::<Result<Vec<Arrival>, String>>(AHEAD);
        scope.spawn(move || {
            for frame in frames {
                let arrivals = look_at(frame, &network, store).map_err(|error| error.to_string());
                if looked.send(arrivals).is_err() {
                    return;
                }
            }
        });
        while let Ok(first) = waiting.recv() {
            let mut arrivals = first?;
            for more in waiting.try_iter().take(FRAMES - 1) {
                arrivals.extend(more?);
            }
            custodian.step_ahead(arrivals, NOW)?;
        }
        custodian.site.land()?;
        Ok(begun.elapsed().as_secs_f64())
    })
}

/// As many signatures, over the same bytes.
struct Signed {
    messages: Vec<Vec<u8>>,
    signatures: Vec<Signature>,
    key: VerifyingKey,
}

impl Signed {
    fn new(records: &[Decoded]) -> Self {
        let key = SigningKey::from_bytes(&[7; 32]);
        let messages: Vec<_> = records.iter().map(|record| record.bytes().to_vec()).collect();
        let signatures = messages.iter().map(|message| key.sign(message)).collect();
        Self { messages, signatures, key: key.verifying_key() }
    }

    /// The seconds to verify all.
    fn verify(&self) -> Result<f64, Box<dyn Error>> {
        let begun = Instant::now();
        for (messages, signatures) in self.messages.chunks(BATCH).zip(self.signatures.chunks(BATCH)) {
            let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
            verify_batch(&messages, signatures, &vec![self.key; signatures.len()])?;
        }
        Ok(begun.elapsed().as_secs_f64())
    }
}

/// The seconds to commit the batches from `from` on to this empty store.
fn rewritten(store: &impl Store, batches: &[Arc<Batch>], from: usize) -> Result<f64, Box<dyn Error>> {
    for batch in &batches[..from] {
        store.begin(batch)?.wait()?;
    }
    let begun = Instant::now();
    for batch in &batches[from..] {
        store.begin(batch)?.wait()?;
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// The seconds to seal the records and append them to a file, in so many parts.
fn appended(dir: &Path, records: &[Vec<u8>], parts: usize) -> Result<f64, Box<dyn Error>> {
    let dir = tempfile::tempdir_in(dir)?;
    let mut file = File::create(dir.path().join("plain"))?;
    let begun = Instant::now();
    for (part, records) in records.chunks(records.len().div_ceil(parts.max(1))).enumerate() {
        let mut sealed = Vec::new();
        for (n, record) in records.iter().enumerate() {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&(part as u64).to_be_bytes());
            key[8..16].copy_from_slice(&(n as u64).to_be_bytes());
            let payload = Payload { msg: record, aad: b"row" };
            let record = Aes256Gcm::new(&key.into()).encrypt(&[0; 12].into(), payload);
            sealed.extend(record.map_err(|_| "sealing fails")?);
        }
        file.sync_data()?;
        file.write_all(&sealed)?;
        file.sync_data()?;
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// A store that keeps what was committed.
#[derive(Clone)]
struct Recorder {
    store: Arc<dyn Store + Send + Sync>,
    begun: Arc<Mutex<Vec<Arc<Batch>>>>,
}

impl Recorder {
    fn begun(&self) -> MutexGuard<'_, Vec<Arc<Batch>>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View for Recorder {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.store.get(tree, key)
    }

    fn contains(&self, tree: Tree, key: &[u8]) -> Result<bool, StorageError> {
        self.store.contains(tree, key)
    }

    fn scan(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.store.scan(tree, range, limit)
    }

    fn scan_back(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.store.scan_back(tree, range, limit)
    }
}

impl Store for Recorder {
    fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        self.begin(&Arc::new(batch))?.wait()
    }

    fn begin(&self, batch: &Arc<Batch>) -> Result<Committing, StorageError> {
        self.begun().push(batch.clone());
        self.store.begin(batch)
    }
}
