//! Both ends of TLS as a device's connection has it: many idle clients, and a server that does nothing but hold their connections.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lanyard_crypto::x509::SecretKey;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Handshakes at once: fewer than a node takes from one address.
const AT_ONCE: usize = 12;
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// What every client asks for, and waits for the beginning of.
const REQUEST: &str = "GET /v1/events HTTP/1.1\r\nhost: node\r\naccept: text/event-stream\r\n\r\n";
const ANSWER: &[u8] = b"data:";

/// A device's key and chain (DER, leaf first).
pub struct Shown {
    pub key: SecretKey,
    pub chain: Vec<Vec<u8>>,
}

/// Clients that stay connected until this is dropped.
pub struct Clients {
    _runtime: Runtime,
    lost: Arc<AtomicUsize>,
}

impl Clients {
    /// Connects each of these devices to `node`, from these addresses in turn, and waits until each stream of events has begun.
    pub fn connect(devices: &[Shown], node: SocketAddr, from: &[Ipv4Addr]) -> Result<Self, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let lost = Arc::new(AtomicUsize::new(0));
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let connected = runtime.block_on(async {
            let mut waiting = Vec::new();
            for (device, from) in devices.iter().zip(from.iter().cycle()) {
                let (config, from) = (Arc::new(client_config(device)?), *from);
                let (turns, lost) = (turns.clone(), lost.clone());
                waiting.push(tokio::spawn(async move {
                    let _turn = turns.acquire_owned().await.map_err(io::Error::other)?;
                    let connected = timeout(CONNECT_MAX, stream(config, node, from)).await??;
                    tokio::spawn(hold(connected, lost));
                    Ok::<_, io::Error>(())
                }));
            }
            for one in waiting {
                one.await??;
            }
            Ok::<_, Box<dyn Error>>(())
        });
        connected?;
        Ok(Self { _runtime: runtime, lost })
    }

    /// Fails if a connection has ended.
    pub fn check(&self) -> Result<(), Box<dyn Error>> {
        match self.lost.load(Ordering::Relaxed) {
            0 => Ok(()),
            lost => Err(format!("{lost} clients have lost their connection").into()),
        }
    }
}

type Stream = client::TlsStream<TcpStream>;

async fn stream(config: Arc<ClientConfig>, node: SocketAddr, from: Ipv4Addr) -> io::Result<Stream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let tcp = socket.connect(node).await?;
    let mut tls = TlsConnector::from(config).connect(ServerName::IpAddress(node.ip().into()), tcp).await?;
    tls.write_all(REQUEST.as_bytes()).await?;
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    while !answer.windows(ANSWER.len()).any(|bytes| bytes == ANSWER) {
        match tls.read(&mut part).await? {
            0 => return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned())),
            n => answer.extend(&part[..n]),
        }
    }
    Ok(tls)
}

/// Reads what comes, which is a comment now and then.
async fn hold(mut tls: Stream, lost: Arc<AtomicUsize>) {
    let mut part = [0; 256];
    while matches!(tls.read(&mut part).await, Ok(1..)) {}
    lost.fetch_add(1, Ordering::Relaxed);
}

/// Holds connections, and does nothing else: says by `ready` where, which returns when it is to end.
pub fn serve(ready: impl FnOnce(String) -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let key = SecretKey::generate()?;
    let acceptor = TlsAcceptor::from(Arc::new(server_config(&key)?));
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    runtime.spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                answer(&mut tls).await.ok();
            });
        }
    });
    ready(address.to_string())
}

/// Reads a request, answers it, and waits for more, which does not come.
async fn answer(tls: &mut server::TlsStream<TcpStream>) -> io::Result<()> {
    // On the heap, and no longer than what it holds is wanted.
    let mut request = vec![0; REQUEST.len()];
    tls.read_exact(&mut request).await?;
    drop(request);
    tls.write_all(ANSWER).await?;
    tls.flush().await?;
    tls.read_u8().await.map(drop)
}

fn client_config(device: &Shown) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Believing(provider.clone()));
    let chain = device.chain.iter().cloned().map(CertificateDer::from).collect();
    let key = PrivatePkcs8KeyDer::from(device.key.to_pkcs8_der().to_vec());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(key))?;
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// As the node's, with a chain of as many certificates.
fn server_config(key: &SecretKey) -> Result<ServerConfig, Box<dyn Error>> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Believing(provider.clone()));
    let chain = super::clients::server_chain(key)?.into_iter().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.to_pkcs8_der().to_vec()));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Believes who shows a certificate and has its key: who is believed makes no difference to what is measured.
#[derive(Debug)]
struct Believing(Arc<CryptoProvider>);

impl Believing {
    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }
}

const NOT_SPOKEN: rustls::Error = rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered);

impl ServerCertVerifier for Believing {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(NOT_SPOKEN)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Believing {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(NOT_SPOKEN)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
