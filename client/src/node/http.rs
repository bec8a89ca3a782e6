//! HTTP/1.1 over one TLS connection that is kept while it lasts. Every wait and every length is bounded.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use lanyard_crypto::cbor;
use lanyard_crypto::gateway::{MEDIA_TYPE, RESPONSE_BYTES_MAX, Refusal};
use lanyard_crypto::pin::SessionToken;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::NodeError;

/// To connect and to finish the TLS handshake.
const CONNECT_SECS_MAX: u64 = 15;
/// From a request to the whole of its answer.
const ANSWER_SECS_MAX: u64 = 60;
/// A connection that was idle for so long is not used again: the node ends it after 30 s.
const IDLE_SECS_MAX: u64 = 20;
/// A refusal, in bytes: a code and a sentence or two.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;
/// Headers of an answer, in bytes; the node sends a few hundred.
const HEAD_BYTES_MAX: usize = 16 * 1024;

type Sender = SendRequest<Full<Bytes>>;

/// Where the node is, and how it is talked to.
pub(super) struct Http {
    runtime: Arc<Runtime>,
    tls: TlsConnector,
    address: String,
    host: ServerName<'static>,
    kept: Option<(Sender, Instant)>,
    server_chain: Vec<Vec<u8>>,
    token: Option<SessionToken>,
}

impl Http {
    /// For the node at `address`, `host:port`. Connects at the first request.
    pub(super) fn new(address: &str, tls: ClientConfig) -> Result<Self, NodeError> {
        let wrong = || NodeError::Address(address.to_owned());
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        port.parse::<u16>().map_err(|_| wrong())?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let host = ServerName::try_from(host).map_err(|_| wrong())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            runtime: Arc::new(runtime.map_err(NodeError::Machine)?),
            tls: TlsConnector::from(Arc::new(tls)),
            address: address.to_owned(),
            host,
            kept: None,
            server_chain: Vec::new(),
            token: None,
        })
    }

    pub(super) fn authorize(&mut self, token: Option<SessionToken>) {
        self.token = token;
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn runtime(&self) -> Arc<Runtime> {
        self.runtime.clone()
    }

    /// The certificates that the node showed when it was last connected to, DER, its own first; none before
    /// that.
    pub(super) fn server_chain(&self) -> &[Vec<u8>] {
        &self.server_chain
    }

    /// Asks, and returns the body of the answer, if that is a success.
    pub(super) fn call(&mut self, method: Method, path: &str, body: Vec<u8>) -> Result<Vec<u8>, NodeError> {
        let runtime = self.runtime.clone();
        let all = async {
            let response = self.exchange(method, path, MEDIA_TYPE, body).await?;
            self.body_of(response).await
        };
        let outcome = runtime.block_on(async { timeout(Duration::from_secs(ANSWER_SECS_MAX), all).await });
        if !matches!(outcome, Ok(Ok(_) | Err(NodeError::Refused { .. }))) {
            // What is left of an answer must not be taken for the next one.
            self.kept = None;
        }
        outcome.unwrap_or_else(|_| Err(self.timed_out(ANSWER_SECS_MAX)))
    }

    /// Asks for a stream, on a connection of its own, and returns its body.
    pub(super) fn stream(&mut self, path: &str, media_type: &str) -> Result<Incoming, NodeError> {
        let runtime = self.runtime.clone();
        let all = async {
            let kept = self.kept.take();
            let response = self.exchange(Method::GET, path, media_type, Vec::new()).await;
            self.kept = kept;
            let response = response?;
            if response.status().is_success() {
                Ok(response.into_body())
            } else {
                Err(self.refusal(response).await)
            }
        };
        let outcome = runtime.block_on(async { timeout(Duration::from_secs(ANSWER_SECS_MAX), all).await });
        outcome.unwrap_or_else(|_| Err(self.timed_out(ANSWER_SECS_MAX)))
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        accept: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, NodeError> {
        let mut usable = None;
        if let Some((mut kept, since)) = self.kept.take()
            && since.elapsed() < Duration::from_secs(IDLE_SECS_MAX)
        {
            usable = kept.ready().await.is_ok().then_some(kept);
        }
        let mut sender = match usable {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(HOST, &self.address).header(ACCEPT, accept);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, MEDIA_TYPE);
        }
        if let Some(token) = &self.token {
            let value = HeaderValue::from_str(&token.to_header());
            let mut value = value.expect("a word and hexadecimal digits are a header's value");
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(|e| self.protocol(format!("to no valid request: {e}")))?;
        let mut answer = sender.send_request(request.clone()).await;
        // The node closed the kept connection at the same moment; the request was never sent.
        if answer.as_ref().is_err_and(hyper::Error::is_canceled) {
            sender = self.connect().await?;
            answer = sender.send_request(request).await;
        }
        let answer = answer.map_err(|e| NodeError::talking(&self.address, e))?;
        self.kept = Some((sender, Instant::now()));
        Ok(answer)
    }

    async fn connect(&mut self) -> Result<Sender, NodeError> {
        let connecting = async {
            // `host:port` and `[v6]:port` are both forms that the resolver reads.
            let tcp = TcpStream::connect(&self.address).await?;
            tcp.set_nodelay(true)?;
            self.tls.connect(self.host.clone(), tcp).await
        };
        let connected: io::Result<_> = timeout(Duration::from_secs(CONNECT_SECS_MAX), connecting)
            .await
            .map_err(|_| self.timed_out(CONNECT_SECS_MAX))?;
        let tls = connected.map_err(|e| NodeError::connecting(&self.address, e))?;
        let shown = tls.get_ref().1.peer_certificates().unwrap_or_default();
        self.server_chain = shown.iter().map(|c| c.to_vec()).collect();
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(tls))
            .await
            .map_err(|e| NodeError::talking(&self.address, e))?;
        // Its errors come back from the request that it carries.
        tokio::spawn(async { connection.await.ok() });
        Ok(sender)
    }

    async fn body_of(&self, response: Response<Incoming>) -> Result<Vec<u8>, NodeError> {
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let body = Limited::new(response.into_body(), RESPONSE_BYTES_MAX).collect().await;
        Ok(body
            .map_err(|e| self.protocol(format!("with a body that breaks off or is too long ({e})")))?
            .to_bytes()
            .into())
    }

    async fn refusal(&self, response: Response<Incoming>) -> NodeError {
        let status = response.status();
        let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await;
        let refusal =
            body.ok().and_then(|b| cbor::from_slice::<Refusal>(&b.to_bytes(), REFUSAL_BYTES_MAX).ok());
        match refusal {
            Some(refusal) => NodeError::Refused { status: status.as_u16(), refusal },
            None => self.protocol(format!("with status {status}")),
        }
    }

    pub(super) fn protocol(&self, what: String) -> NodeError {
        NodeError::Protocol { address: self.address.clone(), what }
    }

    fn timed_out(&self, secs: u64) -> NodeError {
        NodeError::TimedOut { address: self.address.clone(), secs }
    }
}
