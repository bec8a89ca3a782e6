//! How much waits for the engine, and when that is too much to take on more.
//!
//! What devices send is stepped in rounds, each with one commit. A newcomer waits for the round that is under way and for its own, and
//! for as many as those fill that came before it. That time is known before: what waits, in rounds, times what the last rounds took.
//! Beyond [`WAIT_MAX`] the newcomer is refused at once, and tries again later, rather than wait with all others until nobody is served
//! in time. What fits into the next round is never refused, however slow the disk is. Only what is sent is refused: deletions, PINs and wipes must
//! not wait for a quiet hour, and are few.
//!
//! Records of peers wait no less: [`PEERS_BYTES`] of them at most, so that a device behind them waits for little. While they do, nothing
//! is read from the peers, whose own streams hold them up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use lanyard_replica::limits::{COMMIT_BYTES, FRAME_BYTES_MAX};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::STEPS_MAX;

/// Who would wait longer for the rounds before its own is refused.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Records of peers that wait for the engine, in bytes: what a few frames bring, so that signatures are looked at while it commits.
const PEERS_BYTES: usize = 4 * 1024 * 1024;
/// The share of a round that what is sent has at least, in bytes: a round takes so many steps.
const STEP_SHARE: usize = COMMIT_BYTES / STEPS_MAX;

const _: () =
    assert!(PEERS_BYTES >= 2 * FRAME_BYTES_MAX, "a frame is looked at while another one is stepped");
const _: () = assert!(PEERS_BYTES <= u32::MAX as usize, "permits are counted in 32 bits");

/// What waits for the engine.
pub(super) struct Load {
    /// In shares of rounds: [`COMMIT_BYTES`] fill one.
    waiting: AtomicUsize,
    /// What a round takes, as the last ones did.
    round_micros: AtomicU64,
    peers: Arc<Semaphore>,
}

impl Default for Load {
    fn default() -> Self {
        let peers = Arc::new(Semaphore::new(PEERS_BYTES));
        Self { waiting: AtomicUsize::new(0), round_micros: AtomicU64::new(0), peers }
    }
}

/// Held by what was sent until it is answered.
pub(super) struct Place {
    load: Arc<Load>,
    share: usize,
}

impl Load {
    /// A place for what a device sends, of so many bytes; none if it would wait too long.
    pub(super) fn enter(self: &Arc<Self>, bytes: usize) -> Option<Place> {
        let share = bytes.max(STEP_SHARE);
        let before = self.waiting.fetch_add(share, Ordering::Relaxed);
        let place = Place { load: self.clone(), share };
        (self.wait_behind(before + share) <= WAIT_MAX).then_some(place)
    }

    /// For how long the last of so many shares of rounds waits until its own begins.
    fn wait_behind(&self, shares: usize) -> Duration {
        let round = Duration::from_micros(self.round_micros.load(Ordering::Relaxed));
        round.mul_f64(shares.saturating_sub(COMMIT_BYTES) as f64 / COMMIT_BYTES as f64)
    }

    /// A round with something that was sent took so long. The last ones count most.
    pub(super) fn round_took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX) / 4;
        let before = self.round_micros.load(Ordering::Relaxed);
        self.round_micros.store(before - before / 4 + micros, Ordering::Relaxed);
    }

    /// Waits until so many bytes of peers' records may wait for the engine, and holds their place until it is dropped.
    pub(super) async fn peer_enters(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(bytes.min(PEERS_BYTES)).unwrap_or(u32::MAX);
        self.peers.clone().acquire_many_owned(permits).await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.waiting.fetch_sub(self.share, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(load: &Arc<Load>, bytes: usize) -> Vec<Place> {
        // Never more than what four rounds take.
        (0..4 * STEPS_MAX).map_while(|_| load.enter(bytes)).collect()
    }

    #[test]
    fn what_fits_into_the_next_round_is_never_refused_and_what_would_wait_long_is() {
        let load = Arc::new(Load::default());
        for _ in 0..40 {
            load.round_took(Duration::from_secs(60));
        }
        let places = enter(&load, 1);
        assert_eq!(places.len(), STEPS_MAX, "one round, however long it takes");
        drop(places);
        assert_eq!(enter(&load, 1).len(), STEPS_MAX, "answered, they have left");
    }

    #[test]
    fn how_many_may_wait_depends_on_how_long_rounds_take() {
        let load = Arc::new(Load::default());
        for _ in 0..40 {
            load.round_took(WAIT_MAX / 2);
        }
        let waiting = enter(&load, 1).len();
        assert!((3 * STEPS_MAX - 2..=3 * STEPS_MAX + 2).contains(&waiting), "{waiting}");
        let large = enter(&load, COMMIT_BYTES / 8).len();
        assert!((23..=25).contains(&large), "{large}");
        for _ in 0..40 {
            load.round_took(WAIT_MAX / 50);
        }
        assert_eq!(enter(&load, 1).len(), 4 * STEPS_MAX, "a quick disk takes them all in time");
    }

    #[tokio::test]
    async fn peers_wait_for_a_place_and_one_frame_always_has_one() {
        let load = Load::default();
        let first = load.peer_enters(10 * PEERS_BYTES).await.unwrap();
        let second = tokio::time::timeout(Duration::from_millis(20), load.peer_enters(1));
        assert!(second.await.is_err());
        drop(first);
        assert!(load.peer_enters(PEERS_BYTES).await.is_some());
    }
}
