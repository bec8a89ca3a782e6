//! Multiaddresses and peer ids: which forms are allowed, and what they stand for.
//!
//! Names are resolved here, before the swarm is asked to dial, so that the gate below it sees every address
//! that a name stands for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lanyard_crypto::NodeId;
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multiaddr::{Multiaddr, Protocol};
use tokio::time::timeout;

use super::limits;

/// How a libp2p peer id of an Ed25519 key begins: identity multihash of 36 bytes; protobuf with key type 1
/// and a key of 32 bytes (libp2p specification, "Peer Ids and Keys").
const ED25519_PEER: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// Why a text is not an address at which a node can listen or be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a multiaddress, or of a kind that Lanyard does not use.
    #[error(
        "{0:?} is not an address of a node: /ip4, /ip6, /dns, /dns4 or /dns6 with /tcp/PORT or \
         /udp/PORT/quic-v1 is needed, such as /ip4/192.0.2.7/udp/4001/quic-v1"
    )]
    Form(String),
    /// The address ends with the peer id of another node.
    #[error("{0:?} names another node")]
    OtherNode(String),
    /// The 32 bytes are not a public key.
    #[error("{0} is not an Ed25519 public key")]
    Node(NodeId),
}

/// The peer id of a node.
pub(super) fn peer_of(node: &NodeId) -> Result<PeerId, AddressError> {
    let key = ed25519::PublicKey::try_from_bytes(node.as_bytes()).map_err(|_| AddressError::Node(*node))?;
    Ok(PublicKey::from(key).to_peer_id())
}

/// The node with this peer id; `None` if its key is not Ed25519.
pub(super) fn node_of(peer: &PeerId) -> Option<NodeId> {
    let bytes = peer.to_bytes();
    NodeId::try_from(bytes.strip_prefix(&ED25519_PEER)?).ok()
}

/// The peer id of a node, as text.
pub fn peer_id(node: &NodeId) -> String {
    let bytes = [&ED25519_PEER[..], node.as_bytes()].concat();
    PeerId::from_bytes(&bytes).expect("an identity multihash of 36 bytes is a peer id").to_string()
}

/// The node with this peer id, as text; none if it is none of an Ed25519 key.
pub fn node_in(peer_id: &str) -> Option<NodeId> {
    node_of(&peer_id.parse().ok()?)
}

/// The key pair of a node.
pub(super) fn keypair(seed: &[u8; 32]) -> Keypair {
    let mut seed = zeroize::Zeroizing::new(*seed);
    Keypair::ed25519_from_bytes(&mut *seed).expect("32 bytes are always an Ed25519 seed")
}

/// Reads the address of a node, which may be a name. A peer id at its end must be that of `node`, and is
/// removed.
pub(super) fn parse(text: &str, node: Option<&NodeId>) -> Result<Multiaddr, AddressError> {
    let shown = || text.chars().take(limits::MAX_TEXT).collect::<String>();
    let mut address: Multiaddr = text.parse().map_err(|_| AddressError::Form(shown()))?;
    if Target::of(&address).is_none() {
        return Err(AddressError::Form(shown()));
    }
    if let Some(Protocol::P2p(peer)) = address.iter().last() {
        if node != node_of(&peer).as_ref() {
            return Err(AddressError::OtherNode(shown()));
        }
        address.pop();
    }
    Ok(address)
}

/// Checks that a text is an address at which this node can be dialled: see [`super::Handle::set_wanted`].
///
/// # Errors
/// See [`AddressError`].
pub fn check(node: &NodeId, text: &str) -> Result<(), AddressError> {
    peer_of(node)?;
    parse(text, Some(node)).map(drop)
}

/// The IP address in a multiaddress that the gate lets pass: direct, without a name, QUIC or TCP.
pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match Target::of(address)?.host {
        Host::Ip(ip) => Some(ip),
        Host::Name(..) => None,
    }
}

/// Whether a multiaddress is one of TCP.
pub(super) fn is_tcp(address: &Multiaddr) -> bool {
    Target::of(address).is_some_and(|target| !target.quic)
}

/// The peer id at the end of a multiaddress.
pub(super) fn peer_in(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => Some(peer),
        _ => None,
    }
}

/// The addresses with each name replaced by what it stands for now. A name that does not resolve in time is
/// left out. The system's resolver is used, and no other.
pub(super) async fn resolve(addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let mut resolved = Vec::new();
    for address in addresses {
        let Some(Target { host, port, quic }) = Target::of(&address) else {
            continue;
        };
        let Host::Name(name, family) = host else {
            resolved.push(address);
            continue;
        };
        let lookup = timeout(limits::RESOLVE_TIME_MAX, tokio::net::lookup_host((name.as_str(), port))).await;
        let Ok(Ok(found)) = lookup else {
            tracing::debug!(%address, "name does not resolve");
            continue;
        };
        let fits = |ip: &IpAddr| family.is_none_or(|family| (family == Family::V4) == ip.is_ipv4());
        let found = found.map(|socket| socket.ip()).filter(fits).take(limits::ADDRESSES_PER_NAME);
        resolved.extend(found.map(|ip| direct(ip, port, quic)));
    }
    resolved
}

/// Whether any of the addresses has a name in it.
pub(super) fn needs_resolving(addresses: &[Multiaddr]) -> bool {
    addresses.iter().any(|address| ip_of(address).is_none())
}

/// The IPv4 address or the IPv6 /64 network by which unfinished connections are counted.
pub(super) fn counted_as(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

fn direct(ip: IpAddr, port: u16, quic: bool) -> Multiaddr {
    let address = Multiaddr::from(ip);
    match quic {
        true => address.with(Protocol::Udp(port)).with(Protocol::QuicV1),
        false => address.with(Protocol::Tcp(port)),
    }
}

struct Target {
    host: Host,
    port: u16,
    quic: bool,
}

enum Host {
    Ip(IpAddr),
    Name(String, Option<Family>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Target {
    /// Takes the address apart; `None` if it has any other form than those that [`AddressError::Form`] lists.
    fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let host = match parts.next()? {
            Protocol::Ip4(ip) => Host::Ip(Ipv4Addr::into(ip)),
            Protocol::Ip6(ip) => Host::Ip(Ipv6Addr::into(ip)),
            Protocol::Dns(name) => Host::Name(name.into_owned(), None),
            Protocol::Dns4(name) => Host::Name(name.into_owned(), Some(Family::V4)),
            Protocol::Dns6(name) => Host::Name(name.into_owned(), Some(Family::V6)),
            _ => return None,
        };
        let (port, quic) = match parts.next()? {
            Protocol::Tcp(port) => (port, false),
            Protocol::Udp(port) if parts.next()? == Protocol::QuicV1 => (port, true),
            _ => return None,
        };
        match (parts.next(), parts.next()) {
            (None, None) | (Some(Protocol::P2p(_)), None) => Some(Self { host, port, quic }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_and_peer_id_are_the_same_key() {
        let peer = keypair(&[7; 32]).public().to_peer_id();
        let node = node_of(&peer).unwrap();
        assert_eq!(peer_of(&node).unwrap(), peer);
        assert!(node_of(&PeerId::random()).is_none(), "a hash is not a key");
    }

    #[test]
    fn only_direct_addresses_of_our_transports_are_read() {
        let relay =
            "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN/p2p-circuit";
        let wrong =
            ["", "127.0.0.1:1", "/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/1", "/ip4/127.0.0.1/tcp/1/ws", relay];
        for text in wrong.into_iter().chain(["/dnsaddr/example.org", "/unix/tmp", "/ip4/127.0.0.1/tcp/1/tls"])
        {
            assert!(parse(text, None).is_err(), "{text}");
        }
        for text in ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/udp/1/quic-v1", "/dns4/localhost/tcp/1"] {
            assert_eq!(parse(text, None).unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_address_that_names_another_node_is_refused() {
        let peer = keypair(&[7; 32]).public().to_peer_id();
        let text = format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}");
        assert_eq!(parse(&text, node_of(&peer).as_ref()).unwrap().to_string(), "/ip4/127.0.0.1/tcp/1");
        assert!(matches!(parse(&text, Some(&NodeId::new([1; 32]))), Err(AddressError::OtherNode(_))));
    }

    #[tokio::test]
    async fn names_become_addresses_of_the_right_family() {
        let found = resolve(vec!["/dns4/localhost/udp/9/quic-v1".parse().unwrap()]).await;
        assert_eq!(found, ["/ip4/127.0.0.1/udp/9/quic-v1".parse().unwrap()]);
    }
}
