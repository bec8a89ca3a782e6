//! The fuzz targets as property tests, with a bounded number of inputs: random bytes, files of the corpus with changes, and scripts.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::path::Path;

use lanyard_harness::target;
use proptest::collection::vec;
use proptest::prelude::*;

/// One change to an input.
#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Flip(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
    /// A length or a number of 1, 2, 4 or 8 bytes becomes one at an edge.
    Edge(usize, u8),
    /// The end of another input follows the beginning of this one.
    Splice(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<usize>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, with)| Change::Set(at, with)),
        (at(), 0..8u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at(), vec(any::<u8>(), 1..9)).prop_map(|(at, with)| Change::Insert(at, with)),
        (at(), 1..40usize).prop_map(|(at, count)| Change::Remove(at, count)),
        (at(), 1..40usize).prop_map(|(at, count)| Change::Repeat(at, count)),
        (at(), any::<u8>()).prop_map(|(at, kind)| Change::Edge(at, kind)),
        (at(), at()).prop_map(|(at, from)| Change::Splice(at, from)),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, other: &[u8]) {
        let end = bytes.len() + 1;
        let within = |at: usize| at % end;
        match self {
            Change::Set(at, with) => {
                if let Some(byte) = bytes.get_mut(within(*at)) {
                    *byte = *with;
                }
            }
            Change::Flip(at, bit) => {
                if let Some(byte) = bytes.get_mut(within(*at)) {
                    *byte ^= 1 << bit;
                }
            }
            Change::Insert(at, with) => {
                let at = within(*at);
                bytes.splice(at..at, with.iter().copied());
            }
            Change::Remove(at, count) => {
                let at = within(*at);
                bytes.drain(at..bytes.len().min(at + count));
            }
            Change::Repeat(at, count) => {
                let at = within(*at);
                let part = bytes[at..bytes.len().min(at + count)].to_vec();
                bytes.splice(at..at, part);
            }
            Change::Edge(at, kind) => {
                let (at, width) = (within(*at), 1 << (kind >> 6));
                let (first, rest) = [(0, 0), (0xff, 0xff), (0x7f, 0xff), (0x80, 0)][usize::from(kind & 3)];
                for (n, byte) in bytes.iter_mut().skip(at).take(width).enumerate() {
                    *byte = if n == 0 { first } else { rest };
                }
            }
            Change::Splice(at, from) => {
                bytes.truncate(within(*at));
                bytes.extend(&other[from % (other.len() + 1)..]);
            }
        }
    }
}

fn inputs(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs a target with `cases` inputs from nothing and as many from the corpus.
fn holds(name: &str, cases: u32) {
    let (target, inputs) = (target(name), inputs(name));
    assert!(!inputs.is_empty(), "{name} has no corpus");
    let config = || ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
    let bytes_max = target.bytes_max;
    proptest!(config(), |(bytes in vec(any::<u8>(), 0..bytes_max.min(2_048)))| {
        (target.check)(&bytes);
    });
    let altered = (0..inputs.len(), 0..inputs.len(), vec(change(), 1..6));
    proptest!(config(), |((one, other, changes) in altered)| {
        let mut bytes = inputs[one].clone();
        changes.iter().for_each(|change| change.apply(&mut bytes, &inputs[other]));
        bytes.truncate(bytes_max);
        (target.check)(&bytes);
    });
}

macro_rules! hold {
    ($($name:ident: $cases:literal,)+) => {
        $(#[test]
        fn $name() {
            holds(stringify!($name), $cases);
        })+

        /// Each target is here.
        #[test]
        fn none_is_forgotten() {
            let here = [$(stringify!($name)),+];
            for target in lanyard_harness::TARGETS {
                assert!(here.contains(&target.name), "{}", target.name);
            }
        }
    };
}

// So many that all of them together take less than a minute, on two processors and unoptimised.
hold! {
    record: 1_000,
    charter: 1_000,
    frame: 200,
    certificate: 1_000,
    crl: 1_000,
    request: 1_000,
    pem: 1_000,
    gateway: 2_000,
    invitation: 2_000,
    name: 5_000,
    peek: 1_000,
    key_package: 300,
    group: 60,
    replica: 60,
    configuration: 500,
    admission: 300,
    stream: 500,
    address: 5_000,
    audit: 500,
    deletions: 300,
}
