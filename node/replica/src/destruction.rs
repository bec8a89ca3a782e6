//! The destruction log (promise P7): each deletion that this node has carried out or ordered, kept as long as receipts, which is
//! longer than the tombstone itself; which devices of this trust are to erase, and which say that they have; and which
//! replicas have not confirmed in time.
//!
//! The log has the tombstone as it was signed ([`log`]), and so who asked, what, why and when; it holds no content. Who confirmed stands
//! in the receipts, which live as long.

use std::collections::BTreeMap;

use lanyard_crypto::network::Network;
use lanyard_crypto::record::{
    DeviceErased, DeviceLine, ReceiptItem, Target, Tombstone, Verified, Waiting, WaitingDevice,
};
use lanyard_crypto::x509::Certificate;
use lanyard_crypto::{Fingerprint, NodeId, RecordId, Timestamp, TrustId, limits as signed};
use lanyard_storage::{StorageError, Tree, View};
use serde_bytes::ByteBuf;

use crate::Replica;
use crate::audit::AuditEntry;
use crate::holding::node_trust;
use crate::input::Reply;
use crate::keys;
use crate::limits::{
    DEVICES_ATTEST_SECS, DEVICES_PER_TICK, OVERDUE_PER_TRUST_MAX, SCAN_ROWS, SEEN_EVERY_SECS,
    WAITING_FIRST_SECS, WAITING_TELL_SECS,
};
use crate::log::{self, Logged, until};
use crate::mutation::{self, Mutation};
use crate::query::for_each;
use crate::tally;
use crate::turn::Turn;
use crate::verdict::Refusal;

/// When devices' lines were attested last.
const ATTESTED: &str = "devices-attested";

/// Enters a tombstone that was just stored in the log, unless it has been entered before. `own` is this trust: it looks after the answers to what it has
/// ordered.
pub(crate) fn enter(
    turn: &mut Turn<'_>,
    record: &Verified,
    tombstone: &Tombstone,
    network: &Network,
    own: &TrustId,
) -> Result<(), StorageError> {
    let Some(by) = node_trust(record.signer()) else { unreachable!("nodes alone sign tombstones") };
    let (id, by) = (record.id(), by.clone());
    if turn.rows.contains(Tree::Deletions, &keys::logged(&id))? {
        return Ok(());
    }
    let ours = by == *own;
    if ours {
        let issued = record.header().issued;
        // Of a standing order nothing is attested before the last message that it names has ended.
        let begins = match &tombstone.target {
            Target::Standing(up_to, secs) => up_to.plus_secs(*secs).max(issued),
            Target::Envelopes(_) | Target::UpTo(_) => issued,
        };
        let deadline = begins.plus_secs(network.charter().policy.confirm_secs());
        turn.rows.put(Tree::Deletions, keys::deadline(deadline, &id), []);
    }
    log::enter(turn, &id, &by, record.header().issued, ours)
}

/// Notes that a device of this trust is to erase. Tells whether that is news, and the tombstone is to be delivered to it.
pub(crate) fn is_due(turn: &mut Turn<'_>, id: &RecordId, device: &Fingerprint) -> Result<bool, StorageError> {
    let key = keys::due(id, device);
    let news = !turn.rows.contains(Tree::Deletions, &key)?;
    if news {
        turn.rows.put(Tree::Deletions, key, []);
    }
    Ok(news)
}

/// How many devices of this trust are to erase, whether or not they have.
pub(crate) fn devices(view: &dyn View, id: &RecordId) -> Result<u32, StorageError> {
    let mut count = 0;
    for_each(view, Tree::Deletions, &keys::due_of(id), |_, _| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

/// Sees to it that it is told soon for which devices this node waits, and not more often than once an hour.
pub(crate) fn tell(turn: &mut Turn<'_>, id: &RecordId) -> Result<(), StorageError> {
    let Some(mut logged) = Logged::get(&turn.rows, id)? else { return Ok(()) };
    if logged.tells().is_some() {
        return Ok(());
    }
    // Devices that are connected answer at once, and need not be named.
    let soon = turn.now.plus_secs(WAITING_FIRST_SECS);
    let at = logged.told().map_or(soon, |told| told.plus_secs(WAITING_TELL_SECS).max(soon));
    logged.note_telling(turn, id, logged.told(), Some(at));
    turn.rows.put(Tree::Deletions, keys::tell(at, id), []);
    Ok(())
}

/// The same, if any device is to erase and it was said before that none was.
pub(crate) fn tell_if_due(turn: &mut Turn<'_>, id: &RecordId) -> Result<(), StorageError> {
    if devices(&turn.rows, id)? > 0 { tell(turn, id) } else { Ok(()) }
}

/// Notes the line of a device of this trust, by itself or through another node of the trust. Tells whether it is news. A line that says
/// that all was gone while messages could still live by the order is passed over.
pub(crate) fn has_erased(
    turn: &mut Turn<'_>,
    id: &RecordId,
    device: &Fingerprint,
    line: &[u8],
) -> Result<bool, StorageError> {
    let key = keys::due(id, device);
    if turn.rows.get(Tree::Deletions, &key)?.is_none_or(|row| !row.is_empty()) {
        return Ok(false);
    }
    let over = Logged::get(&turn.rows, id)?.map(|logged| logged.over(&turn.rows, id)).transpose()?.flatten();
    if DeviceLine::from_bytes(line).is_ok_and(|said| said.erased() >= over.unwrap_or_default()) {
        turn.rows.put(Tree::Deletions, key, line.to_vec());
        tell(turn, id)?;
        return Ok(true);
    }
    Ok(false)
}

/// A device speaks to this node: kept to the minute, and written no more often.
pub(crate) fn seen(turn: &mut Turn<'_>, device: &Fingerprint) -> Result<(), StorageError> {
    let minute = turn.now.as_secs() / SEEN_EVERY_SECS * SEEN_EVERY_SECS;
    let before = turn.rows.get(Tree::Seen, device.as_bytes())?.map_or(0, |row| keys::last_u64(&row));
    if before < minute {
        turn.rows.put(Tree::Seen, *device.as_bytes(), minute.to_be_bytes());
    }
    Ok(())
}

impl Replica {
    /// A device hands in that it has erased. What it was never asked to erase is passed over, so that nothing stands in the way
    /// of what comes after it.
    pub(crate) fn erased_by(
        &mut self,
        turn: &mut Turn<'_>,
        device: &Fingerprint,
        lines: &[ByteBuf],
    ) -> Result<Result<Reply, Refusal>, StorageError> {
        let certificate = self.network.chain(device).and_then(|[leaf, _]| Certificate::parse(leaf).ok());
        let Some(certificate) = certificate else {
            return Ok(Err(Refusal::Line("the device's certificate is not known here".into())));
        };
        let mut opened = Vec::new();
        for line in lines {
            let line = match DeviceLine::from_bytes(line) {
                Ok(line) => line,
                Err(why) => return Ok(Err(Refusal::Line(why.to_string()))),
            };
            if line.network() != self.network.id() {
                return Ok(Err(Refusal::Line("it is of another network".into())));
            }
            if let Err(why) = line.verify(&certificate)
                && !mutation::is(Mutation::UnsignedLine)
            {
                return Ok(Err(Refusal::Line(why.to_string())));
            }
            opened.push(line);
        }
        for line in opened {
            if has_erased(turn, &line.tombstone(), device, line.bytes())? {
                turn.rows.put(Tree::Deletions, keys::unattested(&line.tombstone(), device), []);
            }
        }
        Ok(Ok(Reply::Done))
    }

    /// Attests what devices have handed in, a while of it at once, and for which it is still waited.
    pub(crate) fn attest_devices(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        let last = turn.rows.get(Tree::Meta, ATTESTED.as_bytes())?.map_or(0, |row| keys::last_u64(&row));
        let next = Timestamp::from_secs(last).plus_secs(DEVICES_ATTEST_SECS);
        // A clock that was set back far was wrong before.
        if turn.now < next && turn.now.plus_secs(2 * DEVICES_ATTEST_SECS) > next {
            return Ok(());
        }
        let lines = turn.rows.scan_prefix(Tree::Deletions, &[keys::UNATTESTED], DEVICES_PER_TICK)?;
        let tells = until(turn, keys::TELLS, DEVICES_PER_TICK)?;
        if lines.is_empty() && tells.is_empty() {
            return Ok(());
        }
        turn.rows.put(Tree::Meta, ATTESTED, turn.now.as_secs().to_be_bytes());
        for (key, _) in lines {
            turn.rows.delete(Tree::Deletions, key.clone());
            let Some((tombstone, device)) = keys::unattested_parts(&key) else { continue };
            let (Some(logged), Some(line)) = (
                Logged::get(&turn.rows, &tombstone)?,
                turn.rows.get(Tree::Deletions, &keys::due(&tombstone, &device))?,
            ) else {
                continue;
            };
            let item = ReceiptItem::DeviceErased(DeviceErased { tombstone, line });
            turn.erased.entry(logged.by).or_default().push(item);
        }
        for (key, id) in tells {
            turn.rows.delete(Tree::Deletions, key);
            let Some(mut logged) = Logged::get(&turn.rows, &id)? else { continue };
            let item = waiting(&turn.rows, &id)?;
            let nothing_told = item.count == 0 && logged.told().is_none();
            let told = logged.told().max((!nothing_told).then_some(turn.now));
            logged.note_telling(turn, &id, told, None);
            if nothing_told {
                continue;
            }
            turn.erased.entry(logged.by).or_default().push(ReceiptItem::Waiting(item));
        }
        Ok(())
    }

    /// Looks at the deletions of this trust whose time to confirm is over, as many as one step takes.
    pub(crate) fn mark_overdue(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        for (key, id) in until(turn, keys::DEADLINES, DEVICES_PER_TICK)? {
            if turn.is_full() {
                return Ok(());
            }
            turn.rows.delete(Tree::Deletions, key);
            let Some(logged) = Logged::get(&turn.rows, &id)? else { continue };
            let mut missing: BTreeMap<TrustId, Vec<Option<NodeId>>> = BTreeMap::new();
            for (trust, node) in tally::missing(&turn.rows, &self.network, &id, &logged, turn.now)? {
                missing.entry(trust).or_default().push(node);
            }
            for (trust, nodes) in missing {
                for node in nodes.iter().take(OVERDUE_PER_TRUST_MAX) {
                    let key = keys::overdue(&id, &trust, node.as_ref());
                    turn.rows.put(Tree::Deletions, key, turn.now.as_secs().to_be_bytes());
                }
                let what = match nodes.len() {
                    1 => "a replica has not confirmed a deletion in time".to_owned(),
                    many => format!("{many} replicas have not confirmed a deletion in time"),
                };
                let entry = AuditEntry::new("deletion-overdue", "", what).record(id).trust(trust);
                turn.audit(match nodes[..] {
                    [Some(node)] => entry.node(node),
                    _ => entry,
                })?;
            }
        }
        Ok(())
    }
}

/// A replica has confirmed; if that was overdue, it is not any more.
pub(crate) fn confirmed(
    turn: &mut Turn<'_>,
    id: &RecordId,
    trust: &TrustId,
    node: &NodeId,
) -> Result<(), StorageError> {
    for key in [keys::overdue(id, trust, Some(node)), keys::overdue(id, trust, None)] {
        if turn.rows.contains(Tree::Deletions, &key)? {
            turn.rows.delete(Tree::Deletions, key);
            let what = "a replica that was overdue has confirmed a deletion";
            let entry = AuditEntry::new("deletion-confirmed-late", "", what).record(*id);
            turn.audit(entry.trust(trust.clone()).node(*node))?;
        }
    }
    Ok(())
}

/// For which devices of this trust it is waited.
fn waiting(view: &dyn View, id: &RecordId) -> Result<Waiting, StorageError> {
    let (mut devices, mut count) = (Vec::new(), 0);
    for_each(view, Tree::Deletions, &keys::due_of(id), |key, line| {
        if let (true, Some(device)) = (line.is_empty(), key.last_chunk::<32>()) {
            count += 1;
            if devices.len() < signed::WAITING_NAMED_MAX {
                let seen = view.get(Tree::Seen, device)?;
                let last_seen = seen.map(|row| Timestamp::from_secs(keys::last_u64(&row)));
                devices.push(WaitingDevice { device: Fingerprint::new(*device), last_seen });
            }
        }
        Ok(())
    })?;
    Ok(Waiting { tombstone: *id, devices, count })
}

const _: () = assert!(SCAN_ROWS >= crate::limits::LOCAL_MEMBERS_MAX);
