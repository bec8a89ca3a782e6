//! The Python with which tests check Lanyard by programs that share nothing with it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

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
