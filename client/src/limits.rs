//! What this device keeps of others before it can use it: one table, with the relations between the limits
//! asserted. Each limit counts per signing trust, so that no trust can use up the room of another.

/// Envelopes of one conversation and one trust that wait for their epoch, or for their sender's certificate to
/// hold.
pub const HELD_PER_CONVERSATION_MAX: usize = 1_000;
/// Those of one trust in all conversations: a trust can name as many conversations as it likes.
pub const HELD_PER_TRUST_MAX: usize = 4_000;
/// How far ahead of a conversation's epoch an envelope may be to be held: more changes of members than are made
/// during a partition, after which they arrive in any order.
pub const EPOCHS_AHEAD_MAX: u64 = 128;
/// Records of one trust, as their chains state it, that wait until their signer can be verified.
pub const UNVERIFIED_PER_TRUST_MAX: usize = 500;
/// All of them: a chain that does not verify may state any trust.
pub const UNVERIFIED_MAX: usize = 4_000;

const _: () = assert!(HELD_PER_CONVERSATION_MAX < HELD_PER_TRUST_MAX);
const _: () = assert!(UNVERIFIED_PER_TRUST_MAX < UNVERIFIED_MAX);
