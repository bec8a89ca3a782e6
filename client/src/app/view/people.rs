//! The same of people: the directory, what was checked of a certificate, similar names, what somebody could have read,
//! and safety numbers.

use serde::Serialize;

use super::{ConversationView, Moment, SenderView};

/// `find`.
#[derive(Clone, Debug, Serialize)]
pub struct FoundPeople {
    /// Who was found, by name.
    pub people: Vec<FoundPerson>,
    /// Whether there are more: give more words.
    pub more: bool,
}

/// One person.
#[derive(Clone, Debug, Serialize)]
pub struct FoundPerson {
    /// The display name.
    pub name: String,
    /// The role.
    pub role: Option<String>,
    /// The department.
    pub department: Option<String>,
    /// The professional registration.
    pub registration: Option<String>,
    /// The ODS code of the trust.
    pub trust: String,
    /// The trust's name.
    pub organisation: String,
    /// Whether somebody else has a name that is easily taken for this one: see `resembles`.
    pub similar: bool,
    /// Those people: others who were found, and whom this device knows already.
    pub resembles: Vec<ResemblanceView>,
    /// Whether one of the devices says that its holder wants to be contacted now.
    pub available: bool,
    /// The devices.
    pub devices: Vec<FoundDevice>,
}

/// One device of a person.
#[derive(Clone, Debug, Serialize)]
pub struct FoundDevice {
    /// Fingerprint of its certificate.
    pub device: String,
    /// The display name that its certificate states.
    pub name: String,
    /// Whether it can be invited to conversations.
    pub reachable: bool,
    /// What this program has checked of its certificate.
    pub certification: CertificationView,
}

/// What this program has checked itself of a certificate, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificationView {
    /// Whether everything holds: the chain reaches the trust's root in the charter, every certificate of it is valid at
    /// this moment, and none is on a revocation list that is held.
    pub holds: bool,
    /// What does not hold.
    pub problem: Option<String>,
    /// The ODS code of the trust whose registrar certified it.
    pub trust: String,
    /// The name in the registrar's certificate.
    pub registrar: String,
    /// When the first certificate of the chain ends.
    pub until: Moment,
    /// The version of the charter whose root was used.
    pub charter_version: u64,
    /// The number of the registrar's revocation list; without one, revocation could not be checked.
    pub revocation_list: Option<u64>,
    /// When that list was issued.
    pub revocations_of: Option<Moment>,
    /// When the registrar should have issued the next one.
    pub revocations_due: Option<Moment>,
    /// When this was checked.
    pub checked: Moment,
}

/// Somebody whose name is easily taken for another one's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResemblanceView {
    /// The display name.
    pub name: String,
    /// The role.
    pub role: Option<String>,
    /// The ODS code of the trust.
    pub trust: String,
    /// The professional registration.
    pub registration: Option<String>,
    /// From where this device knows the person.
    pub known: String,
    /// What is different about the person, a phrase each.
    pub differences: Vec<String>,
}

/// `conversation remove`.
#[derive(Clone, Debug, Serialize)]
pub struct RemovalView {
    /// The conversation as it is now.
    #[serde(flatten)]
    pub conversation: ConversationView,
    /// What each of those who were to be taken out could have read.
    pub could_read: Vec<CouldRead>,
}

/// What a person could have read: the messages that this device holds of the epochs in which one of their devices was
/// a member.
#[derive(Clone, Debug, Serialize)]
pub struct CouldRead {
    /// The display name.
    pub name: String,
    /// The role.
    pub role: Option<String>,
    /// The ODS code of the trust.
    pub trust: String,
    /// The professional registration.
    pub registration: Option<String>,
    /// Whether no device of the person is a member any more; until then, more messages may be added.
    pub removed: bool,
    /// Since when the person was a member; absent if that was before this device came or noted it.
    pub since: Option<Moment>,
    /// How many messages.
    pub count: usize,
    /// When the first of them was sent.
    pub first: Option<Moment>,
    /// When the last of them was sent.
    pub last: Option<Moment>,
    /// Those messages, oldest first.
    pub messages: Vec<ReadableMessage>,
}

/// One of those messages.
#[derive(Clone, Debug, Serialize)]
pub struct ReadableMessage {
    /// The id of its envelope; absent while it is queued.
    pub id: Option<String>,
    /// Its number on this device.
    pub local: i64,
    /// When it was sent.
    pub sent: Moment,
    /// Who sent it.
    pub sender: SenderView,
}

/// `safety`.
#[derive(Clone, Debug, Serialize)]
pub struct SafetyView {
    /// Twelve groups of five digits.
    pub number: String,
    /// The same digits without spaces, as the code to scan holds them.
    pub digits: String,
    /// With whom, or of which conversation.
    pub of: SafetyOf,
    /// What the holder must look at before the number shows anything, if more devices than this one are certified as theirs.
    pub warning: Option<String>,
    /// What an equal number shows.
    pub note: &'static str,
}

/// Whose safety number it is.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SafetyOf {
    /// Of the holder and another person.
    Person {
        /// The other's name.
        name: String,
        /// The other's role.
        role: Option<String>,
        /// The ODS code of the other's trust.
        trust: String,
        /// The other's professional registration.
        registration: Option<String>,
        /// Fingerprints of the other's devices, sorted.
        devices: Vec<String>,
        /// Fingerprints of the holder's own devices, sorted.
        own_devices: Vec<String>,
    },
    /// Of a conversation.
    Conversation {
        /// Its id.
        conversation: String,
        /// What it is about.
        title: String,
        /// clinical, operational or social.
        class: &'static str,
        /// The epoch: the number changes with each change of members.
        epoch: u64,
        /// Fingerprints of all members' devices, sorted.
        devices: Vec<String>,
    },
}
