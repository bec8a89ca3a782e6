//! Two trusts with a node each, and messages that they sign.

use std::error::Error;

use lanyard_crypto::charter::{Authorities, Charter, Member, Policy};
use lanyard_crypto::record::{self, Body, Class, Decoded, Envelope, Header};
use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::issue::{self, Issuer, NodeDetails, Term};
use lanyard_crypto::x509::{Certificate, SecretKey, Subject};
use lanyard_crypto::{ConversationId, NetworkId, NodeId, Timestamp, TrustId};
use lanyard_replica::Own;

pub const DAY: u64 = 24 * 3600;
/// When it all happens.
pub const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
/// Over how long the records are scattered, in seconds.
pub const SPREAD: u64 = 365 * DAY;
const LIFE: u64 = 400 * DAY;

pub struct Trust {
    pub own: Own,
    root: Certificate,
}

pub struct Network {
    pub trusts: [Trust; 2],
    pub charter: Decoded,
    id: NetworkId,
    conversation: ConversationId,
}

impl Network {
    pub fn new() -> Result<Self, Box<dyn Error>> {
        let trusts = [Trust::new("RXA", 1)?, Trust::new("RXB", 4)?];
        let authority = SecretKey::from_seed(&[99; 32]);
        let member = |trust: &Trust| Member {
            trust: trust.own.trust.clone(),
            name: "A trust".into(),
            root: trust.root.der().to_vec(),
            addresses: Vec::new(),
        };
        let charter = Charter {
            name: "Benchmark".into(),
            version: 1,
            previous: None,
            authorities: Authorities { keys: vec![authority.public().to_vec().into()], threshold: 1 },
            trusts: trusts.iter().map(member).collect(),
            countries: vec![Country::GB],
            policy: Policy { retention_secs_max: LIFE },
        };
        let issued = NOW.minus_secs(SPREAD + 2 * DAY);
        let header =
            Header { network: None, custodians: Vec::new(), issued, expires: NOW.plus_secs(1000 * DAY) };
        let charter = record::sign_charter(header, charter, &[&authority], None)?;
        let id = NetworkId::new(*charter.statement().as_bytes());
        let conversation = ConversationId::new([9; 16], trusts[0].own.trust.clone());
        Ok(Self { trusts, charter, id, conversation })
    }

    /// A message of the first trust for both, another one for each `n`, as a record of about `bytes` bytes.
    pub fn message(&self, n: u64, issued: Timestamp, bytes: usize) -> Result<Decoded, Box<dyn Error>> {
        let custodians = self.trusts.iter().map(|t| t.own.trust.clone()).collect();
        let header = Header { network: Some(self.id), custodians, issued, expires: issued.plus_secs(LIFE) };
        // A PrivateMessage with application data (RFC 9420, section 6.3).
        let group = self.conversation.to_bytes();
        let mut content = vec![0, 1, 0, 2, group.len() as u8];
        content.extend(&group);
        content.extend(1u64.to_be_bytes());
        content.extend([1, 0, 8]);
        content.extend(n.to_be_bytes());
        // Its length takes two bytes: 64 to 16,383 (RFC 9420, section 2.1.2).
        let ciphertext = bytes.saturating_sub(290).clamp(64, 16_000);
        content.extend((0x4000 | ciphertext as u16).to_be_bytes());
        content.resize(content.len() + ciphertext, 7);
        let envelope = Envelope {
            conversation: self.conversation.clone(),
            epoch: 1,
            class: Class::Application,
            content,
        };
        let own = &self.trusts[0].own;
        Ok(record::sign(header, Body::Envelope(envelope), own.certificate, &own.key)?)
    }
}

impl Trust {
    fn new(code: &str, seed: u8) -> Result<Self, Box<dyn Error>> {
        let trust: TrustId = code.parse()?;
        let key = |n: u8| SecretKey::from_seed(&[seed + n; 32]);
        let (root_key, registrar_key, key) = (key(0), key(1), key(2));
        let term = |n: u8| Term::new([seed + n; 16], NOW.minus_secs(SPREAD + 10 * DAY), NOW.plus_secs(LIFE));
        let subject = |name: &str| Subject {
            trust: trust.clone(),
            country: Country::GB,
            organisation: "A trust".into(),
            common_name: name.into(),
            department: None,
            title: None,
            registration: None,
        };
        let root = issue::root(&subject("Root"), &root_key, &term(0))?;
        let registrar = Issuer::new(&root, &root_key)?.registrar(
            &subject("Registrar"),
            &registrar_key.public(),
            &term(1),
        )?;
        let details = NodeDetails {
            node: NodeId::new(key.public()),
            hosting_country: Country::GB,
            dns_names: Vec::new(),
            ip_addresses: vec![std::net::IpAddr::from([127, 0, 0, 1])],
        };
        let issuer = Issuer::new(&registrar, &registrar_key)?;
        let node = issuer.node(&subject("Node"), &key.public(), &details, &term(2))?;
        let own = Own {
            trust,
            node: NodeId::new(key.public()),
            certificate: node.fingerprint(),
            key,
            chain: vec![node.der().to_vec(), registrar.der().to_vec()],
        };
        Ok(Self { own, root })
    }
}
