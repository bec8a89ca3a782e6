//! Three trusts with their keys, and what they sign.

use lanyard_crypto::charter::{Authorities, Charter, Member, Policy};
use lanyard_crypto::record::{self, Body, Class, Decoded, Envelope, Header, Reason, Target, Tombstone};
use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::issue::{self, Issuer, NodeDetails, Term};
use lanyard_crypto::x509::{Certificate, SecretKey, Subject};
use lanyard_crypto::{ConversationId, NetworkId, NodeId, RecordId, Timestamp, TrustId};
use lanyard_replica::Own;

/// The time zero of the models.
pub const EPOCH: Timestamp = Timestamp::from_secs(1_800_000_000);
const DAY: u64 = 24 * 3600;

/// A trust's node: all that signs here.
pub struct Trust {
    pub id: TrustId,
    pub node: NodeId,
    key: SecretKey,
    certificate: Certificate,
    chain: Vec<Vec<u8>>,
    root: Vec<u8>,
}

/// The trusts, and the charter that holds them together.
pub struct Trusts {
    pub all: Vec<Trust>,
    pub charter: Decoded,
    pub conversation: ConversationId,
}

impl Trusts {
    /// In the order of the models: the owner of the conversation first.
    pub fn new() -> Self {
        let all: Vec<_> =
            ["RXA", "RXB", "RXC"].iter().zip(0u8..).map(|(code, i)| Trust::new(code, 1 + 3 * i)).collect();
        let mut authorities: Vec<_> = (201..204).map(key).collect();
        authorities.sort_by_key(SecretKey::public);
        let member = |t: &Trust| Member {
            trust: t.id.clone(),
            name: format!("Trust {}", t.id),
            root: t.root.clone(),
            addresses: Vec::new(),
        };
        let charter = Charter {
            name: "Models".into(),
            version: 1,
            previous: None,
            authorities: Authorities {
                keys: authorities.iter().map(|k| k.public().to_vec().into()).collect(),
                threshold: 2,
            },
            trusts: all.iter().map(member).collect(),
            countries: vec![Country::GB],
            policy: Policy { retention_secs_max: 30 * DAY },
        };
        let (issued, expires) = (EPOCH.minus_secs(DAY), EPOCH.plus_secs(1000 * DAY));
        let header = Header { network: None, custodians: Vec::new(), issued, expires };
        let charter =
            record::sign_charter(header, charter, &[&authorities[0], &authorities[1]], None).unwrap();
        let conversation = ConversationId::new([9; 16], all[0].id.clone());
        Self { all, charter, conversation }
    }

    /// An application message of this trust's node; `n` makes it another one.
    pub fn message(&self, by: usize, n: usize, issued: Timestamp, expires: Timestamp) -> Decoded {
        let content = private_message(&self.conversation, n as u64);
        let conversation = self.conversation.clone();
        let body = Body::Envelope(Envelope { conversation, epoch: 1, class: Class::Application, content });
        self.sign(by, body, issued, expires)
    }

    /// A tombstone of this trust's node for one record.
    pub fn tombstone(&self, by: usize, target: RecordId, issued: Timestamp, expires: Timestamp) -> Decoded {
        let body = Body::Tombstone(Tombstone {
            conversation: self.conversation.clone(),
            target: Target::Envelopes(vec![target]),
            reason: Reason::SentInError,
            reference: Vec::new(),
        });
        self.sign(by, body, issued, expires)
    }

    fn sign(&self, by: usize, body: Body, issued: Timestamp, expires: Timestamp) -> Decoded {
        let network = Some(NetworkId::new(*self.charter.statement().as_bytes()));
        let custodians = self.all.iter().map(|t| t.id.clone()).collect();
        let header = Header { network, custodians, issued, expires };
        let trust = &self.all[by];
        record::sign(header, body, trust.certificate.fingerprint(), &trust.key).unwrap()
    }
}

impl Trust {
    fn new(code: &str, seed: u8) -> Self {
        let id: TrustId = code.parse().unwrap();
        let (root_key, registrar_key, key) = (key(seed), key(seed + 1), key(seed + 2));
        let root = issue::root(&subject(&id, "Root"), &root_key, &term(seed)).unwrap();
        let registrar = Issuer::new(&root, &root_key)
            .unwrap()
            .registrar(&subject(&id, "Registrar"), &registrar_key.public(), &term(seed + 1))
            .unwrap();
        let node = NodeId::new(key.public());
        let details = NodeDetails {
            node,
            hosting_country: Country::GB,
            dns_names: Vec::new(),
            ip_addresses: vec![std::net::IpAddr::from([127, 0, 0, 1])],
        };
        let certificate = Issuer::new(&registrar, &registrar_key)
            .unwrap()
            .node(&subject(&id, "Node"), &key.public(), &details, &term(seed + 2))
            .unwrap();
        let chain = vec![certificate.der().to_vec(), registrar.der().to_vec()];
        Self { id, node, key, certificate, chain, root: root.der().to_vec() }
    }

    pub fn chain(&self) -> Vec<Vec<u8>> {
        self.chain.clone()
    }

    pub fn own(&self) -> Own {
        Own {
            trust: self.id.clone(),
            node: self.node,
            certificate: self.certificate.fingerprint(),
            key: self.key.clone(),
            chain: self.chain(),
        }
    }
}

/// A PrivateMessage with application data, by hand, after the grammar of RFC 9420, section 6.3.
fn private_message(conversation: &ConversationId, n: u64) -> Vec<u8> {
    let group = conversation.to_bytes();
    let mut bytes = vec![0, 1, 0, 2, group.len() as u8];
    bytes.extend(group);
    bytes.extend(1u64.to_be_bytes());
    // application; no authenticated data; sender data; ciphertext
    bytes.extend([1, 0, 2, 9, 9, 8]);
    bytes.extend(n.to_be_bytes());
    bytes
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn term(serial: u8) -> Term {
    Term::new([serial; 16], EPOCH.minus_secs(DAY), EPOCH.plus_secs(300 * DAY))
}

fn subject(trust: &TrustId, name: &str) -> Subject {
    Subject {
        trust: trust.clone(),
        country: Country::GB,
        organisation: "Test Trust".into(),
        common_name: name.into(),
        department: None,
        title: None,
        registration: None,
    }
}
