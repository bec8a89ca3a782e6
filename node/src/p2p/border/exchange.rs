//! The certificate exchange, on the first substream of a connection:
//!
//! ```text
//! dialer   -> listener   GREETING, incarnation (16 bytes), length (u32, big endian), chain
//! listener -> dialer     verdict (one byte); if ADMITTED: incarnation, length, chain
//! dialer   -> listener   verdict (one byte)
//! ```
//!
//! The listener shows its chain only to a dialer that it has admitted. Both keys were proven by the security
//! handshake before, and a chain counts only if it names that very key, so nothing here needs a signature.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use lanyard_crypto::NodeId;
use libp2p::core::Endpoint;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerEvent, StreamMuxerExt};

use super::authority::{Authority, Incarnation};
use crate::p2p::event::Reason;
use crate::p2p::limits::MAX_CHAIN;
use crate::p2p::options::PeerInfo;

const GREETING: &[u8] = b"lanyard/border/1";
const ADMITTED: u8 = 1;
const REFUSED: u8 = 0;

/// What an admitted peer has shown.
#[derive(Debug)]
pub(super) struct Presented {
    pub(super) chain: Arc<[u8]>,
    pub(super) incarnation: Incarnation,
    pub(super) info: PeerInfo,
}

/// Runs the exchange with the peer whose key is `node`, to a verdict on both sides.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    authority: &Authority,
    node: NodeId,
    stream: &mut S,
    role: Endpoint,
) -> Result<Presented, Reason> {
    let presented = match role {
        Endpoint::Dialer => {
            stream.write_all(GREETING).await?;
            show(authority, stream).await?;
            read_verdict(stream).await?;
            let presented = read_presented(authority, node, stream).await?;
            stream.write_all(&[ADMITTED]).await?;
            presented
        }
        Endpoint::Listener => {
            read_greeting(stream).await?;
            let presented = read_presented(authority, node, stream).await?;
            stream.write_all(&[ADMITTED]).await?;
            show(authority, stream).await?;
            read_verdict(stream).await?;
            presented
        }
    };
    // The verdicts are in; how the substream ends no longer matters.
    let _ = stream.close().await;
    Ok(presented)
}

/// Tells the remote that it is refused, and waits until it hangs up.
pub(super) async fn dismiss<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    stream.write_all(&[REFUSED]).await?;
    stream.close().await?;
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

/// Polls `step` to its end while the muxer keeps moving: a substream makes no progress by itself.
pub(super) async fn drive<T>(
    muxer: &mut StreamMuxerBox,
    mut step: impl FnMut(&mut StreamMuxerBox, &mut Context<'_>) -> Poll<T>,
) -> Result<T, Reason> {
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(done) = step(muxer, cx) {
                return Poll::Ready(Ok(done));
            }
            match ready!(muxer.poll_unpin(cx)) {
                Ok(StreamMuxerEvent::AddressChange(_)) => {}
                // What arrived before the connection broke still counts.
                Err(e) => {
                    return Poll::Ready(match step(muxer, cx) {
                        Poll::Ready(done) => Ok(done),
                        Poll::Pending => Err(Reason::Lost(e.to_string())),
                    });
                }
            }
        }
    })
    .await
}

async fn show(authority: &Authority, stream: &mut (impl AsyncWrite + Unpin)) -> Result<(), Reason> {
    let chain = authority.own_chain();
    let length = u32::try_from(chain.len()).expect("own chain is at most MAX_CHAIN bytes");
    stream.write_all(authority.incarnation()).await?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(&chain).await?;
    Ok(stream.flush().await?)
}

/// Byte by byte, so that a shorter foreign greeting is recognised at once.
async fn read_greeting(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), Reason> {
    for expected in GREETING {
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        if byte[0] != *expected {
            return Err(Reason::ForeignProtocol);
        }
    }
    Ok(())
}

async fn read_verdict(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), Reason> {
    let mut verdict = [0];
    stream.read_exact(&mut verdict).await?;
    match verdict[0] {
        ADMITTED => Ok(()),
        REFUSED => Err(Reason::ByRemote),
        _ => Err(Reason::ForeignProtocol),
    }
}

async fn read_presented(
    authority: &Authority,
    node: NodeId,
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Presented, Reason> {
    let (mut incarnation, mut length) = (Incarnation::default(), [0; 4]);
    stream.read_exact(&mut incarnation).await?;
    stream.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_CHAIN {
        return Err(Reason::ChainTooLong(length));
    }
    let mut chain = vec![0; length];
    stream.read_exact(&mut chain).await?;
    let info = authority.judge(node, &chain).map_err(Reason::Certificate)?;
    Ok(Presented { chain: chain.into(), incarnation, info })
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        Self::Lost(error.to_string())
    }
}
