//! Charters in files: reading, building a member, and how a charter is shown.

use std::collections::BTreeMap;
use std::path::Path;

use lanyard_crypto::charter::{Charter, CharterError, Member};
use lanyard_crypto::ids::to_hex;
use lanyard_crypto::limits::CHARTER_BYTES_MAX;
use lanyard_crypto::mls::Class;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{self, Body, Decoded, VerifyError};
use lanyard_crypto::x509::Purpose;
use lanyard_crypto::{NetworkId, Timestamp};
use serde::Serialize;

use super::view::CertificateView;
use super::{CommandError, ContentError, read_certificate};
use crate::address::{self, NodeAddress};
use crate::cli::MemberArg;
use crate::files;
use crate::time::{DAY_SECS, rfc3339};

/// Reads a record of any kind.
pub(super) fn read_record(path: &Path) -> Result<Decoded, CommandError> {
    let bytes = files::read(path, CHARTER_BYTES_MAX as u64)?;
    Decoded::from_bytes(&bytes).map_err(|e| CommandError::content(path, e))
}

/// Reads a charter, whoever signed it.
pub(super) fn read_charter(path: &Path) -> Result<(Charter, Decoded), CommandError> {
    let record = read_record(path)?;
    match record.body() {
        Body::Charter(charter) => Ok((charter.clone(), record)),
        other => {
            let reason = format!("a charter is needed; this is a record of kind {}", other.kind().name());
            Err(CommandError::content(path, ContentError::Other(reason)))
        }
    }
}

/// Reads a charter with all the signatures that its own rules ask for.
pub(super) fn read_trusted(path: &Path) -> Result<(Network, Decoded), CommandError> {
    let record = read_record(path)?;
    let network = record::open_trusted(&record).map_err(|e| CommandError::content(path, e))?;
    Ok((network, record))
}

/// The network that a charter belongs to, by its first version.
pub(super) fn network_of(record: &Decoded) -> NetworkId {
    record.header().network.unwrap_or(NetworkId::new(*record.statement().as_bytes()))
}

/// A member, as its root certificate says.
pub(super) fn member(arg: &MemberArg) -> Result<Member, CommandError> {
    let root = read_certificate(&arg.root)?;
    let other = |reason: String| CommandError::content(&arg.root, ContentError::Other(reason));
    if root.purpose() != Purpose::Root {
        return Err(other(format!("a root certificate is needed, and this is one of a {}", root.purpose())));
    }
    if root.subject().trust != arg.trust {
        return Err(other(format!("this is the root of {}, not of {}", root.subject().trust, arg.trust)));
    }
    if let Some(wrong) = arg.addresses.iter().find(|a| NodeAddress::parse(a).is_none_or(|a| a.node.is_none()))
    {
        return Err(CommandError::Usage(format!(
            "--member {}: {wrong:?} is no address of a node; {}, with /p2p/PEERID at its end",
            arg.trust,
            address::NEEDED
        )));
    }
    Ok(Member {
        trust: arg.trust.clone(),
        name: root.subject().organisation.clone(),
        root: root.der().to_vec(),
        addresses: arg.addresses.clone(),
    })
}

/// A charter as commands show it. The JSON fields are stable: `docs/reference/commands.md`.
#[derive(Serialize)]
pub(super) struct CharterView {
    pub(super) name: String,
    pub(super) network: String,
    pub(super) version: u64,
    pub(super) id: String,
    pub(super) issued: String,
    pub(super) expires: String,
    pub(super) countries: Vec<String>,
    pub(super) retention_days: u64,
    /// Shorter ones, by what conversations are for.
    pub(super) retention_days_by_class: BTreeMap<&'static str, u64>,
    pub(super) confirm_hours: u64,
    pub(super) authorities: Vec<String>,
    pub(super) threshold: u64,
    /// Whether its own rules' signatures are there.
    pub(super) signed: bool,
    /// What is wrong with it, such as missing signatures.
    pub(super) problem: Option<String>,
    pub(super) members: Vec<MemberView>,
}

/// A member of a charter.
#[derive(Serialize)]
pub(super) struct MemberView {
    pub(super) trust: String,
    pub(super) name: String,
    pub(super) addresses: Vec<String>,
    pub(super) root: CertificateView,
}

impl CharterView {
    pub(super) fn new(charter: &Charter, record: &Decoded) -> Result<Self, CharterError> {
        let roots = charter.check()?;
        let problem = match record::open_trusted(record) {
            Ok(_) => None,
            Err(VerifyError::Charter(error)) => Some(error.to_string()),
            Err(other) => Some(other.to_string()),
        };
        let class =
            |class: Class| Some((class.name(), charter.policy.retention_by_class.of(class)? / DAY_SECS));
        let by_class = Class::ALL.into_iter().filter_map(class);
        let member = |(member, root): (&Member, _)| MemberView {
            trust: member.trust.to_string(),
            name: member.name.clone(),
            addresses: member.addresses.clone(),
            root: CertificateView::new(root),
        };
        Ok(Self {
            name: charter.name.clone(),
            network: network_of(record).to_string(),
            version: charter.version,
            id: record.id().to_string(),
            issued: rfc3339(record.header().issued),
            expires: rfc3339(record.header().expires),
            countries: charter.countries.iter().map(ToString::to_string).collect(),
            retention_days: charter.policy.retention_secs_max / DAY_SECS,
            retention_days_by_class: by_class.collect(),
            confirm_hours: charter.policy.confirm_secs() / 3600,
            authorities: charter.authorities.keys.iter().map(|key| to_hex(key)).collect(),
            threshold: charter.authorities.threshold,
            signed: problem.is_none(),
            problem,
            members: charter.trusts.iter().zip(&roots).map(member).collect(),
        })
    }

    pub(super) fn to_text(&self) -> String {
        let mut lines = vec![
            format!("{}, charter version {}", self.name, self.version),
            format!("  network      {}", self.network),
            format!("  record       {}", self.id),
            format!("  valid        {} to {}", self.issued, self.expires),
            format!("  countries    {}", self.countries.join(" ")),
            format!("  retention    at most {} days", self.retention_days),
        ];
        let by_class = self.retention_days_by_class.iter();
        lines.extend(by_class.map(|(class, days)| format!("               {class}: at most {days} days")));
        lines.push(format!("  confirmation of deletions within {} hours", self.confirm_hours));
        lines.push(format!("  authorities  {} of {} must sign", self.threshold, self.authorities.len()));
        lines.extend(self.authorities.iter().map(|key| format!("               {key}")));
        lines.push(match &self.problem {
            None => "  signatures   complete".into(),
            Some(problem) => format!("  signatures   not complete: {problem}"),
        });
        for member in &self.members {
            lines.push(format!("  member       {} ({})", member.name, member.trust));
            lines.push(format!("               root {}", member.root.fingerprint));
            lines.extend(member.addresses.iter().map(|address| format!("               {address}")));
        }
        lines.join("\n")
    }
}

/// What is to be said about a charter's time at this moment, if anything.
pub(super) fn validity_problem(network: &Network, now: Timestamp) -> Option<String> {
    let expires = network.expires();
    let ended = now >= expires;
    ended.then(|| {
        format!(
            "the charter expired at {}; ask the network's authorities for the next version",
            rfc3339(expires)
        )
    })
}
