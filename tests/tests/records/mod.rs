//! Records of every kind and form, with real signatures, for tests against other implementations.
#![allow(dead_code, reason = "each test uses a part of it")]

use lanyard_crypto::charter::{Authorities, ByClass, Charter, Member, Policy};
use lanyard_crypto::record::{
    self, Body, Class, Crl, Decoded, DeviceErased, DeviceLine, Entry, Envelope, Erased, Expired, Head,
    Header, Held, Kind, Reason, Receipt, ReceiptItem, Target, Tombstone, Waiting, WaitingDevice,
};
use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::issue::{self, Issuer, Term};
use lanyard_crypto::x509::{Certificate, SecretKey, Subject};
use lanyard_crypto::{AuditHash, ConversationId, Fingerprint, NetworkId, RecordId, Timestamp};
use lanyard_replica::fixtures::{DAY, NOW, authorities, key};

/// Who signs, and what.
pub struct Scene {
    signer_key: SecretKey,
    signer: Certificate,
    authorities: Vec<SecretKey>,
    root: Certificate,
    network: NetworkId,
}

impl Scene {
    pub fn new() -> Self {
        let (root_key, signer_key) = (key(1), key(2));
        let term = |n| Term::new([n; 16], NOW.minus_secs(DAY), NOW.plus_secs(365 * DAY));
        let root = issue::root(&subject("Root"), &root_key, &term(1)).unwrap();
        let issuer = Issuer::new(&root, &root_key).unwrap();
        let signer = issuer.registrar(&subject("Registrar"), &signer_key.public(), &term(2)).unwrap();
        let mut scene =
            Self { signer_key, signer, authorities: authorities(), root, network: NetworkId::new([0; 32]) };
        scene.network = NetworkId::new(*scene.charter().statement().as_bytes());
        scene
    }

    pub fn signer_key(&self) -> [u8; 32] {
        self.signer_key.public()
    }

    pub fn authority_keys(&self) -> Vec<[u8; 32]> {
        self.authorities.iter().take(2).map(SecretKey::public).collect()
    }

    /// The first charter, signed by two of three authorities.
    pub fn charter(&self) -> Decoded {
        self.sign_charter(None, 1, None)
    }

    fn sign_charter(&self, network: Option<NetworkId>, version: u64, previous: Option<RecordId>) -> Decoded {
        let root = self.root.der().to_vec();
        let addresses = vec!["/ip4/127.0.0.1/udp/4001/quic-v1".into()];
        let by_class = match version {
            1 => ByClass::default(),
            _ => ByClass { operational: Some(7 * DAY), ..ByClass::default() },
        };
        let charter = Charter {
            name: "Test network".into(),
            version,
            previous,
            authorities: Authorities {
                keys: self.authorities.iter().map(|k| k.public().to_vec().into()).collect(),
                threshold: 2,
            },
            trusts: vec![Member {
                trust: "RXA".parse().unwrap(),
                name: "Test Trust".into(),
                root,
                addresses,
            }],
            countries: vec!["DE".parse().unwrap(), Country::GB],
            policy: Policy {
                retention_by_class: by_class,
                confirm_secs: (version > 1).then_some(6 * 3600),
                ..Policy::of(30 * DAY)
            },
        };
        let header =
            Header { network, custodians: Vec::new(), issued: NOW, expires: NOW.plus_secs(90 * DAY) };
        let keys: Vec<_> = self.authorities.iter().take(2).collect();
        record::sign_charter(header, charter, &keys, None).unwrap()
    }

    /// Records of all kinds and forms; every kind at least once.
    pub fn all(&self) -> Vec<Decoded> {
        let first = self.charter();
        let second = self.sign_charter(Some(self.network), 2, Some(first.statement()));
        let signed = self.bodies().into_iter().map(|body| {
            let for_all = matches!(body.kind(), Kind::Crl | Kind::Entry | Kind::Head);
            let custodians =
                if for_all { Vec::new() } else { vec!["RXA".parse().unwrap(), "RXB12".parse().unwrap()] };
            let (network, expires) = (Some(self.network), NOW.plus_secs(20 * DAY));
            let header = Header { network, custodians, issued: NOW, expires };
            record::sign(header, body, self.signer.fingerprint(), &self.signer_key).unwrap()
        });
        [first, second].into_iter().chain(signed).collect()
    }

    fn bodies(&self) -> Vec<Body> {
        let issuer = Issuer::new(&self.signer, &self.signer_key).unwrap();
        let list = issuer.revocation_list(1, NOW, NOW.plus_secs(DAY), &[]).unwrap();
        let crl = Crl { list: list.der().to_vec(), issuer: self.signer.der().to_vec() };
        let chain = vec![self.signer.der().to_vec().into(), self.root.der().to_vec().into()];
        let device = Entry {
            chain: chain.clone(),
            key_package: Some(vec![7; 300].into()),
            addresses: Vec::new(),
            available: Some(true),
        };
        let addresses = vec!["/ip4/127.0.0.1/udp/4001/quic-v1".into()];
        let node = Entry { chain, key_package: None, addresses, available: None };
        let conversation = ConversationId::new([7; 16], "RXA".parse().unwrap());
        let envelope = |class| {
            let (conversation, content) = (conversation.clone(), vec![9; 40]);
            Body::Envelope(Envelope { conversation, epoch: 70_000, class, content })
        };
        let tombstone = |target, reason| {
            let (conversation, reference) = (conversation.clone(), b"case 7".to_vec());
            Body::Tombstone(Tombstone { conversation, target, reason, reference })
        };
        let named = Target::Envelopes(vec![RecordId::new([1; 32]), RecordId::new([2; 32])]);
        let mut bodies = vec![Body::Crl(crl), Body::Entry(device), Body::Entry(node)];
        bodies.extend([Class::Application, Class::Commit, Class::Welcome, Class::Submission].map(envelope));
        bodies.extend(Reason::ALL.map(|reason| tombstone(named.clone(), reason)));
        bodies.push(tombstone(Target::UpTo(NOW), Reason::Incident));
        bodies.push(tombstone(Target::Standing(NOW, 7 * DAY), Reason::PolicyExpired));
        bodies.push(Body::Receipt(Receipt { items: self.items() }));
        bodies.push(Body::Head(Head { number: 1000, hash: AuditHash::new([6; 32]), dropped: 10 }));
        bodies
    }
}

impl Scene {
    /// One item of a receipt of each kind, in their order, and one more of the first.
    fn items(&self) -> Vec<ReceiptItem> {
        let tombstone = |n| RecordId::new([n; 32]);
        let erased = |n| {
            ReceiptItem::Erased(Erased { tombstone: tombstone(n), erased: NOW, envelopes: 3, devices: 2 })
        };
        let (device, key) = (self.signer.fingerprint(), &self.signer_key);
        let line = DeviceLine::sign(self.network, tombstone(1), NOW, device, key).bytes().to_vec();
        let waited_for = WaitingDevice { device: Fingerprint::new([4; 32]), last_seen: Some(NOW) };
        let unseen = WaitingDevice { device: Fingerprint::new([5; 32]), last_seen: None };
        let (conversation, hour) = (
            ConversationId::new([7; 16], "RXA".parse().unwrap()),
            Timestamp::from_secs(NOW.as_secs() / 3600 * 3600),
        );
        vec![
            erased(1),
            erased(2),
            ReceiptItem::Held(Held { tombstone: tombstone(3), until: NOW, reference: b"hold 3".to_vec() }),
            ReceiptItem::DeviceErased(DeviceErased { tombstone: tombstone(1), line }),
            ReceiptItem::Waiting(Waiting {
                tombstone: tombstone(1),
                devices: vec![waited_for, unseen],
                count: 20,
            }),
            ReceiptItem::Expired(Expired { conversation, hour, erased: NOW, envelopes: 7 }),
        ]
    }
}

fn subject(name: &str) -> Subject {
    Subject {
        trust: "RXA".parse().unwrap(),
        country: Country::GB,
        organisation: "Test Trust".into(),
        common_name: name.into(),
        department: None,
        title: None,
        registration: None,
    }
}
