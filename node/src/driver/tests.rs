//! What a running driver refuses: its store is on disk, its sockets are on loopback addresses, and whom it meets are other
//! drivers, or [`Stranger`](nodes::Stranger)s that show, believe and send whatever a test likes. After each refusal the
//! audit log names the reason, and nothing was stored and nobody connected.

mod admission;
mod charters;
mod neighbours;
mod nodes;
mod records;
mod rights;
mod trusts;
mod withdrawal;
