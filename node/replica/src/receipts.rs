//! Receipts (promise P7): what this node attests, and what others have attested to it.

use std::collections::{BTreeMap, BTreeSet};

use lanyard_crypto::limits::RECORD_BYTES_MAX;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{Body, DeviceLine, Erased, Header, Receipt, ReceiptItem, Signer, Verified};
use lanyard_crypto::x509::{Certificate, Purpose};
use lanyard_crypto::{Fingerprint, NodeId, RecordId, Timestamp, TrustId, cbor};
use lanyard_storage::{Batch, StorageError, Tree, View};
use serde_bytes::ByteBuf;

use crate::Replica;
use crate::audit::AuditEntry;
use crate::audit::repeats::Repeated;
use crate::destruction;
use crate::erase;
use crate::holding::Holding;
use crate::keys::{self, Stated};
use crate::limits::{
    DEVICES_PER_TICK, EARLY_RECEIPT_SECS, EARLY_RECEIPTS_MAX, RECEIPT_LIFE_SECS, STEP_CHANGES_MAX,
    UPGRADE_ROWS,
};
use crate::log::{self, Logged};
use crate::turn::Turn;
use crate::verdict::Refusal;

/// Notes that a tombstone is carried out, to be attested at the end of the step.
pub(crate) fn carried_out(
    turn: &mut Turn<'_>,
    by: TrustId,
    tombstone: RecordId,
    envelopes: u32,
) -> Result<(), StorageError> {
    let devices = destruction::devices(&turn.rows, &tombstone)?;
    let item = ReceiptItem::Erased(Erased { tombstone, erased: turn.now, envelopes, devices });
    turn.erased.entry(by).or_default().push(item);
    if devices > 0 {
        destruction::tell(turn, &tombstone)?;
    }
    Ok(())
}

impl Replica {
    /// Attests what this step has erased, and what devices have: receipts to each trust that ordered it. What can't be signed now is
    /// kept, and signed later ([`Replica::attest_late`]).
    pub(crate) fn attest(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        for (by, items) in std::mem::take(&mut turn.erased) {
            for receipt in Receipt::split(items) {
                let items = receipt.items.clone();
                let Err(why) = self.sign_receipt(turn, &by, receipt)? else { continue };
                // Our own certificate has lapsed, or the charter has.
                turn.audit(AuditEntry::new("receipt-unsigned", why.ruling().code, why.to_string()))?;
                for item in &items {
                    let Some((tombstone, stated)) = stated(item) else { continue };
                    let key = keys::unsigned(&tombstone, &by, &stated);
                    turn.rows.put(Tree::Deletions, key, cbor::to_vec(item));
                }
            }
        }
        Ok(())
    }

    /// Attests what could not be signed when it was due, as soon as it can be.
    pub(crate) fn attest_late(&mut self, turn: &mut Turn<'_>) -> Result<(), StorageError> {
        let rows = turn.rows.scan_prefix(Tree::Deletions, &[keys::UNSIGNED], DEVICES_PER_TICK)?;
        let mut due: BTreeMap<TrustId, (Vec<Vec<u8>>, Vec<ReceiptItem>)> = BTreeMap::new();
        for (key, row) in rows {
            match (keys::unsigned_by(&key), cbor::from_slice(&row, RECORD_BYTES_MAX)) {
                (Some(by), Ok(item)) => {
                    let (keys, items) = due.entry(by).or_default();
                    keys.push(key);
                    items.push(item);
                }
                _ => turn.rows.delete(Tree::Deletions, key),
            }
        }
        for (by, (keys, items)) in due {
            for receipt in Receipt::split(items) {
                if self.sign_receipt(turn, &by, receipt)?.is_err() {
                    return Ok(());
                }
            }
            keys.into_iter().for_each(|key| turn.rows.delete(Tree::Deletions, key));
        }
        Ok(())
    }

    fn sign_receipt(
        &mut self,
        turn: &mut Turn<'_>,
        by: &TrustId,
        receipt: Receipt,
    ) -> Result<Result<RecordId, Refusal>, StorageError> {
        let custodians = BTreeSet::from([by.clone(), self.own.trust.clone()]).into_iter().collect();
        let expires = turn.now.plus_secs(RECEIPT_LIFE_SECS);
        let header = Header { network: Some(self.network.id()), custodians, issued: turn.now, expires };
        self.originate(turn, header, Body::Receipt(receipt))
    }

    /// Keeps the chain of whoever signed this for as long as what they signed may be asked for.
    pub(crate) fn keep_chain(&self, turn: &mut Turn<'_>, signer: &Fingerprint) -> Result<(), StorageError> {
        if turn.chains.insert(*signer)
            && !turn.rows.contains(Tree::Certificates, signer.as_bytes())?
            && let Some(chain) = self.network.chain(signer)
        {
            let chain = chain.map(|der| ByteBuf::from(der.to_vec()));
            turn.rows.put(Tree::Certificates, *signer.as_bytes(), cbor::to_vec(&chain.to_vec()));
        }
        Ok(())
    }

    /// Notes what a receipt that is stored attests.
    pub(crate) fn follow_receipt(
        &self,
        turn: &mut Turn<'_>,
        record: &Verified,
        receipt: &Receipt,
    ) -> Result<(), StorageError> {
        let Signer::Node { trust, node } = record.signer() else { unreachable!("nodes alone sign receipts") };
        if let Some(signer) = record.decoded().signer() {
            self.keep_chain(turn, &signer)?;
        }
        let any_overdue = is_any_overdue(turn)?;
        let place = Place { id: record.id(), issued: record.header().issued, trust, node, any_overdue };
        let mut early = None;
        for item in &receipt.items {
            let Some(tombstone) = item.tombstone() else { continue };
            if Logged::get(&turn.rows, &tombstone)?.is_some() {
                self.follow_item(turn, &place, item)?;
                continue;
            }
            // Perhaps it comes by another way; more than so many that never do are not kept in mind.
            let room = early.take().map_or_else(|| early_room(turn, trust), Ok)?;
            if room > 0 {
                let key = keys::early(trust, &tombstone, &record.id());
                turn.rows.put(Tree::Deletions, key, turn.now.as_secs().to_be_bytes());
                turn.any_early = Some(true);
            }
            early = Some(room.saturating_sub(1));
        }
        Ok(())
    }

    /// Notes what was attested of a tombstone before it came.
    pub(crate) fn follow_early(&self, turn: &mut Turn<'_>, record: &Verified) -> Result<(), StorageError> {
        let any_early = match turn.any_early {
            Some(any) => any,
            None => !turn.rows.scan_prefix(Tree::Deletions, &[keys::EARLY], 1)?.is_empty(),
        };
        turn.any_early = Some(any_early);
        if !any_early {
            return Ok(());
        }
        let any_overdue = is_any_overdue(turn)?;
        for trust in &record.header().custodians {
            let prefix = keys::early_of(trust, &record.id());
            for (key, _) in turn.rows.scan_prefix(Tree::Deletions, &prefix, EARLY_RECEIPTS_MAX)? {
                turn.rows.delete(Tree::Deletions, key.clone());
                let Some(id) = key.last_chunk::<32>().map(|id| RecordId::new(*id)) else { continue };
                let Some((held, stored)) = crate::admit::stored(&turn.rows, &id)? else { continue };
                let node = match stored.signer() {
                    Some(signer) => node_of(&turn.rows, &self.network, &signer)?,
                    None => None,
                };
                let (Body::Receipt(receipt), Some(node)) = (stored.body(), node) else { continue };
                let place = Place { id, issued: held.issued, trust, node: &node, any_overdue };
                for item in receipt.items.iter().filter(|item| item.tombstone() == Some(record.id())) {
                    self.follow_item(turn, &place, item)?;
                }
            }
        }
        Ok(())
    }

    fn follow_item(
        &self,
        turn: &mut Turn<'_>,
        place: &Place<'_>,
        item: &ReceiptItem,
    ) -> Result<(), StorageError> {
        let Some((tombstone, stated)) = stated(item) else { return Ok(()) };
        let (trust, node) = (place.trust, place.node);
        if let ReceiptItem::DeviceErased(item) = item
            && let Some(why) = not_believed(&turn.rows, &self.network, &item.line, trust)?
        {
            let detail = format!("a device's line in a receipt: {why}");
            let entry = AuditEntry::new("refused", "bad-line", detail).record(place.id);
            let entry = entry.trust(trust.clone()).node(*node);
            turn.repeated.push((Some(trust.clone()), Repeated::Refusal, entry));
            return Ok(());
        }
        let key = keys::tally(&tombstone, trust, &stated, node);
        if place.is_newer(turn, &key)? {
            turn.rows.put(Tree::Tally, key, *place.id.as_bytes());
        }
        match item {
            ReceiptItem::Erased(_) => place.confirms(turn, &tombstone)?,
            ReceiptItem::Held(held) => {
                // When the hold has ended, erasure is due, as it was when it was ordered.
                if Logged::get(&turn.rows, &tombstone)?.is_some_and(|logged| logged.by == self.own.trust) {
                    let deadline = held.until.plus_secs(self.network.charter().policy.confirm_secs());
                    turn.rows.put(Tree::Deletions, keys::deadline(deadline, &tombstone), []);
                }
                if held.until > turn.now {
                    place.confirms(turn, &tombstone)?;
                }
            }
            ReceiptItem::DeviceErased(item) => {
                let Stated::Device(device) = stated else { return Ok(()) };
                self.keep_chain(turn, &device)?;
                // Handed in to another node of this trust.
                if *trust == self.own.trust {
                    destruction::has_erased(turn, &tombstone, &device, &item.line)?;
                }
            }
            ReceiptItem::Waiting(item) => {
                for named in &item.devices {
                    self.keep_chain(turn, &named.device)?;
                }
            }
            ReceiptItem::Expired(_) => {}
        }
        Ok(())
    }
}

/// A receipt, as a row of the tally has it.
struct Place<'a> {
    id: RecordId,
    issued: Timestamp,
    trust: &'a TrustId,
    node: &'a NodeId,
    /// Whether any replica is overdue with anything: few nodes ever have such rows, and each item would ask for its own.
    any_overdue: bool,
}

fn is_any_overdue(turn: &Turn<'_>) -> Result<bool, StorageError> {
    Ok(!turn.rows.scan_prefix(Tree::Deletions, &[keys::OVERDUE], 1)?.is_empty())
}

impl Place<'_> {
    /// The replica has confirmed a deletion.
    fn confirms(&self, turn: &mut Turn<'_>, tombstone: &RecordId) -> Result<(), StorageError> {
        if self.any_overdue { destruction::confirmed(turn, tombstone, self.trust, self.node) } else { Ok(()) }
    }

    /// Whether it was issued after the one that is noted here; so that its place does not depend on the order of arrival.
    fn is_newer(&self, turn: &Turn<'_>, key: &[u8]) -> Result<bool, StorageError> {
        let Some(row) = turn.rows.get(Tree::Tally, key)? else { return Ok(true) };
        let Ok(noted) = RecordId::try_from(row.as_slice()) else { return Ok(true) };
        let held = Holding::get(&turn.rows, &noted)?;
        Ok(held.is_none_or(|held| (held.issued, noted) < (self.issued, self.id)))
    }
}

/// How many more receipts of a trust may wait for their tombstones. Those that have waited for long give way.
fn early_room(turn: &mut Turn<'_>, trust: &TrustId) -> Result<usize, StorageError> {
    let rows = turn.rows.scan_prefix(Tree::Deletions, &keys::early_by(trust), EARLY_RECEIPTS_MAX)?;
    let mut room = EARLY_RECEIPTS_MAX - rows.len();
    if room == 0 {
        for (key, row) in rows {
            if keys::last_u64(&row).saturating_add(EARLY_RECEIPT_SECS) < turn.now.as_secs() {
                turn.rows.delete(Tree::Deletions, key);
                room += 1;
            }
        }
    }
    Ok(room)
}

/// Why a device's line counts for nothing, unless it verifies, or the device's certificate is yet to come.
pub(crate) fn not_believed(
    view: &dyn View,
    network: &Network,
    line: &[u8],
    trust: &TrustId,
) -> Result<Option<String>, StorageError> {
    let line = match DeviceLine::from_bytes(line) {
        Ok(line) => line,
        Err(why) => return Ok(Some(why.to_string())),
    };
    let Some(chain) = chain_of(view, network, &line.signer())? else { return Ok(None) };
    let certificate = match network.certified(&chain, Purpose::Device) {
        Ok(certificate) => certificate,
        Err(why) => return Ok(Some(why.to_string())),
    };
    if certificate.subject().trust != *trust {
        return Ok(Some("its certificate is another trust's".into()));
    }
    Ok(line.verify(&certificate).err().map(|why| why.to_string()))
}

/// The node whose certificate this is.
fn node_of(view: &dyn View, network: &Network, signer: &Fingerprint) -> Result<Option<NodeId>, StorageError> {
    let chain = chain_of(view, network, signer)?;
    let leaf = chain.and_then(|chain| Certificate::parse(chain.first()?).ok());
    Ok(leaf.map(|leaf| NodeId::new(*leaf.public_key())))
}

/// The certificate chain that was kept, or is known.
pub(crate) fn chain_of(
    view: &dyn View,
    network: &Network,
    signer: &Fingerprint,
) -> Result<Option<Vec<ByteBuf>>, StorageError> {
    if let Some(chain) = network.chain(signer) {
        return Ok(Some(chain.map(|der| ByteBuf::from(der.to_vec())).into()));
    }
    let row = view.get(Tree::Certificates, signer.as_bytes())?;
    Ok(row.and_then(|row| cbor::from_slice(&row, 64 * 1024).ok()))
}

/// What an item states of which tombstone.
fn stated(item: &ReceiptItem) -> Option<(RecordId, Stated)> {
    let stated = match item {
        ReceiptItem::Erased(_) => Stated::Erased,
        ReceiptItem::Held(_) => Stated::Held,
        ReceiptItem::DeviceErased(item) => {
            Stated::Device(DeviceLine::from_bytes(&item.line).ok().map(|line| line.signer())?)
        }
        ReceiptItem::Waiting(_) => Stated::Waiting,
        ReceiptItem::Expired(_) => return None,
    };
    Some((item.tombstone()?, stated))
}

/// Forgets what a receipt that is dropped has attested.
pub(crate) fn forget(turn: &mut Turn<'_>, id: &RecordId) -> Result<(), StorageError> {
    let Some((held, record)) = crate::admit::stored(&turn.rows, id)? else { return Ok(()) };
    if let (Body::Receipt(receipt), Some(trust)) = (record.body(), &held.signer) {
        for (tombstone, stated) in receipt.items.iter().filter_map(stated) {
            let prefix = keys::tally_of(&tombstone, trust, &stated);
            for (key, row) in turn.rows.scan_prefix(Tree::Tally, &prefix, crate::limits::SCAN_ROWS)? {
                // A later receipt for the same tombstone keeps its place.
                if row == id.as_bytes() {
                    turn.rows.delete(Tree::Tally, key);
                }
            }
        }
    }
    Ok(())
}

/// The name under which [`Tree::Meta`] says which form receipts have in this store: one byte 2; or 0 and the last row of
/// [`Tree::Expiry`] that was looked at.
const STATE: &str = "receipts";

/// Whether receipts have the present form.
pub(crate) fn are_batches(view: &dyn View) -> Result<bool, StorageError> {
    Ok(view.get(Tree::Meta, STATE.as_bytes())?.as_deref() == Some(&[2]))
}

/// A new store has no receipt of another form.
pub(crate) fn found(batch: &mut Batch) {
    batch.put(Tree::Meta, STATE, [2]);
}

/// The next batch for a store of a version whose receipts had no tree: those go, since nobody reads them any more, each deletion
/// that is still in force is entered into the destruction log, and is attested anew. None if there is nothing to do.
pub(crate) fn upgrade(view: &dyn View) -> Result<Option<Batch>, StorageError> {
    use std::ops::Bound;
    let state = view.get(Tree::Meta, STATE.as_bytes())?;
    let low = match state.as_deref() {
        Some([2]) => return Ok(None),
        Some([0, key @ ..]) => Bound::Excluded(key.to_vec()),
        _ => Bound::Unbounded,
    };
    let now = erase::expired_until(view)?;
    let mut turn = Turn::new(view, now, STEP_CHANGES_MAX);
    if matches!(low, Bound::Unbounded) {
        // Of a form whose keys were shorter.
        for (key, _) in turn.rows.scan_prefix(Tree::Tally, &[], STEP_CHANGES_MAX)? {
            turn.rows.delete(Tree::Tally, key);
        }
        if turn.is_full() {
            return Ok(Some(turn.finish()?.batch));
        }
    }
    let range = (low.as_ref().map(Vec::as_slice), Bound::Unbounded);
    let rows = turn.rows.scan(Tree::Expiry, range, UPGRADE_ROWS)?;
    let next = rows.last().map_or(vec![2], |(last, _)| [&[0], last.as_slice()].concat());
    for (key, _) in rows {
        let Some(id) = key.last_chunk::<32>().map(|id| RecordId::new(*id)) else { continue };
        let Some(held) = Holding::get(&turn.rows, &id)? else { continue };
        if held.kind == lanyard_crypto::record::Kind::Receipt as u8
            && crate::admit::stored(&turn.rows, &id)?.is_none()
        {
            erase::erase(&mut turn, &id, &held)?;
        }
        if held.kind == lanyard_crypto::record::Kind::Tombstone as u8
            && let Some(by) = &held.signer
        {
            log::enter(&mut turn, &id, by, held.issued, true)?;
            if !turn.rows.contains(Tree::Meta, &keys::unfinished(&id))? {
                turn.rows.put(Tree::Meta, keys::unfinished(&id), 0u32.to_be_bytes());
            }
        }
    }
    turn.rows.put(Tree::Meta, STATE, next);
    Ok(Some(turn.finish()?.batch))
}
