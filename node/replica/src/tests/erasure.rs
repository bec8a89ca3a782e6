//! Deletion and expiry (promises P6 and P7). The conversation is RXA's; RXB sends; RXC is a custodian and neither.

use lanyard_crypto::limits::{CLOCK_SKEW_SECS_MAX, RETENTION_SECS_MAX};
use lanyard_crypto::record::{Decoded, Reason, Target};
use lanyard_crypto::tally::{ReplicaState, ReplicaTally, Tally};
use lanyard_crypto::{ConversationId, RecordId, Timestamp};
use lanyard_storage::{Store, Tree};

use super::fixtures::{self, DAY, RETENTION, named};
use super::world::World;
use crate::{Deleter, Input, Reply, Request, Source, arrival, query};

const ALL: [usize; 3] = [0, 1, 2];

struct Scene {
    world: World,
    conversation: ConversationId,
    message: Decoded,
}

/// A message of RXB, which nobody holds yet.
fn scene() -> Scene {
    let world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let message = world.message(1, &conversation, 1, &ALL);
    Scene { world, conversation, message }
}

impl Scene {
    /// A tombstone for the message by this trust.
    fn tombstone(&self, by: usize) -> Decoded {
        self.order(by, named(&[self.message.id()]))
    }

    fn order(&self, by: usize, target: Target) -> Decoded {
        let life = if matches!(target, Target::UpTo(_)) { RETENTION_SECS_MAX } else { RETENTION };
        let header = self.world.header(&ALL, life + DAY);
        self.world.trusts[by].sign(header, fixtures::tombstone(&self.conversation, target))
    }
}

#[test]
fn a_tombstone_erases_what_is_there_and_keeps_it_away() {
    for by in [0, 1] {
        let mut s = scene();
        assert_eq!(s.world.bring(2, 1, &s.message), None);
        assert!(s.world.holds(2, &s.message.id()));
        let tombstone = s.tombstone(by);
        assert_eq!(s.world.bring(2, by, &tombstone), None);
        assert!(!s.world.holds(2, &s.message.id()));
        for tree in [Tree::Envelopes, Tree::Conversations] {
            assert_eq!(s.world.rows(2, tree), 0, "{tree:?}");
        }
        // Neither a stream nor gossip nor its own sender brings it back.
        assert_eq!(s.world.bring(2, 0, &s.message).as_deref(), Some("deleted"));
        assert_eq!(s.world.bring(2, 1, &s.message).as_deref(), Some("deleted"));
        assert!(!s.world.holds(2, &s.message.id()));
    }
}

#[test]
fn a_tombstone_that_comes_first_works_as_well() {
    let mut s = scene();
    let tombstone = s.tombstone(1);
    assert_eq!(s.world.bring(2, 1, &tombstone), None);
    assert_eq!(s.world.bring(2, 1, &s.message).as_deref(), Some("deleted"));
    assert!(!s.world.holds(2, &s.message.id()));
}

#[test]
fn a_trust_that_may_not_delete_does_not() {
    let mut s = scene();
    s.world.bring(0, 1, &s.message);
    let tombstone = s.tombstone(2);
    assert_eq!(s.world.bring(0, 2, &tombstone).as_deref(), Some("may-not-delete"));
    assert!(s.world.holds(0, &s.message.id()));
    assert!(!s.world.holds(0, &tombstone.id()));
    assert_eq!(s.world.rows(0, Tree::Tombstones), 0);

    // Where it came before the message, it loses its force, and its place, when the message tells whose it is.
    assert_eq!(s.world.bring(1, 2, &tombstone), None);
    assert_eq!(s.world.bring(1, 0, &s.message), None);
    assert!(s.world.holds(1, &s.message.id()));
    assert!(!s.world.holds(1, &tombstone.id()));
    assert_eq!(s.world.rows(1, Tree::Tombstones), 0);
    assert!(s.world.audit(1).iter().any(|e| e.code == "may-not-delete" && e.record == Some(tombstone.id())));
}

#[test]
fn each_target_of_a_tombstone_is_judged_by_itself() {
    let mut s = scene();
    let other = s.world.message(2, &s.conversation, 2, &ALL);
    let both = s.order(1, named(&[s.message.id(), other.id()]));
    let orders = [[&s.message, &other, &both], [&both, &other, &s.message], [&s.message, &both, &other]];
    for (at, records) in orders.into_iter().enumerate() {
        records.into_iter().for_each(|r| drop(s.world.bring(at, 1, r)));
        assert!(!s.world.holds(at, &s.message.id()), "RXB may delete its own: {at}");
        assert!(s.world.holds(at, &other.id()), "and nobody else's: {at}");
        assert!(s.world.holds(at, &both.id()));
    }
}

#[test]
fn a_tombstone_of_another_conversation_does_nothing() {
    let mut s = scene();
    let other = ConversationId::new([8; 16], s.world.trusts[2].id.clone());
    let header = s.world.header(&ALL, RETENTION + DAY);
    let tombstone = s.world.trusts[2].sign(header, fixtures::tombstone(&other, named(&[s.message.id()])));
    for records in [[&s.message, &tombstone], [&tombstone, &s.message]] {
        let mut world = World::three();
        records.into_iter().for_each(|r| drop(world.bring(0, 2, r)));
        assert!(world.holds(0, &s.message.id()));
        assert!(!world.holds(0, &tombstone.id()));
    }
    s.world.settle();
}

#[test]
fn only_messages_are_deleted() {
    let mut s = scene();
    let commit = s.world.trusts[0].sign(s.world.header(&ALL, DAY), fixtures::commit(&s.conversation, 1, 1));
    s.world.bring(1, 0, &commit);
    let tombstone = s.order(0, named(&[commit.id()]));
    assert_eq!(s.world.bring(1, 0, &tombstone).as_deref(), Some("may-not-delete"));
    assert!(s.world.holds(1, &commit.id()));

    let all = s.order(0, Target::UpTo(s.world.now));
    assert_eq!(s.world.bring(1, 0, &all), None);
    assert!(s.world.holds(1, &commit.id()));
}

#[test]
fn all_of_a_conversation_is_deleted_by_its_owner_alone() {
    let mut s = scene();
    let later = {
        s.world.now = s.world.now.plus_secs(10);
        s.world.message(2, &s.conversation, 2, &ALL)
    };
    let elsewhere = ConversationId::new([8; 16], s.world.trusts[0].id.clone());
    let other = s.world.message(2, &elsewhere, 3, &ALL);
    let up_to = Target::UpTo(s.message.header().issued);
    let life = RETENTION_SECS_MAX + 3 * CLOCK_SKEW_SECS_MAX;
    let header = s.world.header(&ALL, life);
    for by in [1, 2] {
        let refused =
            s.world.trusts[by].sign(header.clone(), fixtures::tombstone(&s.conversation, up_to.clone()));
        assert_eq!(s.world.bring(0, by, &refused).as_deref(), Some("may-not-delete"));
    }
    let tombstone = s.world.trusts[0].sign(header, fixtures::tombstone(&s.conversation, up_to));
    let orders = [[&s.message, &later, &other, &tombstone], [&tombstone, &other, &later, &s.message]];
    for (at, records) in orders.into_iter().enumerate() {
        records.into_iter().for_each(|r| drop(s.world.bring(at + 1, 0, r)));
        assert_eq!(s.world.ids(at + 1, Tree::Envelopes), [later.id(), other.id()].into());
    }

    let future = fixtures::tombstone(&s.conversation, Target::UpTo(s.world.now.plus_secs(1)));
    let future = s.world.trusts[0].sign(s.world.header(&ALL, life), future);
    assert_eq!(s.world.bring(1, 0, &future).as_deref(), Some("tombstone-too-short"));
    let short = fixtures::tombstone(&s.conversation, Target::UpTo(s.world.now));
    let short = s.world.trusts[0].sign(s.world.header(&ALL, RETENTION), short);
    assert_eq!(s.world.bring(1, 0, &short).as_deref(), Some("tombstone-too-short"));
}

#[test]
fn a_tombstone_that_ends_before_its_target_has_no_force() {
    let mut s = scene();
    let until = s.message.header().expires.as_secs() - s.world.now.as_secs();
    let life = until + 2 * CLOCK_SKEW_SECS_MAX - 1;
    let short = fixtures::tombstone(&s.conversation, named(&[s.message.id()]));
    let short = s.world.trusts[1].sign(s.world.header(&ALL, life), short);
    s.world.bring(0, 1, &s.message);
    assert_eq!(s.world.bring(0, 1, &short).as_deref(), Some("tombstone-too-short"));
    // The same in the other order.
    assert_eq!(s.world.bring(2, 1, &short), None);
    assert_eq!(s.world.bring(2, 1, &s.message), None);
    assert!(s.world.holds(0, &s.message.id()) && s.world.holds(2, &s.message.id()));
}

#[test]
fn what_expires_is_dropped_by_itself_and_stays_away() {
    let mut s = scene();
    s.world.bring(0, 1, &s.message);
    let life = s.message.header().expires.as_secs() - s.world.now.as_secs();
    s.world.pass(life - 1);
    assert_eq!(s.world.holders(&s.message.id()), ALL, "anti-entropy has brought it to all");

    // RXA's clock is ahead: it drops first, and anti-entropy does not bring it back.
    s.world.now = s.message.header().expires;
    s.world.step(0, crate::Input::Tick);
    assert!(!s.world.holds(0, &s.message.id()));
    assert_eq!(s.world.rows(0, Tree::Envelopes), 0);
    s.world.settle();
    s.world.pass(60);
    assert_eq!(s.world.holders(&s.message.id()), []);
    assert_eq!(s.world.bring(2, 1, &s.message).as_deref(), Some("expired"));
    for at in ALL {
        for tree in [Tree::Envelopes, Tree::Conversations, Tree::Outbox] {
            assert_eq!(s.world.rows(at, tree), 0, "{tree:?}");
        }
    }
}

#[test]
fn a_tombstone_goes_once_its_target_cannot_come_back() {
    let mut s = scene();
    let tombstone = s.tombstone(1);
    s.world.bring(2, 1, &s.message);
    s.world.bring(2, 1, &tombstone);
    s.world.now = tombstone.header().expires.minus_secs(1);
    s.world.pass(0);
    assert!(s.world.holds(2, &tombstone.id()));
    assert_eq!(s.world.bring(2, 1, &s.message).as_deref(), Some("expired"));
    s.world.pass(1);
    assert!(!s.world.holds(2, &tombstone.id()));
    assert_eq!(s.world.rows(2, Tree::Tombstones), 0);
    assert_eq!(s.world.bring(2, 1, &s.message).as_deref(), Some("expired"));
}

#[test]
fn the_tally_shows_who_has_erased_and_who_has_not() {
    let mut s = scene();
    let id = s.message.id();
    s.world.submit(1, &s.message).unwrap();
    s.world.settle();
    assert_eq!(s.world.holders(&id), ALL);

    s.world.isolate(2);
    let tombstone = delete(&mut s, 1, id).unwrap();
    s.world.settle();
    assert_eq!(s.world.holders(&id), [2]);
    assert_eq!(tally(&s.world, 1, &tombstone), [("RXA", true), ("RXB", true), ("RXC", false)]);

    s.world.connect_all();
    s.world.settle();
    assert_eq!(s.world.holders(&id), []);
    assert_eq!(tally(&s.world, 1, &tombstone), [("RXA", true), ("RXB", true), ("RXC", true)]);

    // Each confirmation is proven by a receipt of that trust's own node.
    let shown = shown(&s.world, 1, &tombstone);
    assert!(shown.problems.is_empty(), "{:?}", shown.problems);
    for replica in &shown.replicas {
        assert!(matches!(replica.state, ReplicaState::Erased(_, 1)), "{replica:?}");
    }
    assert_eq!(shown.by.as_ref().map(|by| by.as_str()), Some("RXB"));
    // The order is known to all, and not carried out twice.
    assert_eq!(delete(&mut s, 1, id), Err("not-found".into()));
    s.world.pass(31);
    assert_eq!(s.world.rows(1, Tree::Tally), 3);
}

#[test]
fn an_officer_deletes_what_the_trust_sent_or_owns() {
    let mut s = scene();
    s.world.submit(1, &s.message).unwrap();
    s.world.settle();
    let id = s.message.id();
    assert_eq!(delete(&mut s, 2, id), Err("may-not-delete".into()));
    delete(&mut s, 0, id).unwrap();
    s.world.settle();
    assert_eq!(s.world.holders(&s.message.id()), []);

    let conversation = s.conversation.clone();
    let message = s.world.message(2, &conversation, 2, &ALL);
    s.world.submit(2, &message).unwrap();
    s.world.settle();
    let all = |by, up_to| Request::Delete {
        by,
        conversation: conversation.clone(),
        target: Target::UpTo(up_to),
        reason: Reason::PolicyExpired,
        reference: Vec::new(),
    };
    let now: Timestamp = s.world.now;
    assert_eq!(s.world.ask(1, all(Deleter::Officer, now)), Err("may-not-delete".into()));
    let device = s.world.trusts[0].device(100).1.fingerprint();
    assert_eq!(s.world.ask(0, all(Deleter::Device(device), now)), Err("not-sender".into()));
    s.world.ask(0, all(Deleter::Officer, now)).unwrap();
    s.world.settle();
    assert_eq!(s.world.holders(&message.id()), []);
}

#[test]
fn a_long_conversation_is_erased_in_several_steps() {
    let mut s = scene();
    let count = 40;
    let messages: Vec<_> = (0..count).map(|n| s.world.message(1, &s.conversation, n, &ALL)).collect();
    for message in &messages {
        s.world.bring(0, 1, message);
    }
    s.world.nodes[0].replica.bound_step(30);
    let tombstone = delete_all(&mut s);
    let left = s.world.rows(0, Tree::Envelopes);
    assert!(left > 0 && left < count as usize, "{left} of {count} are left for the next steps");
    assert_eq!(tally(&s.world, 0, &tombstone)[0], ("RXA", false), "attested only once all is done");
    // What is left is not served any more.
    let ids: Vec<_> = s.world.ids(0, Tree::Envelopes).into_iter().collect();
    let (from, before) = (s.world.trusts[1].node_id(), s.world.nodes[0].outputs.len());
    let want = crate::frame::Want::of(1, &ids);
    s.world.step(0, crate::Input::Frame { from, frame: crate::frame::Frame::Want(want) });
    let sent = &s.world.nodes[0].outputs[before..];
    let done =
        |o: &crate::Output| matches!(o, crate::Output::Send { frame: crate::frame::Frame::Done(_), .. });
    assert!(sent.len() == 1 && sent.iter().all(done), "{sent:?}");
    s.world.settle();
    assert_eq!((s.world.rows(1, Tree::Envelopes), s.world.rows(2, Tree::Envelopes)), (0, 0));

    let mut ticks = 0;
    while s.world.rows(0, Tree::Conversations) > 0 {
        s.world.pass(1);
        ticks += 1;
        assert!(ticks < 20);
    }
    s.world.pass(1);
    assert!(ticks > 1);
    assert_eq!(tally(&s.world, 0, &tombstone)[0], ("RXA", true));
    let state = shown(&s.world, 0, &tombstone).replicas.remove(0).state;
    assert!(matches!(state, ReplicaState::Erased(_, erased) if erased == count as u32), "{state:?}");
}

/// What takes long is to remove the rows about messages, not to make them unreadable.
#[test]
fn a_long_conversation_is_attested_before_its_rows_are_gone() {
    let mut s = scene();
    let count = 300;
    let messages: Vec<_> = (0..count).map(|n| s.world.message(1, &s.conversation, n, &ALL)).collect();
    for message in &messages {
        s.world.bring(0, 1, message);
    }
    let holdings = s.world.rows(0, Tree::Holdings);
    let tombstone = delete_all(&mut s);
    assert_eq!(s.world.rows(0, Tree::Envelopes), 0);
    assert_eq!(tally(&s.world, 0, &tombstone)[0], ("RXA", true));
    let of_deletion = 2;
    assert_eq!(s.world.rows(0, Tree::Holdings), holdings + of_deletion);
    // Not even the fact that they were here is told.
    let id = messages[0].id();
    let (from, before) = (s.world.trusts[1].node_id(), s.world.nodes[0].outputs.len());
    let want = crate::frame::Want::of(1, &[id]);
    s.world.step(0, crate::Input::Frame { from, frame: crate::frame::Frame::Want(want) });
    let done =
        |o: &crate::Output| matches!(o, crate::Output::Send { frame: crate::frame::Frame::Done(_), .. });
    assert!(s.world.nodes[0].outputs[before..].iter().all(done));

    let mut portions = 0;
    loop {
        let before = s.world.nodes[0].outputs.len();
        s.world.step(0, crate::Input::GoOn);
        portions += 1;
        assert!(portions < 100);
        if !s.world.nodes[0].outputs[before..].iter().any(|o| matches!(o, crate::Output::GoOn)) {
            break;
        }
    }
    assert!(portions > 2, "{portions}");
    assert_eq!(s.world.rows(0, Tree::Holdings), holdings + of_deletion - count as usize);
    assert_eq!(s.world.rows(0, Tree::Conversations), 0);
}

fn delete_all(s: &mut Scene) -> RecordId {
    let conversation = s.conversation.clone();
    let (target, reason, by) = (Target::UpTo(s.world.now), Reason::PolicyExpired, Deleter::Officer);
    let request = Request::Delete { by, conversation, target, reason, reference: Vec::new() };
    let Ok(Reply::Deleted(tombstone)) = s.world.ask(0, request) else { panic!("not deleted") };
    tombstone
}

fn delete(s: &mut Scene, at: usize, id: RecordId) -> Result<RecordId, String> {
    let request = Request::Delete {
        by: Deleter::Officer,
        conversation: s.conversation.clone(),
        target: named(&[id]),
        reason: Reason::SentInError,
        reference: b"case 7".to_vec(),
    };
    s.world.ask(at, request).map(|reply| match reply {
        Reply::Deleted(tombstone) => tombstone,
        other => panic!("{other:?}"),
    })
}

fn shown(world: &World, at: usize, tombstone: &RecordId) -> Tally {
    let node = &world.nodes[at];
    let network = node.replica.network();
    let answer = query::deletion(&node.store, &network, tombstone, world.now).unwrap().unwrap();
    Tally::of(&answer, &mut (*network).clone()).unwrap()
}

fn tally(world: &World, at: usize, tombstone: &RecordId) -> Vec<(&'static str, bool)> {
    let codes = ["RXA", "RXB", "RXC"];
    let row = |r: &ReplicaTally| {
        let erased = matches!(r.state, ReplicaState::Erased(..));
        (*codes.iter().find(|c| **c == r.trust.as_str()).unwrap(), erased)
    };
    shown(world, at, tombstone).replicas.iter().map(row).collect()
}

/// Whether what a replica does with this waits until everything is destroyed that was dropped before.
fn settles(world: &mut World, at: usize, input: Input) -> bool {
    let node = &mut world.nodes[at];
    let step = node.replica.step(input, world.now, &node.store).unwrap();
    let settles = step.batch.settles();
    node.store.commit(step.batch).unwrap();
    settles
}

fn arrives(world: &World, at: usize, record: &Decoded) -> Input {
    let network = world.nodes[at].replica.network();
    let arrivals = arrival::verify(vec![arrival::decode(record.bytes())], &network);
    Input::Records { from: Source::Peer(world.trusts[1].node_id()), arrivals }
}

#[test]
fn what_is_attested_of_messages_that_are_gone_already_is_destroyed_first() {
    let mut s = scene();
    let absent = s.world.message(1, &s.conversation, 2, &ALL).id();
    assert_eq!(s.world.bring(2, 1, &s.message), None);
    let all = s.order(0, Target::UpTo(s.world.now));
    for (order, waits) in [(s.tombstone(1), false), (s.order(1, named(&[absent])), true), (all, true)] {
        let input = arrives(&s.world, 2, &order);
        assert_eq!(settles(&mut s.world, 2, input), waits);
    }

    // What a hold has kept was dropped when it was put away.
    s.world.now = s.world.now.plus_secs(1);
    let kept = s.world.message(1, &s.conversation, 3, &ALL);
    assert_eq!(s.world.bring(2, 1, &kept), None);
    let (reference, reason, until) = ("H1".to_owned(), "inquiry".to_owned(), s.world.now.plus_secs(DAY));
    let conversation = s.conversation.clone();
    s.world.ask(2, Request::PlaceHold { conversation, reference, reason, until }).unwrap();
    let order = s.order(1, named(&[kept.id()]));
    assert_eq!(s.world.bring(2, 1, &order), None);
    let (conversation, reference) = (s.conversation.clone(), "H1".to_owned());
    let request = Request::EndHold { conversation, reference };
    assert!(settles(&mut s.world, 2, Input::Request { ticket: 1, request }));
}
