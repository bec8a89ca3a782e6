//! What a configuration names, read and judged: `check` prints every problem, and `run` starts only without
//! those that would make it a different node or no node at all.

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lanyard_crypto::network::Network;
use lanyard_crypto::record::Decoded;
use lanyard_crypto::x509::{Certificate, Purpose, SecretKey};
use lanyard_crypto::{NodeId, Timestamp, TrustId};
use sha2::{Digest, Sha256};

use super::{CommandError, charters, read_key, view};
use crate::address::NodeAddress;
use crate::config::{Config, Problem};
use crate::identity_provider::IdentityProvider;
use crate::p2p::Countries;
use crate::store_key::{KeySource, StoreKey};
use crate::time::rfc3339;
use crate::{admin, files};

/// The first moment at which this program can have run: a clock that shows an earlier one is wrong.
const BUILT_AFTER: Timestamp = Timestamp::from_secs(1_767_225_600);
/// The key of the configuration that names the file with the store's key.
pub const STORE_KEY: &str = "storage.key";

/// A node's files, read.
pub struct Prepared {
    /// The node's key.
    pub key: SecretKey,
    /// The node's certificate.
    pub certificate: Certificate,
    /// Its registrar's.
    pub registrar: Certificate,
    /// The charter with which trust begins.
    pub charter: Decoded,
    /// The network under it.
    pub network: Network,
    /// Where addresses lie.
    pub countries: Countries,
    /// The store's key; none if its file is yet to be made.
    pub store_key: Option<StoreKey>,
    /// The key of the node that has founded the store: its own, unless that was replaced.
    founder: [u8; 32],
}

impl Prepared {
    /// The trust of the node.
    pub fn trust(&self) -> &TrustId {
        &self.certificate.subject().trust
    }

    /// Whose store it is.
    pub fn store_owner(&self) -> [u8; 32] {
        let mut owner = Sha256::new();
        owner.update(self.founder);
        owner.update(self.network.id().as_bytes());
        owner.update(self.trust().as_str());
        owner.finalize().into()
    }
}

/// What was found wrong.
#[derive(Default)]
pub struct Findings {
    file: String,
    /// The node cannot start with these.
    pub fatal: Vec<Problem>,
    /// It can, and others may refuse it.
    pub doubtful: Vec<Problem>,
}

impl Findings {
    fn fatal(&mut self, key: &str, message: impl Into<String>) {
        self.fatal.push(Problem { file: self.file.clone(), key: key.into(), message: message.into() });
    }

    fn doubtful(&mut self, key: &str, message: impl Into<String>) {
        self.doubtful.push(Problem { file: self.file.clone(), key: key.into(), message: message.into() });
    }

    fn take<T>(&mut self, key: &str, result: Result<T, CommandError>) -> Option<T> {
        result.map_err(|error| self.fatal(key, format!("names a file that cannot be used: {error}"))).ok()
    }
}

/// Reads and judges everything that `config` names, but binds and changes nothing.
pub fn prepare(config: &Config, now: Timestamp) -> (Option<Prepared>, Findings) {
    let file = config.path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let mut findings = Findings { file, ..Findings::default() };
    if now < BUILT_AFTER {
        findings
            .fatal("", format!("this machine's clock shows {}, which is in the past; set it", rfc3339(now)));
    }
    let key = findings.take("identity.key", read_key(&config.identity.key));
    let chain = findings.take("identity.chain", read_chain(&config.identity.chain));
    let charter = findings.take("network.charter", charters::read_trusted(&config.charter));
    let countries = match countries(config) {
        Ok(countries) => Some(countries),
        Err(error) => {
            findings.fatal("residency", format!("cannot be used: {error}"));
            None
        }
    };
    directories(config, &mut findings);
    let store_key = store_key(config, &mut findings);
    registrar(config, now, &mut findings);
    if let Some(Err(error)) = config.identity_provider.as_ref().map(IdentityProvider::open) {
        findings.fatal("enrolment.identity_provider", format!("names a file that cannot be used: {error}"));
    }

    let (Some(key), Some((certificate, registrar)), Some((network, charter)), Some(countries)) =
        (key, chain, charter, countries)
    else {
        return (None, findings);
    };
    let founder = founder(config, &key, &certificate, &mut findings);
    let prepared = Prepared { key, certificate, registrar, charter, network, countries, store_key, founder };
    identity(config, &prepared, now, &mut findings);
    addresses(config, &prepared, &mut findings);
    (Some(prepared), findings)
}

/// The key of the node whose store this is.
fn founder(config: &Config, key: &SecretKey, certificate: &Certificate, findings: &mut Findings) -> [u8; 32] {
    let Some(path) = &config.founded_by else { return key.public() };
    let Some(earlier) = findings.take("storage.founded_by", super::read_certificate(path)) else {
        return key.public();
    };
    let (own, other) = (&certificate.subject().trust, &earlier.subject().trust);
    if earlier.purpose() != Purpose::Node || own != other {
        let purpose = earlier.purpose();
        findings.fatal(
            "storage.founded_by",
            format!("is a {purpose} certificate of {other}, and a node's of {own} is needed"),
        );
    }
    *earlier.public_key()
}

/// Whether the node's ports are free. Only true if the node is not running.
pub fn ports(config: &Config, findings: &mut Findings) {
    if std::os::unix::net::UnixStream::connect(&config.admin_socket).is_ok() {
        return;
    }
    if let Err(error) = TcpListener::bind(config.gateway.listen) {
        findings.fatal(
            "gateway.listen",
            format!("is {}, where this machine cannot listen: {error}", config.gateway.listen),
        );
    }
    for (place, text) in config.peer.listen.iter().enumerate() {
        let Some(NodeAddress { ip: Some(ip), port, quic, .. }) = NodeAddress::parse(text) else {
            continue;
        };
        let bound = if quic {
            UdpSocket::bind((ip, port)).map(drop)
        } else {
            TcpListener::bind((ip, port)).map(drop)
        };
        if let Err(error) = bound {
            findings.fatal(
                &format!("peer.listen[{place}]"),
                format!("is {text:?}, where this machine cannot listen: {error}"),
            );
        }
    }
}

/// The configured networks and database.
fn countries(config: &Config) -> Result<Countries, crate::p2p::CountriesError> {
    let countries = Countries::new(config.residency.networks.iter().copied())?;
    match &config.residency.database {
        Some(path) => countries.with_database(path),
        None => Ok(countries),
    }
}

/// The node's certificate and its registrar's; a root after them is passed over, since trust in it comes from
/// the charter.
fn read_chain(path: &Path) -> Result<(Certificate, Certificate), CommandError> {
    let chain = lanyard_crypto::x509::chain_from_pem(&files::read_text(path)?);
    let chain = chain.map_err(|e| CommandError::content(path, e))?;
    match chain.as_slice() {
        [node, registrar, ..]
            if node.purpose() == Purpose::Node && registrar.purpose() == Purpose::Registrar =>
        {
            Ok((node.clone(), registrar.clone()))
        }
        _ => {
            let reason =
                "a node's certificate and then its registrar's are needed, as trust issue-node writes them";
            Err(CommandError::content(path, super::ContentError::Other(reason.into())))
        }
    }
}

/// The store's key, if it is there already.
fn store_key(config: &Config, findings: &mut Findings) -> Option<StoreKey> {
    let name = match &config.store_key {
        KeySource::File(path) if !path.exists() => {
            if config.data_dir.join("store").exists() {
                let (path, rotate) =
                    (path.display(), "if it was being rotated, run: lanyard-node key rotate");
                let message =
                    format!("names {path}, which is not there, while the store is: restore it; {rotate}");
                findings.fatal(STORE_KEY, message);
            }
            return None;
        }
        KeySource::File(_) => STORE_KEY,
        KeySource::Command(_) => "storage.key_command",
    };
    let read = config.store_key.read();
    read.map_err(|error| findings.fatal(name, format!("gives no key: {error}"))).ok()
}

fn registrar(config: &Config, now: Timestamp, findings: &mut Findings) {
    let Some(paths) = &config.identity.registrar else {
        return;
    };
    let key = findings.take("identity.registrar_key", read_key(&paths.key));
    let certificate =
        findings.take("identity.registrar_certificate", super::read_certificate(&paths.certificate));
    let (Some(key), Some(certificate)) = (key, certificate) else {
        return;
    };
    if certificate.purpose() != Purpose::Registrar {
        let message =
            format!("names the certificate of a {}; a registrar's is needed", certificate.purpose());
        findings.fatal("identity.registrar_certificate", message);
    } else if *certificate.public_key() != key.public() {
        findings.fatal("identity.registrar_key", "names a key that is not that of `registrar_certificate`");
    }
    if let Some(problem) = view::validity_problem(&certificate, now) {
        findings.doubtful("identity.registrar_certificate", format!("is of no use now: {problem}"));
    }
}

fn directories(config: &Config, findings: &mut Findings) {
    if let Ok(metadata) = std::fs::metadata(&config.data_dir) {
        let mode = metadata.permissions().mode() & 0o777;
        let path = config.data_dir.display();
        if !metadata.is_dir() {
            findings.fatal("data_dir", format!("is {path}, which is not a directory"));
        } else if mode & 0o077 != 0 {
            findings.fatal(
                "data_dir",
                format!("is {path}, which others may enter (mode {mode:03o}); run: chmod 700 {path}"),
            );
        }
    }
    let length = config.admin_socket.as_os_str().len();
    if length > admin::SOCKET_PATH_BYTES_MAX {
        let max = admin::SOCKET_PATH_BYTES_MAX;
        findings
            .fatal("admin.socket", format!("is a path of {length} bytes; a Unix socket's has at most {max}"));
    }
}

fn identity(config: &Config, prepared: &Prepared, now: Timestamp, findings: &mut Findings) {
    let Prepared { key, certificate, registrar, network, .. } = prepared;
    if *certificate.public_key() != key.public() {
        findings.fatal("identity.key", "names a key that is not that of the certificate in `identity.chain`");
    }
    if certificate.node_id() != Some(NodeId::new(*certificate.public_key())) {
        findings.fatal("identity.chain", "names a certificate whose PeerId is not its key's: issue it again");
    }
    if let Some(paths) = &config.identity.registrar
        && let Ok(other) = super::read_certificate(&paths.certificate)
        && other.subject().trust != *prepared.trust()
    {
        let (own, other) = (prepared.trust(), &other.subject().trust);
        findings.fatal("identity.registrar_certificate", format!("is of {other}, and this node is of {own}"));
    }
    if let Some(problem) = charters::validity_problem(network, now) {
        findings.doubtful("network.charter", format!("names a charter that is over: {problem}"));
    }
    let issued = prepared.charter.header().issued;
    if now < issued {
        let (now, issued) = (rfc3339(now), rfc3339(issued));
        findings.doubtful(
            "",
            format!("this machine's clock shows {now}, and the charter was issued at {issued}"),
        );
    }
    let chain = [certificate.der(), registrar.der()];
    if let Err(error) = network.verify_chain(&chain, Purpose::Node, now) {
        findings.doubtful("identity.chain", format!("is a chain that other nodes refuse: {error}"));
    }
    let public = &config.gateway.public_address;
    let host = public.rsplit_once(':').map_or(public.as_str(), |(host, _)| host);
    if !certificate.names_host(host) {
        findings.doubtful(
            "gateway.public_address",
            format!(
                "is {public:?}, which the node's certificate does not name, so that clients refuse it: \
                 issue it again with --address {host}"
            ),
        );
    }
}

/// Every address by which this node is found, or finds others, has to lie in a permitted country.
fn addresses(config: &Config, prepared: &Prepared, findings: &mut Findings) {
    let judge = |ip: IpAddr| match prepared.countries.country_of(ip) {
        None => Some(format!("{ip} is in no country that `residency` knows, so nothing may be sent there")),
        Some(country) if !prepared.network.permits(country) => {
            Some(format!("{ip} lies in {country}, which the charter does not permit"))
        }
        Some(_) => None,
    };
    let own = config
        .peer
        .listen
        .iter()
        .map(|a| ("peer.listen", a))
        .chain(config.peer.announce.iter().map(|a| ("peer.announce", a)));
    for (key, text) in own {
        let ip = NodeAddress::parse(text).and_then(|a| a.ip).filter(|ip| !ip.is_unspecified());
        if let Some(problem) = ip.and_then(judge) {
            findings.doubtful(key, format!("holds {text:?}: {problem}"));
        }
    }
    if config.peer.announce.is_empty()
        && config
            .peer
            .listen
            .iter()
            .all(|a| NodeAddress::parse(a).is_none_or(|a| a.ip.is_none_or(|ip| ip.is_unspecified())))
    {
        findings
            .doubtful("peer.announce", "is empty, and `peer.listen` names no address that others could dial");
    }
    for member in &prepared.network.charter().trusts {
        for text in &member.addresses {
            if let Some(problem) = NodeAddress::parse(text).and_then(|a| a.ip).and_then(judge) {
                findings.doubtful("residency", format!("leaves out {} of {}: {problem}", text, member.trust));
            }
        }
    }
    if prepared.network.charter().member(prepared.trust()).is_none() {
        findings.doubtful("network.charter", format!("names a charter without {}", prepared.trust()));
    }
}
