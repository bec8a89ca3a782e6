//! Someone who has every file of a data directory and the store key, and looks for texts that begin with
//! `marker-`. Written from the description of the files, not with the store's code.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use hmac::{Hmac, Mac};
use sha2::Sha256;

const PREFIX: &[u8; 8] = b"marker-0";
const MARKER_LEN: usize = 16;
const ZEROS: &[u8; 4096] = &[0; 4096];

/// The numbers of all markers that can be read or decrypted.
pub fn recover(dir: &Path, store_key: &[u8; 32]) -> BTreeSet<u32> {
    let files = read_all(dir);
    let wraps = find_wraps(&files, store_key);
    let keys = files.iter().flat_map(|bytes| find_keys(bytes, &wraps));
    // What a text begins with under each key, and in the open.
    let mut openings = HashMap::from([(*PREFIX, [0; MARKER_LEN])]);
    for key in keys {
        let stream = seal(&key, &[0; MARKER_LEN]);
        let opening: Vec<u8> = PREFIX.iter().zip(&stream).map(|(text, stream)| text ^ stream).collect();
        openings.insert(opening.try_into().unwrap(), stream[..MARKER_LEN].try_into().unwrap());
    }
    let mut found = BTreeSet::new();
    for window in files.iter().flat_map(|bytes| bytes.windows(MARKER_LEN)) {
        if let Some(stream) = openings.get(&window[..PREFIX.len()]) {
            let text: Vec<u8> = window.iter().zip(stream).map(|(byte, stream)| byte ^ stream).collect();
            found.extend(String::from_utf8(text).ok().and_then(|text| text[7..].parse::<u32>().ok()));
        }
    }
    found
}

/// How many keys the files still give away.
pub fn count_keys(dir: &Path, store_key: &[u8; 32]) -> usize {
    keys(dir, store_key).len()
}

/// All keys that the files still give away.
pub fn keys(dir: &Path, store_key: &[u8; 32]) -> Vec<[u8; 32]> {
    let files = read_all(dir);
    let wraps = find_wraps(&files, store_key);
    files.iter().flat_map(|bytes| find_keys(bytes, &wraps)).collect()
}

fn read_all(dir: &Path) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(read_all(&path));
        } else {
            files.extend(written(&fs::read(path).unwrap()));
        }
    }
    files
}

/// What lies between blocks of zeros, in which there is nothing to be found.
fn written(bytes: &[u8]) -> Vec<Vec<u8>> {
    let blocks: Vec<&[u8]> = bytes.chunks(ZEROS.len()).collect();
    let runs = blocks.split(|block| *block == &ZEROS[..block.len()]);
    runs.filter(|run| !run.is_empty()).map(<[&[u8]]>::concat).collect()
}

/// What shards may be wrapped under: what derives from each master that any `STORE` gives away, and from the store key itself, as up to
/// format 2.
fn find_wraps(files: &[Vec<u8>], store_key: &[u8; 32]) -> Vec<[u8; 32]> {
    let seal = mac(store_key, b"lanyard/storage/derive/store-seal/v1");
    let mut masters = vec![*store_key];
    let owners: Vec<_> = files.iter().flat_map(|bytes| lines(bytes, b"owner ", 32)).collect();
    for sealed in files.iter().flat_map(|bytes| lines(bytes, b"master ", 60)) {
        let open = |owner: &Vec<u8>| {
            let aad = [b"lanyard/storage/seal/store-secret/v1", &owner[..], b"master"].concat();
            unseal(&seal, &sealed[..12], &aad, &sealed[12..])
        };
        masters.extend(owners.iter().filter_map(open).map(|master| <[u8; 32]>::try_from(master).unwrap()));
    }
    masters.iter().map(|master| mac(master, b"lanyard/storage/derive/shard-wrap/v1")).collect()
}

/// The bytes that follow `name` in hexadecimal digits, wherever they do.
fn lines(bytes: &[u8], name: &[u8], len: usize) -> Vec<Vec<u8>> {
    let starts = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(name)).map(|at| at + name.len());
    let digits = |at: usize| std::str::from_utf8(bytes.get(at..at + 2 * len)?).ok();
    let parse = |text: &str| (0..len).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()).collect();
    starts.filter_map(digits).filter_map(parse).collect()
}

/// The keys of every shard that begins anywhere in these bytes.
fn find_keys(bytes: &[u8], wraps: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let starts = (0..bytes.len()).filter(|&at| bytes[at..].starts_with(b"LANYKEY1"));
    starts.flat_map(|at| wraps.iter().flat_map(move |wrap| shard_keys(&bytes[at..], wrap))).collect()
}

/// HMAC-SHA-256.
pub fn mac(key: &[u8; 32], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().into()
}

fn shard_keys(bytes: &[u8], wrap: &[u8; 32]) -> Vec<[u8; 32]> {
    let mut keys = Vec::new();
    let Some((header, mut rest)) = bytes.split_at_checked(80) else {
        return keys;
    };
    let prefix = &header[..20];
    let aad = [b"lanyard/storage/seal/shard-header/v1", prefix].concat();
    let Some(wrapping) = unseal(wrap, &header[20..32], &aad, &header[32..]) else {
        return keys;
    };
    let wrapping: [u8; 32] = wrapping.try_into().unwrap();
    for index in 0u64.. {
        let Some((len, after)) = rest.split_first_chunk::<4>() else {
            break;
        };
        let Some((frame, after)) = after.split_at_checked(12 + u32::from_be_bytes(*len) as usize) else {
            break;
        };
        let aad = [b"lanyard/storage/seal/shard-frame/v1", prefix, &index.to_be_bytes()].concat();
        let Some(entries) = unseal(&wrapping, &frame[..12], &aad, &frame[12..]) else {
            break;
        };
        keys.extend(entries.chunks(40).map(|entry| <[u8; 32]>::try_from(&entry[8..]).unwrap()));
        rest = after;
    }
    keys
}

fn unseal(key: &[u8; 32], nonce: &[u8], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let nonce: [u8; 12] = nonce.try_into().ok()?;
    Aes256Gcm::new(key.into()).decrypt(&nonce.into(), Payload { msg: sealed, aad }).ok()
}

/// Sealing zeros gives the key stream: values are sealed with a nonce of zeros.
fn seal(key: &[u8; 32], text: &[u8]) -> Vec<u8> {
    Aes256Gcm::new(key.into()).encrypt(&[0; 12].into(), text).unwrap()
}
