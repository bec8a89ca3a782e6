//! Certificates and charters as commands show them. The JSON fields are stable: `docs/reference/commands.md`.

use lanyard_crypto::Timestamp;
use lanyard_crypto::ids::to_hex;
use lanyard_crypto::x509::{Certificate, Purpose};
use serde::Serialize;

use crate::address;
use crate::time::rfc3339;

/// A certificate.
#[derive(Debug, Serialize)]
pub struct CertificateView {
    /// `root`, `registrar`, `node`, `device` or `officer`.
    pub purpose: String,
    /// ODS code of the trust.
    pub trust: String,
    /// Name of the trust.
    pub organisation: String,
    /// Display name.
    pub name: String,
    /// Role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Department.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub department: Option<String>,
    /// Professional registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<String>,
    /// SHA-256 of the certificate.
    pub fingerprint: String,
    /// Serial number, in hexadecimal digits.
    pub serial: String,
    /// First moment of validity.
    pub not_before: String,
    /// Last moment of validity.
    pub not_after: String,
    /// Of a node: where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosting_country: Option<String>,
    /// Of a node: its libp2p peer id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_id: Option<String>,
    /// Of a node: where clients reach it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
}

impl CertificateView {
    /// Of this certificate.
    pub fn new(certificate: &Certificate) -> Self {
        let subject = certificate.subject();
        let ips = certificate.ip_addresses().iter().map(ToString::to_string);
        Self {
            purpose: certificate.purpose().to_string(),
            trust: subject.trust.to_string(),
            organisation: subject.organisation.clone(),
            name: subject.common_name.clone(),
            role: subject.title.clone(),
            department: subject.department.clone(),
            registration: subject.registration.clone(),
            fingerprint: certificate.fingerprint().to_string(),
            serial: to_hex(certificate.serial()),
            not_before: rfc3339(certificate.not_before()),
            not_after: rfc3339(certificate.not_after()),
            hosting_country: certificate.hosting_country().map(|c| c.to_string()),
            peer_id: certificate.node_id().map(|node| address::peer_id(&node)),
            addresses: certificate.dns_names().iter().cloned().chain(ips).collect(),
        }
    }

    /// As lines of text.
    pub fn to_text(&self) -> String {
        let mut lines = vec![
            format!("{} of {} ({})", self.purpose, self.organisation, self.trust),
            format!("  name         {}", self.name),
        ];
        let optional = [
            ("role", &self.role),
            ("department", &self.department),
            ("registration", &self.registration),
            ("stands in", &self.hosting_country),
            ("peer id", &self.peer_id),
        ];
        let present = optional.into_iter().filter_map(|(label, value)| Some((label, value.as_ref()?)));
        lines.extend(present.map(|(label, value)| format!("  {label:<12} {value}")));
        if !self.addresses.is_empty() {
            lines.push(format!("  addresses    {}", self.addresses.join(", ")));
        }
        lines.push(format!("  valid        {} to {}", self.not_before, self.not_after));
        lines.push(format!("  fingerprint  {}", self.fingerprint));
        lines.join("\n")
    }
}

/// What is to be said about a certificate's time at this moment, if anything.
pub fn validity_problem(certificate: &Certificate, now: Timestamp) -> Option<String> {
    let renew = match certificate.purpose() {
        Purpose::Root => "found the trust anew: trust init",
        Purpose::Registrar => "run: lanyard-node trust renew-registrar",
        Purpose::Node => "run: lanyard-node trust issue-node",
        Purpose::Device | Purpose::Officer => "invite its holder again: lanyard-node staff invite",
    };
    let name = format!("the {} certificate of {}", certificate.purpose(), certificate.subject().common_name);
    if now < certificate.not_before() {
        let from = rfc3339(certificate.not_before());
        Some(format!("{name} is valid only from {from}; is this machine's clock right ({})?", rfc3339(now)))
    } else if now > certificate.not_after() {
        Some(format!("{name} expired at {}; {renew}", rfc3339(certificate.not_after())))
    } else {
        None
    }
}
