//! The main job, step by step.

use std::fs;
use std::time::Instant;

use lanyard_tests::cluster::REGION;
use lanyard_tests::error::promise;
use lanyard_tests::{Cluster, HarnessError, Person, Programs, capture, traces};
use serde_json::{Value, json};

use crate::story::Story;

const TITLE: &str = "Bed 4 transfer";
/// Fictional patients, with numbers of the range that the NHS keeps for tests (999).
const QUESTION: &str = "Mr Q. Alder (NHS 999 000 0018), bed 4: EF 30%, can you take him today?";
const ANSWER: &str = "Yes. Theatre from 14:00, send him with the angiogram.";
const NOTE: &str = "Ward 4 informed; ambulance booked for 12:30.";
const MISTAKE: &str = "Wrong patient, sorry: this was about Mrs R. Sorrel (NHS 999 000 0026).";
const WHILE_AWAY: &str = "Ambulance delayed, new time 13:10.";
/// How much of a ciphertext is shown, in hexadecimal digits.
const SHOWN_DIGITS: usize = 48;

/// A message that was sent.
pub struct Sent {
    /// Its record id.
    pub id: String,
    /// What it says.
    pub text: &'static str,
}

/// Founds the network.
pub fn found(story: &mut Story, programs: &Programs) -> Result<Cluster, HarnessError> {
    story.step("found-network", "Found a regional network of three trusts", |step| {
        let cluster = Cluster::found(programs, &REGION)?;
        let charter = cluster.show_charter()?;
        for trust in &cluster.trusts {
            step.tell(format!("{} ({}): root, registrar, node", trust.plan.name, trust.plan.ods));
        }
        step.tell(format!(
            "{}: charter version {}, signed by 2 of 3 authorities, nodes only in {}",
            charter["name"].as_str().unwrap_or_default(),
            charter["version"],
            texts(&charter["countries"]).join(" and ")
        ));
        step.figure("trusts", cluster.trusts.len());
        step.figure("authorities", charter["authorities"].as_array().map_or(0, Vec::len));
        step.figure("threshold", charter["threshold"].clone());
        step.figure("charter_version", charter["version"].clone());
        Ok(cluster)
    })
}

/// Starts the nodes.
pub fn start(story: &mut Story, cluster: &mut Cluster) -> Result<(), HarnessError> {
    story.step("start-nodes", "Start one lanyard-node for each trust", |step| {
        cluster.start()?;
        for trust in &cluster.trusts {
            let id = trust.node.process_id().unwrap_or_default();
            let peers = trust.node.connected()?.len();
            step.tell(format!(
                "{}: process {id} on {}, admitted by {peers} others",
                trust.plan.ods,
                trust.node.address()
            ));
        }
        step.figure("nodes", cluster.trusts.len());
        step.figure("connections", cluster.trusts.len() * (cluster.trusts.len() - 1) / 2);
        Ok(())
    })
}

/// Enrols two clinicians at each trust.
pub fn enrol(story: &mut Story, cluster: &mut Cluster) -> Result<(), HarnessError> {
    story.step(
        "enrol-clinicians",
        "Enrol two clinicians at each trust, each with a one-time invitation and a PIN",
        |step| {
            cluster.enrol_all()?;
            for person in cluster.people() {
                let plan = person.plan();
                step.tell(format!(
                    "{}, {} ({}), {}",
                    plan.name,
                    plan.role,
                    plan.registration,
                    person.trust()
                ));
            }
            step.figure("people", cluster.people().count());
            Ok(())
        },
    )
}

/// Opens a clinical conversation across the trusts; returns its id.
pub fn converse(story: &mut Story, cluster: &Cluster) -> Result<String, HarnessError> {
    story.step("open-conversation", "Open a clinical conversation across the three trusts", |step| {
        let owner = first(cluster, 0);
        let conversation = owner.converse(TITLE, "clinical", cluster.others(owner))?;
        let members = cluster.people().count();
        let mut view = Value::Null;
        for person in cluster.people() {
            view = person.await_joined(&conversation, members)?;
        }
        let trusts = texts(&view["trusts"]);
        step.tell(format!("[{}] {TITLE}, opened by {}", text(&view["class"]), owner.name()));
        step.tell(format!(
            "{members} members; kept by {}; its changes are ordered by {}",
            trusts.join(", "),
            text(&view["owner"])
        ));
        step.figure("conversation", conversation.as_str());
        step.figure("members", members);
        step.figure("trusts", trusts.len());
        Ok(conversation)
    })
}

/// Sends messages both ways; everybody reads them.
pub fn talk(story: &mut Story, cluster: &Cluster, conversation: &str) -> Result<Vec<Sent>, HarnessError> {
    story.step("exchange-messages", "Send messages both ways, and read them at the other trusts", |step| {
        let (mut sent, mut shown, mut slowest_ms) = (Vec::new(), 0, 0);
        for (place, text) in [(0, QUESTION), (1, ANSWER), (2, NOTE), (0, MISTAKE)] {
            let (sender, began) = (first(cluster, place), Instant::now());
            let id = sender.send(conversation, text)?;
            for reader in cluster.others(sender) {
                let message = reader.await_message(conversation, text)?;
                let by = &message["sender"];
                promise(by["name"] == sender.name() && by["trust"] == sender.trust(), || {
                    format!("{} was shown as sent by {by}", sender.name())
                })?;
                shown += 1;
            }
            slowest_ms = slowest_ms.max(began.elapsed().as_millis());
            step.tell(format!("{} ({}): \"{text}\"", sender.name(), sender.trust()));
            sent.push(Sent { id, text });
        }
        step.tell(format!("each was decrypted and shown at the five others: {shown} readings"));
        step.figure("messages", sent.len());
        step.figure("readings", shown);
        step.figure("slowest_until_read_by_all_ms", u64::try_from(slowest_ms).unwrap_or(u64::MAX));
        Ok(sent)
    })
}

/// Shows what nodes hold of a message.
pub fn look_inside(story: &mut Story, cluster: &Cluster, sent: &[Sent]) -> Result<(), HarnessError> {
    story.step("look-inside-nodes", "Look at what each node holds of the first message: ciphertext", |step| {
        let mut held = Vec::new();
        for trust in &cluster.trusts {
            let view = trust.node.held(&sent[0].id)?;
            let view =
                view.ok_or_else(|| HarnessError::Promise(format!("{} does not hold it", trust.plan.ods)))?;
            let (message, ods) = (&view["message"], trust.plan.ods);
            // What it begins with is MLS's header; the end is encrypted.
            let ciphertext = text(&message["ciphertext"]);
            let end = &ciphertext[ciphertext.len().saturating_sub(SHOWN_DIGITS)..];
            promise(!end.is_empty(), || format!("{ods} holds no ciphertext: {view}"))?;
            step.tell(format!("{ods}: {} bytes of ciphertext, ...{end}", message["ciphertext_bytes"]));
            held.push(json!({ "trust": ods, "ciphertext_bytes": message["ciphertext_bytes"] }));
        }
        step.figure("held", held);
        Ok(())
    })
}

/// Deletes a message everywhere, and shows the receipts.
pub fn delete(
    story: &mut Story,
    cluster: &Cluster,
    conversation: &str,
    sent: &[Sent],
) -> Result<(), HarnessError> {
    story.step("delete-message", "Delete the message that was sent in error, at every trust", |step| {
        let (sender, mistake) = (first(cluster, 0), &sent[3]);
        let deletion = sender.delete(&mistake.id, "sent-in-error")?;
        let report = sender.await_confirmed(&deletion, 3)?;
        for replica in report["replicas"].as_array().into_iter().flatten() {
            let receipt: String = text(&replica["receipt"]).chars().take(12).collect();
            step.tell(format!(
                "{}: erased {}, receipt {receipt}",
                text(&replica["trust"]),
                text(&replica["erased"])
            ));
        }
        step.tell(format!(
            "{} of {} replicas have confirmed, each by a receipt that its node signed",
            report["confirmed"], report["replicas_total"]
        ));
        step.tell("(a receipt proves that a node attested erasure, no more)");
        for person in cluster.people() {
            person.await_gone(conversation, mistake.text)?;
        }
        for trust in &cluster.trusts {
            let held = trust.node.held(&mistake.id)?;
            promise(held.is_none(), || format!("{} still holds the deleted message", trust.plan.ods))?;
        }
        step.tell("no device shows it any more, no node holds it");
        step.figure("deletion", deletion);
        step.figure("replicas", report["replicas_total"].clone());
        step.figure("confirmed", report["confirmed"].clone());
        step.figure("receipts", report["replicas"].clone());
        Ok(())
    })
}

/// Stops a node, sends and deletes while it is away, and starts it again.
pub fn be_away(story: &mut Story, cluster: &mut Cluster, conversation: &str) -> Result<(), HarnessError> {
    const DELETED_WHILE_AWAY: &str = "Correction to the drug chart of bed 7.";
    story.step("catch-up", "Stop a node; send and delete while it is away; start it again", |step| {
        let away = cluster.trusts[2].plan.ods;
        cluster.trusts[2].node.stop()?;
        step.tell(format!("{away}: stopped by SIGTERM"));
        let (sender, reader) = (first(cluster, 0), first(cluster, 1));
        let deleted = sender.send(conversation, DELETED_WHILE_AWAY)?;
        sender.send(conversation, WHILE_AWAY)?;
        reader.await_message(conversation, DELETED_WHILE_AWAY)?;
        reader.await_message(conversation, WHILE_AWAY)?;
        let deletion = sender.delete(&deleted, "wrong-recipient")?;
        let report = sender.await_confirmed(&deletion, 2)?;
        step.tell(format!(
            "two messages were sent, one of them was deleted: {} of {} have confirmed, {away} is awaited",
            report["confirmed"], report["replicas_total"]
        ));

        let began = Instant::now();
        cluster.trusts[2].node.start()?;
        step.tell(format!("{away}: started again"));
        let mut readings = 0;
        for person in &cluster.trusts[2].people {
            lanyard_tests::wait::until(
                "the message sent meanwhile arrives",
                lanyard_tests::wait::SOON,
                || {
                    let messages = person.read(conversation)?;
                    readings += 1;
                    let shows = |text: &str| messages.iter().any(|message| message["text"] == text);
                    promise(!shows(DELETED_WHILE_AWAY), || {
                        format!("{} was shown a deleted message", person.name())
                    })?;
                    Ok(if shows(WHILE_AWAY) { Ok(()) } else { Err(messages.len()) })
                },
            )?;
        }
        let caught_up_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        step.tell(format!(
            "{away}: its clinicians read what was sent meanwhile, {} ms after the start",
            caught_up_ms
        ));
        let report = first(cluster, 0).await_confirmed(&deletion, 3)?;
        for person in &cluster.trusts[2].people {
            promise(!person.reads(conversation, DELETED_WHILE_AWAY)?, || {
                format!("{} was shown it late", person.name())
            })?;
        }
        let held = cluster.trusts[2].node.held(&deleted)?;
        promise(held.is_none(), || format!("{away} holds the deleted message"))?;
        step.tell(format!(
            "the deleted one was never shown there; now {} of {} have confirmed",
            report["confirmed"], report["replicas_total"]
        ));
        cluster.await_connected()?;
        step.figure("caught_up_ms", caught_up_ms);
        step.figure("readings", readings);
        step.figure("deleted_message_shown", 0);
        step.figure("confirmed", report["confirmed"].clone());
        Ok(())
    })
}

/// Looks for the texts of all messages in everything that nodes and devices have written.
pub fn look_for_texts(story: &mut Story, cluster: &Cluster) -> Result<(), HarnessError> {
    story.step(
        "look-for-texts",
        "Look for the messages' texts in every file of every node and device",
        |step| {
            let texts = [QUESTION, ANSWER, NOTE, MISTAKE, WHILE_AWAY];
            let (files, mut bytes) = (traces::files(cluster.path())?, 0);
            for file in &files {
                let content = fs::read(file).map_err(HarnessError::system(file.display().to_string()))?;
                let found = texts.iter().any(|text| capture::contains(&content, text.as_bytes()));
                promise(!found, || format!("{} holds the text of a message", file.display()))?;
                bytes += content.len();
            }
            let files = files.len();
            step.tell(format!(
                "{files} files with {} KiB: no text of a message in any of them",
                bytes / 1024
            ));
            step.figure("files", files);
            step.figure("bytes", bytes);
            step.figure("found", 0);
            Ok(())
        },
    )
}

/// Ends the nodes.
pub fn stop(story: &mut Story, cluster: &mut Cluster) -> Result<(), HarnessError> {
    story.step("stop-nodes", "Stop the nodes, and remove everything", |step| {
        cluster.stop()?;
        step.tell("each ended in order when asked to (SIGTERM, exit code 0)");
        step.figure("nodes", cluster.trusts.len());
        Ok(())
    })
}

/// The first clinician of the trust at `place`.
fn first(cluster: &Cluster, place: usize) -> &Person {
    &cluster.trusts[place].people[0]
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(text).collect()
}
