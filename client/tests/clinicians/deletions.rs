//! Deletions: what the node shows of one has to be about that one.

use lanyard_client::app::AppError;
use lanyard_client::app::view::DeletionView;
use lanyard_client::clock;
use lanyard_crypto::gateway::{DeletionResponse, InboxRecord};
use lanyard_crypto::limits::CLOCK_SKEW_SECS_MAX;
use lanyard_crypto::mls::Class;
use lanyard_crypto::record::{self, Body, Header, Reason, Target, Tombstone};
use lanyard_crypto::{ConversationId, RecordId, Timestamp};

use crate::conversations::{MARKER, Person, three};
use crate::world::{LIFE_SECS, World};

/// What is in the vault, without a sync.
fn kept(person: &Person) -> Vec<String> {
    person.app().messages(None, 10).unwrap().messages.into_iter().map(|m| m.text).collect()
}

fn is_of_another(outcome: Result<DeletionView, AppError>) {
    is_refused(outcome, "another deletion");
}

fn is_refused(outcome: Result<DeletionView, AppError>, words: &str) {
    let Err(AppError::Evidence(why)) = outcome else { panic!("{outcome:?}") };
    assert!(why.contains(words), "{why}");
}

/// What a node shows of this order, of which nobody has confirmed anything, if a trust's node signed it then.
fn shown(world: &World, trust: usize, order: &Tombstone, issued: Timestamp) -> DeletionResponse {
    let trust = &world.trusts[trust];
    let custodians = world.trusts.iter().map(|t| t.id.clone()).collect();
    let expires = issued.plus_secs(LIFE_SECS);
    let header = Header { network: Some(world.network), custodians, issued, expires };
    let body = Body::Tombstone(order.clone());
    let record = record::sign(header, body, trust.node.fingerprint(), &trust.node_key).unwrap();
    DeletionResponse {
        tombstone: record.id(),
        record: record.bytes().to_vec(),
        chain: trust.chain(),
        replicas: Vec::new(),
        devices: Vec::new(),
    }
}

/// The same with another signature than the node's.
fn forged(mut shown: DeletionResponse) -> DeletionResponse {
    *shown.record.last_mut().unwrap() ^= 1;
    shown.tombstone = record::Decoded::from_bytes(&shown.record).unwrap().id();
    shown
}

#[test]
fn an_answer_about_another_deletion_is_not_believed() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, ..] = three(&world);
    let view = mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    let id: ConversationId = view.id.parse().unwrap();
    let elsewhere = ConversationId::new([9; 16], id.owner().clone());
    let [first, second] =
        [MARKER, "noted"].map(|text| mira.app().send("Bed 4", text, None).unwrap().id.unwrap());
    let named = |id: &str| Target::Envelopes(vec![id.parse::<RecordId>().unwrap()]);
    let now = mira.app().messages(None, 10).unwrap().messages[0].sent.0;

    let reason = Reason::SentInError;
    for (conversation, target) in
        [(&id, named(&second)), (&elsewhere, named(&first)), (&id, Target::UpTo(now))]
    {
        world.state().orders = Some((conversation.clone(), target));
        is_of_another(mira.app().delete(&first, reason));
        assert_eq!(kept(&mira), [MARKER, "noted"]);
    }
    for (conversation, target) in
        [(&id, named(&first)), (&elsewhere, Target::UpTo(now)), (&id, Target::Standing(now, 1))]
    {
        world.state().orders = Some((conversation.clone(), target));
        is_of_another(mira.app().delete_all("Bed 4", reason));
        assert_eq!(kept(&mira), [MARKER, "noted"]);
    }

    world.state().orders = None;
    let one = mira.app().delete(&first, reason).unwrap().id.parse().unwrap();
    assert_eq!(kept(&mira), ["noted"]);
    let other = mira.app().delete_all("Bed 4", reason).unwrap().id.parse().unwrap();
    assert_eq!(kept(&mira), Vec::<String>::new());
    assert_eq!(mira.app().deletion(&one).unwrap().id, one.to_string());
    let shown = world.state().deletions[&other].clone();
    world.state().deletions.insert(one, shown);
    is_of_another(mira.app().deletion(&one));
}

#[test]
fn an_order_that_the_own_trust_has_not_signed_erases_nothing() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, ..] = three(&world);
    let view = mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    let id = mira.app().send("Bed 4", MARKER, None).unwrap().id.unwrap();
    let (now, reason) = (clock::now(), Reason::SentInError);
    let order =
        |target| Tombstone { conversation: view.id.parse().unwrap(), target, reason, reference: Vec::new() };
    let one = order(Target::Envelopes(vec![id.parse().unwrap()]));
    let all = order(Target::UpTo(now));
    let answers = |order| {
        [
            (shown(&world, 1, order, now), "RXH has ordered it"),
            (forged(shown(&world, 0, order, now)), "signature"),
        ]
    };
    for (answer, why) in answers(&one) {
        world.state().shows = Some(answer);
        is_refused(mira.app().delete(&id, reason), why);
        assert_eq!(kept(&mira), [MARKER]);
    }
    for (answer, why) in answers(&all) {
        world.state().shows = Some(answer);
        is_refused(mira.app().delete_all("Bed 4", reason), why);
        assert_eq!(kept(&mira), [MARKER]);
    }

    world.state().shows = Some(shown(&world, 0, &one, now));
    mira.app().delete(&id, reason).unwrap();
    assert_eq!(kept(&mira), Vec::<String>::new());
}

#[test]
fn another_order_for_the_same_is_not_the_one_that_was_asked_for() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, ..] = three(&world);
    let view = mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    let id = mira.app().send("Bed 4", MARKER, None).unwrap().id.unwrap();
    let (now, reason) = (clock::now(), Reason::SentInError);
    let order = |target, reason| Tombstone {
        conversation: view.id.parse().unwrap(),
        target,
        reason,
        reference: Vec::new(),
    };
    let show = |order: &Tombstone, issued| world.state().shows = Some(shown(&world, 0, order, issued));
    let named = || Target::Envelopes(vec![id.parse().unwrap()]);

    show(&order(named(), Reason::Incident), now);
    is_of_another(mira.app().delete(&id, reason));
    show(&order(Target::UpTo(now), Reason::Incident), now);
    is_of_another(mira.app().delete_all("Bed 4", reason));
    let earlier = now.minus_secs(CLOCK_SKEW_SECS_MAX + 1);
    show(&order(Target::UpTo(earlier), reason), now);
    is_of_another(mira.app().delete_all("Bed 4", reason));
    show(&order(Target::UpTo(now.plus_secs(1)), reason), now);
    is_refused(mira.app().delete_all("Bed 4", reason), "later than it can be");
    let (skewed, later) = (now.plus_secs(CLOCK_SKEW_SECS_MAX), now.plus_secs(2 * CLOCK_SKEW_SECS_MAX));
    show(&order(Target::UpTo(later), reason), later);
    is_refused(mira.app().delete_all("Bed 4", reason), "later than it can be");
    assert_eq!(kept(&mira), [MARKER]);

    // By as much as clocks may differ, an honest node's answer is dated so.
    show(&order(Target::UpTo(skewed), reason), skewed);
    mira.app().delete_all("Bed 4", reason).unwrap();
    assert_eq!(kept(&mira), Vec::<String>::new());
}

#[test]
fn a_tombstone_is_about_nothing_that_comes_after_it() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, _] = three(&world);
    let view = mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    mira.app().send("Bed 4", MARKER, None).unwrap();
    assert_eq!(jo.texts(), [MARKER]);
    let now = clock::now();
    let hand_over = |target| {
        let conversation = view.id.parse().unwrap();
        let order = Tombstone { conversation, target, reason: Reason::Incident, reference: Vec::new() };
        let DeletionResponse { record, chain, .. } = shown(&world, 0, &order, now);
        world.state().inbox.push(InboxRecord { bytes: record, chain });
        jo.app().sync().unwrap()
    };
    let next_year = now.plus_secs(365 * 24 * 3600);
    for target in [Target::UpTo(now.plus_secs(1)), Target::UpTo(next_year), Target::Standing(next_year, 3600)]
    {
        let synced = hand_over(target);
        assert_eq!((synced.erased, synced.expired, synced.refused.len()), (0, 0, 1));
        assert!(synced.refused[0].contains("a later time than that of its order"), "{:?}", synced.refused);
    }
    mira.app().send("Bed 4", "noted", None).unwrap();
    assert_eq!(jo.texts(), [MARKER, "noted"]);
    assert!(world.state().erased.is_empty(), "nothing is said to have been carried out");

    assert_eq!(hand_over(Target::UpTo(now)).refused, Vec::<String>::new());
    assert!(!kept(&jo).contains(&MARKER.to_owned()));
}
