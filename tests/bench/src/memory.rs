//! Memory and start-up, of real processes, from outside: a node with many records, a node with many idle clients, a client with many
//! messages.
//!
//! What a process has in memory is its resident set as the system counts it (`VmRSS`; of one that ends, the most that it had, `VmHWM`). A
//! start takes from the process's beginning until it is ready, or has ended. The yardsticks are processes of their own too: this program,
//! which opens the same store or the same vault as the node or the client does, and nothing else.

pub mod alone;
mod clients;
mod node;
mod process;
mod tls;
mod vault;

use std::error::Error;

use clap::ValueEnum;

use crate::Size;

/// A part of this benchmark.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A node with many stored records.
    Node,
    /// A node with many idle clients.
    Clients,
    /// A client with many messages.
    Vault,
}

pub fn run(size: &Size, only: Option<Scenario>) -> Result<(), Box<dyn Error>> {
    let wanted = |scenario| only.is_none_or(|only| only == scenario);
    if wanted(Scenario::Clients) {
        clients::run(size)?;
    }
    if wanted(Scenario::Vault) {
        vault::run(size)?;
    }
    if wanted(Scenario::Node) {
        node::run(size)?;
    }
    Ok(())
}
