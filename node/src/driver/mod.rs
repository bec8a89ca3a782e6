//! The driver: it owns the engine and its store, and joins them to the network shell and to those who ask.
//!
//! One thread ([`engine`]) steps the replica. What waits when it comes round is stepped together and committed as one
//! batch, with one sync, and only then are the outputs carried out (promise P4). Before a record reaches it, its
//! signatures are verified on worker threads ([`arrivals`]). What is to be delivered directly is read from the outbox by one
//! task for each connected peer ([`delivery`]), as fast as that peer takes it: batches form by themselves.
//!
//! More than the engine takes in time is held up early ([`load`]): devices are told to try again, and peers are not read from.
//!
//! There is no decision here: what is refused, kept, sent or said is the replica's.

mod arrivals;
mod audit;
mod backend;
mod delivery;
mod durable;
mod engine;
mod lifetime;
mod load;
mod shared;
mod space;
mod wanted;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use lanyard_crypto::network::Network;
use lanyard_crypto::record::Decoded;
use lanyard_crypto::{NodeId, Timestamp};
use lanyard_replica::audit::AuditEntry;
use lanyard_replica::{Input, Own, Replica};
use lanyard_storage::{SledStore, Store};
use serde_bytes::ByteBuf;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::p2p;
use crate::policy::Policy;
use crate::refusals::{AGAIN, COUNT_INTERVAL, COUNTED};
use engine::Message;
pub use shared::Engine;
use shared::Shared;

/// Inputs that wait for the engine; who brings more waits.
const INPUTS: usize = 256;
/// Inputs that are stepped into one commit.
const STEPS_MAX: usize = 128;
/// Network commands that wait to be carried out; gossip beyond it is dropped, as gossip may be.
const ERRANDS: usize = 1024;

/// Why the driver did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store or the charter.
    #[error(transparent)]
    Open(#[from] lanyard_replica::OpenError),
    /// The network shell.
    #[error(transparent)]
    Network(#[from] p2p::StartError),
    /// The operating system.
    #[error("cannot start the engine's thread: {0}")]
    Thread(std::io::Error),
}

/// What the driver needs to start.
pub struct Options {
    /// Who the node is.
    pub own: Own,
    /// The charter that the operator trusts.
    pub charter: Decoded,
    /// Where the node keeps what it stores.
    pub store: SledStore,
    /// Multiaddresses to listen on.
    pub listen: Vec<String>,
    /// Where addresses lie.
    pub countries: p2p::Countries,
    /// What the trust asks of its devices.
    pub policy: Policy,
}

/// A running driver. [`Running::stop`] ends it in order; [`Running::failed`] tells when it ended by itself.
pub struct Running {
    /// For all who ask something of it.
    pub engine: Engine,
    network: p2p::Handle,
    tasks: Vec<JoinHandle<()>>,
    ended: tokio::sync::oneshot::Receiver<String>,
}

/// Opens the replica and starts the driver on the current tokio runtime.
///
/// # Errors
/// See [`StartError`].
pub fn start(options: Options) -> Result<Running, StartError> {
    let Options { own, charter, store, listen, countries, policy: trust_policy } = options;
    let store = Arc::new(store);
    let founding = lanyard_replica::found(&*store, &charter).map_err(lanyard_replica::OpenError::Storage)?;
    if !founding.is_empty() {
        store.commit(founding).map_err(lanyard_replica::OpenError::Storage)?;
    }
    while let Some(batch) = lanyard_replica::upgrade(&*store).map_err(lanyard_replica::OpenError::Storage)? {
        store.commit(batch).map_err(lanyard_replica::OpenError::Storage)?;
    }
    let mut replica = Replica::open(&*store, own.clone(), &charter)?;
    trust_policy.apply(&mut replica);
    lifetime::begin(&mut replica, &store).map_err(lanyard_replica::OpenError::Storage)?;
    let (inputs, waiting) = mpsc::channel(INPUTS);
    let (network, pins) = (replica.network(), trust_policy.pins);
    let shared = Arc::new(Shared::new(own.trust.clone(), pins, network, store.clone(), inputs.clone()));

    let (network, events) = p2p::start(p2p::Options {
        seed: own.key.to_seed(),
        network: replica.network().id(),
        listen,
        chain: encode_chain(&own.chain),
        countries,
        policy: policy(&shared),
        timing: p2p::Timing::default(),
    })?;
    shared.attach(network.clone());

    let (errands, to_run) = mpsc::channel(ERRANDS);
    let (end, ended) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let thread = engine::Thread {
        replica,
        opening: (own, charter, trust_policy),
        store,
        shared: shared.clone(),
        errands,
        runtime,
        told: std::time::Instant::now(),
    };
    let spawned = std::thread::Builder::new().name("engine".into()).spawn(move || {
        // Nobody waits for the reason once the driver is being stopped.
        let _ = end.send(thread.run(waiting));
    });
    spawned.map_err(StartError::Thread)?;
    let tasks = vec![
        tokio::spawn(arrivals::listen(shared.clone(), events)),
        tokio::spawn(delivery::errands(shared.clone(), to_run)),
        tokio::spawn(count(shared.clone())),
        tokio::spawn(space::keep(shared.clone())),
        tokio::spawn(tick(inputs)),
    ];
    Ok(Running { engine: Engine(shared), network, tasks, ended })
}

impl Running {
    /// The multiaddresses on which the node listens.
    pub fn listen_addresses(&self) -> Vec<String> {
        self.network.listen_addresses()
    }

    /// Resolves if the driver ends by itself, with the reason: the store has failed.
    pub async fn failed(&mut self) -> String {
        (&mut self.ended).await.unwrap_or_else(|_| "the engine's thread has ended".into())
    }

    /// Ends connections, lets the engine finish what it has begun, and closes the store.
    pub async fn stop(self) {
        self.network.shutdown().await;
        self.tasks.iter().for_each(JoinHandle::abort);
        let Engine(shared) = self.engine;
        note_counted(&shared, Duration::ZERO).await;
        let stopped = Input::Note(lifetime::ended());
        shared.push(Message::Input(stopped)).await;
        shared.push(Message::Stop).await;
        let _ = self.ended.await;
    }
}

async fn tick(inputs: mpsc::Sender<Message>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        second.tick().await;
        if inputs.send(Message::Input(Input::Tick)).await.is_err() {
            return;
        }
    }
}

/// Notes now and then how many refusals of peers were left out of the audit log.
async fn count(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(COUNT_INTERVAL);
    loop {
        interval.tick().await;
        note_counted(&shared, AGAIN).await;
    }
}

async fn note_counted(shared: &Shared, at_least: Duration) {
    for (code, detail) in shared.refusals.counted(at_least) {
        shared.push(Message::Input(Input::Note(AuditEntry::new(COUNTED, code, detail)))).await;
    }
}

/// A chain as the border carries it: a CBOR array of DER.
pub(crate) fn encode_chain(chain: &[Vec<u8>]) -> Vec<u8> {
    lanyard_crypto::cbor::to_vec(&chain.iter().map(|c| ByteBuf::from(c.clone())).collect::<Vec<_>>())
}

/// Who the peer with the key `node` is by such a chain, at this moment, with the certificates in it; or why it is refused.
pub(crate) fn judge(
    network: &Network,
    node: NodeId,
    chain: &[u8],
    at: Timestamp,
) -> Result<(p2p::PeerInfo, Vec<Vec<u8>>), String> {
    use lanyard_crypto::x509::Purpose;
    let chain: Vec<ByteBuf> = lanyard_crypto::cbor::from_slice(chain, p2p::limits::MAX_CHAIN)
        .map_err(|e| format!("not a certificate chain: {e}"))?;
    let identity = network.verify_chain(&chain, Purpose::Node, at).map_err(|e| e.to_string())?;
    if identity.certificate.node_id() != Some(node) || identity.node() != node {
        return Err("the certificate names another PeerId than the connection's".into());
    }
    let country = identity.certificate.hosting_country().ok_or("the certificate states no country")?;
    let chain = chain.into_iter().map(ByteBuf::into_vec).collect();
    Ok((p2p::PeerInfo { trust: identity.trust, country }, chain))
}

/// The border's questions, answered from the charter in force.
fn policy(shared: &Arc<Shared>) -> p2p::Policy {
    let (admits, permits) = (shared.clone(), shared.clone());
    p2p::Policy {
        admit: Arc::new(move |node, chain| {
            let network = admits.network();
            let (info, chain) = judge(&network, node, chain, network.time(crate::time::now()))?;
            admits.show(node, chain);
            Ok(info)
        }),
        permit: Arc::new(move |country| permits.network().permits(country)),
    }
}
