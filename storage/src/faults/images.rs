//! What is on the disk when a store has been stopped, and whether it keeps what was promised.

#[path = "../../tests/suite/attacker.rs"]
#[allow(dead_code, reason = "the tests from outside use all of it")]
pub(super) mod attacker;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::scenario::{Deed, Expected, STORE_KEYS, Sealed, backup_dir, live, open, store_dir};
use super::{Content, Faults, Names};
use crate::files::{self, Files};
use crate::{Reconciled, StorageError};

/// A store that was stopped, and what is known of it.
pub(super) struct Image {
    pub(super) root: TempDir,
    /// What was acknowledged.
    pub(super) expected: Expected,
    /// What was under way: it may have been done or not.
    pub(super) under_way: Option<Expected>,
    pub(super) sealed: Vec<Sealed>,
    /// When it was stopped, in words.
    pub(super) when: String,
}

/// Everything that a loss of power can leave of the files below `root`, each state once; and beside the store's files, what stands on the
/// disk of those that it has removed.
pub(super) fn left(root: &Path, faults: &Faults) -> Vec<(TempDir, String)> {
    let mut seen = Vec::new();
    let mut found = Vec::new();
    for names in [Names::Given, Names::Synced] {
        for content in [Content::Written, Content::Synced, Content::Zeros] {
            let left = faults.left(root, content, names);
            if seen.contains(&left) {
                continue;
            }
            let image = copy(root);
            for (path, bytes) in &left {
                let path = image.path().join(path);
                match bytes {
                    Some(bytes) if path.parent().is_some_and(Path::exists) => fs::write(path, bytes).unwrap(),
                    Some(_) => {}
                    None => drop(fs::remove_file(path)),
                }
            }
            let freed = image.path().join("store/freed");
            for (number, bytes) in faults.freed().into_iter().enumerate() {
                fs::create_dir_all(&freed).unwrap();
                fs::write(freed.join(number.to_string()), bytes).unwrap();
            }
            seen.push(left);
            found.push((image, format!("content as {content:?}, names as {names:?}")));
        }
    }
    found
}

impl Image {
    /// Checks what it gives away as it is, and what becomes of it when it is opened.
    pub(super) fn check(self) {
        let when = &self.when;
        let root = self.root.path();
        let store = store_dir(root);
        let candidates: Vec<&Expected> = [&self.expected].into_iter().chain(&self.under_way).collect();
        // What was acknowledged as erased is gone from all that is there.
        for dir in [store.clone(), backup_dir(root), root.join("backup.unfinished")] {
            let mut gone = &self.expected.gone;
            if dir == backup_dir(root)
                && let Some((_, then)) = &self.expected.backup
            {
                gone = then;
            }
            let given_away = self.given_away(&dir, &STORE_KEYS);
            assert!(given_away.is_disjoint(gone), "{when}: {given_away:?} can be read in {}", dir.display());
        }
        // Exactly one of the keys opens the store, and the other one nothing, once it has been opened.
        let opened =
            candidates.iter().find_map(|expected| match open(&store, expected.store_key, Files::default()) {
                Ok(opened) => Some((opened, expected.store_key)),
                Err(StorageError::WrongStoreKey(_)) => None,
                Err(error) => panic!("{when}: {error}"),
            });
        let (opened, store_key) = opened.unwrap_or_else(|| panic!("{when}: no key opens it"));
        let there = live(&opened);
        let shredded = candidates.iter().any(|e| e.shredded);
        let may_be = |e: &&Expected| e.live == there || e.earlier.contains(&there);
        let state = candidates.into_iter().filter(|e| e.store_key == store_key).find(may_be);
        let state = state.map(|state| Expected { live: there.clone(), earlier: vec![], ..state.clone() });
        let state = state.unwrap_or_else(|| {
            panic!("{when}: {there:?} is there, of {:?} or {:?}", self.expected, self.under_way)
        });
        assert!(
            shredded || opened.reconciled().rows_removed == 0,
            "{when}: a row has come back without its key"
        );
        assert!(self.given_away(&store, &[STORE_KEYS[1 - store_key]]).is_empty(), "{when}");
        let readable: BTreeSet<_> =
            self.sealed.iter().map(|s| s.id).filter(|id| there.values().any(|live| live == id)).collect();
        assert_eq!(self.given_away(&store, &STORE_KEYS), readable, "{when}: on the disk, once it is opened");

        // It goes on, and the next opening has nothing to put right.
        let mut opened = Some(opened);
        let mut go_on = state;
        let mut deeds = vec![Deed::put([48])];
        deeds.extend(go_on.live.values().next().map(|&id| Deed::delete([id])));
        deeds.push(Deed::Reopen);
        for deed in deeds {
            deed.run(&mut opened, root, &go_on, &Files::default())
                .unwrap_or_else(|error| panic!("{when}: {error}"));
            go_on = go_on.after(&deed);
        }
        let opened = opened.unwrap();
        assert_eq!(opened.reconciled(), Reconciled::default(), "{when}");
        assert_eq!(live(&opened), go_on.live, "{when}");
        let names = |name: &str| {
            let names = fs::read_dir(&store).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
            names.filter(|found| found.starts_with(name)).count()
        };
        assert_eq!((names("rows"), names("STORE")), (1, 1), "{when}");
        self.check_backup();
    }

    fn check_backup(&self) {
        let when = &self.when;
        let dir = backup_dir(self.root.path());
        let promised = self.expected.backup.as_ref();
        assert!(dir.exists() || promised.is_none(), "{when}: the backup is gone");
        let under_way = self.under_way.as_ref().and_then(|next| next.backup.as_ref());
        if let Some((values, _)) = promised.or(under_way).filter(|_| dir.exists()) {
            let restored = open(&dir, self.expected.store_key, Files::default());
            let restored = restored.unwrap_or_else(|error| panic!("{when}: the backup: {error}"));
            assert_eq!(restored.reconciled(), Reconciled::default(), "{when}: the backup");
            assert_eq!(&live(&restored), values, "{when}: the backup");
        }
    }

    /// The values that can be read by who has these keys of the node, and everything in a directory.
    fn given_away(&self, dir: &Path, store_keys: &[[u8; 32]]) -> BTreeSet<u32> {
        if !dir.exists() {
            return BTreeSet::new();
        }
        let keys: Vec<_> = store_keys.iter().flat_map(|key| attacker::keys(dir, key)).collect();
        self.sealed.iter().filter(|sealed| sealed.opens(&keys)).map(|sealed| sealed.id).collect()
    }
}

/// A directory in memory if there is enough of that: what would survive a loss of power is told by [`Faults`], not by a disk.
pub(super) fn directory() -> TempDir {
    const MEMORY: &str = "/dev/shm";
    const ENOUGH_BYTES: u64 = 256 << 20;
    match files::free_bytes(Path::new(MEMORY)) {
        Ok(free) if free >= ENOUGH_BYTES => tempfile::tempdir_in(MEMORY).unwrap(),
        _ => tempfile::tempdir().unwrap(),
    }
}

pub(super) fn copy(root: &Path) -> TempDir {
    let copied = directory();
    copy_dir(root, copied.path());
    copied
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
