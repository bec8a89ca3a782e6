//! The certificate exchange by itself: see [`crate::p2p::rehearse_border`].

use futures::{AsyncRead, AsyncWrite};
use lanyard_crypto::NodeId;
use libp2p::core::Endpoint;

use super::authority::Authority;
use super::exchange::run;
use crate::p2p::countries::Countries;
use crate::p2p::event::Reason;
use crate::p2p::options::{PeerInfo, Policy, Timing};

/// Runs the exchange on any stream, to its verdict.
pub(in crate::p2p) async fn rehearse<S: AsyncRead + AsyncWrite + Unpin>(
    policy: Policy,
    own_chain: Vec<u8>,
    node: NodeId,
    stream: &mut S,
    role: Endpoint,
) -> Result<PeerInfo, Reason> {
    let nowhere = Countries::new([]).map_err(|e| Reason::Lost(e.to_string()))?;
    let (authority, _reported) = Authority::new(own_chain, nowhere, policy, Timing::default())
        .map_err(|e| Reason::Lost(e.to_string()))?;
    run(&authority, node, stream, role).await.map(|presented| presented.info)
}
