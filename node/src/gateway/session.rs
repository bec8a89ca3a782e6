//! Who is at the other end of a connection, checked at each request against the network as it is then.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use lanyard_crypto::Fingerprint;
use lanyard_crypto::network::{Identity, Network};
use lanyard_crypto::x509::Certificate;

use super::body::Refused;
use super::{Gateway, limits};
use crate::time::now;
use crate::tls::{DeviceError, verify_device};

/// One connection: what its client showed in TLS. Handlers find it among the request's extensions.
pub(super) struct Session {
    /// The device's certificate and its registrar's, DER; none if it showed none.
    chain: Option<Vec<Vec<u8>>>,
    remote: SocketAddr,
}

/// The network that a connection's device was last found welcome in, and when.
pub(super) struct LastCheck {
    network: Arc<Network>,
    at_secs: u64,
}

impl Session {
    pub(super) fn new(chain: Option<Vec<Vec<u8>>>, remote: SocketAddr) -> Self {
        Self { chain, remote }
    }

    /// Where the client is.
    pub(super) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The fingerprint of the certificate that was shown.
    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        self.chain.as_ref()?.first().map(|leaf| Fingerprint::of(leaf))
    }

    /// Whose device this is, if it is welcome now.
    fn identity(&self, gateway: &Gateway) -> Result<Identity, Refused> {
        let Some(chain) = &self.chain else {
            return Err(Refused::new(
                "no-certificate",
                "a device certificate is needed for this; enrol first (lanyard enrol)",
            ));
        };
        self.verify(chain, gateway).map_err(|error| {
            Refused::new(
                "device-refused",
                format!("this device is not admitted: {error}; ask your trust's operator"),
            )
        })
    }

    fn verify(&self, chain: &[Vec<u8>], gateway: &Gateway) -> Result<Identity, DeviceError> {
        let network = gateway.backend.network();
        verify_device(chain, gateway.backend.trust(), &network, network.time(now()))
    }

    /// Whether the connection may go on. A network that has not changed is asked again only when time has
    /// passed.
    pub(super) fn is_welcome(
        &self,
        gateway: &Gateway,
        last: &mut Option<LastCheck>,
    ) -> Result<(), DeviceError> {
        let Some(chain) = &self.chain else { return Ok(()) };
        let (network, at_secs) = (gateway.backend.network(), now().as_secs());
        let fresh = last.as_ref().is_some_and(|last| {
            Arc::ptr_eq(&last.network, &network) && at_secs < last.at_secs + limits::RECHECK_TIME_SECS
        });
        if !fresh {
            self.verify(chain, gateway)?;
            *last = Some(LastCheck { network, at_secs });
        }
        Ok(())
    }
}

/// A device of this trust, admitted at the moment of the request.
pub(super) struct Device {
    /// What the engine knows it by.
    pub(super) fingerprint: Fingerprint,
    /// Its certificate.
    pub(super) certificate: Certificate,
}

impl FromRequestParts<Arc<Gateway>> for Device {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Refused> {
        let session = parts.extensions.get::<Arc<Session>>();
        let session = session.ok_or_else(|| Refused::new("internal", "the connection has no session"))?;
        let identity = session.identity(gateway)?;
        if gateway.presence.is_news(&identity.fingerprint(), now().as_secs()) {
            gateway.backend.present(identity.fingerprint());
        }
        Ok(Self { fingerprint: identity.fingerprint(), certificate: identity.certificate })
    }
}

/// Which devices have spoken within this minute: more often nothing is noted of it.
#[derive(Default)]
pub(super) struct Presence(Mutex<(u64, HashSet<Fingerprint>)>);

impl Presence {
    /// Whether this is the first that is heard of the device in this minute.
    fn is_news(&self, device: &Fingerprint, now_secs: u64) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.0 != now_secs / 60 {
            *heard = (now_secs / 60, HashSet::new());
        }
        heard.1.len() >= limits::PRESENT_MAX || heard.1.insert(*device)
    }
}

/// Counts connections by device and by address.
pub(super) struct Crowd<K> {
    counts: Mutex<HashMap<K, usize>>,
    max: usize,
}

/// One counted connection; gives its place back when dropped.
pub(super) struct Place<K: Eq + std::hash::Hash + Clone> {
    crowd: Arc<Crowd<K>>,
    key: K,
}

impl<K: Eq + std::hash::Hash + Clone> Crowd<K> {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { counts: Mutex::default(), max })
    }

    /// A place for one more of `key`; none if it has all that it may have.
    pub(super) fn enter(self: &Arc<Self>, key: K) -> Option<Place<K>> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_insert(0);
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Place { crowd: self.clone(), key })
    }
}

impl<K: Eq + std::hash::Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// The IPv4 address or the IPv6 /64 network by which connections are counted.
pub(super) fn counted_as(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}
