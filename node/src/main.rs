//! A trust's Lanyard node, and the operator's commands.

use mimalloc::MiMalloc;

/// The store allocates and frees a page's rows with each row that it changes: in `scripts/bench ingest`, the system's allocator takes a quarter of the
/// time (docs/internals/performance.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    lanyard_node::main()
}
