//! `lanyard-node run`: brings engine, network, gateway and the operator's socket together, and ends them in
//! order.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lanyard_crypto::NodeId;
use lanyard_replica::Own;
use lanyard_storage::{SledOptions, SledStore, StorageError, destroy_copy};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time;

use super::prepare::{self, Findings, Prepared};
use crate::admin::{self, Admin};
use crate::backend::Backend;
use crate::cli::RunArgs;
use crate::config::{Config, ConfigError, Log, Problem};
use crate::driver;
use crate::files::{self, FileError};
use crate::gateway::Gateway;
use crate::registrar::{Contact, Registrar, RegistrarError};
use crate::store_key::{self, KeySource, StoreKey, StoreKeyError};
use crate::time::now;
use crate::{address, tls};

/// How often the registrar looks whether its list must be renewed.
const REGISTRAR_INTERVAL: Duration = Duration::from_secs(600);
/// How long the network shell may take to tell on which addresses it listens.
const LISTEN_TIME_MAX: Duration = Duration::from_secs(10);

/// Why the node did not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What the configuration names cannot be used.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Problems(Vec<Problem>),
    /// The store's key.
    #[error(transparent)]
    StoreKey(#[from] StoreKeyError),
    /// The store.
    #[error("the store cannot be opened: {0}")]
    Store(#[from] StorageError),
    /// The engine or the network.
    #[error(transparent)]
    Driver(#[from] driver::StartError),
    /// The registrar.
    #[error("the registrar: {0}")]
    Registrar(#[from] RegistrarError),
    /// A place to listen.
    #[error("cannot listen on {place}: {reason}")]
    Listen {
        /// Where.
        place: String,
        /// The system's words.
        reason: io::Error,
    },
    /// The node's key and certificate.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The operating system.
    #[error("cannot start: {0}")]
    System(io::Error),
    /// It ran, and could not go on.
    #[error("the node had to stop: {0}")]
    Failed(String),
}

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(args: &RunArgs) -> Result<(), RunError> {
    let config = Config::load(&args.config)?;
    log(config.log);
    let (prepared, Findings { fatal, doubtful, .. }) = prepare::prepare(&config, now());
    let Some(prepared) = prepared.filter(|_| fatal.is_empty()) else {
        return Err(RunError::Problems(fatal));
    };
    for problem in doubtful {
        tracing::warn!(%problem, "the configuration is doubtful");
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(RunError::System)?;
    let ran = runtime.block_on(node(&config, prepared, args.ready_file.as_deref()));
    runtime.shutdown_timeout(Duration::from_secs(5));
    ran
}

fn log(log: Log) {
    let builder = tracing_subscriber::fmt()
        .with_max_level(log.level)
        // Colours are for a terminal; in a file they are noise.
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    // It fails only where a subscriber is set already, which then is the one to use.
    let _ = if log.json { builder.json().try_init() } else { builder.try_init() };
}

async fn node(config: &Config, prepared: Prepared, ready_file: Option<&Path>) -> Result<(), RunError> {
    let started = now();
    files::create_directory(&config.data_dir)?;
    let admin_listener = admin::bind(&config.admin_socket)
        .map_err(|reason| RunError::Listen { place: config.admin_socket.display().to_string(), reason })?;
    let listener = TcpListener::bind(config.gateway.listen)
        .await
        .map_err(|reason| RunError::Listen { place: config.gateway.listen.to_string(), reason })?;
    let registrar = match &config.identity.registrar {
        Some(paths) => Some(Arc::new(Registrar::open(paths, &config.data_dir)?)),
        None => None,
    };
    let store = open_store(config, &prepared)?;
    let Prepared { key, certificate, registrar: issuer, charter, network, countries, .. } = prepared;
    let trust = certificate.subject().trust.clone();
    let root = network.root(&trust).map(|root| root.der().to_vec());
    let own = Own {
        trust: trust.clone(),
        node: NodeId::new(key.public()),
        certificate: certificate.fingerprint(),
        key: key.clone(),
        chain: vec![certificate.der().to_vec(), issuer.der().to_vec()],
    };
    let mut running = driver::start(driver::Options {
        own,
        charter,
        store,
        listen: config.peer.listen.clone(),
        countries,
        policy: config.policy,
    })?;
    let backend: Arc<dyn Backend> = Arc::new(running.engine.clone());

    let (stop_sender, stop) = watch::channel(false);
    let chain = [certificate.der().to_vec(), issuer.der().to_vec()].into_iter().chain(root).collect();
    let trusted = backend.clone();
    let tls = tls::server_config(chain, &key, trust, Arc::new(move || trusted.network()))?;
    let gateway_address = listener.local_addr().map_err(RunError::System)?;
    let gateway = Gateway::new(backend.clone(), registrar.clone(), config.policy, stop.clone());
    let clients = tokio::spawn(gateway.serve(listener, tls));
    let admin = Arc::new(Admin {
        backend: backend.clone(),
        registrar: registrar.clone(),
        certificate: certificate.clone(),
        public_address: config.gateway.public_address.clone(),
        started,
    });
    let operator =
        tokio::spawn(admin::serve(admin, admin_listener, config.admin_socket.clone(), stop.clone()));

    let peer_addresses = listen_addresses(config, &running).await;
    let keeper = registrar.map(|registrar| {
        let addresses = match config.peer.announce.as_slice() {
            [] => peer_addresses.clone(),
            announced => announced.to_vec(),
        };
        tokio::spawn(keep(registrar, backend.clone(), certificate.clone(), addresses))
    });
    // Who is told that it is ready may stop it at once.
    let stopped = terminated().map_err(RunError::System)?;
    let ready = Ready {
        gateway: gateway_address.to_string(),
        peer_id: address::peer_id(&NodeId::new(*certificate.public_key())),
        peer: peer_addresses,
        admin: config.admin_socket.display().to_string(),
    };
    let Ready { gateway, peer_id, peer, admin } = &ready;
    tracing::info!(gateway, ?peer, peer_id, admin, "ready");
    if let Some(path) = ready_file {
        let json = serde_json::to_vec(&ready).expect("text and lists of it have a JSON form");
        files::replace(path, &json, files::PUBLIC)?;
    }

    let failed = tokio::select! {
        () = stopped => None,
        reason = running.failed() => Some(RunError::Failed(reason)),
    };
    tracing::info!("stopping");
    // Nobody listens only if both have ended already.
    let _ = stop_sender.send(true);
    for task in [clients, operator] {
        let _ = task.await;
    }
    if let Some(keeper) = keeper {
        keeper.abort();
    }
    drop(backend);
    match failed {
        None => {
            running.stop().await;
            tracing::info!("stopped");
            Ok(())
        }
        Some(error) => Err(error),
    }
}

/// Where a running node is found; the content of the ready file. The fields are stable:
/// `docs/reference/commands.md`.
#[derive(Serialize)]
struct Ready {
    gateway: String,
    peer_id: String,
    peer: Vec<String>,
    admin: String,
}

/// Opens the store. At the first start, its key is made.
fn open_store(config: &Config, prepared: &Prepared) -> Result<SledStore, RunError> {
    let store_key = match (&prepared.store_key, &config.store_key) {
        (Some(key), _) => key.clone(),
        (None, KeySource::File(path)) => store_key::make(path)?,
        (None, command) => command.read()?,
    };
    Ok(open_under(config, prepared, store_key)?)
}

/// Opens the store of a configuration with this key, and destroys what an interrupted `restore` has left beside it: keys that no erasure
/// in the store reaches.
pub(super) fn open_under(
    config: &Config,
    prepared: &Prepared,
    store_key: StoreKey,
) -> Result<SledStore, StorageError> {
    let store = SledStore::open(store_options(config, prepared, store_key))?;
    destroy_copy(&restoring_dir(config))?;
    Ok(store)
}

/// Where `restore` makes a store before it has its name.
pub(super) fn restoring_dir(config: &Config) -> PathBuf {
    config.data_dir.join("store.restoring")
}

/// What opens the store of a configuration with this key.
pub(super) fn store_options(config: &Config, prepared: &Prepared, store_key: StoreKey) -> SledOptions {
    let (dir, owner) = (config.data_dir.join("store"), prepared.store_owner());
    SledOptions { dir, owner, store_key, cache_bytes: config.cache_bytes }
}

/// The addresses on which the node listens, once there is one for each that is configured.
async fn listen_addresses(config: &Config, running: &driver::Running) -> Vec<String> {
    let all = async {
        let mut poll = time::interval(Duration::from_millis(20));
        while running.listen_addresses().len() < config.peer.listen.len() {
            poll.tick().await;
        }
    };
    if time::timeout(LISTEN_TIME_MAX, all).await.is_err() {
        tracing::warn!("the node does not listen on all of its addresses");
    }
    running.listen_addresses()
}

/// Keeps the registrar's list fresh, and the node in the directory.
async fn keep(
    registrar: Arc<Registrar>,
    backend: Arc<dyn Backend>,
    certificate: lanyard_crypto::x509::Certificate,
    addresses: Vec<String>,
) {
    let network = backend.network().id();
    match registrar.entry(network, &certificate, Contact::Node { addresses }, now()) {
        Ok(entry) => {
            if let Err(refusal) = backend.submit(entry).await {
                tracing::warn!(reason = refusal.message, "the node's directory entry was not taken");
            }
        }
        Err(error) => tracing::warn!(%error, "the node's directory entry cannot be made"),
    }
    let mut due = time::interval(REGISTRAR_INTERVAL);
    loop {
        due.tick().await;
        let (keeper, snapshot) = (registrar.clone(), backend.network());
        if snapshot.behind_secs(now()) > 0 {
            tracing::warn!(
                "the revocation list is not renewed while this machine's clock is behind: set the clock"
            );
            continue;
        }
        let refreshed = tokio::task::spawn_blocking(move || {
            let held = snapshot.revocation_list(&keeper.certificate().fingerprint());
            keeper.refresh(held, snapshot.id(), now())
        });
        match refreshed.await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(record))) => {
                if let Err(refusal) = backend.submit(record).await {
                    tracing::warn!(reason = refusal.message, "the revocation list was not taken");
                }
            }
            Ok(Err(error)) => tracing::error!(%error, "the revocation list cannot be renewed"),
            Err(error) => tracing::error!(%error, "the revocation list cannot be renewed"),
        }
    }
}

/// Listens for signals from now on; resolves at the first one.
fn terminated() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
