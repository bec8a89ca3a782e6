//! The hub (draft-ietf-mimi-arch): the owner trust's node orders the commits of its conversations, one per epoch.
//!
//! A member hands in a [`Submission`]; the hub validates it with the public half of MLS, and publishes the commit and the
//! welcome as envelopes of its own, in the same batch as its new public state. A submission for an epoch that has its commit
//! already is refused, and so is one by who is no administrator; its sender sees the published commit instead.

use lanyard_crypto::mls::PublicGroup;
use lanyard_crypto::mls::peek::Peek;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{Body, Class, Envelope, Header, Submission, Verified};
use lanyard_crypto::{ConversationId, Fingerprint, RecordId, Timestamp, TrustId, cbor, limits};
use lanyard_storage::{StorageError, Tree, View};

use crate::Replica;
use crate::admit;
use crate::audit::AuditEntry;
use crate::holding::Holding;
use crate::keep;
use crate::keys;
use crate::limits::CATCH_UP_COMMITS_MAX;
use crate::mutation::{self, Mutation};
use crate::spread;
use crate::turn::Turn;
use crate::verdict::Refusal;

/// The outcome of a submission: the published commit, or why there is none.
pub(crate) type Ordered = Result<RecordId, Refusal>;

impl Replica {
    /// Orders a verified submission to a conversation of this trust.
    pub(crate) fn order(&mut self, turn: &mut Turn<'_>, record: &Verified) -> Result<Ordered, StorageError> {
        let Body::Envelope(envelope) = record.body() else { unreachable!("called with an envelope") };
        let submission: Submission =
            match cbor::from_slice(&envelope.content, limits::HANDSHAKE_RECORD_BYTES_MAX) {
                Ok(submission) => submission,
                Err(e) => return Ok(Err(Refusal::Content(e.to_string()))),
            };
        let conversation = &envelope.conversation;
        if let Some(published) = self.commit_of(turn, conversation, envelope.epoch)? {
            // The same commit again: an answer was lost on the way.
            let same = published.1 == submission.commit;
            return Ok(if same { Ok(published.0) } else { Err(Refusal::DuplicateCommit(envelope.epoch)) });
        }
        // It may have ordered another one for this epoch, which has not come back yet.
        if self.lacks_commits() {
            return Ok(Err(Refusal::Restored));
        }
        if self.catch_up(turn, conversation)? {
            return Ok(Err(Refusal::Restored));
        }
        // Others would hold against each other what it stamps and what it judges by a wrong clock, for good.
        if let Some(secs) = self.behind(turn.now) {
            return Ok(Err(Refusal::ClockBehind(secs)));
        }
        if let Some(welcome) = &submission.welcome
            && !matches!(Peek::of(welcome, limits::HANDSHAKE_RECORD_BYTES_MAX), Ok(Peek::Welcome { .. }))
        {
            return Ok(Err(Refusal::Content("the welcome is not one".into())));
        }
        let mut group = match self.group(turn, conversation, &submission)? {
            Ok(group) => group,
            Err(why) => return Ok(Err(why)),
        };
        if group.epoch() != envelope.epoch {
            return Ok(Err(Refusal::Content(format!("the conversation is in epoch {}", group.epoch()))));
        }
        let founded = turn.rows.contains(Tree::Hub, &keys::conversation(conversation))?;
        let policy = founded.then(|| group.policy().clone());
        let (before, accepted, after) = match step(&mut group, &submission.commit, turn) {
            Ok(done) => done,
            Err(e) => return Ok(Err(Refusal::Change(e.to_string()))),
        };
        if accepted.committer.trust != *crate::holding::node_trust(record.signer()).unwrap_or(&self.own.trust)
        {
            return Ok(Err(Refusal::Change("the committer's home node must hand it in".into())));
        }
        if let Err(why) = self.check_review(policy.as_ref(), group.policy(), turn.now) {
            return Ok(Err(why));
        }
        if let Err(why) = self.follow_policy(turn, conversation, policy.as_ref(), group.policy()) {
            return Ok(Err(why));
        }
        let Ok(snapshot) = group.snapshot() else {
            return Ok(Err(Refusal::Change("the group's state".into())));
        };
        let custodians: Vec<TrustId> = {
            let mut all = before;
            all.extend(after);
            all.insert(self.own.trust.clone());
            all.into_iter().collect()
        };
        // Fails, and changes nothing, if there are too many trusts for one conversation, or this node's certificate has lapsed.
        let commit =
            match self.publish_handshake(turn, envelope, Class::Commit, submission.commit, &custodians)? {
                Ok(commit) => commit,
                Err(why) => return Ok(Err(why)),
            };
        self.leave_again(turn, conversation)?;
        if !mutation::is(Mutation::HubForgets) || submission.group_info.is_some() {
            turn.rows.put(Tree::Hub, keys::conversation(conversation), snapshot);
        }
        // Delivered to them once more, so that they learn of it; after that, deletions alone.
        for removed in accepted.removed.iter().filter(|d| d.trust == self.own.trust) {
            spread::serve_no_more(turn, conversation, &removed.fingerprint)?;
        }
        if let Some(welcome) = submission.welcome {
            let welcome = welcome.into_vec();
            if let Err(why) = self.publish_handshake(turn, envelope, Class::Welcome, welcome, &custodians)? {
                turn.audit(AuditEntry::new("welcome-unpublished", why.ruling().code, why.to_string()))?;
            }
        }
        Ok(Ok(commit))
    }

    /// Follows the commits of a conversation that are held and not part of the state that is kept of it: those that have come back to a
    /// restored hub, in whatever order they came. Tells whether more are left than a step takes.
    pub(crate) fn catch_up(
        &mut self,
        turn: &mut Turn<'_>,
        conversation: &ConversationId,
    ) -> Result<bool, StorageError> {
        let key = keys::conversation(conversation);
        // Without the state of its first epoch, which was never a record, nothing can be followed.
        let Some(state) = turn.rows.get(Tree::Hub, &key)? else { return Ok(false) };
        let Ok(mut group) = PublicGroup::load(self.network.clone(), &state, None) else { return Ok(false) };
        let mut removed: Vec<(Fingerprint, u64, Timestamp)> = Vec::new();
        let (begun, mut more) = (group.epoch(), false);
        while let Some((id, commit)) = self.commit_of(turn, conversation, group.epoch())? {
            more = group.epoch() - begun >= CATCH_UP_COMMITS_MAX;
            let Some(held) = Holding::get(&turn.rows, &id)?.filter(|_| !more) else { break };
            let policy = group.policy().clone();
            self.follow_proposals(turn, &mut group)?;
            // As of when it was ordered: who made it may have left since.
            let accepted = match group.accept_commit(&commit, held.issued) {
                Ok(accepted) => accepted,
                Err(why) => {
                    let entry = AuditEntry::new("commit-unfollowed", "change-refused", why.to_string());
                    turn.audit(entry.record(id))?;
                    break;
                }
            };
            self.note_policy(turn, conversation, Some(&policy), group.policy());
            let own = accepted.removed.iter().filter(|device| device.trust == self.own.trust);
            removed.extend(own.map(|device| (device.fingerprint, accepted.epoch, held.issued)));
        }
        if group.epoch() == begun {
            return Ok(more);
        }
        let Ok(snapshot) = group.snapshot() else { return Ok(more) };
        turn.rows.put(Tree::Hub, key, snapshot);
        for (device, epoch, at) in removed {
            if !keep::is_welcomed(&turn.rows, conversation, &device, (epoch, at))? {
                spread::serve_no_more(turn, conversation, &device)?;
            }
        }
        Ok(more)
    }

    fn commit_of(
        &self,
        turn: &Turn<'_>,
        conversation: &ConversationId,
        epoch: u64,
    ) -> Result<Option<(RecordId, Vec<u8>)>, StorageError> {
        if mutation::is(Mutation::HubForgets) {
            return Ok(None);
        }
        let Some(row) = turn.rows.get(Tree::Epochs, &keys::epoch(conversation, epoch))? else {
            return Ok(None);
        };
        let Ok(id) = RecordId::try_from(row.as_slice()) else { return Ok(None) };
        let content = match admit::stored(&turn.rows, &id)? {
            Some((_, record)) => match record.body() {
                Body::Envelope(envelope) => envelope.content.clone(),
                _ => Vec::new(),
            },
            None => Vec::new(),
        };
        Ok(Some((id, content)))
    }

    fn group(
        &self,
        turn: &Turn<'_>,
        conversation: &ConversationId,
        submission: &Submission,
    ) -> Result<Result<PublicGroup<Network>, Refusal>, StorageError> {
        let refuse = |e: &dyn std::fmt::Display| Refusal::Change(e.to_string());
        let network = self.network.clone();
        Ok(match (turn.rows.get(Tree::Hub, &keys::conversation(conversation))?, &submission.group_info) {
            (Some(state), _) => PublicGroup::load(network, &state, None).map_err(|e| refuse(&e)),
            (None, Some(info)) => {
                PublicGroup::observe(network, conversation, info, turn.now).map_err(|e| refuse(&e))
            }
            (None, None) => Err(Refusal::NotFound(format!("conversation {conversation}"))),
        })
    }

    pub(crate) fn publish_handshake(
        &mut self,
        turn: &mut Turn<'_>,
        submitted: &Envelope,
        class: Class,
        content: Vec<u8>,
        custodians: &[TrustId],
    ) -> Result<Ordered, StorageError> {
        let header = Header {
            network: Some(self.network.id()),
            custodians: custodians.to_vec(),
            issued: turn.now,
            expires: turn.now.plus_secs(self.network.charter().policy.retention_secs_max),
        };
        let epoch = submitted.epoch + u64::from(class == Class::Welcome);
        let envelope = Envelope { conversation: submitted.conversation.clone(), epoch, class, content };
        self.originate(turn, header, Body::Envelope(envelope))
    }
}

type Trusts = std::collections::BTreeSet<TrustId>;

fn step(
    group: &mut PublicGroup<Network>,
    commit: &[u8],
    turn: &Turn<'_>,
) -> Result<
    (Trusts, lanyard_crypto::mls::public_group::Accepted, Trusts),
    lanyard_crypto::mls::public_group::PublicGroupError,
> {
    let before = group.trusts()?;
    let accepted = group.accept_commit(commit, turn.now)?;
    let after = group.trusts()?;
    Ok((before, accepted, after))
}
