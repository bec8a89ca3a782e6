//! The gateway's calls, one function each; bodies are the types of [`lanyard_crypto::gateway`]. What is
//! decided here is only what concerns HTTP, devices and the registrar: the rest is the engine's.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::routing::{get, post, put};
use axum::{Extension, Router};
use lanyard_crypto::gateway::{
    DeleteRequest, DeletionResponse, DirectoryResponse, EnrolRequest, EnrolResponse, ErasuresRequest,
    InboxResponse, KeyPackageRequest, REQUEST_BYTES_MAX, SeenRequest, SendRequest, SendResponse,
    TicksResponse, TrustResponse,
};
use lanyard_crypto::ids::to_hex;
use lanyard_crypto::limits::{CLOCK_SKEW_SECS_MAX, KEY_PACKAGE_BYTES_MAX, TOMBSTONE_TARGETS_MAX};
use lanyard_crypto::mls::key_package;
use lanyard_crypto::record::{Class, Target};
use lanyard_crypto::x509::Certificate;
use lanyard_crypto::{ConversationId, RecordId};
use lanyard_replica::Deleter;
use serde::Deserialize;
use serde_bytes::ByteBuf;

use super::body::{Cbor, Empty, Outcome, Refused, read};
use super::events::events;
use super::pin::Unlocked;
use super::session::{Device, Session};
use super::{Gateway, limits, pin, sign_in, stopped, wipe};
use crate::backend::{Deletion, Note};
use crate::invitations::InvitationError;
use crate::registrar::{Contact, Registrar, RegistrarError};
use crate::time::now;
use crate::wiping;

/// An opaque reference into the audit log, in bytes.
const REFERENCE_BYTES: usize = 16;

pub(super) type Shared = State<Arc<Gateway>>;

pub(super) fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/v1/enrol", post(enrol))
        .route("/v1/trust", get(trust))
        .route("/v1/key-package", put(key_package))
        .route("/v1/directory", get(directory))
        .route("/v1/envelopes", post(send))
        .route("/v1/envelopes/{id}", get(ticks))
        .route("/v1/inbox", get(inbox))
        .route("/v1/inbox/seen", post(seen))
        .route("/v1/events", get(events))
        .route("/v1/deletions", post(delete))
        .route("/v1/deletions/{id}", get(deletion))
        .route("/v1/erasures", post(erased))
        .route("/v1/conversations/{id}/leave", post(leave))
        .merge(pin::routes())
        .merge(wipe::routes())
        .merge(sign_in::routes())
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .with_state(gateway)
}

async fn nowhere() -> Refused {
    Refused::new("not-found", "there is no such path; see docs/reference/http.md")
}

async fn wrong_method() -> Refused {
    Refused::new("method", "this path has another method; see docs/reference/http.md")
}

/// Needs no device certificate: a device that was invited gets one.
async fn enrol(
    State(gateway): Shared,
    Extension(session): Extension<Arc<Session>>,
    body: Body,
) -> Outcome<EnrolResponse> {
    let request: EnrolRequest = read(body, limits::ENROL_BYTES_MAX).await?;
    let registrar = registrar(&gateway)?;
    let _turn = gateway.enrolment_turn()?;
    if gateway.backend.network().behind_secs(now()) > 0 {
        let detail = "an enrolment was put off: this machine's clock is behind (lanyard-node status)";
        gateway.note_refusal("enrol-refused", "clock-behind", detail, session.remote()).await;
        return Err(Refused::new(
            "clock-behind",
            "this node's clock is behind, so that it certifies nobody: the invitation is still good once the clock is set; tell your \
             trust's operator",
        ));
    }
    let (certificate, confirmed) = match certify(&registrar, request).await {
        Ok(certified) => certified,
        Err(refused) => {
            // Every device that signs in is told so first.
            if refused.0.code != "sign-in-needed" {
                gateway.note_enrolment_refusal(&refused, session.remote()).await;
            }
            return Err(refused);
        }
    };
    let network = gateway.backend.network();
    let entry =
        registrar.entry(network.id(), &certificate, Contact::None, now()).map_err(|e| internal(&e))?;
    // A device that enrols again with the same key has an entry already, perhaps a newer one.
    if network.chain(&certificate.fingerprint()).is_none() {
        gateway.backend.submit(entry).await?;
        let detail = sign_in::detail(&certificate.fingerprint().to_string(), &confirmed);
        gateway.backend.note(Note { event: "enrolled", code: "", detail, address: None }).await;
    }
    // The invitation may have named a device that this one replaces. What fails now is made up for by the registrar's next round.
    if let Err(error) = wiping::go_on(&*gateway.backend, registrar.clone()).await {
        tracing::error!(reason = error.message, "the device that was replaced is not wiped yet");
    }
    let chain = [certificate.der(), registrar.certificate().der()].map(ByteBuf::from).into();
    let charter = gateway.backend.trust_records(None).await?.charter;
    // Also to one whose answer was lost.
    let first_pin = pin::first(&gateway, certificate.fingerprint()).await?.to_bytes().to_vec();
    Ok(Cbor(EnrolResponse { chain, charter, first_pin }))
}

/// The certificate of who was invited, and has signed in where the trust asks for that.
async fn certify(
    registrar: &Arc<Registrar>,
    request: EnrolRequest,
) -> Result<(Certificate, sign_in::Confirmed), Refused> {
    let confirmed = sign_in::confirm(registrar, &request).await?;
    let (registrar, person) = (registrar.clone(), confirmed.as_ref().map(|(person, _)| person.clone()));
    let certified = blocking(move || {
        registrar.enrol(&request.invitation, &request.code, &request.request, person, now())
    });
    Ok((certified.await?.map_err(|error| enrolment_refusal(&error))?, confirmed))
}

#[derive(Deserialize)]
struct Version {
    version: Option<u64>,
}

async fn trust(
    State(gateway): Shared,
    _device: Device,
    query: Result<Query<Version>, QueryRejection>,
) -> Outcome<TrustResponse> {
    let Query(Version { version }) = query.map_err(|e| Refused::new("malformed", e.to_string()))?;
    let records = gateway.backend.trust_records(version).await?;
    let (review, patterns) = (gateway.review, gateway.patterns.clone());
    Ok(Cbor(TrustResponse { retention: gateway.retention, review, patterns, ..records }))
}

async fn key_package(
    State(gateway): Shared,
    Unlocked(device): Unlocked,
    body: Body,
) -> Result<Empty, Refused> {
    let request: KeyPackageRequest = read(body, KEY_PACKAGE_BYTES_MAX + limits::SMALL_BYTES_MAX).await?;
    let registrar = registrar(&gateway)?;
    if device.certificate.verify_signature(registrar.certificate()).is_err() {
        return Err(Refused::new(
            "other-registrar",
            "an earlier registrar certified this device: ask your trust's operator for a new invitation",
        ));
    }
    let network = gateway.backend.network();
    let package = request.key_package.clone();
    let at = network.time(now());
    let inspected = blocking(move || key_package::inspect(network, &package, at)).await?;
    let inspected = inspected
        .map_err(|error| Refused::new("key-package", format!("the key package is refused: {error}")))?;
    if inspected.device.fingerprint != device.fingerprint {
        return Err(Refused::new("key-package", "the key package is of another device"));
    }
    let contact = Contact::Device { key_package: request.key_package, available: request.available };
    let network = gateway.backend.network().id();
    // The latest issued is in force, so it must be later than the one of a device that has enrolled in this very second.
    let held = gateway.backend.entry(device.certificate.fingerprint()).await?;
    let issued = held.map_or(now(), |held| now().max(held.header().issued.plus_secs(1)));
    let entry = registrar.entry(network, &device.certificate, contact, issued);
    let entry = entry.map_err(|error| Refused::new("out-of-bounds", error.to_string()))?;
    gateway.backend.submit(entry).await?;
    Ok(Empty)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    #[serde(default)]
    q: String,
}

async fn directory(
    State(gateway): Shared,
    _device: Unlocked,
    query: Result<Query<Words>, QueryRejection>,
) -> Outcome<DirectoryResponse> {
    let Query(Words { q }) = query.map_err(malformed)?;
    if q.len() > limits::QUERY_BYTES_MAX {
        return Err(Refused::new(
            "out-of-bounds",
            format!("a query has at most {} bytes", limits::QUERY_BYTES_MAX),
        ));
    }
    Ok(Cbor(gateway.backend.directory(q).await?))
}

async fn send(State(gateway): Shared, Unlocked(device): Unlocked, body: Body) -> Outcome<SendResponse> {
    let request: SendRequest = read(body, REQUEST_BYTES_MAX).await?;
    // The device counts by its own clock. What is no message lives as long as the charter says.
    if let Some(retention_secs) = gateway.retention.secs_max
        && request.class == Class::Application
        && request.expires > now().plus_secs(retention_secs.saturating_add(CLOCK_SKEW_SECS_MAX))
    {
        let message = format!(
            "this trust keeps messages for at most {retention_secs} seconds; choose an earlier expiry"
        );
        return Err(Refused::new("retention", message));
    }
    Ok(Cbor(gateway.backend.send(device.fingerprint, request).await?))
}

async fn ticks(
    State(gateway): Shared,
    Unlocked(device): Unlocked,
    Path(id): Path<String>,
) -> Outcome<TicksResponse> {
    let found = gateway.backend.ticks(device.fingerprint, record_id(&id)?).await?;
    found.map(Cbor).ok_or_else(|| not_held("message", &id))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait: u64,
}

async fn inbox(
    State(gateway): Shared,
    device: Device,
    query: Result<Query<From>, QueryRejection>,
) -> Outcome<InboxResponse> {
    let Query(From { after, wait }) = query.map_err(malformed)?;
    let mut news = gateway.backend.inbox_events(device.fingerprint);
    let mut stop = gateway.stop.clone();
    let page = gateway.backend.inbox(device.fingerprint, after).await?;
    if !page.items.is_empty() || wait == 0 {
        return Ok(Cbor(page));
    }
    let wait = Duration::from_secs(wait.min(limits::WAIT_SECS_MAX));
    let newer = news.wait_for(|seq| *seq > after);
    // Whichever comes first: what is there then is the answer, be it nothing.
    tokio::select! {
        _ = newer => {}
        () = stopped(&mut stop) => {}
        () = tokio::time::sleep(wait) => {}
    }
    Ok(Cbor(gateway.backend.inbox(device.fingerprint, after).await?))
}

async fn seen(State(gateway): Shared, Unlocked(device): Unlocked, body: Body) -> Result<Empty, Refused> {
    let SeenRequest { seq } = read(body, limits::SMALL_BYTES_MAX).await?;
    gateway.backend.seen(device.fingerprint, seq).await?;
    Ok(Empty)
}

async fn delete(State(gateway): Shared, Unlocked(device): Unlocked, body: Body) -> Outcome<DeletionResponse> {
    let DeleteRequest { conversation, mut envelopes, reason, all } =
        read(body, limits::DELETION_BYTES_MAX).await?;
    envelopes.sort();
    envelopes.dedup();
    if envelopes.is_empty() != all || envelopes.len() > TOMBSTONE_TARGETS_MAX {
        let message =
            format!("1 to {TOMBSTONE_TARGETS_MAX} messages can be deleted at once, or all of a conversation");
        return Err(Refused::new("out-of-bounds", message));
    }
    let (by, target) = match all {
        true => (Deleter::Administrator(device.fingerprint), Target::UpTo(now())),
        false => (Deleter::Device(device.fingerprint), Target::Envelopes(envelopes)),
    };
    // All nodes of the network see the tombstone: what it says of who authorised it must mean something here alone.
    let mut reference = vec![0; REFERENCE_BYTES];
    getrandom::fill(&mut reference).map_err(|error| internal(&error))?;
    let whole = if all { " of a whole conversation" } else { "" };
    let detail = format!("device {} orders deletion {}{whole}", device.fingerprint, to_hex(&reference));
    let note = Note { event: "deletion-ordered", code: reason.name(), detail, address: None };
    gateway.backend.note(note).await;
    let order = Deletion { by, conversation, target, reason, reference };
    let tombstone = gateway.backend.delete(order).await?;
    let found = gateway.backend.deletion(tombstone).await?;
    found.map(Cbor).ok_or_else(|| not_held("deletion", &tombstone.to_string()))
}

async fn deletion(
    State(gateway): Shared,
    Unlocked(device): Unlocked,
    Path(id): Path<String>,
) -> Outcome<DeletionResponse> {
    let found = gateway.backend.deletion_for(device.fingerprint, record_id(&id)?).await?;
    found.map(Cbor).ok_or_else(|| not_held("deletion", &id))
}

async fn erased(State(gateway): Shared, Unlocked(device): Unlocked, body: Body) -> Result<Empty, Refused> {
    let ErasuresRequest { lines } = read(body, limits::ERASURES_BYTES_MAX).await?;
    gateway.backend.erased(device.fingerprint, lines).await?;
    Ok(Empty)
}

async fn leave(
    State(gateway): Shared,
    Unlocked(device): Unlocked,
    Path(id): Path<String>,
) -> Result<Empty, Refused> {
    let conversation: ConversationId = id.parse().map_err(malformed)?;
    gateway.backend.leave(device.fingerprint, conversation).await?;
    Ok(Empty)
}

pub(super) fn registrar(gateway: &Gateway) -> Result<Arc<Registrar>, Refused> {
    gateway.registrar.clone().ok_or_else(|| {
        Refused::new(
            "no-registrar",
            "this node does not hold the registrar's key; use the trust's node that enrols",
        )
    })
}

pub(super) fn enrolment_refusal(error: &RegistrarError) -> Refused {
    match error {
        RegistrarError::Invitation(InvitationError::Used) => {
            Refused::new("invitation-used", error.to_string())
        }
        RegistrarError::Invitation(
            InvitationError::Wrong | InvitationError::Expired | InvitationError::TooManyTries,
        ) => Refused::new("invitation", error.to_string()),
        RegistrarError::Request(_) => Refused::new("malformed", error.to_string()),
        RegistrarError::Issue(_) | RegistrarError::Full | RegistrarError::NotReplaced(..) => {
            Refused::new("cannot-certify", error.to_string())
        }
        other => internal(other),
    }
}

/// The operator's log has the reason; a stranger is not told about this machine's disk.
pub(super) fn internal(error: &dyn std::error::Error) -> Refused {
    tracing::error!(%error, "a request failed on this node");
    Refused::new("internal", "the node could not do it; its operator finds the reason in its log")
}

pub(super) fn malformed(error: impl std::fmt::Display) -> Refused {
    Refused::new("malformed", error.to_string())
}

fn record_id(text: &str) -> Result<RecordId, Refused> {
    text.parse().map_err(malformed)
}

fn not_held(what: &str, id: &str) -> Refused {
    Refused::new("not-found", format!("{what} {id} is not held here"))
}

/// Runs what blocks on the disk beside the asynchronous threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|error| internal(&error))
}
