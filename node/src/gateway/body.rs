//! Bodies of requests and answers: CBOR, bounded, and a [`Refusal`] for everything that is not done.

use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use lanyard_crypto::cbor;
use lanyard_crypto::gateway::{MEDIA_TYPE, Refusal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::limits::RETRY_AFTER_SECS;
use crate::backend::refusal;

/// What a handler returns.
pub(super) type Outcome<T> = Result<Cbor<T>, Refused>;

/// An answer's body.
pub(super) struct Cbor<T>(pub(super) T);

/// An answer without a body.
pub(super) struct Empty;

/// A refusal with its status.
#[derive(Debug)]
pub(super) struct Refused(pub(super) Refusal);

impl Refused {
    pub(super) fn new(code: &str, message: impl Into<String>) -> Self {
        Self(refusal(code, message))
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl<T: Serialize> IntoResponse for Cbor<T> {
    fn into_response(self) -> Response {
        respond(StatusCode::OK, cbor::to_vec(&self.0))
    }
}

impl IntoResponse for Empty {
    fn into_response(self) -> Response {
        StatusCode::NO_CONTENT.into_response()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = respond(status_of(&self.0.code), cbor::to_vec(&self.0));
        if matches!(self.0.code.as_str(), "busy" | "stopping") {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECS));
        }
        response
    }
}

fn respond(status: StatusCode, body: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE))], body).into_response()
}

/// Reads a request's body of at most `bytes_max` bytes.
pub(super) async fn read<T: Serialize + DeserializeOwned>(
    body: Body,
    bytes_max: usize,
) -> Result<T, Refused> {
    let bytes = to_bytes(body, bytes_max).await.map_err(|error| {
        // The one error of ours is the limit; all others are of the connection, whose client is gone.
        Refused::new("too-large", format!("the body is more than {bytes_max} bytes, or was cut off: {error}"))
    })?;
    cbor::from_slice(&bytes, bytes_max)
        .map_err(|error| Refused::new("malformed", format!("the body is {error}")))
}

/// The status for a refusal's stable word. The engine's words are in `replica/src/verdict.rs`, the gateway's
/// own in `docs/reference/http.md`; what is not named is a request that was understood and cannot be done.
pub(super) fn status_of(code: &str) -> StatusCode {
    match code {
        "malformed" | "out-of-bounds" => StatusCode::BAD_REQUEST,
        "no-certificate" | "locked" | "no-pin" | "pin-wrong" | "sign-in-needed" => StatusCode::UNAUTHORIZED,
        "device-refused" | "invitation" | "not-member" | "not-sender" | "may-not-delete" | "not-owner"
        | "not-administrator" | "pin-destroyed" | "sign-in" | "sign-in-claims" | "other-person" => {
            StatusCode::FORBIDDEN
        }
        "not-found" => StatusCode::NOT_FOUND,
        "method" => StatusCode::METHOD_NOT_ALLOWED,
        "timed-out" => StatusCode::REQUEST_TIMEOUT,
        "duplicate-commit" | "superseded" | "deleted" | "invitation-used" | "pin-exchange" | "pin-set" => {
            StatusCode::CONFLICT
        }
        "pin-wait" => StatusCode::TOO_MANY_REQUESTS,
        "too-large" => StatusCode::PAYLOAD_TOO_LARGE,
        "busy" | "no-registrar" | "restored" | "clock-behind" | "stopping" => StatusCode::SERVICE_UNAVAILABLE,
        "identity-provider" => StatusCode::BAD_GATEWAY,
        "disk" | "internal" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_for_the_moment_is_told_when_to_try_again() {
        for (code, again) in
            [("busy", true), ("stopping", true), ("no-registrar", false), ("not-member", false)]
        {
            let response = Refused::new(code, "").into_response();
            assert_eq!(response.headers().contains_key(RETRY_AFTER), again, "{code}");
        }
        assert_eq!(Refused::new("busy", "").into_response().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
