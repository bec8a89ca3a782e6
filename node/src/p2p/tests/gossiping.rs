//! Gossip over three nodes in a line, of which the middle one relays.

use lanyard_crypto::RecordId;

use super::*;

/// a - b - c.
async fn line(world: &World) -> [Peer; 3] {
    let mut a = world.start(1, "RYJ", &[QUIC]).await;
    let mut b = world.start(2, "RJ1", &[QUIC]).await;
    let mut c = world.start(3, "RQM", &[TCP]).await;
    a.dial(&b).await;
    a.connected_to(b.node).await;
    b.connected_to(a.node).await;
    // A node that does not listen on a transport can still dial over it.
    c.handle.dial(b.node, &b.addresses).await.unwrap();
    c.connected_to(b.node).await;
    b.connected_to(c.node).await;
    warm_up(&a, &mut b, &mut c).await;
    [a, b, c]
}

/// Publishes until a message has come all the way. Before all have met in the mesh, a message may be lost: gossip
/// promises no more.
async fn warm_up(a: &Peer, b: &mut Peer, c: &mut Peer) {
    let mut number = 0;
    let mut arrived = false;
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    let attempts = async {
        while !arrived {
            tokio::select! {
                _ = tick.tick() => {
                    let _ = a.handle.publish(format!("{WARM_UP}{number}").into_bytes()).await;
                    number += 1;
                }
                event = b.event() => accept(b, event).await,
                event = c.event() => {
                    arrived = matches!(event, Event::Gossip { .. });
                    accept(c, event).await;
                }
            }
        }
    };
    timeout(PATIENCE, attempts).await.unwrap();
}

const WARM_UP: &str = "warm-up ";

async fn accept(peer: &Peer, event: Event) {
    if let Event::Gossip { from, id, .. } = event {
        peer.handle.report(from, id, Verdict::Accept).await.unwrap();
    }
}

async fn publish(peer: &Peer, bytes: &[u8]) -> RecordId {
    let attempts = async {
        loop {
            match peer.handle.publish(bytes.to_vec()).await {
                Ok(id) => return id,
                // Subscriptions are still under way.
                Err(PublishError::Nobody) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    timeout(PATIENCE, attempts).await.unwrap()
}

/// The next message that is not from the warm-up, to which this verdict is given.
async fn gossip(peer: &mut Peer, verdict: Verdict) -> (NodeId, Vec<u8>) {
    let (from, id, bytes) = loop {
        match peer.event().await {
            Event::Gossip { from, id, bytes } if !bytes.starts_with(WARM_UP.as_bytes()) => {
                break (from, id, bytes);
            }
            event => accept(peer, event).await,
        }
    };
    assert_eq!(id, RecordId::of(&bytes));
    peer.handle.report(from, id, verdict).await.unwrap();
    (from, bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_the_middle_accepts_goes_on_and_what_it_rejects_does_not() {
    let world = World::new();
    let [a, mut b, mut c] = line(&world).await;

    assert_eq!(publish(&a, b"one").await, RecordId::of(b"one"));
    assert_eq!(gossip(&mut b, Verdict::Accept).await, (a.node, b"one".to_vec()));
    assert_eq!(gossip(&mut c, Verdict::Accept).await, (b.node, b"one".to_vec()));

    for (refused, verdict) in [(b"two", Verdict::Reject), (b"thr", Verdict::Ignore)] {
        publish(&a, refused).await;
        assert_eq!(gossip(&mut b, verdict).await.1, refused);
    }
    publish(&a, b"four").await;
    assert_eq!(gossip(&mut b, Verdict::Accept).await.1, b"four");
    assert_eq!(gossip(&mut c, Verdict::Accept).await.1, b"four", "nothing came in between");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_largest_message_passes_and_a_larger_one_is_refused_to_the_caller() {
    let world = World::new();
    let [a, mut b, mut c] = line(&world).await;
    let largest = vec![9; limits::MAX_GOSSIP];
    publish(&a, &largest).await;
    assert!(gossip(&mut b, Verdict::Accept).await.1 == largest);
    assert!(gossip(&mut c, Verdict::Accept).await.1 == largest);

    let larger = limits::MAX_GOSSIP + 1;
    assert_eq!(a.handle.publish(vec![9; larger]).await, Err(PublishError::Length(larger)));
    assert_eq!(a.handle.publish(largest).await, Err(PublishError::Duplicate));
    publish(&a, b"still there").await;
    assert_eq!(gossip(&mut b, Verdict::Accept).await.1, b"still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn gossip_survives_a_restart_of_the_middle() {
    let world = World::new();
    let [mut a, b, mut c] = line(&world).await;
    let mut again = world.start(2, "RJ1", &[QUIC]).await;
    for (peer, other) in [(&mut a, 1), (&mut c, 3)] {
        peer.handle.disconnect(b.node, "restarting").await.unwrap();
        peer.disconnected_from(b.node).await;
        peer.handle.dial(again.node, &again.addresses).await.unwrap();
        peer.connected_to(again.node).await;
        again.connected_to(node(other)).await;
    }
    warm_up(&a, &mut again, &mut c).await;
    publish(&a, b"after").await;
    assert_eq!(gossip(&mut again, Verdict::Accept).await.1, b"after");
    assert_eq!(gossip(&mut c, Verdict::Accept).await.1, b"after");
}
