//! Trusts with all their keys, and what they sign, rightly or not.

use lanyard_crypto::cbor;
use lanyard_crypto::charter::{Authorities, Charter, Member, Policy};
use lanyard_crypto::record::{self, Body, Class, Crl, Decoded, Entry, Envelope, Header};
use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::issue::{self, Issuer, NodeDetails, Term};
use lanyard_crypto::x509::{Certificate, Revocation, SecretKey, Subject};
use lanyard_crypto::{ConversationId, Fingerprint, NetworkId, NodeId, Timestamp, TrustId, labels};
use lanyard_replica::Own;
use lanyard_replica::fixtures::{self, key};
use serde::ser::Error;
use serde::{Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};

use crate::time::DAY_SECS;

/// The longest life of an envelope that the charter allows.
pub const RETENTION_SECS: u64 = 30 * DAY_SECS;

/// A trust with all its keys, which follow from its seed. It began two days ago.
pub struct Trust {
    pub id: TrustId,
    pub root_key: SecretKey,
    pub root: Certificate,
    pub registrar_key: SecretKey,
    pub registrar: Certificate,
    pub node_key: SecretKey,
    pub node: Certificate,
    now: Timestamp,
}

impl Trust {
    pub fn new(code: &str, seed: u8) -> Self {
        let (id, now): (TrustId, _) = (code.parse().unwrap(), crate::time::now());
        let (root_key, registrar_key, node_key) = (key(seed), key(seed + 1), key(seed + 2));
        let term =
            |n, days: u64| Term::new([n; 16], now.minus_secs(2 * DAY_SECS), now.plus_secs(days * DAY_SECS));
        let root = issue::root(&subject(&id, "Root"), &root_key, &term(seed, 900)).unwrap();
        let issuer = Issuer::new(&root, &root_key).unwrap();
        let name = subject(&id, "Registrar");
        let registrar = issuer.registrar(&name, &registrar_key.public(), &term(seed + 1, 800)).unwrap();
        let details = details(&node_key, Country::GB);
        let issuer = Issuer::new(&registrar, &registrar_key).unwrap();
        let node =
            issuer.node(&subject(&id, "Node"), &node_key.public(), &details, &term(seed + 2, 700)).unwrap();
        Self { id, root_key, root, registrar_key, registrar, node_key, node, now }
    }

    pub fn own(&self) -> Own {
        Own {
            trust: self.id.clone(),
            node: NodeId::new(self.node_key.public()),
            certificate: self.node.fingerprint(),
            key: self.node_key.clone(),
            chain: vec![self.node.der().to_vec(), self.registrar.der().to_vec()],
        }
    }

    fn issuer(&self) -> Issuer<'_> {
        Issuer::new(&self.registrar, &self.registrar_key).unwrap()
    }

    /// Another node of this trust, valid between these offsets in seconds from now.
    pub fn further_node(&self, key: &SecretKey, from_secs: i64, to_secs: i64) -> Certificate {
        let at = |secs: i64| Timestamp::from_secs(crate::time::now().as_secs().saturating_add_signed(secs));
        let term = Term::new([key.public()[0]; 16], at(from_secs), at(to_secs));
        let name = subject(&self.id, "Another node");
        self.issuer().node(&name, &key.public(), &details(key, Country::GB), &term).unwrap()
    }

    /// A certificate for this key that names another node.
    pub fn misnamed_node(&self, key: &SecretKey, named: &SecretKey) -> Certificate {
        let term = Term::new([9; 16], self.now.minus_secs(60), self.now.plus_secs(DAY_SECS));
        let name = subject(&self.id, "Another node");
        self.issuer().node(&name, &key.public(), &details(named, Country::GB), &term).unwrap()
    }

    /// A clinician's device.
    pub fn device(&self, key: &SecretKey) -> Certificate {
        let term = Term::new([8; 16], self.now.minus_secs(DAY_SECS), self.now.plus_secs(DAY_SECS));
        self.issuer().device(&subject(&self.id, "Ada Ames"), &key.public(), &term).unwrap()
    }

    /// A record of this trust's node.
    pub fn sign(&self, header: Header, body: Body) -> Decoded {
        record::sign(header, body, self.node.fingerprint(), &self.node_key).unwrap()
    }

    /// A directory entry, signed by the registrar.
    pub fn entry(&self, network: NetworkId, leaf: &Certificate, addresses: Vec<String>) -> Decoded {
        let body = Body::Entry(entry_body([leaf, &self.registrar], addresses));
        let header = for_all(network, self.now);
        record::sign(header, body, self.registrar.fingerprint(), &self.registrar_key).unwrap()
    }

    /// The registrar's first revocation list.
    pub fn crl(&self, network: NetworkId, revoked: &Certificate) -> Decoded {
        crl(network, &self.registrar, &self.registrar_key, revoked)
    }

    /// The root's first revocation list.
    pub fn root_crl(&self, network: NetworkId, revoked: &Certificate) -> Decoded {
        crl(network, &self.root, &self.root_key, revoked)
    }
}

pub fn entry_body(chain: [&Certificate; 2], addresses: Vec<String>) -> Entry {
    let chain = chain.map(|c| ByteBuf::from(c.der().to_vec())).into();
    Entry { chain, key_package: None, addresses, available: None }
}

fn crl(network: NetworkId, issuer: &Certificate, key: &SecretKey, revoked: &Certificate) -> Decoded {
    record::sign(
        for_all(network, crate::time::now()),
        crl_body(issuer, key, revoked),
        issuer.fingerprint(),
        key,
    )
    .unwrap()
}

pub fn crl_body(issuer: &Certificate, key: &SecretKey, revoked: &Certificate) -> Body {
    let now = crate::time::now();
    let revocation = Revocation { serial: revoked.serial().to_vec(), at: now, reason: None };
    let by = Issuer::new(issuer, key).unwrap();
    let list = by.revocation_list(1, now, now.plus_secs(DAY_SECS), &[revocation]).unwrap();
    Body::Crl(Crl { list: list.der().to_vec(), issuer: issuer.der().to_vec() })
}

/// The certificate with the last `from` in it replaced by `to`, which is as long, and signed again.
pub fn resigned(certificate: &Certificate, from: &[u8], to: &[u8], issuer: &SecretKey) -> Certificate {
    let mut der = certificate.der().to_vec();
    let at = der.windows(from.len()).rposition(|window| window == from).unwrap();
    der[at..at + from.len()].copy_from_slice(to);
    // A header of 4 bytes, what is signed, the algorithm in 7, the signature in 3 + 64.
    let (end, signature) = (der.len() - 74, der.len() - 64);
    let signed = issuer.sign(&der[4..end]);
    der[signature..].copy_from_slice(&signed);
    Certificate::parse(&der).unwrap()
}

/// Three trusts, RXA, RXB and RXC, under one charter that permits the United Kingdom alone.
pub struct World {
    pub trusts: [Trust; 3],
    pub charter: Decoded,
    pub network: NetworkId,
    pub now: Timestamp,
}

impl World {
    pub fn new() -> Self {
        Self::until(crate::time::now().plus_secs(600 * DAY_SECS))
    }

    /// Its charter expires at this moment.
    pub fn until(expires: Timestamp) -> Self {
        let trusts = [Trust::new("RXA", 1), Trust::new("RXB", 11), Trust::new("RXC", 21)];
        let now = crate::time::now();
        let first = charter(&[&trusts[0], &trusts[1], &trusts[2]]);
        let header =
            Header { network: None, custodians: Vec::new(), issued: now.minus_secs(DAY_SECS), expires };
        let charter = record::sign_charter(
            header,
            first,
            &fixtures::authorities().iter().take(2).collect::<Vec<_>>(),
            None,
        )
        .unwrap();
        let network = NetworkId::new(*charter.statement().as_bytes());
        Self { trusts, charter, network, now }
    }

    /// The charter after `before`, of these trusts, signed by so many authorities; the name makes it another one.
    pub fn next_charter(
        &self,
        before: &Decoded,
        members: &[usize],
        name: &str,
        signatures: usize,
    ) -> Decoded {
        let Body::Charter(last) = before.body() else { panic!("no charter") };
        let members: Vec<_> = members.iter().map(|i| &self.trusts[*i]).collect();
        let next = Charter {
            name: name.into(),
            version: last.version + 1,
            previous: Some(before.statement()),
            ..charter(&members)
        };
        let keys = fixtures::authorities();
        record::sign_charter(
            for_all(self.network, self.now),
            next,
            &keys.iter().take(signatures).collect::<Vec<_>>(),
            None,
        )
        .unwrap()
    }

    /// The header of a record of now for these trusts, with a life within the charter's.
    pub fn header(&self, custodians: &[usize]) -> Header {
        let custodians = custodians.iter().map(|i| self.trusts[*i].id.clone()).collect();
        Header { custodians, ..for_all(self.network, self.now) }
    }

    /// A conversation that this trust owns.
    pub fn conversation(&self, owner: usize) -> ConversationId {
        ConversationId::new([9; 16], self.trusts[owner].id.clone())
    }
}

fn charter(trusts: &[&Trust]) -> Charter {
    let member = |t: &&Trust| Member {
        trust: t.id.clone(),
        name: format!("Trust {}", t.id),
        root: t.root.der().to_vec(),
        addresses: Vec::new(),
    };
    Charter {
        name: "Test network".into(),
        version: 1,
        previous: None,
        authorities: Authorities {
            keys: fixtures::authorities().iter().map(|k| k.public().to_vec().into()).collect(),
            threshold: 2,
        },
        trusts: trusts.iter().map(member).collect(),
        countries: vec![Country::GB],
        policy: Policy::of(RETENTION_SECS),
    }
}

/// The header of a record for all, with half the longest life of an envelope.
pub fn for_all(network: NetworkId, issued: Timestamp) -> Header {
    let expires = issued.plus_secs(RETENTION_SECS / 2);
    Header { network: Some(network), custodians: Vec::new(), issued, expires }
}

/// An application message in epoch 1 with so many bytes of ciphertext, at least 64.
pub fn padded_message(conversation: &ConversationId, n: u64, ciphertext_len: u32) -> Body {
    let content = fixtures::padded_message(conversation, 1, n, ciphertext_len);
    let conversation = conversation.clone();
    Body::Envelope(Envelope { conversation, epoch: 1, class: Class::Application, content })
}

/// What is signed, as a program without our checks writes it.
#[derive(Serialize)]
pub struct Payload {
    pub version: u8,
    pub network: Option<NetworkId>,
    pub custodians: Vec<TrustId>,
    pub issued: Timestamp,
    pub expires: Timestamp,
    #[serde(serialize_with = "in_full")]
    pub body: Body,
}

/// A body as all of it is signed: its kind, and what it says.
fn in_full<S: Serializer>(body: &Body, serializer: S) -> Result<S::Ok, S::Error> {
    match body {
        Body::Envelope(envelope) => (body.kind() as u8, envelope).serialize(serializer),
        Body::Tombstone(tombstone) => (body.kind() as u8, tombstone).serialize(serializer),
        Body::Entry(entry) => (body.kind() as u8, entry).serialize(serializer),
        other => Err(S::Error::custom(format!("no test signs a {} so", other.kind().name()))),
    }
}

impl Payload {
    pub fn new(header: Header, body: Body) -> Self {
        let Header { network, custodians, issued, expires } = header;
        Self { version: 1, network, custodians, issued, expires, body }
    }

    /// A record that this trust's node has signed without looking.
    pub fn sealed_by(&self, trust: &Trust) -> Vec<u8> {
        sealed(&cbor::to_vec(self), trust.node.fingerprint(), &trust.node_key)
    }
}

/// A COSE_Sign1 (RFC 9052, section 4.2) around these bytes, with a signature that holds.
pub fn sealed(payload: &[u8], certificate: Fingerprint, key: &SecretKey) -> Vec<u8> {
    #[derive(Serialize)]
    struct Empty {}
    // EdDSA (1: -8) and x5t (34: [-16, fingerprint]).
    let protected =
        [&[0xa2, 1, 0x27, 0x18, 0x22, 0x82, 0x2f, 0x58, 0x20], &certificate.as_bytes()[..]].concat();
    let (protected, payload) = (Bytes::new(&protected), Bytes::new(payload));
    let signed = cbor::to_vec(&("Signature1", protected, Bytes::new(labels::RECORD), payload));
    let signature = key.sign(&signed);
    cbor::to_vec_tagged(18, &(protected, Empty {}, payload, Bytes::new(&signature)))
}

fn details(key: &SecretKey, hosting_country: Country) -> NodeDetails {
    let node = NodeId::new(key.public());
    NodeDetails { node, hosting_country, dns_names: Vec::new(), ip_addresses: vec![[127, 0, 0, 1].into()] }
}

pub fn subject(trust: &TrustId, name: &str) -> Subject {
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
