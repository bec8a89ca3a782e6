//! Wiping this device, when its trust has revoked its certificate.
//!
//! A revoked certificate does not get through TLS. So a device that its node refuses asks as a stranger, as one that enrols does, for its
//! registrar's revocation list, and believes that alone: signed by the registrar that certified the device, and naming its serial number.
//! Only then it destroys what it keeps.
//!
//! Strategy for crashes: a mark is written first, and whoever finds it goes on from wherever it stopped. The agent is locked, then the vault
//! and its keys are destroyed, and what else the profile knows; then the device's key signs the receipt, as the last thing that it does, and
//! goes. What stays is the receipt, which names nobody, until the node has it; and that the device was wiped, until it is enrolled anew.
//! A file system may keep copies of what was overwritten, and a backup of the profile is none of it: without the node's half, which is
//! destroyed, they open nothing.

use std::fmt;
use std::path::PathBuf;

use lanyard_crypto::gateway::WipedRequest;
use lanyard_crypto::record::WipeReceipt;
use lanyard_crypto::x509::{Certificate, RevocationList};
use lanyard_crypto::{Fingerprint, Timestamp, TrustId, cbor};
use serde::{Deserialize, Serialize};

use crate::agent;
use crate::clock;
use crate::files::{self, FileError};
use crate::node::{Anchor, NodeClient, NodeError};
use crate::profile::{Device, Profile, ProfileError};
use crate::trust::Beliefs;

/// What is kept of a wipe, in bytes.
const KEPT_BYTES_MAX: usize = 4096;
/// What begins so holds something: the vault, what SQLite has beside it, its keys, and what was being written when a process was killed.
const VAULT_PREFIXES: [&str; 2] = ["vault.", ".tmp"];
/// The same of single files: what the device knows of its network, and when it was locked.
const KNOWN: [&str; 4] = ["charter.cbor", "crls.cbor", "heard.cbor", "locked"];
/// The certificate and what proves it, in the order in which they go.
const IDENTITY: [&str; 3] = ["device.json", "chain.pem", "device.key"];

/// Why a device was not wiped, or does not know whether it is to be.
#[derive(Debug, thiserror::Error)]
pub enum WipeError {
    /// The profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A file cannot be destroyed.
    #[error("this device is to be wiped, and could not be: {0}; it goes on with the next command")]
    File(#[from] FileError),
    /// The directory of the profile cannot be read.
    #[error("this device is to be wiped, and could not be: {0}: {1}; it goes on with the next command")]
    Directory(PathBuf, std::io::Error),
    /// The node cannot be asked.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// What the node hands over is no list of this device's registrar.
    #[error("what the node says of this device is not believed: {0}; tell your trust's IT")]
    List(String),
}

impl WipeError {
    /// Whether something that is to be destroyed may still be there.
    pub fn is_unfinished(&self) -> bool {
        matches!(self, Self::File(_) | Self::Directory(..))
    }
}

/// A device that was wiped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wiped {
    /// When what it kept was gone.
    pub at: Timestamp,
    /// Whether its node has taken the receipt; none as long as it could not be asked.
    pub taken: Option<bool>,
}

impl fmt::Display for Wiped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let receipt = match self.taken {
            Some(true) => "your trust has this device's receipt for that",
            Some(false) => "your trust's node has not taken this device's receipt for that",
            None => {
                "its receipt is kept here, and handed in with the next command that reaches your trust's node"
            }
        };
        write!(
            f,
            "your trust has revoked this device, and what it kept was destroyed at {}; {receipt}; to use it again, ask your trust for a \
             new invitation, then run: lanyard enrol",
            clock::rfc3339(self.at)
        )
    }
}

/// What stays of a wiped device.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    trust: TrustId,
    root: Fingerprint,
    address: String,
    #[serde(with = "serde_bytes")]
    receipt: Vec<u8>,
    /// Whether the node has taken it; none until it was handed in.
    taken: Option<bool>,
}

impl Kept {
    fn read(profile: &Profile) -> Result<Option<(Self, WipeReceipt)>, FileError> {
        let path = profile.wiped_path();
        if !path.exists() {
            return Ok(None);
        }
        let bytes = files::read_private(&path, KEPT_BYTES_MAX)?;
        let kept: Option<Self> = cbor::from_slice(&bytes, KEPT_BYTES_MAX).ok();
        Ok(kept.and_then(|kept| Some((kept.clone(), WipeReceipt::from_bytes(&kept.receipt).ok()?))))
    }

    fn write(&self, profile: &Profile) -> Result<(), FileError> {
        files::write_private(&profile.wiped_path(), &cbor::to_vec(self))
    }

    fn told(&self, receipt: &WipeReceipt) -> Wiped {
        Wiped { at: receipt.wiped(), taken: self.taken }
    }
}

/// Goes on with what broke off: a wipe, or handing in its receipt. Does nothing if there is neither.
///
/// # Errors
/// [`WipeError`] if files cannot be destroyed. That the node cannot be reached is none.
pub fn go_on(profile: &Profile) -> Result<(), WipeError> {
    if profile.wipe_mark().exists() {
        let _lock = profile.lock()?;
        // Another process may have done it meanwhile.
        if profile.wipe_mark().exists() {
            let list = files::read_private(&profile.wipe_mark(), KEPT_BYTES_MAX)?;
            carry_out(profile, cbor::from_slice(&list, KEPT_BYTES_MAX).unwrap_or_default())?;
        }
    }
    if Kept::read(profile)?.is_some_and(|(kept, _)| kept.taken.is_none()) {
        let _lock = profile.lock()?;
        hand_in(profile)?;
    }
    Ok(())
}

/// Whether this device was wiped; if it is enrolled, its node is asked, and if its trust has revoked it, it is wiped now.
///
/// # Errors
/// [`WipeError`]: nobody knows, or something could not be destroyed.
pub fn look(profile: &Profile) -> Result<Option<Wiped>, WipeError> {
    // Before the lock, which would make a file in a directory that is no profile.
    if matches!(profile.load(), Err(ProfileError::NotEnrolled(_))) && !profile.wiped_path().exists() {
        return Ok(None);
    }
    let _lock = profile.lock()?;
    match profile.load() {
        Err(ProfileError::NotEnrolled(_)) => {}
        Err(error) => return Err(error.into()),
        Ok(device) => {
            let list = if is_withdrawn(profile, &device) { None } else { revoked_by(&device)? };
            let Some(list) = list else { return Ok(None) };
            // Without room for the mark, what is destroyed makes some.
            let _ = files::write_private(&profile.wipe_mark(), &cbor::to_vec(&list));
            carry_out(profile, list)?;
            hand_in(profile)?;
        }
    }
    Ok(Kept::read(profile)?.map(|(kept, receipt)| kept.told(&receipt)))
}

/// Forgets that the device was wiped, once it is enrolled anew and its receipt was handed in.
///
/// # Errors
/// [`FileError::Io`].
pub fn forget(profile: &Profile) -> Result<(), FileError> {
    match Kept::read(profile)? {
        Some((kept, _)) if kept.taken.is_some() => files::destroy(&profile.wiped_path()),
        _ => Ok(()),
    }
}

/// Whether the root has taken the registrar's right away, as far as is known here: its key orders nothing any more.
fn is_withdrawn(profile: &Profile, device: &Device) -> bool {
    let (Ok(beliefs), [_, registrar]) = (Beliefs::load(profile), &device.chain[..]) else { return false };
    let network = beliefs.read();
    let list = network.root(&device.trust).and_then(|root| network.revocation_list(&root.fingerprint()));
    list.is_some_and(|list| list.is_revoked(registrar.serial()))
}

/// Asks the node, as a stranger, for the list of the device's registrar; returns its number if it names the device.
fn revoked_by(device: &Device) -> Result<Option<u64>, WipeError> {
    let [_, registrar] = &device.chain[..] else { return Ok(None) };
    let mut node = stranger(&device.trust, device.root, &device.address)?;
    let answer = node.revocations(&registrar.fingerprint())?;
    named_by(&device.chain, &answer.list)
}

/// The number of the list, if the device's own registrar has signed it and it names the device.
fn named_by(chain: &[Certificate], list: &[u8]) -> Result<Option<u64>, WipeError> {
    let [leaf, registrar] = chain else { return Ok(None) };
    let list = RevocationList::parse(list).map_err(|e| WipeError::List(e.to_string()))?;
    // Whoever answers, and however old the list is: nobody but the registrar signs one, and nothing that it revoked is valid again.
    list.verify(registrar).map_err(|e| WipeError::List(e.to_string()))?;
    Ok(list.is_revoked(leaf.serial()).then(|| list.number()))
}

/// Destroys everything; the profile's lock is held. Does again what was done already.
fn carry_out(profile: &Profile, list: u64) -> Result<(), WipeError> {
    // One that does not answer has nothing that opens anything once the vault is gone.
    let _ = agent::lock(profile);
    let _ = agent::drop_offline(profile);
    let device = profile.load().ok();
    let destroyed = destroy_contents(profile);
    files::write_private(&profile.wipe_mark(), &cbor::to_vec(&list))?;
    destroyed?;
    if let Some(device) = device {
        let own = device.certificate().fingerprint();
        let is_signed = Kept::read(profile)?.is_some_and(|(_, receipt)| receipt.device() == own);
        if !is_signed {
            let receipt = WipeReceipt::sign(list, clock::now(), own, &device.key).bytes().to_vec();
            let Device { trust, root, address, .. } = device;
            Kept { trust, root, address, receipt, taken: None }.write(profile)?;
        }
    }
    for name in IDENTITY {
        files::destroy(&profile.dir().join(name))?;
    }
    Ok(files::destroy(&profile.wipe_mark())?)
}

fn destroy_contents(profile: &Profile) -> Result<(), WipeError> {
    let failed = |error| WipeError::Directory(profile.dir().into(), error);
    let mut destroyed = Ok(());
    for entry in std::fs::read_dir(profile.dir()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let holds = VAULT_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || KNOWN.contains(&&*name);
        // One that cannot be destroyed keeps none of the others.
        if holds && !entry.file_type().map_err(failed)?.is_dir() {
            destroyed = destroyed.and(files::destroy(&entry.path()));
        }
    }
    Ok(destroyed?)
}

/// Hands in the receipt that is kept, if the node can be reached.
fn hand_in(profile: &Profile) -> Result<(), WipeError> {
    let Some((kept, _)) = Kept::read(profile)?.filter(|(kept, _)| kept.taken.is_none()) else {
        return Ok(());
    };
    let asked = stranger(&kept.trust, kept.root, &kept.address)
        .and_then(|mut node| node.wiped(&WipedRequest { receipt: kept.receipt.clone() }));
    let taken = match asked {
        Ok(()) => true,
        Err(error) if error.is_final() => false,
        Err(_) => return Ok(()),
    };
    Ok(Kept { taken: Some(taken), ..kept }.write(profile)?)
}

fn stranger(trust: &TrustId, root: Fingerprint, address: &str) -> Result<NodeClient, NodeError> {
    NodeClient::new(address, Anchor::Invitation { trust: trust.clone(), root }, None)
}

#[cfg(test)]
mod tests {
    use lanyard_crypto::residency::Country;
    use lanyard_crypto::x509::issue::{self, Issuer, Term};
    use lanyard_crypto::x509::{CrlReason, Revocation, SecretKey, Subject};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_772_323_200);
    const LIFE_SECS: u64 = 24 * 3600;

    /// A trust's registrar, with its key.
    struct Registrar(Certificate, SecretKey);

    fn subject(name: &str) -> Subject {
        Subject {
            trust: "RYJ".parse().unwrap(),
            country: Country::GB,
            organisation: "Test Trust".into(),
            common_name: name.into(),
            department: None,
            title: None,
            registration: None,
        }
    }

    impl Registrar {
        /// Two of one name are of two trusts that call themselves alike.
        fn new() -> Self {
            let term = || Term::starting(NOW, LIFE_SECS).unwrap();
            let (root_key, key) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
            let root = issue::root(&subject("Root"), &root_key, &term()).unwrap();
            let issuer = Issuer::new(&root, &root_key).unwrap();
            Self(issuer.registrar(&subject("Registrar"), &key.public(), &term()).unwrap(), key)
        }

        fn device(&self, key: &SecretKey) -> Vec<Certificate> {
            let issuer = Issuer::new(&self.0, &self.1).unwrap();
            let term = Term::starting(NOW, LIFE_SECS).unwrap();
            vec![issuer.device(&subject("Dr Ada Okafor"), &key.public(), &term).unwrap(), self.0.clone()]
        }

        fn list(&self, number: u64, revoked: &Certificate) -> Vec<u8> {
            let issuer = Issuer::new(&self.0, &self.1).unwrap();
            let reason = Some(CrlReason::KeyCompromise);
            let entry = Revocation { serial: revoked.serial().to_vec(), at: NOW, reason };
            let list = issuer.revocation_list(number, NOW, NOW.plus_secs(LIFE_SECS), &[entry]).unwrap();
            list.der().to_vec()
        }
    }

    #[test]
    fn nothing_but_the_own_registrars_list_that_names_the_device_wipes_it() {
        let (own, other) = (Registrar::new(), Registrar::new());
        let key = SecretKey::generate().unwrap();
        let chain = own.device(&key);
        assert_eq!(named_by(&chain, &own.list(7, &chain[0])).unwrap(), Some(7));
        // Another device's revocation.
        let colleague = own.device(&SecretKey::generate().unwrap());
        assert_eq!(named_by(&chain, &own.list(8, &colleague[0])).unwrap(), None);
        // Whoever can answer in the node's place can name any number.
        assert!(matches!(named_by(&chain, &other.list(9, &chain[0])), Err(WipeError::List(_))));
        let mut altered = own.list(7, &chain[0]);
        *altered.last_mut().unwrap() ^= 1;
        assert!(matches!(named_by(&chain, &altered), Err(WipeError::List(_))));
        assert!(matches!(named_by(&chain, b"revoked"), Err(WipeError::List(_))));
    }

    /// An enrolled profile with something in each file that holds anything.
    fn enrolled(dir: &tempfile::TempDir) -> (Profile, Device) {
        let profile = Profile::at(dir.path().join("p"));
        profile.make().unwrap();
        let key = profile.key().unwrap();
        let chain = Registrar::new().device(&key);
        let (trust, root) = ("RYJ".parse().unwrap(), Fingerprint::new([1; 32]));
        let device = Device { trust, root, address: "127.0.0.1:1".into(), chain, key };
        profile.enrol(&device).unwrap();
        for name in
            ["vault.db", "vault.db-wal", "vault.db-journal", "vault.key", "vault.sealed", "vault.sealed.new"]
        {
            files::write_private(&profile.dir().join(name), b"a marker").unwrap();
        }
        for name in [".tmpAbCdEf", "charter.cbor", "crls.cbor"] {
            files::write_private(&profile.dir().join(name), b"a marker").unwrap();
        }
        (profile, device)
    }

    fn names(profile: &Profile) -> Vec<String> {
        let entries = std::fs::read_dir(profile.dir()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "lock");
        names.sort();
        names
    }

    #[test]
    fn everything_goes_and_the_receipt_is_the_devices() {
        let dir = tempfile::tempdir().unwrap();
        let (profile, device) = enrolled(&dir);
        files::write_private(&dir.path().join("another's"), b"stays").unwrap();
        carry_out(&profile, 7).unwrap();
        assert_eq!(names(&profile), ["wiped.cbor"]);
        let (kept, receipt) = Kept::read(&profile).unwrap().unwrap();
        receipt.verify(device.certificate()).unwrap();
        assert!(receipt.list() == 7 && kept.taken.is_none());
        // The node cannot be reached; that is no error, and nothing is lost.
        go_on(&profile).unwrap();
        assert_eq!(look(&profile).unwrap().unwrap(), Wiped { at: receipt.wiped(), taken: None });
        assert!(dir.path().join("another's").exists());
    }

    /// Whatever is gone already when a process is killed: what is left goes with the next command.
    #[test]
    fn a_wipe_goes_on_from_every_point() {
        let order = [
            "vault.db",
            "vault.key",
            "vault.sealed",
            "charter.cbor",
            "device.json",
            "chain.pem",
            "device.key",
        ];
        for gone in 0..=order.len() {
            let dir = tempfile::tempdir().unwrap();
            let (profile, device) = enrolled(&dir);
            files::write_private(&profile.wipe_mark(), &cbor::to_vec(&7_u64)).unwrap();
            // The receipt was on the disk before the first of the identity went.
            if gone > 4 {
                let receipt = WipeReceipt::sign(7, NOW, device.certificate().fingerprint(), &device.key);
                let Device { trust, root, address, .. } = device.clone();
                let receipt = receipt.bytes().to_vec();
                Kept { trust, root, address, receipt, taken: None }.write(&profile).unwrap();
            }
            for name in &order[..gone] {
                files::destroy(&profile.dir().join(name)).unwrap();
            }
            go_on(&profile).unwrap();
            assert_eq!(names(&profile), ["wiped.cbor"], "{gone} files were gone");
            let (_, receipt) = Kept::read(&profile).unwrap().unwrap();
            receipt.verify(device.certificate()).unwrap();
        }
    }
}
