//! The small parts by themselves, for `cargo bench -p lanyard-bench`; `scripts/bench small` shows them beside their yardsticks.

#![allow(missing_docs, dead_code, reason = "modules of the program, of which only a part is used here")]

#[path = "../src/custodian.rs"]
mod custodian;
#[path = "../src/network.rs"]
mod network;
#[path = "../src/pair.rs"]
mod pair;
#[path = "../src/small/parts.rs"]
mod parts;

fn main() {
    let mut criterion = criterion::Criterion::default().configure_from_args();
    parts::measure(&mut criterion);
    criterion.final_summary();
}
