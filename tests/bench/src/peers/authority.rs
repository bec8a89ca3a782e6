//! A certification authority for one run, made with the program `openssl`: the peers' servers need certificates of the web's kind.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

use crate::load::Failure;

/// The authority, and where it keeps its key.
pub struct Authority {
    dir: TempDir,
}

/// What a server's certificate says that its name is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// An address, and the same as a domain's name: what XMPP servers compare (RFC 6125) is a domain.
    Domain,
    /// An address alone.
    Address,
}

impl Authority {
    /// Makes its key and its certificate.
    ///
    /// # Errors
    /// What `openssl` says.
    pub fn new() -> Result<Self, Failure> {
        let authority = Self { dir: tempfile::Builder::new().prefix("lanyard-ca-").tempdir()? };
        let extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];
        authority.request(authority.dir.path(), "ca", "Benchmarks' authority", &extensions, &[])?;
        Ok(authority)
    }

    /// Its certificate's file.
    pub fn certificate(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Puts `key.pem` and `cert.pem` for a server at this address into a directory.
    ///
    /// # Errors
    /// What `openssl` says.
    pub fn certify(&self, dir: &Path, address: Ipv4Addr, named: Named) -> Result<(), Failure> {
        let names = match named {
            Named::Domain => format!("subjectAltName=DNS:{address},IP:{address}"),
            Named::Address => format!("subjectAltName=IP:{address}"),
        };
        let extensions =
            [&names, "basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth,clientAuth"];
        let (certificate, key) = (self.certificate(), self.dir.path().join("ca.key"));
        let signer = ["-CA", &certificate.display().to_string(), "-CAkey", &key.display().to_string()]
            .map(str::to_owned);
        self.request(dir, "cert", &address.to_string(), &extensions, &signer)?;
        Ok(std::fs::rename(dir.join("cert.key"), dir.join("key.pem"))?)
    }

    /// TLS for clients that believe this authority alone.
    ///
    /// # Errors
    /// What rustls says of the certificate.
    pub fn tls(&self) -> Result<Arc<ClientConfig>, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.certificate()).map_err(|error| error.to_string())?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions()?.with_root_certificates(roots);
        Ok(Arc::new(config.with_no_client_auth()))
    }

    fn request(
        &self,
        dir: &Path,
        name: &str,
        subject: &str,
        extensions: &[&str],
        signer: &[String],
    ) -> Result<(), Failure> {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-days", "30", "-subj", &format!("/CN={subject}")]).args(signer);
        command.arg("-keyout").arg(dir.join(format!("{name}.key")));
        command.arg("-out").arg(dir.join(format!("{name}.pem")));
        extensions.iter().for_each(|extension| {
            command.args(["-addext", extension]);
        });
        let output = command.output().map_err(|error| format!("openssl: {error}"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("openssl: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }
}
