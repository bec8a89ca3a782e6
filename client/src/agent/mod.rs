//! The agent: a process of the device's holder that keeps the vault's key while the device is unlocked, and nothing else.
//!
//! Other processes of the same account ask it over a socket in the profile, which nobody else may enter. Locking drops the key and erases
//! it from memory: at once when asked ([`lock`]), and by itself after the policy's idle time, which counts while the machine sleeps, too.
//! What is done by hand counts as use; what a process does that merely stays does not.
//!
//! An unlocking takes a while, and a lock that comes in between is not undone: the lock first changes a file ([`Mark`]), then tells the agent; who
//! unlocks reads that file before anything else, and again after the agent has the key.
//!
//! Messages are of fixed sizes, so that no buffer grows and leaves a copy of a key behind.

mod server;
mod wire;

pub use server::{AgentError, serve};

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lanyard_crypto::pin::{OFFLINE_SALT_BYTES, SessionToken, StretchedPin, VAULT_KEY_BYTES};
use zeroize::Zeroizing;

use crate::files::{self, FileError};
use crate::profile::Profile;
use wire::{Answer, Message, Question};

/// Of a mark, in bytes: random, so that two locks at the same time leave no earlier one.
const MARK_BYTES: usize = 16;
/// An agent answers at once, or not at all.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Paths of sockets are shorter than this (`sun_path` of unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// What an unlocked device has.
pub struct Opened {
    /// The vault's key; it stays where it is until it is erased.
    pub key: Box<Zeroizing<[u8; VAULT_KEY_BYTES]>>,
    /// What the node knows the session by.
    pub token: SessionToken,
    /// After so much time without use, it is locked.
    pub idle_secs: u64,
    /// What the agent begins an offline grace with; none in what it gives out.
    pub offline: Option<Offline>,
}

/// How a device may be unlocked while its node cannot be reached.
pub struct Offline {
    /// For how long, in seconds.
    pub secs: u64,
    /// With this salt.
    pub salt: [u8; OFFLINE_SALT_BYTES],
    /// By this PIN.
    pub pin: StretchedPin,
}

/// What came of an attempt at the offline grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenedOffline {
    /// The device is unlocked, until it was not used for so many seconds.
    Opened(u64),
    /// Another PIN; so many tries are left.
    Wrong(u64),
    /// There is none.
    None,
    /// The device was locked since the unlocking began, and stays so.
    LockedSince,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened { .. }")
    }
}

/// What the agent has, if one runs and the device is unlocked. `by_hand` puts the lock off.
///
/// # Errors
/// The socket's, if an agent runs and does not answer.
pub fn opened(profile: &Profile, by_hand: bool) -> io::Result<Option<Opened>> {
    match ask(profile, &wire::ask_key(by_hand))? {
        Some(Answer::Key(opened)) => Ok(Some(opened)),
        Some(_) | None => Ok(None),
    }
}

/// The salt of the offline grace, if the agent has one.
///
/// # Errors
/// As [`opened`].
pub fn offline_salt(profile: &Profile) -> io::Result<Option<[u8; OFFLINE_SALT_BYTES]>> {
    match ask(profile, &wire::ask_salt())? {
        Some(Answer::Salt(salt)) => Ok(Some(salt)),
        Some(_) | None => Ok(None),
    }
}

/// Unlocks by the offline grace, unless the device was locked since `begun`.
///
/// # Errors
/// As [`unlock`].
pub fn open_offline(profile: &Profile, pin: &StretchedPin, begun: Mark) -> io::Result<OpenedOffline> {
    match ask(profile, &wire::open(pin))? {
        Some(Answer::Wrong(left)) => return Ok(OpenedOffline::Wrong(left)),
        Some(Answer::Opened(idle_secs)) if Mark::now(profile).map_err(io::Error::other)? == begun => {
            return Ok(OpenedOffline::Opened(idle_secs));
        }
        Some(Answer::Opened(_)) => {}
        Some(_) | None => return Ok(OpenedOffline::None),
    }
    ask(profile, &wire::lock())?;
    Ok(OpenedOffline::LockedSince)
}

/// Ends the offline grace: the node has refused.
///
/// # Errors
/// As [`opened`].
pub fn drop_offline(profile: &Profile) -> io::Result<()> {
    ask(profile, &wire::drop_offline()).map(drop)
}

/// What [`lock`] has left when it was last called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark([u8; MARK_BYTES]);

impl Mark {
    /// As it is now.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn now(profile: &Profile) -> Result<Self, FileError> {
        let path = profile.locked_path();
        if !path.exists() {
            return Ok(Self::default());
        }
        // What is of another length is no mark of ours; the next lock writes a whole one.
        let bytes = files::read_private(&path, MARK_BYTES)?;
        Ok(bytes.as_slice().try_into().map(Self).unwrap_or_default())
    }
}

/// What became of a key that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandedOver {
    /// The agent has it.
    Kept,
    /// No agent runs.
    Nobody,
    /// The device was locked since the unlocking began, and stays so.
    LockedSince,
}

/// Hands the key to the agent, if one runs and the device was not locked since `begun`.
///
/// # Errors
/// As [`opened`], or the mark's.
pub fn unlock(profile: &Profile, opened: &Opened, begun: Mark) -> io::Result<HandedOver> {
    if Mark::now(profile).map_err(io::Error::other)? != begun {
        return Ok(HandedOver::LockedSince);
    }
    if ask(profile, &wire::unlock(opened))?.is_none() {
        return Ok(HandedOver::Nobody);
    }
    if Mark::now(profile).map_err(io::Error::other)? == begun {
        return Ok(HandedOver::Kept);
    }
    ask(profile, &wire::lock())?;
    Ok(HandedOver::LockedSince)
}

/// Locks at once; tells whether an agent runs.
///
/// # Errors
/// As [`opened`], or the mark's; the agent has been told all the same.
pub fn lock(profile: &Profile) -> io::Result<bool> {
    let marked = mark(profile);
    let told = ask(profile, &wire::lock())?.is_some();
    marked.map(|()| told)
}

/// Makes known that the device is locked to whoever unlocks it at this moment.
fn mark(profile: &Profile) -> io::Result<()> {
    if !profile.dir().exists() {
        return Ok(());
    }
    let mut mark = [0; MARK_BYTES];
    getrandom::fill(&mut mark).map_err(|_| io::Error::other("the system gives no randomness"))?;
    files::write_private(&profile.locked_path(), &mark).map_err(io::Error::other)
}

/// Whether an agent runs.
pub fn runs(profile: &Profile) -> bool {
    let socket = profile.agent_socket();
    at_socket(&socket, |path| UnixStream::connect(path)).is_ok()
}

/// Writes what an agent begins with, for its standard input.
///
/// # Errors
/// The pipe's.
pub fn write_opened(to: &mut impl Write, opened: &Opened, begun: Mark) -> io::Result<()> {
    to.write_all(&begun.0)?;
    to.write_all(wire::unlock(opened).as_slice())
}

/// Reads what [`write_opened`] has written; none if there is nothing.
///
/// # Errors
/// The pipe's, or that it is something else.
pub fn read_opened(from: &mut impl Read) -> io::Result<Option<(Opened, Mark)>> {
    let (mut mark, mut message) = (Mark::default(), wire::blank());
    match from.read_exact(&mut mark.0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    from.read_exact(message.as_mut_slice())?;
    match wire::read_question(&message) {
        Some(Question::Unlock(opened)) => Ok(Some((opened, mark))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn ask(profile: &Profile, question: &Message) -> io::Result<Option<Answer>> {
    let socket = profile.agent_socket();
    let mut stream = match at_socket(&socket, |path| UnixStream::connect(path)) {
        Ok(stream) => stream,
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    stream.write_all(question.as_slice())?;
    let mut answer = wire::blank();
    stream.read_exact(answer.as_mut_slice())?;
    wire::read_answer(&answer).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Whether no agent listens there: none ever did, or one was ended.
fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Uses a socket by a path that is short enough, however long the profile's is.
fn at_socket<T>(socket: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return work(socket);
    }
    let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = File::open(parent)?;
    work(&PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name))
}

#[cfg(test)]
mod tests;
