//! Moments and durations as people write and read them.

use std::time::{SystemTime, UNIX_EPOCH};

use lanyard_crypto::Timestamp;
use lanyard_crypto::limits::LIFE_SECS_MAX;

const DAY_SECS: u64 = 24 * 3600;

/// Why a text is not a duration. The fault of who typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a duration: a whole number and s, m, h or d is needed, such as 30d (at most ten years)"
)]
pub struct NotADuration(String);

/// This machine's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 is wrong anyhow: certificates will not be valid yet, and that is what is said.
    Timestamp::from_secs(since.map_or(0, |s| s.as_secs()))
}

/// A duration in seconds, from a text such as `90s`, `15m`, `12h` or `30d`.
///
/// # Errors
/// [`NotADuration`], also for nothing and for more than any record may live.
pub fn duration_secs(text: &str) -> Result<u64, NotADuration> {
    let wrong = || NotADuration(text.chars().take(20).collect());
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => DAY_SECS,
        _ => return Err(wrong()),
    };
    let digits = &text[..text.len() - 1];
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|secs| (1..=LIFE_SECS_MAX).contains(secs)).ok_or_else(wrong)
}

/// For people: a number and the largest unit that gives a whole one, such as `30 days`.
pub fn readable_secs(secs: u64) -> String {
    let units = [(DAY_SECS, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let (unit, name) =
        units.into_iter().find(|(unit, _)| secs.is_multiple_of(*unit)).unwrap_or((1, "second"));
    let number = secs / unit;
    format!("{number} {name}{}", if number == 1 { "" } else { "s" })
}

/// For programs: RFC 3339 in UTC, such as `2026-03-01T09:30:00Z`.
pub fn rfc3339(at: Timestamp) -> String {
    let (year, month, day) = date(at);
    let secs = at.as_secs() % DAY_SECS;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", secs / 3600, secs / 60 % 60, secs % 60)
}

/// For people: to the minute, in UTC, such as `2026-03-01 09:30 UTC`.
pub fn readable(at: Timestamp) -> String {
    let (year, month, day) = date(at);
    let secs = at.as_secs() % DAY_SECS;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", secs / 3600, secs / 60 % 60)
}

/// Year, month and day in the Gregorian calendar. Years are counted from March, so that the leap day ends
/// one, and in eras of 400 years, which all have the same number of days.
fn date(at: Timestamp) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    // From 0000-03-01 to 1970-01-01.
    const BEFORE_1970_DAYS: u64 = 719_468;
    let days = at.as_secs() / DAY_SECS + BEFORE_1970_DAYS;
    let (era, day) = (days / ERA_DAYS, days % ERA_DAYS);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        // From `date -u -d @SECS`.
        let known = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (secs, text) in known {
            assert_eq!(rfc3339(Timestamp::from_secs(secs)), text);
        }
        assert_eq!(readable(Timestamp::from_secs(951_868_740)), "2000-02-29 23:59 UTC");
    }

    #[test]
    fn spans_are_read_in_the_largest_unit() {
        let read = [86_400, 30 * 86_400, 3600, 5400, 61].map(readable_secs);
        assert_eq!(read, ["1 day", "30 days", "1 hour", "90 minutes", "61 seconds"]);
    }

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(duration_secs("90s"), Ok(90));
        assert_eq!(duration_secs("15m"), Ok(900));
        assert_eq!(duration_secs("30d"), Ok(30 * DAY_SECS));
        for bad in
            ["", "d", "30", "0d", "-1d", "+1d", "1.5h", "30 d", "99999d", "99999999999999999999s", "3é"]
        {
            assert!(duration_secs(bad).is_err(), "{bad}");
        }
    }
}
