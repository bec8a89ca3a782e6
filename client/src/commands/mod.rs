//! What each command means: from what was typed to what is printed.

mod confirm;
mod pin;
mod read;
mod safety;
mod text;

use std::fmt::Display;
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;

use lanyard_client::agent::AgentError;
use lanyard_client::app::view::{SentMessage, Synced};
use lanyard_client::app::{App, AppError};
use lanyard_client::clock::{self, NotADuration};
use lanyard_client::profile::Profile;
use lanyard_client::session::content::TEXT_BYTES_MAX;
use lanyard_client::sign_in::SignIn;
use lanyard_client::wipe::{self, WipeError, Wiped};
use lanyard_crypto::RecordId;
use lanyard_crypto::gateway::SIGN_IN_SECS_MAX;
use lanyard_crypto::ids::IdError;
use lanyard_crypto::pin::PinRefused;
use lanyard_crypto::{mls, record};
use serde::Serialize;
use text::Text;

use crate::cli::{AdminArgs, Class, Cli, Command, ConversationCommand, Reason, ReviewArgs, SendArgs};

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// What it asked for was not done.
    #[error(transparent)]
    App(#[from] AppError),
    /// Not a duration.
    #[error("--expires: {0}")]
    Duration(#[from] NotADuration),
    /// Not a duration either.
    #[error("how long messages live: {0}")]
    Retention(NotADuration),
    /// Not an id.
    #[error("{0}: give the whole id that `lanyard delete` printed")]
    Id(#[from] IdError),
    /// Nothing can be read.
    #[error("standard input cannot be read as text: {0}")]
    Input(std::io::Error),
    /// Longer than a message may be.
    #[error("the text is longer than the {TEXT_BYTES_MAX} bytes that one message holds: send it in parts")]
    LongInput,
    /// Not a PIN that can be set.
    #[error("{0}")]
    Pin(PinRefused),
    /// Typed twice, and not the same.
    #[error("these are two different PINs; try again")]
    OtherPin,
    /// The agent.
    #[error("{0}")]
    Agent(AgentError),
    /// The agent cannot be started.
    #[error("the process that keeps this device unlocked cannot be started: {0}")]
    Start(std::io::Error),
    /// Asked, the holder meant somebody else.
    #[error("nothing was done")]
    Declined,
    /// The device was revoked, and what it kept is gone.
    #[error("{0}")]
    Wiped(Wiped),
    /// It is to be, and that is not done.
    #[error(transparent)]
    Wipe(#[from] WipeError),
    /// Nobody reads the output any more.
    #[error("the output cannot be written: {0}")]
    Output(std::io::Error),
}

impl CommandError {
    /// As it may be printed: others' words that it quotes cannot drive the terminal, and have no line of their own at its
    /// beginning.
    pub fn told(&self) -> String {
        text::harmless(&self.to_string(), "    ")
    }

    /// The program's exit code: 1 failed, 2 used wrongly.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::App(error) if error.is_usage() => 2,
            Self::Duration(_)
            | Self::Retention(_)
            | Self::Id(_)
            | Self::LongInput
            | Self::Pin(_)
            | Self::OtherPin => 2,
            Self::App(_)
            | Self::Input(_)
            | Self::Declined
            | Self::Wiped(_)
            | Self::Wipe(_)
            | Self::Output(_)
            | Self::Agent(_)
            | Self::Start(_) => 1,
        }
    }
}

/// Carries out what was typed.
///
/// # Errors
/// [`CommandError`], for the person to read.
pub fn run(cli: Cli) -> Result<(), CommandError> {
    let profile = profile(cli.profile)?;
    // Nothing stands before a lock.
    if !matches!(cli.command, Command::Lock) {
        wipe::go_on(&profile)?;
    }
    match carry_out(&profile, cli.command, &Out { json: cli.json }) {
        Err(CommandError::App(error)) if error.may_be_revocation() => Err(wiped_or(&profile, error)),
        other => other,
    }
}

/// What became of a device that its node does not accept: if it was revoked, that is carried out, and said.
fn wiped_or(profile: &Profile, error: AppError) -> CommandError {
    match wipe::look(profile) {
        Ok(Some(wiped)) => CommandError::Wiped(wiped),
        Err(failed) if failed.is_unfinished() => failed.into(),
        // The node cannot be asked, or does not say so: nothing is known but what went wrong.
        Ok(None) | Err(_) => error.into(),
    }
}

fn enrol(
    profile: &Profile,
    line: Option<String>,
    sign_in: &SignIn<'_>,
    out: &Out,
) -> Result<(), CommandError> {
    // What stands in the way may be a device that was revoked since it was used last.
    if profile.load().is_ok()
        && let Err(error) = wipe::look(profile)
        && error.is_unfinished()
    {
        return Err(error.into());
    }
    pin::enrol(profile, line, sign_in, out)?;
    Ok(wipe::forget(profile).map_err(AppError::from)?)
}

fn carry_out(profile: &Profile, command: Command, out: &Out) -> Result<(), CommandError> {
    match command {
        Command::Enrol { line, sign_in_port } => {
            let sign_in = SignIn { port: sign_in_port, show: &sign_in_at };
            enrol(profile, line, &sign_in, out)
        }
        Command::Whoami => out.show(&open(profile)?.whoami()?),
        Command::Find { words } => out.show(&open(profile)?.find(&words.join(" "))?),
        Command::Conversation(command) => conversation(profile, command, out),
        Command::Send(args) => send(profile, &args, out),
        Command::Read(args) => read::run(profile, &args, out),
        Command::Delete { message, conversation, reason, .. } => {
            let (mut app, reason) = (open(profile)?, reason_of(reason));
            let deleted = match (message, conversation) {
                (_, Some(conversation)) => app.delete_all(&conversation, reason)?,
                (message, None) => app.delete(&message.unwrap_or_default(), reason)?,
            };
            out.show(&deleted)
        }
        Command::Deletion { id } => {
            let id: RecordId = id.trim().parse()?;
            out.show(&open(profile)?.deletion(&id)?)
        }
        Command::Pin(command) => pin::pin(profile, &command, out),
        Command::Unlock(args) => pin::unlock(profile, &args, out),
        Command::Lock => pin::lock(profile, out),
        Command::Agent => pin::agent(profile),
        Command::Safety(args) => safety::run(profile, &args, out),
        Command::Sync => out.show(&open(profile)?.sync()?),
    }
}

fn conversation(profile: &Profile, command: ConversationCommand, out: &Out) -> Result<(), CommandError> {
    match command {
        ConversationCommand::New { title, class, with, confirm, retention } => {
            let retention_secs = retention.as_deref().map(clock::duration_secs).transpose();
            let retention_secs = retention_secs.map_err(CommandError::Retention)?;
            let new = |app: &mut App| app.new_conversation(&title, class_of(class), &with, retention_secs);
            out.show(&confirm::telling_apart(profile, &confirm, out, new)?)
        }
        ConversationCommand::List => out.show(&open(profile)?.conversations()?),
        ConversationCommand::Show { conversation } => out.show(&open(profile)?.conversation(&conversation)?),
        ConversationCommand::Add { conversation, with, confirm } => {
            let add = |app: &mut App| app.add_members(&conversation, &with);
            out.show(&confirm::telling_apart(profile, &confirm, out, add)?)
        }
        ConversationCommand::Remove { conversation, members } => {
            out.show(&open(profile)?.remove_members(&conversation, &members)?)
        }
        ConversationCommand::Review(ReviewArgs { conversation, confirm, remove }) => {
            let mut app = open(profile)?;
            // What came since is among what is looked through; without the node, what is here is shown.
            match app.sync() {
                Err(AppError::Node(error)) if error.is_passing() => {}
                synced => out.notices(&synced?),
            }
            out.show(&match confirm || !remove.is_empty() {
                true => app.confirm_review(&conversation, &remove)?,
                false => app.review(&conversation)?,
            })
        }
        ConversationCommand::Admin(AdminArgs { conversation, add, remove }) => {
            out.show(&open(profile)?.set_admins(&conversation, &add, &remove)?)
        }
        ConversationCommand::Retention { conversation, time } => {
            let secs = clock::duration_secs(&time).map_err(CommandError::Retention)?;
            out.show(&open(profile)?.set_retention(&conversation, secs)?)
        }
    }
}

fn send(profile: &Profile, args: &SendArgs, out: &Out) -> Result<(), CommandError> {
    let life_secs = args.expires.as_deref().map(clock::duration_secs).transpose()?;
    let text = match &args.text {
        Some(text) => text.clone(),
        None => standard_input()?,
    };
    if text.len() > TEXT_BYTES_MAX {
        return Err(CommandError::LongInput);
    }
    // Opened after the input has ended: others can use the profile while it is typed.
    let reason = args.reason.as_deref();
    let send = |app: &mut App| app.send_overriding(&args.conversation, &text, life_secs, reason);
    let sent = SentMessage(confirm::telling_apart(profile, &args.confirm, out, send)?);
    if let Some(reminder) = &sent.0.reminder {
        eprintln!("lanyard: {}", text::one_line(reminder));
    }
    out.show(&sent)
}

/// Standard output is for what was asked for. No browser is started: its arguments would show others on this machine where.
fn sign_in_at(url: &str) {
    eprintln!(
        "Your trust asks you to sign in with its identity provider. Open this in a browser on this device:\n\n{url}\n\n\
         lanyard waits for it for {} minutes.",
        SIGN_IN_SECS_MAX / 60
    );
}

fn standard_input() -> Result<String, CommandError> {
    let mut input = std::io::stdin().lock();
    if input.is_terminal() {
        eprintln!("type the message, then Ctrl-D on a line of its own");
    }
    let mut text = String::new();
    input.by_ref().take(TEXT_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(CommandError::Input)?;
    Ok(text)
}

fn profile(given: Option<PathBuf>) -> Result<Profile, CommandError> {
    let by_default = || Profile::by_default(|name| std::env::var_os(name).map(PathBuf::from));
    Ok(given.map_or_else(by_default, |dir| Ok(Profile::at(dir))).map_err(AppError::from)?)
}

fn open(profile: &Profile) -> Result<App, CommandError> {
    Ok(App::open(profile)?)
}

fn class_of(class: Class) -> mls::Class {
    match class {
        Class::Clinical => mls::Class::Clinical,
        Class::Operational => mls::Class::Operational,
        Class::Social => mls::Class::Social,
    }
}

fn reason_of(reason: Reason) -> record::Reason {
    match reason {
        Reason::Transcribed => record::Reason::Transcribed,
        Reason::SentInError => record::Reason::SentInError,
        Reason::WrongRecipient => record::Reason::WrongRecipient,
        Reason::PolicyExpired => record::Reason::PolicyExpired,
        Reason::SubjectRequest => record::Reason::SubjectRequest,
        Reason::Incident => record::Reason::Incident,
    }
}

/// Where results go: standard output, as text or as one line of JSON each.
struct Out {
    json: bool,
}

impl Out {
    fn show<T: Serialize>(&self, view: &T) -> Result<(), CommandError>
    where
        for<'a> Text<'a, T>: Display,
    {
        if self.json { self.json(view) } else { self.line(&Text(view).to_string()) }
    }

    fn json<T: Serialize>(&self, view: &T) -> Result<(), CommandError> {
        self.line(&serde_json::to_string(view).expect("views are texts, numbers and lists of them"))
    }

    fn line(&self, line: &str) -> Result<(), CommandError> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(CommandError::Output)
    }

    /// What the person should know beside what was asked for, on standard error.
    fn notices(&self, synced: &Synced) {
        for notice in synced.notices.iter().chain(&synced.refused) {
            eprintln!("lanyard: {}", text::harmless(notice, "    "));
        }
    }
}
