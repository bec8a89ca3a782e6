//! What goes wrong each second, and how it heals.

use lanyard_replica::Request;

use super::node::{Asked, At, Clock};
use super::{Event, World};
use crate::counters::Counter;
use crate::oracle::Final;

/// Comparisons after healing, five seconds apart, before the replicas count as not converged.
const COMPARES_MAX: u32 = 60;
/// After so many of them, nodes that have lost their stores go on without those who have not told them what was deleted.
const PATIENCE: u32 = 6;

impl World<'_> {
    /// One second of faults.
    pub(super) fn faults(&mut self) {
        if self.healing {
            return;
        }
        self.after(1_000, Event::Faults);
        let (network, nodes) = (self.scenario.network.clone(), self.scenario.nodes.clone());
        if self.rng.chance(network.partition) {
            self.cut();
        }
        self.heal_some(network.heal);
        for at in 0..self.nodes.len() {
            if self.is_liar(at) || !self.nodes[at].is_up() {
                continue;
            }
            if self.rng.chance(nodes.crash) {
                let kept = self.rng.chance(500);
                self.crash(at, kept);
                continue;
            }
            if self.rng.chance(nodes.pause) {
                self.counters.add(Counter::Paused);
                let until = self.now_ms + self.rng.between(500, 9_000);
                self.nodes[at].paused_until = until;
                self.nodes[at].steady_since = until;
            }
            if self.rng.chance(nodes.disk_full) {
                self.nodes[at].full_until = self.now_ms + self.rng.between(2_000, 12_000);
            }
            if self.rng.chance(nodes.clock_jump) {
                self.jump(at);
            }
            if self.rng.chance(nodes.replace) && self.now_ms > 20_000 {
                self.replace(at);
            }
        }
    }

    fn jump(&mut self, at: At) {
        let by = self.rng.between(0, 240_000) as i64 - 120_000;
        self.counters.add(if by > 0 { Counter::ClockForwards } else { Counter::ClockBack });
        let clock = &mut self.nodes[at].clock;
        clock.ahead_ms = (clock.ahead_ms + by).clamp(-Clock::OFF_MS_MAX, Clock::OFF_MS_MAX);
        self.nodes[at].steady_since = self.now_ms;
        let what = format!("{by} ms");
        self.trace.event(self.now_ms, at, "clock jumps", || what);
    }

    /// The disk of a node is lost, and a new one takes its place.
    fn replace(&mut self, at: At) {
        self.counters.add(Counter::ReplacedEmpty);
        self.crash(at, false);
        self.nodes[at].store = lanyard_storage::MemoryStore::deferred();
        let charter = self.operators.some_charter(&mut self.rng, self.nodes[at].place);
        self.oracle.replaced(at, &self.nodes[at].own, charter.bytes());
        self.nodes[at].charter = charter;
        self.people.forget_node(self.nodes[at].place, at, &self.nodes);
    }

    fn cut(&mut self) {
        let count = self.nodes.len();
        let pairs: Vec<(At, At)> = match self.rng.below(4) {
            0 => {
                self.counters.add(Counter::Isolated);
                let alone = self.rng.index(count);
                (0..count).filter(|b| *b != alone).map(|b| (alone, b)).collect()
            }
            1 => {
                self.counters.add(Counter::Split);
                let side: Vec<bool> = (0..count).map(|_| self.rng.chance(500)).collect();
                let all = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
                all.filter(|(a, b)| side[*a] != side[*b]).collect()
            }
            2 => {
                self.counters.add(Counter::Triangle);
                let a = self.rng.index(count);
                vec![(a, (a + 1 + self.rng.index(count - 1)) % count)]
            }
            _ => {
                self.counters.add(Counter::OneWay);
                let a = self.rng.index(count);
                let b = (a + 1 + self.rng.index(count - 1)) % count;
                let (pair, side) = self.net.pair(a, b);
                pair.cut[side] = true;
                self.notice(a, b);
                Vec::new()
            }
        };
        for (a, b) in pairs {
            self.net.pair(a, b).0.cut = [true; 2];
            self.notice(a, b);
        }
    }

    /// Both sides will notice that a link is cut, unless it heals before.
    fn notice(&mut self, a: At, b: At) {
        for (at, peer) in [(a, b), (b, a)] {
            let (pair, side) = self.net.pair(at, peer);
            if let Some(connection) = pair.sides[side] {
                let after = self.rng.between(2_000, 15_000);
                self.after(after, Event::Lost { at, peer, connection });
            }
        }
    }

    fn heal_some(&mut self, chance: u64) {
        let cut: Vec<(At, At)> =
            self.net.pairs().filter(|(_, pair)| pair.cut != [false; 2]).map(|(key, _)| *key).collect();
        for (a, b) in cut {
            if self.rng.chance(chance) {
                self.heal_pair(a, b);
            }
        }
    }

    fn heal_pair(&mut self, a: At, b: At) {
        self.counters.add(Counter::Healed);
        let (pair, _) = self.net.pair(a, b);
        pair.cut = [false; 2];
        if std::mem::take(&mut pair.deletion) {
            self.counters.add(Counter::HealedAfterDeletion);
        }
    }

    /// A deletion was ordered: links that are cut now will heal after it.
    pub(super) fn note_deletion(&mut self) {
        self.net.pairs().filter(|(_, p)| p.cut != [false; 2]).for_each(|(_, p)| p.deletion = true);
    }

    /// Whether a node can talk to nobody.
    pub(super) fn is_cut_off(&mut self, at: At) -> bool {
        let count = self.nodes.len();
        (0..count).filter(|peer| *peer != at).all(|peer| self.net.pair(at, peer).0.cut != [false; 2])
    }

    /// Everything heals: links, disks, nodes; the liar falls silent.
    pub(super) fn heal(&mut self) {
        self.healing = true;
        let cut: Vec<(At, At)> =
            self.net.pairs().filter(|(_, pair)| pair.cut != [false; 2]).map(|(key, _)| *key).collect();
        cut.into_iter().for_each(|(a, b)| self.heal_pair(a, b));
        for at in 0..self.nodes.len() {
            self.nodes[at].paused_until = self.nodes[at].paused_until.min(self.now_ms);
            self.nodes[at].full_until = 0;
            self.nodes[at].clock.drift_ppm = 0;
            if self.is_liar(at) {
                (0..self.nodes.len()).filter(|p| *p != at).for_each(|peer| self.disconnect(peer, at));
            } else {
                self.after(200, Event::Start(at));
            }
        }
        self.after(20_000, Event::Compare(0));
    }

    /// Compares the replicas; if they differ, later again.
    pub(super) fn compare(&mut self, times: u32) {
        let members = self.operators.members().to_vec();
        let quiet = (0..self.nodes.len())
            .all(|at| self.is_liar(at) || (self.nodes[at].is_up() && self.nodes[at].round.is_none()));
        if !quiet && times < COMPARES_MAX {
            return self.after(500, Event::Compare(times + 1));
        }
        self.read_all();
        self.hand_in_again();
        let finals: Vec<Final> = (0..self.nodes.len())
            .filter(|at| !self.is_liar(*at) && members.contains(&self.nodes[*at].place))
            .map(|at| {
                let node = &self.nodes[at];
                Final { node: at, store: node.store.clone(), clock: node.clock.read(self.now_ms) }
            })
            .collect();
        // The operators do not wait for ever for who does not answer, or will never agree.
        if times >= PATIENCE {
            for at in 0..self.nodes.len() {
                if !self.is_liar(at) && self.nodes[at].is_up() {
                    self.ask(at, Request::Restoration, Asked::Restoration);
                    self.bring_charters(at);
                }
            }
        }
        let mut differences = self.oracle.compare(&finals, &mut self.counters);
        differences.extend(self.undelivered(&finals));
        differences.extend(self.charters_differ(&finals));
        if differences.is_empty() {
            self.oracle.logs(&finals);
            for at in 0..self.nodes.len() {
                if !self.is_liar(at) {
                    self.audit(at);
                }
            }
            self.counters.add(Counter::Converged);
            self.done = true;
        } else if times >= COMPARES_MAX {
            for difference in &differences {
                self.trace.event(self.now_ms, usize::MAX, "difference", || difference.clone());
            }
            let what =
                format!("{} differences after healing, such as: {}", differences.len(), differences[0]);
            self.fail("P5", what);
        } else {
            self.after(5_000, Event::Compare(times + 1));
        }
    }
}
