//! Processes whose memory and time are taken, from outside.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

const KIB: f64 = 1024.0;
/// Between two looks at a process that runs to its end.
const LOOK: Duration = Duration::from_micros(200);
/// Between two looks at one that stays, and how many of them must be alike.
const PAUSE: Duration = Duration::from_millis(200);
const ALIKE: usize = 5;
/// Which differ by so much at most, as a share.
const ALIKE_WITHIN: f64 = 0.01;
/// After which it counts as it is.
const SETTLED_MAX: Duration = Duration::from_secs(10);

/// A process: from its start until it was ready, or until its end; and what it had in memory then, or at most.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub seconds: f64,
    pub kib: f64,
}

/// The median of each.
pub fn median(all: &[Measured]) -> Measured {
    let middle = |of: fn(&Measured) -> f64| {
        let mut sorted: Vec<_> = all.iter().map(of).collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Measured { seconds: middle(|m| m.seconds), kib: middle(|m| m.kib) }
}

/// Runs a command to its end; what it prints is dropped.
pub fn run_to_end(command: &mut Command) -> Result<Measured, Box<dyn Error>> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let (id, ended) = (child.id(), AtomicBool::new(false));
    let (status, seconds, kib) = thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut peak = 0.0_f64;
            while !ended.load(Ordering::Relaxed) {
                peak = peak.max(of_status(id, "VmHWM:").unwrap_or(0.0));
                thread::sleep(LOOK);
            }
            peak
        });
        let status = child.wait();
        let seconds = begun.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        (status, seconds, watching.join().unwrap_or(f64::NAN))
    });
    match status? {
        status if status.success() => Ok(Measured { seconds, kib }),
        status => Err(format!("{command:?} ended with {status}").into()),
    }
}

/// What a process has in memory, in KiB, once that stays as it is.
pub fn settled(id: u32) -> Result<f64, Box<dyn Error>> {
    let begun = Instant::now();
    let mut seen = Vec::new();
    loop {
        let now = of_status(id, "VmRSS:").ok_or("the process has ended")?;
        seen.push(now);
        let last = &seen[seen.len().saturating_sub(ALIKE)..];
        let alike = last.iter().all(|before| (before - now).abs() <= now * ALIKE_WITHIN);
        if (alike && last.len() == ALIKE) || begun.elapsed() > SETTLED_MAX {
            return Ok(now);
        }
        thread::sleep(PAUSE);
    }
}

/// A line of a process's status, in KiB; none if it has ended.
fn of_status(id: u32, name: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// This program again, which does one thing alone ([`super::alone`]) and stays until this is dropped.
pub struct Alone {
    child: Child,
    stdin: Option<ChildStdin>,
    /// From its start until it was ready.
    pub seconds: f64,
    /// What it said then.
    pub said: String,
}

impl Alone {
    pub fn start(what: &Value) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("alone").stdin(Stdio::piped()).stdout(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().ok_or("no standard input")?;
        writeln!(stdin, "{what}")?;
        let mut said = String::new();
        BufReader::new(child.stdout.take().ok_or("no standard output")?).read_line(&mut said)?;
        let seconds = begun.elapsed().as_secs_f64();
        let alone = Self { child, stdin: Some(stdin), seconds, said: said.trim().to_owned() };
        if alone.said.is_empty() { Err("what was to be done alone has failed".into()) } else { Ok(alone) }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It ends by itself once its input has; how does not matter any more.
        let _ = self.child.wait();
    }
}

/// Lets this process, and those that it starts, have so many open files, if the system allows that; how many they may have.
pub fn open_files(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let (now, most) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if now >= wanted {
        return now;
    }
    let current = wanted.min(most);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    if raised.is_ok() { current } else { now }
}

pub fn mib(kib: f64) -> f64 {
    (kib / KIB * 10.0).round() / 10.0
}

pub fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// Milliseconds, to a hundredth.
pub fn ms(seconds: f64) -> f64 {
    rounded(seconds * 1000.0)
}
