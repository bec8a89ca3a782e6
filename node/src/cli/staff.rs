//! `lanyard-node staff`: as typed.

use clap::{Args, Subcommand};
use lanyard_crypto::Fingerprint;

use super::officer::reference;
use super::{NodeArgs, ReasonArg};

/// Commands around the trust's staff. All ask the running node that has the registrar's key.
#[derive(Debug, Subcommand)]
pub enum StaffCommand {
    /// Invite a person whose identity was checked; prints the invitation, one line
    #[command(after_help = "Example:\n  \
        lanyard-node staff invite --name \"Dr Ada Okafor\" --role \"Consultant cardiologist\" \\\n    \
        --registration \"GMC 1234567\" --department Cardiology --checked-by \"J. Byrne\" \\\n    \
        --config node1/node.toml\n\n\
        Hand the line to that person by a way that nobody else reads. It works once, for a limited time\n\
        and a limited number of tries: whoever has it can enrol under that name.")]
    Invite(InviteArgs),
    /// List invitations and enrolled devices
    #[command(after_help = "Example:\n  lanyard-node staff list --config node1/node.toml --json")]
    List(ListArgs),
    /// Revoke a device, or all devices of a person, at once and for good: they are wiped
    #[command(after_help = "Examples:\n  \
        lanyard-node staff revoke --device 9f2c... --reason key-compromise --config node1/node.toml\n  \
        lanyard-node staff revoke --name \"Dr Ada Okafor\" --reason superseded --config node1/node.toml")]
    Revoke(RevokeStaffArgs),
    /// Wipe all devices of a person who leaves, and end their open invitations
    #[command(after_help = "Example:\n  \
        lanyard-node staff leave --registration \"GMC 1234567\" --reference HR-12 --config node1/node.toml\n\n\
        Nothing of any conversation is served to them any more, in every trust. They leave the lists of\n\
        members by themselves, as soon as another member of each conversation is online.")]
    Leave(LeaveArgs),
}

/// A person.
#[derive(Debug, Args)]
#[group(id = "whose", required = true, multiple = false)]
pub struct WhoseArgs {
    /// The person's professional registration, with all devices that carry it
    #[arg(long)]
    pub registration: Option<String>,
    /// The person with exactly this name
    #[arg(long)]
    pub name: Option<String>,
}

/// `staff leave`.
#[derive(Debug, Args)]
pub struct LeaveArgs {
    /// Who.
    #[command(flatten)]
    pub whose: WhoseArgs,
    /// Who authorised it: an opaque reference, such as a case number; at most 64 bytes
    #[arg(long, value_parser = reference)]
    pub reference: String,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print what was wiped as JSON
    #[arg(long)]
    pub json: bool,
}

/// `staff invite`.
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// The person's name, as others will see it
    #[arg(long, value_parser = named)]
    pub name: String,
    /// Their role, such as "Consultant cardiologist"
    #[arg(long)]
    pub role: Option<String>,
    /// Their professional registration, such as "GMC 1234567"
    #[arg(long)]
    pub registration: Option<String>,
    /// Their department
    #[arg(long)]
    pub department: Option<String>,
    /// Their staff number, for the identity provider's word to be compared with, where the trust has one
    #[arg(long, value_name = "NUMBER", value_parser = named)]
    pub staff_number: Option<String>,
    /// Who checked that this person is who they say they are; kept with the invitation
    #[arg(long, value_name = "WHO", value_parser = named)]
    pub checked_by: String,
    /// A device of the same person, by its certificate's fingerprint: it is wiped when the new one is enrolled
    #[arg(long, value_name = "FINGERPRINT")]
    pub replaces: Option<Fingerprint>,
    /// How long the invitation works
    #[arg(long, default_value_t = 72, value_parser = clap::value_parser!(u64).range(1..=720))]
    pub hours: u64,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print the invitation as JSON
    #[arg(long)]
    pub json: bool,
}

/// `staff list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Those whom earlier registrars of this node had certified, and who have no device by the present one: whom to invite again
    #[arg(long)]
    pub earlier: bool,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `staff revoke`.
#[derive(Debug, Args)]
#[group(id = "whom", required = true, multiple = false, args = ["device", "name"])]
pub struct RevokeStaffArgs {
    /// The certificate's fingerprint, 64 hexadecimal digits, as `staff list` shows it
    #[arg(long, value_name = "FINGERPRINT")]
    pub device: Option<Fingerprint>,
    /// All devices of the person with exactly this name
    #[arg(long)]
    pub name: Option<String>,
    /// Why
    #[arg(long, value_enum, default_value = "unspecified")]
    pub reason: ReasonArg,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print what was revoked as JSON
    #[arg(long)]
    pub json: bool,
}

/// A person's name, as typed.
fn named(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        1..=64 if !text.chars().any(char::is_control) => Ok(text.to_owned()),
        _ => Err("1 to 64 visible characters are needed".into()),
    }
}
