//! The audit log in a file, to be shown to somebody: written out of a running node, and checked without one.
//!
//! A file of JSON lines: what it is of ([`Opening`]), then heads that the node has signed ([`HeadLine`]), then the rows
//! ([`AuditLine`]), oldest first. `docs/reference/audit.md` is its format. Each line is exactly what this program writes for what it says, so
//! that a byte that was altered is found even where JSON would let it pass.

use std::collections::BTreeMap;
use std::io::BufRead;

use lanyard_crypto::ids::from_hex;
use lanyard_crypto::limits::RECORD_BYTES_MAX;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{self, Decoded, VerifyError};
use lanyard_crypto::{Fingerprint, NetworkId, NodeId};
use lanyard_replica::audit::check::{Broken, Holder, Sound, Walk};
use lanyard_replica::audit::{AuditEntry, HeldHead, Place, Row};
use serde::{Deserialize, Serialize};

use crate::address::{node_of, peer_id};
use crate::backend::AuditLine;
use crate::time::{from_rfc3339, rfc3339};

/// What [`Opening::format`] says.
pub const FORMAT: &str = "lanyard-audit";
/// The version of the format.
pub const VERSION: u64 = 1;
/// A line in bytes: a head or a row takes less than 4 KiB, the opening 4 KiB for each certificate chain.
const LINE_BYTES_MAX: usize = 256 * 1024;
/// Heads in one file: as many as anybody keeps of a node, and more.
const HEADS_MAX: usize = 10_000;

/// The first line of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u64,
    /// The network, by its id.
    pub network: String,
    /// ODS code of the node's trust.
    pub trust: String,
    /// The node.
    pub peer_id: String,
    /// The row that was dropped last: rows follow it.
    pub after: u64,
    /// Its hash.
    pub after_hash: String,
    /// The certificates with which heads are signed, each with its issuer's, DER in hexadecimal digits.
    pub chains: Vec<[String; 2]>,
}

/// A line with a head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadLine {
    /// The record, in hexadecimal digits.
    pub head: String,
}

/// `GET /v1/audit/chain`: how an export begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Beginning {
    /// Its first line.
    pub opening: Opening,
    /// The lines after it; the last one is of the newest row, signed for this export.
    pub heads: Vec<HeadLine>,
    /// The number of the newest row.
    pub last: u64,
}

/// Why a file does not show what its node has written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The disk's.
    #[error("it cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// A line that this program does not write so.
    #[error("line {line}{}: {reason}", row.map(|row| format!(", where row {row} should stand")).unwrap_or_default())]
    Line {
        /// Which line; the first has 1.
        line: u64,
        /// The row that should stand there, where it is one.
        row: Option<u64>,
        /// What is wrong.
        reason: String,
    },
    /// A head that its node has not signed, or that is of another node.
    #[error("line {line}, a head: {reason}")]
    Head {
        /// Which line.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// The rows are not the log that its node has written.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// Heads that others hold, verified, by their node.
pub type Others = BTreeMap<NodeId, Vec<HeldHead>>;

/// What a file shows.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// The trust whose node has written the log.
    pub trust: String,
    /// The node.
    pub peer_id: String,
    /// The number of the first row.
    pub first: u64,
    /// The number of the last row.
    pub last: u64,
    /// Its hash.
    pub hash: String,
    /// When the node signed it.
    pub signed: String,
    /// Heads of its own that the log contains.
    pub own_heads: usize,
    /// Heads held by others that the log contains.
    pub other_heads: usize,
    /// Heads of rows before the first, of which nothing can be said.
    pub heads_before: usize,
    /// Heads held by others that were signed after the export, of rows after the last: nothing can be said of them either.
    pub heads_after: usize,
}

/// Checks an export against the charter's certificates, and against heads that others hold.
///
/// # Errors
/// [`ExportError`], which names the line or the row.
pub fn verify(file: impl BufRead, network: Network, others: &Others) -> Result<Shown, ExportError> {
    let mut lines = Lines { file, number: 0 };
    let (opening, network) = open(&mut lines, network)?;
    let start = place(opening.after, &opening.after_hash);
    let start = start.ok_or_else(|| lines.wrong(None, "`after_hash` is no hash"))?;
    let mut walk = Walk::after(start);
    let (mut newest, mut used) = (None, Vec::new());
    let mut line = lines.next()?;
    while let Some(text) = &line
        && text.starts_with(b"{\"head\":")
    {
        let HeadLine { head } = read(text).map_err(|reason| lines.wrong(None, reason))?;
        let (head, signer) = head_of(&head, &network, &opening).map_err(|reason| lines.wrong_head(reason))?;
        walk.expect(head.stated(Holder::Own))?;
        used.push(signer);
        newest = newest.max(Some((head.number, head.issued)));
        if used.len() > HEADS_MAX {
            return Err(lines.wrong_head(format!("more than {HEADS_MAX} heads")));
        }
        line = lines.next()?;
    }
    let unused =
        |chain: &[String; 2]| from_hex(&chain[0]).is_none_or(|der| !used.contains(&Fingerprint::of(&der)));
    if opening.chains.iter().any(unused) {
        return Err(ExportError::Line { line: 1, row: None, reason: "a certificate signs no head".into() });
    }
    let node = node_of(&opening.peer_id);
    let mut heads_after = 0;
    for head in node.and_then(|node| others.get(&node)).into_iter().flatten() {
        if newest.is_some_and(|(number, issued)| head.number > number && head.issued > issued) {
            heads_after += 1;
        } else {
            walk.expect(head.stated(Holder::Other))?;
        }
    }
    while let Some(text) = line {
        let expected = Some(walk.reached().number + 1);
        let row: AuditLine = read(&text).map_err(|reason| lines.wrong(expected, reason))?;
        walk.row(&row_of(&row).map_err(|reason| lines.wrong(expected, reason))?)?;
        line = lines.next()?;
    }
    let Sound { dropped, last, own_heads, other_heads, before } = walk.end()?;
    Ok(Shown {
        trust: opening.trust,
        peer_id: opening.peer_id,
        first: dropped + 1,
        last: last.number,
        hash: last.hash.to_string(),
        signed: newest.map(|(_, at)| rfc3339(at)).unwrap_or_default(),
        own_heads,
        other_heads,
        heads_before: before,
        heads_after,
    })
}

/// The head that a record is, and its node, as far as this network vouches for it.
///
/// # Errors
/// What is wrong with it, for people.
pub fn verified_head(record: &str, network: &Network) -> Result<(NodeId, HeldHead, Fingerprint), String> {
    let bytes = digits(record).filter(|bytes| bytes.len() <= RECORD_BYTES_MAX);
    let bytes = bytes.ok_or("not a record in lower-case hexadecimal digits")?;
    let decoded = Decoded::from_bytes(&bytes).map_err(|e| e.to_string())?;
    let signer = decoded.signer();
    let verified = record::verify(decoded, network).map_err(|e: VerifyError| e.to_string())?;
    let (node, head) = HeldHead::of(&verified).ok_or("a record of another kind")?;
    Ok((node, head, signer.ok_or("a record of another kind")?))
}

/// Learns the certificates of chains in hexadecimal digits.
///
/// # Errors
/// What is wrong with one of them, for people.
pub fn learn(network: &mut Network, chains: &[[String; 2]]) -> Result<(), String> {
    for chain in chains {
        let [Some(leaf), Some(issuer)] = chain.each_ref().map(|der| digits(der)) else {
            return Err("a certificate is not in lower-case hexadecimal digits".into());
        };
        network.learn(&[leaf, issuer]).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// One line, with its end.
pub fn line_of(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own types have no keys but text") + "\n"
}

/// The line of a row.
pub fn line(row: Row) -> AuditLine {
    let Row { place, entry } = row;
    AuditLine {
        number: place.number,
        at: rfc3339(entry.at),
        event: entry.event,
        code: entry.code,
        detail: entry.detail,
        peer_id: entry.node.map(|n| peer_id(&n)),
        trust: entry.trust.map(String::from),
        address: entry.address,
        record: entry.record.map(|r| r.to_string()),
        hash: place.hash.to_string(),
    }
}

fn open<F: BufRead>(lines: &mut Lines<F>, mut network: Network) -> Result<(Opening, Network), ExportError> {
    let first = lines.next()?.ok_or_else(|| lines.wrong(None, "the file is empty"))?;
    let opening: Opening = read(&first).map_err(|reason| lines.wrong(None, reason))?;
    if (opening.format.as_str(), opening.version) != (FORMAT, VERSION) {
        let reason = format!("another format or version; {FORMAT} version {VERSION} is needed");
        return Err(lines.wrong(None, reason));
    }
    check_network(&opening.network, &network).map_err(|reason| lines.wrong(None, reason))?;
    learn(&mut network, &opening.chains).map_err(|reason| lines.wrong(None, reason))?;
    Ok((opening, network))
}

fn head_of(record: &str, network: &Network, opening: &Opening) -> Result<(HeldHead, Fingerprint), String> {
    let (node, head, signer) = verified_head(record, network)?;
    if (peer_id(&node), head.trust.as_str()) != (opening.peer_id.clone(), &opening.trust) {
        return Err(format!("of {} of {}, not of this node", peer_id(&node), head.trust));
    }
    Ok((head, signer))
}

fn row_of(line: &AuditLine) -> Result<Row, String> {
    let part = |name: &str| format!("`{name}` is not what it should be");
    let place = place(line.number, &line.hash).ok_or_else(|| part("hash"))?;
    let node = line.peer_id.as_deref().map(|id| node_of(id).ok_or_else(|| part("peer_id"))).transpose()?;
    let trust = line.trust.as_deref().map(|id| id.parse().map_err(|_| part("trust"))).transpose()?;
    let record = line.record.as_deref().map(|id| id.parse().map_err(|_| part("record"))).transpose()?;
    let entry = AuditEntry {
        at: from_rfc3339(&line.at).ok_or_else(|| part("at"))?,
        event: line.event.clone(),
        code: line.code.clone(),
        detail: line.detail.clone(),
        node,
        trust,
        address: line.address.clone(),
        record,
    };
    let row = Row { place, entry };
    if self::line(row.clone()) == *line { Ok(row) } else { Err("not as this program writes it".into()) }
}

fn place(number: u64, hash: &str) -> Option<Place> {
    let parsed: lanyard_crypto::AuditHash = hash.parse().ok()?;
    (parsed.to_string() == hash).then_some(Place { number, hash: parsed })
}

/// The bytes that digits stand for, in the one way that this program writes them.
pub(crate) fn digits(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) { None } else { from_hex(text) }
}

/// Reads a line, which must be exactly what [`line_of`] gives for what it says.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn read<T: Serialize + for<'de> Deserialize<'de>>(line: &[u8]) -> Result<T, String> {
    let unlike = || "not as this program writes it".to_owned();
    // The parser's own words repeat what stands there, which may be anything, and goes to a terminal.
    let value: T =
        serde_json::from_slice(line).map_err(|e| format!("{}, from column {}", unlike(), e.column()))?;
    if line_of(&value).as_bytes() == line { Ok(value) } else { Err(unlike()) }
}

/// Whether a file is of the network of this charter.
pub(crate) fn check_network(stated: &str, network: &Network) -> Result<(), String> {
    let own = network.id();
    if stated == own.to_string() {
        return Ok(());
    }
    Err(match stated.parse::<NetworkId>() {
        Ok(stated) => format!("it is of network {stated}, and the charter is of {own}"),
        Err(_) => format!("it does not name the network of the charter, {own}"),
    })
}

/// Lines with their ends, bounded and counted.
struct Lines<F> {
    file: F,
    number: u64,
}

impl<F: BufRead> Lines<F> {
    /// None at the end of the file.
    fn next(&mut self) -> Result<Option<Vec<u8>>, ExportError> {
        use std::io::Read;
        let mut line = Vec::new();
        self.number += 1;
        (&mut self.file).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        if !line.ends_with(b"\n") {
            return Err(self.wrong(None, "it has no end, or is too long"));
        }
        Ok(Some(line))
    }

    fn wrong(&self, row: Option<u64>, reason: impl Into<String>) -> ExportError {
        ExportError::Line { line: self.number, row, reason: reason.into() }
    }

    fn wrong_head(&self, reason: impl Into<String>) -> ExportError {
        ExportError::Head { line: self.number, reason: reason.into() }
    }
}

#[cfg(test)]
mod tests;
