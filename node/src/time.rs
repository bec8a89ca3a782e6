//! The clock, and moments as people read them.

use std::time::{SystemTime, UNIX_EPOCH};

use lanyard_crypto::Timestamp;

/// Seconds of a day.
pub const DAY_SECS: u64 = 24 * 3600;

/// The moment by this machine's clock.
pub fn now() -> Timestamp {
    Timestamp::from_secs(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// A moment by RFC 3339, in UTC, such as `2026-03-01T09:30:00Z`.
pub fn rfc3339(at: Timestamp) -> String {
    let (days, secs) = (at.as_secs() / DAY_SECS, at.as_secs() % DAY_SECS);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The moment that [`rfc3339`] gives for this text; none if it is of another form.
pub fn from_rfc3339(text: &str) -> Option<Timestamp> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let secs = days_from_civil(year, month, day)?.checked_mul(DAY_SECS)?;
    let at =
        Timestamp::from_secs(secs.checked_add(hour.checked_mul(3600)? + minute.checked_mul(60)? + second)?);
    (rfc3339(at) == text).then_some(at)
}

fn numbers(text: &str, between: char) -> Option<[u64; 3]> {
    let numbers: Option<Vec<u64>> = text.split(between).map(|part| part.parse().ok()).collect();
    // Far beyond any year, and far below what could overflow.
    numbers?.try_into().ok().filter(|numbers: &[u64; 3]| numbers.iter().all(|n| *n < 1_000_000_000))
}

/// The opposite of [`civil_from_days`]; none before 1970.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let year = year.checked_sub(u64::from(month <= 2))?;
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * from_march + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// Year, month and day of the Gregorian calendar, from days since 1970-01-01. The years begin in March here,
/// so that a leap day is the last day of its year (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// civil_from_days).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_dates() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_772_357_400, "2026-03-01T09:30:00Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ];
        for (secs, text) in cases {
            assert_eq!(rfc3339(Timestamp::from_secs(secs)), text);
            assert_eq!(from_rfc3339(text), Some(Timestamp::from_secs(secs)));
        }
        for day in 0..40_000 {
            let at = Timestamp::from_secs(day * DAY_SECS + day % DAY_SECS);
            assert_eq!(from_rfc3339(&rfc3339(at)), Some(at));
        }
        for other in [
            "",
            "2026-03-01",
            "2026-3-1T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-03-01T00:60:00Z",
            "1969-12-31T00:00:00Z",
            "99999999999-01-01T00:00:00Z",
            "2026-00-00T00:00:00Z",
        ] {
            assert_eq!(from_rfc3339(other), None, "{other}");
        }
    }
}
