//! Enrolled devices of a real node, and their connections.

use std::error::Error;
use std::path::PathBuf;

use lanyard_client::app::App;
use lanyard_client::node::{Anchor, NodeClient};
use lanyard_client::profile::Profile;
use lanyard_client::trust::Beliefs;
use lanyard_crypto::gateway::SendRequest;
use lanyard_crypto::mls;
use lanyard_crypto::pin::{Pin, SessionToken};
use lanyard_crypto::record::Class;
use lanyard_crypto::{ConversationId, RecordId, Timestamp, TrustId};
use lanyard_replica::fixtures;
use lanyard_tests::{Cluster, PersonPlan};

/// Bytes of ciphertext, so that the envelope takes 1 KiB.
const CIPHERTEXT_BYTES: u32 = 732;
/// How long the messages live.
const LIFE_SECS: u64 = 24 * 3600;
/// In which all parts of the names differ, since who is easily taken for another is not added without a question.
const SYLLABLES: [&str; 16] = [
    "Ba", "Che", "Di", "Fo", "Gul", "Hap", "Jen", "Kim", "Los", "Mur", "Nax", "Pel", "Quin", "Rov", "Sut",
    "Wyb",
];

/// An enrolled device that is unlocked, and in a conversation with one other.
pub struct Device {
    profile: Profile,
    token: SessionToken,
    trust: TrustId,
    conversation: ConversationId,
}

impl Device {
    /// Enrols so many devices at the first trust's node; each two of them are in a conversation.
    pub fn enrol(cluster: &Cluster, count: usize) -> Result<Vec<Self>, Box<dyn Error>> {
        let node = &cluster.trusts[0].node;
        let trust: TrustId = cluster.trusts[0].plan.ods.parse()?;
        let mut devices = Vec::new();
        for pair in 0..count / 2 {
            let mut entered = Vec::new();
            for n in [2 * pair, 2 * pair + 1] {
                let (plan, profile) = (person(n), Profile::at(path(cluster, n)));
                let pin = Pin::typed(lanyard_tests::person::PIN)?;
                let (app, opened) = App::enrol(&profile, &node.invite(&plan)?, pin, None)?;
                entered.push((app, opened.token, profile, plan.registration));
            }
            let with = [entered[1].3.to_owned()];
            let founder = &mut entered[0].0;
            let view =
                founder.new_conversation(&format!("Pair {pair}"), mls::Class::Clinical, &with, None)?;
            let conversation: ConversationId = view.id.parse()?;
            devices.extend(entered.into_iter().map(|(_, token, profile, _)| Self {
                profile,
                token,
                trust: trust.clone(),
                conversation: conversation.clone(),
            }));
        }
        Ok(devices)
    }

    /// A connection of its own, which has shown the device's certificate.
    pub fn connect(&self) -> Result<NodeClient, Box<dyn Error>> {
        let (device, beliefs) = (self.profile.load()?, Beliefs::load(&self.profile)?);
        let anchor = Anchor::Network { trust: device.trust.clone(), network: beliefs.network() };
        let mut node = NodeClient::new(&device.address, anchor, Some(&device))?;
        node.show(Some(self.token.clone()));
        node.trust(None)?;
        Ok(node)
    }

    /// A message for `custodians` and the device's own trust, another one for each `n`.
    pub fn message(&self, n: u64, custodians: &[TrustId], now: Timestamp) -> SendRequest {
        SendRequest {
            conversation: self.conversation.clone(),
            epoch: 1,
            class: Class::Application,
            content: fixtures::padded_message(&self.conversation, 1, n, CIPHERTEXT_BYTES),
            custodians: custodians.iter().chain([&self.trust]).cloned().collect(),
            expires: now.plus_secs(LIFE_SECS),
        }
    }

    /// The ids of all records in its inbox, by their bytes.
    pub fn received(&self) -> Result<Vec<RecordId>, Box<dyn Error>> {
        let (mut node, mut after, mut all) = (self.connect()?, 0, Vec::new());
        loop {
            let page = node.inbox(after)?;
            let Some(last) = page.items.last() else { return Ok(all) };
            after = last.seq;
            all.extend(page.items.iter().filter_map(|item| Some(RecordId::of(&item.record.as_ref()?.bytes))));
        }
    }
}

/// A fictional clinician; the texts live as long as the process, as those of the harness's plans do.
fn person(n: usize) -> PersonPlan {
    let (first, second) = (SYLLABLES[n % 16], SYLLABLES[(n / 16 + 5 * n) % 16].to_lowercase());
    let name = format!("{first}{second} {second}{}", SYLLABLES[(7 * n + n / 16) % 16].to_lowercase());
    PersonPlan {
        name: name.leak(),
        role: "Registrar",
        registration: format!("GMC {:07}", 1000 + n).leak(),
        department: "Acute medicine",
    }
}

fn path(cluster: &Cluster, n: usize) -> PathBuf {
    cluster.path().join(format!("device{n}"))
}
