//! Three trusts with real certificates, devices with vaults on disk, and the owner trust's node as it orders
//! commits.

mod members;
mod messages;
mod refused;

use std::path::PathBuf;
use std::sync::RwLock;

use lanyard_crypto::cbor;
use lanyard_crypto::charter::{Authorities, Charter, Member, Policy as CharterPolicy};
use lanyard_crypto::gateway::SendRequest;
use lanyard_crypto::mls::{Class as Purpose, PublicGroup};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{Class, Envelope, Header, Submission};
use lanyard_crypto::x509::{Certificate, RevocationList, Subject, issue};
use lanyard_crypto::{RecordId, TrustId};
use serde_bytes::ByteBuf;
use tempfile::TempDir;

use super::change::Founding;
use super::receive::Changed;
use super::*;
use crate::vault::VaultKey;
use crate::vault::messages::Message;
use crate::vault::outbox::{Incoming, Outgoing};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const EXPIRES: Timestamp = NOW.plus_secs(30 * 24 * 3600);
const LIFE_SECS: u64 = 365 * 24 * 3600;
const MARKER: &str = "MARKER-potassium-7.1-bed-9";

type Shared = RwLock<Network>;

struct Trust {
    id: TrustId,
    root: Certificate,
    registrar: Certificate,
    registrar_key: SecretKey,
}

impl Trust {
    fn new(code: &str) -> Self {
        let term = || issue::Term::starting(NOW, LIFE_SECS).unwrap();
        let (root_key, registrar_key) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let root = issue::root(&subject(code, "Root", None), &root_key, &term()).unwrap();
        let issuer = issue::Issuer::new(&root, &root_key).unwrap();
        let name = subject(code, "Registrar", None);
        let registrar = issuer.registrar(&name, &registrar_key.public(), &term()).unwrap();
        Self { id: code.parse().unwrap(), root, registrar, registrar_key }
    }

    fn device(&self, name: &str, key: &SecretKey) -> Certificate {
        let issuer = issue::Issuer::new(&self.registrar, &self.registrar_key).unwrap();
        let subject = subject(self.id.as_str(), name, Some(format!("GMC {name}")));
        issuer.device(&subject, &key.public(), &issue::Term::starting(NOW, LIFE_SECS).unwrap()).unwrap()
    }
}

fn subject(code: &str, name: &str, registration: Option<String>) -> Subject {
    Subject {
        trust: code.parse().unwrap(),
        country: "GB".parse().unwrap(),
        organisation: format!("{code} NHS Trust"),
        common_name: name.into(),
        department: None,
        title: Some("Consultant".into()),
        registration,
    }
}

/// A device whose program can be started again.
struct Device {
    path: PathBuf,
    key: SecretKey,
    chain: Vec<Vec<u8>>,
    network: Arc<Shared>,
    session: Session<Shared>,
}

impl Device {
    fn restart(&mut self) {
        let spare = TempDir::new().unwrap();
        let vault = Vault::open(&spare.path().join("vault.db"), &VaultKey::new([0; 32])).unwrap();
        self.session = Session::open(vault, self.network.clone(), &self.key, &self.chain).unwrap();
        let vault = Vault::open(&self.path, &VaultKey::new([3; 32])).unwrap();
        self.session = Session::open(vault, self.network.clone(), &self.key, &self.chain).unwrap();
    }

    fn text(&mut self, conversation: &ConversationId, text: &str) -> Outgoing {
        self.session.send(conversation, &Content::Text(text.into()), EXPIRES, NOW).unwrap()
    }

    fn receive(&mut self, incoming: &Incoming) -> Vec<Received> {
        self.session.receive(incoming, NOW).unwrap()
    }

    fn read(&mut self, incoming: &Incoming) -> Message {
        match &self.receive(incoming)[..] {
            [Received::Message(message)] => message.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn changed(&mut self, incoming: &Incoming) -> Changed {
        match &self.receive(incoming)[..] {
            [Received::Changed(changed)] => changed.clone(),
            other => panic!("{other:?}"),
        }
    }
}

struct World {
    dir: TempDir,
    network: Arc<Shared>,
    trusts: Vec<Trust>,
    foreign: Trust,
    hub: Option<PublicGroup<Shared>>,
    records: u8,
}

impl World {
    fn new() -> Self {
        let trusts: Vec<_> = ["RAL", "RJ1", "RYJ"].map(Trust::new).into();
        Self {
            dir: TempDir::new().unwrap(),
            network: Arc::new(RwLock::new(network(&trusts))),
            trusts,
            foreign: Trust::new("X99"),
            hub: None,
            records: 0,
        }
    }

    /// From now on the charter carries these trusts alone.
    fn admit(&self, trusts: &[Trust]) {
        *self.network.write().unwrap() = network(trusts);
    }

    fn device(&self, trust: usize, name: &str, file: &str) -> Device {
        self.device_of(&self.trusts[trust], name, file)
    }

    fn device_of(&self, trust: &Trust, name: &str, file: &str) -> Device {
        let key = SecretKey::generate().unwrap();
        let chain = vec![trust.device(name, &key).der().to_vec(), trust.registrar.der().to_vec()];
        let path = self.dir.path().join(file);
        let vault = Vault::open(&path, &VaultKey::new([3; 32])).unwrap();
        let network = self.network.clone();
        let session = Session::open(vault, network.clone(), &key, &chain).unwrap();
        Device { path, key, chain, network, session }
    }

    /// What the nodes make of a request for an application message.
    fn publish(&mut self, from: &mut Device, outgoing: &Outgoing) -> Incoming {
        let SendRequest { conversation, epoch, class, content, expires, .. } = outgoing.request.clone();
        let envelope = Envelope { conversation, epoch, class, content };
        let incoming =
            Incoming { signer: from.session.device().trust.clone(), ..self.record(envelope, expires) };
        from.session.sent(outgoing, &incoming.id, incoming.issued).unwrap();
        incoming
    }

    /// What the owner trust's node makes of a submission: the commit, and the welcome if there is one.
    fn order(
        &mut self,
        from: &mut Device,
        outgoing: &Outgoing,
    ) -> Result<(Incoming, Option<Incoming>), String> {
        let SendRequest { conversation, epoch, expires, .. } = outgoing.request.clone();
        let submission: Submission = cbor::from_slice(&outgoing.request.content, 1 << 20).unwrap();
        if let Some(info) = &submission.group_info {
            let hub = PublicGroup::observe(self.network.clone(), &conversation, info, NOW);
            self.hub = Some(hub.map_err(|e| e.to_string())?);
        }
        let accepted =
            self.hub.as_mut().unwrap().accept_commit(&submission.commit, NOW).map_err(|e| e.to_string())?;
        let commit = Envelope {
            conversation: conversation.clone(),
            epoch,
            class: Class::Commit,
            content: submission.commit,
        };
        let commit = self.record(commit, expires);
        from.session.sent(outgoing, &commit.id, NOW).unwrap();
        let welcome = submission.welcome.map(|w| {
            let (epoch, content) = (accepted.epoch, w.into_vec());
            self.record(Envelope { conversation, epoch, class: Class::Welcome, content }, expires)
        });
        Ok((commit, welcome))
    }

    /// A record of the owner trust's node.
    fn record(&mut self, envelope: Envelope, expires: Timestamp) -> Incoming {
        self.records += 1;
        Incoming {
            id: RecordId::new([self.records; 32]),
            signer: envelope.conversation.owner().clone(),
            envelope,
            issued: NOW,
            expires,
        }
    }
}

fn network(trusts: &[Trust]) -> Network {
    let member = |t: &Trust| Member {
        trust: t.id.clone(),
        name: t.id.to_string(),
        root: t.root.der().to_vec(),
        addresses: Vec::new(),
    };
    let key = ByteBuf::from(SecretKey::generate().unwrap().public().to_vec());
    let charter = Charter {
        name: "Region".into(),
        version: 1,
        previous: None,
        authorities: Authorities { keys: vec![key], threshold: 1 },
        trusts: trusts.iter().map(member).collect(),
        countries: vec!["GB".parse().unwrap()],
        policy: CharterPolicy::of(LIFE_SECS),
    };
    let expires = NOW.plus_secs(LIFE_SECS);
    let header = Header { network: None, custodians: Vec::new(), issued: NOW, expires };
    Network::new(RecordId::new([1; 32]), &header, &charter, None).unwrap()
}

/// Ada (RYJ) has founded a conversation with Ben (RJ1) and Cem (RAL).
struct Scene {
    world: World,
    id: ConversationId,
    ada: Device,
    ben: Device,
    cem: Device,
}

fn founding(members: Vec<Vec<u8>>) -> Founding {
    Founding {
        retention_secs: None,
        review: None,
        class: Purpose::Clinical,
        title: "Bed 9".into(),
        owner: "RYJ".parse().unwrap(),
        nodes: Vec::new(),
        admins: Vec::new(),
        members,
    }
}

fn scene() -> Scene {
    let mut world = World::new();
    let (mut ada, mut ben, mut cem) = (
        world.device(2, "Ada", "ada.db"),
        world.device(1, "Ben", "ben.db"),
        world.device(0, "Cem", "cem.db"),
    );
    let packages = vec![ben.session.key_package(NOW).unwrap(), cem.session.key_package(NOW).unwrap()];
    let (id, outgoing) = ada.session.found(&founding(packages), EXPIRES, NOW).unwrap();
    assert_eq!(outgoing.request.custodians.len(), 3);
    assert_eq!(ada.session.vault().outbox().unwrap(), std::slice::from_ref(&outgoing));
    assert!(ada.session.is_change_pending(&id).unwrap());
    let (commit, welcome) = world.order(&mut ada, &outgoing).unwrap();
    let changed = ada.changed(&commit);
    assert!(changed.own && !changed.lost);
    assert_eq!((changed.epoch, changed.added.len()), (1, 2));
    for device in [&mut ben, &mut cem] {
        assert_eq!(device.receive(&welcome.clone().unwrap()), [Received::Joined(id.clone())]);
        let known = device.session.vault().conversation(&id).unwrap().unwrap();
        assert_eq!((known.title.as_str(), known.class), ("Bed 9", Purpose::Clinical));
        assert_eq!(device.receive(&commit), [Received::Nothing]);
    }
    assert!(ada.session.vault().outbox().unwrap().is_empty());
    Scene { world, id, ada, ben, cem }
}

fn revoke(issuer: &issue::Issuer<'_>, serial: Vec<u8>) -> RevocationList {
    let entry = lanyard_crypto::x509::Revocation { serial, at: NOW.minus_secs(60), reason: None };
    issuer.revocation_list(1, NOW, NOW.plus_secs(LIFE_SECS), &[entry]).unwrap()
}
