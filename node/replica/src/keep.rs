//! Storing an admitted record, with all that follows from it in the same batch.

use lanyard_crypto::mls::key_package;
use lanyard_crypto::mls::peek::Peek;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{Body, Class, Entry, Envelope, Kind, Receipt, Verified};
use lanyard_crypto::{Fingerprint, RecordId, Timestamp, limits};
use lanyard_storage::{StorageError, Tree, View};
use std::sync::Arc;

use crate::Replica;
use crate::admit::{self, Admitted};
use crate::audit::AuditEntry;
use crate::erase;
use crate::holding::{Holding, node_trust};
use crate::input::Output;
use crate::keys;
use crate::limits::{BACKLOG_MAX, LOCAL_MEMBERS_MAX};
use crate::query;
use crate::spread;
use crate::turn::Turn;

impl Replica {
    /// Stores a record. `origin` means that this node makes it known to others: it signed it, or its own trust's registrar
    /// or operator handed it in.
    pub(crate) fn keep(&mut self, turn: &mut Turn<'_>, admitted: &Admitted, origin: bool) -> Result<(), StorageError> {
        let record = admitted.record();
        let (id, held) = (record.id(), Holding::of(record));
        turn.rows.put(held.tree(), *id.as_bytes(), record.bytes().to_vec());
        turn.rows.put(Tree::Holdings, *id.as_bytes(), held.to_row());
        turn.rows.put(Tree::Expiry, keys::expiry(held.expires, &id), [held.kind]);
        if let Some(layer) = held.layer() {
            turn.rows.put(Tree::Index, keys::index(layer, held.issued, &id), held.to_row());
        }
        self.follow(turn, record, &held)?;
        if origin {
            self.spread(turn, record, &held)?;
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
                let entry = AuditEntry::new("deletion-ordered", tombstone.reason.name(), "").record(record.id());
                turn.audit(match node_trust(record.signer()) {
                    Some(trust) => entry.trust(trust.clone()),
                    None => entry,
                })?;
                erase::carry_out(turn, record, tombstone)
            }
            Body::Receipt(receipt) => {
                follow_receipt(turn, record, receipt);
                Ok(())
            }
        }
    }

    fn follow_charter(&mut self, turn: &mut Turn<'_>, record: &Verified) -> Result<(), StorageError> {
        let Body::Charter(charter) = record.body() else { unreachable!("called with a charter") };
        let network = Network::new(record.decoded().statement(), record.header(), charter, Some(&self.network))
            .expect("a verified charter has passed the same checks");
        self.network = Arc::new(network);
        self.learn_again(turn)?;
        let network = self.network.clone();
        for (node, _) in self.connected.iter().filter(|(_, trust)| network.charter().member(trust).is_none()) {
            turn.outputs.push(Output::Disconnect { node: *node, why: "its trust is not in the charter any more".into() });
        }
        self.connected.retain(|_, trust| network.charter().member(trust).is_some());
        turn.rows.put(Tree::Meta, "charter", *record.id().as_bytes());
        turn.trust_changed = true;
        turn.audit(AuditEntry::new("charter", "", format!("version {} is in force", charter.version)).record(record.id()))
    }

    /// Learns from the directory whom a new charter lets in again.
    fn learn_again(&mut self, turn: &Turn<'_>) -> Result<(), StorageError> {
        let network = Arc::make_mut(&mut self.network);
        query::for_each(&turn.rows, Tree::Directory, &[], |_, row| {
            if let Ok(id) = RecordId::try_from(row)
                && let Some((_, record)) = admit::stored(&turn.rows, &id)?
            {
                network.restore(&record);
            }
            Ok(())
        })
    }

    fn follow_crl(&mut self, turn: &mut Turn<'_>, record: &Verified) -> Result<(), StorageError> {
        let Some((issuer, list)) = record.revocations() else { unreachable!("a verified CRL record carries its list") };
        let issuer_id = issuer.fingerprint();
        replace(turn, Tree::Revocations, &issuer_id, &record.id())?;
        Arc::make_mut(&mut self.network).revoke(issuer_id, list.clone());
        turn.trust_changed = true;
        turn.audit(AuditEntry::new("revocations", "", "a newer list is in force").trust(issuer.subject().trust.clone()).record(record.id()))
    }

    fn follow_entry(&mut self, turn: &mut Turn<'_>, record: &Verified, entry: &Entry) -> Result<(), StorageError> {
        let Some(subject) = record.subject() else { unreachable!("a verified entry carries its subject") };
        let device = subject.fingerprint();
        replace(turn, Tree::Directory, &device, &record.id())?;
        // Verification has just passed; the chain is learnt for the records that it will sign.
        if Arc::make_mut(&mut self.network).learn(&entry.chain).is_ok() {
            turn.trust_changed = true;
        }
        if let (Some(package), true) = (&entry.key_package, subject.subject().trust == self.own.trust)
            && let Ok(summary) = key_package::inspect(self.network.clone(), package, turn.now)
        {
            turn.rows.put(Tree::Packages, summary.reference, *device.as_bytes());
        }
        Ok(())
    }
}

/// Makes `id` the newest record of a subject, and drops the one before.
fn replace(turn: &mut Turn<'_>, tree: Tree, subject: &Fingerprint, id: &RecordId) -> Result<(), StorageError> {
    let before = turn.rows.get(tree, subject.as_bytes())?.and_then(|row| RecordId::try_from(row.as_slice()).ok());
    if let Some(before) = before
        && let Some(held) = Holding::get(&turn.rows, &before)?
    {
        erase::erase(turn, &before, &held)?;
    }
    turn.rows.put(tree, *subject.as_bytes(), *id.as_bytes());
    Ok(())
}

fn follow_envelope(turn: &mut Turn<'_>, id: &RecordId, envelope: &Envelope, held: &Holding) -> Result<(), StorageError> {
    let conversation = &envelope.conversation;
    let row = keys::conversation_row(conversation, held.issued, id);
    turn.rows.put(Tree::Conversations, row, [envelope.class as u8]);
    match envelope.class {
        Class::Submission => return Ok(()),
        Class::Application => erase::drop_void_orders(turn, id)?,
        Class::Commit => {
            turn.rows.put(Tree::Epochs, keys::epoch(conversation, envelope.epoch), *id.as_bytes());
        }
        Class::Welcome => {
            for device in welcomed(&turn.rows, &envelope.content)? {
                let member = keys::member(conversation, &device);
                let new = !turn.rows.contains(Tree::Members, &member)?;
                turn.rows.put(Tree::Members, member, []);
                turn.deliver(&device, id)?;
                if new {
                    deliver_backlog(turn, &device, envelope, held)?;
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

/// What was written in the epoch of a welcome, or after it, and came here before the welcome did.
fn deliver_backlog(
    turn: &mut Turn<'_>,
    device: &Fingerprint,
    welcome: &Envelope,
    held: &Holding,
) -> Result<(), StorageError> {
    use std::ops::Bound;
    // The epoch began when the welcome was issued, by the owner's clock.
    let since = held.issued.minus_secs(2 * limits::CLOCK_SKEW_SECS_MAX);
    let low = keys::conversation_row(&welcome.conversation, since, &RecordId::new([0; 32]));
    let high = keys::conversation_row(&welcome.conversation, Timestamp::from_secs(u64::MAX), &RecordId::new([255; 32]));
    let range = (Bound::Included(low.as_slice()), Bound::Included(high.as_slice()));
    for (key, _) in turn.rows.scan(Tree::Conversations, range, BACKLOG_MAX)? {
        let Some(id) = key.last_chunk::<32>().map(|id| RecordId::new(*id)) else { continue };
        if let Some((_, record)) = admit::stored(&turn.rows, &id)?
            && let Body::Envelope(Envelope { class: Class::Application | Class::Commit, epoch, .. }) = record.body()
            && *epoch >= welcome.epoch
        {
            turn.deliver(device, &id)?;
        }
    }
    Ok(())
}

/// The devices of this trust that a welcome is for, by the key packages that it names.
fn welcomed(view: &dyn View, content: &[u8]) -> Result<Vec<Fingerprint>, StorageError> {
    let Ok(Peek::Welcome { recipients }) = Peek::of(content, limits::HANDSHAKE_RECORD_BYTES_MAX) else {
        return Ok(Vec::new());
    };
    let mut devices = Vec::new();
    for reference in recipients.iter().take(LOCAL_MEMBERS_MAX) {
        let device = view.get(Tree::Packages, reference)?;
        devices.extend(device.and_then(|d| Fingerprint::try_from(d.as_slice()).ok()));
    }
    Ok(devices)
}

fn follow_receipt(turn: &mut Turn<'_>, record: &Verified, receipt: &Receipt) {
    let Some(trust) = node_trust(record.signer()) else { unreachable!("nodes alone sign receipts") };
    for item in &receipt.items {
        turn.rows.put(Tree::Tally, keys::tick(&item.tombstone, trust), *record.id().as_bytes());
    }
}

impl Replica {
    /// Sends a record on its way to the other custodians. One that can't be reached directly gets it by gossip; what
    /// everybody must know travels so in any case.
    fn spread(&self, turn: &mut Turn<'_>, record: &Verified, held: &Holding) -> Result<(), StorageError> {
        let members = self.network.charter().trusts.iter().map(|m| &m.trust);
        let to: Vec<_> = members.filter(|t| **t != self.own.trust && held.is_for(t)).cloned().collect();
        let mut unreached = false;
        for trust in &to {
            spread::enqueue(turn, &record.id(), trust)?;
            unreached |= !self.connected.values().any(|t| t == trust);
        }
        let always = held.kind != Kind::Envelope as u8 && held.kind != Kind::Receipt as u8;
        if !to.is_empty() && (always || unreached) {
            turn.outputs.push(Output::Publish(record.bytes().clone()));
        }
        Ok(())
    }
}
