//! A Prosody server, from Debian's package.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use lanyard_tests::process::Daemon;

use super::authority::{Authority, Named};
use crate::load::Failure;

/// Where clients connect: TLS from the first byte.
const PORT: u16 = 5223;

pub(super) fn start(authority: &Authority, dir: &Path, address: Ipv4Addr) -> Result<(Daemon, u16), Failure> {
    let program = super::installed("prosody", "Debian: apt-get install prosody")?;
    authority.certify(dir, address, Named::Domain)?;
    fs::create_dir(dir.join("data"))?;
    let config = dir.join("prosody.cfg.lua");
    fs::write(
        &config,
        configuration(&dir.display().to_string(), &authority.certificate().display(), address),
    )?;
    let arguments = ["-F", "--config", &config.display().to_string()];
    Ok((super::run(&program, &arguments, &[], dir)?, PORT))
}

/// Servers believe each other by certificates alone, and nothing else is on than what messages need.
fn configuration(dir: &str, authority: &impl std::fmt::Display, address: Ipv4Addr) -> String {
    format!(
        r#"run_as_root = true
pidfile = "{dir}/pid"
data_path = "{dir}/data"
interfaces = {{ "{address}" }}
c2s_ports = {{}}
c2s_direct_tls_ports = {{ {PORT} }}
s2s_ports = {{ 5269 }}
s2s_direct_tls_ports = {{}}
component_ports = {{}}
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "register", "s2s_auth_certs" }}
modules_disabled = {{ "s2s_auth_dialback" }}
allow_registration = true
c2s_require_encryption = true
s2s_require_encryption = true
s2s_secure_auth = true
authentication = "internal_plain"
storage = "internal"
log = {{ warn = "*console" }}
ssl = {{ key = "{dir}/key.pem", certificate = "{dir}/cert.pem", cafile = "{authority}" }}
VirtualHost "{address}"
"#
    )
}
