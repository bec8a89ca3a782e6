//! What somebody who is taken out of a conversation could have read.

use crate::conversations::{Person, run};
use crate::world::World;
use lanyard_client::app::App;
use lanyard_client::app::view::CouldRead;
use lanyard_crypto::mls::Class;

fn texts_of(app: &mut App, one: &CouldRead) -> Vec<String> {
    let messages = app.messages(None, 100).unwrap().messages;
    let text = |local: i64| messages.iter().find(|m| m.local == local).unwrap().text.clone();
    one.messages.iter().map(|m| text(m.local)).collect()
}

#[test]
fn it_is_told_what_they_could_have_read_and_nothing_else() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let mira = Person::enrol(&world, 0, "Mira Okafor", "GMC 1111111");
    let jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    let piotr = Person::enrol(&world, 2, "Piotr Holt", "GMC 3333333");
    let with = |who: &str| [who.to_owned()];
    mira.app().new_conversation("Bed 4", Class::Clinical, &with("Jo Lund"), None).unwrap();
    let send = |person: &Person, text: &str| {
        person.app().sync().unwrap();
        person.app().send("Bed 4", text, None).unwrap()
    };
    send(&mira, "before Piotr");
    mira.app().add_members("Bed 4", &with("Piotr Holt")).unwrap();
    let first = send(&mira, "with Piotr");
    send(&jo, "from Jo");
    send(&piotr, "from Piotr");
    mira.app().sync().unwrap();

    let removed = mira.app().remove_members("Bed 4", &with("Piotr Holt")).unwrap();
    let [one] = &removed.could_read[..] else { panic!("{removed:?}") };
    assert_eq!((one.name.as_str(), one.trust.as_str(), one.removed), ("Piotr Holt", "RYJ", true));
    assert_eq!(one.registration.as_deref(), Some("GMC 3333333"));
    assert!(one.since.is_some());
    let read = texts_of(&mut mira.app(), one);
    assert_eq!(read, ["with Piotr", "from Jo", "from Piotr"]);
    assert_eq!((one.count, one.first), (3, Some(first.sent)));
    assert_eq!((&one.messages[0].id, one.messages[1].sender.name.as_str()), (&first.id, "Jo Lund"));

    // Back again: the time between is not theirs. What was removed in between by Jo's device is told alike.
    send(&mira, "without Piotr");
    mira.app().add_members("Bed 4", &with("Piotr Holt")).unwrap();
    send(&mira, "with Piotr again");
    let removed = mira.app().remove_members("Bed 4", &with("Piotr Holt")).unwrap();
    let read = texts_of(&mut mira.app(), &removed.could_read[0]);
    assert_eq!(read, ["with Piotr", "from Jo", "from Piotr", "with Piotr again"]);

    // In words, and while the owner trust's node has not answered: Jo is still a member.
    world.state().hub_away = true;
    let mut app = mira.app();
    app.set_patience(std::time::Duration::ZERO);
    let waiting = app.remove_members("Bed 4", &with("Jo Lund")).unwrap();
    drop(app);
    let [jo_could] = &waiting.could_read[..] else { panic!("{waiting:?}") };
    assert_eq!((jo_could.removed, jo_could.count), (false, 6));
}

#[test]
fn the_list_is_not_lost_when_the_owner_trust_refuses() {
    let world = World::start(&["RTD", "RXH"]);
    let mira = Person::enrol(&world, 0, "Mira Okafor", "GMC 1111111");
    let _jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    mira.app().send("Bed 4", "potassium 6.8", None).unwrap();
    world.state().refuses_saying = Some("too late".into());
    let refused = mira.app().remove_members("Bed 4", &["Jo Lund".to_owned()]).unwrap();
    assert_eq!((refused.could_read[0].removed, refused.could_read[0].count), (false, 1));
    let notices = &refused.conversation.notices;
    assert!(
        notices.len() == 1 && notices[0].contains("was not sent: ") && notices[0].contains("too late"),
        "{notices:?}"
    );
    // Nor when the node, which may take it later, says so.
    world.state().refuses_saying = None;
    world.state().refuses_inbox = true;
    let busy = mira.app().remove_members("Bed 4", &["Jo Lund".to_owned()]).unwrap();
    assert_eq!((busy.could_read[0].removed, busy.could_read[0].count), (false, 1));
    assert!(busy.conversation.notices[0].contains("busy"), "{:?}", busy.conversation.notices);
}

#[test]
fn the_command_prints_the_list() {
    let world = World::start(&["RTD", "RXH"]);
    let mira = Person::enrol(&world, 0, "Mira Okafor", "GMC 1111111");
    let _jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    let id = mira.app().send("Bed 4", "potassium 6.8", None).unwrap().id.unwrap();
    let remove = run(mira.profile.dir(), &["conversation", "remove", "Bed 4", "--member", "Jo Lund"]);
    let text = String::from_utf8(remove.stdout).unwrap();
    assert!(text.contains("Jo Lund, Registrar (RXH) could read 1 message; member since 2"), "{text}");
    assert!(text.contains(&format!("\n    {}  [", &id[..12])), "{text}");
    assert!(text.contains("Mira Okafor, Registrar (RTD)") && !text.contains("potassium"), "{text}");
}
