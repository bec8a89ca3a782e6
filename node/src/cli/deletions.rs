//! `lanyard-node deletions`: as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lanyard_crypto::RecordId;

use super::{ExportArgs, NodeArgs};

/// `deletions`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  lanyard-node deletions --config node1/node.toml\n  \
        lanyard-node deletions 5b0c... --config node1/node.toml --json\n  \
        lanyard-node deletions export ryj-deletions.jsonl --config node1/node.toml\n  \
        lanyard-node deletions verify ryj-deletions.jsonl --charter charter.cbor\n\n\
        A receipt proves that a trust's node, or a device, attested erasure, no more."
)]
pub struct DeletionsArgs {
    /// Something else than to show them.
    #[command(subcommand)]
    pub command: Option<DeletionsCommand>,
    /// The tombstone's record id, to show one deletion in full
    pub id: Option<RecordId>,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// Print as CSV: a line for each replica and each device
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// What else there is to do with deletions.
#[derive(Debug, Subcommand)]
pub enum DeletionsCommand {
    /// Write the deletions with all their evidence to a file, sealed by the running node, to show it to somebody
    #[command(
        after_help = "Example:\n  lanyard-node deletions export ryj-deletions.jsonl --config node1/node.toml"
    )]
    Export(ExportArgs),
    /// Check such a file, without any node
    Verify(VerifyDeletionsArgs),
}

/// `deletions verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  lanyard-node deletions verify ryj-deletions.jsonl --charter charter.cbor\n\n\
    The charter must be the one that was in force when the report was made."
)]
pub struct VerifyDeletionsArgs {
    /// The report
    pub file: PathBuf,
    /// The network's charter
    #[arg(long, value_name = "FILE")]
    pub charter: PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}
