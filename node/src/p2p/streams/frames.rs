//! Frames on a substream: each is a length (u32, big endian) and so many bytes. A length of zero is no frame,
//! it says that the sender is alive.
//!
//! The receiver first writes one byte, [`READY`], once it reads the stream; until then the sender holds its
//! frames back. Frames wait in a bounded queue per peer. A receiver that is full stops reading, and the
//! stream's flow control holds the sender, whose queue then holds its callers.

use std::io;
use std::sync::Arc;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{timeout, timeout_at};

use crate::p2p::limits::{MAX_FRAME, SEND_QUEUE_BYTES, SEND_QUEUE_FRAMES};
use crate::p2p::options::Timing;

const READY: u8 = 1;
/// Memory grows with what has arrived, not with what was announced, beyond this many bytes.
const FIRST_ALLOCATION: usize = 64 * 1024;

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer is not connected, or was disconnected while the frame waited for a place.
    #[error("the peer is not connected")]
    NotConnected,
    /// The frame is empty or longer than [`MAX_FRAME`].
    #[error("a frame has between 1 and {MAX_FRAME} bytes, not {0}")]
    Length(usize),
    /// The queue to this peer is full; only `try_send` says so.
    #[error("too much waits for this peer already")]
    Full,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(in crate::p2p) enum End {
    /// The stream or its connection broke, or fell silent.
    #[error("stream: {0}")]
    Stream(#[from] io::Error),
    /// The peer announced a frame beyond the limit.
    #[error("a frame of {0} bytes was announced")]
    TooLong(usize),
    /// Our own side no longer needs it.
    #[error("no longer needed")]
    Unneeded,
}

/// The callers' end of the queue to one peer.
#[derive(Clone)]
pub(in crate::p2p) struct Outbox {
    frames: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
}

/// A frame in the queue, with its share of the queue's bytes.
pub(in crate::p2p) struct Queued {
    frame: Vec<u8>,
    _share: OwnedSemaphorePermit,
}

impl Outbox {
    pub(in crate::p2p) fn new() -> (Self, mpsc::Receiver<Queued>) {
        let (frames, queue) = mpsc::channel(SEND_QUEUE_FRAMES);
        (Self { frames, bytes: Arc::new(Semaphore::new(SEND_QUEUE_BYTES)) }, queue)
    }

    /// Waits for a place in the queue.
    pub(in crate::p2p) async fn send(&self, frame: Vec<u8>) -> Result<(), SendError> {
        let share = share_of(&frame)?;
        let place = self.frames.reserve().await.map_err(|_| SendError::NotConnected)?;
        let bytes = self.bytes.clone().acquire_many_owned(share);
        let share = tokio::select! {
            share = bytes => share.map_err(|_| SendError::NotConnected)?,
            () = self.frames.closed() => return Err(SendError::NotConnected),
        };
        place.send(Queued { frame, _share: share });
        Ok(())
    }

    /// Takes a place in the queue if there is one.
    pub(in crate::p2p) fn try_send(&self, frame: Vec<u8>) -> Result<(), SendError> {
        let share = share_of(&frame)?;
        let place = self.frames.try_reserve().map_err(|e| match e {
            mpsc::error::TrySendError::Full(()) => SendError::Full,
            mpsc::error::TrySendError::Closed(()) => SendError::NotConnected,
        })?;
        let share = self.bytes.clone().try_acquire_many_owned(share).map_err(|_| SendError::Full)?;
        place.send(Queued { frame, _share: share });
        Ok(())
    }
}

fn share_of(frame: &[u8]) -> Result<u32, SendError> {
    match u32::try_from(frame.len()) {
        Ok(length) if length > 0 && frame.len() <= MAX_FRAME => Ok(length),
        _ => Err(SendError::Length(frame.len())),
    }
}

/// Writes the queue's frames to a stream that we opened, until one of both ends.
pub(in crate::p2p) async fn write<S>(stream: S, mut queue: mpsc::Receiver<Queued>, timing: Timing) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reading, mut writing) = stream.split();
    let work = async {
        let mut ready = [0];
        within(timing.open_max, reading.read_exact(&mut ready)).await?;
        if ready != [READY] {
            return Err(io::Error::other("the receiver is not ready").into());
        }
        loop {
            tokio::select! {
                queued = timeout(timing.keepalive, queue.recv()) => match queued {
                    Ok(Some(queued)) => write_frame(&mut writing, &queued.frame, queue.is_empty()).await?,
                    Ok(None) => return Err(End::Unneeded),
                    Err(_) => write_frame(&mut writing, &[], true).await?,
                },
                // The receiver writes nothing more: this ends when the stream does.
                _ = reading.read(&mut ready) => return Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
            }
        }
    };
    let ended: Result<std::convert::Infallible, End> = work.await;
    match ended {
        Err(end) => end,
    }
}

async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), frame: &[u8], flush: bool) -> io::Result<()> {
    let length = u32::try_from(frame.len()).expect("a queued frame is at most MAX_FRAME bytes");
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(frame).await?;
    if flush { stream.flush().await } else { Ok(()) }
}

/// Reads frames from a stream that the peer opened, and hands each to `take`, which may wait.
pub(in crate::p2p) async fn read<S, F>(
    mut stream: S,
    timing: Timing,
    mut take: impl FnMut(Vec<u8>) -> F,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result<(), End>>,
{
    let work = async {
        stream.write_all(&[READY]).await?;
        stream.flush().await?;
        loop {
            let mut length = [0; 4];
            within(timing.silence_max, stream.read_exact(&mut length)).await?;
            let length = u32::from_be_bytes(length) as usize;
            match length {
                0 => {}
                1..=MAX_FRAME => take(read_frame(&mut stream, length, &timing).await?).await?,
                _ => return Err(End::TooLong(length)),
            }
        }
    };
    let ended: Result<std::convert::Infallible, End> = work.await;
    match ended {
        Err(end) => end,
    }
}

/// Reads so many bytes. The sender may pause, but not for longer than an idle stream may.
async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    length: usize,
    timing: &Timing,
) -> io::Result<Vec<u8>> {
    let mut frame = Vec::with_capacity(length.min(FIRST_ALLOCATION));
    let mut piece = [0; 16 * 1024];
    while frame.len() < length {
        let room = piece.len().min(length - frame.len());
        let got = within(timing.silence_max, stream.read(&mut piece[..room])).await?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        frame.extend_from_slice(&piece[..got]);
    }
    Ok(frame)
}

async fn within<T>(most: std::time::Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let deadline = tokio::time::Instant::now() + most;
    timeout_at(deadline, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
