//! A node with many idle clients, each a TLS connection of a certified device on which events are awaited.

use std::error::Error;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lanyard_crypto::Timestamp;
use lanyard_crypto::residency::Country;
use lanyard_crypto::x509::issue::{self, Issuer, Term};
use lanyard_crypto::x509::{Certificate, SecretKey, Subject};
use lanyard_replica::fixtures::DAY;
use lanyard_tests::cluster::ONE_EACH;
use lanyard_tests::loopback::GATEWAY_PORT;
use lanyard_tests::{Cluster, Programs, Trust};
use serde_json::json;

use super::process::{Alone, open_files, rounded, settled};
use super::tls::{Clients, Shown};
use crate::Size;
use crate::report::at_most;

const CLIENTS: usize = 2000;
const CLIENTS_QUICK: usize = 200;
/// Addresses that they come from: a node takes 512 from one.
const ADDRESSES: u8 = 8;
/// How long they are idle: longer than it takes until the node writes a comment to each.
const IDLE: Duration = Duration::from_secs(20);
const IDLE_QUICK: Duration = Duration::from_secs(2);
/// Open files of a program beside those of its clients.
const OTHER_FILES: u64 = 200;
/// KiB of a client, at most.
const GOAL: f64 = 64.0;

pub fn run(size: &Size) -> Result<(), Box<dyn Error>> {
    let wanted = if size.quick || size.records.is_some() { CLIENTS_QUICK } else { CLIENTS };
    let files = open_files(wanted as u64 + OTHER_FILES);
    let count = wanted.min(usize::try_from(files.saturating_sub(OTHER_FILES))?);
    let idle = if size.quick || size.records.is_some() { IDLE_QUICK } else { IDLE };
    let mut cluster = Cluster::found(&Programs::find()?, &ONE_EACH[..1])?;
    let devices = devices(&cluster.trusts[0], count)?;
    let from: Vec<Ipv4Addr> = (100..100 + ADDRESSES).map(|n| cluster.subnet.inside(n)).collect();

    // It writes nothing of its own accord, so that there is nothing to wait for.
    let bare = Alone::start(&json!({ "what": "tls" }))?;
    let (bare_kib, _) = of_each(bare.id(), &devices, bare.said.parse()?, &[Ipv4Addr::LOCALHOST], IDLE_QUICK)?;
    drop(bare);

    let node = &mut cluster.trusts[0].node;
    node.start()?;
    let id = node.process_id().ok_or("the node has ended")?;
    let gateway = (node.address(), GATEWAY_PORT).into();
    let (kib, connecting) = of_each(id, &devices, gateway, &from, idle)?;
    node.stop()?;
    size.show(&json!({
        "scenario": "a node with idle clients, each awaiting events on a TLS connection of its own",
        "clients": count,
        "connecting all, seconds": rounded(connecting),
        "a connection of rustls alone, KiB": rounded(bare_kib),
        "a client, KiB": at_most(rounded(kib), GOAL),
    }));
    Ok(())
}

/// What the process with this id has more in memory for each of these clients, in KiB, and the seconds to connect all.
fn of_each(
    id: u32,
    devices: &[Shown],
    server: std::net::SocketAddr,
    from: &[Ipv4Addr],
    idle: Duration,
) -> Result<(f64, f64), Box<dyn Error>> {
    let before = settled(id)?;
    let begun = Instant::now();
    let clients = Clients::connect(devices, server, from)?;
    let connecting = begun.elapsed().as_secs_f64();
    thread::sleep(idle);
    let after = settled(id)?;
    clients.check()?;
    Ok(((after - before) / devices.len() as f64, connecting))
}

/// So many devices of a trust, certified by its registrar's key as the registrar would.
fn devices(trust: &Trust, count: usize) -> Result<Vec<Shown>, Box<dyn Error>> {
    let file = |name: &str| read(&trust.dir.join(name));
    let key = SecretKey::from_pkcs8_pem(&file("registrar.key")?)?;
    let registrar = lanyard_crypto::x509::chain_from_pem(&file("registrar.pem")?)?;
    let registrar: &Certificate = registrar.first().ok_or("the registrar's certificate")?;
    let issuer = Issuer::new(registrar, &key)?;
    let of = registrar.subject();
    let certified = |number: usize| {
        let key = SecretKey::generate()?;
        let subject = Subject {
            trust: of.trust.clone(),
            country: of.country,
            organisation: of.organisation.clone(),
            common_name: format!("Clinician {number}"),
            department: None,
            title: Some("Staff nurse".into()),
            registration: Some(format!("NMC {number:07}")),
        };
        let certificate = issuer.device(&subject, &key.public(), &term()?)?;
        Ok(Shown { key, chain: vec![certificate.der().to_vec(), registrar.der().to_vec()] })
    };
    (0..count).map(certified).collect()
}

/// Certificates of a server, as many as a node shows.
pub fn server_chain(key: &SecretKey) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let [root_key, registrar_key] = [SecretKey::generate()?, SecretKey::generate()?];
    let subject = |name: &str| -> Result<Subject, Box<dyn Error>> {
        Ok(Subject {
            trust: "RZ9".parse()?,
            country: Country::GB,
            organisation: "Nowhere Infirmary".into(),
            common_name: name.into(),
            department: None,
            title: None,
            registration: None,
        })
    };
    let root = issue::root(&subject("Root")?, &root_key, &term()?)?;
    let registrar = Issuer::new(&root, &root_key)?.registrar(
        &subject("Registrar")?,
        &registrar_key.public(),
        &term()?,
    )?;
    let leaf =
        Issuer::new(&registrar, &registrar_key)?.device(&subject("Server")?, &key.public(), &term()?)?;
    Ok([leaf, registrar, root].iter().map(|certificate| certificate.der().to_vec()).collect())
}

fn term() -> Result<Term, Box<dyn Error>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(Term::starting(Timestamp::from_secs(now), 30 * DAY)?)
}

fn read(path: &Path) -> Result<String, Box<dyn Error>> {
    Ok(fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?)
}
