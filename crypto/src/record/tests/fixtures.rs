//! Trusts, their network, and one record of each kind.

use crate::charter::{Authorities, Charter, Member, Policy};
use crate::network::Network;
use crate::record::{
    self, Body, Class, Crl, Decoded, Entry, Envelope, Erased, Head, Header, Reason, Receipt, ReceiptItem,
    Target, Tombstone,
};
use crate::residency::Country;
use crate::x509::issue::{self, Issuer, NodeDetails, Term};
use crate::x509::{Certificate, Revocation, RevocationList, SecretKey, Subject};
use crate::{AuditHash, ConversationId, NetworkId, NodeId, RecordId, Timestamp};

/// A moment at which everything is valid: 2027-01-15T08:00:00Z.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
pub(crate) const DAY: u64 = 24 * 3600;

/// A trust with a certificate of each purpose; the keys follow from the seed.
pub(crate) struct Trust {
    pub(crate) root_key: SecretKey,
    pub(crate) root: Certificate,
    pub(crate) registrar_key: SecretKey,
    pub(crate) registrar: Certificate,
    pub(crate) node_key: SecretKey,
    pub(crate) node: Certificate,
    pub(crate) device_key: SecretKey,
    pub(crate) device: Certificate,
    pub(crate) officer_key: SecretKey,
    pub(crate) officer: Certificate,
}

impl Trust {
    pub(crate) fn new(code: &str, seed: u8) -> Self {
        Self::hosted(code, seed, Country::GB)
    }

    /// Its node stands in this country.
    pub(crate) fn hosted(code: &str, seed: u8, hosting_country: Country) -> Self {
        let keys: Vec<_> = (0..5).map(|i| key(seed + i)).collect();
        let [root_key, registrar_key, node_key, device_key, officer_key] = keys.try_into().unwrap();
        let subject = |name: &str| Subject {
            trust: code.parse().unwrap(),
            country: Country::GB,
            organisation: "Test Trust".into(),
            common_name: name.into(),
            department: None,
            title: None,
            registration: None,
        };
        let root = issue::root(&subject("Root"), &root_key, &term(1, 3650)).unwrap();
        let by_root = Issuer::new(&root, &root_key).unwrap();
        let registrar =
            by_root.registrar(&subject("Registrar"), &registrar_key.public(), &term(2, 730)).unwrap();
        let issuer = Issuer::new(&registrar, &registrar_key).unwrap();
        let details = NodeDetails {
            node: NodeId::new(node_key.public()),
            hosting_country,
            dns_names: Vec::new(),
            ip_addresses: vec![std::net::IpAddr::from([127, 0, 0, 1])],
        };
        let node = issuer.node(&subject("Node"), &node_key.public(), &details, &term(3, 90)).unwrap();
        let device = issuer.device(&subject("Aoife"), &device_key.public(), &term(4, 90)).unwrap();
        let officer = issuer.officer(&subject("Olu"), &officer_key.public(), &term(5, 90)).unwrap();
        Self {
            root_key,
            root,
            registrar_key,
            registrar,
            node_key,
            node,
            device_key,
            device,
            officer_key,
            officer,
        }
    }

    pub(crate) fn chain(&self, leaf: &Certificate) -> Vec<Vec<u8>> {
        vec![leaf.der().to_vec(), self.registrar.der().to_vec()]
    }

    /// The registrar's list of this number, which revokes these.
    pub(crate) fn list(&self, number: u64, revoked: &[&Certificate]) -> RevocationList {
        let entry = |c: &&Certificate| Revocation { serial: c.serial().to_vec(), at: NOW, reason: None };
        let revoked: Vec<_> = revoked.iter().map(entry).collect();
        let issuer = Issuer::new(&self.registrar, &self.registrar_key).unwrap();
        issuer.revocation_list(number, NOW, NOW.plus_secs(7 * DAY), &revoked).unwrap()
    }

    pub(crate) fn member(&self) -> Member {
        let trust = self.root.subject().trust.clone();
        Member { trust, name: "Test Trust".into(), root: self.root.der().to_vec(), addresses: Vec::new() }
    }
}

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn term(serial: u8, days: u64) -> Term {
    Term::new([serial; 16], NOW.minus_secs(300), NOW.plus_secs(days * DAY))
}

/// Three authorities, sorted by key.
pub(crate) fn authorities(seed: u8) -> Vec<SecretKey> {
    let mut keys: Vec<_> = (seed..seed + 3).map(key).collect();
    keys.sort_by_key(SecretKey::public);
    keys
}

/// The first charter, of these trusts, under two of three authorities.
pub(crate) fn charter(trusts: &[&Trust], authorities: &[SecretKey]) -> Charter {
    Charter {
        name: "Test network".into(),
        version: 1,
        previous: None,
        authorities: Authorities {
            keys: authorities.iter().map(|k| k.public().to_vec().into()).collect(),
            threshold: 2,
        },
        trusts: trusts.iter().map(|t| t.member()).collect(),
        countries: vec!["DE".parse().unwrap(), Country::GB],
        policy: Policy::of(30 * DAY),
    }
}

pub(crate) fn sign_charter(charter: Charter, network: Option<NetworkId>, keys: &[&SecretKey]) -> Decoded {
    record::sign_charter(header(network, &[], 900 * DAY), charter, keys, None).unwrap()
}

/// A header of now.
pub(crate) fn header(network: Option<NetworkId>, custodians: &[&str], life_secs: u64) -> Header {
    let custodians = custodians.iter().map(|c| c.parse().unwrap()).collect();
    Header { network, custodians, issued: NOW, expires: NOW.plus_secs(life_secs) }
}

/// Two trusts in one network, whose nodes, devices and officers are known.
pub(crate) struct Scene {
    pub(crate) a: Trust,
    pub(crate) b: Trust,
    pub(crate) authorities: Vec<SecretKey>,
    pub(crate) charter: Decoded,
    pub(crate) network: Network,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let (a, b, authorities) = (Trust::new("RXA", 1), Trust::new("RXB", 11), authorities(101));
        let charter =
            sign_charter(charter(&[&a, &b], &authorities), None, &[&authorities[0], &authorities[1]]);
        let mut network = record::open_trusted(&charter).unwrap();
        for trust in [&a, &b] {
            for leaf in [&trust.node, &trust.device, &trust.officer] {
                network.learn(&trust.chain(leaf)).unwrap();
            }
        }
        Self { a, b, authorities, charter, network }
    }

    pub(crate) fn conversation(&self) -> ConversationId {
        ConversationId::new([7; 16], "RXA".parse().unwrap())
    }

    pub(crate) fn for_all(&self) -> Header {
        header(Some(self.network.id()), &[], 60 * DAY)
    }

    pub(crate) fn for_both(&self) -> Header {
        header(Some(self.network.id()), &["RXA", "RXB"], 20 * DAY)
    }

    pub(crate) fn crl(&self) -> Body {
        let list = self.a.list(1, &[&self.a.officer]).der().to_vec();
        Body::Crl(Crl { list, issuer: self.a.registrar.der().to_vec() })
    }

    pub(crate) fn entry(&self) -> Body {
        let chain = self.a.chain(&self.a.device).into_iter().map(Into::into).collect();
        let key_package = Some(vec![5; 40].into());
        Body::Entry(Entry { chain, key_package, addresses: Vec::new(), available: Some(false) })
    }

    pub(crate) fn envelope(&self) -> Body {
        let (conversation, content) = (self.conversation(), b"an MLS message".to_vec());
        Body::Envelope(Envelope { conversation, epoch: 300, class: Class::Application, content })
    }

    pub(crate) fn tombstone(&self) -> Body {
        let target = Target::Envelopes(vec![RecordId::new([1; 32]), RecordId::new([2; 32])]);
        let (conversation, reference) = (self.conversation(), b"case 7".to_vec());
        Body::Tombstone(Tombstone { conversation, target, reason: Reason::Transcribed, reference })
    }

    pub(crate) fn receipt(&self) -> Body {
        let item = |n| {
            ReceiptItem::Erased(Erased {
                tombstone: RecordId::new([n; 32]),
                erased: NOW,
                envelopes: 3,
                devices: 2,
            })
        };
        Body::Receipt(Receipt { items: vec![item(1), item(2)] })
    }

    pub(crate) fn head(&self) -> Body {
        Body::Head(Head { number: 1000, hash: AuditHash::new([6; 32]), dropped: 10 })
    }

    /// Signed by the node of RXA.
    pub(crate) fn by_node(&self, body: Body) -> Decoded {
        record::sign(self.for_both(), body, self.a.node.fingerprint(), &self.a.node_key).unwrap()
    }

    /// Signed by the registrar of RXA.
    pub(crate) fn by_registrar(&self, body: Body) -> Decoded {
        record::sign(self.for_all(), body, self.a.registrar.fingerprint(), &self.a.registrar_key).unwrap()
    }

    /// One good record of each kind, in their order.
    pub(crate) fn one_of_each(&self) -> Vec<Decoded> {
        vec![
            self.charter.clone(),
            self.by_registrar(self.crl()),
            self.by_registrar(self.entry()),
            self.by_node(self.envelope()),
            self.by_node(self.tombstone()),
            self.by_node(self.receipt()),
            record::sign(self.for_all(), self.head(), self.a.node.fingerprint(), &self.a.node_key).unwrap(),
        ]
    }
}
