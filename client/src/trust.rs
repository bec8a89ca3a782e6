//! What the device believes: the charter and the revocation lists, kept on its own disk.
//!
//! The first charter comes with the enrolment, from a node that proved to be the inviting trust's; every
//! later one must follow it by the charter's own rules, whoever hands it over. Revocation lists only ever
//! gain: the higher number wins, also over what the node says now. So a node cannot take its clients back to
//! an earlier state.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use lanyard_crypto::cbor::{self, CborError};
use lanyard_crypto::charter::CharterError;
use lanyard_crypto::gateway::TrustResponse;
use lanyard_crypto::limits::CHARTER_BYTES_MAX;
use lanyard_crypto::network::{IdentityError, Network};
use lanyard_crypto::record::{self, Body, DecodeError, Decoded, Verified, VerifyError};
use lanyard_crypto::x509::ChainError;
use lanyard_crypto::{Fingerprint, Timestamp, TrustId};
use serde_bytes::ByteBuf;

use crate::files::{self, FileError};
use crate::heard::Heard;
use crate::profile::Profile;

/// All kept revocation lists together, in bytes: more than one answer of the node can hold.
const CRLS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why the device's beliefs cannot be loaded, or what it was told is not believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The disk's fault.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not a record, or not a list of them.
    #[error("the charter or a revocation list cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// The kept lists are not what was written.
    #[error(
        "the kept revocation lists cannot be read: {0}; remove crls.cbor from the profile, \
         then run: lanyard sync"
    )]
    Kept(CborError),
    /// The device has missed versions in between.
    #[error(
        "the network's charter is at version {offered}, and this device knows version {current}: \
         your node does not hold the versions in between, so that this cannot be checked; tell your trust's IT"
    )]
    Missed {
        /// The version in force.
        offered: u64,
        /// The version that the device knows.
        current: u64,
    },
    /// Not signed as it must be.
    #[error("what the node says of the network is not believed: {0}; tell your trust's IT")]
    Verify(#[from] VerifyError),
    /// It contradicts itself.
    #[error("what the node says of the network is not believed: {0}; tell your trust's IT")]
    Charter(#[from] CharterError),
    /// Another kind of record where the charter should be.
    #[error("the node handed over a {0} as the charter; tell your trust's IT")]
    NotACharter(&'static str),
    /// The charter does not carry the inviting trust under the root that the invitation names.
    #[error("the network's charter does not carry {0} with the root certificate that the invitation names")]
    NotAMember(TrustId),
}

/// What the device believes.
pub struct Beliefs {
    profile: Profile,
    charter: Decoded,
    crls: BTreeMap<Fingerprint, Decoded>,
    network: Arc<RwLock<Network>>,
    heard: Heard,
}

impl Beliefs {
    /// Begins with the charter that came with an enrolment, if it carries the inviting trust. Written to the
    /// disk.
    ///
    /// # Errors
    /// [`TrustError`]: not a charter, not signed under its own rules, or without this trust and root.
    pub fn found(
        profile: &Profile,
        charter: &[u8],
        trust: &TrustId,
        root: &Fingerprint,
    ) -> Result<Self, TrustError> {
        let charter = Decoded::from_bytes(charter)?;
        let network = record::open_trusted(&charter)?;
        if network.root(trust).is_none_or(|carried| carried.fingerprint() != *root) {
            return Err(TrustError::NotAMember(trust.clone()));
        }
        files::write_private(&profile.charter_path(), charter.bytes())?;
        let (network, heard) = (Arc::new(RwLock::new(network)), Heard::load(profile.heard_path()));
        let mut beliefs = Self { profile: profile.clone(), charter, crls: BTreeMap::new(), network, heard };
        beliefs.judge_by_heard();
        Ok(beliefs)
    }

    /// Loads what was kept.
    ///
    /// # Errors
    /// [`TrustError`] if it is missing or damaged.
    pub fn load(profile: &Profile) -> Result<Self, TrustError> {
        let charter = files::read_private(&profile.charter_path(), CHARTER_BYTES_MAX)?;
        let charter = Decoded::from_bytes(&charter)?;
        let network = Arc::new(RwLock::new(record::open_trusted(&charter)?));
        let heard = Heard::load(profile.heard_path());
        let mut beliefs = Self { profile: profile.clone(), charter, crls: BTreeMap::new(), network, heard };
        beliefs.judge_by_heard();
        if profile.crls_path().exists() {
            let kept = files::read_private(&profile.crls_path(), CRLS_BYTES_MAX)?;
            let kept: Vec<ByteBuf> = cbor::from_slice(&kept, CRLS_BYTES_MAX).map_err(TrustError::Kept)?;
            for crl in kept {
                // One whose issuer a later charter dropped does not verify any more, and is not needed.
                let _ = beliefs.take_crl(&crl)?;
            }
        }
        Ok(beliefs)
    }

    /// The network as it is believed to be; shared, so that what arrives counts at once everywhere.
    pub fn network(&self) -> Arc<RwLock<Network>> {
        self.network.clone()
    }

    /// The same, to look at.
    pub fn read(&self) -> RwLockReadGuard<'_, Network> {
        self.network.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, to learn chains.
    pub fn write(&self) -> RwLockWriteGuard<'_, Network> {
        self.network.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the node says is in force, as far as it is newer and holds. Written to the disk before it
    /// counts as taken.
    ///
    /// # Errors
    /// [`TrustError`]; what was believed before stays.
    pub fn take(&mut self, told: &TrustResponse) -> Result<(), TrustError> {
        self.take_charter(&told.charter)?;
        let mut changed = false;
        for crl in &told.crls {
            changed |= self.take_crl(crl)?;
        }
        if changed {
            let kept: Vec<_> = self.crls.values().map(|c| ByteBuf::from(c.bytes().to_vec())).collect();
            files::write_private(&self.profile.crls_path(), &cbor::to_vec(&kept))?;
        }
        self.keep_heard()?;
        Ok(())
    }

    fn take_charter(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        let offered = Decoded::from_bytes(bytes)?;
        if offered.id() == self.charter.id() {
            return Ok(());
        }
        let Body::Charter(charter) = offered.body() else {
            return Err(TrustError::NotACharter(offered.body().kind().name()));
        };
        let verified = match record::verify(offered.clone(), &self.read()) {
            Err(VerifyError::Charter(CharterError::Gap { offered, current })) => {
                return Err(TrustError::Missed { offered, current });
            }
            // The node is behind; what this device knows stays in force for it.
            Err(VerifyError::Charter(CharterError::Rollback { .. })) => return Ok(()),
            other => other?,
        };
        let next =
            Network::new(verified.decoded().statement(), verified.header(), charter, Some(&self.read()))?;
        files::write_private(&self.profile.charter_path(), verified.bytes())?;
        *self.write() = next;
        self.charter = offered;
        Ok(())
    }

    /// Takes one list; tells whether it was newer than what was held. One that does not verify is passed
    /// over: it may be of a trust that this charter does not carry.
    fn take_crl(&mut self, bytes: &[u8]) -> Result<bool, TrustError> {
        let decoded = Decoded::from_bytes(bytes)?;
        // A node tells all of them with every sync: what is held was verified and is on the disk.
        if self.crls.values().any(|held| held.id() == decoded.id()) {
            return Ok(false);
        }
        let Ok(verified) = record::verify(decoded.clone(), &self.read()) else {
            return Ok(false);
        };
        self.hear(&verified);
        let Some((issuer, list)) = verified.revocations() else {
            return Ok(false);
        };
        let newer = self.write().revoke(issuer.fingerprint(), list.clone());
        if newer {
            self.crls.insert(issuer.fingerprint(), decoded);
        }
        Ok(newer)
    }

    /// Hears when a record was signed, which this device has verified: its own clock is not trusted alone.
    pub(crate) fn hear(&mut self, record: &Verified) {
        self.heard.hear(record);
        self.judge_by_heard();
    }

    /// Keeps what was heard on the disk.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn keep_heard(&mut self) -> Result<(), FileError> {
        self.heard.keep()
    }

    fn judge_by_heard(&mut self) {
        let floor = self.heard.floor();
        self.write().set_floor(floor);
    }

    /// By how many seconds this clock is behind what others have signed; none if it is not, or not by more than clocks may differ.
    pub fn clock_behind(&self, clock: Timestamp) -> Option<u64> {
        Some(self.read().behind_secs(clock)).filter(|behind| *behind > 0)
    }

    /// Whether the charter has ended, and when.
    pub fn charter_ended(&self, now: Timestamp) -> Option<Timestamp> {
        let network = self.read();
        Some(network.expires()).filter(|expires| *expires <= network.time(now))
    }
}

/// Whether a certificate that says nothing now may do so later: under the next charter, which may carry another
/// trust, root or country, or with another revocation list. The moment that it is asked for does not change,
/// and what was revoked stays revoked.
pub(crate) fn may_heal(error: &IdentityError) -> bool {
    match error {
        IdentityError::CharterExpired
        | IdentityError::UnknownTrust(_)
        | IdentityError::UnknownCertificate(_)
        | IdentityError::Country(..) => true,
        IdentityError::Chain(
            ChainError::Revoked { .. } | ChainError::Expired { .. } | ChainError::NotYetValid { .. },
        )
        | IdentityError::NotAChain(_) => false,
        IdentityError::Chain(_) => true,
    }
}
