//! Lanyard's benchmarks. Each measures against a yardstick of the same run, never against a remembered number; none is a test.

mod compact;
mod custodian;
mod end_to_end;
mod erase;
mod groups;
mod idle_peers;
mod ingest;
mod load;
mod memory;
mod network;
mod other;
mod overload;
mod pair;
mod peers;
mod report;
mod restore;
mod size;
mod small;

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
    /// A hub's group of 10, 100 and 1,000 devices: adding, removing, renewing keys and writing, against the bare MLS library.
    Groups {
        #[command(flatten)]
        size: Size,
        /// Where the vaults are made, and removed at the end: on the disk that is measured.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
    /// Memory and start-up: a node with many records, one with 2,000 idle clients, a client with 100,000 messages. Needs the programs
    /// `lanyard-node` and `lanyard` beside this one.
    Memory {
        #[command(flatten)]
        size: Size,
        /// Which of the three; all of them without it.
        #[arg(long, value_enum)]
        only: Option<memory::Scenario>,
    },
    /// Opens what standard input says, and nothing else: a yardstick of `memory`.
    #[command(hide = true)]
    Alone,
    /// Asks a vault what this file says, and nothing else: likewise.
    #[command(hide = true)]
    Query { file: PathBuf },
    /// What a node does with more messages than it can take, from a tenth to three times of it; nothing that it acknowledged is lost.
    Overload {
        #[command(flatten)]
        size: Size,
        /// On which core the node runs; this process runs on another.
        #[arg(long, hide = true)]
        node_core: Option<usize>,
    },
    /// The small parts of which the large ones are made, by Criterion, each against what it cannot do without.
    Small {
        #[command(flatten)]
        size: Size,
        /// Has Criterion write here what it measures.
        #[arg(long, hide = true)]
        here: Option<PathBuf>,
    },
    /// A client at one trust sends to a client at another, beside other messengers that do the same with servers of theirs.
    EndToEnd {
        #[command(flatten)]
        size: Size,
        /// Which of the systems; all of them without it.
        #[arg(long, value_enum)]
        only: Vec<end_to_end::System>,
    },
    /// What an idle client takes in the memory of other messengers' servers.
    IdlePeers(Size),
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
        What::Groups { size, dir } => groups::run(&size, &dir),
        What::Memory { size, only } => memory::run(&size, only),
        What::Alone => memory::alone::run(),
        What::Query { file } => memory::alone::query(&file),
        What::Overload { size, node_core: None } => overload::run(&size),
        What::Overload { size, node_core: Some(core) } => overload::with_node_on(core, &size),
        What::Small { size, here: None } => small::run(&size),
        What::Small { size, here: Some(dir) } => small::here(&size, &dir),
        What::EndToEnd { size, only } => end_to_end::run(&size, &only),
        What::IdlePeers(size) => idle_peers::run(&size),
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
