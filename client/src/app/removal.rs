//! What somebody who is taken out of a conversation could have read: the messages that this device holds of the epochs
//! in which one of the person's devices was a member, also of those that they do not have any more.
//!
//! Exact by epoch, since MLS gives each epoch its own keys. It is what this device holds: what was deleted, what has
//! expired, and what was sent before this device came, is not told.

use std::collections::BTreeMap;

use lanyard_crypto::mls::PersonKey;

use super::messages::{SEARCHED_MAX, sender_view, state};
use super::resemblance::member_known;
use super::view::{ConversationView, CouldRead, MessageState, Moment, ReadableMessage};
use super::{App, AppError};
use crate::clock;
use crate::session::SessionMember;
use crate::vault::conversations::Conversation;
use crate::vault::membership::Span;
use crate::vault::messages::Message;

impl App {
    /// What each of the people whose devices these were could have read. `now` is the conversation after the removal.
    pub(super) fn could_read(
        &self,
        conversation: &Conversation,
        leaving: &[SessionMember],
        now: &ConversationView,
    ) -> Result<Vec<CouldRead>, AppError> {
        if leaving.is_empty() {
            return Ok(Vec::new());
        }
        let mut people: BTreeMap<PersonKey, Vec<&SessionMember>> = BTreeMap::new();
        leaving.iter().for_each(|m| people.entry(m.device.person).or_default().push(m));
        let queued = self.queued()?;
        let mut held = self.session.vault().messages(&conversation.id, SEARCHED_MAX, clock::now())?;
        // What a node refused has reached nobody.
        held.retain(|message| state(message, &queued) != MessageState::Failed);
        people.into_values().map(|devices| self.one_could_read(conversation, &devices, &held, now)).collect()
    }

    fn one_could_read(
        &self,
        conversation: &Conversation,
        devices: &[&SessionMember],
        held: &[Message],
        now: &ConversationView,
    ) -> Result<CouldRead, AppError> {
        let mut spans: Vec<Span> = Vec::new();
        // Those that the person has now, and those that they had before.
        let vault = self.session.vault();
        let mut all = vault.devices_of(&conversation.id, &devices[0].device.person)?;
        all.extend(devices.iter().map(|member| member.device.fingerprint));
        for device in all {
            let noted = vault.spans(&conversation.id, &device)?;
            // An earlier version has noted nothing, and there was no change of members since.
            let always = Span { came: 0, went: None, since: None };
            spans.extend(if noted.is_empty() { vec![always] } else { noted });
        }
        let could = held.iter().filter(|m| spans.iter().any(|span| span.covers(m.epoch)));
        let messages: Vec<ReadableMessage> = could
            .map(|message| ReadableMessage {
                id: message.id.map(|id| id.to_string()),
                local: message.local,
                sent: Moment(message.issued),
                sender: sender_view(message),
            })
            .collect();
        let is_in = |member: &&SessionMember| {
            let device = member.device.fingerprint.to_string();
            now.members.iter().any(|m| m.device == device)
        };
        let since = spans.iter().map(|span| span.since).min().flatten();
        let person = &devices[0].device;
        Ok(CouldRead {
            name: person.name.clone(),
            role: person.role.clone(),
            trust: person.trust.to_string(),
            registration: member_known(devices[0], "").and_then(|p| p.subject.registration),
            removed: !devices.iter().any(is_in),
            since: since.map(Moment),
            count: messages.len(),
            first: messages.first().map(|m| m.sent),
            last: messages.last().map(|m| m.sent),
            messages,
        })
    }
}
