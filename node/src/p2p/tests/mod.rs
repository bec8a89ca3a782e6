//! The network shell on loopback addresses. Countries are assigned to 127.x networks; a chain is a text that
//! names a trust, a country and a node, and the policy reads it.

mod admission;
mod frames;
mod gossiping;
mod hostile;
mod sessions;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lanyard_crypto::residency::Country;
use lanyard_crypto::{NetworkId, NodeId, TrustId};
use tokio::sync::mpsc;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::event::Reason;
use super::handle::{CommandError, PublishError};
use super::streams::SendError;
use super::*;

/// Longer than anything takes that is going to happen at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a test's nodes are set up, and what their common charter says now.
#[derive(Clone)]
struct World {
    trusts: Arc<Mutex<BTreeSet<TrustId>>>,
    permitted: Arc<Mutex<BTreeSet<Country>>>,
    timing: Timing,
    /// Network and country, as in a node's configuration.
    networks: Vec<(&'static str, &'static str)>,
}

impl World {
    /// Trusts RYJ, RJ1 and RQM are in the charter, and the United Kingdom and Ireland are permitted.
    fn new() -> Self {
        let timing = Timing {
            admission_max: Duration::from_secs(20),
            farewell_max: Duration::from_millis(500),
            open_max: Duration::from_secs(20),
            keepalive: Duration::from_millis(200),
            silence_max: Duration::from_secs(20),
            redial_min: Duration::from_millis(20),
            redial_max: Duration::from_millis(200),
            gossip_heartbeat: Duration::from_millis(100),
        };
        Self {
            trusts: Arc::new(Mutex::new(["RYJ", "RJ1", "RQM"].map(trust).into())),
            permitted: Arc::new(Mutex::new(["GB", "IE"].map(country).into())),
            timing,
            networks: vec![("127.0.0.0/8", "GB"), ("127.0.66.0/24", "US")],
        }
    }

    fn policy(&self) -> Policy {
        let (trusts, permitted) = (self.trusts.clone(), self.permitted.clone());
        Policy {
            admit: Arc::new(move |node, chain| {
                let text = std::str::from_utf8(chain).map_err(|_| "not a chain")?;
                let mut parts = text.trim_end().splitn(3, ' ');
                let mut part = || parts.next().ok_or("not a chain");
                let (trust, country, named) = (trust(part()?), country(part()?), part()?);
                if named != node.to_string() {
                    return Err("it names another node".into());
                }
                if !trusts.lock().unwrap().contains(&trust) {
                    return Err(format!("trust {trust} is not in the charter"));
                }
                Ok(PeerInfo { trust, country })
            }),
            permit: Arc::new(move |country| permitted.lock().unwrap().contains(&country)),
        }
    }

    fn countries(&self) -> Countries {
        let networks = self.networks.iter().map(|(network, code)| (network.parse().unwrap(), country(code)));
        Countries::new(networks).unwrap()
    }

    fn options(&self, seed: u8, code: &str, listen: &[&str]) -> Options {
        Options {
            seed: Zeroizing::new([seed; 32]),
            network: NetworkId::new([42; 32]),
            listen: listen.iter().map(|text| text.to_string()).collect(),
            chain: chain(code, &node(seed)),
            countries: self.countries(),
            policy: self.policy(),
            timing: self.timing.clone(),
        }
    }

    /// Starts a node of this trust, and waits until it listens.
    async fn start(&self, seed: u8, code: &str, listen: &[&str]) -> Peer {
        let (handle, events) = start(self.options(seed, code, listen)).unwrap();
        let mut peer = Peer { node: handle.node(), handle, events, addresses: Vec::new() };
        for _ in listen {
            let address = peer.next(|event| match event {
                Event::Listening { address } => Some(address.clone()),
                _ => None,
            });
            let address = address.await;
            peer.addresses.push(address);
        }
        peer
    }
}

/// A running node.
struct Peer {
    handle: Handle,
    events: mpsc::Receiver<Event>,
    node: NodeId,
    addresses: Vec<String>,
}

impl Peer {
    async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("the shell runs")
    }

    /// Skips events up to the first that `pick` takes.
    async fn next<T>(&mut self, pick: impl Fn(&Event) -> Option<T>) -> T {
        loop {
            if let Some(picked) = pick(&self.event().await) {
                return picked;
            }
        }
    }

    async fn connected_to(&mut self, other: NodeId) -> PeerInfo {
        self.next(|event| match event {
            Event::Connected { node, info } if *node == other => Some(info.clone()),
            _ => None,
        })
        .await
    }

    async fn disconnected_from(&mut self, other: NodeId) {
        self.next(|event| matches!(event, Event::Disconnected { node } if *node == other).then_some(()))
            .await;
    }

    /// The next refusal. Nobody may be connected before it.
    async fn refusal(&mut self) -> Refused {
        self.next(|event| match event {
            Event::Refused(refused) => Some(refused.clone()),
            Event::Connected { .. } => panic!("connected instead of refused"),
            _ => None,
        })
        .await
    }

    async fn frame(&mut self) -> (NodeId, Vec<u8>) {
        self.next(|event| match event {
            Event::Frame { from, bytes } => Some((*from, bytes.clone())),
            _ => None,
        })
        .await
    }

    async fn dial(&self, other: &Peer) {
        self.handle.dial(other.node, &other.addresses).await.unwrap();
    }
}

/// Two nodes with a session between them, which the first has dialled.
async fn pair(world: &World, listen: &str) -> (Peer, Peer) {
    let mut a = world.start(1, "RYJ", &[listen]).await;
    let mut b = world.start(2, "RJ1", &[listen]).await;
    a.dial(&b).await;
    a.connected_to(b.node).await;
    b.connected_to(a.node).await;
    (a, b)
}

fn node(seed: u8) -> NodeId {
    address::node_of(&address::keypair(&[seed; 32]).public().to_peer_id()).unwrap()
}

fn chain(code: &str, node: &NodeId) -> Vec<u8> {
    format!("{code} GB {node}").into_bytes()
}

fn trust(code: &str) -> TrustId {
    code.parse().unwrap()
}

fn country(code: &str) -> Country {
    code.parse().unwrap()
}

const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
const TCP: &str = "/ip4/127.0.0.1/tcp/0";
