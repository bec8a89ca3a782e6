//! Random changes and reads, against maps of the standard library.

use std::collections::BTreeMap;
use std::ops::Bound;

use lanyard_storage::{Batch, MemoryStore, Overlay, Store, Tree, View};
use proptest::collection::vec;
use proptest::prelude::*;

use super::open;

const TREES: [Tree; 4] = [Tree::Expiry, Tree::Inbox, Tree::Envelopes, Tree::Hub];

type Model = BTreeMap<Tree, BTreeMap<Vec<u8>, Vec<u8>>>;
type Change = (Tree, Vec<u8>, Option<Vec<u8>>);

#[derive(Clone, Debug)]
enum Op {
    Commit(Vec<Change>),
    Overlay(Vec<Change>, Scan),
    Scan(Scan),
    Reopen,
}

#[derive(Clone, Debug)]
struct Scan {
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
    limit: usize,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0u8), Just(1), Just(254), Just(255)], 0..4)
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![key().prop_map(Bound::Included), key().prop_map(Bound::Excluded), Just(Bound::Unbounded)]
}

fn scan() -> impl Strategy<Value = Scan> {
    (bound(), bound(), 0usize..12).prop_map(|(low, high, limit)| Scan { low, high, limit })
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let value = prop_oneof![
        4 => vec(any::<u8>(), 0..40),
        1 => (4000usize..9000, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ];
    vec((proptest::sample::select(&TREES[..]), key(), proptest::option::weighted(0.7, value)), 0..12)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => changes().prop_map(Op::Commit),
        2 => (changes(), scan()).prop_map(|(changes, scan)| Op::Overlay(changes, scan)),
        3 => scan().prop_map(Op::Scan),
        1 => Just(Op::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sled_is_like_maps(ops in vec(op(), 1..20)) {
        let dir = tempfile::tempdir().unwrap();
        run(open(dir.path()).unwrap(), ops, |store| {
            drop(store);
            let store = open(dir.path()).unwrap();
            assert_eq!(store.reconciled(), Default::default());
            store
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_like_maps(ops in vec(op(), 1..40)) {
        run(MemoryStore::new(), ops, |store| { store.crash(); store });
    }
}

fn run<S: Store>(mut store: S, ops: Vec<Op>, reopen: impl Fn(S) -> S) {
    let mut model = Model::new();
    for op in ops {
        match op {
            Op::Commit(changes) => {
                store.commit(batch(&changes)).unwrap();
                apply(&mut model, &changes);
            }
            Op::Overlay(changes, scan) => {
                let mut changed = model.clone();
                apply(&mut changed, &changes);
                let overlay = Overlay::with(&store, batch(&changes));
                check_rows(&overlay, &changed);
                check_scan(&overlay, &changed, &scan);
            }
            Op::Scan(scan) => check_scan(&store, &model, &scan),
            Op::Reopen => store = reopen(store),
        }
        check_rows(&store, &model);
    }
}

fn batch(changes: &[Change]) -> Batch {
    let mut batch = Batch::new();
    for (tree, key, value) in changes.iter().cloned() {
        match value {
            Some(value) => batch.put(tree, key, value),
            None => batch.delete(tree, key),
        }
    }
    batch
}

fn apply(model: &mut Model, changes: &[Change]) {
    for (tree, key, value) in changes.iter().cloned() {
        let rows = model.entry(tree).or_default();
        match value {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
    }
}

fn check_rows(view: &impl View, model: &Model) {
    for tree in TREES {
        let rows = model.get(&tree).cloned().unwrap_or_default();
        for (key, value) in &rows {
            assert!(view.get(tree, key).unwrap().as_ref() == Some(value), "{tree:?} {key:?}");
        }
        for key in [vec![], vec![0], vec![255, 255], vec![1, 254]] {
            assert_eq!(view.contains(tree, &key).unwrap(), rows.contains_key(&key));
        }
        if !tree.sealed() {
            let all = view.scan(tree, (Bound::Unbounded, Bound::Unbounded), usize::MAX).unwrap();
            assert!(all == rows.into_iter().collect::<Vec<_>>(), "{tree:?}");
        }
    }
}

fn check_scan(view: &impl View, model: &Model, scan: &Scan) {
    let inside = |key: &Vec<u8>| {
        let low = match &scan.low {
            Bound::Included(low) => low <= key,
            Bound::Excluded(low) => low < key,
            Bound::Unbounded => true,
        };
        let high = match &scan.high {
            Bound::Included(high) => key <= high,
            Bound::Excluded(high) => key < high,
            Bound::Unbounded => true,
        };
        low && high
    };
    let range = (scan.low.as_ref().map(Vec::as_slice), scan.high.as_ref().map(Vec::as_slice));
    for tree in TREES.into_iter().filter(|tree| !tree.sealed()) {
        let rows = model.get(&tree).cloned().unwrap_or_default();
        let expected: Vec<_> = rows.into_iter().filter(|(key, _)| inside(key)).collect();
        let forth: Vec<_> = expected.iter().take(scan.limit).cloned().collect();
        let back: Vec<_> = expected.iter().rev().take(scan.limit).cloned().collect();
        assert!(view.scan(tree, range, scan.limit).unwrap() == forth, "{scan:?}");
        assert!(view.scan_back(tree, range, scan.limit).unwrap() == back, "{scan:?}");
    }
}
