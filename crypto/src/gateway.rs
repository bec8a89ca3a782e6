//! What a client and its node say to each other over HTTPS, as CBOR bodies (`docs/reference/http.md`).
//!
//! The field order of each struct is wire format.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::charter::TrustRetention;
use crate::mls::ReviewTerms;
use crate::record::{Class, Reason, ReceiptItem};
use crate::{ConversationId, Fingerprint, NodeId, RecordId, Timestamp, TrustId};

/// The media type of all bodies.
pub const MEDIA_TYPE: &str = "application/cbor";
/// Bodies to the node, in bytes, beyond which it answers 413.
pub const REQUEST_BYTES_MAX: usize = crate::limits::HANDSHAKE_RECORD_BYTES_MAX;
/// Bodies from the node, in bytes: a page of the inbox holds at most one record beyond this less 1 MiB.
pub const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why the node did not do what was asked; the body of every answer but 2xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// One stable word for programs, such as `expired`.
    pub code: String,
    /// The thing, the reason and the next step, for people.
    pub message: String,
}

/// `POST /v1/enrol`, which needs no device certificate.
#[derive(Clone, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// Which invitation.
    #[serde(with = "serde_bytes")]
    pub invitation: Vec<u8>,
    /// Its secret code.
    #[serde(with = "serde_bytes")]
    pub code: Vec<u8>,
    /// PKCS#10 (RFC 2986) for the device's key, DER; the node takes the public key from it and the subject from the invitation.
    #[serde(with = "serde_bytes")]
    pub request: Vec<u8>,
    /// What a sign-in with the trust's identity provider brought back, where the trust asks for one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sign_in: Option<SignedIn>,
}

impl std::fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EnrolRequest { .. }")
    }
}

/// `POST /v1/enrol/sign-in`: begins a sign-in with the trust's identity provider (OpenID Connect Core 1.0, section 3.1), for one
/// invitation. Its redirect comes to the device itself (RFC 8252, section 7.3).
#[derive(Clone, Serialize, Deserialize)]
pub struct SignInRequest {
    /// Which invitation.
    #[serde(with = "serde_bytes")]
    pub invitation: Vec<u8>,
    /// Its secret code.
    #[serde(with = "serde_bytes")]
    pub code: Vec<u8>,
    /// The port of 127.0.0.1 on which the device waits for the redirect to [`SIGN_IN_PATH`].
    pub port: u16,
}

impl std::fmt::Debug for SignInRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignInRequest { .. }")
    }
}

/// The path of the redirect.
pub const SIGN_IN_PATH: &str = "/signed-in";
/// How long a sign-in may take, in seconds.
pub const SIGN_IN_SECS_MAX: u64 = 600;
/// An identity provider's code, in bytes.
pub const SIGN_IN_CODE_BYTES_MAX: usize = 4096;

/// Where the person signs in.
#[derive(Clone, Serialize, Deserialize)]
pub struct SignInResponse {
    /// For their browser.
    pub url: String,
    /// What the redirect has to bring: it is this sign-in's, and nobody else's.
    pub state: String,
}

impl std::fmt::Debug for SignInResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignInResponse { .. }")
    }
}

/// What the redirect brought (RFC 6749, section 4.1.2).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedIn {
    /// Which sign-in.
    pub state: String,
    /// The identity provider's code, of at most [`SIGN_IN_CODE_BYTES_MAX`] bytes.
    pub code: String,
    /// Who says to have issued it (RFC 9207), if the provider tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub issuer: Option<String>,
}

impl std::fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignedIn { .. }")
    }
}

/// What an enrolled device begins with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolResponse {
    /// The device's certificate and its registrar's, DER.
    pub chain: Vec<ByteBuf>,
    /// The charter in force, as a record.
    #[serde(with = "serde_bytes")]
    pub charter: Vec<u8>,
    /// The [`crate::pin::SessionToken`] that admits to setting the device's first PIN, for a while and at this node; 32 bytes.
    #[serde(with = "serde_bytes")]
    pub first_pin: Vec<u8>,
}

impl std::fmt::Debug for EnrolResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EnrolResponse { .. }")
    }
}

/// `GET /v1/trust`: what a client needs to judge certificates itself. With `?version=N`, the charter is that version, if the node
/// still holds it: for a client that has missed some.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustResponse {
    /// The charter in force, as a record.
    #[serde(with = "serde_bytes")]
    pub charter: Vec<u8>,
    /// The CRL records in force.
    pub crls: Vec<ByteBuf>,
    /// How long this trust keeps messages of its own conversations.
    #[serde(skip_serializing_if = "TrustRetention::is_empty", default)]
    pub retention: TrustRetention,
    /// How often this trust asks for reviews of the members of its own conversations.
    #[serde(skip_serializing_if = "ReviewTerms::is_default", default)]
    pub review: ReviewTerms,
    /// What, beside the patterns of every client, this trust takes for what identifies a patient. A client takes
    /// [`crate::limits::PATTERNS_MAX`] of them, and all else that the response says whatever these are.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub patterns: Vec<TextPattern>,
}

/// One of a trust's patterns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextPattern {
    /// What people are told that a text holds, such as "a hospital number"; at most [`crate::limits::PATTERN_NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// A regular expression in the syntax of the crate `regex`; at most [`crate::limits::PATTERN_BYTES_MAX`] bytes.
    pub regex: String,
}

/// `PUT /v1/key-package`: publishes the device's key package in its directory entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPackageRequest {
    /// As an MLSMessage.
    #[serde(with = "serde_bytes")]
    pub key_package: Vec<u8>,
    /// Whether the holder wants to be contacted now.
    pub available: bool,
}

/// `GET /v1/directory?q=WORDS`: entries of devices and nodes, as records; the client verifies them itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryResponse {
    /// Entry records, at most 100.
    pub entries: Vec<ByteBuf>,
    /// Whether there were more.
    pub more: bool,
}

/// `POST /v1/envelopes`: asks the node to sign and spread one MLS message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendRequest {
    /// Whose message.
    pub conversation: ConversationId,
    /// The epoch that the message states.
    pub epoch: u64,
    /// Application or submission.
    pub class: Class,
    /// The MLS message, or an encoded [`crate::record::Submission`].
    #[serde(with = "serde_bytes")]
    pub content: Vec<u8>,
    /// The trusts of all members, after the change that a submission makes.
    pub custodians: Vec<TrustId>,
    /// When every replica drops it.
    pub expires: Timestamp,
}

/// The envelope is on the node's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendResponse {
    /// The envelope record.
    pub id: RecordId,
    /// When the node says that it was sent.
    pub issued: Timestamp,
}

/// `GET /v1/inbox?after=SEQ`: what arrived for this device, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxResponse {
    /// A page of items.
    pub items: Vec<InboxItem>,
    /// Whether there is more behind the last item.
    pub more: bool,
}

/// One record for the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxItem {
    /// The position in the device's inbox; grows.
    pub seq: u64,
    /// An envelope or a tombstone, as a record, and the chain of the node that signed it; absent if it was erased
    /// in between.
    pub record: Option<InboxRecord>,
}

/// A record and what verifies it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxRecord {
    /// The record.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// The signing node's certificate and its registrar's, DER.
    pub chain: Vec<ByteBuf>,
}

/// `POST /v1/inbox/seen`: everything up to this position is in the device's vault; the node forgets these positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenRequest {
    /// The position.
    pub seq: u64,
}

/// `GET /v1/envelopes/ID`: how far an envelope has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicksResponse {
    /// Custodians, and when each one's node confirmed that the envelope is on its disk.
    pub custodians: Vec<Tick>,
}

/// One custodian's confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// The custodian.
    pub trust: TrustId,
    /// When it confirmed; absent until then.
    pub confirmed: Option<Timestamp>,
    /// The code with which it refused the envelope for good, if it did.
    pub refused: Option<String>,
}

/// `POST /v1/deletions`: asks the node to order the erasure of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRequest {
    /// Whose messages.
    pub conversation: ConversationId,
    /// Envelopes that this device sent; none for the whole conversation.
    pub envelopes: Vec<RecordId>,
    /// Why.
    pub reason: Reason,
    /// Whether all messages up to now are meant: for an administrator of the conversation, from the trust that owns it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub all: bool,
}

/// `POST /v1/erasures`: what the device has erased, by its own signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasuresRequest {
    /// [`crate::record::DeviceLine`]s, at most [`ERASURES_MAX`].
    #[serde(deserialize_with = "crate::cbor::at_most::<_, _, ERASURES_MAX>")]
    pub lines: Vec<ByteBuf>,
}

/// Lines in one request.
pub const ERASURES_MAX: usize = 64;

/// `GET /v1/deletions/ID`, and the answer to the request: who has erased and who has not. [`crate::tally::Tally`] checks it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionResponse {
    /// The tombstone's id.
    pub tombstone: RecordId,
    /// The tombstone, as a record: who ordered it, what, why, and when.
    #[serde(with = "serde_bytes")]
    pub record: Vec<u8>,
    /// The certificate of the node that signed it and its registrar's, DER; empty if this node does not know it any more.
    pub chain: Vec<ByteBuf>,
    /// Each replica that must erase: the nodes of the custodian trusts.
    pub replicas: Vec<Replica>,
    /// By trust: its devices.
    pub devices: Vec<TrustDevices>,
}

/// What is known of one replica's erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// The custodian.
    pub trust: TrustId,
    /// Its node; absent if none of the trust's is known here.
    pub node: Option<NodeId>,
    /// That it has erased; absent until that came.
    pub erased: Option<Attestation>,
    /// That it keeps what is deleted, for a while; absent unless it says so.
    pub held: Option<Attestation>,
    /// When it should have confirmed, if it has not, and that is over.
    pub overdue: Option<Timestamp>,
}

/// The devices of one custodian trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustDevices {
    /// The trust.
    pub trust: TrustId,
    /// What its nodes pass on of devices that have erased; at most [`DEVICES_SHOWN_MAX`].
    pub erased: Vec<(Attestation, Option<KnownDevice>)>,
    /// How many more there are.
    pub more: u32,
    /// For which devices its nodes wait.
    pub waiting: Vec<Attestation>,
    /// The certificates of those, as far as they are known here.
    pub known: Vec<KnownDevice>,
}

/// Devices of one trust that an answer shows with their proofs.
pub const DEVICES_SHOWN_MAX: usize = 256;

/// A device's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownDevice {
    /// Its certificate and its registrar's, DER.
    pub chain: Vec<ByteBuf>,
    /// Whether it has been revoked, or is over: nobody waits for such a device for ever.
    pub revoked: bool,
}

/// One thing that a node attests, with the proof that a receipt of it says so. It proves that the node attested it, no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// The receipt record.
    pub receipt: RecordId,
    /// What.
    pub item: ReceiptItem,
    /// [`crate::record::prove`].
    #[serde(with = "serde_bytes")]
    pub proof: Vec<u8>,
    /// The signing node's certificate and its registrar's, DER.
    pub chain: Vec<ByteBuf>,
}

/// `POST /v1/pin/setup` and `POST /v1/pin/proof`: how a device begins to set its PIN, or to prove it ([`crate::pin`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinRequest {
    /// The client's first message of the exchange.
    #[serde(with = "serde_bytes")]
    pub message: Vec<u8>,
}

/// The answer to who begins to set one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinSetup {
    /// The node's message.
    #[serde(with = "serde_bytes")]
    pub message: Vec<u8>,
    /// Which of the device's set-ups this is, for [`PinUpload::setup`].
    #[serde(with = "serde_bytes")]
    pub setup: Vec<u8>,
}

/// The answer to who begins to prove one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinAnswer {
    /// The node's message.
    #[serde(with = "serde_bytes")]
    pub message: Vec<u8>,
    /// Attempts that are left if the PIN is wrong.
    pub left: u32,
}

/// `PUT /v1/pin`: sets the PIN. The first one of a device needs [`EnrolResponse::first_pin`], each other a session that the one before it
/// has opened.
#[derive(Clone, Serialize, Deserialize)]
pub struct PinUpload {
    /// [`PinSetup::setup`] of the answer that this goes with.
    #[serde(with = "serde_bytes")]
    pub setup: Vec<u8>,
    /// The client's last message of the exchange.
    #[serde(with = "serde_bytes")]
    pub upload: Vec<u8>,
    /// [`crate::pin::SessionProof`] of the token that the client shows from then on.
    #[serde(with = "serde_bytes")]
    pub session: Vec<u8>,
}

impl std::fmt::Debug for PinUpload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PinUpload { .. }")
    }
}

/// `POST /v1/pin/session`: proves the PIN, and opens a session of which both sides have the token now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinProof {
    /// The client's last message of the exchange.
    #[serde(with = "serde_bytes")]
    pub proof: Vec<u8>,
}

/// A session that a PIN has opened; the device's earlier one has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinSession {
    /// When the node ends it.
    pub until: Timestamp,
    /// After so many seconds without use, the trust's policy has the client lock itself.
    pub idle_secs: u64,
    /// Attempts at the PIN since the one before it was proved, that were not: somebody else's, perhaps.
    pub failed: u32,
    /// For so many seconds the PIN may open the device without the node, if that cannot be reached; 0 if never.
    pub offline_secs: u64,
}

/// `GET /v1/revocations/REGISTRAR`, which needs no device certificate: for a device that is refused, and looks whether it is revoked. It
/// checks the list itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationsResponse {
    /// The revocation list (RFC 5280) of the registrar with this certificate, DER.
    #[serde(with = "serde_bytes")]
    pub list: Vec<u8>,
}

/// `POST /v1/wipes`, which needs no device certificate either: a device's receipt for its wipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WipedRequest {
    /// [`crate::record::WipeReceipt`].
    #[serde(with = "serde_bytes")]
    pub receipt: Vec<u8>,
}

/// `GET /v1/events`: server-sent events; the data of each `inbox` event is the newest position of the device's inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxEvent(pub u64);

/// What an operator hands to the person whom they invited, as one line of text.
#[derive(Clone, Serialize, Deserialize)]
pub struct Invitation {
    /// The inviting trust.
    pub trust: TrustId,
    /// Fingerprint of the trust's root certificate: what the client trusts first.
    pub root: Fingerprint,
    /// `host:port` of the node's gateway.
    pub address: String,
    /// Which invitation.
    #[serde(with = "serde_bytes")]
    pub id: Vec<u8>,
    /// Its secret code.
    #[serde(with = "serde_bytes")]
    pub code: Vec<u8>,
}

impl std::fmt::Debug for Invitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Invitation {{ trust: {}, address: {:?}, .. }}", self.trust, self.address)
    }
}

/// Why a text is no invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an invitation: it is one line that begins with \"lanyard1-\"; ask who invited you for the whole line"
)]
pub struct NotAnInvitation;

const PREFIX: &str = "lanyard1-";

impl Invitation {
    /// The line to hand over.
    pub fn to_line(&self) -> String {
        format!("{PREFIX}{}", crate::ids::to_hex(&crate::cbor::to_vec(self)))
    }

    /// Reads the line.
    pub fn from_line(line: &str) -> Result<Self, NotAnInvitation> {
        let digits = line.trim().strip_prefix(PREFIX).ok_or(NotAnInvitation)?;
        let bytes = crate::ids::from_hex(digits).ok_or(NotAnInvitation)?;
        crate::cbor::from_slice(&bytes, 1024).map_err(|_| NotAnInvitation)
    }
}
