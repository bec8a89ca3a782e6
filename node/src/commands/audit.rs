//! `lanyard-node audit`: the running node's log as it stands, in a file, and held against what was signed of it.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use lanyard_crypto::ids::from_hex;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::Decoded;
use serde::Serialize;

use super::operate::client;
use super::{CommandError, ContentError, charters, show};
use crate::address::node_of;
use crate::admin::Client;
use crate::admin::api::Audit;
use crate::audit_export::{self, Beginning, Others, Shown, learn, line_of, verified_head};
use crate::backend::{AuditChecked, AuditHeads, AuditLine};
use crate::cli::{AuditArgs, AuditCommand, ExportArgs, HeadsArgs, VerifyArgs};
use crate::config::Config;
use crate::files::{self, FileError};

/// A file of heads, in bytes: a few hundred for a node, of about 1 KiB each.
const HEADS_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How often an export begins anew, before it is written with a gap, which `verify` names.
const EXPORT_TRIES: u32 = 5;
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
    let (Beginning { opening, heads, last }, rows) = whole(&client)?;
    let mut text = line_of(&opening);
    heads.iter().for_each(|head| text += &line_of(head));
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

/// How the log begins, and its rows. Of a log that is full the oldest row may give way before it is read: then all is asked for again.
fn whole(client: &Client) -> Result<(Beginning, Vec<AuditLine>), CommandError> {
    let mut tries = 0;
    loop {
        let beginning: Beginning = client.get("/v1/audit/chain")?;
        let rows = rows(client, beginning.opening.after, beginning.last)?;
        let gave_way = rows.first().is_some_and(|row| row.number > beginning.opening.after + 1);
        tries += 1;
        if !gave_way || tries == EXPORT_TRIES {
            return Ok((beginning, rows));
        }
    }
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
    let (others, unknown) = match &args.heads {
        Some(heads) => others(heads, network.clone())?,
        None => (Others::new(), 0),
    };
    let opened = File::open(file).map_err(|reason| FileError::Read { path: file.into(), reason })?;
    let shown = audit_export::verify(BufReader::new(opened), network, &others);
    let shown = shown.map_err(|e| content(file, e.to_string()))?;
    if let (Some(heads), None) = (&args.heads, node_of(&shown.peer_id).and_then(|node| others.get(&node))) {
        return Err(content(
            heads,
            format!(
                "no head of the log of {} is in it that can be checked ({unknown} are signed with certificates that neither it nor the charter vouches for)",
                shown.peer_id
            ),
        ));
    }
    show(args.json, &Held { shown, heads_unknown: unknown }, |held| text(held, args.heads.is_some()))
}

/// What an export shows, held against heads.
#[derive(Serialize)]
struct Held {
    #[serde(flatten)]
    shown: Shown,
    /// Heads in the file, of any log, whose certificates are not known.
    heads_unknown: usize,
}

fn text(Held { shown, heads_unknown }: &Held, held_against: bool) -> String {
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
    if shown.heads_after > 0 {
        lines.push(format!(
            "  {} heads that others hold were signed later, of later rows: nothing can be said of them",
            shown.heads_after
        ));
    }
    if *heads_unknown > 0 {
        lines.push(format!(
            "  {heads_unknown} heads that others hold could not be checked: their certificates are not known"
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

/// Heads that somebody holds, as [`heads`] prints them; and how many of them nobody can check, since their certificates are not known: a
/// head outlives its node's certificate, and other trusts' nodes forget that after a while.
fn others(file: &Path, mut network: Network) -> Result<(Others, usize), CommandError> {
    let bytes = files::read(file, HEADS_BYTES_MAX)?;
    let held: AuditHeads = serde_json::from_slice(&bytes).map_err(|e| content(file, e.to_string()))?;
    for chain in &held.chains {
        // One of a trust that this charter does not have is of no use here, and does no harm.
        let _ = learn(&mut network, std::slice::from_ref(chain));
    }
    let records = held.heads.iter().map(|head| &head.record);
    let shown = held.contradictions.iter().flat_map(|found| &found.records);
    let (mut others, mut unknown) = (Others::new(), 0);
    for record in records.chain(shown) {
        if signed_by_stranger(record, &network) {
            unknown += 1;
            continue;
        }
        let (node, head, _) = verified_head(record, &network).map_err(|reason| content(file, reason))?;
        others.entry(node).or_default().push(head);
    }
    Ok((others, unknown))
}

/// Whether nothing is known here of the certificate with which a record is signed.
fn signed_by_stranger(record: &str, network: &Network) -> bool {
    let decoded = from_hex(record).and_then(|bytes| Decoded::from_bytes(&bytes).ok());
    decoded.and_then(|record| record.signer()).is_some_and(|signer| network.chain(&signer).is_none())
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
    let held: AuditHeads = client(&args.node)?.get(&format!("/v1/audit/heads{of}"))?;
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
