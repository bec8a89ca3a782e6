//! The calls on the operator's socket.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use lanyard_crypto::gateway::{Invitation, Refusal};
use lanyard_crypto::ids::to_hex;
use lanyard_crypto::limits::HANDSHAKE_RECORD_BYTES_MAX;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::Decoded;
use lanyard_crypto::x509::Certificate;
use lanyard_crypto::{Fingerprint, NodeId, RecordId, Timestamp};
use lanyard_replica::query::Overdue;
use lanyard_replica::restored::Awaited;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::api::{
    Audit, BackedUp, BackupRequest, Compacted, DeviceView, FinishRequest, Finished, Held, Imported,
    InvitationView, InviteRequest, Invited, NetworkStatus, OverdueReplica, Peer, Restored, RevokeAnswer,
    RevokeRequest, Staff, Status,
};
use super::deletion::Deletion;
use super::devices::Whose;
use super::{Admin, devices, metrics, officer};
use crate::address::{node_of, peer_id};
use crate::audit_export::Beginning;
use crate::backend::{AuditChecked, AuditHeads, Note, refusal};
use crate::invitations::{Invitee, Kept};
use crate::registrar::{Device, Registrar, RegistrarError};
use crate::time::{DAY_SECS, now, rfc3339};
use crate::wipes::Order;
use crate::wiping;

/// A certificate or charter that ends within this time is worth a warning.
const SOON_SECS: u64 = 21 * DAY_SECS;
const REQUEST_BYTES_MAX: usize = 64 * 1024;
const AUDIT_LINES_MAX: usize = 1000;
const HOURS_MAX: u64 = 720;

type Shared = State<Arc<Admin>>;
pub(super) type Outcome<T> = Result<Json<T>, Refused>;

pub(super) struct Refused(Refusal);

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<RegistrarError> for Refused {
    fn from(error: RegistrarError) -> Self {
        Self(refusal("registrar", error.to_string()))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status =
            if self.0.code == "not-found" { StatusCode::NOT_FOUND } else { StatusCode::UNPROCESSABLE_ENTITY };
        (status, Json(self.0)).into_response()
    }
}

pub(super) fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/staff", get(staff))
        .route("/v1/staff/invitations", post(invite))
        .route("/v1/staff/revocations", post(revoke))
        .route("/v1/deletions", get(deletions))
        .route("/v1/deletions/{id}", get(deletion))
        .route("/v1/deletions-report", get(deletions_report))
        .route("/metrics", get(metric_text))
        .route("/v1/audit", get(audit))
        .route("/v1/audit/chain", get(audit_chain))
        .route("/v1/audit/verify", get(audit_check))
        .route("/v1/audit/heads", get(audit_heads))
        .route("/v1/compact", post(compact))
        .route("/v1/backup", post(back_up))
        .route("/v1/restore/finish", post(finish_restore))
        .route("/v1/records", post(import))
        .route("/v1/records/{id}", get(held))
        .merge(officer::router())
        .merge(devices::router())
        .fallback(async || Refused(refusal("not-found", "there is no such path")))
        .with_state(admin)
}

async fn status(State(admin): Shared) -> Outcome<Status> {
    let (network, now) = (admin.backend.network(), now());
    let peers = admin.backend.peers().into_iter().map(|peer| Peer {
        peer_id: peer_id(&peer.node),
        trust: peer.trust.to_string(),
        connected: peer.connected,
    });
    let mut warnings = Vec::new();
    let mut soon = |what: &str, ends: Timestamp| {
        if ends < network.time(now) {
            warnings.push(format!("{what} expired at {}", rfc3339(ends)));
        } else if ends < network.time(now).plus_secs(SOON_SECS) {
            warnings.push(format!("{what} expires at {}", rfc3339(ends)));
        }
    };
    soon("this node's certificate", admin.certificate.not_after());
    soon("the charter", network.expires());
    if let Some(registrar) = &admin.registrar {
        soon("the registrar's certificate", registrar.certificate().not_after());
    }
    if network.behind_secs(now) > 0 {
        warnings.push(format!(
            "this machine's clock is behind {}, which more than half of the other trusts have signed: who is let in is judged by that, and \
             nothing is ordered or certified; compare it with another clock first: if it is wrong, set the clock (check the machine's time \
             service); if this machine's clock is right, tell the other trusts, and restart this node once theirs are",
            rfc3339(network.floor())
        ));
    }
    match admin.backend.refusals_lost() {
        0 => {}
        lost => warnings.push(format!("{lost} refused peers since the start came too fast to be logged")),
    }
    let spent = admin.backend.spent_pins(admin.started).await?;
    let is_known =
        |device: &Fingerprint| admin.registrar.as_ref().is_some_and(|known| known.device(device).is_some());
    warnings.extend(spent.iter().filter(|device| !is_known(device)).map(wiping::needed));
    for found in admin.backend.audit_contradictions().await? {
        let (trust, node, code, detail) = (found.trust, found.peer_id, found.code, found.detail);
        warnings
            .push(format!("the audit log of {trust}, node {node}: {code}: {detail} (found {})", found.found));
    }
    let overdue = admin.backend.overdue().await?;
    if let [first, ..] = &overdue[..] {
        let (count, trust) = (overdue.len(), &first.trust);
        let what = format!(
            "{count} confirmations of deletions are overdue, the first by {trust}: see lanyard-node deletions"
        );
        warnings.push(what);
    }
    let restored = admin.backend.restoration().await?.map(|restoration| Restored {
        since: rfc3339(restoration.since),
        serves: restoration.serves,
        waiting_for: names(&restoration.waiting_for),
    });
    if let Some(restored) = &restored {
        let waiting_for = restored.waiting_for.join(" ");
        let lacks =
            if restored.serves { "takes no changes of its own conversations" } else { "serves no messages" };
        warnings.push(format!(
            "this node was restored, or found out that its store was lost, at {}, and {lacks} until it has compared with: {waiting_for}",
            restored.since
        ));
    }
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        trust: admin.backend.trust().to_string(),
        peer_id: peer_id(&NodeId::new(*admin.certificate.public_key())),
        started: rfc3339(admin.started),
        clock_behind_secs: network.behind_secs(now),
        certificate_expires: rfc3339(admin.certificate.not_after()),
        registrar: admin.registrar.is_some(),
        network: NetworkStatus {
            id: network.id().to_string(),
            name: network.charter().name.clone(),
            charter_version: network.charter().version,
            charter_expires: rfc3339(network.expires()),
            members: network.charter().trusts.iter().map(|m| m.trust.to_string()).collect(),
        },
        peers: peers.collect(),
        overdue: overdue.iter().map(overdue_replica).collect(),
        restored,
        stored: admin.backend.counts().await?.into_iter().collect::<BTreeMap<_, _>>(),
        warnings,
    }))
}

fn overdue_replica(overdue: &Overdue) -> OverdueReplica {
    OverdueReplica {
        tombstone: overdue.tombstone.to_string(),
        trust: overdue.trust.to_string(),
        peer_id: overdue.node.as_ref().map(peer_id),
        since: rfc3339(overdue.since),
    }
}

async fn invite(State(admin): Shared, body: Body) -> Outcome<Invited> {
    Ok(Json(invited(&admin, read(body).await?).await?))
}

/// Refuses what cannot be invited, before anything is done for it.
pub(super) async fn check_invite(
    admin: &Admin,
    registrar: &Arc<Registrar>,
    request: &InviteRequest,
) -> Result<(), Refused> {
    let InviteRequest { invitee, hours } = request.clone();
    own_root(admin)?;
    if !(1..=HOURS_MAX).contains(&hours) {
        return Err(
            refusal("out-of-bounds", format!("`hours` is {hours}; 1 to {HOURS_MAX} are possible")).into()
        );
    }
    if admin.backend.network().behind_secs(now()) > 0 {
        let why = "this machine's clock is behind that of the other trusts, and the invitation would end at a wrong time: set the clock \
                   (lanyard-node status), then invite again";
        return Err(refusal("clock-behind", why).into());
    }
    let registrar = registrar.clone();
    Ok(blocking(move || registrar.check_invitee(&invitee, now())).await??)
}

fn own_root(admin: &Admin) -> Result<Fingerprint, Refused> {
    let trust = admin.backend.trust();
    let root = admin.backend.network().root(trust).map(Certificate::fingerprint);
    Ok(root.ok_or_else(|| refusal("unknown-trust", format!("{trust} is not in the charter any more")))?)
}

/// Makes an invitation.
pub(super) async fn invited(admin: &Admin, request: InviteRequest) -> Result<Invited, Refused> {
    let registrar = registrar(admin)?;
    check_invite(admin, &registrar, &request).await?;
    let InviteRequest { invitee, hours } = request;
    let (trust, root) = (admin.backend.trust().clone(), own_root(admin)?);
    let name = invitee.name.clone();
    let made = blocking(move || registrar.invitations.make(invitee, hours * 3600, now()));
    let made = made.await?.map_err(RegistrarError::from)?;
    let line = Invitation {
        trust,
        root,
        address: admin.public_address.clone(),
        id: made.id.clone(),
        code: made.code.to_vec(),
    };
    note(admin, "invited", format!("invitation {} was made", to_hex(&made.id))).await;
    Ok(Invited { invitation: line.to_line(), id: to_hex(&made.id), name, expires: rfc3339(made.expires) })
}

#[derive(Deserialize)]
struct Which {
    #[serde(default)]
    earlier: bool,
}

async fn staff(State(admin): Shared, which: Result<Query<Which>, QueryRejection>) -> Outcome<Staff> {
    let Query(Which { earlier }) = which.map_err(|e| refusal("malformed", e.to_string()))?;
    let registrar = registrar(&admin)?;
    let found = blocking(move || {
        let devices = if earlier { registrar.to_invite_again(now())? } else { registrar.devices() };
        Ok::<_, RegistrarError>((devices, registrar.invitations.list()?))
    });
    let (devices, invitations) = found.await??;
    let at = admin.backend.network().time(now());
    Ok(Json(Staff {
        devices: devices.iter().map(device_view).collect(),
        invitations: invitations.iter().map(|kept| invitation_view(kept, at)).collect(),
    }))
}

async fn revoke(State(admin): Shared, body: Body) -> Outcome<RevokeAnswer> {
    let request: RevokeRequest = read(body).await?;
    let registrar = registrar(&admin)?;
    let reason = devices::reason_of(&request.reason)?;
    let certificates = chosen(&registrar, request)?;
    let (revoked, names) =
        certificates.iter().map(|c| (c.fingerprint().to_string(), c.subject().common_name.clone())).unzip();
    let id = wiping::wipe(&*admin.backend, registrar, certificates, Order::because(reason)).await?;
    Ok(Json(RevokeAnswer { revoked, names, record: id.to_string() }))
}

async fn deletions(State(admin): Shared) -> Outcome<Vec<Deletion>> {
    Ok(Json(admin.backend.deletions().await?))
}

async fn deletion(State(admin): Shared, Path(id): Path<String>) -> Outcome<Deletion> {
    let id = id.parse().map_err(|e| refusal("malformed", format!("{e}")))?;
    shown_deletion(&admin, id).await
}

pub(super) async fn shown_deletion(admin: &Admin, id: RecordId) -> Outcome<Deletion> {
    let found = admin.backend.deletion(id).await?;
    let found = found.ok_or_else(|| refusal("not-found", format!("deletion {id} is not held here")))?;
    let mut network = Network::clone(&admin.backend.network());
    let shown = blocking(move || Deletion::of(&found, &mut network, now())).await?;
    Ok(Json(shown.map_err(|why| refusal("damaged", format!("deletion {id}: {why}")))?))
}

async fn deletions_report(State(admin): Shared) -> Result<String, Refused> {
    Ok(admin.backend.deletions_report().await?)
}

/// For a scraper that is allowed to open the socket, such as one of the node's own user.
async fn metric_text(State(admin): Shared) -> Result<Response, Refused> {
    let (counts, overdue) = (admin.backend.counts().await?, admin.backend.overdue().await?);
    let network = admin.backend.network();
    let text = metrics::text(&admin.backend.peers(), &counts, &overdue, &admin.certificate, &network);
    let text = text.map_err(|e| refusal("internal", e.to_string()))?;
    Ok(([(CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response())
}

#[derive(Deserialize)]
struct Page {
    after: Option<u64>,
    limit: Option<usize>,
}

async fn audit(State(admin): Shared, page: Result<Query<Page>, QueryRejection>) -> Outcome<Audit> {
    let Query(Page { after, limit }) = page.map_err(|e| refusal("malformed", e.to_string()))?;
    let limit = limit.unwrap_or(AUDIT_LINES_MAX).min(AUDIT_LINES_MAX);
    Ok(Json(Audit { entries: admin.backend.audit(after, limit).await? }))
}

async fn audit_chain(State(admin): Shared) -> Outcome<Beginning> {
    Ok(Json(admin.backend.audit_chain().await?))
}

async fn audit_check(State(admin): Shared) -> Outcome<AuditChecked> {
    Ok(Json(admin.backend.audit_check().await?))
}

/// Of whose log.
#[derive(Deserialize)]
struct WhoseLog {
    peer_id: Option<String>,
}

async fn audit_heads(
    State(admin): Shared,
    whose: Result<Query<WhoseLog>, QueryRejection>,
) -> Outcome<AuditHeads> {
    let Query(WhoseLog { peer_id }) = whose.map_err(|e| refusal("malformed", e.to_string()))?;
    let node = |id: String| node_of(&id).ok_or_else(|| refusal("malformed", format!("{id} is no peer id")));
    Ok(Json(admin.backend.audit_heads(peer_id.map(node).transpose()?).await?))
}

async fn held(State(admin): Shared, Path(id): Path<String>) -> Outcome<Held> {
    let id: RecordId = id.parse().map_err(|e| refusal("malformed", format!("{e}")))?;
    let bytes = admin.backend.record(id).await?;
    let bytes = bytes.ok_or_else(|| refusal("not-found", format!("record {id} is not held here")))?;
    let record = Decoded::from_bytes(&bytes).map_err(|e| refusal("damaged", format!("record {id}: {e}")))?;
    Ok(Json(Held::from(&record)))
}

async fn import(State(admin): Shared, body: Body) -> Outcome<Imported> {
    let bytes = bytes(body, HANDSHAKE_RECORD_BYTES_MAX).await?;
    let record = Decoded::from_bytes(&bytes).map_err(|e| refusal("malformed", e.to_string()))?;
    let imported = Imported { id: record.id().to_string(), kind: record.body().kind().name().into() };
    admin.backend.submit(record).await?;
    note(&admin, "imported", format!("the operator imported {} {}", imported.kind, imported.id)).await;
    Ok(Json(imported))
}

async fn compact(State(admin): Shared) -> Outcome<Compacted> {
    let lanyard_storage::Compacted { before_bytes, after_bytes, live_bytes } =
        admin.backend.compact().await?;
    Ok(Json(Compacted { before_bytes, after_bytes, live_bytes }))
}

async fn back_up(State(admin): Shared, body: Body) -> Outcome<BackedUp> {
    let BackupRequest { to } = read(body).await?;
    if !to.is_absolute() || to.file_name().is_none() {
        return Err(refusal("malformed", "the whole path of a directory is needed").into());
    }
    let bytes = admin.backend.back_up(to.clone()).await?.bytes;
    Ok(Json(BackedUp { to, bytes }))
}

async fn finish_restore(State(admin): Shared, body: Body) -> Outcome<Finished> {
    let FinishRequest { without } = read(body).await?;
    let gone = match node_of(&without) {
        Some(node) => Awaited::Node(node),
        None => Awaited::Trust(without.parse().map_err(|e| refusal("malformed", format!("{e}")))?),
    };
    let waiting_for = match admin.backend.restoration().await? {
        None => return Err(refusal("not-found", "this node waits for nobody: it serves").into()),
        Some(restoration) => restoration.waiting_for,
    };
    admin.backend.leave_out(gone).await.map_err(|why| match why.code.as_str() {
        "not-found" => {
            let waiting_for = names(&waiting_for).join(" ");
            refusal("not-found", format!("this node does not wait for {without}, but for: {waiting_for}"))
        }
        _ => why,
    })?;
    let left = admin.backend.restoration().await?;
    Ok(Json(Finished { waiting_for: left.map_or_else(Vec::new, |left| names(&left.waiting_for)) }))
}

/// ODS codes of trusts, and peer ids of nodes.
fn names(awaited: &[Awaited]) -> Vec<String> {
    let name = |awaited: &Awaited| match awaited {
        Awaited::Trust(trust) => trust.to_string(),
        Awaited::Node(node) => peer_id(node),
    };
    awaited.iter().map(name).collect()
}

pub(super) fn registrar(admin: &Admin) -> Result<Arc<Registrar>, Refused> {
    let registrar = admin.registrar.clone();
    Ok(registrar.ok_or_else(|| {
        refusal("no-registrar", "this node does not hold the registrar's key; ask the trust's node that does")
    })?)
}

/// The certificates that a request names; at least one.
fn chosen(registrar: &Registrar, request: RevokeRequest) -> Result<Vec<Certificate>, Refused> {
    let RevokeRequest { device, name, certificate, reason: _ } = request;
    match (certificate, device.is_none() && name.is_none()) {
        (None, _) => devices::found(registrar, &Whose { device, name, registration: None }),
        (Some(pem), true) => {
            Ok(vec![Certificate::from_pem(&pem).map_err(|e| refusal("malformed", e.to_string()))?])
        }
        (Some(_), false) => {
            Err(refusal("malformed", "one of `device`, `name` and `certificate` is needed").into())
        }
    }
}

fn device_view(device: &Device) -> DeviceView {
    let subject = device.certificate.subject();
    DeviceView {
        fingerprint: device.certificate.fingerprint().to_string(),
        name: subject.common_name.clone(),
        role: subject.title.clone(),
        department: subject.department.clone(),
        registration: subject.registration.clone(),
        since: rfc3339(device.certificate.not_before()),
        expires: rfc3339(device.certificate.not_after()),
        revoked: device.revoked.map(rfc3339),
    }
}

fn invitation_view(kept: &Kept, at: Timestamp) -> InvitationView {
    let Invitee { name, checked_by, .. } = kept.invitee.clone();
    let state = match kept {
        Kept { used_by: Some(_), .. } => "used",
        Kept { tries_left: 0, .. } => "blocked",
        kept if at >= kept.expires => "expired",
        _ => "open",
    };
    InvitationView {
        id: kept.id.clone(),
        name,
        checked_by,
        made: rfc3339(kept.made),
        expires: rfc3339(kept.expires),
        state: state.into(),
        tries_left: kept.tries_left,
    }
}

async fn note(admin: &Admin, event: &'static str, detail: String) {
    note_with(admin, event, "", detail).await;
}

pub(super) async fn note_with(admin: &Admin, event: &'static str, code: &'static str, detail: String) {
    admin.backend.note(Note { event, code, detail, address: None }).await;
}

pub(super) async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Refused> {
    let bytes = bytes(body, REQUEST_BYTES_MAX).await?;
    Ok(serde_json::from_slice(&bytes).map_err(|e| refusal("malformed", e.to_string()))?)
}

async fn bytes(body: Body, max: usize) -> Result<axum::body::Bytes, Refused> {
    let read = to_bytes(body, max).await;
    Ok(read.map_err(|_| refusal("too-large", format!("the body is more than {max} bytes, or was cut off")))?)
}

/// Runs what blocks on the disk beside the asynchronous threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|e| refusal("internal", e.to_string()))?)
}
