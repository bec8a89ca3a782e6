//! What a trust asks of its devices, as its operator configures it.

use lanyard_crypto::charter::TrustRetention;
use lanyard_crypto::gateway::TextPattern;
use lanyard_crypto::mls::ReviewTerms;
use lanyard_replica::Replica;
use lanyard_replica::pin::PinPolicy;

/// See the module.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long the trust keeps messages of its own conversations, for all and by class, where that is stricter than the charter.
    pub retention: TrustRetention,
    /// How PINs are bounded.
    pub pins: PinPolicy,
    /// After how much idle time clients lock themselves, in seconds.
    pub idle_secs: u64,
    /// How often the members of the trust's own conversations are to be reviewed.
    pub review: ReviewTerms,
    /// What, beside the patterns of every client, identifies a patient.
    pub patterns: Vec<TextPattern>,
    /// For how long a PIN that was proved opens a device without the node, in seconds; 0 if never.
    pub offline_secs: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            retention: TrustRetention::default(),
            pins: PinPolicy::default(),
            idle_secs: 300,
            review: ReviewTerms::default(),
            patterns: Vec::new(),
            offline_secs: 0,
        }
    }
}

impl Policy {
    /// Tells a replica that was opened what is its part of it.
    pub fn apply(&self, replica: &mut Replica) {
        replica.set_retention(self.retention);
        replica.set_pin_policy(self.pins);
        replica.set_review(self.review);
    }
}
