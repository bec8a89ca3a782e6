//! The stack of transports: QUIC, and TCP with Noise and Yamux; above both the gate, and above that the
//! border.

use std::sync::Arc;

use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::{PeerId, noise, quic, tcp, yamux};

use super::border::{Authority, Border};
use super::gate::Gate;
use super::limits;

/// Only admitted connections come out of it.
pub(super) fn build(
    keypair: &Keypair,
    authority: Arc<Authority>,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let admission_max = authority.timing().admission_max;

    let mut quic = quic::Config::new(keypair);
    quic.handshake_timeout = admission_max;
    quic.max_concurrent_stream_limit = limits::SUBSTREAMS as u32;
    let quic = quic::tokio::Transport::new(quic).map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(limits::SUBSTREAMS);
    let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(keypair)?)
        .multiplex(yamux)
        // A dial is bounded by the border, from when its turn comes: addresses of a peer are tried one after the other, and this
        // bound would run out while another one is tried.
        .inbound_timeout(admission_max)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    let either = quic.or_transport(tcp).map(|either, _| either.into_inner()).boxed();
    Ok(Border::new(Gate::new(either, authority.clone()), authority).boxed())
}
