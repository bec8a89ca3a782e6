//! Every file of the corpus and every crash that was ever found is read by its harness; every target has its files; and no file
//! belongs to no target.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lanyard_harness::groups::name_of;
use lanyard_harness::{TARGETS, Target};

/// All files of the corpus together, in bytes.
const CORPUS_BYTES_MAX: u64 = 1024 * 1024;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in tests").join("fuzz")
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    if !dir.exists() {
        return Vec::new();
    }
    names(dir).into_iter().map(|name| (name.clone(), fs::read(dir.join(name)).unwrap())).collect()
}

#[test]
fn each_target_has_a_program_and_inputs() {
    let all: BTreeSet<String> = TARGETS.iter().map(|t| t.name.to_owned()).collect();
    assert_eq!(names(&fuzz().join("corpus")), all);
    assert!(names(&fuzz().join("crashes")).is_subset(&all), "crashes of targets that are not");
    let programs = all.iter().map(|name| format!("{name}.rs")).collect::<BTreeSet<_>>();
    assert_eq!(names(&fuzz().join("fuzz_targets")), programs);
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in &all {
        let program = fs::read_to_string(fuzz().join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(program.contains(&format!("lanyard_harness::run(\"{name}\", bytes)")), "{name}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

#[test]
fn each_file_of_the_corpus_is_read_and_named_by_its_hash() {
    let mut bytes_in_all = 0;
    for Target { name, bytes_max, check } in TARGETS {
        let (mut accepted, files) = (0, files(&fuzz().join("corpus").join(name)));
        for (file, bytes) in &files {
            assert_eq!(*file, name_of(bytes), "{name}/{file} is not named by its hash");
            assert!(bytes.len() <= *bytes_max, "{name}/{file} has {} bytes", bytes.len());
            bytes_in_all += bytes.len() as u64;
            accepted += usize::from(check(bytes));
        }
        // A corpus of which nothing is accepted teaches a fuzzer nothing.
        assert!(accepted > 0, "{name}: none of {} inputs is accepted", files.len());
    }
    assert!(bytes_in_all <= CORPUS_BYTES_MAX, "{bytes_in_all} bytes; minimise: scripts/fuzz --minimise");
}

#[test]
fn no_crash_comes_back() {
    for Target { name, check, .. } in TARGETS {
        for (file, bytes) in files(&fuzz().join("crashes").join(name)) {
            println!("{name}/{file}");
            check(&bytes);
        }
    }
}
