//! Reading: pure functions over a view, for the gateway, the operator's commands and the driver.

use std::ops::Bound;

use lanyard_crypto::charter::TrustRetention;
use lanyard_crypto::gateway::{
    DirectoryResponse, InboxItem, InboxRecord, InboxResponse, Tick, TicksResponse, TrustResponse,
};
use lanyard_crypto::mls::ReviewTerms;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{Body, Class, Decoded, Kind};
use lanyard_crypto::x509::{Certificate, Purpose};
use lanyard_crypto::{Fingerprint, NodeId, RecordId, Timestamp, TrustId};
use lanyard_storage::{StorageError, Tree, View};
use serde::Serialize;
use serde_bytes::ByteBuf;

use crate::admit::stored;
use crate::erase;
use crate::holding::{Holding, LAYERS};
use crate::keys;
use crate::limits::{FRAME_RECORDS_BYTES_MAX, FRAME_RECORDS_MAX, SCAN_ROWS};
use crate::mutation::{self, Mutation};
use crate::spread::{self, Progress};

pub use crate::tally::{Overdue, deletion, each_deletion, overdue};

/// Entries in one answer of the directory.
pub const DIRECTORY_ENTRIES_MAX: usize = 100;
/// Items in one page of the inbox.
pub const INBOX_ITEMS_MAX: usize = 256;
/// Records in one page of the inbox, in bytes.
pub const INBOX_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Calls `each` with every row whose key begins with `prefix`, by key, a few thousand at a time.
pub fn for_each(
    view: &dyn View,
    tree: Tree,
    prefix: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let end = lanyard_storage::prefix_end(prefix);
    let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let mut from = Bound::Included(prefix.to_vec());
    loop {
        let rows = view.scan(tree, (from.as_ref().map(Vec::as_slice), end), SCAN_ROWS)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        from = Bound::Excluded(last.clone());
        for (key, row) in &rows {
            each(key, row)?;
        }
        if rows.len() < SCAN_ROWS {
            return Ok(());
        }
    }
}

/// What waits for a trust: record ids and bytes after the outbox position `after`, enough for one frame, with the position of the
/// last. What has expired by `now` is not given out any more.
pub fn outbox(
    view: &dyn View,
    to: &TrustId,
    after: u64,
    now: Timestamp,
) -> Result<(u64, Vec<ByteBuf>), StorageError> {
    let (low, high) = (keys::outbox(to, after), keys::outbox(to, u64::MAX));
    let range = (Bound::Excluded(low.as_slice()), Bound::Included(high.as_slice()));
    let (mut last, mut bytes, mut records) = (after, 0, Vec::new());
    for (key, id) in view.scan(Tree::Outbox, range, FRAME_RECORDS_MAX)? {
        let Ok(id) = RecordId::try_from(id.as_slice()) else { continue };
        if let Some(held) = Holding::get(view, &id)?
            && (held.expires > now || mutation::is(Mutation::SendExpired))
            && !erase::is_withheld(view, &id, &held, now)?
            && let Some(record) = view.get(held.tree(), id.as_bytes())?
        {
            if bytes + record.len() > FRAME_RECORDS_BYTES_MAX {
                break;
            }
            bytes += record.len();
            records.push(ByteBuf::from(record));
        }
        last = keys::last_u64(&key);
    }
    Ok((last, records))
}

/// A page of a device's inbox, after the position `after`.
pub fn inbox(
    view: &dyn View,
    network: &Network,
    device: &Fingerprint,
    after: u64,
    now: Timestamp,
) -> Result<InboxResponse, StorageError> {
    // It may have been revoked since its request was let in.
    if network.is_revoked(device) {
        return Ok(InboxResponse { items: Vec::new(), more: false });
    }
    let (low, high) = (keys::inbox(device, after), keys::inbox(device, u64::MAX));
    let range = (Bound::Excluded(low.as_slice()), Bound::Included(high.as_slice()));
    let rows = view.scan(Tree::Inbox, range, INBOX_ITEMS_MAX + 1)?;
    let (mut items, mut bytes) = (Vec::new(), 0);
    for (key, id) in &rows {
        let record = match RecordId::try_from(id.as_slice()) {
            Ok(id) => match stored(view, &id)? {
                Some((held, r))
                    if (held.expires > now || mutation::is(Mutation::DeliverExpired))
                        && !erase::is_withheld(view, &id, &held, now)? =>
                {
                    signed(network, &r)
                }
                _ => None,
            },
            Err(_) => None,
        };
        let len = record.as_ref().map_or(0, |r| r.bytes.len());
        if items.len() == INBOX_ITEMS_MAX || (bytes + len > INBOX_BYTES_MAX && !items.is_empty()) {
            return Ok(InboxResponse { items, more: true });
        }
        bytes += len;
        items.push(InboxItem { seq: keys::last_u64(key), record });
    }
    Ok(InboxResponse { items, more: false })
}

/// The newest position in a device's inbox.
pub fn inbox_newest(view: &dyn View, device: &Fingerprint) -> Result<u64, StorageError> {
    Ok(view.get(Tree::Devices, device.as_bytes())?.map_or(0, |row| keys::last_u64(&row)))
}

/// When this node last heard of a device, to the minute; none if it never has.
pub fn last_seen(view: &dyn View, device: &Fingerprint) -> Result<Option<Timestamp>, StorageError> {
    let row = view.get(Tree::Seen, device.as_bytes())?;
    Ok(row.map(|row| Timestamp::from_secs(keys::last_u64(&row))))
}

fn signed(network: &Network, record: &Decoded) -> Option<InboxRecord> {
    let chain = network.chain(&record.signer()?)?;
    Some(InboxRecord {
        bytes: record.bytes().to_vec(),
        chain: chain.map(|c| ByteBuf::from(c.to_vec())).into(),
    })
}

/// How far a record of this node has come; none if it is not one, or was erased.
pub fn ticks(view: &dyn View, id: &RecordId) -> Result<Option<TicksResponse>, StorageError> {
    let rows = view.scan_prefix(Tree::Ticks, id.as_bytes(), SCAN_ROWS)?;
    if rows.is_empty() && Holding::get(view, id)?.is_none() {
        return Ok(None);
    }
    let tick = |(key, row): &(Vec<u8>, Vec<u8>)| {
        let (confirmed, refused) = match spread::progress(row)? {
            Progress::Waiting(_) => (None, None),
            Progress::Confirmed(at) => (Some(at), None),
            Progress::Refused(code) => (None, Some(code)),
        };
        Some(Tick { trust: keys::trust_in(&key[32..])?, confirmed, refused })
    };
    Ok(Some(TicksResponse { custodians: rows.iter().filter_map(tick).collect() }))
}

/// The same for a device of this trust: of messages, what it has itself handed in. Who submitted a change is not kept, nor the
/// submission once it is answered; its id is known to no other device.
pub fn ticks_for(
    view: &dyn View,
    device: &Fingerprint,
    id: &RecordId,
) -> Result<Option<TicksResponse>, StorageError> {
    let theirs = match view.get(Tree::Submitted, id.as_bytes())? {
        Some(row) => row.starts_with(device.as_bytes()),
        None => Holding::get(view, id)?.is_none_or(|held| held.class == Some(Class::Submission)),
    };
    if theirs { ticks(view, id) } else { Ok(None) }
}

/// Directory entries of nodes and people in which every one of the words occurs, whatever its case: in the name, role,
/// department, organisation, trust, registration, or fingerprint. Nodes first: there are few, and clients need them. Without words:
/// everybody, up to the bound. Nobody whose certificate has been revoked or is over.
pub fn directory(
    view: &dyn View,
    network: &Network,
    words: &str,
    now: Timestamp,
) -> Result<DirectoryResponse, StorageError> {
    let words: Vec<String> = words.to_lowercase().split_whitespace().map(str::to_owned).collect();
    let (mut nodes, mut people, mut more) = (Vec::new(), Vec::new(), false);
    for_each(view, Tree::Directory, &[], |_, row| {
        let Ok(id) = RecordId::try_from(row) else { return Ok(()) };
        let Some((held, record)) = stored(view, &id)? else { return Ok(()) };
        let Body::Entry(entry) = record.body() else { return Ok(()) };
        let Ok(leaf) = Certificate::parse(&entry.chain[0]) else { return Ok(()) };
        let text = searched(&leaf);
        let current = || network.identity(&leaf.fingerprint(), network.time(now)).is_ok();
        if held.expires <= now || !words.iter().all(|w| text.contains(w)) || !current() {
            return Ok(());
        }
        let found = if leaf.purpose() == Purpose::Node { &mut nodes } else { &mut people };
        if found.len() < DIRECTORY_ENTRIES_MAX {
            found.push(ByteBuf::from(record.bytes().to_vec()));
        } else {
            more = true;
        }
        Ok(())
    })?;
    nodes.extend(people);
    more |= nodes.len() > DIRECTORY_ENTRIES_MAX;
    nodes.truncate(DIRECTORY_ENTRIES_MAX);
    Ok(DirectoryResponse { entries: nodes, more })
}

fn searched(leaf: &Certificate) -> String {
    let subject = leaf.subject();
    let optional = [&subject.title, &subject.department, &subject.registration];
    let stated = [subject.common_name.as_str(), subject.organisation.as_str(), subject.trust.as_str()];
    let all = stated.into_iter().chain(optional.into_iter().filter_map(|text| text.as_deref()));
    let mut text = all.collect::<Vec<_>>().join("\n").to_lowercase();
    text.push_str(&format!("\n{}", leaf.fingerprint()));
    text
}

/// The devices of a trust whose certificates carry this professional registration, revoked or over though they be, as far as the
/// directory still names them.
pub fn devices_of(
    view: &dyn View,
    trust: &TrustId,
    registration: &str,
) -> Result<Vec<Fingerprint>, StorageError> {
    let mut devices = Vec::new();
    for_each(view, Tree::Directory, &[], |_, row| {
        if let Ok(id) = RecordId::try_from(row)
            && let Some((_, record)) = stored(view, &id)?
            && let Body::Entry(entry) = record.body()
            && let Ok(leaf) = Certificate::parse(&entry.chain[0])
            && leaf.subject().trust == *trust
            && leaf.subject().registration.as_deref() == Some(registration)
        {
            devices.push(leaf.fingerprint());
        }
        Ok(())
    })?;
    Ok(devices)
}

/// The directory entry in force of a certificate.
pub fn entry(view: &dyn View, device: &Fingerprint) -> Result<Option<Decoded>, StorageError> {
    let id =
        view.get(Tree::Directory, device.as_bytes())?.and_then(|row| RecordId::try_from(row.as_slice()).ok());
    Ok(match id {
        Some(id) => stored(view, &id)?.map(|(_, record)| record),
        None => None,
    })
}

/// A charter and the revocation lists in force, as records: the charter of this version, if it is still held, otherwise the one
/// in force.
pub fn trust(view: &dyn View, version: Option<u64>) -> Result<TrustResponse, StorageError> {
    let earlier = match version {
        Some(version) => charter(view, version)?,
        None => None,
    };
    let charter = match (earlier, view.get(Tree::Meta, b"charter")?) {
        (Some(earlier), _) => earlier,
        (None, Some(id)) => view.get(Tree::Records, &id)?.unwrap_or_default(),
        (None, None) => Vec::new(),
    };
    let mut crls = Vec::new();
    for_each(view, Tree::Revocations, &[], |_, id| {
        crls.extend(view.get(Tree::Records, id)?.map(ByteBuf::from));
        Ok(())
    })?;
    Ok(TrustResponse {
        charter,
        crls,
        retention: TrustRetention::default(),
        review: ReviewTerms::default(),
        patterns: Vec::new(),
    })
}

fn charter(view: &dyn View, version: u64) -> Result<Option<Vec<u8>>, StorageError> {
    let mut found = None;
    for_each(view, Tree::Index, &[LAYERS[0]], |key, _| {
        if let (None, Some((_, id))) = (&found, keys::index_parts(key))
            && let Some((held, record)) = stored(view, &id)?
            && held.kind == Kind::Charter as u8
            && matches!(record.body(), Body::Charter(charter) if charter.version == version)
        {
            found = Some(record.bytes().to_vec());
        }
        Ok(())
    })?;
    Ok(found)
}

/// How much is held and how much waits, for the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Envelopes held.
    pub envelopes: u64,
    /// Tombstones held.
    pub tombstones: u64,
    /// Receipts held.
    pub receipts: u64,
    /// Directory entries held.
    pub entries: u64,
    /// Heads of audit logs held.
    pub heads: u64,
    /// Records that some trust has yet to acknowledge, by trust.
    pub waiting: std::collections::BTreeMap<String, u64>,
}

/// Counts by reading all rows: for `status`, not for a hot path.
pub fn counts(view: &dyn View) -> Result<Counts, StorageError> {
    let mut counts = Counts::default();
    for_each(view, Tree::Expiry, &[], |_, kind| {
        match kind {
            [k] if *k == Kind::Envelope as u8 => counts.envelopes += 1,
            [k] if *k == Kind::Tombstone as u8 => counts.tombstones += 1,
            [k] if *k == Kind::Receipt as u8 => counts.receipts += 1,
            [k] if *k == Kind::Entry as u8 => counts.entries += 1,
            [k] if *k == Kind::Head as u8 => counts.heads += 1,
            _ => {}
        }
        Ok(())
    })?;
    for_each(view, Tree::Outbox, &[], |key, _| {
        if let Some(trust) = keys::trust_in(&key[..8]) {
            *counts.waiting.entry(trust.to_string()).or_default() += 1;
        }
        Ok(())
    })?;
    Ok(counts)
}

/// The bytes of a record as they are held, for whoever wants to see what a node holds of a message.
pub fn record_bytes(view: &dyn View, id: &RecordId) -> Result<Option<Vec<u8>>, StorageError> {
    match Holding::get(view, id)? {
        Some(held) => view.get(held.tree(), id.as_bytes()),
        None => Ok(None),
    }
}

/// Whether a device is, or was, served the conversation that a tombstone is about; not if the tombstone is not held.
pub fn is_member_of(
    view: &dyn View,
    device: &Fingerprint,
    tombstone: &RecordId,
) -> Result<bool, StorageError> {
    match stored(view, tombstone)? {
        Some((_, record)) => match record.body() {
            Body::Tombstone(order) => spread::is_reader(view, &order.conversation, device),
            _ => Ok(false),
        },
        None => Ok(false),
    }
}

/// The nodes that have published their addresses, with the trusts that certified them, and these addresses.
pub fn node_addresses(view: &dyn View) -> Result<Vec<(NodeId, TrustId, Vec<String>)>, StorageError> {
    let mut nodes = Vec::new();
    for_each(view, Tree::Directory, &[], |_, row| {
        let Ok(id) = RecordId::try_from(row) else { return Ok(()) };
        let Some((_, record)) = stored(view, &id)? else { return Ok(()) };
        let Body::Entry(entry) = record.body() else { return Ok(()) };
        if let Ok(leaf) = Certificate::parse(&entry.chain[0])
            && leaf.purpose() == Purpose::Node
            && !entry.addresses.is_empty()
        {
            nodes.push((
                NodeId::new(*leaf.public_key()),
                leaf.subject().trust.clone(),
                entry.addresses.clone(),
            ));
        }
        Ok(())
    })?;
    Ok(nodes)
}
