//! What arrives before the device can judge it, and what is never decided.

use std::time::Duration;

use lanyard_client::app::view::ConversationState;
use lanyard_crypto::mls::Class;
use lanyard_crypto::record::{Body, Decoded, Reason, Target, Tombstone};

use crate::beliefs::next_with;
use crate::conversations::{MARKER, three};
use crate::world::World;

#[test]
fn what_the_charter_does_not_carry_yet_is_read_when_it_does() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, other_mira] = three(&world);
    let with = ["Jo Lund".to_owned(), "Mira Okafor@RYJ".to_owned()];
    mira.app().new_conversation("Bed 4", Class::Clinical, &with, None).unwrap();
    other_mira.app().sync().unwrap();
    let without = next_with(&world, &world.charter, &world.authority, |t| t.as_str() != "RYJ");
    let again = next_with(&world, &without, &world.authority, |_| true);
    world.state().charter = Some(without);
    jo.app().sync().unwrap();

    other_mira.app().send("Bed 4", MARKER, None).unwrap();
    // The same with a signature that no charter makes right.
    let mut forged = world.state().inbox.last().unwrap().clone();
    *forged.bytes.last_mut().unwrap() ^= 1;
    world.state().inbox.push(forged);
    let refused = jo.app().sync().unwrap().refused;
    let said = |words: &str| refused.iter().filter(|r| r.contains(words)).count();
    assert_eq!((refused.len(), said("not in the charter"), said("tried again")), (2, 2, 2), "{refused:?}");
    assert_eq!(jo.texts(), Vec::<String>::new());

    world.state().charter = Some(again);
    let synced = jo.app().sync().unwrap();
    assert_eq!(synced.received, 1);
    assert!(
        synced.refused.len() == 1 && synced.refused[0].ends_with("the signature does not verify"),
        "{:?}",
        synced.refused
    );
    assert_eq!(jo.texts(), [MARKER]);
}

#[test]
fn a_deletion_that_comes_before_its_message_counts_only_from_who_may() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, _jo, other_mira] = three(&world);
    let with = ["Jo Lund".to_owned(), "Mira Okafor@RYJ".to_owned()];
    mira.app().new_conversation("Bed 4", Class::Clinical, &with, None).unwrap();
    let custodians: Vec<_> = world.trusts.iter().map(|t| t.id.clone()).collect();
    for (deleter, left) in [(1, 1), (0, 1)] {
        let sent = mira.app().send("Bed 4", MARKER, None).unwrap();
        let original = world.state().inbox.pop().unwrap();
        let Body::Envelope(envelope) = Decoded::from_bytes(&original.bytes).unwrap().body().clone() else {
            panic!("the message is the newest")
        };
        let body = Body::Tombstone(Tombstone {
            conversation: envelope.conversation,
            target: Target::Envelopes(vec![sent.id.unwrap().parse().unwrap()]),
            reason: Reason::Incident,
            reference: Vec::new(),
        });
        let (trust, expires) = (&world.trusts[deleter], sent.expires.0);
        world.publish(&mut world.state(), trust, &custodians, expires, body);
        world.state().inbox.push(original);
        assert_eq!(other_mira.texts().len(), left);
    }
}

#[test]
fn a_change_that_the_owner_trust_has_refused_does_not_wait_for_ever() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, ..] = three(&world);
    world.state().hub_away = true;
    let mut app = mira.app();
    app.set_patience(Duration::ZERO);
    let with = ["Jo Lund".to_owned()];
    let view = app.new_conversation("Rota", Class::Operational, &with, None).unwrap();
    assert_eq!(view.state, ConversationState::Waiting);
    app.sync().unwrap();
    assert_eq!(app.conversation("Rota").unwrap().state, ConversationState::Waiting);

    world.state().hub_refuses = Some("stale-epoch".into());
    let notices = app.sync().unwrap().notices;
    assert!(
        notices.len() == 1 && notices[0].contains("RTD refused") && notices[0].contains("stale-epoch"),
        "{notices:?}"
    );
    assert_eq!(app.conversation("Rota").unwrap().state, ConversationState::Open);
    assert!(app.sync().unwrap().notices.is_empty());
}

#[test]
fn a_device_that_was_away_takes_the_charters_that_it_missed_in_their_order() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [_mira, jo, _other_mira] = three(&world);
    let second = next_with(&world, &world.charter, &world.authority, |_| true);
    let third = next_with(&world, &second, &world.authority, |_| true);
    let fourth = next_with(&world, &third, &world.authority, |_| true);
    world.state().charter = Some(fourth);
    let lost = jo.app().sync().unwrap().notices;
    assert!(lost.iter().any(|n| n.contains("does not hold the versions in between")), "{lost:?}");

    world.state().between = vec![second, third];
    let caught_up = jo.app().sync().unwrap().notices;
    assert!(caught_up.is_empty(), "{caught_up:?}");
    world.state().between.clear();
    assert!(jo.app().sync().unwrap().notices.is_empty(), "version 4 was kept");
}
