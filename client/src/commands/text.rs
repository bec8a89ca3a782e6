//! The same views for people.

mod people;
mod reviews;

use std::fmt::{self, Display, Formatter};

use lanyard_client::app::view::{
    ConversationState, ConversationView, Conversations, DeletionView, MessageState, MessageView, Messages,
    SenderView, SentMessage, Synced, WhoAmI,
};
use lanyard_client::clock::readable_secs;
pub use lanyard_client::lines::{harmless, one_line};
pub(super) use reviews::banner;

/// Digits of an id that are shown where a prefix can be typed.
const ID_DIGITS: usize = 12;

/// A view as text. Ends without a newline.
pub struct Text<'a, T>(pub &'a T);

impl Display for Text<'_, WhoAmI> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let me = self.0;
        writeln!(f, "{}", person(&me.name, me.role.as_deref(), &me.trust))?;
        let details = [("department", &me.department), ("registration", &me.registration)];
        for (label, value) in details.into_iter().filter_map(|(l, v)| Some((l, v.as_ref()?))) {
            writeln!(f, "{label:13}{value}")?;
        }
        writeln!(f, "{:13}{} ({})", "trust", me.organisation, me.trust)?;
        writeln!(
            f,
            "{:13}{} trusts in {}, charter version {} until {}",
            "network",
            me.network.trusts.len(),
            one_line(&me.network.name),
            me.network.charter_version,
            me.network.charter_expires
        )?;
        writeln!(
            f,
            "{:13}{}, certified until {}",
            "device",
            &me.device[..ID_DIGITS],
            me.certificate_expires
        )?;
        writeln!(f, "{:13}{}", "node", me.node)?;
        if !me.reachable {
            writeln!(
                f,
                "{:13}not yet: run `lanyard sync` when your trust's node can be reached",
                "reachable"
            )?;
        }
        write!(f, "{:13}{}", "profile", me.profile)
    }
}

impl Display for Text<'_, Conversations> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.conversations.is_empty() {
            return write!(f, "no conversations yet: begin one with `lanyard conversation new`");
        }
        let line = |c: &ConversationView| {
            let members = c.members.len();
            format!(
                "{}  {} members of {}, messages live for {}{}",
                heading(&c.title, c.class, &c.id),
                members,
                c.trusts.join(", "),
                readable_secs(c.retention_secs),
                state(c)
            ) + &reviews::banner(c.review.as_ref(), "    ")
        };
        let mut is_begun = false;
        for (place, c) in self.0.conversations.iter().enumerate() {
            let gap = if place == 0 { "" } else { "\n" };
            write!(f, "{gap}{}{}", section(c.class, place == 0, &mut is_begun), line(c))?;
        }
        Ok(())
    }
}

impl Display for Text<'_, ConversationView> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let c = self.0;
        write!(f, "{}{}", heading(&c.title, c.class, &c.id), state(c))?;
        write!(f, "\nordered by {}, kept by {}", c.owner, c.trusts.join(", "))?;
        write!(f, "\nmessages live for at most {}", readable_secs(c.retention_secs))?;
        if let Some(review) = &c.review {
            write!(f, "\n{}{}", Text(review), reviews::banner(Some(review), ""))?;
        }
        for member in &c.members {
            write!(f, "\n    {}", Text(member))?;
        }
        c.notices.iter().try_for_each(|notice| write!(f, "\n{}", harmless(notice, "    ")))
    }
}

impl Display for Text<'_, Messages> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let told = |id: &str| {
            let overdue = self.0.overdue.iter().find(|overdue| overdue.conversation == id);
            reviews::banner(overdue.map(|overdue| &overdue.review), "")
        };
        if self.0.messages.is_empty() {
            write!(f, "no messages")?;
            return self.0.overdue.iter().try_for_each(|overdue| {
                let heading = heading(&overdue.title, overdue.class, &overdue.conversation);
                write!(f, "\n{heading}{}", reviews::banner(Some(&overdue.review), ""))
            });
        }
        let first = &self.0.messages[0].conversation;
        // One conversation alone is apart from nothing.
        let (mut conversation, mut is_begun) =
            (None, self.0.messages.iter().all(|m| m.conversation == *first));
        for (place, message) in self.0.messages.iter().enumerate() {
            if conversation != Some(&message.conversation) {
                let gap = if place == 0 { "" } else { "\n\n" };
                let section = section(message.class, true, &mut is_begun);
                let heading = heading(&message.title, message.class, &message.conversation);
                write!(f, "{gap}{section}{heading}{}", told(&message.conversation))?;
                conversation = Some(&message.conversation);
            }
            write!(f, "\n{}", Text(message))?;
        }
        Ok(())
    }
}

impl Display for Text<'_, MessageView> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let m = self.0;
        let unsent = if m.state == MessageState::Failed { "NOT SENT: refused" } else { "waits to be sent" };
        let id = m.id.as_deref().map_or(unsent, |id| &id[..ID_DIGITS]);
        let own = if m.state == MessageState::Received { "" } else { " (you)" };
        let sender = sender(&m.sender);
        write!(f, "[{}] {sender}{own}  {id}, until {}", m.sent, m.expires)?;
        write!(f, "\n    {}", harmless(&m.text, "    "))?;
        if let Some(o) = &m.overridden {
            let patterns = one_line(&o.patterns.join(", "));
            write!(
                f,
                "\n    (override of {patterns}, kept on this device: {})",
                harmless(&o.reason, "    ")
            )?;
        }
        Ok(())
    }
}

impl Display for Text<'_, SentMessage> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let message = &self.0.0;
        write!(f, "{}", heading(&message.title, message.class, &message.conversation))?;
        write!(f, "\n{}", Text(message))
    }
}

impl Display for Text<'_, DeletionView> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let d = self.0;
        write!(f, "deletion {}\n{}, ordered {}", d.id, d.reason, d.ordered)?;
        write!(f, "\n{}", one_line(&d.summary))?;
        for replica in &d.replicas {
            write!(f, "\n    {:9}", replica.trust)?;
            match (&replica.erased, &replica.held_until, &replica.problem) {
                (Some(erased), ..) => write!(f, "erased {erased}")?,
                (None, Some(until), _) if replica.hold_over => {
                    let overdue = if replica.overdue.is_some() { "; overdue" } else { "" };
                    write!(f, "no receipt yet: held until {until}, which is over{overdue}")?;
                }
                (None, Some(until), _) => write!(f, "holds it, sealed, until {until}")?,
                (None, None, Some(_)) => write!(f, "no receipt that is believed")?,
                (None, None, None) if replica.overdue.is_some() => write!(f, "no receipt yet: overdue")?,
                (None, None, None) => write!(f, "no receipt yet")?,
            }
        }
        for device in &d.devices {
            let name = device.name.as_deref().unwrap_or(&device.device);
            write!(f, "\n    {:9}device {}: ", device.trust, one_line(name))?;
            match (&device.erased, &device.last_seen) {
                (Some(erased), _) => write!(f, "erased {erased}")?,
                (None, _) if device.revoked => write!(f, "revoked; not waited for")?,
                (None, Some(seen)) => write!(f, "waited for, last seen {seen}")?,
                (None, None) => write!(f, "waited for, never seen")?,
            }
        }
        for problem in &d.problems {
            write!(f, "\n    not believed: {}", harmless(problem, "    "))?;
        }
        write!(f, "\n{}", d.note)
    }
}

impl Display for Text<'_, Synced> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let s = self.0;
        let counts = [
            (s.received, "received"),
            (s.sent, "sent"),
            (s.queued, "waiting to be sent"),
            (s.joined, "conversations joined"),
            (s.changed, "changes of members"),
            (s.erased, "erased by deletion"),
            (s.expired, "expired"),
        ];
        let said: Vec<_> =
            counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        f.write_str(if said.is_empty() { "nothing new" } else { "" })?;
        f.write_str(&said.join(", "))?;
        s.notices.iter().try_for_each(|notice| write!(f, "\n{}", harmless(notice, "    ")))?;
        s.refused
            .iter()
            .try_for_each(|reason| write!(f, "\nrefused, not shown: {}", harmless(reason, "    ")))
    }
}

fn person(name: &str, role: Option<&str>, trust: &str) -> String {
    let role = role.map(|r| format!(", {r}")).unwrap_or_default();
    one_line(&format!("{name}{role} ({trust})"))
}

fn sender(sender: &SenderView) -> String {
    person(&sender.name, sender.role.as_deref(), &sender.trust)
}

/// The class stands before everything that is said of a conversation.
fn heading(title: &str, class: &str, id: &str) -> String {
    format!("[{class}] {}  {}", one_line(title), &id[..ID_DIGITS])
}

/// What stands before the first social conversation of a list: they are apart from the others.
fn section(class: &str, is_first: bool, is_begun: &mut bool) -> &'static str {
    if class != "social" || std::mem::replace(is_begun, true) {
        return "";
    }
    if is_first { "social conversations:\n" } else { "\nsocial conversations:\n" }
}

fn state(c: &ConversationView) -> String {
    match (c.state, &c.waiting_for) {
        (ConversationState::Open, _) => String::new(),
        (ConversationState::Left, _) => "  (you are no longer a member)".into(),
        (ConversationState::Waiting, Some(trust)) => format!("  (waiting for {trust})"),
        (ConversationState::Waiting, None) => "  (waiting)".into(),
    }
}
