//! What is secret stays so on the wire and on the disk (promise P1): all loopback traffic of a conversation's life is captured,
//! and neither it, nor any file of a node or device, holds a message, a title or an invitation's code in any form. Names do not
//! travel in plain sight either.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Ipv4Addr;

use lanyard_crypto::gateway::Invitation;
use lanyard_tests::cluster::REGION;
use lanyard_tests::person::PIN;
use lanyard_tests::traces::{Trace, contains, files};
use lanyard_tests::{Capture, Cluster, Person, PersonPlan, Programs};

/// What is written. Each is unlike anything else that travels; the second is like what people should not write.
const TITLE: &str = "Zephyrine Quillfeather's transfer";
const TEXTS: [&str; 4] = [
    "Zephyrine Quillfeather (NHS 999 000 0034): EF 25%",
    "The door's PIN is 4096-7351",
    "Sent in error: Ignatius Thistlewood, bed 9",
    "While RZ3 was away: Perpetua Marchbanks",
];
/// Who is enrolled to see what becomes of the code.
const ONE_MORE: PersonPlan = PersonPlan {
    name: "Nadia Voss",
    role: "Pharmacist",
    registration: "GPHC 0000103",
    department: "Pharmacy",
};
/// What the test itself sends in the clear, in every form, to see that each is found.
const WITNESS: &str = "Nothing of this is secret: 7f3a9c~?>";

#[test]
fn what_is_secret_is_neither_in_the_traffic_nor_on_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    let capture = Capture::begin(&dir.path().join("loopback")).unwrap();
    let mut cluster = Cluster::started(&Programs::find().unwrap(), &REGION).unwrap();
    cluster.enrol_all().unwrap();
    let code = enrol_one_more(&cluster);
    let conversation = live(&mut cluster);
    let shown = cluster.trusts[1].people[0].command(&["read", &conversation]).unwrap();
    cluster.stop().unwrap();

    let mut secret: Vec<Trace> = TEXTS.iter().chain([&TITLE]).map(|text| Trace::of(text)).collect();
    // It was there to be found: a device whose owner asks shows it.
    for trace in [&secret[0], &secret[1], &secret[3], &secret[4]] {
        assert_eq!(trace.in_bytes(shown.stdout.as_bytes()), Some("plain"), "{}", shown.stdout);
    }
    secret.extend([code, Trace::of(PIN)]);
    let written = files(cluster.path()).unwrap();
    for node in cluster.trusts.iter().map(|trust| trust.node.data_dir()) {
        assert!(written.iter().filter(|file| file.starts_with(&node)).count() > 3);
    }
    for trace in &secret {
        let found = trace.in_files(cluster.path()).unwrap();
        assert_eq!(found, None, "{:?} was written to a disk", trace.what());
    }

    let Some(capture) = capture else { return };
    let witness = Trace::of(WITNESS);
    let forms: Vec<&[u8]> = witness.forms().map(|(_, form)| form).collect();
    Capture::witness(&forms.join(&b'\n')).unwrap();
    let traffic = capture.end().unwrap();
    for (name, form) in witness.forms() {
        assert!(contains(&traffic, form), "the capture does not show {name}");
    }
    holds_the_cluster(&traffic, &cluster);
    let names = cluster.people().flat_map(|person| [person.name(), person.plan().registration]);
    secret.extend(names.map(Trace::of));
    for trace in &secret {
        let found = trace.in_bytes(&traffic);
        assert_eq!(found, None, "{:?} travelled in the clear", trace.what());
    }
}

/// Invites and enrols a further person; returns the invitation's code.
fn enrol_one_more(cluster: &Cluster) -> Trace {
    let profile = cluster.path().join("one-more");
    let line = cluster.trusts[0].node.invite(&ONE_MORE).unwrap();
    let code = Invitation::from_line(&line).unwrap().code;
    let person = Person::existing(&cluster.programs, ONE_MORE, cluster.trusts[0].plan.ods, &profile);
    person.enrol_by(&line).unwrap().done().unwrap();
    Trace::of_secret("the invitation's code", &code)
}

/// Opens a conversation, sends, deletes, and has a node catch up; returns the conversation's id.
fn live(cluster: &mut Cluster) -> String {
    let owner = cluster.trusts[0].people[0].clone();
    let conversation = owner.converse(TITLE, "clinical", cluster.others(&owner)).unwrap();
    let members = cluster.people().count();
    cluster.people().for_each(|person| drop(person.await_joined(&conversation, members).unwrap()));
    let mut ids = Vec::new();
    for (sender, text) in cluster.trusts.iter().map(|trust| &trust.people[0]).zip(TEXTS) {
        ids.push(sender.send(&conversation, text).unwrap());
        all_read(cluster.people(), &conversation, text);
    }
    let deletion = cluster.trusts[2].people[0].delete(&ids[2], "sent-in-error").unwrap();
    cluster.trusts[2].people[0].await_confirmed(&deletion, 3).unwrap();
    cluster.people().for_each(|person| person.await_gone(&conversation, TEXTS[2]).unwrap());

    cluster.trusts[2].node.stop().unwrap();
    owner.send(&conversation, TEXTS[3]).unwrap();
    cluster.trusts[2].node.start().unwrap();
    all_read(cluster.people(), &conversation, TEXTS[3]);
    conversation
}

fn all_read<'a>(people: impl Iterator<Item = &'a Person>, conversation: &str, text: &str) {
    people.for_each(|person| drop(person.await_message(conversation, text).unwrap()));
}

/// Packets from each node to each other, and between clients and each node: an IPv4 header ends with both addresses.
fn holds_the_cluster(traffic: &[u8], cluster: &Cluster) {
    let nodes: Vec<Ipv4Addr> = cluster.trusts.iter().map(|trust| trust.node.address()).collect();
    for to in &nodes {
        for from in nodes.iter().chain([&Ipv4Addr::LOCALHOST]).filter(|from| *from != to) {
            let header = [from.octets(), to.octets()].concat();
            assert!(contains(traffic, &header), "no packet from {from} to {to} was captured");
        }
    }
}
