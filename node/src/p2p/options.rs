//! What the node tells its network shell at the start.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lanyard_crypto::residency::Country;
use lanyard_crypto::{NetworkId, NodeId, TrustId};
use zeroize::Zeroizing;

use super::Countries;

/// What the border learnt about a peer from its certificate chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The trust that the peer's node belongs to.
    pub trust: TrustId,
    /// The country in which its certificate says that it is hosted.
    pub country: Country,
}

/// Says who a peer is by the chain that it shows, or why it is refused. It must check that the chain names
/// this very node. It runs on the connection's task: it must not block, and must not call the
/// [`super::Handle`].
pub type Admit = dyn Fn(NodeId, &[u8]) -> Result<PeerInfo, String> + Send + Sync;

/// Says whether a peer's address may lie in this country. Before there is a charter, the answer is no.
pub type Permit = dyn Fn(Country) -> bool + Send + Sync;

/// The decisions that the border asks for. They may change their answers at any time; after a change, call
/// [`super::Handle::recheck`].
#[derive(Clone)]
pub struct Policy {
    /// See [`Admit`].
    pub admit: Arc<Admit>,
    /// See [`Permit`].
    pub permit: Arc<Permit>,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Policy")
    }
}

/// How long things may take. The defaults are for networks; tests shorten them.
#[derive(Clone, Debug)]
pub struct Timing {
    /// From the first packet of a connection to its admission.
    pub admission_max: Duration,
    /// How long a refused peer may take to read that it is refused.
    pub farewell_max: Duration,
    /// From a connection to both of its frame streams.
    pub open_max: Duration,
    /// An idle frame stream says that it is alive this often.
    pub keepalive: Duration,
    /// A frame stream without a byte for so long is dead. More than two keep-alives.
    pub silence_max: Duration,
    /// The first pause before a wanted peer is dialled again. Each pause is about twice the last.
    pub redial_min: Duration,
    /// The longest such pause.
    pub redial_max: Duration,
    /// How often gossipsub maintains its mesh.
    pub gossip_heartbeat: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            admission_max: Duration::from_secs(5),
            farewell_max: Duration::from_millis(500),
            open_max: Duration::from_secs(10),
            keepalive: Duration::from_secs(5),
            silence_max: Duration::from_secs(15),
            redial_min: Duration::from_millis(200),
            redial_max: Duration::from_secs(30),
            gossip_heartbeat: Duration::from_secs(1),
        }
    }
}

/// Everything that [`super::start`] needs.
pub struct Options {
    /// The seed of the node's Ed25519 key (RFC 8032), which its certificate names.
    pub seed: Zeroizing<[u8; 32]>,
    /// The network whose gossip the node takes part in.
    pub network: NetworkId,
    /// Multiaddresses such as `/ip4/192.0.2.7/udp/4001/quic-v1` and `/ip4/192.0.2.7/tcp/4001`.
    pub listen: Vec<String>,
    /// The node's own certificate chain, as its peers' [`Admit`] reads it.
    pub chain: Vec<u8>,
    /// Where addresses lie.
    pub countries: Countries,
    /// Who is admitted.
    pub policy: Policy,
    /// How long things may take.
    pub timing: Timing,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, listen, timing, .. } = self;
        f.debug_struct("Options")
            .field("network", network)
            .field("listen", listen)
            .field("timing", timing)
            .finish_non_exhaustive()
    }
}
