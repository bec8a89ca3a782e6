//! The clinician's client as a library, for its program and for tests.
//!
//! - [`app`]: what a front end does for the person before it.
//! - [`enrol`], [`sync`]: from an invitation to a certified device; what comes from the node, and what waits
//!   for it.
//! - [`node`]: HTTPS with mutual TLS to the device's own node.
//! - [`trust`]: what the device believes of the network.
//! - [`session`]: MLS; [`vault`]: everything that is kept, encrypted.
//! - [`pin`], [`agent`]: the PIN, and the process that keeps the vault's key while the device is unlocked.
//! - [`profile`], [`files`]: the directory that holds one device.
//! - [`names`], [`patterns`]: which names are easily confused; what in a text identifies a patient.
//! - [`lines`]: what others wrote, as it may be printed.
//! - [`limits`]: how much is kept of what cannot be used yet.

pub mod agent;
pub mod app;
pub mod clock;
pub mod enrol;
pub mod files;
mod heard;
pub mod limits;
pub mod lines;
pub mod names;
pub mod node;
pub mod patterns;
pub mod pin;
pub mod profile;
pub mod session;
pub mod sync;
pub mod trust;
pub mod vault;
