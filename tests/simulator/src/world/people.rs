//! Clinicians with one device at each trust, and their records officers. They ask their own node alone, and ask again when they
//! get no answer.

use std::collections::{BTreeMap, BTreeSet};

use lanyard_crypto::gateway::{Refusal, SendRequest};
use lanyard_crypto::record::{Body, Class, Decoded, DeviceLine, Envelope, Reason, Submission, Target};
use lanyard_crypto::{ConversationId, Fingerprint, NetworkId, RecordId, Timestamp, cbor};
use lanyard_replica::{Deleter, Reply, Request, query};
use serde_bytes::ByteBuf;

use super::node::{Asked, At, Node};
use super::{Event, World};
use crate::cast::{CODES, LIAR, RETENTION_SECS};
use crate::conversations::{application, pool};
use crate::counters::Counter;
use crate::oracle::Final;

/// A request without an answer is made again after so long, in milliseconds.
const PATIENCE_MS: u64 = 3_000;

/// Everybody's devices.
#[derive(Debug)]
pub struct People {
    all: Vec<Person>,
    /// Makes each message another one.
    messages: u64,
    /// Changes that members have handed in, by conversation and epoch.
    handed_in: BTreeMap<(usize, u64), BTreeSet<usize>>,
}

#[derive(Debug, Default)]
struct Person {
    /// The position up to which the inbox was read.
    seen: u64,
    conversations: BTreeMap<ConversationId, Membership>,
    sent: Vec<(RecordId, ConversationId, Timestamp)>,
    jobs: Vec<Job>,
    delivered: BTreeSet<RecordId>,
    /// Whether its node was replaced by an empty one, which knows of no conversations that it founded.
    uprooted: bool,
}

/// What a device knows of a conversation.
#[derive(Clone, Debug)]
struct Membership {
    /// The place in the pool; none for the liar's conversation.
    prepared: Option<usize>,
    /// The commit that led to the present epoch.
    change: usize,
    epoch: u64,
    joined_epoch: u64,
    members: Vec<usize>,
    left: bool,
}

/// Something handed in.
#[derive(Debug)]
struct Job {
    request: SendRequest,
    asked_ms: u64,
    id: Option<RecordId>,
    done: bool,
}

impl People {
    /// One at each of so many trusts.
    pub fn new(count: usize) -> Self {
        let all = (0..count).map(|_| Person::default()).collect();
        Self { all, messages: 0, handed_in: BTreeMap::new() }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The node of a trust is empty now: its inboxes begin anew.
    pub fn forget_node(&mut self, place: usize, at: At, nodes: &[Node]) {
        if nodes.iter().position(|n| n.place == place) == Some(at) {
            let person = &mut self.all[place];
            (person.seen, person.uprooted) = (0, true);
        }
    }
}

impl World<'_> {
    /// Somebody does something.
    pub(super) fn act(&mut self) {
        if self.healing {
            return;
        }
        let [soonest, latest] = self.scenario.action_ms;
        let next = self.rng.between(soonest, latest);
        self.after(next, Event::Act);
        self.ask_again();
        self.hand_in_again();
        let a = self.scenario.actions.clone();
        let weights = [
            a.send, a.delete, a.officer, a.up_to, a.change, a.read, a.revoke, a.entry, a.charter, a.person,
            a.standing, a.hold,
        ];
        let mut choice = self.rng.below(weights.iter().sum());
        let kind = weights.iter().position(|w| {
            let hit = choice < *w;
            choice = choice.saturating_sub(*w);
            hit
        });
        let place = self.rng.index(self.people.count());
        match (kind, self.home(place)) {
            (Some(6), _) => self.revoke(),
            (Some(7), _) => self.publish_entry(),
            (Some(8), _) => self.change_charter(),
            (Some(0), Some(at)) => self.write(at, place),
            (Some(1), Some(at)) => self.delete(at, place),
            (Some(2), Some(at)) => self.delete_as_officer(at, place),
            (Some(3), Some(at)) => self.delete_up_to(at, place),
            (Some(4), Some(at)) => self.propose(at, place),
            (Some(5), Some(at)) => self.read(at, place),
            (Some(9), Some(at)) => self.delete_sent(at, place),
            (Some(10), Some(at)) => self.order_end(at, place),
            (Some(11), Some(at)) => self.hold(at),
            _ => {}
        }
        // Nothing can be said before a conversation is founded.
        if self.rng.chance(200)
            && let Some(at) = self.home(place)
        {
            self.propose(at, place);
            self.read(at, place);
        }
        if self.rng.chance(100) {
            self.remind_of_charters();
        }
    }

    /// A device hears that there is something for it, and mostly reads at once.
    pub(super) fn notified(&mut self, at: At, device: &Fingerprint) {
        let place = self.nodes[at].place;
        let first = self.nodes[..at].iter().all(|n| n.place != place);
        if first && place < self.people.count() && self.device(place) == *device && self.rng.chance(300) {
            let after = self.rng.between(1, 400);
            self.after(after, Event::Read(place));
        }
    }

    /// A device reads, if its node runs.
    pub(super) fn read_now(&mut self, place: usize) {
        if let Some(at) = self.home(place) {
            self.read(at, place);
        }
    }

    fn device(&self, place: usize) -> Fingerprint {
        self.cast.trusts[place].devices[0].certificate.fingerprint()
    }

    fn write(&mut self, at: At, place: usize) {
        let open: Vec<_> = self.people.all[place].conversations.iter().filter(|(_, m)| !m.left).collect();
        let Some((conversation, membership)) =
            self.rng.pick(&open).map(|(c, m)| ((*c).clone(), (*m).clone()))
        else {
            return;
        };
        let removed = |m: &Membership| {
            m.prepared == membership.prepared && m.epoch > membership.epoch && !m.members.contains(&place)
        };
        if self.people.all.iter().any(|p| p.conversations.get(&conversation).is_some_and(removed)) {
            self.counters.add(Counter::RemovedWrote);
        }
        let longest = self.scenario.life_secs;
        let life = match self.rng.below(10) {
            0 => RETENTION_SECS,
            1..=3 => self.rng.between(5, 30),
            _ => self.rng.between(20, longest),
        };
        self.people.messages += 1;
        let padding = self.rng.below(48) as u8;
        let content = application(&conversation, membership.epoch, self.people.messages, padding);
        let custodians = membership.members.iter().map(|m| self.cast.trusts[*m].id.clone()).collect();
        let expires = self.nodes[at].clock.read(self.now_ms).plus_secs(life);
        let (epoch, class) = (membership.epoch, Class::Application);
        self.begin(at, place, SendRequest { conversation, epoch, class, content, custodians, expires });
    }

    fn begin(&mut self, at: At, place: usize, request: SendRequest) {
        let jobs = &mut self.people.all[place].jobs;
        let job = jobs.len();
        jobs.push(Job { request: request.clone(), asked_ms: self.now_ms, id: None, done: false });
        let device = self.device(place);
        self.ask(at, Request::Send { device, request }, Asked::Send(place, job));
    }

    /// Requests without an answer are made again.
    fn ask_again(&mut self) {
        for place in 0..self.people.count() {
            let Some(at) = self.home(place) else { continue };
            let clock = self.nodes[at].clock.read(self.now_ms);
            let now = self.now_ms;
            let waits =
                |job: &Job| !job.done && job.asked_ms + PATIENCE_MS < now && job.request.expires > clock;
            let jobs = &mut self.people.all[place].jobs;
            let again: Vec<_> = jobs.iter().enumerate().filter(|(_, j)| waits(j)).map(|(i, _)| i).collect();
            for job in again {
                let waiting = &mut self.people.all[place].jobs[job];
                waiting.asked_ms = now;
                let request = waiting.request.clone();
                self.counters.add(Counter::SentAgain);
                let device = self.device(place);
                self.ask(at, Request::Send { device, request }, Asked::Send(place, job));
            }
        }
    }

    /// The node has answered for a message or a change.
    pub(super) fn send_replied(&mut self, at: At, place: usize, job: usize, reply: Result<Reply, Refusal>) {
        let person = &mut self.people.all[place];
        let job = &mut person.jobs[job];
        let known = std::mem::replace(&mut job.done, true);
        let Ok(Reply::Sent { id, .. }) = reply else { return };
        if known {
            self.counters.add(Counter::SentKnown);
        }
        job.id = Some(id);
        let content = RecordId::of(&job.request.content);
        let (class, epoch) = (job.request.class, job.request.epoch);
        if class == Class::Application {
            if !known {
                person.sent.push((id, job.request.conversation.clone(), job.request.expires));
                self.counters.add(Counter::Sent);
            }
            self.oracle.sent(at, place, content, id, &self.nodes[at].store);
        } else {
            if epoch == 0 {
                self.counters.add(Counter::Founded);
            }
            self.oracle.acknowledged(at, id, &self.nodes[at].store);
        }
    }

    fn delete(&mut self, at: At, place: usize) {
        let clock = self.nodes[at].clock.read(self.now_ms);
        let sent = &mut self.people.all[place].sent;
        sent.retain(|(_, _, expires)| *expires > clock);
        let Some((_, conversation, _)) = self.rng.pick(sent).cloned() else { return };
        let mut ids: Vec<_> =
            sent.iter().filter(|(_, c, _)| *c == conversation).map(|(id, ..)| *id).collect();
        let many = if self.rng.chance(100) { 20 } else { self.rng.between(1, 3) as usize };
        while ids.len() > many {
            let place = self.rng.index(ids.len());
            ids.swap_remove(place);
        }
        sent.retain(|(id, ..)| !ids.contains(id));
        ids.sort();
        self.counters.add(Counter::DeletedByDevice);
        let by = Deleter::Device(self.device(place));
        self.order(at, by, conversation, Target::Envelopes(ids));
    }

    fn delete_as_officer(&mut self, at: At, _: usize) {
        let trust = self.nodes[at].own.trust.clone();
        let clock = self.nodes[at].clock.read(self.now_ms);
        let alive: Vec<_> = self
            .oracle
            .ledger
            .all()
            .filter(|f| f.class == Some(Class::Application) && f.expires > clock && f.is_for(&trust))
            .filter_map(|f| Some((f.id, f.conversation.clone()?)))
            .collect();
        let Some((id, conversation)) = self.rng.pick(&alive).cloned() else { return };
        self.counters.add(Counter::DeletedByOfficer);
        self.order(at, Deleter::Officer, conversation, Target::Envelopes(vec![id]));
    }

    fn delete_up_to(&mut self, at: At, place: usize) {
        let owned = pool().conversations.iter().find(|c| c.owner as usize == place);
        let Some(conversation) = owned.map(|c| c.id()) else { return };
        let up_to = self.nodes[at].clock.read(self.now_ms).minus_secs(self.rng.below(40));
        self.counters.add(Counter::DeletedUpTo);
        self.order(at, Deleter::Officer, conversation, Target::UpTo(up_to));
    }

    /// What a device has sent, by one tombstone: the rest when it comes to it again.
    fn delete_sent(&mut self, at: At, place: usize) {
        self.counters.add(Counter::DeletedSent);
        self.note_deletion();
        let (devices, all, reference) = (vec![self.device(place)], self.rng.chance(500), Vec::new());
        let request = Request::DeleteSent { devices, all, reason: Reason::SubjectRequest, reference };
        self.ask(at, request, Asked::Delete);
    }

    fn order_end(&mut self, at: At, place: usize) {
        let owned = pool().conversations.iter().find(|c| c.owner as usize == place);
        let Some(conversation) = owned.map(|c| c.id()) else { return };
        let up_to = self.nodes[at].clock.read(self.now_ms).minus_secs(self.rng.below(20));
        let secs = self.rng.between(5, 120);
        self.counters.add(Counter::StandingOrdered);
        self.order(at, Deleter::Officer, conversation, Target::Standing(up_to, secs));
    }

    fn hold(&mut self, at: At) {
        let conversations: Vec<_> = self.oracle.ledger.conversations().cloned().collect();
        let Some(conversation) = self.rng.pick(&conversations).cloned() else { return };
        self.counters.add(Counter::HoldAsked);
        let reference = "a hold".to_owned();
        if self.rng.chance(250) {
            return self.ask(at, Request::EndHold { conversation, reference }, Asked::Nothing);
        }
        let until = self.nodes[at].clock.read(self.now_ms).plus_secs(self.rng.between(10, 90));
        self.oracle.hold(at, &conversation, until);
        let request = Request::PlaceHold { conversation, reference, reason: "a test".into(), until };
        self.ask(at, request, Asked::Nothing);
    }

    fn order(&mut self, at: At, by: Deleter, conversation: ConversationId, target: Target) {
        self.note_deletion();
        let reference = self.people.messages.to_be_bytes().to_vec();
        let request = Request::Delete { by, conversation, target, reason: Reason::SentInError, reference };
        self.ask(at, request, Asked::Delete);
    }

    /// Founds a conversation, or hands in a commit that may follow.
    fn propose(&mut self, at: At, place: usize) {
        let present =
            |m: &u64| (*m as usize) < self.people.count() || (*m as usize == LIAR && self.liar.is_some());
        let mut possible = Vec::new();
        for (number, prepared) in pool().conversations.iter().enumerate() {
            match self.people.all[place].conversations.get(&prepared.id()) {
                None if prepared.owner as usize == place
                    && prepared.changes[0].members.iter().all(present) =>
                {
                    possible.push((number, 0));
                }
                Some(m) if !m.left => {
                    let next = prepared.next(m.change);
                    let mine = next.filter(|(_, c)| c.by as usize == place && c.members.iter().all(present));
                    possible.extend(mine.map(|(change, _)| (number, change)));
                }
                _ => {}
            }
        }
        let Some((number, change)) = self.rng.pick(&possible).copied() else { return };
        let prepared = &pool().conversations[number];
        let next = &prepared.changes[change];
        let tried = self.people.handed_in.entry((number, next.epoch)).or_default();
        let again = !tried.insert(change);
        if tried.len() > 1 && !again {
            self.counters.add(Counter::CommitsCompeted);
            let before = next.after.map_or(0, |a| prepared.changes[a as usize].members.len());
            let shrinks = |c: &usize| prepared.changes[*c].members.len() < before;
            if tried.iter().any(shrinks) {
                self.counters.add(Counter::CommitRacedRemoval);
            }
        }
        if again && !self.rng.chance(250) {
            return;
        }
        let group_info = (change == 0).then(|| prepared.group_info.clone());
        let submission =
            Submission { commit: next.commit.to_vec(), welcome: next.welcome.clone(), group_info };
        let custodians = next.members.iter().filter_map(|m| CODES[*m as usize].parse().ok()).collect();
        let expires = self.nodes[at].clock.read(self.now_ms).plus_secs(RETENTION_SECS / 2);
        let (conversation, epoch, class) = (prepared.id(), next.epoch, Class::Submission);
        let content = cbor::to_vec(&submission);
        self.begin(at, place, SendRequest { conversation, epoch, class, content, custodians, expires });
    }

    /// A device reads its inbox, and takes in what is there.
    fn read(&mut self, at: At, place: usize) {
        if self.reads_later(at) {
            return;
        }
        let device = self.device(place);
        let clock = self.nodes[at].clock.read(self.now_ms);
        let Some(network) = self.nodes[at].network.clone() else { return };
        let after = self.people.all[place].seen;
        let Ok(page) = query::inbox(&self.nodes[at].store, &network, &device, after, clock) else { return };
        self.oracle.inbox(at, &page, clock, &mut self.counters);
        let Some(last) = page.items.last().map(|i| i.seq) else { return };
        self.people.all[place].seen = last;
        let mut lines = Vec::new();
        for record in page.items.into_iter().filter_map(|i| i.record) {
            let Ok(record) = Decoded::from_bytes(&record.bytes) else { continue };
            match record.body() {
                Body::Envelope(envelope) => {
                    let custodians = &record.header().custodians;
                    let everybody = custodians.iter().filter_map(|t| self.cast.place(t)).collect();
                    self.receive(at, place, record.id(), envelope, everybody);
                }
                Body::Tombstone(_) => {
                    self.misattribute(at, place, record.id(), network.id(), clock);
                    let key = &self.cast.trusts[place].devices[0].key;
                    let line = DeviceLine::sign(network.id(), record.id(), clock, device, key);
                    self.oracle.hands_in(&line);
                    lines.push(ByteBuf::from(line.bytes().to_vec()));
                }
                _ => {}
            }
        }
        if !lines.is_empty() {
            self.counters.add(Counter::DeviceErased);
            self.ask(at, Request::Erased { device, lines }, Asked::Nothing);
        }
        if self.rng.chance(300) {
            self.ask(at, Request::Seen { device, seq: last }, Asked::Nothing);
        }
    }

    /// For some tombstones a device hands in a line first that it may not: in the name of another one, or with another's signature.
    fn misattribute(
        &mut self,
        at: At,
        place: usize,
        tombstone: RecordId,
        network: NetworkId,
        clock: Timestamp,
    ) {
        let [own, other] = &self.cast.trusts[place].devices;
        let named = match tombstone.as_bytes()[0] % 8 {
            0 => own,
            1 => other,
            _ => return,
        };
        self.counters.add(Counter::LineMisattributed);
        let line = DeviceLine::sign(network, tombstone, clock, named.certificate.fingerprint(), &other.key);
        let (device, lines) = (self.device(place), vec![ByteBuf::from(line.bytes().to_vec())]);
        self.ask(at, Request::Erased { device, lines }, Asked::Nothing);
    }

    fn receive(&mut self, at: At, place: usize, id: RecordId, envelope: &Envelope, everybody: Vec<usize>) {
        let conversation = &envelope.conversation;
        let prepared = pool().conversations.iter().position(|c| c.id() == *conversation);
        let person = &mut self.people.all[place];
        if envelope.class == Class::Application {
            if person.delivered.insert(id) {
                self.counters.add(Counter::Delivered);
            }
            return;
        }
        let Some(number) = prepared else {
            if envelope.class == Class::Welcome {
                let (epoch, joined_epoch) = (envelope.epoch, envelope.epoch);
                let membership =
                    Membership { prepared, change: 0, epoch, joined_epoch, members: everybody, left: false };
                person.conversations.entry(conversation.clone()).or_insert(membership);
            }
            return;
        };
        let changes = &pool().conversations[number].changes;
        let is_this = |c: &crate::conversations::Change| match envelope.class {
            Class::Welcome => c.welcome.as_deref() == Some(&envelope.content),
            _ => *c.commit == envelope.content,
        };
        let Some(change) = changes.iter().position(is_this) else { return };
        let founder = pool().conversations[number].owner as usize == place;
        let (epoch, members) = (changes[change].epoch + 1, &changes[change].members);
        let members: Vec<usize> = members.iter().map(|m| *m as usize).collect();
        match (person.conversations.get_mut(conversation), envelope.class) {
            (None, class) if class == Class::Welcome || (founder && change == 0) => {
                let membership =
                    Membership { prepared, change, epoch, joined_epoch: epoch, members, left: false };
                person.conversations.insert(conversation.clone(), membership);
            }
            (Some(m), Class::Commit) if changes[change].after == Some(m.change as u64) => {
                (m.change, m.epoch) = (change, epoch);
                self.counters.add(Counter::Committed);
                if !members.contains(&place) {
                    m.left = true;
                    let (device, conversation) = (self.device(place), conversation.clone());
                    self.ask(at, Request::Leave { device, conversation }, Asked::Nothing);
                    return;
                }
                m.members = members;
            }
            _ => {}
        }
    }

    /// Everybody reads until there is no more.
    pub(super) fn read_all(&mut self) {
        for place in 0..self.people.count() {
            let Some(at) = self.home(place) else { continue };
            for _ in 0..100 {
                let before = self.people.all[place].seen;
                self.read(at, place);
                if self.people.all[place].seen == before {
                    break;
                }
            }
        }
    }

    /// What devices have not been given. Not asked of those whose node is empty or no member any more.
    pub(super) fn undelivered(&self, finals: &[Final]) -> Vec<String> {
        let mut missing = Vec::new();
        for (place, person) in self.people.all.iter().enumerate() {
            let home = finals.iter().find(|f| self.nodes[f.node].place == place);
            let Some(home) = home.filter(|_| !person.uprooted) else { continue };
            for (conversation, m) in person.conversations.iter().filter(|(_, m)| !m.left) {
                let delivered = &person.delivered;
                let lacks =
                    self.oracle.undelivered(home.node, conversation, m.joined_epoch, delivered, finals);
                missing.extend(lacks);
            }
        }
        missing
    }
}
