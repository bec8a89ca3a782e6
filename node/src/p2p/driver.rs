//! The loop that moves the swarm: it turns what libp2p reports into events, and commands into what libp2p
//! does.
//!
//! While an event waits for the node to take it, the swarm is not polled, so that a slow node slows its
//! peers. But commands are still served, so that a node that waits for one of them while it does not take
//! events cannot lock up. A refusal that waits stops nothing: strangers must not be able to slow admitted peers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lanyard_crypto::{NodeId, RecordId};
use libp2p::gossipsub::{self, MessageAcceptance, PublishError as GossipError, TopicHash};
use libp2p::multiaddr::Multiaddr;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, NetworkBehaviour, SwarmEvent};
use libp2p::{PeerId, Swarm};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::address;
use super::border::Authority;
use super::dialler::Dialler;
use super::event::{Event, Reason, Refused};
use super::gossip::{self, Gossip};
use super::handle::{Command, PublishError, Verdict};
use super::limits;
use super::sessions::{Closed, Directory, Ended, Sessions};
use super::streams::{self, End, Happened, StreamEvent};

/// How often due dials and overdue streams are looked for.
const TICK: Duration = Duration::from_millis(100);

/// The protocols on an admitted connection.
#[derive(NetworkBehaviour)]
pub(super) struct Protocols {
    pub(super) gossip: Gossip,
    pub(super) streams: streams::Behaviour,
}

/// What arrives at the driver, apart from the swarm's own events.
pub(super) struct Inbox {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) refusals: mpsc::Receiver<Refused>,
    pub(super) ended: mpsc::Receiver<Ended>,
}

/// See the module documentation.
pub(super) struct Driver {
    pub(super) swarm: Swarm<Protocols>,
    pub(super) topic: TopicHash,
    pub(super) authority: Arc<Authority>,
    pub(super) directory: Arc<Directory>,
    pub(super) sessions: Sessions,
    pub(super) dialler: Dialler,
    pub(super) events: mpsc::Sender<Event>,
    /// Events that wait for a place in the channel; few, since the swarm is not polled while there are any.
    pub(super) waiting: VecDeque<Event>,
    /// Addresses whose names have been resolved.
    pub(super) resolved: (mpsc::Sender<Resolved>, mpsc::Receiver<Resolved>),
    /// Dials that wait until the last connection of an ended session has closed.
    pub(super) deferred: VecDeque<Resolved>,
}

/// A node, and the addresses that its names stand for.
pub(super) type Resolved = (NodeId, Vec<Multiaddr>);

impl Driver {
    /// Runs until it is told to stop, or nobody is left to talk to.
    pub(super) async fn run(mut self, mut inbox: Inbox) {
        let events = self.events.clone();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused = None;
        let stopped = loop {
            let may_poll = self.waiting.is_empty();
            let command = tokio::select! {
                place = events.reserve(), if !may_poll || refused.is_some() => {
                    let Ok(place) = place else { break None };
                    if let Some(event) = self.waiting.pop_front().or_else(|| refused.take().map(Event::Refused)) {
                        place.send(event);
                    }
                    continue;
                }
                () = events.closed() => break None,
                command = inbox.commands.recv() => command,
                event = self.swarm.select_next_some(), if may_poll => {
                    self.on_swarm(event);
                    continue;
                }
                Some(ended) = inbox.ended.recv(), if may_poll => {
                    self.on_ended(ended);
                    continue;
                }
                Some(next) = inbox.refusals.recv(), if refused.is_none() => {
                    refused = Some(next);
                    continue;
                }
                Some((node, addresses)) = self.resolved.1.recv(), if may_poll => {
                    self.dial_direct(node, addresses);
                    continue;
                }
                _ = tick.tick(), if may_poll => {
                    self.on_tick();
                    continue;
                }
            };
            match command {
                Some(Command::Shutdown(reply)) => break Some(reply),
                Some(command) => self.on_command(command),
                None => break None,
            }
        };
        for node in self.sessions.nodes() {
            self.sessions.end(&node);
            self.authority.close(&node);
        }
        drop(self);
        if let Some(reply) = stopped {
            let _ = reply.send(());
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            #[cfg(test)]
            Command::Dial(node, addresses) => self.dial(node, addresses),
            Command::SetWanted(wanted) => {
                self.dialler.set(wanted, |node| self.sessions.has(node), Instant::now());
            }
            Command::Publish(bytes, reply) => {
                let _ = reply.send(self.publish(bytes));
            }
            Command::Report(from, id, verdict) => self.report(&from, &id, verdict),
            Command::Disconnect(node, why) => {
                self.authority.close(&node);
                self.end(node, &why);
            }
            Command::Recheck(reply) => {
                for node in self.authority.recheck() {
                    self.end(node, "no longer admitted");
                }
                let _ = reply.send(());
            }
            Command::Shutdown(_) => unreachable!("the loop takes it"),
        }
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        for (node, addresses) in std::mem::take(&mut self.deferred) {
            self.dial_direct(node, addresses);
        }
        for (node, addresses) in self.dialler.due(now) {
            self.dial(node, addresses);
        }
        for node in self.sessions.overdue(now) {
            self.end(node, "no frame stream in time");
        }
    }

    fn on_swarm(&mut self, event: SwarmEvent<ProtocolsEvent>) {
        match event {
            SwarmEvent::Behaviour(ProtocolsEvent::Streams(event)) => self.on_stream(event),
            SwarmEvent::Behaviour(ProtocolsEvent::Gossip(event)) => self.on_gossip(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connection(peer_id, connection_id, endpoint.get_remote_address().clone());
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                let Some(node) = address::node_of(&peer_id) else {
                    return;
                };
                match self.sessions.closed(&node, connection_id) {
                    Closed::Nothing => {}
                    Closed::Reopen(other) => self.swarm.behaviour_mut().streams.open(peer_id, other),
                    Closed::Over => {
                        let why = cause.map_or("connection closed".into(), |cause| cause.to_string());
                        self.end(node, &why);
                    }
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                if let Some(node) = peer_id.as_ref().and_then(address::node_of) {
                    tracing::debug!(%node, %error, "dial failed");
                    self.dialler.failed(&node, Instant::now(), random());
                }
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, "listening");
                self.directory.add_listening(address.to_string());
                self.waiting.push_back(Event::Listening { address: address.to_string() });
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.directory.remove_listening(&address.to_string());
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener"),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::error!(?addresses, ?reason, "a listener has stopped");
                addresses.iter().for_each(|address| self.directory.remove_listening(&address.to_string()));
            }
            _ => {}
        }
    }

    fn on_connection(&mut self, peer: PeerId, connection: ConnectionId, remote: Multiaddr) {
        // Without a record at the border, the connection's pass has been withdrawn since, and it is closing.
        let Some(node) = address::node_of(&peer) else {
            return;
        };
        let Some(shown) = self.authority.shown_by(&node) else {
            return;
        };
        let info = shown.0.clone();
        if self.sessions.connected(node, shown, connection, remote) {
            tracing::info!(%node, trust = %info.trust, "connected");
            self.dialler.connected(&node, Instant::now());
            self.waiting.push_back(Event::Connected { node, info });
            self.swarm.behaviour_mut().streams.open(peer, connection);
        }
    }

    fn on_stream(&mut self, StreamEvent { peer, connection, what }: StreamEvent) {
        let Some(node) = address::node_of(&peer) else {
            return;
        };
        match what {
            Happened::Opened(stream) => self.sessions.opened(node, connection, stream),
            Happened::Accepted(stream) => self.sessions.accepted(node, connection, stream),
            Happened::Failed(why) => self.end(node, &why),
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message, .. } => {
                let id = RecordId::of(&message.data);
                match address::node_of(&propagation_source).filter(|node| self.sessions.has(node)) {
                    Some(from) => self.waiting.push_back(Event::Gossip { from, id, bytes: message.data }),
                    // It came from a peer whose session has just ended.
                    None => self.accept(&propagation_source, &id, MessageAcceptance::Ignore),
                }
            }
            gossipsub::Event::SlowPeer { peer_id, .. } => tracing::debug!(%peer_id, "slow in gossip"),
            gossipsub::Event::GossipsubNotSupported { peer_id } => {
                tracing::warn!(%peer_id, "an admitted peer does not speak gossipsub");
            }
            _ => {}
        }
    }

    fn on_ended(&mut self, ended: Ended) {
        if !self.sessions.concerns(&ended) {
            return;
        }
        if let End::TooLong(length) = ended.end
            && let Some(remote) = self.sessions.remote(&ended.node)
        {
            self.authority.report_node(ended.node, remote, true, Reason::FrameTooLong(length));
        }
        self.end(ended.node, &ended.end.to_string());
    }

    /// Ends the session with a peer, and its connections. A peer that has restarted may be at the border with
    /// a new connection already, which stays.
    fn end(&mut self, node: NodeId, why: &str) {
        if let Some(incarnation) = self.sessions.end(&node) {
            self.authority.close_run(&node, &incarnation);
            tracing::info!(%node, why, "disconnected");
            self.dialler.disconnected(&node, Instant::now(), random());
            self.waiting.push_back(Event::Disconnected { node });
        }
    }

    fn dial(&mut self, node: NodeId, addresses: Vec<Multiaddr>) {
        if !address::needs_resolving(&addresses) {
            return self.dial_direct(node, addresses);
        }
        let resolved = self.resolved.0.clone();
        tokio::spawn(async move {
            let addresses = address::resolve(addresses).await;
            let _ = resolved.send((node, addresses)).await;
        });
    }

    fn dial_direct(&mut self, node: NodeId, addresses: Vec<Multiaddr>) {
        let connected = address::peer_of(&node).is_ok_and(|peer| self.swarm.is_connected(&peer));
        if connected && !self.sessions.has(&node) && self.deferred.len() < limits::WANTED {
            return self.deferred.push_back((node, addresses));
        }
        let dialled = address::peer_of(&node).map_err(|e| e.to_string()).and_then(|peer| {
            let condition = PeerCondition::DisconnectedAndNotDialing;
            let options = DialOpts::peer_id(peer).addresses(addresses).condition(condition).build();
            self.swarm.dial(options).map_err(|e| e.to_string())
        });
        if let Err(error) = dialled {
            tracing::debug!(%node, %error, "not dialled");
            self.dialler.failed(&node, Instant::now(), random());
        }
    }

    fn publish(&mut self, bytes: Vec<u8>) -> Result<RecordId, PublishError> {
        let (id, length) = (RecordId::of(&bytes), bytes.len());
        let published = self.swarm.behaviour_mut().gossip.publish(self.topic.clone(), bytes);
        published.map(|_| id).map_err(|error| match error {
            GossipError::Duplicate => PublishError::Duplicate,
            GossipError::NoPeersSubscribedToTopic => PublishError::Nobody,
            GossipError::AllQueuesFull(_) => PublishError::Busy,
            GossipError::MessageTooLarge => PublishError::Length(length),
            other => unreachable!("messages are neither signed nor transformed: {other}"),
        })
    }

    fn report(&mut self, from: &NodeId, id: &RecordId, verdict: Verdict) {
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        if let Ok(peer) = address::peer_of(from) {
            self.accept(&peer, id, acceptance);
        }
    }

    fn accept(&mut self, peer: &PeerId, id: &RecordId, acceptance: MessageAcceptance) {
        let id = gossip::message_id(id);
        self.swarm.behaviour_mut().gossip.report_message_validation_result(&id, peer, acceptance);
    }
}

/// Spreads dials; where there is no randomness, they are not spread.
fn random() -> u32 {
    getrandom::u32().unwrap_or(0)
}
