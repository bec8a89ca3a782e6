//! Makes the archive of a network that later versions must be able to open: `tests/vectors/stores/README.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use lanyard_tests::cluster::REGION;
use lanyard_tests::loopback::Subnet;
use lanyard_tests::{Cluster, HarnessError, Programs, TrustPlan, interrupt, process};
use serde_json::{Value, json};

/// Two trusts, with one clinician each.
const PLANS: [TrustPlan; 2] = [
    TrustPlan { people: REGION[0].people.split_at(1).0, ..REGION[0] },
    TrustPlan { people: REGION[1].people.split_at(1).0, ..REGION[1] },
];
/// What nobody needs who only runs the network. The registrars' keys stay: nodes run with them.
const LEFT_OUT: [&str; 9] = [
    "authority1.key",
    "authority2.key",
    "authority3.key",
    "root.key",
    "node.log",
    "ready.json",
    "admin.sock",
    "agent.sock",
    "*.agent",
];
/// Longer than what the store keeps in one row.
const LONG_CHARS: usize = 9000;

/// Runs two nodes and two clients for a moment, and packs up everything that they keep, with a manifest of what must be found
/// in it.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  archive tests/vectors/stores/0.1.0.tar.gz")]
struct Cli {
    /// The archive to write
    out: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match interrupt::watch().and_then(|()| make(&cli.out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn make(out: &Path) -> Result<(), HarnessError> {
    let mut cluster = Cluster::found_in(&Programs::find()?, &PLANS, Subnet::ARCHIVED, |trusts| {
        for trust in trusts {
            let registrar = trust.dir.display().to_string();
            let relative = format!("../{}", trust.plan.ods.to_lowercase());
            // The key and the certificate.
            trust.node.configure(&registrar, &relative)?;
            trust.node.configure(&registrar, &relative)?;
        }
        Ok(())
    })?;
    cluster.start()?;
    cluster.enrol_all()?;
    let manifest = live(&mut cluster)?;
    let dir = cluster.path().to_path_buf();
    let path = dir.join("manifest.json");
    let text = serde_json::to_string_pretty(&manifest).unwrap_or_default() + "\n";
    fs::write(&path, text).map_err(HarnessError::system(path.display().to_string()))?;
    let (dir, out) = (dir.display().to_string(), out.display().to_string());
    let left_out = LEFT_OUT.map(|name| format!("--exclude={name}"));
    let words = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-czf", &out, "-C", &dir, "."];
    let words = left_out.iter().map(String::as_str).chain(words);
    process::run(Path::new("tar"), words, None)?.done()?;
    Ok(())
}

/// What a network does in its life. At the end nothing runs, and a message and a deletion wait for the second trust.
fn live(cluster: &mut Cluster) -> Result<Value, HarnessError> {
    let (amara, mira) = (cluster.trusts[0].people[0].clone(), cluster.trusts[1].people[0].clone());
    let conversation = amara.converse("Bed 4 transfer", "clinical", [&mira])?;
    mira.await_joined(&conversation, 2)?;
    amara.await_joined(&conversation, 2)?;
    let (mut kept, mut deleted) = (Vec::new(), Vec::new());
    for (place, (sender, reader)) in
        [(&amara, &mira), (&mira, &amara)].into_iter().cycle().take(8).enumerate()
    {
        let text = match place {
            5 => "long ".repeat(LONG_CHARS / 5).trim_end().to_owned(),
            _ => format!("message {place} from {}", sender.trust()),
        };
        let id = sender.send(&conversation, &text)?;
        reader.await_message(&conversation, &text)?;
        kept.push(json!({"id": id, "text": text}));
    }
    for (sender, text) in [(&amara, "a mistake of RZ1"), (&mira, "a mistake of RZ2")] {
        let id = sender.send(&conversation, text)?;
        cluster.people().try_for_each(|person| person.await_message(&conversation, text).map(drop))?;
        let deletion = sender.delete(&id, "sent-in-error")?;
        sender.await_confirmed(&deletion, 2)?;
        deleted.push(json!({"id": id, "text": text, "deletion": deletion}));
    }
    let undone = "a mistake that the other trust still holds";
    let undone_id = amara.send(&conversation, undone)?;
    mira.await_message(&conversation, undone)?;
    cluster.trusts[1].node.stop()?;
    let waiting = "sent while the other node was away";
    let waiting_id = amara.send(&conversation, waiting)?;
    let deletion = amara.delete(&undone_id, "sent-in-error")?;
    let nodes = cluster.trusts[..1].iter().map(|trust| trust.node.status());
    let status = nodes.collect::<Result<Vec<_>, _>>()?;
    let audit = cluster.trusts[0].node.audit()?;
    cluster.stop()?;
    Ok(json!({
        "made": SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        "version": status[0]["version"],
        "conversation": conversation,
        "kept": kept,
        "deleted": deleted,
        "waiting": {"id": waiting_id, "text": waiting},
        "undone": {"id": undone_id, "text": undone, "deletion": deletion},
        "first_node": {"stored": status[0]["stored"], "audit_entries": audit.len()},
    }))
}
