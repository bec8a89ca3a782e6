//! The rows as readers see them: whole batches only, with their values joined and opened.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::keys::Keyring;
use crate::labels::SEAL_VALUE;
use crate::row::{Body, Parts, RowData};
use crate::seal::{NONCE_BYTES, Secret};
use crate::sled::{Belonging, Trees};
use crate::{Row, StorageError, Tree};

/// Each key seals one value only, so its nonce need not differ.
pub(crate) const NONCE: [u8; NONCE_BYTES] = [0; NONCE_BYTES];

/// The tree of parts comes after those of the catalogue.
pub(crate) const PARTS: usize = Tree::ALL.len();
const PARTS_NAME: &str = "parts";

/// The tree of notes of what is being shredded: a number u64 -> the keys' names, each shard u32 and id (8).
pub(crate) const SHREDDING: usize = PARTS + 1;
const SHREDDING_NAME: &str = "shredding";

/// The names of all trees on disk, in their order in [`Trees`].
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    Tree::ALL.iter().map(|tree| tree.name()).chain([PARTS_NAME, SHREDDING_NAME])
}

/// The parts of a value go with the row that names them.
pub(crate) const BELONGING: Belonging = Belonging {
    tree: PARTS,
    keys: |tree, row| {
        if tree == PARTS {
            return Ok(Vec::new());
        }
        Ok(match RowData::decode(row)?.body {
            Body::Parts(parts) => parts.keys().collect(),
            Body::Inline(_) => Vec::new(),
        })
    },
};

/// What readers and the writer share.
pub(crate) struct Rows {
    /// Locked to read, and exclusively by the writer while it applies a batch or puts others in their place: a row, its parts and its
    /// key belong together.
    trees: RwLock<Trees>,
    row_key_secret: Secret,
    pub(crate) keyring: Arc<Keyring>,
}

/// Rows that do not change while this is there.
pub(crate) struct Reading<'a> {
    rows: &'a Rows,
    pub(crate) trees: RwLockReadGuard<'a, Trees>,
}

impl Rows {
    pub(crate) fn new(trees: Trees, row_key_secret: Secret, keyring: Arc<Keyring>) -> Self {
        Self { trees: RwLock::new(trees), row_key_secret, keyring }
    }

    /// Keeps the writer from changing anything until it is dropped.
    pub(crate) fn read(&self) -> Reading<'_> {
        Reading { rows: self, trees: self.trees.read().unwrap_or_else(PoisonError::into_inner) }
    }

    /// Keeps everyone from reading. For the writer alone.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Trees> {
        self.trees.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key on disk of a row.
    pub(crate) fn row_key(&self, tree: Tree, key: &[u8]) -> Vec<u8> {
        if tree.sealed() {
            return self.row_key_secret.mac(&[tree.name().as_bytes(), &[0], key]).to_vec();
        }
        key.to_vec()
    }
}

impl Reading<'_> {
    /// The row at a key on disk.
    pub(crate) fn get(&self, tree: Tree, row_key: &[u8]) -> Result<Option<RowData>, StorageError> {
        self.trees.get(tree as usize, row_key)?.map(|bytes| self.decode(&bytes)).transpose()
    }

    /// Whether a row at a key on disk has a value that can be read.
    pub(crate) fn contains(&self, tree: Tree, row_key: &[u8]) -> Result<bool, StorageError> {
        let key = self.get(tree, row_key)?.map(|row| row.key);
        Ok(key.is_some_and(|key| key.is_none_or(|key| self.rows.keyring.holds(key))))
    }

    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<RowData, StorageError> {
        RowData::decode(bytes).map_err(|what| self.damaged(what))
    }

    /// Rows with their values, but for those whose key was erased.
    pub(crate) fn values(
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
    pub(crate) fn value(&self, row_key: &[u8], row: RowData) -> Result<Option<Vec<u8>>, StorageError> {
        let bytes = match row.body {
            Body::Inline(bytes) => bytes,
            Body::Parts(parts) => self.join(parts)?,
        };
        let Some(key) = row.key else {
            return Ok(Some(bytes));
        };
        let Some(secret) = self.rows.keyring.get(key) else {
            return Ok(None);
        };
        match secret.open(NONCE, &value_aad(row_key), &bytes) {
            Some(mut value) => Ok(Some(std::mem::take(&mut *value))),
            None => Err(self.damaged("a sealed value does not open with its key")),
        }
    }

    /// The value that is cut into these parts.
    pub(crate) fn join(&self, parts: Parts) -> Result<Vec<u8>, StorageError> {
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

/// Binds a sealed value to its row, and through the row key to its tree.
pub(crate) fn value_aad(row_key: &[u8]) -> Vec<u8> {
    [SEAL_VALUE, row_key].concat()
}
