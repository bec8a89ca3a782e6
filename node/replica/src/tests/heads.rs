//! Heads of audit logs: when they are signed, who keeps which of them, and how a node is found that tells two stories.

use lanyard_crypto::AuditHash;
use lanyard_crypto::record::{Body, Decoded, Head};
use lanyard_storage::{MemoryStore, Tree};
use proptest::prelude::*;

use super::fixtures::{self, DAY};
use super::world::World;
use crate::audit::check::{self, Broken, Holder};
use crate::audit::{self, AuditEntry, HeldHead, Place};
use crate::limits::{CONTRADICTION_LIFE_SECS, HEAD_SPANS};
use crate::{Input, Replica, Reply, Request, Source};

const SLOT: u64 = HEAD_SPANS[0].0;

fn note(world: &mut World, at: usize) {
    world.step(at, Input::Note(AuditEntry::new("noted", "", "")));
}

/// A head that the node of this trust signs now, whatever its log is.
fn head(world: &World, by: usize, number: u64, hash: u8, life_secs: u64) -> Decoded {
    let header = fixtures::for_all(world.network, world.now, life_secs);
    world.trusts[by].sign(header, Body::Head(Head { number, hash: AuditHash::new([hash; 32]), dropped: 0 }))
}

/// What `at` holds of the log of `of`.
fn held(world: &World, at: usize, of: usize) -> Vec<HeldHead> {
    audit::held_of(&world.nodes[at].store, &world.trusts[of].node_id()).unwrap()
}

/// Codes of what `at` says about the log of `of`.
fn contradicted(world: &World, at: usize, of: usize) -> Vec<String> {
    let node = world.trusts[of].node_id();
    let entries = world.audit(at).into_iter();
    entries.filter(|e| e.event == audit::CONTRADICTED && e.node == Some(node)).map(|e| e.code).collect()
}

fn bring(world: &mut World, at: usize, from: usize, record: &Decoded) {
    let source = Source::Peer(world.trusts[from].node_id());
    world.arrive(at, source, &[record.bytes().to_vec()]);
}

#[test]
fn a_head_is_signed_once_something_was_added_and_a_period_has_begun() {
    let mut world = World::three();
    world.pass(1);
    let first = held(&world, 1, 0);
    assert_eq!(first.len(), 1, "connections were noted");
    assert_eq!(first, held(&world, 0, 0), "this node has its own");
    let log = audit::rows(&world.nodes[0].store, Some(first[0].number - 1), 1).unwrap();
    assert_eq!(log[0].place, Place { number: first[0].number, hash: first[0].hash });

    note(&mut world, 0);
    world.pass(1);
    assert_eq!(held(&world, 1, 0), first, "no period has begun");
    world.pass(SLOT);
    let second = held(&world, 2, 0);
    assert_eq!((second.len(), second[1].number), (2, first[0].number + 1));
    world.pass(3 * SLOT);
    assert_eq!(held(&world, 2, 0), second, "nothing was added");
    for at in 0..3 {
        let all = audit::newest_heads(&world.nodes[at].store).unwrap();
        assert_eq!(all.len(), 3, "each node of the network");
        assert!(contradicted(&world, at, 0).is_empty());
    }
}

#[test]
fn a_clock_that_is_set_back_a_little_is_waited_for() {
    let mut world = World::three();
    world.pass(SLOT - world.now.as_secs() % SLOT);
    let signed = held(&world, 1, 0).pop().unwrap();
    assert_eq!(signed.issued, world.now);
    world.now = world.now.minus_secs(5);
    note(&mut world, 0);
    world.pass(1);
    assert_eq!(held(&world, 1, 0).pop(), Some(signed.clone()));
    world.pass(SLOT + 5);
    assert!(held(&world, 1, 0).pop().unwrap().number > signed.number);
    // One that was ahead by more than clocks may differ was wrong before.
    world.now = world.now.minus_secs(DAY);
    note(&mut world, 0);
    world.pass(1);
    let heads = held(&world, 0, 0);
    assert_eq!(heads.iter().map(|h| h.issued).min(), Some(world.now));
    assert_eq!(contradicted(&world, 1, 0), ["went-back"]);
}

#[test]
fn heads_of_the_past_thin_out_and_the_log_contains_them() {
    let mut world = World::three();
    let days = 3;
    for _ in 0..days * DAY / (2 * SLOT) {
        note(&mut world, 0);
        world.pass(2 * SLOT);
    }
    let heads = held(&world, 1, 0);
    let (_, short_life) = HEAD_SPANS[0];
    let most = short_life / (2 * SLOT) + days + 1;
    assert!((days..=most).contains(&(heads.len() as u64)), "{} heads", heads.len());
    let old = heads.iter().filter(|h| h.issued.plus_secs(short_life) <= world.now).count();
    assert!(old > 0, "of days that are past, one head is left");
    let stated: Vec<_> = heads.iter().map(|h| h.stated(Holder::Other)).collect();
    let sound = check::stored(&world.nodes[0].store, &stated).unwrap().unwrap();
    assert_eq!(sound.other_heads, heads.len());
    // The rows about heads go with them.
    let rows = world.rows(1, Tree::Heads);
    let of_all: usize = (0..3).map(|of| held(&world, 1, of).len()).sum();
    assert_eq!(rows, 2 * of_all);
}

#[test]
fn a_node_that_signs_two_rows_of_a_number_is_found() {
    let mut world = World::three();
    world.pass(1);
    let real = held(&world, 1, 0)[0].clone();
    world.now = world.now.plus_secs(SLOT);
    let forged = head(&world, 0, real.number, 7, 600);
    bring(&mut world, 1, 0, &forged);
    assert_eq!(contradicted(&world, 1, 0), ["forked"]);
    let (node, shown) = audit::contradictions(&world.nodes[1].store).unwrap().remove(0);
    assert_eq!((node, shown.code.as_str()), (world.trusts[0].node_id(), "forked"));
    let shown: Vec<_> = shown.records.iter().map(|r| Decoded::from_bytes(r).unwrap().id()).collect();
    assert_eq!(shown, [forged.id(), real.record], "both are kept whole");

    // It is news once, it is told to others, and the node itself learns that its log is not what it signed.
    let again = head(&world, 0, real.number, 8, 700);
    bring(&mut world, 1, 0, &again);
    assert_eq!(contradicted(&world, 1, 0).len(), 1);
    world.pass(60);
    assert_eq!(contradicted(&world, 2, 0), ["forked"]);
    assert_eq!(contradicted(&world, 0, 0), ["rows-lost"]);
    // The alert ends; the entry in the log stays.
    world.pass(CONTRADICTION_LIFE_SECS);
    world.pass(1);
    assert!(audit::contradictions(&world.nodes[2].store).unwrap().is_empty());
    assert_eq!(contradicted(&world, 2, 0).len(), 1);
}

#[test]
fn a_fork_is_found_in_a_head_that_is_not_kept() {
    let mut world = World::three();
    let kept = head(&world, 0, 1000, 7, 600);
    let other = head(&world, 0, 1000, 8, 600);
    let (first, second) = if kept.id() > other.id() { (kept, other) } else { (other, kept) };
    bring(&mut world, 1, 0, &first);
    bring(&mut world, 1, 0, &second);
    assert_eq!(held(&world, 1, 0).len(), 1, "one head stands for a period");
    assert_eq!(contradicted(&world, 1, 0), ["forked"]);
}

#[test]
fn a_node_that_signs_anew_for_a_period_that_is_past_is_found() {
    let mut world = World::three();
    world.pass(1);
    let real = held(&world, 1, 0).pop().unwrap();
    let record = crate::query::record_bytes(&world.nodes[1].store, &real.record).unwrap().unwrap();
    // Later than the head that is to go, and of a later row: by themselves the two may be of one log.
    let (header, now) = (Decoded::from_bytes(&record).unwrap().header().clone(), world.now.plus_secs(DAY));
    let life = header.expires.as_secs() - header.issued.as_secs();
    world.now = real.issued.plus_secs(1);
    let backdated = head(&world, 0, real.number + 1, 7, life);
    world.now = now;
    bring(&mut world, 1, 0, &backdated);
    assert_eq!(contradicted(&world, 1, 0), ["signed-twice"]);
    let (_, shown) = audit::contradictions(&world.nodes[1].store).unwrap().remove(0);
    assert!(shown.records.iter().any(|r| r[..] == record[..]), "what it wanted to be rid of is kept");
    // A fork is worse, and noted besides.
    let forked = head(&world, 0, real.number + 1, 8, 1000);
    bring(&mut world, 1, 0, &forked);
    assert_eq!(contradicted(&world, 1, 0), ["signed-twice", "forked"]);
    // Heads that were signed for somebody may be as many as were asked for.
    let Reply::Head { record: first, .. } = world.ask(2, Request::SignHead).unwrap() else {
        panic!("no head")
    };
    note(&mut world, 2);
    world.now = world.now.plus_secs(1);
    let Reply::Head { record: second, .. } = world.ask(2, Request::SignHead).unwrap() else {
        panic!("no head")
    };
    [first, second].iter().for_each(|r| bring(&mut world, 1, 2, &Decoded::from_bytes(r).unwrap()));
    assert!(contradicted(&world, 1, 2).is_empty());
}

#[test]
fn no_head_is_signed_before_the_node_is_in_the_directory() {
    let mut world = World::apart(&["RXA", "RXB"]);
    note(&mut world, 0);
    world.pass(1);
    assert!(held(&world, 0, 0).is_empty(), "nobody but its neighbours could verify it");
    let entry = world.trusts[0].entry(world.network, &world.trusts[0].node, world.now);
    world.submit(0, &entry).unwrap();
    world.pass(1);
    assert_eq!(held(&world, 0, 0).len(), 1);
}

#[test]
fn a_log_that_goes_back_is_found() {
    let mut world = World::three();
    let before = head(&world, 0, 1000, 7, 600);
    bring(&mut world, 1, 0, &before);
    world.now = world.now.plus_secs(SLOT);
    let next = head(&world, 0, 1001, 7, 600);
    bring(&mut world, 1, 0, &next);
    assert!(contradicted(&world, 1, 0).is_empty());
    world.now = world.now.plus_secs(SLOT);
    let back = head(&world, 0, 999, 8, 600);
    bring(&mut world, 1, 0, &back);
    assert_eq!(contradicted(&world, 1, 0), ["went-back"]);
}

#[test]
fn a_node_that_contradicts_itself_in_turns_is_noted_once_for_each_way() {
    let mut world = World::three();
    let life = HEAD_SPANS[0].1;
    let first = head(&world, 0, 1_000_000, 7, life);
    bring(&mut world, 1, 0, &first);
    for n in 1..6 {
        // A log that was set back, and then a second head for one period.
        world.now = world.now.plus_secs(2 * SLOT);
        for (wait, number) in [(0, 1000 * n), (1, 1_000_000 + n)] {
            world.now = world.now.plus_secs(wait);
            let told = head(&world, 0, number, 7, life);
            bring(&mut world, 1, 0, &told);
        }
    }
    assert_eq!(contradicted(&world, 1, 0), ["went-back", "signed-twice"]);
    let shown = audit::contradictions(&world.nodes[1].store).unwrap();
    assert!(shown.len() == 2 && shown.iter().all(|(_, s)| s.records.len() == 2), "what shows each is kept");
}

#[test]
fn a_node_that_was_restored_from_an_older_copy_is_found_and_learns_of_it() {
    let mut world = World::three();
    world.pass(1);
    let copy = MemoryStore::new();
    let mut batch = lanyard_storage::Batch::new();
    world.nodes[0].store.rows().into_iter().for_each(|(tree, key, row)| batch.put(tree, key, row));
    lanyard_storage::Store::commit(&copy, batch).unwrap();
    (0..5).for_each(|_| note(&mut world, 0));
    world.pass(SLOT);
    let lost = held(&world, 1, 0).pop().unwrap();
    assert_eq!(held(&world, 0, 0).last(), Some(&lost));

    world.isolate(0);
    world.nodes[0].store = copy;
    let node = &mut world.nodes[0];
    node.replica = Replica::open(&node.store, world.trusts[0].own(), &world.charter).unwrap();
    world.connect(0, 1);
    world.settle();
    world.pass(31);
    assert_eq!(contradicted(&world, 0, 0), ["rows-lost"]);
    let stated = lost.stated(Holder::Other);
    let broken = check::stored(&world.nodes[0].store, &[stated]).unwrap().unwrap_err();
    assert!(matches!(broken, Broken::CutShort { .. } | Broken::Replaced { .. }), "{broken}");
    // Its next head says it to the others as well.
    (0..2).for_each(|_| world.pass(SLOT));
    assert_eq!(contradicted(&world, 1, 0).len(), 1);
}

#[test]
fn the_newest_row_is_signed_for_whoever_asks() {
    let mut world = World::three();
    note(&mut world, 0);
    let Reply::Head { record: bytes, .. } = world.ask(0, Request::SignHead).unwrap() else {
        panic!("no head")
    };
    let record = Decoded::from_bytes(&bytes).unwrap();
    let Body::Head(head) = record.body() else { panic!("no head") };
    let last = audit::last(&world.nodes[0].store).unwrap();
    assert_eq!(Place { number: head.number, hash: head.hash }, last);
    assert!(!world.holds(0, &record.id()), "it is not kept");
    assert_eq!(world.bring(1, 0, &record), None, "others would take it");
}

#[test]
fn what_a_node_can_have_others_keep_is_bounded() {
    let mut world = World::three();
    let before = world.rows(1, Tree::Heads);
    // As many as it likes, with every life that a record may have.
    for n in 0..200 {
        let lives = [1, 600, HEAD_SPANS[0].1, HEAD_SPANS[1].1, HEAD_SPANS[2].1, HEAD_SPANS[2].1 + DAY];
        for life in lives {
            let record = head(&world, 0, 1000 + n, 7, life + n % 3);
            bring(&mut world, 1, 0, &record);
        }
    }
    let kept = held(&world, 1, 0).len();
    assert!(kept <= 1 + HEAD_SPANS.len(), "{kept} heads of one moment");
    assert_eq!(world.rows(1, Tree::Heads) - before, 2 * kept + 1, "and that it has signed twice");
    world.pass(HEAD_SPANS[2].1 + 2 * DAY);
    assert_eq!(held(&world, 1, 0).len(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn replicas_keep_the_same_heads_in_any_order(
        made in prop::collection::vec((0..3u64, 1..4u64, 0..3u8, 0..4usize), 1..10),
        order in any::<u64>(),
    ) {
        let mut world = World::apart(&["RXA", "RXB", "RXC"]);
        for i in 0..3 {
            let entry = world.trusts[0].entry(world.network, &world.trusts[0].node, world.now);
            world.submit(i, &entry).unwrap();
        }
        let now = world.now;
        let lives = [600, HEAD_SPANS[0].1, HEAD_SPANS[1].1, HEAD_SPANS[2].1];
        let heads: Vec<_> = made.iter().map(|(at, number, hash, life)| {
            world.now = now.minus_secs(at * SLOT / 2);
            head(&world, 0, *number, *hash, lives[*life])
        }).collect();
        world.now = now;
        heads.iter().for_each(|record| bring(&mut world, 1, 0, record));
        let mut other = heads;
        let len = other.len();
        (0..len).for_each(|i| other.swap(i, (order as usize).wrapping_mul(i + 7) % len));
        other.iter().for_each(|record| bring(&mut world, 2, 0, record));
        prop_assert_eq!(held(&world, 1, 0), held(&world, 2, 0));
        // Of what both keep, each has been held against the others.
        let apart = |a: &HeldHead| held(&world, 1, 0).iter().any(|b| a.number == b.number && a.hash != b.hash);
        if held(&world, 1, 0).iter().any(apart) {
            prop_assert!([1, 2].iter().all(|at| contradicted(&world, *at, 0).last().is_some_and(|c| c == "forked")));
        }
    }
}
