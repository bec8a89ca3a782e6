//! Carrying out wipes: the registrar's list with them is made, taken by this node and spread. What follows from it is the engine's and the
//! gateway's: the PIN's record is destroyed, connections close, and the device is served nothing any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use lanyard_crypto::gateway::Refusal;
use lanyard_crypto::x509::Certificate;
use lanyard_crypto::{Fingerprint, RecordId, Timestamp};

use crate::backend::{Backend, Note, refusal};
use crate::registrar::{Registrar, RegistrarError};
use crate::time::now;
use crate::wipes::{Order, Reason};

/// Wipes devices, or revokes a node; returns the record of the revocation list that says so, once this node holds it.
///
/// # Errors
/// What the registrar or the engine refuses. What was ordered by then is carried out with the next list.
pub async fn wipe(
    backend: &dyn Backend,
    registrar: Arc<Registrar>,
    certificates: Vec<Certificate>,
    order: Order,
) -> Result<RecordId, Refusal> {
    let devices: Vec<String> = certificates.iter().map(|c| c.fingerprint().to_string()).collect();
    note(backend, "wipe-ordered", order.reason.name(), order_detail(&order, &devices)).await;
    // Before the list is signed, so that no message of theirs is both accepted and dated after it.
    let at = backend.bar(certificates.iter().map(Certificate::fingerprint).collect()).await?;
    let network = backend.network();
    let made = move || {
        let held = network.revocation_list(&registrar.certificate().fingerprint());
        registrar.revoke(&certificates, (&order, at), held, network.id(), now())
    };
    let record = blocking(made).await?;
    let id = record.id();
    backend.submit(record).await?;
    note(backend, "revoked", "", format!("revoked: {}", devices.join(", "))).await;
    Ok(id)
}

/// Spreads a list if there is something to say: what was ordered and is in none yet, or that the last one has grown old.
///
/// # Errors
/// As [`wipe`].
pub async fn go_on(backend: &dyn Backend, registrar: Arc<Registrar>) -> Result<(), Refusal> {
    let barred = registrar.to_revoke();
    let network = backend.network();
    if barred.is_empty() && network.behind_secs(now()) > 0 {
        tracing::warn!(
            "the revocation list is not renewed while this machine's clock is behind: set the clock"
        );
        return Ok(());
    }
    let at = if barred.is_empty() { now() } else { backend.bar(barred).await? };
    let made = move || {
        let held = network.revocation_list(&registrar.certificate().fingerprint());
        registrar.refresh(held, network.id(), at)
    };
    match blocking(made).await? {
        Some(record) => backend.submit(record).await,
        None => Ok(()),
    }
}

/// Wipes devices whose PIN was tried too often. Where no registrar is, or another one has certified the device, it says so once: `told`
/// remembers that.
///
/// # Errors
/// As [`wipe`].
pub async fn wipe_spent(
    backend: &dyn Backend,
    registrar: Option<&Arc<Registrar>>,
    started: Timestamp,
    told: &mut BTreeSet<Fingerprint>,
) -> Result<(), Refusal> {
    let spent = backend.spent_pins(started).await?;
    if spent.is_empty() {
        return Ok(());
    }
    let known = registrar.map_or_else(Vec::new, |registrar| registrar.devices());
    for device in spent {
        let certified = known.iter().find(|known| known.certificate.fingerprint() == device);
        match (registrar, certified) {
            (Some(registrar), Some(certified)) => {
                let order = Order::because(Reason::PinTriedTooOften);
                wipe(backend, registrar.clone(), vec![certified.certificate.clone()], order).await?;
            }
            _ if told.insert(device) => {
                let code = Reason::PinTriedTooOften.name();
                note(backend, "wipe-needed", code, needed(&device)).await;
            }
            _ => {}
        }
    }
    Ok(())
}

/// What is said of a device that this node cannot revoke.
pub fn needed(device: &Fingerprint) -> String {
    format!(
        "the PIN of device {device} was tried too often, and this node has not certified it: wipe it at the trust's node that has          (lanyard-node device wipe)"
    )
}

/// What the audit log says of an order. It is cut to what an entry holds, so that the list of devices comes last.
fn order_detail(order: &Order, devices: &[String]) -> String {
    let by = match &order.reference {
        Some(reference) => format!("reference {reference}: "),
        None => String::new(),
    };
    format!("{by}{} devices are to be wiped: {}", devices.len(), devices.join(", "))
}

async fn note(backend: &dyn Backend, event: &'static str, code: &'static str, detail: String) {
    backend.note(Note { event, code, detail, address: None }).await;
}

/// Runs what blocks on the disk beside the asynchronous threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RegistrarError> + Send + 'static,
) -> Result<T, Refusal> {
    let worked = tokio::task::spawn_blocking(work).await;
    let worked = worked.map_err(|error| refusal("internal", error.to_string()))?;
    worked.map_err(|error| refusal("registrar", error.to_string()))
}
