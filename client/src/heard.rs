//! When others have signed what this device has verified: how late it is at least.
//!
//! A device's clock is not to be trusted alone: set back by hours, it would take certificates that have ended. Of each trust the device
//! keeps the newest moment that its node or registrar has signed. What two of them have reached is the least that the time can be; less
//! what clocks may differ by, certificates are judged by that if the device's own clock is behind it
//! ([`lanyard_crypto::network::Network::time`]).
//! One trust alone moves it nowhere. In a file of its own, since the vault may be locked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lanyard_crypto::limits::{CHARTER_TRUSTS_MAX, CLOCK_SKEW_SECS_MAX};
use lanyard_crypto::record::Verified;
use lanyard_crypto::{Timestamp, TrustId, cbor};

use crate::files::{self, FileError};

/// The file, in bytes.
const BYTES_MAX: usize = CHARTER_TRUSTS_MAX * 64;
/// It is written once a trust has moved on by so many seconds.
const KEPT_SECS: u64 = 300;

/// See the module.
pub(crate) struct Heard {
    path: PathBuf,
    newest: BTreeMap<TrustId, u64>,
    kept: BTreeMap<TrustId, u64>,
}

impl Heard {
    /// What was kept. A file that cannot be read counts as none: it is a bound from below, and comes again with what is heard next.
    pub(crate) fn load(path: PathBuf) -> Self {
        let bytes = files::read_private(&path, BYTES_MAX).ok();
        let kept: BTreeMap<TrustId, u64> =
            bytes.and_then(|bytes| cbor::from_slice(&bytes, BYTES_MAX).ok()).unwrap_or_default();
        Self { path, newest: kept.clone(), kept }
    }

    /// Hears when a record was signed, and by whose trust.
    pub(crate) fn hear(&mut self, record: &Verified) {
        if let Some(trust) = record.signer().trust()
            && (self.newest.contains_key(trust) || self.newest.len() < CHARTER_TRUSTS_MAX)
        {
            let newest = self.newest.entry(trust.clone()).or_default();
            *newest = record.header().issued.as_secs().max(*newest);
        }
    }

    /// The time has at least reached this moment; 0 as long as fewer than two trusts were heard.
    pub(crate) fn floor(&self) -> Timestamp {
        let mut voices: Vec<u64> = self.newest.values().copied().collect();
        voices.sort_unstable_by(|a, b| b.cmp(a));
        let second = voices.get(1).copied().unwrap_or_default();
        Timestamp::from_secs(second).minus_secs(CLOCK_SKEW_SECS_MAX)
    }

    /// Writes it to the disk, if it has moved on.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn keep(&mut self) -> Result<(), FileError> {
        let old = |(trust, at): (&TrustId, &u64)| {
            self.kept.get(trust).is_none_or(|kept| *at >= kept.saturating_add(KEPT_SECS))
        };
        if self.newest.iter().any(old) {
            files::write_private(&self.path, &cbor::to_vec(&self.newest))?;
            self.kept = self.newest.clone();
        }
        Ok(())
    }
}
