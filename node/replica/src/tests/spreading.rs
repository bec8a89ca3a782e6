//! Direct delivery and gossip (promise P4): what is answered for is on disk, and what is not goes again.

use lanyard_crypto::RecordId;
use lanyard_crypto::record::Decoded;
use lanyard_storage::{Store, Tree};

use super::fixtures::{self, Trust};
use super::world::World;
use crate::frame::{Frame, Refused};
use crate::{Arrival, Input, Output, Source, arrival, query};

const ALL: [usize; 3] = [0, 1, 2];

fn message(world: &World, n: u64) -> Decoded {
    world.message(1, &fixtures::conversation(&world.trusts[0]), n, &ALL)
}

/// Of each other custodian, whether it has confirmed the record.
fn confirmed(world: &World, at: usize, id: &RecordId) -> Vec<bool> {
    let ticks = query::ticks(&world.nodes[at].store, id).unwrap().unwrap();
    ticks.custodians.iter().map(|t| t.confirmed.is_some()).collect()
}

#[test]
fn an_answer_is_an_output_of_the_step_that_stores() {
    let mut world = World::three();
    let record = message(&world, 1);
    let network = world.nodes[0].replica.network();
    let verified = lanyard_crypto::record::verify(record.clone(), &network).unwrap();
    let from = Source::Peer(world.trusts[1].node_id());
    let input = Input::Records { from, arrivals: vec![verified.into()] };
    let node = &mut world.nodes[0];
    let step = node.replica.step(input, world.now, &node.store).unwrap();
    let stores =
        |batch: &lanyard_storage::Batch| batch.change(Tree::Envelopes, record.id().as_bytes()).is_some();
    assert!(stores(&step.batch));
    let answers = |o: &Output| matches!(o, Output::Send { frame: Frame::Answers { stored, .. }, .. } if *stored == [record.id()]);
    assert!(step.outputs.iter().any(answers));
    // The driver's commit fails: no output is carried out, nothing was stored, and the record comes again.
    assert!(!world.holds(0, &record.id()));
    world.nodes[0].store.commit(step.batch).unwrap();
    assert!(world.holds(0, &record.id()));
}

#[test]
fn what_is_held_is_answered_for_without_a_look_at_its_signatures_and_what_has_gone_is_judged_anew() {
    let mut world = World::three();
    let [held, other] = [1, 2].map(|n| message(&world, n));
    assert_eq!(world.bring(0, 1, &held), None);
    let mut bytes = other.bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let forged = Decoded::from_bytes(&bytes).unwrap();
    let looked = [&held, &other, &forged].map(|record| Ok(record.clone()));
    // Of two it is said that they are held: of one because it is, of the other because it was a moment ago, or so it seems.
    let said = [held.id(), forged.id()];
    let network = world.nodes[0].replica.network();
    let arrivals = arrival::verify_new(looked.into(), &network, |id| said.contains(id));
    assert_eq!(arrivals.iter().filter(|arrival| matches!(arrival, Arrival::Held(_))).count(), 2);
    let from = Source::Peer(world.trusts[1].node_id());
    let node = &mut world.nodes[0];
    let step = node.replica.step(Input::Records { from, arrivals }, world.now, &node.store).unwrap();
    let answers = |o: &Output| {
        matches!(o, Output::Send { frame: Frame::Answers { stored, refused }, .. }
            if *stored == [held.id(), other.id()] && refused.len() == 1 && refused[0].id == forged.id())
    };
    assert!(step.outputs.iter().any(answers), "{:?}", step.outputs);
}

#[test]
fn the_outbox_empties_as_custodians_answer() {
    let mut world = World::three();
    world.gossips = false;
    world.part(1, 2);
    let record = message(&world, 1);
    world.submit(1, &record).unwrap();
    assert_eq!(world.rows(1, Tree::Outbox), 2);
    assert_eq!(confirmed(&world, 1, &record.id()), [false, false]);
    world.settle();
    assert_eq!(confirmed(&world, 1, &record.id()), [true, false]);
    assert_eq!(world.rows(1, Tree::Outbox), 1);
    world.connect(1, 2);
    world.settle();
    assert_eq!(confirmed(&world, 1, &record.id()), [true, true]);
    assert_eq!(world.rows(1, Tree::Outbox), 0);
    assert_eq!(world.holders(&record.id()), ALL);
}

#[test]
fn what_was_lost_on_the_way_goes_again() {
    let mut world = World::three();
    world.gossips = false;
    let record = message(&world, 1);
    world.submit(1, &record).unwrap();
    world.lose();
    assert_eq!(world.holders(&record.id()), [1]);
    world.drain(1, 0);
    world.drain(1, 2);
    // The records arrive; the answers are lost; they are answered for once more.
    let arrived = |world: &World| world.holders(&record.id()) == ALL;
    world.settle();
    assert!(arrived(&world));
    world.restart(1);
    world.connect_all();
    world.settle();
    assert_eq!(world.rows(1, Tree::Outbox), 0);
    assert_eq!(confirmed(&world, 1, &record.id()), [true, true]);
}

#[test]
fn a_second_delivery_is_confirmed_like_the_first() {
    let mut world = World::three();
    let record = message(&world, 1);
    for _ in 0..2 {
        assert_eq!(world.bring(0, 1, &record), None);
        let last = world.nodes[0].outputs.iter().rev().find_map(|o| match o {
            Output::Send { frame: Frame::Answers { stored, refused }, .. } => {
                Some((stored.clone(), refused.len()))
            }
            _ => None,
        });
        assert_eq!(last, Some((vec![record.id()], 0)));
    }
    assert_eq!(world.rows(0, Tree::Conversations), 1);
}

#[test]
fn a_refusal_for_good_ends_delivery_and_shows() {
    let mut world = World::three();
    world.gossips = false;
    let record = message(&world, 1);
    world.submit(1, &record).unwrap();
    world.lose();
    let refused = vec![Refused { id: record.id(), code: "retention".into() }];
    let from = world.trusts[0].node_id();
    world.step(1, Input::Frame { from, frame: Frame::Answers { stored: Vec::new(), refused } });
    let ticks = query::ticks(&world.nodes[1].store, &record.id()).unwrap().unwrap();
    assert_eq!(ticks.custodians[0].refused.as_deref(), Some("retention"));
    assert_eq!(world.rows(1, Tree::Outbox), 1, "RXC's is left");
    // An answer about what was never sent, or once more, changes nothing.
    let before = world.rows(1, Tree::Ticks);
    for id in [record.id(), RecordId::new([1; 32])] {
        let frame = Frame::Answers { stored: vec![id], refused: Vec::new() };
        world.step(1, Input::Frame { from, frame });
    }
    let ticks = query::ticks(&world.nodes[1].store, &record.id()).unwrap().unwrap();
    assert_eq!(ticks.custodians[0].confirmed, None);
    assert_eq!(world.rows(1, Tree::Ticks), before);
}

/// `docs/decisions/0003-batch-verification.md`.
#[test]
fn what_only_a_batch_takes_goes_when_a_peer_says_so() {
    let mut world = World::three();
    world.isolate(1);
    let network = world.nodes[0].replica.network();
    let companion = message(&world, 0);
    // Made by RXB's node with intent, and taken by RXA in a batch of two.
    let crooked = (1..50).find_map(|n| {
        let crooked = with_torsion(&world.trusts[1], &message(&world, n));
        let mut taken = lanyard_crypto::record::verify_all(vec![crooked, companion.clone()], &network);
        taken.swap_remove(0).ok()
    });
    let crooked = crooked.unwrap();
    let id = crooked.id();
    let from = Source::Peer(world.trusts[1].node_id());
    world.step(0, Input::Records { from, arrivals: vec![crooked.into()] });
    assert!(world.holds(0, &id));
    // RXC, to which it comes alone, refuses it and says why; RXA looks again.
    world.pass(31);
    assert_eq!(world.holders(&id), []);
    assert!(world.audit(2).iter().any(|e| e.code == "bad-signature" && e.event == "refused"));
    assert!(world.audit(0).iter().any(|e| e.code == "bad-signature" && e.event == "dropped"));
    let closed = |o: &Output| matches!(o, Output::Disconnect { .. });
    assert!(!world.nodes[2].outputs.iter().any(closed), "RXA is honest");
    // Who merely claims it has no effect.
    let good = message(&world, 99);
    world.bring(0, 1, &good);
    let refused = vec![Refused { id: good.id(), code: "bad-signature".into() }];
    let from = world.trusts[2].node_id();
    world.step(0, Input::Frame { from, frame: Frame::Answers { stored: Vec::new(), refused } });
    assert!(world.holds(0, &good.id()));
}

#[test]
fn gossip_reaches_whom_no_stream_reaches() {
    let mut world = World::three();
    world.part(1, 2);
    let record = message(&world, 1);
    world.submit(1, &record).unwrap();
    world.settle();
    assert_eq!(world.holders(&record.id()), ALL, "by way of RXA");
    // It is confirmed only when it was delivered: nobody answers for gossip.
    assert_eq!(confirmed(&world, 1, &record.id()), [true, false]);
    world.connect(1, 2);
    world.settle();
    assert_eq!(confirmed(&world, 1, &record.id()), [true, true]);
}

#[test]
fn a_message_goes_to_its_custodians_and_to_nobody_else() {
    let mut world = World::three();
    let record = world.message(1, &fixtures::conversation(&world.trusts[0]), 1, &[0, 1]);
    world.submit(1, &record).unwrap();
    let published = |world: &World| world.nodes[1].outputs.iter().any(|o| matches!(o, Output::Publish(_)));
    assert!(!published(&world), "RXA is connected");
    world.settle();
    world.pass(31);
    assert_eq!(world.holders(&record.id()), [0, 1]);
}

#[test]
fn a_full_step_leaves_the_rest_for_the_next() {
    let mut world = World::three();
    let records: Vec<_> = (0..50).map(|n| message(&world, n).bytes().to_vec()).collect();
    let source = Source::Peer(world.trusts[1].node_id());
    world.nodes[0].replica.bound_step(60);
    world.arrive(0, source.clone(), &records);
    let first = world.rows(0, Tree::Envelopes);
    assert!((1..50).contains(&first), "{first} of 50");
    let answered = world.nodes[0].outputs.iter().rev().find_map(|o| match o {
        Output::Send { frame: Frame::Answers { stored, .. }, .. } => Some(stored.len()),
        _ => None,
    });
    assert_eq!(answered, Some(first), "what was not taken is not answered for");
    world.nodes[0].replica.bound_step(crate::limits::STEP_CHANGES_MAX);
    world.arrive(0, source, &records);
    assert_eq!(world.rows(0, Tree::Envelopes), 50);
}

/// The same record of a trust's node, signed with a nonce point to which a point of order 2 was added.
fn with_torsion(trust: &Trust, record: &Decoded) -> Decoded {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use curve25519_dalek::scalar::{Scalar, clamp_integer};
    use serde_bytes::{ByteBuf, Bytes};
    use sha2::{Digest, Sha512};

    // COSE_Sign1 by hand (RFC 9052, section 4.4): tag and array; protected header, unprotected header, payload, signature.
    let bytes = record.bytes();
    let protected = &bytes[4..4 + usize::from(bytes[3])];
    let payload_at = 4 + protected.len() + 1;
    let payload: ByteBuf =
        lanyard_crypto::cbor::from_slice(&bytes[payload_at..bytes.len() - 66], bytes.len()).unwrap();
    let label = lanyard_crypto::labels::RECORD;
    let signed = ("Signature1", Bytes::new(protected), Bytes::new(label), Bytes::new(&payload));
    let message = lanyard_crypto::cbor::to_vec(&signed);

    let expanded: [u8; 64] = Sha512::digest(&trust.node_key.to_seed()[..]).into();
    let secret = Scalar::from_bytes_mod_order(clamp_integer(*expanded.first_chunk().unwrap()));
    let nonce = Scalar::from_bytes_mod_order_wide(&Sha512::digest(&message).into());
    let point = (ED25519_BASEPOINT_POINT * nonce + EIGHT_TORSION[4]).compress();
    let hash = Sha512::new().chain_update(point.as_bytes()).chain_update(trust.node_key.public());
    let challenge = Scalar::from_bytes_mod_order_wide(&hash.chain_update(&message).finalize().into());
    let answer = nonce + challenge * secret;
    let signature = [&point.as_bytes()[..], answer.as_bytes()].concat();
    Decoded::from_bytes(&[&bytes[..bytes.len() - 64], &signature].concat()).unwrap()
}
