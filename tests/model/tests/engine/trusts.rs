//! Three trusts with their keys, and what they sign: the engine's own fixtures, in the times of the models.

use lanyard_crypto::record::{Body, Decoded, Header};
use lanyard_crypto::{ConversationId, NetworkId, RecordId, Timestamp};
pub use lanyard_replica::fixtures::NOW as EPOCH;
use lanyard_replica::fixtures::{self, Trust};

/// The trusts, and the charter that holds them together.
pub struct Trusts {
    pub all: Vec<Trust>,
    pub charter: Decoded,
    pub conversation: ConversationId,
}

impl Trusts {
    /// In the order of the models: the owner of the conversation first.
    pub fn new() -> Self {
        let all: Vec<_> =
            ["RXA", "RXB", "RXC"].iter().zip(0u8..).map(|(code, i)| Trust::new(code, 1 + 3 * i)).collect();
        let charter = fixtures::sign_charter(fixtures::charter(&all.iter().collect::<Vec<_>>()), None);
        let conversation = fixtures::conversation(&all[0]);
        Self { all, charter, conversation }
    }

    /// An application message of this trust's node; `n` makes it another one.
    pub fn message(&self, by: usize, n: usize, issued: Timestamp, expires: Timestamp) -> Decoded {
        self.sign(by, fixtures::application(&self.conversation, n as u64), issued, expires)
    }

    /// A tombstone of this trust's node for one record.
    pub fn tombstone(&self, by: usize, target: RecordId, issued: Timestamp, expires: Timestamp) -> Decoded {
        self.sign(by, fixtures::tombstone(&self.conversation, fixtures::named(&[target])), issued, expires)
    }

    fn sign(&self, by: usize, body: Body, issued: Timestamp, expires: Timestamp) -> Decoded {
        let network = NetworkId::new(*self.charter.statement().as_bytes());
        let header = fixtures::header(network, &self.all.iter().collect::<Vec<_>>(), issued, 0);
        self.all[by].sign(Header { expires, ..header }, body)
    }
}
