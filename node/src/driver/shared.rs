//! What the parts of the driver share, and the handle for all who ask something of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use lanyard_crypto::gateway::Refusal;
use lanyard_crypto::network::Network;
use lanyard_crypto::{Fingerprint, NodeId, TrustId};
use lanyard_replica::audit::AuditEntry;
use lanyard_replica::pin::PinPolicy;
use lanyard_replica::{Input, Reply, Request};
use lanyard_storage::{SledStore, StorageError, View};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::durable::Commits;
use super::engine::Message;
use super::load::Load;
use crate::backend::refusal;
use crate::p2p;
use crate::refusals::Refusals;

/// The word for who is refused since there is too much to do.
const BUSY: &str = "busy";

/// The handle; clones are cheap.
#[derive(Clone)]
pub struct Engine(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) trust: TrustId,
    pub(super) store: Arc<SledStore>,
    /// How PINs are bounded.
    pub(super) pins: PinPolicy,
    /// Of the engine, to the store.
    pub(super) commits: Arc<Commits>,
    /// What waits for the engine.
    pub(super) load: Arc<Load>,
    network: RwLock<Arc<Network>>,
    inputs: mpsc::Sender<Message>,
    shell: OnceLock<p2p::Handle>,
    inboxes: Mutex<BTreeMap<Fingerprint, watch::Sender<u64>>>,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    shown: Mutex<BTreeMap<NodeId, Vec<Vec<u8>>>>,
    /// Of peers and their addresses.
    pub(super) refusals: Refusals,
}

/// A connected peer, and how its delivery task is woken.
pub(super) struct Peer {
    pub(super) trust: TrustId,
    pub(super) wake: Arc<Notify>,
    pub(super) task: tokio::task::AbortHandle,
}

impl Shared {
    pub(super) fn new(
        trust: TrustId,
        pins: PinPolicy,
        network: Arc<Network>,
        store: Arc<SledStore>,
        inputs: mpsc::Sender<Message>,
    ) -> Self {
        Self {
            trust,
            store,
            pins,
            commits: Arc::default(),
            load: Arc::default(),
            network: RwLock::new(network),
            inputs,
            shell: OnceLock::new(),
            inboxes: Mutex::default(),
            peers: Mutex::default(),
            shown: Mutex::default(),
            refusals: Refusals::default(),
        }
    }

    pub(super) fn attach(&self, shell: p2p::Handle) {
        assert!(self.shell.set(shell).is_ok(), "a driver has one network shell");
    }

    pub(super) fn shell(&self) -> &p2p::Handle {
        self.shell.get().expect("attached before any task or thread of the driver starts")
    }

    pub(super) fn network(&self) -> Arc<Network> {
        self.network.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_network(&self, network: Arc<Network>) {
        *self.network.write().unwrap_or_else(PoisonError::into_inner) = network;
    }

    /// Waits for a place in the engine's queue. After the engine has stopped, nothing happens.
    pub(super) async fn push(&self, message: Message) {
        let _ = self.inputs.send(message).await;
    }

    /// As [`Shared::push`], but if there is no place, nothing happens.
    pub(super) fn push_or_drop(&self, message: Message) {
        let _ = self.inputs.try_send(message);
    }

    /// As [`Shared::push`], and waits until the input's outputs have been carried out.
    pub(super) async fn push_and_wait(&self, input: Input) {
        let (done, wait) = oneshot::channel();
        self.push(Message::Awaited(input, done)).await;
        let _ = wait.await;
    }

    /// Remembers the chain that a peer has shown at the border.
    pub(super) fn show(&self, node: NodeId, chain: Vec<Vec<u8>>) {
        let mut shown = lock(&self.shown);
        if shown.len() >= p2p::limits::CONNECTIONS && !shown.contains_key(&node) {
            shown.pop_first();
        }
        shown.insert(node, chain);
    }

    /// That chain.
    pub(super) fn shown_by(&self, node: &NodeId) -> Vec<Vec<u8>> {
        lock(&self.shown).get(node).cloned().unwrap_or_default()
    }

    /// Asks the engine; the answer comes once its batch is on the disk.
    pub(super) async fn ask(
        &self,
        message: impl FnOnce(oneshot::Sender<Result<Reply, Refusal>>) -> Message,
    ) -> Result<Reply, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.push(message(reply)).await;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    pub(super) async fn request(&self, request: Request) -> Result<Reply, Refusal> {
        self.ask(|reply| Message::Request(request, reply)).await
    }

    /// As [`Shared::request`], for what a device sends, of so many bytes: refused at once if it would have to wait for long.
    pub(super) async fn send(&self, request: Request, bytes: usize) -> Result<Reply, Refusal> {
        let Some(place) = self.load.enter(bytes) else {
            self.note_busy();
            return Err(busy());
        };
        self.ask(|reply| Message::Sent(request, reply, place)).await
    }

    /// Tells the operator that messages are refused, once in a while, with how many there were.
    fn note_busy(&self) {
        let text =
            "messages of devices were refused for the moment: they come faster than this node stores them";
        if let Some(detail) = self.refusals.admit(BUSY, "devices", text) {
            tracing::warn!("{detail}");
            self.push_or_drop(Message::Input(Input::Note(AuditEntry::new("overloaded", BUSY, detail))));
        }
    }

    /// Reads the store on a thread that may block, and waits there until what was read is on the disk.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&dyn View, &Network) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let shared = self.clone();
        let outcome = tokio::task::spawn_blocking(move || {
            let value = read(&*shared.store, &shared.network())?;
            Ok(shared.commits.settled().then_some(value))
        });
        match outcome.await {
            Ok(Ok(Some(value))) => Ok(value),
            Ok(Ok(None)) => Err(failed()),
            Ok(Err::<_, StorageError>(error)) => {
                tracing::error!(%error, "the store cannot be read");
                Err(refusal(
                    "disk",
                    "this node cannot read its store: its operator must look at the node's log",
                ))
            }
            Err(_) => Err(stopped()),
        }
    }

    pub(super) fn inbox_events(&self, device: Fingerprint) -> watch::Receiver<u64> {
        let newest = lanyard_replica::query::inbox_newest(&*self.store, &device).unwrap_or(0);
        let mut inboxes = lock(&self.inboxes);
        let sender = inboxes.entry(device).or_insert_with(|| watch::Sender::new(newest));
        sender.send_if_modified(|held| std::mem::replace(held, newest.max(*held)) < newest);
        sender.subscribe()
    }

    /// Tells who watches a device's inbox; forgets those that nobody watches any more.
    pub(super) fn notify(&self, device: &Fingerprint, seq: u64) {
        let mut inboxes = lock(&self.inboxes);
        if let Some(sender) = inboxes.get(device)
            && sender.send(seq).is_err()
        {
            inboxes.remove(device);
        }
    }

    pub(super) fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        lock(&self.peers)
    }

    /// Wakes the delivery to every connected node of a trust.
    pub(super) fn wake(&self, trust: &TrustId) {
        self.peers().values().filter(|p| p.trust == *trust).for_each(|p| p.wake.notify_one());
    }
}

/// The answer to those whose request the store has not taken.
pub(super) fn failed() -> Refusal {
    refusal("disk", "this node cannot write to its disk, and stops: its operator must look at the node's log")
}

/// The answer to who would have to wait for long.
fn busy() -> Refusal {
    refusal(BUSY, "this node has more to do than it can at the moment: try again in a few seconds")
}

pub(super) fn stopped() -> Refusal {
    refusal("stopping", "this node is stopping: try again in a moment")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use lanyard_storage::SledOptions;

    use super::super::STEPS_MAX;
    use super::*;
    use crate::backend::Backend;
    use crate::testing;

    /// Of so many places, with its queue in place of an engine.
    fn engine(places: usize) -> (Engine, mpsc::Receiver<Message>, tempfile::TempDir) {
        let (trust, dir) = (testing::Trust::new("RXA"), tempfile::tempdir().unwrap());
        let store = SledStore::open(SledOptions {
            dir: dir.path().join("store"),
            owner: [1; 32],
            store_key: [1; 32].into(),
            cache_bytes: 1 << 20,
        });
        let (inputs, waiting) = mpsc::channel(places);
        let shared = Shared::new(
            trust.id.clone(),
            PinPolicy::default(),
            Arc::new(trust.network()),
            Arc::new(store.unwrap()),
            inputs,
        );
        (Engine(Arc::new(shared)), waiting, dir)
    }

    #[tokio::test]
    async fn what_would_wait_long_is_refused_at_once_until_something_is_answered() {
        let (engine, mut waiting, _dir) = engine(STEPS_MAX + 8);
        for _ in 0..40 {
            engine.0.load.round_took(std::time::Duration::from_secs(60));
        }
        let send = |engine: &Engine| {
            let shared = engine.0.clone();
            async move { shared.send(Request::Present(Fingerprint::new([1; 32])), 1000).await }
        };
        let asked: Vec<_> = (0..STEPS_MAX).map(|_| tokio::spawn(send(&engine))).collect();
        let mut sent = Vec::new();
        while sent.len() < STEPS_MAX {
            sent.extend(waiting.recv().await);
        }
        for _ in 0..3 {
            assert_eq!(send(&engine).await.unwrap_err().code, BUSY);
        }
        // The operator is told once; nothing else of it reaches the engine.
        assert!(
            matches!(waiting.try_recv(), Ok(Message::Input(Input::Note(entry))) if entry.event == "overloaded")
        );
        assert!(waiting.try_recv().is_err());
        let Some(Message::Sent(_, answer, place)) = sent.pop() else { panic!("what was sent") };
        drop(place);
        answer.send(Ok(Reply::Done)).unwrap();
        let next = tokio::spawn(send(&engine));
        assert!(matches!(waiting.recv().await, Some(Message::Sent(..))));
        next.abort();
        asked.into_iter().for_each(|asked| asked.abort());
    }

    #[test]
    fn that_a_device_is_there_waits_for_no_place_in_the_queue() {
        let (engine, mut waiting, _dir) = engine(1);
        let [first, second] = [1, 2].map(|n| Fingerprint::new([n; 32]));
        engine.present(first);
        engine.present(second);
        let noted = |message| match message {
            Ok(Message::Request(Request::Present(device), _)) => Some(device),
            _ => None,
        };
        assert_eq!(noted(waiting.try_recv()), Some(first));
        assert_eq!(noted(waiting.try_recv()), None, "there was no place");
        engine.present(second);
        assert_eq!(noted(waiting.try_recv()), Some(second));
    }
}
