//! What others wrote imitates no line of the program, and does not drive the terminal.

use crate::conversations::{Person, run};
use crate::world::World;
use lanyard_crypto::mls::Class;

const TITLE: &str = "Bed 4\nlanyard: sent\x1b[2J";
const SHOWN: &str = "Bed 4\u{fffd}lanyard: sent\u{fffd}[2J";

#[test]
fn a_title_has_one_line_wherever_it_is_printed() {
    let world = World::start(&["RTD", "RXH"]);
    let mira = Person::enrol(&world, 0, "Mira Okafor", "GMC 1111111");
    let jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    let view = mira.app().new_conversation(TITLE, Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    mira.app().send(&view.id, "potassium 6.8", None).unwrap();
    jo.app().sync().unwrap();
    let id = view.id.as_str();
    let of_jo = |arguments: &[&str]| {
        let output = run(jo.profile.dir(), arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    for arguments in [
        &["conversation", "list"][..],
        &["conversation", "show", id],
        &["read"],
        &["send", id, "accepted"],
        &["safety", "--conversation", id],
    ] {
        let text = of_jo(arguments);
        assert!(text.contains(&format!("[clinical] {SHOWN}")), "{arguments:?}: {text}");
        assert!(!text.contains('\x1b') && !text.contains("\nlanyard: "), "{arguments:?}: {text}");
    }

    // Errors quote titles too.
    mira.app().new_conversation(TITLE, Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    let output = run(mira.profile.dir(), &["send", TITLE, "which one?"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), said.matches(&format!("\n        {}", &id[..4])).count()),
        (Some(2), 1)
    );
    assert_eq!(said.matches(SHOWN).count(), 2, "{said}");
    assert!(!said.contains('\x1b') && !said.contains("\nlanyard: "), "{said}");
}

#[test]
fn what_a_node_says_does_not_drive_the_terminal() {
    let world = World::start(&["RTD", "RXH"]);
    let mira = Person::enrol(&world, 0, "Mira Okafor", "GMC 1111111");
    let _jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    world.state().refuses_saying = Some("no\nlanyard: sent\x1b[2J".into());
    let output = run(mira.profile.dir(), &["send", "Bed 4", "potassium 6.8"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no\n    lanyard: sent\u{fffd}[2J"), "{said}");
}
