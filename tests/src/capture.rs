//! A capture of all that is sent on the loopback interface, by a small program in Python: raw sockets need calls that safe
//! Rust does not offer. It needs CAP_NET_RAW.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::HarnessError;
use crate::error::promise;

/// A capture under way. Dropped, it ends.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    file: PathBuf,
}

impl Capture {
    /// Captures into `file` from now on; none, with a line that says so, where the system does not let us.
    ///
    /// # Errors
    /// What the system says if Python cannot be started; in CI (`CI` is set), that there is no capture.
    pub fn begin(file: &Path) -> Result<Option<Self>, HarnessError> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/capture.py");
        let mut child = Command::new("python3")
            .arg(script)
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(HarnessError::system("python3"))?;
        let mut line = String::new();
        if let Some(stdout) = &mut child.stdout {
            BufReader::new(stdout).read_line(&mut line).map_err(HarnessError::system("python3"))?;
        }
        let capture = Self { child, file: file.into() };
        if line.trim() == "capturing" {
            return Ok(Some(capture));
        }
        promise(std::env::var_os("CI").is_none(), || "no capture: CAP_NET_RAW is needed".into())?;
        eprintln!("the traffic is not captured: CAP_NET_RAW is needed");
        Ok(None)
    }

    /// Sends bytes over a plain TCP connection, so that a capture can be seen to see.
    ///
    /// # Errors
    /// What the system says.
    pub fn witness(bytes: &[u8]) -> Result<(), HarnessError> {
        send_plain(bytes).map_err(HarnessError::system("loopback"))
    }

    /// Ends the capture; everything that was sent.
    ///
    /// # Errors
    /// [`HarnessError::Promise`] if the kernel has dropped anything.
    pub fn end(mut self) -> Result<Vec<u8>, HarnessError> {
        drop(self.child.stdin.take());
        let mut dropped = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut dropped).map_err(HarnessError::system("python3"))?;
        }
        promise(dropped.trim() == "0", || {
            format!("the kernel dropped {dropped:?} frames, so that the capture proves nothing")
        })?;
        fs::read(&self.file).map_err(HarnessError::system(self.file.display().to_string()))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It ends by itself once its input has; it may have done so already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether `part` is somewhere in `bytes`.
pub fn contains(bytes: &[u8], part: &[u8]) -> bool {
    let Some(first) = part.first() else { return true };
    let mut starts = bytes.iter().enumerate().filter(|(_, byte)| *byte == first);
    starts.any(|(at, _)| bytes[at..].starts_with(part))
}

fn send_plain(bytes: &[u8]) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let reading = std::thread::spawn(move || receiver.read_to_end(&mut Vec::new()));
    sender.write_all(bytes)?;
    drop(sender);
    reading.join().unwrap_or(Ok(0)).map(drop)
}
