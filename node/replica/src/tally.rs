//! Reading who has confirmed a deletion: for the gateway, the operator, and what is overdue.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use lanyard_crypto::gateway::{
    Attestation, DEVICES_SHOWN_MAX, DeletionResponse, KnownDevice, Replica, TrustDevices,
};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{self, Body, Decoded, DeviceLine, ReceiptItem};
use lanyard_crypto::{Fingerprint, NodeId, RecordId, Timestamp, TrustId};
use lanyard_storage::{StorageError, Tree, View};
use serde::Serialize;

use crate::admit::stored;
use crate::destruction::Logged;
use crate::keys::{self, Stated};
use crate::limits::SCAN_ROWS;
use crate::query::for_each;
use crate::receipts::{chain_of, not_believed};

/// Rows of the log that are read at once.
const PAGE_ROWS: usize = 128;

/// Who has carried out a tombstone, and who has not; none if it is neither held nor in the destruction log.
///
/// # Errors
/// The view's alone.
pub fn deletion(
    view: &dyn View,
    network: &Network,
    id: &RecordId,
    now: Timestamp,
) -> Result<Option<DeletionResponse>, StorageError> {
    let Some(logged) = Logged::get(view, id)? else { return Ok(None) };
    let Ok(tombstone) = Decoded::from_bytes(&logged.record) else { return Ok(None) };
    let mut reader = Reader { view, network, receipts: BTreeMap::new() };
    let mut replicas = Vec::new();
    for (trust, node) in expected(view, network, id, &tombstone, now)? {
        let own = |node: &Option<NodeId>, stated| -> Option<Vec<u8>> {
            node.as_ref().map(|node| keys::tally(id, &trust, &stated, node))
        };
        let erased = reader.attestation(own(&node, Stated::Erased), id, &Stated::Erased)?;
        let held = reader.attestation(own(&node, Stated::Held), id, &Stated::Held)?;
        let since = view.get(Tree::Deletions, &keys::overdue(id, &trust, node.as_ref()))?;
        let overdue = since.map(|row| Timestamp::from_secs(keys::last_u64(&row)));
        replicas.push(Replica { trust, node, erased, held, overdue });
    }
    let mut devices = Vec::new();
    for trust in &tombstone.header().custodians {
        devices.push(reader.devices(id, trust, now)?);
    }
    let signer = tombstone.signer().map(|signer| chain_of(view, network, &signer)).transpose()?.flatten();
    Ok(Some(DeletionResponse {
        tombstone: *id,
        record: logged.record.into_vec(),
        chain: signer.unwrap_or_default(),
        replicas,
        devices,
    }))
}

/// The deletions in the destruction log, at most `limit`: those that this trust has ordered first, so that no other one can crowd
/// them out; each newest first.
///
/// # Errors
/// The view's alone.
pub fn deletions(
    view: &dyn View,
    network: &Network,
    own: &TrustId,
    limit: usize,
    now: Timestamp,
) -> Result<Vec<DeletionResponse>, StorageError> {
    let mut deletions = Vec::new();
    each_deletion(view, network, own, None, now, |_, deletion| {
        if deletions.len() < limit {
            deletions.push(deletion);
        }
        deletions.len() < limit
    })?;
    Ok(deletions)
}

/// Calls `each` with the deletions in the destruction log, in the order of [`deletions`], until it returns false. With each comes its place,
/// after which another call goes on.
///
/// # Errors
/// The view's alone.
pub fn each_deletion(
    view: &dyn View,
    network: &Network,
    own: &TrustId,
    after: Option<&[u8]>,
    now: Timestamp,
    mut each: impl FnMut(&[u8], DeletionResponse) -> bool,
) -> Result<(), StorageError> {
    let ours = keys::logged_by_trust(own);
    let parts =
        [(ours.clone(), [&ours[..], &[255; 41]].concat()), (vec![keys::LOG_ENDS], vec![keys::LOG_ENDS + 1])];
    // The place of an own deletion has another first byte than those of others.
    let skips = usize::from(after.is_some_and(|after| after.first() == Some(&keys::LOG_ENDS)));
    for (part, (low, high)) in parts.into_iter().enumerate().skip(skips) {
        let mut high = after.filter(|_| part == skips).map_or(high, <[u8]>::to_vec);
        loop {
            let range = (Bound::Included(low.as_slice()), Bound::Excluded(high.as_slice()));
            let rows = view.scan_back(Tree::Deletions, range, PAGE_ROWS)?;
            let Some((last, _)) = rows.last() else { break };
            high = last.clone();
            for (key, _) in rows {
                let Some(id) = key.last_chunk::<32>().map(|id| RecordId::new(*id)) else { continue };
                if part == 1 && Logged::get(view, &id)?.is_none_or(|logged| logged.by == *own) {
                    continue;
                }
                if let Some(deletion) = deletion(view, network, &id, now)?
                    && !each(&key, deletion)
                {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// A replica that has not confirmed a deletion of this trust in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Overdue {
    /// The tombstone.
    pub tombstone: RecordId,
    /// The replica's trust.
    pub trust: TrustId,
    /// Its node, if one is known.
    pub node: Option<NodeId>,
    /// Since when.
    pub since: Timestamp,
}

/// The replicas that are overdue, at most `limit`.
///
/// # Errors
/// The view's alone.
pub fn overdue(view: &dyn View, limit: usize) -> Result<Vec<Overdue>, StorageError> {
    let rows = view.scan_prefix(Tree::Deletions, &[keys::OVERDUE], limit)?;
    let overdue = |(key, row): &(Vec<u8>, Vec<u8>)| {
        let (tombstone, trust, node) = keys::overdue_parts(key)?;
        Some(Overdue { tombstone, trust, node, since: Timestamp::from_secs(keys::last_u64(row)) })
    };
    Ok(rows.iter().filter_map(overdue).collect())
}

/// Which replicas have neither erased nor said that they hold for longer than until now.
pub(crate) fn missing(
    view: &dyn View,
    network: &Network,
    id: &RecordId,
    logged: &Logged,
    now: Timestamp,
) -> Result<Vec<(TrustId, Option<NodeId>)>, StorageError> {
    let Ok(tombstone) = Decoded::from_bytes(&logged.record) else { return Ok(Vec::new()) };
    let mut reader = Reader { view, network, receipts: BTreeMap::new() };
    let mut missing = Vec::new();
    for (trust, node) in expected(view, network, id, &tombstone, now)? {
        let confirmed = match &node {
            None => false,
            Some(node) if view.contains(Tree::Tally, &keys::tally(id, &trust, &Stated::Erased, node))? => {
                true
            }
            Some(node) => {
                let key = keys::tally(id, &trust, &Stated::Held, node);
                let held = reader.attestation(Some(key), id, &Stated::Held)?;
                matches!(held, Some(Attestation { item: ReceiptItem::Held(held), .. }) if held.until > now)
            }
        };
        if !confirmed {
            missing.push((trust, node));
        }
    }
    Ok(missing)
}

/// The replicas of a deletion: the valid nodes of its custodian trusts that could have learnt of it, and those that have confirmed;
/// of a trust without one, the trust.
fn expected(
    view: &dyn View,
    network: &Network,
    id: &RecordId,
    tombstone: &Decoded,
    now: Timestamp,
) -> Result<Vec<(TrustId, Option<NodeId>)>, StorageError> {
    let mut nodes: BTreeMap<TrustId, BTreeSet<NodeId>> =
        tombstone.header().custodians.iter().map(|trust| (trust.clone(), BTreeSet::new())).collect();
    for identity in network.nodes(now) {
        if identity.certificate.not_before() < tombstone.header().expires
            && let Some(of_trust) = nodes.get_mut(&identity.trust)
        {
            of_trust.insert(identity.node());
        }
    }
    for (trust, of_trust) in &mut nodes {
        for stated in [Stated::Erased, Stated::Held] {
            for_each(view, Tree::Tally, &keys::tally_of(id, trust, &stated), |key, _| {
                of_trust.extend(key.last_chunk::<32>().map(|node| NodeId::new(*node)));
                Ok(())
            })?;
        }
    }
    Ok(nodes
        .into_iter()
        .flat_map(|(trust, of_trust)| match of_trust.is_empty() {
            true => vec![(trust, None)],
            false => of_trust.into_iter().map(|node| (trust.clone(), Some(node))).collect(),
        })
        .collect())
}

/// Reads receipts, each once.
struct Reader<'a> {
    view: &'a dyn View,
    network: &'a Network,
    receipts: BTreeMap<RecordId, Option<Decoded>>,
}

impl Reader<'_> {
    /// What the receipt in this row of the tally states.
    fn attestation(
        &mut self,
        key: Option<Vec<u8>>,
        tombstone: &RecordId,
        stated: &Stated,
    ) -> Result<Option<Attestation>, StorageError> {
        let row = key.map(|key| self.view.get(Tree::Tally, &key)).transpose()?.flatten();
        let Some(id) = row.and_then(|row| RecordId::try_from(row.as_slice()).ok()) else { return Ok(None) };
        if !self.receipts.contains_key(&id) {
            self.receipts.insert(id, stored(self.view, &id)?.map(|(_, record)| record));
        }
        let Some(record) = self.receipts.get(&id).and_then(Option::as_ref) else { return Ok(None) };
        let (Body::Receipt(receipt), Some(signer)) = (record.body(), record.signer()) else {
            return Ok(None);
        };
        let states = |item: &&ReceiptItem| {
            item.tombstone() == Some(*tombstone)
                && match (item, stated) {
                    (ReceiptItem::Erased(_), Stated::Erased)
                    | (ReceiptItem::Held(_), Stated::Held)
                    | (ReceiptItem::Waiting(_), Stated::Waiting) => true,
                    (ReceiptItem::DeviceErased(item), Stated::Device(device)) => {
                        DeviceLine::from_bytes(&item.line).is_ok_and(|line| line.signer() == *device)
                    }
                    _ => false,
                }
        };
        let Some(item) = receipt.items.iter().find(states).cloned() else { return Ok(None) };
        let Some(proof) = record::prove(record, &item) else { return Ok(None) };
        let chain = chain_of(self.view, self.network, &signer)?.unwrap_or_default();
        Ok(Some(Attestation { receipt: id, item, proof, chain }))
    }

    fn devices(
        &mut self,
        id: &RecordId,
        trust: &TrustId,
        now: Timestamp,
    ) -> Result<TrustDevices, StorageError> {
        let mut lines: BTreeMap<Fingerprint, Vec<u8>> = BTreeMap::new();
        for_each(self.view, Tree::Tally, &keys::tally_devices(id, trust), |key, _| {
            lines.extend(keys::tally_device(key).map(|device| (device, key.to_vec())));
            Ok(())
        })?;
        let more = lines.len().saturating_sub(DEVICES_SHOWN_MAX) as u32;
        let mut shown = TrustDevices {
            trust: trust.clone(),
            erased: Vec::new(),
            more,
            waiting: Vec::new(),
            known: Vec::new(),
        };
        for (device, key) in lines.iter().take(DEVICES_SHOWN_MAX) {
            let attested = self.attestation(Some(key.clone()), id, &Stated::Device(*device))?;
            // Nothing that can't be shown: a certificate that never came, or came later and is another's.
            if let Some(attested) = attested
                && let ReceiptItem::DeviceErased(item) = &attested.item
                && let Some(known) = self.known(device, now)?
                && not_believed(self.view, self.network, &item.line, trust)?.is_none()
            {
                shown.erased.push((attested, Some(known)));
            }
        }
        let prefix = keys::tally_of(id, trust, &Stated::Waiting);
        for (key, _) in self.view.scan_prefix(Tree::Tally, &prefix, SCAN_ROWS)? {
            shown.waiting.extend(self.attestation(Some(key), id, &Stated::Waiting)?);
        }
        let mut named = BTreeSet::new();
        for attested in &shown.waiting {
            if let ReceiptItem::Waiting(item) = &attested.item {
                named.extend(item.devices.iter().map(|d| d.device).filter(|d| !lines.contains_key(d)));
            }
        }
        for device in named {
            shown.known.extend(self.known(&device, now)?);
        }
        Ok(shown)
    }

    fn known(&self, device: &Fingerprint, now: Timestamp) -> Result<Option<KnownDevice>, StorageError> {
        let revoked = self.network.identity(device, now).is_err();
        let chain = chain_of(self.view, self.network, device)?;
        Ok(chain.map(|chain| KnownDevice { chain, revoked }))
    }
}
