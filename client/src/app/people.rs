//! The directory: from words, or from what was typed for one person, to devices that can be invited.
//!
//! Every entry is verified here: the node only finds them. Names are alike, and a message to the wrong person
//! cannot be called back, so one person is meant only if a registration, a full name or a device fits exactly
//! one.

use std::collections::BTreeMap;

use lanyard_crypto::mls::PersonKey;
use lanyard_crypto::network::Network;
use lanyard_crypto::record::{self, Body, Decoded};
use lanyard_crypto::x509::{Certificate, Purpose};
use lanyard_crypto::{Fingerprint, Timestamp, TrustId};

use super::certification::certification;
use super::resemblance::{Known, resembling};
use super::view::{FoundDevice, FoundPeople, FoundPerson};
use super::{App, AppError, begins, is_prefix};
use crate::clock;
use crate::names::{alike, search_terms};
use crate::session::NodeSender;
use crate::vault::contacts::Contact;

/// Digits of a device's fingerprint that may stand for it.
pub(super) const DEVICE_DIGITS_MIN: usize = 8;

/// One device in the directory, whose certificate holds at this moment.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub certificate: Certificate,
    chain: Vec<Vec<u8>>,
    entry: Vec<u8>,
    pub key_package: Option<Vec<u8>>,
    pub available: bool,
    issued: Timestamp,
}

/// One person with every device found.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub key: PersonKey,
    pub devices: Vec<Listed>,
}

impl Person {
    /// Of the device with the newest entry, which comes first.
    pub fn certificate(&self) -> &Certificate {
        &self.devices[0].certificate
    }

    /// Name, role, trust and registration, for a list to choose from.
    pub fn described(&self) -> String {
        let subject = self.certificate().subject();
        let optional = [&subject.title, &subject.registration].into_iter().flatten();
        let parts: Vec<&str> =
            [&subject.common_name].into_iter().chain(optional).map(String::as_str).collect();
        format!("{} ({})", parts.join(", "), subject.trust)
    }

    /// The same person, to be compared with others.
    pub fn known(&self) -> Known {
        Known::new(self.certificate(), "found in the directory")
    }
}

impl App {
    /// Looks for people by words.
    ///
    /// # Errors
    /// The node's.
    pub fn find(&mut self, words: &str) -> Result<FoundPeople, AppError> {
        let (people, more) = self.search(words)?;
        self.remember(&people)?;
        // Who was found is among those whom this device knows, from now on.
        let known = self.known()?;
        let (now, network) = (clock::now(), self.beliefs.read());
        let people = people.iter().map(|p| view(p, &known, &network, now)).collect();
        Ok(FoundPeople { people, more })
    }

    /// The one person that was typed: a registration, a full name, either with `@TRUST`, or a device.
    pub(crate) fn person(&mut self, typed: &str) -> Result<Person, AppError> {
        let (words, trust) = split_trust(typed);
        let (mut people, more) = match self.remembered(words)? {
            Some(name) => self.search(&name)?,
            None => self.search(words)?,
        };
        // Those with similar names too, so that they are told apart before anything is sent.
        self.remember(&people)?;
        people.retain(|p| fits(p, words, trust.as_ref()));
        let next = if more {
            "too many people match: give the registration"
        } else {
            "look for people with: lanyard find WORDS"
        };
        match people.len() {
            0 => Err(AppError::NotFound { what: "person", typed: typed.into(), next }),
            1 => {
                let person = people.remove(0);
                self.look_for_alike(&person, words)?;
                Ok(person)
            }
            _ => {
                let found = people.iter().map(Person::described).collect();
                Err(AppError::Ambiguous { what: "people", typed: typed.into(), found })
            }
        }
    }

    /// Looks for people whose names are easily taken for this one's, and who were never found: by the name, by each of its words, and by how
    /// these begin. A name that is like this one and shares none of that is not found so.
    fn look_for_alike(&mut self, person: &Person, searched: &str) -> Result<(), AppError> {
        let name = person.certificate().subject().common_name.clone();
        let mut found = Vec::new();
        for words in search_terms(&name).into_iter().filter(|words| folded(words) != folded(searched)) {
            let (people, _) = self.search(&words)?;
            let is_like = |p: &Person| alike(&p.certificate().subject().common_name, &name);
            found.extend(people.into_iter().filter(|p| p.key != person.key && is_like(p)));
        }
        self.remember(&found)
    }

    /// Keeps who was found: the node looks for words, and a device can be typed only by who has seen it.
    fn remember(&mut self, people: &[Person]) -> Result<(), AppError> {
        let updated = clock::now();
        self.session.transaction(|session| {
            for listed in people.iter().flat_map(|p| &p.devices) {
                let subject = listed.certificate.subject();
                session.vault().put_contact(&Contact {
                    fingerprint: listed.certificate.fingerprint(),
                    trust: subject.trust.clone(),
                    name: subject.common_name.clone(),
                    role: subject.title.clone(),
                    entry: listed.entry.clone(),
                    updated,
                })?;
            }
            Ok(())
        })
    }

    /// The name of the person whose device's first digits were typed, if it was found before.
    fn remembered(&self, typed: &str) -> Result<Option<String>, AppError> {
        if !is_prefix(typed, DEVICE_DIGITS_MIN) {
            return Ok(None);
        }
        let contacts = self.session.vault().contacts()?;
        let contact = contacts.into_iter().find(|c| begins(c.fingerprint.as_bytes(), typed));
        Ok(contact.map(|c| c.name))
    }

    /// The other devices of this device's holder, as far as the directory shows them.
    pub(crate) fn own_other_devices(&mut self) -> Result<Vec<Listed>, AppError> {
        let own = self.session.device().clone();
        let Some(registration) = self.device.certificate().subject().registration.clone() else {
            return Ok(Vec::new());
        };
        let (devices, _) = self.listed_devices(&own.person, &registration)?;
        Ok(devices.into_iter().filter(|d| d.certificate.fingerprint() != own.fingerprint).collect())
    }

    /// The devices of a person that the directory shows for the registration. Tells whether it holds more than it shows.
    pub(crate) fn listed_devices(
        &mut self,
        person: &PersonKey,
        registration: &str,
    ) -> Result<(Vec<Listed>, bool), AppError> {
        let (people, more) = self.search(registration)?;
        let devices = people.into_iter().filter(|p| p.key == *person).flat_map(|p| p.devices);
        Ok((devices.collect(), more))
    }

    /// The nodes of a trust that the directory lists, and this device's own node if it is one of them.
    pub(crate) fn nodes_of(&mut self, trust: &TrustId) -> Result<Vec<NodeSender>, AppError> {
        let mut entries = self.entries(trust.as_str())?.0;
        entries
            .retain(|e| e.certificate.purpose() == Purpose::Node && e.certificate.subject().trust == *trust);
        let sender = |e: Listed| NodeSender { key: *e.certificate.public_key(), chain: e.chain };
        let mut nodes: Vec<_> = entries.into_iter().map(sender).collect();
        if let Some(chain) = self.node.server_chain().filter(|_| *trust == self.device.trust) {
            let network = self.beliefs.read();
            let own = network.verify_chain(&chain, Purpose::Node, network.time(clock::now()));
            // TLS has verified it; a charter may have come since.
            nodes.extend(own.ok().map(|own| NodeSender {
                key: *own.certificate.public_key(),
                chain: chain.map(<[u8]>::to_vec).into(),
            }));
        }
        Ok(nodes)
    }

    /// People, by name; the newest entry of each device counts.
    fn search(&mut self, words: &str) -> Result<(Vec<Person>, bool), AppError> {
        let (entries, more) = self.entries(words)?;
        let mut devices: BTreeMap<Fingerprint, Listed> = BTreeMap::new();
        for listed in entries.into_iter().filter(|e| e.certificate.purpose() == Purpose::Device) {
            let device = listed.certificate.fingerprint();
            if devices.get(&device).is_none_or(|held| held.issued < listed.issued) {
                devices.insert(device, listed);
            }
        }
        let mut people: BTreeMap<PersonKey, Person> = BTreeMap::new();
        for listed in devices.into_values() {
            let key = PersonKey::of_certificate(&listed.certificate);
            people.entry(key).or_insert_with(|| Person { key, devices: Vec::new() }).devices.push(listed);
        }
        let mut people: Vec<Person> = people.into_values().collect();
        people.iter_mut().for_each(|p| p.devices.sort_by_key(|d| std::cmp::Reverse(d.issued)));
        people.sort_by_cached_key(|p| (folded(&p.certificate().subject().common_name), p.described()));
        Ok((people, more))
    }

    /// Whether the directory shows everybody of this name.
    pub(crate) fn is_shown_whole(&mut self, name: &str) -> Result<bool, AppError> {
        Ok(!self.search(name)?.1)
    }

    /// Entries that the node found, and that hold at this moment. Others are passed over: the directory also
    /// lists what has expired or been revoked since. Tells whether there were more.
    fn entries(&mut self, words: &str) -> Result<(Vec<Listed>, bool), AppError> {
        let now = clock::now();
        let answer = self.node.directory(words)?;
        let network = self.beliefs.read();
        let entries = answer.entries.iter().filter_map(|bytes| listed(bytes, &network, now));
        Ok((entries.collect(), answer.more))
    }
}

/// What an entry record says, if it holds.
fn listed(bytes: &[u8], network: &Network, now: Timestamp) -> Option<Listed> {
    let now = network.time(now);
    let verified = record::verify(Decoded::from_bytes(bytes).ok()?, network).ok()?;
    let (Body::Entry(entry), Some(subject)) = (verified.body(), verified.subject()) else {
        return None;
    };
    let holds =
        verified.header().expires > now && network.verify_chain(&entry.chain, subject.purpose(), now).is_ok();
    holds.then(|| Listed {
        certificate: subject.clone(),
        chain: entry.chain.iter().map(|c| c.to_vec()).collect(),
        entry: bytes.to_vec(),
        key_package: entry.key_package.as_ref().map(|k| k.to_vec()),
        available: entry.available.unwrap_or(false),
        issued: verified.header().issued,
    })
}

/// `NAME@TRUST` as its parts; what stands after the last `@` counts only if it is an ODS code.
pub(crate) fn split_trust(typed: &str) -> (&str, Option<TrustId>) {
    let typed = typed.trim();
    let parts =
        typed.rsplit_once('@').and_then(|(words, code)| Some((words.trim(), code.trim().parse().ok()?)));
    parts.map_or((typed, None), |(words, trust)| (words, Some(trust)))
}

fn fits(person: &Person, words: &str, trust: Option<&TrustId>) -> bool {
    let subject = person.certificate().subject();
    let compact = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>().to_lowercase();
    let by_device = is_prefix(words, DEVICE_DIGITS_MIN)
        && person.devices.iter().any(|d| begins(d.certificate.fingerprint().as_bytes(), words));
    let by_registration = subject.registration.as_ref().is_some_and(|r| compact(r) == compact(words));
    let by_name = folded(&subject.common_name) == folded(words);
    trust.is_none_or(|t| *t == subject.trust) && (by_device || by_registration || by_name)
}

fn view(
    person: &Person,
    known: &BTreeMap<PersonKey, Known>,
    network: &Network,
    now: Timestamp,
) -> FoundPerson {
    let subject = person.certificate().subject();
    let resembles = resembling(&person.known(), known.values());
    let device = |d: &Listed| FoundDevice {
        device: d.certificate.fingerprint().to_string(),
        name: d.certificate.subject().common_name.clone(),
        reachable: d.key_package.is_some(),
        certification: certification(&d.chain, network, now),
    };
    FoundPerson {
        name: subject.common_name.clone(),
        role: subject.title.clone(),
        department: subject.department.clone(),
        registration: subject.registration.clone(),
        trust: subject.trust.to_string(),
        organisation: subject.organisation.clone(),
        similar: !resembles.is_empty(),
        resembles,
        available: person.devices.iter().any(|d| d.available),
        devices: person.devices.iter().map(device).collect(),
    }
}

/// A name as it is compared: lower case, single spaces.
pub(crate) fn folded(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_may_stand_behind_a_name() {
        assert_eq!(split_trust("Jo Lund@RTD"), ("Jo Lund", Some("RTD".parse().unwrap())));
        assert_eq!(split_trust(" GMC 1234567 "), ("GMC 1234567", None));
        assert_eq!(split_trust("a@b@RXH").0, "a@b");
        assert_eq!(split_trust("jo@home"), ("jo@home", None));
    }
}
