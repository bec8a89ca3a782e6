//! After healing: all replicas that could talk hold the same of what they should.

use std::collections::{BTreeMap, BTreeSet};

use lanyard_crypto::record::{Class, Kind};
use lanyard_crypto::{ConversationId, RecordId, Timestamp};
use lanyard_replica::audit::check;
use lanyard_storage::{MemoryStore, Tree};

use super::ledger::Fact;
use super::{Oracle, name_of};
use crate::cast::LIAR;
use crate::counters::{Counter, Counters};

/// A replica at the end of a run.
pub struct Final {
    /// Which node.
    pub node: usize,
    /// What it stores.
    pub store: MemoryStore,
    /// What its clock shows.
    pub clock: Timestamp,
}

impl Oracle {
    /// What the replicas differ in, and what they have lost together; empty if all is well.
    pub fn compare(&mut self, finals: &[Final], counters: &mut Counters) -> Vec<String> {
        let (mut found, divided) = self.differences(finals);
        found.extend(self.missing(finals));
        if found.is_empty() && divided {
            counters.add(Counter::RevocationDivided);
        }
        found
    }

    /// The audit log of each replica is a chain, and contains every row that its node has signed.
    pub fn logs(&mut self, finals: &[Final]) {
        for replica in finals {
            let heads = &self.nodes[replica.node].heads;
            let told = match check::stored(&replica.store, heads) {
                Ok(Ok(sound)) if sound.other_heads + sound.before == heads.len() => continue,
                Ok(Ok(_)) => "it does not contain every row that the node has signed".to_owned(),
                Ok(Err(broken)) => broken.to_string(),
                Err(error) => error.to_string(),
            };
            self.fail("P7", format!("the audit log of node {}: {told}", replica.node));
        }
    }

    /// The messages of a conversation that a device has to have been given, of those written in this epoch or after it, and has
    /// not. `node` is its trust's.
    pub fn undelivered(
        &self,
        node: usize,
        conversation: &ConversationId,
        epoch: u64,
        delivered: &BTreeSet<RecordId>,
        finals: &[Final],
    ) -> Vec<String> {
        let answered = |id: &RecordId| finals.iter().any(|f| self.nodes[f.node].acknowledged.contains(id));
        let due = self.ledger.all().filter(|fact| {
            fact.class == Some(Class::Application)
                && fact.conversation.as_ref() == Some(conversation)
                && fact.epoch >= epoch
                && fact.is_for(&self.nodes[node].trust)
                && answered(&fact.id)
                && !delivered.contains(&fact.id)
                && !self.is_apart(fact, finals)
        });
        due.map(|fact| format!("a device at node {node} was not given {}", fact.id)).collect()
    }

    /// What one replica lacks of what another holds; empty if they agree. Not asked for:
    ///
    /// - what is expired, or about to, at either; what is deleted, superseded, or answered and gone (submissions);
    /// - commits and welcomes of a conversation whose owner lies: it may have signed two for one epoch, and the first to come
    ///   stands at each replica, since neither is better than the other;
    /// - what a trust signed, or an entry about somebody, whom one of the replicas believes no more: revoked, or not in its
    ///   charter. Whoever had it before keeps it, and whoever had not refuses it (P2 before P5);
    /// - charters before the newest, of which a replica that was founded later knows nothing.
    fn differences(&mut self, finals: &[Final]) -> (Vec<String>, bool) {
        let mut held: Vec<BTreeSet<RecordId>> = Vec::new();
        let mut all = BTreeSet::new();
        for replica in finals {
            let rows = replica.store.rows();
            let records = rows.iter().filter(|(tree, ..)| matches!(tree, Tree::Records | Tree::Envelopes));
            let ids: BTreeSet<_> =
                records.filter_map(|(_, key, _)| RecordId::try_from(key.as_slice()).ok()).collect();
            all.extend(ids.iter().copied());
            held.push(ids);
        }
        let (mut differences, mut divided) = (Vec::new(), false);
        for id in all {
            let Some(fact) = self.ledger.get(&id).cloned() else { continue };
            if self.is_apart(&fact, finals) {
                let lacks = |(f, held): (&Final, &BTreeSet<RecordId>)| {
                    fact.is_for(&self.nodes[f.node].trust) && !held.contains(&id)
                };
                if self.is_disbelieved(&fact, finals)
                    && !self.is_over(&fact, finals)
                    && finals.iter().zip(&held).any(lacks)
                {
                    divided = true;
                }
                continue;
            }
            for (replica, held) in finals.iter().zip(&held) {
                let known = &self.nodes[replica.node];
                if fact.is_for(&known.trust) && !held.contains(&id) {
                    let what = format!("node {} lacks {id} ({})", replica.node, name_of(&fact));
                    differences.push(what);
                }
            }
        }
        (differences, divided)
    }

    fn is_apart(&self, fact: &Fact, finals: &[Final]) -> bool {
        let handshake = matches!(fact.class, Some(Class::Commit | Class::Welcome));
        let owner = fact.conversation.as_ref().and_then(|c| self.cast.place(c.owner()));
        self.is_over(fact, finals)
            || (handshake && owner == Some(LIAR))
            || (fact.kind == Kind::Charter && self.ledger.is_superseded(fact))
            || self.is_disbelieved(fact, finals)
            || (fact.class == Some(Class::Commit) && self.was_ordered_twice(fact))
    }

    fn is_over(&self, fact: &Fact, finals: &[Final]) -> bool {
        let over = |f: &Final| self.ledger.end(fact) <= f.clock.plus_secs(5).max(self.nodes[f.node].latest);
        finals.iter().any(over) || self.is_excused(fact)
    }

    fn is_disbelieved(&self, fact: &Fact, finals: &[Final]) -> bool {
        let believes = |f: &Final| {
            self.vouched(&self.nodes[f.node], fact).is_ok() && !self.knows_subject_revoked(f.node, fact)
        };
        !finals.iter().all(believes)
    }

    /// A hub that lost its disk, and was handed the founding commit again, has made a second envelope of the same commit.
    fn was_ordered_twice(&self, fact: &Fact) -> bool {
        self.ledger.all().any(|other| {
            other.id != fact.id
                && other.class == fact.class
                && other.content == fact.content
                && other.conversation == fact.conversation
        })
    }

    /// What was acknowledged by any of them, and is alive, is at every custodian.
    fn missing(&mut self, finals: &[Final]) -> Vec<String> {
        let ids =
            |f: &Final| self.nodes[f.node].acknowledged.iter().map(|id| (*id, f.node)).collect::<Vec<_>>();
        let answered: BTreeMap<RecordId, usize> = finals.iter().flat_map(ids).collect();
        let mut missing = Vec::new();
        for (id, by) in answered {
            let Some(fact) = self.ledger.get(&id).cloned() else { continue };
            if self.is_apart(&fact, finals) {
                continue;
            }
            for replica in finals {
                let tree = if fact.kind == Kind::Envelope { Tree::Envelopes } else { Tree::Records };
                let held =
                    lanyard_storage::View::contains(&replica.store, tree, id.as_bytes()).unwrap_or(false);
                if fact.is_for(&self.nodes[replica.node].trust) && !held {
                    let what = format!(
                        "node {} lacks {id} ({}), for which node {by} answered",
                        replica.node,
                        name_of(&fact)
                    );
                    missing.push(what);
                }
            }
        }
        missing
    }
}
