//! A device's PIN, checked between client and node by OPAQUE (RFC 9807), so that the client alone, or a copy of its disk, can neither try
//! PINs nor open what the PIN protects. A node, or who has its store with the store's key, can try PINs at the price of Argon2id each, and
//! opens nothing by that without the device's disk.
//!
//! - [`rules`]: which PINs are taken.
//! - [`exchange`]: the four messages each of setting a PIN and of proving it, as bytes.
//! - [`offline`]: what opens a device for a while when its node cannot be reached, if the trust allows it.
//! - [`secrets`]: what comes out: the key that seals the vault's key, and the proof that a session was opened with the PIN.
//!
//! The suite is ristretto255 with SHA-512 and 3DH (RFC 9807, section 7), stretched by Argon2id with 64 MiB and three passes (RFC 9106,
//! section 4, the second recommended choice with one lane).

mod entropy;
mod exchange;
mod offline;
mod rules;
mod secrets;
#[cfg(test)]
mod tests;

pub use exchange::{
    ClientProof, ClientSetup, Credential, NewPin, NodeProof, PinError, PinRecord, Proven, ServerSecret,
    answer_setup,
};
pub use offline::{OFFLINE_SALT_BYTES, OfflineKey, STRETCHED_BYTES, StretchedPin};
pub use rules::{PIN_CHARACTERS_MAX, PIN_CHARACTERS_MIN, Pin, PinRefused};
pub use secrets::{ExportKey, SealedKey, SessionProof, SessionToken, VAULT_KEY_BYTES};
