//! A Synapse homeserver, from PyPI, in the virtual environment `synapse` beside the directory with our programs.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use lanyard_tests::process::{self, Daemon};

use super::authority::{Authority, Named};
use crate::load::Failure;

/// For clients and for other servers.
const PORT: u16 = 8448;

pub(super) fn start(authority: &Authority, dir: &Path, address: Ipv4Addr) -> Result<(Daemon, u16), Failure> {
    let program = python()?;
    authority.certify(dir, address, Named::Address)?;
    let (here, config) = (dir.display().to_string(), dir.join("homeserver.yaml").display().to_string());
    fs::write(&config, configuration(&here, &authority.certificate().display(), address))?;
    fs::write(dir.join("log.yaml"), LOG)?;
    let arguments = ["-m", "synapse.app.homeserver", "-c", &config];
    process::run(&program, arguments.iter().copied().chain(["--generate-keys"]), None)?.done()?;
    Ok((super::run(&program, &arguments, &[], dir)?, PORT))
}

/// The Python that has Synapse.
fn python() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let mut beside = own.ancestors().skip(2).map(|dir| dir.join("synapse/bin/python"));
    let found = beside.find(|path| path.exists());
    found.ok_or_else(|| "matrix-synapse is not installed (scripts/bench does that, from PyPI)".into())
}

const LOG: &str = "version: 1
formatters: {plain: {format: '%(levelname)s %(name)s %(message)s'}}
handlers: {out: {class: logging.StreamHandler, formatter: plain}}
root: {level: WARNING, handlers: [out]}
disable_existing_loggers: false
";

/// SQLite, federation over TLS with loopback allowed, no rate limited, no presence.
fn configuration(dir: &str, authority: &impl std::fmt::Display, address: Ipv4Addr) -> String {
    format!(
        r#"server_name: "{address}"
report_stats: false
pid_file: "{dir}/pid"
listeners:
  - {{port: {PORT}, bind_addresses: ["{address}"], type: http, tls: true, resources: [{{names: [client, federation]}}]}}
tls_certificate_path: "{dir}/cert.pem"
tls_private_key_path: "{dir}/key.pem"
federation_custom_ca_list: ["{authority}"]
ip_range_blacklist: []
federation_ip_range_blacklist: []
trusted_key_servers: []
suppress_key_server_warning: true
database: {{name: sqlite3, args: {{database: "{dir}/homeserver.db"}}}}
media_store_path: "{dir}/media"
signing_key_path: "{dir}/signing.key"
log_config: "{dir}/log.yaml"
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4
macaroon_secret_key: "benchmarks alone"
filter_timeline_limit: -1
presence: {{enabled: false}}
rc_message: &unlimited {{per_second: 1000000, burst_count: 1000000}}
rc_registration: *unlimited
rc_login: {{address: *unlimited, account: *unlimited, failed_attempts: *unlimited}}
rc_joins: {{local: *unlimited, remote: *unlimited}}
rc_joins_per_room: *unlimited
rc_invites: {{per_room: *unlimited, per_user: *unlimited, per_issuer: *unlimited}}
rc_federation: {{window_size: 1000, sleep_limit: 1000000, sleep_delay: 1, reject_limit: 1000000, concurrent: 1000}}
federation_rr_transactions_per_room_per_second: 1000000
"#
    )
}
