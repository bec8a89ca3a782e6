//! The node's hold on its network shell.

use std::sync::Arc;

use lanyard_crypto::{NodeId, RecordId};
use libp2p::multiaddr::Multiaddr;
use tokio::sync::{mpsc, oneshot};

use super::address::{self, AddressError};
use super::border::Authority;
use super::limits;
#[cfg(test)]
use super::options::PeerInfo;
use super::sessions::Directory;
use super::streams::SendError;

/// What the engine says of a message that arrived by gossip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Valid: it is passed on.
    Accept,
    /// Neither passed on nor held against anybody, such as what is known already.
    Ignore,
    /// Invalid: it goes no further.
    Reject,
}

/// Why a message was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Empty, or beyond [`limits::MAX_GOSSIP`].
    #[error("a message in gossip has between 1 and {max} bytes, not {0}", max = limits::MAX_GOSSIP)]
    Length(usize),
    /// This node has published or received the same bytes lately.
    #[error("the message is in gossip already")]
    Duplicate,
    /// No connected peer takes part in this network's gossip.
    #[error("no connected peer takes part in the network's gossip")]
    Nobody,
    /// The queues to all neighbours are full.
    #[error("the queues to all neighbours are full")]
    Busy,
    /// The network shell has stopped.
    #[error("the network has stopped")]
    Stopped,
}

/// Why a command was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// An address, or a node id, is not one.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// More than the limit.
    #[error("too many {what}: {given} were given, {most} are possible")]
    TooMany {
        /// Of what there are too many.
        what: &'static str,
        /// How many there are.
        given: usize,
        /// How many there may be.
        most: usize,
    },
    /// The network shell has stopped.
    #[error("the network has stopped")]
    Stopped,
}

pub(super) enum Command {
    #[cfg(test)]
    Dial(NodeId, Vec<Multiaddr>),
    SetWanted(Vec<(NodeId, Vec<Multiaddr>)>),
    Publish(Vec<u8>, oneshot::Sender<Result<RecordId, PublishError>>),
    Report(NodeId, RecordId, Verdict),
    Disconnect(NodeId, String),
    Recheck(oneshot::Sender<()>),
    Shutdown(oneshot::Sender<()>),
}

/// A handle to the network shell; clones are cheap, and all mean the same shell. It stops at
/// [`Handle::shutdown`], or when all handles or the event receiver are dropped.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    directory: Arc<Directory>,
    authority: Arc<Authority>,
    own: NodeId,
}

impl Handle {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        directory: Arc<Directory>,
        authority: Arc<Authority>,
        own: NodeId,
    ) -> Self {
        Self { commands, directory, authority, own }
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.own
    }

    /// For tests: dials a node once, at each of these multiaddresses in turn until one answers. Nothing happens if it is
    /// connected. The outcome is an event, if there is one.
    ///
    /// # Errors
    /// An address of a wrong form or of another node, too many addresses, or a stopped shell.
    #[cfg(test)]
    pub async fn dial(&self, node: NodeId, addresses: &[String]) -> Result<(), CommandError> {
        let addresses = self.parse(&node, addresses)?;
        self.command(Command::Dial(node, addresses)).await
    }

    /// Replaces the set of peers to which the node keeps a connection: each is dialled, and dialled again
    /// with growing pauses whenever it is not connected. The node itself is left out. Peers that are no
    /// longer wanted stay connected until either side ends it.
    ///
    /// # Errors
    /// An address of a wrong form or of another node, too many addresses of one or too many peers, or a stopped shell.
    /// The set is then as before; [`super::check_address`] tells about a single address.
    pub async fn set_wanted(&self, wanted: &[(NodeId, Vec<String>)]) -> Result<(), CommandError> {
        within("wanted peers", wanted.len(), limits::WANTED)?;
        let others = wanted.iter().filter(|(node, _)| *node != self.own);
        let parsed = others.map(|(node, addresses)| Ok((*node, self.parse(node, addresses)?)));
        self.command(Command::SetWanted(parsed.collect::<Result<_, CommandError>>()?)).await
    }

    /// Queues a frame for a connected peer, and waits while its queue is full. Frames arrive in order, or the
    /// peer is disconnected; whether it arrived only the peer can say.
    ///
    /// # Errors
    /// The frame has a wrong length, or the peer is not connected.
    pub async fn send(&self, node: &NodeId, frame: Vec<u8>) -> Result<(), SendError> {
        self.directory.outbox(node).ok_or(SendError::NotConnected)?.send(frame).await
    }

    /// As [`Handle::send`], but does not wait.
    ///
    /// # Errors
    /// As for [`Handle::send`], or [`SendError::Full`].
    pub fn try_send(&self, node: &NodeId, frame: Vec<u8>) -> Result<(), SendError> {
        self.directory.outbox(node).ok_or(SendError::NotConnected)?.try_send(frame)
    }

    /// Gives a message to gossip. It may be lost on the way, as all gossip may.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, bytes: Vec<u8>) -> Result<RecordId, PublishError> {
        if bytes.is_empty() || bytes.len() > limits::MAX_GOSSIP {
            return Err(PublishError::Length(bytes.len()));
        }
        let (reply, outcome) = oneshot::channel();
        self.command(Command::Publish(bytes, reply)).await.map_err(|_| PublishError::Stopped)?;
        outcome.await.unwrap_or(Err(PublishError::Stopped))
    }

    /// Says whether a message of [`super::Event::Gossip`] may go further; `from` and `id` are that event's.
    /// To be called once for each, within some ten heartbeats: later, the message is no longer at hand.
    ///
    /// # Errors
    /// The shell has stopped.
    pub async fn report(&self, from: NodeId, id: RecordId, verdict: Verdict) -> Result<(), CommandError> {
        self.command(Command::Report(from, id, verdict)).await
    }

    /// Ends all connections to a peer. If the policy still admits it, it may come back.
    ///
    /// # Errors
    /// The shell has stopped.
    pub async fn disconnect(&self, node: NodeId, why: &str) -> Result<(), CommandError> {
        self.command(Command::Disconnect(node, why.into())).await
    }

    /// Asks the policy again about every connected peer, and ends the connections of those that it no longer
    /// admits. When this returns, no frame of theirs becomes an event any more. To be called when a charter
    /// or revocation list changes, and from time to time, since certificates expire.
    ///
    /// # Errors
    /// The shell has stopped.
    pub async fn recheck(&self) -> Result<(), CommandError> {
        let (reply, done) = oneshot::channel();
        self.command(Command::Recheck(reply)).await?;
        done.await.map_err(|_| CommandError::Stopped)
    }

    /// For tests: the connected peers, in no order.
    #[cfg(test)]
    pub fn connected(&self) -> Vec<(NodeId, PeerInfo)> {
        self.directory.connected()
    }

    /// The multiaddresses on which the node listens.
    pub fn listen_addresses(&self) -> Vec<String> {
        self.directory.listening()
    }

    /// Refusals that never became an event, because too many came at once.
    pub fn refusals_lost(&self) -> u64 {
        self.authority.refusals_lost()
    }

    /// Ends all connections, and waits until the shell has stopped. Frames that still wait are lost.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        if self.command(Command::Shutdown(reply)).await.is_ok() {
            let _ = done.await;
        }
    }

    async fn command(&self, command: Command) -> Result<(), CommandError> {
        self.commands.send(command).await.map_err(|_| CommandError::Stopped)
    }

    fn parse(&self, node: &NodeId, addresses: &[String]) -> Result<Vec<Multiaddr>, CommandError> {
        address::peer_of(node)?;
        within("addresses of one node", addresses.len(), limits::ADDRESSES_PER_PEER)?;
        let parsed = addresses.iter().map(|text| address::parse(text, Some(node)));
        Ok(parsed.collect::<Result<_, _>>()?)
    }
}

fn within(what: &'static str, given: usize, most: usize) -> Result<(), CommandError> {
    if given <= most { Ok(()) } else { Err(CommandError::TooMany { what, given, most }) }
}
