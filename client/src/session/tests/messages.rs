//! Writing and reading, in whatever order things arrive.

use super::*;

#[test]
fn three_trusts_write_and_read() {
    let Scene { mut world, id, mut ada, mut ben, mut cem } = scene();
    let outgoing = ada.text(&id, MARKER);
    assert_eq!(outgoing.request.custodians.len(), 3);
    let envelope = world.publish(&mut ada, &outgoing);
    let window = MARKER.len();
    assert!(!envelope.envelope.content.windows(window).any(|w| w == MARKER.as_bytes()));
    let read = ben.read(&envelope);
    assert_eq!((read.text.as_str(), read.name.as_str(), read.trust.as_str()), (MARKER, "Ada", "RYJ"));
    assert_eq!(read.role.as_deref(), Some("Consultant"));
    assert_eq!(ben.receive(&envelope), [Received::Nothing]);
    assert_eq!(ada.receive(&envelope), [Received::Nothing]);
    assert_eq!(ada.session.vault().message(&envelope.id).unwrap().unwrap().text, MARKER);

    // Cem's program is started again between messages, and so is Ben's.
    cem.restart();
    ben.restart();
    assert_eq!(cem.read(&envelope).text, MARKER);
    let reply = ben.text(&id, "on my way");
    let reply = world.publish(&mut ben, &reply);
    assert_eq!(ada.read(&reply).text, "on my way");
    assert_eq!(cem.read(&reply).name, "Ben");

    let title = ben.session.send(&id, &Content::Title("Bed 10".into()), EXPIRES, NOW).unwrap();
    let title = world.publish(&mut ben, &title);
    assert_eq!(ada.receive(&title), [Received::Titled(id.clone())]);
    assert_eq!(ada.session.vault().conversation(&id).unwrap().unwrap().title, "Bed 10");
    assert_eq!(ben.receive(&title), [Received::Own(title.id)]);

    let admins: Vec<_> =
        cem.session.members(&id).unwrap().into_iter().map(|m| (m.device.name, m.admin)).collect();
    assert_eq!(admins, [("Ada".into(), true), ("Ben".into(), false), ("Cem".into(), false)]);
}

#[test]
fn what_arrives_too_early_waits() {
    let Scene { mut world, id, mut ada, mut ben, mut cem } = scene();
    let mut dora = world.device(1, "Dora", "dora.db");
    let package = dora.session.key_package(NOW).unwrap();
    let addition = ada.session.add(&id, &[package], EXPIRES, NOW).unwrap();
    let (commit, welcome) = world.order(&mut ada, &addition).unwrap();
    ada.receive(&commit);
    let first = ada.text(&id, "welcome, Dora");
    let first = world.publish(&mut ada, &first);
    let renewal = ada.session.carry_out(&id, EXPIRES, NOW).unwrap();
    let (next, _) = world.order(&mut ada, &renewal).unwrap();
    ada.receive(&next);
    let second = ada.text(&id, "second");
    let second = world.publish(&mut ada, &second);

    for device in [&mut ben, &mut dora] {
        for early in [&second, &next, &first] {
            assert_eq!(device.receive(early), [Received::Held(early.id)]);
        }
        device.restart();
    }
    let texts = |received: Vec<Received>| -> Vec<String> {
        let text = |r| {
            if let Received::Message(m) = r { Some(m.text) } else { None }
        };
        received.into_iter().filter_map(text).collect()
    };
    assert_eq!(texts(ben.receive(&commit)), ["welcome, Dora", "second"]);
    assert_eq!(texts(dora.receive(&welcome.unwrap())), ["welcome, Dora", "second"]);
    // What was deleted while it waited is gone.
    assert_eq!(cem.receive(&second), [Received::Held(second.id)]);
    cem.session.vault_mut().erase(&id, &[second.id, first.id], &"RYJ".parse().unwrap(), EXPIRES).unwrap();
    cem.receive(&commit);
    cem.receive(&next);
    assert_eq!(cem.receive(&second), [Received::Gone(second.id)]);
    assert_eq!(cem.receive(&first), [Received::Gone(first.id)]);
    assert!(cem.session.vault().messages(&id, 10, NOW).unwrap().is_empty());
    let expired = Incoming { expires: NOW, ..second };
    assert_eq!(ada.receive(&expired), [Received::Gone(expired.id)]);
}

#[test]
fn messages_of_one_second_are_in_their_senders_order_and_otherwise_as_they_came() {
    let Scene { mut world, id, mut ada, mut ben, mut cem } = scene();
    let sent: Vec<_> = (0..5)
        .map(|n| {
            let text = ada.text(&id, &format!("ada {n}"));
            world.publish(&mut ada, &text)
        })
        .collect();
    let between = ben.text(&id, "ben");
    let between = world.publish(&mut ben, &between);
    ada.read(&between);
    sent.iter().for_each(|sent| drop(ben.read(sent)));
    for sent in [3, 0, 4].map(|n| &sent[n]).into_iter().chain([&between]).chain([2, 1].map(|n| &sent[n])) {
        cem.read(sent);
    }
    let shown = |of: &Device| {
        let messages = of.session.vault().messages(&id, 9, NOW).unwrap();
        messages.into_iter().map(|message| message.text).collect::<Vec<_>>()
    };
    let adas =
        |all: &[String]| all.iter().filter(|text| text.starts_with("ada")).cloned().collect::<Vec<_>>();
    assert_eq!(adas(&shown(&cem)), ["ada 0", "ada 1", "ada 2", "ada 3", "ada 4"]);
    assert_eq!(shown(&cem)[3], "ben", "it came fourth");
    assert!(adas(&shown(&ada)) == adas(&shown(&cem)) && adas(&shown(&ben)) == adas(&shown(&cem)));
}

#[test]
fn an_altered_message_burns_nothing() {
    let Scene { mut world, id, mut ada, mut ben, .. } = scene();
    let good = ada.text(&id, "true");
    let good = world.publish(&mut ada, &good);
    for flip in [good.envelope.content.len() - 1, good.envelope.content.len() / 2] {
        let mut bad = good.clone();
        bad.id = RecordId::new([200; 32]);
        bad.envelope.content[flip] ^= 1;
        assert!(matches!(ben.receive(&bad)[..], [Received::Unreadable { .. }]));
    }
    let mut elsewhere = good.clone();
    elsewhere.envelope.class = Class::Commit;
    assert!(matches!(ben.receive(&elsewhere)[..], [Received::Unreadable { .. }]));
    assert_eq!(ben.read(&good).text, "true");
}

#[test]
fn an_answer_that_was_not_heard() {
    let Scene { mut world, id, mut ada, mut ben, .. } = scene();
    let text = ada.text(&id, "once");
    let title = ada.session.send(&id, &Content::Title("Bed 10".into()), EXPIRES, NOW).unwrap();
    let envelopes: Vec<_> = [text, title]
        .into_iter()
        .map(|outgoing| {
            let SendRequest { conversation, epoch, class, content, expires, .. } = outgoing.request;
            world.record(Envelope { conversation, epoch, class, content }, expires)
        })
        .collect();
    assert_eq!(ada.session.vault().outbox().unwrap().len(), 2);
    ada.restart();
    for envelope in &envelopes {
        assert_eq!(ada.receive(envelope), [Received::Own(envelope.id)]);
    }
    assert!(ada.session.vault().outbox().unwrap().is_empty());
    assert_eq!(ada.session.vault().messages(&id, 9, NOW).unwrap()[0].id, Some(envelopes[0].id));
    // Had it been sent again all the same, others would show it once.
    assert_eq!(ben.read(&envelopes[0]).text, "once");
    let again = Incoming { id: RecordId::new([99; 32]), ..envelopes[0].clone() };
    assert_eq!(ben.receive(&again), [Received::Nothing]);
}

#[test]
fn receiving_and_the_cursor_are_one() {
    let Scene { mut world, id, mut ada, mut ben, .. } = scene();
    let text = ada.text(&id, "once");
    let text = world.publish(&mut ada, &text);
    let crashed: Result<(), SessionError> = ben.session.transaction(|session| {
        session.receive(&text, NOW)?;
        session.vault().set_cursor("inbox", 5)?;
        Err(VaultError::Damaged("on purpose").into())
    });
    assert!(crashed.is_err());
    assert_eq!(ben.session.vault().cursor("inbox").unwrap(), 0);
    assert!(ben.session.vault().messages(&id, 10, NOW).unwrap().is_empty());
    assert_eq!(ben.read(&text).text, "once");
}
