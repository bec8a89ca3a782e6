//! Classes of conversations, and texts that identify a patient in them. NHS numbers from 999 are for tests.

use crate::conversations::{Person, json, run};
use crate::world::World;
use lanyard_client::app::AppError;
use lanyard_crypto::gateway::TextPattern;
use lanyard_crypto::mls::Class;
use lanyard_crypto::record::Reason;

const IDENTIFYING: &str = "NHS 999 000 0018, DOB 01/02/1960";

fn two() -> (std::sync::Arc<World>, Person, Person) {
    let world = World::start(&["RTD", "RXH"]);
    let mira = Person::enrol(&world, 0, "Mira Okafor", "GMC 1111111");
    let jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    let with = ["Jo Lund".to_owned()];
    mira.app().new_conversation("Football", Class::Social, &with, None).unwrap();
    mira.app().new_conversation("Bed 4", Class::Clinical, &with, None).unwrap();
    mira.app().new_conversation("Rota", Class::Operational, &with, None).unwrap();
    (world, mira, jo)
}

#[test]
fn a_social_conversation_takes_no_patients_identity_without_a_reason_that_is_kept() {
    let (world, mira, jo) = two();
    let before = world.state().inbox.len();
    let refused = run(mira.profile.dir(), &["send", "Football", IDENTIFYING]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("an NHS number and a date of birth") && said.contains("--override"), "{said}");
    assert!(!said.contains("999"), "{said}");
    for blank in [None, Some(" ")] {
        let again = mira.app().send_overriding("Football", IDENTIFYING, None, blank);
        assert!(matches!(again, Err(AppError::Identifying { .. })));
    }
    assert_eq!(world.state().inbox.len(), before, "nothing was sent");

    let reason = "the patient asked me to";
    let sent = json(mira.profile.dir(), &["send", "Football", IDENTIFYING, "--override", reason]);
    assert_eq!((&sent["class"], &sent["state"]), (&"social".into(), &"sent".into()));
    assert_eq!((&sent["override"]["reason"], &sent["reminder"]), (&reason.into(), &().into()));
    assert_eq!(sent["override"]["patterns"].to_string(), r#"["nhs-number","date-of-birth"]"#);
    let text = String::from_utf8(run(mira.profile.dir(), &["read", "Football"]).stdout).unwrap();
    assert!(text.contains("[social] Football") && text.contains(reason), "{text}");
    // It stays with the sender.
    let read = json(jo.profile.dir(), &["read", "Football"]);
    assert_eq!(
        (&read["messages"][0]["text"], &read["messages"][0]["override"]),
        (&IDENTIFYING.into(), &().into())
    );
    let titled = mira.app().new_conversation(IDENTIFYING, Class::Social, &["Jo Lund".to_owned()], None);
    assert!(matches!(titled, Err(AppError::IdentifyingTitle { .. })));
    // Where it was not needed, no reason is kept.
    let plain = mira.app().send_overriding("Football", "kick-off at 7", None, Some(reason)).unwrap();
    assert_eq!(plain.overridden, None);
    // And what is deleted takes its reason along.
    let id = sent["id"].as_str().unwrap();
    mira.app().delete(id, Reason::SentInError).unwrap();
    let text = String::from_utf8(run(mira.profile.dir(), &["read", "Football"]).stdout).unwrap();
    assert!(text.contains("kick-off") && !text.contains(reason), "{text}");
}

#[test]
fn other_conversations_remind_once_each() {
    let (world, mira, _jo) = two();
    let send = |conversation: &str, text: &str| mira.app().send(conversation, text, None).unwrap().reminder;
    assert_eq!(send("Bed 4", "potassium 6.8"), None);
    // Whoever is told that it was not sent is not reminded by that.
    world.state().refuses_saying = Some("no".into());
    assert!(matches!(mira.app().send("Bed 4", IDENTIFYING, None), Err(AppError::NotTaken(_))));
    world.state().refuses_saying = None;
    let first = run(mira.profile.dir(), &["send", "Bed 4", IDENTIFYING]);
    let (out, said) = (String::from_utf8(first.stdout).unwrap(), String::from_utf8(first.stderr).unwrap());
    assert!(first.status.success() && said.contains("use the least that identifies"), "{said}");
    assert!(out.starts_with("[clinical] Bed 4") && !said.contains("999"), "{out}{said}");
    assert_eq!(send("Bed 4", IDENTIFYING), None, "once in a conversation");
    let other = send("Rota", "9990000018 to bed 5").unwrap();
    assert!(other.contains("an NHS number:"), "{other}");
    assert_eq!(send("Rota", "9990000018 to bed 5"), None);
}

#[test]
fn what_the_trust_adds_counts_as_the_table_does() {
    let (world, mira, jo) = two();
    let pattern = |name: &str, regex: &str| TextPattern { name: name.into(), regex: regex.into() };
    world.state().patterns = vec![pattern("a hospital number", r"\bRTD[0-9]{7}\b"), pattern("broken", "(")];
    let text = "RTD1234567 is in bed 4";
    mira.app().send("Football", text, None).unwrap();
    let told = mira.app().sync().unwrap().notices;
    assert!(told.len() == 1 && told[0].contains("\"broken\" cannot be looked for"), "{told:?}");
    assert_eq!(mira.app().sync().unwrap().notices, Vec::<String>::new(), "told once");
    let refused = mira.app().send("Football", text, None);
    assert!(matches!(refused, Err(AppError::Identifying { what }) if what == "a hospital number"));
    let titled = mira.app().new_conversation(text, Class::Social, &["Jo Lund".to_owned()], None);
    assert!(matches!(titled, Err(AppError::IdentifyingTitle { .. })));
    let sent = mira.app().send_overriding("Football", text, None, Some("agreed")).unwrap();
    assert_eq!(sent.overridden.unwrap().patterns, ["a-hospital-number"]);
    let reminded = mira.app().send("Bed 4", text, None).unwrap().reminder.unwrap();
    assert!(reminded.starts_with("this text holds a hospital number:"), "{reminded}");
    assert_eq!(mira.app().send("Bed 4", text, None).unwrap().reminder, None);
    // It is what a device's own trust says; and what it does not say any more is gone.
    world.state().patterns = Vec::new();
    jo.app().sync().unwrap();
    jo.app().send("Football", text, None).unwrap();
    mira.app().sync().unwrap();
    mira.app().send("Football", text, None).unwrap();
}

#[test]
fn social_conversations_are_apart_from_the_others() {
    let (_world, mira, _jo) = two();
    mira.app().send("Bed 4", "potassium 6.8", None).unwrap();
    mira.app().send("Football", "kick-off at 7", None).unwrap();
    mira.app().new_conversation("Choir", Class::Social, &["Jo Lund".to_owned()], None).unwrap();
    let titles: Vec<String> =
        mira.app().conversations().unwrap().conversations.into_iter().map(|c| c.title).collect();
    assert_eq!(titles[2..].iter().filter(|t| ["Football", "Choir"].contains(&t.as_str())).count(), 2);
    let text = String::from_utf8(run(mira.profile.dir(), &["conversation", "list"]).stdout).unwrap();
    let (others, social) = text.split_once("\n\nsocial conversations:\n").unwrap();
    assert!(others.contains("[clinical] Bed 4") && others.contains("[operational] Rota"), "{text}");
    assert!(social.contains("[social] Football") && social.contains("[social] Choir"), "{text}");
    assert!(!others.contains("[social]"), "{text}");
    let text = String::from_utf8(run(mira.profile.dir(), &["read"]).stdout).unwrap();
    let (others, social) = text.split_once("\n\nsocial conversations:\n").unwrap();
    assert!(others.contains("potassium") && social.starts_with("[social] Football"), "{text}");
}
