//! Storing an admitted record, with all that follows from it in the same batch.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use lanyard_crypto::mls::key_package;
use lanyard_crypto::mls::peek::Peek;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{Body, Class, Entry, Envelope, Kind, Verified};
use lanyard_crypto::{ConversationId, Fingerprint, RecordId, Timestamp, cbor, limits};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::Replica;
use crate::admit::{self, Admitted};
use crate::audit::repeats::Repeated;
use crate::audit::{AuditEntry, heads};
use crate::destruction;
use crate::digest;
use crate::erase;
use crate::holding::{Holding, node_trust};
use crate::input::Output;
use crate::keys;
use crate::late_orders;
use crate::limits::SCAN_ROWS;
use crate::mutation::{self, Mutation};
use crate::query;
use crate::spread;
use crate::turn::Turn;
use crate::void_orders;

impl Replica {
    /// Stores a record. `origin` means that this node makes it known to others: it signed it, or its own trust's registrar
    /// or operator handed it in.
    pub(crate) fn keep(
        &mut self,
        turn: &mut Turn<'_>,
        admitted: &Admitted,
        origin: bool,
    ) -> Result<(), StorageError> {
        let record = admitted.record();
        let (id, held) = (record.id(), admitted.held());
        turn.rows.put(held.tree(), *id.as_bytes(), record.bytes().to_vec());
        turn.rows.put(Tree::Holdings, *id.as_bytes(), held.to_row());
        turn.rows.put(Tree::Expiry, keys::expiry(held.expires, &id), [held.kind]);
        digest::enter(turn, &id, held);
        self.follow(turn, record, held)?;
        if let (Body::Envelope(envelope), false) = (record.body(), origin)
            && envelope.class == Class::Commit
            && *envelope.conversation.owner() == self.own.trust
        {
            self.catch_up(turn, &envelope.conversation)?;
        }
        if origin {
            self.spread(turn, record, held)?;
        }
        Ok(())
    }

    fn follow(&mut self, turn: &mut Turn<'_>, record: &Verified, held: &Holding) -> Result<(), StorageError> {
        match record.body() {
            Body::Charter(_) => self.follow_charter(turn, record),
            Body::Crl(_) => self.follow_crl(turn, record),
            Body::Entry(entry) => self.follow_entry(turn, record, entry),
            Body::Envelope(envelope) => follow_envelope(turn, &record.id(), envelope, held),
            Body::Tombstone(tombstone) => {
                let Some(by) = node_trust(record.signer()) else {
                    unreachable!("nodes alone sign tombstones")
                };
                let entry = AuditEntry::new("deletion-ordered", tombstone.reason.name(), "");
                let entry = entry.record(record.id()).trust(by.clone());
                if *by == self.own.trust {
                    turn.audit(entry)?;
                } else {
                    turn.repeated.push((Some(by.clone()), Repeated::Deletion, entry));
                }
                if let Some(signer) = record.decoded().signer() {
                    self.keep_chain(turn, &signer)?;
                }
                destruction::enter(turn, record, tombstone, &self.network, &self.own.trust)?;
                self.follow_early(turn, record)?;
                erase::carry_out(turn, record, tombstone)
            }
            Body::Receipt(receipt) => self.follow_receipt(turn, record, receipt),
            Body::Head(_) => heads::follow(turn, record),
        }
    }

    fn follow_charter(&mut self, turn: &mut Turn<'_>, record: &Verified) -> Result<(), StorageError> {
        let Body::Charter(charter) = record.body() else { unreachable!("called with a charter") };
        let network =
            Network::new(record.decoded().statement(), record.header(), charter, Some(&self.network))
                .expect("a verified charter has passed the same checks");
        self.network = Arc::new(network);
        self.walk.begin();
        self.look_for_revoked_pins();
        self.learn_again(turn)?;
        let stranger = |trust| self.network.charter().member(trust).is_none();
        let dropped: Vec<_> =
            self.connected.iter().filter(|(_, trust)| stranger(trust)).map(|(node, _)| *node).collect();
        for node in dropped {
            self.drop_peer(turn, node, "unknown-trust", "its trust is not in the charter any more")?;
        }
        turn.rows.put(Tree::Meta, "charter", *record.id().as_bytes());
        turn.trust_changed = true;
        turn.audit(
            AuditEntry::new("charter", "", format!("version {} is in force", charter.version))
                .record(record.id()),
        )
    }

    /// Learns from what is stored whom a new charter lets in again, and what their registrars have revoked: a replica that was
    /// opened while they were out knows neither.
    fn learn_again(&mut self, turn: &Turn<'_>) -> Result<(), StorageError> {
        let network = Arc::make_mut(&mut self.network);
        let forgets = mutation::is(Mutation::ForgetRevocations);
        let trees = [Tree::Directory, Tree::Revocations].into_iter().take(2 - usize::from(forgets));
        for tree in trees {
            query::for_each(&turn.rows, tree, &[], |_, row| {
                if let Ok(id) = RecordId::try_from(row)
                    && let Some((_, record)) = admit::stored(&turn.rows, &id)?
                {
                    network.restore(&record);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn follow_crl(&mut self, turn: &mut Turn<'_>, record: &Verified) -> Result<(), StorageError> {
        let Some((issuer, list)) = record.revocations() else {
            unreachable!("a verified CRL record carries its list")
        };
        let issuer_id = issuer.fingerprint();
        replace(turn, Tree::Revocations, &issuer_id, &record.id())?;
        Arc::make_mut(&mut self.network).revoke(issuer_id, list.clone());
        self.leavers.begin();
        if issuer.subject().trust == self.own.trust {
            self.look_for_revoked_pins();
            self.clear_pins(turn)?;
        }
        turn.trust_changed = true;
        turn.audit(
            AuditEntry::new("revocations", "", "a newer list is in force")
                .trust(issuer.subject().trust.clone())
                .record(record.id()),
        )
    }

    fn follow_entry(
        &mut self,
        turn: &mut Turn<'_>,
        record: &Verified,
        entry: &Entry,
    ) -> Result<(), StorageError> {
        let Some(subject) = record.subject() else { unreachable!("a verified entry carries its subject") };
        let device = subject.fingerprint();
        replace(turn, Tree::Directory, &device, &record.id())?;
        // Verification has just passed; the chain is learnt for the records that it will sign.
        if Arc::make_mut(&mut self.network).learn(&entry.chain).is_ok() {
            turn.trust_changed = true;
        }
        if let (Some(package), true) = (&entry.key_package, subject.subject().trust == self.own.trust)
            && let Ok(summary) = key_package::inspect(self.network.clone(), package, self.network.time(turn.now))
            // Of another device, it would lead that one's welcomes to this one.
            && summary.device.fingerprint == device
        {
            turn.rows.put(Tree::Packages, summary.reference, *device.as_bytes());
        }
        Ok(())
    }
}

/// Makes `id` the newest record of a subject, and drops the one before.
fn replace(
    turn: &mut Turn<'_>,
    tree: Tree,
    subject: &Fingerprint,
    id: &RecordId,
) -> Result<(), StorageError> {
    let before =
        turn.rows.get(tree, subject.as_bytes())?.and_then(|row| RecordId::try_from(row.as_slice()).ok());
    if let Some(before) = before
        && let Some(held) = Holding::get(&turn.rows, &before)?
    {
        erase::erase(turn, &before, &held)?;
    }
    turn.rows.put(tree, *subject.as_bytes(), *id.as_bytes());
    Ok(())
}

fn follow_envelope(
    turn: &mut Turn<'_>,
    id: &RecordId,
    envelope: &Envelope,
    held: &Holding,
) -> Result<(), StorageError> {
    let conversation = &envelope.conversation;
    let row = keys::conversation_row(conversation, held.issued, id);
    turn.rows.put(Tree::Conversations, row, [envelope.class as u8]);
    match envelope.class {
        Class::Submission => return Ok(()),
        Class::Application => void_orders::drop_void_orders(turn, id)?,
        Class::Commit if admit::is_proposal(envelope) => {
            // For its hub, which may be restored without having made it.
            turn.rows.put(Tree::Meta, keys::proposal(conversation, id), envelope.epoch.to_be_bytes());
        }
        Class::Commit => {
            turn.rows.put(Tree::Epochs, keys::epoch(conversation, envelope.epoch), *id.as_bytes());
        }
        Class::Welcome => {
            for device in welcomed(&turn.rows, &envelope.content)? {
                let new = !turn.rows.contains(Tree::Members, &keys::member(conversation, &device))?;
                spread::serve(turn, conversation, &device)?;
                turn.deliver(&device, id)?;
                // The epoch began when the welcome was issued, by the owner's clock.
                let since = held.issued.minus_secs(2 * limits::CLOCK_SKEW_SECS_MAX);
                late_orders::since(turn, since)?;
                if new && !mutation::is(Mutation::SkipBacklog) {
                    let from = keys::conversation_row(conversation, since, &RecordId::new([0; 32]));
                    deliver_backlog(
                        turn,
                        &device,
                        conversation,
                        &Backlog { epoch: envelope.epoch, from: ByteBuf::from(from) },
                    )?;
                }
            }
            return Ok(());
        }
    }
    for device in spread::local_members(&turn.rows, conversation)? {
        turn.deliver(&device, id)?;
    }
    Ok(())
}

/// A note in [`Tree::Meta`]: what came here before a device's welcome did, and is yet to be delivered to it.
#[derive(Serialize, Deserialize)]
struct Backlog {
    /// Of the welcome: what was written in it, or after it, is for the device.
    epoch: u64,
    /// The row of [`Tree::Conversations`] to begin with.
    from: ByteBuf,
}

/// Delivers a backlog, as much as one step takes. The rest is noted, for [`go_on`].
fn deliver_backlog(
    turn: &mut Turn<'_>,
    device: &Fingerprint,
    conversation: &ConversationId,
    backlog: &Backlog,
) -> Result<(), StorageError> {
    let name = keys::backlog(conversation, device);
    let high =
        keys::conversation_row(conversation, Timestamp::from_secs(u64::MAX), &RecordId::new([255; 32]));
    let mut from = backlog.from.to_vec();
    loop {
        let range = (Bound::Included(from.as_slice()), Bound::Included(high.as_slice()));
        let rows = turn.rows.scan(Tree::Conversations, range, SCAN_ROWS)?;
        let Some((last, _)) = rows.last() else {
            turn.rows.delete(Tree::Meta, name);
            return Ok(());
        };
        let next = [last.as_slice(), &[0]].concat();
        for (key, _) in &rows {
            if turn.is_full() {
                let rest = Backlog { epoch: backlog.epoch, from: ByteBuf::from(key.clone()) };
                turn.rows.put(Tree::Meta, name, cbor::to_vec(&rest));
                return Ok(());
            }
            let Some(id) = key.last_chunk::<32>().map(|id| RecordId::new(*id)) else { continue };
            if let Some((_, record)) = admit::stored(&turn.rows, &id)?
                && let Body::Envelope(Envelope { class: Class::Application | Class::Commit, epoch, .. }) =
                    record.body()
                && *epoch >= backlog.epoch
            {
                turn.deliver(device, &id)?;
            }
        }
        from = next;
    }
}

/// Goes on with the backlogs that earlier steps have left.
pub(crate) fn go_on(turn: &mut Turn<'_>) -> Result<(), StorageError> {
    for (key, row) in turn.rows.scan_prefix(Tree::Meta, keys::BACKLOGS, SCAN_ROWS)? {
        match (keys::backlog_parts(&key), cbor::from_slice::<Backlog>(&row, 1024)) {
            (Some((device, conversation)), Ok(backlog))
                if turn.rows.contains(Tree::Members, &keys::member(&conversation, &device))? =>
            {
                deliver_backlog(turn, &device, &conversation, &backlog)?
            }
            _ => turn.rows.delete(Tree::Meta, key),
        }
    }
    Ok(())
}

/// Whether a welcome to this epoch or a later one, issued since then, is held for a device of this trust.
pub(crate) fn is_welcomed(
    view: &dyn View,
    conversation: &ConversationId,
    device: &Fingerprint,
    (epoch, since): (u64, Timestamp),
) -> Result<bool, StorageError> {
    let mut from = keys::conversation_row(conversation, since, &RecordId::new([0; 32]));
    let high =
        keys::conversation_row(conversation, Timestamp::from_secs(u64::MAX), &RecordId::new([255; 32]));
    loop {
        let range = (Bound::Included(from.as_slice()), Bound::Included(high.as_slice()));
        let rows = view.scan(Tree::Conversations, range, SCAN_ROWS)?;
        let Some((last, _)) = rows.last() else { return Ok(false) };
        let next = [last.as_slice(), &[0]].concat();
        for (key, _) in rows.iter().filter(|(_, class)| class[..] == [Class::Welcome as u8]) {
            let Some(id) = key.last_chunk::<32>().map(|id| RecordId::new(*id)) else { continue };
            if let Some((_, record)) = admit::stored(view, &id)?
                && let Body::Envelope(welcome) = record.body()
                && welcome.epoch >= epoch
                && welcomed(view, &welcome.content)?.contains(device)
            {
                return Ok(true);
            }
        }
        from = next;
    }
}

/// The devices of this trust that a welcome is for, by the key packages that it names.
fn welcomed(view: &dyn View, content: &[u8]) -> Result<BTreeSet<Fingerprint>, StorageError> {
    let Ok(Peek::Welcome { recipients }) = Peek::of(content, limits::HANDSHAKE_RECORD_BYTES_MAX) else {
        return Ok(BTreeSet::new());
    };
    let mut devices = BTreeSet::new();
    for reference in recipients.iter().take(limits::WELCOME_RECIPIENTS_MAX) {
        let device = view.get(Tree::Packages, reference)?;
        devices.extend(device.and_then(|d| Fingerprint::try_from(d.as_slice()).ok()));
    }
    Ok(devices)
}

impl Replica {
    /// Sends a record on its way to the other custodians. One that can't be reached directly gets it by gossip; what
    /// everybody must know travels so in any case.
    fn spread(&self, turn: &mut Turn<'_>, record: &Verified, held: &Holding) -> Result<(), StorageError> {
        let members = self.network.charter().trusts.iter().map(|m| &m.trust);
        let to: Vec<_> = members
            .filter(|t| **t != self.own.trust && (held.is_for(t) || mutation::is(Mutation::SendToAnyone)))
            .cloned()
            .collect();
        let mut unreached = false;
        for trust in &to {
            spread::enqueue(turn, &record.id(), trust)?;
            unreached |= !self.connected.values().any(|t| t == trust);
        }
        let always = held.kind != Kind::Envelope as u8 && held.kind != Kind::Receipt as u8;
        // A head has time, and by gossip it may come before the certificate of its node.
        let never = held.kind == Kind::Head as u8;
        if !to.is_empty() && (always || unreached) && !never {
            turn.outputs.push(Output::Publish(record.bytes().clone()));
        }
        Ok(())
    }
}
