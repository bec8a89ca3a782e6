//! Between the engine and its disk, as `driver/engine.rs` does it: what waits is stepped together and committed as one batch with
//! one sync, and only then are the outputs carried out, in their order. What is different here: crashes.

use lanyard_crypto::{RecordId, Timestamp};
use lanyard_replica::frame::Frame;
use lanyard_replica::verdict::Verdict;
use lanyard_replica::{Input, Output, Replica, Reply, Request, Source, Step, arrival, found, query};
use lanyard_storage::{Batch, Overlay, StorageError, Store, View};

use super::node::{Asked, At, CrashAt, Failing, Round, Then};
use super::{Event, World};
use crate::cast::START;
use crate::counters::Counter;
use crate::mutations::Bug;

/// Steps in one commit, at most.
const STEPS_MAX: u64 = 12;
/// What was sent and not answered for is sent again after so long, in milliseconds.
const AGAIN_MS: u64 = 10_000;

impl World<'_> {
    /// Queues an input of a node that runs.
    pub(super) fn input(&mut self, at: At, input: Input) {
        self.queue_input(at, input, false);
    }

    /// The same, and nothing more is taken from the network until its outputs have been carried out.
    pub(super) fn await_input(&mut self, at: At, input: Input, then: Then) {
        self.nodes[at].then = Some(then);
        self.queue_input(at, input, true);
    }

    fn queue_input(&mut self, at: At, input: Input, awaited: bool) {
        self.nodes[at].inputs.push_back((input, awaited));
        self.want_run(at);
    }

    fn want_run(&mut self, at: At) {
        let node = &mut self.nodes[at];
        if !node.run_due && node.round.is_none() && !node.inputs.is_empty() && node.is_up() {
            node.run_due = true;
            let incarnation = node.incarnation;
            let after = self.rng.below(3);
            self.after(after, Event::Run(at, incarnation));
        }
    }

    /// A request to the engine; the answer comes to whom `asked` names.
    pub(super) fn ask(&mut self, at: At, request: Request, asked: Asked) {
        let node = &mut self.nodes[at];
        node.ticket += 1;
        let ticket = node.ticket;
        node.asked.insert(ticket, asked);
        self.input(at, Input::Request { ticket, request });
    }

    /// The registrar or the operator hands in a record.
    pub(super) fn submit(&mut self, at: At, record: lanyard_crypto::record::Decoded) {
        let Some(network) = self.nodes[at].network.clone() else { return };
        let arrivals = arrival::verify(vec![Ok(record.clone())], &network);
        let node = &mut self.nodes[at];
        node.ticket += 1;
        let ticket = node.ticket;
        node.asked.insert(ticket, Asked::Submit(record.id()));
        self.input(at, Input::Records { from: Source::Local { ticket }, arrivals });
    }

    /// Steps what waits, and commits it.
    pub(super) fn run_round(&mut self, at: At) {
        self.nodes[at].run_due = false;
        if self.nodes[at].paused_until > self.now_ms {
            let (until, incarnation) = (self.nodes[at].paused_until, self.nodes[at].incarnation);
            self.nodes[at].run_due = true;
            return self.at(until, Event::Run(at, incarnation));
        }
        let chances = if self.healing { Default::default() } else { self.scenario.nodes.clone() };
        let fails_read = self.rng.chance(chances.read_error).then(|| self.rng.below(40));
        let most = self.rng.between(1, STEPS_MAX);
        let (mut batch, mut outputs, mut awaited, mut steps) = (Batch::new(), Vec::new(), false, 0);
        while steps < most {
            let Some((input, waits)) = self.nodes[at].inputs.pop_front() else { break };
            awaited |= waits;
            steps += 1;
            self.steps += 1;
            if let Input::Frame { from, frame: Frame::Begin } = &input {
                self.oracle.asked_to_begin(at, *from);
            }
            match self.step(at, input, &mut batch, fails_read) {
                Ok(more) => outputs.extend(more),
                Err(StorageError::TooLarge { .. }) => {
                    return self.fail("P8", format!("a step of node {at} is larger than the store takes"));
                }
                Err(_) => {
                    self.counters.add(Counter::ReadFailed);
                    return self.crash(at, false);
                }
            }
            if self.oracle.violation.is_some() {
                return;
            }
        }
        if steps > 1 {
            self.counters.add(Counter::GroupCommit);
        }
        self.commit(at, batch, outputs, awaited);
    }

    fn step(
        &mut self,
        at: At,
        input: Input,
        batch: &mut Batch,
        fails_read: Option<u64>,
    ) -> Result<Vec<(Timestamp, Output)>, StorageError> {
        let tick = matches!(input, Input::Tick);
        if let Input::Connected { node, .. } = &input {
            self.oracle.connected(at, node);
        }
        let cut_off = self.is_cut_off(at);
        let node = &mut self.nodes[at];
        let clock = node.clock.read(self.now_ms);
        let disk = Failing::new(&node.store, fails_read);
        let view = Overlay::with(&disk as &dyn View, std::mem::take(batch));
        let replica = node.replica.as_mut().expect("a node that runs has an engine");
        let step = replica.step(input, clock, &view)?;
        // Whatever anybody has signed: a bound beyond the true time would shut out certificates that hold.
        let (floor, true_time) = (replica.network().floor(), START.plus_secs(self.now_ms / 1000));
        if floor > true_time {
            self.oracle
                .fail("P2", format!("node {at} believes that it is {floor:?}, and it is {true_time:?}"));
        }
        *batch = view.into_batch();
        if node.step_changes > 0 && step.batch.len() >= node.step_changes {
            self.counters.add(Counter::StepBounded);
        }
        if step.batch.len()
            > lanyard_replica::limits::STEP_CHANGES_MAX + lanyard_replica::limits::RECORD_CHANGES_MAX
        {
            self.oracle.fail("P8", format!("a step of node {at} changes {} rows", step.batch.len()));
        }
        self.oracle.step(at, &step.batch, clock, &node.store, &mut self.counters, cut_off);
        self.oracle.decided(at, &step, tick, clock, &mut self.counters);
        self.watch_roots(at, batch, &step);
        batch.append(step.batch);
        Ok(step.outputs.into_iter().map(|output| (clock, output)).collect())
    }

    /// What a node says that it shares must be what it has.
    fn watch_roots(&mut self, at: At, before: &Batch, step: &Step) {
        let roots = step.outputs.iter().filter_map(|output| match output {
            Output::Send { to, frame: Frame::Roots(roots) } => {
                Some((to, roots.iter().map(|root| root.count).collect::<Vec<_>>()))
            }
            _ => None,
        });
        let mut sets = None;
        for (to, roots) in roots {
            let Some(peer) = self.index(to) else { continue };
            let (before, after) = sets.get_or_insert_with(|| {
                let store = &self.nodes[at].store as &dyn View;
                let mut after = before.clone();
                after.append(step.batch.clone());
                let held = |batch| self.oracle.ledger.held_in(&Overlay::with(store, batch));
                (held(before.clone()), held(after))
            });
            let trust = self.nodes[peer].own.trust.clone();
            self.oracle.shares(at, &trust, &roots, before, after);
        }
    }

    fn commit(&mut self, at: At, batch: Batch, outputs: Vec<(Timestamp, Output)>, awaited: bool) {
        self.trace.batch(&batch);
        let chances = if self.healing { Default::default() } else { self.scenario.nodes.clone() };
        let hit = self.rng.chance(chances.crash_at_commit).then(|| self.rng.below(4));
        if hit == Some(0) {
            self.counters.add(Counter::CrashBeforeCommit);
            return self.crash(at, false);
        }
        let crash = hit.map(|kind| match kind {
            1 => CrashAt::BeforeOutputs,
            2 => CrashAt::BeforeSync,
            _ => CrashAt::Amid(self.rng.below(outputs.len() as u64 + 1) as usize),
        });
        let full = self.nodes[at].full_until > self.now_ms;
        let failing = self.rng.chance(chances.write_error);
        if !batch.is_empty() && (full || failing) {
            self.counters.add(if full { Counter::DiskFull } else { Counter::WriteFailed });
            // Whether a failed write is on the disk is known only at the next start.
            let kept = !full && self.rng.chance(300);
            if kept {
                self.counters.add(Counter::WriteFailedKept);
                let _ = self.nodes[at].store.commit(batch.clone());
                self.oracle.durable(at, &batch, self.now_ms, &self.nodes[at].store);
                return self.crash(at, true);
            }
            self.nodes[at].store.fail_next(StorageError::Full);
            let refused = self.nodes[at].store.commit(batch);
            assert!(refused.is_err(), "a store that is to fail has failed");
            return self.crash(at, false);
        }
        if !batch.is_empty()
            && let Err(error) = self.nodes[at].store.commit(batch.clone())
        {
            return self.fail("P8", format!("node {at} cannot commit: {error}"));
        }
        let mut takes = self.rng.between(1, 12);
        // A crash that comes late lets others see what it takes back.
        let late = crash == Some(CrashAt::BeforeSync) && self.rng.chance(500);
        if late || self.rng.chance(chances.slow_sync) {
            takes += self.rng.between(500, 4_000);
        }
        let mut round = Round { outputs, batch, awaited, crash };
        if self.has_bug(Bug::AcknowledgeBeforeCommit) {
            self.carry_out(at, std::mem::take(&mut round.outputs), None);
        }
        self.nodes[at].round = Some(round);
        let incarnation = self.nodes[at].incarnation;
        self.after(takes, Event::Synced(at, incarnation));
    }

    /// A sync has returned.
    pub(super) fn synced(&mut self, at: At) {
        if self.nodes[at].paused_until > self.now_ms {
            let (until, incarnation) = (self.nodes[at].paused_until, self.nodes[at].incarnation);
            return self.at(until, Event::Synced(at, incarnation));
        }
        let Some(round) = self.nodes[at].round.take() else { return };
        if round.crash == Some(CrashAt::BeforeSync) {
            let kept = self.rng.chance(300);
            self.nodes[at].round = Some(round);
            return self.crash(at, kept);
        }
        // Where there is nothing to commit, the store is not asked.
        if !round.batch.is_lazy() && !round.batch.is_empty() {
            self.nodes[at].store.sync();
        }
        let amid = match round.crash {
            Some(CrashAt::BeforeOutputs) => Some(0),
            Some(CrashAt::Amid(count)) => Some(count),
            Some(CrashAt::BeforeSync) | None => None,
        };
        self.carry_out(at, round.outputs, amid);
        self.oracle.durable(at, &round.batch, self.now_ms, &self.nodes[at].store);
        if let Some(count) = amid {
            self.counters.add(if count == 0 {
                Counter::CrashBeforeOutputs
            } else {
                Counter::CrashAmidOutputs
            });
            return self.crash(at, false);
        }
        // Such a commit is soon followed by one that syncs it, so that hardly any crash would come between by chance.
        if round.batch.is_lazy() && !self.healing && self.rng.chance(self.scenario.nodes.crash_at_commit * 30)
        {
            return self.crash(at, false);
        }
        if round.awaited {
            self.go_on(at);
        }
        self.want_run(at);
    }

    /// In order, and never before the commit; only the first `most`, if a crash comes between.
    fn carry_out(&mut self, at: At, outputs: Vec<(Timestamp, Output)>, most: Option<usize>) {
        if outputs.iter().any(|(_, output)| matches!(output, Output::TrustChanged)) {
            let network = self.nodes[at].replica.as_ref().map(Replica::network);
            self.nodes[at].network = network;
        }
        let most = most.unwrap_or(usize::MAX);
        for (clock, output) in outputs.into_iter().take(most) {
            self.trace.output(&output);
            self.carry_out_one(at, clock, output);
            if self.oracle.violation.is_some() {
                return;
            }
        }
    }

    fn carry_out_one(&mut self, at: At, clock: Timestamp, output: Output) {
        match output {
            Output::Send { to, frame } => {
                let Some(to) = self.index(&to) else { return };
                if let Frame::Answers { stored, .. } = &frame {
                    for id in stored {
                        self.oracle.acknowledged(at, *id, &self.nodes[at].store);
                    }
                }
                self.send_frame(at, to, frame.to_bytes(), clock);
            }
            Output::Publish(bytes) => {
                self.nodes[at].heard.insert(RecordId::of(&bytes));
                self.oracle.gossip(at, &bytes, clock, &mut self.counters);
                self.spread(at, &bytes, None);
            }
            Output::Verdict { from, message, verdict } => {
                let Ok(id) = RecordId::try_from(message.as_slice()) else { return };
                let Some(bytes) = self.nodes[at].gossip.remove(&id) else { return };
                if verdict == Verdict::Accept {
                    self.oracle.gossip(at, &bytes, clock, &mut self.counters);
                    let but = self.index(&from);
                    self.spread(at, &bytes, but);
                }
            }
            Output::Wake(trust) => {
                let peers: Vec<_> = self.nodes[at].peers.keys().copied().collect();
                for peer in
                    peers.into_iter().filter(|p| self.nodes[*p].own.trust == trust).collect::<Vec<_>>()
                {
                    self.deliver(at, peer);
                }
            }
            Output::Disconnect { node, .. } => {
                if let Some(peer) = self.index(&node) {
                    self.counters.add(Counter::PeerDropped);
                    self.disconnect(at, peer);
                }
            }
            Output::TrustChanged => self.recheck(at),
            Output::Reply { ticket, reply } => self.replied(at, ticket, reply),
            Output::Notify { device, .. } => self.notified(at, &device),
            // A driver that has other things to do leaves it to the next tick.
            Output::GoOn => {
                if self.rng.below(4) == 0 {
                    self.input(at, Input::GoOn);
                }
            }
            Output::Audit(entry) if (entry.event.as_str(), entry.code.as_str()) == ("restored", "lost") => {
                self.counters.add(Counter::FoundLost);
            }
            Output::Audit(_) => {}
        }
    }

    fn send_frame(&mut self, at: At, to: At, bytes: Vec<u8>, clock: Timestamp) {
        if !self.is_connected(at, to) {
            return;
        }
        let trust = self.nodes[to].own.trust.clone();
        self.oracle.frame(at, &trust, &bytes, clock, &mut self.counters);
        self.send(at, to, false, bytes);
    }

    fn replied(&mut self, at: At, ticket: u64, reply: Result<Reply, lanyard_crypto::gateway::Refusal>) {
        let Some(asked) = self.nodes[at].asked.remove(&ticket) else { return };
        if let Err(refusal) = &reply {
            self.counters.add(Counter::RequestRefused);
            self.trace.event(self.now_ms, at, "request refused", || refusal.code.clone());
        }
        match (asked, reply) {
            (Asked::Send(place, job), reply) => self.send_replied(at, place, job, reply),
            (Asked::Delete, Ok(Reply::Deleted(id) | Reply::SomeDeleted { tombstone: id, .. })) => {
                self.oracle.acknowledged(at, id, &self.nodes[at].store)
            }
            (Asked::Submit(id), Ok(Reply::Done)) => {
                self.oracle.acknowledged(at, id, &self.nodes[at].store);
            }
            (Asked::Restoration, Ok(Reply::Restoration(Some(restoration)))) => {
                for gone in restoration.waiting_for {
                    self.counters.add(Counter::LeftOut);
                    self.ask(at, Request::LeaveOut(gone), Asked::Nothing);
                }
            }
            (Asked::Delete | Asked::Submit(_) | Asked::Restoration | Asked::Nothing, _) => {}
        }
    }

    /// Sends what waits for a peer's trust, one frame; the next one a moment later.
    pub(super) fn deliver(&mut self, at: At, peer: At) {
        let Some(after) = self.nodes[at].peers.get(&peer).copied() else { return };
        if self.reads_later(at) {
            let incarnation = self.nodes[at].incarnation;
            return self.after(5, Event::Deliver(at, incarnation, peer));
        }
        let trust = self.nodes[peer].own.trust.clone();
        let clock = self.nodes[at].clock.read(self.now_ms);
        let Ok((last, records)) = query::outbox(&self.nodes[at].store, &trust, after, clock) else { return };
        if last == after {
            return;
        }
        self.nodes[at].peers.insert(peer, last);
        if !records.is_empty() {
            self.send_frame(at, peer, Frame::Records(records).to_bytes(), clock);
        }
        let (incarnation, wait) = (self.nodes[at].incarnation, self.rng.between(1, 20));
        self.after(wait, Event::Deliver(at, incarnation, peer));
    }

    /// Whether a read waits until the sync that is under way has returned. What is seen before may be taken back by a crash.
    pub(super) fn reads_later(&mut self, at: At) -> bool {
        self.nodes[at].store.unsynced() > 0 && !self.rng.chance(self.scenario.nodes.early_read)
    }

    /// Begins delivery to every peer again, for what was not answered.
    pub(super) fn deliver_again(&mut self, at: At) {
        let peers: Vec<_> = self.nodes[at].peers.keys().copied().collect();
        for peer in peers {
            self.nodes[at].peers.insert(peer, 0);
            self.deliver(at, peer);
        }
    }

    /// A second has passed at a node.
    pub(super) fn tick(&mut self, at: At) {
        let (incarnation, now) = (self.nodes[at].incarnation, self.now_ms);
        self.after(1_000, Event::Tick(at, incarnation));
        if self.nodes[at].paused_until > now {
            return;
        }
        self.nodes[at].ticks += 1;
        let ticks = self.nodes[at].ticks;
        self.listen(at);
        self.input(at, Input::Tick);
        if ticks.is_multiple_of(AGAIN_MS / 1000) {
            self.deliver_again(at);
        }
        if ticks.is_multiple_of(5) {
            self.recheck(at);
        }
        if ticks.is_multiple_of(20) {
            self.audit(at);
        }
    }

    /// Looks at the disk of a node, as far as nothing is under way.
    pub(super) fn audit(&mut self, at: At) {
        if self.nodes[at].round.is_none() {
            self.oracle.audit(at, self.now_ms, &self.nodes[at].store);
            if self.now_ms.saturating_sub(self.nodes[at].steady_since) > 20_000 {
                let clock = self.nodes[at].clock.read(self.now_ms);
                self.oracle.no_expired(at, clock, &self.nodes[at].store);
            }
            self.oracle.tables(at, &self.nodes[at].store);
        }
    }

    /// A node stops at once. What was committed and not synced survives if it is `kept`; otherwise what is under way is lost, and any of the
    /// last commits that have deferred their sync.
    pub(super) fn crash(&mut self, at: At, kept: bool) {
        if self.is_liar(at) || !self.nodes[at].is_up() {
            return;
        }
        self.counters.add(Counter::Crash);
        self.trace.event(self.now_ms, at, "crash", String::new);
        let unsynced = self.nodes[at].store.unsynced();
        let round = self.nodes[at].round.take().filter(|round| !round.batch.is_empty());
        // Commits that have deferred their sync come before the one that is under way.
        let lazy = unsynced.saturating_sub(usize::from(round.is_some()));
        let survive = if kept {
            unsynced
        } else if lazy > 0 {
            self.rng.index(lazy + 1)
        } else {
            0
        };
        if survive < lazy {
            self.counters.add(Counter::CrashTookBack);
        }
        if let Some(round) = round.filter(|_| unsynced > 0) {
            self.counters.add(if kept { Counter::CrashKeptUnsynced } else { Counter::CrashLostUnsynced });
            if kept {
                self.oracle.durable(at, &round.batch, self.now_ms, &self.nodes[at].store);
            }
        }
        self.nodes[at].store.crash_keeping(survive);
        self.nodes[at].forget();
        self.oracle.crashed(at);
        self.drop_connections(at);
        let down = if self.healing { 100 } else { self.rng.between(200, 15_000) };
        let full = self.nodes[at].full_until.saturating_sub(self.now_ms);
        self.after(down.max(full), Event::Start(at));
    }

    /// A node opens its store and runs.
    pub(super) fn start(&mut self, at: At) {
        if self.nodes[at].is_up() || !self.nodes[at].exists {
            return;
        }
        let node = &mut self.nodes[at];
        node.incarnation += 1;
        if node.incarnation > 1 {
            self.counters.add(Counter::Restart);
        }
        let founding = found(&node.store, &node.charter).unwrap_or_default();
        if !founding.is_empty() {
            let committed = node.store.commit(founding);
            assert!(committed.is_ok(), "an empty store takes its charter");
            node.store.sync();
        }
        let mut replica = match Replica::open(&node.store, node.own.clone(), &node.charter) {
            Ok(replica) => replica,
            Err(error) => return self.fail("P4", format!("node {at} does not open again: {error}")),
        };
        if node.step_changes > 0 {
            replica.bound_step(node.step_changes);
        }
        if node.served_bytes > 0 {
            replica.bound_served(node.served_bytes);
        }
        node.network = Some(replica.network());
        node.replica = Some(replica);
        node.steady_since = self.now_ms;
        let incarnation = node.incarnation;
        let first = self.rng.below(1_000);
        self.after(first, Event::Tick(at, incarnation));
        self.audit(at);
    }
}
