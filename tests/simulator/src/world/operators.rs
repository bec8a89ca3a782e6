//! What trusts' operators and the network's authorities do: entries, revocation lists, charters. What they hand in they hand in
//! again until it is acknowledged.

use std::collections::BTreeMap;

use lanyard_crypto::record::Decoded;
use lanyard_crypto::x509::Certificate;

use super::World;
use super::node::At;
use crate::cast::LIAR;
use crate::conversations::pool;
use crate::counters::Counter;
use crate::oracle::Final;
use crate::rng::Rng;

/// Charters in one run.
const CHARTERS_MAX: usize = 6;

/// What they have done so far.
#[derive(Debug)]
pub struct Operators {
    charters: Vec<Decoded>,
    /// Of the newest charter, by place.
    members: Vec<usize>,
    /// Who is to join.
    joins: Option<usize>,
    /// Handed in at a node, and not acknowledged there yet.
    pending: Vec<(At, Decoded)>,
    /// For each trust: the number of its last list, and the certificates on it.
    lists: BTreeMap<usize, (u64, Vec<Certificate>)>,
    opened: Vec<At>,
}

impl Operators {
    /// Before anything but the first charter.
    pub fn new(charter: Decoded, members: Vec<usize>, joins: Option<usize>) -> Self {
        Self {
            charters: vec![charter],
            members,
            joins,
            pending: Vec::new(),
            lists: BTreeMap::new(),
            opened: Vec::new(),
        }
    }

    /// The newest charter.
    pub fn charter(&self) -> &Decoded {
        self.charters.last().expect("there is a first charter")
    }

    /// The members of the newest charter, by place.
    pub fn members(&self) -> &[usize] {
        &self.members
    }

    /// A charter that a new node's operator may have been given: any but those before its trust was a member.
    pub fn some_charter(&self, rng: &mut Rng, place: usize) -> Decoded {
        let newest = self.charter().clone();
        if self.joins == Some(place) || self.charters.len() > 1 && rng.chance(500) {
            return newest;
        }
        self.charters[0].clone()
    }
}

impl World<'_> {
    /// When a node runs for the first time, its registrar lists it, and the device of its trust.
    pub(super) fn open_for_business(&mut self, at: At) {
        if self.operators.opened.contains(&at) || !self.nodes[at].is_up() {
            return;
        }
        self.operators.opened.push(at);
        let (place, issued) = (self.nodes[at].place, self.nodes[at].clock.read(self.now_ms));
        let trust = &self.cast.trusts[place];
        let second = self.nodes[..at].iter().any(|n| n.place == place);
        let node = &trust.nodes[usize::from(second)].certificate;
        let network = self.network();
        self.hand_in(at, trust.entry(network, node, None, issued));
        if let (0, Some(_)) = (at, &self.liar) {
            // The liar's registrar lists its node as well: what an unlisted node signs is known to its neighbours alone.
            let liar = &self.cast.trusts[LIAR];
            self.hand_in(at, liar.entry(network, &liar.nodes[0].certificate, None, issued));
        }
        if !second {
            let package = pool().packages[place].clone().into_vec();
            self.hand_in(at, trust.entry(network, &trust.devices[0].certificate, Some(package), issued));
        }
    }

    /// Hands in a record until it is acknowledged.
    pub(super) fn hand_in(&mut self, at: At, record: Decoded) {
        self.operators.pending.push((at, record.clone()));
        if self.nodes[at].is_up() {
            self.submit(at, record);
        }
    }

    /// Hands in again what was not acknowledged.
    pub(super) fn hand_in_again(&mut self) {
        let pending = std::mem::take(&mut self.operators.pending);
        for (at, record) in pending {
            let fact = self.oracle.ledger.learn(record.bytes());
            let over = fact.is_some_and(|f| match &f.charter {
                Some((version, _)) => *version <= self.oracle.charter_version(at),
                None => self.oracle.ledger.is_superseded(&f),
            });
            if over || self.oracle.has_acknowledged(at, &record.id()) {
                continue;
            }
            self.operators.pending.push((at, record.clone()));
            if self.nodes[at].is_up() && self.rng.chance(300) {
                self.submit(at, record);
            }
        }
    }

    /// A registrar publishes an entry again.
    pub(super) fn publish_entry(&mut self) {
        let place = self.rng.index(self.people.count());
        let Some(at) = self.home(place) else { return };
        let (trust, issued) = (&self.cast.trusts[place], self.nodes[at].clock.read(self.now_ms));
        let network = self.network();
        let record = if self.rng.chance(500) {
            let package = pool().packages[place].clone().into_vec();
            trust.entry(network, &trust.devices[0].certificate, Some(package), issued)
        } else {
            trust.entry(network, &trust.nodes[0].certificate, None, issued)
        };
        self.hand_in(at, record);
    }

    /// A registrar revokes one more certificate: mostly a device's, now and then that of the liar's node.
    pub(super) fn revoke(&mut self) {
        let lies = self.liar.is_some() && self.rng.chance(350);
        let place = if lies { LIAR } else { self.rng.index(self.people.count()) };
        let Some(at) = self.home(if lies { 0 } else { place }) else { return };
        let trust = &self.cast.trusts[place];
        let next = if lies {
            trust.nodes[0].certificate.clone()
        } else {
            let used = self.nodes.iter().filter(|n| n.place == place).count();
            let spare =
                [&trust.devices[1].certificate, &trust.abroad.certificate, &trust.nodes[1].certificate];
            let spare = &spare[..if used > 1 { 2 } else { 3 }];
            self.rng.pick(spare).map(|c| (*c).clone()).expect("there is a spare certificate")
        };
        let network = self.network();
        let (number, revoked) = self.operators.lists.entry(place).or_default();
        *number += 1;
        if !revoked.contains(&next) {
            revoked.push(next);
        }
        let (number, revoked) = (*number, revoked.iter().collect::<Vec<_>>());
        let issued = self.nodes[at].clock.read(self.now_ms);
        let record = trust.crl(network, number, &revoked, issued);
        self.counters.add(Counter::Revoked);
        self.hand_in(at, record);
        if lies {
            // What is under way when the list comes has been looked at before it.
            self.outrun(at);
        }
    }

    /// The authorities sign the next charter: a trust joins, or leaves, or comes back.
    pub(super) fn change_charter(&mut self) {
        if self.operators.charters.len() >= CHARTERS_MAX {
            return;
        }
        let (joins, honest) = (self.operators.joins.take(), self.people.count());
        let mut members = self.operators.members.clone();
        if let Some(place) = joins {
            self.counters.add(Counter::TrustJoined);
            members.push(place);
        } else if self.liar.is_some() && self.rng.chance(700) {
            if members.contains(&LIAR) {
                self.counters.add(Counter::TrustDropped);
                members.retain(|place| *place != LIAR);
            } else {
                self.counters.add(Counter::TrustJoined);
                members.push(LIAR);
            }
        } else if honest > 3 && self.rng.chance(400) {
            let last = honest - 1;
            if members.contains(&last) {
                self.counters.add(Counter::TrustDropped);
                members.retain(|place| *place != last);
            } else {
                self.counters.add(Counter::TrustJoined);
                members.push(last);
            }
        }
        members.sort_unstable();
        let next = self.cast.charter(&members, Some(self.operators.charter()));
        self.counters.add(Counter::CharterChanged);
        self.operators.members = members.clone();
        self.operators.charters.push(next.clone());
        let mut all = 0..self.nodes.len();
        let at = all.find(|at| !self.is_liar(*at) && members.contains(&self.nodes[*at].place));
        if let Some(at) = at {
            // Whoever it comes to first may have missed the ones before.
            for charter in self.operators.charters.clone().into_iter().skip(1) {
                self.hand_in(at, charter);
            }
        }
        self.oracle.ledger.learn(next.bytes());
    }

    /// Charters travel by the authorities' hands as well: each operator is given what his node may have missed.
    pub(super) fn remind_of_charters(&mut self) {
        if self.operators.charters.len() < 2 {
            return;
        }
        let at = self.rng.index(self.nodes.len());
        if !self.is_liar(at)
            && self.nodes[at].is_up()
            && self.operators.members.contains(&self.nodes[at].place)
        {
            self.submit_charters(at);
        }
    }

    /// And to a node that lacks the newest, since nobody who has that is admitted by the one in force there.
    pub(super) fn bring_charters(&mut self, at: At) {
        let newest = self.operators.charter().statement();
        if self.nodes[at].network.as_ref().is_some_and(|network| network.charter_id() != newest) {
            self.submit_charters(at);
        }
    }

    fn submit_charters(&mut self, at: At) {
        for charter in self.operators.charters.clone() {
            self.submit(at, charter);
        }
    }

    /// Members whose nodes are not under the newest charter, though one that is could tell them: its trust is in theirs. Whom they do not
    /// admit yet they cannot hear it from.
    pub(super) fn charters_differ(&self, finals: &[Final]) -> Vec<String> {
        let newest = self.operators.charter().statement();
        let network = |node: At| self.nodes[node].replica.as_ref().map(|replica| replica.network());
        let informed: Vec<_> = finals
            .iter()
            .filter(|f| network(f.node).is_some_and(|n| n.charter_id() == newest))
            .map(|f| &self.cast.trusts[self.nodes[f.node].place].id)
            .collect();
        let differs = |f: &&Final| {
            network(f.node).is_some_and(|n| {
                n.charter_id() != newest && informed.iter().any(|trust| n.charter().member(trust).is_some())
            })
        };
        finals.iter().filter(differs).map(|f| format!("node {} has an older charter", f.node)).collect()
    }
}
