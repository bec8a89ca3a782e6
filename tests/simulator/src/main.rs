//! `simulate`: runs seeds of the simulator, replays one, hunts deliberate bugs. Exit codes: 0 all held, 1 something did not,
//! 2 used wrongly.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use lanyard_simulator::mutations::{Bug, Hunt};
use lanyard_simulator::report::{Report, hunt_all, one, run_seeds};
use lanyard_simulator::scenario::{SCENARIOS, Scenario};

/// What was typed.
#[derive(Debug, Parser)]
#[command(
    name = "simulate",
    about = "Runs Lanyard's engine under simulated faults, each run made from a seed.",
    after_help = "Examples:\n  scripts/simulate --seed 4711 --trace\n  scripts/simulate --seeds 0..2000 --json\n  scripts/simulate --seeds 0..500 --scenario crashes\n  scripts/simulate --mutations"
)]
struct Typed {
    /// Replay one seed.
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "mutations"])]
    seed: Option<u64>,
    /// Run the seeds from A up to and without B.
    #[arg(long, value_name = "A..B", value_parser = range, conflicts_with = "mutations")]
    seeds: Option<(u64, u64)>,
    /// Switch on one deliberate bug after the other, and say which seed finds it.
    #[arg(long)]
    mutations: bool,
    /// Only the deliberate bugs whose names contain this; with --mutations.
    #[arg(long, value_name = "TEXT", requires = "mutations")]
    only: Option<String>,
    /// A scenario: the name of a committed one, or a TOML file. Without it, the committed ones take turns.
    #[arg(long, value_name = "FILE")]
    scenario: Option<String>,
    /// One JSON object on standard output.
    #[arg(long)]
    json: bool,
    /// Print every event; with --seed.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let typed = Typed::parse();
    // A panic is a finding like any other: it is reported with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    match typed.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("simulate: {what}");
            ExitCode::from(2)
        }
    }
}

impl Typed {
    fn run(&self) -> Result<bool, String> {
        let scenario = self.scenario.as_deref().map(read).transpose()?;
        let scenario = scenario.as_ref().map(|(name, scenario)| (name.as_str(), scenario));
        let which = scenario.map_or("all, in turn", |(name, _)| name);
        let say = |text: String| if self.json { eprintln!("{text}") } else { println!("{text}") };
        if self.trace && self.seed.is_none() {
            return Err("--trace prints the events of one run: give it with --seed".into());
        }
        match (self.seed, self.seeds, self.mutations) {
            (Some(seed), _, _) => {
                let name = scenario.map_or(Scenario::of_seed(seed), |(name, _)| name);
                say(format!("seed {seed}, scenario {name}"));
                if self.trace {
                    let outcome = one(seed, scenario, true);
                    say(format!("trace {}", outcome.trace));
                }
                Ok(self.show(&run_seeds(seed, seed + 1, scenario)))
            }
            (None, Some((first, end)), _) => {
                say(format!("seeds {first}..{end}, scenario: {which}"));
                Ok(self.show(&run_seeds(first, end, scenario)))
            }
            (None, None, true) if cfg!(feature = "mutations") => {
                let only = self.only.as_deref().unwrap_or_default();
                let bugs: Vec<Bug> = Bug::ALL.iter().copied().filter(|b| b.name().contains(only)).collect();
                let which = scenario.map_or("each bug's own, then all in turn", |(name, _)| name);
                say(format!("deliberate bugs: {}, from seed 0, scenario: {which}", bugs.len()));
                Ok(self.show_hunts(&hunt_all(&bugs, 0, scenario)))
            }
            (None, None, true) => {
                Err("this build has no deliberate bugs: use scripts/simulate --mutations".into())
            }
            (None, None, false) => Err("one of --seed, --seeds and --mutations is needed; see --help".into()),
        }
    }

    fn show(&self, report: &Report) -> bool {
        if self.json {
            println!("{}", serde_json::to_string(report).expect("a report is made of numbers and text"));
            return report.is_good();
        }
        for failure in &report.failed_seeds {
            println!("FAILED seed {} ({}): {}", failure.seed, failure.scenario, failure.violation);
            let scenario = self.scenario.as_deref().unwrap_or(&failure.scenario);
            println!(
                "       replay it: scripts/simulate --seed {} --scenario {scenario} --trace",
                failure.seed
            );
        }
        for name in &report.unreached {
            println!("FAILED: never occurred: {name}");
        }
        if let Some(trace) = &report.trace {
            println!("trace {trace}");
        }
        println!(
            "{} seeds, {} failed, {} steps, {:.0} seconds, {:.0} seeds a minute",
            report.seeds_run,
            report.failed_seeds.len(),
            report.steps,
            report.seconds,
            report.seeds_per_minute
        );
        report.is_good()
    }

    fn show_hunts(&self, hunts: &[Hunt]) -> bool {
        let survived = hunts.iter().filter(|h| h.seed.is_none()).count();
        if self.json {
            println!("{}", serde_json::to_string(hunts).expect("hunts are made of numbers and text"));
            return survived == 0;
        }
        for Hunt { bug, seed, scenario, found, seeds_run, seconds, panics } in hunts {
            match (seed, scenario, found) {
                (Some(seed), Some(scenario), Some(found)) => {
                    println!("found by seed {seed} of {scenario}, {seconds:.1} seconds: {bug}\n    {found}");
                }
                _ => println!(
                    "FAILED, not found: {bug} ({seeds_run} seeds, {panics} panics, {seconds:.0} seconds)"
                ),
            }
        }
        println!("{} deliberate bugs, {survived} not found", hunts.len());
        survived == 0
    }
}

/// A committed scenario by its name, or one in a file.
fn read(asked: &str) -> Result<(String, Scenario), String> {
    if let Some(scenario) = Scenario::named(asked) {
        return Ok((asked.to_owned(), scenario));
    }
    let path = PathBuf::from(asked);
    let known: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
    let text = std::fs::read_to_string(&path)
        .map_err(|e| format!("{asked}: {e}; committed scenarios are {}", known.join(", ")))?;
    let scenario = Scenario::read(asked, &text).map_err(|e| e.to_string())?;
    Ok((path.file_stem().map_or(asked.into(), |stem| stem.to_string_lossy().into_owned()), scenario))
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let number = |part: &str| part.parse::<u64>().map_err(|e| format!("{part:?}: {e}"));
    let (first, end) =
        text.split_once("..").ok_or("two numbers with .. between them are needed, such as 0..2000")?;
    let (first, end) = (number(first)?, number(end)?);
    if first < end {
        Ok((first, end))
    } else {
        Err(format!("{text}: the first number must be below the second"))
    }
}
