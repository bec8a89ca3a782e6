//! People whose names are easily taken for each other; and what is said of somebody's certificate.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Output, Stdio};

use crate::conversations::{Person, json, program, run};
use crate::world::{LIFE_SECS, World};
use lanyard_client::app::AppError;
use lanyard_client::clock;
use lanyard_crypto::mls::Class;
use lanyard_crypto::record::{self, Body, Crl, Header};
use lanyard_crypto::x509::issue::Issuer;
use lanyard_crypto::x509::{CrlReason, Revocation};

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const NEW: [&str; 6] = ["conversation", "new", "--title", "Bed 4", "--class", "clinical"];

#[test]
fn who_is_invited_is_told_apart_from_who_is_known() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    let _mira = Person::enrol(&world, 0, "Mira Okafor", "GMC 1111111");
    let _piotr = Person::enrol(&world, 0, "Piotr Holt", "GMC 4444444");
    let _namesake = Person::enrol(&world, 2, "Dr Mira Okafor", "NMC 33A3333B");
    let jo = jo.profile.dir();

    // Somebody whose name is like nobody's is invited without a question, also beside those who were found.
    let found = json(jo, &["find", "okafor"]);
    assert_eq!(found["people"].as_array().map(Vec::len), Some(2));
    for person in found["people"].as_array().unwrap() {
        assert_eq!((&person["similar"], &person["resembles"][1]), (&true.into(), &().into()));
        let differs = person["resembles"][0]["differences"].to_string();
        assert!(differs.contains("trust (R") && differs.contains("registration ("), "{differs}");
    }
    let text = String::from_utf8(run(jo, &["find", "okafor"]).stdout).unwrap();
    assert!(text.contains("! Mira Okafor") && text.contains("found in the directory: differs in"), "{text}");
    let holt = [&NEW[..], &["--with", "Piotr Holt"]].concat();
    assert!(run(jo, &holt).status.success());

    let with = [&NEW[..], &["--with", "GMC 1111111"]].concat();
    let said = refused(&run(jo, &with));
    for part in ["Mira Okafor, Registrar, GMC 1111111 (RTD)", "Dr Mira Okafor, Registrar, NMC 33A3333B (RYJ)"]
    {
        assert!(said.contains(part), "{said}");
    }
    assert!(
        said.contains("trust (RYJ, not RTD)") && said.contains("--confirm \"Mira Okafor@RTD\""),
        "{said}"
    );
    // Another's name confirms nobody, nor does one that fits both.
    for other in ["Dr Mira Okafor@RYJ", "Mira Okafor", "Piotr Holt@RTD"] {
        refused(&run(jo, &[&with[..], &["--confirm", other]].concat()));
    }
    assert_eq!(json(jo, &["conversation", "list"])["conversations"].as_array().map(Vec::len), Some(1));

    let begun = json(jo, &[&with[..], &["--confirm", "gmc1111111"]].concat());
    assert_eq!(begun["state"], "open");
    let member = begun["members"].as_array().unwrap().iter().find(|m| m["trust"] == "RTD").unwrap();
    assert_eq!(member["resembles"][0]["trust"], "RYJ");
    // Both together: neither is taken for the other, and nobody is asked for later.
    assert!(run(jo, &[&with[..], &["--with", "NMC 33A3333B"]].concat()).status.success());
    // What was said once holds for the first message too, but not for the other of the two.
    let id = begun["id"].as_str().unwrap();
    assert_eq!(json(jo, &["send", id, "bed 4 is free"])["state"], "sent");
    let rota = ["conversation", "new", "--title", "Rota", "--class", "social", "--with", "NMC 33A3333B"];
    let said = refused(&run(jo, &rota));
    assert!(said.contains("the name of Dr Mira Okafor, Registrar, NMC 33A3333B (RYJ) is"), "{said}");
    assert!(run(jo, &[&rota[..], &["--confirm", "NMC 33A3333B"]].concat()).status.success());

    // Somebody else again: asked about anew, and `conversation add` asks as well.
    let _third = Person::enrol(&world, 2, "Mira Okafour", "GMC 5555555");
    let add = ["conversation", "add", id, "--with", "GMC 5555555"];
    let said = refused(&run(jo, &add));
    assert!(said.contains("in your clinical conversation \"Bed 4\"") && said.contains("(RYJ)"), "{said}");
    let added = json(jo, &[&add[..], &["--confirm", "Mira Okafour@RYJ"]].concat());
    assert_eq!(added["members"].as_array().map(Vec::len), Some(3));
}

#[test]
fn the_first_message_to_somebody_with_a_similar_name_waits_for_a_word() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let mira = Person::enrol(&world, 0, "Ada Okafor", "GMC 1111111");
    let jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    let _other = Person::enrol(&world, 2, "Ada Okoro", "GMC 3333333");
    jo.app().find("okoro").unwrap();
    let with = |who: &str| [who.to_owned()];
    let view = mira.app().new_conversation("Bed 4", Class::Clinical, &with("Jo Lund"), None).unwrap();
    jo.app().sync().unwrap();

    // Jo has not invited her, and it is not noted that she has written to her.
    let before = world.state().inbox.len();
    let said = refused(&run(jo.profile.dir(), &["send", "Bed 4", "accepted"]));
    assert!(said.contains("Ada Okafor, Registrar, GMC 1111111 (RTD)"), "{said}");
    assert!(said.contains("Ada Okoro, Registrar, GMC 3333333 (RYJ), found in the directory"), "{said}");
    let Err(AppError::Similar(doubts)) = jo.app().send(&view.id, "accepted", None) else {
        panic!("it must be asked who is meant")
    };
    assert_eq!((doubts.len(), doubts[0].others.len()), (1, 1));
    assert_eq!(world.state().inbox.len(), before, "nothing was sent");
    assert!(jo.app().messages(None, 10).unwrap().messages.is_empty());

    let confirmed = ["send", "Bed 4", "accepted", "--confirm", "Ada Okafor@RTD"];
    assert_eq!(json(jo.profile.dir(), &confirmed)["state"], "sent");
    assert_eq!(jo.app().send("Bed 4", "from 14:00", None).unwrap().class, "clinical");
    // In another conversation she is no stranger any more, whoever is found meanwhile.
    let _third = Person::enrol(&world, 1, "Ada Okafour", "GMC 6666666");
    jo.app().find("okafour").unwrap();
    mira.app().new_conversation("Rota", Class::Social, &with("Jo Lund"), None).unwrap();
    jo.app().sync().unwrap();
    jo.app().send("Rota", "swap Friday?", None).unwrap();
    // Being let into a conversation is more: it is asked all the same.
    let invite = || jo.app().new_conversation("Bed 5", Class::Clinical, &with("GMC 1111111"), None);
    let Err(AppError::Similar(doubts)) = invite() else { panic!("it must be asked who is meant") };
    assert_eq!((doubts.len(), doubts[0].invited, doubts[0].others.len()), (1, true, 1), "{doubts:?}");
    assert_eq!(doubts[0].others[0].name, "Ada Okafour", "the other one was told apart before");
    assert_eq!(mira.texts(), ["accepted", "from 14:00", "swap Friday?"]);
}

#[test]
fn a_namesake_whom_nobody_has_looked_for_is_found_when_somebody_is_invited() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    let _mira = Person::enrol(&world, 0, "Dr Mira Okafor", "GMC 1111111");
    let _namesake = Person::enrol(&world, 2, "Mira Okafor", "NMC 33A3333B");
    let with = [&NEW[..], &["--with", "GMC 1111111"]].concat();
    let said = refused(&run(jo.profile.dir(), &with));
    assert!(said.contains("NMC 33A3333B (RYJ), found in the directory"), "{said}");
    assert!(run(jo.profile.dir(), &[&with[..], &["--confirm", "GMC 1111111"]].concat()).status.success());
}

/// Runs the program on a terminal, where this is typed. Tells how it ended, and what the terminal shows.
#[test]
fn somebody_with_a_similar_name_whom_nobody_has_looked_for_is_found_when_somebody_is_invited() {
    let world = World::start(&["RTD", "RXH"]);
    let jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    let _ada = Person::enrol(&world, 0, "Ada Okafor", "GMC 1111111");
    let _similar = [("Ada Okafour", "NMC 33A3333B"), ("Ida Okafor", "NMC 44A4444B")]
        .map(|(name, registration)| Person::enrol(&world, 1, name, registration));
    let _other = Person::enrol(&world, 1, "Adam Okanagan", "NMC 55A5555B");
    let said = refused(&run(jo.profile.dir(), &[&NEW[..], &["--with", "GMC 1111111"]].concat()));
    for part in ["Ada Okafour, Registrar, NMC 33A3333B (RXH)", "Ida Okafor, Registrar, NMC 44A4444B (RXH)"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("Okanagan"), "{said}");
}

fn on_a_terminal(profile: &Path, arguments: &[&str], typed: &str) -> (Output, String) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut controller = File::from(controller);
    controller.write_all(typed.as_bytes()).unwrap();
    let mut command = program(profile, arguments);
    command.stdin(Stdio::from(terminal.try_clone().unwrap())).stderr(Stdio::from(terminal));
    let output = command.output().unwrap();
    // The last of its own ends of the terminal: what was shown ends there.
    drop(command);
    let mut shown = Vec::new();
    // EIO at the end, when nobody has the terminal open.
    let _ = controller.read_to_end(&mut shown);
    (output, String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn on_a_terminal_it_is_a_question() {
    let world = World::start(&["RTD", "RXH"]);
    let jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    let _ada = Person::enrol(&world, 0, "Ada Okafor", "GMC 1111111");
    let _other = Person::enrol(&world, 1, "Ada Okafour", "GMC 3333333");
    jo.app().find("okaf").unwrap();
    let with = [&NEW[..], &["--with", "Ada Okafor"]].concat();
    let count = || jo.app().conversations().unwrap().conversations.len();

    for no in ["n\n", "\n", "what?\n"] {
        let (output, shown) = on_a_terminal(jo.profile.dir(), &with, no);
        assert_eq!(output.status.code(), Some(1), "{shown}");
        assert!(shown.contains("Ada Okafour, Registrar, GMC 3333333 (RXH)"), "{shown}");
        assert!(
            shown.contains("Is this whom you mean: Ada Okafor, Registrar, GMC 1111111 (RTD)?"),
            "{shown}"
        );
    }
    // A program is refused, on a terminal too.
    let (output, shown) = on_a_terminal(jo.profile.dir(), &[&with[..], &["--json"]].concat(), "y\n");
    assert!(output.status.code() == Some(2) && !shown.contains("[y/N]"), "{shown}");
    assert_eq!(count(), 0);
    let (output, shown) = on_a_terminal(jo.profile.dir(), &with, "y\n");
    assert!(output.status.success() && count() == 1, "{shown}");
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("[clinical] Bed 4"));
}

#[test]
fn what_is_shown_of_a_certificate_is_what_was_checked() {
    let world = World::start(&["RTD", "RXH"]);
    let mira = Person::enrol(&world, 0, "Mira Okafor", "GMC 1111111");
    let jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");
    mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    let found = json(mira.profile.dir(), &["find", "lund"]);
    let of = |field: &str| found["people"][0]["devices"][0]["certification"][field].clone();
    assert_eq!((of("holds"), of("trust"), of("registrar")), (true.into(), "RXH".into(), "Registrar".into()));
    assert_eq!(
        (of("charter_version"), of("revocation_list"), of("problem")),
        (1.into(), ().into(), ().into())
    );
    let text = String::from_utf8(run(mira.profile.dir(), &["find", "lund"]).stdout).unwrap();
    assert!(text.contains("certified by RXH (Registrar) until"), "{text}");
    assert!(text.contains("NOT revocation: this device has no list"), "{text}");
    assert!(!text.contains("verified"), "{text}");

    // A list on which Jo's certificate is not.
    let trust = &world.trusts[1];
    let list = |number: u64, revoked: &[Revocation]| {
        let now = clock::now();
        let issuer = Issuer::new(&trust.registrar, &trust.registrar_key).unwrap();
        let list = issuer.revocation_list(number, now, now.plus_secs(3600), revoked).unwrap();
        let (custodians, expires) = (Vec::new(), now.plus_secs(LIFE_SECS));
        let header = Header { network: Some(world.network), custodians, issued: now, expires };
        let body = Body::Crl(Crl { list: list.der().to_vec(), issuer: trust.registrar.der().to_vec() });
        record::sign(header, body, trust.registrar.fingerprint(), &trust.registrar_key).unwrap()
    };
    world.state().crls = vec![list(1, &[])];
    mira.app().sync().unwrap();
    let text = String::from_utf8(run(mira.profile.dir(), &["conversation", "show", "Bed 4"]).stdout).unwrap();
    assert!(text.contains("dates, not on revocation list 1 of"), "{text}");

    // One on which it is: nobody finds Jo any more, and as a member Jo is shown for what the certificate is worth.
    let serial = jo.profile.load().unwrap().certificate().serial().to_vec();
    let revoked = Revocation { serial, at: clock::now(), reason: Some(CrlReason::KeyCompromise) };
    world.state().crls = vec![list(2, &[revoked])];
    mira.app().sync().unwrap();
    assert!(mira.app().find("lund").unwrap().people.is_empty());
    let view = mira.app().conversation("Bed 4").unwrap();
    let member = view.members.iter().find(|m| !m.own).unwrap();
    assert!(!member.certification.holds && member.certification.revocation_list == Some(2));
    assert!(member.certification.problem.as_ref().unwrap().contains("revoked"), "{member:?}");
    let own = view.members.iter().find(|m| m.own).unwrap();
    assert!(own.certification.holds, "{own:?}");
    let text = String::from_utf8(run(mira.profile.dir(), &["conversation", "show", "Bed 4"]).stdout).unwrap();
    assert!(text.contains("CERTIFICATE DOES NOT HOLD: ") && text.contains("revoked"), "{text}");
}
