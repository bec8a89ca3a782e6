//! A deletion with its evidence, as the operator's socket and `lanyard-node deletions` show it.

use lanyard_crypto::Timestamp;
use lanyard_crypto::gateway::DeletionResponse;
use lanyard_crypto::ids::to_hex;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::Target;
use lanyard_crypto::tally::{DeviceName, DeviceTally, ReplicaState, ReplicaTally, Tally};
use serde::{Deserialize, Serialize};

use crate::address::peer_id;
use crate::time::rfc3339;

/// A deletion: `GET /v1/deletions` gives a list, `GET /v1/deletions/ID` one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    /// The tombstone record.
    pub tombstone: String,
    /// When it was ordered.
    pub issued: String,
    /// ODS code of the trust that ordered it; absent if the signature does not verify.
    pub by: Option<String>,
    /// Who asked: the opaque reference that the ordering trust's audit log explains; as it is if it is printable, else in hexadecimal
    /// digits.
    pub reference: String,
    /// The conversation.
    pub conversation: String,
    /// What of it.
    pub what: String,
    /// Why.
    pub reason: String,
    /// Who has confirmed, and for whom it is waited, in a line.
    pub summary: String,
    /// Replicas that must erase: the nodes of the custodian trusts.
    pub replicas: usize,
    /// Those of them that attested erasure.
    pub confirmed: usize,
    /// Those that keep it for a while, because their trust must.
    pub held: usize,
    /// Those that have not confirmed in time.
    pub overdue: usize,
    /// Devices that must erase.
    pub devices_total: u64,
    /// Those of them that say, by their own signature, that they have.
    pub devices_erased: u64,
    /// Each replica.
    pub tally: Vec<Replica>,
    /// Each device that is known by its certificate.
    pub devices: Vec<DeviceErasure>,
    /// What is shown and does not verify.
    pub problems: Vec<String>,
}

/// One replica's part in a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// The trust.
    pub trust: String,
    /// Its node; absent if none of the trust's is known.
    pub peer_id: Option<String>,
    /// `missing`, `held` or `erased`; `missing` too once the hold is over.
    pub state: String,
    /// When it says that it had erased; absent until its receipt came.
    pub erased: Option<String>,
    /// How many messages it says that it has erased: those that had never come do not count.
    pub envelopes: Option<u32>,
    /// Until when it keeps what is deleted.
    pub held_until: Option<String>,
    /// By which hold: the reference, likewise.
    pub hold: Option<String>,
    /// Since when it is overdue.
    pub overdue: Option<String>,
    /// Its receipt, a record.
    pub receipt: Option<String>,
}

/// One device's part in a deletion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceErasure {
    /// Its trust.
    pub trust: String,
    /// Fingerprint of its certificate.
    pub device: String,
    /// The name in it, if it is known.
    pub name: Option<String>,
    /// When it says that it had erased; absent if it is waited for.
    pub erased: Option<String>,
    /// When it last spoke to its node, if it is waited for.
    pub last_seen: Option<String>,
    /// Whether it has been revoked, so that nobody waits for it any more.
    pub revoked: bool,
}

impl Deletion {
    /// Checks what the engine says of a deletion, and shows it.
    ///
    /// # Errors
    /// What is wrong, if it is not about a tombstone at all.
    pub fn of(answer: &DeletionResponse, network: &mut Network, now: Timestamp) -> Result<Self, String> {
        let tally = Tally::of(answer, network)?;
        Ok(Self {
            tombstone: tally.id.to_string(),
            issued: rfc3339(tally.issued),
            by: tally.by.as_ref().map(ToString::to_string),
            reference: reference(&tally.tombstone.reference),
            conversation: tally.tombstone.conversation.to_string(),
            what: what(&tally.tombstone.target),
            reason: tally.tombstone.reason.name().into(),
            summary: tally.summary(now),
            replicas: tally.replicas.len(),
            confirmed: tally.confirmed(),
            held: tally.replicas.iter().filter(|r| r.holds(now)).count(),
            overdue: tally.replicas.iter().filter(|r| r.overdue.is_some()).count(),
            devices_total: tally.devices_total(),
            devices_erased: tally.devices_erased(),
            tally: tally.replicas.iter().map(|replica| Replica::of(replica, now)).collect(),
            devices: tally.devices.iter().flat_map(device_erasures).collect(),
            problems: tally.problems,
        })
    }
}

impl Replica {
    fn of(replica: &ReplicaTally, now: Timestamp) -> Self {
        let (state, erased, envelopes, held) = match &replica.state {
            ReplicaState::Missing => ("missing", None, None, None),
            ReplicaState::Held(until, by) => {
                (if replica.holds(now) { "held" } else { "missing" }, None, None, Some((until, by)))
            }
            ReplicaState::Erased(at, envelopes) => ("erased", Some(at), Some(*envelopes), None),
        };
        Self {
            trust: replica.trust.to_string(),
            peer_id: replica.node.map(|node| peer_id(&node)),
            state: state.into(),
            erased: erased.map(|at| rfc3339(*at)),
            envelopes,
            held_until: held.map(|(until, _)| rfc3339(*until)),
            hold: held.map(|(_, by)| reference(by)),
            overdue: replica.overdue.map(rfc3339),
            receipt: replica.receipt.map(|id| id.to_string()),
        }
    }
}

fn device_erasures(of: &DeviceTally) -> Vec<DeviceErasure> {
    let named = |device: &DeviceName| DeviceErasure {
        trust: of.trust.to_string(),
        device: device.device.to_string(),
        name: device.name.clone(),
        erased: None,
        last_seen: None,
        revoked: false,
    };
    let confirmed = of.confirmed.iter();
    let confirmed =
        confirmed.map(|(device, at)| DeviceErasure { erased: Some(rfc3339(*at)), ..named(device) });
    let waiting = of.waiting.iter().map(|waited| DeviceErasure {
        last_seen: waited.last_seen.map(rfc3339),
        revoked: waited.revoked,
        ..named(&waited.device)
    });
    confirmed.chain(waiting).collect()
}

fn reference(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) => text.into(),
        _ => to_hex(bytes),
    }
}

/// What a tombstone names, for people.
fn what(target: &Target) -> String {
    match target {
        Target::Envelopes(ids) if ids.len() == 1 => "1 message".into(),
        Target::Envelopes(ids) => format!("{} messages", ids.len()),
        Target::UpTo(moment) => format!("all up to {}", rfc3339(*moment)),
        Target::Standing(moment, secs) => {
            format!("all up to {}, each {secs} s after it was sent", rfc3339(*moment))
        }
    }
}
