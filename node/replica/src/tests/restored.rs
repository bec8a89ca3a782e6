//! A replica on a restored copy of its store (promise P6): it serves nothing before it knows what was deleted since.

use lanyard_crypto::gateway::SendRequest;
use lanyard_crypto::record::{Class, Decoded};
use lanyard_crypto::{Fingerprint, Timestamp};
use lanyard_storage::{Batch, MemoryStore, Store, Tree};

use super::fixtures::{self, RETENTION, Trust, key, named};
use super::world::{Node, World, assert_digests};
use crate::audit::AuditEntry;
use crate::frame::Frame;
use crate::restored::Awaited;
use crate::{Input, Output, Replica, Request, query, restored};

const ALL: [usize; 3] = [0, 1, 2];
const DEVICE: Fingerprint = Fingerprint::new([9; 32]);

/// RXC's store is copied while it holds both messages; then one of them is deleted everywhere, and RXC begins again with the copy.
struct Scene {
    world: World,
    kept: Decoded,
    deleted: Decoded,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::three();
        let conversation = fixtures::conversation(&world.trusts[0]);
        world.serve(2, &conversation, &DEVICE);
        let [kept, deleted] = [1, 2].map(|n| world.message(0, &conversation, n, &ALL));
        [&kept, &deleted].into_iter().for_each(|record| drop(world.submit(0, record).unwrap()));
        world.settle();
        assert_eq!(world.holders(&deleted.id()), ALL);
        let copy = MemoryStore::new();
        let mut rows = Batch::new();
        world.nodes[2].store.rows().into_iter().for_each(|(tree, key, row)| rows.put(tree, key, row));
        copy.commit(rows).unwrap();

        let order = fixtures::tombstone(&conversation, named(&[deleted.id()]));
        let order = world.trusts[0].sign(world.header(&ALL, RETENTION), order);
        world.submit(0, &order).unwrap();
        world.settle();
        assert_eq!(world.holders(&deleted.id()), []);
        mark(&copy, world.now);
        world.isolate(2);
        world.nodes[2].store = copy;
        world.nodes[2].outputs.clear();
        world.restart(2);
        Self { world, kept, deleted }
    }

    /// Whom it waits for; none if it serves.
    fn waits_for(&mut self) -> Option<Vec<String>> {
        let asked = self.world.ask(2, Request::Restoration).unwrap();
        let crate::Reply::Restoration(restoration) = asked else { panic!("{asked:?}") };
        let restoration = restoration.filter(|restoration| !restoration.serves);
        restoration.map(|r| r.waiting_for.iter().map(ToString::to_string).collect())
    }

    /// Ids of the envelopes that it has sent to anybody by any way.
    fn served(&self) -> Vec<String> {
        let mut sent: Vec<Vec<u8>> = Vec::new();
        for output in &self.world.nodes[2].outputs {
            match output {
                Output::Send { frame: Frame::Records(records), .. } => {
                    sent.extend(records.iter().map(|record| record.to_vec()));
                }
                Output::Publish(record) => sent.push(record.to_vec()),
                _ => {}
            }
        }
        let records = sent.iter().map(|bytes| Decoded::from_bytes(bytes).unwrap());
        let envelopes = records.filter(|r| r.body().kind() == lanyard_crypto::record::Kind::Envelope);
        envelopes.map(|record| record.id().to_string()).collect()
    }

    fn events(&self) -> Vec<String> {
        let audit = self.world.audit(2);
        audit.into_iter().filter(|entry| entry.event == "restored").map(|entry| entry.code).collect()
    }
}

fn mark(copy: &MemoryStore, now: Timestamp) {
    copy.commit(restored::mark(copy, now).unwrap()).unwrap();
}

#[test]
fn it_serves_nothing_before_it_has_compared_with_every_trust() {
    let mut scene = Scene::new();
    scene.world.gossips = false;
    let (kept, deleted) = (scene.kept.id(), scene.deleted.id());
    scene.world.pass(1);
    assert_eq!(scene.waits_for().unwrap(), ["RXA", "RXB"]);
    assert!(scene.world.holds(2, &deleted), "it does not know yet");

    // One of the two has told it; the other may know more.
    scene.world.connect(0, 2);
    (0..8).for_each(|_| scene.world.pass(1));
    assert!(!scene.world.holds(2, &deleted) && scene.world.holds(2, &kept));
    assert_eq!(scene.waits_for().unwrap(), ["RXB"]);
    assert_eq!(scene.served(), Vec::<String>::new());
    assert_eq!(scene.events(), ["waiting"]);

    scene.world.connect(1, 2);
    (0..8).for_each(|_| scene.world.pass(1));
    assert_eq!(scene.waits_for(), None);
    assert_eq!(scene.events()[..2], ["waiting", "serving"]);
    let inbox = scene.world.inbox(2, &DEVICE, 0);
    assert_eq!(inbox.iter().map(|(_, id)| *id).take(2).collect::<Vec<_>>(), [Some(kept), None]);
    assert!(inbox[2].0 > inbox[1].0 + (1 << 27), "behind all that the device can have seen");
    assert!(inbox.len() > 2, "the tombstone");
    assert_digests(&scene.world, 2);

    // It does so only once, and takes part as before.
    scene.world.restart(2);
    assert_eq!(scene.waits_for(), None);
    scene.world.connect_all();
    (0..12).for_each(|_| scene.world.pass(1));
    assert_eq!(scene.events(), ["waiting", "serving", "waiting", "ordering"]);
    let record = scene.world.message(2, &fixtures::conversation(&scene.world.trusts[0]), 3, &ALL);
    scene.world.submit(2, &record).unwrap();
    scene.world.settle();
    assert_eq!(scene.world.holders(&record.id()), ALL);
}

/// By no way: from its outbox, by gossip, by anti-entropy, or to its own devices; nor does it take what it could not send on.
#[test]
fn an_envelope_goes_nowhere_meanwhile() {
    let mut scene = Scene::new();
    // What waits for a trust; and a peer that lacks everything.
    let mut batch = Batch::new();
    let trust = scene.world.trusts[1].id.clone();
    for (seq, record) in [(101, &scene.kept), (102, &scene.deleted)] {
        batch.put(Tree::Outbox, crate::keys::outbox(&trust, seq), *record.id().as_bytes());
    }
    scene.world.nodes[2].store.commit(batch).unwrap();
    let (_, waiting) = query::outbox(&scene.world.nodes[2].store, &trust, 0, scene.world.now).unwrap();
    assert!(waiting.iter().all(|bytes| Decoded::from_bytes(bytes).unwrap().id() != scene.deleted.id()));
    assert!(waiting.iter().all(|bytes| Decoded::from_bytes(bytes).unwrap().id() != scene.kept.id()));

    let conversation = fixtures::conversation(&scene.world.trusts[0]);
    scene.world.nodes[1] = Node::new(&scene.world.trusts[1], &scene.world.charter);
    scene.world.connect(1, 2);
    scene.world.drain(2, 1);
    (0..40).for_each(|_| scene.world.pass(1));
    assert_eq!(scene.served(), Vec::<String>::new());
    assert!(restored::is_marked(&scene.world.nodes[2].store).unwrap());
    // A peer that asks for it by name, and one that passes a message on.
    let from = scene.world.trusts[1].node_id();
    let want = Frame::Want(crate::frame::Want::of(7, &[scene.kept.id(), scene.deleted.id()]));
    scene.world.step(2, Input::Frame { from, frame: want });
    let fresh = scene.world.message(0, &conversation, 7, &ALL);
    let message = fresh.id().as_bytes().to_vec();
    scene.world.arrive(2, crate::Source::Gossip { from, message }, &[fresh.bytes().to_vec()]);
    assert!(scene.world.holds(2, &fresh.id()), "it takes what is new");
    let ignored = |o: &Output| matches!(o, Output::Verdict { verdict: crate::verdict::Verdict::Ignore, .. });
    assert!(scene.world.nodes[2].outputs.iter().any(ignored));
    assert_eq!(scene.served(), Vec::<String>::new());

    let request = SendRequest {
        conversation,
        epoch: 1,
        class: Class::Application,
        content: vec![1; 64],
        custodians: vec![],
        expires: scene.world.now.plus_secs(1000),
    };
    let refused = scene.world.ask(2, Request::Send { device: DEVICE, request });
    assert_eq!(refused.unwrap_err(), "restored");
}

#[test]
fn a_trust_that_is_gone_is_left_out_by_the_operator() {
    let mut scene = Scene::new();
    scene.world.connect(0, 2);
    (0..8).for_each(|_| scene.world.pass(1));
    assert_eq!(scene.waits_for().unwrap(), ["RXB"]);
    let [gone, known] = [1, 0].map(|at| scene.world.trusts[at].id.clone());
    assert_eq!(scene.world.ask(2, Request::LeaveOut(Awaited::Trust(known))).unwrap_err(), "not-found");
    scene.world.ask(2, Request::LeaveOut(Awaited::Trust(gone.clone()))).unwrap();
    assert_eq!(scene.waits_for(), None);
    assert_eq!(scene.events(), ["waiting", "without", "serving"]);
    assert_eq!(scene.world.ask(2, Request::LeaveOut(Awaited::Trust(gone))).unwrap_err(), "not-found");
}

/// What concerns its trust alone, another node of that trust may be the only one to know.
#[test]
fn each_other_node_of_its_trust_is_waited_for() {
    let mut scene = Scene::new();
    let world = &mut scene.world;
    // The seed of RXC in `World::apart`.
    let mut sibling = Trust::new("RXC", 7);
    let second = key(99);
    (sibling.node, sibling.node_key) = (sibling.second_node(&second), second);
    let id = sibling.node_id();
    world.nodes.push(Node::new(&sibling, &world.charter));
    let entry = sibling.entry(world.network, &sibling.node, world.now);
    world.trusts.push(sibling);
    world.submit(3, &entry).unwrap();
    world.connect(0, 3);
    (0..40).for_each(|_| world.pass(1));

    [0, 1].into_iter().for_each(|at| scene.world.connect(at, 2));
    (0..12).for_each(|_| scene.world.pass(1));
    assert_eq!(scene.waits_for().unwrap(), [id.to_string()], "of which it has learnt meanwhile");
    scene.world.connect(3, 2);
    (0..12).for_each(|_| scene.world.pass(1));
    assert_eq!(scene.waits_for(), None);

    // All of them are left out by the code of the trust, or one by its id.
    for gone in [Awaited::Trust(scene.world.trusts[2].id.clone()), Awaited::Node(id)] {
        let store = &scene.world.nodes[2].store;
        mark(store, scene.world.now);
        scene.world.restart(2);
        [0, 1].into_iter().for_each(|at| scene.world.connect(at, 2));
        (0..12).for_each(|_| scene.world.pass(1));
        assert_eq!(scene.waits_for().unwrap(), [id.to_string()]);
        scene.world.ask(2, Request::LeaveOut(gone)).unwrap();
        assert_eq!(scene.waits_for(), None);
    }
}

/// What was compared before a restart may have changed since.
#[test]
fn a_restart_begins_anew() {
    let mut scene = Scene::new();
    scene.world.connect(0, 2);
    (0..8).for_each(|_| scene.world.pass(1));
    assert_eq!(scene.waits_for().unwrap(), ["RXB"]);
    scene.world.restart(2);
    assert_eq!(scene.waits_for().unwrap(), ["RXA", "RXB"]);
}

/// RXC's store is lost while RXA still holds what was deleted meanwhile: only RXB knows.
#[test]
fn a_node_that_has_lost_its_store_waits_likewise() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    let deleted = world.message(0, &conversation, 1, &ALL);
    world.submit(0, &deleted).unwrap();
    // Heads of the audit logs.
    world.pass(1);
    world.settle();
    assert_eq!(world.holders(&deleted.id()), ALL);
    world.isolate(0);
    let order = fixtures::tombstone(&conversation, named(&[deleted.id()]));
    let order = world.trusts[0].sign(world.header(&ALL, RETENTION), order);
    world.submit(1, &order).unwrap();
    world.settle();
    assert_eq!(world.holders(&deleted.id()), [0]);

    world.isolate(2);
    world.nodes[2] = Node::new(&world.trusts[2], &world.charter);
    let mut scene = Scene { world, kept: deleted.clone(), deleted };
    scene.world.connect(0, 2);
    (0..8).for_each(|_| scene.world.pass(1));
    assert_eq!(scene.events()[..1], ["lost"]);
    assert_eq!(scene.waits_for().unwrap(), ["RXB"]);
    assert_eq!(scene.world.holders(&scene.deleted.id()), [0], "it is not asked for");
    scene.world.connect(1, 2);
    (0..24).for_each(|_| scene.world.pass(1));
    assert_eq!(scene.waits_for(), None);
    assert_eq!(scene.world.holders(&scene.deleted.id()), []);
    assert_eq!(scene.served(), Vec::<String>::new());

    // What is known is not found out again, and another loss is.
    (0..60).for_each(|_| scene.world.pass(60));
    scene.world.restart(2);
    scene.world.connect_all();
    (0..12).for_each(|_| scene.world.pass(1));
    assert_eq!(scene.events().iter().filter(|event| *event == "lost").count(), 1);
    scene.world.isolate(2);
    scene.world.nodes[2] = Node::new(&scene.world.trusts[2], &scene.world.charter);
    scene.world.connect_all();
    (0..12).for_each(|_| scene.world.pass(1));
    assert_eq!(scene.events()[..1], ["lost"]);
}

/// A store that was set back by other means than a backup, such as a copy of its disk.
#[test]
fn a_node_whose_store_was_set_back_waits_likewise() {
    let mut scene = Scene::new();
    let world = &mut scene.world;
    (0..8).for_each(|_| world.pass(1));
    world.connect_all();
    (0..12).for_each(|_| world.pass(1));
    let copy = MemoryStore::new();
    let mut rows = Batch::new();
    world.nodes[2].store.rows().into_iter().for_each(|(tree, key, row)| rows.put(tree, key, row));
    copy.commit(rows).unwrap();
    (0..60).for_each(|_| world.pass(60));
    let conversation = fixtures::conversation(&world.trusts[0]);
    for n in 11..31 {
        let message = world.message(0, &conversation, n, &ALL);
        world.submit(0, &message).unwrap();
        world.settle();
    }
    world.step(2, Input::Note(AuditEntry::new("noted", "", "")));
    (0..20).for_each(|_| world.pass(60));
    let (seen, last) = *world.inbox(2, &DEVICE, 0).last().unwrap();
    world.isolate(2);
    // Of these the device is told by what comes before the first head of the log.
    let order = fixtures::tombstone(&conversation, named(&[last.unwrap()]));
    let order = world.trusts[0].sign(world.header(&ALL, RETENTION), order);
    world.submit(0, &order).unwrap();
    world.settle();
    world.nodes[2].store = copy;
    world.restart(2);
    world.connect(0, 2);
    (0..12).for_each(|_| world.pass(1));
    assert!(scene.events().ends_with(&["lost".into(), "waiting".into()]), "{:?}", scene.events());
    assert_eq!(scene.waits_for().unwrap(), ["RXB"]);
    scene.world.connect(1, 2);
    (0..24).for_each(|_| scene.world.pass(1));
    assert_eq!(scene.waits_for(), None);

    // The device has seen positions that the copy had yet to give, and misses nothing all the same.
    let message = scene.world.message(0, &conversation, 40, &ALL);
    scene.world.submit(0, &message).unwrap();
    scene.world.settle();
    (0..4).for_each(|_| scene.world.pass(1));
    let come: Vec<_> = scene.world.inbox(2, &DEVICE, seen).into_iter().filter_map(|(_, id)| id).collect();
    for id in [order.id(), message.id()] {
        assert!(come.contains(&id), "{id} was never given to the device");
    }
}

/// A peer is not made to begin more rounds than are of use.
#[test]
fn a_peer_that_asks_for_rounds_gets_one_in_five_seconds() {
    let mut world = World::three();
    world.pass(100);
    let from = world.trusts[1].node_id();
    let mut begun: Vec<Timestamp> = Vec::new();
    for _ in 0..20 {
        world.nodes[0].outputs.clear();
        (0..10).for_each(|_| world.step(0, Input::Frame { from, frame: Frame::Begin }));
        world.pass(1);
        let roots = |o: &&Output| matches!(o, Output::Send { to, frame: Frame::Roots(_) } if *to == from);
        begun.extend(world.nodes[0].outputs.iter().filter(roots).map(|_| world.now));
    }
    assert!((3..=5).contains(&begun.len()), "{begun:?}");
}

/// The mark alone decides, so that a replica that is opened anew in the middle, as after an error, serves no more than before.
#[test]
fn a_replica_that_is_opened_anew_is_still_restored() {
    let scene = Scene::new();
    let world = &scene.world;
    let replica = Replica::open(&world.nodes[2].store, world.trusts[2].own(), &world.charter).unwrap();
    assert!(replica.restored.is_some());
}

/// A device that had nothing in its inbox when the copy was made has seen positions since that begin where a new inbox would not.
#[test]
fn an_inbox_that_begins_anew_begins_behind_what_its_device_has_seen() {
    let mut world = World::three();
    let conversation = fixtures::conversation(&world.trusts[0]);
    world.serve(2, &conversation, &DEVICE);
    for n in 1..4 {
        let message = world.message(0, &conversation, n, &ALL);
        world.submit(0, &message).unwrap();
        world.settle();
    }
    let (seen, _) = *world.inbox(2, &DEVICE, 0).last().unwrap();
    world.pass(1);
    // A store without anything, as where it was lost and there is no backup.
    world.isolate(2);
    world.nodes[2] = Node::new(&world.trusts[2], &world.charter);
    world.serve(2, &conversation, &DEVICE);
    world.connect_all();
    (0..40).for_each(|_| world.pass(1));
    let message = world.message(0, &conversation, 9, &ALL);
    world.submit(0, &message).unwrap();
    world.settle();
    assert_eq!(world.inbox(2, &DEVICE, seen).last().unwrap().1, Some(message.id()));
}

/// However many devices there are, the mark is small, and behind all of them; and so is another one, of a copy on which nothing was given since the first.
#[test]
fn a_mark_is_behind_every_device_and_every_mark_before() {
    let (store, newest) = (MemoryStore::new(), 1u64 << 60);
    let mut batch = Batch::new();
    for n in 0..40_000u64 {
        let device = [&n.to_be_bytes()[..], &[7; 24]].concat();
        batch.put(Tree::Devices, device, (newest - n).to_be_bytes());
    }
    store.commit(batch).unwrap();
    let mut before = newest;
    for _ in 0..3 {
        let batch = restored::mark(&store, fixtures::NOW).unwrap();
        assert!(batch.len() < 10, "{batch:?}");
        store.commit(batch).unwrap();
        let base = restored::inbox_base_of(&store).unwrap();
        assert!(base > before + (1 << 27), "what was given since the last one is behind it");
        before = base;
    }
}
