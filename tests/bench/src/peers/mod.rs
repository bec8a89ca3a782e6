//! Other messengers' servers, as private processes on loopback addresses: Prosody and ejabberd (XMPP, RFC 6120), Synapse (Matrix).
//!
//! Each server has a directory of its own that goes with it, an address of its own, which is also the name by which others know it
//! (so nothing depends on name resolution), and a certificate of a certification authority that is made for the run. What is not
//! installed is an error that says so; nothing here installs anything.

mod authority;
mod ejabberd;
mod http;
mod matrix;
mod prosody;
mod synapse;
mod xmpp;

pub use authority::Authority;

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lanyard_tests::process::Daemon;
use tempfile::TempDir;

use crate::load::{Ends, Failure};

/// How long a server may take until it takes connections.
const START_TIME_MAX: Duration = Duration::from_secs(40);
/// Everybody's password at the peers.
const PASSWORD: &str = "lantern-sedge";

/// A kind of server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// XMPP, in Lua.
    Prosody,
    /// XMPP, in Erlang.
    Ejabberd,
    /// Matrix, in Python.
    Synapse,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Prosody, Self::Ejabberd, Self::Synapse];

    /// As its makers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prosody => "Prosody",
            Self::Ejabberd => "ejabberd",
            Self::Synapse => "Synapse",
        }
    }

    /// Starts one at this address, and waits until it takes connections from clients.
    ///
    /// # Errors
    /// That it is not installed, or what it says when it does not start.
    pub fn start(self, authority: &Authority, address: Ipv4Addr) -> Result<Server, Failure> {
        let dir = tempfile::Builder::new().prefix("lanyard-peer-").tempdir()?;
        let (daemon, port) = match self {
            Self::Prosody => prosody::start(authority, dir.path(), address),
            Self::Ejabberd => ejabberd::start(authority, dir.path(), address),
            Self::Synapse => synapse::start(authority, dir.path(), address),
        }?;
        let mut server = Server { peer: self, daemon, at: SocketAddrV4::new(address, port), dir };
        let end = Instant::now() + START_TIME_MAX;
        while TcpStream::connect(server.at).is_err() {
            server.daemon.check()?;
            if Instant::now() > end {
                return Err(format!("{} takes no connections", self.name()).into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// So many senders at one server, each with a receiver at the other.
    ///
    /// # Errors
    /// What a server says.
    pub fn join(
        self,
        authority: &Authority,
        servers: &[Server; 2],
        pairs: usize,
    ) -> Result<Vec<Ends>, Failure> {
        let join = |pair| match self {
            Self::Prosody | Self::Ejabberd => xmpp::join(authority, servers, pair),
            Self::Synapse => matrix::join(authority, servers, pair),
        };
        (0..pairs).map(join).collect()
    }

    /// Connects clients that then do nothing, one after the other, at most so many and for about so long.
    ///
    /// # Errors
    /// What the server says.
    pub fn idle(
        self,
        authority: &Authority,
        server: &Server,
        count: usize,
        within: Duration,
    ) -> Result<Idle, Failure> {
        match self {
            Self::Prosody | Self::Ejabberd => xmpp::idle(authority, server, count, within).map(Idle::Xmpp),
            Self::Synapse => matrix::idle(authority, server, count, within).map(Idle::Matrix),
        }
    }
}

/// Clients that stay connected and do nothing, until this is dropped.
pub enum Idle {
    Xmpp(Vec<xmpp::Stream>),
    Matrix(matrix::Waiting),
}

impl Idle {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Xmpp(streams) => streams.len(),
            Self::Matrix(waiting) => waiting.count(),
        }
    }

    /// Lets time pass, while every client stays connected.
    ///
    /// # Errors
    /// That one is not any more.
    pub fn rest(&mut self, time: Duration) -> Result<(), Failure> {
        match self {
            Self::Xmpp(streams) => {
                std::thread::sleep(time);
                streams.iter_mut().try_for_each(|stream| stream.check())
            }
            Self::Matrix(waiting) => waiting.rest(time),
        }
    }
}

/// A server that runs. Dropped, it is ended, and its directory removed.
pub struct Server {
    peer: Peer,
    daemon: Daemon,
    at: SocketAddrV4,
    dir: TempDir,
}

impl Server {
    /// The name by which other servers and its clients know it.
    fn name(&self) -> String {
        self.at.ip().to_string()
    }

    /// What its processes have in memory, in bytes.
    ///
    /// # Errors
    /// What the system says about them.
    pub fn resident_bytes(&self) -> Result<u64, Box<dyn Error>> {
        resident_bytes(self.daemon.id())
    }

    /// The end of its log, for errors.
    pub fn log_tail(&self) -> String {
        let log = fs::read(self.dir.path().join("log")).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(600)..]).into_owned();
        format!("{}: {tail}", self.peer.name())
    }
}

/// What a process and all its children have in memory (`VmRSS` of proc(5)), in bytes; pages that they share count for each.
///
/// # Errors
/// What the system says about the process.
pub fn resident_bytes(process: u32) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let mut bytes = match line.and_then(|line| line.trim().strip_suffix(" kB")) {
        Some(kib) => kib.trim().parse::<u64>()? << 10,
        None => 0,
    };
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"))?;
    for child in children.split_whitespace() {
        // One that has ended by now has nothing in memory.
        bytes += resident_bytes(child.parse()?).unwrap_or(0);
    }
    Ok(bytes)
}

/// A program that is on the path, or where Debian puts what only operators run.
fn installed(program: &str, how: &str) -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from));
    let found = dirs.map(|dir| dir.join(program)).find(|path| path.is_file());
    found.ok_or_else(|| format!("{program} is not installed ({how})").into())
}

/// Starts a program in a directory, in which its configuration is and to whose file `log` goes what it prints.
fn run(program: &Path, arguments: &[&str], variables: &[String], dir: &Path) -> Result<Daemon, Failure> {
    let mut words = vec!["env".to_owned(), "-C".to_owned(), dir.display().to_string()];
    words.extend_from_slice(variables);
    let surroundings = lanyard_tests::process::Surroundings::new(words);
    let name = program.display().to_string();
    Ok(Daemon::start_under(&surroundings, &name, program, arguments, &dir.join("log"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory_and_what_does_not_run_has_none() {
        assert!(resident_bytes(std::process::id()).unwrap() > 1 << 20);
        assert!(resident_bytes(u32::MAX).is_err());
    }
}
