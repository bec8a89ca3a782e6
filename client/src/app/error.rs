//! What can go wrong in an operation, as the person is told.

use super::resemblance::Doubt;
use super::view::Moment;
use crate::clock::readable_secs;
use crate::enrol::EnrolError;
use crate::files::FileError;
use crate::lines::one_line;
use crate::node::NodeError;
use crate::pin::PinError;
use crate::profile::ProfileError;
use crate::session::SessionError;
use crate::trust::TrustError;
use crate::vault::VaultError;

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A file of it.
    #[error(transparent)]
    File(#[from] FileError),
    /// The enrolment.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The device is locked.
    #[error("this device is locked: run lanyard unlock, and type your PIN")]
    Locked,
    /// The agent does not answer.
    #[error("the process that keeps this device unlocked does not answer: {0}; run lanyard unlock again")]
    Agent(std::io::Error),
    /// The PIN.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The device is certified, and has no PIN.
    #[error(
        "this device is certified, but it is not known that its PIN was set: {0}; to go on, run lanyard enrol again with the same line"
    )]
    FirstPin(PinError),
    /// What was typed waits until the device is unlocked.
    #[error(
        "this device is locked: what you sent waits on it; run lanyard unlock, type your PIN, and then run lanyard sync"
    )]
    WaitsLocked,
    /// The node.
    #[error(transparent)]
    Node(NodeError),
    /// What the node says of the network.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The conversation.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// What the node shows of a deletion is not about one, or about another than was asked for.
    #[error("what the node shows of the deletion is not believed: {0}; tell your trust's IT")]
    Evidence(String),
    /// No conversation, message or person fits what was typed.
    #[error("no {what} fits {typed:?}; {next}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// What was typed.
        typed: String,
        /// What to do.
        next: &'static str,
    },
    /// Several fit.
    #[error("{typed:?} fits {} {what}; name one of them more exactly:{}", .found.len(), listed(.found))]
    Ambiguous {
        /// What was looked for, in the plural.
        what: &'static str,
        /// What was typed.
        typed: String,
        /// What fits, one a line.
        found: Vec<String>,
    },
    /// Names are alike, and nobody has said who is meant: see [`super::App::confirm`].
    #[error("{}", doubtful(.0))]
    Similar(Vec<Doubt>),
    /// The text holds what such conversations are not for.
    #[error(
        "the text holds {what}, and a social conversation is no place for what identifies a patient: nothing was sent. \
         Take it out, or give your reason with --override REASON, which is kept with the message on this device"
    )]
    Identifying {
        /// What it holds.
        what: String,
    },
    /// The same of a title, which goes with every message.
    #[error(
        "the title holds {what}, and a social conversation is no place for what identifies a patient: choose another one"
    )]
    IdentifyingTitle {
        /// What it holds.
        what: String,
    },
    /// The holder cannot be compared with themselves.
    #[error("that is you: a safety number is compared with somebody else")]
    Oneself,
    /// The directory holds more than it shows.
    #[error(
        "the directory holds more for {0:?} than it shows, so devices may be missing and a safety number would say nothing: \
         compare the number of a conversation, with --conversation"
    )]
    NotAllListed(String),
    /// The person has no device that can be invited.
    #[error(
        "{0} cannot be invited yet: none of their devices has published a key package; \
         ask them to run: lanyard sync"
    )]
    NotReachable(String),
    /// The person is a member already, with every device.
    #[error("{0} is in the conversation already, with every device that can be invited")]
    Member(String),
    /// Nothing to say.
    #[error("the message is empty: give the text as an argument or on standard input")]
    Empty,
    /// Longer than messages of the conversation may live.
    #[error("messages may live for {} at most in this conversation; choose a shorter --expires", readable_secs(*.max_secs))]
    TooLong {
        /// What is allowed, in seconds.
        max_secs: u64,
    },
    /// Longer than the charter or the trust keeps messages of such conversations.
    #[error("messages of {class} conversations may live for {} at most; choose a shorter time", readable_secs(*.max_secs))]
    TooLongKept {
        /// What the conversation is for.
        class: &'static str,
        /// What is allowed, in seconds.
        max_secs: u64,
    },
    /// For the owner trust's people alone.
    #[error(
        "{owner} owns the conversation: its administrators from {owner} can do this, and {owner}'s records officer can delete it"
    )]
    NotOwner {
        /// ODS code of the trust.
        owner: String,
    },
    /// The same of a review.
    #[error(
        "{owner} owns the conversation: only its administrators from {owner} can record a review{}",
        named(.admins, owner)
    )]
    NotReviewer {
        /// ODS code of the trust.
        owner: String,
        /// Who they are.
        admins: Vec<String>,
    },
    /// Nobody has seen the members as they are now.
    #[error(
        "nothing was recorded: the conversation was not shown on this device as it is now, and only what was looked through can be \
         confirmed{}\nlook through them first: {next}",
        changed(.changes)
    )]
    NotShown {
        /// What has changed since the last review, one a line.
        changes: Vec<String>,
        /// The command that shows them.
        next: String,
    },
    /// It was asked for, and not made.
    #[error("the review was not recorded{}; look at the members again, and repeat it", because(.why))]
    NotReviewed {
        /// What the owner trust said, if it said something.
        why: String,
    },
    /// The same of another change.
    #[error("nothing was changed{}; look at the conversation again, and repeat it", because(.why))]
    NotChanged {
        /// What the owner trust said, if it said something.
        why: String,
    },
    /// Members have not been reviewed for too long.
    #[error(
        "nothing was done: {}the members of [{class}] {title:?} were to be reviewed by {due}, and since {read_only} it can only be \
         read; an administrator must review: {next}",
        if *.offline { "as of the last sync, " } else { "" }
    )]
    ReadOnly {
        /// What the conversation is for.
        class: &'static str,
        /// What it is about.
        title: String,
        /// Since when a review is overdue.
        due: Moment,
        /// Since when nothing can be sent.
        read_only: Moment,
        /// Whether the node could not be asked for what came since.
        offline: bool,
        /// By which command, and who the administrators are.
        next: String,
    },
    /// A device is to leave before anybody can write.
    #[error(
        "nothing was sent: a device that was revoked, or has ended, leaves the conversation first, for which {owner} is waited for; try \
         again when its node can be reached"
    )]
    Leaving {
        /// ODS code of the trust that orders changes.
        owner: String,
    },
    /// MLS lets nobody take themselves out; and somebody must stay who can let others in.
    #[error(
        "you cannot take yourself out: another administrator can. If there is none, make one first: \
         lanyard conversation admin CONVERSATION --add PERSON"
    )]
    OwnRemoval,
    /// Somebody else's message.
    #[error(
        "the message was sent by {0}: only the sender, a records officer or the conversation's \
         owner trust may delete it"
    )]
    NotOwn(String),
    /// Refused for good.
    #[error("{0}; it is kept on this device, marked as not sent")]
    NotTaken(String),
    /// Not in it any more.
    #[error("you are no longer a member of [{class}] {title:?}: nothing can be sent to it")]
    Left {
        /// What it was for.
        class: &'static str,
        /// What it was about.
        title: String,
    },
}

impl From<NodeError> for AppError {
    fn from(error: NodeError) -> Self {
        match error.code() {
            // The session has ended there, whatever the agent has: by its time, or because the device was locked.
            Some("locked") => Self::Locked,
            _ => Self::Node(error),
        }
    }
}

impl AppError {
    /// Whether this is what a device gets to see that was revoked, or wiped: [`crate::wipe::look`] tells.
    pub fn may_be_revocation(&self) -> bool {
        match self {
            Self::Node(error) | Self::Pin(PinError::Node(error)) => error.may_be_revocation(),
            Self::Profile(ProfileError::NotEnrolled(_))
            | Self::Pin(PinError::Profile(ProfileError::NotEnrolled(_))) => true,
            _ => false,
        }
    }

    /// Whether the command was used wrongly, as opposed to having failed.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NotFound { .. }
                | Self::Ambiguous { .. }
                | Self::Similar(_)
                | Self::Identifying { .. }
                | Self::IdentifyingTitle { .. }
                | Self::Oneself
                | Self::OwnRemoval
                | Self::Empty
                | Self::TooLong { .. }
                | Self::TooLongKept { .. }
        )
    }
}

/// Who can review, as the end of a sentence.
pub(super) fn named(admins: &[String], owner: &str) -> String {
    if admins.is_empty() {
        return format!(
            "; there is none from {owner}, so any member from {owner} can become one: \
             lanyard conversation admin CONVERSATION --add THEMSELVES"
        );
    }
    format!("; they are {}", admins.join(", "))
}

fn changed(changes: &[String]) -> String {
    if changes.is_empty() {
        return String::new();
    }
    format!("; what has changed since the last review:{}", listed(changes))
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

fn doubtful(doubts: &[Doubt]) -> String {
    let each: Vec<String> = doubts.iter().map(Doubt::to_string).collect();
    let confirm: Vec<String> = doubts.iter().map(|d| format!("--confirm {:?}", d.confirmed_by)).collect();
    let (each, confirm) = (each.join("\n"), confirm.join(" "));
    format!("{each}\nnothing was done; if this is whom you mean, say so with: {confirm}")
}

fn listed(found: &[String]) -> String {
    found.iter().map(|line| format!("\n    {}", one_line(line))).collect()
}
