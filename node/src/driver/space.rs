//! The store's space on the disk: compacted when the operator asks, and by itself when most of it is of no use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lanyard_crypto::gateway::Refusal;
use lanyard_replica::Input;
use lanyard_replica::audit::AuditEntry;
use lanyard_storage::{BackedUp, Compacted, SledStore, StorageError};

use super::engine::Message;
use super::shared::{Shared, stopped};
use crate::backend::refusal;

/// How often it is looked whether a compaction is worth its while.
const LOOK: Duration = Duration::from_secs(60);
/// After one that failed, or for which there was no room.
const AFTER_FAILURE: Duration = Duration::from_secs(3600);
/// The code of the refusal while the store is being compacted or backed up.
const BUSY: &str = "busy";

/// Compacts the store whenever that is worth its while, until the driver ends.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut wait = LOOK;
    loop {
        tokio::time::sleep(wait).await;
        let looked = match beside(&shared, SledStore::is_wasteful).await {
            Ok(true) => compact(&shared).await.map(drop),
            Ok(false) => Ok(()),
            Err(reason) => Err(reason),
        };
        wait = match looked {
            Ok(()) => LOOK,
            // Somebody else has it compacted or backed up.
            Err(reason) if reason.code == BUSY => LOOK,
            Err(reason) => {
                tracing::warn!(reason = reason.message, "the store was not compacted");
                AFTER_FAILURE
            }
        };
    }
}

/// Compacts the store, and notes it in the audit log.
pub(super) async fn compact(shared: &Arc<Shared>) -> Result<Compacted, Refusal> {
    whole(compact_and_note(shared.clone())).await
}

async fn compact_and_note(shared: Arc<Shared>) -> Result<Compacted, Refusal> {
    let shared = &shared;
    let compacted = beside(shared, SledStore::compact).await?;
    let Compacted { before_bytes, after_bytes, live_bytes } = compacted;
    tracing::info!(before_bytes, after_bytes, live_bytes, "the store was compacted");
    let detail =
        format!("the store was {before_bytes} bytes and is {after_bytes}; {live_bytes} of them are of use");
    shared.push(Message::Input(Input::Note(AuditEntry::new("compacted", "", detail)))).await;
    Ok(compacted)
}

/// Copies the store to a directory that is not there yet, and notes it in the audit log.
pub(super) async fn back_up(shared: &Arc<Shared>, to: PathBuf) -> Result<BackedUp, Refusal> {
    whole(back_up_and_note(shared.clone(), to)).await
}

async fn back_up_and_note(shared: Arc<Shared>, to: PathBuf) -> Result<BackedUp, Refusal> {
    let shared = &shared;
    let place = to.clone();
    let backed_up = beside(shared, move |store| store.back_up(&place)).await?;
    tracing::info!(to = %to.display(), bytes = backed_up.bytes, "the store was backed up");
    let detail = format!("the store was backed up to {}", to.display());
    shared.push(Message::Input(Input::Note(AuditEntry::new("backed-up", "", detail)))).await;
    Ok(backed_up)
}

/// Goes on although who asked has gone away: what was done is noted.
async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::spawn(work).await.map_err(|_| stopped())?
}

/// Does what takes long on a thread of its own.
async fn beside<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&SledStore) -> Result<T, StorageError> + Send + 'static,
) -> Result<T, Refusal> {
    let store = shared.store.clone();
    let done = tokio::task::spawn_blocking(move || work(&store)).await;
    done.map_err(|_| stopped())?.map_err(|error| match &error {
        StorageError::Busy => refusal(BUSY, error.to_string()),
        StorageError::Io { path, source } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            exists(path)
        }
        _ => refusal("disk", error.to_string()),
    })
}

fn exists(path: &Path) -> Refusal {
    let path = path.display();
    refusal("exists", format!("{path} is there already: name another directory, or move it away"))
}
