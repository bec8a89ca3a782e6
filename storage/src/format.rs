//! The file `STORE` of a data directory: which format it has, whose it is, which rows are in force, and the secrets of the store, sealed
//! under the node's key.
//!
//! It is plain text beside the rows, not a row among them, so that it can be read before anything else is opened: a newer version may
//! have changed everything else. Its first two lines keep their form for ever.
//!
//! The secrets are the masters, from which the key that wraps the shards derives, and the secret of row keys. There are two masters only
//! while the node's key is being rotated: the newer one, and the one under which some shards still are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;

use crate::StorageError;
use crate::files::Files;
use crate::labels::{DERIVE_KEY_CHECK, DERIVE_ROW_KEY, DERIVE_STORE_SEAL, SEAL_STORE_SECRET};
use crate::seal::{NONCE_BYTES, Secret, TAG_BYTES, random_bytes};

/// The format that this version writes. Since 2, the engine keeps digests of its index, and hashes in its audit log; it makes them itself
/// when it finds none. Since 3, the node's key seals secrets in `STORE`, and no longer makes them.
pub(crate) const FORMAT: u32 = 3;

/// The first format with sealed secrets.
const FORMAT_SEALED: u32 = 3;

const TITLE: &str = "lanyard-store";
const ROW_KEY: &str = "row-key";
const MASTER: &str = "master";
const MASTERS_MAX: usize = 2;

/// The secrets of a store.
#[derive(Clone)]
pub(crate) struct Secrets {
    /// Makes row keys of sealed trees opaque. Rotating the node's key keeps it, since every sealed row is found by it.
    pub(crate) row_key: Secret,
    /// What the shards are wrapped under, newest first; at least one.
    pub(crate) masters: Vec<Secret>,
}

/// What `STORE` says.
#[derive(Clone)]
pub(crate) struct Marker {
    dir: PathBuf,
    owner: [u8; 32],
    /// Which directory of rows is in force.
    pub(crate) rows: u64,
    key_check: String,
    /// The lines of the secrets, sealed.
    sealed: Vec<String>,
}

/// A marker that was read, with what it seals.
pub(crate) struct Opened {
    pub(crate) marker: Marker,
    pub(crate) secrets: Secrets,
    /// The format that was found.
    pub(crate) found: u32,
}

impl Marker {
    /// A marker of the store in `dir`, which [`write`](Marker::write) brings into force.
    pub(crate) fn new(
        dir: &Path,
        owner: [u8; 32],
        store_key: &Secret,
        secrets: &Secrets,
    ) -> Result<Self, StorageError> {
        let marker =
            Self { dir: dir.to_owned(), owner, rows: 0, key_check: String::new(), sealed: Vec::new() };
        marker.sealing(store_key, secrets)
    }

    /// The same store with these secrets, under this key of the node.
    pub(crate) fn sealing(mut self, store_key: &Secret, secrets: &Secrets) -> Result<Self, StorageError> {
        let seal = store_key.derive(DERIVE_STORE_SEAL);
        let named = std::iter::once((ROW_KEY, &secrets.row_key))
            .chain(secrets.masters.iter().map(|master| (MASTER, master)));
        self.key_check = to_hex(store_key.derive(DERIVE_KEY_CHECK).as_bytes());
        self.sealed = named
            .map(|(name, secret)| {
                let nonce = random_bytes()?;
                let sealed = seal.seal(nonce, &secret_aad(&self.owner, name), secret.as_bytes());
                Ok(format!("{name} {}", to_hex(&[&nonce[..], &sealed].concat())))
            })
            .collect::<Result<_, StorageError>>()?;
        Ok(self)
    }

    /// That of a copy of the store in another directory.
    pub(crate) fn of_copy(mut self, dir: &Path) -> Self {
        (self.dir, self.rows) = (dir.to_owned(), 0);
        self
    }

    /// Brings the marker into force, in place of the one that is there, which is destroyed: what it sealed can't be opened from it
    /// any more.
    pub(crate) fn write(&self, files: &Files) -> Result<(), StorageError> {
        let owner = to_hex(&self.owner);
        let head = format!(
            "{TITLE}\nformat {FORMAT}\nowner {owner}\nkey-check {}\nrows {}\n",
            self.key_check, self.rows
        );
        let text = self.sealed.iter().fold(head, |text, line| format!("{text}{line}\n"));
        files.exchange(&path(&self.dir), &draft(&self.dir), &old(&self.dir), text.as_bytes())
    }

    /// The directory of the rows that are in force.
    pub(crate) fn rows_dir(&self) -> PathBuf {
        rows_dir(&self.dir, self.rows)
    }
}

/// Reads what `STORE` says and seals, for this owner and under this key, and removes what a crash has left of an earlier or later one.
/// None if there is no store yet.
pub(crate) fn read(
    files: &Files,
    dir: &Path,
    owner: &[u8; 32],
    store_key: &Secret,
) -> Result<Option<Opened>, StorageError> {
    files.restore_exchanged(&path(dir), &old(dir))?;
    let file = path(dir);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // After a compaction the rows are in a directory with a number, which opening would remove as one that is not in force.
            if !other_rows(dir, None)?.is_empty() || has_entries(&dir.join("keys"))? {
                return Err(StorageError::damaged(&file, "it is missing, although there are rows or keys"));
            }
            return Ok(None);
        }
        Err(error) => return Err(StorageError::io(&file, error)),
    };
    let opened = decode(dir, &file, &text, owner, store_key)?;
    files.destroy(&draft(dir))?;
    files.destroy(&old(dir))?;
    Ok(Some(opened))
}

/// The directories of rows in `dir` but for the one that is in force, if one is: what a crash has left of a compaction.
pub(crate) fn other_rows(dir: &Path, in_force: Option<&Path>) -> Result<Vec<PathBuf>, StorageError> {
    let failed = |error| StorageError::io(dir, error);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let rows = name == "rows" || name.strip_prefix("rows.").is_some_and(|n| n.parse::<u64>().is_ok());
        if rows && Some(path.as_path()) != in_force {
            found.push(path);
        }
    }
    Ok(found)
}

fn has_entries(dir: &Path) -> Result<bool, StorageError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StorageError::io(dir, error)),
    }
}

fn decode(
    dir: &Path,
    path: &Path,
    text: &str,
    owner: &[u8; 32],
    store_key: &Secret,
) -> Result<Opened, StorageError> {
    let damaged = |what: &str| StorageError::damaged(path, what);
    let mut lines = text.lines();
    if lines.next() != Some(TITLE) {
        return Err(damaged(&format!("its first line is not \"{TITLE}\"")));
    }
    let mut field = |name: &'static str| {
        let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.ok_or_else(|| StorageError::damaged(path, format!("the line \"{name}\" is missing")))
    };
    let found: u32 = field("format")?.parse().map_err(|_| damaged("its format is not a number"))?;
    if found > FORMAT {
        return Err(StorageError::NewerFormat { dir: dir.to_owned(), found, supported: FORMAT });
    }
    if field("owner")? != to_hex(owner) {
        return Err(StorageError::OtherOwner(dir.to_owned()));
    }
    let key_check = to_hex(store_key.derive(DERIVE_KEY_CHECK).as_bytes());
    if !bool::from(field("key-check")?.as_bytes().ct_eq(key_check.as_bytes())) {
        return Err(StorageError::WrongStoreKey(dir.to_owned()));
    }
    if found < FORMAT_SEALED {
        // Its secrets derive from the node's key, which is therefore its master until the key is rotated.
        let secrets = Secrets { row_key: store_key.derive(DERIVE_ROW_KEY), masters: vec![store_key.clone()] };
        return Ok(Opened { marker: Marker::new(dir, *owner, store_key, &secrets)?, secrets, found });
    }
    let rows = field("rows")?.parse().map_err(|_| damaged("its number of rows is not a number"))?;
    let seal = store_key.derive(DERIVE_STORE_SEAL);
    let unsealed = |line: &str, name: &str| {
        let bytes = line.strip_prefix(name)?.strip_prefix(' ').and_then(from_hex)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let secret = seal.open(*nonce, &secret_aad(owner, name), sealed)?;
        Some(Secret::new(secret.as_slice().try_into().ok()?))
    };
    let sealed: Vec<String> = lines.map(str::to_owned).collect();
    let row_key = sealed.first().and_then(|line| unsealed(line, ROW_KEY));
    let masters: Option<Vec<Secret>> = sealed.iter().skip(1).map(|line| unsealed(line, MASTER)).collect();
    let (Some(row_key), Some(masters)) = (row_key, masters.filter(|m| (1..=MASTERS_MAX).contains(&m.len())))
    else {
        return Err(damaged("the secrets in it can't be opened"));
    };
    let marker = Marker { dir: dir.to_owned(), owner: *owner, rows, key_check, sealed };
    Ok(Opened { marker, secrets: Secrets { row_key, masters }, found })
}

/// Binds a secret to its store and to what it is for.
fn secret_aad(owner: &[u8; 32], name: &str) -> Vec<u8> {
    [SEAL_STORE_SECRET, owner, name.as_bytes()].concat()
}

fn path(dir: &Path) -> PathBuf {
    dir.join("STORE")
}

fn draft(dir: &Path) -> PathBuf {
    dir.join("STORE.new")
}

fn old(dir: &Path) -> PathBuf {
    dir.join("STORE.old")
}

fn rows_dir(dir: &Path, number: u64) -> PathBuf {
    if number == 0 { dir.join("rows") } else { dir.join(format!("rows.{number}")) }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a sealed secret, and nothing of another length.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits =
        text.len() == 2 * (NONCE_BYTES + 32 + TAG_BYTES) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).ok();
    if digits { (0..text.len()).step_by(2).map(byte).collect() } else { None }
}
