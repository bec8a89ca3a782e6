//! A PIN on a real device: what it closes, what opens it, and what an agent leaves in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lanyard_client::agent;
use lanyard_client::profile::Profile;
use lanyard_tests::cluster::REGION;
use lanyard_tests::process::{self, Daemon, Outcome};
use lanyard_tests::traces::{contains, copy_dir};
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Cluster, Person, Programs};

const PIN: &str = "482917";
const OTHER_PIN: &str = "739105";

/// The process that keeps a person's device unlocked, and what it prints.
struct Agent {
    daemon: Daemon,
    log: PathBuf,
}

impl Agent {
    fn start(cluster: &Cluster, person: &Person) -> Self {
        let log = person.profile().with_extension("agent");
        let profile = person.profile().display().to_string();
        let arguments = ["--profile", &profile, "agent"];
        let daemon = Daemon::start(person.name(), &cluster.programs.client(), &arguments, &log).unwrap();
        wait::until("the agent runs", SOON, || {
            Ok(agent::runs(&profile_of(person)).then_some(()).ok_or("not yet"))
        })
        .unwrap();
        Self { daemon, log }
    }

    /// Whether any memory of the process holds these bytes; none if nobody of this account may look.
    fn remembers(&self, bytes: &[u8]) -> Option<bool> {
        let process = PathBuf::from("/proc").join(self.daemon.id().to_string());
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
}

fn profile_of(person: &Person) -> Profile {
    Profile::at(person.profile())
}

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
    other.send(&conversation, "before the PIN").unwrap();
    ada.await_message(&conversation, "before the PIN").unwrap();
    let profile = profile_of(&ada);
    let plain_key = fs::read(profile.plain_key_path()).unwrap();

    assert!(typing(&cluster, &ada, &["unlock"], PIN).refused().unwrap().contains("no PIN is set"));
    let weak = typing(&cluster, &ada, &["pin", "set"], "123456");
    assert_eq!(weak.code(), Some(2));
    assert!(weak.stderr.contains("is a run"), "{}", weak.stderr);
    let ada_agent = Agent::start(&cluster, &ada);
    assert_eq!(typing(&cluster, &ada, &["pin", "set"], PIN).json().unwrap()["unlocked"], true);
    assert!(!profile.plain_key_path().exists() && profile.has_pin().unwrap());
    let key = agent::opened(&profile, false).unwrap().unwrap().key;
    assert!(key[..] != plain_key[..], "what lay in the open opens nothing any more");
    assert!(ada.reads(&conversation, "before the PIN").unwrap());
    assert_ne!(ada_agent.remembers(&key[..]), Some(false), "the look finds what is there");

    // Locked: nothing is shown, nothing is in memory, and it is said that something has come.
    assert_eq!(ada.json(&["lock"]).unwrap()["unlocked"], false);
    assert_ne!(ada_agent.remembers(&key[..]), Some(true));
    for arguments in [&["read", &conversation][..], &["sync"], &["send", &conversation, "x"]] {
        let said = ada.command(arguments).unwrap().refused().unwrap();
        assert!(said.contains("this device is locked"), "{said}");
    }
    let secret = "the potassium is 6.9";
    other.send(&conversation, secret).unwrap();
    // What came before it had asked the node for the first time is not news to it.
    wait::until("the agent tells that something has come", SOON, || {
        other.send(&conversation, "and more")?;
        let printed = fs::read_to_string(&ada_agent.log).unwrap();
        Ok(if printed.contains("new message\n") { Ok(()) } else { Err(printed) })
    })
    .unwrap();
    let printed = fs::read_to_string(&ada_agent.log).unwrap();
    assert!(printed.lines().all(|line| line == "new message"), "{printed}");
    let limits = fs::read_to_string(format!("/proc/{}/limits", ada_agent.daemon.id())).unwrap();
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
    drop(ada_agent);

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
    let agent = Agent::start(&cluster, &person);
    typing(&cluster, &person, &["pin", "set"], PIN).json().unwrap();
    person.json(&["lock"]).unwrap();
    for left in [9, 8, 7, 6] {
        let said = typing(&cluster, &person, &["unlock"], "000000").refused().unwrap();
        assert!(said.contains(&format!("{left} attempts are left")), "{said}");
    }
    cluster.trusts[0].node.stop().unwrap();
    // However long the test has taken: the fifth waits for an hour.
    cluster.trusts[0].node.configure("[gateway]", "[policy.pin]\ndelay_secs = 3600\n\n[gateway]").unwrap();
    cluster.trusts[0].node.start().unwrap();
    let said = typing(&cluster, &person, &["unlock"], PIN).refused().unwrap();
    assert!(said.contains("the PIN was tried too often: wait "), "{said}");
    drop(agent);
}
