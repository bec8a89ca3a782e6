//! `lanyard-node deletions`: what was ordered and who has confirmed it.

use super::{CommandError, operate, show};
use crate::admin::deletion::{Deletion, Replica};
use crate::cli::DeletionsArgs;

/// What every view of receipts says.
const NOTE: &str = "A receipt proves that a trust's node, or a device, attested erasure, no more.";

pub(super) fn deletions(args: &DeletionsArgs) -> Result<(), CommandError> {
    let client = operate::client(&args.node)?;
    match args.id {
        Some(id) => {
            let deletion: Deletion = client.get(&format!("/v1/deletions/{id}"))?;
            show(args.json, &deletion, Deletion::to_text)
        }
        None => {
            let deletions: Vec<Deletion> = client.get("/v1/deletions")?;
            show(args.json, &deletions, |deletions| table(deletions))
        }
    }
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
    fn to_text(&self) -> String {
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
            (None, Some(until), Some(receipt)) => format!("holds it until {until}, receipt {receipt}"),
            _ => match &self.overdue {
                Some(since) => format!("has not confirmed: overdue since {since}"),
                None => "has not confirmed".into(),
            },
        };
        format!("  {:<12} {node}{state}", self.trust)
    }
}
