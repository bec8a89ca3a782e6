//! `lanyard-node audit`: the running node's log as it stands, in a file, and held against what was signed of it.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use lanyard_crypto::network::Network;
use serde::Serialize;

use super::operate::client;
use super::{CommandError, ContentError, charters, show};
use crate::address::node_of;
use crate::admin::Client;
use crate::admin::api::Audit;
use crate::audit_export::{self, Beginning, Others, Shown, learn, line_of, verified_head};
use crate::backend::{AuditChecked, AuditHeads, AuditLine};
use crate::cli::{AuditArgs, AuditCommand, ExportArgs, HeadsArgs, NodeArgs, VerifyArgs};
use crate::config::Config;
use crate::files::{self, FileError};

/// A file of heads, in bytes: a few hundred for a node, of about 1 KiB each.
const HEADS_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What every successful check says beside what it found.
const NOTE: &str =
    "This shows that rows were not changed since the node wrote them, not that what they say is so.";

pub(super) fn run(args: &AuditArgs) -> Result<(), CommandError> {
    match &args.command {
        None => entries(args),
        Some(AuditCommand::Export(args)) => export(args),
        Some(AuditCommand::Verify(args)) => match &args.file {
            None => verify_own(args),
            Some(file) => verify(args, file),
        },
        Some(AuditCommand::Heads(args)) => heads(args),
    }
}

fn entries(args: &AuditArgs) -> Result<(), CommandError> {
    let after = args.after.map(|after| format!("&after={after}")).unwrap_or_default();
    let audit: Audit = client(&args.node)?.get(&format!("/v1/audit?limit={}{after}", args.limit))?;
    show(args.json, &audit, |audit| {
        let line = |e: &AuditLine| {
            let about = [&e.trust, &e.peer_id, &e.address, &e.record];
            let about: Vec<_> = about.into_iter().flatten().map(String::as_str).collect();
            let parts = [e.event.as_str(), &e.code, &e.detail, &about.join(" ")];
            let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            format!("{:>6} {} {}\n", e.number, e.at, parts.join("; "))
        };
        audit.entries.iter().map(line).collect()
    })
}

/// What `audit export` did.
#[derive(Serialize)]
struct Exported {
    file: String,
    first: u64,
    last: u64,
    heads: usize,
}

fn export(args: &ExportArgs) -> Result<(), CommandError> {
    let client = client(&args.node)?;
    let Beginning { opening, heads, last } = client.get("/v1/audit/chain")?;
    let mut text = line_of(&opening);
    heads.iter().for_each(|head| text += &line_of(head));
    let rows = rows(&client, opening.after, last)?;
    rows.iter().for_each(|row| text += &line_of(row));
    // Addresses stand in it, and who was refused.
    files::create(&args.file, text.as_bytes(), files::SECRET)?;
    let file = args.file.display().to_string();
    let exported = Exported { file, first: opening.after + 1, last, heads: heads.len() };
    show(args.json, &exported, |e| {
        format!(
            "{}: rows {} to {}, with {} heads, the last of them signed now",
            e.file, e.first, e.last, e.heads
        )
    })
}

/// The rows behind `after`, up to `last`.
fn rows(client: &Client, after: u64, last: u64) -> Result<Vec<AuditLine>, CommandError> {
    let (mut rows, mut reached) = (Vec::<AuditLine>::new(), after);
    while reached < last {
        let page: Audit = client.get(&format!("/v1/audit?limit=1000&after={reached}"))?;
        // What is not there, or cannot be read, is for `verify` to find.
        let Some(newest) = page.entries.last() else { break };
        reached = newest.number;
        rows.extend(page.entries.into_iter().filter(|row| row.number <= last));
    }
    Ok(rows)
}

fn verify_own(args: &VerifyArgs) -> Result<(), CommandError> {
    let checked: AuditChecked = client(&args.node)?.get("/v1/audit/verify")?;
    show(args.json, &checked, |c| {
        format!(
            "rows {} to {} follow each other, and contain {} heads that this node has signed, the newest of row {}\n{NOTE}",
            c.first, c.last, c.heads, c.signed
        )
    })
}

fn verify(args: &VerifyArgs, file: &Path) -> Result<(), CommandError> {
    let network = network(args)?;
    let others = match &args.heads {
        Some(heads) => others(heads, network.clone())?,
        None => Others::new(),
    };
    let opened = File::open(file).map_err(|reason| FileError::Read { path: file.into(), reason })?;
    let shown = audit_export::verify(BufReader::new(opened), network, &others);
    let shown = shown.map_err(|e| content(file, e.to_string()))?;
    if let (Some(heads), None) = (&args.heads, node_of(&shown.peer_id).and_then(|node| others.get(&node))) {
        return Err(content(heads, format!("no head of the log of {} is in it", shown.peer_id)));
    }
    show(args.json, &shown, |s| text(s, args.heads.is_some()))
}

fn text(shown: &Shown, held_against: bool) -> String {
    let Shown { trust, peer_id, first, last, signed, .. } = shown;
    let mut lines = vec![
        format!("the audit log of {peer_id} of {trust}, as of {signed}"),
        format!("  rows {first} to {last} follow each other"),
        format!("  contained: {} heads that the node shows itself", shown.own_heads),
    ];
    if held_against {
        lines.push(format!("  contained: {} heads that others hold", shown.other_heads));
    }
    if shown.heads_before > 0 {
        lines.push(format!(
            "  {} heads are of rows that have been dropped: nothing can be said of them",
            shown.heads_before
        ));
    }
    lines.push(NOTE.into());
    lines.join("\n")
}

/// As the charter says.
fn network(args: &VerifyArgs) -> Result<Network, CommandError> {
    let charter = match &args.charter {
        Some(charter) => charter.clone(),
        None => Config::load(&args.node.config)?.charter,
    };
    Ok(charters::read_trusted(&charter)?.0)
}

/// Heads that somebody holds, as [`heads`] prints them. Those whose signer the charter does not carry any more cannot be checked.
fn others(file: &Path, mut network: Network) -> Result<Others, CommandError> {
    let bytes = files::read(file, HEADS_BYTES_MAX)?;
    let held: AuditHeads = serde_json::from_slice(&bytes).map_err(|e| content(file, e.to_string()))?;
    learn(&mut network, &held.chains).map_err(|reason| content(file, reason))?;
    let records = held.heads.iter().map(|head| &head.record);
    let shown = held.contradictions.iter().flat_map(|found| &found.records);
    let mut others = Others::new();
    for record in records.chain(shown) {
        let (node, head, _) = verified_head(record, &network).map_err(|reason| content(file, reason))?;
        others.entry(node).or_default().push(head);
    }
    Ok(others)
}

fn content(path: &Path, reason: String) -> CommandError {
    CommandError::content(path, ContentError::Other(reason))
}

fn heads(args: &HeadsArgs) -> Result<(), CommandError> {
    let of = match &args.of {
        Some(of) if node_of(of).is_none() => {
            return Err(CommandError::Usage(format!(
                "--of {of}: a peer id is needed, as `status` shows them"
            )));
        }
        Some(of) => format!("?peer_id={of}"),
        None => String::new(),
    };
    let held = held_heads(&args.node, &of)?;
    show(args.json, &held, |held| {
        let line = |h: &crate::backend::AuditHead| {
            format!("{:<8} {} row {:>6}, signed {}\n", h.trust, h.peer_id, h.number, h.signed)
        };
        let found = |c: &crate::backend::AuditContradiction| {
            format!("{:<8} {} {}: {}, found {}\n", c.trust, c.peer_id, c.code, c.detail, c.found)
        };
        held.heads.iter().map(line).chain(held.contradictions.iter().map(found)).collect()
    })
}

fn held_heads(node: &NodeArgs, of: &str) -> Result<AuditHeads, CommandError> {
    Ok(client(node)?.get(&format!("/v1/audit/heads{of}"))?)
}
