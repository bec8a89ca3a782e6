//! What the owner trust's node refuses to order, when the members are the clients that clinicians use: a second commit of
//! an epoch, and a commit by who does not administer the conversation, made by a client that was told to believe otherwise.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::sync::Arc;

use lanyard_client::session::change::Founding;
use lanyard_client::session::{Received, Session, SessionError};
use lanyard_client::vault::outbox::{Incoming, Outgoing};
use lanyard_client::vault::{Vault, VaultKey};
use lanyard_crypto::mls::{ChainVerifier, Class as Purpose, DeviceIdentity, PersonKey};
use lanyard_crypto::network::{IdentityError, Network};
use lanyard_crypto::record::{Body, Class, Decoded, Envelope, Header};
use lanyard_crypto::x509::SecretKey;
use lanyard_crypto::{ConversationId, NetworkId, RecordId, Timestamp, TrustId};
use lanyard_replica::audit::{self, AuditEntry};
use lanyard_replica::fixtures::{self, NOW, RETENTION, Trust};
use lanyard_replica::{Input, Output, Own, Replica, Request, Source, arrival, found, query};
use lanyard_storage::{MemoryStore, Store, Tree};
use tempfile::TempDir;

const EXPIRES: Timestamp = NOW.plus_secs(RETENTION / 2);
/// What Cem's device is made of.
const CEM: u8 = 33;

#[test]
fn the_second_commit_of_an_epoch_is_refused_and_not_stored() {
    let mut scene = Scene::new();
    let cem = scene.cem.device().fingerprint;
    // Both administer, and both remove Cem.
    let first = scene.ada.remove(&scene.id, &[cem], EXPIRES, NOW).unwrap();
    let second = scene.ben.remove(&scene.id, &[cem], EXPIRES, NOW).unwrap();
    scene.hub.send(&scene.ada, &first).unwrap();
    let before = scene.hub.rows();
    let late = scene.hub.submit(&second);
    assert_eq!(scene.hub.why(&late).code, "duplicate-commit");
    assert_eq!(scene.hub.rows(), before);

    // Its maker hears of the other, and that its own is void.
    let commit = scene.hub.for_members().pop().unwrap();
    match &scene.ben.receive(&commit, NOW).unwrap()[..] {
        [Received::Changed(changed)] => assert!(changed.lost && !changed.own && changed.epoch == 2),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_commit_by_who_does_not_administer_is_refused_and_not_stored() {
    let mut scene = Scene::new();
    let ben = scene.ben.device().fingerprint;
    let refused = scene.cem.remove(&scene.id, &[ben], EXPIRES, NOW);
    assert!(
        matches!(refused, Err(SessionError::Rule(_) | SessionError::Mls(_))),
        "an honest client stops here"
    );

    let ada = scene.ada.device().person;
    let mut liar = scene.cem_who_believes_to_be(ada);
    let commit = liar.remove(&scene.id, &[ben], EXPIRES, NOW).unwrap();
    let before = scene.hub.rows();
    let refused = scene.hub.submit(&commit);
    let why = scene.hub.why(&refused);
    assert_eq!(why.code, "change-refused");
    assert!(why.detail.contains("administrator"), "{why:?}");
    assert_eq!(scene.hub.rows(), before);

    // Who does administer changes the same epoch.
    let rightful = scene.ben.remove(&scene.id, &[liar.device().fingerprint], EXPIRES, NOW).unwrap();
    scene.hub.submit(&rightful);
    assert_ne!(scene.hub.rows(), before);
}

/// The network; and, for a client that was tampered with, for whom it takes itself.
struct Believer {
    network: Network,
    own_person: Option<([u8; 32], PersonKey)>,
}

impl Believer {
    fn told(&self, mut device: DeviceIdentity) -> DeviceIdentity {
        if let Some((key, person)) = self.own_person
            && key == device.key
        {
            device.person = person;
        }
        device
    }
}

impl ChainVerifier for Believer {
    type Error = IdentityError;

    fn verify(&self, chain: &[&[u8]], at: Option<Timestamp>) -> Result<DeviceIdentity, IdentityError> {
        self.network.verify(chain, at).map(|device| self.told(device))
    }

    fn verify_node(&self, chain: &[&[u8]], at: Option<Timestamp>) -> Result<TrustId, IdentityError> {
        self.network.verify_node(chain, at)
    }

    fn verify_as_of(&self, chain: &[&[u8]], at: Timestamp) -> Result<DeviceIdentity, IdentityError> {
        self.network.verify_as_of(chain, at).map(|device| self.told(device))
    }

    fn read(&self, chain: &[&[u8]]) -> Result<DeviceIdentity, IdentityError> {
        self.network.read(chain).map(|device| self.told(device))
    }
}

type Client = Session<Believer>;

/// Ada (RXA) has founded a conversation of her trust with Ben and Cem (RXB). Ben administers it too.
struct Scene {
    hub: Hub,
    id: ConversationId,
    ada: Client,
    ben: Client,
    cem: Client,
    directory: TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let mut hub = Hub::new();
        let client = |trust: usize, name: &str, seed: u8| {
            let trust = &hub.trusts[trust];
            let (key, device) = trust.device(seed);
            open(&directory, &hub.replica.network(), name, &key, &trust.chain(&device), None)
        };
        let mut ada = client(0, "ada", 31);
        let mut ben = client(1, "ben", 32);
        let mut cem = client(1, "cem", CEM);
        let founding = Founding {
            retention_secs: None,
            review: None,
            class: Purpose::Clinical,
            title: "Bed 9".into(),
            owner: hub.trusts[0].id.clone(),
            nodes: Vec::new(),
            admins: vec![ben.device().person],
            members: vec![ben.key_package(NOW).unwrap(), cem.key_package(NOW).unwrap()],
        };
        let (id, outgoing) = ada.found(&founding, EXPIRES, NOW).unwrap();
        hub.send(&ada, &outgoing).unwrap();
        let published = hub.for_members();
        let of = |class| published.iter().find(|i| i.envelope.class == class).unwrap();
        assert!(matches!(ada.receive(of(Class::Commit), NOW).unwrap()[..], [Received::Changed(_)]));
        for member in [&mut ben, &mut cem] {
            assert_eq!(member.receive(of(Class::Welcome), NOW).unwrap(), [Received::Joined(id.clone())]);
        }
        Self { hub, id, ada, ben, cem, directory }
    }

    /// Cem's device again, on the same vault.
    fn cem_who_believes_to_be(&mut self, person: PersonKey) -> Client {
        let trust = &self.hub.trusts[1];
        let (key, device) = trust.device(CEM);
        open(&self.directory, &self.hub.replica.network(), "cem", &key, &trust.chain(&device), Some(person))
    }
}

fn open(
    directory: &TempDir,
    network: &Network,
    name: &str,
    key: &SecretKey,
    chain: &[Vec<u8>],
    person: Option<PersonKey>,
) -> Client {
    let vault = Vault::open(&directory.path().join(name), &VaultKey::new([3; 32])).unwrap();
    let own_person = person.map(|person| (key.public(), person));
    Session::open(vault, Arc::new(Believer { network: network.clone(), own_person }), key, chain).unwrap()
}

/// The engine of RXA's node, to which RXB's is connected.
struct Hub {
    trusts: [Trust; 2],
    network: NetworkId,
    store: MemoryStore,
    replica: Replica,
}

impl Hub {
    fn new() -> Self {
        let trusts = [Trust::new("RXA", 1), Trust::new("RXB", 11)];
        let charter = fixtures::sign_charter(fixtures::charter(&[&trusts[0], &trusts[1]]), None);
        let store = MemoryStore::new();
        store.commit(found(&store, &charter).unwrap()).unwrap();
        let replica = Replica::open(&store, trusts[0].own(), &charter).unwrap();
        let network = replica.network().id();
        let mut hub = Self { trusts, network, store, replica };
        let Own { node, trust, chain, .. } = hub.trusts[1].own();
        hub.step(Input::Connected { node, trust, chain });
        hub
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let step = self.replica.step(input, NOW, &self.store).unwrap();
        self.store.commit(step.batch).unwrap();
        step.outputs
    }

    /// A device of this trust hands in a request.
    fn send(&mut self, client: &Client, outgoing: &Outgoing) -> Result<(), String> {
        let request =
            Request::Send { device: client.device().fingerprint, request: outgoing.request.clone() };
        let outputs = self.step(Input::Request { ticket: 1, request });
        let reply = outputs.into_iter().find_map(|output| match output {
            Output::Reply { reply, .. } => Some(reply),
            _ => None,
        });
        reply.expect("an answer").map(drop).map_err(|refusal| refusal.code)
    }

    /// The other trust's node passes on a submission of its device.
    fn submit(&mut self, outgoing: &Outgoing) -> RecordId {
        let request = outgoing.request.clone();
        let body = Body::Envelope(Envelope {
            conversation: request.conversation,
            epoch: request.epoch,
            class: request.class,
            content: request.content,
        });
        let custodians = self.trusts.iter().map(|t| t.id.clone()).collect();
        let header =
            Header { network: Some(self.network), custodians, issued: NOW, expires: request.expires };
        let signed = self.trusts[1].sign(header, body);
        let id = signed.id();
        let arrivals = arrival::verify(vec![Ok(signed)], &self.replica.network());
        self.step(Input::Records { from: Source::Peer(self.trusts[1].node_id()), arrivals });
        id
    }

    /// What the audit log says of a refused record.
    fn why(&self, record: &RecordId) -> AuditEntry {
        let rows = audit::rows(&self.store, Some(0), 1000).unwrap();
        let refused = |e: &AuditEntry| e.event == "refused" && e.record == Some(*record);
        rows.into_iter().map(|row| row.entry).find(refused).expect("a refusal")
    }

    /// Everything that is stored, but for the audit log and its number.
    fn rows(&self) -> Vec<(Tree, Vec<u8>, Vec<u8>)> {
        let rows = self.store.rows().into_iter();
        rows.filter(|(tree, key, _)| *tree != Tree::Audit && !(*tree == Tree::Meta && key == b"audit-last"))
            .collect()
    }

    /// What was published to the other trust's members, oldest first.
    fn for_members(&self) -> Vec<Incoming> {
        let (_, records) = query::outbox(&self.store, &self.trusts[1].id, 0, NOW).unwrap();
        let incoming = |bytes: &[u8]| {
            let record = Decoded::from_bytes(bytes).unwrap();
            let Body::Envelope(envelope) = record.body().clone() else {
                return None;
            };
            let (issued, expires) = (record.header().issued, record.header().expires);
            let signer = self.trusts[0].id.clone();
            Some(Incoming { id: record.id(), signer, envelope, issued, expires })
        };
        records.iter().filter_map(|bytes| incoming(bytes)).collect()
    }
}
