//! Carrying out wipes: the registrar's list with them is made, taken by this node and spread. What follows from it is the engine's and the
//! gateway's: the PIN's record is destroyed, connections close, and the device is served nothing any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use lanyard_crypto::gateway::Refusal;
use lanyard_crypto::x509::{Certificate, Purpose};
use lanyard_crypto::{Fingerprint, RecordId, Timestamp};

use crate::backend::{Backend, Note, refusal};
use crate::registrar::{Device, Registrar, RegistrarError};
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
    registrar.check_own(&certificates).map_err(refused)?;
    note_ordered(backend, &order, &certificates).await;
    // Before the list is signed, so that no message of theirs is both accepted and dated after it.
    let at = backend.bar(certificates.iter().map(Certificate::fingerprint).collect()).await?;
    let network = backend.network();
    let revoked = format!("revoked: {}", fingerprints(&certificates));
    let made = move || {
        let held = network.revocation_list(&registrar.certificate().fingerprint());
        registrar.revoke(&certificates, (&order, at), held, network.id(), now())
    };
    let record = blocking(made).await?;
    let id = record.id();
    backend.submit(record).await?;
    note(backend, "revoked", "", revoked).await;
    Ok(id)
}

/// Spreads a list if there is something to say: what was ordered and is in none yet, or that the last one has grown old.
///
/// # Errors
/// As [`wipe`].
pub async fn go_on(backend: &dyn Backend, registrar: Arc<Registrar>) -> Result<(), Refusal> {
    let ordered = registrar.clone();
    let pending = blocking(move || Ok(ordered.pending(now()))).await?;
    let network = backend.network();
    if pending.is_empty() && network.behind_secs(now()) > 0 {
        tracing::warn!(
            "the revocation list is not renewed while this machine's clock is behind: set the clock"
        );
        return Ok(());
    }
    let at = match &pending[..] {
        [] => now(),
        pending => backend.bar(pending.iter().map(Certificate::fingerprint).collect()).await?,
    };
    let made = move || {
        let held = network.revocation_list(&registrar.certificate().fingerprint());
        let record = registrar.refresh((&pending, at), held, network.id(), now())?;
        // All of them, or none if the list is full.
        let is_listed =
            |c: &Certificate| registrar.device(&c.fingerprint()).is_some_and(|d| d.revoked.is_some());
        let listed: Vec<Certificate> = pending.into_iter().filter(is_listed).collect();
        Ok((record, listed))
    };
    let (record, listed) = blocking(made).await?;
    if let Some(record) = record {
        backend.submit(record).await?;
    }
    if !listed.is_empty() {
        note(backend, "revoked", "", format!("revoked: {}", fingerprints(&listed))).await;
    }
    Ok(())
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
    let order = Order::because(Reason::PinTriedTooOften);
    let (mut ours, mut failed) = (None, None);
    for device in spent {
        let certified = registrar.and_then(|registrar| Some((registrar, registrar.device(&device)?)));
        if let Some((registrar, Device { certificate, revoked: _ })) = certified {
            let (ordering, wiped, because) = (registrar.clone(), certificate.clone(), order.clone());
            match blocking(move || Ok(ordering.wipes.order(&wiped, &because, now())?)).await {
                Ok(true) => note_ordered(backend, &order, &[certificate]).await,
                Ok(false) => {}
                // The others are not to wait for it.
                Err(error) => failed = Some(error),
            }
            ours = Some(registrar);
        } else if told.insert(device) {
            note(backend, "wipe-needed", order.reason.name(), needed(&device)).await;
        }
    }
    if let Some(registrar) = ours {
        go_on(backend, registrar.clone()).await?;
    }
    failed.map_or(Ok(()), Err)
}

/// What is said of a device that this node cannot revoke.
pub fn needed(device: &Fingerprint) -> String {
    format!(
        "the PIN of device {device} was tried too often, and this node has not certified it: wipe it at the trust's node that has (lanyard-node device wipe)"
    )
}

/// The audit log's word of an order. It is cut to what an entry holds, so that the list comes last.
async fn note_ordered(backend: &dyn Backend, order: &Order, certificates: &[Certificate]) {
    let by = match &order.reference {
        Some(reference) => format!("reference {reference}: "),
        None => String::new(),
    };
    let (devices, others) =
        certificates.iter().partition::<Vec<_>, _>(|certificate| certificate.purpose() == Purpose::Device);
    let what = match (devices.len(), others.len()) {
        (devices, 0) => format!("{devices} devices are to be wiped"),
        (0, others) => format!("{others} certificates are to be revoked"),
        (devices, others) => {
            format!("{devices} devices are to be wiped, and {others} certificates to be revoked")
        }
    };
    let detail = format!("{by}{what}: {}", fingerprints(certificates));
    note(backend, "wipe-ordered", order.reason.name(), detail).await;
}

fn fingerprints(certificates: &[Certificate]) -> String {
    certificates.iter().map(|c| c.fingerprint().to_string()).collect::<Vec<_>>().join(", ")
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
    worked.map_err(refused)
}

fn refused(error: RegistrarError) -> Refusal {
    refusal("registrar", error.to_string())
}
