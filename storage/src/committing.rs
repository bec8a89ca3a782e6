//! A commit that goes on while its caller does something else.

use std::sync::mpsc::{Receiver, TryRecvError};

use crate::StorageError;

type Outcome = Result<(), StorageError>;

/// A commit that was [begun](crate::Store::begin). It goes on if this is dropped.
#[derive(Debug)]
pub struct Committing(State);

#[derive(Debug)]
enum State {
    UnderWay(Receiver<Outcome>),
    Ended(Outcome),
}

impl Committing {
    /// One that has ended.
    pub fn ended(outcome: Outcome) -> Self {
        Self(State::Ended(outcome))
    }

    /// One whose outcome comes this way. If nothing comes any more, it has failed.
    pub fn until(outcome: Receiver<Outcome>) -> Self {
        Self(State::UnderWay(outcome))
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        if let State::UnderWay(outcome) = &self.0 {
            self.0 = State::Ended(match outcome.try_recv() {
                Ok(outcome) => outcome,
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => Err(StorageError::writer_ended()),
            });
        }
        true
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// As [`Store::commit`](crate::Store::commit).
    pub fn wait(self) -> Outcome {
        match self.0 {
            State::UnderWay(outcome) => outcome.recv().unwrap_or_else(|_| Err(StorageError::writer_ended())),
            State::Ended(outcome) => outcome,
        }
    }
}
