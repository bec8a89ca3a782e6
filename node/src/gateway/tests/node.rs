//! A node that remembers what it is asked, for tests of the gateway.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use lanyard_crypto::gateway::{
    DeletionResponse, DirectoryResponse, InboxItem, InboxResponse, Refusal, SendRequest, SendResponse,
    TicksResponse, TrustResponse,
};
use lanyard_crypto::network::Network;
use lanyard_crypto::pin::ServerSecret;
use lanyard_crypto::record::Decoded;
use lanyard_crypto::{ConversationId, Fingerprint, NodeId, RecordId, Timestamp, TrustId};
use lanyard_replica::hold::HoldView;
use lanyard_replica::pin::{self, Hidden, PinPolicy, PinRequest, PinState};
use lanyard_replica::query::Overdue;
use lanyard_replica::restored::{Awaited, Restoration};
use lanyard_replica::{Input, Output, Own, Replica, Reply, Request, Source, arrival};
use lanyard_storage::{BackedUp, Compacted, MemoryStore, Store};
use serde_bytes::ByteBuf;
use tokio::sync::watch;

use crate::admin::deletion;
use crate::audit_export::Beginning;
use crate::backend::{
    Answer, AuditChecked, AuditContradiction, AuditHeads, AuditLine, Backend, Deletion, NewHold, Note,
    PeerStatus, SentDeletion, SomeDeleted, refusal,
};
use crate::testing::Trust;
use crate::time::now;

/// The real engine over memory, which is asked about PINs alone.
struct Engine {
    store: MemoryStore,
    replica: Replica,
}

impl Engine {
    fn new(trust: &Trust) -> Self {
        let (key, certificate) = trust.node(Ipv4Addr::LOCALHOST.into(), now());
        let chain = vec![certificate.der().to_vec(), trust.registrar_certificate.der().to_vec()];
        let own = Own {
            trust: trust.id.clone(),
            node: NodeId::new(key.public()),
            certificate: certificate.fingerprint(),
            key,
            chain,
        };
        let store = MemoryStore::default();
        store.commit(lanyard_replica::found(&store, trust.charter()).unwrap()).unwrap();
        let mut replica = Replica::open(&store, own, trust.charter()).unwrap();
        // So that a test need not wait between attempts.
        replica.set_pin_policy(PinPolicy { delay_secs: 0, ..PinPolicy::default() });
        Self { store, replica }
    }

    /// What the registrar hands in.
    fn take(&mut self, record: &Decoded) {
        let arrivals = arrival::verify(vec![arrival::decode(record.bytes())], &self.replica.network());
        let input = Input::Records { from: Source::Local { ticket: 1 }, arrivals };
        let step = self.replica.step(input, now(), &self.store).unwrap();
        self.store.commit(step.batch).unwrap();
    }

    fn ask(&mut self, request: Request) -> Result<Reply, Refusal> {
        let step = self.replica.step(Input::Request { ticket: 1, request }, now(), &self.store).unwrap();
        self.store.commit(step.batch).unwrap();
        let reply = step.outputs.into_iter().find_map(|output| match output {
            Output::Reply { reply, .. } => Some(reply),
            _ => None,
        });
        reply.expect("each request is answered")
    }
}

pub struct TestNode {
    trust: TrustId,
    charter: Vec<u8>,
    network: Mutex<Arc<Network>>,
    submitted: Mutex<Vec<Decoded>>,
    notes: Mutex<Vec<Note>>,
    orders: Mutex<Vec<Deletion>>,
    erased: Mutex<Vec<(Fingerprint, Vec<u8>)>>,
    present: Mutex<Vec<Fingerprint>>,
    inboxes: Mutex<HashMap<Fingerprint, watch::Sender<u64>>>,
    pins: Mutex<Engine>,
    asked: watch::Sender<usize>,
}

impl TestNode {
    pub fn new(trust: &Trust) -> Arc<Self> {
        Arc::new(Self {
            trust: trust.id.clone(),
            charter: trust.charter().bytes().to_vec(),
            network: Mutex::new(Arc::new(trust.network())),
            submitted: Mutex::default(),
            notes: Mutex::default(),
            orders: Mutex::default(),
            erased: Mutex::default(),
            present: Mutex::default(),
            inboxes: Mutex::default(),
            pins: Mutex::new(Engine::new(trust)),
            asked: watch::channel(0).0,
        })
    }

    /// The time has certainly reached this moment.
    pub fn set_floor(&self, floor: Timestamp) {
        Arc::make_mut(&mut self.network.lock().unwrap()).set_floor(floor);
    }

    /// Records that were handed in.
    pub fn submitted(&self) -> Vec<Decoded> {
        self.submitted.lock().unwrap().clone()
    }

    /// What was noted for the audit log.
    pub fn notes(&self) -> Vec<Note> {
        self.notes.lock().unwrap().clone()
    }

    /// Their events.
    pub fn events(&self) -> Vec<&'static str> {
        self.notes().iter().map(|note| note.event).collect()
    }

    /// The deletions that were ordered.
    pub fn orders(&self) -> Vec<Deletion> {
        self.orders.lock().unwrap().clone()
    }

    /// Lines that devices have handed in.
    pub fn erased(&self) -> Vec<(Fingerprint, Vec<u8>)> {
        self.erased.lock().unwrap().clone()
    }

    /// Devices of which it was noted that they have spoken.
    pub fn present(&self) -> Vec<Fingerprint> {
        self.present.lock().unwrap().clone()
    }

    /// Something arrived for a device.
    pub fn arrive(&self, device: Fingerprint, seq: u64) {
        self.inbox_of(device).send_replace(seq);
    }

    /// Waits until the inbox has been looked at, or watched, so many times.
    pub async fn asked(&self, times: usize) {
        self.asked.subscribe().wait_for(|asked| *asked >= times).await.unwrap();
    }

    fn inbox_of(&self, device: Fingerprint) -> watch::Sender<u64> {
        self.inboxes.lock().unwrap().entry(device).or_insert_with(|| watch::channel(0).0).clone()
    }
}

fn nothing<'a, T: Send + 'a>(what: &str) -> Answer<'a, T> {
    let refusal = refusal("not-found", format!("{what}: not part of this test"));
    async move { Err(refusal) }.boxed()
}

impl Backend for TestNode {
    fn network(&self) -> Arc<Network> {
        self.network.lock().unwrap().clone()
    }

    fn trust(&self) -> &TrustId {
        &self.trust
    }

    fn send(&self, _: Fingerprint, _: SendRequest) -> Answer<'_, SendResponse> {
        nothing("send")
    }

    fn delete(&self, order: Deletion) -> Answer<'_, RecordId> {
        self.orders.lock().unwrap().push(order);
        nothing("delete")
    }

    fn delete_sent(&self, _: SentDeletion) -> Answer<'_, Option<SomeDeleted>> {
        nothing("delete")
    }

    fn devices_of(&self, _: String) -> Answer<'_, Vec<Fingerprint>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn place_hold(&self, _: NewHold) -> Answer<'_, ()> {
        nothing("hold")
    }

    fn end_hold(&self, _: ConversationId, _: String) -> Answer<'_, ()> {
        nothing("hold")
    }

    fn holds(&self) -> Answer<'_, Vec<HoldView>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn last_seen(&self, devices: Vec<Fingerprint>) -> Answer<'_, Vec<Option<Timestamp>>> {
        async move { Ok(vec![None; devices.len()]) }.boxed()
    }

    fn seen(&self, _: Fingerprint, _: u64) -> Answer<'_, ()> {
        async { Ok(()) }.boxed()
    }

    fn leave(&self, _: Fingerprint, _: ConversationId) -> Answer<'_, ()> {
        async { Ok(()) }.boxed()
    }

    fn erased(&self, device: Fingerprint, lines: Vec<ByteBuf>) -> Answer<'_, ()> {
        self.erased.lock().unwrap().extend(lines.into_iter().map(|line| (device, line.into_vec())));
        async { Ok(()) }.boxed()
    }

    fn present(&self, device: Fingerprint) {
        self.present.lock().unwrap().push(device);
    }

    fn pin(&self, device: Fingerprint, request: PinRequest) -> Answer<'_, Reply> {
        let outcome = self.pins.lock().unwrap().ask(Request::Pin { device, request });
        async move { outcome }.boxed()
    }

    fn pin_secret(&self) -> Answer<'_, Hidden> {
        let mut engine = self.pins.lock().unwrap();
        let made = Hidden(ServerSecret::generate().unwrap().to_bytes());
        engine.ask(Request::PinSecret(made)).unwrap();
        let secret = pin::secret(&engine.store).unwrap().unwrap();
        async move { Ok(secret) }.boxed()
    }

    fn spent_pins(&self, started: Timestamp) -> Answer<'_, Vec<Fingerprint>> {
        let spent = pin::spent(&self.pins.lock().unwrap().store, started, now()).unwrap();
        async move { Ok(spent) }.boxed()
    }

    fn pin_state(&self, device: Fingerprint) -> Answer<'_, PinState> {
        let engine = self.pins.lock().unwrap();
        let state = pin::state(&engine.store, &device, &PinPolicy::default(), now()).unwrap();
        async move { Ok(state) }.boxed()
    }

    fn deletions_report(&self) -> Answer<'_, String> {
        nothing("a report")
    }

    fn overdue(&self) -> Answer<'_, Vec<Overdue>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn bar(&self, _: Vec<Fingerprint>) -> Answer<'_, Timestamp> {
        async { Ok(now()) }.boxed()
    }

    fn submit(&self, record: Decoded) -> Answer<'_, ()> {
        self.pins.lock().unwrap().take(&record);
        let mut network = Network::clone(&self.network());
        network.restore(&record);
        *self.network.lock().unwrap() = Arc::new(network);
        self.submitted.lock().unwrap().push(record);
        async { Ok(()) }.boxed()
    }

    fn inbox(&self, device: Fingerprint, after: u64) -> Answer<'_, InboxResponse> {
        self.asked.send_modify(|asked| *asked += 1);
        let newest = *self.inbox_of(device).borrow();
        let items = (after + 1..=newest).map(|seq| InboxItem { seq, record: None }).collect();
        async { Ok(InboxResponse { items, more: false }) }.boxed()
    }

    fn inbox_events(&self, device: Fingerprint) -> watch::Receiver<u64> {
        self.asked.send_modify(|asked| *asked += 1);
        self.inbox_of(device).subscribe()
    }

    fn ticks(&self, _: Fingerprint, _: RecordId) -> Answer<'_, Option<TicksResponse>> {
        async { Ok(None) }.boxed()
    }

    fn deletion(&self, _: RecordId) -> Answer<'_, Option<DeletionResponse>> {
        async { Ok(None) }.boxed()
    }

    fn deletion_for(&self, _: Fingerprint, _: RecordId) -> Answer<'_, Option<DeletionResponse>> {
        async { Ok(None) }.boxed()
    }

    fn deletions(&self) -> Answer<'_, Vec<deletion::Deletion>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn directory(&self, _: String) -> Answer<'_, DirectoryResponse> {
        nothing("directory")
    }

    fn trust_records(&self, _: Option<u64>) -> Answer<'_, TrustResponse> {
        let charter = self.charter.clone();
        async {
            Ok(TrustResponse {
                charter,
                crls: Vec::new(),
                retention: Default::default(),
                review: Default::default(),
                patterns: Vec::new(),
            })
        }
        .boxed()
    }

    fn audit(&self, _: Option<u64>, _: usize) -> Answer<'_, Vec<AuditLine>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn audit_chain(&self) -> Answer<'_, Beginning> {
        nothing("audit log")
    }

    fn audit_check(&self) -> Answer<'_, AuditChecked> {
        nothing("audit log")
    }

    fn audit_heads(&self, _: Option<NodeId>) -> Answer<'_, AuditHeads> {
        async { Ok(AuditHeads::default()) }.boxed()
    }

    fn audit_contradictions(&self) -> Answer<'_, Vec<AuditContradiction>> {
        nothing("audit log")
    }

    fn compact(&self) -> Answer<'_, Compacted> {
        nothing("store")
    }

    fn back_up(&self, _: PathBuf) -> Answer<'_, BackedUp> {
        nothing("store")
    }

    fn restoration(&self) -> Answer<'_, Option<Restoration>> {
        nothing("store")
    }

    fn leave_out(&self, _: Awaited) -> Answer<'_, ()> {
        nothing("store")
    }

    fn note(&self, note: Note) -> BoxFuture<'_, ()> {
        self.notes.lock().unwrap().push(note);
        async {}.boxed()
    }

    fn peers(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    fn entry(&self, _: Fingerprint) -> Answer<'_, Option<Decoded>> {
        async { Ok(None) }.boxed()
    }

    fn record(&self, _: RecordId) -> Answer<'_, Option<Vec<u8>>> {
        async { Ok(None) }.boxed()
    }

    fn refusals_lost(&self) -> u64 {
        0
    }

    fn counts(&self) -> Answer<'_, Vec<(String, u64)>> {
        async { Ok(Vec::new()) }.boxed()
    }
}
