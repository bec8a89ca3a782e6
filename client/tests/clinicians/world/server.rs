//! HTTP/1.1 over TLS 1.3, a thread for each connection: just enough for one client at a time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use lanyard_crypto::cbor;
use lanyard_crypto::gateway::{KeyPackageRequest, REQUEST_BYTES_MAX};
use lanyard_crypto::x509::{self, Certificate};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ServerConfig, ServerConnection, SignatureScheme, StreamOwned,
};

use super::{Trust, World};

pub fn serve(listener: TcpListener, world: Arc<World>, trust: Arc<Trust>) {
    let chain = [&trust.node, &trust.registrar, &trust.root].map(|c| CertificateDer::from(c.der().to_vec()));
    let key = PrivatePkcs8KeyDer::from(trust.node_key.to_pkcs8_der().to_vec());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Door(world.clone())))
        .with_single_cert(chain.into(), key.into())
        .unwrap();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let stream = StreamOwned::new(connection, tcp.unwrap());
            let (world, trust) = (world.clone(), trust.clone());
            // Clients come and go as they please.
            std::thread::spawn(move || drop(requests(stream, &world, &trust)));
        }
    });
}

fn requests<S: Read + Write + Tls>(stream: S, world: &World, trust: &Trust) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if stream.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let (mut length, mut authorization) = (0, String::new());
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            match name.to_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "authorization" => authorization = value.trim().to_owned(),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let mut parts = first.split(' ');
        let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
        let device = stream.get_ref().device();
        if path != "/v1/enrol" && device.is_none() {
            respond(stream.get_mut(), 401, &[])?;
            continue;
        }
        if let Some(device) = &device {
            let admitted = world.state().pins.admit(path, device, &authorization);
            if let Err((status, refusal)) = admitted {
                respond(stream.get_mut(), status, &cbor::to_vec(&refusal))?;
                continue;
            }
            let answer = world.state().pins.answer(method, path, device, &body);
            if let Some(answer) = answer {
                if method == "PUT" && world.state().pins.loses_answers {
                    return Ok(());
                }
                respond(stream.get_mut(), 200, &answer)?;
                continue;
            }
        }
        match (path, device) {
            ("/v1/events", _) => return events(stream.get_mut(), world),
            ("/v1/key-package", Some(device)) => {
                let request: KeyPackageRequest = cbor::from_slice(&body, REQUEST_BYTES_MAX).unwrap();
                world.list(trust, &device, request);
                respond(stream.get_mut(), 204, &[])?;
            }
            _ => match world.answer(trust, method, path, &body) {
                Ok(_) if path == "/v1/envelopes" && world.state().loses_answers => return Ok(()),
                Ok(body) => respond(stream.get_mut(), 200, &body)?,
                Err((status, refusal)) => respond(stream.get_mut(), status, &cbor::to_vec(&refusal))?,
            },
        }
    }
}

fn respond(stream: &mut impl Write, status: u16, body: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    stream.flush()
}

fn events(stream: &mut impl Write, world: &World) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")?;
    let mut seen = world.state().inbox.len();
    loop {
        write!(stream, "event: inbox\ndata: {seen}\n\n")?;
        stream.flush()?;
        seen = world.wait(seen);
    }
}

/// Who is at the other end.
trait Tls {
    fn device(&self) -> Option<Certificate>;
}

impl<T: Read + Write> Tls for StreamOwned<ServerConnection, T> {
    fn device(&self) -> Option<Certificate> {
        Certificate::parse(self.conn.peer_certificates()?.first()?).ok()
    }
}

/// Lets every device in, or none.
struct Door(Arc<World>);

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Door")
    }
}

impl ClientCertVerifier for Door {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _device: &CertificateDer<'_>,
        _issuers: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if self.0.state().refuses_devices {
            return Err(rustls::CertificateError::Revoked.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = *Certificate::parse(certificate).unwrap().public_key();
        x509::verify(&key, message, signature.signature().try_into().unwrap()).unwrap();
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
