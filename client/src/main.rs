//! The program `lanyard`.

mod cli;
mod commands;

use std::process::ExitCode;

use clap::Parser;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

fn main() -> ExitCode {
    if let Err(error) = no_core_dumps() {
        eprintln!("lanyard: the system does not let this program keep its memory to itself: {error}");
        return ExitCode::FAILURE;
    }
    match commands::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lanyard: {}", error.told());
            ExitCode::from(error.exit_code())
        }
    }
}

/// What this process has in memory goes into no file if it crashes, and is not for other processes of the same account.
fn no_core_dumps() -> rustix::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}
