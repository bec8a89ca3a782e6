//! Records from an admitted peer that are not what they should be: altered, malformed, out of bounds (promises P2 and P8).

use lanyard_crypto::record::{Body, Header};
use lanyard_crypto::{NetworkId, RecordId};
use lanyard_replica::fixtures;

use super::nodes::{Node, Stranger, until};
use super::trusts::{self, Payload, RETENTION_SECS, World};
use crate::address;
use crate::backend::AuditLine;

const ALL: [usize; 3] = [0, 1, 2];

/// The log says that the node has dropped the peer for what it sent, and both are apart.
async fn dropped_for_it(node: &Node, stranger: &Stranger) {
    let id = address::peer_id(&stranger.id);
    let dropped = |l: &AuditLine| {
        l.event == "peer-dropped" && l.code == "penalties" && l.peer_id.as_deref() == Some(&id)
    };
    node.told("dropped", dropped).await;
    stranger.disconnected().await;
    node.disconnected(&stranger.id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envelope_that_is_altered_in_any_byte_is_refused() {
    let world = World::new();
    let node = Node::start(&world, 0).await;
    let stranger = Stranger::of(&world, 1).await;
    stranger.connect(&node).await;
    let (held, counts) = (node.held(), node.counts().await);
    let envelope = world.trusts[1].sign(world.header(&ALL), fixtures::application(&world.conversation(0), 1));
    let length = envelope.bytes().len();
    let altered = (0..length).flat_map(|i| {
        let envelope = &envelope;
        [0x01, 0x80].map(|bit| {
            let mut bytes = envelope.bytes().to_vec();
            bytes[i] ^= bit;
            bytes
        })
    });
    let altered: Vec<_> = altered.collect();
    stranger.send(&node, altered.clone()).await;

    // The last two: another time of issue, at which the certificate was not valid, and another fingerprint.
    let codes = [
        "bad-signature",
        "malformed",
        "out-of-bounds",
        "unknown-version",
        "other-network",
        "bad-chain",
        "unknown-signer",
    ];
    let lines = until("all refused", async || {
        let lines: Vec<_> = node.audit().await.into_iter().filter(|l| l.event == "refused").collect();
        (lines.len() >= altered.len()).then_some(lines)
    });
    let lines = lines.await;
    assert_eq!(lines.len(), 2 * length);
    for bytes in &altered {
        let id = RecordId::of(bytes);
        let line =
            lines.iter().find(|l| l.record.as_deref() == Some(&id.to_string())).expect("each by its id");
        assert!(codes.contains(&line.code.as_str()), "{line:?}");
        assert!(node.has_nothing_of(&id));
    }
    dropped_for_it(&node, &stranger).await;
    assert_eq!((node.held(), node.counts().await), (held.clone(), counts));

    // As it was signed it is welcome, and nothing else was in its way.
    stranger.connect(&node).await;
    stranger.send(&node, [envelope.bytes().to_vec()]).await;
    until("held", async || node.held().contains(&envelope.id()).then_some(())).await;
    assert_eq!(node.held().len(), held.len() + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_altered_envelope_goes_no_further_by_gossip() {
    let world = World::new();
    let node = Node::start(&world, 0).await;
    let (stranger, other) = (Stranger::of(&world, 1).await, Stranger::of(&world, 2).await);
    stranger.connect(&node).await;
    other.connect(&node).await;
    let (held, counts) = (node.held(), node.counts().await);
    passed_on(&world, &stranger, &other, 1).await;

    let envelope = world.trusts[1].sign(world.header(&ALL), fixtures::application(&world.conversation(0), 2));
    // One could be an honest peer's; not two.
    let altered = [1, 2].map(|bit| {
        let mut bytes = envelope.bytes().to_vec();
        *bytes.last_mut().unwrap() ^= bit;
        bytes
    });
    let ids = altered.each_ref().map(|bytes| RecordId::of(bytes));
    for (bytes, id) in altered.iter().zip(&ids) {
        stranger.publish(bytes).await;
        assert_eq!(node.why(id).await.code, "bad-signature");
        assert!(node.has_nothing_of(id));
    }
    dropped_for_it(&node, &stranger).await;

    // What comes after them is passed on; they were not.
    stranger.connect(&node).await;
    passed_on(&world, &stranger, &other, 1000).await;
    assert!(!ids.iter().any(|id| other.has_heard(id)));
    assert_eq!((node.held(), node.counts().await), (held, counts));
}

/// Gossips messages that are not for the node between the two, numbered from `n` on, until one has been passed on: gossip may
/// lose some.
async fn passed_on(world: &World, from: &Stranger, to: &Stranger, n: u64) {
    let (mut sent, mut looks) = (Vec::new(), 0);
    let passed_on = until("passed on", async || {
        if looks % 20 == 0 {
            let body = fixtures::application(&world.conversation(1), n + looks);
            let record = world.trusts[1].sign(world.header(&[1, 2]), body);
            from.publish(record.bytes()).await;
            sent.push(record.id());
        }
        looks += 1;
        sent.iter().any(|id| to.has_heard(id)).then_some(())
    });
    passed_on.await;
}

/// Records that one peer sends together, each with the code of its refusal and words of the audit log.
async fn all_refused(world: &World, cases: Vec<(Vec<u8>, &str, &str)>) -> (Node, Stranger) {
    let node = Node::start(world, 0).await;
    let stranger = Stranger::of(world, 1).await;
    stranger.connect(&node).await;
    let (held, counts) = (node.held(), node.counts().await);
    stranger.send(&node, cases.iter().map(|(bytes, ..)| bytes.clone())).await;
    for (bytes, code, words) in &cases {
        let id = RecordId::of(bytes);
        let line = node.why(&id).await;
        assert!(line.code == *code && line.detail.contains(words), "{code}, {words}: {line:?}");
        assert_eq!(line.peer_id, Some(address::peer_id(&stranger.id)));
        assert!(node.has_nothing_of(&id), "{line:?}");
    }
    assert_eq!((node.held(), node.counts().await), (held, counts));
    (node, stranger)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envelopes_outside_the_charters_rules_are_refused() {
    let world = World::new();
    let (us, sender) = (world.conversation(0), &world.trusts[1]);
    let header = || world.header(&ALL);
    let now = world.now;
    let sign = |header: Header, n| sender.sign(header, fixtures::application(&us, n)).bytes().to_vec();
    let expired = Header { issued: now.minus_secs(7200), expires: now.minus_secs(1), ..header() };
    let future = Header { issued: now.plus_secs(3600), expires: now.plus_secs(7200), ..header() };
    let long = Header { expires: now.plus_secs(RETENTION_SECS + 1), ..header() };
    let foreign = Header { network: Some(NetworkId::new([66; 32])), ..header() };
    let by_owner = |body| sender.sign(world.header(&ALL), body).bytes().to_vec();
    let Body::Envelope(mut other_epoch) = fixtures::application(&us, 9) else { panic!("an envelope") };
    other_epoch.epoch = 2;
    all_refused(
        &world,
        vec![
            (sign(expired, 1), "expired", "past its expiry"),
            (sign(future, 2), "future", "seconds in the future"),
            (sign(long, 3), "retention", "the charter allows 2592000"),
            (sign(foreign, 4), "other-network", "another network"),
            (sign(world.header(&[1, 2]), 5), "custodians", "the conversation's owner, RXA"),
            (sign(world.header(&[0, 2]), 6), "custodians", "the sender's trust, RXB"),
            (by_owner(fixtures::commit(&us, 1, 1)), "not-owner", "only RXA"),
            (by_owner(fixtures::welcome(&us, 1, &[4])), "not-owner", "only RXA"),
            (by_owner(Body::Envelope(other_epoch)), "content-mismatch", "another epoch"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envelope_for_others_is_refused_when_it_comes_directly() {
    let world = World::new();
    let body = fixtures::application(&world.conversation(1), 1);
    let for_others = world.trusts[1].sign(world.header(&[1, 2]), body).bytes().to_vec();
    let (node, stranger) =
        all_refused(&world, vec![(for_others, "not-custodian", "not among the custodians")]).await;
    assert!(node.is_connected(&stranger.id), "once is no reason to part");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_too_large_too_deep_or_of_no_known_form_are_refused() {
    let world = World::new();
    let (us, sender) = (world.conversation(0), &world.trusts[1]);
    let payload = |body| Payload::new(world.header(&ALL), body);
    let sealed = |bytes: &[u8]| trusts::sealed(bytes, sender.node.fingerprint(), &sender.node_key);
    let body = || fixtures::application(&us, 1);
    // First that what is sealed here is what the node takes for a record.
    let good = payload(body()).sealed_by(sender);
    assert_eq!(sender.sign(world.header(&ALL), body()).bytes().to_vec(), good);

    let nested = |tag: &[u8], depth: usize| [tag, &vec![0x81; depth][..], &[0]].concat();
    let many: Vec<lanyard_crypto::TrustId> = (100..165).map(|n| format!("RX{n}").parse().unwrap()).collect();
    let Body::Envelope(mut huge) = fixtures::commit(&us, 1, 1) else { panic!("an envelope") };
    huge.content.resize(1024 * 1024, 7);
    let cases = vec![
        (
            payload(trusts::padded_message(&us, 2, 64 * 1024)).sealed_by(sender),
            "malformed",
            "65536 allowed here",
        ),
        (payload(Body::Envelope(huge)).sealed_by(sender), "malformed", "1048576 allowed here"),
        (sealed(&nested(&[], 50_000)), "malformed", "not the expected CBOR"),
        (nested(&[0xd2], 60_000), "malformed", "not the expected CBOR"),
        (sealed(b""), "malformed", "not the expected CBOR"),
        (Payload { version: 2, ..payload(body()) }.sealed_by(sender), "unknown-version", "version 2"),
        (Payload { custodians: many, ..payload(body()) }.sealed_by(sender), "out-of-bounds", "at most 64"),
        (
            Payload { expires: world.now, ..payload(body()) }.sealed_by(sender),
            "out-of-bounds",
            "must expire after",
        ),
        (
            Payload { custodians: Vec::new(), ..payload(body()) }.sealed_by(sender),
            "out-of-bounds",
            "name custodians",
        ),
        (
            Payload { network: None, ..payload(body()) }.sealed_by(sender),
            "out-of-bounds",
            "names its network",
        ),
    ];
    let (node, stranger) = all_refused(&world, cases).await;
    dropped_for_it(&node, &stranger).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_of_no_known_form_ends_the_connection() {
    let world = World::new();
    let node = Node::start(&world, 0).await;
    let held = node.held();
    let stranger = Stranger::of(&world, 1).await;
    let deep = vec![0x81; 100_000];
    let records =
        lanyard_crypto::cbor::to_vec(&lanyard_replica::frame::Frame::Records(vec![vec![0].into(); 1025]));
    for (nth, frame) in [deep, records, b"junk".to_vec()].into_iter().enumerate() {
        stranger.connect(&node).await;
        stranger.handle.send(&node.id, frame).await.unwrap();
        until("refused", async || {
            let lines = node.audit().await;
            (lines.iter().filter(|l| l.code == "malformed-frame").count() == nth + 1).then_some(())
        })
        .await;
        stranger.disconnected().await;
        node.disconnected(&stranger.id).await;
    }
    assert_eq!(node.held(), held);
}
