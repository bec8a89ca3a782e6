//! From the network shell to the engine: frames are decoded and signatures verified before the engine sees them.

use std::sync::Arc;

use lanyard_crypto::RecordId;
use lanyard_replica::arrival::{self, Looked};
use lanyard_replica::audit::AuditEntry;
use lanyard_replica::frame::Frame;
use lanyard_replica::{Arrival, Input, Source};
use lanyard_storage::{Tree, View};
use tokio::sync::mpsc;

use super::delivery;
use super::engine::Message;
use super::shared::Shared;
use crate::p2p::{self, Event};

/// Feeds the engine with what the network shell tells, in order, until the shell ends. While the engine is busy nothing
/// is taken from the shell, which then stops reading from the peers.
pub(super) async fn listen(shared: Arc<Shared>, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        let input = match event {
            Event::Listening { address } => {
                tracing::info!(address, "listening for peers");
                continue;
            }
            Event::Connected { node, info } => {
                let chain = shared.shown_by(&node);
                shared.push_and_wait(Input::Connected { node, trust: info.trust.clone(), chain }).await;
                delivery::connected(&shared, node, info.trust);
                continue;
            }
            Event::Disconnected { node } => {
                delivery::disconnected(&shared, &node);
                Input::Disconnected(node)
            }
            Event::Frame { from, bytes } => match Frame::from_bytes(&bytes) {
                Ok(Frame::Records(records)) => {
                    let records = records.into_iter().map(serde_bytes::ByteBuf::into_vec).collect();
                    take(&shared, &Source::Peer(from), records).await;
                    continue;
                }
                Ok(frame) => Input::Frame { from, frame },
                Err(error) => {
                    let why = format!("sent a malformed frame: {error}");
                    // It ends when the shell does.
                    let _ = shared.shell().disconnect(from, &why).await;
                    Input::Note(AuditEntry::new("refused", "malformed-frame", why).node(from))
                }
            },
            Event::Gossip { from, id, bytes } => {
                let from = Source::Gossip { from, message: id.as_bytes().to_vec() };
                take(&shared, &from, vec![bytes]).await;
                continue;
            }
            Event::Refused(refused) => match note(&shared, &refused) {
                Some(entry) => Input::Note(entry),
                None => continue,
            },
        };
        shared.push(Message::Input(input)).await;
    }
}

/// Verifies records on a thread that may block, and hands them to the engine. What decides whom to believe goes first, and is
/// waited for, so that the others are verified by what it says.
async fn take(shared: &Shared, from: &Source, records: Vec<Vec<u8>>) {
    let bytes = records.iter().map(Vec::len).sum();
    let [deciding, others] = arrival::sort(records);
    if !deciding.is_empty() {
        let arrivals = look_at(shared, deciding).await;
        shared.push_and_wait(Input::Records { from: from.clone(), arrivals }).await;
    }
    if !others.is_empty() {
        // While others wait, nothing more is taken from the shell.
        let place = shared.load.peer_enters(bytes).await;
        let arrivals = look_at(shared, others).await;
        shared.push(Message::Records(Input::Records { from: from.clone(), arrivals }, place)).await;
    }
}

async fn look_at(shared: &Shared, records: Vec<Looked>) -> Vec<Arrival> {
    let (network, store) = (shared.network(), shared.store.clone());
    let verify = move || {
        // A disk that fails is the engine's to find out.
        let is_held = |id: &RecordId| store.contains(Tree::Holdings, id.as_bytes()).unwrap_or(false);
        arrival::verify_new(records, &network, is_held)
    };
    tokio::task::spawn_blocking(verify).await.unwrap_or_default()
}

/// A refusal as a line of the audit log, if it is one that is written down.
fn note(shared: &Shared, refused: &p2p::Refused) -> Option<AuditEntry> {
    let (code, side) = (refused.reason.code(), if refused.inbound { "it dialled" } else { "we dialled" });
    // Without its port, which is another one each time.
    let host = || refused.address.split('/').take(3).collect::<Vec<_>>().join("/");
    let whom = refused.node.map_or_else(host, |node| node.to_string());
    let text = shared.refusals.admit(code, &whom, &format!("{} ({side})", refused.reason))?;
    let entry = AuditEntry::new("peer-refused", code, text).address(refused.address.clone());
    Some(match refused.node {
        Some(node) => entry.node(node),
        None => entry,
    })
}
