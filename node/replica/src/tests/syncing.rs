//! Anti-entropy (promise P5): a replica that has missed something catches up, and with nothing that is gone.

use lanyard_crypto::RecordId;
use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::record::{Decoded, Kind};
use lanyard_storage::Tree;

use super::fixtures::{self, DAY, RETENTION, named};
use super::world::{Node, World};
use crate::frame::{Frame, Want};
use crate::limits::SYNC_INTERVAL_SECS;
use crate::{Input, Output, Source};

const ALL: [usize; 3] = [0, 1, 2];

/// RXA and RXB hold messages over many hours, some of them deleted; RXC was away.
fn away() -> (World, Vec<Decoded>, Vec<Decoded>) {
    let mut world = World::three();
    world.isolate(2);
    let conversation = fixtures::conversation(&world.trusts[0]);
    let (mut kept, mut deleted) = (Vec::new(), Vec::new());
    for n in 0..60 {
        world.pass(1200);
        let record = world.message(1, &conversation, n, &ALL);
        world.submit(1, &record).unwrap();
        if n % 5 == 0 {
            let order = fixtures::tombstone(&conversation, named(&[record.id()]));
            let order = world.trusts[1].sign(world.header(&ALL, RETENTION), order);
            world.submit(1, &order).unwrap();
            deleted.push(record);
        } else {
            kept.push(record);
        }
    }
    world.settle();
    (world, kept, deleted)
}

#[test]
fn a_replica_that_was_away_catches_up_without_what_was_deleted() {
    let (mut world, kept, deleted) = away();
    // Nothing but anti-entropy brings it: not the outbox, not gossip.
    world.gossips = false;
    world.isolate(1);
    world.connect(0, 2);
    world.settle();
    let ids: std::collections::BTreeSet<_> = kept.iter().map(Decoded::id).collect();
    assert_eq!(world.ids(2, Tree::Envelopes), ids);
    assert_eq!(world.ids(0, Tree::Envelopes), ids);
    for record in deleted {
        assert_eq!(world.bring(2, 1, &record).as_deref(), Some("deleted"));
    }
}

#[test]
fn an_empty_replica_gets_tombstones_first_and_then_everything() {
    let (mut world, kept, deleted) = away();
    world.isolate(1);
    world.gossips = false;
    // As a new node of RXC, or one restored from nothing.
    world.nodes[2] = Node::new(&world.trusts[2], &world.charter);
    world.connect(0, 2);
    world.settle();
    let sent = world.nodes[0].outputs.iter().filter_map(|o| match o {
        Output::Send { to, frame: Frame::Records(records) } if *to == world.trusts[2].node_id() => {
            Some(records)
        }
        _ => None,
    });
    let kinds: Vec<_> =
        sent.flatten().map(|r| Decoded::from_bytes(r).unwrap()).map(|r| (r.body().kind(), r.id())).collect();
    let first = kinds.iter().position(|(k, _)| *k == Kind::Envelope).unwrap();
    let last = kinds.iter().rposition(|(k, _)| *k == Kind::Tombstone).unwrap();
    assert!(last < first, "tombstones before envelopes");
    assert!(kinds.iter().all(|(_, id)| deleted.iter().all(|d| d.id() != *id)), "nothing deleted is served");
    assert_eq!(world.rows(2, Tree::Envelopes), kept.len());
    assert_eq!(world.rows(2, Tree::Directory), 3);

    // The next round finds nothing to do, once the heads of the audit logs are signed.
    world.pass(1);
    world.nodes.iter_mut().for_each(|n| n.outputs.clear());
    world.pass(31);
    let outputs = || world.nodes.iter().flat_map(|n| &n.outputs);
    let idle = |o: &Output| matches!(o, Output::Send { frame: Frame::Roots(_), .. });
    assert!(outputs().any(idle));
    assert!(outputs().all(idle), "{:?}", outputs().find(|o| !idle(o)));
}

#[test]
fn what_was_deleted_where_it_is_still_held_goes_there_too() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let record = world.message(1, &conversation, 1, &ALL);
    world.submit(1, &record).unwrap();
    world.settle();
    world.isolate(2);
    let order = fixtures::tombstone(&conversation, named(&[record.id()]));
    let order = world.trusts[1].sign(world.header(&ALL, RETENTION), order);
    world.submit(1, &order).unwrap();
    world.settle();
    assert_eq!(world.holders(&record.id()), [2]);
    world.isolate(1);
    world.gossips = false;
    world.connect(0, 2);
    world.settle();
    assert_eq!(world.holders(&record.id()), []);
    assert_eq!(world.holders(&order.id()), ALL);
}

#[test]
fn what_was_lost_while_its_end_arrived_comes_with_a_later_round() {
    let mut world = World::three();
    world.gossips = false;
    let conversation = fixtures::conversation(&world.trusts[0]);
    let [both, record] = [1, 2].map(|n| world.message(2, &conversation, n, &ALL));
    // Where one has nothing, it would ask for a span, and not for records.
    (0..2).for_each(|at| drop(world.bring(at, 2, &both)));
    (0..3).for_each(|at| world.isolate(at));
    world.bring(1, 2, &record);
    world.lose();
    world.connect(0, 1);
    assert!(world.settle_without_records() > 0);
    for _ in 0..2 * SYNC_INTERVAL_SECS {
        world.pass(1);
    }
    assert!(world.holds(0, &record.id()), "it comes, though the connection lives on");
}

#[test]
fn a_record_is_served_to_its_custodians_alone() {
    let mut world = World::three();
    let record = world.message(1, &fixtures::conversation(&world.trusts[0]), 1, &[0, 1]);
    world.submit(1, &record).unwrap();
    world.settle();
    world.nodes[0].outputs.clear();
    let from = world.trusts[2].node_id();
    world.step(0, Input::Frame { from, frame: Frame::Want(Want::of(1, &[record.id()])) });
    assert_eq!(served(&world, 0), [0]);
    let from = world.trusts[1].node_id();
    world.step(
        0,
        Input::Frame { from, frame: Frame::Want(Want::of(2, &[record.id(), RecordId::new([3; 32])])) },
    );
    assert_eq!(served(&world, 0), [0, 1]);
}

#[test]
fn nothing_expired_is_served_even_before_it_is_dropped() {
    let mut world = World::three();
    let record = world.message(1, &fixtures::conversation(&world.trusts[0]), 1, &ALL);
    world.submit(1, &record).unwrap();
    world.settle();
    world.now = record.header().expires;
    world.nodes[0].outputs.clear();
    let from = world.trusts[1].node_id();
    world.step(0, Input::Frame { from, frame: Frame::Want(Want::of(1, &[record.id()])) });
    assert!(world.holds(0, &record.id()));
    assert_eq!(served(&world, 0), [0]);
    let device = world.trusts[0].device(100).1.fingerprint();
    assert_eq!(world.inbox(0, &device, 0), []);
}

#[test]
fn clocks_that_differ_do_not_keep_replicas_apart() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let ahead = {
        let now = world.now;
        world.now = now.plus_secs(2 * CLOCK_SKEW_SECS_MAX);
        let record = world.message(1, &conversation, 1, &ALL);
        world.submit(1, &record).unwrap();
        world.now = now;
        record
    };
    world.settle();
    assert_eq!(world.holders(&ahead.id()), [1], "too far in the future for the others");
    assert_eq!(world.rows(1, Tree::Outbox), 2);
    world.pass(CLOCK_SKEW_SECS_MAX);
    world.pass(31);
    assert_eq!(world.holders(&ahead.id()), ALL);
}

#[test]
fn a_backlog_beyond_one_answer_comes_in_several() {
    let mut world = World::three();
    world.isolate(2);
    let conversation = fixtures::conversation(&world.trusts[0]);
    // 60 KiB each: three answers.
    let count = 2 * crate::limits::TRANSFER_BYTES_MAX / (60 * 1024) + 20;
    for n in 0..count as u64 {
        let lanyard_crypto::record::Body::Envelope(mut envelope) = fixtures::application(&conversation, n)
        else {
            panic!("no envelope")
        };
        envelope.content = fixtures::padded_message(&conversation, 1, n, 60 * 1024);
        let body = lanyard_crypto::record::Body::Envelope(envelope);
        let record = world.trusts[1].sign(world.header(&ALL, DAY), body);
        world.arrive(0, Source::Peer(world.trusts[1].node_id()), &[record.bytes().to_vec()]);
    }
    world.lose();
    world.isolate(1);
    world.nodes[0].outputs.clear();
    world.connect(0, 2);
    world.settle();
    assert_eq!(world.rows(2, Tree::Envelopes), count);
    let full = served(&world, 0).into_iter().filter(|records| *records > 0).count();
    assert!(full >= 3, "{full} answers");
}

/// How many records each answer to a question for records had.
fn served(world: &World, at: usize) -> Vec<usize> {
    let (mut answers, mut records) = (Vec::new(), 0);
    for output in &world.nodes[at].outputs {
        match output {
            Output::Send { frame: Frame::Records(some), .. } => records += some.len(),
            Output::Send { frame: Frame::Done(_), .. } => answers.push(std::mem::take(&mut records)),
            _ => {}
        }
    }
    answers
}

/// A message of RXC's conversation for RXA and RXB, which the node of `from` issued at this moment.
pub fn message_at(world: &World, from: usize, n: u64, issued: lanyard_crypto::Timestamp) -> Decoded {
    let header = fixtures::header(
        world.network,
        &[&world.trusts[0], &world.trusts[1], &world.trusts[2]],
        issued,
        RETENTION,
    );
    world.trusts[from].sign(header, fixtures::application(&fixtures::conversation(&world.trusts[2]), n))
}
