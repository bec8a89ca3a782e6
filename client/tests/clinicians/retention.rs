//! How long messages live: what members see of it, who changes it, and what ends sooner.

use std::time::Duration;

use lanyard_client::agent;
use lanyard_client::app::AppError;
use lanyard_client::app::view::Moment;
use lanyard_client::clock;
use lanyard_client::node::NodeError;
use lanyard_client::vault::{Vault, VaultKey};
use lanyard_crypto::charter::{ByClass, TrustRetention};
use lanyard_crypto::mls::Class;
use lanyard_crypto::record::{Body, Decoded, Reason, Target, Tombstone};
use lanyard_crypto::{ConversationId, RecordId};

use crate::conversations::{MARKER, Person, three};
use crate::world::World;

const DAY: u64 = 24 * 3600;

/// When the one message ends, counted from when it was issued.
fn life(person: &Person) -> u64 {
    let mut app = person.app();
    app.sync().unwrap();
    let messages = app.messages(None, 10).unwrap().messages;
    let [message] = messages.as_slice() else { panic!("one message") };
    let (Moment(sent), Moment(expires)) = (message.sent, message.expires);
    expires.as_secs() - sent.as_secs()
}

#[test]
fn members_see_the_shortest_and_what_is_there_ends_with_it() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, other_mira] = three(&world);
    let by_class = ByClass { clinical: Some(20 * DAY), ..ByClass::default() };
    world.state().retention = TrustRetention { secs_max: None, by_class };
    mira.app().sync().unwrap();
    let with = ["Jo Lund".to_owned(), "Mira Okafor@RYJ".to_owned()];
    let view = mira.app().new_conversation("Bed 4", Class::Clinical, &with, None).unwrap();
    assert_eq!(view.retention_secs, 20 * DAY, "what the owner trust keeps of clinical conversations");
    let longer = mira.app().new_conversation("Beds", Class::Clinical, &with, Some(21 * DAY));
    assert!(
        matches!(longer, Err(AppError::TooLongKept { class: "clinical", max_secs }) if max_secs == 20 * DAY)
    );
    // What another trust keeps of its own conversations says nothing of this one.
    world.state().retention = TrustRetention { secs_max: None, ..TrustRetention::default() };

    mira.app().send("Bed 4", MARKER, None).unwrap();
    assert!(matches!(mira.app().send("Bed 4", MARKER, Some(25 * DAY)), Err(AppError::TooLong { .. })));
    let lives = [&mira, &jo, &other_mira].map(life);
    assert!(lives.iter().all(|life| *life <= 20 * DAY && *life > 19 * DAY), "{lives:?}");
    assert_eq!(jo.app().conversation("Bed 4").unwrap().retention_secs, 20 * DAY);

    // Jo is not of the owner trust; Mira is, and administers.
    let refused = jo.app().set_retention("Bed 4", DAY);
    assert!(matches!(refused, Err(AppError::NotOwner { owner }) if owner == "RTD"));
    let view = mira.app().set_retention("Bed 4", DAY).unwrap();
    assert_eq!(view.retention_secs, DAY);
    let synced = jo.app().sync().unwrap();
    let notice = "messages of [clinical] \"Bed 4\" live for at most 1 day from now on; it was 20 days";
    assert_eq!(synced.notices, [notice]);
    assert_eq!(jo.app().sync().unwrap().notices, Vec::<String>::new(), "told once");
    assert_eq!([&mira, &jo, &other_mira].map(life), [DAY; 3], "what is there as well");

    // Who has administered it keeps the setting.
    let two = mira.app().set_retention("Bed 4", 2 * DAY).unwrap();
    assert_eq!(two.retention_secs, 2 * DAY);
    assert_eq!(life(&jo), DAY, "what ends does not live on");
}

#[test]
fn messages_end_by_the_clock_of_the_device() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, _] = three(&world);
    mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    mira.app().send("Bed 4", MARKER, None).unwrap();
    assert_eq!(jo.texts(), [MARKER]);
    mira.app().set_retention("Bed 4", 1).unwrap();
    // Bounded: a second's life ends within a few.
    for tries in 0.. {
        jo.app().sync().unwrap();
        if jo.texts().is_empty() && mira.texts().is_empty() {
            return;
        }
        assert!(tries < 20, "the message is still there");
        std::thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn a_standing_order_counts_from_the_owner_alone_also_for_what_comes_later() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, other_mira] = three(&world);
    let with = ["Jo Lund".to_owned(), "Mira Okafor@RYJ".to_owned()];
    let view = mira.app().new_conversation("Bed 4", Class::Clinical, &with, None).unwrap();
    let sent = mira.app().send("Bed 4", MARKER, None).unwrap();
    let long = life(&jo);
    let original = world.state().inbox.pop().unwrap();
    let newest = Decoded::from_bytes(&original.bytes).unwrap();
    assert!(matches!(newest.body(), Body::Envelope(_)), "the message is the newest");
    let up_to = sent.sent.0;
    for (trust, secs, expected) in
        [(1, DAY, long), (0, 3 * DAY, 3 * DAY), (0, 2 * DAY, 2 * DAY), (0, 4 * DAY, 2 * DAY)]
    {
        order(&world, trust, &view.id, Target::Standing(up_to, secs));
        assert_eq!(life(&jo), expected);
    }
    // The other Mira gets the message only now, after the orders.
    world.state().inbox.push(original);
    assert_eq!(life(&other_mira), 2 * DAY);
}

/// A trust orders this about a conversation, which the first one owns.
fn order(world: &World, trust: usize, conversation: &str, target: Target) -> RecordId {
    let custodians: Vec<_> = world.trusts.iter().map(|t| t.id.clone()).collect();
    let expires = clock::now().plus_secs(DAY);
    let conversation: ConversationId = conversation.parse().unwrap();
    let (reason, reference) = (Reason::PolicyExpired, Vec::new());
    let body = Body::Tombstone(Tombstone { conversation, target, reason, reference });
    world.publish(&mut world.state(), &world.trusts[trust], &custodians, expires, body).0
}

#[test]
fn a_device_says_that_a_standing_order_is_carried_out_when_its_last_message_is_gone() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, _] = three(&world);
    let with = ["Jo Lund".to_owned()];
    let view = mira.app().new_conversation("Bed 4", Class::Clinical, &with, None).unwrap();
    let sent = mira.app().send("Bed 4", MARKER, None).unwrap().sent.0;
    assert_eq!(jo.texts(), [MARKER]);
    order(&world, 0, &view.id, Target::Standing(sent, DAY));
    let soon = order(&world, 0, &view.id, Target::Standing(sent, 1));
    // Bounded: a second's life ends within a few.
    for tries in 0..20 {
        jo.app().sync().unwrap();
        if !world.state().erased.is_empty() {
            break;
        }
        assert!(tries < 19, "it is never told");
        std::thread::sleep(Duration::from_millis(500));
    }
    let told: Vec<_> = world.state().erased.iter().map(|line| (line.tombstone(), line.erased())).collect();
    let [(told, erased)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((*told, jo.texts().as_slice()), (soon, [].as_slice()));
    assert!(*erased >= sent.plus_secs(1));
}

#[test]
fn who_left_carries_out_deletions_of_what_was_read() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, _] = three(&world);
    let with = ["Jo Lund".to_owned()];
    let view = mira.app().new_conversation("Bed 4", Class::Clinical, &with, Some(DAY)).unwrap();
    let sent = mira.app().send("Bed 4", MARKER, None).unwrap().sent.0;
    assert_eq!(jo.texts(), [MARKER]);
    mira.app().remove_members("Bed 4", &with).unwrap();
    assert_eq!(jo.app().sync().unwrap().notices, ["you were taken out of a conversation"]);
    assert_eq!(jo.app().sync().unwrap().notices, Vec::<String>::new());
    assert_eq!(jo.app().conversation("Bed 4").unwrap().retention_secs, DAY, "as it was when Jo left");
    assert_eq!(jo.texts(), [MARKER], "what was read stays until it expires");
    let deletion = order(&world, 0, &view.id, Target::UpTo(sent));
    jo.app().sync().unwrap();
    assert!(jo.texts().is_empty());
    assert!(world.state().erased.iter().any(|line| line.tombstone() == deletion));
}

#[test]
fn who_left_keeps_a_setting_that_an_earlier_version_had_not_noted() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, _] = three(&world);
    let with = ["Jo Lund".to_owned()];
    let view = mira.app().new_conversation("Bed 4", Class::Clinical, &with, Some(DAY)).unwrap();
    mira.app().send("Bed 4", MARKER, None).unwrap();
    assert_eq!(life(&jo), DAY);
    {
        let opened = agent::opened(&jo.profile, true).unwrap().unwrap();
        let key = VaultKey::new(**opened.key);
        let vault = Vault::open(&jo.profile.vault_path(), &key).unwrap();
        let setting = format!("setting/{}", view.id);
        assert_eq!(vault.cursor(&setting).unwrap(), DAY);
        vault.set_cursor(&setting, 0).unwrap();
    }
    mira.app().remove_members("Bed 4", &with).unwrap();
    assert_eq!(jo.app().sync().unwrap().notices, ["you were taken out of a conversation"]);
    assert_eq!(jo.app().conversation("Bed 4").unwrap().retention_secs, DAY);
}

#[test]
fn a_shorter_life_does_not_wait_for_the_rest_of_a_sync() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, ..] = three(&world);
    mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    mira.app().send("Bed 4", MARKER, None).unwrap();
    assert!(life(&mira) > DAY);
    {
        let mut state = world.state();
        state.retention = TrustRetention { secs_max: Some(DAY), ..TrustRetention::default() };
        state.refuses_inbox = true;
    }
    for _ in 0..2 {
        assert!(matches!(mira.app().sync(), Err(AppError::Node(NodeError::Refused { status: 503, .. }))));
    }
    let message = mira.app().messages(None, 10).unwrap().messages.remove(0);
    assert_eq!(message.expires.0, message.sent.0.plus_secs(DAY));

    // It is told by the first sync that comes to its end.
    world.state().refuses_inbox = false;
    let notices = mira.app().sync().unwrap().notices;
    assert!(notices.len() == 1 && notices[0].contains("live for at most 1 day from now on"), "{notices:?}");
    assert_eq!(mira.app().sync().unwrap().notices, Vec::<String>::new());
}
