//! What clients and operators ask for.

use std::collections::BTreeSet;

use lanyard_crypto::gateway::SendRequest;
use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::mls::PublicGroup;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{
    self, Body, Class, Envelope, Header, Reason, Submission, Target, Tombstone, Verified,
};
use lanyard_crypto::{ConversationId, Fingerprint, RecordId, Timestamp, TrustId, cbor, limits};
use lanyard_storage::{StorageError, Tree, View};

use crate::Replica;
use crate::admit::{self, Admission};
use crate::audit::AuditEntry;
use crate::audit::repeats::Repeated;
use crate::bar;
use crate::destruction;
use crate::erase;
use crate::hold;
use crate::holding::Holding;
use crate::input::{Deleter, Reply, Request};
use crate::keys;
use crate::limits::SCAN_ROWS;
use crate::mutation::{self, Mutation};
use crate::pin;
use crate::query;
use crate::restored;
use crate::spread;
use crate::turn::Turn;
use crate::verdict::Refusal;

impl Replica {
    pub(crate) fn request(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: u64,
        request: Request,
    ) -> Result<(), StorageError> {
        let tried_by = if let Request::Pin { device, .. } = &request { Some(*device) } else { None };
        let barred = self.is_barred(&request);
        let outcome = match request {
            _ if barred => Err(Refusal::Revoked),
            // Nor is it known which PINs were tried, changed or destroyed since the backup, and which devices revoked.
            Request::Send { .. } | Request::Pin { .. } if restored::is_marked(&turn.rows)? => {
                Err(Refusal::Restored)
            }
            Request::Send { device, request } => self.send(turn, &device, request)?,
            Request::Delete { by, conversation, target, reason, reference } => {
                self.delete(turn, by, conversation, target, reason, reference)?
            }
            Request::DeleteSent { devices, all, reason, reference } => {
                self.delete_sent(turn, &devices, all, reason, reference)?
            }
            Request::PlaceHold { conversation, reference, reason, until } => {
                hold::place(turn, conversation, reference, reason, until)?
            }
            Request::EndHold { conversation, reference } => hold::end(turn, &conversation, reference)?,
            Request::Seen { device, seq } => seen(turn, &device, seq)?,
            Request::Leave { device, conversation } => {
                spread::serve_no_more(turn, &conversation, &device)?;
                Ok(Reply::Done)
            }
            Request::Erased { device, lines } => self.erased_by(turn, &device, &lines)?,
            Request::Pin { device, request } => self.pin(turn, &device, request)?,
            Request::Bar(devices) => Ok(self.bar(turn, devices)?),
            Request::PinSecret(secret) => {
                pin::keep_secret(turn, &secret)?;
                Ok(Reply::Done)
            }
            Request::Seal(digest) => {
                let (certificate, key) = (self.own.certificate, &self.own.key);
                let seal = record::seal(self.network.id(), digest, turn.now, certificate, key);
                turn.audit(AuditEntry::new("deletions-exported", "", "a report of deletions was sealed"))?;
                Ok(Reply::Sealed { seal, chain: self.own.chain.clone() })
            }
            Request::Present(device) => {
                destruction::seen(turn, &device)?;
                Ok(Reply::Done)
            }
            Request::SignHead => self.sign_head(turn)?,
            Request::Restoration => Ok(self.restoration(turn)?),
            Request::LeaveOut(gone) => self.leave_out(turn, gone)?,
        };
        if let Err(why) = &outcome {
            let detail = tried_by.map_or_else(|| why.to_string(), |device| format!("device {device}: {why}"));
            let entry = AuditEntry::new("request-refused", why.ruling().code, detail);
            // Who has found a device can try for as long as it likes, and must not fill the log with that.
            match tried_by {
                Some(_) => turn.repeated.push((Some(self.own.trust.clone()), Repeated::Refusal, entry)),
                None => turn.audit(entry)?,
            }
        }
        turn.reply(ticket, outcome.map_err(|why| why.to_answer()));
        Ok(())
    }

    fn send(
        &mut self,
        turn: &mut Turn<'_>,
        device: &Fingerprint,
        request: SendRequest,
    ) -> Result<Result<Reply, Refusal>, StorageError> {
        let SendRequest { conversation, epoch, class, content, custodians, expires } = request;
        let owner = conversation.owner().clone();
        let custodians: BTreeSet<TrustId> = match class {
            Class::Application => {
                custodians.into_iter().chain([owner.clone(), self.own.trust.clone()]).collect()
            }
            Class::Submission => [owner.clone(), self.own.trust.clone()].into(),
            Class::Commit | Class::Welcome => return Ok(Err(Refusal::NotOwner(owner.to_string()))),
        };
        if let Some(stranger) = custodians.iter().find(|t| self.network.charter().member(t).is_none()) {
            return Ok(Err(Refusal::Custodians(format!("{stranger} is not in the charter"))));
        }
        let member = turn.rows.contains(Tree::Members, &keys::member(&conversation, device))?;
        let unknown = !turn.rows.contains(Tree::Hub, &keys::conversation(&conversation))?;
        let founds =
            !member && unknown && class == Class::Submission && owner == self.own.trust && founding(&content);
        if !member && !founds {
            return Ok(Err(Refusal::NotMember));
        }
        let handed_in = keys::handed_in(device, &content);
        if let Some((id, issued)) = known(turn, &handed_in)? {
            return Ok(Ok(Reply::Sent { id, issued }));
        }
        let issued = match class {
            Class::Application => erase::issue_after(&turn.rows, &conversation, turn.now)?,
            _ => turn.now,
        };
        bar::issued(turn, issued)?;
        let header = Header {
            network: Some(self.network.id()),
            custodians: custodians.into_iter().collect(),
            issued,
            expires,
        };
        let body = Body::Envelope(Envelope { conversation: conversation.clone(), epoch, class, content });
        if founds {
            turn.readers = None;
            turn.rows.put(Tree::Members, keys::member(&conversation, device), []);
        }
        let outcome = self.originate(turn, header, body)?;
        match &outcome {
            Ok(id) if class == Class::Application => {
                turn.rows.put(Tree::Submitted, *id.as_bytes(), handed_in.clone());
                turn.rows.put(Tree::Submitted, handed_in, *id.as_bytes());
            }
            Err(_) if founds => {
                turn.readers = None;
                turn.rows.delete(Tree::Members, keys::member(&conversation, device));
            }
            _ => {}
        }
        Ok(outcome.map(|id| Reply::Sent { id, issued }))
    }

    pub(crate) fn delete(
        &mut self,
        turn: &mut Turn<'_>,
        by: Deleter,
        conversation: ConversationId,
        target: Target,
        reason: Reason,
        reference: Vec<u8>,
    ) -> Result<Result<Reply, Refusal>, StorageError> {
        let mut custodians = BTreeSet::new();
        let margin = 2 * CLOCK_SKEW_SECS_MAX;
        let mut expires = turn.now.plus_secs(margin);
        let target = match target {
            Target::Envelopes(ids) => {
                Target::Envelopes(ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect())
            }
            up_to @ (Target::UpTo(_) | Target::Standing(..)) => up_to,
        };
        match &target {
            Target::Envelopes(ids) => {
                for id in ids {
                    let held = Holding::get(&turn.rows, id)?;
                    let Some(held) = held.filter(|h| h.conversation.as_ref() == Some(&conversation)) else {
                        return Ok(Err(Refusal::NotFound(format!("message {id}"))));
                    };
                    if let Deleter::Device(device) | Deleter::Administrator(device) = by
                        && !turn
                            .rows
                            .get(Tree::Submitted, id.as_bytes())?
                            .is_some_and(|row| row.starts_with(device.as_bytes()))
                    {
                        return Ok(Err(Refusal::NotSender(format!("message {id}"))));
                    }
                    expires = expires.max(held.stated().plus_secs(margin));
                    custodians.extend(held.custodians);
                }
            }
            Target::UpTo(up_to) | Target::Standing(up_to, _) => {
                match by {
                    Deleter::Officer => {}
                    Deleter::Device(_) => {
                        return Ok(Err(Refusal::NotSender(format!("all of {conversation}"))));
                    }
                    Deleter::Administrator(device) => {
                        if !self.administers(turn, &device, &conversation)? {
                            return Ok(Err(Refusal::NotAdministrator(conversation.owner().to_string())));
                        }
                    }
                }
                if let Some(group) = self.hub_group(turn, &conversation)? {
                    custodians.extend(group.trusts().unwrap_or_default());
                }
                // Whatever an earlier charter let in, or a later one will.
                expires = expires.max(up_to.plus_secs(limits::RETENTION_SECS_MAX + margin));
                query::for_each(
                    &turn.rows,
                    Tree::Conversations,
                    &keys::conversation(&conversation),
                    |key, _| {
                        let id = key.last_chunk::<32>().map(|id| RecordId::new(*id));
                        if let Some(held) = id.map(|id| Holding::get(&turn.rows, &id)).transpose()?.flatten()
                        {
                            custodians.extend(held.custodians);
                        }
                        Ok(())
                    },
                )?;
            }
        }
        let parts = self.custodians_of_order(custodians, conversation.owner());
        let body = Body::Tombstone(Tombstone { conversation, target, reason, reference });
        let mut first = None;
        for custodians in parts {
            let header = Header { network: Some(self.network.id()), custodians, issued: turn.now, expires };
            match self.originate(turn, header, body.clone())? {
                Ok(id) => first = first.or(Some(id)),
                Err(why) => return Ok(Err(why)),
            }
        }
        Ok(first.map(Reply::Deleted).ok_or_else(|| Refusal::Custodians("there are none".into())))
    }

    /// Who is given an order about what these keep, in as many parts as records are needed for it: this trust and the owner are in each.
    ///
    /// Whoever signs an envelope states its custodians, and may make some up: an order goes to members of the charter alone.
    fn custodians_of_order(&self, mut of: BTreeSet<TrustId>, owner: &TrustId) -> Vec<Vec<TrustId>> {
        let always = BTreeSet::from([self.own.trust.clone(), owner.clone()]);
        of.retain(|trust| !always.contains(trust) && self.network.charter().member(trust).is_some());
        let others: Vec<_> = of.into_iter().collect();
        let part = |others: &[TrustId]| {
            let part: BTreeSet<_> = always.iter().chain(others).cloned().collect();
            part.into_iter().collect()
        };
        if others.is_empty() {
            return vec![part(&[])];
        }
        others.chunks(limits::CUSTODIANS_MAX - always.len()).map(part).collect()
    }

    /// A conversation of this trust, as its hub knows it.
    pub(crate) fn hub_group(
        &self,
        turn: &Turn<'_>,
        conversation: &ConversationId,
    ) -> Result<Option<PublicGroup<Network>>, StorageError> {
        let state = turn.rows.get(Tree::Hub, &keys::conversation(conversation))?;
        Ok(state.and_then(|state| PublicGroup::load(self.network.clone(), &state, None).ok()))
    }

    /// Whether the person of this device administers a conversation of this trust, as its hub knows it.
    fn administers(
        &self,
        turn: &Turn<'_>,
        device: &Fingerprint,
        conversation: &ConversationId,
    ) -> Result<bool, StorageError> {
        let group = self.hub_group(turn, conversation)?;
        let Some(group) = group.filter(|_| *conversation.owner() == self.own.trust) else { return Ok(false) };
        let members = group.members().unwrap_or_default();
        Ok(members.iter().any(|m| {
            m.device.fingerprint == *device
                && m.device.trust == self.own.trust
                && group.policy().is_admin(&m.device.person)
        }))
    }

    /// Deletes messages of one conversation that these devices have handed in, as many as one tombstone names. Those that one names
    /// already wait for their erasure.
    fn delete_sent(
        &mut self,
        turn: &mut Turn<'_>,
        devices: &[Fingerprint],
        all: bool,
        reason: Reason,
        reference: Vec<u8>,
    ) -> Result<Result<Reply, Refusal>, StorageError> {
        let (mut of, mut ids): (Option<ConversationId>, Vec<RecordId>) = (None, Vec::new());
        for device in devices {
            query::for_each(&turn.rows, Tree::Submitted, device.as_bytes(), |key, row| {
                let Ok(id) = RecordId::try_from(row) else { return Ok(()) };
                if key.len() != 64 || ids.len() == limits::TOMBSTONE_TARGETS_MAX {
                    return Ok(());
                }
                let Some(held) = Holding::get(&turn.rows, &id)? else { return Ok(()) };
                let Some(conversation) = &held.conversation else { return Ok(()) };
                let meant = all || *conversation.owner() == self.own.trust;
                if meant
                    && held.class == Some(Class::Application)
                    && of.as_ref().is_none_or(|of| of == conversation)
                    && erase::tombstone_for(&turn.rows, &id, &held)?.is_none()
                {
                    of = Some(conversation.clone());
                    ids.push(id);
                }
                Ok(())
            })?;
        }
        let Some(conversation) = of else { return Ok(Ok(Reply::Done)) };
        let (envelopes, target) = (ids.len(), Target::Envelopes(ids));
        let deleted = self.delete(turn, Deleter::Officer, conversation.clone(), target, reason, reference)?;
        Ok(deleted.map(|reply| match reply {
            Reply::Deleted(tombstone) => Reply::SomeDeleted { tombstone, conversation, envelopes },
            other => other,
        }))
    }

    /// Signs a record as this node, and stores and spreads it as any other.
    pub(crate) fn originate(
        &mut self,
        turn: &mut Turn<'_>,
        header: Header,
        body: Body,
    ) -> Result<Result<RecordId, Refusal>, StorageError> {
        match self.signed(header, body) {
            Ok(verified) => self.take_own(turn, verified),
            Err(why) => Ok(Err(why)),
        }
    }

    /// Signs a record as this node, unless others would not believe it.
    pub(crate) fn signed(&self, header: Header, body: Body) -> Result<Verified, Refusal> {
        let signed = record::sign(header, body, self.own.certificate, &self.own.key)?;
        Ok(record::verify(signed, &self.network)?)
    }

    fn take_own(
        &mut self,
        turn: &mut Turn<'_>,
        verified: Verified,
    ) -> Result<Result<RecordId, Refusal>, StorageError> {
        let id = verified.id();
        match admit::admit(verified, &self.own.trust, &self.network, &turn.rows, turn.now)? {
            Admission::Known => Ok(Ok(id)),
            Admission::No(why) => Ok(Err(why)),
            Admission::New(admitted) => {
                if self.orders(admitted.record()) {
                    return self.order(turn, admitted.record());
                }
                self.keep(turn, &admitted, true)?;
                Ok(Ok(id))
            }
        }
    }

    /// Whether this is a submission to a conversation of this trust, which is ordered rather than kept.
    pub(crate) fn orders(&self, record: &Verified) -> bool {
        matches!(record.body(), Body::Envelope(e)
            if e.class == Class::Submission && *e.conversation.owner() == self.own.trust)
    }
}

/// The message that this device has handed in already: the answer was lost, and a second envelope for the same message would
/// outlive the deletion of the first.
fn known(turn: &Turn<'_>, handed_in: &[u8]) -> Result<Option<(RecordId, Timestamp)>, StorageError> {
    if mutation::is(Mutation::ForgetHandedIn) {
        return Ok(None);
    }
    let row = turn.rows.get(Tree::Submitted, handed_in)?;
    let Some(id) = row.and_then(|row| RecordId::try_from(row.as_slice()).ok()) else { return Ok(None) };
    Ok(Holding::get(&turn.rows, &id)?.map(|held| (id, held.issued)))
}

fn founding(content: &[u8]) -> bool {
    let submission = cbor::from_slice::<Submission>(content, limits::HANDSHAKE_RECORD_BYTES_MAX);
    submission.is_ok_and(|s| s.group_info.is_some())
}

fn seen(turn: &mut Turn<'_>, device: &Fingerprint, seq: u64) -> Result<Result<Reply, Refusal>, StorageError> {
    use std::ops::Bound;
    let (from, until) = (keys::inbox(device, 0), keys::inbox(device, seq));
    let range = (Bound::Included(from.as_slice()), Bound::Included(until.as_slice()));
    for (key, _) in turn.rows.scan(Tree::Inbox, range, SCAN_ROWS)? {
        turn.rows.delete(Tree::Inbox, key);
    }
    Ok(Ok(Reply::Done))
}
