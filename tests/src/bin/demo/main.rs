//! `scripts/demo`: Lanyard's main job, done with real processes on loopback addresses, and told step by step.

mod refusals;
mod steps;
mod story;

use std::process::ExitCode;

use clap::Parser;
use lanyard_tests::person::PIN;
use lanyard_tests::process::quoted;
use lanyard_tests::{Cluster, HarnessError, Programs, interrupt};
use story::Story;

/// Three trusts, one conversation, one deletion that reaches every replica: with real processes, on loopback
/// addresses. All names are fictional.
#[derive(Debug, Parser)]
#[command(
    name = "scripts/demo",
    after_help = "Exit codes: 0 every step came out, 1 one did not, 2 used wrongly."
)]
struct Cli {
    /// Print one JSON object instead of the story: {"ok", "steps": [{"name", "ok", "took_ms", ...}]}
    #[arg(long)]
    json: bool,
    /// Leave the network running at the end, and print how to talk to it
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut story = Story::begin(cli.json);
    let kept = interrupt::watch().and_then(|()| play(&mut story, cli.keep));
    let advice = match kept {
        Ok(Some(cluster)) => Some(how_to_talk_to(&cluster)),
        Ok(None) => None,
        Err(error) => {
            story.fail(&error);
            None
        }
    };
    let ok = story.end(advice.as_deref());
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays all steps. The network, if it is to be kept; otherwise everything is ended and removed, whatever happened.
fn play(story: &mut Story, keep: bool) -> Result<Option<Cluster>, HarnessError> {
    let programs = Programs::find()?;
    let mut cluster = steps::found(story, &programs)?;
    steps::start(story, &mut cluster)?;
    steps::enrol(story, &mut cluster)?;
    let conversation = steps::converse(story, &cluster)?;
    let sent = steps::talk(story, &cluster, &conversation)?;
    steps::look_inside(story, &cluster, &sent)?;
    steps::delete(story, &cluster, &conversation, &sent)?;
    steps::be_away(story, &mut cluster, &conversation)?;
    refusals::wrong_country(story, &cluster)?;
    refusals::stranger(story, &cluster)?;
    steps::look_for_texts(story, &cluster)?;
    if keep {
        cluster.keep();
        return Ok(Some(cluster));
    }
    steps::stop(story, &mut cluster)?;
    Ok(None)
}

fn how_to_talk_to(cluster: &Cluster) -> String {
    let (node, client) = (cluster.programs.node(), cluster.programs.client());
    let mut lines = vec!["The network is still running. To talk to it:".to_owned()];
    for trust in &cluster.trusts {
        let config = quoted(&trust.node.config().display().to_string());
        lines.push(format!("  {} status --config {config}", quoted(&node.display().to_string())));
    }
    lines.push(format!(
        "Devices lock themselves without use; each one's PIN is {PIN}, for: lanyard --profile DIR unlock"
    ));
    for person in cluster.people() {
        let profile = quoted(&person.profile().display().to_string());
        let command = format!("  {} --profile {profile} read", quoted(&client.display().to_string()));
        lines.push(format!("{command}   # {}, {}", person.name(), person.trust()));
    }
    let nodes = cluster.trusts.iter().filter_map(|trust| trust.node.process_id());
    let ids = nodes.chain(cluster.people().filter_map(|person| person.agent().id())).map(|id| id.to_string());
    let dir = quoted(&cluster.path().display().to_string());
    lines.push(format!("To end it:\n  kill {}; rm -r {dir}", ids.collect::<Vec<_>>().join(" ")));
    lines.join("\n")
}
