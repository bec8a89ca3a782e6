//! What the network shell tells the node.

use lanyard_crypto::residency::Country;
use lanyard_crypto::{NodeId, RecordId};

use super::PeerInfo;

/// Something happened on the network. Events arrive in order: the frames of a peer come after its
/// [`Event::Connected`], and are those that it sent, in order and without a gap, until
/// [`Event::Disconnected`].
#[derive(Clone, Debug)]
pub enum Event {
    /// The node listens on this multiaddress.
    Listening {
        /// The multiaddress, with the port that was chosen.
        address: String,
    },
    /// A peer was admitted, by the first connection between the two.
    Connected {
        /// The peer.
        node: NodeId,
        /// What its certificate says.
        info: PeerInfo,
    },
    /// The last connection to a peer has closed. Frames that still waited for it are lost.
    Disconnected {
        /// The peer.
        node: NodeId,
    },
    /// An admitted peer sent this frame on its stream to us.
    Frame {
        /// The peer.
        from: NodeId,
        /// At most [`super::limits::MAX_FRAME`] bytes.
        bytes: Vec<u8>,
    },
    /// A message arrived by gossip. It goes no further until [`super::Handle::report`] accepts it.
    Gossip {
        /// The neighbour that passed it on; not necessarily its author.
        from: NodeId,
        /// SHA-256 of `bytes`.
        id: RecordId,
        /// At most [`super::limits::MAX_GOSSIP`] bytes.
        bytes: Vec<u8>,
    },
    /// Somebody was refused, or is no longer welcome: for the audit log.
    Refused(Refused),
}

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The peer, if its key was proven, or (on a dial) if it was the one expected.
    pub node: Option<NodeId>,
    /// The multiaddress of the remote.
    pub address: String,
    /// Whether the remote dialled.
    pub inbound: bool,
    /// Why.
    pub reason: Reason,
}

/// Why a connection was refused or closed. [`Reason::code`] is stable; the text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Nothing says where the address lies.
    #[error("nothing says in which country the address lies")]
    CountryUnknown,
    /// The address lies elsewhere.
    #[error("the address lies in {0}, which the network does not permit")]
    CountryRefused(Country),
    /// A relay, a hole punch, or a transport that is not ours.
    #[error("only direct QUIC and TCP addresses are allowed: no relays, no hole punching")]
    AddressKind,
    /// The security handshake failed.
    #[error("the security handshake failed: {0}")]
    Handshake(String),
    /// The key is not Ed25519, so that no certificate can name it.
    #[error("the peer's key is not an Ed25519 key")]
    KeyKind,
    /// Another peer answered than the one dialled.
    #[error("another peer answered at this address")]
    WrongPeer,
    /// The policy refused the certificate chain.
    #[error("certificate refused: {0}")]
    Certificate(String),
    /// The remote refused our certificate, or has not admitted us for another reason.
    #[error("the remote refused us")]
    ByRemote,
    /// The remote does not speak the border protocol.
    #[error("the remote does not speak the border protocol")]
    ForeignProtocol,
    /// The certificate chain exceeds its limit.
    #[error("a certificate chain of {0} bytes is too long")]
    ChainTooLong(usize),
    /// Not admitted in time.
    #[error("not admitted within the time limit")]
    TimedOut,
    /// The connection broke before it was admitted.
    #[error("the connection was lost before it was admitted: {0}")]
    Lost(String),
    /// Too many from one address.
    #[error("too many unfinished connections from this address")]
    Crowded,
    /// The oldest of too many.
    #[error("dropped as the oldest of too many unfinished connections")]
    Evicted,
    /// All places for admitted connections, or those of its trust, are taken.
    #[error("too many connections")]
    Full,
    /// Was admitted, and is no longer welcome.
    #[error("no longer admitted: {0}")]
    Withdrawn(String),
    /// An admitted peer announced a frame beyond the limit.
    #[error("announced a frame of {0} bytes, which is too long")]
    FrameTooLong(usize),
}

impl Reason {
    /// A stable word for programs that read the audit log.
    pub fn code(&self) -> &'static str {
        match self {
            Self::CountryUnknown => "country-unknown",
            Self::CountryRefused(_) => "country-refused",
            Self::AddressKind => "address-kind",
            Self::Handshake(_) => "handshake",
            Self::KeyKind => "key-kind",
            Self::WrongPeer => "wrong-peer",
            Self::Certificate(_) => "certificate",
            Self::ByRemote => "by-remote",
            Self::ForeignProtocol => "foreign-protocol",
            Self::ChainTooLong(_) => "chain-too-long",
            Self::TimedOut => "timed-out",
            Self::Lost(_) => "lost",
            Self::Crowded => "crowded",
            Self::Evicted => "evicted",
            Self::Full => "full",
            Self::Withdrawn(_) => "withdrawn",
            Self::FrameTooLong(_) => "frame-too-long",
        }
    }
}
