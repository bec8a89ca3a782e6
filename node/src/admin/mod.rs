//! The operator's socket: HTTP with JSON on a Unix socket that only the node's own user may open. The
//! commands `status`, `staff`, `deletions`, `audit` and `network import` talk to the running node through it.

pub mod api;
mod client;
pub mod deletion;
pub mod devices;
mod metrics;
pub mod officer;
mod routes;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lanyard_crypto::Timestamp;
use lanyard_crypto::x509::Certificate;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::backend::Backend;
use crate::registrar::Registrar;

pub(crate) use client::ANSWER_BYTES_MAX;
pub use client::{AdminError, Client};

/// Connections that wait at the socket end with the node; a request in flight has this long.
const SHUTDOWN_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(5);
/// The longest path of a Unix socket on Linux, in bytes (unix(7)).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// What the operator's socket works with.
pub struct Admin {
    /// The node.
    pub backend: Arc<dyn Backend>,
    /// On the node that enrols staff.
    pub registrar: Option<Arc<Registrar>>,
    /// The node's own certificate.
    pub certificate: Certificate,
    /// `host:port` that invitations name.
    pub public_address: String,
    /// When the node started.
    pub started: Timestamp,
}

/// Binds the socket, for its owner alone. One that is left over from a node that crashed is replaced.
///
/// # Errors
/// Another node answers at it, or the system refuses.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
        let message = format!(
            "the path has more than {SOCKET_PATH_BYTES_MAX} bytes; set `admin.socket` to a shorter one"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    if path.exists() {
        if BlockingUnixStream::connect(path).is_ok() {
            let message = "another node is running with this socket; stop it first";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the operator until `stop` becomes true, then removes the socket.
pub async fn serve(
    admin: Arc<Admin>,
    listener: UnixListener,
    path: PathBuf,
    mut stop: watch::Receiver<bool>,
) {
    let mut stopped = stop.clone();
    let serving = axum::serve(listener, routes::router(admin)).with_graceful_shutdown(async move {
        // An error means that who would stop us is gone, which is a reason to stop.
        let _ = stop.wait_for(|stop| *stop).await;
    });
    let ended = async {
        let _ = stopped.wait_for(|stop| *stop).await;
        tokio::time::sleep(SHUTDOWN_TIME_MAX).await;
    };
    tokio::select! {
        served = serving.into_future() => {
            if let Err(error) = served {
                tracing::error!(%error, "the operator's socket failed");
            }
        }
        () = ended => {}
    }
    // The next start replaces a socket that could not be removed.
    let _ = timeout(SHUTDOWN_TIME_MAX, tokio::fs::remove_file(path)).await;
}
