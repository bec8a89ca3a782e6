//! A PIN on a real device: what it closes, what opens it, and what an agent leaves in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lanyard_client::agent;
use lanyard_client::profile::Profile;
use lanyard_tests::cluster::REGION;
use lanyard_tests::person::PIN;
use lanyard_tests::process::{self, Outcome};
use lanyard_tests::traces::{Trace, contains, copy_dir};
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Agent, Cluster, Person, Programs};

const OTHER_PIN: &str = "739105";

/// Whether any memory of a process holds these bytes; none if nobody of this account may look.
fn remembers(process: u32, bytes: &[u8]) -> Option<bool> {
    let process = PathBuf::from("/proc").join(process.to_string());
    let mut memory = match File::open(process.join("mem")) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        other => other.unwrap(),
    };
    let maps = fs::read_to_string(process.join("maps")).unwrap();
    let mut looked = 0;
    for line in maps.lines().filter(|line| !line.contains("[v")) {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        if !rights.starts_with('r') {
            continue;
        }
        let ends =
            range.split('-').map(|digits| u64::from_str_radix(digits, 16).unwrap()).collect::<Vec<_>>();
        memory.seek(SeekFrom::Start(ends[0])).unwrap();
        let mut part = Vec::new();
        // A page of a file that has become shorter cannot be read; what was read before it counts.
        let _ = (&memory).take(ends[1] - ends[0]).read_to_end(&mut part);
        looked += part.len();
        if contains(&part, bytes) {
            return Some(true);
        }
    }
    assert!(looked > 1 << 20, "{looked}");
    Some(false)
}

fn profile_of(person: &Person) -> Profile {
    Profile::at(person.profile())
}

/// As [`Person::typing`], whether or not an agent runs.
fn typing(cluster: &Cluster, person: &Person, arguments: &[&str], line: &str) -> Outcome {
    let profile = person.profile().display().to_string();
    let all = ["--profile", &profile, "--json"].into_iter().chain(arguments.iter().copied());
    process::run(&cluster.programs.client(), all, Some(&format!("{line}\n"))).unwrap()
}

#[test]
fn a_device_with_a_pin_opens_by_it_alone_and_an_agent_forgets_when_locked() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..2]).unwrap();
    cluster.enrol_all().unwrap();
    let (ada, other) = (cluster.trusts[0].people[0].clone(), cluster.trusts[1].people[0].clone());
    let conversation = ada.converse("Handover", "clinical", [&other]).unwrap();
    other.await_joined(&conversation, 2).unwrap();
    other.send(&conversation, "before it is locked").unwrap();
    ada.await_message(&conversation, "before it is locked").unwrap();
    let profile = profile_of(&ada);
    let (ada_agent, printed_to) = (ada.agent().id().unwrap(), Agent::log(ada.profile()));

    let weak = typing(&cluster, &ada, &["pin", "set"], "123456");
    assert_eq!(weak.code(), Some(2));
    assert!(weak.stderr.contains("is a run"), "{}", weak.stderr);
    assert!(!profile.plain_key_path().exists() && profile.has_pin().unwrap());
    let key = agent::opened(&profile, false).unwrap().unwrap().key;
    assert_eq!(Trace::of_secret("the vault's key", &key[..]).in_files(cluster.path()).unwrap(), None);
    assert_ne!(remembers(ada_agent, &key[..]), Some(false), "the look finds what is there");

    // Locked: nothing is shown, nothing is in memory, and it is said that something has come.
    assert_eq!(ada.json(&["lock"]).unwrap()["unlocked"], false);
    assert_ne!(remembers(ada_agent, &key[..]), Some(true));
    assert_ne!(remembers(ada_agent, b"before it is locked"), Some(true), "what she has read");
    for arguments in [&["read", &conversation][..], &["sync"], &["send", &conversation, "x"]] {
        let said = ada.command(arguments).unwrap().refused().unwrap();
        assert!(said.contains("this device is locked"), "{said}");
    }
    let secret = "the potassium is 6.9";
    other.send(&conversation, secret).unwrap();
    // What came before it had asked the node for the first time is not news to it.
    wait::until("the agent tells that something has come", SOON, || {
        other.send(&conversation, "and more")?;
        let printed = fs::read_to_string(&printed_to).unwrap();
        Ok(if printed.contains("new message\n") { Ok(()) } else { Err(printed) })
    })
    .unwrap();
    let printed = fs::read_to_string(&printed_to).unwrap();
    assert!(printed.lines().all(|line| line == "new message"), "{printed}");
    let limits = fs::read_to_string(format!("/proc/{}/limits", ada_agent)).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");

    // Another PIN needs the present one; the wrong one is counted, the right one opens.
    let copy = cluster.path().join("copy");
    copy_dir(ada.profile(), &copy).unwrap();
    let said = typing(&cluster, &ada, &["pin", "set"], OTHER_PIN).refused().unwrap();
    assert!(said.contains("this device is locked"), "{said}");
    let said = typing(&cluster, &ada, &["unlock"], OTHER_PIN).refused().unwrap();
    assert!(said.contains("the PIN is wrong; 9 attempts are left"), "{said}");
    assert_eq!(typing(&cluster, &ada, &["unlock"], PIN).json().unwrap()["failed"], 1);
    ada.await_message(&conversation, secret).unwrap();
    typing(&cluster, &ada, &["pin", "set"], OTHER_PIN).json().unwrap();
    assert_eq!(agent::opened(&profile, false).unwrap().unwrap().key, key);
    breaks_off(&cluster, &ada, &copy);
    ada.json(&["lock"]).unwrap();
    assert!(typing(&cluster, &ada, &["unlock"], PIN).refused().unwrap().contains("the PIN is wrong"));
    ada.agent().kill().unwrap();

    // The same without an agent beforehand: the command becomes it.
    let mut stays = Command::new(cluster.programs.client())
        .args(["--profile", &ada.profile().display().to_string(), "unlock", "--stay"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    stays.stdin.take().unwrap().write_all(format!("{OTHER_PIN}\n").as_bytes()).unwrap();
    let opened = wait::until("the device is unlocked", SOON, || {
        assert_eq!(stays.try_wait().unwrap(), None);
        Ok(agent::opened(&profile, false).ok().flatten().ok_or("not yet"))
    });
    let readable = opened.is_ok() && ada.reads(&conversation, secret).unwrap();
    stays.kill().unwrap();
    stays.wait().unwrap();
    assert!(readable, "{opened:?}");

    // Revoked, it opens nowhere, whoever knows the PIN: not with the files as they were before it was changed, either.
    let device = ada.json(&["whoami"]);
    assert!(device.is_err(), "locked again with the end of the agent");
    cluster.trusts[0]
        .node
        .json(&["staff", "revoke", "--name", ada.name(), "--reason", "key-compromise"])
        .unwrap();
    for (dir, pin) in [(&copy, PIN), (&ada.profile().to_path_buf(), OTHER_PIN)] {
        let arguments = ["--profile", &dir.display().to_string(), "unlock"];
        let outcome = process::run(&cluster.programs.client(), arguments, Some(&format!("{pin}\n"))).unwrap();
        let said = outcome.refused().unwrap();
        assert!(said.contains("your trust has revoked this device"), "{said}");
    }
}

/// A change of the PIN that breaks off: after the node has taken the new one, and before it has. The device is unlocked, and `before` has its
/// files as they were with the PIN before.
fn breaks_off(cluster: &Cluster, person: &Person, before: &Path) {
    let profile = profile_of(person);
    let [sealed, new] = [profile.sealed_path(), profile.new_sealed_path()];
    let sealed_before = before.join(sealed.file_name().unwrap());
    // What is in force stands beside what was.
    fs::rename(&sealed, &new).unwrap();
    fs::copy(&sealed_before, &sealed).unwrap();
    let said = typing(cluster, person, &["pin", "set"], PIN).refused().unwrap();
    assert!(said.contains("it is not known whether the PIN that was set last is in force"), "{said}");
    person.json(&["lock"]).unwrap();
    typing(cluster, person, &["unlock"], OTHER_PIN).json().unwrap();
    assert!(sealed.exists() && !new.exists());
    // What was never in force stands beside what is.
    fs::copy(&sealed_before, &new).unwrap();
    person.json(&["lock"]).unwrap();
    typing(cluster, person, &["unlock"], OTHER_PIN).json().unwrap();
    assert!(sealed.exists() && !new.exists());
    person.json(&["sync"]).unwrap();
}

#[test]
fn wrong_pins_are_waited_for_from_the_fifth_on() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..1]).unwrap();
    cluster.enrol_all().unwrap();
    let person = cluster.trusts[0].people[0].clone();
    person.json(&["lock"]).unwrap();
    for left in [9, 8, 7, 6] {
        let said = typing(&cluster, &person, &["unlock"], "000000").refused().unwrap();
        assert!(said.contains(&format!("{left} attempts are left")), "{said}");
    }
    cluster.trusts[0].node.stop().unwrap();
    // However long the test has taken: the fifth waits for an hour.
    cluster.trusts[0].node.configure("idle_secs", "delay_secs = 3600\nidle_secs").unwrap();
    cluster.trusts[0].node.start().unwrap();
    let said = typing(&cluster, &person, &["unlock"], PIN).refused().unwrap();
    assert!(said.contains("the PIN was tried too often: wait "), "{said}");
}

/// One trust with its two clinicians; its node is configured with these lines of `policy.pin`.
fn one_trust(pins: &str) -> (Cluster, [Person; 2]) {
    let mut cluster = Cluster::found(&Programs::find().unwrap(), &REGION[..1]).unwrap();
    cluster.trusts[0].node.configure("idle_secs", &format!("{pins}\nidle_secs")).unwrap();
    cluster.start().unwrap();
    cluster.enrol_all().unwrap();
    let people = [0, 1].map(|place| cluster.trusts[0].people[place].clone());
    (cluster, people)
}

/// What an attempt that is refused says.
fn refused(outcome: Outcome) -> String {
    outcome.refused().unwrap()
}

#[test]
fn ten_wrong_pins_destroy_and_processes_in_parallel_get_no_eleventh() {
    let (cluster, [person, other]) = one_trust("delay_secs = 0");
    for person in [&person, &other] {
        person.json(&["lock"]).unwrap();
    }
    // A thief has as many copies of the device's files as they like.
    let copy = cluster.path().join("copy");
    copy_dir(person.profile(), &copy).unwrap();
    let copied = Person::existing(&cluster.programs, *person.plan(), person.trust(), &copy);
    let tries = |person: &Person| {
        (0..10).map(|_| refused(typing(&cluster, person, &["unlock"], "000000"))).collect::<Vec<_>>()
    };
    let said = std::thread::scope(|scope| {
        let both = [&person, &copied].map(|person| scope.spawn(|| tries(person)));
        both.map(|tried| tried.join().unwrap()).concat()
    });
    let (wrong, others): (Vec<_>, Vec<_>) = said.iter().partition(|said| said.contains("the PIN is wrong"));
    assert_eq!((wrong.len(), others.len()), (10, 10), "{said:?}");
    let count = |words: &str| wrong.iter().filter(|said| said.contains(words)).count();
    for left in 2..=9 {
        assert_eq!(count(&format!("; {left} attempts are left")), 1, "{wrong:?}");
    }
    assert_eq!((count("one attempt is left"), count("that was the last attempt")), (1, 1), "{wrong:?}");
    assert!(others.iter().all(|said| said.contains("record was destroyed")), "{others:?}");
    for person in [&person, &copied] {
        let said = refused(typing(&cluster, person, &["unlock"], PIN));
        assert!(said.contains("record was destroyed"), "{said}");
    }
    let node = &cluster.trusts[0].node;
    node.await_audit("the record is gone", |entry| entry["event"] == "pin" && entry["code"] == "destroyed")
        .unwrap();

    // The right one gives all attempts back, whoever made the others.
    for _ in 0..9 {
        refused(typing(&cluster, &other, &["unlock"], "000000"));
    }
    assert_eq!(other.unlock().unwrap()["failed"], 9);
    let said = refused(typing(&cluster, &other, &["unlock"], "000000"));
    assert!(said.contains("9 attempts are left"), "{said}");
}

#[test]
fn a_lock_during_an_unlocking_is_not_undone() {
    let (cluster, [person, _]) = one_trust("delay_secs = 0");
    let (node, profile) = (&cluster.trusts[0].node, profile_of(&person));
    person.json(&["lock"]).unwrap();
    node.pause().unwrap();
    let outcome = std::thread::scope(|scope| {
        let unlocking = scope.spawn(|| typing(&cluster, &person, &["unlock"], PIN));
        // It has noted how the device was locked before, and waits for the node.
        let begun = wait::until("the unlocking has begun", SOON, || {
            let file = File::open(person.profile().join("lock")).unwrap();
            Ok(if file.try_lock().is_err() { Ok(()) } else { Err("not yet") })
        });
        let locked = person.json(&["lock"]);
        node.resume().unwrap();
        begun.unwrap();
        assert_eq!(locked.unwrap()["unlocked"], false);
        unlocking.join().unwrap()
    });
    let said = refused(outcome);
    assert!(said.contains("was locked meanwhile, and stays so"), "{said}");
    assert!(agent::opened(&profile, false).unwrap().is_none());
    assert_eq!(person.unlock().unwrap()["unlocked"], true);
}

#[test]
fn a_node_that_cannot_be_reached_is_done_without_where_the_trust_allows_it() {
    const AWAY: &str = "cannot be reached";
    let (mut cluster, [person, other]) = one_trust("delay_secs = 0");
    let conversation = person.converse("Handover", "clinical", [&other]).unwrap();
    other.await_joined(&conversation, 2).unwrap();
    other.send(&conversation, "bed 4 is free").unwrap();
    person.await_message(&conversation, "bed 4 is free").unwrap();
    let key = agent::opened(&profile_of(&person), false).unwrap().unwrap().key;
    let node = &mut cluster.trusts[0].node;
    let unlock = |pin: &str| person.typing(&["--json", "unlock"], pin).unwrap();
    let configured = |node: &mut lanyard_tests::Node, from: &str, to: &str| {
        node.configure(from, to).unwrap();
        node.start().unwrap();
    };

    // Off, as it is by default.
    person.json(&["lock"]).unwrap();
    node.stop().unwrap();
    let said = refused(unlock(PIN));
    assert!(said.contains(AWAY), "{said}");

    configured(node, "idle_secs", "offline_secs = 3600\nidle_secs");
    person.unlock().unwrap();
    person.json(&["lock"]).unwrap();
    assert_ne!(remembers(person.agent().id().unwrap(), &key[..]), Some(true), "it is kept sealed");
    node.stop().unwrap();
    let said = refused(unlock("000000"));
    assert!(said.contains("the PIN is wrong; without the node, 4 more are taken"), "{said}");
    assert_eq!(unlock(PIN).json().unwrap()["unlocked"], true);
    assert!(person.reads(&conversation, "bed 4 is free").unwrap());
    let sent = person.json(&["send", &conversation, "from a train"]).unwrap();
    assert_eq!(sent["state"], "queued");

    // The node knows of no session: it is asked again before anything goes out, and all is as it was then.
    node.start().unwrap();
    let said = person.command(&["sync"]).unwrap().refused().unwrap();
    assert!(said.contains("this device is locked"), "{said}");
    person.unlock().unwrap();
    person.json(&["sync"]).unwrap();
    other.await_message(&conversation, "from a train").unwrap();

    // Wrong PINs end it.
    person.json(&["lock"]).unwrap();
    node.stop().unwrap();
    for left in [4, 3, 2, 1] {
        let said = refused(unlock("000000"));
        assert!(said.contains(&format!("{left} more are taken")), "{said}");
    }
    let said = refused(unlock("000000"));
    assert!(said.contains("no other is taken any more"), "{said}");
    assert!(refused(unlock(PIN)).contains(AWAY));

    // A refusal of the node does.
    node.start().unwrap();
    person.unlock().unwrap();
    let said = refused(unlock("000000"));
    assert!(said.contains("9 attempts are left"), "{said}");
    person.json(&["lock"]).unwrap();
    node.stop().unwrap();
    assert!(refused(unlock(PIN)).contains(AWAY));

    // The end of the process does.
    node.start().unwrap();
    person.unlock().unwrap();
    node.stop().unwrap();
    person.agent().kill().unwrap();
    assert!(refused(unlock(PIN)).contains(AWAY));

    // Time does.
    configured(node, "offline_secs = 3600", "offline_secs = 1");
    person.unlock().unwrap();
    node.stop().unwrap();
    wait::until("the grace is over", SOON, || {
        person.json(&["lock"])?;
        let outcome = unlock(PIN);
        Ok(if outcome.code() == Some(1) && outcome.stderr.contains(AWAY) { Ok(()) } else { Err(outcome) })
    })
    .unwrap();
}

#[test]
fn a_device_that_nobody_uses_locks_itself() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..1]).unwrap();
    let node = &mut cluster.trusts[0].node;
    node.configure("idle_secs = 3600", "idle_secs = 10").unwrap();
    node.stop().unwrap();
    node.start().unwrap();
    cluster.enrol_all().unwrap();
    let ada = cluster.trusts[0].people[0].clone();
    let (profile, agent) = (profile_of(&ada), ada.agent().id().unwrap());
    let key = agent::opened(&profile, false).unwrap().unwrap().key;
    // To ask whether it is unlocked is not to use it.
    wait::until("it locks itself", SOON, || {
        Ok(if agent::opened(&profile, false).unwrap().is_none() { Ok(()) } else { Err("unlocked") })
    })
    .unwrap();
    wait::until("its agent forgets the key", SOON, || {
        Ok(if remembers(agent, &key[..]) == Some(true) { Err("it has it") } else { Ok(()) })
    })
    .unwrap();
    let said = ada.command(&["whoami"]).unwrap().refused().unwrap();
    assert!(said.contains("this device is locked"), "{said}");
}
