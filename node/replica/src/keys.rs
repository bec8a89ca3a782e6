//! Row keys, as the catalogue of trees lays them out.

use lanyard_crypto::{ConversationId, Fingerprint, NodeId, RecordId, Timestamp, TrustId};

use crate::limits::BUCKET_SECS;

/// The trust's code, padded to 8 bytes.
pub(crate) fn trust(trust: &TrustId) -> [u8; 8] {
    let mut key = [0; 8];
    let code = trust.as_str().as_bytes();
    key[..code.len()].copy_from_slice(code);
    key
}

/// The trust in 8 padded bytes.
pub(crate) fn trust_in(key: &[u8]) -> Option<TrustId> {
    std::str::from_utf8(key).ok()?.trim_end_matches('\0').parse().ok()
}

/// The conversation, with its length before it.
pub(crate) fn conversation(id: &ConversationId) -> Vec<u8> {
    let bytes = id.to_bytes();
    [&[bytes.len() as u8][..], &bytes].concat()
}

pub(crate) fn conversation_row(id: &ConversationId, issued: Timestamp, record: &RecordId) -> Vec<u8> {
    [&conversation(id)[..], &issued.as_secs().to_be_bytes(), record.as_bytes()].concat()
}

pub(crate) fn member(id: &ConversationId, device: &Fingerprint) -> Vec<u8> {
    [&conversation(id)[..], device.as_bytes()].concat()
}

/// Begins the rows of devices that were served a conversation: no conversation is so short as this and the next byte say.
const FORMER: u8 = 0;
/// Begins the rows that say until when these are kept.
pub(crate) const FORMER_ENDS: u8 = 1;

/// Begins the rows of devices that were served this conversation.
pub(crate) fn former_of(id: &ConversationId) -> Vec<u8> {
    [&[FORMER][..], &conversation(id)].concat()
}

pub(crate) fn former(id: &ConversationId, device: &Fingerprint) -> Vec<u8> {
    [&[FORMER][..], &member(id, device)].concat()
}

pub(crate) fn former_ends(until: Timestamp, id: &ConversationId, device: &Fingerprint) -> Vec<u8> {
    [&[FORMER_ENDS][..], &until.as_secs().to_be_bytes(), &member(id, device)].concat()
}

/// The row of the device that such a row is about.
pub(crate) fn former_that_ends(key: &[u8]) -> Vec<u8> {
    [&[FORMER][..], key.get(9..).unwrap_or_default()].concat()
}

pub(crate) fn epoch(id: &ConversationId, epoch: u64) -> Vec<u8> {
    [&conversation(id)[..], &epoch.to_be_bytes()].concat()
}

pub(crate) fn expiry(expires: Timestamp, record: &RecordId) -> Vec<u8> {
    [&expires.as_secs().to_be_bytes()[..], record.as_bytes()].concat()
}

pub(crate) fn index(layer: u8, issued: Timestamp, record: &RecordId) -> Vec<u8> {
    [&bucket(layer, issued.as_secs() / BUCKET_SECS)[..], record.as_bytes()].concat()
}

pub(crate) fn bucket(layer: u8, bucket: u64) -> Vec<u8> {
    [&[layer][..], &bucket.to_be_bytes()].concat()
}

/// The bucket and the record of an index row.
pub(crate) fn index_parts(key: &[u8]) -> Option<(u64, RecordId)> {
    let (bucket, id) = key.get(1..)?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*bucket), RecordId::try_from(id).ok()?))
}

/// Where the sum over a trust's records of a layer stands; zeros for those of every member.
pub(crate) fn digest_root(layer: u8, trust: &[u8; 8]) -> Vec<u8> {
    [&[layer][..], trust].concat()
}

pub(crate) fn digest_bucket(layer: u8, trust: &[u8; 8], bucket: u64) -> Vec<u8> {
    [&digest_root(layer, trust)[..], &bucket.to_be_bytes()].concat()
}

/// What a device has handed in: its fingerprint, and the SHA-256 of the content.
pub(crate) fn handed_in(device: &Fingerprint, content: &[u8]) -> Vec<u8> {
    [device.as_bytes().as_slice(), RecordId::of(content).as_bytes()].concat()
}

pub(crate) fn inbox(device: &Fingerprint, seq: u64) -> Vec<u8> {
    [&device.as_bytes()[..], &seq.to_be_bytes()].concat()
}

pub(crate) fn outbox(to: &TrustId, seq: u64) -> Vec<u8> {
    [trust(to), seq.to_be_bytes()].concat()
}

pub(crate) fn tick(record: &RecordId, by: &TrustId) -> Vec<u8> {
    [&record.as_bytes()[..], &trust(by)].concat()
}

/// What a row of the tally is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stated {
    /// A replica has erased.
    Erased,
    /// A replica holds.
    Held,
    /// A device has erased.
    Device(Fingerprint),
    /// Devices are waited for.
    Waiting,
}

/// Begins the rows of what a trust's nodes state of a deletion.
pub(crate) fn tally_of(tombstone: &RecordId, trust: &TrustId, stated: &Stated) -> Vec<u8> {
    let (kind, device) = match stated {
        Stated::Erased => (0, None),
        Stated::Held => (1, None),
        Stated::Device(device) => (2, Some(device)),
        Stated::Waiting => (3, None),
    };
    [&tick(tombstone, trust)[..], &[kind], device.map_or(&[][..], |device| device.as_bytes())].concat()
}

pub(crate) fn tally(tombstone: &RecordId, trust: &TrustId, stated: &Stated, node: &NodeId) -> Vec<u8> {
    [&tally_of(tombstone, trust, stated)[..], node.as_bytes()].concat()
}

/// Begins the rows of a trust's devices.
pub(crate) fn tally_devices(tombstone: &RecordId, trust: &TrustId) -> Vec<u8> {
    [&tick(tombstone, trust)[..], &[2]].concat()
}

/// The device of such a row.
pub(crate) fn tally_device(key: &[u8]) -> Option<Fingerprint> {
    key.get(41..)?.first_chunk::<32>().map(|device| Fingerprint::new(*device))
}

const LOGGED: u8 = 0;
/// Begins the rows of [`lanyard_storage::Tree::Deletions`] that say when a deletion whose tombstone has gone leaves the log.
pub(crate) const LOG_ENDS: u8 = 1;
const DUE: u8 = 2;
/// Begins the rows that say when it is told for which devices it is waited.
pub(crate) const TELLS: u8 = 3;
/// Begins the rows of devices' lines that are not attested yet.
pub(crate) const UNATTESTED: u8 = 4;
/// Begins the rows that say until when replicas are to confirm.
pub(crate) const DEADLINES: u8 = 5;
/// Begins the rows of replicas that are overdue.
pub(crate) const OVERDUE: u8 = 6;
/// Begins the rows of the log: by who ordered, oldest first.
const LOGGED_BY: u8 = 7;
/// Begins the rows that count what each trust has ordered.
pub(crate) const LOG_COUNTS: u8 = 8;
pub(crate) const EARLY: u8 = 9;
/// Begins the rows of what is to be attested when this node can sign again.
pub(crate) const UNSIGNED: u8 = 10;

fn of_deletion(kind: u8, tombstone: &RecordId) -> Vec<u8> {
    [&[kind][..], tombstone.as_bytes()].concat()
}

fn at(kind: u8, at: Timestamp, tombstone: &RecordId) -> Vec<u8> {
    [&[kind][..], &at.as_secs().to_be_bytes(), tombstone.as_bytes()].concat()
}

/// Where it stands in the log, once the tombstone has gone.
pub(crate) fn logged(tombstone: &RecordId) -> Vec<u8> {
    of_deletion(LOGGED, tombstone)
}

/// The value of such a row: who ordered, and when.
pub(crate) fn log_place(by: &TrustId, issued: Timestamp) -> Vec<u8> {
    [&trust(by)[..], &issued.as_secs().to_be_bytes()].concat()
}

/// Of [`log_place`].
pub(crate) fn logged_place(row: &[u8]) -> Option<(TrustId, Timestamp)> {
    let (by, issued) = row.split_first_chunk::<8>()?;
    Some((trust_in(by)?, Timestamp::from_secs(u64::from_be_bytes(issued.try_into().ok()?))))
}

pub(crate) fn log_ends(time: Timestamp, tombstone: &RecordId) -> Vec<u8> {
    at(LOG_ENDS, time, tombstone)
}

/// Begins the rows of the deletions that this trust has ordered.
pub(crate) fn logged_by_trust(by: &TrustId) -> Vec<u8> {
    [&[LOGGED_BY][..], &trust(by)].concat()
}

pub(crate) fn logged_by(by: &TrustId, issued: Timestamp, tombstone: &RecordId) -> Vec<u8> {
    [&logged_by_trust(by)[..], &issued.as_secs().to_be_bytes(), tombstone.as_bytes()].concat()
}

/// Where it is counted how many of the log's rows this trust has ordered.
pub(crate) fn log_count(by: &TrustId) -> Vec<u8> {
    [&[LOG_COUNTS][..], &trust(by)].concat()
}

/// Begins the rows of this trust's receipts for deletions that are not in the log.
pub(crate) fn early_by(signer: &TrustId) -> Vec<u8> {
    [&[EARLY][..], &trust(signer)].concat()
}

/// Those of them for one deletion.
pub(crate) fn early_of(signer: &TrustId, tombstone: &RecordId) -> Vec<u8> {
    [&early_by(signer)[..], tombstone.as_bytes()].concat()
}

pub(crate) fn early(signer: &TrustId, tombstone: &RecordId, receipt: &RecordId) -> Vec<u8> {
    [&early_of(signer, tombstone)[..], receipt.as_bytes()].concat()
}

pub(crate) fn unsigned_of(tombstone: &RecordId) -> Vec<u8> {
    of_deletion(UNSIGNED, tombstone)
}

/// One row for each thing that may be stated: what is stated later takes its place.
pub(crate) fn unsigned(tombstone: &RecordId, by: &TrustId, stated: &Stated) -> Vec<u8> {
    [&[UNSIGNED][..], &tally_of(tombstone, by, stated)].concat()
}

/// The trust that ordered, of such a row.
pub(crate) fn unsigned_by(key: &[u8]) -> Option<TrustId> {
    trust_in(key.get(33..41)?)
}

pub(crate) fn due_of(tombstone: &RecordId) -> Vec<u8> {
    of_deletion(DUE, tombstone)
}

pub(crate) fn due(tombstone: &RecordId, device: &Fingerprint) -> Vec<u8> {
    [&due_of(tombstone)[..], device.as_bytes()].concat()
}

pub(crate) fn tell(time: Timestamp, tombstone: &RecordId) -> Vec<u8> {
    at(TELLS, time, tombstone)
}

pub(crate) fn unattested_of(tombstone: &RecordId) -> Vec<u8> {
    of_deletion(UNATTESTED, tombstone)
}

pub(crate) fn unattested(tombstone: &RecordId, device: &Fingerprint) -> Vec<u8> {
    [&unattested_of(tombstone)[..], device.as_bytes()].concat()
}

/// The tombstone and the device of such a row.
pub(crate) fn unattested_parts(key: &[u8]) -> Option<(RecordId, Fingerprint)> {
    let (tombstone, device) = key.get(1..)?.split_first_chunk::<32>()?;
    Some((RecordId::new(*tombstone), Fingerprint::try_from(device).ok()?))
}

pub(crate) fn deadline(time: Timestamp, tombstone: &RecordId) -> Vec<u8> {
    at(DEADLINES, time, tombstone)
}

pub(crate) fn overdue_of(tombstone: &RecordId) -> Vec<u8> {
    of_deletion(OVERDUE, tombstone)
}

/// Of a trust without a node that is known, the node is zeros.
pub(crate) fn overdue(tombstone: &RecordId, replica: &TrustId, node: Option<&NodeId>) -> Vec<u8> {
    let node = node.map_or([0; 32], |node| *node.as_bytes());
    [&overdue_of(tombstone)[..], &trust(replica), &node].concat()
}

/// The tombstone, the trust and the node of such a row.
pub(crate) fn overdue_parts(key: &[u8]) -> Option<(RecordId, TrustId, Option<NodeId>)> {
    let (tombstone, rest) = key.get(1..)?.split_first_chunk::<32>()?;
    let (trust, node) = rest.split_first_chunk::<8>()?;
    let node = <[u8; 32]>::try_from(node).ok()?;
    Some((RecordId::new(*tombstone), trust_in(trust)?, (node != [0; 32]).then(|| NodeId::new(node))))
}

/// Begins the rows of tombstones that name this record. Whoever signs a tombstone chooses the ids in it, so that a first byte keeps
/// them apart from conversations.
pub(crate) fn targets_of(record: &RecordId) -> Vec<u8> {
    [&[0][..], record.as_bytes()].concat()
}

pub(crate) fn target(record: &RecordId, tombstone: &RecordId) -> Vec<u8> {
    [&targets_of(record)[..], tombstone.as_bytes()].concat()
}

/// Begins the rows of tombstones for the whole of this conversation.
pub(crate) fn conversation_targets_of(id: &ConversationId) -> Vec<u8> {
    [&[1][..], &conversation(id)].concat()
}

pub(crate) fn conversation_target(id: &ConversationId, tombstone: &RecordId) -> Vec<u8> {
    [&conversation_targets_of(id)[..], tombstone.as_bytes()].concat()
}

/// Begins the rows of standing orders for this conversation.
pub(crate) fn standing_of(id: &ConversationId) -> Vec<u8> {
    [&[2][..], &conversation(id)].concat()
}

pub(crate) fn standing(id: &ConversationId, tombstone: &RecordId) -> Vec<u8> {
    [&standing_of(id)[..], tombstone.as_bytes()].concat()
}

/// Begins the rows of holds on conversations.
pub(crate) const HOLD: u8 = 0;
/// Begins the rows of what holds keep.
const HELD: u8 = 1;
/// Begins the rows of the tombstones that wait for the end of a hold.
const WAITING: u8 = 2;

pub(crate) fn hold(id: &ConversationId) -> Vec<u8> {
    [&[HOLD][..], &conversation(id)].concat()
}

pub(crate) fn held_of(id: &ConversationId) -> Vec<u8> {
    [&[HELD][..], &conversation(id)].concat()
}

pub(crate) fn held(id: &ConversationId, record: &RecordId) -> Vec<u8> {
    [&held_of(id)[..], record.as_bytes()].concat()
}

pub(crate) fn waiting_of(id: &ConversationId) -> Vec<u8> {
    [&[WAITING][..], &conversation(id)].concat()
}

pub(crate) fn waiting(id: &ConversationId, tombstone: &RecordId) -> Vec<u8> {
    [&waiting_of(id)[..], tombstone.as_bytes()].concat()
}

/// Begins the names under which [`lanyard_storage::Tree::Meta`] notes the standing orders that are to be attested, by when.
pub(crate) const ATTESTS: &[u8] = b"attest-";

pub(crate) fn attest_at(over: Timestamp, tombstone: &RecordId) -> Vec<u8> {
    [ATTESTS, &expiry(over, tombstone)].concat()
}

/// The moment and the tombstone of such a name.
pub(crate) fn attest_parts(key: &[u8]) -> Option<(Timestamp, RecordId)> {
    let (over, id) = key.strip_prefix(ATTESTS)?.split_first_chunk::<8>()?;
    Some((Timestamp::from_secs(u64::from_be_bytes(*over)), RecordId::try_from(id).ok()?))
}

/// Begins the names under which [`lanyard_storage::Tree::Meta`] notes what conversations of this trust are for, and how long their messages
/// live.
pub(crate) const SETTINGS: &[u8] = b"setting-";

pub(crate) fn setting(id: &ConversationId) -> Vec<u8> {
    [SETTINGS, &id.to_bytes()].concat()
}

/// Begins the names under which [`lanyard_storage::Tree::Meta`] notes devices whose last attempt at the PIN was taken, and not proved.
pub(crate) const PIN_LAST: &[u8] = b"pin-last-";

pub(crate) fn pin_last(device: &Fingerprint) -> Vec<u8> {
    [PIN_LAST, device.as_bytes()].concat()
}

/// The name under which [`lanyard_storage::Tree::Meta`] notes whose removal from a conversation of this trust was proposed.
pub(crate) fn leavers(id: &ConversationId) -> Vec<u8> {
    [b"leavers-".as_slice(), &id.to_bytes()].concat()
}

/// Begins the names under which [`lanyard_storage::Tree::Meta`] notes the proposals of a conversation that are held, with their epochs.
pub(crate) fn proposals(id: &ConversationId) -> Vec<u8> {
    [b"proposal-".as_slice(), &conversation(id)].concat()
}

pub(crate) fn proposal(id: &ConversationId, record: &RecordId) -> Vec<u8> {
    [&proposals(id)[..], record.as_bytes()].concat()
}

/// The conversation with which a row begins, and how long that beginning is.
pub(crate) fn conversation_in(key: &[u8]) -> Option<(ConversationId, usize)> {
    let (len, rest) = key.split_first()?;
    let bytes = rest.get(..usize::from(*len))?;
    Some((ConversationId::try_from(bytes).ok()?, 1 + bytes.len()))
}

/// Begins the names under which [`lanyard_storage::Tree::Meta`] notes the tombstones that are not carried out in full.
pub(crate) const UNFINISHED: &[u8] = b"erasing-";

pub(crate) fn unfinished(tombstone: &RecordId) -> Vec<u8> {
    [UNFINISHED, tombstone.as_bytes()].concat()
}

/// Begins the names under which [`lanyard_storage::Tree::Meta`] notes the messages that are named by orders without force, which are yet to go.
pub(crate) const VOID_ORDERS: &[u8] = b"void-";

pub(crate) fn void_orders(record: &RecordId) -> Vec<u8> {
    [VOID_ORDERS, record.as_bytes()].concat()
}

/// Begins the names under which [`lanyard_storage::Tree::Meta`] notes who has yet to get what came before their welcome.
pub(crate) const BACKLOGS: &[u8] = b"backlog-";

pub(crate) fn backlog(conversation: &ConversationId, device: &Fingerprint) -> Vec<u8> {
    [BACKLOGS, device.as_bytes(), &conversation.to_bytes()].concat()
}

/// The device and the conversation of such a name.
pub(crate) fn backlog_parts(key: &[u8]) -> Option<(Fingerprint, ConversationId)> {
    let (device, conversation) = key.strip_prefix(BACKLOGS)?.split_first_chunk::<32>()?;
    Some((Fingerprint::new(*device), ConversationId::try_from(conversation).ok()?))
}

/// Begins the rows of the heads that are held of audit logs.
pub(crate) const HEADS: u8 = 0;
/// Begins the rows of what audit logs contradict.
pub(crate) const CONTRADICTIONS: u8 = 1;
/// Begins the rows that say under which key a head stands.
const HEAD_PLACES: u8 = 2;

pub(crate) fn heads_of(node: &NodeId) -> Vec<u8> {
    [&[HEADS][..], node.as_bytes()].concat()
}

pub(crate) fn heads_of_span(node: &NodeId, span: u8) -> Vec<u8> {
    [&heads_of(node)[..], &[span]].concat()
}

pub(crate) fn head(node: &NodeId, span: u8, period: u64) -> Vec<u8> {
    [&heads_of_span(node, span)[..], &period.to_be_bytes()].concat()
}

pub(crate) fn contradiction(node: &NodeId, code: &str) -> Vec<u8> {
    [&[CONTRADICTIONS][..], node.as_bytes(), code.as_bytes()].concat()
}

pub(crate) fn head_place(record: &RecordId) -> Vec<u8> {
    [&[HEAD_PLACES][..], record.as_bytes()].concat()
}

/// The node of a row about heads.
pub(crate) fn node_in(key: &[u8]) -> Option<NodeId> {
    key.get(1..)?.first_chunk::<32>().map(|node| NodeId::new(*node))
}

/// The last 8 bytes of a key as a number.
pub(crate) fn last_u64(key: &[u8]) -> u64 {
    key.last_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b))
}
