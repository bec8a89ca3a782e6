//! A regional network in this process: trusts with real certificates and a charter, and for each a stand-in
//! for its node that speaks the clients' protocol over real TLS. It keeps one inbox for everyone, orders
//! commits by taking the first of each epoch, and erases at once; the tests of the real node are elsewhere.

mod pins;
mod server;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use lanyard_client::clock;
use lanyard_crypto::cbor;
use lanyard_crypto::charter::{Authorities, Charter, Member, Policy, TrustRetention};
use lanyard_crypto::gateway::*;
use lanyard_crypto::mls::ReviewTerms;
use lanyard_crypto::record::{
    self, Body, Class, Decoded, DeviceLine, Entry, Envelope, Erased, Header, Receipt, ReceiptItem,
    Submission, Target, Tombstone,
};
use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::issue::{self, Issuer, NodeDetails, Term};
use lanyard_crypto::x509::request::CertificateRequest;
use lanyard_crypto::x509::{Certificate, SecretKey, Subject};
use lanyard_crypto::{ConversationId, NetworkId, NodeId, RecordId, Timestamp, TrustId};
use serde_bytes::ByteBuf;

pub const LIFE_SECS: u64 = 90 * 24 * 3600;

/// One trust with its keys.
pub struct Trust {
    pub id: TrustId,
    pub root: Certificate,
    pub registrar: Certificate,
    pub registrar_key: SecretKey,
    pub node: Certificate,
    pub node_key: SecretKey,
    pub address: String,
}

/// What the nodes hold together.
#[derive(Default)]
pub struct State {
    pub inbox: Vec<InboxRecord>,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    epochs: BTreeMap<(ConversationId, u64), ()>,
    pub deletions: BTreeMap<RecordId, DeletionResponse>,
    /// What nodes order, whatever deletion is asked for.
    pub orders: Option<(ConversationId, Target)>,
    /// What nodes show, whatever deletion is asked for.
    pub shows: Option<DeletionResponse>,
    pub invitations: BTreeMap<Vec<u8>, Subject>,
    /// Devices by their keys.
    certified: BTreeMap<[u8; 32], Certificate>,
    /// The charter in force, if it is not the first one.
    pub charter: Option<Decoded>,
    /// Charters between the first and that one.
    pub between: Vec<Decoded>,
    /// The code with which the hub has refused every submission.
    pub hub_refuses: Option<String>,
    /// The hub answers no submissions while this is set.
    pub hub_away: bool,
    /// Nodes take envelopes, and the connection breaks before the answer.
    pub loses_answers: bool,
    /// The revocation lists that nodes hand over, as records.
    pub crls: Vec<Decoded>,
    /// What nodes say that their trusts keep.
    pub retention: TrustRetention,
    /// How often they say that members are to be reviewed.
    pub review: ReviewTerms,
    /// What they say that identifies a patient.
    pub patterns: Vec<TextPattern>,
    /// What nodes say when they refuse every envelope for good.
    pub refuses_saying: Option<String>,
    /// Directories hold more than they show.
    pub directory_has_more: bool,
    /// Nodes refuse to show their inbox for now.
    pub refuses_inbox: bool,
    /// Nodes refuse every device in the TLS handshake.
    pub refuses_devices: bool,
    /// What devices say that they have erased.
    pub erased: Vec<DeviceLine>,
    /// Devices' PINs, and the sessions that they have opened.
    pub pins: pins::Pins,
}

pub struct World {
    pub trusts: Vec<Arc<Trust>>,
    pub network: NetworkId,
    pub charter: Decoded,
    pub authority: SecretKey,
    state: Mutex<State>,
    news: Condvar,
}

impl World {
    /// Founds a network of these trusts, and starts their nodes on ports of 127.0.0.1.
    pub fn start(codes: &[&str]) -> Arc<World> {
        let mut listeners = Vec::new();
        let mut trusts: Vec<Arc<Trust>> = Vec::new();
        for code in codes {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            trusts.push(Arc::new(trust(code, listener.local_addr().unwrap().to_string())));
            listeners.push(listener);
        }
        let authority = SecretKey::generate().unwrap();
        let member = |t: &Arc<Trust>| Member {
            trust: t.id.clone(),
            name: format!("Trust {}", t.id),
            root: t.root.der().to_vec(),
            addresses: Vec::new(),
        };
        let charter = Charter {
            name: "Test network".into(),
            version: 1,
            previous: None,
            authorities: Authorities { keys: vec![ByteBuf::from(authority.public().to_vec())], threshold: 1 },
            trusts: trusts.iter().map(member).collect(),
            countries: vec![Country::GB],
            policy: Policy::of(LIFE_SECS),
        };
        let now = clock::now();
        let header =
            Header { network: None, custodians: Vec::new(), issued: now, expires: now.plus_secs(LIFE_SECS) };
        let charter = record::sign_charter(header, charter, &[&authority], None).unwrap();
        let world = Arc::new(World {
            trusts,
            network: NetworkId::new(*charter.statement().as_bytes()),
            charter,
            authority,
            state: Mutex::default(),
            news: Condvar::new(),
        });
        for (listener, trust) in listeners.into_iter().zip(&world.trusts) {
            server::serve(listener, world.clone(), trust.clone());
        }
        world
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The line for a person of a trust.
    pub fn invite(&self, trust: usize, name: &str, registration: &str) -> String {
        let trust = &self.trusts[trust];
        let mut id = vec![0; 16];
        getrandom::fill(&mut id).unwrap();
        let subject = Subject {
            registration: Some(registration.into()),
            title: Some("Registrar".into()),
            ..subject(&trust.id, name)
        };
        self.state().invitations.insert(id.clone(), subject);
        let (root, address) = (trust.root.fingerprint(), trust.address.clone());
        Invitation { trust: trust.id.clone(), root, address, id, code: vec![7; 16] }.to_line()
    }

    /// Puts a record, signed by a trust's node, into everyone's inbox.
    pub fn publish(
        &self,
        state: &mut State,
        trust: &Trust,
        custodians: &[TrustId],
        expires: Timestamp,
        body: Body,
    ) -> (RecordId, Timestamp) {
        let issued = clock::now();
        let header = Header { network: Some(self.network), custodians: custodians.to_vec(), issued, expires };
        let record = record::sign(header, body, trust.node.fingerprint(), &trust.node_key).unwrap();
        state.inbox.push(InboxRecord { bytes: record.bytes().to_vec(), chain: trust.chain() });
        self.news.notify_all();
        (record.id(), issued)
    }

    /// Waits until the inbox is longer than `seen`; returns its length.
    fn wait(&self, seen: usize) -> usize {
        self.news.wait_while(self.state(), |s| s.inbox.len() <= seen).unwrap().inbox.len()
    }

    fn answer(
        &self,
        trust: &Trust,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> Result<Vec<u8>, (u16, Refusal)> {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let value = query.split_once('=').map_or("", |(_, v)| v);
        let mut state = self.state();
        match (method, path) {
            ("POST", "/v1/enrol") => self.enrol(&mut state, trust, &read(body)),
            ("GET", "/v1/trust") => {
                let is_asked =
                    |c: &&Decoded| matches!(c.body(), Body::Charter(c) if c.version.to_string() == value);
                let charter = state.between.iter().find(is_asked).or(state.charter.as_ref());
                let charter = charter.unwrap_or(&self.charter).bytes().to_vec();
                let crls = state.crls.iter().map(|crl| ByteBuf::from(crl.bytes().to_vec())).collect();
                Ok(cbor::to_vec(&TrustResponse {
                    charter,
                    crls,
                    retention: state.retention,
                    review: state.review,
                    patterns: state.patterns.clone(),
                }))
            }
            ("GET", "/v1/directory") => {
                let entries = state.entries.iter().filter(|(words, _)| contains(words, value));
                let entries = entries.map(|(_, e)| ByteBuf::from(e.clone())).collect();
                Ok(cbor::to_vec(&DirectoryResponse { entries, more: state.directory_has_more }))
            }
            ("POST", "/v1/envelopes") => self.send(&mut state, trust, read(body)),
            ("GET", "/v1/inbox") if state.refuses_inbox => Err(refusal(503, "busy")),
            ("GET", "/v1/inbox") => {
                let after: usize = value.parse().unwrap();
                let item =
                    |(i, r): (usize, &InboxRecord)| InboxItem { seq: i as u64 + 1, record: Some(r.clone()) };
                let items: Vec<_> = state.inbox.iter().enumerate().skip(after).take(3).map(item).collect();
                let more = after + items.len() < state.inbox.len();
                Ok(cbor::to_vec(&InboxResponse { items, more }))
            }
            ("POST", "/v1/inbox/seen" | "/v1/conversations") => Ok(Vec::new()),
            ("POST", "/v1/deletions") => self.delete(&mut state, trust, read(body)),
            ("GET", path) if path.starts_with("/v1/envelopes/") => {
                let code = state.hub_refuses.clone().ok_or_else(|| refusal(404, "not-found"))?;
                let tick = |t: &Arc<Trust>| Tick {
                    trust: t.id.clone(),
                    confirmed: None,
                    refused: Some(code.clone()),
                };
                let custodians = self.trusts.iter().map(tick).collect();
                Ok(cbor::to_vec(&TicksResponse { custodians }))
            }
            ("GET", path) if path.starts_with("/v1/deletions/") => {
                let id = path.trim_start_matches("/v1/deletions/").parse().unwrap();
                state.deletions.get(&id).map(cbor::to_vec).ok_or_else(|| refusal(404, "not-found"))
            }
            ("POST", "/v1/erasures") => {
                let request: ErasuresRequest = read(body);
                state.erased.extend(request.lines.iter().map(|line| DeviceLine::from_bytes(line).unwrap()));
                Ok(Vec::new())
            }
            ("POST", path) if path.ends_with("/leave") => Ok(Vec::new()),
            _ => Err(refusal(404, "not-found")),
        }
    }

    fn enrol(
        &self,
        state: &mut State,
        trust: &Trust,
        request: &EnrolRequest,
    ) -> Result<Vec<u8>, (u16, Refusal)> {
        let key = *CertificateRequest::parse(&request.request).unwrap().public_key();
        // The same key again gets the same answer.
        let device = match (state.invitations.remove(&request.invitation), state.certified.get(&key)) {
            (_, Some(device)) => device.clone(),
            (Some(subject), None) => {
                let issuer = Issuer::new(&trust.registrar, &trust.registrar_key).unwrap();
                issuer.device(&subject, &key, &term(0)).unwrap()
            }
            (None, None) => return Err(refusal(403, "invitation")),
        };
        state.certified.insert(key, device.clone());
        let first_pin = state.pins.enrolled(&device)?;
        let chain = [device.der(), trust.registrar.der()].map(ByteBuf::from).into();
        Ok(cbor::to_vec(&EnrolResponse { chain, charter: self.charter.bytes().to_vec(), first_pin }))
    }

    fn list(&self, trust: &Trust, device: &Certificate, request: KeyPackageRequest) {
        let now = clock::now();
        let header = Header {
            network: Some(self.network),
            custodians: Vec::new(),
            issued: now,
            expires: device.not_after(),
        };
        let body = Body::Entry(Entry {
            chain: [device.der(), trust.registrar.der()].map(ByteBuf::from).into(),
            key_package: Some(request.key_package.into()),
            addresses: Vec::new(),
            available: Some(request.available),
        });
        let entry = record::sign(header, body, trust.registrar.fingerprint(), &trust.registrar_key).unwrap();
        let s = device.subject();
        let registration = s.registration.clone().unwrap_or_default();
        let words = format!("{} {registration} {} {}", s.common_name, s.trust, device.fingerprint());
        self.state().entries.insert(words.into_bytes(), entry.bytes().to_vec());
    }

    fn send(
        &self,
        state: &mut State,
        trust: &Trust,
        request: SendRequest,
    ) -> Result<Vec<u8>, (u16, Refusal)> {
        if let Some(message) = state.refuses_saying.clone() {
            return Err((400, Refusal { code: "refused".into(), message }));
        }
        let SendRequest { conversation, epoch, class, content, custodians, expires } = request;
        let envelope = |class, epoch, content| {
            Body::Envelope(Envelope { conversation: conversation.clone(), epoch, class, content })
        };
        let (id, issued) = if class == Class::Submission {
            if state.hub_away {
                return Ok(cbor::to_vec(&SendResponse { id: RecordId::of(&content), issued: clock::now() }));
            }
            if state.epochs.insert((conversation.clone(), epoch), ()).is_some() {
                return Err(refusal(409, "duplicate-commit"));
            }
            let submission: Submission = cbor::from_slice(&content, REQUEST_BYTES_MAX).unwrap();
            let hub = self.trusts.iter().find(|t| t.id == *conversation.owner()).unwrap();
            let commit = envelope(Class::Commit, epoch, submission.commit);
            let sent = self.publish(state, hub, &custodians, expires, commit);
            if let Some(welcome) = submission.welcome {
                let welcome = envelope(Class::Welcome, epoch + 1, welcome.into_vec());
                self.publish(state, hub, &custodians, expires, welcome);
            }
            sent
        } else {
            self.publish(state, trust, &custodians, expires, envelope(class, epoch, content))
        };
        Ok(cbor::to_vec(&SendResponse { id, issued }))
    }

    /// The first trust confirms at once, the second with a receipt that another trust's node signed, the
    /// others not at all.
    fn delete(
        &self,
        state: &mut State,
        trust: &Trust,
        request: DeleteRequest,
    ) -> Result<Vec<u8>, (u16, Refusal)> {
        if let Some(shown) = &state.shows {
            return Ok(cbor::to_vec(shown));
        }
        let expires = clock::now().plus_secs(LIFE_SECS);
        let custodians: Vec<TrustId> = self.trusts.iter().map(|t| t.id.clone()).collect();
        let target = match request.all {
            true => Target::UpTo(clock::now()),
            false => Target::Envelopes(request.envelopes),
        };
        let (conversation, target) = state.orders.clone().unwrap_or((request.conversation, target));
        let body = Body::Tombstone(Tombstone {
            conversation,
            target,
            reason: request.reason,
            reference: Vec::new(),
        });
        let (tombstone, issued) = self.publish(state, trust, &custodians, expires, body);
        let item = ReceiptItem::Erased(Erased { tombstone, erased: issued, envelopes: 1, devices: 0 });
        let body = Body::Receipt(Receipt { items: vec![item.clone()] });
        let ordered = state.inbox.last().unwrap().clone();
        let (id, _) = self.publish(state, &self.trusts[0], &custodians, expires, body);
        let receipt = state.inbox.pop().unwrap();
        let decoded = Decoded::from_bytes(&receipt.bytes).unwrap();
        let proof = record::prove(&decoded, &item).unwrap();
        let attested = Attestation { receipt: id, item, proof, chain: receipt.chain };
        let replica = |(i, t): (usize, &Arc<Trust>)| Replica {
            trust: t.id.clone(),
            node: Some(NodeId::new(*t.node.public_key())),
            erased: (i < 2).then(|| attested.clone()),
            held: None,
            overdue: None,
        };
        let replicas = self.trusts.iter().enumerate().map(replica).collect();
        let (record, chain) = (ordered.bytes, ordered.chain);
        let response = DeletionResponse { tombstone, record, chain, replicas, devices: Vec::new() };
        state.deletions.insert(tombstone, response.clone());
        Ok(cbor::to_vec(&response))
    }
}

impl Trust {
    pub fn chain(&self) -> Vec<ByteBuf> {
        [self.node.der(), self.registrar.der()].map(ByteBuf::from).into()
    }
}

/// A trust whose node is at this address of 127.0.0.1.
pub fn trust(code: &str, address: String) -> Trust {
    let id: TrustId = code.parse().unwrap();
    let key = || SecretKey::generate().unwrap();
    let (root_key, registrar_key, node_key) = (key(), key(), key());
    let root = issue::root(&subject(&id, "Root"), &root_key, &term(2)).unwrap();
    let issuer = Issuer::new(&root, &root_key).unwrap();
    let registrar = issuer.registrar(&subject(&id, "Registrar"), &registrar_key.public(), &term(1)).unwrap();
    let details = NodeDetails {
        node: NodeId::new(node_key.public()),
        hosting_country: Country::GB,
        dns_names: Vec::new(),
        ip_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
    };
    let issuer = Issuer::new(&registrar, &registrar_key).unwrap();
    let node = issuer.node(&subject(&id, "Node"), &node_key.public(), &details, &term(0)).unwrap();
    Trust { id, root, registrar, registrar_key, node, node_key, address }
}

fn subject(trust: &TrustId, name: &str) -> Subject {
    Subject {
        trust: trust.clone(),
        country: Country::GB,
        organisation: format!("Trust {trust}"),
        common_name: name.into(),
        department: None,
        title: None,
        registration: None,
    }
}

/// Of an authority, twice as long as of those that it certifies.
fn term(level: u64) -> Term {
    Term::starting(clock::now(), LIFE_SECS << level).unwrap()
}

fn refusal(status: u16, code: &str) -> (u16, Refusal) {
    (status, Refusal { code: code.into(), message: format!("refused: {code}") })
}

fn read<T: serde::Serialize + serde::de::DeserializeOwned>(body: &[u8]) -> T {
    cbor::from_slice(body, REQUEST_BYTES_MAX).unwrap()
}

/// Whether the text holds every word of a percent-encoded query.
fn contains(text: &[u8], query: &str) -> bool {
    let text = String::from_utf8_lossy(text).to_lowercase();
    query.replace("%20", " ").to_lowercase().split(' ').all(|word| text.contains(word))
}
