//! See the target of this name in `tests/harnesses`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    lanyard_harness::run("deletions", bytes);
});
