//! Which peers the node wants, and when each is dialled again: after a pause that doubles with each failure
//! up to a limit, of which a random part is taken off so that nodes that lost each other do not dial in step.
//!
//! Pure: [`super::driver`] asks [`Dialler::due`] at each tick and tells how the dials went.

use std::collections::BTreeMap;
use std::time::Duration;

use lanyard_crypto::NodeId;
use libp2p::multiaddr::Multiaddr;
use tokio::time::Instant;

/// See the module documentation.
pub(super) struct Dialler {
    wanted: BTreeMap<NodeId, Wanted>,
    pause_min: Duration,
    pause_max: Duration,
}

struct Wanted {
    addresses: Vec<Multiaddr>,
    state: State,
    /// The next pause, before its random part.
    pause: Duration,
}

#[derive(Clone, Copy)]
enum State {
    Waiting(Instant),
    Dialling,
    Connected(Instant),
}

impl Dialler {
    pub(super) fn new(pause_min: Duration, pause_max: Duration) -> Self {
        Self { wanted: BTreeMap::new(), pause_min, pause_max }
    }

    /// Replaces the set. A peer that was wanted before keeps its state, and is dialled at once if it has
    /// gained an address.
    pub(super) fn set(
        &mut self,
        wanted: impl IntoIterator<Item = (NodeId, Vec<Multiaddr>)>,
        is_connected: impl Fn(&NodeId) -> bool,
        now: Instant,
    ) {
        let mut before = std::mem::take(&mut self.wanted);
        let pause_min = self.pause_min;
        self.wanted.extend(wanted.into_iter().map(|(node, addresses)| {
            let state = if is_connected(&node) { State::Connected(now) } else { State::Waiting(now) };
            let entry = match before.remove(&node) {
                Some(known) if addresses.iter().all(|address| known.addresses.contains(address)) => {
                    Wanted { addresses, ..known }
                }
                Some(Wanted { state: state @ (State::Dialling | State::Connected(_)), pause, .. }) => {
                    Wanted { addresses, state, pause }
                }
                Some(_) | None => Wanted { addresses, state, pause: pause_min },
            };
            (node, entry)
        }));
    }

    /// The peers to dial now. Each must be followed by [`Self::failed`] or [`Self::connected`].
    pub(super) fn due(&mut self, now: Instant) -> Vec<(NodeId, Vec<Multiaddr>)> {
        let is_due = |wanted: &Wanted| matches!(wanted.state, State::Waiting(due) if due <= now);
        let due = self.wanted.iter_mut().filter(|(_, wanted)| is_due(wanted));
        due.map(|(node, wanted)| {
            wanted.state = State::Dialling;
            (*node, wanted.addresses.clone())
        })
        .collect()
    }

    /// A dial to this peer failed. `random` is uniform in its range.
    pub(super) fn failed(&mut self, node: &NodeId, now: Instant, random: u32) {
        let pause_max = self.pause_max;
        if let Some(wanted) = self.wanted.get_mut(node)
            && matches!(wanted.state, State::Dialling)
        {
            wanted.wait(now, pause_max, random);
        }
    }

    /// The peer is connected, whoever dialled.
    pub(super) fn connected(&mut self, node: &NodeId, now: Instant) {
        if let Some(wanted) = self.wanted.get_mut(node) {
            wanted.state = State::Connected(now);
        }
    }

    /// The peer is no longer connected. Pauses start short again only if the connection has lasted, so that a
    /// peer that admits us and then drops us is not dialled without end.
    pub(super) fn disconnected(&mut self, node: &NodeId, now: Instant, random: u32) {
        let (pause_min, pause_max) = (self.pause_min, self.pause_max);
        let Some(wanted) = self.wanted.get_mut(node) else {
            return;
        };
        if let State::Connected(since) = wanted.state
            && now.duration_since(since) >= pause_max
        {
            wanted.pause = pause_min;
        }
        wanted.wait(now, pause_max, random);
    }
}

impl Wanted {
    fn wait(&mut self, now: Instant, pause_max: Duration, random: u32) {
        let taken_off = self.pause.mul_f64(0.5 * f64::from(random) / f64::from(u32::MAX));
        self.state = State::Waiting(now + self.pause - taken_off);
        self.pause = (self.pause * 2).min(pause_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(200);
    const MAX: Duration = Duration::from_millis(1000);

    fn dialler(node: NodeId, now: Instant) -> Dialler {
        let mut dialler = Dialler::new(MIN, MAX);
        dialler.set([(node, Vec::new())], |_| false, now);
        dialler
    }

    #[test]
    fn pauses_double_up_to_the_limit_and_are_jittered() {
        let (node, mut now) = (NodeId::new([1; 32]), Instant::now());
        let mut dialler = dialler(node, now);
        for expected in [200, 400, 800, 1000, 1000].map(Duration::from_millis) {
            assert_eq!(dialler.due(now).len(), 1);
            assert!(dialler.due(now).is_empty(), "under way");
            dialler.failed(&node, now, 0);
            assert!(dialler.due(now + expected - Duration::from_millis(1)).is_empty());
            now += expected;
        }
        assert_eq!(dialler.due(now).len(), 1);
        dialler.failed(&node, now, u32::MAX);
        assert_eq!(dialler.due(now + MAX / 2).len(), 1, "half of the pause is random");
    }

    #[test]
    fn only_a_lasting_connection_shortens_the_pause() {
        let (node, now) = (NodeId::new([1; 32]), Instant::now());
        let mut dialler = dialler(node, now);
        dialler.connected(&node, now);
        assert!(dialler.due(now + MAX).is_empty(), "a connected peer is not dialled");
        dialler.disconnected(&node, now, 0);
        dialler.connected(&node, now);
        dialler.disconnected(&node, now, 0);
        assert!(dialler.due(now + MIN).is_empty(), "it flaps");
        dialler.connected(&node, now);
        dialler.disconnected(&node, now + MAX, 0);
        assert_eq!(dialler.due(now + MAX + MIN).len(), 1);
    }

    #[test]
    fn a_new_address_is_tried_at_once_and_an_unwanted_peer_no_more() {
        let (node, now) = (NodeId::new([1; 32]), Instant::now());
        let mut dialler = dialler(node, now);
        dialler.due(now);
        dialler.failed(&node, now, 0);
        dialler.set([(node, vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()])], |_| false, now);
        assert_eq!(dialler.due(now).len(), 1);
        dialler.set([], |_| false, now);
        dialler.failed(&node, now, 0);
        assert!(dialler.due(now + MAX).is_empty());
    }
}
