//! A PIN is set with the enrolment, and what the node says of its session is what the person is told.

use lanyard_client::app::{App, AppError};
use lanyard_client::node::NodeError;
use lanyard_client::profile::Profile;
use lanyard_crypto::mls::Class;

use crate::conversations::{MARKER, enrol, keep, three, typing};
use crate::world::World;

#[test]
fn a_session_that_has_ended_at_the_node_locks_the_device_and_loses_nothing() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, _] = three(&world);
    mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    assert!(jo.texts().is_empty());
    world.state().pins.end_sessions();
    assert!(matches!(mira.app().find("Jo"), Err(AppError::Locked)));
    let Err(error @ AppError::WaitsLocked) = mira.app().send("Bed 4", MARKER, None) else {
        panic!("the node has not taken it")
    };
    assert!(error.to_string().contains("run lanyard unlock"), "{error}");
    let Err(error @ AppError::Locked) = mira.app().sync() else { panic!("the session has ended") };
    assert!(error.to_string().contains("this device is locked: run lanyard unlock"), "{error}");
    // What waits is not given up.
    let messages = mira.app().messages(None, 10).unwrap().messages;
    assert_eq!(messages.len(), 1);
}

#[test]
fn an_enrolment_that_breaks_off_goes_on_with_the_same_line() {
    let world = World::start(&["RTD"]);
    let line = world.invite(0, "Mira Okafor", "GMC 1111111");
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::at(dir.path().join("p"));
    // The device is certified, and no PIN is set: there is no vault, and nothing that would open one.
    world.state().pins.refuses_setups = true;
    let Err(error @ AppError::FirstPin(_)) = enrol(&profile, &line) else { panic!("no PIN can be set") };
    assert!(error.to_string().contains("run lanyard enrol again with the same line"), "{error}");
    let said = App::open(&profile).err().unwrap().to_string();
    assert!(said.contains("no PIN is set on this device: run lanyard enrol again"), "{said}");
    assert!(!profile.vault_path().exists() && !profile.plain_key_path().exists());
    assert!(!profile.may_have_pin().unwrap());

    world.state().pins.refuses_setups = false;
    keep(&profile, Some(enrol(&profile, &line).unwrap()));
    assert_eq!(App::open(&profile).unwrap().whoami().unwrap().name, "Mira Okafor");
    assert!(profile.has_pin().unwrap() && !profile.plain_key_path().exists());
}

#[test]
fn a_pin_whose_answer_was_lost_is_not_set_twice() {
    let world = World::start(&["RTD"]);
    let line = world.invite(0, "Mira Okafor", "GMC 1111111");
    let dir = tempfile::tempdir().unwrap();
    let profile = Profile::at(dir.path().join("p"));
    world.state().pins.loses_answers = true;
    assert!(matches!(enrol(&profile, &line), Err(AppError::FirstPin(_))));
    assert!(profile.new_sealed_path().exists(), "it may be in force");
    let Err(AppError::Enrol(error)) = enrol(&profile, &line) else { panic!("the node has taken the PIN") };
    let lanyard_client::enrol::EnrolError::Node(NodeError::Refused { refusal, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!(refusal.code, "pin-set");
    assert!(profile.new_sealed_path().exists());
    assert!(matches!(App::open(&profile), Err(AppError::Locked)), "lanyard unlock goes on");
}

#[test]
fn what_is_typed_in_place_of_an_invitation_is_refused_as_none() {
    let directory = tempfile::tempdir().unwrap();
    let too_long = format!("lanyard1-{}", "a".repeat(4096));
    for typed in ["", "correct-horse-42", &too_long, "\u{0}\u{1b}[2J"] {
        let refused = typing(&directory.path().join("new"), &["enrol"], typed);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && said.contains("not an invitation"), "{said}");
        assert!(typed.is_empty() || !said.contains(typed), "what was typed may be secret");
    }
}
