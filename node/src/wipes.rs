//! Wipes of devices: what was ordered, by whom and why, and what each device has confirmed by its own signature.
//!
//! Every revocation of a device is a wipe. Its order is a file of its own under `wipes/` in the data directory, written before the
//! revocation list: after a crash in between, the registrar's next list takes it up ([`crate::registrar::Registrar::pending`]). A device's
//! receipt goes into the same file. The files name no person but by the certificate, and are readable by their owner alone.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lanyard_crypto::ids::{from_hex, to_hex};
use lanyard_crypto::record::WipeReceipt;
use lanyard_crypto::x509::{Certificate, CrlReason};
use lanyard_crypto::{Fingerprint, Timestamp};
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};

/// A wipe's file, in bytes.
const FILE_BYTES_MAX: u64 = 32 * 1024;
/// The reference of an order, in bytes.
pub const REFERENCE_BYTES_MAX: usize = 64;

/// Why wipes cannot be read or kept, or a receipt is not taken.
#[derive(Debug, thiserror::Error)]
pub enum WipeError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not what was written.
    #[error("{}: not the file of a wipe; restore it from a backup, or move it away", .0.display())]
    Damaged(PathBuf),
    /// The receipt is of no device that was wiped here.
    #[error("no device of this certificate was wiped by this node's registrar")]
    Unknown,
    /// The receipt is not the device's.
    #[error("the receipt is not signed by the device that it names")]
    NotSigned,
}

/// Why a device is wiped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is lost.
    Lost,
    /// It was stolen.
    Stolen,
    /// Its holder has left the trust.
    Left,
    /// It is handed to another person.
    HandedOver,
    /// Its holder has enrolled another one in its place.
    Replaced,
    /// Its PIN was tried too often.
    PinTriedTooOften,
    /// Somebody may have its key.
    KeyCompromise,
    /// Its holder's certificate says what is not true any more.
    AffiliationChanged,
    /// Another certificate has taken its place.
    Superseded,
    /// It is not used any more.
    CessationOfOperation,
    /// It was not said.
    Unspecified,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Lost,
        Self::Stolen,
        Self::Left,
        Self::HandedOver,
        Self::Replaced,
        Self::PinTriedTooOften,
        Self::KeyCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::Unspecified,
    ];

    /// Its stable word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Stolen => "stolen",
            Self::Left => "left",
            Self::HandedOver => "handed-over",
            Self::Replaced => "replaced",
            Self::PinTriedTooOften => "pin-tried-too-often",
            Self::KeyCompromise => "key-compromise",
            Self::AffiliationChanged => "affiliation-changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::Unspecified => "unspecified",
        }
    }

    /// The reason of this word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// As the revocation list says it (RFC 5280, section 5.3.1).
    pub const fn in_list(self) -> CrlReason {
        match self {
            Self::Lost | Self::Stolen | Self::PinTriedTooOften | Self::KeyCompromise => {
                CrlReason::KeyCompromise
            }
            Self::Left | Self::AffiliationChanged => CrlReason::AffiliationChanged,
            Self::HandedOver | Self::Replaced | Self::Superseded => CrlReason::Superseded,
            Self::CessationOfOperation => CrlReason::CessationOfOperation,
            Self::Unspecified => CrlReason::Unspecified,
        }
    }
}

/// An order to wipe devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Why.
    pub reason: Reason,
    /// Who authorised it, as an opaque reference, if anybody has.
    pub reference: Option<String>,
}

impl Order {
    /// Without a reference: nobody has authorised it but who may give orders to the node.
    pub const fn because(reason: Reason) -> Self {
        Self { reason, reference: None }
    }
}

/// What a device has confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// When its vault was gone, by its clock.
    pub wiped: Timestamp,
    /// When this node was told.
    pub told: Timestamp,
    /// Its receipt ([`WipeReceipt`]), in hexadecimal digits.
    pub receipt: String,
}

/// The wipe of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wipe {
    version: u32,
    /// The device's certificate, DER, in hexadecimal digits.
    certificate: String,
    /// Why.
    pub reason: Reason,
    /// Who authorised it.
    pub reference: Option<String>,
    /// When it was ordered.
    pub ordered: Timestamp,
    /// What the device has confirmed.
    pub confirmed: Option<Confirmed>,
}

impl Wipe {
    fn new(certificate: &Certificate, order: &Order, ordered: Timestamp) -> Self {
        let Order { reason, reference } = order.clone();
        let certificate = to_hex(certificate.der());
        Self { version: 1, certificate, reason, reference, ordered, confirmed: None }
    }

    /// The device's certificate; none if the file was changed.
    pub fn certificate(&self) -> Option<Certificate> {
        Certificate::parse(&from_hex(&self.certificate)?).ok()
    }
}

/// The wipes that this node knows of, in a directory.
pub struct Wipes {
    directory: PathBuf,
    /// What is on the disk. Held over each change and write.
    known: Mutex<BTreeMap<Fingerprint, Wipe>>,
}

impl Wipes {
    /// Those in `directory`, which is made if it is not there.
    ///
    /// # Errors
    /// [`WipeError::File`] or [`WipeError::Damaged`].
    pub fn open(directory: PathBuf) -> Result<Self, WipeError> {
        files::create_directory(&directory)?;
        let mut known = BTreeMap::new();
        for name in files::names_in(&directory)?.iter().filter(|name| !name.starts_with('.')) {
            let Some(device) = name.strip_suffix(".json") else { continue };
            let path = directory.join(name);
            let bytes = files::read(&path, FILE_BYTES_MAX)?;
            let wipe: Option<Wipe> =
                serde_json::from_slice(&bytes).ok().filter(|wipe: &Wipe| wipe.version == 1);
            let device = device.parse::<Fingerprint>().ok().zip(wipe).filter(|(device, wipe)| {
                wipe.certificate().is_some_and(|certificate| certificate.fingerprint() == *device)
            });
            let (device, wipe) = device.ok_or(WipeError::Damaged(path))?;
            known.insert(device, wipe);
        }
        Ok(Self { directory, known: Mutex::new(known) })
    }

    /// Keeps an order, and tells whether it is new: the first one about a device stands.
    ///
    /// # Errors
    /// [`WipeError::File`]; it is then as before.
    pub fn order(&self, device: &Certificate, order: &Order, now: Timestamp) -> Result<bool, WipeError> {
        let mut known = self.known();
        let Entry::Vacant(place) = known.entry(device.fingerprint()) else { return Ok(false) };
        let wipe = Wipe::new(device, order, now);
        self.write(&device.fingerprint(), &wipe)?;
        place.insert(wipe);
        Ok(true)
    }

    /// Takes a device's receipt; tells whether it is the first.
    ///
    /// # Errors
    /// [`WipeError::Unknown`], [`WipeError::NotSigned`] or [`WipeError::File`].
    pub fn confirm(&self, receipt: &WipeReceipt, now: Timestamp) -> Result<bool, WipeError> {
        let mut known = self.known();
        let wipe = known.get_mut(&receipt.device()).ok_or(WipeError::Unknown)?;
        let certificate = wipe.certificate().ok_or(WipeError::Unknown)?;
        receipt.verify(&certificate).map_err(|_| WipeError::NotSigned)?;
        if wipe.confirmed.is_some() {
            return Ok(false);
        }
        let confirmed = Confirmed { wiped: receipt.wiped(), told: now, receipt: to_hex(receipt.bytes()) };
        let confirmed = Wipe { confirmed: Some(confirmed), ..wipe.clone() };
        self.write(&receipt.device(), &confirmed)?;
        *wipe = confirmed;
        Ok(true)
    }

    /// The one of this device.
    pub fn get(&self, device: &Fingerprint) -> Option<Wipe> {
        self.known().get(device).cloned()
    }

    /// The devices that are or were to be wiped, and when that was ordered.
    pub fn ordered(&self) -> Vec<(Fingerprint, Timestamp)> {
        self.known().iter().map(|(device, wipe)| (*device, wipe.ordered)).collect()
    }

    /// All of them, by when they were ordered.
    pub fn all(&self) -> Vec<(Fingerprint, Wipe)> {
        let mut all: Vec<_> = self.known().iter().map(|(device, wipe)| (*device, wipe.clone())).collect();
        all.sort_by_key(|(device, wipe)| (wipe.ordered, *device));
        all
    }

    fn write(&self, device: &Fingerprint, wipe: &Wipe) -> Result<(), FileError> {
        let bytes = serde_json::to_vec_pretty(wipe).expect("a wipe has no keys but text");
        files::replace(&self.directory.join(format!("{device}.json")), &bytes, files::SECRET)
    }

    /// What was half done when a thread panicked is on the disk before it is in memory.
    fn known(&self) -> MutexGuard<'_, BTreeMap<Fingerprint, Wipe>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, Trust};

    fn order() -> Order {
        Order { reason: Reason::Lost, reference: Some("INC-7".into()) }
    }

    #[test]
    fn the_first_order_stands_and_a_receipt_is_taken_once_across_restarts() {
        let trust = Trust::new("RYJ");
        let (key, device) = trust.device("Dr Ada Okafor", NOW, 3600);
        let (_, other) = trust.device("Dr Ben Hughes", NOW, 3600);
        let directory = tempfile::tempdir().unwrap();
        let open = || Wipes::open(directory.path().join("wipes")).unwrap();
        let receipt = WipeReceipt::sign(1, NOW, device.fingerprint(), &key);
        assert!(matches!(open().confirm(&receipt, NOW), Err(WipeError::Unknown)));

        assert!(open().order(&device, &order(), NOW).unwrap());
        assert!(!open().order(&device, &Order::because(Reason::Left), NOW.plus_secs(5)).unwrap());
        let forged = WipeReceipt::sign(1, NOW, device.fingerprint(), &trust.device("Eve", NOW, 3600).0);
        assert!(matches!(open().confirm(&forged, NOW), Err(WipeError::NotSigned)));
        assert!(open().confirm(&receipt, NOW.plus_secs(60)).unwrap());
        assert!(!open().confirm(&receipt, NOW.plus_secs(90)).unwrap(), "it was told before");

        open().order(&other, &Order::because(Reason::Left), NOW.plus_secs(9)).unwrap();
        let all = open().all();
        let shown: Vec<_> = all
            .iter()
            .map(|(device, wipe)| (*device, wipe.reason, wipe.reference.as_deref(), wipe.ordered))
            .collect();
        assert_eq!(
            shown,
            [
                (device.fingerprint(), Reason::Lost, Some("INC-7"), NOW),
                (other.fingerprint(), Reason::Left, None, NOW.plus_secs(9)),
            ]
        );
        assert_eq!(all[0].1.confirmed.as_ref().map(|c| (c.wiped, c.told)), Some((NOW, NOW.plus_secs(60))));
    }

    #[test]
    fn a_file_that_was_changed_is_refused_by_name() {
        let trust = Trust::new("RYJ");
        let (_, device) = trust.device("Dr Ada Okafor", NOW, 3600);
        let directory = tempfile::tempdir().unwrap();
        Wipes::open(directory.path().into()).unwrap().order(&device, &order(), NOW).unwrap();
        let path = directory.path().join(format!("{}.json", device.fingerprint()));
        files::check_secret(&path).unwrap();
        std::fs::rename(&path, directory.path().join(format!("{}.json", Fingerprint::new([1; 32])))).unwrap();
        assert!(matches!(Wipes::open(directory.path().into()), Err(WipeError::Damaged(_))));
    }

    #[test]
    fn reasons_have_words_of_their_own() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.name()), Some(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
        assert_eq!(Reason::from_name("because"), None);
    }
}
