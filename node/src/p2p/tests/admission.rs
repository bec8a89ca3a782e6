//! Who is admitted, and what the audit hears of the others.

use std::net::TcpListener;

use tokio::io::AsyncReadExt;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn admitted_nodes_connect_over_both_transports() {
    for listen in [QUIC, TCP] {
        let world = World::new();
        let mut a = world.start(1, "RYJ", &[listen]).await;
        let mut b = world.start(2, "RJ1", &[listen]).await;
        a.dial(&b).await;
        assert_eq!(a.connected_to(b.node).await.trust, trust("RJ1"));
        assert_eq!(b.connected_to(a.node).await.trust, trust("RYJ"));
        assert_eq!(a.handle.connected()[0].0, b.node);
        assert_eq!(a.handle.listen_addresses(), a.addresses);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_address_outside_the_permitted_countries_is_not_dialled() {
    let world = World::new();
    let mut a = world.start(1, "RYJ", &[TCP]).await;
    let elsewhere = TcpListener::bind("127.0.66.1:0").unwrap();
    let address = format!("/ip4/127.0.66.1/tcp/{}", elsewhere.local_addr().unwrap().port());
    a.handle.dial(node(2), &[address]).await.unwrap();
    let refused = a.refusal().await;
    assert_eq!((refused.node, refused.inbound), (Some(node(2)), false));
    assert_eq!(refused.reason, Reason::CountryRefused(country("US")));
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err(), "nothing was sent there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_address_of_no_known_country_is_not_dialled() {
    let world = World { networks: vec![("127.0.0.1/32", "GB")], ..World::new() };
    let mut a = world.start(1, "RYJ", &[TCP]).await;
    a.handle.dial(node(2), &["/ip4/127.0.0.2/udp/9/quic-v1".into()]).await.unwrap();
    assert_eq!(a.refusal().await.reason, Reason::CountryUnknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_quic_dialler_outside_the_permitted_countries_is_refused() {
    let world = World::new();
    let careless = World { networks: vec![("127.0.0.0/8", "GB")], ..world.clone() };
    let mut a = world.start(1, "RYJ", &[QUIC]).await;
    let outside = careless.start(2, "RJ1", &["/ip4/127.0.66.1/udp/0/quic-v1"]).await;
    outside.dial(&a).await;
    assert_outside(&a.refusal().await);
    assert!(outside.handle.connected().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_tcp_dialler_outside_the_permitted_countries_is_refused_without_a_byte() {
    let world = World::new();
    let mut a = world.start(1, "RYJ", &[TCP]).await;
    let port = a.addresses[0].rsplit('/').next().unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.66.1:0".parse().unwrap()).unwrap();
    let mut outside = socket.connect(format!("127.0.0.1:{port}").parse().unwrap()).await.unwrap();
    assert_outside(&a.refusal().await);
    let mut got = Vec::new();
    let _ = timeout(PATIENCE, outside.read_to_end(&mut got)).await.unwrap();
    assert!(got.is_empty(), "closed before anything was said");
}

fn assert_outside(refused: &Refused) {
    assert_eq!((refused.node, refused.inbound), (None, true), "refused before its key is known");
    assert_eq!(refused.reason, Reason::CountryRefused(country("US")));
    assert!(refused.address.starts_with("/ip4/127.0.66.1/"), "{}", refused.address);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn before_there_is_a_charter_nobody_is_let_in() {
    let world = World::new();
    let mut a = world.start(1, "RYJ", &[TCP]).await;
    world.permitted.lock().unwrap().clear();
    a.handle.dial(node(2), &["/ip4/127.0.0.1/tcp/9".into()]).await.unwrap();
    assert_eq!(a.refusal().await.reason, Reason::CountryRefused(country("GB")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_trust_that_is_dropped_during_the_exchange_is_not_admitted() {
    let world = World::new();
    let mut options = world.options(1, "RYJ", &[QUIC]);
    let (admit, trusts) = (options.policy.admit.clone(), world.trusts.clone());
    // The charter changes as soon as the chain has been judged: a recheck at that moment sees no connection yet.
    options.policy.admit = Arc::new(move |node, chain| {
        let outcome = admit(node, chain);
        trusts.lock().unwrap().remove(&trust("RJ1"));
        outcome
    });
    let (handle, events) = start(options).unwrap();
    let mut a = Peer { node: handle.node(), handle, events, addresses: Vec::new() };
    let listening = a.next(|event| match event {
        Event::Listening { address } => Some(address.clone()),
        _ => None,
    });
    let address = listening.await;
    a.addresses.push(address);
    let b = world.start(2, "RJ1", &[QUIC]).await;
    b.dial(&a).await;
    let refused = a.refusal().await;
    assert_eq!((refused.node, refused.inbound), (Some(b.node), true));
    assert_eq!(refused.reason.code(), "certificate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_trust_that_is_not_in_the_charter_is_refused_by_either_side() {
    for listen in [QUIC, TCP] {
        let world = World::new();
        let mut a = world.start(1, "RYJ", &[listen]).await;
        let mut stranger = world.start(3, "RXX", &[listen]).await;
        let expected = Reason::Certificate("trust RXX is not in the charter".into());

        stranger.dial(&a).await;
        let refused = a.refusal().await;
        assert_eq!(
            (refused.node, refused.inbound, refused.reason),
            (Some(stranger.node), true, expected.clone())
        );
        assert_eq!(stranger.refusal().await.reason, Reason::ByRemote);

        a.dial(&stranger).await;
        let refused = a.refusal().await;
        assert_eq!((refused.node, refused.inbound, refused.reason), (Some(stranger.node), false, expected));
        assert_eq!(stranger.refusal().await.reason, Reason::ByRemote);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_chain_that_names_another_node_is_refused() {
    let world = World::new();
    let mut a = world.start(1, "RYJ", &[QUIC]).await;
    let thief = Options { chain: chain("RJ1", &node(2)), ..world.options(3, "RJ1", &[]) };
    let (thief, _events) = start(thief).unwrap();
    thief.dial(a.node, &a.addresses).await.unwrap();
    assert_eq!(a.refusal().await.reason, Reason::Certificate("it names another node".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn another_node_at_the_address_is_refused_before_it_sees_our_chain() {
    for listen in [QUIC, TCP] {
        let world = World::new();
        let mut a = world.start(1, "RYJ", &[listen]).await;
        let b = world.start(2, "RJ1", &[listen]).await;
        a.handle.dial(node(3), &b.addresses).await.unwrap();
        let refused = a.refusal().await;
        assert_eq!(refused.reason, Reason::WrongPeer);
        assert_eq!(refused.node, Some(b.node), "the one who answered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_is_no_longer_welcome_is_disconnected() {
    let world = World::new();
    let (mut a, mut b) = pair(&world, QUIC).await;
    a.handle.recheck().await.unwrap();
    a.handle.send(&b.node, vec![1]).await.unwrap();
    assert_eq!(b.frame().await.1, [1], "a recheck without a reason changes nothing");

    world.trusts.lock().unwrap().remove(&trust("RJ1"));
    a.handle.recheck().await.unwrap();
    assert!(a.handle.connected().is_empty(), "at once");
    assert_eq!(a.handle.try_send(&b.node, vec![2]), Err(SendError::NotConnected));
    a.disconnected_from(b.node).await;
    b.disconnected_from(a.node).await;
    let refused = a.refusal().await;
    assert_eq!(refused.node, Some(b.node));
    assert_eq!(refused.reason, Reason::Withdrawn("trust RJ1 is not in the charter".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_country_that_is_no_longer_permitted_is_disconnected() {
    let world = World::new();
    let (mut a, b) = pair(&world, TCP).await;
    world.permitted.lock().unwrap().clear();
    a.handle.recheck().await.unwrap();
    a.disconnected_from(b.node).await;
    assert_eq!(a.refusal().await.reason.code(), "withdrawn");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn start_refuses_what_cannot_work() {
    let world = World::new();
    let long = Options { chain: vec![0; limits::MAX_CHAIN + 1], ..world.options(1, "RYJ", &[]) };
    assert!(matches!(start(long), Err(StartError::ChainTooLong(_))));
    assert!(matches!(start(world.options(1, "RYJ", &["localhost:1"])), Err(StartError::Address(_))));
    let taken = world.start(2, "RYJ", &[QUIC]).await;
    let same = start(world.options(1, "RYJ", &[&taken.addresses[0]]));
    assert!(matches!(same, Err(StartError::Listen(..))));
}
