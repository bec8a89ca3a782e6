//! Bounds on whatever peers can make this node hold, wait for or do (P8), in one place.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Bytes of one frame on a peer stream, without its length prefix.
pub const MAX_FRAME: usize = 2 * MIB;
/// Frames that wait for one peer.
pub const SEND_QUEUE_FRAMES: usize = 64;
/// Bytes of frames that wait for one peer.
pub const SEND_QUEUE_BYTES: usize = 8 * MIB;
/// Events that wait for the node; a full channel stops reading from all peers.
pub const EVENTS: usize = 32;
/// Commands that wait for the driver.
pub const COMMANDS: usize = 64;
/// Refusals that wait to be reported; more are counted and dropped.
pub const REFUSALS: usize = 1024;

/// Bytes of one message in gossip: the largest record (an MLS handshake message of up to 1 MiB in its
/// envelope).
pub const MAX_GOSSIP: usize = MIB + 64 * KIB;
/// Bytes of one gossipsub RPC. One number for all nodes: a message above the receiver's limit ends the stream
/// for good.
pub const MAX_GOSSIP_RPC: usize = MAX_GOSSIP + 4 * KIB;
/// RPCs that wait for one peer; gossipsub drops what exceeds it, as gossip may.
pub const GOSSIP_QUEUE: usize = 64;
/// Messages above this announce themselves, so that peers do not send them a second time. Lower values cost
/// more than they save.
pub const IDONTWANT_MIN: usize = 16 * KIB;

/// Bytes of the certificate chain that a peer shows at the border.
pub const MAX_CHAIN: usize = 32 * KIB;
/// Inbound connections that have not passed the border yet; beyond it the oldest is dropped.
pub const PENDING: usize = 256;
/// The same from one IPv4 address or IPv6 /64 network; beyond it the newest is dropped.
pub const PENDING_PER_IP: usize = 16;
/// Connections to one peer; beyond it the oldest is closed. Two arise when both sides dial at once.
pub const CONNECTIONS_PER_PEER: usize = 4;
/// Admitted connections in all.
pub const CONNECTIONS: usize = 512;
/// Nodes of one trust that this node keeps connections to.
pub const NODES_PER_TRUST: usize = 16;
/// Admitted connections to the nodes of one trust, which certifies as many as it likes.
pub const CONNECTIONS_PER_TRUST: usize = NODES_PER_TRUST * CONNECTIONS_PER_PEER;
/// Substreams of one connection: two for frames, two for gossip, and what is being negotiated.
pub const SUBSTREAMS: usize = 32;

/// Peers that the node wants to be connected to.
pub const WANTED: usize = 512;
/// Addresses of one peer, before names are resolved.
pub const ADDRESSES_PER_PEER: usize = 8;
/// Addresses that one name may resolve to; more are not tried.
pub const ADDRESSES_PER_NAME: usize = 8;
/// How long a name may take to resolve.
pub const RESOLVE_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes of a text (a reason, an address) in a refusal.
pub const MAX_TEXT: usize = 512;

const _: () = assert!(EVENTS * MAX_FRAME <= 64 * MIB, "waiting events fit in memory");
const _: () = assert!(SEND_QUEUE_BYTES >= 2 * MAX_FRAME, "a frame can wait while another one is written");
const _: () = assert!(SEND_QUEUE_BYTES <= u32::MAX as usize, "permits are counted in 32 bits");
const _: () = assert!(MAX_GOSSIP < MAX_FRAME, "what gossip carries can also go directly");
const _: () = assert!(GOSSIP_QUEUE * MAX_GOSSIP_RPC <= 128 * MIB, "a slow peer's gossip fits in memory");
const _: () = assert!(PENDING_PER_IP < PENDING, "one address cannot take every place");
const _: () = assert!(CONNECTIONS_PER_TRUST < CONNECTIONS, "nor can one trust");
