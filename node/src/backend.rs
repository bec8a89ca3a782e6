//! What the gateway, the registrar and the operator's socket ask of the node behind them: the engine with its
//! store, and the network. They reach it through this trait alone, so that they are tested without either.

use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use lanyard_crypto::gateway::{
    DeletionResponse, DirectoryResponse, InboxResponse, Refusal, SendRequest, SendResponse, TicksResponse,
    TrustResponse,
};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{Decoded, Reason, Target};
use lanyard_crypto::{ConversationId, Fingerprint, NodeId, RecordId, Timestamp, TrustId};
use lanyard_replica::hold::HoldView;
use lanyard_replica::pin::{Hidden, PinRequest, PinState};
use lanyard_replica::query::Overdue;
use lanyard_replica::restored::{Awaited, Restoration};
use lanyard_replica::{Deleter, Reply};
use lanyard_storage::{BackedUp, Compacted};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use tokio::sync::watch;

use crate::admin::deletion;
use crate::audit_export::Beginning;

/// An answer that comes once what it states is on the disk.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Refusal>>;

/// The node behind the gateway and the operator's socket.
pub trait Backend: Send + Sync + 'static {
    /// Who is trusted at this moment. A new snapshot replaces it when that changes.
    fn network(&self) -> Arc<Network>;

    /// The trust that this node belongs to.
    fn trust(&self) -> &TrustId;

    /// Signs, stores and spreads an envelope for a device.
    fn send(&self, device: Fingerprint, request: SendRequest) -> Answer<'_, SendResponse>;

    /// Orders an erasure; the answer is the tombstone.
    fn delete(&self, order: Deletion) -> Answer<'_, RecordId>;

    /// Orders the erasure of more of what these devices have sent; to be asked again until the answer is nothing. With `all`, also
    /// in conversations that other trusts own.
    fn delete_sent(&self, order: SentDeletion) -> Answer<'_, Option<SomeDeleted>>;

    /// The devices of this trust whose certificates carry a professional registration, as far as the directory names them.
    fn devices_of(&self, registration: String) -> Answer<'_, Vec<Fingerprint>>;

    /// Places a hold on a conversation, or lets one end later.
    fn place_hold(&self, hold: NewHold) -> Answer<'_, ()>;

    /// Ends a hold.
    fn end_hold(&self, conversation: ConversationId, reference: String) -> Answer<'_, ()>;

    /// The holds on conversations, and what they keep.
    fn holds(&self) -> Answer<'_, Vec<HoldView>>;

    /// Forgets a device's inbox up to a position.
    fn seen(&self, device: Fingerprint, seq: u64) -> Answer<'_, ()>;

    /// Serves a device a conversation no more.
    fn leave(&self, device: Fingerprint, conversation: ConversationId) -> Answer<'_, ()>;

    /// Takes what a device says by its own signature that it has erased.
    fn erased(&self, device: Fingerprint, lines: Vec<ByteBuf>) -> Answer<'_, ()>;

    /// What concerns a device's PIN: how it is tried, set and left.
    fn pin(&self, device: Fingerprint, request: PinRequest) -> Answer<'_, Reply>;

    /// The secret of all PINs' records, made now if there is none.
    fn pin_secret(&self) -> Answer<'_, Hidden>;

    /// The devices whose PIN was tried too often, so that they are to be wiped; `started` is when this node was.
    fn spent_pins(&self, started: Timestamp) -> Answer<'_, Vec<Fingerprint>>;

    /// Whether a device has set a PIN, and the session that it has opened with it.
    fn pin_state(&self, device: Fingerprint) -> Answer<'_, PinState>;

    /// Notes that a device has spoken to this node. Nobody waits for it, and while there is much else to do it is left out.
    fn present(&self, device: Fingerprint);

    /// When this node last heard of each of these devices, to the minute.
    fn last_seen(&self, devices: Vec<Fingerprint>) -> Answer<'_, Vec<Option<Timestamp>>>;

    /// Accepts nothing more of these devices, and tells the date with which they are to be revoked: no message that was accepted of them was
    /// issued after it.
    fn bar(&self, devices: Vec<Fingerprint>) -> Answer<'_, Timestamp>;

    /// Takes a record by the registrar or the operator: a charter, a revocation list, an entry.
    fn submit(&self, record: Decoded) -> Answer<'_, ()>;

    /// What arrived for a device behind a position.
    fn inbox(&self, device: Fingerprint, after: u64) -> Answer<'_, InboxResponse>;

    /// The newest position in a device's inbox, now and whenever it changes.
    fn inbox_events(&self, device: Fingerprint) -> watch::Receiver<u64>;

    /// How far an envelope has come; none if it is not held here, or if another device has sent it.
    fn ticks(&self, device: Fingerprint, envelope: RecordId) -> Answer<'_, Option<TicksResponse>>;

    /// Who has confirmed a deletion; none if it is not held here.
    fn deletion(&self, tombstone: RecordId) -> Answer<'_, Option<DeletionResponse>>;

    /// The same for a device, which must be served the conversation; otherwise none.
    fn deletion_for(&self, device: Fingerprint, tombstone: RecordId) -> Answer<'_, Option<DeletionResponse>>;

    /// Deletions that this trust ordered, then those that it carries out for others, each newest first.
    fn deletions(&self) -> Answer<'_, Vec<deletion::Deletion>>;

    /// A report of the deletions of the destruction log, sealed by this node, to be shown to somebody (`docs/reference/deletions.md`).
    fn deletions_report(&self) -> Answer<'_, String>;

    /// The replicas that have not confirmed a deletion of this trust in time.
    fn overdue(&self) -> Answer<'_, Vec<Overdue>>;

    /// Directory entries that match all words.
    fn directory(&self, words: String) -> Answer<'_, DirectoryResponse>;

    /// The charter and revocation lists in force, as records.
    fn trust_records(&self, version: Option<u64>) -> Answer<'_, TrustResponse>;

    /// The directory entry in force of a certificate.
    fn entry(&self, device: Fingerprint) -> Answer<'_, Option<Decoded>>;

    /// A record as it is held here; none if it is not, or not any more.
    fn record(&self, id: RecordId) -> Answer<'_, Option<Vec<u8>>>;

    /// The audit log behind a position, or its newest entries, oldest first.
    fn audit(&self, after: Option<u64>, limit: usize) -> Answer<'_, Vec<AuditLine>>;

    /// How an export of the audit log begins, with its newest row signed.
    fn audit_chain(&self) -> Answer<'_, Beginning>;

    /// Follows the whole audit log; the refusal `audit-log-broken` says what is wrong with it.
    fn audit_check(&self) -> Answer<'_, AuditChecked>;

    /// The heads that are held of a node's audit log, or the newest of each node's.
    fn audit_heads(&self, of: Option<NodeId>) -> Answer<'_, AuditHeads>;

    /// The audit logs that contradict themselves.
    fn audit_contradictions(&self) -> Answer<'_, Vec<AuditContradiction>>;

    /// Adds to the audit log.
    fn note(&self, note: Note) -> BoxFuture<'_, ()>;

    /// Gives back the space on the disk of what was deleted.
    fn compact(&self) -> Answer<'_, Compacted>;

    /// Copies the store to a directory that is not there yet.
    fn back_up(&self, to: PathBuf) -> Answer<'_, BackedUp>;

    /// What this node waits for before it serves anything, if it was restored from a backup.
    fn restoration(&self) -> Answer<'_, Option<Restoration>>;

    /// Waits for these no longer.
    fn leave_out(&self, gone: Awaited) -> Answer<'_, ()>;

    /// Peers that the charter and the directory name, and whether they are connected.
    fn peers(&self) -> Vec<PeerStatus>;

    /// Refused peers since the start of which there is no trace in the audit log, since too many came at once.
    fn refusals_lost(&self) -> u64;

    /// How many rows there are of what, by stable names.
    fn counts(&self) -> Answer<'_, Vec<(String, u64)>>;
}

/// An order to erase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Who asks.
    pub by: Deleter,
    /// Of which conversation.
    pub conversation: ConversationId,
    /// Which messages of it.
    pub target: Target,
    /// Why.
    pub reason: Reason,
    /// Who authorised it: an opaque reference into this trust's audit log.
    pub reference: Vec<u8>,
}

/// An order to erase what people's devices have sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentDeletion {
    /// The devices.
    pub devices: Vec<Fingerprint>,
    /// Whether conversations that other trusts own are meant too.
    pub all: bool,
    /// Why.
    pub reason: Reason,
    /// Who authorised it.
    pub reference: Vec<u8>,
}

/// One tombstone of such an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SomeDeleted {
    /// The tombstone.
    pub tombstone: RecordId,
    /// Of which conversation.
    pub conversation: ConversationId,
    /// How many messages it names.
    pub envelopes: usize,
}

/// A hold to place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewHold {
    /// On which conversation.
    pub conversation: ConversationId,
    /// Under which reference; the tally of each deletion shows it.
    pub reference: String,
    /// Why; it stays on this node.
    pub reason: String,
    /// Until when.
    pub until: Timestamp,
}

/// Something to remember in the audit log: no content, no names of people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// A stable word, such as `enrolled`.
    pub event: &'static str,
    /// A stable word for the reason; empty if there is nothing to explain.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    /// The network address that it is about.
    pub address: Option<String>,
}

/// One line of the audit log, as the operator sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// Its position; grows.
    pub number: u64,
    /// When, by RFC 3339.
    pub at: String,
    /// A stable word, such as `refused`.
    pub event: String,
    /// A stable word for the reason, such as `wrong-country`; may be empty.
    pub code: String,
    /// For people.
    pub detail: String,
    /// The peer id of the node that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer_id: Option<String>,
    /// The trust that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trust: Option<String>,
    /// The network address that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// The record that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub record: Option<String>,
    /// What covers it and all rows before it.
    pub hash: String,
}

/// What a node found when it followed its own audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditChecked {
    /// The number of the first row.
    pub first: u64,
    /// The number of the last row.
    pub last: u64,
    /// Its hash.
    pub hash: String,
    /// Heads that this node has signed and holds, and that the log contains.
    pub heads: usize,
    /// Heads of rows before the first, of which nothing can be said.
    pub heads_before: usize,
    /// The number of the newest row that is signed; 0 if none is.
    pub signed: u64,
}

/// What a node holds of audit logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHeads {
    /// Heads, by node, oldest first.
    pub heads: Vec<AuditHead>,
    /// Logs of which heads contradict each other.
    pub contradictions: Vec<AuditContradiction>,
    /// The certificates with which they are signed, each with its issuer's, DER in hexadecimal digits.
    pub chains: Vec<[String; 2]>,
}

/// A head of a node's audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// ODS code of the node's trust.
    pub trust: String,
    /// The node.
    pub peer_id: String,
    /// The number of the row that was the newest.
    pub number: u64,
    /// What covers it and all rows before it.
    pub hash: String,
    /// The last row that the node had dropped.
    pub dropped: u64,
    /// When the node signed it, by RFC 3339.
    pub signed: String,
    /// The record, in hexadecimal digits.
    pub record: String,
}

/// Heads of one node that cannot be of one log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditContradiction {
    /// ODS code of the node's trust.
    pub trust: String,
    /// The node.
    pub peer_id: String,
    /// When this was found, by RFC 3339.
    pub found: String,
    /// `forked`, `went-back`, `signed-twice` or `rows-lost`.
    pub code: String,
    /// For people.
    pub detail: String,
    /// The records that show it, in hexadecimal digits.
    pub records: Vec<String>,
}

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The node.
    pub node: NodeId,
    /// Its trust.
    pub trust: TrustId,
    /// Whether it is connected and admitted.
    pub connected: bool,
}

/// A refusal with a stable word and a text for people.
pub fn refusal(code: &str, message: impl Into<String>) -> Refusal {
    Refusal { code: code.into(), message: message.into() }
}
