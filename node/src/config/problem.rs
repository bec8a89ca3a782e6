//! Mistakes in a configuration: each with its place, the value and what is allowed; all of them at once.

use std::fmt;
use std::path::PathBuf;

use crate::files::FileError;

/// Why there is no configuration. The fault is the operator's.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not TOML.
    #[error("{}: not TOML: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and what is wrong there.
        reason: String,
    },
    /// Mistakes in it.
    #[error("{}", lines(problems))]
    Problems {
        /// Every one of them, in the order of the file's reference.
        problems: Vec<Problem>,
    },
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file, as it was named.
    pub file: String,
    /// The key with the sections above it, such as `residency.networks[2].country`; entries count from 0.
    /// Empty if no key is at fault.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.file, self.message),
            key => write!(f, "{}: `{key}` {}", self.file, self.message),
        }
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}
