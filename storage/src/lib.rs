//! What a Lanyard node keeps: views and atomic batches, the catalogue of trees, sealed rows and their keys.
//!
//! Reading goes through a [`View`]; every change is a [`Batch`], which a [`Store`] commits as a whole or not at
//! all, over all trees of the [catalogue](Tree). An [`Overlay`] lets a step read its own writes before they are
//! committed. Two backends keep these rules: `SledStore` on disk, where `commit` returns once the batch has
//! been synced (P4) and, unless the batch defers that, once what it deleted from sealed trees can no longer be decrypted
//! (P6), and [`MemoryStore`] for tests and the simulator, which can crash and fail on demand.

mod batch;
mod catalogue;
mod committing;
mod error;
pub mod limits;
mod memory;
mod overlay;
mod view;

#[cfg(feature = "sled")]
mod compact;
#[cfg(feature = "sled")]
mod copy;
#[cfg(feature = "sled")]
mod disk;
#[cfg(feature = "sled")]
#[cfg(test)]
mod faults;
#[cfg(feature = "sled")]
mod files;
#[cfg(feature = "sled")]
mod format;
#[cfg(feature = "sled")]
mod group;
#[cfg(feature = "sled")]
mod keys;
#[cfg(feature = "sled")]
mod labels;
#[cfg(feature = "sled")]
mod row;
#[cfg(feature = "sled")]
mod rows;
#[cfg(feature = "sled")]
mod seal;
#[cfg(feature = "sled")]
mod sled;
#[cfg(feature = "sled")]
mod space;
#[cfg(feature = "sled")]
mod writer;

pub use batch::{Batch, Change};
pub use catalogue::Tree;
pub use committing::Committing;
pub use error::StorageError;
pub use memory::MemoryStore;
pub use overlay::Overlay;
pub use view::{Range, Row, Store, View, prefix_end};

#[cfg(feature = "sled")]
pub use disk::{Reconciled, SledOptions, SledStore, destroy_copy};
#[cfg(feature = "sled")]
pub use space::{BackedUp, Compacted};
