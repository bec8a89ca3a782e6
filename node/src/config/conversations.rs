//! What a trust asks of its conversations: how often members are reviewed, and what in a text identifies a patient.

use lanyard_crypto::gateway::TextPattern;
use lanyard_crypto::limits::{
    PATTERN_BYTES_MAX, PATTERN_COMPILED_BYTES_MAX, PATTERN_NAME_BYTES_MAX, PATTERNS_MAX,
    REVIEW_EVERY_SECS_MAX, REVIEW_GRACE_SECS_MAX,
};
use lanyard_crypto::mls::ReviewTerms;
use regex::RegexBuilder;

use super::reader::Section;
use crate::time::DAY_SECS;

pub(super) fn review(mut section: Section<'_>) -> Option<ReviewTerms> {
    let by_default = ReviewTerms::default();
    let days = section.number("days", 1, REVIEW_EVERY_SECS_MAX / DAY_SECS);
    let grace_days = section.number("grace_days", 0, REVIEW_GRACE_SECS_MAX / DAY_SECS);
    section.end();
    Some(ReviewTerms {
        every_secs: days?.map_or(by_default.every_secs, |days| days * DAY_SECS),
        grace_secs: grace_days?.map_or(by_default.grace_secs, |days| days * DAY_SECS),
    })
}

/// The patterns of the tables at `patterns` of a section.
pub(super) fn patterns(section: &mut Section<'_>) -> Option<Vec<TextPattern>> {
    let mut patterns: Vec<Option<TextPattern>> = Vec::new();
    let needed = "a table [[policy.patterns]] with `name` and `regex` is needed";
    for mut entry in section.sections("patterns", needed) {
        let needed = format!(
            "what people are told that a text holds is needed, such as \"a hospital number\": letters, digits and spaces, at most \
             {PATTERN_NAME_BYTES_MAX} bytes"
        );
        let name = entry.required("name", &needed, named);
        let regex = regex(&mut entry);
        if let Some(name) = &name
            && patterns.iter().flatten().any(|earlier| earlier.name == *name)
        {
            entry.note("name", &format!("is {name:?}, as of an entry above; each has a name of its own"));
        }
        entry.end();
        patterns.push(name.zip(regex).map(|(name, regex)| TextPattern { name, regex }));
    }
    if patterns.len() > PATTERNS_MAX {
        section.note(
            "patterns",
            &format!("has {} entries; at most {PATTERNS_MAX} are possible", patterns.len()),
        );
    }
    patterns.into_iter().collect()
}

fn named(text: &str) -> Option<String> {
    let plain = |c: char| c.is_alphanumeric() || c == ' ' || c == '-' || c == '\'';
    let fits = (1..=PATTERN_NAME_BYTES_MAX).contains(&text.len())
        && text.chars().all(plain)
        && text.trim() == text
        && text.chars().any(char::is_alphanumeric);
    fits.then(|| text.to_owned())
}

/// A regular expression that every client can use: linear in the text by its syntax, and bounded in length and in memory.
fn regex(entry: &mut Section<'_>) -> Option<String> {
    let needed =
        "a regular expression in the syntax of the crate `regex` is needed, such as '\\bRZ[0-9]{7}\\b'";
    let regex = entry.required("regex", needed, |text| Some(text.to_owned()))?;
    if regex.len() > PATTERN_BYTES_MAX {
        entry.note("regex", &format!("has {} bytes; at most {PATTERN_BYTES_MAX} are possible", regex.len()));
        return None;
    }
    match RegexBuilder::new(&regex).size_limit(PATTERN_COMPILED_BYTES_MAX).build() {
        Err(regex::Error::CompiledTooBig(_)) => {
            let max = PATTERN_COMPILED_BYTES_MAX / 1024;
            entry.note(
                "regex",
                &format!("takes more than {max} KiB of memory; repeat less, or fewer kinds of letters"),
            );
            None
        }
        Err(error) => {
            // It shows the place over several lines; the last one says what is wrong there.
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            entry.note("regex", &format!("is no regular expression: {why}; {needed}"));
            None
        }
        // It would find something in everything.
        Ok(compiled) if compiled.is_match("") => {
            entry.note("regex", "finds something in an empty text, so in every text; say what must be there");
            None
        }
        Ok(_) => Some(regex),
    }
}
