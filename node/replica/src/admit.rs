//! Admission: whether a verified record may be stored here and now (promises P2, P3, P6, P8).
//!
//! What holds for every replica alike (rights, bounds, tombstones) comes before what depends on this one (custody), so
//! that gossip relays to others only what they would take.

use lanyard_crypto::limits::{CLOCK_SKEW_SECS_MAX, HANDSHAKE_RECORD_BYTES_MAX, RETENTION_SECS_MAX};
use lanyard_crypto::mls::peek::{Content, Peek};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{self, Body, Class, Decoded, Envelope, Target, Tombstone, Verified};
use lanyard_crypto::x509::RevocationList;
use lanyard_crypto::{RecordId, Timestamp, TrustId};
use lanyard_storage::{StorageError, Tree, View};

use crate::audit::heads;
use crate::erase::{self, Order};
use crate::holding::{Holding, node_trust};
use crate::keys;
use crate::mutation::{self, Mutation};
use crate::standing;
use crate::verdict::Refusal;
use crate::void_orders;
use std::cmp::Ordering;

/// A record that may be stored. Made only by [`admit`].
pub(crate) struct Admitted(Verified, Holding);

impl Admitted {
    pub(crate) fn record(&self) -> &Verified {
        &self.0
    }

    /// What is to be known of it, with the end that standing orders give it.
    pub(crate) fn held(&self) -> &Holding {
        &self.1
    }
}

/// What admission found.
pub(crate) enum Admission {
    /// To be stored.
    New(Box<Admitted>),
    /// Held already.
    Known,
    /// Not for this replica, at most for others.
    No(Refusal),
}

/// Decides. Errors are the disk's.
pub(crate) fn admit(
    record: Verified,
    own: &TrustId,
    network: &Network,
    view: &dyn View,
    now: Timestamp,
) -> Result<Admission, StorageError> {
    if view.contains(Tree::Holdings, record.id().as_bytes())? {
        return Ok(Admission::Known);
    }
    // The charter in force with other signatures says nothing new.
    if record.decoded().statement() == network.charter_id() {
        return Ok(Admission::Known);
    }
    // Whom to believe has changed since the signatures were looked at, outside: they are looked at again.
    let skips = mutation::is(Mutation::SkipReverify);
    let record = if record.network_revision() == network.revision() || skips {
        record
    } else {
        match record::verify(record.decoded().clone(), network) {
            Ok(record) => record,
            Err(why) => return Ok(Admission::No(why.into())),
        }
    };
    Ok(match check(&record, own, network, view, now)? {
        Ok(held) => Admission::New(Box::new(Admitted(record, held))),
        Err(why) => Admission::No(why),
    })
}

fn check(
    record: &Verified,
    own: &TrustId,
    network: &Network,
    view: &dyn View,
    now: Timestamp,
) -> Result<Result<Holding, Refusal>, StorageError> {
    if let Err(why) = check_time(record, now) {
        return Ok(Err(why));
    }
    let held = standing::under_orders(view, Holding::of(record))?;
    let outcome = match record.body() {
        Body::Charter(charter) => network
            .charter()
            .check_follows(network.charter_id(), charter)
            .map_err(|e| Refusal::Unverified(e.into())),
        Body::Crl(_) => check_crl(record, network, view)?,
        Body::Entry(_) => check_entry(record, view)?,
        Body::Envelope(envelope) => check_envelope(record, envelope, &held, network, view, now)?,
        Body::Tombstone(tombstone) => check_tombstone(record, tombstone, view)?,
        Body::Receipt(_) => Ok(()),
        Body::Head(_) => heads::check(record, view)?,
    };
    let trusts = mutation::is(Mutation::TrustPeersCustody);
    if outcome.is_ok() && !held.is_for(own) && !trusts {
        return Ok(Err(Refusal::NotCustodian));
    }
    Ok(outcome.map(|()| held))
}

fn check_time(record: &Verified, now: Timestamp) -> Result<(), Refusal> {
    let header = record.header();
    if header.issued > now.plus_secs(CLOCK_SKEW_SECS_MAX) && !mutation::is(Mutation::AcceptFuture) {
        return Err(Refusal::Future(header.issued.as_secs() - now.as_secs()));
    }
    let over = header.expires <= now && !mutation::is(Mutation::AcceptExpired);
    if over { Err(Refusal::Expired) } else { Ok(()) }
}

fn check_crl(
    record: &Verified,
    network: &Network,
    view: &dyn View,
) -> Result<Result<(), Refusal>, StorageError> {
    let Some((issuer, list)) = record.revocations() else {
        unreachable!("a verified CRL record carries its list")
    };
    let issuer = issuer.fingerprint();
    let held = network.revocation_list(&issuer).map_or(0, RevocationList::number);
    let newer = match held.cmp(&list.number()) {
        Ordering::Greater if mutation::is(Mutation::LowerCrlNumber) => true,
        Ordering::Less => true,
        Ordering::Greater => false,
        // The id decides between two records of the same number, alike at every replica.
        Ordering::Equal => {
            let id = view.get(Tree::Revocations, issuer.as_bytes())?;
            id.is_none_or(|id| id.as_slice() < record.id().as_bytes())
        }
    };
    Ok(if newer { Ok(()) } else { Err(Refusal::Superseded("revocation list")) })
}

fn check_entry(record: &Verified, view: &dyn View) -> Result<Result<(), Refusal>, StorageError> {
    let Some(subject) = record.subject() else { unreachable!("a verified entry carries its subject") };
    let Some(held) = view.get(Tree::Directory, subject.fingerprint().as_bytes())? else { return Ok(Ok(())) };
    let held =
        RecordId::try_from(held.as_slice()).ok().map(|id| Ok((id, Holding::get(view, &id)?))).transpose()?;
    Ok(match held {
        // The id decides between two of the same second, alike at every replica.
        _ if mutation::is(Mutation::OlderEntry) => Ok(()),
        Some((id, Some(holding))) if (holding.issued, id) >= (record.header().issued, record.id()) => {
            Err(Refusal::Superseded("directory entry"))
        }
        _ => Ok(()),
    })
}

fn check_envelope(
    record: &Verified,
    envelope: &Envelope,
    held: &Holding,
    network: &Network,
    view: &dyn View,
    now: Timestamp,
) -> Result<Result<(), Refusal>, StorageError> {
    let header = record.header();
    let (life, allowed) =
        (header.expires.as_secs() - header.issued.as_secs(), network.charter().policy.retention_secs_max);
    if life > allowed && !mutation::is(Mutation::IgnoreRetention) {
        return Ok(Err(Refusal::Retention(life, allowed)));
    }
    let Some(sender) = node_trust(record.signer()) else { unreachable!("nodes alone sign envelopes") };
    let owner = envelope.conversation.owner();
    // Custodians that are no members are passed over, here and by who orders its deletion: an earlier charter may have had them, or the next
    // will, and replicas that learn of charters at other times must not differ in what they take.
    for (needed, what) in [(sender, "the sender's trust"), (owner, "the conversation's owner")] {
        if header.custodians.binary_search(needed).is_err() {
            return Ok(Err(Refusal::Custodians(format!("{what}, {needed}, is missing"))));
        }
    }
    let handshake = matches!(envelope.class, Class::Commit | Class::Welcome);
    if handshake && sender != owner && !mutation::is(Mutation::AnyoneMayCommit) {
        return Ok(Err(Refusal::NotOwner(owner.to_string())));
    }
    if let Err(why) = check_content(envelope) {
        return Ok(Err(why));
    }
    match envelope.class {
        Class::Application => {
            if !mutation::is(Mutation::SkipTombstoneCheck)
                && let Some(tombstone) = erase::tombstone_for(view, &record.id(), held)?
            {
                return Ok(Err(Refusal::Deleted(tombstone.to_string())));
            }
            if held.expires <= now && !mutation::is(Mutation::AcceptExpired) {
                return Ok(Err(Refusal::Expired));
            }
        }
        Class::Commit => {
            let epoch = keys::epoch(&envelope.conversation, envelope.epoch);
            let second = mutation::is(Mutation::SecondCommit) || mutation::is(Mutation::HubForgets);
            // A node's proposal is for the commit that comes next.
            if !second && !is_proposal(envelope) && view.contains(Tree::Epochs, &epoch)? {
                return Ok(Err(Refusal::DuplicateCommit(envelope.epoch)));
            }
        }
        Class::Welcome | Class::Submission => {}
    }
    Ok(Ok(()))
}

/// Whether an envelope of class commit carries a proposal of the owner trust's node, for the commit that comes next.
pub(crate) fn is_proposal(envelope: &Envelope) -> bool {
    envelope.class == Class::Commit
        && matches!(
            Peek::of(&envelope.content, HANDSHAKE_RECORD_BYTES_MAX),
            Ok(Peek::Public { content: Content::Proposal, .. })
        )
}

/// Whether the content is the MLS message that the envelope states, as far as it can be read without a key.
fn check_content(envelope: &Envelope) -> Result<(), Refusal> {
    let mismatch = |what: &str| Err(Refusal::Content(what.into()));
    if envelope.class == Class::Submission {
        return Ok(()); // The hub opens it.
    }
    let peek = match Peek::of(&envelope.content, HANDSHAKE_RECORD_BYTES_MAX) {
        Ok(peek) => peek,
        Err(e) => return mismatch(&e.to_string()),
    };
    let (group, epoch) = match (envelope.class, peek) {
        (Class::Application, Peek::Private { group, epoch, content: Content::Application }) => (group, epoch),
        (Class::Commit, Peek::Public { group, epoch, content: Content::Commit, .. })
        // Of a node alone: what members propose, nobody would carry out.
        | (Class::Commit, Peek::Public { group, epoch, content: Content::Proposal, member: None }) => (group, epoch),
        (Class::Welcome, Peek::Welcome { .. }) => return Ok(()),
        _ => return mismatch(&format!("not a message of class {}", envelope.class.name())),
    };
    if group != envelope.conversation.to_bytes() {
        return mismatch("of another conversation");
    }
    if epoch != envelope.epoch { mismatch("of another epoch") } else { Ok(()) }
}

fn check_tombstone(
    record: &Verified,
    tombstone: &Tombstone,
    view: &dyn View,
) -> Result<Result<(), Refusal>, StorageError> {
    let Some(by) = node_trust(record.signer()) else { unreachable!("nodes alone sign tombstones") };
    let order = Order::of(record, tombstone);
    let margin = 2 * CLOCK_SKEW_SECS_MAX;
    match &tombstone.target {
        Target::UpTo(up_to) | Target::Standing(up_to, _) => {
            if by != tombstone.conversation.owner() {
                return Ok(Err(Refusal::MayNotDelete(by.to_string())));
            }
            if *up_to > record.header().issued {
                return Ok(Err(Refusal::TombstoneTooShort));
            }
            let last = up_to.plus_secs(RETENTION_SECS_MAX + margin);
            if record.header().expires < last {
                return Ok(Err(Refusal::TombstoneTooShort));
            }
        }
        Target::Envelopes(ids) => {
            if void_orders::are_too_many(view, by, ids)? {
                return Ok(Err(Refusal::TooManyOrders(by.to_string())));
            }
            let mut outcome = Ok(());
            for id in ids {
                // What is not here yet is judged when it arrives.
                match Holding::get(view, id)?.map_or(Ok(()), |held| order.judge(&held)) {
                    Ok(()) => return Ok(Ok(())),
                    Err(why) => outcome = Err(why),
                }
            }
            return Ok(outcome);
        }
    }
    Ok(Ok(()))
}

/// The record's bytes as they were stored, decoded.
pub(crate) fn stored(view: &dyn View, id: &RecordId) -> Result<Option<(Holding, Decoded)>, StorageError> {
    let Some(holding) = Holding::get(view, id)? else { return Ok(None) };
    let bytes = view.get(holding.tree(), id.as_bytes())?;
    Ok(bytes.and_then(|b| Decoded::from_bytes(&b).ok()).map(|record| (holding, record)))
}
