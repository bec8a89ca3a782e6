//! The simulator as a program: the same seed does the same in two processes, every committed scenario runs, and the seeds that
//! found bugs find none any more.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use lanyard_simulator::mutations::Bug;
use lanyard_simulator::scenario::{SCENARIOS, Scenario};
use serde::Deserialize;
use serde_json::Value;

fn simulate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simulate")).args(arguments).output().unwrap()
}

fn report(arguments: &[&str]) -> Value {
    let output = simulate(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_same_seed_does_the_same_in_two_processes() {
    let mut traces = Vec::new();
    for (seed, (name, _)) in SCENARIOS.iter().enumerate() {
        let arguments = ["--seed", &seed.to_string(), "--scenario", name, "--json"];
        let (first, second) = (report(&arguments), report(&arguments));
        let trace = first["trace"].as_str().unwrap().to_owned();
        assert_eq!(trace.len(), 64, "{name}");
        assert_eq!(first["trace"], second["trace"], "{name}");
        assert_eq!((&first["steps"], &first["counters"]), (&second["steps"], &second["counters"]), "{name}");
        traces.push(trace);
    }
    traces.sort();
    traces.dedup();
    assert_eq!(traces.len(), SCENARIOS.len(), "each run is another one");
}

#[test]
fn every_scenario_holds() {
    for (name, _) in SCENARIOS {
        let report = report(&["--seeds", "1000..1006", "--scenario", name, "--json"]);
        assert_eq!(report["seeds_run"], 6);
        assert_eq!(report["failed_seeds"].as_array().unwrap().len(), 0, "{name}");
    }
}

#[test]
fn the_seed_and_the_options_come_first() {
    let output = simulate(&["--seed", "3", "--scenario", "crashes"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().next(), Some("seed 3, scenario crashes"));
    let traced = simulate(&["--seed", "3", "--scenario", "crashes", "--trace"]);
    assert!(traced.stdout.len() > 10 * text.len());
}

#[test]
fn what_cannot_be_run_is_said_to_be_used_wrongly() {
    let wrong: [&[&str]; 6] = [
        &[],
        &["--seeds", "5..5"],
        &["--seeds", "five"],
        &["--seed", "1", "--seeds", "0..2"],
        &["--seed", "1", "--scenario", "nowhere.toml"],
        &["--seeds", "0..2", "--trace"],
    ];
    for arguments in wrong {
        let output = simulate(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

/// The file of regressions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Regressions {
    regression: Vec<Regression>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Regression {
    name: String,
    seed: u64,
    scenario: String,
    found: String,
    bug: Option<String>,
    test: Option<String>,
}

/// All files in and below a directory.
fn texts(dir: &Path) -> String {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| if path.is_dir() { texts(&path) } else { fs::read_to_string(path).unwrap() }).collect()
}

#[test]
fn every_regression_holds() {
    let regressions: Regressions = toml::from_str(include_str!("../regressions.toml")).unwrap();
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../../node/replica/src/tests");
    let tests = texts(Path::new(tests));
    for Regression { name, seed, scenario, found, bug, test } in regressions.regression {
        assert!(!found.is_empty(), "{name}");
        assert!(bug.is_some() || test.is_some(), "{name}: nothing shows that it would be found again");
        let no_mutation = bug.filter(|bug| !Bug::ALL.iter().any(|b| b.name() == bug));
        assert_eq!(no_mutation, None, "{name}: no mutation has this name");
        let no_test = test.filter(|test| !tests.contains(&format!("fn {test}()")));
        assert_eq!(no_test, None, "{name}: no test of the engine has this name");
        assert!(Scenario::named(&scenario).is_some(), "{name}");
        report(&["--seed", &seed.to_string(), "--scenario", &scenario, "--json"]);
    }
}
