//! Group commit: many threads commit, one writes, and one sync covers all that waited.
//!
//! The writer takes what is in the queue and never waits for more: while it writes, the next group gathers. So a
//! lone commit costs one sync and no delay, and under load the number of syncs stays as it is. Batches of a group
//! are merged in the order of the queue into one: the group as a whole is atomic, which is more than was asked.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::limits::{GROUP_BYTES_MAX, GROUP_COMMITS_MAX, QUEUE_COMMITS_MAX};
use crate::{Batch, StorageError};

/// What the writer thread does with a group.
pub(crate) trait Writer: Send + 'static {
    /// Applies the batch and syncs it.
    fn write(&mut self, batch: Batch) -> Result<(), StorageError>;
}

/// The queue and its writer thread, which ends when this is dropped, after what is in the queue.
#[derive(Debug)]
pub(crate) struct GroupCommit {
    queue: Option<SyncSender<Waiting>>,
    thread: Option<JoinHandle<()>>,
}

struct Waiting {
    batch: Batch,
    done: SyncSender<Result<(), StorageError>>,
}

impl GroupCommit {
    /// Starts the writer thread.
    pub(crate) fn start(writer: impl Writer) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(QUEUE_COMMITS_MAX);
        let thread =
            thread::Builder::new().name("store-writer".into()).spawn(move || run(writer, &waiting))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Returns once the group with this batch has been written.
    pub(crate) fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        let ended = || StorageError::Stopped("its writer thread ended".into());
        let (done, result) = sync_channel(1);
        let queue = self.queue.as_ref().ok_or_else(ended)?;
        queue.send(Waiting { batch, done }).map_err(|_| ended())?;
        result.recv().map_err(|_| ended())?
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported, and each waiting commit has failed by it.
            let _ = thread.join();
        }
    }
}

fn run(mut writer: impl Writer, waiting: &Receiver<Waiting>) {
    let mut stopped: Option<StorageError> = None;
    while let Ok(first) = waiting.recv() {
        let (batch, group) = gather(first, waiting);
        let result = match &stopped {
            Some(reason) => Err(reason.clone()),
            None => writer.write(batch),
        };
        // After a failed write or sync nobody knows what is on disk, and to try again may claim what is not so.
        if let (None, Err(error)) = (&stopped, &result) {
            stopped = Some(StorageError::Stopped(error.to_string()));
        }
        for done in group {
            // A caller that has gone away needs no answer.
            let _ = done.send(result.clone());
        }
    }
}

/// Merges what waits.
fn gather(first: Waiting, waiting: &Receiver<Waiting>) -> (Batch, Vec<SyncSender<Result<(), StorageError>>>) {
    let (mut batch, mut group) = (first.batch, vec![first.done]);
    while batch.byte_len() < GROUP_BYTES_MAX
        && group.len() < GROUP_COMMITS_MAX
        && let Ok(next) = waiting.try_recv()
    {
        batch.append(next.batch);
        group.push(next.done);
    }
    (batch, group)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::Tree;

    /// Writes when it is told to, and remembers what.
    struct Gated {
        gate: Receiver<Result<(), StorageError>>,
        written: Arc<Mutex<Vec<Batch>>>,
    }

    impl Writer for Gated {
        fn write(&mut self, batch: Batch) -> Result<(), StorageError> {
            let result = self.gate.recv().unwrap();
            self.written.lock().unwrap().push(batch);
            result
        }
    }

    fn batch(key: &str, value: &str) -> Batch {
        let mut batch = Batch::new();
        batch.put(Tree::Meta, key, value);
        batch
    }

    #[test]
    fn what_waits_is_one_write_in_the_order_of_the_queue() {
        let (sender, waiting) = sync_channel(8);
        let mut results = Vec::new();
        for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            let (done, result) = sync_channel(1);
            sender.send(Waiting { batch: batch(key, value), done }).unwrap();
            results.push(result);
        }
        drop(sender);
        let (open, gate) = sync_channel(8);
        let written = Arc::default();
        open.send(Ok(())).unwrap();
        run(Gated { gate, written: Arc::clone(&written) }, &waiting);

        assert!(results.iter().all(|result| result.recv().unwrap().is_ok()));
        let mut merged = batch("a", "3");
        merged.put(Tree::Meta, "b", "2");
        assert_eq!(*written.lock().unwrap(), [merged]);
    }

    #[test]
    fn a_failed_write_fails_its_group_and_all_later_ones() {
        let (open, gate) = sync_channel(8);
        let written = Arc::default();
        let group = GroupCommit::start(Gated { gate, written: Arc::clone(&written) }).unwrap();
        open.send(Ok(())).unwrap();
        group.commit(batch("a", "1")).unwrap();
        open.send(Err(StorageError::Full)).unwrap();
        assert!(matches!(group.commit(batch("a", "2")), Err(StorageError::Full)));
        assert!(matches!(group.commit(batch("a", "3")), Err(StorageError::Stopped(_))));
        assert_eq!(written.lock().unwrap().len(), 2);
    }
}
