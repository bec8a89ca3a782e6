//! Sessions: what a node and an admitted peer share from the first connection between them until the frame
//! streams of that time are of no more use.
//!
//! Within a session frames arrive in order and without a gap. So a stream that breaks after it may have
//! carried frames ends the session, although another connection may live: both sides learn of it by a
//! disconnection, and know what to send again. A session whose streams do not come about in time ends as
//! well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lanyard_crypto::NodeId;
use libp2p::multiaddr::Multiaddr;
use libp2p::swarm::{ConnectionId, Stream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::border::Incarnation;
use super::event::Event;
use super::options::{PeerInfo, Timing};
use super::streams::{self, End, Outbox, Queued};

/// What callers of the [`super::Handle`] see of the sessions.
#[derive(Default)]
pub(super) struct Directory {
    peers: Mutex<HashMap<NodeId, (Outbox, PeerInfo)>>,
    listening: Mutex<Vec<String>>,
}

impl Directory {
    pub(super) fn outbox(&self, node: &NodeId) -> Option<Outbox> {
        lock(&self.peers).get(node).map(|(outbox, _)| outbox.clone())
    }

    #[cfg(test)]
    pub(super) fn connected(&self) -> Vec<(NodeId, PeerInfo)> {
        lock(&self.peers).iter().map(|(node, (_, info))| (*node, info.clone())).collect()
    }

    pub(super) fn listening(&self) -> Vec<String> {
        lock(&self.listening).clone()
    }

    pub(super) fn add_listening(&self, address: String) {
        lock(&self.listening).push(address);
    }

    pub(super) fn remove_listening(&self, address: &str) {
        lock(&self.listening).retain(|other| other != address);
    }
}

/// A stream of a session has ended.
pub(super) struct Ended {
    pub(super) node: NodeId,
    /// Tells the session from earlier and later ones with the same peer.
    serial: u64,
    pub(super) end: End,
}

/// All sessions. It spawns the tasks that read and write, and aborts them when their session ends.
pub(super) struct Sessions {
    sessions: HashMap<NodeId, Session>,
    serials: u64,
    directory: Arc<Directory>,
    timing: Timing,
    events: mpsc::Sender<Event>,
    ended: mpsc::Sender<Ended>,
}

struct Session {
    serial: u64,
    /// The run of the peer that this session is with.
    incarnation: Incarnation,
    remote: Multiaddr,
    connections: Vec<ConnectionId>,
    /// The connection on which a stream is being opened.
    opening: Option<ConnectionId>,
    /// Until the writer takes it.
    queue: Option<mpsc::Receiver<Queued>>,
    writer: Option<Task>,
    reader: Option<Task>,
    /// Since when a stream has been missing.
    incomplete_since: Instant,
}

/// A running task, and the connection that carries its stream. Dropping it aborts the task.
struct Task {
    connection: ConnectionId,
    abort: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// What follows from a closed connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// Nothing: the session lives on, or it had ended before.
    Nothing,
    /// Open the stream on this connection instead.
    Reopen(ConnectionId),
    /// The session is over: call [`Sessions::end`].
    Over,
}

impl Sessions {
    pub(super) fn new(
        directory: Arc<Directory>,
        timing: Timing,
        events: mpsc::Sender<Event>,
        ended: mpsc::Sender<Ended>,
    ) -> Self {
        Self { sessions: HashMap::new(), serials: 0, directory, timing, events, ended }
    }

    pub(super) fn has(&self, node: &NodeId) -> bool {
        self.sessions.contains_key(node)
    }

    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.sessions.keys().copied().collect()
    }

    /// Where the peer stood at the session's first connection.
    pub(super) fn remote(&self, node: &NodeId) -> Option<&Multiaddr> {
        self.sessions.get(node).map(|session| &session.remote)
    }

    /// Enters a connection. True if it begins a session; then a stream is to be opened on it.
    pub(super) fn connected(
        &mut self,
        node: NodeId,
        (info, incarnation): (PeerInfo, Incarnation),
        connection: ConnectionId,
        remote: Multiaddr,
    ) -> bool {
        if let Some(session) = self.sessions.get_mut(&node) {
            session.connections.push(connection);
            return false;
        }
        self.serials += 1;
        let (outbox, queue) = Outbox::new();
        lock(&self.directory.peers).insert(node, (outbox, info));
        let session = Session {
            serial: self.serials,
            incarnation,
            remote,
            connections: vec![connection],
            opening: Some(connection),
            queue: Some(queue),
            writer: None,
            reader: None,
            incomplete_since: Instant::now(),
        };
        self.sessions.insert(node, session);
        true
    }

    /// The stream that was to be opened is there: frames flow to the peer.
    pub(super) fn opened(&mut self, node: NodeId, connection: ConnectionId, stream: Stream) {
        let Some(session) = self.sessions.get_mut(&node) else {
            return;
        };
        if session.opening != Some(connection) {
            return;
        }
        let Some(queue) = session.queue.take() else { return };
        session.opening = None;
        let (timing, ended, serial) = (self.timing.clone(), self.ended.clone(), session.serial);
        let task = tokio::spawn(async move {
            let end = streams::write(stream, queue, timing).await;
            let _ = ended.send(Ended { node, serial, end }).await;
        });
        session.writer = Some(Task { connection, abort: task.abort_handle() });
    }

    /// The peer opened a stream: its frames become events. A peer opens one stream per session; if it opens
    /// another one, the last counts.
    pub(super) fn accepted(&mut self, node: NodeId, connection: ConnectionId, stream: Stream) {
        let Some(session) = self.sessions.get_mut(&node) else {
            return;
        };
        if !session.connections.contains(&connection) {
            return;
        }
        let (timing, ended, serial) = (self.timing.clone(), self.ended.clone(), session.serial);
        let events = self.events.clone();
        let task = tokio::spawn(async move {
            let take = |bytes| {
                let events = events.clone();
                async move { events.send(Event::Frame { from: node, bytes }).await.map_err(|_| End::Unneeded) }
            };
            let end = streams::read(stream, timing, take).await;
            let _ = ended.send(Ended { node, serial, end }).await;
        });
        session.reader = Some(Task { connection, abort: task.abort_handle() });
    }

    /// A connection has closed.
    pub(super) fn closed(&mut self, node: &NodeId, connection: ConnectionId) -> Closed {
        let Some(session) = self.sessions.get_mut(node) else {
            return Closed::Nothing;
        };
        let before = session.connections.len();
        session.connections.retain(|other| *other != connection);
        if session.connections.len() == before {
            return Closed::Nothing;
        }
        let carries = |task: &Option<Task>| task.as_ref().is_some_and(|task| task.connection == connection);
        match session.connections.first() {
            Some(other) if session.opening == Some(connection) => {
                session.opening = Some(*other);
                Closed::Reopen(*other)
            }
            Some(_) if !carries(&session.writer) && !carries(&session.reader) => Closed::Nothing,
            _ => Closed::Over,
        }
    }

    /// Whether a stream that ended belongs to a session that lives.
    pub(super) fn concerns(&self, ended: &Ended) -> bool {
        self.sessions.get(&ended.node).is_some_and(|session| session.serial == ended.serial)
    }

    /// The sessions that lack a stream for too long.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<NodeId> {
        let open_max = self.timing.open_max;
        let overdue = self.sessions.iter_mut().filter_map(|(node, session)| {
            if session.writer.is_some() && session.reader.is_some() {
                session.incomplete_since = now;
            }
            (now.duration_since(session.incomplete_since) > open_max).then_some(*node)
        });
        overdue.collect()
    }

    /// Ends a session: what waits for the peer is dropped, and no frame of it becomes an event any more. The
    /// caller closes the connections to the run of the peer that is returned, if there was a session.
    pub(super) fn end(&mut self, node: &NodeId) -> Option<Incarnation> {
        lock(&self.directory.peers).remove(node);
        self.sessions.remove(node).map(|session| session.incarnation)
    }
}

/// No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
