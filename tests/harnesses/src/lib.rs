//! What must hold of everything in Lanyard that decodes bytes from outside, whatever the bytes (promise P8).
//!
//! Each [`Target`] takes bytes, gives them to one decoder, and panics if one of these does not hold:
//!
//! - It never panics, and it ends.
//! - It is strict: what it accepts encodes to the same bytes again, so that one thing has one encoding, one hash and one name.
//! - It is quiet: what it refuses is refused with a reason that repeats nothing of the input, since reasons go to logs.
//! - What it accepts, the code behind it can use: chains are verified, messages are shown to a group, frames to a replica.
//!
//! The [`replica`] target is a script rather than an encoding: every input is a sequence of things that can happen to an
//! engine with real keys around it.
//!
//! Fuzz targets (`tests/fuzz`) are one call of [`run`] each. The tests of this crate call the same with a bounded number of
//! random inputs, and with every file of the corpus. `docs/internals/fuzzing.md` tells how to fuzz.

// A harness ends where something does not hold: that is what it is for.
#![allow(clippy::unwrap_used, reason = "a harness fails by panicking")]

mod certificates;
mod choices;
pub mod fixtures;
pub mod groups;
#[cfg(feature = "node")]
mod node;
mod quiet;
mod records;
pub mod replica;
#[cfg(feature = "node")]
pub mod reports;
mod requests;

/// One decoder, and what must hold of it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of the fuzz target, and of its directories of inputs.
    pub name: &'static str,
    /// The longest input worth trying, in bytes: a little more than the decoder takes, or than is told apart.
    pub bytes_max: usize,
    /// Panics if something does not hold; tells whether the input was accepted.
    pub check: fn(&[u8]) -> bool,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "record", bytes_max: 70_000, check: records::record },
    Target { name: "charter", bytes_max: 16_384, check: records::charter },
    Target { name: "frame", bytes_max: 16_384, check: records::frame },
    Target { name: "certificate", bytes_max: 17_000, check: certificates::certificate },
    Target { name: "crl", bytes_max: 62_000, check: certificates::crl },
    Target { name: "request", bytes_max: 5_000, check: certificates::request },
    Target { name: "pem", bytes_max: 8_192, check: certificates::pem },
    Target { name: "gateway", bytes_max: 16_384, check: requests::gateway },
    Target { name: "invitation", bytes_max: 2_100, check: requests::invitation },
    Target { name: "name", bytes_max: 256, check: requests::name },
    Target { name: "peek", bytes_max: 16_384, check: groups::peek },
    Target { name: "key_package", bytes_max: 17_000, check: groups::key_package },
    Target { name: "group", bytes_max: 32_768, check: groups::group },
    Target { name: "replica", bytes_max: 512, check: replica::script },
    #[cfg(feature = "node")]
    Target { name: "configuration", bytes_max: 4_096, check: node::configuration },
    #[cfg(feature = "node")]
    Target { name: "admission", bytes_max: 33_000, check: node::admission },
    #[cfg(feature = "node")]
    Target { name: "stream", bytes_max: 8_192, check: node::stream },
    #[cfg(feature = "node")]
    Target { name: "address", bytes_max: 512, check: node::address },
    #[cfg(feature = "node")]
    Target { name: "audit", bytes_max: 16_384, check: node::audit },
    #[cfg(feature = "node")]
    Target { name: "deletions", bytes_max: 32_768, check: reports::report },
];

/// The target of this name.
///
/// # Panics
/// If there is none.
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    *found.unwrap_or_else(|| panic!("there is no target {name:?}"))
}

/// Gives `bytes` to a target; tells whether they were accepted.
///
/// # Panics
/// If something that must hold does not, or if there is no such target.
pub fn run(name: &str, bytes: &[u8]) -> bool {
    (target(name).check)(bytes)
}
