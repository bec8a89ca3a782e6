//! What the border knows and decides, shared by the gate, the border and the driver: the policy, the bound on
//! unfinished inbound connections, the reports of refusals, and what each admitted peer has shown, for as
//! long as a connection to it lives.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::FutureExt;
use lanyard_crypto::NodeId;
use libp2p::PeerId;
use libp2p::multiaddr::Multiaddr;
use tokio::sync::{mpsc, oneshot};

use super::exchange::Presented;
use crate::p2p::address;
use crate::p2p::countries::Countries;
use crate::p2p::event::{Reason, Refused};
use crate::p2p::limits;
use crate::p2p::options::{PeerInfo, Policy, Timing};

/// Tells this run of a node from its earlier ones. Random.
pub(in crate::p2p) type Incarnation = [u8; 16];

/// See the module documentation.
pub(in crate::p2p) struct Authority {
    timing: Timing,
    incarnation: Incarnation,
    countries: Countries,
    policy: Policy,
    own_chain: Arc<[u8]>,
    refusals: mpsc::Sender<Refused>,
    refusals_lost: AtomicU64,
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    /// How many numbers have been given to tickets and passes; they order both by age.
    numbers: u64,
    pending: BTreeMap<u64, Pending>,
    admitted: HashMap<NodeId, BTreeMap<u64, Connection>>,
    /// Connections that were told to close: a new one to the same peer waits until they have.
    closing: HashMap<NodeId, Vec<oneshot::Receiver<()>>>,
}

struct Pending {
    counted_as: Option<IpAddr>,
    /// Dropped to evict it.
    _keep: oneshot::Sender<()>,
}

struct Connection {
    ip: IpAddr,
    presented: Presented,
    /// Dropped to close it.
    _keep: oneshot::Sender<()>,
    /// Fires when it has closed.
    gone: oneshot::Receiver<()>,
}

impl Authority {
    /// Refusals arrive at the returned receiver; while it is full, they are dropped and counted.
    ///
    /// # Errors
    /// The operating system has no randomness for the incarnation.
    pub(in crate::p2p) fn new(
        own_chain: Vec<u8>,
        countries: Countries,
        policy: Policy,
        timing: Timing,
    ) -> Result<(Arc<Self>, mpsc::Receiver<Refused>), getrandom::Error> {
        let mut incarnation = Incarnation::default();
        getrandom::fill(&mut incarnation)?;
        let (refusals, reported) = mpsc::channel(limits::REFUSALS);
        let authority = Self {
            timing,
            incarnation,
            countries,
            policy,
            own_chain: own_chain.into(),
            refusals,
            refusals_lost: AtomicU64::new(0),
            records: Mutex::default(),
        };
        Ok((Arc::new(authority), reported))
    }

    pub(in crate::p2p) fn timing(&self) -> &Timing {
        &self.timing
    }

    pub(super) fn incarnation(&self) -> &Incarnation {
        &self.incarnation
    }

    pub(super) fn own_chain(&self) -> Arc<[u8]> {
        self.own_chain.clone()
    }

    /// Whether a peer may stand at this address.
    pub(in crate::p2p) fn check_address(&self, ip: IpAddr) -> Result<(), Reason> {
        let country = self.countries.country_of(ip).ok_or(Reason::CountryUnknown)?;
        if (self.policy.permit)(country) { Ok(()) } else { Err(Reason::CountryRefused(country)) }
    }

    pub(super) fn judge(&self, node: NodeId, chain: &[u8]) -> Result<PeerInfo, String> {
        (self.policy.admit)(node, chain).map_err(|text| text.chars().take(limits::MAX_TEXT).collect())
    }

    /// What the newest connection to this peer has shown.
    pub(in crate::p2p) fn shown_by(&self, node: &NodeId) -> Option<(PeerInfo, Incarnation)> {
        let records = lock(&self.records);
        let newest = &records.admitted.get(node)?.values().next_back()?.presented;
        Some((newest.info.clone(), newest.incarnation))
    }

    /// Asks the policy again about every connection, and closes those that it would no longer admit; returns
    /// their peers.
    pub(in crate::p2p) fn recheck(&self) -> Vec<NodeId> {
        type Seen = (NodeId, u64, IpAddr, Arc<[u8]>);
        let seen: Vec<Seen> = {
            let records = lock(&self.records);
            let of = |(node, all): (&NodeId, &BTreeMap<u64, Connection>)| {
                let node = *node;
                let seen = all.iter().map(move |(n, c)| (node, *n, c.ip, c.presented.chain.clone()));
                seen.collect::<Vec<_>>()
            };
            records.admitted.iter().flat_map(of).collect()
        };
        // The policy is asked without the lock, which it might otherwise hold for long.
        let mut unwelcome = Vec::new();
        for (node, number, ip, chain) in seen {
            let address = self.check_address(ip).map_err(|reason| reason.to_string());
            if let Err(why) = address.and_then(|()| self.judge(node, &chain).map(drop))
                && lock(&self.records).close(node, |other, _| other == number) > 0
            {
                self.report_node(node, &Multiaddr::from(ip), false, Reason::Withdrawn(why));
                unwelcome.push(node);
            }
        }
        unwelcome
    }

    /// Closes every connection to this peer.
    pub(in crate::p2p) fn close(&self, node: &NodeId) {
        lock(&self.records).close(*node, |_, _| true);
    }

    /// Closes every connection to this run of this peer; those to a later run stay.
    pub(in crate::p2p) fn close_run(&self, node: &NodeId, incarnation: &Incarnation) {
        lock(&self.records).close(*node, |_, connection| connection.presented.incarnation == *incarnation);
    }

    /// Refusals that were dropped because nobody took them in time.
    pub(in crate::p2p) fn refusals_lost(&self) -> u64 {
        self.refusals_lost.load(Ordering::Relaxed)
    }

    /// Reports a refusal.
    pub(in crate::p2p) fn report(
        &self,
        peer: Option<&PeerId>,
        remote: &Multiaddr,
        inbound: bool,
        reason: Reason,
    ) {
        let node = peer.and_then(address::node_of);
        let address = remote.to_string().chars().take(limits::MAX_TEXT).collect();
        if self.refusals.try_send(Refused { node, address, inbound, reason }).is_err() {
            self.refusals_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reports a refusal of a peer that had been admitted.
    pub(in crate::p2p) fn report_node(
        &self,
        node: NodeId,
        remote: &Multiaddr,
        inbound: bool,
        reason: Reason,
    ) {
        let peer = address::peer_of(&node).ok();
        self.report(peer.as_ref(), remote, inbound, reason);
    }

    /// Takes a place among the unfinished inbound connections, if need be the oldest one's.
    pub(super) fn queue(self: &Arc<Self>, remote: &Multiaddr) -> Result<Ticket, Reason> {
        let counted_as = address::ip_of(remote).map(address::counted_as);
        let mut records = lock(&self.records);
        let same = records.pending.values().filter(|other| other.counted_as == counted_as).count();
        if same >= limits::PENDING_PER_IP {
            return Err(Reason::Crowded);
        }
        if records.pending.len() >= limits::PENDING {
            records.pending.pop_first();
        }
        let (keep, evicted) = oneshot::channel();
        let number = records.next_number();
        records.pending.insert(number, Pending { counted_as, _keep: keep });
        Ok(Ticket { authority: self.clone(), number, evicted })
    }

    /// Enters a connection. Connections that the peer made before it restarted, and the oldest of too many,
    /// are told to close; the returned receivers fire when they have.
    pub(super) fn admit(
        self: &Arc<Self>,
        node: NodeId,
        ip: IpAddr,
        presented: Presented,
    ) -> Result<(Pass, Vec<oneshot::Receiver<()>>), Reason> {
        let mut records = lock(&self.records);
        let incarnation = presented.incarnation;
        records.close(node, |_, other| other.presented.incarnation != incarnation);
        let oldest = records.admitted.get(&node).filter(|all| all.len() >= limits::CONNECTIONS_PER_PEER);
        if let Some((&oldest, _)) = oldest.and_then(BTreeMap::first_key_value) {
            records.close(node, |number, _| number == oldest);
        }
        let all = || records.admitted.values().flat_map(BTreeMap::values);
        let of_trust = all().filter(|other| other.presented.info.trust == presented.info.trust);
        if all().count() >= limits::CONNECTIONS || of_trust.count() >= limits::CONNECTIONS_PER_TRUST {
            return Err(Reason::Full);
        }
        let number = records.next_number();
        let retired = records.closing.remove(&node).unwrap_or_default();
        let ((keep, withdrawn), (going, gone)) = (oneshot::channel(), oneshot::channel());
        let connection = Connection { ip, presented, _keep: keep, gone };
        records.admitted.entry(node).or_default().insert(number, connection);
        Ok((Pass { authority: self.clone(), node, number, withdrawn, _going: going }, retired))
    }
}

impl Records {
    fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Tells the connections to this peer that `which` picks to close; returns how many.
    fn close(&mut self, node: NodeId, which: impl Fn(u64, &Connection) -> bool) -> usize {
        let Some(connections) = self.admitted.get_mut(&node) else {
            return 0;
        };
        let picked = connections.extract_if(.., |number, connection| which(*number, connection));
        let gone: Vec<_> = picked.map(|(_, connection)| connection.gone).collect();
        if connections.is_empty() {
            self.admitted.remove(&node);
        }
        let closed = gone.len();
        if closed > 0 {
            let closing = self.closing.entry(node).or_default();
            closing.retain_mut(|gone| gone.try_recv() == Err(oneshot::error::TryRecvError::Empty));
            closing.extend(gone);
        }
        closed
    }
}

/// No code panics while it holds this lock, and what it protects is consistent after each step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place among the unfinished inbound connections, given back when it is dropped.
pub(super) struct Ticket {
    authority: Arc<Authority>,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

impl Ticket {
    /// Waits until the place is taken away.
    pub(super) async fn evicted(mut self) {
        let _ = (&mut self.evicted).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.authority.records).pending.remove(&self.number);
    }
}

/// The right of one connection to exist; it lives as long as the connection does.
pub(super) struct Pass {
    authority: Arc<Authority>,
    node: NodeId,
    number: u64,
    withdrawn: oneshot::Receiver<()>,
    _going: oneshot::Sender<()>,
}

impl Pass {
    /// Ready when the connection must close.
    pub(super) fn poll_withdrawn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.withdrawn.poll_unpin(cx).map(drop)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut records = lock(&self.authority.records);
        let Some(connections) = records.admitted.get_mut(&self.node) else {
            return;
        };
        connections.remove(&self.number);
        if connections.is_empty() {
            records.admitted.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use lanyard_crypto::TrustId;
    use lanyard_crypto::residency::Country;

    use super::*;

    fn authority() -> Arc<Authority> {
        let policy =
            Policy { admit: Arc::new(|_, _| Err("nobody is asked".into())), permit: Arc::new(|_| true) };
        let countries = Countries::new([]).unwrap();
        Authority::new(Vec::new(), countries, policy, Timing::default()).unwrap().0
    }

    fn admit(authority: &Arc<Authority>, trust: &str, node: u8, run: u8) -> Result<Pass, Reason> {
        let trust: TrustId = trust.parse().unwrap();
        let presented = Presented {
            chain: Arc::from([]),
            incarnation: [run; 16],
            info: PeerInfo { trust, country: Country::GB },
        };
        let outcome = authority.admit(NodeId::new([node; 32]), [127, 0, 0, 1].into(), presented);
        outcome.map(|(pass, _)| pass)
    }

    #[test]
    fn one_trust_does_not_take_every_place() {
        let authority = authority();
        let places = 0..limits::CONNECTIONS_PER_TRUST as u8;
        let mut passes: Vec<_> = places.map(|node| admit(&authority, "RXA", node, 0).unwrap()).collect();
        assert_eq!(admit(&authority, "RXA", 200, 0).err(), Some(Reason::Full));
        let _other = admit(&authority, "RXB", 201, 0).unwrap();
        // A node that comes back takes its own place.
        passes.push(admit(&authority, "RXA", 0, 1).unwrap());
        assert_eq!(admit(&authority, "RXA", 200, 0).err(), Some(Reason::Full));
        passes.pop();
        admit(&authority, "RXA", 200, 0).unwrap();
    }
}
