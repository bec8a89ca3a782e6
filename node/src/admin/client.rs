//! The commands' side of the operator's socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Method, Request};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use lanyard_crypto::gateway::Refusal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// An answer, in bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A node that is busy syncing its disk may take a while; one that hangs must not hang its operator.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);
/// Copying a large store takes as long as the disk takes.
const COPY_TIME_MAX: Duration = Duration::from_secs(12 * 3600);

/// Why the running node did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens.
    #[error("{}: no running node answers here ({reason}); start it: lanyard-node run", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The system's words.
        reason: io::Error,
    },
    /// The connection broke, or took too long.
    #[error("the node did not answer: {0}")]
    Lost(String),
    /// It said no.
    #[error("the node refused: {}", .0.message)]
    Refused(Refusal),
    /// It said what this program does not understand.
    #[error("the node's answer is not understood; is it of another version? ({0})")]
    Answer(String),
}

/// Asks the running node.
pub struct Client {
    path: PathBuf,
    time_max: Duration,
}

impl Client {
    /// The node behind this socket.
    pub fn new(path: &Path) -> Self {
        Self { path: path.into(), time_max: ANSWER_TIME_MAX }
    }

    /// Waits as long as it takes to copy a store.
    pub fn patient(self) -> Self {
        Self { time_max: COPY_TIME_MAX, ..self }
    }

    /// Reads something.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, AdminError> {
        self.ask(Method::GET, target, Vec::new())
    }

    /// Asks for something, with a JSON body.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn post<T: DeserializeOwned>(&self, target: &str, body: &impl Serialize) -> Result<T, AdminError> {
        let body = serde_json::to_vec(body).expect("our own types have no keys but text");
        self.ask(Method::POST, target, body)
    }

    /// Hands over bytes.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn post_bytes<T: DeserializeOwned>(&self, target: &str, body: Vec<u8>) -> Result<T, AdminError> {
        self.ask(Method::POST, target, body)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn get_text(&self, target: &str) -> Result<String, AdminError> {
        let bytes = self.ask_bytes(Method::GET, target, Vec::new())?;
        String::from_utf8(bytes.into()).map_err(|e| AdminError::Answer(e.to_string()))
    }

    fn ask<T: DeserializeOwned>(&self, method: Method, target: &str, body: Vec<u8>) -> Result<T, AdminError> {
        let bytes = self.ask_bytes(method, target, body)?;
        serde_json::from_slice(&bytes).map_err(|e| AdminError::Answer(e.to_string()))
    }

    fn ask_bytes(
        &self,
        method: Method,
        target: &str,
        body: Vec<u8>,
    ) -> Result<axum::body::Bytes, AdminError> {
        let lost = |e: &dyn std::error::Error| AdminError::Lost(e.to_string());
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| lost(&e))?;
        let asked = async {
            match timeout(self.time_max, self.exchange(method, target, body)).await {
                Ok(answer) => answer,
                Err(_) => {
                    Err(AdminError::Lost(format!("no answer within {} seconds", self.time_max.as_secs())))
                }
            }
        };
        match runtime.block_on(asked)? {
            (true, bytes) => Ok(bytes),
            (false, bytes) => {
                let refusal =
                    serde_json::from_slice(&bytes).map_err(|e| AdminError::Answer(e.to_string()))?;
                Err(AdminError::Refused(refusal))
            }
        }
    }

    async fn exchange(
        &self,
        method: Method,
        target: &str,
        body: Vec<u8>,
    ) -> Result<(bool, axum::body::Bytes), AdminError> {
        let lost = |e: &dyn std::error::Error| AdminError::Lost(e.to_string());
        let stream = UnixStream::connect(&self.path).await;
        let stream = stream.map_err(|reason| AdminError::Unreachable { path: self.path.clone(), reason })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| lost(&e))?;
        // It ends with the sender, and what goes wrong in it is what the sender reports.
        let moved = tokio::spawn(connection);
        let request =
            Request::builder().method(method).uri(target).header("host", "localhost").body(Body::from(body));
        let response = sender.send_request(request.map_err(|e| lost(&e))?).await.map_err(|e| lost(&e))?;
        let status = response.status();
        let bytes =
            to_bytes(Body::new(response.into_body()), ANSWER_BYTES_MAX).await.map_err(|e| lost(&e))?;
        moved.abort();
        Ok((status.is_success(), bytes))
    }
}
