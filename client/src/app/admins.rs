//! Who administers a conversation: at least one person of the trust that owns it. Where none is left there, since a trust had the last one
//! removed, any member from it may become one ([`lanyard_crypto::mls::rules`]).

use lanyard_crypto::mls::PersonKey;

use super::conversations::member_named;
use super::view::{ConversationState, ConversationView};
use super::{App, AppError};
use crate::clock;

impl App {
    /// Makes members administrators, and takes that from others.
    ///
    /// # Errors
    /// [`AppError`]: not a member, or several fit; not an administrator; nobody of the owner trust would be left; another change is waiting.
    pub fn set_admins(
        &mut self,
        typed: &str,
        add: &[String],
        remove: &[String],
    ) -> Result<ConversationView, AppError> {
        let conversation = self.conversation_joined(typed)?;
        let members = self.session.members(&conversation.id)?;
        let mut admins: Vec<PersonKey> = self.session.policy(&conversation.id)?.admins().to_vec();
        for typed in add {
            admins.push(member_named(&members, typed)?);
        }
        for typed in remove {
            let person = member_named(&members, typed)?;
            admins.retain(|admin| *admin != person);
        }
        // Who has gone for good does not keep a place.
        admins.retain(|admin| members.iter().any(|m| m.device.person == *admin));
        let now = clock::now();
        let expires = now.plus_secs(self.retention_secs_max());
        self.session.set_admins(&conversation.id, &admins, expires, now)?;
        let view = self.settle_or_tell(&conversation.id)?;
        if view.state != ConversationState::Waiting
            && self.session.policy(&conversation.id)?.admins() != sorted(admins)
        {
            return Err(AppError::NotChanged { why: view.notices.join("; ") });
        }
        Ok(view)
    }
}

fn sorted(mut admins: Vec<PersonKey>) -> Vec<PersonKey> {
    admins.sort();
    admins.dedup();
    admins
}
