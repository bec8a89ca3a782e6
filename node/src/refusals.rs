//! Which refusals of strangers are written to the audit log. Strangers must not be able to fill it, nor to push out of it what
//! an operator looks for, and a peer that is refused again and again is news once.
//!
//! Of each code, the first refusal of somebody for a reason is written down, and the same one again only after [`AGAIN`].
//! Whoever comes under ever new names meets the second bound: after [`BURST`], one in [`EVERY`]. What is left out is
//! counted, and the next line of its code says how much that was; without one, a line of its own does after [`AGAIN`], or when the
//! node stops ([`Refusals::counted`]). Nothing that stands in the log is changed, and a crash loses what is being counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The same refusal of the same peer is written down once in this time.
pub const AGAIN: Duration = Duration::from_secs(600);
/// The event of a line that only counts.
pub const COUNTED: &str = lanyard_replica::audit::COUNTED;
/// How often to look whether something has been counted for long enough.
pub const COUNT_INTERVAL: Duration = Duration::from_secs(60);
/// Refusals of one code that are written down as fast as they come.
const BURST: u32 = 64;
/// After those, one in this time.
const EVERY: Duration = Duration::from_secs(10);
/// Refusals of one code that are remembered.
const REMEMBERED: usize = 128;

/// See the module documentation. The codes are the program's own, so that there are few.
#[derive(Default)]
pub struct Refusals {
    codes: Mutex<BTreeMap<&'static str, Code>>,
}

struct Code {
    left: u32,
    earned: Instant,
    unseen: u64,
    /// When the first of those was left out.
    since: Instant,
    /// Who was refused why, and when that was written down.
    seen: BTreeMap<String, Instant>,
}

impl Refusals {
    /// Whether to write down the refusal of `whom`, a peer or an address without its port, with this text for people. Then it
    /// returns the text, which also says how many of this code were left out since the last one.
    pub fn admit(&self, code: &'static str, whom: &str, text: &str) -> Option<String> {
        self.admit_at(code, whom, text, Instant::now())
    }

    fn admit_at(&self, code: &'static str, whom: &str, text: &str, now: Instant) -> Option<String> {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        let code = codes.entry(code).or_insert_with(|| Code {
            left: BURST,
            earned: now,
            unseen: 0,
            since: now,
            seen: BTreeMap::new(),
        });
        code.earn(now);
        let refusal = format!("{whom} {text}");
        let again = code.seen.get(&refusal).is_some_and(|at| now.duration_since(*at) < AGAIN);
        if again || code.left == 0 {
            if code.unseen == 0 {
                code.since = now;
            }
            code.unseen = code.unseen.saturating_add(1);
            return None;
        }
        code.left -= 1;
        code.remember(refusal, now);
        Some(match std::mem::take(&mut code.unseen) {
            0 => text.to_owned(),
            unseen => format!("{text} ({})", left_out(unseen)),
        })
    }

    /// What has been counted for at least so long and stands in no line yet, as codes and texts for lines of their own.
    pub fn counted(&self, at_least: Duration) -> Vec<(&'static str, String)> {
        self.counted_at(at_least, Instant::now())
    }

    fn counted_at(&self, at_least: Duration, now: Instant) -> Vec<(&'static str, String)> {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        let due = codes.iter_mut().filter(|(_, c)| c.unseen > 0 && now.duration_since(c.since) >= at_least);
        due.map(|(code, counted)| (*code, left_out(std::mem::take(&mut counted.unseen)))).collect()
    }
}

fn left_out(unseen: u64) -> String {
    format!("{unseen} more were not logged")
}

impl Code {
    fn earn(&mut self, now: Instant) {
        let earned = now.duration_since(self.earned).as_secs() / EVERY.as_secs();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(BURST);
            self.earned = now;
        }
    }

    fn remember(&mut self, refusal: String, now: Instant) {
        if self.seen.len() >= REMEMBERED
            && let Some((oldest, _)) = self.seen.iter().min_by_key(|(_, at)| **at)
        {
            let oldest = oldest.clone();
            self.seen.remove(&oldest);
        }
        self.seen.insert(refusal, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_refusal_is_news_once_in_a_while() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let admit = |code, whom, at| refusals.admit_at(code, whom, "no", at);
        assert_eq!(admit("a", "1", now).as_deref(), Some("no"));
        for _ in 0..5 {
            assert_eq!(admit("a", "1", now + AGAIN / 2), None);
        }
        // Another peer, another code, another reason.
        assert_eq!(admit("a", "2", now).as_deref(), Some("no (5 more were not logged)"));
        assert_eq!(admit("b", "1", now).as_deref(), Some("no"));
        assert_eq!(refusals.admit_at("a", "1", "never", now).as_deref(), Some("never"));
        assert_eq!(admit("a", "1", now + AGAIN).as_deref(), Some("no"));
    }

    #[test]
    fn what_is_counted_is_written_down_in_the_end() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        for _ in 0..4 {
            refusals.admit_at("a", "1", "no", now);
        }
        refusals.admit_at("b", "1", "no", now);
        assert!(refusals.counted_at(AGAIN, now + AGAIN / 2).is_empty());
        assert_eq!(refusals.counted_at(AGAIN, now + AGAIN), [("a", "3 more were not logged".to_owned())]);
        assert!(refusals.counted_at(Duration::ZERO, now + AGAIN).is_empty(), "once");
        assert_eq!(refusals.admit_at("a", "1", "no", now + AGAIN).as_deref(), Some("no"));
        refusals.admit_at("a", "1", "no", now + AGAIN);
        assert_eq!(refusals.counted_at(Duration::ZERO, now + AGAIN).len(), 1, "a node that stops");
    }

    #[test]
    fn ever_new_names_do_not_fill_the_log() {
        let (refusals, mut now) = (Refusals::default(), Instant::now());
        let mut written = 0;
        for stranger in 0..10_000 {
            written += u32::from(refusals.admit_at("a", &stranger.to_string(), "no", now).is_some());
        }
        assert_eq!(written, BURST);
        assert!(refusals.admit_at("b", "1", "no", now).is_some(), "another code has its own");
        now += EVERY;
        let text = refusals.admit_at("a", "one", "no", now).unwrap();
        assert_eq!(text, format!("no ({} more were not logged)", 10_000 - BURST));
        assert!(refusals.admit_at("a", "two", "no", now).is_none());
        for stranger in 0..1000 {
            now += EVERY;
            assert!(refusals.admit_at("a", &format!("again {stranger}"), "no", now).is_some());
        }
        let codes = refusals.codes.lock().unwrap();
        assert_eq!(codes["a"].seen.len(), REMEMBERED);
    }
}
