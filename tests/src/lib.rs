//! Clusters of real processes, interoperability and vectors for Lanyard.
//!
//! [`Cluster`] founds a regional network in a directory and runs the programs `lanyard-node` and `lanyard` as an
//! operator and a clinician would: by their command lines alone. Everything is on addresses of 127.0.0.0/8 that
//! belong to the cluster alone, every wait polls a condition and has a bound, and every process is ended, by its own
//! id, when the cluster is dropped.

pub mod agent;
pub mod capture;
pub mod clock;
pub mod cluster;
pub mod draw;
pub mod error;
pub mod interrupt;
pub mod links;
pub mod loopback;
pub mod node;
pub mod oidc;
pub mod person;
pub mod process;
pub mod python;
pub mod space;
pub mod traces;
pub mod wait;

pub use agent::Agent;
pub use capture::Capture;
pub use clock::Clocks;
pub use cluster::{Cluster, Trust, TrustPlan};
pub use draw::Draw;
pub use error::HarnessError;
pub use links::Links;
pub use node::Node;
pub use person::{Person, PersonPlan};
pub use process::Programs;
pub use space::Space;
