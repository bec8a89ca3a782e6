//! What decoding takes follows from what has arrived, not from what it claims to be (promise P8). One test, since the allocator
//! counts for the whole process.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::path::Path;

use lanyard_harness::TARGETS;
use lanyard_replica::frame::Frame;
use lanyard_replica::limits::FRAME_BYTES_MAX;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What a target takes beside its input, in bytes: a claimed length reserves at most 1 MiB for each level of nesting.
const FIXED_BYTES: usize = 4 * 1024 * 1024;
/// What a byte of input may take, decoded, encoded again and compared.
const PER_BYTE: usize = 64;

/// What a target takes at most while it looks at these bytes.
fn peak_of(check: fn(&[u8]) -> bool, bytes: &[u8]) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    check(bytes);
    MEMORY.peak_usage().saturating_sub(before)
}

/// Frames at the limit of their length, of as many and as small parts as possible.
fn crowded() -> Vec<(&'static str, Vec<u8>)> {
    let most = FRAME_BYTES_MAX - 64;
    // A variant of one field, an array with a length of four bytes, and its elements.
    let of = |variant: u8, element: &[u8]| {
        let count = u32::try_from(most / element.len()).unwrap();
        [&[0x82, variant, 0x9a], &count.to_be_bytes()[..], &element.repeat(count as usize)].concat()
    };
    vec![("records of no bytes", of(0, &[0x40]))]
}

#[test]
fn memory_follows_the_input() {
    for (what, bytes) in crowded() {
        let peak = peak_of(|bytes| Frame::from_bytes(bytes).is_ok(), &bytes);
        assert!(peak <= FIXED_BYTES, "{what}: {peak} bytes for a frame of {}", bytes.len());
    }
    for target in TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target.name);
        for entry in fs::read_dir(dir).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            // What a harness makes once stays.
            (target.check)(&bytes);
            // The file, and the file with a great length wherever one may stand: CBOR, DER and MLS begin them so.
            let mut inputs = vec![bytes.clone()];
            for at in (0..bytes.len().min(256)).step_by(if matches!(target.name, "replica" | "group") {
                97
            } else {
                19
            }) {
                for claim in
                    [[0x9b, 0, 0, 0, 0xff], [0x5a, 0x7f, 0xff, 0xff, 0xff], [0x84, 0x7f, 0xff, 0xff, 0xff]]
                {
                    let mut claiming = bytes.clone();
                    claiming.splice(at..(at + 1).min(bytes.len()), claim);
                    inputs.push(claiming);
                }
            }
            for input in inputs {
                let (peak, most) = (peak_of(target.check, &input), FIXED_BYTES + PER_BYTE * input.len());
                assert!(peak <= most, "{}: {} bytes for an input of {}", target.name, peak, input.len());
            }
        }
    }
}
