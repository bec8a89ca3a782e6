//! Tests of the engine over a store in memory: several replicas in a [`world`], which carries what they send by hand.

use crate::fixtures;

mod admission;
mod auditing;
mod behind;
mod bulk;
mod clients;
mod clocks;
mod crowd;
mod depth;
mod destruction;
mod erasure;
mod evidence;
mod heads;
mod holds;
mod honest;
mod hub;
mod liars;
mod order;
mod orders;
mod pins;
mod reconciling;
mod restored;
mod revoked;
mod spreading;
mod standing;
mod syncing;
mod trust;
mod world;
