//! From the engine to the network shell: direct delivery to each connected peer, and errands that may wait.

use std::sync::Arc;
use std::time::Duration;

use lanyard_crypto::{NodeId, RecordId, TrustId};
use lanyard_replica::audit::AuditEntry;
use lanyard_replica::frame::Frame;
use lanyard_replica::verdict::Verdict;
use lanyard_replica::{Input, query};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::engine::Message;
use super::shared::{Peer, Shared};
use super::wanted::{Wanted, wanted};
use crate::{p2p, time};

/// What was sent and not answered for is sent again so long after all had been sent, if the connection still stands.
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
    let mut progress = Progress::default();
    loop {
        let (to, after) = (trust.clone(), progress.after);
        let Ok((last, records)) =
            shared.read(move |view, _| query::outbox(view, &to, after, time::now())).await
        else {
            return;
        };
        if records.is_empty() && last == after {
            // Woken or not: what is there now is sent, and what is due is sent again.
            let _ = tokio::time::timeout_at(progress.rest(Instant::now()), wake.notified()).await;
            progress.begin_again(Instant::now());
            continue;
        }
        progress.sent(last, Instant::now());
        if !records.is_empty()
            && let Err(reason) = shared.shell().send(&node, Frame::Records(records).to_bytes()).await
        {
            tracing::debug!(%reason, "delivery to a peer ended");
            return;
        }
    }
}

/// How far the outbox has been sent.
#[derive(Default)]
struct Progress {
    /// The position after which nothing has been sent.
    after: u64,
    /// When what has not been answered for is sent again; unknown until all has been sent once.
    again: Option<Instant>,
}

impl Progress {
    /// Everything up to this position has been sent.
    fn sent(&mut self, last: u64, now: Instant) {
        self.after = last;
        self.begin_again(now);
    }

    /// All has been sent. Returns until when to wait for more, at most.
    fn rest(&mut self, now: Instant) -> Instant {
        *self.again.get_or_insert(now + AGAIN)
    }

    /// Begins at the start, if it is time: neither wakes nor what was sent since put that off.
    fn begin_again(&mut self, now: Instant) {
        if self.again.is_some_and(|again| again <= now) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_do_not_put_off_what_is_to_be_sent_again() {
        let second = Duration::from_secs(1);
        for more in [0, 1] {
            let (begun, mut progress) = (Instant::now(), Progress::default());
            let mut now = begun;
            progress.sent(5, now);
            while progress.after > 0 {
                let until = progress.rest(now);
                assert!(until <= begun + AGAIN);
                // Woken each second, with something new or without.
                now = until.min(now + second);
                progress.begin_again(now);
                if progress.after > 0 {
                    progress.sent(progress.after + more, now);
                }
            }
            assert_eq!(now, begun + AGAIN);
            // The next wait begins once all has been sent again.
            now += 5 * second;
            progress.sent(5, now);
            assert_eq!((progress.after, progress.rest(now)), (5, now + AGAIN));
        }
    }
}
