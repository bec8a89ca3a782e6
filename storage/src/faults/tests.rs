//! A store is stopped at each step of what it does to its files, and left in each state that a loss of power allows: what was
//! acknowledged is there, what was acknowledged as erased is not, what was under way is there as a whole or not at all, and it goes on.

use super::Faults;
use super::images::{Image, copy, directory, left};
use super::scenario::{Deed, Expected, Id, Sealed, open, store_dir};
use crate::SledStore;
use crate::files::Files;

/// A store as it is when a scenario begins.
fn start(deeds: &[Deed]) -> Image {
    let root = directory();
    let store = open(&store_dir(root.path()), 0, Files::default()).unwrap();
    let begun =
        Image { root, expected: Expected::default(), under_way: None, sealed: vec![], when: String::new() };
    let mut done = Done { image: begun, store: Some(store) };
    assert!(done.go_on(deeds, &Files::default()));
    drop(done.store);
    done.image
}

/// A store, and what was done to it.
struct Done {
    image: Image,
    store: Option<SledStore>,
}

impl Done {
    /// Whether all was done.
    fn go_on(&mut self, deeds: &[Deed], files: &Files) -> bool {
        let image = &mut self.image;
        for deed in deeds {
            let next = image.expected.after(deed);
            if let Err(error) = deed.run(&mut self.store, image.root.path(), &image.expected, files) {
                assert!(!error.to_string().contains("thread ended"), "{deed:?}: {error}");
                image.when = format!("{deed:?}");
                image.under_way = Some(next);
                return false;
            }
            if let (Deed::Commit { puts, .. }, Some(store)) = (deed, &self.store) {
                image.sealed.extend(puts.iter().map(|&id| Sealed::of(store, id)));
            }
            image.expected = next;
        }
        true
    }
}

/// Does it from the beginning until it is stopped, and returns all that may then be on the disk, and whether the step can be done by
/// half; nothing if it was not stopped.
fn stopped(
    start: &Image,
    deeds: &[Deed],
    allowed: usize,
    by_half: bool,
    syncs: bool,
) -> Option<(Vec<Image>, bool)> {
    let faults = Faults::new(allowed, by_half, syncs);
    let files = faults.files();
    let image = Image {
        root: copy(start.root.path()),
        expected: start.expected.clone(),
        under_way: start.under_way.clone(),
        sealed: start.sealed.clone(),
        when: start.when.clone(),
    };
    let dir = store_dir(image.root.path());
    let keys = [&image.expected].into_iter().chain(&image.under_way).map(|e| e.store_key);
    let store = keys.map(|key| open(&dir, key, files.clone())).find(|opened| !is_wrong_key(opened));
    let store = store.expect("one of the keys opens it, or it is stopped").ok();
    let mut done = Done { image, store };
    if done.store.is_none() {
        done.image.when.push_str("opening");
    } else if done.go_on(deeds, &files) {
        done.image.when = "closing".into();
        drop(done.store.take());
    }
    let at = faults.stopped()?;
    let mut found = left(done.image.root.path(), &faults);
    // The database writes what it has when it is closed, as an operating system may.
    drop(done.store.take());
    found.push((copy(done.image.root.path()), "closed".into()));
    let half = if by_half { ", by half" } else { "" };
    let image = |(root, how): (_, String)| Image {
        root,
        expected: done.image.expected.clone(),
        under_way: done.image.under_way.clone(),
        sealed: done.image.sealed.clone(),
        when: format!("{} stopped at {}{half} (step {allowed}), {how}", done.image.when, at.step),
    };
    Some((found.into_iter().map(image).collect(), at.divisible))
}

fn is_wrong_key<T>(opened: &Result<T, crate::StorageError>) -> bool {
    matches!(opened, Err(crate::StorageError::WrongStoreKey(_)))
}

/// All that may be on the disk after each step.
fn each_stop(start: &Image, deeds: &[Deed], syncs: bool, mut each: impl FnMut(Image)) -> usize {
    for allowed in 0.. {
        let Some((images, divisible)) = stopped(start, deeds, allowed, false, syncs) else { return allowed };
        let halves = divisible.then(|| stopped(start, deeds, allowed, true, syncs)).flatten();
        images.into_iter().chain(halves.into_iter().flat_map(|(images, _)| images)).for_each(&mut each);
    }
    unreachable!("a scenario ends")
}

/// Short values, and long ones.
fn some() -> impl Iterator<Item = Id> {
    (0..8).chain(50..52)
}

/// Of so many states of the disk, the opening of one is stopped, too.
const STOPPED_AGAIN: usize = 17;

/// Checks all that can be left of a scenario, and all that can be left where the next opening is stopped.
fn check(deeds: &[Deed], steps_min: usize) {
    let (mut states, mut again) = (0, 0);
    let steps = each_stop(&start(&[Deed::put(some())]), deeds, true, |image| {
        states += 1;
        if states % STOPPED_AGAIN == 0 {
            let steps = each_stop(&image, &[], true, |image| {
                again += 1;
                image.check();
            });
            assert!(steps > 0, "opening {} takes no step", image.when);
        }
        image.check();
    });
    assert!(steps >= steps_min && states > steps && again > steps, "{steps}, {states}, {again}");
}

#[test]
fn storing_and_erasing() {
    let deeds = [
        Deed::put([8, 9]),
        Deed::delete([2]),
        Deed::put([108, 150]),
        Deed::change([10], [3, 51], []),
        Deed::shred([4, 5]),
        Deed::put([11]),
        Deed::shred([6]),
        Deed::change([104], [], [7]),
        Deed::Reopen,
        Deed::delete([0, 1, 9, 10, 11, 104, 108, 150]),
        Deed::put([12, 52]),
        Deed::delete([12]),
    ];
    check(&deeds, 80);
}

#[test]
fn erasure_that_is_deferred() {
    let deeds = [
        Deed::defer([0]),
        Deed::defer([1, 50]),
        Deed::put([8]),
        Deed::settle(),
        Deed::defer([2]),
        Deed::delete([3]),
        Deed::defer([4]),
        Deed::shred([5]),
        Deed::defer([6]),
        Deed::Reopen,
        Deed::defer([7, 8, 51]),
        Deed::settle(),
        Deed::put([9]),
    ];
    check(&deeds, 60);
}

#[test]
fn what_a_crash_may_take_back() {
    let deeds = [
        Deed::defer_all([0]),
        Deed::defer_all([1, 50]),
        Deed::put([8]),
        Deed::defer_all([2]),
        Deed::delete([3]),
        Deed::defer_all([4]),
        Deed::defer_all([51]),
        Deed::settle(),
        Deed::defer_all([5]),
        Deed::Rotate,
        Deed::defer_all([6]),
        Deed::Compact,
        Deed::defer_all([7]),
        Deed::BackUp,
        Deed::defer_all([8]),
        Deed::Reopen,
        Deed::put([9]),
        Deed::defer_all([9]),
    ];
    check(&deeds, 100);
}

#[test]
fn rotating_the_key() {
    let deeds = [
        Deed::Rotate,
        Deed::put([8]),
        Deed::delete([0]),
        Deed::defer([1]),
        Deed::Rotate,
        Deed::delete([2]),
        Deed::Rotate,
    ];
    check(&deeds, 60);
}

#[test]
fn compacting() {
    let deeds = [
        Deed::delete([0]),
        Deed::Compact,
        Deed::put([8]),
        Deed::delete([1, 50]),
        Deed::shred([2]),
        Deed::Compact,
        Deed::delete([3]),
    ];
    check(&deeds, 60);
}

#[test]
fn backing_up() {
    let deeds = [Deed::delete([0]), Deed::defer([1]), Deed::BackUp, Deed::delete([2]), Deed::put([8])];
    check(&deeds, 40);
}

/// The checks find out a disk on which nothing survives that was synced: a value that was acknowledged is lost, and one that was erased
/// can be read.
#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let mut said = String::new();
    let deeds = [Deed::delete([0]), Deed::put([8]), Deed::put([9])];
    each_stop(&start(&[Deed::put(some())]), &deeds, false, |image| {
        if let Err(panic) = std::panic::catch_unwind(|| image.check()) {
            said += panic.downcast_ref::<String>().map_or("", String::as_str);
        }
    });
    assert!(said.contains(" is there, of Expected") && said.contains(" can be read in "), "{said}");
}
