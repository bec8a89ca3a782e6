//! The store on disk: sealed rows, long values, and the order of a commit. Rows are kept by [`crate::sled`], and
//! the keys of sealed ones by [`crate::keys`].
//!
//! A value of a sealed tree is sealed (AES-256-GCM) under a key of its own, and its row key is opaque (HMAC), since
//! neither goes from the disk when the row is removed. A long value is cut into parts, which are rows of a tree of
//! their own.
//!
//! The order of a commit, and what a crash leaves: new keys are synced; then the rows, old and new, are changed in
//! one transaction, and synced; then the keys of rows that were deleted or replaced are erased; then it returns. A
//! crash before the second step leaves keys without rows, one before the third keys of rows that are gone: opening
//! erases both. A row without a key can only come from a restored copy of the rows whose key was erased since:
//! opening removes it.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use zeroize::Zeroizing;

use crate::group::{GroupCommit, Writer};
use crate::keys::{KeyRef, KeyShards, Keyring};
use crate::labels::{DERIVE_ROW_KEY, DERIVE_SHARD_WRAP, SEAL_VALUE};
use crate::limits::PART_BYTES;
use crate::row::{Body, Parts, RowData};
use crate::seal::{NONCE_BYTES, Secret, random_bytes};
use crate::sled::{Changes, Trees};
use crate::view::{check_scan, is_empty};
use crate::{Batch, Range, Row, StorageError, Store, Tree, View, files, format};

/// Each key seals one value only, so its nonce need not differ.
const NONCE: [u8; NONCE_BYTES] = [0; NONCE_BYTES];

/// The tree of parts comes after those of the catalogue.
const PARTS: usize = Tree::ALL.len();
const PARTS_NAME: &str = "parts";

/// What [`SledStore::open`] needs to know.
pub struct SledOptions {
    /// The store's directory, made if it is not there. Nothing else may be in it.
    pub dir: PathBuf,
    /// Whose store it is: a digest of node and network. A store of another owner is refused.
    pub owner: [u8; 32],
    /// The key under which the keys of sealed rows are kept: 32 random bytes, from a file of mode 0600 outside of
    /// `dir`. A store can't be opened with another one.
    pub store_key: Zeroizing<[u8; 32]>,
    /// What is kept of the rows in memory, in bytes; brought within [`limits::CACHE_BYTES`](crate::limits::CACHE_BYTES). Rows that do
    /// not fit are read again from the disk, and most of all when rows are added among them.
    pub cache_bytes: u64,
}

/// What opening a store put right after a crash or a restored backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Keys that no row named: erased.
    pub keys_erased: usize,
    /// Sealed rows whose key had been erased: removed.
    pub rows_removed: usize,
}

/// The store on disk. Any number of threads may read and commit; `commit` blocks its thread until the disk is done,
/// and dropping the store waits for commits that are under way.
pub struct SledStore {
    rows: Arc<Rows>,
    group: GroupCommit,
    reconciled: Reconciled,
}

impl SledStore {
    /// Opens the store, or makes it. Waits a few seconds for a process that is just ending.
    ///
    /// # Errors
    /// Names what the operator can do: [`StorageError::InUse`], [`StorageError::NewerFormat`],
    /// [`StorageError::OtherOwner`], [`StorageError::WrongStoreKey`], [`StorageError::Damaged`]; or what the
    /// disk says.
    pub fn open(options: SledOptions) -> Result<Self, StorageError> {
        let SledOptions { dir, owner, store_key, cache_bytes } = options;
        let store_key = Secret::new(*store_key);
        let rows_dir = dir.join("rows");
        files::create_dir(&dir)?;
        let found = format::check_or_create(&dir, &rows_dir, &owner, &store_key)?;

        // The lock of the rows guards the key files too, so it comes first.
        let trees =
            Trees::open(rows_dir, cache_bytes, Tree::ALL.iter().map(|tree| tree.name()).chain([PARTS_NAME]))?;
        if found < format::FORMAT {
            format::write(&dir, &owner, &store_key)?;
        }
        let keys = KeyShards::open(dir.join("keys"), store_key.derive(DERIVE_SHARD_WRAP))?;
        files::sync_dir(&dir)?;
        let row_key_secret = store_key.derive(DERIVE_ROW_KEY);
        let rows = Rows { trees, row_key_secret, keyring: keys.ring(), between_batches: RwLock::default() };
        let rows = Arc::new(rows);
        let mut writer = StoreWriter { rows: rows.clone(), keys };
        let reconciled = writer.reconcile()?;
        let group = GroupCommit::start(writer).map_err(|error| StorageError::io(&dir, error))?;
        Ok(Self { rows, group, reconciled })
    }

    /// What opening put right.
    pub fn reconciled(&self) -> Reconciled {
        self.reconciled
    }
}

impl View for SledStore {
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let _whole = self.rows.read();
        let row_key = self.rows.row_key(tree, key);
        match self.rows.get(tree, &row_key)? {
            Some(row) => self.rows.value(&row_key, row),
            None => Ok(None),
        }
    }

    fn scan(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        check_scan(tree)?;
        if is_empty(&range) {
            return Ok(Vec::new());
        }
        let _whole = self.rows.read();
        self.rows.values(self.rows.trees.range(tree as usize, range).take(limit))
    }

    fn scan_back(&self, tree: Tree, range: Range<'_>, limit: usize) -> Result<Vec<Row>, StorageError> {
        check_scan(tree)?;
        if is_empty(&range) {
            return Ok(Vec::new());
        }
        let _whole = self.rows.read();
        self.rows.values(self.rows.trees.range(tree as usize, range).rev().take(limit))
    }
}

impl Store for SledStore {
    fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        batch.check_limits()?;
        self.group.commit(batch)
    }
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SledStore({})", self.rows.trees.dir().display())
    }
}

/// What readers and the writer share.
struct Rows {
    trees: Trees,
    row_key_secret: Secret,
    keyring: Arc<Keyring>,
    /// Held to read, and by the writer while it applies a batch: a row, its parts and its key belong together.
    between_batches: RwLock<()>,
}

impl Rows {
    fn read(&self) -> RwLockReadGuard<'_, ()> {
        self.between_batches.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key on disk of a row.
    fn row_key(&self, tree: Tree, key: &[u8]) -> Vec<u8> {
        if tree.sealed() {
            return self.row_key_secret.mac(&[tree.name().as_bytes(), &[0], key]).to_vec();
        }
        key.to_vec()
    }

    fn get(&self, tree: Tree, row_key: &[u8]) -> Result<Option<RowData>, StorageError> {
        self.trees.get(tree as usize, row_key)?.map(|bytes| self.decode(&bytes)).transpose()
    }

    fn decode(&self, bytes: &[u8]) -> Result<RowData, StorageError> {
        RowData::decode(bytes).map_err(|what| self.damaged(what))
    }

    fn values(
        &self,
        rows: impl Iterator<Item = Result<Row, StorageError>>,
    ) -> Result<Vec<Row>, StorageError> {
        let mut found = Vec::new();
        for row in rows {
            let (key, bytes) = row?;
            found.extend(self.value(&key, self.decode(&bytes)?)?.map(|value| (key, value)));
        }
        Ok(found)
    }

    /// The value of a row. None if its key was erased.
    fn value(&self, row_key: &[u8], row: RowData) -> Result<Option<Vec<u8>>, StorageError> {
        let bytes = match row.body {
            Body::Inline(bytes) => bytes,
            Body::Parts(parts) => self.join(parts)?,
        };
        let Some(key) = row.key else {
            return Ok(Some(bytes));
        };
        let Some(secret) = self.keyring.get(key) else {
            return Ok(None);
        };
        match secret.open(NONCE, &value_aad(row_key), &bytes) {
            Some(mut value) => Ok(Some(std::mem::take(&mut *value))),
            None => Err(self.damaged("a sealed value does not open with its key")),
        }
    }

    fn join(&self, parts: Parts) -> Result<Vec<u8>, StorageError> {
        let mut bytes = Vec::new();
        for key in parts.keys() {
            let part = self.trees.get(PARTS, &key)?;
            bytes.extend(part.ok_or_else(|| self.damaged("a part of a value is missing"))?);
        }
        if bytes.len() != parts.len as usize {
            return Err(self.damaged("the parts of a value have the wrong length"));
        }
        Ok(bytes)
    }

    fn damaged(&self, what: impl Into<String>) -> StorageError {
        StorageError::damaged(self.trees.dir(), what)
    }
}

/// The writer thread's own: nobody else changes rows or keys.
struct StoreWriter {
    rows: Arc<Rows>,
    keys: KeyShards,
}

impl Writer for StoreWriter {
    fn write(&mut self, batch: Batch) -> Result<(), StorageError> {
        let sealed_puts = batch.changes().filter(|(tree, _, value)| tree.sealed() && value.is_some()).count();
        let mut new_keys = self.keys.create(sealed_puts)?.into_iter();
        let mut erased = BTreeSet::new();
        let mut changes = Changes::new();
        for (tree, key, value) in batch.changes() {
            let row_key = self.rows.row_key(tree, key);
            if let Some(old) = self.rows.get(tree, &row_key)? {
                remove_parts(&mut changes, &old);
                erased.extend(old.key);
            }
            let new_key = if tree.sealed() && value.is_some() { new_keys.next() } else { None };
            let row = value.map(|value| self.encode(&mut changes, &row_key, value, new_key)).transpose()?;
            changes.entry(tree as usize).or_default().insert(row_key, row);
        }
        self.apply(&changes)?;
        self.keys.erase(&erased)
    }
}

impl StoreWriter {
    /// The row for a value, sealed if there is a key for it. Adds its parts to the changes, if it needs any.
    fn encode(
        &self,
        changes: &mut Changes,
        row_key: &[u8],
        value: &[u8],
        key: Option<KeyRef>,
    ) -> Result<Vec<u8>, StorageError> {
        let bytes = match key {
            Some(key) => {
                let secret = self.rows.keyring.get(key).expect("the key was created for this value");
                secret.seal(NONCE, &value_aad(row_key), value)
            }
            None => value.to_vec(),
        };
        if bytes.len() <= PART_BYTES {
            return Ok(RowData { key, body: Body::Inline(bytes) }.encode());
        }
        let len = u32::try_from(bytes.len()).expect("the batch's values are within the limit");
        let parts = Parts { id: random_bytes()?, len };
        let rows = parts.keys().zip(bytes.chunks(PART_BYTES).map(|part| Some(part.to_vec())));
        changes.entry(PARTS).or_default().extend(rows);
        Ok(RowData { key, body: Body::Parts(parts) }.encode())
    }

    /// Makes the changes in one transaction, and syncs them.
    fn apply(&self, changes: &Changes) -> Result<(), StorageError> {
        let whole = self.rows.between_batches.write().unwrap_or_else(PoisonError::into_inner);
        self.rows.trees.apply(changes)?;
        drop(whole);
        self.rows.trees.sync()
    }

    /// Erases keys that no row names, and removes sealed rows that have no key.
    fn reconcile(&mut self) -> Result<Reconciled, StorageError> {
        let mut live = BTreeSet::new();
        let mut changes = Changes::new();
        let mut rows_removed = 0;
        for tree in Tree::ALL.iter().copied().filter(|tree| tree.sealed()) {
            for row in self.rows.trees.range(tree as usize, (Bound::Unbounded, Bound::Unbounded)) {
                let (row_key, bytes) = row?;
                let row = self.rows.decode(&bytes)?;
                if let Some(key) = row.key.filter(|&key| self.rows.keyring.get(key).is_some()) {
                    live.insert(key);
                    continue;
                }
                remove_parts(&mut changes, &row);
                changes.entry(tree as usize).or_default().insert(row_key, None);
                rows_removed += 1;
            }
        }
        self.apply(&changes)?;
        Ok(Reconciled { keys_erased: self.keys.retain(&live)?, rows_removed })
    }
}

fn remove_parts(changes: &mut Changes, old: &RowData) {
    if let Body::Parts(parts) = old.body {
        changes.entry(PARTS).or_default().extend(parts.keys().map(|key| (key, None)));
    }
}

/// Binds a sealed value to its row, and through the row key to its tree.
fn value_aad(row_key: &[u8]) -> Vec<u8> {
    [SEAL_VALUE, row_key].concat()
}
