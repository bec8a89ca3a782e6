//! Rules about the sources that no compiler knows: who may name what, and how long a file may be. Each rule says what to
//! write instead, and a deliberate breach of each shows that it fires.

#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Past this many lines, a file is two files that have not been separated yet.
const LINES_MAX: usize = 600;

/// Words that the files of some places may not contain.
struct Rule {
    /// What is forbidden: any of these, as whole words.
    words: &'static [&'static str],
    /// Where: files whose path, from the root of the repository, begins with one of these.
    within: &'static [&'static str],
    /// But not here.
    except: &'static [&'static str],
    /// What to write instead, and why.
    instead: &'static str,
    /// A line that breaks the rule, and a path where it would.
    breach: (&'static str, &'static str),
}

const RULES: &[Rule] = &[
    Rule {
        words: &["libp2p", "libp2p_stream"],
        within: &[""],
        except: &["node/src/p2p/"],
        instead: "use node/src/p2p, the one place that names it: its handle and events are in our own types",
        breach: ("node/src/driver/mod.rs", "use libp2p::PeerId;"),
    },
    Rule {
        words: &["sled::", "use sled"],
        within: &[""],
        except: &["storage/src/sled.rs"],
        instead: "use lanyard_storage's View, Batch and Store: sled is behind one file, so that it can be replaced",
        breach: ("storage/src/disk.rs", "let tree: sled::Tree = open()?;"),
    },
    Rule {
        words: &["serde_cbor::"],
        within: &[""],
        except: &["crypto/src/cbor.rs"],
        instead: "use lanyard_crypto::cbor, which refuses what is not deterministic, bounded and whole",
        breach: ("client/src/trust.rs", "let x: u8 = serde_cbor::from_slice(&bytes)?;"),
    },
    Rule {
        words: &["SystemTime::now", "Instant::now", "HashMap", "HashSet", "thread_rng", "RandomState"],
        within: &["node/replica/src/", "crypto/src/"],
        except: &[],
        instead: "take time as an argument, and use BTreeMap or BTreeSet: the same input gives the same step",
        breach: ("node/replica/src/admit.rs", "let now = std::time::SystemTime::now();"),
    },
    Rule {
        words: &["getrandom"],
        within: &["node/replica/src/", "crypto/src/"],
        except: &[
            "crypto/src/mls/suite.rs",
            "crypto/src/mls/xwing.rs",
            "crypto/src/pin/entropy.rs",
            "crypto/src/x509/key.rs",
            "crypto/src/x509/issue.rs",
        ],
        instead: "take randomness as an argument; it is drawn only where keys, serial numbers, PINs' and MLS secrets are made",
        breach: ("node/replica/src/spread.rs", "getrandom::fill(&mut nonce)?;"),
    },
    Rule {
        words: &["std::fs", "TcpStream", "TcpListener", "UdpSocket", "tokio"],
        within: &["node/replica/src/", "crypto/src/"],
        except: &["crypto/src/x509/tests/", "node/replica/src/tests/"],
        instead: "return an output, and let the driver (node/src/driver) carry it out",
        breach: ("crypto/src/x509/pem.rs", "let text = std::fs::read_to_string(path)?;"),
    },
    Rule {
        words: &[
            "mls_rs::client",
            "mls_rs::Client",
            "mls_rs::group",
            "mls_rs::Group",
            "ClientBuilder",
            "lanyard_client",
        ],
        within: &["node/"],
        except: &[
            "node/replica/src/tests/",
            "node/src/driver/tests",
            "node/src/gateway/tests",
            "node/src/commands/tests",
        ],
        instead: "use lanyard_crypto::mls::PublicGroup, the half of MLS without secrets (promise P1)",
        breach: ("node/replica/src/hub.rs", "use mls_rs::client_builder::ClientBuilder;"),
    },
    Rule {
        words: &["unsafe"],
        within: &[""],
        except: &[],
        instead: "use a crate that has done it, and been looked at for it",
        breach: ("storage/src/row.rs", "let n = unsafe { std::mem::zeroed() };"),
    },
    Rule {
        words: &["println!", "print!"],
        within: &["node/src/", "node/replica/src/", "storage/src/", "crypto/src/", "client/src/"],
        except: &[],
        instead: "use `show` of the commands, which bears a closed pipe, or tracing in a running node",
        breach: ("node/src/driver/engine.rs", "println!(\"{entry:?}\");"),
    },
];

#[test]
fn every_rule_holds() {
    let mut broken = String::new();
    for (path, text) in sources() {
        for rule in RULES {
            for (number, word) in rule.breaches(&path, &text) {
                writeln!(broken, "{path}:{number}: `{word}`: {}", rule.instead).unwrap();
            }
        }
    }
    assert!(broken.is_empty(), "\n{broken}");
}

#[test]
fn no_file_is_longer_than_a_room() {
    let long = too_long(&sources());
    assert!(long.is_empty(), "separate them into files that say one thing each: {long:?}");
}

#[test]
fn every_rule_fires() {
    for rule in RULES {
        let (path, line) = rule.breach;
        assert_eq!(rule.breaches(path, line).len(), 1, "{line:?} in {path} breaks no rule");
        assert!(rule.breaches(path, &format!("// {line}")).is_empty(), "a comment breaks no rule: {line:?}");
    }
    let room = |lines: usize| ("a.rs".to_owned(), "x\n".repeat(lines));
    assert_eq!(too_long(&[room(LINES_MAX), room(LINES_MAX + 1)]), [("a.rs".to_owned(), LINES_MAX + 1)]);
}

#[test]
fn exceptions_are_needed_and_the_sources_are_all_seen() {
    let sources = sources();
    for place in [
        "crypto/src/lib.rs",
        "storage/src/lib.rs",
        "node/src/main.rs",
        "node/replica/src/lib.rs",
        "client/src/lib.rs",
    ] {
        assert!(sources.iter().any(|(path, _)| path == place), "{place} was not read");
    }
    for rule in RULES {
        for exception in rule.except.iter().filter(|path| path.ends_with(".rs")) {
            let used = sources.iter().any(|(path, text)| {
                path == exception
                    && code_lines(text).any(|(_, line)| rule.words.iter().any(|w| has_word(line, w)))
            });
            assert!(used, "{exception} needs no exception from {:?} any more", rule.words);
        }
    }
}

impl Rule {
    /// Line numbers and words by which a file breaks the rule.
    fn breaches(&self, path: &str, text: &str) -> Vec<(usize, &'static str)> {
        let begins = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
        // This file names what it forbids.
        if !begins(self.within) || begins(self.except) || path == "tests/tests/style.rs" {
            return Vec::new();
        }
        let words = |(number, line)| {
            self.words.iter().filter(move |word| has_word(line, word)).map(move |word| (number, *word))
        };
        code_lines(text).flat_map(words).collect()
    }
}

fn too_long(sources: &[(String, String)]) -> Vec<(String, usize)> {
    let lines = sources.iter().map(|(path, text)| (path.clone(), text.lines().count()));
    lines.filter(|(_, count)| *count > LINES_MAX).collect()
}

/// Lines without what follows `//`, with their numbers. A string that holds `//` is cut too: rules are about code.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or(line)))
}

fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        // `crate::sled` is our own file of that name.
        let own = line[..start].ends_with("crate::");
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        let open = !word.ends_with(part);
        !own && !before.is_some_and(part) && (open || !after.is_some_and(part))
    })
}

/// Every Rust file of the repository, by its path from the root.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the repository");
    let mut found = Vec::new();
    for place in ["crypto", "storage", "node", "client", "tests"] {
        collect(&root.join(place), &mut found);
    }
    found.sort();
    let text = |path: PathBuf| {
        let name = path.strip_prefix(root).expect("found below the root").display().to_string();
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        (name, text)
    };
    found.into_iter().map(text).collect()
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("target"))
        {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
