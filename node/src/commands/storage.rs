//! `lanyard-node compact` and `backup` of a running node's store, and `key` of a stopped node's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lanyard_storage::{SledStore, StorageError};
use serde::Serialize;

use super::operate::client;
use super::prepare::{self, Findings, Prepared, STORE_KEY};
use super::run::{RunError, open_under};
use super::{CommandError, show};
use crate::admin::api::{BackedUp, BackupRequest, Compacted};
use crate::cli::{BackupArgs, CompactArgs, RotateArgs};
use crate::config::Config;
use crate::files;
use crate::store_key::{self, KeySource, StoreKey, StoreKeyError};
use crate::time::now;

/// What `key rotate` did. The fields are stable: `docs/reference/commands.md`.
#[derive(Serialize)]
struct Rotated {
    /// Where the key is now.
    key: String,
    /// The line that `[storage]` needs, if it is not what stands there.
    configure: Option<String>,
    /// Where the key was, if it is still there, and opens nothing.
    earlier: Option<String>,
}

/// Has the running node compact its store.
pub(super) fn compact(args: &CompactArgs) -> Result<(), CommandError> {
    let compacted: Compacted = client(&args.node)?.patient().post("/v1/compact", &())?;
    show(args.json, &compacted, |c| {
        let Compacted { before_bytes, after_bytes, live_bytes } = c;
        format!("the store was {before_bytes} bytes, and is {after_bytes}; {live_bytes} of them are of use")
    })
}

/// Has the running node copy its store.
pub(super) fn back_up(args: &BackupArgs) -> Result<(), CommandError> {
    // The node has a working directory of its own.
    let to = std::path::absolute(&args.dir)
        .map_err(|e| CommandError::Usage(format!("{}: {e}", args.dir.display())))?;
    let backed_up: BackedUp = client(&args.node)?.patient().post("/v1/backup", &BackupRequest { to })?;
    show(args.json, &backed_up, |b| {
        let (to, bytes) = (b.to.display(), b.bytes);
        format!(
            "{to} holds the store, {bytes} bytes. It opens only with the store's key, which is not in it."
        )
    })
}

/// Where the new key comes from, and what becomes of it.
enum Plan {
    /// It is made, or was made by a run that was interrupted, and takes the place of the file `at`.
    Replace { at: PathBuf, new: PathBuf },
    /// The configuration is to be changed to it.
    Move(KeySource),
}

/// Puts the store under another key. Whatever interrupts it, the same command goes on.
pub(super) fn rotate(args: &RotateArgs) -> Result<(), CommandError> {
    let config = Config::load(&args.config)?;
    let (prepared, Findings { fatal, .. }) = prepare::prepare(&config, now());
    let plan = plan(args, &config)?;
    // Between two steps below the key's file is not there, and the new one is.
    let interrupted = !config.store_key.is_there() && plan.source().is_there();
    let fatal: Vec<_> =
        fatal.into_iter().filter(|problem| !interrupted || problem.key != STORE_KEY).collect();
    let prepared = prepared.filter(|_| fatal.is_empty()).ok_or(RunError::Problems(fatal))?;
    let dir = config.data_dir.join("store");
    if !dir.exists() {
        return Err(CommandError::Usage(format!(
            "there is no store at {} yet: its key is made at the first start",
            dir.display()
        )));
    }
    let new = plan.new_key()?;
    if prepared.store_key.as_ref() == Some(&new) {
        return Err(CommandError::Usage(
            "the new key is the key that the store has: name another one".into(),
        ));
    }
    let opens = |key: &StoreKey| open_under(&config, &prepared, key.clone());
    rotate_store(&prepared, &new, opens).map_err(RunError::Store)?;
    let rotated = plan.finish(&config).map_err(RunError::StoreKey)?;
    show(args.json, &rotated, Rotated::to_text)
}

/// By the earlier key, or, where that was done before, by the new one, which finishes what was begun.
fn rotate_store(
    prepared: &Prepared,
    new: &StoreKey,
    opens: impl Fn(&StoreKey) -> Result<SledStore, StorageError>,
) -> Result<(), StorageError> {
    let earlier = prepared.store_key.as_ref().map(&opens);
    match earlier {
        Some(Ok(store)) => store.rotate(new.clone()),
        Some(Err(StorageError::WrongStoreKey(_))) | None => opens(new).map(drop),
        Some(Err(error)) => Err(error),
    }
}

fn plan(args: &RotateArgs, config: &Config) -> Result<Plan, CommandError> {
    if let Some(path) = &args.new_key {
        return Ok(Plan::Move(KeySource::File(std::path::absolute(path).unwrap_or_else(|_| path.clone()))));
    }
    if !args.command.is_empty() {
        return Ok(Plan::Move(KeySource::Command(args.command.clone())));
    }
    match &config.store_key {
        KeySource::File(at) => Ok(Plan::Replace { at: at.clone(), new: beside(at, ".new") }),
        KeySource::Command(_) => Err(CommandError::Usage(
            "the configuration takes the key from a command: name the new key by --new-key FILE, or its command behind --"
                .into(),
        )),
    }
}

impl Plan {
    /// Where the new key is, or will be made.
    fn source(&self) -> KeySource {
        match self {
            Plan::Replace { new, .. } => KeySource::File(new.clone()),
            Plan::Move(source) => source.clone(),
        }
    }

    fn new_key(&self) -> Result<StoreKey, RunError> {
        match self.source() {
            KeySource::File(path) if !path.exists() => {
                if let Plan::Replace { at, .. } = self {
                    // Of an earlier rotation that was interrupted at its very end.
                    files::destroy(&beside(at, ".old"))?;
                }
                Ok(store_key::make(&path)?)
            }
            source => Ok(source.read()?),
        }
    }

    /// Once the store has the new key.
    fn finish(self, config: &Config) -> Result<Rotated, StoreKeyError> {
        match self {
            Plan::Replace { at, new } => {
                let old = beside(&at, ".old");
                if at.exists() {
                    files::rename(&at, &old)?;
                }
                files::rename(&new, &at)?;
                files::destroy(&old)?;
                Ok(Rotated { key: at.display().to_string(), configure: None, earlier: None })
            }
            Plan::Move(source) => {
                let configure = match &source {
                    KeySource::File(path) => format!("key = {:?}", path.display().to_string()),
                    KeySource::Command(words) => format!("key_command = {words:?}"),
                };
                let earlier = match &config.store_key {
                    KeySource::File(path) if path.exists() => Some(path.display().to_string()),
                    _ => None,
                };
                Ok(Rotated { key: source.to_string(), configure: Some(configure), earlier })
            }
        }
    }
}

impl Rotated {
    fn to_text(&self) -> String {
        let mut lines = vec![format!("the store is under the key from {}", self.key)];
        lines.extend(
            self.configure.iter().map(|line| format!("Now set in [storage] of the configuration: {line}")),
        );
        lines.extend(
            self.earlier
                .iter()
                .map(|path| format!("The earlier key in {path} opens nothing any more: remove it")),
        );
        lines.join("\n")
    }
}

/// The file of this name with `ending` behind it.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, ToOwned::to_owned);
    name.push(ending);
    path.with_file_name(name)
}
