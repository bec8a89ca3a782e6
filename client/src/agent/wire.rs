//! What is said over the agent's socket: messages of fixed sizes, erased from memory after use.
//!
//! Keys are written into and read from places on the heap, and never returned by value: what is moved leaves copies on the stack, which nobody
//! erases.

use lanyard_crypto::pin::{OFFLINE_SALT_BYTES, STRETCHED_BYTES, SessionToken, StretchedPin, VAULT_KEY_BYTES};
use zeroize::Zeroizing;

use super::{Offline, Opened};

/// A message: its kind; a number u64 (idle seconds, or tries left); the key; the token; and of the offline grace its seconds u64, the salt and the
/// stretched PIN.
pub(super) const BYTES: usize = STRETCHED + STRETCHED_BYTES;
const NUMBER: usize = 1;
const THE_KEY: usize = NUMBER + 8;
const TOKEN: usize = THE_KEY + VAULT_KEY_BYTES;
const OFFLINE_SECS: usize = TOKEN + TOKEN_BYTES;
const THE_SALT: usize = OFFLINE_SECS + 8;
const STRETCHED: usize = THE_SALT + OFFLINE_SALT_BYTES;
const TOKEN_BYTES: usize = 32;

const KEY: u8 = 1;
const KEY_BY_HAND: u8 = 2;
const UNLOCK: u8 = 3;
const LOCK: u8 = 4;
const DONE: u8 = 5;
const LOCKED: u8 = 6;
const SALT: u8 = 7;
const OPEN: u8 = 8;
const DROP: u8 = 9;
const WRONG: u8 = 10;
const OPENED: u8 = 11;

/// What the agent is asked.
pub(super) enum Question {
    /// For the key; by hand, or by a process that stays.
    Key { by_hand: bool },
    /// To keep this.
    Unlock(Opened),
    /// To forget it.
    Lock,
    /// For the salt of the offline grace.
    Salt,
    /// To unlock by the offline grace.
    Open(StretchedPin),
    /// To end the offline grace.
    Drop,
}

/// What it says.
pub(super) enum Answer {
    /// What it keeps.
    Key(Opened),
    /// It was done.
    Done,
    /// It keeps nothing.
    Locked,
    /// Of the offline grace.
    Salt([u8; OFFLINE_SALT_BYTES]),
    /// The right PIN: unlocked, until it was not used for so many seconds.
    Opened(u64),
    /// Another PIN; so many tries are left.
    Wrong(u64),
}

pub(super) type Message = Box<Zeroizing<[u8; BYTES]>>;

/// An empty one, to be read into.
pub(super) fn blank() -> Message {
    Box::new(Zeroizing::new([0; BYTES]))
}

/// Asks for the key.
pub(super) fn ask_key(by_hand: bool) -> Message {
    plain(if by_hand { KEY_BY_HAND } else { KEY })
}

/// Asks to keep this.
pub(super) fn unlock(opened: &Opened) -> Message {
    with(UNLOCK, opened)
}

/// Asks to forget it.
pub(super) fn lock() -> Message {
    plain(LOCK)
}

/// Asks for the salt of the offline grace.
pub(super) fn ask_salt() -> Message {
    plain(SALT)
}

/// Asks to unlock by the offline grace.
pub(super) fn open(pin: &StretchedPin) -> Message {
    let mut message = plain(OPEN);
    message[STRETCHED..].copy_from_slice(pin.as_bytes());
    message
}

/// Asks to end the offline grace.
pub(super) fn drop_offline() -> Message {
    plain(DROP)
}

/// Says what is kept.
pub(super) fn key(opened: &Opened) -> Message {
    with(KEY, opened)
}

/// Says that it was done.
pub(super) fn done() -> Message {
    plain(DONE)
}

/// Says that nothing is kept.
pub(super) fn locked() -> Message {
    plain(LOCKED)
}

/// Says the salt of the offline grace.
pub(super) fn salt(salt: &[u8; OFFLINE_SALT_BYTES]) -> Message {
    let mut message = plain(SALT);
    message[THE_SALT..STRETCHED].copy_from_slice(salt);
    message
}

/// Says that the PIN was right.
pub(super) fn opened(idle_secs: u64) -> Message {
    numbered(OPENED, idle_secs)
}

/// Says that the PIN is another one.
pub(super) fn wrong(tries_left: u64) -> Message {
    numbered(WRONG, tries_left)
}

pub(super) fn read_question(message: &Message) -> Option<Question> {
    match message[0] {
        KEY => Some(Question::Key { by_hand: false }),
        KEY_BY_HAND => Some(Question::Key { by_hand: true }),
        UNLOCK => Some(Question::Unlock(opened_in(message))),
        LOCK => Some(Question::Lock),
        SALT => Some(Question::Salt),
        OPEN => Some(Question::Open(stretched_in(message))),
        DROP => Some(Question::Drop),
        _ => None,
    }
}

pub(super) fn read_answer(message: &Message) -> Option<Answer> {
    match message[0] {
        KEY => Some(Answer::Key(opened_in(message))),
        DONE => Some(Answer::Done),
        LOCKED => Some(Answer::Locked),
        SALT => Some(Answer::Salt(salt_in(message))),
        OPENED => Some(Answer::Opened(number_at(message, NUMBER))),
        WRONG => Some(Answer::Wrong(number_at(message, NUMBER))),
        _ => None,
    }
}

fn plain(kind: u8) -> Message {
    let mut message = blank();
    message[0] = kind;
    message
}

fn numbered(kind: u8, number: u64) -> Message {
    let mut message = plain(kind);
    message[NUMBER..THE_KEY].copy_from_slice(&number.to_be_bytes());
    message
}

fn with(kind: u8, opened: &Opened) -> Message {
    let mut message = numbered(kind, opened.idle_secs);
    message[THE_KEY..TOKEN].copy_from_slice(opened.key.as_slice());
    message[TOKEN..OFFLINE_SECS].copy_from_slice(opened.token.to_bytes().as_slice());
    if let Some(Offline { secs, salt, pin }) = &opened.offline {
        message[OFFLINE_SECS..THE_SALT].copy_from_slice(&secs.to_be_bytes());
        message[THE_SALT..STRETCHED].copy_from_slice(salt);
        message[STRETCHED..].copy_from_slice(pin.as_bytes());
    }
    message
}

fn opened_in(message: &Message) -> Opened {
    let mut key = Box::new(Zeroizing::new([0; VAULT_KEY_BYTES]));
    let mut token = Zeroizing::new([0; TOKEN_BYTES]);
    key.copy_from_slice(&message[THE_KEY..TOKEN]);
    token.copy_from_slice(&message[TOKEN..OFFLINE_SECS]);
    let secs = number_at(message, OFFLINE_SECS);
    let offline = (secs > 0).then(|| Offline { secs, salt: salt_in(message), pin: stretched_in(message) });
    let token = SessionToken::from_bytes(&token);
    Opened { key, token, idle_secs: number_at(message, NUMBER), offline }
}

fn number_at(message: &Message, place: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&message[place..place + 8]);
    u64::from_be_bytes(number)
}

fn salt_in(message: &Message) -> [u8; OFFLINE_SALT_BYTES] {
    let mut salt = [0; OFFLINE_SALT_BYTES];
    salt.copy_from_slice(&message[THE_SALT..STRETCHED]);
    salt
}

fn stretched_in(message: &Message) -> StretchedPin {
    let mut stretched = Box::new(Zeroizing::new([0; STRETCHED_BYTES]));
    stretched.copy_from_slice(&message[STRETCHED..]);
    StretchedPin::from_bytes(stretched)
}
