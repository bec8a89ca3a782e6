//! What a report's figures were measured on, as far as the system tells.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

/// The processor, the cores that may be used, the memory, the file system below `dir`, and the kernel; what is not told is "unknown".
pub fn describe(dir: &Path) -> Value {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    json!({
        "processor": field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
        "cores": cores,
        "memory": field("/proc/meminfo", "MemTotal").and_then(|memory| gibibytes(&memory)).unwrap_or_else(unknown),
        "file system": file_system(dir).unwrap_or_else(unknown),
        "kernel": if kernel.is_empty() { unknown() } else { format!("Linux {}", kernel.trim()) },
    })
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// What stands behind a name and a colon in a file of such lines.
fn field(file: &str, name: &str) -> Option<String> {
    let all = fs::read_to_string(file).ok()?;
    all.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    })
}

/// From a number of kB.
fn gibibytes(memory: &str) -> Option<String> {
    let kib: f64 = memory.split(' ').next()?.parse().ok()?;
    Some(format!("{:.0} GiB", kib / f64::from(1 << 20)))
}

/// The type of the file system that is mounted nearest above `dir`: the last of those that are mounted on the longest path.
fn file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        Some((fields.nth(1)?, fields.next()?))
    });
    let above = mounted.filter(|(on, _)| dir.starts_with(on));
    above.max_by_key(|(on, _)| on.len()).map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_described() {
        let machine = describe(Path::new("."));
        assert!(machine["cores"].as_u64().unwrap() > 0);
        for name in ["memory", "file system", "kernel"] {
            assert_ne!(machine[name], "unknown", "{machine}");
        }
    }
}
