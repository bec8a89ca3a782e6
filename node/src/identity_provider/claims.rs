//! What an identity provider says about a person, and how the configuration has it read: pure.
//!
//! A template is a text with claims in braces, each a JSONPath (RFC 9535) into what the provider has said, such as
//! `GMC {$.gmc_id}`. Of several, the first counts whose claims are all there. A claim is a text or a number; a list of them that are
//! the same is one; different ones are nobody's to choose from, and refused.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;
use serde_json_path::JsonPath;
use unicode_normalization::UnicodeNormalization;

use crate::invitations::Invitee;

/// The longest template, in bytes.
const TEMPLATE_BYTES_MAX: usize = 512;
/// How people are addressed; providers differ in whether a name holds it.
const TITLES: [&str; 13] =
    ["dame", "dr", "lady", "lord", "miss", "mr", "mrs", "ms", "mx", "prof", "professor", "rev", "sir"];

/// Why what the provider says is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// There is nothing where something is needed.
    #[error("the identity provider says nothing about {0}")]
    Missing(&'static str),
    /// Several that differ.
    #[error("the identity provider says several things that differ at {0}")]
    Several(String),
    /// Neither text nor number.
    #[error("what the identity provider says at {0} is neither a text nor a number")]
    Kind(String),
    /// The configuration asks for another value, such as a level of assurance.
    #[error("what the identity provider says at {0} is not what this trust asks for")]
    NotEnough(String),
    /// Somebody else than the invitation is for.
    #[error("the identity provider says another {0} than the invitation, or none")]
    OtherPerson(&'static str),
}

/// One JSONPath.
#[derive(Clone, Debug)]
pub struct Claim {
    path: JsonPath,
    text: String,
}

impl FromStr for Claim {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let path = JsonPath::parse(text).map_err(|_| ())?;
        Ok(Self { path, text: text.to_owned() })
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Claim {
    /// Its value in what was said.
    ///
    /// # Errors
    /// [`ClaimError::Several`] or [`ClaimError::Kind`].
    fn value(&self, said: &Value) -> Result<Option<String>, ClaimError> {
        let mut found = None;
        for value in self.path.query(said).all() {
            let text = match value {
                Value::String(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
                Value::Number(number) => number.to_string(),
                Value::Null => continue,
                _ => return Err(ClaimError::Kind(self.text.clone())),
            };
            match &found {
                _ if text.is_empty() => {}
                None => found = Some(text),
                Some(earlier) if *earlier == text => {}
                Some(_) => return Err(ClaimError::Several(self.text.clone())),
            }
        }
        Ok(found)
    }
}

/// A text with claims in it.
#[derive(Clone, Debug)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Claim(Claim),
}

impl FromStr for Template {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (claim, behind) = behind.split_once('}').ok_or(())?;
            parts.extend([Part::Text(before.to_owned()), Part::Claim(claim.parse()?)]);
            rest = behind;
        }
        let holds_claim = !parts.is_empty();
        parts.push(Part::Text(rest.to_owned()));
        let is_plain = |part: &Part| !matches!(part, Part::Text(text) if text.contains('}'));
        if holds_claim && parts.iter().all(is_plain) { Ok(Self(parts)) } else { Err(()) }
    }
}

impl Template {
    fn fill(&self, said: &Value) -> Result<Option<String>, ClaimError> {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Claim(claim) => match claim.value(said)? {
                    Some(value) => filled.push_str(&last_part(&value)),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(filled.trim().to_owned()))
    }
}

/// Of a role as NHS CIS2 spells it, `"Clinical":"Clinical Provision":"Clinical Practitioner Access Role"`, the last part; of any other
/// text, all of it.
fn last_part(value: &str) -> String {
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    quoted.and_then(|parts| parts.rsplit("\":\"").next()).unwrap_or(value).to_owned()
}

/// Which claims are what.
#[derive(Clone, Debug, Default)]
pub struct Mapping {
    /// The name, which is needed.
    pub name: Vec<Template>,
    /// The staff number, which stands in no certificate.
    pub staff_number: Vec<Template>,
    /// The role.
    pub role: Vec<Template>,
    /// The department.
    pub department: Vec<Template>,
    /// The professional registration.
    pub registration: Vec<Template>,
    /// What must be said besides.
    pub required: Vec<Requirement>,
}

/// A claim that must have one of some values.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// Which.
    pub claim: Claim,
    /// What it may say.
    pub values: Vec<String>,
}

/// Whom an identity provider has signed in.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    name: String,
    role: Option<String>,
    department: Option<String>,
    registration: Option<String>,
    /// The staff number, for the audit log.
    pub staff_number: Option<String>,
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Person { .. }")
    }
}

impl Mapping {
    /// Whether all that is mapped and required is there already.
    pub fn is_complete(&self, said: &Value) -> bool {
        let fields =
            [&self.name, &self.staff_number, &self.role, &self.department, &self.registration].into_iter();
        let there = |field: &Vec<Template>| field.is_empty() || matches!(first(field, said), Ok(Some(_)));
        fields.into_iter().all(there)
            && self.required.iter().all(|required| matches!(required.claim.value(said), Ok(Some(_))))
    }

    /// Reads what was said.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub fn read(&self, said: &Value) -> Result<Person, ClaimError> {
        for Requirement { claim, values } in &self.required {
            if !claim.value(said)?.is_some_and(|value| values.contains(&value)) {
                return Err(ClaimError::NotEnough(claim.to_string()));
            }
        }
        Ok(Person {
            name: first(&self.name, said)?.ok_or(ClaimError::Missing("the name"))?,
            role: first(&self.role, said)?,
            department: first(&self.department, said)?,
            registration: first(&self.registration, said)?,
            staff_number: first(&self.staff_number, said)?,
        })
    }

    /// The person as the certificate will say: what the provider says, and what the operator said where nothing is mapped. Both must mean
    /// the same person: by name, and by registration and staff number if the invitation states them and they are mapped.
    ///
    /// # Errors
    /// [`ClaimError::OtherPerson`].
    pub fn confirm(&self, invited: &Invitee, person: &Person) -> Result<Invitee, ClaimError> {
        let differs = |mapped: &[Template], invited: &Option<String>, said: &Option<String>| match invited {
            Some(invited) if !mapped.is_empty() => {
                said.as_ref().is_none_or(|said| characters(said) != characters(invited))
            }
            _ => false,
        };
        if words(&invited.name) != words(&person.name) {
            return Err(ClaimError::OtherPerson("name"));
        }
        if differs(&self.registration, &invited.registration, &person.registration) {
            return Err(ClaimError::OtherPerson("professional registration"));
        }
        if differs(&self.staff_number, &invited.staff_number, &person.staff_number) {
            return Err(ClaimError::OtherPerson("staff number"));
        }
        let either = |said: &Option<String>, invited: &Option<String>| said.clone().or(invited.clone());
        Ok(Invitee {
            name: person.name.clone(),
            role: either(&person.role, &invited.role),
            department: either(&person.department, &invited.department),
            registration: either(&person.registration, &invited.registration),
            staff_number: either(&person.staff_number, &invited.staff_number),
            checked_by: invited.checked_by.clone(),
            replaces: invited.replaces.clone(),
        })
    }
}

fn first(templates: &[Template], said: &Value) -> Result<Option<String>, ClaimError> {
    for template in templates {
        if let Some(filled) = template.fill(said)? {
            return Ok(Some(filled));
        }
    }
    Ok(None)
}

/// The words of a name in any order and case, without titles: `Okafor Ada Dr` is `Dr Ada Okafor`.
fn words(name: &str) -> BTreeSet<String> {
    let name = name.nfkc().collect::<String>().to_lowercase();
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let words: BTreeSet<String> = words.map(str::to_owned).collect();
    let named: BTreeSet<String> =
        words.iter().filter(|word| !TITLES.contains(&word.as_str())).cloned().collect();
    // Somebody may be called by nothing but what is a title of others.
    if named.is_empty() { words } else { named }
}

/// The letters and digits of a number: `GMC1234567` is `GMC 1234567`.
fn characters(number: &str) -> String {
    number.nfkc().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect()
}
