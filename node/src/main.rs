//! A trust's Lanyard node, and the operator's commands.

mod address;
mod admin;
mod backend;
mod cli;
mod commands;
mod config;
mod driver;
mod files;
mod gateway;
mod invitations;
mod p2p;
mod refusals;
mod registrar;
#[cfg(test)]
mod testing;
mod time;
mod tls;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match commands::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lanyard-node: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
