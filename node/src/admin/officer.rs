//! What the trust's records officer asks of the node: deletions, and holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use lanyard_crypto::record::{Reason, Target};
use lanyard_crypto::{ConversationId, Fingerprint, Timestamp};
use lanyard_replica::Deleter;
use lanyard_replica::hold::HoldView;
use serde::{Deserialize, Serialize};

use super::Admin;
use super::deletion::Deletion;
use super::routes::{Outcome, Refused, note_with, read, shown_deletion};
use crate::backend::{self, NewHold, SentDeletion, SomeDeleted, refusal};
use crate::time::{now, rfc3339};

/// Tombstones of one order: far more than any person has sent messages for.
const TOMBSTONES_MAX: usize = 100_000;

type Shared = State<Arc<Admin>>;

/// `POST /v1/deletions/conversation`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteConversationRequest {
    /// Which conversation.
    pub conversation: String,
    /// Messages up to when, in seconds since 1970; up to now if it is absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub up_to: Option<u64>,
    /// Why: a reason's name.
    pub reason: String,
    /// Who authorised it.
    pub reference: String,
}

/// `POST /v1/deletions/person`: exactly one of the first two is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeletePersonRequest {
    /// A professional registration.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub registration: Option<String>,
    /// Fingerprint of a device's certificate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device: Option<String>,
    /// Whether conversations that other trusts own are meant too.
    #[serde(default)]
    pub everywhere: bool,
    /// Why: a reason's name.
    pub reason: String,
    /// Who authorised it.
    pub reference: String,
}

/// The answer to [`DeletePersonRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PersonDeleted {
    /// Fingerprints of the person's devices.
    pub devices: Vec<String>,
    /// The tombstones, each for messages of one conversation.
    pub deletions: Vec<PersonDeletion>,
    /// How many messages they name.
    pub messages: usize,
}

/// One tombstone of [`PersonDeleted`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PersonDeletion {
    /// The tombstone record.
    pub tombstone: String,
    /// Of which conversation.
    pub conversation: String,
    /// How many messages it names.
    pub messages: usize,
}

/// `POST /v1/holds`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceHoldRequest {
    /// On which conversation.
    pub conversation: String,
    /// Under which reference.
    pub reference: String,
    /// Why.
    pub reason: String,
    /// Until when, in seconds since 1970.
    pub until: u64,
}

/// `POST /v1/holds/end`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndHoldRequest {
    /// On which conversation.
    pub conversation: String,
    /// Under which reference.
    pub reference: String,
}

/// A hold: `GET /v1/holds` gives a list, the other two calls the one that they are about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HoldShown {
    /// On which conversation.
    pub conversation: String,
    /// Under which reference.
    pub reference: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub placed: String,
    /// Until when.
    pub until: String,
    /// Whether it has ended, and what it kept is being erased.
    pub ending: bool,
    /// Envelopes that it keeps: deleted or expired, and out of everybody's reach.
    pub envelopes: u64,
    /// Deletions that wait for its end.
    pub deletions: u64,
}

impl From<HoldView> for HoldShown {
    fn from(hold: HoldView) -> Self {
        Self {
            conversation: hold.conversation.to_string(),
            reference: hold.reference,
            reason: hold.reason,
            placed: rfc3339(hold.placed),
            until: rfc3339(hold.until),
            ending: hold.ending,
            envelopes: hold.envelopes,
            deletions: hold.tombstones,
        }
    }
}

pub(super) fn router() -> Router<Arc<Admin>> {
    Router::new()
        .route("/v1/deletions/conversation", post(delete_conversation))
        .route("/v1/deletions/person", post(delete_person))
        .route("/v1/holds", get(holds).post(place_hold))
        .route("/v1/holds/end", post(end_hold))
}

async fn delete_conversation(State(admin): Shared, body: Body) -> Outcome<Deletion> {
    let request: DeleteConversationRequest = read(body).await?;
    let (conversation, reason) = (conversation(&request.conversation)?, reason(&request.reason)?);
    let owner = conversation.owner();
    if owner != admin.backend.trust() {
        let message = format!(
            "{owner} owns the conversation: its records officer deletes it there. What this trust's people sent to it, \
             delete by: lanyard-node delete person --everywhere"
        );
        return Err(refusal("not-owner", message).into());
    }
    let up_to = request.up_to.map_or_else(now, Timestamp::from_secs);
    if up_to > now() {
        return Err(refusal("out-of-bounds", "only what has been written can be deleted: up to now").into());
    }
    let reference = request.reference;
    let detail = format!(
        "the records officer orders the deletion of {conversation} up to {}, reference {reference}",
        rfc3339(up_to)
    );
    note_with(&admin, "deletion-ordered", reason.name(), detail).await;
    let (by, target, reference) = (Deleter::Officer, Target::UpTo(up_to), reference.into_bytes());
    let order = backend::Deletion { by, conversation, target, reason, reference };
    let tombstone = admin.backend.delete(order).await?;
    shown_deletion(&admin, tombstone).await
}

async fn delete_person(State(admin): Shared, body: Body) -> Outcome<PersonDeleted> {
    let request: DeletePersonRequest = read(body).await?;
    let reason = reason(&request.reason)?;
    let devices = devices(&admin, &request).await?;
    let listed: Vec<String> = devices.iter().map(ToString::to_string).collect();
    note_with(&admin, "deletion-ordered", reason.name(), person_detail(&request.reference, &listed)).await;
    let order =
        SentDeletion { devices, all: request.everywhere, reason, reference: request.reference.into_bytes() };
    let mut answer = PersonDeleted { devices: listed, deletions: Vec::new(), messages: 0 };
    // Each is carried out before the next is asked for, so that a crash between leaves nothing that asking again would not find.
    while let Some(SomeDeleted { tombstone, conversation, envelopes }) =
        admin.backend.delete_sent(order.clone()).await?
    {
        answer.messages += envelopes;
        answer.deletions.push(PersonDeletion {
            tombstone: tombstone.to_string(),
            conversation: conversation.to_string(),
            messages: envelopes,
        });
        if answer.deletions.len() == TOMBSTONES_MAX {
            break;
        }
    }
    Ok(Json(answer))
}

/// What the audit log says of the order. It is cut to what an entry holds, so that the list of devices comes last.
fn person_detail(reference: &str, devices: &[String]) -> String {
    format!(
        "reference {reference}: the records officer orders the deletion of what {} devices have sent: {}",
        devices.len(),
        devices.join(", ")
    )
}

/// The devices that a request names, by the register of this node, if it has it, and by the directory.
async fn devices(admin: &Admin, request: &DeletePersonRequest) -> Result<Vec<Fingerprint>, Refused> {
    match (&request.registration, &request.device) {
        (Some(registration), None) => {
            let mut found: BTreeSet<_> =
                admin.backend.devices_of(registration.clone()).await?.into_iter().collect();
            let registered = admin.registrar.iter().flat_map(|registrar| registrar.devices());
            let theirs = |c: &lanyard_crypto::x509::Certificate| {
                c.subject().registration.as_deref() == Some(registration.as_str())
            };
            found.extend(registered.map(|d| d.certificate).filter(theirs).map(|c| c.fingerprint()));
            if found.is_empty() {
                let message = format!(
                    "no device of this trust carries the registration {registration:?}: see lanyard-node staff list"
                );
                return Err(refusal("not-found", message).into());
            }
            Ok(found.into_iter().collect())
        }
        (None, Some(device)) => Ok(vec![device.parse().map_err(|e| refusal("malformed", format!("{e}")))?]),
        _ => Err(refusal("malformed", "one of `registration` and `device` is needed").into()),
    }
}

async fn holds(State(admin): Shared) -> Outcome<Vec<HoldShown>> {
    Ok(Json(admin.backend.holds().await?.into_iter().map(HoldShown::from).collect()))
}

async fn place_hold(State(admin): Shared, body: Body) -> Outcome<HoldShown> {
    let PlaceHoldRequest { conversation: id, reference, reason, until } = read(body).await?;
    let conversation = conversation(&id)?;
    let until = Timestamp::from_secs(until);
    admin
        .backend
        .place_hold(NewHold { conversation: conversation.clone(), reference, reason, until })
        .await?;
    shown(&admin, &conversation).await
}

async fn end_hold(State(admin): Shared, body: Body) -> Outcome<HoldShown> {
    let EndHoldRequest { conversation: id, reference } = read(body).await?;
    let conversation = conversation(&id)?;
    let Json(before) = shown(&admin, &conversation).await?;
    admin.backend.end_hold(conversation, reference).await?;
    Ok(Json(HoldShown { ending: true, ..before }))
}

async fn shown(admin: &Admin, conversation: &ConversationId) -> Outcome<HoldShown> {
    let found = admin.backend.holds().await?.into_iter().find(|hold| hold.conversation == *conversation);
    let found = found.ok_or_else(|| {
        refusal("not-found", format!("there is no hold on conversation {conversation} here"))
    })?;
    Ok(Json(found.into()))
}

fn conversation(text: &str) -> Result<ConversationId, Refused> {
    Ok(text.parse().map_err(|e| refusal("malformed", format!("{e}")))?)
}

fn reason(text: &str) -> Result<Reason, Refused> {
    let names = Reason::ALL.map(Reason::name).join(", ");
    let unknown = || refusal("malformed", format!("{text:?} is no reason; possible are {names}"));
    Ok(Reason::from_name(text).ok_or_else(unknown)?)
}

#[cfg(test)]
mod tests {
    use lanyard_replica::audit::AuditEntry;
    use lanyard_replica::limits::AUDIT_DETAIL_BYTES_MAX;

    use super::*;

    #[test]
    fn the_audit_log_names_the_reference_of_an_order_about_many_devices() {
        let devices: Vec<_> = (0..8).map(|n| Fingerprint::new([n; 32]).to_string()).collect();
        let detail = person_detail("DSR-41", &devices);
        assert!(detail.len() > AUDIT_DETAIL_BYTES_MAX, "so many do not fit");
        let kept = AuditEntry::new("deletion-ordered", "subject-request", detail).detail;
        assert!(kept.contains("reference DSR-41") && kept.contains("8 devices"), "{kept}");
    }
}
