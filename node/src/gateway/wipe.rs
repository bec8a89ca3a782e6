//! What a device that was wiped asks as a stranger, since its certificate does not get through TLS any more: for the list that says so, and
//! to hand in its receipt. Neither is answered with anything that is not public.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Extension, Router};
use lanyard_crypto::Fingerprint;
use lanyard_crypto::gateway::{RevocationsResponse, WipedRequest};
use lanyard_crypto::record::WipeReceipt;

use super::body::{Cbor, Empty, Outcome, Refused, read};
use super::routes::{Shared, blocking, internal, malformed, registrar};
use super::session::Session;
use super::{Gateway, limits};
use crate::backend::Note;
use crate::registrar::RegistrarError;
use crate::time::now;
use crate::wipes::WipeError;

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new().route("/v1/revocations/{registrar}", get(revocations)).route("/v1/wipes", post(wiped))
}

async fn revocations(State(gateway): Shared, Path(registrar): Path<String>) -> Outcome<RevocationsResponse> {
    let registrar: Fingerprint = registrar.parse().map_err(malformed)?;
    let network = gateway.backend.network();
    let list = network.revocation_list(&registrar);
    let list = list.ok_or_else(|| Refused::new("not-found", "no list of this registrar is held here"))?;
    Ok(Cbor(RevocationsResponse { list: list.der().to_vec() }))
}

async fn wiped(
    State(gateway): Shared,
    Extension(session): Extension<Arc<Session>>,
    body: Body,
) -> Result<Empty, Refused> {
    let WipedRequest { receipt } = read(body, limits::SMALL_BYTES_MAX).await?;
    let receipt = WipeReceipt::from_bytes(&receipt).map_err(malformed)?;
    let registrar = registrar(&gateway)?;
    let device = receipt.device();
    let detail = format!(
        "device {device} has signed that it destroyed what it kept at {}",
        crate::time::rfc3339(receipt.wiped())
    );
    match blocking(move || registrar.confirm(&receipt, now())).await? {
        Ok(true) => {
            let note = Note { event: "device-wiped", code: "", detail, address: None };
            gateway.backend.note(note).await;
            Ok(Empty)
        }
        // Its answer was lost.
        Ok(false) => Ok(Empty),
        Err(RegistrarError::Wipe(error @ (WipeError::Unknown | WipeError::NotSigned))) => {
            let detail = format!("a receipt for a wipe was refused: {error}");
            gateway.note_refusal("wipe-refused", "wipe", &detail, session.remote()).await;
            Err(Refused::new("bad-receipt", error.to_string()))
        }
        Err(other) => Err(internal(&other)),
    }
}
