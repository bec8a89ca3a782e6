//! The client loop that all systems are driven by: senders, receivers, and what is measured of them.
//!
//! A text says its own number. Senders and receivers are threads of this process, so that one clock measures both ends.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What went wrong in a thread of its own.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Bytes of a text.
pub const TEXT_BYTES: usize = 1024;
/// A receiver that waits looks this often whether the run is over.
const LOOK_AFTER: Duration = Duration::from_millis(250);
/// After so long without any text, what was sent is given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A client that sends.
pub trait Sender: Send {
    /// Sends a text to the receiver, as fast as the protocol lets a client that keeps the order.
    ///
    /// # Errors
    /// What the server says.
    fn send(&mut self, text: &str) -> Result<(), Failure>;
}

/// A client that receives.
pub trait Receiver: Send {
    /// The texts that have arrived, readable; waits for the first of them, for this time at most.
    ///
    /// # Errors
    /// What the server says.
    fn receive(&mut self, patience: Duration) -> Result<Vec<String>, Failure>;
}

/// Two clients at two servers.
pub struct Ends {
    pub sender: Box<dyn Sender>,
    pub receiver: Box<dyn Receiver>,
}

/// What came of an open-loop schedule.
pub struct Paced {
    /// From the planned moment of sending to the text in the receiver's hands, sorted; of what did not arrive, until it was given up.
    pub latencies: Vec<Duration>,
    /// From the call to its return, sorted: what the sender waits for.
    pub sending: Vec<Duration>,
    /// Texts that arrived.
    pub arrived: usize,
}

/// What was sent and has arrived by now.
#[derive(Default)]
struct Under {
    sent: u64,
    arrived: u64,
    is_over: bool,
    failed: bool,
}

/// Shared by the two ends.
#[derive(Default)]
struct Way {
    under: Mutex<Under>,
    changed: Condvar,
}

impl Way {
    fn change<T>(&self, work: impl FnOnce(&mut Under) -> T) -> T {
        let done = work(&mut self.under.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        done
    }

    /// Waits until fewer texts are under way, for a moment at most.
    fn wait(&self, window: u64) -> bool {
        let under = self.under.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |under: &mut Under| under.sent - under.arrived >= window && !under.failed;
        let waited = self.changed.wait_timeout_while(under, LOOK_AFTER, full);
        let (under, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        under.failed || !timeout.timed_out()
    }
}

/// Sends so many texts, each at its planned moment or, if the sender is late, as soon as it can; and receives them.
///
/// # Errors
/// What either end says.
pub fn paced(ends: &mut Ends, count: u64, rate: u64, within: Duration) -> Result<Paced, Failure> {
    let (way, begun) = (Way::default(), Instant::now() + Duration::from_millis(50));
    let planned = |n: u64| begun + Duration::from_nanos(n * 1_000_000_000 / rate);
    let end = planned(count) + within;
    let send = |sender: &mut dyn Sender| {
        let mut sending = Vec::new();
        for n in 0..count {
            thread::sleep(planned(n).saturating_duration_since(Instant::now()));
            let called = Instant::now();
            if called > end || way.change(|under| under.failed) {
                break;
            }
            sender.send(&text(n))?;
            sending.push(called.elapsed());
            way.change(|under| under.sent += 1);
        }
        sending.sort();
        Ok::<_, Failure>(sending)
    };
    let receive = |receiver: &mut dyn Receiver| {
        let mut arrived = vec![None; usize::try_from(count)?];
        let mut missing: BTreeSet<u64> = (0..count).collect();
        while !missing.is_empty() && Instant::now() < end && !way.change(|under| under.failed) {
            let texts = receiver.receive(LOOK_AFTER)?;
            let now = Instant::now();
            for n in texts.iter().filter_map(|text| number(text)) {
                if missing.remove(&n) {
                    arrived[usize::try_from(n)?] = Some(now);
                }
            }
        }
        Ok::<_, Failure>(arrived)
    };
    let (sending, arrived) = both(&way, ends, send, receive)?;
    let late = Instant::now();
    let latency = |(n, at): (u64, &Option<Instant>)| at.unwrap_or(late).saturating_duration_since(planned(n));
    let mut latencies: Vec<_> = (0..).zip(&arrived).map(latency).collect();
    latencies.sort();
    Ok(Paced { latencies, sending, arrived: arrived.iter().flatten().count() })
}

/// Texts a second, of all pairs together: each sends as fast as it can, with at most `window` texts under way, for so long; counted
/// until the last has arrived.
///
/// # Errors
/// What an end says, or that texts got lost.
pub fn sustained(pairs: &mut [Ends], window: u64, time: Duration) -> Result<(f64, u64), Failure> {
    let begun = Instant::now();
    let outcomes: Result<Vec<_>, Failure> = thread::scope(|scope| {
        let all: Vec<_> =
            pairs.iter_mut().map(|ends| scope.spawn(move || flood(ends, window, time))).collect();
        all.into_iter().map(|one| one.join().map_err(|_| "a client has panicked")?).collect()
    });
    let outcomes = outcomes?;
    let count: u64 = outcomes.iter().map(|(count, _)| count).sum();
    let last = outcomes.iter().map(|(_, last)| *last).max().unwrap_or(begun);
    Ok((count as f64 / (last - begun).as_secs_f64(), count))
}

fn flood(ends: &mut Ends, window: u64, time: Duration) -> Result<(u64, Instant), Failure> {
    let (way, begun) = (Way::default(), Instant::now());
    let send = |sender: &mut dyn Sender| {
        let mut n = 0;
        while begun.elapsed() < time && !way.change(|under| under.failed) {
            if way.wait(window) {
                sender.send(&text(n))?;
                n += 1;
                way.change(|under| under.sent += 1);
            }
        }
        way.change(|under| under.is_over = true);
        Ok::<_, Failure>(n)
    };
    let receive = |receiver: &mut dyn Receiver| {
        let (mut last, mut numbers) = (begun, BTreeSet::new());
        loop {
            let texts = receiver.receive(LOOK_AFTER)?;
            if !texts.is_empty() {
                last = Instant::now();
                numbers.extend(texts.iter().filter_map(|text| number(text)));
            }
            let arrived = numbers.len() as u64;
            let (done, failed) = way.change(|under| {
                under.arrived = arrived.min(under.sent);
                (under.is_over && arrived >= under.sent, under.failed)
            });
            if done || failed {
                return Ok::<_, Failure>(last);
            }
            if last.elapsed() > SILENCE_MAX {
                return Err("texts got lost under load".into());
            }
        }
    };
    both(&way, ends, send, receive)
}

/// Runs both ends, each in a thread. What fails ends the other.
fn both<S: Send, R: Send>(
    way: &Way,
    ends: &mut Ends,
    send: impl FnOnce(&mut dyn Sender) -> Result<S, Failure> + Send,
    receive: impl FnOnce(&mut dyn Receiver) -> Result<R, Failure> + Send,
) -> Result<(S, R), Failure> {
    let Ends { sender, receiver } = ends;
    thread::scope(|scope| {
        let told = |outcome: bool| way.change(|under| under.failed |= outcome);
        let sending = scope.spawn(move || {
            let outcome = send(&mut **sender);
            told(outcome.is_err());
            outcome
        });
        let received = receive(&mut **receiver);
        told(received.is_err());
        let sent = sending.join().map_err(|_| "the sender has panicked")?;
        Ok((sent?, received?))
    })
}

/// The text with this number: words, so that nothing in it looks like what identifies a patient.
fn text(n: u64) -> String {
    let letters = format!("{n:08}").bytes().map(|digit| char::from(digit - b'0' + b'a')).collect::<String>();
    let filler = " handed over at the bedside, seen by the ward round, nothing else to report";
    let mut text = letters + &filler.repeat(TEXT_BYTES / filler.len() + 1);
    text.truncate(TEXT_BYTES);
    text
}

/// The number of a text.
fn number(text: &str) -> Option<u64> {
    let mut digits =
        text.get(..8)?.bytes().map(|letter| letter.checked_sub(b'a').filter(|digit| *digit < 10));
    digits.try_fold(0, |number, digit| Some(number * 10 + u64::from(digit?)))
}

/// Of sorted times, the one that so many hundredths are not above, in milliseconds.
pub fn percentile_ms(times: &[Duration], hundredths: usize) -> f64 {
    let at = (times.len() * hundredths / 100).min(times.len().saturating_sub(1));
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    impl Sender for mpsc::Sender<String> {
        fn send(&mut self, text: &str) -> Result<(), Failure> {
            Ok(mpsc::Sender::send(self, text.to_owned())?)
        }
    }

    impl Receiver for mpsc::Receiver<String> {
        fn receive(&mut self, patience: Duration) -> Result<Vec<String>, Failure> {
            Ok(self.recv_timeout(patience).into_iter().collect())
        }
    }

    fn ends() -> Ends {
        let (sender, receiver) = mpsc::channel();
        Ends { sender: Box::new(sender), receiver: Box::new(receiver) }
    }

    #[test]
    fn a_text_has_its_length_and_says_its_number() {
        for n in [0, 7, 12_345_678] {
            assert_eq!((text(n).len(), number(&text(n))), (TEXT_BYTES, Some(n)));
        }
        assert_eq!((number("short"), number("something else")), (None, None));
    }

    #[test]
    fn what_is_sent_is_counted_when_it_arrives() {
        let paced = paced(&mut ends(), 20, 1000, Duration::from_secs(60)).unwrap();
        assert_eq!((paced.arrived, paced.latencies.len(), paced.sending.len()), (20, 20, 20));
        let (rate, count) = sustained(&mut [ends(), ends()], 4, Duration::from_millis(20)).unwrap();
        assert!(rate > 0.0 && count > 0);
    }

    #[test]
    fn what_does_not_arrive_counts_until_it_was_given_up() {
        let (mut ends, other) = (ends(), ends());
        // Both stay there, and nothing passes between them.
        let _unheard = std::mem::replace(&mut ends.receiver, other.receiver);
        let paced = paced(&mut ends, 3, 1000, Duration::from_millis(100)).unwrap();
        assert_eq!(paced.arrived, 0);
        assert!(paced.latencies.iter().all(|latency| *latency >= Duration::from_millis(100)));
    }

    #[test]
    fn an_end_that_fails_ends_the_run() {
        let mut ends = ends();
        let (sender, gone) = mpsc::channel();
        drop(gone);
        ends.sender = Box::new(sender);
        assert!(paced(&mut ends, 3, 1000, Duration::from_secs(60)).is_err());
    }
}
