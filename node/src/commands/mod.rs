//! What the commands of [`crate::cli`] mean. Each one prints what it did, as text or as JSON whose fields are
//! documented in `docs/reference/commands.md`.

mod audit;
mod charters;
mod check;
mod deletions;
mod devices;
mod network;
mod officer;
mod operate;
mod prepare;
mod restore;
mod run;
mod staff;
mod storage;
mod trust;
mod view;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lanyard_crypto::charter::CharterError;
use lanyard_crypto::record::{DecodeError, VerifyError};
use lanyard_crypto::x509::{Certificate, ChainError, KeyError, PemError, SecretKey, issue::IssueError};

use crate::admin::AdminError;
use crate::cli::{Cli, Command, KeyCommand};
use crate::config::ConfigError;
use crate::files::{self, FileError};

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The node's configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The running node could not be asked, or refused.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// What is in a file is not what is needed.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: ContentError,
    },
    /// A certificate cannot be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A charter or a record cannot be made.
    #[error("the record cannot be made: {0}")]
    Record(#[from] DecodeError),
    /// The charter that would be made contradicts itself.
    #[error(transparent)]
    Charter(#[from] CharterError),
    /// No key can be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What was typed does not fit what is there.
    #[error("{0}")]
    Usage(String),
    /// A check found problems, which it has printed.
    #[error("{0} found")]
    Problems(String),
    /// The node could not start or had to stop.
    #[error(transparent)]
    Run(#[from] run::RunError),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

/// What is wrong with the content of a file.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// A private key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Certificates.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Not a chain that holds.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A record.
    #[error(transparent)]
    Record(#[from] DecodeError),
    /// A record that nobody vouches for.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Something else than what is needed here.
    #[error("{0}")]
    Other(String),
}

impl CommandError {
    fn content(path: &Path, reason: impl Into<ContentError>) -> Self {
        CommandError::Content { path: path.into(), reason: reason.into() }
    }

    /// The exit code: 2 if the command was used wrongly, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        if matches!(self, CommandError::Usage(_)) { 2 } else { 1 }
    }
}

/// Does what was typed.
///
/// # Errors
/// [`CommandError`], to be shown to the operator.
pub fn run(cli: Cli) -> Result<(), CommandError> {
    match cli.command {
        Command::Trust(command) => trust::run(command),
        Command::Network(command) => network::run(command),
        Command::Staff(command) => staff::run(command),
        Command::Device(command) => devices::run(command),
        Command::Run(args) => Ok(run::run(&args)?),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => operate::status(&args),
        Command::Deletions(args) => deletions::run(&args),
        Command::Delete(command) => officer::delete(command),
        Command::Hold(command) => officer::hold(command),
        Command::Held(args) => operate::held(&args),
        Command::Compact(args) => storage::compact(&args),
        Command::Backup(args) => storage::back_up(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Key(KeyCommand::Rotate(args)) => storage::rotate(&args),
        Command::Audit(args) => audit::run(&args),
    }
}

/// Prints `value` as JSON if that was asked for, otherwise as text.
fn show<T: serde::Serialize>(
    json: bool,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), CommandError> {
    let mut out = if json {
        serde_json::to_string_pretty(value).expect("our own types have no keys but text")
    } else {
        text(value)
    };
    while out.ends_with('\n') {
        out.pop();
    }
    match writeln!(io::stdout(), "{out}") {
        // Whoever read us has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(CommandError::Output),
    }
}

fn read_key(path: &Path) -> Result<SecretKey, CommandError> {
    let pem = files::read_secret_text(path)?;
    SecretKey::from_pkcs8_pem(&pem).map_err(|e| CommandError::content(path, e))
}

/// The first certificate of a PEM file.
fn read_certificate(path: &Path) -> Result<Certificate, CommandError> {
    let chain = lanyard_crypto::x509::chain_from_pem(&files::read_text(path)?);
    let first = chain.map_err(|e| CommandError::content(path, e))?.into_iter().next();
    first.ok_or_else(|| CommandError::content(path, PemError::None("CERTIFICATE")))
}

fn write_key(path: &Path, key: &SecretKey) -> Result<(), FileError> {
    files::create(path, key.to_pkcs8_pem().as_bytes(), files::SECRET)
}
