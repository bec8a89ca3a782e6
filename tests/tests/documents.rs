//! The documents: every link in them leads somewhere, and every command that they name is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lanyard_tests::Programs;

#[test]
fn every_link_leads_somewhere() {
    let pages = pages();
    assert!(pages.len() > 10, "{} pages are too few", pages.len());
    let broken: Vec<_> = pages.iter().flat_map(|(path, text)| broken_links(path, text)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("page.md");
    let text = "[a](Cargo.toml) [b](nowhere.md#part) [c](https://example.org) [d](#part)\n```\n[e](not/a/link)\n```\n";
    assert_eq!(broken_links(&page, text).len(), 1);
}

#[test]
fn every_command_in_the_documents_is_one() {
    let programs = Programs::find().unwrap();
    let mut checked = 0;
    for (path, text) in pages() {
        for line in text.lines().map(|line| line.trim_start_matches(['$', ' '])) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let Some((name, arguments)) = words.split_first() else {
                continue;
            };
            let program = match *name {
                "lanyard-node" => programs.node(),
                "lanyard" => programs.client(),
                _ => continue,
            };
            // The words up to the first that is an option or a value: `lanyard-node staff invite --name ...`.
            let plain = |word: &&&str| {
                word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
            };
            let skipped = if arguments.first() == Some(&"--profile") { 2 } else { 0 };
            let subcommands: Vec<_> = arguments[skipped..].iter().take_while(plain).take(2).collect();
            let known = |count: usize| {
                let help = Command::new(&program).args(&subcommands[..count]).arg("--help").output();
                help.is_ok_and(|help| help.status.success())
            };
            assert!(!subcommands.is_empty() && known(1), "{}: {line}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked} commands are too few: the documents have lost them");
}

fn broken_links(path: &Path, text: &str) -> Vec<String> {
    let (mut broken, mut inside) = (Vec::new(), false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        }
        if inside {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            let elsewhere = target.is_empty() || target.contains("://") || target.contains(' ');
            let dir = path.parent().unwrap_or(Path::new("."));
            if !elsewhere && !dir.join(target).exists() {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    broken
}

/// Every page of the repository, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the repository");
    let docs = ["concepts", "operating", "reference", "internals", "decisions"]
        .map(|name| root.join("docs").join(name));
    let dirs = [root.to_path_buf()].into_iter().chain(docs);
    let files = dirs.flat_map(|dir| fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())));
    let paths = files.filter_map(|entry| Some(entry.ok()?.path()));
    let pages = paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages
        .map(|path| {
            (path.clone(), fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        })
        .collect()
}
