//! What is secret on a device stands in no arguments, environment, log or temporary file of a program, and in none of its files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use lanyard_client::agent;
use lanyard_client::profile::Profile;
use lanyard_tests::cluster::REGION;
use lanyard_tests::person::PIN;
use lanyard_tests::process::{Daemon, Surroundings};
use lanyard_tests::traces::Trace;
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Agent, Cluster, Person, Programs};

const OTHER_PIN: &str = "Heron-582-Gorse";
const TEXT: &str = "potassium 6.9, repeat at noon";

/// The processes that were started for a profile: their ids, with their arguments and environments.
fn processes(profile: &Path) -> Vec<(u32, Vec<u8>)> {
    let profile = profile.display().to_string();
    let ids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    // One that has ended meanwhile has neither.
    let seen = ids.filter_map(|id: u32| {
        let [arguments, environment] =
            ["cmdline", "environ"].map(|name| fs::read(format!("/proc/{id}/{name}")));
        let arguments = arguments.ok()?;
        let is_its = arguments.split(|byte| *byte == 0).any(|word| word == profile.as_bytes());
        is_its.then_some(())?;
        Some((id, [arguments, environment.ok()?].concat()))
    });
    seen.collect()
}

/// Looks at the processes of a profile, of which there are at least so many.
fn look(profile: &Path, secrets: &[Trace], at_least: usize) {
    let seen = processes(profile);
    assert!(seen.len() >= at_least, "{} processes", seen.len());
    for (id, seen) in &seen {
        for secret in secrets {
            assert_eq!(secret.in_bytes(seen), None, "{}, process {id}", secret.what());
        }
    }
}

/// What a device keeps secret while it is unlocked, beside PINs and texts.
fn kept(person: &Person) -> [Trace; 2] {
    let opened = agent::opened(&Profile::at(person.profile()), false).unwrap().unwrap();
    [
        Trace::of_secret("the vault's key", &opened.key[..]),
        Trace::of_secret("the session", &opened.token.to_bytes()[..]),
    ]
}

#[test]
fn nothing_secret_is_in_arguments_environments_logs_or_files() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..2]).unwrap();
    cluster.enrol_all().unwrap();
    let (mut ada, other) = (cluster.trusts[0].people[0].clone(), cluster.trusts[1].people[0].clone());
    let conversation = ada.converse("Handover", "clinical", [&other]).unwrap();
    other.await_joined(&conversation, 2).unwrap();

    // From here on, whatever her programs make beside the profile is in this directory, and what they show in another.
    let temporary = cluster.path().join("temporary");
    fs::create_dir(&temporary).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    ada.agent().kill().unwrap();
    ada.surround(Surroundings::new(["env".into(), format!("TMPDIR={}", temporary.display())]));
    ada.unlock().unwrap();
    let mut secrets = vec![Trace::of(PIN), Trace::of(OTHER_PIN), Trace::of(TEXT)];
    secrets.extend(kept(&ada));

    let shown: PathBuf = elsewhere.path().join("followed");
    let profile = ada.profile().display().to_string();
    let follow = ["--profile", &profile, "read", &conversation, "--follow"];
    let following = Daemon::start(ada.name(), &cluster.programs.client(), &follow, &shown).unwrap();
    ada.typing(&["send", &conversation], TEXT).unwrap().done().unwrap();
    other.await_message(&conversation, TEXT).unwrap();
    wait::until("the text is shown", SOON, || {
        let printed = fs::read_to_string(&shown).unwrap();
        Ok(if printed.contains(TEXT) { Ok(()) } else { Err(printed) })
    })
    .unwrap();
    look(ada.profile(), &secrets, 2);

    // Another PIN, and an agent that the program starts by itself.
    ada.typing(&["pin", "set"], OTHER_PIN).unwrap().done().unwrap();
    secrets.extend(kept(&ada));
    ada.json(&["lock"]).unwrap();
    drop(following);
    ada.agent().kill().unwrap();
    let wrong = unlocked_by_itself(&cluster, &ada, PIN);
    assert!(wrong.contains("the PIN is wrong"), "{wrong}");
    assert_eq!(unlocked_by_itself(&cluster, &ada, OTHER_PIN), "");
    assert!(ada.reads(&conversation, TEXT).unwrap());
    secrets.extend(kept(&ada));
    look(ada.profile(), &secrets, 1);

    // Profiles, temporary files, the nodes' stores and logs, and what the agent printed.
    assert!(Agent::log(ada.profile()).starts_with(cluster.path()));
    for secret in &secrets {
        assert_eq!(secret.in_files(cluster.path()).unwrap(), None, "{}", secret.what());
    }
    // It ends with the profile.
    let left: Vec<u32> = processes(ada.profile()).into_iter().map(|(id, _)| id).collect();
    assert_eq!(left.len(), 1, "its agent");
    drop(cluster);
    wait::until("the agent ends", SOON, || {
        let left = processes(ada.profile()).len();
        Ok(if left == 0 { Ok(()) } else { Err(left) })
    })
    .unwrap();
}

/// Unlocks a device that has no agent; what is said if that fails.
fn unlocked_by_itself(cluster: &Cluster, person: &Person, pin: &str) -> String {
    let arguments = ["--profile", &person.profile().display().to_string(), "unlock"];
    let input = format!("{pin}\n");
    let ended = lanyard_tests::process::run(&cluster.programs.client(), arguments, Some(&input)).unwrap();
    if ended.code() == Some(0) { String::new() } else { ended.refused().unwrap() }
}
