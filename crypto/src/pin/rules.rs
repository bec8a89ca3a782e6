//! Which PINs are taken. A node counts attempts and gives ten, so what matters is that none of the first ten guesses is likely.

use std::fmt;

use zeroize::Zeroizing;

/// Shortest PIN, in characters.
pub const PIN_CHARACTERS_MIN: usize = 6;
/// Longest PIN, in characters.
pub const PIN_CHARACTERS_MAX: usize = 64;
/// The same in bytes: a character takes up to four.
const PIN_BYTES_MAX: usize = 4 * PIN_CHARACTERS_MAX;
/// Different characters that a PIN needs at least.
const DIFFERENT_MIN: usize = 3;
/// Shortest run that counts.
const RUN_MIN: usize = 3;
/// What people choose most, beyond what the other rules refuse: rows and figures of the keypad, pairs, words.
const OBVIOUS: [&str; 24] = [
    "112233", "121314", "123654", "142536", "147258", "147852", "147896", "159357", "159753", "246810",
    "258456", "258852", "321654", "456852", "741852", "753159", "789456", "852456", "951753", "963852",
    "password", "qwerty", "letmein", "lanyard",
];

/// Why a text is not taken for a PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinRefused {
    /// Too short or too long.
    #[error("a PIN has {PIN_CHARACTERS_MIN} to {PIN_CHARACTERS_MAX} characters; choose another one")]
    Length,
    /// A control character: perhaps a key that was pressed by mistake.
    #[error("a PIN has no control characters; type it again")]
    Control,
    /// Hardly any different characters.
    #[error("a PIN has at least {DIFFERENT_MIN} different characters; choose another one")]
    Repeats,
    /// The same part again and again.
    #[error("this PIN repeats one part of it; choose another one")]
    Period,
    /// Up or down in steps of one.
    #[error("this PIN is a run such as 123456 or 987654; choose another one")]
    Run,
    /// A date or a year of somebody's life.
    #[error("this PIN looks like a date, which others may know; choose another one")]
    Date,
    /// One of those that are tried first.
    #[error("this PIN is one of those that are tried first; choose another one")]
    Obvious,
}

/// A PIN as it was typed. Erased from memory when dropped, and never shown.
#[derive(Clone)]
pub struct Pin(Zeroizing<String>);

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

impl Pin {
    /// What was typed to prove a PIN: any text of bounded length, since rules may have changed since it was set.
    ///
    /// # Errors
    /// [`PinRefused::Length`].
    pub fn typed(text: &str) -> Result<Self, PinRefused> {
        let bounded = !text.is_empty() && text.len() <= PIN_BYTES_MAX;
        if bounded { Ok(Self(Zeroizing::new(text.to_owned()))) } else { Err(PinRefused::Length) }
    }

    /// A PIN to be set.
    ///
    /// # Errors
    /// [`PinRefused`] names the rule.
    pub fn chosen(text: &str) -> Result<Self, PinRefused> {
        let pin = Self::typed(text)?;
        let characters: Zeroizing<Vec<char>> = Zeroizing::new(text.chars().collect());
        if !(PIN_CHARACTERS_MIN..=PIN_CHARACTERS_MAX).contains(&characters.len()) {
            return Err(PinRefused::Length);
        }
        if characters.iter().any(|c| c.is_control()) {
            return Err(PinRefused::Control);
        }
        if different(&characters) < DIFFERENT_MIN {
            return Err(PinRefused::Repeats);
        }
        if has_period(&characters) {
            return Err(PinRefused::Period);
        }
        if is_run(&characters) {
            return Err(PinRefused::Run);
        }
        if is_date(text) {
            return Err(PinRefused::Date);
        }
        if OBVIOUS.iter().any(|obvious| text.to_lowercase().contains(obvious)) && characters.len() < 12 {
            return Err(PinRefused::Obvious);
        }
        Ok(pin)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn different(characters: &[char]) -> usize {
    let mut sorted = Zeroizing::new(characters.to_vec());
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len()
}

/// Whether it is a shorter part, again and again, the last time perhaps not whole.
fn has_period(characters: &[char]) -> bool {
    (1..=characters.len() / 2).any(|period| characters.iter().zip(&characters[period..]).all(|(a, b)| a == b))
}

/// Whether it is made of runs of three or more, with at most one character besides. In a run each character follows the one before it, or each
/// precedes it; 0 follows 9.
fn is_run(characters: &[char]) -> bool {
    let follows = |a: char, b: char| u32::from(a) + 1 == u32::from(b) || (a == '9' && b == '0');
    let (mut covered, mut rest) = (0, characters);
    while !rest.is_empty() {
        let length = |step: &dyn Fn(char, char) -> bool| {
            1 + rest.windows(2).take_while(|pair| step(pair[0], pair[1])).count()
        };
        let run = length(&follows).max(length(&|a, b| follows(b, a)));
        covered += if run >= RUN_MIN { run } else { 0 };
        rest = &rest[run..];
    }
    covered + 1 >= characters.len()
}

/// Whether digits alone are a date of the last hundred years or so: DDMMYY, MMDDYY, YYMMDD, or with the year's four digits.
fn is_date(text: &str) -> bool {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let number = |range: std::ops::Range<usize>| text.get(range).and_then(|part| part.parse::<u32>().ok());
    let day_month = |a, b| matches!((a, b), (Some(1..=31), Some(1..=12)));
    let dated = |a, b| day_month(a, b) || day_month(b, a);
    let year = |y| matches!(y, Some(1900..=2099));
    match text.len() {
        6 => dated(number(0..2), number(2..4)) || dated(number(2..4), number(4..6)),
        8 => {
            dated(number(0..2), number(2..4)) && year(number(4..8))
                || year(number(0..4)) && dated(number(4..6), number(6..8))
        }
        _ => false,
    }
}
