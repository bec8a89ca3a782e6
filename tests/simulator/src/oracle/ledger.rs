//! What is known of every record that was ever made, from its bytes alone: read by the checkers, and by no engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lanyard_crypto::limits::{CLOCK_SKEW_SECS_MAX, RETENTION_SECS_MAX};
use lanyard_crypto::record::{Body, Class, Decoded, Head, Kind, ReceiptItem, Target};
use lanyard_crypto::x509::{Certificate, RevocationList};
use lanyard_crypto::{ConversationId, Fingerprint, RecordId, Timestamp, TrustId};
use lanyard_replica::limits::HEAD_SPANS;
use lanyard_storage::{Tree, View};

use crate::cast::{Cast, Role};

/// One record.
#[derive(Debug)]
pub struct Fact {
    /// Its id.
    pub id: RecordId,
    /// Its kind.
    pub kind: Kind,
    /// Of an envelope.
    pub class: Option<Class>,
    /// Of an envelope or a tombstone.
    pub conversation: Option<ConversationId>,
    /// Of an envelope.
    pub epoch: u64,
    /// The hash of an envelope's content.
    pub content: RecordId,
    /// When it says that it was made.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// Who keeps it; empty means every member.
    pub custodians: Vec<TrustId>,
    /// The place of the signing trust, what its certificate is, and the certificate; none for a charter or if nobody has it.
    pub signer: Option<(usize, Role, Fingerprint)>,
    /// Of a tombstone.
    pub target: Option<Target>,
    /// Of a receipt.
    pub items: Vec<ReceiptItem>,
    /// Of a head.
    pub head: Option<Head>,
    /// Of an entry: whose.
    pub subject: Option<Fingerprint>,
    /// Of a revocation list: the issuer, the number, and the serial numbers.
    pub list: Option<(Fingerprint, u64, BTreeSet<Vec<u8>>)>,
    /// Of a charter: its version and its members.
    pub charter: Option<(u64, Vec<TrustId>)>,
}

impl Fact {
    fn of(record: &Decoded, cast: &Cast) -> Self {
        let header = record.header();
        let signer = record.signer().and_then(|s| cast.role(&s).map(|(place, role)| (place, role, s)));
        let mut fact = Self {
            id: record.id(),
            kind: record.body().kind(),
            class: None,
            conversation: None,
            epoch: 0,
            content: RecordId::new([0; 32]),
            issued: header.issued,
            expires: header.expires,
            custodians: header.custodians.clone(),
            signer,
            target: None,
            items: Vec::new(),
            head: None,
            subject: None,
            list: None,
            charter: None,
        };
        match record.body() {
            Body::Envelope(e) => {
                fact.class = Some(e.class);
                fact.conversation = Some(e.conversation.clone());
                fact.epoch = e.epoch;
                fact.content = RecordId::of(&e.content);
            }
            Body::Tombstone(t) => {
                fact.conversation = Some(t.conversation.clone());
                fact.target = Some(t.target.clone());
            }
            Body::Receipt(r) => fact.items = r.items.clone(),
            Body::Head(head) => fact.head = Some(*head),
            Body::Entry(e) => {
                fact.subject =
                    e.chain.first().and_then(|der| Certificate::parse(der).ok()).map(|c| c.fingerprint());
            }
            Body::Crl(crl) => {
                fact.list = RevocationList::parse(&crl.list).ok().map(|list| {
                    let serials = list.revocations().map(|r| r.serial.clone()).collect();
                    (Fingerprint::of(&crl.issuer), list.number(), serials)
                });
            }
            Body::Charter(c) => {
                fact.charter = Some((c.version, c.trusts.iter().map(|m| m.trust.clone()).collect()));
            }
        }
        fact
    }

    /// Of a head: the period for which it stands.
    fn period(&self) -> Option<Period> {
        let (Some(_), Some((_, _, signer))) = (&self.head, &self.signer) else { return None };
        let life_secs = self.expires.as_secs() - self.issued.as_secs();
        let (period_secs, _) = HEAD_SPANS.iter().find(|(_, most)| life_secs <= *most).or(HEAD_SPANS.last())?;
        Some((*signer, *period_secs, self.issued.as_secs() / period_secs))
    }

    /// Whether this trust is to keep it.
    pub fn is_for(&self, trust: &TrustId) -> bool {
        self.custodians.is_empty() || self.custodians.binary_search(trust).is_ok()
    }

    /// Whether this tombstone, if anybody accepts it, forbids that record: written anew from the design, so that it does not
    /// repeat a mistake of the engine's.
    pub fn forbids(&self, record: &Fact, cast: &Cast) -> bool {
        let (Some(target), Some((by, Role::Node, _))) = (&self.target, &self.signer) else { return false };
        if record.class != Some(Class::Application) || record.conversation != self.conversation {
            return false;
        }
        let owner = self.conversation.as_ref().and_then(|c| cast.place(c.owner()));
        let margin = 2 * CLOCK_SKEW_SECS_MAX;
        match target {
            Target::Envelopes(ids) => {
                let sender = record.signer.as_ref().map(|(place, ..)| *place);
                ids.binary_search(&record.id).is_ok()
                    && (sender == Some(*by) || owner == Some(*by))
                    && self.expires >= record.expires.plus_secs(margin)
            }
            Target::UpTo(up_to) => {
                owner == Some(*by)
                    && record.issued <= *up_to
                    && *up_to <= self.issued
                    && self.expires >= up_to.plus_secs(RETENTION_SECS_MAX + margin)
            }
            // It lets messages end, which is no reason to refuse them before.
            Target::Standing(..) => false,
        }
    }
}

impl Fact {
    /// When this standing order, if anybody accepts it, lets that message end; none if it does not name it.
    fn ends(&self, record: &Fact, cast: &Cast) -> Option<Timestamp> {
        let (Some(Target::Standing(up_to, secs)), Some((by, Role::Node, _))) = (&self.target, &self.signer)
        else {
            return None;
        };
        let owner = self.conversation.as_ref().and_then(|c| cast.place(c.owner()));
        let last = up_to.plus_secs(RETENTION_SECS_MAX + 2 * CLOCK_SKEW_SECS_MAX);
        let rightful = owner == Some(*by) && *up_to <= self.issued && self.expires >= last;
        let named = record.class == Some(Class::Application)
            && record.conversation == self.conversation
            && record.issued <= *up_to;
        (rightful && named).then(|| record.issued.plus_secs(*secs))
    }
}

/// All of them.
#[derive(Debug)]
pub struct Ledger {
    cast: &'static Cast,
    facts: BTreeMap<RecordId, Arc<Fact>>,
    /// What nobody may store, deliver or pass on, and why.
    bad: BTreeMap<RecordId, &'static str>,
    /// The tombstones that forbid a record.
    deletions: BTreeMap<RecordId, BTreeSet<RecordId>>,
    /// What a tombstone forbids.
    targets: BTreeMap<RecordId, BTreeSet<RecordId>>,
    /// When standing orders let a record end, by the order.
    ends: BTreeMap<RecordId, BTreeMap<RecordId, Timestamp>>,
    conversations: BTreeMap<ConversationId, Vec<Arc<Fact>>>,
    /// The newest number of each issuer, and the newest entry of each subject.
    newest_list: BTreeMap<Fingerprint, (u64, RecordId)>,
    newest_entry: BTreeMap<Fingerprint, (Timestamp, RecordId)>,
    newest_charter: u64,
    /// The newest head of each node for each period.
    newest_head: BTreeMap<Period, (Timestamp, RecordId)>,
}

/// Of a head: its signer, how long the period is for which it stands, and which one that is.
type Period = (Fingerprint, u64, u64);

impl Ledger {
    /// Of nothing.
    pub fn new(cast: &'static Cast) -> Self {
        Self {
            cast,
            facts: BTreeMap::new(),
            bad: BTreeMap::new(),
            deletions: BTreeMap::new(),
            targets: BTreeMap::new(),
            ends: BTreeMap::new(),
            conversations: BTreeMap::new(),
            newest_list: BTreeMap::new(),
            newest_entry: BTreeMap::new(),
            newest_charter: 0,
            newest_head: BTreeMap::new(),
        }
    }

    /// Notes that a record is not acceptable, whoever brings it. Before anybody sees it.
    pub fn condemn(&mut self, bytes: &[u8], why: &'static str) {
        self.bad.insert(RecordId::of(bytes), why);
    }

    /// Why a record is not acceptable.
    pub fn condemned(&self, id: &RecordId) -> Option<&'static str> {
        self.bad.get(id).copied()
    }

    /// The conversations of which anything was said.
    pub fn conversations(&self) -> impl Iterator<Item = &ConversationId> {
        self.conversations.keys()
    }

    /// Those of all records that lie in a store.
    pub fn held_in(&self, view: &dyn View) -> BTreeSet<RecordId> {
        let tree = |fact: &Fact| if fact.kind == Kind::Envelope { Tree::Envelopes } else { Tree::Records };
        let held = self.facts.values().filter(|f| view.contains(tree(f), f.id.as_bytes()).unwrap_or(false));
        held.map(|fact| fact.id).collect()
    }

    /// What these bytes say; none if they are no record.
    pub fn learn(&mut self, bytes: &[u8]) -> Option<Arc<Fact>> {
        let id = RecordId::of(bytes);
        if let Some(fact) = self.facts.get(&id) {
            return Some(fact.clone());
        }
        let fact = Arc::new(Fact::of(&Decoded::from_bytes(bytes).ok()?, self.cast));
        self.facts.insert(id, fact.clone());
        if !self.bad.contains_key(&id) {
            self.relate(&fact);
        }
        Some(fact)
    }

    fn relate(&mut self, fact: &Arc<Fact>) {
        if let Some((issuer, number, _)) = &fact.list {
            let newest = self.newest_list.entry(*issuer).or_insert((*number, fact.id));
            *newest = (*newest).max((*number, fact.id));
        }
        if let Some(subject) = fact.subject {
            let newest = self.newest_entry.entry(subject).or_insert((fact.issued, fact.id));
            *newest = (*newest).max((fact.issued, fact.id));
        }
        if let Some(period) = fact.period() {
            let newest = self.newest_head.entry(period).or_insert((fact.issued, fact.id));
            *newest = (*newest).max((fact.issued, fact.id));
        }
        if let Some((version, _)) = fact.charter {
            self.newest_charter = self.newest_charter.max(version);
        }
        let Some(conversation) = &fact.conversation else { return };
        let others = self.conversations.entry(conversation.clone()).or_default();
        for other in others.iter() {
            for (tombstone, record) in [(fact, other), (other, fact)] {
                if tombstone.forbids(record, self.cast) {
                    self.deletions.entry(record.id).or_default().insert(tombstone.id);
                    self.targets.entry(tombstone.id).or_default().insert(record.id);
                }
                if let Some(end) = tombstone.ends(record, self.cast) {
                    self.ends.entry(record.id).or_default().insert(tombstone.id, end);
                }
            }
        }
        others.push(fact.clone());
    }

    /// What is known of a record.
    pub fn get(&self, id: &RecordId) -> Option<&Arc<Fact>> {
        self.facts.get(id)
    }

    /// When a record may be gone, as far as anybody could know: when it says so, or sooner by a standing order.
    pub fn end(&self, fact: &Fact) -> Timestamp {
        self.end_by(fact, |_| true)
    }

    /// When a record has to be gone where these standing orders are known.
    pub fn end_by(&self, fact: &Fact, known: impl Fn(&RecordId) -> bool) -> Timestamp {
        let ends = self.ends.get(&fact.id).into_iter().flatten();
        ends.filter(|(order, _)| known(order)).map(|(_, end)| *end).fold(fact.expires, Timestamp::min)
    }

    /// The tombstones that forbid a record.
    pub fn deletions(&self, id: &RecordId) -> impl Iterator<Item = &RecordId> {
        self.deletions.get(id).into_iter().flatten()
    }

    /// Whether a tombstone forbids it.
    pub fn is_deleted(&self, id: &RecordId) -> bool {
        self.deletions.contains_key(id)
    }

    /// What a tombstone forbids.
    pub fn targets(&self, tombstone: &RecordId) -> impl Iterator<Item = &RecordId> {
        self.targets.get(tombstone).into_iter().flatten()
    }

    /// Whether a newer record has taken the place of this one.
    pub fn is_superseded(&self, fact: &Fact) -> bool {
        let list = fact
            .list
            .as_ref()
            .and_then(|(issuer, number, _)| Some(*self.newest_list.get(issuer)? > (*number, fact.id)));
        let entry = fact.subject.and_then(|s| Some(*self.newest_entry.get(&s)? > (fact.issued, fact.id)));
        let charter = fact.charter.as_ref().map(|(version, _)| *version < self.newest_charter);
        let head = fact.period().and_then(|p| Some(*self.newest_head.get(&p)? > (fact.issued, fact.id)));
        list.or(entry).or(charter).or(head).unwrap_or(false)
    }

    /// Whether a tombstone has force over nothing: all that it names is known, and none of it may its signer delete.
    pub fn is_void(&self, fact: &Fact) -> bool {
        match &fact.target {
            Some(Target::Envelopes(ids)) => {
                self.targets(&fact.id).next().is_none() && ids.iter().all(|id| self.facts.contains_key(id))
            }
            _ => false,
        }
    }

    /// Every record of which anything is known.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Fact>> {
        self.facts.values()
    }
}
