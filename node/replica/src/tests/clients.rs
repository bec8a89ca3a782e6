//! What a trust's own devices ask of their node.

use std::collections::BTreeSet;

use lanyard_crypto::gateway::SendRequest;
use lanyard_crypto::limits::RETENTION_SECS_MAX;
use lanyard_crypto::record::{Class, Reason};
use lanyard_crypto::{ConversationId, Fingerprint, RecordId};
use lanyard_storage::{Batch, Store, Tree};

use super::fixtures::{self, DAY, RETENTION, named};
use super::world::{World, place};
use crate::{Deleter, Output, Reply, Request, destruction};

const ALL: [usize; 3] = [0, 1, 2];

struct Scene {
    world: World,
    conversation: ConversationId,
    /// A device at each trust, which is served the conversation.
    devices: Vec<Fingerprint>,
}

fn scene() -> Scene {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let devices: Vec<_> =
        ALL.iter().map(|i| world.trusts[*i].device(100 + *i as u8).1.fingerprint()).collect();
    for at in ALL {
        world.serve(at, &conversation, &devices[at]);
    }
    Scene { world, conversation, devices }
}

impl Scene {
    fn request(&self, n: u64) -> SendRequest {
        SendRequest {
            conversation: self.conversation.clone(),
            epoch: 1,
            class: Class::Application,
            content: fixtures::private_message(&self.conversation, 1, n),
            custodians: self.world.trusts.iter().map(|t| t.id.clone()).collect(),
            expires: self.world.now.plus_secs(DAY),
        }
    }

    fn send(&mut self, at: usize, request: SendRequest) -> Result<RecordId, String> {
        let device = self.devices[at];
        match self.world.ask(at, Request::Send { device, request })? {
            Reply::Sent { id, issued } => {
                assert_eq!(issued, self.world.now);
                Ok(id)
            }
            other => panic!("{other:?}"),
        }
    }

    fn delete(&mut self, at: usize, device: Fingerprint, ids: &[RecordId]) -> Result<Reply, String> {
        let conversation = self.conversation.clone();
        let (target, reason) = (lanyard_crypto::record::Target::Envelopes(ids.to_vec()), Reason::SentInError);
        let by = Deleter::Device(device);
        self.world.ask(at, Request::Delete { by, conversation, target, reason, reference: Vec::new() })
    }
}

#[test]
fn a_message_reaches_every_members_inbox_once() {
    let mut s = scene();
    let id = s.send(1, s.request(1)).unwrap();
    s.world.settle();
    s.world.pass(31);
    for at in ALL {
        assert_eq!(s.world.inbox(at, &s.devices[at], 0), [(place(1), Some(id))]);
        let notified = |o: &Output| matches!(o, Output::Notify { device, seq } if *seq == place(1) && *device == s.devices[at]);
        assert_eq!(s.world.nodes[at].outputs.iter().filter(|o| notified(o)).count(), 1);
    }
}

#[test]
fn a_message_that_is_handed_in_again_is_the_same_message() {
    let mut s = scene();
    let (device, request, before) = (s.devices[1], s.request(1), s.world.now);
    let id = s.send(1, request.clone()).unwrap();
    s.world.settle();
    s.world.restart(1);
    s.world.pass(31);
    // The answer was lost, and the device cannot know.
    let again = s.world.ask(1, Request::Send { device, request: request.clone() });
    let Ok(Reply::Sent { id: same, issued }) = again else { panic!("{again:?}") };
    assert_eq!((same, issued), (id, before));
    s.world.settle();
    for at in ALL {
        assert_eq!(s.world.ids(at, Tree::Envelopes), [id].into());
        assert_eq!(s.world.inbox(at, &s.devices[at], 0), [(place(1), Some(id))]);
    }

    // Nobody else can learn from the answer that it was handed in, and of what was deleted nothing is left.
    let colleague = s.world.trusts[1].device(150).1.fingerprint();
    s.world.serve(1, &s.conversation.clone(), &colleague);
    let other = s.world.ask(1, Request::Send { device: colleague, request });
    assert!(matches!(other, Ok(Reply::Sent { id: other, .. }) if other != id));
    s.delete(1, device, &[id]).unwrap();
    assert_eq!(s.world.rows(1, Tree::Submitted), 2, "the colleague's alone");
}

#[test]
fn what_was_seen_leaves_the_inbox() {
    let mut s = scene();
    let ids: Vec<_> = (0..3).map(|n| s.send(0, s.request(n)).unwrap()).collect();
    let device = s.devices[0];
    assert_eq!(s.world.inbox(0, &device, place(1)), [(place(2), Some(ids[1])), (place(3), Some(ids[2]))]);
    s.world.ask(0, Request::Seen { device, seq: place(2) }).unwrap();
    assert_eq!(s.world.inbox(0, &device, 0), [(place(3), Some(ids[2]))]);
    let next = s.send(0, s.request(9)).unwrap();
    assert_eq!(
        s.world.inbox(0, &device, place(3)),
        [(place(4), Some(next))],
        "positions are never used again"
    );
    s.world.ask(0, Request::Leave { device, conversation: s.conversation.clone() }).unwrap();
    assert_eq!(s.send(0, s.request(10)), Err("not-member".into()));
}

#[test]
fn a_deleted_message_leaves_every_inbox_and_its_tombstone_comes() {
    let mut s = scene();
    let id = s.send(1, s.request(1)).unwrap();
    s.world.settle();
    let device = s.devices[1];
    let Ok(Reply::Deleted(tombstone)) = s.delete(1, device, &[id]) else { panic!("not deleted") };
    s.world.settle();
    for at in ALL {
        assert_eq!(s.world.inbox(at, &s.devices[at], 0), [(place(1), None), (place(2), Some(tombstone))]);
    }
}

#[test]
fn a_device_that_left_is_served_deletions_alone_until_nothing_of_it_can_be_left() {
    let mut s = scene();
    let id = s.send(1, s.request(1)).unwrap();
    s.world.settle();
    let (device, left) = (s.devices[1], s.devices[2]);
    let stranger = s.world.trusts[2].device(150).1.fingerprint();
    for device in [left, stranger] {
        s.world.ask(2, Request::Leave { device, conversation: s.conversation.clone() }).unwrap();
    }
    let kept = s.world.rows(2, Tree::Members);
    s.send(1, s.request(2)).unwrap();
    let Ok(Reply::Deleted(tombstone)) = s.delete(1, device, &[id]) else { panic!("not deleted") };
    s.world.settle();
    assert_eq!(s.world.inbox(2, &left, 0), [(place(1), None), (place(2), Some(tombstone))]);
    assert_eq!(s.world.inbox(2, &stranger, 0), [], "who never read it");

    s.world.pass(RETENTION_SECS_MAX - 1);
    assert_eq!(s.world.rows(2, Tree::Members), kept);
    s.world.pass(2);
    assert_eq!(s.world.rows(2, Tree::Members), kept - 2);
}

#[test]
fn a_device_deletes_what_it_sent_and_nothing_else() {
    let mut s = scene();
    let (own, other) = (s.send(1, s.request(1)).unwrap(), s.send(0, s.request(2)).unwrap());
    s.world.settle();
    let (device, colleague) = (s.devices[1], s.world.trusts[1].device(150).1.fingerprint());
    s.world.serve(1, &s.conversation.clone(), &colleague);
    for (by, id) in [(colleague, own), (device, other)] {
        assert_eq!(s.delete(1, by, &[id]), Err("not-sender".into()));
    }
    assert_eq!(s.delete(1, device, &[RecordId::new([1; 32])]), Err("not-found".into()));
    assert_eq!(s.world.holders(&own), ALL);

    let more: Vec<_> = (3..6).map(|n| s.send(1, s.request(n)).unwrap()).collect();
    let mut ids = [vec![own, own], more].concat();
    ids.sort();
    ids.reverse();
    s.delete(1, device, &ids).unwrap();
    s.world.settle();
    assert_eq!(s.world.ids(2, Tree::Envelopes), [other].into(), "in any order, and one of them twice");
}

#[test]
fn what_may_not_be_sent_is_refused_and_leaves_nothing() {
    let mut s = scene();
    let stranger = s.world.trusts[0].device(160).1.fingerprint();
    let request = s.request(1);
    let asked = s.world.ask(0, Request::Send { device: stranger, request });
    assert_eq!(asked, Err("not-member".into()));
    let long = SendRequest { expires: s.world.now.plus_secs(RETENTION + 1), ..s.request(1) };
    let over = SendRequest { expires: s.world.now, ..s.request(1) };
    let commit = SendRequest { class: Class::Commit, ..s.request(1) };
    let plain = SendRequest { content: b"hello".to_vec(), ..s.request(1) };
    let strange = SendRequest { custodians: vec!["RXZ".parse().unwrap()], ..s.request(1) };
    let large =
        SendRequest { content: fixtures::padded_message(&s.conversation, 1, 1, 64 * 1024), ..s.request(1) };
    for (request, code) in [
        (long, "retention"),
        (over, "out-of-bounds"),
        (commit, "not-owner"),
        (plain, "content-mismatch"),
        (strange, "custodians"),
        (large, "malformed"),
    ] {
        assert_eq!(s.send(0, request), Err(code.into()));
        assert!(s.world.audit(0).iter().any(|e| e.event == "request-refused" && e.code == code));
    }
    for tree in [Tree::Envelopes, Tree::Holdings, Tree::Submitted, Tree::Inbox] {
        assert!(s.world.rows(0, tree) <= 4, "{tree:?}: the charter and three entries");
    }
    assert_eq!(s.world.rows(0, Tree::Envelopes), 0);
}

#[test]
fn a_welcome_brings_what_came_before_it() {
    let mut s = scene();
    let (newcomer, reference) = (s.world.trusts[2].device(170).1.fingerprint(), [5; 32]);
    let mut package = Batch::new();
    package.put(Tree::Packages, reference, *newcomer.as_bytes());
    s.world.nodes[2].store.commit(package).unwrap();

    let header = s.world.header(&ALL, DAY);
    let owner = &s.world.trusts[0];
    let commit = owner.sign(header.clone(), fixtures::commit(&s.conversation, 1, 1));
    let welcome = owner.sign(header.clone(), fixtures::welcome(&s.conversation, 2, &reference));
    let old = s.world.message(1, &s.conversation, 1, &ALL);
    let new = s.world.trusts[1].sign(header, in_epoch(&s.conversation, 2));
    for record in [&old, &new, &commit, &welcome, &welcome] {
        assert_eq!(s.world.bring(2, 0, record), None);
    }
    let inbox = s.world.inbox(2, &newcomer, 0);
    assert_eq!(
        inbox,
        [(place(1), Some(welcome.id())), (place(2), Some(new.id()))],
        "not what was written before it joined"
    );
}

#[test]
fn a_device_of_a_node_that_has_lost_its_store_is_told_of_deletions_that_came_before_its_welcome() {
    let mut s = scene();
    let (device, reference) = (s.world.trusts[2].device(170).1.fingerprint(), [5; 32]);
    let other = fixtures::conversation(&s.world.trusts[1]);
    let welcome = |s: &Scene| {
        s.world.trusts[0].sign(s.world.header(&ALL, DAY), fixtures::welcome(&s.conversation, 2, &reference))
    };
    let order = |s: &Scene, conversation: &ConversationId, n| {
        let header = s.world.header(&ALL, RETENTION + DAY);
        let body = fixtures::tombstone(conversation, named(&[RecordId::new([n; 32])]));
        s.world.trusts[0].sign(header, body)
    };
    let first = welcome(&s);
    s.world.now = s.world.now.plus_secs(60);
    let orders = [order(&s, &s.conversation, 1), order(&s, &other, 2), order(&s, &s.conversation, 3)];
    // It was removed, and welcomed again.
    s.world.now = s.world.now.plus_secs(3600);
    let second = welcome(&s);
    // As anti-entropy brings them: directory, tombstones, envelopes, and of those the newest first.
    let mut package = Batch::new();
    package.put(Tree::Packages, reference, *device.as_bytes());
    s.world.nodes[2].store.commit(package).unwrap();
    for record in orders.iter().chain([&second, &first]) {
        assert_eq!(s.world.bring(2, 0, record), None);
        s.world.pass(1);
    }
    let expected = [&second, &first, &orders[0], &orders[2]].map(lanyard_crypto::record::Decoded::id);
    let brought: Vec<_> = s.world.inbox(2, &device, 0).into_iter().filter_map(|(_, id)| id).collect();
    assert_eq!((brought.len(), BTreeSet::from_iter(brought)), (4, BTreeSet::from(expected)), "each once");
    let due = |n: usize| destruction::devices(&s.world.nodes[2].store, &orders[n].id()).unwrap();
    assert_eq!([due(0), due(1), due(2)], [2, 0, 2], "it is waited for, beside who was served before");
}

fn in_epoch(conversation: &ConversationId, epoch: u64) -> lanyard_crypto::record::Body {
    lanyard_crypto::record::Body::Envelope(lanyard_crypto::record::Envelope {
        conversation: conversation.clone(),
        epoch,
        class: Class::Application,
        content: fixtures::private_message(conversation, epoch, 77),
    })
}

#[test]
fn an_officer_needs_no_membership() {
    let mut s = scene();
    let id = s.send(1, s.request(1)).unwrap();
    s.world.settle();
    let request = Request::Delete {
        by: Deleter::Officer,
        conversation: s.conversation.clone(),
        target: named(&[id]),
        reason: Reason::SubjectRequest,
        reference: vec![0; 65],
    };
    assert_eq!(s.world.ask(1, request.clone()), Err("out-of-bounds".into()), "the reference is too long");
    let Request::Delete { by, conversation, target, reason, .. } = request else { panic!("not a deletion") };
    let request = Request::Delete { by, conversation, target, reason, reference: vec![0; 64] };
    s.world.ask(1, request).unwrap();
    s.world.settle();
    assert_eq!(s.world.holders(&id), []);
}
