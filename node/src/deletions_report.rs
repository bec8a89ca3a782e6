//! A report of deletions in a file, to be shown to somebody: sealed by a running node, and checked without one.
//!
//! A file of JSON lines: what it is of ([`Opening`]), one line for each deletion ([`DeletionLine`]), those that the node's trust has ordered
//! first, each newest first, and the node's seal on all of that ([`SealLine`]). `docs/reference/deletions.md` is its format. Each deletion stands in it twice: as people read it, and as
//! the evidence from which that is made again when it is checked. Each line is exactly what this program writes for what it
//! says, so that a byte that was altered is found even where JSON would let it pass.

use lanyard_crypto::gateway::{DeletionResponse, RESPONSE_BYTES_MAX};
use lanyard_crypto::ids::to_hex;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{self, Decoded, Signer};
use lanyard_crypto::{NodeId, RecordId, Timestamp, TrustId, cbor};
use serde::{Deserialize, Serialize};

use crate::address::peer_id;
use crate::admin::ANSWER_BYTES_MAX;
use crate::admin::deletion::Deletion;
use crate::audit_export::{check_network, digits, line_of, read};
use crate::time::{from_rfc3339, rfc3339};

/// What [`Opening::format`] says.
pub const FORMAT: &str = "lanyard-deletions";
/// The version of the format.
pub const VERSION: u64 = 1;
/// The evidence of one deletion, in bytes: whatever the engine answers about one fits.
const EVIDENCE_BYTES_MAX: usize = RESPONSE_BYTES_MAX;
/// Deletions in one report.
const DELETIONS_MAX: usize = 1000;
/// Their lines, in bytes.
const LINES_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The opening and the seal, in bytes.
const ENDS_BYTES_MAX: usize = 64 * 1024;

// The lines come over the operator's socket, and each deletion fits into an empty report in digits and in words.
const _: () = assert!(LINES_BYTES_MAX + ENDS_BYTES_MAX < ANSWER_BYTES_MAX);
const _: () = assert!(2 * EVIDENCE_BYTES_MAX < LINES_BYTES_MAX / 2);

/// The first line of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u64,
    /// The network, by its id.
    pub network: String,
    /// The version of the charter that was in force.
    pub charter_version: u64,
    /// ODS code of the node's trust.
    pub trust: String,
    /// The node.
    pub peer_id: String,
    /// When the report was made.
    pub at: String,
    /// How many deletions it lists.
    pub deletions: usize,
    /// Whether the node knows of more that are not listed.
    pub more: bool,
}

/// A line about one deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeletionLine {
    /// As people read it.
    pub deletion: Deletion,
    /// What shows it: the tombstone, inclusion proofs and certificates, as CBOR in hexadecimal digits
    /// ([`DeletionResponse`]).
    pub evidence: String,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealLine {
    /// The node's signature over all lines before ([`record::seal`]), in hexadecimal digits.
    pub seal: String,
    /// Its certificate and its registrar's, DER in hexadecimal digits.
    pub chain: Vec<String>,
}

/// Why a file does not show what a node has said.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A line that this program does not write so, or that its evidence does not show.
    #[error("line {line}: {reason}")]
    Line {
        /// Which line; the first has 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The file ends before its seal, or goes on after it.
    #[error("the report does not end with its node's seal: something was cut off or added")]
    End,
    /// The seal does not hold.
    #[error("the seal: {0}")]
    Seal(String),
}

/// What a file shows.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// What it is of.
    #[serde(flatten)]
    pub opening: Opening,
    /// Deletions that every replica has confirmed.
    pub complete: usize,
    /// Confirmations of replicas that are proven, of all deletions.
    pub confirmed: usize,
    /// Replicas that hold.
    pub held: usize,
    /// Replicas that have not confirmed.
    pub missing: usize,
    /// Devices that have confirmed.
    pub devices_erased: u64,
    /// Devices that were to.
    pub devices_total: u64,
    /// Parts of the evidence that do not verify by this charter, and count as missing.
    pub problems: usize,
    /// Each deletion.
    pub list: Vec<Deletion>,
}

/// A report under way: deletions are added until it is full, and its opening is written when it is known how many they are. What is shown
/// of a deletion is made with what the charter alone makes trustworthy, as whoever checks the report makes it.
pub struct Draft {
    network: Network,
    at: Timestamp,
    deletions_max: usize,
    bytes_max: usize,
    lines: String,
    deletions: usize,
    more: bool,
}

impl Draft {
    /// An empty one, as of this moment, under a charter record.
    ///
    /// # Errors
    /// What is wrong with the charter.
    pub fn new(charter: &[u8], at: Timestamp) -> Result<Self, String> {
        Self::within(DELETIONS_MAX, LINES_BYTES_MAX, charter, at)
    }

    fn within(deletions_max: usize, bytes_max: usize, charter: &[u8], at: Timestamp) -> Result<Self, String> {
        let charter = Decoded::from_bytes(charter).map_err(|e| e.to_string())?;
        let network = record::open_trusted(&charter).map_err(|e| e.to_string())?;
        Ok(Self { network, at, deletions_max, bytes_max, lines: String::new(), deletions: 0, more: false })
    }

    /// Adds a deletion. False if there is no room for it: then the report says that there are more.
    ///
    /// # Errors
    /// What is wrong with what the store holds.
    pub fn add(&mut self, answer: &DeletionResponse) -> Result<bool, String> {
        if self.deletions < self.deletions_max {
            let deletion = Deletion::of(answer, &mut self.network, self.at)?;
            let line = line_of(&DeletionLine { deletion, evidence: to_hex(&cbor::to_vec(answer)) });
            if self.lines.len() + line.len() <= self.bytes_max {
                self.lines += &line;
                self.deletions += 1;
                return Ok(true);
            }
        }
        self.more = true;
        Ok(false)
    }

    /// The lines before the seal.
    pub fn content(self, trust: &TrustId, node: &NodeId) -> String {
        let opening = Opening {
            format: FORMAT.into(),
            version: VERSION,
            network: self.network.id().to_string(),
            charter_version: self.network.charter().version,
            trust: trust.to_string(),
            peer_id: peer_id(node),
            at: rfc3339(self.at),
            deletions: self.deletions,
            more: self.more,
        };
        line_of(&opening) + &self.lines
    }
}

/// The SHA-256 of the lines before the seal.
pub fn digest(content: &str) -> [u8; 32] {
    *RecordId::of(content.as_bytes()).as_bytes()
}

/// The whole report.
pub fn sealed(content: String, seal: &[u8], chain: &[Vec<u8>]) -> String {
    let line = SealLine { seal: to_hex(seal), chain: chain.iter().map(|der| to_hex(der)).collect() };
    content + &line_of(&line)
}

/// Checks a report against the charter: every line by its evidence, and all of them by the node's seal.
///
/// # Errors
/// [`ReportError`], which names the line.
pub fn verify(text: &str, mut network: Network) -> Result<Shown, ReportError> {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let last = lines.pop().ok_or(ReportError::End)?;
    let seal: SealLine = read(last.as_bytes()).map_err(|_| ReportError::End)?;
    let wrong = |line: usize, reason: String| ReportError::Line { line, reason };
    let [first, rest @ ..] = &lines[..] else { return Err(ReportError::End) };
    let opening: Opening = read(first.as_bytes()).map_err(|reason| wrong(1, reason))?;
    let at = check_opening(&opening, &network).map_err(|reason| wrong(1, reason))?;
    if rest.len() != opening.deletions {
        let reason = format!("{} deletions are listed, and {} stand here", opening.deletions, rest.len());
        return Err(wrong(1, reason));
    }
    let mut shown = Shown {
        opening,
        complete: 0,
        confirmed: 0,
        held: 0,
        missing: 0,
        devices_erased: 0,
        devices_total: 0,
        problems: 0,
        list: Vec::new(),
    };
    for (index, line) in rest.iter().enumerate() {
        let deletion = check_deletion(line, &mut network, at).map_err(|reason| wrong(index + 2, reason))?;
        if shown.list.iter().any(|known| known.tombstone == deletion.tombstone) {
            return Err(wrong(index + 2, "the deletion stands in the report twice".into()));
        }
        shown.complete += usize::from(deletion.confirmed == deletion.replicas && deletion.by.is_some());
        shown.problems += deletion.problems.len();
        shown.confirmed += deletion.confirmed;
        shown.held += deletion.held;
        shown.missing += deletion.replicas - deletion.confirmed - deletion.held;
        shown.devices_erased += deletion.devices_erased;
        shown.devices_total += deletion.devices_total;
        shown.list.push(deletion);
    }
    let content = &text[..text.len() - last.len()];
    check_seal(&seal, content, &shown.opening, at, &mut network).map_err(ReportError::Seal)?;
    Ok(shown)
}

fn check_opening(opening: &Opening, network: &Network) -> Result<Timestamp, String> {
    if (opening.format.as_str(), opening.version) != (FORMAT, VERSION) {
        return Err(format!("another format or version; {FORMAT} version {VERSION} is needed"));
    }
    check_network(&opening.network, network)?;
    let charter = network.charter().version;
    if opening.charter_version != charter {
        let needed = opening.charter_version;
        return Err(format!(
            "version {needed} of the charter was in force, and this is version {charter}: check it with that one"
        ));
    }
    from_rfc3339(&opening.at).ok_or_else(|| "`at` is no moment".into())
}

fn check_deletion(line: &str, network: &mut Network, at: Timestamp) -> Result<Deletion, String> {
    let line: DeletionLine = read(line.as_bytes())?;
    let evidence = digits(&line.evidence).ok_or("the evidence is not in lower-case hexadecimal digits")?;
    let answer: DeletionResponse =
        cbor::from_slice(&evidence, EVIDENCE_BYTES_MAX).map_err(|e| format!("the evidence: {e}"))?;
    let made = Deletion::of(&answer, network, at)?;
    if made == line.deletion {
        Ok(made)
    } else {
        Err(format!("what it says of deletion {} is not what its evidence shows", made.tombstone))
    }
}

fn check_seal(
    line: &SealLine,
    content: &str,
    opening: &Opening,
    at: Timestamp,
    network: &mut Network,
) -> Result<(), String> {
    let wrong = || "it is not in lower-case hexadecimal digits".to_owned();
    let seal = digits(&line.seal).ok_or_else(wrong)?;
    let chain: Option<Vec<_>> = line.chain.iter().map(|der| digits(der)).collect();
    let certificate = network.learn(&chain.ok_or_else(wrong)?).map_err(|e| e.to_string())?;
    let sealed = record::check_seal(&seal, digest(content), network).map_err(|e| e.to_string())?;
    let Signer::Node { trust, node } = &sealed.signer else { return Err("no node has set it".into()) };
    if (trust.as_str(), peer_id(node)) != (&opening.trust, opening.peer_id.clone())
        || *certificate.public_key() != *node.as_bytes()
    {
        return Err(format!(
            "{} of {trust} has set it, and not the node that the report is of",
            peer_id(node)
        ));
    }
    if sealed.at < at {
        return Err("it was set before the report was made".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
