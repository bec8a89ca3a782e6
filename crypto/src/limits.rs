//! The limits of what is signed and sent (promise P8): one table, with the relations between them asserted.

/// A record, unless it is a handshake, in bytes.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;
/// An envelope that carries an MLS handshake (commit, welcome or submission), as a whole record, in bytes.
pub const HANDSHAKE_RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Trusts in one charter.
pub const CHARTER_TRUSTS_MAX: usize = 300;
/// A charter, as a whole record, in bytes: 300 trusts of about 1.5 KiB.
pub const CHARTER_BYTES_MAX: usize = 1024 * 1024;
/// Authorities of one network.
pub const AUTHORITIES_MAX: usize = 32;
/// Custodians of one record.
pub const CUSTODIANS_MAX: usize = 64;
/// Envelopes that one tombstone names.
pub const TOMBSTONE_TARGETS_MAX: usize = 1024;
/// What one receipt attests: tombstones, devices' lines, expiries.
pub const RECEIPT_ITEMS_MAX: usize = 512;
/// The items of one receipt that this program signs, in bytes; what does not fit goes into the next.
pub const RECEIPT_LEAVES_BYTES_MAX: usize = 56 * 1024;
/// A device's line, or its receipt for its wipe, in bytes; a line takes 191.
pub const DEVICE_LINE_BYTES_MAX: usize = 256;
/// Devices named by one item about those that are waited for.
pub const WAITING_NAMED_MAX: usize = 16;
/// The reference of a hold, in bytes.
pub const HOLD_REFERENCE_BYTES_MAX: usize = 64;
/// An inclusion proof of one item, in bytes: the statement with up to 64 custodians, and a path of up to 9 hashes.
pub const PROOF_BYTES_MAX: usize = 4096;
/// Key packages in one welcome's address list.
pub const WELCOME_RECIPIENTS_MAX: usize = 1024;
/// A certificate chain (leaf and registrar, DER), in bytes.
pub const CHAIN_BYTES_MAX: usize = 8 * 1024;
/// A key package in bytes; with X-Wing keys and a chain it takes about 5 KiB.
pub const KEY_PACKAGE_BYTES_MAX: usize = 16 * 1024;
/// Largest difference between two clocks that we accept, in seconds. A record from further in the future is refused,
/// and a tombstone outlives what it names by twice as much.
pub const CLOCK_SKEW_SECS_MAX: u64 = 300;
/// Longest life of any record, in seconds (10 years).
pub const LIFE_SECS_MAX: u64 = 10 * 366 * 24 * 3600;
/// Longest life of an envelope that any charter may allow, in seconds (8 years). A deletion of a whole conversation outlives this: charters
/// change, and what one of them let in must not come back under the next.
pub const RETENTION_SECS_MAX: u64 = 8 * 366 * 24 * 3600;
/// Longest time between two reviews of a conversation's members that a trust may ask for, in seconds (a year).
pub const REVIEW_EVERY_SECS_MAX: u64 = 366 * 24 * 3600;
/// Longest time for which a conversation goes on that should have been reviewed, in seconds.
pub const REVIEW_GRACE_SECS_MAX: u64 = 90 * 24 * 3600;
/// Patterns of a trust's own for what identifies a patient.
pub const PATTERNS_MAX: usize = 32;
/// The name of such a pattern, in bytes.
pub const PATTERN_NAME_BYTES_MAX: usize = 60;
/// Its regular expression, in bytes.
pub const PATTERN_BYTES_MAX: usize = 500;
/// The same when compiled, in bytes; a client that looks for all of them holds so much of each for a moment.
pub const PATTERN_COMPILED_BYTES_MAX: usize = 512 * 1024;

const _: () = assert!(RECORD_BYTES_MAX < HANDSHAKE_RECORD_BYTES_MAX);
const _: () = assert!(TOMBSTONE_TARGETS_MAX * 34 + 4096 < RECORD_BYTES_MAX);
const _: () = assert!(RECEIPT_LEAVES_BYTES_MAX + 4096 < RECORD_BYTES_MAX);
const _: () = assert!(WAITING_NAMED_MAX * 64 + HOLD_REFERENCE_BYTES_MAX < RECEIPT_LEAVES_BYTES_MAX);
const _: () = assert!(CUSTODIANS_MAX * 9 + 9 * 34 + 512 < PROOF_BYTES_MAX);
const _: () = assert!(CHAIN_BYTES_MAX + KEY_PACKAGE_BYTES_MAX + 4096 < RECORD_BYTES_MAX);
const _: () = assert!(CHARTER_BYTES_MAX <= HANDSHAKE_RECORD_BYTES_MAX);
