//! Reviews of a conversation's members: whether one is due, what has changed since the last one, and recording the next.
//!
//! When one is due is in the group's own state, the same for every member; whether that moment is over is told by this machine's clock. A
//! conversation that an earlier version founded has none in its state: then it counts from when this version first saw it, on the terms of
//! this trust if it owns the conversation, until an administrator records one.

use lanyard_crypto::Timestamp;
use lanyard_crypto::mls::ReviewTerms;
use lanyard_crypto::mls::review::Standing;
use lanyard_crypto::x509::Certificate;

use super::conversations::member_named;
use super::error::named;
use super::view::{
    ConversationState, ConversationView, MemberChange, Moment, OverdueReview, ReviewState, ReviewView,
    ReviewerView,
};
use super::{App, AppError};
use crate::changes::{self, Change, Kind};
use crate::clock;
use crate::lines::one_line;
use crate::session::SessionMember;
use crate::vault::VaultError;
use crate::vault::conversations::Conversation;
use crate::vault::reviews::{Reviewed, Seen};

/// The vault's cursors that hold what this device's trust asks for, in seconds and one more; 0 if it has said nothing yet.
const EVERY: &str = "review/every";
const GRACE: &str = "review/grace";
/// Digits of a conversation's id in a command that is proposed.
const ID_DIGITS: usize = 12;

impl App {
    /// The members of a conversation, and what has changed since they were last reviewed. It is noted that they were shown as they are now:
    /// that alone can be confirmed.
    ///
    /// # Errors
    /// [`AppError`]: no such conversation, not a member any more; or the disk's.
    pub fn review(&mut self, typed: &str) -> Result<ReviewView, AppError> {
        let conversation = self.conversation_joined(typed)?;
        let view = self.conversation_view(&conversation)?;
        let seen = self.seen(&conversation)?;
        let view = self.review_view(&conversation, view, &seen)?;
        let epoch = self.session.epoch(&conversation.id)?;
        self.session.vault().set_cursor(&shown(&conversation), epoch.saturating_add(1))?;
        Ok(view)
    }

    /// Records that the holder has reviewed the members, and takes people out with all their devices: all of it, or nothing.
    ///
    /// # Errors
    /// [`AppError`]: not an administrator of the owner trust, or the members are not those that [`App::review`] has shown; not a member, or
    /// several fit; another change is waiting; or the owner trust has refused it.
    pub fn confirm_review(&mut self, typed: &str, without: &[String]) -> Result<ReviewView, AppError> {
        let conversation = self.conversation_joined(typed)?;
        let before = self.seen(&conversation)?;
        if !self.may_review(&conversation)? {
            return Err(AppError::NotReviewer {
                owner: conversation.id.owner().to_string(),
                admins: self.owners_admins(&conversation)?,
            });
        }
        let shown = self.session.vault().cursor(&shown(&conversation))?;
        if shown != self.session.epoch(&conversation.id)?.saturating_add(1) {
            let view = self.conversation_view(&conversation)?;
            let changes = self.review_view(&conversation, view, &before)?.changes;
            let changes = changes.iter().map(MemberChange::to_string).collect();
            return Err(AppError::NotShown { changes, next: command(&conversation) });
        }
        let leaving = self.leaving(&conversation, without)?;
        let devices: Vec<_> = leaving.iter().map(|m| m.device.fingerprint).collect();
        let now = clock::now();
        let expires = now.plus_secs(self.retention_secs_max());
        let at = self.session.review(&conversation.id, &devices, self.review_terms()?, expires, now)?;
        let view = self.settle_or_tell(&conversation.id)?;
        let after = self.reviewed(&conversation, clock::now())?;
        let own = self.session.device().person;
        let recorded = after.at == at && after.by.is_some_and(|by| by.is(&own));
        if !recorded && view.state != ConversationState::Waiting {
            return Err(AppError::NotReviewed { why: view.notices.join("; ") });
        }
        let could_read = self.could_read(&conversation, &leaving, &view)?;
        Ok(ReviewView { recorded, could_read, ..self.review_view(&conversation, view, &before)? })
    }

    /// The conversation that was typed, if this device is still in it and its members have not gone without a review for too long. A review
    /// may have come since the last sync, so the node is asked once before it is refused.
    pub(super) fn conversation_written(&mut self, typed: &str) -> Result<Conversation, AppError> {
        let conversation = self.conversation_joined(typed)?;
        if self.check_reviewed(&conversation, false).is_ok() {
            return Ok(conversation);
        }
        let offline = match self.sync() {
            Err(AppError::Node(error)) if error.is_offline() => true,
            synced => synced.map(|_| false)?,
        };
        let conversation = self.conversation_joined(typed)?;
        self.check_reviewed(&conversation, offline)?;
        Ok(conversation)
    }

    fn check_reviewed(&self, conversation: &Conversation, offline: bool) -> Result<(), AppError> {
        let now = clock::now();
        let Reviewed { at, terms, by: _ } = self.reviewed(conversation, now)?;
        if terms.standing(at, now) != Standing::ReadOnly {
            return Ok(());
        }
        let owner = conversation.id.owner().to_string();
        let admins = named(&self.owners_admins(conversation)?, &owner);
        Err(AppError::ReadOnly {
            class: conversation.class.name(),
            title: conversation.title.clone(),
            due: Moment(terms.due(at)),
            read_only: Moment(terms.read_only(at)),
            offline,
            next: command(conversation) + &admins,
        })
    }

    /// How a conversation's review stands; nothing once this device has left.
    pub(super) fn review_state(&self, conversation: &Conversation) -> Result<Option<ReviewState>, AppError> {
        if conversation.left_epoch.is_some() {
            return Ok(None);
        }
        let now = clock::now();
        let reviewed = self.reviewed(conversation, now)?;
        Ok(Some(state(conversation, reviewed, now)))
    }

    /// Those of these conversations that are overdue.
    pub(super) fn overdue(&self, among: &[Conversation]) -> Result<Vec<OverdueReview>, AppError> {
        let mut overdue = Vec::new();
        for conversation in among {
            if let Some(review) = self.review_state(conversation)?.filter(|review| review.banner.is_some()) {
                overdue.push(OverdueReview {
                    conversation: conversation.id.to_string(),
                    title: conversation.title.clone(),
                    class: conversation.class.name(),
                    review,
                });
            }
        }
        Ok(overdue)
    }

    /// Notes how often this device's trust asks for reviews, if it is something else than before, and something that a trust can ask for.
    /// Returns what the person should know of it.
    pub(crate) fn keep_review_terms(&mut self, told: ReviewTerms) -> Result<Option<String>, VaultError> {
        if !told.are_possible() {
            let ReviewTerms { every_secs, grace_secs } = told;
            return Ok(Some(format!(
                "your trust asks for reviews every {every_secs} seconds, with a grace of {grace_secs}, which is not possible: what it asked \
                 for before goes on; tell your trust's IT"
            )));
        }
        let vault = self.session.vault_mut();
        let noted = [(EVERY, told.every_secs), (GRACE, told.grace_secs)];
        let noted = noted.map(|(name, secs)| (name, secs.saturating_add(1)));
        if noted.iter().all(|(name, secs)| vault.cursor(name).is_ok_and(|known| known == *secs)) {
            return Ok(None);
        }
        vault.transaction(|vault| noted.iter().try_for_each(|(name, secs)| vault.set_cursor(name, *secs)))?;
        Ok(None)
    }

    /// Begins to count for conversations whose state says nothing of a review.
    pub(crate) fn count_reviews(&self) -> Result<(), AppError> {
        let now = clock::now();
        let joined = self.session.vault().conversations()?.into_iter().filter(|c| c.left_epoch.is_none());
        for conversation in joined {
            self.reviewed(&conversation, now)?;
        }
        Ok(())
    }

    /// What this device's trust asks for.
    pub(super) fn review_terms(&self) -> Result<ReviewTerms, AppError> {
        let said = |name| Ok::<_, VaultError>(self.session.vault().cursor(name)?.checked_sub(1));
        let by_default = ReviewTerms::default();
        Ok(ReviewTerms {
            every_secs: said(EVERY)?.unwrap_or(by_default.every_secs),
            grace_secs: said(GRACE)?.unwrap_or(by_default.grace_secs),
        })
    }

    /// The last review; where there was none, this device counts from the first time that this is asked.
    fn reviewed(&self, conversation: &Conversation, now: Timestamp) -> Result<Reviewed, AppError> {
        if let Some(reviewed) = self.session.vault().reviewed(&conversation.id)? {
            return Ok(reviewed);
        }
        let is_own = *conversation.id.owner() == self.device.trust;
        let terms = if is_own { self.review_terms()? } else { ReviewTerms::default() };
        let admins =
            self.session.policy(&conversation.id)?.admins().iter().map(|admin| *admin.as_bytes()).collect();
        let leaf = |member: SessionMember| member.chain.into_iter().next();
        let certificates = self.session.members(&conversation.id)?.into_iter().filter_map(leaf).collect();
        let reviewed = Reviewed { at: now, terms, by: None };
        self.session.vault().put_reviewed(
            &conversation.id,
            &reviewed,
            &Seen { at: now, certificates, admins },
        )?;
        Ok(reviewed)
    }

    /// Who the members were at the last review, or when this device began to count.
    fn seen(&self, conversation: &Conversation) -> Result<Seen, AppError> {
        self.reviewed(conversation, clock::now())?;
        Ok(self.session.vault().seen(&conversation.id)?.unwrap_or_default())
    }

    fn may_review(&self, conversation: &Conversation) -> Result<bool, AppError> {
        let is_owners = *conversation.id.owner() == self.device.trust;
        Ok(is_owners && self.session.policy(&conversation.id)?.is_admin(&self.session.device().person))
    }

    /// The administrators from the owner trust, by name.
    pub(super) fn owners_admins(&self, conversation: &Conversation) -> Result<Vec<String>, AppError> {
        let members = self.session.members(&conversation.id)?;
        let admins = members.into_iter().filter(|m| m.admin && m.device.trust == *conversation.id.owner());
        let mut names: Vec<String> = admins.map(|m| one_line(&m.device.name)).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The devices of the members who were typed. This device is none of them.
    pub(super) fn leaving(
        &self,
        conversation: &Conversation,
        typed: &[String],
    ) -> Result<Vec<SessionMember>, AppError> {
        let mut leaving = self.session.members(&conversation.id)?;
        let mut named = Vec::new();
        for typed in typed {
            named.push(member_named(&leaving, typed)?);
        }
        if named.contains(&self.session.device().person) {
            return Err(AppError::OwnRemoval);
        }
        leaving.retain(|member| named.contains(&member.device.person));
        Ok(leaving)
    }

    fn review_view(
        &self,
        conversation: &Conversation,
        view: ConversationView,
        since: &Seen,
    ) -> Result<ReviewView, AppError> {
        let parse = |der: &Vec<u8>| Certificate::parse(der).ok();
        let before: Vec<Certificate> = since.certificates.iter().filter_map(parse).collect();
        let members = self.session.members(&conversation.id)?;
        let after: Vec<Certificate> = members.iter().filter_map(|m| parse(m.chain.first()?)).collect();
        let admins =
            changes::of_admins(&since.admins, self.session.policy(&conversation.id)?.admins(), &after);
        let mut changes: Vec<MemberChange> =
            changes::between(&before, &after).into_iter().chain(admins).map(change_view).collect();
        for member in view.members.iter().filter(|m| !m.certification.holds) {
            changes.push(MemberChange {
                kind: Kind::NotValid.name(),
                said: Kind::NotValid.said(),
                name: member.name.clone(),
                role: member.role.clone(),
                trust: member.trust.clone(),
                registration: member.registration.clone(),
                device: Some(member.device.clone()),
                differences: member.certification.problem.iter().cloned().collect(),
            });
        }
        Ok(ReviewView {
            may_confirm: self.may_review(conversation)?,
            conversation: view,
            compared_with: Moment(since.at),
            changes,
            recorded: false,
            could_read: Vec::new(),
        })
    }
}

fn change_view(change: Change) -> MemberChange {
    let Change { kind, subject, device, differences } = change;
    MemberChange {
        kind: kind.name(),
        said: kind.said(),
        name: subject.common_name,
        role: subject.title,
        trust: subject.trust.to_string(),
        registration: subject.registration,
        device: device.map(|device| device.to_string()),
        differences,
    }
}

fn state(conversation: &Conversation, reviewed: Reviewed, now: Timestamp) -> ReviewState {
    let Reviewed { at, terms, by } = reviewed;
    let (due, read_only) = (Moment(terms.due(at)), Moment(terms.read_only(at)));
    let (owner, command) = (conversation.id.owner(), command(conversation));
    let next = format!("an administrator from {owner} must look through the members: {command}");
    let (state, banner) = match terms.standing(at, now) {
        Standing::Current => ("current", None),
        Standing::Overdue => {
            let said = format!("REVIEW OVERDUE since {due}, and nobody can write here from {read_only} on");
            ("overdue", Some(format!("{said}: {next}")))
        }
        Standing::ReadOnly => {
            let said = format!("READ-ONLY since {read_only}, as the members were to be reviewed by {due}");
            ("read-only", Some(format!("{said}: {next}")))
        }
    };
    let reviewed = by.as_ref().map(|_| Moment(at));
    let known = by.and_then(|by| by.known);
    ReviewState {
        state,
        reviewed,
        by: known.map(|(name, role, trust)| ReviewerView { name, role, trust }),
        due,
        read_only,
        banner,
    }
}

/// What shows the members.
fn command(conversation: &Conversation) -> String {
    format!("lanyard conversation review {}", &conversation.id.to_string()[..ID_DIGITS])
}

/// The vault's cursor that holds the epoch whose members were shown for a review, and one more.
fn shown(conversation: &Conversation) -> String {
    format!("shown/{}", conversation.id)
}
