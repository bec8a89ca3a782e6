//! Safety numbers, as two people compare them.

use crate::conversations::{Person, json, run};
use crate::world::World;
use lanyard_client::app::AppError;
use lanyard_crypto::mls::Class;

#[test]
fn both_sides_see_the_same_number_and_nobody_else_does() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let mira = Person::enrol(&world, 0, "Mira Okafor", "GMC 1111111");
    let jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    let piotr = Person::enrol(&world, 2, "Piotr Holt", "GMC 3333333");
    let number = |of: &Person, with: &str| json(of.profile.dir(), &["safety", with])["number"].clone();
    let between = number(&mira, "GMC 2222222");
    assert_eq!(between, number(&jo, "Mira Okafor@RTD"));
    assert_ne!(between, number(&mira, "GMC 3333333"));
    assert_ne!(between, number(&piotr, "GMC 2222222"));
    assert!(matches!(mira.app().safety_of_person("GMC 1111111"), Err(AppError::Oneself)));

    // A device that somebody enrols as Jo changes the number, on the side that sees it and then on both.
    let _second = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    let view = json(mira.profile.dir(), &["safety", "GMC 2222222"]);
    assert_ne!(between, view["number"]);
    assert!(view["warning"].is_null(), "Mira has one device");
    assert_eq!(view["of"]["devices"].as_array().map(Vec::len), Some(2));
    assert_eq!(view["number"], number(&jo, "GMC 1111111"));
    // And Jo, whose number is the same, is told of it.
    let of_jo = json(jo.profile.dir(), &["safety", "GMC 1111111"]);
    assert_eq!(of_jo["of"]["own_devices"], view["of"]["devices"]);
    let warning = "certified as you: 2 devices; each must be one that you hold";
    assert_eq!(of_jo["warning"], warning);
    let text = run(jo.profile.dir(), &["safety", "GMC 1111111"]).stdout;
    assert!(String::from_utf8(text).unwrap().contains(&format!("\n{warning}\n")));
    // Where both of them are members, alike.
    mira.app().new_conversation("Bed 4", Class::Clinical, &["GMC 2222222".to_owned()], None).unwrap();
    jo.app().sync().unwrap();
    assert_eq!(jo.app().safety_of_conversation("Bed 4").unwrap().warning.as_deref(), Some(warning));
    assert_eq!(mira.app().safety_of_conversation("Bed 4").unwrap().warning, None);

    // Nothing is said over a part of the devices.
    world.state().directory_has_more = true;
    for (who, with) in [(&mira, "GMC 2222222"), (&jo, "GMC 1111111")] {
        assert!(matches!(who.app().safety_of_person(with), Err(AppError::NotAllListed(_))));
    }
}

#[test]
fn a_conversations_number_is_its_members_and_changes_with_them() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let mira = Person::enrol(&world, 0, "Mira Okafor", "GMC 1111111");
    let jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    let _piotr = Person::enrol(&world, 2, "Piotr Holt", "GMC 3333333");
    let with = |who: &str| [who.to_owned()];
    for title in ["Bed 4", "Bed 5"] {
        mira.app().new_conversation(title, Class::Clinical, &with("Jo Lund"), None).unwrap();
    }
    jo.app().sync().unwrap();
    let number = |of: &Person, title: &str| of.app().safety_of_conversation(title).unwrap();
    let before = number(&mira, "Bed 4");
    assert_eq!(before.number, number(&jo, "Bed 4").number);
    assert_ne!(before.number, number(&mira, "Bed 5").number);
    mira.app().add_members("Bed 4", &with("Piotr Holt")).unwrap();
    let after = number(&mira, "Bed 4").number;
    assert_ne!(before.number, after);
    jo.app().sync().unwrap();
    assert_eq!(after, number(&jo, "Bed 4").number);

    let text = run(mira.profile.dir(), &["safety", "--conversation", "Bed 4", "--qr"]);
    let text = String::from_utf8(text.stdout).unwrap();
    let line = after.split(' ').take(4).collect::<Vec<_>>().join(" ");
    assert!(text.starts_with("[clinical] Bed 4") && text.contains(&line), "{text}");
    assert!(text.contains('█') || text.contains('▀'), "{text}");
}
