//! `lanyard-node audit`: as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::NodeArgs;

/// `audit`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  lanyard-node audit --after 120 --limit 50 --config node1/node.toml --json\n  \
        lanyard-node audit verify --config node1/node.toml\n  \
        lanyard-node audit export ryj-audit.jsonl --config node1/node.toml"
)]
pub struct AuditArgs {
    /// Something else than to show entries.
    #[command(subcommand)]
    pub command: Option<AuditCommand>,
    /// Show only entries behind this number, the oldest of them first; without it, the newest entries
    #[arg(long, value_name = "NUMBER")]
    pub after: Option<u64>,
    /// Show at most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub limit: u64,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// What else there is to do with audit logs.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Write the whole audit log of the running node to a file, signed, to show it to somebody
    #[command(after_help = "Example:\n  lanyard-node audit export ryj-audit.jsonl --config node1/node.toml")]
    Export(ExportArgs),
    /// Check the audit log of the running node, or an exported one without any node
    Verify(VerifyArgs),
    /// What the running node holds that nodes have signed of their audit logs
    Heads(HeadsArgs),
}

/// `audit export` and `deletions export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The file, which must not be there yet
    pub file: PathBuf,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `audit verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lanyard-node audit verify --config node1/node.toml\n  \
    lanyard-node audit verify ryj-audit.jsonl --charter charter.cbor --heads heads.json\n\n\
    An export shows what its node has written up to the moment of the export, unless the node wrote its log anew before. \
    Heads that others hold (`audit heads --of PEER_ID --json`) show that it has not.")]
pub struct VerifyArgs {
    /// An exported audit log; without it, the running node follows its own
    pub file: Option<PathBuf>,
    /// The network's charter; without it, the one that the configuration names
    #[arg(long, value_name = "FILE", requires = "file")]
    pub charter: Option<PathBuf>,
    /// Heads that another node holds, as `audit heads --of PEER_ID --json` prints them: the log must contain each of them that is of it
    #[arg(long, value_name = "FILE", requires = "file")]
    pub heads: Option<PathBuf>,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `audit heads`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lanyard-node audit heads --config node1/node.toml\n  \
    lanyard-node audit heads --of 12D3KooW... --json --config node1/node.toml > heads.json")]
pub struct HeadsArgs {
    /// All heads that are held of the audit log of this node; without it, the newest of each node's
    #[arg(long, value_name = "PEER_ID")]
    pub of: Option<String>,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}
