//! The countries in which a node may stand, and in which records may be kept: the United Kingdom and the
//! European Economic Area (promise P3).
//!
//! Source of the rule: NHS England, "Using instant messaging software in acute clinical settings" (no transfer
//! of data outside the UK or EEA), and UK GDPR article 45 with the adequacy regulations in paragraphs 4 and 5 of
//! schedule 21 to the Data Protection Act 2018. A charter may permit fewer countries, never others.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not a country code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CountryError {
    /// Not two upper-case letters.
    #[error(
        "{0:?} is not a country code: two upper-case letters are needed (ISO 3166-1 alpha-2), such as GB"
    )]
    Form(String),
    /// `UK` is only reserved in ISO 3166-1, so it would never match what others write.
    #[error("the country code of the United Kingdom is GB (ISO 3166-1 alpha-2), not UK")]
    Uk,
}

/// A country, by its ISO 3166-1 alpha-2 code. Any two letters, so that a country which is not permitted can be
/// named in a refusal; [`Country::is_permitted`] decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

impl Country {
    /// The United Kingdom.
    pub const GB: Country = Country(*b"GB");

    /// The two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a country code is made of ASCII letters alone")
    }

    /// Whether a node in this country may take part, and records may be kept there: the UK and the EEA.
    pub fn is_permitted(self) -> bool {
        PERMITTED.binary_search(&self).is_ok()
    }
}

/// Whether a peer that stands in `country` may take part; a country that is not known is not permitted.
pub fn is_permitted(country: Option<Country>) -> bool {
    country.is_some_and(Country::is_permitted)
}

/// The United Kingdom, and the 30 states of the EEA: the 27 members of the European Union (Treaty on European
/// Union, article 52) with Iceland, Liechtenstein and Norway (EEA Agreement, OJ L 1, 3.1.1994, article 126).
/// Ascending, so that it can be searched. Greece is GR; Switzerland is in neither.
pub const PERMITTED: [Country; 31] = [
    Country(*b"AT"),
    Country(*b"BE"),
    Country(*b"BG"),
    Country(*b"CY"),
    Country(*b"CZ"),
    Country(*b"DE"),
    Country(*b"DK"),
    Country(*b"EE"),
    Country(*b"ES"),
    Country(*b"FI"),
    Country(*b"FR"),
    Country(*b"GB"),
    Country(*b"GR"),
    Country(*b"HR"),
    Country(*b"HU"),
    Country(*b"IE"),
    Country(*b"IS"),
    Country(*b"IT"),
    Country(*b"LI"),
    Country(*b"LT"),
    Country(*b"LU"),
    Country(*b"LV"),
    Country(*b"MT"),
    Country(*b"NL"),
    Country(*b"NO"),
    Country(*b"PL"),
    Country(*b"PT"),
    Country(*b"RO"),
    Country(*b"SE"),
    Country(*b"SI"),
    Country(*b"SK"),
];

impl FromStr for Country {
    type Err = CountryError;

    fn from_str(text: &str) -> Result<Self, CountryError> {
        match text.as_bytes() {
            b"UK" => Err(CountryError::Uk),
            &[a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([a, b])),
            _ => Err(CountryError::Form(text.chars().take(16).collect())),
        }
    }
}

impl TryFrom<String> for Country {
    type Error = CountryError;

    fn try_from(text: String) -> Result<Self, CountryError> {
        text.parse()
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.as_str().into()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ascending_so_that_the_search_finds_every_row() {
        assert!(PERMITTED.is_sorted_by(|a, b| a < b));
        assert!(PERMITTED.iter().all(|c| c.is_permitted()));
    }

    #[test]
    fn elsewhere_and_unknown_are_refused() {
        for code in ["US", "CH", "IM", "JE", "GG", "GI", "EL", "XX", "AA", "ZZ"] {
            assert!(!code.parse::<Country>().unwrap().is_permitted(), "{code}");
        }
        assert!(!is_permitted(None));
        assert!(is_permitted(Some(Country::GB)));
    }

    #[test]
    fn only_two_upper_case_letters_are_a_code() {
        for text in ["", "G", "GBR", "gb", "G1", "GB ", "ß"] {
            assert!(matches!(text.parse::<Country>(), Err(CountryError::Form(_))), "{text:?}");
        }
        assert_eq!("UK".parse::<Country>(), Err(CountryError::Uk));
    }
}
