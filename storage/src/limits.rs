//! Every bound of this crate, with the relations between them.

/// Longest key, in bytes. 256 of them make a page of sled's, which must stay below [`PAGE_BYTES_MAX`].
pub const KEY_BYTES_MAX: usize = 256;

/// Longest value, in bytes: the public state of a large conversation, several times an MLS handshake message
/// of 1 MiB.
pub const VALUE_BYTES_MAX: usize = 16 << 20;

/// Largest batch, in bytes of keys and values.
pub const BATCH_BYTES_MAX: usize = 64 << 20;

/// Most changes in one batch.
pub const BATCH_CHANGES_MAX: usize = 65_536;

/// Commits that wait for the writer; a further caller waits before it is in the queue.
pub const QUEUE_COMMITS_MAX: usize = 1_024;

/// Bytes of batches that one sync covers, unless a single batch is larger.
pub const GROUP_BYTES_MAX: usize = 8 << 20;

/// Commits that one sync covers.
pub const GROUP_COMMITS_MAX: usize = 512;

/// How long erasure that a batch defers waits for more of it, in milliseconds: a shard is written once for all that waits.
pub const ERASE_MS: u64 = 1_000;

/// After so long, in milliseconds, it does not wait until nothing else is to be written.
pub const ERASE_MS_MAX: u64 = 60_000;

/// How long a commit that defers its sync waits for that, in milliseconds, if no other commit comes.
pub const LAZY_MS: u64 = 1_000;

/// Nothing else is to be written once nobody has committed for so long, in milliseconds.
pub const QUIET_MS: u64 = 100;

/// sled's cache, in bytes, if nobody says otherwise. Half of sled's own default, which would be most of a small node's memory.
pub const CACHE_BYTES_DEFAULT: u64 = 512 << 20;

/// The smallest and the largest cache.
pub const CACHE_BYTES: std::ops::RangeInclusive<u64> = 16 << 20..=1 << 40;

/// How long to wait for the lock of a process that is ending, in milliseconds.
pub const LOCK_WAIT_MS_MAX: u64 = 5_000;

/// Between two tries for that lock, in milliseconds.
pub const LOCK_RETRY_MS: u64 = 20;

/// A value longer than this is cut into parts of this size, each a row, so that no page of sled's grows beyond
/// [`PAGE_BYTES_MAX`].
pub const PART_BYTES: usize = 4 << 10;

/// Above a quarter of its segment size, sled moves a page to a file of its own, which it never syncs.
pub const PAGE_BYTES_MAX: usize = 128 << 10;

/// Rows on one of sled's leaf pages before it splits, and keys on one of its index pages.
const LEAF_ROWS_MAX: usize = 18;
const INDEX_KEYS_MAX: usize = 258;

/// Rows and bytes that are copied to another database between two groups of commits, which wait for it.
pub const COPY_ROWS: usize = 1_024;

/// See [`COPY_ROWS`].
pub const COPY_BYTES: usize = 4 << 20;

/// What is copied and not synced, in bytes.
pub const COPY_SYNC_BYTES: usize = 16 << 20;

/// A copy is begun only where there is free space of so many times what lives.
pub const COPY_FACTOR: u64 = 2;

/// And of so much more, in bytes, for those who commit meanwhile.
pub const COPY_SPARE_BYTES: u64 = 64 << 20;

/// Rows up to this size, in bytes, are copied as they are.
pub const SMALL_ROW_BYTES: usize = 128;

/// Below this size of all files of the rows, in bytes, a store is never [wasteful](crate::SledStore::is_wasteful).
pub const WASTEFUL_BYTES_MIN: u64 = 64 << 20;

/// A store is wasteful if its rows take so many times their size on the disk.
pub const WASTEFUL_FACTOR: u64 = 3;

/// Keys in one shard. A rewrite costs in proportion to it, on every erasure.
pub const SHARD_KEYS_MAX: usize = 4_096;

/// Longest shard file, in bytes: as many keys, each in a frame of its own, twice over.
pub const SHARD_BYTES_MAX: u64 = 2 << 20;

/// Shards that are written again together: their bytes are in memory, and their old files on the disk, until all are.
pub const REWRITE_SHARDS: usize = 64;

/// Most shards: the file names have six digits.
pub const SHARDS_MAX: u32 = 1_000_000;

// What a frame of one key takes in a shard file: length, nonce, row key, serial, key, tag.
const FRAME_BYTES_MAX: usize = 4 + 12 + 32 + 8 + 32 + 16;

const _: () = assert!(QUIET_MS < ERASE_MS && ERASE_MS < ERASE_MS_MAX);
const _: () = assert!(VALUE_BYTES_MAX + KEY_BYTES_MAX <= BATCH_BYTES_MAX);
const _: () = assert!(LEAF_ROWS_MAX * (PART_BYTES + KEY_BYTES_MAX + 64) < PAGE_BYTES_MAX);
const _: () = assert!(INDEX_KEYS_MAX * (KEY_BYTES_MAX + 16) < PAGE_BYTES_MAX);
const _: () = assert!(2 * SHARD_KEYS_MAX * FRAME_BYTES_MAX < SHARD_BYTES_MAX as usize);
const _: () = assert!(COPY_BYTES >= COPY_ROWS * PART_BYTES / 2);
const _: () = assert!(VALUE_BYTES_MAX / PART_BYTES < u16::MAX as usize);
