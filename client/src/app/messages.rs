//! Sending and reading.

use std::collections::BTreeSet;

use lanyard_crypto::RecordId;
use lanyard_crypto::mls::Class;

use super::resemblance::member_known;
use super::view::{MessageState, MessageView, Messages, Moment, OverrideView, SenderView, Synced};
use super::{App, AppError, begins, is_prefix};
use crate::session::Content;
use crate::vault::conversations::Conversation;
use crate::vault::messages::Message;
use crate::vault::overrides::Override;
use crate::{clock, patterns};

/// How long a message lives if nothing else is asked for, in seconds: 30 days, or what the conversation allows.
const DEFAULT_LIFE_SECS: u64 = 30 * 24 * 3600;
/// Digits of a message's id that may stand for it.
const ID_DIGITS_MIN: usize = 6;
/// Messages of one conversation that are looked through for an id.
pub(super) const SEARCHED_MAX: usize = 100_000;

impl App {
    /// Sends a text, to live for `life_secs` or the default. It is in the vault before it is handed to the
    /// node; if that cannot be reached, or cannot take it now, the view says that it is queued.
    ///
    /// # Errors
    /// [`AppError`]: empty, too long, not a member, a member who is easily taken for another, a text that a social
    /// conversation is not for; or what the node says.
    pub fn send(&mut self, typed: &str, text: &str, life_secs: Option<u64>) -> Result<MessageView, AppError> {
        self.send_overriding(typed, text, life_secs, None)
    }

    /// The same, with the reason for which a text goes to a social conversation although it identifies a patient. The
    /// reason is kept where it was needed.
    ///
    /// # Errors
    /// As [`App::send`].
    pub fn send_overriding(
        &mut self,
        typed: &str,
        text: &str,
        life_secs: Option<u64>,
        reason: Option<&str>,
    ) -> Result<MessageView, AppError> {
        let text = text.trim_end();
        if text.trim().is_empty() {
            return Err(AppError::Empty);
        }
        let conversation = self.conversation_written(typed)?;
        let (allowed, max_secs) = (self.life_secs_max(&conversation)?, self.retention_secs_max());
        let life_secs = match life_secs {
            Some(secs) if secs > allowed => return Err(AppError::TooLong { max_secs: allowed }),
            Some(secs) => secs.min(max_secs),
            None => DEFAULT_LIFE_SECS.min(allowed).min(max_secs),
        };
        let (overridden, reminder) = self.consider(&conversation, text, reason)?;
        let members = self.session.members(&conversation.id)?;
        self.check_written_to(members.iter().filter_map(|m| member_known(m, "")).collect())?;
        self.let_leave(&conversation)?;
        let now = clock::now();
        let content = Content::Text(text.to_owned());
        let outgoing = self.session.transaction(|session| {
            let outgoing = session.send(&conversation.id, &content, now.plus_secs(life_secs), now)?;
            for member in &members {
                session.vault().put_written_to(&member.device.person)?;
            }
            if let (Some(local), Some(overridden)) = (outgoing.message, &overridden) {
                session.vault().put_override(local, overridden)?;
            }
            Ok::<_, AppError>(outgoing)
        })?;
        let mut synced = Synced::default();
        match self.flush(&mut synced) {
            Err(AppError::Node(error)) if error.is_passing() => {}
            Err(AppError::Locked) => return Err(AppError::WaitsLocked),
            other => other?,
        }
        let local = outgoing.message.expect("a text is stored with what carries it");
        let message = self.session.vault().message_at(local)?;
        let message =
            message.expect("nothing but its expiry, in a second at the earliest, removes a queued message");
        let view = self.message_view(&conversation, &message, &self.queued()?)?;
        if view.state == MessageState::Failed {
            return Err(AppError::NotTaken(synced.notices.pop().unwrap_or_default()));
        }
        // Only now: what was refused for good has reminded nobody.
        if reminder.is_some() {
            self.session.vault().set_cursor(&reminded(&conversation), 1)?;
        }
        Ok(MessageView { reminder, ..view })
    }

    /// MLS lets nobody write between a trust's proposal to remove a device and the commit that carries it out: if that is not under way, it is
    /// made, and waited for.
    fn let_leave(&mut self, conversation: &Conversation) -> Result<(), AppError> {
        if !self.session.must_carry_out(&conversation.id)? {
            return Ok(());
        }
        if !self.session.is_change_pending(&conversation.id)? {
            let now = clock::now();
            self.session.carry_out(&conversation.id, now.plus_secs(self.retention_secs_max()), now)?;
        }
        self.settle(&conversation.id)?;
        match self.session.must_carry_out(&conversation.id)? {
            true => Err(AppError::Leaving { owner: conversation.id.owner().to_string() }),
            false => Ok(()),
        }
    }

    /// What a text holds that identifies a patient: a social conversation needs a reason for it, which is kept; in others
    /// the sender is reminded, once in each conversation.
    fn consider(
        &self,
        conversation: &Conversation,
        text: &str,
        reason: Option<&str>,
    ) -> Result<(Option<Override>, Option<String>), AppError> {
        let found = self.identifying(text)?;
        if found.is_empty() {
            return Ok((None, None));
        }
        let what = patterns::described(&found);
        match (conversation.class, reason.map(str::trim).filter(|reason| !reason.is_empty())) {
            (Class::Social, None) => Err(AppError::Identifying { what }),
            (Class::Social, Some(reason)) => {
                let patterns = found.iter().map(|found| found.name.clone()).collect();
                Ok((Some(Override { patterns, reason: reason.to_owned() }), None))
            }
            (Class::Clinical | Class::Operational, _) => {
                let is_first = self.session.vault().cursor(&reminded(conversation))? == 0;
                let reminder =
                    format!("this text holds {what}: use the least that identifies the patient safely");
                Ok((None, is_first.then_some(reminder)))
            }
        }
    }

    /// The newest `last` messages of one conversation, or of each, oldest first; conversations in the order
    /// of their newest, social ones behind all others.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Ambiguous`], or the disk's.
    pub fn messages(&mut self, typed: Option<&str>, last: usize) -> Result<Messages, AppError> {
        let now = clock::now();
        self.session.vault_mut().expire(now)?;
        let conversations = match typed {
            Some(typed) => vec![self.conversation_named(typed)?],
            None => self.session.vault().conversations()?,
        };
        let queued = self.queued()?;
        let mut parts = Vec::new();
        for conversation in &conversations {
            let found = self.session.vault().messages(&conversation.id, last, now)?;
            let views = found.iter().map(|m| self.message_view(conversation, m, &queued));
            parts.push((conversation.class == Class::Social, views.collect::<Result<Vec<_>, _>>()?));
        }
        parts.sort_by_key(|(is_social, part)| (*is_social, part.last().map(|m| m.sent)));
        let messages = parts.into_iter().flat_map(|(_, part)| part).collect();
        Ok(Messages { messages, overdue: self.overdue(&conversations)?, synced: None })
    }

    /// The message that was typed: its envelope's id, or the first digits of it.
    pub(crate) fn message_named(&self, typed: &str) -> Result<(RecordId, Message), AppError> {
        let now = clock::now();
        let typed = typed.trim();
        let mut found = Vec::new();
        if is_prefix(typed, ID_DIGITS_MIN) {
            for conversation in self.session.vault().conversations()? {
                let messages = self.session.vault().messages(&conversation.id, SEARCHED_MAX, now)?;
                let with_id = messages.into_iter().filter_map(|m| Some((m.id?, m)));
                found.extend(with_id.filter(|(id, _)| begins(id.as_bytes(), typed)));
            }
        }
        match found.len() {
            0 => {
                let next = "`lanyard read` shows the id of each message; 6 digits or more are needed";
                Err(AppError::NotFound { what: "message", typed: typed.into(), next })
            }
            1 => Ok(found.remove(0)),
            _ => {
                let found = found.iter().map(|(id, _)| id.to_string()).collect();
                Err(AppError::Ambiguous { what: "messages", typed: typed.into(), found })
            }
        }
    }

    /// The own messages that the outbox still carries.
    pub(super) fn queued(&self) -> Result<BTreeSet<i64>, AppError> {
        Ok(self.session.vault().outbox()?.into_iter().filter_map(|o| o.message).collect())
    }

    fn message_view(
        &self,
        conversation: &Conversation,
        message: &Message,
        queued: &BTreeSet<i64>,
    ) -> Result<MessageView, AppError> {
        let overridden = if message.own { self.session.vault().override_of(message.local)? } else { None };
        let view = |o: Override| OverrideView { reason: o.reason, patterns: o.patterns };
        Ok(MessageView {
            id: message.id.map(|id| id.to_string()),
            local: message.local,
            conversation: conversation.id.to_string(),
            title: conversation.title.clone(),
            class: conversation.class.name(),
            state: state(message, queued),
            sender: sender_view(message),
            sent: Moment(message.issued),
            expires: Moment(message.expires),
            text: message.text.clone(),
            overridden: overridden.map(view),
            reminder: None,
        })
    }
}

pub(super) fn state(message: &Message, queued: &BTreeSet<i64>) -> MessageState {
    match (message.own, message.id) {
        (false, _) => MessageState::Received,
        (true, Some(_)) => MessageState::Sent,
        (true, None) if queued.contains(&message.local) => MessageState::Queued,
        (true, None) => MessageState::Failed,
    }
}

pub(super) fn sender_view(message: &Message) -> SenderView {
    SenderView {
        name: message.name.clone(),
        role: message.role.clone(),
        trust: message.trust.to_string(),
        device: message.sender.to_string(),
        own: message.own,
    }
}

/// The vault's cursor that is set once the holder was reminded in a conversation.
fn reminded(conversation: &Conversation) -> String {
    format!("reminded/{}", conversation.id)
}
