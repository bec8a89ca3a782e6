//! Models of two parts of the protocol, checked by [stateright](https://docs.rs/stateright) in every state that small bounds
//! allow.
//!
//! - [`deletion`]: messages, their expiry, their tombstone, and the pruning of that; promises P4, P5 and P6.
//! - [`hub`]: the order of commits in a conversation; one commit per epoch, and everyone who competed learns what came of it.
//!
//! A model says in a few lines what the engine (`node/replica`) should do, and leaves out how. Each rule of a model names the
//! function that it stands for, and `tests/replay.rs` puts the same actions to a model and to real replicas.
//! `docs/internals/model.md` says what is modelled and what is not, and how a counterexample reads.

pub mod deletion;
pub mod hub;

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, Model, Path};

/// A shortest path that leads to where the property says something: to a breach of what must always hold, or to
/// an example of what must sometimes occur. None if there is none of at most `steps_max` actions.
///
/// The same model gives the same path each time. The checker itself reports the last that it has seen, which is long.
pub fn shortest<M>(model: &M, property: &'static str, steps_max: usize) -> Option<Path<M::State, M::Action>>
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq,
{
    (0..=steps_max).find_map(|steps| {
        // A state at the depth limit is not looked at any more, and the first state has depth 1.
        let checker = model.clone().checker().target_max_depth(steps + 2).spawn_bfs().join();
        checker.discovery(property)
    })
}
