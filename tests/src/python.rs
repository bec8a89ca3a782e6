//! The Python with which tests check Lanyard by programs that share nothing with it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A Python that has this module: the one that `LANYARD_PYTHON` names, or that of `scripts/test`. Says what is not checked if there is
/// none.
///
/// # Panics
/// If there is none where everything must be checked (`CI` is set).
pub fn find(module: &str) -> Option<PathBuf> {
    let own = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/venv/bin/python"));
    let python = std::env::var_os("LANYARD_PYTHON").map_or(own, PathBuf::from);
    let there =
        Command::new(&python).args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
    if there.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    let what = format!(
        "not checked: a Python with {module} is missing; scripts/test installs it, or set LANYARD_PYTHON to one that has it"
    );
    assert!(std::env::var_os("CI").is_none(), "{what}");
    eprintln!("{what}");
    None
}

/// What a program of `tests/tests/python` prints about its input, as JSON. It need not read all of that.
///
/// # Panics
/// If it cannot be run, fails, or prints something else.
pub fn answer(python: &Path, script: &str, input: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(script);
    let child = Command::new(python).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|e| panic!("{script}: {e}"));
    let mut stdin = child.stdin.take().expect("it was piped");
    // Who has seen enough closes the pipe, and tells why in what it prints.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap_or_else(|e| panic!("{script}: {e}"));
    assert!(output.status.success(), "{script} failed: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{script}: {e}"))
}
