//! HTTPS to the identity provider: one request, one connection, judged by the configured authorities alone. No redirect is followed:
//! what the provider publishes is where it is. Every wait and every length is bounded.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use openidconnect::{HttpRequest, HttpResponse};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// From the request to the last byte of its answer.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// An answer, in bytes: keys and a token are a few KiB.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Headers of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// Not an address that may be asked.
    #[error("its address is not https://HOST")]
    Address,
    /// No connection, or it does not prove to be the provider.
    #[error("no connection to it: {0}")]
    Connection(#[from] io::Error),
    /// The connection broke.
    #[error("the connection to it broke: {0}")]
    Broken(#[from] hyper::Error),
    /// The answer is too long, or broke off.
    #[error("its answer broke off, or has more than {ANSWER_BYTES_MAX} bytes")]
    Body,
    /// Too late.
    #[error("it did not answer within {} seconds", ANSWER_TIME_MAX.as_secs())]
    Late,
}

/// How the provider is asked.
#[derive(Clone)]
pub(super) struct Https {
    tls: TlsConnector,
}

impl Https {
    /// With these authorities' word for who is the provider.
    pub(super) fn new(authorities: RootCertStore) -> Result<Self, rustls::Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(authorities)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Asks once.
    pub(super) async fn ask(self, request: HttpRequest) -> Result<HttpResponse, HttpsError> {
        timeout(ANSWER_TIME_MAX, self.exchange(request)).await.map_err(|_| HttpsError::Late)?
    }

    async fn exchange(self, request: HttpRequest) -> Result<HttpResponse, HttpsError> {
        let (mut parts, body) = request.into_parts();
        let uri = parts.uri.clone();
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("https"));
        let authority = authority.ok_or(HttpsError::Address)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let named = HeaderValue::from_str(authority.as_str()).map_err(|_| HttpsError::Address)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = path.parse().map_err(|_| HttpsError::Address)?;
        parts.headers.insert(HOST, named);
        let server = ServerName::try_from(host.clone()).map_err(|_| HttpsError::Address)?;
        let stream = TcpStream::connect((host.as_str(), authority.port_u16().unwrap_or(443))).await?;
        let stream = self.tls.connect(server, stream).await?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
            .await?;
        let request = hyper::Request::from_parts(parts, Full::new(Bytes::from(body)));
        let answer = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|_| HttpsError::Body)?;
            Ok(HttpResponse::from_parts(parts, body.to_bytes().to_vec()))
        };
        // The connection is driven here, and ends with the answer.
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = answer.as_mut() => answer,
            driven = connection => {
                driven?;
                answer.await
            }
        }
    }
}
