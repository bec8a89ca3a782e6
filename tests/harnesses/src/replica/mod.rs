//! An engine, and everything that can happen to it: the structure-aware target.
//!
//! An input is a script: each step begins with a byte that says what happens, and reads as many bytes more as it needs. There are
//! two real replicas (RXA and RXB) over stores in memory, which talk to each other over a wire that the script holds: it delivers,
//! repeats, alters and loses. RXC's node, and a device of each trust, are the script's own: it signs what it likes with their
//! keys, in the right shape with odd values, or alters it afterwards. Clocks go forward in steps of seconds to days; replicas are
//! closed and opened again.
//!
//! Frames other than records and answers are never made here: they come from the replicas, and are altered as bytes. So the
//! harness knows nothing of how anti-entropy works.

mod act;
mod check;
mod deletions;
mod evidence;
mod world;

use lanyard_replica::frame::Frame;

pub use world::World;

use crate::choices::Choices;

/// Between two looks at everything that is stored, in steps of a script.
const LOOK_INTERVAL: usize = 24;

/// Runs a script; accepted if any record of it was.
pub(crate) fn script(bytes: &[u8]) -> bool {
    let (mut world, mut choices) = (World::new(), Choices::new(bytes));
    let before = world.held();
    let mut steps = 0;
    while act::act(&mut world, &mut choices).is_some() {
        steps += 1;
        if steps % LOOK_INTERVAL == 0 {
            world.look();
        }
    }
    world.settle();
    world.look();
    world.held() != before
}

/// Shows a frame to a replica whose peer has sent it, and what comes of it to that peer.
pub(crate) fn take_frame(bytes: &[u8]) {
    debug_assert!(Frame::from_bytes(bytes).is_ok());
    let mut world = World::new();
    world.connect(world::SCRIPTED);
    world.bring_frame(0, world::SCRIPTED, bytes);
    world.connect(1);
    world.bring_frame(0, 1, bytes);
    world.settle();
    world.look();
}
