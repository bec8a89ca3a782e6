//! Addresses for a cluster: a network 127.X.Y.0/24 that nobody else uses, so that every node listens on the same
//! well-known ports of an address of its own, as nodes on machines of their own do.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::HarnessError;

/// The port on which nodes serve clients.
pub const GATEWAY_PORT: u16 = 8443;
/// The port on which nodes meet, of UDP and TCP.
pub const PEER_PORT: u16 = 4001;

/// Networks that are tried before giving up.
const TRIES: u32 = 200;
/// X is from 64 up to 254: lower ones are what people and systems use by hand, and where [`Subnet::ARCHIVED`] is.
const NETWORKS: u32 = 191 * 256;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A network 127.X.Y.0/24. Its lower half is assigned to the UK by the cluster's nodes, its upper half to no permitted
/// country.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    base: Ipv4Addr,
}

impl Subnet {
    /// For networks that come out of an archive: profiles and charters remember their addresses.
    pub const ARCHIVED: Self = Self { base: Ipv4Addr::new(127, 63, 7, 0) };

    /// A network on whose first address the ports are free. Where the search begins depends on the process id, so that
    /// clusters of several processes meet rarely.
    ///
    /// # Errors
    /// [`HarnessError::NoAddresses`].
    pub fn free() -> Result<Self, HarnessError> {
        for _ in 0..TRIES {
            let number =
                std::process::id().wrapping_mul(97).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
            let number = number % NETWORKS;
            let octet = |n: u32| u8::try_from(n).expect("below 256 by the modulus");
            let subnet = Self { base: Ipv4Addr::new(127, octet(64 + number / 256), octet(number % 256), 0) };
            let free = |port| TcpListener::bind((subnet.inside(1), port)).is_ok();
            if free(GATEWAY_PORT) && free(PEER_PORT) {
                return Ok(subnet);
            }
        }
        Err(HarnessError::NoAddresses)
    }

    /// The `n`th address of the half in the UK; `n` from 1 to 126.
    pub fn inside(&self, n: u8) -> Ipv4Addr {
        assert!((1..127).contains(&n), "the lower half has 126 addresses");
        Ipv4Addr::from_bits(self.base.to_bits() + u32::from(n))
    }

    /// The `n`th address of the other half; `n` from 1 to 126.
    pub fn outside(&self, n: u8) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.inside(n).to_bits() + 128)
    }

    /// The half in the UK, as a configuration spells it.
    pub fn cidr_inside(&self) -> String {
        format!("{}/25", self.base)
    }

    /// The other half.
    pub fn cidr_outside(&self) -> String {
        format!("{}/25", Ipv4Addr::from_bits(self.base.to_bits() + 128))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/24", self.base)
    }
}
