//! Trusts with their keys, and records as they would sign them, for the tests of this crate and of others.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lanyard_crypto::charter::{Authorities, Charter, Member, Policy};
use lanyard_crypto::record::{
    self, Body, Class, Crl, Decoded, Entry, Envelope, Header, Reason, Target, Tombstone,
};
use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::issue::{self, Issuer, NodeDetails, Term};
use lanyard_crypto::x509::{Certificate, Revocation, SecretKey, Subject};
use lanyard_crypto::{ConversationId, NetworkId, NodeId, RecordId, Timestamp, TrustId};

use crate::Own;
use crate::sync::coded::{self, Keyed, Sketch};

/// When every test begins: 2027-01-15T08:00:00Z.
pub const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
/// Seconds of a day.
pub const DAY: u64 = 24 * 3600;
/// The longest life of an envelope that the charter allows, in seconds.
pub const RETENTION: u64 = 30 * DAY;

/// A trust with all its keys, which follow from its seed.
#[derive(Debug)]
pub struct Trust {
    /// Its code.
    pub id: TrustId,
    root: Certificate,
    registrar_key: SecretKey,
    registrar: Certificate,
    /// Its node's key.
    pub node_key: SecretKey,
    /// Its node's certificate.
    pub node: Certificate,
}

impl Trust {
    /// The trust of this code; `seed` and the two numbers after it make its keys.
    pub fn new(code: &str, seed: u8) -> Self {
        let id: TrustId = code.parse().unwrap();
        let (root_key, registrar_key, node_key) = (key(seed), key(seed + 1), key(seed + 2));
        let root = issue::root(&subject(&id, "Root"), &root_key, &term(seed, 3650)).unwrap();
        let registrar = Issuer::new(&root, &root_key)
            .unwrap()
            .registrar(&subject(&id, "Registrar"), &registrar_key.public(), &term(seed + 1, 730))
            .unwrap();
        let details = NodeDetails {
            node: NodeId::new(node_key.public()),
            hosting_country: Country::GB,
            dns_names: Vec::new(),
            ip_addresses: vec![std::net::IpAddr::from([127, 0, 0, 1])],
        };
        let node = Issuer::new(&registrar, &registrar_key)
            .unwrap()
            .node(&subject(&id, "Node"), &node_key.public(), &details, &term(seed + 2, 700))
            .unwrap();
        Self { id, root, registrar_key, registrar, node_key, node }
    }

    /// Its node, as an engine knows itself.
    pub fn own(&self) -> Own {
        Own {
            trust: self.id.clone(),
            node: self.node_id(),
            certificate: self.node.fingerprint(),
            key: self.node_key.clone(),
            chain: self.chain(&self.node),
        }
    }

    /// Its node's public key.
    pub fn node_id(&self) -> NodeId {
        NodeId::new(self.node_key.public())
    }

    /// A certificate and the registrar's, DER.
    pub fn chain(&self, leaf: &Certificate) -> Vec<Vec<u8>> {
        vec![leaf.der().to_vec(), self.registrar.der().to_vec()]
    }

    fn issuer(&self) -> Issuer<'_> {
        Issuer::new(&self.registrar, &self.registrar_key).unwrap()
    }

    /// A certificate for another node of this trust.
    pub fn second_node(&self, key: &SecretKey) -> Certificate {
        let details = NodeDetails {
            node: NodeId::new(key.public()),
            hosting_country: Country::GB,
            dns_names: Vec::new(),
            ip_addresses: vec![std::net::IpAddr::from([127, 0, 0, 1])],
        };
        let subject = subject(&self.id, "Second node");
        self.issuer().node(&subject, &key.public(), &details, &term(250, 700)).unwrap()
    }

    /// A clinician's device.
    pub fn device(&self, seed: u8) -> (SecretKey, Certificate) {
        self.device_for(seed, 90)
    }

    /// The same, with a certificate that ends so many days after [`NOW`].
    pub fn device_for(&self, seed: u8, days: u64) -> (SecretKey, Certificate) {
        let key = key(seed);
        let subject = subject(&self.id, &format!("Clinician {seed}"));
        let certificate = self.issuer().device(&subject, &key.public(), &term(seed, days)).unwrap();
        (key, certificate)
    }

    /// A record of this trust's node.
    pub fn sign(&self, header: Header, body: Body) -> Decoded {
        record::sign(header, body, self.node.fingerprint(), &self.node_key).unwrap()
    }

    /// A directory entry, signed by the registrar.
    pub fn entry(&self, network: NetworkId, leaf: &Certificate, issued: Timestamp) -> Decoded {
        self.entry_with(network, leaf, None, issued)
    }

    /// The same with a key package.
    pub fn entry_with(
        &self,
        network: NetworkId,
        leaf: &Certificate,
        key_package: Option<Vec<u8>>,
        issued: Timestamp,
    ) -> Decoded {
        let chain = self.chain(leaf).into_iter().map(Into::into).collect();
        let key_package = key_package.map(Into::into);
        let body = Entry { chain, key_package, addresses: Vec::new(), available: Some(true) };
        let header = for_all(network, issued, 80 * DAY);
        record::sign(header, Body::Entry(body), self.registrar.fingerprint(), &self.registrar_key).unwrap()
    }

    /// The registrar's revocation list of this number, as a record that lives for a year.
    pub fn crl(
        &self,
        network: NetworkId,
        number: u64,
        revoked: &[&Certificate],
        issued: Timestamp,
    ) -> Decoded {
        self.crl_as_of(network, (number, NOW), revoked, issued)
    }

    /// The same, which gives the revocations another date.
    pub fn crl_as_of(
        &self,
        network: NetworkId,
        (number, at): (u64, Timestamp),
        revoked: &[&Certificate],
        issued: Timestamp,
    ) -> Decoded {
        let entry = |c: &&Certificate| Revocation { serial: c.serial().to_vec(), at, reason: None };
        let revoked: Vec<_> = revoked.iter().map(entry).collect();
        let list = self.issuer().revocation_list(number, NOW, NOW.plus_secs(7 * DAY), &revoked).unwrap();
        let body = Crl { list: list.der().to_vec(), issuer: self.registrar.der().to_vec() };
        let header = for_all(network, issued, 365 * DAY);
        record::sign(header, Body::Crl(body), self.registrar.fingerprint(), &self.registrar_key).unwrap()
    }

    fn member(&self) -> Member {
        let (trust, root) = (self.id.clone(), self.root.der().to_vec());
        Member { trust, name: format!("Trust {}", self.id), root, addresses: Vec::new() }
    }
}

/// The keys of the network's authorities; two of them sign.
pub fn authorities() -> Vec<SecretKey> {
    let mut keys: Vec<_> = (201..204).map(key).collect();
    keys.sort_by_key(SecretKey::public);
    keys
}

/// The first charter, of these trusts.
pub fn charter(trusts: &[&Trust]) -> Charter {
    let mut trusts: Vec<_> = trusts.iter().map(|t| t.member()).collect();
    trusts.sort_by(|a, b| a.trust.cmp(&b.trust));
    Charter {
        name: "Test network".into(),
        version: 1,
        previous: None,
        authorities: Authorities {
            keys: authorities().iter().map(|k| k.public().to_vec().into()).collect(),
            threshold: 2,
        },
        trusts,
        countries: vec![Country::GB],
        policy: Policy::of(RETENTION),
    }
}

/// A charter record with the signatures of the first two authorities. `network` is absent for the first.
pub fn sign_charter(charter: Charter, network: Option<NetworkId>) -> Decoded {
    let keys = authorities();
    let issued = NOW.plus_secs(charter.version);
    let header = Header { network, custodians: Vec::new(), issued, expires: NOW.plus_secs(1000 * DAY) };
    record::sign_charter(header, charter, &[&keys[0], &keys[1]], None).unwrap()
}

/// The charter after `before`, which holds these trusts.
pub fn next_charter(before: &Decoded, trusts: &[&Trust]) -> Decoded {
    let Body::Charter(last) = before.body() else { panic!("no charter") };
    let mut next =
        Charter { version: last.version + 1, previous: Some(before.statement()), ..charter(trusts) };
    next.name = last.name.clone();
    let network = before.header().network.unwrap_or(NetworkId::new(*before.statement().as_bytes()));
    sign_charter(next, Some(network))
}

/// A conversation of this trust.
pub fn conversation(owner: &Trust) -> ConversationId {
    ConversationId::new([9; 16], owner.id.clone())
}

/// The header of a record for all.
pub fn for_all(network: NetworkId, issued: Timestamp, life_secs: u64) -> Header {
    Header { network: Some(network), custodians: Vec::new(), issued, expires: issued.plus_secs(life_secs) }
}

/// The header of a record for these trusts.
pub fn header(network: NetworkId, trusts: &[&Trust], issued: Timestamp, life_secs: u64) -> Header {
    let mut custodians: Vec<_> = trusts.iter().map(|t| t.id.clone()).collect();
    custodians.sort();
    Header { custodians, ..for_all(network, issued, life_secs) }
}

/// An application message in epoch 1; `n` makes it another one.
pub fn application(conversation: &ConversationId, n: u64) -> Body {
    let content = private_message(conversation, 1, n);
    Body::Envelope(Envelope {
        conversation: conversation.clone(),
        epoch: 1,
        class: Class::Application,
        content,
    })
}

/// A commit as the owner publishes it; `n` makes it another one.
pub fn commit(conversation: &ConversationId, epoch: u64, n: u64) -> Body {
    let content = public_commit(conversation, epoch, n);
    Body::Envelope(Envelope { conversation: conversation.clone(), epoch, class: Class::Commit, content })
}

/// A welcome into this epoch for the holder of the key package with this reference.
pub fn welcome(conversation: &ConversationId, epoch: u64, reference: &[u8]) -> Body {
    let content = welcome_message(reference);
    Body::Envelope(Envelope { conversation: conversation.clone(), epoch, class: Class::Welcome, content })
}

/// A tombstone with this target.
pub fn tombstone(conversation: &ConversationId, target: Target) -> Body {
    Body::Tombstone(Tombstone {
        conversation: conversation.clone(),
        target,
        reason: Reason::SentInError,
        reference: b"case 7".to_vec(),
    })
}

/// Envelopes as the target of a tombstone.
pub fn named(ids: &[RecordId]) -> Target {
    let mut ids = ids.to_vec();
    ids.sort();
    Target::Envelopes(ids)
}

/// A PrivateMessage with application data, by hand, after the grammar of RFC 9420, section 6.3.
pub fn private_message(conversation: &ConversationId, epoch: u64, n: u64) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 2];
    framed(&mut bytes, conversation, epoch);
    // application; no authenticated data; sender data; ciphertext
    bytes.extend([1, 0, 2, 9, 9, 8]);
    bytes.extend(n.to_be_bytes());
    bytes
}

/// The same with so many bytes of ciphertext, at least 64.
pub fn padded_message(conversation: &ConversationId, epoch: u64, n: u64, ciphertext_len: u32) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 2];
    framed(&mut bytes, conversation, epoch);
    bytes.extend([1, 0, 8]);
    bytes.extend(n.to_be_bytes());
    // A length takes as few bytes as it can (RFC 9420, section 2.1.2).
    match u16::try_from(ciphertext_len) {
        Ok(len) if len < 1 << 14 => bytes.extend((0x4000 | len).to_be_bytes()),
        _ => bytes.extend((0x8000_0000 | ciphertext_len).to_be_bytes()),
    }
    bytes.resize(bytes.len() + ciphertext_len as usize, 7);
    bytes
}

/// A PublicMessage with an empty commit of the first member, by hand, after section 6.2.
fn public_commit(conversation: &ConversationId, epoch: u64, n: u64) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 1];
    framed(&mut bytes, conversation, epoch);
    // member 0; no authenticated data; a commit without proposals and path; signature and two tags
    bytes.extend([1, 0, 0, 0, 0, 0, 3, 0, 0, 8]);
    bytes.extend(n.to_be_bytes());
    bytes.extend([1, 7, 1, 7]);
    bytes
}

/// A Welcome for one new member, by hand, after section 12.4.3.1.
fn welcome_message(reference: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 3, 0xf0, 0x4e];
    bytes.extend([1 + reference.len() as u8 + 4, reference.len() as u8]);
    bytes.extend(reference);
    // kem output, ciphertext; encrypted group info
    bytes.extend([1, 5, 1, 6, 1, 7]);
    bytes
}

fn framed(bytes: &mut Vec<u8>, conversation: &ConversationId, epoch: u64) {
    let group = conversation.to_bytes();
    bytes.push(group.len() as u8);
    bytes.extend(group);
    bytes.extend(epoch.to_be_bytes());
}

/// A key that follows from a seed.
pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn term(serial: u8, days: u64) -> Term {
    Term::new([serial; 16], NOW.minus_secs(400 * DAY), NOW.plus_secs(days * DAY))
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

/// What two replicas do to find out how their sets differ: a sketch of each, coded symbols of one, and the difference that the other reads.
/// How many ids one side lacks and the other; none if the symbols were too few.
pub fn compare(ours: &[[u8; 16]], theirs: &[[u8; 16]]) -> Option<[usize; 2]> {
    let salt = [7; 16];
    let [ours, theirs] =
        [ours, theirs].map(|ids| ids.iter().map(|id| Keyed::new(&salt, id)).collect::<Vec<_>>());
    let apart = Sketch::of(&ours).difference(&Sketch::of(&theirs));
    let symbols = coded::encode(&theirs, coded::symbols_for(apart));
    let difference = coded::decode(&salt, symbols, &ours)?;
    Some([difference.theirs.len(), difference.ours.len()])
}
