//! Audit logs of real processes: shown to another trust, altered on the way, and set back by who owns them.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;

use lanyard_crypto::ids::from_hex;
use lanyard_crypto::record::Decoded;
use lanyard_tests::cluster::REGION;
use lanyard_tests::traces::copy_dir;
use lanyard_tests::wait::{self, SOON};
use lanyard_tests::{Cluster, Node, Programs, python};
use serde_json::Value;

/// A cluster whose second node holds what the first has signed of its log; the file with that.
fn cluster_with_heads() -> (Cluster, String) {
    let cluster = Cluster::started(&Programs::find().unwrap(), &REGION[..2]).unwrap();
    let file = cluster.path().join("heads.json").display().to_string();
    let [first, second] = [0, 1].map(|place| &cluster.trusts[place].node);
    wait::until("the other trust has a head", SOON, || {
        let held = second.json(&["audit", "heads", "--of", first.peer_id()])?;
        let any = held["heads"].as_array().is_some_and(|heads| !heads.is_empty());
        fs::write(&file, held.to_string()).unwrap();
        Ok(if any { Ok(()) } else { Err(held) })
    })
    .unwrap();
    (cluster, file)
}

/// Exports a node's log to a file of this name.
fn export(cluster: &Cluster, node: &Node, name: &str) -> String {
    let file = cluster.path().join(name).display().to_string();
    node.json(&["audit", "export", &file]).unwrap();
    file
}

/// `audit verify` without any node.
fn verify(cluster: &Cluster, arguments: &[&str]) -> Result<Value, String> {
    let charter = cluster.charter().display().to_string();
    let all = [&["audit", "verify"], arguments, &["--charter", &charter, "--json"]].concat();
    let outcome = lanyard_tests::process::run(&cluster.programs.node(), all, None).unwrap();
    outcome.json().map_err(|e| e.to_string())
}

/// What a program in another language, made from the documents alone, finds when it follows the hashes of an export.
fn follow_elsewhere(export: &str) -> Option<Value> {
    python::find("hashlib").map(|python| python::answer(&python, "audit.py", export))
}

#[test]
fn a_log_is_shown_to_another_trust_and_every_change_of_it_is_found() {
    let (cluster, heads) = cluster_with_heads();
    let node = &cluster.trusts[0].node;
    let own = node.json(&["audit", "verify"]).unwrap();
    assert!(own["heads"].as_u64().unwrap() > 0, "{own}");
    let file = export(&cluster, node, "log.jsonl");
    let shown = verify(&cluster, &[&file, "--heads", &heads]).unwrap();
    assert_eq!(shown["peer_id"], node.peer_id());
    assert!(shown["other_heads"].as_u64().unwrap() > 0, "{shown}");

    let text = fs::read_to_string(&file).unwrap();
    if let Some(followed) = follow_elsewhere(&text) {
        assert_eq!((&followed["last"], &followed["hash"]), (&shown["last"], &shown["hash"]));
        let altered = follow_elsewhere(&text.replace("\"started\"", "\"stopped\"")).unwrap();
        assert_eq!(altered["broken"], 1);
    }
    let started = text.lines().position(|line| line.contains("\"event\":\"started\"")).unwrap();
    let changed = |change: &dyn Fn(usize, &str) -> String| {
        let lines = text.lines().enumerate().map(|(i, line)| change(i, line));
        fs::write(&file, lines.collect::<String>()).unwrap();
        verify(&cluster, &[&file]).unwrap_err()
    };
    let refused = changed(&|_, line| line.replace("\"started\"", "\"stopped\"") + "\n");
    assert!(refused.contains("row 1 "), "{refused}");
    let refused = changed(&|i, line| if i == started { String::new() } else { format!("{line}\n") });
    assert!(refused.contains("row 1 "), "{refused}");

    // Heads of another node than the one whose log it is say nothing of it.
    let other = export(&cluster, &cluster.trusts[1].node, "other.jsonl");
    let refused = verify(&cluster, &[&other, "--heads", &heads]).unwrap_err();
    assert!(refused.contains("no head"), "{refused}");
}

#[test]
fn a_node_that_sets_its_log_back_is_found() {
    let (mut cluster, _) = cluster_with_heads();
    let (data, copy) = (cluster.trusts[0].node.data_dir(), cluster.path().join("copy"));
    cluster.trusts[0].node.stop().unwrap();
    copy_dir(&data, &copy).unwrap();
    cluster.trusts[0].node.start().unwrap();
    // What is to be forgotten, and is signed for the other trust.
    (0..20).for_each(|_| drop(cluster.trusts[0].node.invite(&REGION[0].people[0]).unwrap()));
    let before = export(&cluster, &cluster.trusts[0].node, "before.jsonl");
    import_newest_head(&cluster, 1, &before);
    let heads = cluster.path().join("kept.json").display().to_string();
    let held =
        cluster.trusts[1].node.json(&["audit", "heads", "--of", cluster.trusts[0].node.peer_id()]).unwrap();
    fs::write(&heads, held.to_string()).unwrap();
    verify(&cluster, &[&before, "--heads", &heads]).unwrap();

    cluster.trusts[0].node.stop().unwrap();
    fs::remove_dir_all(&data).unwrap();
    copy_dir(&copy, &data).unwrap();
    cluster.trusts[0].node.start().unwrap();
    let after = export_later(&cluster, &before);
    let refused = verify(&cluster, &[&after, "--heads", &heads]).unwrap_err();
    assert!(refused.contains("others hold"), "{refused}");
    // It gets what it had signed back, and its next head tells the other trust as well.
    await_warning(&cluster.trusts[0].node);
    import_newest_head(&cluster, 1, &after);
    await_warning(&cluster.trusts[1].node);
}

fn await_warning(node: &Node) {
    wait::until(format!("{} warns of the log that was set back", node.name()), SOON, || {
        let warnings = &node.status()?["warnings"];
        Ok(if warnings.to_string().contains("the audit log of RZ1") { Ok(()) } else { Err(warnings.clone()) })
    })
    .unwrap();
}

/// Exports the first node's log at a later moment than this export's: heads of one second have no order.
fn export_later(cluster: &Cluster, than: &str) -> String {
    let (before, mut times) = (newest_head(than).header().issued, 0);
    wait::until("a second has passed", SOON, || {
        times += 1;
        let file = export(cluster, &cluster.trusts[0].node, &format!("after{times}.jsonl"));
        Ok(if newest_head(&file).header().issued > before { Ok(file) } else { Err(before) })
    })
    .unwrap()
}

/// The head that an export ends its heads with.
fn newest_head(export: &str) -> Decoded {
    let text = fs::read_to_string(export).unwrap();
    let newest = text.lines().rfind(|line| line.starts_with("{\"head\"")).unwrap();
    let newest: Value = serde_json::from_str(newest).unwrap();
    Decoded::from_bytes(&from_hex(newest["head"].as_str().unwrap()).unwrap()).unwrap()
}

/// Hands it to another trust's node.
fn import_newest_head(cluster: &Cluster, place: usize, export: &str) {
    let file = cluster.path().join("head.cbor");
    fs::write(&file, newest_head(export).bytes()).unwrap();
    cluster.trusts[place].node.json(&["network", "import", &file.display().to_string()]).unwrap();
}
