//! What a peer or a device can make a node do or tell, beyond its own affairs: nothing that spoils another one's (promise P8).

use lanyard_crypto::Fingerprint;
use lanyard_crypto::gateway::SendRequest;
use lanyard_crypto::record::{Body, Class, Reason, Target};
use lanyard_replica::Deleter;
use lanyard_replica::fixtures::{self, key};
use lanyard_storage::{Batch, Store, Tree};

use super::nodes::{Node, Stranger, chain, until};
use super::trusts::{Trust, World};
use crate::address::peer_id;
use crate::backend::{Backend, Deletion};
use crate::p2p::Event;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_cannot_be_dialled_spoils_nothing_else() {
    let world = World::new();
    let node = Node::start(&world, 0).await;
    let stranger = Stranger::of(&world, 1).await;
    let (good, bad) = (&world.trusts[1], &world.trusts[2]);
    let nonsense = bad.entry(world.network, &bad.node, vec!["nonsense".into()]);
    assert_eq!(node.submit(&nonsense).await, Ok(()));
    let line = node.told("a bad address", |l| l.event == "address-ignored").await;
    assert_eq!((line.code.as_str(), line.trust.as_deref()), ("bad-address", Some("RXC")));
    assert!(line.detail.contains("nonsense"), "{line:?}");

    let entry = good.entry(world.network, &good.node, stranger.handle.listen_addresses());
    assert_eq!(node.submit(&entry).await, Ok(()));
    node.connected(&stranger.id).await;
    let lines = node.audit().await;
    assert_eq!(lines.iter().filter(|l| l.event == "address-ignored").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_refused_again_and_again_is_one_line_of_the_audit_log() {
    let world = World::new();
    let node = Node::start(&world, 0).await;
    let other = Trust::new("RXD", 31);
    let stranger = Stranger::start(&world, &other.node_key, chain(&[&other.node, &other.registrar])).await;
    let told = |e: &Event| matches!(e, Event::Refused(r) if r.reason.code() == "by-remote");
    for times in 1..=5 {
        stranger.dial(&node).await;
        until("refused", async || (stranger.saw(told) == times).then_some(())).await;
    }
    // The next to be refused is written down after all that came before.
    let last = Stranger::start(&world, &key(150), Vec::new()).await;
    last.dial(&node).await;
    let line = node.why_not(last.id, 0).await;
    assert!(line.detail.contains("4 more were not logged"), "{line:?}");
    let id = peer_id(&stranger.id);
    let lines = node.audit().await;
    assert_eq!(lines.iter().filter(|l| l.peer_id.as_deref() == Some(&id)).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_told_of_its_own_messages_and_conversations_alone() {
    let world = World::new();
    let node = Node::start(&world, 0).await;
    let engine = &node.running.engine;
    let (sender, member, other) = (device(1), device(2), device(3));
    let us = world.conversation(0);
    let mut rows = Batch::default();
    for who in [sender, member] {
        let id = us.to_bytes();
        let row = [&[id.len() as u8][..], &id, who.as_bytes()].concat();
        rows.put(Tree::Members, row, []);
    }
    engine.0.store.commit(rows).unwrap();

    let Body::Envelope(envelope) = fixtures::application(&us, 1) else { panic!("an envelope") };
    let request = SendRequest {
        conversation: us.clone(),
        epoch: 1,
        class: Class::Application,
        content: envelope.content,
        custodians: vec![world.trusts[1].id.clone()],
        expires: world.now.plus_secs(3600),
    };
    let id = engine.send(sender, request).await.unwrap().id;
    assert!(engine.ticks(sender, id).await.unwrap().is_some());
    for who in [member, other] {
        assert_eq!(engine.ticks(who, id).await.unwrap(), None);
    }

    let order = Deletion {
        by: Deleter::Device(sender),
        conversation: us,
        target: Target::Envelopes(vec![id]),
        reason: Reason::Incident,
        reference: vec![7; 16],
    };
    let tombstone = engine.delete(order).await.unwrap();
    for who in [sender, member] {
        assert!(engine.deletion_for(who, tombstone).await.unwrap().is_some());
    }
    assert_eq!(engine.deletion_for(other, tombstone).await.unwrap(), None);
}

fn device(n: u8) -> Fingerprint {
    Fingerprint::new([n; 32])
}
