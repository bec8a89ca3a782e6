//! Tests of certificates among themselves; `crypto/tests/openssl.rs` holds them against OpenSSL.

mod chain;
mod documents;
mod mutation;

use std::net::IpAddr;

use super::issue::{self, Issuer, NodeDetails, Profile, Term};
use super::{Certificate, Purpose, Revocation, RevocationList, SecretKey, Subject};
use crate::ids::{NodeId, Timestamp};
use crate::residency::Country;

/// A moment at which everything in [`Trust::new`] is valid: 2027-01-15T08:00:00Z.
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A trust with a root, a registrar, one certificate of each kind, and an empty revocation list.
struct Trust {
    code: &'static str,
    root_key: SecretKey,
    root: Certificate,
    registrar_key: SecretKey,
    registrar: Certificate,
    node: Certificate,
    device: Certificate,
    officer: Certificate,
    crl: RevocationList,
}

impl Trust {
    /// A trust whose keys follow from its code and `seed`.
    fn new(code: &'static str, seed: u8) -> Self {
        let (root_key, registrar_key) = (key(seed), key(seed + 1));
        let root_term = term(1, issue::ROOT_SECS);
        let root = issue::root(&subject(code, "Root"), &root_key, &root_term).unwrap();
        let by_root = Issuer::new(&root, &root_key).unwrap();
        let registrar_key_public = registrar_key.public();
        let registrar_term = term(2, issue::REGISTRAR_SECS);
        let registrar =
            by_root.registrar(&subject(code, "Registrar"), &registrar_key_public, &registrar_term).unwrap();
        let issuer = Issuer::new(&registrar, &registrar_key).unwrap();
        let node_key = key(seed + 2).public();
        let details = details(node_key);
        let node =
            issuer.node(&subject(code, "Node 1"), &node_key, &details, &term(3, issue::NODE_SECS)).unwrap();
        let device_key = key(seed + 3).public();
        let device = issuer.device(&person(code), &device_key, &term(4, issue::DEVICE_SECS)).unwrap();
        let officer_key = key(seed + 4).public();
        let officer_subject = subject(code, "Olu Records");
        let officer = issuer.officer(&officer_subject, &officer_key, &term(5, issue::OFFICER_SECS)).unwrap();
        let next = NOW.plus_secs(issue::REVOCATION_LIST_SECS);
        let crl = issuer.revocation_list(1, NOW, next, &[]).unwrap();
        Self { code, root_key, root, registrar_key, registrar, node, device, officer, crl }
    }

    fn issuer(&self) -> Issuer<'_> {
        Issuer::new(&self.registrar, &self.registrar_key).unwrap()
    }

    /// The registrar's list number 2, which revokes these.
    fn revoke(&self, revoked: &[&Certificate]) -> RevocationList {
        let entry = |c: &&Certificate| Revocation { serial: c.serial().to_vec(), at: NOW, reason: None };
        let entries: Vec<_> = revoked.iter().map(entry).collect();
        let next = NOW.plus_secs(issue::REVOCATION_LIST_SECS);
        self.issuer().revocation_list(2, NOW, next, &entries).unwrap()
    }

    /// The beginning of a certificate that our own issuing would not make, under the registrar.
    fn forge(&self, subject: &Subject, key: &SecretKey) -> Profile {
        let issuer_key = issue::key_identifier(&self.registrar_key.public());
        let issuer = self.registrar.subject_name().clone();
        Profile::new(issuer, subject.to_name().unwrap(), &key.public(), &issuer_key).unwrap()
    }
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn term(serial: u8, life_secs: u64) -> Term {
    Term::new([serial; 16], NOW.minus_secs(300), NOW.plus_secs(life_secs))
}

fn subject(code: &str, common_name: &str) -> Subject {
    Subject {
        trust: code.parse().unwrap(),
        country: Country::GB,
        organisation: "Riverside NHS Trust".into(),
        common_name: common_name.into(),
        department: None,
        title: None,
        registration: None,
    }
}

fn person(code: &str) -> Subject {
    Subject {
        department: Some("Cardiology".into()),
        title: Some("Consultant cardiologist".into()),
        registration: Some("GMC 1234567".into()),
        ..subject(code, "Aoife Ní Bhriain")
    }
}

fn details(node_key: [u8; 32]) -> NodeDetails {
    NodeDetails {
        node: NodeId::new(node_key),
        hosting_country: Country::GB,
        dns_names: vec!["node1.riverside.example".into()],
        ip_addresses: vec![IpAddr::from([127, 0, 0, 1]), "::1".parse().unwrap()],
    }
}
