//! The engine's limits (promise P8): one table, with the relations between them asserted.

use lanyard_crypto::limits::{CHARTER_TRUSTS_MAX, HANDSHAKE_RECORD_BYTES_MAX, RECORD_BYTES_MAX};
use lanyard_storage::limits::{BATCH_BYTES_MAX, BATCH_CHANGES_MAX, VALUE_BYTES_MAX};

/// A frame between two nodes, in bytes.
pub const FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Records in one frame, in bytes; the rest of the frame is framing and ids.
pub const FRAME_RECORDS_BYTES_MAX: usize = 3 * 512 * 1024;
/// Records in one frame.
pub const FRAME_RECORDS_MAX: usize = 1024;
/// Record ids in one frame.
pub const FRAME_IDS_MAX: usize = 16 * 1024;
/// Buckets in one summary.
pub const SUMMARY_BUCKETS_MAX: usize = 4096;
/// What one step sends to bring a peer up to date, in bytes; the rest follows in the next round.
pub const CATCH_UP_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What one peer is served by anti-entropy within a second, in bytes.
pub const SERVED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What an answer to one summary counts for in this: it reads the index, whatever comes of it.
pub const SUMMARY_COST_BYTES: usize = 256 * 1024;
/// Width of a time bucket of anti-entropy, in seconds.
pub const BUCKET_SECS: u64 = 3600;
/// Time between two rounds of anti-entropy with a connected peer, in seconds; the peer begins one itself after half as much more.
pub const SYNC_INTERVAL_SECS: u64 = 30;
/// Rows that are read at once in a scan.
pub const SCAN_ROWS: usize = 4096;
/// Records that one step expires; the next step goes on.
pub const EXPIRE_PER_STEP_MAX: usize = 1024;
/// Changes of rows at which a step takes on no more work: what is left comes again, or in the next step. One record that
/// is under way may add [`RECORD_CHANGES_MAX`].
pub const STEP_CHANGES_MAX: usize = 16 * 1024;
/// The same, in bytes.
pub const STEP_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Entries of the audit log; the oldest give way.
pub const AUDIT_ENTRIES_MAX: u64 = 100_000;
/// An audit entry's detail, in bytes.
pub const AUDIT_DETAIL_BYTES_MAX: usize = 512;
/// Devices of this trust in one conversation.
pub const LOCAL_MEMBERS_MAX: usize = 4096;
/// Changes of rows that one record brings about at most: a commit and a welcome, each with two rows for each device of this
/// trust, one of them new to the conversation; and what waits for each trust.
pub const RECORD_CHANGES_MAX: usize = 5 * LOCAL_MEMBERS_MAX + 2 * CHARTER_TRUSTS_MAX + 64;
/// Records that are verified again because one frame of answers doubts them.
pub const DOUBTS_MAX: usize = 64;
/// Penalty points at which a peer loses its connection; each second forgives one.
pub const PENALTY_MAX: u32 = 100;
/// How long a receipt is kept, in seconds (8 years): the destruction log outlives what was destroyed.
pub const RECEIPT_LIFE_SECS: u64 = 8 * 365 * 24 * 3600;

const _: () = assert!(FRAME_RECORDS_BYTES_MAX + FRAME_RECORDS_MAX * 8 < FRAME_BYTES_MAX);
const _: () = assert!(FRAME_IDS_MAX * 34 + 1024 < FRAME_BYTES_MAX);
const _: () = assert!(CATCH_UP_BYTES_MAX < SERVED_BYTES_MAX);
const _: () = assert!(SUMMARY_BUCKETS_MAX * 64 + 1024 < FRAME_BYTES_MAX);
const _: () = assert!(HANDSHAKE_RECORD_BYTES_MAX < FRAME_RECORDS_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX < FRAME_RECORDS_BYTES_MAX);
const _: () = assert!(RECEIPT_LIFE_SECS < lanyard_crypto::limits::LIFE_SECS_MAX);
// A driver may commit several steps at once: a third of a batch is left to it.
const _: () = assert!(STEP_CHANGES_MAX + RECORD_CHANGES_MAX < BATCH_CHANGES_MAX * 2 / 3);
const _: () = assert!(STEP_BYTES_MAX + VALUE_BYTES_MAX + FRAME_BYTES_MAX < BATCH_BYTES_MAX * 2 / 3);
