//! `lanyard-node trust`: as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use lanyard_crypto::TrustId;
use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::CrlReason;

use super::{NodeArgs, days};

/// Commands around a trust's own certificates. They need no running node.
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Make a trust's root and its first registrar
    #[command(after_help = "Example:\n  \
        lanyard-node trust init --ods RYJ --name \"Royal Jubilee Hospital\" --dir ryj\n\n\
        Afterwards, move ryj/root.key to a medium that is kept offline: it is needed only to make the next\n\
        registrar, and to revoke one.")]
    Init(InitArgs),
    /// Make or renew a node's certificate, and a configuration to begin with
    #[command(after_help = "Example:\n  \
        lanyard-node trust issue-node --dir ryj --name \"RYJ node 1\" --hosting GB \\\n    \
        --address node.ryj.example --listen 192.0.2.7 --registrar --out node1\n\n\
        Run it again with the same --out to renew the certificate: the key, and with it the PeerId, stays.")]
    IssueNode(IssueNodeArgs),
    /// Make the next registrar (needs the root's key)
    #[command(after_help = "Example:\n  lanyard-node trust renew-registrar --dir ryj\n\n\
        The registrar before it stays valid until it expires, and is kept as registrar.FINGERPRINT.pem.")]
    RenewRegistrar(RenewRegistrarArgs),
    /// Revoke a registrar (offline, by the root), or a node (by the running registrar)
    #[command(after_help = "Examples:\n  \
        lanyard-node trust revoke --certificate node2/node.pem --config node1/node.toml\n  \
        lanyard-node trust revoke --certificate ryj/registrar.0f3c92ab71de.pem --dir ryj \\\n    \
        --charter charter.cbor --out revocation.cbor\n  \
        lanyard-node network import revocation.cbor --config node1/node.toml\n\n\
        What a registrar certified, the running node that holds its key revokes at once. A registrar is\n\
        revoked with the root's key; the record revocation.cbor takes effect once any running node has imported it.")]
    Revoke(RevokeArgs),
    /// Show the certificates in a directory or a PEM file
    #[command(after_help = "Examples:\n  lanyard-node trust show ryj\n  \
        lanyard-node trust show node1/node.pem --json")]
    Show(ShowArgs),
}

/// `trust init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The trust's ODS code, such as RYJ
    #[arg(long, value_name = "CODE")]
    pub ods: TrustId,
    /// The trust's name
    #[arg(long)]
    pub name: String,
    /// Country in which the trust is established (ISO 3166-1 alpha-2)
    #[arg(long, default_value = "GB")]
    pub country: Country,
    /// Directory for keys and certificates; made if it is not there
    #[arg(long)]
    pub dir: PathBuf,
    /// Print what was made as JSON
    #[arg(long)]
    pub json: bool,
}

/// `trust issue-node`.
#[derive(Debug, Args)]
pub struct IssueNodeArgs {
    /// The trust's directory, with registrar.key and registrar.pem
    #[arg(long)]
    pub dir: PathBuf,
    /// The node's name, as logs and other trusts show it
    #[arg(long)]
    pub name: String,
    /// Country in which the node stands: of the UK or the EEA
    #[arg(long, value_name = "COUNTRY")]
    pub hosting: Country,
    /// Host name or IP address at which clients reach the node; repeatable, the first is put into invitations
    #[arg(long = "address", value_name = "HOST", required = true)]
    pub addresses: Vec<String>,
    /// IP address at which the node listens
    #[arg(long, default_value = "0.0.0.0", value_name = "IP")]
    pub listen: std::net::IpAddr,
    /// Port for clients
    #[arg(long, default_value_t = 8443)]
    pub gateway_port: u16,
    /// Port for other nodes, of UDP and TCP
    #[arg(long, default_value_t = 4001)]
    pub peer_port: u16,
    /// This node enrols staff: its configuration names the registrar's key
    #[arg(long)]
    pub registrar: bool,
    /// Take another key, and so another PeerId: the present one was lost or stolen, and is to be revoked
    #[arg(long)]
    pub new_key: bool,
    /// Life of the certificate
    #[arg(long, default_value = "90", value_parser = days)]
    pub days: u64,
    /// Directory for the node's key, certificate and configuration
    #[arg(long)]
    pub out: PathBuf,
    /// Print what was made as JSON
    #[arg(long)]
    pub json: bool,
}

/// `trust renew-registrar`.
#[derive(Debug, Args)]
pub struct RenewRegistrarArgs {
    /// The trust's directory, with root.key, root.pem and the registrar
    #[arg(long)]
    pub dir: PathBuf,
    /// Print what was made as JSON
    #[arg(long)]
    pub json: bool,
}

/// `trust revoke`.
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// What to revoke: a PEM file, of which the first certificate counts
    #[arg(long, value_name = "FILE")]
    pub certificate: PathBuf,
    /// Why
    #[arg(long, value_enum, default_value = "unspecified")]
    pub reason: ReasonArg,
    /// For a registrar: the trust's directory, with root.key and root.pem
    #[arg(long, requires = "charter")]
    pub dir: Option<PathBuf>,
    /// For a registrar: the network's charter
    #[arg(long, requires = "out", value_name = "FILE")]
    pub charter: Option<PathBuf>,
    /// For a registrar: where to write the record of the root's list
    #[arg(long, requires = "dir", value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// For all else: which node to ask.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print what was revoked as JSON
    #[arg(long)]
    pub json: bool,
}

/// `trust show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A trust's or a node's directory, or a PEM file
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// Reasons for a revocation that make sense here (RFC 5280, section 5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names are RFC 5280's")]
pub enum ReasonArg {
    Unspecified,
    KeyCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
}

impl ReasonArg {
    /// As typed, and as the operator's socket spells it.
    pub fn name(self) -> &'static str {
        match self {
            ReasonArg::Unspecified => "unspecified",
            ReasonArg::KeyCompromise => "key-compromise",
            ReasonArg::AffiliationChanged => "affiliation-changed",
            ReasonArg::Superseded => "superseded",
            ReasonArg::CessationOfOperation => "cessation-of-operation",
        }
    }
}

impl From<ReasonArg> for CrlReason {
    fn from(reason: ReasonArg) -> Self {
        match reason {
            ReasonArg::Unspecified => CrlReason::Unspecified,
            ReasonArg::KeyCompromise => CrlReason::KeyCompromise,
            ReasonArg::AffiliationChanged => CrlReason::AffiliationChanged,
            ReasonArg::Superseded => CrlReason::Superseded,
            ReasonArg::CessationOfOperation => CrlReason::CessationOfOperation,
        }
    }
}
