//! What the gateway, the registrar and the operator's socket ask, answered by the engine and its store.

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use lanyard_crypto::gateway::{
    DeletionResponse, DirectoryResponse, InboxResponse, SendRequest, SendResponse, TicksResponse,
    TrustResponse,
};
use lanyard_crypto::network::Network;
use lanyard_crypto::pin::{PinError, ServerSecret};
use lanyard_crypto::record::Decoded;
use lanyard_crypto::{ConversationId, Fingerprint, NodeId, RecordId, Timestamp, TrustId};
use lanyard_replica::audit::{self, AuditEntry};
use lanyard_replica::hold::{self, HoldView};
use lanyard_replica::pin::{self, Hidden, PinRequest, PinState};
use lanyard_replica::restored::{self, Awaited, Restoration};
use lanyard_replica::verdict::Refusal;
use lanyard_replica::{Input, Reply, Request, arrival, query};
use lanyard_storage::{BackedUp, Compacted, View};
use serde_bytes::ByteBuf;
use tokio::sync::{oneshot, watch};

use super::audit as logs;
use super::engine::Message;
use super::shared::Engine;
use super::space;
use crate::admin::deletion;
use crate::audit_export::{self, Beginning, line_of};
use crate::backend::{
    Answer, AuditChecked, AuditContradiction, AuditHeads, AuditLine, Backend, Deletion, NewHold, Note,
    PeerStatus, SentDeletion, SomeDeleted, refusal,
};
use crate::deletions_report::{self, Draft};
use crate::time;

/// Deletions in one answer.
const DELETIONS_MAX: usize = 1000;
/// The same, in bytes of JSON.
const DELETIONS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Replicas in one answer about what is overdue.
const OVERDUE_MAX: usize = 10_000;

impl Backend for Engine {
    fn network(&self) -> Arc<Network> {
        self.0.network()
    }

    fn trust(&self) -> &TrustId {
        &self.0.trust
    }

    fn send(&self, device: Fingerprint, request: SendRequest) -> Answer<'_, SendResponse> {
        async move {
            let bytes = request.content.len();
            match self.0.send(Request::Send { device, request }, bytes).await? {
                Reply::Sent { id, issued } => Ok(SendResponse { id, issued }),
                other => unreachable!("a send is answered by its envelope, not by {other:?}"),
            }
        }
        .boxed()
    }

    fn delete(&self, order: Deletion) -> Answer<'_, RecordId> {
        let Deletion { by, conversation, target, reason, reference } = order;
        async move {
            match self.0.request(Request::Delete { by, conversation, target, reason, reference }).await? {
                Reply::Deleted(tombstone) => Ok(tombstone),
                other => unreachable!("a deletion is answered by its tombstone, not by {other:?}"),
            }
        }
        .boxed()
    }

    fn delete_sent(&self, order: SentDeletion) -> Answer<'_, Option<SomeDeleted>> {
        let SentDeletion { devices, all, reason, reference } = order;
        async move {
            match self.0.request(Request::DeleteSent { devices, all, reason, reference }).await? {
                Reply::SomeDeleted { tombstone, conversation, envelopes } => {
                    Ok(Some(SomeDeleted { tombstone, conversation, envelopes }))
                }
                Reply::Done => Ok(None),
                other => unreachable!("a deletion is answered by its tombstone, not by {other:?}"),
            }
        }
        .boxed()
    }

    fn devices_of(&self, registration: String) -> Answer<'_, Vec<Fingerprint>> {
        let trust = self.0.trust.clone();
        self.0.read(move |view, _| query::devices_of(view, &trust, &registration)).boxed()
    }

    fn place_hold(&self, hold: NewHold) -> Answer<'_, ()> {
        let NewHold { conversation, reference, reason, until } = hold;
        let request = Request::PlaceHold { conversation, reference, reason, until };
        async move { self.0.request(request).await.map(drop) }.boxed()
    }

    fn end_hold(&self, conversation: ConversationId, reference: String) -> Answer<'_, ()> {
        async move { self.0.request(Request::EndHold { conversation, reference }).await.map(drop) }.boxed()
    }

    fn holds(&self) -> Answer<'_, Vec<HoldView>> {
        self.0.read(|view, _| hold::holds(view)).boxed()
    }

    fn seen(&self, device: Fingerprint, seq: u64) -> Answer<'_, ()> {
        async move { self.0.request(Request::Seen { device, seq }).await.map(drop) }.boxed()
    }

    fn leave(&self, device: Fingerprint, conversation: ConversationId) -> Answer<'_, ()> {
        async move { self.0.request(Request::Leave { device, conversation }).await.map(drop) }.boxed()
    }

    fn erased(&self, device: Fingerprint, lines: Vec<ByteBuf>) -> Answer<'_, ()> {
        async move { self.0.request(Request::Erased { device, lines }).await.map(drop) }.boxed()
    }

    fn pin(&self, device: Fingerprint, request: PinRequest) -> Answer<'_, Reply> {
        self.0.request(Request::Pin { device, request }).boxed()
    }

    fn pin_secret(&self) -> Answer<'_, Hidden> {
        async move {
            if let Some(secret) = self.0.read(|view, _| pin::secret(view)).await? {
                return Ok(secret);
            }
            let made = tokio::task::spawn_blocking(|| Ok(Hidden(ServerSecret::generate()?.to_bytes())));
            let made: Result<_, PinError> = made.await.map_err(|_| super::shared::stopped())?;
            let made = made.map_err(|error| refusal("internal", error.to_string()))?;
            self.0.request(Request::PinSecret(made)).await?;
            let secret = self.0.read(|view, _| pin::secret(view)).await?;
            secret.ok_or_else(|| refusal("internal", "the secret of PINs was not kept"))
        }
        .boxed()
    }

    fn spent_pins(&self, started: Timestamp) -> Answer<'_, Vec<Fingerprint>> {
        let now = time::now();
        self.0.read(move |view, _| pin::spent(view, started, now)).boxed()
    }

    fn pin_state(&self, device: Fingerprint) -> Answer<'_, PinState> {
        let (now, policy) = (time::now(), self.0.pins);
        self.0.read(move |view, network| pin::state(view, &device, &policy, network.time(now))).boxed()
    }

    fn present(&self, device: Fingerprint) {
        let (reply, _) = oneshot::channel();
        self.0.push_or_drop(Message::Request(Request::Present(device), reply));
    }

    fn last_seen(&self, devices: Vec<Fingerprint>) -> Answer<'_, Vec<Option<Timestamp>>> {
        self.0
            .read(move |view, _| devices.iter().map(|device| query::last_seen(view, device)).collect())
            .boxed()
    }

    fn bar(&self, devices: Vec<Fingerprint>) -> Answer<'_, Timestamp> {
        async move {
            match self.0.request(Request::Bar(devices)).await? {
                Reply::Barred(at) => Ok(at),
                other => unreachable!("a bar is answered by its moment, not by {other:?}"),
            }
        }
        .boxed()
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
        async move {
            let page = self.0.read(move |view, network| {
                // Read before the page, in which nothing stands for what is withheld, as for what is gone.
                if restored::is_marked(view)? {
                    return Ok(Err(Refusal::Restored.to_answer()));
                }
                query::inbox(view, network, &device, after, time::now()).map(Ok)
            });
            page.await?
        }
        .boxed()
    }

    fn inbox_events(&self, device: Fingerprint) -> watch::Receiver<u64> {
        self.0.inbox_events(device)
    }

    fn ticks(&self, device: Fingerprint, envelope: RecordId) -> Answer<'_, Option<TicksResponse>> {
        self.0.read(move |view, _| query::ticks_for(view, &device, &envelope)).boxed()
    }

    fn deletion(&self, tombstone: RecordId) -> Answer<'_, Option<DeletionResponse>> {
        self.0.read(move |view, network| query::deletion(view, network, &tombstone, time::now())).boxed()
    }

    fn deletion_for(&self, device: Fingerprint, tombstone: RecordId) -> Answer<'_, Option<DeletionResponse>> {
        let deletion =
            move |view: &dyn View, network: &Network| match query::is_member_of(view, &device, &tombstone)? {
                true => query::deletion(view, network, &tombstone, time::now()),
                false => Ok(None),
            };
        self.0.read(deletion).boxed()
    }

    fn deletions(&self) -> Answer<'_, Vec<deletion::Deletion>> {
        async move {
            let own = self.0.trust.clone();
            // Shown one by one: with their evidence, so many would take far more memory.
            let shown = self.0.read(move |view, network| {
                let (now, mut learning) = (time::now(), network.clone());
                let (mut shown, mut bytes, mut damaged) = (Vec::new(), 0, None);
                query::each_deletion(view, network, &own, now, |answer| {
                    match deletion::Deletion::of(&answer, &mut learning, now) {
                        Ok(deletion) => {
                            bytes += line_of(&deletion).len();
                            if bytes <= DELETIONS_BYTES_MAX {
                                shown.push(deletion);
                            }
                        }
                        Err(why) => damaged = Some(why),
                    }
                    damaged.is_none() && bytes < DELETIONS_BYTES_MAX && shown.len() < DELETIONS_MAX
                })?;
                Ok(damaged.map_or(Ok(shown), Err))
            });
            shown.await?.map_err(|why| refusal("damaged", why))
        }
        .boxed()
    }

    fn deletions_report(&self) -> Answer<'_, String> {
        async move {
            let (trust, node) = (self.0.trust.clone(), self.0.shell().node());
            let content = self.0.read(move |view, network| {
                let now = time::now();
                let mut draft = match Draft::new(&query::trust(view, None)?.charter, now) {
                    Ok(draft) => draft,
                    Err(why) => return Ok(Err(why)),
                };
                let mut damaged = None;
                query::each_deletion(view, network, &trust, now, |answer| {
                    draft.add(&answer).unwrap_or_else(|why| {
                        damaged = Some(why);
                        false
                    })
                })?;
                Ok(damaged.map_or_else(|| Ok(draft.content(&trust, &node)), Err))
            });
            let content = content.await?.map_err(|why| refusal("damaged", why))?;
            let digest = deletions_report::digest(&content);
            match self.0.request(Request::Seal(digest)).await? {
                Reply::Sealed { seal, chain } => Ok(deletions_report::sealed(content, &seal, &chain)),
                other => unreachable!("a seal is asked for, and not {other:?}"),
            }
        }
        .boxed()
    }

    fn overdue(&self) -> Answer<'_, Vec<query::Overdue>> {
        self.0.read(|view, _| query::overdue(view, OVERDUE_MAX)).boxed()
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
        async move {
            let found = self.0.read(move |view, _| {
                if restored::withholds_record(view, &id)? {
                    return Ok(Err(Refusal::Restored.to_answer()));
                }
                query::record_bytes(view, &id).map(Ok)
            });
            found.await?
        }
        .boxed()
    }

    fn audit(&self, after: Option<u64>, limit: usize) -> Answer<'_, Vec<AuditLine>> {
        async move {
            let rows = self.0.read(move |view, _| audit::rows(view, after, limit)).await?;
            Ok(rows.into_iter().map(audit_export::line).collect())
        }
        .boxed()
    }

    fn audit_chain(&self) -> Answer<'_, Beginning> {
        async move {
            let (newest, dropped) = match self.0.request(Request::SignHead).await? {
                Reply::Head { record, dropped } => (record, dropped),
                other => unreachable!("a head is asked for, and not {other:?}"),
            };
            let (trust, node) = (self.0.trust.clone(), self.0.shell().node());
            self.0
                .read(move |view, network| logs::beginning(view, network, &trust, &node, (&newest, dropped)))
                .await
        }
        .boxed()
    }

    fn audit_check(&self) -> Answer<'_, AuditChecked> {
        let node = self.0.shell().node();
        async move { self.0.read(move |view, _| logs::checked(view, &node)).await? }.boxed()
    }

    fn audit_heads(&self, of: Option<NodeId>) -> Answer<'_, AuditHeads> {
        self.0.read(move |view, network| logs::heads(view, network, of)).boxed()
    }

    fn audit_contradictions(&self) -> Answer<'_, Vec<AuditContradiction>> {
        self.0.read(|view, _| logs::contradictions(view)).boxed()
    }

    fn note(&self, note: Note) -> BoxFuture<'_, ()> {
        let entry = AuditEntry::new(note.event, note.code, note.detail);
        let entry = match note.address {
            Some(address) => entry.address(address),
            None => entry,
        };
        self.0.push(Message::Input(Input::Note(entry))).boxed()
    }

    fn compact(&self) -> Answer<'_, Compacted> {
        space::compact(&self.0).boxed()
    }

    fn back_up(&self, to: PathBuf) -> Answer<'_, BackedUp> {
        space::back_up(&self.0, to).boxed()
    }

    fn restoration(&self) -> Answer<'_, Option<Restoration>> {
        async move {
            match self.0.request(Request::Restoration).await? {
                Reply::Restoration(restoration) => Ok(restoration),
                other => unreachable!("what is waited for is asked, and not {other:?}"),
            }
        }
        .boxed()
    }

    fn leave_out(&self, gone: Awaited) -> Answer<'_, ()> {
        async move { self.0.request(Request::LeaveOut(gone)).await.map(drop) }.boxed()
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let connected: Vec<_> =
            self.0.peers().iter().map(|(node, peer)| (*node, peer.trust.clone())).collect();
        let mut all: Vec<PeerStatus> =
            connected.into_iter().map(|(node, trust)| PeerStatus { node, trust, connected: true }).collect();
        let own = self.0.shell().node();
        let network = self.network();
        for identity in network.nodes(network.time(time::now())) {
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
                ("heads", counts.heads),
            ];
            let kinds = kinds.into_iter().map(|(name, count)| (name.to_owned(), count));
            let waiting =
                counts.waiting.into_iter().map(|(trust, count)| (format!("waiting for {trust}"), count));
            Ok(kinds.chain(waiting).collect())
        }
        .boxed()
    }
}
