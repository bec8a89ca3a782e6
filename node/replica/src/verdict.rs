//! The one table of refusals: what each reason means for the gossip that brought it, for the peer that sent it, and for
//! whoever reads the audit log. There is no `_` arm: a new reason compiles only once somebody has decided all three.

use lanyard_crypto::gateway;
use lanyard_crypto::network::IdentityError;
use lanyard_crypto::record::{DecodeError, VerifyError};

use crate::limits::PENALTY_MAX;

/// Why a record, or a request, was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no record.
    #[error("not a record: {0}")]
    Malformed(DecodeError),
    /// Nobody who may vouches for it.
    #[error("not vouched for: {0}")]
    Unverified(VerifyError),
    /// Issued further in the future than clocks may differ.
    #[error("issued {0} seconds in the future; clocks may differ by 300: check both clocks")]
    Future(u64),
    /// Past its expiry.
    #[error("past its expiry")]
    Expired,
    /// Expires later than the charter lets an envelope live.
    #[error("lives {0} seconds; the charter allows {1}")]
    Retention(u64, u64),
    /// This trust is no custodian of the record.
    #[error("this trust is not among the custodians")]
    NotCustodian,
    /// A custodian that is no member, or one that is missing.
    #[error("custodians: {0}")]
    Custodians(String),
    /// A tombstone names it.
    #[error("deleted by tombstone {0}")]
    Deleted(String),
    /// A newer record of the same subject is held.
    #[error("a newer {0} is in force here")]
    Superseded(&'static str),
    /// The tombstone's trust neither sent what it names nor owns the conversation.
    #[error("trust {0} may not delete this: neither its sender's trust nor the conversation's owner")]
    MayNotDelete(String),
    /// The tombstone would be gone before what it names has expired.
    #[error("the tombstone expires before what it names")]
    TombstoneTooShort,
    /// The trust has ordered the deletion of one of these too often.
    #[error("trust {0} has ordered the deletion of one of these as often as is kept")]
    TooManyOrders(String),
    /// A commit or welcome that the owner trust did not publish.
    #[error("only {0}, which owns the conversation, publishes its commits and welcomes")]
    NotOwner(String),
    /// Another commit has this epoch.
    #[error("epoch {0} already has its commit: process it, and make the change again")]
    DuplicateCommit(u64),
    /// The hub's rules, or MLS itself, refuse the change.
    #[error("the change is not acceptable: {0}")]
    Change(String),
    /// The MLS message is not what the envelope says.
    #[error("the MLS message is not what the envelope states: {0}")]
    Content(String),
    /// This node was restored from a backup, or has lost its store.
    #[error(
        "this node was restored from a backup, or lost its store, and neither takes nor serves this until other nodes have told it \
         what has come and gone since; it goes on by itself, and its operator sees by `status` whom it waits for"
    )]
    Restored,
    /// The device is no member of the conversation as far as this node knows.
    #[error("this device is not a member of the conversation")]
    NotMember,
    /// The device asks to delete what it did not send.
    #[error("this device did not send {0}: only its sender, or a records officer, may delete it")]
    NotSender(String),
    /// What a device says of its erasure is not by that device.
    #[error("the device's line is not believed: {0}")]
    Line(String),
    /// The device asks for what only an administrator of the conversation may, from the trust that owns it.
    #[error(
        "only an administrator of the conversation from {0}, which owns it, or {0}'s records officer, may delete all of it"
    )]
    NotAdministrator(String),
    /// A hold that cannot be placed or ended so.
    #[error("the hold: {0}")]
    Hold(String),
    /// The device is revoked, or is being revoked at this moment.
    #[error("this device was revoked: ask your trust for a new invitation")]
    Revoked,
    /// The clock of this machine is behind that of the others by so many seconds or more.
    #[error(
        "this node's clock is {0} seconds or more behind that of the other trusts, so that it orders nothing: nothing is lost, it is taken \
         once the machine's clock is set; tell the node's operator"
    )]
    ClockBehind(u64),
    /// The device has no PIN here.
    #[error(
        "this device has no PIN at this node, and its enrolment alone sets the first one: run lanyard enrol again with the same line, \
         or ask your trust for a new invitation"
    )]
    NoPin,
    /// The device has one.
    #[error(
        "this device has a PIN already, and enrolling gives it no other: run lanyard unlock; if the PIN is forgotten, ask your trust \
         for an invitation, and enrol with another --profile DIR"
    )]
    PinSet,
    /// The device has tried its PIN too often for now.
    #[error("the PIN was tried too often: wait {0} seconds, then try again")]
    PinWait(u64),
    /// The PIN's record is gone.
    #[error(
        "the PIN's record was destroyed, and with it what this device kept: ask your trust for a new invitation"
    )]
    PinDestroyed,
    /// The device has not proved its PIN.
    #[error("this needs the device's PIN first: lanyard unlock")]
    Locked,
    /// Something was tried or set since the attempt that is to be ended.
    #[error("nothing is under way with this PIN, or something newer is: try again")]
    PinExchange,
    /// The request names what is not here.
    #[error("{0} is not held here")]
    NotFound(String),
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Refusal::Malformed(error)
    }
}

impl From<VerifyError> for Refusal {
    fn from(error: VerifyError) -> Self {
        Refusal::Unverified(error)
    }
}

/// What gossip does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Relay it.
    Accept,
    /// Drop it without blame.
    Ignore,
    /// Drop it and hold it against the peer that relayed it.
    Reject,
}

/// The decisions about one reason for refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The stable word for it, in the audit log and in answers.
    pub code: &'static str,
    /// For gossip.
    pub verdict: Verdict,
    /// Points against the peer that sent it; at [`crate::limits::PENALTY_MAX`] it loses its connection.
    pub penalty: u32,
    /// Whether the sender should stop offering it. If not, it may be acceptable later.
    pub last: bool,
}

const fn rule(code: &'static str, verdict: Verdict, penalty: u32, last: bool) -> Ruling {
    Ruling { code, verdict, penalty, last }
}

impl Refusal {
    /// The table.
    pub fn ruling(&self) -> Ruling {
        use Verdict::{Accept, Ignore, Reject};
        match self {
            Refusal::Malformed(DecodeError::Cbor(_)) => rule("malformed", Reject, 50, true),
            Refusal::Malformed(DecodeError::Cose(_)) => rule("malformed", Reject, 50, true),
            Refusal::Malformed(DecodeError::Bounds(_)) => rule("out-of-bounds", Reject, 50, true),
            // A network upgrades node by node: a newer format is nobody's fault.
            Refusal::Malformed(DecodeError::Version(_)) => rule("unknown-version", Ignore, 0, false),
            Refusal::Unverified(error) => unverified(error),
            // An honest peer's clock may be ahead of ours.
            Refusal::Future(_) => rule("future", Ignore, 0, false),
            Refusal::Expired => rule("expired", Ignore, 0, true),
            // Under an earlier charter it may have been right, so that an honest peer still holds it.
            Refusal::Retention(..) => rule("retention", Ignore, 0, true),
            // On its way to others: gossip relays what direct delivery should not have brought.
            Refusal::NotCustodian => rule("not-custodian", Accept, 5, true),
            Refusal::Custodians(_) => rule("custodians", Reject, 10, true),
            Refusal::Deleted(_) => rule("deleted", Ignore, 0, true),
            Refusal::Superseded(_) => rule("superseded", Ignore, 0, true),
            // Not `Reject`: a peer that does not hold what the tombstone names cannot tell.
            Refusal::MayNotDelete(_) => rule("may-not-delete", Ignore, 0, true),
            Refusal::TombstoneTooShort => rule("tombstone-too-short", Ignore, 0, true),
            // It is the fault of who signed it, not of a peer that has had fewer of them.
            Refusal::TooManyOrders(_) => rule("too-many-orders", Ignore, 0, true),
            Refusal::NotOwner(_) => rule("not-owner", Reject, 20, true),
            // It is the owner's fault, not that of an honest peer to which the owner has told another story.
            Refusal::DuplicateCommit(_) => rule("duplicate-commit", Ignore, 0, true),
            Refusal::Change(_) => rule("change-refused", Ignore, 10, true),
            Refusal::Content(_) => rule("content-mismatch", Reject, 20, true),
            Refusal::Restored => rule("restored", Ignore, 0, false),
            Refusal::ClockBehind(_) => rule("clock-behind", Ignore, 0, false),
            Refusal::NotMember => rule("not-member", Reject, 0, true),
            Refusal::NotSender(_) => rule("not-sender", Reject, 0, true),
            Refusal::Line(_) => rule("bad-line", Reject, 0, true),
            Refusal::NotAdministrator(_) => rule("not-administrator", Reject, 0, true),
            Refusal::Hold(_) => rule("hold", Reject, 0, true),
            Refusal::Revoked => rule("revoked", Reject, 0, true),
            Refusal::NoPin => rule("no-pin", Reject, 0, true),
            Refusal::PinSet => rule("pin-set", Reject, 0, true),
            Refusal::PinWait(_) => rule("pin-wait", Ignore, 0, false),
            Refusal::PinDestroyed => rule("pin-destroyed", Reject, 0, true),
            Refusal::Locked => rule("locked", Reject, 0, true),
            Refusal::PinExchange => rule("pin-exchange", Ignore, 0, false),
            Refusal::NotFound(_) => rule("not-found", Reject, 0, true),
        }
    }

    /// The answer to a client or an operator.
    pub fn to_answer(&self) -> gateway::Refusal {
        gateway::Refusal { code: self.ruling().code.into(), message: self.to_string() }
    }
}

fn unverified(error: &VerifyError) -> Ruling {
    use Verdict::{Ignore, Reject};
    match error {
        VerifyError::OtherNetwork => rule("other-network", Reject, 20, true),
        // One is forgiven: an honest peer may have taken it in a batch (docs/decisions/0003-batch-verification.md).
        VerifyError::Signature => rule("bad-signature", Reject, 60, true),
        VerifyError::Signer(error) | VerifyError::Content(error) => match error {
            // Its entry may still be on its way.
            IdentityError::UnknownCertificate(_) => rule("unknown-signer", Ignore, 0, false),
            IdentityError::CharterExpired => rule("charter-expired", Ignore, 0, false),
            // What time, a revocation or a charter has changed: an honest peer may have taken it before, and offers it still.
            IdentityError::UnknownTrust(_) => rule("unknown-trust", Ignore, 0, false),
            IdentityError::Chain(_) => rule("bad-chain", Ignore, 0, false),
            IdentityError::Country(..) => rule("wrong-country", Ignore, 0, false),
            IdentityError::NotAChain(_) => rule("bad-chain", Reject, 20, true),
        },
        VerifyError::Right { .. } => rule("no-right", Reject, 50, true),
        VerifyError::OtherTrust { .. } => rule("other-trust", Reject, 50, true),
        VerifyError::Charter(error) => {
            use lanyard_crypto::charter::CharterError as E;
            match error {
                E::Invalid { .. } => rule("charter-invalid", Reject, 20, true),
                E::Threshold { .. } => rule("charter-threshold", Reject, 50, true),
                E::Rollback { .. } => rule("charter-rollback", Ignore, 1, true),
                E::Fork { .. } => rule("charter-fork", Ignore, 1, true),
                E::Gap { .. } => rule("charter-gap", Ignore, 0, false),
                E::OtherNetwork { .. } => rule("other-network", Reject, 20, true),
            }
        }
    }
}

/// What a peer did wrong in anti-entropy, apart from the records that it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misconduct {
    /// A frame that no honest node makes.
    Malformed,
    /// A question that it has not answered in time, or kept putting off.
    Unfinished,
    /// It sent nothing of what it had said that it holds.
    Undelivered,
    /// A page without records, or one of few that is not the last.
    Empty,
    /// Symbols out of which nothing can be read, again and again.
    Unreadable,
    /// Questions, although it was told to wait.
    Impatient,
    /// It asks for everything, again and again.
    Insatiable,
}

impl Misconduct {
    /// The table: the stable word for it, its points, and what an operator reads when the peer loses its connection by it.
    const fn ruling(self) -> (&'static str, u32, &'static str) {
        match self {
            Misconduct::Malformed => ("malformed-frame", 50, "sent frames that say nothing"),
            // One is forgiven after a minute and a quarter: a node may be stopped for a while. Three in a row are not.
            Misconduct::Unfinished => ("unfinished", 75, "does not answer what it is asked"),
            // What expires or is deleted between two frames is undelivered too; what answers our own questions costs this once a round, so
            // that time forgives it.
            Misconduct::Undelivered => ("undelivered", 10, "does not deliver what it says that it holds"),
            // As much as a second forgives: who looks through records of others for it takes as long for a page.
            Misconduct::Empty => ("undelivered", 1, "does not deliver what it says that it holds"),
            Misconduct::Unreadable => ("unreadable", 20, "answers with symbols that make no sense"),
            Misconduct::Impatient => ("impatient", 5, "asks on although it was told to wait"),
            Misconduct::Insatiable => ("insatiable", PENALTY_MAX, "asks for everything again and again"),
        }
    }

    /// The stable word for it, in the audit log.
    pub fn code(self) -> &'static str {
        self.ruling().0
    }

    /// Points against the peer; at [`PENALTY_MAX`] it loses its connection.
    pub fn penalty(self) -> u32 {
        self.ruling().1
    }

    /// For the log.
    pub fn reason(self) -> &'static str {
        self.ruling().2
    }
}
