//! Safety numbers: see [`lanyard_crypto::safety`].

use std::collections::BTreeSet;

use lanyard_crypto::Fingerprint;
use lanyard_crypto::mls::PersonKey;
use lanyard_crypto::safety::SafetyNumber;

use super::people::Listed;
use super::view::{SafetyOf, SafetyView};
use super::{App, AppError};

/// What an equal number shows, and what it does not.
const NOTE: &str = "if the other side shows the same number, both see the same certificates. That shows no false one which \
                    both see: each of you must hold every device that is counted as yours. Compare it in person or by a \
                    call in which you know the voice, never by a message";

impl App {
    /// The number of the holder and another person, over every device of either that the directory lists.
    ///
    /// # Errors
    /// [`AppError`]: nobody, several, or the holder; a directory that does not show every device; or the node's.
    pub fn safety_of_person(&mut self, typed: &str) -> Result<SafetyView, AppError> {
        let person = self.person(typed)?;
        if person.key == self.session.device().person {
            return Err(AppError::Oneself);
        }
        let subject = person.certificate().subject().clone();
        // By the registration, so that a name that fits many people leaves no device out.
        let theirs = match &subject.registration {
            Some(registration) => self.all_listed(&person.key, registration)?,
            // A certificate without one names a person of its own, whose one device was found; unless the directory shows less than it has.
            None => match self.is_shown_whole(&subject.common_name)? {
                true => fingerprints(&person.devices),
                false => return Err(AppError::NotAllListed(subject.common_name)),
            },
        };
        let device = self.session.device().clone();
        let mut own = match self.device.certificate().subject().registration.clone() {
            Some(registration) => self.all_listed(&device.person, &registration)?,
            None => BTreeSet::new(),
        };
        own.insert(device.fingerprint);
        let number = SafetyNumber::of_people(&own, &theirs);
        let of = SafetyOf::Person {
            name: subject.common_name,
            role: subject.title,
            trust: subject.trust.to_string(),
            registration: subject.registration,
            devices: texts(&theirs),
            own_devices: texts(&own),
        };
        Ok(view(&number, of, own.len()))
    }

    /// The number of a conversation in its epoch, over every member's device.
    ///
    /// # Errors
    /// [`AppError`]: no such conversation, not a member any more; or the disk's.
    pub fn safety_of_conversation(&mut self, typed: &str) -> Result<SafetyView, AppError> {
        let conversation = self.conversation_joined(typed)?;
        let members = self.session.members(&conversation.id)?;
        let devices = members.iter().map(|m| m.device.fingerprint).collect();
        let epoch = self.session.epoch(&conversation.id)?;
        let own = self.session.device().person;
        let own_count = members.iter().filter(|m| m.device.person == own).count();
        let number = SafetyNumber::of_conversation(&conversation.id, epoch, &devices);
        let of = SafetyOf::Conversation {
            conversation: conversation.id.to_string(),
            title: conversation.title,
            class: conversation.class.name(),
            epoch,
            devices: texts(&devices),
        };
        Ok(view(&number, of, own_count))
    }

    /// Every device of a person that the directory lists: over some of them, the number would hide the others.
    fn all_listed(
        &mut self,
        person: &PersonKey,
        registration: &str,
    ) -> Result<BTreeSet<Fingerprint>, AppError> {
        let (devices, more) = self.listed_devices(person, registration)?;
        if more { Err(AppError::NotAllListed(registration.into())) } else { Ok(fingerprints(&devices)) }
    }
}

/// `own_count`: how many of the devices are certified as the holder's. Whether they are is for the holder to say.
fn view(number: &SafetyNumber, of: SafetyOf, own_count: usize) -> SafetyView {
    let warning = (own_count > 1)
        .then(|| format!("certified as you: {own_count} devices; each must be one that you hold"));
    SafetyView { number: number.to_string(), digits: number.digits(), of, warning, note: NOTE }
}

fn fingerprints(devices: &[Listed]) -> BTreeSet<Fingerprint> {
    devices.iter().map(|device| device.certificate.fingerprint()).collect()
}

fn texts(devices: &BTreeSet<Fingerprint>) -> Vec<String> {
    devices.iter().map(Fingerprint::to_string).collect()
}
