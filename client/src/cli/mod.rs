//! What can be typed. What it means is in [`crate::commands`].

mod review;
mod safety;

pub use review::{AdminArgs, ReviewArgs};
pub use safety::SafetyArgs;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Messages between clinicians of different trusts: end-to-end encrypted, deleted with evidence.
#[derive(Debug, Parser)]
#[command(name = "lanyard", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Exit codes: 0 done, 1 failed, 2 used wrongly.

Example, from an invitation to the first message:
  lanyard enrol
  lanyard find mira okafor
  lanyard conversation new --title \"Bed 4 transfer\" --class clinical --with \"GMC 7654321\"
  lanyard send \"Bed 4 transfer\" \"Accepted, ready from 14:00\"
  lanyard read --follow")]
pub struct Cli {
    /// The directory with this device's keys and messages [default: $LANYARD_PROFILE, else
    /// $XDG_DATA_HOME/lanyard, else ~/.local/share/lanyard]
    #[arg(long, global = true, value_name = "DIR")]
    pub profile: Option<PathBuf>,
    /// Print JSON instead of text; its fields are in docs/reference/client-commands.md
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this device yours, with the invitation that your trust gave you
    #[command(after_help = "\
The line works once and for a limited time. Keys are made on this device and never leave it.
Asks for a new PIN, without which nothing on this device can be opened: typed twice, or read from
standard input; at least six characters, no repeats, runs, dates, nor what others try first.
If it breaks off, the same line again ends it. If your trust asks you to sign in with its identity
provider as well, the address for your browser is printed.

Example:
  lanyard enrol")]
    Enrol {
        /// The whole line that begins with lanyard1- [default: typed, or the first line of standard input, where no
        /// other user of the machine sees it]
        #[arg(value_name = "LINE")]
        line: Option<String>,
        /// The port of 127.0.0.1 to which your browser comes back, if your trust has one fixed [default: any]
        #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
        sign_in_port: u16,
    },
    /// Show who this device says you are, and for how long
    #[command(after_help = "Example:\n  lanyard whoami --json")]
    Whoami,
    /// Look for people of all trusts in the network
    #[command(after_help = "\
Prints role, registration and trust of each, and what was checked of their certificates. Names that are
like somebody else's are marked: compare before you write.

Example:
  lanyard find okafor cardiology")]
    Find {
        /// Words of the name, role, department, registration or trust; all must match
        #[arg(required = true, value_name = "WORDS")]
        words: Vec<String>,
    },
    /// Begin, list, show and change conversations
    #[command(subcommand)]
    Conversation(ConversationCommand),
    /// Send a message
    #[command(after_help = "\
Stored on this device first: if your trust's node cannot be reached, the next `lanyard sync` sends it.

Examples:
  lanyard send \"Bed 4 transfer\" \"Accepted, ready from 14:00\"
  lanyard send 3f9c \"For today only\" --expires 12h
  lanyard send 3f9c < handover.txt
  lanyard send 3f9c \"Theatre at 14:00\" --confirm \"Mira Okafor@RXH\"")]
    Send(SendArgs),
    /// Show messages, after fetching what is new
    #[command(after_help = "\
Example:
  lanyard read \"Bed 4 transfer\" --follow")]
    Read(ReadArgs),
    /// Delete a message that you sent, or a whole conversation that you administer, at every trust
    #[command(after_help = "\
A whole conversation is deleted up to now, by its administrators from the trust that owns it.
Prints who has confirmed the erasure so far; `lanyard deletion ID` shows it again later.
A receipt proves that a trust's node attested erasure, no more.

Examples:
  lanyard delete 7b1e42 --reason sent-in-error
  lanyard delete --conversation \"Bed 4 transfer\" --all --reason transcribed")]
    Delete {
        /// The id of the message, or its first 6 or more digits, as `lanyard read` shows it
        #[arg(
            value_name = "MESSAGE",
            required_unless_present = "conversation",
            conflicts_with = "conversation"
        )]
        message: Option<String>,
        /// The title of a conversation, its id, or the first 4 or more digits of it; with --all
        #[arg(long, value_name = "CONVERSATION", requires = "all")]
        conversation: Option<String>,
        /// Every message of the conversation up to now
        #[arg(long, requires = "conversation", conflicts_with = "message")]
        all: bool,
        /// Why
        #[arg(long, value_enum)]
        reason: Reason,
    },
    /// Show which replicas and devices have confirmed a deletion
    #[command(after_help = "\
A receipt proves that a trust's node attested erasure, no more.

Example:
  lanyard deletion 5d0c...")]
    Deletion {
        /// The whole id of the deletion, as `lanyard delete` printed it
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Change the PIN without which nothing on this device can be opened
    #[command(subcommand)]
    Pin(PinCommand),
    /// Unlock this device with its PIN
    #[command(after_help = "\
The PIN is typed, or read from standard input; never an argument. Your trust's node checks it and counts
wrong ones: from the fifth on it takes longer, and the tenth destroys what this device keeps.
The device locks itself after your trust's idle time.

Example:
  lanyard unlock")]
    Unlock(UnlockArgs),
    /// Lock this device at once
    #[command(after_help = "Example:\n  lanyard lock")]
    Lock,
    /// Keep what standard input brings until it is locked; for `lanyard unlock`
    #[command(hide = true, after_help = "Example:\n  lanyard agent")]
    Agent,
    /// Show a safety number, to compare with somebody else's
    #[command(after_help = safety::EXAMPLES)]
    Safety(SafetyArgs),
    /// Fetch what is new, and send what waits
    #[command(after_help = "Example:\n  lanyard sync --json")]
    Sync,
}

/// What to do with the PIN.
#[derive(Debug, Subcommand)]
pub enum PinCommand {
    /// Set another PIN, while the device is unlocked; `lanyard enrol` sets the first one
    #[command(after_help = "\
At least six characters; no repeats, runs, dates, nor what others try first. If you forget it, your trust
invites this device anew, and what it kept is gone.

Example:
  lanyard pin set")]
    Set,
}

/// How to unlock.
#[derive(Debug, Args)]
pub struct UnlockArgs {
    /// Do not return: become the process that keeps the device unlocked, and print "new message" when something
    /// comes while it is locked
    #[arg(long)]
    pub stay: bool,
}

/// What to do with conversations.
#[derive(Debug, Subcommand)]
pub enum ConversationCommand {
    /// Begin a conversation
    #[command(after_help = "\
PERSON is a registration (\"GMC 7654321\"), a full name, a full name with its trust
(\"Mira Okafor@RXH\"), or a device as `lanyard find` shows it. It must fit one person alone.

Example:
  lanyard conversation new --title \"Bed 4 transfer\" --class clinical \\
    --with \"GMC 7654321\" --with \"Jo Lund@RTD\"")]
    New {
        /// What it is about, for its members; nodes do not see it
        #[arg(long)]
        title: String,
        /// What it is for; it cannot be changed later
        #[arg(long, value_enum)]
        class: Class,
        /// Whom to invite, with all their devices; may be given several times
        #[arg(long = "with", required = true, value_name = "PERSON")]
        with: Vec<String>,
        /// Who is meant by a name that is like somebody else's
        #[command(flatten)]
        confirm: Confirm,
        /// How long messages live at most: a number and s, m, h or d [default: as long as the network and your
        /// trust allow]
        #[arg(long, value_name = "TIME")]
        retention: Option<String>,
    },
    /// List your conversations
    #[command(after_help = "Example:\n  lanyard conversation list")]
    List,
    /// Show a conversation and its members
    #[command(after_help = "Example:\n  lanyard conversation show \"Bed 4 transfer\"")]
    Show {
        /// Its title, its id, or the first 4 or more digits of it
        #[arg(value_name = "CONVERSATION")]
        conversation: String,
    },
    /// Invite more people
    #[command(after_help = "\
They read what is sent from then on, and nothing from before.

Example:
  lanyard conversation add \"Bed 4 transfer\" --with \"NMC 98I7654E\"")]
    Add {
        /// Its title, its id, or the first 4 or more digits of it
        #[arg(value_name = "CONVERSATION")]
        conversation: String,
        /// Whom to invite, with all their devices; may be given several times
        #[arg(long = "with", required = true, value_name = "PERSON")]
        with: Vec<String>,
        /// Who is meant by a name that is like somebody else's
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Take people out
    #[command(after_help = "\
They keep what they have read; what is sent from then on they cannot read. Lists the messages on
this device that they could have read.

Example:
  lanyard conversation remove \"Bed 4 transfer\" --member \"Jo Lund@RTD\"")]
    Remove {
        /// Its title, its id, or the first 4 or more digits of it
        #[arg(value_name = "CONVERSATION")]
        conversation: String,
        /// Whom to take out, with all their devices; may be given several times
        #[arg(long = "member", required = true, value_name = "PERSON")]
        members: Vec<String>,
    },
    /// Look through the members, and record that
    #[command(after_help = review::EXAMPLES)]
    Review(ReviewArgs),
    /// Make members administrators, or take that from them
    #[command(after_help = review::ADMIN_EXAMPLES)]
    Admin(AdminArgs),
    /// Set how long messages live at most
    #[command(after_help = "\
For the conversation's administrators from the trust that owns it. What is there already ends
sooner too, on every device and at every trust; what has ended does not come back.

Example:
  lanyard conversation retention \"Bed 4 transfer\" 7d")]
    Retention {
        /// Its title, its id, or the first 4 or more digits of it
        #[arg(value_name = "CONVERSATION")]
        conversation: String,
        /// A number and s, m, h or d, such as 7d
        #[arg(value_name = "TIME")]
        time: String,
    },
}

/// What to send.
#[derive(Debug, Args)]
pub struct SendArgs {
    /// The conversation's title, its id, or the first 4 or more digits of it
    #[arg(value_name = "CONVERSATION")]
    pub conversation: String,
    /// What to say; read from standard input if absent
    #[arg(value_name = "TEXT")]
    pub text: Option<String>,
    /// When every trust drops the message, from now: a number and s, m, h or d [default: 30d, or the
    /// conversation's limit]
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
    /// Who is meant by a name that is like somebody else's
    #[command(flatten)]
    pub confirm: Confirm,
    /// Why a text goes to a social conversation although it identifies a patient; kept with the message on
    /// this device, and shown to nobody else
    #[arg(long = "override", value_name = "REASON", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub reason: Option<String>,
}

/// Who is meant where names are alike.
#[derive(Debug, Args)]
pub struct Confirm {
    /// Whom you mean, if the name is like somebody else's: NAME@TRUST or the registration, as the question
    /// says; may be given several times
    #[arg(long, value_name = "PERSON")]
    pub confirm: Vec<String>,
}

/// What to show.
#[derive(Debug, Args)]
pub struct ReadArgs {
    /// The conversation's title, its id, or the first 4 or more digits of it; all conversations if absent
    #[arg(value_name = "CONVERSATION")]
    pub conversation: Option<String>,
    /// Stay, and print each message as it arrives (and each deletion: what was printed before stays on the
    /// screen)
    #[arg(long, conflicts_with = "watch")]
    pub follow: bool,
    /// Stay, and keep the screen up to date: what is deleted or expires disappears from it
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// How many messages of each conversation to show, newest
    #[arg(long, value_name = "NUMBER", default_value_t = 200)]
    pub last: usize,
}

/// What a conversation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Class {
    /// About patients' care
    Clinical,
    /// Rotas, beds, incidents
    Operational,
    /// Anything else
    Social,
}

/// Why a message is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Reason {
    /// What was decided is in the patient's record
    Transcribed,
    /// It should not have been sent
    SentInError,
    /// It went to the wrong people
    WrongRecipient,
    /// It has been kept as long as the trust's policy allows
    PolicyExpired,
    /// The person whom it is about asked for it
    SubjectRequest,
    /// Part of handling an incident
    Incident,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_and_every_command_has_an_example() {
        fn check(command: &clap::Command) {
            let leaf = command.get_subcommands().next().is_none();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(!leaf || help.contains("  lanyard "), "{} has no example", command.get_name());
            command.get_subcommands().for_each(check);
        }
        Cli::command().debug_assert();
        check(&Cli::command());
    }

    #[test]
    fn reasons_and_classes_are_those_of_the_records() {
        let names: Vec<_> = lanyard_crypto::record::Reason::ALL.iter().map(|r| r.name().to_owned()).collect();
        let typed = |v: &Reason| v.to_possible_value().unwrap().get_name().to_owned();
        assert_eq!(Reason::value_variants().iter().map(typed).collect::<Vec<_>>(), names);
        let names: Vec<_> = lanyard_crypto::mls::Class::ALL.iter().map(|c| c.name().to_owned()).collect();
        let typed = |v: &Class| v.to_possible_value().unwrap().get_name().to_owned();
        assert_eq!(Class::value_variants().iter().map(typed).collect::<Vec<_>>(), names);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("lanyard read x --follow --json --profile d").is_ok());
        assert!(parse("lanyard read --follow --watch").is_err());
        assert!(parse("lanyard read --watch --json").is_err());
        assert!(parse("lanyard send x y --override why --confirm a --confirm b").is_ok());
        assert!(parse("lanyard send x y --override").is_err());
        assert!(Cli::try_parse_from(["lanyard", "send", "x", "y", "--override", ""]).is_err());
        assert!(parse("lanyard safety GMC --qr").is_ok());
        assert!(parse("lanyard safety --conversation x").is_ok());
        assert!(parse("lanyard safety").is_err());
        assert!(parse("lanyard safety GMC --conversation x").is_err());
        assert!(parse("lanyard conversation review x").is_ok());
        assert!(parse("lanyard conversation review x --remove a --remove b").is_ok());
        assert!(parse("lanyard conversation review x --remove a b --confirm").is_ok());
        assert!(parse("lanyard conversation admin x").is_err());
        assert!(parse("lanyard conversation admin x --add a --remove b").is_ok());
        assert!(parse("lanyard delete 123456").is_err());
        assert!(parse("lanyard delete 123456 --reason incident").is_ok());
        assert!(parse("lanyard delete --conversation x --all --reason incident").is_ok());
        for wrong in ["", " --conversation x", " --all", " 123456 --conversation x --all", " 123456 --all"] {
            assert!(parse(&format!("lanyard delete{wrong} --reason incident")).is_err(), "{wrong}");
        }
        assert!(parse("lanyard conversation new --title t --class clinical").is_err());
    }
}
