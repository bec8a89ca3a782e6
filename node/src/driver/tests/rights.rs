//! Records with signatures that hold, by keys that may not sign them; and tombstones by who may not delete (promise P2).

use lanyard_crypto::record::{self, Body, Erased, Reason, Receipt, ReceiptItem, Target, Tombstone};
use lanyard_crypto::x509::{Certificate, SecretKey};
use lanyard_crypto::{ConversationId, RecordId};
use lanyard_replica::fixtures::{self, key};

use super::nodes::{Node, Stranger, until};
use super::trusts::{self, World, for_all};

const ALL: [usize; 3] = [0, 1, 2];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_without_the_right_to_a_kind_are_refused() {
    let world = World::new();
    let node = Node::start(&world, 0).await;
    let stranger = Stranger::of(&world, 2).await;
    stranger.connect(&node).await;
    let (b, us) = (&world.trusts[1], world.conversation(0));
    let device_key = key(140);
    let device = b.device(&device_key);
    // The device and the node of RXB are known, each by its entry.
    for leaf in [&device, &b.node] {
        assert_eq!(node.submit(&b.entry(world.network, leaf, Vec::new())).await, Ok(()));
    }
    // So is a node whose time was over a minute ago, by an entry of the time when it was not.
    let former_key = key(143);
    let former = b.further_node(&former_key, -24 * 3600, -60);
    let entry = Body::Entry(trusts::entry_body([&former, &b.registrar], Vec::new()));
    let header = for_all(world.network, world.now.minus_secs(3600));
    let entry = record::sign(header, entry, b.registrar.fingerprint(), &b.registrar_key).unwrap();
    assert_eq!(node.submit(&entry).await, Ok(()));
    let (held, counts) = (node.held(), node.counts().await);

    let local = || world.header(&ALL);
    let global = || for_all(world.network, world.now);
    let by = |header, body, certificate: &Certificate, key: &SecretKey| {
        record::sign(header, body, certificate.fingerprint(), key).unwrap()
    };
    let by_node = |body| by(global(), body, &b.node, &b.node_key);
    let message = |n| fixtures::application(&us, n);
    let new_device = b.device(&key(141));
    let entry = |chain| Body::Entry(trusts::entry_body(chain, Vec::new()));
    let (ordered, erased) = (RecordId::new([1; 32]), world.now);
    let item = ReceiptItem::Erased(Erased { tombstone: ordered, erased, envelopes: 1, devices: 0 });
    let receipt = Body::Receipt(Receipt { items: vec![item] });
    let delete = || tombstone(&us, Target::UpTo(world.now));
    let other = &world.trusts[2];
    let cases = [
        (by(local(), message(1), &device, &device_key), "no-right", "a device key may not sign a envelope"),
        (by(local(), message(2), &b.registrar, &b.registrar_key), "no-right", "a registrar key"),
        (by(local(), message(3), &b.root, &b.root_key), "no-right", "a root key"),
        (by(local(), delete(), &device, &device_key), "no-right", "tombstone"),
        (by(local(), delete(), &b.registrar, &b.registrar_key), "no-right", "tombstone"),
        (by(local(), receipt, &device, &device_key), "no-right", "receipt"),
        (by_node(entry([&new_device, &b.registrar])), "no-right", "registrar"),
        // A node that certifies by itself.
        (by_node(entry([&new_device, &b.node])), "bad-chain", "(RXB)"),
        (by(global(), entry([&b.registrar, &b.root]), &b.root, &b.root_key), "no-right", "a registrar key"),
        (
            by(global(), entry([&new_device, &other.registrar]), &other.registrar, &other.registrar_key),
            "bad-chain",
            "RXB",
        ),
        (by_node(trusts::crl_body(&b.registrar, &b.registrar_key, &device)), "no-right", "issuer"),
        (by_node(forged_crl(b)), "bad-chain", "(RXB)"),
        (by(local(), message(6), &former, &former_key), "bad-chain", "expired at"),
        // Somebody else's key under a known certificate.
        (by(local(), message(4), &b.node, &other.node_key), "bad-signature", "does not verify"),
        (
            by(local(), message(5), &world.trusts[2].device(&key(142)), &key(142)),
            "unknown-signer",
            "not known here",
        ),
    ];
    stranger.send(&node, cases.iter().map(|(record, ..)| record.bytes().to_vec())).await;
    for (record, code, words) in &cases {
        let line = node.why(&record.id()).await;
        assert!(line.code == *code && line.detail.contains(words), "{code}, {words}: {line:?}");
        assert!(node.has_nothing_of(&record.id()));
    }
    assert_eq!((node.held(), node.counts().await), (held, counts));
    stranger.disconnected().await;

    // The registrar's own word, in its own name, is taken.
    let list = b.crl(world.network, &device);
    assert_eq!(node.submit(&list).await, Ok(()));
}

/// The registrar's list under the node's certificate.
fn forged_crl(trust: &trusts::Trust) -> Body {
    let Body::Crl(mut crl) = trusts::crl_body(&trust.registrar, &trust.registrar_key, &trust.node) else {
        panic!("a revocation list")
    };
    crl.issuer = trust.node.der().to_vec();
    Body::Crl(crl)
}

fn tombstone(conversation: &ConversationId, target: Target) -> Body {
    Body::Tombstone(Tombstone {
        conversation: conversation.clone(),
        target,
        reason: Reason::Incident,
        reference: b"case 7".to_vec(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_delete_deletes_nothing_in_any_order() {
    let world = World::new();
    let node = Node::start(&world, 0).await;
    let (sender, meddler) = (Stranger::of(&world, 1).await, Stranger::of(&world, 2).await);
    sender.connect(&node).await;
    meddler.connect(&node).await;
    let us = world.conversation(0);
    let message = |n| world.trusts[1].sign(world.header(&ALL), fixtures::application(&us, n));
    // Longer than what it names, by more than clocks may differ.
    let order = |trust: usize, target| {
        let mut header = world.header(&ALL);
        header.expires = header.expires.plus_secs(700);
        world.trusts[trust].sign(header, tombstone(&us, target))
    };
    let (first, second) = (message(1), message(2));
    sender.send(&node, [first.bytes().to_vec()]).await;
    until("held", async || node.held().contains(&first.id()).then_some(())).await;
    let counts = node.counts().await;

    // What is here.
    let after = order(2, Target::Envelopes(vec![first.id()]));
    // The whole conversation, which is ours.
    let mut header = world.header(&ALL);
    header.expires = header.expires.plus_secs(2 * trusts::RETENTION_SECS);
    let whole = world.trusts[2].sign(header, tombstone(&us, Target::UpTo(world.now)));
    meddler.send(&node, [after.bytes().to_vec(), whole.bytes().to_vec()]).await;
    for tombstone in [&after, &whole] {
        let line = node.why(&tombstone.id()).await;
        assert!(line.code == "may-not-delete" && line.detail.contains("trust RXC"), "{line:?}");
        assert!(node.has_nothing_of(&tombstone.id()));
    }
    assert_eq!(node.counts().await, counts);

    // What is still to come: it can be judged when the message is here.
    let before = order(2, Target::Envelopes(vec![second.id()]));
    meddler.send(&node, [before.bytes().to_vec()]).await;
    until("held", async || node.held().contains(&before.id()).then_some(())).await;
    sender.send(&node, [second.bytes().to_vec()]).await;
    let line = node.why(&before.id()).await;
    assert_eq!((line.code.as_str(), line.trust.as_deref()), ("may-not-delete", Some("RXC")));
    assert!(node.held().contains(&second.id()) && node.has_nothing_of(&before.id()));

    // Its sender's trust may.
    let rightful = order(1, Target::Envelopes(vec![first.id()]));
    sender.send(&node, [rightful.bytes().to_vec()]).await;
    until("erased", async || node.has_nothing_of(&first.id()).then_some(())).await;
    assert!(node.held().contains(&second.id()));
}
