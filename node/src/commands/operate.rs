//! `lanyard-node status`, `held`, `network import` and `trust revoke`, through the running node.

use lanyard_crypto::x509::Certificate;

use super::{CommandError, charters, show};
use crate::admin::Client;
use crate::admin::api::{Held, Imported, RevokeAnswer, RevokeRequest, Status};
use crate::cli::{HeldArgs, ImportArgs, NodeArgs, RevokeArgs, StatusArgs};
use crate::config::Config;

/// A client of the node that the arguments name.
pub(super) fn client(node: &NodeArgs) -> Result<Client, CommandError> {
    match &node.socket {
        Some(socket) => Ok(Client::new(socket)),
        None => Ok(Client::new(&Config::load(&node.config)?.admin_socket)),
    }
}

pub(super) fn status(args: &StatusArgs) -> Result<(), CommandError> {
    if args.metrics {
        let text = client(&args.node)?.get_text("/metrics")?;
        return show(false, &text, |text| text.trim_end().into());
    }
    let status: Status = client(&args.node)?.get("/v1/status")?;
    show(args.json, &status, |status| {
        let network = &status.network;
        let mut lines = vec![
            format!("{} in {}, running since {}", status.trust, network.name, status.started),
            format!("  peer id      {}", status.peer_id),
            format!("  certificate  until {}", status.certificate_expires),
            format!("  charter      version {}, until {}", network.charter_version, network.charter_expires),
            format!("  members      {}", network.members.join(" ")),
            format!("  enrols staff {}", if status.registrar { "yes" } else { "no" }),
        ];
        lines.extend(status.peers.iter().map(|peer| {
            let state = if peer.connected { "connected" } else { "not connected" };
            format!("  peer         {} {} {state}", peer.trust, peer.peer_id)
        }));
        if !status.overdue.is_empty() {
            lines.push(format!("  overdue      {} confirmations of deletions", status.overdue.len()));
        }
        lines.extend(status.overdue.iter().map(|late| {
            let node = late.peer_id.as_deref().unwrap_or("(no node known)");
            format!("    {} {node}: deletion {}, since {}", late.trust, late.tombstone, late.since)
        }));
        lines.extend(status.stored.iter().map(|(name, count)| format!("  {name:<12} {count}")));
        lines.extend(status.warnings.iter().map(|warning| format!("  warning      {warning}")));
        lines.join("\n")
    })
}

pub(super) fn held(args: &HeldArgs) -> Result<(), CommandError> {
    let held: Held = client(&args.node)?.get(&format!("/v1/records/{}", args.id))?;
    show(args.json, &held, |held| {
        let kept_by =
            if held.custodians.is_empty() { "every trust".into() } else { held.custodians.join(" ") };
        let mut lines = vec![
            format!("{} {}, {} bytes", held.kind, held.id, held.bytes),
            format!("  kept by      {kept_by}"),
            format!("  valid        {} to {}", held.issued, held.expires),
        ];
        if let Some(message) = &held.message {
            lines.push(format!("  conversation {}, epoch {}", message.conversation, message.epoch));
            lines.push(format!(
                "  {:<12} {} bytes, which no key of this node opens:",
                message.class, message.ciphertext_bytes
            ));
            let digits: Vec<char> = message.ciphertext.chars().collect();
            lines.extend(digits.chunks(64).map(|line| format!("    {}", line.iter().collect::<String>())));
        }
        lines.join("\n")
    })
}

pub(super) fn import(args: &ImportArgs) -> Result<(), CommandError> {
    let record = charters::read_record(&args.file)?;
    let imported: Imported = client(&args.node)?.post_bytes("/v1/records", record.bytes().to_vec())?;
    show(args.json, &imported, |i| {
        format!("{} {} is in force on this node, and spreads to the others", i.kind, i.id)
    })
}

/// `trust revoke` of what a registrar certified.
pub(super) fn revoke_certificate(args: &RevokeArgs, certificate: &Certificate) -> Result<(), CommandError> {
    let request = RevokeRequest {
        certificate: Some(certificate.to_pem()),
        reason: args.reason.name().into(),
        ..RevokeRequest::default()
    };
    let answer: RevokeAnswer = client(&args.node)?.post("/v1/staff/revocations", &request)?;
    show(args.json, &answer, RevokeAnswer::to_text)
}

impl RevokeAnswer {
    pub(super) fn to_text(&self) -> String {
        let lines = self.names.iter().zip(&self.revoked);
        let lines: String =
            lines.map(|(name, fingerprint)| format!("revoked {name}: {fingerprint}\n")).collect();
        format!(
            "{lines}The revocation list is in force on this node, and spreads to the others: record {}",
            self.record
        )
    }
}
