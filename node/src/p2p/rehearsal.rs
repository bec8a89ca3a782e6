//! The two things that read a peer's bytes here, the certificate exchange and the frame stream, without a peer: over bytes in
//! memory, for fuzz targets and property tests.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::executor::block_on;
use futures::{AsyncRead, AsyncWrite};
use lanyard_crypto::NodeId;
use libp2p::core::Endpoint;

use super::border::rehearse;
use super::options::{PeerInfo, Policy, Timing};
use super::streams::{End, read};

/// A substream on which the peer has said everything that it ever says.
pub(super) struct Wire<'a> {
    heard: &'a [u8],
    said: Vec<u8>,
}

impl<'a> Wire<'a> {
    pub(super) fn new(heard: &'a [u8]) -> Self {
        Self { heard, said: Vec::new() }
    }

    pub(super) fn into_said(self) -> Vec<u8> {
        self.said
    }
}

impl AsyncRead for Wire<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.heard).poll_read(cx, into)
    }
}

impl AsyncWrite for Wire<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.said).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.said).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.said).poll_close(cx)
    }
}

/// The certificate exchange with a peer that says `bytes`, judged by `admit`: its outcome, and what was said to the peer.
pub fn rehearse_border(
    admit: impl Fn(NodeId, &[u8]) -> Result<PeerInfo, String> + Send + Sync + 'static,
    own_chain: Vec<u8>,
    node: NodeId,
    dials: bool,
    bytes: &[u8],
) -> (Result<PeerInfo, String>, Vec<u8>) {
    let policy = Policy { admit: std::sync::Arc::new(admit), permit: std::sync::Arc::new(|_| false) };
    let role = if dials { Endpoint::Dialer } else { Endpoint::Listener };
    let mut wire = Wire::new(bytes);
    let outcome = block_on(rehearse(policy, own_chain, node, &mut wire, role));
    (outcome.map_err(|reason| reason.to_string()), wire.into_said())
}

/// The frames on a stream that a peer has opened and that ends after `bytes`, and why it ended.
pub fn rehearse_stream(bytes: &[u8]) -> (Vec<Vec<u8>>, String) {
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let clock = clock.expect("a runtime without I/O asks nothing of the system");
    let mut frames = Vec::new();
    let take = |frame| {
        frames.push(frame);
        std::future::ready(Ok::<(), End>(()))
    };
    let end = clock.block_on(read(Wire::new(bytes), Timing::default(), take));
    (frames, end.to_string())
}
