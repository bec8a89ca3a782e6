//! The destruction log (promise P7): each deletion that this node has carried out or ordered, kept as long as receipts, which is
//! longer than the tombstone itself; which devices of this trust are to erase, and which say that they have; and which
//! replicas have not confirmed in time.
//!
//! A row holds the tombstone as it was signed, and so who asked, what, why and when; it holds no content. Who confirmed stands
//! in the receipts, which live as long.

use std::ops::Bound;

use lanyard_crypto::network::Network;
use lanyard_crypto::record::{
    Body, Decoded, DeviceErased, DeviceLine, ReceiptItem, Target, Tombstone, Verified, Waiting, WaitingDevice,
};
use lanyard_crypto::x509::Certificate;
use lanyard_crypto::{Fingerprint, NodeId, RecordId, Timestamp, TrustId, cbor, limits as signed};
use lanyard_storage::{StorageError, Tree, View};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::Replica;
use crate::audit::AuditEntry;
use crate::holding::{Holding, node_trust};
use crate::input::Reply;
use crate::keys;
use crate::limits::{
    DEVICES_ATTEST_SECS, DEVICES_PER_TICK, RECEIPT_LIFE_SECS, SCAN_ROWS, SEEN_EVERY_SECS, WAITING_FIRST_SECS,
    WAITING_TELL_SECS,
};
use crate::query::for_each;
use crate::tally;
use crate::turn::Turn;
use crate::verdict::Refusal;

/// When devices' lines were attested last.
const ATTESTED: &str = "devices-attested";

/// A row of the log. Field order is its format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Logged {
    /// The tombstone, as it was signed.
    pub(crate) record: ByteBuf,
    /// The trust whose node signed it.
    pub(crate) by: TrustId,
    /// When this node has learnt of it.
    pub(crate) since: Timestamp,
    /// When it was last told for which devices this node waits.
    told: Option<Timestamp>,
    /// When that is to be told again.
    tells: Option<Timestamp>,
}

impl Logged {
    pub(crate) fn get(view: &dyn View, id: &RecordId) -> Result<Option<Self>, StorageError> {
        let row = view.get(Tree::Deletions, &keys::logged(id))?;
        Ok(row.and_then(|row| cbor::from_slice(&row, 2 * signed::RECORD_BYTES_MAX).ok()))
    }

    /// When the last message that it could name has ended, if it is a standing order.
    fn over(&self) -> Option<Timestamp> {
        let record = Decoded::from_bytes(&self.record).ok()?;
        match record.body() {
            Body::Tombstone(Tombstone { target: Target::Standing(up_to, secs), .. }) => {
                Some(up_to.plus_secs(*secs))
            }
            _ => None,
        }
    }

    fn put(&self, turn: &mut Turn<'_>, id: &RecordId) {
        turn.rows.put(Tree::Deletions, keys::logged(id), cbor::to_vec(self));
    }
}

/// Enters a tombstone that is kept. `own` says that this trust has ordered it, so that it looks after the answers.
pub(crate) fn log(
    turn: &mut Turn<'_>,
    record: &Verified,
    tombstone: &Tombstone,
    network: &Network,
    own: &TrustId,
) {
    let Some(by) = node_trust(record.signer()) else { unreachable!("nodes alone sign tombstones") };
    let (id, by) = (record.id(), by.clone());
    if by == *own {
        let issued = record.header().issued;
        // Of a standing order nothing is attested before the last message that it names has ended.
        let begins = match &tombstone.target {
            Target::Standing(up_to, secs) => up_to.plus_secs(*secs).max(issued),
            Target::Envelopes(_) | Target::UpTo(_) => issued,
        };
        let deadline = begins.plus_secs(network.charter().policy.confirm_secs());
        turn.rows.put(Tree::Deletions, keys::deadline(deadline, &id), []);
    }
    let bytes = ByteBuf::from(record.bytes().to_vec());
    Logged { record: bytes, by, since: turn.now, told: None, tells: None }.put(turn, &id);
    turn.rows.put(Tree::Deletions, keys::log_ends(turn.now.plus_secs(RECEIPT_LIFE_SECS), &id), []);
}

/// Enters a tombstone that an earlier version has carried out.
pub(crate) fn log_earlier(turn: &mut Turn<'_>, id: &RecordId, held: &Holding, by: &TrustId, record: Vec<u8>) {
    let (by, since) = (by.clone(), held.issued);
    Logged { record: ByteBuf::from(record), by, since, told: None, tells: None }.put(turn, id);
    turn.rows.put(Tree::Deletions, keys::log_ends(since.plus_secs(RECEIPT_LIFE_SECS), id), []);
}

/// Notes that a device of this trust is to erase: the tombstone is delivered to it.
pub(crate) fn is_due(turn: &mut Turn<'_>, id: &RecordId, device: &Fingerprint) -> Result<(), StorageError> {
    let key = keys::due(id, device);
    if !turn.rows.contains(Tree::Deletions, &key)? {
        turn.rows.put(Tree::Deletions, key, []);
    }
    Ok(())
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
    if logged.tells.is_some() {
        return Ok(());
    }
    // Devices that are connected answer at once, and need not be named.
    let soon = turn.now.plus_secs(WAITING_FIRST_SECS);
    let at = logged.told.map_or(soon, |told| told.plus_secs(WAITING_TELL_SECS).max(soon));
    logged.tells = Some(at);
    logged.put(turn, id);
    turn.rows.put(Tree::Deletions, keys::tell(at, id), []);
    Ok(())
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
    let (logged, said) = (Logged::get(&turn.rows, id)?, DeviceLine::from_bytes(line).ok());
    if said.is_none_or(|said| said.erased() < logged.and_then(|logged| logged.over()).unwrap_or_default()) {
        return Ok(false);
    }
    turn.rows.put(Tree::Deletions, key, line.to_vec());
    tell(turn, id)?;
    Ok(true)
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
            if let Err(why) = line.verify(&certificate) {
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
            let nothing_told = item.count == 0 && logged.told.is_none();
            (logged.tells, logged.told) = (None, logged.told.max((!nothing_told).then_some(turn.now)));
            logged.put(turn, &id);
            if nothing_told {
                continue;
            }
            turn.erased.entry(logged.by).or_default().push(ReceiptItem::Waiting(item));
        }
        Ok(())
    }

    /// Looks at the deletions of this trust whose time to confirm is over.
    pub(crate) fn mark_overdue(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        for (key, id) in until(turn, keys::DEADLINES, DEVICES_PER_TICK)? {
            turn.rows.delete(Tree::Deletions, key);
            let Some(logged) = Logged::get(&turn.rows, &id)? else { continue };
            for (trust, node) in tally::missing(&turn.rows, &self.network, &id, &logged, turn.now)? {
                let key = keys::overdue(&id, &trust, node.as_ref());
                turn.rows.put(Tree::Deletions, key, turn.now.as_secs().to_be_bytes());
                let what = "a replica has not confirmed a deletion in time";
                let entry = AuditEntry::new("deletion-overdue", "", what).record(id).trust(trust);
                turn.audit(match node {
                    Some(node) => entry.node(node),
                    None => entry,
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

/// Rows under this prefix whose time has come: keys and tombstones.
fn until(turn: &Turn<'_>, prefix: u8, limit: usize) -> Result<Vec<(Vec<u8>, RecordId)>, StorageError> {
    let end = [&[prefix][..], &turn.now.plus_secs(1).as_secs().to_be_bytes()].concat();
    let range = (Bound::Included(&[prefix][..]), Bound::Excluded(end.as_slice()));
    let rows = turn.rows.scan(Tree::Deletions, range, limit)?;
    let id = |key: Vec<u8>| key.last_chunk::<32>().map(|id| RecordId::new(*id)).map(|id| (key, id));
    Ok(rows.into_iter().filter_map(|(key, _)| id(key)).collect())
}

/// Drops what the log has kept for long enough, as much as one step takes.
pub(crate) fn expire(turn: &mut Turn<'_>) -> Result<(), StorageError> {
    for (key, id) in until(turn, keys::LOG_ENDS, DEVICES_PER_TICK)? {
        if turn.is_full() {
            return Ok(());
        }
        turn.rows.delete(Tree::Deletions, key);
        forget(turn, &id)?;
    }
    Ok(())
}

/// Forgets a deletion: its time is over, or nothing that it names may be deleted by who ordered it.
pub(crate) fn forget(turn: &mut Turn<'_>, id: &RecordId) -> Result<(), StorageError> {
    turn.rows.delete(Tree::Deletions, keys::logged(id));
    for prefix in [keys::due_of(id), keys::unattested_of(id), keys::overdue_of(id)] {
        for (key, _) in turn.rows.scan_prefix(Tree::Deletions, &prefix, SCAN_ROWS)? {
            turn.rows.delete(Tree::Deletions, key);
        }
    }
    Ok(())
}

const _: () = assert!(SCAN_ROWS >= crate::limits::LOCAL_MEMBERS_MAX);
