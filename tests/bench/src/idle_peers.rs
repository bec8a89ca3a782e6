//! What an idle client takes in the memory of Prosody, ejabberd and Synapse: resident memory of a server's processes with all clients
//! connected over TLS and quiet, less before any had connected.
//!
//! XMPP's clients are logged in and available; Matrix's wait for the answer of a long-polled `/sync`. Accounts are made as the clients
//! come; where that takes too long, there are fewer, and the result says how many.

use std::error::Error;
use std::time::Duration;

use lanyard_tests::loopback::Subnet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::Size;
use crate::load::Failure;
use crate::peers::{Authority, Peer};

/// Before the first client connects, and after the last has.
const QUIET: Duration = Duration::from_secs(5);

pub fn run(size: &Size) -> Result<(), Box<dyn Error>> {
    let wanted = size.records.unwrap_or(if size.quick { 40 } else { 2_000 });
    // A client is a socket here, and one at the server, which takes over the limit.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let (within, quiet) =
        if size.quick { (Duration::from_secs(2), QUIET / 5) } else { (Duration::from_secs(9), QUIET) };
    for peer in Peer::ALL {
        let result = measure(peer, wanted, within, quiet);
        size.show(
            &result
                .unwrap_or_else(|error| json!({ "server": peer.name(), "not measured": error.to_string() })),
        );
    }
    Ok(())
}

fn measure(peer: Peer, wanted: usize, within: Duration, quiet: Duration) -> Result<Value, Failure> {
    let authority = Authority::new()?;
    let server = peer.start(&authority, Subnet::free()?.inside(1))?;
    // What starting took is given back after a while.
    std::thread::sleep(quiet);
    let read = || server.resident_bytes().map_err(|error| error.to_string());
    let before = read()?;
    let mut idle = peer.idle(&authority, &server, wanted, within)?;
    idle.rest(quiet)?;
    let (after, count) = (read()?, idle.count());
    Ok(json!({
        "server": peer.name(),
        "clients": count,
        "wanted": wanted,
        "resident before, bytes": before,
        "resident with them, bytes": after,
        "bytes of a client": (after as f64 - before as f64) / count.max(1) as f64,
    }))
}
