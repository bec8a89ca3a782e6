//! The gateway's limits (promise P8): one table, with the relations between them asserted.

use std::time::Duration;

use lanyard_crypto::gateway::{REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX};

/// Connections in all, those in their handshake included.
pub const CONNECTIONS_MAX: usize = 2048;
/// Connections of one device.
pub const CONNECTIONS_PER_DEVICE_MAX: usize = 8;
/// Connections from one IP address (IPv6: one /64 network). A hospital's staff may share one.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 512;
/// Connections in their handshake.
pub const HANDSHAKES_MAX: usize = 128;
/// Connections that have shown no device certificate, after their handshake: to enrol takes a few requests.
pub const STRANGERS_MAX: usize = 64;
/// Connections from one IP address that have shown no device certificate, those in their handshake included.
pub const STRANGERS_PER_ADDRESS_MAX: usize = 16;
/// From the end of its handshake to the end of such a connection, whatever is under way.
pub const STRANGER_TIME_MAX: Duration = Duration::from_secs(30);
/// From the first byte to the end of the TLS handshake.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// From the end of a request to the last byte of the next one's headers: an idle connection ends with it.
pub const HEADER_TIME_MAX: Duration = Duration::from_secs(30);
/// From the end of the headers to the answer, `wait` included.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);
/// Longest `wait` of an inbox request, in seconds.
pub const WAIT_SECS_MAX: u64 = 30;
/// Headers of one request, in bytes: the connection's read buffer.
pub const HEADERS_BYTES_MAX: usize = 16 * 1024;
/// Headers of one request.
pub const HEADERS_MAX: usize = 64;
/// The body of an enrolment: a request, an invitation, its code, and what a sign-in has brought.
pub const ENROL_BYTES_MAX: usize = 16 * 1024;
/// Enrolments at once; each one writes to the disk.
pub const ENROLMENTS_MAX: usize = 4;
/// The body of a small request, such as a position.
pub const SMALL_BYTES_MAX: usize = 1024;
/// The body of an order to delete: 1,024 ids.
pub const DELETION_BYTES_MAX: usize = 64 * 1024;
/// The body of what a device says that it has erased.
pub const ERASURES_BYTES_MAX: usize = 64 * 1024;
/// Devices of which it is remembered that they have spoken within a minute; of more it is noted with each request.
pub const PRESENT_MAX: usize = 16 * 1024;
/// A directory query, in bytes.
pub const QUERY_BYTES_MAX: usize = 256;
/// How often a waiting connection checks whether its device is still welcome, and an event stream whether
/// there is news.
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often time alone is a reason to check: a certificate expires while nothing else changes.
pub const RECHECK_TIME_SECS: u64 = 60;
/// An event stream without news sends a comment this often, so that both ends notice a dead connection.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// When a client that was refused for the moment (503) is to try again, in seconds.
pub const RETRY_AFTER_SECS: u16 = 2;
/// How long connections may take to finish at shutdown.
pub const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(10);

const _: () = assert!(WAIT_SECS_MAX < REQUEST_TIME_MAX.as_secs());
const _: () = assert!(HANDSHAKES_MAX < CONNECTIONS_MAX && CONNECTIONS_PER_ADDRESS_MAX < CONNECTIONS_MAX);
const _: () = assert!(HANDSHAKES_MAX + STRANGERS_MAX < CONNECTIONS_MAX, "the rest is the devices'");
const _: () =
    assert!(STRANGERS_PER_ADDRESS_MAX < STRANGERS_MAX && STRANGERS_PER_ADDRESS_MAX < HANDSHAKES_MAX);
const _: () = assert!(
    crate::identity_provider::TIME_MAX.as_secs() < STRANGER_TIME_MAX.as_secs(),
    "a sign-in ends while its device is still connected"
);
const _: () = assert!(lanyard_crypto::limits::TOMBSTONE_TARGETS_MAX * 34 + 512 < DELETION_BYTES_MAX);
const _: () = assert!(
    lanyard_crypto::gateway::ERASURES_MAX * (lanyard_crypto::limits::DEVICE_LINE_BYTES_MAX + 3) + 16
        < ERASURES_BYTES_MAX
);
const _: () = assert!(REQUEST_BYTES_MAX < RESPONSE_BYTES_MAX);
const _: () = assert!(
    lanyard_crypto::x509::request::REQUEST_BYTES_MAX + lanyard_crypto::gateway::SIGN_IN_CODE_BYTES_MAX + 1024
        < ENROL_BYTES_MAX
);
