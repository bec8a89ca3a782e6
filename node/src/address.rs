//! The text forms of a node's place: its peer id and its multiaddresses, as configuration, charter and
//! commands spell them. Only the form is judged here; dialling and the gate by country are the network
//! shell's.

use std::net::IpAddr;

use lanyard_crypto::NodeId;

use crate::p2p;

/// What an address must look like, for messages.
pub const NEEDED: &str = "a multiaddress is needed, such as \"/ip4/192.0.2.7/udp/4001/quic-v1\" or \
    \"/dns4/node.example.org/tcp/4001\"";

/// The libp2p peer id of a node, as text.
pub fn peer_id(node: &NodeId) -> String {
    p2p::peer_id(node)
}

/// The node with this peer id; none if the text is no peer id of an Ed25519 key.
pub fn node_of(peer_id: &str) -> Option<NodeId> {
    p2p::node_in(peer_id)
}

/// A multiaddress of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    /// The IP address; none if the address has a name.
    pub ip: Option<IpAddr>,
    /// Port, of UDP if `quic`, otherwise of TCP.
    pub port: u16,
    /// QUIC, otherwise TCP.
    pub quic: bool,
    /// The node in the `/p2p/` part, if there is one.
    pub node: Option<NodeId>,
}

impl NodeAddress {
    /// Reads a multiaddress; none if it has any other form than [`NEEDED`] says, with or without
    /// `/p2p/PEERID`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('/')?.split('/');
        let ip = match (parts.next()?, parts.next()?) {
            ("ip4", ip) => Some(IpAddr::V4(ip.parse().ok()?)),
            ("ip6", ip) => Some(IpAddr::V6(ip.parse().ok()?)),
            ("dns" | "dns4" | "dns6", name) if !name.is_empty() && name.len() <= 253 => None,
            _ => return None,
        };
        let (transport, port) = (parts.next()?, parts.next()?.parse().ok()?);
        let quic = match transport {
            "tcp" => false,
            "udp" if parts.next()? == "quic-v1" => true,
            _ => return None,
        };
        let node = match (parts.next(), parts.next()) {
            (None, None) => None,
            (Some("p2p"), Some(peer)) => Some(node_of(peer)?),
            _ => return None,
        };
        parts.next().is_none().then_some(Self { ip, port, quic, node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// libp2p specification, "Peer Ids and Keys", test vectors: an Ed25519 public key and its text.
    const PEER: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";

    #[test]
    fn a_peer_id_is_its_key() {
        let node = node_of(PEER).unwrap();
        assert_eq!(peer_id(&node), PEER);
        assert_eq!(node_of(&PEER.replace('K', "0")), None, "0 is no digit of base58");
        assert_eq!(node_of(&PEER[..50]), None);
        assert_eq!(node_of("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"), None, "a hash is not a key");
    }

    #[test]
    fn only_direct_addresses_of_two_transports_are_read() {
        let address = NodeAddress::parse("/ip4/127.0.1.1/udp/4001/quic-v1").unwrap();
        assert_eq!((address.ip, address.port, address.quic), (Some([127, 0, 1, 1].into()), 4001, true));
        let text = format!("/dns4/node.example.org/tcp/4001/p2p/{PEER}");
        let address = NodeAddress::parse(&text).unwrap();
        assert_eq!((address.ip, address.quic, address.node), (None, false, node_of(PEER)));
        for wrong in [
            "",
            "127.0.0.1:4001",
            "/ip4/127.0.0.1",
            "/ip4/300.0.0.1/tcp/1",
            "/ip4/127.0.0.1/udp/1",
            "/ip4/127.0.0.1/tcp/70000",
            "/ip4/127.0.0.1/tcp/1/ws",
            "/ip4/127.0.0.1/tcp/1/p2p/x",
            "/ip4/127.0.0.1/tcp/1/",
            &format!("{text}/p2p-circuit"),
        ] {
            assert_eq!(NodeAddress::parse(wrong), None, "{wrong}");
        }
    }
}
