//! `lanyard-node trust`: a trust's own certificates, in files. The layout of a trust's directory is in
//! `docs/reference/commands.md`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use lanyard_crypto::NodeId;
use lanyard_crypto::limits::LIFE_SECS_MAX;
use lanyard_crypto::record::{self, Body, Crl, Header};
use lanyard_crypto::x509::issue::{self, Issuer, NodeDetails, Term};
use lanyard_crypto::x509::{
    Certificate, PemError, Purpose, Revocation, RevocationList, SecretKey, Subject, chain_to_pem,
};
use serde::Serialize;

use super::view::CertificateView;
use super::{CommandError, charters, operate, read_certificate, read_key, show, write_key};
use crate::cli::{InitArgs, IssueNodeArgs, RenewRegistrarArgs, RevokeArgs, ShowArgs, TrustCommand};
use crate::files;
use crate::time::{DAY_SECS, now, rfc3339};

const ROOT_KEY: &str = "root.key";
const ROOT: &str = "root.pem";
const ROOT_LIST: &str = "root.crl.pem";
const REGISTRAR_KEY: &str = "registrar.key";
const REGISTRAR: &str = "registrar.pem";
const NODE_KEY: &str = "node.key";
const NODE: &str = "node.pem";
const CONFIG: &str = "node.toml";

/// How long a root's list promises to be the newest: a root speaks rarely.
const ROOT_LIST_SECS: u64 = 365 * DAY_SECS;

pub(super) fn run(command: TrustCommand) -> Result<(), CommandError> {
    match command {
        TrustCommand::Init(args) => init(&args),
        TrustCommand::IssueNode(args) => issue_node(&args),
        TrustCommand::RenewRegistrar(args) => renew_registrar(&args),
        TrustCommand::Revoke(args) => revoke(&args),
        TrustCommand::Show(args) => show_certificates(&args),
    }
}

/// Certificates that a command has made, and files.
#[derive(Serialize)]
struct Made {
    certificates: Vec<CertificateView>,
    files: Vec<PathBuf>,
}

impl Made {
    fn to_text(&self, next: &str) -> String {
        let certificates = self.certificates.iter().map(|c| c.to_text() + "\n\n");
        let files = self.files.iter().map(|f| format!("  {}\n", f.display()));
        format!("{}Written:\n{}\n{next}", certificates.collect::<String>(), files.collect::<String>())
    }
}

fn init(args: &InitArgs) -> Result<(), CommandError> {
    let dir = &args.dir;
    // One of them alone may be left: the root's key is kept elsewhere.
    if let Some(path) =
        [ROOT_KEY, ROOT, REGISTRAR_KEY, REGISTRAR].map(|name| dir.join(name)).into_iter().find(|p| p.exists())
    {
        return Err(files::FileError::Exists { path }.into());
    }
    files::create_directory(dir)?;
    let (key, now) = (SecretKey::generate()?, now());
    let subject = |common_name: String| Subject {
        trust: args.ods.clone(),
        country: args.country,
        organisation: args.name.clone(),
        common_name,
        department: None,
        title: None,
        registration: None,
    };
    let root =
        issue::root(&subject(format!("{} root", args.ods)), &key, &Term::starting(now, issue::ROOT_SECS)?)?;
    let registrar_key = SecretKey::generate()?;
    let term = Term::starting(now, issue::REGISTRAR_SECS)?;
    let subject = subject(format!("{} registrar", args.ods));
    let registrar = Issuer::new(&root, &key)?.registrar(&subject, &registrar_key.public(), &term)?;

    write_key(&dir.join(ROOT_KEY), &key)?;
    files::create(&dir.join(ROOT), root.to_pem().as_bytes(), files::PUBLIC)?;
    write_key(&dir.join(REGISTRAR_KEY), &registrar_key)?;
    files::create(
        &dir.join(REGISTRAR),
        chain_to_pem(&[registrar.clone(), root.clone()]).as_bytes(),
        files::PUBLIC,
    )?;
    let made = Made {
        certificates: vec![CertificateView::new(&root), CertificateView::new(&registrar)],
        files: [ROOT_KEY, ROOT, REGISTRAR_KEY, REGISTRAR].map(|name| dir.join(name)).into(),
    };
    let next = format!(
        "Now move {} to a medium that is kept offline, with a copy in a second place.\n\
         It is needed only to make the next registrar, and to revoke one.",
        dir.join(ROOT_KEY).display()
    );
    show(args.json, &made, |made| made.to_text(&next))
}

fn issue_node(args: &IssueNodeArgs) -> Result<(), CommandError> {
    let root = read_certificate(&args.dir.join(ROOT))?;
    let registrar = read_certificate(&args.dir.join(REGISTRAR))?;
    let registrar_key = read_key(&args.dir.join(REGISTRAR_KEY))?;
    let earlier = args.out.join(NODE);
    if earlier.exists() {
        let (ours, theirs) =
            (&registrar.subject().trust, read_certificate(&earlier)?.subject().trust.clone());
        if *ours != theirs {
            return Err(CommandError::Usage(format!(
                "{} is a node of {theirs}, and {} holds the keys of {ours}: give the directory of {theirs}, or another --out",
                args.out.display(),
                args.dir.display()
            )));
        }
    }
    files::create_directory(&args.out)?;
    let key_path = args.out.join(NODE_KEY);
    let renewed = key_path.exists() && !args.new_key;
    let key = if renewed { read_key(&key_path)? } else { SecretKey::generate()? };
    // Kept, since it has to be revoked, and has founded the node's store.
    let replaced = if args.new_key { set_aside(&args.out)? } else { None };
    let (ip_addresses, dns_names) = addresses(&args.addresses);
    let details = NodeDetails {
        node: NodeId::new(key.public()),
        hosting_country: args.hosting,
        dns_names,
        ip_addresses,
    };
    let subject = Subject { common_name: args.name.clone(), ..registrar.subject().clone() };
    let term = Term::starting(now(), args.days * DAY_SECS)?;
    let node = Issuer::new(&registrar, &registrar_key)?.node(&subject, &key.public(), &details, &term)?;

    if replaced.is_some() {
        files::replace(&key_path, key.to_pkcs8_pem().as_bytes(), files::SECRET)?;
    } else if !renewed {
        write_key(&key_path, &key)?;
    }
    let chain = chain_to_pem(&[node.clone(), registrar, root]);
    files::replace(&args.out.join(NODE), chain.as_bytes(), files::PUBLIC)?;
    let config_path = args.out.join(CONFIG);
    if !config_path.exists() {
        files::create(&config_path, configuration(args)?.as_bytes(), files::PUBLIC)?;
    }
    let made = Made {
        certificates: vec![CertificateView::new(&node)],
        files: [NODE_KEY, NODE, CONFIG].map(|name| args.out.join(name)).into(),
    };
    let config = config_path.display();
    let next = match renewed {
        _ if let Some(replaced) = &replaced => format!(
            "The node has another key, and so another PeerId. Unless {config} names one already, add to it, so that the node finds its store:\n\n\
             [storage]\nfounded_by = {}\n\n\
             Then restart the node, and run: lanyard-node trust revoke --certificate {} --reason key-compromise --config {config}",
            quoted(
                &replaced.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
            ),
            replaced.display(),
        ),
        true => {
            "The key and the configuration are as before. Restart the node to use the new certificate.".into()
        }
        false => format!("Now complete {config}, and run: lanyard-node check --config {config}"),
    };
    show(args.json, &made, |made| made.to_text(&next))
}

/// Keeps the certificate that a node has had, under a name of its own; its key is written over. None if it has had none.
fn set_aside(dir: &Path) -> Result<Option<PathBuf>, CommandError> {
    let path = dir.join(NODE);
    if !path.exists() {
        return Ok(None);
    }
    let name = &read_certificate(&path)?.fingerprint().to_string()[..12];
    let kept = dir.join(format!("node.{name}.pem"));
    files::replace(&kept, files::read_text(&path)?.as_bytes(), files::PUBLIC)?;
    Ok(Some(kept))
}

/// What clients may type to reach a node: addresses and names.
fn addresses(texts: &[String]) -> (Vec<IpAddr>, Vec<String>) {
    let (ips, names): (Vec<_>, Vec<_>) = texts.iter().partition(|text| text.parse::<IpAddr>().is_ok());
    (ips.into_iter().filter_map(|ip| ip.parse().ok()).collect(), names.into_iter().cloned().collect())
}

/// A configuration to begin with. What cannot be known here is left to the operator, in comments.
fn configuration(args: &IssueNodeArgs) -> Result<String, CommandError> {
    let absolute = |name: &str| {
        let path = std::path::absolute(args.dir.join(name));
        let text = path.map(|path| path.display().to_string());
        text.map_err(|reason| files::FileError::Read { path: args.dir.join(name), reason })
    };
    let registrar = if args.registrar {
        let (key, certificate) = (quoted(&absolute(REGISTRAR_KEY)?), quoted(&absolute(REGISTRAR)?));
        format!("registrar_key = {key}\nregistrar_certificate = {certificate}\n")
    } else {
        String::new()
    };
    let family = if args.listen.is_ipv4() { "ip4" } else { "ip6" };
    let (listen, peer) = (args.listen, args.peer_port);
    let gateway = std::net::SocketAddr::new(args.listen, args.gateway_port);
    let host = &args.addresses[0];
    let host = if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.clone() };
    let public = quoted(&format!("{host}:{}", args.gateway_port));
    Ok(format!(
        "# The reference of this file is docs/reference/configuration.md.\n\
         # Paths that are not absolute start at this file's directory.\n\n\
         data_dir = \"data\"\n\n\
         [identity]\n\
         key = \"{NODE_KEY}\"\n\
         chain = \"{NODE}\"\n\
         {registrar}\n\
         [network]\n\
         # The charter of the regional network, as its authorities gave it to you.\n\
         charter = \"charter.cbor\"\n\n\
         [peer]\n\
         listen = [\"/{family}/{listen}/udp/{peer}/quic-v1\", \"/{family}/{listen}/tcp/{peer}\"]\n\
         # What other nodes dial, if it is not the same: a name, or the address before a firewall.\n\
         # announce = [\"/dns4/node.example.org/udp/{peer}/quic-v1\"]\n\n\
         [gateway]\n\
         listen = \"{gateway}\"\n\
         public_address = {public}\n\n\
         [residency]\n\
         # In which country addresses lie. What neither an entry nor the database knows is refused.\n\
         networks = []\n\
         # networks = [{{ cidr = \"192.0.2.0/24\", country = \"GB\" }}]\n\
         # database = \"/var/lib/lanyard/country.mmdb\"\n"
    ))
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn renew_registrar(args: &RenewRegistrarArgs) -> Result<(), CommandError> {
    let dir = &args.dir;
    let (root, root_key) = (read_certificate(&dir.join(ROOT))?, read_key(&dir.join(ROOT_KEY))?);
    let old = read_certificate(&dir.join(REGISTRAR))?;
    let old_pem = files::read_text(&dir.join(REGISTRAR))?;
    let old_key = files::read_secret_text(&dir.join(REGISTRAR_KEY))?;
    let key = SecretKey::generate()?;
    let term = Term::starting(now(), issue::REGISTRAR_SECS)?;
    let registrar = Issuer::new(&root, &root_key)?.registrar(old.subject(), &key.public(), &term)?;

    // By its fingerprint: only this key can revoke what it has certified, so that no later renewal may write over it.
    let name = &old.fingerprint().to_string()[..12];
    let kept = [dir.join(format!("registrar.{name}.key")), dir.join(format!("registrar.{name}.pem"))];
    files::create(&kept[0], old_key.as_bytes(), files::SECRET)?;
    files::create(&kept[1], old_pem.as_bytes(), files::PUBLIC)?;
    files::replace(&dir.join(REGISTRAR_KEY), key.to_pkcs8_pem().as_bytes(), files::SECRET)?;
    let pem = chain_to_pem(&[registrar.clone(), root]);
    files::replace(&dir.join(REGISTRAR), pem.as_bytes(), files::PUBLIC)?;
    let made = Made {
        certificates: vec![CertificateView::new(&registrar)],
        files: [dir.join(REGISTRAR_KEY), dir.join(REGISTRAR)].into_iter().chain(kept).collect(),
    };
    let next = "Now renew each node's certificate (trust issue-node) and restart the nodes. What the earlier \
                registrar certified stays valid until it expires. If its key was lost or stolen, revoke it as well \
                (trust revoke), which ends all that it has certified; then invite who is in staff list --earlier again.";
    show(args.json, &made, |made| made.to_text(next))
}

fn revoke(args: &RevokeArgs) -> Result<(), CommandError> {
    let certificate = read_certificate(&args.certificate)?;
    let given = args.dir.as_ref().zip(args.charter.as_ref()).zip(args.out.as_ref());
    match (certificate.purpose(), given) {
        (Purpose::Root, _) => Err(CommandError::Usage(
            "a root cannot be revoked: the network's authorities drop it from the charter (network propose)"
                .into(),
        )),
        (Purpose::Registrar, Some(((dir, charter), out))) => {
            revoke_registrar(args, &certificate, dir, charter, out)
        }
        (Purpose::Registrar, None) => Err(CommandError::Usage(
            "a registrar is revoked with the root's key: give --dir, --charter and --out".into(),
        )),
        (Purpose::Node | Purpose::Device | Purpose::Officer, _) => {
            operate::revoke_certificate(args, &certificate)
        }
    }
}

/// What `trust revoke` has done.
#[derive(Serialize)]
struct Revoked {
    revoked: CertificateView,
    list_number: u64,
    list_entries: usize,
    record: PathBuf,
}

fn revoke_registrar(
    args: &RevokeArgs,
    certificate: &Certificate,
    dir: &Path,
    charter: &Path,
    out: &Path,
) -> Result<(), CommandError> {
    let (root, key) = (read_certificate(&dir.join(ROOT))?, read_key(&dir.join(ROOT_KEY))?);
    certificate.verify_signature(&root).map_err(|_| {
        CommandError::content(
            &args.certificate,
            super::ContentError::Other("not certified by this trust's root".into()),
        )
    })?;
    let (network, _) = charters::read_trusted(charter)?;
    let list_path = dir.join(ROOT_LIST);
    let held = match list_path.exists() {
        true => Some(read_list(&list_path)?),
        false => None,
    };
    let at = now();
    let mut entries: Vec<Revocation> = held.iter().flat_map(|l| l.revocations().cloned()).collect();
    if !entries.iter().any(|e| e.serial == certificate.serial()) {
        let serial = certificate.serial().to_vec();
        entries.push(Revocation { serial, at, reason: Some(args.reason.into()) });
    }
    let number = held.map_or(1, |list| list.number() + 1);
    let list =
        Issuer::new(&root, &key)?.revocation_list(number, at, at.plus_secs(ROOT_LIST_SECS), &entries)?;
    // A revocation must outlive what it revokes.
    let expires = root.not_after().max(at.plus_secs(ROOT_LIST_SECS));
    let expires = expires.min(at.plus_secs(LIFE_SECS_MAX));
    let header = Header { network: Some(network.id()), custodians: Vec::new(), issued: at, expires };
    let body = Body::Crl(Crl { list: list.der().to_vec(), issuer: root.der().to_vec() });
    let record = record::sign(header, body, root.fingerprint(), &key)?;

    files::replace(&list_path, list.to_pem().as_bytes(), files::PUBLIC)?;
    files::replace(out, record.bytes(), files::PUBLIC)?;
    let revoked = Revoked {
        revoked: CertificateView::new(certificate),
        list_number: list.number(),
        list_entries: list.revocations().len(),
        record: out.into(),
    };
    show(args.json, &revoked, |r| {
        format!(
            "{}\n\nRevoked by the root's list number {} of {}.\n\
             Now run: lanyard-node network import {} --config NODE.TOML",
            r.revoked.to_text(),
            r.list_number,
            rfc3339(at),
            r.record.display()
        )
    })
}

fn read_list(path: &Path) -> Result<RevocationList, CommandError> {
    RevocationList::from_pem(&files::read_text(path)?).map_err(|e| CommandError::content(path, e))
}

fn show_certificates(args: &ShowArgs) -> Result<(), CommandError> {
    let paths = match args.path.is_dir() {
        false => vec![args.path.clone()],
        true => [ROOT, REGISTRAR, NODE]
            .map(|name| args.path.join(name))
            .into_iter()
            .filter(|p| p.exists())
            .collect(),
    };
    let mut views: Vec<CertificateView> = Vec::new();
    for path in &paths {
        let chain = lanyard_crypto::x509::chain_from_pem(&files::read_text(path)?);
        for certificate in chain.map_err(|e| CommandError::content(path, e))? {
            let view = CertificateView::new(&certificate);
            if !views.iter().any(|v| v.fingerprint == view.fingerprint) {
                views.push(view);
            }
        }
    }
    if views.is_empty() {
        return Err(CommandError::content(&args.path, PemError::None("CERTIFICATE")));
    }
    show(args.json, &views, |views| {
        views.iter().map(CertificateView::to_text).collect::<Vec<_>>().join("\n\n")
    })
}
