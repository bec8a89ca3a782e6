//! Who has confirmed a deletion, as far as signatures show it (promise P7).
//!
//! Whoever shows a tally makes it here from what a node says: a replica counts only by an inclusion proof under its own node's
//! signature, and a device by its own line besides. What is not proven is told as a problem, and counts as missing.

use std::collections::{BTreeMap, BTreeSet};

use crate::gateway::{Attestation, DeletionResponse, KnownDevice, Replica, TrustDevices};
use crate::network::Network;
use crate::record::{self, Body, Decoded, DeviceLine, ReceiptItem, Signer, Tombstone, Waiting};
use crate::x509::{Certificate, Purpose};
use crate::{Fingerprint, NodeId, RecordId, Timestamp, TrustId};

/// What is shown of one deletion.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The tombstone's id.
    pub id: RecordId,
    /// The tombstone.
    pub tombstone: Tombstone,
    /// When it was ordered.
    pub issued: Timestamp,
    /// The trust whose node signed it; absent if its signature could not be checked.
    pub by: Option<TrustId>,
    /// Each replica.
    pub replicas: Vec<ReplicaTally>,
    /// The devices of each trust.
    pub devices: Vec<DeviceTally>,
    /// What was shown and is not believed.
    pub problems: Vec<String>,
}

/// One replica's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaTally {
    /// The custodian.
    pub trust: TrustId,
    /// Its node; absent if none of the trust's is known.
    pub node: Option<NodeId>,
    /// What it attests.
    pub state: ReplicaState,
    /// How many devices of its trust are to erase what they have, as it attests with its erasure; 0 until then.
    pub devices: u32,
    /// The receipt in which it does.
    pub receipt: Option<RecordId>,
    /// When it should have confirmed, if it has not, and that is over.
    pub overdue: Option<Timestamp>,
    /// Why what is shown for it is not believed.
    pub problem: Option<String>,
}

/// How far a replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaState {
    /// It has not confirmed.
    Missing,
    /// It keeps what is deleted until then, by this reference; after that it has not confirmed: see [`ReplicaTally::holds`].
    Held(Timestamp, Vec<u8>),
    /// It has erased so many envelopes by then.
    Erased(Timestamp, u32),
}

/// The devices of one trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceTally {
    /// The trust.
    pub trust: TrustId,
    /// How many are to erase what they have, as far as that is proven.
    pub total: u32,
    /// How many say so, each by a line that is shown and holds.
    pub erased: u32,
    /// Those: whose certificate it is, and when.
    pub confirmed: Vec<(DeviceName, Timestamp)>,
    /// How many others have said so by the word of the node that answers. Nothing shows it, and no sum counts it.
    pub more: u32,
    /// Those that are waited for, as far as their node names them.
    pub waiting: Vec<WaitedFor>,
}

/// A device, by its certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceName {
    /// The certificate's fingerprint.
    pub device: Fingerprint,
    /// The name in it, if it is known.
    pub name: Option<String>,
}

/// A device that has not said that it erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitedFor {
    /// Which.
    pub device: DeviceName,
    /// When it last spoke to its node.
    pub last_seen: Option<Timestamp>,
    /// Whether it has been revoked: nobody waits for it any more.
    pub revoked: bool,
}

impl Tally {
    /// Checks all that a node says of a deletion. `network` learns the certificates that it shows.
    ///
    /// # Errors
    /// What is wrong, if it is not about a tombstone at all.
    pub fn of(answer: &DeletionResponse, network: &mut Network) -> Result<Self, String> {
        let decoded = Decoded::from_bytes(&answer.record).map_err(|e| e.to_string())?;
        let Body::Tombstone(tombstone) = decoded.body().clone() else {
            return Err("it is no tombstone".into());
        };
        if decoded.id() != answer.tombstone {
            return Err("it is another tombstone than the one that is named".into());
        }
        let (id, issued) = (decoded.id(), decoded.header().issued);
        let custodians: BTreeSet<_> = decoded.header().custodians.iter().cloned().collect();
        let mut check = Check { network, tombstone: id, problems: Vec::new() };
        let by = check.order(decoded, answer);
        let mut replicas = check.replicas(&answer.replicas, &custodians);
        for trust in &custodians {
            if !replicas.iter().any(|r| r.trust == *trust) {
                let problem = format!("nothing is said of {trust}, which must erase");
                check.problems.push(problem.clone());
                replicas.push(ReplicaTally {
                    trust: trust.clone(),
                    node: None,
                    state: ReplicaState::Missing,
                    devices: 0,
                    receipt: None,
                    overdue: None,
                    problem: Some(problem),
                });
            }
        }
        let mut seen = BTreeSet::new();
        let mut devices = Vec::new();
        for of_trust in &answer.devices {
            let trust = &of_trust.trust;
            if !custodians.contains(trust) || !seen.insert(trust) {
                check.problems.push(format!("{trust}: its devices stand in it twice, or it need not erase"));
                continue;
            }
            devices.push(check.devices(of_trust, due(&replicas, trust)));
        }
        for trust in custodians.iter().filter(|trust| !seen.contains(trust)) {
            let total = due(&replicas, trust);
            if total > 0 {
                check.problems.push(format!("nothing is said of {trust}'s devices"));
                let (confirmed, waiting) = (Vec::new(), Vec::new());
                devices.push(DeviceTally {
                    trust: trust.clone(),
                    total,
                    erased: 0,
                    confirmed,
                    more: 0,
                    waiting,
                });
            }
        }
        let problems = check.problems;
        Ok(Self { id, tombstone, issued, by, replicas, devices, problems })
    }

    /// How many replicas have erased.
    pub fn confirmed(&self) -> usize {
        self.replicas.iter().filter(|r| matches!(r.state, ReplicaState::Erased(..))).count()
    }

    /// How many devices say that they have erased, each by a line that is shown and holds.
    pub fn devices_erased(&self) -> u64 {
        self.devices.iter().map(|d| u64::from(d.erased)).sum()
    }

    /// How many devices are to erase what they have, as far as that is proven.
    pub fn devices_total(&self) -> u64 {
        self.devices.iter().map(|d| u64::from(d.total)).sum()
    }

    /// As one line: "replicas 7 of 7, devices 11 of 12, waiting for: RYJ tablet, last seen 3 h ago".
    pub fn summary(&self, now: Timestamp) -> String {
        let mut parts = vec![format!("replicas {} of {}", self.confirmed(), self.replicas.len())];
        let held = self.replicas.iter().filter(|r| r.holds(now)).count();
        if held > 0 {
            parts.push(format!("{held} held"));
        }
        let overdue = self.replicas.iter().filter(|r| r.overdue.is_some()).count();
        if overdue > 0 {
            parts.push(format!("{overdue} overdue"));
        }
        let (erased, total) = (self.devices_erased(), self.devices_total());
        parts.push(format!("devices {erased} of {total}"));
        let more = self.devices.iter().map(|d| u64::from(d.more)).sum::<u64>();
        if more > 0 {
            parts.push(format!("and {more} by the node's word"));
        }
        let waiting: Vec<_> = self
            .devices
            .iter()
            .flat_map(|d| d.waiting.iter().map(|w| (&d.trust, w)))
            .map(|(trust, w)| w.text(trust, now))
            .collect();
        let named = waiting.len() as u64;
        let mut line = parts.join(", ");
        if !waiting.is_empty() {
            line += &format!(", waiting for: {}", waiting.join("; "));
        }
        let unnamed = total.saturating_sub(erased + more + named);
        if unnamed > 0 && named > 0 {
            line += &format!("; and {unnamed} more");
        }
        line
    }
}

impl ReplicaTally {
    /// Whether it keeps what is deleted beyond this moment.
    pub fn holds(&self, now: Timestamp) -> bool {
        matches!(self.state, ReplicaState::Held(until, _) if until > now)
    }
}

impl WaitedFor {
    fn text(&self, trust: &TrustId, now: Timestamp) -> String {
        let name = self.device.name.clone().unwrap_or_else(|| format!("device {}", self.device.device));
        let seen = match self.last_seen {
            _ if self.revoked => "revoked".into(),
            None => "never seen".into(),
            Some(at) => format!("last seen {}", ago(now.as_secs().saturating_sub(at.as_secs()))),
        };
        format!("{trust} {name}, {seen}")
    }
}

/// A time that has passed, in one unit.
fn ago(secs: u64) -> String {
    match secs {
        0..120 => "just now".into(),
        120..7200 => format!("{} min ago", secs / 60),
        7200..172_800 => format!("{} h ago", secs / 3600),
        _ => format!("{} days ago", secs / 86_400),
    }
}

/// How many of a trust's devices are to erase, as its replicas have proven: the most that one of them has told.
fn due(replicas: &[ReplicaTally], trust: &TrustId) -> u32 {
    replicas.iter().filter(|r| r.trust == *trust).map(|r| r.devices).max().unwrap_or(0)
}

/// A check under way.
struct Check<'a> {
    network: &'a mut Network,
    tombstone: RecordId,
    problems: Vec<String>,
}

impl Check<'_> {
    fn order(&mut self, decoded: Decoded, answer: &DeletionResponse) -> Option<TrustId> {
        // What cannot be learnt is told by the verification that follows.
        let _ = self.network.learn(&answer.chain);
        match record::verify(decoded, self.network) {
            Ok(verified) => verified.signer().trust().cloned(),
            Err(why) => {
                self.problems.push(format!("the tombstone: {why}"));
                None
            }
        }
    }

    /// Each replica once. What is said of one that need not erase, of one twice, or of nobody's node, counts for nothing.
    fn replicas(&mut self, shown: &[Replica], custodians: &BTreeSet<TrustId>) -> Vec<ReplicaTally> {
        let (mut seen, mut tallies) = (BTreeSet::new(), Vec::new());
        for replica in shown {
            let Replica { trust, node, .. } = replica;
            let another = shown.iter().filter(|r| r.trust == *trust).count() > 1;
            let attests = replica.held.is_some() || replica.erased.is_some();
            let problem = if !custodians.contains(trust) {
                "it need not erase"
            } else if !seen.insert((trust, node)) {
                "a replica is shown twice"
            } else if node.is_none() && (another || attests) {
                "something is said of it, and not which node it is"
            } else {
                tallies.push(self.replica(replica));
                continue;
            };
            self.problems.push(format!("{trust}: {problem}"));
        }
        tallies
    }

    fn replica(&mut self, replica: &Replica) -> ReplicaTally {
        let Replica { trust, node, overdue, .. } = replica.clone();
        let state = ReplicaState::Missing;
        let mut tally =
            ReplicaTally { trust, node, state, devices: 0, receipt: None, overdue, problem: None };
        let before = self.problems.len();
        for shown in [&replica.held, &replica.erased].into_iter().flatten() {
            let Some(signer) = self.attested(shown, &replica.trust) else { continue };
            if replica.node.is_some_and(|node| node != signer) {
                self.problems.push(format!("{}: another node signed it", replica.trust));
                continue;
            }
            match &shown.item {
                ReceiptItem::Erased(item) => {
                    tally.state = ReplicaState::Erased(item.erased, item.envelopes);
                    tally.devices = item.devices;
                    tally.overdue = None;
                }
                ReceiptItem::Held(item) => {
                    // It may be overdue since the hold has ended.
                    tally.state = ReplicaState::Held(item.until, item.reference.clone());
                }
                ReceiptItem::DeviceErased(_) | ReceiptItem::Waiting(_) | ReceiptItem::Expired(_) => continue,
            }
            tally.receipt = Some(shown.receipt);
        }
        tally.problem = self.problems.get(before).cloned();
        tally
    }

    /// The node that attests this of the deletion, if it is one of the trust's.
    fn attested(&mut self, shown: &Attestation, trust: &TrustId) -> Option<NodeId> {
        let problem = |why: String| Some(format!("{trust}: a receipt is not believed: {why}"));
        let found = self.network.learn(&shown.chain).map_err(|e| e.to_string()).and_then(|_| {
            record::check_proof(&shown.proof, &shown.item, self.network).map_err(|e| e.to_string())
        });
        let why = match found {
            Err(why) => problem(why),
            Ok(proven) => match proven.signer {
                Signer::Node { trust: by, node } if by == *trust => {
                    if shown.item.tombstone() == Some(self.tombstone) {
                        return Some(node);
                    }
                    problem("it does not name this deletion".into())
                }
                _ => problem("it is signed by another trust's node".into()),
            },
        };
        self.problems.extend(why);
        None
    }

    /// `due`: how many of them are to erase, as far as that is proven.
    fn devices(&mut self, shown: &TrustDevices, due: u32) -> DeviceTally {
        let trust = &shown.trust;
        let mut confirmed = BTreeMap::new();
        for (attested, device) in &shown.erased {
            if self.attested(attested, trust).is_none() {
                continue;
            }
            match self.line(attested, device.as_ref(), trust) {
                Ok((name, at)) => drop(confirmed.insert(name, at)),
                Err(why) => self.problems.push(format!("{trust}: a device's line is not believed: {why}")),
            }
        }
        let names: BTreeMap<_, _> = shown.known.iter().filter_map(|k| self.known(k, trust)).collect();
        let mut waiting: BTreeMap<Fingerprint, WaitedFor> = BTreeMap::new();
        // A node that has lost its store attests again that it has erased, before it knows its devices again.
        let mut waited_for = 0;
        for attested in &shown.waiting {
            let (Some(_), ReceiptItem::Waiting(Waiting { devices, count, .. })) =
                (self.attested(attested, trust), &attested.item)
            else {
                continue;
            };
            waited_for = waited_for.max(*count);
            for named in devices {
                let (name, revoked) = names.get(&named.device).cloned().unzip();
                let device = DeviceName { device: named.device, name };
                let last_seen =
                    named.last_seen.max(waiting.get(&named.device).and_then(|known| known.last_seen));
                waiting.insert(
                    named.device,
                    WaitedFor { device, last_seen, revoked: revoked.unwrap_or_default() },
                );
            }
        }
        waiting.retain(|device, _| confirmed.keys().all(|name: &DeviceName| name.device != *device));
        let erased = confirmed.len() as u32;
        DeviceTally {
            trust: trust.clone(),
            total: due.max(erased + waiting.len() as u32).max(waited_for),
            erased,
            confirmed: confirmed.into_iter().collect(),
            more: shown.more,
            waiting: waiting.into_values().collect(),
        }
    }

    /// Whose line it is, and when it says that the plaintext was gone.
    fn line(
        &self,
        attested: &Attestation,
        device: Option<&KnownDevice>,
        trust: &TrustId,
    ) -> Result<(DeviceName, Timestamp), String> {
        let ReceiptItem::DeviceErased(item) = &attested.item else {
            return Err("it is another kind of receipt".into());
        };
        let line = DeviceLine::from_bytes(&item.line).map_err(|e| e.to_string())?;
        let chain = &device.ok_or("its certificate is not known")?.chain;
        let certificate = self.device_certificate(chain, trust)?;
        if line.network() != self.network.id() || line.tombstone() != self.tombstone {
            return Err("it is about something else".into());
        }
        line.verify(&certificate).map_err(|e| e.to_string())?;
        let name = Some(certificate.subject().common_name.clone());
        Ok((DeviceName { device: line.signer(), name }, line.erased()))
    }

    fn known(&self, device: &KnownDevice, trust: &TrustId) -> Option<(Fingerprint, (String, bool))> {
        let certificate = self.device_certificate(&device.chain, trust).ok()?;
        Some((certificate.fingerprint(), (certificate.subject().common_name.clone(), device.revoked)))
    }

    /// A device's certificate that this trust has certified, whether or not it has ended or was revoked since.
    fn device_certificate<C: AsRef<[u8]>>(
        &self,
        chain: &[C],
        trust: &TrustId,
    ) -> Result<Certificate, String> {
        let certificate = self.network.certified(chain, Purpose::Device).map_err(|e| e.to_string())?;
        if certificate.subject().trust == *trust {
            Ok(certificate)
        } else {
            Err("its certificate is another trust's".into())
        }
    }
}
