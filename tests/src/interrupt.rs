//! SIGINT and SIGTERM: noted, and answered at the next wait, so that whoever waits cleans up as after any other error.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::HarnessError;

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Notes SIGINT and SIGTERM from now on, instead of ending at once.
///
/// # Errors
/// [`HarnessError::System`] if the system refuses.
pub fn watch() -> Result<(), HarnessError> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, flag.clone()).map_err(HarnessError::system("signals"))?;
    }
    Ok(())
}

/// Fails once the process was asked to end.
///
/// # Errors
/// [`HarnessError::Interrupted`].
pub fn check() -> Result<(), HarnessError> {
    match INTERRUPTED.get() {
        Some(flag) if flag.load(Ordering::Relaxed) => Err(HarnessError::Interrupted),
        _ => Ok(()),
    }
}
