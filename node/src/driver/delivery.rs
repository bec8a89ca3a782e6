//! From the engine to the network shell: direct delivery to each connected peer, and errands that may wait.

use std::sync::Arc;
use std::time::Duration;

use lanyard_crypto::{NodeId, RecordId, TrustId};
use lanyard_replica::audit::AuditEntry;
use lanyard_replica::frame::Frame;
use lanyard_replica::verdict::Verdict;
use lanyard_replica::{Input, query};
use tokio::sync::{Notify, mpsc};

use super::engine::Message;
use super::shared::{Peer, Shared};
use super::wanted::{Wanted, wanted};
use crate::{p2p, time};

/// What was sent and not answered for is sent again after so long, if the connection still stands.
const AGAIN: Duration = Duration::from_secs(10);
/// Connections are checked again this often: time alone can end a certificate, or the charter.
const RECHECK: Duration = Duration::from_secs(5);

/// Something to be done on the network that the engine does not wait for.
pub(super) enum Errand {
    /// Gossip a record.
    Publish(Arc<[u8]>),
    /// Tell gossip what to do with a message.
    Verdict { from: NodeId, message: Vec<u8>, verdict: Verdict },
    /// Close all connections to a peer.
    Disconnect { node: NodeId, why: String },
    /// Check every connection again, and look for peers where they are now.
    TrustChanged,
}

/// Runs errands in their order until the driver ends. The first thing is to look for peers.
pub(super) async fn errands(shared: Arc<Shared>, mut to_run: mpsc::Receiver<Errand>) {
    want_peers(&shared).await;
    let mut recheck = tokio::time::interval(RECHECK);
    recheck.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let shell = shared.shell();
        let errand = tokio::select! {
            errand = to_run.recv() => errand,
            _ = recheck.tick() => {
                let _ = shell.recheck().await;
                continue;
            }
        };
        let Some(errand) = errand else { return };
        match errand {
            Errand::Publish(record) => {
                if let Err(reason) = shell.publish(record.to_vec()).await {
                    tracing::debug!(%reason, "not gossiped");
                }
            }
            Errand::Verdict { from, message, verdict } => {
                if let Ok(id) = RecordId::try_from(message.as_slice()) {
                    let _ = shell.report(from, id, spoken(verdict)).await;
                }
            }
            Errand::Disconnect { node, why } => {
                let _ = shell.disconnect(node, &why).await;
            }
            Errand::TrustChanged => {
                let _ = shell.recheck().await;
                want_peers(&shared).await;
            }
        }
    }
}

fn spoken(verdict: Verdict) -> p2p::Verdict {
    match verdict {
        Verdict::Accept => p2p::Verdict::Accept,
        Verdict::Ignore => p2p::Verdict::Ignore,
        Verdict::Reject => p2p::Verdict::Reject,
    }
}

/// Keeps a connection to every node that the charter or the directory gives an address for.
async fn want_peers(shared: &Arc<Shared>) {
    let Ok(published) = shared.read(|view, _| query::node_addresses(view)).await else { return };
    let Wanted { nodes, unusable } = wanted(shared.network().charter(), published);
    for (node, trust, error) in unusable {
        if let Some(text) = shared.refusals.admit("bad-address", &node.to_string(), &error.to_string()) {
            tracing::warn!(%node, %trust, reason = text, "an address in the charter or the directory cannot be dialled");
            let entry = AuditEntry::new("address-ignored", "bad-address", text).node(node).trust(trust);
            shared.push(Message::Input(Input::Note(entry))).await;
        }
    }
    if let Err(reason) = shared.shell().set_wanted(&nodes).await {
        tracing::warn!(%reason, "peers are looked for where they were before");
    }
}

/// Begins direct delivery to a peer.
pub(super) fn connected(shared: &Arc<Shared>, node: NodeId, trust: TrustId) {
    let wake = Arc::new(Notify::new());
    let task = tokio::spawn(deliver(shared.clone(), node, trust.clone(), wake.clone())).abort_handle();
    if let Some(before) = shared.peers().insert(node, Peer { trust, wake, task }) {
        before.task.abort();
    }
}

/// Ends it.
pub(super) fn disconnected(shared: &Shared, node: &NodeId) {
    if let Some(peer) = shared.peers().remove(node) {
        peer.task.abort();
    }
}

/// Sends what waits for the peer's trust, in batches. The peer's queue takes the next batch when there is room: what has
/// come up by then goes together. What stays unanswered goes again.
async fn deliver(shared: Arc<Shared>, node: NodeId, trust: TrustId, wake: Arc<Notify>) {
    let mut after = 0;
    loop {
        let to = trust.clone();
        let Ok((last, records)) =
            shared.read(move |view, _| query::outbox(view, &to, after, time::now())).await
        else {
            return;
        };
        if records.is_empty() && last == after {
            if tokio::time::timeout(AGAIN, wake.notified()).await.is_err() {
                after = 0;
            }
            continue;
        }
        after = last;
        if !records.is_empty()
            && let Err(reason) = shared.shell().send(&node, Frame::Records(records).to_bytes()).await
        {
            tracing::debug!(%reason, "delivery to a peer ended");
            return;
        }
    }
}
