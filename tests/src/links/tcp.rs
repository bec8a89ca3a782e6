//! Streams.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::net::{AddressFamily, SocketType};

use super::{LOOK, Wire};
use crate::{HarnessError, loopback::PEER_PORT};

/// How much is passed on at once: little, so that a slow link is slow evenly.
const CHUNK_BYTES: usize = 4096;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Listens at a node's front.
pub(super) fn listen(wire: &Arc<Wire>, to: usize) -> Result<JoinHandle<()>, HarnessError> {
    let front = SocketAddrV4::new(wire.ends[to].front, PEER_PORT);
    let listener = listener(front).map_err(HarnessError::system(format!("tcp {front}")))?;
    let wire = wire.clone();
    Ok(thread::spawn(move || {
        while !wire.ended() {
            match listener.accept() {
                // A connection that comes to nothing is closed, and whoever dialled tries again.
                Ok((stream, sender)) => {
                    let from = wire.place_of(sender.ip()).or_else(|| wire.only_other(to));
                    drop(from.map(|from| join(&wire, (from, to), stream)));
                }
                Err(_) => thread::sleep(LOOK / 5),
            }
        }
    }))
}

/// A node dials from the port that it listens on, on whichever address; the system lets it only if everybody with this port agrees.
fn listener(front: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &front)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to the node, and passes on what comes from either side until one of them ends.
fn join(wire: &Arc<Wire>, (from, to): (usize, usize), inward: TcpStream) -> io::Result<()> {
    let onward = connect(wire.ends[from].sender, SocketAddrV4::new(wire.ends[to].node, PEER_PORT))?;
    for stream in [&inward, &onward] {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
    }
    let ways = [(from, to, inward.try_clone()?, onward.try_clone()?), (to, from, onward, inward)];
    for (from, to, source, sink) in ways {
        let wire = wire.clone();
        thread::spawn(move || {
            // However it ended, both directions are over.
            let _ = pump(&wire, (from, to), &source, &sink);
            let _ = source.shutdown(Shutdown::Both);
            let _ = sink.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

/// std's `connect` chooses the local address itself.
fn connect(own: Ipv4Addr, node: SocketAddrV4) -> io::Result<TcpStream> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(own, 0))?;
    rustix::net::connect(&socket, &node)?;
    Ok(socket.into())
}

fn pump(
    wire: &Wire,
    (from, to): (usize, usize),
    mut source: &TcpStream,
    mut sink: &TcpStream,
) -> io::Result<()> {
    let lane = wire.lane(from, to);
    let resets = lane.resets.load(Ordering::Relaxed);
    let broken = || wire.ended() || lane.resets.load(Ordering::Relaxed) != resets;
    let mut chunk = [0; CHUNK_BYTES];
    while !broken() {
        let length = match source.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error),
        };
        let due = loop {
            match lane.arrival_of_bytes(length) {
                Some(due) => break due,
                None if broken() => return Ok(()),
                None => thread::sleep(LOOK / 5),
            }
        };
        thread::sleep(due.saturating_duration_since(Instant::now()));
        sink.write_all(&chunk[..length])?;
    }
    Ok(())
}
