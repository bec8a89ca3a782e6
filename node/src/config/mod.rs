//! `node.toml`: what an operator decides about one node. The reference, with an example that a test reads, is
//! `docs/reference/configuration.md`.
//!
//! Reading is pure but for the file itself: whether keys, certificates and addresses that it names are good
//! is for [`crate::commands`] to check. Paths that are not absolute start at the file's directory.

mod conversations;
mod enrolment;
mod problem;
mod reader;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use lanyard_crypto::charter::{ByClass, TrustRetention};
use lanyard_crypto::limits::{LIFE_SECS_MAX, RETENTION_SECS_MAX};
use lanyard_crypto::residency::Country;
use lanyard_replica::pin::PinPolicy;
use lanyard_storage::limits::{CACHE_BYTES, CACHE_BYTES_DEFAULT};

use crate::address::{self, NodeAddress};
use crate::files;
use crate::identity_provider;
use crate::p2p::Network;
use crate::policy::Policy;
use crate::store_key::KeySource;
use crate::time::DAY_SECS;

pub use problem::{ConfigError, Problem};
use reader::{Problems, Section};

/// The configuration of one node, free of mistakes that can be seen in the file alone.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file, as it was named.
    pub path: PathBuf,
    /// Where the node keeps what it stores.
    pub data_dir: PathBuf,
    /// Who the node is.
    pub identity: Identity,
    /// The charter with which trust begins; later versions come from the network.
    pub charter: PathBuf,
    /// How other nodes reach it.
    pub peer: Peer,
    /// How clients reach it.
    pub gateway: Gateway,
    /// The operator's socket.
    pub admin_socket: PathBuf,
    /// Where people who enrol sign in, besides having an invitation.
    pub identity_provider: Option<identity_provider::Options>,
    /// In which country addresses lie.
    pub residency: Residency,
    /// What the trust asks of its devices: how long messages are kept, where that is shorter than the charter, how PINs are bounded, how often
    /// members are reviewed, and what in a text identifies a patient.
    pub policy: Policy,
    /// What is logged, and how.
    pub log: Log,
    /// Where the key comes from under which the store's secrets are sealed. A file is made at the first start.
    pub store_key: KeySource,
    /// The certificate of the node that has founded the store, if this node took its place with another key.
    pub founded_by: Option<PathBuf>,
    /// What the store keeps of its rows in memory, in bytes.
    pub cache_bytes: u64,
}

/// Who the node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node's private key, PKCS#8.
    pub key: PathBuf,
    /// The node's certificate and its registrar's, PEM.
    pub chain: PathBuf,
    /// On the node that enrols staff.
    pub registrar: Option<RegistrarFiles>,
}

/// The registrar's files.
#[derive(Clone, Debug)]
pub struct RegistrarFiles {
    /// Its private key, PKCS#8.
    pub key: PathBuf,
    /// Its certificate, PEM.
    pub certificate: PathBuf,
}

/// How other nodes reach the node.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Multiaddresses to listen on, of QUIC and TCP.
    pub listen: Vec<String>,
    /// Multiaddresses to tell others; if empty, those to listen on.
    pub announce: Vec<String>,
}

/// How clients reach the node.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Where it listens.
    pub listen: SocketAddr,
    /// `host:port` that invitations name.
    pub public_address: String,
}

/// In which country addresses lie.
#[derive(Clone, Debug)]
pub struct Residency {
    /// Networks whose country the operator states: those in the UK and the EEA, and those that lie elsewhere.
    pub networks: Vec<(Network, Country)>,
    /// A country database, MMDB.
    pub database: Option<PathBuf>,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// One line of text, or one JSON object, for each event.
    pub json: bool,
    /// The least important events that are logged.
    pub level: tracing::Level,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`], with every mistake that the file has.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &files::read_text(path)?)
    }

    /// Reads the text of the configuration file at `path`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let table = text.parse::<toml::Table>().map_err(|e| ConfigError::Syntax {
            path: path.into(),
            reason: e.to_string().trim_end().replace('\n', "\n  "),
        })?;
        let name =
            path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        let problems = Problems::new(name);
        let config = read(path, Section::root(table, &problems));
        match (config, problems.into_vec()) {
            (Some(config), problems) if problems.is_empty() => Ok(config),
            (_, problems) => Err(ConfigError::Problems { problems }),
        }
    }
}

/// Every part is read before any is judged, so that all mistakes are noted.
fn read(path: &Path, mut root: Section<'_>) -> Option<Config> {
    let base = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let file = |text: &str| (!text.is_empty()).then(|| base.join(text));
    let data_dir = root.required("data_dir", "the directory for the node's data is needed", file);
    let identity = identity(root.section("identity"), &file);

    let mut network = root.section("network");
    let charter = network.required("charter", "the file with the network's charter is needed", file);
    network.end();

    let peer = peer(root.section("peer"));
    let gateway = gateway(root.section("gateway"));
    let mut admin = root.section("admin");
    let socket = admin.optional("socket", "the path for the operator's socket is needed", file);
    admin.end();
    let identity_provider = enrolment::enrolment(root.section("enrolment"), &file);
    if let (Some(Some(_)), Some(Identity { registrar: None, .. })) = (&identity_provider, &identity) {
        let message = "stands on a node without `identity.registrar_key`, where nobody enrols";
        root.note("enrolment.identity_provider", message);
    }
    let residency = residency(root.section("residency"), &file);
    let policy = policy(root.section("policy"));
    let mut storage = root.section("storage");
    let store_key = store_key(&mut storage, &file, data_dir.as_deref());
    let founded_by =
        storage.optional("founded_by", "the file with the earlier node's certificate is needed", file);
    let mib = 1 << 20;
    let cache = storage.number("cache_mib", CACHE_BYTES.start() / mib, CACHE_BYTES.end() / mib);
    storage.end();
    let log = log(root.section("log"));
    root.end();

    let data_dir = data_dir?;
    Some(Config {
        path: path.into(),
        identity: identity?,
        charter: charter?,
        peer: peer?,
        gateway: gateway?,
        identity_provider: identity_provider?,
        admin_socket: socket?.unwrap_or_else(|| data_dir.join("admin.sock")),
        residency: residency?,
        policy: policy?,
        log: log?,
        store_key: store_key?,
        founded_by: founded_by?,
        cache_bytes: cache?.map_or(CACHE_BYTES_DEFAULT, |count| count * mib),
        data_dir,
    })
}

fn store_key(
    section: &mut Section<'_>,
    file: &impl Fn(&str) -> Option<PathBuf>,
    data_dir: Option<&Path>,
) -> Option<KeySource> {
    let path = section.optional("key", "the path for the store's key is needed", file);
    let needed = "a program, by its name or whole path, and its arguments are needed, such as \
                  [\"systemd-creds\", \"decrypt\", \"/etc/lanyard/store.cred\"]";
    let command = section.list("key_command", needed, |text| Some(text.to_owned()));
    match (path?, command?) {
        (Some(_), command) if !command.is_empty() => {
            section.note("key_command", "stands beside `key`; the key comes from a file or from a command");
            None
        }
        (Some(path), _) => Some(KeySource::File(path)),
        (None, command) => match command.first() {
            None => Some(KeySource::File(data_dir?.join("store.key"))),
            Some(program) if program.starts_with('/') || (!program.is_empty() && !program.contains('/')) => {
                Some(KeySource::Command(command))
            }
            Some(program) => {
                section.note("key_command", &format!("begins with {program:?}; {needed}"));
                None
            }
        },
    }
}

fn identity(mut section: Section<'_>, file: &impl Fn(&str) -> Option<PathBuf>) -> Option<Identity> {
    let key = section.required("key", "the file with the node's private key is needed", file);
    let chain =
        section.required("chain", "the file with the node's certificate and its registrar's is needed", file);
    let registrar_key =
        section.optional("registrar_key", "the file with the registrar's private key is needed", file);
    let certificate = section.optional(
        "registrar_certificate",
        "the file with the registrar's certificate is needed",
        file,
    );
    let registrar = match (registrar_key?, certificate?) {
        (Some(key), Some(certificate)) => Some(Some(RegistrarFiles { key, certificate })),
        (None, None) => Some(None),
        (Some(_), None) => {
            section.note("registrar_certificate", "is missing; it is needed beside `registrar_key`");
            None
        }
        (None, Some(_)) => {
            section.note("registrar_key", "is missing; it is needed beside `registrar_certificate`");
            None
        }
    };
    section.end();
    Some(Identity { key: key?, chain: chain?, registrar: registrar? })
}

fn peer(mut section: Section<'_>) -> Option<Peer> {
    let address = |text: &str| NodeAddress::parse(text).map(|_| text.to_owned());
    let bindable = |text: &str| NodeAddress::parse(text).filter(|a| a.ip.is_some()).map(|_| text.to_owned());
    let needed = "an IP multiaddress is needed, such as \"/ip4/192.0.2.7/udp/4001/quic-v1\"";
    let listen = section.list("listen", needed, bindable);
    let announce = section.list("announce", address::NEEDED, address);
    if listen.as_ref().is_some_and(Vec::is_empty) {
        section.note(
            "listen",
            "is empty; at least one multiaddress is needed, of QUIC and of TCP for best reach",
        );
    }
    if announce.as_ref().is_some_and(|a| a.len() > 8) {
        section.note("announce", "has more than 8 addresses; a directory entry holds 8");
    }
    section.end();
    Some(Peer { listen: listen?, announce: announce? })
}

fn gateway(mut section: Section<'_>) -> Option<Gateway> {
    let needed = "an IP address and a port are needed, such as \"192.0.2.7:8443\"";
    let listen = section.required("listen", needed, |text| text.parse().ok());
    let needed = "a host and a port are needed, such as \"node.example.org:8443\"";
    let public_address = section.required("public_address", needed, host_and_port);
    section.end();
    Some(Gateway { listen: listen?, public_address: public_address? })
}

fn residency(mut section: Section<'_>, file: &impl Fn(&str) -> Option<PathBuf>) -> Option<Residency> {
    let mut networks: Vec<Option<(Network, Country)>> = Vec::new();
    let kinds = [
        ("networks", "{ cidr = \"192.0.2.0/24\", country = \"GB\" } is needed", true),
        ("elsewhere", "{ cidr = \"198.51.100.0/24\", country = \"US\" } is needed", false),
    ];
    for (list, needed, permitted) in kinds {
        for mut entry in section.sections(list, needed) {
            let needed = "a network is needed, such as \"192.0.2.0/24\" or \"2001:db8::/32\"";
            let cidr = entry.required("cidr", needed, |text| text.parse::<Network>().ok());
            let needed = match permitted {
                true => "a permitted country is needed (UK or EEA)",
                false => "a country outside the UK and the EEA is needed; one inside belongs into `networks`",
            };
            let fits = |text: &str| {
                text.parse().ok().filter(|country: &Country| country.is_permitted() == permitted)
            };
            let country = entry.required("country", needed, fits);
            if let Some(cidr) =
                cidr.filter(|cidr| networks.iter().flatten().any(|(earlier, _)| earlier == cidr))
            {
                let note =
                    format!("is \"{cidr}\", which an entry above has assigned; each network may stand once");
                entry.note("cidr", &note);
            }
            entry.end();
            networks.push(cidr.zip(country));
        }
    }
    let database = section.optional("database", "the path of a country database (MMDB) is needed", file);
    section.end();
    Some(Residency { networks: networks.into_iter().collect::<Option<_>>()?, database: database? })
}

fn policy(mut section: Section<'_>) -> Option<Policy> {
    let secs_max = section.number("retention_secs", 60, LIFE_SECS_MAX);
    let mut classes = section.section("retention");
    let mut days = |key| classes.number(key, 1, RETENTION_SECS_MAX / DAY_SECS);
    let by_class = [days("clinical_days"), days("operational_days"), days("social_days")];
    classes.end();
    let pins = pins(section.section("pin"));
    let review = conversations::review(section.section("review"));
    let patterns = conversations::patterns(&mut section);
    section.end();
    let [clinical, operational, social] = by_class.map(|days| Some(days?.map(|days| days * DAY_SECS)));
    let by_class = ByClass { clinical: clinical?, operational: operational?, social: social? };
    let (pins, [idle_secs, offline_secs]) = pins?;
    let retention = TrustRetention { secs_max: secs_max?, by_class };
    Some(Policy { retention, pins, idle_secs, offline_secs, review: review?, patterns: patterns? })
}

/// And after how many seconds without use clients lock themselves, and for how many they may be unlocked without the node.
fn pins(mut section: Section<'_>) -> Option<(PinPolicy, [u64; 2])> {
    let by_default = PinPolicy::default();
    let tries_max = section.number("tries_max", 3, u64::from(by_default.tries_max));
    let delay_secs = section.number("delay_secs", 0, 3600);
    let idle_secs = section.number("idle_secs", 10, 3600);
    let session_hours = section.number("session_hours", 1, 24);
    let offline_secs = section.number("offline_secs", 0, DAY_SECS);
    section.end();
    let policy = PinPolicy {
        tries_max: tries_max?.map_or(by_default.tries_max, |count| count as u32),
        delay_secs: delay_secs?.unwrap_or(by_default.delay_secs),
        session_secs: session_hours?.map_or(by_default.session_secs, |hours| hours * 3600),
    };
    let by_default = Policy::default();
    let idle_secs = idle_secs?.unwrap_or(by_default.idle_secs);
    Some((policy, [idle_secs, offline_secs?.unwrap_or(by_default.offline_secs)]))
}

fn log(mut section: Section<'_>) -> Option<Log> {
    let json = section.optional("format", "\"text\" or \"json\" is needed", |text| match text {
        "text" => Some(false),
        "json" => Some(true),
        _ => None,
    });
    let needed = "\"error\", \"warn\", \"info\", \"debug\" or \"trace\" is needed";
    let level = section.optional("level", needed, |text| match text {
        "error" => Some(tracing::Level::ERROR),
        "warn" => Some(tracing::Level::WARN),
        "info" => Some(tracing::Level::INFO),
        "debug" => Some(tracing::Level::DEBUG),
        "trace" => Some(tracing::Level::TRACE),
        _ => None,
    });
    section.end();
    Some(Log { json: json?.unwrap_or(false), level: level?.unwrap_or(tracing::Level::INFO) })
}

fn host_and_port(text: &str) -> Option<String> {
    let (host, port) = text.rsplit_once(':')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    let fits = !host.is_empty() && host.len() <= 253 && host.chars().all(plain);
    let port: u16 = port.parse().ok()?;
    (fits && port != 0).then(|| text.to_owned())
}
