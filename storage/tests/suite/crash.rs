//! A process that is killed in the middle of commits: what it acknowledged is there, whole, and what it had
//! acknowledged as deleted is gone for good (P4, P6).

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use lanyard_storage::{Batch, Store, Tree, View};

use super::attacker::recover;
use super::{STORE_KEY, copy_dir, envelopes, marked, open};

const THREADS: u32 = 4;
const ROUNDS: u32 = 10;
const ACKNOWLEDGED_MIN: usize = 60;

/// Numbers of one thread and round: its commits.
const SPAN: u32 = 100_000;

/// The name under which this test binary, started again, finds its directory and its first number.
const CHILD: &str = "LANYARD_TEST_CRASH_CHILD";

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected: BTreeSet<u32> = BTreeSet::new();
    for round in 0..ROUNDS {
        let first = round * THREADS * SPAN;
        // In every second round, the store is compacted all the while.
        let acknowledged = run_and_kill(dir.path().to_str().unwrap(), first, round % 2 == 1);
        assert!(acknowledged.len() >= ACKNOWLEDGED_MIN);

        // A copy first, since opening puts things right: even so, a deletion that was acknowledged is done.
        let copy = tempfile::tempdir().unwrap();
        copy_dir(dir.path(), copy.path());
        let recovered = recover(copy.path(), &STORE_KEY);
        let erased: Vec<_> = acknowledged.iter().filter_map(|&number| deleted_by(number)).collect();
        assert!(erased.len() > 10, "the check needs deletions");
        assert!(erased.iter().all(|number| !recovered.contains(number)));

        let store = open(dir.path()).unwrap();
        for thread in 0..THREADS {
            let start = first + thread * SPAN;
            let done = acknowledged.iter().filter(|&&number| number / SPAN == start / SPAN).count() as u32;
            expected.extend((start..start + done).filter(|number| !is_deleted(*number, start + done)));
            // At most one commit per thread was under way. It is there as a whole or not at all.
            let under_way = start + done;
            let there = !envelopes(&store, under_way..under_way + 1).is_empty();
            assert_eq!(store.contains(Tree::Expiry, &under_way.to_be_bytes()).unwrap(), there);
            if there {
                expected.insert(under_way);
                deleted_by(under_way).map(|number| expected.remove(&number));
            }
            assert_eq!(envelopes(&store, under_way + 1..under_way + 2), []);
        }
        let there: BTreeSet<u32> = (0..=round * THREADS + THREADS)
            .flat_map(|span| envelopes(&store, span * SPAN..span * SPAN + 2_000))
            .collect();
        assert_eq!(there, expected);
        drop(store);
        assert_eq!(recover(dir.path(), &STORE_KEY), expected);
        assert_eq!(open(dir.path()).unwrap().reconciled(), Default::default());
    }
}

/// A disk that wrote only the first part of what it was given: of each commit, all trees show it or none does, and
/// no commit is there without those before it.
#[test]
fn a_torn_log_tears_no_batch() {
    const COMMITS: u32 = 60;
    const TREES: [Tree; 3] = [Tree::Expiry, Tree::Index, Tree::Tally];
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let start = written(dir.path());
    for number in 0..COMMITS {
        let mut batch = Batch::new();
        TREES.iter().for_each(|tree| batch.put(*tree, number.to_be_bytes(), vec![number as u8; 100]));
        store.commit(batch).unwrap();
    }
    // A copy while it is open: closing writes more.
    let whole = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), whole.path());
    drop(store);

    let end = written(whole.path());
    let mut lengths = BTreeSet::new();
    for step in 0..40 {
        let torn = tempfile::tempdir().unwrap();
        copy_dir(whole.path(), torn.path());
        let path = torn.path().join("rows/db");
        let mut log = fs::read(&path).unwrap();
        log[start + (end - start) * step / 40..].fill(0);
        fs::write(&path, log).unwrap();

        let store = open(torn.path()).unwrap();
        let [expiry, index, tally] = TREES.map(|tree| store.scan_prefix(tree, b"", 1000).unwrap());
        assert_eq!((&expiry, &expiry), (&index, &tally), "cut at step {step}");
        let numbers: Vec<_> =
            expiry.iter().map(|(key, _)| u32::from_be_bytes(key[..].try_into().unwrap())).collect();
        assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>(), "cut at step {step}");
        lengths.insert(numbers.len());
    }
    assert!(lengths.len() > 10, "the cuts fall between commits: {lengths:?}");
}

/// How far the log has been written.
fn written(dir: &Path) -> usize {
    let log = fs::read(dir.join("rows/db")).unwrap();
    log.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}

/// Does nothing unless it is the other process.
#[test]
fn child() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let [first, compacts, dir] = task.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
    let (first, compacts, dir) = (first.parse::<u32>().unwrap(), compacts == "true", PathBuf::from(dir));
    let store = open(&dir).unwrap();
    let committed = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while compacts && committed.load(Ordering::Relaxed) < (THREADS * 2_000) as usize {
                store.compact().unwrap();
            }
        });
        for thread in 0..THREADS {
            let (store, committed, start) = (&store, &committed, first + thread * SPAN);
            scope.spawn(move || {
                for number in start..start + 2_000 {
                    let mut batch = Batch::new();
                    batch.put(Tree::Envelopes, number.to_be_bytes(), marked(number, 300));
                    batch.put(Tree::Expiry, number.to_be_bytes(), "");
                    match deleted_by(number) {
                        // Shredded, it loses its row only when the store is opened again.
                        Some(number) if number.is_multiple_of(2) => {
                            batch.shred(Tree::Envelopes, number.to_be_bytes());
                        }
                        Some(number) => batch.delete(Tree::Envelopes, number.to_be_bytes()),
                        None => {}
                    }
                    store.commit(batch).unwrap();
                    committed.fetch_add(1, Ordering::Relaxed);
                    println!("acknowledged {number}");
                }
            });
        }
    });
}

/// Which envelope the commit with this number deletes: every third, the one before.
fn deleted_by(number: u32) -> Option<u32> {
    (number % SPAN % 3 == 2).then(|| number - 1)
}

fn is_deleted(number: u32, end: u32) -> bool {
    number + 1 < end && deleted_by(number + 1).is_some()
}

/// Starts this binary as the child, kills it after some commits, and returns all that it acknowledged.
fn run_and_kill(dir: &str, first: u32, compacts: bool) -> Vec<u32> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{first} {compacts} {dir}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    let mut line = String::new();
    // A line without its end is one that the kill cut off.
    while output.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
        if let Some((_, number)) = line.trim_end().split_once("acknowledged ") {
            acknowledged.push(number.parse().unwrap());
        }
        if acknowledged.len() == ACKNOWLEDGED_MIN {
            child.kill().unwrap();
        }
        line.clear();
    }
    child.wait().unwrap();
    acknowledged
}
