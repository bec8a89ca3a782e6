//! Revocation and the charter work on what is live: streams and connections end at once, and everybody else goes on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use lanyard_client::app::Waiter;
use lanyard_client::profile::Profile;
use lanyard_tests::cluster::REGION;
use lanyard_tests::process::Daemon;
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Cluster, HarnessError, Person, Programs};

/// How long a stream is listened to at a time.
const PAUSE: Duration = Duration::from_millis(250);

/// A device that stays and prints what arrives, as its owner has it on a screen.
struct Follower {
    daemon: Daemon,
    log: std::path::PathBuf,
}

impl Follower {
    fn start(cluster: &Cluster, person: &Person, conversation: &str) -> Self {
        let log = person.profile().with_extension("followed");
        let profile = person.profile().display().to_string();
        let arguments = ["--profile", &profile, "--json", "read", conversation, "--follow"];
        let daemon = Daemon::start(person.name(), &cluster.programs.client(), &arguments, &log);
        Self { daemon: daemon.unwrap(), log }
    }

    fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has printed this, without being asked.
    fn await_printed(&mut self, text: &str) {
        wait::until(format!("{text:?} is pushed"), SOON, || {
            self.daemon.check()?;
            let printed = self.printed();
            Ok(if printed.contains(text) { Ok(()) } else { Err(printed) })
        })
        .unwrap();
    }

    /// Waits until it has ended by itself; returns what it said and how it ended.
    fn await_end(mut self) -> String {
        wait::until("the stream ends", SOON, || {
            Ok(match self.daemon.check() {
                Err(HarnessError::Ended { log, .. }) => Ok(log),
                other => Err(other),
            })
        })
        .unwrap()
    }
}

#[test]
fn a_revoked_devices_stream_ends_and_the_others_go_on() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..2]).unwrap();
    cluster.enrol_all().unwrap();
    let conversation = open(&cluster);
    let [sender, colleague, revoked] =
        [(0, 0), (1, 0), (1, 1)].map(|(trust, person)| cluster.trusts[trust].people[person].clone());
    let mut followed = Follower::start(&cluster, &revoked, &conversation);
    let mut colleagues = Follower::start(&cluster, &colleague, &conversation);
    sender.send(&conversation, "before the revocation").unwrap();
    followed.await_printed("before the revocation");
    colleagues.await_printed("before the revocation");

    // A stream of its own, whose end nobody but the node can bring about: a program may notice at its next request.
    let mut stream = Waiter::connect(&Profile::at(revoked.profile())).unwrap();
    assert!(stream.wait(SOON).unwrap(), "it begins with the present position");
    let node = &cluster.trusts[1].node;
    node.json(&["staff", "revoke", "--name", revoked.name()]).unwrap();
    let ended = wait::until("the node ends the stream", SOON, || {
        Ok(match stream.wait(PAUSE) {
            Ok(_) => Err("still open"),
            Err(error) => Ok(error.to_string()),
        })
    });
    assert!(ended.unwrap().contains("broke"));
    let said = followed.await_end();
    assert!(said.contains("revoked") && said.contains("exit status: 1"), "{said}");
    // The last word is advice that a person can follow.
    assert!(said.contains("ask your trust"), "{said}");
    node.await_audit("the connection was closed", |entry| {
        entry["event"] == "device-closed" && entry["code"] == "device-refused"
    })
    .unwrap();
    let refused =
        revoked.command(&["send", &conversation, "from a revoked device"]).unwrap().refused().unwrap();
    assert!(refused.contains("revoked"), "{refused}");

    // The colleague's stream is the same one as before, on the same node.
    sender.send(&conversation, "after the revocation").unwrap();
    colleagues.await_printed("after the revocation");
    colleague.send(&conversation, "the colleague goes on as well").unwrap();
    sender.await_message(&conversation, "the colleague goes on as well").unwrap();
    for person in [&sender, &colleague] {
        assert!(!person.reads(&conversation, "from a revoked device").unwrap());
    }
    assert!(!colleagues.printed().contains("from a revoked device"));
    assert!(!said.contains("after the revocation"), "{said}");
}

#[test]
fn the_others_go_on_without_a_trust_that_the_charter_drops() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION).unwrap();
    cluster.enrol_all().unwrap();
    let conversation = open(&cluster);
    let [owner, member, dropped] = [0, 1, 2].map(|trust| cluster.trusts[trust].people[0].clone());
    let mut stays = Follower::start(&cluster, &member, &conversation);
    let mut goes = Follower::start(&cluster, &dropped, &conversation);
    owner.send(&conversation, "to all three trusts").unwrap();
    stays.await_printed("to all three trusts");
    goes.await_printed("to all three trusts");

    let new = drop_third(&cluster);
    cluster.trusts[0].node.json(&["network", "import", &new]).unwrap();
    for trust in &cluster.trusts[..2] {
        await_apart(&cluster, trust.plan.ods);
    }
    await_lonely(&cluster);

    // Started again, it still knows the old charter, and finds every door shut.
    cluster.trusts[2].node.stop().unwrap();
    cluster.trusts[2].node.start().unwrap();
    let peer_id = cluster.trusts[2].node.peer_id().to_owned();
    for trust in &cluster.trusts[..2] {
        trust
            .node
            .await_audit("the dropped trust is refused", |entry| {
                entry["event"] == "peer-refused" && entry["peer_id"] == peer_id.as_str()
            })
            .unwrap();
        await_apart(&cluster, trust.plan.ods);
    }
    await_lonely(&cluster);

    // What would have to be kept by a trust that is gone is refused, and says so.
    let early = owner.command(&["send", &conversation, "too early"]).unwrap().refused().unwrap();
    assert!(early.contains("RZ3 is not in the charter"), "{early}");
    // Members without a trust in the charter are taken out, and the conversation goes on.
    for person in &cluster.trusts[2].people {
        let member = format!("{}@{}", person.name(), person.trust());
        let removed = owner.command(&["conversation", "remove", &conversation, "--member", &member]);
        removed.unwrap().done().unwrap();
    }
    member.await_joined(&conversation, 4).unwrap();
    owner.send(&conversation, "to the two that are left").unwrap();
    stays.await_printed("to the two that are left");
    member.send(&conversation, "and back").unwrap();
    owner.await_message(&conversation, "and back").unwrap();
    assert!(!goes.printed().contains("to the two that are left"), "{}", goes.printed());
}

/// Everybody, in a conversation that the first clinician of the first trust has opened.
fn open(cluster: &Cluster) -> String {
    let owner = &cluster.trusts[0].people[0];
    let id = owner.converse("Handover", "clinical", cluster.others(owner)).unwrap();
    let members = cluster.people().count();
    cluster.people().for_each(|person| drop(person.await_joined(&id, members).unwrap()));
    id
}

/// Writes the next charter, without the third trust and with two signatures; returns its file.
fn drop_third(cluster: &Cluster) -> String {
    let new = cluster.path().join("charter2.cbor").display().to_string();
    let (old, ods) = (cluster.charter().display().to_string(), cluster.trusts[2].plan.ods);
    let [first, second] = [1, 2].map(|n| cluster.authority_key(n).display().to_string());
    #[rustfmt::skip]
    let arguments = [
        "network", "propose", &old, "--remove-member", ods, "--authority-key", &first, "--authority-key", &second,
        "--out", &new, "--json",
    ];
    assert_eq!(cluster.run(&arguments).unwrap()["signed"], true);
    new
}

/// Waits until the trust's node follows the new charter and is connected to the other that is left, alone.
fn await_apart(cluster: &Cluster, ods: &str) {
    let node = |wanted: bool| {
        let mut left = cluster.trusts[..2].iter();
        &left.find(|t| (t.plan.ods == ods) == wanted).unwrap().node
    };
    let (own, other) = (node(true), node(false));
    wait::until(format!("{ods} is apart from the dropped trust"), SOON, || {
        let (status, connected) = (own.status()?, own.connected()?);
        let apart = connected == [other.peer_id()];
        Ok(if status["network"]["charter_version"] == 2 && apart { Ok(()) } else { Err(status) })
    })
    .unwrap();
}

/// Waits until the dropped trust's node is connected to nobody.
fn await_lonely(cluster: &Cluster) {
    wait::until("the dropped trust's node is alone", SOON, || {
        let connected = cluster.trusts[2].node.connected()?;
        Ok(if connected.is_empty() { Ok(()) } else { Err(connected) })
    })
    .unwrap();
}

/// A device is revoked while its messages are under way, and while a trust cannot be reached or its people do not look: whether a message
/// came before or after is the same to everybody.
#[test]
fn a_message_under_way_is_before_the_revocation_for_everybody_or_refused() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION).unwrap();
    cluster.enrol_all().unwrap();
    let conversation = open(&cluster);
    let mut left: Vec<Person> = cluster.people().cloned().collect();
    // Of another trust each time, with none or one of the other trusts out of reach. The first clinician of the first looks all the time.
    for (trust, away) in [(1, None), (2, Some(1)), (0, Some(2))] {
        let revoked = cluster.trusts[trust].people[1].clone();
        left.retain(|person| person.profile() != revoked.profile());
        let looks =
            left.iter().find(|person| away.is_none_or(|away| person.trust() != REGION[away].ods)).unwrap();
        if let Some(away) = away {
            cluster.trusts[away].node.stop().unwrap();
        }
        let node = &cluster.trusts[trust].node;
        let (acknowledged, after) = std::thread::scope(|scope| {
            let sending = scope.spawn(|| send_until_refused(&revoked, &conversation));
            looks.await_message(&conversation, &numbered(&revoked, 2)).unwrap();
            node.json(&["staff", "revoke", "--name", revoked.name()]).unwrap();
            // From here on its node takes nothing of it and gives it nothing.
            let after = format!("after {} left", revoked.name());
            looks.send(&conversation, &after).unwrap();
            (sending.join().unwrap(), after)
        });
        if let Some(away) = away {
            cluster.trusts[away].node.start().unwrap();
        }
        let node = &cluster.trusts[trust].node;
        let refused = revoked.command(&["sync"]).unwrap().refused().unwrap();
        assert!(refused.contains("revoked"), "{refused}");
        assert!(
            !revoked.command(&["read", &conversation]).unwrap().stdout.contains(&after),
            "{}",
            node.name()
        );
        let mut said = Vec::new();
        for person in &left {
            person.await_message(&conversation, &after).unwrap();
            for text in &acknowledged {
                person.await_message(&conversation, text).unwrap();
            }
        }
        // What its node had taken when the connection broke, before it could answer, is everybody's as well.
        wait::until("all members have read the same", SOON, || {
            said = left.iter().map(|person| of(person, &conversation, &revoked)).collect();
            Ok(if said.iter().all(|texts| *texts == said[0]) { Ok(()) } else { Err(said.clone()) })
        })
        .unwrap();
        assert!(said[0].len() <= acknowledged.len() + 1, "{said:?}, and acknowledged were {acknowledged:?}");
    }
}

fn numbered(person: &Person, n: usize) -> String {
    format!("{} {n} of many", person.name())
}

/// Sends one message after the other, and returns those that were acknowledged.
fn send_until_refused(person: &Person, conversation: &str) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for n in 0..2000 {
        let text = numbered(person, n);
        let outcome = person.command(&["--json", "send", conversation, &text]).unwrap();
        match outcome.json() {
            Ok(sent) if sent["id"].is_string() => acknowledged.push(text),
            // It was not answered, and waits.
            Ok(_) => {}
            Err(_) => return acknowledged,
        }
    }
    panic!("{} was never refused", person.name());
}

/// What a member has read of another, in the order in which it is shown.
fn of(member: &Person, conversation: &str, sender: &Person) -> Vec<String> {
    let texts = member.read(conversation).unwrap().into_iter();
    let texts = texts.filter_map(|message| message["text"].as_str().map(str::to_owned));
    texts.filter(|text| text.starts_with(sender.name())).collect()
}
