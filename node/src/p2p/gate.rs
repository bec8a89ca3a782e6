//! The residency gate: no connection to or from an address outside the permitted countries (P3).
//!
//! It stands below everything that knows peers and above the bare QUIC and TCP transports, and sees IP
//! addresses only: names are resolved before, relays and hole punching are refused.
//!
//! A refused dial sends nothing. A refused incoming TCP connection has been accepted by the kernel, and is
//! closed before a byte is read or written. A refused incoming QUIC connection is dropped before its upgrade is
//! polled, but libp2p-quic has told quinn to accept it by then: quinn sends a CONNECTION_CLOSE (52 bytes when
//! measured), and on a runtime of several threads it could in principle send its first handshake packets before.
//! Nothing of the border or of any protocol above it is sent. Connection migration is off, so that an address
//! that has passed stays the one that is used.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::PeerId;
use libp2p::core::Endpoint;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, PortUse, Transport, TransportError, TransportEvent,
};
use libp2p::multiaddr::Multiaddr;

use super::address;
use super::border::Authority;
use super::event::Reason;

/// What the transports below the border yield: a connection to a peer that has proven its key.
pub(super) type Authenticated = Boxed<(PeerId, StreamMuxerBox)>;

/// See the module documentation.
pub(super) struct Gate {
    inner: Authenticated,
    authority: Arc<Authority>,
}

impl Gate {
    pub(super) fn new(inner: Authenticated, authority: Arc<Authority>) -> Self {
        Self { inner, authority }
    }

    fn pass(&self, remote: &Multiaddr, inbound: bool, role: Endpoint) -> Result<(), Reason> {
        let ip = match role {
            Endpoint::Dialer => address::ip_of(remote).ok_or(Reason::AddressKind),
            Endpoint::Listener => Err(Reason::AddressKind),
        };
        let outcome = ip.and_then(|ip| self.authority.check_address(ip));
        if let Err(reason) = &outcome {
            self.authority.report(address::peer_in(remote).as_ref(), remote, inbound, reason.clone());
        }
        outcome
    }
}

impl Transport for Gate {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = <Authenticated as Transport>::ListenerUpgrade;
    type Dial = <Authenticated as Transport>::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        mut options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        if address::is_tcp(&address) {
            // To leave from the port that is listened on serves hole punching alone, and fails where another program has that port
            // on any address of this machine.
            options.port_use = PortUse::New;
        }
        match self.pass(&address, false, options.role) {
            Ok(()) => self.inner.dial(address, options),
            Err(reason) => Err(TransportError::Other(io::Error::other(reason))),
        }
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        loop {
            let event = std::task::ready!(Pin::new(&mut self.inner).poll(cx));
            if let TransportEvent::Incoming { send_back_addr, .. } = &event
                && self.pass(send_back_addr, true, Endpoint::Dialer).is_err()
            {
                continue;
            }
            return Poll::Ready(event);
        }
    }
}
