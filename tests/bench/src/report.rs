//! The report of several benchmarks: `report.json` for programs, `report.html` for people, readable without a network.

mod machine;
mod page;
mod plot;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use clap::ValueEnum;
use serde_json::{Value, json};

/// A benchmark, in the order in which they are run; the report shows what is said of it here, without its full stop.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Records of 1 KiB from their bytes on the wire to the synced disk, on one core and on two, against verifying and writing alone.
    Ingest,
    /// What two replicas that hold nearly the same exchange to find out how they differ, against the size of the difference.
    Reconcile,
    /// How long an empty replica takes to get everything from another one, against verifying and writing the same.
    Restore,
    /// What is left on the disk once nine in ten records have expired and the store was compacted, against what lives.
    Compact,
    /// Erasing single messages against storing them, a whole conversation, and expiry beside what is stored meanwhile.
    Erase,
    /// Groups of several sizes, against the bare MLS library.
    Groups,
    /// Memory and start-up of node and client.
    Memory,
    /// More messages than a node can take, from a tenth to three times of it: how long what it accepts takes, how soon it refuses the rest,
    /// and whether anything that it acknowledged is lost.
    Overload,
    /// The small parts of which the large ones are made, measured by Criterion, each against what it cannot do without.
    Small,
    /// From a client at one trust to one at another, beside other messengers.
    EndToEnd,
    /// What idle clients take at other messengers' servers.
    IdlePeers,
}

/// A figure that is to be so much at most.
pub fn at_most(figure: f64, goal: f64) -> Value {
    json!({ "figure": figure, "goal": format!("at most {goal}"), "met": figure <= goal })
}

/// A figure that is to be so much at least.
pub fn at_least(figure: f64, goal: f64) -> Value {
    json!({ "figure": figure, "goal": format!("at least {goal}"), "met": figure >= goal })
}

/// Runs what is named, or everything. One that fails is reported as failed, and the others run all the same.
///
/// # Errors
/// Files that cannot be written; and at the end, if a benchmark has failed.
pub fn run(names: &[Name], quick: bool, out: &Path) -> Result<(), Box<dyn Error>> {
    let wanted = Name::value_variants().iter().filter(|name| names.is_empty() || names.contains(name));
    let (mut benchmarks, mut failed) = (Vec::new(), Vec::new());
    for name in wanted.filter_map(Name::to_possible_value) {
        let name = name.get_name();
        eprintln!("bench: {name}");
        let begun = Instant::now();
        let outcome = results(name, quick);
        let seconds = begun.elapsed().as_secs();
        benchmarks.push(match outcome {
            Ok(results) => json!({ "name": name, "seconds": seconds, "results": results }),
            Err(error) => {
                eprintln!("bench: {name}: {error}");
                failed.push(name.to_owned());
                json!({ "name": name, "seconds": seconds, "results": [], "failed": error.to_string() })
            }
        });
    }
    fs::create_dir_all(out)?;
    let machine = machine::describe(out);
    let report = json!({
        "version": env!("CARGO_PKG_VERSION"), "machine": machine, "quick": quick, "benchmarks": benchmarks,
    });
    fs::write(out.join("report.json"), serde_json::to_vec_pretty(&report)?)?;
    fs::write(out.join("report.html"), page::page(&report).into_string())?;
    println!("{}", out.join("report.html").canonicalize()?.display());
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}

/// What a benchmark prints, in a process of its own.
fn results(name: &str, quick: bool) -> Result<Vec<Value>, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([name, "--json"]).args(quick.then_some("--quick"));
    let output = command.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
    }
    let lines: Result<_, _> = String::from_utf8(output.stdout)?.lines().map(serde_json::from_str).collect();
    Ok(lines?)
}
