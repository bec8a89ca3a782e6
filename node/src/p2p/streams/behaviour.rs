//! Opens and accepts the substreams that carry frames.
//!
//! Written here rather than taken from `libp2p-stream`, which drops an inbound stream without a word when
//! nobody takes it at once, and does not let the caller choose the connection.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandler, ConnectionHandlerEvent, FullyNegotiatedInbound,
    FullyNegotiatedOutbound, SubstreamProtocol,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, Stream, StreamProtocol,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/lanyard/frames/1");

/// What became of a substream.
#[derive(Debug)]
pub(in crate::p2p) struct StreamEvent {
    pub(in crate::p2p) peer: PeerId,
    pub(in crate::p2p) connection: ConnectionId,
    pub(in crate::p2p) what: Happened,
}

/// See [`StreamEvent`].
#[derive(Debug)]
pub(in crate::p2p) enum Happened {
    /// The stream that [`Behaviour::open`] asked for.
    Opened(Stream),
    /// The peer opened a stream to us.
    Accepted(Stream),
    /// The stream that was asked for could not be opened.
    Failed(String),
}

/// See the module documentation.
#[derive(Default)]
pub(in crate::p2p) struct Behaviour {
    waiting: VecDeque<ToSwarm<StreamEvent, Open>>,
}

/// Tells a connection's handler to open a stream.
#[derive(Debug)]
pub(in crate::p2p) struct Open;

impl Behaviour {
    /// Opens a stream on this connection; the answer comes as an event, or never if the connection closes
    /// first.
    pub(in crate::p2p) fn open(&mut self, peer: PeerId, connection: ConnectionId) {
        let handler = NotifyHandler::One(connection);
        self.waiting.push_back(ToSwarm::NotifyHandler { peer_id: peer, handler, event: Open });
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = StreamEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        what: THandlerOutEvent<Self>,
    ) {
        self.waiting.push_back(ToSwarm::GenerateEvent(StreamEvent { peer, connection, what }));
    }

    // The swarm polls after each call that fills the queue, so no waker is kept.
    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<StreamEvent, THandlerInEvent<Self>>> {
        self.waiting.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// One connection's side of it.
#[derive(Default)]
pub(in crate::p2p) struct Handler {
    to_open: bool,
    /// At most one outbound stream and the newest inbound one.
    opened: Option<Happened>,
    accepted: Option<Happened>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Happened;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    // Admission, not idleness, decides how long a connection lives.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn on_behaviour_event(&mut self, Open: Open) {
        self.to_open = true;
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Self::ToBehaviour>> {
        if std::mem::take(&mut self.to_open) {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        match self.opened.take().or_else(|| self.accepted.take()) {
            Some(what) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(what)),
            None => Poll::Pending,
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.accepted = Some(Happened::Accepted(protocol));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                self.opened = Some(Happened::Opened(protocol));
            }
            ConnectionEvent::DialUpgradeError(failure) => {
                self.opened = Some(Happened::Failed(failure.error.to_string()));
            }
            _ => {}
        }
    }
}
