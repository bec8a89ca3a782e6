//! Running nodes: drivers, and strangers that are nothing but a network shell.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lanyard_crypto::record::{Decoded, Kind};
use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::{Certificate, SecretKey};
use lanyard_crypto::{NetworkId, NodeId, RecordId};
use lanyard_replica::frame::Frame;
use lanyard_storage::{SledOptions, SledStore, Tree, View, limits};
use serde_bytes::ByteBuf;
use tempfile::TempDir;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::trusts::World;
use crate::address;
use crate::backend::{AuditLine, Backend};
use crate::driver::{self, Options, Running};
use crate::p2p::{self, Countries, Event, PeerInfo, Policy, Timing};

/// Longer than anything takes that is going to happen at all.
const PATIENCE: Duration = Duration::from_secs(60);
pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";
/// An address that lies in the United States, as all of 127.0.66.0/24 does.
pub const ABROAD: &str = "/ip4/127.0.66.1/udp/0/quic-v1";
/// An address of which nothing says where it lies.
pub const NOWHERE: &str = "/ip4/127.0.77.1/udp/0/quic-v1";

/// A driver, as the program runs it.
pub struct Node {
    pub running: Running,
    pub id: NodeId,
    pub addresses: Vec<String>,
    _directory: TempDir,
}

impl Node {
    /// Starts the node of a trust under the world's charter.
    pub async fn start(world: &World, trust: usize) -> Self {
        Self::under(&world.charter, world, trust).await
    }

    /// Starts it under another one.
    pub async fn under(charter: &Decoded, world: &World, trust: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (dir, store_key) = (directory.path().join("store"), Zeroizing::new([7; 32]));
        let cache_bytes = limits::CACHE_BYTES_DEFAULT;
        let store =
            SledStore::open(SledOptions { dir, owner: [trust as u8; 32], store_key, cache_bytes }).unwrap();
        let own = world.trusts[trust].own();
        let id = own.node;
        let countries = networks(&[("127.0.0.0/24", "GB"), ("127.0.66.0/24", "US")]);
        let listen = vec![QUIC.to_owned(), TCP.to_owned()];
        let running = driver::start(Options {
            own,
            charter: charter.clone(),
            store,
            listen,
            countries,
            policy: crate::policy::Policy::default(),
        })
        .unwrap();
        let addresses = until("listening", async || {
            let addresses = running.listen_addresses();
            (addresses.len() == 2).then_some(addresses)
        });
        let addresses = addresses.await;
        Self { running, id, addresses, _directory: directory }
    }

    /// The first line of the audit log that is so, once there is one.
    pub async fn told(&self, what: &str, is_so: impl Fn(&AuditLine) -> bool) -> AuditLine {
        until(what, async || self.audit().await.into_iter().find(&is_so)).await
    }

    pub async fn audit(&self) -> Vec<AuditLine> {
        self.running.engine.audit(Some(0), 100_000).await.unwrap()
    }

    /// The audit log's words on why this record was refused.
    pub async fn why(&self, record: &RecordId) -> AuditLine {
        let id = record.to_string();
        self.told("a refused record", |l| l.event == "refused" && l.record.as_deref() == Some(&id)).await
    }

    /// The audit log's words on why this peer was refused, behind a position in the log.
    pub async fn why_not(&self, peer: NodeId, after: u64) -> AuditLine {
        let id = address::peer_id(&peer);
        let is_so = |l: &AuditLine| {
            l.number > after && l.event == "peer-refused" && l.peer_id.as_deref() == Some(&id)
        };
        self.told("a refused peer", is_so).await
    }

    pub fn is_connected(&self, peer: &NodeId) -> bool {
        self.running.engine.peers().iter().any(|p| p.node == *peer && p.connected)
    }

    pub async fn connected(&self, peer: &NodeId) {
        until("connected", async || self.is_connected(peer).then_some(())).await;
    }

    pub async fn disconnected(&self, peer: &NodeId) {
        until("disconnected", async || (!self.is_connected(peer)).then_some(())).await;
    }

    pub async fn dial(&self, peer: &Stranger) {
        self.running.network.dial(peer.id, &peer.handle.listen_addresses()).await.unwrap();
    }

    /// Every record that it holds, of any kind but the heads of audit logs, which come by themselves.
    pub fn held(&self) -> BTreeSet<RecordId> {
        let store = &self.running.engine.0.store;
        let rows = store.scan_prefix(Tree::Holdings, &[], 100_000).unwrap();
        let head = |id: &[u8]| {
            let record =
                store.get(Tree::Records, id).unwrap().map(|bytes| Decoded::from_bytes(&bytes).unwrap());
            record.is_some_and(|record| record.body().kind() == Kind::Head)
        };
        let rows = rows.iter().filter(|(id, _)| !head(id));
        rows.map(|(id, _)| RecordId::try_from(id.as_slice()).unwrap()).collect()
    }

    /// Whether no row is about this record.
    pub fn has_nothing_of(&self, record: &RecordId) -> bool {
        let store = &self.running.engine.0.store;
        let trees = [Tree::Holdings, Tree::Records, Tree::Envelopes, Tree::Submitted];
        trees.iter().all(|tree| !store.contains(*tree, record.as_bytes()).unwrap())
    }

    /// The numbers that `status` shows of envelopes, tombstones, receipts and entries.
    pub async fn counts(&self) -> [u64; 4] {
        let counts = self.running.engine.counts().await.unwrap();
        ["envelopes", "tombstones", "receipts", "entries"]
            .map(|name| counts.iter().find(|(n, _)| n == name).map_or(0, |(_, count)| *count))
    }

    /// Hands in a record as the registrar or the operator does. Returns the code of its refusal.
    pub async fn submit(&self, record: &Decoded) -> Result<(), String> {
        self.running.engine.submit(record.clone()).await.map_err(|refusal| refusal.code)
    }

    /// The version of the charter in force.
    pub fn version(&self) -> u64 {
        self.running.engine.network().charter().version
    }
}

/// A peer that admits everybody, and shows and sends whatever it is told to.
pub struct Stranger {
    pub handle: p2p::Handle,
    pub id: NodeId,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Stranger {
    /// Of the world's network, listening on a British loopback address.
    pub async fn start(world: &World, key: &SecretKey, chain: Vec<u8>) -> Self {
        Self::at(QUIC, world.network, key, chain).await
    }

    pub async fn at(listen: &str, network: NetworkId, key: &SecretKey, chain: Vec<u8>) -> Self {
        let info = PeerInfo { trust: "RXZ".parse().unwrap(), country: Country::GB };
        let (handle, mut received) = p2p::start(p2p::Options {
            seed: key.to_seed(),
            network,
            listen: vec![listen.into()],
            chain,
            countries: networks(&[("127.0.0.0/8", "GB")]),
            policy: Policy { admit: Arc::new(move |_, _| Ok(info.clone())), permit: Arc::new(|_| true) },
            timing: Timing::default(),
        })
        .unwrap();
        let events = Arc::new(Mutex::new(Vec::new()));
        let kept = events.clone();
        tokio::spawn(async move {
            while let Some(event) = received.recv().await {
                kept.lock().unwrap().push(event);
            }
        });
        until("listening", async || (!handle.listen_addresses().is_empty()).then_some(())).await;
        Self { id: handle.node(), handle, events }
    }

    /// A node of the world with its true certificate.
    pub async fn of(world: &World, trust: usize) -> Self {
        let trust = &world.trusts[trust];
        Self::start(world, &trust.node_key, chain(&[&trust.node, &trust.registrar])).await
    }

    pub async fn dial(&self, node: &Node) {
        self.handle.dial(node.id, &node.addresses[..1]).await.unwrap();
    }

    /// Dials, and waits until both sides are connected.
    pub async fn connect(&self, node: &Node) {
        self.dial(node).await;
        until("connected", async || (!self.handle.connected().is_empty()).then_some(())).await;
        node.connected(&self.id).await;
    }

    pub async fn disconnected(&self) {
        until("disconnected", async || self.handle.connected().is_empty().then_some(())).await;
    }

    /// Puts records into one frame on its stream to the node.
    pub async fn send(&self, node: &Node, records: impl IntoIterator<Item = Vec<u8>>) {
        let records = records.into_iter().map(ByteBuf::from).collect();
        self.handle.send(&node.id, Frame::Records(records).to_bytes()).await.unwrap();
    }

    /// Gossips a record, once there is somebody who takes it.
    pub async fn publish(&self, record: &[u8]) {
        until("gossip", async || self.handle.publish(record.to_vec()).await.ok()).await;
    }

    /// How many of the events that it has seen are so.
    pub fn saw(&self, is_so: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|event| is_so(event)).count()
    }

    /// Whether a record with this id has come to it by gossip.
    pub fn has_heard(&self, record: &RecordId) -> bool {
        self.saw(|event| matches!(event, Event::Gossip { id, .. } if id == record)) > 0
    }
}

/// A chain as the border carries it.
pub fn chain(certificates: &[&Certificate]) -> Vec<u8> {
    driver::encode_chain(&certificates.iter().map(|c| c.der().to_vec()).collect::<Vec<_>>())
}

fn networks(assigned: &[(&str, &str)]) -> Countries {
    Countries::new(assigned.iter().map(|(network, code)| (network.parse().unwrap(), code.parse().unwrap())))
        .unwrap()
}

/// Looks again and again until there is something to see.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
