//! The files of keys alone, without a store: of several shards, and with what comes between the two steps in which a shard is renewed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::Faults;
use super::images::{attacker, copy, directory, left};
use super::scenario::STORE_KEYS;
use crate::StorageError;
use crate::files::Files;
use crate::keys::{KeyRef, KeyShards};
use crate::labels::DERIVE_SHARD_WRAP;
use crate::limits::SHARD_KEYS_MAX;
use crate::seal::Secret;

/// One thing that is done. Keys go by the order in which they were made.
#[derive(Clone, Debug)]
enum Deed {
    Create(usize),
    Erase(BTreeSet<usize>),
    Forget(BTreeSet<usize>),
    Tidy,
    /// Moves all shards to another wrap.
    Move,
}

/// What was done, and what of that was acknowledged.
#[derive(Clone, Default)]
struct Known {
    made: Vec<(KeyRef, [u8; 32])>,
    /// Forgotten, and perhaps still on the disk; by what is under way, too.
    unsure: BTreeSet<usize>,
    gone: BTreeSet<usize>,
    /// Whether all shards are under the second wrap.
    moved: bool,
}

impl Known {
    fn run(&mut self, keys: &mut KeyShards, deed: &Deed) -> Result<(), StorageError> {
        let refs = |known: &Self, places: &BTreeSet<usize>| places.iter().map(|&n| known.made[n].0).collect();
        match deed {
            Deed::Create(count) => {
                let created = keys.create(*count)?;
                let ring = keys.ring();
                self.made.extend(created.iter().map(|&key| (key, *ring.get(key).unwrap().as_bytes())));
            }
            Deed::Erase(places) => {
                self.unsure.extend(places);
                keys.erase(&refs(self, places))?;
                self.unsure.retain(|place| !places.contains(place));
                self.gone.extend(places);
            }
            Deed::Forget(places) => {
                keys.forget(&refs(self, places));
                self.unsure.extend(places);
            }
            Deed::Tidy => {
                if !keys.tidy(Duration::ZERO)? {
                    self.gone.append(&mut self.unsure);
                }
            }
            Deed::Move => {
                keys.wrap_under(wraps()[1].clone());
                keys.move_all()?;
                self.moved = true;
            }
        }
        Ok(())
    }

    /// Checks what is there, and what becomes of it when it is opened.
    fn check(&self, dir: &Path, when: &str) {
        let secrets = |places: &mut dyn Iterator<Item = usize>| -> BTreeSet<[u8; 32]> {
            places.map(|place| self.made[place].1).collect()
        };
        let gone = secrets(&mut self.gone.iter().copied());
        let live = || {
            (0..self.made.len()).filter(|place| !self.gone.contains(place) && !self.unsure.contains(place))
        };
        assert!(given_away(dir, &STORE_KEYS).is_disjoint(&gone), "{when}: an erased key is there");
        if self.moved {
            assert!(
                given_away(dir, &STORE_KEYS[..1]).is_empty(),
                "{when}: something is under the first wrap"
            );
        }
        let [first, second] = wraps();
        let mut keys = KeyShards::open(Files::default(), dir.to_owned(), vec![second, first])
            .unwrap_or_else(|error| panic!("{when}: {error}"));
        let ring = keys.ring();
        for place in live() {
            let (key, secret) = &self.made[place];
            let there = ring.get(*key).is_some_and(|there| there.as_bytes() == secret);
            assert!(there, "{when}: key {place} is lost");
        }
        keys.retain(&live().map(|place| self.made[place].0).collect()).unwrap();
        assert!(given_away(dir, &STORE_KEYS) == secrets(&mut live()), "{when}: once it is opened");
        assert_eq!(keys.create(1).unwrap().len(), 1);
    }
}

/// The second one takes the place of the first.
fn wraps() -> [Secret; 2] {
    STORE_KEYS.map(|key| Secret::new(key).derive(DERIVE_SHARD_WRAP))
}

fn given_away(dir: &Path, store_keys: &[[u8; 32]]) -> BTreeSet<[u8; 32]> {
    store_keys.iter().flat_map(|key| attacker::keys(dir, key)).collect()
}

fn keys_dir(root: &Path) -> PathBuf {
    root.join("keys")
}

/// What is left when it was stopped.
struct Stop {
    /// All that may then be on the disk, and when in words.
    states: Vec<(TempDir, String)>,
    known: Known,
    /// Whether the step can be done by half.
    divisible: bool,
}

/// Does it until it is stopped, if it is.
fn stopped(start: (&Path, &Known), deeds: &[Deed], allowed: usize, by_half: bool) -> Option<Stop> {
    let (root, mut known) = (copy(start.0), start.1.clone());
    let faults = Faults::new(allowed, by_half, true);
    let opened = KeyShards::open(faults.files(), keys_dir(root.path()), vec![wraps()[0].clone()]);
    let under_way = opened.ok().and_then(|mut keys| {
        let failed = |deed: &&Deed| known.run(&mut keys, deed).is_err();
        deeds.iter().find(failed)
    });
    let at = faults.stopped()?;
    let when = format!("{under_way:?} stopped at {}, by half: {by_half} (step {allowed})", at.step);
    let states = left(root.path(), &faults).into_iter().map(|(root, how)| (root, format!("{when}, {how}")));
    Some(Stop { states: states.collect(), known, divisible: at.divisible })
}

#[test]
fn of_several_shards_no_key_is_lost_and_none_comes_back() {
    let root = directory();
    let mut known = Known::default();
    let mut keys =
        KeyShards::open(Files::default(), keys_dir(root.path()), vec![wraps()[0].clone()]).unwrap();
    known.run(&mut keys, &Deed::Create(SHARD_KEYS_MAX + 3)).unwrap();
    drop(keys);
    let (first, last) = (0, SHARD_KEYS_MAX);
    let deeds = [
        Deed::Erase([first, last].into()),
        Deed::Forget([first + 1, last + 1].into()),
        // The first of the two shards is written again, and then the other one; a key is added before its old slot is gone.
        Deed::Tidy,
        Deed::Tidy,
        Deed::Tidy,
        Deed::Create(2),
        Deed::Tidy,
        Deed::Tidy,
        Deed::Forget([first + 2].into()),
        Deed::Tidy,
        Deed::Erase([first + 3].into()),
        // The last shard loses its last keys, and is made again.
        Deed::Erase((last + 2..last + 5).collect()),
        Deed::Create(1),
        Deed::Move,
    ];
    let mut counts = BTreeMap::from([("steps", 0), ("states", 0)]);
    for allowed in 0.. {
        let Some(stop) = stopped((root.path(), &known), &deeds, allowed, false) else { break };
        let half = stop.divisible.then(|| stopped((root.path(), &known), &deeds, allowed, true)).flatten();
        for Stop { states, known, .. } in [stop].into_iter().chain(half) {
            for (root, when) in states {
                known.check(&keys_dir(root.path()), &when);
                *counts.entry("states").or_default() += 1;
            }
        }
        *counts.entry("steps").or_default() += 1;
    }
    assert!(counts["steps"] > 60 && counts["states"] > counts["steps"], "{counts:?}");
}
