//! Which names are easily taken for each other. Pure.
//!
//! Names are compared as people hear and skim them: without case, titles, marks on letters, and whatever the order of
//! their words. Two are alike if
//!
//! - the similarity of Jaro and Winkler ("String Comparator Metrics", 1990), which counts common letters near the same
//!   place and favours a common beginning, is [`SIMILARITY_MIN`] or more; or
//! - one letter more, less or other makes one into the other ("Ada", "Ida"): a different first letter costs that
//!   measure too much; or
//! - their words are the same up to initials ("M Okafor", "Mira Okafor").
//!
//! Where one of them has letters beyond ASCII, the same holds of what they look like: letters of other scripts count as those that they are
//! easily taken for (the skeletons of UTS #39), so that a Cyrillic "а" tells nobody apart.
//!
//! The threshold lies between pairs that people do confuse (Sarah Jones and Sarah James, 0.93; Ada Okafor and Ada
//! Okoro, 0.94) and colleagues who merely share a first name or a surname (John and Jane Smith, 0.88; Priya and Mira
//! Patel, 0.87), about whom nobody would go on reading warnings. The tests list such pairs.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_security::confusable_detection::skeleton;

/// From here on, two names are alike.
const SIMILARITY_MIN: f64 = 0.90;
/// Shorter names are not compared by one letter: too many would seem alike.
const ONE_LETTER_LENGTH_MIN: usize = 6;
/// Shorter words are not looked for alone: they stand in too many names.
const WORD_CHARS_MIN: usize = 3;
/// So many letters are how a word begins.
const BEGINNING_CHARS: usize = 4;
/// What is looked for at most.
const SEARCH_TERMS_MAX: usize = 6;
/// Words before a name that are no part of it.
const TITLES: [&str; 13] =
    ["dr", "doctor", "mr", "mrs", "ms", "miss", "mx", "prof", "professor", "sister", "nurse", "sir", "dame"];

/// Whether two names are easily taken for each other.
pub fn alike(one: &str, other: &str) -> bool {
    if are_alike(words(one), words(other)) {
        return true;
    }
    // What looks alike as a small letter may not as a capital one, and the other way round.
    let look = |name: &str| words(&skeleton(name).collect::<String>());
    let small = |name: &str| look(&name.to_lowercase());
    !(one.is_ascii() && other.is_ascii())
        && (are_alike(look(one), look(other)) || are_alike(small(one), small(other)))
}

fn are_alike(one: Vec<String>, other: Vec<String>) -> bool {
    // In one order, so that the answer is the same for both of them.
    let (one, other) = if one <= other { (one, other) } else { (other, one) };
    let sorted = |words: &[String]| {
        let mut sorted = words.to_vec();
        sorted.sort();
        sorted.join(" ")
    };
    let (a, b) = (one.join(" "), other.join(" "));
    let (a_sorted, b_sorted) = (sorted(&one), sorted(&other));
    let similarity = strsim::jaro_winkler(&a, &b).max(strsim::jaro_winkler(&a_sorted, &b_sorted));
    let is_long = a.chars().count().min(b.chars().count()) >= ONE_LETTER_LENGTH_MIN;
    similarity >= SIMILARITY_MIN
        || is_long && strsim::osa_distance(&a, &b) <= 1
        || same_up_to_initials(&one, &other)
}

/// A name as one looks for it: as it is written, without titles.
pub fn without_titles(name: &str) -> String {
    let is_title = |word: &&str| {
        let word = word.trim_end_matches(['.', ',']).to_lowercase();
        TITLES.contains(&word.as_str())
    };
    name.split_whitespace().filter(|word| !is_title(word)).collect::<Vec<_>>().join(" ")
}

/// For what one looks to find names that are like this one: all of it, its words, and how the longer ones begin. A few, the best first.
pub fn search_terms(name: &str) -> Vec<String> {
    let name = without_titles(name);
    let words: Vec<&str> =
        name.split_whitespace().filter(|word| word.chars().count() >= WORD_CHARS_MIN).collect();
    let begins = words.iter().filter(|word| word.chars().count() > BEGINNING_CHARS);
    let begins = begins.map(|word| word.chars().take(BEGINNING_CHARS).collect());
    let mut terms: Vec<String> = Vec::new();
    for term in [name.clone()].into_iter().chain(words.iter().map(|word| (*word).to_owned())).chain(begins) {
        if !term.is_empty() && !terms.contains(&term) {
            terms.push(term);
        }
    }
    terms.truncate(SEARCH_TERMS_MAX);
    terms
}

/// The words of a name: lower case, without marks and titles. Of a name that consists of titles alone, all of them.
fn words(name: &str) -> Vec<String> {
    let letters = name.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase);
    let mut plain = String::with_capacity(name.len());
    for letter in letters {
        match letter {
            // Unicode does not decompose these.
            'ø' => plain.push('o'),
            'ł' => plain.push('l'),
            'đ' | 'ð' => plain.push('d'),
            'ı' => plain.push('i'),
            'ß' => plain.push_str("ss"),
            'æ' => plain.push_str("ae"),
            'œ' => plain.push_str("oe"),
            'þ' => plain.push_str("th"),
            '\'' | '’' | '‘' | '`' | '.' => {}
            other => plain.push(other),
        }
    }
    let words = plain.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(str::to_owned).collect();
    let named: Vec<String> = words.iter().filter(|w| !TITLES.contains(&w.as_str())).cloned().collect();
    if named.is_empty() { words } else { named }
}

/// Whether the words are the same in some order, where an initial stands for a word. One whole word must agree.
fn same_up_to_initials(one: &[String], other: &[String]) -> bool {
    let mut left = other.to_vec();
    let mut take = |fits: &dyn Fn(&str) -> bool| {
        left.iter().position(|word| fits(word)).map(|place| left.remove(place)).is_some()
    };
    let apart: Vec<&String> = one.iter().filter(|word| !take(&|w| w == word.as_str())).collect();
    let is_initial = |a: &str, b: &str| a.chars().count() == 1 && b.starts_with(a);
    apart.len() < one.len()
        && one.len() == other.len()
        && apart.iter().all(|word| take(&|w| is_initial(w, word) || is_initial(word, w)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_people_confuse_are_alike() {
        for (one, other) in [
            ("Ada Okafor", "Ada Okafor"),
            ("Ada Okafor", "Ada Okafour"),
            ("Ada Okafor", "Ada Okoro"),
            ("Ada Okafor", "Ida Okafor"),
            ("Ada Okafor", "OKAFOR, Ada"),
            ("Dr Ada Okafor", "Nurse Ada Okafor"),
            ("Prof. Zoë Ångström", "zoe angstrom"),
            ("Søren Łukasz Weiß", "Soren Lukasz Weiss"),
            ("Siobhán O’Brien", "Siobhan O'Brien"),
            ("Anne-Marie Lee", "Annemarie Lee"),
            ("M Okafor", "Mira Okafor"),
            ("Okafor M.", "Mira Okafor"),
            ("Mira Okafor", "Mira Jane Okafor"),
            ("Jon Smith", "John Smith"),
            ("Sarah Jones", "Sarah James"),
            ("Catherine Brown", "Katherine Brown"),
            ("Stephen Clarke", "Steven Clark"),
            ("Mohammed Khan", "Muhammad Khan"),
            ("Peter Hall", "Peter Hill"),
            ("Li Wu", "Li Xu"),
        ] {
            assert!(alike(one, other), "{one}, {other}");
            assert!(alike(other, one), "{other}, {one}");
        }
    }

    #[test]
    fn letters_of_other_scripts_count_as_what_they_look_like() {
        for (one, other) in [
            // Cyrillic, all of it that can be; Cyrillic capitals; Greek.
            ("Ada Okafor", "\u{410}d\u{430} \u{41e}k\u{430}f\u{43e}r"),
            ("Beth Cross", "\u{412}eth \u{421}r\u{43e}ss"),
            ("Ada Okafor", "\u{391}da \u{39f}kafor"),
            ("Dr Ada Okafour", "\u{430}da okaf\u{43e}r"),
        ] {
            assert!(alike(one, other), "{one}, {other}");
            assert!(alike(other, one), "{other}, {one}");
        }
        assert!(!alike(
            "Ada Okafor",
            "\u{418}\u{433}\u{43e}\u{440}\u{44c} \u{41b}\u{44c}\u{432}\u{43e}\u{432}"
        ));
        assert!(!alike("Zoë Smith", "Ann Müller"));
    }

    #[test]
    fn people_who_share_a_name_are_not_all_alike() {
        for (one, other) in [
            ("Ada Okafor", "Mira Okafor"),
            ("Ada Okafor", "Ada Smith"),
            ("Mira Okafor", "Jo Lund"),
            ("Sarah Jones", "Sarah Smith"),
            ("David Smith", "Sarah Smith"),
            ("John Smith", "Jane Smith"),
            ("Priya Patel", "Mira Patel"),
            ("Emma Wilson", "Emily Wilson"),
            ("Ada Okafor", "Ada Okonkwo"),
            ("Dr Ann Lee", "Dr Amy Lee"),
            ("Dr Lund", "Dr Holt"),
            ("M Okafor", "Jo Okafor"),
            ("M O", "Mira Okafor"),
        ] {
            assert!(!alike(one, other), "{one}, {other}");
        }
    }

    #[test]
    fn titles_are_left_out_of_what_is_looked_for() {
        assert_eq!(without_titles("Dr. Zoë  Ångström"), "Zoë Ångström");
        assert_eq!(without_titles("Prof Sister Ada Drummond"), "Ada Drummond");
        assert_eq!(without_titles("Dr"), "");
    }

    #[test]
    fn similar_names_are_looked_for_by_words_and_beginnings() {
        assert_eq!(search_terms("Dr Ada Okafor"), ["Ada Okafor", "Ada", "Okafor", "Okaf"]);
        assert_eq!(search_terms("Li Wu"), ["Li Wu"]);
        assert_eq!(search_terms("Dr"), Vec::<String>::new());
        let long = search_terms("Anna Maria Theresa Charlotte Winter");
        assert_eq!(long[..3], ["Anna Maria Theresa Charlotte Winter", "Anna", "Maria"]);
        assert_eq!(long.len(), SEARCH_TERMS_MAX);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_who_comes_first_nor_what_they_are_called(
            one in "B[a-z]{2,8} B[a-z]{2,8}", other in "B[a-z]{2,8} B[a-z]{2,8}", any in "\\PC{0,30}",
        ) {
            prop_assert_eq!(alike(&one, &other), alike(&other, &one));
            prop_assert_eq!(alike(&one, &any), alike(&any, &one));
            let (first, last) = one.split_once(' ').unwrap();
            let in_a_list = format!("Dr {}, {first}", last.to_uppercase());
            prop_assert!(alike(&one, &in_a_list));
            let (titled, dotted) = (format!("Sister {one}"), format!("{other}."));
            prop_assert_eq!(alike(&one, &other), alike(&titled, &dotted));
        }
    }

    #[test]
    fn nothing_in_a_name_makes_it_fail() {
        for odd in ["", " ", "Dr", "'", "\u{301}", "日本", "Dr Dr"] {
            assert!(alike(odd, odd) || words(odd).is_empty(), "{odd:?}");
            assert!(!alike(odd, "Ada Okafor"), "{odd:?}");
        }
    }
}
