//! Links between nodes, each way by itself: they can be cut, delayed and slowed while nodes run.
//!
//! Each node stands behind a front: an address of its own, which charter and directory name in its place. What comes to a front,
//! by UDP (QUIC) or TCP, is passed on to the node from an address that stands for the sender. The sender is told by its address,
//! since nodes dial by QUIC from the one that they listen on. By TCP they do not: with more than two nodes, it is of no use here.
//!
//! A closed link loses datagrams, and holds the bytes of TCP back: that is what a path does that has gone silent.

mod tcp;
mod udp;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Cluster, HarnessError, Programs, TrustPlan, loopback::Subnet};

/// Places of the fronts, and of the addresses that stand for senders, in a cluster's network.
const FRONTS: u8 = 20;
const SENDERS: u8 = 60;
/// How often what waits for bytes looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);
/// What a slow link holds at most, in time; more is lost, as in a router.
const HELD_MAX: Duration = Duration::from_secs(1);

/// What a link does to what passes it in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether anything passes.
    pub open: bool,
    /// Whether UDP passes, if anything does.
    pub udp: bool,
    /// How long everything is under way.
    pub delay: Duration,
    /// How much passes.
    pub bytes_per_sec: Option<u32>,
}

impl Condition {
    /// Everything passes at once.
    pub const GOOD: Self = Self { open: true, udp: true, delay: Duration::ZERO, bytes_per_sec: None };
    /// Nothing passes.
    pub const CUT: Self = Self { open: false, ..Self::GOOD };
}

/// All links of a cluster. Dropped, they end.
#[derive(Debug)]
pub struct Links {
    wire: Arc<Wire>,
    threads: Vec<JoinHandle<()>>,
}

impl Links {
    /// Founds a cluster whose nodes reach each other by links alone. Nothing of it runs.
    ///
    /// # Errors
    /// As [`Cluster::found`], or what the system says about addresses.
    pub fn found(programs: &Programs, plans: &[TrustPlan]) -> Result<(Cluster, Self), HarnessError> {
        let subnet = Subnet::free()?;
        let links = Self::start(subnet, u8::try_from(plans.len()).expect("few trusts"))?;
        let cluster = Cluster::found_in(programs, plans, subnet, |trusts| {
            let mut nodes = trusts.iter_mut().zip(&links.wire.ends);
            nodes.try_for_each(|(trust, end)| trust.node.stand_behind(end.front))
        })?;
        Ok((cluster, links))
    }

    fn start(subnet: Subnet, nodes: u8) -> Result<Self, HarnessError> {
        let end = |place: u8| End {
            node: subnet.inside(1 + place),
            front: subnet.inside(FRONTS + place),
            sender: subnet.inside(SENDERS + place),
        };
        let lanes = (0..nodes * nodes).map(|_| Lane::new()).collect();
        let wire = Wire { ends: (0..nodes).map(end).collect(), lanes, ended: AtomicBool::new(false) };
        let mut links = Self { wire: Arc::new(wire), threads: Vec::new() };
        let (late, posting) = udp::Late::start(&links.wire);
        links.threads.push(posting);
        for to in 0..links.wire.ends.len() {
            links.threads.push(udp::listen(&links.wire, to, &late)?);
            links.threads.push(tcp::listen(&links.wire, to)?);
        }
        Ok(links)
    }

    /// Changes what happens on the way from one node to another; both by their place in the cluster.
    pub fn set(&self, from: usize, to: usize, condition: Condition) {
        self.wire.lane(from, to).state().condition = condition;
    }

    /// As [`Links::set`], both ways.
    pub fn set_both(&self, one: usize, other: usize, condition: Condition) {
        self.set(one, other, condition);
        self.set(other, one, condition);
    }

    /// As [`Links::set`], for all links.
    pub fn set_all(&self, condition: Condition) {
        self.wire.lanes.iter().for_each(|lane| lane.state().condition = condition);
    }

    /// Breaks the TCP connections between two nodes, as a firewall that restarts does.
    pub fn reset(&self, one: usize, other: usize) {
        for lane in [self.wire.lane(one, other), self.wire.lane(other, one)] {
            lane.resets.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Bytes that have passed from one node to another.
    pub fn passed_bytes(&self, from: usize, to: usize) -> u64 {
        self.wire.lane(from, to).passed.load(Ordering::Relaxed)
    }

    /// Datagrams that were lost from one node to another.
    pub fn lost(&self, from: usize, to: usize) -> u64 {
        self.wire.lane(from, to).lost.load(Ordering::Relaxed)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.wire.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of it has been reported.
            let _ = thread.join();
        }
    }
}

/// Where a node is, where others dial it, and from where it comes to them.
#[derive(Clone, Copy, Debug)]
struct End {
    node: Ipv4Addr,
    front: Ipv4Addr,
    sender: Ipv4Addr,
}

#[derive(Debug)]
struct Wire {
    ends: Vec<End>,
    /// Of each node to each, in rows by the sender.
    lanes: Vec<Lane>,
    ended: AtomicBool,
}

impl Wire {
    fn lane(&self, from: usize, to: usize) -> &Lane {
        &self.lanes[from * self.ends.len() + to]
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Of two nodes, the other one: a dial by TCP may leave from an address that is no node's.
    fn only_other(&self, place: usize) -> Option<usize> {
        (self.ends.len() == 2).then_some(1 - place)
    }

    /// The place of the node with this address.
    fn place_of(&self, node: std::net::IpAddr) -> Option<usize> {
        self.ends.iter().position(|end| node == end.node)
    }
}

/// One direction.
#[derive(Debug)]
struct Lane {
    state: Mutex<State>,
    passed: AtomicU64,
    lost: AtomicU64,
    resets: AtomicU64,
}

#[derive(Debug)]
struct State {
    condition: Condition,
    /// When everything before has been put on the wire.
    free: Instant,
}

impl Lane {
    fn new() -> Self {
        let state = Mutex::new(State { condition: Condition::GOOD, free: Instant::now() });
        Self { state, passed: AtomicU64::new(0), lost: AtomicU64::new(0), resets: AtomicU64::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a datagram of so many bytes arrives; none if it is lost.
    fn arrival_of_datagram(&self, bytes: usize) -> Option<Instant> {
        let mut state = self.state();
        let full = state.free.saturating_duration_since(Instant::now()) > HELD_MAX;
        if !state.condition.open || !state.condition.udp || full {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.take(&mut state, bytes))
    }

    /// When so many bytes of a stream arrive; none while nothing passes.
    fn arrival_of_bytes(&self, bytes: usize) -> Option<Instant> {
        let mut state = self.state();
        state.condition.open.then(|| self.take(&mut state, bytes))
    }

    fn take(&self, state: &mut State, bytes: usize) -> Instant {
        let rate = state.condition.bytes_per_sec.map(f64::from);
        let takes = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(bytes as f64 / rate));
        state.free = state.free.max(Instant::now()) + takes;
        self.passed.fetch_add(bytes as u64, Ordering::Relaxed);
        state.free + state.condition.delay
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;
    use crate::loopback::PEER_PORT;

    const SHORT: Duration = Duration::from_millis(300);

    #[test]
    fn what_is_sent_to_a_front_comes_to_the_node_unless_the_link_is_cut() {
        let subnet = Subnet::free().unwrap();
        let links = Links::start(subnet, 2).unwrap();
        let front = (subnet.inside(FRONTS + 1), PEER_PORT);

        let node = UdpSocket::bind((subnet.inside(2), PEER_PORT)).unwrap();
        let sender = UdpSocket::bind((subnet.inside(1), PEER_PORT)).unwrap();
        node.set_read_timeout(Some(SHORT)).unwrap();
        let mut buffer = [0; 64];
        let mut arrives = |text: &[u8]| {
            sender.send_to(text, front).unwrap();
            match node.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    assert_eq!(&buffer[..length], text);
                    node.send_to(b"answer", from).unwrap();
                    true
                }
                Err(_) => false,
            }
        };
        assert!(arrives(b"one"));
        let mut answer = [0; 6];
        assert_eq!(sender.recv_from(&mut answer).unwrap().1, front.into());
        links.set(0, 1, Condition::CUT);
        assert!(!arrives(b"two"));
        links.set(0, 1, Condition { delay: SHORT / 4, bytes_per_sec: Some(10_000), ..Condition::GOOD });
        assert!(arrives(b"three"));
        assert_eq!((links.passed_bytes(0, 1), links.lost(0, 1)), (8, 1));

        let node = TcpListener::bind((subnet.inside(2), PEER_PORT)).unwrap();
        let mut sender = TcpStream::connect(front).unwrap();
        sender.write_all(b"question").unwrap();
        let (mut accepted, from) = node.accept().unwrap();
        assert_eq!(from.ip(), subnet.inside(SENDERS));
        let mut question = [0; 8];
        accepted.read_exact(&mut question).unwrap();
        accepted.write_all(b"answer").unwrap();
        sender.read_exact(&mut answer).unwrap();
        assert_eq!((&question, &answer), (b"question", b"answer"));
        links.reset(0, 1);
        assert_eq!(sender.read(&mut answer).unwrap_or(0), 0, "it is broken");
    }
}
