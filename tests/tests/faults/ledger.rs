//! What a test knows of a conversation without asking a node: what was handed in, what was acknowledged, what was deleted. And
//! the check that all of it is so.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Cluster, HarnessError, Person, Programs};
use serde_json::Value;

/// How long everything may take to arrive everywhere. It takes seconds.
const SETTLED: Duration = Duration::from_secs(90);

/// What was handed in, by text, with the id of what was acknowledged.
pub type Sent = BTreeMap<String, Option<String>>;

/// A message that was deleted.
#[derive(Clone, Debug)]
pub struct Deleted {
    pub text: String,
    pub id: String,
    pub by: Person,
    /// The deletion; none if its acknowledgement was lost.
    pub deletion: Option<String>,
}

/// See the module documentation.
pub struct Ledger {
    pub conversation: String,
    pub sent: Sent,
    pub deleted: Vec<Deleted>,
    /// Envelopes that each node held before the first message: what made the conversation.
    before: Vec<u64>,
}

impl Ledger {
    /// Begins with a conversation of everybody, which the first clinician of the first trust opens.
    pub fn open(cluster: &Cluster) -> Self {
        let owner = &cluster.trusts[0].people[0];
        let conversation = owner.converse("Handover", "clinical", cluster.others(owner)).unwrap();
        let members = cluster.people().count();
        cluster.people().for_each(|person| drop(person.await_joined(&conversation, members).unwrap()));
        let before = envelopes(cluster);
        Self { conversation, sent: Sent::new(), deleted: Vec::new(), before }
    }

    /// Sends a message, which must be acknowledged, and returns its id.
    pub fn send(&mut self, sender: &Person, text: &str) -> String {
        let id = sender.send(&self.conversation, text).unwrap();
        self.sent.insert(text.to_owned(), Some(id.clone()));
        id
    }

    /// Deletes a message that was acknowledged.
    pub fn delete(&mut self, by: &Person, text: &str) -> String {
        let id = self.sent.remove(text).flatten().expect("it was acknowledged");
        let deletion = by.delete(&id, "sent-in-error").unwrap();
        let deleted = Deleted { text: text.into(), id, by: by.clone(), deletion: Some(deletion.clone()) };
        self.deleted.push(deleted);
        deletion
    }

    /// Waits until these people read these texts.
    pub fn await_read<'a>(&self, readers: impl IntoIterator<Item = &'a Person>, texts: &[&str]) {
        for reader in readers {
            for text in texts {
                reader.await_message(&self.conversation, text).unwrap();
            }
        }
    }

    /// Every message is at every custodian once and is shown once to everybody, and every deleted one is at none: once all are
    /// reachable, and what waits on devices has been sent.
    pub fn check(&self, cluster: &Cluster) {
        cluster.await_connected().unwrap();
        for person in cluster.people() {
            wait::until(format!("{} has sent what waited", person.name()), SOON, || {
                let synced = person.json(&["sync"])?;
                Ok(if synced["queued"] == 0 { Ok(()) } else { Err(synced) })
            })
            .unwrap();
        }
        for person in cluster.people() {
            self.await_each_once(person);
        }
        for deleted in &self.deleted {
            if let Some(deletion) = &deleted.deletion {
                deleted.by.await_confirmed(deletion, cluster.trusts.len() as u64).unwrap();
            }
        }
        // One envelope for each message: none is stored twice under two ids, and nothing else has come up.
        let messages = self.sent.len() as u64;
        let once: Vec<u64> = self.before.iter().map(|count| count + messages).collect();
        wait::until("each message is stored once", SETTLED, || {
            let now = envelopes(cluster);
            Ok(if now == once { Ok(()) } else { Err(format!("{now:?} envelopes, not {once:?}")) })
        })
        .unwrap();
        for trust in &cluster.trusts {
            for (text, id) in &self.sent {
                let Some(id) = id else { continue };
                let held = trust.node.held(id).unwrap();
                assert!(held.is_some(), "{} has lost {text:?}, which was acknowledged", trust.plan.ods);
            }
            for Deleted { text, id, .. } in &self.deleted {
                let held = trust.node.held(id).unwrap();
                assert!(held.is_none(), "{} holds {text:?}, which was deleted", trust.plan.ods);
            }
        }
    }

    /// Waits until each message is shown, and checks that none is shown twice, and no deleted one at all.
    fn await_each_once(&self, reader: &Person) {
        wait::until(format!("{} reads every message", reader.name()), SETTLED, || {
            let shown = reader.json(&["read", &self.conversation, "--last", "100000"])?;
            let messages = shown["messages"].as_array().into_iter().flatten();
            let wrong = self.not_yet(messages.filter_map(|message| message["text"].as_str()))?;
            Ok(if wrong.is_empty() { Ok(()) } else { Err(wrong) })
        })
        .unwrap();
    }

    /// What is shown and should not be, and the other way round.
    ///
    /// # Errors
    /// A message is shown twice, which no waiting puts right.
    fn not_yet<'a>(&self, shown: impl Iterator<Item = &'a str>) -> Result<Vec<String>, HarnessError> {
        let mut counts = BTreeMap::<&str, u32>::new();
        shown.for_each(|text| *counts.entry(text).or_default() += 1);
        if let Some((text, count)) = counts.iter().find(|(_, count)| **count > 1) {
            return Err(HarnessError::Promise(format!("{text:?} is shown {count} times")));
        }
        let missing = self.sent.keys().filter(|text| !counts.contains_key(text.as_str()));
        let deleted = self.deleted.iter().map(|deleted| &deleted.text);
        let still = deleted.filter(|text| counts.contains_key(text.as_str()));
        Ok(missing.chain(still).cloned().collect())
    }
}

#[test]
fn the_ledger_notices_what_is_missing_what_is_back_and_what_is_there_twice() {
    let by =
        Person::existing(&Programs::find().unwrap(), super::PLANS[0].people[0], "RZ1", Path::new("nowhere"));
    let deleted = Deleted { text: "deleted".into(), id: String::new(), by, deletion: None };
    let sent = ["one", "two"].map(|text| (text.to_owned(), None)).into();
    let ledger = Ledger { conversation: String::new(), sent, deleted: vec![deleted], before: Vec::new() };
    let not_yet = |shown: &[&'static str]| ledger.not_yet(shown.iter().copied());
    assert!(not_yet(&["one", "two"]).unwrap().is_empty());
    assert_eq!(not_yet(&["two"]).unwrap(), ["one"]);
    assert_eq!(not_yet(&["one", "two", "deleted"]).unwrap(), ["deleted"]);
    assert!(not_yet(&["one", "two", "one"]).unwrap_err().to_string().contains("shown 2 times"));
}

/// How many envelopes each node holds.
fn envelopes(cluster: &Cluster) -> Vec<u64> {
    let count = |status: Value| status["stored"]["envelopes"].as_u64().unwrap();
    let nodes = cluster.trusts.iter().map(|trust| &trust.node);
    nodes.map(|node| count(node.status().unwrap())).collect()
}
