//! The audit log, read as an operator would who wants to know what happened.

use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Cluster, Node};
use serde_json::Value;

/// What is refused where nodes come and go: what was deleted or replaced meanwhile, and connections that did not come about.
pub const RESTARTS: &[&str] = &["deleted", "superseded", "lost", "handshake", "timed-out"];

/// The entries of a node's log with this event and code.
pub fn entries(node: &Node, event: &str, code: &str) -> Vec<Value> {
    let mut log = node.audit().unwrap();
    log.retain(|entry| entry["event"] == event && entry["code"] == code);
    log
}

/// How many entries with this event name a peer.
pub fn count_of_peer(node: &Node, event: &str, peer: &Node) -> usize {
    entries(node, event, "").iter().filter(|entry| entry["peer_id"] == peer.peer_id()).count()
}

/// Waits until a node's log has more entries of this event about a peer than `before`.
pub fn await_more(node: &Node, event: &str, peer: &Node, before: usize) {
    let what = format!("the log of {} says {event} of {}", node.name(), peer.name());
    wait::until(what, SOON * 2, || {
        let count = count_of_peer(node, event, peer);
        Ok(if count > before { Ok(()) } else { Err(count) })
    })
    .unwrap();
}

/// Nothing was refused but for these reasons: a fault is not to make records look forged, or peers look like strangers.
pub fn assert_refused_only(cluster: &Cluster, codes: &[&str]) {
    for trust in &cluster.trusts {
        let mut log = trust.node.audit().unwrap();
        log.retain(|entry| {
            let events = [
                "refused",
                "peer-refused",
                "peer-dropped",
                "dropped",
                "receipt-unsigned",
                "audit-log-contradicted",
            ];
            let refusal = events.iter().any(|event| entry["event"] == *event);
            // By TCP a node dials from whichever address the system chooses; on loopback it is one at which no node stands.
            let address = entry["address"].as_str().unwrap_or_default();
            let chosen = address.starts_with("/ip4/127.0.0.1/") && entry["code"] == "country-unknown";
            refusal && !chosen && !codes.iter().any(|code| entry["code"] == *code)
        });
        assert!(log.is_empty(), "{}: {log:#?}", trust.plan.ods);
    }
}
