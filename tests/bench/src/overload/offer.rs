//! Messages offered to a node at a rate that does not depend on its answers.

use std::error::Error;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lanyard_client::clock;
use lanyard_client::node::{NodeClient, NodeError};
use lanyard_crypto::{RecordId, TrustId};

use super::devices::Device;

/// Connections of each device: what the gateway allows, but for one.
const PER_DEVICE: usize = 7;

/// What came of one message.
pub enum Outcome {
    /// It is on the node's disk, so long after the moment for which it was planned, and after it was sent.
    Accepted { id: RecordId, latency: Duration, since_sent: Duration },
    /// The node had too much to do; told within this time.
    Refused { number: u64, device: usize, status: u16, after: Duration },
}

/// What came of all that was offered at one rate.
pub struct Offered {
    pub outcomes: Vec<Outcome>,
    /// From the first planned moment to the last answer.
    pub took: Duration,
}

/// Devices with their connections, each of which carries one message at a time.
pub struct Crowd<'a> {
    pub devices: &'a [Device],
    connections: Vec<(usize, NodeClient)>,
    /// The next message's number: no two are alike.
    next: AtomicU64,
    custodians: Vec<TrustId>,
}

impl<'a> Crowd<'a> {
    pub fn connect(devices: &'a [Device], custodians: Vec<TrustId>) -> Result<Self, Box<dyn Error>> {
        let mut connections = Vec::new();
        for _ in 0..PER_DEVICE {
            for (n, device) in devices.iter().enumerate() {
                connections.push((n, device.connect()?));
            }
        }
        Ok(Self { devices, connections, next: AtomicU64::new(0), custodians })
    }

    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// As many messages as `connections` carry one after the other for so long.
    pub fn saturate(&mut self, connections: usize, time: Duration) -> Result<Offered, Box<dyn Error>> {
        self.run(connections, |begun, _| (begun.elapsed() < time).then(Instant::now))
    }

    /// So many messages a second for so long. A message's latency counts from the moment for which it is planned, wherever it waits.
    pub fn offer(&mut self, rate: f64, time: Duration) -> Result<Offered, Box<dyn Error>> {
        let connections = self.connections.len();
        self.run(connections, |begun, n| {
            let planned = Duration::from_secs_f64(n as f64 / rate);
            (planned < time).then(|| begun + planned)
        })
    }

    /// Hands in again what was refused, one after the other on each connection, and again after a while.
    pub fn again(&mut self, refused: &[(u64, usize)]) -> Result<Vec<RecordId>, Box<dyn Error>> {
        let (now, mut ids) = (clock::now(), Vec::new());
        for (n, device) in refused {
            let message = self.devices[*device].message(*n, &self.custodians, now);
            let Some((_, node)) = self.connections.iter_mut().find(|(of, _)| of == device) else { continue };
            loop {
                match node.send(&message) {
                    Ok(sent) => break ids.push(sent.id),
                    Err(error) if error.is_passing() => thread::sleep(Duration::from_millis(50)),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(ids)
    }

    /// Each connection takes the next number and waits for the moment that `planned` tells, until it tells none.
    fn run(
        &mut self,
        connections: usize,
        planned: impl Fn(Instant, u64) -> Option<Instant> + Sync,
    ) -> Result<Offered, Box<dyn Error>> {
        let (devices, custodians, first) =
            (self.devices, &self.custodians, self.next.load(Ordering::Relaxed));
        let (next, ready, now) =
            (&self.next, Barrier::new(connections.min(self.connections.len()) + 1), clock::now());
        let started = std::sync::OnceLock::new();
        let work = |(device, node): &mut (usize, NodeClient)| -> Result<Vec<Outcome>, NodeError> {
            ready.wait();
            let begun = *started.get_or_init(Instant::now);
            let mut outcomes = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(at) = planned(begun, number - first) else { return Ok(outcomes) };
                let message = devices[*device].message(number, custodians, now);
                thread::sleep(at.saturating_duration_since(Instant::now()));
                let sending = Instant::now();
                outcomes.push(match node.send(&message) {
                    Ok(sent) => Outcome::Accepted {
                        id: sent.id,
                        latency: at.elapsed(),
                        since_sent: sending.elapsed(),
                    },
                    Err(NodeError::Refused { status, refusal }) if refusal.code == "busy" => {
                        Outcome::Refused { number, device: *device, status, after: sending.elapsed() }
                    }
                    Err(error) => return Err(error),
                });
            }
        };
        let work = &work;
        let outcomes: Result<Vec<Vec<Outcome>>, NodeError> = thread::scope(|scope| {
            let threads: Vec<_> = self
                .connections
                .iter_mut()
                .take(connections)
                .map(|one| scope.spawn(move || work(one)))
                .collect();
            ready.wait();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause)))
                .collect()
        });
        let took = started.get().map(Instant::elapsed).unwrap_or_default();
        Ok(Offered { outcomes: outcomes?.into_iter().flatten().collect(), took })
    }
}
