//! Lanyard's benchmarks. Each measures against a yardstick of the same run, never against a remembered number; none is a test.

mod compact;
mod custodian;
mod erase;
mod ingest;
mod network;
mod other;
mod pair;
mod report;
mod restore;
mod size;

use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};
use lanyard_storage::limits::CACHE_BYTES_DEFAULT;
use mimalloc::MiMalloc;
use size::Size;

/// The node's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Measures what the engine costs. Run by `scripts/bench`, built for release.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Anti-entropy between two replicas: bytes, round trips and memory, for few and many differences, recent and scattered.
    Reconcile(Size),
    /// How long an empty replica takes to get everything, against verifying and writing the same.
    Restore {
        #[command(flatten)]
        size: Size,
        /// Where the replica's store is made, and removed at the end: on the disk that is measured.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
        /// The store's cache.
        #[arg(long, default_value_t = CACHE_BYTES_DEFAULT >> 20)]
        cache_mib: u64,
    },
    /// What is left on the disk once nine in ten of 200,000 records have expired and the store was compacted, against what lives.
    Compact {
        #[command(flatten)]
        size: Size,
        /// Where the store is made, and removed at the end.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
    /// Erasing: single messages against storing them, a conversation by one order, and expiry beside what is stored meanwhile.
    Erase {
        #[command(flatten)]
        size: Size,
        /// Where the stores are made, and removed at the end: on the disk that is measured.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
        /// Which of the three; all of them without it.
        #[arg(long, value_enum)]
        only: Option<erase::Scenario>,
    },
    /// Records of 1 KiB from the wire to the disk, on one core and on two, against verifying and writing alone.
    Ingest {
        #[command(flatten)]
        size: Size,
        /// Where the stores are made, and removed at the end: on the disk that is measured.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
        /// On the cores that this process may use; prints bare figures.
        #[arg(long, hide = true)]
        here: bool,
    },
    /// Runs benchmarks, each in a process of its own, and writes report.html and report.json.
    Report {
        /// Which; all of them without it.
        names: Vec<report::Name>,
        /// A fiftieth of everything.
        #[arg(long)]
        quick: bool,
        /// Where the reports are written.
        #[arg(long, default_value = "bench")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().what {
        What::Reconcile(size) => counted(&size),
        What::Restore { size, dir, cache_mib } => restore::run(&size, &dir, cache_mib << 20),
        What::Compact { size, dir } => compact::run(&size, &dir),
        What::Erase { size, dir, only } => erase::run(&size, &dir, only),
        What::Ingest { size, dir, here: false } => ingest::run(&size, &dir),
        What::Ingest { size, dir, here: true } => ingest::here(&size, &dir),
        What::Report { names, quick, out } => report::run(&names, quick, &out),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the program beside this one whose allocator counts.
fn counted(size: &Size) -> Result<(), Box<dyn Error>> {
    let program = std::env::current_exe()?.with_file_name("bench-counted");
    let status = Command::new(program).args(size.arguments()).status()?;
    if status.success() { Ok(()) } else { Err(status.to_string().into()) }
}
