//! What decodes bytes from outside in this program, over bytes in memory: the same functions that the node runs, without
//! its sockets, clock and files. Called by the harnesses in `tests/harnesses`; nothing here decides anything.

use std::path::Path;

use lanyard_crypto::gateway::DeletionResponse;
use lanyard_crypto::network::Network;
use lanyard_crypto::{NodeId, Timestamp, TrustId};

use crate::address::NodeAddress;
use crate::config::Config;
use crate::{audit_export, deletions_report, driver, p2p};

/// Reads the text of a `node.toml`.
///
/// # Errors
/// What the operator is told: every mistake in the file, one a line.
pub fn configuration(text: &str) -> Result<(), String> {
    Config::parse(Path::new("node.toml"), text).map(drop).map_err(|error| error.to_string())
}

/// Runs the certificate exchange at the border with a peer that has proven the key `node` and says no more than `bytes`; `dials`
/// tells whether this side began. Returns the peer's trust, and what was said to it.
///
/// # Errors
/// The reason for the refusal, as it is audited; and what was said to the peer until then.
pub fn border(
    network: &Network,
    own_chain: &[Vec<u8>],
    node: NodeId,
    dials: bool,
    bytes: &[u8],
    at: Timestamp,
) -> (Result<TrustId, String>, Vec<u8>) {
    let network = network.clone();
    let admit = move |node, chain: &[u8]| driver::judge(&network, node, chain, at).map(|(info, _)| info);
    let (outcome, said) = p2p::rehearse_border(admit, driver::encode_chain(own_chain), node, dials, bytes);
    (outcome.map(|info| info.trust), said)
}

/// Checks an exported audit log by the charter alone. Returns how many rows it shows.
///
/// # Errors
/// What the operator is told.
pub fn audit_export(network: &Network, bytes: &[u8]) -> Result<u64, String> {
    let shown = audit_export::verify(bytes, network.clone(), &audit_export::Others::new());
    shown.map(|shown| shown.last + 1 - shown.first).map_err(|e| e.to_string())
}

/// What an exported report of deletions shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportCounts {
    /// Deletions.
    pub deletions: usize,
    /// Those that every replica has confirmed.
    pub complete: usize,
    /// Confirmations of replicas.
    pub confirmed: usize,
    /// Replicas that hold.
    pub held: usize,
    /// Devices that have confirmed.
    pub devices_erased: u64,
}

/// Checks an exported report of deletions by the charter alone.
///
/// # Errors
/// What the operator is told.
pub fn deletions_report(network: &Network, text: &str) -> Result<ReportCounts, String> {
    let shown = deletions_report::verify(text, network.clone()).map_err(|e| e.to_string())?;
    Ok(ReportCounts {
        deletions: shown.list.len(),
        complete: shown.complete,
        confirmed: shown.confirmed,
        held: shown.held,
        devices_erased: shown.devices_erased,
    })
}

/// The lines of a report of these deletions, as the node with this key writes them before its seal.
///
/// # Errors
/// What is wrong with the charter, or with what a deletion's evidence is of.
pub fn report_content(
    charter: &[u8],
    deletions: &[DeletionResponse],
    trust: &TrustId,
    node: &NodeId,
    at: Timestamp,
) -> Result<String, String> {
    let mut draft = deletions_report::Draft::new(charter, at)?;
    for deletion in deletions {
        draft.add(deletion)?;
    }
    Ok(draft.content(trust, node))
}

/// A whole report: its lines, and what `seal` makes of their SHA-256.
pub fn report_sealed(content: String, seal: impl FnOnce([u8; 32]) -> Vec<u8>, chain: &[Vec<u8>]) -> String {
    let seal = seal(deletions_report::digest(&content));
    deletions_report::sealed(content, &seal, chain)
}

/// The peer id of a node, as exports spell it.
pub fn peer_id(node: &NodeId) -> String {
    crate::address::peer_id(node)
}

/// Reads a peer's frame stream that ends after `bytes`. Returns the frames, and why the stream ended.
pub fn stream(bytes: &[u8]) -> (Vec<Vec<u8>>, String) {
    p2p::rehearse_stream(bytes)
}

/// Reads an address of the node `node` as a charter, a directory entry or a configuration spells it. Tells whether
/// [the text form](NodeAddress) is one of ours, and whether it is one that can be dialled.
pub fn address(node: &NodeId, text: &str) -> (bool, bool) {
    (NodeAddress::parse(text).is_some(), p2p::check_address(node, text).is_ok())
}
