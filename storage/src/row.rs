//! How a value stands on disk.
//!
//! A row is: version, one byte; form, one byte (bit 0: in parts, bit 1: sealed); if sealed, the shard u32 and id
//! (8 bytes) of its key; then the value, or, in parts, their id (16 bytes) and the value's length u32. The parts
//! are rows of a tree of their own, with key id ‖ number u16. Integers are big-endian.

use crate::keys::KeyRef;
use crate::limits::{PART_BYTES, VALUE_BYTES_MAX};
use crate::seal::TAG_BYTES;

/// The version of rows that this version of the program writes.
const VERSION: u8 = 1;

const IN_PARTS: u8 = 1;
const SEALED: u8 = 2;

/// Names the parts of a value; random.
pub(crate) type PartsId = [u8; 16];

/// A row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RowData {
    /// Which key its value is sealed under, if it is.
    pub(crate) key: Option<KeyRef>,
    /// Where the value (or its ciphertext) is.
    pub(crate) body: Body,
}

/// Where a row's value is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// In the row.
    Inline(Vec<u8>),
    /// In parts.
    Parts(Parts),
}

/// A value in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Their name.
    pub(crate) id: PartsId,
    /// The length of all of them together, in bytes.
    pub(crate) len: u32,
}

impl RowData {
    /// The row's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let in_parts = if matches!(self.body, Body::Parts(_)) { IN_PARTS } else { 0 };
        let sealed = if self.key.is_some() { SEALED } else { 0 };
        let mut bytes = vec![VERSION, in_parts | sealed];
        if let Some(key) = self.key {
            bytes.extend(key.to_bytes());
        }
        match &self.body {
            Body::Inline(value) => bytes.extend(value),
            Body::Parts(parts) => {
                bytes.extend(parts.id);
                bytes.extend(parts.len.to_be_bytes());
            }
        }
        bytes
    }

    /// The row of these bytes, or what is wrong with them.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let short = || "a row is cut short".to_owned();
        let (&[version, form], mut rest) = bytes.split_first_chunk().ok_or_else(short)?;
        if version != VERSION {
            return Err(format!("a row has version {version}, and {VERSION} is known"));
        }
        if form & !(IN_PARTS | SEALED) != 0 {
            return Err(format!("a row has form {form}"));
        }
        let mut key = None;
        if form & SEALED != 0 {
            let (bytes, after) = rest.split_at_checked(KeyRef::BYTES).ok_or_else(short)?;
            key = KeyRef::from_bytes(bytes);
            rest = after;
        }
        if form & IN_PARTS == 0 {
            return Ok(Self { key, body: Body::Inline(rest.to_vec()) });
        }
        let (id, len) = rest.split_first_chunk().ok_or_else(short)?;
        let len = u32::from_be_bytes(len.try_into().map_err(|_| short())?);
        if len as usize > VALUE_BYTES_MAX + TAG_BYTES {
            return Err(format!("a row has {len} bytes in parts"));
        }
        Ok(Self { key, body: Body::Parts(Parts { id: *id, len }) })
    }
}

impl Parts {
    /// The keys of the parts' rows, in order.
    pub(crate) fn keys(self) -> impl Iterator<Item = Vec<u8>> {
        let count = (self.len as usize).div_ceil(PART_BYTES);
        let count = u16::try_from(count).expect("a value's length is bounded, and so are its parts");
        (0..count).map(move |number| [&self.id[..], &number.to_be_bytes()].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_encoding() {
        let key = Some(KeyRef { shard: 7, id: [1; 8] });
        for key in [None, key] {
            for body in [
                Body::Inline(vec![]),
                Body::Inline(vec![2; 9]),
                Body::Parts(Parts { id: [3; 16], len: 5000 }),
            ] {
                let row = RowData { key, body };
                assert_eq!(RowData::decode(&row.encode()).as_ref(), Ok(&row));
            }
        }
    }

    #[test]
    fn damaged_rows_are_refused() {
        let parts = RowData { key: None, body: Body::Parts(Parts { id: [3; 16], len: 5000 }) }.encode();
        let sealed =
            RowData { key: Some(KeyRef { shard: 7, id: [1; 8] }), body: Body::Inline(vec![]) }.encode();
        for bytes in [&[][..], &[VERSION], &[VERSION + 1, 0], &[VERSION, 4], &sealed[..13], &parts[..21]] {
            assert!(RowData::decode(bytes).is_err(), "{bytes:?}");
        }
        let mut long = parts;
        long[18..22].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(RowData::decode(&long).is_err());
    }
}
