//! Clinicians of several trusts, each with an own profile, against stand-ins for their nodes over real TLS.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod beliefs;
mod conversations;
mod deletions;
mod healing;
mod lines;
mod names;
mod patterns;
mod pins;
mod removal;
mod retention;
mod reviews;
mod safety;
mod world;
