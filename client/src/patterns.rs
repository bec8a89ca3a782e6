//! What in a text identifies a patient: a table of named patterns, and those that a trust's policy adds. Pure.
//!
//! A pattern finds too much rather than too little: about one in eleven numbers of ten digits passes the check of NHS
//! numbers. So what it finds can be overridden, with a reason, or is only a reminder.

use lanyard_crypto::gateway::TextPattern;
use lanyard_crypto::limits::{PATTERN_BYTES_MAX, PATTERN_COMPILED_BYTES_MAX, PATTERN_NAME_BYTES_MAX};
use regex::{Regex, RegexBuilder};

/// What a text holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// By which it is recorded: no spaces.
    pub name: String,
    /// What people are told.
    pub what: String,
}

/// One thing to look for.
pub struct Pattern {
    /// By which it is recorded, stable.
    pub name: &'static str,
    /// What people are told that a text holds.
    pub what: &'static str,
    finds: fn(&str) -> bool,
}

/// What is looked for.
pub const PATTERNS: [Pattern; 2] = [
    Pattern { name: "nhs-number", what: "an NHS number", finds: holds_nhs_number },
    Pattern { name: "date-of-birth", what: "a date of birth", finds: holds_date_of_birth },
];

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What a text holds: of the table, and of what a trust adds to it, in this order. Of the trust's, those that cannot be used are
/// passed over: [`usable`] tells.
pub fn found_in(text: &str, of_trust: &[TextPattern]) -> Vec<Found> {
    let table = PATTERNS.iter().filter(|pattern| (pattern.finds)(text));
    let table = table.map(|pattern| Found { name: pattern.name.into(), what: pattern.what.into() });
    let finds = |pattern: &&TextPattern| usable(pattern).is_ok_and(|regex| regex.is_match(text));
    let name = |pattern: &TextPattern| pattern.name.split_whitespace().collect::<Vec<_>>().join("-");
    let added = of_trust.iter().filter(finds);
    table.chain(added.map(|pattern| Found { name: name(pattern), what: pattern.name.clone() })).collect()
}

/// A trust's pattern, ready to look for. It takes time in proportion to the text.
///
/// # Errors
/// Why it cannot be used: too long, too large, no regular expression, or one that finds something in an empty or a harmless text. The node's
/// fault, which has checked it.
pub fn usable(pattern: &TextPattern) -> Result<Regex, String> {
    if pattern.name.len() > PATTERN_NAME_BYTES_MAX || pattern.regex.len() > PATTERN_BYTES_MAX {
        return Err("it is too long".into());
    }
    let built = RegexBuilder::new(&pattern.regex).size_limit(PATTERN_COMPILED_BYTES_MAX).build();
    let regex = built.map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it takes too much memory",
        _ => "it is no regular expression",
    })?;
    let finds_all = regex.is_match("") || regex.is_match("ok");
    if finds_all { Err("it finds something in every text".into()) } else { Ok(regex) }
}

/// What was found, as one reads it: "an NHS number and a date of birth".
pub fn described(found: &[Found]) -> String {
    found.iter().map(|found| found.what.as_str()).collect::<Vec<_>>().join(" and ")
}

/// Ten digits with the check digit of NHS numbers (NHS Data Dictionary, NHS NUMBER), not inside a longer run of
/// digits: without spaces, or in groups of 3, 3 and 4 with white space or one hyphen between them.
fn holds_nhs_number(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    (0..chars.len()).any(|start| {
        let begins = chars[start].is_ascii_digit() && (start == 0 || !chars[start - 1].is_ascii_digit());
        begins && digits_at(&chars[start..]).is_some_and(|digits| is_nhs_number(&digits))
    })
}

/// The ten digits that stand at the beginning, if so many do, spaced as above.
fn digits_at(chars: &[char]) -> Option<[u32; 10]> {
    let mut digits = [0; 10];
    let mut place = 0;
    let is_spaced = chars.get(3).is_some_and(|c| c.is_whitespace() || is_hyphen(*c));
    for (count, digit) in digits.iter_mut().enumerate() {
        if is_spaced && matches!(count, 3 | 6) {
            place += separator_at(chars.get(place..)?)?;
        }
        *digit = chars.get(place)?.to_digit(10)?;
        place += 1;
    }
    // More digits follow: a longer number.
    let ends = chars.get(place).is_none_or(|c| !c.is_ascii_digit());
    ends.then_some(digits)
}

/// How many characters of white space may part two groups: a line break with spaces, or the cells of a table.
const GAP_CHARS_MAX: usize = 4;

/// How long the separator is that stands at the beginning: a hyphen, or a short run of white space, tabs and line breaks
/// among it.
fn separator_at(chars: &[char]) -> Option<usize> {
    if chars.first().copied().is_some_and(is_hyphen) {
        return Some(1);
    }
    let run = chars.iter().take_while(|c| c.is_whitespace()).count();
    (1..=GAP_CHARS_MAX).contains(&run).then_some(run)
}

/// Hyphens as keyboards and word processors write them.
fn is_hyphen(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2013}' | '\u{2212}')
}

/// The tenth digit makes the sum of the digits, weighted from 10 down to 1, a multiple of 11.
fn is_nhs_number(digits: &[u32; 10]) -> bool {
    let sum: u32 = digits.iter().zip((1..=10).rev()).map(|(digit, weight)| digit * weight).sum();
    sum.is_multiple_of(11)
}

/// Words that announce a date of birth, in lower case.
const BORN: [&str; 5] = ["dob", "d.o.b", "d.o.b.", "born", "date of birth"];

/// How many marks and characters of white space may stand behind such a word, and again behind "on".
const MARKS_MAX: usize = GAP_CHARS_MAX + 2;

/// A date, DD/MM/YYYY, right behind one of those words.
fn holds_date_of_birth(text: &str) -> bool {
    let text = text.to_lowercase();
    BORN.iter().any(|word| {
        text.match_indices(word).any(|(start, _)| {
            let apart = !text[..start].chars().next_back().is_some_and(char::is_alphanumeric);
            apart && is_date(behind(&text[start + word.len()..]))
        })
    })
}

/// What follows the word, behind what may stand between: `DOB: `, `DOB (`, `born on `, `date of birth is `, a line break.
fn behind(text: &str) -> &str {
    let text = unmarked(text);
    let text = ["on", "is", "was"].iter().find_map(|word| text.strip_prefix(word)).unwrap_or(text);
    unmarked(text)
}

/// A text without the marks and the short run of white space at its beginning.
fn unmarked(mut text: &str) -> &str {
    for _ in 0..MARKS_MAX {
        text = text.strip_prefix(|c: char| c.is_whitespace() || ":=-.(".contains(c)).unwrap_or(text);
    }
    text
}

/// Whether a text begins with a date: one or two digits, one or two digits, four digits.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, ['/', '-', '.']);
    let (Some(day), Some(month), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let year: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let within =
        |part: &str, digits: std::ops::RangeInclusive<usize>, range: std::ops::RangeInclusive<u32>| {
            digits.contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_digit())
                && part.parse().is_ok_and(|number| range.contains(&number))
        };
    within(day, 1..=2, 1..=31) && within(month, 1..=2, 1..=12) && within(&year, 4..=4, 1850..=2200)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(text: &str) -> Vec<String> {
        found_in(text, &[]).into_iter().map(|p| p.name).collect()
    }

    #[test]
    fn a_trusts_patterns_stand_behind_the_table_and_are_bounded() {
        let pattern = |name: &str, regex: &str| TextPattern { name: name.into(), regex: regex.into() };
        let added = [
            pattern("a hospital number", r"\bRYJ[0-9]{7}\b"),
            pattern("broken", "RYJ("),
            pattern("huge", r"((a\w{50}){50}){50}"),
            pattern("long", &"R".repeat(PATTERN_BYTES_MAX + 1)),
            pattern(&"n".repeat(PATTERN_NAME_BYTES_MAX + 1), "RYJ"),
            pattern("every text", "x*"),
            pattern("a ward", "(?i)ward é"),
        ];
        let found = found_in("WARD É, ryj1234567, RYJ1234567, 9990000018", &added);
        let names: Vec<_> = found.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["nhs-number", "a-hospital-number", "a-ward"]);
        assert_eq!(described(&found), "an NHS number and a hospital number and a ward");
        assert_eq!(found_in("RYJ12345678", &added), []);
        let why: Vec<_> = added.iter().filter_map(|p| usable(p).err()).collect();
        let long = "it is too long";
        let every = "it finds something in every text";
        assert_eq!(why, ["it is no regular expression", "it takes too much memory", long, long, every]);
        // What would make a backtracking matcher count for ever.
        let slow = [pattern("slow", "(a+)+$")];
        assert_eq!(found_in(&("a".repeat(60_000) + "b"), &slow), []);
    }

    // Numbers from 999 are for tests and belong to nobody.
    #[test]
    fn nhs_numbers_are_found_in_their_usual_spacings() {
        for text in [
            "9990000018",
            "NHS 999 000 0018, bed 4",
            "999-000-0018",
            "999\u{a0}000\u{a0}0018",
            "999–000–0018",
            "(9990000018)",
            "no:9990000018.",
            "bed 4 9990000018",
            "ring 07700 900123 about 999 000 0018",
            "999\t000\t0018",
            "999  000 0018",
            "999 000\n0018",
            "NHS no.\n999 000 0018",
            "999\r\n000\r\n0018",
            "999    000    0018",
            "999\u{2009}000\u{202f}0018",
        ] {
            assert_eq!(names(text), ["nhs-number"], "{text}");
        }
    }

    #[test]
    fn other_numbers_are_not() {
        for text in [
            "",
            "9990000019",
            "99900000180",
            "19990000018",
            "999     000 0018",
            "999--000-0018",
            "999- 000 0018",
            "999 0000018",
            "99 9000 0018",
            "999000 0018",
            "9990000",
            "07700 900123",
            "BP 120/80, K 6.8, Na 139",
        ] {
            assert_eq!(names(text), Vec::<&str>::new(), "{text}");
        }
    }

    #[test]
    fn dates_of_birth_are_found_behind_their_words_alone() {
        for text in [
            "DOB 01/02/1960",
            "dob: 1/2/1960",
            "D.O.B. 01/02/1960",
            "d.o.b.: 01/02/1960",
            "born on 01-02-1960",
            "Date of birth is 01.02.1960, bed 4",
            "DOB:\n01/02/1960",
            "DOB:\r\n  01/02/1960",
            "DOB (01/02/1960)",
            "DOB:\t01/02/1960",
            "born on\n01/02/1960",
        ] {
            assert_eq!(names(text), ["date-of-birth"], "{text}");
        }
        for text in [
            "review on 01/02/2026",
            "dob unknown, seen 01/02/2026",
            "stubborn 01/02/1960",
            "DOB 41/02/1960",
            "DOB 01/13/1960",
            "DOB 01/02/60",
            "dob",
            "born 01/02",
            "DOB:\n\n\n\n\n\n\n\n\n\n\n\n\n01/02/1960",
        ] {
            assert_eq!(names(text), Vec::<&str>::new(), "{text}");
        }
        let both = found_in("999 000 0018 DOB 01/02/1960", &[]);
        assert_eq!(described(&both), "an NHS number and a date of birth");
    }

    fn with_check(nine: &[u32; 9]) -> Option<String> {
        let sum: u32 = nine.iter().zip((2..=10).rev()).map(|(digit, weight)| digit * weight).sum();
        let check = (11 - sum % 11) % 11;
        (check < 10).then(|| nine.iter().chain([&check]).map(u32::to_string).collect())
    }

    proptest! {
        #[test]
        fn every_number_with_its_check_digit_is_found_and_with_no_other(
            rest in proptest::array::uniform6(0u32..10), before in "[a-z ,.:]{0,12}", after in "[a-z ,.:]{0,12}",
            separator in proptest::sample::select(vec!["", " ", "-", "\t", "\n", "  ", "\r\n"]),
        ) {
            let mut nine = [9; 9];
            nine[3..].copy_from_slice(&rest);
            let Some(number) = with_check(&nine) else { return Ok(()) };
            let spaced = |n: &str| format!("{}{separator}{}{separator}{}", &n[..3], &n[3..6], &n[6..]);
            let text = format!("{before}{}{after}", spaced(&number));
            prop_assert_eq!(names(&text), vec!["nhs-number"], "{}", text);
            for other in (0..10).map(|d| format!("{}{d}", &number[..9])).filter(|n| *n != number) {
                let text = format!("{before}{}{after}", spaced(&other));
                prop_assert!(names(&text).is_empty(), "{}", text);
            }
        }

        #[test]
        fn no_text_makes_it_fail(text in "\\PC*", digits in "[0-9 /.-]{0,40}") {
            found_in(&text, &[]);
            found_in(&format!("{text}dob {digits}{text}"), &[]);
        }
    }
}
