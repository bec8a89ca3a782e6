//! Two nodes that do not get in: one stands in the wrong country, one is nobody's.

use lanyard_tests::error::promise;
use lanyard_tests::node::Node;
use lanyard_tests::{Cluster, HarnessError, Trust, TrustPlan};
use serde_json::Value;

use crate::story::{Step, Story};

const STRANGER: TrustPlan = TrustPlan { ods: "RZX", name: "Nobody's Hospital", people: &[] };

/// A node with a good certificate, at an address outside the UK and the EEA.
pub fn wrong_country(story: &mut Story, cluster: &Cluster) -> Result<(), HarnessError> {
    story.step("refuse-country", "Refuse a node whose address lies outside the UK and the EEA", |step| {
        let (trust, address) = (&cluster.trusts[2], cluster.subnet.outside(1));
        let (name, dir) = (format!("{} node 2", trust.plan.ods), cluster.path().join("abroad"));
        let mut node = Node::issue(&cluster.programs, &name, &trust.dir, &dir, address, cluster.subnet)?;
        // Its own operator claims otherwise, and so does its certificate.
        node.configure(
            "country = \"GB\" }]\n",
            &format!("country = \"GB\" }}, {{ cidr = \"{address}/32\", country = \"GB\" }}]\n"),
        )?;
        node.give_charter(cluster.charter())?;
        node.start()?;
        step.tell(format!(
            "{name}, certified by {}, runs at {address}, which lies in the US",
            trust.plan.ods
        ));
        refused(step, cluster, &mut node, "country-refused")
    })
}

/// A node with a certificate of a trust that is in no charter but its own.
pub fn stranger(story: &mut Story, cluster: &Cluster) -> Result<(), HarnessError> {
    story.step("refuse-stranger", "Refuse a node whose certificate no charter trust signed", |step| {
        let mut stranger = Trust::make(&cluster.programs, &STRANGER, cluster.path(), cluster.subnet, 99)?;
        let key = cluster.path().join("stranger.key").display().to_string();
        let charter = cluster.path().join("stranger.cbor");
        cluster.run(&["network", "authority-key", "--out", &key, "--json"])?;
        let members: Vec<String> = cluster.trusts.iter().chain([&stranger]).map(Trust::as_member).collect();
        let out = charter.display().to_string();
        let mut arguments =
            vec!["network", "found", "--name", "A charter of its own", "--authority-key", &key];
        arguments.extend(["--country", "GB", "--out", &out, "--json"]);
        members.iter().for_each(|member| arguments.extend(["--member", member]));
        cluster.run(&arguments)?;
        stranger.node.give_charter(&charter)?;
        stranger.node.start()?;
        step.tell(format!(
            "{} runs at {}, in the UK, with a root of its own",
            stranger.plan.ods,
            stranger.node.address()
        ));
        refused(step, cluster, &mut stranger.node, "certificate")
    })
}

/// Every node of the network notes the refusal in its audit log, and is not connected to the one refused, which holds
/// nothing of the network's messages.
fn refused(step: &mut Step, cluster: &Cluster, node: &mut Node, code: &str) -> Result<(), HarnessError> {
    let address = format!("/{}/", node.address());
    let mut first = Value::Null;
    for trust in &cluster.trusts {
        let entry = trust.node.await_audit(&format!("{code} for {}", node.address()), |entry| {
            let about = entry["address"].as_str().unwrap_or_default();
            entry["event"] == "peer-refused" && entry["code"] == code && about.contains(&address)
        })?;
        let connected = trust.node.connected()?;
        promise(!connected.iter().any(|id| id == node.peer_id()), || {
            format!("{} is connected to the node that it refused", trust.plan.ods)
        })?;
        if first.is_null() {
            first = entry;
        }
    }
    let (status, connected) = (node.status()?, node.connected()?);
    promise(connected.is_empty(), || format!("the refused node is connected to {connected:?}"))?;
    let envelopes = status["stored"]["envelopes"].as_u64().unwrap_or_default();
    promise(envelopes == 0, || format!("the refused node holds {envelopes} envelopes"))?;
    step.tell(format!(
        "audit log of {}: {code}: {}",
        cluster.trusts[0].plan.ods,
        first["detail"].as_str().unwrap_or_default()
    ));
    step.tell("all three nodes have refused it; it is connected to none, and holds nothing");
    step.figure("code", code);
    step.figure("refused_by", cluster.trusts.len());
    step.figure("audit", first);
    node.stop()
}
