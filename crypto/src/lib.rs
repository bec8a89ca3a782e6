//! What is signed, sealed and proven in Lanyard. Pure: no I/O, no clock, no async.
//!
//! - [`x509`]: certificates, chains, revocation lists (RFC 5280, RFC 8410), and keys (PKCS#8).
//! - [`record`]: the one signed shape, COSE_Sign1 over deterministic CBOR (RFC 9052, RFC 8949 section 4.2),
//!   its kinds, and the stages of trust from bytes to [`record::Verified`].
//! - [`charter`]: who belongs to a regional network, and by which rules the next version is signed.
//! - [`network`]: the certificates and revocations that a charter makes trustworthy, at a moment.
//! - [`residency`]: the countries in which a peer may stand.
//! - [`mls`]: the cipher suite, the X.509 identities and the administrators' rules of MLS (RFC 9420).
//! - [`tally`]: who has confirmed a deletion, as far as signatures show it.
//! - [`pin`]: a device's PIN between client and node, by OPAQUE (RFC 9807).
//! - [`safety`]: numbers by which people compare certificates in person.
//! - [`gateway`]: what a client and its node say to each other.

pub mod cbor;
pub mod charter;
#[cfg(test)]
mod charter_tests;
pub mod gateway;
pub mod ids;
pub mod labels;
pub mod limits;
pub mod mls;
pub mod network;
#[cfg(test)]
mod network_tests;
pub mod pin;
pub mod record;
pub mod residency;
pub mod safety;
pub mod tally;
pub mod x509;

pub use ids::{
    AuditHash, ConversationId, Fingerprint, NetworkId, NodeId, RecordId, Timestamp, TreeHash, TrustId,
};
