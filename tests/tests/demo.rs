//! The demo, as `scripts/demo --json` runs it, with all loopback traffic captured meanwhile: every step comes out, it ends
//! what it has begun, and no message's text is in the traffic (promise P1).

use std::fs;
use std::process::Command;

use lanyard_tests::capture::{Capture, contains};
use serde_json::Value;

/// Parts of the texts that the demo sends, each of them unlike anything else that travels.
const TEXTS: [&str; 4] = ["Mr Q. Alder", "Theatre from 14:00", "Mrs R. Sorrel", "Ambulance delayed"];
/// What the test itself sends in plain text, to see that the capture sees.
const WITNESS: &[u8] = b"plain text on the loopback interface: 7f3a9c";
const STEPS: [&str; 12] = [
    "found-network",
    "start-nodes",
    "enrol-clinicians",
    "open-conversation",
    "exchange-messages",
    "look-inside-nodes",
    "delete-message",
    "catch-up",
    "refuse-country",
    "refuse-stranger",
    "look-for-texts",
    "stop-nodes",
];

#[test]
fn the_demo_comes_out_and_its_traffic_holds_no_text() {
    let dir = tempfile::tempdir().unwrap();
    let capture = Capture::begin(&dir.path().join("loopback")).unwrap();
    if capture.is_none() {
        assert!(std::env::var_os("CI").is_none(), "no capture: CAP_NET_RAW is needed");
        eprintln!("the traffic is not captured: CAP_NET_RAW is needed");
    }
    let demo =
        Command::new(env!("CARGO_BIN_EXE_demo")).arg("--json").env("TMPDIR", dir.path()).output().unwrap();
    let [stdout, stderr] = [&demo.stdout, &demo.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(demo.status.success(), "{stdout}{stderr}");

    let told: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(told["ok"], true);
    let steps = told["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(names, STEPS);
    assert!(steps.iter().all(|step| step["ok"] == true && step["took_ms"].is_u64()), "{stdout}");
    assert_eq!((&steps[6]["confirmed"], &steps[6]["replicas"]), (&3.into(), &3.into()));
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name != "loopback").collect();
    assert!(left.is_empty(), "the demo left {left:?}");

    if let Some(capture) = capture {
        Capture::witness(WITNESS).unwrap();
        let traffic = capture.end().unwrap();
        assert!(contains(&traffic, WITNESS), "the capture does not see plain text");
        assert!(traffic.len() > 100_000, "{} bytes are not the traffic of three nodes", traffic.len());
        for text in TEXTS {
            assert!(!contains(&traffic, text.as_bytes()), "{text:?} travelled in plain text");
        }
    }
}
