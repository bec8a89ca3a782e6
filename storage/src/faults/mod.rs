//! A disk that stops: for tests, which let the first steps through, have the next one done not at all or by half, and all later ones
//! refused, as at a loss of power. What such a loss leaves of what was not synced is up to the disk, so it can be had in several ways.
//!
//! Directories and databases are not modelled: a directory that was made, removed or renamed is so at once, and of a database stays what
//! it has given to the operating system.

mod images;
mod keys;
mod scenario;
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::files::{Files, Step};

/// Where a store is stopped, and what was done to its files.
#[derive(Debug)]
pub(crate) struct Faults(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Steps that were taken.
    taken: usize,
    /// So many are.
    allowed: usize,
    /// Whether the next one is done by half.
    by_half: bool,
    /// Whether what is synced survives.
    syncs: bool,
    /// The step at which it was stopped.
    stopped: Option<Stopped>,
    disk: Disk,
}

/// At what a store was stopped.
#[derive(Clone, Debug)]
pub(super) struct Stopped {
    /// In words.
    pub(super) step: String,
    /// Whether it can be done by half.
    pub(super) divisible: bool,
}

/// What a loss of power would leave of the content of a file that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// All that was written.
    Written,
    /// What was there at its last sync.
    Synced,
    /// The same, and zeros up to the length that was written.
    Zeros,
}

/// And of names in a directory that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// As they were given last.
    Given,
    /// As they were when the directory was synced last.
    Synced,
}

impl Faults {
    /// Lets so many steps through. A disk that does not sync is one that the tests must find out.
    pub(super) fn new(allowed: usize, by_half: bool, syncs: bool) -> Arc<Self> {
        let state = State { taken: 0, allowed, by_half, syncs, stopped: None, disk: Disk::default() };
        Arc::new(Self(Mutex::new(state)))
    }

    /// A handle on files that are stopped by this.
    pub(super) fn files(self: &Arc<Self>) -> Files {
        Files { faults: Some(self.clone()) }
    }

    /// Whether it has stopped, and where.
    pub(super) fn stopped(&self) -> Option<Stopped> {
        self.lock().stopped.clone()
    }

    /// The files below `root` that a loss of power would leave, or none where a file would be gone; of those alone that were written to
    /// or given names.
    pub(super) fn left(
        &self,
        root: &Path,
        content: Content,
        names: Names,
    ) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        self.lock().disk.left(root, content, names)
    }

    /// What stands on the disk of files that have no name any more, or were emptied.
    pub(super) fn freed(&self) -> Vec<Vec<u8>> {
        self.lock().disk.freed()
    }

    /// Takes a step, or does not.
    pub(crate) fn step<T>(&self, step: Step<'_>, act: impl FnOnce(bool) -> io::Result<T>) -> io::Result<T> {
        let refused = || io::Error::other("the disk was stopped by a test");
        let mut state = self.lock();
        if state.stopped.is_some() {
            return Err(refused());
        }
        state.disk.before(step);
        if state.taken == state.allowed {
            let divisible = matches!(step, Step::Write(_));
            state.stopped = Some(Stopped { step: format!("{step:?}"), divisible });
            if divisible && state.by_half {
                act(false)?;
            }
            return Err(refused());
        }
        state.taken += 1;
        let done = act(true)?;
        if state.syncs || !matches!(step, Step::Sync(_) | Step::SyncDir(_)) {
            state.disk.after(step);
        }
        Ok(done)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is synced of the files that were touched.
#[derive(Debug, Default)]
struct Disk {
    files: Vec<Contents>,
    /// Each name that was ever touched.
    touched: BTreeSet<PathBuf>,
    /// Which file has a name now.
    given: BTreeMap<PathBuf, usize>,
    /// And which one had it when its directory was synced last.
    synced: BTreeMap<PathBuf, usize>,
    /// What files held that were emptied.
    emptied: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Contents {
    synced: Vec<u8>,
    /// What was written when it lost its last name.
    last: Vec<u8>,
}

impl Disk {
    /// Takes down what the step would make unknown.
    fn before(&mut self, step: Step<'_>) {
        let mut touch = |path: &Path| {
            if self.touched.insert(path.to_owned()) && path.is_file() {
                let synced = read(path);
                self.files.push(Contents { last: synced.clone(), synced });
                for names in [&mut self.given, &mut self.synced] {
                    names.insert(path.to_owned(), self.files.len() - 1);
                }
            }
        };
        let loses = match step {
            Step::Create(path) => {
                touch(path);
                self.emptied.extend(self.given.contains_key(path).then(|| read(path)));
                return;
            }
            Step::Write(path) | Step::Cut(path) | Step::Sync(path) => {
                touch(path);
                return;
            }
            Step::RemoveDir(dir) => {
                for (path, &file) in self.given.iter().filter(|(path, _)| path.starts_with(dir)) {
                    self.files[file].last = read(path);
                }
                return;
            }
            Step::Rename(from, to) => {
                touch(from);
                touch(to);
                to
            }
            Step::Remove(path) => {
                touch(path);
                path
            }
            Step::SyncDir(_) | Step::Rows => return,
        };
        if let Some(&file) = self.given.get(loses) {
            self.files[file].last = read(loses);
        }
    }

    fn after(&mut self, step: Step<'_>) {
        match step {
            Step::Create(path) if !self.given.contains_key(path) => {
                self.files.push(Contents::default());
                self.given.insert(path.to_owned(), self.files.len() - 1);
            }
            Step::Create(_) | Step::Write(_) | Step::Cut(_) | Step::Rows => {}
            Step::Sync(path) => self.files[self.given[path]].synced = read(path),
            Step::SyncDir(dir) => {
                for path in self.touched.iter().filter(|path| path.parent() == Some(dir)) {
                    match self.given.get(path) {
                        Some(&file) => drop(self.synced.insert(path.clone(), file)),
                        None => drop(self.synced.remove(path)),
                    }
                }
            }
            Step::Rename(from, to) if to.is_dir() => {
                let moved = |path: &PathBuf| match path.strip_prefix(from) {
                    Ok(below) => to.join(below),
                    Err(_) => path.clone(),
                };
                self.touched = self.touched.iter().map(moved).collect();
                for names in [&mut self.given, &mut self.synced] {
                    *names = names.iter().map(|(path, &file)| (moved(path), file)).collect();
                }
            }
            Step::Rename(from, to) => {
                let file = self.given.remove(from).expect("it has been touched");
                self.given.insert(to.to_owned(), file);
            }
            Step::Remove(path) => drop(self.given.remove(path)),
            Step::RemoveDir(dir) => {
                self.touched.retain(|path| !path.starts_with(dir));
                for names in [&mut self.given, &mut self.synced] {
                    names.retain(|path, _| !path.starts_with(dir));
                }
            }
        }
    }

    fn freed(&self) -> Vec<Vec<u8>> {
        let nameless = |(file, _): &(usize, &Contents)| !self.given.values().any(|given| given == file);
        let removed =
            self.files.iter().enumerate().filter(nameless).map(|(_, contents)| contents.last.clone());
        removed.chain(self.emptied.iter().cloned()).filter(|bytes| !bytes.is_empty()).collect()
    }

    fn left(&self, root: &Path, content: Content, names: Names) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let named = if names == Names::Given { &self.given } else { &self.synced };
        let below = self.touched.iter().filter_map(|path| Some((path, path.strip_prefix(root).ok()?)));
        let bytes = |&file: &usize| {
            let synced = &self.files[file].synced;
            let name = self.given.iter().find(|(_, given)| **given == file);
            let written = name.map_or_else(|| self.files[file].last.clone(), |(path, _)| read(path));
            match content {
                Content::Written => written,
                Content::Synced => synced.clone(),
                Content::Zeros => {
                    let mut bytes = synced.clone();
                    bytes.resize(written.len().max(synced.len()), 0);
                    bytes
                }
            }
        };
        below.map(|(path, below)| (below.to_owned(), named.get(path).map(bytes))).collect()
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a file that was touched has its name")
}
