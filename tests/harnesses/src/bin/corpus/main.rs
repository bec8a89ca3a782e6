//! Makes the inputs that fuzzing begins with, from real traffic: replicas with real keys, and real MLS groups.
//!
//! ```text
//! cargo run -p lanyard-harness --bin corpus -- fixtures tests/harnesses/fixtures
//! cargo run -p lanyard-harness --bin corpus -- inputs tests/fuzz/corpus
//! ```
//!
//! The first makes what the harnesses are compiled with, and is needed again only when the MLS library stores a group in another
//! way; the second adds to a corpus, each file named by its hash. MLS draws randomness, so that each run makes other files: keep
//! few, with `scripts/fuzz --minimise`.

#![allow(clippy::unwrap_used, reason = "a tool for engineers fails by panicking")]

mod devices;
mod inputs;
mod member;

use std::path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fixtures", dir] => member::fixtures(Path::new(dir)),
        ["inputs", dir] => inputs::write(Path::new(dir)),
        _ => {
            eprintln!("corpus: `fixtures DIR` or `inputs DIR` is needed");
            std::process::exit(2);
        }
    }
}
