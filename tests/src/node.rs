//! A node: its directory, its process, and what its operator asks of it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::loopback::{GATEWAY_PORT, PEER_PORT, Subnet};
use crate::process::{self, Daemon, Outcome, Programs, Surroundings};
use crate::wait::{self, SOON};
use crate::{HarnessError, person::PersonPlan};

/// One node of a trust. Dropped, its process is ended.
#[derive(Debug)]
pub struct Node {
    programs: Programs,
    name: String,
    dir: PathBuf,
    address: Ipv4Addr,
    peer_id: String,
    front: Option<Ipv4Addr>,
    surroundings: Surroundings,
    daemon: Option<Daemon>,
}

impl Node {
    /// Issues a node's certificate by the trust in `trust_dir`, and completes its configuration: the lower half of the
    /// subnet is in the UK, the upper half in the United States.
    ///
    /// # Errors
    /// What the command says, or the system about the files.
    pub fn issue(
        programs: &Programs,
        name: &str,
        trust_dir: &Path,
        dir: &Path,
        address: Ipv4Addr,
        subnet: Subnet,
    ) -> Result<Self, HarnessError> {
        let ip = address.to_string();
        let (trust_dir, out) = (text(trust_dir), text(dir));
        #[rustfmt::skip]
        let issued = process::run(&programs.node(), [
            "trust", "issue-node", "--dir", &trust_dir, "--name", name, "--hosting", "GB", "--address", &ip,
            "--listen", &ip, "--gateway-port", &GATEWAY_PORT.to_string(), "--peer-port", &PEER_PORT.to_string(),
            "--registrar", "--out", &out, "--json",
        ], None)?;
        let peer_id = issued.json_text("/certificates/0/peer_id")?;
        let node = Self {
            programs: programs.clone(),
            name: name.into(),
            dir: dir.into(),
            address,
            peer_id,
            front: None,
            surroundings: Surroundings::default(),
            daemon: None,
        };
        // No test is to end because nobody has typed anything for a while.
        node.configure("[gateway]", "[policy.pin]\nidle_secs = 3600\nsession_hours = 24\n\n[gateway]")?;
        let (inside, outside) = (subnet.cidr_inside(), subnet.cidr_outside());
        node.configure(
            "networks = []",
            &format!(
                "networks = [{{ cidr = \"{inside}\", country = \"GB\" }}]\n\
                 elsewhere = [{{ cidr = \"{outside}\", country = \"US\" }}]"
            ),
        )?;
        Ok(node)
    }

    /// The node whose directory this is, as [`Node::issue`] made it, on this machine or another one.
    ///
    /// # Errors
    /// What the command says that reads its certificate.
    pub fn existing(programs: &Programs, dir: &Path, address: Ipv4Addr) -> Result<Self, HarnessError> {
        let chain = text(&dir.join("node.pem"));
        let shown = process::run(&programs.node(), ["trust", "show", &chain, "--json"], None)?;
        Ok(Self {
            programs: programs.clone(),
            name: shown.clone().json_text("/0/name")?,
            dir: dir.into(),
            address,
            peer_id: shown.json_text("/0/peer_id")?,
            front: None,
            surroundings: Surroundings::default(),
            daemon: None,
        })
    }

    /// Has other nodes dial it at the address `front`, where something passes on to it what comes.
    ///
    /// # Errors
    /// As [`Node::configure`].
    pub fn stand_behind(&mut self, front: Ipv4Addr) -> Result<(), HarnessError> {
        let announce = format!(
            "announce = [\"/ip4/{front}/udp/{PEER_PORT}/quic-v1\", \"/ip4/{front}/tcp/{PEER_PORT}\"]"
        );
        self.configure("[peer]", &format!("[peer]\n{announce}"))?;
        self.front = Some(front);
        Ok(())
    }

    /// Where its process runs from its next start on.
    pub fn surround(&mut self, surroundings: Surroundings) {
        self.surroundings = surroundings;
    }

    /// Replaces a part of `node.toml`.
    ///
    /// # Errors
    /// [`HarnessError::Promise`] if the part is not there, or what the system says about the file.
    pub fn configure(&self, part: &str, by: &str) -> Result<(), HarnessError> {
        let path = self.config();
        let failed = || HarnessError::system(path.display().to_string());
        let config = fs::read_to_string(&path).map_err(failed())?;
        crate::error::promise(config.contains(part), || format!("{}: has no {part:?}", path.display()))?;
        fs::write(&path, config.replacen(part, by, 1)).map_err(failed())
    }

    /// Gives the node the charter to begin with.
    ///
    /// # Errors
    /// What the system says about the files.
    pub fn give_charter(&self, charter: &Path) -> Result<(), HarnessError> {
        fs::copy(charter, self.dir.join("charter.cbor")).map_err(HarnessError::system(text(charter)))?;
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its libp2p peer id.
    pub fn peer_id(&self) -> &str {
        &self.peer_id
    }

    /// The IP address on which it listens.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The multiaddresses under which other nodes find it.
    pub fn multiaddresses(&self) -> [String; 2] {
        let (ip, peer_id) = (self.front.unwrap_or(self.address), &self.peer_id);
        [
            format!("/ip4/{ip}/udp/{PEER_PORT}/quic-v1/p2p/{peer_id}"),
            format!("/ip4/{ip}/tcp/{PEER_PORT}/p2p/{peer_id}"),
        ]
    }

    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("node.toml")
    }

    /// Where it keeps what it stores.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The file with its log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("node.log")
    }

    /// The process id, while it runs.
    pub fn process_id(&self) -> Option<u32> {
        self.daemon.as_ref().map(Daemon::id)
    }

    /// Starts the process, and waits until it is ready.
    ///
    /// # Errors
    /// [`HarnessError::Ended`] with its log if it ends instead.
    pub fn start(&mut self) -> Result<(), HarnessError> {
        self.launch()?;
        self.await_ready()
    }

    /// Starts the process, and does not wait.
    ///
    /// # Errors
    /// [`HarnessError::System`].
    pub fn launch(&mut self) -> Result<(), HarnessError> {
        let ready = self.ready_file();
        if ready.exists() {
            fs::remove_file(&ready).map_err(HarnessError::system(text(&ready)))?;
        }
        let (config, ready) = (text(&self.config()), text(&ready));
        let arguments = ["run", "--config", &config, "--ready-file", &ready];
        let (program, log) = (self.programs.node(), self.log());
        self.daemon = Some(Daemon::start_under(&self.surroundings, &self.name, &program, &arguments, &log)?);
        Ok(())
    }

    /// Waits until a process that was launched is ready.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn await_ready(&mut self) -> Result<(), HarnessError> {
        let ready = self.ready_file();
        wait::until(format!("{} is ready", self.name), SOON, || {
            self.check()?;
            let text = fs::read_to_string(&ready).unwrap_or_default();
            Ok(serde_json::from_str::<Value>(&text).map(drop).map_err(|_| "not ready"))
        })
    }

    /// Fails if the process has ended although nobody asked it to.
    ///
    /// # Errors
    /// [`HarnessError::Ended`].
    pub fn check(&mut self) -> Result<(), HarnessError> {
        self.daemon.as_mut().map_or(Ok(()), Daemon::check)
    }

    /// Ends the process by SIGTERM; its exit code must be 0.
    ///
    /// # Errors
    /// See [`Daemon::stop`].
    pub fn stop(&mut self) -> Result<(), HarnessError> {
        self.daemon.take().map_or(Ok(()), Daemon::stop)
    }

    /// Ends the process by SIGKILL.
    ///
    /// # Errors
    /// See [`Daemon::kill`].
    pub fn kill(&mut self) -> Result<(), HarnessError> {
        self.daemon.take().map_or(Ok(()), Daemon::kill)
    }

    /// Stops the process by SIGSTOP, until [`Node::resume`].
    ///
    /// # Errors
    /// See [`Daemon::pause`].
    pub fn pause(&self) -> Result<(), HarnessError> {
        self.daemon.as_ref().map_or(Ok(()), Daemon::pause)
    }

    /// Lets the process go on.
    ///
    /// # Errors
    /// See [`Daemon::resume`].
    pub fn resume(&self) -> Result<(), HarnessError> {
        self.daemon.as_ref().map_or(Ok(()), Daemon::resume)
    }

    /// Waits until the process ends by itself; its exit code, and what it wrote to its log.
    ///
    /// # Errors
    /// See [`Daemon::await_end`].
    pub fn await_end(&mut self) -> Result<(Option<i32>, String), HarnessError> {
        let ended = self.daemon.as_mut().map_or(Ok(None), |daemon| daemon.await_end(SOON))?;
        self.daemon = None;
        let log = fs::read(self.log()).map_err(HarnessError::system(text(&self.log())))?;
        Ok((ended, String::from_utf8_lossy(&log).into_owned()))
    }

    /// Leaves the process running when this is dropped.
    pub fn keep(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.keep();
        }
    }

    /// What the operator types behind `lanyard-node`, with this node's configuration.
    ///
    /// # Errors
    /// [`HarnessError::System`] or [`HarnessError::TimedOut`]; how the command ended is in the outcome.
    pub fn command(&self, arguments: &[&str]) -> Result<Outcome, HarnessError> {
        let config = text(&self.config());
        let all = arguments.iter().copied().chain(["--config", &config]);
        process::run(&self.programs.node(), all, None)
    }

    /// As [`Node::command`], with `--json`; the command must come out.
    ///
    /// # Errors
    /// Also what the command says if it fails.
    pub fn json(&self, arguments: &[&str]) -> Result<Value, HarnessError> {
        let all: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        self.command(&all)?.json()
    }

    /// Invites a person, and returns the line that they enrol with.
    ///
    /// # Errors
    /// What the command says.
    pub fn invite(&self, person: &PersonPlan) -> Result<String, HarnessError> {
        #[rustfmt::skip]
        let invited = self.command(&[
            "staff", "invite", "--name", person.name, "--role", person.role, "--registration", person.registration,
            "--department", person.department, "--checked-by", "R. Lindqvist (fictional)", "--json",
        ])?;
        invited.json_text("/invitation")
    }

    /// The whole audit log, oldest first.
    ///
    /// # Errors
    /// What the command says.
    pub fn audit(&self) -> Result<Vec<Value>, HarnessError> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page = self.json(&["audit", "--after", &after.to_string(), "--limit", "1000"])?;
            let entries = page["entries"].as_array().cloned().unwrap_or_default();
            match entries.last().and_then(|entry| entry["number"].as_u64()) {
                Some(last) => after = last,
                None => return Ok(all),
            }
            all.extend(entries);
        }
    }

    /// Waits for an entry of the audit log that `fits`.
    ///
    /// # Errors
    /// [`HarnessError::TimedOut`], with the end of the log.
    pub fn await_audit(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value, HarnessError> {
        wait::until(format!("the audit log of {} says: {what}", self.name), SOON, || {
            let log = self.audit()?;
            let found = log.iter().find(|entry| fits(entry)).cloned();
            Ok(found.ok_or_else(|| log.iter().rev().take(5).map(Value::to_string).collect::<Vec<_>>()))
        })
    }

    /// `lanyard-node status`.
    ///
    /// # Errors
    /// What the command says.
    pub fn status(&self) -> Result<Value, HarnessError> {
        self.json(&["status"])
    }

    /// The peer ids of the nodes that it is connected to.
    ///
    /// # Errors
    /// What the command says.
    pub fn connected(&self) -> Result<Vec<String>, HarnessError> {
        let status = self.status()?;
        let peers = status["peers"].as_array().cloned().unwrap_or_default();
        let connected = peers.iter().filter(|peer| peer["connected"] == true);
        Ok(connected.filter_map(|peer| peer["peer_id"].as_str().map(str::to_owned)).collect())
    }

    /// Waits until it is connected to all of these.
    ///
    /// # Errors
    /// [`HarnessError::TimedOut`], with those that it is connected to.
    pub fn await_peers<'a>(&self, peers: impl IntoIterator<Item = &'a Node>) -> Result<(), HarnessError> {
        let wanted: Vec<&str> =
            peers.into_iter().map(Node::peer_id).filter(|id| *id != self.peer_id).collect();
        wait::until(
            format!("{} is connected to {} nodes", self.name, wanted.len()),
            Duration::from_secs(60),
            || {
                let connected = self.connected()?;
                let all = wanted.iter().all(|id| connected.iter().any(|c| c == id));
                Ok(if all { Ok(()) } else { Err(connected) })
            },
        )
    }

    /// The record as the node holds it, if it does.
    ///
    /// # Errors
    /// What the command says if it fails for another reason.
    pub fn held(&self, record: &str) -> Result<Option<Value>, HarnessError> {
        let outcome = self.command(&["held", record, "--json"])?;
        if outcome.code() == Some(1) && outcome.stderr.contains("not held") {
            return Ok(None);
        }
        outcome.json().map(Some)
    }

    fn ready_file(&self) -> PathBuf {
        self.dir.join("ready.json")
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}
