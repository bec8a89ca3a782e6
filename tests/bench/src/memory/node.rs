//! A node with many stored records, against the store alone on the same directory.

use std::error::Error;
use std::fs;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lanyard_crypto::ids::from_hex;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{self, Body, Class, Decoded, Envelope, Header};
use lanyard_crypto::x509::{self, Certificate, SecretKey};
use lanyard_crypto::{ConversationId, NodeId, Timestamp};
use lanyard_replica::{Arrival, Input, Output, Own, Replica, Source, arrival, fixtures};
use lanyard_storage::limits::CACHE_BYTES_DEFAULT;
use lanyard_tests::cluster::ONE_EACH;
use lanyard_tests::{Cluster, Node, Programs};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::alone::StoreAt;
use super::process::{Alone, Measured, median, mib, rounded, settled};
use crate::Size;
use crate::pair::Site;
use crate::report::at_most;

/// Of a million that `--records` takes: filling these takes a minute, and the node's own memory counts for more beside fewer.
const RECORDS: usize = 200_000;
const RECORDS_QUICK: usize = 4_000;
const RECORD_BYTES: usize = 1024;
/// Records of one step, and batches of them that are signed and verified ahead.
const STEP_RECORDS: usize = 512;
const AHEAD: usize = 8;
/// Over how long the records were issued, which is not before their signer was certified, and for how long they live, in seconds.
const SPREAD: u64 = 180;
const LIFE: u64 = 90 * fixtures::DAY;
/// Times that each is started.
const TURNS: usize = 3;
const GOAL_MEMORY: f64 = 1.5;
const GOAL_START: f64 = 1.3;
/// A node that takes longer than this has a fault.
const START_MAX: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(1);

pub fn run(size: &Size) -> Result<(), Box<dyn Error>> {
    let count = size.records.unwrap_or(if size.quick { RECORDS_QUICK } else { RECORDS });
    let mut cluster = Cluster::found(&Programs::find()?, &ONE_EACH[..2])?;
    // Its first start makes the store and its key.
    cluster.trusts[0].node.start()?;
    cluster.trusts[0].node.stop()?;
    let (own, peer) = (files_of(&cluster.trusts[0].node)?, files_of(&cluster.trusts[1].node)?);
    let charter = Decoded::from_bytes(&fs::read(cluster.charter())?)?;
    let store = store_of(&cluster.trusts[0].node, &own, &charter)?;
    let begun = Instant::now();
    fill(&store, &own, &peer, &charter, count as u64)?;
    let filling = begun.elapsed().as_secs_f64();

    // What the first opening puts in order is no matter of theirs.
    drop(Alone::start(&store.to_json())?);
    let (mut alone, mut node) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let process = Alone::start(&store.to_json())?;
        alone.push(Measured { seconds: process.seconds, kib: settled(process.id())? });
        drop(process);
        node.push(started(&mut cluster.trusts[0].node)?);
    }
    let (alone, node) = (median(&alone), median(&node));
    size.show(&json!({
        "scenario": "a node with stored records, against the store alone",
        "records": count,
        "filling, seconds": filling.round(),
        "the store alone: resident, MiB": mib(alone.kib),
        "the node: resident, MiB": mib(node.kib),
        "memory against the store's": at_most(rounded(node.kib / alone.kib), GOAL_MEMORY),
        "the store alone: start-up, seconds": rounded(alone.seconds),
        "the node: start-up, seconds": rounded(node.seconds),
        "start-up against the store's": at_most(rounded(node.seconds / alone.seconds), GOAL_START),
    }));
    Ok(())
}

/// From its start until it says that it is ready; what it has in memory when it has become quiet. It is ended then.
pub fn started(node: &mut Node) -> Result<Measured, Box<dyn Error>> {
    let begun = Instant::now();
    node.launch()?;
    let ready = node.config().with_file_name("ready.json");
    // Written beside and renamed: once it is there, it is whole.
    while !ready.exists() {
        node.check()?;
        if begun.elapsed() > START_MAX {
            return Err(format!("{} is not ready after {START_MAX:?}", node.name()).into());
        }
        thread::sleep(POLL);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let kib = settled(node.process_id().ok_or("the node has ended")?)?;
    node.stop()?;
    Ok(Measured { seconds, kib })
}

/// A node as its files say who it is.
fn files_of(node: &Node) -> Result<Own, Box<dyn Error>> {
    let file = |name: &str| fs::read_to_string(node.config().with_file_name(name));
    let key = SecretKey::from_pkcs8_pem(&file("node.key")?)?;
    let chain: Vec<Certificate> = x509::chain_from_pem(&file("node.pem")?)?;
    let [leaf, registrar, ..] = &chain[..] else { return Err("a node's chain".into()) };
    Ok(Own {
        trust: leaf.subject().trust.clone(),
        node: NodeId::new(key.public()),
        certificate: leaf.fingerprint(),
        chain: vec![leaf.der().to_vec(), registrar.der().to_vec()],
        key,
    })
}

/// Its store, as the program opens it.
fn store_of(node: &Node, own: &Own, charter: &Decoded) -> Result<StoreAt, Box<dyn Error>> {
    let key = fs::read_to_string(node.data_dir().join("store.key"))?;
    let key = from_hex(key.trim()).and_then(|key| key.try_into().ok()).ok_or("the store's key")?;
    let network = record::open_trusted(charter)?;
    let mut owner = Sha256::new();
    owner.update(own.key.public());
    owner.update(network.id().as_bytes());
    owner.update(own.trust.as_str());
    let dir = node.data_dir().join("store");
    Ok(StoreAt { dir, owner: owner.finalize().into(), key, cache_bytes: CACHE_BYTES_DEFAULT })
}

/// Stores messages of the other trust's node by the engine, as if they had come from it: signed and verified in one thread, and stepped and
/// committed in another.
fn fill(store: &StoreAt, own: &Own, peer: &Own, charter: &Decoded, count: u64) -> Result<(), Box<dyn Error>> {
    let store = store.open()?;
    let replica = Replica::open(&store, own.clone(), charter)?;
    let mut site = Site::with(Box::new(store), replica);
    let now = Timestamp::from_secs(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    let hello = Input::Connected { node: peer.node, trust: peer.trust.clone(), chain: peer.chain.clone() };
    site.step(vec![hello], now)?;
    let network = site.replica.network();
    thread::scope(|scope| {
        let (made, waiting) = mpsc::sync_channel::<Result<Vec<Arrival>, String>>(AHEAD);
        scope.spawn(move || {
            let mut n = 0;
            while n < count {
                let end = (n + STEP_RECORDS as u64).min(count);
                let records: Result<Vec<_>, _> =
                    (n..end).map(|n| message(n, own, peer, &network, now).map(Ok)).collect();
                let arrivals = records.map(|records| arrival::verify(records, &network));
                if made.send(arrivals.map_err(|error| error.to_string())).is_err() {
                    return;
                }
                n = end;
            }
        });
        while let Ok(arrivals) = waiting.recv() {
            let mut inputs = Vec::new();
            for arrivals in [arrivals].into_iter().chain(waiting.try_iter().take(AHEAD - 1)) {
                inputs.push(Input::Records { from: Source::Peer(peer.node), arrivals: arrivals? });
            }
            for output in site.step(inputs, now)? {
                if let Output::Audit(entry) = output
                    && entry.event == "refused"
                {
                    return Err(format!("a record was refused: {}", entry.detail).into());
                }
            }
        }
        Ok(())
    })
}

/// A message of a conversation between the two.
fn message(
    n: u64,
    own: &Own,
    peer: &Own,
    network: &Network,
    now: Timestamp,
) -> Result<Decoded, Box<dyn Error>> {
    let conversation = ConversationId::new([9; 16], peer.trust.clone());
    let ciphertext = u32::try_from(RECORD_BYTES - 292)?;
    let content = fixtures::padded_message(&conversation, 1, n, ciphertext);
    let envelope = Envelope { conversation, epoch: 1, class: Class::Application, content };
    let mut custodians = vec![own.trust.clone(), peer.trust.clone()];
    custodians.sort();
    let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let issued = now.minus_secs(spread % SPREAD);
    let header = Header { network: Some(network.id()), custodians, issued, expires: issued.plus_secs(LIFE) };
    Ok(record::sign(header, Body::Envelope(envelope), peer.certificate, &peer.key)?)
}
