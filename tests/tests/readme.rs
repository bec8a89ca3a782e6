//! The commands of the README are run as they stand there: every block marked `sh`, in one shell, from top to bottom.
//!
//! Between blocks, a person looks before they go on; a comment `<!-- until: COMMAND -->`, which readers do not see, says
//! what they would look for. Only the loopback network is another one, so that tests do not meet.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use lanyard_tests::Programs;
use lanyard_tests::loopback::Subnet;
use lanyard_tests::process::quoted;

const README: &str = include_str!("../../README.md");
/// The network that the README's commands use.
const NETWORK: &str = "127.0.11.";
/// Tries, with half a second between them, before a condition is given up.
const TRIES: u32 = 120;

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let programs = Programs::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let script = script(README);
    assert!(script.matches("lanyard").count() > 20, "the README has lost its commands");
    let subnet = Subnet::free().unwrap().inside(1).to_string();
    let script = script.replace(NETWORK, subnet.strip_suffix('1').unwrap());
    fs::write(dir.path().join("readme.sh"), script).unwrap();

    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .arg("readme.sh")
        .current_dir(dir.path())
        .env("PATH", format!("{}:{path}", programs.dir().display()))
        .env_remove("LANYARD_PROFILE")
        .env_remove("LANYARD_CONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{stderr}\n{stdout}\n{}", logs(dir.path()));
    for shown in
        ["EF 30%, can you take him today?", "Yes. Theatre from 14:00.", "Dr Mira Okafor", "[clinical]"]
    {
        assert!(stdout.contains(shown), "{shown:?} was not shown:\n{stdout}");
    }
}

#[test]
fn blocks_and_conditions_are_found() {
    let page =
        "a\n```sh\none\n```\n<!-- until: two three -->\n```console\nnot this\n```\n```sh\nthree\n```\n";
    let script = script(page);
    assert!(script.ends_with("\none\nawait 'two three'\nthree\n"), "{script}");
}

/// All commands, and the conditions between them, as a script that ends what it has begun.
fn script(page: &str) -> String {
    let mut script = format!(
        "set -eu -o pipefail\n\
         trap 'jobs=$(jobs -p); [ -z \"$jobs\" ] || {{ kill $jobs; wait; }}' EXIT\n\
         await() {{\n  \
           for try in $(seq {TRIES}); do\n    if (eval \"$1\") >/dev/null 2>&1; then return; fi\n    sleep 0.5\n  done\n  \
           echo \"it did not come about: $1\" >&2\n  exit 1\n\
         }}\n"
    );
    let mut inside = false;
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            command if inside => script.extend([command, "\n"]),
            text => {
                let condition = text.strip_prefix("<!-- until: ").and_then(|rest| rest.strip_suffix(" -->"));
                if let Some(condition) = condition {
                    script.push_str(&format!("await {}\n", quoted(condition)));
                }
            }
        }
    }
    script
}

fn logs(dir: &Path) -> String {
    let log = |node: &str| fs::read_to_string(dir.join(node).join("log")).unwrap_or_default();
    format!("rz1: {}\nrz2: {}", log("rz1-node"), log("rz2-node"))
}
