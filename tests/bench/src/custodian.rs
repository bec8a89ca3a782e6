//! The replica of a custodian, which takes records as a node's driver does.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use lanyard_crypto::record::Decoded;
use lanyard_crypto::{RecordId, Timestamp};
use lanyard_replica::frame::Frame;
use lanyard_replica::{Arrival, Input, Output, Source, arrival};
use lanyard_storage::limits::CACHE_BYTES_DEFAULT;
use lanyard_storage::{SledOptions, SledStore, Store, Tree, View};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::network::{NOW, Network};
use crate::pair::Site;

/// Records in one frame from a peer, at most, as the driver sends them.
const FRAME_RECORDS: usize = 1024;
/// Frames that wait when the driver begins a round: what one page of anti-entropy, or two peers, bring.
pub const FRAMES: usize = 4;
/// Records in one step: what a full step leaves would come again in time.
const STEP_RECORDS: usize = 512;

/// The replica of a custodian, on disk.
pub struct Custodian {
    pub site: Site,
    pub network: Network,
    /// Removed with it.
    _dir: Option<TempDir>,
}

impl Custodian {
    /// With a store in a directory of its own below this one.
    pub fn new(dir: &Path) -> Result<Self, Box<dyn Error>> {
        let dir = tempfile::tempdir_in(dir)?;
        let store = open(dir.path(), CACHE_BYTES_DEFAULT)?;
        Self::with(Box::new(store), Some(dir))
    }

    /// With this store, which lies in `dir`, if on a disk.
    pub fn with(store: Box<dyn Store>, dir: Option<TempDir>) -> Result<Self, Box<dyn Error>> {
        let network = Network::new();
        let mut site = Site::new(store, &network.trusts[1], &network)?;
        let peer = network.trusts[0].own();
        let input = Input::Connected { node: peer.node, trust: peer.trust, chain: peer.chain };
        site.step(vec![input], NOW)?;
        Ok(Self { site, network, _dir: dir })
    }

    /// Takes records as a driver does: decodes, verifies, steps and commits what waits. Returns the seconds.
    pub fn take(&mut self, records: &[Decoded], now: Timestamp) -> Result<f64, Box<dyn Error>> {
        let frames = frames(records);
        let begun = Instant::now();
        for waiting in frames.chunks(FRAMES) {
            let mut arrivals = Vec::new();
            for frame in waiting {
                arrivals.extend(look_at(frame, &self.site.replica.network(), &&*self.site.store)?);
            }
            self.step(arrivals, now)?;
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Steps records whose signatures have been looked at, and commits them.
    pub fn step(&mut self, arrivals: Vec<Arrival>, now: Timestamp) -> Result<(), Box<dyn Error>> {
        self.step_ahead(arrivals, now)?;
        self.site.land()
    }

    /// Steps records whose signatures have been looked at, while those before them are committed.
    pub fn step_ahead(&mut self, mut arrivals: Vec<Arrival>, now: Timestamp) -> Result<(), Box<dyn Error>> {
        let mut inputs = Vec::new();
        while !arrivals.is_empty() {
            let from = Source::Peer(self.network.trusts[0].node_id());
            let rest = arrivals.split_off(arrivals.len().min(STEP_RECORDS));
            inputs.push(Input::Records { from, arrivals });
            arrivals = rest;
        }
        for output in self.site.step_ahead(inputs, now)? {
            if let Output::Audit(entry) = output
                && entry.event == "refused"
            {
                return Err(format!("a record was refused: {}", entry.detail).into());
            }
        }
        Ok(())
    }
}

/// A store in `store` below this directory.
pub fn open(dir: &Path, cache_bytes: u64) -> Result<SledStore, Box<dyn Error>> {
    Ok(SledStore::open(SledOptions {
        dir: dir.join("store"),
        owner: [1; 32],
        store_key: Zeroizing::new([2; 32]),
        cache_bytes,
    })?)
}

/// The records as a peer sends them.
pub fn frames(records: &[Decoded]) -> Vec<Vec<u8>> {
    let frame = |some: &[Decoded]| {
        Frame::Records(some.iter().map(|r| r.bytes().to_vec().into()).collect()).to_bytes()
    };
    records.chunks(FRAME_RECORDS).map(frame).collect()
}

/// What a frame brings, with its signatures looked at.
pub fn look_at(
    frame: &[u8],
    network: &lanyard_crypto::network::Network,
    store: &impl View,
) -> Result<Vec<Arrival>, Box<dyn Error>> {
    let Frame::Records(records) = Frame::from_bytes(frame)? else { return Err("a frame of records".into()) };
    let is_held = |id: &RecordId| store.contains(Tree::Holdings, id.as_bytes()).unwrap_or(false);
    Ok(arrival::verify_new(records.iter().map(|r| arrival::decode(r)).collect(), network, is_held))
}
