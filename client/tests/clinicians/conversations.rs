//! What clinicians do, from enrolment to a deletion; and what a node cannot make them believe.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::world::World;
use lanyard_client::agent::{self, Mark, Opened};
use lanyard_client::app::view::{ConversationState, MessageState};
use lanyard_client::app::{App, AppError, Waiter};
use lanyard_client::enrol::EnrolError;
use lanyard_client::node::NodeError;
use lanyard_client::profile::Profile;
use lanyard_crypto::gateway::Invitation;
use lanyard_crypto::mls::Class;
use lanyard_crypto::pin::Pin;
use lanyard_crypto::record::{Body, Envelope, Reason, Target, Tombstone};
use serde_json::Value;
use tempfile::TempDir;

pub const MARKER: &str = "potassium 6.8, repeat at noon";

pub const PIN: &str = "Lantern-417-Sedge";

pub struct Person {
    pub profile: Profile,
    _dir: TempDir,
}

/// Keeps a profile unlocked, as the process does that `lanyard unlock` leaves; it ends with the profile.
pub fn keep(profile: &Profile, opened: Option<Opened>) {
    let serving = profile.clone();
    std::thread::spawn(move || agent::serve(&serving, opened.map(|opened| (opened, Mark::default())), drop));
    while !agent::runs(profile) {
        std::thread::yield_now();
    }
}

/// Enrols a device, which is locked afterwards.
pub fn enrol(profile: &Profile, line: &str) -> Result<Opened, AppError> {
    App::enrol(profile, line, Pin::chosen(PIN).unwrap(), None).map(|(_, opened)| opened)
}

impl Person {
    pub fn enrol(world: &Arc<World>, trust: usize, name: &str, registration: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::at(dir.path().join("profile"));
        keep(&profile, Some(enrol(&profile, &world.invite(trust, name, registration)).unwrap()));
        Self { profile, _dir: dir }
    }

    pub fn app(&self) -> App {
        App::open(&self.profile).unwrap()
    }

    pub fn texts(&self) -> Vec<String> {
        let mut app = self.app();
        let synced = app.sync().unwrap();
        assert_eq!(synced.refused, Vec::<String>::new());
        app.messages(None, 100).unwrap().messages.into_iter().map(|m| m.text).collect()
    }
}

pub fn three(world: &Arc<World>) -> [Person; 3] {
    [
        Person::enrol(world, 0, "Mira Okafor", "GMC 1111111"),
        Person::enrol(world, 1, "Jo Lund", "GMC 2222222"),
        Person::enrol(world, 2, "Mira Okafor", "NMC 33A3333B"),
    ]
}

#[test]
fn a_conversation_across_trusts_with_a_deletion() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, other_mira] = three(&world);
    let me = mira.app().whoami().unwrap();
    assert_eq!((me.name.as_str(), me.trust.as_str(), me.reachable), ("Mira Okafor", "RTD", true));

    let found = jo.app().find("mira").unwrap();
    assert_eq!(found.people.len(), 2);
    assert!(found.people.iter().all(|p| p.similar && p.devices.len() == 1 && p.devices[0].reachable));
    let with = |who: &[&str]| who.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    let two = jo.app().new_conversation("Bed 4", Class::Clinical, &with(&["mira okafor"]), None);
    assert!(matches!(two, Err(AppError::Ambiguous { found, .. }) if found.len() == 2));
    // A device that `find` has shown stands for its holder.
    let device = found.people.iter().find(|p| p.trust == "RYJ").unwrap().devices[0].device[..12].to_owned();
    let mut app = jo.app();
    app.confirm(std::slice::from_ref(&device));
    let view = app.new_conversation("Rota", Class::Operational, &[device], None).unwrap();
    drop(app);
    assert_eq!(view.trusts, ["RXH", "RYJ"]);

    let view = mira
        .app()
        .new_conversation("Bed 4", Class::Clinical, &with(&["GMC 2222222", "Mira Okafor@RYJ"]), None)
        .unwrap();
    assert_eq!((view.state, view.class, view.owner.as_str()), (ConversationState::Open, "clinical", "RTD"));
    assert_eq!(view.trusts, ["RTD", "RXH", "RYJ"]);
    assert_eq!(view.members.iter().filter(|m| m.admin && m.own).count(), 1);

    let sent = mira.app().send("bed 4", MARKER, None).unwrap();
    assert_eq!(sent.state, MessageState::Sent);
    assert_eq!(jo.texts(), [MARKER]);
    let message = jo.app().messages(Some("Bed 4"), 10).unwrap().messages.remove(0);
    assert_eq!((message.sender.name.as_str(), message.sender.trust.as_str()), ("Mira Okafor", "RTD"));
    assert_eq!((message.sender.role.as_deref(), message.class), (Some("Registrar"), "clinical"));
    // Told apart when the other one was invited.
    jo.app().send("Bed 4", "noted", Some(3600)).unwrap();
    assert_eq!(other_mira.texts(), [MARKER, "noted"]);
    assert_eq!(mira.texts(), [MARKER, "noted"]);

    let id = sent.id.unwrap();
    assert!(matches!(jo.app().delete(&id, Reason::SentInError), Err(AppError::NotOwn(_))));
    let deletion = mira.app().delete(&id[..6], Reason::SentInError).unwrap();
    assert_eq!((deletion.confirmed, deletion.replicas_total), (1, 3));
    assert!(deletion.replicas[1].problem.as_ref().unwrap().contains("another trust"));
    assert!(deletion.replicas[2].problem.is_none() && deletion.replicas[2].erased.is_none());
    assert!(deletion.note.contains("attested erasure, no more"));
    let again = mira.app().deletion(&deletion.id.parse().unwrap()).unwrap();
    assert_eq!(again.confirmed, 1);
    for person in [&mira, &jo, &other_mira] {
        assert_eq!(person.texts(), ["noted"]);
        assert!(!holds_marker(person.profile.dir()));
    }

    let view = mira.app().remove_members("Bed 4", &with(&["Jo Lund"])).unwrap();
    assert_eq!(view.conversation.trusts, ["RTD", "RYJ"]);
    mira.app().send("Bed 4", "without Jo", None).unwrap();
    assert_eq!(other_mira.texts(), ["noted", "without Jo"]);
    assert_eq!(jo.texts(), ["noted"]);
    assert_eq!(jo.app().conversation("Bed 4").unwrap().state, ConversationState::Left);
    assert!(matches!(jo.app().send("Bed 4", "still here?", None), Err(AppError::Left { .. })));
    let view = mira.app().add_members("Bed 4", &with(&["Jo Lund"])).unwrap();
    assert_eq!(view.trusts, ["RTD", "RXH", "RYJ"]);
    mira.app().send("Bed 4", "welcome back", None).unwrap();
    // What was written in between arrived while Jo was out: it is dropped, and nothing is told of it.
    assert_eq!(jo.texts(), ["noted", "welcome back"]);
}

#[test]
fn a_change_waits_visibly_for_the_owner_trust() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, _] = three(&world);
    world.state().hub_away = true;
    let mut app = mira.app();
    app.set_patience(Duration::ZERO);
    let view = app.new_conversation("Rota", Class::Operational, &["Jo Lund".to_owned()], None).unwrap();
    assert_eq!((view.state, view.waiting_for.as_deref()), (ConversationState::Waiting, Some("RTD")));
    drop(app);
    assert_eq!(jo.texts(), Vec::<String>::new());
    assert!(jo.app().conversations().unwrap().conversations.is_empty());
}

#[test]
fn what_only_a_node_without_the_right_signed_is_not_believed() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, other_mira] = three(&world);
    mira.app()
        .new_conversation(
            "Bed 4",
            Class::Clinical,
            &["Jo Lund".to_owned(), "Mira Okafor@RYJ".to_owned()],
            None,
        )
        .unwrap();
    let sent = mira.app().send("Bed 4", MARKER, None).unwrap();
    let id = sent.id.unwrap().parse().unwrap();

    // The same ciphertext in an envelope of another trust, read before the original.
    let envelope = {
        let state = world.state();
        let decoded =
            lanyard_crypto::record::Decoded::from_bytes(&state.inbox.last().unwrap().bytes).unwrap();
        let Body::Envelope(envelope) = decoded.body().clone() else { panic!("the message is the newest") };
        envelope
    };
    let custodians: Vec<_> = world.trusts.iter().map(|t| t.id.clone()).collect();
    let expires = sent.expires.0;
    let original = world.state().inbox.pop().unwrap();
    let copy = Body::Envelope(Envelope { ..envelope.clone() });
    world.publish(&mut world.state(), &world.trusts[1], &custodians, expires, copy);
    let synced = jo.app().sync().unwrap();
    assert!(synced.refused.len() == 1 && synced.refused[0].contains("signed by RXH"), "{:?}", synced.refused);
    assert_eq!(synced.received, 0);

    // It has not cost Jo the original, which comes after it.
    world.state().inbox.push(original.clone());
    assert_eq!(jo.texts(), [MARKER]);

    // A deletion by a trust that is neither the sender's nor the owner.
    world.state().inbox[2] = original;
    assert_eq!(other_mira.texts(), [MARKER]);
    let body = Body::Tombstone(Tombstone {
        conversation: envelope.conversation.clone(),
        target: Target::Envelopes(vec![id]),
        reason: Reason::Incident,
        reference: Vec::new(),
    });
    world.publish(&mut world.state(), &world.trusts[1], &custodians, expires, body.clone());
    assert_eq!(other_mira.texts(), [MARKER]);
    world.publish(&mut world.state(), &world.trusts[0], &custodians, expires, body);
    assert_eq!(other_mira.texts(), Vec::<String>::new());

    // A commit that the owner trust's node has not published.
    let commit = Body::Envelope(Envelope { class: lanyard_crypto::record::Class::Commit, ..envelope });
    world.publish(&mut world.state(), &world.trusts[1], &custodians, expires, commit);
    let refused = other_mira.app().sync().unwrap().refused;
    assert!(refused.len() == 1 && refused[0].contains("signed by RXH"), "{refused:?}");
}

#[test]
fn a_node_that_is_not_the_inviting_trusts_gets_nothing() {
    let world = World::start(&["RTD", "RXH"]);
    let line = world.invite(0, "Mira Okafor", "GMC 1111111");
    let invitation = Invitation::from_line(&line).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let attempt = |invitation: &Invitation| {
        let profile = Profile::at(dir.path().join("p"));
        let Err(AppError::Enrol(EnrolError::Node(error))) = enrol(&profile, &invitation.to_line()) else {
            panic!("the node must not be believed")
        };
        error
    };
    let other = Invitation { address: world.trusts[1].address.clone(), ..invitation.clone() };
    let name =
        Invitation { address: invitation.address.replace("127.0.0.1", "localhost"), ..invitation.clone() };
    let nobody = Invitation { address: "127.0.0.1:1".into(), ..invitation.clone() };
    let reason = |error: NodeError| match error {
        NodeError::NotTheNode { reason, .. } => reason,
        other => panic!("{other}"),
    };
    assert!(reason(attempt(&other)).contains("not the one that the invitation names"));
    assert!(reason(attempt(&name)).contains("does not name localhost"));
    assert!(matches!(attempt(&nobody), NodeError::Unreachable { .. }));
    // The code is still unused, and the profile was not spoilt.
    let profile = Profile::at(dir.path().join("p"));
    enrol(&profile, &line).unwrap();
    assert!(matches!(enrol(&profile, &line), Err(AppError::Enrol(EnrolError::Profile(_)))));
    let second = Profile::at(dir.path().join("second"));
    assert!(matches!(
        enrol(&second, &line),
        Err(AppError::Enrol(EnrolError::Node(NodeError::Refused { .. })))
    ));
}

#[test]
fn the_program_prints_what_its_documentation_says() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("profile");
    let line = world.invite(0, "Mira Okafor", "GMC 1111111");
    let _jo = Person::enrol(&world, 1, "Jo Lund", "GMC 2222222");

    assert_eq!(run(&profile, &["whoami"]).status.code(), Some(1));
    keep(&Profile::at(&profile), None);
    let weak = typing(&profile, &["enrol", &line], "123456");
    assert_eq!(weak.status.code(), Some(2), "a weak PIN costs no invitation");
    let enrolled = typing(&profile, &["--json", "enrol", &line], PIN);
    let enrolled: Value = serde_json::from_slice(&enrolled.stdout).unwrap();
    assert_eq!(enrolled["trust"], "RTD");
    assert_eq!(run(&profile, &["read", "nothing"]).status.code(), Some(2));
    assert_eq!(run(&profile, &["send"]).status.code(), Some(2));
    assert_eq!(json(&profile, &["find", "lund"])["people"][0]["registration"], "GMC 2222222");
    let begun = json(
        &profile,
        &["conversation", "new", "--title", "Bed 4", "--class", "clinical", "--with", "Jo Lund"],
    );
    assert_eq!((&begun["state"], &begun["members"][0]["name"]), (&"open".into(), &"Jo Lund".into()));
    let sent = json(&profile, &["send", "Bed 4", MARKER, "--expires", "12h"]);
    assert_eq!(sent["state"], "sent");
    let read = json(&profile, &["read"]);
    assert_eq!((&read["messages"][0]["text"], &read["synced"]["queued"]), (&MARKER.into(), &0.into()));
    let text = String::from_utf8(run(&profile, &["read", "Bed 4"]).stdout).unwrap();
    assert!(text.starts_with("[clinical] Bed 4") && text.contains("Mira Okafor, Registrar (RTD)"), "{text}");
    let id = sent["id"].as_str().unwrap();
    let text = String::from_utf8(run(&profile, &["delete", id, "--reason", "sent-in-error"]).stdout).unwrap();
    assert!(
        text.contains("replicas 1 of 3, devices 0 of 0") && text.contains("attested erasure, no more"),
        "{text}"
    );
    assert_eq!(json(&profile, &["sync"])["received"], 0);
}

#[test]
fn following_shows_a_message_when_it_arrives() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, _] = three(&world);
    mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    jo.app().sync().unwrap();
    let mut waiter = Waiter::connect(&jo.profile).unwrap();
    let long = Duration::from_secs(30);
    assert!(waiter.wait(long).unwrap());

    let mut follow =
        program(jo.profile.dir(), &["read", "--follow", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    mira.app().send("Bed 4", MARKER, None).unwrap();
    assert!(waiter.wait(long).unwrap());
    let mut line = String::new();
    let mut out = std::io::BufReader::new(follow.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    follow.kill().unwrap();
    follow.wait().unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["event"], &event["text"]), (&"message".into(), &MARKER.into()));
}

pub fn program(profile: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanyard"));
    command.arg("--profile").arg(profile).args(arguments);
    command
}

pub fn run(profile: &Path, arguments: &[&str]) -> Output {
    program(profile, arguments).stdin(Stdio::null()).output().unwrap()
}

/// Runs a command with a line at standard input.
pub fn typing(profile: &Path, arguments: &[&str], line: &str) -> Output {
    let mut child = program(profile, arguments);
    let mut child =
        child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), format!("{line}\n").as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

pub fn json(profile: &Path, arguments: &[&str]) -> Value {
    let output = program(profile, arguments).arg("--json").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether any file of the profile holds the marker in the clear.
fn holds_marker(dir: &Path) -> bool {
    let holds =
        |path: &Path| std::fs::read(path).unwrap().windows(MARKER.len()).any(|w| w == MARKER.as_bytes());
    // The agent's socket is no file that holds anything.
    let mut files =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|p| p.is_file());
    files.any(|path| holds(&path))
}

#[test]
fn a_message_that_the_node_did_not_hear_goes_out_later() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, _] = three(&world);
    mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    let device = mira.profile.dir().join("device.json");
    let written = std::fs::read_to_string(&device).unwrap();
    std::fs::write(&device, written.replace(&world.trusts[0].address, "127.0.0.1:1")).unwrap();
    let queued = mira.app().send("Bed 4", MARKER, None).unwrap();
    assert_eq!((queued.state, queued.id), (MessageState::Queued, None));
    assert!(matches!(mira.app().sync(), Err(AppError::Node(NodeError::Unreachable { .. }))));
    std::fs::write(&device, written).unwrap();
    assert_eq!(mira.app().sync().unwrap().sent, 1);
    assert_eq!(jo.texts(), [MARKER]);
}

#[test]
fn a_lost_answer_does_not_make_a_message_go_twice() {
    let world = World::start(&["RTD", "RXH", "RYJ"]);
    let [mira, jo, _] = three(&world);
    mira.app().new_conversation("Bed 4", Class::Clinical, &["Jo Lund".to_owned()], None).unwrap();
    world.state().loses_answers = true;
    assert_eq!(mira.app().send("Bed 4", MARKER, None).unwrap().state, MessageState::Queued);
    world.state().loses_answers = false;
    let before = world.state().inbox.len();
    let synced = mira.app().sync().unwrap();
    assert_eq!((synced.sent, synced.queued), (0, 0));
    assert_eq!(world.state().inbox.len(), before);
    let messages = mira.app().messages(None, 10).unwrap().messages;
    assert!(messages.len() == 1 && messages[0].state == MessageState::Sent && messages[0].id.is_some());
    assert_eq!(jo.texts(), [MARKER]);
}

#[test]
fn a_device_that_the_node_refuses_is_told_why() {
    let world = World::start(&["RTD"]);
    let mira = Person::enrol(&world, 0, "Mira Okafor", "GMC 1111111");
    world.state().refuses_devices = true;
    let Err(AppError::Node(error)) = mira.app().sync() else { panic!("the node must refuse") };
    assert!(matches!(&error, NodeError::NotAccepted { .. }), "{error:?}");
    assert!(error.to_string().contains("CertificateRevoked"), "{error}");
}
