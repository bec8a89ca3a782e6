//! `lanyard-node compact`, `backup`, `restore`, `key`: as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::NodeArgs;

/// `compact`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lanyard-node compact --config node1/node.toml\n\n\
    The node goes on meanwhile. It needs twice as much free space as what lives takes, and 64 MiB; and as much memory again as\n\
    `storage.cache_mib`. It also does this by itself.")]
pub struct CompactArgs {
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `backup`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lanyard-node backup /backup/lanyard-1 --config node1/node.toml\n\n\
    The store's key is not in it: without that, nobody opens it. Keep few backups, and not for long.")]
pub struct BackupArgs {
    /// The directory to make, on a disk of the node's machine
    pub dir: PathBuf,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `restore`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  lanyard-node restore /backup/lanyard-1 --config node1/node.toml\n  \
    lanyard-node restore --finish-without RYZ --config node1/node.toml\n\n\
    A restored node serves no messages until a node of every other trust, and every other node of its own,\n\
    has told it what was deleted since the backup; `status` shows whom it waits for. What those that are left out alone knew to be\n\
    deleted is served again.")]
pub struct RestoreArgs {
    /// The directory that `backup` has made
    #[arg(required_unless_present = "finish_without", conflicts_with = "finish_without")]
    pub dir: Option<PathBuf>,
    /// Have the running node wait no longer for a trust that is gone, by its ODS code, or for a node of its own trust, by its peer id
    #[arg(long, value_name = "ODS")]
    pub finish_without: Option<String>,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Put the store under another key; the earlier one opens nothing any more
    #[command(after_help = "Examples:\n  \
        lanyard-node key rotate --config node1/node.toml\n  \
        lanyard-node key rotate --config node1/node.toml --new-key /mnt/keys/store.key\n  \
        lanyard-node key rotate --config node1/node.toml -- systemd-creds decrypt /etc/lanyard/store.cred\n\n\
        Without a new key, one is made and takes the place of the file that `storage.key` names. With one, change\n\
        `storage.key` or `storage.key_command` afterwards. If it is interrupted, run the same command again.")]
    Rotate(RotateArgs),
}

/// `key rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// The node's configuration
    #[arg(long, env = "LANYARD_CONFIG", default_value = "node.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// The file with the new key, 64 hexadecimal digits; made if it is not there
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    pub new_key: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
    /// The command that prints the new key
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}
