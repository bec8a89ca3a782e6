//! What the trust's officers ask of the node about devices: wiping them, handing them to others, people who leave, and what has come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use lanyard_crypto::x509::Certificate;
use lanyard_crypto::{Fingerprint, Timestamp};
use serde::{Deserialize, Serialize};

use super::Admin;
use super::api::{InviteRequest, Invited};
use super::routes::{Outcome, Refused, blocking, check_invite, invited, note_with, read, registrar};
use crate::backend::refusal;
use crate::invitations::Invitee;
use crate::registrar::{Device, Registrar, RegistrarError};
use crate::time::{now, rfc3339};
use crate::wipes::{Order, REFERENCE_BYTES_MAX, Reason, Wipe};
use crate::wiping;

type Shared = State<Arc<Admin>>;

/// Whose devices: exactly one is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whose {
    /// Fingerprint of a device's certificate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device: Option<String>,
    /// A person's professional registration.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub registration: Option<String>,
    /// A person's exact name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}

/// `POST /v1/devices/wipe`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WipeRequest {
    /// Whose devices.
    pub whose: Whose,
    /// Why: a reason's name.
    pub reason: String,
    /// Who authorised it.
    pub reference: String,
}

/// `POST /v1/staff/leave`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaveRequest {
    /// Who, by registration or name.
    pub whose: Whose,
    /// Who authorised it.
    pub reference: String,
}

/// `POST /v1/devices/redeploy`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedeployRequest {
    /// Fingerprint of the device's certificate.
    pub device: String,
    /// Who authorised it.
    pub reference: String,
    /// Who gets it next.
    pub invite: InviteRequest,
}

/// What was wiped.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Wiped {
    /// Fingerprints of the devices' certificates.
    pub wiped: Vec<String>,
    /// Their holders' names, in the same order.
    pub names: Vec<String>,
    /// The record of the revocation list; absent if there was no device.
    pub record: Option<String>,
    /// Invitations that have ended with it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub invitations: Vec<String>,
}

/// The answer to [`RedeployRequest`]. It holds the secret code.
#[derive(Clone, Serialize, Deserialize)]
pub struct Redeployed {
    /// What was wiped.
    pub wiped: Wiped,
    /// The invitation of who gets the device next.
    pub invited: Invited,
}

/// `GET /v1/devices/report?device=FINGERPRINT`: devices that were wiped, oldest order first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    /// Fingerprint of the device's certificate.
    pub device: String,
    /// Its holder.
    pub name: String,
    /// Why: a reason's name.
    pub reason: String,
    /// Who authorised it; absent if nobody was named.
    pub reference: Option<String>,
    /// When its access ended; absent until the revocation list says so.
    pub access_ended: Option<String>,
    /// When the device had destroyed its vault, by its own clock and signature.
    pub wiped: Option<String>,
    /// When this node was told that.
    pub told: Option<String>,
    /// When this node last heard of the device, to the minute.
    pub last_seen: Option<String>,
    /// The device's receipt, in hexadecimal digits.
    pub receipt: Option<String>,
}

pub(super) fn router() -> Router<Arc<Admin>> {
    Router::new()
        .route("/v1/devices/wipe", post(wipe))
        .route("/v1/devices/redeploy", post(redeploy))
        .route("/v1/devices/report", get(report))
        .route("/v1/staff/leave", post(leave))
}

async fn wipe(State(admin): Shared, body: Body) -> Outcome<Wiped> {
    let WipeRequest { whose, reason, reference } = read(body).await?;
    let registrar = registrar(&admin)?;
    let order = Order { reason: reason_of(&reason)?, reference: Some(reference_of(reference)?) };
    let devices = found(&registrar, &whose)?;
    Ok(Json(carry_out(&admin, registrar, devices, order).await?))
}

async fn leave(State(admin): Shared, body: Body) -> Outcome<Wiped> {
    let LeaveRequest { whose, reference } = read(body).await?;
    if whose.device.is_some() {
        return Err(refusal("malformed", "a person leaves, by `registration` or `name`").into());
    }
    let order = Order { reason: Reason::Left, reference: Some(reference_of(reference)?) };
    let registrar = registrar(&admin)?;
    let leaving = chosen(&registrar, &whose)?;
    if let Some(name) = &whose.name {
        // Who is invited may be another person than who has the devices.
        let listing = registrar.clone();
        let kept = blocking(move || listing.invitations.list()).await?.map_err(RegistrarError::from)?;
        let theirs = kept.iter().filter(|kept| kept.invitee.name == *name && kept.is_open(now()));
        let devices = leaving.iter().map(|c| &c.subject().registration);
        one_person(name, devices.chain(theirs.map(|kept| &kept.invitee.registration)))?;
    }
    // The invitations first: a device that is enrolled with one meanwhile is among the devices afterwards.
    let (ending, person) = (registrar.clone(), whose.clone());
    let is_theirs = move |invitee: &Invitee| match (&person.registration, &person.name) {
        (Some(registration), _) => invitee.registration.as_ref() == Some(registration),
        (None, name) => Some(&invitee.name) == name.as_ref(),
    };
    let ended = blocking(move || ending.invitations.end(is_theirs, now())).await?;
    let invitations = ended.map_err(RegistrarError::from)?;
    let devices = chosen(&registrar, &whose)?;
    if devices.is_empty() && invitations.is_empty() {
        return Err(nobody());
    }
    if !invitations.is_empty() {
        let detail = format!("{} invitations have ended: {}", invitations.len(), invitations.join(", "));
        note_with(&admin, "invitations-ended", Reason::Left.name(), detail).await;
    }
    Ok(Json(Wiped { invitations, ..carry_out(&admin, registrar, devices, order).await? }))
}

async fn redeploy(State(admin): Shared, body: Body) -> Outcome<Redeployed> {
    let RedeployRequest { device, reference, invite } = read(body).await?;
    let registrar = registrar(&admin)?;
    let order = Order { reason: Reason::HandedOver, reference: Some(reference_of(reference)?) };
    let devices = chosen(&registrar, &Whose { device: Some(device), ..Whose::default() })?;
    // What is wrong with the invitation is said before anything is wiped.
    check_invite(&admin, &registrar, &invite).await?;
    let wiped = carry_out(&admin, registrar, devices, order).await?;
    Ok(Json(Redeployed { wiped, invited: invited(&admin, invite).await? }))
}

async fn carry_out(
    admin: &Admin,
    registrar: Arc<Registrar>,
    devices: Vec<Certificate>,
    order: Order,
) -> Result<Wiped, Refused> {
    let mut wiped = Wiped {
        wiped: devices.iter().map(|c| c.fingerprint().to_string()).collect(),
        names: devices.iter().map(|c| c.subject().common_name.clone()).collect(),
        ..Wiped::default()
    };
    if !devices.is_empty() {
        let record = wiping::wipe(&*admin.backend, registrar, devices, order).await?;
        wiped.record = Some(record.to_string());
    }
    Ok(wiped)
}

/// The devices that are meant, at least one: see [`chosen`].
pub(super) fn found(registrar: &Registrar, whose: &Whose) -> Result<Vec<Certificate>, Refused> {
    let devices = chosen(registrar, whose)?;
    if devices.is_empty() { Err(nobody()) } else { Ok(devices) }
}

/// The devices that are meant: one by its fingerprint, revoked or not, or a person's that are not.
fn chosen(registrar: &Registrar, whose: &Whose) -> Result<Vec<Certificate>, Refused> {
    let live = |fits: &dyn Fn(&Certificate) -> bool| -> Vec<Certificate> {
        let devices = registrar.devices().into_iter().filter(|d| d.revoked.is_none());
        devices.map(|d| d.certificate).filter(|c| fits(c)).collect()
    };
    match (&whose.device, &whose.registration, &whose.name) {
        (Some(device), None, None) => {
            let device: Fingerprint = device.parse().map_err(|e| refusal("malformed", format!("{e}")))?;
            Ok(vec![registrar.device(&device).ok_or_else(nobody)?.certificate])
        }
        (None, Some(registration), None) => {
            Ok(live(&|c: &Certificate| c.subject().registration.as_ref() == Some(registration)))
        }
        (None, None, Some(name)) => {
            let found = live(&|c: &Certificate| c.subject().common_name == *name);
            one_person(name, found.iter().map(|c| &c.subject().registration))?;
            Ok(found)
        }
        _ => Err(refusal("malformed", "one of `device`, `registration` and `name` is needed").into()),
    }
}

/// Refuses a name that several people have.
fn one_person<'a>(
    name: &str,
    registrations: impl Iterator<Item = &'a Option<String>>,
) -> Result<(), Refused> {
    let people = registrations.collect::<BTreeSet<_>>().len();
    if people > 1 {
        let message = format!(
            "{name:?} is the name of {people} people here; name one by --registration or --device: see lanyard-node staff list"
        );
        return Err(refusal("ambiguous", message).into());
    }
    Ok(())
}

fn nobody() -> Refused {
    refusal("not-found", "no such device was certified here, or it is wiped: see lanyard-node staff list")
        .into()
}

pub(super) fn reason_of(text: &str) -> Result<Reason, Refused> {
    let names = || Reason::ALL.map(Reason::name).join(", ");
    let unknown = || refusal("malformed", format!("{text:?} is no reason; possible are {}", names()));
    Ok(Reason::from_name(text).ok_or_else(unknown)?)
}

fn reference_of(text: String) -> Result<String, Refused> {
    match text.len() {
        1..=REFERENCE_BYTES_MAX if !text.chars().any(char::is_control) => Ok(text),
        _ => Err(refusal("out-of-bounds", "a reference of 1 to 64 bytes is needed").into()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    device: Option<String>,
}

async fn report(
    State(admin): Shared,
    which: Result<Query<Which>, QueryRejection>,
) -> Outcome<Vec<DeviceReport>> {
    let Query(Which { device }) = which.map_err(|e| refusal("malformed", e.to_string()))?;
    let device = device.map(|device| device.parse::<Fingerprint>()).transpose();
    let device = device.map_err(|e| refusal("malformed", e.to_string()))?;
    let registrar = registrar(&admin)?;
    let mut wipes = wipes(&registrar);
    if let Some(device) = device {
        wipes.retain(|(of, ..)| *of == device);
        if wipes.is_empty() {
            let message = format!("device {device} was not wiped here: see lanyard-node staff list");
            return Err(refusal("not-found", message).into());
        }
    }
    let seen = admin.backend.last_seen(wipes.iter().map(|(device, ..)| *device).collect()).await?;
    let shown = wipes.into_iter().zip(seen).map(|((device, certificate, ended, wipe), seen)| DeviceReport {
        device: device.to_string(),
        name: certificate.subject().common_name.clone(),
        reason: wipe.as_ref().map_or(Reason::Unspecified, |wipe| wipe.reason).name().into(),
        reference: wipe.as_ref().and_then(|wipe| wipe.reference.clone()),
        access_ended: ended.map(rfc3339),
        wiped: wipe.as_ref().and_then(|wipe| Some(rfc3339(wipe.confirmed.as_ref()?.wiped))),
        told: wipe.as_ref().and_then(|wipe| Some(rfc3339(wipe.confirmed.as_ref()?.told))),
        last_seen: seen.map(rfc3339),
        receipt: wipe.and_then(|wipe| Some(wipe.confirmed?.receipt)),
    });
    Ok(Json(shown.collect()))
}

type Told = (Fingerprint, Certificate, Option<Timestamp>, Option<Wipe>);

/// Every wipe, and every device that was revoked before there were any.
fn wipes(registrar: &Registrar) -> Vec<Told> {
    let known = registrar.devices().into_iter().map(|d| (d.certificate.fingerprint(), d));
    let mut known: BTreeMap<Fingerprint, Device> = known.collect();
    let ordered = registrar.wipes.all().into_iter().filter_map(|(device, wipe)| {
        // What a registrar before this one has certified was in its list.
        let certificate = wipe.certificate()?;
        let ended = known.remove(&device).map_or(Some(wipe.ordered), |known| known.revoked);
        Some((device, certificate, ended, Some(wipe)))
    });
    let ordered: Vec<Told> = ordered.collect();
    let earlier = known.into_iter().filter(|(_, known)| known.revoked.is_some());
    earlier.map(|(device, known)| (device, known.certificate, known.revoked, None)).chain(ordered).collect()
}
