//! Reviews of a conversation's members.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use super::{ConversationView, CouldRead, Moment};
use crate::lines::one_line;

/// Digits of a device's fingerprint that are shown.
const ID_DIGITS: usize = 12;

/// When the members of a conversation were reviewed, and until when that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReviewState {
    /// `current`, `overdue` or `read-only`.
    pub state: &'static str,
    /// When they were reviewed last; founding a conversation counts. Absent in conversations of earlier versions, until they are.
    pub reviewed: Option<Moment>,
    /// By whom, as the certificate said then; absent if nobody did, or somebody who had left when this device came.
    pub by: Option<ReviewerView>,
    /// When the next review is due.
    pub due: Moment,
    /// From when on the conversation can only be read, if there is none.
    pub read_only: Moment,
    /// What every member is told, unless the state is `current`.
    pub banner: Option<String>,
}

/// Who reviewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReviewerView {
    /// The display name.
    pub name: String,
    /// The role.
    pub role: Option<String>,
    /// The ODS code of the trust.
    pub trust: String,
}

/// `conversation review`.
#[derive(Clone, Debug, Serialize)]
pub struct ReviewView {
    /// The conversation as it is now.
    #[serde(flatten)]
    pub conversation: ConversationView,
    /// Of when the members are with whom those of now are compared: the last review, or when this device came, if that was later.
    pub compared_with: Moment,
    /// What has changed since.
    pub changes: Vec<MemberChange>,
    /// Whether this device's holder may record a review.
    pub may_confirm: bool,
    /// Whether a review was recorded by this command: false while it waits for the owner trust, or if none was asked for.
    pub recorded: bool,
    /// What those who were taken out could have read.
    pub could_read: Vec<CouldRead>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberChange {
    /// `joined`, `left`, `described`, `device-added`, `device-removed`, `certificate`, `administrator`, `not-administrator` (any more), or
    /// `not-valid`: the certificate was revoked or has ended.
    pub kind: &'static str,
    /// The same for people.
    #[serde(skip)]
    pub said: &'static str,
    /// The display name.
    pub name: String,
    /// The role.
    pub role: Option<String>,
    /// The ODS code of the trust.
    pub trust: String,
    /// The professional registration.
    pub registration: Option<String>,
    /// Fingerprint of the device's certificate, if it is about one.
    pub device: Option<String>,
    /// What is different, a phrase each.
    pub differences: Vec<String>,
}

impl Display for MemberChange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut line = self.name.clone();
        if let Some(role) = &self.role {
            line += &format!(", {role}");
        }
        line += &format!(" ({})", self.trust);
        if let Some(registration) = &self.registration {
            line += &format!(" · {registration}");
        }
        line += &format!(": {}", self.said);
        if let Some(device) = &self.device {
            line += &format!(", device {}", &device[..ID_DIGITS]);
        }
        if !self.differences.is_empty() {
            line += &format!(": {}", self.differences.join(", "));
        }
        f.write_str(&one_line(&line))
    }
}

/// A conversation whose members should have been reviewed, where its messages are shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OverdueReview {
    /// The conversation's id.
    pub conversation: String,
    /// The conversation's title.
    pub title: String,
    /// The conversation's class.
    pub class: &'static str,
    /// As in [`ReviewState`].
    #[serde(flatten)]
    pub review: ReviewState,
}
