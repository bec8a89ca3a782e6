//! What is shown, to people and to programs: the fields of the commands' JSON
//! (`docs/reference/client-commands.md`).
//!
//! Field names are stable. Moments are RFC 3339 texts in UTC; ids are as typed. Names, roles and trusts come
//! from certificates whose chains reach a charter's root; what else was checked of them is in [`CertificationView`].

mod people;
mod reviews;

pub use people::{
    CertificationView, CouldRead, FoundDevice, FoundPeople, FoundPerson, ReadableMessage, RemovalView,
    ResemblanceView, SafetyOf, SafetyView,
};

pub use reviews::{MemberChange, OverdueReview, ReviewState, ReviewView, ReviewerView};

use serde::{Serialize, Serializer};

use lanyard_crypto::Timestamp;

use crate::clock;

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&clock::rfc3339(self.0))
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&clock::readable(self.0))
    }
}

/// `enrol`, `whoami`: who this device says its holder is.
#[derive(Clone, Debug, Serialize)]
pub struct WhoAmI {
    /// The display name.
    pub name: String,
    /// The role.
    pub role: Option<String>,
    /// The department.
    pub department: Option<String>,
    /// The professional registration.
    pub registration: Option<String>,
    /// The ODS code of the trust.
    pub trust: String,
    /// The trust's name.
    pub organisation: String,
    /// Fingerprint of the device's certificate.
    pub device: String,
    /// When the certificate ends.
    pub certificate_expires: Moment,
    /// `host:port` of the node.
    pub node: String,
    /// The regional network.
    pub network: NetworkView,
    /// The profile's directory.
    pub profile: String,
    /// Whether others can invite this device to conversations: its key package is in the directory.
    pub reachable: bool,
}

/// The regional network, as the device knows it.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The version of the charter.
    pub charter_version: u64,
    /// When the charter ends.
    pub charter_expires: Moment,
    /// The ODS codes of its trusts.
    pub trusts: Vec<String>,
}

/// How far a conversation's membership is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConversationState {
    /// All is settled.
    Open,
    /// A change of members waits for the owner trust's node.
    Waiting,
    /// This device was taken out.
    Left,
}

/// `conversation list`.
#[derive(Clone, Debug, Serialize)]
pub struct Conversations {
    /// The newest first, social ones behind all others.
    pub conversations: Vec<ConversationView>,
}

/// `conversation new`, `show`, `add`, `remove`, `retention`.
#[derive(Clone, Debug, Serialize)]
pub struct ConversationView {
    /// Its id.
    pub id: String,
    /// What it is about.
    pub title: String,
    /// clinical, operational or social.
    pub class: &'static str,
    /// The ODS code of the trust that orders its changes of members.
    pub owner: String,
    /// How far its membership is.
    pub state: ConversationState,
    /// Whom a change of members waits for.
    pub waiting_for: Option<String>,
    /// Since when this device is in it.
    pub since: Moment,
    /// How long its messages live at most, in seconds.
    pub retention_secs: u64,
    /// The ODS codes of the members' trusts, which keep its messages.
    pub trusts: Vec<String>,
    /// Every member's device, by name.
    pub members: Vec<MemberView>,
    /// When the members were last reviewed, and until when that holds; absent once this device has left.
    pub review: Option<ReviewState>,
    /// What the person should know or do, when something was to be changed.
    pub notices: Vec<String>,
}

/// One member's device.
#[derive(Clone, Debug, Serialize)]
pub struct MemberView {
    /// The display name.
    pub name: String,
    /// The role.
    pub role: Option<String>,
    /// The department.
    pub department: Option<String>,
    /// The professional registration.
    pub registration: Option<String>,
    /// The ODS code of the trust.
    pub trust: String,
    /// Fingerprint of the device's certificate.
    pub device: String,
    /// Whether this person may change who is a member.
    pub admin: bool,
    /// Whether it is this device.
    pub own: bool,
    /// What this program has checked of the certificate, now.
    pub certification: CertificationView,
    /// Others whom this device knows and whose names are easily taken for this one.
    pub resembles: Vec<ResemblanceView>,
}

/// `read`.
#[derive(Clone, Debug, Serialize)]
pub struct Messages {
    /// Oldest first.
    pub messages: Vec<MessageView>,
    /// Those of the conversations whose members should have been reviewed.
    pub overdue: Vec<OverdueReview>,
    /// What the sync before reading came to; absent if the node could not be reached.
    pub synced: Option<Synced>,
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageState {
    /// On this device only; a later sync sends it.
    Queued,
    /// On this device only: the node refused it, and it is not sent again.
    Failed,
    /// On the disk of this device's node; its own message.
    Sent,
    /// Someone else's.
    Received,
}

/// `send`, and one message of `read`.
#[derive(Clone, Debug, Serialize)]
pub struct MessageView {
    /// The id of its envelope; absent while it is queued.
    pub id: Option<String>,
    /// Its number on this device, which stays when it gets an id.
    pub local: i64,
    /// The conversation's id.
    pub conversation: String,
    /// The conversation's title.
    pub title: String,
    /// The conversation's class.
    pub class: &'static str,
    /// How far it is.
    pub state: MessageState,
    /// Who sent it.
    pub sender: SenderView,
    /// When the sender's node took it; while queued, when it was written.
    pub sent: Moment,
    /// When every replica drops it, or sooner where the conversation's messages live no longer.
    pub expires: Moment,
    /// What it says.
    pub text: String,
    /// Why its sender sent it although it holds what the conversation's class forbids: on this device, if it sent it.
    #[serde(rename = "override")]
    pub overridden: Option<OverrideView>,
    /// What the sender is reminded of; from `send` alone, once in each conversation.
    pub reminder: Option<String>,
}

/// Such a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OverrideView {
    /// What the sender gave as the reason.
    pub reason: String,
    /// What the text holds: `nhs-number`, `date-of-birth`.
    pub patterns: Vec<String>,
}

/// What `send` shows: the message, with its conversation before it.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct SentMessage(pub MessageView);

/// Who sent a message, by the certificate that was verified when it was read.
#[derive(Clone, Debug, Serialize)]
pub struct SenderView {
    /// The display name.
    pub name: String,
    /// The role.
    pub role: Option<String>,
    /// The ODS code of the trust.
    pub trust: String,
    /// Fingerprint of the device's certificate.
    pub device: String,
    /// Whether it is this device.
    pub own: bool,
}

/// `delete`, `deletion`.
#[derive(Clone, Debug, Serialize)]
pub struct DeletionView {
    /// The id of the deletion.
    pub id: String,
    /// Why.
    pub reason: &'static str,
    /// When it was ordered.
    pub ordered: Moment,
    /// ODS code of the trust that ordered it, if its signature verifies.
    pub by: Option<String>,
    /// Who has erased and for whom it is waited, in a line.
    pub summary: String,
    /// How many replicas have a receipt that verifies.
    pub confirmed: usize,
    /// How many replicas must erase.
    pub replicas_total: usize,
    /// Each replica: the nodes of the trusts that keep the conversation.
    pub replicas: Vec<ReplicaView>,
    /// How many devices say, by a signature that verifies, that they have erased.
    pub devices_erased: u64,
    /// How many devices must erase.
    pub devices_total: u64,
    /// Devices that have erased, and those that are waited for, as far as their node names them.
    pub devices: Vec<DeviceErasureView>,
    /// What the node said that does not verify.
    pub problems: Vec<String>,
    /// What a receipt proves.
    pub note: &'static str,
}

/// One replica's erasure.
#[derive(Clone, Debug, Serialize)]
pub struct ReplicaView {
    /// The ODS code of the trust.
    pub trust: String,
    /// Its node's public key; absent if none of the trust's is known.
    pub node: Option<String>,
    /// When it says that it had erased; absent until a receipt came that verifies.
    pub erased: Option<Moment>,
    /// Until when it keeps what is deleted, sealed and served to nobody, because its trust must.
    pub held_until: Option<Moment>,
    /// Whether that is over, and no erasure has been told since.
    pub hold_over: bool,
    /// Since when it is overdue.
    pub overdue: Option<Moment>,
    /// The id of the receipt.
    pub receipt: Option<String>,
    /// Why a receipt that came is not believed.
    pub problem: Option<String>,
}

/// One device's erasure.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceErasureView {
    /// The ODS code of its trust.
    pub trust: String,
    /// Fingerprint of its certificate.
    pub device: String,
    /// The name in its certificate, if that is known.
    pub name: Option<String>,
    /// When it says that it had erased; absent if it is waited for.
    pub erased: Option<Moment>,
    /// When it last spoke to its node, if it is waited for.
    pub last_seen: Option<Moment>,
    /// Whether it has been revoked, so that nobody waits for it any more.
    pub revoked: bool,
}

/// `sync`: what came and went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Synced {
    /// New messages.
    pub received: usize,
    /// Messages erased on this device by a deletion.
    pub erased: usize,
    /// Messages dropped because their time was over.
    pub expired: usize,
    /// Own messages and changes that the node took.
    pub sent: usize,
    /// Those that still wait.
    pub queued: usize,
    /// Changes of members.
    pub changed: usize,
    /// Conversations to which this device was invited.
    pub joined: usize,
    /// Records that were refused, each with the reason; nothing of them is shown.
    pub refused: Vec<String>,
    /// What the person should know or do, one sentence each.
    pub notices: Vec<String>,
}
