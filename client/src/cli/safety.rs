//! `safety`.

use clap::Args;

pub(super) const EXAMPLES: &str = "\
Read the number to each other, in person or by a call in which you know the voice. If it is the same,
both of you see the same devices for each other. A false one that both of you see leaves the number
the same: each of you must hold every device that is counted as yours, and is told if there are more
than one. The number changes when one of you gets a new device or certificate, and a conversation's
with each change of members.

Examples:
  lanyard safety \"GMC 7654321\"
  lanyard safety --conversation \"Bed 4 transfer\" --qr";

/// Whose number to show.
#[derive(Debug, Args)]
pub struct SafetyArgs {
    /// With whom to compare: a registration, a full name, either with its trust, or a device
    #[arg(value_name = "PERSON", required_unless_present = "conversation", conflicts_with = "conversation")]
    pub person: Option<String>,
    /// The number of a conversation instead: its title, its id, or the first 4 or more digits of it
    #[arg(long, value_name = "CONVERSATION")]
    pub conversation: Option<String>,
    /// Draw the number as a code to scan, too
    #[arg(long)]
    pub qr: bool,
}
