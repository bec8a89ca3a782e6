//! Lanyard's engine: one pure step from an input and a view to an atomic batch and a list of outputs.
//!
//! [`Replica::step`] takes what happened, the time, and a view of what is stored. It returns what is to be stored, as one
//! atomic batch, and what is to be done once that is committed. It has no clock, no randomness and no I/O of its own, so
//! the same engine runs under the node's driver and under a simulator. A driver commits the batch first and carries out the
//! outputs, in order, only afterwards; if the commit fails it discards the replica and opens a new one from the store.
//!
//! Every record, whichever way it came (a client, a peer's stream, gossip, anti-entropy), enters by the same door:
//! verified outside, [admitted](admit) against charter, custody, expiry and tombstones, kept with all its consequences in one
//! batch. The promises, where they are held:
//!
//! - P1: the engine sees ciphertext and the public half of MLS ([`hub`]); it has no key to content.
//! - P2: [`admit`] takes only [`lanyard_crypto::record::Verified`], which only the verifier makes.
//! - P3: the border is the node's; here a record's signer must hold a certificate of a permitted country, and what
//!   changes that is told at once ([`Output::TrustChanged`]).
//! - P4: a record is answered for ([`frame::Frame::Answers`], [`Output::Reply`]) only by an output, hence after its commit.
//! - P5: [`sync`] compares and completes; admission is the same in every order of arrival.
//! - P6: [`erase`]: rows of tombstones forbid what they name, before or after it arrives; [`sync`] serves nothing expired.
//! - P7: a receipt is signed in a step that erases, or in a later one, and leaves after its commit.
//! - P8: [`limits`]; every refusal is ruled by one table, [`verdict`].

mod admit;
pub mod arrival;
pub mod audit;
mod bar;
pub mod chores;
pub mod clock;
mod destruction;
mod digest;
mod erase;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod frame;
pub mod hold;
pub mod holding;
mod hub;
mod input;
mod keep;
mod keys;
mod late_orders;
mod leavers;
pub mod limits;
mod log;
pub mod mutation;
pub mod pin;
pub mod query;
mod receipts;
mod request;
pub mod restored;
mod retention;
mod review;
mod spread;
mod standing;
mod sync;
mod tally;
mod turn;
pub mod verdict;
mod void_orders;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lanyard_crypto::charter::TrustRetention;
use lanyard_crypto::mls::ReviewTerms;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{self, Body, Decoded, Verified, VerifyError};
use lanyard_crypto::x509::SecretKey;
use lanyard_crypto::{Fingerprint, NodeId, RecordId, Timestamp, TrustId};
use lanyard_storage::{StorageError, Tree, View};

use admit::Admission;
use audit::repeats::Repeated;
use audit::{AuditEntry, HeldHead};
use frame::{Frame, Refused};
pub use input::{Arrival, Deleter, Input, Output, Reply, Request, Source, Step};
use mutation::Mutation;
use sync::Arrived;
use turn::Turn;
use verdict::{Refusal, Verdict};

/// Who this node is.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its trust.
    pub trust: TrustId,
    /// Its public key.
    pub node: NodeId,
    /// Its certificate.
    pub certificate: Fingerprint,
    /// Its key, which signs records.
    pub key: SecretKey,
    /// Its certificate and its registrar's, DER.
    pub chain: Vec<Vec<u8>>,
}

/// Why a replica can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk's.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The operator's: the charter that the configuration names is none.
    #[error("the charter that the configuration names: {0}")]
    Charter(VerifyError),
    /// The operator's: the store belongs to another network than the charter.
    #[error("the store belongs to network {0}, the charter that the configuration names to {1}")]
    OtherNetwork(lanyard_crypto::NetworkId, lanyard_crypto::NetworkId),
    /// The disk's: what the store names is not there.
    #[error("the charter in force is missing from the store: restore it from a backup")]
    Missing,
    /// The caller's: an earlier version wrote the store, and [`upgrade`] was not called.
    #[error("the store is of an earlier version, and was not brought up to this one")]
    Earlier,
}

/// The engine. Opened from a store, fed by [`Replica::step`].
#[derive(Debug)]
pub struct Replica {
    own: Own,
    network: Arc<Network>,
    connected: BTreeMap<NodeId, TrustId>,
    penalties: BTreeMap<NodeId, u32>,
    /// How many refusals of what each trust has sent are in the audit log, and how many were left out.
    repeats: audit::repeats::Repeats,
    /// When the last round of anti-entropy with a peer began, on either side.
    rounds: BTreeMap<NodeId, Timestamp>,
    /// Peers with which a round is wanted sooner.
    due: BTreeSet<NodeId>,
    /// What is yet to be asked of each peer by anti-entropy, and what is on its way.
    sessions: sync::Sessions,
    /// What peers have been served by anti-entropy lately.
    served: sync::Served,
    /// How long this trust keeps messages of its own conversations.
    retention: TrustRetention,
    review: ReviewTerms,
    /// How far it was looked for members that have left.
    leavers: leavers::Leavers,
    /// How devices' PINs are bounded.
    pins: pin::PinPolicy,
    /// When it was last looked for PINs of devices that are revoked, or whose certificates have ended.
    pins_cleared: Option<Timestamp>,
    /// Devices that are being revoked, of which nothing is accepted any more.
    barred: BTreeSet<Fingerprint>,
    /// What others' signatures say of the time.
    voices: clock::Voices,
    /// How far the conversations have been looked through for what lives longer.
    walk: retention::Walk,
    /// While its store is a copy that was restored.
    restored: Option<restored::Comparing>,
    /// While such a store may lack envelopes that it had.
    regaining: Option<restored::Comparing>,
    /// [`limits::STEP_CHANGES_MAX`], unless a test asks for less.
    step_changes_max: usize,
    /// [`limits::SERVED_BYTES_MAX`], likewise.
    served_bytes_max: usize,
}

/// What came of a record that arrived.
enum Taken {
    Stored,
    Known,
    Relayed,
    Refused(Refusal),
}

impl Taken {
    fn arrived(&self) -> Arrived {
        match self {
            Taken::Stored => Arrived::Kept,
            Taken::Known | Taken::Relayed => Arrived::Known,
            // Without what it names, or what else names it, which may go, it is acceptable.
            Taken::Refused(
                Refusal::MayNotDelete(_) | Refusal::TombstoneTooShort | Refusal::TooManyOrders(_),
            ) => Arrived::NotNow,
            // A clock that was ahead is set right; what is newer expires.
            Taken::Refused(Refusal::Expired | Refusal::Superseded(_)) => Arrived::NotNow,
            Taken::Refused(why) if why.ruling().last => Arrived::Refused,
            Taken::Refused(_) => Arrived::NotNow,
        }
    }
}

impl Replica {
    /// Opens the replica. `charter` is the one that the operator trusts: it starts a new store; an existing store has its own,
    /// perhaps newer one, of the same network.
    pub fn open(view: &dyn View, own: Own, charter: &Decoded) -> Result<Self, OpenError> {
        let trusted = record::open_trusted(charter).map_err(OpenError::Charter)?;
        if !digest::are_there(view)? || !audit::chain::is_whole(view)? || !receipts::are_batches(view)? {
            return Err(OpenError::Earlier);
        }
        let mut network = match view.get(Tree::Meta, b"charter")? {
            None => trusted,
            Some(id) => {
                let id = RecordId::try_from(id.as_slice()).map_err(|_| OpenError::Missing)?;
                let (_, stored) = admit::stored(view, &id)?.ok_or(OpenError::Missing)?;
                let Body::Charter(charter) = stored.body() else { return Err(OpenError::Missing) };
                let held = Network::new(stored.statement(), stored.header(), charter, None)
                    .map_err(|e| OpenError::Charter(VerifyError::Charter(e)))?;
                if held.id() != trusted.id() {
                    return Err(OpenError::OtherNetwork(held.id(), trusted.id()));
                }
                held
            }
        };
        for tree in [Tree::Directory, Tree::Revocations] {
            query::for_each(view, tree, &[], |_, row| {
                if let Ok(id) = RecordId::try_from(row)
                    && let Some((_, record)) = admit::stored(view, &id)?
                {
                    network.restore(&record);
                }
                Ok(())
            })?;
        }
        // Known without an entry, so that this node can sign before its registrar has published it.
        let _ = network.learn(&own.chain);
        let voices = clock::Voices::of(view)?;
        network.set_floor(voices.floor());
        let [restored, regaining] = restored::Comparing::of(view)?;
        Ok(Self {
            own,
            network: Arc::new(network),
            connected: BTreeMap::new(),
            penalties: BTreeMap::new(),
            repeats: audit::repeats::Repeats::default(),
            rounds: BTreeMap::new(),
            due: BTreeSet::new(),
            sessions: sync::Sessions::default(),
            served: sync::Served::default(),
            retention: TrustRetention::default(),
            review: ReviewTerms::default(),
            leavers: leavers::Leavers::default(),
            pins: pin::PinPolicy::default(),
            pins_cleared: None,
            barred: BTreeSet::new(),
            voices,
            walk: retention::Walk::default(),
            restored,
            regaining,
            step_changes_max: limits::STEP_CHANGES_MAX,
            served_bytes_max: limits::SERVED_BYTES_MAX,
        })
    }

    /// What the charter in force makes trustworthy, for verifying signatures and admitting peers.
    pub fn network(&self) -> Arc<Network> {
        self.network.clone()
    }

    /// One step; see the crate's documentation.
    ///
    /// # Errors
    /// The view's alone; then nothing has happened, and the replica is to be opened anew.
    pub fn step(&mut self, input: Input, now: Timestamp, view: &dyn View) -> Result<Step, StorageError> {
        let mut turn = Turn::new(view, erase::time(view, now)?, self.step_changes_max);
        match input {
            Input::Records { from, arrivals } => self.records(&mut turn, from, arrivals)?,
            Input::Request { ticket, request } => self.request(&mut turn, ticket, request)?,
            Input::Connected { node, trust, chain } => {
                // Its records can be verified from now on; its directory entry will follow.
                let known = chain.first().is_some_and(|c| self.network.chain(&Fingerprint::of(c)).is_some());
                if !known && Arc::make_mut(&mut self.network).learn(&chain).is_ok() {
                    turn.trust_changed = true;
                }
                turn.audit(AuditEntry::new("connected", "", "").node(node).trust(trust.clone()))?;
                self.connected.insert(node, trust.clone());
                turn.wake(&trust);
                // One of the two begins a round at once, so that nothing is sent twice.
                if self.own.node < node {
                    self.due.insert(node);
                    self.rounds_due(&mut turn)?;
                } else {
                    self.rounds.insert(node, now);
                }
            }
            Input::Disconnected(node) => {
                self.connected.remove(&node);
                self.rounds.remove(&node);
                self.due.remove(&node);
                self.sessions.end(&node);
                turn.audit(AuditEntry::new("disconnected", "", "").node(node))?;
            }
            Input::Frame { from, frame } => self.frame(&mut turn, from, frame)?,
            Input::Note(entry) => turn.audit(entry)?,
            Input::GoOn => turn.lazy = chores::go_on(&mut turn)?,
            Input::Tick => {
                self.mind_clock(&mut turn)?;
                chores::go_on(&mut turn)?;
                standing::attest_due(&mut turn)?;
                self.clear_pins(&mut turn)?;
                self.keep_retention(&mut turn)?;
                self.propose_leavers(&mut turn)?;
                log::expire(&mut turn)?;
                spread::forget_former(&mut turn)?;
                self.attest_late(&mut turn)?;
                self.attest_devices(&mut turn)?;
                self.mark_overdue(&mut turn)?;
                self.penalties.values_mut().for_each(|p| *p = p.saturating_sub(1));
                self.penalties.retain(|_, p| *p > 0);
                self.compare_restored(&mut turn)?;
                self.rounds_due(&mut turn)?;
                self.press_on(&mut turn)?;
                self.repeats.counted(turn.now).into_iter().try_for_each(|counted| turn.audit(counted))?;
                audit::chain::drop_old(&mut turn)?;
                audit::heads::expire(&mut turn)?;
                self.sign_head_if_due(&mut turn)?;
            }
        }
        self.attest(&mut turn)?;
        for (trust, what, entry) in std::mem::take(&mut turn.repeated) {
            if self.repeats.admit(trust, what, turn.now) {
                turn.audit(entry)?;
            }
        }
        if turn.trust_changed {
            self.sessions.forget_refusals();
        }
        turn.finish()
    }

    /// Lets a test see what a step leaves for the next: a step takes on no more work at so many changes of rows.
    #[cfg(any(test, feature = "simulator"))]
    pub fn bound_step(&mut self, changes_max: usize) {
        self.step_changes_max = changes_max;
    }

    /// Lets a test see a peer that is served no more: it may be served so much a second, and as many times more at once as
    /// otherwise.
    #[cfg(any(test, feature = "simulator"))]
    pub fn bound_served(&mut self, bytes_max: usize) {
        self.served_bytes_max = bytes_max;
    }

    fn records(
        &mut self,
        turn: &mut Turn<'_>,
        from: Source,
        arrivals: Vec<Arrival>,
    ) -> Result<(), StorageError> {
        let (mut stored, mut refused, mut penalty) = (Vec::new(), Vec::new(), 0);
        for arrival in arrivals {
            // What is not answered for comes again.
            if turn.is_full() {
                self.cut_short(&from);
                break;
            }
            let bytes = arrival.len();
            let (id, taken) = match arrival {
                // What is held was accepted once, whatever would be said of it now. An operator wants to hear the latter.
                Arrival::Refused { id, .. }
                    if !matches!(from, Source::Local { .. })
                        && turn.rows.contains(Tree::Holdings, id.as_bytes())? =>
                {
                    (id, Taken::Known)
                }
                Arrival::Held(record) if turn.rows.contains(Tree::Holdings, record.id().as_bytes())? => {
                    (record.id(), Taken::Known)
                }
                // It has gone meanwhile, and is judged like any other.
                Arrival::Held(record) => {
                    let id = record.id();
                    match record::verify(*record, &self.network) {
                        Ok(record) => (id, self.take(turn, record, &from)?),
                        Err(why) => (id, Taken::Refused(why.into())),
                    }
                }
                Arrival::Refused { id, why, .. } => (id, Taken::Refused(why)),
                Arrival::Verified(vouched) => {
                    let (record, element) = vouched.into_parts();
                    let id = record.id();
                    turn.element = Some((id, element));
                    (id, self.take(turn, record, &from)?)
                }
            };
            penalty = u32::saturating_add(penalty, self.answer(turn, &from, id, &taken)?);
            self.arrived(turn, &from, &id, bytes, taken.arrived());
            match taken {
                Taken::Stored | Taken::Known => stored.push(id),
                Taken::Refused(_) if mutation::is(Mutation::AnswerForRefused) => stored.push(id),
                Taken::Refused(why) if why.ruling().last => {
                    refused.push(Refused { id, code: why.ruling().code.into() });
                }
                Taken::Refused(_) | Taken::Relayed => {}
            }
        }
        if let Source::Peer(to) = &from
            && !(stored.is_empty() && refused.is_empty())
        {
            turn.outputs.push(Output::Send { to: *to, frame: Frame::Answers { stored, refused } });
        }
        // After the answers, from which the peer may learn.
        match from {
            Source::Peer(node) | Source::Gossip { from: node, .. } => {
                self.punish(turn, node, penalty, "penalties", "too many unacceptable records")
            }
            Source::Local { .. } => Ok(()),
        }
    }

    fn take(&mut self, turn: &mut Turn<'_>, record: Verified, from: &Source) -> Result<Taken, StorageError> {
        self.hear(&record);
        let origin = matches!(from, Source::Local { .. });
        let head = HeldHead::of(&record).map(|head| (head, record.decoded().clone()));
        let admission = admit::admit(record, &self.own.trust, &self.network, &turn.rows, turn.now)?;
        // Whether it is stored or not: what a node has signed, it has signed.
        if let (Some(((node, head), record)), false) = (head, matches!(admission, Admission::Known)) {
            self.hold_against(turn, node, (&head, record.header()), record.bytes())?;
        }
        Ok(match admission {
            Admission::Known => Taken::Known,
            // Direct delivery of what is not for us is a fault; by gossip it is how gossip works.
            Admission::No(Refusal::NotCustodian) if matches!(from, Source::Gossip { .. }) => Taken::Relayed,
            Admission::No(why) => Taken::Refused(why),
            // It would be judged by a state of the group that may be an earlier one.
            Admission::New(admitted) if self.restored.is_some() && self.orders(admitted.record()) => {
                Taken::Refused(Refusal::Restored)
            }
            Admission::New(admitted) if self.orders(admitted.record()) => {
                match self.order(turn, admitted.record())? {
                    Ok(_) => Taken::Stored,
                    Err(why) => Taken::Refused(why),
                }
            }
            Admission::New(admitted) => {
                self.keep(turn, &admitted, origin)?;
                Taken::Stored
            }
        })
    }

    /// Tells who brought the record what came of it. Returns the penalty points for it.
    fn answer(
        &mut self,
        turn: &mut Turn<'_>,
        from: &Source,
        id: RecordId,
        taken: &Taken,
    ) -> Result<u32, StorageError> {
        let ruling = match taken {
            Taken::Refused(why) => Some(why.ruling()),
            Taken::Stored | Taken::Known | Taken::Relayed => None,
        };
        if let Taken::Refused(why) = taken {
            let entry = AuditEntry::new("refused", why.ruling().code, why.to_string()).record(id);
            match from {
                Source::Local { .. } => turn.audit(entry)?,
                Source::Peer(node) | Source::Gossip { from: node, .. } => {
                    let trust = self.connected.get(node).cloned();
                    turn.repeated.push((trust, Repeated::Refusal, entry.node(*node)));
                }
            }
        }
        Ok(match from {
            Source::Peer(_) => ruling.map_or(0, |r| r.penalty),
            Source::Gossip { from, message } => {
                let ruling = ruling.filter(|_| !mutation::is(Mutation::RelayRefused));
                let over = matches!(taken, Taken::Known) && erase::is_over(&turn.rows, &id, turn.now)?;
                let waits = self.restored.is_some() && restored::withholds_record(&turn.rows, &id)?;
                let held = if over || waits { Verdict::Ignore } else { Verdict::Accept };
                let verdict = ruling.map_or(held, |r| r.verdict);
                turn.outputs.push(Output::Verdict { from: *from, message: message.clone(), verdict });
                if verdict == Verdict::Reject { ruling.map_or(0, |r| r.penalty) } else { 0 }
            }
            Source::Local { ticket } => {
                let reply = match taken {
                    Taken::Refused(why) => Err(why.to_answer()),
                    Taken::Stored | Taken::Known | Taken::Relayed => Ok(Reply::Done),
                };
                turn.reply(*ticket, reply);
                0
            }
        })
    }

    fn punish(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        penalty: u32,
        code: &str,
        why: &str,
    ) -> Result<(), StorageError> {
        let points = self.penalties.entry(node).or_default();
        *points = points.saturating_add(penalty);
        if *points < limits::PENALTY_MAX || mutation::is(Mutation::NeverPunish) {
            return Ok(());
        }
        *points = 0;
        self.drop_peer(turn, node, code, why)
    }

    /// Closes all connections to a peer. What else it sent before it hears of that changes nothing.
    fn drop_peer(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        code: &str,
        why: &str,
    ) -> Result<(), StorageError> {
        let Some(trust) = self.connected.remove(&node) else { return Ok(()) };
        self.sessions.end(&node);
        turn.outputs.push(Output::Disconnect { node, why: why.into() });
        turn.audit(AuditEntry::new("peer-dropped", code, why).node(node).trust(trust))
    }

    fn frame(&mut self, turn: &mut Turn<'_>, from: NodeId, frame: Frame) -> Result<(), StorageError> {
        // A frame that outlived its connection says nothing any more.
        let Some(trust) = self.connected.get(&from).cloned() else { return Ok(()) };
        match frame {
            Frame::Records(_) => {
                unreachable!("the driver verifies records first, and feeds them as Input::Records")
            }
            Frame::Answers { stored, refused } => {
                spread::answered(turn, &trust, &stored, &refused)?;
                self.doubt(turn, &refused)
            }
            frame => {
                if matches!(frame, Frame::Roots(_)) {
                    self.rounds.insert(from, turn.now);
                }
                self.reconcile(turn, from, &trust, frame)
            }
        }
    }

    /// A peer says that records of ours are not signed by who they say. A batch may have taken here what nobody takes alone
    /// (`docs/decisions/0003-batch-verification.md`): that goes, so that all replicas end alike.
    fn doubt(&mut self, turn: &mut Turn<'_>, refused: &[Refused]) -> Result<(), StorageError> {
        let code = Refusal::Unverified(VerifyError::Signature).ruling().code;
        for Refused { id, .. } in refused.iter().filter(|r| r.code == code).take(limits::DOUBTS_MAX) {
            let Some((held, record)) = admit::stored(&turn.rows, id)? else { continue };
            if matches!(record::verify(record, &self.network), Err(VerifyError::Signature)) {
                erase::drop_record(turn, id, &held)?;
                let entry =
                    AuditEntry::new("dropped", code, "does not verify alone, only in a batch").record(*id);
                turn.audit(match held.signer {
                    Some(trust) => entry.trust(trust),
                    None => entry,
                })?;
            }
        }
        Ok(())
    }

    fn rounds_due(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        for (node, trust) in self.connected.clone() {
            let last = self.rounds.get(&node);
            let patience_secs = limits::SYNC_INTERVAL_SECS * if self.own.node < node { 2 } else { 3 } / 2;
            let patience_secs = patience_secs * self.patience(&node);
            let old = last.is_none_or(|at| at.plus_secs(patience_secs) <= turn.now)
                || mutation::is(Mutation::RestlessRounds);
            let due = self.due.remove(&node);
            if old || due {
                self.rounds.insert(node, turn.now);
                self.begin_round(turn, node, &trust)?;
            }
        }
        Ok(())
    }
}

/// The batch that founds a store on the charter that the operator trusts. Not needed, and nothing, for a store that has one.
pub fn found(view: &dyn View, charter: &Decoded) -> Result<lanyard_storage::Batch, StorageError> {
    let mut batch = lanyard_storage::Batch::new();
    if view.get(Tree::Meta, b"charter")?.is_none() {
        let header = charter.header();
        let held = holding::Holding::of_charter(header);
        batch.put(Tree::Meta, "charter", *charter.id().as_bytes());
        batch.put(Tree::Records, *charter.id().as_bytes(), charter.bytes().to_vec());
        batch.put(Tree::Holdings, *charter.id().as_bytes(), held.to_row());
        digest::found(view, &mut batch, &charter.id(), &held)?;
        receipts::found(&mut batch);
    }
    Ok(batch)
}

/// The next batch that brings a store of an earlier version up to this one: to be committed before the replica is opened, and asked for
/// again until there is none. Each leaves a store from which the next call goes on.
///
/// # Errors
/// The view's alone.
pub fn upgrade(view: &dyn View) -> Result<Option<lanyard_storage::Batch>, StorageError> {
    for next in [digest::upgrade, audit::chain::upgrade, receipts::upgrade] {
        if let Some(batch) = next(view)? {
            return Ok(Some(batch));
        }
    }
    Ok(None)
}
