//! Founding, showing and changing conversations.
//!
//! A change of members takes effect when the owner trust's node has published it. It is waited for a few
//! seconds; if the node cannot be reached, or its trust's is away, the change stays pending in the vault, is
//! shown as waiting, and any later sync completes it.

use std::collections::BTreeMap;
use std::time::Instant;

use lanyard_crypto::mls::{Class, PersonKey};
use lanyard_crypto::network::Network;
use lanyard_crypto::{ConversationId, Fingerprint, Timestamp, TrustId};

use super::certification::certification;
use super::people::{Listed, Person, folded, split_trust};
use super::resemblance::{Known, member_known, resembling};
use super::view::{ConversationState, ConversationView, Conversations, MemberView, Moment, RemovalView};
use super::{App, AppError, begins, is_prefix};
use crate::session::change::Founding;
use crate::session::{NodeSender, SessionError, SessionMember};
use crate::vault::conversations::Conversation;
use crate::{clock, patterns};

/// Digits of a conversation's id that may stand for it.
const ID_DIGITS_MIN: usize = 4;

impl App {
    /// Begins a conversation of this device's trust with these people, with all their devices and the
    /// holder's own others. Its messages live for so many seconds at most, or as long as the charter and the trust
    /// allow.
    ///
    /// # Errors
    /// [`AppError`]: a person who is not found, not alone, not reachable, or easily taken for another; a social
    /// conversation's title that identifies a patient; or the node's.
    pub fn new_conversation(
        &mut self,
        title: &str,
        class: Class,
        with: &[String],
        retention_secs: Option<u64>,
    ) -> Result<ConversationView, AppError> {
        let max_secs = self.allowed_secs(class)?;
        if retention_secs.is_some_and(|secs| secs > max_secs) {
            return Err(AppError::TooLongKept { class: class.name(), max_secs });
        }
        let found = self.identifying(title)?;
        if class == Class::Social && !found.is_empty() {
            return Err(AppError::IdentifyingTitle { what: patterns::described(&found) });
        }
        let mut people = Vec::new();
        for typed in with {
            people.push(self.person(typed)?);
        }
        self.check_invited(people.iter().map(Person::known).collect())?;
        let mut devices = self.own_other_devices()?;
        let own = self.session.device().person;
        for person in people.into_iter().filter(|p| p.key != own) {
            devices.extend(reachable(person)?);
        }
        let nodes = self.nodes_for(&devices)?;
        let now = clock::now();
        let founding = Founding {
            class,
            title: title.trim().to_owned(),
            owner: self.device.trust.clone(),
            nodes,
            admins: Vec::new(),
            members: key_packages(devices),
            retention_secs: Some(retention_secs.unwrap_or(max_secs)),
            review: Some(self.review_terms()?),
        };
        let expires = now.plus_secs(self.retention_secs_max());
        let (id, _) = self.session.found(&founding, expires, now)?;
        self.settle(&id)
    }

    /// Every conversation that this device is or was in, the newest first, social ones behind all others.
    ///
    /// # Errors
    /// The disk's.
    pub fn conversations(&self) -> Result<Conversations, AppError> {
        let mut all = self.session.vault().conversations()?;
        // Stable: each part keeps its order.
        all.sort_by_key(|c| c.class == Class::Social);
        // Whose names are alike is for who looks at one of them: here it would be everybody against everybody.
        let known = BTreeMap::new();
        let conversations = all.iter().map(|c| self.view_among(c, &known)).collect::<Result<_, _>>()?;
        Ok(Conversations { conversations })
    }

    /// One conversation, by what was typed for it.
    ///
    /// # Errors
    /// [`AppError::NotFound`], [`AppError::Ambiguous`], or the disk's.
    pub fn conversation(&self, typed: &str) -> Result<ConversationView, AppError> {
        self.conversation_view(&self.conversation_named(typed)?)
    }

    /// Invites more people.
    ///
    /// # Errors
    /// [`AppError`]: as for a new one; not an administrator; another change is waiting.
    pub fn add_members(&mut self, typed: &str, with: &[String]) -> Result<ConversationView, AppError> {
        let conversation = self.conversation_written(typed)?;
        let members = self.session.members(&conversation.id)?;
        let mut people = Vec::new();
        for typed in with {
            people.push(self.person(typed)?);
        }
        self.check_invited(people.iter().map(Person::known).collect())?;
        let mut devices = Vec::new();
        for person in people {
            let name = person.described();
            let is_new =
                |d: &Listed| !members.iter().any(|m| m.device.fingerprint == d.certificate.fingerprint());
            let new: Vec<_> = reachable(person)?.into_iter().filter(is_new).collect();
            if new.is_empty() {
                return Err(AppError::Member(name));
            }
            devices.extend(new);
        }
        let now = clock::now();
        let expires = now.plus_secs(self.retention_secs_max());
        self.session.add(&conversation.id, &key_packages(devices), expires, now)?;
        self.settle(&conversation.id)
    }

    /// Takes people out, with all their devices, and tells what they could have read.
    ///
    /// # Errors
    /// [`AppError`]: not a member, or several fit; not an administrator; another change is waiting.
    pub fn remove_members(&mut self, typed: &str, people: &[String]) -> Result<RemovalView, AppError> {
        let conversation = self.conversation_joined(typed)?;
        let leaving = self.leaving(&conversation, people)?;
        let devices: Vec<Fingerprint> = leaving.iter().map(|m| m.device.fingerprint).collect();
        let now = clock::now();
        let expires = now.plus_secs(self.retention_secs_max());
        self.session.remove(&conversation.id, &devices, expires, now)?;
        let view = self.settle_or_tell(&conversation.id)?;
        let could_read = self.could_read(&conversation, &leaving, &view)?;
        Ok(RemovalView { conversation: view, could_read })
    }

    /// The conversation that was typed: a title, an id, or the first digits of one.
    pub(crate) fn conversation_named(&self, typed: &str) -> Result<Conversation, AppError> {
        let typed = typed.trim();
        let id = typed.parse::<ConversationId>().ok();
        let fits = |c: &Conversation| {
            let by_prefix = is_prefix(typed, ID_DIGITS_MIN) && begins(&c.id.to_bytes(), typed);
            id.as_ref().map_or(by_prefix || folded(&c.title) == folded(typed), |id| *id == c.id)
        };
        let mut found = self.session.vault().conversations()?;
        found.retain(fits);
        match found.len() {
            0 => {
                let next = "list yours with: lanyard conversation list";
                Err(AppError::NotFound { what: "conversation", typed: typed.into(), next })
            }
            1 => Ok(found.remove(0)),
            _ => {
                let line = |c: &Conversation| format!("{}  [{}] {}", c.id, c.class.name(), c.title);
                let found = found.iter().map(line).collect();
                Err(AppError::Ambiguous { what: "conversations", typed: typed.into(), found })
            }
        }
    }

    /// The same, if this device is still in it.
    pub(crate) fn conversation_joined(&self, typed: &str) -> Result<Conversation, AppError> {
        let conversation = self.conversation_named(typed)?;
        if conversation.left_epoch.is_some() {
            Err(AppError::Left { class: conversation.class.name(), title: conversation.title })
        } else {
            Ok(conversation)
        }
    }

    pub(crate) fn conversation_view(
        &self,
        conversation: &Conversation,
    ) -> Result<ConversationView, AppError> {
        self.view_among(conversation, &self.known()?)
    }

    /// The same, if it is known already whom this device knows.
    fn view_among(
        &self,
        conversation: &Conversation,
        known: &BTreeMap<PersonKey, Known>,
    ) -> Result<ConversationView, AppError> {
        let id = &conversation.id;
        let owner = id.owner().to_string();
        let (members, state) = match self.session.members(id) {
            Err(SessionError::NotIn(_)) => (Vec::new(), ConversationState::Left),
            members if self.session.is_change_pending(id)? => (members?, ConversationState::Waiting),
            members => (members?, ConversationState::Open),
        };
        let mut trusts: Vec<String> = members.iter().map(|m| m.device.trust.to_string()).collect();
        trusts.sort();
        trusts.dedup();
        let own = self.session.device().fingerprint;
        let (now, network) = (clock::now(), self.beliefs.read());
        let view = |m| member_view(m, &own, known, &network, now);
        let mut members: Vec<MemberView> = members.into_iter().map(view).collect();
        members.sort_by_cached_key(|m| (folded(&m.name), m.device.clone()));
        Ok(ConversationView {
            id: id.to_string(),
            title: conversation.title.clone(),
            class: conversation.class.name(),
            waiting_for: (state == ConversationState::Waiting).then(|| owner.clone()),
            owner,
            state,
            since: Moment(conversation.since),
            retention_secs: self.effective_secs(conversation)?,
            trusts,
            members,
            review: self.review_state(conversation)?,
            notices: Vec::new(),
        })
    }

    /// As [`App::settle`]; what the node says against it is told beside the conversation as it is, so that what is to be told of it is not lost.
    pub(crate) fn settle_or_tell(&mut self, id: &ConversationId) -> Result<ConversationView, AppError> {
        match self.settle(id) {
            Err(AppError::Node(error)) => {
                let conversation = self.session.vault().conversation(id)?;
                let view =
                    self.conversation_view(&conversation.ok_or_else(|| SessionError::NotIn(id.clone()))?)?;
                Ok(ConversationView { notices: vec![error.to_string()], ..view })
            }
            other => other,
        }
    }

    /// Hands a change to the node and waits, not for long, until it takes effect.
    pub(crate) fn settle(&mut self, id: &ConversationId) -> Result<ConversationView, AppError> {
        let until = Instant::now() + self.patience;
        let mut notices = Vec::new();
        // Opened first, so that nothing arrives between looking and waiting.
        let mut events = self.node.events().ok();
        loop {
            match self.sync() {
                // The change is in the vault, and goes out with a later sync.
                Err(AppError::Node(error)) if error.is_offline() => break,
                other => notices.extend(other?.notices),
            }
            let left = until.saturating_duration_since(Instant::now());
            let (Some(stream), true) = (&mut events, self.is_waiting(id)? && !left.is_zero()) else {
                break;
            };
            if stream.next(left).is_err() {
                events = None;
            }
        }
        let conversation = self.session.vault().conversation(id)?;
        let view = self.conversation_view(&conversation.ok_or_else(|| SessionError::NotIn(id.clone()))?)?;
        Ok(ConversationView { notices, ..view })
    }

    fn is_waiting(&self, id: &ConversationId) -> Result<bool, AppError> {
        match self.session.is_change_pending(id) {
            Err(SessionError::NotIn(_)) => Ok(false),
            other => Ok(other?),
        }
    }

    /// The nodes that may propose to remove their trust's devices, should one be revoked: those of every
    /// trust that takes part, as far as they are known now.
    fn nodes_for(&mut self, devices: &[Listed]) -> Result<Vec<NodeSender>, AppError> {
        let mut trusts: Vec<TrustId> =
            devices.iter().map(|d| d.certificate.subject().trust.clone()).collect();
        trusts.push(self.device.trust.clone());
        trusts.sort();
        trusts.dedup();
        let mut nodes = Vec::new();
        for trust in trusts {
            nodes.extend(self.nodes_of(&trust)?);
        }
        nodes.sort_by_key(|n| n.key);
        nodes.dedup_by_key(|n| n.key);
        Ok(nodes)
    }
}

/// A person's devices that can be invited; at least one.
fn reachable(person: Person) -> Result<Vec<Listed>, AppError> {
    let name = person.described();
    let devices: Vec<_> = person.devices.into_iter().filter(|d| d.key_package.is_some()).collect();
    if devices.is_empty() { Err(AppError::NotReachable(name)) } else { Ok(devices) }
}

/// Each device once, also if a person was named twice.
fn key_packages(mut devices: Vec<Listed>) -> Vec<Vec<u8>> {
    devices.sort_by_key(|d| d.certificate.fingerprint());
    devices.dedup_by_key(|d| d.certificate.fingerprint());
    devices.into_iter().filter_map(|d| d.key_package).collect()
}

/// The one person among the members that was typed: a full name, a registration, either with `@TRUST`, or a
/// device.
pub(super) fn member_named(members: &[SessionMember], typed: &str) -> Result<PersonKey, AppError> {
    let (words, trust) = split_trust(typed);
    let fits = |m: &&SessionMember| {
        let device = &m.device;
        let by_name = folded(&device.name) == folded(words);
        let by_registration = PersonKey::of(&device.trust, Some(words), &device.key) == device.person;
        let by_device = is_prefix(words, 8) && begins(device.fingerprint.as_bytes(), words);
        trust.as_ref().is_none_or(|t| *t == device.trust) && (by_name || by_registration || by_device)
    };
    let mut people: Vec<PersonKey> = members.iter().filter(fits).map(|m| m.device.person).collect();
    people.sort();
    people.dedup();
    match people.as_slice() {
        [person] => Ok(*person),
        [] => {
            let next = "list the members with: lanyard conversation show CONVERSATION";
            Err(AppError::NotFound { what: "member", typed: typed.into(), next })
        }
        _ => {
            let line = |m: &SessionMember| {
                let role = m.device.role.as_ref().map(|r| format!(", {r}")).unwrap_or_default();
                format!("{}  {}{role} ({})", m.device.fingerprint, m.device.name, m.device.trust)
            };
            let found = members.iter().filter(fits).map(line).collect();
            Err(AppError::Ambiguous { what: "members", typed: typed.into(), found })
        }
    }
}

fn member_view(
    member: SessionMember,
    own: &Fingerprint,
    known: &BTreeMap<PersonKey, Known>,
    network: &Network,
    now: Timestamp,
) -> MemberView {
    let person = member_known(&member, "");
    let own = member.device.fingerprint == *own;
    // Nobody takes someone else for themselves.
    let compared = person.as_ref().filter(|_| !own);
    MemberView {
        own,
        device: member.device.fingerprint.to_string(),
        name: member.device.name,
        role: member.device.role,
        department: person.as_ref().and_then(|p| p.subject.department.clone()),
        registration: person.as_ref().and_then(|p| p.subject.registration.clone()),
        trust: member.device.trust.to_string(),
        admin: member.admin,
        certification: certification(&member.chain, network, now),
        resembles: compared.map(|p| resembling(p, known.values())).unwrap_or_default(),
    }
}
