//! What the tests of signing in need: Node.js, and an OpenID provider for it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The directory with the provider's modules: the one that `LANYARD_OIDC` names, or that of `scripts/test`. Says what is not checked if
/// they are missing.
///
/// # Panics
/// If they are missing where everything must be checked (`CI` is set).
pub fn find() -> Option<PathBuf> {
    let own = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/oidc"));
    let dir = std::env::var_os("LANYARD_OIDC").map_or(own, PathBuf::from);
    let runs = Command::new("node").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let runs = runs.is_ok_and(|status| status.success());
    if runs && dir.join("node_modules/oidc-provider/package.json").exists() {
        return Some(dir);
    }
    let what = "not checked: Node.js with oidc-provider is missing; scripts/test installs it, or set LANYARD_OIDC to a directory in \
                which npm ci has installed tests/oidc/package.json";
    assert!(std::env::var_os("CI").is_none(), "{what}");
    eprintln!("{what}");
    None
}

/// One of the programs of `tests/oidc`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("oidc").join(name)
}
