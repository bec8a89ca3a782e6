//! The demo, as `scripts/demo --json` runs it, with all loopback traffic captured meanwhile: every step comes out, it ends
//! what it has begun, and no message's text is in the traffic (promise P1).

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// Parts of the texts that the demo sends, each of them unlike anything else that travels.
const TEXTS: [&str; 4] = ["Mr Q. Alder", "Theatre from 14:00", "Mrs R. Sorrel", "Ambulance delayed"];
/// What the test itself sends in plain text, to see that the capture sees.
const WITNESS: &str = "plain text on the loopback interface: 7f3a9c";
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
    let file = dir.path().join("loopback");
    let capture = Capture::begin(&file);
    let demo = Command::new(env!("CARGO_BIN_EXE_demo")).arg("--json").env("TMPDIR", dir.path()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&demo.stdout), String::from_utf8_lossy(&demo.stderr));
    assert!(demo.status.success(), "{said}");

    let told: Value = serde_json::from_slice(&demo.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!(told["ok"], true);
    let steps = told["steps"].as_array().unwrap();
    assert_eq!(steps.iter().map(|step| step["name"].as_str().unwrap()).collect::<Vec<_>>(), STEPS);
    assert!(steps.iter().all(|step| step["ok"] == true && step["took_ms"].is_u64()), "{said}");
    assert_eq!((&steps[6]["confirmed"], &steps[6]["replicas"]), (&3.into(), &3.into()));
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).filter(|n| n != "loopback").collect();
    assert!(left.is_empty(), "the demo left {left:?}");

    if let Some(capture) = capture {
        let traffic = capture.end();
        assert!(contains(&traffic, WITNESS), "the capture does not see what is sent in plain text");
        assert!(traffic.len() > 100_000, "{} bytes are not the traffic of three nodes", traffic.len());
        for text in TEXTS {
            assert!(!contains(&traffic, text), "{text:?} travelled in plain text");
        }
    }
}

/// A capture of all that is sent on the loopback interface.
struct Capture {
    child: Child,
    file: PathBuf,
}

impl Capture {
    /// None where the system does not let us; in CI that is a failure.
    fn begin(file: &Path) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/capture.py");
        let mut command = Command::new("python3");
        command.arg(script).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut line = String::new();
        let child = command.spawn().ok().and_then(|mut child| {
            BufReader::new(child.stdout.as_mut()?).read_line(&mut line).ok()?;
            Some(child)
        });
        if line.trim() == "capturing" {
            return child.map(|child| Self { child, file: file.into() });
        }
        assert!(std::env::var_os("CI").is_none(), "no capture: python3 and CAP_NET_RAW are needed");
        eprintln!("the traffic is not captured: python3 and CAP_NET_RAW are needed");
        None
    }

    /// Everything that was sent until now.
    fn end(mut self) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        sender.write_all(WITNESS.as_bytes()).unwrap();
        drop(sender);
        let mut received = String::new();
        listener.accept().unwrap().0.read_to_string(&mut received).unwrap();
        assert_eq!(received, WITNESS);

        drop(self.child.stdin.take());
        let mut dropped = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut dropped).unwrap();
        assert!(self.child.wait().unwrap().success());
        assert_eq!(dropped.trim(), "0", "the kernel dropped frames, so that the capture proves nothing");
        fs::read(&self.file).unwrap()
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    let first = text.as_bytes()[0];
    bytes.iter().enumerate().any(|(at, byte)| *byte == first && bytes[at..].starts_with(text.as_bytes()))
}
