//! A deterministic simulator of Lanyard: the engine that nodes run, over stores in memory that crash, under a network that loses,
//! repeats, delays and reorders, with clocks that differ and one trust that lies. Everything follows from a seed.
//!
//! [`run`] runs one seed of one [`scenario`]. The [`world`] does for each replica what a node's driver does; the [`oracle`] watches
//! from outside and knows only what was sent, acknowledged and stored as bytes.

pub mod cast;
pub mod conversations;
pub mod counters;
pub mod mutations;
pub mod oracle;
pub mod report;
pub mod rng;
pub mod scenario;
pub mod trace;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use counters::Counters;
use mutations::Bug;
use oracle::Violation;
use scenario::Scenario;
use world::World;

/// How to run a seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A deliberate bug that is switched on.
    pub bug: Option<Bug>,
    /// Whether events are printed.
    pub prints: bool,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The scenario's name.
    pub scenario: String,
    /// What did not hold.
    pub violation: Option<Violation>,
    /// Steps of engines.
    pub steps: u64,
    /// What occurred.
    pub counters: Counters,
    /// The hash over all that happened; empty after a panic.
    pub trace: String,
}

/// Runs a seed of a scenario.
pub fn run(seed: u64, name: &str, scenario: &Scenario, options: &Options) -> Outcome {
    #[cfg(feature = "mutations")]
    lanyard_replica::mutation::set(options.bug);
    let ran = catch_unwind(AssertUnwindSafe(|| World::new(seed, scenario, options).run()));
    #[cfg(feature = "mutations")]
    lanyard_replica::mutation::set(None);
    match ran {
        Ok(done) => Outcome {
            seed,
            scenario: name.into(),
            violation: done.violation,
            steps: done.steps,
            counters: done.counters,
            trace: done.trace,
        },
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            let violation = Violation { promise: "panic", what: text.unwrap_or_default() };
            let counters = Counters::default();
            Outcome {
                seed,
                scenario: name.into(),
                violation: Some(violation),
                steps: 0,
                counters,
                trace: String::new(),
            }
        }
    }
}
