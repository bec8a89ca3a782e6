//! HTTP/1.1 with JSON over one TLS connection, as clients of Matrix use it.

use std::net::{IpAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::load::Failure;

/// From a request to the whole of its answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// One connection.
pub struct Http {
    runtime: Arc<Runtime>,
    sender: SendRequest<Full<Bytes>>,
    host: String,
    token: Option<String>,
}

/// For one client, or for several that are used by one thread.
///
/// # Errors
/// What the system says.
pub fn runtime() -> Result<Arc<Runtime>, Failure> {
    Ok(Arc::new(tokio::runtime::Builder::new_current_thread().enable_all().build()?))
}

impl Http {
    /// Connects.
    ///
    /// # Errors
    /// What the system or TLS says.
    pub fn connect(
        runtime: Arc<Runtime>,
        tls: &Arc<ClientConfig>,
        at: SocketAddrV4,
    ) -> Result<Self, Failure> {
        let sender = runtime.block_on(async {
            let tcp = TcpStream::connect(at).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::IpAddress(IpAddr::V4(*at.ip()).into());
            let tls = TlsConnector::from(tls.clone()).connect(name, tcp).await?;
            let (sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
            // Its errors come back from the request that it carries.
            tokio::spawn(async { connection.await.ok() });
            Ok::<_, Failure>(sender)
        })?;
        Ok(Self { runtime, sender, host: at.to_string(), token: None })
    }

    /// Shows this token from now on.
    pub fn authorize(&mut self, token: String) {
        self.token = Some(token);
    }

    /// Asks, and returns what was answered.
    ///
    /// # Errors
    /// What the server says unless it is a success, or what becomes of the connection.
    pub fn call(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let runtime = self.runtime.clone();
        let asked = self.ask(method, path, body);
        runtime.block_on(async move { timeout(ANSWER_TIME_MAX, asked?).await? })
    }

    /// Asks; the answer comes while the runtime is used.
    ///
    /// # Errors
    /// Of a request that cannot be made.
    pub fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<impl Future<Output = Result<Value, Failure>> + Send + 'static, Failure> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.host);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        request = request.header(CONTENT_TYPE, "application/json");
        let body = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        let answer = self.sender.send_request(request.body(Full::new(Bytes::from(body)))?);
        let path = path.to_owned();
        Ok(async move {
            let response = answer.await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            match status.is_success() {
                true => Ok(serde_json::from_slice(&body)?),
                false => Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&body)).into()),
            }
        })
    }
}
