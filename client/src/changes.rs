//! What has changed about the members of a conversation between two moments, from their certificates. Pure.

use std::collections::{BTreeMap, BTreeSet};

use lanyard_crypto::Fingerprint;
use lanyard_crypto::mls::PersonKey;
use lanyard_crypto::x509::{Certificate, Subject};

/// What kind of change it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A member who was none.
    Joined,
    /// Nobody of that description is a member any more.
    Left,
    /// The same person is described otherwise: name, role, department, organisation.
    Described,
    /// One more device.
    DeviceAdded,
    /// One less.
    DeviceRemoved,
    /// The same device with another certificate.
    Certificate,
    /// A member who is an administrator, and was none.
    Administrator,
    /// One who was, and is none any more.
    NotAdministrator,
    /// A member whose certificate was revoked or has ended.
    NotValid,
}

impl Kind {
    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Joined => "joined",
            Kind::Left => "left",
            Kind::Described => "described",
            Kind::DeviceAdded => "device-added",
            Kind::DeviceRemoved => "device-removed",
            Kind::Certificate => "certificate",
            Kind::Administrator => "administrator",
            Kind::NotAdministrator => "not-administrator",
            Kind::NotValid => "not-valid",
        }
    }

    /// For people, behind who it is.
    pub fn said(self) -> &'static str {
        match self {
            Kind::Joined => "joined",
            Kind::Left => "left",
            Kind::Described => "is described otherwise",
            Kind::DeviceAdded => "has one more device",
            Kind::DeviceRemoved => "has one device less",
            Kind::Certificate => "has another certificate",
            Kind::Administrator => "is an administrator now",
            Kind::NotAdministrator => "is no administrator any more",
            Kind::NotValid => "CERTIFICATE DOES NOT HOLD",
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of which kind.
    pub kind: Kind,
    /// Who: as described now, or before, if they have left.
    pub subject: Subject,
    /// The device that it is about, if it is about one.
    pub device: Option<Fingerprint>,
    /// What is different, a phrase each: "role (Consultant, was Registrar)".
    pub differences: Vec<String>,
}

/// The changes from some members' certificates to others', by kind and then by name.
pub fn between(before: &[Certificate], after: &[Certificate]) -> Vec<Change> {
    let (before, after) = (by_person(before), by_person(after));
    let mut changes = Vec::new();
    for (person, devices) in &after {
        match before.get(person) {
            Some(earlier) => changes.extend(of_person(earlier, devices)),
            None => changes.push(whole(Kind::Joined, devices[0])),
        }
    }
    let gone = before.iter().filter(|(person, _)| !after.contains_key(*person));
    changes.extend(gone.map(|(_, devices)| whole(Kind::Left, devices[0])));
    changes.sort_by_cached_key(|c| (c.kind, c.subject.common_name.to_lowercase(), c.device));
    changes
}

/// Who of the members has become an administrator, or is none any more, by kind and then by name. `before`: [`PersonKey::as_bytes`] of those who
/// were.
pub fn of_admins(before: &[[u8; 32]], after: &[PersonKey], members: &[Certificate]) -> Vec<Change> {
    let mut changes = Vec::new();
    for (person, devices) in by_person(members) {
        match (before.contains(person.as_bytes()), after.contains(&person)) {
            (false, true) => changes.push(whole(Kind::Administrator, devices[0])),
            (true, false) => changes.push(whole(Kind::NotAdministrator, devices[0])),
            (true, true) | (false, false) => {}
        }
    }
    changes.sort_by_cached_key(|c| (c.kind, c.subject.common_name.to_lowercase()));
    changes
}

type People<'a> = BTreeMap<PersonKey, Vec<&'a Certificate>>;

/// Each person's newest certificate first.
fn by_person(certificates: &[Certificate]) -> People<'_> {
    let mut people = People::new();
    for certificate in certificates {
        people.entry(PersonKey::of_certificate(certificate)).or_default().push(certificate);
    }
    people
        .values_mut()
        .for_each(|devices| devices.sort_by_key(|d| std::cmp::Reverse((d.not_after(), d.fingerprint()))));
    people
}

fn whole(kind: Kind, of: &Certificate) -> Change {
    Change { kind, subject: of.subject().clone(), device: None, differences: Vec::new() }
}

fn of_person(before: &[&Certificate], after: &[&Certificate]) -> Vec<Change> {
    let mut changes = Vec::new();
    let differences = differences(before[0].subject(), after[0].subject());
    if !differences.is_empty() {
        changes.push(Change { differences, ..whole(Kind::Described, after[0]) });
    }
    let keys = |devices: &[&Certificate]| devices.iter().map(|d| *d.public_key()).collect::<BTreeSet<_>>();
    let (keys_before, keys_after) = (keys(before), keys(after));
    let known: BTreeSet<Fingerprint> = before.iter().map(|d| d.fingerprint()).collect();
    for device in after.iter().filter(|d| !known.contains(&d.fingerprint())) {
        let kind =
            if keys_before.contains(device.public_key()) { Kind::Certificate } else { Kind::DeviceAdded };
        changes.push(Change { device: Some(device.fingerprint()), ..whole(kind, device) });
    }
    for device in before.iter().filter(|d| !keys_after.contains(d.public_key())) {
        changes.push(Change { device: Some(device.fingerprint()), ..whole(Kind::DeviceRemoved, device) });
    }
    changes
}

fn differences(before: &Subject, after: &Subject) -> Vec<String> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none stated".into());
    let parts = [
        ("name", before.common_name.clone(), after.common_name.clone()),
        ("role", or_none(&before.title), or_none(&after.title)),
        ("department", or_none(&before.department), or_none(&after.department)),
        ("organisation", before.organisation.clone(), after.organisation.clone()),
    ];
    let differ = parts.into_iter().filter(|(_, before, after)| before != after);
    differ.map(|(what, before, after)| format!("{what} ({after}, was {before})")).collect()
}

#[cfg(test)]
mod tests {
    use lanyard_crypto::Timestamp;
    use lanyard_crypto::x509::{SecretKey, issue};

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    struct Registrar {
        certificate: Certificate,
        key: SecretKey,
    }

    fn subject(name: &str, role: &str, registration: Option<&str>) -> Subject {
        Subject {
            trust: "RYJ".parse().unwrap(),
            country: "GB".parse().unwrap(),
            organisation: "Trust".into(),
            common_name: name.into(),
            department: Some("Cardiology".into()),
            title: Some(role.into()),
            registration: registration.map(Into::into),
        }
    }

    impl Registrar {
        fn new() -> Self {
            let term = || issue::Term::starting(NOW, 1000).unwrap();
            let (root_key, key) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
            let named = |name| Subject { title: None, department: None, ..subject(name, "", None) };
            let root = issue::root(&named("Root"), &root_key, &term()).unwrap();
            let issuer = issue::Issuer::new(&root, &root_key).unwrap();
            let certificate = issuer.registrar(&named("Registrar"), &key.public(), &term()).unwrap();
            Self { certificate, key }
        }

        fn device(&self, subject: &Subject, key: &SecretKey, secs: u64) -> Certificate {
            let issuer = issue::Issuer::new(&self.certificate, &self.key).unwrap();
            issuer.device(subject, &key.public(), &issue::Term::starting(NOW, secs).unwrap()).unwrap()
        }
    }

    #[test]
    fn who_became_an_administrator_or_is_none_any_more_is_told_once() {
        let registrar = Registrar::new();
        let keys = [(); 5].map(|()| SecretKey::generate().unwrap());
        let device =
            |name, key| registrar.device(&subject(name, "Nurse", Some(&format!("NMC {name}"))), key, 500);
        let [ada, ben, cem, dan, phone] = [("Ada", 0), ("Ben", 1), ("Cem", 2), ("Dan", 3), ("Ben", 4)]
            .map(|(name, key): (&str, usize)| device(name, &keys[key]));
        let person = |of: &Certificate| {
            let subject = of.subject();
            PersonKey::of(&subject.trust, subject.registration.as_deref(), of.public_key())
        };
        let bytes = |of: &Certificate| *person(of).as_bytes();
        // Dan has left, and is told of as that.
        let (before, after) = ([bytes(&ada), bytes(&cem), bytes(&dan)], [person(&ada), person(&ben)]);
        let changes = of_admins(&before, &after, &[ada, ben, cem, phone]);
        let said: Vec<_> =
            changes.iter().map(|c| (c.kind.name(), c.subject.common_name.as_str(), c.device)).collect();
        assert_eq!(said, [("administrator", "Ben", None), ("not-administrator", "Cem", None)]);
    }

    #[test]
    fn each_kind_of_change_is_told_and_nothing_else() {
        let registrar = Registrar::new();
        let [ada, phone, ben, cem, dan] = [(); 5].map(|()| SecretKey::generate().unwrap());
        let registrar_ada = subject("Ada Okafor", "Registrar", Some("GMC 1"));
        let before = [
            registrar.device(&registrar_ada, &ada, 500),
            registrar.device(&subject("Ben Lund", "Nurse", Some("NMC 2")), &ben, 500),
            registrar.device(&subject("Cem Duarte", "Porter", None), &cem, 500),
        ];
        assert_eq!(between(&before, &before), []);
        let mut other_order = before.clone();
        other_order.reverse();
        assert_eq!(between(&before, &other_order), []);

        let consultant_ada = Subject { title: Some("Consultant".into()), ..registrar_ada };
        let after = [
            registrar.device(&consultant_ada, &ada, 600),
            registrar.device(&consultant_ada, &phone, 550),
            registrar.device(&subject("Dan Holt", "Nurse", Some("NMC 4")), &dan, 500),
            // Renewed: without a registration, the key says that it is the same person.
            registrar.device(&subject("Cem Duarte", "Porter", None), &cem, 600),
        ];
        let changes = between(&before, &after);
        let said: Vec<_> =
            changes.iter().map(|c| (c.kind.name(), c.subject.common_name.as_str(), c.device)).collect();
        let of = |place: usize| Some(after[place].fingerprint());
        assert_eq!(
            said,
            [
                ("joined", "Dan Holt", None),
                ("left", "Ben Lund", None),
                ("described", "Ada Okafor", None),
                ("device-added", "Ada Okafor", of(1)),
                ("certificate", "Ada Okafor", of(0)),
                ("certificate", "Cem Duarte", of(3)),
            ]
        );
        assert_eq!(changes[2].differences, ["role (Consultant, was Registrar)"]);
        let back = between(&after[..2], &after[..1]);
        assert_eq!((back.len(), back[0].kind, back[0].device), (1, Kind::DeviceRemoved, of(1)));
    }
}
