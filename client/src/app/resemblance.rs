//! People whom this device knows, and those among them who are easily taken for each other.
//!
//! A message to the wrong person cannot be called back. So before the first message to somebody, and before somebody
//! is invited, the name is compared with those of everyone else whom this device knows: the members of its
//! conversations, and whoever was found in the directory. If one is alike, nothing is done until the holder has said
//! who is meant; what was said is kept for these two, and for the one that was meant: the other is asked about.

use std::collections::{BTreeMap, BTreeSet};

use lanyard_crypto::Fingerprint;
use lanyard_crypto::mls::PersonKey;
use lanyard_crypto::record::{Body, Decoded};
use lanyard_crypto::x509::{Certificate, Subject};

use super::people::{DEVICE_DIGITS_MIN, folded, split_trust};
use super::view::ResemblanceView;
use super::{App, AppError, begins, is_prefix};
use crate::lines::one_line;
use crate::names::alike;
use crate::session::{SessionError, SessionMember};

/// Digits of a device by which it is named to its holder.
const DEVICE_DIGITS: usize = 12;

/// Somebody, as a certificate describes them.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub key: PersonKey,
    /// One of the person's devices.
    pub device: Fingerprint,
    pub subject: Subject,
    /// From where this device knows the person.
    pub from: String,
}

impl Known {
    pub fn new(certificate: &Certificate, from: &str) -> Self {
        let subject = certificate.subject().clone();
        let key = PersonKey::of_certificate(certificate);
        Self { key, device: certificate.fingerprint(), subject, from: from.into() }
    }

    /// Whether this person is easily taken for the other one, and another.
    fn resembles(&self, other: &Self) -> bool {
        self.key != other.key && alike(&self.subject.common_name, &other.subject.common_name)
    }

    /// How the other one differs from this person.
    fn as_seen_beside(&self, other: &Self) -> ResemblanceView {
        let subject = &self.subject;
        ResemblanceView {
            name: subject.common_name.clone(),
            role: subject.title.clone(),
            trust: subject.trust.to_string(),
            registration: subject.registration.clone(),
            known: self.from.clone(),
            differences: differences(subject, &other.subject),
        }
    }
}

/// Somebody who is about to be written to, and who is easily taken for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Who would be written to: name, role, trust, registration.
    pub person: String,
    /// Whether the person is to be invited, and not only written to.
    pub invited: bool,
    /// What confirms that this person is meant: for `--confirm`, and for [`App::confirm`].
    pub confirmed_by: String,
    /// The others.
    pub others: Vec<ResemblanceView>,
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.invited {
            true => write!(f, "the name of {} is easily taken for:", self.person)?,
            false => write!(
                f,
                "this device has not noted that you have written to {}, whose name is easily taken for:",
                self.person
            )?,
        }
        for other in &self.others {
            let name = described(&other.name, &other.role, &other.trust, &other.registration);
            let differences = one_line(&other.differences.join(", "));
            write!(f, "\n    {name}, {}; differs in {differences}", other.known)?;
        }
        Ok(())
    }
}

impl App {
    /// Says who is meant, where names are alike: a registration, a full name with `@TRUST`, or a device. It holds for what is
    /// done next, and is kept for the people whom it told apart.
    pub fn confirm(&mut self, people: &[String]) {
        self.confirmed = people.to_vec();
    }

    /// Everyone whom this device knows, without its own holder: the members of its conversations, then who was found.
    pub(crate) fn known(&self) -> Result<BTreeMap<PersonKey, Known>, AppError> {
        let mut known = BTreeMap::new();
        for conversation in self.session.vault().conversations()? {
            let members = match self.session.members(&conversation.id) {
                Err(SessionError::NotIn(_)) => continue,
                members => members?,
            };
            let from = format!("in your {} conversation {:?}", conversation.class.name(), conversation.title);
            for person in members.iter().filter_map(|member| member_known(member, &from)) {
                known.entry(person.key).or_insert(person);
            }
        }
        for contact in self.session.vault().contacts()? {
            // What was kept was verified then; here it only warns.
            let entry = Decoded::from_bytes(&contact.entry).ok();
            let Some(Body::Entry(entry)) = entry.as_ref().map(Decoded::body) else { continue };
            let certificate = entry.chain.first().and_then(|der| Certificate::parse(der).ok());
            if let Some(person) = certificate.map(|c| Known::new(&c, "found in the directory")) {
                known.entry(person.key).or_insert(person);
            }
        }
        known.remove(&self.session.device().person);
        Ok(known)
    }

    /// Refuses, unless it was confirmed, to write to people to whom this device has not noted that it has written, and
    /// whose names are like those of others whom it knows. As [`App::check_invited`].
    ///
    /// # Errors
    /// [`AppError::Similar`], or the disk's.
    pub(crate) fn check_written_to(&mut self, meant: Vec<Known>) -> Result<(), AppError> {
        let mut new = BTreeMap::new();
        for person in &meant {
            if !self.session.vault().has_written_to(&person.key)? {
                new.insert(person.key, person.clone());
            }
        }
        self.check_names(new, &meant.iter().map(|person| person.key).collect(), false)
    }

    /// Refuses, unless it was confirmed, to invite people whose names are like those of others whom this device knows:
    /// also people to whom it has written, since a wrong one would be let in for good. Of two who are invited together
    /// neither is taken for the other, and what was confirmed before is not asked again.
    ///
    /// # Errors
    /// [`AppError::Similar`], or the disk's.
    pub(crate) fn check_invited(&mut self, meant: Vec<Known>) -> Result<(), AppError> {
        let people: BTreeMap<_, _> = meant.into_iter().map(|person| (person.key, person)).collect();
        let meant = people.keys().copied().collect();
        self.check_names(people, &meant, true)
    }

    /// Of those in `asked`; nobody is taken for another one who is `meant` as well.
    fn check_names(
        &mut self,
        mut asked: BTreeMap<PersonKey, Known>,
        meant: &BTreeSet<PersonKey>,
        invited: bool,
    ) -> Result<(), AppError> {
        asked.remove(&self.session.device().person);
        if asked.is_empty() {
            return Ok(());
        }
        let mut known = self.known()?;
        known.retain(|key, _| !meant.contains(key));
        // Those that are alike and not told apart, for each person who is meant.
        let mut alike = Vec::new();
        for person in asked.values() {
            let others = known.values().filter(|other| person.resembles(other)).collect();
            alike.push((person, self.not_told_apart(person, others)?));
        }
        for (person, others) in &alike {
            // What fits another of them as well tells nobody apart.
            let tells = |typed: &&String| {
                is_named(person, typed) && !others.iter().any(|other| is_named(other, typed))
            };
            if self.confirmed.iter().any(|typed| tells(&typed)) {
                for other in others {
                    self.session.vault().tell_apart(&person.key, &other.key)?;
                }
            }
        }
        let mut doubts = Vec::new();
        for (person, others) in alike {
            let left = self.not_told_apart(person, others)?;
            if !left.is_empty() {
                doubts.push(doubt(person, &left, invited));
            }
        }
        if doubts.is_empty() { Ok(()) } else { Err(AppError::Similar(doubts)) }
    }

    fn not_told_apart<'a>(&self, person: &Known, others: Vec<&'a Known>) -> Result<Vec<&'a Known>, AppError> {
        let mut left = Vec::new();
        for other in others {
            if !self.session.vault().is_told_apart(&person.key, &other.key)? {
                left.push(other);
            }
        }
        Ok(left)
    }
}

/// A member, as the certificate describes them.
pub(crate) fn member_known(member: &SessionMember, from: &str) -> Option<Known> {
    Certificate::parse(member.chain.first()?).ok().map(|certificate| Known::new(&certificate, from))
}

/// Those whom a person is easily taken for, by name.
pub(crate) fn resembling<'a>(
    person: &Known,
    among: impl IntoIterator<Item = &'a Known>,
) -> Vec<ResemblanceView> {
    seen_beside(person, among.into_iter().filter(|other| person.resembles(other)))
}

fn seen_beside<'a>(person: &Known, others: impl Iterator<Item = &'a Known>) -> Vec<ResemblanceView> {
    let mut views: Vec<_> = others.map(|other| other.as_seen_beside(person)).collect();
    views.sort_by(|a, b| (&a.name, &a.trust).cmp(&(&b.name, &b.trust)));
    views
}

fn doubt(person: &Known, others: &[&Known], invited: bool) -> Doubt {
    let subject = &person.subject;
    let trust = subject.trust.to_string();
    let by_name = format!("{}@{trust}", subject.common_name);
    let is_name_enough = others.iter().all(|other| !is_named(other, &by_name));
    let by_device = || person.device.to_string()[..DEVICE_DIGITS].to_owned();
    Doubt {
        person: described(&subject.common_name, &subject.title, &trust, &subject.registration),
        invited,
        confirmed_by: match &subject.registration {
            _ if is_name_enough => by_name,
            Some(registration) => format!("{registration}@{trust}"),
            None => by_device(),
        },
        others: seen_beside(person, others.iter().copied()),
    }
}

/// Whether what was typed names this person: a registration, a full name with the trust, or a device.
fn is_named(person: &Known, typed: &str) -> bool {
    let (words, trust) = split_trust(typed);
    let subject = &person.subject;
    let compact = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
    let by_registration = subject.registration.as_ref().is_some_and(|r| compact(r) == compact(words));
    let by_name = trust.is_some() && folded(&subject.common_name) == folded(words);
    let by_device = is_prefix(words, DEVICE_DIGITS_MIN) && begins(person.device.as_bytes(), words);
    trust.is_none_or(|t| t == subject.trust) && (by_registration || by_name || by_device)
}

fn differences(one: &Subject, other: &Subject) -> Vec<String> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none stated".into());
    let parts = [
        ("trust", one.trust.to_string(), other.trust.to_string()),
        ("role", or_none(&one.title), or_none(&other.title)),
        ("department", or_none(&one.department), or_none(&other.department)),
        ("registration", or_none(&one.registration), or_none(&other.registration)),
    ];
    let differ = parts.into_iter().filter(|(_, one, other)| one != other);
    let said: Vec<String> = differ.map(|(what, one, other)| format!("{what} ({one}, not {other})")).collect();
    if said.is_empty() { vec!["nothing that their certificates state".into()] } else { said }
}

fn described(name: &str, role: &Option<String>, trust: &str, registration: &Option<String>) -> String {
    let parts = [Some(name), role.as_deref(), registration.as_deref()];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    one_line(&format!("{} ({trust})", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(n: u8, name: &str, trust: &str, role: &str, registration: Option<&str>) -> Known {
        let subject = Subject {
            trust: trust.parse().unwrap(),
            country: "GB".parse().unwrap(),
            organisation: "Trust".into(),
            common_name: name.into(),
            department: None,
            title: Some(role.into()),
            registration: registration.map(Into::into),
        };
        let key = PersonKey::of(&subject.trust, registration, &[n; 32]);
        Known { key, device: Fingerprint::new([n; 32]), subject, from: "found in the directory".into() }
    }

    #[test]
    fn a_doubt_names_both_people_and_what_differs() {
        let ada = known(1, "Ada Okafor", "RTD", "Registrar", Some("GMC 1111111"));
        let other = known(2, "Ada Okafour", "RXH", "Registrar", Some("NMC 22B2222C"));
        assert_eq!(resembling(&ada, [&ada, &other]).len(), 1, "nobody resembles themselves");
        let text = doubt(&ada, &[&other], false).to_string();
        assert_eq!(
            text,
            "this device has not noted that you have written to Ada Okafor, Registrar, GMC 1111111 (RTD), \
             whose name is easily taken for:\n    \
             Ada Okafour, Registrar, NMC 22B2222C (RXH), found in the directory; \
             differs in trust (RXH, not RTD), registration (NMC 22B2222C, not GMC 1111111)"
        );
        let text = doubt(&ada, &[&other], true).to_string();
        let begin =
            "the name of Ada Okafor, Registrar, GMC 1111111 (RTD) is easily taken for:\n    Ada Okafour";
        assert!(text.starts_with(begin), "{text}");
    }

    #[test]
    fn only_what_names_one_of_them_tells_them_apart() {
        let ada = known(1, "Ada Okafor", "RTD", "Registrar", Some("GMC 1111111"));
        let namesake = known(2, "Ada Okafor", "RTD", "Nurse", Some("NMC 22B2222C"));
        let elsewhere = known(3, "Ada Okafor", "RXH", "Nurse", Some("NMC 33B3333C"));
        assert!(is_named(&ada, "gmc1111111") && is_named(&ada, "GMC 1111111@RTD"));
        assert!(is_named(&ada, "ada  okafor@RTD"));
        for typed in ["Ada Okafor", "Ada Okafor@RXH", "GMC 1111111@RXH", "RTD", ""] {
            assert!(!is_named(&ada, typed), "{typed}");
        }
        assert_eq!(doubt(&ada, &[&elsewhere], true).confirmed_by, "Ada Okafor@RTD");
        assert_eq!(doubt(&ada, &[&namesake], true).confirmed_by, "GMC 1111111@RTD");
        let same = known(4, "Ada Okafor", "RTD", "Registrar", None);
        let again = known(5, "Ada Okafor", "RTD", "Registrar", None);
        assert_eq!(resembling(&same, [&again])[0].differences, ["nothing that their certificates state"]);
        let by_device = doubt(&same, &[&again], true).confirmed_by;
        assert_eq!(by_device, "040404040404");
        assert!(is_named(&same, &by_device) && !is_named(&again, &by_device));
    }
}
