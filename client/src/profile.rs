//! A profile: the directory that holds one device's keys, certificates and vault.
//!
//! | file | what | secret |
//! | --- | --- | --- |
//! | `device.json` | trust, its root's fingerprint, the node's address; written last | no |
//! | `device.key` | Ed25519 key (PKCS#8, PEM): TLS client key and MLS signature key in one | yes |
//! | `chain.pem` | the device's certificate and its registrar's | no |
//! | `charter.cbor`, `crls.cbor` | the last charter and revocation lists that were verified | no |
//! | `heard.cbor` | when each trust has last signed anything that was verified ([`crate::heard`]) | no |
//! | `vault.key` | of version 0.1.0 alone, until a PIN is set: 32 bytes, the key of the vault | yes |
//! | `vault.sealed` | the key of the vault, sealed under what the PIN and the node give together | encrypted |
//! | `vault.sealed.new` | the same, while a PIN is being set | encrypted |
//! | `vault.db` | MLS state and messages (SQLCipher) | encrypted |
//! | `wipe.cbor` | there while the device is being wiped ([`crate::wipe`]) | no |
//! | `wiped.cbor` | the receipt of a device that was wiped | no |
//! | `lock` | held by the process that works on the profile | no |
//! | `locked` | changes whenever the device is locked by hand | no |
//! | `agent.sock`, `agent.lock` | of the process that keeps the vault's key while the device is unlocked | no |
//!
//! The directory alone opens nothing ([`crate::pin`]).

use std::fs::File;
use std::path::{Path, PathBuf};

use lanyard_crypto::pin::VAULT_KEY_BYTES;
use lanyard_crypto::x509::{self, Certificate, CertificateError, KeyError, PemError, SecretKey};
use lanyard_crypto::{Fingerprint, TrustId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::files::{self, FileError};

/// Longest of the small files, in bytes: a chain of two certificates in PEM.
const SMALL_FILE_BYTES_MAX: usize = 64 * 1024;
/// The format of `device.json` that this program writes and reads.
const FORMAT_VERSION: u32 = 1;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Neither an option, nor the environment, nor a home directory says where the profile is.
    #[error(
        "no place for the profile: neither LANYARD_PROFILE, XDG_DATA_HOME nor HOME is set; give --profile DIR"
    )]
    NoPlace,
    /// The device is not enrolled.
    #[error("{0}: this device is not enrolled; ask your trust for an invitation, then run: lanyard enrol")]
    NotEnrolled(PathBuf),
    /// It already is.
    #[error(
        "{0}: this device is enrolled with {1} already; use another --profile DIR for another person or trust"
    )]
    Enrolled(PathBuf, TrustId),
    /// A file does not hold what belongs there.
    #[error("{path}: {what}; restore it from a backup, or enrol again in another --profile DIR")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Written by a newer program.
    #[error("{0}: written by a newer version of this program; upgrade it")]
    Newer(PathBuf),
    /// No randomness.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Where a profile lies. Says nothing of whether there is one.
#[derive(Clone, Debug)]
pub struct Profile {
    dir: PathBuf,
}

/// What `device.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    version: u32,
    trust: String,
    root: String,
    /// `host:port` of the node's gateway.
    pub address: String,
}

/// An enrolled device: what proves to others who its holder is.
#[derive(Clone, Debug)]
pub struct Device {
    /// The trust that certified it.
    pub trust: TrustId,
    /// Of the trust's root certificate.
    pub root: Fingerprint,
    /// `host:port` of the node's gateway.
    pub address: String,
    /// The device's certificate, then the registrar's.
    pub chain: Vec<Certificate>,
    /// The key that the first of them certifies.
    pub key: SecretKey,
}

impl Device {
    /// The device's certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.chain[0]
    }

    /// The chain as it is shown to others: DER, leaf first.
    pub fn chain_der(&self) -> Vec<Vec<u8>> {
        self.chain.iter().map(|c| c.der().to_vec()).collect()
    }
}

impl Profile {
    /// The profile in this directory.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The profile that is used if none is named: `$LANYARD_PROFILE`, else `$XDG_DATA_HOME/lanyard`, else
    /// `~/.local/share/lanyard` (XDG Base Directory Specification 0.8). `variable` reads the environment.
    ///
    /// # Errors
    /// [`ProfileError::NoPlace`].
    pub fn by_default(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, ProfileError> {
        let variable = |name| variable(name).filter(|value| !value.as_os_str().is_empty());
        let data =
            || variable("XDG_DATA_HOME").filter(|dir| dir.is_absolute()).map(|dir| dir.join("lanyard"));
        let home = || variable("HOME").map(|home| home.join(".local/share/lanyard"));
        variable("LANYARD_PROFILE").or_else(data).or_else(home).map(Self::at).ok_or(ProfileError::NoPlace)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the vault is.
    pub fn vault_path(&self) -> PathBuf {
        self.dir.join("vault.db")
    }

    /// Where the last verified charter is kept.
    pub fn charter_path(&self) -> PathBuf {
        self.dir.join("charter.cbor")
    }

    /// Where the last verified revocation lists are kept.
    pub fn crls_path(&self) -> PathBuf {
        self.dir.join("crls.cbor")
    }

    /// Where it is kept when other trusts have last signed what was verified here.
    pub fn heard_path(&self) -> PathBuf {
        self.dir.join("heard.cbor")
    }

    /// Where the vault's key is, sealed; there once a PIN is set.
    pub fn sealed_path(&self) -> PathBuf {
        self.dir.join("vault.sealed")
    }

    /// Where it is while a PIN is being set.
    pub fn new_sealed_path(&self) -> PathBuf {
        self.dir.join("vault.sealed.new")
    }

    /// Where version 0.1.0 kept the vault's key; there until a PIN is set.
    pub fn plain_key_path(&self) -> PathBuf {
        self.dir.join("vault.key")
    }

    /// What changes whenever the device is locked by hand.
    pub fn locked_path(&self) -> PathBuf {
        self.dir.join("locked")
    }

    /// What says that the device is being wiped.
    pub fn wipe_mark(&self) -> PathBuf {
        self.dir.join("wipe.cbor")
    }

    /// Where the receipt of a wiped device is.
    pub fn wiped_path(&self) -> PathBuf {
        self.dir.join("wiped.cbor")
    }

    /// Where the agent listens.
    pub fn agent_socket(&self) -> PathBuf {
        self.dir.join("agent.sock")
    }

    /// What the agent holds while it runs.
    pub fn agent_lock(&self) -> PathBuf {
        self.dir.join("agent.lock")
    }

    /// Whether a PIN was set, so that an agent alone has the vault's key.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn has_pin(&self) -> Result<bool, FileError> {
        exists(&self.sealed_path())
    }

    /// Whether a PIN was set, or may have been: it is not known whether the node has taken it.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn may_have_pin(&self) -> Result<bool, FileError> {
        Ok(self.has_pin()? || exists(&self.new_sealed_path())?)
    }

    /// Makes the directory if there is none.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be made, or if others may enter it.
    pub fn make(&self) -> Result<(), FileError> {
        files::private_dir(&self.dir)
    }

    /// Waits for other processes on this profile, and keeps them out until the file is dropped.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn lock(&self) -> Result<File, FileError> {
        files::lock(&self.dir.join("lock"))
    }

    /// The device's key; made now if there is none. Kept from the first attempt to enrol on, so that no
    /// attempt leaves a certificate without its key.
    ///
    /// # Errors
    /// [`ProfileError`] if it cannot be made, read or written.
    pub fn key(&self) -> Result<SecretKey, ProfileError> {
        let path = self.dir.join("device.key");
        if exists(&path)? {
            return self.read_key();
        }
        let key = SecretKey::generate()?;
        files::write_private(&path, key.to_pkcs8_pem().as_bytes())?;
        Ok(key)
    }

    /// The vault's key as version 0.1.0 kept it.
    ///
    /// # Errors
    /// [`ProfileError`] if it cannot be read.
    pub fn plain_key(&self) -> Result<Zeroizing<[u8; VAULT_KEY_BYTES]>, ProfileError> {
        let path = self.plain_key_path();
        let mut key = Zeroizing::new([0; VAULT_KEY_BYTES]);
        let bytes = files::read_private(&path, VAULT_KEY_BYTES)?;
        if bytes.len() != VAULT_KEY_BYTES {
            return Err(damaged(&path, format!("{VAULT_KEY_BYTES} bytes are needed, not {}", bytes.len())));
        }
        key.copy_from_slice(&bytes);
        Ok(key)
    }

    /// Keeps what an enrolment gave; `device.json` last.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn enrol(&self, device: &Device) -> Result<(), FileError> {
        let chain = x509::chain_to_pem(&device.chain);
        files::write_private(&self.dir.join("chain.pem"), chain.as_bytes())?;
        let registration = Registration {
            version: FORMAT_VERSION,
            trust: device.trust.to_string(),
            root: device.root.to_string(),
            address: device.address.clone(),
        };
        let json = serde_json::to_vec_pretty(&registration).expect("a struct of texts has a JSON form");
        files::write_private(&self.registration_path(), &json)
    }

    /// Loads an enrolled device.
    ///
    /// # Errors
    /// [`ProfileError`]: not enrolled, unreadable, damaged, or open to others.
    pub fn load(&self) -> Result<Device, ProfileError> {
        let (registration, trust, root) = self.registration()?;
        files::private_dir(&self.dir)?;
        let key = self.read_key()?;
        let path = self.dir.join("chain.pem");
        let pem = self.read_text(&path)?;
        let chain = x509::chain_from_pem(&pem).map_err(|e: PemError| damaged(&path, e.to_string()))?;
        match chain.as_slice() {
            [leaf, _] if *leaf.public_key() == key.public() && leaf.subject().trust == trust => {}
            [_, _] => {
                return Err(damaged(&path, "the certificate is not of this device's key and trust".into()));
            }
            _ => {
                return Err(damaged(&path, format!("2 certificates are needed, not {}", chain.len())));
            }
        }
        Ok(Device { trust, root, address: registration.address, chain, key })
    }

    fn registration_path(&self) -> PathBuf {
        self.dir.join("device.json")
    }

    fn registration(&self) -> Result<(Registration, TrustId, Fingerprint), ProfileError> {
        let path = self.registration_path();
        if !exists(&path)? {
            return Err(ProfileError::NotEnrolled(self.dir.clone()));
        }
        let bytes = files::read_private(&path, SMALL_FILE_BYTES_MAX)?;
        let registration: Registration =
            serde_json::from_slice(&bytes).map_err(|e| damaged(&path, e.to_string()))?;
        if registration.version > FORMAT_VERSION {
            return Err(ProfileError::Newer(path));
        }
        let trust = registration
            .trust
            .parse()
            .map_err(|e: lanyard_crypto::ids::IdError| damaged(&path, e.to_string()))?;
        let root = registration
            .root
            .parse()
            .map_err(|e: lanyard_crypto::ids::IdError| damaged(&path, e.to_string()))?;
        Ok((registration, trust, root))
    }

    fn read_key(&self) -> Result<SecretKey, ProfileError> {
        let path = self.dir.join("device.key");
        let bytes = files::read_private(&path, SMALL_FILE_BYTES_MAX)?;
        let pem = std::str::from_utf8(&bytes).map_err(|_| damaged(&path, "not a PEM file".into()))?;
        SecretKey::from_pkcs8_pem(pem).map_err(|e| damaged(&path, e.to_string()))
    }

    fn read_text(&self, path: &Path) -> Result<String, ProfileError> {
        let bytes = files::read_private(path, SMALL_FILE_BYTES_MAX)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| damaged(path, "not a text file".into()))
    }
}

fn exists(path: &Path) -> Result<bool, FileError> {
    path.try_exists().map_err(|error| FileError::Io { path: path.into(), what: "cannot be looked at", error })
}

fn damaged(path: &Path, what: String) -> ProfileError {
    ProfileError::Damaged { path: path.into(), what }
}

// Kept here so that a certificate error reads the same wherever a file of the profile holds one.
impl From<CertificateError> for ProfileError {
    fn from(error: CertificateError) -> Self {
        ProfileError::Damaged { path: "chain.pem".into(), what: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_follows_the_environment() {
        let place = |pairs: &[(&str, &str)]| {
            let variable = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(v));
            Profile::by_default(variable).ok().map(|p| p.dir)
        };
        let all = [("LANYARD_PROFILE", "/p"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(place(&all), Some("/p".into()));
        assert_eq!(place(&all[1..]), Some("/x/lanyard".into()));
        assert_eq!(place(&all[2..]), Some("/h/.local/share/lanyard".into()));
        assert_eq!(
            place(&[("XDG_DATA_HOME", "relative"), ("HOME", "/h")]),
            Some("/h/.local/share/lanyard".into())
        );
        assert_eq!(place(&[("LANYARD_PROFILE", "")]), None);
    }

    #[test]
    fn keys_are_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::at(dir.path().join("p"));
        profile.make().unwrap();
        assert_eq!(profile.key().unwrap().public(), profile.key().unwrap().public());
        assert!(matches!(profile.load(), Err(ProfileError::NotEnrolled(_))));
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::at(dir.path());
        let json = format!(r#"{{"version":2,"trust":"RYJ","root":"{}","address":"a:1"}}"#, "0".repeat(64));
        files::write_private(&profile.registration_path(), json.as_bytes()).unwrap();
        assert!(matches!(profile.load(), Err(ProfileError::Newer(_))));
    }
}
