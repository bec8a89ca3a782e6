//! A key of a node, and one of a registrar, were stolen: what the trust's operators do, and what the thief can do after it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lanyard_crypto::record::{self, Body, Crl, Entry, Header};
use lanyard_crypto::x509::issue::{Issuer, Term};
use lanyard_crypto::x509::{Certificate, SecretKey, Subject};
use lanyard_crypto::{NetworkId, Timestamp};
use lanyard_tests::cluster::ONE_EACH;
use lanyard_tests::{Cluster, Node, Person, Programs};

#[test]
fn a_stolen_node_key_ends_and_the_node_goes_on_with_another() {
    let programs = Programs::find().unwrap();
    let (mut cluster, conversation) = talking(&programs);
    let [first, second] = [0, 1].map(|at| cluster.trusts[at].people[0].clone());
    first.send(&conversation, "before the theft").unwrap();
    second.await_message(&conversation, "before the theft").unwrap();
    second.send(&conversation, "signed by the node that was robbed").unwrap();

    // Another key and PeerId, with the same store and for the same address.
    let address = cluster.trusts[1].node.address();
    let old = cluster.trusts[1].node.peer_id().to_owned();
    let dir = dir_of(&cluster.trusts[1].node);
    let thief = cluster.path().join("thief");
    copy(&dir, &thief, &["node.key", "node.pem", "node.toml", "charter.cbor"]);
    cluster.trusts[1].node.stop().unwrap();
    let made = issue(&cluster, 1, &dir, &["--new-key"]);
    assert_ne!(made["certificates"][0]["peer_id"], old.as_str());
    let earlier = only(&dir, "node.", ".pem");
    let config = dir.join("node.toml");
    let founded = earlier.file_name().unwrap().to_string_lossy();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n[storage]\nfounded_by = \"{founded}\"\n")).unwrap();
    let mut node = Node::existing(&programs, &dir, address).unwrap();
    node.start().unwrap();
    node.json(&["trust", "revoke", "--certificate", &text_of(&earlier), "--reason", "key-compromise"])
        .unwrap();
    cluster.trusts[1].node = node;
    cluster.await_connected().unwrap();

    // What was there is there, for the same devices, and everybody goes on; what the old key has signed before is read after.
    let third = cluster.trusts[2].people[0].clone();
    for person in [&first, &second, &third] {
        person.await_message(&conversation, "signed by the node that was robbed").unwrap();
        person.await_message(&conversation, "before the theft").unwrap();
    }
    second.send(&conversation, "by the new key").unwrap();
    first.send(&conversation, "to the new key").unwrap();
    first.await_message(&conversation, "by the new key").unwrap();
    second.await_message(&conversation, "to the new key").unwrap();

    // The thief's copy, which looks for the others by the charter, is shut out by them.
    let robber = rob(&cluster, &programs, &thief, 9);
    assert_eq!(robber.peer_id(), old);
    for at in [0, 2] {
        await_refused(&cluster.trusts[at].node, &old);
    }
    assert!(robber.connected().unwrap().is_empty());
}

#[test]
fn a_stolen_registrar_key_certifies_nothing_any_more_and_the_trust_goes_on() {
    let programs = Programs::find().unwrap();
    let (mut cluster, conversation) = talking(&programs);
    let [first, second] = [0, 1].map(|at| cluster.trusts[at].people[0].clone());
    second.send(&conversation, "before the theft").unwrap();
    first.await_message(&conversation, "before the theft").unwrap();
    let (trust, dir) = (cluster.trusts[1].dir.clone(), dir_of(&cluster.trusts[1].node));
    let stolen = cluster.path().join("stolen");
    copy(&trust, &stolen, &["registrar.key", "registrar.pem", "root.pem"]);

    // Another registrar, which certifies the node's key anew; then the root ends the earlier one.
    cluster.run(&["trust", "renew-registrar", "--dir", &text_of(&trust), "--json"]).unwrap();
    cluster.trusts[1].node.stop().unwrap();
    issue(&cluster, 1, &dir, &[]);
    cluster.trusts[1].node.start().unwrap();
    let (earlier, list) = (only(&trust, "registrar.", ".pem"), cluster.path().join("root-list.cbor"));
    let charter = text_of(cluster.charter());
    #[rustfmt::skip]
    cluster.run(&[
        "trust", "revoke", "--certificate", &text_of(&earlier), "--reason", "key-compromise", "--dir", &text_of(&trust),
        "--charter", &charter, "--out", &text_of(&list), "--json",
    ]).unwrap();
    cluster.trusts[1].node.json(&["network", "import", &text_of(&list)]).unwrap();
    cluster.await_connected().unwrap();

    // Its devices are shut out, and are to be invited again.
    let refused = second.command(&["sync"]).unwrap().refused().unwrap();
    assert!(refused.contains("revoked"), "{refused}");
    let node = &cluster.trusts[1].node;
    let again = |node: &Node| {
        let listed = node.json(&["staff", "list", "--earlier"]).unwrap();
        let devices = listed["devices"].as_array().unwrap().clone();
        devices.iter().map(|device| device["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(again(node), [second.name()]);
    let profile = cluster.path().join("again");
    let back = Person::enrol(&programs, *second.plan(), second.trust(), node, &profile).unwrap();
    assert!(again(node).is_empty());
    let third = cluster.trusts[2].people[0].clone();
    let next = first.converse("Handover again", "clinical", [&back, &third]).unwrap();
    for person in [&first, &back, &third] {
        person.await_joined(&next, 3).unwrap();
    }
    back.send(&next, "by the new registrar").unwrap();
    first.await_message(&next, "by the new registrar").unwrap();
    // What the earlier device had said stays, also for who has not looked before.
    third.await_message(&conversation, "before the theft").unwrap();

    // The thief certifies a node, which nobody admits,
    let forged = cluster.path().join("forged");
    let ip = cluster.subnet.inside(9).to_string();
    #[rustfmt::skip]
    cluster.run(&[
        "trust", "issue-node", "--dir", &text_of(&stolen), "--name", "Forged", "--hosting", "GB", "--address", &ip, "--listen", &ip,
        "--out", &text_of(&forged), "--json",
    ]).unwrap();
    fs::copy(cluster.charter(), forged.join("charter.cbor")).unwrap();
    let genuine = fs::read_to_string(cluster.trusts[0].node.config()).unwrap();
    let networks =
        genuine.lines().filter(|line| line.starts_with("networks =") || line.starts_with("elsewhere ="));
    let networks = networks.collect::<Vec<_>>().join("\n");
    let config = fs::read_to_string(forged.join("node.toml")).unwrap();
    fs::write(forged.join("node.toml"), config.replacen("networks = []", &networks, 1)).unwrap();
    let mut robber = Node::existing(&programs, &forged, cluster.subnet.inside(9)).unwrap();
    robber.start().unwrap();
    for trust in &cluster.trusts {
        await_refused(&trust.node, robber.peer_id());
    }
    assert!(robber.connected().unwrap().is_empty());
    // and signs lists and entries, which no node takes.
    for (what, forged) in forge(&cluster, &stolen) {
        let path = cluster.path().join(format!("{what}.cbor"));
        fs::write(&path, forged).unwrap();
        for trust in &cluster.trusts {
            let refused =
                trust.node.command(&["network", "import", &text_of(&path)]).unwrap().refused().unwrap();
            assert!(refused.contains("revoked"), "{what}: {refused}");
        }
    }
    openssl_agrees(&cluster, &trust, &earlier, &dir.join("data").join("registrar"));
}

/// Three trusts with a clinician each, in a conversation.
fn talking(programs: &Programs) -> (Cluster, String) {
    let mut cluster = Cluster::started(programs, &ONE_EACH).unwrap();
    cluster.enrol_all().unwrap();
    let owner = &cluster.trusts[0].people[0];
    let id = owner.converse("Handover", "clinical", cluster.others(owner)).unwrap();
    cluster.people().for_each(|person| drop(person.await_joined(&id, 3).unwrap()));
    (cluster, id)
}

/// Certifies a trust's node by the registrar that is in force.
fn issue(cluster: &Cluster, at: usize, dir: &Path, more: &[&str]) -> serde_json::Value {
    let trust = &cluster.trusts[at];
    let (own, out, ip) = (text_of(&trust.dir), text_of(dir), trust.node.address().to_string());
    #[rustfmt::skip]
    let all = [
        "trust", "issue-node", "--dir", &own, "--name", trust.node.name(), "--hosting", "GB", "--address", &ip, "--registrar", "--out",
        &out, "--json",
    ];
    cluster.run(&[&all[..], more].concat()).unwrap()
}

/// Starts a copy of the second trust's node at another address.
fn rob(cluster: &Cluster, programs: &Programs, dir: &Path, place: u8) -> Node {
    let (was, is) = (cluster.trusts[1].node.address(), cluster.subnet.inside(place));
    let config = fs::read_to_string(dir.join("node.toml")).unwrap();
    let config = config.lines().filter(|line| !line.starts_with("registrar_"));
    let config =
        config.map(|line| line.replace(&was.to_string(), &is.to_string()) + "\n").collect::<String>();
    fs::write(dir.join("node.toml"), config).unwrap();
    let mut robber = Node::existing(programs, dir, is).unwrap();
    robber.start().unwrap();
    robber
}

fn await_refused(node: &Node, peer_id: &str) {
    node.await_audit("the thief is refused", |entry| {
        entry["peer_id"] == peer_id
            && entry["event"] == "peer-refused"
            && entry["detail"].as_str().is_some_and(|detail| detail.contains("revoked"))
    })
    .unwrap();
}

/// What the thief signs with a registrar's key: a list that revokes the node of the trust, and an entry for a device of its own.
fn forge(cluster: &Cluster, stolen: &Path) -> [(&'static str, Vec<u8>); 2] {
    let key = SecretKey::from_pkcs8_pem(&fs::read_to_string(stolen.join("registrar.key")).unwrap()).unwrap();
    let registrar = certificate(&stolen.join("registrar.pem"));
    let charter = fs::read(cluster.charter()).unwrap();
    let network = NetworkId::new(*record::Decoded::from_bytes(&charter).unwrap().statement().as_bytes());
    let issuer = Issuer::new(&registrar, &key).unwrap();
    let now = now();
    let header = Header {
        network: Some(network),
        custodians: Vec::new(),
        issued: now,
        expires: now.plus_secs(24 * 3600),
    };
    let list = issuer.revocation_list(1000, now, now.plus_secs(3600), &[]).unwrap();
    let list = Body::Crl(Crl { list: list.der().to_vec(), issuer: registrar.der().to_vec() });
    let subject = Subject { common_name: "Dr Nobody".into(), ..registrar.subject().clone() };
    let own = SecretKey::generate().unwrap();
    let device = issuer.device(&subject, &own.public(), &Term::starting(now, 24 * 3600).unwrap()).unwrap();
    let chain = [device.der(), registrar.der()].map(|der| der.to_vec().into()).into();
    let entry = Body::Entry(Entry { chain, key_package: None, addresses: Vec::new(), available: None });
    [("list", list), ("entry", entry)].map(|(what, body)| {
        let signed = record::sign(header.clone(), body, registrar.fingerprint(), &key).unwrap();
        (what, signed.bytes().to_vec())
    })
}

/// Every device of the earlier registrar is refused by openssl too, and every one of the present registrar is good.
fn openssl_agrees(cluster: &Cluster, trust: &Path, earlier: &Path, kept: &Path) {
    let present = trust.join("registrar.pem");
    let mut verdicts = Vec::new();
    for registrar in [earlier, present.as_path()] {
        let dir = kept.join(certificate(registrar).fingerprint().to_string());
        let lists = cluster.path().join("lists.pem");
        let both = [trust.join("root.crl.pem"), dir.join("list.crl.pem")];
        fs::write(&lists, both.map(|list| fs::read_to_string(list).unwrap()).concat()).unwrap();
        for device in fs::read_dir(dir.join("devices")).unwrap() {
            let verified = Command::new("openssl")
                .args(["verify", "-crl_check_all", "-CAfile"])
                .arg(trust.join("root.pem"))
                .arg("-untrusted")
                .arg(registrar)
                .arg("-CRLfile")
                .arg(&lists)
                .arg(device.unwrap().path())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&verified.stderr).into_owned();
            assert!(verified.status.success() || said.contains("certificate revoked"), "{said}");
            verdicts.push((registrar == present, verified.status.success()));
        }
    }
    assert_eq!(verdicts, [(false, false), (true, true)]);
}

fn certificate(path: &Path) -> Certificate {
    let pem = fs::read_to_string(path).unwrap();
    lanyard_crypto::x509::chain_from_pem(&pem).unwrap().remove(0)
}

fn now() -> Timestamp {
    Timestamp::from_secs(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs())
}

fn dir_of(node: &Node) -> PathBuf {
    node.config().parent().unwrap().to_path_buf()
}

/// The one file of a directory that is named so.
fn only(dir: &Path, begins: &str, ends: &str) -> PathBuf {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let fits = |name: &String| {
        name.len() > begins.len() + ends.len() && name.starts_with(begins) && name.ends_with(ends)
    };
    let found: Vec<String> = names.filter(fits).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    dir.join(&found[0])
}

fn copy(from: &Path, to: &Path, names: &[&str]) {
    fs::create_dir_all(to).unwrap();
    for name in names {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

fn text_of(path: &Path) -> String {
    path.display().to_string()
}
