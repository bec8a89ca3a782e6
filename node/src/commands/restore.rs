//! `lanyard-node restore`: a backup in the place of a store that is gone.
//!
//! The backup is copied to a draft beside the store's place, opened there, which tells whether it is this node's and under its key, and
//! marked as restored; only then it gets the store's name. So a crash leaves no store, or one that knows that it was restored.

use std::fs;
use std::path::Path;

use lanyard_storage::{SledOptions, SledStore, StorageError, Store, destroy_copy};
use serde::Serialize;

use super::operate::client;
use super::prepare::{self, Findings};
use super::run::{RunError, restoring_dir, store_options};
use super::{CommandError, ContentError, show};
use crate::admin::api::{FinishRequest, Finished};
use crate::cli::RestoreArgs;
use crate::config::Config;
use crate::files;
use crate::time::now;

/// What `restore DIR` did. The fields are stable: `docs/reference/commands.md`.
#[derive(Serialize)]
struct Restored {
    /// Where the store is.
    store: String,
}

pub(super) fn run(args: &RestoreArgs) -> Result<(), CommandError> {
    match (&args.finish_without, &args.dir) {
        (Some(gone), _) => {
            let request = FinishRequest { without: gone.clone() };
            let finished: Finished = client(&args.node)?.post("/v1/restore/finish", &request)?;
            show(args.json, &finished, |finished| match finished.waiting_for.as_slice() {
                [] => "the node waits for nobody any more".into(),
                left => format!("the node still waits for {}", left.join(" ")),
            })
        }
        (None, Some(dir)) => {
            let restored = restore(&args.node.config, dir)?;
            show(args.json, &restored, |restored| {
                format!(
                    "{} is restored. Once the node runs, it serves no messages until a node of every other trust, and every other \
                     node of its own, has told it what was deleted since the backup; lanyard-node status shows whom it waits for.",
                    restored.store
                )
            })
        }
        (None, None) => Err(CommandError::Usage("the directory of a backup is needed".into())),
    }
}

fn restore(config: &Path, backup: &Path) -> Result<Restored, CommandError> {
    let config = Config::load(config)?;
    let (prepared, Findings { fatal, .. }) = prepare::prepare(&config, now());
    let prepared = prepared.filter(|_| fatal.is_empty()).ok_or(RunError::Problems(fatal))?;
    let Some(store_key) = prepared.store_key.clone() else {
        let place = &config.store_key;
        return Err(CommandError::Usage(format!(
            "a backup opens only with the store's key: put it to {place} first"
        )));
    };
    if !backup.join("STORE").is_file() {
        let reason = "is no backup of a store: the file STORE is not in it";
        return Err(CommandError::content(backup, ContentError::Other(reason.into())));
    }
    files::create_directory(&config.data_dir)?;
    let options = store_options(&config, &prepared, store_key);
    let store = options.dir.clone();
    if store.exists() {
        let reason = "is there, and a backup takes no store's place: move it away first";
        return Err(CommandError::content(&store, ContentError::Other(reason.into())));
    }
    let draft = restoring_dir(&config);
    let failed = |error: StorageError| CommandError::from(RunError::from(error));
    // It holds keys, of which the store may have destroyed some since.
    destroy_copy(&draft).map_err(failed)?;
    let copied = files::copy_tree(backup, &draft).map_err(CommandError::from);
    let marked = copied.and_then(|()| Ok(mark(SledOptions { dir: draft.clone(), ..options })?));
    if let Err(error) = marked {
        destroy_copy(&draft).map_err(failed)?;
        return Err(error);
    }
    files::rename(&draft, &store)?;
    let store = fs::canonicalize(&store).unwrap_or(store);
    Ok(Restored { store: store.display().to_string() })
}

/// Opens the copy, which must be this node's, and says of it that it is one.
fn mark(options: SledOptions) -> Result<(), RunError> {
    let store = SledStore::open(options)?;
    // The draft has no standing before this is there.
    Ok(store.commit(lanyard_replica::restored::mark(&store, now())?)?)
}
