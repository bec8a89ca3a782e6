//! One long-lived stream each way between two admitted nodes, for frames that the network shell does not look
//! into.
//!
//! [`behaviour`] opens and accepts the substreams, [`frames`] runs on them.

mod behaviour;
mod frames;

pub(super) use behaviour::{Behaviour, Happened, StreamEvent};
pub use frames::SendError;
pub(super) use frames::{End, Outbox, Queued, read, write};
