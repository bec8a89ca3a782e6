//! A directory in which the real program's commands run, and a node in it.

// Not every test uses all of it.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// A directory in which commands run.
pub struct Bench {
    pub directory: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn run(&self, args: &[&str]) -> Output {
        command(self.directory.path(), args).output().unwrap()
    }

    /// Runs a command that must succeed; its JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        self.json_then(args, &[])
    }

    /// The same with arguments behind `--json`.
    pub fn json_then(&self, args: &[&str], rest: &[&str]) -> Value {
        let output = self.run(&[args, &["--json"], rest].concat());
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a command that must fail with this exit code; what it says.
    pub fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        said
    }

    /// A trust with one node on this loopback address, and the charter of a network of its own.
    pub fn with_node(address: &str) -> Self {
        let bench = Self::new();
        bench.json(&["trust", "init", "--ods", "RYJ", "--name", "Royal Jubilee", "--dir", "ryj"]);
        let issue = ["trust", "issue-node", "--dir", "ryj", "--name", "Node 1", "--hosting", "GB"];
        let place = ["--address", address, "--listen", address, "--gateway-port", "0", "--peer-port", "0"];
        let node = bench.json(&[&issue[..], &place, &["--registrar", "--out", "node1"]].concat());
        let peer = node["certificates"][0]["peer_id"].as_str().unwrap();
        let member = format!("RYJ=ryj/root.pem,/ip4/{address}/tcp/4001/p2p/{peer}");
        bench.json(&["network", "authority-key", "--out", "authority.key"]);
        let found = ["network", "found", "--name", "Test region", "--authority-key", "authority.key"];
        let rest = ["--country", "GB", "--member", &member, "--out", "node1/charter.cbor"];
        bench.json(&[&found[..], &rest].concat());

        let config = fs::read_to_string(bench.path("node1/node.toml")).unwrap();
        let networks = format!("networks = [{{ cidr = \"{address}/32\", country = \"GB\" }}]");
        let public = format!("public_address = \"{address}:");
        let config = config
            .replace("networks = []", &networks)
            .replace(&format!("{public}0"), &format!("{public}8443"));
        fs::write(bench.path("node1/node.toml"), config).unwrap();
        bench
    }
}

pub fn command(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanyard-node"));
    command.args(args).current_dir(directory).env_remove("LANYARD_CONFIG");
    command
}

/// A node that runs until it is stopped or dropped.
pub struct Node {
    pub process: Child,
    pub ready: Value,
}

impl Node {
    pub fn start(bench: &Bench) -> Self {
        let _ = fs::remove_file(bench.path("ready.json"));
        let args = ["run", "--config", "node1/node.toml", "--ready-file", "ready.json"];
        let log = fs::File::create(bench.path("log")).unwrap();
        let mut process = command(bench.directory.path(), &args).stderr(Stdio::from(log)).spawn().unwrap();
        let started = Instant::now();
        loop {
            if let Ok(bytes) = fs::read(bench.path("ready.json")) {
                return Self { process, ready: serde_json::from_slice(&bytes).unwrap() };
            }
            if process.try_wait().unwrap().is_some() || started.elapsed() > PATIENCE {
                let _ = process.kill();
                panic!("the node did not become ready: {}", fs::read_to_string(bench.path("log")).unwrap());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it as an operator would; what it logged.
    pub fn stop(mut self, bench: &Bench) -> String {
        let killed = Command::new("kill").arg("-TERM").arg(self.process.id().to_string()).status().unwrap();
        assert!(killed.success());
        let status = self.process.wait().unwrap();
        let logged = fs::read_to_string(bench.path("log")).unwrap();
        assert_eq!(status.code(), Some(0), "{logged}");
        logged
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
