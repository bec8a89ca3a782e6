//! Names of things, one type each, so that two of them cannot be swapped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a text or a byte string is not the id that it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not an ODS code.
    #[error("{0:?} is not an ODS code: 3 to 8 upper-case letters and digits are needed")]
    Trust(String),
    /// Not so many bytes, or not hexadecimal.
    #[error("{0} needs {1} hexadecimal digits")]
    Hex(&'static str, usize),
    /// Not a conversation id.
    #[error("a conversation id is 16 bytes, followed by the ODS code of the owner trust")]
    Conversation,
}

/// A trust (one hospital organisation), by its ODS code: 3 to 8 upper-case letters and digits, such as RYJ.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustId(Box<str>);

impl TrustId {
    /// The ODS code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fits = (3..=8).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if fits { Ok(Self(text.into())) } else { Err(IdError::Trust(text.chars().take(16).collect())) }
    }
}

impl TryFrom<String> for TrustId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<TrustId> for String {
    fn from(id: TrustId) -> Self {
        id.0.into()
    }
}

impl fmt::Display for TrustId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! bytes_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "serde_bytes::ByteBuf", into = "serde_bytes::ByteBuf")]
        pub struct $name([u8; 32]);

        impl $name {
            /// From its 32 bytes.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Its 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError::Hex($what, 64))
            }
        }

        impl TryFrom<serde_bytes::ByteBuf> for $name {
            type Error = IdError;

            fn try_from(bytes: serde_bytes::ByteBuf) -> Result<Self, IdError> {
                Self::try_from(bytes.as_slice())
            }
        }

        impl From<$name> for serde_bytes::ByteBuf {
            fn from(id: $name) -> Self {
                serde_bytes::ByteBuf::from(id.0.to_vec())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let bytes = from_hex(text).ok_or(IdError::Hex($what, 64))?;
                Self::try_from(bytes.as_slice())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0[..6]))
            }
        }
    };
}

bytes_id!(
    /// A row of a node's audit log with all rows before it: what covers them.
    AuditHash,
    "an audit hash"
);
bytes_id!(
    /// A record: SHA-256 of its bytes.
    RecordId,
    "a record id"
);
bytes_id!(
    /// A certificate: SHA-256 of its DER encoding.
    Fingerprint,
    "a certificate fingerprint"
);
bytes_id!(
    /// A regional network: SHA-256 of what the authorities signed as its first charter.
    NetworkId,
    "a network id"
);
bytes_id!(
    /// The root of a Merkle tree (RFC 9162, section 2.1, SHA-256): what covers all its leaves.
    TreeHash,
    "a tree hash"
);
bytes_id!(
    /// A node: its Ed25519 public key, from which its libp2p PeerId follows.
    NodeId,
    "a node id"
);

impl RecordId {
    /// The id of the record with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl Fingerprint {
    /// The fingerprint of the certificate with this DER encoding.
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

/// A conversation: 16 random bytes and the ODS code of its owner trust, which orders its commits. The owner
/// is part of the name, so that nobody can claim another one. Also the MLS group id, as the same bytes.
/// As text: 32 hexadecimal digits, a hyphen, and the ODS code.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "serde_bytes::ByteBuf", into = "serde_bytes::ByteBuf")]
pub struct ConversationId {
    nonce: [u8; 16],
    owner: TrustId,
}

impl ConversationId {
    /// A new conversation of `owner`; `nonce` is random.
    pub fn new(nonce: [u8; 16], owner: TrustId) -> Self {
        Self { nonce, owner }
    }

    /// The trust that owns the conversation and orders its commits.
    pub fn owner(&self) -> &TrustId {
        &self.owner
    }

    /// 16 bytes of nonce, then the ODS code.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.nonce, self.owner.as_str().as_bytes()].concat()
    }
}

impl TryFrom<&[u8]> for ConversationId {
    type Error = IdError;

    fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
        let (nonce, owner) = bytes.split_first_chunk::<16>().ok_or(IdError::Conversation)?;
        let owner = std::str::from_utf8(owner).map_err(|_| IdError::Conversation)?;
        Ok(Self { nonce: *nonce, owner: owner.parse()? })
    }
}

impl TryFrom<serde_bytes::ByteBuf> for ConversationId {
    type Error = IdError;

    fn try_from(bytes: serde_bytes::ByteBuf) -> Result<Self, IdError> {
        Self::try_from(bytes.as_slice())
    }
}

impl From<ConversationId> for serde_bytes::ByteBuf {
    fn from(id: ConversationId) -> Self {
        serde_bytes::ByteBuf::from(id.to_bytes())
    }
}

impl FromStr for ConversationId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (nonce, owner) = text.split_once('-').ok_or(IdError::Conversation)?;
        let nonce = from_hex(nonce).and_then(|n| n.try_into().ok()).ok_or(IdError::Conversation)?;
        Ok(Self { nonce, owner: owner.parse()? })
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", to_hex(&self.nonce), self.owner)
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", to_hex(&self.nonce[..4]), self.owner)
    }
}

/// A moment, in whole seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From seconds since 1970.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs)
    }

    /// Seconds since 1970.
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// `secs` later, at most the end of time.
    pub const fn plus_secs(self, secs: u64) -> Self {
        Self(self.0.saturating_add(secs))
    }

    /// `secs` earlier, at least 1970.
    pub const fn minus_secs(self, secs: u64) -> Self {
        Self(self.0.saturating_sub(secs))
    }
}

/// Lower-case hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The bytes that an even number of hexadecimal digits stands for.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok();
    digits.chunks(2).map(pair).collect()
}
