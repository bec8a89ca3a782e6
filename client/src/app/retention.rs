//! How long messages live: the shortest of what the charter allows for the class, of what the trust that owns the conversation
//! keeps, and of the conversation's own setting.
//!
//! The last is in the conversation's MLS state, the same for every member; the session keeps it beside that. What a trust keeps its node tells its own devices: it
//! counts here for conversations of this device's trust, and those of others hear of it by standing orders.

use lanyard_crypto::charter::{Policy, TrustRetention};
use lanyard_crypto::mls::{ChainVerifier, Class};
use lanyard_crypto::{ConversationId, TrustId};

use super::view::ConversationView;
use super::{App, AppError};
use crate::clock;
use crate::session::{Received, Session, SessionError};
use crate::vault::conversations::Conversation;
use crate::vault::{Vault, VaultError};

/// The vault's cursors that hold what this device's trust keeps, in seconds; 0 if it says nothing.
const ALL: &str = "retention";

fn of_class(class: Class) -> String {
    format!("retention/{}", class.name())
}

impl App {
    /// Sets how long a conversation's messages live at most, for those that are there as well.
    ///
    /// # Errors
    /// [`AppError`]: longer than the charter or the trust allows; not an administrator of the owner trust; another change is
    /// waiting.
    pub fn set_retention(&mut self, typed: &str, secs: u64) -> Result<ConversationView, AppError> {
        let conversation = self.conversation_joined(typed)?;
        let owner = conversation.id.owner();
        if *owner != self.device.trust {
            return Err(AppError::NotOwner { owner: owner.to_string() });
        }
        let max_secs = self.allowed_secs(conversation.class)?;
        if secs > max_secs {
            return Err(AppError::TooLongKept { class: conversation.class.name(), max_secs });
        }
        let now = clock::now();
        let expires = now.plus_secs(self.retention_secs_max());
        self.session.set_retention(&conversation.id, secs, expires, now)?;
        self.settle(&conversation.id)
    }

    /// What a conversation of this device's trust may keep at most, in seconds.
    pub(crate) fn allowed_secs(&self, class: Class) -> Result<u64, AppError> {
        let own = kept(self.session.vault())?;
        Ok(self.beliefs.read().charter().policy.effective_secs(&own, class, None))
    }

    /// How long messages of a conversation live at most, in seconds.
    pub(crate) fn effective_secs(&self, conversation: &Conversation) -> Result<u64, AppError> {
        Ok(self.bounds().effective_secs(&self.session, conversation)?)
    }

    /// What bounds the life of messages at this moment, apart from what is in the vault.
    pub(crate) fn bounds(&self) -> Bounds {
        Bounds { policy: self.beliefs.read().charter().policy.clone(), own: self.device.trust.clone() }
    }

    /// The longest life of a message that this device may send to a conversation, in seconds: its own trust's node takes no longer
    /// ones for any.
    pub(crate) fn life_secs_max(&self, conversation: &Conversation) -> Result<u64, AppError> {
        let own = kept(self.session.vault())?.secs_max.unwrap_or(u64::MAX);
        Ok(self.effective_secs(conversation)?.min(own))
    }

    /// Notes what this device's trust keeps, if it is something else than before.
    pub(crate) fn keep_retention(&mut self, told: &TrustRetention) -> Result<(), VaultError> {
        let by_class = Class::ALL.map(|class| (of_class(class), told.by_class.of(class)));
        let vault = self.session.vault_mut();
        let mut changed = Vec::new();
        for (name, secs) in [(ALL.to_owned(), told.secs_max)].into_iter().chain(by_class) {
            let secs = secs.unwrap_or(0);
            if vault.cursor(&name)? != secs {
                changed.push((name, secs));
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        vault.transaction(|vault| changed.iter().try_for_each(|(name, secs)| vault.set_cursor(name, *secs)))
    }

    /// Lets what is in the vault end as the conversations say now, where they say something else than before; it is for
    /// [`App::apply_retention`] to tell that.
    pub(crate) fn shorten(&self) -> Result<(), AppError> {
        let vault = self.session.vault();
        for conversation in vault.conversations()? {
            let secs = self.effective_secs(&conversation)?;
            if vault.cursor(&applied(&conversation.id))? != secs {
                vault.limit(&conversation.id, secs)?;
            }
        }
        Ok(())
    }

    /// Lets what is in the vault end as the conversations say now. Returns what to tell of those that changed.
    pub(crate) fn apply_retention(&mut self) -> Result<Vec<String>, AppError> {
        let mut notices = Vec::new();
        for conversation in self.session.vault().conversations()? {
            notices.extend(self.apply_retention_of(&conversation)?);
        }
        Ok(notices)
    }

    fn apply_retention_of(&mut self, conversation: &Conversation) -> Result<Option<String>, AppError> {
        let secs = self.effective_secs(conversation)?;
        let (vault, applied) = (self.session.vault_mut(), applied(&conversation.id));
        let before = vault.cursor(&applied)?;
        if before == secs {
            return Ok(None);
        }
        vault.transaction(|vault| {
            vault.limit(&conversation.id, secs)?;
            vault.set_cursor(&applied, secs)
        })?;
        let (class, title, life) =
            (conversation.class.name(), &conversation.title, clock::readable_secs(secs));
        let told = (before != 0).then(|| {
            let before = clock::readable_secs(before);
            format!("messages of [{class}] \"{title}\" live for at most {life} from now on; it was {before}")
        });
        Ok(told)
    }
}

/// What bounds the life of messages apart from what is in the vault.
pub(crate) struct Bounds {
    policy: Policy,
    own: TrustId,
}

impl Bounds {
    fn effective_secs<V: ChainVerifier>(
        &self,
        session: &Session<V>,
        conversation: &Conversation,
    ) -> Result<u64, SessionError> {
        let setting = session.retention_secs(&conversation.id)?;
        let ours = *conversation.id.owner() == self.own;
        let owner = if ours { kept(session.vault())? } else { TrustRetention::default() };
        Ok(self.policy.effective_secs(&owner, conversation.class, setting))
    }

    /// Lets messages that have just come end as their conversations say: in the transaction that stores them.
    pub(crate) fn limit<V: ChainVerifier>(
        &self,
        session: &Session<V>,
        received: &[Received],
    ) -> Result<(), SessionError> {
        for received in received {
            if let Received::Message(message) = received
                && let Some(known) = session.vault().conversation(&message.conversation)?
            {
                session.vault().limit_one(message.local, self.effective_secs(session, &known)?)?;
            }
        }
        Ok(())
    }
}

/// The cursor that holds what was applied to a conversation.
fn applied(id: &ConversationId) -> String {
    format!("retention/{id}")
}

/// What this device's trust keeps, as its node said last.
fn kept(vault: &Vault) -> Result<TrustRetention, VaultError> {
    let said = |secs: u64| (secs > 0).then_some(secs);
    let mut kept = TrustRetention { secs_max: said(vault.cursor(ALL)?), ..TrustRetention::default() };
    for class in Class::ALL {
        *kept.by_class.of_mut(class) = said(vault.cursor(&of_class(class))?);
    }
    Ok(kept)
}
