//! The mutation check: each deliberate bug of the engine is switched on, and seeds run until a checker finds it.

pub use lanyard_replica::mutation::Mutation as Bug;

use serde::Serialize;

use crate::scenario::Scenario;
use crate::{Options, run};

/// Seeds that are tried for one bug before it counts as not found.
pub const SEEDS_MAX: u64 = 600;

/// What came of one bug.
#[derive(Clone, Debug, Serialize)]
pub struct Hunt {
    /// The bug.
    pub bug: &'static str,
    /// The first seed that found it.
    pub seed: Option<u64>,
    /// The scenario of that seed.
    pub scenario: Option<&'static str>,
    /// What the checker said.
    pub found: Option<String>,
    /// Seeds that ended in a panic of the engine's: not a finding, though it would be noticed.
    pub panics: u64,
}

/// Hunts one bug, from this seed on.
pub fn hunt(bug: Bug, first: u64) -> Hunt {
    let mut panics = 0;
    for seed in first..first + SEEDS_MAX {
        let name = Scenario::of_seed(seed);
        let scenario = Scenario::named(name).expect("seeds run committed scenarios");
        let outcome = run(seed, name, &scenario, &Options { bug: Some(bug), prints: false });
        match outcome.violation {
            Some(found) if found.promise == "panic" => panics += 1,
            Some(found) => {
                let (seed, scenario, found) = (Some(seed), Some(name), Some(found.to_string()));
                return Hunt { bug: bug.name(), seed, scenario, found, panics };
            }
            None => {}
        }
    }
    Hunt { bug: bug.name(), seed: None, scenario: None, found: None, panics }
}
