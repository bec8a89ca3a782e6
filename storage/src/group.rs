//! Group commit: many threads commit, one writes, and one sync covers all that waited.
//!
//! The writer takes what is in the queue and never waits for more: while it writes, the next group gathers. So a
//! lone commit costs one sync and no delay, and under load the number of syncs stays as it is. Batches of a group
//! are merged in the order of the queue into one: the group as a whole is atomic, which is more than was asked.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::limits::{GROUP_BYTES_MAX, GROUP_COMMITS_MAX, QUEUE_COMMITS_MAX, QUIET_MS};
use crate::{Batch, Committing, StorageError};

/// Without a commit for so long, nothing else is to be done.
const QUIET: Duration = Duration::from_millis(QUIET_MS);

/// What the writer thread does with a group.
pub(crate) trait Writer: Send + 'static {
    /// What else it is asked to do, between two groups. Says itself how its outcome comes back.
    type Order: Send + 'static;

    /// Applies the batch and syncs it.
    fn write(&mut self, batch: &Batch) -> Result<(), StorageError>;

    /// Does as it is asked. An error stops the store as that of a write does.
    fn order(&mut self, order: Self::Order) -> Result<(), StorageError>;

    /// Says to who asked that it is not done.
    fn refuse(order: Self::Order, reason: StorageError);

    /// Whether there is something to go on with while nothing waits, and between two groups while something does.
    fn working(&self) -> bool;

    /// Goes on with it for a short while, since who commits now waits for it. An error stops the store.
    fn work(&mut self) -> Result<(), StorageError>;

    /// After how long something is to be tidied although nothing waits; none if nothing is.
    fn tidy_in(&self) -> Option<Duration>;

    /// Tidies a little: what has waited for long, or while nothing else is to be done (`idle`) also what has not. An error stops the store.
    fn tidy(&mut self, idle: bool) -> Result<(), StorageError>;

    /// Tidies all, before the thread ends.
    fn finish(&mut self);

    /// Gives up what it was working on: the store has stopped.
    fn abandon(&mut self, reason: StorageError);
}

/// The queue and its writer thread, which ends when this is dropped, after what is in the queue.
#[derive(Debug)]
pub(crate) struct GroupCommit<O> {
    queue: Option<SyncSender<Waiting<O>>>,
    thread: Option<JoinHandle<()>>,
}

enum Waiting<O> {
    Commit(Commit),
    Order(O),
}

struct Commit {
    batch: Arc<Batch>,
    done: SyncSender<Result<(), StorageError>>,
}

impl<O: Send + 'static> GroupCommit<O> {
    /// Starts the writer thread.
    pub(crate) fn start(writer: impl Writer<Order = O>) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(QUEUE_COMMITS_MAX);
        let thread =
            thread::Builder::new().name("store-writer".into()).spawn(move || run(writer, &waiting))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Has the batch written, with a group. Returns once it is in the queue.
    pub(crate) fn begin(&self, batch: Arc<Batch>) -> Result<Committing, StorageError> {
        let (done, outcome) = sync_channel(1);
        self.push(Waiting::Commit(Commit { batch, done }))?;
        Ok(Committing::until(outcome))
    }

    /// Asks for something else. Returns once it is in the queue.
    pub(crate) fn order(&self, order: O) -> Result<(), StorageError> {
        self.push(Waiting::Order(order))
    }

    fn push(&self, waiting: Waiting<O>) -> Result<(), StorageError> {
        let queue = self.queue.as_ref().ok_or_else(StorageError::writer_ended)?;
        queue.send(waiting).map_err(|_| StorageError::writer_ended())
    }
}

impl<O> Drop for GroupCommit<O> {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported, and each waiting commit has failed by it.
            let _ = thread.join();
        }
    }
}

fn run<W: Writer>(mut writer: W, waiting: &Receiver<Waiting<W::Order>>) {
    let mut stopped: Option<StorageError> = None;
    let mut next = None;
    let mut written: Option<Instant> = None;
    loop {
        let first = match next.take() {
            Some(first) => Some(first),
            None if writer.working() => match waiting.try_recv() {
                Ok(first) => Some(first),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => break,
            },
            None => {
                // Who commits one after the other is not idle between two commits.
                let quiet = written.map_or(QUIET, |at| at.elapsed());
                let pause = writer.tidy_in().filter(|_| stopped.is_none());
                let pause = pause.map(|pause| pause.max(QUIET.saturating_sub(quiet)));
                match pause.map_or_else(|| Ok(waiting.recv()?), |pause| waiting.recv_timeout(pause)) {
                    Ok(first) => Some(first),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
        };
        let idle = first.is_none();
        let result = match (first, &stopped) {
            (None, _) => Ok(()),
            (Some(Waiting::Commit(first)), stopped) => {
                let (batch, group);
                (batch, group, next) = gather(first, waiting);
                let result = match stopped {
                    Some(reason) => Err(reason.clone()),
                    None => writer.write(&batch),
                };
                written = Some(Instant::now());
                for done in group {
                    // A caller that has gone away needs no answer.
                    let _ = done.send(result.clone());
                }
                result
            }
            (Some(Waiting::Order(order)), None) => writer.order(order),
            (Some(Waiting::Order(order)), Some(reason)) => {
                W::refuse(order, reason.clone());
                Ok(())
            }
        };
        let result = match result {
            Ok(()) if stopped.is_none() && writer.working() => writer.work(),
            result => result,
        };
        let result = match result {
            Ok(()) if stopped.is_none() => writer.tidy(idle),
            result => result,
        };
        // After a failed write or sync nobody knows what is on disk, and to try again may claim what is not so.
        if let (None, Err(error)) = (&stopped, &result) {
            let reason = StorageError::Stopped(error.to_string());
            writer.abandon(reason.clone());
            stopped = Some(reason);
        }
    }
    if stopped.is_none() {
        writer.finish();
    }
}

/// A group's batch, who waits for it, and what comes after it if that can't be part of it.
type Gathered<O> = (Arc<Batch>, Vec<SyncSender<Result<(), StorageError>>>, Option<Waiting<O>>);

/// Merges what waits.
fn gather<O>(first: Commit, waiting: &Receiver<Waiting<O>>) -> Gathered<O> {
    let (mut batch, mut group) = (first.batch, vec![first.done]);
    while batch.byte_len() < GROUP_BYTES_MAX
        && group.len() < GROUP_COMMITS_MAX
        && let Ok(next) = waiting.try_recv()
    {
        match next {
            Waiting::Commit(next) => {
                Arc::make_mut(&mut batch).append(Arc::unwrap_or_clone(next.batch));
                group.push(next.done);
            }
            order @ Waiting::Order(_) => return (batch, group, Some(order)),
        }
    }
    (batch, group, None)
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
        /// Steps of work, of which the last one fails.
        left: usize,
    }

    impl Writer for Gated {
        type Order = SyncSender<Result<usize, StorageError>>;

        fn write(&mut self, batch: &Batch) -> Result<(), StorageError> {
            let result = self.gate.recv().unwrap();
            self.written.lock().unwrap().push(batch.clone());
            result
        }

        fn order(&mut self, order: Self::Order) -> Result<(), StorageError> {
            let _ = order.send(Ok(self.written.lock().unwrap().len()));
            Ok(())
        }

        fn refuse(order: Self::Order, reason: StorageError) {
            let _ = order.send(Err(reason));
        }

        fn working(&self) -> bool {
            self.left > 0
        }

        fn work(&mut self) -> Result<(), StorageError> {
            self.left -= 1;
            if self.left == 0 { Err(StorageError::Full) } else { Ok(()) }
        }

        fn tidy_in(&self) -> Option<Duration> {
            None
        }

        fn tidy(&mut self, _: bool) -> Result<(), StorageError> {
            Ok(())
        }

        fn finish(&mut self) {}

        fn abandon(&mut self, _: StorageError) {
            self.left = 0;
        }
    }

    fn batch(key: &str, value: &str) -> Arc<Batch> {
        let mut batch = Batch::new();
        batch.put(Tree::Meta, key, value);
        Arc::new(batch)
    }

    #[test]
    fn what_waits_is_one_write_in_the_order_of_the_queue() {
        let (sender, waiting) = sync_channel(8);
        let mut results = Vec::new();
        for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            let (done, result) = sync_channel(1);
            sender.send(Waiting::Commit(Commit { batch: batch(key, value), done })).unwrap();
            results.push(result);
        }
        drop(sender);
        let (open, gate) = sync_channel(8);
        let written = Arc::default();
        open.send(Ok(())).unwrap();
        run(Gated { gate, written: Arc::clone(&written), left: 0 }, &waiting);

        assert!(results.iter().all(|result| result.recv().unwrap().is_ok()));
        let mut merged = Batch::clone(&batch("a", "3"));
        merged.put(Tree::Meta, "b", "2");
        assert_eq!(*written.lock().unwrap(), [merged]);
    }

    #[test]
    fn an_order_has_its_place_among_the_commits() {
        let (sender, waiting) = sync_channel(8);
        let (order, place) = sync_channel(8);
        let commit = || Waiting::Commit(Commit { batch: batch("a", "1"), done: sync_channel(1).0 });
        for asked in
            [commit(), commit(), Waiting::Order(order.clone()), commit(), Waiting::Order(order.clone())]
        {
            sender.send(asked).unwrap();
        }
        sender.send(commit()).unwrap();
        sender.send(Waiting::Order(order)).unwrap();
        drop(sender);
        let (open, gate) = sync_channel(8);
        [Ok(()), Ok(()), Err(StorageError::Full)].into_iter().for_each(|result| open.send(result).unwrap());
        run(Gated { gate, written: Arc::default(), left: 0 }, &waiting);
        assert_eq!(place.recv().unwrap().unwrap(), 1, "the first two commits are one group");
        assert_eq!(place.recv().unwrap().unwrap(), 2);
        assert!(place.recv().unwrap().is_err(), "a store that has stopped does nothing any more");
    }

    #[test]
    fn work_goes_on_between_groups_and_stops_the_store_if_it_fails() {
        let (sender, waiting) = sync_channel(8);
        let mut results = Vec::new();
        for _ in 0..4 {
            let (done, result) = sync_channel(1);
            sender.send(Waiting::Commit(Commit { batch: batch("a", "1"), done })).unwrap();
            results.push(result);
            // So that they are groups of their own.
            sender.send(Waiting::Order(sync_channel(1).0)).unwrap();
        }
        drop(sender);
        let (open, gate) = sync_channel(8);
        (0..4).for_each(|_| open.send(Ok(())).unwrap());
        // A step after each commit and each order: the third is that after the second commit.
        run(Gated { gate, written: Arc::default(), left: 3 }, &waiting);
        let outcomes: Vec<bool> = results.iter().map(|result| result.recv().unwrap().is_ok()).collect();
        assert_eq!(outcomes, [true, true, false, false]);
    }

    #[test]
    fn a_failed_write_fails_its_group_and_all_later_ones() {
        let (open, gate) = sync_channel(8);
        let written = Arc::default();
        let group = GroupCommit::start(Gated { gate, written: Arc::clone(&written), left: 0 }).unwrap();
        open.send(Ok(())).unwrap();
        let commit = |batch| group.begin(batch).unwrap().wait();
        commit(batch("a", "1")).unwrap();
        open.send(Err(StorageError::Full)).unwrap();
        assert!(matches!(commit(batch("a", "2")), Err(StorageError::Full)));
        assert!(matches!(commit(batch("a", "3")), Err(StorageError::Stopped(_))));
        assert_eq!(written.lock().unwrap().len(), 2);
    }
}
