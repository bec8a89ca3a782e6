//! What is said over the agent's socket: messages of fixed sizes, erased from memory after use.
//!
//! Keys are written into and read from places on the heap, and never returned by value: what is moved leaves copies on the stack, which nobody
//! erases.

use lanyard_crypto::pin::{SessionToken, VAULT_KEY_BYTES};
use zeroize::Zeroizing;

use super::Opened;

/// A message: its kind, idle seconds u64, the key, the token.
pub(super) const BYTES: usize = 1 + 8 + VAULT_KEY_BYTES + TOKEN_BYTES;
const TOKEN_BYTES: usize = 32;

const KEY: u8 = 1;
const KEY_BY_HAND: u8 = 2;
const UNLOCK: u8 = 3;
const LOCK: u8 = 4;
const DONE: u8 = 5;
const LOCKED: u8 = 6;

/// What the agent is asked.
pub(super) enum Question {
    /// For the key; by hand, or by a process that stays.
    Key { by_hand: bool },
    /// To keep this.
    Unlock(Opened),
    /// To forget it.
    Lock,
}

/// What it says.
pub(super) enum Answer {
    /// What it keeps.
    Key(Opened),
    /// It was done.
    Done,
    /// It keeps nothing.
    Locked,
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

pub(super) fn read_question(message: &Message) -> Option<Question> {
    match message[0] {
        KEY => Some(Question::Key { by_hand: false }),
        KEY_BY_HAND => Some(Question::Key { by_hand: true }),
        UNLOCK => Some(Question::Unlock(opened_in(message))),
        LOCK => Some(Question::Lock),
        _ => None,
    }
}

pub(super) fn read_answer(message: &Message) -> Option<Answer> {
    match message[0] {
        KEY => Some(Answer::Key(opened_in(message))),
        DONE => Some(Answer::Done),
        LOCKED => Some(Answer::Locked),
        _ => None,
    }
}

fn plain(kind: u8) -> Message {
    let mut message = blank();
    message[0] = kind;
    message
}

fn with(kind: u8, opened: &Opened) -> Message {
    let mut message = plain(kind);
    message[1..9].copy_from_slice(&opened.idle_secs.to_be_bytes());
    message[9..9 + VAULT_KEY_BYTES].copy_from_slice(opened.key.as_slice());
    message[9 + VAULT_KEY_BYTES..].copy_from_slice(opened.token.to_bytes().as_slice());
    message
}

fn opened_in(message: &Message) -> Opened {
    let (mut idle_secs, mut key) = ([0; 8], Box::new(Zeroizing::new([0; VAULT_KEY_BYTES])));
    let mut token = Zeroizing::new([0; TOKEN_BYTES]);
    idle_secs.copy_from_slice(&message[1..9]);
    key.copy_from_slice(&message[9..9 + VAULT_KEY_BYTES]);
    token.copy_from_slice(&message[9 + VAULT_KEY_BYTES..]);
    Opened { key, token: SessionToken::from_bytes(&token), idle_secs: u64::from_be_bytes(idle_secs) }
}
