//! What a network of real processes does when its members, people and invitations change.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::time::Duration;

use lanyard_tests::cluster::REGION;
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Cluster, Person, Programs};

fn started() -> Cluster {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION).unwrap();
    cluster.enrol_all().unwrap();
    cluster
}

/// Everybody, in a conversation that the first clinician of the first trust has opened.
fn conversation(cluster: &Cluster) -> String {
    let owner = &cluster.trusts[0].people[0];
    let id = owner.converse("Handover", "clinical", cluster.others(owner)).unwrap();
    let members = cluster.people().count();
    cluster.people().for_each(|person| drop(person.await_joined(&id, members).unwrap()));
    id
}

#[test]
fn a_revoked_device_is_served_no_more() {
    let cluster = started();
    let conversation = conversation(&cluster);
    let (node, revoked) = (&cluster.trusts[1].node, &cluster.trusts[1].people[1]);
    let name = revoked.name();
    let answer = node.json(&["staff", "revoke", "--name", name, "--reason", "key-compromise"]).unwrap();
    assert_eq!(answer["revoked"].as_array().unwrap().len(), 1, "{answer}");

    let refused = revoked.command(&["sync"]).unwrap().refused().unwrap();
    assert!(refused.contains("revoked"), "{refused}");
    let colleague = &cluster.trusts[1].people[0];
    let sender = &cluster.trusts[0].people[0];
    sender.send(&conversation, "after the revocation").unwrap();
    colleague.await_message(&conversation, "after the revocation").unwrap();
    let refused = revoked.command(&["read", &conversation]).unwrap().refused().unwrap();
    assert!(refused.contains("revoked"), "{refused}");
    // The other trusts know as well: nobody can invite that device any more.
    wait::until("the directory has forgotten the device", SOON, || {
        let found = sender.json(&["find", revoked.plan().registration])?;
        Ok(if found["people"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(found) })
    })
    .unwrap();
}

#[test]
fn a_trust_that_the_charter_drops_is_out_and_an_older_charter_is_refused() {
    let cluster = Cluster::started(&Programs::find().unwrap(), &REGION).unwrap();
    let path = |name: &str| cluster.path().join(name).display().to_string();
    let key = |n| cluster.authority_key(n).display().to_string();
    let (old, new) = (cluster.charter().display().to_string(), path("charter2.cbor"));
    let proposed =
        ["network", "propose", &old, "--remove-member", "RZ3", "--authority-key", &key(3), "--out", &new];
    cluster.run(&[&proposed[..], &["--json"]].concat()).unwrap();
    let [first, second, dropped] = [0, 1, 2].map(|place| &cluster.trusts[place].node);

    let early = first.command(&["network", "import", &new]).unwrap().refused().unwrap();
    assert!(early.contains("1 of the 2 signatures"), "{early}");
    cluster.run(&["network", "sign", &new, "--authority-key", &key(1), "--json"]).unwrap();
    first.json(&["network", "import", &new]).unwrap();

    for node in [first, second] {
        wait::until(format!("{} follows the new charter", node.name()), SOON, || {
            let status = node.status()?;
            let apart = !node.connected()?.iter().any(|id| id == dropped.peer_id());
            Ok(if status["network"]["charter_version"] == 2 && apart { Ok(()) } else { Err(status) })
        })
        .unwrap();
        // It knows the old charter alone, and tries to come back.
        node.await_audit("the dropped trust is refused", |entry| {
            entry["event"] == "peer-refused" && entry["detail"].as_str().is_some_and(|d| d.contains("RZ3"))
        })
        .unwrap();
    }
    first.await_peers([second]).unwrap();

    let refused = second.command(&["network", "import", &old]).unwrap().refused().unwrap();
    assert!(refused.contains("older than version 2"), "{refused}");
    assert_eq!(second.status().unwrap()["network"]["charter_version"], 2);
}

#[test]
fn an_invitation_works_once_and_for_no_other_code() {
    let cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..1]).unwrap();
    let (node, plan) = (&cluster.trusts[0].node, REGION[0].people[0]);
    let line = node.invite(&plan).unwrap();
    let profile = |name: &str| cluster.path().join(name);
    let enrol = |line: &str, name: &str| {
        Person::existing(&cluster.programs, plan, "RZ1", &profile(name)).enrol_by(line).unwrap()
    };
    // The code is the end of the line.
    let last = if line.ends_with('0') { '1' } else { '0' };
    let wrong = format!("{}{last}", &line[..line.len() - 1]);
    enrol(&wrong, "wrong").refused().unwrap();
    enrol(&line, "right").done().unwrap();
    enrol(&line, "again").refused().unwrap();

    let staff = node.json(&["staff", "list"]).unwrap();
    assert_eq!(staff["devices"].as_array().unwrap().len(), 1, "{staff}");
    assert_eq!(staff["invitations"][0]["state"], "used", "{staff}");
    node.await_audit("the refusals", |entry| entry["event"] == "enrol-refused").unwrap();
}

#[test]
fn while_the_owner_is_away_messages_flow_and_changes_of_members_wait() {
    let mut cluster = started();
    let owner = cluster.trusts[1].people[0].clone();
    let members: Vec<Person> = [0, 2].map(|place| cluster.trusts[place].people[0].clone()).into();
    let conversation = owner.converse("Beds", "operational", &members).unwrap();
    members.iter().for_each(|person| drop(person.await_joined(&conversation, 3).unwrap()));
    let new = cluster.trusts[2].people[1].clone();

    cluster.trusts[1].node.stop().unwrap();
    members[0].send(&conversation, "while the owner is away").unwrap();
    members[1].await_message(&conversation, "while the owner is away").unwrap();
    // The owner's own device cannot reach its node: what it does waits there.
    owner.command(&["conversation", "add", &conversation, "--with", new.plan().registration]).unwrap();
    let sent = owner.json(&["send", &conversation, "from a device whose node is away"]).unwrap();
    assert_eq!((&sent["state"], &sent["id"]), (&"queued".into(), &serde_json::Value::Null));

    cluster.trusts[1].node.start().unwrap();
    wait::until("what waited is sent", Duration::from_secs(60), || {
        let synced = owner.json(&["sync"])?;
        Ok(if synced["queued"] == 0 { Ok(()) } else { Err(synced) })
    })
    .unwrap();
    for person in &members {
        person.await_message(&conversation, "from a device whose node is away").unwrap();
    }
    owner.await_message(&conversation, "while the owner is away").unwrap();
    owner.command(&["conversation", "add", &conversation, "--with", new.plan().registration]).unwrap();
    new.await_joined(&conversation, 4).unwrap();
    assert!(
        !new.reads(&conversation, "while the owner is away").unwrap(),
        "what was before is not for new members"
    );
}

#[test]
fn a_person_reads_and_writes_on_each_of_their_devices() {
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..2]).unwrap();
    cluster.enrol_all().unwrap();
    let (owner, phone) = (&cluster.trusts[0].people[0], &cluster.trusts[1].people[0]);
    let (trust, node) = (phone.trust(), &cluster.trusts[1].node);
    let profile = cluster.path().join("tablet");
    let tablet = Person::enrol(&cluster.programs, *phone.plan(), trust, node, &profile).unwrap();
    wait::until("both devices can be invited", SOON, || {
        let found = owner.json(&["find", phone.plan().registration])?;
        let devices = found["people"][0]["devices"].as_array().cloned().unwrap_or_default();
        let reachable = devices.iter().filter(|device| device["reachable"] == true).count();
        Ok(if reachable == 2 { Ok(()) } else { Err(found) })
    })
    .unwrap();

    let conversation = owner.converse("Ward round", "clinical", [phone]).unwrap();
    let all = [owner, phone, &tablet];
    all.iter().for_each(|device| drop(device.await_joined(&conversation, 3).unwrap()));
    for (sender, text) in all.iter().zip(["from the owner", "from the phone", "from the tablet"]) {
        sender.send(&conversation, text).unwrap();
        for reader in all {
            let message = reader.await_message(&conversation, text).unwrap();
            assert_eq!(message["sender"]["name"], sender.name(), "{message}");
        }
    }
}
