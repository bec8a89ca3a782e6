//! Who takes part: trusts with all their keys and certificates. Everything follows from names, so that each process has the
//! same.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use lanyard_crypto::charter::{Authorities, Charter, Member, Policy};
use lanyard_crypto::record::{self, Body, Crl, Decoded, Entry, Header};
use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::issue::{self, Issuer, NodeDetails, Term};
use lanyard_crypto::x509::{Certificate, Revocation, SecretKey, Subject};
use lanyard_crypto::{Fingerprint, NetworkId, NodeId, RecordId, Timestamp, TrustId};
use lanyard_replica::Own;
use sha2::{Digest, Sha256};

/// The true time at which every run begins: 2027-01-15T08:00:00Z.
pub const START: Timestamp = Timestamp::from_secs(1_800_000_000);
/// The longest life of an envelope that the charter allows, in seconds: short, so that whole lives fit into a run.
pub const RETENTION_SECS: u64 = 1200;
const DAY_SECS: u64 = 24 * 3600;

/// The trusts that may be in a charter, in the order of their codes. The last one lies.
pub const CODES: [&str; 6] = ["RXA", "RXB", "RXC", "RXD", "RXE", "RXZ"];
/// The place of the trust that lies.
pub const LIAR: usize = 5;
/// A trust that no charter names.
const STRANGER: &str = "RXO";

/// A key with its certificate.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The key.
    pub key: SecretKey,
    /// The certificate.
    pub certificate: Certificate,
}

/// A trust with its keys.
#[derive(Debug)]
pub struct Trust {
    /// Its code.
    pub id: TrustId,
    root: Certificate,
    registrar: Identity,
    /// Its nodes: the first, and one that it may add.
    pub nodes: [Identity; 2],
    /// A node that stands in a country which no charter permits.
    pub abroad: Identity,
    /// A node whose certificate was over before the run begins.
    pub lapsed: Identity,
    /// Its clinicians' devices.
    pub devices: [Identity; 2],
}

/// What a certificate is to the checkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A trust's node that may sign.
    Node,
    /// A registrar.
    Registrar,
    /// A device, which may sign no record.
    Device,
    /// A certificate with which nothing acceptable can be signed: abroad, lapsed, or a stranger's.
    Never,
}

/// Everybody.
#[derive(Debug)]
pub struct Cast {
    /// The trusts, in the order of [`CODES`].
    pub trusts: Vec<Trust>,
    /// A trust outside of every charter.
    pub stranger: Trust,
    authorities: Vec<SecretKey>,
    roles: BTreeMap<Fingerprint, (usize, Role)>,
    serials: BTreeMap<Fingerprint, Vec<u8>>,
}

/// The cast, made once in each process.
pub fn cast() -> &'static Cast {
    static CAST: OnceLock<Cast> = OnceLock::new();
    CAST.get_or_init(Cast::new)
}

impl Cast {
    fn new() -> Self {
        let trusts: Vec<_> = CODES.iter().map(|code| Trust::new(code)).collect();
        let stranger = Trust::new(STRANGER);
        let mut authorities: Vec<_> = (1..=3).map(|i| key(&format!("authority {i}"))).collect();
        authorities.sort_by_key(SecretKey::public);
        let (mut roles, mut serials) = (BTreeMap::new(), BTreeMap::new());
        for (place, trust) in trusts.iter().chain([&stranger]).enumerate() {
            let outside = place == CODES.len();
            let mut add = |identity: &Identity, role| {
                let role = if outside { Role::Never } else { role };
                let certificate = &identity.certificate;
                roles.insert(certificate.fingerprint(), (place, role));
                serials.insert(certificate.fingerprint(), certificate.serial().to_vec());
            };
            add(&trust.registrar, Role::Registrar);
            trust.nodes.iter().for_each(|n| add(n, Role::Node));
            trust.devices.iter().for_each(|d| add(d, Role::Device));
            [&trust.abroad, &trust.lapsed].into_iter().for_each(|n| add(n, Role::Never));
        }
        Self { trusts, stranger, authorities, roles, serials }
    }

    /// Whose certificate this is, by place, and what it is; none if nobody's.
    pub fn role(&self, certificate: &Fingerprint) -> Option<(usize, Role)> {
        self.roles.get(certificate).copied()
    }

    /// The serial number of a certificate of the cast.
    pub fn serial(&self, certificate: &Fingerprint) -> Option<&[u8]> {
        self.serials.get(certificate).map(Vec::as_slice)
    }

    /// The place of a trust in [`CODES`].
    pub fn place(&self, trust: &TrustId) -> Option<usize> {
        self.trusts.iter().position(|t| t.id == *trust)
    }

    /// A charter of these trusts that follows another, or the first. Signed by two of the three authorities.
    pub fn charter(&self, trusts: &[usize], before: Option<&Decoded>) -> Decoded {
        let last = before.map(|record| match record.body() {
            Body::Charter(charter) => (charter.version, record),
            _ => unreachable!("called with charters"),
        });
        let version = last.map_or(1, |(version, _)| version + 1);
        let mut trusts: Vec<_> = trusts.iter().map(|place| self.trusts[*place].member()).collect();
        trusts.sort_by(|a, b| a.trust.cmp(&b.trust));
        let charter = Charter {
            name: "Simulated network".into(),
            version,
            previous: last.map(|(_, record)| record.statement()),
            authorities: Authorities {
                keys: self.authorities.iter().map(|k| k.public().to_vec().into()).collect(),
                threshold: 2,
            },
            trusts,
            countries: vec![Country::GB],
            policy: Policy::of(RETENTION_SECS),
        };
        let network = last.map(|(_, record)| network_of(record));
        let issued = START.plus_secs(version);
        let expires = START.plus_secs(1000 * DAY_SECS);
        let header = Header { network, custodians: Vec::new(), issued, expires };
        let signers = [&self.authorities[0], &self.authorities[1]];
        record::sign_charter(header, charter, &signers, None).expect("a charter of the profile")
    }
}

/// The network that a charter belongs to.
pub fn network_of(charter: &Decoded) -> NetworkId {
    charter.header().network.unwrap_or(NetworkId::new(*charter.statement().as_bytes()))
}

impl Trust {
    fn new(code: &str) -> Self {
        let id: TrustId = code.parse().expect("codes are ODS codes");
        let named = |what: &str| key(&format!("{code} {what}"));
        let (root_key, registrar_key) = (named("root"), named("registrar"));
        let root = issue::root(&subject(&id, "Root"), &root_key, &term(code, "root", 3650))
            .expect("a root of the profile");
        let registrar = Issuer::new(&root, &root_key)
            .and_then(|i| {
                i.registrar(
                    &subject(&id, "Registrar"),
                    &registrar_key.public(),
                    &term(code, "registrar", 730),
                )
            })
            .expect("a registrar of the profile");
        let issuer = Issuer::new(&registrar, &registrar_key).expect("its own key");
        let node = |what: &str, country: Country, term: &Term| {
            let key = named(what);
            let details = NodeDetails {
                node: NodeId::new(key.public()),
                hosting_country: country,
                dns_names: Vec::new(),
                ip_addresses: vec![std::net::IpAddr::from([127, 0, 0, 1])],
            };
            let certificate = issuer.node(&subject(&id, what), &key.public(), &details, term);
            Identity { key, certificate: certificate.expect("a node of the profile") }
        };
        let device = |what: &str| {
            let key = named(what);
            let certificate = issuer.device(&subject(&id, what), &key.public(), &term(code, what, 90));
            Identity { key, certificate: certificate.expect("a device of the profile") }
        };
        let france: Country = "FR".parse().expect("a country");
        let over =
            Term::new(serial(code, "lapsed"), START.minus_secs(10 * DAY_SECS), START.minus_secs(DAY_SECS));
        Self {
            nodes: [
                node("node 1", Country::GB, &term(code, "node 1", 700)),
                node("node 2", Country::GB, &term(code, "node 2", 700)),
            ],
            abroad: node("abroad", france, &term(code, "abroad", 700)),
            lapsed: node("lapsed", Country::GB, &over),
            devices: [device("clinician 1"), device("clinician 2")],
            registrar: Identity { key: registrar_key.clone(), certificate: registrar.clone() },
            id,
            root,
        }
    }

    /// Who one of its nodes is.
    pub fn own(&self, node: usize) -> Own {
        let Identity { key, certificate } = &self.nodes[node];
        Own {
            trust: self.id.clone(),
            node: NodeId::new(key.public()),
            certificate: certificate.fingerprint(),
            key: key.clone(),
            chain: self.chain(certificate),
        }
    }

    /// The chain of a certificate of this trust.
    pub fn chain(&self, leaf: &Certificate) -> Vec<Vec<u8>> {
        vec![leaf.der().to_vec(), self.registrar.certificate.der().to_vec()]
    }

    /// The fingerprint of its registrar's certificate.
    pub fn registrar(&self) -> Fingerprint {
        self.registrar.certificate.fingerprint()
    }

    /// A directory entry, signed by the registrar.
    pub fn entry(
        &self,
        network: NetworkId,
        leaf: &Certificate,
        key_package: Option<Vec<u8>>,
        issued: Timestamp,
    ) -> Decoded {
        let chain = self.chain(leaf).into_iter().map(Into::into).collect();
        let key_package = key_package.map(Into::into);
        let body = Entry { chain, key_package, addresses: Vec::new(), available: None };
        let header = for_all(network, issued, 80 * DAY_SECS);
        let Identity { key, certificate } = &self.registrar;
        record::sign(header, Body::Entry(body), certificate.fingerprint(), key)
            .expect("an entry of the profile")
    }

    /// The registrar's revocation list of this number, as a record.
    pub fn crl(
        &self,
        network: NetworkId,
        number: u64,
        revoked: &[&Certificate],
        issued: Timestamp,
    ) -> Decoded {
        let Identity { key, certificate } = &self.registrar;
        let entry = |c: &&Certificate| Revocation { serial: c.serial().to_vec(), at: START, reason: None };
        let revoked: Vec<_> = revoked.iter().map(entry).collect();
        let list = Issuer::new(certificate, key)
            .and_then(|i| i.revocation_list(number, START, START.plus_secs(7 * DAY_SECS), &revoked))
            .expect("a list of the profile");
        let body = Crl { list: list.der().to_vec(), issuer: certificate.der().to_vec() };
        let header = for_all(network, issued, 365 * DAY_SECS);
        record::sign(header, Body::Crl(body), certificate.fingerprint(), key)
            .expect("a record of the profile")
    }

    fn member(&self) -> Member {
        let (trust, root) = (self.id.clone(), self.root.der().to_vec());
        Member { trust, name: format!("Trust {}", self.id), root, addresses: Vec::new() }
    }
}

/// The header of a record for all.
pub fn for_all(network: NetworkId, issued: Timestamp, life_secs: u64) -> Header {
    Header { network: Some(network), custodians: Vec::new(), issued, expires: issued.plus_secs(life_secs) }
}

fn key(name: &str) -> SecretKey {
    SecretKey::from_seed(&Sha256::digest(name.as_bytes()).into())
}

fn serial(code: &str, what: &str) -> [u8; 16] {
    let hash = RecordId::of(format!("serial {code} {what}").as_bytes());
    *hash.as_bytes().first_chunk().expect("16 of 32 bytes")
}

fn term(code: &str, what: &str, days: u64) -> Term {
    Term::new(serial(code, what), START.minus_secs(DAY_SECS), START.plus_secs(days * DAY_SECS))
}

fn subject(trust: &TrustId, name: &str) -> Subject {
    Subject {
        trust: trust.clone(),
        country: Country::GB,
        organisation: "Simulated Trust".into(),
        common_name: name.into(),
        department: None,
        title: None,
        registration: None,
    }
}
