//! Two trusts with a node each, and messages that they sign.

use lanyard_crypto::charter::{Charter, Policy};
use lanyard_crypto::limits::RETENTION_SECS_MAX;
use lanyard_crypto::record::{Body, Class, Decoded, Envelope, Target};
use lanyard_crypto::{ConversationId, NetworkId, Timestamp};
use lanyard_replica::fixtures::{self, Trust};
pub use lanyard_replica::fixtures::{DAY, NOW};

/// Over how long the records are scattered, in seconds.
pub const SPREAD: u64 = 365 * DAY;
const LIFE: u64 = 400 * DAY;

pub struct Network {
    pub trusts: [Trust; 2],
    pub charter: Decoded,
    id: NetworkId,
    conversation: ConversationId,
}

impl Network {
    pub fn new() -> Self {
        let trusts = [Trust::new("RXA", 1), Trust::new("RXB", 4)];
        let policy = Policy::of(LIFE);
        let charter = Charter { policy, ..fixtures::charter(&[&trusts[0], &trusts[1]]) };
        let charter = fixtures::sign_charter(charter, None);
        let id = NetworkId::new(*charter.statement().as_bytes());
        let conversation = fixtures::conversation(&trusts[0]);
        Self { trusts, charter, id, conversation }
    }

    /// A message of the first trust for both, another one for each `n`, as a record of about `bytes` bytes.
    pub fn message(&self, n: u64, issued: Timestamp, bytes: usize) -> Decoded {
        self.message_for(n, issued, LIFE, bytes)
    }

    /// The same with another life, in seconds.
    pub fn message_for(&self, n: u64, issued: Timestamp, life: u64, bytes: usize) -> Decoded {
        let [sender, other] = &self.trusts;
        let ciphertext = bytes.saturating_sub(292).clamp(64, 16_000);
        let content = fixtures::padded_message(&self.conversation, 1, n, ciphertext as u32);
        let conversation = self.conversation.clone();
        let body = Envelope { conversation, epoch: 1, class: Class::Application, content };
        sender.sign(fixtures::header(self.id, &[sender, other], issued, life), Body::Envelope(body))
    }

    /// An order of the first trust to erase messages of the conversation.
    pub fn tombstone(&self, target: Target, issued: Timestamp) -> Decoded {
        let [sender, other] = &self.trusts;
        let header = fixtures::header(self.id, &[sender, other], issued, RETENTION_SECS_MAX + DAY);
        sender.sign(header, fixtures::tombstone(&self.conversation, target))
    }
}

/// A moment of the last `within` seconds, for each n another one.
pub fn scattered(n: u64, within: u64) -> Timestamp {
    let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    NOW.minus_secs(60 + spread % within)
}
