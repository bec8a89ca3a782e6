//! Devices that were revoked, or have ended, leave conversations by the hub's proposal and whoever commits next.

use lanyard_storage::View;
use mls_rs::extension::built_in::ExternalSendersExt;

use super::*;

/// Ada founds a conversation with the others, in which the hub's node may propose.
fn found_with_hub<A: MlsConfig>(
    world: &World,
    ada: &mut Member<A>,
    others: &[MlsMessage],
) -> (ConversationId, Submission) {
    let own = world.trusts[0].own();
    let node = SigningIdentity::new(credential(&own.chain), own.key.public().to_vec().into());
    let policy = Policy::new(mls::Class::Clinical, [ada.person]).unwrap();
    let senders = ExternalSendersExt::new(vec![node]).into_extension().unwrap();
    found_listing(world, ada, others, vec![policy.to_extension(), senders])
}

/// How many proposals the hub has noted in its audit log.
fn proposed(world: &World) -> usize {
    world.audit(0).iter().filter(|entry| entry.event == "removal-proposed").count()
}

fn leaves<C: MlsConfig>(member: &mut Member<C>) -> usize {
    member.group().roster().members_iter().count()
}

#[test]
fn a_revoked_device_leaves_with_the_next_commit_of_anybody() {
    let mut world = World::three();
    let law = rules(&world);
    let mut ada = member(&mut world, 0, law.clone());
    let mut ben = member(&mut world, 1, law.clone());
    let mut cem = member(&mut world, 2, law);
    let packages: Vec<_> = [ben.device, cem.device].iter().map(|d| package(&world, d)).collect();
    let (conversation, submission) = found_with_hub(&world, &mut ada, &packages);
    ada.hand_in(&mut world, &conversation, 0, &submission).unwrap();
    world.settle();
    let mut seen = [ada.read(&world, 0).1, ben.read(&world, 0).1];
    cem.read(&world, 0);
    // Everything is looked through, and nobody has left.
    world.pass(1);
    world.pass(1);
    assert_eq!(proposed(&world), 0);

    let (_, certificate) = world.trusts[2].device(102);
    assert_eq!(certificate.fingerprint(), cem.device);
    let list = world.trusts[2].crl(world.network, 1, &[&certificate], world.now);
    world.submit(2, &list).unwrap();
    world.settle();
    world.pass(1);
    world.settle();
    assert_eq!(proposed(&world), 1, "in the first tick after the list has come");
    world.pass(1);
    assert_eq!(proposed(&world), 1, "once in an epoch");

    // Ada has not heard of it, and her commit comes first: then it is proposed again.
    let other = ada.commit(&[], &[]);
    ada.hand_in(&mut world, &conversation, 1, &other).unwrap();
    world.settle();
    world.pass(1);
    world.settle();
    assert_eq!(proposed(&world), 2);
    world.restart(0);
    world.connect_all();
    world.settle();

    // Ben, who administers nothing, is the next one online.
    seen = [ada.read(&world, seen[0]).1, ben.read(&world, seen[1]).1];
    assert!(
        ben.group().encrypt_application_message(b"not yet", Vec::new()).is_err(),
        "MLS waits for the commit"
    );
    let carried_out = ben.commit(&[], &[]);
    let accepted = ben.hand_in(&mut world, &conversation, 2, &carried_out).unwrap();
    world.settle();
    let ticks = query::ticks(&world.nodes[1].store, &accepted).unwrap().unwrap();
    assert!(ticks.custodians[0].confirmed.is_some(), "{ticks:?}");
    ada.read(&world, seen[0]);
    ben.read(&world, seen[1]);
    assert_eq!((leaves(&mut ada), leaves(&mut ben)), (2, 2));
    for _ in 0..3 {
        world.pass(1);
    }
    assert_eq!(proposed(&world), 2, "nobody is left who has left");
    let noted = world.nodes[0].store.get(Tree::Meta, &keys::leavers(&conversation)).unwrap();
    assert_eq!(noted, None);
    // What was noted of the proposals goes with their records, which expire in portions.
    world.pass(RETENTION + DAY);
    for _ in 0..5 {
        world.pass(1);
    }
    let held = world
        .nodes
        .iter()
        .map(|node| node.store.scan_prefix(Tree::Meta, &keys::proposals(&conversation), 10).unwrap().len());
    assert_eq!(held.sum::<usize>(), 0);
}

#[test]
fn a_device_whose_certificate_has_ended_leaves_within_the_hour() {
    let mut world = World::three();
    let law = rules(&world);
    let mut ada = member(&mut world, 0, law.clone());
    let mut ben = member_for(&mut world, 1, 101, 1, law.clone());
    let mut cem = member(&mut world, 2, law);
    let packages: Vec<_> = [ben.device, cem.device].iter().map(|d| package(&world, d)).collect();
    let (conversation, submission) = found_with_hub(&world, &mut ada, &packages);
    ada.hand_in(&mut world, &conversation, 0, &submission).unwrap();
    world.settle();
    let mut seen = ada.read(&world, 0).1;
    ben.read(&world, 0);
    cem.read(&world, 0);
    world.pass(1);
    world.pass(1);
    // Clocks differ: it has ended by more than that.
    world.pass(DAY - 2);
    world.pass(1);
    assert_eq!(proposed(&world), 0);
    world.pass(3600);
    world.settle();
    assert_eq!(proposed(&world), 1);
    seen = ada.read(&world, seen).1;
    let carried_out = ada.commit(&[], &[]);
    ada.hand_in(&mut world, &conversation, 1, &carried_out).unwrap();
    world.settle();
    ada.read(&world, seen);
    assert_eq!(leaves(&mut ada), 2);
}

#[test]
fn a_conversation_that_does_not_list_the_node_is_told_to_the_operator_once() {
    let mut world = World::three();
    let law = rules(&world);
    let mut ada = member(&mut world, 0, law.clone());
    let ben = member_for(&mut world, 1, 101, 1, law);
    let (conversation, submission) = found(&world, &mut ada, &[package(&world, &ben.device)]);
    ada.hand_in(&mut world, &conversation, 0, &submission).unwrap();
    world.settle();
    world.pass(2 * DAY);
    for _ in 0..4 {
        world.pass(3600);
    }
    let told: Vec<_> = world.audit(0).into_iter().filter(|e| e.event == "removal-not-proposed").collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].code, "not-listed");
}
