//! Many seeds on all cores, and what came of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

use crate::counters::Counters;
use crate::mutations::{Bug, Hunt, hunt};
use crate::scenario::Scenario;
use crate::{Options, Outcome, run};

/// From so many seeds on, a counter at zero fails the run. Fewer may by chance not reach what is rare.
pub const REACH_SEEDS: u64 = 500;

/// A seed that failed.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The scenario that it ran.
    pub scenario: String,
    /// What did not hold.
    pub violation: String,
}

/// What came of a range of seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How many ran.
    pub seeds_run: u64,
    /// Those that failed, by seed.
    pub failed_seeds: Vec<Failure>,
    /// Steps of engines.
    pub steps: u64,
    /// What occurred, by name.
    pub counters: BTreeMap<&'static str, u64>,
    /// What should have occurred and has not; only of a range that is long enough.
    pub unreached: Vec<&'static str>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Seeds in a minute.
    pub seeds_per_minute: f64,
    /// Of one seed alone: the hash over everything that happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

impl Report {
    /// Whether everything held, and everything occurred.
    pub fn is_good(&self) -> bool {
        self.failed_seeds.is_empty() && self.unreached.is_empty()
    }
}

/// Runs seeds from `first` up to and without `end`, each with its own scenario or with this one.
pub fn run_seeds(first: u64, end: u64, scenario: Option<(&str, &Scenario)>) -> Report {
    let begun = Instant::now();
    let outcomes = on_all_cores(first, end, |seed| one(seed, scenario, false));
    let mut counters = Counters::default();
    outcomes.iter().for_each(|o| counters.merge(&o.counters));
    let failed = |o: &Outcome| {
        let violation = o.violation.as_ref()?.to_string();
        Some(Failure { seed: o.seed, scenario: o.scenario.clone(), violation })
    };
    let (seeds_run, seconds) = (end.saturating_sub(first), begun.elapsed().as_secs_f64());
    let reaches = seeds_run >= REACH_SEEDS && scenario.is_none();
    let unreached = counters.iter().filter(|(_, n)| *n == 0 && reaches).map(|(c, _)| c.name()).collect();
    Report {
        seeds_run,
        failed_seeds: outcomes.iter().filter_map(failed).collect(),
        steps: outcomes.iter().map(|o| o.steps).sum(),
        counters: counters.iter().map(|(c, n)| (c.name(), n)).collect(),
        unreached,
        seconds,
        seeds_per_minute: seeds_run as f64 * 60.0 / seconds,
        trace: (seeds_run == 1).then(|| outcomes[0].trace.clone()),
    }
}

/// Runs one seed, with its own scenario or with this one.
pub fn one(seed: u64, scenario: Option<(&str, &Scenario)>, prints: bool) -> Outcome {
    let options = Options { bug: None, prints };
    match scenario {
        Some((name, scenario)) => run(seed, name, scenario, &options),
        None => {
            let name = Scenario::of_seed(seed);
            let scenario = Scenario::named(name).expect("seeds run committed scenarios");
            run(seed, name, &scenario, &options)
        }
    }
}

/// Hunts these deliberate bugs, each from this seed on, in this scenario or in those that meet it soon.
pub fn hunt_all(bugs: &[Bug], first: u64, scenario: Option<(&str, &Scenario)>) -> Vec<Hunt> {
    on_all_cores(0, bugs.len() as u64, |place| hunt(bugs[place as usize], first, scenario))
}

/// Calls for each number, on as many threads as there are cores; the results are in the order of the numbers.
fn on_all_cores<T: Send>(first: u64, end: u64, each: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(first);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end {
                return done;
            }
            done.push((number, each(number)));
        }
    };
    let mut all: Vec<(u64, T)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|t| t.join().expect("panics within a run are caught")).collect()
    });
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, outcome)| outcome).collect()
}
