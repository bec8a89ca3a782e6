//! The keys of sealed values, kept where they can be destroyed (P6).
//!
//! No store of sled's kind removes a deleted value from the disk, so what is deleted must be a key. The keys
//! live in shards: small files, each under a wrapping key of its own ([`slot`]). New keys are appended to the
//! newest shard, so that values of the same age share one and expire together. To erase keys, their shard is
//! written again without them, under a fresh wrapping key, to the other of two alternating slots; then the old
//! slot, which alone can open what was written under the old wrapping key, is overwritten and removed.
//!
//! A crash at any point leaves a slot that is whole: the old one, until the new one has its name and is synced.
//! If both are there, the newer stands, and the old one is destroyed on opening. Tolerated: a crash, a torn
//! append, a torn draft. Not tolerated: a file system that keeps the old blocks of an overwritten file
//! (copy-on-write, snapshots, worn flash), together with the store key.

mod slot;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::StorageError;
use crate::files::{self, Files};
use crate::limits::{REWRITE_SHARDS, SHARD_KEYS_MAX};
use crate::seal::{Secret, random_bytes};
use slot::{Content, Place, Slot};

/// Names a key within its shard; random.
pub(crate) type KeyId = [u8; 8];

/// Names a key: what a sealed row says of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyRef {
    /// The shard's number.
    pub(crate) shard: u32,
    /// The key in it.
    pub(crate) id: KeyId,
}

impl KeyRef {
    /// The length of [`KeyRef::to_bytes`].
    pub(crate) const BYTES: usize = 12;

    /// As it stands in a row: shard u32 and id.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.shard.to_be_bytes());
        bytes[4..].copy_from_slice(&self.id);
        bytes
    }

    /// Of [`KeyRef::to_bytes`]; none if there are more or fewer.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (shard, id) = bytes.split_first_chunk()?;
        Some(Self { shard: u32::from_be_bytes(*shard), id: id.try_into().ok()? })
    }
}

/// All keys in memory, for readers on any thread.
#[derive(Debug, Default)]
pub(crate) struct Keyring(RwLock<BTreeMap<KeyRef, Secret>>);

impl Keyring {
    /// The key, unless it was erased.
    pub(crate) fn get(&self, key: KeyRef) -> Option<Secret> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// Whether it is there.
    pub(crate) fn holds(&self, key: KeyRef) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(&key)
    }

    fn update<T>(&self, change: impl FnOnce(&mut BTreeMap<KeyRef, Secret>) -> T) -> T {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The key files. Owned by the store's only writer; readers share the [`Keyring`].
pub(crate) struct KeyShards {
    files: Files,
    dir: PathBuf,
    /// Wrap the shards' wrapping keys. New slots are wrapped under the first; a second is there only while the shards move from it.
    wraps: Vec<Secret>,
    shards: BTreeMap<u32, Shard>,
    /// Shards that still hold keys which are erased in memory, since when.
    stale: BTreeMap<u32, Instant>,
    /// The shard whose old slot is yet to be destroyed.
    renewed: Option<u32>,
    ring: Arc<Keyring>,
}

struct Shard {
    generation: u64,
    wrapping: Secret,
    frames: u64,
    keys: usize,
    /// Whether it is wrapped under the first of the wraps.
    current: bool,
    /// The slot that it has been written anew from, and that is yet to be destroyed.
    old: Option<Place>,
}

impl KeyShards {
    /// Reads all shards in `dir`, which are wrapped under any of `wraps`, newest first, and finishes what a crash interrupted.
    pub(crate) fn open(files: Files, dir: PathBuf, wraps: Vec<Secret>) -> Result<Self, StorageError> {
        files::create_dir(&dir)?;
        let found = list_slots(&dir)?;
        let mut keys = Self {
            files,
            dir,
            wraps,
            shards: BTreeMap::new(),
            stale: BTreeMap::new(),
            renewed: None,
            ring: Arc::default(),
        };
        for (shard, paths) in found {
            keys.load_shard(shard, paths)?;
        }
        keys.files.sync_dir(&keys.dir)?;
        Ok(keys)
    }

    /// The keys, for readers.
    pub(crate) fn ring(&self) -> Arc<Keyring> {
        self.ring.clone()
    }

    /// Makes `count` new keys. Once this returns, they would survive a crash; those that no row names are
    /// dropped when the store is opened.
    pub(crate) fn create(&mut self, count: usize) -> Result<Vec<KeyRef>, StorageError> {
        let mut created = Vec::new();
        while created.len() < count {
            let newest = self.shards.last_key_value().filter(|(_, shard)| shard.keys < SHARD_KEYS_MAX);
            let (number, room) = match newest {
                Some((&number, shard)) => (number, SHARD_KEYS_MAX - shard.keys),
                None => (self.shards.last_key_value().map_or(0, |(&number, _)| number + 1), SHARD_KEYS_MAX),
            };
            let mut fresh = BTreeMap::new();
            while fresh.len() < room.min(count - created.len()) {
                let key = KeyRef { shard: number, id: random_bytes()? };
                if !self.ring.holds(key) {
                    fresh.insert(key, Secret::random()?);
                }
            }
            self.append(number, &fresh)?;
            created.extend(fresh.keys());
            self.ring.update(|ring| ring.extend(fresh));
        }
        Ok(created)
    }

    /// Erases keys. Once this returns, they are neither in memory nor on disk, and what they sealed is noise.
    pub(crate) fn erase(&mut self, erased: &BTreeSet<KeyRef>) -> Result<(), StorageError> {
        self.forget(erased);
        let shards: BTreeSet<u32> = erased.iter().map(|key| key.shard).collect();
        self.rewrite(&shards.into_iter().collect::<Vec<_>>())
    }

    /// Erases keys from memory at once, so that nothing reads what they sealed, and leaves the disk to [`tidy`](Self::tidy).
    pub(crate) fn forget(&mut self, erased: &BTreeSet<KeyRef>) {
        self.ring.update(|ring| erased.iter().for_each(|key| drop(ring.remove(key))));
        for key in erased {
            self.stale.entry(key.shard).or_insert_with(Instant::now);
        }
    }

    /// Goes one step on with erasing forgotten keys from the disk: destroys the slot from which a shard was written anew, or writes
    /// that one anew which has waited longest, if it has waited for so long. Tells whether there was anything to do.
    pub(crate) fn tidy(&mut self, wait: Duration) -> Result<bool, StorageError> {
        if let Some(number) = self.renewed {
            return self.end(&[number]).map(|()| true);
        }
        match self.longest_waiting().filter(|(since, _)| since.elapsed() >= wait) {
            Some((_, number)) => {
                self.renew(&[number])?;
                self.renewed = Some(number);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// How long it is until there is something to do for [`tidy`](Self::tidy); none if nothing waits.
    pub(crate) fn tidy_in(&self, wait: Duration) -> Option<Duration> {
        if self.renewed.is_some() {
            return Some(Duration::ZERO);
        }
        self.longest_waiting().map(|(since, _)| wait.saturating_sub(since.elapsed()))
    }

    fn longest_waiting(&self) -> Option<(Instant, u32)> {
        self.stale.iter().map(|(number, since)| (*since, *number)).min()
    }

    /// Erases every key but those in `live`, and returns how many these were.
    pub(crate) fn retain(&mut self, live: &BTreeSet<KeyRef>) -> Result<usize, StorageError> {
        let all = self.ring.update(|ring| ring.keys().copied().collect::<BTreeSet<_>>());
        let unused: BTreeSet<_> = all.difference(live).copied().collect();
        self.erase(&unused)?;
        Ok(unused.len())
    }

    /// Wraps new slots under `wrap` from now on; [`move_all`](KeyShards::move_all) moves the others.
    pub(crate) fn wrap_under(&mut self, wrap: Secret) {
        self.wraps.insert(0, wrap);
        self.shards.values_mut().for_each(|shard| shard.current = false);
    }

    /// Writes every shard again that is under an earlier wrap, which nothing is under once this returns.
    pub(crate) fn move_all(&mut self) -> Result<(), StorageError> {
        let outdated = self.shards.iter().filter(|(_, shard)| !shard.current).map(|(&number, _)| number);
        self.rewrite(&outdated.collect::<Vec<_>>())?;
        self.wraps.truncate(1);
        Ok(())
    }

    /// What the keys that are kept take in their files, in bytes.
    pub(crate) fn live_bytes(&self) -> u64 {
        let keys: usize = self.shards.values().map(|shard| shard.keys).sum();
        (keys * slot::ENTRY_LEN) as u64
    }

    /// Where their files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files of all shards.
    pub(crate) fn slots(&self) -> impl Iterator<Item = PathBuf> {
        let place = |(&shard, of): (&u32, &Shard)| Place { shard, generation: of.generation };
        self.shards.iter().map(place).map(|place| slot_path(&self.dir, place))
    }

    fn append(&mut self, number: u32, fresh: &BTreeMap<KeyRef, Secret>) -> Result<(), StorageError> {
        // The presence of an old slot says that nothing was appended to the new one yet.
        self.end(&[number])?;
        let entries = fresh.iter().map(|(key, secret)| (key.id, secret));
        let Some(shard) = self.shards.get_mut(&number) else {
            let place = Place { shard: number, generation: 0 };
            let (bytes, wrapping) = slot::encode(&self.wraps[0], place, entries)?;
            self.files.replace(&slot_path(&self.dir, place), &draft_path(&self.dir, number), &bytes)?;
            let shard =
                Shard { generation: 0, wrapping, frames: 1, keys: fresh.len(), current: true, old: None };
            self.shards.insert(number, shard);
            return Ok(());
        };
        let place = Place { shard: number, generation: shard.generation };
        let frame = slot::encode_frame(&shard.wrapping, place, shard.frames, entries)?;
        self.files.append(&slot_path(&self.dir, place), &frame)?;
        shard.frames += 1;
        shard.keys += fresh.len();
        Ok(())
    }

    /// Writes shards again with the keys that are still in memory, and destroys what they were. Each step is taken for several of them
    /// before the next one: a file system syncs many files at little more than the cost of one.
    fn rewrite(&mut self, numbers: &[u32]) -> Result<(), StorageError> {
        for some in numbers.chunks(REWRITE_SHARDS) {
            self.renew(some)?;
            self.end(some)?;
        }
        Ok(())
    }

    /// Writes shards again with the keys that are still in memory. What they were is still there.
    fn renew(&mut self, numbers: &[u32]) -> Result<(), StorageError> {
        self.end(numbers)?;
        let (mut drafts, mut renewed) = (Vec::new(), Vec::new());
        for &number in numbers {
            let Some(shard) = self.shards.get(&number) else {
                self.stale.remove(&number);
                continue;
            };
            let old = Place { shard: number, generation: shard.generation };
            let new = Place { shard: number, generation: shard.generation + 1 };
            let (bytes, wrapping, keys) = self.ring.update(|ring| {
                let keys = ring.range(shard_range(number)).map(|(key, secret)| (key.id, secret));
                let count = keys.clone().count();
                slot::encode(&self.wraps[0], new, keys).map(|(bytes, wrapping)| (bytes, wrapping, count))
            })?;
            let draft = self.files.draft(&draft_path(&self.dir, number), &bytes)?;
            let generation = new.generation;
            let shard = Shard { generation, wrapping, frames: 1, keys, current: true, old: Some(old) };
            drafts.push((draft, slot_path(&self.dir, new)));
            renewed.push((number, shard));
        }
        if drafts.is_empty() {
            return Ok(());
        }
        self.files.put_in_place(&drafts, &self.dir)?;
        for (number, shard) in renewed {
            self.shards.insert(number, shard);
            // Only now, so that what has failed is known to be left to do.
            self.stale.remove(&number);
        }
        Ok(())
    }

    /// Destroys what shards were before they were written anew, where that is left to do. It is, for as long as this fails.
    fn end(&mut self, numbers: &[u32]) -> Result<(), StorageError> {
        let old = |number: &u32| self.shards.get(number).and_then(|shard| shard.old);
        let old: Vec<_> = numbers.iter().filter_map(old).collect();
        self.files.destroy_all(&old.iter().map(|place| slot_path(&self.dir, *place)).collect::<Vec<_>>())?;
        for Place { shard: number, .. } in old {
            let Some(shard) = self.shards.get_mut(&number) else { continue };
            if shard.keys == 0 {
                let new = Place { shard: number, generation: shard.generation };
                // Not overwritten: it holds no key, and a crash in the middle of that would look like damage.
                self.files.remove(&slot_path(&self.dir, new))?;
                self.shards.remove(&number);
            } else {
                shard.old = None;
            }
        }
        self.renewed.take_if(|renewed| numbers.contains(renewed));
        Ok(())
    }

    fn load_shard(&mut self, number: u32, paths: Vec<PathBuf>) -> Result<(), StorageError> {
        let mut newest: Option<(PathBuf, Content)> = None;
        let mut others = Vec::new();
        let mut broken = None;
        for path in paths {
            // A draft has no standing, even if it is whole: nobody was told of it.
            if path == draft_path(&self.dir, number) {
                others.push(path);
                continue;
            }
            match slot::read(&self.wraps, number, &path)? {
                Slot::Blank => others.push(path),
                Slot::Broken(reason) => {
                    broken = Some(StorageError::damaged(&path, reason));
                    others.push(path);
                }
                Slot::Whole(content) => {
                    let newer =
                        newest.as_ref().is_none_or(|(_, n)| n.place.generation < content.place.generation);
                    let loser = if newer {
                        newest.replace((path, content)).map(|(path, _)| path)
                    } else {
                        Some(path)
                    };
                    others.extend(loser);
                }
            }
        }
        // Without a whole slot, a broken one is not what a crash leaves: its keys are lost, and so are its rows.
        if newest.is_none()
            && let Some(error) = broken
        {
            return Err(error);
        }
        // An old slot is destroyed before the new one is used: its presence says that no frame was appended yet.
        others.iter().try_for_each(|path| self.files.destroy(path))?;
        let Some((path, content)) = newest else {
            return Ok(());
        };
        if content.keys.is_empty() {
            return self.files.remove(&path);
        }
        if content.torn {
            self.files.truncate(&path, content.whole_len)?;
        }
        let Content { place, wrapping, frames, keys, wrap, .. } = content;
        let (generation, current) = (place.generation, wrap == 0);
        self.shards
            .insert(number, Shard { generation, wrapping, frames, keys: keys.len(), current, old: None });
        let keys = keys.into_iter().map(|(id, secret)| (KeyRef { shard: number, id }, secret));
        self.ring.update(|ring| ring.extend(keys));
        Ok(())
    }
}

/// Secrets stay out.
impl std::fmt::Debug for KeyShards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyShards({} in {})", self.shards.len(), self.dir.display())
    }
}

fn shard_range(shard: u32) -> std::ops::RangeInclusive<KeyRef> {
    KeyRef { shard, id: [0; 8] }..=KeyRef { shard, id: [u8::MAX; 8] }
}

fn slot_path(dir: &Path, place: Place) -> PathBuf {
    let slot = if place.generation.is_multiple_of(2) { "a" } else { "b" };
    dir.join(format!("{:06}.{slot}", place.shard))
}

fn draft_path(dir: &Path, shard: u32) -> PathBuf {
    dir.join(format!("{shard:06}.new"))
}

/// The files of each shard.
fn list_slots(dir: &Path) -> Result<BTreeMap<u32, Vec<PathBuf>>, StorageError> {
    let mut found: BTreeMap<u32, Vec<PathBuf>> = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(|error| StorageError::io(dir, error))? {
        let path = entry.map_err(|error| StorageError::io(dir, error))?.path();
        let shard = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        let known = path.extension().is_some_and(|slot| slot == "a" || slot == "b" || slot == "new");
        if let Some(shard) = shard.filter(|_| known) {
            found.entry(shard).or_default().push(path);
        }
    }
    Ok(found)
}
