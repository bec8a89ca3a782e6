//! Processes: commands that run to their end, and daemons that run until they are told to end.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{HarnessError, wait};

/// Bound for a command that runs to its end.
const COMMAND_MAX: Duration = Duration::from_secs(60);
/// Bound for a daemon that was asked to end.
const STOP_MAX: Duration = Duration::from_secs(15);
/// How much of a log is quoted in errors.
const LOG_TAIL_BYTES: usize = 3000;

/// The two programs under test.
#[derive(Clone, Debug)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// In the directory that `LANYARD_BIN_DIR` names, or else where Cargo has put this program itself.
    ///
    /// # Errors
    /// [`HarnessError::NotBuilt`] if one of them is not there.
    pub fn find() -> Result<Self, HarnessError> {
        let dir = match std::env::var_os("LANYARD_BIN_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => beside_this_program()?,
        };
        let programs =
            Self { dir: std::path::absolute(&dir).map_err(HarnessError::system(dir.display().to_string()))? };
        for path in [programs.node(), programs.client()] {
            if !path.exists() {
                return Err(HarnessError::NotBuilt(path));
            }
        }
        Ok(programs)
    }

    /// The directory in which they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The program `lanyard-node`.
    pub fn node(&self) -> PathBuf {
        self.dir.join("lanyard-node")
    }

    /// The program `lanyard`.
    pub fn client(&self) -> PathBuf {
        self.dir.join("lanyard")
    }
}

/// Programs are in `target/PROFILE`, tests in `target/PROFILE/deps`.
fn beside_this_program() -> Result<PathBuf, HarnessError> {
    let own = std::env::current_exe().map_err(HarnessError::system("this program's own path"))?;
    let dir = own.parent().unwrap_or(Path::new("."));
    Ok(if dir.ends_with("deps") { dir.parent().unwrap_or(dir).into() } else { dir.into() })
}

/// Where a program runs, if not in the surroundings of the test: with another clock, or on another file system.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    launcher: Vec<OsString>,
}

impl Surroundings {
    /// Those that these words make for the program that stands behind them, as `env` and `nsenter` do. The launcher must become
    /// the program, and not start another process.
    pub fn new<W: Into<OsString>>(launcher: impl IntoIterator<Item = W>) -> Self {
        Self { launcher: launcher.into_iter().map(Into::into).collect() }
    }

    fn command(&self, program: &Path) -> Command {
        match self.launcher.split_first() {
            None => Command::new(program),
            Some((launcher, words)) => {
                let mut command = Command::new(launcher);
                command.args(words).arg(program);
                command
            }
        }
    }
}

/// What a command left.
#[derive(Clone, Debug)]
pub struct Outcome {
    command: String,
    status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Outcome {
    /// The exit code; none if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// It ended with exit code 0.
    ///
    /// # Errors
    /// [`HarnessError::Exit`], with what it said.
    pub fn done(self) -> Result<Self, HarnessError> {
        if self.status.success() { Ok(self) } else { Err(self.exit()) }
    }

    /// It ended with exit code 1; what it said about that.
    ///
    /// # Errors
    /// [`HarnessError::Exit`] if it ended in any other way.
    pub fn refused(self) -> Result<String, HarnessError> {
        if self.code() == Some(1) { Ok(self.stderr) } else { Err(self.exit()) }
    }

    /// It ended with exit code 0 and printed one JSON value.
    ///
    /// # Errors
    /// [`HarnessError::Exit`] or [`HarnessError::Output`].
    pub fn json(self) -> Result<Value, HarnessError> {
        let outcome = self.done()?;
        serde_json::from_str(&outcome.stdout).map_err(|e| outcome.printed_no(&format!("JSON value ({e})")))
    }

    /// The text at `pointer` (RFC 6901) in the JSON value that it printed.
    ///
    /// # Errors
    /// As [`Outcome::json`].
    pub fn json_text(self, pointer: &str) -> Result<String, HarnessError> {
        let value = self.clone().json()?;
        let text = value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        text.ok_or_else(|| self.printed_no(&format!("text at {pointer}")))
    }

    fn printed_no(&self, wanted: &str) -> HarnessError {
        let printed = self.stdout.chars().take(600).collect();
        HarnessError::Output { command: self.command.clone(), wanted: wanted.into(), printed }
    }

    fn exit(self) -> HarnessError {
        let said = if self.stderr.trim().is_empty() { self.stdout } else { self.stderr };
        let code =
            self.status.code().map_or_else(|| self.status.to_string(), |code| format!("exit code {code}"));
        HarnessError::Exit { command: self.command, code, said: said.trim().chars().take(2000).collect() }
    }
}

/// Runs a command to its end, with `input` at its standard input.
///
/// # Errors
/// [`HarnessError::System`] if it cannot be started, [`HarnessError::TimedOut`] if it does not end; it is then killed.
pub fn run<I>(program: &Path, arguments: I, input: Option<&str>) -> Result<Outcome, HarnessError>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    run_under(&Surroundings::default(), program, arguments, input)
}

/// As [`run`], in these surroundings.
///
/// # Errors
/// As [`run`].
pub fn run_under<I>(
    surroundings: &Surroundings,
    program: &Path,
    arguments: I,
    input: Option<&str>,
) -> Result<Outcome, HarnessError>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let words = arguments.iter().map(|a| quoted(&a.to_string_lossy()));
    let command = [name].into_iter().chain(words).collect::<Vec<_>>().join(" ");
    let failed = || HarnessError::system(command.clone());
    let mut child = surroundings
        .command(program)
        .args(&arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed())?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // A command that does not read its input has closed it: what it says of that is in its outcome.
        let _ = pipe.write_all(input.as_bytes());
    }
    let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let ended = wait::until(format!("`{command}` ends"), COMMAND_MAX, || {
        Ok(child.try_wait().map_err(failed())?.ok_or("still running"))
    });
    let status = match ended {
        Ok(status) => status,
        Err(error) => {
            // It may have ended in between, in which case there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    };
    let text = |thread: JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().unwrap_or_default()).into_owned()
    };
    Ok(Outcome { command, status, stdout: text(stdout), stderr: text(stderr) })
}

fn reader(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before a broken pipe is what there is.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

/// As one would type it in a shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// A process that runs until it is told to end; dropped, it is told so.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    kept: bool,
}

impl Daemon {
    /// Starts `program`; what it writes is appended to the file `log`.
    ///
    /// # Errors
    /// [`HarnessError::System`].
    pub fn start(name: &str, program: &Path, arguments: &[&str], log: &Path) -> Result<Self, HarnessError> {
        Self::start_under(&Surroundings::default(), name, program, arguments, log)
    }

    /// As [`Daemon::start`], in these surroundings.
    ///
    /// # Errors
    /// As [`Daemon::start`].
    pub fn start_under(
        surroundings: &Surroundings,
        name: &str,
        program: &Path,
        arguments: &[&str],
        log: &Path,
    ) -> Result<Self, HarnessError> {
        let failed = || HarnessError::system(format!("{} ({name})", program.display()));
        let file = File::options().create(true).append(true).open(log).map_err(failed())?;
        let copy = file.try_clone().map_err(failed())?;
        let mut command = surroundings.command(program);
        command.args(arguments).stdin(Stdio::null()).stdout(file).stderr(copy);
        let child = command.spawn().map_err(failed())?;
        Ok(Self { name: name.into(), child, log: log.into(), kept: false })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// [`HarnessError::Ended`], with the end of its log.
    pub fn check(&mut self) -> Result<(), HarnessError> {
        match self.child.try_wait().map_err(HarnessError::system(self.name.clone()))? {
            None => Ok(()),
            Some(status) => {
                let log = format!("{}\n({status})", self.log_tail());
                Err(HarnessError::Ended { node: self.name.clone(), log })
            }
        }
    }

    /// Stops it by SIGSTOP, as a machine that is suspended would, until [`Daemon::resume`].
    ///
    /// # Errors
    /// [`HarnessError::System`].
    pub fn pause(&self) -> Result<(), HarnessError> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`Daemon::pause`].
    ///
    /// # Errors
    /// [`HarnessError::System`].
    pub fn resume(&self) -> Result<(), HarnessError> {
        self.signal(Signal::CONT)
    }

    /// Waits until it ends by itself, and returns its exit code; none if a signal ended it.
    ///
    /// # Errors
    /// [`HarnessError::TimedOut`] if it does not.
    pub fn await_end(&mut self, within: Duration) -> Result<Option<i32>, HarnessError> {
        wait::until(format!("{} ends by itself", self.name), within, || {
            let ended = self.child.try_wait().map_err(HarnessError::system(self.name.clone()))?;
            Ok(ended.map(|status| status.code()).ok_or("still running"))
        })
    }

    /// Asks it to end by SIGTERM, and waits until it has.
    ///
    /// # Errors
    /// [`HarnessError::TimedOut`] if it does not, [`HarnessError::Exit`] if its exit code is not 0.
    pub fn stop(mut self) -> Result<(), HarnessError> {
        let status = self.terminate()?;
        let code = status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"));
        match status.success() {
            true => Ok(()),
            false => Err(HarnessError::Exit { command: self.name.clone(), code, said: self.log_tail() }),
        }
    }

    /// Ends it by SIGKILL, as a power cut would.
    ///
    /// # Errors
    /// [`HarnessError::System`].
    pub fn kill(mut self) -> Result<(), HarnessError> {
        self.child.kill().map_err(HarnessError::system(self.name.clone()))?;
        self.child.wait().map_err(HarnessError::system(self.name.clone()))?;
        Ok(())
    }

    /// Leaves it running.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    fn terminate(&mut self) -> Result<ExitStatus, HarnessError> {
        let failed = HarnessError::system(self.name.clone());
        if let Some(status) = self.child.try_wait().map_err(failed)? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        // A process that is paused takes no signal but this one.
        self.signal(Signal::CONT)?;
        let end = std::time::Instant::now() + STOP_MAX;
        // An interruption must not cut this wait short: it is how an interrupted run cleans up.
        while std::time::Instant::now() < end {
            if let Some(status) = self.child.try_wait().map_err(HarnessError::system(self.name.clone()))? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        let what = format!("{} ends after SIGTERM", self.name);
        Err(HarnessError::TimedOut { what, within: STOP_MAX, last: self.log_tail() })
    }

    fn signal(&self, signal: Signal) -> Result<(), HarnessError> {
        let sent = kill_process(Pid::from_child(&self.child), signal);
        sent.map_err(|error| HarnessError::system(self.name.clone())(error.into()))
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let start = log.len().saturating_sub(LOG_TAIL_BYTES);
        String::from_utf8_lossy(&log[start..]).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.kept || matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        if self.terminate().is_err() {
            // Nothing more can be done if even this fails.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
