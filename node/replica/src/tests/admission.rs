//! What is refused leaves its reason in the audit log, and nothing else (promises P2, P6, P8).

use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::record::{self, Body, Class, Decoded, Envelope};
use lanyard_crypto::{ConversationId, RecordId};
use lanyard_storage::Tree;

use super::fixtures::{self, DAY, RETENTION, Trust};
use super::world::World;
use crate::audit::AuditEntry;
use crate::verdict::Verdict;
use crate::{Output, Source};

const ALL: [usize; 3] = [0, 1, 2];

/// Brings a record of RXB to RXA, and asserts that it is refused with this code, and leaves nothing.
fn refused(world: &mut World, record: &Decoded, code: &str) {
    let before = rows(world);
    assert_eq!(world.bring(0, 1, record).as_deref(), Some(code));
    assert_eq!(rows(world), before, "{code}: nothing is stored");
    assert!(!world.holds(0, &record.id()));
}

/// All rows of RXA but the audit log and where it ends.
fn rows(world: &World) -> Vec<(Tree, Vec<u8>, Vec<u8>)> {
    let mut rows = world.nodes[0].store.rows();
    rows.retain(|(tree, key, _)| {
        *tree != Tree::Audit && !(key.starts_with(b"next-") || key.starts_with(b"audit-"))
    });
    rows
}

#[test]
fn times_are_bounded() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let now = world.now;
    let at = |world: &World, issued, life| {
        let trusts: Vec<_> = world.trusts.iter().collect();
        let header = fixtures::header(world.network, &trusts, issued, life);
        world.trusts[1].sign(header, fixtures::application(&conversation, 1))
    };
    let future = at(&world, now.plus_secs(CLOCK_SKEW_SECS_MAX + 1), DAY);
    refused(&mut world, &future, "future");
    let long = at(&world, now, RETENTION + 1);
    refused(&mut world, &long, "retention");
    let over = at(&world, now.minus_secs(10), 10);
    refused(&mut world, &over, "expired");
    for good in [at(&world, now.plus_secs(CLOCK_SKEW_SECS_MAX), DAY), at(&world, now.minus_secs(10), 11)] {
        assert_eq!(world.bring(0, 1, &good), None);
    }
    // What was too early is taken when its time has come: it was not refused for good.
    world.now = now.plus_secs(1);
    assert_eq!(world.bring(0, 1, &future), None);
}

#[test]
fn the_envelope_is_what_it_says() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let other = ConversationId::new([8; 16], world.trusts[0].id.clone());
    let envelope = |class, epoch, content| {
        Body::Envelope(Envelope { conversation: conversation.clone(), epoch, class, content })
    };
    let header = world.header(&ALL, DAY);
    let bodies = [
        envelope(Class::Application, 1, b"hello".to_vec()),
        envelope(Class::Application, 1, fixtures::private_message(&other, 1, 1)),
        envelope(Class::Application, 2, fixtures::private_message(&conversation, 1, 1)),
        envelope(Class::Application, 1, content(&fixtures::commit(&conversation, 1, 1))),
        envelope(Class::Application, 1, content(&fixtures::welcome(&conversation, 1, &[7; 32]))),
    ];
    for body in bodies {
        let record = world.trusts[1].sign(header.clone(), body);
        refused(&mut world, &record, "content-mismatch");
    }
    let secret = envelope(Class::Commit, 1, fixtures::private_message(&conversation, 1, 1));
    let secret = world.trusts[0].sign(header, secret);
    assert_eq!(world.bring(1, 0, &secret).as_deref(), Some("content-mismatch"));
}

fn content(body: &Body) -> Vec<u8> {
    let Body::Envelope(envelope) = body else { panic!("no envelope") };
    envelope.content.clone()
}

#[test]
fn the_owner_alone_publishes_commits_and_welcomes() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let header = world.header(&ALL, DAY);
    for body in [fixtures::commit(&conversation, 1, 1), fixtures::welcome(&conversation, 2, &[7; 32])] {
        let record = world.trusts[1].sign(header.clone(), body.clone());
        refused(&mut world, &record, "not-owner");
        let record = world.trusts[0].sign(header.clone(), body);
        assert_eq!(world.bring(1, 0, &record), None);
    }
    let second = world.trusts[0].sign(header, fixtures::commit(&conversation, 1, 2));
    assert_eq!(world.bring(1, 0, &second).as_deref(), Some("duplicate-commit"));
    assert!(!world.holds(1, &second.id()));
}

#[test]
fn an_epoch_keeps_its_commit_after_the_commit_has_expired() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let first = world.trusts[0].sign(world.header(&ALL, DAY), fixtures::commit(&conversation, 1, 1));
    assert_eq!(world.bring(1, 0, &first), None);
    world.pass(DAY);
    assert!(!world.holds(1, &first.id()));
    let second = world.trusts[0].sign(world.header(&ALL, DAY), fixtures::commit(&conversation, 1, 2));
    assert_eq!(world.bring(1, 0, &second).as_deref(), Some("duplicate-commit"));
}

#[test]
fn the_sender_and_the_owner_are_custodians() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[2]);
    for custodians in [[0, 1], [0, 2]] {
        let record = world.message(1, &conversation, 1, &custodians);
        refused(&mut world, &record, "custodians");
    }
}

#[test]
fn every_altered_byte_is_refused() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let message = world.message(1, &conversation, 1, &ALL);
    let before = rows(&world);
    let source = Source::Peer(world.trusts[1].node_id());
    for i in 0..message.bytes().len() {
        let mut altered = message.bytes().to_vec();
        altered[i] ^= 0x01;
        world.arrive(0, source.clone(), &[altered.clone()]);
        let refused = |e: &AuditEntry| e.event == "refused" && e.record == Some(RecordId::of(&altered));
        assert!(world.audit(0).iter().rev().take(3).any(refused), "byte {i}");
    }
    assert_eq!(rows(&world), before);
}

#[test]
fn a_key_without_the_right_is_refused() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let (key, device) = world.trusts[1].device(100);
    let entry = world.trusts[1].entry(world.network, &device, world.now);
    assert_eq!(world.bring(0, 1, &entry), None);
    let header = world.header(&ALL, DAY);
    let body = fixtures::application(&conversation, 1);
    let record = record::sign(header.clone(), body.clone(), device.fingerprint(), &key).unwrap();
    refused(&mut world, &record, "no-right");

    let stranger = Trust::new("RXZ", 90);
    let record = record::sign(header, body, stranger.node.fingerprint(), &stranger.node_key).unwrap();
    refused(&mut world, &record, "unknown-signer");
}

#[test]
fn who_is_no_custodian_stores_nothing_and_relays_gossip() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let message = world.message(1, &conversation, 1, &[0, 1]);
    let gossip = |id: &RecordId, from| Source::Gossip { from, message: id.as_bytes().to_vec() };
    let from = world.trusts[1].node_id();
    world.arrive(2, gossip(&message.id(), from), &[message.bytes().to_vec()]);
    let verdict = |world: &World| match world.nodes[2].outputs.last().unwrap() {
        Output::Verdict { verdict, .. } => *verdict,
        other => panic!("{other:?}"),
    };
    assert_eq!(verdict(&world), Verdict::Accept);
    assert!(!world.holds(2, &message.id()));
    assert_eq!(world.rows(2, Tree::Envelopes), 0);

    for n in 1..=2 {
        let mut altered = message.bytes().to_vec();
        altered[message.bytes().len() - 33 - n] ^= 1;
        world.arrive(2, gossip(&RecordId::of(&altered), from), &[altered]);
    }
    let outputs = &world.nodes[2].outputs;
    let rejects = |o: &Output| matches!(o, Output::Verdict { verdict: Verdict::Reject, .. });
    assert!(outputs.iter().any(rejects));
    assert!(
        outputs.iter().any(|o| matches!(o, Output::Disconnect { .. })),
        "a second forgery costs the connection"
    );
}

#[test]
fn penalties_add_up_and_are_forgiven_with_time() {
    let mut world = World::three();
    // Each without the conversation's owner among its custodians, which costs 10 points.
    let conversation = fixtures::conversation(&world.trusts[2]);
    let wrong = |world: &World, n| world.message(1, &conversation, n, &[0, 1]);
    let closed =
        |world: &World| world.nodes[0].outputs.iter().any(|o| matches!(o, Output::Disconnect { .. }));
    for n in 0..9 {
        let record = wrong(&world, n);
        world.bring(0, 1, &record);
    }
    assert!(!closed(&world), "nine times 10 points");
    for _ in 0..10 {
        world.pass(1);
    }
    let record = wrong(&world, 9);
    world.bring(0, 1, &record);
    assert!(!closed(&world), "ten of them are forgiven");
    let record = wrong(&world, 10);
    world.bring(0, 1, &record);
    assert!(closed(&world));
}
