//! The engine's limits (promise P8): one table, with the relations between them asserted.

use lanyard_crypto::gateway::RESPONSE_BYTES_MAX;
use lanyard_crypto::limits::{
    CHAIN_BYTES_MAX, CHARTER_TRUSTS_MAX, CLOCK_SKEW_SECS_MAX, CUSTODIANS_MAX, HANDSHAKE_RECORD_BYTES_MAX,
    RECORD_BYTES_MAX, RETENTION_SECS_MAX,
};
use lanyard_storage::limits::{BATCH_BYTES_MAX, BATCH_CHANGES_MAX, VALUE_BYTES_MAX};

/// A frame between two nodes, in bytes.
pub const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Records in one frame, in bytes; the rest of the frame is framing and ids.
pub const FRAME_RECORDS_BYTES_MAX: usize = 3 * 512 * 1024;
/// Records in one frame.
pub const FRAME_RECORDS_MAX: usize = 1024;
/// Record ids in one frame.
pub const FRAME_IDS_MAX: usize = 16 * 1024;
/// The beginning of a record's id by which anti-entropy names it, in bytes.
pub const SHORT_BYTES: usize = 16;
/// Ranges in one answer about a layer.
pub const RANGES_MAX: usize = 256;
/// Of these, so many are single buckets, the newest that are not empty: most differences are recent.
pub const RANGES_FINE: usize = 32;
/// A peer that was asked to begin a round is asked again after so many seconds, and does not begin one more often for that.
pub const BEGIN_SECS: u64 = 5;
/// Positions that a device's inbox moves on by in a second at most: an inbox that is begun anew begins behind those of all seconds before.
pub const INBOX_PER_SEC_MAX: u64 = 1 << 20;
/// Conversations of which a tick looks whether somebody in them was revoked, or has ended.
pub const LEAVERS_GROUPS_PER_TICK: usize = 4;
/// How often all of them are looked through, in seconds, if no revocation list comes.
pub const LEAVERS_LOOK_EVERY_SECS: u64 = 3600;
/// Devices whose removal is proposed in one epoch of a conversation.
pub const LEAVERS_PER_GROUP: usize = 64;
/// Commits of a conversation that a restored hub follows in one step.
pub const CATCH_UP_COMMITS_MAX: u64 = 64;
/// Records of a span that is reconciled at once, on either side.
pub const SPAN_RECORDS_MAX: usize = 64 * 1024;
/// Rows of the index that are read for one answer, whosever they are.
pub const SPAN_ROWS_MAX: usize = 256 * 1024;
/// Coded symbols in one answer.
pub const SYMBOLS_MAX: usize = 48 * 1024;
/// One coded symbol, in bytes.
pub const SYMBOL_BYTES_MAX: usize = 16 + 8 + 9;
/// The sketch of a question, in bytes: 256 numbers.
pub const SKETCH_BYTES_MAX: usize = 256 * 9;
/// Records on both sides up to which a span is compared by a list of ids: it takes less than a sketch and symbols.
pub const SMALL_SPAN_RECORDS_MAX: usize = 32;
/// Ids in one list.
pub const LIST_IDS_MAX: usize = 2048;
/// Times that symbols are asked for before a span is compared by lists.
pub const TRIES_MAX: u8 = 3;
/// Ids that one question asks for.
pub const WANT_IDS_MAX: usize = 2048;
/// Questions about what differs that wait for one peer's answer. Records are asked for once at a time.
pub const ASKS_MAX: usize = 16;
/// What is yet to be asked of one peer.
pub const TASKS_MAX: usize = 1024;
/// Ids that are yet to be asked for, of one peer.
pub const PEER_IDS_MAX: usize = 128 * 1024;
/// The same of all peers together; each may have [`PEER_IDS_FREE`] all the same.
pub const ALL_IDS_MAX: usize = 512 * 1024;
/// Ids that are yet to be asked for, of one peer, for which there is room whatever others name: 128 KiB.
pub const PEER_IDS_FREE: usize = 8 * 1024;
/// How often spans are divided in one round with a peer, since they are too much for one answer: beyond it the next round goes on.
pub const DIVISIONS_MAX: u32 = 1024;
/// Ids that were refused for good, and are not asked for again; and those that one peer named and did not send.
pub const REFUSED_IDS_MAX: usize = 64 * 1024;
/// What answers one question for records, in bytes: half of what may wait for a peer on its stream.
pub const TRANSFER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Who sends less for one question, in bytes, has no more of what it was asked for: a full answer lacks at most one record, and some of
/// it may have come from elsewhere.
pub const PAGE_BYTES_MIN: usize = TRANSFER_BYTES_MAX / 4;
/// What the nodes of one trust are served by anti-entropy within a second, together, in bytes.
pub const SERVED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What they may be served at once after a time of rest, in bytes.
pub const SERVED_BURST_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What reading a row of the index counts for in this.
pub const ROW_COST_BYTES: usize = 128;
/// Questions that a peer may put within a second after it was told to wait: those that are on their way.
pub const WAITS_MAX: u32 = 4 * ASKS_MAX as u32;
/// How often a peer may read all that it shares with us in rows, in quick succession, before it is one that never has enough.
pub const APPETITE_TIMES_MAX: u64 = 16;
/// Rows that do not count in this.
pub const APPETITE_ROWS_FREE: u64 = 4 * SPAN_ROWS_MAX as u64;
/// In so many seconds what was read once is forgotten: who reads everything once a round is never held to have read too much.
pub const APPETITE_SECS: u64 = SYNC_INTERVAL_SECS;
/// How long a peer may take to answer, in seconds.
pub const REPLY_SECS_MAX: u64 = 60;
/// How long what one peer is sending is not asked of another one, in seconds, unless it answers.
pub const CLAIM_SECS_MAX: u64 = 10;
/// How long what a peer named and did not send is not asked of it again, in seconds: less than passes between two rounds, since what
/// it sent may have been lost on the way.
pub const MISSING_SECS: u64 = SYNC_INTERVAL_SECS / 2;
/// A page of fewer records lets another peer go on with the span, if one has it too.
pub const PAGE_RECORDS_MIN: usize = 64;
/// Rounds that found a difference and changed nothing: so many times the time between rounds is doubled.
pub const FRUITLESS_MAX: u32 = 1;
/// Width of a time bucket of anti-entropy, in seconds.
pub const BUCKET_SECS: u64 = 3600;
/// Time between two rounds of anti-entropy with a connected peer, in seconds; the peer begins one itself after half as much more.
pub const SYNC_INTERVAL_SECS: u64 = 30;
/// Rows that are read at once in a scan.
pub const SCAN_ROWS: usize = 4096;
/// Rows of the index that one batch brings up from an earlier version of the store.
pub const UPGRADE_ROWS: usize = 512;
/// A node that has not dropped what expired so long ago, in seconds, compares nothing until it has.
pub const BEHIND_SECS: u64 = 5;
/// A driver commits several steps at once, and begins no other step for a commit that has so many bytes: far below the store's own bound.
pub const COMMIT_BYTES: usize = 8 * 1024 * 1024;
/// The same, in changes of rows.
pub const COMMIT_CHANGES: usize = 20_000;
/// Records that one step looks at to expire; the next step goes on.
pub const EXPIRE_PER_STEP_MAX: usize = 128;
/// Changes of rows in one portion of what waits for nobody: rows of what has expired, and of what is erased and attested. A portion takes
/// about as long as storing one message, so that who comes meanwhile waits little.
pub const PORTION_CHANGES_MAX: usize = 32;
/// Rows of a conversation that are read at once to erase its messages: several portions, and little of a step.
pub const ERASE_ROWS: usize = 256;
/// A conversation of so few messages is erased with all rows in one step.
pub const ERASE_AT_ONCE_MAX: u32 = 128;
/// Changes of rows at which a step takes on no more work: what is left comes again, or in the next step. One record that
/// is under way may add [`RECORD_CHANGES_MAX`].
pub const STEP_CHANGES_MAX: usize = 16 * 1024;
/// The same, in bytes.
pub const STEP_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Entries of the audit log; the oldest give way.
pub const AUDIT_ENTRIES_MAX: u64 = 100_000;
/// Refusals of what the nodes of one trust have sent that are entered in the audit log as fast as they come, and as many deletions that another
/// trust has ordered: it takes fifty trusts to fill the log with them.
pub const AUDIT_TRUST_BURST: u64 = AUDIT_ENTRIES_MAX / 100;
/// After those, one in so many seconds.
pub const AUDIT_TRUST_EVERY_SECS: u64 = 10;
/// Those that were left out are counted for so long, in seconds, before the count is entered.
pub const AUDIT_COUNT_SECS: u64 = 600;
/// Entries older than this, in seconds (8 years), are dropped.
pub const AUDIT_LIFE_SECS: u64 = 8 * 365 * DAY_SECS;
/// Old entries that one tick drops.
pub const AUDIT_DROPS_PER_TICK: usize = 256;
/// Which heads of a node's audit log are kept: one in each period, for a life that says which period it stands for, both in seconds. The
/// newest are ten minutes apart; those of the last eight years, as long as entries live, a month.
pub const HEAD_SPANS: [(u64, u64); 3] =
    [(600, 2 * DAY_SECS), (DAY_SECS, 60 * DAY_SECS), (30 * DAY_SECS, AUDIT_LIFE_SECS)];
/// The same of heads that were signed to show a log to somebody, who may hand them in.
pub const HEAD_SHOWN: (u64, u64) = (600, DAY_SECS);
const DAY_SECS: u64 = 24 * 3600;
/// How long it is shown that an audit log contradicts itself, in seconds.
pub const CONTRADICTION_LIFE_SECS: u64 = 90 * DAY_SECS;
/// An audit entry's detail, in bytes.
pub const AUDIT_DETAIL_BYTES_MAX: usize = 512;
/// Devices of this trust in one conversation.
pub const LOCAL_MEMBERS_MAX: usize = 4096;
/// Changes of rows that one record brings about at most: a commit and a welcome, each with two rows for each device of this
/// trust, one of them new to the conversation; what waits for each trust; and the digests of each custodian.
pub const RECORD_CHANGES_MAX: usize =
    6 * LOCAL_MEMBERS_MAX + 2 * CHARTER_TRUSTS_MAX + 2 * CUSTODIANS_MAX + 64;
/// Orders of one trust that name one envelope: who may delete it needs one. Of those that turn out to have no force over it a step drops
/// as many, whosever they are.
pub const ORDERS_PER_TARGET_MAX: usize = 16;
/// Rows of conversations that one tick looks at, for messages that live too long.
pub const RETENTION_ROWS_PER_TICK: usize = 128;
/// What the true time has at least reached is written down once that has moved on by so many seconds.
pub const FLOOR_KEPT_SECS: u64 = 300;
/// While a clock is behind, who is let in is judged anew once the true time has moved on by so many seconds; a clock that goes further from
/// one tick to the next was set.
pub const FLOOR_STEP_SECS: u64 = 60;
/// How long more than half of the other trusts are connected, in seconds, before they take back what the time was thought to have reached:
/// each signs heads of its audit log meanwhile.
pub const VOICES_PRESENT_SECS: u64 = 2 * HEAD_SPANS[0].0;
/// Between two standing orders of this node for one conversation, in seconds.
pub const STANDING_EVERY_SECS: u64 = 3600;
/// Conversations that are on hold at once.
pub const HOLDS_MAX: usize = 1024;
/// Why a hold was placed, in bytes.
pub const HOLD_REASON_BYTES_MAX: usize = 256;
/// Records that are verified again because one frame of answers doubts them.
pub const DOUBTS_MAX: usize = 64;
/// Penalty points at which a peer loses its connection; each second forgives one.
pub const PENALTY_MAX: u32 = 100;
/// What devices hand in about erasures is attested together, once in so many seconds.
pub const DEVICES_ATTEST_SECS: u64 = 10;
/// Lines of devices, and deletions whose devices are waited for, that are attested at once.
pub const DEVICES_PER_TICK: usize = 512;
/// For which devices of a deletion it is waited is attested so many seconds after it was carried out, if there are any then.
pub const WAITING_FIRST_SECS: u64 = 15;
/// For which devices of a deletion it is waited is attested again at most once in so many seconds.
pub const WAITING_TELL_SECS: u64 = 3600;
/// When a device was last seen is kept to so many seconds, and written no more often.
pub const SEEN_EVERY_SECS: u64 = 60;
/// Deletions in the destruction log that one other trust has ordered; the oldest give way.
pub const LOGGED_PER_TRUST_MAX: u64 = 100_000;
/// What an answer about one deletion shows of its replicas, in bytes: 44 KiB for each of 64 trusts.
pub const REPLICAS_BYTES_MAX: usize = 11 * 256 * 1024;
/// What it shows of devices, in bytes; what replicas have left is added.
pub const DEVICES_BYTES_MAX: usize = 1024 * 1024;
/// Receipts of one trust that wait for the tombstones that they name: they may come first, by another way.
pub const EARLY_RECEIPTS_MAX: usize = 1024;
/// How long they wait at least, in seconds.
pub const EARLY_RECEIPT_SECS: u64 = DAY_SECS;
/// Replicas of one trust that are marked as overdue with a deletion: however many nodes it certifies.
pub const OVERDUE_PER_TRUST_MAX: usize = 16;
/// Tombstones that one step looks at for those who were welcomed after they came, and devices that it looks at for them.
pub const LATE_ORDERS_PER_STEP: usize = 256;
/// How long a receipt, and a row of the destruction log, is kept, in seconds (8 years and a month): longer than any message can live, so that
/// the log outlives what was destroyed.
pub const RECEIPT_LIFE_SECS: u64 = RETENTION_SECS_MAX + 30 * DAY_SECS;

const _: () = assert!(FRAME_RECORDS_BYTES_MAX + FRAME_RECORDS_MAX * 8 < FRAME_BYTES_MAX);
const _: () = assert!(FRAME_IDS_MAX * 34 + 1024 < FRAME_BYTES_MAX);
const _: () = assert!(TRANSFER_BYTES_MAX < SERVED_BYTES_MAX && SERVED_BYTES_MAX < SERVED_BURST_BYTES_MAX);
const _: () = assert!(RANGES_MAX * 48 + 1024 < FRAME_BYTES_MAX && RANGES_FINE < RANGES_MAX);
const _: () = assert!(SYMBOLS_MAX * SYMBOL_BYTES_MAX + 1024 < FRAME_BYTES_MAX);
const _: () = assert!(LIST_IDS_MAX <= FRAME_IDS_MAX && SMALL_SPAN_RECORDS_MAX <= LIST_IDS_MAX);
const _: () = assert!(RANGES_MAX < TASKS_MAX && PEER_IDS_MAX <= ALL_IDS_MAX);
const _: () = assert!(WANT_IDS_MAX <= PEER_IDS_FREE / 2 && PEER_IDS_FREE <= PEER_IDS_MAX);
const _: () = assert!(PAGE_BYTES_MIN + HANDSHAKE_RECORD_BYTES_MAX <= TRANSFER_BYTES_MAX);
const _: () = assert!(HANDSHAKE_RECORD_BYTES_MAX < TRANSFER_BYTES_MAX);
const _: () = assert!(HANDSHAKE_RECORD_BYTES_MAX < FRAME_RECORDS_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX < FRAME_RECORDS_BYTES_MAX);
const _: () = assert!(HEAD_SHOWN.1 < HEAD_SPANS[0].1);
const _: () = assert!(HEAD_SPANS[0].1 < HEAD_SPANS[1].1 && HEAD_SPANS[1].1 < HEAD_SPANS[2].1);
// An answer about a deletion is taken by clients, with the tombstone, its chain, and for each trust a replica that did not fit and names.
const _: () = assert!(
    REPLICAS_BYTES_MAX + DEVICES_BYTES_MAX + RECORD_BYTES_MAX + CHAIN_BYTES_MAX + CUSTODIANS_MAX * 512
        < RESPONSE_BYTES_MAX
);
const _: () = assert!(RECEIPT_LIFE_SECS < lanyard_crypto::limits::LIFE_SECS_MAX);
const _: () = assert!(RECEIPT_LIFE_SECS > RETENTION_SECS_MAX + 2 * CLOCK_SKEW_SECS_MAX);
const _: () = assert!(UPGRADE_ROWS * (1 + CUSTODIANS_MAX) + 5 * CHARTER_TRUSTS_MAX < BATCH_CHANGES_MAX);
// A commit holds what was there when its last step began, and that step.
const _: () = assert!(COMMIT_CHANGES + STEP_CHANGES_MAX + RECORD_CHANGES_MAX < BATCH_CHANGES_MAX);
const _: () = assert!(COMMIT_BYTES + STEP_BYTES_MAX + VALUE_BYTES_MAX + FRAME_BYTES_MAX < BATCH_BYTES_MAX);
