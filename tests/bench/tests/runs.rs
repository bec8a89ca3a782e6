//! The benchmarks run, and what does not depend on the machine holds at a small size too.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::Value;

fn lines(arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn differences_cost_few_bytes_and_agreement_next_to_none() {
    let lines = lines(&["reconcile", "--records", "2000"]);
    let scenarios: Vec<_> = lines.iter().filter(|line| line["pattern"].is_string()).collect();
    assert_eq!(scenarios.len(), 4);
    for scenario in scenarios {
        assert!(scenario["idle bytes"].as_u64().unwrap() < 1024, "{scenario}");
        assert!(scenario["round trips"].as_u64().unwrap() <= 6, "{scenario}");
        assert_eq!(scenario["records sent"], scenario["differences"], "{scenario}");
    }
}

#[test]
fn a_compaction_gives_space_back_while_commits_go_on() {
    let [line] =
        lines(&["compact", "--records", "3000", "--dir", env!("CARGO_TARGET_TMPDIR")]).try_into().unwrap();
    assert_eq!(line["of which live"], 300);
    assert!(
        line["expired, bytes"].as_u64().unwrap() > 4 * line["compacted, bytes"].as_u64().unwrap(),
        "{line}"
    );
    assert!(line["commits beside the compaction"].as_u64().unwrap() > 0, "{line}");
}

#[test]
fn an_empty_replica_gets_everything() {
    let [line] =
        lines(&["restore", "--records", "300", "--dir", env!("CARGO_TARGET_TMPDIR")]).try_into().unwrap();
    assert_eq!(line["records"], 300);
    assert!(line["ratio"].as_f64().unwrap() > 0.0, "{line}");
}

#[test]
fn receipts_of_single_deletions_take_few_bytes() {
    let dir = env!("CARGO_TARGET_TMPDIR");
    let lines = lines(&["erase", "--only", "single", "--records", "600", "--dir", dir]);
    // In batches; the goal is less than 100 bytes.
    assert!(lines[0]["bytes of receipts for each"].as_f64().unwrap() < 100.0, "{}", lines[0]);
}

#[test]
fn a_conversation_is_attested_before_its_rows_are_gone() {
    let dir = env!("CARGO_TARGET_TMPDIR");
    let [line] =
        lines(&["erase", "--only", "conversation", "--records", "600", "--dir", dir]).try_into().unwrap();
    let seconds = |name: &str| line[name].as_f64().unwrap();
    assert!(seconds("until the receipt, seconds") < seconds("until every row is gone, seconds"), "{line}");
}

#[test]
fn records_are_taken_in_on_one_core_and_on_two() {
    let lines = lines(&["ingest", "--records", "600", "--dir", env!("CARGO_TARGET_TMPDIR")]);
    let [one, two, against] = &lines[..] else { panic!("{lines:?}") };
    for figures in [one, two] {
        assert_eq!(figures["records"], 600);
        for name in ["time against the same store's", "time against the file's"] {
            assert!(figures[name]["figure"].as_f64().unwrap() > 0.0, "{figures}");
        }
    }
    assert!(against["rate on two against one"]["figure"].as_f64().unwrap() > 0.0, "{against}");
}

#[test]
fn a_group_changes_by_the_library_and_by_a_vault() {
    let lines = lines(&["groups", "--records", "8", "--dir", env!("CARGO_TARGET_TMPDIR")]);
    let of = |name: &str| lines.iter().find(|line| line["operation"] == name).unwrap();
    for name in ["add one device", "remove one device", "renew one's own keys"] {
        for figure in
            ["who commits: time against the library's", "another member: time against the library's"]
        {
            assert!(of(name)[figure]["figure"].as_f64().unwrap() > 0.0, "{}", of(name));
        }
    }
    assert!(of("join by a welcome")["who joins, ms"]["Lanyard"].as_f64().unwrap() > 0.0);
    // Both make the same: what Lanyard adds to a welcome is the title.
    let wire = of("on the wire");
    for what in ["remove one device: commit, bytes", "renew one's own keys: commit, bytes"] {
        assert_eq!(wire[what]["the library"], wire[what]["Lanyard"], "{wire}");
    }
}

#[test]
fn real_processes_have_their_memory_and_start_taken() {
    let lines = lines(&["memory", "--records", "300"]);
    let of = |words: &str| {
        let found = lines.iter().find(|line| line["scenario"].as_str().unwrap().contains(words));
        found.unwrap_or_else(|| panic!("{words}: {lines:?}"))
    };
    let figure = |line: &Value, name: &str| line[name]["figure"].as_f64().unwrap();
    let node = of("stored records");
    assert_eq!(node["records"], 300);
    assert!(figure(node, "memory against the store's") > 0.0, "{node}");
    assert!(figure(node, "start-up against the store's") > 0.0, "{node}");
    assert!(figure(of("idle clients"), "a client, KiB") > 0.0, "{lines:?}");
    for words in ["listed", "after asking the node", "out of reach"] {
        assert!(figure(of(words), "time against bare SQLCipher's") > 0.0, "{lines:?}");
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_whatever_is_offered() {
    let lines = lines(&["overload", "--quick"]);
    let of = |scenario: &str| lines.iter().find(|line| line["scenario"] == scenario).unwrap();
    let killed = of("killed, and started again");
    assert!(killed["acknowledged"].as_u64().unwrap() > 0, "{killed}");
    assert_eq!(killed["of these lost"]["figure"], 0.0, "{killed}");
    let all = of("all rates");
    assert_eq!(all["of these taken then"], all["of these handed in again"], "{all}");
    let peer = of("a peer that sends as fast as it reads");
    assert_eq!(peer["connections cut off"]["figure"], 0.0, "{peer}");
    let plots = lines.iter().find_map(|line| line["plot"].as_array()).unwrap();
    assert!(plots.iter().all(|plot| plot["series"][0]["points"].as_array().unwrap().len() == 4), "{plots:?}");
}

#[test]
fn small_parts_have_medians_and_yardsticks() {
    let lines = lines(&["small", "--quick"]);
    for line in &lines {
        assert!(line["microseconds"].as_f64().unwrap() > 0.0, "{line}");
        assert_eq!(line["against it"].is_null(), line["yardstick"].is_null(), "{line}");
    }
    assert!(lines.iter().filter(|line| line["against it"].as_f64().is_some()).count() > 8);
}

#[test]
fn texts_of_a_client_reach_a_client_of_another_trust() {
    let [line] = lines(&["end-to-end", "--only", "lanyard", "--records", "25"]).try_into().unwrap();
    assert_eq!((&line["system"], &line["arrived in time"]), (&"Lanyard".into(), &25.into()));
    for name in ["one sender at most, messages a second", "2 senders at most, messages a second"] {
        assert!(line[name].as_f64().unwrap() > 0.0, "{line}");
    }
}
