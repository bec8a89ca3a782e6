//! `lanyard-node network`: as typed.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use lanyard_crypto::TrustId;
use lanyard_crypto::limits::RETENTION_SECS_MAX;
use lanyard_crypto::mls::Class;
use lanyard_crypto::residency::Country;

use super::{NodeArgs, days};
use crate::time::DAY_SECS;

/// Longest life of a message that a charter may state, in whole days.
const RETENTION_DAYS_MAX: u64 = RETENTION_SECS_MAX / DAY_SECS;

/// Commands around the charter. All but `import` need no running node.
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Make the key of one of the network's authorities
    #[command(after_help = "Example:\n  lanyard-node network authority-key --out authority.key\n\n\
        Each authority makes its own, and gives the others the public key that this prints.")]
    AuthorityKey(AuthorityKeyArgs),
    /// Write the first charter of a network
    #[command(after_help = "Example:\n  \
        lanyard-node network found --name \"Northern region\" --authority-key authority.key \\\n    \
        --country GB --out charter.cbor \\\n    \
        --member RYJ=ryj/root.pem,/dns4/node.ryj.example/udp/4001/quic-v1/p2p/12D3KooW...\n\n\
        A member is ODS=ROOT[,ADDRESS...]: the trust's root certificate, and its node's multiaddresses.")]
    Found(FoundArgs),
    /// Write the next version of a charter
    #[command(after_help = "Example:\n  \
        lanyard-node network propose charter.cbor \\\n    \
        --member RXX=rxx.pem,/ip4/192.0.2.9/udp/4001/quic-v1/p2p/12D3KooW... \\\n    \
        --remove-member RYZ --authority-key authority.key --out charter2.cbor")]
    Propose(ProposeArgs),
    /// Add an authority's signature to a charter
    #[command(
        after_help = "Example:\n  lanyard-node network sign charter2.cbor --authority-key authority.key"
    )]
    Sign(SignArgs),
    /// Show a charter or another record
    #[command(after_help = "Example:\n  lanyard-node network show charter.cbor --json")]
    Show(ShowCharterArgs),
    /// Hand a charter or a revocation record to the running node, which spreads it
    #[command(after_help = "Example:\n  lanyard-node network import charter2.cbor --config node1/node.toml")]
    Import(ImportArgs),
}

/// `network authority-key`.
#[derive(Debug, Args)]
pub struct AuthorityKeyArgs {
    /// Where to write the key
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Print the public key as JSON
    #[arg(long)]
    pub json: bool,
}

/// `network found`.
#[derive(Debug, Args)]
pub struct FoundArgs {
    /// The network's name
    #[arg(long)]
    pub name: String,
    /// Key of an authority, which signs now; repeatable
    #[arg(long = "authority-key", value_name = "FILE", required = true)]
    pub authority_keys: Vec<PathBuf>,
    /// Public key of a further authority, 64 hexadecimal digits; repeatable
    #[arg(long = "authority", value_name = "KEY")]
    pub authorities: Vec<String>,
    /// How many authorities must sign a version; without it, more than half
    #[arg(long)]
    pub threshold: Option<u64>,
    /// A member trust: ODS=ROOT[,ADDRESS...]; repeatable
    #[arg(long = "member", value_name = "ODS=ROOT[,ADDRESS...]", required = true)]
    pub members: Vec<MemberArg>,
    /// Country in which nodes may stand: of the UK or the EEA; repeatable
    #[arg(long = "country", value_name = "COUNTRY", required = true)]
    pub countries: Vec<Country>,
    /// Longest life of a message.
    #[arg(long, default_value = "365", value_parser = retention_days, help = retention_help())]
    pub retention_days: u64,
    /// Within how many hours each replica is to confirm a deletion; after that it is shown as overdue
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8784))]
    pub confirm_hours: u64,
    /// A shorter one for conversations of a class, in days: CLASS=DAYS; repeatable
    #[arg(long = "class-retention", value_name = "CLASS=DAYS")]
    pub class_retention: Vec<ClassRetention>,
    /// How long this version is valid
    #[arg(long, default_value = "365", value_parser = days)]
    pub days: u64,
    /// Where to write the charter
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Print what was made as JSON
    #[arg(long)]
    pub json: bool,
}

/// `network propose`.
#[derive(Debug, Args)]
pub struct ProposeArgs {
    /// The charter in force
    pub current: PathBuf,
    /// A member trust to add, or to change: ODS=ROOT[,ADDRESS...]; repeatable
    #[arg(long = "member", value_name = "ODS=ROOT[,ADDRESS...]")]
    pub members: Vec<MemberArg>,
    /// A member trust to drop; repeatable
    #[arg(long = "remove-member", value_name = "ODS")]
    pub removed_members: Vec<TrustId>,
    /// What changes about countries.
    #[command(flatten)]
    pub countries: CountryChange,
    /// Public key of an authority to add; repeatable
    #[arg(long = "authority", value_name = "KEY")]
    pub authorities: Vec<String>,
    /// Public key of an authority to drop; repeatable
    #[arg(long = "remove-authority", value_name = "KEY")]
    pub removed_authorities: Vec<String>,
    /// How many authorities must sign
    #[arg(long)]
    pub threshold: Option<u64>,
    /// Longest life of a message.
    #[arg(long, value_parser = retention_days, help = retention_help())]
    pub retention_days: Option<u64>,
    /// Within how many hours each replica is to confirm a deletion; without it, as before
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=8784))]
    pub confirm_hours: Option<u64>,
    /// A shorter one for conversations of a class, in days: CLASS=DAYS, or CLASS=none; repeatable
    #[arg(long = "class-retention", value_name = "CLASS=DAYS")]
    pub class_retention: Vec<ClassRetention>,
    /// How long this version is valid
    #[arg(long, default_value = "365", value_parser = days)]
    pub days: u64,
    /// Key of an authority, which signs now; repeatable
    #[arg(long = "authority-key", value_name = "FILE")]
    pub authority_keys: Vec<PathBuf>,
    /// Where to write the next version
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Print what was made as JSON
    #[arg(long)]
    pub json: bool,
}

/// Countries to permit, and no longer to permit.
#[derive(Debug, Args)]
pub struct CountryChange {
    /// Country to permit; repeatable
    #[arg(long = "country", value_name = "COUNTRY")]
    pub added: Vec<Country>,
    /// Country to permit no longer; repeatable
    #[arg(long = "remove-country", value_name = "COUNTRY")]
    pub removed: Vec<Country>,
}

/// `network sign`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The charter
    pub file: PathBuf,
    /// Key of the authority; repeatable
    #[arg(long = "authority-key", value_name = "FILE", required = true)]
    pub authority_keys: Vec<PathBuf>,
    /// Where to write the signed charter; without it, the file is replaced
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print the state of the signatures as JSON
    #[arg(long)]
    pub json: bool,
}

/// `network show`.
#[derive(Debug, Args)]
pub struct ShowCharterArgs {
    /// A record, such as a charter
    pub file: PathBuf,
    /// Print as JSON
    #[arg(long)]
    pub json: bool,
}

/// `network import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A record: a charter or a revocation
    pub file: PathBuf,
    /// Which node.
    #[command(flatten)]
    pub node: NodeArgs,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// A member as typed: `ODS=ROOT[,ADDRESS...]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberArg {
    /// The trust.
    pub trust: TrustId,
    /// PEM file with its root certificate.
    pub root: PathBuf,
    /// Its nodes' multiaddresses.
    pub addresses: Vec<String>,
}

impl FromStr for MemberArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not ODS=ROOT[,ADDRESS...], such as RYJ=root.pem,/ip4/192.0.2.7/tcp/4001");
        let (trust, rest) = text.split_once('=').ok_or_else(wrong)?;
        let mut parts = rest.split(',');
        let root = parts.next().filter(|root| !root.is_empty()).ok_or_else(wrong)?;
        Ok(Self {
            trust: trust.parse().map_err(|e: lanyard_crypto::ids::IdError| e.to_string())?,
            root: root.into(),
            addresses: parts.map(String::from).collect(),
        })
    }
}

/// The longest life of messages of a class, as typed: `CLASS=DAYS` or `CLASS=none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassRetention {
    /// The class.
    pub class: Class,
    /// In days; none if nothing is to be said of the class.
    pub days: Option<u64>,
}

impl FromStr for ClassRetention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Class::ALL.map(Class::name).join(", ");
        let wrong = || format!("{text:?} is not CLASS=DAYS, such as social=7; classes are {}", names());
        let (class, days) = text.split_once('=').ok_or_else(wrong)?;
        let days = if days == "none" { None } else { Some(retention_days(days)?) };
        Ok(Self { class: Class::from_name(class).ok_or_else(wrong)?, days })
    }
}

fn retention_help() -> String {
    format!("Longest life of a message, in days: at most {RETENTION_DAYS_MAX}")
}

fn retention_days(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(days @ 1..=RETENTION_DAYS_MAX) => Ok(days),
        _ => Err(format!("1 to {RETENTION_DAYS_MAX} days are needed; no charter lets messages live longer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_a_life_of_its_own() {
        let parsed = |text: &str| text.parse::<ClassRetention>();
        let (social, clinical) = (Class::Social, Class::Clinical);
        assert_eq!(parsed("social=7"), Ok(ClassRetention { class: social, days: Some(7) }));
        assert_eq!(parsed("clinical=none"), Ok(ClassRetention { class: clinical, days: None }));
        for wrong in ["social", "social=", "social=0", "private=7", "=7", "social=7d"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        assert!(parsed("private=7").unwrap_err().contains("clinical, operational, social"));
    }

    #[test]
    fn messages_may_live_for_as_long_as_a_charter_allows() {
        assert_eq!(RETENTION_DAYS_MAX, 8 * 366);
        for (text, days) in [("1", 1), ("365", 365), ("2922", 2_922), ("2928", 2_928)] {
            assert_eq!(retention_days(text), Ok(days));
        }
        for text in ["0", "2929", "3650", "99999999999999999999", "-1", "1.5", "30d", ""] {
            assert!(retention_days(text).unwrap_err().contains("1 to 2928 days"), "{text}");
        }
    }
}
