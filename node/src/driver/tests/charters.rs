//! Charters that do not follow the one in force, whichever way they come: handed in by the operator, in a peer's frame, or by
//! gossip (promises P2 and P3).

use lanyard_crypto::NetworkId;
use lanyard_crypto::record::Decoded;

use super::nodes::{Node, Stranger, until};
use super::trusts::World;
use crate::address;
use crate::backend::Backend;

const ALL: [usize; 3] = [0, 1, 2];

/// Each of the ways, as it is named in the charters that take it.
const WAYS: [&str; 3] = ["by hand", "in a frame", "by gossip"];

/// Returns the code of the charter's refusal in the audit log.
async fn bring(node: &Node, strangers: &[Stranger; 2], way: &str, charter: &Decoded) -> String {
    let peer = match way {
        "by hand" => {
            let code = node.submit(charter).await.expect_err("refused");
            assert_eq!(node.why(&charter.id()).await.code, code);
            None
        }
        "in a frame" => {
            strangers[0].send(node, [charter.bytes().to_vec()]).await;
            Some(strangers[0].id)
        }
        _ => {
            strangers[1].publish(charter.bytes()).await;
            Some(strangers[1].id)
        }
    };
    let line = node.why(&charter.id()).await;
    assert_eq!(line.peer_id, peer.map(|node| address::peer_id(&node)), "{way}");
    line.code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn charters_that_do_not_follow_are_refused_however_they_come() {
    let world = World::new();
    let node = Node::start(&world, 0).await;
    let strangers = [Stranger::of(&world, 1).await, Stranger::of(&world, 2).await];
    for stranger in &strangers {
        stranger.connect(&node).await;
    }
    let second = world.next_charter(&world.charter, &ALL, "Second", 2);
    let third = world.next_charter(&second, &ALL, "Third", 2);
    assert_eq!(node.submit(&second).await, Ok(()));
    strangers[0].send(&node, [third.bytes().to_vec()]).await;
    until("version 3", async || (node.version() == 3).then_some(())).await;
    let (in_force, held) = (node.running.engine.network().charter_id(), node.held());

    for way in WAYS {
        // Another second version while the third is in force; another third; one that follows the other third; a
        // fourth by too few, which also leaves out the trust that would object.
        let other_second = world.next_charter(&world.charter, &[0, 1], way, 2);
        let other_third = world.next_charter(&second, &[0, 1], way, 2);
        let after_other = world.next_charter(&other_third, &[0, 1], way, 2);
        let too_few = world.next_charter(&third, &[0, 1], way, 1);
        let foreign = {
            let mut elsewhere = World::new();
            elsewhere.network = NetworkId::new([66; 32]);
            elsewhere.next_charter(&third, &ALL, way, 2)
        };
        let cases = [
            (other_second, "charter-rollback"),
            (other_third, "charter-fork"),
            (after_other, "charter-fork"),
            (too_few, "charter-threshold"),
            (foreign, "other-network"),
        ];
        for (charter, code) in cases {
            assert_eq!(bring(&node, &strangers, way, &charter).await, code, "{way}");
            assert!(node.has_nothing_of(&charter.id()));
        }
    }
    assert_eq!(node.running.engine.network().charter_id(), in_force);
    let trust = node.running.engine.trust_records(None).await.unwrap();
    assert_eq!(trust.charter, third.bytes().to_vec());
    assert_eq!(node.held(), held);

    // Nor does one that was in force once, and is still held.
    assert_eq!(node.submit(&world.charter).await, Err("charter-rollback".into()));
    assert_eq!(node.why(&world.charter.id()).await.code, "charter-rollback");
    assert_eq!(node.version(), 3);
}

/// The first charter still has a trust that the second has dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_began_with_a_later_charter_does_not_go_back() {
    let world = World::new();
    let second = world.next_charter(&world.charter, &[0, 1], "Without RXC", 2);
    let node = Node::under(&second, &world, 0).await;
    let stranger = Stranger::of(&world, 1).await;
    stranger.connect(&node).await;
    stranger.send(&node, [world.charter.bytes().to_vec()]).await;
    assert_eq!(node.why(&world.charter.id()).await.code, "charter-rollback");
    assert_eq!(node.submit(&world.charter).await, Err("charter-rollback".into()));
    assert_eq!(node.version(), 2);

    let dropped = Stranger::of(&world, 2).await;
    dropped.dial(&node).await;
    let line = node.why_not(dropped.id, 0).await;
    assert!(line.detail.contains("trust RXC is not in the charter"), "{line:?}");
}
