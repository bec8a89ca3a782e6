//! The operator's commands by the real program: a trust, a network, a node that runs, staff, and what goes
//! wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use bench::{Bench, Node};
use serde_json::json;

#[test]
fn a_trust_is_made_with_private_keys_and_openssl_agrees() {
    let bench = Bench::new();
    let made = bench.json(&["trust", "init", "--ods", "RYJ", "--name", "Royal Jubilee", "--dir", "ryj"]);
    assert_eq!(made["certificates"][0]["purpose"], "root");
    assert_eq!(made["certificates"][1]["trust"], "RYJ");
    for key in ["ryj/root.key", "ryj/registrar.key"] {
        assert_eq!(fs::metadata(bench.path(key)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let issue = ["trust", "issue-node", "--dir", "ryj", "--name", "Node 1", "--hosting", "GB"];
    let rest = ["--address", "node.ryj.example", "--address", "127.0.1.1", "--out", "node1"];
    let node = bench.json(&[&issue[..], &rest].concat());
    assert_eq!(node["certificates"][0]["addresses"], json!(["node.ryj.example", "127.0.1.1"]));
    let verified = Command::new("openssl")
        .args(["verify", "-x509_strict", "-CAfile", "ryj/root.pem", "-untrusted", "ryj/registrar.pem"])
        .arg("node1/node.pem")
        .current_dir(bench.directory.path())
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));

    let again = bench.json(&[&issue[..], &rest].concat());
    assert_eq!(
        again["certificates"][0]["peer_id"], node["certificates"][0]["peer_id"],
        "renewal keeps the key"
    );
    assert_ne!(again["certificates"][0]["fingerprint"], node["certificates"][0]["fingerprint"]);
    assert_eq!(bench.json(&["trust", "show", "node1/node.pem"]).as_array().unwrap().len(), 3);

    let said = bench.fails(&["trust", "init", "--ods", "RYJ", "--name", "Royal Jubilee", "--dir", "ryj"], 1);
    assert!(said.contains("already exists"), "{said}");
    let abroad = ["trust", "issue-node", "--dir", "ryj", "--name", "N", "--hosting", "US", "--address", "x"];
    assert!(bench.fails(&[&abroad[..], &["--out", "n"]].concat(), 1).contains("the hosting country is US"));
    assert!(
        bench.fails(&["trust", "init", "--ods", "ryj", "--name", "R", "--dir", "x"], 2).contains("ODS code")
    );
}

#[test]
fn a_registrar_is_renewed_and_the_earlier_one_revoked() {
    let bench = Bench::with_node("127.0.1.1");
    let renewed = bench.json(&["trust", "renew-registrar", "--dir", "ryj"]);
    assert_eq!(renewed["certificates"][0]["purpose"], "registrar");
    let kept = |file: &&str| file.ends_with(".pem") && !file.ends_with("/registrar.pem");
    let files: Vec<&str> = renewed["files"].as_array().unwrap().iter().filter_map(|f| f.as_str()).collect();
    let earlier = *files.iter().find(|file| kept(file)).unwrap();
    let revoke = ["trust", "revoke", "--certificate", earlier, "--reason", "superseded"];
    assert!(bench.fails(&revoke, 2).contains("--dir, --charter and --out"));
    let offline = ["--dir", "ryj", "--charter", "node1/charter.cbor", "--out", "revocation.cbor"];
    for number in [1, 2] {
        let revoked = bench.json(&[&revoke[..], &offline].concat());
        assert_eq!((&revoked["list_number"], &revoked["list_entries"]), (&json!(number), &json!(1)));
    }
    assert_eq!(bench.json(&["network", "show", "revocation.cbor"])["kind"], "crl");
    fs::remove_file(bench.path("ryj/root.key")).unwrap();
    assert!(
        bench.fails(&["trust", "renew-registrar", "--dir", "ryj"], 1).contains("root.key"),
        "the root is offline"
    );
}

#[test]
fn a_charter_passes_from_authority_to_authority() {
    let bench = Bench::with_node("127.0.1.1");
    let second = bench.json(&["network", "authority-key", "--out", "second.key"]);
    let second = second["public_key"].as_str().unwrap();
    let found =
        ["network", "found", "--name", "Two", "--authority-key", "authority.key", "--authority", second];
    let rest = ["--member", "RYJ=ryj/root.pem", "--country", "GB", "--country", "IE", "--out", "c1.cbor"];
    let charter = bench.json(&[&found[..], &rest].concat());
    assert_eq!((&charter["threshold"], &charter["signed"]), (&json!(2), &json!(false)));
    let signed = bench.json(&["network", "sign", "c1.cbor", "--authority-key", "second.key"]);
    assert_eq!(signed["signed"], true);
    assert_eq!(signed["id"], bench.json(&["network", "show", "c1.cbor"])["id"]);

    bench.json(&["trust", "init", "--ods", "RXX", "--name", "Other", "--dir", "rxx"]);
    let propose = ["network", "propose", "c1.cbor", "--member", "RXX=rxx/root.pem", "--remove-country", "IE"];
    let keys = ["--authority-key", "authority.key", "--authority-key", "second.key", "--out", "c2.cbor"];
    let next = bench.json(&[&propose[..], &keys].concat());
    assert_eq!((&next["version"], &next["signed"]), (&json!(2), &json!(true)));
    assert_eq!(next["network"], signed["network"], "signatures and versions do not change the network");
    assert_eq!(next["network"], charter["network"]);
    assert_eq!(next["countries"], json!(["GB"]));
    assert_eq!(next["members"].as_array().unwrap().len(), 2);

    let abroad = ["network", "propose", "c2.cbor", "--country", "US", "--out", "c3.cbor"];
    assert!(bench.fails(&abroad, 1).contains("US"));
    let wrong = ["network", "propose", "c2.cbor", "--member", "RYZ=rxx/root.pem", "--out", "c3.cbor"];
    assert!(bench.fails(&wrong, 1).contains("this is the root of RXX, not of RYZ"));
    let nobody = ["network", "propose", "c2.cbor", "--remove-member", "RZZ", "--out", "c3.cbor"];
    assert!(bench.fails(&nobody, 2).contains("not a member"));

    // What may be typed is what a charter may state: 8 years.
    let found = ["network", "found", "--name", "Long", "--authority-key", "authority.key"];
    let rest = ["--member", "RYJ=ryj/root.pem", "--country", "GB", "--out", "c4.cbor", "--retention-days"];
    let propose = ["network", "propose", "c2.cbor", "--out", "c5.cbor", "--retention-days"];
    for command in [[&found[..], &rest].concat(), propose.to_vec()] {
        let longest = bench.json(&[&command[..], &["2928"]].concat());
        assert_eq!(longest["retention_days"], 2928);
        assert!(bench.fails(&[&command[..], &["2929"]].concat(), 2).contains("1 to 2928 days"));
    }
}

#[test]
fn check_lists_every_problem() {
    let bench = Bench::with_node("127.0.1.1");
    let check = ["check", "--config", "node1/node.toml"];
    assert_eq!(bench.json(&check)["ok"], true);
    let config = fs::read_to_string(bench.path("node1/node.toml")).unwrap();
    fs::write(bench.path("node1/node.toml"), config.replace("\"GB\" }]", "\"IE\" }]")).unwrap();
    fs::set_permissions(bench.path("node1/node.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let said = bench.fails(&check, 1);
    assert!(said.contains("`identity.key`") && said.contains("chmod 600"), "{said}");
    fs::set_permissions(bench.path("node1/node.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let said = bench.fails(&check, 1);
    assert!(said.contains("`peer.listen`") && said.contains("127.0.1.1 lies in IE"), "{said}");
    fs::write(bench.path("node1/node.toml"), config.replace("\"GB\" }]", "\"US\" }]")).unwrap();
    let said = bench.fails(&["run", "--config", "node1/node.toml"], 1);
    let expected =
        "node.toml: `residency.networks[0].country` is \"US\"; a permitted country is needed (UK or EEA)";
    assert!(said.contains(expected), "{said}");
    assert!(bench.fails(&["status", "--config", "nowhere.toml"], 1).contains("nowhere.toml"));
}

#[test]
fn a_node_runs_serves_its_operator_and_stops_in_order() {
    let bench = Bench::with_node("127.0.1.2");
    let node = Node::start(&bench);
    let with = |args: &[&'static str]| [args, &["--config", "node1/node.toml"]].concat();
    assert!(node.ready["gateway"].as_str().unwrap().starts_with("127.0.1.2:"));
    assert_eq!(node.ready["peer"].as_array().unwrap().len(), 2);

    let status = bench.json(&with(&["status"]));
    assert_eq!(status["trust"], "RYJ");
    assert_eq!(status["network"]["charter_version"], 1);
    assert_eq!(status["peer_id"], node.ready["peer_id"]);

    let invite = [
        "staff",
        "invite",
        "--name",
        "Dr Ada Okafor",
        "--registration",
        "GMC 1234567",
        "--checked-by",
        "Ops",
    ];
    let invited = bench.json(&with(&invite));
    assert!(invited["invitation"].as_str().unwrap().starts_with("lanyard1-"));
    assert_eq!(bench.json(&with(&["staff", "list"]))["invitations"][0]["state"], "open");
    let odd = ["staff", "invite", "--name", "Dr\u{202e} Ada", "--checked-by", "Ops"];
    assert!(bench.fails(&with(&odd), 1).contains("direction of text"));
    assert!(bench.fails(&with(&["staff", "revoke", "--name", "Nobody"]), 1).contains("no such device"));
    assert!(bench.fails(&with(&["staff", "revoke"]), 2).contains("--device"));

    let propose =
        ["network", "propose", "node1/charter.cbor", "--country", "IE", "--authority-key", "authority.key"];
    bench.json(&[&propose[..], &["--out", "next.cbor"]].concat());
    assert_eq!(bench.json(&with(&["network", "import", "next.cbor"]))["kind"], "charter");
    assert_eq!(bench.json(&with(&["status"]))["network"]["charter_version"], 2);
    assert_eq!(bench.json(&with(&["deletions"])), json!([]));
    let audit = bench.json(&with(&["audit"]));
    let events: Vec<_> =
        audit["entries"].as_array().unwrap().iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert!(events.contains(&"invited") && events.contains(&"imported"), "{events:?}");

    let second = bench.fails(&["run", "--config", "node1/node.toml"], 1);
    assert!(second.contains("another node is running"), "{second}");
    let logged = node.stop(&bench);
    assert!(
        !logged.contains("Okafor") && !logged.contains("lanyard1-"),
        "no personal data in the log: {logged}"
    );
    assert!(bench.fails(&with(&["status"]), 1).contains("no running node answers"));

    let again = Node::start(&bench);
    assert_eq!(
        bench.json(&with(&["status"]))["network"]["charter_version"],
        2,
        "the store has the newer charter"
    );
    again.stop(&bench);
}

#[test]
fn every_command_has_help_with_an_example() {
    let bench = Bench::new();
    let commands = "trust init|trust issue-node|trust renew-registrar|trust revoke|trust show|\
        network authority-key|network found|network propose|network sign|network show|network import|\
        staff invite|staff list|staff revoke|run|check|status|deletions|audit";
    for command in commands.split('|') {
        let args: Vec<_> = command.split(' ').chain(["--help"]).collect();
        let output = bench.run(&args);
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && help.contains("Example"), "{command}: {help}");
        assert!(
            !help.starts_with('`') && help.contains(&format!("lanyard-node {command}")),
            "{command}: {help}"
        );
    }
    assert_eq!(bench.run(&["nonsense"]).status.code(), Some(2));
}

#[test]
fn a_node_stays_with_its_trust() {
    let bench = Bench::with_node("127.0.1.1");
    bench.json(&["trust", "init", "--ods", "RXH", "--name", "Fell General", "--dir", "rxh"]);
    let other =
        ["trust", "issue-node", "--dir", "rxh", "--name", "N", "--hosting", "GB", "--address", "127.0.1.1"];
    let said = bench.fails(&[&other[..], &["--out", "node1"]].concat(), 2);
    assert!(said.contains("node1 is a node of RYJ"), "{said}");
}
