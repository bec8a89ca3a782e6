//! Two replicas, and the wire between them, which counts what passes. It does what a node's driver does: verifies records, steps
//! what waits, commits it as one batch, and only then carries out the outputs.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lanyard_crypto::Timestamp;
use lanyard_crypto::record::Decoded;
use lanyard_replica::fixtures::Trust;
use lanyard_replica::frame::Frame;
use lanyard_replica::limits::{COMMIT_BYTES, COMMIT_CHANGES};
use lanyard_replica::{Input, Output, Replica, Source, arrival, found};
use lanyard_storage::{Batch, Committing, Overlay, Store};
use peak_alloc::PeakAlloc;

use crate::network::{NOW, Network};

/// What is allocated, in a program whose allocator counts that.
const ALLOCATED: PeakAlloc = PeakAlloc;

pub struct Site {
    pub store: Box<dyn Store>,
    pub replica: Replica,
    /// Time that it has worked.
    pub busy: Duration,
    /// Of it, time in which it waited for the store's commits.
    pub committing: Duration,
    /// What is being committed.
    flight: Option<(Committing, Arc<Batch>)>,
}

/// What passed on the wire.
#[derive(Debug, Default)]
pub struct Tally {
    /// Bytes of frames, by their name.
    pub bytes: BTreeMap<&'static str, usize>,
    /// Records that were sent.
    pub records: usize,
    /// Bytes that one step allocated at most, beyond what it left.
    pub transient: usize,
    /// The longest chain of frames, each the answer to the one before, up to where it was known what differs.
    pub legs: u32,
}

struct Parcel {
    to: usize,
    bytes: Vec<u8>,
    leg: u32,
}

pub struct Pair {
    pub network: Network,
    pub sites: [Site; 2],
    pub now: Timestamp,
    pub tally: Tally,
    wire: VecDeque<Parcel>,
}

impl Tally {
    /// What reconciliation took: everything but the records, and the acknowledgement that each record gets whichever way it comes.
    pub fn reconciliation(&self) -> usize {
        self.bytes.iter().filter(|(name, _)| !matches!(**name, "records" | "answers")).map(|(_, n)| n).sum()
    }
}

impl Pair {
    pub fn new(stores: [Box<dyn Store>; 2]) -> Result<Self, Box<dyn Error>> {
        let network = Network::new();
        let [a, b] = stores;
        let sites =
            [Site::new(a, &network.trusts[0], &network)?, Site::new(b, &network.trusts[1], &network)?];
        let mut pair = Self { network, sites, now: NOW, tally: Tally::default(), wire: VecDeque::new() };
        // Each knows the other's certificate from now on.
        pair.connect()?;
        pair.part()?;
        Ok(pair)
    }

    /// Stores records at a site, as if they had come before.
    pub fn store(&mut self, at: usize, records: Vec<Decoded>) -> Result<(), Box<dyn Error>> {
        let from = Source::Peer(self.network.trusts[1 - at].node_id());
        for chunk in records.chunks(512) {
            let looked = chunk.iter().cloned().map(Ok).collect();
            let arrivals = arrival::verify(looked, &self.sites[at].replica.network());
            let input = Input::Records { from: from.clone(), arrivals };
            for output in self.sites[at].step(vec![input], self.now)? {
                if let Output::Audit(entry) = output
                    && entry.event == "refused"
                {
                    return Err(format!("a record was refused: {}", entry.detail).into());
                }
            }
        }
        Ok(())
    }

    pub fn connect(&mut self) -> Result<(), Box<dyn Error>> {
        for at in [0, 1] {
            let peer = self.network.trusts[1 - at].own();
            let input = Input::Connected { node: peer.node, trust: peer.trust, chain: peer.chain };
            self.step(at, vec![input], 0)?;
        }
        Ok(())
    }

    pub fn part(&mut self) -> Result<(), Box<dyn Error>> {
        self.wire.clear();
        for at in [0, 1] {
            let input = Input::Disconnected(self.network.trusts[1 - at].node_id());
            self.step(at, vec![input], 0)?;
        }
        Ok(())
    }

    /// Whom a site believes.
    pub fn replica_network(&self, at: usize) -> Arc<lanyard_crypto::network::Network> {
        self.sites[at].replica.network()
    }

    /// Lets time pass, with one tick at its end, and each site go on with what that leaves, as a driver does while nothing else waits.
    pub fn pass(&mut self, secs: u64) -> Result<(), Box<dyn Error>> {
        self.now = self.now.plus_secs(secs);
        for at in [0, 1] {
            let mut more = self.step(at, vec![Input::Tick], 0)?;
            while more {
                more = self.step(at, vec![Input::GoOn], 0)?;
            }
        }
        Ok(())
    }

    /// Delivers all frames, and what comes of them.
    pub fn settle(&mut self) -> Result<(), Box<dyn Error>> {
        while let Some(first) = self.wire.pop_front() {
            // What waits for one site is stepped together, as a driver would.
            let (to, leg) = (first.to, first.leg);
            let mut waiting = vec![first];
            while let Some(next) = self.wire.pop_front_if(|next| next.to == to && next.leg == leg) {
                waiting.push(next);
            }
            let begun = Instant::now();
            let peer = self.network.trusts[1 - to].node_id();
            let mut inputs = Vec::new();
            for parcel in waiting {
                inputs.push(match Frame::from_bytes(&parcel.bytes)? {
                    Frame::Records(records) => {
                        let looked = records.iter().map(|r| arrival::decode(r)).collect();
                        let arrivals = arrival::verify(looked, &self.sites[to].replica.network());
                        Input::Records { from: Source::Peer(peer), arrivals }
                    }
                    frame => Input::Frame { from: peer, frame },
                });
            }
            self.sites[to].busy += begun.elapsed();
            self.step(to, inputs, leg)?;
        }
        Ok(())
    }

    /// Tells whether something is left to go on with.
    fn step(&mut self, at: usize, inputs: Vec<Input>, leg: u32) -> Result<bool, Box<dyn Error>> {
        ALLOCATED.reset_peak_usage();
        let outputs = self.sites[at].step(inputs, self.now)?;
        let transient = ALLOCATED.peak_usage().saturating_sub(ALLOCATED.current_usage());
        self.tally.transient = self.tally.transient.max(transient);
        let mut more = false;
        for output in outputs {
            match output {
                Output::GoOn => more = true,
                Output::Send { frame, .. } => {
                    let (bytes, leg) = (frame.to_bytes(), leg + 1);
                    *self.tally.bytes.entry(frame.name()).or_default() += bytes.len();
                    match &frame {
                        Frame::Records(records) => self.tally.records += records.len(),
                        Frame::Roots(_)
                        | Frame::Ranges(_)
                        | Frame::Ask(_)
                        | Frame::Symbols(_)
                        | Frame::List(_)
                        | Frame::Offer(_) => self.tally.legs = self.tally.legs.max(leg),
                        _ => {}
                    }
                    self.wire.push_back(Parcel { to: 1 - at, bytes, leg });
                }
                Output::Disconnect { why, .. } => {
                    return Err(format!("a replica dropped the other: {why}").into());
                }
                _ => {}
            }
        }
        Ok(more)
    }
}

impl Site {
    pub fn new(store: Box<dyn Store>, trust: &Trust, network: &Network) -> Result<Self, Box<dyn Error>> {
        store.commit(found(&*store, &network.charter)?)?;
        let replica = Replica::open(&*store, trust.own(), &network.charter)?;
        Ok(Self::with(store, replica))
    }

    /// Of a replica that was opened from this store.
    pub fn with(store: Box<dyn Store>, replica: Replica) -> Self {
        Self { store, replica, busy: Duration::ZERO, committing: Duration::ZERO, flight: None }
    }

    /// Steps what waits, and commits it.
    pub fn step(&mut self, inputs: Vec<Input>, now: Timestamp) -> Result<Vec<Output>, Box<dyn Error>> {
        let outputs = self.step_ahead(inputs, now)?;
        self.land()?;
        Ok(outputs)
    }

    /// Steps what waits on top of what is being committed, as the driver does: whenever the disk is free, it gets what was stepped so far.
    /// The outputs would be carried out once that has [landed](Site::land).
    pub fn step_ahead(&mut self, inputs: Vec<Input>, now: Timestamp) -> Result<Vec<Output>, Box<dyn Error>> {
        let begun = Instant::now();
        let (mut batch, mut outputs) = (Batch::new(), Vec::new());
        for input in inputs {
            let committing = self.flight.as_ref().map(|(_, batch)| batch.clone()).unwrap_or_default();
            let base = Overlay::with(&*self.store, committing);
            let view = Overlay::with(&base, std::mem::take(&mut batch));
            let step = self.replica.step(input, now, &view)?;
            batch = view.into_batch();
            batch.append(step.batch);
            outputs.extend(step.outputs);
            let disk_waits = self.flight.as_mut().is_some_and(|(committing, _)| committing.has_ended());
            if disk_waits || batch.byte_len() >= COMMIT_BYTES || batch.len() >= COMMIT_CHANGES {
                self.commit(std::mem::take(&mut batch))?;
            }
        }
        self.commit(batch)?;
        self.busy += begun.elapsed();
        Ok(outputs)
    }

    /// Waits until everything is on the disk.
    pub fn land(&mut self) -> Result<(), Box<dyn Error>> {
        let begun = Instant::now();
        if let Some((committing, _)) = self.flight.take() {
            committing.wait()?;
        }
        self.busy += begun.elapsed();
        self.committing += begun.elapsed();
        Ok(())
    }

    fn commit(&mut self, batch: Batch) -> Result<(), Box<dyn Error>> {
        if batch.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        if let Some((committing, _)) = self.flight.take() {
            committing.wait()?;
        }
        let batch = Arc::new(batch);
        self.flight = Some((self.store.begin(&batch)?, batch));
        self.committing += begun.elapsed();
        Ok(())
    }
}
