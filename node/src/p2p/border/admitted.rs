//! A connection that has passed the border.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent, StreamMuxerExt};

use super::authority::Pass;

/// An admitted connection. It carries its [`Pass`], and ends when the pass is withdrawn: at once, without the
/// farewell of an orderly close, for which a peer could keep us waiting.
pub(super) struct Admitted {
    muxer: StreamMuxerBox,
    pass: Pass,
}

impl Admitted {
    pub(super) fn new(muxer: StreamMuxerBox, pass: Pass) -> Self {
        Self { muxer, pass }
    }
}

impl StreamMuxer for Admitted {
    type Substream = <StreamMuxerBox as StreamMuxer>::Substream;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        self.muxer.poll_inbound_unpin(cx)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        self.muxer.poll_outbound_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.muxer.poll_close_unpin(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        if self.pass.poll_withdrawn(cx).is_ready() {
            return Poll::Ready(Err(io::Error::other("the connection's pass was withdrawn")));
        }
        self.muxer.poll_unpin(cx)
    }
}
