//! What anyone can read of an MLS message without a key (RFC 9420, section 6).
//!
//! A node decides by this what a message is before it stores it: that application data is encrypted, that
//! handshakes are readable, and that both belong to the conversation and epoch which the envelope around them
//! names.

use mls_rs::group::{ContentType, Sender};
use mls_rs::{MlsMessage, MlsMessageDescription};

/// Why bytes are not a message that travels here. The fault of who sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeekError {
    /// More than the caller allows.
    #[error("{actual} bytes are more than the {max} allowed for this MLS message")]
    TooLong {
        /// Length in bytes.
        actual: usize,
        /// What is allowed.
        max: usize,
    },
    /// Not an MLS message, or bytes after its end.
    #[error("not an MLS message (RFC 9420, section 6)")]
    Malformed,
}

/// The readable part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peek {
    /// A PrivateMessage.
    Private {
        /// The group id: a conversation's bytes.
        group: Vec<u8>,
        /// The epoch.
        epoch: u64,
        /// What is encrypted.
        content: Content,
    },
    /// A PublicMessage.
    Public {
        /// The group id: a conversation's bytes.
        group: Vec<u8>,
        /// The epoch that it changes.
        epoch: u64,
        /// What it is.
        content: Content,
        /// The leaf that it says sent it; absent if that is not a member.
        member: Option<u32>,
    },
    /// A Welcome, for the holders of these key packages (by reference).
    Welcome {
        /// KeyPackageRef of each (RFC 9420, section 5.2).
        recipients: Vec<Vec<u8>>,
    },
    /// A GroupInfo.
    GroupInfo,
    /// A key package.
    KeyPackage,
}

/// What a framed message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of RFC 9420, section 6")]
pub enum Content {
    Application,
    Proposal,
    Commit,
}

impl Peek {
    /// Reads what is readable of the whole of `bytes`. Never allocates by a length that the input claims.
    ///
    /// # Errors
    /// [`PeekError`]: too long, or not exactly one MLS message.
    pub fn of(bytes: &[u8], bytes_max: usize) -> Result<Self, PeekError> {
        Ok(Self::of_message(&decode(bytes, bytes_max)?))
    }

    pub(super) fn of_message(message: &MlsMessage) -> Self {
        match message.description() {
            MlsMessageDescription::PrivateProtocolMessage { group_id, epoch_id, content_type } => {
                Self::Private { group: group_id.to_vec(), epoch: epoch_id, content: content_type.into() }
            }
            MlsMessageDescription::PublicProtocolMessage {
                group_id, epoch_id, content_type, sender, ..
            } => Self::Public {
                group: group_id.to_vec(),
                epoch: epoch_id,
                content: content_type.into(),
                member: match sender {
                    Sender::Member(index) => Some(index),
                    _ => None,
                },
            },
            MlsMessageDescription::Welcome { key_package_refs, .. } => {
                Self::Welcome { recipients: key_package_refs.iter().map(|r| r.to_vec()).collect() }
            }
            MlsMessageDescription::GroupInfo => Self::GroupInfo,
            MlsMessageDescription::KeyPackage => Self::KeyPackage,
        }
    }
}

impl From<ContentType> for Content {
    fn from(content: ContentType) -> Self {
        match content {
            ContentType::Application => Content::Application,
            ContentType::Proposal => Content::Proposal,
            ContentType::Commit => Content::Commit,
        }
    }
}

pub(super) fn decode(bytes: &[u8], bytes_max: usize) -> Result<MlsMessage, PeekError> {
    if bytes.len() > bytes_max {
        return Err(PeekError::TooLong { actual: bytes.len(), max: bytes_max });
    }
    MlsMessage::from_bytes(bytes).map_err(|_| PeekError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PrivateMessage by hand, after the grammar of RFC 9420, section 6.3.
    fn private(content: u8) -> Vec<u8> {
        let mut bytes = vec![0, 1, 0, 2];
        bytes.extend([3, b'a', b'b', b'c']);
        bytes.extend(7u64.to_be_bytes());
        bytes.push(content);
        bytes.extend([0, 2, 9, 9, 1, 8]);
        bytes
    }

    #[test]
    fn reads_a_private_message() {
        let expected = Peek::Private { group: b"abc".to_vec(), epoch: 7, content: Content::Application };
        assert_eq!(Peek::of(&private(1), 1000), Ok(expected));
        let commit = Peek::Private { group: b"abc".to_vec(), epoch: 7, content: Content::Commit };
        assert_eq!(Peek::of(&private(3), 1000), Ok(commit));
    }

    #[test]
    fn refuses_everything_else() {
        let good = private(1);
        for end in 0..good.len() {
            assert_eq!(Peek::of(&good[..end], 1000), Err(PeekError::Malformed));
        }
        let mut trailing = good.clone();
        trailing.push(0);
        assert_eq!(Peek::of(&trailing, 1000), Err(PeekError::Malformed));
        assert_eq!(Peek::of(&good, 5), Err(PeekError::TooLong { actual: good.len(), max: 5 }));
        assert_eq!(Peek::of(&private(4), 1000), Err(PeekError::Malformed));
        // A group id of 1 GiB, in a message of a few bytes; and a length that is not in its shortest form.
        assert_eq!(Peek::of(&[0, 1, 0, 2, 0xbf, 0xff, 0xff, 0xff, 1], 1000), Err(PeekError::Malformed));
        let mut long = good;
        long.splice(4..5, [0x40, 3]);
        assert_eq!(Peek::of(&long, 1000), Err(PeekError::Malformed));
    }
}
