//! `lanyard-node delete` and `hold`, for the trust's records officer: as typed.

use clap::{Args, Subcommand};
use lanyard_crypto::record::Reason;
use lanyard_crypto::{ConversationId, Fingerprint, Timestamp};

use super::NodeArgs;
use crate::time::from_rfc3339;

/// Deletions by the records officer. All ask the running node.
#[derive(Debug, Subcommand)]
pub enum DeleteCommand {
    /// Delete every message of a conversation that this trust owns, up to a moment, at every replica
    #[command(after_help = "Example:\n  \
        lanyard-node delete conversation 3f9c...-RYJ --reason transcribed --reference EPR-2207 \\\n    \
        --config node1/node.toml\n\n\
        A receipt proves that a trust's node attested erasure, no more.")]
    Conversation(DeleteConversationArgs),
    /// Delete everything that a person of this trust sent, at every replica
    #[command(after_help = "Examples:\n  \
        lanyard-node delete person --registration \"GMC 1234567\" --reason subject-request \\\n    \
        --reference DSR-41 --config node1/node.toml\n  \
        lanyard-node delete person --device 9f2c... --reason incident --reference INC-7 \\\n    \
        --config node1/node.toml\n\n\
        It names what the person's devices sent through this node. What people of other trusts sent, this\n\
        node does not know: their own trust's records officer deletes it there.")]
    Person(DeletePersonArgs),
}

/// Why, and who authorised it.
#[derive(Debug, Args)]
pub struct OrderArgs {
    /// Why: transcribed, sent-in-error, wrong-recipient, policy-expired, subject-request or incident
    #[arg(long, value_parser = reason)]
    pub reason: Reason,
    /// An opaque reference, such as a case number: every trust sees it, so no name of a person; at most 64 bytes
    #[arg(long, value_parser = reference)]
    pub reference: String,
}

/// `delete conversation`.
#[derive(Debug, Args)]
pub struct DeleteConversationArgs {
    /// The conversation's id, as `lanyard conversation show` prints it
    #[arg(value_name = "CONVERSATION")]
    pub conversation: ConversationId,
    /// Messages up to this moment, such as 2026-03-31 or 2026-03-31T12:00:00Z; without it, up to now
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub up_to: Option<Timestamp>,
    /// The order.
    #[command(flatten)]
    pub order: OrderArgs,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print the deletion as JSON
    #[arg(long)]
    pub json: bool,
}

/// `delete person`.
#[derive(Debug, Args)]
#[group(id = "whose", required = true, multiple = false, args = ["registration", "device"])]
pub struct DeletePersonArgs {
    /// The person's professional registration, with all devices that carry it
    #[arg(long)]
    pub registration: Option<String>,
    /// One device, by its certificate's fingerprint, 64 hexadecimal digits, as `staff list` shows it
    #[arg(long, value_name = "FINGERPRINT")]
    pub device: Option<Fingerprint>,
    /// In conversations that other trusts own too
    #[arg(long)]
    pub everywhere: bool,
    /// The order.
    #[command(flatten)]
    pub order: OrderArgs,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print the deletions as JSON
    #[arg(long)]
    pub json: bool,
}

/// Holds on conversations, at this trust alone. All ask the running node.
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Keep what a conversation would lose by deletion or expiry, out of everybody's reach
    #[command(after_help = "Example:\n  \
        lanyard-node hold place 3f9c...-RYJ --reference INQ-7 --reason \"coroner's inquiry\" \\\n    \
        --until 2027-03-31 --config node1/node.toml\n\n\
        What is deleted or expires meanwhile is delivered and served to nobody any more, and erased when the\n\
        hold ends. The tally of each deletion shows the reference and the date to the trust that ordered it.\n\
        Placing it again lets it end later. It holds on this node alone: place it on each node of the trust.")]
    Place(PlaceHoldArgs),
    /// List holds, and what they keep
    #[command(after_help = "Example:\n  lanyard-node hold list --config node1/node.toml --json")]
    List(ListHoldsArgs),
    /// End a hold before its date: what it kept is erased
    #[command(after_help = "Example:\n  \
        lanyard-node hold end 3f9c...-RYJ --reference INQ-7 --config node1/node.toml")]
    End(EndHoldArgs),
}

/// `hold place`.
#[derive(Debug, Args)]
pub struct PlaceHoldArgs {
    /// The conversation's id, as `lanyard conversation show` prints it
    #[arg(value_name = "CONVERSATION")]
    pub conversation: ConversationId,
    /// An opaque reference, such as a case number: other trusts see it; at most 64 bytes
    #[arg(long, value_parser = reference)]
    pub reference: String,
    /// Why; it stays on this node, and in its audit log
    #[arg(long)]
    pub reason: String,
    /// When the hold ends, such as 2027-03-31 or 2027-03-31T12:00:00Z
    #[arg(long, value_name = "DATE", value_parser = moment)]
    pub until: Timestamp,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print the hold as JSON
    #[arg(long)]
    pub json: bool,
}

/// `hold list`.
#[derive(Debug, Args)]
pub struct ListHoldsArgs {
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `hold end`.
#[derive(Debug, Args)]
pub struct EndHoldArgs {
    /// The conversation's id
    #[arg(value_name = "CONVERSATION")]
    pub conversation: ConversationId,
    /// Under which reference the hold ends; at most 64 bytes
    #[arg(long, value_parser = reference)]
    pub reference: String,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

fn reason(text: &str) -> Result<Reason, String> {
    let names = || Reason::ALL.map(Reason::name).join(", ");
    Reason::from_name(text).ok_or_else(|| format!("no such reason; possible are {}", names()))
}

pub(super) fn reference(text: &str) -> Result<String, String> {
    match text.len() {
        1..=64 if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err("1 to 64 bytes are needed".into()),
    }
}

/// A day stands for its beginning.
fn moment(text: &str) -> Result<Timestamp, String> {
    let day = || from_rfc3339(&format!("{text}T00:00:00Z"));
    let moment = from_rfc3339(text).or_else(day);
    moment
        .ok_or_else(|| "a day such as 2027-03-31, or a moment such as 2027-03-31T12:00:00Z, is needed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_days_or_to_the_second() {
        assert_eq!(moment("1970-01-02"), Ok(Timestamp::from_secs(86_400)));
        assert_eq!(moment("1970-01-02T00:00:07Z"), Ok(Timestamp::from_secs(86_407)));
        for wrong in ["", "tomorrow", "2027-02-30", "2027-3-1", "31-03-2027", "2027-03-31T12:00"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_reason_is_refused_with_the_list() {
        assert_eq!(reason("incident"), Ok(Reason::Incident));
        let said = reason("because").unwrap_err();
        assert!(Reason::ALL.iter().all(|known| said.contains(known.name())), "{said}");
        assert!(reference("").is_err() && reference(&"x".repeat(65)).is_err() && reference("a\nb").is_err());
    }
}
