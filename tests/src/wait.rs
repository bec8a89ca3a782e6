//! Waits: each polls a condition, and has a bound.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use crate::{HarnessError, interrupt};

/// Bound for what takes a moment: a process that starts, a message that travels. Generous, since machines that run
/// tests are slow at times; nothing waits longer than its condition takes.
pub const SOON: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(25);

/// Calls `look` until it finds something, at most for the time `within`.
///
/// # Errors
/// What `look` fails with, [`HarnessError::TimedOut`] with what it saw last, or [`HarnessError::Interrupted`].
pub fn until<T, S: Debug>(
    what: impl Into<String>,
    within: Duration,
    mut look: impl FnMut() -> Result<Result<T, S>, HarnessError>,
) -> Result<T, HarnessError> {
    let end = Instant::now() + within;
    loop {
        interrupt::check()?;
        let last = match look()? {
            Ok(found) => return Ok(found),
            Err(seen) => seen,
        };
        if Instant::now() >= end {
            return Err(HarnessError::TimedOut { what: what.into(), within, last: format!("{last:?}") });
        }
        std::thread::sleep(PAUSE);
    }
}
