//! The process that keeps a person's device unlocked, as their session on a machine would have it.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::HarnessError;
use crate::node::text;
use crate::process::{Daemon, Programs, Surroundings};
use crate::wait::{self, SOON};

/// At most one process of a profile, which is ended with the last who has this.
#[derive(Clone, Debug, Default)]
pub struct Agent(Arc<Mutex<Option<Daemon>>>);

impl Agent {
    /// Starts it, unless it runs, and waits until it answers. What it prints is appended to [`Agent::log`].
    ///
    /// # Errors
    /// [`HarnessError::System`], or [`HarnessError::TimedOut`].
    pub fn start(
        &self,
        name: &str,
        programs: &Programs,
        surroundings: &Surroundings,
        profile: &Path,
    ) -> Result<(), HarnessError> {
        let mut daemon = self.lock();
        if daemon.is_some() {
            return Ok(());
        }
        let arguments = ["--profile", &text(profile), "agent"];
        let log = Self::log(profile);
        let started = Daemon::start_under(surroundings, name, &programs.client(), &arguments, &log)?;
        let started = daemon.insert(started);
        wait::until(format!("the agent of {name} answers"), SOON, || {
            started.check()?;
            Ok(UnixStream::connect(profile.join("agent.sock")).map(drop).map_err(|error| error.to_string()))
        })
    }

    /// The file with what it has printed.
    pub fn log(profile: &Path) -> PathBuf {
        profile.with_extension("agent")
    }

    /// The process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.lock().as_ref().map(Daemon::id)
    }

    /// Ends it by SIGKILL, as a power cut would: the device is locked by that.
    ///
    /// # Errors
    /// See [`Daemon::kill`].
    pub fn kill(&self) -> Result<(), HarnessError> {
        self.lock().take().map_or(Ok(()), Daemon::kill)
    }

    /// Leaves it running when this is dropped.
    pub fn keep(&self) {
        if let Some(daemon) = self.lock().as_mut() {
            daemon.keep();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
