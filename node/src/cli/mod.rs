//! What an operator may type. What it means is in [`crate::commands`].

mod audit;
mod deletions;
mod devices;
mod network;
mod officer;
mod operate;
mod staff;
mod storage;
mod trust;

use clap::{Parser, Subcommand};

pub use audit::{AuditArgs, AuditCommand, ExportArgs, HeadsArgs, VerifyArgs};
pub use deletions::{DeletionsArgs, DeletionsCommand, VerifyDeletionsArgs};
pub use devices::{DeviceCommand, RedeployArgs, ReportArgs, WipeArgs};
pub use network::{
    AuthorityKeyArgs, ClassRetention, FoundArgs, ImportArgs, MemberArg, NetworkCommand, ProposeArgs,
    ShowCharterArgs, SignArgs,
};
pub use officer::{
    DeleteCommand, DeleteConversationArgs, DeletePersonArgs, EndHoldArgs, HoldCommand, ListHoldsArgs,
    PlaceHoldArgs,
};
pub use operate::{CheckArgs, HeldArgs, NodeArgs, RunArgs, StatusArgs};
pub use staff::{InviteArgs, LeaveArgs, ListArgs, RevokeStaffArgs, StaffCommand, WhoseArgs};
pub use storage::{BackupArgs, CompactArgs, KeyCommand, RestoreArgs, RotateArgs};
pub use trust::{InitArgs, IssueNodeArgs, ReasonArg, RenewRegistrarArgs, RevokeArgs, ShowArgs, TrustCommand};

/// A trust's Lanyard node, and what its operator does around it.
#[derive(Debug, Parser)]
#[command(
    name = "lanyard-node",
    version,
    max_term_width = 110,
    after_help = "A trust's first hour, in this order:\n  \
        lanyard-node trust init --ods RYJ --name \"Royal Jubilee Hospital\" --dir ryj\n  \
        lanyard-node trust issue-node --dir ryj --name \"RYJ node 1\" --hosting GB \\\n    \
        --address node.ryj.example --out node1\n  \
        lanyard-node check --config node1/node.toml\n  \
        lanyard-node run --config node1/node.toml\n\n\
        Exit codes: 0 done, 1 failed, 2 used wrongly."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The trust's own certificates: root, registrar, nodes
    #[command(subcommand)]
    Trust(TrustCommand),
    /// The charter of a regional network
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Who may connect to this trust's node (asks the running node)
    #[command(subcommand)]
    Staff(StaffCommand),
    /// Wipe devices, hand them to others, and see what they have confirmed (asks the running node)
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Run the node until SIGTERM or SIGINT
    Run(RunArgs),
    /// Say everything that is wrong with a configuration, without running it
    Check(CheckArgs),
    /// What the running node is connected to, and holds
    Status(StatusArgs),
    /// Deletions and who has confirmed them (asks the running node)
    Deletions(DeletionsArgs),
    /// Delete a conversation, or what a person sent, at every replica (asks the running node)
    #[command(subcommand)]
    Delete(DeleteCommand),
    /// Keep what a conversation would lose, out of everybody's reach (asks the running node)
    #[command(subcommand)]
    Hold(HoldCommand),
    /// What the running node holds of a record, such as a message
    Held(HeldArgs),
    /// Give back the disk space of what was deleted (asks the running node)
    Compact(CompactArgs),
    /// Copy the store to a directory (asks the running node)
    Backup(BackupArgs),
    /// Put a backup in the place of a store that is gone (the node must be stopped)
    Restore(RestoreArgs),
    /// The key of the node's store (the node must be stopped)
    #[command(subcommand)]
    Key(KeyCommand),
    /// What the running node decided and refused, and why; and what is signed of that
    Audit(AuditArgs),
}

/// A number of days, up to ten years.
fn days(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(days @ 1..=3650) => Ok(days),
        _ => Err("1 to 3650 days are needed".into()),
    }
}
