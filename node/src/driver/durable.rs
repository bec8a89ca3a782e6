//! What has been read is told only once it is on the disk.
//!
//! A commit can be seen in the store a moment before it is synced. Who read it then and passed it on (an inbox's page, a message for another
//! trust) would have told what a loss of power takes back: a position of an inbox that is given to another message after the restart, a commit of
//! a conversation that was never made. So who has read waits for the commit that was under way.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use lanyard_storage::StorageError;

/// Fed by [`Commits::begin`], on the engine's thread alone, which has one commit under way at a time; asked by [`Commits::settled`], from any thread that may block.
#[derive(Default)]
pub(super) struct Commits {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    begun: u64,
    ended: u64,
    /// What is seen from now on may not be on the disk.
    failed: bool,
}

impl Commits {
    /// A commit begins. It has failed if nobody says otherwise: if the thread panics, for one.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.lock().begun += 1;
        UnderWay { commits: self.clone(), fails: true }
    }

    /// Waits until everything that can have been read before this call is on the disk. False if it may never be.
    pub(super) fn settled(&self) -> bool {
        let state = self.lock();
        let begun = state.begun;
        let state = self.ended.wait_while(state, |s| s.ended < begun).unwrap_or_else(PoisonError::into_inner);
        !state.failed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A commit, which ends when this is dropped: also by a panic, so that nobody waits for ever.
pub(super) struct UnderWay {
    commits: Arc<Commits>,
    fails: bool,
}

impl UnderWay {
    /// It has ended like this.
    pub(super) fn end(mut self, outcome: &Result<(), StorageError>) {
        // A batch that is too large is refused before anything of it is seen.
        self.fails = !matches!(outcome, Ok(()) | Err(StorageError::TooLarge { .. }));
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.commits.lock();
        state.ended = state.begun;
        state.failed |= self.fails;
        self.commits.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn who_read_during_a_commit_waits_for_its_end() {
        let commits = Arc::<Commits>::default();
        assert!(commits.settled(), "nothing is under way");
        thread::scope(|scope| {
            let (told, tells) = mpsc::channel();
            let under_way = commits.begin();
            let commits = &commits;
            scope.spawn(move || told.send(commits.settled()));
            // However long it takes, the reader is not answered before the commit ends.
            thread::yield_now();
            assert_eq!(tells.try_recv(), Err(mpsc::TryRecvError::Empty));
            under_way.end(&Ok(()));
            assert!(tells.recv().unwrap());
        });
    }

    #[test]
    fn who_read_during_a_commit_that_panics_is_told_nothing() {
        let commits = Arc::<Commits>::default();
        thread::scope(|scope| {
            let (told, tells) = mpsc::channel();
            let under_way = commits.begin();
            let commits = &commits;
            scope.spawn(move || told.send(commits.settled()));
            let engine = scope.spawn(move || {
                let _under_way = under_way;
                panic!("a test")
            });
            assert!(engine.join().is_err());
            assert!(!tells.recv().unwrap());
        });
        assert!(!commits.settled(), "nor is anybody who comes later");
    }

    #[test]
    fn nothing_is_told_once_a_commit_has_failed() {
        let commits = Arc::<Commits>::default();
        commits.begin().end(&Err(StorageError::TooLarge { what: "changes", len: 2, max: 1 }));
        assert!(commits.settled(), "refused before anything was seen");
        commits.begin().end(&Err(StorageError::Stopped("a test".into())));
        assert!(!commits.settled());
    }
}
