//! The node's network shell: connections to admitted peers over libp2p, frames and gossip on them. It holds
//! no decision of the engine, and is the only part of Lanyard that names libp2p.
//!
//! From the bottom up: QUIC and TCP ([`transport`]); the residency gate, by address ([`gate`]); the
//! certificate exchange ([`border`]); then the swarm with peer streams ([`streams`]) and gossipsub
//! ([`gossip`]), which know admitted peers only. [`driver`] moves it, [`sessions`] and [`dialler`] hold its
//! state, [`Handle`] and [`Event`] are its two ends.

mod address;
mod border;
mod countries;
mod dialler;
mod driver;
mod event;
mod gate;
mod gossip;
mod handle;
pub mod limits;
mod options;
mod rehearsal;
mod sessions;
mod streams;
mod transport;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::num::NonZeroU8;
use std::sync::Arc;

use libp2p::Swarm;
use tokio::sync::mpsc;

pub use address::{AddressError, check as check_address, node_in, peer_id};
pub use countries::{Countries, CountriesError, Network};
pub use event::{Event, Refused};
pub use handle::{Handle, Verdict};
pub use options::{Options, PeerInfo, Policy, Timing};
pub use rehearsal::{rehearse_border, rehearse_stream};

use border::Authority;
use dialler::Dialler;
use driver::{Driver, Inbox, Protocols};
use sessions::{Directory, Sessions};

/// Why the network shell did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The own chain would be refused by every peer.
    #[error("the node's certificate chain has {0} bytes; at most {max} are possible", max = limits::MAX_CHAIN)]
    ChainTooLong(usize),
    /// An address to listen on is not one.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The system does not let us listen there.
    #[error("cannot listen on {0}: {1}")]
    Listen(String, String),
    /// The operating system has no randomness.
    #[error("no randomness: {0}")]
    Random(#[from] getrandom::Error),
    /// A part of libp2p refuses its configuration.
    #[error("libp2p: {0}")]
    Setup(String),
}

/// Starts the network shell on the current tokio runtime, which must have its timers and I/O enabled.
///
/// # Errors
/// See [`StartError`]. Ports are bound when this returns.
pub fn start(options: Options) -> Result<(Handle, mpsc::Receiver<Event>), StartError> {
    let Options { seed, network, listen, chain, countries, policy, timing } = options;
    if chain.len() > limits::MAX_CHAIN {
        return Err(StartError::ChainTooLong(chain.len()));
    }
    let setup = |error: &dyn std::error::Error| StartError::Setup(error.to_string());
    let keypair = address::keypair(&seed);
    let peer = keypair.public().to_peer_id();
    let own = address::node_of(&peer).expect("the peer id of an Ed25519 key holds that key");

    let (authority, refusals) = Authority::new(chain, countries, policy, timing.clone())?;
    let transport = transport::build(&keypair, authority.clone()).map_err(|e| setup(&e))?;
    let (gossip, topic) = gossip::build(&network, &timing).map_err(|e| setup(&e))?;
    let protocols = Protocols { gossip, streams: streams::Behaviour::default() };
    // One address after the other: a connection that wins a race and one that is dropped while it is being
    // admitted look alike to the peer.
    let config = libp2p::swarm::Config::with_tokio_executor().with_dial_concurrency_factor(NonZeroU8::MIN);
    let mut swarm = Swarm::new(transport, protocols, peer, config);
    for text in listen {
        let address = address::parse(&text, Some(&own))?;
        swarm.listen_on(address).map_err(|e| StartError::Listen(text, e.to_string()))?;
    }

    let (commands_sender, commands) = mpsc::channel(limits::COMMANDS);
    let (events, received) = mpsc::channel(limits::EVENTS);
    let (ended_sender, ended) = mpsc::channel(limits::COMMANDS);
    let directory = Arc::new(Directory::default());
    let handle = Handle::new(commands_sender, directory.clone(), authority.clone(), own);
    let driver = Driver {
        swarm,
        topic,
        authority,
        sessions: Sessions::new(directory.clone(), timing.clone(), events.clone(), ended_sender),
        directory,
        dialler: Dialler::new(timing.redial_min, timing.redial_max),
        events,
        waiting: VecDeque::new(),
        resolved: mpsc::channel(limits::COMMANDS),
        deferred: VecDeque::new(),
    };
    tokio::spawn(driver.run(Inbox { commands, refusals, ended }));
    Ok((handle, received))
}
