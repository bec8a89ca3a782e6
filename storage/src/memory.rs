//! A store in memory, for tests and the simulator: cheap, deterministic, and it can crash and fail on demand.
//! Nothing is sealed, since nothing reaches a disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::view::{check_scan, is_empty};
use crate::{Batch, Change, Range, Row, StorageError, Store, Tree, View};

/// A store in memory. Clones share the same rows, so that a test can hold on to what a node under test owns.
///
/// By default each commit is synced at once. With [`deferred`](MemoryStore::deferred), commits are visible at
/// once but survive a [`crash`](MemoryStore::crash) only after [`sync`](MemoryStore::sync).
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    trees: BTreeMap<Tree, BTreeMap<Vec<u8>, Vec<u8>>>,
    deferred: bool,
    /// For each commit since the last sync, oldest first: the batch that takes it back.
    unsynced: Vec<Batch>,
    /// What the next commit fails with.
    fault: Option<StorageError>,
    /// Set by a failed commit, as a failed write stops the store on disk until it is opened again.
    stopped: Option<String>,
}

impl MemoryStore {
    /// An empty store, in which each commit is synced at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store, in which commits are synced by [`sync`](MemoryStore::sync) only.
    pub fn deferred() -> Self {
        let store = Self::default();
        store.lock().deferred = true;
        store
    }

    /// Makes everything that was committed survive a crash.
    pub fn sync(&self) {
        self.lock().unsynced.clear();
    }

    /// How many commits would be lost by a crash now.
    pub fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// Loses every commit since the last sync, and forgets faults, as a restart does.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// As [`crash`](MemoryStore::crash), but the first `kept` of the commits that were not synced survive: an
    /// operating system may write more than it was asked to.
    pub fn crash_keeping(&self, kept: usize) {
        let mut state = self.lock();
        while state.unsynced.len() > kept {
            let Some(undo) = state.unsynced.pop() else { break };
            state.apply(&undo);
        }
        state.unsynced.clear();
        state.fault = None;
        state.stopped = None;
    }

    /// Makes the next commit fail with `error` and leave no change. As on disk, further commits are refused
    /// until a [`crash`](MemoryStore::crash), which stands for the restart.
    pub fn fail_next(&self, error: StorageError) {
        self.lock().fault = Some(error);
    }

    /// Every row of every tree, sealed ones too, for a test to compare.
    pub fn rows(&self) -> Vec<(Tree, Vec<u8>, Vec<u8>)> {
        let state = self.lock();
        let rows = state.trees.iter().flat_map(|(&tree, rows)| rows.iter().map(move |row| (tree, row)));
        rows.map(|(tree, (key, value))| (tree, key.clone(), value.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No method can panic while it holds the lock and leave half a change.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl View for MemoryStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.lock().trees.get(&tree).and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        check_scan(tree)?;
        Ok(self.lock().range(tree, range).take(limit).collect())
    }

    fn scan_back(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        check_scan(tree)?;
        Ok(self.lock().range(tree, range).rev().take(limit).collect())
    }
}

impl Store for MemoryStore {
    fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        batch.check_limits()?;
        let mut state = self.lock();
        if let Some(reason) = &state.stopped {
            return Err(StorageError::Stopped(reason.clone()));
        }
        if let Some(error) = state.fault.take() {
            state.stopped = Some(error.to_string());
            return Err(error);
        }
        let undo = state.apply(&batch);
        if state.deferred {
            state.unsynced.push(undo);
        }
        Ok(())
    }
}

impl State {
    /// Makes the changes, and returns those that take them back.
    fn apply(&mut self, batch: &Batch) -> Batch {
        let mut undo = Batch::new();
        let shredded = batch.shredded().map(|(tree, key)| (tree, key, None));
        for (tree, key, value) in batch.changes().chain(shredded) {
            let rows = self.trees.entry(tree).or_default();
            let old: Change = match value {
                Some(value) => rows.insert(key.to_vec(), value.to_vec()),
                None => rows.remove(key),
            };
            match old {
                Some(old) => undo.put(tree, key, old),
                None => undo.delete(tree, key),
            }
        }
        undo
    }

    fn range(&self, tree: Tree, range: Range<'_>) -> impl DoubleEndedIterator<Item = Row> {
        let rows = self.trees.get(&tree).filter(|_| !is_empty(&range));
        let rows = rows.map(|rows| rows.range::<[u8], _>(range));
        rows.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone()))
    }
}

/// Sizes only: values are content.
impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows: usize = self.trees.values().map(BTreeMap::len).sum();
        write!(f, "State({rows} rows, {} commits not synced)", self.unsynced.len())
    }
}
