//! A small file system that can be filled: a tmpfs in a mount namespace of its own, for which no privilege is needed where the system
//! lets users make namespaces.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::HarnessError;
use crate::error::promise;
use crate::node::text;
use crate::process::{self, Surroundings};

const BALLAST: &str = "ballast";
/// How often it is tried to fill a disk on which somebody writes.
const FILL_TRIES: u32 = 50;
/// Mounts, says so, and keeps the namespace until its input ends.
const HOLD: &str = "mount -t tmpfs -o size=$1,mode=700 lanyard-tests \"$2\" && echo mounted && exec cat";

/// The file system, mounted on a directory for those alone who run in its surroundings. Dropped, it is gone with all that is in it.
#[derive(Debug)]
pub struct Space {
    holder: Child,
    dir: PathBuf,
}

impl Space {
    /// Mounts one of so many bytes on `dir`, which is made; none, with a line that says so, where the system does not let us.
    ///
    /// # Errors
    /// What the system says; in CI (`CI` is set), that it does not let us.
    pub fn mount(dir: &Path, bytes: u64) -> Result<Option<Self>, HarnessError> {
        std::fs::create_dir_all(dir).map_err(HarnessError::system(text(dir)))?;
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", HOLD, "sh"])
            .args([&bytes.to_string(), &text(dir)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(HarnessError::system("unshare"))?;
        let mut line = String::new();
        if let Some(stdout) = &mut holder.stdout {
            BufReader::new(stdout).read_line(&mut line).map_err(HarnessError::system("unshare"))?;
        }
        let space = Self { holder, dir: dir.into() };
        if line.trim() == "mounted" {
            return Ok(Some(space));
        }
        promise(std::env::var_os("CI").is_none(), || "no small disk: user namespaces are needed".into())?;
        eprintln!("nothing runs on a small disk: the system lets users make no namespaces");
        Ok(None)
    }

    /// Those of a program that sees the file system.
    pub fn surroundings(&self) -> Surroundings {
        let holder = self.holder.id().to_string();
        Surroundings::new([
            "nsenter",
            "--preserve-credentials",
            "--user",
            "--mount",
            "--target",
            &holder,
            "--",
        ])
    }

    /// Writes ballast until only so many bytes are left. A node that runs may take some of them between the look at what is free and the
    /// writing, which then fails and is tried again.
    ///
    /// # Errors
    /// What the system says.
    pub fn fill_but(&self, bytes: u64) -> Result<(), HarnessError> {
        let ballast = text(&self.dir.join(BALLAST));
        let mut tries = FILL_TRIES;
        loop {
            let size = self.free_bytes()?.saturating_sub(bytes);
            let filled = self.run("fallocate", &["--length", &size.max(1).to_string(), &ballast]);
            tries -= 1;
            if filled.is_ok() || tries == 0 {
                return filled;
            }
            self.run("rm", &["--force", &ballast])?;
        }
    }

    /// Removes the ballast.
    ///
    /// # Errors
    /// What the system says.
    pub fn free(&self) -> Result<(), HarnessError> {
        self.run("rm", &[&text(&self.dir.join(BALLAST))])
    }

    /// What is left.
    ///
    /// # Errors
    /// What the system says.
    pub fn free_bytes(&self) -> Result<u64, HarnessError> {
        let printed = process::run_under(
            &self.surroundings(),
            Path::new("df"),
            ["--block-size=1", "--output=avail", &text(&self.dir)],
            None,
        )?;
        let last = printed.stdout.lines().last().and_then(|line| line.trim().parse().ok());
        last.ok_or_else(|| HarnessError::Promise(format!("df printed {:?}", printed.stdout)))
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), HarnessError> {
        let arguments = arguments.iter().copied();
        process::run_under(&self.surroundings(), Path::new(program), arguments, None)?.done().map(drop)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // It ends by itself once its input has; it may have done so already.
        drop(self.holder.stdin.take());
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
