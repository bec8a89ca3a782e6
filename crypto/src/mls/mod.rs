//! The public half of MLS (RFC 9420): what members and the ordering node must agree on, and nothing that
//! holds a group's secrets.
//!
//! - [`suite`]: the post-quantum cipher suite.
//! - [`identity`]: members are X.509 chains that reach a trust of the charter.
//! - [`policy`]: the group context's own extension: what a conversation is for, and who administers it.
//! - [`review`]: when the members were last looked through, and until when that holds.
//! - [`rules`]: which changes are allowed, enforced by every member and by the ordering node alike.
//! - [`public_group`]: a conversation as the owner trust's node sees it: it orders commits without reading
//!   anything.
//! - [`key_package`]: what a node checks of a contact key package before it lists it.
//! - [`peek`]: what anyone can read of a message without a key.

pub mod identity;
pub mod key_package;
pub mod peek;
pub mod policy;
pub mod public_group;
pub mod review;
pub mod rules;
pub mod suite;
#[cfg(test)]
mod tests;
mod xwing;

pub use identity::{ChainVerifier, DeviceIdentity, PersonKey, X509Identities};
pub use policy::{Class, Policy};
pub use public_group::PublicGroup;
pub use review::{Review, ReviewTerms};
pub use rules::Rules;
pub use suite::Suite;

use std::time::Duration;

use mls_rs::time::MlsTime;

use crate::Timestamp;

/// Our moments as the MLS library counts them: both are whole seconds since 1970.
pub fn mls_time(at: Timestamp) -> MlsTime {
    MlsTime::from_duration_since_epoch(Duration::from_secs(at.as_secs()))
}
