//! The gateway over real TLS on the loopback address, with a node behind it that remembers what it is asked.

mod node;
mod packages;
mod pins;
mod strangers;
mod wipes;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use lanyard_crypto::charter::TrustRetention;
use lanyard_crypto::gateway::{
    ERASURES_MAX, EnrolRequest, EnrolResponse, ErasuresRequest, InboxResponse, KeyPackageRequest,
    RESPONSE_BYTES_MAX, Refusal, SeenRequest, SignInRequest, TrustResponse,
};
use lanyard_crypto::pin::SessionToken;
use lanyard_crypto::record::Body as RecordBody;
use lanyard_crypto::x509::request::CertificateRequest;
use lanyard_crypto::x509::{Certificate, Purpose, SecretKey};
use lanyard_crypto::{ConversationId, Timestamp, cbor};
use lanyard_replica::pin::{Hidden, PinRequest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::*;
use crate::registrar::Contact;
use crate::testing::Trust;
use crate::time::now;
use crate::wipes::{Order, Reason};
use node::TestNode;

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Duration = Duration::from_secs(10);

/// A gateway that serves, and what is behind it.
struct Running {
    trust: Trust,
    node: Arc<TestNode>,
    registrar: Arc<Registrar>,
    remote: SocketAddr,
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
}

/// A device's key and chain, as the client's TLS shows it.
struct Shown {
    key: SecretKey,
    chain: Vec<Vec<u8>>,
}

impl Running {
    async fn start() -> Self {
        Self::start_with(limits::STRANGER_TIME_MAX).await
    }

    async fn start_with(stranger_time_max: Duration) -> Self {
        let trust = Trust::new("RYJ");
        let node = TestNode::new(&trust);
        let registrar = Arc::new(trust.registrar());
        let (stop, stopped) = watch::channel(false);
        let backend: Arc<dyn Backend> = node.clone();
        let mut gateway = Gateway::new(
            backend,
            Some(registrar.clone()),
            Policy {
                retention: TrustRetention { secs_max: Some(24 * 3600), ..TrustRetention::default() },
                ..Policy::default()
            },
            stopped,
        );
        Arc::get_mut(&mut gateway).unwrap().stranger_time_max = stranger_time_max;
        let (key, certificate) = trust.node(ADDRESS, now());
        let chain =
            [&certificate, &trust.registrar_certificate, &trust.root].map(|c| c.der().to_vec()).into();
        let trusted = node.clone();
        let tls =
            crate::tls::server_config(chain, &key, trust.id.clone(), Arc::new(move || trusted.network()))
                .unwrap();
        let listener = TcpListener::bind((ADDRESS, 0)).await.unwrap();
        let remote = listener.local_addr().unwrap();
        let served = tokio::spawn(gateway.serve(listener, tls));
        Self { trust, node, registrar, remote, stop, served }
    }

    /// A device that was certified without an invitation.
    fn device(&self, name: &str) -> (Shown, Certificate) {
        let (key, certificate) = self.trust.device(name, now(), 3600);
        (self.shown(key, &certificate), certificate)
    }

    /// As enrolling does: the directory has the device, and it may set its first PIN by what is returned.
    async fn enter(&self, certificate: &Certificate) -> SessionToken {
        let network = self.node.network().id();
        let entry = self.registrar.entry(network, certificate, Contact::None, now()).unwrap();
        self.node.submit(entry).await.unwrap();
        let right = SessionToken::random().unwrap();
        let proof = *right.proof().as_bytes();
        self.node.pin(certificate.fingerprint(), PinRequest::Enrolled { proof }).await.unwrap();
        right
    }

    /// A session of the device, whose PIN nobody will have to prove.
    async fn unlock(&self, certificate: &Certificate) -> SessionToken {
        let (right, opened) = (self.enter(certificate).await, SessionToken::random().unwrap());
        let [shown, proof] = [&right, &opened].map(|token| *token.proof().as_bytes());
        let record = Hidden(Zeroizing::new(vec![7; 192]));
        self.node.pin(certificate.fingerprint(), PinRequest::Set { record, proof, shown }).await.unwrap();
        opened
    }

    fn shown(&self, key: SecretKey, certificate: &Certificate) -> Shown {
        Shown {
            key,
            chain: vec![certificate.der().to_vec(), self.trust.registrar_certificate.der().to_vec()],
        }
    }

    async fn connect(&self, shown: Option<Shown>) -> SendRequest<Body> {
        self.connect_from(1, shown).await
    }

    /// A socket with the address 127.0.0.`host`.
    async fn socket(&self, host: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
        socket.connect(self.remote).await.unwrap()
    }

    async fn connect_from(&self, host: u8, shown: Option<Shown>) -> SendRequest<Body> {
        let stream = self.socket(host).await;
        let connector = TlsConnector::from(Arc::new(client_config(shown)));
        let tls = connector.connect(ServerName::from(ADDRESS), stream).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

fn client_config(shown: Option<Shown>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    match shown {
        None => builder.with_no_client_auth(),
        Some(Shown { key, chain }) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8_der().to_vec()));
            builder.with_client_auth_cert(chain.into_iter().map(CertificateDer::from).collect(), key).unwrap()
        }
    }
}

/// These tests are about the server's judgement, not the client's.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        assert_eq!(intermediates.len(), 2, "the registrar and the root follow");
        assert!(Certificate::parse(end_entity).unwrap().names_host("127.0.0.1"));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("only TLS 1.3 is offered")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

async fn ask(
    sender: &mut SendRequest<Body>,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> (StatusCode, Vec<u8>) {
    let request =
        Request::builder().method(method).uri(path).header("host", "node").body(Body::from(body)).unwrap();
    send(sender, request).await
}

/// As [`ask`], by a device that is unlocked.
async fn ask_by(
    token: &SessionToken,
    sender: &mut SendRequest<Body>,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> (StatusCode, Vec<u8>) {
    let request = Request::builder().method(method).uri(path).header("host", "node");
    let request = request.header("authorization", token.to_header().as_str());
    send(sender, request.body(Body::from(body)).unwrap()).await
}

async fn send(sender: &mut SendRequest<Body>, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let response = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(Body::new(response.into_body()), RESPONSE_BYTES_MAX).await.unwrap();
    (status, bytes.to_vec())
}

fn read<T: Serialize + DeserializeOwned>(answer: &(StatusCode, Vec<u8>), status: StatusCode) -> T {
    assert_eq!(answer.0, status, "{:?}", cbor::from_slice::<Refusal>(&answer.1, 4096));
    cbor::from_slice(&answer.1, RESPONSE_BYTES_MAX).unwrap()
}

#[tokio::test]
async fn an_invited_person_enrols_and_is_then_known() {
    let running = Running::start().await;
    let made =
        running.registrar.invitations.make(running.trust.invitee("Dr Ada Okafor"), 3600, now()).unwrap();
    let key = SecretKey::generate().unwrap();
    let request = CertificateRequest::create(&key, None).unwrap().der().to_vec();
    let enrol = |code: &[u8]| {
        let (invitation, code, request) = (made.id.clone(), code.to_vec(), request.clone());
        cbor::to_vec(&EnrolRequest { invitation, code, request, sign_in: None })
    };
    let mut stranger = running.connect(None).await;
    let answer = ask(&mut stranger, Method::GET, "/v1/inbox", Vec::new()).await;
    assert_eq!(read::<Refusal>(&answer, StatusCode::UNAUTHORIZED).code, "no-certificate");
    let answer = ask(&mut stranger, Method::POST, "/v1/enrol", enrol(&[0; 16])).await;
    assert_eq!(read::<Refusal>(&answer, StatusCode::FORBIDDEN).code, "invitation");
    let sign_in = SignInRequest { invitation: made.id.clone(), code: made.code.to_vec(), port: 49_152 };
    let answer = ask(&mut stranger, Method::POST, "/v1/enrol/sign-in", cbor::to_vec(&sign_in)).await;
    assert_eq!(read::<Refusal>(&answer, StatusCode::UNPROCESSABLE_ENTITY).code, "no-identity-provider");

    // What others sign is hours later: nobody is certified by this clock, and the invitation stays as it is.
    running.node.set_floor(now().plus_secs(5 * 3600));
    let answer = ask(&mut stranger, Method::POST, "/v1/enrol", enrol(&made.code)).await;
    assert_eq!(read::<Refusal>(&answer, StatusCode::SERVICE_UNAVAILABLE).code, "clock-behind");
    running.node.set_floor(Timestamp::default());

    let answer = ask(&mut stranger, Method::POST, "/v1/enrol", enrol(&made.code)).await;
    let enrolled: EnrolResponse = read(&answer, StatusCode::OK);
    assert_eq!(enrolled.charter, running.trust.charter().bytes().to_vec());
    let identity = running.trust.network().verify_chain(&enrolled.chain, Purpose::Device, now()).unwrap();
    assert_eq!(identity.certificate.subject().common_name, "Dr Ada Okafor");
    assert_eq!(identity.certificate.public_key(), &key.public());

    // Until a PIN is set, what it was given admits to that alone; enrolling again gives it anew.
    let right = |enrolled: &EnrolResponse| {
        SessionToken::from_bytes(&enrolled.first_pin.as_slice().try_into().unwrap())
    };
    let package = packages::of(&running, &key, &identity.certificate);
    let shown = running.shown(key, &identity.certificate);
    let sender = running.connect(Some(shown)).await;
    let (fingerprint, trust) = (identity.fingerprint(), running.trust.id.clone());
    let mut device = pins::Handset { sender, device: fingerprint, trust, right: right(&enrolled) };
    let answer = ask(&mut device.sender, Method::GET, "/v1/trust", Vec::new()).await;
    assert_eq!(read::<TrustResponse>(&answer, StatusCode::OK).charter, enrolled.charter);
    let request = cbor::to_vec(&KeyPackageRequest { key_package: package.clone(), available: true });
    let put = ("/v1/key-package", request);
    let answer = ask_by(&right(&enrolled), &mut device.sender, Method::PUT, put.0, put.1.clone()).await;
    assert_eq!(read::<Refusal>(&answer, StatusCode::UNAUTHORIZED).code, "no-pin");
    let answer = ask(&mut stranger, Method::POST, "/v1/enrol", enrol(&made.code)).await;
    let again: EnrolResponse = read(&answer, StatusCode::OK);
    assert!(again.chain == enrolled.chain && again.first_pin != enrolled.first_pin);
    assert_eq!(device.set("482917", None).await.unwrap_err().code, "no-pin", "the first answer is over");
    device.right = right(&again);
    let opened = device.set("482917", None).await.unwrap();
    assert_eq!(device.set("739105", None).await.unwrap_err().code, "locked", "the right is used up");
    let answer = ask(&mut stranger, Method::POST, "/v1/enrol", enrol(&made.code)).await;
    assert_eq!(read::<Refusal>(&answer, StatusCode::CONFLICT).code, "pin-set", "and there is no other");
    let answer = ask_by(&opened, &mut device.sender, Method::PUT, put.0, put.1).await;
    assert_eq!(answer.0, StatusCode::NO_CONTENT);
    let submitted = running.node.submitted();
    let mut entries = submitted.iter().filter_map(|record| match record.body() {
        RecordBody::Entry(entry) => Some(entry),
        _ => None,
    });
    let entry = entries.nth(1).unwrap();
    assert_eq!(entry.key_package.as_deref(), Some(&package));
    assert_eq!(running.node.events(), ["enrol-refused", "enrol-refused", "enrolled"]);
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_reason() {
    let running = Running::start().await;
    let (shown, certificate) = running.device("Ada");
    let again = || Some(Shown { key: shown.key.clone(), chain: shown.chain.clone() });
    let mut device = running.connect(again()).await;
    let token = running.unlock(&certificate).await;
    let cases: [(Method, &str, Vec<u8>, StatusCode, &str); 8] = [
        (Method::POST, "/v1/envelopes", vec![0xff; 10], StatusCode::BAD_REQUEST, "malformed"),
        (Method::POST, "/v1/inbox/seen", vec![0; 2000], StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
        (Method::GET, "/v1/envelopes/zz", Vec::new(), StatusCode::BAD_REQUEST, "malformed"),
        (Method::GET, "/v1/inbox?after=-1", Vec::new(), StatusCode::BAD_REQUEST, "malformed"),
        (Method::GET, "/v1/inbox?from=1", Vec::new(), StatusCode::BAD_REQUEST, "malformed"),
        (Method::GET, "/v2/inbox", Vec::new(), StatusCode::NOT_FOUND, "not-found"),
        (Method::DELETE, "/v1/inbox", Vec::new(), StatusCode::METHOD_NOT_ALLOWED, "method"),
        (Method::POST, "/v1/conversations/x/leave", Vec::new(), StatusCode::BAD_REQUEST, "malformed"),
    ];
    for (method, path, body, status, code) in cases {
        let answer = ask_by(&token, &mut device, method, path, body).await;
        let refusal: Refusal = read(&answer, status);
        assert_eq!(refusal.code, code, "{path}");
        assert!(!refusal.message.is_empty(), "{path}");
        if code == "too-large" {
            // What was not read of the body ends the connection.
            device = running.connect(again()).await;
        }
    }
}

#[tokio::test]
async fn a_locked_device_receives_and_does_nothing_else() {
    let running = Running::start().await;
    let (shown, certificate) = running.device("Ada");
    let mut device = running.connect(Some(shown)).await;
    let token = running.unlock(&certificate).await;
    running.node.pin(certificate.fingerprint(), PinRequest::Lock).await.unwrap();
    let id = "00".repeat(32);
    let [ticks, deletion] = ["envelopes", "deletions"].map(|kind| format!("/v1/{kind}/{id}"));
    let leave = format!("/v1/conversations/{}/leave", ConversationId::new([9; 16], running.trust.id.clone()));
    for (method, path) in [
        (Method::PUT, "/v1/key-package"),
        (Method::GET, "/v1/directory?q=ada"),
        (Method::POST, "/v1/envelopes"),
        (Method::GET, &ticks),
        (Method::POST, "/v1/inbox/seen"),
        (Method::POST, "/v1/deletions"),
        (Method::GET, &deletion),
        (Method::POST, "/v1/erasures"),
        (Method::POST, &leave),
    ] {
        let answer = ask_by(&token, &mut device, method, path, Vec::new()).await;
        assert_eq!(read::<Refusal>(&answer, StatusCode::UNAUTHORIZED).code, "locked", "{path}");
    }
    for path in ["/v1/trust", "/v1/inbox"] {
        let answer = ask(&mut device, Method::GET, path, Vec::new()).await;
        assert_eq!(answer.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn strangers_devices_are_refused_in_tls_and_audited() {
    let running = Running::start().await;
    let other = Trust::new("RXX");
    let (key, foreign) = other.device("Eve", now(), 3600);
    let foreign =
        Shown { key, chain: vec![foreign.der().to_vec(), other.registrar_certificate.der().to_vec()] };
    let (key, expired) = running.trust.device("Old", now().minus_secs(7200), 3600);
    let expired = running.shown(key, &expired);
    let (key, node) = running.trust.node(ADDRESS, now());
    let node = running.shown(key, &node);
    for shown in [foreign, expired, node] {
        let stream = TcpStream::connect(running.remote).await.unwrap();
        let connector = TlsConnector::from(Arc::new(client_config(Some(shown))));
        // In TLS 1.3 the client has finished before the server has judged: the refusal comes with the first
        // answer.
        let tls = connector.connect(ServerName::from(ADDRESS), stream).await.unwrap();
        let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().uri("/v1/inbox").body(Body::empty()).unwrap();
        assert!(timeout(PATIENCE, sender.send_request(request)).await.unwrap().is_err());
    }
    assert_eq!(running.node.events(), ["refused"; 3]);
}

#[tokio::test]
async fn a_revoked_device_loses_its_live_connections() {
    let running = Running::start().await;
    let (shown, certificate) = running.device("Ada");
    let mut device = running.connect(Some(shown)).await;
    let request = Request::builder().uri("/v1/events").body(Body::empty()).unwrap();
    let response = timeout(PATIENCE, device.send_request(request)).await.unwrap().unwrap();
    let mut stream = Body::new(response.into_body()).into_data_stream();
    let first = timeout(PATIENCE, futures::StreamExt::next(&mut stream)).await.unwrap().unwrap().unwrap();
    assert_eq!(&first[..], b"event: inbox\ndata: 0\n\n");
    running.node.arrive(certificate.fingerprint(), 5);
    let second = timeout(PATIENCE, futures::StreamExt::next(&mut stream)).await.unwrap().unwrap().unwrap();
    assert_eq!(&second[..], b"event: inbox\ndata: 5\n\n");

    let network = running.node.network();
    let record = running
        .registrar
        .revoke(&[certificate], (&Order::because(Reason::Lost), now()), None, network.id(), now())
        .unwrap();
    running.node.submit(record).await.unwrap();
    let end = timeout(PATIENCE, futures::StreamExt::next(&mut stream)).await.unwrap();
    assert!(end.is_none_or(|chunk| chunk.is_err()), "the stream ends");
    assert_eq!(running.node.events(), ["device-closed"]);
}

#[tokio::test]
async fn an_inbox_request_waits_for_news() {
    let running = Running::start().await;
    let (shown, certificate) = running.device("Ada");
    let mut device = running.connect(Some(shown)).await;
    let token = running.unlock(&certificate).await;
    let waiting = tokio::spawn(async move {
        let answer = ask(&mut device, Method::GET, "/v1/inbox?after=0&wait=30", Vec::new()).await;
        (read::<InboxResponse>(&answer, StatusCode::OK), device)
    });
    running.node.asked(2).await;
    running.node.arrive(certificate.fingerprint(), 1);
    let (page, mut device) = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(page.items.iter().map(|item| item.seq).collect::<Vec<_>>(), [1]);
    let answer =
        ask_by(&token, &mut device, Method::POST, "/v1/inbox/seen", cbor::to_vec(&SeenRequest { seq: 1 }))
            .await;
    assert_eq!(answer.0, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_device_hands_in_what_it_has_erased_and_is_seen_once_a_minute() {
    let running = Running::start().await;
    let (shown, certificate) = running.device("Ada");
    let mut device = running.connect(Some(shown)).await;
    let token = running.unlock(&certificate).await;
    let line = |n: u8| ByteBuf::from(vec![n; 200]);
    let told = cbor::to_vec(&ErasuresRequest { lines: vec![line(1), line(2)] });
    let answer = ask_by(&token, &mut device, Method::POST, "/v1/erasures", told).await;
    assert_eq!(answer.0, StatusCode::NO_CONTENT);
    let fingerprint = certificate.fingerprint();
    assert_eq!(running.node.erased(), [(fingerprint, vec![1; 200]), (fingerprint, vec![2; 200])]);
    let many = cbor::to_vec(&ErasuresRequest { lines: vec![line(1); ERASURES_MAX + 1] });
    let answer = ask_by(&token, &mut device, Method::POST, "/v1/erasures", many).await;
    assert_eq!(read::<Refusal>(&answer, StatusCode::BAD_REQUEST).code, "malformed");
    for _ in 0..3 {
        ask(&mut device, Method::GET, "/v1/inbox", Vec::new()).await;
    }
    // Twice if a minute ended on the way.
    let present = running.node.present();
    assert!((1..=2).contains(&present.len()) && present.iter().all(|p| *p == fingerprint), "{present:?}");
}

#[tokio::test]
async fn a_device_has_a_bounded_number_of_connections() {
    let running = Running::start().await;
    let (shown, certificate) = running.device("Ada");
    let (key, chain) = (shown.key, shown.chain);
    let again = || Some(Shown { key: key.clone(), chain: chain.clone() });
    let mut held = Vec::new();
    for _ in 0..limits::CONNECTIONS_PER_DEVICE_MAX {
        let mut sender = running.connect(again()).await;
        assert_eq!(ask(&mut sender, Method::GET, "/v1/inbox", Vec::new()).await.0, StatusCode::OK);
        held.push(sender);
    }
    let mut beyond = running.connect(again()).await;
    let request = Request::builder().uri("/v1/inbox").body(Body::empty()).unwrap();
    assert!(timeout(PATIENCE, beyond.send_request(request)).await.unwrap().is_err());
    assert!(certificate.not_after() > now());
}

#[tokio::test]
async fn it_stops_when_told_and_event_streams_end() {
    let running = Running::start().await;
    let mut device = running.connect(Some(running.device("Ada").0)).await;
    let request = Request::builder().uri("/v1/events").body(Body::empty()).unwrap();
    let response = timeout(PATIENCE, device.send_request(request)).await.unwrap().unwrap();
    running.stop.send(true).unwrap();
    let streamed = axum::body::to_bytes(Body::new(response.into_body()), 4096);
    assert!(timeout(PATIENCE, streamed).await.unwrap().is_ok(), "the stream ends in order");
    timeout(PATIENCE, running.served).await.unwrap().unwrap();
}
