//! Two people of two trusts with names that are easily taken for each other, and somebody who writes to them: with real nodes.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Cluster, Person, PersonPlan, Programs, TrustPlan};

const fn plan(name: &'static str, role: &'static str, registration: &'static str) -> PersonPlan {
    PersonPlan { name, role, registration, department: "Cardiology" }
}

const TRUSTS: [TrustPlan; 2] = [
    TrustPlan {
        ods: "RZ1",
        name: "Fellbridge Royal Infirmary",
        people: &[
            plan("Tom Brenner", "Charge nurse", "NMC 00A0102Z"),
            plan("Dr Ada Okafor", "Consultant", "GMC 0000101"),
        ],
    },
    TrustPlan {
        ods: "RZ2",
        name: "St Oda's University Hospital",
        people: &[plan("Ada Okafour", "Staff nurse", "NMC 00A0202Z")],
    },
];

/// Waits until they can find and invite this many people by a word.
fn await_people(who: &Person, word: &str, count: usize) {
    wait::until(format!("{} finds {count} by {word:?}", who.name()), SOON, || {
        let found = who.json(&["find", word])?;
        let people = found["people"].as_array().cloned().unwrap_or_default();
        let reachable = people.iter().filter(|p| p["devices"][0]["reachable"] == true).count();
        Ok(if reachable == count { Ok(()) } else { Err(found) })
    })
    .unwrap();
}

#[test]
fn the_right_person_is_told_from_the_other() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &TRUSTS).unwrap();
    cluster.enrol_all().unwrap();
    let [tom, ada] = [0, 1].map(|place| &cluster.trusts[0].people[place]);
    let other = &cluster.trusts[1].people[0];
    await_people(tom, "ada", 2);
    await_people(other, "brenner", 1);

    let found = tom.json(&["find", "ada"]).unwrap();
    for person in found["people"].as_array().unwrap() {
        let devices = &person["devices"][0];
        assert_eq!((&person["similar"], &devices["certification"]["holds"]), (&true.into(), &true.into()));
        assert_eq!(devices["certification"]["trust"], person["trust"]);
    }
    // By role, registration, and organisation, too, with how it was verified.
    for (words, name) in
        [("staff nurse", "Ada Okafour"), ("GMC 0000101", "Dr Ada Okafor"), ("RZ2 okafour", "Ada Okafour")]
    {
        let found = tom.json(&["find", words]).unwrap();
        let [person] = &found["people"].as_array().unwrap()[..] else { panic!("{words}: {found}") };
        assert_eq!(person["name"], name, "{words}");
    }
    let new = ["conversation", "new", "--title", "Bed 4", "--class", "clinical", "--with", "NMC 00A0202Z"];
    let asked = tom.command(&new).unwrap();
    assert_eq!(asked.code(), Some(2), "{}", asked.stderr);
    for part in
        ["Ada Okafour, Staff nurse, NMC 00A0202Z (RZ2)", "Dr Ada Okafor, Consultant, GMC 0000101 (RZ1)"]
    {
        assert!(asked.stderr.contains(part), "{}", asked.stderr);
    }
    let view = tom.json(&[&new[..], &["--confirm", "Ada Okafour@RZ2"]].concat()).unwrap();
    let id = view["id"].as_str().unwrap();
    other.await_joined(id, 2).unwrap();
    let sent = tom.send(id, "NHS 999 000 0018 is yours at 14:00").unwrap();
    other.await_message(id, "NHS 999 000 0018 is yours at 14:00").unwrap();

    // Both sides see one number, and it is of nobody else.
    let number = |who: &Person, with: &str| who.json(&["safety", with]).unwrap()["number"].clone();
    assert_eq!(number(tom, "NMC 00A0202Z"), number(other, "NMC 00A0102Z"));
    assert_ne!(number(tom, "NMC 00A0202Z"), number(tom, "GMC 0000101"));
    assert_eq!(number(ada, "NMC 00A0102Z"), number(tom, "GMC 0000101"));
    let of_all = |who: &Person| who.json(&["safety", "--conversation", id]).unwrap()["number"].clone();
    assert_eq!(of_all(tom), of_all(other));

    let removed = tom.json(&["conversation", "remove", id, "--member", "NMC 00A0202Z"]).unwrap();
    let could = &removed["could_read"][0];
    assert_eq!((&could["name"], &could["removed"]), (&"Ada Okafour".into(), &true.into()), "{removed}");
    assert_eq!(
        (&could["count"], &could["messages"][0]["id"]),
        (&1.into(), &sent.as_str().into()),
        "{removed}"
    );
}
