//! Admission as part of the transport: a peer that is not admitted never becomes a connection that gossip,
//! streams or any other behaviour could see (P3).
//!
//! [`Border`] wraps the gate. Each connection that the gate let pass and whose peer has proven its key runs
//! the certificate exchange ([`exchange`]) on its first substream, with the decisions and bounds of the
//! [`Authority`]. If it fails, the connection is closed in here.
//!
//! A peer that comes back with another incarnation has crashed. Its old connections are not known to be dead
//! before they time out, and behaviours such as gossipsub greet a peer on the first of its connections only.
//! So the old ones are closed, and seen to be closed by the swarm, before the new one reaches it.

mod admitted;
mod authority;
mod exchange;
mod rehearsal;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use lanyard_crypto::NodeId;
use libp2p::PeerId;
use libp2p::core::Endpoint;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt};
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::multiaddr::Multiaddr;
use tokio::time::{Instant, timeout, timeout_at};

pub(super) use authority::{Authority, Incarnation};
pub(super) use rehearsal::rehearse;

use super::address;
use super::event::Reason;
use super::gate::{Authenticated, Gate};
use admitted::Admitted;
use authority::Ticket;
use exchange::{Presented, drive};

/// See the module documentation.
pub(super) struct Border {
    inner: Authenticated,
    authority: Arc<Authority>,
}

impl Border {
    pub(super) fn new(inner: Gate, authority: Arc<Authority>) -> Self {
        Self { inner: inner.boxed(), authority }
    }
}

impl Transport for Border {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Self::Output>>;
    type Dial = Self::ListenerUpgrade;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let upgrade = self.inner.dial(address.clone(), options)?;
        let crossing = Crossing::new(self.authority.clone(), address, Endpoint::Dialer);
        Ok(crossing.run(upgrade, None).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        loop {
            let event = std::task::ready!(Pin::new(&mut self.inner).poll(cx));
            let remote = match &event {
                TransportEvent::Incoming { send_back_addr, .. } => send_back_addr.clone(),
                _ => return Poll::Ready(event.map_upgrade(|upgrade| upgrade.boxed())),
            };
            match self.authority.queue(&remote) {
                Ok(ticket) => {
                    let crossing = Crossing::new(self.authority.clone(), remote, Endpoint::Listener);
                    let wrap = |upgrade| crossing.run(upgrade, Some(ticket)).boxed();
                    return Poll::Ready(event.map_upgrade(wrap));
                }
                Err(reason) => self.authority.report(None, &remote, true, reason),
            }
        }
    }
}

/// One connection on its way from the gate to the swarm.
struct Crossing {
    authority: Arc<Authority>,
    remote: Multiaddr,
    role: Endpoint,
    /// The peer, once its key is proven.
    proven: OnceLock<PeerId>,
}

impl Crossing {
    fn new(authority: Arc<Authority>, remote: Multiaddr, role: Endpoint) -> Self {
        Self { authority, remote, role, proven: OnceLock::new() }
    }

    /// Sees the connection through the security handshake and the admission, and reports a refusal. An
    /// outbound connection that never came about is a failure, not a refusal.
    async fn run(
        self,
        upgrade: impl Future<Output = io::Result<(PeerId, StreamMuxerBox)>>,
        ticket: Option<Ticket>,
    ) -> io::Result<(PeerId, StreamMuxerBox)> {
        let inbound = self.role.is_listener();
        let evicted = async {
            match ticket {
                Some(ticket) => ticket.evicted().await,
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            outcome = self.cross(upgrade) => outcome,
            () = evicted => Err(Reason::Evicted),
        };
        outcome.map_err(|reason| {
            let unreachable = !inbound
                && matches!(reason, Reason::Handshake(_) | Reason::TimedOut)
                && self.proven.get().is_none();
            if unreachable {
                tracing::debug!(address = %self.remote, %reason, "dial failed");
            } else {
                let expected = address::peer_in(&self.remote);
                let peer = self.proven.get().copied().or(expected);
                self.authority.report(peer.as_ref(), &self.remote, inbound, reason.clone());
            }
            io::Error::other(reason)
        })
    }

    async fn cross(
        &self,
        upgrade: impl Future<Output = io::Result<(PeerId, StreamMuxerBox)>>,
    ) -> Result<(PeerId, StreamMuxerBox), Reason> {
        let authority = &self.authority;
        let deadline = Instant::now() + authority.timing().admission_max;
        let upgraded = timeout_at(deadline, upgrade).await.map_err(|_| Reason::TimedOut)?;
        let (peer, mut muxer) = upgraded.map_err(|e| Reason::Handshake(e.to_string()))?;
        let _ = self.proven.set(peer);
        let (node, presented) = self.inspect(peer, &mut muxer, deadline).await?;
        let ip = address::ip_of(&self.remote).ok_or(Reason::AddressKind)?;
        let chain = presented.chain.clone();
        let (pass, retired) = authority.admit(node, ip, presented)?;
        // Judged again now that a recheck would find it: the policy may have changed during the exchange, which the
        // peer can draw out.
        authority.check_address(ip)?;
        authority.judge(node, &chain).map_err(Reason::Certificate)?;
        timeout_at(deadline, join_all(retired)).await.map_err(|_| Reason::TimedOut)?;
        Ok((peer, StreamMuxerBox::new(Admitted::new(muxer, pass))))
    }

    /// Runs the exchange on the first substream; closes the connection if it fails.
    async fn inspect(
        &self,
        peer: PeerId,
        muxer: &mut StreamMuxerBox,
        deadline: Instant,
    ) -> Result<(NodeId, Presented), Reason> {
        let mut stream = None;
        let admission = async {
            let node = self.identify(&peer)?;
            let opened = drive(muxer, |muxer, cx| match self.role {
                Endpoint::Dialer => muxer.poll_outbound_unpin(cx),
                Endpoint::Listener => muxer.poll_inbound_unpin(cx),
            });
            let stream = stream.insert(opened.await?.map_err(|e| Reason::Lost(e.to_string()))?);
            let mut exchange = pin!(exchange::run(&self.authority, node, stream, self.role));
            Ok((node, drive(muxer, |_, cx| exchange.as_mut().poll(cx)).await??))
        };
        let outcome = timeout_at(deadline, admission).await.unwrap_or(Err(Reason::TimedOut));
        let Err(reason) = &outcome else { return outcome };
        let farewell_max = self.authority.timing().farewell_max;
        if let (Some(stream), Reason::Certificate(_) | Reason::ChainTooLong(_)) = (&mut stream, reason) {
            // Closing a QUIC connection discards what is still under way, so wait until the peer has read it.
            let mut farewell = pin!(exchange::dismiss(stream));
            let _ = timeout(farewell_max, drive(muxer, |_, cx| farewell.as_mut().poll(cx))).await;
        }
        let _ = timeout(farewell_max, poll_fn(|cx| muxer.poll_close_unpin(cx))).await;
        outcome
    }

    fn identify(&self, peer: &PeerId) -> Result<NodeId, Reason> {
        match address::peer_in(&self.remote) {
            Some(expected) if expected != *peer => Err(Reason::WrongPeer),
            _ => address::node_of(peer).ok_or(Reason::KeyKind),
        }
    }
}
