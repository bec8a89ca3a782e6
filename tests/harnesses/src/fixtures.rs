//! Three trusts with certificates of each purpose, and the network that their charter makes. All keys follow from seeds, so that
//! corpus files that were made once are signed by these keys in every run.

use std::sync::OnceLock;

use lanyard_crypto::charter::{Authorities, Charter, Member, Policy};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{self, Body, Decoded, Entry, Header};
use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::issue::{self, Issuer, NodeDetails, Term};
use lanyard_crypto::x509::{Certificate, Revocation, RevocationList, SecretKey, Subject};
use lanyard_crypto::{NetworkId, NodeId, Timestamp, TrustId};
use lanyard_replica::Own;

/// The moment of every harness: 2027-01-15T08:00:00Z.
pub const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
/// Seconds of a day.
pub const DAY: u64 = 24 * 3600;
/// The longest life of an envelope that the charter allows, in seconds.
pub const RETENTION: u64 = 30 * DAY;
/// What every device's holder is called: no log and no refusal may repeat it.
pub const PERSON: &str = "Dr Amara Holt";

/// A trust with its keys.
#[allow(missing_docs, reason = "the names say it")]
pub struct Trust {
    pub id: TrustId,
    pub root: Certificate,
    pub registrar_key: SecretKey,
    pub registrar: Certificate,
    pub node_key: SecretKey,
    pub node: Certificate,
    pub device_key: SecretKey,
    pub device: Certificate,
}

impl Trust {
    fn new(code: &str, seed: u8) -> Self {
        let id: TrustId = code.parse().unwrap();
        let subject = |name: &str| Subject {
            trust: id.clone(),
            country: Country::GB,
            organisation: "Test Trust".into(),
            common_name: name.into(),
            department: None,
            title: None,
            registration: None,
        };
        let [root_key, registrar_key, node_key, device_key] = [0, 1, 2, 3].map(|n| key(seed + n));
        let root = issue::root(&subject("Root"), &root_key, &term(1, 3650)).unwrap();
        let by_root = Issuer::new(&root, &root_key).unwrap();
        let registrar = by_root.registrar(&subject("Registrar"), &registrar_key.public(), &term(2, 730));
        let registrar = registrar.unwrap();
        let issuer = Issuer::new(&registrar, &registrar_key).unwrap();
        let details = NodeDetails {
            node: NodeId::new(node_key.public()),
            hosting_country: Country::GB,
            dns_names: vec!["node.example.org".into()],
            ip_addresses: vec![std::net::IpAddr::from([127, 0, 0, 1])],
        };
        let node = issuer.node(&subject("Node"), &node_key.public(), &details, &term(3, 700)).unwrap();
        let device = issuer.device(&subject(PERSON), &device_key.public(), &term(4, 90)).unwrap();
        Self { id, root, registrar_key, registrar, node_key, node, device_key, device }
    }

    /// A leaf and its registrar, DER.
    pub fn chain(&self, leaf: &Certificate) -> Vec<Vec<u8>> {
        vec![leaf.der().to_vec(), self.registrar.der().to_vec()]
    }

    /// The key of its node.
    pub fn node_id(&self) -> NodeId {
        NodeId::new(self.node_key.public())
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

    /// A record of its node.
    pub fn sign(&self, header: Header, body: Body) -> Decoded {
        record::sign(header, body, self.node.fingerprint(), &self.node_key).unwrap()
    }

    /// A record of its registrar, for all.
    pub fn certify(&self, network: NetworkId, body: Body, issued: Timestamp, life_secs: u64) -> Decoded {
        let expires = issued.plus_secs(life_secs);
        let header = Header { network: Some(network), custodians: Vec::new(), issued, expires };
        record::sign(header, body, self.registrar.fingerprint(), &self.registrar_key).unwrap()
    }

    /// A directory entry of the node, or of the device with this key package.
    pub fn entry(&self, network: NetworkId, key_package: Option<Vec<u8>>, issued: Timestamp) -> Decoded {
        let (leaf, addresses) = match key_package {
            Some(_) => (&self.device, Vec::new()),
            None => (&self.node, vec!["/ip4/127.0.0.1/udp/4001/quic-v1".to_owned()]),
        };
        let chain = self.chain(leaf).into_iter().map(Into::into).collect();
        let key_package = key_package.map(Into::into);
        let entry = Entry { chain, key_package, addresses, available: Some(true) };
        self.certify(network, Body::Entry(entry), issued, 80 * DAY)
    }

    /// Its registrar's revocation list of this number, on which these certificates stand.
    pub fn revocations(&self, number: u64, revoked: &[&Certificate]) -> RevocationList {
        let entry = |c: &&Certificate| Revocation { serial: c.serial().to_vec(), at: NOW, reason: None };
        let revoked: Vec<_> = revoked.iter().map(entry).collect();
        let issuer = Issuer::new(&self.registrar, &self.registrar_key).unwrap();
        issuer.revocation_list(number, NOW, NOW.plus_secs(7 * DAY), &revoked).unwrap()
    }

    fn member(&self) -> Member {
        let (trust, root) = (self.id.clone(), self.root.der().to_vec());
        Member { trust, name: format!("Trust {}", self.id), root, addresses: Vec::new() }
    }
}

/// The trusts RXA, RXB and RXC.
pub fn trusts() -> &'static [Trust] {
    static TRUSTS: OnceLock<Vec<Trust>> = OnceLock::new();
    TRUSTS.get_or_init(|| vec![Trust::new("RXA", 10), Trust::new("RXB", 20), Trust::new("RXC", 30)])
}

/// A key that follows from a seed.
pub fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// The keys of the network's authorities, sorted; two of the three sign a charter.
pub fn authorities() -> Vec<SecretKey> {
    let mut keys: Vec<_> = (201..204).map(key).collect();
    keys.sort_by_key(SecretKey::public);
    keys
}

/// The charter of this version whose members are these trusts, after the one of this statement.
pub fn charter_of(members: &[&Trust], before: Option<&Decoded>) -> Decoded {
    let version = match before.map(Decoded::body) {
        Some(Body::Charter(before)) => before.version + 1,
        _ => 1,
    };
    let keys = authorities();
    let mut trusts: Vec<_> = members.iter().map(|t| t.member()).collect();
    trusts.sort_by(|a, b| a.trust.cmp(&b.trust));
    let charter = Charter {
        name: "Test network".into(),
        version,
        previous: before.map(Decoded::statement),
        authorities: Authorities {
            keys: keys.iter().map(|k| k.public().to_vec().into()).collect(),
            threshold: 2,
        },
        trusts,
        countries: vec![Country::GB],
        policy: Policy::of(RETENTION),
    };
    let first = |before: &Decoded| NetworkId::new(*before.statement().as_bytes());
    let network = before.map(|before| before.header().network.unwrap_or_else(|| first(before)));
    let (issued, expires) = (NOW.plus_secs(version), NOW.plus_secs(1_000 * DAY));
    let header = Header { network, custodians: Vec::new(), issued, expires };
    record::sign_charter(header, charter, &[&keys[0], &keys[1]], None).unwrap()
}

/// The first charter, of all three.
pub fn charter() -> &'static Decoded {
    static CHARTER: OnceLock<Decoded> = OnceLock::new();
    CHARTER.get_or_init(|| charter_of(&trusts().iter().collect::<Vec<_>>(), None))
}

/// The network under the first charter, which knows every node and device.
pub fn network() -> Network {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    let network = NETWORK.get_or_init(|| {
        let mut network = record::open_trusted(charter()).unwrap();
        for trust in trusts() {
            for leaf in [&trust.node, &trust.device] {
                network.learn(&trust.chain(leaf)).unwrap();
            }
        }
        network
    });
    network.clone()
}

fn term(serial: u8, days: u64) -> Term {
    Term::new([serial; 16], NOW.minus_secs(DAY), NOW.plus_secs(days * DAY))
}
