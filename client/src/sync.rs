//! What comes from the node, and what waits for it.
//!
//! Each record of the inbox goes through the same gate: decoded, its signer's chain learnt, verified, its
//! signer's right to what it says checked; only then does a session see it. What came of a record, the MLS
//! state that it changed and the cursor of the inbox are one transaction of the vault: after a crash at any
//! point a record was either taken or comes again. What is refused is told and passed over, so that one bad
//! record never stands in the way of the next. If the next charter or revocation list may change the refusal,
//! the record is kept and goes through the gate again with every sync, since the node forgets it.
//!
//! Order: beliefs first (a device or node that was revoked must not count), then what was kept, then the inbox,
//! then the outbox.
//! Own envelopes come back through the inbox, so an answer that was lost does not make a message go twice.

use std::collections::BTreeSet;

use lanyard_crypto::gateway::{ERASURES_MAX, ErasuresRequest, InboxItem, InboxRecord};
use lanyard_crypto::record::{
    self, Body, Class, DecodeError, Decoded, DeviceLine, Envelope, Target, Tombstone, Verified, VerifyError,
};
use lanyard_crypto::x509::Certificate;
use lanyard_crypto::{ConversationId, RecordId, Timestamp, TrustId};

use serde_bytes::ByteBuf;

use crate::app::view::Synced;
use crate::app::{App, AppError};
use crate::clock;
use crate::lines::one_line;
use crate::node::NodeError;
use crate::session::receive::{Changed, Received};
use crate::session::{Session, SessionError};
use crate::trust::{TrustError, may_heal};
use crate::vault::messages::Message;
use crate::vault::outbox::Incoming;
use crate::vault::{Vault, VaultError};

/// The position in the node's inbox up to which everything is in the vault.
const INBOX: &str = "inbox";
/// Messages of one conversation that a deletion by time is applied to.
const ERASED_MAX: usize = 1_000_000;

impl App {
    /// Fetches what is new and sends what waits.
    ///
    /// # Errors
    /// [`AppError`]: the node's, or the disk's. What was taken before stays taken.
    pub fn sync(&mut self) -> Result<Synced, AppError> {
        let now = clock::now();
        let mut synced = Synced { expired: self.session.vault_mut().expire(now)?, ..Synced::default() };
        self.refresh(now, &mut synced)?;
        // A life that is shorter by now does not wait for the rest, which may fail.
        self.shorten()?;
        synced.expired += self.session.vault_mut().expire(now)?;
        self.publish_key_package(now)?;
        let mut proposed = BTreeSet::new();
        self.retry(now, &mut synced, &mut proposed)?;
        self.fetch(now, &mut synced, &mut proposed)?;
        self.give_up_refused(&mut synced)?;
        self.carry_out(&proposed, now)?;
        self.tell_left()?;
        self.flush(&mut synced)?;
        synced.notices.extend(self.apply_retention()?);
        self.count_reviews()?;
        // By what has arrived, more may have come to its end. What is told comes after that.
        let now = clock::now();
        synced.expired += self.session.vault_mut().expire(now)?;
        self.tell_erased(now, &mut synced)?;
        Ok(synced)
    }

    /// Hands the outbox to the node, oldest first.
    ///
    /// # Errors
    /// The node's, if it refuses for now or cannot be reached; the rest stays queued.
    pub(crate) fn flush(&mut self, synced: &mut Synced) -> Result<(), AppError> {
        let outbox = self.session.vault().outbox()?;
        synced.queued = outbox.len();
        for outgoing in outbox {
            let message = match outgoing.message {
                Some(local) => self.session.vault().message_at(local)?,
                None => None,
            };
            // It came back through the inbox before its answer did.
            if let Some(Message { id: Some(id), issued, .. }) = message {
                self.session.sent(&outgoing, &id, issued)?;
                synced.queued -= 1;
                continue;
            }
            // Expired while it waited: there is nobody left to send it to.
            let gone = message.is_none() && outgoing.message.is_some();
            if gone || outgoing.request.expires <= clock::now() {
                self.session.refused(&outgoing)?;
                synced.notices.push("a message or change expired before it could be sent".into());
                synced.queued -= 1;
                continue;
            }
            match self.node.send(&outgoing.request) {
                Ok(answer) => {
                    self.session.sent(&outgoing, &answer.id, answer.issued)?;
                    synced.sent += 1;
                }
                Err(error) if error.is_final() => {
                    // What carries out a proposal comes from every member: all but one are refused, and nobody has asked for it.
                    let is_asked = outgoing.message.is_some()
                        || !self.session.is_carrying_out(&outgoing.request.conversation)?;
                    self.session.refused(&outgoing)?;
                    synced.queued -= 1;
                    if !is_asked {
                        continue;
                    }
                    let what = if outgoing.message.is_some() { "a message" } else { "a change of members" };
                    synced.notices.push(format!("{what} was not sent: {error}"));
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            synced.queued -= 1;
        }
        Ok(())
    }

    /// Tells the node, by this device's signature, which deletions were carried out here by `now`, up to which everything has expired;
    /// again until it has taken that.
    fn tell_erased(&mut self, now: Timestamp, synced: &mut Synced) -> Result<(), AppError> {
        let (network, device) = (self.beliefs.read().id(), self.device.certificate().fingerprint());
        loop {
            let erased = self.session.vault().erasures(now, ERASURES_MAX)?;
            if erased.is_empty() {
                return Ok(());
            }
            let key = &self.device.key;
            let line = |(tombstone, at): &(RecordId, Timestamp)| {
                ByteBuf::from(DeviceLine::sign(network, *tombstone, *at, device, key).bytes().to_vec())
            };
            match self.node.erased(&ErasuresRequest { lines: erased.iter().map(line).collect() }) {
                // A node that does not know the call will, once it is upgraded.
                Err(NodeError::Refused { status: 404, .. }) => return Ok(()),
                Err(error) if error.is_final() => {
                    synced.notices.push(format!("that this device has erased was not taken: {error}"));
                }
                other => other?,
            }
            let told: Vec<_> = erased.into_iter().map(|(tombstone, _)| tombstone).collect();
            self.session.vault_mut().drop_erasures(&told)?;
        }
    }

    /// Asks what the network believes by now. What cannot be believed is told, and does not keep messages
    /// away.
    fn refresh(&mut self, now: Timestamp, synced: &mut Synced) -> Result<(), AppError> {
        let told = self.node.trust(None)?;
        let mut taken = self.beliefs.take(&told);
        // Each version vouches for the next: what was missed is taken in order, for as long as that leads on.
        while let Err(TrustError::Missed { current, .. }) = taken {
            taken = self.beliefs.take(&self.node.trust(Some(current + 1))?);
            match &taken {
                Err(TrustError::Missed { current: still, .. }) if *still == current => break,
                Ok(()) => taken = self.beliefs.take(&self.node.trust(None)?),
                Err(_) => {}
            }
        }
        match taken {
            Err(TrustError::File(error)) => return Err(error.into()),
            Err(error) => synced.notices.push(error.to_string()),
            Ok(()) => {
                self.keep_retention(&told.retention)?;
                synced.notices.extend(self.keep_review_terms(told.review)?);
                synced.notices.extend(self.keep_patterns(&told.patterns)?);
            }
        }
        if let Some(behind) = self.beliefs.clock_behind(now) {
            synced.notices.push(format!(
                "this device's clock is more than {behind} seconds behind: certificates are judged by what other trusts have signed; \
                 set the clock"
            ));
        }
        if self.beliefs.charter_ended(now).is_some() {
            synced.notices.push(
                "the network's charter has ended: nothing is accepted until there is a next one".into(),
            );
        }
        Ok(())
    }

    /// Lets what was kept, because a certificate did not hold, go through the gate again. What still does not
    /// pass was told before.
    fn retry(
        &mut self,
        now: Timestamp,
        synced: &mut Synced,
        proposed: &mut BTreeSet<ConversationId>,
    ) -> Result<(), AppError> {
        for number in self.session.vault().unverified()? {
            let Some(record) = self.session.vault().unverified_at(number)? else {
                continue;
            };
            let verified = match self.verify(&record) {
                Ok(verified) => Some(verified),
                Err(refused) if refused.heals => continue,
                Err(refused) => {
                    synced.refused.push(refused.why);
                    None
                }
            };
            self.take(verified.as_ref(), now, synced, proposed, |vault| vault.drop_unverified(number))?;
        }
        let bounds = self.bounds();
        let received = self.session.transaction(|session| {
            let received = session.retry(now)?;
            bounds.limit(session, &received)?;
            Ok::<_, AppError>(received)
        })?;
        for received in received {
            note(received, synced, proposed);
        }
        Ok(())
    }

    /// Takes page after page of the inbox. `proposed`: the conversations in which a trust has proposed to
    /// remove a device.
    fn fetch(
        &mut self,
        now: Timestamp,
        synced: &mut Synced,
        proposed: &mut BTreeSet<ConversationId>,
    ) -> Result<(), AppError> {
        loop {
            let cursor = self.session.vault().cursor(INBOX)?;
            let page = self.node.inbox(cursor)?;
            let mut reached = cursor;
            for item in &page.items {
                if item.seq <= reached {
                    let refusal = "the node's inbox does not go forward; tell your trust's IT";
                    synced.notices.push(refusal.into());
                    return Ok(());
                }
                reached = item.seq;
                self.take_item(item, now, synced, proposed)?;
            }
            if reached > cursor {
                self.node.seen(reached)?;
            }
            if !page.more || reached == cursor {
                self.beliefs.keep_heard()?;
                return Ok(());
            }
        }
    }

    /// Takes one item: the record comes to a session, or is kept, or neither; and the cursor moves on.
    fn take_item(
        &mut self,
        item: &InboxItem,
        now: Timestamp,
        synced: &mut Synced,
        proposed: &mut BTreeSet<ConversationId>,
    ) -> Result<(), AppError> {
        let (mut verified, mut refusal, mut kept) = (None, None, None);
        if let Some(record) = &item.record {
            match self.verify(record) {
                Ok(passed) => verified = Some(passed),
                Err(refused) => {
                    kept = stated_trust(record).filter(|_| refused.heals).map(|t| (record, t));
                    refusal = Some(refused);
                }
            }
        }
        let retention_ends = now.plus_secs(self.retention_secs_max());
        let mut is_kept = false;
        self.take(verified.as_ref(), now, synced, proposed, |vault| {
            if let (Some((record, trust)), Some(refused)) = (kept, &refusal) {
                let expires = refused.expires.map_or(retention_ends, |at| at.min(retention_ends));
                is_kept = vault.keep_unverified(record, &trust, expires)?;
            }
            vault.set_cursor(INBOX, item.seq)
        })?;
        synced.refused.extend(refusal.map(|refused| {
            let next = match (is_kept, refused.heals) {
                (true, _) => "; it is tried again with every sync",
                (false, true) => "; too many wait for such a reason, so it is lost",
                (false, false) => "",
            };
            refused.why + next
        }));
        Ok(())
    }

    /// Brings what was verified to a session and notes where it stood, in one transaction.
    fn take(
        &mut self,
        verified: Option<&Verified>,
        now: Timestamp,
        synced: &mut Synced,
        proposed: &mut BTreeSet<ConversationId>,
        note_place: impl FnOnce(&Vault) -> Result<(), VaultError>,
    ) -> Result<(), AppError> {
        let bounds = self.bounds();
        let outcome = self.session.transaction(|session| {
            let outcome = match verified {
                Some(verified) => deliver(session, verified, now)?,
                None => Outcome::default(),
            };
            bounds.limit(session, &outcome.received)?;
            note_place(session.vault())?;
            Ok::<_, AppError>(outcome)
        })?;
        synced.erased += outcome.erased;
        for received in outcome.received {
            note(received, synced, proposed);
        }
        Ok(())
    }

    /// From bytes to a record whose signer is known.
    fn verify(&mut self, record: &InboxRecord) -> Result<Verified, Refused> {
        let decoded = Decoded::from_bytes(&record.bytes).map_err(|error| Refused {
            why: error.to_string(),
            heals: matches!(error, DecodeError::Version(_)),
            expires: None,
        })?;
        let (id, expires) = (decoded.id(), Some(decoded.header().expires));
        let refused = |why: &dyn std::fmt::Display, heals| Refused {
            why: format!("record {id}: {why}"),
            heals,
            expires,
        };
        let verified = {
            let mut network = self.beliefs.write();
            network.learn_accepted(&record.chain).map_err(|e| refused(&e, may_heal(&e)))?;
            record::verify_accepted(decoded, &network).map_err(|e| refused(&e, is_passing(&e)))?
        };
        self.beliefs.hear(&verified);
        Ok(verified)
    }

    /// Gives up the changes of members that their owner trust has refused for good.
    fn give_up_refused(&mut self, synced: &mut Synced) -> Result<(), AppError> {
        for (conversation, submission) in self.session.vault().submissions()? {
            let owner = conversation.owner();
            let ticks = match self.node.ticks(&submission) {
                // The node does not hold it any more, or says no more of it.
                Err(NodeError::Refused { .. }) => continue,
                other => other?,
            };
            let refused = ticks.custodians.into_iter().find(|t| t.trust == *owner);
            if let Some(code) = refused.and_then(|tick| tick.refused) {
                let is_asked = !self.session.is_carrying_out(&conversation)?;
                self.session.abandon_change(&conversation)?;
                if !is_asked {
                    continue;
                }
                let known = self.session.vault().conversation(&conversation)?;
                let title = known
                    .map(|c| format!("[{}] \"{}\"", c.class.name(), one_line(&c.title)))
                    .unwrap_or_default();
                synced.notices.push(format!(
                    "{owner} refused your change of members of {title} ({code}): it was not made"
                ));
            }
        }
        Ok(())
    }

    /// Commits what trusts have proposed, wherever no other change is waiting. Other members do the same; one
    /// commit wins.
    fn carry_out(&mut self, proposed: &BTreeSet<ConversationId>, now: Timestamp) -> Result<(), AppError> {
        let expires = now.plus_secs(self.retention_secs_max());
        for conversation in proposed {
            match self.session.carry_out(conversation, expires, now) {
                Ok(_)
                | Err(SessionError::ChangePending(_) | SessionError::NotIn(_) | SessionError::Rule(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Tells the node, once for each removal, that nothing of a conversation needs to reach this device any
    /// more.
    fn tell_left(&mut self) -> Result<(), AppError> {
        for conversation in self.session.vault().conversations()? {
            let Some(left) = conversation.left_epoch else {
                continue;
            };
            let told = format!("left/{}", conversation.id);
            if self.session.vault().cursor(&told)? == left {
                continue;
            }
            match self.node.leave(&conversation.id) {
                Err(NodeError::Refused { status: 404, .. }) => {}
                other => other?,
            }
            self.session.vault().set_cursor(&told, left)?;
        }
        Ok(())
    }
}

/// Why a record is not taken.
struct Refused {
    /// Holds none of its content.
    why: String,
    /// Whether that may be otherwise with what the device learns later.
    heals: bool,
    /// When the record says that it ends, if it can be read.
    expires: Option<Timestamp>,
}

/// Whether the record may verify later. Whoever signed it, a wrong signature stays wrong, and so does a right
/// that a kind of key does not have.
fn is_passing(error: &VerifyError) -> bool {
    match error {
        VerifyError::Signer(error) | VerifyError::Content(error) => may_heal(error),
        VerifyError::OtherNetwork
        | VerifyError::Signature
        | VerifyError::Right { .. }
        | VerifyError::OtherTrust { .. }
        | VerifyError::Charter(_) => false,
    }
}

/// The trust that a record's chain states, unverified.
fn stated_trust(record: &InboxRecord) -> Option<TrustId> {
    let leaf = Certificate::parse(record.chain.first()?).ok()?;
    Some(leaf.subject().trust.clone())
}

/// What came of one record.
#[derive(Default)]
struct Outcome {
    received: Vec<Received>,
    erased: usize,
}

type AppSession = Session<std::sync::RwLock<lanyard_crypto::network::Network>>;

fn deliver(session: &mut AppSession, verified: &Verified, now: Timestamp) -> Result<Outcome, AppError> {
    let Some(signer) = verified.signer().trust() else {
        return Ok(Outcome::default());
    };
    match verified.body() {
        Body::Envelope(envelope) => {
            let received = envelope_in(session, verified, envelope, signer, now)?;
            Ok(Outcome { received, erased: 0 })
        }
        Body::Tombstone(tombstone) => {
            // No honest node hands it over. It would erase what nobody has written yet.
            if let Target::UpTo(up_to) | Target::Standing(up_to, _) = tombstone.target
                && up_to > verified.header().issued
            {
                let why = "a deletion that is about a later time than that of its order".into();
                let received = vec![Received::Withheld { id: verified.id(), why }];
                return Ok(Outcome { received, erased: 0 });
            }
            let erased = erase(session, tombstone, signer, verified.header().expires, now)?;
            let erased_at = match tombstone.target {
                // The last message that it could name is gone then.
                Target::Standing(up_to, secs) => up_to.plus_secs(secs).max(now),
                Target::Envelopes(_) | Target::UpTo(_) => now,
            };
            session.vault().put_erasure(&verified.id(), erased_at)?;
            Ok(Outcome { received: Vec::new(), erased })
        }
        Body::Charter(_) | Body::Crl(_) | Body::Entry(_) | Body::Receipt(_) | Body::Head(_) => {
            Ok(Outcome::default())
        }
    }
}

fn envelope_in(
    session: &mut AppSession,
    verified: &Verified,
    envelope: &Envelope,
    signer: &TrustId,
    now: Timestamp,
) -> Result<Vec<Received>, AppError> {
    let id = verified.id();
    let withheld = |why: String| vec![Received::Withheld { id, why }];
    let owner = envelope.conversation.owner();
    if matches!(envelope.class, Class::Commit | Class::Welcome) && signer != owner {
        return Ok(withheld(format!(
            "a {} of {owner}'s conversation, signed by {signer}",
            envelope.class.name()
        )));
    }
    let header = verified.header();
    let incoming = Incoming {
        id,
        signer: signer.clone(),
        envelope: envelope.clone(),
        issued: header.issued,
        expires: header.expires,
    };
    Ok(session.receive(&incoming, now)?)
}

/// Erases what a tombstone names, as far as its signer's trust may: the trust of the sender, or the
/// conversation's owner. What has not arrived yet is noted, with the signer's trust, which then decides.
fn erase(
    session: &mut AppSession,
    tombstone: &Tombstone,
    signer: &TrustId,
    expires: Timestamp,
    now: Timestamp,
) -> Result<usize, AppError> {
    let conversation = &tombstone.conversation;
    let vault = session.vault_mut();
    match &tombstone.target {
        Target::UpTo(moment) if signer == conversation.owner() => {
            Ok(vault.erase_up_to(conversation, *moment, expires)?)
        }
        Target::Standing(moment, secs) if signer == conversation.owner() => {
            vault.erase_after(conversation, *moment, *secs, expires)?;
            Ok(0)
        }
        // Only the owner orders for what nobody has seen yet; no node takes it from another.
        Target::Standing(..) => Ok(0),
        Target::UpTo(moment) => {
            let all = vault.messages(conversation, ERASED_MAX, now)?;
            let named = all.into_iter().filter(|m| m.trust == *signer && m.issued <= *moment);
            let ids: Vec<RecordId> = named.filter_map(|m| m.id).collect();
            Ok(vault.erase(conversation, &ids, signer, expires)?)
        }
        Target::Envelopes(named) => Ok(vault.erase(conversation, named, signer, expires)?),
    }
}

fn note(received: Received, synced: &mut Synced, proposed: &mut BTreeSet<ConversationId>) {
    match received {
        Received::Message(_) => synced.received += 1,
        Received::Joined(_) => synced.joined += 1,
        Received::Changed(Changed { lost, .. }) => {
            synced.changed += 1;
            if lost {
                let notice =
                    "another change of members came first, so yours was not made: look, and make it again";
                synced.notices.push(notice.into());
            }
        }
        Received::Removed(_) => {
            synced.changed += 1;
            synced.notices.push("you were taken out of a conversation".into());
        }
        Received::Proposed(conversation) => {
            proposed.insert(conversation);
        }
        Received::Withheld { id, why } => synced.refused.push(format!("record {id}: {why}")),
        Received::Unreadable { id, class, why } => {
            synced.refused.push(format!("record {id}: {} that cannot be read: {why}", class.name()));
        }
        Received::Titled(_)
        | Received::Own(_)
        | Received::Held(_)
        | Received::Nothing
        | Received::Gone(_) => {}
    }
}
