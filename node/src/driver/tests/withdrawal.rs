//! Who was admitted, and is not any more: live connections close, and do not come back.

use lanyard_crypto::record::Decoded;
use lanyard_replica::fixtures::key;

use super::nodes::{Node, Stranger, chain};
use super::trusts::World;
use crate::backend::AuditLine;
use crate::p2p::Event;

/// The connection to the stranger closes for a reason with these words, and it is refused when it comes back.
async fn shut_out(node: &Node, stranger: &Stranger, words: &str) {
    node.disconnected(&stranger.id).await;
    stranger.disconnected().await;
    stranger.dial(node).await;
    let id = crate::address::peer_id(&stranger.id);
    let about = |l: &AuditLine| l.peer_id.as_deref() == Some(&id) && l.detail.contains(words);
    node.told("closed", |l| about(l) && l.event == "peer-refused" && l.code == "withdrawn").await;
    node.told("kept out", |l| about(l) && l.event == "peer-refused" && l.code == "certificate").await;
    assert!(!node.is_connected(&stranger.id));
    assert_eq!(stranger.saw(|e| matches!(e, Event::Connected { .. })), 1);
}

async fn revoked(world: &World, list: Decoded, words: &str) {
    let node = Node::start(world, 0).await;
    let (stranger, other) = (Stranger::of(world, 1).await, Stranger::of(world, 2).await);
    stranger.connect(&node).await;
    other.connect(&node).await;
    assert_eq!(node.submit(&list).await, Ok(()));
    shut_out(&node, &stranger, words).await;
    assert!(node.is_connected(&other.id), "its neighbour stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_node_is_shut_out() {
    let world = World::new();
    let list = world.trusts[1].crl(world.network, &world.trusts[1].node);
    revoked(&world, list, "the node certificate of Node (RXB) was revoked").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_of_a_revoked_registrar_are_shut_out() {
    let world = World::new();
    let list = world.trusts[1].root_crl(world.network, &world.trusts[1].registrar);
    revoked(&world, list, "the registrar certificate of Registrar (RXB) was revoked").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_expires_ends_its_connection() {
    let world = World::new();
    let node = Node::start(&world, 0).await;
    let (trust, key) = (&world.trusts[1], key(130));
    let certificate = trust.further_node(&key, -60, 3);
    let stranger = Stranger::start(&world, &key, chain(&[&certificate, &trust.registrar])).await;
    stranger.connect(&node).await;
    shut_out(&node, &stranger, "expired at").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_charter_that_expires_ends_all_connections() {
    let world = World::until(crate::time::now().plus_secs(4));
    let node = Node::start(&world, 0).await;
    let stranger = Stranger::of(&world, 1).await;
    stranger.connect(&node).await;
    shut_out(&node, &stranger, "the charter expired").await;
}

/// Two drivers, of which one knows the other's address by its entry, and keeps calling.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trust_that_the_next_charter_drops_is_shut_out() {
    let world = World::new();
    let (node, dropped) = (Node::start(&world, 0).await, Node::start(&world, 1).await);
    let addresses = node.addresses.clone();
    let entry = world.trusts[0].entry(world.network, &world.trusts[0].node, addresses);
    assert_eq!(dropped.submit(&entry).await, Ok(()));
    node.connected(&dropped.id).await;
    let neighbour = Stranger::of(&world, 2).await;
    neighbour.connect(&node).await;

    let second = world.next_charter(&world.charter, &[0, 2], "Without RXB", 2);
    assert_eq!(node.submit(&second).await, Ok(()));
    node.disconnected(&dropped.id).await;
    dropped.disconnected(&node.id).await;
    let id = crate::address::peer_id(&dropped.id);
    let about = |l: &AuditLine| l.peer_id.as_deref() == Some(&id);
    let closed = node.told("closed", |l| about(l) && l.event == "peer-dropped").await;
    assert_eq!((closed.code.as_str(), closed.trust.as_deref()), ("unknown-trust", Some("RXB")));
    let kept_out = |l: &AuditLine| {
        about(l) && l.code == "certificate" && l.detail.contains("trust RXB is not in the charter")
    };
    node.told("kept out", kept_out).await;
    assert!(!node.is_connected(&dropped.id) && node.is_connected(&neighbour.id));
    let connections =
        |lines: Vec<AuditLine>| lines.iter().filter(|l| about(l) && l.event == "connected").count();
    assert_eq!(connections(node.audit().await), 1);
}
