//! The file `STORE` of a data directory: which format it has, whose it is, and under which store key.
//!
//! It is plain text beside the rows, not a row among them, so that it can be read before anything else is
//! opened: a newer version may have changed everything else. Its first two lines keep their form for ever.

use std::fs;
use std::io;
use std::path::Path;

use subtle::ConstantTimeEq;

use crate::labels::DERIVE_KEY_CHECK;
use crate::seal::Secret;
use crate::{StorageError, files};

/// The format that this version writes. Since 2, the engine keeps digests of its index, and hashes in its audit log; it makes them itself
/// when it finds none.
pub(crate) const FORMAT: u32 = 2;

const FILE: &str = "STORE";
const DRAFT: &str = "STORE.new";
const TITLE: &str = "lanyard-store";

/// Checks that the data directory is of a known format, of this owner and under this store key, or makes it
/// so if it is new. `rows` is the directory whose presence tells that it is not. Returns the format that it has.
pub(crate) fn check_or_create(
    dir: &Path,
    rows: &Path,
    owner: &[u8; 32],
    store_key: &Secret,
) -> Result<u32, StorageError> {
    let path = dir.join(FILE);
    let key_check = store_key.derive(DERIVE_KEY_CHECK);
    match fs::read_to_string(&path) {
        Ok(text) => check(dir, &path, &text, owner, &key_check),
        Err(error) if error.kind() == io::ErrorKind::NotFound && rows.exists() => {
            Err(StorageError::damaged(&path, "it is missing, although there are rows"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write(dir, owner, store_key)?;
            Ok(FORMAT)
        }
        Err(error) => Err(StorageError::io(&path, error)),
    }
}

/// Says that the data directory has this version's format, before anything is written that an earlier one would misread.
pub(crate) fn write(dir: &Path, owner: &[u8; 32], store_key: &Secret) -> Result<(), StorageError> {
    let key_check = store_key.derive(DERIVE_KEY_CHECK);
    let (owner, key_check) = (to_hex(owner), to_hex(key_check.as_bytes()));
    let text = format!("{TITLE}\nformat {FORMAT}\nowner {owner}\nkey-check {key_check}\n");
    files::replace(&dir.join(FILE), &dir.join(DRAFT), text.as_bytes())
}

fn check(
    dir: &Path,
    path: &Path,
    text: &str,
    owner: &[u8; 32],
    key_check: &Secret,
) -> Result<u32, StorageError> {
    let mut lines = text.lines();
    if lines.next() != Some(TITLE) {
        return Err(StorageError::damaged(path, format!("its first line is not \"{TITLE}\"")));
    }
    let mut field = |name: &'static str| {
        let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.ok_or_else(|| StorageError::damaged(path, format!("the line \"{name}\" is missing")))
    };
    let found = field("format")?;
    let found = found.parse().map_err(|_| StorageError::damaged(path, "its format is not a number"))?;
    if found > FORMAT {
        return Err(StorageError::NewerFormat { dir: dir.to_owned(), found, supported: FORMAT });
    }
    if field("owner")? != to_hex(owner) {
        return Err(StorageError::OtherOwner(dir.to_owned()));
    }
    let expected = to_hex(key_check.as_bytes());
    if !bool::from(field("key-check")?.as_bytes().ct_eq(expected.as_bytes())) {
        return Err(StorageError::WrongStoreKey(dir.to_owned()));
    }
    Ok(found)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
