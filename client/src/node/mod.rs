//! The device's own node, over HTTPS with mutual TLS 1.3 (`docs/reference/http.md`). A client talks to no
//! other server.
//!
//! What comes back is only well-formed here. Records, chains and receipts are verified by who asked for them:
//! the node is trusted to deliver, not to speak for others.

mod error;
mod events;
mod http;
mod tls;

pub use error::NodeError;
pub use events::Events;
pub use tls::{Anchor, ServerError};

use hyper::Method;
use lanyard_crypto::cbor;
use lanyard_crypto::gateway::{
    DeleteRequest, DeletionResponse, DirectoryResponse, EnrolRequest, EnrolResponse, ErasuresRequest,
    InboxResponse, KeyPackageRequest, PinAnswer, PinProof, PinRequest, PinSession, PinSetup, PinUpload,
    RESPONSE_BYTES_MAX, RevocationsResponse, SeenRequest, SendRequest, SendResponse, SignInRequest,
    SignInResponse, TicksResponse, TrustResponse, WipedRequest,
};
use lanyard_crypto::pin::SessionToken;
use lanyard_crypto::{ConversationId, Fingerprint, RecordId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::profile::Device;
use http::Http;

/// The device's node. Each method is one request, and waits for its answer.
///
/// All fail with [`NodeError`]: it cannot be reached, is not believed, refuses, or answers something else.
pub struct NodeClient {
    http: Http,
}

impl NodeClient {
    /// The node at `address` (`host:port`), believed by `anchor`. With a device, its certificate is shown.
    /// Connects at the first request.
    ///
    /// # Errors
    /// [`NodeError::Address`], or [`NodeError::OwnIdentity`] if the device's key cannot be used.
    pub fn new(address: &str, anchor: Anchor, device: Option<&Device>) -> Result<Self, NodeError> {
        let tls = tls::config(anchor, device).map_err(NodeError::OwnIdentity)?;
        Ok(Self { http: Http::new(address, tls)? })
    }

    /// The node's certificate and its registrar's, DER, as it proved them when it was last connected to.
    pub fn server_chain(&self) -> Option<[&[u8]; 2]> {
        match self.http.server_chain() {
            [leaf, registrar, ..] => Some([leaf, registrar]),
            _ => None,
        }
    }

    /// `POST /v1/enrol`: has the device certified.
    pub fn enrol(&mut self, request: &EnrolRequest) -> Result<EnrolResponse, NodeError> {
        self.ask(Method::POST, "/v1/enrol", Some(request))
    }

    /// `POST /v1/enrol/sign-in`: begins a sign-in with the trust's identity provider.
    pub fn begin_sign_in(&mut self, request: &SignInRequest) -> Result<SignInResponse, NodeError> {
        self.ask(Method::POST, "/v1/enrol/sign-in", Some(request))
    }

    /// `GET /v1/trust`: the charter, or this version of it, and the revocation lists in force.
    pub fn trust(&mut self, version: Option<u64>) -> Result<TrustResponse, NodeError> {
        match version {
            Some(version) => self.get(&format!("/v1/trust?version={version}")),
            None => self.get("/v1/trust"),
        }
    }

    /// `PUT /v1/key-package`: makes the device reachable for new conversations.
    pub fn put_key_package(&mut self, request: &KeyPackageRequest) -> Result<(), NodeError> {
        self.tell(Method::PUT, "/v1/key-package", Some(request))
    }

    /// `GET /v1/directory?q=WORDS`: entries that hold every word.
    pub fn directory(&mut self, words: &str) -> Result<DirectoryResponse, NodeError> {
        self.get(&format!("/v1/directory?q={}", percent_encoded(words)))
    }

    /// `POST /v1/envelopes`: returns once the envelope is on the node's disk.
    pub fn send(&mut self, request: &SendRequest) -> Result<SendResponse, NodeError> {
        self.ask(Method::POST, "/v1/envelopes", Some(request))
    }

    /// `GET /v1/envelopes/ID`: how far an envelope has come.
    pub fn ticks(&mut self, envelope: &RecordId) -> Result<TicksResponse, NodeError> {
        self.get(&format!("/v1/envelopes/{envelope}"))
    }

    /// `GET /v1/inbox?after=SEQ`: a page of what arrived after this position.
    pub fn inbox(&mut self, after: u64) -> Result<InboxResponse, NodeError> {
        self.get(&format!("/v1/inbox?after={after}"))
    }

    /// `POST /v1/inbox/seen`: everything up to this position is on this device's disk.
    pub fn seen(&mut self, seq: u64) -> Result<(), NodeError> {
        self.tell(Method::POST, "/v1/inbox/seen", Some(&SeenRequest { seq }))
    }

    /// `GET /v1/events`: the stream of the inbox's positions.
    pub fn events(&mut self) -> Result<Events, NodeError> {
        let body = self.http.stream("/v1/events", "text/event-stream")?;
        Ok(Events::new(self.http.runtime(), body, self.http.address().to_owned()))
    }

    /// `POST /v1/deletions`: orders the erasure of messages that this device sent.
    pub fn delete(&mut self, request: &DeleteRequest) -> Result<DeletionResponse, NodeError> {
        self.ask(Method::POST, "/v1/deletions", Some(request))
    }

    /// `GET /v1/deletions/ID`: who has erased and who has not.
    pub fn deletion(&mut self, tombstone: &RecordId) -> Result<DeletionResponse, NodeError> {
        self.get(&format!("/v1/deletions/{tombstone}"))
    }

    /// `POST /v1/erasures`: what this device has erased, by its own signature.
    pub fn erased(&mut self, request: &ErasuresRequest) -> Result<(), NodeError> {
        self.tell(Method::POST, "/v1/erasures", Some(request))
    }

    /// `POST /v1/conversations/ID/leave`: no more of this conversation for this device.
    pub fn leave(&mut self, conversation: &ConversationId) -> Result<(), NodeError> {
        self.tell(Method::POST, &format!("/v1/conversations/{conversation}/leave"), None::<&()>)
    }

    /// Shows this token from now on: what the PIN has opened.
    pub fn show(&mut self, token: Option<SessionToken>) {
        self.http.authorize(token);
    }

    /// `POST /v1/pin/setup`: begins to set a PIN.
    pub fn begin_pin(&mut self, message: Vec<u8>) -> Result<PinSetup, NodeError> {
        self.ask(Method::POST, "/v1/pin/setup", Some(&PinRequest { message }))
    }

    /// `PUT /v1/pin`: sets it.
    pub fn set_pin(&mut self, upload: &PinUpload) -> Result<PinSession, NodeError> {
        self.ask(Method::PUT, "/v1/pin", Some(upload))
    }

    /// `POST /v1/pin/proof`: tries a PIN.
    pub fn try_pin(&mut self, message: Vec<u8>) -> Result<PinAnswer, NodeError> {
        self.ask(Method::POST, "/v1/pin/proof", Some(&PinRequest { message }))
    }

    /// `POST /v1/pin/session`: opens a session by the proof.
    pub fn open_session(&mut self, proof: Vec<u8>) -> Result<PinSession, NodeError> {
        self.ask(Method::POST, "/v1/pin/session", Some(&PinProof { proof }))
    }

    /// `DELETE /v1/pin/session`: ends it.
    pub fn end_session(&mut self) -> Result<(), NodeError> {
        self.tell(Method::DELETE, "/v1/pin/session", None::<&()>)
    }

    /// `GET /v1/revocations/REGISTRAR`: the list of the registrar with this certificate, as a stranger.
    pub fn revocations(&mut self, registrar: &Fingerprint) -> Result<RevocationsResponse, NodeError> {
        self.get(&format!("/v1/revocations/{registrar}"))
    }

    /// `POST /v1/wipes`: this device's receipt for its wipe, as a stranger.
    pub fn wiped(&mut self, request: &WipedRequest) -> Result<(), NodeError> {
        self.tell(Method::POST, "/v1/wipes", Some(request))
    }

    fn get<A: Serialize + DeserializeOwned>(&mut self, path: &str) -> Result<A, NodeError> {
        self.ask(Method::GET, path, None::<&()>)
    }

    fn ask<Q: Serialize, A: Serialize + DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        question: Option<&Q>,
    ) -> Result<A, NodeError> {
        let body = self.http.call(method, path, question.map(cbor::to_vec).unwrap_or_default())?;
        cbor::from_slice(&body, RESPONSE_BYTES_MAX)
            .map_err(|e| self.http.protocol(format!("with a body that is not what was asked for ({e})")))
    }

    /// As [`Self::ask`], where success says all.
    fn tell<Q: Serialize>(
        &mut self,
        method: Method,
        path: &str,
        question: Option<&Q>,
    ) -> Result<(), NodeError> {
        self.http.call(method, path, question.map(cbor::to_vec).unwrap_or_default()).map(drop)
    }
}

/// A value in a query (RFC 3986, section 2.1): everything but unreserved characters is encoded.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_stand_for_themselves() {
        assert_eq!(percent_encoded("Zoë O'Neill & co-1_~."), "Zo%C3%AB%20O%27Neill%20%26%20co-1_~.");
    }
}
