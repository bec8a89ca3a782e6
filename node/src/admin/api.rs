//! What the operator's socket says, as JSON. The commands print the same with `--json`: these fields are
//! stable, and documented in `docs/reference/commands.md`.

use lanyard_crypto::ids::to_hex;
use lanyard_crypto::record::{Body, Decoded};
use serde::{Deserialize, Serialize};

use crate::backend::AuditLine;
use crate::time::rfc3339;

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// ODS code of the node's trust.
    pub trust: String,
    /// The node's peer id.
    pub peer_id: String,
    /// When the node started.
    pub started: String,
    /// By how many seconds at least the machine's clock is behind, by what other trusts sign; 0 as long as it does not matter.
    #[serde(default)]
    pub clock_behind_secs: u64,
    /// When the node's certificate ends.
    pub certificate_expires: String,
    /// Whether this node enrols staff.
    pub registrar: bool,
    /// The network.
    pub network: NetworkStatus,
    /// The other nodes.
    pub peers: Vec<Peer>,
    /// Replicas that have not confirmed a deletion of this trust in time.
    #[serde(default)]
    pub overdue: Vec<OverdueReplica>,
    /// What the node waits for before it serves anything, if it was restored from a backup.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub restored: Option<Restored>,
    /// What is stored: rows by name, such as `envelopes`.
    pub stored: std::collections::BTreeMap<String, u64>,
    /// What an operator should know, such as a certificate that ends soon.
    pub warnings: Vec<String>,
}

/// A replica that has not confirmed a deletion in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverdueReplica {
    /// The tombstone record.
    pub tombstone: String,
    /// ODS code of the replica's trust.
    pub trust: String,
    /// Its node; absent if none of the trust's is known.
    pub peer_id: Option<String>,
    /// Since when.
    pub since: String,
}

/// A node on a store that was restored, in [`Status`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restored {
    /// When it was restored.
    pub since: String,
    /// Whether it serves messages, and changes of its trust's conversations alone wait.
    pub serves: bool,
    /// ODS codes of the trusts of which no node has told yet what was deleted since (or, if it serves, what it lacks), and peer ids of
    /// such nodes of its own trust.
    pub waiting_for: Vec<String>,
}

/// `POST /v1/restore/finish`: this trust or node is not waited for any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishRequest {
    /// ODS code, or peer id. The code of the node's own trust means all other nodes of that.
    pub without: String,
}

/// The answer to [`FinishRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finished {
    /// ODS codes and peer ids of those that are still waited for.
    pub waiting_for: Vec<String>,
}

/// The network in [`Status`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Record id of the first charter.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The charter's version.
    pub charter_version: u64,
    /// When the charter ends.
    pub charter_expires: String,
    /// ODS codes of the members.
    pub members: Vec<String>,
}

/// Another node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Peer {
    /// Its peer id.
    pub peer_id: String,
    /// Its trust.
    pub trust: String,
    /// Whether it is connected and admitted.
    pub connected: bool,
}

/// `POST /v1/staff/invitations`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// Whom.
    pub invitee: crate::invitations::Invitee,
    /// For how long, in hours.
    pub hours: u64,
}

/// The answer to [`InviteRequest`]. It holds the secret code.
#[derive(Clone, Serialize, Deserialize)]
pub struct Invited {
    /// The line to hand over.
    pub invitation: String,
    /// Its name, as `staff list` shows it.
    pub id: String,
    /// For whom.
    pub name: String,
    /// When it stops working.
    pub expires: String,
}

/// `GET /v1/staff`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Staff {
    /// Every device that was certified.
    pub devices: Vec<DeviceView>,
    /// Invitations, oldest first.
    pub invitations: Vec<InvitationView>,
}

/// A device of a person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceView {
    /// SHA-256 of the certificate.
    pub fingerprint: String,
    /// The person's name.
    pub name: String,
    /// Their role.
    pub role: Option<String>,
    /// Their department.
    pub department: Option<String>,
    /// Their professional registration.
    pub registration: Option<String>,
    /// When it was certified.
    pub since: String,
    /// When the certificate ends.
    pub expires: String,
    /// When it was revoked.
    pub revoked: Option<String>,
}

/// An invitation, without its code.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InvitationView {
    /// Its name.
    pub id: String,
    /// For whom.
    pub name: String,
    /// Who checked who they are.
    pub checked_by: String,
    /// When it was made.
    pub made: String,
    /// When it stops working.
    pub expires: String,
    /// `open`, `used`, `expired` or `blocked` (too many wrong codes).
    pub state: String,
    /// Wrong codes that it still survives.
    pub tries_left: u32,
}

/// `POST /v1/staff/revocations`: exactly one of the three is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// Fingerprint of a device's certificate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device: Option<String>,
    /// The exact name of a person.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// A certificate of this registrar, PEM.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub certificate: Option<String>,
    /// As RFC 5280 section 5.3.1 names it, in lower case with hyphens, such as `key-compromise`.
    pub reason: String,
}

/// The answer to [`RevokeRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RevokeAnswer {
    /// Fingerprints of the certificates that are revoked.
    pub revoked: Vec<String>,
    /// Their holders' names, in the same order.
    pub names: Vec<String>,
    /// The record of the revocation list.
    pub record: String,
}

/// `GET /v1/audit?after=NUMBER&limit=COUNT`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Audit {
    /// Oldest first.
    pub entries: Vec<AuditLine>,
}

/// The answer to `POST /v1/compact`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Compacted {
    /// What the rows and their keys took on the disk.
    pub before_bytes: u64,
    /// What they take.
    pub after_bytes: u64,
    /// What of that is of use.
    pub live_bytes: u64,
}

/// `POST /v1/backup`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// A whole path, where nothing is yet.
    pub to: std::path::PathBuf,
}

/// The answer to [`BackupRequest`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackedUp {
    /// Where it is.
    pub to: std::path::PathBuf,
    /// Its files, in bytes.
    pub bytes: u64,
}

/// `GET /v1/records/ID`: a record as this node holds it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Its id.
    pub id: String,
    /// Its kind, such as `envelope`.
    pub kind: String,
    /// Its length.
    pub bytes: usize,
    /// When it was issued.
    pub issued: String,
    /// When this node drops it.
    pub expires: String,
    /// ODS codes of the trusts that keep it; empty if all do.
    pub custodians: Vec<String>,
    /// Of an envelope.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<HeldMessage>,
}

/// What a node can see of a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeldMessage {
    /// The conversation.
    pub conversation: String,
    /// The epoch in which it was sent.
    pub epoch: u64,
    /// `application`, `commit`, `welcome` or `submission`.
    pub class: String,
    /// Length of the MLS message.
    pub ciphertext_bytes: usize,
    /// The MLS message, in hexadecimal digits. It begins with the conversation and the epoch once more; what
    /// follows is encrypted under keys that no node has.
    pub ciphertext: String,
}

impl From<&Decoded> for Held {
    fn from(record: &Decoded) -> Self {
        let header = record.header();
        let message = match record.body() {
            Body::Envelope(envelope) => Some(HeldMessage {
                conversation: envelope.conversation.to_string(),
                epoch: envelope.epoch,
                class: envelope.class.name().into(),
                ciphertext_bytes: envelope.content.len(),
                ciphertext: to_hex(&envelope.content),
            }),
            _ => None,
        };
        Self {
            id: record.id().to_string(),
            kind: record.body().kind().name().into(),
            bytes: record.bytes().len(),
            issued: rfc3339(header.issued),
            expires: rfc3339(header.expires),
            custodians: header.custodians.iter().map(ToString::to_string).collect(),
            message,
        }
    }
}

/// The answer to `POST /v1/records`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Imported {
    /// The record's id.
    pub id: String,
    /// Its kind.
    pub kind: String,
}
