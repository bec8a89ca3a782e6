//! Reasons for refusal go to logs and to peers: they repeat nothing of what was refused.

use std::fmt::Display;

/// Longer stretches of the input than this are content; shorter ones may be a country code, a trust or a number.
const STRETCH: usize = 16;
/// A reason, in bytes.
const REASON_BYTES_MAX: usize = 2_048;

/// Asserts that a reason is short, and that no stretch of readable input stands in it.
pub(crate) fn assert_quiet(reason: &dyn Display, input: &[u8]) {
    let reason = reason.to_string();
    assert!(reason.len() <= REASON_BYTES_MAX, "a reason of {} bytes", reason.len());
    if reason.len() < STRETCH {
        return;
    }
    for stretch in reason.as_bytes().windows(STRETCH) {
        // Our own words are of letters alone; an input made of them proves nothing.
        let telling = stretch.iter().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
        let echoed = telling && input.windows(STRETCH).any(|window| window == stretch);
        assert!(!echoed, "the reason repeats its input: {reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::assert_quiet;

    #[test]
    fn an_echo_is_found() {
        assert_quiet(&"not a record: Syntax at byte 3", b"Amara Holt, bed 4, EF 30%");
        let echo = || assert_quiet(&"cannot read Amara Holt, bed 4", b"Amara Holt, bed 4, EF 30%");
        assert!(std::panic::catch_unwind(echo).is_err());
        let long = "x".repeat(5_000);
        assert!(std::panic::catch_unwind(|| assert_quiet(&long, b"")).is_err());
    }
}
