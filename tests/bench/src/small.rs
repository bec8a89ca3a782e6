//! The small parts of which the large ones are made, by Criterion: medians, each beside a yardstick that Criterion takes in the same run.

mod parts;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use criterion::Criterion;
use serde_json::{Value, json};

use crate::Size;

/// A part by Criterion's name for it, what it does, and its yardstick likewise.
type Part = (&'static str, &'static str, Option<(&'static str, &'static str)>);

const PARTS: [Part; 12] = [
    ("decode", "decode a record of 1 KiB", Some(("hash", "hashing the same bytes, which decoding does"))),
    ("verify_one", "verify a record", Some(("bare_verify_one", "its signature alone"))),
    (
        "verify_batch",
        "verify 256 records",
        Some(("bare_verify_batch", "their signatures alone, as one batch")),
    ),
    ("sign", "sign a record of 1 KiB", Some(("bare_sign", "the signature alone"))),
    ("seal", "seal 1 KiB under a key of its own", Some(("bare_seal", "under a key that is ready"))),
    ("open", "open it", Some(("bare_open", "under a key that is ready"))),
    ("encode_frame", "encode a frame of 1,024 records", Some(("copy_frame", "copying its bytes"))),
    ("decode_frame", "decode it", Some(("copy_frame", "copying its bytes"))),
    (
        "compare",
        "find out how two sets of 10,000 ids differ, of which each has 100 alone",
        Some(("hash_ids", "hashing each id with a salt")),
    ),
    ("step", "one step of the engine with 512 verified records", None),
    ("commit", "commit what that step wants, in memory", None),
    ("hash", "hash 1 KiB", None),
];

/// Has another process of this program measure, since Criterion speaks; then shows the medians.
pub fn run(size: &Size) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["small", "--here"]).arg(dir.path()).args(size.quick.then_some("--quick"));
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    for (id, what, yardstick) in PARTS {
        let ours = median(dir.path(), id)?;
        let beside = yardstick.map(|(id, _)| median(dir.path(), id)).transpose()?;
        size.show(&json!({
            "scenario": what,
            "microseconds": rounded(ours),
            "yardstick": yardstick.map(|(_, what)| what),
            "yardstick, microseconds": beside.map(rounded),
            "against it": beside.map(|beside| rounded(ours / beside)),
        }));
    }
    Ok(())
}

/// Measures, and leaves Criterion's estimates in this directory.
pub fn here(size: &Size, dir: &Path) -> Result<(), Box<dyn Error>> {
    let millis = |quick, full| Duration::from_millis(if size.quick { quick } else { full });
    let mut criterion = Criterion::default()
        .output_directory(dir)
        .sample_size(if size.quick { 10 } else { 30 })
        .nresamples(if size.quick { 1_000 } else { 20_000 })
        .warm_up_time(millis(20, 300))
        .measurement_time(millis(100, 1_000));
    parts::measure(&mut criterion);
    Ok(())
}

/// In microseconds.
fn median(dir: &Path, id: &str) -> Result<f64, Box<dyn Error>> {
    let estimates = fs::read(dir.join(id).join("new/estimates.json"))?;
    let estimates: Value = serde_json::from_slice(&estimates)?;
    let nanos = estimates["median"]["point_estimate"].as_f64().ok_or("Criterion estimates no median")?;
    Ok(nanos / 1_000.0)
}

fn rounded(figure: f64) -> f64 {
    (figure * 1_000.0).round() / 1_000.0
}
