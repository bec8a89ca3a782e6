//! A trust's Lanyard node, and the operator's commands: the program `lanyard-node`, whose only caller is `main.rs`, and
//! [`outside`], which lets fuzz targets and property tests reach what decodes bytes here.

mod address;
mod admin;
mod audit_export;
mod backend;
mod cli;
mod commands;
mod config;
mod deletions_report;
mod driver;
mod files;
mod gateway;
mod identity_provider;
mod invitations;
pub mod outside;
mod p2p;
mod policy;
mod refusals;
mod registrar;
mod store_key;
#[cfg(test)]
mod testing;
mod time;
mod tls;
mod wipes;
mod wiping;

use std::process::ExitCode;

use clap::Parser;

/// The program: reads the command line, carries the command out, and says on stderr why it could not.
pub fn main() -> ExitCode {
    match commands::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lanyard-node: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
