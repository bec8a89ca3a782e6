//! The report of several benchmarks: `report.json` for programs, `report.html` for people, readable without a network.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use clap::ValueEnum;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::{Value, json};

/// A benchmark, in the order in which they are run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Records from the wire to the disk.
    Ingest,
    /// Anti-entropy between two replicas.
    Reconcile,
    /// An empty replica gets everything.
    Restore,
    /// What a compaction leaves.
    Compact,
    /// Single deletions, a conversation, expiry.
    Erase,
    /// Groups of several sizes, against the bare MLS library.
    Groups,
    /// Memory and start-up of node and client.
    Memory,
}

/// A figure that is to be so much at most.
pub fn at_most(figure: f64, goal: f64) -> Value {
    json!({ "figure": figure, "goal": format!("at most {goal}"), "met": figure <= goal })
}

/// A figure that is to be so much at least.
pub fn at_least(figure: f64, goal: f64) -> Value {
    json!({ "figure": figure, "goal": format!("at least {goal}"), "met": figure >= goal })
}

pub fn run(names: &[Name], quick: bool, out: &Path) -> Result<(), Box<dyn Error>> {
    let wanted = Name::value_variants().iter().filter(|name| names.is_empty() || names.contains(name));
    let mut benchmarks = Vec::new();
    for name in wanted.filter_map(Name::to_possible_value) {
        let name = name.get_name();
        eprintln!("bench: {name}");
        let begun = Instant::now();
        let mut command = Command::new(std::env::current_exe()?);
        command.args([name, "--json"]).args(quick.then_some("--quick"));
        let output = command.output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{name}: {said}").into());
        }
        let lines: Result<Vec<Value>, _> =
            String::from_utf8(output.stdout)?.lines().map(serde_json::from_str).collect();
        let seconds = begun.elapsed().as_secs();
        benchmarks.push(json!({ "name": name, "seconds": seconds, "results": lines? }));
    }
    let cores = std::thread::available_parallelism()?.get();
    let report = json!({
        "version": env!("CARGO_PKG_VERSION"), "processor": processor(), "cores": cores, "quick": quick,
        "benchmarks": benchmarks,
    });
    fs::create_dir_all(out)?;
    fs::write(out.join("report.json"), serde_json::to_vec_pretty(&report)?)?;
    fs::write(out.join("report.html"), page(&report).into_string())?;
    println!("{}", out.join("report.html").canonicalize()?.display());
    Ok(())
}

fn processor() -> String {
    let all = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = all.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown".to_owned(), |(_, model)| model.to_owned())
}

const STYLE: &str = "body{font:16px/1.5 sans-serif;max-width:64em;margin:2em auto;padding:0 1em;color:#212b32}
table{border-collapse:collapse;margin:1em 0}th,td{border-bottom:1px solid #d8dde0;padding:.3em .8em;text-align:left;vertical-align:top}
td{font-variant-numeric:tabular-nums}.met{color:#00703c}.missed{color:#b3001b;font-weight:bold}";

fn page(report: &Value) -> Markup {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    html! {
        (DOCTYPE)
        html lang="en-GB" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "Lanyard: benchmarks" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Lanyard " (text(&report["version"])) ": benchmarks" }
                p {
                    (text(&report["processor"])) ", " (text(&report["cores"])) " cores"
                    @if report["quick"] == true { ". A fiftieth of everything: not to be quoted." }
                }
                @for benchmark in report["benchmarks"].as_array().into_iter().flatten() {
                    h2 { (text(&benchmark["name"])) }
                    p { (text(&benchmark["seconds"])) " seconds" }
                    @for result in benchmark["results"].as_array().into_iter().flatten() {
                        table {
                            @for (name, value) in result.as_object().into_iter().flatten() {
                                tr { th scope="row" { (name) } td { (figure(value)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn figure(value: &Value) -> Markup {
    match value {
        Value::Object(figure) if figure.contains_key("goal") => {
            let (word, class) = if figure["met"] == true { ("met", "met") } else { ("missed", "missed") };
            let goal = figure["goal"].as_str().unwrap_or_default();
            let (scale, wide) = (40.0, figure["figure"].as_f64().unwrap_or_default());
            let limit = goal.rsplit(' ').next().and_then(|limit| limit.parse().ok()).unwrap_or(0.0_f64);
            html! {
                (wide) " (goal: " (goal) ", " span class=(class) { (word) } ") "
                svg width="240" height="14" role="img" aria-label=(format!("{wide}, goal {goal}")) {
                    rect width=((wide * scale).min(240.0)) height="14" fill="#005eb8" {}
                    rect x=((limit * scale).min(238.0)) width="2" height="14" fill="#b3001b" {}
                }
            }
        }
        Value::Object(parts) => html! {
            @for (name, value) in parts { (name) ": " (value.to_string()) br; }
        },
        Value::String(text) => html! { (text) },
        other => html! { (other.to_string()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_goal_is_shown_as_missed_and_nothing_is_markup() {
        let results = [json!({ "<b>": at_most(1.4, 1.3), "cores": at_least(1.8, 1.7), "note": "a < b" })];
        let benchmarks = [json!({ "name": "ingest", "seconds": 3, "results": results })];
        let page = page(&json!({ "version": "1", "benchmarks": benchmarks })).into_string();
        assert_eq!((page.matches(">missed<").count(), page.matches(">met<").count()), (1, 1));
        assert!(page.contains("&lt;b&gt;") && page.contains("a &lt; b") && !page.contains("<b>"));
    }
}
