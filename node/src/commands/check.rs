//! `lanyard-node check`: everything that is wrong with a configuration, before anything runs.

use serde::Serialize;

use super::{CommandError, prepare, show};
use crate::cli::CheckArgs;
use crate::config::{Config, ConfigError, Problem};
use crate::time::now;

/// What `check` has found. The fields are stable: `docs/reference/commands.md`.
#[derive(Serialize)]
struct Checked {
    ok: bool,
    problems: Vec<Problem>,
}

pub(super) fn run(args: &CheckArgs) -> Result<(), CommandError> {
    let problems = match Config::load(&args.config) {
        Ok(config) => {
            let (_, mut findings) = prepare::prepare(&config, now());
            prepare::ports(&config, &mut findings);
            findings.fatal.into_iter().chain(findings.doubtful).collect()
        }
        Err(ConfigError::Problems { problems }) => problems,
        Err(other) => return Err(other.into()),
    };
    let checked = Checked { ok: problems.is_empty(), problems };
    show(args.json, &checked, |checked| match checked.ok {
        true => format!("{}: nothing is wrong", args.config.display()),
        false => checked.problems.iter().map(|p| format!("{p}\n")).collect(),
    })?;
    match checked.problems.len() {
        0 => Ok(()),
        1 => Err(CommandError::Problems("1 problem".into())),
        n => Err(CommandError::Problems(format!("{n} problems"))),
    }
}
