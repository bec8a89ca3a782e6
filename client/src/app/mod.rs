//! What a front end does for the person before it: the commands, and later a page, call these functions and
//! show the [`view`]s that they return.
//!
//! An [`App`] is one enrolled device at work: it holds the profile's lock, so it is opened for one operation
//! and dropped after it, also by a front end that stays ([`Waiter`] waits between operations without the
//! lock).
//!
//! - [`people`]: the directory; from what was typed to one person. [`resemblance`]: people with similar names.
//! - [`conversations`]: founding, showing and changing conversations.
//! - `removal`: what somebody who is taken out could have read.
//! - [`messages`]: sending and reading.
//! - [`deletions`]: deleting, and who has confirmed it.
//! - `certification`, `safety`: what was checked of certificates, and how two people compare them.
//! - `retention`: how long messages live.
//! - `review`: whether the members of a conversation are to be looked through again; `admins`: who may do that.
//! - [`crate::sync`]: what comes from the node, and what waits for it.

mod admins;
mod certification;
pub mod conversations;
pub mod deletions;
mod error;
mod identifying;
pub mod messages;
pub mod people;
mod removal;
pub mod resemblance;
mod retention;
mod review;
mod safety;
pub mod view;

pub use error::AppError;

use std::fs::File;
use std::sync::RwLock;
use std::time::Duration;

use lanyard_crypto::gateway::KeyPackageRequest;
use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::network::Network;
use lanyard_crypto::pin::Pin;
use lanyard_crypto::{Timestamp, ids};

use crate::agent::{self, Opened};
use crate::clock;
use crate::enrol::{self, Certified};
use crate::node::{Anchor, Events, NodeClient, NodeError};
use crate::pin::{self, PinError};
use crate::profile::{Device, Profile, ProfileError};
use crate::session::{KEY_PACKAGE_LIFE_SECS, Session};
use crate::sign_in::SignIn;
use crate::trust::Beliefs;
use crate::vault::{Vault, VaultKey};
use view::{Moment, NetworkView, WhoAmI};

/// When the published key package is to be replaced; the vault's cursor of this name holds the moment.
const KEY_PACKAGE_DUE: &str = "key-package-due";
/// How long a change of members is waited for. An owner trust that can be reached answers in well under a
/// second.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(10);
/// After this share of its life.
const KEY_PACKAGE_RENEW_SECS: u64 = KEY_PACKAGE_LIFE_SECS / 3;

/// One enrolled device at work.
pub struct App {
    pub(crate) profile: Profile,
    pub(crate) device: Device,
    pub(crate) beliefs: Beliefs,
    pub(crate) session: Session<RwLock<Network>>,
    pub(crate) node: NodeClient,
    pub(crate) patience: Duration,
    pub(crate) confirmed: Vec<String>,
    _lock: File,
}

impl App {
    /// Opens an enrolled profile, when no other process works on it any more.
    ///
    /// # Errors
    /// [`AppError`]: not enrolled, damaged, or the disk.
    pub fn open(profile: &Profile) -> Result<Self, AppError> {
        Self::open_by(profile, true)
    }

    /// As [`App::open`], for a process that stays: it does not put off the moment at which an idle device locks.
    ///
    /// # Errors
    /// As [`App::open`].
    pub fn open_unattended(profile: &Profile) -> Result<Self, AppError> {
        Self::open_by(profile, false)
    }

    fn open_by(profile: &Profile, by_hand: bool) -> Result<Self, AppError> {
        // Before the lock, which would make a file in a directory that is no profile.
        profile.load()?;
        let lock = profile.lock()?;
        if !profile.may_have_pin()? {
            return Err(PinError::NotSet.into());
        }
        let opened = agent::opened(profile, by_hand).map_err(AppError::Agent)?.ok_or(AppError::Locked)?;
        Self::with(profile, profile.load()?, Beliefs::load(profile)?, lock, &opened)
    }

    /// Enrols the device with an invitation (see [`crate::enrol`]), and with a sign-in if the trust asks for it, sets its first PIN, and makes it reachable for others if possible. What the
    /// PIN has opened is for the agent.
    ///
    /// # Errors
    /// [`AppError`]: the profile is then not enrolled; or [`AppError::FirstPin`]: it is certified, and the same line ends it.
    pub fn enrol(
        profile: &Profile,
        line: &str,
        pin: Pin,
        sign_in: Option<&SignIn<'_>>,
    ) -> Result<(Self, Opened), AppError> {
        profile.make()?;
        let lock = profile.lock()?;
        let key = match profile.has_pin()? {
            false => None,
            // A node that lost its store has no PIN of the device. Who has unlocked it before may set one for the same vault.
            true => match agent::opened(profile, true).map_err(AppError::Agent)? {
                Some(opened) => Some(opened.key),
                None => {
                    let enrolled = ProfileError::Enrolled(profile.dir().into(), profile.load()?.trust);
                    return Err(AppError::Enrol(enrolled.into()));
                }
            },
        };
        let Certified { device, beliefs, right } = enrol::certify(profile, line, sign_in, clock::now())?;
        let mut node = client(&device, &beliefs)?;
        let opened = pin::set_first(profile, &device, &mut node, right, key, pin);
        let opened = opened.map_err(AppError::FirstPin)?;
        let mut app = Self::with(profile, device, beliefs, lock, &opened)?;
        // The device is enrolled whatever comes of this; every sync tries it again, and `whoami` shows it.
        let _ = app.publish_key_package(clock::now());
        Ok((app, opened))
    }

    fn with(
        profile: &Profile,
        device: Device,
        beliefs: Beliefs,
        lock: File,
        opened: &Opened,
    ) -> Result<Self, AppError> {
        let vault = Vault::open(&profile.vault_path(), &VaultKey::new(**opened.key))?;
        let session = Session::open(vault, beliefs.network(), &device.key, &device.chain_der())?;
        let mut node = client(&device, &beliefs)?;
        node.show(Some(opened.token.clone()));
        Ok(Self {
            profile: profile.clone(),
            device,
            beliefs,
            session,
            node,
            patience: SETTLE_TIME_MAX,
            confirmed: Vec::new(),
            _lock: lock,
        })
    }

    /// How long a change of members is waited for until the owner trust has published it; 10 s unless set. A
    /// front end that shows the change when a later sync brings it need not wait at all.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Who this device says its holder is. Asks nobody.
    ///
    /// # Errors
    /// The disk's.
    pub fn whoami(&self) -> Result<WhoAmI, AppError> {
        let certificate = self.device.certificate();
        let subject = certificate.subject();
        let network = self.beliefs.read();
        let charter = network.charter();
        Ok(WhoAmI {
            name: subject.common_name.clone(),
            role: subject.title.clone(),
            department: subject.department.clone(),
            registration: subject.registration.clone(),
            trust: subject.trust.to_string(),
            organisation: subject.organisation.clone(),
            device: certificate.fingerprint().to_string(),
            certificate_expires: Moment(certificate.not_after()),
            node: self.device.address.clone(),
            network: NetworkView {
                id: network.id().to_string(),
                name: charter.name.clone(),
                charter_version: charter.version,
                charter_expires: Moment(network.expires()),
                trusts: charter.trusts.iter().map(|m| m.trust.to_string()).collect(),
            },
            profile: self.profile.dir().display().to_string(),
            reachable: self.session.vault().cursor(KEY_PACKAGE_DUE)? > 0,
        })
    }

    /// Publishes a key package if there is none in the directory, or if it has served long enough.
    pub(crate) fn publish_key_package(&mut self, now: Timestamp) -> Result<(), AppError> {
        if now.as_secs() < self.session.vault().cursor(KEY_PACKAGE_DUE)? {
            return Ok(());
        }
        let key_package = self.session.key_package(now)?;
        self.node.put_key_package(&KeyPackageRequest { key_package, available: true })?;
        Ok(self
            .session
            .vault()
            .set_cursor(KEY_PACKAGE_DUE, now.plus_secs(KEY_PACKAGE_RENEW_SECS).as_secs())?)
    }

    /// The longest time for which the network keeps anything, in seconds. A little less than the charter
    /// says, since the node counts by its own clock.
    pub(crate) fn retention_secs_max(&self) -> u64 {
        let max = self.beliefs.read().charter().policy.retention_secs_max;
        max - (max / 2).min(CLOCK_SKEW_SECS_MAX)
    }
}

/// Waits for news from the node, without the profile's lock.
pub struct Waiter {
    events: Events,
}

impl Waiter {
    /// Connects. What arrives from then on is told.
    ///
    /// # Errors
    /// [`AppError`]: not enrolled, or the node's.
    pub fn connect(profile: &Profile) -> Result<Self, AppError> {
        let (device, beliefs) = (profile.load()?, Beliefs::load(profile)?);
        Ok(Self { events: client(&device, &beliefs)?.events()? })
    }

    /// Waits until something has arrived, at most for `patience`; tells whether something has.
    ///
    /// # Errors
    /// The node's: connect again.
    pub fn wait(&mut self, patience: Duration) -> Result<bool, AppError> {
        Ok(self.position(patience)?.is_some())
    }

    /// As [`Waiter::wait`]; tells the newest position of the device's inbox, which only grows. The first one is told at once.
    ///
    /// # Errors
    /// As [`Waiter::wait`].
    pub fn position(&mut self, patience: Duration) -> Result<Option<u64>, AppError> {
        Ok(self.events.next(patience)?)
    }
}

pub(crate) fn client(device: &Device, beliefs: &Beliefs) -> Result<NodeClient, NodeError> {
    let anchor = Anchor::Network { trust: device.trust.clone(), network: beliefs.network() };
    NodeClient::new(&device.address, anchor, Some(device))
}

/// Whether `text` is the beginning of an id in hexadecimal digits, of at least `digits_min`.
pub(crate) fn is_prefix(text: &str, digits_min: usize) -> bool {
    text.len() >= digits_min && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether an id's digits begin so; upper and lower case are alike.
pub(crate) fn begins(id: &[u8], prefix: &str) -> bool {
    ids::to_hex(id).starts_with(&prefix.to_ascii_lowercase())
}
