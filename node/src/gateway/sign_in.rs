//! A sign-in with the trust's identity provider, as part of an enrolment (`identity_provider`).

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Router};
use lanyard_crypto::gateway::{EnrolRequest, SignInRequest, SignInResponse};

use super::body::{Cbor, Outcome, Refused, read};
use super::routes::{Shared, blocking, enrolment_refusal, registrar};
use super::session::Session;
use super::{Gateway, limits};
use crate::identity_provider::{ClaimError, Evidence, SignInError};
use crate::invitations::Invitee;
use crate::registrar::{Registrar, RegistrarError};
use crate::time::now;

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new().route("/v1/enrol/sign-in", post(begin))
}

/// Who has signed in, as their certificate will say, and what shows it; none where the trust asks for no sign-in.
pub(super) type Confirmed = Option<(Invitee, Evidence)>;

async fn begin(
    State(gateway): Shared,
    Extension(session): Extension<Arc<Session>>,
    body: Body,
) -> Outcome<SignInResponse> {
    let SignInRequest { invitation, code, port } = read(body, limits::SMALL_BYTES_MAX).await?;
    let registrar = registrar(&gateway)?;
    let Some(provider) = &registrar.identity_provider else {
        return Err(Refused::new(
            "no-identity-provider",
            "this trust asks for no sign-in: enrol with the invitation alone",
        ));
    };
    let _turn = gateway.enrolment_turn()?;
    if let Err(refused) = invited(&registrar, &invitation, &code).await {
        return Err(note(&gateway, &session, refused).await);
    }
    match provider.begin(&invitation, port, now()).await {
        Ok(begun) => Ok(Cbor(begun)),
        Err(error) => Err(note(&gateway, &session, sign_in_refusal(&error)).await),
    }
}

/// Ends the sign-in that goes with an enrolment. The invitation is only looked at, so that it still works if this fails.
pub(super) async fn confirm(
    registrar: &Arc<Registrar>,
    request: &EnrolRequest,
) -> Result<Confirmed, Refused> {
    let (provider, signed_in) = match (&registrar.identity_provider, &request.sign_in) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(sign_in_refusal(&SignInError::Unknown)),
        (Some(_), None) => {
            let message = "this trust asks for a sign-in with its identity provider; enrol with a version of lanyard that has it";
            return Err(Refused::new("sign-in-needed", message));
        }
        (Some(provider), Some(signed_in)) => (provider, signed_in),
    };
    let invited = invited(registrar, &request.invitation, &request.code).await?;
    let confirmed = provider.complete(&request.invitation, &invited, signed_in).await;
    let (person, evidence) = confirmed.map_err(|error| sign_in_refusal(&error))?;
    // The provider's words go into the certificate: whether they can is found before the invitation is used.
    let (registrar, checked) = (registrar.clone(), Invitee { replaces: None, ..person.clone() });
    blocking(move || registrar.check_invitee(&checked, now()))
        .await?
        .map_err(|error| enrolment_refusal(&error))?;
    Ok(Some((person, evidence)))
}

/// For the audit log. The staff number stands here, and in no certificate.
pub(super) fn detail(device: &str, confirmed: &Confirmed) -> String {
    let Some((person, evidence)) = confirmed else {
        return format!("device {device} was certified");
    };
    let number =
        person.staff_number.as_ref().map(|number| format!(", staff number {number}")).unwrap_or_default();
    format!("device {device} was certified: {evidence}{number}")
}

async fn invited(registrar: &Arc<Registrar>, invitation: &[u8], code: &[u8]) -> Result<Invitee, Refused> {
    let (registrar, invitation, code) = (registrar.clone(), invitation.to_vec(), code.to_vec());
    let checked = blocking(move || registrar.invitations.check(&invitation, &code, now())).await?;
    checked.map_err(|error| enrolment_refusal(&RegistrarError::Invitation(error)))
}

async fn note(gateway: &Gateway, session: &Session, refused: Refused) -> Refused {
    gateway.note_enrolment_refusal(&refused, session.remote()).await;
    refused
}

fn sign_in_refusal(error: &SignInError) -> Refused {
    let code = match error {
        SignInError::Unknown | SignInError::NotConfirmed(_) => "sign-in",
        SignInError::TooMany => "busy",
        SignInError::Provider(_) | SignInError::Token(_) => "identity-provider",
        SignInError::Claim(ClaimError::OtherPerson(_)) => "other-person",
        SignInError::Claim(_) => "sign-in-claims",
    };
    Refused::new(code, error.to_string())
}

impl Gateway {
    /// Notes that somebody at this address was not enrolled.
    pub(super) async fn note_enrolment_refusal(&self, refused: &Refused, remote: SocketAddr) {
        let detail = format!("an enrolment was refused: {}", refused.0.message);
        self.note_refusal("enrol-refused", "enrol", &detail, remote).await;
    }

    /// A turn among the few enrolments at once.
    ///
    /// # Errors
    /// The refusal, if there are too many.
    pub(super) fn enrolment_turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Refused> {
        let busy = |_| Refused::new("busy", "too many enrolments at once; try again in a few seconds");
        self.enrolments.try_acquire().map_err(busy)
    }
}
