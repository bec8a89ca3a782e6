//! What a store promises, tested from outside, on every backend.

// The lint knows test functions, not what they call.
#![allow(clippy::unwrap_used)]

mod attacker;
mod compaction;
mod concurrency;
mod contract;
mod crash;
mod erasure;
mod memory;
mod model;
mod opening;
mod rotation;
mod shards;

use std::path::Path;

use lanyard_storage::{Batch, SledOptions, SledStore, StorageError, Store, Tree, View, limits};
use tempfile::TempDir;
use zeroize::Zeroizing;

const OWNER: [u8; 32] = [1; 32];
const STORE_KEY: [u8; 32] = [2; 32];

fn open(dir: &Path) -> Result<SledStore, StorageError> {
    open_as(dir, OWNER, STORE_KEY)
}

fn open_as(dir: &Path, owner: [u8; 32], store_key: [u8; 32]) -> Result<SledStore, StorageError> {
    let (dir, store_key) = (dir.to_owned(), Zeroizing::new(store_key));
    SledStore::open(SledOptions { dir, owner, store_key, cache_bytes: limits::CACHE_BYTES_DEFAULT })
}

/// A text that begins with its own name, of `len` bytes or a little more: what the attacker looks for.
fn marked(number: u32, len: usize) -> Vec<u8> {
    let mut text = format!("marker-{number:09}").into_bytes();
    text.resize(len.max(text.len()), b'.');
    text
}

fn put_envelope(store: &impl Store, number: u32) {
    let mut batch = Batch::new();
    batch.put(Tree::Envelopes, number.to_be_bytes(), marked(number, 300));
    store.commit(batch).unwrap();
}

fn delete_envelope(store: &impl Store, number: u32) {
    let mut batch = Batch::new();
    batch.delete(Tree::Envelopes, number.to_be_bytes());
    store.commit(batch).unwrap();
}

/// Which of the numbers have an envelope. What is there must be whole.
fn envelopes(store: &impl View, numbers: std::ops::Range<u32>) -> Vec<u32> {
    let there = |number: &u32| match store.get(Tree::Envelopes, &number.to_be_bytes()).unwrap() {
        Some(value) => {
            assert_eq!(value, marked(*number, 300));
            true
        }
        None => false,
    };
    numbers.filter(there).collect()
}

/// A copy of a directory, in one of its own.
fn copy(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir, copy.path());
    copy
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
