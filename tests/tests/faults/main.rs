//! Real nodes and clients under faults (promises P4, P5 and P6). After each: every message that was acknowledged is at every
//! custodian once and is shown once, what was deleted is at none, and the audit logs explain what happened. What is done to the
//! processes, and how to run more of it, is in `docs/internals/faults.md`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod addresses;
mod behind;
mod clocks;
mod disk;
mod kills;
mod ledger;
mod links;
mod log;
mod pauses;
mod upgrade;

use lanyard_tests::Person;
use lanyard_tests::cluster::ONE_EACH as PLANS;

/// The first clinician of each trust.
fn clinicians(cluster: &lanyard_tests::Cluster) -> Vec<Person> {
    cluster.trusts.iter().map(|trust| trust.people[0].clone()).collect()
}
