//! People: who was found, members, what was checked of their certificates, similar names, what somebody could have
//! read, and safety numbers.

use std::fmt::{self, Display, Formatter};

use lanyard_client::app::view::{
    CertificationView, CouldRead, FoundPeople, FoundPerson, MemberView, RemovalView, ResemblanceView,
    SafetyOf, SafetyView,
};

use super::{ID_DIGITS, Text, harmless, heading, one_line, person, sender};

impl Display for Text<'_, FoundPeople> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.people.is_empty() {
            return write!(f, "nobody found: try fewer words, or only the beginning of a name");
        }
        let people: Vec<_> = self.0.people.iter().map(|p| Text(p).to_string()).collect();
        write!(f, "{}", people.join("\n"))?;
        if self.0.people.iter().any(|p| p.similar) {
            write!(f, "\nnames marked ! are easily confused: compare role, trust and registration")?;
        }
        if self.0.more {
            write!(f, "\nthere are more: give more words")?;
        }
        Ok(())
    }
}

impl Display for Text<'_, FoundPerson> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let found = self.0;
        let mark = if found.similar { "! " } else { "" };
        write!(f, "{mark}{}", person(&found.name, found.role.as_deref(), &found.trust))?;
        write!(f, "\n    {}", one_line(&found.organisation))?;
        for part in [&found.department, &found.registration].into_iter().flatten() {
            write!(f, " · {}", one_line(part))?;
        }
        if found.available {
            write!(f, " · available")?;
        }
        found.resembles.iter().try_for_each(|other| write!(f, "\n    {}", Text(other)))?;
        let mut said = None;
        for device in &found.devices {
            let note = if device.reachable { "" } else { " (cannot be invited yet)" };
            let name = if device.name == found.name { "" } else { device.name.as_str() };
            let as_name = if name.is_empty() { String::new() } else { format!(", as {}", one_line(name)) };
            write!(f, "\n    device {}{as_name}{note}", &device.device[..ID_DIGITS])?;
            let checked = Text(&device.certification).to_string();
            if said.as_ref() != Some(&checked) {
                write!(f, "\n        {checked}")?;
                said = Some(checked);
            }
        }
        Ok(())
    }
}

impl Display for Text<'_, ResemblanceView> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let other = self.0;
        let name = person(&other.name, other.role.as_deref(), &other.trust);
        let differences = other.differences.join(", ");
        let text = format!("! like {name}, {}: differs in {differences}", other.known);
        f.write_str(&one_line(&text))
    }
}

impl Display for Text<'_, CertificationView> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let c = self.0;
        if let Some(problem) = &c.problem {
            return write!(f, "CERTIFICATE DOES NOT HOLD: {}", harmless(problem, "        "));
        }
        write!(f, "certified by {} ({}) until {}", c.trust, one_line(&c.registrar), c.until)?;
        write!(
            f,
            "; checked here: chain to the root of {} in charter version {}, dates",
            c.trust, c.charter_version
        )?;
        match (c.revocation_list, c.revocations_of, c.revocations_due) {
            (Some(number), Some(of), due) => {
                write!(f, ", not on revocation list {number} of {of}")?;
                let is_overdue = due.is_some_and(|due| due < c.checked);
                if is_overdue { write!(f, " (a newer one is overdue)") } else { Ok(()) }
            }
            _ => write!(f, "; NOT revocation: this device has no list of that registrar"),
        }
    }
}

impl Display for Text<'_, MemberView> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(f, "{}  {}", &m.device[..ID_DIGITS], person(&m.name, m.role.as_deref(), &m.trust))?;
        for part in [&m.department, &m.registration].into_iter().flatten() {
            write!(f, " · {}", one_line(part))?;
        }
        let notes = [(m.own, " (this device)"), (m.admin, " (administrator)")];
        notes.into_iter().filter(|(holds, _)| *holds).try_for_each(|(_, note)| f.write_str(note))?;
        write!(f, "\n        {}", Text(&m.certification))?;
        m.resembles.iter().try_for_each(|other| write!(f, "\n        {}", Text(other)))
    }
}

impl Display for Text<'_, RemovalView> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Text(&self.0.conversation))?;
        self.0.could_read.iter().try_for_each(|one| write!(f, "\n{}", Text(one)))?;
        write!(
            f,
            "\nonly messages that this device still holds are listed; what was read cannot be taken back"
        )
    }
}

impl Display for Text<'_, CouldRead> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let one = self.0;
        let name = person(&one.name, one.role.as_deref(), &one.trust);
        let still = if one.removed { "" } else { " so far, and is still a member" };
        let messages = if one.count == 1 { "message" } else { "messages" };
        write!(f, "{name} could read {} {messages}{still}", one.count)?;
        match one.since {
            Some(since) => write!(f, "; member since {since}")?,
            None => write!(f, "; member since before this device came or noted it")?,
        }
        for message in &one.messages {
            let id = message.id.as_deref().map_or("waits to be sent", |id| &id[..ID_DIGITS]);
            write!(f, "\n    {id}  [{}] {}", message.sent, sender(&message.sender))?;
        }
        Ok(())
    }
}

impl Display for Text<'_, SafetyView> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let view = self.0;
        match &view.of {
            SafetyOf::Person { name, role, trust, registration, devices, own_devices } => {
                let registration =
                    registration.as_ref().map(|r| format!(" · {}", one_line(r))).unwrap_or_default();
                writeln!(f, "you and {}{registration}", person(name, role.as_deref(), trust))?;
                writeln!(f, "your devices: {}", short(own_devices))?;
                writeln!(f, "theirs: {}", short(devices))?;
            }
            SafetyOf::Conversation { conversation, title, class, epoch, devices } => {
                let heading = heading(title, class, conversation);
                writeln!(f, "{heading}, {} devices, epoch {epoch}", devices.len())?;
            }
        }
        let groups: Vec<&str> = view.number.split(' ').collect();
        groups.chunks(4).try_for_each(|line| writeln!(f, "    {}", line.join(" ")))?;
        view.warning.iter().try_for_each(|warning| writeln!(f, "{warning}"))?;
        write!(f, "{}", view.note)
    }
}

fn short(devices: &[String]) -> String {
    devices.iter().map(|device| &device[..ID_DIGITS]).collect::<Vec<_>>().join(", ")
}
