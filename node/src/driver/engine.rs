//! The engine's thread: steps what waits, commits it as one batch, and carries out the outputs.
//!
//! While a round's batch is being committed, the next round is stepped on top of it; it is closed once the disk is free for it. So both work
//! at once, batches grow by what waits and not by a timer, and a lone input is committed without delay. Nothing of a round is told before its own
//! commit has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use lanyard_crypto::gateway::Refusal;
use lanyard_crypto::record::Decoded;
use lanyard_replica::chores::Chores;
use lanyard_replica::clock;
use lanyard_replica::limits::{COMMIT_BYTES, COMMIT_CHANGES};
use lanyard_replica::{Arrival, Input, OpenError, Output, Own, Replica, Reply, Request, Source, Step};
use lanyard_storage::{Batch, Committing, Overlay, SledStore, StorageError, Store};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::STEPS_MAX;
use super::delivery::Errand;
use super::durable::UnderWay;
use super::load::Place;
use super::shared::{Shared, failed};
use crate::policy::Policy;

/// Events of the audit log that somebody should look at, and so are warnings in the program's log.
const ALERTS: [&str; 3] = ["deletion-overdue", "deletion-confirmed-late", clock::CLOCK_BEHIND];
/// A round is closed when its outputs have so many bytes: they are held until the commit.
const ROUND_OUTPUT_BYTES: usize = 16 * 1024 * 1024;

/// What waits for the engine.
pub(super) enum Message {
    /// Something happened.
    Input(Input),
    /// Records of peers, and the place that they hold until they have been stepped.
    Records(Input, Option<OwnedSemaphorePermit>),
    /// Something happened, and somebody waits until its outputs have been carried out.
    Awaited(Input, oneshot::Sender<()>),
    /// Somebody asks, and waits for the answer.
    Request(Request, oneshot::Sender<Result<Reply, Refusal>>),
    /// The same of a device that sends something, and holds a place until it is answered.
    Sent(Request, oneshot::Sender<Result<Reply, Refusal>>, Place),
    /// The registrar or the operator hands in a record whose signatures have been looked at.
    Submit(Box<Arrival>, oneshot::Sender<Result<Reply, Refusal>>),
    /// Finish.
    Stop,
}

pub(super) struct Thread {
    pub(super) replica: Replica,
    /// With which the replica is opened anew.
    pub(super) opening: (Own, Decoded, Policy),
    pub(super) store: Arc<SledStore>,
    pub(super) shared: Arc<Shared>,
    pub(super) errands: mpsc::Sender<Errand>,
    pub(super) runtime: tokio::runtime::Handle,
    /// When the last round was told.
    pub(super) told: Instant,
}

/// Who waits for what in one round.
#[derive(Default)]
struct Waiters {
    answers: BTreeMap<u64, oneshot::Sender<Result<Reply, Refusal>>>,
    done: Vec<oneshot::Sender<()>>,
    places: Vec<Place>,
    peers: Vec<OwnedSemaphorePermit>,
}

/// What was stepped together. Nothing of it is told before its batch is on the disk.
#[derive(Default)]
struct Round {
    batch: Batch,
    outputs: Vec<Output>,
    waiters: Waiters,
    /// Whether the engine was told to stop.
    last: bool,
}

/// A round whose batch is being committed.
struct Flight {
    /// None of a batch in which nothing changes.
    commit: Option<(Committing, UnderWay)>,
    batch: Arc<Batch>,
    told: Told,
}

/// What is told of a round, once it is on the disk.
struct Told {
    outputs: Vec<Output>,
    waiters: Waiters,
    /// When its first step began.
    begun: Instant,
}

impl Flight {
    fn has_ended(&mut self) -> bool {
        self.commit.as_mut().is_none_or(|(committing, _)| committing.has_ended())
    }

    /// Waits for the end of the commit. Without an error, what is to be carried out; otherwise nobody is told anything but that it failed.
    fn land(self) -> Result<Told, StorageError> {
        if let Some((committing, under_way)) = self.commit {
            let outcome = committing.wait();
            under_way.end(&outcome);
            if let Err(error) = outcome {
                self.told.waiters.fail();
                return Err(error);
            }
        }
        Ok(self.told)
    }
}

impl Waiters {
    /// Says that what they wait for failed.
    fn fail(self) {
        for (_, answer) in self.answers {
            // Who asked may have gone away.
            let _ = answer.send(Err(failed()));
        }
    }
}

impl Thread {
    /// Runs until it is told to stop, or the store fails. Returns why it ended.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Message>) -> String {
        match self.rounds(&mut waiting) {
            Ok(why) => why.into(),
            // What was not answered was not acknowledged. The store tells at the next start what it holds.
            Err(error) => {
                tracing::error!(%error, "the store has failed: the node stops");
                error.to_string()
            }
        }
    }

    fn rounds(&mut self, waiting: &mut mpsc::Receiver<Message>) -> Result<&'static str, OpenError> {
        let (mut ticket, mut chores) = (0, Chores::default());
        let mut flight: Option<Flight> = None;
        loop {
            let chore = chores.are_due(waiting.is_empty());
            if chore || waiting.is_empty() {
                self.land(flight.take())?;
            }
            let first = if chore { Some(Message::Input(Input::GoOn)) } else { waiting.blocking_recv() };
            let Some(first) = first else {
                return Ok("nobody asks any more");
            };
            let begun = Instant::now();
            let mut round = Round::default();
            let stepped = self.step(&mut round, first, waiting, flight.as_mut(), &mut ticket);
            let earlier = flight.take().map(Flight::land).transpose();
            let last = round.last;
            let more = round.outputs.iter().any(|output| matches!(output, Output::GoOn));
            let next = match (stepped, &earlier) {
                (Ok(()), Ok(_)) => self.take_off(round, begun),
                (outcome, _) => {
                    round.waiters.fail();
                    outcome.map(|()| None)
                }
            };
            if let Some(told) = earlier? {
                self.tell(told);
            }
            match next {
                Ok(next) => flight = next,
                // The engine's bounds should make this impossible. It must not stop the node: whoever sent what led to
                // it would do so again. Nothing of the round has happened.
                Err(error @ StorageError::TooLarge { .. }) => {
                    tracing::error!(%error, "a round of the engine was discarded");
                    self.begin_anew()?;
                }
                Err(error) => return Err(error.into()),
            }
            if chore || last || flight.as_ref().is_some_and(|flight| flight.commit.is_none()) {
                self.land(flight.take())?;
            }
            if last {
                return Ok("stopped");
            }
            chores.after(chore, begun.elapsed(), more);
        }
    }

    /// Has the round committed.
    fn take_off(&self, round: Round, begun: Instant) -> Result<Option<Flight>, StorageError> {
        let Round { batch, outputs, waiters, .. } = round;
        let (batch, told) = (Arc::new(batch), Told { outputs, waiters, begun });
        if batch.is_empty() {
            return Ok(Some(Flight { commit: None, batch, told }));
        }
        let under_way = self.shared.commits.begin();
        match self.store.begin(&batch) {
            Ok(committing) => Ok(Some(Flight { commit: Some((committing, under_way)), batch, told })),
            Err(error) => {
                let outcome = Err(error);
                under_way.end(&outcome);
                if !matches!(outcome, Err(StorageError::TooLarge { .. })) {
                    told.waiters.fail();
                }
                outcome.map(|()| None)
            }
        }
    }

    /// Waits until the round is on the disk, and carries out its outputs.
    fn land(&mut self, flight: Option<Flight>) -> Result<(), StorageError> {
        if let Some(told) = flight.map(Flight::land).transpose()? {
            self.tell(told);
        }
        Ok(())
    }

    /// Carries out what a round that is on the disk has led to.
    fn tell(&mut self, told: Told) {
        let Told { outputs, waiters, begun } = told;
        let with_sent = !waiters.places.is_empty();
        self.carry_out(outputs, waiters);
        // It began while the one before was being committed: the disk counts once.
        let took = begun.max(self.told).elapsed();
        self.told = Instant::now();
        if with_sent {
            self.shared.load.round_took(took);
        }
    }

    /// Opens the replica from what is stored, and has its peers connect again.
    fn begin_anew(&mut self) -> Result<(), OpenError> {
        let (own, charter, policy) = &self.opening;
        self.replica = Replica::open(&*self.store, own.clone(), charter)?;
        policy.apply(&mut self.replica);
        self.shared.set_network(self.replica.network());
        let peers: Vec<_> = self.shared.peers().keys().copied().collect();
        for node in peers {
            let (errands, why) = (self.errands.clone(), "the node begins anew".to_owned());
            self.runtime.spawn(async move { errands.send(Errand::Disconnect { node, why }).await });
        }
        Ok(())
    }

    /// Steps what waits, on top of what is being committed.
    fn step(
        &mut self,
        round: &mut Round,
        first: Message,
        waiting: &mut mpsc::Receiver<Message>,
        mut earlier: Option<&mut Flight>,
        ticket: &mut u64,
    ) -> Result<(), StorageError> {
        // A chore goes alone, so that what it takes is known.
        let most = if matches!(first, Message::Input(Input::GoOn)) { 1 } else { STEPS_MAX };
        let committing = earlier.as_ref().map(|flight| flight.batch.clone()).unwrap_or_default();
        let base = Overlay::with(&*self.store, committing);
        let mut next = Some(first);
        let (mut steps, mut output_bytes) = (0, 0);
        while let Some(message) = next.take() {
            let Some(input) = to_input(message, &mut round.waiters, ticket) else {
                round.last = true;
                return Ok(());
            };
            let view = Overlay::with(&base, std::mem::take(&mut round.batch));
            let Step { batch: changes, outputs } = self.replica.step(input, crate::time::now(), &view)?;
            round.batch = view.into_batch();
            // What was stepped is in the batch, which is bounded by itself.
            round.waiters.peers.clear();
            round.batch.append(changes);
            output_bytes += outputs.iter().map(weight).sum::<usize>();
            round.outputs.extend(outputs);
            steps += 1;
            let open = round.batch.byte_len() < COMMIT_BYTES && round.batch.len() < COMMIT_CHANGES;
            let disk_waits = earlier.as_mut().is_some_and(|flight| flight.has_ended());
            if steps < most && open && output_bytes < ROUND_OUTPUT_BYTES && !disk_waits {
                next = waiting.try_recv().ok();
            }
        }
        Ok(())
    }

    /// In order, and never before the commit. Nothing here waits: what a full queue does not take is lost, and comes
    /// again by the next round of anti-entropy, or by being delivered again.
    fn carry_out(&mut self, outputs: Vec<Output>, mut waiters: Waiters) {
        // First of all: who is told that a charter or a list was taken finds it in force.
        if outputs.iter().any(|output| matches!(output, Output::TrustChanged)) {
            self.shared.set_network(self.replica.network());
        }
        let mut cut_off = BTreeSet::new();
        for output in outputs {
            match output {
                // What follows a frame that was lost would say that it had come.
                Output::Send { to, .. } if cut_off.contains(&to) => {}
                Output::Send { to, frame } => {
                    if let Err(reason) = self.shared.shell().try_send(&to, frame.to_bytes()) {
                        tracing::debug!(%to, %reason, "frames were not sent");
                        cut_off.insert(to);
                    }
                }
                Output::Publish(record) => self.errand(Errand::Publish(record)),
                Output::Verdict { from, message, verdict } => {
                    self.errand(Errand::Verdict { from, message, verdict })
                }
                Output::Disconnect { node, why } => {
                    self.errand_at_all_events(Errand::Disconnect { node, why })
                }
                // Heard by those who step it.
                Output::GoOn => {}
                Output::Wake(trust) => self.shared.wake(&trust),
                Output::Notify { device, seq } => self.shared.notify(&device, seq),
                Output::Reply { ticket, reply } => {
                    // Who asked may have gone away.
                    let _ = waiters.answers.remove(&ticket).map(|answer| answer.send(reply));
                }
                Output::TrustChanged => self.errand_at_all_events(Errand::TrustChanged),
                Output::Audit(entry) if ALERTS.contains(&entry.event.as_str()) => tracing::warn!(
                    event = entry.event,
                    node = entry.node.map(|n| crate::address::peer_id(&n)),
                    trust = entry.trust.map(String::from),
                    record = entry.record.map(|r| r.to_string()),
                    "{}",
                    entry.detail
                ),
                Output::Audit(entry) => tracing::info!(
                    event = entry.event,
                    code = entry.code,
                    node = entry.node.map(|n| crate::address::peer_id(&n)),
                    trust = entry.trust.map(String::from),
                    address = entry.address,
                    record = entry.record.map(|r| r.to_string()),
                    "{}",
                    entry.detail
                ),
            }
        }
        for done in waiters.done {
            let _ = done.send(());
        }
    }

    fn errand(&self, errand: Errand) {
        if self.errands.try_send(errand).is_err() {
            tracing::debug!("an errand was dropped: too many wait");
        }
    }

    /// For what closes connections, and so must not be lost.
    fn errand_at_all_events(&self, errand: Errand) {
        let errands = self.errands.clone();
        self.runtime.spawn(async move { errands.send(errand).await });
    }
}

/// None for [`Message::Stop`].
fn to_input(message: Message, waiters: &mut Waiters, ticket: &mut u64) -> Option<Input> {
    *ticket += 1;
    let ticket = *ticket;
    Some(match message {
        Message::Input(input) => input,
        Message::Awaited(input, done) => {
            waiters.done.push(done);
            input
        }
        Message::Records(input, place) => {
            waiters.peers.extend(place);
            input
        }
        Message::Sent(request, answer, place) => {
            waiters.places.push(place);
            waiters.answers.insert(ticket, answer);
            Input::Request { ticket, request }
        }
        Message::Request(request, answer) => {
            waiters.answers.insert(ticket, answer);
            Input::Request { ticket, request }
        }
        Message::Submit(arrival, answer) => {
            waiters.answers.insert(ticket, answer);
            Input::Records { from: Source::Local { ticket }, arrivals: vec![*arrival] }
        }
        Message::Stop => return None,
    })
}

/// How many bytes an output holds, about.
fn weight(output: &Output) -> usize {
    match output {
        Output::Send { frame, .. } => frame.weight(),
        Output::Publish(record) => record.len(),
        _ => 256,
    }
}
