//! The kinds of record. Field order is wire format: the index is the CBOR key (`docs/reference/records.cddl`).

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::receipt::Receipt;
use crate::charter::Charter;
use crate::{AuditHash, ConversationId, RecordId, Timestamp};

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The rules and members of the network; signed by its authorities.
    Charter(Charter),
    /// What a trust's registrar, or its root, has revoked.
    Crl(Crl),
    /// A certified device or node of a trust; signed by the trust's registrar.
    Entry(Entry),
    /// One MLS message; signed by the sender's home node, a commit by the owner trust's node.
    Envelope(Envelope),
    /// An order to erase; signed by the node of a trust that may delete.
    Tombstone(Tombstone),
    /// What a replica attests of deletions; signed by its node.
    Receipt(Receipt),
    /// How far a node's audit log has come; signed by that node.
    Head(Head),
}

/// The kind of a record, without what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the variants are those of Body")]
pub enum Kind {
    Charter = 0,
    Crl = 1,
    Entry = 2,
    Envelope = 3,
    Tombstone = 4,
    Receipt = 5,
    Head = 6,
}

impl Kind {
    /// As shown to people and written in logs.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Charter => "charter",
            Kind::Crl => "crl",
            Kind::Entry => "entry",
            Kind::Envelope => "envelope",
            Kind::Tombstone => "tombstone",
            Kind::Receipt => "receipt",
            Kind::Head => "head",
        }
    }
}

impl Body {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Body::Charter(_) => Kind::Charter,
            Body::Crl(_) => Kind::Crl,
            Body::Entry(_) => Kind::Entry,
            Body::Envelope(_) => Kind::Envelope,
            Body::Tombstone(_) => Kind::Tombstone,
            Body::Receipt(_) => Kind::Receipt,
            Body::Head(_) => Kind::Head,
        }
    }
}

/// An X.509 CRL (RFC 5280, section 5) with the certificate of its issuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crl {
    /// The CRL, DER.
    #[serde(with = "serde_bytes")]
    pub list: Vec<u8>,
    /// The issuer's certificate, DER: a registrar, or the root itself.
    #[serde(with = "serde_bytes")]
    pub issuer: Vec<u8>,
}

/// A directory entry: one certificate and what others need to reach its holder. The latest issued replaces earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The holder's certificate and the registrar's, DER, in this order.
    pub chain: Vec<ByteBuf>,
    /// Of a device: an MLS key package of last resort, as an MLSMessage. Of a node: absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key_package: Option<ByteBuf>,
    /// Of a node: the multiaddresses at which peers reach it. Of a device: empty.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub addresses: Vec<String>,
    /// Of a device: whether its holder wants to be contacted now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub available: Option<bool>,
}

/// What the MLS message in an envelope is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// A PrivateMessage with application data.
    Application,
    /// A PublicMessage commit that the owner trust accepted; one per epoch.
    Commit,
    /// A Welcome for new members.
    Welcome,
    /// A change that a member asks the owner trust to accept: [`Submission`].
    Submission,
}

impl Class {
    /// As shown to people and written in logs.
    pub fn name(self) -> &'static str {
        match self {
            Class::Application => "application",
            Class::Commit => "commit",
            Class::Welcome => "welcome",
            Class::Submission => "submission",
        }
    }
}

/// One MLS message of one conversation. Who sent it only members learn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Also the MLS group id.
    pub conversation: ConversationId,
    /// The epoch in which the message was made; a welcome leads into it.
    pub epoch: u64,
    /// What the content is.
    pub class: Class,
    /// The MLS message as an MLSMessage (RFC 9420, section 6), or an encoded [`Submission`].
    #[serde(with = "serde_bytes")]
    pub content: Vec<u8>,
}

/// What a member hands to the owner trust's node, which orders commits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// A PublicMessage commit, as an MLSMessage.
    #[serde(with = "serde_bytes")]
    pub commit: Vec<u8>,
    /// The Welcome for those whom it adds, as an MLSMessage.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub welcome: Option<ByteBuf>,
    /// For the first commit of a conversation: the GroupInfo of the epoch before it, with its ratchet tree.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group_info: Option<ByteBuf>,
}

/// Why something was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Reason {
    Transcribed,
    SentInError,
    WrongRecipient,
    PolicyExpired,
    SubjectRequest,
    Incident,
}

impl Reason {
    /// Every reason, in wire order.
    pub const ALL: [Reason; 6] = [
        Reason::Transcribed,
        Reason::SentInError,
        Reason::WrongRecipient,
        Reason::PolicyExpired,
        Reason::SubjectRequest,
        Reason::Incident,
    ];

    /// As typed and shown.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Transcribed => "transcribed",
            Reason::SentInError => "sent-in-error",
            Reason::WrongRecipient => "wrong-recipient",
            Reason::PolicyExpired => "policy-expired",
            Reason::SubjectRequest => "subject-request",
            Reason::Incident => "incident",
        }
    }

    /// The reason of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.name() == name)
    }
}

/// An order to erase application messages of one conversation. The record's own `expires` must not come before the
/// expiry of anything that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Whose messages.
    pub conversation: ConversationId,
    /// Which of them.
    pub target: Target,
    /// Why.
    pub reason: Reason,
    /// Who authorised it: an opaque reference into the deleting trust's audit log.
    #[serde(with = "serde_bytes")]
    pub reference: Vec<u8>,
}

/// What a tombstone names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// These envelopes.
    Envelopes(Vec<RecordId>),
    /// Every application message issued at or before this moment.
    UpTo(Timestamp),
    /// A standing order: every application message issued at or before this moment, so many seconds after it was issued.
    Standing(Timestamp, u64),
}

/// A head of a node's audit log: its newest row, as of when the record was issued. A log that does not contain the row of a head
/// which its node has signed is not the log that the node had then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The number of the newest row; the first row has 1.
    pub number: u64,
    /// What covers that row and all before it.
    pub hash: AuditHash,
    /// The number of the last row that the node had dropped from the old end of its log; 0 if none.
    pub dropped: u64,
}
