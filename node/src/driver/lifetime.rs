//! How a node's runs begin and end, in its audit log: whoever reads it later sees that the node was restarted, and whether it had
//! ended in order or was killed.

use lanyard_replica::audit::{self, AuditEntry};
use lanyard_replica::{Input, Replica};
use lanyard_storage::{SledStore, StorageError, Store};

/// The event of the last entry of a run that ends in order.
const STOPPED: &str = "stopped";
/// The event of the first entry of a run.
const STARTED: &str = "started";

/// Notes that a run begins, before anything else happens in it.
///
/// # Errors
/// The store's.
pub(super) fn begin(replica: &mut Replica, store: &SledStore) -> Result<(), StorageError> {
    let entry = begun(store)?;
    tracing::info!(event = entry.event, code = entry.code, "{}", entry.detail);
    let step = replica.step(Input::Note(entry), crate::time::now(), store)?;
    store.commit(step.batch)
}

/// The entry with which a run ends in order.
pub(super) fn ended() -> AuditEntry {
    AuditEntry::new(STOPPED, "", "")
}

/// The entry with which a run begins.
fn begun(store: &SledStore) -> Result<AuditEntry, StorageError> {
    let last = audit::newest(store, &[STARTED, STOPPED])?;
    let code = match last.as_deref() {
        Some(STOPPED) => "after-stop",
        Some(_) => "after-crash",
        // What the first versions wrote holds no such entry.
        None if !audit::rows(store, None, 1)?.is_empty() => "unknown",
        None => "first",
    };
    let mut detail = format!("version {}", env!("CARGO_PKG_VERSION"));
    let reconciled = store.reconciled();
    if reconciled.keys_erased > 0 {
        detail += &format!("; {} keys of rows that are not stored were erased", reconciled.keys_erased);
    }
    if reconciled.rows_removed > 0 {
        detail += &format!("; {} rows whose keys were erased before were removed", reconciled.rows_removed);
    }
    Ok(AuditEntry::new(STARTED, code, detail))
}
