//! What is not taken, and must not spoil what is.

use super::*;
use crate::limits::EPOCHS_AHEAD_MAX;

/// The same content in an envelope of another trust, which comes before the original in every order.
fn copy(original: &Incoming, signer: &str) -> Incoming {
    Incoming { id: RecordId::new([0; 32]), signer: signer.parse().unwrap(), ..original.clone() }
}

fn is_withheld(received: &[Received]) -> bool {
    matches!(received, [Received::Withheld { .. }])
}

#[test]
fn a_copy_by_another_trust_burns_nothing() {
    let Scene { mut world, id, mut ada, mut ben, mut cem } = scene();
    let text = ada.text(&id, "once");
    let text = world.publish(&mut ada, &text);
    let title = Content::Title("Bed 10".into());
    let title = ada.session.send(&id, &title, EXPIRES, NOW).unwrap();
    let title = world.publish(&mut ada, &title);
    for genuine in [&text, &title] {
        assert!(is_withheld(&ben.receive(&copy(genuine, "RAL"))));
    }
    assert_eq!(ben.read(&text).text, "once");
    assert_eq!(ben.receive(&title), [Received::Titled(id.clone())]);

    // The sender's own device does not take the copy's envelope for its message.
    assert!(is_withheld(&ada.receive(&copy(&text, "RAL"))));
    assert!(ada.session.vault().message(&text.id).unwrap().is_some());
    assert!(is_withheld(&ada.receive(&copy(&title, "RAL"))));

    // A copy that is held is known as one when its epoch comes.
    let renewal = ada.session.carry_out(&id, EXPIRES, NOW).unwrap();
    let (commit, _) = world.order(&mut ada, &renewal).unwrap();
    ada.receive(&commit);
    let early = ada.text(&id, "early");
    let early = world.publish(&mut ada, &early);
    for envelope in [&copy(&early, "RJ1"), &early] {
        assert_eq!(cem.receive(envelope), [Received::Held(envelope.id)]);
    }
    cem.restart();
    let received = cem.receive(&commit);
    let withheld = received.iter().filter(|r| matches!(r, Received::Withheld { .. }));
    assert_eq!(withheld.count(), 1);
    let texts = cem.session.vault().messages(&id, 9, NOW).unwrap();
    assert!(texts.len() == 1 && texts[0].id == Some(early.id), "{received:?}");
}

#[test]
fn what_a_later_charter_heals_is_read_then() {
    let Scene { mut world, id, mut ada, mut ben, cem } = scene();
    let text = ada.text(&id, "before the charter");
    let text = world.publish(&mut ada, &text);
    let mut dora = world.device(0, "Dora", "dora.db");
    let package = dora.session.key_package(NOW).unwrap();
    let addition = ada.session.add(&id, &[package], EXPIRES, NOW).unwrap();
    let (commit, welcome) = world.order(&mut ada, &addition).unwrap();
    ada.receive(&commit);
    let next = ada.text(&id, "welcome, Dora");
    let next = world.publish(&mut ada, &next);

    let trusts = std::mem::take(&mut world.trusts);
    world.admit(&trusts[1..2]);
    assert!(is_withheld(&ben.receive(&text)));
    assert!(is_withheld(&ben.receive(&commit)));
    assert_eq!(ben.receive(&next), [Received::Held(next.id)]);
    assert!(is_withheld(&dora.receive(&welcome.unwrap())));
    assert_eq!(ben.session.retry(NOW).unwrap(), []);
    ben.restart();

    world.admit(&trusts);
    let received = ben.session.retry(NOW).unwrap();
    assert!(
        matches!(&received[..], [
        Received::Message(first), Received::Changed(_), Received::Message(second),
    ] if first.text == "before the charter" && second.text == "welcome, Dora"),
        "{received:?}"
    );
    assert_eq!(ben.session.retry(NOW).unwrap(), []);
    assert_eq!(dora.session.retry(NOW).unwrap(), [Received::Joined(id.clone())]);
    assert_eq!(dora.read(&next).text, "welcome, Dora");
    drop(cem);
}

#[test]
fn nothing_is_held_for_an_epoch_that_is_far_ahead() {
    let Scene { mut world, id, mut ada, mut ben, .. } = scene();
    let text = ada.text(&id, "now");
    let text = world.publish(&mut ada, &text);
    let ahead = |n: u64| {
        let mut junk = copy(&text, "RAL");
        junk.envelope.epoch += n;
        junk
    };
    assert!(matches!(ben.receive(&ahead(EPOCHS_AHEAD_MAX))[..], [Received::Held(_)]));
    assert!(matches!(ben.receive(&ahead(EPOCHS_AHEAD_MAX + 1))[..], [Received::Unreadable { .. }]));
    assert_eq!(ben.read(&text).text, "now");
}
