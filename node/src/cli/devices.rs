//! `lanyard-node device`: as typed.

use clap::{Args, Subcommand};
use lanyard_crypto::Fingerprint;

use super::officer::reference;
use super::staff::InviteArgs;
use super::{NodeArgs, WhoseArgs};
use crate::wipes::Reason;

/// Wiping devices, and what has come of it. All ask the running node that has the registrar's key.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Wipe a device, or all devices of a person, at once and for good
    #[command(after_help = "Examples:\n  \
        lanyard-node device wipe --device 9f2c... --reference INC-7 --reason lost --config node1/node.toml\n  \
        lanyard-node device wipe --registration \"GMC 1234567\" --reference INC-8 --reason stolen \\\n    \
        --config node1/node.toml\n\n\
        Its access ends at once, and what its PIN is checked with is destroyed, so that nothing on it can be\n\
        opened any more, whether it ever comes online again or not. If it does, it destroys what it keeps, and\n\
        says so: see lanyard-node device report.")]
    Wipe(WipeArgs),
    /// Wipe a device, and invite the person who gets it next
    #[command(after_help = "Example:\n  \
        lanyard-node device redeploy --device 9f2c... --reference MOVE-3 --name \"Dr Ben Hughes\" \\\n    \
        --registration \"GMC 7654321\" --checked-by \"J. Byrne\" --config node1/node.toml")]
    Redeploy(RedeployArgs),
    /// What has come of each wipe: when access ended, and whether the device has confirmed
    #[command(after_help = "Example:\n  lanyard-node device report --config node1/node.toml --json\n\n\
        A device's receipt proves that its program attested the destruction, no more.")]
    Report(ReportArgs),
}

/// `device wipe`.
#[derive(Debug, Args)]
pub struct WipeArgs {
    /// Whose.
    #[command(flatten)]
    pub whose: WhoseArgs,
    /// One device, by its certificate's fingerprint, 64 hexadecimal digits, as `staff list` shows it
    #[arg(long, value_name = "FINGERPRINT", group = "whose")]
    pub device: Option<Fingerprint>,
    /// Who authorised it: an opaque reference, such as a case number; at most 64 bytes
    #[arg(long, value_parser = reference)]
    pub reference: String,
    /// Why, such as lost, stolen, key-compromise or cessation-of-operation
    #[arg(long, value_parser = reason, default_value = "unspecified")]
    pub reason: Reason,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print what was wiped as JSON
    #[arg(long)]
    pub json: bool,
}

/// `device redeploy`.
#[derive(Debug, Args)]
pub struct RedeployArgs {
    /// The device, by its certificate's fingerprint, 64 hexadecimal digits, as `staff list` shows it
    #[arg(long, value_name = "FINGERPRINT")]
    pub device: Fingerprint,
    /// Who authorised it: an opaque reference, such as a case number; at most 64 bytes
    #[arg(long, value_parser = reference)]
    pub reference: String,
    /// Who gets it next.
    #[command(flatten)]
    pub invite: InviteArgs,
}

/// `device report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// One device, by its certificate's fingerprint
    #[arg(long, value_name = "FINGERPRINT")]
    pub device: Option<Fingerprint>,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

fn reason(text: &str) -> Result<Reason, String> {
    let names = || Reason::ALL.map(Reason::name).join(", ");
    Reason::from_name(text).ok_or_else(|| format!("no such reason; possible are {}", names()))
}
