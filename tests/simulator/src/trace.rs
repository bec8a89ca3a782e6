//! The hash over everything that happened in a run: every event, every batch that was committed, every output. Two runs of one
//! seed that have the same hash did the same.

use lanyard_replica::Output;
use lanyard_storage::Batch;
use sha2::{Digest, Sha256};

/// How many characters of a frame are printed.
const SHOWN: usize = 240;

/// The hash so far, and whether what it takes in is printed as well.
pub struct Trace {
    hash: Sha256,
    prints: bool,
}

impl Trace {
    /// An empty trace.
    pub fn new(prints: bool) -> Self {
        Self { hash: Sha256::new(), prints }
    }

    /// Something happened at this time (milliseconds since the start) and, unless it is the network's, at this node.
    pub fn event(&mut self, at_ms: u64, node: usize, what: &str, detail: impl FnOnce() -> String) {
        self.hash.update(at_ms.to_be_bytes());
        self.hash.update((node as u64).to_be_bytes());
        self.bytes(what.as_bytes());
        if self.prints {
            println!("{:>10.3}  {node}  {what} {}", at_ms as f64 / 1000.0, detail());
        }
    }

    /// Bytes that travelled or were stored.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.hash.update((bytes.len() as u64).to_be_bytes());
        self.hash.update(bytes);
    }

    /// A node committed this.
    pub fn batch(&mut self, batch: &Batch) {
        for (tree, key, value) in batch.changes() {
            self.bytes(tree.name().as_bytes());
            self.bytes(key);
            match value {
                Some(value) => self.bytes(value),
                None => self.hash.update([0]),
            }
        }
    }

    /// A node carries this out.
    pub fn output(&mut self, output: &Output) {
        match output {
            Output::Send { to, frame } => {
                if self.prints {
                    let text: String = format!("{frame:?}").chars().take(SHOWN).collect();
                    println!("{:>14}Send to {to} {text}", "");
                }
                self.bytes(to.as_bytes());
                self.bytes(&frame.to_bytes());
            }
            Output::Publish(bytes) => self.bytes(bytes),
            other => {
                let text = format!("{other:?}");
                if self.prints {
                    println!("{:>14}{text}", "");
                }
                self.bytes(text.as_bytes());
            }
        }
    }

    /// The hash of all of it, in hexadecimal digits.
    pub fn finish(self) -> String {
        lanyard_crypto::RecordId::new(self.hash.finalize().into()).to_string()
    }
}
