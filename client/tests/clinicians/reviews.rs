//! Reviews of a conversation's members: when one is due is the same for every member, and who records it is an administrator of the owner
//! trust.

use std::time::Duration;

use lanyard_client::agent;
use lanyard_client::app::AppError;
use lanyard_client::app::view::ReviewState;
use lanyard_client::clock;
use lanyard_client::vault::{Vault, VaultKey};
use lanyard_crypto::mls::{Class, ReviewTerms};

use crate::conversations::{MARKER, Person, run, three};
use crate::world::World;

const DAY: u64 = 24 * 3600;

fn state(person: &Person) -> ReviewState {
    let mut app = person.app();
    app.sync().unwrap();
    app.conversation("Bed 4").unwrap().review.unwrap()
}

/// Waits until the conversation stands so for somebody: it does so for good a second after it was reviewed.
fn await_state(person: &Person, wanted: &str) {
    for tries in 0.. {
        if state(person).state == wanted {
            return;
        }
        assert!(tries < 100, "it never becomes {wanted}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn asks_for(world: &World, every_secs: u64, grace_secs: u64, reviewer: &Person) {
    world.state().review = ReviewTerms { every_secs, grace_secs };
    reviewer.app().sync().unwrap();
}

#[test]
fn a_conversation_is_overdue_then_read_only_for_all_until_its_members_were_reviewed() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, other_mira] = three(&world);
    let with = ["Jo Lund".to_owned(), "Mira Okafor@RYJ".to_owned()];
    asks_for(&world, 10 * DAY, DAY, &mira);
    let view = mira.app().new_conversation("Bed 4", Class::Clinical, &with, None).unwrap();
    let founded = view.review.unwrap();
    assert_eq!((founded.state, founded.banner.as_deref()), ("current", None));
    let reviewed = founded.reviewed.unwrap().0;
    assert_eq!(founded.due.0, reviewed.plus_secs(10 * DAY));
    assert_eq!(founded.read_only.0, reviewed.plus_secs(11 * DAY));
    let by = founded.by.as_ref().unwrap();
    assert_eq!((by.name.as_str(), by.trust.as_str()), ("Mira Okafor", "RTD"));
    assert_eq!((state(&jo), state(&other_mira)), (founded.clone(), founded), "the same for every member");
    assert_eq!(mira.app().review("Bed 4").unwrap().changes, [], "whom it was founded with");

    // The next review is due at once, and then there is a grace, which lasts.
    asks_for(&world, 1, 90 * DAY, &mira);
    let recorded = mira.app().confirm_review("Bed 4", &[]).unwrap();
    assert!(recorded.recorded && recorded.could_read.is_empty());
    await_state(&mira, "overdue");
    for person in [&jo, &other_mira] {
        let overdue = state(person);
        assert_eq!(overdue, state(&mira));
        let banner = overdue.banner.unwrap();
        assert!(banner.starts_with("REVIEW OVERDUE since "), "{banner}");
        assert!(banner.contains("an administrator from RTD must look through the members"), "{banner}");
        for command in [&["conversation", "list"][..], &["conversation", "show", "Bed 4"], &["read"]] {
            let shown = String::from_utf8(run(person.profile.dir(), command).stdout).unwrap();
            assert!(shown.contains("! REVIEW OVERDUE since "), "{command:?}: {shown}");
        }
    }
    jo.app().send("Bed 4", MARKER, None).unwrap();
    let read = jo.app().messages(None, 10).unwrap();
    assert_eq!((read.messages.len(), read.overdue.len(), read.overdue[0].review.state), (1, 1, "overdue"));

    // Who is not of the owner trust cannot record one.
    let refused = jo.app().confirm_review("Bed 4", &[]).unwrap_err();
    assert!(matches!(&refused, AppError::NotReviewer { owner, .. } if owner == "RTD"), "{refused}");
    assert!(refused.to_string().ends_with("they are Mira Okafor"), "{refused}");
    assert!(!jo.app().review("Bed 4").unwrap().may_confirm);

    // Without a grace it can only be read.
    asks_for(&world, 1, 0, &mira);
    mira.app().review("Bed 4").unwrap();
    mira.app().confirm_review("Bed 4", &[]).unwrap();
    await_state(&jo, "read-only");
    for person in [&mira, &jo, &other_mira] {
        person.app().sync().unwrap();
        let refused = person.app().send("Bed 4", MARKER, None).unwrap_err();
        assert!(matches!(refused, AppError::ReadOnly { class: "clinical", .. }), "{refused}");
        let said = refused.to_string();
        assert!(said.contains("an administrator must review: lanyard conversation review "), "{said}");
        assert!(said.contains("; they are Mira Okafor") && !said.contains("--confirm"), "{said}");
    }
    let refused = mira.app().add_members("Bed 4", &["Jo Lund".to_owned()]);
    assert!(matches!(refused, Err(AppError::ReadOnly { .. })));
    assert_eq!(jo.texts(), [MARKER], "it can be read");

    // Reviewed, without one of them, in one step: then it goes on.
    asks_for(&world, 10 * DAY, DAY, &mira);
    let without = ["Mira Okafor@RYJ".to_owned()];
    mira.app().review("Bed 4").unwrap();
    let recorded = mira.app().confirm_review("Bed 4", &without).unwrap();
    assert!(recorded.recorded);
    assert_eq!((recorded.conversation.members.len(), recorded.conversation.trusts.len()), (2, 2));
    let [left] = recorded.changes.as_slice() else { panic!("{:?}", recorded.changes) };
    assert_eq!((left.kind, left.trust.as_str()), ("left", "RYJ"));
    assert_eq!((recorded.could_read[0].count, recorded.could_read[0].removed), (1, true));
    assert_eq!(state(&jo).state, "current");
    jo.app().send("Bed 4", "noted", None).unwrap();
    other_mira.app().sync().unwrap();
    assert_eq!(other_mira.app().conversation("Bed 4").unwrap().review, None, "who has left");
}

#[test]
fn a_review_shows_what_has_changed_since_the_last_one() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, _other_mira] = three(&world);
    mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    jo.app().sync().unwrap();
    mira.app().add_members("Bed 4", &["Mira Okafor@RYJ".to_owned()]).unwrap();
    // Only what was shown can be confirmed.
    let refused = mira.app().confirm_review("Bed 4", &[]).unwrap_err();
    assert!(matches!(&refused, AppError::NotShown { changes, .. } if changes.len() == 1), "{refused}");
    let shown = mira.app().review("Bed 4").unwrap();
    assert!(shown.may_confirm && !shown.recorded);
    let [joined] = shown.changes.as_slice() else { panic!("{:?}", shown.changes) };
    assert_eq!((joined.kind, joined.registration.as_deref()), ("joined", Some("NMC 33A3333B")));
    let text =
        String::from_utf8(run(mira.profile.dir(), &["conversation", "review", "Bed 4"]).stdout).unwrap();
    assert!(text.contains("Mira Okafor, Registrar (RYJ) · NMC 33A3333B: joined"), "{text}");
    assert!(text.contains(" --confirm\n") && text.contains("members reviewed "), "{text}");
    let text = run(mira.profile.dir(), &["conversation", "review", "Bed 4", "--confirm"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.ends_with("the review is recorded, and every member sees it\n"), "{text}");
    assert_eq!(mira.app().review("Bed 4").unwrap().changes, []);
    // Jo, who was there, sees the same; also after Mira has reviewed once more.
    jo.app().sync().unwrap();
    assert_eq!(jo.app().review("Bed 4").unwrap().changes, []);
}

#[test]
fn a_review_that_the_owner_trust_refuses_is_an_error_with_its_words() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, ..] = three(&world);
    mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    let before = state(&mira);
    world.state().refuses_saying = Some("the review is dated in the future".into());
    mira.app().review("Bed 4").unwrap();
    let refused = mira.app().confirm_review("Bed 4", &[]).unwrap_err();
    assert!(matches!(&refused, AppError::NotReviewed { .. }), "{refused}");
    assert!(refused.to_string().contains("dated in the future"), "{refused}");
    world.state().refuses_saying = None;
    assert_eq!(state(&mira), before);
    // While the hub is away it waits, and says so.
    world.state().hub_away = true;
    let mut app = mira.app();
    app.set_patience(Duration::ZERO);
    app.review("Bed 4").unwrap();
    let waits = app.confirm_review("Bed 4", &[]).unwrap();
    assert!(!waits.recorded && waits.conversation.waiting_for.as_deref() == Some("RTD"));
}

#[test]
fn a_conversation_of_an_earlier_version_counts_from_when_it_is_first_seen() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, _] = three(&world);
    mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    jo.app().sync().unwrap();
    // As after an upgrade: nothing is noted. (A group of this version says when it was reviewed; the note is what is asked.)
    let before = clock::now();
    {
        let key = VaultKey::new(**agent::opened(&jo.profile, false).unwrap().unwrap().key);
        let vault = Vault::open(&jo.profile.vault_path(), &key).unwrap();
        let id = vault.conversations().unwrap()[0].id.clone();
        let mut noted = vault.reviewed(&id).unwrap().unwrap();
        (noted.at, noted.by) = (before, None);
        let seen = vault.seen(&id).unwrap().unwrap();
        vault.put_reviewed(&id, &noted, &seen).unwrap();
    }
    let counted = state(&jo);
    assert_eq!((counted.state, counted.reviewed, counted.by), ("current", None, None));
    assert_eq!(counted.due.0, before.plus_secs(30 * DAY));
    let text = String::from_utf8(run(jo.profile.dir(), &["conversation", "show", "Bed 4"]).stdout).unwrap();
    assert!(text.contains("members not reviewed yet; next due "), "{text}");
    mira.app().review("Bed 4").unwrap();
    mira.app().confirm_review("Bed 4", &[]).unwrap();
    assert_eq!(state(&jo), state(&mira), "an administrator's review counts for all");
}

#[test]
fn an_administrator_makes_another_and_one_of_the_owner_trust_stays() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, _] = three(&world);
    let ben = Person::enrol(&world, 0, "Ben Holt", "NMC 44A4444B");
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let with = names(&["Jo Lund", "Ben Holt"]);
    mira.app().new_conversation("Bed 4", Class::Clinical, &with, None).unwrap();
    for person in [&jo, &ben] {
        person.app().sync().unwrap();
        // Nobody promotes themselves while an administrator is there.
        assert!(person.app().set_admins("Bed 4", &names(&["Jo Lund"]), &[]).is_err());
    }
    let view = mira.app().set_admins("Bed 4", &names(&["Jo Lund"]), &[]).unwrap();
    assert_eq!(view.members.iter().filter(|m| m.admin).count(), 2);
    jo.app().sync().unwrap();
    // Jo administers, for another trust.
    let demoted = |by: &Person| by.app().set_admins("Bed 4", &[], &names(&["Mira Okafor"])).map(drop);
    let removed = |by: &Person| by.app().remove_members("Bed 4", &names(&["Mira Okafor"])).map(drop);
    for refused in [demoted(&jo), removed(&jo), demoted(&mira)] {
        let said = refused.unwrap_err().to_string();
        assert!(
            said.contains("at least one administrator from RTD") && said.contains("make another"),
            "{said}"
        );
    }
    let refused = mira.app().remove_members("Bed 4", &names(&["Mira Okafor"]));
    assert!(matches!(refused, Err(AppError::OwnRemoval)));
    mira.app().set_admins("Bed 4", &names(&["Ben Holt"]), &[]).unwrap();
    ben.app().sync().unwrap();
    ben.app().review("Bed 4").unwrap();
    assert!(ben.app().confirm_review("Bed 4", &names(&["Mira Okafor"])).unwrap().recorded);
}
