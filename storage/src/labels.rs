//! Every domain-separation label of this crate. A label is never used for two things, and never changed.

/// Derives, from the node's key, what seals the store's secrets.
pub(crate) const DERIVE_STORE_SEAL: &[u8] = b"lanyard/storage/derive/store-seal/v1";

/// Derives, from a master, the key that wraps the shards' wrapping keys.
pub(crate) const DERIVE_SHARD_WRAP: &[u8] = b"lanyard/storage/derive/shard-wrap/v1";

/// Derived, from the node's key, the secret that makes row keys of sealed trees opaque, up to format 2.
pub(crate) const DERIVE_ROW_KEY: &[u8] = b"lanyard/storage/derive/row-key/v1";

/// Derives, from the node's key, what tells on opening whether it is the right one.
pub(crate) const DERIVE_KEY_CHECK: &[u8] = b"lanyard/storage/derive/key-check/v1";

/// Seals a secret of the store in `STORE`.
pub(crate) const SEAL_STORE_SECRET: &[u8] = b"lanyard/storage/seal/store-secret/v1";

/// Seals a shard's wrapping key in the shard's header.
pub(crate) const SEAL_SHARD_HEADER: &[u8] = b"lanyard/storage/seal/shard-header/v1";

/// Seals a frame of keys in a shard.
pub(crate) const SEAL_SHARD_FRAME: &[u8] = b"lanyard/storage/seal/shard-frame/v1";

/// Seals a value of a sealed tree.
pub(crate) const SEAL_VALUE: &[u8] = b"lanyard/storage/seal/value/v1";
