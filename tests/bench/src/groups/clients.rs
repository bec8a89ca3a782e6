//! Lanyard's own side: sessions with their vaults, and the hub's check.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use lanyard_client::session::{Content, Received, Session, SessionError};
use lanyard_client::vault::conversations::Conversation;
use lanyard_client::vault::outbox::{Incoming, Outgoing};
use lanyard_client::vault::{Vault, VaultError, VaultKey};
use lanyard_crypto::mls::{Class as Purpose, PublicGroup};
use lanyard_crypto::record::{self, Body, Class, Envelope, Header, Submission};
use lanyard_crypto::{ConversationId, Fingerprint, NetworkId, RecordId, Timestamp, cbor, limits};
use mls_rs::{GroupStateStorage, KeyPackageStorage};
use mls_rs_core::group::GroupState;
use zeroize::Zeroizing;

use super::member::Packaged;
use super::world::{Device, LIFE, Shared, Trust, World};
use crate::network::NOW;

const EXPIRES: Timestamp = NOW.plus_secs(LIFE);

/// A member's device: Lanyard's client without its commands.
pub struct Clinician {
    pub session: Session<Shared>,
    conversation: ConversationId,
}

/// What a change is, on its way to the hub and from there.
pub struct Submitted {
    outgoing: Outgoing,
    pub epoch: u64,
    pub submission: Submission,
    pub bytes: usize,
}

impl Clinician {
    /// A device in this group, or in none yet, with a vault in this file.
    pub fn new(
        path: &Path,
        network: &Arc<Shared>,
        device: &Device,
        conversation: &ConversationId,
        state: Option<&Zeroizing<Vec<u8>>>,
    ) -> Result<Self, Box<dyn Error>> {
        let vault = Vault::open(path, &VaultKey::new([3; 32]))?;
        let mut session = Session::open(vault, network.clone(), &device.key, &device.chain)?;
        if let Some(state) = state {
            let state = GroupState { id: conversation.to_bytes(), data: state.clone() };
            session.vault_mut().transaction(|vault| {
                vault.mls_store().write(state, Vec::new(), Vec::new())?;
                vault.put_conversation(&Conversation {
                    id: conversation.clone(),
                    title: "Ward 4".into(),
                    class: Purpose::Clinical,
                    since: NOW,
                    left_epoch: None,
                })
            })?;
        }
        Ok(Self { session, conversation: conversation.clone() })
    }

    /// Can be added by this key package from now on.
    pub fn keep(&mut self, packaged: &Packaged) -> Result<(), VaultError> {
        let mut store = self.session.vault().mls_store();
        packaged.secrets.key_packages().into_iter().try_for_each(|(id, data)| store.insert(id, data))
    }

    /// The group's state as the MLS library keeps it.
    pub fn state(&self) -> Result<Zeroizing<Vec<u8>>, Box<dyn Error>> {
        let state = self.session.vault().mls_store().state(&self.conversation.to_bytes())?;
        Ok(state.ok_or("the vault has no state of the group")?)
    }

    pub fn add(&mut self, package: &[u8]) -> Result<Submitted, Box<dyn Error>> {
        self.submitted(|session, id| session.add(id, &[package.to_vec()], EXPIRES, NOW))
    }

    pub fn remove(&mut self, device: Fingerprint) -> Result<Submitted, Box<dyn Error>> {
        self.submitted(|session, id| session.remove(id, &[device], EXPIRES, NOW))
    }

    pub fn update(&mut self) -> Result<Submitted, Box<dyn Error>> {
        self.submitted(|session, id| session.carry_out(id, EXPIRES, NOW))
    }

    fn submitted(
        &mut self,
        change: impl FnOnce(&mut Session<Shared>, &ConversationId) -> Result<Outgoing, SessionError>,
    ) -> Result<Submitted, Box<dyn Error>> {
        let outgoing = change(&mut self.session, &self.conversation)?;
        let bytes = outgoing.request.content.len();
        let submission = cbor::from_slice(&outgoing.request.content, limits::HANDSHAKE_RECORD_BYTES_MAX)?;
        Ok(Submitted { epoch: outgoing.request.epoch, outgoing, submission, bytes })
    }

    /// Its own commit comes back from the hub.
    pub fn published(&mut self, submitted: &Submitted, commit: &Incoming) -> Result<(), Box<dyn Error>> {
        self.session.sent(&submitted.outgoing, &commit.id, NOW)?;
        self.receive(commit)
    }

    /// Encrypts into the outbox, and hears that the node has taken it.
    pub fn send(&mut self, text: &str, records: &mut Records) -> Result<Incoming, Box<dyn Error>> {
        let text = Content::Text(text.into());
        let outgoing = self.session.send(&self.conversation, &text, EXPIRES, NOW)?;
        let request = &outgoing.request;
        let (epoch, content) = (request.epoch, request.content.clone());
        let envelope =
            Envelope { conversation: self.conversation.clone(), epoch, class: Class::Application, content };
        let mut incoming = records.incoming(envelope);
        incoming.signer = self.session.device().trust.clone();
        self.session.sent(&outgoing, &incoming.id, NOW)?;
        Ok(incoming)
    }

    /// Takes what the node brings; anything but what a member expects is an error.
    pub fn receive(&mut self, incoming: &Incoming) -> Result<(), Box<dyn Error>> {
        let received = self.session.receive(incoming, NOW)?;
        match &received[..] {
            [Received::Changed(_) | Received::Message(_) | Received::Joined(_) | Received::Removed(_)] => {
                Ok(())
            }
            other => Err(format!("{} made of an envelope: {other:?}", self.session.device().name).into()),
        }
    }
}

/// Makes envelopes of what is sent, as the nodes do.
#[derive(Default)]
pub struct Records(u64);

impl Records {
    /// As a member's program has it, once it has verified the record.
    pub fn incoming(&mut self, envelope: Envelope) -> Incoming {
        self.0 += 1;
        let mut id = [0; 32];
        id[..8].copy_from_slice(&self.0.to_be_bytes());
        let signer = envelope.conversation.owner().clone();
        Incoming { id: RecordId::new(id), signer, envelope, issued: NOW, expires: EXPIRES }
    }

    /// What the hub publishes of a submission.
    pub fn published(
        &mut self,
        conversation: &ConversationId,
        submitted: &Submitted,
    ) -> (Incoming, Option<Incoming>) {
        let envelope =
            |class, epoch, content| Envelope { conversation: conversation.clone(), epoch, class, content };
        let Submission { commit, welcome, .. } = &submitted.submission;
        let commit = self.incoming(envelope(Class::Commit, submitted.epoch, commit.clone()));
        let welcome = welcome
            .as_ref()
            .map(|welcome| self.incoming(envelope(Class::Welcome, submitted.epoch + 1, welcome.to_vec())));
        (commit, welcome)
    }
}

/// The bytes of an envelope as a record on the wire.
pub fn record_bytes(world: &World, envelope: &Envelope) -> Result<usize, Box<dyn Error>> {
    let [Trust { node, node_key, .. }, ..] = &world.trusts[..] else { return Err("a trust".into()) };
    let header = Header {
        network: Some(NetworkId::new([1; 32])),
        custodians: world.trusts.iter().map(|trust| trust.id.clone()).collect(),
        issued: NOW,
        expires: EXPIRES,
    };
    let record = record::sign(header, Body::Envelope(envelope.clone()), node.fingerprint(), node_key)?;
    Ok(record.bytes().len())
}

/// What the hub does with a commit, from its state in the store to the next one: the seconds, and that state.
pub fn ordered(network: &Arc<Shared>, state: &[u8], commit: &[u8]) -> Result<(f64, Vec<u8>), Box<dyn Error>> {
    let begun = Instant::now();
    let mut group = PublicGroup::load(network.clone(), state, None)?;
    let mut custodians = group.trusts()?;
    group.accept_commit(commit, NOW)?;
    custodians.extend(group.trusts()?);
    let next = group.snapshot()?;
    Ok((begun.elapsed().as_secs_f64(), next))
}
