//! The key under which the store's secrets are sealed: where it comes from, and how it is read.
//!
//! A file holds it as 64 hexadecimal digits. A command writes it to its standard output, as these digits or as 32 bytes, with at most one
//! end of line behind them: `systemd-creds`, a TPM's tool, or a vault's. It runs without a shell and without input, for a bounded time,
//! and only so much of its output is read as a key can have. Nothing of that output is logged or shown. What it writes to standard error
//! is shown if it fails, cut, and without whatever could be a key.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use lanyard_crypto::ids::to_hex;
use zeroize::Zeroizing;

use crate::files::{self, FileError};

/// A key, wiped when it is dropped.
pub type StoreKey = Zeroizing<[u8; KEY_BYTES]>;

const KEY_BYTES: usize = 32;
const KEY_DIGITS: usize = 2 * KEY_BYTES;
/// How long the command may take.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether it has ended.
const COMMAND_POLL: Duration = Duration::from_millis(10);
/// The longest output with a key, and one byte more, to notice what is longer.
const OUTPUT_BYTES: usize = KEY_DIGITS + 2;
/// What is kept of the standard error, in bytes.
const ERROR_BYTES: usize = 4096;
/// And shown, in characters.
const ERROR_CHARS: usize = 300;
/// So many letters and digits in a row may be a key.
const KEY_LIKE_CHARS: usize = 20;

/// Where a key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file, for its owner alone.
    File(PathBuf),
    /// A program, by its name or whole path, and its arguments.
    Command(Vec<String>),
}

/// Why there is no key. The fault is the operator's, or the command's.
#[derive(Debug, thiserror::Error)]
pub enum StoreKeyError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// What the file holds is no key.
    #[error("{}: 64 hexadecimal digits are needed", .0.display())]
    Content(PathBuf),
    /// The command does not run.
    #[error("{program}: cannot be run: {reason}")]
    Start {
        /// The program.
        program: String,
        /// The system's words.
        reason: io::Error,
    },
    /// The command failed.
    #[error("{program}: {status}{said}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error, cut.
        said: Said,
    },
    /// The command took too long.
    #[error("{program}: did not end within {} seconds, and was stopped{said}", COMMAND_TIME_MAX.as_secs())]
    Late {
        /// The program.
        program: String,
        /// What it wrote to standard error, cut.
        said: Said,
    },
    /// What the command printed is no key. It is not shown.
    #[error(
        "{program}: printed something else than a key; 32 bytes, or 64 hexadecimal digits, are needed on its standard output{said}"
    )]
    Output {
        /// The program.
        program: String,
        /// What it wrote to standard error, cut.
        said: Said,
    },
    /// No key can be made.
    #[error("no randomness for the store's key: {0}")]
    Randomness(String),
}

/// What a command wrote to standard error.
#[derive(Debug, Default)]
pub struct Said(String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; it said: {}", self.0) }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::File(path) => write!(f, "{}", path.display()),
            KeySource::Command(words) => f.write_str(&words.join(" ")),
        }
    }
}

impl KeySource {
    /// Whether there is something to read: its file, or a command, which is not run for that.
    pub fn is_there(&self) -> bool {
        match self {
            KeySource::File(path) => path.exists(),
            KeySource::Command(_) => true,
        }
    }

    /// Reads the key, which must be there.
    ///
    /// # Errors
    /// [`StoreKeyError`].
    pub fn read(&self) -> Result<StoreKey, StoreKeyError> {
        match self {
            KeySource::File(path) => {
                let text = files::read_secret_text(path)?;
                from_digits(text.trim().as_bytes()).ok_or_else(|| StoreKeyError::Content(path.clone()))
            }
            KeySource::Command(words) => run(words, COMMAND_TIME_MAX),
        }
    }
}

/// Makes a new key, and returns once it is in this file, which must not be there yet.
///
/// # Errors
/// [`StoreKeyError::File`] or [`StoreKeyError::Randomness`].
pub fn make(path: &Path) -> Result<StoreKey, StoreKeyError> {
    let mut key = StoreKey::default();
    getrandom::fill(&mut *key).map_err(|e| StoreKeyError::Randomness(e.to_string()))?;
    files::create(path, Zeroizing::new(to_hex(&*key)).as_bytes(), files::SECRET)?;
    Ok(key)
}

fn run(words: &[String], time_max: Duration) -> Result<StoreKey, StoreKeyError> {
    let program = words.first().cloned().unwrap_or_default();
    let deadline = Instant::now() + time_max;
    let mut command = Command::new(&program);
    command.args(words.iter().skip(1)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|reason| StoreKeyError::Start { program: program.clone(), reason })?;
    let output = child.stdout.take().map(|pipe| read_aside(pipe, Zeroizing::new([0; OUTPUT_BYTES])));
    let error = child.stderr.take().map(|pipe| read_aside(pipe, Zeroizing::new([0; ERROR_BYTES])));
    let status = wait(&mut child, deadline);
    // What it has started may keep its outputs open, and is not waited for.
    let output = output.and_then(|reading| reading.recv_timeout(left(deadline)).ok());
    let error = error.and_then(|reading| reading.recv_timeout(left(deadline)).ok());
    let said = error.map_or_else(Said::default, |(bytes, len)| said(&bytes[..len.min(bytes.len())]));
    match (status, output) {
        (Ok(Some(status)), _) if !status.success() => Err(StoreKeyError::Failed { program, status, said }),
        (Ok(Some(_)), Some((bytes, len))) => {
            let key = bytes.get(..len).and_then(parse);
            key.ok_or(StoreKeyError::Output { program, said })
        }
        (Ok(_), _) => Err(StoreKeyError::Late { program, said }),
        (Err(reason), _) => Err(StoreKeyError::Start { program, reason }),
    }
}

/// Waits until it has ended; stops it at the deadline.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if left(deadline).is_zero() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(COMMAND_POLL);
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

type Pipe<const N: usize> = (Zeroizing<[u8; N]>, usize);

/// Reads a pipe to its end on a thread of its own. What comes beyond the buffer is dropped, and counted.
fn read_aside<const N: usize>(
    mut pipe: impl Read + Send + 'static,
    mut kept: Zeroizing<[u8; N]>,
) -> Receiver<Pipe<N>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut len = 0;
        let mut beyond = Zeroizing::new([0; 512]);
        loop {
            let room = if len < N { &mut kept[len..] } else { &mut beyond[..] };
            match pipe.read(room) {
                Ok(0) => break,
                Ok(count) => len = len.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        // Nobody waits for it any more if it came too late.
        let _ = sender.send((kept, len));
    });
    receiver
}

/// The key in what a command printed.
fn parse(output: &[u8]) -> Option<StoreKey> {
    let line = match output.len() {
        len if len == KEY_BYTES + 1 || len == KEY_DIGITS + 1 => output.strip_suffix(b"\n")?,
        _ => output,
    };
    match <[u8; KEY_BYTES]>::try_from(line) {
        Ok(bytes) => Some(Zeroizing::new(bytes)),
        Err(_) => from_digits(line),
    }
}

fn from_digits(digits: &[u8]) -> Option<StoreKey> {
    if digits.len() != KEY_DIGITS {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut key = StoreKey::default();
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(key)
}

/// One line of what a command wrote to standard error, cut, with runs of letters and digits left out that may be a key.
fn said(bytes: &[u8]) -> Said {
    let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
    let mut shown = String::new();
    let mut run = Zeroizing::new(String::new());
    let end = |run: &mut String, shown: &mut String| {
        shown.push_str(if run.len() < KEY_LIKE_CHARS { run } else { "[…]" });
        run.clear();
    };
    for c in text.trim().chars() {
        if c.is_ascii_alphanumeric() || c == '+' || c == '=' {
            run.push(c);
            continue;
        }
        end(&mut run, &mut shown);
        shown.push(if c.is_control() || c == char::REPLACEMENT_CHARACTER { ' ' } else { c });
    }
    end(&mut run, &mut shown);
    Said(shown.chars().take(ERROR_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn key() -> StoreKey {
        Zeroizing::new(std::array::from_fn(|n| n as u8))
    }

    fn shell(script: &str) -> Result<StoreKey, StoreKeyError> {
        run(&["/bin/sh", "-c", script].map(str::to_owned), Duration::from_secs(60))
    }

    #[test]
    fn a_command_prints_bytes_or_digits_with_or_without_an_end_of_line() {
        let octal: String = key().iter().map(|byte| format!("\\{byte:03o}")).collect();
        for script in [
            format!("printf %s {DIGITS}"),
            format!("echo {}", DIGITS.to_uppercase()),
            format!("printf '{octal}'"),
            format!("printf '{octal}\\n'"),
            format!("echo some warning >&2; echo {DIGITS}"),
        ] {
            assert_eq!(shell(&script).unwrap(), key(), "{script}");
        }
        assert_eq!(parse(&[b'\n'; 32]).unwrap(), Zeroizing::new([b'\n'; 32]), "of a key, not behind one");
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_shown() {
        let short = &DIGITS[..62];
        for script in [
            "true".to_owned(),
            format!("echo {short}"),
            format!("echo {short}xy"),
            format!("echo {DIGITS}; echo"),
            format!("echo {DIGITS}{DIGITS}"),
            "yes | head -c 100000".to_owned(),
            "printf %s 0123456789012345678901234567890123456789".to_owned(),
        ] {
            let error = shell(&script).unwrap_err();
            assert!(matches!(error, StoreKeyError::Output { .. }), "{script}: {error}");
            let text = error.to_string();
            assert!(text.contains("/bin/sh") && text.contains("64 hexadecimal digits"), "{text}");
            assert!(!text.contains(short) && !text.contains("0123456789"), "{text}");
        }
    }

    #[test]
    fn a_command_that_fails_is_quoted_without_what_may_be_a_key() {
        let script =
            format!("echo 'no TPM at /dev/tpmrm0: {DIGITS}' >&2; head -c 9999 /dev/zero >&2; exit 3");
        let text = shell(&script).unwrap_err().to_string();
        assert!(text.contains("exit status: 3") && text.contains("no TPM at /dev/tpmrm0: […]"), "{text}");
        assert!(!text.contains(&DIGITS[..20]) && text.len() < 500, "{text}");
        let missing = run(&["/nowhere/tool".to_owned()], COMMAND_TIME_MAX).unwrap_err().to_string();
        assert!(missing.starts_with("/nowhere/tool: cannot be run: No such file"), "{missing}");
    }

    #[test]
    fn a_command_that_does_not_end_is_stopped() {
        let words = ["/bin/sh", "-c", "exec sleep 600"].map(str::to_owned);
        let error = run(&words, Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, StoreKeyError::Late { .. }), "{error}");
        // It has ended, and something that it started has not.
        let words = ["/bin/sh", "-c", "sleep 5 &"].map(str::to_owned);
        let error = run(&words, Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, StoreKeyError::Late { .. }), "{error}");
    }

    #[test]
    fn there_is_no_input_and_no_shell() {
        assert_eq!(shell(&format!("cat; echo {DIGITS}")).unwrap(), key());
        let words = ["echo", "$HOME"].map(str::to_owned);
        assert!(matches!(run(&words, COMMAND_TIME_MAX), Err(StoreKeyError::Output { .. })));
    }

    #[test]
    fn a_file_holds_digits_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.key");
        let source = KeySource::File(path.clone());
        assert!(matches!(source.read(), Err(StoreKeyError::File(FileError::Read { .. }))));
        let made = make(&path).unwrap();
        assert_eq!(source.read().unwrap(), made);
        assert!(matches!(make(&path), Err(StoreKeyError::File(FileError::Exists { .. }))));
        files::replace(&path, b"\0\x01", files::SECRET).unwrap();
        assert!(source.read().unwrap_err().to_string().ends_with("64 hexadecimal digits are needed"));
    }
}
