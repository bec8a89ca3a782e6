//! Datagrams, which carry QUIC.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::{LOOK, Wire};
use crate::{HarnessError, loopback::PEER_PORT};

/// The largest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// Listens at a node's front.
pub(super) fn listen(wire: &Arc<Wire>, to: usize, late: &Arc<Late>) -> Result<JoinHandle<()>, HarnessError> {
    let front = bound((wire.ends[to].front, PEER_PORT).into())?;
    let (wire, late) = (wire.clone(), late.clone());
    Ok(thread::spawn(move || {
        let mut flows = BTreeMap::new();
        receive(&wire, &front, |sender, bytes| {
            let Some(from) = wire.place_of(sender.ip()) else { return };
            let onward = match flows.get(&sender) {
                Some(onward) => Arc::clone(onward),
                None => {
                    let Ok(onward) = flow(&wire, &late, (from, to), &front, sender) else { return };
                    flows.insert(sender, onward.clone());
                    onward
                }
            };
            pass(&wire, &late, (from, to), &onward, None, bytes);
        });
    }))
}

/// Opens the way from one sender onward to the node, and passes back what the node answers, until everything ends.
fn flow(
    wire: &Arc<Wire>,
    late: &Arc<Late>,
    (from, to): (usize, usize),
    front: &Arc<UdpSocket>,
    sender: SocketAddr,
) -> Result<Arc<UdpSocket>, HarnessError> {
    let onward = bound((wire.ends[from].sender, 0).into())?;
    onward.connect((wire.ends[to].node, PEER_PORT)).map_err(HarnessError::system("a link"))?;
    let (wire, late, front, socket) = (wire.clone(), late.clone(), front.clone(), onward.clone());
    thread::spawn(move || {
        receive(&wire, &socket, |_, bytes| pass(&wire, &late, (to, from), &front, Some(sender), bytes));
    });
    Ok(onward)
}

fn bound(address: SocketAddr) -> Result<Arc<UdpSocket>, HarnessError> {
    let bound = UdpSocket::bind(address)
        .and_then(|socket| socket.set_read_timeout(Some(LOOK)).map(|()| Arc::new(socket)));
    bound.map_err(HarnessError::system(format!("udp {address}")))
}

fn receive(wire: &Wire, socket: &UdpSocket, mut take: impl FnMut(SocketAddr, &[u8])) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while !wire.ended() {
        // An error is the time-out, or that the node's port is closed at the moment.
        if let Ok((length, sender)) = socket.recv_from(&mut buffer) {
            take(sender, &buffer[..length]);
        }
    }
}

fn pass(
    wire: &Wire,
    late: &Late,
    (from, to): (usize, usize),
    by: &Arc<UdpSocket>,
    receiver: Option<SocketAddr>,
    bytes: &[u8],
) {
    let Some(due) = wire.lane(from, to).arrival_of_datagram(bytes.len()) else { return };
    if due <= Instant::now() {
        return send(by, receiver, bytes);
    }
    let datagram = Datagram { by: by.clone(), receiver, bytes: bytes.into() };
    let mut waiting = late.waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.count += 1;
    let number = waiting.count;
    waiting.order.push(Reverse((due, number)));
    waiting.datagrams.insert(number, datagram);
    late.more.notify_one();
}

fn send(by: &UdpSocket, receiver: Option<SocketAddr>, bytes: &[u8]) {
    // A datagram that cannot be sent is one that is lost.
    let _ = match receiver {
        Some(receiver) => by.send_to(bytes, receiver),
        None => by.send(bytes),
    };
}

/// Datagrams that are still under way.
#[derive(Default)]
pub(super) struct Late {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    count: u64,
    order: BinaryHeap<Reverse<(Instant, u64)>>,
    datagrams: BTreeMap<u64, Datagram>,
}

struct Datagram {
    by: Arc<UdpSocket>,
    receiver: Option<SocketAddr>,
    bytes: Vec<u8>,
}

impl Late {
    /// Starts the thread that sends each when it is due.
    pub(super) fn start(wire: &Arc<Wire>) -> (Arc<Self>, JoinHandle<()>) {
        let (wire, late) = (wire.clone(), Arc::new(Self::default()));
        let posted = late.clone();
        (late, thread::spawn(move || posted.post(&wire)))
    }

    fn post(&self, wire: &Wire) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while !wire.ended() {
            let now = Instant::now();
            let next = waiting.order.peek().map(|Reverse(next)| *next);
            match next {
                Some((due, number)) if due <= now => {
                    waiting.order.pop();
                    if let Some(Datagram { by, receiver, bytes }) = waiting.datagrams.remove(&number) {
                        send(&by, receiver, &bytes);
                    }
                }
                _ => {
                    let pause = next.map_or(LOOK, |(due, _)| LOOK.min(due - now));
                    let woken = self.more.wait_timeout(waiting, pause);
                    waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}
