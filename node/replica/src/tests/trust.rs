//! Charters, revocation lists and directory entries: what decides about the rest (promises P2 and P3).

use lanyard_crypto::network::IdentityError;
use lanyard_crypto::record::{Body, Decoded};
use lanyard_crypto::x509::{ChainError, Purpose};
use lanyard_storage::{Store, Tree};

use super::fixtures::{self, DAY, Trust};
use super::world::{Node, World};
use crate::{OpenError, Output, Replica, found, query};

const ALL: [usize; 3] = [0, 1, 2];

fn next(world: &World, before: &Decoded, members: &[usize]) -> Decoded {
    fixtures::next_charter(before, &members.iter().map(|i| &world.trusts[*i]).collect::<Vec<_>>())
}

fn version(world: &World, at: usize) -> u64 {
    world.nodes[at].replica.network().charter().version
}

fn told(world: &World, at: usize) -> bool {
    world.nodes[at].outputs.iter().any(|o| matches!(o, Output::TrustChanged))
}

#[test]
fn a_new_charter_is_in_force_everywhere_and_after_a_restart() {
    let mut world = World::three();
    let second = next(&world, &world.charter, &ALL);
    world.submit(0, &second).unwrap();
    world.settle();
    for at in ALL {
        assert_eq!(version(&world, at), 2);
        assert!(told(&world, at));
        world.restart(at);
        assert_eq!(version(&world, at), 2);
        let charter = |version| query::trust(&world.nodes[at].store, version).unwrap().charter;
        assert_eq!(charter(None), second.bytes().to_vec());
        assert_eq!(charter(Some(1)), world.charter.bytes().to_vec(), "for who has missed it");
        assert_eq!(charter(Some(3)), second.bytes().to_vec());
    }
}

#[test]
fn a_charter_that_does_not_follow_is_refused() {
    let mut world = World::three();
    let second = next(&world, &world.charter, &ALL);
    let third = next(&world, &second, &ALL);
    let fork = next(&world, &world.charter, &[0, 1]);
    assert_eq!(world.bring(0, 1, &third).as_deref(), Some("charter-gap"));
    assert_eq!(world.bring(0, 1, &second), None);
    assert_eq!(world.bring(0, 1, &fork).as_deref(), Some("charter-fork"));
    assert_eq!(world.bring(0, 1, &third), None);
    assert_eq!(world.bring(0, 1, &fork).as_deref(), Some("charter-rollback"));
    assert_eq!(world.bring(0, 1, &second), None, "held already");
    assert_eq!(version(&world, 0), 3);
    assert!(!world.holds(0, &fork.id()));
    let stranger = Trust::new("RXZ", 90);
    let foreign = fixtures::sign_charter(fixtures::charter(&[&stranger]), None);
    assert_eq!(world.bring(0, 1, &foreign).as_deref(), Some("other-network"));
    let Body::Charter(mut alone) = next(&world, &third, &ALL).body().clone() else { panic!("no charter") };
    alone.name = "Ours".into();
    let keys = fixtures::authorities();
    let header = fixtures::for_all(world.network, world.now, DAY);
    let alone = lanyard_crypto::record::sign_charter(header, alone, &[&keys[2]], None).unwrap();
    assert_eq!(world.bring(0, 1, &alone).as_deref(), Some("charter-threshold"));
    assert_eq!(version(&world, 0), 3);
}

#[test]
fn signatures_that_come_or_go_do_not_make_another_charter() {
    let mut world = World::three();
    let Body::Charter(second) = next(&world, &world.charter, &ALL).body().clone() else {
        panic!("no charter")
    };
    let keys = fixtures::authorities();
    let header = fixtures::for_all(world.network, world.now, 100 * DAY);
    let signed_by = |keys: &[&_]| {
        lanyard_crypto::record::sign_charter(header.clone(), second.clone(), keys, None).unwrap()
    };
    let all = signed_by(&[&keys[0], &keys[1], &keys[2]]);
    let two = signed_by(&[&keys[1], &keys[2]]);
    assert_ne!(all.id(), two.id());
    // RXA and RXB have heard of it in two forms; both take the third version, whichever it was made from.
    assert_eq!(world.bring(0, 1, &all), None);
    assert_eq!(world.bring(0, 1, &two), None);
    assert_eq!(world.bring(1, 0, &two), None);
    let third = next(&world, &all, &ALL);
    for at in [0, 1] {
        assert_eq!(world.bring(at, 2, &third), None);
        assert_eq!(version(&world, at), 3);
        let Body::Charter(charter) = third.body() else { panic!("no charter") };
        assert_eq!(charter.previous, Some(two.statement()));
    }
}

#[test]
fn a_node_that_began_with_a_later_charter_takes_no_harm_from_the_first() {
    let mut world = World::three();
    let second = next(&world, &world.charter, &ALL);
    world.submit(0, &second).unwrap();
    world.settle();
    world.isolate(2);
    world.nodes[2] = Node::new(&world.trusts[2], &second);
    assert_eq!(world.bring(2, 0, &world.charter.clone()).as_deref(), Some("charter-rollback"));
    world.connect(0, 2);
    world.settle();
    assert_eq!(version(&world, 2), 2);
    assert!(world.nodes[2].outputs.iter().all(|o| !matches!(o, Output::Disconnect { .. })));
}

#[test]
fn a_trust_that_is_dropped_loses_its_voice_and_its_connections() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let message = world.message(2, &conversation, 1, &ALL);
    let second = next(&world, &world.charter, &[0, 1]);
    world.submit(0, &second).unwrap();
    assert!(told(&world, 0));
    let closed =
        |o: &Output| matches!(o, Output::Disconnect { node, .. } if *node == world.trusts[2].node_id());
    assert!(world.nodes[0].outputs.iter().any(closed));
    assert_eq!(world.bring(0, 1, &message).as_deref(), Some("unknown-signer"));
    assert_eq!(world.rows(0, Tree::Envelopes), 0);

    // Admitted again, it is known again, without a restart.
    let third = next(&world, &second, &ALL);
    world.submit(0, &third).unwrap();
    assert_eq!(world.bring(0, 1, &message), None);
}

#[test]
fn what_was_verified_before_a_revocation_is_not_admitted_after_it() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let message = world.message(2, &conversation, 1, &ALL);
    // The driver verifies while the engine takes the list.
    let early = lanyard_crypto::record::verify(message.clone(), &world.nodes[0].replica.network()).unwrap();
    let list = world.trusts[2].crl(world.network, 1, &[&world.trusts[2].node], world.now);
    assert_eq!(world.bring(0, 2, &list), None);
    let from = crate::Source::Peer(world.trusts[1].node_id());
    let arrivals = vec![early.into()];
    world.step(0, crate::Input::Records { from, arrivals });
    assert_eq!(world.audit(0).pop().unwrap().code, "bad-chain");
    assert!(!world.holds(0, &message.id()));
}

#[test]
fn a_revoked_node_is_not_believed_whatever_it_dates() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let before = world.message(2, &conversation, 1, &ALL);
    assert_eq!(world.bring(0, 2, &before), None);
    world.now = world.now.plus_secs(60);
    let list = world.trusts[2].crl(world.network, 1, &[&world.trusts[2].node], world.now);
    world.submit(2, &list).unwrap();
    world.settle();
    assert!(told(&world, 0));
    let trusts: Vec<_> = world.trusts.iter().collect();
    let dated = fixtures::header(world.network, &trusts, fixtures::NOW, DAY);
    let dated = world.trusts[2].sign(dated, fixtures::application(&conversation, 2));
    assert_eq!(world.bring(0, 1, &dated).as_deref(), Some("bad-chain"));
    assert!(world.holds(0, &before.id()), "what was accepted before stays");
    world.restart(0);
    assert_eq!(world.bring(0, 1, &dated).as_deref(), Some("bad-chain"));
}

#[test]
fn what_was_revoked_stays_so_while_its_trust_was_away() {
    let mut world = World::three();
    let list = world.trusts[2].crl(world.network, 1, &[&world.trusts[2].node], world.now);
    world.submit(0, &list).unwrap();
    let without = next(&world, &world.charter, &[0, 1]);
    world.submit(0, &without).unwrap();
    // Under this charter the list is nobody's.
    world.restart(0);
    let again = next(&world, &without, &ALL);
    world.submit(0, &again).unwrap();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let record = world.message(2, &conversation, 1, &ALL);
    assert_eq!(world.bring(0, 1, &record).as_deref(), Some("bad-chain"));
}

#[test]
fn the_higher_list_wins_and_stays_in_force_beyond_its_record() {
    let mut world = World::three();
    let node = world.trusts[2].node.clone();
    let first = world.trusts[2].crl(world.network, 1, &[], world.now);
    let second = world.trusts[2].crl(world.network, 2, &[&node], world.now);
    assert_eq!(world.bring(0, 2, &second), None);
    assert_eq!(world.bring(0, 2, &first).as_deref(), Some("superseded"));
    assert_eq!(world.bring(1, 2, &first), None);
    assert_eq!(world.bring(1, 2, &second), None);
    assert_eq!(world.ids(0, Tree::Records), world.ids(1, Tree::Records), "the older one is gone");

    world.now = second.header().expires;
    world.pass(1);
    assert!(world.holds(0, &second.id()));
    world.restart(0);
    let (network, chain) = (world.nodes[0].replica.network(), world.trusts[2].chain(&node));
    let told = network.verify_chain(&chain, Purpose::Node, world.now);
    assert!(
        matches!(told, Err(IdentityError::Chain(ChainError::Revoked { .. }))),
        "revoked stays revoked: {told:?}"
    );
}

#[test]
fn of_two_lists_with_one_number_all_keep_the_same() {
    let mut world = World::three();
    let one = world.trusts[2].crl(world.network, 1, &[], world.now);
    let other = world.trusts[2].crl(world.network, 1, &[], world.now.plus_secs(1));
    for (at, records) in [[&one, &other], [&other, &one]].into_iter().enumerate() {
        records.into_iter().for_each(|r| drop(world.bring(at, 2, r)));
    }
    let kept = one.id().max(other.id());
    assert!(world.holds(0, &kept) && world.holds(1, &kept));
    assert_eq!(world.ids(0, Tree::Records), world.ids(1, Tree::Records));
}

#[test]
fn the_later_entry_replaces_the_earlier_one() {
    let mut world = World::three();
    let (_, device) = world.trusts[1].device(100);
    let entries = [0, 1, 1].map(|n| world.trusts[1].entry(world.network, &device, world.now.plus_secs(n)));
    let [first, second, same] = &entries;
    assert_eq!(second.id(), same.id(), "Ed25519 is deterministic");
    assert_eq!(world.bring(0, 1, second), None);
    assert_eq!(world.bring(0, 1, first).as_deref(), Some("superseded"));
    assert_eq!(world.bring(2, 1, first), None);
    assert_eq!(world.bring(2, 1, second), None);
    for at in [0, 2] {
        assert!(world.holds(at, &second.id()) && !world.holds(at, &first.id()));
        let found = query::directory(
            &world.nodes[at].store,
            &world.nodes[at].replica.network(),
            "clinician 100",
            world.now,
        )
        .unwrap();
        assert_eq!(found.entries.len(), 1);
        assert_eq!(device.purpose(), Purpose::Device);
    }
}

#[test]
fn an_entry_of_another_trusts_person_is_refused() {
    let mut world = World::three();
    let (_, device) = world.trusts[1].device(100);
    let forged = world.trusts[2].entry(world.network, &device, world.now);
    assert_eq!(world.bring(0, 2, &forged).as_deref(), Some("bad-chain"));
    assert!(!world.holds(0, &forged.id()));
}

#[test]
fn an_expired_charter_admits_nobody_and_is_still_shown() {
    let mut world = World::three();
    world.now = world.charter.header().expires;
    world.pass(1);
    assert!(world.holds(0, &world.charter.id()));
    let message = world.message(1, &fixtures::conversation(&world.trusts[0]), 1, &ALL);
    assert_eq!(world.bring(0, 1, &message).as_deref(), Some("charter-expired"));
}

#[test]
fn a_store_belongs_to_one_network() {
    let world = World::three();
    let stranger = Trust::new("RXZ", 90);
    let foreign = fixtures::sign_charter(fixtures::charter(&[&stranger]), None);
    let opened = Replica::open(&world.nodes[0].store, world.trusts[0].own(), &foreign);
    assert!(matches!(opened, Err(OpenError::OtherNetwork(..))));
    let nothing = found(&world.nodes[0].store, &foreign).unwrap();
    assert!(nothing.is_empty(), "a store that has a charter keeps it");
    let mut broken = lanyard_storage::Batch::new();
    broken.delete(Tree::Records, *world.charter.id().as_bytes());
    world.nodes[0].store.commit(broken).unwrap();
    let opened = Replica::open(&world.nodes[0].store, world.trusts[0].own(), &world.charter);
    assert!(matches!(opened, Err(OpenError::Missing)));
}
