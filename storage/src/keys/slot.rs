//! The file that holds a shard of keys.
//!
//! Integers are big-endian. A header of 80 bytes: magic, shard u32, generation u64, nonce, and the shard's
//! wrapping key, sealed under a key that derives from a master of the store. Then frames: length u32, nonce, and
//! entries (key id, key) sealed under the wrapping key. The first frame is what the file was written with; each
//! later one was appended. What is sealed is bound to its shard, generation and place.
//!
//! A slot gets its name only when it is whole, so that a crash can tear nothing but the last appended frame,
//! which nobody was told of yet.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use super::KeyId;
use crate::StorageError;
use crate::labels::{SEAL_SHARD_FRAME, SEAL_SHARD_HEADER};
use crate::limits::SHARD_BYTES_MAX;
use crate::seal::{NONCE_BYTES, Secret, TAG_BYTES, random_bytes};

const MAGIC: &[u8; 8] = b"LANYKEY1";
const PREFIX_LEN: usize = MAGIC.len() + 4 + 8;
const HEADER_LEN: usize = PREFIX_LEN + NONCE_BYTES + 32 + TAG_BYTES;
/// The length of an entry: a key's name and the key.
pub(super) const ENTRY_LEN: usize = 8 + 32;

/// What a slot holds.
pub(super) enum Slot {
    /// Readable.
    Whole(Content),
    /// Destroyed, or empty.
    Blank,
    /// Neither: why.
    Broken(&'static str),
}

/// A readable slot.
pub(super) struct Content {
    /// Which rewrite of the shard this is.
    pub(super) place: Place,
    /// The key that its frames are sealed under.
    pub(super) wrapping: Secret,
    /// Which of the wraps that key is sealed under.
    pub(super) wrap: usize,
    /// Frames so far.
    pub(super) frames: u64,
    /// All keys, in the order in which they were added.
    pub(super) keys: Vec<(KeyId, Secret)>,
    /// Where the last whole frame ends; what follows is torn.
    pub(super) whole_len: u64,
    /// Whether anything follows.
    pub(super) torn: bool,
}

/// Which shard, and which rewrite of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The shard's number.
    pub(super) shard: u32,
    /// Grows by one with each rewrite.
    pub(super) generation: u64,
}

/// The bytes of a new slot with these keys, under a fresh wrapping key, which is returned too.
pub(super) fn encode<'a>(
    wrap: &Secret,
    place: Place,
    keys: impl Iterator<Item = (KeyId, &'a Secret)>,
) -> Result<(Vec<u8>, Secret), StorageError> {
    let wrapping = Secret::random()?;
    let nonce = random_bytes()?;
    let mut bytes = prefix(place);
    let sealed = wrap.seal(nonce, &[SEAL_SHARD_HEADER, &bytes].concat(), wrapping.as_bytes());
    bytes.extend(nonce);
    bytes.extend(sealed);
    bytes.extend(encode_frame(&wrapping, place, 0, keys)?);
    Ok((bytes, wrapping))
}

/// The bytes of the frame that comes after `index` others.
pub(super) fn encode_frame<'a>(
    wrapping: &Secret,
    place: Place,
    index: u64,
    keys: impl Iterator<Item = (KeyId, &'a Secret)>,
) -> Result<Vec<u8>, StorageError> {
    let mut entries = Zeroizing::new(Vec::new());
    for (id, key) in keys {
        entries.extend(id);
        entries.extend(key.as_bytes());
    }
    let nonce = random_bytes()?;
    let sealed = wrapping.seal(nonce, &frame_aad(place, index), &entries);
    let len = u32::try_from(sealed.len()).expect("a shard's keys are below the limit of its file");
    Ok([&len.to_be_bytes()[..], &nonce, &sealed].concat())
}

/// Reads the slot at `path`, which should be of this shard, under any of these wraps.
pub(super) fn read(wraps: &[Secret], shard: u32, path: &Path) -> Result<Slot, StorageError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| StorageError::io(path, error))?;
    file.take(SHARD_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| StorageError::io(path, error))?;
    if bytes.len() as u64 > SHARD_BYTES_MAX {
        return Ok(Slot::Broken("it is longer than any shard"));
    }
    Ok(decode(wraps, shard, &bytes))
}

fn decode(wraps: &[Secret], shard: u32, bytes: &[u8]) -> Slot {
    if bytes.iter().take(HEADER_LEN).all(|&byte| byte == 0) {
        return Slot::Blank;
    }
    let Some((header, mut rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Slot::Broken("its header is cut short");
    };
    let opened = wraps.iter().map(|wrap| decode_header(wrap, header)).enumerate();
    let Some((wrap, (place, wrapping))) = opened.filter_map(|(n, opened)| Some((n, opened?))).next() else {
        return Slot::Broken("its header can't be opened");
    };
    if place.shard != shard {
        return Slot::Broken("it is another shard's");
    }
    let (mut frames, mut keys) = (0, Vec::new());
    while let Some((len, frame)) = split_frame(rest) {
        let after = &rest[len..];
        match decode_frame(&wrapping, place, frames, frame) {
            Some(entries) => keys.extend(entries),
            // The last append, not acknowledged: bytes that were never written may read as anything.
            None if after.is_empty() => break,
            None => return Slot::Broken("a frame in its middle can't be opened"),
        }
        frames += 1;
        rest = after;
    }
    if frames == 0 {
        return Slot::Broken("its first frame can't be opened");
    }
    let whole_len = (bytes.len() - rest.len()) as u64;
    Slot::Whole(Content { place, wrapping, wrap, frames, keys, whole_len, torn: !rest.is_empty() })
}

fn decode_header(wrap: &Secret, header: &[u8; HEADER_LEN]) -> Option<(Place, Secret)> {
    let (prefix, sealed) = header.split_first_chunk::<PREFIX_LEN>()?;
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let (shard, generation) = prefix.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
    let place = Place {
        shard: u32::from_be_bytes(*shard),
        generation: u64::from_be_bytes(generation.try_into().ok()?),
    };
    let wrapping = wrap.open(*nonce, &[SEAL_SHARD_HEADER, prefix].concat(), sealed)?;
    Some((place, Secret::new(wrapping.as_slice().try_into().ok()?)))
}

/// The length of the first frame in all, and its nonce and sealed entries. None if the rest is too short, or
/// is zeros that a file system left for bytes which it never wrote.
fn split_frame(rest: &[u8]) -> Option<(usize, &[u8])> {
    let (len, body) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_be_bytes(*len)).ok().filter(|&len| len >= TAG_BYTES)?;
    let frame = body.get(..len.checked_add(NONCE_BYTES)?)?;
    Some((4 + frame.len(), frame))
}

fn decode_frame(wrapping: &Secret, place: Place, index: u64, frame: &[u8]) -> Option<Vec<(KeyId, Secret)>> {
    let (nonce, sealed) = frame.split_first_chunk::<NONCE_BYTES>()?;
    let entries = wrapping.open(*nonce, &frame_aad(place, index), sealed)?;
    let entry = |bytes: &[u8]| {
        let (id, key) = bytes.split_first_chunk()?;
        Some((*id, Secret::new(key.try_into().ok()?)))
    };
    entries.chunks(ENTRY_LEN).map(entry).collect()
}

fn prefix(place: Place) -> Vec<u8> {
    [&MAGIC[..], &place.shard.to_be_bytes(), &place.generation.to_be_bytes()].concat()
}

fn frame_aad(place: Place, index: u64) -> Vec<u8> {
    [SEAL_SHARD_FRAME, &prefix(place), &index.to_be_bytes()].concat()
}
