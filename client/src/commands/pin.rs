//! `enrol`, `pin`, `unlock`, `lock` and the agent: what must not be seen is typed or piped, never an argument.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lanyard_client::agent::{self, AgentError, HandedOver, Mark, Opened};
use lanyard_client::app::{App, AppError, Waiter};
use lanyard_client::clock::readable_secs;
use lanyard_client::enrol;
use lanyard_client::pin::{self, PinError, Unlocked};
use lanyard_client::profile::Profile;
use lanyard_client::sign_in::SignIn;
use lanyard_client::wipe;
use lanyard_crypto::pin::{Pin, PinRefused};
use serde::Serialize;
use zeroize::Zeroizing;

use super::text::Text;
use super::{CommandError, Out};
use crate::cli::{PinCommand, UnlockArgs};

/// A line on standard input, a PIN or an invitation, in bytes.
const INPUT_BYTES_MAX: usize = 2048;
/// Until an agent that was started answers.
const START_TIME_MAX: Duration = Duration::from_secs(10);
const START_PAUSE: Duration = Duration::from_millis(20);
/// How long one wait for news lasts, and the pause after the node could not be reached.
const NEWS_TIME_MAX: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(10);
/// The same after a stream has ended.
const AGAIN: Duration = Duration::from_secs(1);

/// What is shown of it.
#[derive(Serialize)]
pub(super) struct State {
    /// Whether the device is unlocked now.
    pub(super) unlocked: bool,
    /// After how much idle time it locks itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idle_secs: Option<u64>,
    /// Attempts at the PIN that have failed since it was last proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failed: Option<u32>,
}

impl std::fmt::Display for Text<'_, State> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.idle_secs {
            Some(idle_secs) => {
                write!(f, "unlocked; locks itself after {} without use", readable_secs(idle_secs))
            }
            None => write!(f, "locked"),
        }
    }
}

/// Enrols the device, with the PIN that it is locked by from the first. An invitation that was not given is typed.
pub(super) fn enrol(
    profile: &Profile,
    line: Option<String>,
    sign_in: &SignIn<'_>,
    out: &Out,
) -> Result<(), CommandError> {
    let line = &match line {
        Some(line) => Zeroizing::new(line),
        // What is no text is no invitation either, and is refused as such.
        None => typed("the line that begins with lanyard1-: ")?.unwrap_or_default(),
    };
    // Before a PIN is typed for nothing.
    enrol::check_line(profile, line).map_err(AppError::from)?;
    let pin = chosen()?;
    let begun = Mark::now(profile).map_err(AppError::from)?;
    let (app, opened) = App::enrol(profile, line, pin, Some(sign_in))?;
    let whoami = app.whoami()?;
    drop(app);
    keep(profile, opened, begun)?;
    out.show(&whoami)
}

pub(super) fn pin(profile: &Profile, command: &PinCommand, out: &Out) -> Result<(), CommandError> {
    let PinCommand::Set = command;
    let pin = chosen()?;
    let begun = Mark::now(profile).map_err(AppError::from)?;
    let opened = pin::set(profile, pin).map_err(AppError::from)?;
    unlocked(profile, opened, begun, None, false, out)
}

/// A new PIN, typed twice on a terminal.
fn chosen() -> Result<Pin, CommandError> {
    let first = typed_pin("new PIN: ")?;
    let pin = Pin::chosen(&first).map_err(CommandError::Pin)?;
    if io::stdin().is_terminal() && *typed_pin("the same again: ")? != *first {
        return Err(CommandError::OtherPin);
    }
    Ok(pin)
}

pub(super) fn unlock(profile: &Profile, args: &UnlockArgs, out: &Out) -> Result<(), CommandError> {
    if args.stay && agent::runs(profile) {
        return Err(CommandError::Agent(AgentError::Runs));
    }
    let pin = Pin::typed(&typed_pin("PIN: ")?).map_err(CommandError::Pin)?;
    let begun = Mark::now(profile).map_err(AppError::from)?;
    let (opened, failed) = match pin::unlock(profile, pin, begun).map_err(AppError::from)? {
        Unlocked::ByNode(opened, failed) => (opened, failed),
        Unlocked::Offline(idle_secs) => {
            eprintln!(
                "lanyard: your trust's node cannot be reached; shown is what this device has, and what you send waits. Run lanyard unlock \
                 again once it can be"
            );
            let idle_secs = Some(idle_secs);
            return out.show(&State { unlocked: true, idle_secs, failed: None });
        }
    };
    if failed > 0 {
        eprintln!(
            "lanyard: {failed} attempts at this device's PIN have failed since you last typed it; if they were not yours, tell your trust"
        );
    }
    unlocked(profile, opened, begun, Some(failed), args.stay, out)
}

pub(super) fn lock(profile: &Profile, out: &Out) -> Result<(), CommandError> {
    // An agent that does not say what it has is to forget it all the same.
    let token = agent::opened(profile, false).ok().flatten().map(|opened| opened.token);
    agent::lock(profile).map_err(AppError::Agent)?;
    if let Some(token) = token {
        pin::end_session(profile, token);
    }
    out.show(&State { unlocked: false, idle_secs: None, failed: None })
}

/// Becomes the process that keeps what standard input brings.
pub(super) fn agent(profile: &Profile) -> Result<(), CommandError> {
    let begin = agent::read_opened(&mut unbuffered_input()?).map_err(CommandError::Input)?;
    let (ended, told) = (profile.clone(), profile.clone());
    thread::spawn(move || tell_of_news(&told));
    let forgotten = move |token| pin::end_session(&ended, token);
    agent::serve(profile, begin, forgotten).map_err(CommandError::Agent)
}

/// While the device is locked, it is said that something has come, and nothing of it.
fn tell_of_news(profile: &Profile) {
    // Where the inbox stood when it was last heard of, also over connections that broke.
    let mut last = None;
    loop {
        let mut waiter = match Waiter::connect(profile) {
            Ok(waiter) => waiter,
            Err(error) => {
                end_if_wiped(profile, &error);
                thread::sleep(RETRY);
                continue;
            }
        };
        while let Ok(position) = waiter.position(NEWS_TIME_MAX) {
            let Some(position) = position else { continue };
            let is_news = last.replace(position).is_some_and(|last| position > last);
            if is_news && matches!(agent::opened(profile, false), Ok(None)) {
                // Nobody may be there to read it.
                let _ = writeln!(io::stdout(), "new message");
            }
        }
        // A node that ends streams as soon as they begin is not asked again at once.
        thread::sleep(AGAIN);
    }
}

/// A device that was revoked is wiped while nobody looks, too, and has nothing left for an agent to keep.
fn end_if_wiped(profile: &Profile, error: &AppError) {
    let wiped = error.may_be_revocation().then(|| wipe::look(profile));
    match wiped {
        Some(Ok(Some(wiped))) => {
            eprintln!("lanyard: {wiped}");
            // Whoever comes next finds nobody there, with the socket or without.
            let _ = std::fs::remove_file(profile.agent_socket());
            std::process::exit(1);
        }
        Some(Err(error)) if error.is_unfinished() => eprintln!("lanyard: {error}"),
        _ => {}
    }
}

/// Hands what was opened to the agent, starting one or becoming it.
fn unlocked(
    profile: &Profile,
    opened: Opened,
    begun: Mark,
    failed: Option<u32>,
    stay: bool,
    out: &Out,
) -> Result<(), CommandError> {
    let state = State { unlocked: true, idle_secs: Some(opened.idle_secs), failed };
    if stay {
        let (reader, mut writer) = io::pipe().map_err(CommandError::Start)?;
        agent::write_opened(&mut writer, &opened, begun).map_err(CommandError::Start)?;
        drop((writer, opened));
        out.show(&state)?;
        // In place of this process, whose memory has seen the PIN.
        return Err(CommandError::Start(agent_of(profile)?.stdin(Stdio::from(reader)).exec()));
    }
    keep(profile, opened, begun)?;
    out.show(&state)
}

/// Hands what was opened to the agent, starting one, unless the device was locked since the unlocking had `begun`.
fn keep(profile: &Profile, opened: Opened, begun: Mark) -> Result<(), CommandError> {
    let hand_over = || agent::unlock(profile, &opened, begun).map_err(AppError::Agent);
    let mut handed = hand_over()?;
    if handed == HandedOver::Nobody {
        let mut command = agent_of(profile)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.process_group(0).spawn().map_err(CommandError::Start)?;
    }
    let end = Instant::now() + START_TIME_MAX;
    // Whichever agent runs then: another command may have started one at the same time.
    while handed == HandedOver::Nobody {
        if Instant::now() > end {
            return Err(CommandError::Start(io::ErrorKind::TimedOut.into()));
        }
        thread::sleep(START_PAUSE);
        handed = hand_over()?;
    }
    if handed == HandedOver::LockedSince {
        pin::end_session(profile, opened.token);
        return Err(AppError::Pin(PinError::LockedSince).into());
    }
    Ok(())
}

fn agent_of(profile: &Profile) -> Result<Command, CommandError> {
    let mut command = Command::new(std::env::current_exe().map_err(CommandError::Start)?);
    command.arg("--profile").arg(profile.dir()).arg("agent");
    Ok(command)
}

fn typed_pin(prompt: &str) -> Result<Zeroizing<String>, CommandError> {
    typed(prompt)?.ok_or(CommandError::Pin(PinRefused::Length))
}

/// A line from the terminal, without showing it, or else from standard input; none if it is too long, or no text.
fn typed(prompt: &str) -> Result<Option<Zeroizing<String>>, CommandError> {
    if io::stdin().is_terminal() {
        let line = rpassword::prompt_password(prompt).map_err(CommandError::Input)?;
        return Ok(Some(Zeroizing::new(line)).filter(|line| line.len() <= INPUT_BYTES_MAX));
    }
    // One byte at a time and without a buffer of standard input's: what follows the line is not ours.
    let (mut line, mut byte) = (Zeroizing::new(Vec::with_capacity(INPUT_BYTES_MAX)), Zeroizing::new([0; 1]));
    let mut input = unbuffered_input()?;
    while input.read(&mut *byte).map_err(CommandError::Input)? == 1 && byte[0] != b'\n' {
        if line.len() == INPUT_BYTES_MAX {
            return Ok(None);
        }
        line.push(byte[0]);
    }
    let text = std::str::from_utf8(&line).ok();
    Ok(text.map(|text| Zeroizing::new(text.trim_end_matches('\r').to_owned())))
}

/// Standard input without the buffer that would keep a copy of what was read.
fn unbuffered_input() -> Result<File, CommandError> {
    io::stdin().as_fd().try_clone_to_owned().map(File::from).map_err(CommandError::Input)
}
