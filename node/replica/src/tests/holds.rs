//! Holds. The conversation is RXA's; RXB sends; RXC is a custodian, and has it on hold.

use lanyard_crypto::limits::RETENTION_SECS_MAX;
use lanyard_crypto::record::{Body, Decoded, Held, Reason, ReceiptItem, Target};
use lanyard_crypto::{ConversationId, RecordId};
use lanyard_storage::{Store, Tree, View};

use super::fixtures::{self, DAY, RETENTION, named};
use super::world::{World, assert_digests};
use crate::frame::{Frame, Want};
use crate::hold::holds;
use crate::{Deleter, Input, Output, Reply, Request, query};

const ALL: [usize; 3] = [0, 1, 2];
const HOLDER: usize = 2;

struct Scene {
    world: World,
    conversation: ConversationId,
    messages: Vec<Decoded>,
}

/// Three messages that all hold, and a hold of RXC's.
fn scene() -> Scene {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let device = world.trusts[HOLDER].device(100).1.fingerprint();
    world.serve(HOLDER, &conversation, &device);
    let messages: Vec<_> = (0..3).map(|n| world.message(1, &conversation, n, &ALL)).collect();
    for message in &messages {
        world.submit(1, message).unwrap();
        world.settle();
    }
    let mut scene = Scene { world, conversation, messages };
    scene.place(10 * DAY).unwrap();
    scene
}

impl Scene {
    fn place(&mut self, secs: u64) -> Result<Reply, String> {
        let (conversation, until) = (self.conversation.clone(), self.world.now.plus_secs(secs));
        let (reference, reason) = ("INQ-7".into(), "an inquiry".into());
        self.world.ask(HOLDER, Request::PlaceHold { conversation, reference, reason, until })
    }

    fn end(&mut self) -> Result<Reply, String> {
        let conversation = self.conversation.clone();
        self.world.ask(HOLDER, Request::EndHold { conversation, reference: "INQ-7/2".into() })
    }

    fn delete(&mut self, target: Target) -> RecordId {
        let (by, reason) = (Deleter::Officer, Reason::SubjectRequest);
        let (conversation, reference) = (self.conversation.clone(), b"DSR 1".to_vec());
        let reply = self.world.ask(0, Request::Delete { by, conversation, target, reason, reference });
        let Ok(Reply::Deleted(tombstone)) = reply else { panic!("{reply:?}") };
        self.world.settle();
        tombstone
    }

    fn kept(&self) -> usize {
        self.world.rows(HOLDER, Tree::Held)
    }

    /// No path of the holder gives a message of the scene.
    fn assert_served_nowhere(&mut self, ids: &[RecordId]) {
        let world = &mut self.world;
        let device = world.trusts[HOLDER].device(100).1.fingerprint();
        for id in ids {
            assert!(!world.holds(HOLDER, id), "neither a holding nor bytes: held, record_bytes");
            assert_eq!(query::ticks(&world.nodes[HOLDER].store, id).unwrap(), None);
        }
        let inbox = world.inbox(HOLDER, &device, 0);
        assert!(
            inbox.iter().all(|(_, record)| record.is_none_or(|record| !ids.contains(&record))),
            "{inbox:?}"
        );
        let (view, now) = (&world.nodes[HOLDER].store, world.now);
        for trust in ["RXA", "RXB"] {
            let (_, records) = query::outbox(view, &trust.parse().unwrap(), 0, now).unwrap();
            assert!(records.iter().all(|record| !ids.contains(&RecordId::of(record))));
        }
        let rows = view.rows();
        for tree in [Tree::Index, Tree::Holdings, Tree::Envelopes, Tree::Conversations, Tree::Expiry] {
            let named = rows.iter().filter(|(t, ..)| *t == tree);
            let named = named.filter(|(_, key, _)| ids.iter().any(|id| key.ends_with(id.as_bytes())));
            assert_eq!(named.count(), 0, "{tree:?}");
        }
        assert_digests(world, HOLDER);
        let (from, before) = (world.trusts[0].node_id(), world.nodes[HOLDER].outputs.len());
        world.step(HOLDER, Input::Frame { from, frame: Frame::Want(Want::of(1, ids)) });
        let sent = &world.nodes[HOLDER].outputs[before..];
        assert!(sent.iter().all(|o| !matches!(o, Output::Send { frame: Frame::Records(_), .. })), "{sent:?}");
    }

    /// Whether the receipt of a replica for a tombstone has come to the trust that ordered it.
    fn attested(&self, at: usize, tombstone: &RecordId) -> Option<u32> {
        let node = &self.world.nodes[0];
        let network = node.replica.network();
        let report = query::deletion(&node.store, &network, tombstone, self.world.now).unwrap().unwrap();
        let trust = &self.world.trusts[at].id;
        let replica = report.replicas.into_iter().find(|r| r.trust == *trust).unwrap();
        match replica.erased?.item {
            ReceiptItem::Erased(item) => Some(item.envelopes),
            other => panic!("{other:?}"),
        }
    }
}

impl Scene {
    /// What RXC's receipts that have come to RXA say of a hold, for this tombstone, in their order.
    fn told(&self, tombstone: &RecordId) -> Vec<Held> {
        let rows = self.world.nodes[0].store.rows().into_iter().filter(|(tree, ..)| *tree == Tree::Records);
        let mut told = Vec::new();
        for (_, _, bytes) in rows {
            let record = Decoded::from_bytes(&bytes).unwrap();
            let Body::Receipt(receipt) = record.body() else { continue };
            told.extend(receipt.items.iter().filter_map(|item| match item {
                ReceiptItem::Held(held) if held.tombstone == *tombstone => Some(held.clone()),
                _ => None,
            }));
        }
        told.sort_by_key(|held| held.until);
        told
    }
}

fn ids(messages: &[Decoded]) -> Vec<RecordId> {
    messages.iter().map(Decoded::id).collect()
}

#[test]
fn what_is_deleted_is_kept_where_nothing_serves_it_until_the_hold_ends() {
    let mut s = scene();
    let all = ids(&s.messages);
    let targets = [named(&all[..1]), Target::UpTo(s.world.now)];
    for (target, kept) in targets.into_iter().zip([1, 3]) {
        let gone = all.len().min(kept);
        let tombstone = s.delete(target);
        assert_eq!(s.kept(), kept);
        s.assert_served_nowhere(&all[..gone]);
        // Elsewhere the deletion is carried out as any other: a hold is of one trust alone.
        for at in [0, 1] {
            assert_eq!(s.world.rows(at, Tree::Held) + s.world.rows(at, Tree::Holds), 0);
            assert!(all[..gone].iter().all(|id| !s.world.holds(at, id)));
            assert!(s.attested(at, &tombstone).is_some());
        }
        assert_eq!(s.attested(HOLDER, &tombstone), None, "not erased, and so not attested");
        let (until, reference) = (s.world.now.plus_secs(10 * DAY), b"INQ-7".to_vec());
        assert_eq!(s.told(&tombstone), [Held { tombstone, until, reference }]);
    }
    // Nor does it come back, from whoever brings it.
    for message in &s.messages.clone() {
        assert_eq!(s.world.bring(HOLDER, 1, message).as_deref(), Some("deleted"));
    }
    s.world.pass(31);
    s.assert_served_nowhere(&all);
    let view = holds(&s.world.nodes[HOLDER].store).unwrap().remove(0);
    assert_eq!((view.envelopes, view.tombstones, view.reference.as_str()), (3, 2, "INQ-7"));

    s.world.pass(10 * DAY);
    s.world.settle();
    assert_eq!((s.kept(), s.world.rows(HOLDER, Tree::Holds)), (0, 0));
    s.assert_served_nowhere(&all);
}

#[test]
fn after_the_end_of_a_hold_the_deletions_are_attested() {
    let mut s = scene();
    let all = ids(&s.messages);
    let first = s.delete(named(&all[..2]));
    let whole = s.delete(Target::UpTo(s.world.now));
    s.end().unwrap();
    s.world.settle();
    assert_eq!((s.kept(), s.world.rows(HOLDER, Tree::Holds)), (0, 0));
    assert_eq!((s.attested(HOLDER, &first), s.attested(HOLDER, &whole)), (Some(2), Some(1)));
    let codes: Vec<_> = s.world.audit(HOLDER).into_iter().map(|e| e.event).collect();
    for event in ["hold-placed", "hold-ended-early", "hold-ended"] {
        assert!(codes.contains(&event.to_owned()), "{event} in {codes:?}");
    }
    assert_eq!(s.end(), Err("not-found".into()));
}

#[test]
fn what_expires_is_kept_too_and_a_later_deletion_waits_for_it() {
    let mut s = scene();
    s.place(RETENTION).unwrap();
    let all = ids(&s.messages);
    s.world.pass(RETENTION / 2 + 1);
    assert_eq!((s.kept(), s.world.rows(0, Tree::Envelopes)), (3, 0));
    s.assert_served_nowhere(&all);
    assert_eq!(s.world.bring(HOLDER, 1, &s.messages[0].clone()).as_deref(), Some("expired"));
    // All messages have expired: the owner orders their end all the same.
    let header = s.world.header(&ALL, RETENTION_SECS_MAX + DAY);
    let whole = fixtures::tombstone(&s.conversation, Target::UpTo(s.world.now));
    let whole = s.world.trusts[0].sign(header, whole);
    s.world.submit(0, &whole).unwrap();
    s.world.settle();
    let whole = whole.id();
    assert_eq!(s.attested(HOLDER, &whole), None);
    assert_eq!(s.attested(0, &whole), Some(0));
    s.end().unwrap();
    s.world.settle();
    assert_eq!((s.kept(), s.attested(HOLDER, &whole)), (0, Some(0)));
}

#[test]
fn a_standing_order_waits_for_the_end_of_a_hold_as_well() {
    let mut s = scene();
    let order = s.delete(Target::Standing(s.world.now, 3600));
    s.world.pass(3601);
    s.world.pass(1);
    assert_eq!((s.kept(), s.attested(0, &order)), (3, Some(3)));
    assert_eq!(s.attested(HOLDER, &order), None);
    s.end().unwrap();
    s.world.settle();
    assert_eq!((s.kept(), s.attested(HOLDER, &order)), (0, Some(3)));
}

#[test]
fn a_deletion_of_what_was_never_here_does_not_wait() {
    let mut s = scene();
    let header = s.world.header(&[0, 1], RETENTION / 2);
    let message = s.world.trusts[1].sign(header, fixtures::application(&s.conversation, 9));
    s.world.bring(0, 1, &message);
    let target = named(&[message.id()]);
    let header = s.world.header(&ALL, RETENTION);
    let tombstone = s.world.trusts[0].sign(header, fixtures::tombstone(&s.conversation, target));
    s.world.submit(0, &tombstone).unwrap();
    s.world.settle();
    assert_eq!((s.kept(), s.attested(HOLDER, &tombstone.id())), (0, Some(0)));
}

#[test]
fn a_long_hold_ends_in_several_steps() {
    let mut s = scene();
    let more: Vec<_> = (10..60).map(|n| s.world.message(1, &s.conversation, n, &ALL)).collect();
    more.iter().for_each(|message| drop(s.world.bring(HOLDER, 1, message)));
    s.world.nodes[HOLDER].replica.bound_step(60);
    let whole = s.delete(Target::UpTo(s.world.now));
    for _ in 0..100 {
        s.world.pass(1);
    }
    assert_eq!(s.kept(), 53);
    s.end().unwrap();
    assert!(s.kept() > 0, "more than a step takes");
    assert_eq!(s.place(20 * DAY), Err("hold".into()), "not before the last one has ended");
    let mut ticks = 0;
    while s.kept() > 0 {
        assert_eq!(s.attested(HOLDER, &whole), None);
        s.world.pass(1);
        ticks += 1;
        assert!(ticks < 100);
    }
    s.world.pass(1);
    assert_eq!(s.attested(HOLDER, &whole), Some(53));
    s.place(DAY).unwrap();
}

#[test]
fn a_hold_survives_a_restart_and_can_last_longer_but_not_shorter() {
    let mut s = scene();
    s.world.restart(HOLDER);
    s.world.connect_all();
    s.world.settle();
    let all = ids(&s.messages);
    let tombstone = s.delete(named(&all));
    assert_eq!(s.kept(), 3);
    assert_eq!(s.place(9 * DAY), Err("hold".into()));
    s.place(20 * DAY).unwrap();
    s.world.settle();
    let told: Vec<_> = s.told(&tombstone).into_iter().map(|held| held.until).collect();
    assert_eq!(told, [10, 20].map(|days| s.world.now.plus_secs(days * DAY)), "of the later end too");
    s.world.pass(11 * DAY);
    assert_eq!(s.kept(), 3);
    s.world.pass(10 * DAY);
    assert_eq!(s.kept(), 0);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut s = scene();
    let until = s.world.now.plus_secs(DAY);
    let place = |conversation: &ConversationId, reference: &str, reason: &str, until| Request::PlaceHold {
        conversation: conversation.clone(),
        reference: reference.into(),
        reason: reason.into(),
        until,
    };
    let (here, nowhere) =
        (s.conversation.clone(), ConversationId::new([3; 16], s.world.trusts[0].id.clone()));
    let (long, now) = ("x".repeat(300), s.world.now);
    for (request, code) in [
        (place(&nowhere, "R", "r", until), "not-found"),
        (place(&here, "", "r", until), "hold"),
        (place(&here, &long, "r", until), "hold"),
        (place(&here, "R", "", until), "hold"),
        (place(&here, "R", &long, until), "hold"),
        (place(&here, "R", "r", now), "hold"),
        (place(&here, "R", "r", now.plus_secs(20 * 366 * DAY)), "hold"),
    ] {
        assert_eq!(s.world.ask(0, request), Err(code.into()));
    }
    assert_eq!(s.world.rows(0, Tree::Holds), 0);
    s.world.nodes[0].store.commit(lanyard_storage::Batch::new()).unwrap();
    assert!(s.world.nodes[0].store.get(Tree::Meta, b"charter").unwrap().is_some());
}

#[test]
fn who_holds_is_overdue_when_the_hold_has_ended_and_nothing_is_confirmed() {
    let mut s = scene();
    let tombstone = s.delete(named(&ids(&s.messages)[..1]));
    s.world.isolate(HOLDER);
    let overdue = |s: &Scene| query::overdue(&s.world.nodes[0].store, 10).unwrap();
    s.world.pass(2 * DAY);
    assert_eq!(overdue(&s), [], "it holds");
    s.world.pass(9 * DAY - 60);
    assert_eq!(overdue(&s), [], "the hold has just ended");
    s.world.pass(120);
    let late = overdue(&s);
    assert_eq!(late.len(), 1);
    assert_eq!((late[0].tombstone, &late[0].trust), (tombstone, &s.world.trusts[HOLDER].id));
    s.world.connect_all();
    s.world.settle();
    assert_eq!(overdue(&s), []);
    assert_eq!(s.attested(HOLDER, &tombstone), Some(1));
}
