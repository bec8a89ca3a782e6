//! The mutation check: each deliberate bug of the engine is switched on, and seeds run until a checker finds it.

pub use lanyard_replica::mutation::Mutation as Bug;

use std::time::Instant;

use serde::Serialize;

use crate::scenario::Scenario;
use crate::{Options, run};

/// Seeds that are tried in the scenarios that meet a bug soon.
const NEAR_SEEDS_MAX: u64 = 60;
/// Seeds that are tried for one bug before it counts as not found; the later ones with all scenarios in turn.
pub const SEEDS_MAX: u64 = 300;

/// What came of one bug.
#[derive(Clone, Debug, Serialize)]
pub struct Hunt {
    /// The bug.
    pub bug: &'static str,
    /// The first seed that found it.
    pub seed: Option<u64>,
    /// The scenario that it ran.
    pub scenario: Option<String>,
    /// What the checker said.
    pub found: Option<String>,
    /// Seeds that ran.
    pub seeds_run: u64,
    /// How long they took, in seconds.
    pub seconds: f64,
    /// Seeds that ended in a panic of the engine's: not a finding, though it would be noticed.
    pub panics: u64,
}

/// The scenarios that meet a bug soon; they take turns. None if all do.
fn scenarios(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::AcknowledgeBeforeCommit | Bug::SendExpired | Bug::ForgetHandedIn => &["crashes"],
        Bug::SkipBacklog => &["partitions"],
        Bug::AcceptExpired => &["clocks"],
        Bug::AcceptFuture
        | Bug::IgnoreRetention
        | Bug::ShortTombstone
        | Bug::AnyoneMayCommit
        | Bug::SecondCommit
        | Bug::BelieveOneClock
        | Bug::CountTheHeard
        | Bug::RelayRefused => &["liar"],
        Bug::ForgetStanding | Bug::ServeHeld | Bug::AttestHeld | Bug::NeverEndHold => &["holds"],
        Bug::NeverPunish => &["lifetimes"],
        Bug::LowerCrlNumber | Bug::SkipReverify | Bug::ForgetRevocations => &["trust"],
        Bug::ServeUnfinished | Bug::ServeWithheld => &["steps"],
        Bug::ForgetAbsentTarget
        | Bug::ServeExpired
        | Bug::ServeAnybody
        | Bug::ServeWithoutEnd
        | Bug::ClaimForEver => &["questions"],
        _ => &[],
    }
}

/// Hunts one bug, from this seed on: in this scenario alone, or first in those that meet it soon.
pub fn hunt(bug: Bug, first: u64, scenario: Option<(&str, &Scenario)>) -> Hunt {
    let (begun, near, options) = (Instant::now(), scenarios(bug), Options { bug: Some(bug), prints: false });
    let mut hunt = Hunt {
        bug: bug.name(),
        seed: None,
        scenario: None,
        found: None,
        seeds_run: 0,
        seconds: 0.0,
        panics: 0,
    };
    for seed in first..first + SEEDS_MAX {
        let name = match near {
            [] => Scenario::of_seed(seed),
            _ if hunt.seeds_run >= NEAR_SEEDS_MAX => Scenario::of_seed(seed),
            _ => near[(seed % near.len() as u64) as usize],
        };
        let own;
        let (name, scenario) = match scenario {
            Some(one) => one,
            None => {
                own = Scenario::named(name).expect("seeds run committed scenarios");
                (name, &own)
            }
        };
        let outcome = run(seed, name, scenario, &options);
        hunt.seeds_run += 1;
        match outcome.violation {
            Some(found) if found.promise == "panic" => hunt.panics += 1,
            // What fails without the bug as well does not show that it is found.
            Some(_) if run(seed, name, scenario, &Options::default()).violation.is_some() => {}
            Some(found) => {
                hunt.seed = Some(seed);
                hunt.scenario = Some(outcome.scenario);
                hunt.found = Some(found.to_string());
                break;
            }
            None => {}
        }
    }
    hunt.seconds = begun.elapsed().as_secs_f64();
    hunt
}
