//! Trusts, certified devices, and groups of any size whose members are such devices.

use std::error::Error;
use std::net::IpAddr;
use std::sync::{Arc, RwLock};

use lanyard_crypto::charter::{Authorities, Charter, Member, Policy as CharterPolicy};
use lanyard_crypto::mls::identity::credential;
use lanyard_crypto::mls::{Class, Policy, PublicGroup, Review, ReviewTerms, X509Identities};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::Header;
use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::issue::{self, Issuer, NodeDetails, Term};
use lanyard_crypto::x509::{Certificate, SecretKey, Subject};
use lanyard_crypto::{ConversationId, NodeId, RecordId, TrustId};
use mls_rs::ExtensionList;
use mls_rs::extension::MlsExtension;
use mls_rs::extension::built_in::ExternalSendersExt;
use mls_rs::identity::SigningIdentity;
use mls_rs::mls_rs_codec::MlsEncode;
use mls_rs::storage_provider::in_memory::{InMemoryGroupStateStorage, InMemoryKeyPackageStorage};
use zeroize::Zeroizing;

use super::member::{Bare, Change, Packaged, bare_client, read_identity};
use crate::network::NOW;

/// For how long certificates, the charter and messages hold, in seconds.
pub const LIFE: u64 = 300 * 24 * 3600;
/// Of so many members one has renewed its keys since it was added, so that the upper half of the tree is filled, as in a group that is in use.
pub const RENEWED_ONE_IN: usize = 32;

pub type Shared = RwLock<Network>;

pub struct Trust {
    pub id: TrustId,
    root: Certificate,
    registrar: Certificate,
    registrar_key: SecretKey,
    pub node: Certificate,
    pub node_key: SecretKey,
}

/// A device with its certificates.
#[derive(Clone)]
pub struct Device {
    pub key: SecretKey,
    /// Its certificate and its registrar's, DER.
    pub chain: Vec<Vec<u8>>,
}

/// Three trusts under one charter.
pub struct World {
    pub trusts: Vec<Trust>,
    pub network: Arc<Shared>,
    devices: usize,
}

/// A group as three of those who have to do with it hold it.
pub struct Founded {
    pub conversation: ConversationId,
    /// The founder and administrator, and the state of the group as the library keeps it.
    pub founder: (Device, Zeroizing<Vec<u8>>),
    /// Another member, likewise.
    pub member: (Device, Zeroizing<Vec<u8>>),
    /// The hub's public state.
    pub hub: Vec<u8>,
}

impl Trust {
    fn new(code: &str, ip: [u8; 4]) -> Result<Self, Box<dyn Error>> {
        let id: TrustId = code.parse()?;
        let [root_key, registrar_key, node_key] =
            [SecretKey::generate()?, SecretKey::generate()?, SecretKey::generate()?];
        let root = issue::root(&subject(&id, "Root", None)?, &root_key, &term()?)?;
        let name = subject(&id, "Registrar", None)?;
        let registrar = Issuer::new(&root, &root_key)?.registrar(&name, &registrar_key.public(), &term()?)?;
        let details = NodeDetails {
            node: NodeId::new(node_key.public()),
            hosting_country: Country::GB,
            dns_names: Vec::new(),
            ip_addresses: vec![IpAddr::from(ip)],
        };
        let node = Issuer::new(&registrar, &registrar_key)?.node(
            &subject(&id, "Node", None)?,
            &node_key.public(),
            &details,
            &term()?,
        )?;
        Ok(Self { id, root, registrar, registrar_key, node, node_key })
    }

    fn device(&self, number: usize) -> Result<Device, Box<dyn Error>> {
        let key = SecretKey::generate()?;
        let (name, registration) = (format!("Dr Clinician {number:04}"), format!("GMC {number:07}"));
        let subject = subject(&self.id, &name, Some(registration))?;
        let issuer = Issuer::new(&self.registrar, &self.registrar_key)?;
        let certificate = issuer.device(&subject, &key.public(), &term()?)?;
        let chain = vec![certificate.der().to_vec(), self.registrar.der().to_vec()];
        Ok(Device { key, chain })
    }
}

impl Device {
    pub fn signing_identity(&self) -> SigningIdentity {
        SigningIdentity::new(credential(&self.chain), self.key.public().to_vec().into())
    }
}

impl World {
    pub fn new() -> Result<Self, Box<dyn Error>> {
        let trusts = vec![
            Trust::new("RZ1", [127, 0, 0, 1])?,
            Trust::new("RZ2", [127, 0, 0, 2])?,
            Trust::new("RZ3", [127, 0, 0, 3])?,
        ];
        let network = Arc::new(RwLock::new(network(&trusts)?));
        Ok(Self { trusts, network, devices: 0 })
    }

    /// Another device, of each trust in turn.
    pub fn device(&mut self) -> Result<Device, Box<dyn Error>> {
        self.devices += 1;
        self.trusts[(self.devices - 1) % self.trusts.len()].device(self.devices)
    }

    /// A device with a key package by which it can be added, and the secrets of that.
    pub fn packaged(&mut self) -> Result<Packaged, Box<dyn Error>> {
        Packaged::new(self.device()?)
    }

    /// A group of so many members (at least 3), which the founder has added in parts, with the hub following each commit. The founder, the
    /// member and who has renewed its keys do so by the bare library, which takes them less time than what is measured later.
    pub fn found(&mut self, members: usize) -> Result<Founded, Box<dyn Error>> {
        // The first device of a world is of the owner trust.
        while !self.devices.is_multiple_of(self.trusts.len()) {
            self.device()?;
        }
        let founder = self.device()?;
        let conversation = ConversationId::new([9; 16], self.trusts[0].id.clone());
        let storage = InMemoryGroupStateStorage::new();
        let client = bare_client(InMemoryKeyPackageStorage::new(), storage.clone(), Some(&founder));
        let mut own = Bare::founded(&client, storage, conversation.to_bytes(), self.extensions(&founder)?)?;
        let info = own.group.group_info_message(true)?.to_bytes()?;
        let mut hub = PublicGroup::observe(self.network.clone(), &conversation, &info, NOW)?;
        let mut last = None;
        let mut left = members - 1;
        while left > 0 {
            let part = left.min(RENEWED_ONE_IN);
            let packaged = (0..part).map(|_| self.packaged()).collect::<Result<Vec<_>, _>>()?;
            let packages = packaged.iter().map(|p| p.package.clone()).collect();
            let made = own.commit(&Change { add: packages, remove: Vec::new() })?;
            hub.accept_commit(&made.commit, NOW)?;
            let renewing = packaged.into_iter().last().ok_or("a part has members")?;
            let welcome = made.welcome.ok_or("who is added is welcomed")?;
            let storage = InMemoryGroupStateStorage::new();
            let client = bare_client(renewing.secrets.clone(), storage.clone(), Some(&renewing.device));
            let mut joined = Bare::join(&client, storage, &welcome)?;
            let renewed = joined.commit(&Change::default())?;
            hub.accept_commit(&renewed.commit, NOW)?;
            own.receive(&renewed.commit)?;
            last = Some((renewing.device, joined));
            left -= part;
        }
        let (device, joined) = last.ok_or("a group has more than its founder")?;
        Ok(Founded {
            founder: (founder, own.state()?),
            member: (device, joined.state()?),
            hub: hub.snapshot()?,
            conversation,
        })
    }

    /// What a conversation of this trust begins with, as the client founds it.
    fn extensions(&self, founder: &Device) -> Result<ExtensionList, Box<dyn Error>> {
        let identities = X509Identities::of_member(self.network.clone());
        let person = read_identity(&identities, founder)?.person;
        let review = Review::new(NOW, person, ReviewTerms::default())?;
        let policy = Policy::new(Class::Clinical, [person])?.with_retention(LIFE)?.with_review(review);
        let sender = |trust: &Trust| {
            let chain = [trust.node.der().to_vec(), trust.registrar.der().to_vec()];
            SigningIdentity::new(credential(&chain), trust.node_key.public().to_vec().into())
        };
        let senders = ExternalSendersExt::new(self.trusts.iter().map(sender).collect());
        Ok(vec![policy.to_extension(), senders.into_extension()?].into())
    }
}

fn network(trusts: &[Trust]) -> Result<Network, Box<dyn Error>> {
    let member = |t: &Trust| Member {
        trust: t.id.clone(),
        name: format!("Trust {}", t.id),
        root: t.root.der().to_vec(),
        addresses: Vec::new(),
    };
    let key = SecretKey::generate()?.public().to_vec().into();
    let charter = Charter {
        name: "Fellside regional network".into(),
        version: 1,
        previous: None,
        authorities: Authorities { keys: vec![key], threshold: 1 },
        trusts: trusts.iter().map(member).collect(),
        countries: vec![Country::GB],
        policy: CharterPolicy::of(LIFE),
    };
    let header = Header { network: None, custodians: Vec::new(), issued: NOW, expires: NOW.plus_secs(LIFE) };
    Ok(Network::new(RecordId::new([1; 32]), &header, &charter, None)?)
}

fn term() -> Result<Term, issue::IssueError> {
    Term::starting(NOW, LIFE)
}

fn subject(trust: &TrustId, name: &str, registration: Option<String>) -> Result<Subject, Box<dyn Error>> {
    Ok(Subject {
        trust: trust.clone(),
        country: Country::GB,
        organisation: format!("Trust {trust}"),
        common_name: name.into(),
        department: None,
        title: Some("Consultant".into()),
        registration,
    })
}

/// The bytes of one member's certificates in the tree.
pub fn credential_bytes(device: &Device) -> Result<usize, Box<dyn Error>> {
    Ok(device.signing_identity().credential.mls_encode_to_vec()?.len())
}
