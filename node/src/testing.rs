//! For tests: a trust with its files, and a network whose only member it is.

use std::path::PathBuf;

use lanyard_crypto::charter::{Authorities, Charter, Member, Policy};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{self, Decoded, Header};
use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::issue::{self, Issuer, NodeDetails, Term};
use lanyard_crypto::x509::{Certificate, SecretKey, Subject};
use lanyard_crypto::{NodeId, Timestamp, TrustId};

use crate::config::RegistrarFiles;
use crate::files;
use crate::invitations::Invitee;
use crate::registrar::Registrar;

/// A moment within the life of every test's authorities.
pub const NOW: Timestamp = Timestamp::from_secs(1_900_000_000);
const YEAR_SECS: u64 = 365 * 24 * 3600;

/// A trust.
pub struct Trust {
    pub id: TrustId,
    pub root: Certificate,
    pub registrar_key: SecretKey,
    pub registrar_certificate: Certificate,
    pub directory: tempfile::TempDir,
    charter: Decoded,
}

impl Trust {
    pub fn new(ods: &str) -> Self {
        let id: TrustId = ods.parse().unwrap();
        let subject = |name: &str| Subject {
            trust: id.clone(),
            country: Country::GB,
            organisation: "Test Trust".into(),
            common_name: name.into(),
            department: None,
            title: None,
            registration: None,
        };
        // From the year 2020 to 2040: the present lies within, and so does NOW.
        let term = |n: u8| {
            Term::new([n; 16], Timestamp::from_secs(1_577_836_800), Timestamp::from_secs(2_208_988_800))
        };
        let (root_key, registrar_key) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        let root = issue::root(&subject("Root"), &root_key, &term(1)).unwrap();
        let issuer = Issuer::new(&root, &root_key).unwrap();
        let registrar = issuer.registrar(&subject("Registrar"), &registrar_key.public(), &term(2)).unwrap();
        let charter = charter(&id, &root);
        let directory = tempfile::tempdir().unwrap();
        files::create(
            &directory.path().join("r.key"),
            registrar_key.to_pkcs8_pem().as_bytes(),
            files::SECRET,
        )
        .unwrap();
        files::create(&directory.path().join("r.pem"), registrar.to_pem().as_bytes(), files::PUBLIC).unwrap();
        Self { id, root, registrar_key, registrar_certificate: registrar, directory, charter }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn registrar(&self) -> Registrar {
        let at = |name: &str| self.directory.path().join(name);
        Registrar::open(&RegistrarFiles { key: at("r.key"), certificate: at("r.pem") }, &self.data_dir())
            .unwrap()
    }

    pub fn charter(&self) -> &Decoded {
        &self.charter
    }

    pub fn network(&self) -> Network {
        record::open_trusted(&self.charter).unwrap()
    }

    pub fn invitee(&self, name: &str) -> Invitee {
        Invitee {
            name: name.into(),
            role: Some("Consultant".into()),
            department: None,
            registration: None,
            staff_number: None,
            checked_by: "Operator".into(),
            replaces: None,
        }
    }

    /// A node's key, and its certificate for this loopback address.
    pub fn node(&self, address: std::net::IpAddr, now: Timestamp) -> (SecretKey, Certificate) {
        let key = SecretKey::generate().unwrap();
        let details = NodeDetails {
            node: NodeId::new(key.public()),
            hosting_country: Country::GB,
            dns_names: vec!["localhost".into()],
            ip_addresses: vec![address],
        };
        let subject = Subject { common_name: "Node".into(), ..self.registrar_certificate.subject().clone() };
        let issuer = Issuer::new(&self.registrar_certificate, &self.registrar_key).unwrap();
        let term = Term::starting(now, 24 * 3600).unwrap();
        let certificate = issuer.node(&subject, &key.public(), &details, &term).unwrap();
        (key, certificate)
    }

    /// A device's key and certificate, with this life.
    pub fn device(&self, name: &str, from: Timestamp, life_secs: u64) -> (SecretKey, Certificate) {
        let key = SecretKey::generate().unwrap();
        let subject = Subject { common_name: name.into(), ..self.registrar_certificate.subject().clone() };
        let issuer = Issuer::new(&self.registrar_certificate, &self.registrar_key).unwrap();
        let certificate =
            issuer.device(&subject, &key.public(), &Term::starting(from, life_secs).unwrap()).unwrap();
        (key, certificate)
    }
}

fn charter(trust: &TrustId, root: &Certificate) -> Decoded {
    let authority = SecretKey::generate().unwrap();
    let charter = Charter {
        name: "Test network".into(),
        version: 1,
        previous: None,
        authorities: Authorities { keys: vec![authority.public().to_vec().into()], threshold: 1 },
        trusts: vec![Member {
            trust: trust.clone(),
            name: "Test Trust".into(),
            root: root.der().to_vec(),
            addresses: Vec::new(),
        }],
        countries: vec![Country::GB],
        policy: Policy::of(YEAR_SECS),
    };
    let issued = Timestamp::from_secs(1_700_000_000);
    let header =
        Header { network: None, custodians: Vec::new(), issued, expires: issued.plus_secs(9 * YEAR_SECS) };
    record::sign_charter(header, charter, &[&authority], None).unwrap()
}
