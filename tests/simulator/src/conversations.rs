//! Conversations whose handshakes are real MLS, read from a committed file. MLS draws its own randomness, and making a group is
//! slow: `examples/conversations.rs` has made them once, and virtual time lets their dates stand.
//!
//! Each conversation is a tree of commits. What follows from one commit is prepared for each way in which it can be
//! answered, so that members may compete for an epoch and the one that loses goes on where the winner has led.

use std::sync::OnceLock;

use lanyard_crypto::{ConversationId, cbor};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::cast::CODES;

const VECTORS: &[u8] = include_bytes!("../vectors/conversations.cbor");
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// A device: the place of its trust in [`CODES`]. The first device of each trust takes part in conversations.
pub type Place = usize;

/// All that was prepared. Field order is the file's format.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The key package of each trust's first device, an MLSMessage.
    pub packages: Vec<ByteBuf>,
    /// The conversations.
    pub conversations: Vec<Conversation>,
}

/// One conversation.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// The trust that owns it; its device founds it and administers it.
    pub owner: u64,
    /// Makes its id.
    pub nonce: ByteBuf,
    /// The GroupInfo of epoch 0, an MLSMessage.
    pub group_info: ByteBuf,
    /// Its commits; the first one founds it.
    pub changes: Vec<Change>,
}

/// One commit.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The commit that it follows; none for the first.
    pub after: Option<u64>,
    /// The epoch that it ends.
    pub epoch: u64,
    /// Whose device made it.
    pub by: u64,
    /// A PublicMessage, as an MLSMessage.
    pub commit: ByteBuf,
    /// For those whom it adds.
    pub welcome: Option<ByteBuf>,
    /// Who is a member after it.
    pub members: Vec<u64>,
}

impl Conversation {
    /// Its id.
    pub fn id(&self) -> ConversationId {
        let nonce = self.nonce.as_slice().try_into().expect("a nonce of 16 bytes");
        ConversationId::new(nonce, CODES[self.owner as usize].parse().expect("codes are ODS codes"))
    }

    /// The commits that may follow this one, by place.
    pub fn next(&self, after: usize) -> impl Iterator<Item = (usize, &Change)> {
        self.changes.iter().enumerate().filter(move |(_, c)| c.after == Some(after as u64))
    }

    /// All who are ever members.
    pub fn everybody(&self) -> Vec<Place> {
        let mut all: Vec<Place> =
            self.changes.iter().flat_map(|c| c.members.iter().map(|m| *m as usize)).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The pool, read once in each process.
pub fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(|| cbor::from_slice(VECTORS, BYTES_MAX).expect("the committed file is a pool"))
}

/// A PrivateMessage with application data, by hand, after the grammar of RFC 9420, section 6.3. Nodes read what stands outside of
/// the ciphertext alone; `n` makes it another one, and `padding` longer.
pub fn application(conversation: &ConversationId, epoch: u64, n: u64, padding: u8) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 2];
    framed(&mut bytes, conversation, epoch);
    // Application; no authenticated data; sender data; ciphertext.
    bytes.extend([1, 0, 2, 9, 9, 8 + padding % 48]);
    bytes.extend(n.to_be_bytes());
    bytes.resize(bytes.len() + usize::from(padding % 48), 7);
    bytes
}

/// A PublicMessage with an empty commit of the first member, by hand, after section 6.2.
pub fn commit(conversation: &ConversationId, epoch: u64, n: u64) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 1];
    framed(&mut bytes, conversation, epoch);
    // Member 0; no authenticated data; a commit without proposals and path; signature and two tags.
    bytes.extend([1, 0, 0, 0, 0, 0, 3, 0, 0, 8]);
    bytes.extend(n.to_be_bytes());
    bytes.extend([1, 7, 1, 7]);
    bytes
}

/// A Welcome for the holders of these key packages (32 to 48 bytes each), by hand, after section 12.4.3.1.
pub fn welcome(references: &[Vec<u8>]) -> Vec<u8> {
    let mut secrets = Vec::new();
    for reference in references {
        secrets.push(reference.len() as u8);
        secrets.extend(reference);
        // KEM output and ciphertext.
        secrets.extend([1, 5, 1, 6]);
    }
    let mut bytes = vec![0, 1, 0, 3, 0xf0, 0x4e];
    match u8::try_from(secrets.len()) {
        Ok(len) if len < 64 => bytes.push(len),
        _ => bytes.extend((0x4000 | secrets.len() as u16).to_be_bytes()),
    }
    bytes.extend(secrets);
    // The encrypted GroupInfo.
    bytes.extend([1, 7]);
    bytes
}

fn framed(bytes: &mut Vec<u8>, conversation: &ConversationId, epoch: u64) {
    let group = conversation.to_bytes();
    bytes.push(group.len() as u8);
    bytes.extend(group);
    bytes.extend(epoch.to_be_bytes());
}
