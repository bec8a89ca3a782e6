//! A client with many messages in its vault: the program `lanyard`, against bare SQLCipher with the same file and the same query.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use lanyard_client::agent;
use lanyard_client::profile::Profile;
use lanyard_client::vault::messages::Message;
use lanyard_client::vault::{Vault, VaultError, VaultKey};
use lanyard_crypto::{ConversationId, Fingerprint, RecordId, Timestamp};
use lanyard_replica::fixtures::DAY;
use lanyard_tests::cluster::REGION;
use lanyard_tests::{Cluster, Programs};
use serde_json::json;

use super::alone::query_json;
use super::process::{Measured, median, mib, ms, rounded, run_to_end, settled};
use crate::Size;
use crate::report::at_most;

const MESSAGES: usize = 100_000;
const MESSAGES_QUICK: usize = 5_000;
/// Put into the vault in one transaction.
const PART: usize = 10_000;
/// Messages that are shown.
const SHOWN: usize = 50;
/// Times that each is run.
const TURNS: usize = 9;
const TURNS_QUICK: usize = 3;
const GOAL_MEMORY: f64 = 1.5;
const GOAL_START: f64 = 1.3;
/// Over how long the messages came, and when they end, in seconds.
const SPREAD: u64 = 20 * DAY;

const LISTED: &str = "SELECT id, title, class, since, left_epoch FROM conversation ORDER BY since DESC, id";
const READ: &str =
    "SELECT local, id, conversation, epoch, own, sender, name, role, trust, issued, expires, text, place
    FROM message WHERE conversation = ? ORDER BY issued DESC, local DESC LIMIT 50";

pub fn run(size: &Size) -> Result<(), Box<dyn Error>> {
    let small = size.quick || size.records.is_some();
    let count = if small { MESSAGES_QUICK } else { MESSAGES };
    let turns = if small { TURNS_QUICK } else { TURNS };
    let programs = Programs::find()?;
    let mut cluster = Cluster::started(&programs, &REGION[..1])?;
    cluster.enrol_all()?;
    let [reader, writer] = &cluster.trusts[0].people[..] else { return Err("two people".into()) };
    let id = reader.converse("Ward 4", "clinical", [writer])?;
    let profile = Profile::at(reader.profile());
    let key = agent::opened(&profile, false)?.ok_or("the device is locked")?.key;
    fill(&profile, &key, &id.parse()?, count)?;

    let agent = settled(reader.agent().id().ok_or("no agent runs")?)?;
    size.show(&json!({
        "scenario": "a client with messages in its vault: the agent of an unlocked device",
        "messages": count,
        "resident, MiB": mib(agent),
    }));
    let list = ["conversation", "list"];
    let shown = SHOWN.to_string();
    let read = ["read", &id, "--last", &shown];
    let asked = Asked { programs, profile, key: **key, conversation: id.parse()?, turns, count };
    asked.compare(size, "its conversations, listed", &list, LISTED)?;
    asked.compare(size, "the newest 50 messages, after asking the node for more", &read, READ)?;
    cluster.stop()?;
    asked.compare(size, "the newest 50 messages, with the node out of reach", &read, READ)
}

struct Asked {
    programs: Programs,
    profile: Profile,
    key: [u8; 32],
    conversation: ConversationId,
    turns: usize,
    count: usize,
}

impl Asked {
    /// A command, and the bare query behind it, in turn.
    fn compare(&self, size: &Size, what: &str, command: &[&str], sql: &str) -> Result<(), Box<dyn Error>> {
        let file = self.profile.dir().with_extension("query");
        let query = query_json(&self.profile.vault_path(), &self.key, sql, &self.conversation.to_bytes());
        fs::write(&file, serde_json::to_vec(&query)?)?;
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        // The first one of each reads what the others find in memory.
        for turn in 0..=self.turns {
            let (alone, client) = (self.alone(&file)?, self.client(command)?);
            if turn > 0 {
                bare.push(alone);
                ours.push(client);
            }
        }
        let (bare, ours) = (median(&bare), median(&ours));
        size.show(&json!({
            "scenario": format!("a client with messages in its vault: {what}"),
            "messages": self.count,
            "bare SQLCipher: resident, MiB": mib(bare.kib),
            "the client: resident, MiB": mib(ours.kib),
            "memory against bare SQLCipher's": at_most(rounded(ours.kib / bare.kib), GOAL_MEMORY),
            "bare SQLCipher: from start to end, ms": ms(bare.seconds),
            "the client: from start to end, ms": ms(ours.seconds),
            "time against bare SQLCipher's": at_most(rounded(ours.seconds / bare.seconds), GOAL_START),
        }));
        Ok(())
    }

    fn alone(&self, query: &Path) -> Result<Measured, Box<dyn Error>> {
        run_to_end(Command::new(std::env::current_exe()?).arg("query").arg(query))
    }

    fn client(&self, command: &[&str]) -> Result<Measured, Box<dyn Error>> {
        let mut program = Command::new(self.programs.client());
        run_to_end(program.arg("--profile").arg(self.profile.dir()).arg("--json").args(command))
    }
}

/// Puts messages into a vault as the client does when it has read them.
fn fill(
    profile: &Profile,
    key: &[u8; 32],
    conversation: &ConversationId,
    count: usize,
) -> Result<(), Box<dyn Error>> {
    let _lock = profile.lock()?;
    let now = Timestamp::from_secs(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs());
    let mut vault = Vault::open(&profile.vault_path(), &VaultKey::new(*key))?;
    for first in (0..count).step_by(PART) {
        vault.transaction(|vault| {
            for n in first..(first + PART).min(count) {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&(n as u64 + 1).to_be_bytes());
                let issued = now.minus_secs(SPREAD - SPREAD * n as u64 / count as u64);
                vault.put_message(
                    &Message {
                        local: 0,
                        id: Some(RecordId::new(bytes)),
                        conversation: conversation.clone(),
                        epoch: 1,
                        place: u32::try_from(n).unwrap_or(u32::MAX),
                        own: false,
                        sender: Fingerprint::of(b"sender"),
                        name: "Tom Brenner".into(),
                        role: Some("Charge nurse".into()),
                        trust: conversation.owner().clone(),
                        issued,
                        expires: now.plus_secs(5 * DAY),
                        text: format!(
                            "Observations {n}: stable overnight, NEWS 1, next set at six; bed manager told."
                        ),
                    },
                    &bytes,
                )?;
            }
            Ok::<_, VaultError>(())
        })?;
    }
    Ok(())
}
