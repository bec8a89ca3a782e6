//! `lanyard-node run`, `check`, `status`, `held`: as typed.

use std::path::PathBuf;

use clap::Args;
use lanyard_crypto::RecordId;

/// Which running node to talk to.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node's configuration, which names its admin socket
    #[arg(long, env = "LANYARD_CONFIG", default_value = "node.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// The admin socket itself, instead of the configuration
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// `run`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lanyard-node run --config node1/node.toml")]
pub struct RunArgs {
    /// The node's configuration
    #[arg(long, env = "LANYARD_CONFIG", default_value = "node.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// Once the node is ready, write its addresses to this file, as JSON
    #[arg(long, value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
}

/// `check`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lanyard-node check --config node1/node.toml")]
pub struct CheckArgs {
    /// The node's configuration
    #[arg(long, env = "LANYARD_CONFIG", default_value = "node.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// Print the problems as JSON
    #[arg(long)]
    pub json: bool,
}

/// `status`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lanyard-node status --config node1/node.toml --json\n  \
    lanyard-node status --config node1/node.toml --metrics")]
pub struct StatusArgs {
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print as JSON
    #[arg(long, conflicts_with = "metrics")]
    pub json: bool,
    /// Print the figures that a monitoring system reads, as OpenMetrics text
    #[arg(long)]
    pub metrics: bool,
}

/// `held`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lanyard-node held 5b0c... --config node1/node.toml\n\n\
    A node holds no key that opens a message: what it shows is what it could show to anybody.")]
pub struct HeldArgs {
    /// The record id, such as the id of a message that `lanyard read` shows
    pub id: RecordId,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}
