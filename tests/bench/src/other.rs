//! Another database behind the same traits: fjall, a tree of logs (LSM). To see what ingest would be with it, not to run a node on it.
//!
//! It does what cannot be left out of a commit: values of sealed trees are sealed, each under a fresh key, the keys are appended to a file and
//! synced before the rows are, in one atomic batch over all trees, by a thread of its own. What it lacks is how keys are destroyed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use lanyard_storage::{Batch, Committing, Range, Row, StorageError, Store, Tree, View};

const KEY_BYTES: usize = 32;

type Work = (Arc<Batch>, SyncSender<Result<(), StorageError>>);

pub struct OtherStore {
    rows: Arc<Rows>,
    work: Option<SyncSender<Work>>,
    writer: Option<JoinHandle<()>>,
}

struct Rows {
    db: Database,
    trees: BTreeMap<Tree, Keyspace>,
    /// Of the sealed values, in the order in which they were made; rows name them by their place.
    keys: Mutex<Vec<[u8; KEY_BYTES]>>,
}

impl OtherStore {
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, Box<dyn std::error::Error>> {
        let db = Database::builder(dir.join("fjall")).cache_size(cache_bytes).open()?;
        let mut trees = BTreeMap::new();
        for tree in Tree::ALL {
            trees.insert(*tree, db.keyspace(tree.name(), KeyspaceCreateOptions::default)?);
        }
        let rows = Arc::new(Rows { db, trees, keys: Mutex::default() });
        let mut file = File::create(dir.join("keys"))?;
        let (work, waiting) = sync_channel::<Work>(1);
        let of = rows.clone();
        let write = move || {
            for (batch, done) in waiting {
                // Who began it may have gone away.
                let _ = done.send(of.write(&batch, &mut file).map_err(stopped));
            }
        };
        let writer = thread::Builder::new().name("other-writer".into()).spawn(write)?;
        Ok(Self { rows, work: Some(work), writer: Some(writer) })
    }
}

impl Drop for OtherStore {
    fn drop(&mut self) {
        self.work = None;
        if let Some(writer) = self.writer.take() {
            // Its panic has been reported.
            let _ = writer.join();
        }
    }
}

fn stopped(error: impl std::fmt::Display) -> StorageError {
    StorageError::Stopped(error.to_string())
}

impl Rows {
    fn write(&self, batch: &Batch, file: &mut File) -> Result<(), Box<dyn std::error::Error>> {
        let sealed = batch.changes().filter(|(tree, _, value)| tree.sealed() && value.is_some()).count();
        let mut fresh = vec![0; sealed * KEY_BYTES];
        getrandom::fill(&mut fresh)?;
        if sealed > 0 {
            file.write_all(&fresh)?;
            file.sync_data()?;
        }
        let (fresh, _) = fresh.as_chunks::<KEY_BYTES>();
        let mut places = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            let first = keys.len() as u64;
            keys.extend(fresh);
            (first..).zip(fresh)
        };
        let mut rows = self.db.batch().durability(Some(PersistMode::SyncData));
        for (tree, key, value) in batch.changes() {
            let keyspace = &self.trees[&tree];
            match value {
                Some(value) if tree.sealed() => {
                    let (place, secret) = places.next().ok_or("a key is missing")?;
                    let payload = Payload { msg: value, aad: key };
                    let sealed = Aes256Gcm::new(secret.into()).encrypt(&[0; 12].into(), payload);
                    let sealed = sealed.map_err(|_| "sealing fails")?;
                    rows.insert(keyspace, key, [&place.to_be_bytes()[..], &sealed].concat());
                }
                Some(value) => rows.insert(keyspace, key, value),
                None => rows.remove(keyspace, key),
            }
        }
        Ok(rows.commit()?)
    }

    fn scan(&self, rows: impl Iterator<Item = fjall::Guard>, limit: usize) -> Result<Vec<Row>, StorageError> {
        let row = |guard: fjall::Guard| guard.into_inner().map(|(key, value)| (key.to_vec(), value.to_vec()));
        rows.take(limit).map(row).collect::<Result<_, _>>().map_err(stopped)
    }
}

impl View for OtherStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let Some(row) = self.rows.trees[&tree].get(key).map_err(stopped)? else { return Ok(None) };
        if !tree.sealed() {
            return Ok(Some(row.to_vec()));
        }
        let (place, sealed) = row.split_first_chunk().ok_or_else(|| stopped("a row is cut short"))?;
        let keys = self.rows.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let secret = keys.get(u64::from_be_bytes(*place) as usize).ok_or_else(|| stopped("no key"))?;
        let opened =
            Aes256Gcm::new(secret.into()).decrypt(&[0; 12].into(), Payload { msg: sealed, aad: key });
        opened.map(Some).map_err(|_| stopped("a row cannot be opened"))
    }

    fn contains(&self, tree: Tree, key: &[u8]) -> Result<bool, StorageError> {
        self.rows.trees[&tree].contains_key(key).map_err(stopped)
    }

    fn scan(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.rows.scan(self.rows.trees[&tree].range::<&[u8], _>(range), limit)
    }

    fn scan_back(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        self.rows.scan(self.rows.trees[&tree].range::<&[u8], _>(range).rev(), limit)
    }
}

impl Store for OtherStore {
    fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        self.begin(&Arc::new(batch))?.wait()
    }

    fn begin(&self, batch: &Arc<Batch>) -> Result<Committing, StorageError> {
        let (done, outcome) = sync_channel(1);
        let work = self.work.as_ref().ok_or_else(|| stopped("closed"))?;
        work.send((batch.clone(), done)).map_err(stopped)?;
        Ok(Committing::until(outcome))
    }
}
