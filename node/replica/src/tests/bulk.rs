//! Deleting what people have sent, and whole conversations.

use lanyard_crypto::gateway::SendRequest;
use lanyard_crypto::record::{Body, Class, Reason, Target};
use lanyard_crypto::{ConversationId, Fingerprint, RecordId};
use lanyard_storage::Tree;

use super::fixtures::{self, DAY};
use super::world::World;
use crate::{Deleter, Reply, Request};

const ALL: [usize; 3] = [0, 1, 2];

fn send(world: &mut World, at: usize, device: &Fingerprint, to: &ConversationId, n: u64) -> RecordId {
    let Body::Envelope(envelope) = fixtures::application(to, n) else { panic!("an envelope") };
    let custodians = ALL.iter().map(|i| world.trusts[*i].id.clone()).collect();
    let (class, expires) = (Class::Application, world.now.plus_secs(DAY));
    let (conversation, content) = (to.clone(), envelope.content);
    let request = SendRequest { conversation, epoch: 1, class, content, custodians, expires };
    let reply = world.ask(at, Request::Send { device: *device, request });
    world.settle();
    let Ok(Reply::Sent { id, .. }) = reply else { panic!("{reply:?}") };
    id
}

/// Asks until nothing is left; how many tombstones there were, and how many messages they named.
fn delete_sent(world: &mut World, devices: &[Fingerprint], all: bool) -> (usize, usize) {
    let (mut tombstones, mut named) = (0, 0);
    for _ in 0..100 {
        let (devices, reason, reference) = (devices.to_vec(), Reason::SubjectRequest, b"DSR 1".to_vec());
        let reply = world.ask(1, Request::DeleteSent { devices, all, reason, reference });
        world.settle();
        match reply {
            Ok(Reply::SomeDeleted { envelopes, .. }) => {
                tombstones += 1;
                named += envelopes;
            }
            Ok(Reply::Done) => return (tombstones, named),
            other => panic!("{other:?}"),
        }
    }
    panic!("it does not come to an end");
}

#[test]
fn what_a_persons_devices_sent_goes_everywhere_and_nothing_else() {
    let mut world = World::three();
    let own = ConversationId::new([1; 16], world.trusts[1].id.clone());
    let other = ConversationId::new([2; 16], world.trusts[1].id.clone());
    let foreign = fixtures::conversation(&world.trusts[0]);
    let [phone, tablet, colleague] = [1, 2, 3].map(|n| world.trusts[1].device(100 + n).1.fingerprint());
    for device in [&phone, &tablet, &colleague] {
        [&own, &other, &foreign].iter().for_each(|conversation| world.serve(1, conversation, device));
    }
    let theirs: Vec<_> = (0..3).map(|n| send(&mut world, 1, &phone, &own, n)).collect();
    let more = [send(&mut world, 1, &tablet, &own, 10), send(&mut world, 1, &tablet, &other, 11)];
    let abroad = send(&mut world, 1, &phone, &foreign, 12);
    let kept = send(&mut world, 1, &colleague, &own, 13);

    let devices = [phone, tablet];
    assert_eq!(delete_sent(&mut world, &devices, false), (2, 5), "one tombstone for each conversation");
    for id in theirs.iter().chain(&more) {
        assert_eq!(world.holders(id), []);
    }
    assert_eq!((world.holders(&abroad), world.holders(&kept)), (ALL.to_vec(), ALL.to_vec()));
    assert_eq!(delete_sent(&mut world, &devices, false), (0, 0), "nothing is left to do");
    assert_eq!(delete_sent(&mut world, &devices, true), (1, 1), "by the sender's trust, wherever it is");
    assert_eq!((world.holders(&abroad), world.holders(&kept)), (Vec::new(), ALL.to_vec()));
}

#[test]
fn what_a_full_step_leaves_is_not_named_twice() {
    let mut world = World::three();
    let own = ConversationId::new([1; 16], world.trusts[1].id.clone());
    let device = world.trusts[1].device(101).1.fingerprint();
    world.serve(1, &own, &device);
    for n in 0..40 {
        send(&mut world, 1, &device, &own, n);
    }
    world.nodes[1].replica.bound_step(100);
    assert_eq!(delete_sent(&mut world, &[device], false), (1, 40));
    for _ in 0..40 {
        world.pass(1);
    }
    assert_eq!(ALL.map(|at| world.rows(at, Tree::Envelopes)), [0; 3]);
}

#[test]
fn only_who_administers_a_conversation_deletes_all_of_it() {
    let mut world = World::three();
    let own = ConversationId::new([1; 16], world.trusts[1].id.clone());
    let device = world.trusts[1].device(101).1.fingerprint();
    world.serve(1, &own, &device);
    let id = send(&mut world, 1, &device, &own, 1);
    let (by, target) = (Deleter::Administrator(device), Target::UpTo(world.now));
    let (reason, reference, conversation) = (Reason::Transcribed, Vec::new(), own);
    // The hub knows nobody who administers it.
    let refused = world.ask(1, Request::Delete { by, conversation, target, reason, reference });
    assert_eq!(refused, Err("not-administrator".into()));
    assert_eq!(world.holders(&id), ALL);
}

#[test]
fn what_is_written_after_a_deletion_of_all_is_not_meant_by_it() {
    let mut world = World::three();
    let own = ConversationId::new([1; 16], world.trusts[1].id.clone());
    let device = world.trusts[1].device(101).1.fingerprint();
    world.serve(1, &own, &device);
    let before = send(&mut world, 1, &device, &own, 1);
    let (by, target) = (Deleter::Officer, Target::UpTo(world.now));
    let (reason, reference, conversation) = (Reason::Transcribed, Vec::new(), own.clone());
    world.ask(1, Request::Delete { by, conversation, target, reason, reference }).unwrap();
    world.settle();
    // In the same second, and where the clock of the sender's node is behind the owner's.
    let after = send(&mut world, 1, &device, &own, 2);
    world.now = world.now.minus_secs(200);
    let behind = send(&mut world, 1, &device, &own, 3);
    for (id, holders) in [(before, vec![]), (after, ALL.to_vec()), (behind, ALL.to_vec())] {
        assert_eq!(world.holders(&id), holders);
    }
}
