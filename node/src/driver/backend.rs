//! What the gateway, the registrar and the operator's socket ask, answered by the engine and its store.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use lanyard_crypto::gateway::{
    DeletionResponse, DirectoryResponse, InboxResponse, SendRequest, SendResponse, TicksResponse,
    TrustResponse,
};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{Decoded, Target};
use lanyard_crypto::{ConversationId, Fingerprint, RecordId, TrustId};
use lanyard_replica::audit::{self, AuditEntry};
use lanyard_replica::{Deleter, Input, Reply, Request, arrival, query};
use lanyard_storage::View;
use tokio::sync::watch;

use super::engine::Message;
use super::shared::Engine;
use crate::backend::{Answer, AuditLine, Backend, Deletion, Note, PeerStatus};
use crate::{address, time};

/// Deletions in one answer.
const DELETIONS_MAX: usize = 1000;

impl Backend for Engine {
    fn network(&self) -> Arc<Network> {
        self.0.network()
    }

    fn trust(&self) -> &TrustId {
        &self.0.trust
    }

    fn send(&self, device: Fingerprint, request: SendRequest) -> Answer<'_, SendResponse> {
        async move {
            match self.0.request(Request::Send { device, request }).await? {
                Reply::Sent { id, issued } => Ok(SendResponse { id, issued }),
                other => unreachable!("a send is answered by its envelope, not by {other:?}"),
            }
        }
        .boxed()
    }

    fn delete(&self, order: Deletion) -> Answer<'_, RecordId> {
        let Deletion { device, conversation, envelopes, reason, reference } = order;
        let (by, target) = (Deleter::Device(device), Target::Envelopes(envelopes));
        async move {
            match self.0.request(Request::Delete { by, conversation, target, reason, reference }).await? {
                Reply::Deleted(tombstone) => Ok(tombstone),
                other => unreachable!("a deletion is answered by its tombstone, not by {other:?}"),
            }
        }
        .boxed()
    }

    fn seen(&self, device: Fingerprint, seq: u64) -> Answer<'_, ()> {
        async move { self.0.request(Request::Seen { device, seq }).await.map(drop) }.boxed()
    }

    fn leave(&self, device: Fingerprint, conversation: ConversationId) -> Answer<'_, ()> {
        async move { self.0.request(Request::Leave { device, conversation }).await.map(drop) }.boxed()
    }

    fn submit(&self, record: Decoded) -> Answer<'_, ()> {
        let network = self.network();
        async move {
            let looked_at =
                tokio::task::spawn_blocking(move || arrival::verify(vec![Ok(record)], &network)).await;
            let arrival = looked_at.ok().and_then(|mut all| all.pop()).ok_or_else(super::shared::stopped)?;
            self.0.ask(|reply| Message::Submit(Box::new(arrival), reply)).await.map(drop)
        }
        .boxed()
    }

    fn inbox(&self, device: Fingerprint, after: u64) -> Answer<'_, InboxResponse> {
        self.0.read(move |view, network| query::inbox(view, network, &device, after, time::now())).boxed()
    }

    fn inbox_events(&self, device: Fingerprint) -> watch::Receiver<u64> {
        self.0.inbox_events(device)
    }

    fn ticks(&self, device: Fingerprint, envelope: RecordId) -> Answer<'_, Option<TicksResponse>> {
        self.0.read(move |view, _| query::ticks_for(view, &device, &envelope)).boxed()
    }

    fn deletion(&self, tombstone: RecordId) -> Answer<'_, Option<DeletionResponse>> {
        self.0.read(move |view, network| query::deletion(view, network, &tombstone)).boxed()
    }

    fn deletion_for(&self, device: Fingerprint, tombstone: RecordId) -> Answer<'_, Option<DeletionResponse>> {
        let deletion =
            move |view: &dyn View, network: &Network| match query::is_member_of(view, &device, &tombstone)? {
                true => query::deletion(view, network, &tombstone),
                false => Ok(None),
            };
        self.0.read(deletion).boxed()
    }

    fn deletions(&self) -> Answer<'_, Vec<DeletionResponse>> {
        self.0.read(|view, network| query::deletions(view, network, DELETIONS_MAX)).boxed()
    }

    fn directory(&self, words: String) -> Answer<'_, DirectoryResponse> {
        self.0.read(move |view, network| query::directory(view, network, &words, time::now())).boxed()
    }

    fn trust_records(&self, version: Option<u64>) -> Answer<'_, TrustResponse> {
        self.0.read(move |view, _| query::trust(view, version)).boxed()
    }

    fn entry(&self, device: Fingerprint) -> Answer<'_, Option<Decoded>> {
        self.0.read(move |view, _| query::entry(view, &device)).boxed()
    }

    fn record(&self, id: RecordId) -> Answer<'_, Option<Vec<u8>>> {
        self.0.read(move |view, _| query::record_bytes(view, &id)).boxed()
    }

    fn audit(&self, after: Option<u64>, limit: usize) -> Answer<'_, Vec<AuditLine>> {
        async move {
            let entries = self.0.read(move |view, _| audit::read(view, after, limit)).await?;
            Ok(entries.into_iter().map(|(number, entry)| line(number, entry)).collect())
        }
        .boxed()
    }

    fn note(&self, note: Note) -> BoxFuture<'_, ()> {
        let entry = AuditEntry::new(note.event, note.code, note.detail);
        let entry = match note.address {
            Some(address) => entry.address(address),
            None => entry,
        };
        self.0.push(Message::Input(Input::Note(entry))).boxed()
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let connected: Vec<_> =
            self.0.peers().iter().map(|(node, peer)| (*node, peer.trust.clone())).collect();
        let mut all: Vec<PeerStatus> =
            connected.into_iter().map(|(node, trust)| PeerStatus { node, trust, connected: true }).collect();
        let own = self.0.shell().node();
        for identity in self.network().nodes(time::now()) {
            if identity.node() != own && all.iter().all(|p| p.node != identity.node()) {
                all.push(PeerStatus { node: identity.node(), trust: identity.trust, connected: false });
            }
        }
        all
    }

    fn refusals_lost(&self) -> u64 {
        self.0.shell().refusals_lost()
    }

    fn counts(&self) -> Answer<'_, Vec<(String, u64)>> {
        async move {
            let counts = self.0.read(|view, _| query::counts(view)).await?;
            let kinds = [
                ("envelopes", counts.envelopes),
                ("tombstones", counts.tombstones),
                ("receipts", counts.receipts),
                ("entries", counts.entries),
            ];
            let kinds = kinds.into_iter().map(|(name, count)| (name.to_owned(), count));
            let waiting =
                counts.waiting.into_iter().map(|(trust, count)| (format!("waiting for {trust}"), count));
            Ok(kinds.chain(waiting).collect())
        }
        .boxed()
    }
}

fn line(number: u64, entry: AuditEntry) -> AuditLine {
    AuditLine {
        number,
        at: time::rfc3339(entry.at),
        event: entry.event,
        code: entry.code,
        detail: entry.detail,
        peer_id: entry.node.map(|n| address::peer_id(&n)),
        trust: entry.trust.map(String::from),
        address: entry.address,
        record: entry.record.map(|r| r.to_string()),
    }
}
