//! The clients' gateway: HTTPS with mutual TLS for the trust's own devices (`docs/reference/http.md`).
//!
//! A connection is bounded from its first byte (limits in [`limits`]), and is judged three times: when TLS
//! shows the device's certificate, at each request, and once a second while it is open, so that a device
//! which is revoked loses its live connections, event streams included.

mod body;
mod events;
mod limits;
mod pin;
mod routes;
mod session;
mod sign_in;
mod wipe;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use lanyard_crypto::Fingerprint;
use lanyard_crypto::charter::TrustRetention;
use lanyard_crypto::gateway::TextPattern;
use lanyard_crypto::mls::ReviewTerms;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::{self, timeout};
use tokio_rustls::TlsAcceptor;

use crate::backend::{Backend, Note};
use crate::policy::Policy;
use crate::refusals::{AGAIN, COUNT_INTERVAL, COUNTED, Refusals};
use crate::registrar::Registrar;
use body::Refused;
use session::{Crowd, Place, Session, counted_as};

/// What the gateway works with.
pub struct Gateway {
    backend: Arc<dyn Backend>,
    registrar: Option<Arc<Registrar>>,
    /// How long this trust keeps messages of its own conversations.
    retention: TrustRetention,
    /// How often the members of its own conversations are to be reviewed, and what identifies a patient: told to clients.
    review: ReviewTerms,
    patterns: Vec<TextPattern>,
    pins: pin::Pins,
    enrolments: Semaphore,
    presence: session::Presence,
    stop: watch::Receiver<bool>,
    devices: Arc<Crowd<Fingerprint>>,
    addresses: Arc<Crowd<IpAddr>>,
    /// Those without a device certificate, at each address and in all.
    unproven: Arc<Crowd<IpAddr>>,
    strangers: Semaphore,
    stranger_time_max: Duration,
    refusals: Refusals,
}

impl Gateway {
    /// A gateway before it listens; it ends when `stop` becomes true.
    pub fn new(
        backend: Arc<dyn Backend>,
        registrar: Option<Arc<Registrar>>,
        policy: Policy,
        stop: watch::Receiver<bool>,
    ) -> Arc<Self> {
        Arc::new(Self {
            backend,
            registrar,
            retention: policy.retention,
            pins: pin::Pins::new(&policy),
            review: policy.review,
            patterns: policy.patterns,
            enrolments: Semaphore::new(limits::ENROLMENTS_MAX),
            presence: session::Presence::default(),
            stop,
            devices: Crowd::new(limits::CONNECTIONS_PER_DEVICE_MAX),
            addresses: Crowd::new(limits::CONNECTIONS_PER_ADDRESS_MAX),
            unproven: Crowd::new(limits::STRANGERS_PER_ADDRESS_MAX),
            strangers: Semaphore::new(limits::STRANGERS_MAX),
            stranger_time_max: limits::STRANGER_TIME_MAX,
            refusals: Refusals::default(),
        })
    }

    /// Serves clients until it is told to stop; then lets requests in flight finish, for a bounded time.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, tls: ServerConfig) {
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let router = routes::router(self.clone()).layer(from_fn(bounded));
        let connections = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
        let handshakes = Arc::new(Semaphore::new(limits::HANDSHAKES_MAX));
        let mut stop = self.stop.clone();
        let mut counting = time::interval(COUNT_INTERVAL);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = counting.tick() => {
                    self.note_counted(AGAIN).await;
                    continue;
                }
                () = stopped(&mut stop) => break,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Such as too many open files: trying again at once would only burn time.
                    tracing::warn!(%error, "the gateway cannot accept a connection");
                    time::sleep(limits::RECHECK_INTERVAL).await;
                    continue;
                }
            };
            let (Ok(place), Ok(handshake)) =
                (connections.clone().try_acquire_owned(), handshakes.clone().try_acquire_owned())
            else {
                continue;
            };
            let from = counted_as(remote.ip());
            let (Some(address), Some(unproven)) = (self.addresses.enter(from), self.unproven.enter(from))
            else {
                continue;
            };
            let (gateway, acceptor, router) = (self.clone(), acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let tls = gateway.clone().handshake(acceptor, stream, remote).await;
                drop(handshake);
                if let Some((tls, session)) = tls {
                    gateway.connection(tls, session, unproven, router).await;
                }
                drop((place, address));
            });
        }
        let all = u32::try_from(limits::CONNECTIONS_MAX).unwrap_or(u32::MAX);
        if timeout(limits::SHUTDOWN_TIME_MAX, connections.acquire_many(all)).await.is_err() {
            tracing::warn!("some clients' connections did not finish in time");
        }
        self.note_counted(Duration::ZERO).await;
    }

    async fn handshake(
        self: Arc<Self>,
        acceptor: TlsAcceptor,
        stream: TcpStream,
        remote: SocketAddr,
    ) -> Option<(Tls, Session)> {
        // Small answers must not wait for more. A socket that cannot do so is merely slower.
        let _ = stream.set_nodelay(true);
        match timeout(limits::HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await {
            Ok(Ok(tls)) => {
                let shown = tls.get_ref().1.peer_certificates();
                let chain = shown.map(|chain| chain.iter().map(|c| c.to_vec()).collect());
                Some((tls, Session::new(chain, remote)))
            }
            Ok(Err(error)) => {
                self.refuse_connection(remote, &error).await;
                None
            }
            Err(_) => None,
        }
    }

    async fn connection(
        self: Arc<Self>,
        tls: Tls,
        session: Session,
        unproven: Place<IpAddr>,
        router: Router,
    ) {
        let Some(_seat) = self.seat(&session, unproven) else {
            tracing::debug!("a device, or those without a certificate, have too many connections");
            return;
        };
        let is_stranger = session.fingerprint().is_none();
        let mut end = pin!(time::sleep(self.stranger_time_max));
        let session = Arc::new(session);
        // With each request, and not as a layer of a router of its own, of which every connection would hold all routes.
        let (router, shown) = (TowerToHyperService::new(router), session.clone());
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(shown.clone());
            router.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HEADER_TIME_MAX)
            .max_headers(limits::HEADERS_MAX)
            .max_buf_size(limits::HEADERS_BYTES_MAX)
            .serve_connection(TokioIo::new(tls), service);
        let mut connection = pin!(connection);
        let mut stop = self.stop.clone();
        let mut stopping = false;
        let mut recheck = time::interval(limits::RECHECK_INTERVAL);
        let mut last = None;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a client's connection ended");
                    }
                    return;
                }
                () = end.as_mut(), if is_stranger => return,
                () = stopped(&mut stop), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                _ = recheck.tick() => {
                    if let Err(why) = session.is_welcome(&self, &mut last) {
                        let (event, code) = ("device-closed", "device-refused");
                        let detail = format!("a device's connection was closed: {why}");
                        let note = Note { event, code, detail, address: None };
                        self.backend.note(note).await;
                        return;
                    }
                }
            }
        }
    }

    /// A place among the connections of its device, or among the few for those who have shown no certificate.
    fn seat(&self, session: &Session, unproven: Place<IpAddr>) -> Option<Seat<'_>> {
        Some(match session.fingerprint() {
            Some(device) => (Some(self.devices.enter(device)?), None),
            None => (None, Some((self.strangers.try_acquire().ok()?, unproven))),
        })
    }

    /// Refused certificates belong in the audit log; strangers must not be able to fill it.
    async fn refuse_connection(&self, remote: SocketAddr, error: &io::Error) {
        let certificate = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        let Some(rustls::Error::InvalidCertificate(why)) = certificate else {
            tracing::debug!(%error, "a client's TLS handshake failed");
            return;
        };
        let text = format!("a device's certificate was refused: {}", certificate_text(why));
        self.note_refusal("refused", "device-refused", &text, remote).await;
    }

    /// Notes that somebody at this address was refused, unless that is not news.
    async fn note_refusal(&self, event: &'static str, code: &'static str, text: &str, remote: SocketAddr) {
        let whom = counted_as(remote.ip()).to_string();
        if let Some(detail) = self.refusals.admit(code, &whom, text) {
            let address = Some(remote.to_string());
            self.backend.note(Note { event, code, detail, address }).await;
        }
    }
}

impl Gateway {
    /// Notes how many refusals were left out.
    async fn note_counted(&self, at_least: Duration) {
        for (code, detail) in self.refusals.counted(at_least) {
            self.backend.note(Note { event: COUNTED, code, detail, address: None }).await;
        }
    }
}

/// Held while a connection is open.
type Seat<'a> = (Option<Place<Fingerprint>>, Option<(SemaphorePermit<'a>, Place<IpAddr>)>);

/// Resolves once the node stops, or if who would stop it is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

type Tls = tokio_rustls::server::TlsStream<TcpStream>;

fn certificate_text(error: &rustls::CertificateError) -> String {
    match error {
        rustls::CertificateError::Other(other) => other.0.to_string(),
        plain => format!("{plain:?}"),
    }
}

/// Every request has an end. An event stream's answer begins at once, and its end is not the request's.
async fn bounded(request: Request, next: Next) -> Response {
    match timeout(limits::REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refused::new("timed-out", "the request took too long; try again").into_response(),
    }
}
