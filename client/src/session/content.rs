//! What a message says, inside the encryption: a deterministic CBOR map {0: kind, 1: text, 2: when it was
//! written}.

use lanyard_crypto::{Timestamp, cbor};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The longest text, in bytes. With padding and framing it fits well into an envelope.
pub const TEXT_BYTES_MAX: usize = 16 * 1024;
/// The longest title, in bytes.
pub const TITLE_BYTES_MAX: usize = 256;

const FRAME_BYTES_MAX: usize = 64;

/// What a message says.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// A text to read.
    Text(String),
    /// The conversation has this title from now on.
    Title(String),
}

// What people write never reaches a log.
impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Content::Text(_) => "Text(..)",
            Content::Title(_) => "Title(..)",
        })
    }
}

/// Why decrypted bytes say nothing. The fault of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// Not of the form above, or too long.
    #[error("the message is not readable")]
    Malformed,
    /// A newer client wrote it.
    #[error("the message is of kind {0}, which this program does not know: upgrade it")]
    Kind(u64),
}

#[derive(Serialize, Deserialize)]
struct Wire {
    kind: u64,
    text: String,
    sent: Timestamp,
}

impl Content {
    pub(super) fn encode(&self, sent: Timestamp) -> Zeroizing<Vec<u8>> {
        let (kind, text) = match self {
            Content::Text(text) => (0, text),
            Content::Title(title) => (1, title),
        };
        Zeroizing::new(cbor::to_vec(&Wire { kind, text: text.clone(), sent }))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ContentError> {
        let wire: Wire =
            cbor::from_slice(bytes, TEXT_BYTES_MAX + FRAME_BYTES_MAX).map_err(|_| ContentError::Malformed)?;
        match wire.kind {
            0 if wire.text.len() <= TEXT_BYTES_MAX => Ok(Content::Text(wire.text)),
            1 if wire.text.len() <= TITLE_BYTES_MAX => Ok(Content::Title(wire.text)),
            0 | 1 => Err(ContentError::Malformed),
            other => Err(ContentError::Kind(other)),
        }
    }
}
