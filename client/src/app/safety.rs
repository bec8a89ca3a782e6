//! Safety numbers: see [`lanyard_crypto::safety`].

use std::collections::BTreeSet;

use lanyard_crypto::Fingerprint;
use lanyard_crypto::safety::SafetyNumber;

use super::people::Listed;
use super::view::{SafetyOf, SafetyView};
use super::{App, AppError};

/// What an equal number shows, and what it does not.
const NOTE: &str = "if the other side shows the same number, both devices hold the same certificates. Compare it in person \
                    or by a call in which you know the voice, never by a message";

impl App {
    /// The number of the holder and another person, over every device of either that the directory lists.
    ///
    /// # Errors
    /// [`AppError`]: nobody, several, or the holder; or the node's.
    pub fn safety_of_person(&mut self, typed: &str) -> Result<SafetyView, AppError> {
        let person = self.person(typed)?;
        if person.key == self.session.device().person {
            return Err(AppError::Oneself);
        }
        let subject = person.certificate().subject().clone();
        // By the registration, so that a name that fits many people leaves no device out.
        let listed = match &subject.registration {
            Some(registration) => self.listed_devices(&person.key, registration)?,
            None => person.devices,
        };
        let theirs = fingerprints(&listed);
        let mut own = fingerprints(&self.own_other_devices()?);
        own.insert(self.session.device().fingerprint);
        let number = SafetyNumber::of_people(&own, &theirs);
        let of = SafetyOf::Person {
            name: subject.common_name,
            role: subject.title,
            trust: subject.trust.to_string(),
            registration: subject.registration,
            devices: texts(&theirs),
            own_devices: texts(&own),
        };
        Ok(view(&number, of))
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
        let number = SafetyNumber::of_conversation(&conversation.id, epoch, &devices);
        let of = SafetyOf::Conversation {
            conversation: conversation.id.to_string(),
            title: conversation.title,
            class: conversation.class.name(),
            epoch,
            devices: texts(&devices),
        };
        Ok(view(&number, of))
    }
}

fn view(number: &SafetyNumber, of: SafetyOf) -> SafetyView {
    SafetyView { number: number.to_string(), digits: number.digits(), of, note: NOTE }
}

fn fingerprints(devices: &[Listed]) -> BTreeSet<Fingerprint> {
    devices.iter().map(|device| device.certificate.fingerprint()).collect()
}

fn texts(devices: &BTreeSet<Fingerprint>) -> Vec<String> {
    devices.iter().map(Fingerprint::to_string).collect()
}
