//! `lanyard-node deletions`: what was ordered and who has confirmed it.

use serde::Serialize;

use super::operate::client;
use super::{CommandError, ContentError, charters, show};
use crate::admin::deletion::{Deletion, DeviceErasure, Replica};
use crate::cli::{DeletionsArgs, DeletionsCommand, ExportArgs, VerifyDeletionsArgs};
use crate::deletions_report::{self, ReportError, Shown};
use crate::files::{self, FileError};

/// What every view of receipts says.
const NOTE: &str = "A receipt proves that a trust's node, or a device, attested erasure, no more.";
/// A report, in bytes.
const REPORT_BYTES_MAX: u64 = 256 * 1024 * 1024;

pub(super) fn run(args: &DeletionsArgs) -> Result<(), CommandError> {
    match &args.command {
        Some(DeletionsCommand::Export(args)) => return export(args),
        Some(DeletionsCommand::Verify(args)) => return verify(args),
        None => {}
    }
    let client = client(&args.node)?;
    let deletions: Vec<Deletion> = match args.id {
        Some(id) => vec![client.get(&format!("/v1/deletions/{id}"))?],
        None => client.get("/v1/deletions")?,
    };
    match (args.csv, &deletions[..], args.id) {
        (true, ..) => show(false, &deletions, |deletions| csv(deletions)),
        (false, [one], Some(_)) => show(args.json, one, Deletion::to_text),
        (false, ..) => show(args.json, &deletions, |deletions| table(deletions)),
    }
}

/// What `deletions export` did.
#[derive(Serialize)]
struct Exported {
    file: String,
    deletions: usize,
}

fn export(args: &ExportArgs) -> Result<(), CommandError> {
    let report = client(&args.node)?.get_text("/v1/deletions-report")?;
    files::create(&args.file, report.as_bytes(), files::SECRET)?;
    // The first line is of the report, the last one its seal.
    let deletions = report.lines().count().saturating_sub(2);
    let exported = Exported { file: args.file.display().to_string(), deletions };
    show(args.json, &exported, |e| format!("{}: {} deletions, sealed by the node", e.file, e.deletions))
}

fn verify(args: &VerifyDeletionsArgs) -> Result<(), CommandError> {
    let (network, _) = charters::read_trusted(&args.charter)?;
    let text = files::read(&args.file, REPORT_BYTES_MAX)?;
    let text = String::from_utf8(text).map_err(|_| FileError::NotText { path: args.file.clone() })?;
    let wrong = |e: ReportError| CommandError::content(&args.file, ContentError::Other(e.to_string()));
    let shown = deletions_report::verify(&text, network).map_err(wrong)?;
    show(args.json, &shown, to_text)
}

fn to_text(shown: &Shown) -> String {
    let Shown { opening, complete, confirmed, held, missing, devices_erased, devices_total, problems, list } =
        shown;
    let mut text = format!(
        "sealed by {}, node {}, at {}: {} deletions{}\n{complete} confirmed by every replica; of all, {confirmed} replicas \
         confirmed, {held} held, {missing} missing; {devices_erased} of {devices_total} devices confirmed\n",
        opening.trust,
        opening.peer_id,
        opening.at,
        opening.deletions,
        if opening.more { ", and more that are not listed" } else { "" },
    );
    if !list.is_empty() {
        text += &table(list);
    }
    for deletion in list {
        for problem in &deletion.problems {
            text += &format!(
                "deletion {}: not believed, and counted as missing: {problem}\n",
                deletion.tombstone
            );
        }
    }
    text += match problems {
        0 => {
            "Each signature, certificate and proof holds, and nothing was changed, taken out or put elsewhere.\n"
        }
        _ => {
            "What is not believed above does not hold by this charter; of a trust that has left the network it can't be shown by \
             a later one. Nothing was changed, taken out or put elsewhere since the node sealed it.\n"
        }
    };
    text + NOTE
}

/// The columns of [`csv`].
const COLUMNS: [&str; 16] = [
    "deletion",
    "ordered",
    "by",
    "reference",
    "conversation",
    "what",
    "reason",
    "trust",
    "kind",
    "who",
    "name",
    "state",
    "at",
    "envelopes",
    "until",
    "receipt",
];

/// A line for each replica and each device, so that a table can be made of who, when and by which proof.
fn csv(deletions: &[Deletion]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write =
        |row: [&str; 16]| writer.write_record(row).expect("a vector takes all that is written to it");
    write(COLUMNS);
    for d in deletions {
        let by = d.by.as_deref().unwrap_or_default();
        let order = [d.tombstone.as_str(), &d.issued, by, &d.reference, &d.conversation, &d.what, &d.reason];
        let mut line = |of: [&str; 9]| {
            let mut row = [""; 16];
            row[..7].copy_from_slice(&order);
            row[7..].copy_from_slice(&of);
            write(row);
        };
        for replica in &d.tally {
            line(replica_columns(replica, &replica.envelopes.map(|n| n.to_string()).unwrap_or_default()));
        }
        d.devices.iter().for_each(|device| line(device_columns(device)));
    }
    String::from_utf8(writer.into_inner().expect("a vector takes all")).expect("only text was written")
}

fn replica_columns<'a>(replica: &'a Replica, envelopes: &'a str) -> [&'a str; 9] {
    let text = |value: &'a Option<String>| value.as_deref().unwrap_or_default();
    let state = if replica.overdue.is_some() { "overdue" } else { &replica.state };
    [
        &replica.trust,
        "replica",
        text(&replica.peer_id),
        "",
        state,
        text(&replica.erased),
        envelopes,
        text(&replica.held_until),
        text(&replica.receipt),
    ]
}

fn device_columns(device: &DeviceErasure) -> [&str; 9] {
    let state = match &device.erased {
        Some(_) => "erased",
        None if device.revoked => "revoked",
        None => "missing",
    };
    let at = device.erased.as_ref().or(device.last_seen.as_ref()).map(String::as_str).unwrap_or_default();
    [
        &device.trust,
        "device",
        &device.device,
        device.name.as_deref().unwrap_or_default(),
        state,
        at,
        "",
        "",
        "",
    ]
}

fn table(deletions: &[Deletion]) -> String {
    if deletions.is_empty() {
        return "no deletions".into();
    }
    let rows = deletions.iter().map(|d| {
        let by = d.by.as_deref().unwrap_or("?");
        [
            d.issued.clone(),
            by.into(),
            d.reason.clone(),
            d.what.clone(),
            d.summary.clone(),
            d.tombstone.clone(),
        ]
    });
    let head = ["ordered", "by", "why", "what", "who has confirmed", "deletion"].map(String::from);
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..5).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().enumerate().map(|(column, cell)| match widths.get(column) {
            Some(width) => format!("{cell:<width$}"),
            None => cell.clone(),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    rows.iter().map(|row| line(row) + "\n").collect()
}

impl Deletion {
    pub(super) fn to_text(&self) -> String {
        let by = self.by.as_deref().unwrap_or("somebody whose signature does not verify");
        let mut lines = vec![
            format!("deletion {}", self.tombstone),
            format!("  ordered      {} by {by}, {}", self.issued, self.reason),
            format!("  reference    {}", self.reference),
            format!("  what         {} of {}", self.what, self.conversation),
            format!("  confirmed    {}", self.summary),
        ];
        lines.extend(self.tally.iter().map(Replica::to_line));
        lines.extend(self.devices.iter().map(|device| {
            let name = device.name.as_deref().unwrap_or(&device.device);
            let state = match (&device.erased, &device.last_seen) {
                (Some(erased), _) => format!("attested erasure at {erased}"),
                (None, _) if device.revoked => "revoked: not waited for".into(),
                (None, Some(seen)) => format!("has not confirmed, last seen {seen}"),
                (None, None) => "has not confirmed, never seen".into(),
            };
            format!("  {:<12} device {name}: {state}", device.trust)
        }));
        lines.extend(self.problems.iter().map(|problem| format!("  not believed {problem}")));
        lines.push(NOTE.into());
        lines.join("\n")
    }
}

impl Replica {
    fn to_line(&self) -> String {
        let node = self.peer_id.as_deref().map(|id| format!("node {id}: ")).unwrap_or_default();
        let state = match (&self.erased, &self.held_until, &self.receipt) {
            (Some(erased), _, Some(receipt)) => {
                let count = self.envelopes.unwrap_or_default();
                format!("attested erasure of {count} at {erased}, receipt {receipt}")
            }
            (None, Some(until), Some(receipt)) if self.state == "held" => {
                format!("holds it until {until}, receipt {receipt}")
            }
            (_, until, _) => {
                let over = until.as_ref().map(|until| format!("held until {until}, which is over"));
                let overdue = self.overdue.as_ref().map(|since| format!("overdue since {since}"));
                let why: Vec<_> = over.into_iter().chain(overdue).collect();
                let colon = if why.is_empty() { "" } else { ": " };
                format!("has not confirmed{colon}{}", why.join(", "))
            }
        };
        format!("  {:<12} {node}{state}", self.trust)
    }
}
