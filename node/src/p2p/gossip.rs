//! Gossip of one network: libp2p's gossipsub, on one topic.
//!
//! Messages are anonymous and named by the SHA-256 of their bytes: records carry their own signature, and a
//! second one would cost as much again. No message is passed on before the engine has accepted it.

use std::collections::HashSet;

use lanyard_crypto::{NetworkId, RecordId};
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, ConfigBuilderError, IdentTopic, IdentityTransform, Message,
    MessageAuthenticity, MessageId, TopicHash, ValidationMode, WhitelistSubscriptionFilter,
};

use super::limits;
use super::options::Timing;

/// Gossipsub that accepts subscriptions to our own topic only.
pub(super) type Gossip = Behaviour<IdentityTransform, WhitelistSubscriptionFilter>;

/// Neighbours to which messages are pushed. For about twenty nodes, three reach all in two or three hops.
const MESH: usize = 3;
const MESH_MIN: usize = 2;
const MESH_MAX: usize = 6;
/// Heartbeats for which a message can still be accepted and passed on: validation waits for signatures and
/// disk.
const HISTORY: usize = 15;

/// Why gossip could not be set up: a fault of the constants in this module.
#[derive(Debug, thiserror::Error)]
pub enum GossipError {
    /// Constants contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigBuilderError),
    /// Gossipsub refuses them.
    #[error("{0}")]
    Behaviour(&'static str),
}

/// Gossip of `network`, subscribed.
pub(super) fn build(network: &NetworkId, timing: &Timing) -> Result<(Gossip, TopicHash), GossipError> {
    let topic = IdentTopic::new(format!("lanyard/1/{network}"));
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message: &Message| message_id(&RecordId::of(&message.data)))
        .max_transmit_size(limits::MAX_GOSSIP_RPC)
        .connection_handler_queue_len(limits::GOSSIP_QUEUE)
        .idontwant_message_size_threshold(limits::IDONTWANT_MIN)
        .flood_publish(false)
        .mesh_n(MESH)
        .mesh_n_low(MESH_MIN)
        .mesh_n_high(MESH_MAX)
        .mesh_outbound_min(1)
        .history_length(HISTORY)
        .heartbeat_interval(timing.gossip_heartbeat)
        .heartbeat_initial_delay(timing.gossip_heartbeat)
        .build()?;
    let allowed = WhitelistSubscriptionFilter(HashSet::from([topic.hash()]));
    let mut gossip = Gossip::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, allowed)
        .map_err(GossipError::Behaviour)?;
    gossip.subscribe(&topic).map_err(|_| GossipError::Behaviour("own topic is not allowed"))?;
    Ok((gossip, topic.hash()))
}

/// Gossipsub's name for the message with this hash.
pub(super) fn message_id(id: &RecordId) -> MessageId {
    MessageId::from(id.as_bytes().to_vec())
}
