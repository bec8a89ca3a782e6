//! The trust's registrar, on the node that holds its key: certifies devices, signs the directory's entries,
//! and revokes.
//!
//! What it has certified and revoked is kept in files of its own under `registrar/` in the data directory,
//! written before anything is handed out: a certificate that exists can always be revoked, and a number of a
//! revocation list is never used twice. Every revocation of a device is a wipe, whose order is kept before the list is made
//! ([`crate::wipes`]). All methods block on the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lanyard_crypto::ids::to_hex;
use lanyard_crypto::limits::LIFE_SECS_MAX;
use lanyard_crypto::record::{self, Body, DecodeError, Decoded, Entry, Header, WipeReceipt};
use lanyard_crypto::x509::issue::{self, IssueError, Issuer, Term};
use lanyard_crypto::x509::request::{CertificateRequest, RequestError};
use lanyard_crypto::x509::{
    Certificate, KeyError, PemError, Purpose, RevocationList, SecretKey, Subject, chain_from_pem,
};
use lanyard_crypto::{Fingerprint, NetworkId, Timestamp};
use serde_bytes::ByteBuf;

use crate::config::RegistrarFiles;
use crate::files::{self, FileError};
use crate::identity_provider::IdentityProvider;
use crate::invitations::{InvitationError, Invitations, Invitee};
use crate::wipes::{Order, Reason, WipeError, Wipes};

mod lists;
#[cfg(test)]
mod tests;

/// Certificates of devices that one registrar keeps.
pub const DEVICES_MAX: usize = 100_000;
const LIST: &str = "list.crl.pem";

/// Why the registrar does not do what is asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistrarError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key file.
    #[error("{}: {reason}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: KeyError,
    },
    /// A file with certificates or a list.
    #[error("{}: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: PemError,
    },
    /// The files are not of a registrar.
    #[error("{}: the certificate of a registrar is needed, and this is one of a {found}", path.display())]
    Purpose {
        /// The file.
        path: PathBuf,
        /// What it is of.
        found: Purpose,
    },
    /// The invitation.
    #[error(transparent)]
    Invitation(#[from] InvitationError),
    /// The order or the receipt of a wipe.
    #[error(transparent)]
    Wipe(#[from] WipeError),
    /// The device's request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A certificate cannot be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A record cannot be made.
    #[error("the record cannot be made: {0}")]
    Record(#[from] DecodeError),
    /// Another registrar's certificate.
    #[error("{0} was certified by another registrar; only that one can revoke it")]
    OtherRegistrar(String),
    /// The device that an invitation is to replace is none of the person's.
    #[error("--replaces: the device {0} {1}: see lanyard-node staff list")]
    NotReplaced(String, &'static str),
    /// Too many devices.
    #[error("{DEVICES_MAX} devices have been certified; renew the registrar (trust renew-registrar)")]
    Full,
}

/// See the module.
pub struct Registrar {
    key: SecretKey,
    certificate: Certificate,
    directory: PathBuf,
    /// Invitations to enrol.
    pub invitations: Invitations,
    /// Wipes of devices.
    pub wipes: Wipes,
    /// Where invited people sign in as well, if the trust asks for it.
    pub identity_provider: Option<IdentityProvider>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    list: Option<RevocationList>,
    devices: BTreeMap<Fingerprint, Certificate>,
}

/// A certified device, and whether it has been revoked.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its certificate.
    pub certificate: Certificate,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

impl Registrar {
    /// Reads the registrar's key and certificate, and what it has done before.
    ///
    /// # Errors
    /// [`RegistrarError`] names the file at fault.
    pub fn open(paths: &RegistrarFiles, data_dir: &Path) -> Result<Self, RegistrarError> {
        let pem = files::read_secret_text(&paths.key)?;
        let key = SecretKey::from_pkcs8_pem(&pem)
            .map_err(|reason| RegistrarError::Key { path: paths.key.clone(), reason })?;
        let certificate = first_certificate(&paths.certificate)?;
        if certificate.purpose() != Purpose::Registrar {
            let found = certificate.purpose();
            return Err(RegistrarError::Purpose { path: paths.certificate.clone(), found });
        }
        Issuer::new(&certificate, &key)?;
        // Each registrar certificate has its own list and devices; a renewed one begins afresh.
        let directory = data_dir.join("registrar").join(certificate.fingerprint().to_string());
        files::create_directory(&directory.join("devices"))?;
        let state = State { list: read_list(&directory.join(LIST))?, devices: read_devices(&directory)? };
        let invitations = Invitations::open(data_dir.join("invitations"))?;
        let wipes = Wipes::open(data_dir.join("wipes"))?;
        let state = Mutex::new(state);
        Ok(Self { key, certificate, directory, invitations, wipes, identity_provider: None, state })
    }

    /// The same, with a sign-in for whoever enrols.
    #[must_use]
    pub fn with_identity_provider(self, identity_provider: Option<IdentityProvider>) -> Self {
        Self { identity_provider, ..self }
    }

    /// Its certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Certifies the device of an invited person. The key is the request's, the subject the invitation's, or `signed_in` as
    /// the identity provider has confirmed them. The same request with the same invitation again gets the same certificate.
    ///
    /// # Errors [`RegistrarError::Request`], [`RegistrarError::Invitation`], or that the certificate cannot
    /// be made or kept.
    pub fn enrol(
        &self,
        invitation: &[u8],
        code: &[u8],
        request: &[u8],
        signed_in: Option<Invitee>,
        now: Timestamp,
    ) -> Result<Certificate, RegistrarError> {
        let request = CertificateRequest::parse(request)?;
        let mut state = self.state();
        if state.devices.len() >= DEVICES_MAX {
            return Err(RegistrarError::Full);
        }
        let invitee = self.invitations.redeem(invitation, code, request.public_key(), now)?;
        // On the disk before the certificate is: nothing replaces a device and leaves it its access.
        if let Some(replaced) = self.replaced(&state, &invitee)? {
            let reason = Reason::Replaced;
            let reference = Some(format!("invitation {}", to_hex(invitation)));
            self.wipes.order(&replaced, &Order { reason, reference }, now)?;
        }
        let subject = self.subject_of(&signed_in.unwrap_or(invitee));
        let earlier = state
            .devices
            .values()
            .find(|c| c.public_key() == request.public_key() && *c.subject() == subject);
        if let Some(earlier) = earlier {
            return Ok(earlier.clone());
        }
        let term = Term::starting(now, self.life_secs(now, issue::DEVICE_SECS))?;
        let certificate = self.issuer()?.device(&subject, request.public_key(), &term)?;
        let path = self.directory.join("devices").join(format!("{}.pem", certificate.fingerprint()));
        files::create(&path, certificate.to_pem().as_bytes(), files::SECRET)?;
        state.devices.insert(certificate.fingerprint(), certificate.clone());
        Ok(certificate)
    }

    /// Checks that an invitation could lead to a certificate, before it is handed to a person.
    ///
    /// # Errors
    /// [`RegistrarError::Issue`] names what the certificate could not say, [`RegistrarError::NotReplaced`] what
    /// is wrong with the device that it is to replace.
    pub fn check_invitee(&self, invitee: &Invitee, now: Timestamp) -> Result<(), RegistrarError> {
        self.replaced(&self.state(), invitee)?;
        let term = Term::starting(now, self.life_secs(now, issue::DEVICE_SECS))?;
        let anybody = SecretKey::generate().map_err(IssueError::Key)?.public();
        self.issuer()?.device(&self.subject_of(invitee), &anybody, &term)?;
        Ok(())
    }

    /// The device that an invitation is to replace.
    fn replaced(&self, state: &State, invitee: &Invitee) -> Result<Option<Certificate>, RegistrarError> {
        let Some(named) = &invitee.replaces else { return Ok(None) };
        let wrong = |why| RegistrarError::NotReplaced(named.clone(), why);
        let device = named.parse::<Fingerprint>().ok().and_then(|device| state.devices.get(&device));
        let device = device.ok_or_else(|| wrong("was not certified here"))?;
        let (theirs, its) = (&invitee.registration, &device.subject().registration);
        let is_theirs = match (theirs, its) {
            (None, None) => invitee.name == device.subject().common_name,
            _ => theirs == its,
        };
        if is_theirs { Ok(Some(device.clone())) } else { Err(wrong("is another person's")) }
    }

    /// The directory entry of a certificate that this registrar has issued.
    ///
    /// # Errors
    /// [`RegistrarError::Record`] if a part of it is too large.
    pub fn entry(
        &self,
        network: NetworkId,
        leaf: &Certificate,
        contact: Contact,
        now: Timestamp,
    ) -> Result<Decoded, RegistrarError> {
        let chain = vec![ByteBuf::from(leaf.der()), ByteBuf::from(self.certificate.der())];
        let (key_package, available, addresses) = match contact {
            Contact::None => (None, None, Vec::new()),
            Contact::Device { key_package, available } => {
                (Some(ByteBuf::from(key_package)), Some(available), Vec::new())
            }
            Contact::Node { addresses } => (None, None, addresses),
        };
        let body = Body::Entry(Entry { chain, key_package, addresses, available });
        self.sign(network, body, now, leaf.not_after().max(now.plus_secs(1)))
    }

    /// Takes a device's receipt for its wipe; tells whether it is the first.
    ///
    /// # Errors
    /// [`RegistrarError::Wipe`]: unknown, not the device's, or the disk.
    pub fn confirm(&self, receipt: &WipeReceipt, now: Timestamp) -> Result<bool, RegistrarError> {
        // One that was revoked by an earlier version has no order of its own.
        if let Some(Device { certificate, revoked: Some(at) }) = self.device(&receipt.device()) {
            receipt.verify(&certificate).map_err(|_| WipeError::NotSigned)?;
            self.wipes.order(&certificate, &Order::because(Reason::Unspecified), at)?;
        }
        Ok(self.wipes.confirm(receipt, now)?)
    }

    /// The device of this certificate, if this registrar has certified it.
    pub fn device(&self, certificate: &Fingerprint) -> Option<Device> {
        let state = self.state();
        state.devices.get(certificate).map(|certificate| self.seen(&state, certificate))
    }

    fn seen(&self, state: &State, certificate: &Certificate) -> Device {
        let listed = state.list.as_ref().and_then(|list| Some(list.revocation(certificate.serial())?.at));
        // One that has made room in the list has its order.
        let dropped = || {
            let list =
                state.list.as_ref().filter(|list| lists::has_ended(certificate, list.this_update()))?;
            let ordered = self.wipes.get(&certificate.fingerprint())?.ordered;
            (ordered <= list.this_update()).then_some(ordered)
        };
        Device { certificate: certificate.clone(), revoked: listed.or_else(dropped) }
    }

    /// Every device that this registrar has certified, by name.
    pub fn devices(&self) -> Vec<Device> {
        let state = self.state();
        let mut devices: Vec<_> = state.devices.values().map(|c| self.seen(&state, c)).collect();
        devices.sort_by_cached_key(|d| {
            (d.certificate.subject().common_name.clone(), d.certificate.not_before())
        });
        devices
    }

    /// Devices that earlier registrars on this node have certified, valid but for their registrar, of people who have no device by the
    /// present one: if the earlier one is revoked, they are to be invited again.
    ///
    /// # Errors
    /// The disk's.
    pub fn to_invite_again(&self, now: Timestamp) -> Result<Vec<Device>, RegistrarError> {
        let present: Vec<Subject> = self
            .devices()
            .iter()
            .filter(|d| d.revoked.is_none())
            .map(|d| d.certificate.subject().clone())
            .collect();
        let again = |subject: &Subject| {
            present.iter().any(|own| match &subject.registration {
                Some(registration) => own.registration.as_ref() == Some(registration),
                None => own.common_name == subject.common_name,
            })
        };
        let all = self.directory.parent().unwrap_or(&self.directory);
        let mut devices = Vec::new();
        for name in files::names_in(all)? {
            let directory = all.join(name);
            if directory == self.directory || !directory.is_dir() {
                continue;
            }
            let list = read_list(&directory.join(LIST))?;
            for certificate in read_devices(&directory)?.into_values() {
                let revoked = list.as_ref().and_then(|l| Some(l.revocation(certificate.serial())?.at));
                if revoked.is_none() && now < certificate.not_after() && !again(certificate.subject()) {
                    devices.push(Device { certificate, revoked });
                }
            }
        }
        devices.sort_by_key(|device| device.certificate.subject().common_name.clone());
        Ok(devices)
    }

    fn sign(
        &self,
        network: NetworkId,
        body: Body,
        issued: Timestamp,
        expires: Timestamp,
    ) -> Result<Decoded, RegistrarError> {
        let header = Header {
            network: Some(network),
            custodians: Vec::new(),
            issued,
            // An authority of a trust's existing PKI may live longer than a record can.
            expires: expires.min(issued.plus_secs(LIFE_SECS_MAX)),
        };
        Ok(record::sign(header, body, self.certificate.fingerprint(), &self.key)?)
    }

    fn subject_of(&self, invitee: &Invitee) -> Subject {
        Subject {
            common_name: invitee.name.clone(),
            department: invitee.department.clone(),
            title: invitee.role.clone(),
            registration: invitee.registration.clone(),
            ..self.certificate.subject().clone()
        }
    }

    /// No certificate outlives the registrar's.
    fn life_secs(&self, now: Timestamp, wanted: u64) -> u64 {
        wanted.min(self.certificate.not_after().as_secs().saturating_sub(now.as_secs()))
    }

    fn issuer(&self) -> Result<Issuer<'_>, IssueError> {
        Issuer::new(&self.certificate, &self.key)
    }

    /// What was half done when a thread panicked is on the disk before it is in memory: the memory is never
    /// ahead.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How others reach the holder of a certificate.
pub enum Contact {
    /// Not yet.
    None,
    /// A device.
    Device {
        /// An MLS key package of last resort, as an MLSMessage.
        key_package: Vec<u8>,
        /// Whether its holder wants to be contacted now.
        available: bool,
    },
    /// A node.
    Node {
        /// Multiaddresses.
        addresses: Vec<String>,
    },
}

fn first_certificate(path: &Path) -> Result<Certificate, RegistrarError> {
    let pem = |reason| RegistrarError::Pem { path: path.into(), reason };
    let mut chain = chain_from_pem(&files::read_text(path)?).map_err(pem)?;
    if chain.is_empty() { Err(pem(PemError::None("CERTIFICATE"))) } else { Ok(chain.swap_remove(0)) }
}

fn read_list(path: &Path) -> Result<Option<RevocationList>, RegistrarError> {
    if !path.exists() {
        return Ok(None);
    }
    let list = RevocationList::from_pem(&files::read_text(path)?);
    list.map(Some).map_err(|reason| RegistrarError::Pem { path: path.into(), reason })
}

fn read_devices(directory: &Path) -> Result<BTreeMap<Fingerprint, Certificate>, RegistrarError> {
    let directory = directory.join("devices");
    let mut devices = BTreeMap::new();
    for name in files::names_in(&directory)?.iter().filter(|name| name.ends_with(".pem")) {
        let certificate = first_certificate(&directory.join(name))?;
        devices.insert(certificate.fingerprint(), certificate);
    }
    Ok(devices)
}
