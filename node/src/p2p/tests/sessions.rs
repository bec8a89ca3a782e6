//! Sessions over restarts, simultaneous dials and absences.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_peer_that_restarts_replaces_its_old_connections() {
    for listen in [QUIC, TCP] {
        let world = World::new();
        let (mut a, b) = pair(&world, listen).await;
        // Another process with the same key, while the first one's connection is still open: what a crash
        // looks like from afar.
        let again = world.start(2, "RJ1", &[listen]).await;
        again.dial(&a).await;
        a.disconnected_from(b.node).await;
        a.connected_to(again.node).await;
        a.handle.send(&again.node, vec![5]).await.unwrap();
        let (mut again, mut b) = (again, b);
        assert_eq!(again.frame().await.1, [5], "it goes to the new one");
        b.disconnected_from(a.node).await;
        again.handle.send(&a.node, vec![6]).await.unwrap();
        assert_eq!(a.frame().await.1, [6]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn both_sides_may_dial_at_once() {
    for listen in [QUIC, TCP] {
        let world = World::new();
        let mut a = world.start(1, "RYJ", &[listen]).await;
        let mut b = world.start(2, "RJ1", &[listen]).await;
        a.handle.set_wanted(&[(b.node, b.addresses.clone())]).await.unwrap();
        b.handle.set_wanted(&[(a.node, a.addresses.clone())]).await.unwrap();
        a.connected_to(b.node).await;
        b.connected_to(a.node).await;
        for number in 0..20 {
            a.handle.send(&b.node, vec![number]).await.unwrap();
            b.handle.send(&a.node, vec![number]).await.unwrap();
        }
        for number in 0..20 {
            for (peer, from) in [(&mut a, node(2)), (&mut b, node(1))] {
                // The next event is the frame: there is one session, and it has not ended.
                match peer.event().await {
                    Event::Frame { from: sender, bytes } => assert_eq!((sender, bytes), (from, vec![number])),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_wanted_peer_is_dialled_until_it_is_there_and_when_it_comes_back() {
    let world = World::new();
    let mut b = world.start(2, "RJ1", &[TCP]).await;
    let addresses = b.addresses.clone();
    b.handle.shutdown().await;
    assert!(b.events.recv().await.is_none(), "stopped");

    let mut a = world.start(1, "RYJ", &[TCP]).await;
    a.handle.set_wanted(&[(b.node, addresses.clone()), (a.node, a.addresses.clone())]).await.unwrap();
    for _ in 0..2 {
        let b = world.start(2, "RJ1", &[&addresses[0]]).await;
        a.connected_to(b.node).await;
        b.handle.shutdown().await;
        a.disconnected_from(b.node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_address_that_does_not_answer_leaves_time_for_the_next() {
    let mut world = World::new();
    world.timing.admission_max = Duration::from_secs(2);
    // As behind a firewall that UDP does not pass.
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("/ip4/127.0.0.1/udp/{}/quic-v1", socket.local_addr().unwrap().port());
    let b = world.start(2, "RJ1", &[TCP]).await;
    let mut a = world.start(1, "RYJ", &[QUIC]).await;
    a.handle.set_wanted(&[(b.node, vec![silent, b.addresses[0].clone()])]).await.unwrap();
    a.connected_to(b.node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_program_with_the_same_port_on_another_address_hinders_no_dial() {
    let world = World::new();
    let mut a = world.start(1, "RYJ", &[TCP]).await;
    let b = world.start(2, "RJ1", &[TCP]).await;
    let port: u16 = a.addresses[0].split('/').find_map(|part| part.parse().ok()).unwrap();
    let _other = std::net::TcpListener::bind(("127.0.0.9", port)).unwrap();
    a.handle.dial(b.node, &b.addresses).await.unwrap();
    a.connected_to(b.node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_name_is_resolved_and_its_addresses_pass_the_gate() {
    let world = World::new();
    let mut a = world.start(1, "RYJ", &[TCP]).await;
    let b = world.start(2, "RJ1", &[TCP]).await;
    let name = b.addresses[0].replace("/ip4/127.0.0.1/", "/dns4/localhost/");
    a.handle.dial(b.node, std::slice::from_ref(&name)).await.unwrap();
    a.connected_to(b.node).await;

    world.permitted.lock().unwrap().clear();
    let mut c = world.start(3, "RQM", &[TCP]).await;
    c.handle.dial(b.node, &[name]).await.unwrap();
    let refused = c.refusal().await;
    assert_eq!(refused.reason.code(), "country-refused");
    assert!(refused.address.starts_with("/ip4/127.0.0.1/"), "{}", refused.address);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_next_address_is_tried_when_one_does_not_answer() {
    let world = World::new();
    let mut a = world.start(1, "RYJ", &[QUIC, TCP]).await;
    let b = world.start(2, "RJ1", &[TCP]).await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let addresses = [format!("/ip4/127.0.0.1/tcp/{dead}"), b.addresses[0].clone()];
    a.handle.dial(b.node, &addresses).await.unwrap();
    a.connected_to(b.node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_peer_that_falls_silent_is_disconnected() {
    let mut world = World::new();
    world.timing.keepalive = Duration::from_secs(3600);
    // Neither says that it is alive, and one of the two does not wait for it.
    let patient = world.clone();
    world.timing.silence_max = Duration::from_millis(500);
    let mut a = world.start(1, "RYJ", &[TCP]).await;
    let b = patient.start(2, "RJ1", &[TCP]).await;
    // On a busy machine a session may be over before it is told of: another one follows.
    a.handle.set_wanted(&[(b.node, b.addresses.clone())]).await.unwrap();
    a.connected_to(b.node).await;
    a.disconnected_from(b.node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_stopped_shell_says_so() {
    let a = World::new().start(1, "RYJ", &[TCP]).await;
    a.handle.shutdown().await;
    a.handle.shutdown().await;
    assert_eq!(a.handle.recheck().await, Err(CommandError::Stopped));
    assert_eq!(a.handle.publish(vec![1]).await, Err(PublishError::Stopped));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn commands_are_checked() {
    let a = World::new().start(1, "RYJ", &[TCP]).await;
    let many = vec!["/ip4/127.0.0.1/tcp/9".to_string(); limits::ADDRESSES_PER_PEER + 1];
    assert!(matches!(a.handle.dial(node(2), &many).await, Err(CommandError::TooMany { .. })));
    let wanted = vec![(node(2), Vec::new()); limits::WANTED + 1];
    assert!(matches!(a.handle.set_wanted(&wanted).await, Err(CommandError::TooMany { .. })));
    let relay = format!("/ip4/127.0.0.1/tcp/9/p2p/{}/p2p-circuit", address::peer_of(&node(3)).unwrap());
    assert!(matches!(a.handle.dial(node(2), &[relay]).await, Err(CommandError::Address(_))));
}
