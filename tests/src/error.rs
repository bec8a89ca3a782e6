//! Why a cluster did not do what a test or the demo asked of it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What went wrong, with the words of the program that it went wrong in.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// The programs have not been built.
    #[error("{}: not there; build it: cargo build -p lanyard-node -p lanyard --bins", .0.display())]
    NotBuilt(PathBuf),
    /// A program cannot be started, or a file of the cluster cannot be used.
    #[error("{what}: {reason}")]
    System {
        /// The program or file.
        what: String,
        /// The system's reason.
        reason: io::Error,
    },
    /// A command ended with another exit code than it should.
    #[error("`{command}` ended with {code}: {said}")]
    Exit {
        /// As typed.
        command: String,
        /// The exit code, or how else it ended.
        code: String,
        /// What it wrote to standard error, or else to standard output.
        said: String,
    },
    /// A command printed something else than it should.
    #[error("`{command}` printed no {wanted}: {printed}")]
    Output {
        /// As typed.
        command: String,
        /// What was looked for.
        wanted: String,
        /// The beginning of what there was.
        printed: String,
    },
    /// A condition did not come about in time.
    #[error("not within {} s: {what}; last seen: {last}", .within.as_secs())]
    TimedOut {
        /// The condition.
        what: String,
        /// The bound.
        within: Duration,
        /// The state at the end.
        last: String,
    },
    /// A node ended although nobody asked it to.
    #[error("{node} has ended by itself; the end of its log:\n{log}")]
    Ended {
        /// Which node.
        node: String,
        /// The end of its log.
        log: String,
    },
    /// No part of 127.0.0.0/8 is free.
    #[error("no free network in 127.0.0.0/8: another program listens on its ports")]
    NoAddresses,
    /// What came out is not what was promised.
    #[error("{0}")]
    Promise(String),
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

impl HarnessError {
    /// The system's reason, and what it is about.
    pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |reason| HarnessError::System { what, reason }
    }
}

/// Holds, or says which promise was broken.
///
/// # Errors
/// [`HarnessError::Promise`] if `holds` is false.
pub fn promise(holds: bool, broken: impl FnOnce() -> String) -> Result<(), HarnessError> {
    if holds { Ok(()) } else { Err(HarnessError::Promise(broken())) }
}
