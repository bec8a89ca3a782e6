//! Peers that lie in anti-entropy: it costs them their link, and us a bounded amount. And honest ones in states in which they could be
//! taken for such: it costs them nothing.

use lanyard_crypto::RecordId;
use lanyard_crypto::record::Decoded;

use super::fixtures::{self, DAY};
use super::reconciling::hold_in_common;
use super::world::World;
use crate::frame::{Ask, Done, Fetch, Frame, Offer, Range, Ranges, Root, Span, Symbols};
use crate::limits::{
    CLAIM_SECS_MAX, MISSING_SECS, REPLY_SECS_MAX, SERVED_BURST_BYTES_MAX, SYNC_INTERVAL_SECS,
};
use crate::{Input, Output};

const ALL: [usize; 3] = [0, 1, 2];

/// RXA, and RXB, which a test speaks for.
pub fn pair() -> World {
    let mut world = World::three();
    world.gossips = false;
    world.isolate(2);
    world.lose();
    world.nodes[0].outputs.clear();
    world
}

/// RXB says this to RXA. Returns what RXA sends in return.
pub fn say(world: &mut World, frame: Frame) -> Vec<Frame> {
    let from = world.trusts[1].node_id();
    let before = world.nodes[0].outputs.len();
    world.step(0, Input::Frame { from, frame });
    world.lose();
    frames(&world.nodes[0].outputs[before..])
}

pub fn tick(world: &mut World, secs: u64) -> Vec<Frame> {
    let before = world.nodes[0].outputs.len();
    for _ in 0..secs {
        world.now = world.now.plus_secs(1);
        world.step(0, Input::Tick);
    }
    world.lose();
    frames(&world.nodes[0].outputs[before..])
}

pub fn frames(outputs: &[Output]) -> Vec<Frame> {
    let sent = outputs.iter().filter_map(|o| match o {
        Output::Send { frame, .. } => Some(frame.clone()),
        _ => None,
    });
    sent.collect()
}

/// Why RXA has closed its connection to RXB, if it has.
pub fn dropped(world: &World) -> Option<String> {
    let entries = world.audit(0);
    entries.into_iter().rev().find(|e| e.event == "peer-dropped").map(|e| e.code)
}

/// Points that RXB has with RXA.
pub fn points(world: &World) -> u32 {
    world.nodes[0].replica.penalties.get(&world.trusts[1].node_id()).copied().unwrap_or(0)
}

/// RXB claims that it holds so many messages.
pub fn claim(count: u64) -> Frame {
    let root = Root { count, sum: [3; 32] };
    let range = Range(0, count, [5; 16]);
    Frame::Ranges(Ranges { layer: 3, root: Some(root), until: u64::MAX, ranges: vec![range] })
}

#[test]
fn a_peer_that_never_answers_loses_its_link() {
    let mut world = pair();
    let mut asked = 0;
    for _ in 0..4 {
        asked += say(&mut world, claim(5000)).len();
        tick(&mut world, REPLY_SECS_MAX + 1);
    }
    assert_eq!(dropped(&world).as_deref(), Some("unfinished"));
    assert!(asked <= 4, "one question each time: {asked}");
}

#[test]
fn a_peer_that_is_slow_once_keeps_its_link() {
    let mut world = pair();
    say(&mut world, claim(5000));
    tick(&mut world, 2 * REPLY_SECS_MAX);
    assert_eq!(dropped(&world), None);
}

#[test]
fn a_peer_that_puts_off_for_ever_loses_its_link() {
    let mut world = pair();
    let mut question = say(&mut world, claim(5000));
    for _ in 0..4 * REPLY_SECS_MAX {
        for frame in std::mem::take(&mut question) {
            let Frame::Fetch(Fetch { number, .. }) = frame else { continue };
            say(&mut world, Frame::Wait(number));
        }
        question = tick(&mut world, 1);
        if question.is_empty() {
            question = say(&mut world, claim(5000));
        }
    }
    assert_eq!(dropped(&world).as_deref(), Some("unfinished"));
}

#[test]
fn a_peer_that_offers_what_it_does_not_have_loses_its_link() {
    let mut world = pair();
    let mut questions = 0;
    for n in 0..40u64 {
        let ids: Vec<u8> = (0..100u64)
            .flat_map(|i| RecordId::of(&(n * 1000 + i).to_be_bytes()).as_bytes()[..16].to_vec())
            .collect();
        let asked = say(
            &mut world,
            Frame::Offer(Offer { number: 0, span: Span::buckets(3, 0, u64::MAX), ids: ids.into() }),
        );
        for frame in asked {
            let Frame::Want(want) = frame else { panic!("{frame:?}") };
            questions += 1;
            assert!(say(&mut world, Frame::Done(Done { number: want.number, next: None })).is_empty());
        }
    }
    assert_eq!(dropped(&world).as_deref(), Some("undelivered"));
    assert!(questions <= 10, "{questions}");
}

#[test]
fn what_a_peer_does_not_have_is_asked_for_once_in_a_round() {
    let mut world = pair();
    let offer =
        || Frame::Offer(Offer { number: 0, span: Span::buckets(3, 0, u64::MAX), ids: vec![7; 16].into() });
    let asked = say(&mut world, offer());
    let [Frame::Want(want)] = &asked[..] else { panic!("{asked:?}") };
    say(&mut world, Frame::Done(Done { number: want.number, next: None }));
    for _ in 0..100 {
        assert_eq!(say(&mut world, offer()), []);
    }
    // It may have been lost: a later round asks again, and never so often that it costs an honest peer its link.
    for _ in 0..100 {
        tick(&mut world, MISSING_SECS);
        let asked = say(&mut world, offer());
        let [Frame::Want(want)] = &asked[..] else { panic!("{asked:?}") };
        say(&mut world, Frame::Done(Done { number: want.number, next: None }));
    }
    assert_eq!(dropped(&world), None);
}

#[test]
fn pages_without_end_cost_the_link() {
    let mut world = pair();
    let mut asked = say(&mut world, claim(5000));
    for n in 0..200u8 {
        let Some(Frame::Fetch(Fetch { number, .. })) = asked.pop() else { break };
        let next = Some(vec![200 - n; 40].into());
        asked = say(&mut world, Frame::Done(Done { number, next }));
    }
    assert_eq!(dropped(&world).as_deref(), Some("undelivered"));
}

#[test]
fn a_place_that_does_not_go_down_is_refused() {
    let mut world = pair();
    let mut asked = say(&mut world, claim(5000));
    for _ in 0..10 {
        let Some(Frame::Fetch(Fetch { number, .. })) = asked.pop() else { break };
        asked = say(&mut world, Frame::Done(Done { number, next: Some(vec![9; 40].into()) }));
    }
    assert!(asked.is_empty(), "it is not followed in a circle");
}

#[test]
fn symbols_that_make_no_sense_cost_the_link_and_little_else() {
    let mut world = pair();
    hold_in_common(&world, 500, DAY);
    let mut sent = 0;
    for _ in 0..30 {
        let mut asked = say(&mut world, claim(5000));
        while let Some(frame) = asked.pop() {
            sent += frame.to_bytes().len();
            let answer = match frame {
                Frame::Ask(Ask { number, .. }) => {
                    Frame::Symbols(Symbols { number, estimate: 3, sum: None, cells: vec![1; 25 * 20].into() })
                }
                Frame::List(list) => {
                    Frame::Offer(Offer { number: list.number, span: list.span, ids: vec![].into() })
                }
                _ => continue,
            };
            asked.extend(say(&mut world, answer));
        }
    }
    assert_eq!(dropped(&world).as_deref(), Some("unreadable"));
    assert!(sent < 1 << 20, "{sent} bytes");
}

#[test]
fn who_asks_for_everything_again_and_again_loses_its_link() {
    let mut world = pair();
    hold_in_common(&world, 20_000, DAY);
    let everything =
        |number| Frame::Fetch(Fetch { number, span: Span::buckets(3, 0, u64::MAX), before: None });
    // Once in each round is nothing.
    for number in 0..60 {
        say(&mut world, everything(number));
        tick(&mut world, SYNC_INTERVAL_SECS);
    }
    assert_eq!(dropped(&world), None);
    let mut answers = 0;
    for number in 0..300 {
        answers += say(&mut world, everything(number)).len();
    }
    assert_eq!(dropped(&world).as_deref(), Some("insatiable"));
    assert!(answers < 100, "{answers}");
}

#[test]
fn who_asks_on_after_being_told_to_wait_loses_its_link() {
    let mut world = pair();
    let from = world.trusts[1].node_id();
    let trust = world.trusts[1].id.clone();
    let node = &mut world.nodes[0];
    let mut turn = crate::turn::Turn::new(&node.store, world.now, usize::MAX);
    node.replica.charge(&mut turn, from, &trust, [0, 0], SERVED_BURST_BYTES_MAX).unwrap();
    let ask = |number| Frame::Fetch(Fetch { number, span: Span::buckets(3, 0, u64::MAX), before: None });
    // What is on its way when the answer comes is forgiven.
    for number in 0..32 {
        assert_eq!(say(&mut world, ask(number)), [Frame::Wait(number)]);
    }
    assert!(matches!(&tick(&mut world, 1)[..], [] | [Frame::Roots(_)]));
    assert!(matches!(&say(&mut world, ask(99))[..], [Frame::Done(_)]), "a second later it is served");
    let node = &mut world.nodes[0];
    let mut turn = crate::turn::Turn::new(&node.store, world.now, usize::MAX);
    node.replica.charge(&mut turn, from, &trust, [0, 0], SERVED_BURST_BYTES_MAX).unwrap();
    (0..200).for_each(|number| drop(say(&mut world, ask(number))));
    assert_eq!(dropped(&world).as_deref(), Some("impatient"));
}

#[test]
fn malformed_questions_cost_the_link() {
    let mut world = pair();
    for _ in 0..2 {
        let span = Span::buckets(3, 0, u64::MAX);
        say(
            &mut world,
            Frame::Ask(Ask { number: 1, span, salt: [0; 16], least: 0, sketch: vec![0; 3].into() }),
        );
    }
    assert_eq!(dropped(&world).as_deref(), Some("malformed-frame"));
}

/// Two commits for one epoch, which only a faulty owner signs: each of two replicas holds the one that it had first, and refuses the
/// other for good.
fn at_odds() -> (World, Vec<Decoded>) {
    let mut world = World::three();
    world.gossips = false;
    (0..3).for_each(|at| world.isolate(at));
    let conversation = fixtures::conversation(&world.trusts[2]);
    let header = world.header(&ALL, DAY);
    let commits: Vec<_> = (0..2u64)
        .map(|n| world.trusts[2].sign(header.clone(), fixtures::commit(&conversation, 1, n)))
        .collect();
    for at in [0, 1] {
        world.bring(at, 2, &commits[at]);
    }
    world.lose();
    world.nodes.iter_mut().for_each(|n| n.outputs.clear());
    (world, commits)
}

#[test]
fn honest_replicas_that_disagree_for_good_keep_their_link_and_stay_quiet() {
    let (mut world, commits) = at_odds();
    world.connect(0, 1);
    world.settle();
    for _ in 0..3600 {
        world.pass(1);
    }
    assert_eq!((world.holders(&commits[0].id()), world.holders(&commits[1].id())), (vec![0], vec![1]));
    for node in &world.nodes {
        assert!(!node.outputs.iter().any(|o| matches!(o, Output::Disconnect { .. })));
        let sent = frames(&node.outputs);
        let records: usize = sent.iter().map(|f| if let Frame::Records(r) = f { r.len() } else { 0 }).sum();
        let bytes: usize = sent.iter().map(|f| f.to_bytes().len()).sum();
        // What is refused for good is not sent again in each of the rounds, of which there is one a minute then.
        assert!(records <= 2, "{records} records");
        assert!(sent.len() < 150 && bytes < 32 * 1024, "{} frames, {bytes} bytes in an hour", sent.len());
    }
}

#[test]
fn rounds_become_frequent_again_once_one_is_of_use() {
    let (mut world, _) = at_odds();
    world.connect(0, 1);
    world.settle();
    for _ in 0..1800 {
        world.pass(1);
    }
    let late = world.message(2, &fixtures::conversation(&world.trusts[2]), 50, &ALL);
    world.bring(1, 2, &late);
    world.lose();
    let mut seconds = 0;
    while !world.holds(0, &late.id()) {
        world.pass(1);
        seconds += 1;
        assert!(seconds <= 8 * SYNC_INTERVAL_SECS * 3 / 2, "it comes in the end");
    }
    assert!(world.nodes[0].replica.patience(&world.trusts[1].node_id()) == 1);
}

#[test]
fn who_claims_everything_and_sends_nothing_does_not_keep_others_from_sending() {
    let mut world = World::three();
    world.gossips = false;
    (0..3).for_each(|at| world.isolate(at));
    let conversation = fixtures::conversation(&world.trusts[2]);
    let records: Vec<_> = (0..50).map(|n| world.message(2, &conversation, n, &ALL)).collect();
    for record in &records {
        world.bring(2, 1, record);
    }
    world.lose();
    world.connect(0, 1);
    world.lose();
    assert!(matches!(&say(&mut world, claim(5000))[..], [Frame::Fetch(_)]));
    world.connect(0, 2);
    world.settle();
    for _ in 0..=CLAIM_SECS_MAX {
        world.pass(1);
    }
    assert!(records.iter().all(|record| world.holds(0, &record.id())));
}

#[test]
fn who_delivers_one_record_a_page_is_not_asked_for_the_others_again() {
    let mut world = pair();
    let conversation = fixtures::conversation(&world.trusts[1]);
    let real: Vec<_> = (0..3).map(|n| world.message(1, &conversation, n, &ALL)).collect();
    let made_up = (0..500u64).map(|n| RecordId::of(&n.to_be_bytes()));
    let ids: Vec<u8> =
        real.iter().map(Decoded::id).chain(made_up).flat_map(|id| id.as_bytes()[..16].to_vec()).collect();
    let asked = say(
        &mut world,
        Frame::Offer(Offer { number: 0, span: Span::buckets(3, 0, u64::MAX), ids: ids.into() }),
    );
    let [Frame::Want(want)] = &asked[..] else { panic!("{asked:?}") };
    world.bring(0, 1, &real[0]);
    assert_eq!(say(&mut world, Frame::Done(Done { number: want.number, next: None })), []);
    assert!(world.nodes[0].replica.sessions.claims.is_empty(), "others may send them");
}

#[test]
fn pages_of_one_record_without_end_cost_the_link() {
    let mut world = pair();
    let conversation = fixtures::conversation(&world.trusts[1]);
    let record = world.message(1, &conversation, 1, &ALL);
    let mut asked = say(&mut world, claim(5000));
    for n in 0..200u8 {
        let Some(Frame::Fetch(Fetch { number, .. })) = asked.pop() else { break };
        world.bring(0, 1, &record);
        asked = say(&mut world, Frame::Done(Done { number, next: Some(vec![200 - n; 40].into()) }));
    }
    assert_eq!(dropped(&world).as_deref(), Some("undelivered"));
}
