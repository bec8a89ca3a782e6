//! Encrypting into the outbox, and what the node answers.

use lanyard_crypto::gateway::SendRequest;
use lanyard_crypto::mls::ChainVerifier;
use lanyard_crypto::record::Class;
use lanyard_crypto::{ConversationId, RecordId, Timestamp};
use mls_rs::error::MlsError;

use super::content::{TEXT_BYTES_MAX, TITLE_BYTES_MAX};
use super::{Content, Session, SessionError};
use crate::vault::content_hash;
use crate::vault::messages::Message;
use crate::vault::outbox::Outgoing;

impl<V: ChainVerifier> Session<V> {
    /// Encrypts a message and puts it into the outbox, from where the caller hands it to the node. A text is
    /// stored with it, since its sender cannot decrypt it again.
    ///
    /// # Errors
    /// [`SessionError`]: not in the conversation, too large, a proposal to carry out first, or the disk.
    pub fn send(
        &mut self,
        conversation: &ConversationId,
        content: &Content,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Outgoing, SessionError> {
        let (what, actual, max) = match content {
            Content::Text(text) => ("a text", text.len(), TEXT_BYTES_MAX),
            Content::Title(title) => ("a title", title.len(), TITLE_BYTES_MAX),
        };
        if actual > max {
            return Err(SessionError::TooLarge { what, actual, max });
        }
        self.transaction(|session| {
            let mut group = session.group(conversation)?;
            let place = group.peek_next_key_generation()?;
            let sealed = match group.encrypt_application_message(&content.encode(now), Vec::new()) {
                Err(MlsError::CommitRequired) => return Err(SessionError::CommitFirst(conversation.clone())),
                sealed => sealed?.to_bytes()?,
            };
            group.write_to_storage()?;
            let epoch = group.current_epoch();
            let message = match content {
                Content::Text(text) => {
                    let message = session.own(conversation, (epoch, place), text, expires, now);
                    Some(session.vault.put_message(&message, &content_hash(&sealed))?)
                }
                Content::Title(title) => {
                    session.vault.set_title(conversation, title)?;
                    None
                }
            };
            let request = SendRequest {
                conversation: conversation.clone(),
                epoch,
                class: Class::Application,
                content: sealed,
                custodians: session.trusts(&group)?,
                expires,
            };
            let id = session.vault.put_outgoing(message, &request)?;
            Ok(Outgoing { id, message, request })
        })
    }

    /// The node has taken what was in the outbox, as this envelope.
    ///
    /// # Errors
    /// The disk's.
    pub fn sent(
        &mut self,
        outgoing: &Outgoing,
        envelope: &RecordId,
        issued: Timestamp,
    ) -> Result<(), SessionError> {
        self.transaction(|session| {
            session.vault.drop_outgoing(outgoing.id)?;
            if outgoing.request.class == Class::Submission {
                session.vault.put_submission(&outgoing.request.conversation, envelope)?;
            }
            if let Some(local) = outgoing.message {
                session.vault.set_envelope(local, envelope, issued)?;
            }
            Ok(())
        })
    }

    /// The node has refused what was in the outbox, for good: it is not sent again. A change of members is
    /// void; a message stays in the vault, without an envelope.
    ///
    /// # Errors
    /// The disk's.
    pub fn refused(&mut self, outgoing: &Outgoing) -> Result<(), SessionError> {
        self.transaction(|session| {
            session.vault.drop_outgoing(outgoing.id)?;
            if outgoing.request.class == Class::Submission {
                session.abandon_change(&outgoing.request.conversation)?;
            }
            Ok(())
        })
    }

    fn own(
        &self,
        conversation: &ConversationId,
        (epoch, place): (u64, u32),
        text: &str,
        expires: Timestamp,
        now: Timestamp,
    ) -> Message {
        Message {
            local: 0,
            id: None,
            conversation: conversation.clone(),
            epoch,
            place,
            own: true,
            sender: self.device.fingerprint,
            name: self.device.name.clone(),
            role: self.device.role.clone(),
            trust: self.device.trust.clone(),
            issued: now,
            expires,
            text: text.to_owned(),
        }
    }
}
