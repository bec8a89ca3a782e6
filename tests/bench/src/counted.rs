//! `bench reconcile`, in a program of its own: its allocator counts what a step takes, which costs time, and is not the node's.

#![allow(dead_code, reason = "what two replicas are made of serves other benchmarks too")]

mod network;
mod pair;
mod reconcile;
mod size;

use std::process::ExitCode;

use clap::Parser;
use peak_alloc::PeakAlloc;
use size::Size;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Run by `bench reconcile`.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    size: Size,
}

fn main() -> ExitCode {
    match reconcile::run(&Arguments::parse().size) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
