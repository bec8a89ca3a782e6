//! `read`: once, following, or watching.
//!
//! Staying is done by comparing what the vault holds with what was shown, not by counting what a sync
//! brought: another process may have synced in between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lanyard_client::agent;
use lanyard_client::app::view::{MessageView, Messages};
use lanyard_client::app::{App, AppError, Waiter};
use lanyard_client::clock;
use lanyard_client::lines;
use lanyard_client::profile::Profile;
use serde::Serialize;

use super::text::{Text, banner};
use super::{CommandError, Out, open};
use crate::cli::ReadArgs;

/// How long nothing is looked at if nothing is told: expiry shows within this time.
const PATIENCE_SECS_MAX: u64 = 60;
/// After a broken connection; doubled each time, up to the patience above.
const RETRY_SECS_MIN: u64 = 1;
/// How often a process that stays looks whether the device is locked.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// Clears the screen and what was scrolled off it, and goes to its top (ECMA-48; the second is xterm's).
const CLEAR: &str = "\x1b[2J\x1b[3J\x1b[H";

/// What `--follow --json` prints, one line each.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event<'a> {
    /// A message has arrived, was sent, or is known by its id now.
    Message(&'a MessageView),
    /// A message that was shown was deleted, or has expired.
    Gone { local: i64, id: Option<&'a str> },
}

pub(super) fn run(profile: &Profile, args: &ReadArgs, out: &Out) -> Result<(), CommandError> {
    if !args.follow && !args.watch {
        let mut app = open(profile)?;
        let messages = current(&mut app, args, out)?;
        return out.show(&messages);
    }
    // A wrong name is told at once, not after the first connection.
    drop(open(profile)?.messages(args.conversation.as_deref(), 0)?);
    stay(profile, args, out)
}

/// Syncs if the node can be reached, and returns what there is.
fn current(app: &mut App, args: &ReadArgs, out: &Out) -> Result<Messages, CommandError> {
    let synced = match app.sync() {
        Ok(synced) => {
            out.notices(&synced);
            Some(synced)
        }
        Err(AppError::Node(error)) if error.is_passing() => {
            eprintln!(
                "lanyard: {}; shown is what this device has",
                lines::harmless(&error.to_string(), "    ")
            );
            None
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Messages { synced, ..app.messages(args.conversation.as_deref(), args.last)? })
}

fn stay(profile: &Profile, args: &ReadArgs, out: &Out) -> Result<(), CommandError> {
    let mut screen = Screen::default();
    let mut waiter: Option<Waiter> = None;
    let mut retry_secs = RETRY_SECS_MIN;
    loop {
        // Connected before looking, so that nothing arrives between looking and waiting.
        if waiter.is_none() {
            waiter = Waiter::connect(profile).ok();
        }
        let mut app = match App::open_unattended(profile) {
            Err(error @ (AppError::Locked | AppError::Agent(_))) => return Err(hidden(error, args, out)),
            other => other?,
        };
        let messages = match current(&mut app, args, out) {
            Err(CommandError::App(error @ AppError::Locked)) => return Err(hidden(error, args, out)),
            other => other?,
        };
        drop(app);
        // It may have been locked while the node was asked.
        if is_locked(profile) {
            return Err(hidden(AppError::Locked, args, out));
        }
        if args.watch {
            screen.redraw(&messages, out)?
        } else {
            screen.append(&messages, args.last, out)?
        }
        let patience = patience(&messages);
        match &mut waiter {
            Some(stream) => match wait(profile, stream, patience) {
                Ok(_) => retry_secs = RETRY_SECS_MIN,
                Err(_) => waiter = None,
            },
            None => {
                let end = Instant::now() + patience.min(Duration::from_secs(retry_secs));
                while Instant::now() < end && !is_locked(profile) {
                    std::thread::sleep(end.saturating_duration_since(Instant::now()).min(LOOK_AFTER));
                }
                retry_secs = (retry_secs * 2).min(PATIENCE_SECS_MAX);
            }
        }
    }
}

/// Waits for news; not beyond the moment at which the device locks, when nothing may be shown any more.
fn wait(profile: &Profile, stream: &mut Waiter, patience: Duration) -> Result<bool, AppError> {
    let end = Instant::now() + patience;
    loop {
        let rest = end.saturating_duration_since(Instant::now());
        if is_locked(profile) || rest.is_zero() || stream.wait(rest.min(LOOK_AFTER))? {
            return Ok(true);
        }
    }
}

/// What is on the screen goes from it, as far as this program has put it there to be replaced.
fn hidden(why: AppError, args: &ReadArgs, out: &Out) -> CommandError {
    match if args.watch { out.line(CLEAR) } else { Ok(()) } {
        Ok(()) => why.into(),
        Err(error) => error,
    }
}

/// Whether nothing may be shown: no agent says that the PIN was proved.
fn is_locked(profile: &Profile) -> bool {
    !matches!(agent::opened(profile, false), Ok(Some(_)))
}

/// Until the next message expires, and not longer than the bound.
fn patience(messages: &Messages) -> Duration {
    let now = clock::now().as_secs();
    let next = messages.messages.iter().map(|m| m.expires.0.as_secs().saturating_sub(now)).min();
    Duration::from_secs(next.unwrap_or(PATIENCE_SECS_MAX).clamp(1, PATIENCE_SECS_MAX))
}

/// A message as it was last printed.
#[derive(PartialEq, Eq)]
struct Shown {
    conversation: String,
    id: Option<String>,
}

/// What has been shown.
#[derive(Default)]
struct Screen {
    shown: BTreeMap<i64, Shown>,
    drawn: Option<String>,
}

impl Screen {
    fn redraw(&mut self, messages: &Messages, out: &Out) -> Result<(), CommandError> {
        let text = Text(messages).to_string();
        if self.drawn.as_ref() != Some(&text) {
            out.line(&format!("{CLEAR}{text}"))?;
            self.drawn = Some(text);
        }
        Ok(())
    }

    fn append(&mut self, messages: &Messages, last: usize, out: &Out) -> Result<(), CommandError> {
        let Messages { messages, overdue, .. } = messages;
        let told = |message: &MessageView| {
            let overdue = overdue.iter().find(|overdue| overdue.conversation == message.conversation);
            banner(overdue.map(|overdue| &overdue.review), "")
        };
        let is_here = |local: i64| messages.iter().any(|m| m.local == local);
        // What newer messages have pushed out of the list is not gone.
        let is_pushed = |local: i64, shown: &Shown| {
            let listed = messages.iter().filter(|m| m.conversation == shown.conversation);
            listed.clone().count() >= last && listed.into_iter().all(|m| m.local > local)
        };
        let gone = |(local, shown): &(&i64, &Shown)| !is_here(**local) && !is_pushed(**local, shown);
        let gone: Vec<i64> = self.shown.iter().filter(gone).map(|(local, _)| *local).collect();
        for local in gone {
            let id = self.shown.remove(&local).and_then(|shown| shown.id);
            tell_gone(local, id.as_deref(), out)?;
        }
        for message in messages {
            let now = Shown { conversation: message.conversation.clone(), id: message.id.clone() };
            if self.shown.get(&message.local) == Some(&now) {
                continue;
            }
            let is_new = self.shown.insert(message.local, now).is_none();
            if out.json {
                out.json(&Event::Message(message))?;
            } else if is_new {
                let place = format!("[{}] {}", message.class, lines::one_line(&message.title));
                out.line(&format!("{place}{}\n{}", told(message), Text(message)))?;
            }
        }
        Ok(())
    }
}

fn tell_gone(local: i64, id: Option<&str>, out: &Out) -> Result<(), CommandError> {
    if out.json {
        return out.json(&Event::Gone { local, id });
    }
    let name = id.map_or("a message that was never sent", |id| &id[..12]);
    out.line(&format!("{name}: deleted or expired; clear this screen"))
}
