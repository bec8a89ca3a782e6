//! Reading who has confirmed a deletion: for the gateway, the operator, and what is overdue.

use std::collections::{BTreeMap, BTreeSet};

use lanyard_crypto::gateway::{
    Attestation, DEVICES_SHOWN_MAX, DeletionResponse, KnownDevice, Replica, TrustDevices,
};
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{self, Body, Decoded, DeviceLine, ReceiptItem};
use lanyard_crypto::{Fingerprint, NodeId, RecordId, Timestamp, TrustId, cbor};
use lanyard_storage::{StorageError, Tree, View};
use serde::Serialize;

use crate::admit::stored;
use crate::keys::{self, Stated};
use crate::limits::{DEVICES_BYTES_MAX, REPLICAS_BYTES_MAX, SCAN_ROWS};
use crate::log::{Logged, Newest, trusts};
use crate::query::for_each;
use crate::receipts::{chain_of, not_believed};

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
    deletion_within((REPLICAS_BYTES_MAX, DEVICES_BYTES_MAX), view, network, id, now)
}

/// The same, with so many bytes about replicas, and about devices.
pub(crate) fn deletion_within(
    (replicas_bytes, devices_bytes): (usize, usize),
    view: &dyn View,
    network: &Network,
    id: &RecordId,
    now: Timestamp,
) -> Result<Option<DeletionResponse>, StorageError> {
    let Some(logged) = Logged::get(view, id)? else { return Ok(None) };
    let Some(tombstone) = logged.record(view, id)? else { return Ok(None) };
    let mut reader = Reader { view, network, receipts: BTreeMap::new() };
    let mut by_trust: BTreeMap<TrustId, Vec<Option<NodeId>>> = BTreeMap::new();
    for (trust, node) in expected(view, network, id, &tombstone, now)? {
        by_trust.entry(trust).or_default().push(node);
    }
    let mut replicas = Vec::new();
    let mut shares = Shares { left: replicas_bytes, takers: by_trust.len() };
    for (trust, nodes) in by_trust {
        let shown = reader.replicas(id, &trust, nodes, shares.next())?;
        shares.take(&shown);
        replicas.extend(shown);
    }
    let custodians = &tombstone.header().custodians;
    let mut shares = Shares { left: shares.left + devices_bytes, takers: custodians.len() };
    let mut devices = Vec::new();
    for trust in custodians {
        let shown = reader.devices(id, trust, now, shares.next())?;
        shares.take(&shown);
        devices.push(shown);
    }
    let signer = tombstone.signer().map(|signer| chain_of(view, network, &signer)).transpose()?.flatten();
    Ok(Some(DeletionResponse {
        tombstone: *id,
        record: tombstone.bytes().to_vec(),
        chain: signer.unwrap_or_default(),
        replicas,
        devices,
    }))
}

/// Calls `each` with the deletions in the destruction log, until it returns false: those that this trust has ordered first, so that no other
/// one can crowd them out; each newest first.
///
/// # Errors
/// The view's alone.
pub fn each_deletion(
    view: &dyn View,
    network: &Network,
    own: &TrustId,
    now: Timestamp,
    mut each: impl FnMut(DeletionResponse) -> bool,
) -> Result<(), StorageError> {
    let others: Vec<_> = trusts(view)?.into_iter().filter(|trust| trust != own).collect();
    for trusts in [std::slice::from_ref(own), &others] {
        let mut newest = Newest::of(view, trusts)?;
        while let Some(id) = newest.next()? {
            if let Some(deletion) = deletion(view, network, &id, now)?
                && !each(deletion)
            {
                return Ok(());
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
    let Some(tombstone) = logged.record(view, id)? else { return Ok(Vec::new()) };
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

/// What is left of the bytes for what the answer shows, so that no trust with much to show leaves others without.
struct Shares {
    left: usize,
    takers: usize,
}

impl Shares {
    /// An equal share of what is left.
    fn next(&mut self) -> usize {
        let share = self.left / self.takers.max(1);
        self.takers = self.takers.saturating_sub(1);
        share
    }

    fn take(&mut self, shown: &impl Serialize) {
        self.left = self.left.saturating_sub(cbor::to_vec(shown).len());
    }
}

/// Takes the bytes of this from the room that is left, if it fits.
fn fits(room: &mut usize, shown: &impl Serialize) -> bool {
    match room.checked_sub(cbor::to_vec(shown).len()) {
        Some(left) => {
            *room = left;
            true
        }
        None => false,
    }
}

/// Reads receipts, each once.
struct Reader<'a> {
    view: &'a dyn View,
    network: &'a Network,
    receipts: BTreeMap<RecordId, Option<Decoded>>,
}

impl Reader<'_> {
    /// The replicas of one trust with what they attest. Of those for which there is no room one is shown, without that: the deletion must
    /// not look confirmed by all.
    fn replicas(
        &mut self,
        id: &RecordId,
        trust: &TrustId,
        nodes: Vec<Option<NodeId>>,
        mut room: usize,
    ) -> Result<Vec<Replica>, StorageError> {
        let mut shown = Vec::new();
        for node in nodes {
            let own = |stated| node.as_ref().map(|node| keys::tally(id, trust, &stated, node));
            let erased = self.attestation(own(Stated::Erased), id, &Stated::Erased)?;
            let held = self.attestation(own(Stated::Held), id, &Stated::Held)?;
            let since = self.view.get(Tree::Deletions, &keys::overdue(id, trust, node.as_ref()))?;
            let overdue = since.map(|row| Timestamp::from_secs(keys::last_u64(&row)));
            let replica = Replica { trust: trust.clone(), node, erased, held, overdue };
            if !fits(&mut room, &replica) {
                shown.push(Replica { erased: None, held: None, ..replica });
                break;
            }
            shown.push(replica);
        }
        Ok(shown)
    }

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

    /// The devices of one trust: for which it is waited, then as many of those that have erased as there is room for.
    fn devices(
        &mut self,
        id: &RecordId,
        trust: &TrustId,
        now: Timestamp,
        mut room: usize,
    ) -> Result<TrustDevices, StorageError> {
        let mut lines: BTreeMap<Fingerprint, Vec<u8>> = BTreeMap::new();
        for_each(self.view, Tree::Tally, &keys::tally_devices(id, trust), |key, _| {
            lines.extend(keys::tally_device(key).map(|device| (device, key.to_vec())));
            Ok(())
        })?;
        let (mut waiting, mut known, mut erased) = (Vec::new(), Vec::new(), Vec::new());
        let prefix = keys::tally_of(id, trust, &Stated::Waiting);
        for (key, _) in self.view.scan_prefix(Tree::Tally, &prefix, SCAN_ROWS)? {
            let attested = self.attestation(Some(key), id, &Stated::Waiting)?;
            waiting.extend(attested.filter(|attested| fits(&mut room, attested)));
        }
        let mut named = BTreeSet::new();
        for attested in &waiting {
            if let ReceiptItem::Waiting(item) = &attested.item {
                named.extend(item.devices.iter().map(|d| d.device).filter(|d| !lines.contains_key(d)));
            }
        }
        for device in named {
            known.extend(self.known(&device, now)?.filter(|known| fits(&mut room, known)));
        }
        let mut more = lines.len();
        for (device, key) in lines.iter().take(DEVICES_SHOWN_MAX) {
            let attested = self.attestation(Some(key.clone()), id, &Stated::Device(*device))?;
            // Nothing that can't be shown: a certificate that never came, or came later and is another's.
            if let Some(attested) = attested
                && let ReceiptItem::DeviceErased(item) = &attested.item
                && let Some(known) = self.known(device, now)?
                && not_believed(self.view, self.network, &item.line, trust)?.is_none()
            {
                let shown = (attested, Some(known));
                if !fits(&mut room, &shown) {
                    break;
                }
                erased.push(shown);
            }
            more -= 1;
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        Ok(TrustDevices { trust: trust.clone(), erased, more, waiting, known })
    }

    fn known(&self, device: &Fingerprint, now: Timestamp) -> Result<Option<KnownDevice>, StorageError> {
        let revoked = self.network.identity(device, now).is_err();
        let chain = chain_of(self.view, self.network, device)?;
        Ok(chain.map(|chain| KnownDevice { chain, revoked }))
    }
}
