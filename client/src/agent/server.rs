//! The agent's own side.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use lanyard_crypto::pin::{OFFLINE_SALT_BYTES, OfflineKey, SessionToken, StretchedPin};
use rustix::time::{ClockId, clock_gettime};

use super::wire::{self, Message, Question};
use super::{Mark, Offline, Opened, at_socket};
use crate::files::{self, FileError};
use crate::profile::Profile;

/// How long one who has connected may say nothing.
const QUESTION_TIME_MAX: Duration = Duration::from_millis(500);
/// Wrong PINs that end the offline grace. The node, which counts by itself, is not asked then.
const OFFLINE_TRIES_MAX: u64 = 5;
/// How often the agent looks whether its time is over.
const TICK: Duration = Duration::from_millis(500);

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Another one does.
    #[error("an agent of this profile runs already")]
    Runs,
    /// The profile.
    #[error(transparent)]
    File(#[from] FileError),
    /// The socket cannot be made.
    #[error("{0}: {1}")]
    Socket(std::path::PathBuf, io::Error),
}

/// What the agent keeps.
#[derive(Default)]
struct Kept(Mutex<State>);

#[derive(Default)]
struct State {
    /// And until when, unless it is used.
    opened: Option<(Opened, Duration)>,
    grace: Option<Grace>,
}

/// The offline grace of a PIN that was proved.
struct Grace {
    key: OfflineKey,
    salt: [u8; OFFLINE_SALT_BYTES],
    idle_secs: u64,
    until: Duration,
    tries_left: u64,
}

impl State {
    fn open(&mut self, mut opened: Opened, now: Duration) {
        // The PIN that it goes with is the one in force from now on.
        self.grace = opened.offline.take().and_then(|Offline { secs, salt, pin }| {
            let key = OfflineKey::seal(&opened.key, &pin).ok()?;
            let until = now.saturating_add(Duration::from_secs(secs));
            Some(Grace { key, salt, idle_secs: opened.idle_secs, until, tries_left: OFFLINE_TRIES_MAX })
        });
        let until = now.saturating_add(Duration::from_secs(opened.idle_secs));
        self.opened = Some((opened, until));
    }

    fn open_offline(&mut self, pin: &StretchedPin, now: Duration) -> Message {
        let Some(grace) = self.grace.as_mut().filter(|grace| now < grace.until) else {
            return wire::locked();
        };
        // What the node has opened is over, and it does not know of this.
        let (Some(key), Ok(token)) = (grace.key.open(pin), SessionToken::random()) else {
            grace.tries_left -= 1;
            let left = grace.tries_left;
            if left == 0 {
                self.grace = None;
            }
            return wire::wrong(left);
        };
        grace.tries_left = OFFLINE_TRIES_MAX;
        let idle_secs = grace.idle_secs;
        let opened = Opened { key, token, idle_secs, offline: None };
        self.opened = Some((opened, now.saturating_add(Duration::from_secs(idle_secs))));
        wire::opened(idle_secs)
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what has not been used for too long, and gives out the token, whose session is to end.
    fn expire(&self, now: Duration) -> Option<SessionToken> {
        let mut state = self.lock();
        if state.grace.as_ref().is_some_and(|grace| grace.until <= now) {
            state.grace = None;
        }
        let over = state.opened.as_ref().is_some_and(|(_, until)| *until <= now);
        // The key goes here and now, whatever is done with the token.
        if over { state.opened.take().map(|(opened, _)| opened.token) } else { None }
    }

    fn answer(&self, question: Question, now: Duration) -> Message {
        let mut state = self.lock();
        match question {
            Question::Unlock(opened) => {
                state.open(opened, now);
                wire::done()
            }
            Question::Lock => {
                state.opened = None;
                wire::done()
            }
            Question::Key { by_hand } => match state.opened.as_mut().filter(|(_, until)| now < *until) {
                Some((opened, until)) => {
                    if by_hand {
                        *until = now.saturating_add(Duration::from_secs(opened.idle_secs));
                    }
                    wire::key(opened)
                }
                // What is over goes with the next tick, which ends the session too.
                None => wire::locked(),
            },
            Question::Salt => match state.grace.as_ref().filter(|grace| now < grace.until) {
                Some(grace) => wire::salt(&grace.salt),
                None => wire::locked(),
            },
            Question::Open(pin) => state.open_offline(&pin, now),
            Question::Drop => {
                state.grace = None;
                wire::done()
            }
        }
    }
}

/// Keeps what an unlocked device has, and answers for it, until the process ends or the profile is gone. `forgotten` is given the session's token of what was locked
/// by time alone, and may take its time.
///
/// # Errors
/// [`AgentError`].
pub fn serve(
    profile: &Profile,
    begin: Option<(Opened, Mark)>,
    forgotten: impl Fn(SessionToken) + Send + 'static,
) -> Result<(), AgentError> {
    files::private_dir(profile.dir())?;
    // Held until the process ends, so that a socket which is there is nobody else's.
    let Some(_lock) = files::try_lock(&profile.agent_lock())? else { return Err(AgentError::Runs) };
    let path = profile.agent_socket();
    let failed = |error| AgentError::Socket(path.clone(), error);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let kept = Arc::new(Kept::default());
    let listener = at_socket(&path, |path| UnixListener::bind(path)).map_err(failed)?;
    // A lock from here on comes over the socket; one before has left its mark.
    match begin {
        Some((opened, begun)) if Mark::now(profile)? == begun => {
            kept.answer(Question::Unlock(opened), now());
        }
        Some((opened, _)) => forgotten(opened.token),
        None => {}
    }
    let attending = kept.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // One that breaks off, or says nothing, is its own problem.
            let _ = stream.and_then(|stream| attend(stream, &attending));
        }
    });
    // Nobody can ask any more once the socket is gone, with the profile.
    while path.exists() {
        thread::sleep(TICK);
        if let Some(token) = kept.expire(now()) {
            forgotten(token);
        }
    }
    drop(kept.answer(Question::Lock, now()));
    Ok(())
}

fn attend(mut stream: UnixStream, kept: &Kept) -> io::Result<()> {
    stream.set_read_timeout(Some(QUESTION_TIME_MAX))?;
    stream.set_write_timeout(Some(QUESTION_TIME_MAX))?;
    let mut message = wire::blank();
    // A question is written at once; who sends it in parts would keep others waiting.
    if stream.read(message.as_mut_slice())? != wire::BYTES {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let question = wire::read_question(&message).ok_or(io::ErrorKind::InvalidData)?;
    stream.write_all(kept.answer(question, now()).as_slice())
}

/// Since the machine was started, its sleep included.
fn now() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let secs = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::super::wire::Answer;
    use super::*;

    fn opened() -> Opened {
        Opened {
            key: Box::new(Zeroizing::new([7; 32])),
            token: SessionToken::from_bytes(&[8; 32]),
            idle_secs: 10,
            offline: None,
        }
    }

    fn has(answer: &Answer) -> bool {
        matches!(answer, Answer::Key(opened) if opened.key[..] == [7; 32] && opened.idle_secs == 10)
    }

    #[test]
    fn it_forgets_after_idle_time_which_only_use_by_hand_puts_off() {
        let (kept, at) = (Kept::default(), Duration::from_secs);
        let key =
            |by_hand, secs| wire::read_answer(&kept.answer(Question::Key { by_hand }, at(secs))).unwrap();
        assert!(matches!(key(true, 0), Answer::Locked));
        kept.answer(Question::Unlock(opened()), at(0));
        assert!(has(&key(true, 9)) && kept.expire(at(18)).is_none());
        assert!(has(&key(false, 18)));
        assert!(matches!(key(false, 19), Answer::Locked), "nobody has used it by hand since 9");
        kept.answer(Question::Unlock(opened()), at(20));
        assert!(kept.expire(at(30)).is_some() && kept.expire(at(30)).is_none());
        assert!(matches!(key(true, 30), Answer::Locked));
        kept.answer(Question::Unlock(opened()), at(40));
        kept.answer(Question::Lock, at(40));
        assert!(matches!(key(true, 40), Answer::Locked));
    }

    #[test]
    fn the_offline_grace_ends_by_time_by_wrong_pins_by_refusal_and_by_another_pin() {
        let (kept, at) = (Kept::default(), Duration::from_secs);
        let pin = |byte| StretchedPin::from_bytes(Box::new(Zeroizing::new([byte; 32])));
        let with =
            |byte| Opened { offline: Some(Offline { secs: 100, salt: [3; 16], pin: pin(byte) }), ..opened() };
        let ask = |question, secs| wire::read_answer(&kept.answer(question, at(secs))).unwrap();
        let has_grace = |secs| matches!(ask(Question::Salt, secs), Answer::Salt(salt) if salt == [3; 16]);
        let wrong = |secs, left| matches!(ask(Question::Open(pin(9)), secs), Answer::Wrong(n) if n == left);
        // Without it nothing is kept.
        ask(Question::Unlock(opened()), 0);
        ask(Question::Lock, 0);
        assert!(!has_grace(0) && matches!(ask(Question::Open(pin(1)), 0), Answer::Locked));

        ask(Question::Unlock(with(1)), 0);
        ask(Question::Lock, 0);
        assert!((1..=4).all(|tried| wrong(1, 5 - tried)));
        assert!(
            matches!(ask(Question::Open(pin(1)), 2), Answer::Opened(10)),
            "a right one gives all tries back"
        );
        let found = ask(Question::Key { by_hand: true }, 2);
        assert!(has(&found));
        let Answer::Key(found) = found else { panic!("it was opened") };
        assert!(!found.token.proof().is_of(&opened().token), "its session is over");
        assert!((1..=5).all(|tried| wrong(3, 5 - tried)) && !has_grace(3));
        assert!(matches!(ask(Question::Open(pin(1)), 3), Answer::Locked));

        ask(Question::Unlock(with(1)), 10);
        assert!(has_grace(109) && !has_grace(110));
        kept.expire(at(110));
        assert!(kept.lock().grace.is_none());
        ask(Question::Unlock(with(1)), 200);
        ask(Question::Drop, 200);
        assert!(!has_grace(200));
        ask(Question::Unlock(with(1)), 300);
        ask(Question::Unlock(with(2)), 300);
        assert!(matches!(ask(Question::Open(pin(1)), 300), Answer::Wrong(4)), "the PIN was changed");
        ask(Question::Unlock(opened()), 300);
        assert!(!has_grace(300), "the policy was changed");
    }
}
