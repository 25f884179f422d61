//! The tool as its users and their scripts run it: processes, signals, pipes and terminals.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod files;
mod place;
mod secrets;
mod streams;
mod terminal;
