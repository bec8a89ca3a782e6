//! An ejabberd server, from Debian's package: its code in an Erlang machine of our own, which is no part of a cluster.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use lanyard_tests::process::Daemon;

use super::authority::{Authority, Named};
use crate::load::Failure;

/// Where clients connect: TLS from the first byte.
const PORT: u16 = 5223;

pub(super) fn start(authority: &Authority, dir: &Path, address: Ipv4Addr) -> Result<(Daemon, u16), Failure> {
    let how = "Debian: apt-get install ejabberd";
    super::installed("ejabberdctl", how)?;
    let (program, libraries) = (super::installed("erl", how)?, libraries()?);
    authority.certify(dir, address, Named::Domain)?;
    let pair = [fs::read(dir.join("cert.pem"))?, fs::read(dir.join("key.pem"))?].concat();
    fs::write(dir.join("pair.pem"), pair)?;
    // Names are addresses, so nobody needs to be asked for them.
    fs::write(dir.join("inetrc"), "{lookup, [file]}.\n{resolv_conf, \"\"}.\n{hosts_file, \"\"}.\n")?;
    let (here, config) = (dir.display().to_string(), dir.join("ejabberd.yml"));
    fs::write(&config, configuration(&here, &authority.certificate().display(), address))?;
    let variables = [
        format!("ERL_INETRC={here}/inetrc"),
        format!("ERL_LIBS={}", libraries.display()),
        format!("ERL_CRASH_DUMP={here}/crash"),
        format!("EJABBERD_CONFIG_PATH={}", config.display()),
        format!("EJABBERD_LOG_PATH={here}/ejabberd.log"),
        format!("HOME={here}"),
    ];
    let database = format!("\"{here}/data\"");
    let arguments = ["+K", "true", "-noinput", "-mnesia", "dir", &database, "-s", "ejabberd"];
    Ok((super::run(&program, &arguments, &variables, dir)?, PORT))
}

/// The directory with the directory `ejabberd-VERSION`.
fn libraries() -> Result<PathBuf, Failure> {
    let usr = fs::read_dir("/usr/lib")?.filter_map(|entry| Some(entry.ok()?.path()));
    for dir in usr.filter(|path| path.is_dir()) {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        let mut entries = entries.filter_map(|entry| Some(entry.ok()?.path()));
        if entries.any(|path| path.join("ebin/ejabberd.app").is_file()) {
            return Ok(dir);
        }
    }
    Err("ejabberd's code is not below /usr/lib".into())
}

/// Servers believe each other by certificates alone, and nothing else is on than what messages need.
fn configuration(dir: &str, authority: &impl std::fmt::Display, address: Ipv4Addr) -> String {
    format!(
        r#"hosts: ["{address}"]
loglevel: warning
certfiles: ["{dir}/pair.pem"]
ca_file: "{authority}"
listen:
  - {{ip: "{address}", port: {PORT}, module: ejabberd_c2s, tls: true, access: all}}
  - {{ip: "{address}", port: 5269, module: ejabberd_s2s_in}}
s2s_use_starttls: required
s2s_cafile: "{authority}"
registration_timeout: infinity
auth_method: internal
acme: {{auto: false}}
modules:
  mod_roster: {{}}
  mod_disco: {{}}
  mod_register: {{ip_access: all, access: all}}
"#
    )
}
